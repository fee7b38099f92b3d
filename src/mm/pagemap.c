// SPDX-License-Identifier: LGPL-2.1-or-later
/* /proc/PID/pagemap. Models: fs/proc/task_mmu.c:pagemap_read() and pte_to_pagemap_entry(). */
#include "mm/huge.h"

enum {
	SWAP_TYPE_BITS = 5, /* of an entry that is not present: its type, below its offset */
};

/* Models: pte_to_pagemap_entry(), with the right to see frame numbers. */
static uint64_t pagemap_entry(struct uhmm_machine *m, pte_t pte)
{
	struct uhmm__frame *page = NULL;
	uint64_t out;

	if (pte_none(pte))
		return 0;
	if (pte_present(pte)) {
		out = UHMM_PM_PRESENT | pte_pfn(pte);
		if (pte.val & PTE_SOFT_DIRTY)
			out |= UHMM_PM_SOFT_DIRTY;
		if (pte.val & PTE_UFFD_WP)
			out |= UHMM_PM_UFFD_WP;
		page = vm_normal_page(m, pte);
		/* The one bit that asks for the number of mappings, and only of present pages. */
		if (page && folio_precise_page_mapcount(page_folio(page), page) == 1)
			out |= UHMM_PM_MMAP_EXCLUSIVE;
	} else {
		bool has_pfn = leaf_has_pfn(pte);
		uint64_t offset = has_pfn ? leaf_pfn(pte) : leaf_offset(pte);

		out = (pte.val >> LEAF_TYPE_SHIFT | offset << SWAP_TYPE_BITS) & UHMM_PM_PFN_MASK;
		out |= UHMM_PM_SWAP;
		if (pte.val & LEAF_SOFT_DIRTY)
			out |= UHMM_PM_SOFT_DIRTY;
		if (pte.val & LEAF_UFFD_WP || leaf_is_marker(pte, MARKER_UFFD_WP))
			out |= UHMM_PM_UFFD_WP;
		if (leaf_is_marker(pte, MARKER_GUARD))
			out |= UHMM_PM_GUARD_REGION;
		if (has_pfn)
			page = pfn_to_frame(m, leaf_pfn(pte));
	}
	if (page && !folio_test_anon(page_folio(page)))
		out |= UHMM_PM_FILE;
	return out;
}

/* Pages of a huge leaf, from the @first on. Models: pagemap_pmd_range_thp(). */
static void pagemap_huge(struct uhmm_machine *m, pte_t pmd, uint64_t first, uint64_t npages,
			 uint64_t *out)
{
	struct uhmm__frame *f = pmd_folio(m, pmd);

	for (uint64_t i = 0; i < npages; i++) {
		out[i] = pagemap_entry(m, pmd_page_entry(pmd, first + i));
		/* Asked of the first page for all; and the huge zero page is no normal page. */
		out[i] &= ~(UHMM_PM_MMAP_EXCLUSIVE | (f ? 0 : UHMM_PM_FILE));
		if (f && pte_present(pmd) && folio_precise_page_mapcount(f, f) == 1)
			out[i] |= UHMM_PM_MMAP_EXCLUSIVE;
	}
}

/*
 * The part of one PTE table. Entries lie in VMAs only, so VMAs need not be looked at.
 * Context: mmap_lock for reading.
 */
static void pagemap_pmd_range(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t npages, uint64_t *out)
{
	struct uhmm__spinlock *ptl = NULL;
	ptent_t *pmdp, *start_pte = NULL;
	unsigned int level;

	pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);
	if (pmdp && pmd_is_leaf(pmdp_get(pmdp)) && (ptl = uhmm__pmd_leaf_lock(pmdp))) {
		pagemap_huge(mm->machine, ptep_get(pmdp), table_index(addr, 1), npages, out);
		uhmm__spin_unlock(ptl);
		return;
	}
	if (pmdp)
		start_pte = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	for (uint64_t i = 0; i < npages; i++)
		out[i] = start_pte ? pagemap_entry(mm->machine, ptep_get(start_pte + i)) : 0;
	if (!start_pte)
		return;
	uhmm__pte_unmap_unlock(start_pte, ptl);
	uhmm__count_n(UHMM_CNT_READ_PTE, npages);
}

int uhmm_pagemap(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t npages, uint64_t *out)
{
	uhmm_vaddr_t end, next;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK || addr > UHMM_TASK_SIZE ||
	    npages > (UHMM_TASK_SIZE - addr) >> UHMM_PAGE_SHIFT)
		return -EINVAL;
	end = addr + (npages << UHMM_PAGE_SHIFT);
	for (; addr < end; addr = next) {
		next = level_addr_end(addr, end, 2);
		/* Dropped after each table, as the kernel does: a writer need not wait long. */
		mmap_read_lock(mm);
		pagemap_pmd_range(mm, addr, (next - addr) >> UHMM_PAGE_SHIFT, out);
		mmap_read_unlock(mm);
		out += (next - addr) >> UHMM_PAGE_SHIFT;
		uhmm__cond_resched();
	}
	uhmm__exit_to_user();
	return 0;
}
