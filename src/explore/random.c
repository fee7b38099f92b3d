// SPDX-License-Identifier: LGPL-2.1-or-later
/* Random schedules, and those of PCT. The run with seed s is the same whoever does it, and when. */
#include "explore/strategy.h"

#if UHMM_CHECKED

#include "explore/pool.h"

/* Runs between two looks at what was found. */
#define BATCH 1024
#define DEFAULT_MAX_STEPS 100000

struct random_run {
	struct uhmm__chooser chooser;
	struct uhmm__world *w;
	uint64_t rng;
	uint64_t steps, max_steps;
	struct uhmm__tail tail;
	/* PCT */
	unsigned int nr_changes, size;
	uint64_t *changes;    /* at which steps, sorted */
	unsigned int changed; /* of them, past */
	uint64_t *priorities; /* of each task, then of each CPU's worker; 0 = none yet */
	struct uhmm__fiber *last;
};

/* Of one run, in shared memory. */
struct random_result {
	enum uhmm_verdict verdict;
	uint64_t steps;
	bool undecided;
};

struct random {
	struct uhmm__world *w;
	const struct uhmm_explore_config *c;
	uint64_t length; /* of a run, roughly */
	struct shared {
		_Atomic uint64_t found; /* the first run with a fault, so far */
		struct random_result results[BATCH];
		char reports[BATCH][UHMM__REPORT_SIZE];
	} * shared;
};

