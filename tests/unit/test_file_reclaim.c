// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reclaim of pages of regular files: advice, and memory that gets short. */
#define _GNU_SOURCE
#include "unit/swap_world.h"

#define NPAGES 4
#define MANY 1500 /* pages, of a machine that has 512 for its processes */

static struct uhmm_file *file;

static void setup(void)
{
	start((struct uhmm_machine_config){ .content = UHMM_CONTENT_TAG });
}

static void setup_bytes(void)
{
	start((struct uhmm_machine_config){ .content = UHMM_CONTENT_BYTES });
}

/* No swap. */
static void setup_little(void)
{
	start((struct uhmm_machine_config){ .ram_bytes = 4 << 20 });
}

static void setup_little_bytes(void)
{
	start((struct uhmm_machine_config){ .ram_bytes = 4 << 20, .content = UHMM_CONTENT_BYTES });
}

static void teardown_file(void)
{
	uhmm_file_put(file);
	file = NULL;
	if (child)
		uhmm_mmput(child);
	expect_eq(uhmm_munmap(f.mm, AT, MANY * PAGE), 0);
	expect_eq(uhmm_munmap(f.mm, ELSEWHERE, MANY * PAGE), 0);
	fixture_destroy(&f);
}

/* The i-th page holds i + @base. */
static void write_file(unsigned int npages, uint64_t base)
{
	for (uint64_t i = 0; i < npages; i++) {
		uint64_t word = i + base;

		expect_eq(uhmm_file_write(file, i * PAGE, &word, sizeof(word)), sizeof(word));
	}
}

static void expect_file(unsigned int npages, uint64_t base)
{
	for (uint64_t i = 0; i < npages; i++) {
		uint64_t word = 0;

		expect_eq(uhmm_file_read(file, i * PAGE, &word, sizeof(word)), sizeof(word));
		expect_eq(word, i + base);
	}
}

static void map_file(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int npages, int prot,
		     int flags)
{
	expect_eq(uhmm_mmap(mm, addr, npages * PAGE, prot, flags | MAP_FIXED, file, 0, NULL), 0);
}

/* A file whose i-th page holds i + 1 and is clean, mapped at AT and read. */
static void map_clean(int prot, int flags)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, NPAGES * PAGE, &file), 0);
	write_file(NPAGES, 1);
	expect_eq(uhmm_file_writeback(file, 0, NPAGES), NPAGES);
	map_file(f.mm, AT, NPAGES, prot, flags);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}

static bool none(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return pte_none(pte_at(mm, addr));
}

/* ---- MADV_PAGEOUT ---- */

START_TEST(clean_pages_go_and_come_back)
{
	uint64_t major;

	map_clean(RW, _i ? MAP_SHARED : MAP_PRIVATE);
	pageout(f.mm, AT, NPAGES);
	expect(none(f.mm, AT) && none(f.mm, AT + (NPAGES - 1) * PAGE));
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(counted(f.m, UHMM_CNT_FILE_EVICTED), NPAGES);
	expect_eq(counted(f.m, UHMM_CNT_RECLAIM_FREED), NPAGES);
	major = counted(f.m, UHMM_CNT_FAULT_FILE_MAJOR);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FILE_MAJOR), major + 1);
	fixture_verify(&f);
}
END_TEST

