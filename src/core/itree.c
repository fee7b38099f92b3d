// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/itree.h"

typedef struct uhmm__itree_node node_t;

enum { LEFT, RIGHT };

/*
 * The balance of a node is the height of its right subtree less that of its left one: -1, 0 or
 * 1, kept plus one in the low bits of the parent link. "sign" is -1 for LEFT and 1 for RIGHT.
 */
#define BALANCE_MASK ((uintptr_t)3)

static inline int sign_of(int side)
{
	return side == RIGHT ? 1 : -1;
}

static inline node_t *parent_of(const node_t *node)
{
	return (node_t *)(node->parent_balance & ~BALANCE_MASK);
}

static inline int balance_of(const node_t *node)
{
	return (int)(node->parent_balance & BALANCE_MASK) - 1;
}

static inline void set_parent(node_t *node, node_t *parent)
{
	node->parent_balance = (uintptr_t)parent | (node->parent_balance & BALANCE_MASK);
}

static inline void set_balance(node_t *node, int balance)
{
	node->parent_balance = (node->parent_balance & ~BALANCE_MASK) |
			       ((uintptr_t)(balance + 1) & BALANCE_MASK);
}

static inline int side_of(const node_t *parent, const node_t *node)
{
	return parent->child[RIGHT] == node ? RIGHT : LEFT;
}

static uint64_t compute_last(const node_t *node)
{
	uint64_t last = node->last;

	for (int side = LEFT; side <= RIGHT; side++) {
		const node_t *child = node->child[side];

		if (child && child->subtree_last > last)
			last = child->subtree_last;
	}
	return last;
}

/* Something below or at @node has gone: mend subtree_last up to where it no longer matters. */
static void update_upwards(node_t *node)
{
	for (; node; node = parent_of(node)) {
		uint64_t last = compute_last(node);

		if (node->subtree_last == last)
			break;
		node->subtree_last = last;
	}
}

/* Let @parent, or the tree if it is NULL, point to @new where it pointed to @old. */
static void replace_child(struct uhmm__itree *tree, node_t *parent, const node_t *old, node_t *new)
{
	if (!parent)
		tree->root = new;
	else
		parent->child[side_of(parent, old)] = new;
}

/* @top goes down on @side, its other child takes its place. Balances are left to the caller. */
static void rotate(struct uhmm__itree *tree, node_t *top, int side)
{
	node_t *up = top->child[!side];
	node_t *across = up->child[side];
	node_t *parent = parent_of(top);

	replace_child(tree, parent, top, up);
	set_parent(up, parent);
	up->child[side] = top;
	set_parent(top, up);
	top->child[!side] = across;
	if (across)
		set_parent(across, top);

	up->subtree_last = top->subtree_last;
	top->subtree_last = compute_last(top);
}

/*
 * The subtree of @top is two levels deeper on side @heavy: mend that. Returns whether the whole
 * subtree became one level lower than it was with the excess.
 */
static bool mend(struct uhmm__itree *tree, node_t *top, int heavy)
{
	const int sign = sign_of(heavy);
	node_t *mid = top->child[heavy];

	if (balance_of(mid) == -sign) {
		node_t *low = mid->child[!heavy];
		const int balance = balance_of(low);

		rotate(tree, mid, heavy);
		rotate(tree, top, !heavy);
		set_balance(top, balance == sign ? -sign : 0);
		set_balance(mid, balance == -sign ? sign : 0);
		set_balance(low, 0);
		return true;
	}

	const bool even = balance_of(mid) == 0; /* only after a removal */

	rotate(tree, top, !heavy);
	set_balance(top, even ? sign : 0);
	set_balance(mid, even ? -sign : 0);
	return !even;
}

/* Make @node a leaf at *@link, which is empty, below @parent; above it subtree_last is right already. */
static void link_node(struct uhmm__itree *tree, node_t *node, node_t *parent, node_t **link)
{
	node->child[LEFT] = NULL;
	node->child[RIGHT] = NULL;
	node->subtree_last = node->last;
	node->parent_balance = (uintptr_t)parent;
	set_balance(node, 0);
	*link = node;

	/* Each round: the subtree of node has become one level higher. */
	for (; parent; node = parent, parent = parent_of(node)) {
		const int side = side_of(parent, node);
		const int balance = balance_of(parent) + sign_of(side);

		if (balance == 2 || balance == -2) {
			mend(tree, parent, side);
			break;
		}
		set_balance(parent, balance);
		if (!balance)
			break;
	}
}

void uhmm__itree_insert(struct uhmm__itree *tree, node_t *node)
{
	node_t *parent = NULL;
	node_t **link = &tree->root;

	while (*link) {
		parent = *link;
		if (parent->subtree_last < node->last)
			parent->subtree_last = node->last;
		link = &parent->child[node->start < parent->start ? LEFT : RIGHT];
	}
	link_node(tree, node, parent, link);
}

void uhmm__itree_insert_after(struct uhmm__itree *tree, node_t *node, node_t *prev)
{
	node_t *parent = prev;
	node_t **link = &prev->child[RIGHT];

	while (*link) {
		parent = *link;
		link = &parent->child[LEFT];
	}
	node->start = prev->start;
	for (node_t *up = parent; up && up->subtree_last < node->last; up = parent_of(up))
		up->subtree_last = node->last;
	link_node(tree, node, parent, link);
}

