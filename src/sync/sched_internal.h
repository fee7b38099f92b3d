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
	void (*fn)(void *arg);
	void *arg;
};

struct uhmm__sched_cpu {
	struct uhmm__fiber *current;
	struct list_head queue;
	unsigned int nr_queued;
	struct uhmm__fiber *worker;
	struct list_head works;
};

struct uhmm_sched {
	struct uhmm_machine *m;
	enum uhmm_sched_policy policy;
	uint64_t rng;
	uint64_t steps, max_steps;
	unsigned int nr_cpus;
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
	size_t schedule_at;   /* the word, */
	uint32_t schedule_by; /* and how often it has been followed */
	char *trace_text;
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

/* Run the RCU callbacks that may run here. Returns: true if it looked. */
bool uhmm__sched_run_rcu(struct uhmm__fiber *f);

#endif
#endif /* UHMM_SYNC_SCHED_INTERNAL_H */
