// SPDX-License-Identifier: LGPL-2.1-or-later
/* Files: shared and private mappings, fault-around, dirtying, truncation, rmap, migration. */
#define _GNU_SOURCE
#include "unit/inside.h"

#define SHARED_AT AT
#define PRIVATE_AT (AT + 0x400000UL)

static struct uhmm_file *file;

static void make_file(enum uhmm_file_kind kind, uint64_t npages)
{
	expect_eq(uhmm_file_create(f.m, kind, npages * PAGE, &file), 0);
}

static void done_file(void)
{
	uhmm_file_put(file);
	file = NULL;
}

static void map_file(struct uhmm_mm *mm, uhmm_vaddr_t at, uint64_t npages, int prot, int flags,
		     uint64_t pgoff)
{
	expect_eq(uhmm_mmap(mm, at, npages * PAGE, prot, flags | MAP_FIXED, file, pgoff, NULL), 0);
}

static uint64_t file_word(uint64_t index)
{
	uint64_t word = 0;

	expect_eq(uhmm_file_read(file, index * PAGE, &word, sizeof(word)), sizeof(word));
	return word;
}

static void set_file_word(uint64_t index, uint64_t word)
{
	expect_eq(uhmm_file_write(file, index * PAGE, &word, sizeof(word)), sizeof(word));
}

static void fill_file(uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		set_file_word(first, first);
}

static int write_signal(uhmm_vaddr_t at)
{
	return uhmm_cpu_write(f.mm, at, NULL, 1, NULL);
}

static unsigned int mapped_in(struct uhmm_mm *mm, uhmm_vaddr_t at, unsigned int npages)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < npages; i++)
		nr += !pte_none(pte_at(mm, at + i * PAGE));
	return nr;
}

static bool writable(uhmm_vaddr_t at)
{
	return pte_write(pte_at(f.mm, at));
}

/* ---- sharing ---- */

START_TEST(shared_mappings_are_the_file)
{
	make_file(UHMM_FILE_MEMORY, 8);
	map_file(f.mm, AT, 8, RW, MAP_SHARED, 0);
	put_word(f.mm, AT + 2 * PAGE, 17);
	expect_eq(file_word(2), 17);
	set_file_word(3, 18);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 18);
	/* An alias at another offset, in the same process. */
	map_file(f.mm, PRIVATE_AT, 4, RW, MAP_SHARED, 2);
	expect_eq(get_word(f.mm, PRIVATE_AT), 17);
	put_word(f.mm, PRIVATE_AT + PAGE, 19);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 19);
	expect_eq(pfn_at(f.mm, AT + 2 * PAGE), pfn_at(f.mm, PRIVATE_AT));
	expect(!(pagemap_of(f.mm, AT + 2 * PAGE) & UHMM_PM_MMAP_EXCLUSIVE));
	expect(pagemap_of(f.mm, AT + 2 * PAGE) & UHMM_PM_FILE);
	done_file();
	/* The mappings keep it. */
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 19);
}
END_TEST

START_TEST(private_mappings_copy_on_write)
{
	make_file(UHMM_FILE_MEMORY, 4);
	set_file_word(0, 5);
	set_file_word(1, 6);
	map_file(f.mm, AT, 4, RW, MAP_PRIVATE, 0);
	expect_eq(get_word(f.mm, AT), 5);
	expect(!writable(AT));
	/* What is not yet copied follows the file. */
	set_file_word(0, 7);
	expect_eq(get_word(f.mm, AT), 7);
	put_word(f.mm, AT, 8);		  /* read-only before */
	put_word(f.mm, AT + 2 * PAGE, 9); /* no entry before */
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FILE_COW), 1);
	set_file_word(0, 10);
	expect_eq(get_word(f.mm, AT), 8);
	expect_eq(file_word(2), 0);
	expect(!(pagemap_of(f.mm, AT) & UHMM_PM_FILE));
	expect(pagemap_of(f.mm, AT + PAGE) & UHMM_PM_FILE);
	/* Given up, it is the file's again. */
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(get_word(f.mm, AT), 10);
	done_file();
}
END_TEST

