// SPDX-License-Identifier: LGPL-2.1-or-later
/* The lock checker: what a task may do with what it has. Sleeping, releasing, returning to user mode. */
#include "sched/lock_check.h"

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
	uhmm__assert_no_locks(); /* said already */
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
	reported("locks held on return to user mode\n", "test/", "1 lock held by test/",
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
	Suite *suite = suite_create("lock checker: context");
	TCase *tc = tcase_create("bare locks");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, sleeping, 0, NR_WAYS);
	tcase_add_loop_test(tc, not_held, 0, NR_WAYS);
	tcase_add_loop_test(tc, wrong_owner, 0, NR_WAYS);
	tcase_add_loop_test(tc, needed, 0, NR_WAYS);
	tcase_add_loop_test(tc, back_to_user_mode, 0, NR_WAYS);
	tcase_add_loop_test(tc, pte_maps, 0, NR_WAYS);
	tcase_add_loop_test(tc, many_locks, 0, NR_WAYS);
	tcase_add_loop_test(tc, callbacks, 0, NR_WAYS);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
