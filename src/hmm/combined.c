// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The combined walker: fault and collect for migration in one pass, as the posted series "Migrate on
 * fault for device pages" does in hmm_range_fault().
 *
 * An entry is judged and replaced under one hold of its PTL. Folios that were collected stay locked
 * while the walk faults elsewhere, so while it holds any the walk must not sleep on somebody else's
 * folio lock, migration entry or migrate_to_ram(): two walks over the same folios in opposite order
 * would wait for each other. It puts back what it replaced, waits with mmap_lock only, and starts
 * again (combined-wait = back-off). Faults on fresh and on write-protected pages take no folio lock
 * but by trylock, and are taken in place.
 */
#include <string.h>

#include "hmm/combined.h"
#include "mm/huge.h"
#include "mm/migration_entry.h"

static enum uhmm__walk_result fault(struct uhmm__combined *c, uhmm_vaddr_t addr, unsigned int need)
{
	c->w.need = need;
	if (need & HMM_NEED_WRITE_FAULT && !(c->vma->flags & UHMM_VM_WRITE))
		return fail(c, addr, -EPERM);
	return stop(c, addr, WALK_FAULT);
}

/*
 * Nothing there, or the zero page: a destination may be put there without a fault. Still a write to
 * a VMA that forbids it is refused, as the fault would be.
 */
static enum uhmm__walk_result collect_empty(struct uhmm__combined *c, uhmm_vaddr_t addr,
					    uint64_t *hmm_pfn)
{
	unsigned int need = hmm_need_fault(c->w.range, *hmm_pfn, 0);

	if (need & HMM_NEED_WRITE_FAULT && !(c->vma->flags & UHMM_VM_WRITE))
		return fail(c, addr, -EPERM);
	put_out(hmm_pfn, UHMM_HMM_PFN_MIGRATE);
	return WALK_OK;
}

/*
 * Nothing there, in a mapping of a file: no destination may be put there, so all that it can be is
 * faulted in.
 */
static enum uhmm__walk_result walk_empty_file(struct uhmm__combined *c, uhmm_vaddr_t addr,
					      uint64_t *hmm_pfn)
{
	unsigned int need = hmm_need_fault(c->w.range, *hmm_pfn, 0);

	if (need)
		return fault(c, addr, need);
	c->incomplete = true;
	put_out(hmm_pfn, 0);
	return WALK_OK;
}

/* Whether migrate->flags select the page of an entry, which belongs to @f, with these flags. */
uhmm_always_inline bool selected(struct uhmm__combined *c, pte_t pte, struct uhmm__frame *page,
				 struct uhmm__frame *f, uint32_t flags)
{
	const struct uhmm_migrate_vma *mig = c->migrate;

	if (pte_present(pte))
		return uhmm__select_present(mig, page, flags) && load_relaxed(&f->mapping);
	return mig->flags & UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE &&
	       page_pgmap(c->w.mm->machine, leaf_pfn(pte))->owner == mig->pgmap_owner;
}

/* The folio, which has these flags, is large and should become pages first. Context: PTL. */
uhmm_always_inline bool must_split(struct uhmm__combined *c, uhmm_vaddr_t addr,
				   struct uhmm__frame *f, uint32_t flags)
{
	if (likely(!(flags & FOLIO_ORDER_MASK)) || addr < c->whole_until)
		return false;
	folio_get(f);
	c->split = f;
	return true;
}

/* Lock the page and replace its entry. False: it stays where it is. Context: PTL. */
uhmm_always_inline bool collect(struct uhmm__combined *c, uhmm_vaddr_t addr, ptent_t *ptep,
				pte_t pte, struct uhmm__frame *f, uint32_t flags, bool *flush)
{
	/* Only whole, or not at all. */
	if (unlikely(flags & FOLIO_ORDER_MASK))
		return false;
	if (f != c->fault_folio && unlikely(!folio_trylock(f))) {
		uhmm__count(UHMM_CNT_FAIL_LOCKED);
		return false;
	}
	if (unlikely(!install_migration_entry(c->vma, addr, ptep, pte, f, f, flush))) {
		uhmm__count(UHMM_CNT_FAIL_PINNED);
		if (f != c->fault_folio)
			folio_unlock(c->w.mm->machine, f);
		return false;
	}
	folio_remove_rmap_locked(f);
	uhmm__count(UHMM_CNT_COLLECTED);
	return true;
}