START_TEST(shared_anonymous_memory_stays_shared_across_fork)
{
	struct uhmm_mm *child;

	expect_eq(uhmm_mmap(f.mm, AT, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, NULL, 7,
			    NULL),
		  0);
	put_word(f.mm, AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	/* No entries are copied: the child faults for itself. */
	expect_eq(mapped_in(child, AT, 4), 0);
	expect_eq(get_word(child, AT), 1);
	put_word(child, AT + PAGE, 2);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	expect_eq(pfn_at(f.mm, AT), pfn_at(child, AT));
	fixture_verify(&f);
	uhmm_mmput(child);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

START_TEST(fork_copies_entries_where_pages_were_copied)
{
	struct uhmm_mm *child;

	make_file(UHMM_FILE_MEMORY, 4);
	map_file(f.mm, AT, 4, RW, MAP_PRIVATE, 0);
	touch(f.mm, AT);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(mapped_in(child, AT, 4), 0); /* no anon_vma */
	uhmm_mmput(child);
	put_word(f.mm, AT, 3);
	touch(f.mm, AT + PAGE);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(mapped_in(child, AT, 4), mapped_in(f.mm, AT, 4));
	expect_eq(mapped_in(child, AT, 4), 2);
	put_word(child, AT, 4);
	expect_eq(get_word(f.mm, AT), 3);
	fixture_verify(&f);
	uhmm_mmput(child);
	done_file();
}
END_TEST

/* ---- dirtying ---- */

START_TEST(regular_files_hear_of_the_first_write)
{
	make_file(UHMM_FILE_REGULAR, 4);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	touch(f.mm, AT);
	expect(!writable(AT));
	expect_eq(uhmm_file_nr_dirty(file), 0);
	put_word(f.mm, AT, 1);
	expect(writable(AT));
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FILE_WP), 1);
	put_word(f.mm, AT + PAGE, 2);
	expect_eq(uhmm_file_nr_dirty(file), 2);
	/* Written back, the next store faults again. */
	expect_eq(uhmm_file_writeback(file, 0, 4), 2);
	expect_eq(uhmm_file_nr_dirty(file), 0);
	expect(!writable(AT) && !writable(AT + PAGE));
	expect_eq(uhmm_file_writeback(file, 0, 4), 0);
	put_word(f.mm, AT, 3);
	expect_eq(uhmm_file_nr_dirty(file), 1);
	expect_eq(uhmm_msync(f.mm, AT, 4 * PAGE, MS_SYNC), 0);
	expect_eq(uhmm_file_nr_dirty(file), 0);
	expect_eq(file_word(0), 3);
	done_file();
}
END_TEST

START_TEST(memory_files_are_writable_at_once)
{
	make_file(UHMM_FILE_MEMORY, 4);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	touch(f.mm, AT);
	expect(writable(AT));
	put_word(f.mm, AT, 1);
	expect_eq(uhmm_file_writeback(file, 0, 4), 0);
	/* The entry knew of the store; the page learns of it when the entry goes. */
	expect_eq(uhmm_file_nr_dirty(file), 0);
	expect_eq(uhmm_munmap(f.mm, AT, 4 * PAGE), 0);
	expect_eq(uhmm_file_nr_dirty(file), 1);
	done_file();
}
END_TEST

START_TEST(writeback_reaches_every_mapping)
{
	struct uhmm_mm *child;
	struct watcher w;

	make_file(UHMM_FILE_REGULAR, 2);
	map_file(f.mm, AT, 2, RW, MAP_SHARED, 0);
	put_word(f.mm, AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	put_word(child, AT, 2);
	watch(&w, child, AT, 1);
	expect_eq(uhmm_file_writeback(file, 0, 2), 1);
	expect_eq(w.events[UHMM_MMU_NOTIFY_PROTECTION_PAGE], 1);
	unwatch(&w);
	expect(!pte_write(pte_at(child, AT)) && !writable(AT));
	uhmm_mmput(child);
	done_file();
}
END_TEST

START_TEST(protection_of_shared_mappings)
{
	make_file(UHMM_FILE_REGULAR, 2);
	map_file(f.mm, AT, 2, RW, MAP_SHARED, 0);
	put_word(f.mm, AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, PROT_READ), 0);
	expect_eq(write_signal(AT), SIGSEGV);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, RW), 0);
	/* Dirty: the file system has been told of it. */
	expect(writable(AT));
	done_file();
}
END_TEST

