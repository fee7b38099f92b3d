// SPDX-License-Identifier: LGPL-2.1-or-later
/* The operations of the test driver. Models: the ioctls of lib/test_hmm.c. */
#include <string.h>

#include "core/alloc.h"
#include "hmm/range.h"
#include "mirror/mirror.h"
#include "mm/inspect.h"

enum { BATCH = 32 };

static const uint64_t range_timeout_ns = 1000000000UL;

/* ---- device faults ---- */

/* What the device's tables are to say of a page; 0: it may not have it as it asked. */
static inline uint64_t entry_of_pfn(struct uhmm_mirror *mirror, uint64_t v,
				    const struct uhmm_hmm_range *range, bool strict)
{
	uhmm_pfn_t pfn = uhmm_hmm_pfn_to_pfn(v);
	bool write = v & UHMM_HMM_PFN_WRITE;

	/* A read-only page of the device's own is not made writable by a fault. */
	if (strict && UHMM_WARN_ON(mirror->dev->machine,
				   !write && range->default_flags & UHMM_HMM_PFN_REQ_WRITE))
		return 0;
	if (unlikely(mirror->dev->huge_by_head) && strict &&
	    uhmm_pagemap_owner(mirror->dev->machine, pfn) == mirror->dev)
		pfn = uhmm_page_head(mirror->dev->machine, pfn);
	return dpt_entry(pfn, write);
}

/* Enter what a range fault found. Context: mirror->mutex. Models: dmirror_do_fault(). */
static int enter_pfns(struct uhmm_mirror *mirror, const struct uhmm_hmm_range *range, bool strict)
{
	uint64_t index = range->start >> UHMM_PAGE_SHIFT;
	uint64_t n = (range->end - range->start) >> UHMM_PAGE_SHIFT;
	uint64_t entries[BATCH];

	for (uint64_t i = 0, k; i < n; i += k) {
		int err;

		for (k = 0; k < BATCH && i + k < n; k++) {
			entries[k] = entry_of_pfn(mirror, range->hmm_pfns[i + k], range, strict);
			if (unlikely(!entries[k]))
				break;
		}
		err = uhmm__radix_store_run(&mirror->pt, index + i, entries, k);
		if (err)
			return err;
		if (unlikely(k < BATCH && i + k < n))
			return -EFAULT;
	}
	return 0;
}

/* One attempt, and whether the sequence held. -EBUSY: again. Ends with the mutex held on success. */
static int fault_attempt(struct uhmm_mirror *mirror, struct uhmm_hmm_range *range, bool unlocked)
{
	struct uhmm__device_walk walk;
	int err;

	uhmm__device_walk_begin(mirror, &walk, range->start, range->end);
	if (unlocked) {
		err = uhmm_range_fault_unlocked_timeout(range, 0);
	} else {
		range->notifier_seq = uhmm_mmu_interval_read_begin(range->notifier);
		mmap_read_lock(mirror->mm);
		err = uhmm_range_fault(range);
		mmap_read_unlock(mirror->mm);
	}
	uhmm__mutex_lock(&mirror->mutex);
	uhmm__device_walk_end(&walk);
	if (!err && (uhmm__device_walk_spoilt(&walk) ||
		     uhmm_mmu_interval_read_retry(range->notifier, range->notifier_seq)))
		err = -EBUSY;
	if (err)
		uhmm__mutex_unlock(&mirror->mutex);
	return err;
}

/* Models: dmirror_range_fault(). Ends with the mutex held on success. */
static int fault_range(struct uhmm_mirror *mirror, struct uhmm_hmm_range *range, bool unlocked)
{
	uint64_t deadline = 0;
	int err;

	while ((err = fault_attempt(mirror, range, unlocked)) == -EBUSY) {
		if (unlocked)
			continue;
		if (!deadline)
			deadline = uhmm__clock_ns() + range_timeout_ns;
		else if (uhmm__clock_ns() > deadline)
			return -EBUSY;
		uhmm__cond_resched();
	}
	return err;
}

