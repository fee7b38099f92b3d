// SPDX-License-Identifier: LGPL-2.1-or-later
/* Huge pages and devices: the test driver, the combined walker. */
#define _GNU_SOURCE
#include "unit/thp_device_world.h"

/* ---- the test driver ---- */

static int ioctl(enum uhmm_mirror_op op, uhmm_vaddr_t addr, unsigned int n,
		 struct uhmm_mirror_cmd *cmd)
{
	static uint8_t buf[2 * NR * PAGE];
	int err = mirror_op(f.mirror[0], op, addr, n, buf, cmd);

	for (unsigned int i = 0; !err && cmd && op == UHMM_MIRROR_MIGRATE_TO_DEV && i < n; i++)
		expect_eq(*(uint64_t *)(buf + i * PAGE), i + 1);
	return err;
}

static void fail_alloc(void)
{
	struct uhmm_mirror_cmd cmd = { .addr = PAGE, .npages = UHMM_MIRROR_FLAG_FAIL_ALLOC };

	expect_eq(uhmm_mirror_ioctl(f.mirror[0], UHMM_MIRROR_FLAGS, &cmd), 0);
}

START_TEST(driver_moves_huge_pages)
{
	struct uhmm_mirror_cmd cmd;

	map_huge_written(AT);
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_TO_DEV, AT, NR, &cmd), 0);
	expect_eq(cmd.cpages, NR);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_TO_SYS, AT, NR, &cmd), 0);
	expect_eq(cmd.cpages, 1); /* (q) a compound page counts once */
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	/* Unaligned: it is split. */
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_TO_DEV, AT, NR - 1, &cmd), 0);
	expect(on_device(f.mm, AT) && in_ram(f.mm, AT + (NR - 1) * PAGE));
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

START_TEST(driver_falls_back_to_pages)
{
	struct uhmm_mirror_cmd cmd;

	map_huge_written(AT);
	fail_alloc();
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_TO_DEV, AT, NR, &cmd), 0);
	expect(!pmd_is_leaf(pmd_at(f.mm, AT)) && on_device(f.mm, AT + 77 * PAGE));
	expect_eq(uhmm_page_order(m, pfn_at(f.mm, AT)), 0);
	expect_written(f.mm, AT, 0, NR);
	map_huge_written(AT);
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_TO_DEV, AT, NR, &cmd), 0);
	fail_alloc();
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_TO_SYS, AT, NR, &cmd), 0);
	expect_eq(cmd.cpages, NR);
	expect(in_ram(f.mm, AT + 77 * PAGE));
	expect_written(f.mm, AT, 0, NR);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
}
END_TEST

/* A process whose fault fails for the driver's lack of memory faults again. */
START_TEST(fault_without_memory_comes_again)
{
	map_written(AT, 4);
	to_device(0, AT, 4);
	fail_alloc();
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	expect(in_ram(f.mm, AT + PAGE));
	/* For good: there is no memory at all. */
	expect_eq(uhmm_machine_inject(m, UHMM_INJECT_FRAME, 1, 1000), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), -ENOMEM);
	expect_eq(uhmm_machine_inject(m, UHMM_INJECT_FRAME, 0, 0), 0);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* A CPU fault on a device folio of which a part is not mapped any more brings one page. */
START_TEST(fault_after_partial_unmap)
{
	struct uhmm__frame *folio;

	map_huge_written(AT);
	to_device(0, AT, NR);
	folio = pmd_folio(m, pmd_at(f.mm, AT));
	expect_eq(uhmm_munmap(f.mm, AT, 2 * PAGE), 0);
	expect(page_folio(frame_at(f.mm, AT + 5 * PAGE)) == folio);
	expect_eq(folio_mapcount(folio), NR - 2);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT + 5 * PAGE), 6);
	expect(in_ram(f.mm, AT + 5 * PAGE) && on_device(f.mm, AT + 6 * PAGE));
	/* It was split for that, and the two pages are free. */
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), NR - 3);
	expect_eq(uhmm_page_order(m, pfn_at(f.mm, AT + 6 * PAGE)), 0);
	expect_written(f.mm, AT, 2, NR - 2);
}
END_TEST

START_TEST(fork_of_a_device_leaf)
{
	struct uhmm_mm *child;

	map_huge_written(AT);
	to_device(0, AT, NR);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(leaf_type(pmd_at(child, AT)), LEAF_DEVICE_PRIVATE_READ);
	expect_eq(leaf_type(pmd_at(f.mm, AT)), LEAF_DEVICE_PRIVATE_READ);
	expect_eq(folio_mapcount(pmd_folio(m, pmd_at(child, AT))), 2);
	fixture_verify(&f);
	put_word(child, AT, 100);
	expect_written(f.mm, AT, 0, NR);
	expect_written(child, AT, 1, NR - 1);
	uhmm_mmput(child);
}
END_TEST

/* ---- the combined walker ---- */

static void combined(uhmm_vaddr_t addr, unsigned int n, bool write, int want)
{
	enum uhmm_mirror_op op = write ? UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV
				       : UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV;

	expect_eq(ioctl(op, addr, n, NULL), want);
	fixture_verify(&f);
}

