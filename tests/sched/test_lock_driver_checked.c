// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The lock checker and whole drivers: what a driver's author would be told. The driver is written
 * against the public interface, with mistakes that real ones had. On host threads and on fibers.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "fixture.h"
#include "mm/mm.h"
#include "sched/leaks.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define AT 0x40000000UL

enum { PAGES = 4 };
enum { ON_THREADS, ON_FIBERS, NR_WAYS };

static struct fixture f;
static int way;

/* Watches the pages. Its lock is taken in the callback. */
static struct {
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_mutex *mutex;
	uint64_t pfns[PAGES];
	int err;
} d;

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	/* Its own migration. */
	if (range->event == UHMM_MMU_NOTIFY_MIGRATE && range->owner == &d)
		return true;
	uhmm_mutex_lock(d.mutex);
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	uhmm_mutex_unlock(d.mutex);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = invalidate };

static void setup_machine(enum uhmm_lock_order lock_order)
{
	struct uhmm_machine_config config = { .nr_cpus = 2,
					      .swap_bytes = 1 << 20,
					      .lock_order = lock_order };

	fixture_create(&f, config);
	map_fixed(f.mm, AT, PAGES, RW);
	for (unsigned int i = 0; i < PAGES; i++)
		put_word(f.mm, AT + i * PAGE, i);
	expect_eq(uhmm_mutex_create(f.m, "driver", &d.mutex), 0);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, PAGES * PAGE, &ops, NULL, &d.mni), 0);
	uhmm_task_leave();
	fixture_forget_reports(&f);
}

static void setup(void)
{
	setup_machine(UHMM_LOCK_ORDER_REPORTED);
}

static void teardown(void)
{
	uhmm_task_enter(f.task);
	uhmm_mmu_interval_notifier_remove(d.mni);
	uhmm_mutex_destroy(d.mutex);
	fixture_destroy(&f);
}

/* ---- running ---- */

static void *thread_main(void *arg)
{
	void (*const *fn)(void *arg) = arg;
	struct uhmm_task *t;

	expect_eq(uhmm_task_create(f.m, f.mm, 0, "driver", &t), 0);
	uhmm_task_enter(t);
	(*fn)(NULL);
	uhmm_task_leave();
	uhmm_task_destroy(t);
	return NULL;
}

static void run(void (*fn)(void *arg))
{
	struct uhmm_sched *s;
	pthread_t id;

	if (way == ON_THREADS) {
		expect_eq(pthread_create(&id, NULL, thread_main, &fn), 0);
		expect_eq(pthread_join(id, NULL), 0);
		return;
	}
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	expect_eq(uhmm_sched_spawn(s, "driver", 0, f.mm, fn, NULL), 0);
	expect_eq(uhmm_sched_run(s), 0);
	uhmm_sched_destroy(s);
}

/* @nr lock reports, and in them these texts, in this order. */
static void check_reported(unsigned int nr, const char *const *texts)
{
	const char *at = f.text;

	if (f.reports[UHMM_REPORT_LOCK] != nr)
		ck_abort_msg("%u reports: %s", f.reports[UHMM_REPORT_LOCK], f.text);
	for (; *texts; texts++) {
		at = strstr(at, *texts);
		if (!at)
			ck_abort_msg("missing here: \"%s\", in: %s", *texts, f.text);
	}
	fixture_forget_reports(&f);
}

#define reported(nr, ...) check_reported(nr, (const char *const[]){ __VA_ARGS__, NULL })

static void nothing_reported(void)
{
	if (fixture_reports(&f))
		ck_abort_msg("not expected: %s", f.text);
}

/* ---- mmap_lock taken again: the posted test driver's fault-and-migrate operation ---- */

static uint64_t src[PAGES], dst[PAGES];
static struct uhmm_migrate_vma args;
static struct uhmm_hmm_range range;

/* Pages that were collected move: here from RAM to RAM. */
static void migrate(bool undo)
{
	uhmm_migrate_hmm_range_setup(&range);
	for (unsigned int i = 0; i < PAGES && !undo; i++) {
		uhmm_pfn_t to;

		if (!(src[i] & UHMM_MIGRATE_PFN_MIGRATE) || uhmm_alloc_locked_page(f.m, &to))
			continue;
		uhmm_copy_highpage(f.m, to, uhmm_migrate_pfn_to_pfn(src[i]));
		dst[i] = uhmm_migrate_pfn(to);
	}
	uhmm_migrate_vma_pages(&args);
	uhmm_migrate_vma_finalize(&args);
}

