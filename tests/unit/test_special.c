// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Entries and mappings out of the ordinary: a driver's frames and pages, guard regions,
 * userfaultfd's markers and bits, NUMA hints. What each is to a CPU, to a device and to a migration.
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

static int setup_errno(uhmm_vaddr_t addr)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = mpfns,
		.dst = dpfns,
		.start = addr,
		.end = addr + PAGE,
		.pgmap_owner = f.dev[0],
		.flags = SYSTEM,
	};
	int err;

	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, addr);
	err = uhmm_migrate_vma_setup(&args);
	if (!err)
		uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	return err;
}

/* ---- a driver's mappings ---- */

/* Two frames that a driver owns. */
static uhmm_pfn_t frames[2];

static void setup_frames(void)
{
	setup_fixture();
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t word = 100 + i;

		/* At the end of RAM, where nobody comes. */
		frames[i] = f.m->ram_frames - 1 - i;
		uhmm_page_write(f.m, frames[i], 0, &word, sizeof(word));
	}
}

static void teardown_frames(void)
{
	expect_eq(uhmm_munmap(f.mm, AT, 16 * PAGE), 0);
	teardown_fixture();
}

static void map_special(int flags, uint64_t vm_flags, int prot)
{
	uhmm_vaddr_t at = 0;

	expect_eq(uhmm_mmap_special(f.mm, AT, 2 * PAGE, prot, flags | MAP_FIXED, vm_flags, &at), 0);
	expect_eq(at, AT);
}

START_TEST(pfnmap_shared)
{
	map_special(MAP_SHARED, UHMM_VM_PFNMAP | UHMM_VM_IO, RW);
	expect_eq(cpu_read(AT), SIGBUS);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, frames[0], 1), 0);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, frames[0], 1), -EBUSY);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 100);
	put_word(f.mm, AT, 7);
	expect_eq(get_word(f.mm, AT), 7);
	expect_eq(cpu_read(AT + PAGE), SIGBUS);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), -EINVAL);
	expect(!(pagemap_of(f.mm, AT) & (UHMM_PM_FILE | UHMM_PM_MMAP_EXCLUSIVE)));
}
END_TEST

/* Whatever kind it is of, and before anything was put there: a hole is the driver's to fill. */
START_TEST(a_hole_is_not_anonymous_memory)
{
	static const uint64_t kinds[] = { UHMM_VM_IO, UHMM_VM_PFNMAP, UHMM_VM_MIXEDMAP,
					  UHMM_VM_DONTEXPAND };
	struct uhmm_mm *child;

	map_special(_i & 1 ? MAP_SHARED : MAP_PRIVATE, kinds[_i / 2], RW);
	expect_eq(cpu_read(AT), SIGBUS);
	expect_eq(uhmm_cpu_write(f.mm, AT + PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_write(child, AT, NULL, 1, NULL), SIGBUS);
	uhmm_mmput(child);
	fixture_verify(&f);
}
END_TEST

/* To a device the whole VMA is an error, whatever is in it. */
START_TEST(io_and_pfnmap_for_a_device)
{
	static const uint64_t kinds[] = { UHMM_VM_IO, UHMM_VM_PFNMAP };

	map_special(MAP_SHARED, kinds[_i], RW);
	expect_eq(walk(AT, 2, 0), 0);
	expect(pfns[0] == E && pfns[1] == E);
	expect_eq(walk(AT, 2, FAULT), -EFAULT);
	expect_eq(walk(AT, 2, WRITE), -EFAULT);
	expect_eq(snapshot(0, AT), UHMM_PROT_ERROR);
	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, 0, pfns), -EFAULT);
}
END_TEST

START_TEST(special_vmas_do_not_migrate)
{
	static const uint64_t kinds[] = { UHMM_VM_IO, UHMM_VM_PFNMAP, UHMM_VM_MIXEDMAP,
					  UHMM_VM_DONTEXPAND };

	map_special(MAP_SHARED, kinds[_i], RW);
	expect_eq(setup_errno(AT), -EINVAL);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, words, NULL), -EINVAL);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_SYS, AT, 1, NULL, NULL), -EINVAL);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, false, NULL, UHMM_COMBINED, PAGE, NULL),
		  -EINVAL);
}
END_TEST

