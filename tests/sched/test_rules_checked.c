// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Rules of docs/fidelity.md that take a second task to see, at one point of time, or the lock checker: who
 * holds what. Most tasks are on one CPU, which does not preempt, so that they change where this says.
 */
#define _GNU_SOURCE
#include <uhmm/exclusive.h>
#include <uhmm/sched.h>

#include "mm/huge.h"
#include "unit/large_folio.h"

enum { NR = UHMM_PTRS_PER_TABLE };

static uint64_t src[NR], dst[NR];

static struct uhmm_migrate_vma window(uint64_t npages, uint64_t flags, void *owner)
{
	return (struct uhmm_migrate_vma){
		.size = sizeof(struct uhmm_migrate_vma),
		.vma = uhmm_vma_lookup(f.mm, AT),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + npages * PAGE,
		.pgmap_owner = owner,
		.flags = flags,
	};
}

/* These begin one after the other. */
static void run(void (*const *fns)(void *arg), unsigned int nr, void *arg)
{
	struct uhmm_sched *s;
	int ret;

	uhmm_task_leave();
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	for (unsigned int i = 0; i < nr; i++)
		expect_eq(uhmm_sched_spawn(s, "fiber", 0, f.mm, fns[i], arg), 0);
	ret = uhmm_sched_run(s);
	if (ret)
		ck_abort_msg("%d, %s", ret, f.text);
	uhmm_sched_destroy(s);
	uhmm_task_enter(f.task);
}

/* The others of the CPU go on, until none of them can or until each has given way, too. */
static void let_others_run(void)
{
	for (unsigned int i = 0; i < 4; i++)
		uhmm__cond_resched();
}

/* ---- a CPU's fault on a device-exclusive entry whose folio is locked ---- */

enum { UNDER_VMA_LOCK, UNDER_MMAP_LOCK, TRIED, NR_TRIES };

static unsigned int turn, changed;

static void has_the_folio(void *arg)
{
	struct uhmm__frame *folio;
	uhmm_pfn_t pfn;

	(void)arg;
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_make_device_exclusive(f.mm, AT, NULL, &pfn), 0);
	uhmm_mmap_read_unlock(f.mm);
	folio = pfn_to_frame(f.m, pfn);
	for (turn = 1; turn <= NR_TRIES; turn++) {
		let_others_run();
		expect_eq(counted(f.m, UHMM_CNT_FAULT_EXCLUSIVE), turn);
		/* Who sleeps for it with mmap_lock lets nobody change the VMA. */
		expect_eq(changed, turn <= TRIED ? turn : TRIED);
		if (turn == NR_TRIES)
			break;
		folio_unlock(f.m, folio);
		expect(folio_trylock(folio));
	}
	expect(leaf_is_device_exclusive(pte_at(f.mm, AT)));
	uhmm_unlock_put_page(f.m, pfn);
}

static void touches_it(void *arg)
{
	(void)arg;
	while (!turn)
		uhmm_sched_user_step();
	expect_eq(get_word(f.mm, AT), 1);
}

/* Takes mmap_lock for writing and waits for who has the VMA, once each turn. */
static void changes_the_vma(void *arg)
{
	(void)arg;
	for (unsigned int i = 1; i <= NR_TRIES; i++) {
		while (turn < i || counted(f.m, UHMM_CNT_FAULT_EXCLUSIVE) < i)
			uhmm_sched_user_step();
		expect_eq(uhmm_madvise(f.mm, AT, PAGE, i & 1 ? MADV_DONTFORK : MADV_DOFORK), 0);
		changed++;
	}
}

START_TEST(exclusive_fault_gives_its_lock_up_once)
{
	turn = changed = 0;
	map_written(AT, 1);
	run((void (*const[])(void *)){ has_the_folio, touches_it, changes_the_vma }, 3, NULL);
	expect_eq(changed, NR_TRIES);
	expect(in_ram(f.mm, AT));
}
END_TEST

/* ---- two CPUs that write to the same page: either may find that its entry has changed ---- */

enum before { NOTHING, ZERO_PAGE, COPY_ON_WRITE, NR_BEFORE };

static void writes_a_word(void *arg)
{
	const unsigned int *i = arg;

	put_word(f.mm, AT + *i * 8, *i + 1);
}

