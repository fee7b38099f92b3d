/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rangetree_node.h - the nodes of a range tree; for rangetree.c alone. */
#ifndef UHMM_CORE_RANGETREE_NODE_H
#define UHMM_CORE_RANGETREE_NODE_H

#include "core/compiler.h"
#include "core/rangetree.h"

/* Tests compile the tree a second time with small nodes, to get deep trees from few entries. */
#ifndef UHMM__RANGETREE_FANOUT
#define UHMM__RANGETREE_FANOUT 14
#endif
#define FANOUT UHMM__RANGETREE_FANOUT

/*
 * Well below half, so that erasing and inserting around one place does not merge and split
 * nodes again and again.
 */
#define MIN_FILL ((FANOUT + 2) / 3)
_Static_assert(FANOUT >= 4 && MIN_FILL <= (FANOUT + 1) / 2, "both halves of a split are legal");

/*
 * 14 entries make end[] and the two words before it two cache lines, a leaf fit 384 bytes and an
 * inner node 512, which are sizes that jemalloc has. A step down reads end[] and one slot.
 *
 * In an inner node an entry stands for a child: from its first start to its last end.
 */
struct uhmm__rt_node {
	uint32_t level;		      /* [const] 0 is a leaf */
	uint32_t count;		      /* [writer] */
	_Atomic uint64_t end[FANOUT]; /* [rcu, writer:w] UINT64_MAX beyond count */
	struct {
		_Atomic uint64_t start; /* [rcu, writer:w] */
		void *_Atomic ptr;	/* [rcu, writer:w] value or child; NULL beyond count */
	} slot[FANOUT];
};

typedef struct uhmm__rt_node node_t;

struct leaf {
	node_t node;
	uint64_t defer[UHMM__RANGETREE_DEFER_SIZE / sizeof(uint64_t)];
};

struct inner {
	node_t node;
	uint64_t gap[FANOUT]; /* [writer] the widest gap inside each child */
	uint64_t defer[UHMM__RANGETREE_DEFER_SIZE / sizeof(uint64_t)];
};

_Static_assert(UHMM_CHECKED || FANOUT != 14 ||
		       (sizeof(struct leaf) <= 384 && sizeof(struct inner) <= 512),
	       "size classes");

/* An entry outside of a node. */
struct entry {
	uint64_t start, end;
	uint64_t gap; /* in an inner node only, else 0 */
	void *ptr;
};

static inline uint64_t *gaps(const node_t *node)
{
	return ((struct inner *)node)->gap;
}

static inline size_t node_size(unsigned int level)
{
	return level ? sizeof(struct inner) : sizeof(struct leaf);
}

static inline uint64_t end_of(const node_t *node, unsigned int i)
{
	return load_acquire(&node->end[i]);
}

static inline uint64_t start_of(const node_t *node, unsigned int i)
{
	return load_acquire(&node->slot[i].start);
}

static inline void *ptr_of(const node_t *node, unsigned int i)
{
	return load_acquire(&node->slot[i].ptr);
}

static inline struct entry entry_get(const node_t *node, unsigned int i)
{
	return (struct entry){
		.start = start_of(node, i),
		.end = end_of(node, i),
		.gap = node->level ? gaps(node)[i] : 0,
		.ptr = ptr_of(node, i),
	};
}

static inline void entry_put(node_t *node, unsigned int i, const struct entry *e)
{
	store_release(&node->end[i], e->end);
	store_release(&node->slot[i].start, e->start);
	store_release(&node->slot[i].ptr, e->ptr);
	if (node->level)
		gaps(node)[i] = e->gap;
}

static inline void entry_move(node_t *node, unsigned int to, unsigned int from)
{
	const struct entry e = entry_get(node, from);

	entry_put(node, to, &e);
}

static inline void entry_clear(node_t *node, unsigned int i)
{
	entry_put(node, i, &(struct entry){ .start = UINT64_MAX, .end = UINT64_MAX });
}

/* Make @node hold exactly these entries. */
static inline void node_fill(node_t *node, const struct entry *e, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		entry_put(node, i, &e[i]);
	for (unsigned int i = nr; i < FANOUT; i++)
		entry_clear(node, i);
	node->count = nr;
}

static inline void node_insert(node_t *node, unsigned int pos, const struct entry *e)
{
	for (unsigned int i = node->count; i > pos; i--)
		entry_move(node, i, i - 1);
	entry_put(node, pos, e);
	node->count++;
}

static inline void node_remove(node_t *node, unsigned int pos)
{
	node->count--;
	for (unsigned int i = pos; i < node->count; i++)
		entry_move(node, i, i + 1);
	entry_clear(node, node->count);
}

/* The entry that stands for @node in its parent. */
static inline struct entry node_summary(node_t *node)
{
	const unsigned int count = node->count;
	uint64_t first = start_of(node, 0), end = end_of(node, 0), gap = 0;

	for (unsigned int i = 1; i < count; i++) {
		gap = MAX(gap, start_of(node, i) - end);
		end = end_of(node, i);
	}
	for (unsigned int i = 0; node->level && i < count; i++)
		gap = MAX(gap, gaps(node)[i]);
	return (struct entry){ .start = first, .end = end, .gap = gap, .ptr = node };
}

/*
 * The position of the first entry with end > addr; beyond count, ends are UINT64_MAX. Faults
 * come in runs, so the way out of the loop is mostly predicted; a search without branches costs
 * twice as much for the same address again, and is hardly better for random ones.
 */
static inline unsigned int node_search(const node_t *node, uint64_t addr)
{
	unsigned int pos = 0;

	while (pos < FANOUT && end_of(node, pos) <= addr)
		pos++;
	return pos;
}

#endif /* UHMM_CORE_RANGETREE_NODE_H */
