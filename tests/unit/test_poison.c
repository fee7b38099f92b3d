// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages of RAM that are broken: what is left of them to CPUs, devices and migrations. */
#define _GNU_SOURCE
#include "unit/device.h"

#define SYSTEM UHMM_MIGRATE_VMA_SELECT_SYSTEM

static int cpu_read(uhmm_vaddr_t addr)
{
	return uhmm_cpu_read(f.mm, addr, NULL, 1, NULL);
}

static int cpu_write(uhmm_vaddr_t addr)
{
	return uhmm_cpu_write(f.mm, addr, NULL, 1, NULL);
}

START_TEST(poisoned_page)
{
	struct uhmm_mm *child;
	uhmm_pfn_t pfn;

	map_written(AT, 3);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	pfn = pfn_at(f.mm, AT);
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EHWPOISON);
	fixture_verify(&f);
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_HWPOISON);
	expect_eq(leaf_type(pte_at(child, AT)), LEAF_HWPOISON);
	expect_eq(cpu_read(AT), SIGBUS);
	expect_eq(cpu_write(AT), SIGBUS);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	/* To a device it is nothing, unless it asks; then there is no fault to try. */
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], 0);
	expect_eq(walk(AT, 1, FAULT), -EFAULT);
	expect_eq(walk(AT, 1, WRITE), -EFAULT);
	expect_eq(snapshot(0, AT), UHMM_PROT_NONE);
	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, 0, pfns), -EFAULT);
	expect_eq(collected(AT, 2, SYSTEM, f.dev[0]), 1);
	expect_eq(mpfns[0], 0);
	/* fork takes the entry along, dropping it makes room for another page. */
	uhmm_mmput(child);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_read(child, AT, NULL, 1, NULL), SIGBUS);
	uhmm_mmput(child);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	put_word(f.mm, AT, 9);
	expect(pfn_at(f.mm, AT) != pfn);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 1);
}
END_TEST

START_TEST(poison_by_madvise)
{
	uhmm_pfn_t pfn;

	map_written(AT, 6);
	pfn = pfn_at(f.mm, AT + PAGE);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, 2 * PAGE, MADV_HWPOISON), 0);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(cpu_read(AT + PAGE), SIGBUS);
	expect_eq(cpu_write(AT + 2 * PAGE), SIGBUS);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 1);
	/* It comes home first. */
	to_device(0, AT + 4 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT + 4 * PAGE, PAGE, MADV_HWPOISON), 0);
	expect_eq(cpu_read(AT + 4 * PAGE), SIGBUS);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_HWPOISON), -EFAULT);
	expect_eq(uhmm_madvise(f.mm, AT + 16 * PAGE, PAGE, MADV_HWPOISON), -EFAULT);
	map_fixed(f.mm, AT + 6 * PAGE, 1, RW);
	expect_eq(uhmm_madvise(f.mm, AT + 5 * PAGE, 2 * PAGE, MADV_HWPOISON),
		  -EBUSY); /* zero page */
	expect_eq(cpu_read(AT + 5 * PAGE), SIGBUS);
	expect_eq(cpu_read(AT + 6 * PAGE), 0);
}
END_TEST

START_TEST(poison_what_cannot_be)
{
	map_written(AT, 2);
	to_device(0, AT, 1);
	expect_eq(uhmm_memory_failure(f.m, pfn_at(f.mm, AT)), -ENXIO);
	expect_eq(uhmm_memory_failure(f.m, f.m->zero_pfn), -EBUSY);
	expect_eq(uhmm_memory_failure(f.m, f.m->ram_frames - 1), -EBUSY);
	expect_eq(uhmm_memory_failure(f.m, f.m->end_pfn), -ENXIO);
}
END_TEST

START_TEST(poison_an_exclusive_page)
{
	map_written(AT, 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_EXCLUSIVE, AT, 1, words, NULL), 0);
	expect_eq(uhmm_memory_failure(f.m, pfn_at(f.mm, AT)), 0);
	expect_eq(cpu_read(AT), SIGBUS);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 1, NULL, NULL), 0);
}
END_TEST

/* It cannot be split for the page's sake, and is as before afterwards. */
START_TEST(poison_in_a_pinned_huge_page)
{
	uhmm_pfn_t pfn;

	map_fixed(f.mm, AT, UHMM_PTRS_PER_TABLE, RW);
	expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, AT + 7 * PAGE, 8);
	expect_eq(uhmm_pin_user_pages(f.mm, AT + PAGE, 1, 0, pfns), 1);
	pfn = pfns[0] + 6;
	expect_eq(uhmm_memory_failure(f.m, pfn), -EBUSY);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EBUSY);
	expect_eq(uhmm_madvise(f.mm, AT + 7 * PAGE, PAGE, MADV_HWPOISON), -EBUSY);
	expect(!folio_test(pfn_to_frame(f.m, pfn), PG_HWPOISON));
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT + 7 * PAGE), 8);
	uhmm_unpin_user_pages(f.m, pfns, 1);
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect_eq(cpu_read(AT + 7 * PAGE), SIGBUS);
	expect_eq(cpu_read(AT + 6 * PAGE), 0);
	fixture_verify(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("poison");
	TCase *tc = tcase_create("memory failure");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, poisoned_page);
	tcase_add_test(tc, poison_by_madvise);
	tcase_add_test(tc, poison_what_cannot_be);
	tcase_add_test(tc, poison_an_exclusive_page);
	tcase_add_test(tc, poison_in_a_pinned_huge_page);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
