// SPDX-License-Identifier: LGPL-2.1-or-later
/* Huge pages of processes: faults, splits of PMDs and of folios, what system calls do to them. */
#define _GNU_SOURCE
#include "mm/huge.h"
#include "unit/inside.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { NR = UHMM_PTRS_PER_TABLE };
#define HUGE UHMM_PMD_SIZE

static struct uhmm_machine *m;

static void setup(void)
{
	setup_fixture();
	m = f.m;
}

static bool huge_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return pmd_is_leaf(pmd_at(mm, addr));
}

static struct uhmm__frame *folio_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	pte_t pmd = pmd_at(mm, addr);

	return pmd_is_leaf(pmd) ? pmd_folio(m, pmd) : page_folio(frame_at(mm, addr));
}

/* @n huge pages' worth of address space that wants them. */
static void map_huge(uhmm_vaddr_t addr, unsigned int n)
{
	map_fixed(f.mm, addr, n * NR, RW);
	expect_eq(uhmm_madvise(f.mm, addr, n * HUGE, MADV_HUGEPAGE), 0);
}

/* Written: page i holds i + 1. */
static struct uhmm__frame *map_huge_written(uhmm_vaddr_t addr)
{
	map_huge(addr, 1);
	for (unsigned int i = 0; i < NR; i++)
		put_word(f.mm, addr + i * PAGE, i + 1);
	expect(huge_at(f.mm, addr));
	return folio_at(f.mm, addr);
}

static void expect_written(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int first,
			   unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		expect_eq(get_word(mm, addr + i * PAGE), i + 1);
}

/* ---- faults ---- */

START_TEST(write_maps_a_huge_page)
{
	struct uhmm__frame *folio;

	map_huge(AT, 1);
	put_word(f.mm, AT + 7 * PAGE, 8);
	expect(huge_at(f.mm, AT));
	folio = folio_at(f.mm, AT);
	expect_eq(folio_order(folio), 9);
	expect_eq(folio_mapcount(folio), 1);
	expect_eq(folio_entire_mapcount(folio), 1);
	/* On the LRU at once, without a batch's reference. */
	expect_eq(folio_ref_count(folio), 1);
	expect(folio_test(folio, PG_LRU));
	expect_eq(counted(m, UHMM_CNT_FAULT_HUGE), 1);
	expect_eq(get_word(f.mm, AT + 8 * PAGE), 0);
	expect_eq(counted(m, UHMM_CNT_FAULT_ANON_WRITE), 1);
}
END_TEST

START_TEST(read_maps_the_huge_zero_page)
{
	map_huge(AT, 2);
	touch(f.mm, AT + 3 * PAGE);
	touch(f.mm, AT + HUGE);
	expect(is_huge_zero_pmd(m, pmd_at(f.mm, AT)));
	expect(pte_same(pmd_at(f.mm, AT), pte_clear_bits(pmd_at(f.mm, AT + HUGE), 0)));
	expect(!(pagemap_of(f.mm, AT) & UHMM_PM_MMAP_EXCLUSIVE));
	expect(pagemap_of(f.mm, AT) & UHMM_PM_PRESENT);
	/* A write gives a page of its own. */
	put_word(f.mm, AT + PAGE, 5);
	expect(huge_at(f.mm, AT) && !is_huge_zero_pmd(m, pmd_at(f.mm, AT)));
	expect(pagemap_of(f.mm, AT) & UHMM_PM_MMAP_EXCLUSIVE);
	expect_eq(get_word(f.mm, AT + PAGE), 5);
	/* A part of it is split without a page. */
	expect_eq(uhmm_munmap(f.mm, AT + HUGE + PAGE, PAGE), 0);
	expect(!huge_at(f.mm, AT + HUGE));
	expect(is_zero_page(f.mm, AT + HUGE));
}
END_TEST

