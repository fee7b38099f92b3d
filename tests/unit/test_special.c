// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Entries out of the ordinary: guard regions, userfaultfd's markers and bits, NUMA hints. What
 * each is to a CPU, to a device and to a migration.
 */
#define _GNU_SOURCE
#include "unit/device.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define SYSTEM UHMM_MIGRATE_VMA_SELECT_SYSTEM

static int cpu_read(uhmm_vaddr_t addr)
{
	return uhmm_cpu_read(f.mm, addr, NULL, 1, NULL);
}

static int cpu_write(uhmm_vaddr_t addr)
{
	return uhmm_cpu_write(f.mm, addr, NULL, 1, NULL);
}

/* ---- guard regions ---- */

START_TEST(guard_region)
{
	struct uhmm_mm *child;

	map_written(AT, 4);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, 2 * PAGE, MADV_GUARD_INSTALL), 0);
	fixture_verify(&f);
	expect_eq(cpu_read(AT + PAGE), SIGSEGV);
	expect_eq(cpu_write(AT + 2 * PAGE), SIGSEGV);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
	expect(pagemap_of(f.mm, AT + PAGE) & UHMM_PM_GUARD_REGION);
	/* Dropping pages leaves it; as do protection, fork and a move. */
	expect_eq(uhmm_madvise(f.mm, AT, 4 * PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 4 * PAGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 4 * PAGE, RW), 0);
	expect_eq(cpu_read(AT + PAGE), SIGSEGV);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_read(child, AT + PAGE, NULL, 1, NULL), SIGSEGV);
	uhmm_mmput(child);
	expect_eq(uhmm_mremap(f.mm, AT, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      AT + 8 * PAGE, NULL),
		  0);
	expect_eq(cpu_read(AT + 9 * PAGE), SIGSEGV);
	expect_eq(uhmm_madvise(f.mm, AT + 9 * PAGE, PAGE, MADV_POPULATE_READ), -EFAULT);
	expect_eq(uhmm_madvise(f.mm, AT + 8 * PAGE, 4 * PAGE, MADV_GUARD_REMOVE), 0);
	expect_eq(get_word(f.mm, AT + 9 * PAGE), 0);
	/* With the mapping it goes. */
	expect_eq(uhmm_madvise(f.mm, AT + 8 * PAGE, 4 * PAGE, MADV_GUARD_INSTALL), 0);
	map_fixed(f.mm, AT + 8 * PAGE, 4, RW);
	expect_eq(get_word(f.mm, AT + 8 * PAGE), 0);
}
END_TEST

START_TEST(guard_for_a_device)
{
	map_written(AT, 2);
	to_device(0, AT, 2);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_GUARD_INSTALL), 0);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 1);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], 0); /* not an error */
	expect_eq(walk(AT, 1, FAULT), -EFAULT);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FROM_HMM), 0);
	expect_eq(collected(AT, 1, SYSTEM, f.dev[0]), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, 1, words, NULL),
		  -EFAULT);
}
END_TEST

/* In a fork before anything was touched, too. */
START_TEST(guard_in_empty_memory)
{
	struct uhmm_mm *child;

	map_fixed(f.mm, AT, 600, RW);
	expect_eq(uhmm_madvise(f.mm, AT, 600 * PAGE, MADV_GUARD_INSTALL), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 600 * PAGE, MADV_GUARD_INSTALL), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_write(child, AT + 599 * PAGE, NULL, 1, NULL), SIGSEGV);
	uhmm_mmput(child);
}
END_TEST

START_TEST(guard_vma_conditions)
{
	uhmm_vaddr_t at;

	expect_eq(uhmm_mmap_special(f.mm, AT, PAGE, RW, MAP_SHARED | MAP_FIXED, UHMM_VM_MIXEDMAP,
				    NULL),
		  0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_GUARD_INSTALL), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_GUARD_REMOVE), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, ANON | MAP_LOCKED, NULL, 0, &at), 0);
	expect_eq(uhmm_madvise(f.mm, at, PAGE, MADV_GUARD_INSTALL), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, at, PAGE, MADV_GUARD_REMOVE), 0);
	expect_eq(uhmm_madvise(f.mm, AT + 9 * PAGE, PAGE, MADV_GUARD_INSTALL), -ENOMEM);
}
END_TEST

/* ---- userfaultfd ---- */

static unsigned int calls, reasons;

static bool resolve(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	uint64_t page[PAGE / 8];

	calls++;
	reasons |= reason;
	/* It may take its time: the fault is in no RCU read section, or this would wait for itself. */
	uhmm__synchronize_rcu(f.m);
	if (data)
		return false;
	if (reason == UHMM_UFFD_WP) {
		expect_eq(uhmm_uffd_writeprotect(mm, addr, PAGE, false), 0);
		return true;
	}
	for (unsigned int i = 0; i < PAGE / 8; i++)
		page[i] = 55;
	expect_eq(uhmm_uffd_copy(mm, addr, page, false), 0);
	return true;
}

