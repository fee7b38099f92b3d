/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * alloc.h - the one place that metadata memory comes from.
 *
 * jemalloc, one arena a machine, so that a machine's use can be told and a machine is dropped
 * whole; libc's malloc in sanitizer builds (UHMM_LIBC_MALLOC), which see nothing of mallocx.
 */
#ifndef UHMM_CORE_ALLOC_H
#define UHMM_CORE_ALLOC_H

#include "core/allocator.h"
#include "core/machine.h"

/* Also fills in m->allocator, the same for the containers. */
int uhmm__alloc_init(struct uhmm_machine *m);
void uhmm__alloc_exit(struct uhmm_machine *m);

/* Zeroed memory, or NULL. Fails when UHMM_INJECT_META says so. */
void *uhmm__alloc(struct uhmm_machine *m, size_t size);
/* The same, with an alignment that is a power of two. */
void *uhmm__alloc_aligned(struct uhmm_machine *m, size_t align, size_t size);
/* @size is that of the allocation; NULL is allowed. */
void uhmm__free(struct uhmm_machine *m, void *p, size_t size);

/* Address space without memory behind it: zero pages appear on first touch. NULL on failure. */
void *uhmm__reserve(size_t size);
void uhmm__unreserve(void *p, size_t size);
/*
 * Have the host fill [p, p + size) now: many pages for one entry into its kernel. Small pages on
 * purpose: huge ones would waste up to 2 MiB at the end of each array. Only advice: it may fail.
 */
void uhmm__reserve_populate(void *p, size_t size);
/* Bytes of a reservation that the host has filled. */
size_t uhmm__reserve_resident(void *p, size_t size);

#endif /* UHMM_CORE_ALLOC_H */
