// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages that are a device's alone: exclusive, exclusive_mprotect, exclusive_cow. */
#include "selftest/selftest.h"

#include <pthread.h>

#define NEXT ((struct series){ .step = 1, .first = 1 })

static void buffer_exclusive(struct buffer *b)
{
	buffer_anon(b, BUFFER_BYTES, RW);
	cpu_put_all(b, UP);
	op_all(w.one, UHMM_MIRROR_EXCLUSIVE, b);
	mirror_expect_all(b, UP);
}

/* The CPU takes all of it back. */
START_TEST(exclusive)
{
	struct buffer b;

	buffer_exclusive(&b);
	expect_eq(cpu_increment(w.f.mm, &b, UP), 0);
	cpu_expect_all(&b, NEXT);
	expect_eq(op(w.one, UHMM_MIRROR_CHECK_EXCLUSIVE, &b, b.npages), 0);
	buffer_free(&b);
}
END_TEST

/* Protection ends the device's right. */
START_TEST(exclusive_mprotect)
{
	struct buffer b;

	buffer_exclusive(&b);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, PROT_READ), 0);
	expect_eq(op(w.one, UHMM_MIRROR_WRITE, &b, b.npages), -EPERM);
	buffer_free(&b);
}
END_TEST

struct incrementer {
	struct child child;
	const struct buffer *b;
	uint64_t wrong;
};

static void *increment_in_child(void *data)
{
	struct incrementer *i = data;

	uhmm_task_enter(i->child.task);
	i->wrong = cpu_increment(i->child.mm, i->b, UP);
	uhmm_task_leave();
	return NULL;
}

/* Parent and child write to what was the device's, at the same time, and each has its own. */
START_TEST(exclusive_cow)
{
	struct incrementer i = { 0 };
	pthread_t thread;
	struct buffer b;

	buffer_exclusive(&b);
	i.b = &b;
	child_fork(&i.child);
	expect_eq(pthread_create(&thread, NULL, increment_in_child, &i), 0);
	expect_eq(cpu_increment(w.f.mm, &b, UP), 0);
	pthread_join(thread, NULL);
	expect_eq(i.wrong, 0);
	cpu_expect_all(&b, NEXT);
	cpu_expect(i.child.mm, &b, 0, b.bytes, NEXT);
	child_exit(&i.child);
	buffer_free(&b);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, exclusive);
	tcase_add_test(tc, exclusive_mprotect);
	tcase_add_test(tc, exclusive_cow);
}

int main(void)
{
	return run_scenarios("exclusive", add, NULL);
}