START_TEST(mixedmap_for_a_device)
{
	uhmm_pfn_t pfn;

	map_special(MAP_SHARED, UHMM_VM_MIXEDMAP, RW);
	expect_eq(walk(AT, 1, 0), 0); /* a hole like any */
	expect_eq(pfns[0], 0);
	expect_eq(walk(AT, 1, FAULT), -EFAULT); /* SIGBUS */
	expect_eq(uhmm_insert_mixed(f.mm, AT, frames[0], false), 0);
	expect_eq(uhmm_insert_mixed(f.mm, AT, frames[1], false), 0); /* the first stays */
	expect_eq(get_word(f.mm, AT), 100);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], E);
	expect_eq(walk(AT, 1, FAULT), -EFAULT);
	expect(!counted(f.m, UHMM_CNT_FAULT_SPURIOUS));
	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, 0, pfns), -EEXIST);
	expect_eq(uhmm_get_user_pages_fast(f.mm, AT, 1, 0, pfns), -EEXIST);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_make_device_exclusive(f.mm, AT, NULL, &pfn), -EEXIST);
	uhmm_mmap_read_unlock(f.mm);
}
END_TEST

/* A write to one that is not writable is faulted first, and only then found to be no page. */
START_TEST(mixedmap_write)
{
	map_special(MAP_SHARED, UHMM_VM_MIXEDMAP, RW);
	expect_eq(uhmm_insert_mixed(f.mm, AT, frames[0], false), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, RW), 0);
	expect_eq(uhmm_insert_mixed(f.mm, AT + PAGE, frames[1], true), 0);
	expect(pte_write(pte_at(f.mm, AT + PAGE)));
	expect_eq(walk(AT + PAGE, 1, WRITE), -EFAULT);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FROM_HMM), 0);
	expect_eq(get_word(f.mm, AT + PAGE), 101);
}
END_TEST

/* Private: copied on write, and the copy is a page like any; fork takes the frames along. */
START_TEST(private_copies)
{
	struct uhmm_mm *child;

	map_special(MAP_PRIVATE, UHMM_VM_MIXEDMAP, RW);
	expect_eq(uhmm_insert_mixed(f.mm, AT, frames[0], true), 0);
	expect_eq(uhmm_insert_mixed(f.mm, AT + PAGE, frames[1], false), 0);
	expect(!pte_write(pte_at(f.mm, AT)));
	put_word(f.mm, AT, 5);
	expect(in_ram(f.mm, AT) && pfn_at(f.mm, AT) != frames[0]);
	expect_eq(walk(AT, 1, WRITE), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(get_word(child, AT), 5);
	expect_eq(get_word(child, AT + PAGE), 101);
	put_word(child, AT, 6);
	expect_eq(get_word(f.mm, AT), 5);
	fixture_verify(&f);
	uhmm_mmput(child);
	expect_eq(walk(AT + PAGE, 1, WRITE), 0); /* a copy, then it is a page */
	expect_eq(get_word(f.mm, AT + PAGE), 101);
}
END_TEST

START_TEST(fork_without_anon_vma)
{
	struct uhmm_mm *child;

	map_special(MAP_SHARED, UHMM_VM_PFNMAP, RW);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, frames[0], 1), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	put_word(child, AT, 9);
	expect_eq(get_word(f.mm, AT), 9);
	uhmm_mmput(child);
}
END_TEST

/* A page that a driver allocated, filled with @word; it is locked and has a reference. */
static uhmm_pfn_t drivers_page(uint64_t word)
{
	uhmm_pfn_t pfn;

	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_clear_highpage(f.m, pfn);
	uhmm_page_write(f.m, pfn, 0, &word, sizeof(word));
	uhmm_unlock_page(f.m, pfn);
	return pfn;
}

/* And put into the mapping, which alone has it then. */
static uhmm_pfn_t insert_page(uhmm_vaddr_t addr, uint64_t word)
{
	uhmm_pfn_t pfn = drivers_page(word);

	expect_eq(uhmm_vm_insert_page(f.mm, addr, pfn), 0);
	uhmm_put_user_pages(f.m, &pfn, 1);
	expect_eq(pfn_at(f.mm, addr), pfn);
	return pfn;
}

static uint32_t refs_of(uhmm_pfn_t pfn)
{
	return folio_ref_count(pfn_to_frame(f.m, pfn));
}

/* Shared: a page like any, to the CPU, to a device and to who pins it; but it does not move. */
START_TEST(inserted_page_shared)
{
	struct uhmm_mm *child;
	uhmm_pfn_t pfn;

	map_special(MAP_SHARED, UHMM_VM_DONTEXPAND, RW);
	pfn = insert_page(AT, 100);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 100);
	expect_eq(cpu_read(AT + PAGE), SIGBUS);
	expect_eq(walk(AT, 1, WRITE), 0);
	expect(flags_of(pfns[0]) == (V | W) && uhmm_hmm_pfn_to_pfn(pfns[0]) == pfn);
	expect_eq(snapshot(0, AT), UHMM_PROT_WRITE);
	dev_write(0, AT, 7);
	expect_eq(get_word(f.mm, AT), 7);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_FILE);
	expect_eq(setup_errno(AT), -EINVAL);
	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM, pfns), 1);
	expect_eq(pfns[0], pfn);
	expect_eq(refs_of(pfn), 1 + UHMM_PIN_BIAS);
	uhmm_unpin_user_pages(f.m, pfns, 1);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EBUSY);
	/* The child has it, too, and both write to it; read-only for a while, a write makes it so again. */
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(refs_of(pfn), 2);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	put_word(child, AT, 8);
	expect_eq(get_word(f.mm, AT), 8);
	put_word(f.mm, AT, 9);
	expect_eq(get_word(child, AT), 9);
	fixture_verify(&f);
	uhmm_mmput(child);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(refs_of(pfn), 0);
	expect_eq(cpu_read(AT), SIGBUS);
}
END_TEST

