/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pcp.h - the free frames that a CPU has at hand; see frame.c. */
#ifndef UHMM_MM_PCP_H
#define UHMM_MM_PCP_H

#include "mm/frame.h"

enum { PCP_MAX = 1024 };

/* Free frames of one CPU: cpu->frames. [local lock of the CPU, but for what is of the zone] */
struct uhmm__pcp {
	uint32_t nr;
	uint32_t high;	/* [const] at most so many, up to PCP_MAX */
	uint32_t batch; /* words of a block's bitmap that the next refill takes */
	/* [zone] Blocks never used, which this CPU takes next: no two CPUs wait for the same host memory. */
	uint32_t fresh, fresh_end;
	uint32_t fresh_batch; /* [zone] how many there will be the next time */
	uint32_t pfn[PCP_MAX];
} __attribute__((aligned(128))); /* two lines: the prefetcher fetches pairs */

/* The descriptor of a free frame of RAM, whose flags are still to be set. Models: check_new_page(). */
uhmm_always_inline struct uhmm__frame *uhmm__new_frame(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = &m->vmemmap[pfn];

	UHMM_VM_BUG_ON(m, load_relaxed(&f->refcount) != 0);
	/* Only if somebody came to wait when it was free. Models: PAGE_FLAGS_CHECK_AT_PREP. */
	UHMM_VM_BUG_ON(m, folio_test(f, PG_WAITERS));
	return f;
}

/* Make a free frame of RAM an allocated one, frozen. Models: prep_new_page(). */
uhmm_always_inline struct uhmm__frame *uhmm__prep_new_folio(struct uhmm_machine *m, uhmm_pfn_t pfn,
							    bool zero)
{
	struct uhmm__frame *f = uhmm__new_frame(m, pfn);

	store_relaxed(&f->flags, (uint32_t)BIT(PG_SWAPBACKED));
	if (zero)
		uhmm__clear_ram_page(m, pfn);
	return f;
}

/* As uhmm__folio_alloc_frozen(), from this CPU's list alone and without sleeping. NULL: call that. */
uhmm_always_inline struct uhmm__frame *uhmm__folio_alloc_quick(struct uhmm_machine *m, bool zero)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct uhmm__pcp *pcp = cpu->frames;
	uhmm_pfn_t pfn;

	uhmm__spin_lock(&cpu->local);
	if (unlikely(!pcp->nr)) {
		uhmm__spin_unlock(&cpu->local);
		return NULL;
	}
	pfn = pcp->pfn[--pcp->nr];
	uhmm__spin_unlock(&cpu->local);
	return uhmm__prep_new_folio(m, pfn, zero);
}

/* uhmm__folio_alloc(). In the checked build always the long way: it tells the lock checker what may come. */
uhmm_always_inline struct uhmm__frame *folio_alloc(struct uhmm_machine *m, bool zero)
{
	struct uhmm__frame *f = NULL;

	if (likely(!UHMM_CHECKED && !load_relaxed(&m->inject_armed)))
		f = uhmm__folio_alloc_quick(m, zero);
	if (unlikely(!f)) {
		f = uhmm__folio_alloc_frozen(m, zero);
		if (!f)
			return NULL;
	}
	store_release(&f->refcount, 1);
	return f;
}

#endif /* UHMM_MM_PCP_H */
