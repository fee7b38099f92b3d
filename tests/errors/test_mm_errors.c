// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Each errno that machine.h, mm.h and file.h document, by public calls alone: one test for each.
 * After an error outputs are untouched and the verifier finds nothing; the fixture looks at the end of
 * each test.
 */
#define _GNU_SOURCE
#include "errors/errors.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define NOWHERE 0x50000000UL

static uint64_t buf[8 * PAGE / 8];

/* ---- machine.h ---- */

START_TEST(machine_create_einval)
{
	struct uhmm_machine_config good = { .size = sizeof(good) }, bad;
	struct uhmm_machine *m = UNTOUCHED;

#define BAD(what)                                                                                  \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.what;                                                                          \
		expect_eq(uhmm_machine_create(&bad, &m), -EINVAL);                                 \
	} while (0)
	BAD(size = 0);
	BAD(size = sizeof(bad) - 8);
	BAD(nr_cpus = UHMM_MAX_CPUS + 1);
	BAD(content = (enum uhmm_content)9);
	BAD(combined_wait = (enum uhmm_combined_wait)9);
	BAD(device_private_write = (enum uhmm_device_private_write)9);
	BAD(fault_folio = (enum uhmm_fault_folio)9);
	BAD(device_private_wait = (enum uhmm_device_private_wait)5);
	BAD(migration_blocked_by = (enum uhmm_migration_blocked_by)2);
	BAD(lru_drain = (enum uhmm_lru_drain)2);
	BAD(range_fault_resched = (enum uhmm_range_fault_resched)2);
	BAD(large_hole = (enum uhmm_large_hole)9);
	BAD(device_huge_pfn = (enum uhmm_device_huge_pfn)9);
	BAD(huge_device_wait = (enum uhmm_huge_device_wait)9);
	BAD(huge_device_unmap = (enum uhmm_huge_device_unmap)9);
	BAD(split_lock = (enum uhmm_split_lock)9);
	BAD(split_flush = (enum uhmm_split_flush)9);
	BAD(waiters_bit = (enum uhmm_waiters_bit)9);
	BAD(lock_order = (enum uhmm_lock_order)9);
	BAD(ram_bytes = PAGE);
	BAD(ram_bytes = 1UL << 60);
	BAD(device_bytes = 1UL << 60);
	BAD(swap_bytes = 1UL << 60);
	BAD(swap_bytes = PAGE / 2);
	BAD(swap = (enum uhmm_swap)9);
#undef BAD
	expect(m == UNTOUCHED);
}
END_TEST

START_TEST(machine_inject_einval)
{
	expect_eq(uhmm_machine_inject(f.m, UHMM_NR_INJECT, 1, 1), -EINVAL);
}
END_TEST

START_TEST(task_create_einval)
{
	struct uhmm_task *t = UNTOUCHED;
	struct uhmm_machine *other;

	expect_eq(uhmm_task_create(f.m, f.mm, 2, "t", &t), -EINVAL);
	expect_eq(uhmm_machine_create(NULL, &other), 0);
	expect_eq(uhmm_task_create(other, f.mm, 0, "t", &t), -EINVAL);
	uhmm_machine_destroy(other);
	expect(t == UNTOUCHED);
}
END_TEST

START_TEST(task_create_enomem)
{
	struct uhmm_task *t = UNTOUCHED;

	WITHOUT_MEMORY(uhmm_task_create(f.m, f.mm, 0, "t", &t));
	expect(t == UNTOUCHED);
}
END_TEST

/* Calls that need a task say so. */
START_TEST(outside_any_task_einval)
{
	uhmm_vaddr_t at = 7;

	uhmm_task_leave();
	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, ANON, NULL, 0, &at), -EINVAL);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), -EINVAL);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), -EINVAL);
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), -EINVAL);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 1, buf, NULL), -EINVAL);
	uhmm_task_enter(f.task);
	expect_eq(at, 7);
}
END_TEST

/* ---- mm.h ---- */

START_TEST(mm_create_enomem)
{
	struct uhmm_mm *mm = UNTOUCHED;

	WITHOUT_MEMORY(uhmm_mm_create(f.m, &mm));
	expect(mm == UNTOUCHED);
}
END_TEST

