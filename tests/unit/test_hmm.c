// SPDX-License-Identifier: LGPL-2.1-or-later
/* hmm_range_fault(), state by state: what a reasonable walker would get wrong. */
#define _GNU_SOURCE
#include <uhmm/special.h>

#include "hmm/range.h"
#include "unit/inside.h"

enum { N = 8 };

#define V UHMM_HMM_PFN_VALID
#define W UHMM_HMM_PFN_WRITE
#define E UHMM_HMM_PFN_ERROR

static struct watcher w;
static uint64_t pfns[1024];

static void setup(void)
{
	setup_fixture();
	watch(&w, f.mm, 0, UHMM_TASK_SIZE / PAGE);
	memset(pfns, 0, sizeof(pfns));
}

static void teardown(void)
{
	unwatch(&w);
	teardown_fixture();
}

static struct uhmm_hmm_range range_of(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	return (struct uhmm_hmm_range){
		.size = sizeof(struct uhmm_hmm_range),
		.notifier = w.mni,
		.start = start,
		.end = start + npages * PAGE,
		.hmm_pfns = pfns,
		.default_flags = flags,
		.dev_private_owner = f.dev[0],
	};
}

static int walk_range(struct uhmm_hmm_range *range)
{
	int err;

	range->notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	uhmm_mmap_read_lock(f.mm);
	err = uhmm_range_fault(range);
	uhmm_mmap_read_unlock(f.mm);
	return err;
}

/* For @npages from @start; the outputs are in pfns[]. */
static int walk(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	struct uhmm_hmm_range range = range_of(start, npages, flags);
	int err;

	do {
		memset(pfns, 0, npages * sizeof(pfns[0]));
		err = walk_range(&range);
	} while (err == -EBUSY);
	return err;
}

static uint64_t flags_of(uint64_t hmm_pfn)
{
	return hmm_pfn & UHMM_HMM_PFN_FLAGS;
}

static uint64_t faults(void)
{
	return counted(f.m, UHMM_CNT_FAULT_FROM_HMM);
}

/* ---- requests ---- */

START_TEST(write_alone_is_no_request)
{
	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, 1, RW);
	expect_eq(walk(AT, 2, UHMM_HMM_PFN_REQ_WRITE), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	expect_eq(pfns[1], 0);
	expect_eq(faults(), 0);
}
END_TEST

START_TEST(only_three_input_flags_are_kept)
{
	struct uhmm_hmm_range range = range_of(AT, 2, 0);
	const uint64_t kept = UHMM_HMM_PFN_DMA_MAPPED | UHMM_HMM_PFN_P2PDMA |
			      UHMM_HMM_PFN_P2PDMA_BUS;

	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, 1, RW);
	pfns[0] = pfns[1] = kept | UHMM_HMM_PFN_ORDER_MASK | E | 0x1234;
	expect_eq(walk_range(&range), 0);
	expect_eq(pfns[0], kept | V | W | pfn_at(f.mm, AT));
	expect_eq(pfns[1], kept);
}
END_TEST

/* The flags of a page count as far as the mask says. */
START_TEST(mask_of_page_requests)
{
	struct uhmm_hmm_range range = range_of(AT, 2, 0);

	map_written(AT, 1);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	map_fixed(f.mm, AT, 2, RW);
	map_fixed(f.mm, AT + 2 * PAGE, 1, RW);
	put_word(f.mm, AT + 2 * PAGE, 1); /* so that there is a table */
	pfns[1] = UHMM_HMM_PFN_REQ_FAULT;
	expect_eq(walk_range(&range), 0);
	expect_eq(pfns[1], 0);
	pfns[1] = UHMM_HMM_PFN_REQ_FAULT;
	range.pfn_flags_mask = UHMM_HMM_PFN_REQ_FAULT;
	expect_eq(walk_range(&range), 0);
	expect_eq(pfns[0], 0);
	expect_eq(flags_of(pfns[1]), V);
	expect_eq(faults(), 1);
}
END_TEST

/* ---- VMAs ---- */

