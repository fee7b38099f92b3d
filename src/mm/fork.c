// SPDX-License-Identifier: LGPL-2.1-or-later
/* fork: VMAs and page tables. Models: dup_mmap() and mm/memory.c:copy_page_range(). */
#include "mm/file.h"
#include "mm/huge.h"
#include "mm/swap.h"

/*
 * One entry that is not present. Context: both PTLs. Returns: 0; -ENOENT it is present now, copy
 * that; -EBUSY its folio is locked. Models: copy_nonpresent_pte().
 */
static int copy_nonpresent(struct uhmm_vma *dst, struct uhmm_vma *src, ptent_t *dst_pte,
			   ptent_t *src_pte, pte_t pte)
{
	struct uhmm_machine *m = src->mm->machine;
	bool cow = vma_is_cow_mapping(src);

	if (leaf_type(pte) == LEAF_SWAP) {
		uhmm__swap_dup_entry(m, leaf_offset(pte));
		if (pte.val & LEAF_EXCLUSIVE) {
			pte = pte_clear_bits(pte, LEAF_EXCLUSIVE);
			set_pte(src_pte, pte);
		}
	} else if (leaf_is_migration(pte)) {
		if (cow && leaf_type(pte) != LEAF_MIGRATION_READ) {
			/* What was exclusive is now shared: both must copy on write. */
			pte = leaf_retype(pte, LEAF_MIGRATION_READ);
			set_pte(src_pte, pte);
		}
	} else if (leaf_is_device_private(pte)) {
		struct uhmm__frame *page = pfn_to_frame(m, leaf_pfn(pte));

		folio_get(page_folio(page));
		folio_add_anon_rmap(page, dst->mm, false);
		folio_clear(page, PG_ANON_EXCLUSIVE);
		if (cow && leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE) {
			pte = leaf_retype(pte, LEAF_DEVICE_PRIVATE_READ);
			/* Nobody can save and restore a device's state: soft-dirty is not kept. */
			pte = pte_clear_bits(pte, LEAF_SOFT_DIRTY);
			set_pte(src_pte, pte);
		}
	} else if (leaf_is_device_exclusive(pte)) {
		/* Only the CPU's own pages can be shared. */
		return uhmm__try_restore_exclusive_pte(src, src_pte, pte) ? -ENOENT : -EBUSY;
	} else if (leaf_is_marker(pte, MARKER_UFFD_WP)) {
		return 0; /* userfaultfd does not follow into the child */
	}
	set_pte(dst_pte, pte_clear_bits(pte, LEAF_UFFD_WP));
	return 0;
}

/*
 * A page that may be pinned must not be shared: the child gets its copy now.
 * Returns: 0, -EAGAIN a folio must be allocated first (in *prealloc, without the locks).
 */
static int copy_present(struct uhmm_vma *dst, struct uhmm_vma *src, ptent_t *dst_pte,
			ptent_t *src_pte, pte_t pte, uhmm_vaddr_t addr,
			struct uhmm__frame **prealloc)
{
	struct uhmm_machine *m = src->mm->machine;
	struct uhmm__frame *page = vm_normal_page(m, pte), *new;

