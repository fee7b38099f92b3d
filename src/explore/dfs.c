// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All schedules with few switches: first those with none, then those with one more, and so on.
 *
 * A schedule is what it does otherwise than go on with the task that ran last (or, where that cannot
 * be, with the first of the next CPU that can): its *turns*. An item of work is a schedule up to and
 * including its last turn. It is run, from there on without turns; each state on the way is a place
 * where another turn could have been taken, which makes a new item - of this level if the turn costs no
 * switch, else of a later one.
 *
 * A task that spins - waits for another without sleeping - would make schedules without end. Where one
 * is found to (uhmm__spins()) another CPU goes first, and that is no switch. So what is left out are
 * schedules in which somebody goes round once more, which lead nowhere else but to a later time.
 *
 * Reduction: a state that was there before need not be gone on from. What can follow it is a function
 * of the state, of the CPU that ran last, and of how many switches are left; levels go up, so whoever
 * was there first had at least as many left. Nothing else is left out, which is why this is sound under
 * the bound, where sleep sets are not: they leave out a schedule for the sake of an equivalent one that
 * may need more switches.
 *
 * Workers do a batch of items, each against the states known before the batch; what they found is then
 * taken in the order of the items. So nothing depends on who does what when.
 */
#include "explore/strategy.h"

#if UHMM_CHECKED

#include "explore/pool.h"
#include "explore/table.h"

#define BATCH 256
#define MAX_GROUP 64
/*
 * Tasks that spin in turn, others, and the same again, may be in each other's way for ever: a run is cut
 * then, as one that is too long is.
 */
#define MAX_SPINS 16
#define MAX_ITEMS (1UL << 28)
#define MAX_BYTES (MAX_ITEMS * 16)
#define DEFAULT_MAX_STEPS 100000

bool uhmm__dfs_from_start;

struct turn {
	uint32_t at; /* the step, from the start of the schedule */
	uint16_t choice, cost;
};

struct item {
	uint32_t parent; /* whose turns come first */
	struct turn turn;
};

_Static_assert(sizeof(struct item) <= 16, "MAX_BYTES");

#define NO_PARENT UINT32_MAX

/* A state that an item came to, and where to go from there: turns [.. first, next node's first). */
struct node {
	struct uhmm__hash state;
	uint32_t nr_turns;
};

/* Of one item. */
struct result {
	enum uhmm_verdict verdict;
	bool ended, undecided;
	struct uhmm__hash end;
	uint32_t nr_nodes, nr_turns;
	uint64_t nodes, turns; /* where they are in the arenas */
	uint64_t steps;
};

struct shared {
	struct uhmm__table states;
	_Atomic uint64_t found; /* place in the batch of the first item with a fault, so far */
	_Atomic uint64_t nr_nodes, nr_turns; /* used of the arenas */
	_Atomic bool full;
	unsigned int level; /* switches of each of the batch */
	uint32_t batch[BATCH];
	struct result results[BATCH];
	char reports[BATCH][UHMM__REPORT_SIZE];
	struct group {
		uint16_t first, nr;
	} groups[BATCH]; /* of the batch, by parent */
};

struct dfs {
	struct uhmm__world *w;
	const struct uhmm_explore_config *c;
	uint64_t max_steps;
	struct shared *shared;
	struct item *items; /* shared, as are the arenas */
	struct node *nodes;
	struct turn *turns;
	/* The master's. */
	uint32_t nr_items;
	struct queue {
		uint32_t *v;
		size_t nr, at, size;
	} * queues; /* by switches */
	struct uhmm__table ends;
};

/* ---- items ---- */

/* Where a run is. */
struct place {
	struct uhmm__fiber *last;
	uint32_t step;
	uint32_t turned;    /* turns that were taken */
	bool must_leave;    /* the last task spins: another CPU is next */
	unsigned int spins; /* times that one did since the last turn */
	unsigned int usual;
	struct uhmm__spin spin;
};

/*
 * Items of one parent, one after the other. The way that they have in common is gone once: where the
 * first turns off the state is kept, and from there the way goes on to where the next does.
 */