static uint64_t next(struct random_run *r)
{
	r->rng ^= r->rng >> 12;
	r->rng ^= r->rng << 25;
	r->rng ^= r->rng >> 27;
	return r->rng * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(struct random_run *r, uint64_t n)
{
	return (uint64_t)((unsigned __int128)next(r) * n >> 64);
}

static struct uhmm__fiber *random_choose(struct uhmm__chooser *c, struct uhmm_sched *s)
{
	struct random_run *r = container_of(c, struct random_run, chooser);
	unsigned int n;

	if (r->steps++ >= r->max_steps)
		return uhmm__tail_choose(&r->tail, r->w);
	n = uhmm__sched_nr_choices(s);
	if (!n)
		return NULL;
	return uhmm__sched_nth(s, n == 1 ? 0 : (unsigned int)below(r, n));
}

/* ---- PCT ---- */

static uint64_t *priority_of(struct random_run *r, const struct uhmm__fiber *f)
{
	unsigned int i = f->worker ? f->index : f->sched->nr_cpus + f->index;
	uint64_t *p;

	if (i >= r->size) {
		unsigned int size = MAX(2 * r->size, i + 16);

		p = realloc(r->priorities, size * sizeof(*p));
		if (!p)
			return NULL;
		memset(p + r->size, 0, (size - r->size) * sizeof(*p));
		r->priorities = p;
		r->size = size;
	}
	p = &r->priorities[i];
	if (!*p)
		*p = next(r) | 1UL << 63;
	return p;
}

static struct uhmm__fiber *highest(struct random_run *r, struct uhmm_sched *s)
{
	unsigned int n = uhmm__sched_nr_choices(s);
	struct uhmm__fiber *best = NULL;
	uint64_t most = 0;

	for (unsigned int i = 0; i < n; i++) {
		struct uhmm__fiber *f = uhmm__sched_nth(s, i);
		const uint64_t *p = priority_of(r, f);

		if (!p)
			return NULL;
		if (*p > most) {
			most = *p;
			best = f;
		}
	}
	return best;
}

static struct uhmm__fiber *pct_choose(struct uhmm__chooser *c, struct uhmm_sched *s)
{
	struct random_run *r = container_of(c, struct random_run, chooser);

	if (r->steps >= r->max_steps)
		return uhmm__tail_choose(&r->tail, r->w);
	for (; r->changed < r->nr_changes && r->changes[r->changed] <= r->steps; r->changed++)
		if (r->last)
			*priority_of(r, r->last) = r->nr_changes - r->changed;
	r->steps++;
	r->last = highest(r, s);
	return r->last;
}

static int by_step(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* ---- runs ---- */

static int begin(struct random_run *r, const struct random *x, uint64_t seed)
{
	const struct uhmm_explore_config *c = x->c;

	*r = (struct random_run){ .w = x->w, .max_steps = c->max_steps };
	if (!r->max_steps)
		r->max_steps = DEFAULT_MAX_STEPS;
	/* Spread, so that seeds next to each other differ; never 0, where xorshift stays. */
	r->rng = (seed + 1) * 0x9e3779b97f4a7c15ULL | 1;
	r->chooser.choose = random_choose;
	if (c->strategy != UHMM_EXPLORE_PCT)
		return 0;
	r->chooser.choose = pct_choose;
	if (!c->max_steps)
		r->max_steps = MIN(r->max_steps, 20 * x->length + 1000);
	r->nr_changes = c->switches_bound;
	r->changes = calloc(r->nr_changes + 1, sizeof(*r->changes));
	if (!r->changes)
		return -ENOMEM;
	for (unsigned int i = 0; i < r->nr_changes; i++)
		r->changes[i] = 1 + below(r, x->length);
	qsort(r->changes, r->nr_changes, sizeof(*r->changes), by_step);
	return 0;
}

static void end(struct random_run *r)
{
	uhmm__tail_free(&r->tail);
	free(r->changes);
	free(r->priorities);
}

static void job(void *ctx, uint64_t index)
{
	const struct random *x = ctx;
	struct random_result *result = &x->shared->results[index % BATCH];
	uint64_t seed = x->c->seed + index, first;
	struct random_run r;

	/* Those before it are being done, or have been. */
	if (index > atomic_load(&x->shared->found))
		return;
	*result = (struct random_result){ .undecided = true };
	if (!begin(&r, x, seed)) {
		uhmm__world_run(x->w, &r.chooser, seed);
		*result = (struct random_result){ x->w->verdict, x->w->s->steps, r.tail.undecided };
	}
	end(&r);
	if (result->verdict)
		strcpy(x->shared->reports[index % BATCH], x->w->report);
	first = atomic_load(&x->shared->found);
	while (result->verdict && index < first &&
	       !atomic_compare_exchange_weak(&x->shared->found, &first, index))
		;
}

/* The run with this seed once more, to learn its steps. */
static int learn(struct random *x, uint64_t seed, struct uhmm__found *found)
{
	struct uhmm__recorder rec = { .chooser.choose = uhmm__recorder_choose };
	struct random_run r;
	int ret = begin(&r, x, seed);

	rec.inner = &r.chooser;
	rec.tail = &r.tail;
	if (!ret)
		uhmm__world_run(x->w, &rec.chooser, seed);
	uhmm__record_end(&rec.record, &r.tail);
	end(&r);
	found->steps = rec.record.steps;
	return found->steps.lost ? -ENOMEM : ret;
}

static int batch(struct random *x, struct uhmm__pool *pool, uint64_t first, uint64_t n,
		 struct uhmm__found *found)
{
	int ret = uhmm__pool_run(pool, first, n);

	for (uint64_t i = first; i < first + n && !ret; i++) {
		const struct random_result *result = &x->shared->results[i % BATCH];

		found->schedules++;
		found->nr_steps += result->steps;
		found->undecided += result->undecided;
		if (!result->verdict)
			continue;
		found->verdict = result->verdict;
		found->seed = x->c->seed + i;
		found->report = strdup(x->shared->reports[i % BATCH]);
		return found->report ? learn(x, found->seed, found) : -ENOMEM;
	}
	if (ret == -ECHILD) {
		found->death = uhmm__pool_death(pool);
		found->seed = x->c->seed + found->death.job;
		found->died_first = found->died_last = found->death.job + 1;
	}
	return ret;
}

int uhmm__explore_random(struct uhmm__world *w, const struct uhmm_explore_config *c,
			 unsigned int workers, struct uhmm__found *found)
{
	struct random x = { .w = w, .c = c, .length = uhmm__length_of(w) };
	struct uhmm__pool *pool = NULL;
	int ret = -ENOMEM;

	x.shared = uhmm__shared_alloc(sizeof(*x.shared));
	if (x.shared) {
		atomic_store(&x.shared->found, UINT64_MAX);
		ret = uhmm__pool_create(workers, job, &x, &pool);
	}
	/* A batch begins at a multiple of its size, so that runs have places of their own. */
	for (uint64_t i = 0; i < c->runs && !ret && !found->verdict; i += BATCH) {
		ret = batch(&x, pool, i, MIN(BATCH, c->runs - i), found);
		if (c->progress)
			c->progress(c->progress_data, found->schedules);
	}
	uhmm__pool_destroy(pool);
	uhmm__shared_free(x.shared, sizeof(*x.shared));
	return ret;
}

#endif /* UHMM_CHECKED */
