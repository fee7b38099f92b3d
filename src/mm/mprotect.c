// SPDX-License-Identifier: LGPL-2.1-or-later
/* mprotect. Models: mm/mprotect.c. */
#include <sys/mman.h>

#include "mm/mm.h"

/*
 * Whether a page may be mapped writable at once rather than at the next fault: a private one if no
 * copy would be needed, a shared one if it is dirty, for then its file system has been told.
 * Models: can_change_private_pte_writable(), can_change_shared_pte_writable().
 */
static bool can_change_writable(struct uhmm_vma *vma, pte_t pte)
{
	struct uhmm__frame *f;

	if (!(vma->flags & UHMM_VM_WRITE) || pte_protnone(pte) || pte.val & PTE_UFFD_WP)
		return false;
	if (unlikely(vma->flags & UHMM_VM_SHARED))
		return pte_dirty(pte);
	f = vm_normal_page(vma->mm->machine, pte);
	return f && folio_test_anon(f) && folio_test(f, PG_ANON_EXCLUSIVE);
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

/* Entries under one PTE table; widens [*from, *to) to what must be flushed. */
static void change_pte_range(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t addr,
			     uhmm_vaddr_t end, uhmm_vaddr_t *from, uhmm_vaddr_t *to)
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
		if (can_change_writable(vma, new))
			new = pte_set(new, PTE_RW);
		if (pte_same(old, new))
			continue;
		set_pte(ptep, new);
		*from = MIN(*from, addr);
		*to = MAX(*to, addr + UHMM_PAGE_SIZE);
	}
	uhmm__pte_unmap_unlock(start_pte, ptl);
}

/* Models: change_protection(). Notified once for what has tables. */
static void change_protection(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_PROTECTION_VMA, start, end, NULL);
	uhmm_vaddr_t addr, next, from = UINT64_MAX, to = 0;
	bool notified = false;

	for (addr = start; addr < end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);

		next = level_addr_end(addr, end, level);
		if (!pmdp || pte_none(pmdp_get(pmdp)))
			continue;
		if (!notified) {
			notified = true;
			uhmm__invalidate_start(&range);
		}
		change_pte_range(vma, pmdp, addr, next, &from, &to);
		uhmm__cond_resched();
	}
	if (from < to)
		uhmm__flush_tlb_range(&vma->mm->pgt, from, to);
	if (notified)
		uhmm__invalidate_end(&range);
}

/*
 * Nothing limits what is committed here, but the flag keeps VMAs apart: of a file's mappings those
 * that were writable once do not merge with those that never were.
 */
static uint64_t account_flags(const struct uhmm_vma *vma, uint64_t new)
{
	const uint64_t none = UHMM_VM_ACCOUNT | UHMM_VM_WRITE | UHMM_VM_SHARED | UHMM_VM_NORESERVE;

	if (new &UHMM_VM_WRITE)
		return vma->flags & none ? new : new | UHMM_VM_ACCOUNT;
	if (vma_is_anonymous(vma) && !load_relaxed(&vma->anon_vma))
		return new & ~UHMM_VM_ACCOUNT;
	return new;
}

/* Models: mprotect_fixup(). */
static int mprotect_fixup(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t prot)
{
	const uint64_t all = UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC;
	uint64_t flags = (vma->flags & ~all) | prot;
	int err;

	if (flags == vma->flags)
		return 0;
	flags = account_flags(vma, flags);
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	uhmm__vma_set_flags(vma, flags);
	change_protection(vma, start, end);
	uhmm__vma_merge(vma);
	return 0;
}

static int do_mprotect(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t prot)
{
	uhmm_vaddr_t addr, next;

	if (!uhmm__vma_lookup(mm, start))
		return -ENOMEM;
	for (addr = start; addr < end; addr = next) {
		struct uhmm_vma *vma = uhmm__find_vma(mm, addr);
		int err;

		if (!vma || vma->start > addr)
			return -ENOMEM;
		next = MIN(vma->end, end);
		err = mprotect_fixup(vma, addr, next, prot);
		if (err)
			return err;
	}
	return 0;
}

int uhmm_mprotect(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot)
{
	uint64_t flags = (prot & PROT_READ ? UHMM_VM_READ : 0) |
			 (prot & PROT_WRITE ? UHMM_VM_WRITE : 0) |
			 (prot & PROT_EXEC ? UHMM_VM_EXEC : 0);
	uhmm_vaddr_t end;
	int err;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK)
		return -EINVAL;
	if (!len)
		return 0;
	end = ALIGN_UP(addr + len, UHMM_PAGE_SIZE);
	if (end <= addr)
		return -ENOMEM;
	if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC))
		return -EINVAL;
	mmap_write_lock(mm);
	err = do_mprotect(mm, addr, end, flags);
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}
