// SPDX-License-Identifier: LGPL-2.1-or-later
/* The page of a CPU fault, between the steps of its way home. */
#include "migrate/fault_page.h"
#include "mirror/mirror.h"
#include "mm/fault.h"

#include "unit/inside.h"

static struct uhmm__frame *lock_page(uhmm_vaddr_t at)
{
	struct uhmm__frame *fr = frame_at(f.mm, at);

	expect(folio_trylock_get(fr));
	return fr;
}

static void unlock_put_page(struct uhmm__frame *fr)
{
	if (folio_unlock_put_testzero(f.m, fr))
		uhmm__folio_free(f.m, fr);
}

static uint64_t setup_at(uhmm_vaddr_t addr, uhmm_pfn_t pfn)
{
	return fault_page_setup(fault_page_at(uhmm__vma_lookup(f.mm, addr), addr, pfn));
}

/* What became of the entry of a fault between its lock and the collection. */
START_TEST(entry_changes_before_it_is_collected)
{
	const uint64_t m = UHMM_MIGRATE_PFN_MIGRATE;
	struct uhmm__frame *fr;
	uhmm_pfn_t pfn, other;

	map_written(AT, 5);
	to_device(0, AT, 2);
	to_device(1, AT + 2 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT + 3 * PAGE, PAGE, MADV_DONTNEED), 0);
	pfn = pfn_at(f.mm, AT);
	other = pfn_at(f.mm, AT + PAGE);
	uhmm_mmap_read_lock(f.mm);
	fr = lock_page(AT);
	expect_eq(setup_at(AT + 3 * PAGE, pfn), m);
	expect_eq(setup_at(AT + 2 * PAGE, pfn), 0);
	expect_eq(setup_at(AT + 4 * PAGE, pfn), 0);
	{
		uint64_t src = setup_at(AT + PAGE, pfn), dst = 0;
		struct uhmm_migrate_vma args;

		expect_eq(src & ~UHMM_MIGRATE_PFN_WRITE, uhmm_migrate_pfn(other) | m);
		args = fault_page_args(fault_page_at(uhmm__vma_lookup(f.mm, AT), AT + PAGE, pfn),
				       &src, &dst);
		args.npages = 1;
		src &= ~m;
		uhmm_migrate_vma_finalize(&args);
	}
	unlock_put_page(fr);
	uhmm_mmap_read_unlock(f.mm);
	expect(on_device(f.mm, AT));
	expect(on_device(f.mm, AT + PAGE));
}
END_TEST

/* Somebody refers to the page besides: @_i + 1 too many. */
START_TEST(surplus_references_of_the_faults_page)
{
	struct uhmm__frame *fr;
	const int i = _i;

	map_written(AT, 1);
	to_device(0, AT, 1);
	fr = frame_at(f.mm, AT);
	for (int k = 0; k <= i; k++)
		folio_get(fr);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm__handle_mm_fault(uhmm__vma_lookup(f.mm, AT), AT, 0), 0);
	uhmm_mmap_read_unlock(f.mm);
	expect(on_device(f.mm, AT));
	expect(frame_at(f.mm, AT) == fr);
	expect(!folio_test(fr, PG_LOCKED));
	expect_eq(folio_ref_count(fr), 2 + i);
	expect_eq(counted(f.m, UHMM_CNT_FAIL_RACED), !i);
	expect_eq(counted(f.m, UHMM_CNT_FAIL_REFERENCED), !!i);
	for (int k = 0; k <= i; k++)
		folio_put(f.m, fr);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* Each way of access counts one fault the same. */
