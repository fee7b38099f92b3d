// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The lock checker, on bare locks: each kind of report, and that what is right is not reported. On host
 * threads and on fibers; where a task would really wait for ever, on fibers alone.
 */
#include <pthread.h>
#include <stdlib.h>

#include <uhmm/lock.h>
#include <uhmm/sched.h>

#include "sync/lock_graph.h"
#include "unit/bare_machine.h"

#define BIT_LOCK 0
#define BIT_WAITERS 7

enum { ON_THREADS, ON_FIBERS, NR_WAYS };

static struct bare_machine b;
static int way;
static char said[16384]; /* all reports */
static struct uhmm_mutex *a, *bb, *c;
static struct uhmm_rwsem *sem;
static struct uhmm_spinlock *spin;
static struct uhmm__spinlock ptl, ptl2;
static struct uhmm__rwsem mmap_lock, other_mmap_lock;
static struct uhmm__mutex mirror;
static _Atomic uint32_t folio[4];

static void on_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	(void)data;
	ck_assert_int_eq(kind, UHMM_REPORT_LOCK);
	b.nr_reports++;
	strncat(said, text, sizeof(said) - strlen(said) - 2);
	strcat(said, "\n");
}

static void setup(void)
{
	bare_init(&b, 4);
	b.m.config.report = on_report;
	said[0] = '\0';
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "a", &a), 0);
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "b", &bb), 0);
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "c", &c), 0);
	ck_assert_int_eq(uhmm_rwsem_create(&b.m, "sem", &sem), 0);
	ck_assert_int_eq(uhmm_spin_create(&b.m, "spin", &spin), 0);
	uhmm__spin_init(&ptl, UHMM__LC_PTL);
	uhmm__spin_init(&ptl2, UHMM__LC_PTL);
	uhmm__rwsem_init(&mmap_lock, UHMM__LC_MMAP);
	uhmm__rwsem_init(&other_mmap_lock, UHMM__LC_MMAP);
	uhmm__mutex_init(&mirror, UHMM__LC_MIRROR);
	memset(folio, 0, sizeof(folio));
}

static void teardown(void)
{
	uhmm_mutex_destroy(a);
	uhmm_mutex_destroy(bb);
	uhmm_mutex_destroy(c);
	uhmm_rwsem_destroy(sem);
	uhmm_spin_destroy(spin);
	bare_exit(&b);
	ck_assert_msg(b.nr_reports == 0, "not expected: %s", said);
}

/* ---- running ---- */

struct thread {
	void (*fn)(void *arg);
	void *arg;
};

static void *thread_main(void *arg)
{
	const struct thread *th = arg;
	struct uhmm_task *t = bare_enter(&b, 0);

	th->fn(th->arg);
	bare_leave(t);
	return NULL;
}

/*
 * Tasks, one after the other: on CPU 0, which does not preempt. What the first has shown counts for the
 * second. Returns: 0, or what uhmm_sched_run() says.
 */
static int run_all(void (*const *fns)(void *arg), unsigned int nr)
{
	struct uhmm_sched *s;
	int ret;

	if (way == ON_THREADS) {
		for (unsigned int i = 0; i < nr; i++) {
			struct thread th = { fns[i], NULL };
			pthread_t id;

			ck_assert_int_eq(pthread_create(&id, NULL, thread_main, &th), 0);
			ck_assert_int_eq(pthread_join(id, NULL), 0);
		}
		return 0;
	}
	ck_assert_int_eq(uhmm_sched_create(&b.m, NULL, &s), 0);
	for (unsigned int i = 0; i < nr; i++)
		ck_assert_int_eq(uhmm_sched_spawn(s, "test", 0, NULL, fns[i], NULL), 0);
	ret = uhmm_sched_run(s);
	uhmm_sched_destroy(s);
	return ret;
}

#define run(...)                                                                                   \
	ck_assert_int_eq(run_all((void (*const[])(void *)){ __VA_ARGS__ },                         \
				 ARRAY_SIZE(((void (*const[])(void *)){ __VA_ARGS__ }))),          \
			 0)