START_TEST(mm_fork_enomem)
{
	struct uhmm_mm *mm = UNTOUCHED;

	WITHOUT_MEMORY(uhmm_mm_fork(f.mm, &mm));
	expect(mm == UNTOUCHED);
}
END_TEST

START_TEST(mmap_einval)
{
	uhmm_vaddr_t at = 7;

	expect_eq(uhmm_mmap(f.mm, 0, 0, RW, ANON, NULL, 0, &at), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, NOWHERE + 1, PAGE, RW, ANON | MAP_FIXED, NULL, 0, &at), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, MAP_ANONYMOUS, NULL, 0, &at), -EINVAL);
	expect_eq(at, 7);
}
END_TEST

START_TEST(mmap_enomem)
{
	uhmm_vaddr_t at = 7;

	expect_eq(uhmm_mmap(f.mm, 0, UHMM_TASK_SIZE + PAGE, RW, ANON, NULL, 0, &at), -ENOMEM);
	expect_eq(uhmm_mmap(f.mm, 0, UINT64_MAX - 5, RW, ANON, NULL, 0, &at), -ENOMEM);
	expect_eq(uhmm_mmap(f.mm, UHMM_TASK_SIZE - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, NULL, 0,
			    &at),
		  -ENOMEM);
	WITHOUT_MEMORY(uhmm_mmap(f.mm, NOWHERE, PAGE, PROT_READ, ANON | MAP_FIXED, NULL, 0, &at));
	expect_eq(at, 7);
}
END_TEST

START_TEST(mmap_eexist)
{
	uhmm_vaddr_t at = 7;

	expect_eq(uhmm_mmap(f.mm, AT - PAGE, 2 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, NULL, 0,
			    &at),
		  -EEXIST);
	expect_eq(at, 7);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(mmap_eopnotsupp)
{
	uhmm_vaddr_t at = 7;

	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, ANON | MAP_HUGETLB, NULL, 0, &at), -EOPNOTSUPP);
	expect_eq(at, 7);
}
END_TEST

START_TEST(mmap_ebadf)
{
	uhmm_vaddr_t at = 7;

	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, MAP_PRIVATE, NULL, 0, &at), -EBADF);
	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, MAP_SHARED, NULL, 0, &at), -EBADF);
	expect_eq(at, 7);
}
END_TEST

static struct uhmm_file *a_file(enum uhmm_file_kind kind, uint64_t npages)
{
	struct uhmm_file *file;

	expect_eq(uhmm_file_create(f.m, kind, npages * PAGE, &file), 0);
	return file;
}

START_TEST(mmap_eoverflow)
{
	struct uhmm_file *file = a_file(UHMM_FILE_MEMORY, 1);
	uhmm_vaddr_t at = 7;

	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, MAP_SHARED, file, UINT64_MAX, &at), -EOVERFLOW);
	expect_eq(uhmm_mmap(f.mm, 0, PAGE, RW, MAP_SHARED, file, 1UL << 51, &at), -EOVERFLOW);
	expect_eq(at, 7);
	uhmm_file_put(file);
}
END_TEST

START_TEST(file_create_errors)
{
	struct uhmm_file *file = NULL;

	expect_eq(uhmm_file_create(f.m, (enum uhmm_file_kind)7, PAGE, &file), -EINVAL);
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, UINT64_MAX, &file), -EFBIG);
	WITHOUT_MEMORY(uhmm_file_create(f.m, UHMM_FILE_REGULAR, PAGE, &file));
	expect(!file);
}
END_TEST

