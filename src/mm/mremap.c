// SPDX-License-Identifier: LGPL-2.1-or-later
/* mremap. Models: mm/mremap.c, without moving whole tables. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "mm/huge.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/*
 * Move the entries of one table's part of [old, old + len). Both tables are locked, the lower one
 * first, so that two moves cannot deadlock.
 */
static void move_ptes(struct uhmm_mm *mm, ptent_t *old_pmd, uhmm_vaddr_t old, ptent_t *new_pmd,
		      uhmm_vaddr_t new, uint64_t len)
{
	ptent_t *o = uhmm__pte_offset_map(old_pmd, old, NULL), *n, *os = o, *ns;
	struct uhmm__spinlock *ol, *nl;
	bool flush = false;
	uint64_t nr = len >> UHMM_PAGE_SHIFT;

	if (!o)
		return;
	n = ns = uhmm__pte_offset_map(new_pmd, new, NULL);
	if (!n) {
		uhmm__pte_unmap(o);
		return;
	}
	ol = uhmm__ptlp(o);
	nl = uhmm__ptlp(n);
	uhmm__ptl_lock(ol < nl ? ol : nl);
	if (ol != nl)
		uhmm__ptl_lock_nested(ol < nl ? nl : ol, UHMM_SINGLE_DEPTH_NESTING);
	uhmm__count_n(UHMM_CNT_READ_PTE, nr);
	for (uint64_t i = 0; i < nr; i++, o++, n++) {
		pte_t pte;

		if (pte_none(ptep_get(o)))
			continue;
		pte = ptep_get_and_clear(o);
		flush |= pte_present(pte);
		/* userfaultfd does not follow to the new place. */
		if (leaf_is_marker(pte, MARKER_UFFD_WP))
			continue;
		set_pte(n, pte_clear_bits(pte, pte_present(pte) ? PTE_UFFD_WP : LEAF_UFFD_WP));
	}
	/* Before the locks go: a CPU could still write by the old address. */
	if (flush)
		uhmm__flush_tlb_range(&mm->pgt, old, old + len);
	uhmm__spin_unlock(ol);
	if (ol != nl)
		uhmm__spin_unlock(nl);
	uhmm__pte_unmap(ns);
	uhmm__pte_unmap(os);
}

/*
 * Move entries from @vma to @new_vma. Under the rmap lock, so that an rmap walk meets each page at
 * one of its two places. Returns 0, or -ENOMEM with the part before *moved moved.
 */
static int move_page_tables(struct uhmm_vma *vma, uhmm_vaddr_t old, struct uhmm_vma *new_vma,
			    uhmm_vaddr_t new, uint64_t len, uint64_t *moved)
{
	struct uhmm_mm *mm = vma->mm;
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(mm, UHMM_MMU_NOTIFY_UNMAP, old, old + len, NULL);
	struct uhmm__anon_vma *av = load_relaxed(&new_vma->anon_vma);
	struct uhmm__anon_vma *root = av ? anon_vma_root(av) : NULL;
	uint64_t done = 0, step;
	int err = 0;

	uhmm__invalidate_start(&range);
	if (vma->file)
		uhmm__down_write(&vma->file->mapping.i_mmap_rwsem);
	if (root)
		uhmm__down_write(&root->rwsem);
	for (; done < len; done += step) {
		uhmm_vaddr_t oa = old + done, na = new + done;
		ptent_t *old_pmd, *new_pmd;
		unsigned int level;

		old_pmd = uhmm__pmd_offset(&mm->pgt, oa, &level);
		step = level_addr_end(oa, old + len, level) - oa;
		if (!old_pmd || pte_none(pmdp_get(old_pmd)))
			continue;
		step = MIN(step, level_addr_end(na, new + len, 2) - na);
		new_pmd = uhmm__pmd_alloc(&mm->pgt, na);
		if (new_pmd && unlikely(pmd_is_leaf(pte_make(load_acquire(old_pmd))))) {
			if (step == UHMM_PMD_SIZE && uhmm__move_huge_pmd(mm, old_pmd, oa, new_pmd))
				continue;
			uhmm__split_huge_pmd(vma, old_pmd, oa, false);
		}
		if (!new_pmd || uhmm__pte_alloc(&mm->pgt, new_pmd)) {
			err = -ENOMEM;
			break;
		}
		move_ptes(mm, old_pmd, oa, new_pmd, na, step);
	}
	if (root)
		uhmm__up_write(&root->rwsem);
	if (vma->file)
		uhmm__up_write(&vma->file->mapping.i_mmap_rwsem);
	uhmm__invalidate_end(&range);
	*moved = done;
	return err;
}

