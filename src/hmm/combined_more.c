// SPDX-License-Identifier: LGPL-2.1-or-later
/* What follows the first walk of the combined walker, if that was not all: faults, waiting, and undoing. */
#include "hmm/combined.h"

/* Entries, from the first on, that hold outputs. */
static uint64_t nr_outputs(const struct uhmm__combined *c)
{
	const struct uhmm_hmm_range *range = c->w.range;

	return ((c->again ? range->end : c->w.last) - range->start) >> UHMM_PAGE_SHIFT;
}

/*
 * What the pages ask for themselves is kept in migrate->dst, where nothing else is until the walk is
 * done: outputs take its place in hmm_pfns, and whoever walks there again needs it. MIGRATE is nothing
 * that a page can ask for, and would look like an output then.
 */
void uhmm__combined_save_requests(struct uhmm__combined *c)
{
	struct uhmm_hmm_range *range = c->w.range;
	uint64_t n = (range->end - range->start) >> UHMM_PAGE_SHIFT;
	uint64_t mask = range->pfn_flags_mask & ~UHMM_HMM_PFN_MIGRATE;

	for (uint64_t i = 0; i < n; i++)
		c->migrate->dst[i] = range->hmm_pfns[i] & mask;
}

/* Of everything that is not collected. */
static void restore_requests(struct uhmm__combined *c)
{
	struct uhmm_hmm_range *range = c->w.range;
	uint64_t n = nr_outputs(c);

	for (uint64_t i = 0; range->pfn_flags_mask && i < n; i++) {
		uint64_t v = range->hmm_pfns[i];

		/* What was collected as a whole is one entry. */
		if (is_collected(v))
			i += (1UL << uhmm_hmm_pfn_to_map_order(v)) - 1;
		else
			put_out(&range->hmm_pfns[i], c->migrate->dst[i]);
	}
}

/* Put back everything that was collected. */
static void undo(struct uhmm__combined *c)
{
	struct uhmm_hmm_range *range = c->w.range;
	struct uhmm_machine *m = c->w.mm->machine;
	uint64_t n = nr_outputs(c);

	for (uint64_t i = 0; i < n; i++) {
		uint64_t v = range->hmm_pfns[i];
		struct uhmm__frame *f;

		if (!(v & UHMM_HMM_PFN_MIGRATE))
			continue;
		if (is_collected(v)) {
			f = page_folio(pfn_to_frame(m, uhmm_hmm_pfn_to_pfn(v)));
			uhmm__remove_migration_ptes(m, f, f, NULL);
			if (f != c->fault_folio)
				folio_unlock(m, f);
			folio_put(m, f);
		}
		range->hmm_pfns[i] = v & HMM_PFN_INOUT_FLAGS;
	}
	restore_requests(c);
}

/* One fault where the walk stopped. Returns VM_FAULT_*. */
static uhmm_noinline int do_fault(struct uhmm__combined *c, unsigned int flags)
{
	if (c->w.need & HMM_NEED_WRITE_FAULT)
		flags |= FAULT_FLAG_WRITE;
	uhmm__count(UHMM_CNT_FAULT_FROM_HMM);
	return uhmm__handle_mm_fault(c->vma, c->fault_at, flags | FAULT_FLAG_REMOTE);
}

/* Whether a walk would have to wait for the page of an entry: it is another device's. */
static bool waits_for(struct uhmm__combined *c, uhmm_vaddr_t addr, pte_t pte)
{
	struct uhmm_machine *m = c->w.mm->machine;

	if (!leaf_is_device_private(pte))
		return false;
	if (page_pgmap(m, leaf_pfn(pte))->owner != c->w.range->dev_private_owner)
		c->w.need = hmm_need_fault(c->w.range, *slot(c, addr), 0);
	else if (leaf_type(pte) == LEAF_DEVICE_PRIVATE_READ)
		c->w.need = hmm_need_own_readonly(m, c->w.range, *slot(c, addr));
	else
		c->w.need = 0;
	return c->w.need;
}

/*
 * While nothing is held, also fault what comes later and would be waited for: each such page would
 * send the walk back to its beginning, with all that it had collected by then. Errors are left for the
 * walk to find, in its order.
 */
