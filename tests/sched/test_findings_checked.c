// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Findings of docs/findings.md that show at one point of time: in what a CPU has in its TLB, or in what it finds
 * without a lock.
 */
#define _GNU_SOURCE
#include <uhmm/sched.h>

#include "mm/huge.h"
#include "unit/inside.h"

enum { NR = UHMM_PTRS_PER_TABLE, SMALL = NR - 4, LARGE, MMS = 3, CHILD = 1 };

static uint64_t src[NR], dst[NR];

/* ---- F19: the page table goes while a large folio is split, and what was replaced is not flushed ---- */

struct zapper {
	struct uhmm_mm *mm[MMS]; /* each the child of the one before */
	struct uhmm_task *task;	 /* of CHILD, on CPU 1 */
	bool zapped;
};

static struct zapper z;

/*
 * Another thread of the child gives everything up, once the split has unmapped the large folio there. So
 * nothing behind the small page is present, and its flush does not cover that page by chance.
 */
static bool zap_child(struct uhmm_mmu_interval_notifier *mni,
		      const struct uhmm_mmu_notifier_range *range, unsigned long seq)
{
	struct uhmm_task *before;

	uhmm_mmu_interval_set_seq(mni, seq);
	if (range->event != UHMM_MMU_NOTIFY_CLEAR || z.zapped ||
	    !leaf_is_migration(pte_at(z.mm[CHILD], AT + LARGE * PAGE)))
		return true;
	z.zapped = true;
	before = become(z.task);
	expect_eq(uhmm_madvise(z.mm[CHILD], AT, UHMM_PMD_SIZE, MADV_DONTNEED), 0);
	become(before);
	return true;
}

/* A small page, and behind it what is left of a huge one, in three processes. The child has read the first. */
static void share_them(void)
{
	struct uhmm_task *before;

	z = (struct zapper){ .mm[0] = f.mm };
	map_fixed(f.mm, AT, NR, RW);
	expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, AT + LARGE * PAGE, 2);
	expect_eq(uhmm_madvise(f.mm, AT, LARGE * PAGE, MADV_DONTNEED), 0);
	put_word(f.mm, AT + SMALL * PAGE, 1);
	for (unsigned int i = 1; i < MMS; i++)
		expect_eq(uhmm_mm_fork(z.mm[i - 1], &z.mm[i]), 0);
	expect_eq(uhmm_task_create(f.m, z.mm[CHILD], 1, "child", &z.task), 0);
	before = become(z.task);
	expect_eq(get_word(z.mm[CHILD], AT + SMALL * PAGE), 1);
	become(before);
}

/* The child's pages go to RAM elsewhere. */
static void migrate_them(void)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + UHMM_PMD_SIZE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	uhmm_pfn_t pfn;

	uhmm_mmap_read_lock(z.mm[CHILD]);
	args.vma = uhmm_vma_lookup(z.mm[CHILD], AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect(z.zapped);
	expect_eq(args.npages, NR);
	expect(src[SMALL] & UHMM_MIGRATE_PFN_VALID && src[SMALL] & UHMM_MIGRATE_PFN_MIGRATE);
	expect_eq(src[LARGE], UHMM_MIGRATE_PFN_MIGRATE);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(src[SMALL]));
	dst[SMALL] = uhmm_migrate_pfn(pfn);
	uhmm_migrate_vma_pages(&args);
	expect(src[SMALL] & UHMM_MIGRATE_PFN_MIGRATE);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(z.mm[CHILD]);
}

static void table_goes_during_a_split(enum uhmm_split_flush flush)
{
	static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = zap_child };
	struct uhmm_machine_config config = { .nr_cpus = 2, .split_flush = flush };
	struct uhmm_mmu_interval_notifier *mni[MMS];

	fixture_create(&f, config);
	share_them();
	for (unsigned int i = 0; i < MMS; i++)
		if (i != CHILD)
			expect_eq(uhmm_mmu_interval_notifier_insert(z.mm[i], AT, UHMM_PMD_SIZE,
								    &ops, &z, &mni[i]),
				  0);
	migrate_them();
	for (unsigned int i = 0; i < MMS; i++)
		if (i != CHILD)
			uhmm_mmu_interval_notifier_remove(mni[i]);
}