/* Private: read-only until a write copies it, whoever writes; the copy is anonymous. */
START_TEST(inserted_page_private)
{
	struct uhmm_mm *child;
	uhmm_pfn_t pfn;

	map_special(MAP_PRIVATE, UHMM_VM_MIXEDMAP, RW);
	pfn = insert_page(AT, 100);
	expect_eq(uhmm_vm_insert_page(f.mm, AT + PAGE, f.m->zero_pfn), 0);
	expect_eq(snapshot(0, AT), UHMM_PROT_READ);
	expect_eq(snapshot(0, AT + PAGE), UHMM_PROT_ZERO | UHMM_PROT_READ);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	fixture_verify(&f);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_make_device_exclusive(f.mm, AT, NULL, &pfns[0]), 0);
	uhmm_mmap_read_unlock(f.mm);
	uhmm_unlock_put_page(f.m, pfns[0]);
	expect(pfns[0] != pfn);
	dev_write(0, AT + PAGE, 6);
	expect_eq(get_word(f.mm, AT), 100);
	expect_eq(get_word(f.mm, AT + PAGE), 6);
	expect_eq(refs_of(pfn), 1);
	put_word(child, AT, 5);
	expect_eq(refs_of(pfn), 0);
	expect_eq(get_word(f.mm, AT), 100);
	fixture_verify(&f);
	uhmm_mmput(child);
}
END_TEST

/* Part of a large folio, and a page that the driver keeps. */
START_TEST(inserted_tail)
{
	uhmm_pfn_t pfn;

	map_special(MAP_SHARED, UHMM_VM_MIXEDMAP, RW);
	expect_eq(uhmm_alloc_locked_folio(f.m, 3, &pfn), 0);
	uhmm_clear_highpage(f.m, pfn + 5);
	uhmm_unlock_page(f.m, pfn);
	expect_eq(uhmm_vm_insert_page(f.mm, AT, pfn + 5), 0);
	put_word(f.mm, AT, 3);
	expect_eq(folio_mapcount(pfn_to_frame(f.m, pfn)), 1);
	expect_eq(uhmm_munmap(f.mm, AT, 2 * PAGE), 0);
	expect_eq(refs_of(pfn), 1);
	uhmm_page_read(f.m, pfn + 5, 0, words, sizeof(words[0]));
	expect_eq(words[0], 3);
	uhmm_put_user_pages(f.m, &pfn, 1);
}
END_TEST

START_TEST(pfnmap_rules)
{
	map_special(MAP_PRIVATE, UHMM_VM_PFNMAP, RW);
	/* Copied on write some day: only the whole of it. */
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, f.m->ram_frames - 2, 1), -EINVAL);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, f.m->ram_frames - 2, 2), 0);
	expect_eq(uhmm_mremap(f.mm, AT, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0, NULL), -EFAULT);
	expect_eq(uhmm_mremap(f.mm, AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      AT + 8 * PAGE, NULL),
		  0);
	expect_eq(cpu_read(AT + 8 * PAGE), 0);
	put_word(f.mm, AT + 8 * PAGE, 4);
	expect_eq(get_word(f.mm, AT + 8 * PAGE), 4);
	fixture_verify(&f);
}
END_TEST

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
	TCase *tc = new_case(suite, "driver", setup_frames, teardown_frames);

	tcase_add_test(tc, pfnmap_shared);
	tcase_add_loop_test(tc, a_hole_is_not_anonymous_memory, 0, 8);
	tcase_add_loop_test(tc, io_and_pfnmap_for_a_device, 0, 2);
	tcase_add_loop_test(tc, special_vmas_do_not_migrate, 0, 4);
	tcase_add_test(tc, mixedmap_for_a_device);
	tcase_add_test(tc, mixedmap_write);
	tcase_add_test(tc, private_copies);
	tcase_add_test(tc, fork_without_anon_vma);
	tcase_add_test(tc, inserted_page_shared);
	tcase_add_test(tc, inserted_page_private);
	tcase_add_test(tc, inserted_tail);
	tcase_add_test(tc, pfnmap_rules);
	tc = new_case(suite, "guard", setup_fixture, teardown_fixture);
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
