// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/radix.h"

#include <errno.h>

#include "core/compiler.h"

#define BITS UHMM__RADIX_BITS
#define SLOTS UHMM__RADIX_SLOTS
#define MASK UHMM__RADIX_MASK

/* Eight levels of 9 bits are enough for 64: 0 is the leaf. */
#define LEVELS 8
#define WORDS (SLOTS / 64)

struct leaf {
	uint64_t value[SLOTS];
};

/*
 * The number of entries in a leaf is kept in its parent, so that a leaf is 4096 bytes sharp; that
 * of a root leaf is map->nr. For nodes higher up, @present says which children there are, and
 * they are empty when none is.
 */
struct inner {
	uint64_t present[WORDS];
	uint16_t count[SLOTS]; /* level 1 only */
	void *child[SLOTS];
};

static inline unsigned int slot_at(uint64_t index, unsigned int level)
{
	return (index >> (level * BITS)) & MASK;
}

/* The highest index relative to its first that a node of this level can hold. */
static inline uint64_t span_at(unsigned int level)
{
	return level >= LEVELS - 1 ? UINT64_MAX : (UINT64_C(1) << ((level + 1) * BITS)) - 1;
}

static inline bool covers(const struct uhmm__radix *map, uint64_t index)
{
	return map->root && index <= span_at(map->level);
}

static inline size_t node_size(unsigned int level)
{
	return level ? sizeof(struct inner) : sizeof(struct leaf);
}

static void *node_alloc(const struct uhmm__radix *map, unsigned int level)
{
	return map->allocator->alloc(map->allocator->ctx, node_size(level));
}

static void node_free(const struct uhmm__radix *map, void *node, unsigned int level)
{
	map->allocator->free(map->allocator->ctx, node, node_size(level));
}

