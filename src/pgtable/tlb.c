// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pgtable/tlb.h"

#include "core/alloc.h"

#if UHMM_CHECKED
enum { TLB_ENTRIES = 64 };

struct tlb_entry {
	struct uhmm__pgtable *pgt; /* NULL = empty */
	uhmm_vaddr_t addr;
	pte_t pte;
};

struct uhmm__tlbs {
	struct uhmm__spinlock lock;
	unsigned int nr_cpus;
	struct tlb_entry e[][TLB_ENTRIES];
};

static size_t tlbs_size(unsigned int nr_cpus)
{
	return sizeof(struct uhmm__tlbs) + nr_cpus * TLB_ENTRIES * sizeof(struct tlb_entry);
}

int uhmm__tlb_init(struct uhmm_machine *m)
{
	struct uhmm__tlbs *t = uhmm__alloc(m, tlbs_size(m->config.nr_cpus));

	if (!t)
		return -ENOMEM;
	uhmm__spin_init(&t->lock, UHMM__LC_TLB);
	t->nr_cpus = m->config.nr_cpus;
	m->tlbs = t;
	return 0;
}

void uhmm__tlb_exit(struct uhmm_machine *m)
{
	if (m->tlbs)
		uhmm__free(m, m->tlbs, tlbs_size(m->tlbs->nr_cpus));
	m->tlbs = NULL;
}

static struct tlb_entry *slot(struct uhmm__tlbs *t, unsigned int cpu, uhmm_vaddr_t addr)
{
	return &t->e[cpu][(addr >> UHMM_PAGE_SHIFT) % TLB_ENTRIES];
}

pte_t uhmm__tlb_lookup(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr)
{
	struct uhmm__tlbs *t = pgt->machine->tlbs;
	struct tlb_entry *e = slot(t, uhmm__current()->cpu, addr);
	pte_t pte = pte_make(0);

	uhmm__spin_lock(&t->lock);
	if (e->pgt == pgt && e->addr == (addr & UHMM_PAGE_MASK))
		pte = e->pte;
	return pte;
}

void uhmm__tlb_done(struct uhmm__pgtable *pgt)
{
	uhmm__spin_unlock(&pgt->machine->tlbs->lock);
}

void uhmm__tlb_insert(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr, pte_t pte)
{
	struct uhmm__tlbs *t = pgt->machine->tlbs;
	struct tlb_entry *e = slot(t, uhmm__current()->cpu, addr);

	uhmm__spin_lock(&t->lock);
	*e = (struct tlb_entry){ pgt, addr & UHMM_PAGE_MASK, pte };
	uhmm__spin_unlock(&t->lock);
}

static void tlb_drop(struct uhmm__pgtable *pgt, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm__tlbs *t = pgt->machine->tlbs;

	uhmm__spin_lock(&t->lock);
	for (unsigned int cpu = 0; cpu < t->nr_cpus; cpu++) {
		for (int i = 0; i < TLB_ENTRIES; i++) {
			struct tlb_entry *e = &t->e[cpu][i];

			if (e->pgt == pgt && e->addr >= start && e->addr < end)
				e->pgt = NULL;
		}
	}
	uhmm__spin_unlock(&t->lock);
}

void uhmm__tlb_forget(struct uhmm__pgtable *pgt)
{
	tlb_drop(pgt, 0, UINT64_MAX);
}

void uhmm__tlb_frames_freed(struct uhmm_machine *m, uhmm_pfn_t pfn, uint64_t n)
{
	struct uhmm__tlbs *t = m->tlbs;

	uhmm__spin_lock(&t->lock);
	for (unsigned int cpu = 0; cpu < t->nr_cpus; cpu++) {
		for (int i = 0; i < TLB_ENTRIES; i++) {
			struct tlb_entry *e = &t->e[cpu][i];

			if (e->pgt && pte_pfn(e->pte) - pfn < n) {
				uhmm__report(m, UHMM_REPORT_TLB,
					     "frame %#lx freed while CPU %u can still reach it at "
					     "%#lx",
					     (unsigned long)pte_pfn(e->pte), cpu,
					     (unsigned long)e->addr);
				e->pgt = NULL;
			}
		}
	}
	uhmm__spin_unlock(&t->lock);
}
#else
int uhmm__tlb_init(struct uhmm_machine *m uhmm_unused)
{
	return 0;
}

void uhmm__tlb_exit(struct uhmm_machine *m uhmm_unused)
{
}

static void tlb_drop(struct uhmm__pgtable *pgt uhmm_unused, uhmm_vaddr_t start uhmm_unused,
		     uhmm_vaddr_t end uhmm_unused)
{
}
#endif

static void count_flush(struct uhmm__pgtable *pgt, enum uhmm_counter kind, uint64_t npages)
{
	uint64_t others = load_relaxed(&pgt->cpumask) & ~BIT(uhmm__current()->cpu);

	uhmm__count(kind);
	uhmm__count_n(UHMM_CNT_TLB_FLUSH_PAGES, npages);
	if (unlikely(others))
		uhmm__count_n(UHMM_CNT_TLB_FLUSH_IPI, __builtin_popcountl(others));
}

void uhmm__flush_tlb_range(struct uhmm__pgtable *pgt, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	uhmm__sched_point(UHMM__PT_WRITE, pgt);
	count_flush(pgt, UHMM_CNT_TLB_FLUSH_RANGE, (end - start) >> UHMM_PAGE_SHIFT);
	tlb_drop(pgt, start, end);
}

void uhmm__flush_tlb_page(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr)
{
	addr &= UHMM_PAGE_MASK;
	uhmm__sched_point(UHMM__PT_WRITE, pgt);
	count_flush(pgt, UHMM_CNT_TLB_FLUSH_PAGE, 1);
	tlb_drop(pgt, addr, addr + UHMM_PAGE_SIZE);
}
