// SPDX-License-Identifier: LGPL-2.1-or-later
/* Swap: slots, the cache, swapping in and out, what fork and migration do with it. */
#define _GNU_SOURCE
#include "unit/swap_world.h"

/* ---- out and in ---- */

START_TEST(out_and_in)
{
	map_written(AT, 8);
	pageout(f.mm, AT, 8);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_OUT), 8);
	expect_eq(uhmm__swap_used(f.m), 8);
	for (unsigned int i = 0; i < 8; i++) {
		pte_t pte = pte_at(f.mm, AT + i * PAGE);
		uint64_t pm = pagemap_of(f.mm, AT + i * PAGE);

		expect(leaf_is_swap(pte) && pte.val & LEAF_EXCLUSIVE);
		expect_eq(pm, UHMM_PM_SWAP | leaf_offset(pte) << 5);
	}
	for (unsigned int i = 0; i < 8; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_IN), 8);
	fixture_verify(&f);
}
END_TEST

START_TEST(ram_disk_gives_slots_up)
{
	map_written(AT, 2);
	pageout(f.mm, AT, 2);
	touch(f.mm, AT);
	put_word(f.mm, AT + PAGE, 9);
	expect_eq(uhmm__swap_used(f.m), 0);
	/* Nobody else has it: writable at once, and dirty, for there is no other copy. */
	expect(pte_write(pte_at(f.mm, AT)) && !pte_dirty(pte_at(f.mm, AT)));
	expect(folio_test(frame_at(f.mm, AT), PG_DIRTY));
	expect(folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 0);
	pageout(f.mm, AT, 2);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 9);
}
END_TEST

START_TEST(disk_drops_clean_pages)
{
	map_written(AT, 3);
	pageout(f.mm, AT, 3);
	for (unsigned int i = 0; i < 3; i++)
		touch(f.mm, AT + i * PAGE);
	expect(cached(AT) && cached(AT + PAGE) && cached(AT + 2 * PAGE));
	expect_eq(folio_ref_count(frame_at(f.mm, AT)) - 1,
		  1 + !folio_test(frame_at(f.mm, AT), PG_LRU));
	/* By the entry that is there: no fault, only its dirty bit. */
	put_word(f.mm, AT + PAGE, 22);
	expect(cached(AT + PAGE));
	pageout(f.mm, AT, 3);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_DROP), 2);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_OUT), 4);
	/* A write is the first use: no reason to keep the slot. */
	put_word(f.mm, AT + 2 * PAGE, 33);
	expect(!cached(AT + 2 * PAGE));
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 22);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 33);
}
END_TEST

/* More than half of the slots in use: those that have a copy in RAM are given up. */
START_TEST(disk_half_full)
{
	map_written(AT, 200);
	pageout(f.mm, AT, 200);
	touch(f.mm, AT);
	expect(!cached(AT));
	expect_eq(uhmm_munmap(f.mm, AT + PAGE, 150 * PAGE), 0);
	touch(f.mm, AT + 199 * PAGE);
	expect(cached(AT + 199 * PAGE));
}
END_TEST

START_TEST(gone_with_the_entries)
{
	map_written(AT, 6);
	pageout(f.mm, AT, 6);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_FREE), 0);
	expect_eq(uhmm__swap_used(f.m), 3);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 0);
	fork_child();
	expect_eq(uhmm_munmap(f.mm, AT, 6 * PAGE), 0);
	expect_eq(uhmm__swap_used(f.m), 3);
	expect_eq(get_word(child, AT + 5 * PAGE), 6);
	uhmm_mmput(child);
	child = NULL;
	expect_eq(uhmm__swap_used(f.m), 0);
}
END_TEST

/* Zapping takes the cached copy along, which nobody could find any more. */
START_TEST(zap_empties_the_cache)
{
	struct uhmm_memory_use use;

	map_written(AT, 1);
	fork_child();
	pageout(f.mm, AT, 1);
	expect(!swapped(f.mm, AT)); /* shared: not this way */
	uhmm_mmput(child);
	pageout(f.mm, AT, 1);
	fork_child();
	touch(f.mm, AT);
	expect(cached(AT));
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	uhmm_machine_memory(f.m, &use);
	expect_eq(use.nr_swap_used, 1);
	uhmm_mmput(child);
	child = NULL;
	uhmm__lru_add_drain(f.m);
	uhmm_machine_memory(f.m, &use);
	expect_eq(use.nr_swap_used, 0);
	expect_eq(use.nr_ram_used, 0);
	expect(use.swap > 0);
}
END_TEST

