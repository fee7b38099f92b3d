// SPDX-License-Identifier: LGPL-2.1-or-later
/* migrate_vma_*() once something is collected, and migrate_device_*(), step by step. */
#define _GNU_SOURCE
#include "unit/migrate_world.h"

/* ---- unmap ---- */

START_TEST(fresh_pages_are_drained_onto_the_lru_once)
{
	map_written(AT, 4);
	expect(!folio_test(frame_at(f.mm, AT), PG_LRU));
	collect(AT, 4, SYSTEM);
	expect_eq(args.cpages, 4);
	expect(counted(f.m, UHMM_CNT_LRU_DRAIN_ALL) <= 1);
	finish();
}
END_TEST

/* Pages in another CPU's batch: only lru_add_drain_all() gets at them. */
START_TEST(batch_of_another_cpu)
{
	struct uhmm_task *other;

	expect_eq(uhmm_task_create(f.m, f.mm, 1, "other", &other), 0);
	uhmm_task_leave();
	uhmm_task_enter(other);
	map_written(AT, 2);
	uhmm_task_leave();
	uhmm_task_destroy(other);
	uhmm_task_enter(f.task);
	collect(AT, 2, SYSTEM);
	expect_eq(args.cpages, 2);
	expect_eq(counted(f.m, UHMM_CNT_LRU_DRAIN_ALL), 1);
	finish();
}
END_TEST

/* Entries of what is under way are copied by fork, for reading only; dirty and young stay. */
START_TEST(fork_copies_migration_entries)
{
	struct uhmm_task *other = another_task(f.m), *self;
	struct uhmm_mm *child;
	pte_t was;

	map_written(AT, 1);
	collect(AT, 1, SYSTEM);
	was = pte_at(f.mm, AT);
	expect_eq(leaf_type(was), LEAF_MIGRATION_WRITE);
	/* Setup to finalize hold mmap_lock; fork wants it for writing. */
	uhmm_mmap_read_unlock(f.mm);
	self = become(other);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	become(self);
	uhmm_task_destroy(other);
	expect(uhmm_mmap_read_trylock(f.mm));
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_MIGRATION_READ);
	expect_eq(pte_at(child, AT).val, pte_at(f.mm, AT).val);
	expect_eq(leaf_offset(pte_at(child, AT)), leaf_offset(was));
	expect((leaf_offset(was) & LEAF_YOUNG) && (leaf_offset(was) & LEAF_DIRTY));
	finish();
	expect_eq(get_word(child, AT), 1);
	put_word(child, AT, 2);
	expect_eq(get_word(f.mm, AT), 1);
	uhmm_mmput(child);
}
END_TEST

START_TEST(extra_reference_is_put_back)
{
	struct uhmm__frame *frame;

	map_written(AT, 2);
	frame = frame_at(f.mm, AT);
	folio_get(frame);
	collect(AT, 2, SYSTEM);
	/* VALID is gone as well. */
	expect_eq(src[0], 0);
	expect(in_ram(f.mm, AT));
	expect(!folio_test(frame, PG_LOCKED));
	expect_eq(args.cpages, 1);
	folio_put(f.m, frame);
	finish();
	expect_eq(counted(f.m, UHMM_CNT_FAIL_REFERENCED), 1);
}
END_TEST

