// SPDX-License-Identifier: LGPL-2.1-or-later
/* The locks of drivers: they exclude, and tasks that hold them keep others waiting. */
#include <pthread.h>
#include <stdlib.h>

#include <uhmm/lock.h>

#include "bare_machine.h"

static struct bare_machine b;
static struct uhmm_mutex *mutex;
static struct uhmm_rwsem *sem;
static struct uhmm_spinlock *spin;

static void setup(void)
{
	bare_init(&b, 2);
	ck_assert_int_eq(uhmm_mutex_create(&b.m, "mutex", &mutex), 0);
	ck_assert_int_eq(uhmm_rwsem_create(&b.m, "sem", &sem), 0);
	ck_assert_int_eq(uhmm_spin_create(&b.m, "spin", &spin), 0);
}

static void teardown(void)
{
	uhmm_mutex_destroy(mutex);
	uhmm_rwsem_destroy(sem);
	uhmm_spin_destroy(spin);
	bare_exit(&b);
	ck_assert_msg(b.nr_reports == 0, "report: %s", b.last_report);
}

/* ---- what another task can have ---- */

struct other {
	bool mutex, read, write, spin;
};

static void *look(void *arg)
{
	struct uhmm_task *t = bare_enter(&b, 1);
	struct other *o = arg;

	o->mutex = uhmm_mutex_trylock(mutex);
	if (o->mutex)
		uhmm_mutex_unlock(mutex);
	o->read = uhmm_down_read_trylock(sem);
	if (o->read)
		uhmm_up_read(sem);
	o->write = uhmm_down_write_trylock(sem);
	if (o->write)
		uhmm_up_write(sem);
	o->spin = uhmm_spin_trylock(spin);
	if (o->spin)
		uhmm_spin_unlock(spin);
	bare_leave(t);
	return NULL;
}

static struct other other(void)
{
	struct other o;
	pthread_t id;

	ck_assert_int_eq(pthread_create(&id, NULL, look, &o), 0);
	ck_assert_int_eq(pthread_join(id, NULL), 0);
	return o;
}

START_TEST(exclude)
{
	struct uhmm_task *t = bare_enter(&b, 0);

	ck_assert(other().mutex && other().read && other().write && other().spin);
	uhmm_mutex_lock(mutex);
	ck_assert(!other().mutex);
	uhmm_mutex_unlock(mutex);
	uhmm_down_read(sem);
	ck_assert(other().read && !other().write);
	uhmm_up_read(sem);
	uhmm_down_write(sem);
	ck_assert(!other().read && !other().write);
	uhmm_downgrade_write(sem);
	ck_assert(other().read && !other().write);
	uhmm_up_read(sem);
	uhmm_spin_lock(spin);
	ck_assert(!other().spin);
	uhmm_spin_unlock(spin);
	ck_assert(other().mutex && other().read && other().write && other().spin);
	uhmm_might_sleep();
	bare_leave(t);
}
END_TEST

/* ---- waiting ---- */

enum { THREADS = 4, ROUNDS = 2000 };

static unsigned int counters[3];

static void *count(void *arg)
{
	struct uhmm_task *t = bare_enter(&b, 1);

	(void)arg;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		uhmm_mutex_lock(mutex);
		counters[0]++;
		uhmm_mutex_unlock(mutex);
		uhmm_down_write(sem);
		counters[1]++;
		uhmm_up_write(sem);
		uhmm_down_read(sem);
		ck_assert_uint_gt(counters[1], 0);
		uhmm_up_read(sem);
		uhmm_spin_lock(spin);
		counters[2]++;
		uhmm_spin_unlock(spin);
	}
	bare_leave(t);
	return NULL;
}

START_TEST(wait)
{
	pthread_t id[THREADS];

	for (unsigned int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&id[i], NULL, count, NULL), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(id[i], NULL), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(counters); i++)
		ck_assert_uint_eq(counters[i], THREADS * ROUNDS);
}
END_TEST

/* Two of a class, the inner one taken as nested; subclasses above the last are the last. */
START_TEST(nested)
{
	struct uhmm_task *t = bare_enter(&b, 0);
	struct uhmm_mutex *inner;
	struct uhmm_spinlock *inner_spin;
	struct uhmm_rwsem *inner_sem;

	ck_assert_int_eq(uhmm_mutex_create(&b.m, "mutex", &inner), 0);
	ck_assert_int_eq(uhmm_rwsem_create(&b.m, "sem", &inner_sem), 0);
	ck_assert_int_eq(uhmm_spin_create(&b.m, "spin", &inner_spin), 0);
	uhmm_mutex_lock(mutex);
	uhmm_mutex_lock_nested(inner, 7);
	uhmm_down_write(sem);
	uhmm_down_read_nested(inner_sem, UHMM_SINGLE_DEPTH_NESTING);
	uhmm_up_read(inner_sem);
	uhmm_down_write_nested(inner_sem, UHMM_SINGLE_DEPTH_NESTING);
	uhmm_spin_lock(spin);
	uhmm_spin_lock_nested(inner_spin, UHMM_SINGLE_DEPTH_NESTING);
	uhmm_spin_unlock(inner_spin);
	uhmm_spin_unlock(spin);
	uhmm_up_write(inner_sem);
	uhmm_up_write(sem);
	uhmm_mutex_unlock(inner);
	uhmm_mutex_unlock(mutex);
	uhmm_mutex_destroy(inner);
	uhmm_rwsem_destroy(inner_sem);
	uhmm_spin_destroy(inner_spin);
	bare_leave(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("locks of drivers");
	TCase *tc = tcase_create("locks of drivers");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, exclude);
	tcase_add_test(tc, wait);
	tcase_add_test(tc, nested);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
