/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* explore_program.h - scenarios of a few steps, each a function for each task, and their exploration. */
#ifndef TESTS_SCHED_EXPLORE_PROGRAM_H
#define TESTS_SCHED_EXPLORE_PROGRAM_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <uhmm/explore.h>
#include <uhmm/lock.h>
#include <uhmm/sched.h>

#include "core/alloc.h"
#include "explore/strategy.h"
#include "sync/sync.h"
#include "run_suite.h"

/* What the scenarios below change while they run. */
struct shared {
	struct uhmm_machine *m;
	struct uhmm__mutex locks[2]; /* of one class, */
	struct uhmm_mutex *a, *b;    /* of two */
	_Atomic uint32_t bit;
	bool flag, stop;
	unsigned int n, order[4];
	uint64_t *freed, serial;
	pid_t pid;
};

static struct shared *sh; /* set once by each setup(), at the same place in every run */

enum { MAX_TASKS = 4 };

struct program {
	unsigned int nr_cpus;
	struct {
		unsigned int cpu;
		void (*fn)(void *arg);
	} tasks[MAX_TASKS];
	bool sums; /* check that n is the number of tasks */
	bool lock_order;
};

static inline void point(void)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, sh);
}

static inline int setup(struct uhmm_machine *m, const void *data, void **state)
{
	const struct program *p = data;
	int err = 0;

	sh = uhmm_scenario_alloc(sizeof(*sh));
	if (!sh)
		return -ENOMEM;
	sh->m = m;
	sh->pid = getpid();
	sh->serial = UHMM__SERIAL;
	uhmm__mutex_init(&sh->locks[0], UHMM__LC_MIRROR);
	uhmm__mutex_init(&sh->locks[1], UHMM__LC_MIRROR);
	if (uhmm_mutex_create(m, "a", &sh->a) || uhmm_mutex_create(m, "b", &sh->b))
		return -ENOMEM;
	for (uintptr_t i = 0; i < MAX_TASKS && p->tasks[i].fn && !err; i++)
		err = uhmm_scenario_spawn("task", p->tasks[i].cpu, NULL, p->tasks[i].fn, (void *)i);
	*state = (void *)(uintptr_t)p;
	return err;
}

static inline void check(void *state)
{
	const struct program *p = state;
	unsigned int tasks = 0;

	while (tasks < MAX_TASKS && p->tasks[tasks].fn)
		tasks++;
	if (p->sums)
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, sh->n == tasks);
}

static inline void three_cpus(struct uhmm_machine_config *config)
{
	config->nr_cpus = 3;
}

static inline uint64_t switch_bit(const char *name)
{
	unsigned int i = 0;

	while (strcmp(uhmm_switch(i)->name, name) != 0)
		i++;
	return UINT64_C(1) << i;
}

/* Explores @p; the result must be freed. */
static inline struct uhmm_explore_result *
explore(const struct program *p, struct uhmm_explore_config config, enum uhmm_preemption preemption)
{
	struct uhmm_scenario scenario = {
		.size = sizeof(scenario),
		.name = "test",
		.summary = "test",
		.configure = three_cpus,
		.setup = setup,
		.check = check,
		.data = p,
	};
	struct uhmm_machine_config machine = {
		.size = sizeof(machine),
		.preemption = preemption,
		.lock_order = p->lock_order ? UHMM_LOCK_ORDER_REPORTED : UHMM_LOCK_ORDER_IGNORED,
	};
	struct uhmm_explore_result *r;
	int ret;

	config.size = sizeof(config);
	config.scenario = &scenario;
	config.machine = &machine;
	config.switches_set = switch_bit("preemption") | switch_bit("lock-order");
	ret = uhmm_explore(&config, &r);
	ck_assert_msg(!ret, "uhmm_explore: %d", ret);
	return r;
}

static inline struct uhmm_explore_result *dfs(const struct program *p, unsigned int bound,
					      enum uhmm_preemption preemption)
{
	struct uhmm_explore_config config = { .strategy = UHMM_EXPLORE_DFS,
					      .switches_bound = bound,
					      .workers = 1 };

	return explore(p, config, preemption);
}

static inline void expect_verdict(struct uhmm_explore_result *r, enum uhmm_verdict verdict)
{
	ck_assert_msg(r->verdict == verdict, "%s, not %s: %s", uhmm_verdict_name(r->verdict),
		      uhmm_verdict_name(verdict), r->report ? r->report : "");
	if (!verdict)
		ck_assert(r->complete);
	uhmm_explore_free(r);
}

/* ---- tasks that several want ---- */

static inline void add_one(void *arg)
{
	unsigned int n = sh->n;

	(void)arg;
	point();
	sh->n = n + 1;
	point();
}

static inline void visit(struct uhmm__cpu *cpu, void *arg)
{
	(void)cpu;
	(void)arg;
}

/* Holds the lock while it has work done on each CPU. */
static inline void holder(void *arg)
{
	(void)arg;
	uhmm__bit_lock(sh->m, &sh->bit, 0, 7);
	uhmm__on_each_cpu(sh->m, visit, NULL);
	uhmm__bit_unlock(sh->m, &sh->bit, 0, 7);
}

/* Wants the lock, and does not sleep for it. */
static inline void spinner(void *arg)
{
	(void)arg;
	while (!uhmm__bit_trylock(&sh->bit, 0))
		;
	uhmm__bit_unlock(sh->m, &sh->bit, 0, 7);
}

static const struct program spins = { .tasks = { { 0, holder }, { 1, spinner } } };

#endif /* TESTS_SCHED_EXPLORE_PROGRAM_H */
