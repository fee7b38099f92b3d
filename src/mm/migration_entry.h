/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * migration_entry.h - the entry that stands for a page while it moves. Inline, for every page that
 * moves comes by here.
 */
#ifndef UHMM_MM_MIGRATION_ENTRY_H
#define UHMM_MM_MIGRATION_ENTRY_H

#include "mm/mm.h"

/* The migration entry for one that maps a page. @present: it was; @exclusive: the page was it. */
uhmm_always_inline pte_t make_migration_entry(pte_t pte, bool present, bool exclusive)
{
	enum leaf_type type = exclusive ? LEAF_MIGRATION_READ_EXCLUSIVE : LEAF_MIGRATION_READ;

	if (likely(present)) {
		uint64_t offset = pte_pfn(pte) | carry_bit(pte.val, PTE_ACCESSED | PTE_DIRTY,
							   LEAF_YOUNG | LEAF_DIRTY);

		return pte_set(leaf_make(pte_write(pte) ? LEAF_MIGRATION_WRITE : type, offset),
			       carry_bit(pte.val, PTE_SOFT_DIRTY, LEAF_SOFT_DIRTY) |
				       carry_bit(pte.val, PTE_UFFD_WP, LEAF_UFFD_WP));
	}
	if (leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE)
		type = LEAF_MIGRATION_WRITE;
	/* The pfn is all that its offset has; soft-dirty and uffd-wp stay. */
	return leaf_retype(pte, type);
}

/*
 * folio_add_anon_rmap() and folio_remove_rmap() of a folio of one page that is locked as well: nobody else
 * maps it, so the count of one that is mapped nowhere else needs no atomic instruction. Context: PTL, folio
 * lock.
 */
uhmm_always_inline void folio_add_anon_rmap_locked(struct uhmm__frame *f, bool exclusive)
{
	if (unlikely(load_relaxed(&f->mapcount)))
		atomic_fetch_add_explicit(&f->mapcount, 1, memory_order_relaxed);
	else
		store_relaxed(&f->mapcount, 1);
	if (exclusive)
		folio_set(f, PG_ANON_EXCLUSIVE);
}

/*
 * The same with the mapping's reference. @flags: the page's. That it is exclusive only holders of the PTL say,
 * so a bit that is clear can be added, in the plain library together with the reference.
 */
uhmm_always_inline void folio_get_anon_rmap_locked(struct uhmm__frame *f, uint32_t flags,
						   bool exclusive)
{
	if (!UHMM_CHECKED && exclusive && likely(!(flags & BIT(PG_ANON_EXCLUSIVE)))) {
		atomic_fetch_add_explicit(&f->flags_refs,
					  FOLIO_FLAGS_REFS(BIT(PG_ANON_EXCLUSIVE), 1),
					  memory_order_release);
		folio_add_anon_rmap_locked(f, false);
		return;
	}
	folio_get(f);
	folio_add_anon_rmap_locked(f, exclusive);
}

uhmm_always_inline void folio_remove_rmap_locked(struct uhmm__frame *f)
{
	if (unlikely(load_relaxed(&f->mapcount) != 1))
		atomic_fetch_sub_explicit(&f->mapcount, 1, memory_order_relaxed);
	else
		store_relaxed(&f->mapcount, 0);
}

/* make_migration_entry() of one that is present, exclusive and without uffd-wp. */
uhmm_always_inline pte_t make_exclusive_migration_entry(pte_t pte)
{
	/* The two types differ in one bit, and so does each bit of the offset from its inverse. */
	const uint64_t none = leaf_make(LEAF_MIGRATION_READ_EXCLUSIVE, 0).val;

	_Static_assert(LEAF_MIGRATION_WRITE == (LEAF_MIGRATION_READ_EXCLUSIVE | 1), "by one bit");
	return pte_make(none ^
			carry_bit(pte.val, PTE_PFN_MASK, LEAF_PFN_MASK << LEAF_OFFSET_SHIFT) ^
			carry_bit(pte.val, PTE_ACCESSED | PTE_DIRTY,
				  (LEAF_YOUNG | LEAF_DIRTY) << LEAF_OFFSET_SHIFT) ^
			carry_bit(pte.val, PTE_RW, BIT(LEAF_TYPE_SHIFT)) ^
			carry_bit(pte.val, PTE_SOFT_DIRTY, LEAF_SOFT_DIRTY));
}