	if (page && folio_test(page, PG_ANON_EXCLUSIVE) &&
	    unlikely(folio_maybe_dma_pinned(page_folio(page)))) {
		new = *prealloc;
		if (!new)
			return -EAGAIN;
		*prealloc = NULL;
		uhmm__copy_page(m, frame_pfn(m, new), frame_pfn(m, page));
		store_relaxed(&new->flags, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
		folio_add_new_anon_rmap(new, dst, addr);
		uhmm__folio_add_lru_new(m, new);
		pte = pte_set(pte_mk(frame_pfn(m, new), dst->page_prot), PTE_DIRTY);
		if (dst->flags & UHMM_VM_WRITE)
			pte = pte_set(pte, PTE_RW);
		set_pte(dst_pte, pte);
		return 0;
	}
	if (page) {
		folio_get(page_folio(page));
		folio_add_anon_rmap(page, dst->mm, false);
		if (folio_test(page, PG_ANON_EXCLUSIVE))
			folio_clear(page, PG_ANON_EXCLUSIVE);
	}
	if (unlikely(src->flags & UHMM_VM_SHARED)) {
		/* The parent's entry tells of its stores, the child's of its own. */
		set_pte(dst_pte, pte_clear_bits(pte, PTE_ACCESSED | PTE_DIRTY | PTE_UFFD_WP));
		return 0;
	}
	if (vma_is_cow_mapping(src) && pte_write(pte)) {
		pte = pte_clear_bits(pte, PTE_RW);
		set_pte(src_pte, pte);
	}
	pte = pte_clear_bits(pte, PTE_ACCESSED | PTE_UFFD_WP);
	set_pte(dst_pte, pte);
	return 0;
}

/* The entries under one PTE table. 0 or -ENOMEM. Models: copy_pte_range(). */
static int copy_pte_range(struct uhmm_vma *dst, struct uhmm_vma *src, ptent_t *src_pmd,
			  uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm_machine *m = src->mm->machine;
	struct uhmm__spinlock *src_ptl, *dst_ptl;
	struct uhmm__frame *prealloc = NULL;
	ptent_t *dst_pmd, *dst_start, *src_start, *d, *s;
	int err = 0;

	dst_pmd = uhmm__pmd_alloc(&dst->mm->pgt, addr);
	if (!dst_pmd || uhmm__pte_alloc(&dst->mm->pgt, dst_pmd))
		return -ENOMEM;
again:
	dst_start = uhmm__pte_offset_map_lock(dst_pmd, addr, &dst_ptl);
	if (!dst_start)
		return -ENOMEM;
	src_start = uhmm__pte_offset_map(src_pmd, addr, NULL);
	if (!src_start) {
		uhmm__pte_unmap_unlock(dst_start, dst_ptl);
		goto out;
	}
	src_ptl = uhmm__ptlp(src_start);
	uhmm__ptl_lock_nested(src_ptl, UHMM_SINGLE_DEPTH_NESTING);
	for (d = dst_start, s = src_start; addr < end; addr += UHMM_PAGE_SIZE, d++, s++) {
		pte_t pte = ptep_get(s);

		if (pte_none(pte))
			continue;
		uhmm__count(UHMM_CNT_FORKED_PAGES);
		if (!pte_present(pte)) {
			err = copy_nonpresent(dst, src, d, s, pte);
			if (!err)
				continue;
			if (err == -EBUSY)
				break;
			pte = ptep_get(s);
		}
		err = copy_present(dst, src, d, s, pte, addr, &prealloc);
		if (err)
			break;
	}
	uhmm__spin_unlock(src_ptl);
	uhmm__pte_unmap(src_start);
	uhmm__pte_unmap_unlock(dst_start, dst_ptl);
	uhmm__count_n(UHMM_CNT_READ_PTE, s - src_start);
	if (err == -EBUSY)
		err = -ENOMEM; /* all that callers in Linux ever say */
	if (err == -EAGAIN) {
		prealloc = uhmm__folio_alloc_frozen(m, false);
		if (!prealloc)
			return -ENOMEM;
		err = 0;
		goto again;
	}
out:
	if (prealloc)
		uhmm__folio_free(m, prealloc);
	return err;
}

/*
 * Without an anon_vma there is no anonymous page: the child faults for itself. What a driver mapped
 * and guard regions it cannot. Models: vma_needs_copy().
 */
static bool vma_needs_copy(const struct uhmm_vma *src)
{
	return load_relaxed(&src->anon_vma) || load_relaxed(&src->maybe_guard) ||
	       src->flags & (UHMM_VM_PFNMAP | UHMM_VM_MIXEDMAP);
}

/* Lockless pinning goes another way while the sequence is odd, and starts anew if it has moved. */
static void write_protect_seq_step(struct uhmm_mm *mm)
{
	atomic_fetch_add_explicit(&mm->write_protect_seq, 1, memory_order_seq_cst);
}

/* The part under one PMD entry. 0 or -ENOMEM. Models: copy_pmd_range(). */
static int copy_pmd(struct uhmm_vma *dst, struct uhmm_vma *src, ptent_t *pmdp, uhmm_vaddr_t addr,
		    uhmm_vaddr_t end)
{
	pte_t pmd = pmdp_get(pmdp);

	if (pte_none(pmd))
		return 0;
	if (unlikely(pmd_is_leaf(pmd))) {
		int err = uhmm__copy_huge_pmd(dst, src, pmdp, addr);

		if (err != -EAGAIN)
			return err;
	}
	return copy_pte_range(dst, src, pmdp, addr, end);
}

/* Models: copy_page_range(). */
static int copy_page_range(struct uhmm_vma *dst, struct uhmm_vma *src)
{
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		src->mm, UHMM_MMU_NOTIFY_PROTECTION_PAGE, src->start, src->end, NULL);
	bool cow = vma_is_cow_mapping(src);
	uhmm_vaddr_t addr, next;
	int err = 0;

