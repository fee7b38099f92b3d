/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock_check.h - for the tests of the lock checker: bare locks, tasks that take them on host threads or
 * on fibers, and what was reported. Where a task would really wait for ever, on fibers alone.
 */
#ifndef TESTS_SCHED_LOCK_CHECK_H
#define TESTS_SCHED_LOCK_CHECK_H

#include <pthread.h>
#include <stdlib.h>

#include <uhmm/lock.h>
#include <uhmm/sched.h>

#include "sync/lock_graph.h"
#include "unit/bare_machine.h"
#include "run_suite.h"

#define BIT_LOCK 0
#define BIT_WAITERS 7

enum { ON_THREADS, ON_FIBERS, NR_WAYS };

static struct bare_machine b;
static int way;
static char said[16384]; /* all reports */
static struct uhmm_mutex *a, *bb, *c;
static struct uhmm_rwsem *sem;
static struct uhmm_spinlock *spin;
static struct uhmm__spinlock ptl, ptl2;
static struct uhmm__rwsem mmap_lock, other_mmap_lock;
static struct uhmm__mutex mirror;
static _Atomic uint32_t folio[4];

static inline void on_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	(void)data;
	ck_assert_int_eq(kind, UHMM_REPORT_LOCK);
	b.nr_reports++;
	strncat(said, text, sizeof(said) - strlen(said) - 2);
	strcat(said, "\n");
}

static inline void setup(void)
{
	bare_init(&b, 4);
	b.m.config.report = on_report;
	said[0] = '\0';
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "a", &a), 0);
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "b", &bb), 0);
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "c", &c), 0);
	ck_assert_int_eq(uhmm_rwsem_create(&b.m, "sem", &sem), 0);
	ck_assert_int_eq(uhmm_spin_create(&b.m, "spin", &spin), 0);
	uhmm__spin_init(&ptl, UHMM__LC_PTL);
	uhmm__spin_init(&ptl2, UHMM__LC_PTL);
	uhmm__rwsem_init(&mmap_lock, UHMM__LC_MMAP);
	uhmm__rwsem_init(&other_mmap_lock, UHMM__LC_MMAP);
	uhmm__mutex_init(&mirror, UHMM__LC_MIRROR);
	memset(folio, 0, sizeof(folio));
}

static inline void teardown(void)
{
	uhmm_mutex_destroy(a);
	uhmm_mutex_destroy(bb);
	uhmm_mutex_destroy(c);
	uhmm_rwsem_destroy(sem);
	uhmm_spin_destroy(spin);
	bare_exit(&b);
	ck_assert_msg(b.nr_reports == 0, "not expected: %s", said);
}

#define wait_folio(i) uhmm__bit_lock(&b.m, &folio[i], BIT_LOCK, BIT_WAITERS)
#define unlock_folio(i) uhmm__bit_unlock(&b.m, &folio[i], BIT_LOCK, BIT_WAITERS)

/* ---- running ---- */

struct thread {
	void (*fn)(void *arg);
	void *arg;
};

static inline void *thread_main(void *arg)
{
	const struct thread *th = arg;
	struct uhmm_task *t = bare_enter(&b, 0);

	th->fn(th->arg);
	bare_leave(t);
	return NULL;
}

/*
 * Tasks, one after the other: on CPU 0, which does not preempt. What the first has shown counts for the
 * second. Returns: 0, or what uhmm_sched_run() says.
 */
static inline int run_all(void (*const *fns)(void *arg), unsigned int nr)
{
	struct uhmm_sched *s;
	int ret;

	if (way == ON_THREADS) {
		for (unsigned int i = 0; i < nr; i++) {
			struct thread th = { fns[i], NULL };
			pthread_t id;

			ck_assert_int_eq(pthread_create(&id, NULL, thread_main, &th), 0);
			ck_assert_int_eq(pthread_join(id, NULL), 0);
		}
		return 0;
	}
	ck_assert_int_eq(uhmm_sched_create(&b.m, NULL, &s), 0);
	for (unsigned int i = 0; i < nr; i++)
		ck_assert_int_eq(uhmm_sched_spawn(s, "test", 0, NULL, fns[i], NULL), 0);
	ret = uhmm_sched_run(s);
	uhmm_sched_destroy(s);
	return ret;
}

#define run(...)                                                                                   \
	ck_assert_int_eq(run_all((void (*const[])(void *)){ __VA_ARGS__ },                         \
				 ARRAY_SIZE(((void (*const[])(void *)){ __VA_ARGS__ }))),          \
			 0)

/* @nr reports, and in them these texts, in this order. */
static inline void check_said(unsigned int nr, const char *const *texts, unsigned int nr_texts)
{
	const char *at = said;

	ck_assert_msg(b.nr_reports == nr, "%u reports, expected %u: %s", b.nr_reports, nr, said);
	for (unsigned int i = 0; i < nr_texts; i++) {
		at = strstr(at, texts[i]);
		ck_assert_msg(at != NULL, "missing here: \"%s\", in: %s", texts[i], said);
	}
	b.nr_reports = 0;
	said[0] = '\0';
}

#define reported_n(nr, ...)                                                                        \
	check_said(nr, (const char *const[]){ __VA_ARGS__ },                                       \
		   ARRAY_SIZE(((const char *const[]){ __VA_ARGS__ })))
#define reported(...) reported_n(1, __VA_ARGS__)

static inline void nothing_reported(void)
{
	ck_assert_msg(b.nr_reports == 0, "not expected: %s", said);
}

#endif /* TESTS_SCHED_LOCK_CHECK_H */
