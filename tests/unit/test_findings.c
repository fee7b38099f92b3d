// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The findings of docs/findings.md, under their numbers, and the names of suspects: what Linux 7.3 does,
 * and what a mended kernel or driver would. F6 and part of F2 are in unit.exclusive and unit.swap, those
 * with huge pages in unit.findings_huge; F7 is mended, F9 not modelled.
 */
#define _GNU_SOURCE
#include "mm/swap.h"
#include "unit/device.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static struct uhmm_mm *child;

static void start(struct uhmm_machine_config config, struct uhmm_device_config dev)
{
	config.nr_cpus = 2;
	fixture_create(&f, config);
	dev.size = sizeof(dev);
	for (int i = 0; i < FIXTURE_DEVICES; i++) {
		expect_eq(uhmm_device_create(f.m, &dev, &f.dev[i]), 0);
		expect_eq(uhmm_mirror_open(f.dev[i], f.mm, &f.mirror[i]), 0);
	}
	child = NULL;
}

static void setup_as_is(void)
{
	start((struct uhmm_machine_config){ 0 }, (struct uhmm_device_config){ 0 });
}

static void setup_mended(void)
{
	start((struct uhmm_machine_config){ .device_private_write = UHMM_DEVICE_WRITE_FAULTS },
	      (struct uhmm_device_config){ .exact_invalidation = true, .clearable_flags = true });
}

static void teardown(void)
{
	if (child)
		uhmm_mmput(child);
	fixture_destroy(&f);
}

/* ---- F1: a write to a device-private page of the caller's own that is mapped read-only (suspect S5) ---- */

static void by_mprotect(void)
{
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, RW), 0);
}

static void by_fork(void)
{
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
}

/* F4. */
static void by_numa_hint(void)
{
	expect(uhmm_change_prot_numa(f.mm, AT, 2 * PAGE) > 0);
}

static void (*const make_readonly[])(void) = { by_mprotect, by_fork, by_numa_hint };

enum { NR_WAYS = sizeof(make_readonly) / sizeof(make_readonly[0]) };

static int try_write(uint64_t value)
{
	for (unsigned int i = 0; i < PAGE / 8; i++)
		words[i] = value;
	return mirror_op(f.mirror[0], UHMM_MIRROR_WRITE, AT, 1, words, NULL);
}

/* The first page is on the device; the process may write to it, but its entry is read-only. */
static void map_readonly(int way)
{
	map_written(AT, 2);
	to_device(0, AT, 1);
	expect_eq(snapshot(0, AT), UHMM_PROT_DEV_PRIVATE_LOCAL | UHMM_PROT_WRITE);
	make_readonly[way]();
	expect_eq(snapshot(0, AT), UHMM_PROT_DEV_PRIVATE_LOCAL | UHMM_PROT_READ);
}

/* Success, though HMM_PFN_WRITE was asked for and is not there; the test driver makes it -EFAULT. */
START_TEST(s5_f1_write_is_refused)
{
	map_readonly(_i);
	expect_eq(walk(AT, 1, WRITE), 0);
	expect_eq(flags_of(pfns[0]), V);
	expect_eq(try_write(7), -EFAULT);
	expect_eq(f.reports[UHMM_REPORT_WARN], 1);
	fixture_forget_reports(&f);
	/* For ever; what helps is a CPU's write, which the device cannot ask for. */
	expect_eq(try_write(7), -EFAULT);
	fixture_forget_reports(&f);
	put_word(f.mm, AT, 5);
	expect_eq(try_write(7), 0);
	expect_eq(get_word(f.mm, AT), 7);
}
END_TEST

