// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages of files under all that is made for anonymous memory: pins, exclusive entries, poison, swap. */
#define _GNU_SOURCE
#include <uhmm/special.h>

#include "mm/swap.h"
#include "unit/inside.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define ELSEWHERE 0x50000000UL
#define NPAGES 4

static struct uhmm_file *file;

static void setup(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .swap_bytes = 1 << 20 };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
}

static void teardown(void)
{
	uhmm_file_put(file);
	expect_eq(uhmm_munmap(f.mm, AT, NPAGES * PAGE), 0);
	expect_eq(uhmm_munmap(f.mm, ELSEWHERE, NPAGES * PAGE), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	fixture_destroy(&f);
}

/* A file whose i-th page holds i + 1, mapped at AT. */
static void map_file(enum uhmm_file_kind kind, int flags)
{
	expect_eq(uhmm_file_create(f.m, kind, NPAGES * PAGE, &file), 0);
	for (uint64_t i = 0; i < NPAGES; i++) {
		uint64_t word = i + 1;

		expect_eq(uhmm_file_write(file, i * PAGE, &word, sizeof(word)), sizeof(word));
	}
	expect_eq(uhmm_mmap(f.mm, AT, NPAGES * PAGE, RW, flags | MAP_FIXED, file, 0, NULL), 0);
}

static int64_t pin(uhmm_vaddr_t addr, unsigned int flags, bool fast, uhmm_pfn_t *pages)
{
	if (fast)
		return uhmm_pin_user_pages_fast(f.mm, addr, NPAGES, flags, pages);
	return uhmm_pin_user_pages(f.mm, addr, NPAGES, flags, pages);
}

/* A first write to a page of a regular file drops the lock on the way. */
START_TEST(shared_pages_are_pinned_where_they_are)
{
	uhmm_pfn_t pages[NPAGES];

	map_file(_i & 1 ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(pin(AT, UHMM_FOLL_WRITE, _i & 2, pages), NPAGES);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect_eq(pages[i], pfn_at(f.mm, AT + i * PAGE));
	expect_eq(uhmm_file_nr_dirty(file), NPAGES);
	fixture_verify(&f);
	/* Who has a pin keeps the page, even when its file has given it up. */
	expect_eq(uhmm_file_truncate(file, 0), 0);
	expect(pte_none(pte_at(f.mm, AT)));
	expect(folio_maybe_dma_pinned(pfn_to_frame(f.m, pages[0])));
	fixture_verify(&f);
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
}
END_TEST

START_TEST(regular_files_are_not_pinned_for_long_to_be_written)
{
	const unsigned int flags = UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM;
	uhmm_pfn_t pages[NPAGES];

	map_file(UHMM_FILE_REGULAR, MAP_SHARED);
	/* Mapped writable, so that the fast way finds all that it looks for. */
	for (unsigned int i = 0; i < NPAGES; i++)
		put_word(f.mm, AT + i * PAGE, 7);
	expect_eq(pin(AT, flags, _i, pages), -EFAULT);
	expect_eq(pin(AT, UHMM_FOLL_LONGTERM, _i, pages), NPAGES);
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	fixture_verify(&f);
}
END_TEST

START_TEST(memory_files_are)
{
	uhmm_pfn_t pages[NPAGES];

	map_file(UHMM_FILE_MEMORY, MAP_SHARED);
	expect_eq(pin(AT, UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM, _i, pages), NPAGES);
	expect_eq(pages[0], pfn_at(f.mm, AT));
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
}
END_TEST

START_TEST(a_long_pin_copies_what_is_private)
{
	uhmm_pfn_t pages[NPAGES];

	map_file(UHMM_FILE_REGULAR, MAP_PRIVATE);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(pin(AT, 0, _i, pages), NPAGES);
	expect(!folio_test_anon(pfn_to_frame(f.m, pages[0])));
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
	expect_eq(pin(AT, UHMM_FOLL_LONGTERM, _i, pages), NPAGES);
	for (unsigned int i = 0; i < NPAGES; i++) {
		expect(folio_test_anon(pfn_to_frame(f.m, pages[i])));
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
	fixture_verify(&f);
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
}
END_TEST

static int make_exclusive(uhmm_vaddr_t addr, uhmm_pfn_t *pfn)
{
	int err;

	uhmm_mmap_read_lock(f.mm);
	err = uhmm_make_device_exclusive(f.mm, addr, NULL, pfn);
	uhmm_mmap_read_unlock(f.mm);
	return err;
}

START_TEST(only_copies_become_exclusive)
{
	uhmm_pfn_t pfn;

	map_file(_i ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(make_exclusive(AT, &pfn), -EOPNOTSUPP);
	fixture_verify(&f);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, 1, NULL), 0);
	expect_eq(make_exclusive(ELSEWHERE, &pfn), 0);
	expect(leaf_is_device_exclusive(pte_at(f.mm, ELSEWHERE)));
	uhmm_unlock_put_page(f.m, pfn);
	fixture_verify(&f);
	/* A hole is no reason to take a copy away. */
	expect_eq(uhmm_file_punch_hole(file, 0, NPAGES * PAGE), 0);
	expect(leaf_is_device_exclusive(pte_at(f.mm, ELSEWHERE)));
	expect_eq(get_word(f.mm, ELSEWHERE), 2);
	expect_eq(uhmm_file_truncate(file, 0), 0);
	expect(pte_none(pte_at(f.mm, ELSEWHERE)));
}
END_TEST

/* Nobody gets at what a memory file has lost, until it gives the page up. */
START_TEST(a_broken_page_of_a_memory_file)
{
	uint64_t word = 9, words[2 * PAGE / 8];
	struct uhmm_mm *child;
	uhmm_pfn_t pfn;

	map_file(UHMM_FILE_MEMORY, MAP_SHARED);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, NPAGES * PAGE, RW, MAP_PRIVATE | MAP_FIXED, file, 0,
			    NULL),
		  0);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	pfn = pfn_at(f.mm, AT + PAGE);
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	expect_eq(uhmm_memory_failure(f.m, pfn), -EHWPOISON);
	fixture_verify(&f);
	expect_eq(leaf_type(pte_at(f.mm, AT + PAGE)), LEAF_HWPOISON);
	expect_eq(uhmm_cpu_read(f.mm, AT + PAGE, NULL, 1, NULL), SIGBUS);
	/* Who had it not mapped finds it in the cache; not around a fault. */
	expect_eq(get_word(child, AT), 1);
	expect(pte_none(pte_at(child, AT + PAGE)));
	expect_eq(uhmm_cpu_read(child, AT + PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_cpu_write(f.mm, ELSEWHERE + PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_file_read(file, PAGE, &word, sizeof(word)), -EIO);
	expect_eq(uhmm_file_read(file, 0, words, sizeof(words)), PAGE);
	expect_eq(uhmm_file_write(file, PAGE, &word, sizeof(word)), -EIO);
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
	/* A hole leaves the entry; truncation takes it. */
	expect_eq(uhmm_file_punch_hole(file, PAGE, PAGE), 0);
	expect_eq(get_word(child, AT + PAGE), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_file_truncate(file, PAGE), 0);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 1);
	fixture_verify(&f);
	uhmm_mmput(child);
}
END_TEST

/* What the disk has of a regular file is there still; who had stored something newer is told. */
START_TEST(a_broken_page_of_a_regular_file)
{
	uhmm_pfn_t pfn;

	map_file(UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(uhmm_file_writeback(file, 0, NPAGES), NPAGES);
	expect_eq(get_word(f.mm, AT), 1);
	if (_i)
		put_word(f.mm, AT, 7);
	pfn = pfn_at(f.mm, AT);
	expect_eq(uhmm_memory_failure(f.m, pfn), 0);
	fixture_verify(&f);
	expect_eq(uhmm_file_nr_cached(file), NPAGES - 1);
	expect_eq(uhmm_file_nr_dirty(file), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), _i ? SIGBUS : 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(get_word(f.mm, AT), 1);
	expect(pfn_at(f.mm, AT) != pfn);
	expect_eq(folio_ref_count(pfn_to_frame(f.m, pfn)), 1);
	fixture_verify(&f);
}
END_TEST

/* Who syncs the file is told that something of it is lost, once: by whatever mapping, or by the file. */
START_TEST(a_loss_is_told_once)
{
	map_file(UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, PAGE, RW, MAP_SHARED | MAP_FIXED, file, 0, NULL), 0);
	expect_eq(uhmm_file_fsync(file), 0);
	expect_eq(uhmm_file_nr_dirty(file), 0);
	/* A clean page is no loss. */
	touch(f.mm, AT);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_HWPOISON), 0);
	expect_eq(uhmm_file_fsync(file), 0);
	for (unsigned int way = 0; way < 3; way++) {
		put_word(f.mm, AT + 2 * PAGE, 7);
		put_word(f.mm, AT + 3 * PAGE, 8);
		expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_HWPOISON), 0);
		expect_eq(uhmm_msync(f.mm, AT, NPAGES * PAGE, MS_ASYNC), 0);
		expect(uhmm_file_writeback(file, 0, NPAGES) >= 0);
		if (way == 0)
			expect_eq(uhmm_file_fsync(file), -EIO);
		else if (way == 1)
			expect_eq(uhmm_msync(f.mm, AT, NPAGES * PAGE, MS_SYNC), -EIO);
		else
			expect_eq(uhmm_msync(f.mm, ELSEWHERE, PAGE, MS_SYNC), -EIO);
		expect_eq(uhmm_file_fsync(file), 0);
		expect_eq(uhmm_msync(f.mm, AT, NPAGES * PAGE, MS_SYNC), 0);
		expect_eq(uhmm_msync(f.mm, ELSEWHERE, PAGE, MS_SYNC), 0);
		expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_DONTNEED), 0);
		expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
		expect_eq(get_word(f.mm, AT + 3 * PAGE), 8);
	}
}
END_TEST