/* @nr reports, and in them these texts, in this order. */
static void check_said(unsigned int nr, const char *const *texts, unsigned int nr_texts)
{
	const char *at = said;

	ck_assert_msg(b.nr_reports == nr, "%u reports, expected %u: %s", b.nr_reports, nr, said);
	for (unsigned int i = 0; i < nr_texts; i++) {
		at = strstr(at, texts[i]);
		ck_assert_msg(at != NULL, "missing here: \"%s\", in: %s", texts[i], said);
	}
	b.nr_reports = 0;
	said[0] = '\0';
}

#define reported_n(nr, ...)                                                                        \
	check_said(nr, (const char *const[]){ __VA_ARGS__ },                                       \
		   ARRAY_SIZE(((const char *const[]){ __VA_ARGS__ })))
#define reported(...) reported_n(1, __VA_ARGS__)

static void nothing_reported(void)
{
	ck_assert_msg(b.nr_reports == 0, "not expected: %s", said);
}

/* ---- cycles ---- */

static void a_then_b(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(a);
	uhmm_mutex_lock(bb);
	uhmm_mutex_unlock(bb);
	uhmm_mutex_unlock(a);
}

static void b_then_a(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(bb);
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	uhmm_mutex_unlock(bb);
}

static void b_then_c(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(bb);
	uhmm_mutex_lock(c);
	uhmm_mutex_unlock(c);
	uhmm_mutex_unlock(bb);
}

static void c_then_a(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(c);
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	uhmm_mutex_unlock(c);
}

/* The report as a whole: who, what, where, the other order and whose it was, the scenario. */
START_TEST(abba)
{
	way = _i;
	run(a_then_b);
	nothing_reported();
	run(b_then_a);
	reported("possible circular locking dependency detected\n", "test/",
		 " on CPU 0 is about to wait for\n", "    a 0x",
		 ", in b_then_a() at sched/test_lock_check_checked.c:", "while it holds\n",
		 "    b 0x",
		 ", in b_then_a() at sched/test_lock_check_checked.c:", "The opposite order",
		 " -> #0: a -> b: test/", " waited for\n", "b 0x", ", in a_then_b() at ", "with\n",
		 "a 0x", ", in a_then_b() at ", " Possible unsafe locking scenario:\n",
		 "       CPU0                         CPU1\n"
		 "       ----                         ----\n"
		 "  lock(b);\n"
		 "                               lock(a);\n"
		 "                               lock(b);\n"
		 "  lock(a);\n",
		 "*** DEADLOCK ***\n", "1 lock held by test/", " #0: b 0x", ", in b_then_a() at ");
	/* Once said is enough; and the right order is still right. */
	run(b_then_a, a_then_b);
	nothing_reported();
}
END_TEST

START_TEST(cycle_of_three)
{
	way = _i;
	run(a_then_b, b_then_c);
	nothing_reported();
	run(c_then_a);
	reported("possible circular", "    a 0x", "    c 0x", " -> #1: b -> c: ", "b_then_c()",
		 " -> #0: a -> b: ", "a_then_b()",
		 "       CPU0                         CPU1                         CPU2\n",
		 "  lock(c);\n"
		 "                               lock(a);\n"
		 "                                                            lock(b);\n"
		 "                               lock(b);\n"
		 "                                                            lock(c);\n"
		 "  lock(a);\n");
}
END_TEST

/* What was tried waits for nobody; but others may wait for who has it. */
static void b_then_try_a(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(bb);
	ck_assert(uhmm_mutex_trylock(a));
	uhmm_mutex_unlock(a);
	uhmm_mutex_unlock(bb);
}

static void try_b_then_a(void *arg)
{
	(void)arg;
	ck_assert(uhmm_mutex_trylock(bb));
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	uhmm_mutex_unlock(bb);
}

START_TEST(trylocks)
{
	way = _i;
	run(a_then_b, b_then_try_a);
	nothing_reported();
	run(try_b_then_a);
	reported("possible circular", "    a 0x", "    b 0x", "(trylock)", "try_b_then_a()");
}
END_TEST

