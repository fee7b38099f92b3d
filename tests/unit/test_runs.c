// SPDX-License-Identifier: LGPL-2.1-or-later
/* Pages that go to a device several at a time: what is odd among them is seen. */
#include "mm/migration_entry.h"

#include "devmem/pool.h"
#include "unit/migrate_world.h"
#include "unit/watched.h"

static struct uhmm_hmm_range range;

/* Up to where all are locked and their entries replaced; mmap_lock is held. */
static void walk(uhmm_vaddr_t start, unsigned int npages)
{
	prepare(start, npages, SYSTEM);
	args.vma = NULL;
	memset(src, 0, sizeof(src));
	range = (struct uhmm_hmm_range){
		.size = sizeof(range),
		.notifier = w.mni,
		.start = start,
		.end = start + npages * PAGE,
		.hmm_pfns = src,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_MIGRATE,
		.dev_private_owner = f.dev[0],
		.migrate = &args,
	};
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
}

static void walk_and_unmap(uhmm_vaddr_t start, unsigned int npages)
{
	walk(start, npages);
	uhmm_migrate_hmm_range_setup(&range);
}

static struct uhmm__frame *old[16];

/* All of them to pages of the device, up to finalize. */
static void move(uhmm_vaddr_t start, unsigned int npages)
{
	for (unsigned int i = 0; i < npages; i++)
		old[i] = frame_at(f.mm, start + i * PAGE);
	walk_and_unmap(start, npages);
	for (unsigned int i = 0; i < npages; i++)
		give(i, device_page(0));
	uhmm_migrate_vma_pages(&args);
}

static struct uhmm__frame *new_at(unsigned int i)
{
	return pfn_to_frame(f.m, uhmm_migrate_pfn_to_pfn(dst[i]));
}

/* Each bit that an entry may have goes into its migration entry, and nothing else. */
START_TEST(entries_of_exclusive_pages)
{
	const uint64_t bits[] = {
		0,	     PTE_ACCESSED,
		PTE_DIRTY,   PTE_SOFT_DIRTY,
		PTE_UFFD_WP, PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_UFFD_WP
	};
	enum { NR = ARRAY_SIZE(bits) };
	pte_t pte[2 * NR];

	map_written(AT, 2 * NR);
	for (unsigned int i = 0; i < 2 * NR; i++) {
		ptent_t *ptep = ptep_at(f.mm, AT + i * PAGE);
		uint64_t all = PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_UFFD_WP |
			       (i < NR ? 0 : PTE_RW);

		pte[i] = pte_set(pte_clear_bits(ptep_get(ptep), all), bits[i % NR]);
		set_pte(ptep, pte[i]);
		folio_clear(frame_at(f.mm, AT + i * PAGE), PG_DIRTY);
	}
	walk(AT, 2 * NR);
	for (unsigned int i = 0; i < 2 * NR; i++) {
		struct uhmm__frame *page = pfn_to_frame(f.m, pte_pfn(pte[i]));

		expect_eq(pte_at(f.mm, AT + i * PAGE).val,
			  make_migration_entry(pte[i], true, true).val);
		expect(folio_test(page, PG_LOCKED) && !folio_test(page, PG_ANON_EXCLUSIVE));
		expect_eq(folio_test(page, PG_DIRTY), !!(pte[i].val & PTE_DIRTY));
		expect_eq(page->mapcount, 0);
		expect_eq(page->refcount, 1 + !folio_test(page, PG_LRU));
	}
	uhmm_migrate_hmm_range_setup(&range);
	finish();
}
END_TEST

