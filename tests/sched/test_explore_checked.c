// SPDX-License-Identifier: LGPL-2.1-or-later
/* The explorer, on scenarios that are small enough to know what must come out. */
#include <signal.h>

#include "explore_program.h"

/* ---- what is found, and with how many switches ---- */

static const struct program lost_update = { .tasks = { { 0, add_one }, { 1, add_one } },
					    .sums = true };

START_TEST(lost_update_needs_one_switch)
{
	expect_verdict(dfs(&lost_update, 0, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
	expect_verdict(dfs(&lost_update, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_LOST_DATA);
}
END_TEST

/* On one CPU nobody comes between, unless the kernel is preemptible. */
START_TEST(lost_update_on_one_cpu)
{
	static const struct program p = { .tasks = { { 0, add_one }, { 0, add_one } },
					  .sums = true };

	expect_verdict(dfs(&p, 3, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
	expect_verdict(dfs(&p, 0, UHMM_PREEMPT_FULL), UHMM_VERDICT_NONE);
	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_FULL), UHMM_VERDICT_LOST_DATA);
	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_LAZY), UHMM_VERDICT_LOST_DATA);
}
END_TEST

/* A fault that needs two switches: to the other task and back before it ends. */
static void twice(void *arg)
{
	(void)arg;
	sh->flag = true;
	point();
	sh->flag = false;
}

static void needs_flag_again(void *arg)
{
	bool was;

	(void)arg;
	was = sh->flag;
	point();
	if (was && !sh->flag)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "true, then false");
}

