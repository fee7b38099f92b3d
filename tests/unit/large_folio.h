/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* large_folio.h - a folio of any order, mapped by PTEs, as no fault makes one. */
#ifndef TESTS_UNIT_LARGE_FOLIO_H
#define TESTS_UNIT_LARGE_FOLIO_H

#include "mm/large.h"
#include "unit/inside.h"

/* A large folio at @addr, a PTE for each page. The i-th page holds i + 1. */
static inline struct uhmm__frame *map_large(uhmm_vaddr_t addr, unsigned int order)
{
	struct uhmm_vma *vma;
	struct uhmm__spinlock *ptl;
	struct uhmm__frame *folio;
	unsigned int n = 1U << order;
	ptent_t *pmdp, *ptep;

	map_fixed(f.mm, addr, n, RW);
	mmap_read_lock(f.mm);
	vma = uhmm__vma_lookup(f.mm, addr);
	expect_eq(uhmm__anon_vma_prepare(vma), 0);
	pmdp = uhmm__pmd_alloc(&f.mm->pgt, addr);
	expect_eq(uhmm__pte_alloc(&f.mm->pgt, pmdp), 0);
	folio = uhmm__folio_alloc_order(f.m, order, true);
	expect(folio);
	folio_set(folio, PG_UPTODATE);
	uhmm__folio_add_lru(f.m, folio);
	ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	expect(ptep);
	uhmm__folio_add_new_anon_rmap_ptes(folio, vma, addr);
	folio_ref_add(folio, n - 1);
	for (unsigned int i = 0; i < n; i++)
		set_pte(ptep + i, pte_set(pte_mk(frame_pfn(f.m, folio) + i, vma->page_prot),
					  PTE_RW | PTE_DIRTY));
	uhmm__pte_unmap_unlock(ptep, ptl);
	mmap_read_unlock(f.mm);
	for (unsigned int i = 0; i < n; i++)
		put_word(f.mm, addr + i * PAGE, i + 1);
	return folio;
}

#endif /* TESTS_UNIT_LARGE_FOLIO_H */