/* Readers count as writers: a queued writer makes them wait for each other. */
static void read_then_a(void *arg)
{
	(void)arg;
	uhmm_down_read(sem);
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	uhmm_up_read(sem);
}

static void a_then_read(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(a);
	uhmm_down_read(sem);
	uhmm_up_read(sem);
	uhmm_mutex_unlock(a);
}

START_TEST(readers)
{
	way = _i;
	run(read_then_a);
	nothing_reported();
	run(a_then_read);
	reported("possible circular", "    sem 0x", "(read), in a_then_read()",
		 "  lock(a);\n"
		 "                               read_lock(sem);\n"
		 "                               lock(a);\n"
		 "  read_lock(sem);\n");
}
END_TEST

/* Against lock_classes.def, before anybody has nested as it says. */
static void mirror_then_mmap(void *arg)
{
	(void)arg;
	uhmm__mutex_lock(&mirror);
	uhmm__down_read(&mmap_lock);
	uhmm__up_read(&mmap_lock);
	uhmm__mutex_unlock(&mirror);
}

START_TEST(declared_order)
{
	way = _i;
	run(mirror_then_mmap);
	reported("possible circular", "    MMAP 0x", "(read), in mirror_then_mmap()",
		 "    MIRROR 0x",
		 " -> #0: MMAP -> MIRROR: declared so in lock_classes.def, order 10 and 60");
}
END_TEST

/* A driver's lock gets between two of the library's that nobody has nested yet. */
static void mirror_then_a(void *arg)
{
	(void)arg;
	uhmm__mutex_lock(&mirror);
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	uhmm__mutex_unlock(&mirror);
}

static void a_then_mmap(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(a);
	uhmm__down_write(&mmap_lock);
	uhmm__up_write(&mmap_lock);
	uhmm_mutex_unlock(a);
}

START_TEST(drivers_lock_in_the_declared_order)
{
	way = _i;
	run(mirror_then_a);
	nothing_reported();
	run(a_then_mmap);
	reported("possible circular", "    MMAP 0x", "    a 0x",
		 " -> #1: MIRROR -> a: ", "mirror_then_a()", " -> #0: MMAP -> MIRROR: declared so");
}
END_TEST

/* ---- folios: each is its own ---- */

#define wait_folio(i) uhmm__bit_lock(&b.m, &folio[i], BIT_LOCK, BIT_WAITERS)
#define unlock_folio(i) uhmm__bit_unlock(&b.m, &folio[i], BIT_LOCK, BIT_WAITERS)

static void folios_up(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < ARRAY_SIZE(folio); i++)
		wait_folio(i);
	for (unsigned int i = 0; i < ARRAY_SIZE(folio); i++)
		unlock_folio(i);
}

static void folios_1_0(void *arg)
{
	(void)arg;
	wait_folio(1);
	wait_folio(0);
	unlock_folio(0);
	unlock_folio(1);
}

static void folios_1_try_0(void *arg)
{
	(void)arg;
	wait_folio(1);
	ck_assert(uhmm__bit_trylock(&folio[0], BIT_LOCK));
	unlock_folio(0);
	unlock_folio(1);
}

/* As for a migration entry: waits until it is unlocked, and does not take it. */
static void folio_1_waits_for_0(void *arg)
{
	(void)arg;
	wait_folio(1);
	uhmm__bit_wait_unlocked(&b.m, &folio[0], BIT_LOCK, BIT_WAITERS, NULL);
	unlock_folio(1);
}

static void folio_3_2(void *arg)
{
	(void)arg;
	wait_folio(3);
	wait_folio(2);
	unlock_folio(2);
	unlock_folio(3);
}

