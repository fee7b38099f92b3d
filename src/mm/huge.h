/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * huge.h - huge pages: PMD entries that map 2 MiB at once, and splitting them and their folios.
 * Models: mm/huge_memory.c.
 *
 * Two things are called splitting. Splitting a PMD replaces one entry by a page table that maps the
 * same folio page by page; it cannot fail. Splitting a folio makes single pages of it; for that it is
 * unmapped everywhere, and fails if anybody else has a reference.
 */
#ifndef UHMM_MM_HUGE_H
#define UHMM_MM_HUGE_H

#include "mm/large.h"
#include "mm/mm.h"

static inline bool is_huge_zero_pmd(struct uhmm_machine *m, pte_t pmd)
{
	return pmd_trans_huge(pmd) && pte_pfn(pmd) == load_relaxed(&m->huge_zero_pfn);
}

static inline bool is_huge_zero_folio(struct uhmm_machine *m, struct uhmm__frame *f)
{
	return frame_pfn(m, f) == load_relaxed(&m->huge_zero_pfn);
}

/* The folio that a PMD leaf maps or stands for; NULL for the huge zero page. */
static inline struct uhmm__frame *pmd_folio(struct uhmm_machine *m, pte_t pmd)
{
	if (!pte_present(pmd))
		return pfn_to_frame(m, leaf_pfn(pmd));
	return is_huge_zero_pmd(m, pmd) ? NULL : pfn_to_frame(m, pte_pfn(pmd));
}

/* A present leaf for a folio. */
static inline pte_t pmd_mk(uhmm_pfn_t pfn, uint64_t page_prot)
{
	return pte_set(pte_mk(pfn, page_prot), PTE_PSE);
}

/* The PMD entry of an address if it is a leaf, else NULL. */
static inline ptent_t *pmd_leaf_offset(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr)
{
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(pgt, addr, &level);

	return pmdp && pmd_is_leaf(pte_make(load_acquire(pmdp))) ? pmdp : NULL;
}

/* ---- PMD entries (huge_pmd.c) ---- */

/*
 * Replace a leaf by a table. @freeze: by migration entries if it can be, and drop the mapping's
 * reference. Context: PMD lock. Models: split_huge_pmd_locked().
 */
void uhmm__split_huge_pmd_locked(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t haddr,
				 bool freeze);
/* The same with notifier and lock; nothing if it is no leaf. Models: __split_huge_pmd(). */
void uhmm__split_huge_pmd(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t addr, bool freeze);
void uhmm__split_huge_pmd_address(struct uhmm_vma *vma, uhmm_vaddr_t addr, bool freeze);
/* @addr is about to become a boundary of the VMA. Models: split_huge_pmd_if_needed(). */
void uhmm__vma_adjust_trans_huge(struct uhmm_vma *vma, uhmm_vaddr_t addr);

/* Lock a leaf; NULL if it is none any more. Models: pmd_trans_huge_lock(). */
struct uhmm__spinlock *uhmm__pmd_leaf_lock(ptent_t *pmdp);

/* Models: copy_huge_pmd(). 0; -ENOMEM; -EAGAIN it is a table now. */
int uhmm__copy_huge_pmd(struct uhmm_vma *dst, struct uhmm_vma *src, ptent_t *src_pmd,
			uhmm_vaddr_t addr);
/* False: it did not move. Models: move_huge_pmd(). */
bool uhmm__move_huge_pmd(struct uhmm_mm *mm, ptent_t *old_pmd, uhmm_vaddr_t old, ptent_t *new_pmd);

/*
 * Replace a leaf by a migration entry; the mapping's reference is dropped. False: it may be pinned.
 * Context: PMD lock, folio locked and referenced. Models: set_pmd_migration_entry().
 */
bool uhmm__set_pmd_migration_entry(struct uhmm_vma *vma, uhmm_vaddr_t haddr, ptent_t *pmdp);
/* And back, by a mapping of @dst. Models: remove_migration_pmd(). */
void uhmm__remove_migration_pmd(struct uhmm_vma *vma, ptent_t *pmdp, struct uhmm__frame *dst);

/* ---- faults (huge_fault.c) ---- */

/*
 * A fault where no page table is: @pmd is none or a leaf. Returns: VM_FAULT_*; FALLBACK: go on with
 * pages. Models: the PMD part of __handle_mm_fault().
 */
int uhmm__huge_fault(struct uhmm__fault *vmf, pte_t pmd);
/* Sleep until a PMD migration entry is gone. Models: pmd_migration_entry_wait(). */
void uhmm__pmd_migration_entry_wait(struct uhmm_mm *mm, ptent_t *pmdp);

/* ---- folios (split.c) ---- */

/*
 * Make pages of a large folio. It is locked, and the caller's reference and lock are the head's
 * afterwards. 0; -EAGAIN somebody has a reference; -EBUSY. Context: sleeps. Models: split_folio().
 */
int uhmm__split_folio(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * The same, but pages of zeroes stay pages: Linux swaps a huge page out whole. The pages are on the
 * LRU if it was.
 */
int uhmm__split_folio_for_swap(struct uhmm_machine *m, struct uhmm__frame *f);
/* The same as the first, with the lock and the reference left on @page's folio. */
int uhmm__split_folio_at(struct uhmm_machine *m, struct uhmm__frame *f, struct uhmm__frame *page);
/*
 * One that is unmapped and isolated: nothing is mapped again, all pages stay locked with a reference.
 * Models: folio_split_unmapped().
 */
int uhmm__split_folio_unmapped(struct uhmm_machine *m, struct uhmm__frame *f);
/* Split what the list of partly mapped folios has. Returns: how many. Models: deferred_split_scan(). */
uint64_t uhmm__deferred_split_scan(struct uhmm_machine *m);

/* ---- collapsing (collapse.c) ---- */

/* Models: madvise_collapse(). Takes mmap_lock. */
int uhmm__madvise_collapse(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end);

#endif /* UHMM_MM_HUGE_H */