START_TEST(file_calls_errors)
{
	struct uhmm_file *file = a_file(UHMM_FILE_REGULAR, 4);
	char byte = 1;

	expect_eq(uhmm_file_truncate(file, UINT64_MAX), -EFBIG);
	expect_eq(uhmm_file_size(file), 4 * PAGE);
	expect_eq(uhmm_file_punch_hole(file, PAGE, 0), -EINVAL);
	expect_eq(uhmm_file_punch_hole(file, PAGE, UINT64_MAX), -EINVAL);
	expect_eq(uhmm_file_write(file, UINT64_MAX - 1, &byte, 1), -EFBIG);
	expect_eq(uhmm_file_write(file, 4 * PAGE, &byte, UINT64_MAX), -EFBIG);
	uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 0);
	expect_eq(uhmm_file_populate(file, 0, 4), -ENOMEM);
	uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 0);
	expect_eq(uhmm_file_read(file, 0, &byte, 1), -ENOMEM);
	uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 0);
	expect_eq(uhmm_file_write(file, 6 * PAGE, &byte, 1), -ENOMEM);
	uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 0, 0);
	expect_eq(uhmm_file_size(file), 4 * PAGE);
	expect_eq(uhmm_file_nr_cached(file), 0);
	uhmm_file_put(file);
}
END_TEST

START_TEST(msync_errors)
{
	expect_eq(uhmm_msync(f.mm, AT + 1, PAGE, MS_SYNC), -EINVAL);
	expect_eq(uhmm_msync(f.mm, AT, PAGE, MS_SYNC | MS_ASYNC), -EINVAL);
	expect_eq(uhmm_msync(f.mm, AT, PAGE, 64), -EINVAL);
	expect_eq(uhmm_msync(f.mm, AT - PAGE, 2 * PAGE, MS_SYNC), -ENOMEM);
	expect_eq(uhmm_munmap(f.mm, AT, 4 * PAGE), 0);
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0, NULL), 0);
	expect_eq(uhmm_msync(f.mm, AT, PAGE, MS_INVALIDATE), -EBUSY);
}
END_TEST

START_TEST(madvise_of_files)
{
	struct uhmm_file *file = a_file(UHMM_FILE_MEMORY, 1);

	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_REMOVE), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, 0, NULL), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_REMOVE), -EACCES);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_FREE), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, 18 /* MADV_WIPEONFORK */), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	uhmm_file_put(file);
}
END_TEST

START_TEST(mremap_doubles_shared_memory_only)
{
	uhmm_vaddr_t out = 7;

	expect_eq(uhmm_mremap(f.mm, AT, 0, PAGE, MREMAP_MAYMOVE, 0, &out), -EINVAL);
	expect_eq(out, 7);
}
END_TEST

START_TEST(munmap_einval)
{
	expect_eq(uhmm_munmap(f.mm, AT + 1, PAGE), -EINVAL);
	expect_eq(uhmm_munmap(f.mm, AT, 0), -EINVAL);
	expect_eq(uhmm_munmap(f.mm, UHMM_TASK_SIZE, PAGE), -EINVAL);
	expect_eq(uhmm_munmap(f.mm, AT, UHMM_TASK_SIZE), -EINVAL);
}
END_TEST

START_TEST(munmap_enomem)
{
	/* A hole in the middle makes two mappings of one. */
	WITHOUT_MEMORY(uhmm_munmap(f.mm, AT + PAGE, PAGE));
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

START_TEST(mprotect_einval)
{
	expect_eq(uhmm_mprotect(f.mm, AT + 1, PAGE, RW), -EINVAL);
}
END_TEST

START_TEST(mprotect_enomem)
{
	expect_eq(uhmm_mprotect(f.mm, NOWHERE, PAGE, RW), -ENOMEM);
	/* What comes before the hole is changed. */
	expect_eq(uhmm_mprotect(f.mm, AT + 7 * PAGE, 2 * PAGE, PROT_NONE), -ENOMEM);
	expect_eq(uhmm_cpu_read(f.mm, AT + 7 * PAGE, NULL, 1, NULL), SIGSEGV);
	WITHOUT_MEMORY(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ));
	put_word(f.mm, AT + PAGE, 2);
}
END_TEST