/* Linux leaves the writing to others: such a page loses its mapping and goes when it is clean. */
START_TEST(dirty_pages_are_unmapped_and_stay)
{
	struct uhmm__frame *frame;

	map_clean(RW, MAP_SHARED);
	put_word(f.mm, AT, 77);
	frame = frame_at(f.mm, AT);
	pageout(f.mm, AT, NPAGES);
	expect(none(f.mm, AT));
	expect_eq(uhmm_file_nr_cached(file), 1);
	expect_eq(uhmm_file_nr_dirty(file), 1);
	expect(folio_test(frame, PG_ACTIVE) && folio_test(frame, PG_RECLAIM));
	expect_eq(get_word(f.mm, AT), 77);
	expect(frame_at(f.mm, AT) == frame);
	/* Written back it is the next to go. */
	expect_eq(uhmm_file_writeback(file, 0, NPAGES), 1);
	expect(!folio_test(frame, PG_ACTIVE) && !folio_test(frame, PG_RECLAIM));
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(get_word(f.mm, AT), 77);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

START_TEST(pages_that_others_map_stay)
{
	map_clean(RW, MAP_SHARED);
	map_file(f.mm, ELSEWHERE, 1, PROT_READ, MAP_SHARED);
	expect_eq(get_word(f.mm, ELSEWHERE), 1);
	pageout(f.mm, AT, NPAGES);
	expect(!none(f.mm, AT) && !none(f.mm, ELSEWHERE) && none(f.mm, AT + PAGE));
	expect_eq(uhmm_file_nr_cached(file), 1);
}
END_TEST

START_TEST(pinned_pages_stay_in_the_cache)
{
	uhmm_pfn_t pfn;

	map_clean(RW, MAP_SHARED);
	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, 0, &pfn), 1);
	pageout(f.mm, AT, 1);
	expect(none(f.mm, AT));
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(pfn_at(f.mm, AT), pfn);
	uhmm_unpin_user_pages(f.m, &pfn, 1);
	pageout(f.mm, AT, 1);
	expect_eq(uhmm_file_nr_cached(file), NPAGES - 1);
}
END_TEST

START_TEST(locked_pages_stay)
{
	struct uhmm__frame *frame;
	struct uhmm_task *t;

	map_clean(RW, MAP_SHARED);
	frame = frame_at(f.mm, AT);
	uhmm__lru_add_drain(f.m);
	t = lock_by_another(frame);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_PAGEOUT), 0);
	unlock_by_another(t, frame);
	expect(frame_at(f.mm, AT) == frame);
	fixture_verify(&f);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 0);
}
END_TEST

START_TEST(what_is_locked_in_memory_stays)
{
	const unsigned int n = 400;
	uhmm_pfn_t pfn;

	map_clean(RW, MAP_SHARED | MAP_LOCKED);
	pfn = pfn_at(f.mm, AT);
	expect_eq(uhmm_madvise(f.mm, AT, NPAGES * PAGE, MADV_PAGEOUT), -EINVAL);
	expect_eq(uhmm_file_truncate(file, 2 * n * PAGE), 0);
	expect_eq(uhmm_file_populate(file, NPAGES, 2 * n), 0);
	map_written(ELSEWHERE, n);
	expect_eq(pfn_at(f.mm, AT), pfn);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	fixture_verify(&f);
}
END_TEST

/* A device that has the page is told, and what it wrote is not lost. */
START_TEST(a_device_that_maps_it_is_told)
{
	struct watcher w;
	uint64_t word = 55;
	uhmm_pfn_t pfn;

	map_clean(RW, MAP_SHARED);
	put_word(f.mm, AT, 50);
	pfn = pfn_at(f.mm, AT);
	watch(&w, f.mm, AT, NPAGES);
	expect_eq(uhmm_file_writeback(file, 0, NPAGES), 1);
	expect_eq(w.events[UHMM_MMU_NOTIFY_PROTECTION_PAGE], 1);
	uhmm_page_write(f.m, pfn, 0, &word, sizeof(word));
	uhmm_set_page_dirty(f.m, pfn);
	pageout(f.mm, AT, NPAGES);
	expect_eq(w.events[UHMM_MMU_NOTIFY_CLEAR], NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 1);
	expect_eq(get_word(f.mm, AT), 55);
	unwatch(&w);
}
END_TEST

