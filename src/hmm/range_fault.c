// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * hmm_range_fault: read a range of CPU page tables for a device and fault in what it asked for.
 * Models: mm/hmm.c.
 *
 * The walk takes no lock but RCU. An entry that needs a fault ends the walk; the fault is taken with
 * nothing held but mmap_lock, and the walk goes on at the same address. Whether all that was read is
 * consistent is for the notifier's sequence to say.
 */
#include "hmm/range.h"

#include "mm/huge.h"

int uhmm__hmm_range_check(const struct uhmm_hmm_range *range)
{
	const uint64_t req = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE |
			     UHMM_HMM_PFN_REQ_MIGRATE;

	if (range->size != sizeof(*range) || !range->hmm_pfns || range->start >= range->end)
		return -EINVAL;
	if ((range->start | range->end) & ~UHMM_PAGE_MASK || range->end > UHMM_TASK_SIZE)
		return -EINVAL;
	/* Linux does not look, but of what is beyond the sequence says nothing. */
	if (UHMM_CHECKED && range->notifier)
		UHMM_WARN_ON(range->notifier->mm->machine,
			     range->start < range->notifier->node.start ||
				     range->end - 1 > range->notifier->node.last);
	return range->default_flags & ~req ? -EINVAL : 0;
}

static uint64_t *pfn_slot(const struct uhmm_hmm_range *range, uhmm_vaddr_t addr)
{
	return &range->hmm_pfns[(addr - range->start) >> UHMM_PAGE_SHIFT];
}

unsigned int uhmm__hmm_range_need_fault(const struct uhmm_hmm_range *range, uhmm_vaddr_t start,
					uhmm_vaddr_t end, uint64_t cpu_flags)
{
	uint64_t n = (end - start) >> UHMM_PAGE_SHIFT;
	const uint64_t *p = pfn_slot(range, start);
	unsigned int need = 0;

	if (hmm_never_faults(range))
		return 0;
	for (uint64_t i = 0; i < n && need != (HMM_NEED_FAULT | HMM_NEED_WRITE_FAULT); i++)
		need |= hmm_need_fault(range, p[i], cpu_flags);
	return need;
}

unsigned int uhmm__hmm_need_own_readonly_pmd(const struct uhmm_machine *m,
					     const struct uhmm_hmm_range *range, uhmm_vaddr_t addr,
					     uhmm_vaddr_t end, pte_t pmd)
{
	if (likely(m->config.device_private_write == UHMM_DEVICE_WRITE_AS_IS) ||
	    leaf_type(pmd) == LEAF_DEVICE_PRIVATE_WRITE)
		return 0;
	return uhmm__hmm_range_need_fault(range, addr, end, UHMM_HMM_PFN_VALID);
}

void uhmm__hmm_pfns_fill(const struct uhmm_hmm_range *range, uhmm_vaddr_t start, uhmm_vaddr_t end,
			 uint64_t flags)
{
	uint64_t n = (end - start) >> UHMM_PAGE_SHIFT;
	uint64_t *p = pfn_slot(range, start);

	for (uint64_t i = 0; i < n; i++)
		p[i] = (p[i] & HMM_PFN_INOUT_FLAGS) | flags;
}

static enum uhmm__walk_result need_fault(struct uhmm__hmm_walk *w, uhmm_vaddr_t addr,
					 uhmm_vaddr_t end, unsigned int need)
{
	w->last = addr;
	w->end = end;
	w->need = need;
	return WALK_FAULT;
}

static enum uhmm__walk_result walk_error(struct uhmm__hmm_walk *w, uhmm_vaddr_t addr, int err)
{
	w->last = addr;
	w->err = err;
	return WALK_ERROR;
}

/*
 * An entry that is not present. The table stays mapped unless the walk ends here.
 * Models: the non-present part of hmm_vma_handle_pte().
 */
