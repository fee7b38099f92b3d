// SPDX-License-Identifier: LGPL-2.1-or-later
/* mprotect. Models: mm/mprotect.c. */
#include <sys/mman.h>

#include "mm/mm.h"

/*
 * Whether a page may be mapped writable at once rather than at the next fault: only if no copy would
 * be needed. Models: can_change_private_pte_writable().
 */
bool uhmm__can_change_writable(struct uhmm_vma *vma, pte_t pte)
{
	struct uhmm__frame *f;

	if (!(vma->flags & UHMM_VM_WRITE) || pte_protnone(pte) || pte.val & PTE_UFFD_WP)
		return false;
	f = vm_normal_page(vma->mm->machine, pte);
	return f && folio_test_anon(f) && folio_test(f, PG_ANON_EXCLUSIVE);
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
	return !folio_is_zone_device(f) && !folio_maybe_dma_pinned(f) &&
	       !(vma_is_cow_mapping(vma) && folio_mapcount(f) > 1);
}

/* Models: change_present_ptes(). */
static pte_t change_present(struct uhmm_vma *vma, pte_t old, unsigned int cp)
{
	pte_t new;

	if (unlikely(cp & CP_PROT_NUMA))
		return can_map_prot_numa(vma, old) ? pte_modify(old, uhmm__vm_page_prot(0)) : old;
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

/* Entries under one PTE table; widens [*from, *to) to what must be flushed. Returns: changed. */
static uint64_t change_pte_range(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t addr,
				 uhmm_vaddr_t end, unsigned int cp, uhmm_vaddr_t *from,
				 uhmm_vaddr_t *to)
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
		if (!pte_present(old))
			continue;
		*from = MIN(*from, addr);
		*to = MAX(*to, addr + UHMM_PAGE_SIZE);
	}
	uhmm__pte_unmap_unlock(start_pte, ptl);
	return changed;
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

/* Notified once for what has tables. */
int64_t uhmm__change_protection(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end,
				unsigned int cp)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_PROTECTION_VMA, start, end, NULL);
	uhmm_vaddr_t addr, next, from = UINT64_MAX, to = 0;
	bool notified = false;
	int64_t changed = 0;

	if (makes_markers(vma, cp) && change_prepare(vma, start, end))
		return -ENOMEM;
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
		changed += change_pte_range(vma, pmdp, addr, next, cp, &from, &to);
		uhmm__cond_resched();
	}
	if (from < to)
		uhmm__flush_tlb_range(&vma->mm->pgt, from, to);
	if (notified)
		uhmm__invalidate_end(&range);
	return changed;
}

/* Models: mprotect_fixup(). */
static int mprotect_fixup(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t prot)
{
	const uint64_t all = UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC;
	uint64_t flags = (vma->flags & ~all) | prot;
	int err;

	if (flags == vma->flags)
		return 0;
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	uhmm__vma_set_flags(vma, flags);
	(void)uhmm__change_protection(vma, start, end, CP_MPROTECT);
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