/* What comes behind a mapping of which something is lost is not written back then. */
START_TEST(msync_ends_where_something_is_lost)
{
	struct uhmm_file *behind;

	map_file(UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, PAGE, &behind), 0);
	expect_eq(uhmm_mmap(f.mm, AT + PAGE, PAGE, RW, MAP_SHARED | MAP_FIXED, behind, 0, NULL), 0);
	put_word(f.mm, AT, 7);
	put_word(f.mm, AT + PAGE, 8);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_HWPOISON), 0);
	expect_eq(uhmm_msync(f.mm, AT, 2 * PAGE, MS_SYNC), -EIO);
	expect_eq(uhmm_file_nr_dirty(behind), 1);
	expect_eq(uhmm_msync(f.mm, AT, 2 * PAGE, MS_SYNC), 0);
	expect_eq(uhmm_file_nr_dirty(behind), 0);
	uhmm_file_put(behind);
}
END_TEST

/* It has nowhere to write to, and so nothing to tell. */
START_TEST(a_loss_of_a_memory_file_is_not_told)
{
	map_file(UHMM_FILE_MEMORY, MAP_SHARED);
	put_word(f.mm, AT, 7);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_HWPOISON), 0);
	expect_eq(uhmm_msync(f.mm, AT, PAGE, MS_SYNC), 0);
	expect_eq(uhmm_file_fsync(file), 0);
}
END_TEST

