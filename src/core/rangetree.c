// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Readers and writers
 *
 * A reader samples seq (even, or it gives up), walks, and takes seq again. All its loads of nodes
 * are acquires, and all of a writer's stores into linked nodes are releases. So if the reader saw
 * any store of a write section, it also sees the odd seq that came before it, and gives up. No
 * fence is needed, which ThreadSanitizer would not understand; on x86 all of these are plain
 * moves.
 *
 * Before it knows whether what it saw is consistent, a reader relies on this alone:
 *   - the level of a node never changes while the node is linked or waits to be freed, and what
 *     an inner node points to is always one level below: a walk ends, and a value is never taken
 *     for a node;
 *   - a slot beyond the last entry of a node holds NULL, so no live node points to a dead one:
 *     a dead node was unlinked after the reader's critical section began, and is still there.
 * That is why dead nodes go to defer_free() and never to the spare list.
 */
#include "core/rangetree.h"

#include <errno.h>

#include "core/compiler.h"
#include "core/rangetree_node.h"

typedef struct uhmm__rangetree tree_t;

/* Inner nodes other than the root have at least two children: enough for 2^31 leaves. */
#define MAX_LEVELS 32

/* Where a walk went: at[0] is the leaf, and its pos may be count, "after the last". */
struct path {
	unsigned int top; /* level of the root */
	struct {
		node_t *node;
		unsigned int pos;
	} at[MAX_LEVELS];
};

/* Nodes that a write took out of the tree: at most one a level, and old roots. */
struct dead {
	unsigned int nr;
	node_t *node[2 * MAX_LEVELS];
};

/* ---- memory ---- */

static void node_free(const tree_t *tree, node_t *node)
{
	tree->allocator->free(tree->allocator->ctx, node, node_size(node->level));
}

/* Have at least this many spare nodes. Those that came before a failure may stay. */
static int fill_spare(tree_t *tree, bool inner, uint64_t nr)
{
	while (tree->nr_spare[inner] < nr) {
		node_t *node = tree->allocator->alloc(tree->allocator->ctx, node_size(inner));

		if (!node)
			return -ENOMEM;
		node->level = inner;
		store_relaxed(&node->slot[0].ptr, tree->spare[inner]);
		tree->spare[inner] = node;
		tree->nr_spare[inner]++;
	}
	return 0;
}

static node_t *take_spare(tree_t *tree, unsigned int level)
{
	const bool inner = level > 0;
	node_t *node = tree->spare[inner];

	tree->spare[inner] = load_relaxed(&node->slot[0].ptr);
	tree->nr_spare[inner]--;
	node->level = level;
	return node;
}

static void bury(const tree_t *tree, const struct dead *dead)
{
	for (unsigned int i = 0; i < dead->nr; i++) {
		node_t *node = dead->node[i];

		if (tree->defer_free)
			tree->defer_free(tree->defer_ctx, node, node_size(node->level));
		else
			node_free(tree, node);
	}
}

static void free_subtree(const tree_t *tree, node_t *node)
{
	for (unsigned int i = 0; node->level && i < node->count; i++)
		free_subtree(tree, ptr_of(node, i));
	node_free(tree, node);
}

void uhmm__rangetree_init(tree_t *tree, const struct uhmm__allocator *allocator,
			  uhmm__rangetree_defer_fn defer_free, void *defer_ctx)
{
	*tree = (tree_t){
		.allocator = allocator,
		.defer_free = defer_free,
		.defer_ctx = defer_ctx,
	};
}

void uhmm__rangetree_unreserve(tree_t *tree)
{
	for (unsigned int inner = 0; inner < 2; inner++)
		while (tree->nr_spare[inner])
			node_free(tree, take_spare(tree, inner));
}

void uhmm__rangetree_destroy(tree_t *tree)
{
	node_t *root = load_relaxed(&tree->root);

	uhmm__rangetree_write_begin(tree);
	store_release(&tree->root, NULL);
	tree->nr = 0;
	uhmm__rangetree_write_end(tree);
	if (root)
		free_subtree(tree, root);
	uhmm__rangetree_unreserve(tree);
}

