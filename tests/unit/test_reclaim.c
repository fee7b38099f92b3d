// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reclaim: advice about pages that are not needed, and memory that gets short. */
#define _GNU_SOURCE
#include "unit/swap_world.h"

/* ---- MADV_COLD, MADV_FREE ---- */

START_TEST(cold)
{
	map_written(AT, 2);
	uhmm__lru_add_drain(f.m);
	folio_set(frame_at(f.mm, AT), PG_ACTIVE);
	folio_set(frame_at(f.mm, AT), PG_REFERENCED);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_COLD), 0);
	expect(!pte_young(pte_at(f.mm, AT)) && pte_dirty(pte_at(f.mm, AT)));
	expect(!folio_test(frame_at(f.mm, AT), PG_ACTIVE));
	expect(!folio_test(frame_at(f.mm, AT), PG_REFERENCED));
	expect(pte_young(pte_at(f.mm, AT + PAGE)));
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(lazyfree)
{
	map_written(AT, 3);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_FREE), 0);
	fixture_verify(&f);
	/* Until somebody needs the memory it is as if nothing had been said. */
	expect_eq(get_word(f.mm, AT), 1);
	put_word(f.mm, AT + PAGE, 22);
	pageout(f.mm, AT, 3);
	expect_eq(counted(f.m, UHMM_CNT_LAZYFREED), 2);
	expect(pte_none(pte_at(f.mm, AT)));
	expect_eq(get_word(f.mm, AT), 0);
	/* What was written since is kept: it must be swapped out from now on. */
	expect_eq(get_word(f.mm, AT + PAGE), 22);
	expect(folio_test(frame_at(f.mm, AT + PAGE), PG_SWAPBACKED));
}
END_TEST

/* Given up pages stay given up where they go. */
START_TEST(lazyfree_migrates)
{
	map_written(AT, 2);
	expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_FREE), 0);
	to_device(0, AT, 1);
	expect_eq(get_word(f.mm, AT), 1);
	expect(!folio_test(frame_at(f.mm, AT), PG_SWAPBACKED));
	fixture_verify(&f);
}
END_TEST

static unsigned int nr_found;
static uint32_t found[1024];

/* As who looks at frames by number, as reclaim does: a reference to each that is in use. */
static bool find_all(struct uhmm_mmu_interval_notifier *mni,
		     const struct uhmm_mmu_notifier_range *range uhmm_unused, unsigned long seq)
{
	uhmm_pfn_t pfn, end;

	uhmm_mmu_interval_set_seq(mni, seq);
	uhmm__frames_range(f.m, &pfn, &end);
	for (nr_found = 0; pfn < end && nr_found < ARRAY_SIZE(found); pfn++) {
		if (folio_try_get(pfn_to_frame(f.m, pfn)))
			found[nr_found++] = (uint32_t)pfn;
	}
	return true;
}

/* A fault has allocated a page and has not mapped it: the reference of who finds it is not lost. */
START_TEST(a_new_page_is_found_by_number)
{
	static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = find_all };
	struct uhmm_mmu_interval_notifier *mni;

	map_written(AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, PAGE, &ops, NULL, &mni), 0);
	put_word(f.mm, AT, 2);
	uhmm_mmu_interval_notifier_remove(mni);
	expect(nr_found > 0 && nr_found < ARRAY_SIZE(found));
	while (nr_found)
		folio_put(f.m, pfn_to_frame(f.m, found[--nr_found]));
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 2);
}
END_TEST

/* A page that reclaim has isolated breaks. */
START_TEST(broken_pages_leave_the_lru)
{
	struct uhmm__frame *frame;
	uint32_t index;

	map_written(AT, 1);
	frame = frame_at(f.mm, AT);
	index = frame_index(f.m, frame);
	uhmm__lru_add_drain_all(f.m);
	folio_get(frame);
	expect(uhmm__folio_isolate_lru(frame));
	expect_eq(uhmm_memory_failure(f.m, pfn_at(f.mm, AT)), 0);
	uhmm__reclaim_pages(f.m, &index, 1);
	uhmm__lru_add_drain_all(f.m);
	expect(!folio_test(frame, PG_LRU));
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_HWPOISON);
	fixture_verify(&f);
}
END_TEST

/* ---- memory gets short ---- */

START_TEST(more_than_ram)
{
	const unsigned int n = 2000;

	map_written(AT, n);
	expect(counted(f.m, UHMM_CNT_SWAP_OUT) >= n - 512);
	fixture_verify(&f);
	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < n; i++)
			expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
	fixture_verify(&f);
}
END_TEST

