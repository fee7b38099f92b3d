/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* combined.h - a combined walk under way: its first walk is in combined.c, what may follow in combined_more.c. */
#ifndef UHMM_HMM_COMBINED_H
#define UHMM_HMM_COMBINED_H

#include "hmm/range.h"

struct uhmm__combined {
	struct uhmm__hmm_walk w;
	struct uhmm_migrate_vma *migrate;
	struct uhmm_vma *vma;
	struct uhmm__frame *fault_folio;
	struct uhmm_mmu_notifier_range notify;
	bool incomplete; /* an entry was reported that is not frozen */
	bool again;	 /* outputs of an earlier walk stand in all entries */
	bool blank; /* no page asks for anything, and from w.last on anything may stand there */
	struct uhmm__frame *split; /* WALK_SPLIT: with a reference */
	uhmm_vaddr_t whole_until;  /* before it large folios stay as they are: a split failed */
	uhmm_vaddr_t fault_at; /* WALK_FAULT, WALK_WOULD_WAIT: the page; the walk goes on at w.last */
	uint64_t run_bits; /* of a present entry that collect_exclusive() may take, in run_mask */
	uint64_t run_mask;
};

uhmm_always_inline uint64_t *slot(struct uhmm__combined *c, uhmm_vaddr_t addr)
{
	return &c->w.range->hmm_pfns[(addr - c->w.range->start) >> UHMM_PAGE_SHIFT];
}

uhmm_always_inline bool is_collected(uint64_t hmm_pfn)
{
	const uint64_t both = UHMM_HMM_PFN_VALID | UHMM_HMM_PFN_MIGRATE;

	return (hmm_pfn & both) == both;
}

uhmm_always_inline void put_out(uint64_t *hmm_pfn, uint64_t out)
{
	*hmm_pfn = (*hmm_pfn & HMM_PFN_INOUT_FLAGS) | out;
}

static inline enum uhmm__walk_result stop(struct uhmm__combined *c, uhmm_vaddr_t addr,
					  enum uhmm__walk_result why)
{
	c->w.last = addr;
	c->fault_at = addr;
	return why;
}

static inline enum uhmm__walk_result fail(struct uhmm__combined *c, uhmm_vaddr_t addr, int err)
{
	c->w.err = err;
	return stop(c, addr, WALK_ERROR);
}

/* A walk from the first entry on. -EBUSY: the sequence has moved. */
uhmm_always_inline int begin_walk(struct uhmm__combined *c, bool sequenced)
{
	struct uhmm_hmm_range *range = c->w.range;

	c->w.last = range->start;
	c->incomplete = false;
	c->again = false;
	c->whole_until = 0;
	if (sequenced && unlikely(uhmm__interval_check_retry(range->notifier, range->notifier_seq)))
		return -EBUSY;
	uhmm__count(UHMM_CNT_WALKS);
	return 0;
}

/* From c->w.last on; where it ends is there. */
enum uhmm__walk_result uhmm__combined_walk_on(struct uhmm__combined *c);

/* Keep what the pages ask for, each for itself: the walk's outputs take its place. */
void uhmm__combined_save_requests(struct uhmm__combined *c);

/* The walk stopped with @ret: fault and walk on, until that is something that is not for a fault. */
enum uhmm__walk_result uhmm__combined_fault(struct uhmm__combined *c, enum uhmm__walk_result ret);

/* The first walk ended with @ret, and that is not all: 0, -errno; see uhmm__range_fault_migrate(). */
int uhmm__combined_more(struct uhmm__combined *c, enum uhmm__walk_result ret, bool sequenced,
			bool *locked);

#endif /* UHMM_HMM_COMBINED_H */
