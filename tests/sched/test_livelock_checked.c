// SPDX-License-Identifier: LGPL-2.1-or-later
/* Livelock, starvation, spinning and the clock, by small scenarios: what the explorer makes of tasks without an end. */
#include "explore_program.h"

/* The kernel's own (museum of bugs: the range fault and the drain), in small. */
START_TEST(livelock)
{
	struct uhmm_explore_result *r = dfs(&spins, 2, UHMM_PREEMPT_NONE);

	ck_assert(r->cycle_at && r->cycle_at < r->nr_steps);
	for (size_t i = r->cycle_at; i < r->nr_steps; i++)
		ck_assert_uint_eq(r->trace[i].cpu, 1);
	expect_verdict(r, UHMM_VERDICT_LIVELOCK);
	/* A tick lets the worker have the CPU. */
	expect_verdict(dfs(&spins, 1, UHMM_PREEMPT_LAZY), UHMM_VERDICT_NONE);
	expect_verdict(dfs(&spins, 2, UHMM_PREEMPT_FULL), UHMM_VERDICT_NONE);
}
END_TEST

static void set_flag(void *arg)
{
	(void)arg;
	point();
	point();
	sh->flag = true;
}

static void wait_for_flag(void *arg)
{
	(void)arg;
	while (!sh->flag)
		point();
}

/* Each lets the other go first, for ever. */
START_TEST(livelock_of_two)
{
	static const struct program p = { .tasks = { { 0, wait_for_flag }, { 1, wait_for_flag } } };

	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_LIVELOCK);
}
END_TEST

/* As a driver that faults until no invalidation has come between, and causes one each time. */
static void wait_by_number(void *arg)
{
	volatile uint64_t number = sh->serial;

	(void)arg;
	while (!sh->flag) {
		sh->serial += 2;
		number = sh->serial;
		point();
	}
	sh->n += number & 1;
}

static void wait_and_count(void *arg)
{
	volatile uint64_t n = 0;

	(void)arg;
	while (!sh->flag) {
		n++;
		point();
	}
}

/* A sequence number that goes up makes no other state, a count does. */
START_TEST(livelock_with_numbers)
{
	static const struct program p = { .tasks = { { 0, wait_by_number },
						     { 1, wait_for_flag } } };
	static const struct program counts = { .tasks = { { 0, wait_and_count },
							  { 1, wait_for_flag } } };
	struct uhmm_explore_result *r;

	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_LIVELOCK);
	r = dfs(&counts, 0, UHMM_PREEMPT_NONE);
	ck_assert_int_eq(r->verdict, UHMM_VERDICT_NONE);
	ck_assert_uint_gt(r->undecided, 0);
	uhmm_explore_free(r);
}
END_TEST

/* At the same place each time, but no spinning: it gets on with it. */
static void many_rounds(void *arg)
{
	(void)arg;
	while (sh->n++ < 100)
		point();
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, sh->flag);
}

/* Each state is another, however many there are. */
static void many_steps(void *arg)
{
	(void)arg;
	for (volatile unsigned int i = 0; i < 7000; i++)
		point();
}

START_TEST(not_spinning)
{
	static const struct program p = { .tasks = { { 0, many_rounds }, { 1, set_flag } } };
	static const struct program many = { .tasks = { { 0, many_steps }, { 1, set_flag } } };
	struct uhmm_explore_result *r;

	/* By the first schedule, if the task may go on by itself. */
	expect_verdict(dfs(&p, 0, UHMM_PREEMPT_NONE), UHMM_VERDICT_WRONG_RESULT);
	r = dfs(&many, 0, UHMM_PREEMPT_NONE);
	ck_assert(r->complete && !r->undecided);
	expect_verdict(r, UHMM_VERDICT_NONE);
}
END_TEST

/* What is asked for is what is done. */
START_TEST(steps_before_fairness)
{
	static const struct program p = { .tasks = { { 0, wait_for_flag }, { 1, wait_for_flag } } };
	struct uhmm_explore_config config = {
		.strategy = UHMM_EXPLORE_PCT, .runs = 1, .workers = 1, .max_steps = 50000
	};
	struct uhmm_explore_result *r = explore(&p, config, UHMM_PREEMPT_NONE);

	ck_assert_uint_ge(r->steps, config.max_steps);
	expect_verdict(r, UHMM_VERDICT_LIVELOCK);
}
END_TEST