/* What is used again and again stays, what is not goes. */
START_TEST(second_chance)
{
	uint64_t in = 0;

	map_written(AT, 100);
	for (unsigned int i = 0; i < 2000; i++) {
		/* At first nobody has been seen twice, and anybody may go. */
		if (i == 1000)
			in = counted(f.m, UHMM_CNT_SWAP_IN);
		map_fixed(f.mm, ELSEWHERE + i * PAGE, 1, RW);
		put_word(f.mm, ELSEWHERE + i * PAGE, i);
		for (unsigned int k = 0; k < 100; k++)
			expect_eq(get_word(f.mm, AT + k * PAGE), k + 1);
	}
	in = counted(f.m, UHMM_CNT_SWAP_IN) - in;
	ck_assert_msg(in < 20, "%u", (unsigned int)in);
}
END_TEST

/* The device's way home needs RAM, too. */
START_TEST(device_pages_need_ram)
{
	map_written(AT, 256);
	to_device(0, AT, 256);
	map_written(ELSEWHERE, 480);
	for (unsigned int i = 0; i < 256; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	for (unsigned int i = 0; i < 480; i++)
		expect_eq(get_word(f.mm, ELSEWHERE + i * PAGE), i + 1);
	fixture_verify(&f);
}
END_TEST

static unsigned int fill_all(unsigned int n)
{
	uint64_t word = 1;

	map_fixed(f.mm, AT, n, RW);
	for (unsigned int i = 0; i < n; i++) {
		int err = uhmm_cpu_write(f.mm, AT + i * PAGE, &word, sizeof(word), NULL);

		if (!err)
			continue;
		expect_eq(err, -ENOMEM);
		return i;
	}
	return n;
}

START_TEST(out_of_memory)
{
	unsigned int n = fill_all(4000), ram = 512 - 2; /* 512 frames, 2048 slots */

	ck_assert_msg(n >= ram + 2048 && n <= 512 + 2048, "%u", n);
	expect(counted(f.m, UHMM_CNT_FAULT_OOM) > 0);
	fixture_verify(&f);
	/* Neither a page that is in swap has room. */
	expect_eq(uhmm_munmap(f.mm, AT + (n - 4) * PAGE, 4 * PAGE), 0);
	expect_eq(get_word(f.mm, AT), 1);
	fixture_verify(&f);
}
END_TEST

START_TEST(no_swap)
{
	unsigned int n = fill_all(600);

	ck_assert_msg(n == 512, "%u", n);
	expect_eq(counted(f.m, UHMM_CNT_RECLAIM), 0);
	/* Without swap only what was given up can be reclaimed. */
	expect_eq(uhmm_madvise(f.mm, AT, 100 * PAGE, MADV_PAGEOUT), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 100 * PAGE, MADV_FREE), 0);
	put_word(f.mm, AT, 5);
	put_word(f.mm, AT + 550 * PAGE, 6);
	expect(counted(f.m, UHMM_CNT_LAZYFREED) > 0);
	expect_eq(get_word(f.mm, AT), 5);
	expect_eq(get_word(f.mm, AT + 550 * PAGE), 6);
	fixture_verify(&f);
}
END_TEST

static void add_common(TCase *tc)
{
	tcase_add_test(tc, cold);
	tcase_add_test(tc, lazyfree);
	tcase_add_test(tc, lazyfree_migrates);
	tcase_add_test(tc, broken_pages_leave_the_lru);
	tcase_add_test(tc, a_new_page_is_found_by_number);
}

static Suite *suite(void)
{
	Suite *s = suite_create("reclaim");
	TCase *tc = tcase_create("RAM disk");

	tcase_add_checked_fixture(tc, setup_ram_disk, teardown);
	add_common(tc);
	suite_add_tcase(s, tc);
	tc = tcase_create("disk");
	tcase_add_checked_fixture(tc, setup_disk, teardown);
	add_common(tc);
	suite_add_tcase(s, tc);
	tc = tcase_create("little RAM");
	tcase_add_checked_fixture(tc, setup_small, teardown);
	tcase_add_test(tc, more_than_ram);
	tcase_add_test(tc, second_chance);
	tcase_add_test(tc, device_pages_need_ram);
	tcase_add_test(tc, out_of_memory);
	suite_add_tcase(s, tc);
	tc = tcase_create("no swap");
	tcase_add_checked_fixture(tc, setup_none, teardown);
	tcase_add_test(tc, no_swap);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
