// SPDX-License-Identifier: LGPL-2.1-or-later
/* uhmm_machine_verify() on mms, VMAs, anon_vmas, entries and tables; and on what is clean. */
#include "verify_world.h"

/* mms */

DAMAGE(d_mmap_lock, store_relaxed(&w.mm->mmap_lock.count, d > 0 ? UHMM__RWSEM_READER : 0))
DAMAGE(d_users, store_relaxed(&w.child->users, d < 0))
DAMAGE(d_count, store_relaxed(&w.child->count, d < 0))
DAMAGE(d_machine, put_ptr(&w.child->machine, NULL, d))
DAMAGE(d_page_table_lock, put_lock(&w.mm->pgt.page_table_lock, d))
DAMAGE(d_vma_writers, put_waiter(&w.mm->vma_writers.waiters, d))
DAMAGE(d_mms_lock, put_lock(&w.m->mms->lock, d))
DAMAGE(d_notifier_lock, put_lock(&w.mm->notifiers.lock, d))
DAMAGE(d_active, w.mm->notifiers.active += d)
DAMAGE(d_seq, store_relaxed(&w.mm->notifiers.seq, load_relaxed(&w.mm->notifiers.seq) + d))
DAMAGE(d_deferred, put_waiter(&w.mm->notifiers.deferred, d))
DAMAGE(d_notifier_waiter, put_waiter(&w.mm->notifiers.wq.waiters, d))
DAMAGE(d_notifier_out, w.mni->in_tree = d < 0)
DAMAGE(d_notifier_tree, w.mni->node.subtree_last += d)

static const struct damage mm_damages[] = {
	{ "mmap_lock", d_mmap_lock, 1, { "mmap_lock is held" } },
	{ "users", d_users, 1, { "has 0 users" } },
	{ "count", d_count, 1, { "and 0 references" } },
	{ "machine", d_machine, 1, { "is another machine's" } },
	{ "page_table_lock", d_page_table_lock, 1, { "page_table_lock is held" } },
	{ "VMA writers", d_vma_writers, 1, { "a writer waits" } },
	{ "mms lock", d_mms_lock, 1, { "list of mms is held" } },
	{ "notifier lock", d_notifier_lock, 1, { "notifier lock is held" } },
	{ "active", d_active, 1, { "1 invalidations have not ended" } },
	{ "sequence", d_seq, 1, { "is odd" } },
	{ "deferred", d_deferred, 1, { "wait to be inserted" } },
	{ "notifier waiter", d_notifier_waiter, 1, { "a task waits" } },
	{ "notifier out", d_notifier_out, 1, { "is not the tree's" } },
	{ "notifier tree", d_notifier_tree, 1, { "notifier tree is broken" } },
};

/* VMAs and anon_vmas */

DAMAGE(d_tree, w.mm->vmas.nr += d)
DAMAGE(d_nr_vmas, w.mm->nr_vmas += d)
DAMAGE(d_vma_end, vma_of(EMPTY)->end += d * (int64_t)PAGE)
DAMAGE(d_vma_range, uhmm__find_vma(w.mm, EMPTY)->end = EMPTY + (d > 0 ? 0x123 : 2 * PAGE))
DAMAGE(d_vma_mm, put_ptr(&uhmm__find_vma(w.mm, EMPTY)->mm, w.child, d))
DAMAGE(d_vma_reader, atomic_fetch_add(&vma_of(MAIN)->readers[1].nr, d))
DAMAGE(d_vma_writer,
       store_relaxed(&vma_of(MAIN)->lock_seq, load_relaxed(&w.mm->lock_seq) - (d < 0)))
DAMAGE(d_page_prot, vma_of(EMPTY)->page_prot ^= PTE_RW)
DAMAGE(d_chain_range, chain_of(NEW)->node.last += d)
DAMAGE(d_no_anon_vma, put_ptr(&vma_of(NEW)->anon_vma, NULL, d))
DAMAGE(d_av_refcount, atomic_fetch_add(&av_of(MAIN)->refcount, d))
DAMAGE(d_av_active, av_of(MAIN)->num_active_vmas += d)
DAMAGE(d_av_children, av_of(MAIN)->num_children += d)
DAMAGE(d_av_lock, store_relaxed(&av_of(MAIN)->rwsem.count, d > 0 ? UHMM__RWSEM_WRITER : 0))

static void d_av_tree(int d)
{
	if (d > 0)
		uhmm__itree_remove(&av_of(RDONLY)->tree, &chain_of(RDONLY)->node);
	else
		uhmm__itree_insert(&av_of(RDONLY)->tree, &chain_of(RDONLY)->node);
}

static void d_av_swapped(int d)
{
	struct uhmm__anon_vma *av = chain_of(RDONLY)->anon_vma;

	(void)d;
	chain_of(RDONLY)->anon_vma = chain_of(NONE)->anon_vma;
	chain_of(NONE)->anon_vma = av;
}