static void end(void)
{
	expect_eq(get_word(f.mm, AT + SMALL * PAGE), 1);
	expect_eq(get_word(z.mm[MMS - 1], AT + LARGE * PAGE), 2);
	uhmm_task_destroy(z.task);
	for (unsigned int i = 1; i < MMS; i++)
		uhmm_mmput(z.mm[i]);
	fixture_destroy(&f);
}

START_TEST(f19_page_is_freed_while_a_cpu_can_read_it)
{
	table_goes_during_a_split(UHMM_SPLIT_FLUSH_LATE);
	expect_eq(f.reports[UHMM_REPORT_TLB], 1);
	ck_assert_msg(strstr(f.text, "freed while CPU 1 can still reach it") != NULL, "%s", f.text);
	fixture_forget_reports(&f);
	end();
}
END_TEST

START_TEST(f19_page_is_flushed_before_the_split)
{
	table_goes_during_a_split(UHMM_SPLIT_FLUSH_BEFORE_UNLOCK);
	ck_assert_msg(!fixture_reports(&f), "%s", f.text);
	end();
}
END_TEST

/* ---- F22: what others find, without the lock, where a huge device page is being unmapped ---- */

struct watched {
	struct uhmm_mm *child; /* shares it with f.mm */
	ptent_t *pmdp[2];      /* the entries of both */
	bool unmapped;
	unsigned int looks, none;
};

static struct watched w;

/* Also the child's: both are migration entries by the end. */
static void unmaps(void *arg)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + UHMM_PMD_SIZE,
		.pgmap_owner = uhmm_devmem_owner(uhmm_device_memory(f.dev[0])),
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE | UHMM_MIGRATE_VMA_SELECT_COMPOUND,
	};

	(void)arg;
	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.cpages, 1);
	expect(leaf_is_migration(pmd_at(f.mm, AT)) && leaf_is_migration(pmd_at(w.child, AT)));
	w.unmapped = true;
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
}

/* After each step of the other. */
static void watches(void *arg)
{
	(void)arg;
	for (; !w.unmapped; w.looks++) {
		for (unsigned int i = 0; i < 2; i++)
			w.none += !load_relaxed(w.pmdp[i]);
		uhmm__sched_point(UHMM__PT_ATOMIC, NULL);
	}
}

/* Returns: how often an entry was none. */
static unsigned int watch_unmapping(enum uhmm_huge_device_unmap unmap)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .huge_device_unmap = unmap };
	struct uhmm_sched *s;
	unsigned int level;

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, NR, RW);
	expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, AT, 1);
	to_device(0, AT, NR);
	w = (struct watched){ 0 };
	expect_eq(uhmm_mm_fork(f.mm, &w.child), 0);
	for (unsigned int i = 0; i < 2; i++)
		w.pmdp[i] = uhmm__pmd_offset(&(i ? w.child : f.mm)->pgt, AT, &level);
	uhmm_task_leave();
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	expect_eq(uhmm_sched_spawn(s, "unmaps", 0, f.mm, unmaps, NULL), 0);
	expect_eq(uhmm_sched_spawn(s, "watches", 1, NULL, watches, NULL), 0);
	expect_eq(uhmm_sched_run(s), 0);
	uhmm_sched_destroy(s);
	uhmm_task_enter(f.task);
	expect(w.looks > 20);
	expect_eq(get_word(w.child, AT), 1);
	uhmm_mmput(w.child);
	fixture_destroy(&f);
	return w.none;
}

/* Both, for the time of a step. */
START_TEST(f22_entry_is_none_for_a_moment)
{
	expect_eq(watch_unmapping(UHMM_HUGE_DEVICE_UNMAP_CLEARS), 2);
}
END_TEST

START_TEST(f22_entry_is_never_none)
{
	expect_eq(watch_unmapping(UHMM_HUGE_DEVICE_UNMAP_REPLACES), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("findings");
	TCase *tc = tcase_create("moments");

	tcase_add_test(tc, f19_page_is_freed_while_a_cpu_can_read_it);
	tcase_add_test(tc, f19_page_is_flushed_before_the_split);
	tcase_add_test(tc, f22_entry_is_none_for_a_moment);
	tcase_add_test(tc, f22_entry_is_never_none);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
