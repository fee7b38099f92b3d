// SPDX-License-Identifier: LGPL-2.1-or-later
/* VMAs: lookup, per-VMA locks, linking, splitting and merging. */
#include "mm/huge.h"

#include <string.h>

#include "core/alloc.h"

uint64_t uhmm__vm_page_prot(const struct uhmm_file *file, uint64_t flags)
{
	uint64_t prot = PTE_ACCESSED;

	/* A file system that wants to hear of each first write. Models: vma_wants_writenotify(). */
	if (file && file->kind == UHMM_FILE_REGULAR)
		flags &= ~UHMM_VM_SHARED;

	if (!(flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC)))
		return prot | PTE_PROTNONE;
	prot |= PTE_PRESENT | PTE_USER;
	if (!(flags & UHMM_VM_EXEC))
		prot |= PTE_NX;
	/* Private pages start write-protected: writing is what tells that a copy is needed. */
	if ((flags & (UHMM_VM_WRITE | UHMM_VM_SHARED)) == (UHMM_VM_WRITE | UHMM_VM_SHARED))
		prot |= PTE_RW;
	return prot;
}

/* ---- finding ---- */

struct uhmm_vma *uhmm__find_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm__range r;

	return uhmm__rangetree_find_first(&mm->vmas, addr, &r) ? r.value : NULL;
}

struct uhmm_vma *uhmm__vma_next(struct uhmm_mm *mm, const struct uhmm_vma *vma)
{
	struct uhmm__range r;

	return uhmm__rangetree_next(&mm->vmas, vma->start, &r) ? r.value : NULL;
}

struct uhmm_vma *uhmm__vma_prev(struct uhmm_mm *mm, const struct uhmm_vma *vma)
{
	struct uhmm__range r;

	return uhmm__rangetree_prev(&mm->vmas, vma->start, &r) ? r.value : NULL;
}

struct uhmm_vma *uhmm_vma_lookup(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return uhmm__vma_lookup(mm, addr);
}

struct uhmm_vma *uhmm_find_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return uhmm__find_vma(mm, addr);
}

void uhmm_vma_info(const struct uhmm_vma *vma, struct uhmm_vma_info *out)
{
	out->start = vma->start;
	out->end = vma->end;
	out->flags = vma->flags;
	out->pgoff = vma->pgoff;
	out->anonymous = vma_is_anonymous(vma);
}

struct uhmm_mm *uhmm_vma_mm(const struct uhmm_vma *vma)
{
	return vma->mm;
}

size_t uhmm_mm_nr_vmas(struct uhmm_mm *mm)
{
	return mm->nr_vmas;
}

/* ---- per-VMA lock ---- */

/*
 * The writer marks the VMA, then looks for readers; a reader counts itself, then looks for the mark.
 * Both in one order that all agree on, so at least one of the two sees the other.
 */
void uhmm__vma_start_write_slow(struct uhmm_vma *vma)
{
	struct uhmm_mm *mm = vma->mm;

	uhmm__sched_point(UHMM__PT_LOCK, vma);
	atomic_store_explicit(&vma->lock_seq, load_relaxed(&mm->lock_seq), memory_order_seq_cst);
	if (likely(!vma_nr_readers(vma)))
		return;
	/* mmap_lock allows one writer at a time. */
	atomic_store_explicit(&mm->vma_writer_waits, true, memory_order_seq_cst);
	uhmm__wait_event(&mm->vma_writers, !vma_nr_readers(vma));
	atomic_store_explicit(&mm->vma_writer_waits, false, memory_order_relaxed);
}

struct uhmm_vma *uhmm__vma_lookup_slow(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_task *t = uhmm__current();
	uint64_t seq = load_acquire(&mm->vmas.seq);
	struct uhmm__range r;

	if (uhmm__rangetree_lookup(&mm->vmas, addr, &r) != UHMM__RANGE_FOUND)
		return NULL;
	if (seq & 1 || load_acquire(&mm->vmas.seq) != seq)
		return NULL;
	t->vma_cache_mm = mm->id;
	t->vma_cache_vma = r.value;
	t->vma_cache_seq = seq;
	t->vma_cache_start = r.start;
	t->vma_cache_end = r.end;
	return r.value;
}

struct uhmm_vma *uhmm__lock_vma_under_rcu(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma;

	uhmm__rcu_chain_begin();
	vma = uhmm__lock_vma_link(mm, addr);
	uhmm__rcu_chain_end();
	return vma;
}

