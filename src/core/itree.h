/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* itree.h - intrusive tree of closed intervals that may overlap. */
#ifndef UHMM_CORE_ITREE_H
#define UHMM_CORE_ITREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Intrusive interval tree: which of these closed intervals overlap [start, last]?
 *
 * It finds the mappings of a file page (rmap), the anon_vma chains of an anonymous page, and the
 * notifiers that an invalidation concerns. An AVL tree ordered by start, in which every node
 * knows the highest last of its subtree; shape and order depend only on the sequence of calls,
 * never on addresses, so runs repeat to the bit.
 *
 * Intervals are [start, last] with last included, as in the kernel's interval trees, because
 * page offsets up to the last one must be expressible. Equal intervals may be there many times.
 *
 * Context, for every function here: the caller's lock excludes writers during reads, and
 * everybody during writes. Nothing here sleeps, allocates or calls back.
 */

/**
 * struct uhmm__itree_node - embed one in each object that is to be found
 * @start: first point of the interval; the caller sets it before insertion, and must not change
 *	it while the node is in a tree
 * @last: last point of the interval, >= @start; likewise
 * @subtree_last: private; the highest @last among this node and all below it
 * @child: private; smaller starts and greater starts
 * @parent_balance: private; the parent, with the balance in the two low bits
 */
struct uhmm__itree_node {
	uint64_t start;
	uint64_t last;
	uint64_t subtree_last;
	struct uhmm__itree_node *child[2];
	uintptr_t parent_balance;
};

_Static_assert(sizeof(struct uhmm__itree_node) <= 48, "one is embedded in every mapping");

/* An all-zero tree is an empty one. */
struct uhmm__itree {
	struct uhmm__itree_node *root;
};

static inline void uhmm__itree_init(struct uhmm__itree *tree)
{
	tree->root = NULL;
}

static inline bool uhmm__itree_empty(const struct uhmm__itree *tree)
{
	return !tree->root;
}

/**
 * uhmm__itree_insert - add a node
 * @tree: in/out
 * @node: in; its @start <= @last are set, the rest may hold anything; not in any tree
 *
 * Among nodes of equal @start the new one comes last, so iteration shows them in the order of
 * insertion. O(log n).
 *
 * Lifetime: the tree points to @node until uhmm__itree_remove().
 * Models: the kernel's interval_tree_insert, full.
 */
void uhmm__itree_insert(struct uhmm__itree *tree, struct uhmm__itree_node *node);

/**
 * uhmm__itree_insert_after - add a node right behind another
 * @tree: in/out
 * @node: in/out; it gets @prev's @start; its @last is set; not in any tree
 * @prev: in; in @tree
 *
 * Iteration shows it next after @prev, before others of the same @start. O(log n).
 *
 * Lifetime: as uhmm__itree_insert().
 * Models: mm/interval_tree.c:mapping_rmap_tree_insert_after(), full.
 */
void uhmm__itree_insert_after(struct uhmm__itree *tree, struct uhmm__itree_node *node,
			      struct uhmm__itree_node *prev);

/**
 * uhmm__itree_remove - take a node out
 * @tree: in/out
 * @node: in; it must be in @tree
 *
 * Other nodes do not move in memory, and an iteration that already holds its next node may go
 * on. O(log n).
 *
 * Lifetime: @node is the caller's again.
 * Models: the kernel's interval_tree_remove, full.
 */
void uhmm__itree_remove(struct uhmm__itree *tree, struct uhmm__itree_node *node);

/**
 * uhmm__itree_iter_first - the first node, by start, that overlaps an interval
 * @tree: in
 * @start: first point asked about
 * @last: last point asked about, >= @start
 *
 * Returns: the node; NULL if nothing overlaps.
 * Models: the kernel's interval_tree_iter_first, full.
 */
struct uhmm__itree_node *uhmm__itree_iter_first(const struct uhmm__itree *tree, uint64_t start,
						uint64_t last);

/**
 * uhmm__itree_iter_next - the next node, by start, that overlaps the same interval
 * @node: in; what the previous call returned, still in the tree
 * @start: as in the first call
 * @last: as in the first call
 *
 * To remove nodes on the way, ask for the next before the removal.
 *
 * Returns: the node; NULL after the last one.
 * Models: the kernel's interval_tree_iter_next, full.
 */
struct uhmm__itree_node *uhmm__itree_iter_next(const struct uhmm__itree_node *node, uint64_t start,
					       uint64_t last);

/* uhmm__itree_iter_first(), without a call in a tree of one node, as most are. */
static inline struct uhmm__itree_node *uhmm__itree_first(const struct uhmm__itree *tree,
							 uint64_t start, uint64_t last)
{
	struct uhmm__itree_node *root = tree->root;

	if (!root || root->child[0] || root->child[1])
		return uhmm__itree_iter_first(tree, start, last);
	return root->start <= last && root->last >= start ? root : NULL;
}

/* The same of uhmm__itree_iter_next(). */
static inline struct uhmm__itree_node *uhmm__itree_next(const struct uhmm__itree_node *node,
							uint64_t start, uint64_t last)
{
	/* No parent, in the bits above the balance, and nothing behind it. */
	if (!node->child[1] && node->parent_balance < 4)
		return NULL;
	return uhmm__itree_iter_next(node, start, last);
}

#define uhmm__itree_for_each(node, tree, start, last)                                              \
	for ((node) = uhmm__itree_first((tree), (start), (last)); (node);                          \
	     (node) = uhmm__itree_next((node), (start), (last)))

/**
 * uhmm__itree_verify - check order, balance, links and subtree_last of every node
 * @tree: in
 *
 * Returns: the number of nodes; -1 if something is wrong.
 */
int64_t uhmm__itree_verify(const struct uhmm__itree *tree);

#endif /* UHMM_CORE_ITREE_H */
