// SPDX-License-Identifier: LGPL-2.1-or-later
/* Device-exclusive entries: how they come, and every way in which they go. */
#define _GNU_SOURCE
#include "unit/device.h"

static bool is_exclusive(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return leaf_is_device_exclusive(pte_at(mm, addr));
}

static void make_exclusive(uhmm_vaddr_t addr, unsigned int npages)
{
	struct uhmm_mirror_cmd cmd;

	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_EXCLUSIVE, addr, npages, words, &cmd), 0);
	expect_eq(cmd.cpages, npages);
	for (unsigned int i = 0; i < npages; i++)
		expect(is_exclusive(f.mm, addr + i * PAGE));
	fixture_verify(&f);
}

static int make(uhmm_vaddr_t addr, void *owner, uhmm_pfn_t *pfn)
{
	int err;

	uhmm_mmap_read_lock(f.mm);
	err = uhmm_make_device_exclusive(f.mm, addr, owner, pfn);
	uhmm_mmap_read_unlock(f.mm);
	return err;
}

START_TEST(page_stays_where_it_is)
{
	struct uhmm__frame *frame;
	uhmm_pfn_t pfn;

	map_written(AT, 2);
	pfn = pfn_at(f.mm, AT);
	make_exclusive(AT, 1);
	frame = frame_at(f.mm, AT);
	expect_eq(pfn_at(f.mm, AT), pfn);
	expect_eq(folio_mapcount(frame), 1);
	expect(folio_test(frame, PG_ANON_EXCLUSIVE) && folio_test(frame, PG_DIRTY));
	expect(!folio_test(frame, PG_LOCKED));
	expect_eq(words[0], 1);
	expect_eq(counted(f.m, UHMM_CNT_MADE_EXCLUSIVE), 1);
}
END_TEST

/* The page comes locked and referenced, and the others were told before the entry went. */
START_TEST(locked_and_announced)
{
	struct watcher w;
	uhmm_pfn_t pfn;
	int me;

	map_written(AT, 1);
	watch(&w, f.mm, AT, 1);
	expect_eq(make(AT + 123, &me, &pfn), 0);
	expect_eq(pfn, pfn_at(f.mm, AT));
	expect(folio_test(frame_at(f.mm, AT), PG_LOCKED));
	expect_eq(w.events[UHMM_MMU_NOTIFY_EXCLUSIVE], 1);
	expect(w.owner == &me && w.start == AT && w.end == AT + PAGE);
	uhmm_unlock_put_page(f.m, pfn);
	/* Taking it back is no EXCLUSIVE event, and nobody's. */
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(w.events[UHMM_MMU_NOTIFY_CLEAR], 1);
	expect(!w.owner);
	unwatch(&w);
}
END_TEST

START_TEST(faults_in_for_writing)
{
	struct uhmm_mm *child;
	uhmm_pfn_t pfn;

	map_fixed(f.mm, AT, 4, RW);
	touch(f.mm, AT + PAGE); /* the zero page */
	put_word(f.mm, AT + 2 * PAGE, 7);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	pfn = pfn_at(child, AT + 2 * PAGE);
	make_exclusive(AT, 3);
	expect(pfn_at(f.mm, AT + 2 * PAGE) != pfn); /* copied */
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 7);
	uhmm_mmput(child);
}
END_TEST

START_TEST(from_the_device_and_back)
{
	map_written(AT, 1);
	to_device(0, AT, 1);
	make_exclusive(AT, 1);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* Again by another device: taken back first, for the first one's callback. */
START_TEST(from_one_device_to_another)
{
	map_written(AT, 1);
	make_exclusive(AT, 1);
	expect_eq(mirror_op(f.mirror[1], UHMM_MIRROR_EXCLUSIVE, AT, 1, words, NULL), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 1, NULL, NULL), 0);
	expect_eq(mirror_op(f.mirror[1], UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 1, NULL, NULL), -EPERM);
	expect_eq(counted(f.m, UHMM_CNT_RESTORED_EXCLUSIVE), 1);
}
END_TEST

START_TEST(cpu_read_restores)
{
	pte_t pte;

	map_written(AT, 2);
	make_exclusive(AT, 2);
	expect_eq(get_word(f.mm, AT), 1);
	pte = pte_at(f.mm, AT);
	/* Writable and dirty at once, for it was both; the other page is not touched. */
	expect(pte_present(pte) && pte_write(pte) && pte_dirty(pte));
	expect(is_exclusive(f.mm, AT + PAGE));
	expect_eq(counted(f.m, UHMM_CNT_FAULT_EXCLUSIVE), 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 1, NULL, NULL), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 2, NULL, NULL), 0);
}
END_TEST