/* ---- life ---- */

struct uhmm_vma *uhmm__vma_alloc(struct uhmm_mm *mm)
{
	struct uhmm_vma *vma = uhmm__alloc_aligned(mm->machine, 64, sizeof(*vma));

	if (!vma)
		return NULL;
	vma->mm = mm;
	list_init(&vma->chain);
	/* Not locked for writing: any number but the mm's. */
	store_relaxed(&vma->lock_seq, load_relaxed(&mm->lock_seq) - 1);
	return vma;
}

static void vma_rcu(struct uhmm__rcu_head *head)
{
	struct uhmm_vma *vma = container_of(head, struct uhmm_vma, rcu);

	uhmm__free(vma->machine, vma, sizeof(*vma));
}

void uhmm__vma_free(struct uhmm_vma *vma)
{
	struct uhmm_machine *m = vma->mm->machine;

	uhmm__unlink_anon_vmas(vma);
	uhmm__vma_put_file(vma);
	/* The mm may be gone when the grace period ends. */
	vma->machine = m;
	uhmm__call_rcu(m, &vma->rcu, vma_rcu);
}

int uhmm__vma_link(struct uhmm_vma *vma)
{
	int err;

	/* From here on readers may find it; they see it write-locked. */
	vma_start_write(vma);
	store_release(&vma->attached, true);
	err = uhmm__rangetree_insert(&vma->mm->vmas, vma->start, vma->end, vma);
	if (err) {
		store_release(&vma->attached, false);
		return err;
	}
	vma->mm->nr_vmas++;
	uhmm__vma_link_file(vma, NULL);
	return 0;
}

void uhmm__vma_unlink(struct uhmm_vma *vma)
{
	vma_start_write(vma);
	uhmm__rangetree_erase(&vma->mm->vmas, vma->start, NULL);
	/* A reader that found it before mmap_lock is dropped sees the write lock, a later one this. */
	store_release(&vma->attached, false);
	vma->mm->nr_vmas--;
}

void uhmm__vma_i_mmap_insert(struct uhmm_vma *vma, struct uhmm_vma *prev)
{
	struct uhmm__itree *tree = &vma->file->mapping.i_mmap;

	vma->i_mmap_node.start = vma->pgoff;
	vma->i_mmap_node.last = vma_pgoff(vma, vma->end) - 1;
	if (prev)
		uhmm__itree_insert_after(tree, &vma->i_mmap_node, &prev->i_mmap_node);
	else
		uhmm__itree_insert(tree, &vma->i_mmap_node);
	vma->in_i_mmap = true;
}

void uhmm__vma_i_mmap_remove(struct uhmm_vma *vma)
{
	uhmm__itree_remove(&vma->file->mapping.i_mmap, &vma->i_mmap_node);
	vma->in_i_mmap = false;
}

/* Context: as both rmap locks want it. */
static void set_range(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	int64_t delta = ((int64_t)start - (int64_t)vma->start) >> UHMM_PAGE_SHIFT;

	vma->pgoff += (uint64_t)delta;
	vma->anon_pgoff += (uint64_t)delta;
	vma->start = start;
	vma->end = end;
}

int uhmm__vma_resize(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm__rwsem *i_mmap = NULL;
	int err;

	vma_start_write(vma);
	err = uhmm__rangetree_resize(&vma->mm->vmas, vma->start, start, end);
	if (err)
		return err;
	if (unlikely(vma->in_i_mmap)) {
		i_mmap = &vma->file->mapping.i_mmap_rwsem;
		uhmm__down_write(i_mmap);
		uhmm__vma_i_mmap_remove(vma);
	}
	uhmm__anon_vma_pre_update(vma);
	set_range(vma, start, end);
	uhmm__anon_vma_post_update(vma);
	if (unlikely(i_mmap)) {
		uhmm__vma_i_mmap_insert(vma, NULL);
		uhmm__up_write(i_mmap);
	}
	return 0;
}

/* ---- splitting and merging ---- */

