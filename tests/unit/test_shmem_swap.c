// SPDX-License-Identifier: LGPL-2.1-or-later
/* Swap of memory files and shared anonymous memory. */
#define _GNU_SOURCE
#include "unit/swap_world.h"

#define NPAGES 4
#define MANY 1500 /* pages, of a machine that has 512 for its processes */

static struct uhmm_file *file;

static void setup(void)
{
	start((struct uhmm_machine_config){ .swap_bytes = 1 << 20 });
}

static void setup_bytes(void)
{
	start((struct uhmm_machine_config){ .swap_bytes = 1 << 20, .content = UHMM_CONTENT_BYTES });
}

static void setup_no_swap(void)
{
	start((struct uhmm_machine_config){ .ram_bytes = 4 << 20 });
}

static void setup_small_bytes(void)
{
	start((struct uhmm_machine_config){
		.ram_bytes = 4 << 20, .swap_bytes = 8 << 20, .content = UHMM_CONTENT_BYTES });
}

static void teardown_file(void)
{
	uhmm_file_put(file);
	file = NULL;
	if (child)
		uhmm_mmput(child);
	expect_eq(uhmm_munmap(f.mm, AT, MANY * PAGE), 0);
	expect_eq(uhmm_munmap(f.mm, ELSEWHERE, MANY * PAGE), 0);
	/* The end of the last mapping is the end of the file, and of its slots. */
	expect_eq(uhmm__swap_used(f.m), 0);
	fixture_destroy(&f);
}

static void map_file(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int npages, int flags)
{
	expect_eq(uhmm_mmap(mm, addr, npages * PAGE, RW, flags | MAP_FIXED, file, 0, NULL), 0);
}

/* A memory file whose i-th page holds i + 1, mapped at AT. */
static void map_written_file(void)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_MEMORY, NPAGES * PAGE, &file), 0);
	map_file(f.mm, AT, NPAGES, MAP_SHARED);
	for (unsigned int i = 0; i < NPAGES; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
}

/* The same, all of it on swap. */
static void map_swapped_file(void)
{
	map_written_file();
	pageout(f.mm, AT, NPAGES);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect(pte_none(pte_at(f.mm, AT + i * PAGE)));
	expect_eq(uhmm_file_nr_swapped(file), NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 0);
	expect_eq(uhmm__swap_used(f.m), NPAGES);
}

static void expect_words(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	for (unsigned int i = 0; i < NPAGES; i++)
		expect_eq(get_word(mm, addr + i * PAGE), i + 1);
	fixture_verify(&f);
}

static uint64_t slot_of(uint64_t index)
{
	uint64_t entry = uhmm__radix_load(&file->mapping.pages, index);

	expect(entry_is_slot(entry));
	return entry_slot(entry);
}

/* ---- out and in ---- */

START_TEST(out_and_in)
{
	map_swapped_file();
	expect_eq(counted(f.m, UHMM_CNT_SWAP_OUT), NPAGES);
	expect_words(f.mm, AT);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_IN), NPAGES);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FILE_MAJOR), NPAGES);
	/* Back in the file a page has no slot, and no copy, whatever kind of device it is. */
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_eq(uhmm_file_nr_swapped(file), 0);
	expect_eq(uhmm_file_nr_dirty(file), NPAGES);
	put_word(f.mm, AT, 50);
	pageout(f.mm, AT, NPAGES);
	expect_eq(get_word(f.mm, AT), 50);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

START_TEST(shared_anonymous_memory)
{
	expect_eq(uhmm_mmap(f.mm, AT, NPAGES * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
			    NULL, 0, NULL),
		  0);
	for (unsigned int i = 0; i < NPAGES; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm__swap_used(f.m), NPAGES);
	/* Nothing is shared by entries: they are none in both. */
	fork_child();
	expect_eq(uhmm__swap_used(f.m), NPAGES);
	put_word(child, AT, 1);
	expect_words(child, AT);
	expect_words(f.mm, AT);
	expect_eq(pfn_at(child, AT), pfn_at(f.mm, AT));
	/* What two map stays. */
	pageout(f.mm, AT, NPAGES);
	expect(!pte_none(pte_at(f.mm, AT)));
	/* The last mapping takes the slots along. */
	uhmm_mmput(child);
	child = NULL;
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm__swap_used(f.m), NPAGES);
	expect_eq(uhmm_munmap(f.mm, AT, NPAGES * PAGE), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	fixture_verify(&f);
}
END_TEST