/* ---- around a fault ---- */

START_TEST(read_faults_map_what_is_cached_around)
{
	make_file(UHMM_FILE_MEMORY, 64);
	fill_file(0, 20);
	fill_file(40, 42);
	/* What nobody has used is not mapped with the others. */
	expect_eq(uhmm_file_populate(file, 42, 2), 0);
	map_file(f.mm, AT, 64, RW, MAP_SHARED, 0);
	touch(f.mm, AT + 18 * PAGE);
	expect_eq(mapped_in(f.mm, AT, 64), 4); /* 16..19 */
	expect_eq(counted(f.m, UHMM_CNT_FAULT_AROUND), 3);
	/* A page that is not cached is made, with what is there around it. */
	touch(f.mm, AT + 45 * PAGE);
	expect_eq(mapped_in(f.mm, AT + 32 * PAGE, 16), 3);
	/* Not around a write. */
	put_word(f.mm, AT + 5 * PAGE, 1);
	expect_eq(mapped_in(f.mm, AT, 16), 1);
	done_file();
}
END_TEST

START_TEST(the_window_counts_from_where_it_was_cut)
{
	make_file(UHMM_FILE_MEMORY, 64);
	fill_file(0, 64);
	/* The mapping begins at page 5 of a window of 16. */
	map_file(f.mm, AT + 5 * PAGE, 40, RW, MAP_PRIVATE, 3);
	touch(f.mm, AT + 7 * PAGE);
	expect_eq(mapped_in(f.mm, AT + 5 * PAGE, 40), 16); /* to page 20, not 15 */
	expect(!pte_none(pte_at(f.mm, AT + 20 * PAGE)));
	expect(pte_none(pte_at(f.mm, AT + 21 * PAGE)));
	/* Not beyond the end of the file, nor of the mapping, nor of the table. */
	map_file(f.mm, AT - 4 * PAGE, 8, RW, MAP_PRIVATE, 58);
	touch(f.mm, AT - PAGE);
	expect_eq(mapped_in(f.mm, AT - 4 * PAGE, 4), 4);
	expect(pte_none(pte_at(f.mm, AT)));
	touch(f.mm, AT + PAGE);
	expect_eq(mapped_in(f.mm, AT, 5), 2);
	done_file();
}
END_TEST

START_TEST(first_access_to_a_regular_file_is_major)
{
	make_file(UHMM_FILE_REGULAR, 256);
	map_file(f.mm, AT, 256, PROT_READ, MAP_PRIVATE, 0);
	touch(f.mm, AT + 100 * PAGE);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FILE_MAJOR), 1);
	expect_eq(uhmm_file_nr_cached(file), 32);
	/* The fault was tried again after the read, and mapped around. */
	expect_eq(mapped_in(f.mm, AT, 256), 16);
	touch(f.mm, AT + 90 * PAGE);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FILE_MAJOR), 1);
	expect_eq(uhmm_madvise(f.mm, AT + 200 * PAGE, 8 * PAGE, MADV_WILLNEED), 0);
	expect_eq(uhmm_file_nr_cached(file), 40);
	done_file();
}
END_TEST

/* ---- size ---- */