/* The first has a start of @steps, then they take turns; @nr 1: it is alone. Returns: steps in all. */
static uint64_t write_words(enum before before, unsigned int nr, uint64_t steps)
{
	static unsigned int numbers[2] = { 0, 1 };
	struct uhmm_mm *child = NULL;
	struct uhmm_sched *s;
	char schedule[32];

	fixture_create(&f,
		       (struct uhmm_machine_config){ .nr_cpus = 2, .content = UHMM_CONTENT_BYTES });
	map_fixed(f.mm, AT, 1, RW);
	if (before == ZERO_PAGE)
		touch(f.mm, AT);
	if (before == COPY_ON_WRITE) {
		put_word(f.mm, AT + 16, 3);
		expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	}
	uhmm_task_leave();
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	for (unsigned int i = 0; i < nr; i++)
		expect_eq(uhmm_sched_spawn(s, "writer", i, f.mm, writes_a_word, &numbers[i]), 0);
	snprintf(schedule, sizeof(schedule), "T0*%u", (unsigned int)steps);
	expect_eq(uhmm_sched_set_schedule(s, schedule), 0);
	expect_eq(uhmm_sched_run(s), 0);
	steps = uhmm_sched_steps(s);
	uhmm_sched_destroy(s);
	uhmm_task_enter(f.task);
	for (unsigned int i = 0; i < nr; i++)
		expect_eq(get_word(f.mm, AT + i * 8), i + 1);
	if (child) {
		expect_eq(get_word(f.mm, AT + 16), 3);
		expect_eq(get_word(child, AT), 0);
		uhmm_mmput(child);
	}
	fixture_destroy(&f);
	return steps;
}

START_TEST(entry_changed_meanwhile)
{
	uint64_t alone = write_words((enum before)_i, 1, 0);

	expect(alone > 10);
	for (uint64_t steps = 0; steps < alone; steps++)
		write_words((enum before)_i, 2, steps);
}
END_TEST

/* ---- a large folio, mapped by PTEs, that two want to split ---- */

enum { ORDER = 2, PAGES = 1 << ORDER };

static struct uhmm__frame *large;

static void splits_it(void *arg)
{
	(void)arg;
	folio_get(large);
	expect(folio_trylock(large));
	let_others_run();
	/* Who waits for the lock has a reference. */
	expect_eq(uhmm__split_folio(f.m, large), -EAGAIN);
	expect_eq(folio_order(large), ORDER);
	folio_unlock(f.m, large);
	folio_put(f.m, large);
}

static void migrates_it(void *arg)
{
	struct uhmm_migrate_vma args;

	(void)arg;
	uhmm_mmap_read_lock(f.mm);
	args = window(PAGES, UHMM_MIGRATE_VMA_SELECT_SYSTEM, NULL);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.cpages, PAGES);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
}

START_TEST(no_split_while_another_waits_to_split)
{
	large = map_large(AT, ORDER);
	/* The batch's reference is not what it is about. */
	uhmm__lru_add_drain(f.m);
	run((void (*const[])(void *)){ splits_it, migrates_it }, 2, NULL);
	for (unsigned int i = 0; i < PAGES; i++) {
		expect_eq(folio_order(frame_at(f.mm, AT + i * PAGE)), 0);
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
}
END_TEST

/* ---- migration entries, of a page and of a huge page, that a CPU or a device meets ---- */

enum waiter { BY_CPU, BY_DEVICE, NR_WAITERS };

static enum waiter waiter;
static uint64_t hmm_pfn;
static bool entered, came_back;

static void migrates_slowly(void *arg)
{
	const unsigned int *order = arg;
	struct uhmm_migrate_vma args;
	struct uhmm__frame *folio;
	uint32_t refs;

	uhmm_mmap_read_lock(f.mm);
	args = window(1U << *order,
		      UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_COMPOUND, NULL);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.cpages, 1);
	folio = pfn_to_frame(f.m, uhmm_migrate_pfn_to_pfn(src[0]));
	refs = folio_ref_count(folio);
	entered = true;
	let_others_run();
	expect(counted(f.m, UHMM_CNT_FAULT_MIGRATION_WAIT) > 0);
	expect(!came_back);
	/* Else the migration would fail for those who wait for its end. */
	expect_eq(folio_ref_count(folio), refs);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
}

static void waits_for_it(void *arg)
{
	struct uhmm_hmm_range range = {
		.size = sizeof(range), .start = AT, .end = AT + PAGE, .hmm_pfns = &hmm_pfn
	};
	struct watcher w;

	(void)arg;
	while (!entered)
		uhmm_sched_user_step();
	if (waiter == BY_CPU) {
		expect_eq(get_word(f.mm, AT), 1);
	} else {
		watch(&w, f.mm, AT, 1);
		range.notifier = w.mni;
		range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
		uhmm_mmap_read_lock(f.mm);
		expect_eq(uhmm_range_fault(&range), 0);
		expect_eq(hmm_pfn, 0); /* nothing is asked, nothing waited for */
		uhmm_mmap_read_unlock(f.mm);
		range.default_flags = UHMM_HMM_PFN_REQ_FAULT;
		expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
		expect(hmm_pfn & UHMM_HMM_PFN_VALID);
		unwatch(&w);
	}
	came_back = true;
}

START_TEST(migration_entries_are_waited_for)
{
	static unsigned int order;

	waiter = (enum waiter)(_i % NR_WAITERS);
	order = _i / NR_WAITERS ? UHMM_PMD_ORDER : 0;
	entered = came_back = false;
	hmm_pfn = 0;
	map_fixed(f.mm, AT, 1U << order, RW);
	if (order)
		expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, AT, 1);
	run((void (*const[])(void *)){ migrates_slowly, waits_for_it }, 2, &order);
	expect(came_back);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* ---- a device page that is locked ---- */

