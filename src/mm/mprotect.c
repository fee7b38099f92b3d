// SPDX-License-Identifier: LGPL-2.1-or-later
/* mprotect. Models: mm/mprotect.c. */
#include <sys/mman.h>

#include "mm/huge.h"

#ifndef PROT_SEM
#define PROT_SEM 0x8
#endif

enum { PGD_LEVEL = 4 };

/*
 * Whether a page may be mapped writable at once rather than at the next fault: a private one if no
 * copy would be needed, a shared one if it is dirty, for then its file system has been told.
 * Models: can_change_private_pte_writable(), can_change_shared_pte_writable().
 */
bool uhmm__can_change_writable(struct uhmm_vma *vma, pte_t pte)
{
	struct uhmm__frame *page;

	if (!(vma->flags & UHMM_VM_WRITE) || pte_protnone(pte) || pte.val & PTE_UFFD_WP)
		return false;
	if (unlikely(vma->flags & UHMM_VM_SHARED))
		return pte_dirty(pte);
	page = vm_normal_page(vma->mm->machine, pte);
	return page && folio_test_anon(page_folio(page)) && folio_test(page, PG_ANON_EXCLUSIVE);
}

/* Models: change_softleaf_pte(). */
static pte_t change_leaf(pte_t pte, unsigned int cp)
{
	switch (leaf_type(pte)) {
	case LEAF_MIGRATION_WRITE:
		pte = leaf_retype(pte, LEAF_MIGRATION_READ_EXCLUSIVE);
		break;
	case LEAF_DEVICE_PRIVATE_WRITE:
		pte = pte_clear_bits(leaf_retype(pte, LEAF_DEVICE_PRIVATE_READ), LEAF_SOFT_DIRTY);
		break;
	case LEAF_MARKER:
		/* Write-protection of what is not there ends with its marker; others stay. */
		if (leaf_is_marker(pte, MARKER_UFFD_WP) && cp & CP_UFFD_WP_RESOLVE)
			return pte_make(0);
		return pte;
	default:
		break;
	}
	if (cp & CP_UFFD_WP)
		return pte_set(pte, LEAF_UFFD_WP);
	return cp & CP_UFFD_WP_RESOLVE ? pte_clear_bits(pte, LEAF_UFFD_WP) : pte;
}

/*
 * Whether a page is worth a NUMA hint. Models: folio_can_map_prot_numa(), without the question on
 * which node it is.
 */
static bool can_map_prot_numa(struct uhmm_vma *vma, pte_t pte)
{
	struct uhmm__frame *f = vm_normal_page(vma->mm->machine, pte);

	if (!f || pte_protnone(pte))
		return false;
	f = page_folio(f);
	/* Dirty pages of files cannot always be moved. */
	if (!folio_test(f, PG_SWAPBACKED) && folio_test(f, PG_DIRTY))
		return false;
	return !folio_is_zone_device(f) && !folio_maybe_dma_pinned(f) &&
	       !(vma_is_cow_mapping(vma) && folio_mapcount(f) > 1);
}

/* Models: change_present_ptes(). */
static pte_t change_present(struct uhmm_vma *vma, pte_t old, unsigned int cp)
{
	pte_t new;

	if (unlikely(cp & CP_PROT_NUMA))
		return can_map_prot_numa(vma, old) ? pte_modify(old, uhmm__vm_page_prot(NULL, 0))
						   : old;
	new = pte_modify(old, vma->page_prot);
	if (cp & CP_UFFD_WP)
		return pte_clear_bits(pte_set(new, PTE_UFFD_WP), PTE_RW);
	if (cp & CP_UFFD_WP_RESOLVE)
		new = pte_clear_bits(new, PTE_UFFD_WP);
	return uhmm__can_change_writable(vma, new) ? pte_set(new, PTE_RW) : new;
}

static bool makes_markers(const struct uhmm_vma *vma, unsigned int cp)
{
	return cp & CP_UFFD_WP && vma->flags & UHMM_VM_UFFD_WP_UNPOPULATED;
}

/* Whether a CPU may still use what the old entry permits. Models: x86's pte_needs_flush(). */
static bool needs_flush(pte_t old, pte_t new)
{
	const uint64_t on_clear = PTE_PRESENT | PTE_DIRTY;
	const uint64_t on_change = PTE_RW | PTE_USER | PTE_NX;
	uint64_t diff = old.val ^ new.val;

	return old.val & PTE_PRESENT && (diff & old.val & on_clear || diff & on_change);
}

