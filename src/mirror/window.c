// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Moving one window of pages: the driver's side of a migration. Models:
 * lib/test_hmm.c:dmirror_migrate_alloc_and_copy(), dmirror_migrate_finalize_and_map(),
 * dmirror_devmem_fault_alloc_and_copy() and dmirror_devmem_fault().
 */
#include "mirror/mirror.h"

#include "core/alloc.h"

static void mirror_get(void *data)
{
	struct uhmm_mirror *mirror = data;

	atomic_fetch_add_explicit(&mirror->refs, 1, memory_order_relaxed);
}

static bool take_fail_alloc(struct uhmm_mirror *mirror)
{
	if (likely(!(load_relaxed(&mirror->flags) & UHMM_MIRROR_FLAG_FAIL_ALLOC)))
		return false;
	return atomic_fetch_and_explicit(&mirror->flags, ~UHMM_MIRROR_FLAG_FAIL_ALLOC,
					 memory_order_relaxed) &
	       UHMM_MIRROR_FLAG_FAIL_ALLOC;
}

/* A device page, evicting others if it must; 0 if there is none to be had. */
static uhmm_pfn_t device_page(struct uhmm_mirror *mirror, struct uhmm__window *w)
{
	struct uhmm_devmem *pool = mirror->dev->pool;
	uhmm_pfn_t pfn;
	int64_t left;
	int err;

	if (take_fail_alloc(mirror))
		return 0;
	err = uhmm_devmem_alloc(pool, mirror, &pfn);
	if (unlikely(err == -ENOSPC)) {
		/* Some more than one: the next fault will want room, too. */
		left = uhmm_devmem_evict(pool, WINDOW_PAGES / 8);
		if (left > 0)
			w->evicted += left;
		err = uhmm_devmem_alloc(pool, mirror, &pfn);
	}
	return err ? 0 : pfn;
}

/*
 * The pages are locked and unmapped from the CPU; now take them from the device as well, so that it
 * cannot write to the old ones while they are copied. What does not move gets its entry back.
 *
 * mmap_lock keeps the range mapped, but not MADV_DONTNEED from removing the migration entries: the
 * new pages would be freed with the device still having them. So from here on an invalidation of the
 * window spoils it (mirror_invalidate()), and so does one that is under way already.
 */
static void save_entries(struct uhmm_mirror *mirror, struct uhmm__window *w)
{
	uint64_t first = w->args.start >> UHMM_PAGE_SHIFT, *leaf = NULL;
	unsigned long seq;

	uhmm__mutex_lock(&mirror->mutex);
	w->stale = !uhmm__interval_try_begin(mirror->notifier, &seq);
	list_add(&w->list, &mirror->windows);
	for (uint64_t i = 0; i < w->args.npages; i++) {
		uint64_t index = first + i;

		/* A leaf goes when its last entry is erased. */
		if (!i || !(index & UHMM__RADIX_MASK) || w->saved[i - 1])
			leaf = uhmm__radix_leaf(&mirror->pt, index);
		w->saved[i] = 0;
		if (leaf && leaf[index & UHMM__RADIX_MASK] &&
		    w->src[i] & UHMM_MIGRATE_PFN_MIGRATE)
			w->saved[i] = uhmm__radix_erase(&mirror->pt, index);
	}
	uhmm__mutex_unlock(&mirror->mutex);
}

static void copy_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w)
{
	struct uhmm_machine *m = mirror->dev->machine;

	for (uint64_t i = 0; i < w->args.npages; i++) {
		uint64_t src = w->src[i];
		uhmm_pfn_t pfn;

		if (!(src & UHMM_MIGRATE_PFN_MIGRATE))
			continue;
		pfn = device_page(mirror, w);
		if (!pfn)
			continue;
		w->dst[i] = uhmm_migrate_pfn(pfn) | (src & UHMM_MIGRATE_PFN_WRITE);
		if (src & UHMM_MIGRATE_PFN_VALID)
			uhmm_copy_highpage(m, pfn, uhmm_migrate_pfn_to_pfn(src));
		else
			uhmm_clear_highpage(m, pfn);
	}
}

/*
 * Enter what moved into the device's tables, and what did not move as it was before. In a spoilt
 * window nothing is entered: the device faults again.
 */
static void map_on_device(struct uhmm_mirror *mirror, struct uhmm__window *w, bool write_new)
{
	uint64_t first = w->args.start >> UHMM_PAGE_SHIFT;

	/* The device may write no more than the process. */
	write_new &= !!(w->args.vma->flags & UHMM_VM_WRITE);
	uhmm__mutex_lock(&mirror->mutex);
	list_del(&w->list);
	for (uint64_t i = 0; i < w->args.npages; i++) {
		bool write = w->dst[i] & UHMM_MIGRATE_PFN_WRITE;
		uint64_t entry = 0;

		if (w->src[i] & UHMM_MIGRATE_PFN_MIGRATE && w->dst[i]) {
			w->moved++;
			write |= write_new && !(w->src[i] & UHMM_MIGRATE_PFN_VALID);
			entry = dpt_entry(uhmm_migrate_pfn_to_pfn(w->dst[i]), write);
		} else {
			entry = w->saved[i];
		}
		/* Without memory for an entry the device faults again, too. */
		if (entry && !w->stale &&
		    uhmm__radix_store(&mirror->pt, first + i, entry))
			break;
	}
	uhmm__mutex_unlock(&mirror->mutex);
}