static void locks_a_device_page(void *arg)
{
	struct uhmm__frame *folio = frame_at(f.mm, AT);
	uint32_t refs = folio_ref_count(folio);

	(void)arg;
	expect(folio_trylock(folio));
	entered = true;
	let_others_run();
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE_WAIT), 1);
	expect(!came_back && on_device(f.mm, AT));
	/* Or whoever has the lock could not migrate it. */
	expect_eq(folio_ref_count(folio), refs);
	folio_unlock(f.m, folio);
}

START_TEST(locked_device_pages_are_waited_for)
{
	waiter = (enum waiter)_i;
	entered = came_back = false;
	hmm_pfn = 0;
	map_written(AT, 1);
	to_device(0, AT, 1);
	run((void (*const[])(void *)){ locks_a_device_page, waits_for_it }, 2, NULL);
	expect(came_back && in_ram(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* ---- what must be held, and what is ---- */

static void expect_report(const char *text)
{
	expect_eq(f.reports[UHMM_REPORT_LOCK], 1);
	expect_eq(fixture_reports(&f), 1);
	ck_assert_msg(strstr(f.text, text) != NULL, "missing: \"%s\", in: %s", text, f.text);
	fixture_forget_reports(&f);
}

START_TEST(setup_wants_mmap_lock)
{
	struct uhmm_migrate_vma args;

	map_written(AT, 1);
	args = window(1, UHMM_MIGRATE_VMA_SELECT_SYSTEM, NULL);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_report("lock not held: MMAP 0x");
	uhmm_migrate_vma_finalize(&args);
	fixture_forget_reports(&f); /* so must this */
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	ck_assert_msg(!fixture_reports(&f), "%s", f.text);
}
END_TEST

/* A driver that must not do this where a spin lock is held. */
static void sleepy_free(void *data, uhmm_pfn_t pfn)
{
	(void)pfn;
	++*(unsigned int *)data;
	uhmm_might_sleep();
}

static int no_way_home(void *data, const struct uhmm_vm_fault *vmf)
{
	(void)data;
	(void)vmf;
	return UHMM_VM_FAULT_SIGBUS;
}

static const struct uhmm_dev_pagemap_ops sleepy_ops = { .folio_free = sleepy_free,
							.migrate_to_ram = no_way_home };

/* One page, or a huge one. */
static void populate(struct uhmm_devmem *pool, unsigned int order)
{
	struct uhmm_migrate_vma args;
	uhmm_pfn_t pfn;

	map_fixed(f.mm, AT, 1U << order, RW);
	if (order)
		expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	uhmm_mmap_read_lock(f.mm);
	args = window(1U << order,
		      UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_COMPOUND, NULL);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.cpages, 1);
	expect_eq(uhmm_devmem_alloc_folio(pool, NULL, order, &pfn), 0);
	for (unsigned int i = 0; i < 1U << order; i++)
		uhmm_clear_highpage(f.m, pfn + i);
	dst[0] = uhmm_migrate_pfn(pfn) | (src[0] & UHMM_MIGRATE_PFN_COMPOUND);
	uhmm_migrate_vma_pages(&args);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(uhmm_devmem_used(pool), 1U << order);
}

/* Device-private memory is freed under the PTL, at once. Coherent memory is not: a CPU may have it still. */
START_TEST(zap_frees_under_the_ptl)
{
	struct uhmm_devmem_config config = { .size = sizeof(config),
					     .bytes = UHMM_PMD_SIZE,
					     .type = _i & 1 ? UHMM_MEMORY_DEVICE_COHERENT
							    : UHMM_MEMORY_DEVICE_PRIVATE };
	unsigned int freed = 0, order = _i & 2 ? UHMM_PMD_ORDER : 0;
	struct uhmm_devmem *pool;

	expect_eq(uhmm_devmem_create(f.m, &config, &freed, &sleepy_ops, &freed, &pool), 0);
	populate(pool, order);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE << order, MADV_DONTNEED), 0);
	expect_eq(freed, 1);
	expect_eq(uhmm_devmem_used(pool), 0);
	if (config.type == UHMM_MEMORY_DEVICE_PRIVATE)
		expect_report("with a spin lock held\n");
	expect_eq(fixture_reports(&f), 0);
	uhmm_devmem_destroy(pool);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rules");
	TCase *tc = tcase_create("who holds what");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, exclusive_fault_gives_its_lock_up_once);
	tcase_add_test(tc, no_split_while_another_waits_to_split);
	tcase_add_loop_test(tc, migration_entries_are_waited_for, 0, 2 * NR_WAITERS);
	tcase_add_loop_test(tc, locked_device_pages_are_waited_for, 0, NR_WAITERS);
	tcase_add_test(tc, setup_wants_mmap_lock);
	tcase_add_loop_test(tc, zap_frees_under_the_ptl, 0, 4);
	suite_add_tcase(suite, tc);
	tc = tcase_create("two CPUs");
	tcase_add_loop_test(tc, entry_changed_meanwhile, 0, NR_BEFORE);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
