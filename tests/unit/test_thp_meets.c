// SPDX-License-Identifier: LGPL-2.1-or-later
/* Huge pages and what else there is: pins, swap, advice, poison, userfaultfd, hints, other spaces. */
#define _GNU_SOURCE
#include <signal.h>

#include <uhmm/exclusive.h>
#include <uhmm/pin.h>
#include <uhmm/special.h>

#include "mm/huge.h"
#include "mm/swap.h"
#include "unit/inside.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { NR = UHMM_PTRS_PER_TABLE };
#define HUGE UHMM_PMD_SIZE

static bool huge_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return pmd_is_leaf(pmd_at(mm, addr));
}

static struct uhmm__frame *huge_folio(void)
{
	expect(huge_at(f.mm, AT));
	return pmd_folio(f.m, pmd_at(f.mm, AT));
}

static void map_huge(void)
{
	map_fixed(f.mm, AT, NR, RW);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_HUGEPAGE), 0);
}

/* Page i holds i + 1, every eighth zeroes. */
static void map_written_huge(void)
{
	map_huge();
	for (unsigned int i = 0; i < NR; i++)
		put_word(f.mm, AT + i * PAGE, i % 8 ? i + 1 : 0);
	expect(huge_at(f.mm, AT));
}

static void expect_written(unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i % 8 ? i + 1 : 0);
}

static void setup_swapping(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .swap_bytes = 16UL << 20 };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
}

static void setup_small(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2,
					      .ram_bytes = 8UL << 20,
					      .swap_bytes = 32UL << 20 };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
}

/* ---- pins ---- */

START_TEST(pinned_as_it_is)
{
	uhmm_pfn_t pages[4];

	map_written_huge();
	expect_eq(uhmm_pin_user_pages(f.mm, AT + 5 * PAGE, 4, UHMM_FOLL_WRITE, pages), 4);
	expect(huge_at(f.mm, AT));
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(pages[i], frame_pfn(f.m, huge_folio()) + 5 + i);
	expect_eq(folio_ref_count(huge_folio()), 1 + 4 * UHMM_PIN_BIAS);
	/* May not be split now, nor move. */
	folio_lock(f.m, huge_folio());
	folio_get(huge_folio());
	expect(uhmm__split_folio(f.m, huge_folio()) < 0);
	folio_unlock(f.m, huge_folio());
	folio_put(f.m, huge_folio());
	uhmm_unpin_user_pages(f.m, pages, 4);
	expect_eq(folio_ref_count(huge_folio()), 1);
}
END_TEST

START_TEST(pin_unshares)
{
	struct uhmm_mm *child;
	uhmm_pfn_t page;

	map_written_huge();
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_pin_user_pages(f.mm, AT + PAGE, 1, 0, &page), 1);
	/* Shared: the page was copied, so the leaf is gone here, and stays there. */
	expect(!huge_at(f.mm, AT));
	expect(huge_at(child, AT));
	expect(page != frame_pfn(f.m, pmd_folio(f.m, pmd_at(child, AT))) + 1);
	uhmm_unpin_user_pages(f.m, &page, 1);
	expect_written(0, NR);
	uhmm_mmput(child);
}
END_TEST

START_TEST(exclusive_splits_the_leaf)
{
	uhmm_pfn_t pfn;

	map_written_huge();
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_make_device_exclusive(f.mm, AT + 9 * PAGE, f.dev[0], &pfn), 0);
	uhmm_mmap_read_unlock(f.mm);
	uhmm_unlock_put_page(f.m, pfn);
	expect(!huge_at(f.mm, AT));
	expect(leaf_is_device_exclusive(pte_at(f.mm, AT + 9 * PAGE)));
	expect_eq(uhmm_page_order(f.m, pfn), 9);
	fixture_verify(&f);
	expect_written(0, NR);
	expect(pte_present(pte_at(f.mm, AT + 9 * PAGE)));
}
END_TEST

/* ---- advice and reclaim ---- */

START_TEST(paged_out_page_by_page)
{
	map_written_huge();
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_PAGEOUT), 0);
	/* Pages of zeroes as well: Linux swaps out the whole. */
	for (unsigned int i = 0; i < NR; i++)
		expect(leaf_is_swap(pte_at(f.mm, AT + i * PAGE)));
	expect_written(0, NR);
}
END_TEST