/* What the driver's other operations use, too. mmap_lock is not held; is taken, as in the original. */
static int range_fault(bool locked)
{
	bool retry;
	int err;

	do {
		range.notifier_seq = uhmm_mmu_interval_read_begin(d.mni);
		if (!locked)
			uhmm_mmap_read_lock(f.mm);
		err = uhmm_range_fault(&range);
		if (!locked)
			uhmm_mmap_read_unlock(f.mm);
		if (err)
			continue;
		uhmm_mutex_lock(d.mutex);
		retry = uhmm_mmu_interval_read_retry(d.mni, range.notifier_seq);
		uhmm_mutex_unlock(d.mutex);
		if (!retry)
			return 0;
		migrate(true);
		err = -EBUSY;
	} while (err == -EBUSY);
	return err;
}

/* @mended: the inner one does not take the lock again. */
static void fault_and_migrate(bool mended)
{
	args = (struct uhmm_migrate_vma){ .size = sizeof(args),
					  .src = src,
					  .dst = dst,
					  .pgmap_owner = &d,
					  .flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM };
	range = (struct uhmm_hmm_range){
		.size = sizeof(range),
		.notifier = d.mni,
		.start = AT,
		.end = AT + PAGES * PAGE,
		.hmm_pfns = d.pfns,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_MIGRATE,
		.migrate = &args,
	};
	memset(d.pfns, 0, sizeof(d.pfns));
	uhmm_mmap_read_lock(f.mm);
	expect_eq(range_fault(mended), 0);
	migrate(false);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(args.cpages, PAGES);
}

static void posted(void *arg)
{
	(void)arg;
	fault_and_migrate(false);
}

static void mended(void *arg)
{
	(void)arg;
	fault_and_migrate(true);
}

START_TEST(mmap_lock_recursion)
{
	way = _i;
	run(mended);
	nothing_reported();
	run(posted);
	reported(1, "possible recursive locking detected\n", "driver/", " is about to wait for\n",
		 "    MMAP 0x", " (read), in range_fault() at sched/test_lock_driver_checked.c:",
		 "which it holds already:\n", "    MMAP 0x",
		 " (read), in fault_and_migrate() at sched/test_lock_driver_checked.c:",
		 "  read_lock(MMAP);\n", "lock(MMAP); waits for the reader\n",
		 "  read_lock(MMAP); waits for the writer\n", "1 lock held by driver/",
		 " #0: MMAP 0x");
}
END_TEST

/* Another thread of the process. */
static void maps_more(void *arg)
{
	(void)arg;
	expect_eq(uhmm_mmap(f.mm, AT + 2 * PAGES * PAGE, PAGE, RW, ANON | MAP_FIXED, NULL, 0, NULL),
		  0);
}

/* The driver, and a thread that maps memory; by a schedule, then CPUs in turn. */
static int run_with_writer(void (*driver)(void *arg), char **trace)
{
	struct uhmm_sched *s;
	int ret;

	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	expect_eq(uhmm_sched_spawn(s, "driver", 1, f.mm, driver, NULL), 0);
	expect_eq(uhmm_sched_spawn(s, "thread", 0, f.mm, maps_more, NULL), 0);
	expect_eq(uhmm_sched_set_schedule(s, *trace ? *trace : "T0*2 T1*3"), 0);
	ret = uhmm_sched_run(s);
	if (!*trace)
		*trace = strdup(uhmm_sched_trace(s));
	uhmm_sched_destroy(s);
	return ret;
}

/* A writer comes in between: nobody goes on. What happened is a schedule that shows it again. */
START_TEST(mmap_lock_recursion_and_a_writer)
{
	char *trace = NULL;

	allow_leaks();
	for (unsigned int i = 0; i < 2; i++) {
		setup();
		expect_eq(run_with_writer(posted, &trace), -EDEADLK);
		reported(2, "possible recursive locking detected\n", "driver/", "    MMAP 0x",
			 "range_fault()",
			 "A writer is queued already: this task will never get it.\n",
			 "deadlock: nobody can go on", "driver", "sleeps", "for MMAP 0x",
			 " #0: MMAP 0x", " (read), in fault_and_migrate() at sched/", "thread",
			 "sleeps", "for MMAP 0x");
		uhmm_machine_destroy(f.m);
	}
	printf("deadlock by: %s\n", trace);
	free(trace);
}
END_TEST

