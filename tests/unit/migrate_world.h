/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* migrate_world.h - for the tests of migrate_vma_*(): one migration at a time, step by step. */
#ifndef TESTS_UNIT_MIGRATE_WORLD_H
#define TESTS_UNIT_MIGRATE_WORLD_H

#include "unit/inside.h"

#define V UHMM_MIGRATE_PFN_VALID
#define M UHMM_MIGRATE_PFN_MIGRATE
#define W UHMM_MIGRATE_PFN_WRITE
#define SYSTEM UHMM_MIGRATE_VMA_SELECT_SYSTEM
#define PRIVATE UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
#define COHERENT UHMM_MIGRATE_VMA_SELECT_DEVICE_COHERENT

enum { N = 2048 };

static uint64_t src[N], dst[N];
static struct uhmm_migrate_vma args;

static inline void prepare(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	memset(src, 0xff, sizeof(src));
	memset(dst, 0xff, sizeof(dst));
	args = (struct uhmm_migrate_vma){
		.size = sizeof(args),
		.vma = uhmm_vma_lookup(f.mm, start),
		.src = src,
		.dst = dst,
		.start = start,
		.end = start + npages * PAGE,
		.pgmap_owner = f.dev[0],
		.flags = flags,
	};
}

/* Ends with mmap_lock held for reading. */
static inline void collect(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	uhmm_mmap_read_lock(f.mm);
	prepare(start, npages, flags);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.npages, npages);
}

static inline void finish(void)
{
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	fixture_verify(&f);
}

static inline uhmm_pfn_t device_page(unsigned int dev)
{
	uhmm_pfn_t pfn;

	expect_eq(uhmm_devmem_alloc(uhmm_device_memory(f.dev[dev]), NULL, &pfn), 0);
	return pfn;
}

static inline uhmm_pfn_t ram_page(void)
{
	uhmm_pfn_t pfn;

	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	return pfn;
}

/* A destination for src[i], with its contents. */
static inline void give(unsigned int i, uhmm_pfn_t pfn)
{
	dst[i] = uhmm_migrate_pfn(pfn);
	if (src[i] & V)
		uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(src[i]));
	else
		uhmm_clear_highpage(f.m, pfn);
}

#endif /* TESTS_UNIT_MIGRATE_WORLD_H */
