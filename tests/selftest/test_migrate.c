// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Memory goes to a device and comes back, by the kernel's names: migrate, migrate_fault,
 * migrate_release, migrate_mixed, migrate_multiple, hmm_gup_test, hmm_cow_in_device,
 * migrate_partial_unmap_fault, migrate_remap_fault; and migrate_on_fault of the posted series.
 */
#include "selftest/selftest.h"

enum { TIMES = 10 };

START_TEST(migrate)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	cpu_put_all(&b, UP);
	to_device(&b);
	mirror_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

/* Half of it comes home by faults, if the CPU needs any, and goes there again. */
static void migrate_and_back_and_again(enum uhmm_mirror_op what)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	cpu_put_all(&b, UP);
	op_all(w.one, what, &b);
	mirror_expect_all(&b, UP);
	cpu_expect(w.f.mm, &b, 0, b.bytes / 2, UP);
	memset(b.mirror, 0xff, b.bytes);
	op_all(w.one, what, &b);
	mirror_expect_all(&b, UP);
	buffer_free(&b);
}

START_TEST(migrate_fault)
{
	migrate_and_back_and_again(UHMM_MIRROR_MIGRATE_TO_DEV);
}
END_TEST

START_TEST(migrate_on_fault)
{
	migrate_and_back_and_again(UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV);
}
END_TEST

/* With nothing there it faults in first. */
START_TEST(migrate_on_fault_empty)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	op_all(w.one, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, &b);
	mirror_expect_all(&b, ZEROES);
	cpu_expect_all(&b, ZEROES);
	buffer_free(&b);
}
END_TEST

/* The device gives up its memory. */
START_TEST(migrate_release)
{
	struct buffer b;

	buffer_anon(&b, BUFFER_BYTES, RW);
	cpu_put_all(&b, UP);
	to_device(&b);
	mirror_expect_all(&b, UP);
	expect_eq(op(w.one, UHMM_MIRROR_RELEASE, &b, b.npages), 0);
	cpu_expect(w.f.mm, &b, 0, b.bytes / 2, UP);
	buffer_free(&b);
}
END_TEST

/* Coherent memory does not come home by faults: it is sent. */
START_TEST(migrate_multiple)
{
	for (int i = 0; i < TIMES; i++) {
		struct buffer b;

		buffer_anon(&b, BUFFER_BYTES, RW);
		cpu_put_all(&b, UP);
		to_device(&b);
		mirror_expect_all(&b, UP);
		if (w.coherent)
			op_all(w.one, UHMM_MIRROR_MIGRATE_TO_SYS, &b);
		cpu_expect_all(&b, UP);
		buffer_free(&b);
	}
}
END_TEST

/* ---- two devices ---- */

static void protect(const struct buffer *b, uint64_t page, uint64_t npages, int prot)
{
	expect_eq(uhmm_mprotect(w.f.mm, b->addr + page * PAGE, npages * PAGE, prot), 0);
}

/* A protected page, a hole, a zero page, one that is read-only, two that are not. */
START_TEST(migrate_mixed)
{
	const struct series three = { .first = 3 };
	struct buffer b;
	uhmm_vaddr_t start;

	buffer_anon(&b, 6 * PAGE, PROT_NONE);
	start = b.addr;
	expect_eq(op(w.two, UHMM_MIRROR_MIGRATE_TO_DEV, &b, 6), -EINVAL);
	expect_eq(uhmm_munmap(w.f.mm, start + PAGE, PAGE), 0);
	expect_eq(op(w.two, UHMM_MIRROR_MIGRATE_TO_DEV, &b, 3), -EINVAL);

	protect(&b, 2, 1, PROT_READ);
	cpu_expect(w.f.mm, &b, 2 * PAGE, 3 * PAGE, ZEROES);
	protect(&b, 3, 1, RW);
	cpu_put(w.f.mm, &b, 3 * PAGE, 4 * PAGE, three);
	protect(&b, 3, 1, PROT_READ);
	protect(&b, 4, 2, RW);
	cpu_put(w.f.mm, &b, 4 * PAGE, 6 * PAGE, three);

	b.addr = start + 2 * PAGE;
	expect_eq(op(w.two, UHMM_MIRROR_MIGRATE_TO_DEV, &b, 4), 0);
	expect_eq(b.cpages, 4);
	/* It is the other device's. */
	b.addr = start + 5 * PAGE;
	expect_eq(op(w.one, UHMM_MIRROR_MIGRATE_TO_DEV, &b, 1), -ENOENT);
	b.addr = start;
	buffer_free(&b);
}
END_TEST

