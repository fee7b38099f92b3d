// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Shorter schedules that show the same fault: parts are left out, and what then does not fit is left
 * out as well. What was really done is what counts, first by its switches, then by its steps. Those of
 * a fair rest count as well: they tell how long it takes until a state comes again.
 */
#include "explore/strategy.h"

#if UHMM_CHECKED

#define MAX_TRIES 5000
#define MAX_STEPS 1000000 /* of all tries: a second or two; where a fair rest begins has as many */
#define MAX_APART 8	  /* words between two that are joined */

struct shrink {
	struct uhmm__world *w;
	enum uhmm_verdict verdict;
	uint64_t seed, fair_after;
	unsigned int tries;
	uint64_t steps;	    /* of all tries */
	uint64_t max_steps; /* of a try: one that is much longer is no improvement */
	/* The best so far. */
	struct uhmm__steps best;
	unsigned int nr_switches;
	uint64_t nr_steps;
};

static bool goes_on(const struct shrink *sh)
{
	return sh->tries < MAX_TRIES && sh->steps < MAX_STEPS;
}

/* Takes over @candidate. Returns: true if it is better, and now the best. */
static bool try(struct shrink *sh, struct uhmm__steps *candidate)
{
	struct uhmm__replay r = {
		.w = sh->w,
		.steps = candidate,
		.lenient = true,
		.max_steps = sh->max_steps,
		.fair_after = sh->fair_after,
	};
	bool better;

	uhmm__replay_run(&r, sh->seed);
	/* Each try would take as long. */
	if (sh->w->stuck)
		sh->tries = MAX_TRIES;
	better = sh->w->verdict == sh->verdict && !r.done.steps.lost &&
		 (r.nr_switches < sh->nr_switches ||
		  (r.nr_switches == sh->nr_switches && r.nr_steps < sh->nr_steps));
	if (better) {
		uhmm__steps_free(&sh->best);
		sh->best = r.done.steps;
		r.done.steps = (struct uhmm__steps){ 0 };
		sh->nr_switches = r.nr_switches;
		sh->nr_steps = r.nr_steps;
	}
	sh->tries++;
	sh->steps += r.nr_steps;
	uhmm__replay_free(&r);
	uhmm__steps_free(candidate);
	return better;
}

/*
 * Words i and j are one task's: do j right after i, or i right before j. That is one switch less if
 * what lies between has nothing to do with it.
 */
static struct uhmm__steps joined(const struct shrink *sh, size_t i, size_t j, bool early)
{
	struct uhmm__steps s = { 0 };

	for (size_t k = 0; k < sh->best.nr; k++) {
		if (k == (early ? j : i))
			continue;
		if (k == j)
			uhmm__steps_append(&s, sh->best.v[i]);
		uhmm__steps_append(&s, sh->best.v[k]);
		if (k == i)
			uhmm__steps_append(&s, sh->best.v[j]);
	}
	return s;
}

static bool join_word(struct shrink *sh, size_t i)
{
	for (size_t j = i + 1; j < sh->best.nr && j < i + MAX_APART; j++) {
		if (sh->best.v[j].index != sh->best.v[i].index ||
		    sh->best.v[j].kind != sh->best.v[i].kind)
			continue;
		for (int early = 0; early < 2; early++) {
			struct uhmm__steps s = joined(sh, i, j, early);

			if (!s.lost && try(sh, &s))
				return true;
		}
		return false;
	}
	return false;
}

static void join(struct shrink *sh)
{
	for (size_t i = 0; i < sh->best.nr && goes_on(sh);)
		if (!join_word(sh, i))
			i++;
}

/* The best without words [from, to). */
static struct uhmm__steps without(const struct shrink *sh, size_t from, size_t to)
{
	struct uhmm__steps s = { 0 };

	for (size_t i = 0; i < sh->best.nr; i++)
		if (i < from || i >= to)
			uhmm__steps_append(&s, sh->best.v[i]);
	return s;
}

/* Words but for F: that it is fair for ever is what the others lead to. */
static size_t nr_words(const struct shrink *sh)
{
	return sh->best.nr - uhmm__steps_end_fairly(&sh->best);
}

static uint64_t nr_choices(const struct shrink *sh)
{
	uint64_t n = 0;

	for (size_t i = 0; i < nr_words(sh); i++)
		n += sh->best.v[i].count;
	return n;
}

/* The first @n choices of the best, then F. */
static struct uhmm__steps beginning(const struct shrink *sh, uint64_t n)
{
	struct uhmm__steps s = { 0 };

	for (size_t i = 0; n; i++) {
		struct uhmm__step step = sh->best.v[i];

		step.count = MIN(step.count, n) & UHMM__MAX_STEP_COUNT;
		uhmm__steps_append(&s, step);
		n -= step.count;
	}
	uhmm__steps_push(&s, 0, UHMM__STEP_FAIR);
	return s;
}

/*
 * Where it is the fair rest that shows it: that may begin earlier. A run that had to become too long
 * first has most of its choices for nothing, perhaps all in one word. The shortest come first, for they
 * take little.
 */
static void begin_fairly(struct shrink *sh)
{
	uint64_t most = nr_choices(sh);

	if (!uhmm__steps_end_fairly(&sh->best))
		return;
	/* What there is may have used up all steps by itself. */
	sh->steps = 0;
	for (uint64_t n = 0; n < most && goes_on(sh); n += 1 + n / 8) {
		struct uhmm__steps s = beginning(sh, n);

		if (!s.lost && try(sh, &s))
			break;
	}
	sh->steps = 0;
}

static void leave_out(struct shrink *sh)
{
	for (size_t n = MAX(nr_words(sh), 1); n; n /= 2) {
		/* From the end: what comes last matters least. */
		for (size_t end = nr_words(sh); end && goes_on(sh);) {
			size_t from = end > n ? end - n : 0;
			struct uhmm__steps s = without(sh, from, end);

			if (!s.lost && try(sh, &s))
				end = MIN(from, nr_words(sh));
			else
				end = from;
		}
	}
}

int uhmm__shrink(struct uhmm__world *w, enum uhmm_verdict verdict, uint64_t seed,
		 uint64_t fair_after, struct uhmm__steps *steps)
{
	struct shrink sh = { .w = w, .verdict = verdict, .seed = seed, .fair_after = fair_after };
	unsigned int before;
	struct uhmm__steps all;

	/* The first try is what there is. */
	sh.nr_switches = UINT32_MAX;
	sh.nr_steps = UINT64_MAX;
	sh.best = *steps;
	all = without(&sh, 0, 0);
	sh.best = (struct uhmm__steps){ 0 };
	if (all.lost || !try(&sh, &all)) {
		uhmm__steps_free(&all);
		return all.lost ? -ENOMEM : 0;
	}
	begin_fairly(&sh);
	sh.max_steps = 2 * sh.nr_steps + 100;
	do {
		before = sh.nr_switches;
		leave_out(&sh);
		join(&sh);
	} while (sh.nr_switches < before && goes_on(&sh));
	uhmm__steps_free(steps);
	*steps = sh.best;
	return 0;
}

#endif /* UHMM_CHECKED */