static void setup_uffd(void)
{
	setup_fixture();
	calls = reasons = 0;
	uhmm_uffd_set_handler(f.mm, resolve, NULL);
}

static void protect(uhmm_vaddr_t addr, unsigned int npages, unsigned int mode)
{
	expect_eq(uhmm_uffd_register(f.mm, addr, npages * PAGE, mode), 0);
	expect_eq(uhmm_uffd_writeprotect(f.mm, addr, npages * PAGE, true), 0);
	fixture_verify(&f);
}

START_TEST(uffd_wp_page)
{
	map_written(AT, 2);
	protect(AT, 1, UHMM_UFFD_WP);
	expect(pte_at(f.mm, AT).val & PTE_UFFD_WP && !pte_write(pte_at(f.mm, AT)));
	expect(pagemap_of(f.mm, AT) & UHMM_PM_UFFD_WP);
	expect_eq(get_word(f.mm, AT), 1);
	put_word(f.mm, AT + PAGE, 9);
	expect_eq(calls, 0);
	put_word(f.mm, AT, 9);
	expect_eq(calls, 1);
	expect_eq(reasons, UHMM_UFFD_WP);
	expect_eq(get_word(f.mm, AT), 9);
	expect(!(pte_at(f.mm, AT).val & PTE_UFFD_WP));
}
END_TEST

START_TEST(uffd_unresolved)
{
	map_written(AT, 1);
	protect(AT, 1, UHMM_UFFD_WP);
	uhmm_uffd_set_handler(f.mm, resolve, &f);
	expect_eq(cpu_write(AT), SIGBUS);
	expect_eq(calls, 1);
	uhmm_uffd_set_handler(f.mm, NULL, NULL);
	expect_eq(cpu_write(AT), SIGBUS);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* Protection outlasts mprotect; with the registration it ends. */
START_TEST(uffd_wp_and_mprotect)
{
	map_written(AT, 1);
	protect(AT, 1, UHMM_UFFD_WP);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	expect(!pte_write(pte_at(f.mm, AT)));
	expect_eq(uhmm_uffd_register(f.mm, AT, PAGE, 0), 0);
	put_word(f.mm, AT, 3);
	expect_eq(calls, 0);
}
END_TEST

/* The bit goes to the device and back; the child of a fork has none. */
START_TEST(uffd_wp_travels)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	protect(AT, 1, UHMM_UFFD_WP);
	to_device(0, AT, 1);
	expect(pte_at(f.mm, AT).val & LEAF_UFFD_WP);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_UFFD_WP);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(!(pte_at(child, AT).val & LEAF_UFFD_WP));
	put_word(child, AT, 4);
	expect_eq(calls, 0);
	expect_eq(get_word(f.mm, AT), 1);
	expect(pte_at(f.mm, AT).val & PTE_UFFD_WP);
	put_word(f.mm, AT, 5);
	expect_eq(calls, 1);
	uhmm_mmput(child);
}
END_TEST

/*
 * An entry that is not present has its bits elsewhere; what it has in place of a present one's must not
 * be taken for them.
 */
START_TEST(bits_that_are_not_set_do_not_appear)
{
	const uint64_t bits = PTE_UFFD_WP | PTE_SOFT_DIRTY;

	map_written(AT, 2);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	for (unsigned int i = 0; i < 2; i++) {
		expect_eq(pte_at(f.mm, AT + i * PAGE).val & bits, 0);
		to_device(0, AT + i * PAGE, 1);
		expect_eq(pte_at(f.mm, AT + i * PAGE).val & (LEAF_UFFD_WP | LEAF_SOFT_DIRTY), 0);
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
		expect_eq(pte_at(f.mm, AT + i * PAGE).val & bits, 0);
	}
}
END_TEST

START_TEST(uffd_wp_marker)
{
	map_fixed(f.mm, AT, 3, RW);
	protect(AT, 3, UHMM_UFFD_WP | UHMM_UFFD_WP_UNPOPULATED);
	expect(leaf_is_marker(pte_at(f.mm, AT), MARKER_UFFD_WP));
	expect(pagemap_of(f.mm, AT) & UHMM_PM_UFFD_WP);
	/* To a device and to a migration: */
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], 0);
	expect_eq(collected(AT, 3, SYSTEM, f.dev[0]), 0);
	expect_eq(walk(AT, 1, FAULT), 0);
	expect_eq(pfns[0], f.m->zero_pfn | V);
	expect(pte_at(f.mm, AT).val & PTE_UFFD_WP);
	/* A writing device cannot wait for the handler with mmap_lock held. */
	expect_eq(walk(AT + PAGE, 1, WRITE), -EFAULT);
	put_word(f.mm, AT + PAGE, 6);
	expect(calls && reasons == UHMM_UFFD_WP);
	expect_eq(get_word(f.mm, AT + PAGE), 6);
	/* Ended where nothing came: the marker goes. */
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT + 2 * PAGE, PAGE, false), 0);
	expect(pte_none(pte_at(f.mm, AT + 2 * PAGE)));
	/* Dropped pages leave no marker in anonymous memory. */
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT + 2 * PAGE, PAGE, true), 0);
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_DONTNEED), 0);
	expect(pte_none(pte_at(f.mm, AT + 2 * PAGE)));
}
END_TEST