START_TEST(s5_f1_write_faults)
{
	map_readonly(_i);
	/* Reading and looking stay as they are. */
	expect_eq(walk(AT, 1, FAULT), 0);
	expect_eq(flags_of(pfns[0]), V);
	expect(on_device(f.mm, AT));
	expect_eq(try_write(7), 0);
	expect(in_ram(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 7);
	if (child)
		expect_eq(get_word(child, AT), 1);
	expect_eq(walk(AT, 1, WRITE), 0);
	expect_eq(flags_of(pfns[0]), V | W);
}
END_TEST

/* Whether it works depends on what comes before it: a fault covers all that follows in the table. */
START_TEST(s5_f1_depends_on_the_page_before)
{
	map_fixed(f.mm, AT, 2, RW);
	put_word(f.mm, AT + PAGE, 1);
	to_device(0, AT + PAGE, 1);
	by_mprotect();
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_WRITE, AT, 2, words, NULL), 0);
}
END_TEST

/* Here the process may not write either: -EPERM is what any other page gives. */
static int write_in_readonly_vma(void)
{
	int err;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	err = try_write(7);
	fixture_forget_reports(&f);
	expect(on_device(f.mm, AT));
	return err;
}

START_TEST(s5_f1_readonly_vma_is_efault)
{
	expect_eq(write_in_readonly_vma(), -EFAULT);
}
END_TEST

START_TEST(s5_f1_readonly_vma_is_eperm)
{
	expect_eq(write_in_readonly_vma(), -EPERM);
}
END_TEST

/* By the combined walker, and undone. Returns: the entry of src[]. */
static uint64_t combined_write(void)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = mpfns,
		.dst = dpfns,
		.start = AT,
		.end = AT + PAGE,
		.pgmap_owner = f.dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_FAULT |
			 UHMM_MIGRATE_VMA_FAULT_WRITE,
	};
	uint64_t ret;

	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	ret = mpfns[0];
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	return ret;
}

START_TEST(s5_f1_combined_leaves_it)
{
	map_readonly(_i);
	expect_eq(combined_write(), 0);
	expect(on_device(f.mm, AT));
}
END_TEST

START_TEST(s5_f1_combined_faults)
{
	const uint64_t all = UHMM_MIGRATE_PFN_VALID | UHMM_MIGRATE_PFN_MIGRATE |
			     UHMM_MIGRATE_PFN_WRITE;

	map_readonly(_i);
	expect_eq(combined_write() & all, all);
	expect(in_ram(f.mm, AT) && pte_write(pte_at(f.mm, AT)));
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/*
 * A driver that believes what hmm.h promises, and does not look at the flag, maps the page for
 * writing. The page is the child's as well. Returns: what the child reads then.
 */
static uint64_t child_after_a_trusting_driver(void)
{
	const uint64_t word = 8;

	map_readonly(1);
	expect_eq(walk(AT, 1, WRITE), 0);
	uhmm_page_write(f.m, uhmm_hmm_pfn_to_pfn(pfns[0]), 0, &word, sizeof(word));
	expect_eq(get_word(f.mm, AT), 8);
	return get_word(child, AT);
}

START_TEST(s5_f1_child_sees_the_device_write)
{
	expect_eq(child_after_a_trusting_driver(), 8);
}
END_TEST

START_TEST(s5_f1_child_keeps_its_copy)
{
	expect_eq(child_after_a_trusting_driver(), 1);
}
END_TEST

/* ---- F2, F3: a device's write to a page that is writable and clean, in RAM or after a stay on the device ---- */

enum where { IN_RAM, ON_DEVICE, NR_PLACES };

/*
 * A page that MADV_FREE gave up is writable and clean. Neither its entry nor the folio are dirty after the
 * device wrote, at home again neither, and reclaim takes the page for one that nobody wants.
 */
static uint64_t device_writes_given_up_page(enum where where, bool tell)
{
	const uint64_t word = 55;
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_FREE), 0);
	if (where == ON_DEVICE)
		to_device(0, AT, 1);
	expect_eq(walk(AT, 1, WRITE), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	pfn = uhmm_hmm_pfn_to_pfn(pfns[0]);
	expect_eq(pfn, pfn_at(f.mm, AT));
	expect(on_device(f.mm, AT) == (where == ON_DEVICE));
	uhmm_page_write(f.m, pfn, 0, &word, sizeof(word));
	if (tell)
		uhmm_set_page_dirty(f.m, pfn);
	/* The process sees it, */
	expect_eq(get_word(f.mm, AT), 55);
	expect(in_ram(f.mm, AT));
	/* The first time it is only found out that the page is wanted again. */
	for (int i = 0; i < 2; i++)
		expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_PAGEOUT), 0);
	/* and then does not. */
	return get_word(f.mm, AT);
}