static const struct damage vma_damages[] = {
	{ "tree", d_tree, 1, { "VMA tree is broken" } },
	{ "nr_vmas", d_nr_vmas, 1, { "VMAs are counted" } },
	{ "end", d_vma_end, 1, { "is in the tree as" } },
	{ "range", d_vma_range, 2, { "is no range of pages", "is in the tree as" } },
	{ "mm", d_vma_mm, 1, { "is another mm's" } },
	{ "reader", d_vma_reader, 1, { "is read-locked (1) or detached" } },
	{ "writer", d_vma_writer, 1, { "is write-locked" } },
	{ "page_prot", d_page_prot, 1, { "has page_prot" } },
	{ "chain range", d_chain_range, 2, { "has a chain of offsets", "a tree of -1" } },
	{ "no anon_vma", d_no_anon_vma, 2, { "none to its own", "but has 0 and 0" } },
	{ "refcount", d_av_refcount, 1, { "has 5 references, but 2 chains, 1 children, 1 in its" } },
	{ "active", d_av_active, 1, { "counts 2 VMAs and 1 children, but has 1 and 1" } },
	{ "children", d_av_children, 1, { "counts 1 VMAs and 2 children, but has 1 and 1" } },
	{ "lock", d_av_lock, 1, { "anon_vma lock is held" } },
	{ "chain lost", d_av_tree, 2, { "but a tree of 0", "whose rmap does not find it" } },
	{ "swapped", d_av_swapped, 4, { "none to its own", "another's chain" } },
};

/* entries */

DAMAGE(d_outside, put_pte(MAIN + 9 * PAGE, pte_mk(w.m->zero_pfn, prot_of(MAIN)), d))

static void d_moved_outside(int d)
{
	uhmm_vaddr_t from = d > 0 ? MAIN : MAIN + 9 * PAGE;
	uhmm_vaddr_t to = d > 0 ? MAIN + 9 * PAGE : MAIN;

	store_relaxed(pte_of(to), load_relaxed(pte_of(from)));
	store_relaxed(pte_of(from), 0);
}

DAMAGE(d_write_rdonly, flip(RDONLY, PTE_RW))
DAMAGE(d_write_shared, flip(MAIN + PAGE, PTE_RW))
DAMAGE(d_write_zero, flip(MAIN + 2 * PAGE, PTE_RW))
DAMAGE(d_access_none, flip(NONE, PTE_PRESENT | PTE_PROTNONE | PTE_USER | PTE_NX))
DAMAGE(d_exec, flip(MAIN, PTE_NX))
DAMAGE(d_reserved_bits, flip(MAIN, BIT(3)))
DAMAGE(d_special, flip(MAIN + 2 * PAGE, PTE_SPECIAL))
DAMAGE(d_hint_writable, flip(MAIN, PTE_PRESENT | PTE_PROTNONE | PTE_USER | PTE_NX))
DAMAGE(d_poison, put_pte(SPARE, leaf_make(LEAF_HWPOISON, frame_pfn(w.m, frame_of(MAIN))), d))

static void d_exclusive_shared(int d)
{
	uhmm_vaddr_t addr = MAIN + PAGE;

	if (d > 0) {
		w.saved_pte = load_relaxed(pte_of(addr));
		store_relaxed(pte_of(addr),
			      leaf_make(LEAF_DEVICE_EXCLUSIVE, frame_pfn(w.m, frame_of(addr))).val);
	} else {
		store_relaxed(pte_of(addr), w.saved_pte);
	}
}

DAMAGE(d_no_ram, put_pte(SPARE, pte_mk(w.m->ram_frames - 1, prot_of(MAIN)), d))
DAMAGE(d_present_device, put_pte(SPARE, pte_mk(uhmm_pagemap_start(w.pgmap), prot_of(MAIN)), d))
DAMAGE(d_exclusive_no_ram, put_pte(SPARE, leaf_make(LEAF_DEVICE_EXCLUSIVE, w.m->ram_frames - 1), d))
DAMAGE(d_swap, put_pte(SPARE, leaf_make(LEAF_SWAP, 7), d))
DAMAGE(d_migration,
       put_pte(SPARE, leaf_make(LEAF_MIGRATION_READ, frame_pfn(w.m, frame_of(MAIN))), d))
DAMAGE(d_device_ram,
       put_pte(SPARE, leaf_make(LEAF_DEVICE_PRIVATE_READ, frame_pfn(w.m, frame_of(MAIN))), d))
DAMAGE(d_device_unregistered,
       put_pte(SPARE, leaf_make(LEAF_DEVICE_PRIVATE_READ, w.unregistered), d))