START_TEST(no_vma_is_an_error_entry)
{
	map_written(AT + PAGE, 1);
	expect_eq(walk(AT, 3, 0), 0);
	expect_eq(pfns[0], E);
	expect_eq(flags_of(pfns[1]), V | W);
	expect_eq(pfns[2], E);
	expect_eq(walk(AT, 3, UHMM_HMM_PFN_REQ_FAULT), -EFAULT);
}
END_TEST

START_TEST(vma_without_read_is_an_error_entry)
{
	static const int prots[] = { PROT_NONE, PROT_WRITE, PROT_EXEC };

	for (unsigned int i = 0; i < 3; i++) {
		map_written(AT, 2);
		expect_eq(uhmm_mprotect(f.mm, AT, PAGE, prots[i]), 0);
		expect_eq(walk(AT, 2, 0), 0);
		expect_eq(pfns[0], E);
		expect_eq(flags_of(pfns[1]), V | W);
		expect_eq(walk(AT, 2, UHMM_HMM_PFN_REQ_FAULT), -EFAULT);
	}
	expect_eq(faults(), 0);
}
END_TEST

START_TEST(write_to_readonly_vma_is_eperm_without_a_fault)
{
	map_written(AT, 2);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, PROT_READ), 0);
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE), -EPERM);
	expect_eq(walk(AT + PAGE, 1, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE), -EPERM);
	expect_eq(faults(), 0);
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT), 0);
	expect_eq(flags_of(pfns[0]), V);
}
END_TEST

/* ---- holes ---- */

/* (q) One page that asks has the whole part without a table faulted in. */
START_TEST(hole_of_512_pages_is_faulted_as_a_whole)
{
	struct uhmm_hmm_range range = range_of(AT, 1024, 0);

	/* A page behind them, so that there is a table of tables: else both parts are one hole. */
	map_fixed(f.mm, AT, 1025, RW);
	put_word(f.mm, AT + 1024 * PAGE, 1);
	range.pfn_flags_mask = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE;
	pfns[700] = UHMM_HMM_PFN_REQ_FAULT;
	expect_eq(walk_range(&range), 0);
	/* The first table's part did not ask and has none still. */
	expect(!ptep_at(f.mm, AT));
	expect_eq(faults(), 512);
	for (unsigned int i = 0; i < 1024; i++)
		expect_eq(flags_of(pfns[i]), i < 512 ? 0 : V);
	expect(is_zero_page(f.mm, AT + 512 * PAGE));
}
END_TEST

START_TEST(empty_hole_without_request_stays)
{
	map_fixed(f.mm, AT, 1024, RW);
	expect_eq(walk(AT, 1024, 0), 0);
	for (unsigned int i = 0; i < 1024; i++)
		expect_eq(pfns[i], 0);
	expect(!ptep_at(f.mm, AT));
}
END_TEST

/*
 * (q) A fault covers the rest of the table's part of the range: pages behind it that need none, too,
 * and even the caller's own device pages, which go to RAM (museum M32).
 */
START_TEST(fault_covers_the_rest_of_the_pmd_part)
{
	uhmm_vaddr_t end = AT + UHMM_PMD_SIZE;

	map_written(end - 4 * PAGE, 8);
	to_device(0, end - 4 * PAGE, 1);
	to_device(0, end - 2 * PAGE, 4);
	expect_eq(uhmm_madvise(f.mm, end - 3 * PAGE, PAGE, MADV_DONTNEED), 0);
	expect_eq(walk(end - 4 * PAGE, 8, UHMM_HMM_PFN_REQ_FAULT), 0);
	/* Before it, and in the next table: left alone. */
	expect(on_device(f.mm, end - 4 * PAGE));
	expect(is_zero_page(f.mm, end - 3 * PAGE));
	expect(in_ram(f.mm, end - 2 * PAGE));
	expect(in_ram(f.mm, end - PAGE));
	expect(on_device(f.mm, end));
	expect(on_device(f.mm, end + PAGE));
	expect_eq(faults(), 3);
	expect_eq(get_word(f.mm, end - PAGE), 4);
}
END_TEST

