// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * migrate_vma_setup and the separate collector of today's kernel.
 * Models: mm/migrate_device.c:migrate_vma_collect() and migrate_vma_setup().
 */
#include <string.h>

#include "hmm/range.h"
#include "migrate/fault_page.h"
#include "migrate/migrate.h"
#include "mm/huge.h"

static void collect_skip(struct uhmm_migrate_vma *mig, uint64_t n)
{
	memset(&mig->src[mig->npages], 0, n * sizeof(*mig->src));
	memset(&mig->dst[mig->npages], 0, n * sizeof(*mig->dst));
	mig->npages += n;
}

/* A whole number of huge pages, and the caller can do with them. */
static bool whole_huge(const struct uhmm_migrate_vma *mig, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	return mig->flags & UHMM_MIGRATE_VMA_SELECT_COMPOUND && !((start | end) & ~UHMM_PMD_MASK);
}

/* Holes of 2 MiB: @n entries from @src on, which are 0. */
static void collect_huge_holes(struct uhmm_migrate_vma *mig, uint64_t *src, uint64_t n)
{
	/* (q) Of several, as there are in a part without a PMD table, only the first. */
	if (mig->vma->mm->machine->config.large_hole == UHMM_LARGE_HOLE_FIRST)
		n = 1;
	for (uint64_t i = 0; i < n; i += UHMM_PTRS_PER_TABLE) {
		src[i] = UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_COMPOUND;
		mig->cpages++;
	}
}