START_TEST(folios)
{
	way = _i;
	run(folios_up, folios_up, folios_1_try_0);
	nothing_reported();
	run(folios_1_0);
	reported("possible circular", "    FOLIO 0x", "folios_1_0()", "    FOLIO 0x",
		 "folios_1_0()", " -> #0: FOLIO -> FOLIO: test/", "folios_up()", "  lock(FOLIO 0x",
		 "  lock(FOLIO 0x", "  lock(FOLIO 0x", "  lock(FOLIO 0x");
	run(folio_1_waits_for_0);
	reported("possible circular", "    FOLIO 0x", "folio_1_waits_for_0()");
	/* A folio that is freed is another one afterwards. */
	uhmm__lock_forget(&b.m, &folio[2]);
	run(folio_3_2);
	nothing_reported();
	run(folios_up);
	reported("possible circular", "    FOLIO 0x", "folios_up()", "folio_3_2()");
}
END_TEST

/* Over a third folio: 0 before 1, 1 before 2, 2 before 0. */
static void folios_0_1(void *arg)
{
	(void)arg;
	wait_folio(0);
	wait_folio(1);
	unlock_folio(1);
	unlock_folio(0);
}

static void folios_1_2(void *arg)
{
	(void)arg;
	wait_folio(1);
	wait_folio(2);
	unlock_folio(2);
	unlock_folio(1);
}

static void folios_2_0(void *arg)
{
	(void)arg;
	wait_folio(2);
	wait_folio(0);
	unlock_folio(0);
	unlock_folio(2);
}

START_TEST(three_folios)
{
	way = _i;
	run(folios_0_1, folios_1_2);
	nothing_reported();
	run(folios_2_0);
	reported("possible circular", " -> #1: FOLIO -> FOLIO", "folios_1_2()",
		 " -> #0: FOLIO -> FOLIO", "folios_0_1()", "CPU2");
}
END_TEST

/* A wait for a folio with the driver's lock held, when folios are locked where that is taken. */
static void folio_then_a(void *arg)
{
	(void)arg;
	wait_folio(0);
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	unlock_folio(0);
}

static void a_waits_for_folio(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(a);
	uhmm__bit_wait_unlocked(&b.m, &folio[1], BIT_LOCK, BIT_WAITERS, NULL);
	uhmm_mutex_unlock(a);
}

START_TEST(wait_for_a_folio)
{
	way = _i;
	run(folio_then_a);
	nothing_reported();
	run(a_waits_for_folio);
	reported("possible circular", "    FOLIO 0x", "a_waits_for_folio()", "    a 0x",
		 " -> #0: FOLIO -> a: ");
}
END_TEST

/* ---- recursion ---- */

static void read_twice(void *arg)
{
	(void)arg;
	uhmm_down_read(sem);
	uhmm_down_read(sem);
	uhmm_up_read(sem);
	uhmm_up_read(sem);
}

START_TEST(read_recursion)
{
	way = _i;
	run(read_twice);
	reported("possible recursive locking detected\n", "test/", " is about to wait for\n",
		 "    sem 0x", "(read), in read_twice()", "which it holds already:\n", "    sem 0x",
		 "(read), in read_twice()", "       CPU0                         CPU1\n",
		 "  read_lock(sem);\n"
		 "                               lock(sem); waits for the reader\n"
		 "  read_lock(sem); waits for the writer\n");
}
END_TEST

static void reads_while_a_writer_waits(void *arg)
{
	(void)arg;
	uhmm__down_read(&mmap_lock);
	while (!uhmm__rwsem_is_contended(&mmap_lock))
		uhmm__sched_point(UHMM__PT_ATOMIC, NULL);
	uhmm__down_read(&mmap_lock);
}

static void writes(void *arg)
{
	(void)arg;
	uhmm__down_write(&mmap_lock);
}

/* The writer is there: no longer possible but certain. */
START_TEST(read_recursion_with_a_writer)
{
	struct uhmm_sched *s;

	ck_assert_int_eq(uhmm_sched_create(&b.m, NULL, &s), 0);
	ck_assert_int_eq(uhmm_sched_spawn(s, "reader", 0, NULL, reads_while_a_writer_waits, NULL),
			 0);
	ck_assert_int_eq(uhmm_sched_spawn(s, "writer", 1, NULL, writes, NULL), 0);
	ck_assert_int_eq(uhmm_sched_set_schedule(s, "T0*3"), 0);
	ck_assert_int_eq(uhmm_sched_run(s), -EDEADLK);
	uhmm_sched_destroy(s);
	reported_n(2, "possible recursive locking detected\n", "reader/", "    MMAP 0x",
		   "(read), in reads_while_a_writer_waits()",
		   "A writer is queued already: this task will never get it.",
		   "deadlock: nobody can go on", "reader", "for MMAP", "writer", "for MMAP");
}
END_TEST

