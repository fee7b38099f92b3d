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
 * The VMA of an address, locked; NULL: not at once. What it counts is left to the caller. @t: the current
 * task. Context: as lock_vma_under_rcu(), in a chain.
 */
uhmm_always_inline struct uhmm_vma *lock_vma_quick(struct uhmm_mm *mm, uhmm_vaddr_t addr,
						   const struct uhmm_task *t)
{
	struct uhmm_vma *vma = vma_cached_as(mm, addr, t);

	if (unlikely(!vma))
		vma = uhmm__vma_lookup_slow(mm, addr);
	if (unlikely(!vma || !vma_start_read_as(vma, mm, t)))
		return NULL;
	if (likely(addr >= vma->start && addr < vma->end))
		return vma;
	vma_put_reader_as(vma, mm, t);
	return NULL;
}

/*
 * The anon_vma of one that has all that a write to a new page needs at hand; else NULL. In the checked
 * build none has: each step is by itself there, and the lock checker is told what may come.
 */
uhmm_always_inline struct uhmm__anon_vma *anon_vma_at_hand(struct uhmm_machine *m,
							   struct uhmm_vma *vma)
{
	if (UHMM_CHECKED || unlikely(vma->file) ||
	    unlikely(vma->flags & (UHMM__VM_SPECIAL | UHMM_VM_UFFD_MISSING)) ||
	    unlikely(load_relaxed(&m->inject_armed)))
		return NULL;
	return load_acquire(&vma->anon_vma);
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
 * Such a write where contents are tags: a page with this one, mapped by an entry with @bits. The frame is
 * taken with the entry locked, so that it never has to be given back, and gets into the LRU batch under the
 * same hold of the CPU's lock: whoever drains that finds it complete. False: there is none at hand.
 * @cpu: the current one. Context: the entry's lock, and the entry is none.
 */
uhmm_always_inline bool map_new_tag(struct uhmm_machine *m, struct uhmm_vma *vma,
				    const struct uhmm__anon_vma *av, uhmm_vaddr_t addr,
				    ptent_t *ptep, uint64_t bits, uint64_t tag,
				    struct uhmm__cpu *cpu)
{
	struct uhmm__pcp *pcp = cpu->frames;
	struct uhmm__frame *f;
	uint32_t pfn;

	uhmm__spin_lock(&cpu->local);
	if (unlikely(!pcp->nr)) {
		uhmm__spin_unlock(&cpu->local);
		return false;
	}
	pfn = pcp->pfn[--pcp->nr];
	f = uhmm__new_frame(m, pfn);
	store_relaxed(&m->tags[pfn], tag);
	folio_set_new_anon_rmap(f, vma, av, addr,
				(uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
	store_release(&f->refcount, 2);
	lru_batch_add_locked(m, cpu, pfn, false, false);
	set_pte(ptep, pte_set(pte_mk(pfn, vma->page_prot), bits));
	return true;
}

/* The same for any access. VM_FAULT_PTL: the entry stays locked. Context: mapped by a link of a chain. */
uhmm_always_inline int anon_write_tags(struct uhmm_vma *vma, const struct uhmm__anon_vma *av,
				       uhmm_vaddr_t addr, unsigned int flags, ptent_t *pmdp,
				       pte_t pmd, ptent_t *ptep)
{
	uint64_t bits = PTE_DIRTY | (likely(vma->flags & UHMM_VM_WRITE) ? PTE_RW : 0);

	if (unlikely(!lock_none_entry(ptep, pmdp, pmd)))
		return 0;
	if (unlikely(!map_new_tag(vma->mm->machine, vma, av, addr, ptep, bits, 0,
				  uhmm__this_cpu()))) {
		uhmm__pte_unmap_unlock_link(ptep, uhmm__ptlp(ptep));
		/* The entry will be locked again: counts must not tell where a list ran out. */
		uhmm__count_n(UHMM_CNT_READ_PMD, -1UL);
		uhmm__count_n(UHMM_CNT_PTL, -1UL);
		return uhmm__unchained_pte_missing(vma, addr, flags, pmdp);
	}
	uhmm__count(UHMM_CNT_CLEAR_RAM);
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
	struct uhmm__anon_vma *av;
	pte_t entry;

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
	av = flags & FAULT_FLAG_WRITE ? anon_vma_at_hand(vma->mm->machine, vma) : NULL;
	*entryp = ptep;
	if (likely(av && vma->mm->machine->tags))
		return anon_write_tags(vma, av, addr, flags, pmdp, pmd, ptep);
	uhmm__pte_unmap_link(ptep);
	if (av)
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

#endif /* UHMM_MM_FAULT_CHAIN_H */
