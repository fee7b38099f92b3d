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
	return vma->flags & UHMM_VM_WRITE ? pte_set(pte, PTE_RW) : pte;
}

#endif /* UHMM_MM_FAULT_H */
