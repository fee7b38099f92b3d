/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gup.h - a process's pages for others: references and pins. Public forms, which know what a
 * long-term pin must not hold, are in migrate/pin.c.
 */
#ifndef UHMM_MM_GUP_H
#define UHMM_MM_GUP_H

#include <uhmm/pin.h>

#include "mm/mm.h"

/* Inside, besides the public UHMM_FOLL_*. One of GET and PIN is always there. */
enum {
	FOLL_WRITE = UHMM_FOLL_WRITE,
	FOLL_NOFAULT = UHMM_FOLL_NOFAULT,
	FOLL_LONGTERM = UHMM_FOLL_LONGTERM,
	FOLL_HONOR_NUMA_FAULT = UHMM_FOLL_HONOR_NUMA_FAULT,
	FOLL_GET = 1 << 16,
	FOLL_PIN = 1 << 17,
	FOLL_TRIED = 1 << 18,	   /* the lock was dropped once: do not drop it again */
	FOLL_UNLOCKABLE = 1 << 19, /* a fault may drop mmap_lock */
	FOLL_SPLIT_PMD = 1 << 20,  /* a huge leaf becomes a table */
};

/**
 * uhmm__get_user_pages() - pages of a range, faulted in where need be
 * @pages: (out) pfns
 * @locked: with FOLL_UNLOCKABLE: set to false if a fault dropped mmap_lock; else NULL
 * Returns: how many, fewer if one could not be had; or what was wrong with the first; 0 if the lock
 * was dropped on the first. Context: mmap_lock for reading. Models: __get_user_pages().
 */
int64_t uhmm__get_user_pages(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
			     unsigned int flags, uhmm_pfn_t *pages, bool *locked);
/* The same from without mmap_lock. Models: __get_user_pages_locked() for callers without a lock. */
int64_t uhmm__get_user_pages_unlocked(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
				      unsigned int flags, uhmm_pfn_t *pages);
/*
 * As many from the start as can be had without any lock. Returns: how many.
 * Models: gup_fast().
 */
uint64_t uhmm__gup_fast(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages, unsigned int flags,
			uhmm_pfn_t *pages);
/* Give back what was had with @flags. Models: gup_put_folio(). */
void uhmm__gup_put(struct uhmm_machine *m, uhmm_pfn_t pfn, unsigned int flags);

#endif /* UHMM_MM_GUP_H */