START_TEST(counts_of_one_fault)
{
	static const enum uhmm_counter c[] = { UHMM_CNT_READ_PGD,     UHMM_CNT_READ_PUD,
					       UHMM_CNT_READ_PMD,     UHMM_CNT_READ_PTE,
					       UHMM_CNT_PTL,	      UHMM_CNT_VMA_LOCK,
					       UHMM_CNT_FAULT_RETRY,  UHMM_CNT_MMAP_READ,
					       UHMM_CNT_WALKS,	      UHMM_CNT_RMAP_WALKS,
					       UHMM_CNT_RMAP_STEPS,   UHMM_CNT_MIGRATED_TO_RAM,
					       UHMM_CNT_COLLECTED,    UHMM_CNT_FAULT_DEVICE,
					       UHMM_CNT_CPU_ACCESSES, UHMM_CNT_LRU_DRAIN };
	uint64_t before[16], v = 0;
	struct uhmm_access acc;
	int n = 16;

	map_written(AT, 1);
	to_device(0, AT, 1);
	map_written(AT + 8 * PAGE, 1); /* one in the LRU batch */
	for (int i = 0; i < n; i++)
		before[i] = counted(f.m, c[i]);
	switch (_i) {
	case 0:
		expect_eq(uhmm_cpu_read(f.mm, AT, &v, 8, &acc), 0);
		expect_eq(v, 1);
		break;
	case 1:
		expect_eq(uhmm_cpu_read(f.mm, AT, &v, 4, &acc), 0);
		break;
	case 2:
		expect_eq(uhmm_cpu_write(f.mm, AT, &v, 8, &acc), 0);
		break;
	default:
		expect_eq(uhmm_cpu_write(f.mm, AT, &v, 4, &acc), 0);
	}
	expect_eq(acc.faults, 1);
	expect_eq(acc.fault_addr, AT);
	static const int want[] = { 6, 6, 8, 4, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

	for (int i = 0; i < n; i++)
		expect_eq(counted(f.m, c[i]) - before[i], want[i]);
	expect(pte_at(f.mm, AT).val & PTE_ACCESSED);
}
END_TEST

/* A driver's OOM, met by the quick path: tried once more, no more. */
START_TEST(no_memory_for_the_page)
{
	struct uhmm_access acc;
	uint64_t v = 0, b = counted(f.m, UHMM_CNT_FAULT_OOM),
		 d = counted(f.m, UHMM_CNT_FAULT_DEVICE), g;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 2), 0);
	g = counted(f.m, UHMM_CNT_READ_PGD);
	expect_eq(uhmm_cpu_read(f.mm, AT, &v, 8, &acc), -ENOMEM);
	expect_eq(counted(f.m, UHMM_CNT_READ_PGD) - g, 10);
	expect_eq(acc.done, 0);
	expect_eq(acc.faults, 2);
	expect_eq(acc.fault_addr, AT);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_OOM) - b, 2);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE) - d, 2);
	expect(on_device(f.mm, AT));
	expect(!folio_test(frame_at(f.mm, AT), PG_LOCKED));
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_FLAGS, AT, UHMM_MIRROR_FLAG_FAIL_ALLOC, NULL,
			    NULL),
		  0);
	expect_eq(uhmm_cpu_read(f.mm, AT, &v, 8, &acc), 0);
	expect_eq(acc.faults, 2);
	expect_eq(v, 1);
}
END_TEST

/* A device's walk that is under way does not bring back what a fault takes from it. */
START_TEST(fault_spoils_a_walk)
{
	struct uhmm_task *t = another_task(f.m), *self;
	struct uhmm__device_walk w;

	map_written(AT, 1);
	to_device(0, AT, 1);
	self = become(t);
	uhmm__device_walk_begin(f.mirror[0], &w, AT, AT + PAGE);
	become(self);
	get_word(f.mm, AT);
	expect(w.any_spoilt || w.lost);
	uhmm__mutex_lock(&f.mirror[0]->mutex);
	uhmm__device_walk_end(&w);
	uhmm__mutex_unlock(&f.mirror[0]->mutex);
	uhmm_task_destroy(t);
}
END_TEST

/* The entry names another page by the time it is collected: that comes home, the fault's stays. */
START_TEST(another_page_by_now)
{
	struct uhmm__fault vmf = { .address = AT + PAGE };
	struct uhmm__frame *fr;

	map_written(AT, 2);
	to_device(0, AT, 2);
	if (_i)
		expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1), 0);
	uhmm_mmap_read_lock(f.mm);
	vmf.vma = uhmm__vma_lookup(f.mm, AT);
	fr = lock_page(AT);
	expect_eq(uhmm__migrate_to_ram(&vmf, fr, true) & VM_FAULT_OOM, _i ? VM_FAULT_OOM : 0);
	uhmm_mmap_read_unlock(f.mm);
	expect(on_device(f.mm, AT));
	expect(!folio_test(fr, PG_LOCKED));
	expect_eq(folio_ref_count(fr), 1);
	expect_eq(in_ram(f.mm, AT + PAGE), !_i);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* Others of the process are told of that page, and of no more. */
