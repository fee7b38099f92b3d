// SPDX-License-Identifier: LGPL-2.1-or-later
/* Faults on huge pages. See huge.h. */
#include <uhmm/special.h>

#include "mm/huge.h"
#include "mm/zone_device.h"

/* Whether a huge page may be mapped around an address. Models: thp_vma_allowable_order(). */
static bool thp_allowed(const struct uhmm_vma *vma, uhmm_vaddr_t haddr)
{
	enum uhmm_thp thp = vma->mm->machine->config.thp;

	if (!vma_is_anonymous(vma) || vma->flags & (UHMM_VM_NOHUGEPAGE | UHMM__VM_SPECIAL))
		return false;
	if (thp == UHMM_THP_NEVER || (thp == UHMM_THP_MADVISE && !(vma->flags & UHMM_VM_HUGEPAGE)))
		return false;
	return vma->start <= haddr && haddr + UHMM_PMD_SIZE <= vma->end;
}

/* ---- the huge zero page ---- */

/*
 * Made when it is first needed, and kept: Linux gives it back under memory pressure. 0: no memory.
 * Models: mm_get_huge_zero_folio().
 */
static uhmm_pfn_t huge_zero_get(struct uhmm_machine *m)
{
	uhmm_pfn_t pfn = load_acquire(&m->huge_zero_pfn), none = 0;
	struct uhmm__frame *f;

	if (likely(pfn))
		return pfn;
	f = uhmm__folio_alloc_order(m, UHMM_PMD_ORDER, true);
	if (!f)
		return 0;
	uhmm__prep_folio(f, UHMM_PMD_ORDER, (uint32_t)(BIT(PG_RESERVED) | BIT(PG_UPTODATE)));
	pfn = frame_pfn(m, f);
	if (atomic_compare_exchange_strong(&m->huge_zero_pfn, &none, pfn))
		return pfn;
	folio_clear(f, PG_RESERVED);
	folio_put(m, f);
	return none;
}

/* ---- none there ---- */

/* Models: map_anon_folio_pmd_pf(). Context: PMD lock. */
static void map_anon_folio(struct uhmm__fault *vmf, struct uhmm__frame *f, uhmm_vaddr_t haddr)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	pte_t entry = pte_set(pmd_mk(frame_pfn(m, f), vma->page_prot), PTE_DIRTY);

	if (vma->flags & UHMM_VM_WRITE)
		entry = pte_set(entry, PTE_RW);
	folio_set(f, PG_UPTODATE);
	uhmm__folio_add_new_anon_rmap_pmd(f, vma, haddr);
	uhmm__folio_add_lru(m, f);
	set_pte(vmf->pmd, entry);
	uhmm__count(UHMM_CNT_FAULT_HUGE);
}

static struct uhmm__frame *alloc_huge(struct uhmm_machine *m)
{
	struct uhmm__frame *f = uhmm__folio_alloc_order(m, UHMM_PMD_ORDER, true);

	if (!f)
		uhmm__count(UHMM_CNT_FAULT_HUGE_FALLBACK);
	return f;
}

/* A read. Models: the first half of do_huge_pmd_anonymous_page(). */
static int map_huge_zero(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm__table *tb = uhmm__pte_alloc_one(&vma->mm->pgt);
	struct uhmm__spinlock *ptl;
	uhmm_pfn_t pfn;

	if (!tb)
		return VM_FAULT_OOM;
	pfn = huge_zero_get(vma->mm->machine);
	if (!pfn) {
		uhmm__pte_free(tb);
		uhmm__count(UHMM_CNT_FAULT_HUGE_FALLBACK);
		return VM_FAULT_FALLBACK;
	}
	ptl = uhmm__pmd_lock(vmf->pmd);
	if (pte_none(ptep_get(vmf->pmd))) {
		uhmm__pgtable_deposit(vmf->pmd, tb);
		set_pte(vmf->pmd, pmd_mk(pfn, vma->page_prot));
		tb = NULL;
		uhmm__count(UHMM_CNT_FAULT_ANON_READ);
		uhmm__count(UHMM_CNT_FAULT_HUGE);
	}
	uhmm__spin_unlock(ptl);
	uhmm__pte_free(tb);
	return 0;
}

/* A write. Models: __do_huge_pmd_anonymous_page(). */
static int map_huge_new(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f = alloc_huge(m);
	struct uhmm__spinlock *ptl;
	struct uhmm__table *tb;

	if (!f)
		return VM_FAULT_FALLBACK;
	tb = uhmm__pte_alloc_one(&vma->mm->pgt);
	if (!tb) {
		folio_put(m, f);
		return VM_FAULT_OOM;
	}
	ptl = uhmm__pmd_lock(vmf->pmd);
	if (pte_none(ptep_get(vmf->pmd))) {
		uhmm__pgtable_deposit(vmf->pmd, tb);
		map_anon_folio(vmf, f, vmf->address & UHMM_PMD_MASK);
		tb = NULL;
		uhmm__count(UHMM_CNT_FAULT_ANON_WRITE);
	}
	uhmm__spin_unlock(ptl);
	/* The mapping took over the allocation's reference, or nothing did. */
	if (tb) {
		uhmm__pte_free(tb);
		folio_put(m, f);
	}
	return 0;
}