START_TEST(f2_f3_driver_does_not_tell)
{
	expect_eq(device_writes_given_up_page((enum where)_i, false), 0);
	expect_eq(counted(f.m, UHMM_CNT_LAZYFREED), 1);
}
END_TEST

START_TEST(f2_f3_driver_tells)
{
	expect_eq(device_writes_given_up_page((enum where)_i, true), 55);
	expect_eq(counted(f.m, UHMM_CNT_LAZYFREED), 0);
}
END_TEST

/* ---- F5: a migration that is finalized without having moved ---- */

/* Two pages on their way home; there is memory for the first only. @mend: as a driver should do. */
static void out_of_memory_in_the_window(bool mend)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = mpfns,
		.dst = dpfns,
		.start = AT,
		.end = AT + 2 * PAGE,
		.pgmap_owner = f.dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	};
	uhmm_pfn_t pfn;

	map_written(AT, 2);
	to_device(0, AT, 2);
	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.cpages, 2);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(mpfns[0]));
	dpfns[0] = uhmm_migrate_pfn(pfn);
	/* No second page: no uhmm_migrate_vma_pages(). */
	for (int i = 0; i < 2 && mend; i++)
		mpfns[i] &= ~UHMM_MIGRATE_PFN_MIGRATE;
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
}

/* Nobody finds the migration entry any more, and its page is free. */
START_TEST(f5_dead_migration_entry)
{
	uhmm_pfn_t was;

	out_of_memory_in_the_window(false);
	expect(leaf_is_migration(pte_at(f.mm, AT)));
	expect(on_device(f.mm, AT + PAGE));
	was = pfn_at(f.mm, AT);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, was)), 0);
	ck_assert_int_gt(uhmm_machine_verify(f.m), 0);
	/* A CPU that reads there would try for ever. What it should find is lost. */
	set_pte(ptep_at(f.mm, AT), pte_make(0));
	fixture_forget_reports(&f);
	expect_eq(get_word(f.mm, AT), 0);
}
END_TEST

START_TEST(f5_driver_gives_up_first)
{
	out_of_memory_in_the_window(true);
	expect(on_device(f.mm, AT) && on_device(f.mm, AT + PAGE));
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* ---- F7: a page that another process put on the device ---- */

START_TEST(f7_both_mirrors_forget_it)
{
	struct uhmm_mirror *mirror;
	struct uhmm_mirror_cmd cmd;

	map_written(AT, 1);
	to_device(0, AT, 1);
	by_fork();
	expect_eq(uhmm_mirror_open(f.dev[0], child, &mirror), 0);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_READ, AT, 1, words, &cmd), 0);
	expect_eq(cmd.faults, 1);
	expect_eq(get_word(child, AT), 1);
	expect(in_ram(child, AT) && in_ram(f.mm, AT));
	expect_eq(mirror_op(mirror, UHMM_MIRROR_READ, AT, 1, words, &cmd), 0);
	expect_eq(cmd.faults, 1);
	expect_eq(words[0], 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 1, words, &cmd), 0);
	expect_eq(cmd.faults, 1);
	uhmm_mirror_close(mirror);
}
END_TEST

/* ---- F8: the test driver (suspect S9, S12, S13) ---- */

static uint64_t faults_beside_an_invalidation(void)
{
	struct uhmm_mirror_cmd cmd;

	map_written(AT, 2);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 2, words, NULL), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT + PAGE, 1, words, &cmd), 0);
	return cmd.faults;
}