int uhmm__rangetree_reserve(tree_t *tree, unsigned int nr)
{
	const node_t *root = load_relaxed(&tree->root);
	/* An insert may split a node at each level and then put a root above. */
	uint64_t levels = root ? root->level + 1 : 1;
	int err;

	/* To split a root made meanwhile takes MIN_FILL times more inserts at each level. */
	for (unsigned int n = nr / MIN_FILL; n; n /= MIN_FILL)
		levels++;
	err = fill_spare(tree, false, nr);
	return err ? err : fill_spare(tree, true, nr * levels);
}

/* ---- walks ---- */

enum uhmm__range_result uhmm__rangetree_lookup(const tree_t *tree, uint64_t addr,
					       struct uhmm__range *out)
{
	const uint64_t seq = load_acquire(&tree->seq);
	const node_t *node = load_acquire(&tree->root);
	struct uhmm__range found = { 0 };

	if (seq & 1)
		return UHMM__RANGE_RETRY;
	while (node) {
		const unsigned int pos = node_search(node, addr);
		void *ptr = pos < FANOUT ? ptr_of(node, pos) : NULL;

		if (!node->level) {
			if (!ptr)
				break;
			found.start = start_of(node, pos);
			found.end = end_of(node, pos);
			found.value = found.start <= addr ? ptr : NULL;
			break;
		}
		node = ptr;
	}
	if (load_relaxed(&tree->seq) != seq)
		return UHMM__RANGE_RETRY;
	if (!found.value)
		return UHMM__RANGE_NONE;
	*out = found;
	return UHMM__RANGE_FOUND;
}

/*
 * Walk to the first entry with end > addr. If there is none, to the place after the last one.
 * Returns whether there is an entry. In an empty tree the path has no node.
 */
static bool path_find(const tree_t *tree, uint64_t addr, struct path *path)
{
	node_t *node = load_relaxed(&tree->root);
	unsigned int pos;

	if (!node)
		return false;
	path->top = node->level;
	for (;;) {
		pos = node_search(node, addr);
		path->at[node->level].node = node;
		if (!node->level)
			break;
		if (pos >= node->count)
			pos = node->count - 1;
		path->at[node->level].pos = pos;
		node = ptr_of(node, pos);
	}
	/* An unused end is <= addr only if addr is UINT64_MAX. */
	path->at[0].pos = pos < node->count ? pos : node->count;
	return pos < node->count;
}

/* Go one entry forth (dir 1) or back (-1). Returns whether there is one; else the path is void. */
static bool path_step(struct path *path, int dir)
{
	unsigned int level = 0;

	for (;; level++) {
		unsigned int *pos = &path->at[level].pos;

		if (level > path->top)
			return false;
		if (dir < 0 ? *pos > 0 : *pos + 1 < path->at[level].node->count) {
			*pos = dir < 0 ? *pos - 1 : *pos + 1;
			break;
		}
	}
	while (level--) {
		node_t *node = ptr_of(path->at[level + 1].node, path->at[level + 1].pos);

		path->at[level].node = node;
		path->at[level].pos = dir < 0 ? node->count - 1 : 0;
	}
	return true;
}

static struct entry path_entry(const struct path *path)
{
	return entry_get(path->at[0].node, path->at[0].pos);
}

static bool path_out(const struct path *path, struct uhmm__range *out)
{
	const struct entry e = path_entry(path);

	if (out)
		*out = (struct uhmm__range){ e.start, e.end, e.ptr };
	return true;
}

/* Walk to the entry that starts at @start. Returns whether there is one. */
static bool path_find_exact(const tree_t *tree, uint64_t start, struct path *path)
{
	return path_find(tree, start, path) && path_entry(path).start == start;
}

/* ---- queries ---- */

bool uhmm__rangetree_find_first(const tree_t *tree, uint64_t addr, struct uhmm__range *out)
{
	const node_t *node = load_relaxed(&tree->root);

	while (node) {
		const unsigned int pos = node_search(node, addr);

		if (pos >= node->count)
			break;
		if (!node->level) {
			if (out)
				*out = (struct uhmm__range){ start_of(node, pos), end_of(node, pos),
							     ptr_of(node, pos) };
			return true;
		}
		node = ptr_of(node, pos);
	}
	return false;
}

