// SPDX-License-Identifier: LGPL-2.1-or-later
/* mprotect. Models: mm/mprotect.c. */
#include <sys/mman.h>

#include "mm/mm.h"

#ifndef PROT_SEM
#define PROT_SEM 0x8
#endif

enum { PGD_LEVEL = 4 };

/*
 * Whether a page may be mapped writable at once rather than at the next fault: only if no copy would
 * be needed. Models: can_change_private_pte_writable().
 */
bool uhmm__can_change_writable(struct uhmm_vma *vma, pte_t pte)
{
	struct uhmm__frame *page;

	if (!(vma->flags & UHMM_VM_WRITE) || pte_protnone(pte) || pte.val & PTE_UFFD_WP)
		return false;
	page = vm_normal_page(vma->mm->machine, pte);
	return page && folio_test_anon(page_folio(page)) && folio_test(page, PG_ANON_EXCLUSIVE);
}

/* Models: change_softleaf_pte(). */
static pte_t change_leaf(pte_t pte)
{
	switch (leaf_type(pte)) {
	case LEAF_MIGRATION_WRITE:
		return leaf_retype(pte, LEAF_MIGRATION_READ_EXCLUSIVE);
	case LEAF_DEVICE_PRIVATE_WRITE:
		return pte_clear_bits(leaf_retype(pte, LEAF_DEVICE_PRIVATE_READ), LEAF_SOFT_DIRTY);
	default:
		return pte;
	}
}

/* Whether a CPU may still use what the old entry permits. Models: x86's pte_needs_flush(). */
static bool needs_flush(pte_t old, pte_t new)
{
	const uint64_t on_clear = PTE_PRESENT | PTE_DIRTY;
	const uint64_t on_change = PTE_RW | PTE_USER | PTE_NX;
	uint64_t diff = old.val ^ new.val;

	return old.val & PTE_PRESENT && (diff & old.val & on_clear || diff & on_change);
}

/* Entries under one PTE table. */
static void change_pte_range(struct uhmm__gather *g, struct uhmm_vma *vma, ptent_t *pmdp,
			     uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start_pte = uhmm__pte_offset_map_lock(pmdp, addr, &ptl), *ptep = start_pte;

	if (!start_pte)
		return;
	uhmm__count_n(UHMM_CNT_READ_PTE, (end - addr) >> UHMM_PAGE_SHIFT);
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++) {
		pte_t old = ptep_get(ptep), new;

		if (pte_none(old))
			continue;
		if (!pte_present(old)) {
			new = change_leaf(old);
			if (!pte_same(old, new))
				set_pte(ptep, new);
			continue;
		}
		new = pte_modify(old, vma->page_prot);
		if (uhmm__can_change_writable(vma, new))
			new = pte_set(new, PTE_RW);
		if (pte_same(old, new))
			continue;
		set_pte(ptep, new);
		if (needs_flush(old, new))
			gather_widen(g, addr);
	}
	uhmm__pte_unmap_unlock(start_pte, ptl);
}

/*
 * What is below one PGD entry. Notified from the first PUD entry that has a table on, whether there
 * are pages or not. Models: change_pud_range().
 */
static void change_pud_range(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t addr,
			     uhmm_vaddr_t end)
{
	struct uhmm_mmu_notifier_range range;
	bool notified = false;
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
		if (!pte_none(pmdp_get(pmdp)))
			change_pte_range(g, vma, pmdp, addr, next);
		uhmm__cond_resched();
	}
	if (notified)
		uhmm__invalidate_end(&range);
}

/* Models: change_protection(). */
static void change_protection(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
			      uhmm_vaddr_t end)
{
	uhmm_vaddr_t addr, next;

	for (addr = start; addr < end; addr = next) {
		next = level_addr_end(addr, end, PGD_LEVEL);
		change_pud_range(g, vma, addr, next);
	}
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
	flags = account(vma, flags);
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	uhmm__vma_set_flags(vma, flags);
	change_protection(g, vma, start, end);
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
