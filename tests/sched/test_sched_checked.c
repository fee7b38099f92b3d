// SPDX-License-Identifier: LGPL-2.1-or-later
/* The simulated scheduler: who is chosen, preemption, virtual time. */
#include "sched/fibers.h"

/* ---- choosing ---- */

START_TEST(config_errors)
{
	struct uhmm_sched_config config = { .size = 1 };
	struct uhmm_sched *other;

	ck_assert_int_eq(uhmm_sched_create(&b.m, &config, &other), -EINVAL);
	config = (struct uhmm_sched_config){ .size = sizeof(config), .policy = 7 };
	ck_assert_int_eq(uhmm_sched_create(&b.m, &config, &other), -EINVAL);
	create();
	ck_assert_int_eq(uhmm_sched_create(&b.m, NULL, &other), -EBUSY);
	ck_assert_int_eq(uhmm_sched_spawn(s, NULL, 4, NULL, letters, NULL), -EINVAL);
	ck_assert_int_eq(uhmm_sched_spawn(s, NULL, 0, NULL, NULL, NULL), -EINVAL);
	run(0); /* nothing to run */
	uhmm_sched_destroy(NULL);
}
END_TEST

START_TEST(in_turn)
{
	create();
	spawn(0, letters, "a");
	spawn(1, letters, "b");
	spawn(2, letters, "c");
	run(0);
	ck_assert_str_eq(order, "bcabcabca");
}
END_TEST

START_TEST(by_schedule)
{
	create();
	spawn(0, letters, "a");
	spawn(1, letters, "b");
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*2 T1 # comment T9\n\tT0*2 T1"), 0);
	run(0);
	/* The fourth choice of a task is the one in which it ends. */
	ck_assert_str_eq(order, "aababb");
}
END_TEST

/* However the policy chooses: F is for the rest. */
START_TEST(fair_by_schedule)
{
	create_for(&b, UHMM_SCHED_RANDOM, 7, 0);
	spawn(0, letters, "a");
	spawn(1, letters, "b");
	spawn(2, letters, "c");
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*2 T2 F"), 0);
	run(0);
	ck_assert_str_eq(order, "aacbcabcb");
	ck_assert_str_eq(uhmm_sched_trace(s), "T0*2 T2 T1 T2 T0 T1 T2 T0 T1 T2 T1");
}
END_TEST

static uint64_t seen[2];

static void clock_reader(void *arg)
{
	(void)arg;
	seen[0] = uhmm__clock_ns();
	uhmm_sched_user_step();
	seen[1] = uhmm__clock_ns();
}

START_TEST(clock_by_schedule)
{
	create();
	spawn(0, clock_reader, NULL);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "C1 T0 C3*2 T0"), 0);
	run(0);
	ck_assert_uint_ge(seen[0], 2000000000);
	ck_assert_uint_ge(seen[1] - seen[0], 16000000000);
	ck_assert_uint_lt(seen[1] - seen[0], 17000000000);
}
END_TEST

START_TEST(schedule_text_errors)
{
	static const char *const bad[] = {
		"X0",  "T",	"T0*",		"T0x",		 "T0*-1",
		"0",   "T0,T1", "T99999999999", "T0*2147483648", "C",
		"C33", "F0",	"F*2",		"F T0",		 "T0 F F",
	};

	create();
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(uhmm_sched_set_schedule(s, bad[i]) == -EINVAL, "%s", bad[i]);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, ""), 0);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, NULL), 0);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*0"), 0);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "F # fair"), 0);
}
END_TEST

/* A schedule that names a task which cannot run there stops the run, and says where. */
START_TEST(stale_schedule)
{
	create();
	spawn(0, letters, "a");
	spawn(0, letters, "b");
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*2 T1"), 0);
	run(-ESTALE);
	ck_assert_uint_eq(b.nr_reports, 1);
	ck_assert_ptr_nonnull(strstr(b.last_report, "word 2, T1*1, at its choice 1: another task"));
	run(-ESTALE);
}
END_TEST

/* Two tasks of one CPU take turns only where they say so. */
static void polite(void *arg)
{
	for (unsigned int i = 0; i < 2; i++) {
		note(arg);
		point();
		note(arg);
		uhmm__cond_resched();
	}
}

static void in_user_mode(void *arg)
{
	for (unsigned int i = 0; i < 2; i++) {
		note(arg);
		point();
		note(arg);
		uhmm_sched_user_step();
	}
}

START_TEST(not_preempted)
{
	create();
	spawn(0, letters, "a");
	spawn(0, letters, "b");
	run(0);
	ck_assert_str_eq(order, "aaabbb");
	order[0] = '\0';
	spawn(0, polite, "c");
	spawn(0, polite, "d");
	run(0);
	ck_assert_str_eq(order, "ccddccdd");
	order[0] = '\0';
	spawn(0, in_user_mode, "e");
	spawn(0, in_user_mode, "f");
	run(0);
	ck_assert_str_eq(order, "eeffeeff");
	ck_assert_uint_eq(b.nr_reports, 0);
}
END_TEST

/* ---- preemption ---- */

