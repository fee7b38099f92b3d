/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * remap.h - migration entries become mappings again, for many folios one after the other. Inline, for every
 * page that moves comes by here. Models: mm/migrate.c:remove_migration_ptes().
 */
#ifndef UHMM_MM_REMAP_H
#define UHMM_MM_REMAP_H

#include "mm/migration_entry.h"

/*
 * What folios share with those before: the lock of their family, and a table that is mapped and locked. Of
 * @mapping, the pages from @pgoff on have their entries there, and no VMA but one may map them: they need
 * no walk. The lock of the family keeps that so.
 */
struct uhmm__remap {
	struct uhmm_machine *machine;
	struct uhmm__anon_vma *held; /* a root whose lock is held, or NULL */
	uintptr_t mapping;
	uint64_t pgoff, nr;		    /* nr 0: no table is locked */
	struct uhmm__anon_vma_chain *chain; /* of the VMA */
	ptent_t *ptep;			    /* of @pgoff */
	struct uhmm__spinlock *ptl;
	uint64_t again; /* pages for which nothing was looked up */
};

/* The entry that maps a device-private page in place of a migration entry. */
uhmm_always_inline pte_t device_private_mapping_of(pte_t swp, bool write, uhmm_pfn_t pfn)
{
	enum leaf_type type = write ? LEAF_DEVICE_PRIVATE_WRITE : LEAF_DEVICE_PRIVATE_READ;

	return pte_set(leaf_make_pfn(type, pfn), swp.val & (LEAF_SOFT_DIRTY | LEAF_UFFD_WP));
}

/* The same of any page. @flags: of its folio. */
uhmm_always_inline pte_t mapping_of(struct uhmm_vma *vma, pte_t swp, uhmm_pfn_t pfn, uint32_t flags)
{
	bool write = leaf_type(swp) == LEAF_MIGRATION_WRITE;
	uint64_t offset = leaf_offset(swp);
	pte_t pte;

	if (flags & BIT(PG_DEVICE_PRIVATE))
		return device_private_mapping_of(swp, write, pfn);
	pte = pte_mk(pfn, READ_ONCE(vma->page_prot));
	if (!(offset & LEAF_YOUNG))
		pte = pte_clear_bits(pte, PTE_ACCESSED);
	if ((offset & LEAF_DIRTY) && flags & BIT(PG_DIRTY))
		pte = pte_set(pte, PTE_DIRTY);
	if (swp.val & LEAF_SOFT_DIRTY)
		pte = pte_set(pte, PTE_SOFT_DIRTY);
	if (write && (READ_ONCE(vma->flags) & UHMM_VM_WRITE))
		pte = pte_set(pte, PTE_RW);
	else if (swp.val & LEAF_UFFD_WP)
		pte = pte_set(pte, PTE_UFFD_WP);
	return pte;
}

/*
 * Map @pfn in place of a migration entry: a folio of one page, which has these flags. Context: PTL, folio
 * lock.
 */
uhmm_always_inline void restore_pte(struct uhmm_vma *vma, ptent_t *ptep, pte_t swp, uhmm_pfn_t pfn,
				    struct uhmm__frame *f, uint32_t flags, bool anon)
{
	folio_get_anon_rmap_locked(f, flags, anon && leaf_type(swp) != LEAF_MIGRATION_READ);
	set_pte(ptep, mapping_of(vma, swp, pfn, flags));
}

/* So many pages were found without a walk; Linux walks page by page, and so it is counted. */
void uhmm__remap_count(uint64_t again);

/*
 * Unlock the table of the page before, if any. @held stays locked: end with rmap_release(). Context: may
 * sleep afterwards.
 */
uhmm_always_inline void uhmm__remap_unlock(struct uhmm__remap *r)
{
	if (!r->nr)
		return;
	uhmm__pte_unmap_unlock(r->ptep, r->ptl);
	r->nr = 0;
	if (r->again)
		uhmm__remap_count(r->again);
	uhmm__cond_resched();
}

/* Go to the table of another page. NULL: all is done for it. */
ptent_t *uhmm__remap_seek(struct uhmm__remap *r, uhmm_pfn_t old, struct uhmm__frame *dst);

/*
 * Turn the migration entries that stand for @old into mappings of @new, the folio @dst, which has these
 * flags. Both locked.
 */
uhmm_always_inline void uhmm__remap_folio(struct uhmm__remap *r, uhmm_pfn_t old, uhmm_pfn_t new,
					  struct uhmm__frame *dst, uint32_t flags)
{
	uint64_t n = load_relaxed(&dst->index) - r->pgoff;
	ptent_t *ptep;
	pte_t swp;

	if (likely(load_relaxed(&dst->mapping) == r->mapping && n < r->nr &&
		   !(flags & FOLIO_ORDER_MASK))) {
		ptep = r->ptep + n;
		r->again++;
	} else {
		ptep = uhmm__remap_seek(r, old, dst);
		if (!ptep)
			return;
	}
	swp = ptep_get(ptep);
	if (likely(leaf_is_migration(swp) && leaf_pfn(swp) == old))
		restore_pte(r->chain->vma, ptep, swp, new, dst, flags, true);
}

/* The same of one folio by itself. */
void uhmm__remap_page(struct uhmm_machine *m, uhmm_pfn_t old, uhmm_pfn_t new,
		      struct uhmm__frame *dst, uint32_t flags);

#endif /* UHMM_MM_REMAP_H */
