// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Huge pages, by the kernel's names: anon_write_huge, anon_write_child, compound,
 * migrate_anon_huge_empty, _zero, _free, _fault, _err and _zero_err, migrate_partial_unmap_fault,
 * migrate_remap_fault, benchmark_thp_migration; and migrate_on_fault of the posted series.
 *
 * The kernel's `compound` has a hugetlb page; here it is a transparent one, which a walk sees the
 * same.
 */
#define _GNU_SOURCE
#include "selftest/selftest.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* 2 MiB in a mapping of twice that. */
static void buffer_huge(struct buffer *b, int prot)
{
	buffer_aligned(b, 2 * HUGE_BYTES, HUGE_BYTES, prot);
	expect_eq(uhmm_madvise(w.f.mm, b->addr, b->bytes, MADV_HUGEPAGE), 0);
}

/* Another mapping in its place, without a page. */
static void buffer_anew(struct buffer *b, int prot)
{
	buffer_free(b);
	buffer_huge(b, prot);
}

static void to_device_and_expect(struct buffer *b, struct series s)
{
	memset(b->mirror, 0xff, b->bytes);
	to_device(b);
	mirror_expect_all(b, s);
}

static void expect_snapshot(struct buffer *b, uint8_t prot)
{
	const uint8_t *seen = b->mirror;

	op_all(w.one, UHMM_MIRROR_SNAPSHOT, b);
	for (uint64_t i = 0; i < b->npages; i++)
		expect_eq(seen[i], prot);
}

/* The device's next allocation, or that of a page in RAM to come home to. */
static void fail_next_allocation(struct buffer *b)
{
	expect_eq(op(w.one, UHMM_MIRROR_FLAGS, b, UHMM_MIRROR_FLAG_FAIL_ALLOC), 0);
}

START_TEST(anon_write_huge)
{
	struct buffer b;

	buffer_huge(&b, RW);
	mirror_put(&b, UP);
	op_all_by_a_fault(w.one, UHMM_MIRROR_WRITE, &b);
	cpu_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

START_TEST(anon_write_child_in_ram)
{
	anon_write_child(true, false);
}
END_TEST

START_TEST(anon_write_child_on_device)
{
	anon_write_child(true, true);
}
END_TEST

/* One large entry, writable and then not. */
START_TEST(compound)
{
	struct buffer b;

	buffer_huge(&b, RW);
	cpu_put_all(&b, UP);
	expect_snapshot(&b, UHMM_PROT_WRITE | UHMM_PROT_PMD);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, PROT_READ), 0);
	expect_snapshot(&b, UHMM_PROT_READ | UHMM_PROT_PMD);
	buffer_free(&b);
}
END_TEST

START_TEST(migrate_anon_huge_empty)
{
	struct buffer b;

	buffer_huge(&b, PROT_READ);
	to_device_and_expect(&b, ZEROES);
	buffer_free(&b);
}
END_TEST

START_TEST(migrate_anon_huge_zero)
{
	struct buffer b;

	buffer_huge(&b, PROT_READ);
	cpu_expect(w.f.mm, &b, 0, PAGE, ZEROES);
	to_device_and_expect(&b, ZEROES);
	cpu_expect_all(&b, ZEROES);
	buffer_free(&b);
}
END_TEST

START_TEST(migrate_anon_huge_free)
{
	struct buffer b;

	buffer_huge(&b, RW);
	cpu_put_all(&b, UP);
	to_device_and_expect(&b, UP);
	expect_eq(uhmm_madvise(w.f.mm, b.addr, b.bytes, MADV_FREE), 0);
	buffer_free(&b);
}
END_TEST

