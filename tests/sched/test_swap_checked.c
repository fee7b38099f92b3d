// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pages that are swapped out while others use them, fork them and move them: random schedules, with
 * the lock checker and the TLB. Nothing may be lost, and nobody may wait for ever.
 */
#define _GNU_SOURCE
#include "fixture.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define AT 0x40000000UL

enum { PAGES = 2, ROUNDS = 3 };

static struct fixture f;
static struct uhmm_mm *child;
static uint64_t last[PAGES];

static void setup(enum uhmm_swap swap)
{
	struct uhmm_machine_config config = {
		.nr_cpus = 4,
		.content = UHMM_CONTENT_TAG,
		.swap_bytes = 64 * PAGE,
		.swap = swap,
	};

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, PAGES, RW);
	for (unsigned int i = 0; i < PAGES; i++) {
		last[i] = 100 + i;
		put_word(f.mm, AT + i * PAGE, last[i]);
	}
	/* Some begin in swap, shared with a child. */
	expect_eq(uhmm_madvise(f.mm, AT, PAGES * PAGE, MADV_PAGEOUT), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	uhmm_task_leave();
}

static void teardown(void)
{
	uhmm_task_enter(f.task);
	for (unsigned int i = 0; i < PAGES; i++) {
		expect_eq(get_word(f.mm, AT + i * PAGE), last[i]);
		expect_eq(get_word(child, AT + i * PAGE), 100 + i);
	}
	uhmm_mmput(child);
	fixture_destroy(&f);
}

/* The only one that writes: it knows what it must read. */
static void writer(void *arg)
{
	(void)arg;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < PAGES; i++) {
			expect_eq(get_word(f.mm, AT + i * PAGE), last[i]);
			last[i] += 1000;
			put_word(f.mm, AT + i * PAGE, last[i]);
		}
	}
}

static void swapper(void *arg)
{
	struct uhmm_mm *mm = arg;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		expect_eq(uhmm_madvise(mm, AT, PAGES * PAGE, MADV_PAGEOUT), 0);
		uhmm_sched_user_step();
	}
}

static void mover(void *arg)
{
	uint64_t buf[PAGES * PAGE / 8];
	int ret = mirror_op(arg, UHMM_MIRROR_MIGRATE_TO_DEV, AT, PAGES, buf, NULL);

	expect(!ret || ret == -ENOENT);
	ret = mirror_op(arg, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, PAGES, buf, NULL);
	expect(!ret || ret == -ENOENT);
}

static void reader(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < PAGES; i++)
		expect_eq(get_word(child, AT + i * PAGE), 100 + i);
	expect_eq(uhmm_madvise(child, AT, PAGE, MADV_PAGEOUT), 0);
	expect_eq(get_word(child, AT), 100);
}

START_TEST(nothing_is_lost)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };
	uint64_t seed = test_seed("swap"), runs = 0, cached = 0;
	double until = now_seconds() + test_seconds() / 2;

	for (; runs < 150 || now_seconds() < until; runs++) {
		struct uhmm_sched *s;
		int ret;

		setup(_i ? UHMM_SWAP_DISK : UHMM_SWAP_RAM_DISK);
		config.seed = seed + runs;
		expect_eq(uhmm_sched_create(f.m, &config, &s), 0);
		expect_eq(uhmm_sched_spawn(s, "writer", 0, f.mm, writer, NULL), 0);
		expect_eq(uhmm_sched_spawn(s, "swapper", 1, f.mm, swapper, f.mm), 0);
		expect_eq(uhmm_sched_spawn(s, "mover", 2, f.mm, mover, f.mirror[0]), 0);
		expect_eq(uhmm_sched_spawn(s, "reader", 3, child, reader, NULL), 0);
		ret = uhmm_sched_run(s);
		if (ret)
			ck_abort_msg("seed %llu: %d, %s", (unsigned long long)config.seed, ret,
				     f.text);
		cached += counted(f.m, UHMM_CNT_FAULT_SWAP_CACHED);
		uhmm_sched_destroy(s);
		teardown();
	}
	printf("%llu schedules, %llu faults found the swap cache\n", (unsigned long long)runs,
	       (unsigned long long)cached);
	expect(cached);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("swap");
	TCase *tc = tcase_create("pages that come and go");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_loop_test(tc, nothing_is_lost, 0, 2);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
