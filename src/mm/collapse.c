// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * MADV_COLLAPSE: pages below one table become a huge page. Models: mm/khugepaged.c. The scan of
 * khugepaged itself is not modelled: nothing collapses on its own.
 */
#include "mm/huge.h"
#include "mm/swap.h"

enum { NR = UHMM_PTRS_PER_TABLE };

/* One attempt at one table. */
struct collapse {
	struct uhmm_vma *vma;
	struct uhmm_mm *mm;
	uhmm_vaddr_t addr;
	ptent_t *pmdp;
	struct uhmm__frame *huge;
	struct uhmm__table *spare; /* for the deposit */
	pte_t pte[NR];		   /* what was there */
	unsigned int locked;	   /* pages of pte[] before this one are locked and isolated */
};

/* Whether a huge page may be there at all. Models: hugepage_vma_revalidate() for MADV_COLLAPSE. */
static bool vma_fits(const struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	return vma && vma_is_anonymous(vma) &&
	       !(vma->flags & (UHMM_VM_NOHUGEPAGE | UHMM__VM_SPECIAL)) && vma->start <= addr &&
	       addr + UHMM_PMD_SIZE <= vma->end;
}

static struct uhmm__frame *folio_of(struct collapse *c, pte_t pte)
{
	struct uhmm__frame *page = pte_present(pte) ? vm_normal_page(c->mm->machine, pte) : NULL;

	return page ? page_folio(page) : NULL;
}

/* Whether one entry can go into a huge page. Models: the loop of collapse_scan_pmd(). */
static int check_entry(struct collapse *c, pte_t pte)
{
	struct uhmm__frame *f;

	/* What userfaultfd waits for must stay empty. */
	if (pte_none(pte))
		return c->vma->flags & UHMM__VM_UFFD ? -EINVAL : 0;
	/* Swap would be read in; device pages and what moves stay. */
	if (!pte_present(pte) || pte_protnone(pte) || pte.val & PTE_UFFD_WP)
		return -EINVAL;
	f = folio_of(c, pte);
	if (!f)
		return 0;
	if (!folio_test_anon(f) || folio_is_zone_device(f))
		return -EINVAL;
	if (folio_test(f, PG_LOCKED) || !folio_test(f, PG_LRU))
		return -EAGAIN;
	return (uint32_t)folio_mapcount(f) + folio_test(f, PG_SWAPCACHE) == folio_ref_count(f)
		       ? 0
		       : -EAGAIN;
}

/* A look without changing anything. 0, 1 it is huge already, -errno. */
static int scan(struct collapse *c)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start, *ptep;
	unsigned int level;
	int err = 0;

	c->pmdp = uhmm__pmd_offset(&c->mm->pgt, c->addr, &level);
	if (!c->pmdp)
		return -EINVAL;
	if (pmd_is_leaf(pmdp_get(c->pmdp)))
		return pmd_trans_huge(pmdp_get(c->pmdp)) ? 1 : -EINVAL;
	start = ptep = uhmm__pte_offset_map_lock(c->pmdp, c->addr, &ptl);
	if (!start)
		return -EINVAL;
	for (unsigned int i = 0; i < NR && !err; i++, ptep++)
		err = check_entry(c, ptep_get(ptep));
	uhmm__pte_unmap_unlock(start, ptl);
	uhmm__count_n(UHMM_CNT_READ_PTE, NR);
	return err;
}

/* Locks and isolates the pages of c->pte[]. Models: __collapse_huge_page_isolate(). */
static int isolate(struct collapse *c)
{
	struct uhmm_machine *m = c->mm->machine;

	for (c->locked = 0; c->locked < NR; c->locked++) {
		pte_t pte = c->pte[c->locked];
		struct uhmm__frame *f = folio_of(c, pte);
		int err = check_entry(c, pte);

		if (err)
			return err;
		/* Pages of a large folio are not collapsed here: it would have to be taken apart. */
		if (f && folio_test_large(f))
			return -EAGAIN;
		if (f && !folio_trylock(f))
			return -EAGAIN;
		if (f && !uhmm__folio_isolate_lru(f)) {
			folio_unlock(m, f);
			return -EAGAIN;
		}
	}
	return 0;
}

static void putback(struct collapse *c)
{
	struct uhmm_machine *m = c->mm->machine;

	for (unsigned int i = 0; i < c->locked; i++) {
		struct uhmm__frame *f = folio_of(c, c->pte[i]);

		if (!f)
			continue;
		folio_set(f, PG_LRU);
		folio_unlock(m, f);
	}
}

/* Copies, and gives the old pages back. Models: __collapse_huge_page_copy(). */
static void copy_pages(struct collapse *c)
{
	struct uhmm_machine *m = c->mm->machine;
	uhmm_pfn_t dst = frame_pfn(m, c->huge);

	for (unsigned int i = 0; i < NR; i++) {
		struct uhmm__frame *f = folio_of(c, c->pte[i]);

		if (!f) {
			uhmm__clear_page(m, dst + i);
			continue;
		}
		uhmm__copy_page(m, dst + i, frame_pfn(m, f));
		folio_remove_rmap(f, c->mm);
		/* Others may map it still. */
		folio_set(f, PG_LRU);
		folio_unlock(m, f);
		free_swap_cache(m, f);
		folio_put(m, f);
	}
}

