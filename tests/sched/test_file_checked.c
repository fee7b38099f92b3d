// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pages of a file under random schedules: one CPU faults on them, one truncates the file or punches
 * a hole into it, one moves pages within RAM, one walks a child's mapping for a device, one reclaims
 * what it can. Page 0 stays and must keep its word; page 1 holds its word or zero.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "mm/swap.h"
#include "unit/inside.h"

#define SHARED 0x40000000UL
#define PRIVATE 0x40010000UL

enum { PAGES = 3 };

static struct uhmm_file *file;
static struct uhmm_mm *child;
static struct uhmm_mirror *child_mirror;
static bool hole;    /* instead of truncation */
static uint64_t out; /* pages that were on swap at the end of a run */

static uint64_t value_at(unsigned int i)
{
	return 0x1111111111111111UL * (i + 1);
}

/* The pages of the file, one by one, whoever uses them. */
static void reclaim_file(void)
{
	expect(uhmm_file_writeback(file, 0, PAGES) >= 0);
	for (unsigned int i = 0; i < PAGES; i++) {
		struct uhmm__frame *frame = uhmm__mapping_get(&file->mapping, i);
		uint32_t index;

		if (!frame)
			continue;
		index = frame_index(f.m, frame);
		if (uhmm__folio_isolate_lru(frame))
			uhmm__reclaim_pages(f.m, &index, 1);
		else
			folio_put(f.m, frame);
	}
}

/* @away: nothing is in RAM at first. */
static void setup(enum uhmm_file_kind kind, bool away)
{
	struct uhmm_machine_config config = { .nr_cpus = 5,
					      .content = UHMM_CONTENT_TAG,
					      .swap_bytes = 16 * PAGE };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	expect_eq(uhmm_file_create(f.m, kind, PAGES * PAGE, &file), 0);
	expect_eq(uhmm_mmap(f.mm, SHARED, PAGES * PAGE, RW, MAP_SHARED | MAP_FIXED, file, 0, NULL),
		  0);
	expect_eq(uhmm_mmap(f.mm, PRIVATE, PAGES * PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, 0,
			    NULL),
		  0);
	for (unsigned int i = 0; i < PAGES; i++)
		put_word(f.mm, SHARED + i * PAGE, value_at(i));
	put_word(f.mm, PRIVATE + 2 * PAGE, value_at(2));
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_mirror_open(f.dev[0], child, &child_mirror), 0);
	if (away) {
		uhmm__lru_add_drain_all(f.m);
		reclaim_file();
		expect_eq(uhmm_file_nr_cached(file), 0);
	}
	/* Fibers bring their own tasks. */
	uhmm_task_leave();
}

static void end(void)
{
	uhmm_mirror_close(child_mirror);
	uhmm_mmput(child);
	uhmm_file_put(file);
	fixture_destroy(&f);
}

static void teardown(void)
{
	uint64_t word = 0;

	uhmm_task_enter(f.task);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, SHARED), value_at(0));
	expect_eq(get_word(child, PRIVATE), value_at(0));
	expect_eq(uhmm_file_read(file, 0, &word, sizeof(word)), sizeof(word));
	expect_eq(word, value_at(0));
	expect_eq(get_word(f.mm, SHARED + 2 * PAGE), 0);
	/* A copy outlives a hole, but not its place in the file. */
	expect_eq(get_word(child, PRIVATE + 2 * PAGE), hole ? value_at(2) : 0);
	end();
}

static void faulter(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < PAGES; i++) {
		uint64_t word = 0;
		int ret = uhmm_cpu_read(f.mm, PRIVATE + i * PAGE, &word, 8, NULL);

		expect(!ret || ret == SIGBUS);
		expect(!word || word == value_at(i));
		word = value_at(i);
		/* Page 2 is gone for good: nobody writes to it any more. */
		if (i < 2)
			ret = uhmm_cpu_write(f.mm, SHARED + i * PAGE, &word, 8, NULL);
		expect(!ret || ret == SIGBUS);
	}
}