START_TEST(copies_of_private_mappings_are_no_files)
{
	map_clean(RW, MAP_PRIVATE);
	put_word(f.mm, AT, 9);
	pageout(f.mm, AT, NPAGES);
	/* There is no swap: the copy stays where it is. */
	expect(!none(f.mm, AT) && none(f.mm, AT + PAGE));
	expect_eq(get_word(f.mm, AT), 9);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* Whether others use a page is nobody's business. */
START_TEST(files_of_others_are_let_alone)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, NPAGES * PAGE, &file), 0);
	uhmm_file_set_foreign(file);
	map_file(f.mm, AT, NPAGES, PROT_READ, MAP_SHARED);
	expect_eq(get_word(f.mm, AT), 0);
	pageout(f.mm, AT, NPAGES);
	expect(!none(f.mm, AT));
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_COLD), 0);
	expect(!pte_young(pte_at(f.mm, AT)));
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), -EACCES);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_REMOVE), -EACCES);
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, PAGE, RW, MAP_SHARED | MAP_FIXED, file, 0, NULL),
		  -EACCES);
	expect_eq(uhmm_munmap(f.mm, AT, NPAGES * PAGE), 0);
	map_file(f.mm, AT, NPAGES, RW, MAP_PRIVATE);
	put_word(f.mm, AT, 3);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	pageout(f.mm, AT, NPAGES);
	expect(!none(f.mm, AT + PAGE));
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
}
END_TEST

/* ---- what the disk has ---- */

START_TEST(what_was_cut_off_does_not_come_back)
{
	uint64_t truncated;

	map_clean(RW, MAP_SHARED);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_truncate(file, 2 * PAGE), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + 2 * PAGE, NULL, 1, NULL), SIGBUS);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 0);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_punch_hole(file, PAGE, PAGE), 0);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_eq(get_word(f.mm, AT), 1);
	/* In the cache and on the disk: one page. */
	truncated = counted(f.m, UHMM_CNT_FILE_TRUNCATED);
	expect_eq(uhmm_file_punch_hole(file, 0, PAGE), 0);
	expect_eq(counted(f.m, UHMM_CNT_FILE_TRUNCATED), truncated + 1);
	expect_eq(get_word(f.mm, AT), 0);
	pageout(f.mm, AT, NPAGES);
	expect_eq(get_word(f.mm, AT), 0);
}
END_TEST

START_TEST(part_of_a_page_on_the_disk_is_zeroed)
{
	const uint64_t words[2] = { 11, 12 };

	map_clean(RW, MAP_SHARED);
	expect_eq(uhmm_file_write(file, 0, words, sizeof(words)), sizeof(words));
	expect_eq(uhmm_file_writeback(file, 0, 1), 1);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(uhmm_file_truncate(file, 8), 0);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(get_word(f.mm, AT), 11);
	expect_eq(get_word(f.mm, AT + 8), 0);
}
END_TEST

#define BEHIND (AT + 3 * PAGE + 16) /* of a file that ends just before */

/* A process may store in the rest of the last page, but that is no part of the file. */
START_TEST(what_lies_behind_the_end_is_not_written)
{
	uint64_t word = 9;

	map_clean(RW, MAP_SHARED);
	expect_eq(uhmm_file_truncate(file, 3 * PAGE + 8), 0);
	put_word(f.mm, BEHIND, 77);
	expect_eq(uhmm_file_writeback(file, 0, NPAGES), 1);
	expect_eq(get_word(f.mm, BEHIND), 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), NPAGES);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(get_word(f.mm, BEHIND), 0);
	put_word(f.mm, BEHIND, 77);
	/* Nor does it become one when the file grows, by a new size or by a write behind it. */
	if (_i)
		expect_eq(uhmm_file_write(file, 3 * PAGE + 32, &word, sizeof(word)), sizeof(word));
	else
		expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	expect_eq(get_word(f.mm, BEHIND), 0);
	expect_eq(get_word(f.mm, BEHIND + 16), _i ? word : 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), NPAGES);
	fixture_verify(&f);
}
END_TEST

START_TEST(memory_files_keep_what_lies_behind_the_end)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_MEMORY, 3 * PAGE + 8, &file), 0);
	map_file(f.mm, AT, NPAGES, RW, MAP_SHARED);
	put_word(f.mm, BEHIND, 77);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	expect_eq(get_word(f.mm, BEHIND), 77);
}
END_TEST

START_TEST(a_page_that_cannot_be_written_stays_dirty)
{
	map_clean(RW, MAP_SHARED);
	expect_eq(uhmm_file_truncate(file, 600 * PAGE), 0);
	write_file(600, 7);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 100), 0);
	expect(uhmm_file_writeback(file, 0, 600) < 600);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 0, 0), 0);
	expect(uhmm_file_nr_dirty(file) > 0);
	expect_file(600, 7);
	expect(uhmm_file_writeback(file, 0, 600) > 0);
	expect_eq(uhmm_file_nr_dirty(file), 0);
}
END_TEST

