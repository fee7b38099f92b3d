/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fibers.h - for the tests of the simulated scheduler: tasks on a bare machine that write what they do. */
#ifndef TESTS_SCHED_FIBERS_H
#define TESTS_SCHED_FIBERS_H

#include <stdlib.h>

#include <uhmm/sched.h>

#include "unit/bare_machine.h"
#include "run_suite.h"

#define BIT_LOCK 0
#define BIT_WAITERS 7

static struct bare_machine b;
static struct uhmm_sched *s;
static char order[256]; /* what the tasks wrote */

static inline void setup(void)
{
	bare_init(&b, 4);
	order[0] = '\0';
}

static inline void teardown(void)
{
	uhmm_sched_destroy(s);
	bare_exit(&b);
}

static inline void create_for(struct bare_machine *on, enum uhmm_sched_policy policy, uint64_t seed,
			      uint64_t max_steps)
{
	struct uhmm_sched_config config = {
		.size = sizeof(config), .policy = policy, .seed = seed, .max_steps = max_steps
	};

	ck_assert_int_eq(uhmm_sched_create(&on->m, &config, &s), 0);
}

static inline void create(void)
{
	create_for(&b, UHMM_SCHED_FIXED, 0, 0);
}

static inline void spawn(unsigned int cpu, void (*fn)(void *arg), void *arg)
{
	ck_assert_int_eq(uhmm_sched_spawn(s, "task", cpu, NULL, fn, arg), 0);
}

static inline void run(int expected)
{
	int ret = uhmm_sched_run(s);

	ck_assert_msg(ret == expected, "%d, expected %d; last report: %s", ret, expected,
		      b.last_report);
}

static inline void note(const char *what)
{
	ck_assert_uint_lt(strlen(order) + strlen(what), sizeof(order));
	strcat(order, what);
}

static inline void point(void)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, NULL);
}

/* Writes its letter three times, with a switch point after each. */
static inline void letters(void *arg)
{
	for (unsigned int i = 0; i < 3; i++) {
		note(arg);
		point();
	}
}

static inline void forever(void *arg)
{
	(void)arg;
	for (;;)
		point();
}

#endif /* TESTS_SCHED_FIBERS_H */
