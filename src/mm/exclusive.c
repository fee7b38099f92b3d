// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Device-exclusive entries: the page stays in RAM, still mapped by count, but the CPU must fault to
 * get at it. Models: mm/rmap.c:make_device_exclusive(), mm/memory.c:restore_exclusive_pte() and
 * remove_device_exclusive_entry().
 */
#include <uhmm/exclusive.h>

#include "mm/gup.h"

/*
 * Put an exclusive entry in place of the writable one of a page. False: it is not there any more.
 * An anonymous page is mapped writable only once, so this is all there is of it.
 */
static bool replace_entry(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = page_folio(pfn_to_frame(mm->machine, pfn));
	struct uhmm__spinlock *ptl;
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level), *ptep;
	pte_t pte, swp;
	bool ok;

	ptep = pmdp ? uhmm__pte_offset_map_lock(pmdp, addr, &ptl) : NULL;
	if (!ptep)
		return false;
	uhmm__count(UHMM_CNT_READ_PTE);
	pte = ptep_get(ptep);
	ok = pte_present(pte) && pte_write(pte) && pte_pfn(pte) == pfn;
	if (ok) {
		pte = uhmm__ptep_clear_flush(&mm->pgt, addr, ptep);
		if (pte_dirty(pte) && !folio_test(f, PG_DIRTY))
			folio_set(f, PG_DIRTY);
		swp = leaf_make(LEAF_DEVICE_EXCLUSIVE, pfn);
		if (pte.val & PTE_SOFT_DIRTY)
			swp = pte_set(swp, LEAF_SOFT_DIRTY);
		set_pte(ptep, swp);
		uhmm__count(UHMM_CNT_MADE_EXCLUSIVE);
	}
	uhmm__pte_unmap_unlock(ptep, ptl);
	return ok;
}

/* One attempt. 0, -errno, or 1: the page changed meanwhile. */
static int try_make_exclusive(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *owner, uhmm_pfn_t *out)
{
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		mm, UHMM_MMU_NOTIFY_EXCLUSIVE, addr, addr + UHMM_PAGE_SIZE, owner);
	struct uhmm_machine *m = mm->machine;
	struct uhmm__frame *f;
	int64_t ret;
	bool ok;

	/* One that is exclusive already is taken back by this, for whomever it was. */
	ret = uhmm__get_user_pages(mm, addr, 1, FOLL_WRITE | FOLL_GET | FOLL_SPLIT_PMD, out, NULL);
	if (ret < 0)
		return (int)ret;
	f = page_folio(pfn_to_frame(m, *out));
	if (!folio_test_anon(f)) {
		folio_put(m, f);
		return -EOPNOTSUPP;
	}
	folio_lock(m, f);
	uhmm__invalidate_start(&range);
	ok = replace_entry(mm, addr, *out);
	uhmm__invalidate_end(&range);
	if (ok)
		return 0;
	folio_unlock(m, f);
	folio_put(m, f);
	return 1;
}

int uhmm_make_device_exclusive(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *owner, uhmm_pfn_t *out)
{
	uhmm_pfn_t pfn = 0;
	int ret;

	if (!uhmm__current())
		return -EINVAL;
	uhmm__rwsem_assert_held(&mm->mmap_lock);
	do {
		ret = try_make_exclusive(mm, addr & UHMM_PAGE_MASK, owner, &pfn);
	} while (ret > 0);
	if (!ret)
		*out = pfn;
	return ret;
}

void uhmm__restore_exclusive_pte(struct uhmm_vma *vma, ptent_t *ptep, pte_t entry)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, leaf_pfn(entry)));
	pte_t pte = pte_clear_bits(pte_mk(leaf_pfn(entry), vma->page_prot), PTE_ACCESSED);

	UHMM_VM_BUG_ON(m, !folio_test(f, PG_LOCKED));
	if (entry.val & LEAF_SOFT_DIRTY)
		pte = pte_set(pte, PTE_SOFT_DIRTY);
	if (entry.val & LEAF_UFFD_WP)
		pte = pte_set(pte, PTE_UFFD_WP);
	if (uhmm__can_change_writable(vma, pte)) {
		if (folio_test(f, PG_DIRTY))
			pte = pte_set(pte, PTE_DIRTY);
		pte = pte_set(pte, PTE_RW);
	}
	set_pte(ptep, pte);
	uhmm__count(UHMM_CNT_RESTORED_EXCLUSIVE);
}

bool uhmm__try_restore_exclusive_pte(struct uhmm_vma *vma, ptent_t *ptep, pte_t entry)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, leaf_pfn(entry)));

	if (!folio_trylock(f))
		return false;
	uhmm__restore_exclusive_pte(vma, ptep, entry);
	folio_unlock(m, f);
	return true;
}

/*
 * The folio lock of a fault, which a migration may hold for long: the first time the fault's own lock
 * is dropped meanwhile. 0 with the lock, else VM_FAULT_*. Models: folio_lock_or_retry().
 */
static int lock_or_retry(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	struct uhmm_mm *mm = vmf->vma->mm;
	bool first = (vmf->flags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED)) ==
		     FAULT_FLAG_ALLOW_RETRY;

	if (folio_trylock(f))
		return 0;
	if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
		return VM_FAULT_WOULD_WAIT;
	if (!first) {
		folio_lock(mm->machine, f);
		return 0;
	}
	if (vmf->flags & FAULT_FLAG_VMA_LOCK)
		vma_end_read(vmf->vma);
	else
		mmap_read_unlock(mm);
	uhmm__bit_wait_unlocked(mm->machine, &f->flags, PG_LOCKED, PG_WAITERS, NULL);
	return VM_FAULT_RETRY;
}

int uhmm__remove_device_exclusive_entry(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, leaf_pfn(vmf->orig_pte)));
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		vma->mm, UHMM_MMU_NOTIFY_CLEAR, vmf->address, vmf->address + UHMM_PAGE_SIZE, NULL);
	int ret;

	uhmm__count(UHMM_CNT_FAULT_EXCLUSIVE);
	/* Free: the entry has gone meanwhile. In use again: it is only locked and unlocked. */
	if (!folio_try_get(f))
		return 0;
	ret = lock_or_retry(vmf, f);
	if (ret) {
		folio_put(m, f);
		return ret;
	}
	uhmm__invalidate_start(&range);
	vmf->pte = uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (vmf->pte) {
		if (pte_same(ptep_get(vmf->pte), vmf->orig_pte))
			uhmm__restore_exclusive_pte(vma, vmf->pte, vmf->orig_pte);
		uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	}
	folio_unlock(m, f);
	folio_put(m, f);
	uhmm__invalidate_end(&range);
	return 0;
}
