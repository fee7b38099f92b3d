// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_floor.c - a radix tree of four levels and nothing else: what an entry for each page costs without
 * locks, VMAs, frames, reverse maps and contents.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "tool.h"

enum { LEVELS = 4, BITS = 9, ENTRIES = 1 << BITS };

struct floor_node {
	uint64_t entry[ENTRIES]; /* a node, or at the bottom a number that is not 0 */
};

struct floor_tree {
	struct floor_node *nodes; /* the first is the root */
	size_t used, cap;
};

static int floor_open(struct floor_tree *t, uint64_t npages)
{
	t->cap = npages / ENTRIES + 3 * LEVELS;
	t->used = 1;
	t->nodes = mmap(NULL, t->cap * sizeof(*t->nodes), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return t->nodes == MAP_FAILED ? tool_error("mmap: %s", strerror(errno)) : TOOL_OK;
}

static void floor_close(struct floor_tree *t)
{
	munmap(t->nodes, t->cap * sizeof(*t->nodes));
}

/* The entry of a page; nodes on the way to it are made. */
static uint64_t *floor_entry(struct floor_tree *t, uint64_t page)
{
	struct floor_node *n = t->nodes;

	for (int level = LEVELS - 1; level; level--) {
		uint64_t *e = &n->entry[page >> (level * BITS) & (ENTRIES - 1)];

		if (!*e)
			*e = (uintptr_t)&t->nodes[t->used++];
		n = (struct floor_node *)(uintptr_t)*e; // NOLINT(performance-no-int-to-ptr)
	}
	return &n->entry[page & (ENTRIES - 1)];
}

/* As the model's mapping lies: not at the beginning of anything. */
static const uint64_t first_page = (1UL << 28) + ENTRIES / 2;

static double floor_fill(struct bench *b, struct floor_tree *t, uint64_t npages,
			 const uint32_t *order)
{
	struct bench_timer timer = bench_start();

	for (uint64_t i = 0; i < npages; i++)
		*floor_entry(t, first_page + (order ? order[i] : i)) = i + 1;
	return bench_stop(b, timer) / (double)npages;
}

/* How many there are, by a descent for each table. */
static double floor_walk(struct bench *b, struct floor_tree *t, uint64_t npages, uint64_t *found)
{
	struct bench_timer timer = bench_start();
	uint64_t at = first_page, end = first_page + npages;

	for (*found = 0; at < end;) {
		const uint64_t *e = floor_entry(t, at);

		do
			*found += *e++ != 0;
		while (++at < end && at % ENTRIES);
	}
	return bench_stop(b, timer) / (double)npages;
}

static void floor_clear(struct floor_tree *t, uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++)
		*floor_entry(t, first_page + i) = 0;
}

static int floor_sequential(struct bench *b, uint64_t npages)
{
	struct floor_tree t;
	uint64_t found;

	if (floor_open(&t, npages) != TOOL_OK)
		return TOOL_USAGE;
	bench_sample(b, BENCH_FLOOR_FRESH, floor_fill(b, &t, npages, NULL));
	floor_clear(&t, npages);
	bench_sample(b, BENCH_FLOOR_REUSED, floor_fill(b, &t, npages, NULL));
	bench_sample(b, BENCH_FLOOR_WALK, floor_walk(b, &t, npages, &found));
	floor_close(&t);
	return found == npages ? TOOL_OK : tool_error("the floor's tree lost entries");
}

static int floor_random(struct bench *b, uint32_t npages)
{
	uint32_t *order = bench_shuffled(npages, b->round + 1);
	struct floor_tree t;
	int status = floor_open(&t, npages);

	if (status == TOOL_OK) {
		bench_sample(b, BENCH_FLOOR_RANDOM, floor_fill(b, &t, npages, order));
		floor_close(&t);
	}
	free(order);
	return status;
}

int bench_floor(struct bench *b)
{
	int status = floor_sequential(b, bench_working_set(b));

	return status == TOOL_OK ? floor_random(b, BENCH_PAGES_4G) : status;
}
