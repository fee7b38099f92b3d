/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hmm.h - looking at, and faulting in, a range of CPU page tables on behalf of a device; and the
 * combined walker, which migrates in the same pass.
 */
#ifndef UHMM_HMM_H
#define UHMM_HMM_H

#include <uhmm/notifier.h>

UHMM_BEGIN_DECLS

struct uhmm_migrate_vma;

/*
 * Entries of hmm_range.hmm_pfns, as include/linux/hmm.h: a pfn, an order and flags.
 * On output VALID, WRITE and ERROR say what the CPU has; on input REQ_FAULT and REQ_WRITE, which
 * are the same bits, ask for it. MIGRATE and REQ_MIGRATE are those of the posted series "Migrate on
 * fault for device pages".
 */
#define UHMM_HMM_PFN_VALID (1UL << 63)
#define UHMM_HMM_PFN_WRITE (1UL << 62)
#define UHMM_HMM_PFN_ERROR (1UL << 61)
/* Kept from input to output; the caller's. */
#define UHMM_HMM_PFN_DMA_MAPPED (1UL << 60)
#define UHMM_HMM_PFN_P2PDMA (1UL << 59)
#define UHMM_HMM_PFN_P2PDMA_BUS (1UL << 58)
/* The page was collected for migration; alone: there is no page, but one may be put there. */
#define UHMM_HMM_PFN_MIGRATE (1UL << 57)
#define UHMM_HMM_PFN_ORDER_SHIFT 52
#define UHMM_HMM_PFN_ORDER_MASK (31UL << UHMM_HMM_PFN_ORDER_SHIFT)
#define UHMM_HMM_PFN_FLAGS                                                                         \
	(UHMM_HMM_PFN_VALID | UHMM_HMM_PFN_WRITE | UHMM_HMM_PFN_ERROR | UHMM_HMM_PFN_DMA_MAPPED |  \
	 UHMM_HMM_PFN_P2PDMA | UHMM_HMM_PFN_P2PDMA_BUS | UHMM_HMM_PFN_MIGRATE |                    \
	 UHMM_HMM_PFN_ORDER_MASK)

#define UHMM_HMM_PFN_REQ_FAULT UHMM_HMM_PFN_VALID
#define UHMM_HMM_PFN_REQ_WRITE UHMM_HMM_PFN_WRITE
/* default_flags only: migrate what range->migrate selects. */
#define UHMM_HMM_PFN_REQ_MIGRATE UHMM_HMM_PFN_MIGRATE

static inline uhmm_pfn_t uhmm_hmm_pfn_to_pfn(uint64_t hmm_pfn)
{
	return hmm_pfn & ~UHMM_HMM_PFN_FLAGS;
}

static inline unsigned int uhmm_hmm_pfn_to_map_order(uint64_t hmm_pfn)
{
	return (hmm_pfn & UHMM_HMM_PFN_ORDER_MASK) >> UHMM_HMM_PFN_ORDER_SHIFT;
}

/* Models: struct hmm_range. */
struct uhmm_hmm_range {
	size_t size; /* sizeof(struct uhmm_hmm_range) of the caller */
	struct uhmm_mmu_interval_notifier *notifier; /* of the mm; covers [start, end) */
	unsigned long notifier_seq;		     /* of read_begin */
	uhmm_vaddr_t start, end;		     /* page-aligned */
	uint64_t *hmm_pfns;			     /* in/out, one per page */
	uint64_t default_flags;			     /* UHMM_HMM_PFN_REQ_*, for every page */
	uint64_t pfn_flags_mask;		     /* which input flags of hmm_pfns count */
	void *dev_private_owner;		     /* owner whose device pages are not faulted */
	struct uhmm_migrate_vma *migrate;	     /* with REQ_MIGRATE, else NULL */
};

/**
 * uhmm_range_fault() - read, and fault in where asked, a range of CPU page tables
 * @range: range; hmm_pfns is input and output
 * Returns: 0;
 *	-EBUSY the range was invalidated since read_begin: begin again;
 *	-EFAULT a page asked for cannot be had (no VMA, no permission to read, device memory);
 *	-EPERM write access asked for in a read-only VMA;
 *	-ENOMEM a fault found no memory;
 *	-EINVAL bad arguments: range, array, flags, no notifier or one that does not watch all of the
 *	range, of which Linux takes no notice; with REQ_MIGRATE also no
 *	range->migrate, or a range that is not within one VMA.
 * On error, -EBUSY too, entries before the page that failed hold outputs, the others inputs: who uses
 * pfn_flags_mask writes the inputs again. With REQ_MIGRATE nothing stays collected, and all entries have
 * again what pfn_flags_mask counts of the inputs; then migrate->dst is written, on errors too.
 * Context: mmap_lock held for reading, and stays held; no other lock; sleeps; faults call
 * notifiers and drivers.
 * With REQ_MIGRATE the folios of all entries with MIGRATE and VALID are locked, referenced and
 * replaced by migration entries on return: go on with uhmm_migrate_hmm_range_setup() under the same
 * hold of mmap_lock.
 * Below a huge leaf all entries have order 9; with REQ_MIGRATE and SELECT_COMPOUND one that was
 * collected as a whole has its first entry alone, and that with MIGRATE and the order.
 * Models: mm/hmm.c:hmm_range_fault(), full but for hugetlb; the posted series for REQ_MIGRATE.
 */
UHMM_API int uhmm_range_fault(struct uhmm_hmm_range *range) UHMM_MUST_CHECK;

/**
 * uhmm_range_fault_unlocked_timeout() - the same, taking mmap_lock itself
 * @range: range; notifier_seq is output
 * @timeout_ns: give up after so long without progress, 0 = never
 * Returns: as uhmm_range_fault(), -EBUSY only after @timeout_ns; -EINTR the task was killed.
 * Context: mmap_lock not held; may be dropped and taken again while faulting. With REQ_MIGRATE it
 * is held for reading on success - the collected pages need it - and the caller drops it.
 * Models: hmm_range_fault_unlocked_timeout().
 */
UHMM_API int uhmm_range_fault_unlocked_timeout(struct uhmm_hmm_range *range,
					       uint64_t timeout_ns) UHMM_MUST_CHECK;

UHMM_END_DECLS

#endif /* UHMM_HMM_H */
