// SPDX-License-Identifier: LGPL-2.1-or-later
/* madvise and populating. Models: mm/madvise.c, and mm/gup.c:faultin_page_range(). */
#include <sys/mman.h>

#include "mm/huge.h"
#include "mm/swap.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Whether a page is there with the rights that an access needs. */
static bool is_populated(struct uhmm_mm *mm, uhmm_vaddr_t addr, bool write)
{
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);
	ptent_t *ptep = pmdp ? uhmm__pte_offset_map(pmdp, addr, NULL) : NULL;
	pte_t pte = pte_make(0);

	if (ptep) {
		pte = ptep_get(ptep);
		uhmm__pte_unmap(ptep);
	} else if (pmdp) {
		/* Rights are the same for all of a huge leaf. */
		pte = pmdp_get(pmdp);
		if (!pmd_trans_huge(pte))
			pte = pte_make(0);
	}
	return pte_present(pte) && !pte_protnone(pte) && (!write || pte_write(pte));
}

/*
 * Fault a page in unless it is there. Returns: 0; -errno, -EHWPOISON for a broken page. With
 * FAULT_FLAG_ALLOW_RETRY the lock may be dropped and taken again, which *vmap then is NULL for.
 * Context: mmap_lock held. Models: faultin_page().
 */
static int populate_page(struct uhmm_mm *mm, struct uhmm_vma **vmap, uhmm_vaddr_t addr, bool write,
			 unsigned int flags)
{
	flags |= FAULT_FLAG_REMOTE | (write ? FAULT_FLAG_WRITE : 0);
	while (!is_populated(mm, addr, write)) {
		int ret = uhmm__handle_mm_fault(*vmap, addr, flags);

		if (ret & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)) {
			mmap_read_lock(mm);
			*vmap = NULL;
			return 0;
		}
		if (ret & VM_FAULT_HWPOISON)
			return -EHWPOISON;
		if (ret & VM_FAULT_ERROR)
			return uhmm__vm_fault_to_errno(ret);
	}
	return 0;
}

/* 0 or the -errno of madvise(2). Models: __get_user_pages() with FOLL_MADV_POPULATE. */
static int populate_check(const struct uhmm_vma *vma, bool write)
{
	if (!vma)
		return -ENOMEM;
	if (vma->flags & (UHMM_VM_IO | UHMM_VM_PFNMAP) ||
	    !(vma->flags & (write ? UHMM_VM_WRITE : UHMM_VM_READ)))
		return -EINVAL;
	return 0;
}

/*
 * Fault in what is mapped of [start, end) up to the first page that cannot be. @force: whatever the
 * VMA permits. Context: mmap_lock held; unless @force it may be dropped in between. Models:
 * faultin_page_range(), populate_vma_page_range().
 */
static int populate_range(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write,
			  bool force)
{
	struct uhmm_vma *vma = NULL;
	unsigned int flags = force ? 0 : FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	uhmm_vaddr_t addr = start;
	int err = 0;

	while (addr < end && !err) {
		if (!vma || addr >= vma->end) {
			vma = uhmm__vma_lookup(mm, addr);
			err = vma && force ? 0 : populate_check(vma, write);
			if (err)
				break;
		}
		if (unlikely(uhmm__current()->killed)) {
			err = -EINTR;
			break;
		}
		err = populate_page(mm, &vma, addr, write, flags);
		if (vma)
			addr += UHMM_PAGE_SIZE;
	}
	uhmm__lru_add_drain(mm->machine);
	return err;
}

/* Models: madvise_populate(). Context: takes mmap_lock for reading. */
static int populate(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write)
{
	int err;

	mmap_read_lock(mm);
	err = populate_range(mm, start, end, write, false);
	mmap_read_unlock(mm);
	return err;
}

void uhmm__populate_vma(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	/* Shared pages are read: writing would dirty them for nothing. */
	bool write = (vma->flags & (UHMM_VM_WRITE | UHMM_VM_SHARED)) == UHMM_VM_WRITE;

	if (vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC))
		(void)populate_range(vma->mm, start, end, write, true);
}

/* As MAP_POPULATE: errors are nobody's business. Models: mm_populate(). */
void uhmm__populate(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_vma *vma;

	mmap_read_lock(mm);
	for (vma = uhmm__find_vma(mm, start); vma && vma->start < end;
	     vma = uhmm__vma_next(mm, vma))
		uhmm__populate_vma(vma, MAX(start, vma->start), MIN(end, vma->end));
	mmap_read_unlock(mm);
}