void uhmm__window_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w, bool write_new)
{
	save_entries(mirror, w);
	copy_to_device(mirror, w);
	uhmm_migrate_vma_pages(&w->args);
	map_on_device(mirror, w, write_new);
	uhmm_migrate_vma_finalize(&w->args);
}

/* ---- to RAM ---- */

static void erase_entry(struct uhmm_mirror *mirror, uint64_t index)
{
	if (!mirror)
		return;
	uhmm__mutex_lock(&mirror->mutex);
	uhmm__radix_erase(&mirror->pt, index);
	uhmm__mutex_unlock(&mirror->mutex);
}

/* The mirror of this process, where it has one: its notifier ignores what its device migrates. */
static struct uhmm_mirror *mirror_of_mm(struct uhmm_device *dev, struct uhmm_mm *mm)
{
	struct uhmm_mirror *mirror, *found = NULL;

	uhmm__spin_lock(&dev->lock);
	uhmm__for_each_entry (mirror, &dev->mirrors, list) {
		if (mirror->mm != mm)
			continue;
		mirror_get(mirror);
		found = mirror;
		break;
	}
	uhmm__spin_unlock(&dev->lock);
	return found;
}

/*
 * Allocate and copy. @mirror: whose FAIL_ALLOC counts, may be NULL. Returns: 0 or -ENOMEM, with the
 * rest of dst[] empty. Models: dmirror_devmem_fault_alloc_and_copy().
 */
static int copy_to_ram(struct uhmm_device *dev, struct uhmm_mirror *mirror,
		       struct uhmm_migrate_vma *args)
{
	struct uhmm_machine *m = dev->machine;
	struct uhmm_mm *mm = uhmm_vma_mm(args->vma);
	struct uhmm_mirror *own = mirror && mirror->mm == mm ? NULL : mirror_of_mm(dev, mm);
	int err = 0;

	for (uint64_t i = 0; i < args->npages && !err; i++) {
		uint64_t src = args->src[i], index = (args->start >> UHMM_PAGE_SHIFT) + i;
		uhmm_pfn_t pfn;

		if (!(src & UHMM_MIGRATE_PFN_VALID) || !(src & UHMM_MIGRATE_PFN_MIGRATE))
			continue;
		if (mirror && take_fail_alloc(mirror))
			err = -ENOMEM;
		else
			err = uhmm_alloc_locked_page(m, &pfn);
		if (err)
			break;
		/* Before the copy, so that the device writes no more; even if the move fails. */
		erase_entry(mirror, index);
		erase_entry(own, index);
		args->dst[i] = uhmm_migrate_pfn(pfn) | (src & UHMM_MIGRATE_PFN_WRITE);
		uhmm_copy_highpage(m, pfn, uhmm_migrate_pfn_to_pfn(src));
	}
	uhmm__mirror_put(own);
	return err;
}

int uhmm__window_to_ram(struct uhmm_device *dev, struct uhmm_mirror *mirror,
			struct uhmm_migrate_vma *args)
{
	int err = copy_to_ram(dev, mirror, args);

	if (err) {
		/* What was copied is not moved: destinations are given back unused. */
		for (uint64_t i = 0; i < args->npages; i++)
			args->src[i] &= ~UHMM_MIGRATE_PFN_MIGRATE;
		uhmm_migrate_vma_finalize(args);
		return err;
	}
	uhmm_migrate_vma_pages(args);
	return 0;
}

/*
 * Models: dmirror_devmem_fault(): one page. The page leads to the mirror of the process that put it
 * there, which need not be the one that faults.
 */
int uhmm__device_migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct uhmm_device *dev = data;
	struct uhmm_mirror *mirror = uhmm__devmem_page_data_get(dev->pool, vmf->page, mirror_get);
	uint64_t src = 0, dst = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.vma = vmf->vma,
		.src = &src,
		.dst = &dst,
		.start = vmf->address,
		.end = vmf->address + UHMM_PAGE_SIZE,
		.pgmap_owner = dev,
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = vmf->page,
	};
	int ret = 0;

	if (uhmm_migrate_vma_setup(&args)) {
		ret = UHMM_VM_FAULT_SIGBUS;
	} else if (uhmm__window_to_ram(dev, mirror, &args)) {
		ret = UHMM_VM_FAULT_OOM;
	} else {
		uhmm_migrate_vma_finalize(&args);
	}
	uhmm__mirror_put(mirror);
	return ret;
}