START_TEST(two_switches)
{
	static const struct program p = { .tasks = { { 0, twice }, { 1, needs_flag_again } } };
	struct uhmm_explore_result *r;

	expect_verdict(dfs(&p, 1, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
	r = dfs(&p, 2, UHMM_PREEMPT_NONE);
	ck_assert_uint_eq(r->nr_switches, 2);
	ck_assert_ptr_nonnull(strstr(r->report, "true, then false"));
	expect_verdict(r, UHMM_VERDICT_WRONG_RESULT);
}
END_TEST

static void one_two(void *arg)
{
	uintptr_t first = (uintptr_t)arg;

	uhmm__mutex_lock(&sh->locks[first]);
	uhmm__mutex_lock(&sh->locks[!first]);
	uhmm__mutex_unlock(&sh->locks[!first]);
	uhmm__mutex_unlock(&sh->locks[first]);
}

static const struct program abba = { .tasks = { { 0, one_two }, { 1, one_two } } };

START_TEST(deadlock)
{
	struct uhmm_explore_result *r;

	expect_verdict(dfs(&abba, 0, UHMM_PREEMPT_NONE), UHMM_VERDICT_NONE);
	r = dfs(&abba, 1, UHMM_PREEMPT_NONE);
	ck_assert_ptr_nonnull(strstr(r->report, "deadlock: nobody can go on"));
	expect_verdict(r, UHMM_VERDICT_DEADLOCK);
}
END_TEST

/* Where orders are looked at, no timing is needed to see that it may happen. */
START_TEST(lock_order)
{
	const struct program p = { .tasks = { { 0, one_two }, { 1, one_two } },
				   .lock_order = true };

	expect_verdict(dfs(&p, 0, UHMM_PREEMPT_NONE), UHMM_VERDICT_LOCK_REPORT);
}
END_TEST

/* A scenario that must not be: what it does depends on how often it was run. */
static void fails_once(void *arg)
{
	static unsigned int runs;

	(void)arg;
	point();
	if (++runs == 3)
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "the third run");
}

START_TEST(not_seen_again)
{
	static const struct program p = { .tasks = { { 0, fails_once }, { 1, add_one } } };
	struct uhmm_explore_result *r = dfs(&p, 2, UHMM_PREEMPT_NONE);

	ck_assert_ptr_nonnull(strstr(r->report, "does not show it again"));
	/* What was found is not lost. */
	ck_assert_ptr_nonnull(strstr(r->report, "the third run"));
	ck_assert_ptr_nonnull(strchr(r->schedule, 'T'));
	ck_assert_uint_eq(r->nr_steps, 0);
	expect_verdict(r, UHMM_VERDICT_LOST_DATA);
}
END_TEST

/* ---- reports and crashes ---- */

/* Sanitizers would end the program before there is anything to find. */
#define PLAIN __attribute__((no_sanitize("address", "undefined")))

PLAIN static void reads_freed(void *arg)
{
	(void)arg;
	sh->freed = uhmm__alloc(sh->m, 256);
	sh->freed[20] = (uintptr_t)sh;
	uhmm__free(sh->m, sh->freed, 256);
	/* A pointer that is no more. */
	((struct shared *)sh->freed[20])->n++;
}

PLAIN static void writes_freed(void *arg)
{
	(void)arg;
	sh->freed = uhmm__alloc(sh->m, 256);
	uhmm__free(sh->m, sh->freed, 256);
	sh->freed[20] = 1;
}

PLAIN static void writes_nowhere(void *arg)
{
	volatile int *nowhere = arg;

	*nowhere = 1; /* the first task's argument is NULL */
}

static void holds_lock(void *arg)
{
	(void)arg;
	uhmm__mutex_lock(&sh->locks[0]);
}

static void warns(void *arg)
{
	UHMM_WARN_ON(sh->m, !arg);
}

static void is_wrong(void *arg)
{
	UHMM_BUG_ON(sh->m, !arg);
}

static void leaks(void *arg)
{
	(void)arg;
	sh->bit = 0;
	sh->m->reports++;
	uhmm__report(sh->m, UHMM_REPORT_TLB, "%s", "made up");
}

static void never_stops(void *arg)
{
	volatile bool stop = arg;

	while (!stop)
		;
}

static const struct {
	void (*fn)(void *arg);
	enum uhmm_verdict verdict;
	const char *report;
} faults[] = {
	{ never_stops, UHMM_VERDICT_ASSERTION, "T0 (task) on CPU 0 has come to no switch point" },
	{ reads_freed, UHMM_VERDICT_USE_AFTER_FREE, "pointer in freed memory" },
	{ writes_freed, UHMM_VERDICT_USE_AFTER_FREE, "written to after it had been freed" },
	{ writes_nowhere, UHMM_VERDICT_ASSERTION, "at address (nil)" },
	{ holds_lock, UHMM_VERDICT_LOCK_REPORT, "locks held on return to user mode" },
	{ warns, UHMM_VERDICT_ASSERTION, "!arg" },
	{ is_wrong, UHMM_VERDICT_ASSERTION, "BUG at" },
	{ leaks, UHMM_VERDICT_STALE_TLB, "made up" },
};

START_TEST(faults_end_a_run)
{
	struct program p = { .tasks = { { 0, faults[_i].fn } } };
	struct uhmm_explore_result *r = dfs(&p, 0, UHMM_PREEMPT_NONE);

	ck_assert_ptr_nonnull(r->report);
	ck_assert_msg(strstr(r->report, faults[_i].report), "%s", r->report);
	expect_verdict(r, faults[_i].verdict);
}
END_TEST

/* ---- the same whoever does it, and again ---- */

static void ordered(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;

	for (unsigned int i = 0; i < 3; i++) {
		sh->order[me] = 3 * sh->order[me] + sh->n++;
		point();
	}
}

static const struct program three_ordered = {
	.tasks = { { 0, ordered }, { 1, ordered }, { 2, ordered } }
};

START_TEST(workers_do_not_matter)
{
	static const struct program *const programs[] = { &three_ordered, &lost_update, &abba };
	static const enum uhmm_explore_strategy strategies[] = { UHMM_EXPLORE_DFS,
								 UHMM_EXPLORE_RANDOM,
								 UHMM_EXPLORE_PCT };
	struct uhmm_explore_config config = { .switches_bound = 2, .runs = 3000, .seed = 7 };
	struct uhmm_explore_result *one, *three;

	config.strategy = strategies[_i];
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		config.workers = 1;
		one = explore(programs[i], config, UHMM_PREEMPT_NONE);
		config.workers = 3;
		three = explore(programs[i], config, UHMM_PREEMPT_NONE);
		ck_assert_int_eq(one->verdict, three->verdict);
		ck_assert_uint_eq(one->schedules, three->schedules);
		ck_assert_uint_eq(one->steps, three->steps);
		ck_assert_uint_eq(one->states, three->states);
		ck_assert_uint_eq(one->ends, three->ends);
		ck_assert_uint_eq(one->seed, three->seed);
		ck_assert_int_eq(!one->schedule, !three->schedule);
		if (one->schedule)
			ck_assert_str_eq(one->schedule, three->schedule);
		uhmm_explore_free(one);
		uhmm_explore_free(three);
	}
}
END_TEST

