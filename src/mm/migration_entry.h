/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * migration_entry.h - the entry that stands for a page while it moves. Inline, for every page that
 * moves comes by here.
 */
#ifndef UHMM_MM_MIGRATION_ENTRY_H
#define UHMM_MM_MIGRATION_ENTRY_H

#include "mm/mm.h"

/* The migration entry for an entry that maps @page. @exclusive: the page was it. */
uhmm_always_inline pte_t make_migration_entry(uhmm_pfn_t pfn, pte_t pte, bool exclusive)
{
	bool present = pte_present(pte);
	uint64_t offset = pfn;
	enum leaf_type type;
	pte_t swp;

	if (present ? pte_write(pte) : leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE)
		type = LEAF_MIGRATION_WRITE;
	else
		type = exclusive ? LEAF_MIGRATION_READ_EXCLUSIVE : LEAF_MIGRATION_READ;
	/* Only a present entry has such bits: a device-private one must not be asked. */
	if (present && pte_dirty(pte))
		offset |= LEAF_DIRTY;
	if (present && pte_young(pte))
		offset |= LEAF_YOUNG;
	swp = leaf_make(type, offset);
	if (present ? pte.val & PTE_SOFT_DIRTY : pte.val & LEAF_SOFT_DIRTY)
		swp = pte_set(swp, LEAF_SOFT_DIRTY);
	if (present ? pte.val & PTE_UFFD_WP : pte.val & LEAF_UFFD_WP)
		swp = pte_set(swp, LEAF_UFFD_WP);
	return swp;
}

/*
 * Replace one entry by a migration entry under its PTL, as the collectors do.
 * @pte: the entry, present or device-private, that maps @page of a locked folio
 * @flush: (in/out) set if the caller must flush before it drops the PTL; NULL: an exclusive page is
 * flushed here, at once, and others are the caller's to flush if the entry was present
 * Returns: false if the page may be pinned: the entry is as it was.
 * The mapping's reference is now the caller's.
 */
uhmm_always_inline bool install_migration_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr,
						ptent_t *ptep, pte_t pte, struct uhmm__frame *page,
						bool *flush)
{
	struct uhmm__frame *f = page_folio(page);
	bool exclusive = folio_test(page, PG_ANON_EXCLUSIVE) && folio_test_anon(f);
	bool present = pte_present(pte);

	/*
	 * Invalidate first, then look for pins: a lockless pinner that does it the other way round
	 * either sees the entry gone or is seen.
	 */
	pte = exclusive ? ptep_xchg_clear(ptep) : ptep_get_and_clear(ptep);
	if (exclusive && present && !flush)
		uhmm__flush_tlb_page(&vma->mm->pgt, addr);
	if (exclusive && !folio_try_share_anon_rmap(page)) {
		set_pte(ptep, pte);
		return false;
	}
	if (flush)
		*flush |= present;
	if (present && pte_dirty(pte) && !folio_test(f, PG_DIRTY))
		folio_set(f, PG_DIRTY);
	set_pte(ptep, make_migration_entry(frame_pfn(vma->mm->machine, page), pte, exclusive));
	folio_remove_rmap(page, vma->mm);
	return true;
}

#endif /* UHMM_MM_MIGRATION_ENTRY_H */