struct run {
	struct uhmm__chooser chooser;
	const struct dfs *d;
	struct place at, kept;
	struct uhmm__world_copy copy;
	bool is_kept, again; /* the choice is one that was kept */
	bool whole;	     /* go on from states that were there, too */
	/* Turns of the parent, then of the item itself. */
	struct turn *turns;
	uint32_t nr_turns, size_turns;
	struct turn turn;
	unsigned int left; /* switches, after it */
	bool exploring;	   /* the turn is behind it */
	/* States that the items so far came to, and which was there last. */
	struct known {
		struct uhmm__hash state;
		uint32_t item;
	} * known;
	size_t nr_known, size_known;
	uint32_t item;
	/* What the item found. */
	struct node *nodes;
	uint32_t nr_nodes, size_nodes;
	struct turn *found;
	uint32_t nr_found, size_found;
	struct uhmm__tail tail;
	bool cut;    /* too long, or too much spinning: there may be more ways to go on */
	bool failed; /* there was no memory */
};

static void *grown(void *p, uint32_t *size, size_t each)
{
	uint32_t n = *size ? 2 * *size : 256;
	void *q = realloc(p, n * each);

	if (!q)
		return p;
	*size = n;
	return q;
}

/* Room for one more; false if there is no memory. */
#define ROOM(v, nr, size) ((nr) < (size) || ((v) = grown(v, &(size), sizeof(*(v))), (nr) < (size)))

/* Those of @item's parent, and its own. */
static bool load_turns(struct run *r, uint32_t item)
{
	const struct item *items = r->d->items;
	uint32_t parent = items[item].parent;

	r->nr_turns = 0;
	/* The root has none. */
	for (; parent != NO_PARENT && items[parent].parent != NO_PARENT;
	     parent = items[parent].parent) {
		if (!ROOM(r->turns, r->nr_turns, r->size_turns))
			return false;
		r->turns[r->nr_turns++] = items[parent].turn;
	}
	for (uint32_t i = 0; i < r->nr_turns / 2; i++) {
		struct turn t = r->turns[i];

		r->turns[i] = r->turns[r->nr_turns - 1 - i];
		r->turns[r->nr_turns - 1 - i] = t;
	}
	return true;
}

/*
 * Who goes on if there is no turn. A task that spins lets another go first, on another CPU if one can
 * go on: what follows if it did not is no fair schedule.
 */
static unsigned int usual_choice(struct place *at, struct uhmm_sched *s)
{
	unsigned int n = uhmm__sched_nr_choices(s), other = UINT32_MAX;

	at->must_leave = false;
	if (!uhmm__spins(&at->spin))
		return uhmm__choice_default(s, at->last);
	for (unsigned int i = 0; i < n; i++) {
		const struct uhmm__fiber *f = uhmm__sched_nth(s, i);

		if (f == at->last)
			continue;
		if (other == UINT32_MAX || f->task.cpu != at->last->task.cpu)
			other = i;
		if (f->task.cpu != at->last->task.cpu)
			break;
	}
	at->must_leave = other != UINT32_MAX;
	return at->must_leave ? other : uhmm__choice_default(s, at->last);
}

static struct known *known_place(struct known *v, size_t size, struct uhmm__hash h)
{
	size_t i = h.lo & (size - 1);

	while ((v[i].state.lo | v[i].state.hi) && (v[i].state.lo != h.lo || v[i].state.hi != h.hi))
		i = (i + 1) & (size - 1);
	return &v[i];
}

static bool grow_known(struct run *r)
{
	size_t size = r->size_known ? 2 * r->size_known : 1024;
	struct known *v = calloc(size, sizeof(*v));

	if (!v)
		return false;
	for (size_t i = 0; i < r->size_known; i++)
		if (r->known[i].state.lo | r->known[i].state.hi)
			*known_place(v, size, r->known[i].state) = r->known[i];
	free(r->known);
	r->known = v;
	r->size_known = size;
	return true;
}

enum was_there { NOBODY, ANOTHER_ITEM, THIS_ITEM };

/* Which item of the group was in this state before; this one is now. */
static enum was_there was_known(struct run *r, struct uhmm__hash h)
{
	enum was_there was;
	struct known *p;