START_TEST(rights_and_places)
{
	map_written(AT, 3);
	pageout(f.mm, AT, 3);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect(swapped(f.mm, AT) && exclusive_entry(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
	expect(!pte_write(pte_at(f.mm, AT)));
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	put_word(f.mm, AT, 11);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 0);
	expect_eq(uhmm_mremap(f.mm, AT + PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      ELSEWHERE, NULL),
		  0);
	expect(swapped(f.mm, ELSEWHERE));
	fixture_verify(&f);
	put_word(f.mm, ELSEWHERE, 22);
	expect_eq(get_word(f.mm, ELSEWHERE + PAGE), 3);
	pageout(f.mm, ELSEWHERE, 2);
	expect_eq(get_word(f.mm, ELSEWHERE), 22);
}
END_TEST

/* ---- what is not swapped out ---- */

START_TEST(let_alone)
{
	struct uhmm__frame *locked, *isolated, *referenced;
	struct uhmm_task *locker;

	map_written(AT, 6);
	touch(f.mm, AT + 6 * PAGE - 1);
	uhmm__lru_add_drain(f.m);
	locked = frame_at(f.mm, AT);
	isolated = frame_at(f.mm, AT + PAGE);
	referenced = frame_at(f.mm, AT + 2 * PAGE);
	locker = lock_by_another(locked);
	expect(uhmm__folio_isolate_lru(isolated));
	folio_get(referenced);
	to_device(0, AT + 3 * PAGE, 1);
	expect_eq(uhmm_mmap(f.mm, ELSEWHERE, PAGE, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0,
			    NULL),
		  0);
	expect_eq(uhmm_madvise(f.mm, ELSEWHERE, PAGE, MADV_PAGEOUT), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, 6 * PAGE, MADV_PAGEOUT), 0);
	unlock_by_another(locker, locked);
	folio_set(isolated, PG_LRU);
	expect(pte_present(pte_at(f.mm, AT)));
	expect(pte_present(pte_at(f.mm, AT + PAGE)));
	/* Unmapped, and then it was seen that somebody has a reference: still in the cache. */
	expect(swapped(f.mm, AT + 2 * PAGE));
	expect(folio_test(referenced, PG_SWAPCACHE));
	expect(on_device(f.mm, AT + 3 * PAGE));
	expect(swapped(f.mm, AT + 4 * PAGE) && swapped(f.mm, AT + 5 * PAGE));
	folio_put(f.m, referenced);
	fixture_verify(&f);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
	expect(frame_at(f.mm, AT + 2 * PAGE) == referenced);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_SWAP_CACHED), 1);
}
END_TEST

/* A pin means that a device may write at any time. */
START_TEST(pinned)
{
	struct uhmm__frame *page;

	map_written(AT, 1);
	page = frame_at(f.mm, AT);
	atomic_fetch_add(&page->refcount, UHMM_PIN_BIAS);
	pageout(f.mm, AT, 1);
	expect(pte_present(pte_at(f.mm, AT)) && !folio_test(page, PG_SWAPCACHE));
	atomic_fetch_sub(&page->refcount, UHMM_PIN_BIAS);
	pageout(f.mm, AT, 1);
	expect(swapped(f.mm, AT));
}
END_TEST

START_TEST(swap_is_full)
{
	map_written(AT, 300); /* of 256 slots */
	pageout(f.mm, AT, 300);
	expect_eq(uhmm__swap_used(f.m), 256);
	for (unsigned int i = 0; i < 300; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	map_written(ELSEWHERE, 2);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_SWAP, 1, 1), 0);
	pageout(f.mm, ELSEWHERE, 2);
	expect(pte_present(pte_at(f.mm, ELSEWHERE)) && swapped(f.mm, ELSEWHERE + PAGE));
}
END_TEST

/* ---- fork ---- */

