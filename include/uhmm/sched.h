/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sched.h - the simulated scheduler: tasks as fibers, every interleaving repeatable.
 *
 * Only the checked library can do this; in the plain one uhmm_sched_create() says -EOPNOTSUPP.
 *
 * Every task is a fiber on the one host thread that calls uhmm_sched_run(). At each switch point
 * (lock operation, read or write of a page-table entry, atomic on shared state, wait) the
 * scheduler chooses which simulated CPU goes on. A CPU runs one task. What takes that off its CPU
 * inside the library is decided by uhmm_machine_config.preemption: by default nothing does, as in a
 * kernel without preemption, but sleeping and cond_resched(). User mode, where it can always be
 * preempted, is between calls into the library. Each CPU has a worker task for queued work. A task
 * that spins on a lock keeps its CPU busy.
 *
 * A schedule is text: words such as "T0*12 T1*3 W0", each a task and how many times running it is
 * chosen to go on. T<n> is the n-th spawned task, W<cpu> the worker of a CPU; C<n> chooses nobody, and
 * puts the clock forward by 2^n seconds, n up to 32. F, which is the last, makes all that follows fair:
 * CPUs in turn, whatever the policy. "*1" may be left out, words are separated by white space, and from #
 * to the end of a line is a comment.
 *
 * Models: invented; the CPUs behave as kernel/sched does with PREEMPT_NONE, PREEMPT_LAZY or PREEMPT.
 */
#ifndef UHMM_SCHED_H
#define UHMM_SCHED_H

#include <uhmm/machine.h>
#include <uhmm/types.h>

UHMM_BEGIN_DECLS

struct uhmm_sched;

enum uhmm_sched_policy {
	UHMM_SCHED_FIXED,  /* the schedule that was set, then CPUs in turn, which is fair */
	UHMM_SCHED_RANDOM, /* the schedule that was set, then any CPU, by the seed */
};

/* Zero-initialise, set size, fill in what differs from the default. */
struct uhmm_sched_config {
	size_t size; /* sizeof(struct uhmm_sched_config) of the caller */
	enum uhmm_sched_policy policy;
	uint64_t seed;	    /* of UHMM_SCHED_RANDOM; the machine's seed is mixed in */
	uint64_t max_steps; /* choices before a run is given up; 0 = 10 million */
};

/**
 * uhmm_sched_create() - attach a simulated scheduler to a machine
 * @m: machine without one
 * @config: configuration, NULL for the defaults; copied
 * @out: (out) the scheduler
 * Returns: 0; -EOPNOTSUPP this is the plain library; -EINVAL bad @config; -EBUSY @m has one;
 * -ENOMEM.
 * Context: no task of @m is entered on a host thread until the scheduler is destroyed, except
 * while no run is going on.
 * Lifetime: free with uhmm_sched_destroy(), before the machine.
 */
UHMM_API int uhmm_sched_create(struct uhmm_machine *m, const struct uhmm_sched_config *config,
			       struct uhmm_sched **out) UHMM_MUST_CHECK;

/**
 * uhmm_sched_destroy() - free a scheduler and its tasks
 * @s: scheduler, not running; NULL allowed
 * Tasks that have not ended are dropped where they stand: what they hold stays held, and the
 * machine is then good for nothing but to be destroyed.
 */
UHMM_API void uhmm_sched_destroy(struct uhmm_sched *s);

/**
 * uhmm_sched_spawn() - add a task
 * @s: scheduler
 * @name: for reports, copied and cut to 15 bytes; NULL allowed
 * @cpu: simulated CPU, below nr_cpus
 * @mm: address space (a reference on its users is taken until the task ends), or NULL
 * @fn: what it runs; the task ends when it returns
 * @arg: for @fn
 * Returns: 0; -EINVAL bad @cpu, or @mm of another machine; -ENOMEM.
 * Context: before a run, between runs, or in a task of @s. The first spawned task is T0.
 */
UHMM_API int uhmm_sched_spawn(struct uhmm_sched *s, const char *name, unsigned int cpu,
			      struct uhmm_mm *mm, void (*fn)(void *arg), void *arg) UHMM_MUST_CHECK;

/**
 * uhmm_sched_set_schedule() - choose the first steps of the next run by hand
 * @s: scheduler
 * @text: schedule, see above; NULL for none; copied
 * Returns: 0; -EINVAL @text cannot be read; -ENOMEM.
 */
UHMM_API int uhmm_sched_set_schedule(struct uhmm_sched *s, const char *text) UHMM_MUST_CHECK;

/**
 * uhmm_sched_run() - run until every task has ended
 * @s: scheduler
 * Returns: 0; -EDEADLK nobody can go on; -ETIMEDOUT max_steps choices were made; -ESTALE the
 * schedule names a task that cannot go on there; -EBUSY it is running. Each but the first comes
 * with a report that says who does what on which CPU, and ends the scheduler's use.
 * Context: outside any task. May call back: the tasks.
 */
UHMM_API int uhmm_sched_run(struct uhmm_sched *s) UHMM_MUST_CHECK;

/**
 * uhmm_sched_trace() - what the runs so far did, as a schedule that replays it
 * @s: scheduler
 * Returns: the text, or NULL if there was no memory for it.
 * Lifetime: the scheduler's, until the next call or run.
 */
UHMM_API const char *uhmm_sched_trace(struct uhmm_sched *s);

/**
 * uhmm_sched_steps() - choices made so far
 * @s: scheduler
 * Returns: the count, over all runs.
 */
UHMM_API uint64_t uhmm_sched_steps(struct uhmm_sched *s);

/**
 * uhmm_sched_user_step() - a step of user mode: another task may get the CPU
 * Context: a task, outside calls into the library. Does nothing outside fibers.
 */
UHMM_API void uhmm_sched_user_step(void);

/**
 * uhmm_sched_sleep() - sleep in user mode
 * @ns: how long; of virtual time on a fiber, of the host's outside
 * Virtual time passes with the steps of all tasks, one microsecond each, and jumps to the next to wake
 * up when no task can go on.
 * Context: a task, outside calls into the library. Models: nanosleep(2).
 */
UHMM_API void uhmm_sched_sleep(uint64_t ns);

UHMM_END_DECLS

#endif /* UHMM_SCHED_H */
