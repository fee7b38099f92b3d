// SPDX-License-Identifier: LGPL-2.1-or-later
/* Writes to pages that are mapped read-only. Models: mm/memory.c:do_wp_page() and below. */
#include <uhmm/special.h>

#include "mm/fault.h"
#include "mm/huge.h"
#include "mm/swap.h"

/* Models: wp_can_reuse_anon_folio(). Context: PTL. */
static bool can_reuse(struct uhmm_machine *m, struct uhmm__frame *f, struct uhmm_vma *vma)
{
	const bool maybe_in_batch = !folio_test(f, PG_LRU);
	const bool in_swapcache = folio_test(f, PG_SWAPCACHE);

	if (unlikely(folio_test_large(f)))
		return uhmm__large_can_reuse(f);
	/* Another CPU's batch is not looked at, and this one's only if that can help. */
	if (folio_ref_count(f) > 1U + maybe_in_batch + in_swapcache)
		return false;
	if (maybe_in_batch)
		uhmm__lru_add_drain(m);
	if (folio_ref_count(f) > 1U + in_swapcache)
		return false;
	if (!folio_trylock(f))
		return false;
	if (folio_test(f, PG_SWAPCACHE))
		uhmm__folio_free_swap(m, f);
	if (folio_ref_count(f) != 1) {
		folio_unlock(m, f);
		return false;
	}
	/* The folio is this VMA's alone from now on: look for it only here. */
	store_release(&f->mapping, (uintptr_t)load_relaxed(&vma->anon_vma) | MAPPING_ANON);
	folio_unlock(m, f);
	return true;
}

static void wp_reuse(struct uhmm__fault *vmf)
{
	pte_t entry = pte_set(vmf->orig_pte, PTE_ACCESSED | PTE_DIRTY);

	set_pte(vmf->pte, maybe_mkwrite(entry, vmf->vma));
	vmf_unlock(vmf, false);
	uhmm__count(UHMM_CNT_FAULT_COW_REUSE);
}

/*
 * Copy a page that others may read. Models: wp_page_copy(). @old is the page that is mapped, its
 * folio with a reference, or NULL for the zero page or a driver's frame.
 */
static int wp_copy(struct uhmm__fault *vmf, struct uhmm__frame *old)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		vma->mm, UHMM_MMU_NOTIFY_CLEAR, vmf->address, vmf->address + UHMM_PAGE_SIZE, NULL);
	struct uhmm__frame *new;
	bool copied = false;
	pte_t entry;
	int ret;

	ret = uhmm__vmf_anon_prepare(vmf);
	if (unlikely(ret))
		goto out;
	new = uhmm__folio_alloc_frozen(m, pte_pfn(vmf->orig_pte) == m->zero_pfn);
	if (unlikely(!new)) {
		ret = VM_FAULT_OOM;
		goto out;
	}
	if (pte_pfn(vmf->orig_pte) != m->zero_pfn)
		uhmm__copy_page(m, ram_pfn(m, new), pte_pfn(vmf->orig_pte));
	uhmm__invalidate_start(&range);
	if (vmf_relock(vmf, false)) {
		entry = pte_mk(ram_pfn(m, new), vma->page_prot);
		if (unlikely(vmf->flags & FAULT_FLAG_UNSHARE))
			entry = pte_set(entry, vmf->orig_pte.val & (PTE_SOFT_DIRTY | PTE_UFFD_WP));
		else
			entry = maybe_mkwrite(pte_set(entry, PTE_DIRTY), vma);
		/* Cleared before the new one is set: no CPU may see the two at a time. */
		uhmm__ptep_clear_flush(&vma->mm->pgt, vmf->address, vmf->pte);
		store_relaxed(&new->flags, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
		folio_add_new_anon_rmap(new, vma, vmf->address);
		uhmm__folio_add_lru_new(m, new);
		set_pte(vmf->pte, entry);
		if (old)
			folio_remove_rmap(old, vma->mm);
		vmf_unlock(vmf, false);
		copied = true;
		uhmm__count(UHMM_CNT_FAULT_COW_COPY);
	}
	uhmm__invalidate_end(&range);
	if (copied && old) {
		free_swap_cache(m, page_folio(old));
		folio_put(m, page_folio(old)); /* the mapping's */
	}
	if (!copied)
		uhmm__folio_free(m, new);
out:
	if (old)
		folio_put(m, page_folio(old));
	return ret;
}

int uhmm__do_wp_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *page = vm_normal_page(m, vmf->orig_pte);

	if (unlikely(vmf->orig_pte.val & PTE_UFFD_WP) && vma->flags & UHMM_VM_UFFD_WP &&
	    !(vmf->flags & FAULT_FLAG_UNSHARE)) {
		vmf_unlock(vmf, false);
		return uhmm__handle_userfault(vmf, UHMM_UFFD_WP);
	}
	if (unlikely(vma->flags & UHMM_VM_SHARED)) {
		if (page && vma->file)
			return uhmm__wp_page_shared(vmf, page);
		wp_reuse(vmf); /* a driver's frame or page, which wants to hear nothing of it */
		return 0;
	}
	if (page && folio_test_anon(page_folio(page)) &&
	    (folio_test(page, PG_ANON_EXCLUSIVE) || can_reuse(m, page_folio(page), vma))) {
		folio_set(page, PG_ANON_EXCLUSIVE);
		if (unlikely(vmf->flags & FAULT_FLAG_UNSHARE))
			vmf_unlock(vmf,
				   false); /* whoever asked may have it now, and only to read */
		else
			wp_reuse(vmf);
		return 0;
	}
	if (page)
		folio_get(page_folio(page));
	vmf_unlock(vmf, false);
	return wp_copy(vmf, page);
}
