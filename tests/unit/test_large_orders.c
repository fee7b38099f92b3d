// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Folios of orders 1 to 8 that are mapped by PTEs: what moves is a page, so they are split on the way, by
 * whichever strategy. No fault maps such; drivers and other kernels' settings do.
 */
#define _GNU_SOURCE
#include "unit/large_folio.h"

enum { MIN_ORDER = 1, MAX_ORDER = 8, STRATEGIES = UHMM_NR_STRATEGIES };

/* A loop over orders, or over these and strategies. */
static unsigned int order, n;
static enum uhmm_strategy strategy;
static struct uhmm__frame *folio;

static void begin(int loop)
{
	order = (unsigned int)(MIN_ORDER + loop / STRATEGIES);
	strategy = (enum uhmm_strategy)(loop % STRATEGIES);
	n = 1U << order;
	folio = map_large(AT, order);
	fixture_verify(&f);
}

static uint64_t device_read(uhmm_vaddr_t addr, uint64_t granularity)
{
	uint64_t word = ~0UL;

	expect_eq(uhmm_mirror_access(f.mirror[0], addr, false, &word, strategy, granularity, NULL),
		  0);
	fixture_verify(&f);
	return word;
}

static void device_write(uhmm_vaddr_t addr, uint64_t word)
{
	expect_eq(uhmm_mirror_access(f.mirror[0], addr, true, &word, strategy, PAGE, NULL), 0);
	fixture_verify(&f);
}

/* Pages [from, to) hold what map_large() wrote; all of them come home by it. */
static void expect_words(struct uhmm_mm *mm, unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++)
		expect_eq(get_word(mm, AT + i * PAGE), i + 1);
	fixture_verify(&f);
}

/* The device wants all of it: every page moves. */
START_TEST(whole)
{
	begin(_i);
	expect_eq(device_read(AT, UHMM_PMD_SIZE), 1);
	for (unsigned int i = 0; i < n; i++)
		expect(on_device(f.mm, AT + i * PAGE));
	/* A CPU's fault brings one home. */
	expect_eq(get_word(f.mm, AT + (n - 1) * PAGE), n);
	expect(!on_device(f.mm, AT + (n - 1) * PAGE) && on_device(f.mm, AT));
	expect_words(f.mm, 0, n);
}
END_TEST

/* Or one page: the others stay in RAM, as pages. */
START_TEST(one_page)
{
	begin(_i);
	device_write(AT + n / 2 * PAGE, 77);
	for (unsigned int i = 0; i < n; i++) {
		expect(on_device(f.mm, AT + i * PAGE) == (i == n / 2));
		expect_eq(folio_order(frame_at(f.mm, AT + i * PAGE)), 0);
	}
	expect_eq(get_word(f.mm, AT + n / 2 * PAGE), 77);
	expect_words(f.mm, 0, n / 2);
	expect_words(f.mm, n / 2 + 1, n);
}
END_TEST

/* Shared after fork: both map what moved, and the writer has a copy. */
START_TEST(shared)
{
	struct uhmm_mm *child;

	begin(_i);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(device_read(AT, PAGE), 1);
	expect(on_device(f.mm, AT) && on_device(child, AT));
	device_write(AT + PAGE, 77);
	expect(on_device(f.mm, AT + PAGE) && in_ram(child, AT + PAGE));
	expect_eq(get_word(child, AT + PAGE), 2);
	expect_eq(get_word(f.mm, AT + PAGE), 77);
	expect_words(child, 0, n);
	uhmm_mmput(child);
	expect_words(f.mm, 2, n);
}
END_TEST

/* A CPU copies one page on write before the device comes. */
START_TEST(copied_on_write)
{
	struct uhmm_mm *child;

	begin(_i);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	put_word(f.mm, AT, 99);
	expect_eq(device_read(AT, UHMM_PMD_SIZE), 99);
	for (unsigned int i = 1; i < n; i++)
		expect(on_device(f.mm, AT + i * PAGE) && on_device(child, AT + i * PAGE));
	expect(in_ram(child, AT));
	expect_words(child, 0, n);
	uhmm_mmput(child);
	expect_words(f.mm, 1, n);
}
END_TEST

/* The first half is unmapped: what is left moves, and nothing is lost or kept. */
START_TEST(unmapped_in_part)
{
	begin(_i);
	expect_eq(uhmm_munmap(f.mm, AT, n / 2 * PAGE), 0);
	fixture_verify(&f);
	expect_eq(device_read(AT + n / 2 * PAGE, UHMM_PMD_SIZE), n / 2 + 1);
	for (unsigned int i = n / 2; i < n; i++)
		expect(on_device(f.mm, AT + i * PAGE));
	expect_words(f.mm, n / 2, n);
}
END_TEST

static uint64_t src[1 << MAX_ORDER], dst[1 << MAX_ORDER];

/* Collect it all, and put it back. Returns: cpages. */
static uint64_t collect(void)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + n * PAGE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_COMPOUND |
			 (strategy == UHMM_COMBINED ? UHMM_MIGRATE_VMA_FAULT : 0),
	};
	uint64_t taken = 0;

	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	for (unsigned int i = 0; i < n; i++) {
		taken += !!(src[i] & UHMM_MIGRATE_PFN_MIGRATE);
		expect(!(src[i] & UHMM_MIGRATE_PFN_COMPOUND));
	}
	expect_eq(taken, args.cpages);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	expect_words(f.mm, 0, n);
	return args.cpages;
}

/* By page, also where huge pages could be had: the folio is not one. */
START_TEST(collected)
{
	begin(_i);
	expect_eq(collect(), n);
	for (unsigned int i = 0; i < n; i++)
		expect_eq(folio_order(frame_at(f.mm, AT + i * PAGE)), 0);
}
END_TEST

/* A pin forbids the split, and so the whole folio to move. */
START_TEST(pinned)
{
	uhmm_pfn_t pin;

	begin(_i);
	expect_eq(uhmm_pin_user_pages(f.mm, AT + PAGE, 1, UHMM_FOLL_WRITE, &pin), 1);
	expect_eq(collect(), 0);
	expect_eq(folio_order(folio), order);
	uhmm_unpin_user_pages(f.m, &pin, 1);
	expect_eq(collect(), n);
}
END_TEST

int main(void)
{
	const int loops = (MAX_ORDER - MIN_ORDER + 1) * STRATEGIES;
	Suite *suite = suite_create("large orders");
	TCase *tc = tcase_create("mapped by PTEs");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_loop_test(tc, whole, 0, loops);
	tcase_add_loop_test(tc, one_page, 0, loops);
	tcase_add_loop_test(tc, shared, 0, loops);
	tcase_add_loop_test(tc, copied_on_write, 0, loops);
	tcase_add_loop_test(tc, unmapped_in_part, 0, loops);
	tcase_add_loop_test(tc, collected, 0, loops);
	tcase_add_loop_test(tc, pinned, 0, loops);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