/* ---- pins and copies ---- */

/* The n-th page is had and given back: referenced or pinned for long, the slow way or the fast. */
static void have_page(const struct buffer *b, unsigned int n)
{
	const uhmm_vaddr_t addr = b->addr + n * PAGE;
	const unsigned int longterm = UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM;
	int64_t got = 0;
	uhmm_pfn_t pfn;

	if (n == 0)
		got = uhmm_get_user_pages(w.f.mm, addr, 1, UHMM_FOLL_WRITE, &pfn);
	else if (n == 1)
		got = uhmm_get_user_pages_fast(w.f.mm, addr, 1, UHMM_FOLL_WRITE, &pfn);
	else if (n == 2)
		got = uhmm_pin_user_pages_fast(w.f.mm, addr, 1, longterm, &pfn);
	else
		got = uhmm_pin_user_pages(w.f.mm, addr, 1, longterm, &pfn);
	expect_eq(got, 1);
	if (n < 2)
		uhmm_put_user_pages(w.f.m, &pfn, 1);
	else
		uhmm_unpin_user_pages(w.f.m, &pfn, 1);
}

/* Nobody can have a private page where it is; a coherent one stays but for a long pin. */
START_TEST(hmm_gup_test)
{
	uint8_t *seen;
	struct buffer b;

	buffer_anon(&b, 4 * PAGE, RW);
	cpu_put_all(&b, UP);
	to_device(&b);
	mirror_expect_all(&b, UP);
	for (unsigned int i = 0; i < 4; i++)
		have_page(&b, i);
	op_all(w.one, UHMM_MIRROR_SNAPSHOT, &b);
	seen = b.mirror;
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(seen[i],
			  UHMM_PROT_WRITE |
				  (w.coherent && i < 2 ? UHMM_PROT_DEV_COHERENT_LOCAL : 0));
	cpu_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

/* A page of the device that a child shares: whoever writes gets a copy in RAM. */
START_TEST(hmm_cow_in_device)
{
	struct child child;
	uint8_t *seen;
	struct buffer b;

	buffer_anon(&b, 4 * PAGE, RW);
	cpu_put_all(&b, UP);
	to_device(&b);
	child_fork(&child);
	cpu_put_all(&b, DOWN);
	cpu_expect(child.mm, &b, 0, b.bytes, UP);
	child_exit(&child);
	op_all(w.one, UHMM_MIRROR_SNAPSHOT, &b);
	seen = b.mirror;
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(seen[i], UHMM_PROT_WRITE);
	buffer_free(&b);
}
END_TEST

/* ---- mappings that change ---- */

START_TEST(migrate_partial_unmap_fault_base)
{
	migrate_partial_unmap_fault(false);
}
END_TEST

START_TEST(migrate_remap_fault_base)
{
	migrate_remap_fault(false);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, migrate);
	tcase_add_test(tc, migrate_fault);
	tcase_add_test(tc, migrate_on_fault);
	tcase_add_test(tc, migrate_on_fault_empty);
	tcase_add_test(tc, migrate_release);
	tcase_add_test(tc, migrate_multiple);
	tcase_add_test(tc, hmm_gup_test);
	tcase_add_test(tc, hmm_cow_in_device);
	tcase_add_test(tc, migrate_partial_unmap_fault_base);
	tcase_add_test(tc, migrate_remap_fault_base);
}

static void add_two(TCase *tc)
{
	tcase_add_test(tc, migrate_mixed);
}

int main(void)
{
	return run_scenarios("migrate", add, add_two);
}