/* Base pages are made one huge page, which is one on the device as well. */
START_TEST(migrate_anon_huge_fault)
{
	struct buffer b;

	buffer_aligned(&b, 2 * HUGE_BYTES, HUGE_BYTES, RW);
	cpu_put_all(&b, UP);
	expect_eq(uhmm_madvise(w.f.mm, b.addr, b.bytes, MADV_COLLAPSE), 0);
	to_device_and_expect(&b, UP);
	if (!w.coherent) {
		expect_snapshot(&b, UHMM_PROT_DEV_PRIVATE_LOCAL | UHMM_PROT_WRITE | UHMM_PROT_PMD);
		for (uint64_t i = 0; i < b.npages; i++) {
			uint64_t entry = pagemap_of(w.f.mm, b.addr + i * PAGE);

			expect(entry & UHMM_PM_SWAP);
			expect(!(entry & UHMM_PM_PRESENT));
		}
	}
	cpu_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

/* The device has no huge page: it gets small ones. Then there is none to come home to. */
START_TEST(migrate_anon_huge_err)
{
	struct buffer b;

	buffer_huge(&b, RW);
	cpu_put_all(&b, UP);
	fail_next_allocation(&b);
	to_device_and_expect(&b, UP);
	cpu_expect(w.f.mm, &b, 2 * PAGE, 3 * PAGE, UP);

	buffer_anew(&b, RW);
	cpu_put_all(&b, UP);
	to_device(&b);
	fail_next_allocation(&b);
	expect_eq(op(w.one, UHMM_MIRROR_MIGRATE_TO_SYS, &b, b.npages), 0);
	cpu_expect(w.f.mm, &b, 2 * PAGE, 3 * PAGE, UP);
	buffer_free(&b);
}
END_TEST

/* The same for what is empty, and for the huge zero page. */
START_TEST(migrate_anon_huge_zero_err)
{
	struct buffer b;

	buffer_huge(&b, PROT_READ);
	fail_next_allocation(&b);
	to_device_and_expect(&b, ZEROES);
	cpu_expect(w.f.mm, &b, 2 * PAGE, 3 * PAGE, ZEROES);

	buffer_anew(&b, PROT_READ);
	cpu_expect(w.f.mm, &b, 0, PAGE, ZEROES);
	fail_next_allocation(&b);
	to_device(&b);
	cpu_expect_all(&b, ZEROES);
	buffer_free(&b);
}
END_TEST

/* The posted series' walker moves it whole, too, and again what has come home. */
START_TEST(migrate_on_fault_huge)
{
	struct buffer b;

	buffer_huge(&b, RW);
	cpu_put_all(&b, UP);
	op_all(w.one, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, &b);
	mirror_expect_all(&b, UP);
	if (!w.coherent)
		expect_snapshot(&b, UHMM_PROT_DEV_PRIVATE_LOCAL | UHMM_PROT_WRITE | UHMM_PROT_PMD);
	cpu_expect(w.f.mm, &b, 0, b.bytes / 2, UP);
	memset(b.mirror, 0xff, b.bytes);
	op_all(w.one, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, &b);
	mirror_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

START_TEST(migrate_partial_unmap_fault_huge)
{
	migrate_partial_unmap_fault(true);
}
END_TEST

START_TEST(migrate_remap_fault_huge)
{
	migrate_remap_fault(true);
}
END_TEST

/* ---- there and back, timed ---- */

enum { ROUNDS = 5 };

static double timed(enum uhmm_mirror_op what, struct buffer *b)
{
	double start = now_seconds();

	expect_eq(op(w.one, what, b, b->npages), 0);
	return now_seconds() - start;
}

/* Home come all pages, in the driver's count: a huge one is one. */
static void expect_moved(const struct buffer *b, bool huge)
{
	if (!w.coherent)
		expect_eq(b->cpages, huge ? b->bytes / HUGE_BYTES : b->npages);
}

static void benchmark(uint64_t bytes, bool huge)
{
	double to_dev = 0, to_sys = 0;
	struct buffer b;

	buffer_map(&b, bytes + HUGE_BYTES, bytes, RW, ANON, NULL);
	b.addr = (b.map + HUGE_BYTES - 1) & UHMM_PMD_MASK;
	expect_eq(uhmm_madvise(w.f.mm, b.addr, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), 0);
	expect_eq(uhmm_cpu_write(w.f.mm, b.addr, b.mirror, bytes, NULL), 0);
	for (int i = 0; i <= ROUNDS; i++) {
		double dev = timed(UHMM_MIRROR_MIGRATE_TO_DEV, &b);
		double sys = timed(UHMM_MIRROR_MIGRATE_TO_SYS, &b);

		expect_moved(&b, huge && bytes >= HUGE_BYTES);
		if (i) { /* the first is to warm up */
			to_dev += dev / ROUNDS;
			to_sys += sys / ROUNDS;
		}
	}
	printf("%9llu KiB, %s pages: %8.3f ms there, %8.3f ms back\n",
	       (unsigned long long)bytes >> 10, huge ? "huge" : "base", to_dev * 1e3, to_sys * 1e3);
	buffer_free(&b);
}

/*
 * In a machine whose pages have tags, for the model's own work counts and not memcpy(3). The kernel's
 * goes to 256 MiB.
 */
START_TEST(benchmark_thp_migration)
{
	static const uint64_t quarters[] = { 1, 2, 4, 8, 16, 32, 128 };
	const bool coherent = w.coherent;

	world_destroy();
	world_create(coherent, false, UHMM_CONTENT_TAG);
	for (size_t i = 0; i < sizeof(quarters) / sizeof(quarters[0]); i++) {
		benchmark(quarters[i] * HUGE_BYTES / 4, true);
		benchmark(quarters[i] * HUGE_BYTES / 4, false);
	}
	fflush(stdout);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, anon_write_huge);
	tcase_add_test(tc, anon_write_child_in_ram);
	tcase_add_test(tc, anon_write_child_on_device);
	tcase_add_test(tc, compound);
	tcase_add_test(tc, migrate_anon_huge_empty);
	tcase_add_test(tc, migrate_anon_huge_zero);
	tcase_add_test(tc, migrate_anon_huge_free);
	tcase_add_test(tc, migrate_anon_huge_fault);
	tcase_add_test(tc, migrate_anon_huge_err);
	tcase_add_test(tc, migrate_anon_huge_zero_err);
	tcase_add_test(tc, migrate_on_fault_huge);
	tcase_add_test(tc, migrate_partial_unmap_fault_huge);
	tcase_add_test(tc, migrate_remap_fault_huge);
	tcase_add_test(tc, benchmark_thp_migration);
}

int main(void)
{
	return run_scenarios("huge", add, NULL);
}