START_TEST(fork_shares_slots)
{
	map_written(AT, 3);
	pageout(f.mm, AT, 3);
	fork_child();
	fixture_verify(&f);
	expect_eq(count_of(f.mm, AT), 2);
	expect(!exclusive_entry(f.mm, AT) && !exclusive_entry(child, AT));
	/* The first to come reads it in, read-only; the slot stays for the other. */
	touch(f.mm, AT);
	expect(cached(AT) && !pte_write(pte_at(f.mm, AT)) && swapped(child, AT));
	expect_eq(count_of(child, AT), 1);
	/* The other finds it in the cache: one page, mapped twice, and no slot. */
	touch(child, AT);
	expect(frame_at(f.mm, AT) == frame_at(child, AT));
	expect(!cached(AT));
	expect_eq(counted(f.m, UHMM_CNT_SWAP_IN), 1);
	put_word(child, AT, 77);
	expect_eq(get_word(f.mm, AT), 1);
	/* A write copies what the other still needs, */
	put_word(f.mm, AT + PAGE, 88);
	expect_eq(get_word(child, AT + PAGE), 2);
	/* and reuses what nobody else needs any more. */
	expect_eq(uhmm_munmap(child, AT + 2 * PAGE, PAGE), 0);
	put_word(f.mm, AT + 2 * PAGE, 99);
	expect(folio_test(frame_at(f.mm, AT + 2 * PAGE), PG_ANON_EXCLUSIVE));
	fixture_verify(&f);
}
END_TEST

/* wp_can_reuse_anon_folio() with the folio in the swap cache. */
START_TEST(cow_reuse_frees_the_slot)
{
	struct uhmm__frame *page;

	map_written(AT, 2);
	pageout(f.mm, AT, 2);
	fork_child();
	touch(f.mm, AT);
	touch(f.mm, AT + PAGE);
	page = frame_at(f.mm, AT);
	expect(cached(AT) && !pte_write(pte_at(f.mm, AT)));
	/* The child's entry still names the slot: a copy. */
	put_word(f.mm, AT, 10);
	expect(frame_at(f.mm, AT) != page);
	page = frame_at(f.mm, AT + PAGE);
	expect_eq(uhmm_munmap(child, AT, 2 * PAGE), 0);
	expect(cached(AT + PAGE));
	put_word(f.mm, AT + PAGE, 20);
	expect(frame_at(f.mm, AT + PAGE) == page && !cached(AT + PAGE));
	expect_eq(get_word(f.mm, AT), 10);
	expect_eq(get_word(f.mm, AT + PAGE), 20);
}
END_TEST

/* A page that came back read-only for several is found by the rmap of all of them. */
START_TEST(rmap_after_swapin)
{
	map_written(AT, 1);
	pageout(f.mm, AT, 1);
	fork_child();
	touch(child, AT);
	touch(f.mm, AT);
	fixture_verify(&f);
	to_device(0, AT, 1);
	expect(on_device(f.mm, AT) && on_device(child, AT));
	expect_eq(get_word(child, AT), 1);
}
END_TEST

/* ---- devices ---- */

START_TEST(device_reads_and_writes)
{
	static uint64_t buf[4 * PAGE / 8];
	struct uhmm_mirror_cmd cmd;

	map_written(AT, 4);
	pageout(f.mm, AT, 4);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_SNAPSHOT, AT, 4, buf, &cmd), 0);
	expect_eq(((uint8_t *)buf)[0], 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 4, buf, &cmd), 0);
	expect_eq(cmd.faults, 1);
	expect_eq(buf[3 * PAGE / 8], 4);
	pageout(f.mm, AT, 4);
	for (unsigned int i = 0; i < 4; i++)
		buf[i * PAGE / 8] = buf[(i + 1) * PAGE / 8 - 1] = 50 + i; /* bytes, or tags */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_WRITE, AT, 4, buf, &cmd), 0);
	pageout(f.mm, AT, 4);
	expect_eq(get_word(f.mm, AT + PAGE), 51);
}
END_TEST

/*
 * What came back from a disk by a read is mapped writable and clean, and hmm_range_fault() gives it
 * out for writing as it is. A device that writes there leaves no trace in the CPU's page table: the
 * driver must say so, or reclaim drops the page for its old copy. mlx5 (ODP) does; amdkfd, nouveau,
 * drm_gpusvm and lib/test_hmm.c do not.
 */