/* Who wants huge pages, by advice and by the machine's setting. */
START_TEST(where_faults_map_huge_pages)
{
	static const struct {
		enum uhmm_thp thp;
		int advice; /* 0: none */
		bool huge;
	} cases[] = {
		{ UHMM_THP_MADVISE, 0, false },
		{ UHMM_THP_MADVISE, MADV_HUGEPAGE, true },
		{ UHMM_THP_ALWAYS, 0, true },
		{ UHMM_THP_ALWAYS, MADV_NOHUGEPAGE, false },
		{ UHMM_THP_NEVER, MADV_HUGEPAGE, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct uhmm_machine_config config = { .nr_cpus = 2, .thp = cases[i].thp };

		teardown_fixture();
		fixture_create(&f, config);
		m = f.m;
		map_fixed(f.mm, AT, NR, RW);
		if (cases[i].advice)
			expect_eq(uhmm_madvise(f.mm, AT, HUGE, cases[i].advice), 0);
		put_word(f.mm, AT, 1);
		expect_eq(huge_at(f.mm, AT), cases[i].huge);
	}
}
END_TEST

START_TEST(only_where_the_vma_has_room)
{
	map_huge(AT + PAGE, 1); /* in none of the two parts is all of it */
	put_word(f.mm, AT + PAGE, 1);
	put_word(f.mm, AT + HUGE, 2);
	expect(!huge_at(f.mm, AT) && !huge_at(f.mm, AT + HUGE));
}
END_TEST

START_TEST(without_memory_for_it_pages_come)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .ram_bytes = 3 * UHMM_PMD_SIZE };

	teardown_fixture();
	fixture_create(&f, config);
	m = f.m;
	map_huge(AT, 3);
	put_word(f.mm, AT, 1);
	expect(huge_at(f.mm, AT));
	expect_eq(uhmm_machine_inject(m, UHMM_INJECT_FRAME, 1, 1), 0);
	put_word(f.mm, AT + HUGE, 2);
	expect(!huge_at(f.mm, AT + HUGE));
	put_word(f.mm, AT + 2 * HUGE, 3);
	expect(!huge_at(f.mm, AT + 2 * HUGE));
	expect_eq(counted(m, UHMM_CNT_FAULT_HUGE_FALLBACK), 2);
}
END_TEST

/* ---- fork ---- */

START_TEST(fork_shares_and_copies_in_parts)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	struct uhmm_mm *child;

	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(huge_at(child, AT) && folio_at(child, AT) == folio);
	expect_eq(folio_mapcount(folio), 2);
	expect(!folio_test(folio, PG_ANON_EXCLUSIVE));
	fixture_verify(&f);
	put_word(child, AT + 5 * PAGE, 99);
	expect(!huge_at(child, AT) && huge_at(f.mm, AT));
	expect_eq(get_word(f.mm, AT + 5 * PAGE), 6);
	expect_eq(get_word(child, AT + 5 * PAGE), 99);
	expect_written(child, AT, 6, NR - 6);
	fixture_verify(&f);
	uhmm_mmput(child);
	/* Alone again: written in place, as a whole. */
	put_word(f.mm, AT, 7);
	expect(huge_at(f.mm, AT) && folio_at(f.mm, AT) == folio);
	expect(folio_test(folio, PG_ANON_EXCLUSIVE));
}
END_TEST

START_TEST(fork_splits_what_is_pinned)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	struct uhmm_mm *child;

	folio_ref_add(folio, UHMM_PIN_BIAS);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(!huge_at(f.mm, AT) && !huge_at(child, AT));
	put_word(f.mm, AT, 50);
	expect(folio_at(f.mm, AT) == folio);
	expect_written(child, AT, 0, NR);
	uhmm_mmput(child);
	atomic_fetch_sub(&folio->refcount, UHMM_PIN_BIAS);
}
END_TEST

/* ---- parts ---- */