static enum uhmm__walk_result handle_leaf(struct uhmm__hmm_walk *w, ptent_t *pmdp, ptent_t *ptep,
					  pte_t pte, uhmm_vaddr_t addr, uhmm_vaddr_t end,
					  uint64_t *hmm_pfn)
{
	struct uhmm_hmm_range *range = w->range;
	uint64_t out = 0;
	unsigned int need;

	if (leaf_is_device_private(pte) &&
	    page_pgmap(w->mm->machine, leaf_pfn(pte))->owner == range->dev_private_owner) {
		/* The caller's own pages are reported and not faulted: in 7.3 not even to write. */
		out = leaf_pfn(pte) | UHMM_HMM_PFN_VALID;
		if (leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE) {
			out |= UHMM_HMM_PFN_WRITE;
		} else {
			need = hmm_need_own_readonly(w->mm->machine, range, *hmm_pfn);
			if (need) {
				uhmm__pte_unmap(ptep);
				return need_fault(w, addr, end, need);
			}
		}
		*hmm_pfn = (*hmm_pfn & HMM_PFN_INOUT_FLAGS) | out;
		return WALK_OK;
	}
	need = hmm_need_fault(range, *hmm_pfn, 0);
	if (!need) {
		*hmm_pfn &= HMM_PFN_INOUT_FLAGS;
		return WALK_OK;
	}
	uhmm__pte_unmap(ptep);
	switch (leaf_type(pte)) {
	case LEAF_SWAP:
	case LEAF_DEVICE_PRIVATE_READ:
	case LEAF_DEVICE_PRIVATE_WRITE:
	case LEAF_DEVICE_EXCLUSIVE:
		return need_fault(w, addr, end, need);
	case LEAF_MIGRATION_READ:
	case LEAF_MIGRATION_READ_EXCLUSIVE:
	case LEAF_MIGRATION_WRITE:
		w->last = addr;
		uhmm__migration_entry_wait(w->mm, pmdp, addr);
		return WALK_WAITED;
	default:
		/* A uffd write-protect marker is as good as nothing there. */
		if (leaf_is_marker(pte, MARKER_UFFD_WP))
			return need_fault(w, addr, end, need);
		return walk_error(w, addr, -EFAULT);
	}
}

/* The part of a range under one PTE table. Models: hmm_vma_walk_pmd() for tables. */
static enum uhmm__walk_result walk_ptes(struct uhmm__hmm_walk *w, ptent_t *pmdp, ptent_t *ptep,
					uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm_hmm_range *range = w->range;
	const uint64_t req = range->default_flags, mask = range->pfn_flags_mask;
	uint64_t *hmm_pfn = pfn_slot(range, addr);
	uhmm_vaddr_t first = addr;

	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++, hmm_pfn++) {
		pte_t pte = ptep_get(ptep);
		unsigned int need;
		uint64_t flags;

		if (likely(pte_present(pte))) {
			flags = hmm_pte_flags(pte);
			if (req | mask)
				need = hmm_need_fault(range, *hmm_pfn, flags);
			else
				need = 0;
			if (unlikely(pte.val & PTE_SPECIAL) && !need) {
				/* No page for a device to use. */
				if (hmm_need_fault(range, *hmm_pfn, 0)) {
					uhmm__pte_unmap(ptep);
					return walk_error(w, addr, -EFAULT);
				}
				*hmm_pfn = (*hmm_pfn & HMM_PFN_INOUT_FLAGS) | UHMM_HMM_PFN_ERROR;
				continue;
			}
			if (likely(!need)) {
				*hmm_pfn = (*hmm_pfn & HMM_PFN_INOUT_FLAGS) | pte_pfn(pte) | flags;
				continue;
			}
		} else if (pte_none(pte)) {
			need = hmm_need_fault(range, *hmm_pfn, 0);
			if (!need) {
				*hmm_pfn &= HMM_PFN_INOUT_FLAGS;
				continue;
			}
		} else {
			enum uhmm__walk_result ret =
				handle_leaf(w, pmdp, ptep, pte, addr, end, hmm_pfn);

			if (ret == WALK_OK)
				continue;
			uhmm__count_n(UHMM_CNT_READ_PTE, ((addr - first) >> UHMM_PAGE_SHIFT) + 1);
			return ret;
		}
		/* The fault covers the rest of this table's part, as the kernel's does. */
		uhmm__pte_unmap(ptep);
		uhmm__count_n(UHMM_CNT_READ_PTE, ((addr - first) >> UHMM_PAGE_SHIFT) + 1);
		return need_fault(w, addr, end, need);
	}
	uhmm__pte_unmap(ptep - 1);
	uhmm__count_n(UHMM_CNT_READ_PTE, (end - first) >> UHMM_PAGE_SHIFT);
	return WALK_OK;
}