START_TEST(beyond_the_end_is_sigbus)
{
	make_file(UHMM_FILE_MEMORY, 2);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	map_file(f.mm, PRIVATE_AT, 4, RW, MAP_PRIVATE, 0);
	put_word(f.mm, AT + PAGE, 1);
	expect_eq(write_signal(AT + 2 * PAGE), SIGBUS);
	expect_eq(uhmm_cpu_read(f.mm, AT + 3 * PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(write_signal(PRIVATE_AT + 2 * PAGE), SIGBUS);
	expect_eq(uhmm_file_truncate(file, 3 * PAGE), 0);
	put_word(f.mm, AT + 2 * PAGE, 2);
	expect_eq(uhmm_madvise(f.mm, AT, 4 * PAGE, 22 /* MADV_POPULATE_READ */), -EFAULT);
	done_file();
}
END_TEST

START_TEST(truncation_takes_copies_too)
{
	struct uhmm_mm *child;
	struct watcher w;

	make_file(UHMM_FILE_REGULAR, 4);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	map_file(f.mm, PRIVATE_AT, 4, RW, MAP_PRIVATE, 0);
	for (int i = 0; i < 4; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	put_word(f.mm, PRIVATE_AT + 2 * PAGE, 9);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	touch(child, AT + 3 * PAGE);
	watch(&w, child, AT, 4);
	expect_eq(uhmm_file_truncate(file, 2 * PAGE + 100), 0);
	expect(w.events[UHMM_MMU_NOTIFY_CLEAR] >= 1);
	unwatch(&w);
	expect_eq(uhmm_file_nr_cached(file), 3);
	expect_eq(write_signal(AT + 3 * PAGE), SIGBUS);
	expect_eq(uhmm_cpu_read(child, AT + 3 * PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
	expect_eq(get_word(f.mm, PRIVATE_AT + 2 * PAGE), 9);
	expect_eq(uhmm_file_truncate(file, 2 * PAGE), 0);
	expect_eq(write_signal(PRIVATE_AT + 2 * PAGE), SIGBUS);
	expect_eq(uhmm_file_truncate(file, 4 * PAGE), 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 0);
	expect_eq(get_word(f.mm, PRIVATE_AT + 2 * PAGE), 0);
	uhmm_mmput(child);
	done_file();
}
END_TEST

START_TEST(holes_leave_copies)
{
	make_file(UHMM_FILE_MEMORY, 4);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	map_file(f.mm, PRIVATE_AT, 4, RW, MAP_PRIVATE, 0);
	for (int i = 0; i < 4; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	put_word(f.mm, PRIVATE_AT + PAGE, 9);
	touch(f.mm, PRIVATE_AT + 2 * PAGE);
	expect_eq(uhmm_file_punch_hole(file, PAGE, 2 * PAGE), 0);
	expect_eq(uhmm_file_nr_cached(file), 2);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_eq(get_word(f.mm, PRIVATE_AT + PAGE), 9);
	expect_eq(get_word(f.mm, PRIVATE_AT + 2 * PAGE), 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
	expect_eq(uhmm_madvise(f.mm, AT + 3 * PAGE, PAGE, MADV_REMOVE), 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 0);
	expect_eq(uhmm_file_size(file), 4 * PAGE);
	done_file();
}
END_TEST

START_TEST(reading_and_writing_by_system_call)
{
	char text[] = "across the boundary of two pages", back[sizeof(text)] = "";
	uint64_t at = 2 * PAGE - 8;

	make_file(UHMM_FILE_MEMORY, 1);
	/* A hole reads as zeroes and stays one. */
	expect_eq(file_word(0), 0);
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(uhmm_file_write(file, at, text, 8), 8);
	expect_eq(uhmm_file_size(file), 2 * PAGE);
	expect_eq(uhmm_file_read(file, at, back, sizeof(back)), 8); /* the end */
	expect(!memcmp(back, text, 8));
	expect_eq(uhmm_file_read(file, 2 * PAGE, back, 1), 0);
	expect_eq(uhmm_file_nr_cached(file), 1);
	done_file();
}
END_TEST

/* ---- VMAs ---- */

START_TEST(vmas_of_files_split_merge_and_move)
{
	make_file(UHMM_FILE_MEMORY, 16);
	for (int i = 0; i < 16; i++)
		set_file_word(i, i + 1);
	map_file(f.mm, AT, 8, RW, MAP_SHARED, 2);
	expect_eq(uhmm_mprotect(f.mm, AT + 2 * PAGE, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 3);
	fixture_verify(&f);
	expect_eq(uhmm_mprotect(f.mm, AT + 2 * PAGE, PAGE, RW), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	/* Neighbours only merge where the file goes on. */
	map_file(f.mm, AT + 8 * PAGE, 2, RW, MAP_SHARED, 11);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	map_file(f.mm, AT + 8 * PAGE, 2, RW, MAP_SHARED, 10);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	expect_eq(get_word(f.mm, AT + 9 * PAGE), 12);
	/* A part moves with its entries. */
	put_word(f.mm, AT + 4 * PAGE, 77);
	expect_eq(uhmm_mremap(f.mm, AT + 4 * PAGE, 2 * PAGE, 2 * PAGE,
			      MREMAP_MAYMOVE | MREMAP_FIXED, PRIVATE_AT, NULL),
		  0);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, PRIVATE_AT), 77);
	expect_eq(get_word(f.mm, PRIVATE_AT + PAGE), 8);
	expect_eq(uhmm_file_truncate(file, 7 * PAGE), 0);
	expect_eq(write_signal(PRIVATE_AT + PAGE), SIGBUS);
	done_file();
}
END_TEST

/* As the dynamic linker does with what it relocates; seen in a trace of 6.18. */
START_TEST(what_was_writable_does_not_merge_with_what_never_was)
{
	struct uhmm_mm *child;

	make_file(UHMM_FILE_REGULAR, 8);
	map_file(f.mm, AT, 4, PROT_READ, MAP_PRIVATE, 0);
	map_file(f.mm, AT + 4 * PAGE, 4, RW, MAP_PRIVATE, 4);
	touch(f.mm, AT);
	put_word(f.mm, AT + 4 * PAGE, 1);
	expect_eq(uhmm_mprotect(f.mm, AT + 4 * PAGE, 4 * PAGE, PROT_READ), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	/* So the child faults on the one, and has the entries of the other. */
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(mapped_in(child, AT, 4), 0);
	expect_eq(mapped_in(child, AT + 4 * PAGE, 4), 1);
	uhmm_mmput(child);
	done_file();
}
END_TEST

START_TEST(shared_mappings_can_be_doubled)
{
	uhmm_vaddr_t at;

	make_file(UHMM_FILE_MEMORY, 4);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	put_word(f.mm, AT + PAGE, 5);
	expect_eq(uhmm_mremap(f.mm, AT + PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE, 0, &at), 0);
	expect(at != AT + PAGE);
	expect_eq(get_word(f.mm, at), 5);
	put_word(f.mm, at, 6);
	expect_eq(get_word(f.mm, AT + PAGE), 6);
	done_file();
}
END_TEST

START_TEST(copies_are_found_after_a_move)
{
	struct uhmm_mm *child;
	uint64_t buf[2 * PAGE / 8];

	make_file(UHMM_FILE_MEMORY, 8);
	map_file(f.mm, AT, 4, RW, MAP_PRIVATE, 3);
	put_word(f.mm, AT, 1);
	put_word(f.mm, AT + PAGE, 2);
	expect_eq(uhmm_mremap(f.mm, AT, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      PRIVATE_AT, NULL),
		  0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	fixture_verify(&f);
	/* Migration must find the child's mappings by rmap. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, PRIVATE_AT, 2, buf, NULL), 0);
	expect(on_device(f.mm, PRIVATE_AT) && on_device(child, PRIVATE_AT));
	expect_eq(get_word(child, PRIVATE_AT + PAGE), 2);
	uhmm_mmput(child);
	done_file();
}
END_TEST

/* ---- devices ---- */

START_TEST(devices_take_copies_and_leave_the_files_pages)
{
	uint64_t buf[4 * PAGE / 8];

	make_file(UHMM_FILE_MEMORY, 4);
	map_file(f.mm, AT, 4, RW, MAP_PRIVATE, 0);
	for (int i = 0; i < 4; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	to_device(0, AT, 4);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	/* One page is the file's. */
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_DONTNEED), 0);
	touch(f.mm, AT + 2 * PAGE);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 4, buf, NULL), -ENOENT);
	expect(on_device(f.mm, AT) && in_ram(f.mm, AT + 2 * PAGE));
	expect_eq(counted(f.m, UHMM_CNT_FAIL_FILE), 1);
	done_file();
}
END_TEST

START_TEST(devices_read_and_write_shared_pages_in_ram)
{
	struct uhmm_mirror_cmd cmd;
	uint64_t buf[4 * PAGE / 8];

	make_file(UHMM_FILE_REGULAR, 4);
	set_file_word(1, 6);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	touch(f.mm, AT + 3 * PAGE);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 4, buf, NULL), -ENOENT);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 4, buf, &cmd), 0);
	expect_eq(buf[PAGE / 8], 6);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, 4, buf, NULL), 0);
	expect_eq(buf[PAGE / 8], 6);
	expect(in_ram(f.mm, AT + PAGE));
	memset(buf, 0, sizeof(buf));
	buf[0] = 3;
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_WRITE, AT, 1, buf, NULL), 0);
	expect_eq(file_word(0), buf[PAGE / 8 - 1]);
	expect_eq(uhmm_file_nr_dirty(file), 2);
	/* Truncation is heard of. */
	expect_eq(uhmm_file_truncate(file, 0), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 1, buf, NULL), -EFAULT);
	done_file();
}
END_TEST