/* The same at the other end: they go on to the device's entries. */
START_TEST(entries_of_device_pages)
{
	map_written(AT, 4);
	set_pte(ptep_at(f.mm, AT + PAGE), pte_set(pte_at(f.mm, AT + PAGE), PTE_SOFT_DIRTY));
	set_pte(ptep_at(f.mm, AT + 2 * PAGE), pte_set(pte_at(f.mm, AT + 2 * PAGE), PTE_UFFD_WP));
	set_pte(ptep_at(f.mm, AT + 3 * PAGE), pte_clear_bits(pte_at(f.mm, AT + 3 * PAGE), PTE_RW));
	move(AT, 4);
	finish();
	expect_eq(pte_at(f.mm, AT).val & (LEAF_SOFT_DIRTY | LEAF_UFFD_WP), 0);
	expect_eq(pte_at(f.mm, AT + PAGE).val & (LEAF_SOFT_DIRTY | LEAF_UFFD_WP), LEAF_SOFT_DIRTY);
	expect_eq(pte_at(f.mm, AT + 2 * PAGE).val & (LEAF_SOFT_DIRTY | LEAF_UFFD_WP), LEAF_UFFD_WP);
	for (unsigned int i = 0; i < 4; i++) {
		expect_eq(leaf_type(pte_at(f.mm, AT + i * PAGE)),
			  i == 3 ? LEAF_DEVICE_PRIVATE_READ : LEAF_DEVICE_PRIVATE_WRITE);
		expect(folio_test(frame_at(f.mm, AT + i * PAGE), PG_ANON_EXCLUSIVE));
	}
}
END_TEST

/* One that somebody else refers to, before the walk, and one after unmapping. */
START_TEST(references)
{
	struct uhmm__frame *before, *after;

	map_written(AT, 4);
	after = frame_at(f.mm, AT + PAGE);
	before = frame_at(f.mm, AT + 2 * PAGE);
	folio_get(before);
	walk_and_unmap(AT, 4);
	expect_eq(src[2], 0);
	expect_eq(args.cpages, 3);
	expect_eq(counted(f.m, UHMM_CNT_FAIL_REFERENCED), 1);
	expect(in_ram(f.mm, AT + 2 * PAGE) && !folio_test(before, PG_LOCKED));
	for (unsigned int i = 0; i < 4; i++)
		if (i != 2)
			give(i, device_page(0));
		else
			dst[i] = 0;
	folio_get(after);
	uhmm_migrate_vma_pages(&args);
	expect(src[0] & M && !(src[1] & M) && src[3] & M);
	expect_eq(counted(f.m, UHMM_CNT_FAIL_RACED), 1);
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_TO_DEVICE), 2);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	folio_put(f.m, before);
	folio_put(f.m, after);
	fixture_verify(&f);
	expect(on_device(f.mm, AT) && in_ram(f.mm, AT + PAGE) && on_device(f.mm, AT + 3 * PAGE));
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

/* What a page's folio says of it goes with it. */
START_TEST(flags)
{
	map_written(AT, 4);
	for (unsigned int i = 0; i < 4; i++) {
		struct uhmm__frame *frame = frame_at(f.mm, AT + i * PAGE);
		ptent_t *ptep = ptep_at(f.mm, AT + i * PAGE);

		set_pte(ptep, pte_clear_bits(pte_at(f.mm, AT + i * PAGE), PTE_DIRTY));
		folio_clear(frame, PG_DIRTY);
		if (i == 1)
			folio_set(frame, PG_DIRTY);
		/* MADV_FREE gave it up. */
		if (i == 2)
			folio_clear(frame, PG_SWAPBACKED);
	}
	move(AT, 4);
	for (unsigned int i = 0; i < 4; i++) {
		expect_eq(folio_test(new_at(i), PG_DIRTY), i == 1);
		expect_eq(folio_test(new_at(i), PG_SWAPBACKED), i != 2);
		expect(folio_test(new_at(i), PG_UPTODATE));
	}
	finish();
}
END_TEST

/* The driver wants the second no more: its new page goes, the old one comes back. */
START_TEST(one_without_migrate)
{
	uhmm_pfn_t page;

	map_written(AT, 6);
	page = pfn_at(f.mm, AT + 4 * PAGE);
	walk_and_unmap(AT, 6);
	for (unsigned int i = 0; i < 6; i++)
		give(i, device_page(0));
	if (_i)
		uhmm_migrate_vma_pages(&args);
	src[4] &= ~(uint64_t)M;
	if (!_i)
		uhmm_migrate_vma_pages(&args);
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_TO_DEVICE), 5 + _i);
	finish();
	expect(on_device(f.mm, AT) && on_device(f.mm, AT + 5 * PAGE));
	expect_eq(pfn_at(f.mm, AT + 4 * PAGE), page);
}
END_TEST