static void truncator(void *arg)
{
	(void)arg;
	if (hole) {
		expect_eq(uhmm_file_punch_hole(file, PAGE, (PAGES - 1) * PAGE), 0);
		return;
	}
	expect_eq(uhmm_file_truncate(file, PAGE), 0);
	/* Unless reclaim was here first. */
	expect(uhmm_file_writeback(file, 0, PAGES) <= (uhmm_file_kind(file) == UHMM_FILE_REGULAR));
	expect_eq(uhmm_file_truncate(file, PAGES * PAGE), 0);
}

static void mover(void *arg)
{
	uint64_t src[PAGES] = { 0 }, dst[PAGES] = { 0 };
	struct uhmm_migrate_vma mig = {
		.size = sizeof(mig),
		.src = src,
		.dst = dst,
		.start = SHARED,
		.end = SHARED + PAGES * PAGE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	(void)arg;
	uhmm_mmap_read_lock(f.mm);
	mig.vma = uhmm_vma_lookup(f.mm, SHARED);
	expect_eq(uhmm_migrate_vma_setup(&mig), 0);
	for (unsigned int i = 0; i < PAGES; i++) {
		uhmm_pfn_t pfn;

		if (!(src[i] & UHMM_MIGRATE_PFN_MIGRATE))
			continue;
		expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
		dst[i] = uhmm_migrate_pfn(pfn);
		uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(src[i]));
	}
	uhmm_migrate_vma_pages(&mig);
	uhmm_migrate_vma_finalize(&mig);
	uhmm_mmap_read_unlock(f.mm);
}

static void walker(void *arg)
{
	uint64_t buf[PAGES * PAGE / 8];
	int ret = mirror_op(child_mirror, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, (uhmm_vaddr_t)arg,
			    PAGES, buf, NULL);

	expect(!ret || ret == -ENOENT || ret == -EFAULT || ret == -EBUSY);
	for (unsigned int i = 0; i < PAGES && !ret; i++)
		expect(!buf[i * PAGE / 8] || buf[i * PAGE / 8] == value_at(i));
}

static void reclaimer(void *arg)
{
	(void)arg;
	for (unsigned int round = 0; round < 2; round++) {
		uhmm__lru_add_drain_all(f.m);
		reclaim_file();
	}
	out += uhmm_file_nr_swapped(file);
}

static void run(enum uhmm_file_kind kind, uint64_t seed)
{
	struct uhmm_sched_config config = {
		.size = sizeof(config),
		.policy = UHMM_SCHED_RANDOM,
		.seed = seed,
	};
	struct uhmm_sched *s;
	int ret;

	hole = seed & 2;
	setup(kind, seed & 4);
	expect_eq(uhmm_sched_create(f.m, &config, &s), 0);
	expect_eq(uhmm_sched_spawn(s, "fault", 0, f.mm, faulter, NULL), 0);
	expect_eq(uhmm_sched_spawn(s, "truncate", 1, NULL, truncator, NULL), 0);
	expect_eq(uhmm_sched_spawn(s, "move", 2, f.mm, mover, NULL), 0);
	expect_eq(uhmm_sched_spawn(s, "walk", 3, child, walker,
				   (void *)(seed & 1 ? SHARED : PRIVATE)),
		  0);
	expect_eq(uhmm_sched_spawn(s, "reclaim", 4, NULL, reclaimer, NULL), 0);
	ret = uhmm_sched_run(s);
	if (ret)
		ck_abort_msg("seed %llu: %d, %s", (unsigned long long)seed, ret, f.text);
	uhmm_sched_destroy(s);
	teardown();
}

