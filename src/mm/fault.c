// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Page faults on the page table. Models: mm/memory.c:handle_mm_fault() and below.
 *
 * Every handler here works alike: decide from an entry that was read without the lock, prepare what
 * may sleep or allocate, then take the PTL, see that the entry is still the same, and install. If it
 * is not, somebody else was faster: the access is tried again.
 */
#include <uhmm/special.h>

#include "mm/huge.h"
#include "mm/swap.h"
#include "mm/zone_device.h"

int uhmm__vm_fault_to_errno(int fault)
{
	if (fault & VM_FAULT_OOM)
		return -ENOMEM;
	if (fault & (VM_FAULT_HWPOISON | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV))
		return -EFAULT;
	return 0;
}

/*
 * An anon_vma for the VMA. Under the per-VMA lock mmap_lock is only tried: whoever waits for the VMA
 * may hold it. Models: vmf_anon_prepare().
 */
int uhmm__vmf_anon_prepare_slow(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_mm *mm = vma->mm;
	int err;

	if (!(vmf->flags & FAULT_FLAG_VMA_LOCK))
		return uhmm__anon_vma_prepare(vma) ? VM_FAULT_OOM : 0;
	if (!mmap_read_trylock(mm)) {
		vma_end_read(vma);
		return VM_FAULT_RETRY;
	}
	err = uhmm__anon_vma_prepare(vma);
	mmap_read_unlock(mm);
	return err ? VM_FAULT_OOM : 0;
}

/* Map and lock the entry again. False: it changed, or its table is gone. */
uhmm_always_inline bool relock(struct uhmm__fault *vmf)
{
	vmf->pte = uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (unlikely(!vmf->pte))
		return false;
	if (likely(pte_same(ptep_get(vmf->pte), vmf->orig_pte)))
		return true;
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
	return false;
}

static void unlock(struct uhmm__fault *vmf)
{
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
}

/* Models: vma_is_accessible(). */
static bool is_accessible(const struct uhmm_vma *vma)
{
	return vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC);
}

static pte_t maybe_mkwrite(pte_t pte, const struct uhmm_vma *vma)
{
	return vma->flags & UHMM_VM_WRITE ? pte_set(pte, PTE_RW) : pte;
}

/* What a write-protect marker leaves in the entry that takes its place. */
static pte_t keep_uffd_wp(const struct uhmm__fault *vmf, pte_t entry)
{
	if (likely(pte_none(vmf->orig_pte)))
		return entry;
	return pte_clear_bits(pte_set(entry, PTE_UFFD_WP), PTE_RW);
}

/* Models: do_anonymous_page(). Nothing mapped on entry; orig_pte is none or a uffd-wp marker. */
static int do_anonymous_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f;
	pte_t entry;
	int ret;

	/* What its driver did not put into a mapping is not there. */
	if (unlikely(vma->flags & UHMM__VM_SPECIAL))
		return VM_FAULT_SIGBUS;
	if (uhmm__pte_alloc(&vma->mm->pgt, vmf->pmd))
		return VM_FAULT_OOM;
	if (!(vmf->flags & FAULT_FLAG_WRITE)) {
		if (!relock(vmf))
			return 0;
		if (unlikely(vma->flags & UHMM_VM_UFFD_MISSING)) {
			unlock(vmf);
			return uhmm__handle_userfault(vmf, UHMM_UFFD_MISSING);
		}
		set_pte(vmf->pte, keep_uffd_wp(vmf, pte_mk(m->zero_pfn, vma->page_prot)));
		unlock(vmf);
		uhmm__count(UHMM_CNT_FAULT_ANON_READ);
		return 0;
	}
	ret = uhmm__vmf_anon_prepare(vmf);
	if (unlikely(ret))
		return ret;
	f = uhmm__folio_alloc(m, true);
	if (unlikely(!f))
		return VM_FAULT_OOM;
	entry = maybe_mkwrite(pte_set(pte_mk(ram_pfn(m, f), vma->page_prot), PTE_DIRTY), vma);
	entry = keep_uffd_wp(vmf, entry);
	if (unlikely(!relock(vmf))) {
		folio_put(m, f);
		return 0;
	}
	if (unlikely(vma->flags & UHMM_VM_UFFD_MISSING)) {
		unlock(vmf);
		folio_put(m, f);
		return uhmm__handle_userfault(vmf, UHMM_UFFD_MISSING);
	}
	store_relaxed(&f->flags, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
	folio_add_new_anon_rmap(f, vma, vmf->address);
	uhmm__folio_add_lru_new(m, f);
	set_pte(vmf->pte, entry);
	unlock(vmf);
	uhmm__count(UHMM_CNT_FAULT_ANON_WRITE);
	return 0;
}

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
	unlock(vmf);
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
	new = uhmm__folio_alloc(m, pte_pfn(vmf->orig_pte) == m->zero_pfn);
	if (unlikely(!new)) {
		ret = VM_FAULT_OOM;
		goto out;
	}
	if (pte_pfn(vmf->orig_pte) != m->zero_pfn)
		uhmm__copy_page(m, ram_pfn(m, new), pte_pfn(vmf->orig_pte));
	uhmm__invalidate_start(&range);
	if (relock(vmf)) {
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
		unlock(vmf);
		copied = true;
		uhmm__count(UHMM_CNT_FAULT_COW_COPY);
	}
	uhmm__invalidate_end(&range);
	if (copied && old) {
		free_swap_cache(m, page_folio(old));
		folio_put(m, page_folio(old)); /* the mapping's */
	}
	if (!copied)
		folio_put(m, new);
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
		unlock(vmf);
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
			unlock(vmf); /* whoever asked may have it now, and only to read */
		else
			wp_reuse(vmf);
		return 0;
	}
	if (page)
		folio_get(page_folio(page));
	unlock(vmf);
	return wp_copy(vmf, page);
}