	if (r->nr_known >= r->size_known / 2 && !grow_known(r)) {
		r->failed = true;
		return ANOTHER_ITEM;
	}
	p = known_place(r->known, r->size_known, h);
	was = !(p->state.lo | p->state.hi) ? NOBODY : p->item == r->item ? THIS_ITEM : ANOTHER_ITEM;
	r->nr_known += was == NOBODY;
	*p = (struct known){ h, r->item };
	return was;
}

/* Whether the nth choice is another way to go on, which the bound allows. */
static bool is_other_way(const struct run *r, struct uhmm_sched *s, unsigned int n,
			 unsigned int *cost)
{
	const struct place *at = &r->at;
	const struct uhmm__fiber *f = uhmm__sched_nth(s, n);

	if (n == at->usual || (at->must_leave && f == at->last))
		return false;
	*cost = uhmm__choice_cost(s, at->must_leave ? NULL : at->last, f);
	return *cost <= r->left;
}

static bool has_other_ways(const struct run *r, struct uhmm_sched *s)
{
	unsigned int n = uhmm__sched_nr_choices(s), cost;

	for (unsigned int i = 0; i < n; i++)
		if (is_other_way(r, s, i, &cost))
			return true;
	return false;
}

static bool note_node(struct run *r, struct uhmm_sched *s, struct uhmm__hash h)
{
	unsigned int n = uhmm__sched_nr_choices(s), cost;
	struct node *node;

	if (!ROOM(r->nodes, r->nr_nodes, r->size_nodes))
		return false;
	node = &r->nodes[r->nr_nodes++];
	*node = (struct node){ .state = h };
	for (unsigned int i = 0; i < n; i++) {
		if (!is_other_way(r, s, i, &cost))
			continue;
		if (!ROOM(r->found, r->nr_found, r->size_found))
			return false;
		r->found[r->nr_found++] = (struct turn){ r->at.step, (uint16_t)i, (uint16_t)cost };
		node->nr_turns++;
	}
	return true;
}

/*
 * Whether to ask if the state was there before, where that alone would be the use of it. It costs
 * as much as many steps, so now and then is best; but it must be where all ways to a state agree.
 */
static bool is_landmark(const struct uhmm__fiber *last)
{
	return !last || last->point == UHMM__PT_UNLOCK || last->point == UHMM__PT_USER;
}

/*
 * A task spins. If it did in the same state before, others, who were let go first, have not got it out
 * of it; but for the time, if somebody looks at that.
 */
static bool goes_in_circles(struct run *r)
{
	const struct place *at = &r->at;

	return was_known(r, uhmm__timeless_hash(r->d->w, ~(uint64_t)at->last->task.cpu)) ==
	       THIS_ITEM;
}

/* Whether what follows is to be fair: there is nothing to choose, or no end to it. */
static bool must_be_fair(struct run *r)
{
	const struct place *at = &r->at;

	r->cut = at->step >= r->d->max_steps || at->spins > MAX_SPINS;
	return r->cut || (uhmm__spins(&at->spin) && (!at->must_leave || goes_in_circles(r)));
}

/* A state behind the last turn. Returns: false if there is no going on from it. */
static bool visit(struct run *r, struct uhmm_sched *s)
{
	const struct dfs *d = r->d;
	const struct place *at = &r->at;
	uint64_t extra = at->last ? at->last->task.cpu | (uint64_t)at->spin.spins << 32
				  : UINT32_MAX;
	struct uhmm__hash h = { 0, 0 };

	if (must_be_fair(r)) {
		r->tail.on = true;
		return !r->failed;
	}
	if (r->whole)
		return true;
	if (!has_other_ways(r, s) && (d->c->no_reduction || !is_landmark(at->last)))
		return true;
	if (!d->c->no_reduction) {
		enum was_there was;

		h = uhmm__world_hash(d->w, extra);
		if (uhmm__table_has(&d->shared->states, h))
			return false;
		was = was_known(r, h);
		if (was != NOBODY)
			return was == THIS_ITEM;
	}
	r->failed = !note_node(r, s, h);
	return !r->failed;
}