START_TEST(uffd_missing)
{
	map_fixed(f.mm, AT, 4, RW);
	expect_eq(uhmm_uffd_register(f.mm, AT, 4 * PAGE, UHMM_UFFD_MISSING), 0);
	expect_eq(get_word(f.mm, AT), 55);
	put_word(f.mm, AT + PAGE, 8);
	expect_eq(calls, 2);
	expect_eq(get_word(f.mm, AT + PAGE), 8);
	fixture_verify(&f);
	/* A migration does not fill such a hole. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT + 2 * PAGE, 1, words, NULL),
		  -ENOENT);
	expect(pte_none(pte_at(f.mm, AT + 2 * PAGE)));
	/* A device's access: the locked form fails, the unlocked one waits for the answer. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT + 2 * PAGE, 1, words, NULL), -EFAULT);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ_UNLOCKED, AT + 2 * PAGE, 2, words, NULL),
		  0);
	expect_eq(words[0], 55);
	expect_eq(calls, 4);
	/* As does GUP. */
	map_fixed(f.mm, AT + 4 * PAGE, 1, RW);
	expect_eq(uhmm_uffd_register(f.mm, AT + 4 * PAGE, PAGE, UHMM_UFFD_MISSING), 0);
	expect_eq(uhmm_pin_user_pages(f.mm, AT + 4 * PAGE, 1, UHMM_FOLL_WRITE, pfns), 1);
	expect_eq(calls, 5);
	uhmm_unpin_user_pages(f.m, pfns, 1);
}
END_TEST

/* Two places whose tables serve nothing else. */
#define HERE 0x600000000000UL
#define THERE 0x700000000000UL

/* Takes away all tables that the access has walked through; another mapping gets them. */
static bool tables_change_hands(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr,
				unsigned int reason)
{
	(void)data;
	(void)reason;
	expect_eq(addr, HERE);
	expect_eq(uhmm_munmap(mm, HERE, 2 * PAGE), 0);
	uhmm__rcu_barrier(f.m);
	map_fixed(mm, THERE, 1, RW);
	put_word(mm, THERE, 1);
	map_fixed(mm, HERE, 1, RW);
	return true;
}

START_TEST(uffd_walk_begins_again)
{
	map_fixed(f.mm, HERE, 2, RW);
	put_word(f.mm, HERE + PAGE, 3);
	expect_eq(uhmm_uffd_register(f.mm, HERE, 2 * PAGE, UHMM_UFFD_MISSING), 0);
	uhmm_uffd_set_handler(f.mm, tables_change_hands, NULL);
	put_word(f.mm, HERE, 2);
	expect_eq(get_word(f.mm, HERE), 2);
	expect_eq(get_word(f.mm, THERE), 1);
	fixture_verify(&f);
}
END_TEST

START_TEST(poison_marker)
{
	struct uhmm_mm *child;

	map_fixed(f.mm, AT, 2, RW);
	expect_eq(uhmm_uffd_register(f.mm, AT, 2 * PAGE, UHMM_UFFD_MISSING), 0);
	expect_eq(uhmm_uffd_poison(f.mm, AT), 0);
	expect_eq(uhmm_uffd_poison(f.mm, AT), -EEXIST);
	expect_eq(cpu_read(AT), SIGBUS);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], 0);
	expect_eq(walk(AT, 1, FAULT), -EFAULT);
	expect_eq(collected(AT, 1, SYSTEM, f.dev[0]), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_read(child, AT, NULL, 1, NULL), SIGBUS);
	uhmm_mmput(child);
	expect_eq(calls, 0);
}
END_TEST

START_TEST(uffd_does_not_move)
{
	map_written(AT, 2);
	protect(AT, 2, UHMM_UFFD_WP);
	expect_eq(uhmm_mremap(f.mm, AT, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT + 8 * PAGE,
			      NULL),
		  0);
	put_word(f.mm, AT + 8 * PAGE, 2);
	expect_eq(calls, 0);
	put_word(f.mm, AT + PAGE, 2);
	expect_eq(calls, 1);
}
END_TEST

/* ---- NUMA hints ---- */