static void lock_twice(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(a);
	uhmm_mutex_lock(a);
}

START_TEST(recursion)
{
	way = ON_FIBERS;
	ck_assert_int_eq(run_all((void (*const[])(void *)){ lock_twice }, 1), -EDEADLK);
	reported_n(2, "possible recursive locking detected\n", "    a 0x", "lock_twice()",
		   "which it holds already:\n",
		   "       CPU0\n"
		   "       ----\n"
		   "  lock(a);\n"
		   "  lock(a);\n",
		   "*** DEADLOCK ***", "deadlock: nobody can go on", "for a 0x");
	uhmm_mutex_destroy(a);
	a = NULL;
	reported("held lock freed: a 0x");
}
END_TEST

static void two_mmap_locks(void *arg)
{
	(void)arg;
	uhmm__down_write(&mmap_lock);
	uhmm__down_write(&other_mmap_lock);
	uhmm__up_write(&other_mmap_lock);
	uhmm__up_write(&mmap_lock);
}

static void nested_mmap_locks(void *arg)
{
	(void)arg;
	uhmm__down_write(&mmap_lock);
	uhmm__down_write_nested(&other_mmap_lock, UHMM_SINGLE_DEPTH_NESTING);
	uhmm__up_write(&other_mmap_lock);
	uhmm__up_write(&mmap_lock);
}

static void nested_the_wrong_way(void *arg)
{
	(void)arg;
	uhmm__down_write_nested(&other_mmap_lock, UHMM_SINGLE_DEPTH_NESTING);
	uhmm__down_write(&mmap_lock);
	uhmm__up_write(&mmap_lock);
	uhmm__up_write(&other_mmap_lock);
}

START_TEST(two_of_a_class)
{
	way = _i;
	run(nested_mmap_locks);
	nothing_reported();
	run(two_mmap_locks, two_mmap_locks);
	reported("possible recursive locking detected\n", "    MMAP 0x",
		 "while it holds another of the class:\n", "    MMAP 0x",
		 "take the inner one as nested");
	run(nested_the_wrong_way);
	reported("possible circular", "    MMAP 0x", "    MMAP/1 0x",
		 " -> #0: MMAP -> MMAP/1: test/", "nested_mmap_locks()", "  lock(MMAP/1);\n");
}
END_TEST

/* ---- sleeping ---- */

static void sleeps_with_spin_lock(void *arg)
{
	(void)arg;
	uhmm_spin_lock(spin);
	uhmm_mutex_lock(a);
	uhmm_mutex_unlock(a);
	uhmm_spin_unlock(spin);
}

static void sleeps_in_rcu(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	uhmm_might_sleep();
	uhmm__rcu_read_unlock();
}

static void sleeps_with_map(void *arg)
{
	static char table[2 * UHMM_PAGE_SIZE];

	(void)arg;
	uhmm__rcu_read_lock();
	uhmm__rcu_mapped(table);
	uhmm_might_sleep();
	uhmm__rcu_read_unlock_at(table, UHMM_SITE);
}

static void waits_with_ptl(void *arg)
{
	struct uhmm__waitq q;

	(void)arg;
	uhmm__waitq_init(&q, UHMM__LC_WAITQ);
	uhmm__spin_lock(&ptl);
	uhmm__wait_event(&q, true);
	uhmm__spin_unlock(&ptl);
}

/* The PTL is dropped before it sleeps. */
static void waits_for_entry(void *arg)
{
	(void)arg;
	uhmm__spin_lock(&ptl);
	uhmm__bit_wait_unlocked(&b.m, &folio[0], BIT_LOCK, BIT_WAITERS, &ptl);
}

