// SPDX-License-Identifier: LGPL-2.1-or-later
/* Address spaces: mappings, faults, fork and copy on write, as far as a process can tell. */
#define _GNU_SOURCE
#include "unit/inside.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static struct uhmm_vma_info info_of(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma_info info = { 0 };
	struct uhmm_vma *vma;

	uhmm_mmap_read_lock(mm);
	vma = uhmm_vma_lookup(mm, addr);
	if (vma)
		uhmm_vma_info(vma, &info);
	uhmm_mmap_read_unlock(mm);
	return info;
}

/* ---- VMAs ---- */

START_TEST(protect_splits_and_merges)
{
	map_written(AT, 6);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	expect_eq(uhmm_mprotect(f.mm, AT + 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 3);
	expect_eq(info_of(f.mm, AT + 2 * PAGE).start, AT + 2 * PAGE);
	expect_eq(info_of(f.mm, AT + 2 * PAGE).end, AT + 4 * PAGE);
	expect_eq(uhmm_mprotect(f.mm, AT + 2 * PAGE, 2 * PAGE, RW), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	expect_eq(uhmm_munmap(f.mm, AT + 2 * PAGE, PAGE), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	map_fixed(f.mm, AT + 2 * PAGE, 1, RW);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
}
END_TEST

START_TEST(find_and_lookup)
{
	map_fixed(f.mm, AT, 2, RW);
	uhmm_mmap_read_lock(f.mm);
	expect(!uhmm_vma_lookup(f.mm, AT - 1));
	expect(uhmm_vma_lookup(f.mm, AT + 2 * PAGE - 1));
	expect(!uhmm_vma_lookup(f.mm, AT + 2 * PAGE));
	expect(uhmm_find_vma(f.mm, 0) == uhmm_vma_lookup(f.mm, AT));
	expect(!uhmm_find_vma(f.mm, AT + 2 * PAGE));
	expect(uhmm_vma_mm(uhmm_find_vma(f.mm, 0)) == f.mm);
	uhmm_mmap_read_unlock(f.mm);
}
END_TEST

/* Lines at one place in their pages go to one set of a cache, which has few ways. */
START_TEST(first_objects_lie_apart)
{
	struct uhmm_vma *vma;
	unsigned int places = 0;

	map_fixed(f.mm, AT, 2, RW);
	uhmm_mmap_read_lock(f.mm);
	vma = uhmm_vma_lookup(f.mm, AT);
	const void *const objects[] = { f.mm, vma, uhmm__current(), uhmm__this_cpu() };

	uhmm_mmap_read_unlock(f.mm);
	for (unsigned int i = 0, k; i < ARRAY_SIZE(objects); i++) {
		for (k = 0; k < i; k++)
			if (!(((uintptr_t)objects[i] ^ (uintptr_t)objects[k]) & 0xfc0))
				break;
		places += k == i;
	}
	expect(places >= 3);
}
END_TEST

START_TEST(map_without_address_finds_room)
{
	uhmm_vaddr_t a, b;

	expect_eq(uhmm_mmap(f.mm, 0, 3 * PAGE, RW, ANON, NULL, 0, &a), 0);
	expect_eq(uhmm_mmap(f.mm, 0, 1, RW, ANON, NULL, 0, &b), 0);
	expect_eq(b + PAGE, a); /* top down */
	/* A hint is taken where there is room. */
	expect_eq(uhmm_mmap(f.mm, AT + 5, PAGE, RW, ANON, NULL, 0, &b), 0);
	expect_eq(b, AT);
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, RW, ANON, NULL, 0, &b), 0);
	expect(b != AT);
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, NULL, 0, &b), -EEXIST);
}
END_TEST

/* ---- faults ---- */

START_TEST(read_maps_the_zero_page_and_write_a_page)
{
	map_fixed(f.mm, AT, 1, RW);
	expect_eq(get_word(f.mm, AT), 0);
	expect(is_zero_page(f.mm, AT));
	expect(!pte_write(pte_at(f.mm, AT)));
	put_word(f.mm, AT, 9);
	expect(in_ram(f.mm, AT));
	expect_eq(counted(f.m, UHMM_CNT_FAULT_ANON_READ), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 1);
	expect_eq(get_word(f.mm, AT), 9);
}
END_TEST

