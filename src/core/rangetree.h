/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rangetree.h - B+tree of ranges that do not overlap, with lock-free readers. */
#ifndef UHMM_CORE_RANGETREE_H
#define UHMM_CORE_RANGETREE_H

#include <stdatomic.h>

#include <uhmm/types.h>

#include "core/allocator.h"
#include "core/compiler.h"

/*
 * Maps ranges [start, end), 0 <= start < end <= 2^64 - 1, to non-NULL pointers: the VMAs of an
 * mm, where Linux has its maple tree.
 *
 * Three kinds of context:
 *   writer   the caller's lock, held exclusively
 *   locked   the caller's lock, held so that there is no writer
 *   rcu      an RCU read-side critical section and no lock; uhmm__rangetree_lookup() alone
 *
 * A lock-free reader may meet a writer in the act. A sequence number, odd while a writer works,
 * tells it so, and then it says RETRY rather than something that was never true. Until it knows,
 * it can only meet nodes that were linked at some time since it entered its critical section,
 * since dead nodes are freed by way of defer_free(); every field that it reads is atomic.
 *
 * Nothing here sleeps. Only insert and reserve allocate.
 */

/* A range and what it maps to; what queries give back. */
struct uhmm__range {
	uint64_t start;
	uint64_t end;
	void *value;
};

/* What a lock-free lookup came to. */
enum uhmm__range_result {
	UHMM__RANGE_NONE,  /* no range contained the address */
	UHMM__RANGE_FOUND, /* one did */
	UHMM__RANGE_RETRY, /* a writer interfered: ask again, better under the lock */
};

/**
 * typedef uhmm__rangetree_defer_fn - free a node after a grace period
 * @ctx: as given to uhmm__rangetree_init()
 * @node: no longer reachable for readers that begin now
 * @size: of the node, as it was asked from the allocator
 *
 * It must see to it that the allocator's free(@node, @size) is called once every reader that is
 * now in its critical section has left it. The node's contents must stay as they are meanwhile,
 * except for the bytes at uhmm__rangetree_defer_area().
 *
 * Context: writer; the sequence number may be odd (see uhmm__rangetree_write_begin()).
 */
typedef void (*uhmm__rangetree_defer_fn)(void *ctx, void *node, size_t size);

/* Room in each node for an rcu_head, which is larger in the checked build, a context and a size. */
#if UHMM_CHECKED
#define UHMM__RANGETREE_DEFER_SIZE 40
#else
#define UHMM__RANGETREE_DEFER_SIZE 32
#endif

/**
 * uhmm__rangetree_defer_area - bytes of a dead node that belong to defer_free()
 *
 * Returns: UHMM__RANGETREE_DEFER_SIZE bytes inside the node, aligned to 8.
 */
static inline void *uhmm__rangetree_defer_area(void *node, size_t size)
{
	return (char *)node + size - UHMM__RANGETREE_DEFER_SIZE;
}

struct uhmm__rt_node;

/**
 * struct uhmm__rangetree - the tree; private, except that a locked caller may read @nr
 * @seq: [rcu, writer:w] odd while a writer works
 * @root: [rcu, writer:w]
 * @nr: [writer] number of ranges
 * @write_depth: [writer] nesting of write sections
 * @spare: [writer] nodes for later inserts: leaves, and inner nodes
 * @nr_spare: [writer] how many
 * @allocator: [const]
 * @defer_free: [const]
 * @defer_ctx: [const]
 */
struct uhmm__rangetree {
	_Atomic uint64_t seq;
	struct uhmm__rt_node *_Atomic root;
	uint64_t nr;
	unsigned int write_depth;
	struct uhmm__rt_node *spare[2];
	uint64_t nr_spare[2];
	const struct uhmm__allocator *allocator;
	uhmm__rangetree_defer_fn defer_free;
	void *defer_ctx;
};

/**
 * uhmm__rangetree_init - make an empty tree
 * @tree: out
 * @allocator: in; must outlive the tree
 * @defer_free: in; NULL frees at once, for trees without lock-free readers
 * @defer_ctx: for @defer_free
 */