START_TEST(mremap_einval)
{
	const int move = MREMAP_MAYMOVE | MREMAP_FIXED;

	expect_eq(uhmm_mremap(f.mm, AT + 1, PAGE, PAGE, 0, 0, NULL), -EINVAL);
	expect_eq(uhmm_mremap(f.mm, AT, PAGE, 0, 0, 0, NULL), -EINVAL);
	expect_eq(uhmm_mremap(f.mm, AT, PAGE, PAGE, 1 << 20, 0, NULL), -EINVAL);
	expect_eq(uhmm_mremap(f.mm, AT, PAGE, PAGE, MREMAP_FIXED, NOWHERE, NULL), -EINVAL);
	expect_eq(uhmm_mremap(f.mm, AT, PAGE, PAGE, move, NOWHERE + 1, NULL), -EINVAL);
	expect_eq(uhmm_mremap(f.mm, AT, 2 * PAGE, 2 * PAGE, move, AT + PAGE, NULL), -EINVAL);
	expect_eq(uhmm_mremap(f.mm, AT, PAGE, PAGE, move, UHMM_TASK_SIZE, NULL), -EINVAL);
}
END_TEST

START_TEST(mremap_efault)
{
	uhmm_vaddr_t out = 7;

	expect_eq(uhmm_mremap(f.mm, NOWHERE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, &out), -EFAULT);
	expect_eq(uhmm_mremap(f.mm, AT + 7 * PAGE, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE, 0, &out),
		  -EFAULT);
	expect_eq(out, 7);
}
END_TEST

START_TEST(mremap_enomem)
{
	uhmm_vaddr_t out = 7;

	map_fixed(f.mm, AT + 8 * PAGE, 1, PROT_READ);
	/* No room, and it may not move. */
	expect_eq(uhmm_mremap(f.mm, AT, 8 * PAGE, 9 * PAGE, 0, 0, &out), -ENOMEM);
	WITHOUT_MEMORY(
		uhmm_mremap(f.mm, AT, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, NOWHERE, &out));
	expect_eq(out, 7);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

START_TEST(madvise_einval)
{
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, 12345), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT + 1, PAGE, MADV_DONTNEED), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, UINT64_MAX - PAGE, MADV_DONTNEED), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, NOWHERE, PAGE, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0, NULL),
		  0);
	expect_eq(uhmm_madvise(f.mm, NOWHERE, PAGE, MADV_DONTNEED), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, NOWHERE, PAGE, MADV_FREE), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, NOWHERE, PAGE, MADV_COLD), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, NOWHERE, PAGE, MADV_PAGEOUT), -EINVAL);
}
END_TEST

START_TEST(madvise_collapse)
{
	const uhmm_vaddr_t at = 0x50000000UL;
	uint64_t word = 1;

	map_fixed(f.mm, at, 1024, RW);
	expect_eq(uhmm_madvise(f.mm, at, UHMM_PMD_SIZE, MADV_COLLAPSE),
		  -EINVAL); /* nothing there */
	put_word(f.mm, at, word);
	WITHOUT_MEMORY(uhmm_madvise(f.mm, at, UHMM_PMD_SIZE, MADV_COLLAPSE));
	expect_eq(uhmm_munmap(f.mm, at + UHMM_PMD_SIZE, PAGE), 0);
	expect_eq(uhmm_madvise(f.mm, at, 2 * UHMM_PMD_SIZE, MADV_COLLAPSE), -ENOMEM);
	expect_eq(uhmm_madvise(f.mm, at, UHMM_PMD_SIZE, MADV_NOHUGEPAGE), 0);
	expect_eq(uhmm_madvise(f.mm, at, UHMM_PMD_SIZE, MADV_COLLAPSE), -EINVAL);
	expect_eq(get_word(f.mm, at), word);
}
END_TEST

START_TEST(madvise_enomem)
{
	expect_eq(uhmm_madvise(f.mm, NOWHERE, PAGE, MADV_DONTNEED), -ENOMEM);
	/* The rest is done. */
	expect_eq(uhmm_madvise(f.mm, AT - PAGE, 2 * PAGE, MADV_DONTNEED), -ENOMEM);
	expect_eq(get_word(f.mm, AT), 0);
	expect_eq(uhmm_madvise(f.mm, AT + 7 * PAGE, 2 * PAGE, MADV_POPULATE_READ), -ENOMEM);
	WITHOUT_MEMORY(uhmm_madvise(f.mm, AT + 5 * PAGE, PAGE, MADV_POPULATE_WRITE));
}
END_TEST