/* An entry that is neither none nor present. */
static uhmm_noinline enum uhmm__walk_result walk_leaf(struct uhmm__combined *c, uhmm_vaddr_t addr,
						      ptent_t *ptep, pte_t pte, uint64_t *hmm_pfn,
						      bool *flush)
{
	struct uhmm_hmm_range *range = c->w.range;
	struct uhmm_machine *m = c->w.mm->machine;
	unsigned int need;

	if (leaf_is_device_private(pte)) {
		struct uhmm__frame *page = pfn_to_frame(m, leaf_pfn(pte)), *f;
		uint32_t flags;
		bool own = page_pgmap(m, leaf_pfn(pte))->owner == range->dev_private_owner;
		uint64_t out = own ? leaf_pfn(pte) | UHMM_HMM_PFN_VALID : 0;

		f = page_folio_flags(page, &flags);
		if (own && leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE) {
			out |= UHMM_HMM_PFN_WRITE;
		} else if (own) {
			need = hmm_need_own_readonly(m, range, *hmm_pfn);
			if (need)
				return fault(c, addr, need);
		}
		if (own || !hmm_need_fault(range, *hmm_pfn, 0)) {
			bool wanted = selected(c, pte, page, f, flags);

			if (wanted && must_split(c, addr, f, flags))
				return stop(c, addr, WALK_SPLIT);
			if (wanted && collect(c, addr, ptep, pte, f, flags, flush))
				out = leaf_pfn(pte) | UHMM_HMM_PFN_VALID | UHMM_HMM_PFN_MIGRATE |
				      (leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE
					       ? UHMM_HMM_PFN_WRITE
					       : 0);
			else
				c->incomplete = true;
			put_out(hmm_pfn, out);
			return WALK_OK;
		}
	}
	need = hmm_need_fault(range, *hmm_pfn, 0);
	if (!need) {
		c->incomplete = true;
		put_out(hmm_pfn, 0);
		return WALK_OK;
	}
	if (leaf_is_migration(pte)) {
		/* What the page needs shows when it is back. */
		c->w.need = HMM_NEED_FAULT;
		return stop(c, addr, WALK_WOULD_WAIT);
	}
	if (leaf_is_device_private(pte) || leaf_type(pte) == LEAF_SWAP ||
	    leaf_type(pte) == LEAF_DEVICE_EXCLUSIVE || leaf_is_marker(pte, MARKER_UFFD_WP))
		return fault(c, addr, need);
	return fail(c, addr, -EFAULT);
}

uhmm_always_inline enum uhmm__walk_result walk_present(struct uhmm__combined *c, uhmm_vaddr_t addr,
						       ptent_t *ptep, pte_t pte, uint64_t *hmm_pfn,
						       bool *flush)
{
	struct uhmm_machine *m = c->w.mm->machine;
	struct uhmm__frame *page = vm_normal_page(m, pte), *f = NULL;
	uint64_t out = hmm_pte_flags(pte);
	uint32_t flags = 0;
	unsigned int need;
	bool wanted;

	if (!page && pte_pfn(pte) == m->zero_pfn && vma_is_anonymous(c->vma) &&
	    c->migrate->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM)
		return collect_empty(c, addr, hmm_pfn);
	need = hmm_need_fault(c->w.range, *hmm_pfn, out);
	if (need)
		return fault(c, addr, need);
	if (likely(page))
		f = page_folio_flags(page, &flags);
	wanted = page && selected(c, pte, page, f, flags);
	if (wanted && must_split(c, addr, f, flags))
		return stop(c, addr, WALK_SPLIT);
	if (likely(wanted && collect(c, addr, ptep, pte, f, flags, flush)))
		out |= UHMM_HMM_PFN_MIGRATE | UHMM_HMM_PFN_VALID;
	else
		c->incomplete = true;
	put_out(hmm_pfn, pte_pfn(pte) | out);
	return WALK_OK;
}