bool uhmm__rangetree_find_in(const tree_t *tree, uint64_t from, uint64_t to,
			     struct uhmm__range *out)
{
	struct uhmm__range r;

	if (!uhmm__rangetree_find_first(tree, from, &r) || r.start >= to)
		return false;
	if (out)
		*out = r;
	return true;
}

bool uhmm__rangetree_find(const tree_t *tree, uint64_t addr, struct uhmm__range *out)
{
	/* No range contains the last address, so that the sum may wrap. */
	return uhmm__rangetree_find_in(tree, addr, addr + 1, out);
}

bool uhmm__rangetree_next(const tree_t *tree, uint64_t start, struct uhmm__range *out)
{
	struct path path;

	if (!path_find(tree, start, &path))
		return false;
	if (path_entry(&path).start <= start && !path_step(&path, 1))
		return false;
	return path_out(&path, out);
}

bool uhmm__rangetree_prev(const tree_t *tree, uint64_t start, struct uhmm__range *out)
{
	struct path path;

	if (!load_relaxed(&tree->root))
		return false;
	/* What is found ends after start; it may begin before it, else the one before it does. */
	if (path_find(tree, start, &path) && path_entry(&path).start < start)
		return path_out(&path, out);
	return path_step(&path, -1) && path_out(&path, out);
}

struct gap_query {
	uint64_t from, to, len;
	bool top_down;
	uint64_t *addr;
};

/* Is there room in the hole [start, end)? */
static bool gap_try(const struct gap_query *q, uint64_t start, uint64_t end)
{
	if (start < q->from)
		start = q->from;
	if (end > q->to)
		end = q->to;
	if (start >= end || end - start < q->len)
		return false;
	*q->addr = q->top_down ? end - q->len : start;
	return true;
}

/*
 * Look into a node, from above or from below. A child with a gap that is wide enough can
 * disappoint only if a bound of the query cuts through it, so at most two paths are taken in vain.
 */
static bool gap_in_node(const struct gap_query *q, const node_t *node)
{
	for (unsigned int n = 0; n < node->count; n++) {
		const unsigned int i = q->top_down ? node->count - 1 - n : n;
		const unsigned int left = q->top_down ? i - 1 : i;

		if (node->level && gaps(node)[i] >= q->len && start_of(node, i) < q->to &&
		    end_of(node, i) > q->from && gap_in_node(q, ptr_of(node, i)))
			return true;
		if (n + 1 < node->count && gap_try(q, end_of(node, left), start_of(node, left + 1)))
			return true;
	}
	return false;
}

bool uhmm__rangetree_gap(const tree_t *tree, uint64_t from, uint64_t to, uint64_t len,
			 bool top_down, uint64_t *addr)
{
	const struct gap_query q = { from, to, len, top_down, addr };
	const node_t *root = load_relaxed(&tree->root);
	uint64_t first, last;

	if (!len)
		return false;
	if (!root)
		return gap_try(&q, 0, UINT64_MAX);
	first = start_of(root, 0);
	last = end_of(root, root->count - 1);
	if (top_down)
		return gap_try(&q, last, UINT64_MAX) || gap_in_node(&q, root) ||
		       gap_try(&q, 0, first);
	return gap_try(&q, 0, first) || gap_in_node(&q, root) || gap_try(&q, last, UINT64_MAX);
}

/* ---- writes ---- */

void uhmm__rangetree_write_begin(tree_t *tree)
{
	if (tree->write_depth++ == 0)
		store_relaxed(&tree->seq, load_relaxed(&tree->seq) + 1);
}

void uhmm__rangetree_write_end(tree_t *tree)
{
	if (--tree->write_depth == 0)
		store_release(&tree->seq, load_relaxed(&tree->seq) + 1);
}

/* The node at @level of the path has changed: bring the entries above it up to date. */
static void propagate(const struct path *path, unsigned int level)
{
	for (; level < path->top; level++) {
		node_t *parent = path->at[level + 1].node;
		const unsigned int pos = path->at[level + 1].pos;
		const struct entry old = entry_get(parent, pos);
		const struct entry sum = node_summary(path->at[level].node);

		if (sum.start == old.start && sum.end == old.end && sum.gap == old.gap)
			break;
		entry_put(parent, pos, &sum);
	}
}