/* The new place's VMA, linked, in the family of the old. Models: copy_vma(). */
static struct uhmm_vma *copy_vma(struct uhmm_vma *vma, uhmm_vaddr_t old, uhmm_vaddr_t new,
				 uint64_t len)
{
	struct uhmm_vma *n = uhmm__vma_alloc(vma->mm);

	if (!n)
		return NULL;
	n->start = new;
	n->end = new + len;
	n->flags = vma->flags & ~UHMM__VM_UFFD;
	n->page_prot = vma->page_prot;
	store_relaxed(&n->maybe_guard, load_relaxed(&vma->maybe_guard));
	/* Pages keep their index, so the offset stays; one without pages starts anew. */
	n->anon_pgoff = load_relaxed(&vma->anon_vma) ? vma_anon_pgoff(vma, old)
						     : new >> UHMM_PAGE_SHIFT;
	n->pgoff = vma->file ? vma_pgoff(vma, old) : n->anon_pgoff;
	uhmm__vma_set_file(n, vma->file);
	if (uhmm__anon_vma_clone(n, vma) || uhmm__vma_link(n)) {
		uhmm__vma_free(n);
		return NULL;
	}
	return n;
}

/*
 * MREMAP_DONTUNMAP has moved the pages: what stays is not locked, and if nothing else is in it as good
 * as new. Models: dontunmap_complete().
 */
static void dontunmap_complete(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	if (vma->flags & UHMM_VM_LOCKED)
		uhmm__vma_set_flags(vma, vma->flags & ~UHMM_VM_LOCKED);
	if (vma->start != start || vma->end != end)
		return;
	uhmm__unlink_anon_vmas(vma);
	vma->anon_pgoff = start >> UHMM_PAGE_SHIFT;
	if (!vma->file)
		vma->pgoff = vma->anon_pgoff;
}

/* Models: move_vma(). */
static int move_vma(struct uhmm_vma *vma, uhmm_vaddr_t old, uint64_t old_len, uint64_t new_len,
		    uhmm_vaddr_t new, bool dontunmap)
{
	struct uhmm_mm *mm = vma->mm;
	uint64_t len = MIN(old_len, new_len), moved;
	struct uhmm_vma *n;
	int err;

	if (!old_len) {
		n = copy_vma(vma, old, new, new_len);
		if (n)
			uhmm__vma_merge(n);
		return n ? 0 : -ENOMEM;
	}
	/* The source is cut out now, so that unmapping it later cannot fail. */
	if (!dontunmap || vma->flags & UHMM_VM_LOCKED) {
		err = uhmm__vma_isolate(&vma, old, old + old_len);
		if (err)
			return err;
	}
	n = copy_vma(vma, old, new, new_len);
	if (!n)
		return -ENOMEM;
	vma_start_write(vma);
	err = move_page_tables(vma, old, n, new, len, &moved);
	if (err) {
		/* Back: the tables at the old place still exist. */
		move_page_tables(n, new, vma, old, moved, &moved);
		uhmm__do_munmap(mm, new, new + new_len);
		return err;
	}
	if (dontunmap) {
		dontunmap_complete(vma, old, old + old_len);
		/* The two stay two, even side by side. */
		uhmm__vma_merge_apart(n, vma);
	} else {
		uhmm__do_munmap(mm, old, old + old_len);
		uhmm__vma_merge(n);
	}
	return 0;
}