START_TEST(munmap_of_a_part)
{
	struct uhmm__frame *folio = map_huge_written(AT);

	expect_eq(uhmm_munmap(f.mm, AT + 10 * PAGE, 5 * PAGE), 0);
	expect(!huge_at(f.mm, AT));
	expect_eq(folio_mapcount(folio), NR - 5);
	expect_eq(folio_entire_mapcount(folio), 0);
	expect_eq(uhmm__deferred_split_count(m), 1);
	expect_written(f.mm, AT, 0, 10);
	expect_written(f.mm, AT, 15, NR - 15);
	fixture_verify(&f);
	/* Splitting the folio gives the five pages back. */
	expect_eq(uhmm__frames_used(m), NR);
	expect_eq(uhmm__deferred_split_scan(m), 1);
	expect_eq(uhmm__frames_used(m), NR - 5);
	expect_written(f.mm, AT, 15, NR - 15);
	expect_eq(uhmm__deferred_split_count(m), 0);
}
END_TEST

/* RAM that only unused parts of huge pages hold is not lost when it gets short. */
START_TEST(short_of_memory_splits_them)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .ram_bytes = 2 * UHMM_PMD_SIZE };

	teardown_fixture();
	fixture_create(&f, config);
	m = f.m;
	map_huge_written(AT);
	expect_eq(uhmm_munmap(f.mm, AT + PAGE, 3 * PAGE), 0);
	map_fixed(f.mm, AT + HUGE, 3, RW);
	for (unsigned int i = 0; i < 3; i++)
		put_word(f.mm, AT + HUGE + i * PAGE, 9);
	expect_eq(counted(m, UHMM_CNT_SPLIT_FOLIO), 1);
	expect_written(f.mm, AT, 4, NR - 4);
}
END_TEST

/* Pages that hold zeroes need no memory after a split. */
START_TEST(split_maps_zeroes_by_the_zero_page)
{
	struct uhmm__frame *folio;

	map_huge(AT, 1);
	put_word(f.mm, AT + 2 * PAGE, 3);
	folio = folio_at(f.mm, AT);
	folio_get(folio);
	folio_lock(m, folio);
	expect_eq(uhmm__split_folio(m, folio), 0);
	folio_unlock(m, folio);
	folio_put(m, folio);
	expect(is_zero_page(f.mm, AT) && is_zero_page(f.mm, AT + 511 * PAGE));
	expect(in_ram(f.mm, AT + 2 * PAGE));
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
	uhmm__lru_add_drain(m);
	expect_eq(uhmm__frames_used(m), 1);
}
END_TEST

START_TEST(split_fails_with_a_reference)
{
	struct uhmm__frame *folio = map_huge_written(AT);

	folio_ref_add(folio, 2);
	folio_lock(m, folio);
	expect_eq(uhmm__split_folio(m, folio), -EAGAIN);
	folio_unlock(m, folio);
	folio_put(m, folio);
	folio_put(m, folio);
	expect_eq(folio_order(folio), 9);
	expect_written(f.mm, AT, 0, NR);
	put_word(f.mm, AT, 1);
}
END_TEST

START_TEST(dontneed_of_all_and_of_a_part)
{
	map_huge_written(AT);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_DONTNEED), 0);
	expect(!huge_at(f.mm, AT));
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_written(f.mm, AT, 2, NR - 2);
	/* All of it: the table goes, too, so the next fault is a huge one. */
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_DONTNEED), 0);
	expect(pte_none(pmd_at(f.mm, AT)));
	put_word(f.mm, AT, 1);
	expect(huge_at(f.mm, AT));
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_DONTNEED), 0);
	expect(pte_none(pmd_at(f.mm, AT)));
	expect_eq(uhmm__frames_used(m), 0);
}
END_TEST

/* ---- mprotect, mremap ---- */