/* Insert into a full node, the last part of which goes to the new node @right. */
static void split_insert(node_t *node, node_t *right, unsigned int pos, const struct entry *e)
{
	struct entry all[FANOUT + 1];
	unsigned int nr = 0, keep;

	for (unsigned int i = 0; i <= FANOUT; i++)
		all[i] = i == pos ? *e : entry_get(node, nr++);
	/* At an end more is likely to come at that end: leave the other part fuller. */
	if (pos == FANOUT)
		keep = FANOUT + 1 - MIN_FILL;
	else
		keep = pos ? (FANOUT + 1) / 2 : MIN_FILL;
	node_fill(right, all + keep, FANOUT + 1 - keep);
	node_fill(node, all, keep);
}

/* Insert at the end of @path. There are enough spare nodes. */
static void insert_at(tree_t *tree, struct path *path, struct entry e)
{
	for (unsigned int level = 0;; level++) {
		node_t *node = path->at[level].node;
		const unsigned int pos = path->at[level].pos;
		struct entry sum[2];
		node_t *right;

		if (node->count < FANOUT) {
			node_insert(node, pos, &e);
			propagate(path, level);
			return;
		}
		right = take_spare(tree, level);
		split_insert(node, right, pos, &e);
		sum[0] = node_summary(node);
		sum[1] = node_summary(right);
		if (level == path->top) {
			node_t *root = take_spare(tree, level + 1);

			node_fill(root, sum, 2);
			store_release(&tree->root, root);
			return;
		}
		entry_put(path->at[level + 1].node, path->at[level + 1].pos, &sum[0]);
		path->at[level + 1].pos++;
		e = sum[1];
	}
}

/* Have the spare nodes that insert_at() will take. */
static int prepare_insert(tree_t *tree, const struct path *path)
{
	unsigned int full = 0, inner;
	int err;

	while (full <= path->top && path->at[full].node->count == FANOUT)
		full++;
	if (!full)
		return 0;
	/* The leaf, and the inner nodes above, one more of them if the root is full as well. */
	inner = full - 1 + (full > path->top);
	err = fill_spare(tree, false, 1);
	return err ? err : fill_spare(tree, true, inner);
}

int uhmm__rangetree_insert(tree_t *tree, uint64_t start, uint64_t end, void *value)
{
	const struct entry e = { .start = start, .end = end, .ptr = value };
	struct path path;
	int err;

	if (start >= end || !value)
		return -EINVAL;
	if (path_find(tree, start, &path) && path_entry(&path).start < end)
		return -EEXIST;
	if (!load_relaxed(&tree->root)) {
		err = fill_spare(tree, false, 1);
		if (err)
			return err;
		uhmm__rangetree_write_begin(tree);
		path.at[0].node = take_spare(tree, 0);
		node_fill(path.at[0].node, &e, 1);
		store_release(&tree->root, path.at[0].node);
	} else {
		err = prepare_insert(tree, &path);
		if (err)
			return err;
		uhmm__rangetree_write_begin(tree);
		insert_at(tree, &path, e);
	}
	tree->nr++;
	uhmm__rangetree_write_end(tree);
	return 0;
}

/*
 * The child at @pos of @parent has too few entries: merge it with a neighbour, or take some from
 * the neighbour. Returns the node that is no longer needed, if any.
 */
static node_t *refill(node_t *parent, unsigned int pos)
{
	const unsigned int left_pos = pos ? pos - 1 : 0;
	node_t *left = ptr_of(parent, left_pos);
	node_t *right = ptr_of(parent, left_pos + 1);
	struct entry all[2 * FANOUT], sum;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < left->count; i++)
		all[nr++] = entry_get(left, i);
	for (unsigned int i = 0; i < right->count; i++)
		all[nr++] = entry_get(right, i);
	if (nr <= FANOUT) {
		node_fill(left, all, nr);
		sum = node_summary(left);
		entry_put(parent, left_pos, &sum);
		node_remove(parent, left_pos + 1);
		return right;
	}
	node_fill(left, all, nr / 2);
	node_fill(right, all + nr / 2, nr - nr / 2);
	sum = node_summary(left);
	entry_put(parent, left_pos, &sum);
	sum = node_summary(right);
	entry_put(parent, left_pos + 1, &sum);
	return NULL;
}