static void waits_for_entry_with_another_ptl(void *arg)
{
	(void)arg;
	uhmm__spin_lock(&ptl2);
	uhmm__spin_lock_nested(&ptl, UHMM_SINGLE_DEPTH_NESTING);
	uhmm__bit_wait_unlocked(&b.m, &folio[0], BIT_LOCK, BIT_WAITERS, &ptl);
	uhmm__spin_unlock(&ptl2);
}

static void sleepy_callback(struct uhmm__rcu_head *head)
{
	(void)head;
	uhmm_might_sleep();
}

static void callback_sleeps(void *arg)
{
	struct uhmm__rcu_head head;

	(void)arg;
	uhmm__call_rcu(&b.m, &head, sleepy_callback);
	uhmm__rcu_barrier(&b.m);
}

START_TEST(sleeping)
{
	way = _i;
	run(sleeps_with_spin_lock);
	/* Also an order that cannot be: a sleeping lock below a spin lock. */
	reported("sleeping function called from invalid context: with a spin lock held\n", "test/",
		 ", in sleeps_with_spin_lock() at sched/", "1 lock held by test/", " #0: spin 0x",
		 ", in sleeps_with_spin_lock() at sched/");
	run(sleeps_in_rcu);
	reported("sleeping function called from invalid context: in an RCU read section\n",
		 "sleeps_in_rcu()", " #0: RCU 0x", ", in sleeps_in_rcu() at sched/");
	run(sleeps_with_map);
	reported("sleeping function called from invalid context: with a PTE table mapped",
		 " #0: PTE_MAP 0x", ", in sleeps_with_map() at sched/");
	run(waits_with_ptl);
	reported("sleeping function called from invalid context: with a spin lock held\n",
		 " #0: PTL 0x");
	run(waits_for_entry);
	nothing_reported();
	run(waits_for_entry_with_another_ptl);
	reported_n(2, "sleeping function called from invalid context: with a spin lock held\n",
		   ", in waits_for_entry_with_another_ptl()", "1 lock held", " #0: PTL 0x",
		   "possible circular", "FOLIO -> PTL: declared so");
	run(callback_sleeps);
	reported("sleeping function called from invalid context: in an RCU callback\n",
		 "sleepy_callback()");
}
END_TEST

/* ---- releasing, and what must be held ---- */

static void unlocks_what_it_has_not(void *arg)
{
	(void)arg;
	uhmm_mutex_lock(a);
	uhmm_spin_unlock(spin);
	uhmm_mutex_unlock(a);
}

START_TEST(not_held)
{
	way = _i;
	run(unlocks_what_it_has_not);
	reported("bad unlock balance: spin 0x", " is not held by the task that releases it\n",
		 "test/", ", in unlocks_what_it_has_not() at sched/", "1 lock held", " #0: a 0x");
}
END_TEST

static _Atomic bool has, gave;

static void holds(void *arg)
{
	(void)arg;
	uhmm_spin_lock(spin);
	atomic_store(&has, true);
	while (!atomic_load(&gave))
		uhmm__sched_point(UHMM__PT_ATOMIC, NULL);
	uhmm_spin_unlock(spin);
}

static void unlocks_anothers(void *arg)
{
	(void)arg;
	while (!atomic_load(&has))
		uhmm__sched_point(UHMM__PT_ATOMIC, NULL);
	uhmm_spin_unlock(spin);
	atomic_store(&gave, true);
}

START_TEST(wrong_owner)
{
	struct thread th = { unlocks_anothers, NULL };
	struct uhmm_sched *s;
	pthread_t id;

	atomic_store(&has, false);
	atomic_store(&gave, false);
	if (_i == ON_THREADS) {
		struct uhmm_task *t = bare_enter(&b, 1);

		ck_assert_int_eq(pthread_create(&id, NULL, thread_main, &th), 0);
		holds(NULL);
		ck_assert_int_eq(pthread_join(id, NULL), 0);
		bare_leave(t);
		reported("bad unlock balance: spin 0x", "no locks held by test/");
		return;
	}
	ck_assert_int_eq(uhmm_sched_create(&b.m, NULL, &s), 0);
	ck_assert_int_eq(uhmm_sched_spawn(s, "holder", 0, NULL, holds, NULL), 0);
	ck_assert_int_eq(uhmm_sched_spawn(s, "other", 1, NULL, unlocks_anothers, NULL), 0);
	ck_assert_int_eq(uhmm_sched_run(s), 0);
	uhmm_sched_destroy(s);
	reported("bad unlock balance: spin 0x", "; it is held by holder/", "\nother/",
		 ", in unlocks_anothers() at sched/");
}
END_TEST