void uhmm__rangetree_init(struct uhmm__rangetree *tree, const struct uhmm__allocator *allocator,
			  uhmm__rangetree_defer_fn defer_free, void *defer_ctx);

/**
 * uhmm__rangetree_destroy - free all nodes at once; the tree is empty afterwards
 *
 * Context: writer, and no lock-free reader can still be in the tree.
 * Lifetime: values are the caller's, before and after.
 */
void uhmm__rangetree_destroy(struct uhmm__rangetree *tree);

/**
 * uhmm__rangetree_lookup - the range that contains an address, without a lock
 * @tree: in
 * @addr: any
 * @out: out; written only if FOUND
 *
 * One attempt: the writers that a reader meets hold the lock for longer than a few more attempts
 * take, so the caller had better fall back to the lock, as the kernel does in
 * lock_vma_under_rcu().
 *
 * Returns: FOUND or NONE, which was true at a moment during the call; RETRY.
 * Context: rcu; writer and locked are fine as well (within a write section it says RETRY).
 * Lifetime: the tree does not protect out->value; the caller frees values after a grace period,
 *	and rechecks under the value's own lock.
 * Models: mas_walk() as in mm/mmap_lock.c:lock_vma_under_rcu, simplified (a maple tree goes on
 *	while writers work elsewhere in it).
 */
enum uhmm__range_result uhmm__rangetree_lookup(const struct uhmm__rangetree *tree, uint64_t addr,
					       struct uhmm__range *out) UHMM_MUST_CHECK;

/**
 * uhmm__rangetree_find - the range that contains an address
 * @out: out; may be NULL; written only if true is returned
 *
 * Returns: whether there is one.
 * Context: locked.
 */
bool uhmm__rangetree_find(const struct uhmm__rangetree *tree, uint64_t addr,
			  struct uhmm__range *out);

/**
 * uhmm__rangetree_find_first - the first range with end > addr
 * @out: out; may be NULL; written only if true is returned
 *
 * Returns: whether there is one.
 * Context: locked.
 * Models: mm/mmap.c:find_vma, full.
 */
bool uhmm__rangetree_find_first(const struct uhmm__rangetree *tree, uint64_t addr,
				struct uhmm__range *out);

/**
 * uhmm__rangetree_find_in - the first range that overlaps [from, to)
 * @out: out; may be NULL; written only if true is returned
 *
 * Returns: whether there is one.
 * Context: locked.
 * Models: mm/mmap.c:find_vma_intersection, full.
 */
bool uhmm__rangetree_find_in(const struct uhmm__rangetree *tree, uint64_t from, uint64_t to,
			     struct uhmm__range *out);

/**
 * uhmm__rangetree_next - the first range that starts after a point
 * @start: usually the start of a range, but it need not be one
 * @out: out; may be NULL; written only if true is returned
 *
 * Returns: whether there is one.
 * Context: locked.
 */
bool uhmm__rangetree_next(const struct uhmm__rangetree *tree, uint64_t start,
			  struct uhmm__range *out);

/**
 * uhmm__rangetree_prev - the last range that starts before a point
 * @start: usually the start of a range, but it need not be one
 * @out: out; may be NULL; written only if true is returned
 *
 * Returns: whether there is one.
 * Context: locked.
 */
bool uhmm__rangetree_prev(const struct uhmm__rangetree *tree, uint64_t start,
			  struct uhmm__range *out);

/*
 * Visit each range that overlaps [from, to), ascending, in *@r, a struct uhmm__range. The body
 * may erase, resize and insert: each step asks the tree anew from r->end, which the body may move.
 */
#define uhmm__rangetree_for_each(tree, r, from, to)                                                \
	for ((r)->end = (from); uhmm__rangetree_find_in((tree), (r)->end, (to), (r));)

/**
 * uhmm__rangetree_insert - add a range
 * @tree: in/out
 * @start: first address
 * @end: end, not included
 * @value: not NULL
 *
 * Returns: 0; -EEXIST if it would overlap another; -EINVAL if the range is empty or @value NULL;
 *	-ENOMEM, never after a sufficient uhmm__rangetree_reserve(). The tree is unchanged then.
 * Context: writer.
 */