/* All regular files, more pages than are collected at a time, but none that is locked. */
START_TEST(all_files_are_flushed)
{
	struct uhmm_file *others[3];
	struct uhmm__frame *locked;
	struct uhmm_task *t;

	map_clean(RW, MAP_SHARED);
	for (unsigned int i = 0; i < 3; i++) {
		struct uhmm_file *first = file;

		expect_eq(uhmm_file_create(f.m, i == 1 ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, 0,
					   &others[i]),
			  0);
		file = others[i];
		write_file(64, 1);
		file = first;
	}
	put_word(f.mm, AT, 5);
	put_word(f.mm, AT + PAGE, 6);
	locked = frame_at(f.mm, AT + PAGE);
	t = lock_by_another(locked);
	expect_eq(uhmm__flush_files(f.m), 1 + 64 + 64);
	unlock_by_another(t, locked);
	expect_eq(uhmm_file_nr_dirty(file), 1);
	expect_eq(uhmm_file_nr_dirty(others[1]), 64);
	expect_eq(uhmm__flush_files(f.m), 1);
	expect_eq(uhmm__flush_files(f.m), 0);
	for (unsigned int i = 0; i < 3; i++)
		uhmm_file_put(others[i]);
}
END_TEST

/* ---- what was used ---- */

/* By a mapping that is gone: the second time makes it active. */
START_TEST(use_is_remembered_when_a_mapping_goes)
{
	struct uhmm__frame *frame;

	map_clean(RW, MAP_PRIVATE);
	uhmm__lru_add_drain_all(f.m);
	frame = frame_at(f.mm, AT);
	folio_change(frame, (uint32_t)(BIT(PG_REFERENCED) | BIT(PG_ACTIVE)), 0);
	if (_i)
		expect_eq(uhmm_madvise(f.mm, AT, PAGE, _i == 1 ? MADV_RANDOM : MADV_SEQUENTIAL), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(folio_test(frame, PG_REFERENCED), !_i);
	/* An entry that nobody used since it was made old. */
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_COLD), 0);
	folio_set(frame, PG_REFERENCED);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	expect(!folio_test(frame, PG_ACTIVE));
	map_file(f.mm, AT, 1, _i ? PROT_NONE : PROT_READ, MAP_PRIVATE);
	if (!_i)
		expect_eq(get_word(f.mm, AT), 1);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	expect_eq(folio_test(frame, PG_ACTIVE), !_i);
	fixture_verify(&f);
}
END_TEST

/* ---- memory gets short ---- */

START_TEST(a_file_larger_than_ram_is_written_and_read)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, 0, &file), 0);
	write_file(MANY, 1);
	fixture_verify(&f);
	expect(uhmm_file_nr_cached(file) <= 512);
	for (unsigned int round = 0; round < 2; round++)
		expect_file(MANY, 1);
	fixture_verify(&f);
}
END_TEST

/* Two processes and two mappings of each write, and see what the others wrote. */
START_TEST(a_file_larger_than_ram_is_mapped_and_shared)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, MANY * PAGE, &file), 0);
	map_file(f.mm, AT, MANY, RW, MAP_SHARED);
	map_file(f.mm, ELSEWHERE, MANY, RW, MAP_SHARED);
	fork_child();
	for (unsigned int i = 0; i < MANY; i++)
		put_word(i & 1 ? child : f.mm, (i & 2 ? AT : ELSEWHERE) + i * PAGE, i + 5);
	fixture_verify(&f);
	expect(counted(f.m, UHMM_CNT_FILE_CLEANED) >= MANY - 512);
	expect(counted(f.m, UHMM_CNT_FILE_EVICTED) >= MANY - 512);
	for (unsigned int i = 0; i < MANY; i++)
		expect_eq(get_word(i & 1 ? f.mm : child, AT + i * PAGE), i + 5);
	expect_file(MANY, 5);
	fixture_verify(&f);
}
END_TEST