/* ---- migration within RAM ---- */

/* Move what is collected of [at, at + npages) to other RAM pages. Returns how many moved. */
static unsigned int move_in_ram(struct uhmm_mm *mm, uhmm_vaddr_t at, unsigned int npages)
{
	uint64_t src[16], dst[16] = { 0 };
	struct uhmm_migrate_vma mig = {
		.size = sizeof(mig),
		.start = at,
		.end = at + npages * PAGE,
		.src = src,
		.dst = dst,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	unsigned int moved = 0;

	uhmm_mmap_read_lock(mm);
	mig.vma = uhmm_vma_lookup(mm, at);
	expect_eq(uhmm_migrate_vma_setup(&mig), 0);
	for (unsigned int i = 0; i < npages; i++) {
		uhmm_pfn_t pfn;

		if (!(src[i] & UHMM_MIGRATE_PFN_MIGRATE))
			continue;
		expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
		dst[i] = uhmm_migrate_pfn(pfn);
		if (src[i] & UHMM_MIGRATE_PFN_VALID)
			uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(src[i]));
	}
	uhmm_migrate_vma_pages(&mig);
	for (unsigned int i = 0; i < npages; i++)
		moved += !!(src[i] & UHMM_MIGRATE_PFN_MIGRATE);
	uhmm_migrate_vma_finalize(&mig);
	uhmm_mmap_read_unlock(mm);
	return moved;
}

