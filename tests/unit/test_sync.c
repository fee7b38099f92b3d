// SPDX-License-Identifier: LGPL-2.1-or-later
/* src/sync on host threads: each primitive by itself, RCU, tasks, forks, the lock table. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bare_machine.h"

#define BIT_LOCK 0
#define BIT_WAITERS 7

static struct bare_machine b;

static void setup(void)
{
	bare_init(&b, 4);
}

static void teardown(void)
{
	bare_exit(&b);
	ck_assert_msg(b.nr_reports == 0, "report: %s", b.last_report);
}

static void nap(long us)
{
	struct timespec ts = { 0, us * 1000 };

	nanosleep(&ts, NULL);
}

/* A thread that runs fn(arg) as a task of its own. */
struct thread {
	pthread_t id;
	void (*fn)(void *arg);
	void *arg;
};

static void *thread_main(void *arg)
{
	struct thread *th = arg;
	struct uhmm_task *t = bare_enter(&b, 1);

	th->fn(th->arg);
	bare_leave(t);
	return NULL;
}

static void start(struct thread *th, void (*fn)(void *arg), void *arg)
{
	th->fn = fn;
	th->arg = arg;
	ck_assert_int_eq(pthread_create(&th->id, NULL, thread_main, th), 0);
}

static void join(struct thread *th)
{
	ck_assert_int_eq(pthread_join(th->id, NULL), 0);
}

/* ---- spin locks ---- */

START_TEST(spin_basics)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct uhmm__spinlock l;

	uhmm__spin_init(&l, UHMM__LC_TEST);
	ck_assert(!uhmm__spin_is_locked(&l));
	ck_assert(!uhmm__spin_lock(&l));
	ck_assert(uhmm__spin_is_locked(&l));
	uhmm__spin_assert_held(&l);
	ck_assert(!uhmm__spin_trylock(&l));
	uhmm__spin_unlock(&l);
	ck_assert(uhmm__spin_trylock(&l));
	uhmm__spin_unlock(&l);
	bare_leave(t);
}
END_TEST

static struct uhmm__spinlock spin;
static bool was_contended;

static _Atomic bool taker_runs;

static void spin_taker(void *arg)
{
	(void)arg;
	atomic_store(&taker_runs, true);
	was_contended = uhmm__spin_lock(&spin);
	uhmm__spin_unlock(&spin);
}

START_TEST(spin_contended)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct thread th;

	uhmm__spin_init(&spin, UHMM__LC_TEST);
	/* A busy machine may stop the thread right before it tries: then once more. */
	for (int i = 0; i < 1000 && !was_contended; i++) {
		atomic_store(&taker_runs, false);
		uhmm__spin_lock(&spin);
		start(&th, spin_taker, NULL);
		while (!atomic_load(&taker_runs))
			nap(100);
		nap(1000);
		uhmm__spin_unlock(&spin);
		join(&th);
	}
	ck_assert(was_contended);
	bare_leave(t);
}
END_TEST

/* ---- rwsem ---- */

static struct uhmm__rwsem sem;
static _Atomic unsigned int arrivals;

struct rw {
	bool write, waited;
	unsigned int order; /* in which it got the lock */
	_Atomic bool has, let_go;
};

static void rw_taker(void *arg)
{
	struct rw *rw = arg;

	rw->waited = rw->write ? uhmm__down_write(&sem) : uhmm__down_read(&sem);
	rw->order = atomic_fetch_add(&arrivals, 1);
	atomic_store(&rw->has, true);
	while (!atomic_load(&rw->let_go))
		nap(100);
	if (rw->write)
		uhmm__up_write(&sem);
	else
		uhmm__up_read(&sem);
}

/* Until @n waiters are queued. */
static void wait_queued(unsigned int n)
{
	for (;;) {
		struct list_head *p;
		unsigned int found = 0;

		uhmm__raw_spin_lock(&sem.wait_lock);
		for (p = sem.waiters.next; p != &sem.waiters; p = p->next)
			found++;
		uhmm__raw_spin_unlock(&sem.wait_lock);
		if (found == n)
			return;
		nap(100);
	}
}