static void link_child(struct inner *node, unsigned int slot, void *child)
{
	node->child[slot] = child;
	node->present[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void unlink_child(struct inner *node, unsigned int slot)
{
	node->child[slot] = NULL;
	node->present[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* The first child at or after @slot; SLOTS if there is none. */
static unsigned int next_child(const struct inner *node, unsigned int slot)
{
	unsigned int word = slot / 64;
	uint64_t bits;

	if (slot >= SLOTS)
		return SLOTS;
	bits = node->present[word] & (UINT64_MAX << (slot % 64));
	while (!bits) {
		if (++word == WORDS)
			return SLOTS;
		bits = node->present[word];
	}
	return word * 64 + (unsigned int)__builtin_ctzll(bits);
}

/* The first value at or after @slot; SLOTS if there is none. Leaves are mostly runs. */
static unsigned int next_value(const struct leaf *leaf, unsigned int slot)
{
	const uint64_t *v = leaf->value;

	while (slot < SLOTS && !v[slot]) {
		slot++;
		while (slot % 8 == 0 && slot < SLOTS &&
		       !(v[slot] | v[slot + 1] | v[slot + 2] | v[slot + 3] | v[slot + 4] |
			 v[slot + 5] | v[slot + 6] | v[slot + 7]))
			slot += 8;
	}
	return slot;
}

/* What no leaf begins with. */
static const uint64_t no_base = 1;

void uhmm__radix_init(struct uhmm__radix *map, const struct uhmm__allocator *allocator)
{
	*map = (struct uhmm__radix){ .allocator = allocator, .last_base = no_base };
}

static void free_subtree(const struct uhmm__radix *map, void *node, unsigned int level)
{
	if (level) {
		struct inner *inner = node;

		for (unsigned int s = next_child(inner, 0); s < SLOTS; s = next_child(inner, s + 1))
			free_subtree(map, inner->child[s], level - 1);
	}
	node_free(map, node, level);
}

void uhmm__radix_destroy(struct uhmm__radix *map)
{
	if (map->root)
		free_subtree(map, map->root, map->level);
	uhmm__radix_init(map, map->allocator);
}

/* A leaf, or NULL, and where its entries are counted: NULL of a root leaf, which has all of map->nr. */
struct place {
	struct leaf *leaf;
	uint16_t *count;
};

static inline struct place last_place(const struct uhmm__radix *map)
{
	return (struct place){ map->last_leaf, map->last_count };
}

static struct place descend(const struct uhmm__radix *map, uint64_t index)
{
	struct inner *above = NULL;
	void *node = map->root;

	if (!covers(map, index))
		return (struct place){ NULL, NULL };
	for (unsigned int level = map->level; level && node; level--) {
		above = node;
		node = above->child[slot_at(index, level)];
	}
	return (struct place){ node, above ? &above->count[slot_at(index, 1)] : NULL };
}

static inline struct place find(const struct uhmm__radix *map, uint64_t index)
{
	return uhmm__radix_is_last(map, index) ? last_place(map) : descend(map, index);
}

/* Nodes come and go: the leaf of the last change may, or may get another parent. */
static void forget_last(struct uhmm__radix *map)
{
	map->last_base = no_base;
}

static struct place descend_to_change(struct uhmm__radix *map, uint64_t index)
{
	struct place p = descend(map, index);

	if (p.leaf) {
		map->last_base = index & ~(uint64_t)MASK;
		map->last_leaf = p.leaf;
		map->last_count = p.count;
	}
	return p;
}

/* find() for a change. */
static inline struct place find_to_change(struct uhmm__radix *map, uint64_t index)
{
	return uhmm__radix_is_last(map, index) ? last_place(map) : descend_to_change(map, index);
}

uint64_t uhmm__radix_load(const struct uhmm__radix *map, uint64_t index)
{
	const struct leaf *leaf = find(map, index).leaf;

	return leaf ? leaf->value[index & MASK] : 0;
}

uint64_t *uhmm__radix_leaf_slow(const struct uhmm__radix *map, uint64_t index)
{
	struct leaf *leaf = find(map, index).leaf;

	return leaf ? leaf->value : NULL;
}

/*
 * A chain of new nodes from @level down to the leaf of @index, not yet in the map. Built from the
 * leaf up, so that what there is when memory runs out is a chain as well.
 */
static void *build_chain(const struct uhmm__radix *map, uint64_t index, unsigned int level)
{
	void *below = NULL;

	for (unsigned int l = 0; l <= level; l++) {
		void *node = node_alloc(map, l);

		if (!node) {
			if (below)
				free_subtree(map, below, l - 1);
			return NULL;
		}
		if (l)
			link_child(node, slot_at(index, l), below);
		below = node;
	}
	return below;
}

/*
 * Make the tree high enough for @index by putting new roots above, each with the old one as its
 * first child. That changes no entry, but roots with only a first child are not allowed to stay:
 * the caller either adds the path of @index or calls shrink().
 */
static int grow(struct uhmm__radix *map, uint64_t index)
{
	while (index > span_at(map->level)) {
		struct inner *root = node_alloc(map, map->level + 1);

		if (!root)
			return -ENOMEM;
		link_child(root, 0, map->root);
		if (!map->level)
			root->count[0] = (uint16_t)map->nr;
		map->root = root;
		map->level++;
	}
	return 0;
}

/* Drop roots that have only a first child, and a root without any. */
static void shrink(struct uhmm__radix *map)
{
	while (map->root && map->level) {
		struct inner *root = map->root;
		const unsigned int first = next_child(root, 0);

		if (first < SLOTS && (first || next_child(root, 1) < SLOTS))
			return;
		map->root = first < SLOTS ? root->child[0] : NULL;
		node_free(map, root, map->level--);
	}
	if (!map->root)
		map->level = 0;
}

/* Make the leaf of @index, which is absent. */
static struct place create_leaf(struct uhmm__radix *map, uint64_t index)
{
	unsigned int level = 0;
	struct inner *node;
	void *chain;

	forget_last(map);
	if (!map->root) {
		while (index > span_at(level))
			level++;
		map->root = build_chain(map, index, level);
		map->level = map->root ? level : 0;
		return descend(map, index);
	}

	if (grow(map, index))
		goto undo;
	/* There is an inner root, since a root leaf would cover the index and be its leaf. */
	node = map->root;
	level = map->level;
	while (node->child[slot_at(index, level)])
		node = node->child[slot_at(index, level--)];
	chain = build_chain(map, index, level - 1);
	if (!chain)
		goto undo;
	link_child(node, slot_at(index, level), chain);
	return descend(map, index);

undo:
	shrink(map);
	return (struct place){ NULL, NULL };
}

/* The leaf of @index is empty: free it, and the nodes above that become empty. */
static void prune(struct uhmm__radix *map, uint64_t index)
{
	struct inner *path[LEVELS] = { NULL };
	void *node = map->root;
	unsigned int level;

	forget_last(map);
	for (level = map->level; level; level--) {
		path[level] = node;
		node = path[level]->child[slot_at(index, level)];
	}
	node_free(map, node, 0);
	for (level = 1; level <= map->level; level++) {
		unlink_child(path[level], slot_at(index, level));
		if (next_child(path[level], 0) < SLOTS)
			break;
		node_free(map, path[level], level);
	}
	if (level > map->level)
		map->root = NULL;
	shrink(map);
}

/* @delta more entries in a leaf. Returns whether any is left. */
static inline bool account(struct uhmm__radix *map, uint16_t *count, int delta)
{
	map->nr += (uint64_t)(int64_t)delta;
	if (unlikely(!count))
		return map->nr;
	*count = (uint16_t)(*count + delta);
	return *count;
}

/* For a change, made if it is absent; NULL without memory. */
static inline struct place get_to_change(struct uhmm__radix *map, uint64_t index)
{
	struct place p = find_to_change(map, index);

	return likely(p.leaf) ? p : create_leaf(map, index);
}

int uhmm__radix_store(struct uhmm__radix *map, uint64_t index, uint64_t value)
{
	struct place p;

	if (!value) {
		uhmm__radix_erase(map, index);
		return 0;
	}
	p = get_to_change(map, index);
	if (!p.leaf)
		return -ENOMEM;
	if (!p.leaf->value[index & MASK])
		account(map, p.count, 1);
	p.leaf->value[index & MASK] = value;
	return 0;
}

/* The part of a run in one leaf. */
static inline int store_in_leaf(struct uhmm__radix *map, uint64_t index, const uint64_t *values,
				unsigned int nr)
{
	unsigned int i = 0;
	struct place p;
	uint64_t *to;
	int delta = 0;

	while (i < nr && !values[i])
		i++;
	if (i == nr)
		return 0;
	p = get_to_change(map, index);
	if (!p.leaf)
		return -ENOMEM;
	to = &p.leaf->value[index & MASK];
	for (; i < nr; i++) {
		if (!values[i])
			continue;
		delta += !to[i];
		to[i] = values[i];
	}
	account(map, p.count, delta);
	return 0;
}

static uhmm_noinline int store_in_leaves(struct uhmm__radix *map, uint64_t index,
					 const uint64_t *values, uint64_t nr)
{
	while (nr) {
		uint64_t n = SLOTS - (index & MASK);

		n = n < nr ? n : nr;
		if (store_in_leaf(map, index, values, (unsigned int)n))
			return -ENOMEM;
		index += n;
		values += n;
		nr -= n;
	}
	return 0;
}

int uhmm__radix_store_run(struct uhmm__radix *map, uint64_t index, const uint64_t *values,
			  uint64_t nr)
{
	if (likely(nr <= SLOTS - (index & MASK)))
		return store_in_leaf(map, index, values, (unsigned int)nr);
	return store_in_leaves(map, index, values, nr);
}

/* The last entry of its leaf was erased, which was @old. */
static uhmm_noinline uint64_t erased_last(struct uhmm__radix *map, uint64_t index, uint64_t old)
{
	prune(map, index);
	return old;
}

uint64_t uhmm__radix_erase(struct uhmm__radix *map, uint64_t index)
{
	struct place p = find_to_change(map, index);
	uint64_t old = p.leaf ? p.leaf->value[index & MASK] : 0;

	if (!old)
		return 0;
	p.leaf->value[index & MASK] = 0;
	return likely(account(map, p.count, -1)) ? old : erased_last(map, index, old);
}

int uhmm__radix_leaf_create_slow(struct uhmm__radix *map, uint64_t index, uint64_t **values)
{
	struct place p = get_to_change(map, index);

	if (!p.leaf)
		return -ENOMEM;
	*values = p.leaf->value;
	return 0;
}

void uhmm__radix_leaf_commit_slow(struct uhmm__radix *map, uint64_t index, int delta)
{
	if (!account(map, find_to_change(map, index).count, delta))
		prune(map, index);
}

/* A range walk in progress; @first and @last bound it, both included. */
struct walk {
	struct uhmm__radix *map;
	uint64_t first, last;
	uhmm__radix_fn fn;
	void *ctx;
};

/* The slots of a node that a walk concerns, both included. */
static void walk_slots(const struct walk *w, uint64_t base, unsigned int level, unsigned int *from,
		       unsigned int *to)
{
	*from = w->first > base ? slot_at(w->first, level) : 0;
	*to = w->last - base < span_at(level) ? slot_at(w->last, level) : MASK;
}

/* Returns the number of entries erased, out of the @count that the leaf has. */
static unsigned int erase_in_leaf(const struct walk *w, struct leaf *leaf, uint64_t base,
				  unsigned int count)
{
	unsigned int from, to, slot, nr = 0;

	walk_slots(w, base, 0, &from, &to);
	if (!w->fn && from == 0 && to == MASK) {
		/* Nothing to read when the caller is about to free it anyway. */
		return count;
	}
	for (slot = from; nr < count; slot++) {
		slot = next_value(leaf, slot);
		if (slot > to)
			break;
		if (w->fn)
			w->fn(w->ctx, base + slot, leaf->value[slot]);
		leaf->value[slot] = 0;
		nr++;
	}
	return nr;
}

/* Returns whether the node has become empty. The caller frees it then. */
static bool erase_in_inner(const struct walk *w, struct inner *node, uint64_t base,
			   unsigned int level)
{
	unsigned int from, to;

	walk_slots(w, base, level, &from, &to);
	for (unsigned int s = next_child(node, from); s <= to; s = next_child(node, s + 1)) {
		const uint64_t child_base = base + ((uint64_t)s << (level * BITS));
		void *child = node->child[s];
		bool empty;

		if (level == 1) {
			const unsigned int nr = erase_in_leaf(w, child, child_base, node->count[s]);

			empty = !account(w->map, &node->count[s], -(int)nr);
		} else {
			empty = erase_in_inner(w, child, child_base, level - 1);
		}
		if (empty) {
			unlink_child(node, s);
			node_free(w->map, child, level - 1);
		}
	}
	return next_child(node, 0) == SLOTS;
}

uint64_t uhmm__radix_erase_range(struct uhmm__radix *map, uint64_t first, uint64_t last,
				 uhmm__radix_fn fn, void *ctx)
{
	const struct walk w = { map, first, last, fn, ctx };
	const uint64_t before = map->nr;
	bool empty;

	if (first > last || !covers(map, first))
		return 0;
	forget_last(map);
	if (map->level) {
		empty = erase_in_inner(&w, map->root, 0, map->level);
	} else {
		map->nr -= erase_in_leaf(&w, map->root, 0, (unsigned int)map->nr);
		empty = !map->nr;
	}
	if (empty) {
		node_free(map, map->root, map->level);
		map->root = NULL;
	}
	shrink(map);
	return before - map->nr;
}

/* The first leaf that reaches @index or lies after it; its first index in @base. */
static const struct leaf *leaf_from(const void *node, uint64_t node_base, unsigned int level,
				    uint64_t index, uint64_t *base)
{
	const struct inner *inner = node;
	unsigned int slot;

	if (!level) {
		*base = node_base;
		return node;
	}
	slot = next_child(inner, index > node_base ? slot_at(index, level) : 0);
	for (; slot < SLOTS; slot = next_child(inner, slot + 1)) {
		const uint64_t child_base = node_base + ((uint64_t)slot << (level * BITS));
		const struct leaf *leaf =
			leaf_from(inner->child[slot], child_base, level - 1, index, base);

		if (leaf)
			return leaf;
	}
	return NULL;
}

bool uhmm__radix_next_present(const struct uhmm__radix *map, uint64_t index, uint64_t *found,
			      uint64_t *value)
{
	while (covers(map, index)) {
		uint64_t base;
		const struct leaf *leaf = leaf_from(map->root, 0, map->level, index, &base);
		unsigned int slot;

		if (!leaf)
			return false;
		slot = next_value(leaf, index > base ? index & MASK : 0);
		if (slot < SLOTS) {
			*found = base + slot;
			if (value)
				*value = leaf->value[slot];
			return true;
		}
		/* Nothing in the rest of this leaf: the next one has something. */
		index = base + SLOTS;
		if (!index)
			return false;
	}
	return false;
}

void uhmm__radix_for_each(const struct uhmm__radix *map, uint64_t first, uint64_t last,
			  uhmm__radix_fn fn, void *ctx)
{
	uint64_t index = first, base;

	while (index <= last && covers(map, index)) {
		const struct leaf *leaf = leaf_from(map->root, 0, map->level, index, &base);
		unsigned int slot;

		if (!leaf)
			return;
		slot = next_value(leaf, index > base ? index & MASK : 0);
		for (; slot < SLOTS && base + slot <= last; slot = next_value(leaf, slot + 1))
			fn(ctx, base + slot, leaf->value[slot]);
		index = base + SLOTS;
		if (!index)
			return;
	}
}

/* Adds what is below @node to @nr and @bytes. Returns whether all is well. */
static bool inspect(const void *node, unsigned int level, uint64_t *nr, uint64_t *bytes)
{
	const struct inner *inner = node;
	const uint64_t before = *nr;
	bool good = true;

	*bytes += node_size(level);
	if (!level) {
		const struct leaf *leaf = node;

		for (unsigned int s = 0; s < SLOTS; s++)
			*nr += leaf->value[s] != 0;
		return *nr > before;
	}
	for (unsigned int s = 0; s < SLOTS; s++) {
		const bool bit = inner->present[s / 64] >> (s % 64) & 1;
		const uint64_t before_child = *nr;

		if (bit != (inner->child[s] != NULL))
			return false;
		if (bit)
			good &= inspect(inner->child[s], level - 1, nr, bytes);
		if (inner->count[s] != (level == 1 ? *nr - before_child : 0))
			return false;
	}
	return good && *nr > before;
}

int64_t uhmm__radix_verify(const struct uhmm__radix *map)
{
	bool has_last = map->last_base != no_base;
	struct place p = descend(map, map->last_base);
	uint64_t nr = 0, bytes = 0;

	if (!map->root)
		return map->nr || map->level || has_last ? -1 : 0;
	if (has_last && (p.leaf != map->last_leaf || p.count != map->last_count))
		return -1;
	if (!inspect(map->root, map->level, &nr, &bytes) || nr != map->nr)
		return -1;
	/* No higher than needed. */
	if (map->level && next_child(map->root, 1) == SLOTS)
		return -1;
	return (int64_t)nr;
}

uint64_t uhmm__radix_bytes(const struct uhmm__radix *map)
{
	uint64_t nr = 0, bytes = 0;

	if (map->root)
		inspect(map->root, map->level, &nr, &bytes);
	return bytes;
}