/* Entries under one PTE table. Returns: changed. */
static uint64_t change_pte_range(struct uhmm__gather *g, struct uhmm_vma *vma, ptent_t *pmdp,
				 uhmm_vaddr_t addr, uhmm_vaddr_t end, unsigned int cp)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start_pte = uhmm__pte_offset_map_lock(pmdp, addr, &ptl), *ptep = start_pte;
	bool markers = makes_markers(vma, cp);
	uint64_t changed = 0;

	if (!start_pte)
		return 0;
	uhmm__count_n(UHMM_CNT_READ_PTE, (end - addr) >> UHMM_PAGE_SHIFT);
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++) {
		pte_t old = ptep_get(ptep), new;

		if (pte_none(old)) {
			if (likely(!markers))
				continue;
			new = leaf_make(LEAF_MARKER, MARKER_UFFD_WP);
		} else if (pte_present(old)) {
			new = change_present(vma, old, cp);
		} else {
			new = change_leaf(old, cp);
		}
		if (pte_same(old, new))
			continue;
		set_pte(ptep, new);
		changed++;
		if (needs_flush(old, new))
			gather_widen(g, addr, addr + UHMM_PAGE_SIZE);
	}
	uhmm__pte_unmap_unlock(start_pte, ptl);
	return changed;
}

/*
 * A huge leaf. Returns: changed; -1: there is a table now. Models: the PMD part of
 * change_pmd_range(), change_huge_pmd().
 */
static int64_t change_pmd(struct uhmm__gather *g, struct uhmm_vma *vma, ptent_t *pmdp,
			  uhmm_vaddr_t addr, uhmm_vaddr_t next, unsigned int cp)
{
	struct uhmm__spinlock *ptl;
	pte_t old, new;

	if (next - addr != UHMM_PMD_SIZE) {
		uhmm__split_huge_pmd(vma, pmdp, addr, false);
		return -1;
	}
	ptl = uhmm__pmd_leaf_lock(pmdp);
	if (!ptl)
		return -1;
	old = ptep_get(pmdp);
	if (!pte_present(old))
		new = change_leaf(old, cp);
	else if (cp & CP_PROT_NUMA && is_huge_zero_pmd(vma->mm->machine, old))
		new = old;
	else
		new = change_present(vma, old, cp);
	if (!pte_same(old, new))
		set_pte(pmdp, new);
	uhmm__spin_unlock(ptl);
	if (needs_flush(old, new)) {
		gather_widen(g, addr, next);
	}
	return pte_same(old, new) ? 0 : UHMM_PTRS_PER_TABLE;
}

/* Tables for markers. 0 or -ENOMEM. Models: change_pmd_prepare() and its like. */
static int change_prepare(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	for (uhmm_vaddr_t addr = start; addr < end; addr = level_addr_end(addr, end, 2)) {
		ptent_t *pmdp = uhmm__pmd_alloc(&vma->mm->pgt, addr);

		if (!pmdp || uhmm__pte_alloc(&vma->mm->pgt, pmdp))
			return -ENOMEM;
	}
	return 0;
}

/* What is below one PMD entry. Returns: changed. */
static uint64_t change_pmd_entry(struct uhmm__gather *g, struct uhmm_vma *vma, ptent_t *pmdp,
				 uhmm_vaddr_t addr, uhmm_vaddr_t end, unsigned int cp)
{
	pte_t pmd = pmdp_get(pmdp);
	int64_t changed;

	if (pte_none(pmd))
		return 0;
	if (unlikely(pmd_is_leaf(pmd))) {
		changed = change_pmd(g, vma, pmdp, addr, end, cp);
		if (changed >= 0)
			return changed;
	}
	return change_pte_range(g, vma, pmdp, addr, end, cp);
}

/*
 * What is below one PGD entry. Notified from the first PUD entry that has a table on, whether there
 * are pages or not. Returns: changed. Models: change_pud_range().
 */
static uint64_t change_pud_range(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t addr,
				 uhmm_vaddr_t end, unsigned int cp)
{
	struct uhmm_mmu_notifier_range range;
	bool notified = false;
	uint64_t changed = 0;
	uhmm_vaddr_t next;

	for (; addr < end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);

		next = level_addr_end(addr, end, level);
		if (!pmdp)
			continue;
		if (!notified) {
			notified = true;
			range = UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_PROTECTION_VMA, addr,
						     end, NULL);
			uhmm__invalidate_start(&range);
		}
		changed += change_pmd_entry(g, vma, pmdp, addr, next, cp);
		uhmm__cond_resched();
	}
	if (notified)
		uhmm__invalidate_end(&range);
	return changed;
}

