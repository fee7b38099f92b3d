// SPDX-License-Identifier: LGPL-2.1-or-later
/* The primitives on fibers of the simulated scheduler: locks, waits, work on every CPU, RCU. */
#include "sched/fibers.h"

/* ---- locks on fibers ---- */

static struct uhmm__spinlock spin;
static struct uhmm__rwsem sem;
static struct uhmm__mutex mutex;
static struct uhmm__waitq waitq;
static _Atomic uint32_t word;
static bool happened;
static unsigned int counter, inside, max_inside;

static void init_locks(void)
{
	uhmm__spin_init(&spin, UHMM__LC_PTL);
	uhmm__rwsem_init(&sem, UHMM__LC_MMAP);
	uhmm__mutex_init(&mutex, UHMM__LC_MIRROR);
	uhmm__waitq_init(&waitq, UHMM__LC_WAITQ);
	atomic_store(&word, 0);
	happened = false;
	counter = inside = max_inside = 0;
}

/* A read, a switch point and a write: lost unless the lock excludes. */
static void add_one(void)
{
	unsigned int n = counter;

	point();
	counter = n + 1;
}

static void mixed(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 20; i++) {
		uhmm__down_read(&sem);
		inside++;
		max_inside = MAX(max_inside, inside);
		point();
		inside--;
		uhmm__up_read(&sem);
		uhmm__down_write(&sem);
		ck_assert_uint_eq(inside, 0);
		add_one();
		uhmm__up_write(&sem);
		uhmm__mutex_lock(&mutex);
		add_one();
		uhmm__mutex_unlock(&mutex);
		uhmm__spin_lock(&spin);
		add_one();
		uhmm__spin_unlock(&spin);
		uhmm__bit_lock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
		add_one();
		uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	}
}

static unsigned int own[4];

/* As above, with a counter a lock, so that none hides behind another. */
static void own_counters(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 10; i++) {
		uhmm__down_write(&sem);
		counter = own[0];
		point();
		own[0]++;
		uhmm__up_write(&sem);
		uhmm__spin_lock(&spin);
		own[1]++;
		uhmm__spin_unlock(&spin);
	}
}

/* What the random scheduler does is a function of the seed, and its trace replays it. */
START_TEST(random_replays)
{
	static struct bare_machine again;
	const char *trace;
	uint64_t steps;
	char *copy;

	for (uint64_t seed = 0; seed < 20; seed++) {
		init_locks();
		memset(own, 0, sizeof(own));
		create_for(&b, UHMM_SCHED_RANDOM, seed, 0);
		for (unsigned int i = 0; i < 6; i++)
			spawn(i % 4, i & 1 ? own_counters : mixed, NULL);
		run(0);
		ck_assert_uint_eq(own[0], 30);
		ck_assert_uint_eq(own[1], 30);
		ck_assert_uint_eq(atomic_load(&word), 0);
		ck_assert_uint_eq(atomic_load(&sem.count), 0);
		trace = uhmm_sched_trace(s);
		ck_assert_ptr_nonnull(trace);
		copy = strdup(trace);
		steps = uhmm_sched_steps(s);
		uhmm_sched_destroy(s);

		bare_init(&again, 4);
		init_locks();
		create_for(&again, UHMM_SCHED_FIXED, 0, 0);
		for (unsigned int i = 0; i < 6; i++)
			spawn(i % 4, i & 1 ? own_counters : mixed, NULL);
		ck_assert_int_eq(uhmm_sched_set_schedule(s, copy), 0);
		run(0);
		ck_assert_str_eq(uhmm_sched_trace(s), copy);
		ck_assert_uint_eq(uhmm_sched_steps(s), steps);
		uhmm_sched_destroy(s);
		bare_exit(&again);
		s = NULL;
		free(copy);
	}
	ck_assert_msg(b.nr_reports == 0, "%s", b.last_report);
	ck_assert_uint_gt(max_inside, 1);
}
END_TEST

static void one_then_two(void *arg)
{
	struct uhmm__mutex *l = arg;

	uhmm__mutex_lock(&l[0]);
	point();
	uhmm__mutex_lock_nested(&l[1], UHMM_SINGLE_DEPTH_NESTING);
	uhmm__mutex_unlock(&l[1]);
	uhmm__mutex_unlock(&l[0]);
}

static void two_then_one(void *arg)
{
	struct uhmm__mutex *l = arg;

	uhmm__mutex_lock(&l[1]);
	point();
	uhmm__mutex_lock_nested(&l[0], UHMM_SINGLE_DEPTH_NESTING);
	uhmm__mutex_unlock(&l[0]);
	uhmm__mutex_unlock(&l[1]);
}