/* Counts are what modelled time is made of: not of where a CPU's list of free frames runs out. */
START_TEST(each_write_fault_counts_the_same)
{
	enum { N = 400 };
	uint64_t locks, pmds;

	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, N, RW);
	locks = counted(f.m, UHMM_CNT_PTL);
	pmds = counted(f.m, UHMM_CNT_READ_PMD);
	for (unsigned int i = 1; i <= N; i++)
		put_word(f.mm, AT + i * PAGE, 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_ANON_WRITE), N + 1);
	expect_eq(counted(f.m, UHMM_CNT_PTL), locks + N);
	/* By the access, twice by the fault, by the access again. */
	expect_eq(counted(f.m, UHMM_CNT_READ_PMD), pmds + 4 * N);
}
END_TEST

/* What one write of @len bytes counts, and says of itself. */
static struct uhmm_counters counts_of_write(uhmm_vaddr_t addr, uint64_t len, unsigned int faults)
{
	struct uhmm_counters before, after;
	struct uhmm_access acc;
	uint64_t word = 7;

	uhmm_counters_read(f.m, &before);
	expect_eq(uhmm_cpu_write(f.mm, addr, &word, len, &acc), 0);
	uhmm_counters_read(f.m, &after);
	expect_eq(acc.done, len);
	expect_eq(acc.faults, faults);
	expect_eq(acc.fault_addr, faults ? addr : 0);
	for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
		after.v[i] -= before.v[i];
	return after;
}

/* One word has a way of its own (mm/write_word.h), which counts by courses. */
START_TEST(a_word_counts_as_any_other_write)
{
	struct uhmm_counters byte, word;

	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, 2, RW);
	for (unsigned int faults = 2; faults--;) {
		byte = counts_of_write(AT + PAGE, 1, faults);
		word = counts_of_write(AT + 2 * PAGE, sizeof(uint64_t), faults);
		expect_eq(word.v[UHMM_CNT_FAULT_ANON_WRITE], faults);
		for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
			ck_assert_msg(byte.v[i] == word.v[i], "%s: a byte %llu, a word %llu",
				      uhmm_counter_name(i), (unsigned long long)byte.v[i],
				      (unsigned long long)word.v[i]);
	}
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 7);
}
END_TEST

START_TEST(signals)
{
	struct uhmm_access acc;
	uint8_t buf[2 * PAGE];

	map_fixed(f.mm, AT, 1, RW);
	expect_eq(uhmm_cpu_read(f.mm, AT + PAGE - 3, buf, 8, &acc), SIGSEGV);
	expect_eq(acc.done, 3);
	expect_eq(acc.fault_addr, AT + PAGE);
	expect_eq(uhmm_cpu_read(f.mm, UHMM_TASK_SIZE, buf, 1, NULL), SIGSEGV);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT, buf, 1, NULL), SIGSEGV);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT, buf, 1, NULL), 0);
	expect_eq(uhmm_cpu_write(f.mm, AT, buf, 1, &acc), SIGSEGV);
	expect_eq(acc.done, 0);
	expect_eq(uhmm_cpu_exec(f.mm, AT, NULL), SIGSEGV);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ | PROT_EXEC), 0);
	expect_eq(uhmm_cpu_exec(f.mm, AT, NULL), 0);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_SIGSEGV), 5);
}
END_TEST

/* A page that had rights keeps its contents when it gets them back. */
START_TEST(protection_and_back)
{
	map_written(AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	expect_eq(get_word(f.mm, AT), 1);
	/* It is nobody else's: writable at once, without a fault. */
	expect(pte_write(pte_at(f.mm, AT)));
}
END_TEST

START_TEST(stack_grows)
{
	uhmm_vaddr_t top = 0x7ffff0000000UL;

	expect_eq(uhmm_mmap(f.mm, top - 4 * PAGE, 4 * PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN,
			    NULL, 0, NULL),
		  0);
	put_word(f.mm, top - 5 * PAGE, 3);
	expect_eq(info_of(f.mm, top - PAGE).start, top - 5 * PAGE);
	put_word(f.mm, top - 100 * PAGE, 4);
	expect_eq(info_of(f.mm, top - PAGE).start, top - 100 * PAGE);
	expect_eq(get_word(f.mm, top - 5 * PAGE), 3);
	/* Up to the limit of most systems. */
	expect_eq(uhmm_cpu_read(f.mm, top - (9UL << 20), NULL, 1, NULL), SIGSEGV);
}
END_TEST

START_TEST(populate)
{
	map_fixed(f.mm, AT, 4, RW);
	expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_POPULATE_READ), 0);
	expect(is_zero_page(f.mm, AT + PAGE));
	expect(pte_none(pte_at(f.mm, AT + 2 * PAGE)));
	expect_eq(uhmm_madvise(f.mm, AT, 4 * PAGE, MADV_POPULATE_WRITE), 0);
	for (unsigned int i = 0; i < 4; i++)
		expect(pte_write(pte_at(f.mm, AT + i * PAGE)));
	expect_eq(uhmm_madvise(f.mm, AT + 3 * PAGE, 2 * PAGE, MADV_POPULATE_READ), -ENOMEM);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_POPULATE_WRITE), -EINVAL);
}
END_TEST