START_TEST(every_mapping_finds_it)
{
	map_swapped_file();
	map_file(f.mm, ELSEWHERE, NPAGES, MAP_SHARED);
	fork_child();
	put_word(child, ELSEWHERE, 1);
	expect_words(child, AT);
	expect_words(f.mm, ELSEWHERE);
	expect_words(f.mm, AT);
	expect_eq(pfn_at(f.mm, AT), pfn_at(child, ELSEWHERE));
}
END_TEST

START_TEST(private_mappings_copy_it)
{
	map_swapped_file();
	map_file(f.mm, ELSEWHERE, NPAGES, MAP_PRIVATE);
	put_word(f.mm, ELSEWHERE, 9);
	expect_eq(get_word(f.mm, ELSEWHERE + PAGE), 2);
	expect_words(f.mm, AT);
	expect_eq(get_word(f.mm, ELSEWHERE), 9);
}
END_TEST

START_TEST(system_calls_find_it)
{
	uint64_t word;

	map_swapped_file();
	expect_eq(uhmm_file_read(file, 0, &word, sizeof(word)), sizeof(word));
	expect_eq(word, 1);
	expect_eq(uhmm_file_nr_swapped(file), NPAGES - 1);
	word = 33;
	expect_eq(uhmm_file_write(file, PAGE + 8, &word, sizeof(word)), sizeof(word));
	expect_eq(uhmm_file_nr_swapped(file), NPAGES - 2);
	expect_eq(get_word(f.mm, AT + PAGE + 8), 33);
	/* With bytes the rest of the page is what it was. */
	if (f.m->config.content == UHMM_CONTENT_BYTES)
		expect_words(f.mm, AT);
	expect_eq(uhmm_file_populate(file, 0, NPAGES), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
}
END_TEST

START_TEST(pins_find_it)
{
	uhmm_pfn_t pages[NPAGES];

	map_swapped_file();
	expect_eq(uhmm_pin_user_pages(f.mm, AT, NPAGES, UHMM_FOLL_WRITE, pages), NPAGES);
	expect_words(f.mm, AT);
	/* Unmapped, but who has pinned it may write to it. */
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
	expect(pte_none(pte_at(f.mm, AT)));
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(pfn_at(f.mm, AT), pages[0]);
	uhmm_unpin_user_pages(f.m, pages, NPAGES);
}
END_TEST

/* ---- what devices see ---- */

START_TEST(devices_fault_it_in)
{
	static uint64_t words[NPAGES * PAGE / 8];

	map_swapped_file();
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, NPAGES, words, NULL), 0);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect(!pte_none(pte_at(f.mm, AT + i * PAGE)));
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_words(f.mm, AT);
}
END_TEST

START_TEST(a_snapshot_leaves_it_out)
{
	struct uhmm_mirror_cmd cmd;
	static uint64_t words[NPAGES * PAGE / 8];
	uint8_t prot[NPAGES];

	map_swapped_file();
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_SNAPSHOT, AT, NPAGES, prot, &cmd), 0);
	expect_eq(cmd.faults, 0);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect_eq(prot[i], UHMM_PROT_NONE);
	expect_eq(uhmm_file_nr_swapped(file), NPAGES);
	/* Nothing to migrate, and it stays where it is. */
	(void)mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, NPAGES, words, &cmd);
	expect_eq(uhmm_file_nr_swapped(file), NPAGES);
	expect_words(f.mm, AT);
}
END_TEST

/* ---- slots that nobody needs any more ---- */

START_TEST(truncation_frees_slots)
{
	map_swapped_file();
	expect_eq(uhmm_file_truncate(file, 2 * PAGE), 0);
	expect_eq(uhmm__swap_used(f.m), 2);
	expect_eq(uhmm_file_nr_swapped(file), 2);
	fixture_verify(&f);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 0);
	expect_eq(uhmm_madvise(f.mm, AT, NPAGES * PAGE, MADV_REMOVE), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_eq(get_word(f.mm, AT), 0);
	fixture_verify(&f);
}
END_TEST

START_TEST(part_of_a_page_on_swap_is_zeroed)
{
	map_written_file();
	put_word(f.mm, AT + 8, 80);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_truncate(file, 8), 0);
	expect_eq(uhmm_file_truncate(file, NPAGES * PAGE), 0);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + 8), 0);
	fixture_verify(&f);
}
END_TEST

