// SPDX-License-Identifier: LGPL-2.1-or-later
/* test_replay_huge.c - the player and huge pages: settings, advice, hugetlb, and comparing them. */
#include <stdlib.h>
#include <sys/mman.h>

#include "unit/replay_support.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_AT 0x40000000UL
#define HUGE_PAGES 512UL

static int64_t compare(struct play y[2], enum uhmm_compare what)
{
	return uhmm_machine_compare(uhmm_player_machine(y[0].p), uhmm_player_machine(y[1].p), what,
				    NULL, NULL);
}

START_TEST(test_huge)
{
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, HUGE_AT, 3 * HUGE_PAGES, RW, 0, 0);
	fault(&y, HUGE_AT, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_HUGE), 0);
	ck_assert(!present(&y, 1, HUGE_AT + PAGE));
	advise(&y, HUGE_AT, 3 * HUGE_PAGES, MADV_HUGEPAGE);
	fault(&y, HUGE_AT + UHMM_PMD_SIZE + 7 * PAGE, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_HUGE), 1);
	ck_assert(present(&y, 1, HUGE_AT + 2 * UHMM_PMD_SIZE - PAGE));
	/* That the real machine faulted again is a difference, with its reason, split or not. */
	fault(&y, HUGE_AT + UHMM_PMD_SIZE, WRITE);
	ck_assert_uint_eq(agreement(&y).missed[UHMM_REPLAY_MISS_HUGE], 1);
	protect(&y, HUGE_AT + UHMM_PMD_SIZE, 1, UHMM_TRACE_PROT_READ);
	fault(&y, HUGE_AT + UHMM_PMD_SIZE + PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).missed[UHMM_REPLAY_MISS_HUGE], 2);
	advise(&y, HUGE_AT + 2 * UHMM_PMD_SIZE, HUGE_PAGES, MADV_NOHUGEPAGE);
	fault(&y, HUGE_AT + 2 * UHMM_PMD_SIZE, WRITE);
	fault(&y, HUGE_AT + 2 * UHMM_PMD_SIZE + PAGE, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_HUGE), 1);
	advise(&y, HUGE_AT, HUGE_PAGES, MADV_COLLAPSE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_COLLAPSE), 1);
	fault(&y, HUGE_AT + PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).missed[UHMM_REPLAY_MISS_HUGE], 3);
	ck_assert_uint_eq(agreement(&y).agreed, 4);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_REFUSED), 0);
	end(&y);
}
END_TEST

/* The setting against the advice. A thread's stack is asked for as one, and stays small. */
START_TEST(test_thp_setting)
{
	static const struct {
		enum uhmm_thp thp;
		unsigned int plain, advised, stack;
	} want[] = {
		{ UHMM_THP_MADVISE, 0, 1, 0 },
		{ UHMM_THP_ALWAYS, 1, 1, 0 },
		{ UHMM_THP_NEVER, 0, 0, 0 },
	};
	struct uhmm_player_config config = { .thp = want[_i].thp };
	uint64_t huge;
	struct play y;

	begin_with(&y, &config);
	mm_new(&y, 1, 0);
	map(&y, HUGE_AT, HUGE_PAGES, RW, 0, 0);
	fault(&y, HUGE_AT, WRITE);
	huge = counter(&y, UHMM_CNT_FAULT_HUGE);
	ck_assert_uint_eq(huge, want[_i].plain);
	map(&y, HUGE_AT + 0x10000000, HUGE_PAGES, RW, 0, 0);
	advise(&y, HUGE_AT + 0x10000000, HUGE_PAGES, MADV_HUGEPAGE);
	fault(&y, HUGE_AT + 0x10000000, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_HUGE) - huge, want[_i].advised);
	huge = counter(&y, UHMM_CNT_FAULT_HUGE);
	map(&y, HUGE_AT + 0x20000000, HUGE_PAGES, RW, UHMM_TRACE_MAP_STACK, 0);
	fault(&y, HUGE_AT + 0x20000000, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_HUGE) - huge, want[_i].stack);
	ck_assert_uint_eq(agreement(&y).agreed, 3);
	end(&y);
}
END_TEST

/* Two machines of which one maps a huge page for what is a single one in the other. */
START_TEST(test_untouched)
{
	struct uhmm_player_config small = { .thp = UHMM_THP_NEVER };
	struct play y[2];

	begin(&y[0]);
	begin_with(&y[1], &small);
	for (int i = 0; i < 2; i++) {
		mm_new(&y[i], 1, 0);
		map(&y[i], AT, 1, RW, 0, 0);
		map(&y[i], HUGE_AT, HUGE_PAGES, RW, 0, 0);
		advise(&y[i], HUGE_AT, HUGE_PAGES, MADV_HUGEPAGE);
		fault(&y[i], HUGE_AT + PAGE, WRITE);
	}
	ck_assert_int_eq(compare(y, UHMM_COMPARE_STATE_BUT_HOLES), HUGE_PAGES - 1);
	ck_assert_int_eq(compare(y, UHMM_COMPARE_STATE_BUT_UNTOUCHED), 0);
	/* What was written to is not untouched, nor is what no huge page can have brought. */
	fault(&y[0], HUGE_AT + 5 * PAGE, WRITE);
	ck_assert_int_eq(compare(y, UHMM_COMPARE_STATE_BUT_UNTOUCHED), 1);
	fault(&y[0], AT, READ);
	ck_assert_int_eq(compare(y, UHMM_COMPARE_STATE_BUT_UNTOUCHED), 2);
	end(&y[0]);
	end(&y[1]);
}
END_TEST

/* Private hugetlb memory is huge without advice, and no business of the device. */
START_TEST(test_hugetlb)
{
	struct uhmm_player_config config = { .offload.kind = UHMM_OFFLOAD_ALL };
	struct play y;

	begin_with(&y, &config);
	mm_new(&y, 1, 0);
	map(&y, HUGE_AT, 2 * HUGE_PAGES, RW, UHMM_TRACE_MAP_HUGETLB, 0);
	PLAY(&y, .kind = UHMM_TRACE_OBJ, .obj = { .id = 1, .kind = UHMM_TRACE_OBJ_HUGETLB });
	map(&y, HUGE_AT + UHMM_PMD_SIZE, HUGE_PAGES, RW, UHMM_TRACE_MAP_HUGETLB, 1);
	fault(&y, HUGE_AT, WRITE);
	fault(&y, HUGE_AT + UHMM_PMD_SIZE, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_HUGE), 2);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_AS_HUGETLB), 2);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_FILE_ACCESSES), 0);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_DEVICE_ACCESSES), 0);
	ck_assert_uint_eq(agreement(&y).agreed, 2);
	end(&y);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("replay_huge");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_huge);
	tcase_add_loop_test(tc, test_thp_setting, 0, 3);
	tcase_add_test(tc, test_untouched);
	tcase_add_test(tc, test_hugetlb);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