int uhmm__vma_split(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm_vma **upper)
{
	struct uhmm_mm *mm = vma->mm;
	struct uhmm_vma *new;
	int err;

	err = uhmm__rangetree_reserve(&mm->vmas, 1);
	if (err)
		return err;
	new = uhmm__vma_alloc(mm);
	if (!new)
		return -ENOMEM;
	new->start = addr;
	new->end = vma->end;
	new->flags = vma->flags;
	new->page_prot = vma->page_prot;
	new->pgoff = vma_pgoff(vma, addr);
	new->anon_pgoff = vma_anon_pgoff(vma, addr);
	store_relaxed(&new->maybe_guard, load_relaxed(&vma->maybe_guard));
	uhmm__vma_set_file(new, vma->file);
	err = uhmm__anon_vma_clone(new, vma);
	if (err) {
		uhmm__vma_free(new);
		return err;
	}
	/* Before the other shrinks, so that an rmap walk misses no page. */
	uhmm__vma_link_file(new, NULL);
	vma_start_write(vma);
	uhmm__vma_adjust_trans_huge(vma, addr);
	uhmm__rangetree_write_begin(&mm->vmas);
	err = uhmm__vma_resize(vma, vma->start, addr);
	if (!err)
		err = uhmm__vma_link(new);
	uhmm__rangetree_write_end(&mm->vmas);
	UHMM_BUG_ON(mm->machine, err);
	if (upper)
		*upper = new;
	return 0;
}

int uhmm__vma_isolate(struct uhmm_vma **vmap, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_vma *vma = *vmap;
	int err;

	if (vma->start < start) {
		err = uhmm__vma_split(vma, start, &vma);
		if (err)
			return err;
		*vmap = vma;
	}
	if (vma->end > end)
		return uhmm__vma_split(vma, end, NULL);
	return 0;
}

/*
 * Two VMAs may share an anon_vma chain if one has none or both have the same anon_vma. A VMA whose
 * chain came from fork does not take over another's. Models: is_mergeable_anon_vma().
 */
static bool chains_agree(struct uhmm_vma *a, struct uhmm_vma *b)
{
	struct uhmm__anon_vma *ava = load_relaxed(&a->anon_vma);
	struct uhmm__anon_vma *avb = load_relaxed(&b->anon_vma);

	if (ava && avb)
		return ava == avb;
	if (!ava && !avb)
		return true;
	return ava ? a->chain.next == a->chain.prev : b->chain.next == b->chain.prev;
}

static bool can_merge(struct uhmm_vma *a, struct uhmm_vma *b)
{
	if (a->end != b->start || a->flags != b->flags || a->file != b->file ||
	    a->flags & UHMM__VM_SPECIAL || vma_pgoff(a, b->start) != b->pgoff ||
	    !chains_agree(a, b))
		return false;
	/* Models: needs_adjacent_anon_pgoff(). */
	return !a->file || a->flags & UHMM_VM_SHARED ||
	       vma_anon_pgoff(a, b->start) == b->anon_pgoff;
}

/* @a takes over the range of @b. Failure, which only memory can cause, leaves two VMAs. */
static bool merge(struct uhmm_vma *a, struct uhmm_vma *b)
{
	uhmm_vaddr_t end = b->end;

	if (!load_relaxed(&a->anon_vma) && load_relaxed(&b->anon_vma) && uhmm__anon_vma_clone(a, b))
		return false;
	if (load_relaxed(&b->maybe_guard))
		store_relaxed(&a->maybe_guard, true);
	uhmm__rangetree_write_begin(&a->mm->vmas);
	uhmm__vma_unlink(b);
	UHMM_BUG_ON(a->mm->machine, uhmm__vma_resize(a, a->start, end));
	uhmm__rangetree_write_end(&a->mm->vmas);
	uhmm__vma_free(b);
	return true;
}

struct uhmm_vma *uhmm__vma_merge_apart(struct uhmm_vma *vma, const struct uhmm_vma *apart)
{
	struct uhmm_vma *prev = uhmm__vma_prev(vma->mm, vma);
	struct uhmm_vma *next;

	if (prev && prev != apart && can_merge(prev, vma) && merge(prev, vma))
		vma = prev;
	next = uhmm__vma_next(vma->mm, vma);
	if (next && next != apart && can_merge(vma, next))
		merge(vma, next);
	return vma;
}

struct uhmm_vma *uhmm__vma_merge(struct uhmm_vma *vma)
{
	return uhmm__vma_merge_apart(vma, NULL);
}

void uhmm__vma_set_flags(struct uhmm_vma *vma, uint64_t flags)
{
	vma_start_write(vma);
	/* An rmap walk does not take mmap_lock; what it maps by the old ones is changed after this. */
	WRITE_ONCE(vma->flags, flags);
	WRITE_ONCE(vma->page_prot, uhmm__vm_page_prot(vma->file, flags));
}