/* The subtree of @parent on @side has become one level lower. */
static void lowered(struct uhmm__itree *tree, node_t *parent, int side)
{
	while (parent) {
		node_t *above = parent_of(parent);
		const int above_side = above ? side_of(above, parent) : LEFT;
		const int balance = balance_of(parent) - sign_of(side);

		if (balance == 2 || balance == -2) {
			if (!mend(tree, parent, !side))
				break;
		} else {
			set_balance(parent, balance);
			if (balance)
				break;
		}
		parent = above;
		side = above_side;
	}
}

void uhmm__itree_remove(struct uhmm__itree *tree, node_t *node)
{
	node_t *parent = parent_of(node);
	node_t *heir, *from;
	int side;

	if (!node->child[LEFT] || !node->child[RIGHT]) {
		node_t *child = node->child[LEFT] ? node->child[LEFT] : node->child[RIGHT];

		side = parent ? side_of(parent, node) : LEFT;
		replace_child(tree, parent, node, child);
		if (child)
			set_parent(child, parent);
		update_upwards(parent);
		lowered(tree, parent, side);
		return;
	}

	/* Two children: the next node in order, which has no left child, takes node's place. */
	heir = node->child[RIGHT];
	while (heir->child[LEFT])
		heir = heir->child[LEFT];
	from = parent_of(heir);
	if (from == node) {
		from = heir;
		side = RIGHT;
	} else {
		node_t *child = heir->child[RIGHT];

		side = LEFT;
		from->child[LEFT] = child;
		if (child)
			set_parent(child, from);
		heir->child[RIGHT] = node->child[RIGHT];
		set_parent(heir->child[RIGHT], heir);
	}
	heir->child[LEFT] = node->child[LEFT];
	set_parent(heir->child[LEFT], heir);
	heir->parent_balance = node->parent_balance;
	replace_child(tree, parent, node, heir);

	/*
	 * Two walks, since the first may stop below heir, whose place has lost node as well. The
	 * second starts from what that place had, so that its own early stop is right too.
	 */
	heir->subtree_last = node->subtree_last;
	update_upwards(from);
	update_upwards(heir);
	lowered(tree, from, side);
}

static inline bool reaches(const node_t *node, uint64_t start)
{
	return node && node->subtree_last >= start;
}

/*
 * The first overlap in a subtree that reaches start. If the left part reaches start, then the
 * first overlap is there or nowhere: the node there that reaches start can fail only by beginning
 * after last, and then all that follows does so too.
 */
static node_t *search(node_t *node, uint64_t start, uint64_t last)
{
	for (;;) {
		while (reaches(node->child[LEFT], start))
			node = node->child[LEFT];
		if (node->start > last)
			return NULL;
		if (node->last >= start)
			return node;
		node = node->child[RIGHT]; /* Neither left nor itself: so it reaches. */
	}
}

node_t *uhmm__itree_iter_first(const struct uhmm__itree *tree, uint64_t start, uint64_t last)
{
	return reaches(tree->root, start) ? search(tree->root, start, last) : NULL;
}

node_t *uhmm__itree_iter_next(const node_t *node, uint64_t start, uint64_t last)
{
	for (;;) {
		node_t *parent = parent_of(node);

		if (reaches(node->child[RIGHT], start))
			return search(node->child[RIGHT], start, last);

		/* Up to the first ancestor that comes after. */
		while (parent && side_of(parent, node) == RIGHT) {
			node = parent;
			parent = parent_of(node);
		}
		if (!parent || parent->start > last)
			return NULL;
		if (parent->last >= start)
			return parent;
		node = parent;
	}
}

/* Returns the height of the subtree, or -1. Recursion is as deep as the tree: at most 92. */
static int verify_subtree(const node_t *node, const node_t *parent, int64_t *nr)
{
	int height[2];

	if (!node)
		return 0;
	if (parent_of(node) != parent || node->start > node->last ||
	    node->subtree_last != compute_last(node))
		return -1;
	if (node->child[LEFT] && node->child[LEFT]->start > node->start)
		return -1;
	if (node->child[RIGHT] && node->child[RIGHT]->start < node->start)
		return -1;
	for (int side = LEFT; side <= RIGHT; side++) {
		height[side] = verify_subtree(node->child[side], node, nr);
		if (height[side] < 0)
			return -1;
	}
	if (height[RIGHT] - height[LEFT] != balance_of(node))
		return -1;
	++*nr;
	return 1 + (height[LEFT] > height[RIGHT] ? height[LEFT] : height[RIGHT]);
}

int64_t uhmm__itree_verify(const struct uhmm__itree *tree)
{
	const uint64_t top = UINT64_MAX;
	uint64_t previous = 0;
	const node_t *node;
	int64_t nr = 0, seen = 0;

	if (verify_subtree(tree->root, NULL, &nr) < 0)
		return -1;
	/* Order over the whole tree, which comparing parents with children does not show. */
	uhmm__itree_for_each(node, tree, 0, top) {
		if (node->start < previous)
			return -1;
		previous = node->start;
		seen++;
	}
	return seen == nr ? nr : -1;
}