/* (q) ... with one set of flags: one page's need to write is a write fault for all behind it. */
START_TEST(write_need_of_one_page_is_every_later_pages)
{
	struct uhmm_hmm_range range = range_of(AT, 4, UHMM_HMM_PFN_REQ_FAULT);

	map_written(AT, 5);
	expect_eq(uhmm_madvise(f.mm, AT, 4 * PAGE, MADV_DONTNEED), 0);
	range.pfn_flags_mask = UHMM_HMM_PFN_REQ_WRITE;
	pfns[1] = UHMM_HMM_PFN_REQ_WRITE;
	/* The first read fault gives all of them the zero page, then comes the second. */
	expect_eq(walk_range(&range), -EBUSY);
	pfns[1] = UHMM_HMM_PFN_REQ_WRITE;
	expect_eq(walk_range(&range), 0);
	expect_eq(flags_of(pfns[0]), V);
	expect_eq(flags_of(pfns[1]), V | W);
	expect_eq(flags_of(pfns[2]), V | W);
	expect_eq(flags_of(pfns[3]), V | W);
}
END_TEST

/* ---- entries ---- */

START_TEST(present_entries)
{
	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, 1, RW);
	touch(f.mm, AT + PAGE);
	expect_eq(walk(AT, 2, 0), 0);
	expect_eq(pfns[0], V | W | pfn_at(f.mm, AT));
	expect_eq(pfns[1], V | f.m->zero_pfn);
	expect_eq(walk(AT, 2, UHMM_HMM_PFN_REQ_FAULT), 0);
	expect_eq(pfns[1], V | f.m->zero_pfn);
	expect_eq(faults(), 0);
	/* Breaks the zero page's copy on write. */
	expect_eq(walk(AT, 2, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE), 0);
	expect_eq(flags_of(pfns[1]), V | W);
	expect(in_ram(f.mm, AT + PAGE));
}
END_TEST

START_TEST(write_copies_shared_page)
{
	struct uhmm_mm *child;
	uhmm_pfn_t shared;

	map_written(AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	shared = pfn_at(f.mm, AT);
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT), 0);
	expect_eq(pfns[0], V | shared);
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	expect(uhmm_hmm_pfn_to_pfn(pfns[0]) != shared);
	expect_eq(pfn_at(child, AT), shared);
	uhmm_mmput(child);
}
END_TEST

/* (q) Contradicts hmm.h: a read-only device page of the caller's own is no write fault, no error. */
START_TEST(own_readonly_device_page_succeeds_without_write)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], V | W | pfn_at(f.mm, AT));
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE), 0);
	expect_eq(pfns[0], V | pfn_at(f.mm, AT));
	expect(on_device(f.mm, AT));
	expect_eq(faults(), 0);
	uhmm_mmput(child);
}
END_TEST

START_TEST(foreign_device_page_is_faulted_home)
{
	map_written(AT, 1);
	to_device(1, AT, 1);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], 0);
	expect(on_device(f.mm, AT));
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT), 0);
	expect_eq(pfns[0], V | W | pfn_at(f.mm, AT));
	expect(in_ram(f.mm, AT));
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE), 1);
}
END_TEST

START_TEST(migration_entry_is_nothing_without_request)
{
	uint64_t src = 0, dst = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = &src,
		.dst = &dst,
		.start = AT,
		.end = AT + PAGE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct uhmm_hmm_range range = range_of(AT, 1, 0);
	struct uhmm_task *migrator = another_task(f.m), *self;

	map_written(AT, 1);
	self = become(migrator);
	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	expect(leaf_is_migration(pte_at(f.mm, AT)));
	become(self);
	uhmm_mmap_read_lock(f.mm);
	range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	pfns[0] = 7;
	expect_eq(uhmm_range_fault(&range), 0);
	expect_eq(pfns[0], 0);
	uhmm_mmap_read_unlock(f.mm);
	become(migrator);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	become(self);
	uhmm_task_destroy(migrator);
}
END_TEST

/* Entries that nothing in this model makes yet, put there by hand. */
static void with_entry(pte_t entry)
{
	map_fixed(f.mm, AT, 2, RW);
	touch(f.mm, AT + PAGE);
	store_relaxed(ptep_at(f.mm, AT), entry.val);
}

static void remove_entry(void)
{
	store_relaxed(ptep_at(f.mm, AT), 0);
}