/* Models: migrate_vma_collect_hole(). */
static uhmm_noinline void collect_hole(struct uhmm_migrate_vma *mig, uhmm_vaddr_t start,
				       uhmm_vaddr_t end)
{
	uint64_t *src = &mig->src[mig->npages], n = (end - start) >> UHMM_PAGE_SHIFT;

	if (!vma_is_anonymous(mig->vma)) {
		collect_skip(mig, n);
		return;
	}
	if (whole_huge(mig, start, end)) {
		collect_skip(mig, n);
		collect_huge_holes(mig, src, n);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		src[i] = UHMM_MIGRATE_PFN_MIGRATE;
	memset(&mig->dst[mig->npages], 0, n * sizeof(*mig->dst));
	mig->npages += n;
	mig->cpages += n;
}

uhmm_always_inline uint64_t collect_present(struct uhmm_machine *m, struct uhmm_migrate_vma *mig,
					    uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
					    struct table_walk *w)
{
	struct uhmm__frame *page;

	if (pte_pfn(pte) == m->zero_pfn)
		return mig->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM ? UHMM_MIGRATE_PFN_MIGRATE : 0;
	page = vm_normal_page(m, pte);
	if (!page || !uhmm__select_present(mig, page, load_relaxed(&page->flags)) ||
	    !collect_page(m, mig->vma, addr, ptep, pte, page, w))
		return 0;
	return uhmm_migrate_pfn(pte_pfn(pte)) | UHMM_MIGRATE_PFN_MIGRATE |
	       (pte_write(pte) ? UHMM_MIGRATE_PFN_WRITE : 0);
}

/* Other entries than those of device pages cannot be migrated; swapped pages are ignored. */
uhmm_always_inline uint64_t collect_device(struct uhmm_machine *m, struct uhmm_migrate_vma *mig,
					   uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
					   struct table_walk *w)
{
	if (!leaf_is_device_private(pte) ||
	    !(mig->flags & UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE) ||
	    page_pgmap(m, leaf_pfn(pte))->owner != mig->pgmap_owner)
		return 0;
	return collect_device_page(m, mig->vma, addr, ptep, pte, w);
}

/* One entry; present ones and others have code of their own. Returns what src[] says. Context: PTL. */
uhmm_always_inline uint64_t collect_pte(struct uhmm_machine *m, struct uhmm_migrate_vma *mig,
					uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
					struct table_walk *w)
{
	if (pte_none(pte))
		return vma_is_anonymous(mig->vma) ? UHMM_MIGRATE_PFN_MIGRATE : 0;
	return pte_present(pte) ? collect_present(m, mig, addr, ptep, pte, w)
				: collect_device(m, mig, addr, ptep, pte, w);
}

/* The folio of the page of the fault, NULL without one. */
static inline struct uhmm__frame *fault_folio_of(const struct uhmm_migrate_vma *mig)
{
	struct uhmm_machine *m = mig->vma->mm->machine;

	return mig->fault_page ? page_folio(pfn_to_frame(m, mig->fault_page)) : NULL;
}

/*
 * Lock a folio to split it. (q) In 7.3 it waits, with the locks of those that were collected before, so
 * that two of these can wait for each other.
 */
static bool lock_to_split(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (m->config.split_lock == UHMM_SPLIT_LOCK_TRIES)
		return folio_trylock(f);
	folio_lock(m, f);
	return true;
}

/*
 * Split a large folio whose pages are mapped by PTEs. A reference, and for the fault's own folio the
 * lock, come with it; afterwards the page of the fault has them. (q) In 7.3 the first page has them at
 * first: until the fault's has them again it may move, and be freed. Models: migrate_vma_split_folio().
 */
static uhmm_noinline int split_mapped(struct uhmm_migrate_vma *mig, struct uhmm__frame *f)
{
	struct uhmm_machine *m = mig->vma->mm->machine;
	struct uhmm__frame *fault_folio = fault_folio_of(mig), *now;
	int err;

	if (f == fault_folio && m->config.fault_folio == UHMM_FAULT_FOLIO_KEPT)
		return uhmm__split_folio_at(m, f, pfn_to_frame(m, mig->fault_page));
	if (f != fault_folio && !lock_to_split(m, f)) {
		uhmm__count(UHMM_CNT_FAIL_LOCKED);
		folio_put(m, f);
		return -EAGAIN;
	}
	err = uhmm__split_folio(m, f);
	if (err) {
		if (f != fault_folio) {
			folio_unlock(m, f);
			folio_put(m, f);
		}
		return err;
	}
	now = fault_folio_of(mig);
	if (now == f)
		return 0;
	if (now && now != fault_folio) {
		folio_get(now);
		folio_lock(m, now);
	}
	folio_unlock(m, f);
	folio_put(m, f);
	return 0;
}

/* No CPU believes any more in the entries that were replaced. */
static void flush_unmapped(struct uhmm_migrate_vma *mig, struct table_walk *w)
{
	if (w->unmapped)
		uhmm__flush_tlb_range(&mig->vma->mm->pgt, w->start, w->end);
	w->unmapped = false;
}

/*
 * Entries from w->addr on, until one needs a split: w->split, with a reference. False: there is no
 * table any more. @one: there is one entry, see collect(). Models: the loop of migrate_vma_collect_pmd().
 */
uhmm_always_inline bool collect_ptes(struct uhmm_migrate_vma *mig, ptent_t *pmdp,
				     struct table_walk *w, bool one)
{
	struct uhmm_machine *m = mig->vma->mm->machine;
	struct uhmm__spinlock *ptl;
	ptent_t *first = uhmm__pte_offset_map_lock(pmdp, w->addr, &ptl), *ptep = first;
	uint64_t *src = &mig->src[mig->npages], *dst = &mig->dst[mig->npages], n = 0, cpages = 0;
	uhmm_vaddr_t addr = w->addr;

	w->split = NULL;
	if (!first)
		return false;
	do {
		uint64_t mpfn = collect_pte(m, mig, addr, ptep, ptep_get(ptep), w);

		if (unlikely(w->split))
			break;
		cpages += !!(mpfn & UHMM_MIGRATE_PFN_MIGRATE);
		dst[n] = 0;
		src[n] = mpfn;
		addr += UHMM_PAGE_SIZE;
		ptep++;
		n++;
	} while (!one && addr < w->end);
	w->addr = addr;
	mig->npages += n;
	mig->cpages += cpages;
	uhmm__count_n(UHMM_CNT_READ_PTE, n);
	/*
	 * Before the lock goes: whoever finds the entry gone relies on that it is flushed. (q) But not in
	 * 7.3 before a split: see collect_pmd().
	 */
	if (!w->split || m->config.split_flush == UHMM_SPLIT_FLUSH_BEFORE_UNLOCK)
		flush_unmapped(mig, w);
	uhmm__pte_unmap_unlock(first, ptl);
	return true;
}

/* What became of a PMD entry that is no table. */
enum huge_result {
	HUGE_DONE,  /* collected or skipped */
	HUGE_PAGES, /* look again: it should be a table */
};

/*
 * The folio that a leaf offers, NULL if it is not selected. Context: PMD lock. Models: the first half
 * of migrate_vma_collect_huge_pmd().
 */
static struct uhmm__frame *select_huge(struct uhmm_migrate_vma *mig, pte_t pmd, uint64_t *write)
{
	struct uhmm_machine *m = mig->vma->mm->machine;

	if (pmd_trans_huge(pmd)) {
		*write = pte_write(pmd) ? UHMM_MIGRATE_PFN_WRITE : 0;
		return mig->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM ? pmd_folio(m, pmd) : NULL;
	}
	if (!leaf_is_device_private(pmd) ||
	    !(mig->flags & UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE) ||
	    page_pgmap(m, leaf_pfn(pmd))->owner != mig->pgmap_owner)
		return NULL;
	*write = leaf_type(pmd) == LEAF_DEVICE_PRIVATE_WRITE ? UHMM_MIGRATE_PFN_WRITE : 0;
	return pmd_folio(m, pmd);
}

/* The folio is locked and referenced, and no longer wanted as a whole: make pages of it. */
static enum huge_result split_huge(struct uhmm_migrate_vma *mig, ptent_t *pmdp, uhmm_vaddr_t start,
				   uhmm_vaddr_t end, struct uhmm__frame *f,
				   struct uhmm__frame *fault_folio)
{
	struct uhmm_machine *m = mig->vma->mm->machine;
	int err = uhmm__split_folio(m, f);

	if (f != fault_folio)
		folio_unlock(m, f);
	folio_put(m, f);
	if (err) {
		collect_skip(mig, (end - start) >> UHMM_PAGE_SHIFT);
		return HUGE_DONE;
	}
	if (pte_none(pmdp_get(pmdp))) {
		collect_hole(mig, start, end);
		return HUGE_DONE;
	}
	return HUGE_PAGES;
}

/* Models: migrate_vma_collect_huge_pmd(). */
static uhmm_noinline enum huge_result collect_huge(struct uhmm_migrate_vma *mig, ptent_t *pmdp,
						   uhmm_vaddr_t start, uhmm_vaddr_t end,
						   struct uhmm__frame *fault_folio)
{
	struct uhmm_machine *m = mig->vma->mm->machine;
	uint64_t n = (end - start) >> UHMM_PAGE_SHIFT, write = 0;
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(pmdp);
	pte_t pmd = ptep_get(pmdp);
	struct uhmm__frame *f;
	bool hole;

	if (entry_is_table(pmd)) {
		uhmm__spin_unlock(ptl);
		return HUGE_PAGES;
	}
	hole = pte_none(pmd) ||
	       (is_huge_zero_pmd(m, pmd) && mig->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM);
	f = hole ? NULL : select_huge(mig, pmd, &write);
	if (f && f != fault_folio && !folio_trylock(f)) {
		uhmm__count_n(UHMM_CNT_FAIL_LOCKED, n);
		f = NULL;
	}
	if (!f) {
		uhmm__spin_unlock(ptl);
		if (hole)
			collect_hole(mig, start, end);
		else
			collect_skip(mig, n);
		return HUGE_DONE;
	}
	folio_get(f);
	if (whole_huge(mig, start, end) && uhmm__set_pmd_migration_entry(mig->vma, start, pmdp)) {
		uhmm__spin_unlock(ptl);
		collect_skip(mig, n);
		mig->src[mig->npages - n] = uhmm_migrate_pfn(frame_pfn(m, f)) | write |
					    UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_COMPOUND;
		mig->cpages++;
		uhmm__count_n(UHMM_CNT_COLLECTED, n);
		return HUGE_DONE;
	}
	uhmm__spin_unlock(ptl);
	return split_huge(mig, pmdp, start, end, f, fault_folio);
}

/* Make pages of the large folio that is in the way. False: it cannot be, and the rest is skipped. */
uhmm_always_inline bool split_in_the_way(struct uhmm_migrate_vma *mig, struct table_walk *w)
{
	if (split_mapped(mig, w->split)) {
		flush_unmapped(mig, w);
		collect_skip(mig, (w->end - w->addr) >> UHMM_PAGE_SHIFT);
		return false;
	}
	/* (q) The split may have given the page of the fault another folio. */
	if (mig->vma->mm->machine->config.fault_folio != UHMM_FAULT_FOLIO_STALE)
		w->fault_folio = fault_folio_of(mig);
	return true;
}

/*
 * The part of the range under one PMD entry, from w->addr on. @leaf: it was looked at, and is no table.
 * Models: migrate_vma_collect_pmd().
 */
uhmm_always_inline void collect_pmd(struct uhmm_migrate_vma *mig, ptent_t *pmdp,
				    struct table_walk *w, bool leaf, bool one)
{
	for (;; leaf = false) {
		/*
		 * The table may have gone during a split: then the rest, not all once more. (q) In 7.3 from
		 * w->start on, which overruns src[]. What was replaced before is still not flushed there.
		 */
		if ((leaf || !entry_is_table(pmdp_get(pmdp))) &&
		    collect_huge(mig, pmdp, w->addr, w->end, w->fault_folio) == HUGE_DONE)
			return;
		if (!collect_ptes(mig, pmdp, w, one))
			continue;
		if (likely(!w->split) || !split_in_the_way(mig, w))
			return;
	}
}

/* One page from where its PMD entry is no table (@leaf), or changes, or a large folio must be split. */
static uint64_t collect_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t fault_page,
			    ptent_t *pmdp, bool leaf, struct uhmm__frame *split)
{
	struct fault_page p = fault_page_at(vma, addr, fault_page);
	uint64_t src, dst;
	struct uhmm_migrate_vma mig = fault_page_args(p, &src, &dst);
	struct table_walk w = {
		.start = mig.start,
		.addr = mig.start,
		.end = mig.end,
		.fault_folio = p.frame,
		.split = split,
	};

	if (!split || split_in_the_way(&mig, &w))
		collect_pmd(&mig, pmdp, &w, leaf, true);
	return src;
}

