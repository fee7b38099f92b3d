// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reverse map walks of reclaim: was a folio used lately, and taking its mappings away. Models:
 * mm/rmap.c:folio_referenced() and try_to_unmap() for folios of one page.
 */
#include "mm/swap.h"

/* ---- used lately? ---- */

struct referenced {
	struct uhmm_machine *m;
	unsigned int nr;
	uint64_t vm_flags;
};

/* Models: folio_referenced_one(). */
static bool referenced_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
			   void *arg)
{
	struct referenced *r = arg;
	struct uhmm__spinlock *ptl;
	ptent_t *ptep = uhmm__rmap_map_lock(vma->mm, addr, &ptl);
	pte_t pte;

	if (!ptep)
		return true;
	pte = ptep_get(ptep);
	if (entry_maps(pte, ram_pfn(r->m, f))) {
		if (READ_ONCE(vma->flags) & UHMM_VM_LOCKED)
			r->vm_flags |= UHMM_VM_LOCKED;
		else if (pte_present(pte) && pte_young(pte)) {
			/* Not flushed, as on x86: a stale translation only delays the next bit. */
			set_pte(ptep, pte_clear_bits(pte, PTE_ACCESSED));
			r->nr++;
			r->vm_flags |= READ_ONCE(vma->flags);
		}
	}
	uhmm__pte_unmap_unlock(ptep, ptl);
	return !(r->vm_flags & UHMM_VM_LOCKED);
}

unsigned int uhmm__folio_referenced(struct uhmm_machine *m, struct uhmm__frame *f,
				    uint64_t *vm_flags)
{
	struct referenced r = { .m = m };

	if (folio_mapped(f))
		uhmm__rmap_walk(f, referenced_one, &r);
	*vm_flags = r.vm_flags;
	return r.nr;
}

/* ---- unmap ---- */

/*
 * A page that MADV_FREE gave up may go if nobody wrote to it since. Models:
 * ttu_anon_lazyfree_folio().
 */
static bool may_discard(struct uhmm__frame *f)
{
	uint32_t ref = folio_ref_count(f);

	if (folio_test(f, PG_DIRTY)) {
		/* It is wanted again. */
		folio_set(f, PG_SWAPBACKED);
		return false;
	}
	/* Whoever has a reference may be about to write: look again another time. */
	return ref == 1 + (uint32_t)folio_mapcount(f);
}

/* The entry that takes the place of a mapping. Models: ttu_anon_swapbacked_folio(). */
static bool make_swap_entry(struct uhmm_machine *m, struct uhmm__frame *f, pte_t pte, pte_t *out)
{
	bool exclusive = folio_test(f, PG_ANON_EXCLUSIVE), present = pte_present(pte);

	uhmm__folio_dup_swap(m, f);
	if (exclusive && !folio_try_share_anon_rmap(f)) {
		uhmm__folio_put_swap(m, f);
		return false;
	}
	*out = swap_entry(f->aux);
	if (exclusive)
		*out = pte_set(*out, LEAF_EXCLUSIVE);
	if (present ? pte.val & PTE_SOFT_DIRTY : pte.val & LEAF_SOFT_DIRTY)
		*out = pte_set(*out, LEAF_SOFT_DIRTY);
	if (present ? pte.val & PTE_UFFD_WP : pte.val & LEAF_UFFD_WP)
		*out = pte_set(*out, LEAF_UFFD_WP);
	return true;
}

/* What takes the place of a mapping, if anything. False: it must stay. */
static bool replacement(struct uhmm_machine *m, struct uhmm__frame *f, pte_t pte, pte_t *out)
{
	if (!folio_test_anon(f))
		return true;
	/* It became one or the other since it was looked at. */
	if (folio_test(f, PG_SWAPBACKED) != folio_test(f, PG_SWAPCACHE))
		return false;
	return folio_test(f, PG_SWAPBACKED) ? make_swap_entry(m, f, pte, out) : may_discard(f);
}

/* Models: try_to_unmap_one(). Nothing is left of a page of a file. */
static bool take(struct uhmm_vma *vma, uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
		 struct uhmm__frame *f)
{
	struct uhmm_machine *m = vma->mm->machine;
	pte_t swp = pte_make(0);

	pte = ptep_xchg_clear(ptep);
	if (pte_present(pte)) {
		uhmm__flush_tlb_page(&vma->mm->pgt, addr);
		if (pte_dirty(pte))
			folio_set(f, PG_DIRTY);
	}
	if (!replacement(m, f, pte, &swp)) {
		set_pte(ptep, pte);
		return false;
	}
	if (!pte_none(swp))
		set_pte(ptep, swp);
	folio_remove_rmap(f, vma->mm);
	return true;
}

static bool take_for_reclaim(struct uhmm_vma *vma, uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
			     struct uhmm__frame *f)
{
	return !(READ_ONCE(vma->flags) & UHMM_VM_LOCKED) && take(vma, addr, ptep, pte, f);
}

static bool unmap_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
		      void *arg uhmm_unused)
{
	return uhmm__rmap_take(vma, addr, f, take_for_reclaim);
}

void uhmm__try_to_unmap(struct uhmm__frame *f)
{
	uhmm__rmap_walk(f, unmap_one, NULL);
}

static bool unmap_cached_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
			     void *arg uhmm_unused)
{
	return uhmm__rmap_take(vma, addr, f, take);
}

void uhmm__unmap_to_swap(struct uhmm__frame *f)
{
	uhmm__rmap_walk(f, unmap_cached_one, NULL);
}