DAMAGE(d_device_idle,
       put_pte(SPARE, leaf_make(LEAF_DEVICE_PRIVATE_READ, uhmm_pagemap_start(w.idle)), d))

static void d_device_free(int d)
{
	uhmm_pfn_t pfn = uhmm_pagemap_start(w.pgmap) + 7;

	put_pte(SPARE, leaf_make(LEAF_DEVICE_PRIVATE_READ, pfn), d);
}

DAMAGE(d_device_write, flip_flag(frame_of(DEVICE), PG_ANON_EXCLUSIVE))
DAMAGE(d_not_anon, put_ptr(&frame_of(MAIN)->mapping, NULL, d))
DAMAGE(d_index, atomic_fetch_add(&frame_of(MAIN)->index, d))

static void d_dead_anon_vma(int d)
{
	static struct uhmm__anon_vma dead;

	put_ptr(&frame_of(MAIN)->mapping, (char *)&dead + MAPPING_ANON, d);
}

DAMAGE(d_wrong_anon_vma, put_ptr(&frame_of(RDONLY)->mapping, (char *)av_of(NEW) + MAPPING_ANON, d))

static const struct damage entry_damages[] = {
	{ "outside", d_outside, 1, { "is outside of any VMA" } },
	{ "moved outside", d_moved_outside, 1, { "is outside of any VMA" } },
	{ "write in r--", d_write_rdonly, 1, { "is writable in a VMA that is not" } },
	{ "write shared", d_write_shared, 1, { "its page is not anon-exclusive" } },
	{ "write zero page", d_write_zero, 1, { "makes the zero page writable" } },
	{ "access in ---", d_access_none, 1, { "has not the protection of its VMA" } },
	{ "exec", d_exec, 1, { "has not the protection of its VMA" } },
	{ "reserved bits", d_reserved_bits, 1, { "has reserved bits" } },
	{ "special", d_special, 1, { "is a driver's, but its VMA is not" } },
	{ "writable hint", d_hint_writable, 1, { "is writable, but cannot be accessed" } },
	{ "poisoned", d_poison, 1, { "is hardware-poisoned, but its page is not" } },
	{ "exclusive, shared", d_exclusive_shared, 1, { "is exclusive, but its page is not" } },
	{ "no RAM", d_no_ram, 1, { "maps a frame that is no RAM" } },
	{ "present device page", d_present_device, 1, { "maps a frame that is no RAM" } },
	{ "exclusive, no RAM", d_exclusive_no_ram, 1, { "maps a frame that is no RAM" } },
	{ "swap", d_swap, 1, { "is a swap entry" } },
	{ "migration", d_migration, 1, { "migration entry that was left behind" } },
	{ "device entry, RAM", d_device_ram, 1, { "maps no device memory" } },
	{ "not registered", d_device_unregistered, 1, { "that is not registered" } },
	{ "idle pagemap", d_device_idle, 1, { "that is all free" } },
	{ "free device page", d_device_free, 1, { "free device page is mapped by 1" } },
	{ "write device page", d_device_write, 1, { "its page is not anon-exclusive" } },
	{ "not anonymous", d_not_anon, 1, { "maps a page that is not anonymous" } },
	{ "index", d_index, 1, { "page at 0x10000000 has the index of 0x10001000" } },
	{ "dead anon_vma", d_dead_anon_vma, 1, { "whose anon_vma has no VMA" } },
	{ "wrong anon_vma", d_wrong_anon_vma, 1, { "whose rmap does not find it" } },
};

/* tables */

DAMAGE(d_ptl, put_lock(uhmm__ptlp(pte_of(MAIN)), d))

static void d_level(int d)
{
	pte_t pmd = pte_make(load_relaxed(pmd_of(EMPTY)));

	uhmm__ptdesc(entry_table(pmd))->level = d > 0 ? 3 : 1;
}

DAMAGE(d_no_table, store_relaxed(pmd_of(NOWHERE), d > 0 ? 0x7000 | PTE_TABLE : 0))

static void d_stray_table(int d)
{
	if (d > 0)
		ck_assert_int_eq(uhmm__pte_alloc(&w.mm->pgt, pmd_of(NOWHERE)), 0);
	else
		uhmm__free_pgtables(&w.mm->pgt, NOWHERE, NOWHERE + PAGE, DEVICE + PAGE, 0);
}

static void d_lost_table(int d)
{
	if (d > 0) {
		w.saved_pte = load_relaxed(pmd_of(EMPTY));
		store_relaxed(pmd_of(EMPTY), 0);
	} else {
		store_relaxed(pmd_of(EMPTY), w.saved_pte);
	}
}

DAMAGE(d_nr_tables, atomic_fetch_add(&w.m->tables->nr_tables, d))