START_TEST(rwsem_basics)
{
	struct uhmm_task *t = bare_enter(&b, 0);

	uhmm__rwsem_init(&sem, UHMM__LC_MMAP);
	ck_assert(!uhmm__down_write(&sem));
	uhmm__rwsem_assert_write_held(&sem);
	ck_assert(!uhmm__down_read_trylock(&sem));
	ck_assert(!uhmm__down_write_trylock(&sem));
	uhmm__downgrade_write(&sem);
	uhmm__rwsem_assert_held(&sem);
	ck_assert(!uhmm__down_write_trylock(&sem));
	uhmm__up_read(&sem);
	ck_assert(uhmm__down_read_trylock(&sem));
	uhmm__up_read(&sem);
	ck_assert(uhmm__down_write_trylock(&sem));
	uhmm__up_write(&sem);
	ck_assert_uint_eq(atomic_load(&sem.count), 0);
	ck_assert(!uhmm__rwsem_is_contended(&sem));
	bare_leave(t);
}
END_TEST

/* Reader holds; W, R, R, W queue up in this order and must get the lock as W, R+R, W. */
START_TEST(rwsem_fair)
{
	struct rw w1 = { .write = true }, r1 = { 0 }, r2 = { 0 }, w2 = { .write = true };
	struct rw *all[] = { &w1, &r1, &r2, &w2 };
	struct uhmm_task *t = bare_enter(&b, 0);
	struct thread th[4];

	uhmm__rwsem_init(&sem, UHMM__LC_MMAP);
	atomic_store(&arrivals, 0);
	uhmm__down_read(&sem);
	for (unsigned int i = 0; i < 4; i++) {
		start(&th[i], rw_taker, all[i]);
		wait_queued(i + 1);
	}
	ck_assert(uhmm__rwsem_is_contended(&sem));
	/* A queued writer keeps new readers out. */
	ck_assert(!uhmm__down_read_trylock(&sem));
	uhmm__up_read(&sem);
	wait_queued(3);
	atomic_store(&w1.let_go, true);
	/* Both readers hold it together. */
	while (!atomic_load(&r1.has) || !atomic_load(&r2.has))
		nap(100);
	ck_assert(!atomic_load(&w2.has));
	ck_assert(!uhmm__down_write_trylock(&sem));
	atomic_store(&r2.let_go, true);
	atomic_store(&r1.let_go, true);
	atomic_store(&w2.let_go, true);
	for (unsigned int i = 0; i < 4; i++) {
		join(&th[i]);
		ck_assert(all[i]->waited);
	}
	ck_assert_uint_eq(w1.order, 0);
	ck_assert_uint_eq(w2.order, 3);
	ck_assert_uint_eq(atomic_load(&sem.count), 0);
	bare_leave(t);
}
END_TEST

/* Downgrading lets queued readers in, and the writer behind them stays out. */
START_TEST(rwsem_downgrade)
{
	struct rw r = { 0 }, w = { .write = true };
	struct uhmm_task *t = bare_enter(&b, 0);
	struct thread th[2];

	uhmm__rwsem_init(&sem, UHMM__LC_MMAP);
	atomic_store(&arrivals, 0);
	uhmm__down_write(&sem);
	start(&th[0], rw_taker, &r);
	wait_queued(1);
	start(&th[1], rw_taker, &w);
	wait_queued(2);
	uhmm__downgrade_write(&sem);
	while (!atomic_load(&r.has))
		nap(100);
	atomic_store(&r.let_go, true);
	join(&th[0]);
	ck_assert(!atomic_load(&w.has));
	uhmm__up_read(&sem);
	atomic_store(&w.let_go, true);
	join(&th[1]);
	ck_assert_uint_eq(atomic_load(&sem.count), 0);
	bare_leave(t);
}
END_TEST

START_TEST(mutex_basics)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct uhmm__mutex l;

	uhmm__mutex_init(&l, UHMM__LC_MIRROR);
	ck_assert(!uhmm__mutex_lock(&l));
	uhmm__mutex_assert_held(&l);
	ck_assert(!uhmm__mutex_trylock(&l));
	uhmm__mutex_unlock(&l);
	ck_assert(uhmm__mutex_trylock(&l));
	uhmm__mutex_unlock(&l);
	bare_leave(t);
}
END_TEST

/* ---- wait queues and bit locks ---- */

static struct uhmm__waitq waitq;
static _Atomic bool happened;

static void event_waiter(void *arg)
{
	(void)arg;
	uhmm__wait_event(&waitq, atomic_load(&happened));
}

START_TEST(wait_event)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct thread th[3];

	uhmm__waitq_init(&waitq, UHMM__LC_WAITQ);
	atomic_store(&happened, false);
	for (unsigned int i = 0; i < 3; i++)
		start(&th[i], event_waiter, NULL);
	nap(10000);
	uhmm__wake_up_all(&waitq); /* for nothing: they look again, and sleep on */
	nap(10000);
	atomic_store(&happened, true);
	uhmm__wake_up_all(&waitq);
	for (unsigned int i = 0; i < 3; i++)
		join(&th[i]);
	ck_assert(list_empty(&waitq.waiters));
	uhmm__wait_event(&waitq, true);
	bare_leave(t);
}
END_TEST

