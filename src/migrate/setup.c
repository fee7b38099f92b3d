// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * migrate_vma_setup and the separate collector of today's kernel.
 * Models: mm/migrate_device.c:migrate_vma_collect() and migrate_vma_setup().
 */
#include <string.h>

#include "hmm/range.h"
#include "migrate/migrate.h"

static void collect_skip(struct uhmm_migrate_vma *mig, uint64_t n)
{
	memset(&mig->src[mig->npages], 0, n * sizeof(*mig->src));
	memset(&mig->dst[mig->npages], 0, n * sizeof(*mig->dst));
	mig->npages += n;
}

/* Models: migrate_vma_collect_hole(). */
static void collect_hole(struct uhmm_migrate_vma *mig, uint64_t n)
{
	uint64_t *src = &mig->src[mig->npages];

	if (!vma_is_anonymous(mig->vma)) {
		collect_skip(mig, n);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		src[i] = UHMM_MIGRATE_PFN_MIGRATE;
	memset(&mig->dst[mig->npages], 0, n * sizeof(*mig->dst));
	mig->npages += n;
	mig->cpages += n;
}

/* The page that an entry offers, NULL if it is not selected. *mpfn: what src[] will say. */
static struct uhmm__frame *select_page(struct uhmm_migrate_vma *mig, pte_t pte, uint64_t *mpfn)
{
	struct uhmm_machine *m = mig->vma->mm->machine;
	struct uhmm__frame *page;

	if (pte_present(pte)) {
		page = vm_normal_page(m, pte);
		if (!page || !uhmm__select_present(mig, page))
			return NULL;
		*mpfn = pte_write(pte) ? UHMM_MIGRATE_PFN_WRITE : 0;
	} else {
		/* Other entries cannot be migrated; swapped pages are ignored. */
		if (!leaf_is_device_private(pte) ||
		    !(mig->flags & UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE) ||
		    page_pgmap(m, leaf_pfn(pte))->owner != mig->pgmap_owner)
			return NULL;
		page = pfn_to_frame(m, leaf_pfn(pte));
		*mpfn = leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE ? UHMM_MIGRATE_PFN_WRITE : 0;
	}
	if (!load_relaxed(&page_folio(page)->mapping))
		return NULL;
	*mpfn |= uhmm_migrate_pfn(frame_pfn(m, page)) | UHMM_MIGRATE_PFN_MIGRATE;
	return page;
}

/*
 * One entry. Only a trylock: the PTL is held, and so are other folios, whose owners may want this
 * one. Returns what src[] says. Context: PTL.
 */
static uint64_t collect_pte(struct uhmm_migrate_vma *mig, uhmm_vaddr_t addr, ptent_t *ptep,
			    pte_t pte, struct uhmm__frame *fault_folio, bool *unmapped)
{
	struct uhmm_machine *m = mig->vma->mm->machine;
	struct uhmm__frame *page, *f;
	uint64_t mpfn;

	if (pte_none(pte))
		return vma_is_anonymous(mig->vma) ? UHMM_MIGRATE_PFN_MIGRATE : 0;
	if (pte_present(pte) && pte_pfn(pte) == m->zero_pfn)
		return mig->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM ? UHMM_MIGRATE_PFN_MIGRATE : 0;
	page = select_page(mig, pte, &mpfn);
	if (!page)
		return 0;
	f = page_folio(page);
	if (f != fault_folio && !folio_trylock(f)) {
		uhmm__count(UHMM_CNT_FAIL_LOCKED);
		return 0;
	}
	if (!uhmm__install_migration_entry(mig->vma, addr, ptep, pte, page, NULL)) {
		uhmm__count(UHMM_CNT_FAIL_PINNED);
		if (f != fault_folio)
			folio_unlock(m, f);
		return 0;
	}
	*unmapped |= pte_present(pte);
	uhmm__count(UHMM_CNT_COLLECTED);
	return mpfn;
}

/* The part of the range under one PTE table. Models: migrate_vma_collect_pmd(). */
static void collect_ptes(struct uhmm_migrate_vma *mig, ptent_t *ptep, struct uhmm__spinlock *ptl,
			 uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm_mm *mm = mig->vma->mm;
	struct uhmm__frame *fault_folio =
		mig->fault_page ? page_folio(pfn_to_frame(mm->machine, mig->fault_page)) : NULL;
	uhmm_vaddr_t start = addr;
	ptent_t *start_pte = ptep;
	bool unmapped = false;

	uhmm__count_n(UHMM_CNT_READ_PTE, (end - addr) >> UHMM_PAGE_SHIFT);
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++) {
		uint64_t mpfn =
			collect_pte(mig, addr, ptep, ptep_get(ptep), fault_folio, &unmapped);

		mig->cpages += !!(mpfn & UHMM_MIGRATE_PFN_MIGRATE);
		mig->dst[mig->npages] = 0;
		mig->src[mig->npages++] = mpfn;
	}
	/* Before the lock goes: whoever finds the entry gone relies on that it is flushed. */
	if (unmapped)
		uhmm__flush_tlb_range(&mm->pgt, start, end);
	uhmm__pte_unmap_unlock(start_pte, ptl);
}