/*
 * What entries have in common that are to be collected and need no fault, whichever page of RAM it is; with
 * no bits, none are: the pages do not all ask for the same, or the caller wants no RAM.
 */
static void set_run(struct uhmm__combined *c)
{
	const struct uhmm_hmm_range *range = c->w.range;
	uint64_t write = carry_bit(range->default_flags, UHMM_HMM_PFN_REQ_WRITE, PTE_RW);

	c->run_bits = PTE_PRESENT | write;
	c->run_mask = PTE_PRESENT | PTE_SPECIAL | PTE_UFFD_WP | write;
	if (unlikely(range->pfn_flags_mask || c->fault_folio ||
		     !(c->migrate->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM)))
		c->run_mask = 0;
}

/* What collect_exclusive() needs of the walk, in registers: what it stores to might change anything. */
struct run {
	struct uhmm_machine *machine;
	struct uhmm__frame *vmemmap;
	uint64_t bits, mask;
};

uhmm_always_inline struct run run_of(const struct uhmm__combined *c)
{
	struct uhmm_machine *m = c->w.mm->machine;

	return (struct run){ m, m->vmemmap, c->run_bits, c->run_mask };
}

/*
 * An entry as most are: its page is its alone. Takes it as walk_present() would; false: that is to look at
 * it. Not counted. Context: PTL.
 */
uhmm_always_inline bool collect_exclusive(struct run run, ptent_t *ptep, uint64_t *hmm_pfn,
					  bool blank)
{
	/* An exclusive page is anonymous. */
	const uint64_t look_at = FOLIO_FLAGS_REFS(FOLIO_ORDER_MASK | FOLIO_ZONE_DEVICE |
							  (uint32_t)(BIT(PG_TAIL) | BIT(PG_LOCKED) |
								     BIT(PG_ANON_EXCLUSIVE)),
						  -UHMM_PIN_BIAS);
	pte_t pte = ptep_get(ptep);
	uhmm_pfn_t pfn = pte_pfn(pte);
	struct uhmm__frame *f = &run.vmemmap[pfn];
	uint64_t old;

	if ((pte.val & run.mask) != run.bits)
		return false;
	old = load_relaxed(&f->flags_refs);
	if ((old & look_at) != FOLIO_FLAGS_REFS(BIT(PG_ANON_EXCLUSIVE), 0) ||
	    unlikely(!freeze_exclusive(run.machine, ptep, pte, f, old)))
		return false;
	if (blank)
		*hmm_pfn = 0;
	put_out(hmm_pfn, pfn | UHMM_HMM_PFN_VALID | UHMM_HMM_PFN_MIGRATE |
				 carry_bit(pte.val, PTE_RW, UHMM_HMM_PFN_WRITE));
	return true;
}

/* One by itself, which may be the whole window. Returns: 1, or 0. Context: PTL. */
static uhmm_noinline uint64_t collect_one(const struct uhmm__combined *c, ptent_t *ptep,
					  uint64_t *hmm_pfn)
{
	return collect_exclusive(run_of(c), ptep, hmm_pfn, c->blank);
}

/* Several such one after the other: most of a window. Returns: how many. Context: PTL. */
static uhmm_noinline uint64_t collect_run(const struct uhmm__combined *c, ptent_t *ptep,
					  uint64_t *hmm_pfn, uint64_t n)
{
	struct run run = run_of(c);
	uint64_t i = 0;

	if (c->blank)
		while (i < n && collect_exclusive(run, &ptep[i], &hmm_pfn[i], true))
			i++;
	else
		while (i < n && collect_exclusive(run, &ptep[i], &hmm_pfn[i], false))
			i++;
	return i;
}

/*
 * A split of the folio maps its device-exclusive pages again, but only to read, as it does not ask
 * what the process may do; a fault does. So those that are to be faulted come first.
 * Context: PTL, @ptep at @addr, where the walk stopped for the split.
 */
