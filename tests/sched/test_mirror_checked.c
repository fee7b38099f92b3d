// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a range walk has read of pages that the same device moves meanwhile. The device's notifier
 * ignores its own migrations, so the sequence does not tell:
 *
 *	T0: a walk for the device		T1: the process and its device
 *	------------------------------------	------------------------------------
 *	1 reads: page X of the device
 *						2 a CPU's write brings X home, to R
 *	3 enters X into the device's tables
 *						4 the device writes: to X, which is free
 *						5 a CPU reads R: the write is lost
 *
 * A window that the device moves can bring an old entry back in the same way. And what an invalidation
 * takes away between the walk and the entering, of a migration or of an atomic access, must not be
 * entered either, for the page is free then. All of that holds also if the other task has opened the
 * device a second time.
 */
#define _GNU_SOURCE
#include "fixture.h"

#define AT 0x40000000UL

enum { PAGES = 2 };

/* What the other task does. */
enum other {
	WALKS,
	MIGRATES,
	MIGRATES_ON_FAULT,
	COMES_HOME,
	TAKES_EXCLUSIVE,
	IS_SERVED, /* by each strategy */
	NR_OTHERS = IS_SERVED + UHMM_NR_STRATEGIES,
	NR_LOOPS = 2 * NR_OTHERS, /* by the same mirror, and by another */
};

static struct fixture f;
static enum other other;
static struct uhmm_mirror *meddles; /* f.mirror[0], or one more of the same device and process */

static void setup(bool second)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .content = UHMM_CONTENT_TAG };
	uint64_t buf[PAGES * PAGE / 8];

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, PAGES, RW);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL), 0);
	meddles = f.mirror[0];
	if (second)
		expect_eq(uhmm_mirror_open(f.dev[0], f.mm, &meddles), 0);
	uhmm_task_leave();
}

static void writer(void *arg)
{
	uint64_t word = 0, read;

	(void)arg;
	for (unsigned int i = 0; i < 2 * PAGES; i++) {
		uhmm_vaddr_t addr = AT + i % PAGES * PAGE;

		word++;
		expect_eq(uhmm_cpu_write(f.mm, addr, &word, sizeof(word), NULL), 0);
		word++;
		expect_eq(uhmm_mirror_access(f.mirror[0], addr, true, &word, UHMM_COMBINED, PAGE,
					     NULL),
			  0);
		expect_eq(uhmm_cpu_read(f.mm, addr, &read, sizeof(read), NULL), 0);
		expect_eq(read, word);
	}
}

/* Pages are filled and thrown away. */
static void discarder(void *arg)
{
	uint64_t word = 1;

	(void)arg;
	for (unsigned int i = 0; i < 2; i++) {
		for (unsigned int page = 0; page < PAGES; page++)
			expect_eq(uhmm_cpu_write(f.mm, AT + page * PAGE, &word, sizeof(word), NULL),
				  0);
		expect_eq(uhmm_madvise(f.mm, AT, PAGES * PAGE, MADV_DONTNEED), 0);
	}
}

/* The device writes where it may have the zero page. */
static void filler(void *arg)
{
	uint64_t word = 0, read;

	(void)arg;
	for (unsigned int i = 0; i < 2 * PAGES; i++) {
		uhmm_vaddr_t addr = AT + i % PAGES * PAGE;

		word++;
		expect_eq(uhmm_madvise(f.mm, addr, PAGE, MADV_DONTNEED), 0);
		expect_eq(uhmm_cpu_read(f.mm, addr, &read, sizeof(read), NULL), 0);
		expect_eq(read, 0);
		expect_eq(uhmm_mirror_access(f.mirror[0], addr, true, &word,
					     UHMM_MIGRATE_FAULT_MIGRATE, PAGE, NULL),
			  0);
		expect_eq(uhmm_mirror_access(f.mirror[0], addr, false, &read,
					     UHMM_MIGRATE_FAULT_MIGRATE, PAGE, NULL),
			  0);
		expect_eq(read, word);
	}
}