START_TEST(madvise_eagain)
{
	no_memory();
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_DONTFORK), -EAGAIN);
	memory_again();
}
END_TEST

START_TEST(madvise_eopnotsupp)
{
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_SOFT_OFFLINE), -EOPNOTSUPP);
}
END_TEST

START_TEST(brk_enomem)
{
	uhmm_vaddr_t end = 7;

	uhmm_mm_set_brk(f.mm, NOWHERE);
	WITHOUT_MEMORY(uhmm_brk(f.mm, NOWHERE + PAGE, &end));
	expect_eq(end, NOWHERE); /* out: where it still is */
}
END_TEST

START_TEST(cpu_access_signals_and_enomem)
{
	struct uhmm_access acc;

	expect_eq(uhmm_cpu_read(f.mm, NOWHERE, buf, 1, &acc), SIGSEGV);
	expect_eq(acc.fault_addr, NOWHERE);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_cpu_write(f.mm, AT, buf, 1, &acc), SIGSEGV);
	expect_eq(acc.done, 0);
	WITHOUT_MEMORY(uhmm_cpu_write(f.mm, AT + 5 * PAGE, buf, 1, &acc));
}
END_TEST

START_TEST(pagemap_einval)
{
	uint64_t entry = 7;

	expect_eq(uhmm_pagemap(f.mm, AT + 1, 1, &entry), -EINVAL);
	expect_eq(uhmm_pagemap(f.mm, UHMM_TASK_SIZE, 1, &entry), -EINVAL);
	expect_eq(entry, 7);
}
END_TEST

START_TEST(machine_compare_einval)
{
	struct uhmm_machine_config config = { .size = sizeof(config),
					      .content = UHMM_CONTENT_BYTES };
	struct uhmm_machine *other;

	expect_eq(uhmm_machine_create(&config, &other), 0);
	expect_eq(uhmm_machine_compare(f.m, other, UHMM_COMPARE_STATE, NULL, NULL), -EINVAL);
	expect_eq(uhmm_machine_compare(f.m, f.m, (enum uhmm_compare)9, NULL, NULL), -EINVAL);
	expect_eq(uhmm_machine_compare(f.m, f.m, UHMM_COMPARE_STATE, NULL, NULL), 0);
	uhmm_machine_destroy(other);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mm errors");
	TCase *tc = tcase_create("documented errors");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, machine_create_einval);
	tcase_add_test(tc, machine_inject_einval);
	tcase_add_test(tc, task_create_einval);
	tcase_add_test(tc, task_create_enomem);
	tcase_add_test(tc, outside_any_task_einval);
	tcase_add_test(tc, mm_create_enomem);
	tcase_add_test(tc, mm_fork_enomem);
	tcase_add_test(tc, mmap_einval);
	tcase_add_test(tc, mmap_enomem);
	tcase_add_test(tc, mmap_eexist);
	tcase_add_test(tc, mmap_eopnotsupp);
	tcase_add_test(tc, mmap_ebadf);
	tcase_add_test(tc, mmap_eoverflow);
	tcase_add_test(tc, file_create_errors);
	tcase_add_test(tc, file_calls_errors);
	tcase_add_test(tc, msync_errors);
	tcase_add_test(tc, madvise_of_files);
	tcase_add_test(tc, mremap_doubles_shared_memory_only);
	tcase_add_test(tc, munmap_einval);
	tcase_add_test(tc, munmap_enomem);
	tcase_add_test(tc, mprotect_einval);
	tcase_add_test(tc, mprotect_enomem);
	tcase_add_test(tc, mremap_einval);
	tcase_add_test(tc, mremap_efault);
	tcase_add_test(tc, mremap_enomem);
	tcase_add_test(tc, madvise_einval);
	tcase_add_test(tc, madvise_enomem);
	tcase_add_test(tc, madvise_collapse);
	tcase_add_test(tc, madvise_eagain);
	tcase_add_test(tc, madvise_eopnotsupp);
	tcase_add_test(tc, brk_enomem);
	tcase_add_test(tc, cpu_access_signals_and_enomem);
	tcase_add_test(tc, pagemap_einval);
	tcase_add_test(tc, machine_compare_einval);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