static void needs_locks(void *arg)
{
	(void)arg;
	uhmm__rwsem_assert_held(&mmap_lock);
	uhmm__down_write(&mmap_lock);
	uhmm__rwsem_assert_write_held(&mmap_lock);
	uhmm__downgrade_write(&mmap_lock);
	uhmm__rwsem_assert_held(&mmap_lock);
	uhmm__rwsem_assert_write_held(&mmap_lock);
	uhmm__up_read(&mmap_lock);
	uhmm__spin_assert_held(&ptl);
}

START_TEST(needed)
{
	way = _i;
	run(needs_locks);
	reported_n(3, "lock not held: MMAP 0x", "needs_locks()",
		   "lock held for reading, needed for writing: MMAP 0x", " #0: MMAP 0x", "(read)",
		   "lock not held: PTL 0x");
}
END_TEST

/* ---- back to user mode ---- */

static void keeps_folio(void *arg)
{
	(void)arg;
	wait_folio(0);
}

static void unlocks_folio(void *arg)
{
	(void)arg;
	unlock_folio(0);
}

static void *key_of_table(unsigned int i)
{
	static char tables[3 * UHMM_PAGE_SIZE];

	return tables + UHMM_PAGE_SIZE - ((uintptr_t)tables & ~UHMM_PAGE_MASK) + i * UHMM_PAGE_SIZE;
}

static void map_table(unsigned int i)
{
	uhmm__rcu_read_lock();
	uhmm__rcu_mapped(key_of_table(i));
}

static void unmap_table(unsigned int i)
{
	uhmm__rcu_read_unlock_at(key_of_table(i), UHMM_SITE);
}

static void keeps_map(void *arg)
{
	(void)arg;
	map_table(0);
	uhmm__assert_no_locks();
	unmap_table(0);
}

static void keeps_section(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	uhmm__assert_no_locks();
	uhmm__rcu_read_unlock();
}

START_TEST(back_to_user_mode)
{
	way = _i;
	run(keeps_folio);
	reported("lock held on return to user mode\n", "test/", "1 lock held by test/",
		 " #0: FOLIO 0x", "keeps_folio() at sched/");
	/* By another task: as a lock of the driver's that is not its own. */
	run(unlocks_folio);
	reported("bad unlock balance: FOLIO 0x", "unlocks_folio()");
	run(keeps_map);
	reported("unbalanced PTE map: a table still mapped on return to user mode\n", "keeps_map()",
		 " #0: PTE_MAP 0x", "map_table() at sched/");
	run(keeps_section);
	reported("RCU read section on return to user mode\n", " #0: RCU 0x",
		 "keeps_section() at sched/");
}
END_TEST

static void unmaps_twice(void *arg)
{
	(void)arg;
	map_table(0);
	unmap_table(0);
	unmap_table(0);
}

static void unmaps_another(void *arg)
{
	(void)arg;
	map_table(0);
	unmap_table(1);
	unmap_table(0);
}

static void unmaps_in_the_wrong_order(void *arg)
{
	(void)arg;
	map_table(0);
	map_table(1);
	unmap_table(0);
	unmap_table(1);
}

static void leaves_rcu_twice(void *arg)
{
	(void)arg;
	uhmm__rcu_read_lock();
	uhmm__rcu_read_unlock();
	uhmm__rcu_read_unlock();
}

