// SPDX-License-Identifier: LGPL-2.1-or-later
/* The errnos of <uhmm/lock.h>. */
#include "errors/errors.h"

#define UNTOUCHED ((void *)0x5a5a)
#define TOO_LONG "23 bytes, and no more..."

static struct uhmm_mutex *mutex = UNTOUCHED;
static struct uhmm_rwsem *rwsem = UNTOUCHED;
static struct uhmm_spinlock *spin = UNTOUCHED;

static void untouched(void)
{
	expect(mutex == UNTOUCHED && rwsem == UNTOUCHED && spin == UNTOUCHED);
}

START_TEST(lock_create_einval)
{
	static const char *const bad[] = { NULL, "", TOO_LONG };
	struct uhmm_mutex *l;

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		expect_eq(uhmm_mutex_create(f.m, bad[i], &mutex), -EINVAL);
		expect_eq(uhmm_rwsem_create(f.m, bad[i], &rwsem), -EINVAL);
		expect_eq(uhmm_spin_create(f.m, bad[i], &spin), -EINVAL);
	}
	/* Of one class, but not of one kind. */
	expect_eq(uhmm_mutex_create(f.m, &TOO_LONG[1], &l), 0);
	expect_eq(uhmm_rwsem_create(f.m, &TOO_LONG[1], &rwsem), -EINVAL);
	expect_eq(uhmm_spin_create(f.m, &TOO_LONG[1], &spin), -EINVAL);
	uhmm_mutex_destroy(l);
	untouched();
}
END_TEST

START_TEST(lock_create_enospc)
{
	struct uhmm_mutex *l[UHMM_MAX_LOCK_CLASSES], *another;
	char name[16];

	for (unsigned int i = 0; i < UHMM_MAX_LOCK_CLASSES; i++) {
		snprintf(name, sizeof(name), "class %u", i);
		expect_eq(uhmm_mutex_create(f.m, name, &l[i]), 0);
	}
	expect_eq(uhmm_mutex_create(f.m, "one more", &mutex), -ENOSPC);
	expect_eq(uhmm_rwsem_create(f.m, "one more", &rwsem), -ENOSPC);
	expect_eq(uhmm_spin_create(f.m, "one more", &spin), -ENOSPC);
	untouched();
	/* As many locks of a class as one likes. */
	expect_eq(uhmm_mutex_create(f.m, name, &another), 0);
	uhmm_mutex_destroy(another);
	for (unsigned int i = 0; i < UHMM_MAX_LOCK_CLASSES; i++)
		uhmm_mutex_destroy(l[i]);
	uhmm_mutex_destroy(NULL);
	uhmm_rwsem_destroy(NULL);
	uhmm_spin_destroy(NULL);
}
END_TEST

START_TEST(lock_create_enomem)
{
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 3), 0);
	expect_eq(uhmm_mutex_create(f.m, "m", &mutex), -ENOMEM);
	expect_eq(uhmm_rwsem_create(f.m, "r", &rwsem), -ENOMEM);
	expect_eq(uhmm_spin_create(f.m, "s", &spin), -ENOMEM);
	untouched();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("errors of locks");
	TCase *tc = tcase_create("lock.h");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, lock_create_einval);
	tcase_add_test(tc, lock_create_enospc);
	tcase_add_test(tc, lock_create_enomem);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