/* A pin stays valid, but Linux does not call that a success. */
START_TEST(a_broken_page_that_is_pinned)
{
	uhmm_pfn_t pages[NPAGES];

	map_file(_i ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(pin(AT, UHMM_FOLL_WRITE, false, pages), NPAGES);
	expect_eq(uhmm_memory_failure(f.m, pages[0]), -EBUSY);
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_HWPOISON), -EBUSY);
	fixture_verify(&f);
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
	fixture_verify(&f);
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_HWPOISON), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + 2 * PAGE, NULL, 1, NULL), SIGBUS);
}
END_TEST

START_TEST(pages_of_files_grow_cold)
{
	map_file(_i ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(uhmm_madvise(f.mm, AT, NPAGES * PAGE, MADV_COLD), 0);
	expect(!pte_young(pte_at(f.mm, AT)));
	expect_eq(uhmm_madvise(f.mm, AT, NPAGES * PAGE, MADV_FREE), -EINVAL);
	fixture_verify(&f);
}
END_TEST

/* Copies go by an offset of their own, from swap, too; a hole leaves them there. */
START_TEST(copies_are_swapped)
{
	struct uhmm_mm *child;

	map_file(UHMM_FILE_MEMORY, MAP_PRIVATE);
	put_word(f.mm, AT + PAGE, 12);
	put_word(f.mm, AT + 2 * PAGE, 13);
	if (_i)
		expect_eq(uhmm_mremap(f.mm, AT, NPAGES * PAGE, NPAGES * PAGE,
				      MREMAP_MAYMOVE | MREMAP_FIXED, ELSEWHERE, NULL),
			  0);
	else
		expect_eq(uhmm_mremap(f.mm, AT, NPAGES * PAGE, NPAGES * PAGE,
				      MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, ELSEWHERE,
				      NULL),
			  0);
	expect_eq(uhmm_madvise(f.mm, ELSEWHERE, NPAGES * PAGE, MADV_PAGEOUT), 0);
	expect_eq(uhmm__swap_used(f.m), 2);
	fixture_verify(&f);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_file_punch_hole(file, 0, NPAGES * PAGE), 0);
	expect_eq(get_word(f.mm, ELSEWHERE + PAGE), 12);
	expect_eq(get_word(child, ELSEWHERE + PAGE), 12);
	expect_eq(get_word(child, ELSEWHERE + 3 * PAGE), 0);
	fixture_verify(&f);
	/* The end of the file takes them from swap. */
	expect_eq(uhmm_file_truncate(file, 0), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	fixture_verify(&f);
	uhmm_mmput(child);
}
END_TEST

START_TEST(guard_regions_of_files)
{
	struct uhmm_mm *child;

	map_file(UHMM_FILE_REGULAR, _i ? MAP_SHARED : MAP_PRIVATE);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_GUARD_INSTALL), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + PAGE, NULL, 1, NULL), SIGSEGV);
	expect_eq(uhmm_file_truncate(file, 0), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + PAGE, NULL, 1, NULL), SIGSEGV);
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_read(child, AT + PAGE, NULL, 1, NULL), SIGSEGV);
	uhmm_mmput(child);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_GUARD_REMOVE), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + PAGE, NULL, 1, NULL), SIGBUS);
	fixture_verify(&f);
}
END_TEST