static void erase_at(tree_t *tree, struct path *path, struct dead *dead)
{
	node_t *root = path->at[path->top].node;
	unsigned int level = 0;

	node_remove(path->at[0].node, path->at[0].pos);
	while (level < path->top && path->at[level].node->count < MIN_FILL) {
		node_t *gone = refill(path->at[level + 1].node, path->at[level + 1].pos);

		level++;
		if (!gone)
			break;
		dead->node[dead->nr++] = gone;
	}
	propagate(path, level);

	while (root && root->count <= (root->level ? 1 : 0)) {
		node_t *below = root->level ? ptr_of(root, 0) : NULL;

		dead->node[dead->nr++] = root;
		store_release(&tree->root, below);
		root = below;
	}
}

int uhmm__rangetree_erase(tree_t *tree, uint64_t start, struct uhmm__range *old)
{
	struct dead dead = { .nr = 0 };
	struct path path;

	if (!path_find_exact(tree, start, &path))
		return -ENOENT;
	path_out(&path, old);
	uhmm__rangetree_write_begin(tree);
	erase_at(tree, &path, &dead);
	tree->nr--;
	uhmm__rangetree_write_end(tree);
	bury(tree, &dead);
	return 0;
}

int uhmm__rangetree_resize(tree_t *tree, uint64_t start, uint64_t new_start, uint64_t new_end)
{
	struct path path, beside;
	struct entry e;

	if (new_start >= new_end)
		return -EINVAL;
	if (!path_find_exact(tree, start, &path))
		return -ENOENT;
	beside = path;
	if (path_step(&beside, -1) && path_entry(&beside).end > new_start)
		return -EEXIST;
	beside = path;
	if (path_step(&beside, 1) && path_entry(&beside).start < new_end)
		return -EEXIST;

	e = path_entry(&path);
	e.start = new_start;
	e.end = new_end;
	uhmm__rangetree_write_begin(tree);
	entry_put(path.at[0].node, path.at[0].pos, &e);
	propagate(&path, 0);
	uhmm__rangetree_write_end(tree);
	return 0;
}

int uhmm__rangetree_replace(tree_t *tree, uint64_t start, void *value)
{
	struct path path;

	if (!value)
		return -EINVAL;
	if (!path_find_exact(tree, start, &path))
		return -ENOENT;
	uhmm__rangetree_write_begin(tree);
	store_release(&path.at[0].node->slot[path.at[0].pos].ptr, value);
	uhmm__rangetree_write_end(tree);
	return 0;
}

/* ---- verification ---- */

/* @previous is the end of the last range seen, over the whole tree. */
static bool verify_node(const node_t *node, bool is_root, uint64_t *previous, uint64_t *nr)
{
	const unsigned int least = is_root ? (node->level ? 2 : 1) : MIN_FILL;

	if (node->count < least || node->count > FANOUT)
		return false;
	for (unsigned int i = 0; i < FANOUT; i++) {
		const struct entry e = entry_get(node, i);
		struct entry sum;

		if (i >= node->count) {
			if (e.ptr || e.end != UINT64_MAX)
				return false;
			continue;
		}
		if (!e.ptr || e.start >= e.end || e.start < *previous)
			return false;
		if (!node->level) {
			*previous = e.end;
			++*nr;
			continue;
		}
		if (((node_t *)e.ptr)->level != node->level - 1 ||
		    !verify_node(e.ptr, false, previous, nr))
			return false;
		sum = node_summary(e.ptr);
		if (sum.start != e.start || sum.end != e.end || sum.gap != e.gap)
			return false;
	}
	return true;
}

int64_t uhmm__rangetree_verify(const tree_t *tree)
{
	const node_t *root = load_relaxed(&tree->root);
	uint64_t previous = 0, nr = 0;

	if (root && !verify_node(root, true, &previous, &nr))
		return -1;
	return nr == tree->nr && !tree->write_depth ? (int64_t)nr : -1;
}