START_TEST(shared_page_is_unmapped_everywhere)
{
	struct uhmm_mm *child;
	struct watcher w;

	map_written(AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	watch(&w, child, AT, 1);
	collect(AT, 1, SYSTEM);
	expect_eq(args.cpages, 1);
	expect(leaf_is_migration(pte_at(f.mm, AT)));
	expect(leaf_is_migration(pte_at(child, AT)));
	/* Told as somebody else's, not as the owner's migration. */
	expect_eq(w.events[UHMM_MMU_NOTIFY_CLEAR], 1);
	expect(!w.owner);
	give(0, device_page(0));
	uhmm_migrate_vma_pages(&args);
	expect(src[0] & M);
	finish();
	expect_eq(pfn_at(f.mm, AT), pfn_at(child, AT));
	expect(on_device(child, AT));
	expect_eq(get_word(child, AT), 1);
	unwatch(&w);
	uhmm_mmput(child);
}
END_TEST

/*
 * (q) One reference too many of a device page gets by the check after unmapping, and is found only
 * when the page's identity is to be moved.
 */
START_TEST(surplus_reference_of_a_device_page)
{
	struct uhmm__frame *frame;

	map_written(AT, 1);
	to_device(0, AT, 1);
	frame = frame_at(f.mm, AT);
	folio_get(frame);
	collect(AT, 1, PRIVATE);
	expect_eq(args.cpages, 1);
	expect(src[0] & M);
	give(0, ram_page());
	uhmm_migrate_vma_pages(&args);
	expect_eq(src[0] & (V | M), V);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	expect(on_device(f.mm, AT));
	expect(frame_at(f.mm, AT) == frame);
	/* Two are seen at once. */
	folio_get(frame);
	collect(AT, 1, PRIVATE);
	expect_eq(args.cpages, 0);
	expect_eq(src[0], 0);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	folio_put(f.m, frame);
	folio_put(f.m, frame);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* ---- pages and finalize ---- */

START_TEST(finalize_after_setup_undoes_it)
{
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	pfn = pfn_at(f.mm, AT);
	collect(AT, 1, SYSTEM);
	finish();
	expect_eq(pfn_at(f.mm, AT), pfn);
	expect(pte_write(pte_at(f.mm, AT)));
	expect(folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(empty_destination_stays)
{
	map_written(AT, 2);
	collect(AT, 2, SYSTEM);
	give(1, device_page(0));
	uhmm_migrate_vma_pages(&args);
	expect_eq(src[0] & (V | M), V);
	expect_eq(src[1] & (V | M), V | M);
	finish();
	expect(in_ram(f.mm, AT));
	expect(on_device(f.mm, AT + PAGE));
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* Metadata goes along even where the driver no longer wants the move; finalize drops it. */
START_TEST(destination_without_migrate)
{
	struct uhmm__frame *new;
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	collect(AT, 1, UHMM_MIGRATE_VMA_SELECT_SYSTEM);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	new = pfn_to_frame(f.m, pfn);
	dst[0] = uhmm_migrate_pfn(pfn);
	src[0] &= ~(uint64_t)M;
	uhmm_migrate_vma_pages(&args);
	expect(folio_test_anon(new));
	expect_eq(new->index, AT >> UHMM_PAGE_SHIFT);
	expect(!(src[0] & M));
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_TO_RAM), 0);
	finish();
	expect(in_ram(f.mm, AT));
	expect(pfn_at(f.mm, AT) != pfn);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(ram_to_device_and_back)
{
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	pfn = pfn_at(f.mm, AT);
	collect(AT, 1, SYSTEM);
	give(0, device_page(0));
	uhmm_migrate_vma_pages(&args);
	finish();
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_DEVICE_PRIVATE_WRITE);
	expect_eq(folio_ref_count(frame_at(f.mm, AT)), 1);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 0);
	collect(AT, 1, PRIVATE);
	give(0, ram_page());
	uhmm_migrate_vma_pages(&args);
	finish();
	expect(in_ram(f.mm, AT));
	expect(pte_write(pte_at(f.mm, AT)));
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/*
 * The driver says which page it was called for: that one is locked and referenced by the fault. And all
 * that map it lose it, not only the process that faults.
 */
START_TEST(one_fault_brings_it_home)
{
	bool shared = _i;
	struct uhmm_mm *child = NULL;

	map_written(AT, 1);
	to_device(0, AT, 1);
	if (shared)
		expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm__handle_mm_fault(uhmm__vma_lookup(f.mm, AT), AT, 0), 0);
	uhmm_mmap_read_unlock(f.mm);
	expect(in_ram(f.mm, AT));
	if (shared) {
		expect(in_ram(child, AT));
		uhmm_mmput(child);
	}
}
END_TEST

START_TEST(device_to_device)
{
	map_written(AT, 1);
	to_device(0, AT, 1);
	collect(AT, 1, PRIVATE);
	give(0, device_page(1));
	uhmm_migrate_vma_pages(&args);
	expect(src[0] & M);
	finish();
	expect(uhmm_pagemap_owner(f.m, pfn_at(f.mm, AT)) == f.dev[1]);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* A page where there was none: writable if the VMA is; one event for the rest of the range. */
START_TEST(insert_where_nothing_was)
{
	struct watcher w;

	map_fixed(f.mm, AT, 4, RW);
	touch(f.mm, AT + 2 * PAGE);
	expect_eq(uhmm_mprotect(f.mm, AT + 3 * PAGE, PAGE, PROT_READ), 0);
	watch(&w, f.mm, AT, 4);
	collect(AT, 3, SYSTEM);
	expect_eq(w.calls, 1);
	for (unsigned int i = 1; i < 3; i++)
		give(i, device_page(0));
	uhmm_migrate_vma_pages(&args);
	expect_eq(w.events[UHMM_MMU_NOTIFY_MIGRATE], 2);
	expect_eq(w.start, AT + PAGE);
	expect_eq(w.end, AT + 3 * PAGE);
	expect_eq(src[0], 0);
	expect_eq(src[1], M);
	expect_eq(src[2], M);
	finish();
	expect_eq(leaf_type(pte_at(f.mm, AT + PAGE)), LEAF_DEVICE_PRIVATE_WRITE);
	expect_eq(leaf_type(pte_at(f.mm, AT + 2 * PAGE)), LEAF_DEVICE_PRIVATE_WRITE);
	expect(folio_test(frame_at(f.mm, AT + PAGE), PG_ANON_EXCLUSIVE));
	collect(AT + 3 * PAGE, 1, SYSTEM);
	give(0, device_page(0));
	uhmm_migrate_vma_pages(&args);
	finish();
	expect_eq(leaf_type(pte_at(f.mm, AT + 3 * PAGE)), LEAF_DEVICE_PRIVATE_READ);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 0);
	unwatch(&w);
}
END_TEST

/* A page of the device that had another's contents comes as zeroes where nothing was. */
START_TEST(used_device_page_is_cleared)
{
	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	map_fixed(f.mm, AT, 1, RW);
	to_device(0, AT, 1);
	expect(on_device(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 0);
}
END_TEST

/* Nothing was there when it was collected; a fault was faster. */
START_TEST(insert_race_with_a_fault)
{
	static const unsigned int flags[] = { 0, FAULT_FLAG_WRITE };

	for (unsigned int i = 0; i < 2; i++) {
		map_fixed(f.mm, AT, 1, RW);
		collect(AT, 1, SYSTEM);
		expect_eq(uhmm__handle_mm_fault(args.vma, AT, flags[i]), 0);
		give(0, device_page(0));
		uhmm_migrate_vma_pages(&args);
		/* The zero page may be replaced, as when it had been there before. */
		expect_eq(src[0], flags[i] ? 0 : M);
		finish();
		expect(flags[i] ? in_ram(f.mm, AT) : on_device(f.mm, AT));
		expect_eq(get_word(f.mm, AT), 0);
		expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
	}
}
END_TEST

START_TEST(insert_without_memory_for_a_table)
{
	map_fixed(f.mm, AT, 1, RW);
	collect(AT, 1, SYSTEM);
	give(0, device_page(0));
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 100), 0);
	uhmm_migrate_vma_pages(&args);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 0, 0), 0);
	expect_eq(src[0], 0);
	finish();
	expect_eq(get_word(f.mm, AT), 0);
}
END_TEST

