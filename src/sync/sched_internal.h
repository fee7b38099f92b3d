/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sched_internal.h - the state of the simulated scheduler: sched.c chooses, sched_run.c runs. */
#ifndef UHMM_SYNC_SCHED_INTERNAL_H
#define UHMM_SYNC_SCHED_INTERNAL_H

#include "sync/sched.h"

#if UHMM_CHECKED

#include "sync/fiber.h"
#include "sync/sched_text.h"
#include "sync/sync.h"

enum uhmm__fiber_state {
	UHMM__READY, /* runs, or could */
	UHMM__SPINS, /* on its CPU, waiting for a spin lock */
	UHMM__SLEEPS,
	UHMM__IDLE, /* a worker without work */
	UHMM__ENDED,
};

struct uhmm__fiber {
	struct uhmm_task task;
	struct uhmm_sched *sched;
	struct uhmm__context context;
	enum uhmm__fiber_state state;
	bool on_cpu;
	bool worker;
	uint32_t index;
	struct list_head queue; /* of its CPU, while it is ready and not on it */
	const void *waits_for;
	enum uhmm__lock_class waits_class;
	uint64_t wakes_at; /* virtual time, if it sleeps for a while; else 0 */
	uint64_t returns;  /* to user mode, so far: it gets on with its work */
	/* The switch point where it stands: what it is about to do, and where in the code. */
	enum uhmm__point point;
	const void *point_addr;
	const void *point_pc;
	void (*fn)(void *arg);
	void *arg;
};

struct uhmm__sched_cpu {
	struct uhmm__fiber *current;
	struct list_head queue;
	unsigned int nr_queued;
	unsigned int tick; /* steps since the last tick; at UHMM__TICK_STEPS one may come */
	struct uhmm__fiber *worker;
	struct list_head works;
};

/* Steps of a CPU from one tick to the next, and the virtual time that a step takes. */
#define UHMM__TICK_STEPS 1000
#define UHMM__STEP_NS 1000

/*
 * Who decides in place of a policy. Called on the host's stack, so that every task, also the one that
 * ran last, has all that it knows in memory. Returns one that uhmm__sched_nth() gives, or NULL to end
 * the run with -ECANCELED.
 */
struct uhmm__chooser {
	struct uhmm__fiber *(*choose)(struct uhmm__chooser *c, struct uhmm_sched *s);
	bool wants_stacks; /* uhmm_sched.stack is filled in at each switch point */
};

#define UHMM__STACK_DEPTH 16

struct uhmm_sched {
	struct uhmm_machine *m;
	enum uhmm_sched_policy policy;
	uint64_t rng;
	uint64_t steps, max_steps;
	uint64_t now;	      /* virtual time in ns */
	uint64_t clock_reads; /* times that a task looked at it */
	unsigned int nr_timers;
	unsigned int nr_cpus;
	enum uhmm_preemption preemption;
	unsigned int last_cpu; /* that was chosen in turn */
	struct uhmm__sched_cpu *cpus;
	struct uhmm__fiber **tasks;
	unsigned int nr_tasks, size_tasks, nr_alive;
	struct uhmm__fiber *running;
	struct uhmm__context host;
	bool active;
	int result;
	char why[160];
	struct uhmm__steps schedule, trace;
	/* The explorer has put the clock forward before this choice, by 2^.clock_by seconds. */
	bool clock_moved;
	unsigned int clock_by;
	size_t schedule_at;   /* the word, */
	uint32_t schedule_by; /* and how often it has been followed */
	char *trace_text;
	struct uhmm__chooser *chooser;	/* NULL: the policy */
	void *stack[UHMM__STACK_DEPTH]; /* return addresses of the task that stopped last */
	int stack_depth;
};

extern const char *const uhmm__fiber_states[];

static inline struct uhmm__sched_cpu *uhmm__cpu_of(const struct uhmm__fiber *f)
{
	return &f->sched->cpus[f->task.cpu];
}

/* Put a ready task on its CPU's queue; take the running one off its CPU. */
void uhmm__enqueue(struct uhmm__fiber *f);
void uhmm__leave_cpu(struct uhmm__fiber *f);

/* Who goes on; NULL if the run ends, and s->result says how. */
struct uhmm__fiber *uhmm__sched_choose(struct uhmm_sched *s);

/* Choose, and go there; comes back when @f, which is running, is chosen again. */
void uhmm__reschedule(struct uhmm__fiber *f);

/* How many tasks can go on now, and the nth of them: by CPU, on each the running one first. */
unsigned int uhmm__sched_nr_choices(const struct uhmm_sched *s);
struct uhmm__fiber *uhmm__sched_nth(struct uhmm_sched *s, unsigned int n);
/* The same of one CPU; without those that would preempt its task. */
unsigned int uhmm__sched_cpu_choices(const struct uhmm__sched_cpu *cpu);
/* By 2^n seconds, up to UHMM__MAX_CLOCK. */
static inline void uhmm__sched_clock_forward(struct uhmm_sched *s, unsigned int n)
{
	s->now += UINT64_C(1000000000) << n;
	s->clock_moved = true;
	s->clock_by = n;
}

/* Each CPU in turn, tasks by age, a tick now and then. */
struct uhmm__fiber *uhmm__sched_fair(struct uhmm_sched *s);

/* Wake those whose time has come, or, if nobody can go on, would be next; false if there is none. */
bool uhmm__sched_run_timers(struct uhmm_sched *s, bool idle);

/* From a fiber: end the run here and now, with @result. */
_Noreturn void uhmm__sched_abandon(struct uhmm_sched *s, int result);

/* Let every task begin again: memory is as it was before any ran. Context: no run. */
void uhmm__sched_rewind(struct uhmm_sched *s);

/* Run the RCU callbacks that may run here. Returns: true if it looked. */
bool uhmm__sched_run_rcu(struct uhmm__fiber *f);

#endif
#endif /* UHMM_SYNC_SCHED_INTERNAL_H */
