// SPDX-License-Identifier: LGPL-2.1-or-later
/* Faults on swap entries. Models: the swap part of mm/memory.c:do_swap_page(). */
#include "mm/swap.h"

static bool relock_same(struct uhmm__fault *vmf)
{
	vmf->pte = uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (!vmf->pte)
		return false;
	if (pte_same(ptep_get(vmf->pte), vmf->orig_pte))
		return true;
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	return false;
}

/*
 * 0 with the folio locked, or what the fault returns. Who may retry does not wait with its lock:
 * the folio may be another migration's for long. Models: __folio_lock_or_retry().
 */
static int lock_or_retry(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	struct uhmm_mm *mm = vmf->vma->mm;
	struct uhmm_machine *m = mm->machine;

	if (folio_trylock(f))
		return 0;
	if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
		return VM_FAULT_WOULD_WAIT;
	if (!(vmf->flags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_VMA_LOCK))) {
		folio_lock(m, f);
		return 0;
	}
	if (vmf->flags & FAULT_FLAG_VMA_LOCK)
		vma_end_read(vmf->vma);
	else
		mmap_read_unlock(mm);
	folio_lock(m, f);
	folio_unlock(m, f);
	return VM_FAULT_RETRY;
}

/* Whether a folio that was just mapped should give up its slot. Context: folio locked. */
static bool should_try_to_free_swap(struct uhmm__swap *s, struct uhmm__fault *vmf, bool exclusive,
				    const struct uhmm_machine_config *config)
{
	if (config->swap == UHMM_SWAP_RAM_DISK)
		return true;
	if (swap_full(s) || vmf->vma->flags & UHMM_VM_LOCKED)
		return true;
	return exclusive && vmf->flags & FAULT_FLAG_WRITE;
}

/* The entry that maps the folio in place of a swap entry. */
static pte_t mapping_of(struct uhmm__fault *vmf, struct uhmm__frame *f, bool exclusive)
{
	const struct uhmm_vma *vma = vmf->vma;
	pte_t swp = vmf->orig_pte, pte = pte_mk(frame_pfn(vma->mm->machine, f), vma->page_prot);

	if (swp.val & LEAF_SOFT_DIRTY)
		pte = pte_set(pte, PTE_SOFT_DIRTY);
	if (swp.val & LEAF_UFFD_WP)
		pte = pte_set(pte, PTE_UFFD_WP);
	else if (exclusive && vma->flags & UHMM_VM_WRITE)
		pte = pte_set(pte, PTE_RW | (vmf->flags & FAULT_FLAG_WRITE ? PTE_DIRTY : 0));
	return pte;
}

/*
 * The reference that swapping in took is the mapping's from now on. Others may try to lock the folio
 * or take references at the same time. Models: folio_add_new_anon_rmap(), folio_add_anon_rmap_ptes().
 */
static void add_rmap(struct uhmm__fault *vmf, struct uhmm__frame *f, bool exclusive)
{
	struct uhmm__anon_vma *av = load_relaxed(&vmf->vma->anon_vma);

	if (!folio_test_anon(f)) {
		/* What several may map is to be found from the oldest of the family. */
		if (!exclusive)
			av = anon_vma_root(av);
		store_relaxed(&f->index, vma_anon_pgoff(vmf->vma, vmf->address));
		store_release(&f->mapping, (uintptr_t)av | MAPPING_ANON);
	}
	folio_add_anon_rmap(f, vmf->vma->mm, exclusive);
}

/*
 * Map a locked folio. Context: the entry locked and unchanged, which is unlocked, as is the folio.
 */
static int map_folio(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	bool exclusive = vmf->orig_pte.val & LEAF_EXCLUSIVE;
	pte_t pte = mapping_of(vmf, f, exclusive);

	UHMM_VM_BUG_ON(m, folio_test_anon(f) && folio_test(f, PG_ANON_EXCLUSIVE));
	add_rmap(vmf, f, exclusive);
	uhmm__folio_put_swap(m, f);
	set_pte(vmf->pte, pte);
	/* Only now: who is slower finds the folio in the cache and waits for its lock. */
	if (should_try_to_free_swap(m->swap, vmf, exclusive, &m->config))
		uhmm__folio_free_swap(m, f);
	folio_unlock(m, f);
	if (vmf->flags & FAULT_FLAG_WRITE && !pte_write(pte)) {
		vmf->orig_pte = pte;
		return uhmm__do_wp_page(vmf);
	}
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	return 0;
}

/* No folio: there is no RAM, unless the entry changed meanwhile, even if it is the same again. */
static int no_folio(struct uhmm__fault *vmf, int err)
{
	if (err != -ENOMEM || !relock_same(vmf))
		return 0;
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	return VM_FAULT_OOM;
}

int uhmm__swap_fault(struct uhmm__fault *vmf)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	uint64_t slot = leaf_offset(vmf->orig_pte);
	struct uhmm__frame *f = uhmm__swap_cache_get(m, slot);
	int ret = 0;

	uhmm__count(UHMM_CNT_FAULT_SWAP);
	if (f)
		uhmm__count(UHMM_CNT_FAULT_SWAP_CACHED);
	else
		ret = uhmm__swapin(m, slot, &f);
	if (unlikely(ret))
		return no_folio(vmf, ret);
	ret = lock_or_retry(vmf, f);
	if (ret)
		goto put;
	/* It may have left the cache, and even have entered it again for another slot. */
	if (!folio_test(f, PG_SWAPCACHE) || f->aux != slot)
		goto unlock;
	if (unlikely(folio_test(f, PG_HWPOISON))) {
		ret = VM_FAULT_HWPOISON;
		goto unlock;
	}
	if (relock_same(vmf))
		return map_folio(vmf, f);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
unlock:
	if (folio_test(f, PG_SWAPCACHE))
		uhmm__folio_free_swap(m, f);
	folio_unlock(m, f);
put:
	folio_put(m, f);
	return ret;
}
