/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * write_word.h - a CPU's write of one aligned word where all it needs is at hand: the page, or what a fault
 * on anonymous memory takes to make it. All that most accesses of a program are, in one piece, with the
 * current task in a register and what it counts in one counter.
 *
 * Anything else is told to whoever goes on from there (uhmm__write_word_slow()). In the checked build
 * everything is: each step is by itself there.
 */
#ifndef UHMM_MM_WRITE_WORD_H
#define UHMM_MM_WRITE_WORD_H

#include "mm/fault_chain.h"

/* uhmm_cpu_write() of a word at a multiple of its size, or UHMM__WROTE_NEW_PAGE. */
int uhmm__cpu_write_word(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t word,
			 struct uhmm_access *acc);

/*
 * Such a write to its end. @pmdp: NULL, nothing was done but to look; else the access found no entry that
 * permits it by this PMD entry, which is counted, and a chain is open. @vma: NULL, or its VMA, locked.
 */
int uhmm__write_word_slow(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t word,
			  struct uhmm_access *acc, ptent_t *pmdp, struct uhmm_vma *vma);

uhmm_always_inline bool pte_permits_write(pte_t pte)
{
	return (pte.val & (PTE_PRESENT | PTE_RW)) == (PTE_PRESENT | PTE_RW);
}

/* By an entry that permitted it. False: it does not any more. */
uhmm_always_inline bool write_present_word(struct uhmm_machine *m, ptent_t *ptep, uhmm_vaddr_t addr,
					   uint64_t word)
{
	const uint64_t bits = PTE_ACCESSED | PTE_DIRTY;
	struct uhmm__spinlock *ptl = uhmm__ptlp(ptep);
	pte_t pte;

	uhmm__spin_lock(ptl);
	pte = pte_make(load_relaxed(ptep));
	if (unlikely(!pte_permits_write(pte))) {
		uhmm__spin_unlock(ptl);
		return false;
	}
	if (unlikely((pte.val & bits) != bits))
		store_relaxed(ptep, pte.val | bits);
	uhmm__write_frame(m, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, &word, sizeof(word));
	uhmm__spin_unlock(ptl);
	return true;
}

/*
 * A fault on an entry that was none, with its access: the page begins with what is written, as nobody can
 * see it before it is mapped. False: somebody was faster, or there is no frame at hand; nothing was done.
 * *@pmdp was @pmd before the VMA was locked. It is looked at again with the entry locked, as the entry is:
 * if both are the same then, so is the PMD table, which stays linked while the VMA is locked.
 */
uhmm_always_inline bool write_new_page(struct uhmm_machine *m, struct uhmm_vma *vma,
				       uhmm_vaddr_t addr, ptent_t *pmdp, pte_t pmd, ptent_t *ptep,
				       uint64_t word, const struct uhmm_task *t)
{
	struct uhmm__anon_vma *av = anon_vma_at_hand(m, vma);
	struct uhmm__spinlock *ptl = uhmm__ptlp(ptep);
	bool done = false;

	if (unlikely(!av || !m->tags || !(vma->flags & UHMM_VM_WRITE)))
		return false;
	if (unlikely(uhmm__spin_lock(ptl)))
		uhmm__count(UHMM_CNT_PTL_CONTENDED);
	if (likely(pte_same(pmd, ptep_get(pmdp)) && pte_none(ptep_get(ptep))))
		done = map_new_tag(m, vma, av, addr, ptep, PTE_RW | PTE_DIRTY, word, t->this_cpu);
	else
		uhmm__count(UHMM_CNT_PTL);
	uhmm__spin_unlock(ptl);
	return done;
}

/* What uhmm__write_word_slow() wants to have been counted. */
static uhmm_noinline int write_word_faults(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t word,
					   struct uhmm_access *acc, ptent_t *pmdp,
					   struct uhmm_vma *vma)
{
	count_walk_to_pmd(uhmm__current());
	if (vma)
		uhmm__count(UHMM_CNT_VMA_LOCK);
	return uhmm__write_word_slow(mm, addr, word, acc, pmdp, vma);
}

/* @tell: UHMM__WROTE_NEW_PAGE, instead of filling *@acc in. */
uhmm_always_inline int write_word(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t word,
				  struct uhmm_access *acc, bool tell)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm_vma *vma;
	ptent_t *ptep, *pmdp = NULL;
	pte_t pmd, pte;

	if (UHMM_CHECKED || unlikely(!t))
		return uhmm__write_word_slow(mm, addr, word, acc, NULL, NULL);
	uhmm__might_sleep();
	uhmm__rcu_chain_begin();
	ptep = likely(addr < UHMM_TASK_SIZE) ? walk_to_pte(&mm->pgt, addr, &pmdp, &pmd) : NULL;
	if (unlikely(!ptep)) {
		uhmm__rcu_chain_end();
		return uhmm__write_word_slow(mm, addr, word, acc, NULL, NULL);
	}
	pte = ptep_get(ptep);
	if (!pte_none(pte)) {
		if (unlikely(!pte_permits_write(pte) ||
			     !write_present_word(mm->machine, ptep, addr, word)))
			return write_word_faults(mm, addr, word, acc, pmdp, NULL);
		uhmm__rcu_chain_end();
		uhmm__task_count_course(t, UHMM__COURSE_ACCESS);
		if (acc)
			*acc = (struct uhmm_access){ .done = sizeof(word) };
		return 0;
	}
	vma = lock_vma_quick(mm, addr, t);
	if (unlikely(!vma))
		return write_word_faults(mm, addr, word, acc, pmdp, NULL);
	if (unlikely(!write_new_page(mm->machine, vma, addr, pmdp, pmd, ptep, word, t)))
		return write_word_faults(mm, addr, word, acc, pmdp, vma);
	vma_put_reader_as(vma, mm, t);
	uhmm__rcu_chain_end();
	uhmm__task_count_course(t, UHMM__COURSE_ANON_WRITE);
	if (tell)
		return UHMM__WROTE_NEW_PAGE;
	if (acc)
		*acc = (struct uhmm_access){ sizeof(word), 1, addr };
	return 0;
}

#endif /* UHMM_MM_WRITE_WORD_H */
