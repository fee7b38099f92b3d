// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The fault service of the simulated GPU: single accesses, with the pages around a fault moved to the
 * device by one of three strategies.
 */
#include <string.h>

#include "core/alloc.h"
#include "mirror/mirror.h"

static const char *const strategy_names[UHMM_NR_STRATEGIES] = {
	[UHMM_FAULT_THEN_MIGRATE] = "fault-then-migrate",
	[UHMM_MIGRATE_FAULT_MIGRATE] = "migrate-fault-migrate",
	[UHMM_COMBINED] = "combined",
};

const char *uhmm_strategy_name(enum uhmm_strategy s)
{
	return (unsigned int)s < UHMM_NR_STRATEGIES ? strategy_names[s] : NULL;
}

/* One access by the device's tables. False: it faults. */
static bool try_access(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, bool write, uint64_t *buf,
		       bool *remote)
{
	struct uhmm_machine *m = mirror->dev->machine;
	size_t off = addr & ~UHMM_PAGE_MASK & ~7UL;
	uint64_t entry;
	uhmm_pfn_t pfn;
	bool ok;

	uhmm__mutex_lock(&mirror->mutex);
	entry = uhmm__radix_load(&mirror->pt, addr >> UHMM_PAGE_SHIFT);
	ok = dpt_permits(entry, write);
	if (ok) {
		uhmm__check_device_entry(mirror, entry);
		pfn = dpt_pfn(entry);
		*remote = !uhmm__device_owns(mirror->dev, pfn);
		if (!*remote)
			uhmm_devmem_touch(mirror->dev->pool, pfn);
		if (buf && write)
			write_page(m, pfn, off, buf, sizeof(*buf));
		else if (buf)
			uhmm_page_read(m, pfn, off, buf, sizeof(*buf));
	}
	uhmm__mutex_unlock(&mirror->mutex);
	return ok;
}

static int setup_window(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
			uhmm_vaddr_t end)
{
	uhmm__window_args(mirror, w, start, end,
			  UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_COMPOUND);
	w->args.vma = vma_lookup_cached(mirror->mm, start);
	return uhmm__window_setup(mirror, w);
}

/* migrate_vma_* over the range as it is now: one walk. */
static int migrate_once(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
			uhmm_vaddr_t end)
{
	int err;

	mmap_read_lock(mirror->mm);
	err = setup_window(mirror, w, start, end);
	if (!err)
		uhmm__window_to_device(mirror, w, true, true);
	mmap_read_unlock(mirror->mm);
	return err;
}

/*
 * Whether a collected window lacks what the access needs: a page that was not collected and that the
 * device does not have yet, or has only for its atomics, or one that must be copied before it is
 * written.
 */
static bool needs_fault(struct uhmm_mirror *mirror, struct uhmm__window *w, bool write)
{
	uint64_t first = w->args.start >> UHMM_PAGE_SHIFT;
	bool need = false;

	uhmm__mutex_lock(&mirror->mutex);
	for (uint64_t i = 0; i < w->args.npages && !need; i++) {
		uint64_t src = w->src[i];

		if (!(src & UHMM_MIGRATE_PFN_MIGRATE)) {
			uint64_t entry = uhmm__radix_load(&mirror->pt, first + i);

			need = !dpt_permits(entry, write) || dpt_is_atomic(entry);
		} else if (src & UHMM_MIGRATE_PFN_VALID) {
			need = write && !(src & UHMM_MIGRATE_PFN_WRITE);
		}
	}
	uhmm__mutex_unlock(&mirror->mutex);
	return need;
}

static int fault_then_migrate(struct uhmm_mirror *mirror, struct uhmm__window *w,
			      uhmm_vaddr_t start, uhmm_vaddr_t end, bool write)
{
	int err = uhmm__mirror_fault_walk(mirror, w->src, start, end, write);

	return err ? err : migrate_once(mirror, w, start, end);
}

/* The range is writable, or it is refused as a fault would be. */
static int check_access(struct uhmm_mirror *mirror, uhmm_vaddr_t start, bool write)
{
	struct uhmm_vma *vma;
	int err = 0;

	mmap_read_lock(mirror->mm);
	vma = vma_lookup_cached(mirror->mm, start);
	if (!vma || !(vma->flags & UHMM_VM_READ))
		err = -EFAULT;
	else if (write && !(vma->flags & UHMM_VM_WRITE))
		err = -EPERM;
	mmap_read_unlock(mirror->mm);
	return err;
}