/* Spinning for somebody who will come is none, however long he may be kept away. */
START_TEST(spinning_ends)
{
	static const struct program p = { .tasks = { { 0, wait_for_flag }, { 1, set_flag } } };

	expect_verdict(dfs(&p, 3, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
}
END_TEST

static void busy_user(void *arg)
{
	(void)arg;
	while (!sh->stop)
		uhmm_sched_user_step();
}

static void wait_in_user(void *arg)
{
	(void)arg;
	while (!sh->flag)
		uhmm_sched_user_step();
}

/* They wait for each other so often that it could be for ever; but then there is a race. */
static void wait_in_turn(void *arg)
{
	uintptr_t me = (uintptr_t)arg;

	for (unsigned int i = 1; i <= 30; i++) {
		sh->order[me] = i;
		while (sh->order[!me] < i)
			point();
	}
	point();
	add_one(arg);
}

/* What is not looked at is not called complete. */
START_TEST(much_spinning_is_given_up)
{
	static const struct program p = { .tasks = { { 0, wait_in_turn }, { 1, wait_in_turn } },
					  .sums = true };
	struct uhmm_explore_result *r = dfs(&p, 1, UHMM_PREEMPT_NONE);

	ck_assert(r->verdict == UHMM_VERDICT_LOST_DATA || (!r->complete && r->undecided));
	uhmm_explore_free(r);
}
END_TEST

START_TEST(starvation)
{
	static const struct program p = { .tasks = { { 0, wait_for_flag }, { 1, busy_user } } };
	static const struct program only_user = { .tasks = { { 0, busy_user }, { 1, busy_user } } };
	static const struct program retries = { .tasks = { { 0, wait_in_user },
							   { 1, wait_in_user } } };
	static const struct program one_retries = { .tasks = { { 0, wait_in_user },
							       { 1, set_flag } } };
	struct uhmm_explore_result *r;

	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_STARVATION);
	/* All of them return to user mode, and come to nothing. */
	r = dfs(&only_user, 1, UHMM_PREEMPT_NONE);
	ck_assert_msg(strstr(r->report, "all tasks return to user mode"), "%s", r->report);
	ck_assert(r->cycle_at && r->cycle_at < r->nr_steps);
	expect_verdict(r, UHMM_VERDICT_LIVELOCK);
	/* Waiting for each other there, and for somebody who comes. */
	expect_verdict(dfs(&retries, 2, UHMM_PREEMPT_NONE), UHMM_VERDICT_LIVELOCK);
	expect_verdict(dfs(&one_retries, 2, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
}
END_TEST

/* ---- schedules of what has no end ---- */

/* What is found is found again by its schedule alone, to the step. The result must be freed. */
static struct uhmm_explore_result *replays(const struct program *p,
					   struct uhmm_explore_config config)
{
	struct uhmm_explore_result *r = explore(p, config, UHMM_PREEMPT_NONE), *again;

	if (!r->verdict)
		return r;
	ck_assert_msg(!strstr(r->report, "not show it again"), "%s", r->report);
	/* When it must be fair is said by the schedule alone. */
	config.max_steps = 0;
	config.schedule = r->schedule;
	again = explore(p, config, UHMM_PREEMPT_NONE);
	ck_assert_msg(again->verdict == r->verdict, "seed %llu: %s, then %s: %s",
		      (unsigned long long)config.seed, uhmm_verdict_name(r->verdict),
		      uhmm_verdict_name(again->verdict), r->schedule);
	ck_assert_str_eq(again->report, r->report);
	ck_assert_str_eq(again->schedule, r->schedule);
	ck_assert_uint_eq(again->nr_switches, r->nr_switches);
	ck_assert_uint_eq(again->nr_steps, r->nr_steps);
	ck_assert_uint_eq(again->cycle_at, r->cycle_at);
	for (size_t i = 0; i < r->nr_steps; i++) {
		ck_assert_uint_eq(again->trace[i].task, r->trace[i].task);
		ck_assert_str_eq(again->trace[i].what, r->trace[i].what);
	}
	uhmm_explore_free(again);
	return r;
}

/* Waits until the other has done nothing for a step of its own, and must not see that. */
static void wait_for_rest(void *arg)
{
	bool was;

	(void)arg;
	do {
		was = sh->flag;
		point();
	} while (sh->flag != was);
	uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "the other rests");
}

static void restless(void *arg)
{
	(void)arg;
	for (;;) {
		sh->flag = !sh->flag;
		uhmm_sched_user_step();
	}
}

/* Starvation while both go on in turn, but not where the end of a schedule is followed by what is not fair. */
START_TEST(starvation_replays)
{
	static const struct program p = { .tasks = { { 0, wait_for_rest }, { 1, restless } } };
	struct uhmm_explore_config config = { .strategy = _i ? UHMM_EXPLORE_PCT
							     : UHMM_EXPLORE_RANDOM,
					      .runs = 1,
					      .workers = 1,
					      .switches_bound = 2 };
	unsigned int seen[UHMM_NR_VERDICTS] = { 0 };

	for (config.seed = 0; config.seed < 60; config.seed++) {
		struct uhmm_explore_result *r;

		config.max_steps = 1 + config.seed % 20;
		r = replays(&p, config);
		seen[r->verdict]++;
		uhmm_explore_free(r);
	}
	ck_assert_uint_gt(seen[UHMM_VERDICT_STARVATION], 0);
	ck_assert_uint_gt(seen[UHMM_VERDICT_WRONG_RESULT], 0);
	ck_assert_uint_eq(seen[UHMM_VERDICT_NONE], 0);
}
END_TEST

START_TEST(livelocks_replay)
{
	static const struct program two = { .tasks = { { 0, wait_for_flag },
						       { 1, wait_for_flag } } };
	static const struct program number = { .tasks = { { 0, wait_by_number },
							  { 1, wait_for_flag } } };
	static const struct program user = { .tasks = { { 0, wait_in_user }, { 1, busy_user } } };
	static const struct program *const programs[] = { &spins, &two, &number, &user };
	static const enum uhmm_explore_strategy strategies[] = { UHMM_EXPLORE_DFS,
								 UHMM_EXPLORE_RANDOM,
								 UHMM_EXPLORE_PCT };
	struct uhmm_explore_config config = { .runs = 20, .workers = 1, .switches_bound = 1 };

	for (size_t i = 0; i < ARRAY_SIZE(programs) * ARRAY_SIZE(strategies); i++) {
		struct uhmm_explore_result *r;

		config.strategy = strategies[i / ARRAY_SIZE(programs)];
		r = replays(programs[i % ARRAY_SIZE(programs)], config);
		ck_assert_str_eq(r->schedule + strlen(r->schedule) - 1, "F");
		ck_assert(r->cycle_at && r->cycle_at < r->nr_steps);
		expect_verdict(r, UHMM_VERDICT_LIVELOCK);
	}
}
END_TEST

/* A deadline ends it: time is put forward when nothing else changes. */
static void wait_for_deadline(void *arg)
{
	uint64_t end = uhmm__clock_ns() + 3600000000000;

	(void)arg;
	while (uhmm__clock_ns() < end)
		point();
}

START_TEST(deadlines_pass)
{
	static const struct program p = { .tasks = { { 0, wait_for_deadline } } };
	static const struct program two = { .tasks = { { 0, wait_for_deadline },
						       { 1, wait_for_deadline } } };

	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
	expect_verdict(dfs(&two, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
}
END_TEST

static void fails_late(void *arg)
{
	wait_for_deadline(arg);
	uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "too late");
}

/* A schedule says that the clock was put forward. */
START_TEST(deadlines_pass_again)
{
	static const struct program p = { .tasks = { { 0, fails_late }, { 1, wait_for_flag } } };
	struct uhmm_explore_config config = { .strategy = UHMM_EXPLORE_DFS, .workers = 1 };
	struct uhmm_explore_result *r = explore(&p, config, UHMM_PREEMPT_NONE);
	char *schedule = strdup(r->schedule);

	ck_assert_ptr_nonnull(strchr(schedule, 'C'));
	ck_assert_uint_gt(r->nr_steps, 0);
	expect_verdict(r, UHMM_VERDICT_LOST_DATA);
	config.schedule = schedule;
	expect_verdict(explore(&p, config, UHMM_PREEMPT_NONE), UHMM_VERDICT_LOST_DATA);
	free(schedule);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("livelock");
	TCase *tc = tcase_create("livelock");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, livelock);
	tcase_add_test(tc, livelock_of_two);
	tcase_add_test(tc, livelock_with_numbers);
	tcase_add_test(tc, not_spinning);
	tcase_add_test(tc, steps_before_fairness);
	tcase_add_test(tc, spinning_ends);
	tcase_add_test(tc, much_spinning_is_given_up);
	tcase_add_test(tc, starvation);
	tcase_add_loop_test(tc, starvation_replays, 0, 2);
	tcase_add_test(tc, livelocks_replay);
	tcase_add_test(tc, deadlines_pass);
	tcase_add_test(tc, deadlines_pass_again);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
