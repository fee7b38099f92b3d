/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pin.h - a process's pages for somebody else: references (a look) and pins (a device reads or
 * writes the page behind the page tables' back).
 *
 * A pin counts 1024 references, so that a folio that may be pinned can be told from one that has
 * references: it is not made shared by fork and its entry is not replaced by a migration entry. A
 * reference merely makes the migration fail later.
 */
#ifndef UHMM_PIN_H
#define UHMM_PIN_H

#include <uhmm/mm.h>

UHMM_BEGIN_DECLS

#define UHMM_FOLL_WRITE 0x1U	/* for writing: copies on write are made now */
#define UHMM_FOLL_NOFAULT 0x20U /* only what is there */
/* Pins: may be kept for long. Pages are moved first to where they may stay: out of coherent memory. */
#define UHMM_FOLL_LONGTERM 0x100U
#define UHMM_FOLL_HONOR_NUMA_FAULT 0x1000U /* a NUMA-hint entry must be faulted first */

/**
 * uhmm_pin_user_pages() - pin pages of a process
 * @mm: mm
 * @start: page-aligned
 * @npages: pages
 * @flags: UHMM_FOLL_*
 * @pages: (out) pfns, @npages
 * Returns: number of pages pinned, fewer than @npages if a later one could not be had; or, for the
 * first, -EFAULT no VMA, no permission, NOFAULT and not there, a page that cannot be had, LONGTERM and
 * WRITE of a shared mapping of a regular file; -EEXIST a driver's frame without a page; -ENOMEM;
 * -EBUSY LONGTERM and a device-coherent page would not move; -EINVAL unknown flags, bad range.
 * Context: no lock held; takes mmap_lock for reading and may drop it in between; sleeps; faults.
 * Lifetime: unpin each with uhmm_unpin_user_pages(). The zero page is not counted.
 * Models: mm/gup.c:pin_user_pages_unlocked(), full but for FOLL_FORCE.
 */
UHMM_API int64_t uhmm_pin_user_pages(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
				     unsigned int flags, uhmm_pfn_t *pages) UHMM_MUST_CHECK;

/**
 * uhmm_pin_user_pages_fast() - the same, without any lock as far as that goes
 * A page that is there with the rights asked for is pinned first, and the entry then read again: if
 * it has changed the pin is given back, and the slow way taken. Whoever makes a page shared, or
 * unmaps it, clears the entry first and then looks for pins (museum M11).
 * The rest as uhmm_pin_user_pages(). Models: mm/gup.c:pin_user_pages_fast().
 */
UHMM_API int64_t uhmm_pin_user_pages_fast(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
					  unsigned int flags, uhmm_pfn_t *pages) UHMM_MUST_CHECK;

/**
 * uhmm_unpin_user_pages() - give pins back
 * @m: machine
 * @pages: what a pin call gave
 * @npages: number of them
 * Context: any. Models: unpin_user_pages().
 */
UHMM_API void uhmm_unpin_user_pages(struct uhmm_machine *m, const uhmm_pfn_t *pages,
				    uint64_t npages);

/**
 * uhmm_get_user_pages() - take references to pages of a process
 * @flags: UHMM_FOLL_* but LONGTERM, which is -EINVAL: that needs pins
 * The rest as uhmm_pin_user_pages(), with uhmm_put_user_pages().
 * Models: mm/gup.c:get_user_pages_unlocked().
 */
UHMM_API int64_t uhmm_get_user_pages(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
				     unsigned int flags, uhmm_pfn_t *pages) UHMM_MUST_CHECK;

/** uhmm_get_user_pages_fast() - as uhmm_pin_user_pages_fast(), but references. */
UHMM_API int64_t uhmm_get_user_pages_fast(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
					  unsigned int flags, uhmm_pfn_t *pages) UHMM_MUST_CHECK;

/** uhmm_put_user_pages() - give references back. Models: put_page(). */
UHMM_API void uhmm_put_user_pages(struct uhmm_machine *m, const uhmm_pfn_t *pages, uint64_t npages);

UHMM_END_DECLS

#endif /* UHMM_PIN_H */
