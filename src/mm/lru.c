// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * LRU batches. A new folio first sits in a batch of its CPU, which holds a reference, and gets on
 * the LRU when the batch is drained. Models: mm/swap.c folio_batch_move_lru().
 *
 * The LRU itself has no list: PG_LRU says that a folio is on it. Reclaim scans frames by number.
 */
#include "core/alloc.h"
#include "mm/frame.h"
#include "mm/mm.h"

enum { BATCH = 31 };

/* [local lock of the CPU] */
struct lru_batch {
	_Atomic uint32_t nr; /* read without the lock to see that there is nothing to drain */
	uint32_t pfn[BATCH];
};

int uhmm__lru_init(struct uhmm_machine *m)
{
	for (unsigned int i = 0; i < m->config.nr_cpus; i++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, i);

		cpu->lru = uhmm__alloc_aligned(m, 64, sizeof(struct lru_batch));
		if (!cpu->lru)
			return -ENOMEM;
	}
	return 0;
}

void uhmm__lru_exit(struct uhmm_machine *m)
{
	for (unsigned int i = 0; i < m->config.nr_cpus; i++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, i);

		uhmm__free(m, cpu->lru, sizeof(struct lru_batch));
		cpu->lru = NULL;
	}
}

/*
 * Move a batch to the LRU. A folio whose last reference was the batch's goes to @dead: freeing
 * takes the local lock, so that is left to the caller.
 * Context: the CPU's local lock.
 */
static unsigned int batch_move(struct uhmm_machine *m, struct lru_batch *b, uint32_t *dead)
{
	unsigned int nr_dead = 0;

	uint32_t nr = load_relaxed(&b->nr);

	for (uint32_t i = 0; i < nr; i++) {
		struct uhmm__frame *f = &m->vmemmap[b->pfn[i]];

		folio_set(f, PG_LRU);
		if (folio_put_testzero(f))
			dead[nr_dead++] = b->pfn[i];
	}
	store_relaxed(&b->nr, 0);
	uhmm__count(UHMM_CNT_LRU_DRAIN);
	return nr_dead;
}

static void free_dead(struct uhmm_machine *m, const uint32_t *dead, unsigned int nr)
{
	uhmm__folios_free(m, dead, nr);
}

static void batch_add(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct lru_batch *b = cpu->lru;
	uint32_t dead[BATCH], nr;
	unsigned int nr_dead = 0;

	uhmm__spin_lock(&cpu->local);
	nr = load_relaxed(&b->nr);
	b->pfn[nr++] = frame_index(m, f);
	store_relaxed(&b->nr, nr);
	if (unlikely(nr == BATCH))
		nr_dead = batch_move(m, b, dead);
	uhmm__spin_unlock(&cpu->local);
	if (unlikely(nr_dead))
		free_dead(m, dead, nr_dead);
}

void uhmm__folio_add_lru(struct uhmm_machine *m, struct uhmm__frame *f)
{
	folio_get(f);
	batch_add(m, f);
}

void uhmm__folio_add_lru_new(struct uhmm_machine *m, struct uhmm__frame *f)
{
	store_relaxed(&f->refcount, 2);
	batch_add(m, f);
}

void uhmm__lru_add_drain(struct uhmm_machine *m)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct lru_batch *b = cpu->lru;
	uint32_t dead[BATCH];
	unsigned int nr_dead = 0;

	/* Only tasks of this CPU add to its batch: what another adds now came later. */
	if (!load_relaxed(&b->nr))
		return;
	uhmm__spin_lock(&cpu->local);
	if (load_relaxed(&b->nr))
		nr_dead = batch_move(m, b, dead);
	uhmm__spin_unlock(&cpu->local);
	free_dead(m, dead, nr_dead);
}

struct drain_all {
	struct uhmm_machine *m;
	struct uhmm__spinlock lock;
	unsigned int nr_dead;
	uint32_t dead[UHMM_MAX_CPUS * BATCH];
};

/* Runs on each CPU with its local lock held. */
static void drain_cpu(struct uhmm__cpu *cpu, void *arg)
{
	struct drain_all *d = arg;
	struct lru_batch *b = cpu->lru;
	uint32_t dead[BATCH];
	unsigned int nr;

	if (!load_relaxed(&b->nr))
		return;
	nr = batch_move(d->m, b, dead);
	uhmm__spin_lock(&d->lock);
	for (unsigned int i = 0; i < nr; i++)
		d->dead[d->nr_dead++] = dead[i];
	uhmm__spin_unlock(&d->lock);
}

void uhmm__lru_add_drain_all(struct uhmm_machine *m)
{
	struct drain_all d;

	d.m = m;
	d.nr_dead = 0;
	uhmm__spin_init(&d.lock, UHMM__LC_LRU_DRAIN);
	uhmm__count(UHMM_CNT_LRU_DRAIN_ALL);
	uhmm__on_each_cpu(m, drain_cpu, &d);
	free_dead(m, d.dead, d.nr_dead);
}

bool uhmm__folio_isolate_lru(struct uhmm__frame *f)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	return folio_test_clear(f, PG_LRU);
}

void uhmm__lru_for_each_batched(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg)
{
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		const struct lru_batch *b = uhmm__cpu(m, c)->lru;

		for (uint32_t i = 0; i < load_relaxed(&b->nr); i++)
			fn(arg, b->pfn[i]);
	}
}