/* ---- copy on write ---- */

/* Models: do_huge_zero_wp_pmd(). */
static int huge_zero_wp(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	uhmm_vaddr_t haddr = vmf->address & UHMM_PMD_MASK;
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		vma->mm, UHMM_MMU_NOTIFY_CLEAR, haddr, haddr + UHMM_PMD_SIZE, NULL);
	struct uhmm__frame *f = alloc_huge(m);
	struct uhmm__spinlock *ptl;

	if (!f)
		return VM_FAULT_FALLBACK;
	uhmm__invalidate_start(&range);
	ptl = uhmm__pmd_lock(vmf->pmd);
	if (pte_same(ptep_get(vmf->pmd), vmf->orig_pte)) {
		ptep_get_and_clear(vmf->pmd);
		uhmm__flush_tlb_range(&vma->mm->pgt, haddr, haddr + UHMM_PMD_SIZE);
		map_anon_folio(vmf, f, haddr);
		uhmm__count(UHMM_CNT_FAULT_COW_COPY);
		f = NULL;
	}
	uhmm__spin_unlock(ptl);
	if (f)
		folio_put(m, f);
	uhmm__invalidate_end(&range);
	return 0;
}

/*
 * Lock the folio of the leaf, which may mean to wait without the PMD lock. Returns: 0 with both; else
 * without either, VM_FAULT_FALLBACK for "it changed", which is not an answer for callers.
 */
static int wp_lock_folio(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;

	if (folio_trylock(f))
		return 0;
	if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT) {
		uhmm__spin_unlock(vmf->ptl);
		return VM_FAULT_WOULD_WAIT;
	}
	folio_get(f);
	uhmm__spin_unlock(vmf->ptl);
	folio_lock(m, f);
	uhmm__ptl_lock(vmf->ptl);
	if (pte_same(ptep_get(vmf->pmd), vmf->orig_pte)) {
		folio_put(m, f);
		return 0;
	}
	uhmm__spin_unlock(vmf->ptl);
	folio_unlock(m, f);
	folio_put(m, f);
	return VM_FAULT_FALLBACK;
}

/*
 * A huge page is copied only in parts: if it cannot be reused the PMD is split, and the fault goes
 * on with the page. Models: do_huge_pmd_wp_page().
 */
static int huge_wp_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f = pmd_folio(m, vmf->orig_pte);
	bool reuse = false;
	int ret;

	if (!f) {
		ret = huge_zero_wp(vmf);
		if (ret != VM_FAULT_FALLBACK)
			return ret;
		goto split;
	}
	vmf->ptl = uhmm__pmd_lock(vmf->pmd);
	if (!pte_same(ptep_get(vmf->pmd), vmf->orig_pte)) {
		uhmm__spin_unlock(vmf->ptl);
		return 0;
	}
	if (!folio_test(f, PG_ANON_EXCLUSIVE)) {
		ret = wp_lock_folio(vmf, f);
		if (ret)
			return ret == VM_FAULT_FALLBACK ? 0 : ret;
		if (!folio_test(f, PG_ANON_EXCLUSIVE) && folio_ref_count(f) == 1) {
			store_release(&f->mapping,
				      (uintptr_t)load_relaxed(&vma->anon_vma) | MAPPING_ANON);
			folio_set(f, PG_ANON_EXCLUSIVE);
		}
		folio_unlock(m, f);
	}
	reuse = folio_test(f, PG_ANON_EXCLUSIVE);
	/* Who unshares may have it now, and only to read. */
	if (reuse && !(vmf->flags & FAULT_FLAG_UNSHARE)) {
		pte_t entry = pte_set(vmf->orig_pte, PTE_ACCESSED | PTE_DIRTY);

		set_pte(vmf->pmd, vma->flags & UHMM_VM_WRITE ? pte_set(entry, PTE_RW) : entry);
		uhmm__count(UHMM_CNT_FAULT_COW_REUSE);
	}
	uhmm__spin_unlock(vmf->ptl);
	if (reuse)
		return 0;
split:
	uhmm__split_huge_pmd(vma, vmf->pmd, vmf->address, false);
	return VM_FAULT_FALLBACK;
}

/* A NUMA hint: the entry is as it was. Models: do_huge_pmd_numa_page(). */
static void huge_numa(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	pte_t pmd = pte_set(pte_modify(vmf->orig_pte, vma->page_prot), PTE_ACCESSED);
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(vmf->pmd);

	if (pte_same(ptep_get(vmf->pmd), vmf->orig_pte)) {
		if (uhmm__can_change_writable(vma, pmd))
			pmd = pte_set(pmd, PTE_RW);
		set_pte(vmf->pmd, pmd);
	}
	uhmm__spin_unlock(ptl);
	uhmm__count(UHMM_CNT_FAULT_NUMA);
}