static int resize_in_place(struct uhmm_vma *vma, uhmm_vaddr_t addr, uint64_t old_len,
			   uint64_t new_len)
{
	struct uhmm_mm *mm = vma->mm;

	if (vma->end != addr + old_len || new_len > UHMM_TASK_SIZE - addr ||
	    uhmm__rangetree_find_in(&mm->vmas, vma->end, addr + new_len, NULL))
		return -ENOMEM;
	if (uhmm__vma_resize(vma, vma->start, addr + new_len))
		return -ENOMEM;
	uhmm__vma_merge(vma);
	return 0;
}

struct remap {
	struct uhmm_mm *mm;
	uhmm_vaddr_t old, new;
	uint64_t old_len, new_len;
	int flags;
	bool populate; /* (out) what was added */
};

static bool implies_new_addr(const struct remap *r)
{
	return r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
}

/* Models: check_mremap_params(). */
static int check_args(struct remap *r)
{
	r->old_len = ALIGN_UP(r->old_len, UHMM_PAGE_SIZE);
	r->new_len = ALIGN_UP(r->new_len, UHMM_PAGE_SIZE);
	if (r->flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP))
		return -EINVAL;
	if (r->old & ~UHMM_PAGE_MASK || !r->new_len || r->new_len > UHMM_TASK_SIZE)
		return -EINVAL;
	if (!implies_new_addr(r))
		return 0;
	if (r->new & ~UHMM_PAGE_MASK || r->new > UHMM_TASK_SIZE - r->new_len)
		return -EINVAL;
	if (!(r->flags & MREMAP_MAYMOVE))
		return -EINVAL;
	if (r->flags & MREMAP_DONTUNMAP && r->old_len != r->new_len)
		return -EINVAL;
	/* The two must not overlap, even if the new address is but a hint. */
	if (r->old + r->old_len > r->new && r->new + r->new_len > r->old)
		return -EINVAL;
	return 0;
}

/* Whether this VMA can be moved or resized so. Models: check_prep_vma(). */
static int check_vma(const struct remap *r, const struct uhmm_vma *vma)
{
	if (!vma)
		return -EFAULT;
	if (r->new_len <= r->old_len && !implies_new_addr(r))
		return 0;
	/* It doubles a shared mapping. */
	if (!r->old_len && !(vma->flags & UHMM_VM_SHARED))
		return -EINVAL;
	if (r->flags & MREMAP_DONTUNMAP && vma->flags & (UHMM_VM_DONTEXPAND | UHMM_VM_PFNMAP))
		return -EINVAL;
	if (r->new_len > r->old_len && vma->flags & (UHMM_VM_DONTEXPAND | UHMM_VM_PFNMAP))
		return -EFAULT;
	/* Only what is cut off may lie in other VMAs. */
	return MIN(r->old_len, r->new_len) > vma->end - r->old ? -EFAULT : 0;
}

/* Models: shrink_vma(). */
static int shrink(const struct remap *r)
{
	if (r->old_len > UHMM_TASK_SIZE - r->old)
		return -EINVAL;
	return uhmm__do_munmap(r->mm, r->old + r->new_len, r->old + r->old_len);
}

/*
 * A part of the range that lies in one VMA. One that userfaultfd watches moves alone: it would be told with
 * mmap_lock dropped. Models: check_prep_vma() and vma_multi_allowed(), as called by remap_move().
 */
static int check_part(const struct remap *r, const struct uhmm_vma *vma, uhmm_vaddr_t addr,
		      uint64_t len)
{
	struct remap part = *r;

	if (vma->flags & UHMM__VM_UFFD && (addr != r->old || addr + len < r->old + r->old_len))
		return -EFAULT;
	part.old = addr;
	part.old_len = part.new_len = len;
	return check_vma(&part, vma);
}