uint64_t uhmm__collect_fault_split(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
				   ptent_t *pmdp, struct uhmm__frame *split)
{
	return collect_one(vma, addr, pfn, pmdp, false, split);
}

ptent_t *uhmm__lock_fault_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
				ptent_t **pmdp, struct uhmm__spinlock **ptl, uint64_t *src)
{
	unsigned int level;
	ptent_t *ptep;

	*pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);
	if (!*pmdp || pte_none(pte_make(load_acquire(*pmdp)))) {
		*src = vma_is_anonymous(vma) ? UHMM_MIGRATE_PFN_MIGRATE : 0;
		return NULL;
	}
	if (unlikely(!entry_is_table(pmdp_get(*pmdp)))) {
		*src = collect_one(vma, addr, pfn, *pmdp, true, NULL);
		return NULL;
	}
	ptep = uhmm__pte_offset_map_lock(*pmdp, addr, ptl);
	if (likely(ptep))
		uhmm__count(UHMM_CNT_READ_PTE);
	else
		*src = collect_one(vma, addr, pfn, *pmdp, false, NULL);
	return ptep;
}

/*
 * @fault_folio: the folio of the page of the fault, or NULL. @one: the range is one page, and has code of
 * its own.
 */
uhmm_always_inline void collect(struct uhmm_migrate_vma *mig, struct uhmm__frame *fault_folio,
				bool one)
{
	struct uhmm_mm *mm = mig->vma->mm;
	/* Two loads: one of both would have to wait for the stores of the caller. */
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(mm, UHMM_MMU_NOTIFY_MIGRATE, READ_ONCE(mig->start),
				     READ_ONCE(mig->end), mig->pgmap_owner);
	uhmm_vaddr_t addr, next;

	uhmm__count(UHMM_CNT_WALKS);
	uhmm__invalidate_start(&range);
	for (addr = mig->start; addr < mig->end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);

		next = one ? mig->end : level_addr_end(addr, mig->end, level);
		if (pmdp && !pte_none(pte_make(load_acquire(pmdp))))
			collect_pmd(mig, pmdp,
				    &(struct table_walk){ .start = addr,
							  .addr = addr,
							  .end = next,
							  .fault_folio = fault_folio },
				    false, one);
		else
			collect_hole(mig, addr, next);
		if (one)
			break;
		/* A split may have given the page another. */
		if (unlikely(next < mig->end))
			fault_folio = fault_folio_of(mig);
	}
	uhmm__invalidate_end(&range);
	if (!one)
		mig->end = mig->start + (mig->npages << UHMM_PAGE_SHIFT);
}

