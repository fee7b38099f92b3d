// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Faults on entries that are not present, and waiting for them. Models: mm/memory.c:do_swap_page()
 * for entries that are no swap, mm/migrate.c:migration_entry_wait() and
 * mm/filemap.c:softleaf_entry_wait_on_locked().
 */
#include "mm/fault_chain.h"
#include "mm/swap.h"
#include "mm/zone_device.h"

/*
 * Sleep until the folio of an entry is unlocked, without a reference to it: that would make the
 * migration fail which it waits for. The PTL, held until the task is queued,
 * keeps the folio from going away; afterwards it is not touched again.
 * Context: the entry mapped, its PTL held; both are dropped.
 */
static void entry_wait_on_locked(struct uhmm_machine *m, struct uhmm__frame *f, ptent_t *ptep,
				 struct uhmm__spinlock *ptl)
{
	uhmm__pte_unmap(ptep);
	uhmm__bit_wait_unlocked(m, &f->flags, PG_LOCKED, PG_WAITERS, ptl);
}

void uhmm__migration_entry_wait(struct uhmm_mm *mm, ptent_t *pmdp, uhmm_vaddr_t addr)
{
	struct uhmm__spinlock *ptl;
	ptent_t *ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	pte_t pte;

	if (!ptep)
		return;
	pte = ptep_get(ptep);
	if (!leaf_is_migration(pte)) {
		uhmm__pte_unmap_unlock(ptep, ptl);
		return;
	}
	uhmm__count(UHMM_CNT_FAULT_MIGRATION_WAIT);
	entry_wait_on_locked(mm->machine, page_folio(pfn_to_frame(mm->machine, leaf_pfn(pte))),
			     ptep, ptl);
}

/* Call the owner's migrate_to_ram() with the folio of @page, of @pfn, locked and referenced. */
uhmm_always_inline int migrate_to_ram(struct uhmm_machine *m, struct uhmm_vma *vma,
				      uhmm_vaddr_t addr, struct uhmm__frame *page, uhmm_pfn_t pfn,
				      bool pte)
{
	struct uhmm_dev_pagemap *pgmap = page_pgmap(m, pfn);
	struct uhmm_vm_fault vf = {
		.vma = vma,
		.address = addr,
		.page = pfn,
		.pte = pte,
	};
	struct uhmm__frame *f;
	int ret;

	uhmm__count(UHMM_CNT_FAULT_DEVICE);
	ret = pgmap->ops->migrate_to_ram(pgmap->data, &vf);
	/* The folio may have been split: lock and reference are the page's now. */
	f = page_folio(page);
	if (folio_unlock_put_testzero(m, f))
		uhmm__folio_free(m, f);
	if (likely(!ret))
		return 0;
	return ret == UHMM_VM_FAULT_OOM ? VM_FAULT_OOM | VM_FAULT_DRIVER_OOM : VM_FAULT_SIGBUS;
}

int uhmm__migrate_to_ram(struct uhmm__fault *vmf, struct uhmm__frame *page, bool pte)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;

	return migrate_to_ram(m, vmf->vma, vmf->address, page, frame_pfn(m, page), pte);
}

/*
 * With lock-with-ref. After the sleep anything may have become of the page: the entry is looked at
 * again. Context: the entry mapped, its PTL held; both are dropped.
 */
static int lock_with_ref(struct uhmm__fault *vmf, struct uhmm__frame *page, struct uhmm__frame *f)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	bool same = false;

	folio_get(f);
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	folio_lock(m, f);
	vmf->pte = uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (vmf->pte) {
		same = pte_same(ptep_get(vmf->pte), vmf->orig_pte) && page_folio(page) == f;
		uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	}
	if (same)
		return uhmm__migrate_to_ram(vmf, page, true);
	folio_unlock(m, f);
	folio_put(m, f);
	return 0;
}

/*
 * Somebody else has the folio locked. Returns 0 for another look at the entry, or what the fault gives.
 * Context: the entry mapped, its PTL held; both are dropped.
 */
static int uhmm_cold device_private_wait(struct uhmm__fault vmf, struct uhmm__frame *page,
					 struct uhmm__frame *f)
{
	struct uhmm_machine *m = vmf.vma->mm->machine;

	uhmm__count(UHMM_CNT_FAULT_DEVICE_WAIT);
	switch (m->config.device_private_wait) {
	case UHMM_DEVICE_WAIT_ENTRY:
		entry_wait_on_locked(m, f, vmf.pte, vmf.ptl);
		return 0;
	case UHMM_DEVICE_WAIT_LOCK_WITH_REF:
		return lock_with_ref(&vmf, page, f);
	case UHMM_DEVICE_WAIT_MIGRATION_FLAG:
		if (!folio_test(f, PG_MIGRATING))
			break;
		uhmm__pte_unmap(vmf.pte);
		uhmm__bit_wait_unlocked(m, &f->flags, PG_MIGRATING, PG_WAITERS, vmf.ptl);
		return 0;
	default:
		break;
	}
	uhmm__pte_unmap_unlock(vmf.pte, vmf.ptl);
	return 0;
}