/* ---- device pages by number ---- */

START_TEST(free_device_pages_are_not_collected)
{
	uhmm_pfn_t first;

	map_written(AT, 3);
	to_device(0, AT, 3);
	first = pfn_at(f.mm, AT);
	for (unsigned int i = 1; i < 3; i++)
		first = MIN(first, pfn_at(f.mm, AT + i * PAGE));
	expect_eq(uhmm_migrate_device_range(f.m, src, first, 5), 0);
	for (unsigned int i = 0; i < 5; i++)
		expect_eq(src[i], i < 3 ? uhmm_migrate_pfn(first + i) | M : 0);
	for (unsigned int i = 0; i < 5; i++) {
		dst[i] = 0;
		if (src[i])
			give(i, ram_page());
	}
	uhmm_migrate_device_pages(f.m, src, dst, 5);
	uhmm_migrate_device_finalize(f.m, src, dst, 5);
	fixture_verify(&f);
	for (unsigned int i = 0; i < 3; i++) {
		expect(in_ram(f.mm, AT + i * PAGE));
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
}
END_TEST

START_TEST(device_pfns_locked_or_free)
{
	struct uhmm__frame *frame;

	map_written(AT, 2);
	to_device(0, AT, 2);
	frame = frame_at(f.mm, AT);
	expect(folio_trylock(frame));
	src[0] = pfn_at(f.mm, AT);
	src[1] = pfn_at(f.mm, AT + PAGE);
	expect_eq(uhmm_migrate_device_pfns(f.m, src, 2), 0);
	expect_eq(src[0], 0);
	expect(src[1] & M);
	dst[0] = dst[1] = 0;
	uhmm_migrate_device_pages(f.m, src, dst, 2);
	expect_eq(src[1] & (V | M), V);
	uhmm_migrate_device_finalize(f.m, src, dst, 2);
	folio_unlock(f.m, frame);
	fixture_verify(&f);
	expect(on_device(f.mm, AT + PAGE));
}
END_TEST

/* ---- a driver's own migrate_to_ram() ---- */

static struct uhmm_devmem *pool;
static unsigned int nr_faults;
static bool locked_before, locked_after, referenced;

static int own_migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct uhmm__frame *frame = pfn_to_frame(f.m, vmf->page);
	struct uhmm_migrate_vma a = {
		.size = sizeof(a),
		.vma = vmf->vma,
		.src = src,
		.dst = dst,
		.start = vmf->address,
		.end = vmf->address + PAGE,
		.pgmap_owner = data,
		.flags = PRIVATE,
		.fault_page = vmf->page,
	};

	nr_faults++;
	locked_before = folio_test(frame, PG_LOCKED);
	/* The mapping's, and one for the call. */
	referenced = folio_ref_count(frame) == 2;
	expect_eq(uhmm_migrate_vma_setup(&a), 0);
	expect_eq(a.cpages, 1);
	give(0, ram_page());
	uhmm_migrate_vma_pages(&a);
	expect(src[0] & M);
	uhmm_migrate_vma_finalize(&a);
	locked_after = folio_test(frame, PG_LOCKED);
	return 0;
}