static uhmm_noinline enum uhmm__walk_result
exclusive_before_split(struct uhmm__combined *c, uhmm_vaddr_t addr, uhmm_vaddr_t end, ptent_t *ptep)
{
	struct uhmm_machine *m = c->w.mm->machine;

	for (uhmm_vaddr_t at = addr; at < end; at += UHMM_PAGE_SIZE, ptep++) {
		pte_t pte = ptep_get(ptep);
		enum uhmm__walk_result ret;
		unsigned int need;

		if (!leaf_is_device_exclusive(pte) ||
		    page_folio(pfn_to_frame(m, leaf_pfn(pte))) != c->split)
			continue;
		need = hmm_need_fault(c->w.range, *slot(c, at), 0);
		if (!need)
			continue;
		folio_put(m, c->split);
		c->split = NULL;
		ret = fault(c, at, need);
		c->w.last = addr;
		return ret;
	}
	return WALK_SPLIT;
}

/* From here on somebody looks at what the pages ask for: from @addr on it is nothing. */
static inline void need_requests(struct uhmm__combined *c, uhmm_vaddr_t addr)
{
	if (!c->blank)
		return;
	c->blank = false;
	memset(slot(c, addr), 0, (c->w.range->end - addr) >> UHMM_PAGE_SHIFT << 3);
}

/* One entry. Context: PTL. */
static enum uhmm__walk_result walk_entry(struct uhmm__combined *c, uhmm_vaddr_t addr, ptent_t *ptep,
					 uint64_t *hmm_pfn, bool *flush)
{
	pte_t pte = ptep_get(ptep);

	if (pte_present(pte))
		return walk_present(c, addr, ptep, pte, hmm_pfn, flush);
	if (!pte_none(pte))
		return walk_leaf(c, addr, ptep, pte, hmm_pfn, flush);
	if (vma_is_anonymous(c->vma))
		return collect_empty(c, addr, hmm_pfn);
	return walk_empty_file(c, addr, hmm_pfn);
}

/*
 * Entries of any kind, the first of which collect_exclusive() left. @flush: (in/out). If it ends early, that is
 * at w.last. Context: PTL.
 */
static uhmm_noinline enum uhmm__walk_result walk_entries(struct uhmm__combined *c, ptent_t *ptep,
							 uhmm_vaddr_t addr, uhmm_vaddr_t end,
							 bool *flush)
{
	uint64_t *hmm_pfn = slot(c, addr), *last = slot(c, end), n;
	enum uhmm__walk_result ret;

	need_requests(c, addr);
	for (; hmm_pfn < last; addr += n << UHMM_PAGE_SHIFT, ptep += n, hmm_pfn += n) {
		n = 1;
		/* From the walk before: ours, locked. */
		if (unlikely(c->again) && is_collected(*hmm_pfn)) {
			if (*hmm_pfn & UHMM_HMM_PFN_ORDER_MASK)
				return fail(c, addr, -EBUSY);
			continue;
		}
		ret = walk_entry(c, addr, ptep, hmm_pfn, flush);
		if (unlikely(ret == WALK_SPLIT))
			return exclusive_before_split(c, addr, end, ptep);
		if (unlikely(ret != WALK_OK))
			return ret;
		if (hmm_pfn + 1 < last && pte_present(ptep_get(ptep + 1))) {
			n += collect_run(c, ptep + 1, hmm_pfn + 1, (uint64_t)(last - hmm_pfn - 1));
			*flush |= n > 1;
			uhmm__count_n(UHMM_CNT_COLLECTED, n - 1);
		}
	}
	return WALK_OK;
}

/* The part under one PTE table, under its lock. */
uhmm_always_inline enum uhmm__walk_result walk_ptes(struct uhmm__combined *c, ptent_t *ptep,
						    struct uhmm__spinlock *ptl, uhmm_vaddr_t addr,
						    uhmm_vaddr_t end)
{
	uint64_t n = (end - addr) >> UHMM_PAGE_SHIFT, *hmm_pfn = slot(c, addr);
	uint64_t nr = collect_one(c, ptep, hmm_pfn);
	enum uhmm__walk_result ret = WALK_OK;
	bool flush = nr;

	/* A window of one page needs no loop. */
	if (nr && n > 1)
		nr += collect_run(c, ptep + 1, hmm_pfn + 1, n - 1);
	uhmm__count_n(UHMM_CNT_COLLECTED, nr);
	if (nr < n) {
		bool more = false;

		ret = walk_entries(c, ptep + nr, addr + (nr << UHMM_PAGE_SHIFT), end, &more);
		flush |= more;
		if (unlikely(ret != WALK_OK)) {
			n = ((c->w.last - addr) >> UHMM_PAGE_SHIFT) + 1;
			end = c->w.last;
		}
	}
	uhmm__count_n(UHMM_CNT_READ_PTE, n);
	/* Before the lock goes: whoever finds the entry gone relies on that it is flushed. */
	if (flush)
		uhmm__flush_tlb_range(&c->w.mm->pgt, addr, end);
	uhmm__pte_unmap_unlock(ptep, ptl);
	return ret;
}