START_TEST(numa_hint)
{
	map_written(AT, 3);
	uhmm__lru_add_drain(f.m);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, 3 * PAGE), 3);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, 3 * PAGE), 0);
	fixture_verify(&f);
	expect(pte_protnone(pte_at(f.mm, AT)));
	/* To a device: the frame, but not valid; asked for, a fault restores it. */
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], pfn_at(f.mm, AT));
	expect_eq(walk(AT, 1, FAULT), 0);
	expect_eq(pfns[0], pfn_at(f.mm, AT) | V | W);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_NUMA), 1);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, PAGE), 1);
	expect_eq(walk(AT, 1, WRITE), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	/* To a CPU: writable at once, as it was. */
	put_word(f.mm, AT + PAGE, 7);
	expect_eq(get_word(f.mm, AT + PAGE), 7);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_NUMA), 3);
	/* To a migration it is a page. */
	expect_eq(collected(AT + 2 * PAGE, 1, SYSTEM, f.dev[0]), 1);
	expect_eq(mpfns[0] & UHMM_MIGRATE_PFN_WRITE, 0);
	/* Which comes back as its VMA says. */
	expect(!pte_protnone(pte_at(f.mm, AT + 2 * PAGE)));
}
END_TEST

START_TEST(numa_hint_and_gup)
{
	map_written(AT, 2);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, 2 * PAGE), 2);
	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, 0, pfns), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_NUMA), 0);
	uhmm_put_user_pages(f.m, pfns, 1);
	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, UHMM_FOLL_HONOR_NUMA_FAULT, pfns), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_NUMA), 1);
	uhmm_put_user_pages(f.m, pfns, 1);
	expect_eq(uhmm_get_user_pages_fast(f.mm, AT + PAGE, 1, 0, pfns), 1);
	expect_eq(counted(f.m, UHMM_CNT_GUP_FAST), 0);
	uhmm_put_user_pages(f.m, pfns, 1);
}
END_TEST

/* Left alone: the zero page, shared and pinned pages, what cannot be accessed anyway. */
START_TEST(numa_hint_skips)
{
	struct uhmm_mm *child;

	map_written(AT, 4);
	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, UHMM_FOLL_WRITE, pfns), 1);
	map_fixed(f.mm, AT + 4 * PAGE, 1, RW);
	touch(f.mm, AT + 4 * PAGE);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_NONE), 0);
	to_device(0, AT + 2 * PAGE, 1);
	/* But a device page's entry loses its write right, as in any change of protection. */
	expect_eq(uhmm_change_prot_numa(f.mm, AT, 5 * PAGE), 2);
	expect_eq(leaf_type(pte_at(f.mm, AT + 2 * PAGE)), LEAF_DEVICE_PRIVATE_READ);
	expect(pte_protnone(pte_at(f.mm, AT + 3 * PAGE)));
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
	uhmm_unpin_user_pages(f.m, pfns, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, 5 * PAGE), 0);
	uhmm_mmput(child);
	/* A hint is shared by fork as it is. */
	expect_eq(uhmm_change_prot_numa(f.mm, AT, PAGE), 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(pte_protnone(pte_at(child, AT)));
	put_word(child, AT, 8);
	expect_eq(get_word(f.mm, AT), 1);
	fixture_verify(&f);
	uhmm_mmput(child);
}
END_TEST

static TCase *new_case(Suite *suite, const char *name, SFun setup, SFun teardown)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, setup, teardown);
	suite_add_tcase(suite, tc);
	return tc;
}

int main(void)
{
	Suite *suite = suite_create("special");
	TCase *tc = new_case(suite, "guard", setup_fixture, teardown_fixture);

	tcase_add_test(tc, guard_region);
	tcase_add_test(tc, guard_for_a_device);
	tcase_add_test(tc, guard_in_empty_memory);
	tcase_add_test(tc, guard_vma_conditions);
	tc = new_case(suite, "uffd", setup_uffd, teardown_fixture);
	tcase_add_test(tc, uffd_wp_page);
	tcase_add_test(tc, uffd_unresolved);
	tcase_add_test(tc, uffd_wp_and_mprotect);
	tcase_add_test(tc, uffd_wp_travels);
	tcase_add_test(tc, bits_that_are_not_set_do_not_appear);
	tcase_add_test(tc, uffd_wp_marker);
	tcase_add_test(tc, uffd_missing);
	tcase_add_test(tc, uffd_walk_begins_again);
	tcase_add_test(tc, poison_marker);
	tcase_add_test(tc, uffd_does_not_move);
	tc = new_case(suite, "numa", setup_fixture, teardown_fixture);
	tcase_add_test(tc, numa_hint);
	tcase_add_test(tc, numa_hint_and_gup);
	tcase_add_test(tc, numa_hint_skips);
	return run_suite(suite);
}