static int migrate_fault_migrate(struct uhmm_mirror *mirror, struct uhmm__window *w,
				 uhmm_vaddr_t start, uhmm_vaddr_t end, bool write)
{
	bool again = false;
	int err;

	mmap_read_lock(mirror->mm);
	err = setup_window(mirror, w, start, end);
	if (!err) {
		again = needs_fault(mirror, w, write);
		if (again)
			uhmm__window_cancel(mirror, w);
		else
			uhmm__window_to_device(mirror, w, true, true);
	}
	mmap_read_unlock(mirror->mm);
	if (err || !again)
		return err;
	return fault_then_migrate(mirror, w, start, end, write);
}

static int combined(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
		    uhmm_vaddr_t end, bool write)
{
	const uint64_t req = UHMM_HMM_PFN_REQ_FAULT | (write ? UHMM_HMM_PFN_REQ_WRITE : 0);
	int err = uhmm__window_combined(mirror, w, start, end, req, false);

	if (err)
		return err;
	uhmm__window_to_device(mirror, w, true, true);
	mmap_read_unlock(mirror->mm);
	return 0;
}

static int serve_once(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
		      uhmm_vaddr_t end, bool write, enum uhmm_strategy strategy)
{
	switch (strategy) {
	case UHMM_FAULT_THEN_MIGRATE:
		return fault_then_migrate(mirror, w, start, end, write);
	case UHMM_MIGRATE_FAULT_MIGRATE:
		return migrate_fault_migrate(mirror, w, start, end, write);
	case UHMM_COMBINED:
		return combined(mirror, w, start, end, write);
	default:
		return -EINVAL;
	}
}

static inline bool is_readonly(uint64_t entry)
{
	return entry && !dpt_permits(entry, true);
}

/* The first page in [index, last) that the device may only read, or may not. Context: mutex. */
uhmm_always_inline uint64_t next_readonly(struct uhmm_mirror *mirror, uint64_t index, uint64_t last,
					  bool is)
{
	while (index < last) {
		const uint64_t *leaf = uhmm__radix_leaf(&mirror->pt, index);
		uint64_t end = MIN(last, (index | UHMM__RADIX_MASK) + 1);

		if (!leaf && !is)
			return index;
		for (; leaf && index < end; index++)
			if (is_readonly(leaf[index & UHMM__RADIX_MASK]) == is)
				return index;
		index = end;
	}
	return last;
}

/* The first run of pages in [*start, *end) that the device may only read. False: none. */
uhmm_always_inline bool readonly_run(struct uhmm_mirror *mirror, uhmm_vaddr_t *start,
				     uhmm_vaddr_t *end)
{
	uint64_t last = *end >> UHMM_PAGE_SHIFT, first, index;

	uhmm__mutex_lock(&mirror->mutex);
	first = next_readonly(mirror, *start >> UHMM_PAGE_SHIFT, last, true);
	index = first < last ? next_readonly(mirror, first, last, false) : last;
	uhmm__mutex_unlock(&mirror->mutex);
	*start = first << UHMM_PAGE_SHIFT;
	*end = index << UHMM_PAGE_SHIFT;
	return first < index;
}

/*
 * A range walk never faults a page of the device's own, not even for a write to one that is mapped
 * read-only, as after fork: it must be copied, which only RAM can. Bring such pages home: [start, end),
 * and what there is of them up to @last.
 */
static uhmm_noinline int readonly_home(struct uhmm_mirror *mirror, uhmm_vaddr_t start,
				       uhmm_vaddr_t end, uhmm_vaddr_t last)
{
	uint64_t cpages = 0;
	int err;

	do {
		err = uhmm__mirror_to_sys(mirror, start, end, &cpages);
		start = end;
		end = last;
	} while (!err && readonly_run(mirror, &start, &end));
	return err;
}

static int serve_all(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
		     uhmm_vaddr_t end, bool write, enum uhmm_strategy strategy)
{
	uhmm_vaddr_t first = start, last = end;
	int err = serve_once(mirror, w, start, end, write, strategy);

	/* Whichever strategy it is, the device may now write to the whole range; most often all says so. */
	if (err || !write || likely(w->tags == DPT_WRITE) ||
	    likely(!readonly_run(mirror, &first, &last)))
		return err;
	err = readonly_home(mirror, first, last, end);
	return err ? err : serve_once(mirror, w, start, end, write, strategy);
}

static int serve(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
		 uhmm_vaddr_t end, bool write, enum uhmm_strategy strategy)
{
	int err = check_access(mirror, start, write), now;

	if (!err)
		err = serve_all(mirror, w, start, end, write, strategy);
	if (err != -EINVAL)
		return err;
	/* A migration says this of a range that was unmapped meanwhile. */
	now = check_access(mirror, start, write);
	return now ? now : err;
}

/* Serve with a user reference. */
static int serve_range(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write,
		       enum uhmm_strategy strategy, struct uhmm_device_access *out)
{
	struct uhmm__window w; /* 12 KiB */
	int err;

