// SPDX-License-Identifier: LGPL-2.1-or-later
/* migrate_vma_setup(): arguments, and what is collected. */
#define _GNU_SOURCE
#include "unit/migrate_world.h"

/* ---- arguments ---- */

static int setup_with(struct uhmm_migrate_vma bad)
{
	args = bad;
	return uhmm_migrate_vma_setup(&args);
}

START_TEST(argument_errors)
{
	struct uhmm_migrate_vma good, bad;

	map_written(AT, 4);
	uhmm_mmap_read_lock(f.mm);
	prepare(AT, 4, SYSTEM);
	good = args;
#define BAD(what)                                                                                  \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.what;                                                                          \
		expect_eq(setup_with(bad), -EINVAL);                                               \
	} while (0)
	BAD(size = 0);
	BAD(vma = NULL);
	BAD(src = NULL);
	BAD(dst = NULL);
	BAD(end = AT);
	BAD(end = AT - PAGE);
	BAD(start = AT - PAGE);
	BAD(start = AT + 4 * PAGE);
	BAD(end = AT + 5 * PAGE);
	BAD(fault_page = pfn_at(f.mm, AT)); /* not of a device */
#undef BAD
	expect_eq(setup_with(good), 0);
	expect_eq(args.cpages, 4);
	finish();
}
END_TEST

START_TEST(fault_page_must_be_locked)
{
	map_written(AT, 1);
	to_device(0, AT, 1);
	uhmm_mmap_read_lock(f.mm);
	prepare(AT, 1, PRIVATE);
	args.fault_page = pfn_at(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), -EINVAL);
	uhmm_mmap_read_unlock(f.mm);
}
END_TEST

/* (q) The number of pages is taken from the ends as they are, which are then cut to pages. */
START_TEST(ends_are_masked_after_pages_are_counted)
{
	map_written(AT, 2);
	uhmm_mmap_read_lock(f.mm);
	prepare(AT, 1, SYSTEM);
	args.start = AT + 8;
	args.end = AT + PAGE;
	expect_eq(uhmm_migrate_vma_setup(&args), -EINVAL);
	args.start = AT + 8;
	args.end = AT + PAGE + 9;
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.start, AT);
	expect_eq(args.end, AT + PAGE);
	expect_eq(args.npages, 1);
	finish();
}
END_TEST

/* ---- what is collected ---- */

START_TEST(nothing_to_collect_is_success)
{
	map_written(AT, 1);
	collect(AT, 1, PRIVATE);
	expect_eq(args.cpages, 0);
	expect_eq(src[0], 0);
	expect_eq(dst[0], 0);
	finish();
}
END_TEST

/* (q) Entries without a page may always be migrated, whatever is selected. */
START_TEST(empty_entries_regardless_of_select_flags)
{
	static const uint64_t flags[] = { SYSTEM, PRIVATE, COHERENT, 0 };

	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		map_written(AT, 3);
		expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_DONTNEED), 0);
		collect(AT, 2, flags[i]);
		expect_eq(args.cpages, 2);
		expect_eq(src[0], M);
		expect_eq(src[1], M);
		finish();
	}
}
END_TEST

START_TEST(hole_of_512_pages_and_more)
{
	map_fixed(f.mm, AT, 1024 + 512, RW);
	put_word(f.mm, AT + 600 * PAGE, 1);
	collect(AT, 1024 + 512, PRIVATE);
	expect_eq(args.cpages, 1024 + 512 - 1);
	for (unsigned int i = 0; i < 1024 + 512; i++)
		expect_eq(src[i], i == 600 ? 0 : M);
	expect(!ptep_at(f.mm, AT));
	finish();
}
END_TEST

START_TEST(zero_page_only_with_system)
{
	static const uint64_t flags[] = { SYSTEM, PRIVATE, COHERENT };

	map_fixed(f.mm, AT, 1, RW);
	touch(f.mm, AT);
	for (unsigned int i = 0; i < 3; i++) {
		collect(AT, 1, flags[i]);
		expect_eq(src[0], flags[i] == SYSTEM ? M : 0);
		finish();
		expect(is_zero_page(f.mm, AT));
	}
}
END_TEST

