// SPDX-License-Identifier: LGPL-2.1-or-later
/* Huge pages and devices: range faults, migration of whole folios, by address and by pfn; pools. */
#define _GNU_SOURCE
#include "unit/thp_device_world.h"

/* ---- range faults ---- */

static struct watcher w;
static uint64_t pfns[2 * NR];

static int walk(uhmm_vaddr_t start, unsigned int npages, uint64_t flags, void *owner)
{
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.start = start,
		.end = start + npages * PAGE,
		.hmm_pfns = pfns,
		.default_flags = flags,
		.dev_private_owner = owner,
	};
	int err;

	memset(pfns, 0, sizeof(pfns));
	watch(&w, f.mm, 0, UHMM_TASK_SIZE / PAGE);
	range.notifier = w.mni;
	do {
		range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
		uhmm_mmap_read_lock(f.mm);
		err = uhmm_range_fault(&range);
		uhmm_mmap_read_unlock(f.mm);
	} while (err == -EBUSY);
	unwatch(&w);
	return err;
}

static void expect_pfns(uhmm_pfn_t first, unsigned int n, uint64_t flags)
{
	for (unsigned int i = 0; i < n; i++)
		expect_eq(pfns[i], flags & HV ? (first + i) | flags : flags);
}

START_TEST(range_fault_of_present_leaves)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	uhmm_pfn_t pfn = frame_pfn(m, folio);

	expect_eq(walk(AT, NR, 0, NULL), 0);
	expect_pfns(pfn, NR, HV | HW | O9);
	/* A part of it: the frames are those of the part. */
	expect_eq(walk(AT + 40 * PAGE, 8, UHMM_HMM_PFN_REQ_FAULT, NULL), 0);
	expect_pfns(pfn + 40, 8, HV | HW | O9);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	expect_eq(walk(AT, NR, UHMM_HMM_PFN_REQ_FAULT, NULL), 0);
	expect_pfns(pfn, NR, HV | O9);
	expect_eq(walk(AT, NR, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE, NULL), -EPERM);
	map_huge(AT + HUGE, 1);
	touch(f.mm, AT + HUGE);
	expect_eq(walk(AT + HUGE, NR, UHMM_HMM_PFN_REQ_FAULT, NULL), 0);
	expect_pfns(load_relaxed(&m->huge_zero_pfn), NR, HV | O9);
	expect_eq(walk(AT + HUGE, 1, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE, NULL), 0);
	expect(pfns[0] & HW);
	expect(pmd_trans_huge(pmd_at(f.mm, AT + HUGE)));
}
END_TEST

/* (q) A page that the CPU may not touch now: pages, but neither valid nor of an order. */
START_TEST(range_fault_of_a_hint_leaf)
{
	uhmm_pfn_t pfn = frame_pfn(m, map_huge_written(AT));

	expect_eq(uhmm_change_prot_numa(f.mm, AT, HUGE), NR);
	expect_eq(walk(AT + 9 * PAGE, 3, 0, NULL), 0);
	for (unsigned int i = 0; i < 3; i++)
		expect_eq(pfns[i], pfn + 9 + i);
	expect(pte_protnone(pmd_at(f.mm, AT)));
	/* The first of its 512 faults mends all. */
	expect_eq(walk(AT, NR, UHMM_HMM_PFN_REQ_FAULT, NULL), 0);
	expect_eq(counted(m, UHMM_CNT_FAULT_FROM_HMM), NR);
	expect_pfns(pfn, NR, HV | HW | O9);
}
END_TEST

START_TEST(range_fault_of_device_leaves)
{
	uhmm_pfn_t pfn;

	map_huge_written(AT);
	to_device(0, AT, NR);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	pfn = leaf_pfn(pmd_at(f.mm, AT));
	expect_eq(walk(AT, NR, 0, f.dev[0]), 0);
	expect_pfns(pfn, NR, HV | HW | O9);
	expect_eq(walk(AT + 100 * PAGE, 4, 0, f.dev[0]), 0);
	expect_pfns(pfn + 100, 4, HV | HW | O9);
	/* Another's: an error where below a table it is nothing. */
	expect_eq(walk(AT, NR, 0, f.dev[1]), 0);
	expect_pfns(0, NR, HE);
	/* Read-only and the caller's own: success, but not writable. */
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, RW), 0);
	expect_eq(walk(AT, NR, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE, f.dev[0]), 0);
	expect_pfns(pfn, NR, HV | O9);
	/* Asked for by another it comes home, whole. */
	expect_eq(walk(AT, NR, UHMM_HMM_PFN_REQ_FAULT, f.dev[1]), 0);
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