/*
 * Lock the folio @f of one page that @pte, which is at @ptep, present and without uffd-wp, maps exclusively, and
 * replace the entry by a migration entry. @flags_refs: what the folio's are: not locked, not pinned. The mapping's
 * reference is now the caller's. False: somebody has the lock or came in between, and all is as it was.
 * Context: PTL.
 *
 * As install_migration_entry(), and for its reasons in this order: the entry goes first, then pins are looked
 * for. In the plain library the lock is taken, the count looked at and the page shared by one atomic
 * instruction: a pin that raised the count before makes it fail, one that raises it later sees the entry gone.
 */
uhmm_always_inline bool freeze_exclusive(struct uhmm_machine *m uhmm_unused, ptent_t *ptep,
					 pte_t pte, struct uhmm__frame *f, uint64_t flags_refs)
{
	uint64_t exclusive = FOLIO_FLAGS_REFS(BIT(PG_ANON_EXCLUSIVE), 0);
	uint64_t locked = FOLIO_FLAGS_REFS(BIT(PG_LOCKED), 0);
	uint64_t dirty = FOLIO_FLAGS_REFS(carry_bit(pte.val, PTE_DIRTY, BIT(PG_DIRTY)), 0);

	UHMM_VM_BUG_ON(m, !folio_test_anon(f) || load_relaxed(&f->mapcount) != 1);
	if (UHMM_CHECKED) {
		if (!folio_trylock(f))
			return false;
		/* The entry is still @pte: who marks it accessed or dirty has its PTL. */
		(void)ptep_xchg_clear(ptep);
		if (unlikely(folio_maybe_dma_pinned(f))) {
			set_pte(ptep, pte);
			folio_unlock(m, f);
			return false;
		}
		folio_change(f, (uint32_t)BIT(PG_ANON_EXCLUSIVE),
			     (uint32_t)carry_bit(pte.val, PTE_DIRTY, BIT(PG_DIRTY)));
	} else {
		set_pte(ptep, pte_make(0));
		if (unlikely(!atomic_compare_exchange_strong_explicit(
			    &f->flags_refs, &flags_refs, (flags_refs - exclusive + locked) | dirty,
			    memory_order_acq_rel, memory_order_relaxed))) {
			set_pte(ptep, pte);
			return false;
		}
	}
	set_pte(ptep, make_exclusive_migration_entry(pte));
	/* It was mapped once. */
	store_relaxed(&f->mapcount, 0);
	return true;
}

/*
 * Replace one entry by a migration entry under its PTL, as the collectors do.
 * @pte: the entry, present or device-private, that maps @page of the locked folio @f
 * @flush: (in/out) set if the caller must flush before it drops the PTL; NULL: an exclusive page is
 * flushed here, at once, and others are the caller's to flush if the entry was present
 * Returns: false if the page may be pinned: the entry is as it was.
 * The mapping is now the caller's to take off the page, and the mapping's reference the caller's.
 */
uhmm_always_inline bool install_migration_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr,
						ptent_t *ptep, pte_t pte, struct uhmm__frame *page,
						struct uhmm__frame *f, bool *flush)
{
	bool exclusive = likely(folio_test(page, PG_ANON_EXCLUSIVE)) && folio_test_anon(f);
	bool present = pte_present(pte);
	uint32_t shared = exclusive ? (uint32_t)BIT(PG_ANON_EXCLUSIVE) : 0;
	uint32_t dirty;

	/*
	 * Invalidate first, then look for pins: a lockless pinner that does it the other way round
	 * either sees the entry gone or is seen. It only looks at present ones.
	 */
	pte = exclusive && present ? ptep_xchg_clear(ptep) : ptep_get_and_clear(ptep);
	if (exclusive && present && !flush)
		uhmm__flush_tlb_page(&vma->mm->pgt, addr);
	/* As folio_try_share_anon_rmap(). */
	if (exclusive && unlikely(folio_maybe_dma_pinned(f))) {
		set_pte(ptep, pte);
		return false;
	}
	if (flush)
		*flush |= present;
	dirty = present ? (uint32_t)carry_bit(pte.val, PTE_DIRTY, BIT(PG_DIRTY)) : 0;
	if (!present && exclusive) {
		folio_clear(page, PG_ANON_EXCLUSIVE);
	} else if (likely(page == f)) {
		folio_change(f, shared, dirty);
	} else {
		folio_change(page, shared, 0);
		folio_change(f, 0, dirty);
	}
	set_pte(ptep, make_migration_entry(pte, present, exclusive));
	return true;
}

#endif /* UHMM_MM_MIGRATION_ENTRY_H */