START_TEST(dontneed_reads_zero_and_skips_holes)
{
	map_written(AT, 5);
	expect_eq(uhmm_munmap(f.mm, AT + PAGE, PAGE), 0);
	to_device(0, AT + 2 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT, 4 * PAGE, MADV_DONTNEED), -ENOMEM);
	expect_eq(get_word(f.mm, AT), 0);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 0);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 0);
	expect_eq(get_word(f.mm, AT + 4 * PAGE), 5);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
}
END_TEST

/* ---- fork ---- */

START_TEST(fork_copies_on_write_and_reuses)
{
	struct uhmm_mm *child;
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	pfn = pfn_at(f.mm, AT);
	expect(folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(!folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	expect(!pte_write(pte_at(f.mm, AT)));
	expect(!pte_write(pte_at(child, AT)));
	put_word(child, AT, 2);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 1);
	expect(pfn_at(child, AT) != pfn);
	/* The last one need not copy. */
	put_word(f.mm, AT, 3);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_REUSE), 1);
	expect_eq(pfn_at(f.mm, AT), pfn);
	expect_eq(get_word(child, AT), 2);
	expect_eq(get_word(f.mm, AT), 3);
	uhmm_mmput(child);
}
END_TEST

START_TEST(fork_shares_device_pages_read_only)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_DEVICE_PRIVATE_WRITE);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(leaf_type(pte_at(f.mm, AT)), LEAF_DEVICE_PRIVATE_READ);
	expect_eq(leaf_type(pte_at(child, AT)), LEAF_DEVICE_PRIVATE_READ);
	expect_eq(folio_mapcount(frame_at(f.mm, AT)), 2);
	/* A CPU's touch brings it home for both. */
	put_word(child, AT, 2);
	expect(in_ram(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(child, AT), 2);
	uhmm_mmput(child);
}
END_TEST

START_TEST(fork_leaves_out_what_it_was_told)
{
	struct uhmm_mm *child;

	map_written(AT, 3);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTFORK), 0);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_WIPEONFORK), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_read(child, AT, NULL, 1, NULL), SIGSEGV);
	expect_eq(get_word(child, AT + PAGE), 0);
	expect_eq(get_word(child, AT + 2 * PAGE), 3);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	uhmm_mmput(child);
}
END_TEST

/* A page that may be pinned is not shared: the child has its copy at once. */
START_TEST(fork_copies_pinned_pages)
{
	struct uhmm__frame *frame;
	struct uhmm_mm *child;

	map_written(AT, 1);
	frame = frame_at(f.mm, AT);
	atomic_fetch_add(&frame->refcount, UHMM_PIN_BIAS);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(pte_write(pte_at(f.mm, AT)));
	expect(frame_at(child, AT) != frame);
	expect_eq(get_word(child, AT), 1);
	atomic_fetch_sub(&frame->refcount, UHMM_PIN_BIAS);
	uhmm_mmput(child);
}
END_TEST

