// SPDX-License-Identifier: LGPL-2.1-or-later
/* The operations for device atomics. Models: lib/test_hmm.c:dmirror_exclusive() and below. */
#include <uhmm/exclusive.h>

#include "mirror/mirror.h"

/*
 * The page's lock keeps it from being taken back, but not from being unmapped: then the device does not
 * get it, and the reading back says so. Models: dmirror_atomic_map().
 */
static int atomic_map(struct uhmm_mirror *mirror, struct uhmm__device_walk *walk, uhmm_pfn_t pfn)
{
	int err = 0;

	uhmm__mutex_lock(&mirror->mutex);
	uhmm__device_walk_end(walk);
	if (likely(!uhmm__device_walk_spoilt(walk)))
		err = uhmm__radix_store(&mirror->pt, walk->start >> UHMM_PAGE_SHIFT,
					dpt_atomic_entry(pfn));
	uhmm__mutex_unlock(&mirror->mutex);
	return err;
}

/* One page. Returns: as make_device_exclusive(). */
static int make_page_exclusive(struct uhmm_mirror *mirror, uhmm_vaddr_t addr)
{
	struct uhmm__device_walk walk;
	uhmm_pfn_t pfn;
	int err;

	uhmm__device_walk_begin(mirror, &walk, addr, addr + UHMM_PAGE_SIZE);
	(void)uhmm_mmu_interval_read_begin(mirror->notifier);
	/* Without an owner, as there: the mirror's own entry goes, too, and comes anew. */
	err = uhmm_make_device_exclusive(mirror->mm, addr, NULL, &pfn);
	if (err) {
		uhmm__mutex_lock(&mirror->mutex);
		uhmm__device_walk_end(&walk);
		uhmm__mutex_unlock(&mirror->mutex);
		return err;
	}
	err = atomic_map(mirror, &walk, pfn);
	uhmm_unlock_put_page(mirror->dev->machine, pfn);
	return err;
}

static int make_exclusive(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	int err = 0;

	mmap_read_lock(mirror->mm);
	for (uhmm_vaddr_t addr = start; addr < end && !err; addr += UHMM_PAGE_SIZE) {
		err = make_page_exclusive(mirror, addr);
	}
	mmap_read_unlock(mirror->mm);
	return err;
}

int uhmm__op_exclusive(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd)
{
	uhmm_vaddr_t end = cmd->addr + (cmd->npages << UHMM_PAGE_SHIFT);
	int err;

	if (!uhmm_mmget_not_zero(mirror->mm))
		return -EINVAL;
	err = make_exclusive(mirror, cmd->addr, end);
	uhmm_mmput(mirror->mm);
	return err ? err : uhmm__mirror_read_back(mirror, cmd);
}

/* Models: dmirror_check_atomic(). */
int uhmm__op_check_exclusive(struct uhmm_mirror *mirror, const struct uhmm_mirror_cmd *cmd)
{
	uint64_t first = cmd->addr >> UHMM_PAGE_SHIFT;
	bool any;

	uhmm__mutex_lock(&mirror->mutex);
	any = uhmm__mirror_has_atomic(mirror, first, first + cmd->npages);
	uhmm__mutex_unlock(&mirror->mutex);
	return any ? -EPERM : 0;
}

bool uhmm__mirror_has_atomic(struct uhmm_mirror *mirror, uint64_t index, uint64_t last)
{
	const uint64_t *leaf = NULL;

	for (uint64_t first = index; index < last; index++) {
		if (index == first || !(index & UHMM__RADIX_MASK))
			leaf = uhmm__radix_leaf(&mirror->pt, index);
		if (!leaf) {
			index |= UHMM__RADIX_MASK;
			continue;
		}
		if (dpt_is_atomic(leaf[index & UHMM__RADIX_MASK]))
			return true;
	}
	return false;
}