int uhmm__mirror_fault(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write,
		       bool unlocked)
{
	uint64_t pfns[BATCH] = { 0 };
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.notifier = mirror->notifier,
		.hmm_pfns = pfns,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | (write ? UHMM_HMM_PFN_REQ_WRITE : 0),
		.dev_private_owner = mirror->dev,
	};
	int err = 0;

	if (!uhmm_mmget_not_zero(mirror->mm))
		return -EFAULT;
	for (uhmm_vaddr_t addr = start; addr < end && !err; addr = range.end) {
		range.start = addr;
		range.end = MIN(addr + BATCH * UHMM_PAGE_SIZE, end);
		/* Beyond the address space there is nothing to walk. */
		if (range.end > UHMM_TASK_SIZE) {
			err = -EFAULT;
			break;
		}
		err = fault_range(mirror, &range, unlocked);
		if (err)
			break;
		err = enter_pfns(mirror, &range, true);
		uhmm__mutex_unlock(&mirror->mutex);
	}
	uhmm_mmput(mirror->mm);
	return err;
}

/*
 * The same for up to a window at once: one walk. @pfns: room for the range.
 */
int uhmm__mirror_fault_walk(struct uhmm_mirror *mirror, uint64_t *pfns, uhmm_vaddr_t start,
			    uhmm_vaddr_t end, bool write)
{
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.notifier = mirror->notifier,
		.start = start,
		.end = end,
		.hmm_pfns = pfns,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | (write ? UHMM_HMM_PFN_REQ_WRITE : 0),
		.dev_private_owner = mirror->dev,
	};
	int err;

	uhmm__clear_requests(pfns, start, end);
	err = fault_range(mirror, &range, true);
	if (err)
		return err;
	err = enter_pfns(mirror, &range, false);
	uhmm__mutex_unlock(&mirror->mutex);
	return err;
}

/* ---- READ and WRITE ---- */

/*
 * Access pages by the device's tables until one is missing. Returns: pages done. Without a buffer
 * nothing is copied: that it cannot be is known only at the end.
 * Models: dmirror_do_read(), dmirror_do_write().
 */
static uint64_t access_mirror(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, uint64_t npages,
			      uint8_t *buf, bool write)
{
	struct uhmm_machine *m = mirror->dev->machine;
	uint64_t i, index = addr >> UHMM_PAGE_SHIFT;

	uhmm__mutex_lock(&mirror->mutex);
	for (i = 0; i < npages; i++) {
		uint64_t entry = uhmm__radix_load(&mirror->pt, index + i);
		uint8_t *page = buf ? buf + (i << UHMM_PAGE_SHIFT) : NULL;

		if (!dpt_permits(entry, write))
			break;
		uhmm__check_device_entry(mirror, entry);
		if (uhmm__device_owns(mirror->dev, dpt_pfn(entry)))
			uhmm_devmem_touch(mirror->dev->pool, dpt_pfn(entry));
		if (!page)
			continue;
		if (write)
			write_page(m, dpt_pfn(entry), 0, page, UHMM_PAGE_SIZE);
		else
			uhmm_page_read(m, dpt_pfn(entry), 0, page, UHMM_PAGE_SIZE);
	}
	uhmm__mutex_unlock(&mirror->mutex);
	uhmm__count_n(UHMM_CNT_DEVICE_ACCESSES, i);
	return i;
}

/* Models: dmirror_read(), dmirror_write(). */
static int op_access(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd, bool write,
		     bool unlocked)
{
	uhmm_vaddr_t end = cmd->addr + (cmd->npages << UHMM_PAGE_SHIFT);
	uint8_t *buf = cmd->ptr;

	if (write && !buf)
		return -EFAULT;
	for (;;) {
		uhmm_vaddr_t at = cmd->addr + (cmd->cpages << UHMM_PAGE_SHIFT);
		int err;

		cmd->cpages += access_mirror(mirror, at, cmd->npages - cmd->cpages,
					     buf ? buf + (cmd->cpages << UHMM_PAGE_SHIFT) : NULL,
					     write);
		if (cmd->cpages == cmd->npages)
			return buf ? 0 : -EFAULT;
		at = cmd->addr + (cmd->cpages << UHMM_PAGE_SHIFT);
		uhmm__count(UHMM_CNT_DEVICE_FAULTS);
		err = uhmm__mirror_fault(mirror, at, end, write, unlocked);
		if (err)
			return err;
		cmd->faults++;
	}
}

