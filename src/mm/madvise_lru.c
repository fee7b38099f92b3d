// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Advice about pages that are not needed soon. Models: mm/madvise.c: MADV_COLD and MADV_PAGEOUT.
 * Pages of devices are let alone by both.
 */
#include "mm/swap.h"

/* One table's part of a walk. */
struct advice {
	struct uhmm_vma *vma;
	bool pageout;
	bool flush; /* young bits were cleared */
	unsigned int nr;
	uint32_t pfn[UHMM_PTRS_PER_TABLE]; /* isolated: RAM */
};

static bool may_advise(const struct uhmm_vma *vma)
{
	return !(vma->flags & (UHMM_VM_LOCKED | UHMM_VM_PFNMAP));
}

/* The folio that an entry maps, NULL if the advice is not for such. */
static struct uhmm__frame *folio_of(struct advice *a, pte_t pte)
{
	struct uhmm__frame *page;

	if (!pte_present(pte))
		return NULL;
	page = vm_normal_page(a->vma->mm->machine, pte);
	if (!page || folio_is_zone_device(page_folio(page)))
		return NULL;
	/* Pages of files are not reclaimed. */
	if (a->pageout && !folio_test_anon(page_folio(page)))
		return NULL;
	return page_folio(page);
}

static void make_old(struct advice *a, ptent_t *ptep, pte_t pte)
{
	if (!pte_young(pte))
		return;
	set_pte(ptep, pte_clear_bits(pte, PTE_ACCESSED));
	a->flush = true;
}

/* Models: the small folios of madvise_cold_or_pageout_pte_range(). */
static void cold_or_pageout(struct advice *a, ptent_t *ptep, pte_t pte)
{
	struct uhmm_machine *m = a->vma->mm->machine;
	struct uhmm__frame *f = folio_of(a, pte);

	/* Not what others map, too, nor what somebody has isolated. */
	if (!f || folio_order(f) || !folio_test(f, PG_LRU) || folio_mapcount(f) != 1)
		return;
	if (!a->pageout)
		make_old(a, ptep, pte);
	folio_clear(f, PG_REFERENCED);
	if (!a->pageout) {
		folio_clear(f, PG_ACTIVE);
	} else if (uhmm__folio_isolate_lru(f)) {
		folio_get(f);
		a->pfn[a->nr++] = frame_pfn(m, f);
	}
}

static void walk(struct advice *a, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_mm *mm = a->vma->mm;
	uhmm_vaddr_t addr, next;

	for (addr = start; addr < end; addr = next) {
		struct uhmm__spinlock *ptl;
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level), *ptep, *start_pte;

		next = level_addr_end(addr, end, level);
		ptep = start_pte = pmdp ? uhmm__pte_offset_map_lock(pmdp, addr, &ptl) : NULL;
		if (!ptep)
			continue;
		uhmm__count_n(UHMM_CNT_READ_PTE, (next - addr) >> UHMM_PAGE_SHIFT);
		a->nr = 0;
		for (uhmm_vaddr_t at = addr; at < next; at += UHMM_PAGE_SIZE, ptep++) {
			pte_t pte = ptep_get(ptep);

			if (!pte_none(pte))
				cold_or_pageout(a, ptep, pte);
		}
		uhmm__pte_unmap_unlock(start_pte, ptl);
		uhmm__reclaim_pages(mm->machine, a->pfn, a->nr);
		uhmm__cond_resched();
	}
	if (a->flush)
		uhmm__flush_tlb_range(&mm->pgt, start, end);
}

int uhmm__madvise_cold(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct advice a = { .vma = vma };

	if (!may_advise(vma))
		return -EINVAL;
	uhmm__lru_add_drain(vma->mm->machine);
	walk(&a, start, end);
	return 0;
}

int uhmm__madvise_pageout(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct advice a = { .vma = vma, .pageout = true };

	if (!may_advise(vma))
		return -EINVAL;
	uhmm__lru_add_drain(vma->mm->machine);
	walk(&a, start, end);
	return 0;
}
