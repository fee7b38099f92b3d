/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fault.h - what the handlers of faults on page-table entries share. */
#ifndef UHMM_MM_FAULT_H
#define UHMM_MM_FAULT_H

#include "mm/mm.h"

/* @link in both: the mapping is a link of a chain of RCU sections. */
uhmm_always_inline void vmf_unlock(struct uhmm__fault *vmf, bool link)
{
	if (link)
		uhmm__pte_unmap_unlock_link(vmf->pte, vmf->ptl);
	else
		uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
}

/* Map and lock the entry again. False: it changed, or its table is gone. */
uhmm_always_inline bool vmf_relock(struct uhmm__fault *vmf, bool link)
{
	vmf->pte = link ? uhmm__pte_offset_map_lock_link(vmf->pmd, vmf->address, &vmf->ptl)
			: uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (unlikely(!vmf->pte))
		return false;
	if (likely(pte_same(ptep_get(vmf->pte), vmf->orig_pte)))
		return true;
	vmf_unlock(vmf, link);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
	return false;
}

uhmm_always_inline pte_t maybe_mkwrite(pte_t pte, const struct uhmm_vma *vma)
{
	return likely(vma->flags & UHMM_VM_WRITE) ? pte_set(pte, PTE_RW) : pte;
}

/* The entry of a new page of anonymous memory, which is written to. */
uhmm_always_inline pte_t anon_entry(const struct uhmm_vma *vma, uhmm_pfn_t pfn)
{
	return maybe_mkwrite(pte_set(pte_mk(pfn, vma->page_prot), PTE_DIRTY), vma);
}

/* What rights an access needs, any of which do. */
uhmm_always_inline uint64_t access_needs(unsigned int flags)
{
	if (likely(flags & FAULT_FLAG_WRITE))
		return UHMM_VM_WRITE;
	/* An instruction fetch is a read, until there is a page that says no. */
	if (unlikely(flags & FAULT_FLAG_PROT))
		return UHMM_VM_EXEC;
	return UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC;
}

/* Models: access_error(). */
uhmm_always_inline bool access_error(const struct uhmm_vma *vma, unsigned int flags)
{
	return !(vma->flags & access_needs(flags));
}

/* What a fault of a running process comes to, beside 0, signals and errors. */
enum {
	UHMM__FAULT_AGAIN =
		-10000, /* a device's driver had no memory, and the access may come again */
	UHMM__FAULT_UNCHAINED = -10001, /* done, but not within the chain */
	UHMM__FAULT_LOCKED = -10002,	/* done, within the chain, and the entry is locked */
	UHMM__FAULT_OTHER = -10003,	/* not this kind of fault: nothing was done */
	/* Of an access: a write by one fault that mapped a new page, and *acc was not filled in. */
	UHMM__WROTE_NEW_PAGE = -10004,
};

/*
 * A fault by a running process. Returns: 0 or UHMM__FAULT_LOCKED; else a signal, -ENOMEM, or another
 * UHMM__FAULT_*, and the chain has ended. @vma: the VMA, if it is locked already, or NULL. @pmdp: as
 * try_access() left it. @ptep: (out) the entry that is locked. Context: in a chain. Models:
 * do_user_addr_fault().
 */
int uhmm__user_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
		     struct uhmm_vma *vma, ptent_t *pmdp, ptent_t **ptep);

/*
 * The same on a device's page, whose entry the access found, where nothing is in the way: else
 * UHMM__FAULT_OTHER, and the chain goes on. @entry: of @ptep, in the table that *@pmdp pointed to.
 */
int uhmm__user_device_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
			    ptent_t *pmdp, ptent_t *ptep, pte_t entry);

/* The rest of a fault that needs mmap_lock, which is not held. Context: as above; the chain ends. */
int uhmm__user_fault_mmap_lock(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
			       ptent_t *pmdp);
/* What a fault that failed, VM_FAULT_*, comes to. */
int uhmm__user_fault_failed(int fault);

#endif /* UHMM_MM_FAULT_H */