static uint64_t device_writes(bool tell)
{
	const uint64_t word = 55;
	uint64_t pfn = 0;
	struct watcher w;
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.start = AT,
		.end = AT + PAGE,
		.hmm_pfns = &pfn,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE,
	};

	map_written(AT, 1);
	pageout(f.mm, AT, 1);
	touch(f.mm, AT);
	watch(&w, f.mm, AT, 1);
	range.notifier = w.mni;
	range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_range_fault(&range), 0);
	uhmm_mmap_read_unlock(f.mm);
	expect(pfn & UHMM_HMM_PFN_WRITE && !pte_dirty(pte_at(f.mm, AT)));
	uhmm_page_write(f.m, uhmm_hmm_pfn_to_pfn(pfn), 0, &word, sizeof(word));
	if (tell)
		uhmm_set_page_dirty(f.m, uhmm_hmm_pfn_to_pfn(pfn));
	pageout(f.mm, AT, 1);
	expect_eq(w.calls, 1);
	unwatch(&w);
	return get_word(f.mm, AT);
}

START_TEST(device_write_that_is_told)
{
	expect_eq(device_writes(true), 55);
}
END_TEST

START_TEST(device_write_that_is_not_told)
{
	expect_eq(device_writes(false), 1);
}
END_TEST

/* A device loses its translation before the page goes. */
START_TEST(notified)
{
	struct watcher w;

	map_written(AT, 2);
	watch(&w, f.mm, AT, 2);
	pageout(f.mm, AT, 1);
	expect_eq(w.events[UHMM_MMU_NOTIFY_CLEAR], 1);
	expect(w.start == AT && w.end == AT + PAGE && !w.owner);
	touch(f.mm, AT);
	expect_eq(w.calls, 1);
	unwatch(&w);
}
END_TEST

static uint64_t src[4], dst[4];

static struct uhmm_migrate_vma collect(unsigned int npages)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.vma = uhmm_vma_lookup(f.mm, AT),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + npages * PAGE,
		.pgmap_owner = f.dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	return args;
}

static void finish(struct uhmm_migrate_vma *args)
{
	uhmm_migrate_vma_finalize(args);
	uhmm_mmap_read_unlock(f.mm);
	fixture_verify(&f);
}

START_TEST(entries_are_not_collected)
{
	struct uhmm_migrate_vma args;

	map_written(AT, 2);
	pageout(f.mm, AT, 1);
	args = collect(2);
	expect_eq(args.cpages, 1);
	expect_eq(src[0], 0);
	expect(src[1] & M);
	finish(&args);
	expect(swapped(f.mm, AT));
}
END_TEST

