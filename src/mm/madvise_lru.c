// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Advice about pages that are not needed soon, or at all. Models: mm/madvise.c: MADV_COLD,
 * MADV_PAGEOUT and MADV_FREE. Pages of devices are let alone by all three.
 */
#include "mm/swap.h"

/* One table's part of a walk. */
struct advice {
	struct uhmm_vma *vma;
	bool pageout;
	bool flush; /* young or dirty bits were cleared */
	unsigned int nr;
	uint32_t pfn[UHMM_PTRS_PER_TABLE]; /* isolated */
};

typedef void advise_pte_fn(struct advice *a, uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte);

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
	return page_folio(page);
}

static void make_old(struct advice *a, ptent_t *ptep, pte_t pte, uint64_t bits)
{
	if (!(pte.val & bits))
		return;
	set_pte(ptep, pte_clear_bits(pte, bits));
	a->flush = true;
}

/* Models: the small folios of madvise_cold_or_pageout_pte_range(). */
static void cold_or_pageout(struct advice *a, uhmm_vaddr_t addr uhmm_unused, ptent_t *ptep,
			    pte_t pte)
{
	struct uhmm_machine *m = a->vma->mm->machine;
	struct uhmm__frame *f = folio_of(a, pte);

	/* Not what others map, too, nor what somebody has isolated. */
	if (!f || folio_order(f) || !folio_test(f, PG_LRU) || folio_mapcount(f) != 1)
		return;
	if (!a->pageout)
		make_old(a, ptep, pte, PTE_ACCESSED);
	folio_clear(f, PG_REFERENCED);
	if (!a->pageout) {
		folio_clear(f, PG_ACTIVE);
	} else if (uhmm__folio_isolate_lru(f)) {
		folio_get(f);
		a->pfn[a->nr++] = frame_pfn(m, f);
	}
}

/*
 * Neither in swap nor dirty any more; false: let it alone. Models: the middle of
 * madvise_free_pte_range().
 */
static bool forget_copies(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool ok;

	if (!folio_test(f, PG_SWAPCACHE) && !folio_test(f, PG_DIRTY))
		return true;
	if (!folio_trylock(f))
		return false;
	ok = folio_mapcount(f) == 1 &&
	     (!folio_test(f, PG_SWAPCACHE) || uhmm__folio_free_swap(m, f));
	if (ok)
		folio_clear(f, PG_DIRTY);
	folio_unlock(m, f);
	return ok;
}

/* Models: madvise_free_pte_range(), folio_mark_lazyfree(). */
static void lazyfree(struct advice *a, uhmm_vaddr_t addr uhmm_unused, ptent_t *ptep, pte_t pte)
{
	struct uhmm_machine *m = a->vma->mm->machine;
	struct uhmm__frame *f;

	if (leaf_is_swap(pte)) {
		ptep_get_and_clear(ptep);
		uhmm__swap_put_entry(m, leaf_offset(pte));
		return;
	}
	if (pte_is_leaf_entry(pte) &&
	    (leaf_type(pte) == LEAF_HWPOISON || leaf_is_marker(pte, MARKER_POISONED))) {
		ptep_get_and_clear(ptep);
		return;
	}
	f = folio_of(a, pte);
	if (!f || folio_order(f) || !forget_copies(m, f))
		return;
	make_old(a, ptep, pte, PTE_ACCESSED | PTE_DIRTY);
	/* Isolated, so that reclaim does not give it a slot at the same time. */
	if (!folio_test_anon(f) || !uhmm__folio_isolate_lru(f))
		return;
	if (folio_test(f, PG_SWAPBACKED) && !folio_test(f, PG_SWAPCACHE)) {
		folio_clear(f, PG_SWAPBACKED);
		folio_clear(f, PG_ACTIVE);
		folio_clear(f, PG_REFERENCED);
		atomic_fetch_add_explicit(&m->reclaim->lazyfree, 1, memory_order_relaxed);
	}
	folio_set(f, PG_LRU);
}

static void walk(struct advice *a, uhmm_vaddr_t start, uhmm_vaddr_t end, advise_pte_fn *fn)
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
				fn(a, at, ptep, pte);
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
	walk(&a, start, end, cold_or_pageout);
	return 0;
}

int uhmm__madvise_pageout(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct advice a = { .vma = vma, .pageout = true };

	if (!may_advise(vma))
		return -EINVAL;
	uhmm__lru_add_drain(vma->mm->machine);
	walk(&a, start, end, cold_or_pageout);
	return 0;
}

int uhmm__madvise_free(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_CLEAR, start, end, NULL);
	struct advice a = { .vma = vma };

	if (!may_advise(vma) || !vma_is_anonymous(vma))
		return -EINVAL;
	uhmm__lru_add_drain(vma->mm->machine);
	uhmm__invalidate_start(&range);
	walk(&a, start, end, lazyfree);
	uhmm__invalidate_end(&range);
	return 0;
}