/* What an advice does to the flags of a VMA; false if it is none of these. */
static bool advice_flags(int advice, uint64_t *set, uint64_t *clear)
{
	static const struct {
		int advice;
		uint64_t set, clear;
	} table[] = {
		{ MADV_DONTFORK, UHMM_VM_DONTCOPY, 0 },
		{ MADV_DOFORK, 0, UHMM_VM_DONTCOPY },
		{ MADV_WIPEONFORK, UHMM_VM_WIPEONFORK, 0 },
		{ MADV_KEEPONFORK, 0, UHMM_VM_WIPEONFORK },
		{ MADV_HUGEPAGE, UHMM_VM_HUGEPAGE, UHMM_VM_NOHUGEPAGE },
		{ MADV_NOHUGEPAGE, UHMM_VM_NOHUGEPAGE, UHMM_VM_HUGEPAGE },
		{ MADV_MERGEABLE, UHMM_VM_MERGEABLE, 0 },
		{ MADV_UNMERGEABLE, 0, UHMM_VM_MERGEABLE },
		/* Read-ahead is not modelled, nor are core dumps: these decide what merges. */
		{ MADV_NORMAL, 0, UHMM_VM_RAND_READ | UHMM_VM_SEQ_READ },
		{ MADV_RANDOM, UHMM_VM_RAND_READ, UHMM_VM_SEQ_READ },
		{ MADV_SEQUENTIAL, UHMM_VM_SEQ_READ, UHMM_VM_RAND_READ },
		{ MADV_DONTDUMP, UHMM_VM_DONTDUMP, 0 },
		{ MADV_DODUMP, 0, UHMM_VM_DONTDUMP },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].advice != advice)
			continue;
		*set = table[i].set;
		*clear = table[i].clear;
		return true;
	}
	return false;
}

static int advise_vma_flags(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end,
			    uint64_t set, uint64_t clear)
{
	uint64_t flags = (vma->flags & ~clear) | set;
	int err;

	/* A driver says which of its mappings are copied, and which are not dumped. */
	if (clear & (UHMM_VM_DONTCOPY | UHMM_VM_DONTDUMP) && vma->flags & UHMM__VM_SPECIAL)
		return -EINVAL;
	if (set & UHMM_VM_WIPEONFORK && (!vma_is_anonymous(vma) || vma->flags & UHMM_VM_SHARED))
		return -EINVAL;
	if (flags == vma->flags)
		return 0;
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	uhmm__vma_set_flags(vma, flags);
	uhmm__vma_merge(vma);
	return 0;
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

/* One entry of MADV_FREE: what is on a device stays. Context: PTL. */
static void free_pte(struct uhmm__gather *g, uhmm_vaddr_t addr, ptent_t *ptep)
{
	struct uhmm_machine *m = g->mm->machine;
	pte_t pte = ptep_get(ptep);
	struct uhmm__frame *f = pte_present(pte) ? vm_normal_page(m, pte) : NULL;

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
	if (!f || folio_is_zone_device(f) || folio_test_large(page_folio(f)) ||
	    !forget_copies(m, f))
		return;
	if (pte_young(pte) || pte_dirty(pte)) {
		set_pte(ptep, pte_clear_bits(pte, PTE_ACCESSED | PTE_DIRTY));
		gather_widen(g, addr, addr + UHMM_PAGE_SIZE);
	}
	uhmm__folio_mark_lazyfree(m, f);
}

/* A huge leaf, all of it. Context: PMD lock. Models: the end of madvise_free_huge_pmd(). */
static void free_huge(struct uhmm__gather *g, uhmm_vaddr_t addr, ptent_t *pmdp,
		      struct uhmm__frame *f)
{
	pte_t pmd = ptep_get(pmdp);

	if (folio_mapcount(f) != 1 || !forget_copies(g->mm->machine, f))
		return;
	if (pte_young(pmd) || pte_dirty(pmd)) {
		set_pte(pmdp, pte_clear_bits(pmd, PTE_ACCESSED | PTE_DIRTY));
		gather_widen(g, addr, addr + UHMM_PMD_SIZE);
	}
	uhmm__folio_mark_lazyfree(g->mm->machine, f);
}

/*
 * A huge leaf; in part only after its folio was split. False: there is a table now. Models:
 * madvise_free_huge_pmd().
 */
static bool free_pmd(struct uhmm__gather *g, ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm_machine *m = g->mm->machine;
	struct uhmm__spinlock *ptl = uhmm__pmd_leaf_lock(pmdp);
	struct uhmm__frame *f;
	pte_t pmd;

	if (!ptl)
		return false;
	pmd = ptep_get(pmdp);
	f = pmd_trans_huge(pmd) ? pmd_folio(m, pmd) : NULL;
	if (!f || folio_is_zone_device(f) || uhmm__large_mapped_shared(f) ||
	    end - addr == UHMM_PMD_SIZE) {
		if (f && !folio_is_zone_device(f))
			free_huge(g, addr, pmdp, f);
		uhmm__spin_unlock(ptl);
		return true;
	}
	if (!folio_trylock(f)) {
		uhmm__spin_unlock(ptl);
		return true;
	}
	folio_get(f);
	uhmm__spin_unlock(ptl);
	(void)uhmm__split_folio(m, f);
	folio_unlock(m, f);
	folio_put(m, f);
	return false;
}

/* Models: madvise_free_pte_range(). */
static void free_pte_range(struct uhmm__gather *g, ptent_t *pmdp, uhmm_vaddr_t addr,
			   uhmm_vaddr_t end)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start_pte, *ptep;

	if (unlikely(pmd_is_leaf(pmdp_get(pmdp))) && free_pmd(g, pmdp, addr, end))
		return;
	start_pte = ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	if (!start_pte)
		return;
	uhmm__count_n(UHMM_CNT_READ_PTE, (end - addr) >> UHMM_PAGE_SHIFT);
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++)
		free_pte(g, addr, ptep);
	uhmm__pte_unmap_unlock(start_pte, ptl);
}