START_TEST(notified_of_the_page_alone)
{
	struct watcher w[3];

	map_written(AT, 3);
	to_device(0, AT, 3);
	for (int i = 0; i < 3; i++)
		watch(&w[i], f.mm, AT + i * PAGE, 1);
	get_word(f.mm, AT + PAGE);
	expect_eq(w[0].calls + w[2].calls, 0);
	expect_eq(w[1].calls, 1);
	expect_eq(w[1].start, AT + PAGE);
	expect_eq(w[1].end, AT + 2 * PAGE);
	expect(w[1].owner == f.dev[0]);
	for (int i = 0; i < 3; i++)
		unwatch(&w[i]);
}
END_TEST

#if !UHMM_CHECKED
/* The entry, or its table, is another by the time it is locked: nothing is brought home. */
START_TEST(entry_changes_before_it_is_locked)
{
	ptent_t *pmdp = NULL, *ptep;
	pte_t pmd, pte;
	uint64_t d;

	/* The last page keeps the table, whatever becomes of the others. */
	map_written(AT, 4);
	to_device(0, AT, 2);
	uhmm__rcu_chain_begin();
	ptep = walk_to_pte(&f.mm->pgt, AT, &pmdp, &pmd);
	pte = ptep_get(ptep);
	uhmm__rcu_chain_end();
	if (_i == 0)
		expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	if (_i == 1) {
		uhmm_vaddr_t o;

		expect_eq(uhmm_mremap(f.mm, AT, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				      AT + (64 << 20), &o),
			  0);
		map_fixed(f.mm, AT, 1, RW);
	}
	if (_i == 2) {
		expect_eq(uhmm_munmap(f.mm, AT, 2 * PAGE), 0);
		map_fixed(f.mm, AT, 2, RW);
	}
	d = counted(f.m, UHMM_CNT_FAULT_DEVICE);
	uhmm__rcu_chain_begin();
	expect_eq(uhmm__user_device_fault(f.mm, AT, FAULT_FLAG_USER | FAULT_FLAG_ALLOW_RETRY, pmdp,
					  ptep, pte),
		  UHMM__FAULT_UNCHAINED);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE), d);
	expect_eq(get_word(f.mm, AT), 0);
}
END_TEST

/* What the process may not do is no reason to bring a page home. */
START_TEST(no_rights)
{
	static const int prot[] = { PROT_NONE, PROT_READ };
	uint64_t v = 0;
	struct uhmm_access acc;
	uint64_t r = counted(f.m, UHMM_CNT_FAULT_RETRY);

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, prot[_i]), 0);
	expect_eq(_i ? uhmm_cpu_write(f.mm, AT, &v, 8, &acc) : uhmm_cpu_read(f.mm, AT, &v, 8, &acc),
		  SIGSEGV);
	expect_eq(acc.faults, 1);
	expect_eq(acc.fault_addr, AT);
	expect(on_device(f.mm, AT));
	expect_eq(counted(f.m, UHMM_CNT_FAULT_RETRY), r);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("fault_page");
	TCase *tc = tcase_create("fault_page");
	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, entry_changes_before_it_is_collected);
	tcase_add_loop_test(tc, surplus_references_of_the_faults_page, 0, 2);
	tcase_add_loop_test(tc, counts_of_one_fault, 0, 4);
	tcase_add_loop_test(tc, another_page_by_now, 0, 2);
	tcase_add_test(tc, notified_of_the_page_alone);
#if !UHMM_CHECKED
	tcase_add_loop_test(tc, entry_changes_before_it_is_locked, 0, 3);
	tcase_add_loop_test(tc, no_rights, 0, 2);
#endif
	tcase_add_test(tc, no_memory_for_the_page);
	tcase_add_test(tc, fault_spoils_a_walk);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
