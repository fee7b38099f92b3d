/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sync.h - all of src/sync, and what a machine keeps for it. */
#ifndef UHMM_SYNC_SYNC_H
#define UHMM_SYNC_SYNC_H

#include "sync/lock_check.h"
#include "sync/lock_class.h"
#include "sync/mutex.h"
#include "sync/percpu.h"
#include "sync/rcu.h"
#include "sync/rwsem.h"
#include "sync/sched_point.h"
#include "sync/spin.h"
#include "sync/task.h"
#include "sync/wait.h"

struct uhmm_sched;

#define UHMM__BIT_QUEUE_BITS 8
#define UHMM__BIT_QUEUES (1U << UHMM__BIT_QUEUE_BITS)

struct uhmm__sync {
	struct uhmm__cpu *cpus;	   /* [const] config.nr_cpus of them */
	struct uhmm__task_ops ops; /* [const] once the mm layer has set it */
	struct uhmm_sched *sched;  /* the scheduler attached to the machine, or NULL */
	bool broken;		   /* tasks were dropped where they stood: locks stay held */

	struct uhmm__spinlock tasks_lock;
	struct list_head tasks;		    /* [tasks_lock] */
	uint64_t next_task_id;		    /* [tasks_lock] */
	uint64_t retired[UHMM_NR_COUNTERS]; /* [tasks_lock] of tasks that are gone */

	struct uhmm__spinlock classes_lock;
	/* [classes_lock] to add one; those below nr are const */
	struct uhmm__driver_class driver_classes[UHMM_MAX_LOCK_CLASSES];
	_Atomic unsigned int nr_driver_classes;

	struct uhmm__spinlock rcu_lock;
	struct uhmm__rcu_head *rcu_first, **rcu_last; /* [rcu_lock] */
	uint64_t rcu_queued;			      /* [rcu_lock] */
	struct uhmm__mutex rcu_drain;		      /* who runs callbacks */
#if UHMM_CHECKED
	uint64_t rcu_seq; /* fibers: callbacks queued so far, the clock of read sections */
	bool rcu_check;	  /* fibers: a section has ended, or a callback has come */
	bool rcu_running; /* fibers: a task is running callbacks */
	struct uhmm__lock_graph *lock_graph;
#endif
	struct uhmm_task boot; /* [boot_lock] */
	struct uhmm__rwsem boot_lock;
	struct uhmm__waitq bit_queues[UHMM__BIT_QUEUES];
};

/*
 * A run of the scheduler ended badly and its tasks are gone, with what they held: whoever destroys
 * the machine must give memory back without taking locks, waiting, or running callbacks.
 */
static inline bool uhmm__sync_broken(struct uhmm_machine *m)
{
	return m->sync->broken;
}

/*
 * First and last of a machine's layers but core; config.nr_cpus is set. Exit runs the callbacks
 * that are left. Returns: 0 or -ENOMEM.
 */
int uhmm__sync_init(struct uhmm_machine *m);
void uhmm__sync_exit(struct uhmm_machine *m);

#endif /* UHMM_SYNC_SYNC_H */