START_TEST(paged_out_in_part)
{
	map_written_huge();
	expect_eq(uhmm_madvise(f.mm, AT + 9 * PAGE, 3 * PAGE, MADV_PAGEOUT), 0);
	expect(pte_present(pte_at(f.mm, AT + 12 * PAGE)));
	for (unsigned int i = 9; i < 12; i++)
		expect(leaf_is_swap(pte_at(f.mm, AT + i * PAGE)));
	/* Taken apart for that, and zeroes are the zero page's. */
	expect_eq(pte_pfn(pte_at(f.mm, AT + 8 * PAGE)), f.m->zero_pfn);
	expect_written(0, NR);
}
END_TEST

START_TEST(cold_and_free)
{
	map_written_huge();
	expect(pte_young(pmd_at(f.mm, AT)));
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLD), 0);
	expect(huge_at(f.mm, AT) && !pte_young(pmd_at(f.mm, AT)));
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_FREE), 0);
	expect(huge_at(f.mm, AT) && !pte_dirty(pmd_at(f.mm, AT)));
	uhmm__lru_add_drain(f.m);
	expect(!folio_test(huge_folio(), PG_SWAPBACKED));
	expect_written(0, NR);
	put_word(f.mm, AT + PAGE, 2);
	/* In part: apart first. */
	expect_eq(uhmm_madvise(f.mm, AT + 9 * PAGE, PAGE, MADV_FREE), 0);
	expect(!huge_at(f.mm, AT));
	expect(!pte_dirty(pte_at(f.mm, AT + 9 * PAGE)));
	expect_written(0, NR);
}
END_TEST

START_TEST(reclaimed)
{
	const unsigned int nr = 6;

	/* RAM for three, of which one block is the zero page's. */
	map_fixed(f.mm, AT, nr * NR, RW);
	expect_eq(uhmm_madvise(f.mm, AT, nr * HUGE, MADV_HUGEPAGE), 0);
	for (unsigned int i = 0; i < nr * NR; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	for (unsigned int i = 0; i < nr * NR; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

START_TEST(guard_region)
{
	map_written_huge();
	expect_eq(uhmm_madvise(f.mm, AT + 8 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL), 0);
	expect(leaf_is_marker(pte_at(f.mm, AT + 8 * PAGE), MARKER_GUARD));
	expect_written(0, 8);
	expect_written(10, NR - 10);
	/* Markers stay when pages go, and so does their table. */
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_DONTNEED), 0);
	expect(entry_is_table(pmd_at(f.mm, AT)));
	expect(leaf_is_marker(pte_at(f.mm, AT + 9 * PAGE), MARKER_GUARD));
	expect_eq(uhmm_cpu_read(f.mm, AT + 9 * PAGE, NULL, 1, NULL), SIGSEGV);
}
END_TEST

/* ---- the rest ---- */

START_TEST(poisoned)
{
	uhmm_pfn_t pfn;

	map_written_huge();
	pfn = frame_pfn(f.m, huge_folio()) + 3;
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect(!huge_at(f.mm, AT));
	expect_eq(uhmm_cpu_read(f.mm, AT + 3 * PAGE, NULL, 1, NULL), SIGBUS);
	expect_written(0, 3);
	expect_written(4, NR - 4);
	fixture_verify(&f);
}
END_TEST

START_TEST(numa_hint)
{
	map_written_huge();
	expect_eq(uhmm_change_prot_numa(f.mm, AT, HUGE), NR);
	expect(huge_at(f.mm, AT) && pte_protnone(pmd_at(f.mm, AT)));
	put_word(f.mm, AT + PAGE, 2);
	expect(huge_at(f.mm, AT) && pte_write(pmd_at(f.mm, AT)));
	expect_written(0, NR);
}
END_TEST

static unsigned int reason_seen;

static bool resolve(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	static const uint8_t page[UHMM_PAGE_SIZE];

	(void)data;
	reason_seen = reason;
	if (reason == UHMM_UFFD_WP)
		return !uhmm_uffd_writeprotect(mm, AT, HUGE, false);
	return !uhmm_uffd_copy(mm, addr, page, false);
}

START_TEST(userfaultfd)
{
	map_written_huge();
	uhmm_uffd_set_handler(f.mm, resolve, NULL);
	expect_eq(uhmm_uffd_register(f.mm, AT, HUGE, UHMM_UFFD_WP | UHMM_UFFD_MISSING), 0);
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT, HUGE, true), 0);
	expect(huge_at(f.mm, AT) && pmd_at(f.mm, AT).val & PTE_UFFD_WP);
	put_word(f.mm, AT + PAGE, 2);
	expect_eq(reason_seen, UHMM_UFFD_WP);
	expect(huge_at(f.mm, AT) && !(pmd_at(f.mm, AT).val & PTE_UFFD_WP));
	expect_written(0, NR);
	/* Where nothing is it wants to be asked, page by page. */
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_DONTNEED), 0);
	put_word(f.mm, AT + 5 * PAGE, 7);
	expect_eq(reason_seen, UHMM_UFFD_MISSING);
	expect(!huge_at(f.mm, AT));
	expect(pte_none(pte_at(f.mm, AT + 6 * PAGE)));
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), -EINVAL);
}
END_TEST