/* A device has no place in the swap cache: the slot must go, or the page stays. */
START_TEST(cached_page_to_device)
{
	struct uhmm_migrate_vma args;

	map_written(AT, 2);
	pageout(f.mm, AT, 2);
	fork_child();
	touch(f.mm, AT);
	touch(f.mm, AT + PAGE);
	expect_eq(uhmm_munmap(child, AT + PAGE, PAGE), 0);
	expect(cached(AT) && cached(AT + PAGE));
	args = collect(2);
	expect_eq(args.cpages, 2);
	for (unsigned int i = 0; i < 2; i++) {
		uhmm_pfn_t pfn;

		expect_eq(uhmm_devmem_alloc(uhmm_device_memory(f.dev[0]), NULL, &pfn), 0);
		uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(src[i]));
		dst[i] = uhmm_migrate_pfn(pfn);
	}
	uhmm_migrate_vma_pages(&args);
	expect(src[0] & V && !(src[0] & M));
	expect(src[1] & M);
	finish(&args);
	expect(in_ram(f.mm, AT) && cached(AT) && on_device(f.mm, AT + PAGE));
	expect_eq(get_word(child, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* To another page of RAM it goes with its place in the cache. */
START_TEST(cached_page_to_ram)
{
	struct uhmm_migrate_vma args;
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	pageout(f.mm, AT, 1);
	fork_child();
	touch(f.mm, AT);
	args = collect(1);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_copy_highpage(f.m, pfn, uhmm_migrate_pfn_to_pfn(src[0]));
	dst[0] = uhmm_migrate_pfn(pfn);
	uhmm_migrate_vma_pages(&args);
	expect(src[0] & M);
	finish(&args);
	expect_eq(pfn_at(f.mm, AT), pfn);
	expect(cached(AT));
	expect_eq(get_word(child, AT), 1);
	expect_eq(pfn_at(child, AT), pfn);
	expect_eq(counted(f.m, UHMM_CNT_SWAP_IN), 1);
}
END_TEST

/*
 * M04: a page with an up-to-date copy in swap is written by its entry; collecting clears the entry,
 * and with it the only trace of the write; the migration fails, and reclaim drops the page.
 */
START_TEST(m04_dirty_bit_of_a_collected_entry)
{
	struct uhmm_migrate_vma args;

	map_written(AT, 1);
	pageout(f.mm, AT, 1);
	touch(f.mm, AT);
	put_word(f.mm, AT, 44);
	expect(cached(AT) && pte_dirty(pte_at(f.mm, AT)) &&
	       !folio_test(frame_at(f.mm, AT), PG_DIRTY));
	args = collect(1);
	expect(src[0] & M);
	dst[0] = 0;
	uhmm_migrate_vma_pages(&args);
	finish(&args);
	expect(cached(AT));
	pageout(f.mm, AT, 1);
	expect(swapped(f.mm, AT));
	expect_eq(counted(f.m, UHMM_CNT_SWAP_DROP), 0);
	expect_eq(get_word(f.mm, AT), 44);
}
END_TEST

/* The same by way of the rmap, as when pages are collected by pfn or mapped elsewhere. */
START_TEST(m04_by_the_combined_walker)
{
	uint64_t pfns[1] = { 0 };
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = pfns,
		.dst = dst,
		.pgmap_owner = f.dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_FAULT,
		.start = AT,
		.end = AT + PAGE,
	};

	map_written(AT, 1);
	pageout(f.mm, AT, 1);
	touch(f.mm, AT);
	put_word(f.mm, AT, 44);
	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect_eq(args.cpages, 1);
	finish(&args);
	pageout(f.mm, AT, 1);
	expect_eq(get_word(f.mm, AT), 44);
}
END_TEST

/* The combined walker reads in what it was asked to fault, and takes it along. */
START_TEST(combined_walk_swaps_in)
{
	static uint64_t buf[4 * PAGE / 8];

	map_written(AT, 4);
	pageout(f.mm, AT + PAGE, 2);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, AT, 4, buf, NULL), 0);
	for (unsigned int i = 0; i < 4; i++) {
		expect(on_device(f.mm, AT + i * PAGE));
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
}
END_TEST

/* ---- seen from outside ---- */

static void keep_line(void *data, const char *text)
{
	char *all = data;
	size_t n = strlen(all);

	snprintf(all + n, 8192 - n, "%s\n", text);
}

START_TEST(dumped)
{
	static char text[8192], want[128];
	uint64_t slot;

	text[0] = '\0';
	map_written(AT, 2);
	pageout(f.mm, AT, 2);
	slot = leaf_offset(pte_at(f.mm, AT));
	fork_child();
	touch(child, AT);
	uhmm_mm_dump(f.mm, keep_line, text);
	snprintf(want, sizeof(want), "swap slot %llu count 1 cached 0x%llx content 0x1\n",
		 (unsigned long long)slot, (unsigned long long)pfn_at(child, AT));
	ck_assert_msg(strstr(text, want), "no \"%s\" in: %s", want, text);
	snprintf(want, sizeof(want), "swap slot %llu count 2 content 0x2\n",
		 (unsigned long long)slot + 1);
	ck_assert_msg(strstr(text, want), "no \"%s\" in: %s", want, text);
}
END_TEST

static int64_t compare_with(struct uhmm_machine *other, enum uhmm_compare what)
{
	return uhmm_machine_compare(f.m, other, what, NULL, NULL);
}

/* Where a page is makes a different state, but not different contents. */
START_TEST(compared)
{
	struct fixture first;

	map_written(AT, 4);
	uhmm_task_leave();
	first = f;
	setup_ram_disk();
	map_written(AT, 4);
	expect_eq(compare_with(first.m, UHMM_COMPARE_STATE), 0);
	pageout(f.mm, AT, 2);
	expect_eq(compare_with(first.m, UHMM_COMPARE_STATE), 2);
	expect_eq(compare_with(first.m, UHMM_COMPARE_CONTENTS), 0);
	store_relaxed(&f.m->swap->tags[leaf_offset(pte_at(f.mm, AT))], 9);
	expect_eq(compare_with(first.m, UHMM_COMPARE_CONTENTS), 1);
	teardown();
	f = first;
	uhmm_task_enter(f.task);
}
END_TEST

