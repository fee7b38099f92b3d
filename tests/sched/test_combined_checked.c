// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Combined walks that want each other's folios. A walk keeps what it has collected locked while it
 * faults elsewhere; if it slept on others meanwhile, two of them could wait for each other:
 *
 *	T0: X, Y for one device			T1: X, Y for another
 *	------------------------------------	------------------------------------
 *	1 invalidates: T1's sequence moves
 *	2 locks X
 *						3 X is locked: left where it is
 *						4 locks Y, replaces its entry
 *	5 replaces X's entry
 *	6 Y: waits for T1, naively
 *						7 the sequence moved: from the start
 *						8 X: waits for T0, naively
 *
 * combined-wait = back-off puts back what it has before it sleeps. Folios of one family lie in the same
 * order in every mm, so it takes a walk that begins again while it holds some.
 */
#define _GNU_SOURCE
#include "fixture.h"
#include "sched/leaks.h"

#define AT 0x40000000UL

enum { PAGES = 2 };

/* Where the second walk is. */
enum place { SAME_MM, FORKED_MM, NR_PLACES };

static struct fixture f;
static struct uhmm_mm *child;
static struct uhmm_mirror *child_mirror;

static uint64_t value_at(unsigned int i)
{
	return 0x1111111111111111UL * (i + 1);
}

static void setup(enum uhmm_combined_wait wait)
{
	struct uhmm_machine_config config = {
		.nr_cpus = 3,
		.content = UHMM_CONTENT_TAG,
		.combined_wait = wait,
	};

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, PAGES, RW);
	for (unsigned int i = 0; i < PAGES; i++)
		put_word(f.mm, AT + i * PAGE, value_at(i));
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_mirror_open(f.dev[1], child, &child_mirror), 0);
	uhmm_task_leave();
}

static void teardown(void)
{
	uhmm_task_enter(f.task);
	for (unsigned int i = 0; i < PAGES; i++) {
		expect_eq(get_word(f.mm, AT + i * PAGE), value_at(i));
		expect_eq(get_word(child, AT + i * PAGE), value_at(i));
	}
	uhmm_mirror_close(child_mirror);
	uhmm_mmput(child);
	fixture_destroy(&f);
}

/* A walk of both pages, for a device; what comes of it is read back. */
static void walker(void *arg)
{
	uint64_t buf[PAGES * PAGE / 8];
	int ret = mirror_op(arg, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, PAGES, buf, NULL);

	/* The other walk may have taken them before they were read back. */
	expect(!ret || ret == -ENOENT);
	for (unsigned int i = 0; i < PAGES && !ret; i++)
		expect_eq(buf[i * PAGE / 8], value_at(i));
}

/* Somebody else: collects the first page in the child and puts it back. */
static void third(void *arg)
{
	uint64_t src = 0, dst = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = &src,
		.dst = &dst,
		.start = AT,
		.end = AT + PAGE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	(void)arg;
	uhmm_mmap_read_lock(child);
	args.vma = uhmm_vma_lookup(child, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(child);
}

/* Returns what uhmm_sched_run() says. *back_offs: of this run. *trace: malloc'ed; NULL allowed. */
static int run_walkers(enum place place, enum uhmm_combined_wait wait,
		       const struct uhmm_sched_config *config, const char *schedule,
		       uint64_t *back_offs, char **trace)
{
	struct uhmm_sched *s;
	int ret;

	setup(wait);
	expect_eq(uhmm_sched_create(f.m, config, &s), 0);
	expect_eq(uhmm_sched_spawn(s, "walk 0", 0, f.mm, walker, f.mirror[0]), 0);
	if (place == SAME_MM)
		expect_eq(uhmm_sched_spawn(s, "walk 1", 1, f.mm, walker, f.mirror[1]), 0);
	else
		expect_eq(uhmm_sched_spawn(s, "walk 1", 1, child, walker, child_mirror), 0);
	expect_eq(uhmm_sched_spawn(s, "third", 2, child, third, NULL), 0);
	expect_eq(uhmm_sched_set_schedule(s, schedule), 0);
	ret = uhmm_sched_run(s);
	*back_offs = counted(f.m, UHMM_CNT_BACK_OFF);
	if (trace)
		*trace = strdup(uhmm_sched_trace(s));
	uhmm_sched_destroy(s);
	if (!ret)
		teardown();
	else
		uhmm_machine_destroy(f.m);
	return ret;
}

START_TEST(back_off_finishes)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };
	uint64_t seed = test_seed("back-off"), runs = 0, with = 0, back_offs;
	double until = now_seconds() + test_seconds() / NR_PLACES;

	for (; runs < 150 || now_seconds() < until; runs++) {
		config.seed = seed + runs;
		int ret = run_walkers((enum place)_i, UHMM_COMBINED_BACK_OFF, &config, NULL,
				      &back_offs, NULL);

		if (ret)
			ck_abort_msg("seed %llu: %d, %s", (unsigned long long)config.seed, ret,
				     f.text);
		with += !!back_offs;
	}
	printf("%llu schedules, %llu backed off\n", (unsigned long long)runs,
	       (unsigned long long)with);
	expect(with);
}
END_TEST

START_TEST(naive_deadlocks)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };
	struct uhmm_sched_config fixed = { .size = sizeof(fixed), .policy = UHMM_SCHED_FIXED };
	uint64_t seed = test_seed("naive"), runs = 0, back_offs;
	char *trace = NULL;
	int ret = 0;

	allow_leaks();
	for (; !ret && runs < 20000; runs++) {
		free(trace);
		config.seed = seed + runs;
		ret = run_walkers(SAME_MM, UHMM_COMBINED_NAIVE, &config, NULL, &back_offs, &trace);
		expect_eq(back_offs, 0);
	}
	printf("schedule %llu: %d\n", (unsigned long long)runs, ret);
	expect_eq(ret, -EDEADLK);
	/* The second waiter is told of beforehand, and then it has come to it. */
	expect_eq(f.reports[UHMM_REPORT_LOCK], 2);
	ck_assert_ptr_nonnull(strstr(f.text, "possible circular locking dependency"));
	ck_assert_ptr_nonnull(strstr(f.text, "FOLIO -> FOLIO: walk "));
	ck_assert_ptr_nonnull(strstr(f.text, "deadlock: nobody can go on"));
	/* Its trace shows it again. */
	expect_eq(run_walkers(SAME_MM, UHMM_COMBINED_NAIVE, &fixed, trace, &back_offs, NULL),
		  -EDEADLK);
	free(trace);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("combined");
	TCase *tc = tcase_create("walks that want each other's folios");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_loop_test(tc, back_off_finishes, 0, NR_PLACES);
	tcase_add_test(tc, naive_deadlocks);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