/* By an entry that is to be @orig, mapped by a link. Context: its PTL; the link, and the chain with it, ends. */
uhmm_always_inline int device_private_locked(struct uhmm_machine *m, struct uhmm_vma *vma,
					     uhmm_vaddr_t addr, unsigned int flags, ptent_t *pmdp,
					     ptent_t *ptep, struct uhmm__spinlock *ptl, pte_t orig)
{
	uhmm_pfn_t pfn = leaf_pfn(orig);
	struct uhmm__frame *page = pfn_to_frame(m, pfn), *f;

	if (unlikely(!pte_same(ptep_get(ptep), orig))) {
		uhmm__pte_unmap_unlock(ptep, ptl);
		return 0;
	}
	f = page_folio(page);
	/* The lock first, and only then a reference: one for each of many faulting CPUs would
	 * keep the page from migrating at all.
	 */
	if (unlikely(!folio_trylock_get(f)))
		return device_private_wait(
			(struct uhmm__fault){ vma, addr, flags, pmdp, ptep, ptl, orig }, page, f);
	uhmm__pte_unmap_unlock(ptep, ptl);
	return migrate_to_ram(m, vma, addr, page, pfn, true);
}

int uhmm__device_private_fault(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			       ptent_t *pmdp, ptent_t *ptep, pte_t orig)
{
	struct uhmm__spinlock *ptl;

	if (unlikely(flags & FAULT_FLAG_NO_FOLIO_WAIT)) {
		uhmm__pte_unmap(ptep);
		return VM_FAULT_WOULD_WAIT;
	}
	uhmm__pte_unmap_link(ptep);
	ptep = uhmm__pte_offset_map_lock_link(pmdp, addr, &ptl);
	if (unlikely(!ptep)) {
		uhmm__rcu_chain_end();
		return 0;
	}
	return device_private_locked(vma->mm->machine, vma, addr, flags, pmdp, ptep, ptl, orig);
}

/* ---- a CPU's fault on a device's page, in one piece ---- */

/* Whether the VMA that the task found last is the one at that address now. Context: mmap_lock. */
uhmm_always_inline bool last_vma_stays(struct uhmm_mm *mm, const struct uhmm_task *t)
{
	return likely(t->vma_cache_seq == load_acquire(&mm->vmas.seq));
}

/*
 * By mmap_lock, which is held. The entry is looked at again with its lock only, and so is whether its table is
 * still linked. Returns: VM_FAULT_*. Context: in a chain, which ends.
 */
uhmm_always_inline int user_device_fault_locked(struct uhmm_mm *mm, struct uhmm_vma *vma,
						uhmm_vaddr_t addr, unsigned int flags,
						ptent_t *pmdp, ptent_t *ptep, pte_t entry,
						struct uhmm_task *t)
{
	struct uhmm__spinlock *ptl = uhmm__ptlp(ptep);

	uhmm__task_count_course(t, UHMM__COURSE_DEVICE_ENTRY);
	if (unlikely(uhmm__spin_lock(ptl)))
		uhmm__count(UHMM_CNT_PTL_CONTENDED);
	if (unlikely(!table_has(ptep_get(pmdp), ptep))) {
		uhmm__pte_unmap_unlock(ptep, ptl);
		return 0;
	}
	return device_private_locked(mm->machine, vma, addr & UHMM_PAGE_MASK, flags, pmdp, ptep,
				     ptl, entry);
}

int uhmm__user_device_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
			    ptent_t *pmdp, ptent_t *ptep, pte_t entry)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm_vma *vma = lock_vma_quick(mm, addr, t);
	const uint64_t needs = access_needs(flags);
	uint64_t has;
	int fault;

	if (unlikely(!vma))
		return UHMM__FAULT_OTHER;
	has = vma->flags;
	/* It does not do: migrate_to_ram() needs mmap_lock. */
	vma_put_reader_as(vma, mm, t);
	if (unlikely(!(has & needs)))
		return UHMM__FAULT_OTHER;
	uhmm__task_count_course(t, UHMM__COURSE_DEVICE_RETRY);
	if (unlikely(!mmap_read_trylock(mm)))
		return uhmm__user_fault_mmap_lock(mm, addr, flags, pmdp);
	if (unlikely(!last_vma_stays(mm, t) || !(vma->flags & needs))) {
		mmap_read_unlock(mm);
		/* Taken once more, where Linux takes it once. */
		uhmm__count_n(UHMM_CNT_MMAP_READ, -1UL);
		return uhmm__user_fault_mmap_lock(mm, addr, flags, pmdp);
	}
	fault = user_device_fault_locked(mm, vma, addr, flags, pmdp, ptep, entry, t);
	mmap_read_unlock(mm);
	return likely(!fault) ? UHMM__FAULT_UNCHAINED : uhmm__user_fault_failed(fault);
}

/* ---- entries of other kinds ---- */

int uhmm__do_swap_page(struct uhmm__fault *vmf)
{
	pte_t entry = vmf->orig_pte;

	uhmm__pte_unmap(vmf->pte);
	if (leaf_type(entry) == LEAF_SWAP)
		return uhmm__swap_fault(vmf);
	if (leaf_is_migration(entry)) {
		if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
			return VM_FAULT_WOULD_WAIT;
		uhmm__migration_entry_wait(vmf->vma->mm, vmf->pmd, vmf->address);
		return 0;
	}
	if (leaf_is_device_exclusive(entry))
		return uhmm__remove_device_exclusive_entry(vmf);
	if (leaf_type(entry) == LEAF_HWPOISON || leaf_is_marker(entry, MARKER_POISONED))
		return VM_FAULT_HWPOISON;
	if (leaf_is_marker(entry, MARKER_GUARD))
		return VM_FAULT_SIGSEGV;
	return VM_FAULT_SIGBUS;
}