/* A folio that came from swap, but has not reached the file: as of a task that was too slow. */
START_TEST(in_the_swap_cache_alone)
{
	struct uhmm__frame *frame;
	struct uhmm_task *t;

	map_swapped_file();
	expect_eq(uhmm__swapin(f.m, slot_of(0), &frame), 0);
	expect(folio_test(frame, PG_SWAPCACHE));
	folio_put(f.m, frame);
	fixture_verify(&f);
	switch (_i) {
	case 0:
		expect_eq(get_word(f.mm, AT), 1);
		expect(frame_at(f.mm, AT) == frame && !folio_test(frame, PG_SWAPCACHE));
		break;
	case 1:
		expect_eq(uhmm_file_punch_hole(file, 0, PAGE), 0);
		expect_eq(get_word(f.mm, AT), 0);
		break;
	default:
		/* Whoever has it locked keeps it there; reclaim takes it out when it comes by. */
		t = lock_by_another(frame);
		expect_eq(uhmm_file_punch_hole(file, 0, PAGE), 0);
		unlock_by_another(t, frame);
		expect(folio_test(frame, PG_SWAPCACHE));
		expect_eq(uhmm__swap_used(f.m), NPAGES);
		fixture_verify(&f);
		uhmm__lru_add_drain_all(f.m);
		folio_get(frame);
		expect(uhmm__folio_isolate_lru(frame));
		uhmm__reclaim_pages(f.m, &(uint32_t){ frame_index(f.m, frame) }, 1);
	}
	expect_eq(uhmm__swap_used(f.m), NPAGES - 1);
	fixture_verify(&f);
}
END_TEST

/* ---- what does not go to swap ---- */

START_TEST(clean_pages_are_holes)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_MEMORY, NPAGES * PAGE, &file), 0);
	map_file(f.mm, AT, NPAGES, MAP_SHARED);
	expect_eq(get_word(f.mm, AT), 0);
	expect_eq(uhmm_file_populate(file, 1, 1), 0);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_nr_cached(file), 0);
	/* Only the one that was asked for by fallocate() is kept. */
	expect_eq(uhmm_file_nr_swapped(file), 1);
	expect_eq(get_word(f.mm, AT), 0);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
}
END_TEST

START_TEST(swap_that_fails)
{
	map_written_file();
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_SWAP, 1, 100), 0);
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_SWAP, 0, 0), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
	expect_eq(uhmm_file_nr_dirty(file), NPAGES);
	expect_words(f.mm, AT);
}
END_TEST

START_TEST(no_swap)
{
	int64_t ret = sizeof(uint64_t);

	map_written_file();
	pageout(f.mm, AT, NPAGES);
	expect_eq(uhmm_file_nr_cached(file), NPAGES);
	expect_words(f.mm, AT);
	/* Memory that cannot go anywhere is as good as anonymous. */
	expect_eq(uhmm_file_truncate(file, MANY * PAGE), 0);
	for (uint64_t i = NPAGES; ret == sizeof(i); i++)
		ret = uhmm_file_write(file, i * PAGE, &i, sizeof(i));
	expect_eq(ret, -ENOMEM);
	expect(uhmm_file_nr_cached(file) <= 512);
	fixture_verify(&f);
	expect_eq(uhmm_cpu_write(f.mm, ELSEWHERE, "x", 1, NULL), SIGSEGV);
	map_fixed(f.mm, ELSEWHERE, 1, RW);
	expect_eq(uhmm_cpu_write(f.mm, ELSEWHERE, "x", 1, NULL), -ENOMEM);
}
END_TEST

/* No RAM to swap in: the fault fails, and what is on swap stays there. */
START_TEST(no_room_to_swap_in)
{
	map_swapped_file();
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 100), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), -ENOMEM);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 0, 0), 0);
	expect_eq(uhmm_file_nr_swapped(file), NPAGES);
	expect_words(f.mm, AT);
}
END_TEST

/* What memory is too short for leaves nothing behind; what was there before stays, used or not. */
START_TEST(what_cannot_be_allocated_is_undone)
{
	map_written_file();
	expect_eq(uhmm_file_truncate(file, 2 * MANY * PAGE), 0);
	expect_eq(uhmm_file_populate(file, 2 * NPAGES, NPAGES), 0);
	expect_eq(uhmm_file_populate(file, 0, 2 * MANY), -ENOMEM);
	expect_eq(uhmm_file_nr_cached(file) + uhmm_file_nr_swapped(file), 2 * NPAGES);
	expect_eq(uhmm_file_size(file), 2 * MANY * PAGE);
	expect_words(f.mm, AT);
	/* Nothing keeps those that could be had from going to swap. */
	expect_eq(uhmm_file_populate(file, 0, 64), 0);
	expect_eq(uhmm_file_nr_cached(file) + uhmm_file_nr_swapped(file), 64);
	expect_words(f.mm, AT);
}
END_TEST