START_TEST(cpu_write_restores)
{
	map_written(AT, 1);
	make_exclusive(AT, 1);
	put_word(f.mm, AT, 5);
	expect_eq(get_word(f.mm, AT), 5);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_EXCLUSIVE), 1);
	expect_eq(dev_read(0, AT), 5);
}
END_TEST

/* The device's tables: a page held for atomics may be read by it; a write faults it back. */
START_TEST(device_access)
{
	map_written(AT, 1);
	make_exclusive(AT, 1);
	expect_eq(dev_read(0, AT), 1);
	expect(is_exclusive(f.mm, AT));
	dev_write(0, AT, 9);
	expect(!is_exclusive(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 9);
}
END_TEST

/* mprotect leaves the entry; the rights are looked at when it goes. */
START_TEST(mprotect_and_then_access)
{
	map_written(AT, 1);
	make_exclusive(AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect(is_exclusive(f.mm, AT));
	/* The device was told. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 1, NULL, NULL), 0);
	expect_eq(uhmm_cpu_write(f.mm, AT, NULL, 1, NULL), SIGSEGV);
	expect(is_exclusive(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
	expect(pte_present(pte_at(f.mm, AT)) && !pte_write(pte_at(f.mm, AT)));
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	put_word(f.mm, AT, 2);
}
END_TEST

/* fork restores first, and then shares the page. */
START_TEST(fork_restores)
{
	struct uhmm_mm *child;

	map_written(AT, 2);
	make_exclusive(AT, 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	for (int i = 0; i < 2; i++) {
		expect(in_ram(f.mm, AT + i * PAGE) && !pte_write(pte_at(f.mm, AT + i * PAGE)));
		expect_eq(pfn_at(child, AT + i * PAGE), pfn_at(f.mm, AT + i * PAGE));
		/* Nobody has accessed it since. */
		expect(!pte_young(pte_at(f.mm, AT + i * PAGE)));
	}
	put_word(f.mm, AT, 8);
	expect_eq(get_word(child, AT), 1);
	uhmm_mmput(child);
}
END_TEST

/* Whoever has just made the page exclusive holds its lock: then fork gives up. */
START_TEST(fork_fails_while_the_folio_is_locked)
{
	struct uhmm_task *maker = another_task(f.m), *self;
	struct uhmm_mm *child = NULL;
	uhmm_pfn_t pfn;

	map_written(AT, 2);
	self = become(maker);
	expect_eq(make(AT + PAGE, NULL, &pfn), 0);
	become(self);
	/* -EBUSY inside, which Linux's callers make this of. */
	expect_eq(uhmm_mm_fork(f.mm, &child), -ENOMEM);
	expect(!child && is_exclusive(f.mm, AT + PAGE));
	become(maker);
	uhmm_unlock_put_page(f.m, pfn);
	become(self);
	uhmm_task_destroy(maker);
	fixture_verify(&f);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	uhmm_mmput(child);
}
END_TEST

START_TEST(zap_and_mremap)
{
	map_written(AT, 4);
	make_exclusive(AT, 4);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect(pte_none(pte_at(f.mm, AT)));
	fixture_verify(&f);
	expect_eq(uhmm_mremap(f.mm, AT + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      AT + 8 * PAGE, NULL),
		  0);
	expect(is_exclusive(f.mm, AT + 8 * PAGE));
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT + 8 * PAGE), 2);
	expect_eq(uhmm_munmap(f.mm, AT + 2 * PAGE, PAGE), 0);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
}
END_TEST

START_TEST(pagemap_says_swapped)
{
	uint64_t entry;

	map_written(AT, 1);
	make_exclusive(AT, 1);
	entry = pagemap_of(f.mm, AT);
	expect(entry & UHMM_PM_SWAP && !(entry & (UHMM_PM_PRESENT | UHMM_PM_FILE)));
	expect_eq(entry & 31, LEAF_DEVICE_EXCLUSIVE);
	expect_eq((entry & UHMM_PM_PFN_MASK) >> 5, pfn_at(f.mm, AT));
}
END_TEST

START_TEST(range_fault_rows)
{
	map_written(AT, 3);
	make_exclusive(AT, 3);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], 0);
	expect(is_exclusive(f.mm, AT));
	expect_eq(walk(AT, 1, FAULT), 0);
	expect_eq(pfns[0], pfn_at(f.mm, AT) | V | W);
	expect_eq(walk(AT + PAGE, 1, WRITE), 0);
	expect_eq(pfns[0], pfn_at(f.mm, AT + PAGE) | V | W);
	expect_eq(uhmm_mprotect(f.mm, AT, 3 * PAGE, PROT_READ), 0);
	expect_eq(walk(AT + 2 * PAGE, 1, WRITE), -EPERM);
	expect(is_exclusive(f.mm, AT + 2 * PAGE));
	expect_eq(walk(AT + 2 * PAGE, 1, FAULT), 0);
	expect_eq(flags_of(pfns[0]), V);
}
END_TEST