/* (q) 0, not E; a fault is refused, and not even tried. */
START_TEST(poison_is_nothing_or_efault)
{
	const pte_t entries[] = {
		leaf_make(LEAF_HWPOISON, 5),
		leaf_make(LEAF_MARKER, MARKER_POISONED),
		leaf_make(LEAF_MARKER, MARKER_GUARD),
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(entries); i++) {
		with_entry(entries[i]);
		expect_eq(walk(AT, 1, 0), 0);
		expect_eq(pfns[0], 0);
		expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT), -EFAULT);
		remove_entry();
	}
	expect_eq(faults(), 0);
}
END_TEST

/* (q) A page that the CPU may not touch now: the pfn, but not V. */
START_TEST(protnone_entry_has_a_pfn_but_is_not_valid)
{
	pte_t old;

	map_written(AT, 1);
	old = pte_at(f.mm, AT);
	store_relaxed(ptep_at(f.mm, AT),
		      pte_set(pte_clear_bits(old, PTE_PRESENT | PTE_RW), PTE_PROTNONE).val);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], pte_pfn(old));
	store_relaxed(ptep_at(f.mm, AT), old.val);
}
END_TEST

/* Another task has the lock of the table for as long as the walk takes, which would wait for ever. */
START_TEST(walk_takes_no_page_table_lock)
{
	struct uhmm_task *other = another_task(f.m), *self;
	struct uhmm__spinlock *ptl, *pmd_ptl;
	unsigned int level;
	ptent_t *pmdp;

	map_written(AT, 1);
	map_fixed(f.mm, AT + UHMM_PMD_SIZE, 512, RW);
	expect_eq(uhmm_madvise(f.mm, AT + UHMM_PMD_SIZE, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, AT + UHMM_PMD_SIZE, 1);
	self = become(other);
	pmdp = uhmm__pmd_offset(&f.mm->pgt, AT + UHMM_PMD_SIZE, &level);
	pmd_ptl = uhmm__pmd_lock(pmdp);
	/* Not mapped: an RCU read section would be the host thread's, and the walk's as well. */
	ptl = uhmm__ptlp(ptep_at(f.mm, AT));
	uhmm__ptl_lock(ptl);
	become(self);
	expect_eq(walk(AT, 1, UHMM_HMM_PFN_REQ_FAULT), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	expect_eq(walk(AT + UHMM_PMD_SIZE, 1, UHMM_HMM_PFN_REQ_FAULT), 0);
	expect(pfns[0] & V && uhmm_hmm_pfn_to_map_order(pfns[0]) == UHMM_PMD_ORDER);
	become(other);
	uhmm__spin_unlock(ptl);
	uhmm__spin_unlock(pmd_ptl);
	become(self);
	uhmm_task_destroy(other);
}
END_TEST

/* ---- the sequence, and errors ---- */

START_TEST(stale_sequence_is_ebusy_before_any_walk)
{
	struct uhmm_hmm_range range = range_of(AT, 1, UHMM_HMM_PFN_REQ_FAULT);
	uint64_t walks;

	map_written(AT, 1);
	range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	walks = counted(f.m, UHMM_CNT_WALKS);
	pfns[0] = 99;
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_range_fault(&range), -EBUSY);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(counted(f.m, UHMM_CNT_WALKS), walks);
	expect_eq(pfns[0], 99);
}
END_TEST

START_TEST(error_leaves_inputs_from_the_page_that_failed)
{
	struct uhmm_hmm_range range = range_of(AT, 4, UHMM_HMM_PFN_REQ_FAULT);

	map_written(AT, 2);
	for (unsigned int i = 0; i < 4; i++)
		pfns[i] = 0x77;
	expect_eq(walk_range(&range), -EFAULT);
	expect_eq(flags_of(pfns[0]), V | W);
	expect_eq(flags_of(pfns[1]), V | W);
	expect_eq(pfns[2], 0x77);
	expect_eq(pfns[3], 0x77);
}
END_TEST

/* A fault that copies invalidates the walker's own range. */
START_TEST(own_fault_that_copies_is_ebusy_once)
{
	struct uhmm_hmm_range range =
		range_of(AT, 1, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE);
	struct uhmm_mm *child;

	map_written(AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(walk_range(&range), -EBUSY);
	expect_eq(walk_range(&range), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	uhmm_mmput(child);
}
END_TEST

START_TEST(unlocked_form_samples_for_itself)
{
	struct uhmm_hmm_range range =
		range_of(AT, 2, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE);
	struct uhmm_mm *child;

	map_written(AT, 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	range.notifier_seq = 12345;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	expect_eq(flags_of(pfns[0]), V | W);
	expect_eq(flags_of(pfns[1]), V | W);
	expect(!uhmm_mmu_interval_read_retry(w.mni, range.notifier_seq));
	/* mmap_lock is free again. */
	uhmm_mmap_write_lock(f.mm);
	uhmm_mmap_write_unlock(f.mm);
	uhmm_mmput(child);
}
END_TEST

/* What a handler of userfaultfd does while the fault of page 1 has given mmap_lock up. */
enum meanwhile { ZAP_FIRST, UNMAP_SECOND, UNMAP_FIRST };

static bool meanwhile(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	static const uint64_t page[PAGE / 8];
	const enum meanwhile *what = data;

	expect_eq(addr, AT + PAGE);
	expect_eq(reason, UHMM_UFFD_MISSING);
	if (*what == UNMAP_SECOND) {
		expect_eq(uhmm_munmap(mm, AT + PAGE, PAGE), 0);
		return true;
	}
	if (*what == UNMAP_FIRST)
		expect_eq(uhmm_munmap(mm, AT, PAGE), 0);
	else
		expect_eq(uhmm_madvise(mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_uffd_copy(mm, addr, page, false), 0);
	return true;
}

/* A page that is there, and one that the handler has to put there. */
static void map_watched(enum meanwhile *what)
{
	map_written(AT, 1);
	map_fixed(f.mm, AT + PAGE, 1, RW);
	uhmm_uffd_set_handler(f.mm, meanwhile, what);
	expect_eq(uhmm_uffd_register(f.mm, AT + PAGE, PAGE, UHMM_UFFD_MISSING), 0);
}

/* Begun again from the first page: either may have gone. */
START_TEST(vma_goes_while_a_fault_has_no_lock)
{
	struct uhmm_hmm_range range = range_of(AT, 2, UHMM_HMM_PFN_REQ_FAULT);
	enum meanwhile what = _i ? UNMAP_FIRST : UNMAP_SECOND;

	map_watched(&what);
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), -EFAULT);
	expect_eq(faults(), 1);
	expect_eq(flags_of(pfns[0]), V | W);
	uhmm_mmap_write_lock(f.mm);
	uhmm_mmap_write_unlock(f.mm);
}
END_TEST

/*
 * (q) The second attempt has the outputs of the first for inputs. Nobody asked for the first page, but VALID
 * and WRITE are the bits that ask: it is there, is zapped, and is faulted in for writing.
 */
START_TEST(unlocked_form_takes_outputs_for_requests)
{
	struct uhmm_hmm_range range = range_of(AT, 2, 0);
	enum meanwhile what = ZAP_FIRST;

	map_watched(&what);
	range.pfn_flags_mask = _i ? UHMM_HMM_PFN_REQ_FAULT
				  : UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE;
	pfns[1] = UHMM_HMM_PFN_REQ_FAULT;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	expect_eq(flags_of(pfns[1]), V | W);
	expect_eq(flags_of(pfns[0]), _i ? V : V | W);
	expect_eq(pte_pfn(pte_at(f.mm, AT)) == f.m->zero_pfn, _i);
	expect_eq(get_word(f.mm, AT), 0);
	/* hmm_range_fault() with the lock held leaves it to the caller, who writes its requests again. */
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	pfns[0] = 0;
	pfns[1] = UHMM_HMM_PFN_REQ_FAULT;
	expect_eq(walk_range(&range), 0);
	expect_eq(pfns[0], 0);
	expect_eq(flags_of(pfns[1]), V | W);
}
END_TEST

static bool put_page(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	static const uint64_t page[PAGE / 8];

	(void)data;
	(void)reason;
	expect_eq(uhmm_uffd_copy(mm, addr, page, false), 0);
	return true;
}

/*
 * The shortest of times. A fault that gives the lock up is progress, after which it begins anew; two pages
 * to be copied, each in its own table, are two times -EBUSY without.
 */
START_TEST(time_begins_anew_where_the_lock_was_dropped)
{
	uhmm_vaddr_t at = AT + UHMM_PMD_SIZE - PAGE;
	struct uhmm_hmm_range range =
		range_of(at, 2, UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE);
	struct uhmm_mm *child;

	if (_i) {
		map_fixed(f.mm, at, 2, RW);
		uhmm_uffd_set_handler(f.mm, put_page, NULL);
		expect_eq(uhmm_uffd_register(f.mm, at, 2 * PAGE, UHMM_UFFD_MISSING), 0);
		expect_eq(uhmm_range_fault_unlocked_timeout(&range, 1), 0);
		expect_eq(faults(), 2);
		return;
	}
	map_written(at, 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 1), -EBUSY);
	expect_eq(faults(), 2);
	uhmm_mmput(child);
}
END_TEST

START_TEST(unlocked_form_of_a_killed_task)
{
	struct uhmm_hmm_range range = range_of(AT, 1, UHMM_HMM_PFN_REQ_FAULT);

	map_written(AT, 1);
	f.task->killed = true;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), -EINTR);
	f.task->killed = false;
	uhmm_mmap_write_lock(f.mm);
	uhmm_mmap_write_unlock(f.mm);
}
END_TEST