START_TEST(mended_driver_and_a_writer)
{
	char *trace = NULL;

	setup();
	expect_eq(run_with_writer(mended, &trace), 0);
	nothing_reported();
	free(trace);
	teardown();
}
END_TEST

/* ---- the driver's lock, which is taken in invalidations ---- */

/* Of a page that hmm_range_fault() found. */
static void find_page(void)
{
	range = (struct uhmm_hmm_range){
		.size = sizeof(range),
		.notifier = d.mni,
		.start = AT,
		.end = AT + PAGE,
		.hmm_pfns = d.pfns,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT,
	};
	d.pfns[0] = 0;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
}

/* Reclaim locks a folio, then invalidates. Models: what made xe's mistake a deadlock. */
static void pages_out(void *arg)
{
	(void)arg;
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_PAGEOUT), 0);
}

/* Waits for a folio's lock under its own. */
static void dirties_under_its_lock(void *arg)
{
	(void)arg;
	find_page();
	uhmm_mutex_lock(d.mutex);
	uhmm_set_page_dirty_lock(f.m, uhmm_hmm_pfn_to_pfn(d.pfns[0]));
	uhmm_mutex_unlock(d.mutex);
}

static void dirties(void *arg)
{
	(void)arg;
	find_page();
	uhmm_set_page_dirty_lock(f.m, uhmm_hmm_pfn_to_pfn(d.pfns[0]));
}

START_TEST(folio_lock_and_notifier_lock)
{
	way = _i;
	run(pages_out);
	run(dirties);
	nothing_reported();
	run(dirties_under_its_lock);
	reported(1, "possible circular locking dependency detected\n", "driver/", "    FOLIO 0x",
		 ", in uhmm_set_page_dirty_lock() at migrate/page.c:", "while it holds\n",
		 "    driver 0x", ", in dirties_under_its_lock() at sched/",
		 " -> #0: FOLIO -> driver: driver/", "    driver 0x", "invalidate() at sched/",
		 "    FOLIO 0x", "at mm/reclaim.c:",
		 "  lock(driver);\n"
		 "                               lock(FOLIO);\n",
		 "                               lock(driver);\n"
		 "  lock(FOLIO);\n",
		 "*** DEADLOCK ***\n");
}
END_TEST

/* Each of these is right without the lock. */
static void begins_under_its_lock(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(d.mutex);
	uhmm_mmu_interval_read_begin(d.mni);
	uhmm_mutex_unlock(d.mutex);
}

static void allocates_under_its_lock(void *arg)
{
	uhmm_pfn_t pfn;

	(void)arg;
	uhmm_mutex_lock(d.mutex);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_mutex_unlock(d.mutex);
	uhmm_unlock_put_page(f.m, pfn);
}

static void faults_under_its_lock(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(d.mutex);
	find_page();
	uhmm_mutex_unlock(d.mutex);
}

static void invalidates(void *arg)
{
	(void)arg;
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
}

START_TEST(waits_under_the_notifier_lock)
{
	way = _i;
	run(invalidates);
	nothing_reported();
	run(begins_under_its_lock);
	reported(2, "possible circular", "    NOTIFIER_SEQ 0x",
		 "uhmm_mmu_interval_read_begin() at mm/", "    driver 0x",
		 "begins_under_its_lock()", "NOTIFIER_SEQ -> driver: driver/",
		 "  begin(NOTIFIER_SEQ);\n", "  wait(NOTIFIER_SEQ);\n", "possible circular",
		 "    INVALIDATE 0x", "INVALIDATE -> driver: driver/", "invalidate() at sched/");
	/* Reclaim invalidates: nobody has seen that yet, but it is declared. */
	run(allocates_under_its_lock);
	reported(1, "possible circular", "    RECLAIM 0x", "at mm/frame.c:", "    driver 0x",
		 "allocates_under_its_lock()", " -> #1: INVALIDATE -> driver: ",
		 " -> #0: RECLAIM -> INVALIDATE: declared so in lock_classes.def, order 35 and 55");
	run(faults_under_its_lock);
	reported(1, "possible circular", "    MMAP 0x", "    driver 0x", "faults_under_its_lock()",
		 " -> driver: driver/", "invalidate() at sched/", "  read_lock(MMAP);\n");
}
END_TEST