/* ---- migration ---- */

START_TEST(collected_as_one)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	uhmm_pfn_t pfn = frame_pfn(m, folio), to;

	collect(AT, NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 1);
	expect_eq(src[0], uhmm_migrate_pfn(pfn) | M | W | C);
	expect_src(1, NR, 0);
	expect(leaf_is_migration(pmd_at(f.mm, AT)));
	/* Put back as it was. */
	finish();
	expect(pmd_trans_huge(pmd_at(f.mm, AT)) && pte_write(pmd_at(f.mm, AT)));
	expect(pmd_folio(m, pmd_at(f.mm, AT)) == folio);

	uhmm__lru_add_drain(m);
	collect(AT, NR, SYSTEM | COMPOUND);
	to = device_huge();
	for (unsigned int i = 0; i < NR; i++)
		uhmm_copy_highpage(m, to + i, pfn + i);
	dst[0] = uhmm_migrate_pfn(to) | C;
	uhmm_migrate_vma_pages(&args);
	expect_eq(src[0], uhmm_migrate_pfn(pfn) | M | W | C);
	finish();
	expect(leaf_type(pmd_at(f.mm, AT)) == LEAF_DEVICE_PRIVATE_WRITE);
	expect_eq(leaf_pfn(pmd_at(f.mm, AT)), to);
	expect_eq(uhmm__frames_used(m), 0);
	expect_eq(uhmm_page_order(m, to + 3), 9);
	expect_eq(uhmm_page_head(m, to + 3), to);
	/* The first touch brings all of it home. */
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	expect_written(f.mm, AT, 0, NR);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
}
END_TEST

/* The caller cannot do with compound pages, or asks for a part: pages, after a split. */
START_TEST(collected_in_pages)
{
	map_huge_written(AT);
	collect(AT, NR, SYSTEM);
	expect_eq(args.cpages, NR);
	expect(!(src[0] & C) && (src[NR - 1] & (V | M | W)) == (V | M | W));
	finish();
	expect(!pmd_is_leaf(pmd_at(f.mm, AT)));
	expect_eq(folio_order(frame_at(f.mm, AT)), 0);
	expect_written(f.mm, AT, 0, NR);

	map_huge_written(AT + HUGE);
	collect(AT + HUGE + PAGE, 3, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 3);
	expect((src[0] & (V | M | W | C)) == (V | M | W));
	finish();
	expect_written(f.mm, AT + HUGE, 0, NR);
	expect_eq(counted(m, UHMM_CNT_SPLIT_FOLIO), 2);
}
END_TEST

/* PTEs that map a large folio: it is split on the way, of whatever order. */
START_TEST(collected_from_ptes)
{
	struct uhmm__frame *folio = map_huge_written(AT);

	expect_eq(uhmm_munmap(f.mm, AT, 3 * PAGE), 0);
	expect(page_folio(frame_at(f.mm, AT + 3 * PAGE)) == folio);
	collect(AT + 3 * PAGE, 10, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 10);
	expect_eq(src[0], uhmm_migrate_pfn(frame_pfn(m, folio) + 3) | M | W);
	finish();
	expect_eq(folio_order(frame_at(f.mm, AT + 400 * PAGE)), 0);
	expect_written(f.mm, AT, 3, NR - 3);
}
END_TEST

START_TEST(not_collected)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	struct uhmm_task *locker;

	/* Locked: nothing of it. */
	locker = lock_by_another(folio);
	collect(AT, NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 0);
	expect_src(0, NR, 0);
	unlock_by_another(locker, folio);
	finish();
	/* Pinned: not as a whole, nor can it be split. */
	folio_ref_add(folio, UHMM_PIN_BIAS);
	collect(AT, NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 0);
	expect_src(0, NR, 0);
	finish();
	atomic_fetch_sub(&folio->refcount, UHMM_PIN_BIAS);
	/* Referenced: collected, and put back. */
	folio_get(folio);
	collect(AT, NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 0);
	expect_src(0, NR, 0);
	folio_put(m, folio);
	finish();
	/* Not selected. */
	collect(AT, NR, PRIVATE | COMPOUND);
	expect_src(0, NR, 0);
	finish();
	expect_written(f.mm, AT, 0, NR);
	expect(pmd_folio(m, pmd_at(f.mm, AT)) == folio || !pmd_is_leaf(pmd_at(f.mm, AT)));
}
END_TEST