START_TEST(protection)
{
	uint64_t word = 5;

	map_huge_written(AT);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	expect(huge_at(f.mm, AT) && !pte_write(pmd_at(f.mm, AT)));
	expect_eq(uhmm_cpu_write(f.mm, AT, &word, 8, NULL), SIGSEGV);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_NONE), 0);
	expect(pte_protnone(pmd_at(f.mm, AT)));
	expect_eq(uhmm_cpu_read(f.mm, AT, &word, 8, NULL), SIGSEGV);
	fixture_verify(&f);
	/* Nobody shares it: writable at once. */
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, RW), 0);
	expect(pte_write(pmd_at(f.mm, AT)));
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	expect(!huge_at(f.mm, AT));
	expect_written(f.mm, AT, 0, NR);
	expect_eq(uhmm_cpu_write(f.mm, AT + PAGE, &word, 8, NULL), SIGSEGV);
	put_word(f.mm, AT + 2 * PAGE, 3);
}
END_TEST

START_TEST(move_whole_and_in_part)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	uhmm_vaddr_t far = AT + (4UL << 30), out;

	expect_eq(uhmm_mremap(f.mm, AT, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, far, &out), 0);
	expect(huge_at(f.mm, far) && folio_at(f.mm, far) == folio);
	expect_written(f.mm, far, 0, NR);
	fixture_verify(&f);
	/* To a place that is not aligned alike: page by page. */
	expect_eq(uhmm_mremap(f.mm, far, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT + PAGE,
			      &out),
		  0);
	expect(!huge_at(f.mm, AT));
	expect_written(f.mm, AT + PAGE, 0, NR);
	expect(page_folio(frame_at(f.mm, AT + PAGE)) == folio);
	/* The pages lie in two tables now: the rmap finds them all. */
	fixture_verify(&f);
	folio_get(folio);
	folio_lock(m, folio);
	expect_eq(uhmm__split_folio(m, folio), 0);
	folio_unlock(m, folio);
	folio_put(m, folio);
	expect_written(f.mm, AT + PAGE, 0, NR);
}
END_TEST

/* ---- collapse ---- */

START_TEST(collapse)
{
	map_fixed(f.mm, AT, 2 * NR, RW);
	for (unsigned int i = 0; i < NR; i += 2)
		put_word(f.mm, AT + i * PAGE, i + 1);
	touch(f.mm, AT + PAGE);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), 0);
	expect(huge_at(f.mm, AT));
	for (unsigned int i = 0; i < NR; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i & 1 ? 0 : i + 1);
	expect_eq(counted(m, UHMM_CNT_COLLAPSE), 1);
	fixture_verify(&f);
	/* It is one already; and there is nothing to collapse. */
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), 0);
	expect_eq(uhmm_madvise(f.mm, AT + HUGE, HUGE, MADV_COLLAPSE), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT + 8 * HUGE, HUGE, MADV_COLLAPSE), -ENOMEM);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_COLLAPSE), 0);
}
END_TEST

START_TEST(collapse_leaves_what_is_referenced)
{
	struct uhmm__frame *page;

	map_fixed(f.mm, AT, NR, RW);
	for (unsigned int i = 0; i < NR; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	page = frame_at(f.mm, AT + 100 * PAGE);
	folio_get(page);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), -EAGAIN);
	folio_put(m, page);
	expect(!huge_at(f.mm, AT));
	expect_written(f.mm, AT, 0, NR);
	expect_eq(uhmm_machine_inject(m, UHMM_INJECT_FRAME, 1, 1), 0);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), -ENOMEM);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_NOHUGEPAGE), 0);
	expect_eq(uhmm_madvise(f.mm, AT, HUGE, MADV_COLLAPSE), -EINVAL);
	expect_written(f.mm, AT, 0, NR);
}
END_TEST

/* ---- looking ---- */

static unsigned int lines, huge_lines;

static void count_line(void *data, const char *line)
{
	(void)data;
	lines++;
	huge_lines += strstr(line, " huge ") && strstr(line, "npages 512") &&
		      strstr(line, "order 9");
}