/* ---- pages that are the driver's no more ---- */

/* A page that it found, and that was taken away meanwhile: the driver does not ask. */
static void accesses_after(void (*fn)(void *arg), bool asks)
{
	uint64_t word = 1;
	bool retry;

	put_word(f.mm, AT, 0);
	find_page();
	uhmm_page_write(f.m, uhmm_hmm_pfn_to_pfn(d.pfns[0]), 0, &word, sizeof(word));
	fn(NULL);
	uhmm_mutex_lock(d.mutex);
	retry = uhmm_mmu_interval_read_retry(d.mni, range.notifier_seq);
	expect(retry);
	if (!asks) {
		uhmm_pfn_t pfn = uhmm_hmm_pfn_to_pfn(d.pfns[0]);

		uhmm_page_read(f.m, pfn, 0, &word, sizeof(word));
		uhmm_page_write(f.m, pfn, 0, &word, sizeof(word));
		uhmm_set_page_dirty(f.m, pfn);
		uhmm_clear_highpage(f.m, pfn);
		uhmm_copy_highpage(f.m, pfn, pfn);
	}
	uhmm_mutex_unlock(d.mutex);
}

/* What waits in a batch for the LRU is not free yet. */
static void drain_and_invalidate(void *arg)
{
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_POPULATE_WRITE), 0);
	invalidates(arg);
}

static void keeps_a_page(void *arg)
{
	(void)arg;
	accesses_after(drain_and_invalidate, false);
}

static void asks_for_its_page(void *arg)
{
	(void)arg;
	accesses_after(drain_and_invalidate, true);
}

START_TEST(freed_page)
{
	way = _i;
	run(asks_for_its_page);
	nothing_reported();
	run(keeps_a_page);
	expect_eq(f.reports[UHMM_REPORT_FREED], 6);
	reported(0, "uhmm_page_read() of a page of RAM that was freed: pfn 0x", ", by driver/",
		 "uhmm_page_write() of", "uhmm_set_page_dirty() of", "uhmm_clear_highpage() of",
		 "uhmm_copy_highpage() of", "uhmm_copy_highpage() of");
}
END_TEST

/* ---- inside of mm: what a mistake there would look like ---- */

static ptent_t *pmd_of(uhmm_vaddr_t addr)
{
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&f.mm->pgt, addr, &level);

	expect(pmdp);
	return pmdp;
}

/* A table that stays mapped on the way out, as do_swap_page() once left it. */
static void forgets_unmap(void *arg)
{
	struct uhmm__spinlock *ptl;
	ptent_t *ptep;

	(void)arg;
	ptep = uhmm__pte_offset_map_lock(pmd_of(AT), AT, &ptl);
	expect(ptep);
	uhmm__spin_unlock(ptl);
	uhmm_sched_user_step();
	uhmm__pte_unmap(ptep);
}

/* Allocates where it must not sleep. */
static void allocates_under_pmd_lock(void *arg)
{
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(pmd_of(AT));
	struct uhmm__frame *frame = uhmm__folio_alloc(f.m, false);

	(void)arg;
	uhmm__spin_unlock(ptl);
	folio_put(f.m, frame);
}

static void allocates_with_table_mapped(void *arg)
{
	ptent_t *ptep = uhmm__pte_offset_map(pmd_of(AT), AT, NULL);
	struct uhmm__frame *frame = uhmm__folio_alloc(f.m, false);

	(void)arg;
	uhmm__pte_unmap(ptep);
	folio_put(f.m, frame);
}

/* A writer of mmap_lock waits for readers of VMAs. */
static void takes_mmap_lock_under_vma_lock(void *arg)
{
	struct uhmm_vma *vma = lock_vma_under_rcu(f.mm, AT);

	(void)arg;
	expect(vma);
	mmap_read_lock(f.mm);
	mmap_read_unlock(f.mm);
	vma_end_read(vma);
}

static void keeps_vma_lock(void *arg)
{
	struct uhmm_vma *vma = lock_vma_under_rcu(f.mm, AT);

	(void)arg;
	uhmm_sched_user_step();
	vma_end_read(vma);
}

