/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* range.h - what the two range walkers share. */
#ifndef UHMM_HMM_RANGE_H
#define UHMM_HMM_RANGE_H

#include <uhmm/hmm.h>
#include <uhmm/migrate.h>

#include "mm/mm.h"
#include "mm/zone_device.h"

#define HMM_PFN_INOUT_FLAGS                                                                        \
	(UHMM_HMM_PFN_DMA_MAPPED | UHMM_HMM_PFN_P2PDMA | UHMM_HMM_PFN_P2PDMA_BUS)

enum {
	HMM_NEED_FAULT = 1 << 0,
	HMM_NEED_WRITE_FAULT = 1 << 1,
};

/* How a step of a walk ended. Private: never an errno. */
enum uhmm__walk_result {
	WALK_OK,
	WALK_ERROR,	 /* w->err */
	WALK_FAULT,	 /* fault [w->last, w->end) in, then go on at w->last */
	WALK_WAITED,	 /* an entry was waited for: go on at w->last */
	WALK_WOULD_WAIT, /* combined: an entry must be waited for, see w->last */
	WALK_SPLIT,	 /* combined: a large folio must be split first, at w->last */
};

struct uhmm__hmm_walk {
	struct uhmm_hmm_range *range;
	struct uhmm_mm *mm;
	uhmm_vaddr_t last; /* entries before it hold outputs */
	uhmm_vaddr_t end;  /* WALK_FAULT: where the part to be faulted ends */
	unsigned int need; /* WALK_FAULT: HMM_NEED_* */
	int err;
	bool *locked; /* unlocked form: cleared when mmap_lock was dropped; else NULL */
};

/* What a request for one page needs, given what the CPU has. Models: hmm_pte_need_fault(). */
static inline unsigned int hmm_need_fault(const struct uhmm_hmm_range *range, uint64_t req,
					  uint64_t cpu_flags)
{
	req = (req & range->pfn_flags_mask) | range->default_flags;
	if (!(req & UHMM_HMM_PFN_REQ_FAULT))
		return 0;
	if (req & UHMM_HMM_PFN_REQ_WRITE && !(cpu_flags & UHMM_HMM_PFN_WRITE))
		return HMM_NEED_FAULT | HMM_NEED_WRITE_FAULT;
	return cpu_flags & UHMM_HMM_PFN_VALID ? 0 : HMM_NEED_FAULT;
}

/*
 * What a request needs of a page of the caller's own that is mapped read-only: nothing, even for
 * writing, unless the machine is one that was mended.
 */
static inline unsigned int hmm_need_own_readonly(const struct uhmm_machine *m,
						 const struct uhmm_hmm_range *range, uint64_t req)
{
	if (likely(m->config.device_private_write == UHMM_DEVICE_WRITE_AS_IS))
		return 0;
	return hmm_need_fault(range, req, UHMM_HMM_PFN_VALID);
}

/* The same of a huge leaf, whose pages are asked for one by one. */
unsigned int uhmm__hmm_need_own_readonly_pmd(const struct uhmm_machine *m,
					     const struct uhmm_hmm_range *range, uhmm_vaddr_t addr,
					     uhmm_vaddr_t end, pte_t pmd);

/* No page of the range can ask for a fault. */
static inline bool hmm_never_faults(const struct uhmm_hmm_range *range)
{
	return !((range->default_flags | range->pfn_flags_mask) & UHMM_HMM_PFN_REQ_FAULT);
}

/* Flags of a present entry. */
static inline uint64_t hmm_pte_flags(pte_t pte)
{
	if (unlikely(pte_protnone(pte)))
		return 0;
	return UHMM_HMM_PFN_VALID | carry_bit(pte.val, PTE_RW, UHMM_HMM_PFN_WRITE);
}

/* Flags of a present huge leaf. Models: pmd_to_hmm_pfn_flags(). */
static inline uint64_t hmm_pmd_flags(pte_t pmd)
{
	uint64_t flags = hmm_pte_flags(pmd);

	return flags ? flags | (uint64_t)UHMM_PMD_ORDER << UHMM_HMM_PFN_ORDER_SHIFT : 0;
}

/* The same of one that is the device's own. */
static inline uint64_t hmm_private_pmd_flags(pte_t pmd)
{
	return UHMM_HMM_PFN_VALID | (uint64_t)UHMM_PMD_ORDER << UHMM_HMM_PFN_ORDER_SHIFT |
	       (leaf_type(pmd) == LEAF_DEVICE_PRIVATE_WRITE ? UHMM_HMM_PFN_WRITE : 0);
}

/*
 * Whether a migration selects the page of a present entry: RAM, or its owner's coherent memory. @flags: of
 * its folio.
 */
static inline bool uhmm__select_present(const struct uhmm_migrate_vma *mig,
					struct uhmm__frame *page, uint32_t flags)
{
	struct uhmm_machine *m;

	if (likely(!(flags & FOLIO_ZONE_DEVICE)))
		return mig->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM;
	m = mig->vma->mm->machine;
	return mig->flags & UHMM_MIGRATE_VMA_SELECT_DEVICE_COHERENT &&
	       page_pgmap(m, frame_pfn(m, page))->owner == mig->pgmap_owner;
}

/* 0, or -EINVAL; bad arguments of either walker. */
int uhmm__hmm_range_check(const struct uhmm_hmm_range *range);
/* What the pages of a part ask for, all of which have the same flags (0: no entries). */
unsigned int uhmm__hmm_range_need_fault(const struct uhmm_hmm_range *range, uhmm_vaddr_t start,
					uhmm_vaddr_t end, uint64_t cpu_flags);
void uhmm__hmm_pfns_fill(const struct uhmm_hmm_range *range, uhmm_vaddr_t start, uhmm_vaddr_t end,
			 uint64_t flags);

/*
 * Walk, fault, walk again, until done. Context: mmap_lock for reading.
 * @again: the caller's walk was begun before: count a restart.
 * Returns: 0, -errno; *locked false: mmap_lock was dropped.
 */
int uhmm__range_fault_locked(struct uhmm_hmm_range *range, bool *locked, bool again);

/*
 * The combined walker. @sequenced: range->notifier and notifier_seq count; else (migrate_vma_setup)
 * there is no sequence to watch. @locked: NULL, or mmap_lock may be dropped, for a userfaultfd; and a new
 * sequence is taken when it has moved, rather than -EBUSY. @left: NULL, or no page asks for anything by itself,
 * whatever stands in hmm_pfns; (out, on success) pages were reported that were not collected.
 * Returns: 0, -errno; *locked false: mmap_lock was dropped, and it is -EBUSY, or -EINTR.
 */
int uhmm__range_fault_migrate(struct uhmm_hmm_range *range, struct uhmm_mm *mm, bool sequenced,
			      bool *locked, bool *left);

/* uhmm_range_fault_unlocked_timeout(). @left: as above, of a walk that migrates. */
int uhmm__range_fault_unlocked(struct uhmm_hmm_range *range, uint64_t timeout_ns, bool *left);

#endif /* UHMM_HMM_RANGE_H */
