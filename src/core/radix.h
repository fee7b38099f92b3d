/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* radix.h - sparse map from an index to a non-zero value. */
#ifndef UHMM_CORE_RADIX_H
#define UHMM_CORE_RADIX_H

#include <uhmm/types.h>

#include "core/allocator.h"
#include "core/compiler.h"

/*
 * Sparse map from a 64-bit index to a non-zero 64-bit value; zero means absent.
 *
 * It holds the page tables of simulated devices (virtual page number -> pfn and flags) and page
 * caches (page offset -> folio). Nodes have 512 slots, as a page table has; a leaf is exactly 512
 * values, 4096 bytes, with no header. The tree is as high as its greatest index needs (one leaf
 * up to index 511, four levels up to 2^36), and nodes that become empty are freed at once.
 *
 * Context, for every function here: the caller's lock excludes writers during reads, and
 * everybody during writes. Nothing sleeps. Only the functions that say so allocate.
 */

#define UHMM__RADIX_BITS 9
#define UHMM__RADIX_SLOTS (1u << UHMM__RADIX_BITS)
#define UHMM__RADIX_MASK (UHMM__RADIX_SLOTS - 1)

/**
 * struct uhmm__radix - the map; private, except that @nr may be read
 * @nr: number of present entries
 * @level: level of the root; 0 is a leaf
 */
struct uhmm__radix {
	void *root;
	uint64_t nr;
	const struct uhmm__allocator *allocator;
	unsigned int level;
	/* The leaf that the last change was in: its first index, which of none is one that no leaf has. */
	uint64_t last_base;
	void *last_leaf;
	uint16_t *last_count; /* in its parent, NULL of a root leaf */
};

/**
 * typedef uhmm__radix_fn - called for an entry; must not change the map
 */
typedef void (*uhmm__radix_fn)(void *ctx, uint64_t index, uint64_t value);

/**
 * uhmm__radix_init - make an empty map
 * @map: out
 * @allocator: in; must outlive the map
 */
void uhmm__radix_init(struct uhmm__radix *map, const struct uhmm__allocator *allocator);

/**
 * uhmm__radix_destroy - free everything; the map is empty afterwards and may be used again
 * @map: in/out
 */
void uhmm__radix_destroy(struct uhmm__radix *map);

/**
 * uhmm__radix_load - the value at an index
 *
 * Returns: the value; 0 if absent.
 */
uint64_t uhmm__radix_load(const struct uhmm__radix *map, uint64_t index);

/**
 * uhmm__radix_store - set the value at an index
 * @map: in/out
 * @index: any
 * @value: 0 erases
 *
 * May allocate; never when @value is 0 or when the leaf of @index exists (some other index of the
 * same 512 is present).
 *
 * Returns: 0; -ENOMEM, and the map is as before.
 */
int uhmm__radix_store(struct uhmm__radix *map, uint64_t index, uint64_t value) UHMM_MUST_CHECK;

/**
 * uhmm__radix_store_run - set the values at a run of indices, with one walk for each leaf
 * @map: in/out
 * @index: the first
 * @values: in; where it is 0, what is there stays
 * @nr: number of values
 *
 * May allocate, as uhmm__radix_store().
 *
 * Returns: 0; -ENOMEM, and some of the values, the first ones, are stored.
 */
int uhmm__radix_store_run(struct uhmm__radix *map, uint64_t index, const uint64_t *values,
			  uint64_t nr) UHMM_MUST_CHECK;

/**
 * uhmm__radix_erase - make an index absent
 *
 * Returns: the value that was there; 0 if none.
 */
uint64_t uhmm__radix_erase(struct uhmm__radix *map, uint64_t index);

/**
 * uhmm__radix_erase_range - make every index in [first, last] absent
 * @map: in/out
 * @first: first index
 * @last: last index, included, so that all can be named
 * @fn: called for each erased entry in ascending order, before its node is freed; may be NULL
 * @ctx: for @fn
 *
 * The time depends on the nodes that hold entries in the range, not on its length; without @fn a
 * leaf that lies inside the range is freed without being read.
 *
 * Returns: the number of entries erased.
 */
uint64_t uhmm__radix_erase_range(struct uhmm__radix *map, uint64_t first, uint64_t last,
				 uhmm__radix_fn fn, void *ctx);