/* Models: hmm_vma_walk_hole(). */
static enum uhmm__walk_result walk_hole(struct uhmm__hmm_walk *w, uhmm_vaddr_t addr,
					uhmm_vaddr_t end)
{
	unsigned int need = uhmm__hmm_range_need_fault(w->range, addr, end, 0);

	if (need)
		return need_fault(w, addr, end, need);
	uhmm__hmm_pfns_fill(w->range, addr, end, 0);
	return WALK_OK;
}

/* Pages of a huge leaf, @pfn at @addr. */
static void fill_huge(struct uhmm__hmm_walk *w, uhmm_pfn_t pfn, uhmm_vaddr_t addr, uhmm_vaddr_t end,
		      uint64_t flags)
{
	uint64_t *hmm_pfn = pfn_slot(w->range, addr);

	for (; addr < end; addr += UHMM_PAGE_SIZE, hmm_pfn++)
		*hmm_pfn = (*hmm_pfn & HMM_PFN_INOUT_FLAGS) | pfn++ | flags;
}

/* The page at @addr; (q) in 7.3 the first of the huge page, wherever @addr is. */
static uhmm_pfn_t device_huge_pfn(const struct uhmm_machine *m, pte_t pmd, uhmm_vaddr_t addr)
{
	if (m->config.device_huge_pfn == UHMM_DEVICE_HUGE_PFN_FROM_FIRST)
		return leaf_pfn(pmd);
	return leaf_pfn(pmd) + table_index(addr, 1);
}

/*
 * A leaf that is not present. (q) Another device's page is an error where one below a table is
 * nothing. Models: hmm_vma_handle_absent_pmd().
 */
static enum uhmm__walk_result walk_absent_pmd(struct uhmm__hmm_walk *w, ptent_t *pmdp, pte_t pmd,
					      uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	struct uhmm_hmm_range *range = w->range;
	unsigned int need;

	if (leaf_is_device_private(pmd) &&
	    page_pgmap(w->mm->machine, leaf_pfn(pmd))->owner == range->dev_private_owner) {
		need = uhmm__hmm_need_own_readonly_pmd(w->mm->machine, range, addr, end, pmd);
		if (need)
			return need_fault(w, addr, end, need);
		fill_huge(w, device_huge_pfn(w->mm->machine, pmd, addr), addr, end,
			  hmm_private_pmd_flags(pmd));
		return WALK_OK;
	}
	need = uhmm__hmm_range_need_fault(range, addr, end, 0);
	if (leaf_is_migration(pmd)) {
		if (!need) {
			uhmm__hmm_pfns_fill(range, addr, end, 0);
			return WALK_OK;
		}
		w->last = addr;
		uhmm__pmd_migration_entry_wait(w->mm, pmdp);
		return WALK_WAITED;
	}
	if (!need) {
		uhmm__hmm_pfns_fill(range, addr, end, UHMM_HMM_PFN_ERROR);
		return WALK_OK;
	}
	if (leaf_is_device_private(pmd))
		return need_fault(w, addr, end, need);
	return walk_error(w, addr, -EFAULT);
}