/* The slot was free for a moment, and is the same page's again: that is no lack of RAM. */
START_TEST(a_slot_that_was_free_for_a_moment)
{
	struct uhmm__frame *frame = NULL;
	uint64_t slot;

	map_swapped_file();
	slot = slot_of(0);
	store_relaxed(&f.m->swap->count[slot], 0);
	expect_eq(uhmm__swapin(f.m, slot, &frame), -ENOENT);
	expect_eq(uhmm__shmem_swapin(&file->mapping, 0, slot, NULL, &frame), -EEXIST);
	store_relaxed(&f.m->swap->count[slot], 1);
	expect_words(f.mm, AT);
}
END_TEST

/* Its file has given it up, but somebody reads and writes it still. */
START_TEST(truncated_pages_do_not_go_to_swap)
{
	uhmm_pfn_t pfn;
	uint32_t index;

	map_written_file();
	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, UHMM_FOLL_WRITE, &pfn), 1);
	expect_eq(uhmm_file_truncate(file, 0), 0);
	uhmm__lru_add_drain_all(f.m);
	uhmm_set_page_dirty(f.m, pfn);
	index = frame_index(f.m, pfn_to_frame(f.m, pfn));
	folio_get(pfn_to_frame(f.m, pfn));
	expect(uhmm__folio_isolate_lru(pfn_to_frame(f.m, pfn)));
	uhmm__reclaim_pages(f.m, &index, 1);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_OUT), 0);
	expect_eq(uhmm__swap_used(f.m), 0);
	uhmm_put_user_pages(f.m, &pfn, 1);
	fixture_verify(&f);
}
END_TEST

/* ---- memory gets short ---- */

/* Two processes and two mappings of each write, and see what the others wrote. */
START_TEST(more_than_ram_is_shared)
{
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_MEMORY, MANY * PAGE, &file), 0);
	map_file(f.mm, AT, MANY, MAP_SHARED);
	map_file(f.mm, ELSEWHERE, MANY, MAP_SHARED);
	fork_child();
	for (unsigned int i = 0; i < MANY; i++)
		put_word(i & 1 ? child : f.mm, (i & 2 ? AT : ELSEWHERE) + i * PAGE, i + 5);
	fixture_verify(&f);
	expect(uhmm_file_nr_swapped(file) >= MANY - 512);
	for (unsigned int i = 0; i < MANY; i++)
		expect_eq(get_word(i & 1 ? f.mm : child, AT + i * PAGE), i + 5);
	for (unsigned int i = 0; i < MANY; i++) {
		uint64_t word;

		expect_eq(uhmm_file_read(file, i * PAGE, &word, sizeof(word)), sizeof(word));
		expect_eq(word, i + 5);
	}
	fixture_verify(&f);
}
END_TEST

/* Anonymous memory, a memory file and a regular one, together three times the RAM. */
START_TEST(all_kinds_share_the_ram)
{
	const unsigned int n = 500;
	struct uhmm_file *regular;

	expect_eq(uhmm_file_create(f.m, UHMM_FILE_MEMORY, n * PAGE, &file), 0);
	expect_eq(uhmm_file_create(f.m, UHMM_FILE_REGULAR, n * PAGE, &regular), 0);
	map_file(f.mm, AT, n, MAP_SHARED);
	expect_eq(uhmm_mmap(f.mm, AT + n * PAGE, n * PAGE, RW, MAP_SHARED | MAP_FIXED, regular, 0,
			    NULL),
		  0);
	map_fixed(f.mm, AT + 2 * n * PAGE, n, RW);
	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < n; i++) {
			for (unsigned int k = 0; k < 3; k++)
				put_word(f.mm, AT + (k * n + i) * PAGE, round + 3 * i + k);
		}
		for (unsigned int i = 0; i < n; i++) {
			for (unsigned int k = 0; k < 3; k++)
				expect_eq(get_word(f.mm, AT + (k * n + i) * PAGE),
					  round + 3 * i + k);
		}
		fixture_verify(&f);
	}
	uhmm_file_put(regular);
}
END_TEST

/* ---- the verifier ---- */