/* ---- migration ---- */

/*
 * The VMA at @addr and the end of the window that starts there. NULL: none, or not readable.
 * Context: mmap_lock for reading.
 */
static struct uhmm_vma *window_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_vaddr_t end,
				   uhmm_vaddr_t *next)
{
	struct uhmm_vma *vma = vma_lookup_cached(mm, addr);

	if (!vma || !(vma->flags & UHMM_VM_READ))
		return NULL;
	*next = MIN(MIN(end, addr + WINDOW_PAGES * UHMM_PAGE_SIZE), vma->end);
	return vma;
}

/*
 * An invalidation came while the window moved, and the device did not get its pages: fault them in,
 * as far as they are still there.
 */
static void mend_window(struct uhmm_mirror *mirror, const struct uhmm__window *w)
{
	for (uint64_t i = 0; i < w->args.npages; i++) {
		uhmm_vaddr_t addr = w->args.start + (i << UHMM_PAGE_SHIFT);

		if (uhmm__device_walk_page_spoilt(&w->walk, i) && uhmm__window_may_move(w, i))
			(void)uhmm__mirror_fault(mirror, addr, addr + UHMM_PAGE_SIZE, false, false);
	}
}

/* The migrating half of MIGRATE_TO_DEV. Models: dmirror_migrate_to_device(). */
static int migrate_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
			     uhmm_vaddr_t end)
{
	uhmm_vaddr_t addr, next;
	int err = 0;

	mmap_read_lock(mirror->mm);
	for (addr = start; addr < end && !err; addr = next) {
		struct uhmm_vma *vma = window_vma(mirror->mm, addr, end, &next);

		if (!vma) {
			err = -EINVAL;
			break;
		}
		uhmm__window_args(mirror, w, addr, next,
				  UHMM_MIGRATE_VMA_SELECT_SYSTEM |
					  UHMM_MIGRATE_VMA_SELECT_COMPOUND);
		w->args.vma = vma;
		err = uhmm__window_setup(mirror, w);
		if (err)
			break;
		uhmm__window_to_device(mirror, w, false, false);
		if (unlikely(uhmm__device_walk_spoilt(&w->walk))) {
			mmap_read_unlock(mirror->mm);
			mend_window(mirror, w);
			mmap_read_lock(mirror->mm);
		}
	}
	mmap_read_unlock(mirror->mm);
	return err;
}

/*
 * Enter what the combined walk found and left in place: pages that are on the device already, or
 * that could not be collected. Returns: 0; -EFAULT, -ENOMEM as a fault. Context: mutex.
 */
static uhmm_noinline int enter_left(struct uhmm_mirror *mirror, const struct uhmm_hmm_range *range,
				    bool strict)
{
	uint64_t index = range->start >> UHMM_PAGE_SHIFT;
	uint64_t n = (range->end - range->start) >> UHMM_PAGE_SHIFT;
	const uint64_t *pfns = range->hmm_pfns;
	int err = 0;

	for (uint64_t i = 0; i < n && !err; i++) {
		uint64_t v = pfns[i], entry;

		if (likely(v & UHMM_HMM_PFN_MIGRATE) || !(v & UHMM_HMM_PFN_VALID))
			continue;
		entry = entry_of_pfn(mirror, v, range, strict);
		err = entry ? uhmm__radix_store(&mirror->pt, index + i, entry) : -EFAULT;
	}
	return err;
}

/* The end of a combined walk, which @left pages in place. Returns: as enter_left(); -EBUSY: again. */
static inline int check_walk(struct uhmm_mirror *mirror, const struct uhmm_hmm_range *range,
			     const struct uhmm__device_walk *walk, bool left, bool strict)
{
	int err = 0;

	uhmm__mutex_lock(&mirror->mutex);
	if (unlikely(uhmm__device_walk_spoilt(walk) ||
		     uhmm_mmu_interval_read_retry(range->notifier, range->notifier_seq)))
		err = -EBUSY;
	else if (unlikely(left))
		err = enter_left(mirror, range, strict);
	uhmm__mutex_unlock(&mirror->mutex);
	return err;
}