/* The schedule of a fault leads there again, step by step. */
START_TEST(schedules_replay)
{
	struct uhmm_explore_config config = { .strategy = UHMM_EXPLORE_RANDOM, .runs = 1000 };
	struct uhmm_explore_result *r = explore(&abba, config, UHMM_PREEMPT_NONE), *again;

	ck_assert_int_eq(r->verdict, UHMM_VERDICT_DEADLOCK);
	config.schedule = r->schedule;
	again = explore(&abba, config, UHMM_PREEMPT_NONE);
	ck_assert_int_eq(again->verdict, UHMM_VERDICT_DEADLOCK);
	ck_assert_str_eq(again->schedule, r->schedule);
	ck_assert_str_eq(again->report, r->report);
	ck_assert_uint_eq(again->nr_steps, r->nr_steps);
	for (size_t i = 0; i < r->nr_steps; i++) {
		ck_assert_uint_eq(again->trace[i].task, r->trace[i].task);
		ck_assert_str_eq(again->trace[i].what, r->trace[i].what);
	}
	/* Shrunk: one switch is enough. */
	ck_assert_uint_eq(r->nr_switches, 1);
	uhmm_explore_free(r);
	uhmm_explore_free(again);
}
END_TEST

/* ---- reduction ---- */

static void both_locks(void *arg)
{
	uhmm__mutex_lock(&sh->locks[0]);
	ordered(arg);
	uhmm__mutex_unlock(&sh->locks[0]);
	point();
}

static void alloc_free(void *arg)
{
	uint64_t *p = uhmm__alloc(sh->m, 64);

	point();
	*p = (uintptr_t)arg;
	point();
	sh->order[(uintptr_t)arg] = sh->n++;
	uhmm__free(sh->m, p, 64);
	point();
}

/*
 * Who starts first makes no difference to the state when both have started, but to who goes on for
 * nothing: a state is not the same if another CPU came to it.
 */
static void starts(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;

	/* So many that the two ways there are not explored at the same time. */
	for (unsigned int i = 0; i < 150; i++)
		point();
	sh->order[me] = 1;
	point();
	sh->order[2 + me] = sh->order[!me];
	sh->n = 3 * sh->n + me + 1;
}

static uhmm_noinline void one_way(void)
{
	uhmm_mutex_lock(sh->a);
	uhmm_mutex_lock(sh->b);
	uhmm_mutex_unlock(sh->b);
	uhmm_mutex_unlock(sh->a);
}

static uhmm_noinline void other_way(void)
{
	uhmm_mutex_lock(sh->b);
	uhmm_mutex_lock(sh->a);
	uhmm_mutex_unlock(sh->a);
	uhmm_mutex_unlock(sh->b);
}

/* The locks are as they were, and nothing tells that they were taken but what the checker knows. */
static void other_way_if_flag(void *arg)
{
	(void)arg;
	if (sh->flag)
		other_way();
}

static void flag_then_one_way(void *arg)
{
	(void)arg;
	sh->flag = true;
	uhmm_sched_user_step();
	sh->flag = false;
	uhmm_sched_user_step();
	uhmm_sched_user_step();
	one_way();
}

