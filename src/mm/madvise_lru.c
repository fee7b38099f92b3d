// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Advice about pages that are not needed soon. Models: mm/madvise.c: MADV_COLD and MADV_PAGEOUT.
 * Pages of devices are let alone by both.
 */
#include "mm/huge.h"
#include "mm/swap.h"

/* One table's part of a walk. */
struct advice {
	struct uhmm_vma *vma;
	bool pageout;
	bool anon_only;		   /* pages of a foreign file are let alone */
	bool flush;		   /* young bits were cleared */
	struct uhmm__frame *split; /* a large folio in the way, with a reference */
	uhmm_vaddr_t whole_until;  /* before it large folios are let alone: a split failed */
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
	if (a->anon_only && !folio_test_anon(page_folio(page)))
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

/*
 * Large folios are taken apart: Linux does if part of one is meant, and else swaps out all of it,
 * which leaves the same entries.
 */
static bool must_split(struct advice *a, struct uhmm__frame *f, uhmm_vaddr_t addr)
{
	if (addr < a->whole_until || !folio_test(f, PG_LRU) || uhmm__large_mapped_shared(f))
		return false;
	folio_get(f);
	a->split = f;
	return true;
}

/* Context: no PTL. @all: every page of it is meant. */
static void split(struct advice *a, bool all, uhmm_vaddr_t end)
{
	struct uhmm_machine *m = a->vma->mm->machine;
	struct uhmm__frame *f = a->split;
	bool whole = all && m->swap && load_relaxed(&m->swap->nr_free) >= folio_nr_pages(f);

	a->split = NULL;
	folio_lock(m, f);
	if (folio_test_large(f) &&
	    (whole ? uhmm__split_folio_for_swap(m, f) : uhmm__split_folio(m, f)))
		a->whole_until = end;
	folio_unlock(m, f);
	folio_put(m, f);
}

/*
 * A huge leaf. True: done with it; false: there is a table now. Models: the huge part of
 * madvise_cold_or_pageout_pte_range().
 */
static bool huge_leaf(struct advice *a, ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm__spinlock *ptl = uhmm__pmd_leaf_lock(pmdp);
	bool all = end - addr == UHMM_PMD_SIZE;
	struct uhmm__frame *f;
	pte_t pmd;

	if (!ptl)
		return false;
	pmd = ptep_get(pmdp);
	f = pmd_trans_huge(pmd) ? pmd_folio(a->vma->mm->machine, pmd) : NULL;
	if (f && (folio_is_zone_device(f) || uhmm__large_mapped_shared(f)))
		f = NULL;
	if (f && all && !a->pageout) {
		make_old(a, pmdp, pmd);
		folio_clear(f, PG_REFERENCED);
		folio_clear(f, PG_ACTIVE);
	} else if (f) {
		must_split(a, f, addr);
	}
	uhmm__spin_unlock(ptl);
	if (!a->split)
		return true;
	split(a, all, end);
	return a->whole_until == end;
}

/* Models: the part of madvise_cold_or_pageout_pte_range() for pages. */
static void cold_or_pageout(struct advice *a, uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte)
{
	struct uhmm_machine *m = a->vma->mm->machine;
	struct uhmm__frame *f = folio_of(a, pte);

	/* Not what others map, too, nor what somebody has isolated. */
	if (f && unlikely(folio_test_large(f))) {
		must_split(a, f, addr);
		return;
	}
	if (!f || !folio_test(f, PG_LRU) || folio_mapcount(f) != 1)
		return;
	if (!a->pageout)
		make_old(a, ptep, pte);
	folio_clear(f, PG_REFERENCED);
	if (!a->pageout) {
		folio_clear(f, PG_ACTIVE);
	} else if (uhmm__folio_isolate_lru(f)) {
		folio_get(f);
		a->pfn[a->nr++] = frame_index(m, f);
	}
}

/* Entries of one table, up to a large folio that must be split. Returns: where it stopped. */
static uhmm_vaddr_t walk_ptes(struct advice *a, ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start = uhmm__pte_offset_map_lock(pmdp, addr, &ptl), *ptep = start;

	if (!start)
		return end;
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);

		if (!pte_none(pte))
			cold_or_pageout(a, addr, ptep, pte);
		if (unlikely(a->split))
			break;
	}
	uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
	uhmm__pte_unmap_unlock(start, ptl);
	return addr;
}

/* The part under one PMD entry. */
static void walk_pmd(struct advice *a, ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	a->nr = 0;
	if (unlikely(pmd_is_leaf(pmdp_get(pmdp))) && huge_leaf(a, pmdp, addr, end))
		return;
	while (addr < end) {
		addr = walk_ptes(a, pmdp, addr, end);
		if (a->split)
			split(a, false, end);
	}
	uhmm__reclaim_pages(a->vma->mm->machine, a->pfn, a->nr);
}

static void walk(struct advice *a, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_mm *mm = a->vma->mm;
	uhmm_vaddr_t addr, next;

	for (addr = start; addr < end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);

		next = level_addr_end(addr, end, level);
		if (pmdp)
			walk_pmd(a, pmdp, addr, next);
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
	a.anon_only = vma->file && vma->file->foreign;
	if (a.anon_only && vma->flags & UHMM_VM_SHARED)
		return 0;
	uhmm__lru_add_drain(vma->mm->machine);
	walk(&a, start, end);
	return 0;
}