START_TEST(pages_of_files_move_within_ram)
{
	struct uhmm_mm *child;
	uhmm_pfn_t old;

	make_file(UHMM_FILE_REGULAR, 4);
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	map_file(f.mm, PRIVATE_AT, 4, RW, MAP_PRIVATE, 0);
	put_word(f.mm, AT, 7);
	touch(f.mm, PRIVATE_AT);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	touch(child, AT);
	old = pfn_at(f.mm, AT);
	expect_eq(move_in_ram(f.mm, AT, 4), 1);
	fixture_verify(&f);
	expect(pfn_at(f.mm, AT) != old);
	expect_eq(pfn_at(f.mm, AT), pfn_at(child, AT));
	expect_eq(pfn_at(f.mm, AT), pfn_at(f.mm, PRIVATE_AT));
	expect_eq(file_word(0), 7);
	expect_eq(uhmm_file_nr_dirty(file), 1);
	put_word(child, AT, 8);
	expect_eq(get_word(f.mm, PRIVATE_AT), 8);
	uhmm_mmput(child);
	done_file();
}
END_TEST

START_TEST(an_extra_reference_keeps_a_page)
{
	struct uhmm__frame *page;
	uhmm_pfn_t old;

	make_file(UHMM_FILE_MEMORY, 1);
	map_file(f.mm, AT, 1, RW, MAP_SHARED, 0);
	put_word(f.mm, AT, 7);
	page = frame_at(f.mm, AT);
	old = pfn_at(f.mm, AT);
	folio_get(page);
	expect_eq(move_in_ram(f.mm, AT, 1), 0);
	folio_put(f.m, page);
	expect_eq(pfn_at(f.mm, AT), old);
	expect_eq(move_in_ram(f.mm, AT, 1), 1);
	expect_eq(get_word(f.mm, AT), 7);
	done_file();
}
END_TEST

