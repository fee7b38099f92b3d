/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sched_point.h - where the simulated scheduler may switch, and where a task may sleep.
 *
 * In the plain build a switch point is nothing. In the checked build, on a fiber, any other
 * simulated CPU may run here; the task does not leave its own CPU, except where it says so.
 */
#ifndef UHMM_SYNC_SCHED_POINT_H
#define UHMM_SYNC_SCHED_POINT_H

#include "sync/task.h"

enum uhmm__point {
	UHMM__PT_BEGIN, /* a task has not run yet */
	UHMM__PT_LOCK,
	UHMM__PT_UNLOCK,
	UHMM__PT_READ,	 /* of a page-table entry, or of other shared state */
	UHMM__PT_WRITE,	 /* of the same */
	UHMM__PT_ATOMIC, /* read-modify-write of shared state */
	UHMM__PT_RCU,
	UHMM__PT_WAIT,
	UHMM__PT_WAKE,
	UHMM__PT_RESCHED,
	UHMM__PT_USER,
};

void uhmm__rcu_poll(struct uhmm_machine *m);
/* Whether the host thread is in a read section; not on fibers. */
bool uhmm__rcu_read_held(void);

#if UHMM_CHECKED
void uhmm__sched_point_slow(enum uhmm__point kind, const void *addr);
void uhmm__resched_slow(enum uhmm__point kind);
void uhmm__might_sleep_at(const struct uhmm_site *where);
void uhmm__assert_no_locks_at(const struct uhmm_site *where);
#define uhmm__might_sleep() uhmm__might_sleep_at(UHMM__HERE)
#define uhmm__assert_no_locks() uhmm__assert_no_locks_at(UHMM__HERE)

static inline void uhmm__sched_point(enum uhmm__point kind, const void *addr)
{
	struct uhmm_task *t = uhmm__current();

	if (t && t->fiber)
		uhmm__sched_point_slow(kind, addr);
}

static inline void uhmm__resched(enum uhmm__point kind)
{
	struct uhmm_task *t = uhmm__current();

	if (t && t->fiber)
		uhmm__resched_slow(kind);
}
#else
static inline void uhmm__sched_point(enum uhmm__point kind uhmm_unused,
				     const void *addr uhmm_unused)
{
}

static inline void uhmm__resched(enum uhmm__point kind uhmm_unused)
{
}

/*
 * Sleeping is allowed here: no spin lock is held and this is no RCU read section. Checked build:
 * reports if that is not so; debug builds look for read sections only. All: runs RCU callbacks when
 * enough of them have been queued.
 */
static inline void uhmm__might_sleep(void)
{
	struct uhmm_task *t = uhmm__current();

	UHMM_VM_BUG_ON(t ? t->machine : NULL, uhmm__rcu_read_held());
	if (likely(t) && unlikely(t->rcu_due))
		uhmm__rcu_poll(t->machine);
}

/* Checked build: reports locks and RCU read sections that the current task still has; debug: sections. */
static inline void uhmm__assert_no_locks(void)
{
	UHMM_VM_BUG_ON(NULL, uhmm__rcu_read_held());
}
#endif

/*
 * Leave the CPU if another task of it wants to run. A host thread has nothing to do here: its
 * own scheduler preempts.
 */
#define uhmm__cond_resched()                                                                       \
	do {                                                                                       \
		uhmm__might_sleep();                                                               \
		uhmm__resched(UHMM__PT_RESCHED);                                                   \
	} while (0)

/* For the end of each entry point: back to user mode, where a task can be preempted. */
#define uhmm__exit_to_user()                                                                       \
	do {                                                                                       \
		uhmm__assert_no_locks();                                                           \
		uhmm__resched(UHMM__PT_USER);                                                      \
	} while (0)

#endif /* UHMM_SYNC_SCHED_POINT_H */