/* Whether the caller takes the part [addr, end) as a huge page. */
static bool takes_huge(const struct uhmm__combined *c, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	return c->migrate->flags & UHMM_MIGRATE_VMA_SELECT_COMPOUND &&
	       end - addr == UHMM_PMD_SIZE && !(addr & ~UHMM_PMD_MASK);
}

static const uint64_t order_flag = (uint64_t)UHMM_PMD_ORDER << UHMM_HMM_PFN_ORDER_SHIFT;

/* No entries, or the huge zero page. */
static uhmm_noinline enum uhmm__walk_result walk_hole(struct uhmm__combined *c, uhmm_vaddr_t addr,
						      uhmm_vaddr_t end)
{
	bool huge = takes_huge(c, addr, end) && vma_is_anonymous(c->vma);
	enum uhmm__walk_result ret = WALK_OK;
	uint64_t *first = slot(c, addr);

	for (; addr < end && ret == WALK_OK; addr += UHMM_PAGE_SIZE) {
		if (vma_is_anonymous(c->vma))
			ret = collect_empty(c, addr, slot(c, addr));
		else
			ret = walk_empty_file(c, addr, slot(c, addr));
	}
	/* As a huge page it is one entry. */
	for (uint64_t i = 0; huge && ret == WALK_OK && i < UHMM_PTRS_PER_TABLE; i++)
		put_out(&first[i], i ? 0 : UHMM_HMM_PFN_MIGRATE | order_flag);
	return ret;
}

/* Report a leaf that stays. */
static enum uhmm__walk_result report_huge(struct uhmm__combined *c, uhmm_pfn_t pfn,
					  uhmm_vaddr_t addr, uhmm_vaddr_t end, uint64_t flags)
{
	c->incomplete = true;
	pfn += table_index(addr, 1);
	for (; addr < end; addr += UHMM_PAGE_SIZE)
		put_out(slot(c, addr), flags ? pfn++ | flags : 0);
	return WALK_OK;
}

/*
 * Collect a leaf whose folio is selected, or have it split. @flags: what is reported of its pages.
 * Context: PMD lock, which is dropped.
 */
static enum uhmm__walk_result collect_huge(struct uhmm__combined *c, ptent_t *pmdp,
					   struct uhmm__spinlock *ptl, struct uhmm__frame *f,
					   uhmm_vaddr_t addr, uhmm_vaddr_t end, uint64_t flags)
{
	struct uhmm_machine *m = c->w.mm->machine;
	uhmm_pfn_t pfn = frame_pfn(m, f);

	if (!takes_huge(c, addr, end)) {
		if (must_split(c, addr, f, load_relaxed(&f->flags))) {
			uhmm__spin_unlock(ptl);
			return stop(c, addr, WALK_SPLIT);
		}
	} else if (f == c->fault_folio || folio_trylock(f)) {
		folio_get(f);
		if (uhmm__set_pmd_migration_entry(c->vma, addr, pmdp)) {
			uhmm__spin_unlock(ptl);
			uhmm__count_n(UHMM_CNT_COLLECTED, UHMM_PTRS_PER_TABLE);
			for (uhmm_vaddr_t at = addr; at < end; at += UHMM_PAGE_SIZE)
				put_out(slot(c, at), 0);
			put_out(slot(c, addr), pfn | flags | UHMM_HMM_PFN_VALID |
						       UHMM_HMM_PFN_MIGRATE | order_flag);
			return WALK_OK;
		}
		uhmm__count(UHMM_CNT_FAIL_PINNED);
		if (f != c->fault_folio)
			folio_unlock(m, f);
		folio_put(m, f);
	} else {
		uhmm__count_n(UHMM_CNT_FAIL_LOCKED, UHMM_PTRS_PER_TABLE);
	}
	uhmm__spin_unlock(ptl);
	return report_huge(c, pfn, addr, end, flags);
}