/* One attempt of uhmm__window_combined(). @again: (out) the sequence moved: not the last. */
uhmm_always_inline int combined_attempt(struct uhmm_mirror *mirror, struct uhmm__window *w,
					uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t req,
					bool strict, bool *again)
{
	struct uhmm_hmm_range range;
	bool left;
	int err;

	*again = false;
	uhmm__window_args(mirror, w, start, end,
			  UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_COMPOUND);
	range.size = sizeof(range);
	range.notifier = mirror->notifier;
	range.start = start;
	range.end = end;
	range.hmm_pfns = w->src;
	range.default_flags = req | UHMM_HMM_PFN_REQ_MIGRATE;
	range.pfn_flags_mask = 0;
	range.dev_private_owner = mirror->dev;
	range.migrate = &w->args;
	uhmm__device_walk_begin(mirror, &w->walk, start, end);
	err = uhmm__range_fault_unlocked(&range, range_timeout_ns, &left);
	if (unlikely(err)) {
		uhmm__mutex_lock(&mirror->mutex);
		uhmm__device_walk_end(&w->walk);
		uhmm__mutex_unlock(&mirror->mutex);
		return err;
	}
	err = check_walk(mirror, &range, &w->walk, left, strict);
	uhmm_migrate_hmm_range_setup(&range);
	if (likely(!err))
		return 0;
	*again = err == -EBUSY;
	uhmm__window_cancel(mirror, w);
	mmap_read_unlock(mirror->mm);
	return err;
}

/* Out of line, for the first attempt is most often the last, and needs nothing of its arguments later. */
static uhmm_noinline int combined_again(struct uhmm_mirror *mirror, struct uhmm__window *w,
					uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t req,
					bool strict)
{
	bool again;
	int err;

	do
		err = combined_attempt(mirror, w, start, end, req, strict, &again);
	while (again);
	return err;
}

int uhmm__window_combined(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
			  uhmm_vaddr_t end, uint64_t req, bool strict)
{
	bool again;
	int err = combined_attempt(mirror, w, start, end, req, strict, &again);

	return unlikely(again) ? combined_again(mirror, w, start, end, req, strict) : err;
}

/*
 * A fault leaves the device with every page. What did not move - the device had no memory, or an
 * invalidation came in between, be it by a split for a later window - it reaches where it is. Page by
 * page: a walk over more would also fault home the device's own pages that come after a missing one.
 */
static int fault_rest(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write)
{
	uint64_t index = start >> UHMM_PAGE_SHIFT, last = end >> UHMM_PAGE_SHIFT;

	for (;; index++) {
		uhmm_vaddr_t addr;
		int err;

		uhmm__mutex_lock(&mirror->mutex);
		while (index < last && dpt_permits(uhmm__radix_load(&mirror->pt, index), write))
			index++;
		uhmm__mutex_unlock(&mirror->mutex);
		if (index == last)
			return 0;
		addr = index << UHMM_PAGE_SHIFT;
		err = uhmm__mirror_fault(mirror, addr, addr + UHMM_PAGE_SIZE, write, false);
		if (err)
			return err;
	}
}

/*
 * Whether pages of the device's own are mapped read-only there, as after fork. Only a look, which may
 * be wrong in a moment. Context: mmap_lock held.
 */
static bool has_own_readonly(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm__scan s;

	uhmm__scan_init(&s, &mirror->mm->pgt, start, MIN(end, UHMM_TASK_SIZE));
	while (uhmm__scan_next(&s)) {
		if (leaf_is_device_private(s.pte) && leaf_type(s.pte) == LEAF_DEVICE_PRIVATE_READ &&
		    uhmm_pagemap_owner(mirror->dev->machine, leaf_pfn(s.pte)) == mirror->dev)
			return true;
	}
	return false;
}

/*
 * Before a combined walk for writing. It leaves pages of the device's own alone, and they cannot be
 * written if they are mapped read-only. The fault of another page before them brings them home and
 * has them copied, as WRITE would; without one the access is refused. So be it here: fault from the
 * first page that needs it.
 */