/**
 * uhmm__radix_next_present - the first present entry at or after an index
 * @map: in
 * @index: where to begin
 * @found: out; its index
 * @value: out; its value; may be NULL
 *
 * Returns: true; false if there is none, with the outputs untouched.
 */
bool uhmm__radix_next_present(const struct uhmm__radix *map, uint64_t index, uint64_t *found,
			      uint64_t *value);

/**
 * uhmm__radix_for_each - call a function for every present entry in [first, last], ascending
 */
void uhmm__radix_for_each(const struct uhmm__radix *map, uint64_t first, uint64_t last,
			  uhmm__radix_fn fn, void *ctx);

/**
 * uhmm__radix_leaf - the 512 values around an index, for runs of accesses without a walk each
 * @map: in
 * @index: any; the leaf begins at @index & ~UHMM__RADIX_MASK
 *
 * The caller may read the values, and overwrite non-zero ones by non-zero ones. To turn zero into
 * non-zero or back, see uhmm__radix_leaf_commit().
 *
 * Returns: the values; NULL if all 512 are absent.
 * Lifetime: valid until the last entry of this leaf is erased.
 */
uhmm_always_inline uint64_t *uhmm__radix_leaf(const struct uhmm__radix *map, uint64_t index);

/**
 * uhmm__radix_leaf_create - as uhmm__radix_leaf(), and an absent leaf is made, all zero
 * @map: in/out
 * @index: any
 * @values: out
 *
 * May allocate. Every call must be followed by uhmm__radix_leaf_commit() for the same leaf before
 * any other change to the map.
 *
 * Returns: 0; -ENOMEM, and the map and @values are as before.
 */
UHMM_MUST_CHECK uhmm_always_inline int uhmm__radix_leaf_create(struct uhmm__radix *map,
							       uint64_t index, uint64_t **values);

/**
 * uhmm__radix_leaf_commit - tell the map that presence changed through a leaf pointer
 * @map: in/out
 * @index: any index of the leaf, which must exist
 * @delta: entries that became non-zero less entries that became zero; 0 is fine
 *
 * Lifetime: if no entry is left the leaf is freed, and pointers to it are stale.
 */
uhmm_always_inline void uhmm__radix_leaf_commit(struct uhmm__radix *map, uint64_t index, int delta);

/* The three, where the leaf is not that of the last change. */
uint64_t *uhmm__radix_leaf_slow(const struct uhmm__radix *map, uint64_t index);
int uhmm__radix_leaf_create_slow(struct uhmm__radix *map, uint64_t index,
				 uint64_t **values) UHMM_MUST_CHECK;
void uhmm__radix_leaf_commit_slow(struct uhmm__radix *map, uint64_t index, int delta);

uhmm_always_inline bool uhmm__radix_is_last(const struct uhmm__radix *map, uint64_t index)
{
	return (index & ~(uint64_t)UHMM__RADIX_MASK) == map->last_base;
}

uhmm_always_inline uint64_t *uhmm__radix_leaf(const struct uhmm__radix *map, uint64_t index)
{
	return likely(uhmm__radix_is_last(map, index)) ? map->last_leaf
						       : uhmm__radix_leaf_slow(map, index);
}

uhmm_always_inline int uhmm__radix_leaf_create(struct uhmm__radix *map, uint64_t index,
					       uint64_t **values)
{
	if (unlikely(!uhmm__radix_is_last(map, index)))
		return uhmm__radix_leaf_create_slow(map, index, values);
	*values = map->last_leaf;
	return 0;
}

uhmm_always_inline void uhmm__radix_leaf_commit(struct uhmm__radix *map, uint64_t index, int delta)
{
	if (likely(uhmm__radix_is_last(map, index) && map->last_count &&
		   *map->last_count + delta)) {
		map->nr += (uint64_t)(int64_t)delta;
		*map->last_count = (uint16_t)(*map->last_count + delta);
	} else {
		uhmm__radix_leaf_commit_slow(map, index, delta);
	}
}

/**
 * uhmm__radix_verify - check links, counts and that no empty node is kept
 *
 * Returns: the number of entries; -1 if something is wrong.
 */
int64_t uhmm__radix_verify(const struct uhmm__radix *map);

/**
 * uhmm__radix_bytes - memory held by the nodes, in bytes, as asked from the allocator
 */
uint64_t uhmm__radix_bytes(const struct uhmm__radix *map);

#endif /* UHMM_CORE_RADIX_H */
