/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * region.h - memory of a whole machine in one place, which can be saved, put back and compared.
 *
 * Checked build. While a host thread has a region, all memory that machines, schedulers, fibers and
 * checkers take on that thread comes from it: objects from a heap, reservations from address space
 * in which each page is noticed when it is first touched, stacks from a third part. What a run does
 * is then undone by copying back, in microseconds, and whether two states are the same is a matter
 * of bytes.
 *
 * Freed objects are filled with a pattern, which makes a bad address of every pointer in them, and
 * which is looked at again before the memory is used once more.
 */
#ifndef UHMM_CORE_REGION_H
#define UHMM_CORE_REGION_H

#include <stdlib.h>
#include <string.h>

#include "core/serial.h"

struct uhmm__region;

#if UHMM_CHECKED

/* The region of the calling host thread, NULL for none. */
extern _Thread_local struct uhmm__region *uhmm__region_here;

/*
 * The heap has parts, and objects come from that of the simulated CPU on which they are allocated: then
 * their addresses do not tell in which order CPUs did things that have nothing to do with each other.
 */
#define UHMM__REGION_LANES 9
/* 0: none of them; else the number of the CPU + 1, modulo the number of lanes. */
extern _Thread_local unsigned int uhmm__region_lane;

/* Returns: 0 or -ENOMEM. */
int uhmm__region_create(struct uhmm__region **out);
void uhmm__region_destroy(struct uhmm__region *r);

/* Zeroed memory; NULL when the heap is used up. @align: up to 128. */
void *uhmm__region_alloc(struct uhmm__region *r, size_t align, size_t size);
/* @size: that of the allocation. */
void uhmm__region_free(struct uhmm__region *r, void *p, size_t size);
/* Address space that reads as zeroes; NULL when there is none left. */
void *uhmm__region_reserve(struct uhmm__region *r, size_t size);
/* A stack with a guard page below it, for good; NULL when there is none left. */
void *uhmm__region_stack(struct uhmm__region *r, size_t size, size_t guard);

/*
 * What lies in [p, p + size) of an object is put back but is no part of the hash; to be said before
 * the first hash. Returns: 0 or -ENOMEM.
 */
int uhmm__region_ignore(struct uhmm__region *r, const void *p, size_t size);

/* Remember everything but stacks, and bring it back. Returns: 0 or -ENOMEM. */
int uhmm__region_save(struct uhmm__region *r);
void uhmm__region_restore(struct uhmm__region *r);

struct uhmm__range;

/* Any later state, to come back to: it costs what was written to since save(). Zeroed before use. */
struct uhmm__region_copy {
	char *pages;
	size_t nr, size;
	struct uhmm__range *ignored;
	unsigned int nr_ignored;
	const void *written;
};

/* Returns: 0 or -ENOMEM. */
int uhmm__region_copy(const struct uhmm__region *r, struct uhmm__region_copy *c);
void uhmm__region_copy_back(struct uhmm__region *r, const struct uhmm__region_copy *c);
void uhmm__region_copy_free(struct uhmm__region_copy *c);

/*
 * Of everything but stacks and sequence numbers, compared with what was saved: equal states have equal
 * hashes. Zero for the saved one. Context: after save().
 */
struct uhmm__hash uhmm__region_hash(struct uhmm__region *r);

/* The sequence numbers that are not as they were saved, and the values of those that were. Context: after hash(). */
void uhmm__region_serials(const struct uhmm__region *r, struct uhmm__serials *serials);

/* The first freed object that was written to since, or NULL. */
const void *uhmm__region_written_after_free(const struct uhmm__region *r);

/*
 * A fault of the host at @addr, in a signal handler: true if it was the first touch of a reserved page,
 * or the first write to any since save(), which is settled. To be called from the first write after
 * save() on.
 */
bool uhmm__region_touch(struct uhmm__region *r, const void *addr);

/* True if @word is what a freed object is filled with. */
bool uhmm__region_is_poison(uint64_t word);

/*
 * Memory of machines, checkers and schedulers themselves: the region's if there is one, else libc's.
 * It is neither counted nor made to fail with a machine's.
 */
void *uhmm__side_alloc(size_t size);
void uhmm__side_free(void *p, size_t size);

#else

#define uhmm__region_here ((struct uhmm__region *)NULL)

static inline void *uhmm__region_alloc(struct uhmm__region *r uhmm_unused, size_t align uhmm_unused,
				       size_t size uhmm_unused)
{
	return NULL;
}

static inline void uhmm__region_free(struct uhmm__region *r uhmm_unused, void *p uhmm_unused,
				     size_t size uhmm_unused)
{
}

static inline void *uhmm__region_reserve(struct uhmm__region *r uhmm_unused,
					 size_t size uhmm_unused)
{
	return NULL;
}

static inline void *uhmm__side_alloc(size_t size)
{
	return calloc(1, size);
}

static inline void uhmm__side_free(void *p, size_t size uhmm_unused)
{
	free(p);
}

#endif

/* Grows; the old memory is freed on success, and stays on failure. */
static inline void *uhmm__side_grow(void *p, size_t old_size, size_t new_size)
{
	void *q = uhmm__side_alloc(new_size);

	if (!q)
		return NULL;
	if (old_size)
		memcpy(q, p, old_size);
	uhmm__side_free(p, old_size);
	return q;
}

#endif /* UHMM_CORE_REGION_H */