static uhmm_noinline void collect_many(struct uhmm_migrate_vma *mig,
				       struct uhmm__frame *fault_folio)
{
	collect(mig, fault_folio, false);
}

/* @fault_folio: (out) the folio of the page of the fault, NULL without one. */
static int check_args(struct uhmm_migrate_vma *args, struct uhmm__frame **fault_folio)
{
	int64_t npages = ((int64_t)args->end - (int64_t)args->start) >> UHMM_PAGE_SHIFT;
	struct uhmm_vma *vma = args->vma;

	if (args->size != sizeof(*args))
		return -EINVAL;
	if (unlikely((args->start | args->end) & ~UHMM_PAGE_MASK)) {
		args->start &= UHMM_PAGE_MASK;
		args->end &= UHMM_PAGE_MASK;
	}
	if (!vma || vma->flags & UHMM__VM_SPECIAL || npages <= 0)
		return -EINVAL;
	if (args->start < vma->start || args->end > vma->end || args->start >= args->end)
		return -EINVAL;
	if (!args->src || !args->dst)
		return -EINVAL;
	*fault_folio = NULL;
	if (args->fault_page) {
		struct uhmm_machine *m = vma->mm->machine;
		uint32_t flags;

		if (!pfn_is_device(m, args->fault_page))
			return -EINVAL;
		*fault_folio = page_folio_flags(pfn_to_frame(m, args->fault_page), &flags);
		if (!(flags & BIT(PG_DEVICE_PRIVATE)) || !(flags & BIT(PG_LOCKED)))
			return -EINVAL;
	}
	return 0;
}