START_TEST(present_pages_only_with_system)
{
	map_written(AT, 3);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	collect(AT, 1, SYSTEM);
	expect_eq(src[0], uhmm_migrate_pfn(pfn_at(f.mm, AT)) | M | W);
	finish();
	collect(AT + PAGE, 1, SYSTEM);
	expect_eq(src[0], uhmm_migrate_pfn(pfn_at(f.mm, AT + PAGE)) | M);
	finish();
	collect(AT, 1, PRIVATE | COHERENT);
	expect_eq(src[0], 0);
	finish();
}
END_TEST

/* (q) migrate_vma does not care whether anybody may read. */
START_TEST(prot_none_counts_as_present)
{
	map_written(AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	collect(AT, 1, SYSTEM);
	expect_eq(args.cpages, 1);
	expect_eq(src[0] & (V | M | W), V | M);
	finish();
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(device_pages_of_the_owner_only)
{
	struct uhmm_mm *child;

	map_written(AT, 3);
	to_device(0, AT, 2);
	to_device(1, AT + 2 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTFORK), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DOFORK), 0);
	collect(AT, 3, PRIVATE);
	expect_eq(args.cpages, 2);
	expect_eq(src[0], uhmm_migrate_pfn(pfn_at(f.mm, AT)) | M | W);
	expect_eq(src[1], uhmm_migrate_pfn(pfn_at(f.mm, AT + PAGE)) | M);
	expect_eq(src[2], 0);
	finish();
	collect(AT, 3, SYSTEM);
	expect_eq(args.cpages, 0);
	finish();
	uhmm_mmput(child);
}
END_TEST

START_TEST(other_entries_are_not_collected)
{
	const pte_t entries[] = {
		leaf_make(LEAF_HWPOISON, 5),
		leaf_make(LEAF_MARKER, MARKER_POISONED),
		leaf_make(LEAF_MARKER, MARKER_UFFD_WP),
		leaf_make(LEAF_SWAP, 77),
		leaf_make(LEAF_MIGRATION_WRITE, 1),
	};

	map_fixed(f.mm, AT, 2, RW);
	touch(f.mm, AT + PAGE);
	for (unsigned int i = 0; i < ARRAY_SIZE(entries); i++) {
		store_relaxed(ptep_at(f.mm, AT), entries[i].val);
		collect(AT, 1, SYSTEM | PRIVATE);
		expect_eq(src[0], 0);
		expect_eq(pte_at(f.mm, AT).val, entries[i].val);
		store_relaxed(ptep_at(f.mm, AT), 0);
		finish();
	}
}
END_TEST

START_TEST(folio_locked_by_another)
{
	struct uhmm__frame *frame;
	struct uhmm_task *locker;

	map_written(AT, 2);
	frame = frame_at(f.mm, AT);
	locker = lock_by_another(frame);
	collect(AT, 2, SYSTEM);
	expect_eq(src[0], 0);
	expect(src[1] & M);
	expect(in_ram(f.mm, AT));
	unlock_by_another(locker, frame);
	finish();
	expect_eq(counted(f.m, UHMM_CNT_FAIL_LOCKED), 1);
}
END_TEST

/* An exclusive page that may be pinned gets its entry back at once. */
START_TEST(pinned_page)
{
	struct uhmm__frame *frame;
	pte_t before;

	map_written(AT, 1);
	frame = frame_at(f.mm, AT);
	before = pte_at(f.mm, AT);
	atomic_fetch_add(&frame->refcount, UHMM_PIN_BIAS);
	collect(AT, 1, SYSTEM);
	expect_eq(src[0], 0);
	expect_eq(pte_at(f.mm, AT).val, before.val);
	expect(folio_test(frame, PG_ANON_EXCLUSIVE));
	atomic_fetch_sub(&frame->refcount, UHMM_PIN_BIAS);
	finish();
}
END_TEST

enum kind { WRITABLE, READONLY_EXCLUSIVE, SHARED, NR_KINDS };