static void map_huge(struct collapse *c)
{
	struct uhmm_vma *vma = c->vma;
	pte_t entry = pmd_mk(frame_pfn(c->mm->machine, c->huge), vma->page_prot);
	struct uhmm__spinlock *ptl;

	entry = pte_set(entry, PTE_DIRTY | (vma->flags & UHMM_VM_WRITE ? PTE_RW : 0));
	folio_set(c->huge, PG_UPTODATE);
	ptl = uhmm__pmd_lock(c->pmdp);
	uhmm__folio_add_new_anon_rmap_pmd(c->huge, vma, c->addr);
	uhmm__folio_add_lru(c->mm->machine, c->huge);
	uhmm__pgtable_deposit(c->pmdp, c->spare);
	set_pte(c->pmdp, entry);
	uhmm__spin_unlock(ptl);
	c->huge = NULL;
	c->spare = NULL;
}

/*
 * With nobody else in the address space and no rmap walk on its way, the table is unlinked, so that
 * nothing changes below it. Context: mmap_lock for writing. Models: collapse_huge_page().
 */
static int collapse_table(struct collapse *c)
{
	struct uhmm__anon_vma *root = anon_vma_root(load_relaxed(&c->vma->anon_vma));
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		c->mm, UHMM_MMU_NOTIFY_CLEAR, c->addr, c->addr + UHMM_PMD_SIZE, NULL);
	struct uhmm__spinlock *pmd_ptl, *ptl;
	struct uhmm__table *tb;
	pte_t pmd;
	int err;

	vma_start_write(c->vma);
	/* Until now faults and madvise() worked on under the VMA's own lock. */
	if (!entry_is_table(pmdp_get(c->pmdp)))
		return -EINVAL;
	uhmm__down_write(&root->rwsem);
	uhmm__invalidate_start(&range);
	pmd_ptl = uhmm__pmd_lock(c->pmdp);
	/* Whose exchange orders this and the looks at counts: see gup.c. */
	pmd = ptep_xchg_clear(c->pmdp);
	uhmm__spin_unlock(pmd_ptl);
	tb = entry_table(pmd);
	ptl = uhmm__ptlp(&tb->e[0]);
	uhmm__ptl_lock(ptl);
	uhmm__flush_tlb_range(&c->mm->pgt, c->addr, c->addr + UHMM_PMD_SIZE);
	for (unsigned int i = 0; i < NR; i++)
		c->pte[i] = ptep_get(&tb->e[i]);
	err = isolate(c);
	if (!err) {
		for (unsigned int i = 0; i < NR; i++)
			store_relaxed(&tb->e[i], 0);
	}
	uhmm__spin_unlock(ptl);
	uhmm__invalidate_end(&range);
	if (err) {
		putback(c);
		pmd_ptl = uhmm__pmd_lock(c->pmdp);
		pmd_populate(c->pmdp, tb);
		uhmm__spin_unlock(pmd_ptl);
	} else {
		copy_pages(c);
		map_huge(c);
		/* A reader may be at the old one: it is not put aside but freed later. */
		uhmm__pte_free_defer(tb);
		uhmm__count(UHMM_CNT_COLLAPSE);
	}
	uhmm__up_write(&root->rwsem);
	return err;
}

static int collapse_one(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct collapse c = { .mm = mm, .addr = addr };
	struct uhmm_machine *m = mm->machine;
	int err = -EINVAL;

	mmap_write_lock(mm);
	c.vma = uhmm__vma_lookup(mm, addr);
	if (vma_fits(c.vma, addr))
		err = scan(&c);
	if (!err && !load_relaxed(&c.vma->anon_vma))
		err = uhmm__anon_vma_prepare(c.vma);
	if (!err) {
		c.huge = uhmm__folio_alloc_order(m, UHMM_PMD_ORDER, false);
		c.spare = c.huge ? uhmm__pte_alloc_one(&mm->pgt) : NULL;
		err = c.spare ? collapse_table(&c) : -ENOMEM;
	}
	mmap_write_unlock(mm);
	if (c.huge)
		folio_put(m, c.huge);
	uhmm__pte_free(c.spare);
	return err < 0 ? err : 0;
}

/* The part of a range in one VMA, whose end is *@next. 0 or -errno. */
static int collapse_vma(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end,
			uhmm_vaddr_t *next)
{
	struct uhmm_vma *vma;
	int err = 0;

	mmap_read_lock(mm);
	vma = uhmm__find_vma(mm, start);
	*next = vma && vma->start < end ? MIN(end, vma->start > start ? vma->start : vma->end)
					: end;
	if (!vma || vma->start > start)
		err = -ENOMEM;
	else if (vma->flags & (UHMM_VM_NOHUGEPAGE | UHMM__VM_SPECIAL) || !vma_is_anonymous(vma))
		err = -EINVAL;
	mmap_read_unlock(mm);
	if (err)
		return err;
	/* Only whole ones; a range without any is no error. */
	for (uhmm_vaddr_t addr = ALIGN_UP(start, UHMM_PMD_SIZE); addr + UHMM_PMD_SIZE <= *next;
	     addr += UHMM_PMD_SIZE) {
		int ret = collapse_one(mm, addr);

		if (ret)
			err = ret;
	}
	return err;
}

int uhmm__madvise_collapse(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	int unmapped = 0;

	uhmm__lru_add_drain_all(mm->machine);
	for (uhmm_vaddr_t next; start < end; start = next) {
		int err = collapse_vma(mm, start, end, &next);

		if (err && err != -ENOMEM)
			return err;
		if (err)
			unmapped = err;
	}
	return unmapped;
}
