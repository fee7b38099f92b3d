/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* exclusive.h - pages that only a device may access for a while, for its atomic operations. */
#ifndef UHMM_EXCLUSIVE_H
#define UHMM_EXCLUSIVE_H

#include <uhmm/mm.h>

UHMM_BEGIN_DECLS

/**
 * uhmm_make_device_exclusive() - take a page away from the CPU, leaving it where it is
 * @mm: mm
 * @addr: an address of the page
 * @owner: owner of the MMU_NOTIFY_EXCLUSIVE invalidation that tells the others, NULL allowed
 * @out: (out) the page: locked, with a reference
 * Returns: 0; -EFAULT no VMA, not writable, or a page that cannot be had; -EOPNOTSUPP not an
 * anonymous page; -EEXIST a driver's frame, without a page; -ENOMEM; -EINVAL no current task.
 * Context: mmap_lock for reading; sleeps, faults the page in for writing, runs notifier callbacks.
 * The caller's own callback must know its owner, or the call may go on for ever.
 * Lifetime: enter the page into the device's tables, then uhmm_unlock_put_page(). While it is
 * locked nobody takes it back; afterwards any access by the CPU does, which is a CLEAR invalidation.
 * Models: mm/rmap.c:make_device_exclusive(), full.
 */
UHMM_API int uhmm_make_device_exclusive(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *owner,
					uhmm_pfn_t *out) UHMM_MUST_CHECK;

UHMM_END_DECLS

#endif /* UHMM_EXCLUSIVE_H */
