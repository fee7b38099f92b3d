/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * world.h - a scenario that was set up once and can be run any number of times.
 *
 * Machine, scheduler, tasks and what the scenario allocated are in a region (core/region.h). A run
 * puts them back as setup() left them, lets a chooser decide, and says how it ended.
 */
#ifndef UHMM_EXPLORE_WORLD_H
#define UHMM_EXPLORE_WORLD_H

#include <setjmp.h>

#include <uhmm/explore.h>

#include "core/region.h"
#include "sync/sched_internal.h"

#if UHMM_CHECKED

#define UHMM__REPORT_SIZE 6000

struct uhmm__world {
	const struct uhmm_scenario *scenario;
	struct uhmm__region *region;
	struct uhmm_machine *m;
	struct uhmm_sched *s;
	void *state;	  /* the scenario's */
	uint64_t *random; /* state of uhmm_scenario_random() */
	bool hash_ends;	  /* fill in .end */
	/* Of the last run. */
	enum uhmm_verdict verdict;
	bool ended;	       /* all tasks came to their end */
	bool stuck;	       /* one did not come to a switch point: it took a second to see */
	struct uhmm__hash end; /* the state then */
	char report[UHMM__REPORT_SIZE];
	/* While it goes on. */
	bool active, checking;
	unsigned int ticks;    /* of the watchdog, at which there was no new step */
	uint64_t ticked_steps; /* at the last one */
	int watched;	       /* the process that has one */
	sigjmp_buf escape;
};

/*
 * @switches_set: bits of the switches to take from @machine. Returns: 0, -EINVAL, -ENOMEM, or what
 * setup() says; -EIO if it has shown a fault. *@out is made all the same if there is a report of it.
 */
int uhmm__world_create(const struct uhmm_scenario *scenario,
		       const struct uhmm_machine_config *machine, uint64_t switches_set,
		       struct uhmm__world **out);
void uhmm__world_destroy(struct uhmm__world *w);

/*
 * One run, from the first state. @seed: of uhmm_scenario_random(). Returns: what uhmm_sched_run()
 * says: 0, -ECANCELED if the chooser ended it, -EDEADLK; w->verdict tells of faults.
 */
int uhmm__world_run(struct uhmm__world *w, struct uhmm__chooser *c, uint64_t seed);

/*
 * The state at a choice, to go on from once more. Where UHMM__STACKS_COPY. Zeroed before use.
 * Context: a chooser.
 */
struct uhmm__world_copy {
	struct uhmm__region_copy region;
	char *stacks; /* what is in use of each, one after the other */
	size_t size;
};

/* Returns: 0 or -ENOMEM. */
int uhmm__world_copy(const struct uhmm__world *w, struct uhmm__world_copy *c);
void uhmm__world_copy_free(struct uhmm__world_copy *c);

/* As uhmm__world_run(), but from there; the chooser is asked for that choice once more. */
int uhmm__world_go_on(struct uhmm__world *w, struct uhmm__chooser *c,
		      const struct uhmm__world_copy *from);

/* A chooser has found a fault: the run is to end. printf format: what to report. */
void uhmm__world_fault(struct uhmm__world *w, enum uhmm_verdict verdict, const char *fmt, ...)
	uhmm_printf(3, 4);

/*
 * The state at a choice: memory, stacks, and @extra, a number of the caller's. Event counts are left
 * out, and the time, if no task has ever looked at it.
 */
struct uhmm__hash uhmm__world_hash(const struct uhmm__world *w, uint64_t extra);
/* The same without the time in any case. */
struct uhmm__hash uhmm__timeless_hash(const struct uhmm__world *w, uint64_t extra);

/*
 * Clear what a task that does not run has left below its stack. Frames to come lie there, and what they
 * do not write to would tell of the past, and make states differ that are the same.
 */
void uhmm__wipe_stack(const struct uhmm__fiber *f);

/* What a task alone knows: its stack and registers. Context: it does not run. */
struct uhmm__hash uhmm__local_hash(const struct uhmm__fiber *f);

#endif
#endif /* UHMM_EXPLORE_WORLD_H */