START_TEST(s9_f8_page_past_the_end_is_dropped)
{
	expect_eq(faults_beside_an_invalidation(), 1);
}
END_TEST

START_TEST(s9_f8_page_past_the_end_stays)
{
	expect_eq(faults_beside_an_invalidation(), 0);
}
END_TEST

static int clear_flags(void)
{
	map_written(AT, 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_FLAGS, 0, UHMM_MIRROR_FLAG_FAIL_ALLOC, NULL,
			    NULL),
		  0);
	return mirror_op(f.mirror[0], UHMM_MIRROR_FLAGS, 0, 0, NULL, NULL);
}

START_TEST(s9_f8_flags_stay)
{
	expect_eq(clear_flags(), -EINVAL);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, words, NULL), -ENOENT);
}
END_TEST

START_TEST(s9_f8_flags_are_cleared)
{
	expect_eq(clear_flags(), 0);
	to_device(0, AT, 1);
	/* Of other operations no pages is still an error. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 0, words, NULL), -EINVAL);
}
END_TEST

/* ---- F21: the zero page loses write protection ---- */

START_TEST(f21_zero_page_loses_protection)
{
	map_fixed(f.mm, AT, 2, RW);
	put_word(f.mm, AT + PAGE, 2);
	touch(f.mm, AT);
	expect_eq(uhmm_uffd_register(f.mm, AT, 2 * PAGE, UHMM_UFFD_WP), 0);
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT, 2 * PAGE, true), 0);
	expect_eq(uhmm_cpu_write(f.mm, AT, NULL, 1, NULL), SIGBUS);
	to_device(0, AT, 2);
	expect_eq(uhmm_cpu_write(f.mm, AT, NULL, 1, NULL), 0);
	/* Any other page keeps it. */
	expect_eq(uhmm_cpu_write(f.mm, AT + PAGE, NULL, 1, NULL), SIGBUS);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("findings");
	TCase *tc = tcase_create("as 7.3");

	tcase_add_checked_fixture(tc, setup_as_is, teardown);
	tcase_add_loop_test(tc, s5_f1_write_is_refused, 0, NR_WAYS);
	tcase_add_test(tc, s5_f1_depends_on_the_page_before);
	tcase_add_test(tc, s5_f1_readonly_vma_is_efault);
	tcase_add_loop_test(tc, s5_f1_combined_leaves_it, 0, NR_WAYS);
	tcase_add_test(tc, s5_f1_child_sees_the_device_write);
	tcase_add_loop_test(tc, f2_f3_driver_does_not_tell, 0, NR_PLACES);
	tcase_add_test(tc, f5_dead_migration_entry);
	tcase_add_test(tc, f7_both_mirrors_forget_it);
	tcase_add_test(tc, s9_f8_page_past_the_end_is_dropped);
	tcase_add_test(tc, s9_f8_flags_stay);
	tcase_add_test(tc, f21_zero_page_loses_protection);
	suite_add_tcase(s, tc);
	tc = tcase_create("mended");
	tcase_add_checked_fixture(tc, setup_mended, teardown);
	tcase_add_loop_test(tc, s5_f1_write_faults, 0, NR_WAYS);
	tcase_add_test(tc, s5_f1_depends_on_the_page_before);
	tcase_add_test(tc, s5_f1_readonly_vma_is_eperm);
	tcase_add_loop_test(tc, s5_f1_combined_faults, 0, NR_WAYS);
	tcase_add_test(tc, s5_f1_child_keeps_its_copy);
	tcase_add_loop_test(tc, f2_f3_driver_tells, 0, NR_PLACES);
	tcase_add_test(tc, f5_driver_gives_up_first);
	tcase_add_test(tc, s9_f8_page_past_the_end_stays);
	tcase_add_test(tc, s9_f8_flags_are_cleared);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