/*
 * MADV_FREE: the pages may be dropped when memory gets short, unless they are written before.
 * Models: madvise_free_single_vma().
 */
static void advise_free(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
			uhmm_vaddr_t end)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_CLEAR, start, end, NULL);
	uhmm_vaddr_t addr, next;

	uhmm__lru_add_drain(vma->mm->machine);
	uhmm__invalidate_start(&range);
	for (addr = start; addr < end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);

		next = level_addr_end(addr, end, level);
		if (pmdp)
			free_pte_range(g, pmdp, addr, next);
		uhmm__cond_resched();
	}
	uhmm__invalidate_end(&range);
}

/* Models: madvise_dontneed_free(). */
static int advise_dontneed_free(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
				uhmm_vaddr_t end, int advice)
{
	uint64_t forbidden = UHMM_VM_PFNMAP;

	if (advice != MADV_DONTNEED_LOCKED)
		forbidden |= UHMM_VM_LOCKED;
	if (vma->flags & forbidden || (advice == MADV_FREE && !vma_is_anonymous(vma)))
		return -EINVAL;
	if (advice == MADV_FREE)
		advise_free(g, vma, start, end);
	else {
		/* Tables that this empties are freed as well. */
		g->reclaim_pt = true;
		uhmm__zap_range(g, vma, start, end);
	}
	return 0;
}

/*
 * MADV_REMOVE and MADV_WILLNEED of a regular file: something is done to the file, for which mmap_lock
 * is dropped. Models: the end of madvise_remove() and madvise_willneed().
 */
static int advise_file(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end, int advice)
{
	struct uhmm_file *file = vma->file;
	struct uhmm_mm *mm = vma->mm;
	uint64_t first = vma_pgoff(vma, start), n = (end - start) >> UHMM_PAGE_SHIFT;
	int err;

	uhmm_file_get(file);
	mmap_read_unlock(mm);
	if (advice == MADV_REMOVE)
		err = uhmm_file_punch_hole(file, first << UHMM_PAGE_SHIFT, n << UHMM_PAGE_SHIFT);
	else
		err = uhmm__mapping_populate(&file->mapping, first, n);
	uhmm_file_put(file);
	mmap_read_lock(mm);
	return err;
}

/* Models: madvise_remove(). */
static int advise_remove(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	if (vma->flags & UHMM_VM_LOCKED || !vma->file)
		return -EINVAL;
	if (!(vma->flags & UHMM_VM_SHARED) || vma->file->foreign)
		return -EACCES;
	return advise_file(vma, start, end, MADV_REMOVE);
}

/* Models: madvise_willneed(). */
static int advise_willneed(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	if (vma->file && vma->file->kind == UHMM_FILE_REGULAR)
		return advise_file(vma, start, end, MADV_WILLNEED);
	/* There is nothing to read in, but Linux pushes new pages onto the LRU. */
	uhmm__lru_add_drain(vma->mm->machine);
	return 0;
}

