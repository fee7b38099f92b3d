// SPDX-License-Identifier: LGPL-2.1-or-later
/* src/sync under load: more threads than host CPUs, each primitive, no lost update or wake-up. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/bare_machine.h"

#define NR_THREADS 4
#define BIT_LOCK 3
#define BIT_WAITERS 31

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || UHMM_CHECKED
#define ROUNDS 5000
#else
#define ROUNDS 50000
#endif

static struct bare_machine b;
static uint64_t seed;

static void setup(void)
{
	const char *text = getenv("UHMM_SEED");

	seed = text ? strtoull(text, NULL, 0) : (uint64_t)getpid();
	printf("UHMM_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	bare_init(&b, 2);
}

static void teardown(void)
{
	bare_exit(&b);
	ck_assert_msg(b.nr_reports == 0, "report: %s", b.last_report);
}

struct worker;
typedef void worker_fn(struct worker *w);

struct worker {
	pthread_t id;
	unsigned int index;
	uint64_t rng;
	worker_fn *fn;
};

static uint64_t next_random(struct worker *w)
{
	w->rng = w->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return w->rng >> 33;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct uhmm_task *t = bare_enter(&b, w->index % 2);

	w->fn(w);
	bare_leave(t);
	return NULL;
}

/* Thread i runs fn[i % nr_fns]. */
static void run(worker_fn *const *fn, unsigned int nr_fns)
{
	struct worker w[NR_THREADS];

	for (unsigned int i = 0; i < NR_THREADS; i++) {
		w[i] = (struct worker){ .index = i, .rng = seed + i, .fn = fn[i % nr_fns] };
		ck_assert_int_eq(pthread_create(&w[i].id, NULL, worker_main, &w[i]), 0);
	}
	for (unsigned int i = 0; i < NR_THREADS; i++)
		ck_assert_int_eq(pthread_join(w[i].id, NULL), 0);
}

static struct uhmm__spinlock spin;
static struct uhmm__rwsem sem;
static struct uhmm__waitq waitq;
static _Atomic uint32_t word;
static uint64_t counts[3];

static void locks_worker(struct worker *w)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		switch (next_random(w) % 8) {
		case 0:
		case 1:
			uhmm__down_write(&sem);
			counts[0]++;
			uhmm__downgrade_write(&sem);
			sum += counts[0];
			uhmm__up_read(&sem);
			break;
		case 2:
			if (!uhmm__down_write_trylock(&sem))
				uhmm__down_write(&sem);
			counts[0]++;
			uhmm__up_write(&sem);
			break;
		default:
			if (!uhmm__down_read_trylock(&sem))
				uhmm__down_read(&sem);
			sum += counts[0];
			uhmm__up_read(&sem);
		}
		uhmm__spin_lock(&spin);
		counts[1]++;
		uhmm__spin_unlock(&spin);
		uhmm__bit_lock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
		counts[2]++;
		uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	}
	ck_assert_uint_ge(sum, 0);
}

START_TEST(locks)
{
	worker_fn *const fn[] = { locks_worker };

	uhmm__rwsem_init(&sem, UHMM__LC_MMAP);
	uhmm__spin_init(&spin, UHMM__LC_TEST);
	run(fn, 1);
	ck_assert_uint_eq(counts[1], (uint64_t)ROUNDS * NR_THREADS);
	ck_assert_uint_eq(counts[2], (uint64_t)ROUNDS * NR_THREADS);
	ck_assert_uint_eq(atomic_load(&word), 0);
	ck_assert_uint_eq(atomic_load(&sem.count), 0);
}
END_TEST

/*
 * A lock that its last user frees: nobody may touch it after that. The first user holds it when
 * it puts it where the second finds it, and waits for the second to queue up.
 */
static _Atomic(struct uhmm__rwsem *) box[NR_THREADS / 2];

static void transient_worker(struct worker *w)
{
	_Atomic(struct uhmm__rwsem *) *at = &box[w->index / 2];

	for (unsigned int i = 0; i < ROUNDS / 5; i++) {
		struct uhmm__rwsem *l = atomic_exchange(at, NULL), *none = NULL;

		if (l) {
			uhmm__down_write(l);
			uhmm__up_write(l);
			free(l);
			continue;
		}
		l = calloc(1, sizeof(*l));
		uhmm__rwsem_init(l, UHMM__LC_MMAP);
		uhmm__down_write(l);
		if (!atomic_compare_exchange_strong(at, &none, l)) {
			uhmm__up_write(l);
			free(l);
			continue;
		}
		for (unsigned int n = 0; n < 1000 && !uhmm__rwsem_is_contended(l); n++)
			sched_yield();
		uhmm__up_write(l);
	}
}

START_TEST(freed_by_the_last)
{
	worker_fn *const fn[] = { transient_worker };

	run(fn, 1);
	for (unsigned int i = 0; i < NR_THREADS / 2; i++)
		free(atomic_load(&box[i]));
}
END_TEST

/* Turns go round: each waits for its own number, so one lost wake-up stops all. */
static _Atomic unsigned int turn;

static void turns_worker(struct worker *w)
{
	for (unsigned int i = 0; i < ROUNDS / 10; i++) {
		uhmm__wait_event(&waitq, atomic_load(&turn) % NR_THREADS == w->index);
		atomic_fetch_add(&turn, 1);
		uhmm__wake_up_all(&waitq);
	}
}