	if (!uhmm_mmget_not_zero(mirror->mm))
		return -EFAULT;
	w.moved = 0;
	w.evicted = 0;
	err = serve(mirror, &w, start, end, write, strategy);
	out->migrated += w.moved;
	out->evicted += w.evicted;
	out->start = start;
	out->end = end;
	uhmm_mmput(mirror->mm);
	return err;
}

int uhmm_mirror_serve(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write,
		      enum uhmm_strategy strategy, struct uhmm_device_access *out)
{
	struct uhmm_device_access local = { 0 };
	int err;

	if (!uhmm__current() || (start | end) & ~UHMM_PAGE_MASK || start >= end ||
	    end > UHMM_TASK_SIZE || (end - start) >> UHMM_PAGE_SHIFT > WINDOW_PAGES ||
	    (unsigned int)strategy >= UHMM_NR_STRATEGIES)
		return -EINVAL;
	local.faulted = true;
	uhmm__count(UHMM_CNT_DEVICE_FAULTS);
	err = serve_range(mirror, start, end, write, strategy, &local);
	if (out)
		*out = local;
	uhmm__exit_to_user();
	return err;
}

/* The range to serve: the granule around @addr, cut to its VMA. */
static int granule(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, uint64_t granularity,
		   uhmm_vaddr_t *start, uhmm_vaddr_t *end)
{
	struct uhmm_vma *vma;
	int err = 0;

	mmap_read_lock(mirror->mm);
	vma = vma_lookup_cached(mirror->mm, addr);
	if (vma && vma->flags & UHMM__VM_SPECIAL) {
		err = -EINVAL;
	} else if (vma) {
		*start = MAX(ALIGN_DOWN(addr, granularity), vma->start);
		*end = MIN(ALIGN_DOWN(addr, granularity) + granularity, vma->end);
	} else {
		err = -EFAULT;
	}
	mmap_read_unlock(mirror->mm);
	return err;
}

/*
 * The service did not give the device what the access needs: the page could not move, or is a shared
 * page of the device that must be copied, which only RAM can. Bring it home and map it there.
 */
static int serve_remote(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, bool write)
{
	uhmm_vaddr_t page = addr & UHMM_PAGE_MASK;
	uint64_t cpages = 0, pfn = 0;
	int err = 0;

	if (write)
		err = uhmm__mirror_to_sys(mirror, page, page + UHMM_PAGE_SIZE, &cpages);
	if (err)
		return err;
	return uhmm__mirror_fault_walk(mirror, &pfn, page, page + UHMM_PAGE_SIZE, write);
}

/*
 * Serve the granule around @addr. VMAs may be cut, unmapped and protected by other threads before
 * the service gets to them: what it says of the pages around is not the answer for this one.
 */
static int serve_granule(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, bool write,
			 enum uhmm_strategy strategy, uint64_t granularity,
			 struct uhmm_device_access *out)
{
	uhmm_vaddr_t start, end;
	int err;

	for (;;) {
		err = granule(mirror, addr, granularity, &start, &end);
		if (err)
			return err;
		err = serve_range(mirror, start, end, write, strategy, out);
		if (err == -EINVAL ||
		    ((err == -EFAULT || err == -EPERM) && granularity > UHMM_PAGE_SIZE))
			granularity = UHMM_PAGE_SIZE;
		else
			return err;
	}
}

int uhmm_mirror_access(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, bool write, uint64_t *buf,
		       enum uhmm_strategy strategy, uint64_t granularity,
		       struct uhmm_device_access *out)
{
	struct uhmm_device_access local = { 0 };
	bool served = false;
	int err = 0;

	if (!uhmm__current() || (unsigned int)strategy >= UHMM_NR_STRATEGIES ||
	    granularity < UHMM_PAGE_SIZE || granularity > WINDOW_PAGES * UHMM_PAGE_SIZE ||
	    granularity & (granularity - 1))
		return -EINVAL;
	uhmm__count(UHMM_CNT_DEVICE_ACCESSES);
	while (!try_access(mirror, addr, write, buf, &local.remote)) {
		/* Served before and still missing: then by RAM, and by the strategy again. */
		if (served) {
			err = serve_remote(mirror, addr, write);
			if (!err && try_access(mirror, addr, write, buf, &local.remote))
				break;
			/* -EINVAL: the VMA went or was protected meanwhile; the service says which. */
			if (err && err != -EBUSY && err != -EINVAL)
				break;
		}
		served = true;
		local.faulted = true;
		uhmm__count(UHMM_CNT_DEVICE_FAULTS);
		err = serve_granule(mirror, addr, write, strategy, granularity, &local);
		if (err)
			break;
	}
	if (out)
		*out = local;
	uhmm__exit_to_user();
	return err;
}