/* It complains of what was just damaged, and of nothing else. */
static void expect_complaint(const char *what)
{
	expect(uhmm_machine_verify(f.m) != 0);
	if (!strstr(f.text, what))
		ck_abort_msg("expected \"%s\", got: %s", what, f.text);
	fixture_forget_reports(&f);
}

START_TEST(damage_is_seen)
{
	struct uhmm__mapping *mapping;
	struct uhmm__frame *frame;
	uint64_t slot;

	map_swapped_file();
	mapping = &file->mapping;
	mapping->nr_swapped++;
	expect_complaint("counts 5 pages on swap, but has 4");
	mapping->nr_swapped--;
	slot = slot_of(1);
	expect_eq(uhmm__radix_store(&mapping->pages, 1, slot_entry(slot_of(0))), 0);
	expect_complaint("counts 1 entries, but 2 name it");
	expect_eq(uhmm__radix_store(&mapping->pages, 1, slot_entry(slot)), 0);
	store_relaxed(&mapping->size, 3 * PAGE);
	expect_complaint("page 3 is cached, but beyond the end");
	store_relaxed(&mapping->size, NPAGES * PAGE);
	expect_eq(uhmm__radix_store(&mapping->disk, 0, 5), 0);
	expect_complaint("has a disk, but is a memory file");
	uhmm__radix_erase(&mapping->disk, 0);
	file->kind = UHMM_FILE_REGULAR;
	expect_complaint("page 0 is on swap, but the file has a disk");
	expect_eq(uhmm__radix_store(&mapping->disk, NPAGES, 5), 0);
	expect_complaint("page 4 is on the disk, but beyond the end");
	uhmm__radix_erase(&mapping->disk, NPAGES);
	file->kind = UHMM_FILE_MEMORY;
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT), 1);
	frame = frame_at(f.mm, AT);
	folio_set(frame, PG_SWAPCACHE);
	expect_complaint("folio is in a page cache and in the swap cache");
	folio_clear(frame, PG_SWAPCACHE);
	fixture_verify(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("shmem_swap");
	TCase *tags = tcase_create("tags"), *bytes = tcase_create("bytes");
	TCase *none = tcase_create("no swap"), *small = tcase_create("little RAM");
	TCase *small_bytes = tcase_create("little RAM, bytes");
	TCase *both[] = { tags, bytes };

	tcase_add_checked_fixture(tags, setup, teardown_file);
	tcase_add_checked_fixture(bytes, setup_bytes, teardown_file);
	for (unsigned int i = 0; i < 2; i++) {
		tcase_add_test(both[i], out_and_in);
		tcase_add_test(both[i], shared_anonymous_memory);
		tcase_add_test(both[i], every_mapping_finds_it);
		tcase_add_test(both[i], private_mappings_copy_it);
		tcase_add_test(both[i], system_calls_find_it);
		tcase_add_test(both[i], truncation_frees_slots);
		suite_add_tcase(suite, both[i]);
	}
	tcase_add_test(tags, pins_find_it);
	tcase_add_test(tags, devices_fault_it_in);
	tcase_add_test(tags, a_snapshot_leaves_it_out);
	tcase_add_loop_test(tags, in_the_swap_cache_alone, 0, 3);
	tcase_add_test(tags, clean_pages_are_holes);
	tcase_add_test(tags, swap_that_fails);
	tcase_add_test(tags, no_room_to_swap_in);
	tcase_add_test(tags, a_slot_that_was_free_for_a_moment);
	tcase_add_test(tags, truncated_pages_do_not_go_to_swap);
	tcase_add_test(tags, damage_is_seen);
	tcase_add_test(bytes, part_of_a_page_on_swap_is_zeroed);

	tcase_add_checked_fixture(none, setup_no_swap, teardown_file);
	tcase_add_test(none, no_swap);
	tcase_add_test(none, what_cannot_be_allocated_is_undone);
	suite_add_tcase(suite, none);

	tcase_add_checked_fixture(small, setup_small, teardown_file);
	tcase_add_test(small, what_cannot_be_allocated_is_undone);
	tcase_add_test(small, more_than_ram_is_shared);
	tcase_add_test(small, all_kinds_share_the_ram);
	suite_add_tcase(suite, small);
	tcase_add_checked_fixture(small_bytes, setup_small_bytes, teardown_file);
	tcase_add_test(small_bytes, more_than_ram_is_shared);
	suite_add_tcase(suite, small_bytes);
	return run_suite(suite);
}
