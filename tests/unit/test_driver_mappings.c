// SPDX-License-Identifier: LGPL-2.1-or-later
/* A driver's frames and pages in a process: what each is to a CPU, to a device and to a migration. */
#define _GNU_SOURCE
#include "unit/device.h"

static int read_signal(uhmm_vaddr_t addr)
{
	return uhmm_cpu_read(f.mm, addr, NULL, 1, NULL);
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
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
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
	expect_eq(read_signal(AT), SIGBUS);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, frames[0], 1), 0);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, frames[0], 1), -EBUSY);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 100);
	put_word(f.mm, AT, 7);
	expect_eq(get_word(f.mm, AT), 7);
	expect_eq(read_signal(AT + PAGE), SIGBUS);
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
	expect_eq(read_signal(AT), SIGBUS);
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
	expect_eq(read_signal(AT + PAGE), SIGBUS);
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
	expect_eq(read_signal(AT), SIGBUS);
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
	expect_eq(read_signal(AT + 8 * PAGE), 0);
	put_word(f.mm, AT + 8 * PAGE, 4);
	expect_eq(get_word(f.mm, AT + 8 * PAGE), 4);
	fixture_verify(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("driver_mappings");
	TCase *tc = tcase_create("driver");

	tcase_add_checked_fixture(tc, setup_frames, teardown_frames);
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
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
