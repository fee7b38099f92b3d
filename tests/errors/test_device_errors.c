// SPDX-License-Identifier: LGPL-2.1-or-later
/* Each errno that pin.h, exclusive.h and special.h document, by public calls alone. */
#define _GNU_SOURCE
#include "errors/errors.h"

#define NOWHERE 0x50000000UL

static uhmm_pfn_t pages[8];

typedef int64_t gup_fn(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages, unsigned int flags,
		       uhmm_pfn_t *pages);

static gup_fn *const all[] = { uhmm_pin_user_pages, uhmm_pin_user_pages_fast, uhmm_get_user_pages,
			       uhmm_get_user_pages_fast };

enum { NR_PINS = 2, NR_ALL = 4 };

START_TEST(gup_einval)
{
	expect_eq(all[_i](f.mm, AT + 1, 1, 0, pages), -EINVAL);
	expect_eq(all[_i](f.mm, AT, 1, 0x2, pages), -EINVAL);
	expect_eq(all[_i](f.mm, UHMM_TASK_SIZE, 1, 0, pages), -EINVAL);
	expect_eq(all[_i](f.mm, AT, UINT64_MAX, 0, pages), -EINVAL);
	if (_i >= NR_PINS)
		expect_eq(all[_i](f.mm, AT, 1, UHMM_FOLL_LONGTERM, pages), -EINVAL);
	uhmm_task_leave();
	expect_eq(all[_i](f.mm, AT, 1, 0, pages), -EINVAL);
	uhmm_task_enter(f.task);
	expect_eq(all[_i](f.mm, AT, 0, 0, pages), 0);
}
END_TEST

START_TEST(gup_efault)
{
	expect_eq(all[_i](f.mm, NOWHERE, 1, 0, pages), -EFAULT);
	expect_eq(all[_i](f.mm, AT + 4 * PAGE, 1, UHMM_FOLL_NOFAULT, pages), -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(all[_i](f.mm, AT, 1, UHMM_FOLL_WRITE, pages), -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	expect_eq(all[_i](f.mm, AT, 1, 0, pages), -EFAULT);
}
END_TEST

START_TEST(gup_enomem)
{
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1), 0);
	expect_eq(all[_i](f.mm, AT + 4 * PAGE, 1, UHMM_FOLL_WRITE, pages), -ENOMEM);
}
END_TEST

static int make(uhmm_vaddr_t addr)
{
	uhmm_pfn_t pfn = 77;
	int err;

	uhmm_mmap_read_lock(f.mm);
	err = uhmm_make_device_exclusive(f.mm, addr, NULL, &pfn);
	uhmm_mmap_read_unlock(f.mm);
	if (!err)
		uhmm_unlock_put_page(f.m, pfn);
	else
		expect_eq(pfn, 77);
	return err;
}

START_TEST(make_device_exclusive_errors)
{
	expect_eq(make(NOWHERE), -EFAULT);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1), 0);
	expect_eq(make(AT + 4 * PAGE), -ENOMEM);
	expect_eq(make(AT + 4 * PAGE), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(make(AT), -EFAULT);
	uhmm_task_leave();
	pages[0] = 77;
	expect_eq(uhmm_make_device_exclusive(f.mm, AT, NULL, pages), -EINVAL);
	expect_eq(pages[0], 77);
	uhmm_task_enter(f.task);
}
END_TEST

static int mmap_special(uhmm_vaddr_t addr, uint64_t len, int flags, uint64_t vm_flags)
{
	uhmm_vaddr_t at = 77;
	int err = uhmm_mmap_special(f.mm, addr, len, RW, flags, vm_flags, &at);

	if (err)
		expect_eq(at, 77);
	return err;
}

START_TEST(mmap_special_errors)
{
	const uint64_t io = UHMM_VM_IO;

	expect_eq(mmap_special(0, PAGE, MAP_SHARED, 0), -EINVAL);
	expect_eq(mmap_special(0, PAGE, MAP_SHARED, UHMM_VM_LOCKED), -EINVAL);
	expect_eq(mmap_special(0, PAGE, MAP_SHARED, UHMM_VM_PFNMAP | UHMM_VM_MIXEDMAP), -EINVAL);
	expect_eq(mmap_special(0, PAGE, 0, io), -EINVAL);
	expect_eq(mmap_special(0, PAGE, MAP_SHARED | MAP_PRIVATE, io), -EINVAL);
	expect_eq(mmap_special(0, PAGE, MAP_SHARED | MAP_ANONYMOUS, io), -EINVAL);
	expect_eq(mmap_special(0, 0, MAP_SHARED, io), -EINVAL);
	expect_eq(mmap_special(NOWHERE + 1, PAGE, MAP_SHARED | MAP_FIXED, io), -EINVAL);
	expect_eq(mmap_special(UHMM_TASK_SIZE, PAGE, MAP_SHARED | MAP_FIXED, io), -ENOMEM);
	expect_eq(mmap_special(0, UINT64_MAX, MAP_SHARED, io), -ENOMEM);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 1), 0);
	expect_eq(mmap_special(NOWHERE, PAGE, MAP_SHARED | MAP_FIXED, io), -ENOMEM);
	expect_eq(mmap_special(NOWHERE, PAGE, MAP_SHARED | MAP_FIXED, io), 0);
}
END_TEST