/* A leaf that is not present. Context: PMD lock, which is dropped. */
static enum uhmm__walk_result walk_absent_pmd(struct uhmm__combined *c, ptent_t *pmdp, pte_t pmd,
					      struct uhmm__spinlock *ptl, uhmm_vaddr_t addr,
					      uhmm_vaddr_t end)
{
	struct uhmm_hmm_range *range = c->w.range;
	struct uhmm_machine *m = c->w.mm->machine;
	unsigned int need = uhmm__hmm_range_need_fault(range, addr, end, 0);

	if (leaf_is_device_private(pmd)) {
		bool own = page_pgmap(m, leaf_pfn(pmd))->owner == range->dev_private_owner;
		uint64_t flags = own ? hmm_private_pmd_flags(pmd) : 0;
		struct uhmm__frame *f = pmd_folio(m, pmd);

		if (own)
			need = uhmm__hmm_need_own_readonly_pmd(m, range, addr, end, pmd);
		if (own && need) {
			uhmm__spin_unlock(ptl);
			return fault(c, addr, need);
		}
		if ((own || !need) && selected(c, pmd, f, f, load_relaxed(&f->flags)))
			return collect_huge(c, pmdp, ptl, f, addr, end, hmm_private_pmd_flags(pmd));
		uhmm__spin_unlock(ptl);
		if (own)
			return report_huge(c, leaf_pfn(pmd), addr, end, flags);
		if (need)
			return fault(c, addr, need);
		uhmm__hmm_pfns_fill(range, addr, end, UHMM_HMM_PFN_ERROR);
		return WALK_OK;
	}
	uhmm__spin_unlock(ptl);
	if (!need)
		return report_huge(c, 0, addr, end, 0);
	if (!leaf_is_migration(pmd))
		return fail(c, addr, -EFAULT);
	c->w.need = HMM_NEED_FAULT;
	return stop(c, addr, WALK_WOULD_WAIT);
}

/*
 * Whether an earlier walk collected pages here, one by one or whole. Something else stands there now, for
 * MADV_DONTNEED may remove their entries and the table: outputs of what is there must not take their place,
 * or nobody would put them back.
 */
static bool has_collected(struct uhmm__combined *c, uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	for (; c->again && addr < end; addr += UHMM_PAGE_SIZE)
		if (is_collected(*slot(c, addr)))
			return true;
	return false;
}

/* A PMD entry that is no table. WALK_SPLIT without c->split: it is one now. */
static uhmm_noinline enum uhmm__walk_result walk_huge(struct uhmm__combined *c, ptent_t *pmdp,
						      uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm_machine *m = c->w.mm->machine;
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(pmdp);
	pte_t pmd = ptep_get(pmdp);
	uint64_t flags;
	unsigned int need;

	if (!pmd_is_leaf(pmd)) {
		uhmm__spin_unlock(ptl);
		return stop(c, addr, WALK_SPLIT);
	}
	/* From the walk before: ours, locked. */
	if (c->again && leaf_is_migration(pmd) && is_collected(*slot(c, addr)) &&
	    *slot(c, addr) & UHMM_HMM_PFN_ORDER_MASK) {
		uhmm__spin_unlock(ptl);
		return WALK_OK;
	}
	if (unlikely(has_collected(c, addr, end))) {
		uhmm__spin_unlock(ptl);
		return fail(c, addr, -EBUSY);
	}
	if (!pte_present(pmd))
		return walk_absent_pmd(c, pmdp, pmd, ptl, addr, end);
	if (is_huge_zero_pmd(m, pmd) && c->migrate->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM) {
		uhmm__spin_unlock(ptl);
		return walk_hole(c, addr, end);
	}
	flags = hmm_pmd_flags(pmd);
	need = uhmm__hmm_range_need_fault(c->w.range, addr, end, flags);
	/* (q) A present leaf is taken for RAM, if it is device-coherent memory, too; as by setup. */
	if (!need && !is_huge_zero_pmd(m, pmd) &&
	    c->migrate->flags & UHMM_MIGRATE_VMA_SELECT_SYSTEM)
		return collect_huge(c, pmdp, ptl, pmd_folio(m, pmd), addr, end, flags);
	uhmm__spin_unlock(ptl);
	return need ? fault(c, addr, need) : report_huge(c, pte_pfn(pmd), addr, end, flags);
}