/* Models: hmm_vma_handle_pmd(). */
static enum uhmm__walk_result walk_huge(struct uhmm__hmm_walk *w, ptent_t *pmdp, pte_t pmd,
					uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	uint64_t flags;
	unsigned int need;

	if (!pmd_trans_huge(pmd))
		return walk_absent_pmd(w, pmdp, pmd, addr, end);
	flags = hmm_pmd_flags(pmd);
	need = uhmm__hmm_range_need_fault(w->range, addr, end, flags);
	if (need)
		return need_fault(w, addr, end, need);
	fill_huge(w, pte_pfn(pmd) + table_index(addr, 1), addr, end, flags);
	return WALK_OK;
}

/* The part of a range in one VMA. Models: hmm_vma_walk_test(), and the descent. */
static enum uhmm__walk_result walk_vma(struct uhmm__hmm_walk *w, struct uhmm_vma *vma,
				       uhmm_vaddr_t addr, uhmm_vaddr_t end)
{
	enum uhmm__walk_result ret = WALK_OK;
	uhmm_vaddr_t next;

	if (vma->flags & (UHMM_VM_IO | UHMM_VM_PFNMAP) || !(vma->flags & UHMM_VM_READ)) {
		if (uhmm__hmm_range_need_fault(w->range, addr, end, 0))
			return walk_error(w, addr, -EFAULT);
		uhmm__hmm_pfns_fill(w->range, addr, end, UHMM_HMM_PFN_ERROR);
		return WALK_OK;
	}
	for (; addr < end && ret == WALK_OK; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&w->mm->pgt, addr, &level), *ptep;
		pte_t pmd = pte_make(0);

		next = level_addr_end(addr, end, level);
		ptep = pmdp ? uhmm__pte_offset_map(pmdp, addr, &pmd) : NULL;
		if (ptep)
			ret = walk_ptes(w, pmdp, ptep, addr, next);
		else if (unlikely(!pte_none(pmd)))
			ret = walk_huge(w, pmdp, pmd, addr, next);
		else
			ret = walk_hole(w, addr, next);
	}
	return ret;
}

/* Models: walk_page_range() with hmm's callbacks. */
static enum uhmm__walk_result walk_range(struct uhmm__hmm_walk *w)
{
	enum uhmm__walk_result ret = WALK_OK;
	uhmm_vaddr_t addr = w->last, end = w->range->end, next;

	for (; addr < end && ret == WALK_OK; addr = next) {
		struct uhmm_vma *vma = vma_lookup_cached(w->mm, addr);

		if (likely(vma)) {
			next = MIN(end, vma->end);
			ret = walk_vma(w, vma, addr, next);
			continue;
		}
		/* No VMA: nothing can be faulted in. */
		vma = uhmm__find_vma(w->mm, addr);
		next = vma ? MIN(end, vma->start) : end;
		if (uhmm__hmm_range_need_fault(w->range, addr, next, 0))
			return walk_error(w, addr, -EFAULT);
		uhmm__hmm_pfns_fill(w->range, addr, next, UHMM_HMM_PFN_ERROR);
	}
	return ret;
}

/*
 * Fault in what the walk recorded. Returns: 0 walk again; -errno; *w->locked false: mmap_lock was
 * dropped. Models: hmm_do_fault().
 */
static int do_fault(struct uhmm__hmm_walk *w)
{
	unsigned int flags = FAULT_FLAG_REMOTE;
	struct uhmm_vma *vma = vma_lookup_cached(w->mm, w->last);
	uhmm_vaddr_t addr;

	if (w->locked)
		flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	if (!vma)
		return -EFAULT;
	if (w->need & HMM_NEED_WRITE_FAULT) {
		if (!(vma->flags & UHMM_VM_WRITE))
			return -EPERM;
		flags |= FAULT_FLAG_WRITE;
	}
	for (addr = w->last; addr < w->end; addr += UHMM_PAGE_SIZE) {
		int ret = uhmm__handle_mm_fault(vma, addr, flags);

		uhmm__count(UHMM_CNT_FAULT_FROM_HMM);
		if (ret & (VM_FAULT_COMPLETED | VM_FAULT_RETRY)) {
			UHMM_WARN_ON(w->mm->machine, !w->locked);
			if (w->locked)
				*w->locked = false;
			return 0;
		}
		if (ret & VM_FAULT_ERROR)
			return uhmm__vm_fault_to_errno(ret);
	}
	return 0;
}