START_TEST(remap_and_insert_errors)
{
	const uhmm_vaddr_t mixed = NOWHERE + 16 * PAGE;

	expect_eq(mmap_special(NOWHERE, 2 * PAGE, MAP_SHARED | MAP_FIXED, UHMM_VM_PFNMAP), 0);
	expect_eq(mmap_special(mixed, PAGE, MAP_SHARED | MAP_FIXED, UHMM_VM_MIXEDMAP), 0);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE + 1, 600, 1), -EINVAL);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE, 600, 0), -EINVAL);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE, 600, 3), -EINVAL);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, 600, 1), -EINVAL);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE, 1UL << 39, 1), -EINVAL);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 1), 0);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE, 600, 1), -ENOMEM);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE, 600, 1), 0);
	expect_eq(uhmm_remap_pfn_range(f.mm, NOWHERE, 600, 2), -EBUSY);
	expect_eq(uhmm_insert_mixed(f.mm, mixed + 1, 600, false), -EINVAL);
	expect_eq(uhmm_insert_mixed(f.mm, NOWHERE + PAGE, 600, false), -EINVAL);
	expect_eq(uhmm_insert_mixed(f.mm, mixed, 1UL << 39, false), -EINVAL);
	expect_eq(uhmm_insert_mixed(f.mm, mixed, 600, true), 0);
}
END_TEST

static uhmm_pfn_t frame_at(uhmm_vaddr_t addr)
{
	uint64_t entry;

	expect_eq(uhmm_pagemap(f.mm, addr, 1, &entry), 0);
	expect(entry & UHMM_PM_PRESENT);
	return entry & UHMM_PM_PFN_MASK;
}

START_TEST(insert_page_errors)
{
	const uhmm_vaddr_t shared = 2 * NOWHERE;
	struct uhmm_file *file;
	uhmm_pfn_t pfn;

	expect_eq(mmap_special(NOWHERE, 3 * PAGE, MAP_SHARED | MAP_FIXED, UHMM_VM_DONTEXPAND), 0);
	expect_eq(mmap_special(NOWHERE + 3 * PAGE, PAGE, MAP_SHARED | MAP_FIXED, UHMM_VM_PFNMAP),
		  0);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_unlock_page(f.m, pfn);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE + 8, pfn), -EINVAL);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE + 4 * PAGE, pfn), -EFAULT);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE + 3 * PAGE, pfn), -EINVAL);
	expect_eq(uhmm_vm_insert_page(f.mm, AT, pfn), -EINVAL);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, 1UL << 39), -EINVAL);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, pfn + 1), -EINVAL); /* nobody's */
	put_word(f.mm, AT, 1);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, frame_at(AT)), -EINVAL);
	expect_eq(uhmm_cpu_read(f.mm, AT + 4 * PAGE, NULL, 1, NULL), 0);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, frame_at(AT + 4 * PAGE)), -EINVAL);
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_MEMORY, PAGE, &file), 0);
	expect_eq(uhmm_mmap(f.mm, shared, PAGE, RW, MAP_SHARED | MAP_FIXED, file, 0, NULL), 0);
	uhmm_file_put(file);
	put_word(f.mm, shared, 1);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, frame_at(shared)), -EOPNOTSUPP);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 1), 0);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, pfn), -ENOMEM); /* for a table */
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, pfn), 0);
	expect_eq(uhmm_vm_insert_page(f.mm, NOWHERE, pfn), -EBUSY);
	uhmm_put_user_pages(f.m, &pfn, 1);
}
END_TEST