START_TEST(snapshot_says_nothing)
{
	map_written(AT, 1);
	make_exclusive(AT, 1);
	expect_eq(snapshot(0, AT), UHMM_PROT_NONE);
	expect(is_exclusive(f.mm, AT));
}
END_TEST

START_TEST(not_collected)
{
	map_written(AT, 2);
	make_exclusive(AT, 1);
	expect_eq(collected(AT, 2, UHMM_MIGRATE_VMA_SELECT_SYSTEM, f.dev[0]), 1);
	expect_eq(mpfns[0], 0);
	expect(is_exclusive(f.mm, AT));
	/* So to_dev of it is content with what its tables have. */
	to_device(0, AT, 2);
	expect(is_exclusive(f.mm, AT) && on_device(f.mm, AT + PAGE));
}
END_TEST

/* By the folio it can be moved: the migration entry is readable and exclusive, and so it comes back. */
START_TEST(try_to_migrate_replaces_it)
{
	struct uhmm__frame *frame;
	pte_t pte;

	map_written(AT, 1);
	make_exclusive(AT, 1);
	frame = frame_at(f.mm, AT);
	folio_get(frame);
	folio_lock(f.m, frame);
	uhmm__try_to_migrate(frame);
	expect_eq(folio_mapcount(frame), 0);
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_MIGRATION_READ_EXCLUSIVE);
	uhmm__remove_migration_ptes(f.m, frame, frame, NULL);
	folio_unlock(f.m, frame);
	folio_put(f.m, frame);
	pte = pte_at(f.mm, AT);
	expect(pte_present(pte) && !pte_write(pte) && folio_test(frame, PG_ANON_EXCLUSIVE));
	put_word(f.mm, AT, 3);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_REUSE), 1);
}
END_TEST

/* The combined walk: a page that the device has for its atomics is not faulted, one after a gap is. */
START_TEST(combined_walk)
{
	map_written(AT, 4);
	make_exclusive(AT, 2);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, 4, words, NULL),
		  0);
	expect(is_exclusive(f.mm, AT) && on_device(f.mm, AT + 2 * PAGE));
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV, AT, 4, words,
			    NULL),
		  0);
	for (int i = 0; i < 4; i++)
		expect(on_device(f.mm, AT + i * PAGE));
}
END_TEST

/* The fault service: whatever the strategy, the page is on the device afterwards. */
START_TEST(fault_service)
{
	map_written(AT, 4);
	make_exclusive(AT + PAGE, 2);
	expect_eq(uhmm_mirror_serve(f.mirror[0], AT, AT + 4 * PAGE, false, (enum uhmm_strategy)_i,
				    NULL),
		  0);
	for (int i = 0; i < 4; i++)
		expect(on_device(f.mm, AT + i * PAGE));
	fixture_verify(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exclusive");
	TCase *tc = tcase_create("exclusive");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, page_stays_where_it_is);
	tcase_add_test(tc, locked_and_announced);
	tcase_add_test(tc, faults_in_for_writing);
	tcase_add_test(tc, from_the_device_and_back);
	tcase_add_test(tc, from_one_device_to_another);
	tcase_add_test(tc, cpu_read_restores);
	tcase_add_test(tc, cpu_write_restores);
	tcase_add_test(tc, device_access);
	tcase_add_test(tc, mprotect_and_then_access);
	tcase_add_test(tc, fork_restores);
	tcase_add_test(tc, fork_fails_while_the_folio_is_locked);
	tcase_add_test(tc, zap_and_mremap);
	tcase_add_test(tc, pagemap_says_swapped);
	tcase_add_test(tc, range_fault_rows);
	tcase_add_test(tc, snapshot_says_nothing);
	tcase_add_test(tc, not_collected);
	tcase_add_test(tc, try_to_migrate_replaces_it);
	tcase_add_test(tc, combined_walk);
	tcase_add_loop_test(tc, fault_service, 0, UHMM_NR_STRATEGIES);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