static _Atomic uint32_t word;

struct bit_taker {
	bool look; /* uhmm__bit_wait_unlocked(), else take the lock */
	bool slept;
	unsigned int order;
};

static void bit_taker(void *arg)
{
	struct bit_taker *k = arg;

	if (k->look)
		k->slept = uhmm__bit_wait_unlocked(&b.m, &word, BIT_LOCK, BIT_WAITERS, NULL);
	else
		k->slept = uhmm__bit_lock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	k->order = atomic_fetch_add(&arrivals, 1);
	if (!k->look) {
		nap(1000);
		uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	}
}

static unsigned int bit_queued(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < UHMM__BIT_QUEUES; i++) {
		struct uhmm__waitq *q = &b.m.sync->bit_queues[i];
		struct list_head *p;

		uhmm__raw_spin_lock(&q->lock);
		for (p = q->waiters.next; p != &q->waiters; p = p->next)
			n++;
		uhmm__raw_spin_unlock(&q->lock);
	}
	return n;
}

START_TEST(bit_basics)
{
	struct uhmm_task *t = bare_enter(&b, 0);

	atomic_store(&word, 0x100);
	ck_assert(uhmm__bit_trylock(&word, BIT_LOCK));
	ck_assert(!uhmm__bit_trylock(&word, BIT_LOCK));
	uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	ck_assert(!uhmm__bit_lock(&b.m, &word, BIT_LOCK, BIT_WAITERS));
	uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	ck_assert_uint_eq(atomic_load(&word), 0x100);
	/* Not locked: nothing to wait for, nothing left behind. */
	ck_assert(!uhmm__bit_wait_unlocked(&b.m, &word, BIT_LOCK, BIT_WAITERS, NULL));
	ck_assert_uint_eq(atomic_load(&word), 0x100);
	bare_leave(t);
}
END_TEST

/* Waiters are served in order; a look in front of them is, too; the flag is clear at the end. */
START_TEST(bit_fifo)
{
	struct bit_taker k[4] = { { .look = true }, { 0 }, { 0 }, { .look = true } };
	struct uhmm_task *t = bare_enter(&b, 0);
	struct thread th[4];

	atomic_store(&word, 0);
	atomic_store(&arrivals, 0);
	uhmm__bit_lock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	for (unsigned int i = 0; i < 4; i++) {
		start(&th[i], bit_taker, &k[i]);
		while (bit_queued() != i + 1)
			nap(100);
	}
	ck_assert_uint_eq(atomic_load(&word), BIT(BIT_LOCK) | BIT(BIT_WAITERS));
	uhmm__bit_unlock(&b.m, &word, BIT_LOCK, BIT_WAITERS);
	for (unsigned int i = 0; i < 4; i++) {
		join(&th[i]);
		ck_assert(k[i].slept);
	}
	/* The last look queued behind both locks: not woken before the second was released. */
	ck_assert_uint_lt(k[1].order, k[2].order);
	ck_assert_uint_lt(k[1].order, k[3].order);
	ck_assert_uint_eq(atomic_load(&word), 0);
	ck_assert_uint_eq(bit_queued(), 0);
	bare_leave(t);
}
END_TEST

static void entry_waiter(void *arg)
{
	_Atomic uint32_t *folio = arg;

	/* As a fault does it: under the PTL that keeps the folio there, and no reference. */
	uhmm__spin_lock(&spin);
	uhmm__bit_wait_unlocked(&b.m, folio, BIT_LOCK, BIT_WAITERS, &spin);
}

/* The object is freed, and in sanitizer builds unmapped, while the waiter has not run yet. */
START_TEST(bit_entry_wait)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	_Atomic uint32_t *folio = malloc(sizeof(*folio));
	struct thread th;

	uhmm__spin_init(&spin, UHMM__LC_PTL);
	atomic_init(folio, 0);
	uhmm__bit_lock(&b.m, folio, BIT_LOCK, BIT_WAITERS);
	start(&th, entry_waiter, folio);
	while (bit_queued() != 1)
		nap(100);
	uhmm__bit_unlock(&b.m, folio, BIT_LOCK, BIT_WAITERS);
	ck_assert_uint_eq(atomic_load(folio), 0);
	free((void *)folio);
	join(&th);
	ck_assert(!uhmm__spin_is_locked(&spin));
	bare_leave(t);
}
END_TEST

/* ---- RCU ---- */

