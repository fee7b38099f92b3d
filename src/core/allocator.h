/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* allocator.h - where the containers of core/ get their memory. */
#ifndef UHMM_CORE_ALLOCATOR_H
#define UHMM_CORE_ALLOCATOR_H

#include <stddef.h>

/**
 * struct uhmm__allocator - where a container gets its memory
 * @alloc: returns @size zeroed bytes, aligned as malloc() aligns them; NULL when there is no
 *	memory. May fail at any call: a failure leaves the container as it was.
 * @free: gives back @p, which @alloc returned for the same @size. Never called with NULL.
 * @ctx: handed to both.
 *
 * The size comes back to @free, so that an allocator can keep accounts, or use sized frees,
 * without a header of its own in front of each object.
 *
 * Context: called under whatever lock the caller of the container holds; must not call back
 *	into the same container.
 * Lifetime: containers keep a pointer to this struct; it must outlive them.
 * Models: invented.
 */
struct uhmm__allocator {
	void *(*alloc)(void *ctx, size_t size);
	void (*free)(void *ctx, void *p, size_t size);
	void *ctx;
};

#endif /* UHMM_CORE_ALLOCATOR_H */