static void fault_later(struct uhmm__combined *c)
{
	uhmm_vaddr_t addr = c->fault_at + UHMM_PAGE_SIZE, end = c->w.range->end;

	for (; addr < end; addr += UHMM_PAGE_SIZE) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&c->w.mm->pgt, addr, &level);
		ptent_t *ptep = pmdp ? uhmm__pte_offset_map(pmdp, addr, NULL) : NULL;
		pte_t pte;

		if (!ptep) {
			addr = level_addr_end(addr, end, level) - UHMM_PAGE_SIZE;
			continue;
		}
		pte = ptep_get(ptep);
		uhmm__count(UHMM_CNT_READ_PTE);
		uhmm__pte_unmap(ptep);
		if (!waits_for(c, addr, pte))
			continue;
		if (c->w.need & HMM_NEED_WRITE_FAULT && !(c->vma->flags & UHMM_VM_WRITE))
			return;
		c->fault_at = addr;
		if (do_fault(c, 0) & VM_FAULT_ERROR)
			return;
	}
}

enum uhmm__walk_result uhmm__combined_fault(struct uhmm__combined *c, enum uhmm__walk_result ret)
{
	bool naive = c->w.mm->machine->config.combined_wait == UHMM_COMBINED_NAIVE;

	while (ret == WALK_FAULT || (ret == WALK_WOULD_WAIT && naive)) {
		int fault;

		uhmm__count(UHMM_CNT_WALK_RESTARTS);
		fault = do_fault(c, naive ? 0 : FAULT_FLAG_NO_FOLIO_WAIT);
		if (fault & VM_FAULT_WOULD_WAIT)
			return WALK_WOULD_WAIT;
		if (fault & VM_FAULT_ERROR) {
			c->w.err = uhmm__vm_fault_to_errno(fault);
			return WALK_ERROR;
		}
		ret = uhmm__combined_walk_on(c);
	}
	return ret;
}

/*
 * The walk is done; whether the caller's sequence still holds.
 * Returns: 0 done; -EBUSY undo and begin again; -EAGAIN a new sequence was taken: what is not
 * frozen must be looked at again.
 */
static int check_sequence(struct uhmm__combined *c, bool resample)
{
	struct uhmm_hmm_range *range = c->w.range;

	if (likely(!uhmm__interval_check_retry(range->notifier, range->notifier_seq)))
		return 0;
	uhmm__count(UHMM_CNT_NOTIFIER_RETRY);
	/* Never wait for the sequence here: folios are held. */
	if (!resample || !uhmm__interval_try_begin(range->notifier, &range->notifier_seq))
		return -EBUSY;
	return c->incomplete ? -EAGAIN : 0;
}

/*
 * The fault that the walk would have waited for, with nothing held but mmap_lock. It may drop that for a
 * userfaultfd. Returns: 0; -errno, -EBUSY after it was dropped.
 */
static int wait_and_fault(struct uhmm__combined *c, bool *locked)
{
	bool may_drop = locked && c->vma->flags & UHMM__VM_UFFD;
	int fault;

	uhmm__count(UHMM_CNT_BACK_OFF);
	fault = do_fault(c, may_drop ? FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE : 0);
	if (fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)) {
		*locked = false;
		return uhmm__current()->killed ? -EINTR : -EBUSY;
	}
	if (fault & VM_FAULT_ERROR)
		return uhmm__vm_fault_to_errno(fault);
	fault_later(c);
	return 0;
}

/* Walk once more, as one MIGRATE invalidation. Returns: WALK_OK, WALK_ERROR, or WALK_WOULD_WAIT. */
static enum uhmm__walk_result walk_again(struct uhmm__combined *c)
{
	enum uhmm__walk_result ret;

	uhmm__invalidate_start(&c->notify);
	ret = uhmm__combined_fault(c, uhmm__combined_walk_on(c));
	uhmm__invalidate_end(&c->notify);
	return ret;
}

int uhmm__combined_more(struct uhmm__combined *c, enum uhmm__walk_result ret, bool sequenced,
			bool *locked)
{
	bool resample = locked;
	int err;

	for (;; ret = walk_again(c)) {
		if (ret == WALK_OK) {
			err = sequenced ? check_sequence(c, resample) : 0;
			if (!err)
				return 0;
			if (err == -EAGAIN) {
				/*
				 * Once: a driver that does not tell its own invalidations by
				 * their owner would be at it for ever, holding folios.
				 */
				resample = false;
				c->again = true;
				/* What was collected keeps its output, whatever its entry is now. */
				c->run_mask = 0;
				restore_requests(c);
				c->w.last = c->w.range->start;
				c->incomplete = false;
				uhmm__count(UHMM_CNT_WALK_RESTARTS);
				continue;
			}
			undo(c);
			return err;
		}
		undo(c);
		if (ret == WALK_ERROR)
			return c->w.err;
		err = wait_and_fault(c, locked);
		if (!err)
			err = begin_walk(c, sequenced);
		if (err)
			return err;
	}
}