int uhmm__range_fault_locked(struct uhmm_hmm_range *range, bool *locked, bool again)
{
	struct uhmm__hmm_walk w = {
		.range = range,
		.mm = range->notifier->mm,
		.last = range->start,
		.locked = locked,
	};
	enum uhmm_counter kind = again ? UHMM_CNT_WALK_RESTARTS : UHMM_CNT_WALKS;

	uhmm__rwsem_assert_held(&w.mm->mmap_lock);
	for (;;) {
		int err;

		if (uhmm__interval_check_retry(range->notifier, range->notifier_seq)) {
			uhmm__count(UHMM_CNT_NOTIFIER_RETRY);
			return -EBUSY;
		}
		uhmm__count(kind);
		kind = UHMM_CNT_WALK_RESTARTS;
		switch (walk_range(&w)) {
		case WALK_OK:
			return 0;
		case WALK_ERROR:
			return w.err;
		case WALK_FAULT:
			err = do_fault(&w);
			if (err)
				return err;
			if (locked && !*locked)
				return uhmm__current()->killed ? -EINTR : -EBUSY;
			if (unlikely(w.mm->machine->config.range_fault_resched))
				uhmm__cond_resched();
			break;
		default:
			break;
		}
	}
}

int uhmm_range_fault(struct uhmm_hmm_range *range)
{
	int err = uhmm__hmm_range_check(range);

	if (err || !range->notifier || !uhmm__current())
		return -EINVAL;
	if (range->default_flags & UHMM_HMM_PFN_REQ_MIGRATE)
		return uhmm__range_fault_migrate(range, range->notifier->mm, true, NULL, NULL);
	return uhmm__range_fault_locked(range, NULL, false);
}

int uhmm__range_fault_unlocked(struct uhmm_hmm_range *range, uint64_t timeout_ns, bool *left)
{
	bool migrate, locked, again = false;
	uint64_t deadline = 0;
	struct uhmm_mm *mm;
	int err = uhmm__hmm_range_check(range);

	if (err || !range->notifier || !uhmm__current())
		return -EINVAL;
	mm = range->notifier->mm;
	migrate = range->default_flags & UHMM_HMM_PFN_REQ_MIGRATE;
	for (;;) {
		range->notifier_seq = uhmm_mmu_interval_read_begin(range->notifier);
		if (uhmm__current()->killed)
			return -EINTR;
		mmap_read_lock(mm);
		locked = true;
		if (migrate)
			err = uhmm__range_fault_migrate(range, mm, true, &locked, left);
		else
			err = uhmm__range_fault_locked(range, &locked, again);
		if (migrate && !err)
			return 0;
		if (locked)
			mmap_read_unlock(mm);
		if (err != -EBUSY)
			break;
		/* Often after a COW fault of its own: what follows is the same walk again. */
		again = true;
		if (!timeout_ns)
			continue;
		/*
		 * The clock is read only once something went wrong. A fault that dropped the lock
		 * got something done: the time starts anew.
		 */
		if (!deadline || !locked)
			deadline = uhmm__clock_ns() + timeout_ns;
		else if (uhmm__clock_ns() > deadline)
			break;
	}
	return err;
}

int uhmm_range_fault_unlocked_timeout(struct uhmm_hmm_range *range, uint64_t timeout_ns)
{
	return uhmm__range_fault_unlocked(range, timeout_ns, NULL);
}
