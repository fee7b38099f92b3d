// SPDX-License-Identifier: LGPL-2.1-or-later
/* Guard regions. Models: mm/madvise.c:madvise_guard_install() and madvise_guard_remove(). */
#include "mm/mm.h"

static bool valid_vma(const struct uhmm_vma *vma, bool allow_locked)
{
	return !(vma->flags & (UHMM__VM_SPECIAL | (allow_locked ? 0 : UHMM_VM_LOCKED)));
}

/* Markers for one table. 0; 1: a page is in the way. Context: the table exists. */
static int install_ptes(ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start = uhmm__pte_offset_map_lock(pmdp, addr, &ptl), *ptep = start;
	int ret = 0;

	if (!start)
		return 1;
	for (; addr < end && !ret; addr += UHMM_PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);

		if (pte_none(pte))
			set_pte(ptep, leaf_make(LEAF_MARKER, MARKER_GUARD));
		else if (!leaf_is_marker(pte, MARKER_GUARD))
			ret = 1;
	}
	uhmm__pte_unmap_unlock(start, ptl);
	uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
	return ret;
}

/* 0, 1 as above, or -ENOMEM. */
static int install_range(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	uhmm_vaddr_t next;
	int ret = 0;

	for (; addr < end && !ret; addr = next) {
		ptent_t *pmdp = uhmm__pmd_alloc(&vma->mm->pgt, addr);

		next = level_addr_end(addr, end, 2);
		if (!pmdp || uhmm__pte_alloc(&vma->mm->pgt, pmdp))
			return -ENOMEM;
		ret = install_ptes(pmdp, addr, next);
	}
	return ret;
}

int uhmm__guard_install(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm__gather g;
	int ret;

	if (!valid_vma(vma, false))
		return -EINVAL;
	store_relaxed(&vma->maybe_guard, true);
	if (vma_is_anonymous(vma) && uhmm__anon_vma_prepare(vma))
		return -ENOMEM;
	/* Pages are zapped and markers stay, until no fault was faster. */
	while ((ret = install_range(vma, start, end)) > 0) {
		uhmm__gather_init(&g, vma->mm);
		uhmm__zap_range(&g, vma, start, end);
		uhmm__gather_finish(&g);
	}
	return ret;
}

static void remove_ptes(ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start = uhmm__pte_offset_map_lock(pmdp, addr, &ptl), *ptep = start;

	if (!start)
		return;
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++) {
		if (leaf_is_marker(ptep_get(ptep), MARKER_GUARD))
			set_pte(ptep, pte_make(0));
	}
	uhmm__pte_unmap_unlock(start, ptl);
	uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
}

int uhmm__guard_remove(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	uhmm_vaddr_t addr, next;

	if (!valid_vma(vma, true))
		return -EINVAL;
	for (addr = start; addr < end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);

		next = level_addr_end(addr, end, level);
		if (pmdp)
			remove_ptes(pmdp, addr, next);
	}
	return 0;
}