static _Atomic unsigned int nr_called;

struct object {
	struct uhmm__rcu_head rcu;
	int value;
};

static void object_free(struct uhmm__rcu_head *head)
{
	free(container_of(head, struct object, rcu));
	atomic_fetch_add(&nr_called, 1);
}

static void queue_objects(unsigned int n)
{
	while (n--)
		uhmm__call_rcu(&b.m, &((struct object *)calloc(1, sizeof(struct object)))->rcu,
			       object_free);
}

START_TEST(rcu_barrier)
{
	struct uhmm_task *t = bare_enter(&b, 0);

	atomic_store(&nr_called, 0);
	uhmm__rcu_read_lock();
	uhmm__rcu_read_lock();
	uhmm__rcu_read_unlock();
	queue_objects(10);
	ck_assert_uint_eq(atomic_load(&nr_called), 0);
	uhmm__rcu_read_unlock();
	uhmm__synchronize_rcu(&b.m);
	uhmm__rcu_barrier(&b.m);
	ck_assert_uint_eq(atomic_load(&nr_called), 10);
	uhmm__rcu_barrier(&b.m);
	bare_leave(t);
}
END_TEST

/* Many callbacks run by themselves, but never under a read section, and the rest at exit. */
START_TEST(rcu_batch)
{
	struct uhmm_task *t = bare_enter(&b, 0);

	atomic_store(&nr_called, 0);
	uhmm__rcu_read_lock();
	queue_objects(1000);
	uhmm__rcu_read_unlock();
	ck_assert_uint_eq(atomic_load(&nr_called), 0);
	uhmm__might_sleep();
	ck_assert_uint_eq(atomic_load(&nr_called), 1000);
	queue_objects(3);
	uhmm__might_sleep();
	ck_assert_uint_eq(atomic_load(&nr_called), 1000);
	bare_leave(t);
	uhmm__sync_exit(&b.m);
	ck_assert_uint_eq(atomic_load(&nr_called), 1003);
	ck_assert_int_eq(uhmm__sync_init(&b.m), 0);
}
END_TEST

static _Atomic bool inside, outside;
static _Atomic(struct object *) shared;

static void rcu_reader(void *arg)
{
	struct object *o;

	(void)arg;
	uhmm__rcu_read_lock();
	o = load_acquire(&shared);
	atomic_store(&inside, true);
	nap(20000);
	/* Freed by now, if the grace period did not wait. */
	ck_assert_int_eq(o->value, 7);
	atomic_store(&outside, true);
	uhmm__rcu_read_unlock();
}

START_TEST(rcu_waits_for_reader)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct object *o = calloc(1, sizeof(*o));
	struct thread th;

	o->value = 7;
	store_release(&shared, o);
	start(&th, rcu_reader, NULL);
	while (!atomic_load(&inside))
		nap(100);
	store_release(&shared, NULL);
	uhmm__call_rcu(&b.m, &o->rcu, object_free);
	uhmm__rcu_barrier(&b.m);
	ck_assert(atomic_load(&outside));
	join(&th);
	bare_leave(t);
}
END_TEST

static _Atomic bool go_on;

static void rcu_holder(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	atomic_store(&inside, true);
	while (!atomic_load(&go_on))
		nap(100);
	uhmm__rcu_read_unlock();
}

static void rcu_user(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	uhmm__rcu_read_unlock();
	uhmm__synchronize_rcu(&b.m);
}

#ifdef UHMM__TSAN
#define NR_CHILD_THREADS 0 /* ThreadSanitizer allows none in such a child */
#else
#define NR_CHILD_THREADS 4
#endif

/*
 * A child of a fork has one thread, but liburcu's list still names its parent's others: one in a
 * read section that never ends, and whose stack the child's own threads get.
 */
START_TEST(rcu_fork)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct thread th;
	int status;
	pid_t pid;

	start(&th, rcu_holder, NULL);
	while (!atomic_load(&inside))
		nap(100);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		struct thread own[NR_CHILD_THREADS + 1];

		alarm(20);
		for (unsigned int round = 0; round < 3; round++) {
			for (int i = 0; i < NR_CHILD_THREADS; i++)
				start(&own[i], rcu_user, NULL);
			for (int i = 0; i < NR_CHILD_THREADS; i++)
				join(&own[i]);
			rcu_user(NULL);
		}
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: status %x", status);
	atomic_store(&go_on, true);
	join(&th);
	uhmm__synchronize_rcu(&b.m);
	bare_leave(t);
}
END_TEST

/* ---- tasks, CPUs, the lock table ---- */

