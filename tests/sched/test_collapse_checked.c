// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A range is collapsed into a huge page while another task drops its pages under the VMA's lock alone,
 * and with them the page table: random schedules.
 */
#define _GNU_SOURCE
#include "fixture.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define AT 0x40000000UL

static struct fixture f;
static int collapsed;

static void setup(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .content = UHMM_CONTENT_TAG };

	fixture_create(&f, config);
	map_fixed(f.mm, AT, UHMM_PMD_SIZE / PAGE, RW);
	put_word(f.mm, AT, 1);
	uhmm_task_leave();
}

static void collapser(void *arg)
{
	(void)arg;
	collapsed = uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_COLLAPSE);
}

/* Looking at 512 entries takes long: without a delay it would always be first. */
static void dropper(void *arg)
{
	for (unsigned int delay = *(unsigned int *)arg; delay; delay--)
		uhmm_sched_user_step();
	expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_DONTNEED), 0);
}

START_TEST(table_goes_away)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };
	uint64_t seed = test_seed("collapse"), first = 0, refused = 0, busy = 0;

	for (unsigned int runs = 0; runs < 200; runs++) {
		unsigned int delay = runs % 8 * 300;
		struct uhmm_sched *s;
		int ret;

		setup();
		config.seed = seed + runs;
		expect_eq(uhmm_sched_create(f.m, &config, &s), 0);
		expect_eq(uhmm_sched_spawn(s, "collapser", 0, f.mm, collapser, NULL), 0);
		expect_eq(uhmm_sched_spawn(s, "dropper", 1, f.mm, dropper, &delay), 0);
		ret = uhmm_sched_run(s);
		if (ret)
			ck_abort_msg("seed %llu: %d, %s", (unsigned long long)config.seed, ret,
				     f.text);
		uhmm_sched_destroy(s);
		expect(!collapsed || collapsed == -EINVAL || collapsed == -EAGAIN);
		first += !collapsed;
		refused += collapsed == -EINVAL;
		busy += collapsed == -EAGAIN;
		uhmm_task_enter(f.task);
		expect_eq(get_word(f.mm, AT), 0);
		fixture_destroy(&f);
	}
	printf("%llu collapsed first, %llu found no table, %llu pages in use\n",
	       (unsigned long long)first, (unsigned long long)refused, (unsigned long long)busy);
	fflush(stdout);
	expect(first && refused);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("collapse");
	TCase *tc = tcase_create("others at the same time");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, table_goes_away);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