/* No page is mapped that has left its file; setup looks all the same, at the one that this test has made. */
START_TEST(a_page_without_a_file_is_not_collected)
{
	struct uhmm__frame *page;
	uintptr_t mapping;

	make_file(UHMM_FILE_MEMORY, 2);
	map_file(f.mm, AT, 2, RW, MAP_SHARED, 0);
	put_word(f.mm, AT, 7);
	put_word(f.mm, AT + PAGE, 8);
	page = frame_at(f.mm, AT);
	mapping = load_relaxed(&page->mapping);
	store_relaxed(&page->mapping, (uintptr_t)0);
	expect_eq(move_in_ram(f.mm, AT, 2), 1);
	expect(frame_at(f.mm, AT) == page);
	expect(!folio_test(page, PG_LOCKED));
	store_relaxed(&page->mapping, mapping);
	expect_eq(move_in_ram(f.mm, AT, 2), 2);
	expect_eq(get_word(f.mm, AT), 7);
	expect_eq(get_word(f.mm, AT + PAGE), 8);
	done_file();
}
END_TEST

/* ---- looking ---- */

static void take_line(void *data, const char *line)
{
	strncat(data, line, 4095 - strlen(data));
	strncat(data, "\n", 4095 - strlen(data));
}

START_TEST(dump_and_comparison_know_files)
{
	static char text[4096];
	struct fixture other;
	struct uhmm_machine_config config = { .nr_cpus = 2 };
	struct uhmm_file *twin;
	struct uhmm_task *task = f.task;

	make_file(UHMM_FILE_MEMORY, 2);
	map_file(f.mm, AT, 2, RW, MAP_SHARED, 1);
	put_word(f.mm, AT, 5);
	text[0] = '\0';
	uhmm_mm_dump(f.mm, take_line, text);
	expect(strstr(text, "rw-s pgoff 0x1 anon_vma no flags - file 1 memory"));
	expect(strstr(text, "file index 0x1"));

	uhmm_task_leave();
	fixture_create(&other, config);
	expect_eq(uhmm_file_create(other.m, UHMM_FILE_MEMORY, 2 * PAGE, &twin), 0);
	expect_eq(uhmm_mmap(other.mm, AT, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, twin, 1, NULL), 0);
	put_word(other.mm, AT, 5);
	expect_eq(uhmm_machine_compare(f.m, other.m, UHMM_COMPARE_STATE, NULL, NULL), 0);
	put_word(other.mm, AT, 6);
	/* The page as mapped, and the page of the file. */
	expect_eq(uhmm_machine_compare(f.m, other.m, UHMM_COMPARE_CONTENTS, NULL, NULL), 2);
	put_word(other.mm, AT, 5);
	/* A page that only one has mapped, with what the file has there. */
	expect_eq(uhmm_madvise(other.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_machine_compare(f.m, other.m, UHMM_COMPARE_CONTENTS, NULL, NULL), 0);
	expect_eq(uhmm_machine_compare(f.m, other.m, UHMM_COMPARE_STATE, NULL, NULL), 1);
	uhmm_file_put(twin);
	fixture_destroy(&other);
	uhmm_task_enter(task);
	done_file();
}
END_TEST

/* The verifier finds what is wrong, and says so. */
static void found(const char *text)
{
	expect(uhmm_machine_verify(f.m) > 0);
	if (!strstr(f.text, text))
		ck_abort_msg("no \"%s\" in: %s", text, f.text);
	fixture_forget_reports(&f);
}

START_TEST(the_verifier_sees_damage)
{
	struct uhmm__mapping *mapping;
	struct uhmm_vma *vma;
	struct uhmm__frame *page;
	uint64_t pfn, size;

	make_file(UHMM_FILE_MEMORY, 4);
	mapping = &file->mapping;
	map_file(f.mm, AT, 4, RW, MAP_SHARED, 0);
	put_word(f.mm, AT + PAGE, 1);
	page = frame_at(f.mm, AT + PAGE);
	pfn = pfn_at(f.mm, AT + PAGE);
	fixture_verify(&f);

	store_relaxed(&page->index, 2);
	found("maps another page than its file has there");
	found("page 1 in the cache is not the file's");
	store_relaxed(&page->index, 1);

	uhmm__radix_erase(&mapping->pages, 1);
	found("folio is in 0 page caches");
	found("refcount is");
	expect_eq(uhmm__radix_store(&mapping->pages, 3, pfn), 0);
	found("page 3 in the cache is not the file's");
	uhmm__radix_erase(&mapping->pages, 3);
	expect_eq(uhmm__radix_store(&mapping->pages, 1, pfn), 0);

	size = load_relaxed(&mapping->size);
	store_relaxed(&mapping->size, PAGE);
	found("beyond the end");
	store_relaxed(&mapping->size, size);

	folio_set(page, PG_ANON_EXCLUSIVE);
	found("page of a file is anon-exclusive");
	folio_clear(page, PG_ANON_EXCLUSIVE);

	uhmm_mmap_read_lock(f.mm);
	vma = uhmm_vma_lookup(f.mm, AT);
	uhmm_mmap_read_unlock(f.mm);
	uhmm__vma_i_mmap_remove(vma);
	found("1 VMAs map it, but 0 are in its tree");
	uhmm__vma_i_mmap_insert(vma, NULL);
	vma->pgoff++;
	found("is in its tree as");
	vma->pgoff--;
	vma->page_prot &= ~PTE_RW;
	found("has page_prot");
	vma->page_prot |= PTE_RW;
	fixture_verify(&f);
	done_file();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file");
	TCase *tc = tcase_create("files");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, shared_mappings_are_the_file);
	tcase_add_test(tc, private_mappings_copy_on_write);
	tcase_add_test(tc, shared_anonymous_memory_stays_shared_across_fork);
	tcase_add_test(tc, fork_copies_entries_where_pages_were_copied);
	tcase_add_test(tc, regular_files_hear_of_the_first_write);
	tcase_add_test(tc, memory_files_are_writable_at_once);
	tcase_add_test(tc, writeback_reaches_every_mapping);
	tcase_add_test(tc, protection_of_shared_mappings);
	tcase_add_test(tc, read_faults_map_what_is_cached_around);
	tcase_add_test(tc, the_window_counts_from_where_it_was_cut);
	tcase_add_test(tc, first_access_to_a_regular_file_is_major);
	tcase_add_test(tc, beyond_the_end_is_sigbus);
	tcase_add_test(tc, truncation_takes_copies_too);
	tcase_add_test(tc, holes_leave_copies);
	tcase_add_test(tc, reading_and_writing_by_system_call);
	tcase_add_test(tc, vmas_of_files_split_merge_and_move);
	tcase_add_test(tc, what_was_writable_does_not_merge_with_what_never_was);
	tcase_add_test(tc, shared_mappings_can_be_doubled);
	tcase_add_test(tc, copies_are_found_after_a_move);
	tcase_add_test(tc, devices_take_copies_and_leave_the_files_pages);
	tcase_add_test(tc, devices_read_and_write_shared_pages_in_ram);
	tcase_add_test(tc, pages_of_files_move_within_ram);
	tcase_add_test(tc, an_extra_reference_keeps_a_page);
	tcase_add_test(tc, a_page_without_a_file_is_not_collected);
	tcase_add_test(tc, dump_and_comparison_know_files);
	tcase_add_test(tc, the_verifier_sees_damage);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