/* Whoever waits for a lock, of the old page or of the new, is woken: only then does the bit go. */
START_TEST(somebody_waits)
{
	struct uhmm__frame *frame;

	map_written(AT, 8);
	move(AT, 8);
	folio_get(old[4]);
	folio_set(old[4], PG_WAITERS);
	folio_set(new_at(5), PG_WAITERS);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	frame = new_at(5);
	expect(!folio_test(old[4], PG_LOCKED) && !folio_test(old[4], PG_WAITERS));
	expect(!folio_test(frame, PG_LOCKED) && !folio_test(frame, PG_WAITERS));
	folio_put(f.m, old[4]);
	fixture_verify(&f);
}
END_TEST

/* A reference that is taken once the page has moved keeps the old one, and it alone. */
START_TEST(old_one_is_kept)
{
	map_written(AT, 8);
	move(AT, 8);
	folio_get(old[5]);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(old[4]->refcount, 0);
	expect_eq(old[5]->refcount, 1);
	expect(!folio_test(old[5], PG_LOCKED) && !folio_test(old[5], PG_FREE));
	folio_put(f.m, old[5]);
	fixture_verify(&f);
}
END_TEST

/* On both sides of a table's end; each page counts as Linux would walk for it. */
START_TEST(two_tables_and_holes)
{
	uint64_t walks;

	map_fixed(f.mm, AT - 4 * PAGE, 8, RW);
	for (unsigned int i = 0; i < 8; i++)
		if (i != 1 && i != 6)
			put_word(f.mm, AT + (i - 4UL) * PAGE, i + 1);
	walk_and_unmap(AT - 4 * PAGE, 8);
	for (unsigned int i = 0; i < 8; i++)
		give(i, device_page(0));
	/* One hole is refused. */
	dst[6] = (uhmm_unlock_put_page(f.m, uhmm_migrate_pfn_to_pfn(dst[6])), 0);
	uhmm_migrate_vma_pages(&args);
	walks = counted(f.m, UHMM_CNT_RMAP_WALKS);
	finish();
	expect_eq(counted(f.m, UHMM_CNT_RMAP_WALKS) - walks, 6);
	for (unsigned int i = 0; i < 8; i++) {
		if (i != 6)
			expect(on_device(f.mm, AT + (i - 4UL) * PAGE));
		expect_eq(get_word(f.mm, AT + (i - 4UL) * PAGE), i == 1 || i == 6 ? 0 : i + 1);
	}
}
END_TEST

/* Coherent memory has no entries of its own kind: the CPU maps it. */
START_TEST(to_coherent_memory)
{
	static const struct uhmm_dev_pagemap_ops ops = { 0 };
	struct uhmm_devmem_config config = { .size = sizeof(config),
					     .type = UHMM_MEMORY_DEVICE_COHERENT };
	struct uhmm_devmem *pool;
	uhmm_pfn_t pfn;

	expect_eq(uhmm_devmem_create(f.m, &config, f.dev[0], &ops, NULL, &pool), 0);
	map_written(AT, 5);
	walk_and_unmap(AT, 5);
	for (unsigned int i = 0; i < 5; i++) {
		expect_eq(uhmm_devmem_alloc(pool, NULL, &pfn), 0);
		give(i, pfn);
	}
	uhmm_migrate_vma_pages(&args);
	finish();
	for (unsigned int i = 0; i < 5; i++) {
		expect(pte_present(pte_at(f.mm, AT + i * PAGE)));
		expect(folio_is_device_coherent(frame_at(f.mm, AT + i * PAGE)));
	}
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_TO_DEVICE), 5);
	uhmm_munmap(f.mm, AT, 5 * PAGE);
	uhmm_devmem_destroy(pool);
}
END_TEST

/* From device to device is counted as that. */
START_TEST(device_to_device)
{
	map_written(AT, 3);
	to_device(0, AT, 3);
	collect(AT, 3, PRIVATE);
	for (unsigned int i = 0; i < 3; i++)
		give(i, device_page(1));
	uhmm_migrate_vma_pages(&args);
	finish();
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_DEVICE_DEVICE), 3);
}
END_TEST

/* From RAM to RAM is counted as that. */
START_TEST(ram_to_ram)
{
	map_written(AT, 5);
	walk_and_unmap(AT, 5);
	for (unsigned int i = 0; i < 5; i++)
		give(i, ram_page());
	uhmm_migrate_vma_pages(&args);
	finish();
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_TO_RAM), 5);
	expect_eq(counted(f.m, UHMM_CNT_MIGRATED_TO_DEVICE), 0);
}
END_TEST

