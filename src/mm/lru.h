/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lru.h - the LRU batches of a CPU; see lru.c. */
#ifndef UHMM_MM_LRU_H
#define UHMM_MM_LRU_H

#include "mm/frame.h"

enum { LRU_BATCH = 31 };

/* [local lock of the CPU] */
struct lru_batch {
	_Atomic uint32_t nr; /* read without the lock to see that there is nothing to drain */
	uint32_t pfn[LRU_BATCH];
};

/* cpu->lru */
struct lru_batches {
	struct lru_batch add;
	struct lru_batch lazyfree;
};

/*
 * Empty a batch, with @lazyfree the one of MADV_FREE, and free what nobody else has.
 * Context: the CPU's local lock, which is dropped.
 */
void uhmm__lru_batch_move(struct uhmm_machine *m, struct uhmm__cpu *cpu, bool lazyfree);

/*
 * @lazyfree: into the batch of MADV_FREE. @at_once: a large folio does not wait, nor do those before
 * it. Context: the CPU's local lock, which is dropped.
 */
uhmm_always_inline void lru_batch_add_locked(struct uhmm_machine *m, struct uhmm__cpu *cpu,
					     uint32_t index, bool lazyfree, bool at_once)
{
	struct lru_batches *batches = cpu->lru;
	struct lru_batch *b = lazyfree ? &batches->lazyfree : &batches->add;
	uint32_t nr = load_relaxed(&b->nr);

	b->pfn[nr++] = index;
	store_relaxed(&b->nr, nr);
	if (unlikely(nr == LRU_BATCH || at_once)) {
		uhmm__lru_batch_move(m, cpu, lazyfree);
		return;
	}
	uhmm__spin_unlock(&cpu->local);
}

uhmm_always_inline void lru_batch_add(struct uhmm_machine *m, struct uhmm__frame *f, bool lazyfree,
				      bool at_once)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();

	uhmm__spin_lock(&cpu->local);
	lru_batch_add_locked(m, cpu, frame_index(m, f), lazyfree, at_once);
}

/* uhmm__folio_add_lru() of a folio that has these flags. */
uhmm_always_inline void folio_add_lru(struct uhmm_machine *m, struct uhmm__frame *f, uint32_t flags)
{
	folio_get(f);
	lru_batch_add(m, f, false, flags & FOLIO_ORDER_MASK);
}

/* As uhmm__folio_add_lru(), for a frozen folio, which has a reference of its owner's, too, from then on. */
uhmm_always_inline void folio_add_lru_new(struct uhmm_machine *m, struct uhmm__frame *f)
{
	store_release(&f->refcount, 2);
	lru_batch_add(m, f, false, false);
}

#endif /* UHMM_MM_LRU_H */
