/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* swap_world.h - machines with swap, or with little RAM, and what became of a page. */
#ifndef TESTS_UNIT_SWAP_WORLD_H
#define TESTS_UNIT_SWAP_WORLD_H

#include "mm/swap.h"
#include "unit/inside.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif

#define ELSEWHERE 0x50000000UL
#define M UHMM_MIGRATE_PFN_MIGRATE
#define V UHMM_MIGRATE_PFN_VALID

static struct uhmm_mm *child;

static inline void start(struct uhmm_machine_config config)
{
	config.nr_cpus = 2;
	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	child = NULL;
}

static inline void setup_ram_disk(void)
{
	start((struct uhmm_machine_config){ .swap_bytes = 1 << 20 });
}

static inline void setup_disk(void)
{
	start((struct uhmm_machine_config){
		.swap_bytes = 1 << 20, .swap = UHMM_SWAP_DISK, .content = UHMM_CONTENT_BYTES });
}

static inline void setup_none(void)
{
	start((struct uhmm_machine_config){ .ram_bytes = 4 << 20 });
}

/* 512 frames of RAM for the processes. */
static inline void setup_small(void)
{
	start((struct uhmm_machine_config){ .ram_bytes = 4 << 20, .swap_bytes = 8 << 20 });
}

static inline void teardown(void)
{
	if (child)
		uhmm_mmput(child);
	expect_eq(uhmm_munmap(f.mm, AT, 4096 * PAGE), 0);
	expect_eq(uhmm_munmap(f.mm, ELSEWHERE, 4096 * PAGE), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	fixture_destroy(&f);
}

static inline void pageout(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int npages)
{
	expect_eq(uhmm_madvise(mm, addr, npages * PAGE, MADV_PAGEOUT), 0);
	fixture_verify(&f);
}

static inline bool swapped(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return leaf_is_swap(pte_at(mm, addr));
}

static inline bool exclusive_entry(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return pte_at(mm, addr).val & LEAF_EXCLUSIVE;
}

static inline uint32_t count_of(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return load_relaxed(&f.m->swap->count[leaf_offset(pte_at(mm, addr))]);
}

static inline bool cached(uhmm_vaddr_t addr)
{
	return folio_test(frame_at(f.mm, addr), PG_SWAPCACHE);
}

static inline void fork_child(void)
{
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
}

#endif /* TESTS_UNIT_SWAP_WORLD_H */