START_TEST(dump_and_compare)
{
	struct uhmm_machine *other = m;

	map_huge_written(AT);
	uhmm_mm_dump(f.mm, count_line, NULL);
	expect_eq(huge_lines, 1);
	expect_eq(uhmm_machine_compare(m, other, UHMM_COMPARE_STATE, NULL, NULL), 0);
}
END_TEST

START_TEST(verifier_sees)
{
	struct uhmm__frame *folio = map_huge_written(AT);
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&f.mm->pgt, AT, &level);
	struct uhmm__table *tb;

	atomic_fetch_add(folio_entire_mapcountp(folio), 1);
	expect(uhmm_machine_verify(m) > 0);
	atomic_fetch_sub(folio_entire_mapcountp(folio), 1);
	tb = uhmm__pgtable_withdraw(pmdp);
	expect(uhmm_machine_verify(m) > 0);
	uhmm__pgtable_deposit(pmdp, tb);
	store_relaxed(pmdp, pte_clear_bits(pte_make(load_relaxed(pmdp)), PTE_RW).val);
	expect_eq(uhmm_machine_verify(m), 0);
	store_relaxed(pmdp, load_relaxed(pmdp) + (1UL << PTE_PFN_SHIFT));
	expect(uhmm_machine_verify(m) > 0);
	store_relaxed(pmdp, load_relaxed(pmdp) - (1UL << PTE_PFN_SHIFT));
	fixture_forget_reports(&f);
}
END_TEST

/* Failing allocations at each place of a fault, a fork and a collapse leave nothing behind. */
START_TEST(failing_allocations)
{
	struct uhmm_mm *child;

	for (uint64_t nth = 1; nth < 12; nth++) {
		uint64_t word = 1;
		int err;

		map_huge(AT, 1);
		expect_eq(uhmm_machine_inject(m, UHMM_INJECT_META, nth, 1), 0);
		err = uhmm_cpu_write(f.mm, AT, &word, 8, NULL);
		expect(!err || err == -ENOMEM);
		expect_eq(uhmm_machine_inject(m, UHMM_INJECT_META, 0, 0), 0);
		put_word(f.mm, AT, 1);
		expect_eq(uhmm_machine_inject(m, UHMM_INJECT_META, nth, 1), 0);
		err = uhmm_mm_fork(f.mm, &child);
		expect_eq(uhmm_machine_inject(m, UHMM_INJECT_META, 0, 0), 0);
		expect(!err || err == -ENOMEM);
		if (!err)
			uhmm_mmput(child);
		fixture_verify(&f);
		expect_eq(uhmm_munmap(f.mm, AT, HUGE), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("thp");
	TCase *tc = tcase_create("huge pages");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown_fixture);
	tcase_add_test(tc, write_maps_a_huge_page);
	tcase_add_test(tc, read_maps_the_huge_zero_page);
	tcase_add_test(tc, where_faults_map_huge_pages);
	tcase_add_test(tc, only_where_the_vma_has_room);
	tcase_add_test(tc, without_memory_for_it_pages_come);
	tcase_add_test(tc, fork_shares_and_copies_in_parts);
	tcase_add_test(tc, fork_splits_what_is_pinned);
	tcase_add_test(tc, munmap_of_a_part);
	tcase_add_test(tc, short_of_memory_splits_them);
	tcase_add_test(tc, split_maps_zeroes_by_the_zero_page);
	tcase_add_test(tc, split_fails_with_a_reference);
	tcase_add_test(tc, dontneed_of_all_and_of_a_part);
	tcase_add_test(tc, protection);
	tcase_add_test(tc, move_whole_and_in_part);
	tcase_add_test(tc, collapse);
	tcase_add_test(tc, collapse_leaves_what_is_referenced);
	tcase_add_test(tc, dump_and_compare);
	tcase_add_test(tc, verifier_sees);
	tcase_add_test(tc, failing_allocations);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