/* What was kept is where the item turns off, or before. */
static bool keep(struct run *r)
{
	if (!UHMM__STACKS_COPY || uhmm__dfs_from_start ||
	    (r->is_kept && r->kept.step == r->at.step))
		return true;
	r->kept = r->at;
	r->is_kept = !uhmm__world_copy(r->d->w, &r->copy);
	r->failed = !r->is_kept;
	return r->is_kept;
}

/* The way to where the item turns off. */
static bool choose_known(struct run *r, unsigned int *choice)
{
	struct place *at = &r->at;

	*choice = at->usual;
	if (at->turned < r->nr_turns) {
		if (r->turns[at->turned].at == at->step)
			*choice = r->turns[at->turned++].choice;
	} else if (r->turn.at == at->step) {
		if (!keep(r))
			return false;
		*choice = r->turn.choice;
		r->exploring = true;
	}
	return true;
}

static struct uhmm__fiber *dfs_choose(struct uhmm__chooser *c, struct uhmm_sched *s)
{
	struct run *r = container_of(c, struct run, chooser);
	struct place *at = &r->at;
	unsigned int i;

	if (!uhmm__sched_nr_choices(s))
		return NULL;
	if (r->tail.on)
		return uhmm__tail_choose(&r->tail, r->d->w);
	if (!r->again) {
		uhmm__spin_look(&at->spin, r->d->w, at->last);
		at->usual = usual_choice(at, s);
	}
	r->again = false;
	i = at->usual;
	if (r->exploring ? !visit(r, s) : !choose_known(r, &i))
		return NULL;
	if (r->tail.on)
		return uhmm__tail_choose(&r->tail, r->d->w);
	if (at->must_leave) {
		uhmm__spin_reset(&at->spin);
		at->spins += r->exploring;
	}
	at->step++;
	at->last = uhmm__sched_nth(s, i);
	return at->last;
}

static void run_begin(struct run *r, const struct dfs *d, uint32_t first)
{
	*r = (struct run){ .d = d,
			   .chooser.choose = dfs_choose,
			   .left = d->c->switches_bound - d->shared->level };
	r->failed = !load_turns(r, first);
}

/* @c: &r->chooser, or one that asks it. */
static void run_item(struct run *r, uint32_t item, struct uhmm__chooser *c)
{
	const struct dfs *d = r->d;

	r->item = item;
	r->turn = d->items[item].turn;
	r->exploring = d->items[item].parent == NO_PARENT;
	r->nr_nodes = r->nr_found = 0;
	r->cut = false;
	uhmm__tail_free(&r->tail);
	if (r->failed)
		return;
	r->again = r->is_kept;
	if (r->is_kept) {
		r->at = r->kept;
		uhmm__world_go_on(d->w, c, &r->copy);
	} else {
		r->at = (struct place){ 0 };
		uhmm__world_run(d->w, c, d->c->seed);
	}
}

static void run_free(struct run *r)
{
	uhmm__tail_free(&r->tail);
	uhmm__world_copy_free(&r->copy);
	free(r->known);
	free(r->turns);
	free(r->nodes);
	free(r->found);
}

/* Put what was found where the master sees it. */
static bool publish(struct run *r, struct result *result)
{
	struct shared *sh = r->d->shared;

	result->nodes = atomic_fetch_add(&sh->nr_nodes, r->nr_nodes);
	result->turns = atomic_fetch_add(&sh->nr_turns, r->nr_found);
	if ((result->nodes + r->nr_nodes) * sizeof(*r->nodes) > MAX_BYTES ||
	    (result->turns + r->nr_found) * sizeof(*r->found) > MAX_BYTES)
		return false;
	if (r->nr_nodes)
		memcpy(r->d->nodes + result->nodes, r->nodes, r->nr_nodes * sizeof(*r->nodes));
	if (r->nr_found)
		memcpy(r->d->turns + result->turns, r->found, r->nr_found * sizeof(*r->found));
	result->nr_nodes = r->nr_nodes;
	result->nr_turns = r->nr_found;
	return true;
}