/* Neither what is not selected, nor another device's, nor what is on its way already. */
START_TEST(leaves_that_are_not_collected)
{
	uint64_t flags = SYSTEM | PRIVATE | (_i ? COMPOUND : 0), again[NR], none[NR];
	struct uhmm_migrate_vma second;

	map_huge_written(AT);
	to_device(0, AT, NR);
	collect(AT, NR, flags & ~PRIVATE);
	expect_src(0, NR, 0);
	finish();
	expect_eq(args.cpages, 0);
	uhmm_mmap_read_lock(f.mm);
	args.start = AT;
	args.end = AT + HUGE;
	args.flags = flags;
	args.pgmap_owner = f.dev[1];
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_src(0, NR, 0);
	finish();
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));

	collect(AT, NR, flags | COMPOUND);
	expect_eq(args.cpages, 1);
	expect(leaf_is_migration(pmd_at(f.mm, AT)));
	memset(again, 0xff, sizeof(again));
	second = args;
	second.src = again;
	second.dst = none;
	second.flags = flags;
	expect_eq(uhmm_migrate_vma_setup(&second), 0);
	expect_eq(second.cpages, 0);
	for (unsigned int i = 0; i < NR; i++)
		expect_eq(again[i], 0);
	finish();
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

START_TEST(holes)
{
	uhmm_vaddr_t at = 0x80000000UL; /* below another PMD table, which is not there */
	uhmm_pfn_t to;

	map_huge(at, 4);
	/* (q) One entry for a hole without a PMD table, and the rest is not collected. */
	collect(at, 4 * NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 1);
	expect_eq(src[0], M | C);
	expect_src(1, 4 * NR, 0);
	finish();
	/* With the table there is one for each huge page. */
	touch(f.mm, at + 3 * HUGE);
	collect(at, 4 * NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 4); /* the last is the huge zero page */
	expect_eq(src[NR], M | C);
	expect_eq(src[3 * NR], M | C);
	to = device_huge();
	dst[3 * NR] = uhmm_migrate_pfn(to) | C;
	for (unsigned int i = 0; i < NR; i++) {
		dst[NR + i] = uhmm_migrate_pfn(device_page(0));
		uhmm_clear_highpage(m, uhmm_migrate_pfn_to_pfn(dst[NR + i]));
		uhmm_clear_highpage(m, to + i);
	}
	uhmm_migrate_vma_pages(&args);
	expect(!(src[0] & M) && !(src[2 * NR] & M));
	expect_eq(src[3 * NR], M | C);
	expect_src(NR, 2 * NR, M);
	finish();
	expect_eq(leaf_pfn(pmd_at(f.mm, at + 3 * HUGE)), to);
	expect(on_device(f.mm, at + HUGE) && on_device(f.mm, at + 2 * HUGE - PAGE));
	expect_eq(get_word(f.mm, at + 3 * HUGE + 9 * PAGE), 0);
	collect(at + 2 * HUGE + PAGE, 5, SYSTEM | COMPOUND);
	expect_src(0, 5, M);
	finish();
}
END_TEST

/* What was a hole when it was collected, and is none any more, stays as it is. */
START_TEST(insert_huge_race_with_a_fault)
{
	map_huge(AT, 1);
	collect(AT, NR, SYSTEM | COMPOUND);
	expect_eq(src[0], M | C);
	expect_eq(uhmm__handle_mm_fault(args.vma, AT + PAGE, FAULT_FLAG_WRITE), 0);
	dst[0] = uhmm_migrate_pfn(device_huge()) | C;
	uhmm_migrate_vma_pages(&args);
	expect(!(src[0] & M));
	finish();
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	put_word(f.mm, AT + PAGE, 1);
}
END_TEST