START_TEST(turns)
{
	worker_fn *const fn[] = { turns_worker };

	uhmm__waitq_init(&waitq, UHMM__LC_WAITQ);
	run(fn, 1);
	ck_assert_uint_eq(atomic_load(&turn), ROUNDS / 10 * NR_THREADS);
	ck_assert(list_empty(&waitq.waiters));
}
END_TEST

/*
 * Migration against faults. The "entry" names a folio while it is being moved; who finds one
 * waits for it under the entry's lock and without a reference, and the mover frees it after the
 * unlock, checking that nobody left the waiters bit.
 */
static _Atomic uint32_t *entry; /* [spin] */
static _Atomic bool moving_over;

static void move_worker(struct worker *w)
{
	if (w->index)
		return;
	for (unsigned int i = 0; i < ROUNDS / 5; i++) {
		_Atomic uint32_t *folio = calloc(1, sizeof(*folio));

		if (!uhmm__bit_trylock(folio, BIT_LOCK))
			ck_abort_msg("a new word is locked");
		uhmm__spin_lock(&spin);
		entry = folio;
		uhmm__spin_unlock(&spin);
		if (!(next_random(w) % 4))
			sched_yield();
		uhmm__spin_lock(&spin);
		entry = NULL;
		uhmm__spin_unlock(&spin);
		uhmm__bit_unlock(&b.m, folio, BIT_LOCK, BIT_WAITERS);
		if (atomic_load(folio))
			ck_abort_msg("left behind: %x", atomic_load(folio));
		free((void *)folio);
	}
	atomic_store(&moving_over, true);
}

static void fault_worker(struct worker *w)
{
	(void)w;
	while (!atomic_load(&moving_over)) {
		uhmm__spin_lock(&spin);
		if (entry)
			uhmm__bit_wait_unlocked(&b.m, entry, BIT_LOCK, BIT_WAITERS, &spin);
		else
			uhmm__spin_unlock(&spin);
	}
}

START_TEST(entry_wait)
{
	worker_fn *const fn[] = { move_worker, fault_worker };

	uhmm__spin_init(&spin, UHMM__LC_PTL);
	atomic_store(&moving_over, false);
	run(fn, 2);
	for (unsigned int i = 0; i < UHMM__BIT_QUEUES; i++)
		ck_assert(list_empty(&b.m.sync->bit_queues[i].waiters));
}
END_TEST

struct node {
	struct uhmm__rcu_head rcu;
	uint64_t value, check;
};

static _Atomic(struct node *) slots[4];
static _Atomic uint64_t nr_queued, nr_freed;
static _Atomic bool forks_over; /* of the test after this one */

static void node_free(struct uhmm__rcu_head *head)
{
	struct node *n = container_of(head, struct node, rcu);

	n->value = 1;
	n->check = 0;
	free(n);
	atomic_fetch_add(&nr_freed, 1);
}

static void rcu_worker(struct worker *w)
{
	for (unsigned int i = 0; i < ROUNDS && !atomic_load(&forks_over); i++) {
		_Atomic(struct node *) *slot = &slots[next_random(w) % 4];
		struct node *n;

		if (next_random(w) % 2) {
			uhmm__rcu_read_lock();
			n = load_acquire(slot);
			if (n && n->check != ~n->value)
				ck_abort_msg("a node was freed under its reader");
			uhmm__rcu_read_unlock();
			continue;
		}
		n = calloc(1, sizeof(*n));
		n->value = next_random(w);
		n->check = ~n->value;
		n = atomic_exchange(slot, n);
		if (n) {
			atomic_fetch_add(&nr_queued, 1);
			uhmm__call_rcu(&b.m, &n->rcu, node_free);
		}
		uhmm__might_sleep();
		if (!(i % 1000))
			uhmm__rcu_barrier(&b.m);
	}
}

START_TEST(rcu)
{
	worker_fn *const fn[] = { rcu_worker };
	struct uhmm_task *t;

	run(fn, 1);
	t = bare_enter(&b, 0);
	uhmm__rcu_barrier(&b.m);
	bare_leave(t);
	ck_assert_uint_eq(atomic_load(&nr_queued), atomic_load(&nr_freed));
	for (unsigned int i = 0; i < 4; i++)
		free(atomic_load(&slots[i]));
}
END_TEST

/* Forks in the middle of all that; each child must get through a grace period of its own. */
static void rcu_forever(struct worker *w)
{
	while (!atomic_load(&forks_over))
		rcu_worker(w);
}

static void fork_worker(struct worker *w)
{
	if (w->index) {
		rcu_forever(w);
		return;
	}
	for (unsigned int i = 0; i < 20; i++) {
		int status;
		pid_t pid = fork();

		/* No assertion in the child: libcheck's lock may be held, forever. */
		if (!pid) {
			alarm(20);
			uhmm__rcu_read_lock();
			uhmm__rcu_read_unlock();
			uhmm__synchronize_rcu(&b.m);
			_exit(0);
		}
		ck_assert_int_gt(pid, 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFEXITED(status) && !WEXITSTATUS(status), "status %x", status);
	}
	atomic_store(&forks_over, true);
}

START_TEST(forks)
{
	worker_fn *const fn[] = { fork_worker, rcu_forever };

	run(fn, 2);
	for (unsigned int i = 0; i < 4; i++)
		free(atomic_load(&slots[i]));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sync-stress");
	TCase *tc = tcase_create("sync-stress");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, locks);
	tcase_add_test(tc, freed_by_the_last);
	tcase_add_test(tc, turns);
	tcase_add_test(tc, entry_wait);
	tcase_add_test(tc, rcu);
	tcase_add_test(tc, forks);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