START_TEST(bad_arguments)
{
	struct uhmm_hmm_range good = range_of(AT, 2, 0), bad;

	map_written(AT, 2);
	bad = good;
	bad.size--;
	expect_eq(walk_range(&bad), -EINVAL);
	bad = good;
	bad.hmm_pfns = NULL;
	expect_eq(walk_range(&bad), -EINVAL);
	bad = good;
	bad.end = bad.start;
	expect_eq(walk_range(&bad), -EINVAL);
	bad = good;
	bad.start++;
	expect_eq(walk_range(&bad), -EINVAL);
	bad = good;
	bad.end = UHMM_TASK_SIZE + PAGE;
	expect_eq(walk_range(&bad), -EINVAL);
	bad = good;
	bad.default_flags = E;
	expect_eq(walk_range(&bad), -EINVAL);
	bad = good;
	bad.notifier = NULL;
	expect_eq(walk_range(&bad), -EINVAL);
	expect_eq(walk_range(&good), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hmm");
	TCase *tc = tcase_create("range fault");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, write_alone_is_no_request);
	tcase_add_test(tc, only_three_input_flags_are_kept);
	tcase_add_test(tc, mask_of_page_requests);
	tcase_add_test(tc, no_vma_is_an_error_entry);
	tcase_add_test(tc, vma_without_read_is_an_error_entry);
	tcase_add_test(tc, write_to_readonly_vma_is_eperm_without_a_fault);
	tcase_add_test(tc, hole_of_512_pages_is_faulted_as_a_whole);
	tcase_add_test(tc, empty_hole_without_request_stays);
	tcase_add_test(tc, fault_covers_the_rest_of_the_pmd_part);
	tcase_add_test(tc, write_need_of_one_page_is_every_later_pages);
	tcase_add_test(tc, present_entries);
	tcase_add_test(tc, write_copies_shared_page);
	tcase_add_test(tc, own_readonly_device_page_succeeds_without_write);
	tcase_add_test(tc, foreign_device_page_is_faulted_home);
	tcase_add_test(tc, migration_entry_is_nothing_without_request);
	tcase_add_test(tc, poison_is_nothing_or_efault);
	tcase_add_test(tc, protnone_entry_has_a_pfn_but_is_not_valid);
	tcase_add_test(tc, walk_takes_no_page_table_lock);
	tcase_add_test(tc, stale_sequence_is_ebusy_before_any_walk);
	tcase_add_test(tc, error_leaves_inputs_from_the_page_that_failed);
	tcase_add_test(tc, own_fault_that_copies_is_ebusy_once);
	tcase_add_test(tc, unlocked_form_samples_for_itself);
	tcase_add_loop_test(tc, vma_goes_while_a_fault_has_no_lock, 0, 2);
	tcase_add_loop_test(tc, unlocked_form_takes_outputs_for_requests, 0, 2);
	tcase_add_loop_test(tc, time_begins_anew_where_the_lock_was_dropped, 0, 2);
	tcase_add_test(tc, unlocked_form_of_a_killed_task);
	tcase_add_test(tc, bad_arguments);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