static int meddle(void)
{
	static const enum uhmm_mirror_op ops[] = {
		[WALKS] = UHMM_MIRROR_READ,
		[MIGRATES] = UHMM_MIRROR_MIGRATE_TO_DEV,
		[MIGRATES_ON_FAULT] = UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
		[COMES_HOME] = UHMM_MIRROR_MIGRATE_TO_SYS,
		[TAKES_EXCLUSIVE] = UHMM_MIRROR_EXCLUSIVE,
	};
	uint64_t buf[PAGES * PAGE / 8];

	if (other < IS_SERVED)
		return mirror_op(meddles, ops[other], AT, PAGES, buf, NULL);
	return uhmm_mirror_access(meddles, AT, false, buf, other - IS_SERVED, PAGES * PAGE, NULL);
}

static void meddler(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 3; i++) {
		int ret = meddle();

		/* What it has read or moved is gone again. */
		expect(!ret || ret == -ENOENT || ret == -EBUSY);
	}
}

static uint64_t device_read(struct uhmm_mirror *mirror, unsigned int page)
{
	uint64_t read = 0;

	expect_eq(uhmm_mirror_access(mirror, AT + page * PAGE, false, &read, UHMM_COMBINED, PAGE,
				     NULL),
		  0);
	return read;
}

/* Both see what a CPU does, as it was left and as it is written now. */
static void check_devices(void)
{
	for (unsigned int page = 0; page < PAGES; page++) {
		uint64_t word = device_read(meddles, page);

		expect_eq(device_read(f.mirror[0], page), word);
		expect_eq(get_word(f.mm, AT + page * PAGE), word);
		put_word(f.mm, AT + page * PAGE, 0x1000 + page);
		expect_eq(device_read(f.mirror[0], page), 0x1000 + page);
		expect_eq(device_read(meddles, page), 0x1000 + page);
	}
}

static void explore(const char *name, int loop, void (*first)(void *))
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };
	uint64_t seed = test_seed(name), runs = 0;
	double until = now_seconds() + test_seconds() / NR_LOOPS;

	other = (enum other)(loop % NR_OTHERS);
	for (; runs < 50 || now_seconds() < until; runs++) {
		struct uhmm_sched *s;
		int ret;

		config.seed = seed + runs;
		setup(loop >= NR_OTHERS);
		expect_eq(uhmm_sched_create(f.m, &config, &s), 0);
		expect_eq(uhmm_sched_spawn(s, name, 0, f.mm, first, NULL), 0);
		expect_eq(uhmm_sched_spawn(s, "meddler", 1, f.mm, meddler, NULL), 0);
		ret = uhmm_sched_run(s);
		uhmm_sched_destroy(s);
		if (ret)
			ck_abort_msg("seed %llu: %d, %s", (unsigned long long)config.seed, ret,
				     f.text);
		uhmm_task_enter(f.task);
		check_devices();
		if (meddles != f.mirror[0])
			uhmm_mirror_close(meddles);
		fixture_destroy(&f);
	}
	printf("%llu schedules\n", (unsigned long long)runs);
}

START_TEST(no_write_is_lost)
{
	explore("writer", _i, writer);
}
END_TEST

START_TEST(no_freed_page_is_entered)
{
	explore("discarder", _i, discarder);
}
END_TEST

START_TEST(no_zero_page_is_entered_over_a_new_one)
{
	explore("filler", _i, filler);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mirror");
	TCase *tc = tcase_create("a device's own migrations");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_loop_test(tc, no_write_is_lost, 0, NR_LOOPS);
	tcase_add_loop_test(tc, no_freed_page_is_entered, 0, NR_LOOPS);
	tcase_add_loop_test(tc, no_zero_page_is_entered_over_a_new_one, 0, NR_LOOPS);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