/* Destinations of another size than the source. */
START_TEST(split_when_the_destination_is_small)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	uhmm_pfn_t pfn = frame_pfn(m, folio);
	struct uhmm_mm *child;

	/* Shared, so that other address spaces have PMD migration entries as well. */
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	collect(AT, NR, SYSTEM | COMPOUND);
	expect_eq(args.cpages, 1);
	for (unsigned int i = 0; i < NR; i += 2) {
		dst[i] = uhmm_migrate_pfn(device_page(0));
		uhmm_copy_highpage(m, uhmm_migrate_pfn_to_pfn(dst[i]), pfn + i);
	}
	uhmm_migrate_vma_pages(&args);
	for (unsigned int i = 0; i < NR; i++)
		expect_eq(!!(src[i] & M), i == 0 || !(i & 1));
	finish();
	expect(on_device(f.mm, AT + 2 * PAGE) && in_ram(f.mm, AT + 3 * PAGE));
	expect(on_device(child, AT + 2 * PAGE) && in_ram(child, AT + 3 * PAGE));
	expect_written(f.mm, AT, 0, NR);
	expect_written(child, AT, 0, NR);
	uhmm_mmput(child);
}
END_TEST

START_TEST(no_large_destination_for_a_page)
{
	map_written(AT, NR);
	collect(AT, NR, SYSTEM | COMPOUND);
	dst[0] = uhmm_migrate_pfn(device_huge()) | C;
	uhmm_migrate_vma_pages(&args);
	expect(!(src[0] & M) && src[0] & V);
	finish();
	expect_written(f.mm, AT, 0, NR);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
}
END_TEST

/* ---- device pages by pfn ---- */

START_TEST(by_pfn)
{
	uhmm_pfn_t pfn;

	map_huge_written(AT);
	to_device(0, AT, NR);
	pfn = leaf_pfn(pmd_at(f.mm, AT));
	/* A window that does not hold the folio gets nothing of it. */
	expect_eq(uhmm_migrate_device_range(m, src, pfn, 100), 0);
	expect_src(0, 100, 0);
	uhmm_migrate_device_finalize(m, src, dst, 100);
	/* Nor does one that begins at a tail. */
	expect_eq(uhmm_migrate_device_range(m, src, pfn + 1, 5), 0);
	expect_src(0, 5, 0);
	expect_eq(uhmm_migrate_device_range(m, src, pfn, NR), 0);
	expect_eq(src[0], uhmm_migrate_pfn(pfn) | M | C);
	expect_src(1, NR, 0);
	/* (q) Nobody can split it here. */
	memset(dst, 0, sizeof(dst));
	expect_eq(uhmm_alloc_locked_page(m, &pfn), 0);
	dst[0] = uhmm_migrate_pfn(pfn);
	uhmm_migrate_device_pages(m, src, dst, NR);
	expect(!(src[0] & (M | C)));
	uhmm_migrate_device_finalize(m, src, dst, NR);
	fixture_verify(&f);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	expect_eq(uhmm_devmem_evict_all(uhmm_device_memory(f.dev[0]), false), 0);
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	expect_eq(counted(m, UHMM_CNT_EVICTED), NR);
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

static int never_fault(void *data, const struct uhmm_vm_fault *vmf)
{
	(void)data;
	(void)vmf;
	return 0;
}

static unsigned int freed_order;

static void note_free(void *data, uhmm_pfn_t pfn)
{
	freed_order = uhmm_page_order(data, pfn);
}

/* Folios of any order come and go by pfn. */
START_TEST(by_pfn_of_any_order)
{
	static const struct uhmm_dev_pagemap_ops ops = { .folio_free = note_free,
							 .migrate_to_ram = never_fault };
	struct uhmm_dev_pagemap *pgmap;
	unsigned int order = _i, n = 1U << order;
	uhmm_pfn_t pfn;

	expect_eq(uhmm_memremap_pages(m, UHMM_MEMORY_DEVICE_PRIVATE, NR, NULL, &ops, m, &pgmap), 0);
	pfn = uhmm_pagemap_start(pgmap) + (order < 9 ? n : 0);
	uhmm_zone_device_folio_init(m, pfn, order);
	expect_eq(uhmm_page_order(m, pfn), order);
	/* As its driver has it: locked, so that nobody takes it; then let go. */
	expect_eq(uhmm_migrate_device_range(m, src, pfn, n), 0);
	expect_src(0, n, 0);
	uhmm_unlock_put_page(m, pfn);
	expect_eq(freed_order, order);
	fixture_verify(&f);
	uhmm_memunmap_pages(pgmap);
}
END_TEST

/* ---- pools ---- */

START_TEST(pool_of_two_sizes)
{
	struct uhmm_devmem_config config = { .size = sizeof(config), .bytes = 2 * HUGE };
	static const struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = never_fault };
	struct uhmm_devmem *pool;
	uhmm_pfn_t a, b, p[NR], none;

	expect_eq(uhmm_devmem_create(m, &config, NULL, &ops, NULL, &pool), 0);
	expect_eq(uhmm_devmem_alloc_folio(pool, NULL, 3, &none), -EINVAL);
	expect_eq(uhmm_devmem_alloc(pool, &p, &p[0]), 0);
	/* The pages that alignment skips are for single ones. */
	expect_eq(uhmm_devmem_alloc_folio(pool, &a, 9, &a), 0);
	expect_eq(a & (NR - 1), 0);
	expect_eq(uhmm_devmem_alloc_folio(pool, NULL, 9, &b), -ENOSPC);
	for (unsigned int i = 1; i < NR; i++)
		expect_eq(uhmm_devmem_alloc(pool, NULL, &p[i]), 0);
	expect_eq(uhmm_devmem_alloc(pool, NULL, &none), -ENOSPC);
	expect_eq(uhmm_devmem_used(pool), 2 * NR);
	expect(uhmm_devmem_page_data(pool, a + 17) == &a);
	/* Freed as one, it comes back as one; or in pages if there is nothing else. */
	uhmm_unlock_put_page(m, a);
	expect_eq(uhmm_devmem_used(pool), NR);
	expect_eq(uhmm_devmem_alloc_folio(pool, NULL, 9, &b), 0);
	expect_eq(a, b);
	uhmm_unlock_put_page(m, b);
	expect_eq(uhmm_devmem_alloc(pool, NULL, &none), 0);
	expect_eq(uhmm_devmem_alloc_folio(pool, NULL, 9, &b), -ENOSPC);
	fixture_verify(&f);
	uhmm_unlock_put_page(m, none);
	for (unsigned int i = 0; i < NR; i++)
		uhmm_unlock_put_page(m, p[i]);
	expect_eq(uhmm_devmem_used(pool), 0);
	uhmm_devmem_destroy(pool);
}
END_TEST