START_TEST(deadlock_of_sleepers)
{
	struct uhmm__mutex l[2];

	uhmm__mutex_init(&l[0], UHMM__LC_MIRROR);
	uhmm__mutex_init(&l[1], UHMM__LC_MIRROR);
	create();
	spawn(0, one_then_two, l);
	spawn(1, two_then_one, l);
	run(-EDEADLK);
	ck_assert_ptr_nonnull(strstr(b.last_report, "deadlock"));
	ck_assert_ptr_nonnull(strstr(b.last_report, "T0"));
	ck_assert_ptr_nonnull(strstr(b.last_report, "T1"));
	ck_assert_ptr_nonnull(strstr(b.last_report, "sleeps"));
	ck_assert_ptr_nonnull(strstr(b.last_report, "MIRROR"));
	ck_assert_ptr_nonnull(strstr(b.last_report, "test_fibers_checked.c:"));
	run(-EDEADLK);
}
END_TEST

/* The same, found by seed, and shown again by its trace. */
START_TEST(deadlock_by_seed)
{
	struct uhmm__mutex l[2];
	unsigned int found = 0;
	char *trace = NULL;
	int ret;

	for (uint64_t seed = 0; seed < 50; seed++) {
		uhmm__mutex_init(&l[0], UHMM__LC_MIRROR);
		uhmm__mutex_init(&l[1], UHMM__LC_MIRROR);
		create_for(&b, UHMM_SCHED_RANDOM, seed, 0);
		spawn(0, one_then_two, l);
		spawn(1, two_then_one, l);
		ret = uhmm_sched_run(s);
		ck_assert(!ret || ret == -EDEADLK);
		if (ret && !found++)
			trace = strdup(uhmm_sched_trace(s));
		uhmm_sched_destroy(s);
	}
	ck_assert_uint_gt(found, 0);
	ck_assert_uint_lt(found, 50);
	uhmm__mutex_init(&l[0], UHMM__LC_MIRROR);
	uhmm__mutex_init(&l[1], UHMM__LC_MIRROR);
	create();
	spawn(0, one_then_two, l);
	spawn(1, two_then_one, l);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, trace), 0);
	run(-EDEADLK);
	ck_assert_str_eq(uhmm_sched_trace(s), trace);
	free(trace);
}
END_TEST

static void spin_twice(void *arg)
{
	(void)arg;
	uhmm__spin_lock(&spin);
	uhmm__spin_lock(&spin);
}

START_TEST(deadlock_of_one)
{
	init_locks();
	create();
	spawn(0, spin_twice, NULL);
	run(-EDEADLK);
	ck_assert_uint_eq(b.nr_reports, 2); /* lock taken twice, deadlock */
	ck_assert_ptr_nonnull(strstr(b.last_report, "spins"));
}
END_TEST

static void event_waiter(void *arg)
{
	uhmm__wait_event(&waitq, happened);
	note(arg);
}

static void event_maker(void *arg)
{
	(void)arg;
	point();
	uhmm__wake_up_all(&waitq);
	point();
	happened = true;
	uhmm__wake_up_all(&waitq);
}

START_TEST(no_lost_wakeup)
{
	for (uint64_t seed = 0; seed < 200; seed++) {
		init_locks();
		order[0] = '\0';
		create_for(&b, UHMM_SCHED_RANDOM, seed, 10000);
		spawn(0, event_waiter, "w");
		spawn(0, event_waiter, "w");
		spawn(1, event_waiter, "w");
		spawn(2, event_maker, NULL);
		run(0);
		ck_assert_str_eq(order, "www");
		uhmm_sched_destroy(s);
	}
	s = NULL;
}
END_TEST

static bool freed;

static void migrator(void *arg)
{
	(void)arg;
	uhmm__bit_lock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	uhmm__spin_lock(&spin); /* the entry goes in */
	happened = true;
	uhmm__spin_unlock(&spin);
	point();
	uhmm__spin_lock(&spin); /* and out */
	happened = false;
	uhmm__spin_unlock(&spin);
	uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	/* No waiters bit on a folio that is freed. */
	ck_assert_uint_eq(atomic_load(&word), 0);
	atomic_store(&word, 0xdead0000);
	freed = true;
}

static void faulter(void *arg)
{
	(void)arg;
	for (;;) {
		uhmm__spin_lock(&spin);
		if (!happened)
			break;
		ck_assert(!freed);
		if (uhmm__bit_wait_unlocked(&b.m, &word, BIT_LOCK, BIT_WAITERS, &spin))
			note("s");
	}
	uhmm__spin_unlock(&spin);
}

START_TEST(entry_wait)
{
	unsigned int slept = 0;

	for (uint64_t seed = 0; seed < 300; seed++) {
		init_locks();
		freed = false;
		order[0] = '\0';
		create_for(&b, UHMM_SCHED_RANDOM, seed, 10000);
		spawn(0, migrator, NULL);
		spawn(1, faulter, NULL);
		spawn(2, faulter, NULL);
		run(0);
		ck_assert_uint_eq(atomic_load(&word), 0xdead0000);
		slept += (unsigned int)strlen(order);
		uhmm_sched_destroy(s);
	}
	s = NULL;
	ck_assert_uint_gt(slept, 0);
	ck_assert_msg(b.nr_reports == 0, "%s", b.last_report);
}
END_TEST