static const struct damage table_damages[] = {
	{ "PTL", d_ptl, 1, { "lock of the level 1 table" } },
	{ "level", d_level, 2, { "is no table", "PUD tables are in use" } },
	{ "no table", d_no_table, 1, { "is no table" } },
	{ "stray", d_stray_table, 1, { "serves no VMA" } },
	{ "lost", d_lost_table, 1, { "PTE tables are in use, but" } },
	{ "counted", d_nr_tables, 1, { "tables are counted" } },
};

DAMAGE_TEST(mm)
DAMAGE_TEST(vma)
DAMAGE_TEST(entry)
DAMAGE_TEST(table)

/* ---- what is no violation ---- */

START_TEST(harmless)
{
	uint64_t pte;

	/* Pins, on a mapped page and on one that lost its mapping. */
	atomic_fetch_add(&frame_of(MAIN)->refcount, 2 * UHMM_PIN_BIAS);
	assert_clean("pinned");
	atomic_fetch_sub(&frame_of(MAIN)->refcount, 2 * UHMM_PIN_BIAS);
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_GUARD), 1);
	assert_clean("guard");
	put_pte(SPARE, pte_make(0), 1);
	/* A device-exclusive entry goes on mapping its page. */
	pte = load_relaxed(pte_of(MAIN));
	store_relaxed(pte_of(MAIN),
		      leaf_make(LEAF_DEVICE_EXCLUSIVE, frame_pfn(w.m, frame_of(MAIN))).val);
	assert_clean("device-exclusive");
	store_relaxed(pte_of(MAIN), pte);
	/* A folio that only its batch holds. */
	ck_assert_int_eq(uhmm_munmap(w.mm, NEW, PAGE), 0);
	assert_clean("in a batch");
}
END_TEST

/* The mm that a notifier keeps after its last user has gone has only its PGD. */
START_TEST(kept_mm)
{
	struct uhmm_mm *mm;

	ck_assert_int_eq(uhmm_mm_create(w.m, &mm), 0);
	uhmm_mmgrab(mm);
	uhmm_mmput(mm);
	assert_clean("kept");
	uhmm_mmdrop(mm);
	assert_clean("dropped");
}
END_TEST

START_TEST(without_task)
{
	struct uhmm_counters before, after;

	uhmm_counters_read(w.m, &before);
	uhmm_task_leave();
	assert_clean("no task");
	uhmm_task_enter(w.task);
	assert_clean("with a task");
	uhmm_counters_read(w.m, &after);
	ck_assert_mem_eq(&before, &after, sizeof(before));
}
END_TEST

/* Injected failures are for others. */
START_TEST(inject)
{
	struct uhmm_mm *mm;

	for (int i = 0; i < UHMM_NR_INJECT; i++)
		uhmm_machine_inject(w.m, i, 1, 0);
	assert_clean("armed");
	ck_assert_int_eq(uhmm_mm_create(w.m, &mm), -ENOMEM);
	for (int i = 0; i < UHMM_NR_INJECT; i++)
		uhmm_machine_inject(w.m, i, 0, 0);
	assert_clean("after the failure");
}
END_TEST

/* Families of anon_vmas: children that outlive their parents, and VMAs that are cut and moved. */
START_TEST(families)
{
	struct uhmm_mm *mm = w.child, *next;
	uhmm_vaddr_t at;

	uhmm_mmget(mm);
	for (int i = 0; i < 6; i++) {
		uint64_t v = 100 + i;

		ck_assert_int_eq(uhmm_cpu_write(mm, MAIN + (i % 4) * PAGE, &v, 8, NULL), 0);
		assert_clean("written");
		ck_assert_int_eq(uhmm_mm_fork(mm, &next), 0);
		assert_clean("forked");
		uhmm_mmput(mm);
		assert_clean("parent gone");
		mm = next;
	}
	ck_assert_int_eq(uhmm_munmap(mm, MAIN + PAGE, PAGE), 0);
	assert_clean("cut");
	ck_assert_int_eq(
		uhmm_mremap(mm, MAIN + 2 * PAGE, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE, 0, &at), 0);
	assert_clean("moved");
	ck_assert_int_eq(uhmm_mprotect(mm, at + PAGE, PAGE, PROT_READ), 0);
	assert_clean("protected");
	uhmm_mmput(mm);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("verify");
	TCase *tc = tcase_create("damages");

	tcase_add_checked_fixture(tc, setup, teardown);
	ADD_DAMAGES(tc, mm);
	ADD_DAMAGES(tc, vma);
	ADD_DAMAGES(tc, entry);
	ADD_DAMAGES(tc, table);
	suite_add_tcase(s, tc);
	tc = tcase_create("clean");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, harmless);
	tcase_add_test(tc, kept_mm);
	tcase_add_test(tc, without_task);
	tcase_add_test(tc, inject);
	tcase_add_test(tc, families);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