START_TEST(tasks_and_counters)
{
	struct uhmm_counters c;
	struct uhmm_task *t, *u;

	ck_assert_ptr_null(uhmm_task_current());
	ck_assert_int_eq(uhmm_task_create(&b.m, NULL, 4, NULL, &t), -EINVAL);
	t = bare_enter(&b, 3);
	ck_assert_ptr_eq(uhmm_task_current(), t);
	ck_assert_uint_eq(uhmm__this_cpu()->id, 3);
	ck_assert_ptr_eq(uhmm__this_cpu(), uhmm__cpu(&b.m, 3));
	uhmm__count(UHMM_CNT_WALKS);
	uhmm__count_n(UHMM_CNT_PTL, 5);
	bare_leave(t);
	ck_assert_ptr_null(uhmm_task_current());
	u = bare_enter(&b, 0);
	uhmm__count(UHMM_CNT_PTL);
	uhmm_counters_read(&b.m, &c);
	ck_assert_uint_eq(c.v[UHMM_CNT_WALKS], 1);
	ck_assert_uint_eq(c.v[UHMM_CNT_PTL], 6);
	bare_leave(u);
	uhmm_task_destroy(NULL);
	t = uhmm__boot_task_enter(&b.m);
	ck_assert_ptr_null(t);
	uhmm__count(UHMM_CNT_PTL);
	uhmm__boot_task_leave(&b.m, t);
	uhmm_counters_read(&b.m, &c);
	ck_assert_uint_eq(c.v[UHMM_CNT_PTL], 7);
}
END_TEST

START_TEST(task_create_no_memory)
{
	struct uhmm_task *t = NULL;

	ck_assert_int_eq(uhmm_machine_inject(&b.m, UHMM_INJECT_META, 1, 1), 0);
	ck_assert_int_eq(uhmm_task_create(&b.m, NULL, 0, NULL, &t), -ENOMEM);
	ck_assert_ptr_null(t);
}
END_TEST

static void visit(struct uhmm__cpu *cpu, void *arg)
{
	uint32_t *visited = arg;

	uhmm__spin_assert_held(&cpu->local);
	*visited |= 1U << cpu->id;
}

START_TEST(each_cpu)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	uint32_t visited = 0;

	uhmm__on_each_cpu(&b.m, visit, &visited);
	ck_assert_uint_eq(visited, 0xf);
	bare_leave(t);
}
END_TEST

static size_t class_row(unsigned int i, char *row, size_t size)
{
	const struct uhmm__lock_class_info *c = &uhmm__lock_classes[i];

	return (size_t)snprintf(row, size, "| %u | %s | %s | %s | %s | %s |\n", c->order, c->name,
				c->kind_name, c->protects, c->forbidden, c->mirrors);
}

/* The table in docs/locking.md is the list in the sources; else it is printed as it should be. */
START_TEST(locking_doc)
{
	FILE *f = fopen(UHMM_TEST_DATA "/../docs/locking.md", "r");
	static char text[65536], row[1024];
	bool same = true;

	ck_assert_ptr_nonnull(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	for (unsigned int i = 0; i < UHMM__NR_LOCK_CLASSES; i++) {
		class_row(i, row, sizeof(row));
		same = same && strstr(text, row);
		if (i)
			ck_assert_uint_ge(uhmm__lock_classes[i].order,
					  uhmm__lock_classes[i - 1].order);
	}
	for (unsigned int i = 0; !same && i < UHMM__NR_LOCK_CLASSES; i++) {
		class_row(i, row, sizeof(row));
		fputs(row, stdout);
	}
	ck_assert_msg(same, "the table in docs/locking.md should be the one above");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sync");
	TCase *tc = tcase_create("sync");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, spin_basics);
	tcase_add_test(tc, spin_contended);
	tcase_add_test(tc, rwsem_basics);
	tcase_add_test(tc, rwsem_fair);
	tcase_add_test(tc, rwsem_downgrade);
	tcase_add_test(tc, mutex_basics);
	tcase_add_test(tc, wait_event);
	tcase_add_test(tc, bit_basics);
	tcase_add_test(tc, bit_fifo);
	tcase_add_test(tc, bit_entry_wait);
	tcase_add_test(tc, rcu_barrier);
	tcase_add_test(tc, rcu_batch);
	tcase_add_test(tc, rcu_waits_for_reader);
	tcase_add_test(tc, rcu_fork);
	tcase_add_test(tc, tasks_and_counters);
	tcase_add_test(tc, task_create_no_memory);
	tcase_add_test(tc, each_cpu);
	tcase_add_test(tc, locking_doc);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