static int fault_own_readonly(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	uint64_t index = start >> UHMM_PAGE_SHIFT, last = end >> UHMM_PAGE_SHIFT;
	bool any;

	if (!uhmm_devmem_used(mirror->dev->pool))
		return 0;
	mmap_read_lock(mirror->mm);
	any = has_own_readonly(mirror, start, end);
	mmap_read_unlock(mirror->mm);
	if (!any)
		return 0;
	uhmm__mutex_lock(&mirror->mutex);
	while (index < last && dpt_permits(uhmm__radix_load(&mirror->pt, index), true))
		index++;
	uhmm__mutex_unlock(&mirror->mutex);
	return uhmm__mirror_fault(mirror, index << UHMM_PAGE_SHIFT, end, true, false);
}

/*
 * Where the faulting of an access to [start, end) would begin if the device has pages before that for
 * its atomics, else @start. What the device has that way it need not fault in, and a fault would take
 * it away again.
 */
static uhmm_vaddr_t faults_from(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end,
				bool write)
{
	uint64_t first = start >> UHMM_PAGE_SHIFT, index = first, last = end >> UHMM_PAGE_SHIFT;
	bool atomic;

	uhmm__mutex_lock(&mirror->mutex);
	while (index < last && dpt_permits(uhmm__radix_load(&mirror->pt, index), write))
		index++;
	atomic = uhmm__mirror_has_atomic(mirror, first, index);
	uhmm__mutex_unlock(&mirror->mutex);
	return atomic ? index << UHMM_PAGE_SHIFT : start;
}

/* The migrating half of MIGRATE_ON_FAULT_TO_DEV: each window by one combined walk. */
static int migrate_on_fault(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
			    uhmm_vaddr_t end, bool write)
{
	const uint64_t req = UHMM_HMM_PFN_REQ_FAULT | (write ? UHMM_HMM_PFN_REQ_WRITE : 0);
	uhmm_vaddr_t addr = start, next, from;
	struct uhmm_vma *vma;
	int err = write ? fault_own_readonly(mirror, start, end) : 0;

	if (err)
		return err;
	from = faults_from(mirror, start, end, write);
	while (addr < end) {
		mmap_read_lock(mirror->mm);
		vma = window_vma(mirror->mm, addr, end, &next);
		if (!vma)
			err = -EFAULT; /* as a device fault there */
		else if (vma->flags & UHMM__VM_SPECIAL)
			err = -EINVAL; /* as a migration */
		mmap_read_unlock(mirror->mm);
		if (err)
			return err;
		if (addr < from)
			next = MIN(next, from);
		err = uhmm__window_combined(mirror, w, addr, next, addr < from ? 0 : req, true);
		/* The VMA changed meanwhile: look again. */
		if (err == -EINVAL) {
			err = 0;
			continue;
		}
		if (err)
			return err;
		/* What a write fault puts where nothing was, the device may write. */
		uhmm__window_to_device(mirror, w, write, true);
		mmap_read_unlock(mirror->mm);
		addr = next;
	}
	return fault_rest(mirror, start, end, write);
}

int uhmm__mirror_read_back(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd)
{
	cmd->cpages = access_mirror(mirror, cmd->addr, cmd->npages, cmd->ptr, false);
	if (cmd->cpages != cmd->npages)
		return -ENOENT;
	return cmd->ptr ? 0 : -EFAULT;
}

/* MIGRATE_TO_DEV and its combined form: migrate, then read back what the device now has. */
static int op_to_device(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd,
			enum uhmm_mirror_op op)
{
	struct uhmm_machine *m = mirror->dev->machine;
	uhmm_vaddr_t end = cmd->addr + (cmd->npages << UHMM_PAGE_SHIFT);
	struct uhmm__window *w;
	int err;

	if (!uhmm_mmget_not_zero(mirror->mm))
		return -EINVAL;
	w = uhmm__alloc(m, sizeof(*w));
	if (!w)
		err = -ENOMEM;
	else if (op == UHMM_MIRROR_MIGRATE_TO_DEV)
		err = migrate_to_device(mirror, w, cmd->addr, end);
	else
		err = migrate_on_fault(mirror, w, cmd->addr, end,
				       op == UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV);
	uhmm__free(m, w, sizeof(*w));
	uhmm_mmput(mirror->mm);
	if (err)
		return err;
	return uhmm__mirror_read_back(mirror, cmd);
}

