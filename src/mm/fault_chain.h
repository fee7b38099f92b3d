/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault_chain.h - a fault in a chain of RCU sections, as far as it does not have to sleep; inline in
 * whoever begins the chain. What may sleep ends it, and is in fault.c.
 */
#ifndef UHMM_MM_FAULT_CHAIN_H
#define UHMM_MM_FAULT_CHAIN_H

#include "mm/fault.h"
#include "mm/lru.h"
#include "mm/pcp.h"

/* What is left of a fault in registers. All end the chain but the last, which may: VM_FAULT_UNCHAINED. */
int uhmm__unchained_pte_missing(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				ptent_t *pmdp);
int uhmm__unchained_pte_table_missing(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				      ptent_t *pmdp, pte_t pmd);
/* Context: the entry is mapped by a link, with which the chain ends. */
int uhmm__unchained_pte_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			      ptent_t *pmdp, ptent_t *ptep, pte_t orig);
/* A write that is simple, see below, where contents are bytes. */
int uhmm__anon_write_bytes(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			   ptent_t *pmdp);

/*
 * A device's page: migrate_to_ram() needs mmap_lock. Asked as soon as the entry is read, for the first fault
 * on each of them comes here by the VMA's lock. Context: the entry mapped, by a link of a chain (@link) or
 * outside of one; it is not any more.
 */
uhmm_always_inline int do_device_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				       ptent_t *pmdp, ptent_t *ptep, pte_t entry, bool link)
{
	if (!(flags & FAULT_FLAG_VMA_LOCK))
		return uhmm__device_private_fault(vma, addr, flags, pmdp, ptep, entry) |
		       (link ? VM_FAULT_UNCHAINED : 0);
	if (link)
		uhmm__pte_unmap_link(ptep);
	else
		uhmm__pte_unmap(ptep);
	vma_end_read(vma);
	return VM_FAULT_RETRY;
}

/*
 * A write to anonymous memory that has all it needs at hand. In the checked build none is: each step is
 * by itself there, and the lock checker is told what may come.
 */
uhmm_always_inline bool anon_write_is_simple(struct uhmm_vma *vma, unsigned int flags)
{
	return !UHMM_CHECKED && flags & FAULT_FLAG_WRITE && !vma->file &&
	       !(vma->flags & (UHMM__VM_SPECIAL | UHMM_VM_UFFD_MISSING)) &&
	       load_acquire(&vma->anon_vma) && !load_relaxed(&vma->mm->machine->inject_armed);
}

/*
 * Lock an entry that is mapped by way of @pmd, which *@pmdp was. False: it is not none any more, or its
 * table is gone. Counted as vmf_relock(), which reads the PMD entry once more.
 */
uhmm_always_inline bool lock_none_entry(ptent_t *ptep, ptent_t *pmdp, pte_t pmd)
{
	struct uhmm__spinlock *ptl = uhmm__ptlp(ptep);

	uhmm__count(UHMM_CNT_READ_PMD);
	uhmm__ptl_lock(ptl);
	if (likely(pte_same(pmd, ptep_get(pmdp)) && pte_none(ptep_get(ptep))))
		return true;
	uhmm__pte_unmap_unlock_link(ptep, ptl);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
	return false;
}

/*
 * Such a write where they are tags. The frame is taken with the entry locked, so that it never has to be
 * given back, and gets into the LRU batch under the same hold of the CPU's lock: whoever drains that
 * finds it complete.
 * VM_FAULT_PTL: the entry stays locked. Context: the entry is mapped by a link of a chain.
 */
uhmm_always_inline int anon_write_tags(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				       ptent_t *pmdp, pte_t pmd, ptent_t *ptep)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct uhmm__pcp *pcp = cpu->frames;
	struct uhmm__frame *f;
	uint32_t pfn;

	if (unlikely(!lock_none_entry(ptep, pmdp, pmd)))
		return 0;
	uhmm__spin_lock(&cpu->local);
	if (unlikely(!pcp->nr)) {
		uhmm__spin_unlock(&cpu->local);
		uhmm__pte_unmap_unlock_link(ptep, uhmm__ptlp(ptep));
		/* The entry will be locked again: counts must not tell where a list ran out. */
		uhmm__count_n(UHMM_CNT_READ_PMD, -1UL);
		uhmm__count_n(UHMM_CNT_PTL, -1UL);
		return uhmm__unchained_pte_missing(vma, addr, flags, pmdp);
	}
	pfn = pcp->pfn[--pcp->nr];
	f = uhmm__new_frame(m, pfn);
	uhmm__clear_ram_tag(m, pfn);
	folio_set_new_anon_rmap(f, vma, addr, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
	store_release(&f->refcount, 2);
	lru_batch_add_locked(m, cpu, pfn, false, false);
	set_pte(ptep, anon_entry(vma, pfn));
	uhmm__count(UHMM_CNT_FAULT_ANON_WRITE);
	return VM_FAULT_PTL;
}

/*
 * What a fault begins with: the PMD entry, its tables made if need be. NULL: no memory.
 * @pmdp: where a walk of the same chain found it before, or NULL. If that points to a table it still is the
 * one: the VMA is locked, so its PMD tables stay linked, and one that was unlinked before has no entries,
 * for none moves elsewhere with them. The PTE table may go at any time: who locks the entry looks again.
 * Counted as a walk all the same. @pmd: (out) what it is if it points to a table, or 0, not read.
 */
