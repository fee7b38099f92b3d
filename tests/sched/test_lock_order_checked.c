// SPDX-License-Identifier: LGPL-2.1-or-later
/* The lock checker: what waits for what. Cycles, folios, recursion; and what is right. */
#include "sched/lock_check.h"

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
		 ", in b_then_a() at sched/test_lock_order_checked.c:", "while it holds\n",
		 "    b 0x",
		 ", in b_then_a() at sched/test_lock_order_checked.c:", "The opposite order",
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

/* Too long for a line each: all of it is in the chain, and in the scenario as if by one CPU. */
static struct uhmm_mutex *ring[5];
static unsigned int ring_at;

static void ring_step(void *arg)
{
	struct uhmm_mutex *first = ring[ring_at % ARRAY_SIZE(ring)];
	struct uhmm_mutex *second = ring[++ring_at % ARRAY_SIZE(ring)];

	(void)arg;
	uhmm_mutex_lock(first);
	uhmm_mutex_lock(second);
	uhmm_mutex_unlock(second);
	uhmm_mutex_unlock(first);
}

START_TEST(long_cycle)
{
	static const char *const names[] = { "r0", "r1", "r2", "r3", "r4" };

	way = _i;
	for (unsigned int i = 0; i < ARRAY_SIZE(ring); i++)
		ck_assert_int_eq(uhmm_mutex_create(&b.m, names[i], &ring[i]), 0);
	run(ring_step, ring_step, ring_step, ring_step);
	nothing_reported();
	run(ring_step);
	reported("possible circular", "    r0 0x", "    r4 0x", " -> #3: r3 -> r4: ",
		 " -> #2: r2 -> r3: ", " -> #1: r1 -> r2: ", " -> #0: r0 -> r1: ",
		 "  lock(r4);\n"
		 "                               lock(r0);\n"
		 "                               lock(r4);\n"
		 "  lock(r0);\n");
	for (unsigned int i = 0; i < ARRAY_SIZE(ring); i++)
		uhmm_mutex_destroy(ring[i]);
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

/* That two may nest does not make it two. */
static void read_twice_as_nested(void *arg)
{
	(void)arg;
	uhmm__down_read(&mmap_lock);
	uhmm__down_read_nested(&mmap_lock, UHMM_SINGLE_DEPTH_NESTING);
	uhmm__up_read(&mmap_lock);
	uhmm__up_read(&mmap_lock);
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
	run(read_twice_as_nested);
	reported("possible recursive locking detected\n", "    MMAP/1 0x",
		 "which it holds already:\n", "    MMAP 0x");
	run(two_mmap_locks, two_mmap_locks);
	reported("possible recursive locking detected\n", "    MMAP 0x",
		 "while it holds another of the class:\n", "    MMAP 0x",
		 "take the inner one as nested");
	run(nested_the_wrong_way);
	reported("possible circular", "    MMAP 0x", "    MMAP/1 0x",
		 " -> #0: MMAP -> MMAP/1: test/", "nested_mmap_locks()", "  lock(MMAP/1);\n");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lock checker: order");
	TCase *tc = tcase_create("bare locks");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, abba, 0, NR_WAYS);
	tcase_add_loop_test(tc, cycle_of_three, 0, NR_WAYS);
	tcase_add_loop_test(tc, long_cycle, 0, NR_WAYS);
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
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