START_TEST(combined_walk)
{
	struct uhmm_mm *child;
	uint64_t walks;

	map_huge_written(AT);
	walks = counted(m, UHMM_CNT_WALKS);
	combined(AT, NR, true, 0);
	expect_eq(counted(m, UHMM_CNT_WALKS), walks + 1);
	expect_eq(leaf_type(pmd_at(f.mm, AT)), LEAF_DEVICE_PRIVATE_WRITE);
	expect_written(f.mm, AT, 0, NR);
	/* A part: split, and only that moves. */
	combined(AT + 4 * PAGE, 3, false, 0);
	expect(in_ram(f.mm, AT + 3 * PAGE) && on_device(f.mm, AT + 4 * PAGE));
	expect_written(f.mm, AT, 0, NR);
	/* Nothing there, and the huge zero page: huge device pages come. */
	map_huge(AT + HUGE, 2);
	touch(f.mm, AT + 2 * HUGE);
	combined(AT + HUGE, NR, false, 0);
	combined(AT + 2 * HUGE, NR, true, 0);
	expect(leaf_is_device_private(pmd_at(f.mm, AT + HUGE)));
	expect(leaf_is_device_private(pmd_at(f.mm, AT + 2 * HUGE)));
	/* Shared: a write must copy, page by page, and then moves. */
	map_huge_written(AT);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	combined(AT, NR, true, 0);
	expect(on_device(f.mm, AT) && on_device(f.mm, AT + HUGE - PAGE));
	expect_written(child, AT, 0, NR);
	expect_written(f.mm, AT, 0, NR);
	uhmm_mmput(child);
}
END_TEST

START_TEST(combined_walk_leaves_what_it_cannot_have)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	struct uhmm_task *locker = lock_by_another(folio);

	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, NR, NULL), 0);
	unlock_by_another(locker, folio);
	expect(pmd_folio(m, pmd_at(f.mm, AT)) == folio);
	folio_get(folio);
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT + PAGE, 9, NULL), 0);
	folio_put(m, folio);
	expect_eq(folio_order(folio), 9);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	combined(AT, NR, true, -EPERM);
	combined(AT, NR, false, 0);
	expect_eq(leaf_type(pmd_at(f.mm, AT)), LEAF_DEVICE_PRIVATE_READ);
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

/* Pages of it that are mapped nowhere, the first too, are free as soon as the walk has split it. */
START_TEST(combined_walk_splits_what_is_mapped_in_part)
{
	struct uhmm__frame *folio = map_huge_written(AT);

	expect_eq(uhmm_munmap(f.mm, AT, 3 * PAGE), 0);
	expect_eq(ioctl(UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT + 3 * PAGE, 9, NULL), 0);
	expect(folio_test(folio, PG_FREE));
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 9);
	expect_written(f.mm, AT, 3, NR - 3);
}
END_TEST

/*
 * A folio that is split has its device-exclusive pages mapped again, but only for reading. What the
 * walk is to fault in, it faults before it splits, so that the device may write what the process may.
 */
START_TEST(combined_walk_restores_exclusive_pages_first)
{
	map_huge_written(AT);
	expect_eq(ioctl(UHMM_MIRROR_EXCLUSIVE, AT + 9 * PAGE, 2, NULL), 0);
	expect(leaf_is_device_exclusive(pte_at(f.mm, AT + 9 * PAGE)));
	combined(AT, NR, false, 0);
	for (unsigned int i = 0; i < NR; i++)
		expect_eq(leaf_type(pte_at(f.mm, AT + i * PAGE)), LEAF_DEVICE_PRIVATE_WRITE);
	expect_eq(counted(m, UHMM_CNT_RESTORED_EXCLUSIVE), 2);
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

/*
 * What the device has for its atomics it need not fault in, so the walk begins to fault behind that.
 * The split that this leads to takes away what the device had before it; all the same a fault leaves
 * it with every page.
 */
START_TEST(combined_walk_in_two_windows)
{
	map_huge_written(AT);
	expect_eq(ioctl(UHMM_MIRROR_EXCLUSIVE, AT, NR, NULL), 0);
	expect_eq(uhmm_madvise(f.mm, AT + 100 * PAGE, 3 * PAGE, MADV_DONTNEED), 0);
	combined(AT, NR, false, 0);
	expect(in_ram(f.mm, AT) && on_device(f.mm, AT + 100 * PAGE));
	expect(on_device(f.mm, AT + HUGE - PAGE));
	expect_written(f.mm, AT, 0, 100);
	expect_written(f.mm, AT, 103, NR - 103);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("thp_driver");
	TCase *tc = tcase_create("huge pages and drivers");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown_fixture);
	tcase_add_test(tc, driver_moves_huge_pages);
	tcase_add_test(tc, driver_falls_back_to_pages);
	tcase_add_test(tc, fault_without_memory_comes_again);
	tcase_add_test(tc, fault_after_partial_unmap);
	tcase_add_test(tc, fork_of_a_device_leaf);
	tcase_add_test(tc, combined_walk);
	tcase_add_test(tc, combined_walk_leaves_what_it_cannot_have);
	tcase_add_test(tc, combined_walk_splits_what_is_mapped_in_part);
	tcase_add_test(tc, combined_walk_restores_exclusive_pages_first);
	tcase_add_test(tc, combined_walk_in_two_windows);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