static void create_preemptible(enum uhmm_preemption preemption, enum uhmm_sched_policy policy,
			       uint64_t seed)
{
	b.m.config.preemption = preemption;
	create_for(&b, policy, seed, 0);
}

static void many_points(void *arg)
{
	for (unsigned int i = 0; i < 3000; i++) {
		if (i % 500 == 0)
			note(arg);
		point();
	}
}

/* Lazy: at a tick, and then not before the next, though both want to run all the time. */
START_TEST(preempted_at_ticks)
{
	create_preemptible(UHMM_PREEMPT_LAZY, UHMM_SCHED_FIXED, 0);
	spawn(0, many_points, "a");
	spawn(0, many_points, "b");
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*2 T1*1001 T0*1001 T1*5 T0"), 0);
	run(-ESTALE);
	ck_assert_ptr_nonnull(strstr(b.last_report, "word 5, T0*1, at its choice 1: another task"));
}
END_TEST

START_TEST(ticks_are_fair)
{
	create_preemptible(UHMM_PREEMPT_LAZY, UHMM_SCHED_FIXED, 0);
	spawn(0, many_points, "a");
	spawn(0, many_points, "b");
	run(0);
	ck_assert_str_eq(order, "abbbaabbaaba");
}
END_TEST

START_TEST(preempted_anywhere)
{
	create_preemptible(UHMM_PREEMPT_FULL, UHMM_SCHED_FIXED, 0);
	spawn(0, letters, "a");
	spawn(0, letters, "b");
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*2 T1*2 T0 T1"), 0);
	run(0);
	ck_assert_str_eq(order, "aabbab");
}
END_TEST

static struct uhmm__spinlock preempt_lock;

static void spin_letters(void *arg)
{
	uhmm__spin_lock(&preempt_lock);
	letters(arg);
	uhmm__spin_unlock(&preempt_lock);
}

/* A spin lock forbids it, whoever chooses. */
START_TEST(not_preempted_under_spin_lock)
{
	unsigned int together = 0;

	for (uint64_t seed = 0; seed < 100; seed++) {
		uhmm__spin_init(&preempt_lock, UHMM__LC_TEST);
		order[0] = '\0';
		create_preemptible(UHMM_PREEMPT_FULL, UHMM_SCHED_RANDOM, seed);
		spawn(0, spin_letters, "a");
		spawn(0, letters, "b");
		run(0);
		together += strstr(order, "aaa") != NULL;
		uhmm_sched_destroy(s);
	}
	s = NULL;
	ck_assert_uint_eq(together, 100);
}
END_TEST

/* ---- virtual time ---- */

static void sleeper(void *arg)
{
	uint64_t begin = uhmm__clock_ns(), ns = (uint64_t)(uintptr_t)arg;

	uhmm_sched_sleep(ns);
	ck_assert_uint_ge(uhmm__clock_ns() - begin, ns);
	note(ns > 1000000000 ? "l" : "s");
}

/* An hour passes at once when everybody sleeps; who sleeps less is up first. */
START_TEST(time_jumps)
{
	create();
	spawn(0, sleeper, (void *)(uintptr_t)3600000000000);
	spawn(0, sleeper, (void *)(uintptr_t)1000000);
	run(0);
	ck_assert_str_eq(order, "sl");
	ck_assert_uint_lt(uhmm_sched_steps(s), 20);
}
END_TEST

/* It passes with the steps of others, too. */
START_TEST(time_passes)
{
	create();
	spawn(0, sleeper, (void *)(uintptr_t)1600000);
	spawn(1, many_points, "b");
	run(0);
	ck_assert_str_eq(order, "bbbbsbb");
}
END_TEST

START_TEST(too_many_steps)
{
	create_for(&b, UHMM_SCHED_FIXED, 0, 1000);
	spawn(0, forever, NULL);
	run(-ETIMEDOUT);
	ck_assert_uint_eq(uhmm_sched_steps(s), 1000);
	ck_assert_ptr_nonnull(strstr(b.last_report, "too many steps"));
}
END_TEST

static void parent(void *arg)
{
	note("p");
	ck_assert_int_eq(uhmm_sched_spawn(s, "child", 1, NULL, letters, arg), 0);
	point();
	note("q");
}

START_TEST(spawn_inside)
{
	create();
	spawn(0, parent, "x");
	run(0);
	ck_assert_str_eq(order, "pxqxx");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sched");
	TCase *tc = tcase_create("sched");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, config_errors);
	tcase_add_test(tc, in_turn);
	tcase_add_test(tc, by_schedule);
	tcase_add_test(tc, fair_by_schedule);
	tcase_add_test(tc, clock_by_schedule);
	tcase_add_test(tc, schedule_text_errors);
	tcase_add_test(tc, stale_schedule);
	tcase_add_test(tc, not_preempted);
	tcase_add_test(tc, preempted_at_ticks);
	tcase_add_test(tc, ticks_are_fair);
	tcase_add_test(tc, preempted_anywhere);
	tcase_add_test(tc, not_preempted_under_spin_lock);
	tcase_add_test(tc, time_jumps);
	tcase_add_test(tc, time_passes);
	tcase_add_test(tc, too_many_steps);
	tcase_add_test(tc, spawn_inside);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