START_TEST(nothing_is_lost)
{
	uint64_t seed = test_seed("file"), runs = 0;
	double until = now_seconds() + test_seconds() / 2;

	for (; runs < 150 || now_seconds() < until; runs++)
		run(_i ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, seed + runs);
	printf("%llu schedules, %llu pages swapped out\n", (unsigned long long)runs,
	       (unsigned long long)out);
	expect(!_i || out);
}
END_TEST

/* ---- a file that grows ---- */

static void grower(void *arg)
{
	(void)arg;
	for (unsigned int i = PAGES; i < 2 * PAGES; i++) {
		uint64_t word = value_at(i);

		expect_eq(uhmm_file_write(file, i * PAGE, &word, sizeof(word)), sizeof(word));
	}
}

/* Who sees that the file is longer sees what was written there. */
static void follower(void *arg)
{
	uint64_t size;

	(void)arg;
	do {
		uint64_t word = 0;

		size = uhmm_file_size(file);
		if (size > PAGES * PAGE) {
			expect_eq(uhmm_file_read(file, ALIGN_DOWN(size - 1, PAGE), &word,
						 sizeof(word)),
				  sizeof(word));
			expect_eq(word, value_at((size - 1) / PAGE));
		}
		uhmm_sched_user_step();
	} while (size < (2 * PAGES - 1) * PAGE + sizeof(uint64_t));
}

START_TEST(data_comes_before_the_size)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };

	for (config.seed = 1; config.seed <= 60; config.seed++) {
		struct uhmm_sched *s;

		setup(config.seed & 1 ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, false);
		expect_eq(uhmm_sched_create(f.m, &config, &s), 0);
		expect_eq(uhmm_sched_spawn(s, "grow", 0, NULL, grower, NULL), 0);
		expect_eq(uhmm_sched_spawn(s, "follow", 1, NULL, follower, NULL), 0);
		expect_eq(uhmm_sched_spawn(s, "reclaim", 4, NULL, reclaimer, NULL), 0);
		expect_eq(uhmm_sched_run(s), 0);
		uhmm_sched_destroy(s);
		uhmm_task_enter(f.task);
		fixture_verify(&f);
		end();
	}
}
END_TEST

/* ---- a store by a translation that is not flushed yet; all on one CPU, in turn ---- */

static void until_unmapped(void)
{
	while (pte_present(pte_at(f.mm, SHARED)))
		uhmm__cond_resched();
}

static void storer(void *arg)
{
	(void)arg;
	put_word(f.mm, SHARED, 1);
	until_unmapped();
	put_word(f.mm, SHARED, 2);
}

static void unmapper(void *arg)
{
	(void)arg;
	expect_eq(uhmm_madvise(f.mm, SHARED, PAGE, MADV_DONTNEED), 0);
}

static void cleaner(void *arg)
{
	(void)arg;
	until_unmapped();
	expect_eq(uhmm_file_writeback(file, 0, 1), 1);
}

/* Writeback calls no page clean that a CPU can still write to. Models: tlb_flush_rmaps(). */
START_TEST(a_store_is_not_lost)
{
	void (*const fns[])(void *) = { storer, unmapper, cleaner };
	struct uhmm_sched *s;
	uint64_t word = 0;

	setup(UHMM_FILE_REGULAR, false);
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	for (unsigned int i = 0; i < 3; i++)
		expect_eq(uhmm_sched_spawn(s, "fiber", 0, f.mm, fns[i], NULL), 0);
	expect_eq(uhmm_sched_run(s), 0);
	uhmm_sched_destroy(s);
	uhmm_task_enter(f.task);
	uhmm__lru_add_drain_all(f.m);
	reclaim_file();
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(uhmm_file_read(file, 0, &word, sizeof(word)), sizeof(word));
	expect_eq(word, 2);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file");
	TCase *tc = tcase_create("pages of files");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_loop_test(tc, nothing_is_lost, 0, 2);
	tcase_add_test(tc, data_comes_before_the_size);
	tcase_add_test(tc, a_store_is_not_lost);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