int uhmm__rangetree_insert(struct uhmm__rangetree *tree, uint64_t start, uint64_t end,
			   void *value) UHMM_MUST_CHECK;

/**
 * uhmm__rangetree_erase - remove a range
 * @start: its start, exactly
 * @old: out; may be NULL; what was removed
 *
 * Returns: 0; -ENOENT if no range starts there. Never allocates.
 * Context: writer.
 */
int uhmm__rangetree_erase(struct uhmm__rangetree *tree, uint64_t start, struct uhmm__range *old);

/**
 * uhmm__rangetree_resize - move the bounds of a range, within the gap around it
 * @start: its start, exactly
 * @new_start: the start it shall have
 * @new_end: the end it shall have
 *
 * Returns: 0; -ENOENT if no range starts at @start; -EEXIST if it would overlap or jump over
 *	another; -EINVAL if the new range is empty. Never allocates.
 * Context: writer.
 */
int uhmm__rangetree_resize(struct uhmm__rangetree *tree, uint64_t start, uint64_t new_start,
			   uint64_t new_end) UHMM_MUST_CHECK;

/**
 * uhmm__rangetree_replace - give a range another value
 * @start: its start, exactly
 * @value: not NULL
 *
 * Returns: 0; -ENOENT if no range starts there; -EINVAL if @value is NULL. Never allocates.
 * Context: writer.
 */
int uhmm__rangetree_replace(struct uhmm__rangetree *tree, uint64_t start,
			    void *value) UHMM_MUST_CHECK;

/**
 * uhmm__rangetree_reserve - make sure that the next inserts cannot fail for want of memory
 * @nr: number of calls of uhmm__rangetree_insert() to provide for, whatever other writes come
 *	between them
 *
 * What is not used stays with the tree for later inserts, until uhmm__rangetree_unreserve().
 *
 * Returns: 0; -ENOMEM, with the tree unchanged.
 * Context: writer.
 * Models: mas_preallocate() and vma_iter_prealloc, simplified (any positions).
 */
int uhmm__rangetree_reserve(struct uhmm__rangetree *tree, unsigned int nr) UHMM_MUST_CHECK;

/**
 * uhmm__rangetree_unreserve - give spare nodes back to the allocator
 *
 * Context: writer.
 */
void uhmm__rangetree_unreserve(struct uhmm__rangetree *tree);

/**
 * uhmm__rangetree_write_begin - make several writes one for lock-free readers
 *
 * Between this and uhmm__rangetree_write_end() lookups say RETRY, so that nobody sees, say, the
 * hole while a VMA is split in two. Nests. Not needed around a single write.
 *
 * Context: writer; to be held briefly.
 */
void uhmm__rangetree_write_begin(struct uhmm__rangetree *tree);
void uhmm__rangetree_write_end(struct uhmm__rangetree *tree);

/**
 * uhmm__rangetree_gap - find free space
 * @tree: in
 * @from: lower bound, included
 * @to: upper bound, not included
 * @len: bytes wanted, not 0
 * @top_down: the highest place, else the lowest
 * @addr: out; written only if true is returned
 *
 * O(log n): every subtree knows its widest gap. To align the result, or to keep a guard gap, ask
 * for that much more.
 *
 * Returns: whether there is a place; then [*addr, *addr + len) lies in [from, to) and is free.
 * Context: locked.
 * Models: mm/vma.c:unmapped_area and unmapped_area_topdown, simplified (no alignment, no guard).
 */
bool uhmm__rangetree_gap(const struct uhmm__rangetree *tree, uint64_t from, uint64_t to,
			 uint64_t len, bool top_down, uint64_t *addr);

/**
 * uhmm__rangetree_verify - check every invariant of every node
 *
 * Returns: the number of ranges; -1 if something is wrong.
 * Context: locked.
 */
int64_t uhmm__rangetree_verify(const struct uhmm__rangetree *tree);

#endif /* UHMM_CORE_RANGETREE_H */