/*
 * Make pages of a large folio in the way. Its lock is only tried: others are held. If that fails, or
 * the split, the folio stays where it is.
 */
static void split_in_the_way(struct uhmm__combined *c, uhmm_vaddr_t end)
{
	struct uhmm_machine *m = c->w.mm->machine;
	struct uhmm__frame *f = c->split;
	struct uhmm__frame *fault_page =
		c->migrate->fault_page ? pfn_to_frame(m, c->migrate->fault_page) : NULL;
	bool own = f == c->fault_folio, ok = false;

	c->split = NULL;
	if (own) {
		/* The fault's reference and lock go to its page. */
		folio_put(m, f);
		ok = !uhmm__split_folio_at(m, f, fault_page);
		c->fault_folio = page_folio(fault_page);
	} else {
		if (folio_trylock(f)) {
			ok = !folio_test_large(f) || !uhmm__split_folio(m, f);
			folio_unlock(m, f);
		}
		folio_put(m, f);
	}
	if (!ok)
		c->whole_until = end;
}

/*
 * The walk stopped with WALK_SPLIT in the part under one PMD entry that ends at @end. Returns: where it goes
 * on.
 */
static uhmm_vaddr_t make_way(struct uhmm__combined *c, uhmm_vaddr_t end)
{
	if (c->split)
		split_in_the_way(c, end);
	return c->w.last;
}

/* The part under one PMD entry, whatever it is. @pmd: what was read there. */
static uhmm_noinline enum uhmm__walk_result walk_any_pmd(struct uhmm__combined *c, ptent_t *pmdp,
							 pte_t pmd, uhmm_vaddr_t addr,
							 uhmm_vaddr_t end)
{
	need_requests(c, addr);
	for (;; pmd = pmdp_get(pmdp)) {
		enum uhmm__walk_result ret;
		struct uhmm__spinlock *ptl;
		ptent_t *ptep;

		if (pte_none(pmd))
			return unlikely(has_collected(c, addr, end)) ? fail(c, addr, -EBUSY)
								     : walk_hole(c, addr, end);
		if (unlikely(pmd_is_leaf(pmd))) {
			ret = walk_huge(c, pmdp, addr, end);
		} else {
			ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
			if (!ptep)
				continue;
			ret = walk_ptes(c, ptep, ptl, addr, end);
		}
		if (likely(ret != WALK_SPLIT))
			return ret;
		addr = make_way(c, end);
	}
}

/* The same; inline for a table in which nothing is in the way. */
uhmm_always_inline enum uhmm__walk_result walk_pmd(struct uhmm__combined *c, ptent_t *pmdp,
						   uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	pte_t pmd = pmdp ? pmdp_get(pmdp) : pte_make(0);
	enum uhmm__walk_result ret;
	struct uhmm__spinlock *ptl;
	ptent_t *ptep;

	if (unlikely(!entry_is_table(pmd)))
		return walk_any_pmd(c, pmdp, pmd, addr, end);
	ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	if (likely(ptep)) {
		ret = walk_ptes(c, ptep, ptl, addr, end);
		if (likely(ret != WALK_SPLIT))
			return ret;
		addr = make_way(c, end);
	}
	return walk_any_pmd(c, pmdp, pmdp_get(pmdp), addr, end);
}

/* The part from @addr on under one PMD entry, or without one; @next: (out) where it ends. */
uhmm_always_inline enum uhmm__walk_result walk_part(struct uhmm__combined *c, uhmm_vaddr_t addr,
						    uhmm_vaddr_t *next)
{
	uhmm_vaddr_t end = c->w.range->end;
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&c->w.mm->pgt, addr, &level);

	/* Holes too: what is empty may come as huge pages, one at a time. */
	*next = level_addr_end(addr, end, MIN(level, 2U));
	return walk_pmd(c, pmdp, addr, *next);
}