	if (!vma_needs_copy(src))
		return 0;
	if (cow) {
		uhmm__invalidate_start(&range);
		write_protect_seq_step(src->mm);
	}
	for (addr = src->start; addr < src->end && !err; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&src->mm->pgt, addr, &level);

		next = level_addr_end(addr, src->end, level);
		if (pmdp)
			err = copy_pmd(dst, src, pmdp, addr, next);
		uhmm__cond_resched();
	}
	if (cow) {
		write_protect_seq_step(src->mm);
		uhmm__invalidate_end(&range);
	}
	return err;
}

static int dup_vma(struct uhmm_mm *mm, struct uhmm_vma *src)
{
	struct uhmm_vma *vma = uhmm__vma_alloc(mm);
	int err;

	if (!vma)
		return -ENOMEM;
	vma->start = src->start;
	vma->end = src->end;
	vma->flags = src->flags & ~(UHMM_VM_LOCKED | UHMM__VM_UFFD);
	store_relaxed(&vma->maybe_guard, load_relaxed(&src->maybe_guard));
	vma->page_prot = src->page_prot;
	vma->pgoff = src->pgoff;
	vma->anon_pgoff = src->anon_pgoff;
	uhmm__vma_set_file(vma, src->file);
	/* Faults of other threads must not add pages while they are copied. */
	vma_start_write(src);
	if (!(src->flags & UHMM_VM_WIPEONFORK)) {
		err = uhmm__anon_vma_fork(vma, src);
		if (err)
			goto fail;
	}
	/* rmap walks come to the child right after its parent. */
	uhmm__vma_link_file(vma, src);
	err = uhmm__vma_link(vma);
	if (err)
		goto fail;
	return src->flags & UHMM_VM_WIPEONFORK ? 0 : copy_page_range(vma, src);
fail:
	uhmm__vma_free(vma);
	return err;
}

int uhmm_mm_fork(struct uhmm_mm *parent, struct uhmm_mm **out)
{
	struct uhmm_vma *src;
	struct uhmm_mm *mm;
	int err;

	if (!uhmm__current())
		return -EINVAL;
	err = uhmm_mm_create(parent->machine, &mm);
	if (err)
		return err;
	mmap_write_lock(parent);
	mmap_write_lock_nested(mm, UHMM_SINGLE_DEPTH_NESTING);
	mm->brk_start = parent->brk_start;
	mm->brk = parent->brk;
	for (src = uhmm__find_vma(parent, 0); src && !err; src = uhmm__vma_next(parent, src)) {
		if (!(src->flags & UHMM_VM_DONTCOPY))
			err = dup_vma(mm, src);
	}
	/* The parent's pages are write-protected now; also on failure. */
	uhmm__flush_tlb_range(&parent->pgt, 0, UHMM_TASK_SIZE);
	mmap_write_unlock(mm);
	mmap_write_unlock(parent);
	if (err) {
		uhmm_mmput(mm);
		return err;
	}
	*out = mm;
	return 0;
}