uint64_t uhmm_hmm_pfn_to_migrate_pfn(uint64_t hmm_pfn)
{
	return to_migrate_pfn(hmm_pfn);
}

/* Turn the outputs of a combined walk into src[], which may be the same array. */
static void finish_combined(struct uhmm_migrate_vma *mig, const uint64_t *hmm_pfns)
{
	mig->npages = (mig->end - mig->start) >> UHMM_PAGE_SHIFT;
	mig->cpages = uhmm__migrate_hmm_unmap(mig, hmm_pfns);
}

void uhmm_migrate_hmm_range_setup(struct uhmm_hmm_range *range)
{
	finish_combined(range->migrate, range->hmm_pfns);
}

/* MIGRATE_VMA_FAULT: the combined walker, without a sequence to watch. */
static int setup_combined(struct uhmm_migrate_vma *args)
{
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.start = args->start,
		.end = args->end,
		.hmm_pfns = args->src,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_MIGRATE,
		.dev_private_owner = args->pgmap_owner,
		.migrate = args,
	};
	int err;

	memset(args->src, 0, (args->end - args->start) >> UHMM_PAGE_SHIFT << 3);
	if (args->flags & UHMM_MIGRATE_VMA_FAULT_WRITE)
		range.default_flags |= UHMM_HMM_PFN_REQ_WRITE;
	err = uhmm__range_fault_migrate(&range, args->vma->mm, false, NULL, NULL);
	if (!err)
		finish_combined(args, args->src);
	return err;
}

int uhmm_migrate_vma_setup(struct uhmm_migrate_vma *args)
{
	struct uhmm__frame *fault_folio;
	int err = uhmm__current() ? check_args(args, &fault_folio) : -EINVAL;

	if (err)
		return err;
	uhmm__rwsem_assert_held(&args->vma->mm->mmap_lock);
	args->cpages = 0;
	args->npages = 0;
	if (args->flags & (UHMM_MIGRATE_VMA_FAULT | UHMM_MIGRATE_VMA_FAULT_WRITE))
		return setup_combined(args);
	if (READ_ONCE(args->end) - READ_ONCE(args->start) == UHMM_PAGE_SIZE)
		collect(args, fault_folio, true);
	else
		collect_many(args, fault_folio);
	if (args->cpages)
		args->cpages = uhmm__migrate_device_unmap(args->vma->mm->machine, args->src,
							  args->npages, args->fault_page);
	return 0;
}
