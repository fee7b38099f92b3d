// SPDX-License-Identifier: LGPL-2.1-or-later
#define _GNU_SOURCE
#include "core/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/region.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#ifndef UHMM_LIBC_MALLOC
#include <jemalloc/jemalloc.h>
#endif

static void *allocator_alloc(void *ctx, size_t size);
static void allocator_free(void *ctx, void *p, size_t size);

#ifndef UHMM_LIBC_MALLOC
/*
 * A machine's first objects of each size - its address space, its task, a VMA - would all be at the
 * beginning of a page, as the tables of their first entries are: more lines of one set of the first
 * cache than it has ways, and each access would wait for the second. Let each size begin at another
 * line, by objects that nobody uses; they go with the arena.
 */
static void spread_sizes(struct uhmm_machine *m)
{
	int flags = MALLOCX_ARENA(m->arena) | MALLOCX_TCACHE_NONE;
	size_t line = 3;

	/* The sizes that it has, four for each doubling. */
	for (size_t step = 16; step <= 512; step *= 2)
		for (size_t size = 5 * step; size <= 8 * step; size += step) {
			for (size_t at = 0; at < line * 64; at += size)
				(void)mallocx(size, flags);
			line = (line + 5) % 48;
		}
}
#endif

int uhmm__alloc_init(struct uhmm_machine *m)
{
	m->allocator = (struct uhmm__allocator){ allocator_alloc, allocator_free, m };
#ifdef UHMM_LIBC_MALLOC
	m->arena = 0;
#else
	size_t size = sizeof(m->arena);

	if (!uhmm__region_here && mallctl("arenas.create", &m->arena, &size, NULL, 0))
		return -ENOMEM;
	if (!uhmm__region_here)
		spread_sizes(m);
#endif
	return 0;
}

void uhmm__alloc_exit(struct uhmm_machine *m)
{
#ifndef UHMM_LIBC_MALLOC
	char name[64];

	snprintf(name, sizeof(name), "arena.%u.destroy", m->arena);
	mallctl(name, NULL, NULL, NULL, 0);
#else
	(void)m;
#endif
}

void *uhmm__alloc_aligned(struct uhmm_machine *m, size_t align, size_t size)
{
	void *p;

	if (uhmm__inject(m, UHMM_INJECT_META))
		return NULL;
	if (uhmm__region_here) {
		p = uhmm__region_alloc(uhmm__region_here, align, size);
		goto taken;
	}
#ifdef UHMM_LIBC_MALLOC
	if (align <= _Alignof(max_align_t))
		p = calloc(1, size);
	else if ((p = aligned_alloc(align, ALIGN_UP(size, align))))
		memset(p, 0, size);
#else
	/* No thread cache: it would outlive the arena. */
	p = mallocx(size, MALLOCX_ARENA(m->arena) | MALLOCX_TCACHE_NONE | MALLOCX_ZERO |
				  MALLOCX_ALIGN(align));
#endif
taken:
	if (p)
		atomic_fetch_add_explicit(&m->alloc_bytes, size, memory_order_relaxed);
	return p;
}

void *uhmm__alloc(struct uhmm_machine *m, size_t size)
{
	return uhmm__alloc_aligned(m, sizeof(void *), size);
}

void uhmm__free(struct uhmm_machine *m, void *p, size_t size)
{
	if (!p)
		return;
	atomic_fetch_sub_explicit(&m->alloc_bytes, size, memory_order_relaxed);
	if (uhmm__region_here) {
		uhmm__region_free(uhmm__region_here, p, size);
		return;
	}
#ifdef UHMM_LIBC_MALLOC
	free(p);
#else
	dallocx(p, MALLOCX_TCACHE_NONE);
#endif
}

static void *allocator_alloc(void *ctx, size_t size)
{
	return uhmm__alloc(ctx, size);
}

static void allocator_free(void *ctx, void *p, size_t size)
{
	uhmm__free(ctx, p, size);
}

void *uhmm__reserve(size_t size)
{
	void *p;

	if (uhmm__region_here)
		return uhmm__region_reserve(uhmm__region_here, size);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void uhmm__unreserve(void *p, size_t size)
{
	/* A region's address space is given back by restoring it. */
	if (p && !uhmm__region_here)
		munmap(p, size);
}

void uhmm__reserve_populate(void *p, size_t size)
{
	uintptr_t start = ALIGN_DOWN((uintptr_t)p, UHMM_PAGE_SIZE);
	uintptr_t end = ALIGN_UP((uintptr_t)p + size, UHMM_PAGE_SIZE);

	if (uhmm__region_here)
		return;
	/* Hosts before 5.14 refuse: then the pages come one by one. */
	(void)madvise((void *)start, end - start, MADV_POPULATE_WRITE);
}

size_t uhmm__reserve_resident(void *p, size_t size)
{
	enum { CHUNK_PAGES = 1 << 14 };
	static const size_t page = UHMM_PAGE_SIZE;
	unsigned char *vec = malloc(CHUNK_PAGES);
	size_t resident = 0;

	if (!vec)
		return 0;
	for (size_t off = 0; off < size; off += CHUNK_PAGES * page) {
		size_t len = MIN(size - off, CHUNK_PAGES * page);

		if (mincore((char *)p + off, len, vec))
			continue;
		for (size_t i = 0; i < (len + page - 1) / page; i++)
			resident += (vec[i] & 1) * page;
	}
	free(vec);
	return resident;
}