static void do_item(struct run *r, uint32_t index)
{
	const struct dfs *d = r->d;
	struct shared *sh = d->shared;
	struct result *result = &sh->results[index];
	uint64_t first = atomic_load(&sh->found);

	*result = (struct result){ 0 };
	if (index > first)
		return;
	run_item(r, sh->batch[index], &r->chooser);
	result->verdict = d->w->verdict;
	if (result->verdict)
		strcpy(sh->reports[index], d->w->report);
	result->ended = d->w->ended && !r->tail.on;
	result->undecided = r->tail.undecided || r->cut;
	result->end = d->w->end;
	result->steps = r->at.step + r->tail.steps - r->turn.at;
	if (r->failed || !publish(r, result))
		atomic_store(&sh->full, true);
	while (result->verdict && index < first &&
	       !atomic_compare_exchange_weak(&sh->found, &first, index))
		;
}

static void job(void *ctx, uint64_t index)
{
	const struct dfs *d = ctx;
	const struct group *g = &d->shared->groups[index];
	struct run r;

	run_begin(&r, d, d->shared->batch[g->first]);
	for (uint32_t i = g->first; i < (uint32_t)g->first + g->nr; i++)
		do_item(&r, i);
	run_free(&r);
}

/* ---- the master ---- */

static bool push(struct dfs *d, unsigned int level, struct item item)
{
	struct queue *q = &d->queues[level];

	if (d->nr_items == MAX_ITEMS)
		return false;
	if (q->nr == q->size) {
		size_t size = q->size ? 2 * q->size : 1024;
		uint32_t *v = realloc(q->v, size * sizeof(*v));

		if (!v)
			return false;
		q->v = v;
		q->size = size;
	}
	d->items[d->nr_items] = item;
	q->v[q->nr++] = d->nr_items++;
	return true;
}

/* Take in what an item found. Returns: 0 or -ENOMEM. */
static int take(struct dfs *d, unsigned int level, uint32_t item, const struct result *result,
		struct uhmm__found *found)
{
	const struct turn *turn = d->turns + result->turns;

	for (uint32_t i = 0; i < result->nr_nodes; i++) {
		const struct node *node = &d->nodes[result->nodes + i];
		int new = d->c->no_reduction ? 1 : uhmm__table_add(&d->shared->states, node->state);

		if (new < 0)
			return new;
		/* An item before it in the batch came here, and took all that follows. */
		if (!new)
			break;
		for (uint32_t k = 0; k < node->nr_turns; k++, turn++) {
			struct item next = { item, *turn };

			if (!push(d, level + turn->cost, next))
				return -ENOMEM;
		}
	}
	if (result->ended && uhmm__table_add(&d->ends, result->end) == 1)
		found->ends_hash += result->end.lo;
	found->undecided += result->undecided;
	found->nr_steps += result->steps;
	return 0;
}

/* The item once more, to learn its steps. */
static int learn(struct dfs *d, uint32_t item, struct uhmm__found *found)
{
	struct uhmm__recorder rec = { .chooser.choose = uhmm__recorder_choose };
	struct run r;
	int ret;

	run_begin(&r, d, item);
	r.whole = true;
	rec.inner = &r.chooser;
	rec.tail = &r.tail;
	run_item(&r, item, &rec.chooser);
	uhmm__record_end(&rec.record, &r.tail);
	ret = r.failed || rec.record.steps.lost ? -ENOMEM : 0;
	run_free(&r);
	found->steps = rec.record.steps;
	return ret;
}

/* Items of the same parent next to each other. Returns: how many groups. */
static unsigned int group(const struct dfs *d, unsigned int n)
{
	struct shared *sh = d->shared;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < n; i++) {
		const struct item *item = &d->items[sh->batch[i]];

		if (nr && sh->groups[nr - 1].nr < MAX_GROUP &&
		    item->parent == d->items[sh->batch[i - 1]].parent)
			sh->groups[nr - 1].nr++;
		else
			sh->groups[nr++] = (struct group){ (uint16_t)i, 1 };
	}
	return nr;
}

static void note_death(const struct dfs *d, const struct uhmm__pool *pool,
		       struct uhmm__found *found)
{
	const struct group *g;

	found->death = uhmm__pool_death(pool);
	g = &d->shared->groups[found->death.job];
	found->died_first = found->schedules + g->first + 1;
	found->died_last = found->schedules + g->first + g->nr;
}