/*
 * The access found a present entry with the rights it needs: another CPU was faster, or only the
 * accessed and dirty bits are missing.
 */
static void spurious(struct uhmm__fault *vmf)
{
	uint64_t bits = PTE_ACCESSED | (vmf->flags & FAULT_FLAG_WRITE ? PTE_DIRTY : 0);

	set_pte(vmf->pte, pte_set(vmf->orig_pte, bits));
	unlock(vmf);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
}

static int do_pte_missing(struct uhmm__fault *vmf)
{
	if (unlikely(vmf->vma->file))
		return uhmm__do_file_fault(vmf);
	return do_anonymous_page(vmf);
}

/* A NUMA hint: the access is seen, the entry is as it was. Context: PTL. Models: do_numa_page(). */
static int do_numa_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	pte_t pte = pte_set(pte_modify(vmf->orig_pte, vma->page_prot), PTE_ACCESSED);

	if (uhmm__can_change_writable(vma, pte))
		pte = pte_set(pte, PTE_RW);
	set_pte(vmf->pte, pte);
	unlock(vmf);
	uhmm__count(UHMM_CNT_FAULT_NUMA);
	return 0;
}

/* Models: pte_marker_handle_uffd_wp(). */
static int uffd_wp_marker(struct uhmm__fault *vmf)
{
	uhmm__pte_unmap(vmf->pte);
	if (vmf->vma->flags & UHMM_VM_UFFD_WP)
		return do_anonymous_page(vmf);
	/* Left over from a range that is not registered any more. */
	if (relock(vmf)) {
		set_pte(vmf->pte, pte_make(0));
		unlock(vmf);
	}
	return 0;
}

/* Models: handle_pte_fault(). */
static int handle_pte_fault(struct uhmm__fault *vmf)
{
	pte_t pmd;

	/* No page table: a huge page is there, or may come there; else one page as usual. */
	while (unlikely(!(vmf->pte = uhmm__pte_offset_map(vmf->pmd, vmf->address, &pmd)))) {
		int ret = uhmm__huge_fault(vmf, pmd);

		if (ret != VM_FAULT_FALLBACK)
			return ret;
		if (pte_none(pmd))
			return do_pte_missing(vmf);
		/* A leaf that was split: the entry of the page has to be looked at. */
	}
	uhmm__count(UHMM_CNT_READ_PTE);
	vmf->orig_pte = ptep_get(vmf->pte);
	if (pte_none(vmf->orig_pte)) {
		uhmm__pte_unmap(vmf->pte);
		return do_pte_missing(vmf);
	}
	if (!pte_present(vmf->orig_pte))
		return leaf_is_marker(vmf->orig_pte, MARKER_UFFD_WP) ? uffd_wp_marker(vmf)
								     : uhmm__do_swap_page(vmf);
	uhmm__pte_unmap(vmf->pte);
	if (!relock(vmf))
		return 0;
	if (unlikely(pte_protnone(vmf->orig_pte)) && is_accessible(vmf->vma))
		return do_numa_page(vmf);
	if (vmf->flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE) && !pte_write(vmf->orig_pte))
		return uhmm__do_wp_page(vmf);
	spurious(vmf);
	return 0;
}

int uhmm__handle_mm_fault(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags)
{
	struct uhmm__fault vmf = {
		.vma = vma,
		.address = addr & UHMM_PAGE_MASK,
		.flags = flags,
	};
	int ret;

	uhmm__might_sleep();
	vmf.pmd = uhmm__pmd_alloc(&vma->mm->pgt, vmf.address);
	if (unlikely(!vmf.pmd))
		return VM_FAULT_OOM;
	ret = handle_pte_fault(&vmf);
	if (unlikely(ret & VM_FAULT_OOM))
		uhmm__count(UHMM_CNT_FAULT_OOM);
	return ret;
}