/* The same verdicts and the same last states with the reduction and without, and fewer runs. */
START_TEST(reduction_is_sound)
{
	static const struct program two_ordered = { .tasks = { { 0, ordered }, { 1, ordered } } };
	static const struct program locked = { .tasks = { { 0, both_locks }, { 1, both_locks } } };
	static const struct program allocs = { .tasks = { { 0, alloc_free }, { 1, alloc_free } } };
	static const struct program same_cpu = {
		.tasks = { { 0, ordered }, { 0, alloc_free }, { 1, ordered } }
	};
	static const struct program start = { .tasks = { { 0, starts }, { 1, starts } } };
	static const struct program orders = {
		.tasks = { { 0, other_way_if_flag }, { 1, flag_then_one_way } }, .lock_order = true
	};
	static const struct program *const programs[] = { &two_ordered, &three_ordered, &locked,
							  &allocs,	&same_cpu,	&start,
							  &spins,	&orders };
	static const enum uhmm_preemption models[] = { UHMM_PREEMPT_NONE, UHMM_PREEMPT_LAZY,
						       UHMM_PREEMPT_FULL };
	uint64_t with = 0, without = 0;

	for (size_t i = 0; i < ARRAY_SIZE(programs) * ARRAY_SIZE(models); i++) {
		struct uhmm_explore_config config = { .strategy = UHMM_EXPLORE_DFS,
						      .switches_bound = (unsigned int)_i,
						      .workers = 1 };
		const struct program *p = programs[i / ARRAY_SIZE(models)];
		struct uhmm_explore_result *on, *off;

		/* Without reduction there are too many of three, workers included. */
		if (_i > 1 && (p->tasks[2].fn || p == &spins || p == &start))
			continue;
		on = explore(p, config, models[i % ARRAY_SIZE(models)]);
		config.no_reduction = true;
		off = explore(p, config, models[i % ARRAY_SIZE(models)]);
		ck_assert_int_eq(on->verdict, off->verdict);
		ck_assert_uint_le(on->schedules, off->schedules);
		/* How long a task may spin depends on how it got there: so may the ticks of the end. */
		if (!on->verdict && p != &spins) {
			ck_assert_msg(on->ends == off->ends, "program %zu: %llu ends, %llu without",
				      i, (unsigned long long)on->ends,
				      (unsigned long long)off->ends);
			ck_assert_uint_eq(on->ends_hash, off->ends_hash);
			ck_assert_uint_gt(on->ends, 0);
		}
		with += on->schedules;
		without += off->schedules;
		uhmm_explore_free(on);
		uhmm_explore_free(off);
	}
	printf("up to %d: %llu schedules, %llu without reduction\n", _i, (unsigned long long)with,
	       (unsigned long long)without);
	if (_i)
		ck_assert_uint_lt(with, without);
}
END_TEST

/* Going on from where an item turns off finds what a run from the start does. */
START_TEST(items_go_on)
{
	static const struct program locked = { .tasks = { { 0, both_locks }, { 1, both_locks } } };
	static const struct program allocs = { .tasks = { { 0, alloc_free }, { 1, alloc_free } } };
	static const struct program *const programs[] = { &three_ordered, &locked, &allocs,
							  &lost_update,	  &abba,   &spins };

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		/* To spin until a tick takes long. */
		unsigned int bound = programs[i] == &spins ? 1 : 2;
		struct uhmm_explore_result *on = dfs(programs[i], bound, UHMM_PREEMPT_LAZY), *from;

		uhmm__dfs_from_start = true;
		from = dfs(programs[i], bound, UHMM_PREEMPT_LAZY);
		uhmm__dfs_from_start = false;
		ck_assert_int_eq(on->verdict, from->verdict);
		ck_assert_uint_eq(on->schedules, from->schedules);
		ck_assert_uint_eq(on->steps, from->steps);
		ck_assert_uint_eq(on->states, from->states);
		ck_assert_uint_eq(on->ends, from->ends);
		ck_assert_uint_eq(on->ends_hash, from->ends_hash);
		uhmm_explore_free(on);
		uhmm_explore_free(from);
	}
}
END_TEST

/* ---- errors ---- */

static int failing_setup(struct uhmm_machine *m, const void *data, void **state)
{
	(void)m;
	(void)state;
	return data ? *(const int *)data : 0;
}

/* What is said of it has @text in it. */
static void expect_error(const struct uhmm_explore_config *config, int err, const char *text)
{
	struct uhmm_explore_result *r = NULL;

	ck_assert_int_eq(uhmm_explore(config, &r), err);
	ck_assert_ptr_nonnull(r);
	ck_assert_msg(strstr(r->report, text), "%s", r->report);
	uhmm_explore_free(r);
}

static void dies(void *arg)
{
	(void)arg;
	point();
	if (getpid() != sh->pid)
		kill(getpid(), SIGKILL);
}

START_TEST(worker_dies)
{
	static const struct program p = { .tasks = { { 0, dies } } };
	struct uhmm_scenario scenario = {
		.size = sizeof(scenario), .name = "dies", .summary = "", .setup = setup, .data = &p
	};
	struct uhmm_explore_config config = {
		.size = sizeof(config), .scenario = &scenario, .runs = 1, .seed = 7, .workers = 2
	};
	const enum uhmm_explore_strategy strategies[] = { UHMM_EXPLORE_DFS, UHMM_EXPLORE_RANDOM };

	for (size_t i = 0; i < ARRAY_SIZE(strategies); i++) {
		config.strategy = strategies[i];
		expect_error(&config, -ECHILD,
			     " was killed by signal 9 (Killed) in schedule 1, of seed 7");
	}
}
END_TEST