START_TEST(pte_maps)
{
	way = _i;
	run(unmaps_twice);
	reported("unbalanced PTE unmap: no such table is mapped", "unmap_table()", "no locks held");
	run(unmaps_another);
	reported("unbalanced PTE unmap: no such table is mapped", "1 lock held", " #0: PTE_MAP 0x");
	run(unmaps_in_the_wrong_order);
	reported("unbalanced PTE unmap: not the table mapped last", "2 locks held",
		 " #0: PTE_MAP 0x", " #1: PTE_MAP 0x");
	run(leaves_rcu_twice);
	reported("bad unlock balance: RCU 0x", "leaves_rcu_twice()");
}
END_TEST

/* ---- many locks, and what the list shows of them ---- */

/* A batch of folios, released in the order in which they were taken, and in none. */
static void many_folios(void *arg)
{
	enum { N = 1000 };
	static _Atomic uint32_t batch[N];

	(void)arg;
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < N; i++)
			ck_assert(uhmm__bit_trylock(&batch[i], BIT_LOCK));
		if (round == 2)
			uhmm__rwsem_assert_held(&mmap_lock);
		for (unsigned int i = 0; i < N; i++)
			uhmm__bit_unlock(&b.m, &batch[i * (round == 1 ? 7 : 1) % N], BIT_LOCK,
					 BIT_WAITERS);
		uhmm__assert_no_locks();
	}
}

START_TEST(many_locks)
{
	way = _i;
	run(many_folios);
	reported("lock not held: MMAP 0x", "1000 locks held by test/", " #0: FOLIO 0x",
		 " and 999 more, in many_folios() at sched/");
}
END_TEST

/* An RCU callback runs in whatever task comes by: its locks do not depend on that task's. */
static void callback_locks(struct uhmm__rcu_head *head)
{
	(void)head;
	uhmm_spin_lock(spin);
	uhmm_spin_unlock(spin);
}

static void mirror_over_barrier(void *arg)
{
	struct uhmm__rcu_head head;

	(void)arg;
	uhmm__mutex_lock(&mirror);
	uhmm__call_rcu(&b.m, &head, callback_locks);
	uhmm__rcu_barrier(&b.m);
	uhmm__mutex_unlock(&mirror);
}

START_TEST(callbacks)
{
	const uint64_t *before;

	way = _i;
	run(mirror_over_barrier);
	nothing_reported();
	before = b.m.sync->lock_graph->before[UHMM__NODE(UHMM__NR_LOCK_CLASSES + 4, 0)];
	for (unsigned int i = 0; i < LOCK_WORDS; i++)
		ck_assert_uint_eq(before[i], 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lock checker");
	TCase *tc = tcase_create("bare locks");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, abba, 0, NR_WAYS);
	tcase_add_loop_test(tc, cycle_of_three, 0, NR_WAYS);
	tcase_add_loop_test(tc, trylocks, 0, NR_WAYS);
	tcase_add_loop_test(tc, readers, 0, NR_WAYS);
	tcase_add_loop_test(tc, declared_order, 0, NR_WAYS);
	tcase_add_loop_test(tc, drivers_lock_in_the_declared_order, 0, NR_WAYS);
	tcase_add_loop_test(tc, folios, 0, NR_WAYS);
	tcase_add_loop_test(tc, three_folios, 0, NR_WAYS);
	tcase_add_loop_test(tc, wait_for_a_folio, 0, NR_WAYS);
	tcase_add_loop_test(tc, read_recursion, 0, NR_WAYS);
	tcase_add_test(tc, read_recursion_with_a_writer);
	tcase_add_test(tc, recursion);
	tcase_add_loop_test(tc, two_of_a_class, 0, NR_WAYS);
	tcase_add_loop_test(tc, sleeping, 0, NR_WAYS);
	tcase_add_loop_test(tc, not_held, 0, NR_WAYS);
	tcase_add_loop_test(tc, wrong_owner, 0, NR_WAYS);
	tcase_add_loop_test(tc, needed, 0, NR_WAYS);
	tcase_add_loop_test(tc, back_to_user_mode, 0, NR_WAYS);
	tcase_add_loop_test(tc, pte_maps, 0, NR_WAYS);
	tcase_add_loop_test(tc, many_locks, 0, NR_WAYS);
	tcase_add_loop_test(tc, callbacks, 0, NR_WAYS);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