uhmm_always_inline ptent_t *pmd_link(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr, ptent_t *pmdp,
				     pte_t *pmd)
{
	*pmd = !UHMM_CHECKED && pmdp ? ptep_get(pmdp) : pte_make(0);
	if (unlikely(!entry_is_table(*pmd))) {
		*pmd = pte_make(0);
		return uhmm__pmd_alloc(pgt, addr);
	}
	count_walk_to_pmd(uhmm__current());
	return pmdp;
}

/*
 * The rest of a fault. VM_FAULT_PTL: *@entryp is the entry, mapped and locked. @pmdp, @pmd: as pmd_link() left
 * them. Models: handle_pte_fault().
 */
uhmm_always_inline int handle_pte_fault(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
					ptent_t *pmdp, pte_t pmd, ptent_t **entryp)
{
	ptent_t *ptep;
	pte_t entry;
	bool simple;

	if (likely(entry_is_table(pmd)))
		ptep = table_entry(entry_table(pmd), addr, 1);
	else
		ptep = uhmm__pte_offset_map_link(pmdp, addr, &pmd);
	if (unlikely(!ptep))
		return uhmm__unchained_pte_table_missing(vma, addr, flags, pmdp, pmd);
	uhmm__count(UHMM_CNT_READ_PTE);
	entry = ptep_get(ptep);
	if (unlikely(!pte_none(entry))) {
		if (leaf_is_device_private(entry))
			return do_device_entry(vma, addr, flags, pmdp, ptep, entry, true);
		return uhmm__unchained_pte_entry(vma, addr, flags, pmdp, ptep, entry);
	}
	simple = anon_write_is_simple(vma, flags);
	*entryp = ptep;
	if (likely(simple && vma->mm->machine->tags))
		return anon_write_tags(vma, addr, flags, pmdp, pmd, ptep);
	uhmm__pte_unmap_link(ptep);
	if (simple)
		return uhmm__anon_write_bytes(vma, addr, flags, pmdp);
	return uhmm__unchained_pte_missing(vma, addr, flags, pmdp);
}

/*
 * Models: __handle_mm_fault(). VM_FAULT_UNCHAINED: the chain has ended. VM_FAULT_PTL: *@ptep is the
 * entry, still mapped and locked. @pmdp: as in pmd_link().
 */
uhmm_always_inline int handle_mm_fault_link(struct uhmm_vma *vma, uhmm_vaddr_t addr,
					    unsigned int flags, ptent_t *pmdp, ptent_t **ptep)
{
	pte_t pmd;
	int ret = VM_FAULT_OOM;

	addr &= UHMM_PAGE_MASK;
	pmdp = pmd_link(&vma->mm->pgt, addr, pmdp, &pmd);
	if (likely(pmdp))
		ret = handle_pte_fault(vma, addr, flags, pmdp, pmd, ptep);
	if (unlikely(ret & VM_FAULT_OOM))
		uhmm__count(UHMM_CNT_FAULT_OOM);
	return ret;
}

/*
 * The first part of user_fault(), by the VMA's lock. UHMM__FAULT_SLOW: the rest is uhmm__user_fault_slow(), of
 * *@fault.
 */
uhmm_always_inline int user_fault_begin(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
					ptent_t *pmdp, ptent_t **ptep, int *fault)
{
	struct uhmm_vma *vma;

	if (unlikely(addr >= UHMM_TASK_SIZE))
		return uhmm__user_fault_slow(mm, addr, flags, VM_FAULT_SIGSEGV, NULL);
	vma = lock_vma_link(mm, addr);
	if (unlikely(!vma))
		return uhmm__user_fault_slow(mm, addr, flags, VM_FAULT_RETRY, pmdp);
	if (unlikely(access_error(vma, flags))) {
		vma_end_read(vma);
		return uhmm__user_fault_slow(mm, addr, flags, VM_FAULT_SIGSEGV, NULL);
	}
	/* In the plain build a chain is open, and what does sleep looks for itself. */
	if (UHMM_CHECKED)
		uhmm__might_sleep();
	*fault = handle_mm_fault_link(vma, addr, flags | FAULT_FLAG_VMA_LOCK, pmdp, ptep);
	if (likely(*fault == VM_FAULT_PTL)) {
		vma_end_read(vma);
		return UHMM__FAULT_LOCKED;
	}
	if (unlikely(*fault & VM_FAULT_RETRY))
		uhmm__count(UHMM_CNT_FAULT_RETRY);
	else if (likely(!(*fault & VM_FAULT_COMPLETED)))
		vma_end_read(vma);
	return likely(!*fault) ? 0 : UHMM__FAULT_SLOW;
}

/*
 * A fault by a running process. Returns: 0 or UHMM__FAULT_LOCKED; else a signal, -ENOMEM, or another
 * UHMM__FAULT_*, and the chain has ended. @pmdp: as try_access() left it. @ptep: (out) the entry that is
 * locked. Context: in a chain. Models: do_user_addr_fault().
 */
uhmm_always_inline int user_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
				  ptent_t *pmdp, ptent_t **ptep)
{
	int fault = 0, ret = user_fault_begin(mm, addr, flags, pmdp, ptep, &fault);

	return likely(ret != UHMM__FAULT_SLOW)
		       ? ret
		       : uhmm__user_fault_slow(mm, addr, flags, fault, pmdp);
}

/* The same out of line: for accesses that have no short way, so that there is little code of it. */
int uhmm__user_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags, ptent_t *pmdp,
		     ptent_t **ptep);

#endif /* UHMM_MM_FAULT_CHAIN_H */