enum uhmm__walk_result uhmm__combined_walk_on(struct uhmm__combined *c)
{
	enum uhmm__walk_result ret = WALK_OK;
	uhmm_vaddr_t addr = c->w.last, end = c->w.range->end;

	if (!(c->vma->flags & UHMM_VM_READ)) {
		need_requests(c, addr);
		if (uhmm__hmm_range_need_fault(c->w.range, addr, end, 0))
			return fail(c, addr, -EFAULT);
		uhmm__hmm_pfns_fill(c->w.range, addr, end, UHMM_HMM_PFN_ERROR);
		addr = end;
	}
	while (addr < end && ret == WALK_OK)
		ret = walk_part(c, addr, &addr);
	if (likely(ret == WALK_OK))
		c->w.last = end;
	return ret;
}

/* The same from the first entry on; inline for a window below one table. */
uhmm_always_inline enum uhmm__walk_result walk(struct uhmm__combined *c)
{
	enum uhmm__walk_result ret;
	uhmm_vaddr_t next;

	if (unlikely(!(c->vma->flags & UHMM_VM_READ)))
		return uhmm__combined_walk_on(c);
	ret = walk_part(c, c->w.last, &next);
	if (unlikely(ret != WALK_OK))
		return ret;
	c->w.last = next;
	return unlikely(next < c->w.range->end) ? uhmm__combined_walk_on(c) : WALK_OK;
}

/*
 * Walk to the end of the range, faulting on the way, as one MIGRATE invalidation.
 * Returns: WALK_OK, WALK_ERROR, or WALK_WOULD_WAIT.
 */
uhmm_always_inline enum uhmm__walk_result walk_and_fault(struct uhmm__combined *c)
{
	enum uhmm__walk_result ret;

	uhmm__invalidate_start(&c->notify);
	ret = walk(c);
	if (unlikely(ret != WALK_OK))
		ret = uhmm__combined_fault(c, ret);
	uhmm__invalidate_end(&c->notify);
	return ret;
}

/* What a walk sets before anybody looks is left as it is: a window may be one page. */
static int setup(struct uhmm__combined *c, struct uhmm_hmm_range *range, struct uhmm_mm *mm)
{
	struct uhmm_migrate_vma *mig = range->migrate;

	if (!mig || mig->size != sizeof(*mig) || !mig->src || !mig->dst)
		return -EINVAL;
	c->vma = vma_lookup_cached(mm, range->start);
	if (!c->vma || range->end > c->vma->end || c->vma->flags & UHMM__VM_SPECIAL)
		return -EINVAL;
	c->migrate = mig;
	c->fault_folio = mig->fault_page ? page_folio(pfn_to_frame(mm->machine, mig->fault_page))
					 : NULL;
	c->split = NULL;
	c->w.range = range;
	c->w.mm = mm;
	c->notify = UHMM__NOTIFIER_RANGE(mm, UHMM_MMU_NOTIFY_MIGRATE, range->start, range->end,
					 mig->pgmap_owner);
	mig->vma = c->vma;
	mig->start = range->start;
	mig->end = range->end;
	set_run(c);
	if (unlikely(range->pfn_flags_mask))
		uhmm__combined_save_requests(c);
	return 0;
}

int uhmm__range_fault_migrate(struct uhmm_hmm_range *range, struct uhmm_mm *mm, bool sequenced,
			      bool *locked, bool *left)
{
	enum uhmm__walk_result ret;
	struct uhmm__combined c;
	int err = setup(&c, range, mm);

	if (err)
		return err;
	uhmm__rwsem_assert_held(&mm->mmap_lock);
	c.blank = left;
	err = begin_walk(&c, sequenced);
	if (unlikely(err))
		return err;
	ret = walk_and_fault(&c);
	if (unlikely(ret != WALK_OK ||
		     (sequenced &&
		      uhmm__interval_check_retry(range->notifier, range->notifier_seq))))
		err = uhmm__combined_more(&c, ret, sequenced, locked);
	if (left)
		*left = c.incomplete;
	return err;
}