START_TEST(hints_on_pages_of_files)
{
	map_file(UHMM_FILE_REGULAR, MAP_SHARED);
	expect_eq(get_word(f.mm, AT), 1);
	/* They were written by system calls: dirty ones are let alone. */
	expect_eq(uhmm_change_prot_numa(f.mm, AT, NPAGES * PAGE), 0);
	expect_eq(uhmm_file_writeback(file, 0, NPAGES), NPAGES);
	expect_eq(uhmm_change_prot_numa(f.mm, AT, NPAGES * PAGE), NPAGES);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 1);
	expect(!pte_protnone(pte_at(f.mm, AT)) && !pte_write(pte_at(f.mm, AT)));
	put_word(f.mm, AT + PAGE, 9);
	expect(pte_write(pte_at(f.mm, AT + PAGE)));
	fixture_verify(&f);
}
END_TEST

START_TEST(only_private_anonymous_memory_is_a_stack)
{
	map_file(UHMM_FILE_MEMORY, MAP_SHARED);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, file, 0, NULL),
		  -EINVAL);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN,
			    NULL, 0, NULL),
		  -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file_pages");
	TCase *tc = tcase_create("pages of files");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, shared_pages_are_pinned_where_they_are, 0, 4);
	tcase_add_loop_test(tc, regular_files_are_not_pinned_for_long_to_be_written, 0, 2);
	tcase_add_loop_test(tc, memory_files_are, 0, 2);
	tcase_add_loop_test(tc, a_long_pin_copies_what_is_private, 0, 2);
	tcase_add_loop_test(tc, only_copies_become_exclusive, 0, 2);
	tcase_add_test(tc, a_broken_page_of_a_memory_file);
	tcase_add_loop_test(tc, a_broken_page_of_a_regular_file, 0, 2);
	tcase_add_test(tc, a_loss_is_told_once);
	tcase_add_test(tc, msync_ends_where_something_is_lost);
	tcase_add_test(tc, a_loss_of_a_memory_file_is_not_told);
	tcase_add_loop_test(tc, a_broken_page_that_is_pinned, 0, 2);
	tcase_add_loop_test(tc, pages_of_files_grow_cold, 0, 2);
	tcase_add_loop_test(tc, copies_are_swapped, 0, 2);
	tcase_add_loop_test(tc, guard_regions_of_files, 0, 2);
	tcase_add_test(tc, hints_on_pages_of_files);
	tcase_add_test(tc, only_private_anonymous_memory_is_a_stack);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