/* ---- the verifier sees what is wrong ---- */

static void expect_violation(const char *text)
{
	ck_assert_int_gt(uhmm_machine_verify(f.m), 0);
	ck_assert_msg(strstr(f.text, text), "no \"%s\" in: %s", text, f.text);
	fixture_forget_reports(&f);
}

START_TEST(damages)
{
	struct uhmm__swap *s = f.m->swap;
	struct uhmm__frame *page;
	uint64_t slot;
	pte_t pte;

	map_written(AT, 2);
	pageout(f.mm, AT, 2);
	pte = pte_at(f.mm, AT);
	slot = leaf_offset(pte);
	atomic_fetch_add(&s->count[slot], 1);
	expect_violation("counts 2 entries, but 1 name it");
	expect_violation("is exclusive, but others name its slot");
	atomic_fetch_sub(&s->count[slot], 1);
	set_pte(ptep_at(f.mm, AT), swap_entry(s->nr_slots));
	expect_violation("names no slot");
	set_pte(ptep_at(f.mm, AT), swap_entry(200));
	expect_violation("names a free swap slot");
	set_pte(ptep_at(f.mm, AT), pte);
	atomic_fetch_add(&s->nr_free, 1);
	expect_violation("swap slots are counted");
	atomic_fetch_sub(&s->nr_free, 1);
	s->used[200 / 64] |= BIT(200 % 64);
	expect_violation("is in use, but neither named nor cached");
	s->used[200 / 64] &= ~BIT(200 % 64);
	touch(f.mm, AT);
	page = frame_at(f.mm, AT);
	expect(cached(AT));
	page->aux = 7;
	expect_violation("which does not know");
	page->aux = (uint32_t)slot;
	store_relaxed(&s->cache[slot], 0);
	expect_violation("folio is not in the swap cache");
	store_relaxed(&s->cache[slot], (uint32_t)frame_pfn(f.m, page));
	folio_clear(page, PG_SWAPBACKED);
	expect_violation("lazily freed folio is in the swap cache");
	folio_set(page, PG_SWAPBACKED);
	fixture_verify(&f);
}
END_TEST

static void add_common(TCase *tc)
{
	tcase_add_test(tc, out_and_in);
	tcase_add_test(tc, gone_with_the_entries);
	tcase_add_test(tc, zap_empties_the_cache);
	tcase_add_test(tc, rights_and_places);
	tcase_add_test(tc, let_alone);
	tcase_add_test(tc, pinned);
	tcase_add_test(tc, cow_reuse_frees_the_slot);
	tcase_add_test(tc, rmap_after_swapin);
	tcase_add_test(tc, notified);
	tcase_add_test(tc, entries_are_not_collected);
	tcase_add_test(tc, cached_page_to_device);
	tcase_add_test(tc, cached_page_to_ram);
	tcase_add_test(tc, combined_walk_swaps_in);
	tcase_add_test(tc, dumped);
}

static Suite *suite(void)
{
	Suite *s = suite_create("swap");
	TCase *tc = tcase_create("RAM disk");

	tcase_add_checked_fixture(tc, setup_ram_disk, teardown);
	add_common(tc);
	tcase_add_test(tc, ram_disk_gives_slots_up);
	tcase_add_test(tc, swap_is_full);
	tcase_add_test(tc, fork_shares_slots);
	tcase_add_test(tc, compared);
	tcase_add_test(tc, device_reads_and_writes);
	suite_add_tcase(s, tc);
	tc = tcase_create("disk");
	tcase_add_checked_fixture(tc, setup_disk, teardown);
	add_common(tc);
	tcase_add_test(tc, disk_drops_clean_pages);
	tcase_add_test(tc, disk_half_full);
	tcase_add_test(tc, m04_dirty_bit_of_a_collected_entry);
	tcase_add_test(tc, m04_by_the_combined_walker);
	tcase_add_test(tc, device_write_that_is_told);
	tcase_add_test(tc, device_write_that_is_not_told);
	tcase_add_test(tc, device_reads_and_writes);
	tcase_add_test(tc, damages);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