/* What others map stays on the LRU when a collapse has copied it. */
START_TEST(collapse_of_shared_pages)
{
	struct uhmm_mm *child;
	struct uhmm__frame *old;

	map_fixed(f.mm, AT, NR, RW);
	for (unsigned int i = 0; i < NR; i++)
		put_word(f.mm, AT + i * PAGE, i % 8 ? i + 1 : 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	old = frame_at(f.mm, AT + PAGE);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), 0);
	expect(huge_at(f.mm, AT));
	expect(folio_test(old, PG_LRU));
	fixture_verify(&f);
	expect_written(0, NR);
	uhmm_mmput(child);
}
END_TEST

/*
 * A hole that is collected becomes one folio, whatever the setting; pages that were mapped before become as
 * many. The two read the same, and each has one mapping a page: their orders tell them apart.
 */
START_TEST(compared_by_order)
{
	struct fixture whole = f;
	uint64_t word = 0;

	map_fixed(f.mm, AT, NR, RW);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, false, &word, UHMM_COMBINED, HUGE, NULL), 0);
	expect(huge_at(f.mm, AT));
	uhmm_task_leave();
	setup_fixture();
	map_fixed(f.mm, AT, NR, RW);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, false, &word, UHMM_FAULT_THEN_MIGRATE, HUGE,
				     NULL),
		  0);
	expect(!huge_at(f.mm, AT) && on_device(f.mm, AT));
	expect_eq(uhmm_machine_compare(whole.m, f.m, UHMM_COMPARE_STATE, NULL, NULL), NR);
	expect_eq(uhmm_machine_compare(whole.m, f.m, UHMM_COMPARE_STATE_BUT_HOLES, NULL, NULL), 0);
	teardown_fixture();
	f = whole;
	uhmm_task_enter(f.task);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("thp_meets");
	TCase *tc;

	tc = tcase_create("with devices");
	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, pinned_as_it_is);
	tcase_add_test(tc, pin_unshares);
	tcase_add_test(tc, exclusive_splits_the_leaf);
	tcase_add_test(tc, guard_region);
	tcase_add_test(tc, poisoned);
	tcase_add_test(tc, numa_hint);
	tcase_add_test(tc, userfaultfd);
	tcase_add_test(tc, collapse_of_shared_pages);
	tcase_add_test(tc, compared_by_order);
	suite_add_tcase(suite, tc);
	tc = tcase_create("swapping");
	tcase_add_checked_fixture(tc, setup_swapping, teardown_fixture);
	tcase_add_test(tc, paged_out_page_by_page);
	tcase_add_test(tc, paged_out_in_part);
	tcase_add_test(tc, cold_and_free);
	suite_add_tcase(suite, tc);
	tc = tcase_create("little RAM");
	tcase_add_checked_fixture(tc, setup_small, teardown_fixture);
	tcase_add_test(tc, reclaimed);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