START_TEST(errors)
{
	static const int says[] = { -ENODEV, -EIO, 5 };
	struct uhmm_scenario scenario = {
		.size = sizeof(scenario), .name = "fails", .summary = "", .setup = failing_setup
	};
	struct uhmm_explore_config config = { .size = sizeof(config), .workers = 1, .runs = 1 };
	struct uhmm_explore_result *r = NULL;

	ck_assert_int_eq(uhmm_explore(NULL, &r), -EINVAL);
	ck_assert_int_eq(uhmm_explore(&config, &r), -EINVAL);
	config.scenario = &scenario;
	ck_assert_int_eq(uhmm_explore(&config, &r), 0); /* nothing to run */
	uhmm_explore_free(r);
	config.size--;
	ck_assert_int_eq(uhmm_explore(&config, &r), -EINVAL);
	config.size++;
	config.strategy = (enum uhmm_explore_strategy)3;
	ck_assert_int_eq(uhmm_explore(&config, &r), -EINVAL);
	config.strategy = UHMM_EXPLORE_DFS;
	config.schedule = "nonsense";
	expect_error(&config, -EINVAL, "line 1: 'nonsense'");
	config.schedule = "# one\nT0*3 W1\n T0 \001\377";
	expect_error(&config, -EINVAL,
		     "line 3: '?"
		     "?'");
	config.schedule = "T0*900000 T1*900000";
	expect_error(&config, -EINVAL, "1800000 choices");
	config.schedule = "T0";
	expect_error(&config, -ESTALE, "word 1, T0*1");
	config.schedule = NULL;
	/* EIO may be setup()'s own. */
	for (size_t i = 0; i < ARRAY_SIZE(says); i++) {
		scenario.data = &says[i];
		expect_error(&config, says[i] < 0 ? says[i] : -EINVAL, "fails: setup()");
	}
	uhmm_explore_free(NULL);
}
END_TEST

START_TEST(registry)
{
	static struct uhmm_scenario a = {
		.size = sizeof(a), .name = "a-2", .summary = "", .setup = failing_setup
	};
	static struct uhmm_scenario b = {
		.size = sizeof(b), .name = "a-1", .summary = "", .setup = failing_setup
	};
	struct uhmm_scenario bad = a;

	bad.name = "A b";
	ck_assert_int_eq(uhmm_scenario_register(&bad), -EINVAL);
	bad = a;
	bad.setup = NULL;
	ck_assert_int_eq(uhmm_scenario_register(&bad), -EINVAL);
	ck_assert_int_eq(uhmm_scenario_register(&a), 0);
	ck_assert_int_eq(uhmm_scenario_register(&b), 0);
	ck_assert_int_eq(uhmm_scenario_register(&a), -EEXIST);
	ck_assert_ptr_eq(uhmm_scenario_find("a-2"), &a);
	ck_assert_ptr_null(uhmm_scenario_find("a-3"));
	ck_assert_ptr_eq(uhmm_scenario_nth(0), &b);
	ck_assert_ptr_eq(uhmm_scenario_nth(1), &a);
	ck_assert_ptr_null(uhmm_scenario_nth(2));
	ck_assert_ptr_null(uhmm_verdict_name(UHMM_NR_VERDICTS));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("explore");
	TCase *tc = tcase_create("explore");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, lost_update_needs_one_switch);
	tcase_add_test(tc, lost_update_on_one_cpu);
	tcase_add_test(tc, two_switches);
	tcase_add_test(tc, deadlock);
	tcase_add_test(tc, lock_order);
	tcase_add_test(tc, not_seen_again);
	tcase_add_loop_test(tc, faults_end_a_run, 0, (int)ARRAY_SIZE(faults));
	tcase_add_loop_test(tc, workers_do_not_matter, 0, 3);
	tcase_add_test(tc, schedules_replay);
	tcase_add_loop_test(tc, reduction_is_sound, 0, 3);
	tcase_add_test(tc, items_go_on);
	tcase_add_test(tc, worker_dies);
	tcase_add_test(tc, errors);
	tcase_add_test(tc, registry);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