/* The entry that takes a page's place says what the page's said, whether that was in RAM or on a device. */
START_TEST(kinds_of_migration_entries)
{
	static const unsigned int types[NR_KINDS] = {
		[WRITABLE] = LEAF_MIGRATION_WRITE,
		[READONLY_EXCLUSIVE] = LEAF_MIGRATION_READ_EXCLUSIVE,
		[SHARED] = LEAF_MIGRATION_READ,
	};
	enum kind kind = (enum kind)(_i % NR_KINDS);
	bool device = _i >= NR_KINDS;
	struct uhmm_mm *child = NULL;
	pte_t was, now;

	map_written(AT, 1);
	if (device)
		to_device(0, AT, 1);
	if (kind == READONLY_EXCLUSIVE)
		expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	else if (kind == SHARED)
		expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	if (child) /* or the page would be put back before the entry is looked at */
		expect_eq(uhmm_munmap(child, AT, PAGE), 0);
	was = pte_at(f.mm, AT);
	collect(AT, 1, device ? PRIVATE : SYSTEM);
	now = pte_at(f.mm, AT);
	expect_eq(leaf_type(now), types[kind]);
	expect(!(src[0] & W) == (kind != WRITABLE));
	if (!device) {
		expect(leaf_offset(now) & LEAF_YOUNG && leaf_offset(now) & LEAF_DIRTY);
		expect(folio_test(pfn_to_frame(f.m, leaf_pfn(now)), PG_DIRTY));
	}
	finish();
	expect_eq(pte_at(f.mm, AT).val, was.val);
	if (child)
		uhmm_mmput(child);
}
END_TEST

START_TEST(one_migrate_event_with_owner)
{
	struct watcher w;

	map_written(AT, 4);
	watch(&w, f.mm, AT, 4);
	collect(AT, 4, SYSTEM);
	expect_eq(w.calls, 1);
	expect_eq(w.events[UHMM_MMU_NOTIFY_MIGRATE], 1);
	expect(w.owner == f.dev[0]);
	expect_eq(w.start, AT);
	expect_eq(w.end, AT + 4 * PAGE);
	finish();
	expect_eq(w.calls, 1);
	unwatch(&w);
}
END_TEST

/* Of pages that are the process's alone each at once, and of all once for the table. */
START_TEST(flushes)
{
	uint64_t pages, ranges;
	struct uhmm_mm *child = NULL;

	map_written(AT, 3);
	if (_i)
		expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	pages = counted(f.m, UHMM_CNT_TLB_FLUSH_PAGE);
	ranges = counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE);
	uhmm_mmap_read_lock(f.mm);
	prepare(AT, 3, SYSTEM);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE) - ranges, 1);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_PAGE) - pages,
		  3); /* shared: the child's, by rmap */
	finish();
	/* Nothing was taken out: nothing to flush. */
	pages = counted(f.m, UHMM_CNT_TLB_FLUSH_PAGE);
	ranges = counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE);
	collect(AT, 3, PRIVATE);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE), ranges);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_PAGE), pages);
	finish();
	if (child)
		uhmm_mmput(child);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("collect");
	TCase *tc = tcase_create("migrate_vma_setup");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, argument_errors);
	tcase_add_test(tc, fault_page_must_be_locked);
	tcase_add_test(tc, ends_are_masked_after_pages_are_counted);
	tcase_add_test(tc, nothing_to_collect_is_success);
	tcase_add_test(tc, empty_entries_regardless_of_select_flags);
	tcase_add_test(tc, hole_of_512_pages_and_more);
	tcase_add_test(tc, zero_page_only_with_system);
	tcase_add_test(tc, present_pages_only_with_system);
	tcase_add_test(tc, prot_none_counts_as_present);
	tcase_add_test(tc, device_pages_of_the_owner_only);
	tcase_add_test(tc, other_entries_are_not_collected);
	tcase_add_test(tc, folio_locked_by_another);
	tcase_add_test(tc, pinned_page);
	tcase_add_loop_test(tc, kinds_of_migration_entries, 0, 2 * NR_KINDS);
	tcase_add_test(tc, one_migrate_event_with_owner);
	tcase_add_loop_test(tc, flushes, 0, 2);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