static void one_bit(void *arg)
{
	unsigned int bit = arg ? 1 : 0;

	for (unsigned int i = 0; i < 5; i++) {
		uhmm__bit_lock(&b.m, &word, bit, BIT_WAITERS);
		point();
		uhmm__bit_unlock(&b.m, &word, bit, BIT_WAITERS);
	}
}

/* Two locks in one word share its waiters bit, and neither's waiters stop the other's. */
START_TEST(two_bits)
{
	for (uint64_t seed = 0; seed < 300; seed++) {
		init_locks();
		create_for(&b, UHMM_SCHED_RANDOM, seed, 10000);
		for (unsigned int i = 0; i < 4; i++)
			spawn(i, one_bit, i & 1 ? &b : NULL);
		run(0);
		ck_assert_uint_eq(atomic_load(&word), 0);
		uhmm_sched_destroy(s);
	}
	s = NULL;
}
END_TEST

/* ---- work on every CPU ---- */

static void visit(struct uhmm__cpu *cpu, void *arg)
{
	uhmm__spin_assert_held(&cpu->local);
	ck_assert_ptr_eq(uhmm__this_cpu(), cpu);
	(*(unsigned int *)arg)++;
}

static void drainer(void *arg)
{
	uhmm__on_each_cpu(&b.m, visit, arg);
	note("d");
}

static void busy(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 50; i++)
		point();
	note("b");
	uhmm__cond_resched();
}

/* A CPU whose task stays in the kernel keeps the drain waiting, and one that never leaves, ... */
START_TEST(each_cpu_waits)
{
	unsigned int visited = 0;

	create();
	spawn(0, drainer, &visited);
	spawn(1, busy, NULL);
	run(0);
	ck_assert_str_eq(order, "bd");
	ck_assert_uint_eq(visited, 4);
	ck_assert_ptr_nonnull(strstr(uhmm_sched_trace(s), "W3"));
	ck_assert_msg(b.nr_reports == 0, "%s", b.last_report);
}
END_TEST

/* ... forever. */
START_TEST(each_cpu_starves)
{
	unsigned int visited = 0;

	create_for(&b, UHMM_SCHED_FIXED, 0, 5000);
	spawn(0, drainer, &visited);
	spawn(1, forever, NULL);
	run(-ETIMEDOUT);
	ck_assert_uint_eq(visited, 3);
	ck_assert_ptr_nonnull(strstr(b.last_report, "W1"));
}
END_TEST

/* ---- RCU ---- */

static bool called, was_inside;

static void callback(struct uhmm__rcu_head *head)
{
	(void)head;
	ck_assert(!called);
	ck_assert(!was_inside);
	called = true;
}

static void rcu_reader(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	was_inside = !happened;
	for (unsigned int i = 0; i < 10; i++)
		point();
	uhmm__rcu_read_lock();
	uhmm__rcu_read_unlock();
	point();
	was_inside = false;
	uhmm__rcu_read_unlock();
}

static void rcu_writer(void *arg)
{
	static struct uhmm__rcu_head head;

	happened = true;
	uhmm__call_rcu(&b.m, &head, callback);
	if (arg) {
		uhmm__rcu_barrier(&b.m);
		ck_assert(called);
	} else {
		uhmm__synchronize_rcu(&b.m);
		ck_assert(!was_inside);
	}
	ck_assert(called); /* callbacks run in order */
}

START_TEST(rcu_on_fibers)
{
	for (uint64_t seed = 0; seed < 200; seed++) {
		init_locks();
		called = was_inside = false;
		create_for(&b, UHMM_SCHED_RANDOM, seed, 10000);
		spawn(0, rcu_reader, NULL);
		spawn(1, rcu_writer, seed & 1 ? &b : NULL);
		run(0);
		uhmm_sched_destroy(s);
	}
	s = NULL;
	ck_assert_msg(b.nr_reports == 0, "%s", b.last_report);
}
END_TEST

static void rcu_sleeper(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	uhmm__synchronize_rcu(&b.m);
}

START_TEST(rcu_waits_for_itself)
{
	create();
	spawn(0, rcu_sleeper, NULL);
	run(-EDEADLK);
	ck_assert_uint_eq(b.nr_reports, 3); /* said by each of its waits, then the deadlock */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fibers");
	TCase *tc = tcase_create("fibers");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, random_replays);
	tcase_add_test(tc, deadlock_of_sleepers);
	tcase_add_test(tc, deadlock_by_seed);
	tcase_add_test(tc, deadlock_of_one);
	tcase_add_test(tc, no_lost_wakeup);
	tcase_add_test(tc, entry_wait);
	tcase_add_test(tc, two_bits);
	tcase_add_test(tc, each_cpu_waits);
	tcase_add_test(tc, each_cpu_starves);
	tcase_add_test(tc, rcu_on_fibers);
	tcase_add_test(tc, rcu_waits_for_itself);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