/* The part of a range in one VMA. Models: madvise_vma_behavior(). */
static int advise_vma(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
		      uhmm_vaddr_t end, int advice)
{
	uint64_t set, clear;
	int err;

	if (advice_flags(advice, &set, &clear)) {
		err = advise_vma_flags(vma, start, end, set, clear);
		return err == -ENOMEM ? -EAGAIN : err;
	}
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_FREE:
		return advise_dontneed_free(g, vma, start, end, advice);
	case MADV_WILLNEED:
		return advise_willneed(vma, start, end);
	case MADV_REMOVE:
		return advise_remove(vma, start, end);
	case MADV_COLD:
		return uhmm__madvise_cold(vma, start, end);
	case MADV_PAGEOUT:
		return uhmm__madvise_pageout(vma, start, end);
	case MADV_GUARD_INSTALL:
		return uhmm__guard_install(vma, start, end);
	case MADV_GUARD_REMOVE:
		return uhmm__guard_remove(vma, start, end);
	default:
		return -EINVAL;
	}
}

/* A hole is an error, but what is mapped behind it is done. Models: madvise_walk_vmas(). */
static int advise_vmas(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, int advice)
{
	struct uhmm__gather g;
	int unmapped = 0, err = 0;

	uhmm__gather_init(&g, mm);
	while (start < end && !err) {
		struct uhmm_vma *vma = uhmm__find_vma(mm, start);
		uhmm_vaddr_t next;

		if (!vma || vma->start > start) {
			unmapped = -ENOMEM;
			if (!vma || vma->start >= end)
				break;
			start = vma->start;
		}
		next = MIN(vma->end, end);
		err = advise_vma(&g, vma, start, next, advice);
		start = next;
	}
	uhmm__gather_finish(&g);
	return err ? err : unmapped;
}

/*
 * What removes pages of one VMA needs only that VMA's lock. False: another lock must be taken.
 * Models: try_vma_read_lock().
 */
static bool advise_one_vma(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, int advice,
			   int *err)
{
	struct uhmm__gather g;
	struct uhmm_vma *vma;

	if (advice != MADV_DONTNEED && advice != MADV_DONTNEED_LOCKED && advice != MADV_FREE)
		return false;
	vma = lock_vma_under_rcu(mm, start);
	if (!vma)
		return false;
	if (end > vma->end) {
		vma_end_read(vma);
		return false;
	}
	uhmm__gather_init(&g, mm);
	*err = advise_vma(&g, vma, start, end, advice);
	uhmm__gather_finish(&g);
	vma_end_read(vma);
	return true;
}

/* Advice that changes VMAs needs the lock for writing. Models: madvise_lock(). */
static int advise_range(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, int advice)
{
	uint64_t set, clear;
	int err;

	if (advise_one_vma(mm, start, end, advice, &err))
		return err;
	if (advice_flags(advice, &set, &clear)) {
		mmap_write_lock(mm);
		err = advise_vmas(mm, start, end, advice);
		mmap_write_unlock(mm);
	} else {
		mmap_read_lock(mm);
		err = advise_vmas(mm, start, end, advice);
		mmap_read_unlock(mm);
	}
	return err;
}

/* 0, -EOPNOTSUPP or, for what Linux does not know either, -EINVAL. */
static int check_advice(int advice)
{
	static const int known[] = {
		MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_FREE,		  MADV_WILLNEED,
		MADV_REMOVE,   MADV_POPULATE_READ,   MADV_POPULATE_WRITE, MADV_COLD,
		MADV_PAGEOUT,  MADV_GUARD_INSTALL,   MADV_GUARD_REMOVE,	  MADV_COLLAPSE,
		MADV_HWPOISON
	};
	uint64_t set, clear;

	if (advice_flags(advice, &set, &clear))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i] == advice)
			return 0;
	return advice == MADV_SOFT_OFFLINE ? -EOPNOTSUPP : -EINVAL;
}

int uhmm_madvise(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int advice)
{
	uint64_t n = ALIGN_UP(len, UHMM_PAGE_SIZE);
	int err = check_advice(advice);

	if (!uhmm__current() || err == -EINVAL)
		return -EINVAL;
	if (addr & ~UHMM_PAGE_MASK || n < len || addr + n < addr)
		return -EINVAL;
	if (!len || err)
		return err;
	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
		err = populate(mm, addr, addr + n, advice == MADV_POPULATE_WRITE);
	else if (advice == MADV_COLLAPSE)
		err = uhmm__madvise_collapse(mm, addr, addr + n);
	else if (advice == MADV_HWPOISON)
		err = uhmm__madvise_hwpoison(mm, addr, addr + n);
	else
		err = advise_range(mm, addr, addr + n, advice);
	uhmm__exit_to_user();
	return err;
}