int uhmm__mirror_to_sys(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end,
			uint64_t *cpages)
{
	struct uhmm_machine *m = mirror->dev->machine;
	struct uhmm__window *w;
	uhmm_vaddr_t addr, next;
	int err = 0;

	if (!uhmm_mmget_not_zero(mirror->mm))
		return -EINVAL;
	w = uhmm__alloc(m, sizeof(*w));
	if (!w) {
		uhmm_mmput(mirror->mm);
		return -ENOMEM;
	}
	mmap_read_lock(mirror->mm);
	for (addr = start; addr < end && !err; addr = next) {
		struct uhmm_vma *vma = window_vma(mirror->mm, addr, end, &next);

		if (!vma) {
			err = -EINVAL;
			break;
		}
		uhmm__window_args(mirror, w, addr, next,
				  uhmm__device_select(mirror->dev) |
					  UHMM_MIGRATE_VMA_SELECT_COMPOUND);
		w->args.vma = vma;
		err = uhmm_migrate_vma_setup(&w->args);
		if (err)
			break;
		err = uhmm__window_to_ram(mirror->dev, mirror, &w->args);
		if (err)
			break;
		for (uint64_t i = 0; i < w->args.npages; i++)
			*cpages += (w->src[i] & UHMM_MIGRATE_PFN_VALID) &&
				   (w->src[i] & UHMM_MIGRATE_PFN_MIGRATE);
		uhmm_migrate_vma_finalize(&w->args);
	}
	mmap_read_unlock(mirror->mm);
	uhmm__free(m, w, sizeof(*w));
	uhmm_mmput(mirror->mm);
	return err;
}

/* ---- SNAPSHOT ---- */

/* Models: dmirror_mkentry(). */
static uint8_t snapshot_byte(struct uhmm_mirror *mirror, uint64_t v)
{
	struct uhmm_machine *m = mirror->dev->machine;
	uhmm_pfn_t pfn = uhmm_hmm_pfn_to_pfn(v);
	uint8_t perm;

	if (v & UHMM_HMM_PFN_ERROR)
		return UHMM_PROT_ERROR;
	if (!(v & UHMM_HMM_PFN_VALID))
		return UHMM_PROT_NONE;
	if (uhmm_is_device_private_page(m, pfn))
		perm = uhmm__device_owns(mirror->dev, pfn) ? UHMM_PROT_DEV_PRIVATE_LOCAL
							   : UHMM_PROT_DEV_PRIVATE_REMOTE;
	else if (uhmm_is_device_coherent_page(m, pfn))
		perm = uhmm__device_owns(mirror->dev, pfn) ? UHMM_PROT_DEV_COHERENT_LOCAL
							   : UHMM_PROT_DEV_COHERENT_REMOTE;
	else
		perm = uhmm_is_zero_pfn(m, pfn) ? UHMM_PROT_ZERO : UHMM_PROT_NONE;
	perm |= v & UHMM_HMM_PFN_WRITE ? UHMM_PROT_WRITE : UHMM_PROT_READ;
	if (uhmm_hmm_pfn_to_map_order(v) == UHMM_PMD_ORDER)
		perm |= UHMM_PROT_PMD;
	return perm;
}