/* Meanwhile the place is another page's, which moves, too: its entry stays. */
START_TEST(entry_of_another)
{
	pte_t another;

	map_written(AT, 6);
	move(AT, 6);
	another = leaf_make(LEAF_MIGRATION_WRITE, 12345);
	set_pte(ptep_at(f.mm, AT + 4 * PAGE), another);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(pte_at(f.mm, AT + 4 * PAGE).val, another.val);
	set_pte(ptep_at(f.mm, AT + 4 * PAGE), pte_make(0));
	fixture_verify(&f);
	expect(on_device(f.mm, AT + 5 * PAGE));
}
END_TEST

/* A reference that comes in between leaves entry, flags and counts as they were. */
START_TEST(freeze_meets_a_reference)
{
	struct uhmm__frame *frame;
	uint64_t before;
	pte_t pte;

	map_written(AT, 1);
	frame = frame_at(f.mm, AT);
	pte = pte_at(f.mm, AT);
	before = load_relaxed(&frame->flags_refs);
	if (UHMM_CHECKED)
		return;
	expect(!freeze_exclusive(f.m, ptep_at(f.mm, AT), pte, frame,
				 before - FOLIO_FLAGS_REFS(0, 1)));
	expect_eq(pte_at(f.mm, AT).val, pte.val);
	expect_eq(load_relaxed(&frame->flags_refs), before);
	expect_eq(frame->mapcount, 1);
}
END_TEST

/* Each page in use holds the pagemap that it is of. */
START_TEST(pages_of_two_chunks)
{
	static struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = (void *)abort };
	struct uhmm_devmem_config config = { .size = sizeof(config), .chunk_bytes = UHMM_PMD_SIZE };
	static uhmm_pfn_t pfn[2 * UHMM_PTRS_PER_TABLE];
	struct uhmm_dev_pagemap *first, *second;
	enum { NR = 2 * UHMM_PTRS_PER_TABLE };
	struct uhmm_devmem *pool;

	expect_eq(uhmm_devmem_create(f.m, &config, NULL, &ops, NULL, &pool), 0);
	for (int i = 0; i < NR; i++)
		expect_eq(uhmm_devmem_alloc(pool, NULL, &pfn[i]), 0);
	first = page_pgmap(f.m, pfn[0]);
	second = page_pgmap(f.m, pfn[NR - 1]);
	/* From two, to and fro. */
	for (int i = 0; i < 8; i++) {
		uhmm_unlock_put_page(f.m, pfn[i]);
		uhmm_unlock_put_page(f.m, pfn[NR - 1 - i]);
	}
	expect_eq(load_relaxed(&first->refs), 1 + NR / 2 - 8);
	expect_eq(uhmm__devmem_alloc_bulk(pool, &ops, pfn, 7), 7);
	expect_eq(load_relaxed(&first->refs) + load_relaxed(&second->refs), 2 + NR - 16 + 7);
	expect_eq(load_relaxed(&first->refs), 1 + NR / 2 - 8 + 3);
	for (int i = 0; i < 7; i++)
		expect(uhmm_devmem_page_data(pool, pfn[i]) == &ops);
	for (int i = 0; i < NR - 8; i++)
		if (i != 7)
			uhmm_unlock_put_page(f.m, pfn[i]);
	uhmm_devmem_destroy(pool);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("runs");
	TCase *tc = tcase_create("runs");

	tcase_add_checked_fixture(tc, setup_watched, teardown_watched);
	tcase_add_test(tc, entries_of_exclusive_pages);
	tcase_add_test(tc, entries_of_device_pages);
	tcase_add_test(tc, references);
	tcase_add_test(tc, flags);
	tcase_add_loop_test(tc, one_without_migrate, 0, 2);
	tcase_add_test(tc, somebody_waits);
	tcase_add_test(tc, old_one_is_kept);
	tcase_add_test(tc, two_tables_and_holes);
	tcase_add_test(tc, to_coherent_memory);
	tcase_add_test(tc, device_to_device);
	tcase_add_test(tc, ram_to_ram);
	tcase_add_test(tc, entry_of_another);
	tcase_add_test(tc, freeze_meets_a_reference);
	tcase_add_test(tc, pages_of_two_chunks);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