START_TEST(grandchildren_share)
{
	struct uhmm_mm *child, *grandchild;

	map_written(AT, 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	put_word(child, AT, 7);
	expect_eq(uhmm_mm_fork(child, &grandchild), 0);
	uhmm_mmput(child);
	/* The rmap leads to the grandchild's mapping of the child's and of the parent's page. */
	expect_eq(get_word(grandchild, AT), 7);
	expect_eq(get_word(grandchild, AT + PAGE), 2);
	to_device(0, AT + PAGE, 1);
	expect(on_device(grandchild, AT + PAGE));
	expect_eq(get_word(grandchild, AT + PAGE), 2);
	fixture_verify(&f);
	uhmm_mmput(grandchild);
}
END_TEST

/* ---- mremap, brk ---- */

START_TEST(move_keeps_contents)
{
	uhmm_vaddr_t to = AT + 100 * UHMM_PMD_SIZE + PAGE, out = 0;

	map_written(AT, 4);
	to_device(0, AT + PAGE, 1);
	expect_eq(uhmm_mremap(f.mm, AT, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to,
			      &out),
		  0);
	expect_eq(out, to);
	expect(on_device(f.mm, to + PAGE));
	expect_eq(uhmm_cpu_read(f.mm, AT, NULL, 1, NULL), SIGSEGV);
	/* The rmap finds it there. */
	fixture_verify(&f);
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(get_word(f.mm, to + i * PAGE), i + 1);
	expect_eq(get_word(f.mm, to + 5 * PAGE), 0);
	expect_eq(uhmm_mremap(f.mm, to, 6 * PAGE, 2 * PAGE, 0, 0, &out), 0);
	expect_eq(out, to);
	expect_eq(uhmm_cpu_read(f.mm, to + 2 * PAGE, NULL, 1, NULL), SIGSEGV);
}
END_TEST

START_TEST(move_dontunmap_leaves_an_empty_mapping)
{
	uhmm_vaddr_t out;

	map_written(AT, 2);
	expect_eq(uhmm_mremap(f.mm, AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0,
			      &out),
		  0);
	expect_eq(get_word(f.mm, out), 1);
	expect_eq(get_word(f.mm, AT), 0);
	put_word(f.mm, AT, 5);
	expect_eq(get_word(f.mm, out), 1);
}
END_TEST

START_TEST(heap)
{
	uhmm_vaddr_t end;

	uhmm_mm_set_brk(f.mm, AT + 100);
	expect_eq(uhmm_brk(f.mm, 0, &end), 0);
	expect_eq(end, AT + 100);
	expect_eq(uhmm_brk(f.mm, AT + 3 * PAGE + 1, &end), 0);
	expect_eq(end, AT + 3 * PAGE + 1);
	put_word(f.mm, AT + 3 * PAGE, 1);
	expect_eq(uhmm_brk(f.mm, AT + PAGE, &end), 0);
	expect_eq(uhmm_cpu_read(f.mm, AT + 3 * PAGE, NULL, 1, NULL), SIGSEGV);
	/* Nothing below the start. */
	expect_eq(uhmm_brk(f.mm, AT, &end), 0);
	expect_eq(end, AT + PAGE);
}
END_TEST

/* ---- life ---- */

START_TEST(users_and_structure)
{
	struct uhmm_mm *mm;

	expect_eq(uhmm_mm_create(f.m, &mm), 0);
	expect(uhmm_mm_id(mm) > uhmm_mm_id(f.mm));
	expect(uhmm_mm_machine(mm) == f.m);
	uhmm_mmget(mm);
	uhmm_mmput(mm);
	expect(uhmm_mmget_not_zero(mm));
	uhmm_mmgrab(mm);
	uhmm_mmput(mm);
	uhmm_mmput(mm);
	expect(!uhmm_mmget_not_zero(mm));
	uhmm_mmdrop(mm);
}
END_TEST

START_TEST(pagemap_says_what_is_there)
{
	uint64_t entry;

	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, 1, RW);
	entry = pagemap_of(f.mm, AT);
	expect(entry & UHMM_PM_PRESENT && entry & UHMM_PM_MMAP_EXCLUSIVE);
	expect_eq(entry & UHMM_PM_PFN_MASK, pfn_at(f.mm, AT));
	expect_eq(pagemap_of(f.mm, AT + PAGE), 0);
	to_device(0, AT, 1);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_SWAP);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mm");
	TCase *tc = tcase_create("address spaces");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, protect_splits_and_merges);
	tcase_add_test(tc, find_and_lookup);
	tcase_add_test(tc, first_objects_lie_apart);
	tcase_add_test(tc, map_without_address_finds_room);
	tcase_add_test(tc, read_maps_the_zero_page_and_write_a_page);
	tcase_add_test(tc, each_write_fault_counts_the_same);
	tcase_add_test(tc, a_word_counts_as_any_other_write);
	tcase_add_test(tc, signals);
	tcase_add_test(tc, protection_and_back);
	tcase_add_test(tc, stack_grows);
	tcase_add_test(tc, populate);
	tcase_add_test(tc, dontneed_reads_zero_and_skips_holes);
	tcase_add_test(tc, fork_copies_on_write_and_reuses);
	tcase_add_test(tc, fork_shares_device_pages_read_only);
	tcase_add_test(tc, fork_leaves_out_what_it_was_told);
	tcase_add_test(tc, fork_copies_pinned_pages);
	tcase_add_test(tc, grandchildren_share);
	tcase_add_test(tc, move_keeps_contents);
	tcase_add_test(tc, move_dontunmap_leaves_an_empty_mapping);
	tcase_add_test(tc, heap);
	tcase_add_test(tc, users_and_structure);
	tcase_add_test(tc, pagemap_says_what_is_there);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