START_TEST(uffd_errors)
{
	static const uint64_t page[PAGE / 8];

	expect_eq(uhmm_uffd_register(f.mm, AT + 1, PAGE, UHMM_UFFD_WP), -EINVAL);
	expect_eq(uhmm_uffd_register(f.mm, AT, 0, UHMM_UFFD_WP), -EINVAL);
	expect_eq(uhmm_uffd_register(f.mm, AT, PAGE, 8), -EINVAL);
	expect_eq(uhmm_uffd_register(f.mm, AT, PAGE, UHMM_UFFD_WP_UNPOPULATED), -EINVAL);
	expect_eq(uhmm_uffd_register(f.mm, NOWHERE, PAGE, UHMM_UFFD_WP), -ENOMEM);
	expect_eq(uhmm_uffd_register(f.mm, AT - PAGE, PAGE, UHMM_UFFD_WP), -EINVAL);
	expect_eq(mmap_special(NOWHERE, PAGE, MAP_SHARED | MAP_FIXED, UHMM_VM_PFNMAP), 0);
	expect_eq(uhmm_uffd_register(f.mm, NOWHERE, PAGE, UHMM_UFFD_WP), -EINVAL);
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT, PAGE, true), -ENOENT);
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT, 1, true), -EINVAL);
	expect_eq(uhmm_uffd_copy(f.mm, AT + 4 * PAGE, page, false), -ENOENT);
	expect_eq(uhmm_uffd_poison(f.mm, AT + 4 * PAGE), -ENOENT);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 1), 0);
	expect_eq(uhmm_uffd_register(f.mm, AT, PAGE, UHMM_UFFD_MISSING), -ENOMEM);
	expect_eq(uhmm_uffd_register(f.mm, AT, 8 * PAGE, UHMM_UFFD_MISSING), 0);
	expect_eq(uhmm_uffd_copy(f.mm, AT + 1, page, false), -EINVAL);
	expect_eq(uhmm_uffd_copy(f.mm, AT, NULL, false), -EINVAL);
	expect_eq(uhmm_uffd_copy(f.mm, AT + 4 * PAGE, page, true), -EINVAL);
	expect_eq(uhmm_uffd_copy(f.mm, AT, page, false), -EEXIST);
	expect_eq(uhmm_uffd_poison(f.mm, AT), -EEXIST);
	expect_eq(uhmm_uffd_poison(f.mm, AT + 1), -EINVAL);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1), 0);
	expect_eq(uhmm_uffd_copy(f.mm, AT + 4 * PAGE, page, false), -ENOMEM);
	expect_eq(uhmm_uffd_copy(f.mm, AT + 4 * PAGE, page, false), 0);
}
END_TEST

START_TEST(uffd_writeprotect_enomem)
{
	map_fixed(f.mm, NOWHERE, 1, RW);
	expect_eq(uhmm_uffd_register(f.mm, NOWHERE, PAGE, UHMM_UFFD_WP | UHMM_UFFD_WP_UNPOPULATED),
		  0);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 1), 0);
	expect_eq(uhmm_uffd_writeprotect(f.mm, NOWHERE, PAGE, true), -ENOMEM);
}
END_TEST

START_TEST(change_prot_numa_einval)
{
	expect_eq(uhmm_change_prot_numa(f.mm, AT + 1, PAGE), -EINVAL);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, 1), -EINVAL);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, UHMM_TASK_SIZE), -EINVAL);
}
END_TEST

START_TEST(madvise_hwpoison_errors)
{
	struct uhmm_device_config config = { .size = sizeof(config),
					     .type = UHMM_MEMORY_DEVICE_COHERENT };
	uint64_t page[PAGE / 8];
	struct uhmm_mirror *mirror;
	struct uhmm_device *dev;
	struct uhmm_file *file;

	map_fixed(f.mm, NOWHERE, 4, RW);
	touch(f.mm, NOWHERE);
	put_word(f.mm, NOWHERE + PAGE, 1);
	put_word(f.mm, NOWHERE + 2 * PAGE, 2);
	expect_eq(uhmm_device_create(f.m, &config, &dev), 0);
	expect_eq(uhmm_mirror_open(dev, f.mm, &mirror), 0);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_DEV, NOWHERE + 2 * PAGE, 1, page, NULL),
		  0);
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, PAGE, &file), 0);
	expect_eq(uhmm_mmap(f.mm, NOWHERE + 3 * PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, file, 0,
			    NULL),
		  0);
	expect_eq(uhmm_madvise(f.mm, NOWHERE, PAGE, MADV_HWPOISON), -EBUSY); /* the zero page */
	/* The page before the device's is broken, once and for all. */
	expect_eq(uhmm_madvise(f.mm, NOWHERE + PAGE, 2 * PAGE, MADV_HWPOISON), -ENXIO);
	expect_eq(uhmm_madvise(f.mm, NOWHERE + PAGE, PAGE, MADV_HWPOISON), -EFAULT);
	expect_eq(get_word(f.mm, NOWHERE + 2 * PAGE), 2);
	expect_eq(uhmm_madvise(f.mm, NOWHERE + 3 * PAGE, PAGE, MADV_HWPOISON), 0);
	expect_eq(uhmm_madvise(f.mm, NOWHERE + 8 * PAGE, PAGE, MADV_HWPOISON), -EFAULT);
	uhmm_mirror_close(mirror);
	uhmm_device_destroy(dev);
	uhmm_file_put(file);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("device errors");
	TCase *tc = tcase_create("documented errors");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, gup_einval, 0, NR_ALL);
	tcase_add_loop_test(tc, gup_efault, 0, NR_ALL);
	tcase_add_loop_test(tc, gup_enomem, 0, NR_ALL);
	tcase_add_test(tc, make_device_exclusive_errors);
	tcase_add_test(tc, mmap_special_errors);
	tcase_add_test(tc, remap_and_insert_errors);
	tcase_add_test(tc, insert_page_errors);
	tcase_add_test(tc, uffd_errors);
	tcase_add_test(tc, uffd_writeprotect_enomem);
	tcase_add_test(tc, change_prot_numa_einval);
	tcase_add_test(tc, madvise_hwpoison_errors);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