int64_t uhmm__change_protection(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
				uhmm_vaddr_t end, unsigned int cp)
{
	uhmm_vaddr_t addr, next;
	int64_t changed = 0;

	if (makes_markers(vma, cp) && change_prepare(vma, start, end))
		return -ENOMEM;
	for (addr = start; addr < end; addr = next) {
		next = level_addr_end(addr, end, PGD_LEVEL);
		changed += (int64_t)change_pud_range(g, vma, addr, next, cp);
	}
	return changed;
}

/* A private mapping counts as committed memory from when it is writable until nobody can tell. */
static uint64_t account(const struct uhmm_vma *vma, uint64_t flags)
{
	const uint64_t counted = UHMM_VM_ACCOUNT | UHMM_VM_WRITE | UHMM_VM_SHARED |
				 UHMM_VM_NORESERVE;

	if (flags & UHMM_VM_WRITE)
		return vma->flags & counted ? flags : flags | UHMM_VM_ACCOUNT;
	if (vma_is_anonymous(vma) && !load_relaxed(&vma->anon_vma))
		return flags & ~UHMM_VM_ACCOUNT;
	return flags;
}

/* Models: mprotect_fixup(). */
static int mprotect_fixup(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
			  uhmm_vaddr_t end, uint64_t prot)
{
	const uint64_t all = UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC;
	uint64_t flags = (vma->flags & ~all) | prot, old = vma->flags;
	int err;

	if (flags == old)
		return 0;
	if (prot & UHMM_VM_WRITE && old & UHMM_VM_SHARED && vma->file && vma->file->foreign)
		return -EACCES;
	flags = account(vma, flags);
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	uhmm__vma_set_flags(vma, flags);
	(void)uhmm__change_protection(g, vma, start, end, CP_MPROTECT);
	/* Locked memory does not fault: break COW now. */
	if (flags & UHMM_VM_WRITE && old & UHMM_VM_LOCKED &&
	    !(old & (UHMM_VM_WRITE | UHMM_VM_SHARED)))
		uhmm__populate_vma(vma, start, end);
	uhmm__vma_merge(vma);
	return 0;
}

/* Where PROT_GROWSDOWN begins: at the start of the stack. 0 or -errno. */
static int start_of_stack(struct uhmm_mm *mm, uhmm_vaddr_t *start, uhmm_vaddr_t end)
{
	struct uhmm_vma *vma = uhmm__find_vma(mm, *start);

	if (!vma || vma->start >= end)
		return -ENOMEM;
	*start = vma->start;
	return vma->flags & UHMM_VM_GROWSDOWN ? 0 : -EINVAL;
}

static int do_mprotect(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t prot,
		       bool growsdown)
{
	uhmm_vaddr_t addr, next;
	struct uhmm__gather g;
	int err = growsdown ? start_of_stack(mm, &start, end) : 0;

	/* One flush for all. */
	uhmm__gather_init(&g, mm);
	for (addr = start; addr < end && !err; addr = next) {
		struct uhmm_vma *vma = uhmm__vma_lookup(mm, addr);

		if (!vma) {
			err = -ENOMEM;
			break;
		}
		next = MIN(vma->end, end);
		err = mprotect_fixup(&g, vma, addr, next, prot);
	}
	uhmm__gather_finish(&g);
	return err;
}

int uhmm_mprotect(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot)
{
	const int grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
	uint64_t flags = (prot & PROT_READ ? UHMM_VM_READ : 0) |
			 (prot & PROT_WRITE ? UHMM_VM_WRITE : 0) |
			 (prot & PROT_EXEC ? UHMM_VM_EXEC : 0);
	uhmm_vaddr_t end;
	int err;

	if (!uhmm__current() || grows == (PROT_GROWSDOWN | PROT_GROWSUP) || addr & ~UHMM_PAGE_MASK)
		return -EINVAL;
	if (!len)
		return 0;
	end = addr + ALIGN_UP(len, UHMM_PAGE_SIZE);
	if (end <= addr)
		return -ENOMEM;
	/* No stack grows upwards here. */
	if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM | PROT_GROWSDOWN))
		return -EINVAL;
	mmap_write_lock(mm);
	err = do_mprotect(mm, addr, end, flags, grows);
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}