/* The pool's 16 bytes for each page that was ever used are in the account of memory, and go with it. */
START_TEST(pool_pages_count_as_memory)
{
	static const struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = own_migrate_to_ram };
	enum { NR_PAGES = 1024 };
	static uhmm_pfn_t pfn[NR_PAGES];
	struct uhmm_memory_use before, used, after;

	uhmm_machine_memory(f.m, &before);
	expect_eq(uhmm_devmem_create(f.m, NULL, &pool, &ops, &pool, &pool), 0);
	for (int i = 0; i < NR_PAGES; i++)
		expect_eq(uhmm_devmem_alloc(pool, NULL, &pfn[i]), 0);
	uhmm_machine_memory(f.m, &used);
	expect(used.metadata - before.metadata >= NR_PAGES * 16);
	for (int i = 0; i < NR_PAGES; i++)
		uhmm_unlock_put_page(f.m, pfn[i]);
	uhmm_devmem_destroy(pool);
	uhmm_machine_memory(f.m, &after);
	expect(after.metadata < before.metadata + NR_PAGES * 16);
}
END_TEST

/* The page of the fault is locked by the fault, not by the migration, and stays so. */
START_TEST(fault_page_belongs_to_the_fault)
{
	static const struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = own_migrate_to_ram };
	struct uhmm_devmem_config config = { .size = sizeof(config), .bytes = 16 * PAGE };
	uhmm_pfn_t pfn;

	expect_eq(uhmm_devmem_create(f.m, &config, &pool, &ops, &pool, &pool), 0);
	map_written(AT, 1);
	collect(AT, 1, SYSTEM);
	expect_eq(uhmm_devmem_alloc(pool, NULL, &pfn), 0);
	give(0, pfn);
	uhmm_migrate_vma_pages(&args);
	finish();
	expect(on_device(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(nr_faults, 1);
	expect(locked_before && locked_after && referenced);
	expect_eq(uhmm_devmem_used(pool), 0);
	uhmm_devmem_destroy(pool);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("migrate");
	TCase *tc = tcase_create("migrate_vma");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, fresh_pages_are_drained_onto_the_lru_once);
	tcase_add_test(tc, batch_of_another_cpu);
	tcase_add_test(tc, fork_copies_migration_entries);
	tcase_add_test(tc, extra_reference_is_put_back);
	tcase_add_test(tc, shared_page_is_unmapped_everywhere);
	tcase_add_test(tc, surplus_reference_of_a_device_page);
	tcase_add_test(tc, finalize_after_setup_undoes_it);
	tcase_add_test(tc, empty_destination_stays);
	tcase_add_test(tc, destination_without_migrate);
	tcase_add_test(tc, ram_to_device_and_back);
	tcase_add_test(tc, device_to_device);
	tcase_add_test(tc, insert_where_nothing_was);
	tcase_add_test(tc, used_device_page_is_cleared);
	tcase_add_test(tc, insert_race_with_a_fault);
	tcase_add_test(tc, insert_without_memory_for_a_table);
	tcase_add_test(tc, free_device_pages_are_not_collected);
	tcase_add_test(tc, device_pfns_locked_or_free);
	tcase_add_test(tc, pool_pages_count_as_memory);
	tcase_add_test(tc, fault_page_belongs_to_the_fault);
	suite_add_tcase(suite, tc);
	tc = tcase_create("one fault");
	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_loop_test(tc, one_fault_brings_it_home, 0, 2);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