START_TEST(mistakes_inside)
{
	way = _i;
	run(forgets_unmap);
	reported(1, "unbalanced PTE map: a table still mapped on return to user mode\n", "driver/",
		 " #0: PTE_MAP 0x", ", in forgets_unmap() at sched/");
	run(allocates_under_pmd_lock);
	reported(2, "sleeping function called from invalid context: with a spin lock held\n",
		 ", in uhmm__folio_alloc_frozen() at mm/frame.c:", " #0: PTL_PMD 0x",
		 "allocates_under_pmd_lock()", "possible circular", "RECLAIM -> PTL_PMD: declared");
	run(allocates_with_table_mapped);
	reported(1, "sleeping function called from invalid context: with a PTE table mapped",
		 " #0: PTE_MAP 0x", "allocates_with_table_mapped()");
	run(takes_mmap_lock_under_vma_lock);
	reported(1, "possible circular", "    MMAP 0x", "    VMA 0x", "MMAP -> VMA: test/",
		 "uhmm_mmap() at mm/");
	run(keeps_vma_lock);
	reported(1, "locks held on return to user mode\n", " #0: VMA 0x", "keeps_vma_lock()");
}
END_TEST

/* Not before it has come to it, if that is what is asked for; what is wrong at any time still is. */
START_TEST(order_ignored)
{
	char *trace = NULL;

	allow_leaks();
	setup_machine(UHMM_LOCK_ORDER_IGNORED);
	way = ON_FIBERS;
	run(posted);
	run(pages_out);
	run(dirties_under_its_lock);
	nothing_reported();
	run(keeps_vma_lock);
	reported(1, "locks held on return to user mode\n");
	expect_eq(run_with_writer(posted, &trace), -EDEADLK);
	reported(1, "deadlock: nobody can go on", "for MMAP 0x", "for MMAP 0x");
	uhmm_machine_destroy(f.m);
	free(trace);
}
END_TEST

/* Only its own end makes the sequence even. */
static void waits_for_itself(void *arg)
{
	struct uhmm_mmu_notifier_range notify =
		UHMM__NOTIFIER_RANGE(f.mm, UHMM_MMU_NOTIFY_CLEAR, AT, AT + PAGE, NULL);

	(void)arg;
	uhmm__invalidate_start(&notify);
	uhmm_mmu_interval_read_begin(d.mni);
}

START_TEST(own_invalidation)
{
	struct uhmm_sched *s;

	allow_leaks();
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	expect_eq(uhmm_sched_spawn(s, "driver", 1, f.mm, waits_for_itself, NULL), 0);
	expect_eq(uhmm_sched_run(s), -EDEADLK);
	uhmm_sched_destroy(s);
	reported(2, "possible recursive locking detected\n", "    NOTIFIER_SEQ 0x",
		 "which it holds already:\n", "    NOTIFIER_SEQ 0x", "waits_for_itself()",
		 "  begin(NOTIFIER_SEQ);\n  wait(NOTIFIER_SEQ);\n", "deadlock: nobody can go on",
		 "for NOTIFIER_WQ");
	uhmm_machine_destroy(f.m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lock checker and drivers");
	TCase *each = tcase_create("a driver"), *own = tcase_create("runs that end badly");

	tcase_add_checked_fixture(each, setup, teardown);
	tcase_add_loop_test(each, mmap_lock_recursion, 0, NR_WAYS);
	tcase_add_loop_test(each, folio_lock_and_notifier_lock, 0, NR_WAYS);
	tcase_add_loop_test(each, waits_under_the_notifier_lock, 0, NR_WAYS);
	tcase_add_loop_test(each, freed_page, 0, NR_WAYS);
	tcase_add_loop_test(each, mistakes_inside, 0, NR_WAYS);
	suite_add_tcase(suite, each);
	tcase_add_test(own, mmap_lock_recursion_and_a_writer);
	tcase_add_test(own, mended_driver_and_a_writer);
	tcase_add_test(own, order_ignored);
	suite_add_tcase(suite, own);
	own = tcase_create("a run that ends badly");
	tcase_add_checked_fixture(own, setup, NULL);
	tcase_add_test(own, own_invalidation);
	suite_add_tcase(suite, own);
	return run_suite(suite);
}