/*
 * Move what is mapped of a range, VMA by VMA, with the same distances between them. Only where
 * something arrives is the new place unmapped. Models: remap_move().
 */
static int move_range(struct remap *r)
{
	uhmm_vaddr_t addr = r->old, end = r->old + r->old_len;

	if (!uhmm__vma_lookup(r->mm, addr))
		return -EFAULT;
	while (addr < end) {
		struct uhmm_vma *vma = uhmm__find_vma(r->mm, addr);
		uhmm_vaddr_t to;
		uint64_t len;
		int err;

		if (!vma || vma->start >= end)
			break;
		addr = MAX(addr, vma->start);
		len = MIN(vma->end, end) - addr;
		to = r->new + (addr - r->old);
		err = check_part(r, vma, addr, len);
		if (!err)
			err = uhmm__do_munmap(r->mm, to, to + len);
		/* That may have cut the source's VMA elsewhere. */
		if (!err)
			err = move_vma(uhmm__vma_lookup(r->mm, addr), addr, len, len, to,
				       r->flags & MREMAP_DONTUNMAP);
		if (err)
			return err;
		addr += len;
	}
	return 0;
}

/* To another place, of another size or one that the kernel chooses. Models: mremap_to(). */
static int move_to(struct remap *r)
{
	int err;

	if (r->flags & MREMAP_FIXED)
		err = uhmm__do_munmap(r->mm, r->new, r->new + r->new_len);
	else
		err = uhmm__find_place(r->mm, r->new, r->new_len, &r->new);
	if (!err && r->new_len < r->old_len) {
		err = shrink(r);
		r->old_len = r->new_len;
	}
	if (err)
		return err;
	return move_vma(uhmm__vma_lookup(r->mm, r->old), r->old, r->old_len, r->new_len, r->new,
			r->flags & MREMAP_DONTUNMAP);
}

/* Context: mmap_lock for writing. *out: where it is now. */
static int do_mremap(struct remap *r, uhmm_vaddr_t *out)
{
	struct uhmm_vma *vma;
	int err;

	*out = r->new;
	if (r->flags & MREMAP_FIXED && r->old_len == r->new_len)
		return move_range(r);
	vma = uhmm__vma_lookup(r->mm, r->old);
	err = check_vma(r, vma);
	if (err)
		return err;
	/* Pages that are added to locked memory are there at once. */
	r->populate = r->new_len > r->old_len && vma->flags & UHMM_VM_LOCKED;
	if (!implies_new_addr(r)) {
		*out = r->old;
		if (r->old_len == r->new_len)
			return 0;
		if (r->new_len < r->old_len)
			return shrink(r);
		if (!resize_in_place(vma, r->old, r->old_len, r->new_len))
			return 0;
		if (!(r->flags & MREMAP_MAYMOVE))
			return -ENOMEM;
	}
	err = move_to(r);
	*out = r->new;
	return err;
}

int uhmm_mremap(struct uhmm_mm *mm, uhmm_vaddr_t old_addr, uint64_t old_len, uint64_t new_len,
		int flags, uhmm_vaddr_t new_addr, uhmm_vaddr_t *out)
{
	struct remap r = { mm, old_addr, new_addr, old_len, new_len, flags, false };
	uhmm_vaddr_t at = 0;
	int err;

	if (!uhmm__current())
		return -EINVAL;
	err = check_args(&r);
	if (err)
		return err;
	if (!implies_new_addr(&r))
		r.new = 0;
	mmap_write_lock(mm);
	err = do_mremap(&r, &at);
	mmap_write_unlock(mm);
	if (!err && r.populate)
		uhmm__populate(mm, at + r.old_len, at + r.new_len);
	if (!err && out)
		*out = at;
	uhmm__exit_to_user();
	return err;
}
