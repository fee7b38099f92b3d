/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * chooser.h - what the strategies share: what a choice costs, going on without switches, going on
 * fairly, writing a schedule down, following one.
 */
#ifndef UHMM_EXPLORE_CHOOSER_H
#define UHMM_EXPLORE_CHOOSER_H

#include "explore/world.h"

#if UHMM_CHECKED

/* Switches that it costs to let @f go on after @last, which is NULL at the start. */
unsigned int uhmm__choice_cost(const struct uhmm_sched *s, const struct uhmm__fiber *last,
			       const struct uhmm__fiber *f);

/* Which choice costs nothing, the first of them from @last's CPU on; there is one. */
unsigned int uhmm__choice_default(struct uhmm_sched *s, const struct uhmm__fiber *last);

/* ---- spinning ---- */

/*
 * A CPU spins if all comes back to the same state, but for the time, with no other CPU having done a
 * step: left alone it will do so for ever. To compare whole states costs much. So what a task alone
 * knows - its stack and registers - is looked at first, and all else when that has come again. One state
 * is compared with, a later one each time that the steps have doubled (Brent), so that there is no
 * limit to how long the way to a cycle, or the cycle, may be. The first steps of such a stretch are not
 * looked at: most have no more.
 */
#define UHMM__SPIN_GRACE 32

struct uhmm__spin {
	unsigned int cpu;	 /* whose steps these are; UINT32_MAX: none yet */
	uint64_t steps, power;	 /* of this stretch; when to take the next state to compare with */
	struct uhmm__hash local; /* that state: what the task alone knows, */
	struct uhmm__hash whole; /* and all else, when the first had come again */
	bool again, spins;
};

/* To be called at every choice, with the task that ran last, or NULL; wipes its stack. */
void uhmm__spin_look(struct uhmm__spin *sp, const struct uhmm__world *w,
		     const struct uhmm__fiber *last);

void uhmm__spin_reset(struct uhmm__spin *sp);

static inline bool uhmm__spins(const struct uhmm__spin *sp)
{
	return sp->spins;
}

/* ---- going on fairly: does it end, or come back to the same state for ever? ---- */

struct uhmm__tail {
	bool on;
	uint64_t steps, power; /* taken; when to take the next state to compare with */
	struct uhmm__hash state;
	uint64_t state_steps; /* when it was taken */
	uint64_t clock_reads; /* by then */
	unsigned int jumps;   /* of the clock */
	bool measuring;	      /* the state has come again: how long does that take? */
	uint64_t *returns;    /* of each task, by then */
	unsigned int nr_returns;
	bool undecided; /* given up */
	uint64_t cycle; /* steps of the cycle that was found */
};

/*
 * The next choice of a run that is to be fair from now on; NULL ends the run. All of it is a function of
 * the state where it begins.
 */
struct uhmm__fiber *uhmm__tail_choose(struct uhmm__tail *t, struct uhmm__world *w);
void uhmm__tail_free(struct uhmm__tail *t);

/* ---- writing down what a run does ---- */

struct uhmm__record {
	struct uhmm__steps steps;
	struct uhmm__steps rest; /* while it goes on: what was fair */
};

/* @f: that is chosen, or NULL. @tail: whether that is a choice of the fair rest. */
void uhmm__record_step(struct uhmm__record *rec, const struct uhmm__tail *tail,
		       struct uhmm_sched *s, const struct uhmm__fiber *f);

/*
 * The run has ended, and .steps leads there. If it was the fair rest that ended it, having seen what
 * comes of it, steps are not enough: whether it does depends on their being fair for ever. So the word
 * F stands for all of that rest. A fault on the way is where its steps end, however those were chosen.
 */
void uhmm__record_end(struct uhmm__record *rec, const struct uhmm__tail *tail);
void uhmm__record_free(struct uhmm__record *rec);

/* What another chooser does. */
struct uhmm__recorder {
	struct uhmm__chooser chooser;
	struct uhmm__chooser *inner;
	const struct uhmm__tail *tail; /* the other's */
	struct uhmm__record record;
};

struct uhmm__fiber *uhmm__recorder_choose(struct uhmm__chooser *c, struct uhmm_sched *s);

/* ---- following a schedule ---- */

struct uhmm__replay {
	struct uhmm__chooser chooser;
	struct uhmm__world *w;
	const struct uhmm__steps *steps;
	bool lenient;	     /* what does not fit is left out; else it ends the run */
	uint64_t max_steps;  /* after which the run is given up; 0 = none */
	uint64_t fair_after; /* steps after which what follows the schedule is fair; 0 = many */
	/* Of the run. */
	size_t at;   /* the word, */
	uint32_t by; /* and how often it was followed */
	bool stale;
	char why[160];
	struct uhmm__fiber *last;
	struct uhmm__spin spin;
	uint64_t free_steps; /* taken after the end of the schedule */
	struct uhmm__tail tail;
	/* What was done. */
	struct uhmm__record done;
	uint64_t nr_steps;
	unsigned int nr_switches;
	/* Called before each step; NULL allowed. */
	void (*note)(struct uhmm__replay *r, struct uhmm__fiber *f);
	void *note_data;
};

/*
 * Run @steps, then without switches, then fairly; after F fairly at once. Returns: as
 * uhmm__world_run(), or -ESTALE; frees nothing: uhmm__replay_free().
 */
int uhmm__replay_run(struct uhmm__replay *r, uint64_t seed);
void uhmm__replay_free(struct uhmm__replay *r);

/* Steps of a run without switches. */
uint64_t uhmm__length_of(struct uhmm__world *w);

#endif
#endif /* UHMM_EXPLORE_CHOOSER_H */