/* Only the accessed and dirty bits are missing. Models: huge_pmd_set_accessed(). */
static void huge_spurious(struct uhmm__fault *vmf)
{
	uint64_t bits = PTE_ACCESSED | (vmf->flags & FAULT_FLAG_WRITE ? PTE_DIRTY : 0);
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(vmf->pmd);

	if (pte_same(ptep_get(vmf->pmd), vmf->orig_pte))
		set_pte(vmf->pmd, pte_set(vmf->orig_pte, bits));
	uhmm__spin_unlock(ptl);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
}

/* ---- entries that are not present ---- */

void uhmm__pmd_migration_entry_wait(struct uhmm_mm *mm, ptent_t *pmdp)
{
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(pmdp);
	pte_t pmd = ptep_get(pmdp);

	if (!leaf_is_migration(pmd)) {
		uhmm__spin_unlock(ptl);
		return;
	}
	uhmm__count(UHMM_CNT_FAULT_MIGRATION_WAIT);
	uhmm__bit_wait_unlocked(mm->machine, &pmd_folio(mm->machine, pmd)->flags, PG_LOCKED,
				PG_WAITERS, ptl);
}

/*
 * Somebody else has the folio locked. (q) In 7.3 it does not wait, as the fault on a page does: the
 * access just comes again. Context: PMD lock, which is dropped.
 */
static void huge_device_wait(struct uhmm_machine *m, struct uhmm__frame *f,
			     struct uhmm__spinlock *ptl)
{
	uhmm__count(UHMM_CNT_FAULT_DEVICE_WAIT);
	if (m->config.huge_device_wait == UHMM_HUGE_DEVICE_RETURNS)
		uhmm__spin_unlock(ptl);
	else
		uhmm__bit_wait_unlocked(m, &f->flags, PG_LOCKED, PG_WAITERS, ptl);
}

/* Models: do_huge_pmd_device_private(). */
static int huge_device_private(struct uhmm__fault *vmf)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	struct uhmm__frame *f = pmd_folio(m, vmf->orig_pte);
	struct uhmm__spinlock *ptl;

	if (vmf->flags & FAULT_FLAG_VMA_LOCK) {
		vma_end_read(vmf->vma);
		return VM_FAULT_RETRY;
	}
	if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
		return VM_FAULT_WOULD_WAIT;
	ptl = uhmm__pmd_lock(vmf->pmd);
	if (!pte_same(ptep_get(vmf->pmd), vmf->orig_pte)) {
		uhmm__spin_unlock(ptl);
		return 0;
	}
	if (!folio_trylock(f)) {
		huge_device_wait(m, f, ptl);
		return 0;
	}
	folio_get(f);
	uhmm__spin_unlock(ptl);
	return uhmm__migrate_to_ram(vmf, f, false);
}

int uhmm__huge_fault(struct uhmm__fault *vmf, pte_t pmd)
{
	uhmm_vaddr_t haddr = vmf->address & UHMM_PMD_MASK;
	int ret;

	if (pte_none(pmd)) {
		if (!thp_allowed(vmf->vma, haddr))
			return VM_FAULT_FALLBACK;
		ret = uhmm__vmf_anon_prepare(vmf);
		if (ret)
			return ret;
		if (unlikely(vmf->vma->flags & UHMM_VM_UFFD_MISSING))
			return uhmm__handle_userfault(vmf, UHMM_UFFD_MISSING);
		return vmf->flags & FAULT_FLAG_WRITE ? map_huge_new(vmf) : map_huge_zero(vmf);
	}
	if (!pmd_is_leaf(pmd))
		return VM_FAULT_FALLBACK;
	vmf->orig_pte = pmd;
	if (leaf_is_device_private(pmd))
		return huge_device_private(vmf);
	if (leaf_is_migration(pmd)) {
		if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
			return VM_FAULT_WOULD_WAIT;
		uhmm__pmd_migration_entry_wait(vmf->vma->mm, vmf->pmd);
		return 0;
	}
	if (unlikely(pte_protnone(pmd)) &&
	    vmf->vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC)) {
		huge_numa(vmf);
		return 0;
	}
	if (vmf->flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE) && !pte_write(pmd)) {
		if (unlikely(pmd.val & PTE_UFFD_WP) && vmf->vma->flags & UHMM_VM_UFFD_WP &&
		    !(vmf->flags & FAULT_FLAG_UNSHARE))
			return uhmm__handle_userfault(vmf, UHMM_UFFD_WP);
		return huge_wp_page(vmf);
	}
	huge_spurious(vmf);
	return 0;
}