static int batch(struct dfs *d, struct uhmm__pool *pool, unsigned int level, unsigned int n,
		 struct uhmm__found *found)
{
	struct queue *q = &d->queues[level];
	struct shared *sh = d->shared;
	int ret;

	sh->level = level;
	memcpy(sh->batch, q->v + q->at, n * sizeof(*sh->batch));
	q->at += n;
	atomic_store(&sh->nr_nodes, 0);
	atomic_store(&sh->nr_turns, 0);
	ret = uhmm__pool_run(pool, 0, group(d, n));
	if (ret == -ECHILD)
		note_death(d, pool, found);
	if (!ret && atomic_load(&sh->full))
		ret = -ENOMEM;
	for (unsigned int i = 0; i < n && !ret; i++) {
		found->schedules++;
		ret = take(d, level, sh->batch[i], &sh->results[i], found);
		if (ret || !sh->results[i].verdict)
			continue;
		found->verdict = sh->results[i].verdict;
		found->report = strdup(sh->reports[i]);
		return found->report ? learn(d, sh->batch[i], found) : -ENOMEM;
	}
	return ret;
}

static int explore(struct dfs *d, struct uhmm__pool *pool, struct uhmm__found *found)
{
	const struct uhmm_explore_config *c = d->c;
	int ret = 0;

	for (unsigned int level = 0; level <= c->switches_bound; level++) {
		struct queue *q = &d->queues[level];

		while (q->at < q->nr) {
			uint64_t n = MIN(q->nr - q->at, BATCH);

			if (c->runs)
				n = MIN(n, c->runs - found->schedules);
			if (!n)
				return 0;
			ret = batch(d, pool, level, (unsigned int)n, found);
			if (ret || found->verdict)
				return ret;
			if (c->progress)
				c->progress(c->progress_data, found->schedules);
		}
		free(q->v);
		*q = (struct queue){ 0 };
	}
	found->complete = !found->undecided;
	return 0;
}

static int dfs_init(struct dfs *d)
{
	struct item root = { .parent = NO_PARENT };

	/* Much more than there are without switches is more than enough. */
	d->max_steps = d->c->max_steps ? d->c->max_steps
				       : MIN(20 * uhmm__length_of(d->w) + 10000, DEFAULT_MAX_STEPS);
	d->shared = uhmm__shared_alloc(sizeof(*d->shared));
	d->items = uhmm__shared_alloc(MAX_BYTES);
	d->nodes = uhmm__shared_alloc(MAX_BYTES);
	d->turns = uhmm__shared_alloc(MAX_BYTES);
	d->queues = calloc(d->c->switches_bound + 1, sizeof(*d->queues));
	if (!d->shared || !d->items || !d->nodes || !d->turns || !d->queues ||
	    uhmm__table_init(&d->shared->states) || uhmm__table_init(&d->ends) || !push(d, 0, root))
		return -ENOMEM;
	atomic_store(&d->shared->found, UINT64_MAX);
	return 0;
}

static void dfs_exit(struct dfs *d)
{
	for (unsigned int i = 0; d->queues && i <= d->c->switches_bound; i++)
		free(d->queues[i].v);
	free(d->queues);
	if (d->shared)
		uhmm__table_exit(&d->shared->states);
	uhmm__table_exit(&d->ends);
	uhmm__shared_free(d->shared, sizeof(*d->shared));
	uhmm__shared_free(d->items, MAX_BYTES);
	uhmm__shared_free(d->nodes, MAX_BYTES);
	uhmm__shared_free(d->turns, MAX_BYTES);
}

int uhmm__explore_dfs(struct uhmm__world *w, const struct uhmm_explore_config *c,
		      unsigned int workers, struct uhmm__found *found)
{
	struct dfs d = { .w = w, .c = c };
	struct uhmm__pool *pool = NULL;
	int ret = dfs_init(&d);

	w->hash_ends = true;
	if (!ret)
		ret = uhmm__pool_create(workers, job, &d, &pool);
	if (!ret)
		ret = explore(&d, pool, found);
	uhmm__pool_destroy(pool);
	if (d.shared)
		found->states = d.shared->states.nr;
	found->ends = d.ends.nr;
	w->hash_ends = false;
	dfs_exit(&d);
	return ret;
}

#endif /* UHMM_CHECKED */
