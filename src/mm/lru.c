// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * LRU batches. A new folio first sits in a batch of its CPU, which holds a reference, and gets on
 * the LRU when the batch is drained. A folio that MADV_FREE marked waits in another batch, while it
 * is on the LRU all the time. Models: mm/folio.c:folio_batch_move_lru().
 *
 * The LRU itself has no list: PG_LRU says that a folio is on it. Reclaim scans frames by number.
 */
#include "mm/lru.h"

#include "core/alloc.h"
#include "mm/mm.h"
#include "mm/swap.h"

enum { MAX_DEAD = 2 * LRU_BATCH };

int uhmm__lru_init(struct uhmm_machine *m)
{
	for (unsigned int i = 0; i < m->config.nr_cpus; i++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, i);

		cpu->lru = uhmm__alloc_aligned(m, 64, sizeof(struct lru_batches));
		if (!cpu->lru)
			return -ENOMEM;
	}
	return 0;
}

void uhmm__lru_exit(struct uhmm_machine *m)
{
	for (unsigned int i = 0; i < m->config.nr_cpus; i++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, i);

		uhmm__free(m, cpu->lru, sizeof(struct lru_batches));
		cpu->lru = NULL;
	}
}

static bool batches_empty(const struct lru_batches *b)
{
	return !load_relaxed(&b->add.nr) && !load_relaxed(&b->lazyfree.nr);
}

/* Nobody needs its contents unless it is written again. Models: lru_lazyfree(). */
static void make_lazyfree(struct uhmm_machine *m, struct uhmm__frame *f)
{
	/* Somebody has isolated it meanwhile: then it stays as it is. */
	if (!folio_test_clear(f, PG_LRU))
		return;
	if (folio_test_anon(f) && folio_test(f, PG_SWAPBACKED) && !folio_test(f, PG_SWAPCACHE)) {
		folio_clear(f, PG_SWAPBACKED);
		folio_clear(f, PG_ACTIVE);
		folio_clear(f, PG_REFERENCED);
		atomic_fetch_add_explicit(&m->reclaim->lazyfree, 1, memory_order_relaxed);
	}
	folio_set(f, PG_LRU);
}

/*
 * Empty a batch, with @lazyfree the one of MADV_FREE. A folio whose last reference was the batch's
 * goes to @dead: freeing takes the local lock, so that is left to the caller. Returns how many.
 * Context: the CPU's local lock.
 */
uhmm_always_inline unsigned int batch_move(struct uhmm_machine *m, struct lru_batch *b,
					   bool lazyfree, uint32_t *dead)
{
	uint32_t nr = load_relaxed(&b->nr);
	unsigned int nr_dead = 0;

	if (!nr)
		return 0;
	for (uint32_t i = 0; i < nr; i++) {
		struct uhmm__frame *f = &m->vmemmap[b->pfn[i]];

		if (lazyfree)
			make_lazyfree(m, f);
		/* One that is on the LRU gets into no batch of new folios. Models: lru_add(). */
		if (lazyfree ? folio_put_testzero(f) : folio_set_put_testzero(f, PG_LRU))
			dead[nr_dead++] = b->pfn[i];
	}
	store_relaxed(&b->nr, 0);
	uhmm__count(UHMM_CNT_LRU_DRAIN);
	return nr_dead;
}

/* Both batches of a CPU. @dead: room for MAX_DEAD. Context: its local lock. */
uhmm_always_inline unsigned int batches_move(struct uhmm_machine *m, struct lru_batches *b,
					     uint32_t *dead)
{
	unsigned int nr = batch_move(m, &b->add, false, dead);

	return nr + batch_move(m, &b->lazyfree, true, dead + nr);
}

static void free_dead(struct uhmm_machine *m, const uint32_t *dead, unsigned int nr)
{
	if (unlikely(nr))
		uhmm__folios_free(m, dead, nr);
}

void uhmm_noinline uhmm__lru_batch_move(struct uhmm_machine *m, struct uhmm__cpu *cpu,
					bool lazyfree)
{
	struct lru_batches *b = cpu->lru;
	uint32_t dead[LRU_BATCH];
	unsigned int nr_dead;

	nr_dead = lazyfree ? batch_move(m, &b->lazyfree, true, dead)
			   : batch_move(m, &b->add, false, dead);
	uhmm__spin_unlock(&cpu->local);
	free_dead(m, dead, nr_dead);
}

void uhmm__folio_add_lru(struct uhmm_machine *m, struct uhmm__frame *f)
{
	folio_add_lru(m, f, load_relaxed(&f->flags));
}

void uhmm__folio_add_lru_new(struct uhmm_machine *m, struct uhmm__frame *f)
{
	folio_add_lru_new(m, f);
}

void uhmm__folio_mark_lazyfree(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (!folio_test_anon(f) || !folio_test(f, PG_SWAPBACKED) || !folio_test(f, PG_LRU))
		return;
	folio_get(f);
	lru_batch_add(m, f, true, folio_test_large(f));
}

void uhmm__lru_add_drain(struct uhmm_machine *m)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct lru_batches *b = cpu->lru;
	uint32_t dead[MAX_DEAD];
	unsigned int nr_dead;

	/* Only tasks of this CPU add to its batches: what another adds now came later. */
	if (batches_empty(b))
		return;
	uhmm__spin_lock(&cpu->local);
	nr_dead = batches_move(m, b, dead);
	uhmm__spin_unlock(&cpu->local);
	free_dead(m, dead, nr_dead);
}

struct drain_all {
	struct uhmm_machine *m;
	struct uhmm__spinlock lock;
	unsigned int nr_dead;
	uint32_t dead[UHMM_MAX_CPUS * MAX_DEAD];
};

/* Runs on each CPU with its local lock held. */
static void drain_cpu(struct uhmm__cpu *cpu, void *arg)
{
	struct drain_all *d = arg;
	struct lru_batches *b = cpu->lru;
	uint32_t dead[MAX_DEAD];
	unsigned int nr;

	if (batches_empty(b))
		return;
	nr = batches_move(d->m, b, dead);
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

static void for_each_in(const struct lru_batch *b, uhmm__pfn_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < load_relaxed(&b->nr); i++)
		fn(arg, b->pfn[i]);
}

void uhmm__lru_for_each_batched(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg)
{
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		const struct lru_batches *b = uhmm__cpu(m, c)->lru;

		for_each_in(&b->add, fn, arg);
	}
}

void uhmm__lru_for_each_lazyfree(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg)
{
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		const struct lru_batches *b = uhmm__cpu(m, c)->lru;

		for_each_in(&b->lazyfree, fn, arg);
	}
}