static void collect(struct uhmm_migrate_vma *mig)
{
	struct uhmm_mm *mm = mig->vma->mm;
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		mm, UHMM_MMU_NOTIFY_MIGRATE, mig->start, mig->end, mig->pgmap_owner);
	uhmm_vaddr_t addr, next;

	uhmm__count(UHMM_CNT_WALKS);
	uhmm__invalidate_start(&range);
	for (addr = mig->start; addr < mig->end; addr = next) {
		struct uhmm__spinlock *ptl;
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level), *ptep;

		next = level_addr_end(addr, mig->end, level);
		ptep = pmdp ? uhmm__pte_offset_map_lock(pmdp, addr, &ptl) : NULL;
		if (ptep)
			collect_ptes(mig, ptep, ptl, addr, next);
		else
			collect_hole(mig, (next - addr) >> UHMM_PAGE_SHIFT);
	}
	uhmm__invalidate_end(&range);
	mig->end = mig->start + (mig->npages << UHMM_PAGE_SHIFT);
}

static int check_args(struct uhmm_migrate_vma *args)
{
	int64_t npages = ((int64_t)args->end - (int64_t)args->start) >> UHMM_PAGE_SHIFT;
	struct uhmm_vma *vma = args->vma;

	if (args->size != sizeof(*args))
		return -EINVAL;
	args->start &= UHMM_PAGE_MASK;
	args->end &= UHMM_PAGE_MASK;
	if (!vma || vma->flags & UHMM__VM_SPECIAL || npages <= 0)
		return -EINVAL;
	if (args->start < vma->start || args->start >= vma->end || args->end <= vma->start ||
	    args->end > vma->end)
		return -EINVAL;
	if (!args->src || !args->dst)
		return -EINVAL;
	if (args->fault_page) {
		struct uhmm_machine *m = vma->mm->machine;

		if (!uhmm_is_device_private_page(m, args->fault_page) ||
		    !folio_test(page_folio(pfn_to_frame(m, args->fault_page)), PG_LOCKED))
			return -EINVAL;
	}
	return 0;
}

uint64_t uhmm_hmm_pfn_to_migrate_pfn(uint64_t hmm_pfn)
{
	uint64_t mpfn;

	if (!(hmm_pfn & UHMM_HMM_PFN_MIGRATE))
		return 0;
	if (!(hmm_pfn & UHMM_HMM_PFN_VALID))
		return UHMM_MIGRATE_PFN_MIGRATE;
	mpfn = uhmm_migrate_pfn(uhmm_hmm_pfn_to_pfn(hmm_pfn)) | UHMM_MIGRATE_PFN_MIGRATE;
	return hmm_pfn & UHMM_HMM_PFN_WRITE ? mpfn | UHMM_MIGRATE_PFN_WRITE : mpfn;
}

/* Turn the outputs of a combined walk into src[], which may be the same array. */
static void finish_combined(struct uhmm_migrate_vma *mig, const uint64_t *hmm_pfns)
{
	struct uhmm_machine *m = mig->vma->mm->machine;

	mig->npages = (mig->end - mig->start) >> UHMM_PAGE_SHIFT;
	mig->cpages = 0;
	for (uint64_t i = 0; i < mig->npages; i++) {
		mig->src[i] = uhmm_hmm_pfn_to_migrate_pfn(hmm_pfns[i]);
		mig->cpages += !!mig->src[i];
	}
	memset(mig->dst, 0, mig->npages * sizeof(*mig->dst));
	if (mig->cpages)
		mig->cpages = uhmm__migrate_device_unmap(m, mig->src, mig->npages, mig->fault_page);
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

	if (args->flags & UHMM_MIGRATE_VMA_FAULT_WRITE)
		range.default_flags |= UHMM_HMM_PFN_REQ_WRITE;
	err = uhmm__range_fault_migrate(&range, args->vma->mm, false, false);
	if (!err)
		finish_combined(args, args->src);
	return err;
}

int uhmm_migrate_vma_setup(struct uhmm_migrate_vma *args)
{
	int err = uhmm__current() ? check_args(args) : -EINVAL;

	if (err)
		return err;
	uhmm__rwsem_assert_held(&args->vma->mm->mmap_lock);
	memset(args->src, 0, (args->end - args->start) >> UHMM_PAGE_SHIFT << 3);
	args->cpages = 0;
	args->npages = 0;
	if (args->flags & (UHMM_MIGRATE_VMA_FAULT | UHMM_MIGRATE_VMA_FAULT_WRITE))
		return setup_combined(args);
	collect(args);
	if (args->cpages)
		args->cpages = uhmm__migrate_device_unmap(args->vma->mm->machine, args->src,
							  args->npages, args->fault_page);
	return 0;
}
