/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* map_large.h - a folio of any order, mapped by PTEs, as no fault makes one. */
#ifndef TESTS_MAP_LARGE_H
#define TESTS_MAP_LARGE_H

#include "fixture.h"
#include "mm/large.h"
#include "mm/mm.h"

/* A new mapping at @addr of a large folio, a PTE for each page; their contents are undefined. */
static inline struct uhmm__frame *map_large_folio(struct uhmm_mm *mm, uhmm_vaddr_t addr,
						  unsigned int order)
{
	struct uhmm_machine *m = mm->machine;
	struct uhmm_vma *vma;
	struct uhmm__spinlock *ptl;
	struct uhmm__frame *folio;
	unsigned int n = 1U << order;
	ptent_t *pmdp, *ptep;

	map_fixed(mm, addr, n, RW);
	mmap_read_lock(mm);
	vma = uhmm__vma_lookup(mm, addr);
	expect_eq(uhmm__anon_vma_prepare(vma), 0);
	pmdp = uhmm__pmd_alloc(&mm->pgt, addr);
	expect_eq(uhmm__pte_alloc(&mm->pgt, pmdp), 0);
	folio = uhmm__folio_alloc_order(m, order, true);
	expect(folio);
	folio_set(folio, PG_UPTODATE);
	uhmm__folio_add_lru(m, folio);
	ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	expect(ptep);
	uhmm__folio_add_new_anon_rmap_ptes(folio, vma, addr);
	folio_ref_add(folio, n - 1);
	for (unsigned int i = 0; i < n; i++)
		set_pte(ptep + i, pte_set(pte_mk(frame_pfn(m, folio) + i, vma->page_prot),
					  PTE_RW | PTE_DIRTY));
	uhmm__pte_unmap_unlock(ptep, ptl);
	mmap_read_unlock(mm);
	return folio;
}

#endif /* TESTS_MAP_LARGE_H */
