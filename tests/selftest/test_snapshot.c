// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a device sees without faulting, and two devices at once: snapshot, mixedmap, double_map. */
#include "selftest/selftest.h"

static void protect(const struct buffer *b, uint64_t page, uint64_t npages, int prot)
{
	expect_eq(uhmm_mprotect(w.f.mm, b->addr + page * PAGE, npages * PAGE, prot), 0);
}

static void page_to_device(struct buffer *b, struct uhmm_mirror *mirror, uint64_t page)
{
	const uhmm_vaddr_t start = b->addr;

	b->addr = start + page * PAGE;
	expect_eq(op(mirror, UHMM_MIRROR_MIGRATE_TO_DEV, b, 1), 0);
	expect_eq(b->cpages, 1);
	b->addr = start;
}

/* A protected page, a hole, a zero page, one that is read-only, one that is not, one on each device. */
START_TEST(snapshot)
{
	const struct series three = { .first = 3 };
	const uint8_t *seen;
	struct buffer b;

	buffer_anon(&b, 7 * PAGE, PROT_NONE);
	expect_eq(uhmm_munmap(w.f.mm, b.addr + PAGE, PAGE), 0);
	protect(&b, 2, 1, PROT_READ);
	cpu_expect(w.f.mm, &b, 2 * PAGE, 3 * PAGE, ZEROES);
	protect(&b, 3, 1, RW);
	cpu_put(w.f.mm, &b, 3 * PAGE, 4 * PAGE, three);
	protect(&b, 3, 1, PROT_READ);
	protect(&b, 4, 3, RW);
	cpu_put(w.f.mm, &b, 4 * PAGE, 5 * PAGE, three);
	page_to_device(&b, w.one, 5);
	page_to_device(&b, w.two, 6);

	op_all(w.one, UHMM_MIRROR_SNAPSHOT, &b);
	seen = b.mirror;
	expect_eq(seen[0], UHMM_PROT_ERROR);
	expect_eq(seen[1], UHMM_PROT_ERROR);
	expect_eq(seen[2], UHMM_PROT_ZERO | UHMM_PROT_READ);
	expect_eq(seen[3], UHMM_PROT_READ);
	expect_eq(seen[4], UHMM_PROT_WRITE);
	if (w.coherent) {
		expect_eq(seen[5], UHMM_PROT_DEV_COHERENT_LOCAL | UHMM_PROT_WRITE);
		expect_eq(seen[6], UHMM_PROT_DEV_COHERENT_REMOTE | UHMM_PROT_WRITE);
	} else {
		expect_eq(seen[5], UHMM_PROT_DEV_PRIVATE_LOCAL | UHMM_PROT_WRITE);
		expect_eq(seen[6], UHMM_PROT_NONE);
	}
	buffer_free(&b);
}
END_TEST

/* What the kernel's test driver does in mmap(). */
static void driver_mmap(struct buffer *b, uint64_t bytes)
{
	uhmm_pfn_t pfn;

	*b = (struct buffer){ .map_bytes = bytes,
			      .bytes = bytes,
			      .npages = bytes / PAGE,
			      .mirror = calloc(1, bytes) };
	expect(b->mirror);
	expect_eq(uhmm_mmap_special(w.f.mm, 0, bytes, RW, MAP_PRIVATE, UHMM_VM_MIXEDMAP, &b->map),
		  0);
	b->addr = b->map;
	for (uint64_t i = 0; i < b->npages; i++) {
		expect_eq(uhmm_alloc_locked_page(w.f.m, &pfn), 0);
		uhmm_clear_highpage(w.f.m, pfn);
		uhmm_unlock_page(w.f.m, pfn);
		expect_eq(uhmm_vm_insert_page(w.f.mm, b->addr + i * PAGE, pfn), 0);
		uhmm_put_user_pages(w.f.m, &pfn, 1);
	}
}

/* A private mapping of pages that are a driver's. */
START_TEST(mixedmap)
{
	struct buffer b;

	driver_mmap(&b, PAGE);
	op_all(w.one, UHMM_MIRROR_SNAPSHOT, &b);
	expect_eq(*(const uint8_t *)b.mirror, UHMM_PROT_READ);
	buffer_free(&b);
}
END_TEST

/* Both read the same memory; then the one has it and the other reads. */
START_TEST(double_map)
{
	struct buffer b;

	buffer_anon(&b, 6 * PAGE, RW);
	cpu_put_all(&b, UP);
	expect_eq(uhmm_mprotect(w.f.mm, b.addr, b.bytes, PROT_READ), 0);
	op_all_by_a_fault(w.one, UHMM_MIRROR_READ, &b);
	mirror_expect_all(&b, UP);
	memset(b.mirror, 0xff, b.bytes);
	op_all_by_a_fault(w.two, UHMM_MIRROR_READ, &b);
	mirror_expect_all(&b, UP);
	op_all(w.two, UHMM_MIRROR_MIGRATE_TO_DEV, &b);
	memset(b.mirror, 0xff, b.bytes);
	op_all_by_a_fault(w.one, UHMM_MIRROR_READ, &b);
	mirror_expect_all(&b, UP);
	buffer_free(&b);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, mixedmap);
}

static void add_two(TCase *tc)
{
	tcase_add_test(tc, snapshot);
	tcase_add_test(tc, double_map);
}

int main(void)
{
	return run_scenarios("snapshot", add, add_two);
}