/* Without swap anonymous memory can only take the place of the cache. */
START_TEST(the_cache_makes_room_for_anonymous_memory)
{
	const unsigned int n = 400;

	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, 0, &file), 0);
	write_file(n, 1);
	map_file(f.mm, ELSEWHERE, n, RW, MAP_SHARED);
	for (unsigned int i = 0; i < n; i++)
		put_word(f.mm, ELSEWHERE + i * PAGE, i + 3);
	map_written(AT, n);
	fixture_verify(&f);
	for (unsigned int i = 0; i < n; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	expect_file(n, 3);
	fixture_verify(&f);
}
END_TEST

/* Code that runs is spared at once, what is only read has to be used twice for that. */
START_TEST(code_is_activated_by_its_first_use)
{
	const unsigned int n = 2000;

	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, n * PAGE, &file), 0);
	map_file(f.mm, AT, 1, _i ? PROT_READ | PROT_EXEC : PROT_READ, MAP_PRIVATE);
	expect_eq(get_word(f.mm, AT), 0);
	for (unsigned int i = 0; !counted(f.m, UHMM_CNT_RECLAIM_FREED); i++)
		expect_eq(uhmm_file_populate(file, i, 1), 0);
	expect_eq(folio_test(frame_at(f.mm, AT), PG_ACTIVE), _i);
	expect(folio_test(frame_at(f.mm, AT), PG_REFERENCED));
	fixture_verify(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file_reclaim");
	TCase *tc = tcase_create("tags"), *bytes = tcase_create("bytes");
	TCase *little = tcase_create("little RAM"),
	      *little_bytes = tcase_create("little RAM, bytes");

	tcase_add_checked_fixture(tc, setup, teardown_file);
	tcase_add_loop_test(tc, clean_pages_go_and_come_back, 0, 2);
	tcase_add_test(tc, dirty_pages_are_unmapped_and_stay);
	tcase_add_test(tc, pages_that_others_map_stay);
	tcase_add_test(tc, pinned_pages_stay_in_the_cache);
	tcase_add_test(tc, locked_pages_stay);
	tcase_add_test(tc, a_device_that_maps_it_is_told);
	tcase_add_test(tc, copies_of_private_mappings_are_no_files);
	tcase_add_test(tc, files_of_others_are_let_alone);
	tcase_add_test(tc, what_was_cut_off_does_not_come_back);
	tcase_add_test(tc, a_page_that_cannot_be_written_stays_dirty);
	tcase_add_test(tc, all_files_are_flushed);
	tcase_add_loop_test(tc, use_is_remembered_when_a_mapping_goes, 0, 3);
	suite_add_tcase(suite, tc);

	tcase_add_checked_fixture(bytes, setup_bytes, teardown_file);
	tcase_add_loop_test(bytes, clean_pages_go_and_come_back, 0, 2);
	tcase_add_test(bytes, dirty_pages_are_unmapped_and_stay);
	tcase_add_test(bytes, what_was_cut_off_does_not_come_back);
	tcase_add_test(bytes, part_of_a_page_on_the_disk_is_zeroed);
	tcase_add_loop_test(bytes, what_lies_behind_the_end_is_not_written, 0, 2);
	tcase_add_test(bytes, memory_files_keep_what_lies_behind_the_end);
	tcase_add_test(bytes, a_page_that_cannot_be_written_stays_dirty);
	suite_add_tcase(suite, bytes);

	tcase_add_checked_fixture(little, setup_little, teardown_file);
	tcase_add_test(little, a_file_larger_than_ram_is_written_and_read);
	tcase_add_test(little, a_file_larger_than_ram_is_mapped_and_shared);
	tcase_add_test(little, the_cache_makes_room_for_anonymous_memory);
	tcase_add_test(little, what_is_locked_in_memory_stays);
	tcase_add_loop_test(little, code_is_activated_by_its_first_use, 0, 2);
	suite_add_tcase(suite, little);

	tcase_add_checked_fixture(little_bytes, setup_little_bytes, teardown_file);
	tcase_add_test(little_bytes, a_file_larger_than_ram_is_written_and_read);
	suite_add_tcase(suite, little_bytes);
	return run_suite(suite);
}
