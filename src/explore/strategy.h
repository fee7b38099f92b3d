/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* strategy.h - the two ways to go through schedules; explore.c calls them. */
#ifndef UHMM_EXPLORE_STRATEGY_H
#define UHMM_EXPLORE_STRATEGY_H

#include "explore/chooser.h"
#include "explore/pool.h"

#if UHMM_CHECKED

/* What a strategy brings home. */
struct uhmm__found {
	enum uhmm_verdict verdict;
	struct uhmm__steps steps; /* leads there */
	uint64_t seed;		  /* of that run */
	uint64_t schedules, nr_steps, states, ends, ends_hash, undecided;
	bool complete;
	char *report; /* of that run, as it was told there */
	/* -ECHILD: who died, and in which schedules, from 1, it may have been. */
	struct uhmm__death death;
	uint64_t died_first, died_last;
};

/* RANDOM and PCT. */
int uhmm__explore_random(struct uhmm__world *w, const struct uhmm_explore_config *c,
			 unsigned int workers, struct uhmm__found *found);
/* For tests: run each schedule from the first state on, as where UHMM__STACKS_COPY is false. */
extern bool uhmm__dfs_from_start;
int uhmm__explore_dfs(struct uhmm__world *w, const struct uhmm_explore_config *c,
		      unsigned int workers, struct uhmm__found *found);

/*
 * Make @steps, which lead to @verdict, as short as it goes, fewest switches first. @fair_after: as in
 * struct uhmm__replay. Returns: 0 or -ENOMEM.
 */
int uhmm__shrink(struct uhmm__world *w, enum uhmm_verdict verdict, uint64_t seed,
		 uint64_t fair_after, struct uhmm__steps *steps);

#endif
#endif /* UHMM_EXPLORE_STRATEGY_H */
