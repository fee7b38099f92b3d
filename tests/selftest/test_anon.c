// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A device reads and writes anonymous memory, by the kernel's names: open_close, anon_read,
 * anon_read_prot, anon_write, anon_write_prot, anon_write_child, anon_read_multiple, anon_teardown,
 * userfaultfd_read.
 */
#include "selftest/selftest.h"

#include <pthread.h>

enum { TIMES = 10 };

START_TEST(open_close)
{
}
END_TEST

/* An empty entry, a zero page, written pages. */
START_TEST(anon_read)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	cpu_put(w.f.mm, &b, 2 * PAGE, b.bytes, UP);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, PROT_READ), 0);
	cpu_expect(w.f.mm, &b, PAGE, 2 * PAGE, ZEROES);
	op_all_by_a_fault(w.one, UHMM_MIRROR_READ, &b);
	mirror_expect(&b, 0, 2 * PAGE, ZEROES);
	mirror_expect(&b, 2 * PAGE, b.bytes, UP);
	buffer_free(&b);
}
END_TEST

/* What the process may not read the device may not, and it reads nothing. */
START_TEST(anon_read_prot)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	cpu_put_all(&b, UP);
	mirror_put(&b, DOWN);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, PROT_NONE), 0);
	expect_eq(op(w.one, UHMM_MIRROR_READ, &b, b.npages), -EFAULT);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, PROT_READ), 0);
	cpu_expect_all(&b, UP);
	mirror_expect_all(&b, DOWN);
	buffer_free(&b);
}
END_TEST

START_TEST(anon_write)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	mirror_put(&b, UP);
	op_all_by_a_fault(w.one, UHMM_MIRROR_WRITE, &b);
	cpu_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

/* A zero page that the device has seen is replaced once it may be written. */
START_TEST(anon_write_prot)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, PROT_READ);
	expect_eq(op(w.one, UHMM_MIRROR_READ, &b, 1), 0);
	expect_eq(b.cpages, 1);
	expect_eq(b.faults, 1);
	mirror_put(&b, UP);
	expect_eq(op(w.one, UHMM_MIRROR_WRITE, &b, b.npages), -EPERM);
	cpu_expect_all(&b, ZEROES);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, RW), 0);
	op_all_by_a_fault(w.one, UHMM_MIRROR_WRITE, &b);
	cpu_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

START_TEST(anon_write_child_in_ram)
{
	anon_write_child(false, false);
}
END_TEST

START_TEST(anon_write_child_on_device)
{
	anon_write_child(false, true);
}
END_TEST

START_TEST(anon_read_multiple)
{
	for (int i = 0; i < TIMES; i++) {
		const struct series s = { .step = 1, .first = i };
		struct buffer b;

		buffer_anon(&b, BUFFER_BYTES, RW);
		cpu_put_all(&b, s);
		op_all_by_a_fault(w.one, UHMM_MIRROR_READ, &b);
		mirror_expect_all(&b, s);
		buffer_free(&b);
	}
}
END_TEST

/* ---- unmapping while a device reads ---- */

struct unmapper {
	struct uhmm_task *task;
	const struct buffer *b;
	uint64_t turns; /* of waiting first */
	int err;
};

static void *unmap_half(void *data)
{
	struct unmapper *u = data;

	uhmm_task_enter(u->task);
	for (volatile uint64_t i = 0; i < u->turns; i++)
		;
	u->err = uhmm_munmap(w.f.mm, u->b->addr + u->b->bytes / 2, u->b->bytes / 2);
	uhmm_task_leave();
	return NULL;
}

/* The device has everything, as it was, or an error. */
START_TEST(anon_teardown)
{
	struct rng rng = { test_seed("anon_teardown") };

	for (int i = 0; i < TIMES; i++) {
		const struct series s = { .step = 1, .first = i };
		struct unmapper u = { .turns = rng_below(&rng, 100000) };
		pthread_t thread;
		struct buffer b;
		int err;

		buffer_anon(&b, BUFFER_BYTES, RW);
		cpu_put_all(&b, s);
		u.b = &b;
		expect_eq(uhmm_task_create(w.f.m, w.f.mm, 1, "unmap", &u.task), 0);
		expect_eq(pthread_create(&thread, NULL, unmap_half, &u), 0);
		err = op(w.one, UHMM_MIRROR_READ, &b, b.npages);
		pthread_join(thread, NULL);
		uhmm_task_destroy(u.task);
		expect_eq(u.err, 0);
		if (err) {
			expect_eq(err, -EFAULT);
		} else {
			expect_eq(b.cpages, b.npages);
			expect_eq(b.faults, 1);
			mirror_expect_all(&b, s);
		}
		buffer_free(&b);
	}
}
END_TEST

/* ---- userfaultfd ---- */

enum { FILLER = 0xab };

static bool fill(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	unsigned int *calls = data;
	uint8_t page[PAGE];

	expect_eq(reason, UHMM_UFFD_MISSING);
	++*calls;
	memset(page, FILLER, PAGE);
	return !uhmm_uffd_copy(mm, addr, page, false);
}

/* The walk drops mmap_lock for the handler, and goes on with what that put there. */
START_TEST(userfaultfd_read)
{
	unsigned int calls = 0;
	struct buffer b;

	buffer_anon(&b, 4 * PAGE, RW);
	expect_eq(uhmm_uffd_register(w.f.mm, b.addr, b.bytes, UHMM_UFFD_MISSING), 0);
	uhmm_uffd_set_handler(w.f.mm, fill, &calls);
	op_all(w.one, UHMM_MIRROR_READ_UNLOCKED, &b);
	for (uint64_t i = 0; i < b.bytes; i++)
		expect_eq(((uint8_t *)b.mirror)[i], FILLER);
	expect_eq(calls, b.npages);
	uhmm_uffd_set_handler(w.f.mm, NULL, NULL);
	buffer_free(&b);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, open_close);
	tcase_add_test(tc, anon_read);
	tcase_add_test(tc, anon_read_prot);
	tcase_add_test(tc, anon_write);
	tcase_add_test(tc, anon_write_prot);
	tcase_add_test(tc, anon_write_child_in_ram);
	tcase_add_test(tc, anon_write_child_on_device);
	tcase_add_test(tc, anon_read_multiple);
	tcase_add_test(tc, anon_teardown);
	tcase_add_test(tc, userfaultfd_read);
}

int main(void)
{
	return run_scenarios("anon", add, NULL);
}