/* A device that is full evicts a huge page for another. */
START_TEST(eviction)
{
	struct uhmm_machine_config config = { .nr_cpus = 2 };
	struct uhmm_device_access access;
	uint64_t word = 0;

	teardown_fixture();
	fixture_create(&f, config);
	fixture_add_devices(&f, HUGE);
	m = f.m;
	map_huge_written(AT);
	map_huge_written(AT + HUGE);
	for (unsigned int k = 0; k < 4; k++) {
		uhmm_vaddr_t at = AT + (k & 1) * HUGE;

		expect_eq(uhmm_mirror_access(f.mirror[0], at, true, &word, UHMM_COMBINED, HUGE,
					     &access),
			  0);
		expect_eq(access.migrated, NR);
		expect_eq(access.evicted, k ? NR : 0);
		expect(leaf_is_device_private(pmd_at(f.mm, at)));
		fixture_verify(&f);
	}
	expect_written(f.mm, AT, 1, NR - 1);
	expect_written(f.mm, AT + HUGE, 1, NR - 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("thp_device");
	TCase *tc = tcase_create("huge pages and devices");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown_fixture);
	tcase_add_test(tc, range_fault_of_present_leaves);
	tcase_add_test(tc, range_fault_of_a_hint_leaf);
	tcase_add_test(tc, range_fault_of_device_leaves);
	tcase_add_test(tc, collected_as_one);
	tcase_add_test(tc, collected_in_pages);
	tcase_add_test(tc, collected_from_ptes);
	tcase_add_test(tc, not_collected);
	tcase_add_loop_test(tc, leaves_that_are_not_collected, 0, 2);
	tcase_add_test(tc, holes);
	tcase_add_test(tc, insert_huge_race_with_a_fault);
	tcase_add_test(tc, split_when_the_destination_is_small);
	tcase_add_test(tc, no_large_destination_for_a_page);
	tcase_add_test(tc, by_pfn);
	tcase_add_loop_test(tc, by_pfn_of_any_order, 0, FOLIO_MAX_ORDER + 1);
	tcase_add_test(tc, pool_of_two_sizes);
	tcase_add_test(tc, eviction);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