/* Only the sequence counts: any invalidation spoils the whole snapshot. */
static bool snapshot_invalidate(struct uhmm_mmu_interval_notifier *mni,
				const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	struct uhmm_mirror *mirror = uhmm_mmu_interval_data(mni);

	if (range->blockable)
		uhmm__mutex_lock(&mirror->mutex);
	else if (!uhmm__mutex_trylock(&mirror->mutex))
		return false;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	uhmm__mutex_unlock(&mirror->mutex);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops snapshot_ops = {
	.invalidate = snapshot_invalidate,
};

/* Models: dmirror_range_snapshot(). */
static int snapshot_range(struct uhmm_mirror *mirror, struct uhmm_hmm_range *range, uint8_t *perm)
{
	uint64_t n = (range->end - range->start) >> UHMM_PAGE_SHIFT;
	int err = uhmm_mmu_interval_notifier_insert(mirror->mm, range->start,
						    range->end - range->start, &snapshot_ops,
						    mirror, &range->notifier);

	if (err)
		return err;
	if (range->end > UHMM_TASK_SIZE) {
		memset(perm, UHMM_PROT_ERROR, n);
	} else {
		err = fault_range(mirror, range, false);
		for (uint64_t i = 0; i < n && !err; i++)
			perm[i] = snapshot_byte(mirror, range->hmm_pfns[i]);
		if (!err)
			uhmm__mutex_unlock(&mirror->mutex);
	}
	uhmm_mmu_interval_notifier_remove(range->notifier);
	return err;
}

static int op_snapshot(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd)
{
	uhmm_vaddr_t end = cmd->addr + (cmd->npages << UHMM_PAGE_SHIFT);
	uint64_t pfns[BATCH] = { 0 };
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.hmm_pfns = pfns,
		.dev_private_owner = mirror->dev,
	};
	uint8_t *out = cmd->ptr;
	int err = 0;

	if (!uhmm_mmget_not_zero(mirror->mm))
		return -EINVAL;
	if (!out)
		err = -EFAULT;
	for (uhmm_vaddr_t addr = cmd->addr; addr < end && !err; addr = range.end) {
		range.start = addr;
		range.end = MIN(addr + BATCH * UHMM_PAGE_SIZE, end);
		err = snapshot_range(mirror, &range, out + cmd->cpages);
		if (!err)
			cmd->cpages += (range.end - addr) >> UHMM_PAGE_SHIFT;
	}
	uhmm_mmput(mirror->mm);
	return err;
}

/* ---- dispatch ---- */

static int do_op(struct uhmm_mirror *mirror, enum uhmm_mirror_op op, struct uhmm_mirror_cmd *cmd)
{
	uhmm_vaddr_t end = cmd->addr + (cmd->npages << UHMM_PAGE_SHIFT);
	int64_t left;

	switch (op) {
	case UHMM_MIRROR_READ:
		return op_access(mirror, cmd, false, false);
	case UHMM_MIRROR_READ_UNLOCKED:
		return op_access(mirror, cmd, false, true);
	case UHMM_MIRROR_WRITE:
		return op_access(mirror, cmd, true, false);
	case UHMM_MIRROR_MIGRATE_TO_DEV:
	case UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV:
	case UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV:
		return op_to_device(mirror, cmd, op);
	case UHMM_MIRROR_MIGRATE_TO_SYS:
		return uhmm__mirror_to_sys(mirror, cmd->addr, end, &cmd->cpages);
	case UHMM_MIRROR_SNAPSHOT:
		return op_snapshot(mirror, cmd);
	case UHMM_MIRROR_RELEASE:
		left = uhmm_devmem_evict_all(mirror->dev->pool, true);
		return left < 0 ? (int)left : 0;
	case UHMM_MIRROR_FLAGS:
		store_relaxed(&mirror->flags, cmd->npages);
		return 0;
	case UHMM_MIRROR_EXCLUSIVE:
		return uhmm__op_exclusive(mirror, cmd);
	case UHMM_MIRROR_CHECK_EXCLUSIVE:
		return uhmm__op_check_exclusive(mirror, cmd);
	}
	return -EINVAL;
}

int uhmm_mirror_ioctl(struct uhmm_mirror *mirror, enum uhmm_mirror_op op,
		      struct uhmm_mirror_cmd *cmd)
{
	struct uhmm_mirror_cmd c = *cmd;
	int err;

	if (!uhmm__current() || c.addr & ~UHMM_PAGE_MASK)
		return -EINVAL;
	/* A check of ranges, which the test driver makes of FLAGS as well. */
	if (c.addr >= c.addr + (c.npages << UHMM_PAGE_SHIFT) &&
	    !(op == UHMM_MIRROR_FLAGS && !c.npages && mirror->dev->clearable_flags))
		return -EINVAL;
	c.cpages = 0;
	c.faults = 0;
	err = do_op(mirror, op, &c);
	if (!err)
		*cmd = c;
	uhmm__exit_to_user();
	return err;
}
