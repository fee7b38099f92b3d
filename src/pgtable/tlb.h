/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tlb.h - what simulated CPUs may still believe after an entry changed.
 *
 * The plain build counts flushes. The checked build also keeps a small TLB for each CPU: an access
 * uses a cached translation until it is flushed, and a frame that is freed while a CPU could still
 * reach it is reported.
 */
#ifndef UHMM_PGTABLE_TLB_H
#define UHMM_PGTABLE_TLB_H

#include "pgtable/table.h"

int uhmm__tlb_init(struct uhmm_machine *m);
void uhmm__tlb_exit(struct uhmm_machine *m);

/* The task's CPU starts to run in these page tables. */
static inline void uhmm__tlb_switch_mm(struct uhmm__pgtable *pgt, unsigned int cpu)
{
	if (!(load_relaxed(&pgt->cpumask) & BIT(cpu)))
		atomic_fetch_or_explicit(&pgt->cpumask, BIT(cpu), memory_order_relaxed);
}

/* Models: flush_tlb_range(), flush_tlb_mm_range(). Context: may be called under the PTL. */
void uhmm__flush_tlb_range(struct uhmm__pgtable *pgt, uhmm_vaddr_t start, uhmm_vaddr_t end);
/* Models: flush_tlb_page(). */
void uhmm__flush_tlb_page(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr);

/* Clear an entry that was present and flush it at once. Context: the PTL. */
static inline pte_t uhmm__ptep_clear_flush(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr,
					   ptent_t *ptep)
{
	pte_t old = ptep_get_and_clear(ptep);

	if (old.val & PTE_PRESENT)
		uhmm__flush_tlb_page(pgt, addr);
	return old;
}

#if UHMM_CHECKED
/*
 * A translation cached by the current CPU, none if there is none. Flushes wait until
 * uhmm__tlb_done(), as on hardware, where the interrupt comes after the access.
 */
pte_t uhmm__tlb_lookup(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr);
void uhmm__tlb_done(struct uhmm__pgtable *pgt);
void uhmm__tlb_insert(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr, pte_t pte);
/* Reports if any CPU can still reach one of @n frames from @pfn on. */
void uhmm__tlb_frames_freed(struct uhmm_machine *m, uhmm_pfn_t pfn, uint64_t n);
/* The page tables go away. */
void uhmm__tlb_forget(struct uhmm__pgtable *pgt);
#else
static inline pte_t uhmm__tlb_lookup(struct uhmm__pgtable *pgt uhmm_unused,
				     uhmm_vaddr_t addr uhmm_unused)
{
	return pte_make(0);
}

static inline void uhmm__tlb_done(struct uhmm__pgtable *pgt uhmm_unused)
{
}

static inline void uhmm__tlb_insert(struct uhmm__pgtable *pgt uhmm_unused,
				    uhmm_vaddr_t addr uhmm_unused, pte_t pte uhmm_unused)
{
}

static inline void uhmm__tlb_frames_freed(struct uhmm_machine *m uhmm_unused,
					  uhmm_pfn_t pfn uhmm_unused, uint64_t n uhmm_unused)
{
}

static inline void uhmm__tlb_forget(struct uhmm__pgtable *pgt uhmm_unused)
{
}
#endif

#endif /* UHMM_PGTABLE_TLB_H */
