// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages in the swap cache that are broken: whether the slot still has what they held. */
#define _GNU_SOURCE
#include "unit/swap_world.h"

static int cpu_read(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return uhmm_cpu_read(mm, addr, NULL, 1, NULL);
}

/* Written, swapped out, and read back: clean, with a slot. Returns: the page. */
static uhmm_pfn_t swapped_in(bool forked)
{
	map_written(AT, 2);
	pageout(f.mm, AT, 1);
	if (forked)
		fork_child();
	touch(f.mm, AT);
	if (forked)
		touch(child, AT);
	expect(cached(AT));
	return pfn_at(f.mm, AT);
}

START_TEST(clean_page_is_read_again)
{
	uhmm_pfn_t pfn = swapped_in(true);

	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EHWPOISON);
	fixture_verify(&f);
	expect(swapped(f.mm, AT) && swapped(child, AT));
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 1);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(child, AT), 1);
	expect(pfn_at(f.mm, AT) != pfn);
}
END_TEST

START_TEST(dirty_page_is_lost)
{
	uhmm_pfn_t pfn = swapped_in(false);

	put_word(f.mm, AT, 5);
	expect(cached(AT));
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_HWPOISON), 0);
	fixture_verify(&f);
	expect(swapped(f.mm, AT) && exclusive_entry(f.mm, AT));
	expect_eq(cpu_read(f.mm, AT), SIGBUS);
	expect_eq(uhmm_cpu_write(f.mm, AT, NULL, 1, NULL), SIGBUS);
	fork_child();
	expect_eq(cpu_read(child, AT), SIGBUS);
	expect_eq(uhmm_pin_user_pages(child, AT, 1, 0, &(uhmm_pfn_t){ 0 }), -EFAULT);
	/* The last entry takes the slot along, but the page is nobody's. */
	uhmm_mmput(child);
	child = NULL;
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	fixture_verify(&f);
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 1);
	expect_eq(get_word(f.mm, AT), 0);
}
END_TEST

/* Nobody maps it: it came in for a process that has gone, and another still has the slot. */
START_TEST(page_without_a_mapping)
{
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	pageout(f.mm, AT, 1);
	fork_child();
	touch(child, AT);
	pfn = pfn_at(child, AT);
	expect_eq(uhmm_madvise(child, AT, PAGE, MADV_DONTNEED), 0);
	fixture_verify(&f);
	expect(folio_test(pfn_to_frame(f.m, pfn), PG_SWAPCACHE));
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 1);
	expect(pfn_at(f.mm, AT) != pfn);
}
END_TEST

/* Who locked it in memory has it taken away all the same. */
START_TEST(locked_in_memory)
{
	uhmm_pfn_t pfn = swapped_in(false);

	uhmm_vma_lookup(f.mm, AT)->flags |= UHMM_VM_LOCKED;
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect(swapped(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(referenced_by_others)
{
	uhmm_pfn_t pfn = swapped_in(false), got;

	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, 0, &got), 1);
	expect_eq(got, pfn);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EBUSY);
	expect_eq(get_word(f.mm, AT), 1);
	expect(pfn_at(f.mm, AT) != pfn);
	uhmm_put_user_pages(f.m, &got, 1);
	fixture_verify(&f);
}
END_TEST

/* A pin keeps its entry where it is, and the page stays. */
START_TEST(pinned)
{
	uhmm_pfn_t pfn = swapped_in(false), got;

	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, 0, &got), 1);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EBUSY);
	fixture_verify(&f);
	expect_eq(pfn_at(f.mm, AT), pfn);
	expect_eq(get_word(f.mm, AT), 1);
	uhmm_unpin_user_pages(f.m, &got, 1);
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect(swapped(f.mm, AT));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("poison and swap");
	TCase *tc = tcase_create("swap cache");

	tcase_add_checked_fixture(tc, setup_disk, teardown);
	tcase_add_test(tc, clean_page_is_read_again);
	tcase_add_test(tc, dirty_page_is_lost);
	tcase_add_test(tc, page_without_a_mapping);
	tcase_add_test(tc, locked_in_memory);
	tcase_add_test(tc, referenced_by_others);
	tcase_add_test(tc, pinned);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
