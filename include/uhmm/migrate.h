/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * migrate.h - moving pages between RAM and device memory.
 *
 * setup collects, locks and unmaps the pages of a range and says in src[] which may move. The
 * caller allocates destinations, copies, and puts them into dst[]. pages moves the identity of each
 * page, finalize turns the migration entries into mappings of whichever page won. mmap_lock is held
 * for reading all the while.
 */
#ifndef UHMM_MIGRATE_H
#define UHMM_MIGRATE_H

#include <uhmm/hmm.h>

UHMM_BEGIN_DECLS

/* Entries of src[] and dst[], as include/linux/migrate.h. */
#define UHMM_MIGRATE_PFN_VALID (1UL << 0)
#define UHMM_MIGRATE_PFN_MIGRATE (1UL << 1)
#define UHMM_MIGRATE_PFN_WRITE (1UL << 3)
#define UHMM_MIGRATE_PFN_COMPOUND (1UL << 4)
#define UHMM_MIGRATE_PFN_SHIFT 6

static inline uint64_t uhmm_migrate_pfn(uhmm_pfn_t pfn)
{
	return pfn << UHMM_MIGRATE_PFN_SHIFT | UHMM_MIGRATE_PFN_VALID;
}

static inline uhmm_pfn_t uhmm_migrate_pfn_to_pfn(uint64_t mpfn)
{
	return mpfn >> UHMM_MIGRATE_PFN_SHIFT;
}

/*
 * COMPOUND: the entry is that of the first page of a large folio, or of a hole of 2 MiB; those of its
 * other pages are 0. A destination of the same size has COMPOUND as well. If dst[] has single pages
 * instead, one at each entry, uhmm_migrate_vma_pages() splits the source.
 */

/* migrate_vma.flags: what may be collected. */
#define UHMM_MIGRATE_VMA_SELECT_SYSTEM (1UL << 0)
#define UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE (1UL << 1)
#define UHMM_MIGRATE_VMA_SELECT_DEVICE_COHERENT (1UL << 2)
/* Whole huge pages as one entry each, see UHMM_MIGRATE_PFN_COMPOUND; else they are split. */
#define UHMM_MIGRATE_VMA_SELECT_COMPOUND (1UL << 3)
/* uhmm_migrate_vma_setup() faults in as well, for reading; with FAULT_WRITE for writing. */
#define UHMM_MIGRATE_VMA_FAULT (1UL << 4)
#define UHMM_MIGRATE_VMA_FAULT_WRITE (1UL << 5)

/* Models: struct migrate_vma. */
struct uhmm_migrate_vma {
	size_t size;	      /* sizeof(struct uhmm_migrate_vma) of the caller */
	struct uhmm_vma *vma; /* filled in by the combined walker */
	uint64_t *dst;	      /* in/out, one per page; dst[] is 0 after setup */
	uint64_t *src;	      /* out, one per page */
	uint64_t cpages;      /* out: entries that may be migrated */
	uint64_t npages;      /* out: entries filled in */
	uhmm_vaddr_t start, end;
	void *pgmap_owner;     /* whose device pages to select; owner of the notifier event */
	uint64_t flags;	       /* UHMM_MIGRATE_VMA_* */
	uhmm_pfn_t fault_page; /* in a migrate_to_ram(): the page of the fault, else 0 */
};

/**
 * uhmm_migrate_vma_setup() - collect, lock and unmap the pages of a range
 * @args: vma, src, dst, start, end, flags (and pgmap_owner, fault_page) are input
 * Returns: 0, even if nothing may be migrated: see cpages and src[]; -EINVAL bad arguments, VMA or
 * range; with FAULT also what uhmm_range_fault() returns, but never -EBUSY. On error nothing is held.
 * Context: mmap_lock held for reading until uhmm_migrate_vma_finalize(); sleeps; calls notifiers.
 * Lifetime: until finalize, which the same task calls, the pages in src[] are locked and referenced.
 * Models: mm/migrate_device.c:migrate_vma_setup(), full for anonymous memory.
 */
UHMM_API int uhmm_migrate_vma_setup(struct uhmm_migrate_vma *args) UHMM_MUST_CHECK;

/**
 * uhmm_migrate_vma_pages() - move the identity of pages
 * @args: dst[] holds the destinations, locked
 * On return src[i] still has MIGRATE where it worked.
 * Context: as setup. Models: migrate_vma_pages().
 */
UHMM_API void uhmm_migrate_vma_pages(struct uhmm_migrate_vma *args);

/**
 * uhmm_migrate_vma_finalize() - map the winners, unlock and release everything
 * @args: as left by uhmm_migrate_vma_pages(); calling it right after setup undoes the setup
 * Context: as setup. Models: migrate_vma_finalize().
 */
UHMM_API void uhmm_migrate_vma_finalize(struct uhmm_migrate_vma *args);

/**
 * uhmm_hmm_pfn_to_migrate_pfn() - what a combined walk said of a page, as an entry of src[]
 * @hmm_pfn: an output entry of a walk with REQ_MIGRATE
 * Returns: the entry, with COMPOUND if @hmm_pfn has an order; 0 if the page was not collected.
 */
UHMM_API uint64_t uhmm_hmm_pfn_to_migrate_pfn(uint64_t hmm_pfn);

/**
 * uhmm_migrate_hmm_range_setup() - finish what uhmm_range_fault() with REQ_MIGRATE began
 * @range: range after success; fills in src, dst, npages and cpages of range->migrate
 * Isolates the pages, unmaps their other mappings, checks references, and puts back what cannot
 * move. Go on as after uhmm_migrate_vma_setup().
 * Context: mmap_lock still held. Models: the posted series.
 */
UHMM_API void uhmm_migrate_hmm_range_setup(struct uhmm_hmm_range *range);

/**
 * uhmm_migrate_device_range() - the same for a run of device pages, wherever they are mapped
 * @m: machine
 * @src: (out) @npages entries, to be given to _pages and _finalize
 * @start: first pfn
 * @npages: pages; of a large folio that does not lie in the range as a whole nothing is collected
 * Returns: 0.
 * Context: sleeps; calls notifiers; no mmap_lock needed. Models: migrate_device_range().
 */
UHMM_API int uhmm_migrate_device_range(struct uhmm_machine *m, uint64_t *src, uhmm_pfn_t start,
				       uint64_t npages);

/**
 * uhmm_migrate_device_pfns() - the same for any device pages
 * @src: (in) pfns, (out) entries; a large folio takes as many as it has pages, the first counts
 * Models: migrate_device_pfns().
 */
UHMM_API int uhmm_migrate_device_pfns(struct uhmm_machine *m, uint64_t *src, uint64_t npages);

/** uhmm_migrate_device_pages() - as uhmm_migrate_vma_pages(). Models: migrate_device_pages(). */
UHMM_API void uhmm_migrate_device_pages(struct uhmm_machine *m, uint64_t *src, uint64_t *dst,
					uint64_t npages);

/** uhmm_migrate_device_finalize() - as uhmm_migrate_vma_finalize(). */
UHMM_API void uhmm_migrate_device_finalize(struct uhmm_machine *m, uint64_t *src, uint64_t *dst,
					   uint64_t npages);

/*
 * ---- pages, as a driver handles destinations and copies ----
 *
 * A pfn is one that the library gave, and the page stays the driver's while it is mapped, under the lock
 * that the driver's invalidation callback takes, or while the driver has a reference or pin. The checked
 * library reports accesses to a page of RAM that was free already (UHMM_REPORT_FREED). A page that went
 * is not free as long as a CPU's LRU batch has it, so not each mistake shows at once. What is in a page
 * of device memory that is free is its driver's business. Contents may be copied, cleared, read and
 * written in any context.
 */

/**
 * uhmm_alloc_locked_page() - a RAM page as destination: one reference, locked, contents undefined
 * @out: (out) its pfn
 * Returns: 0, or -ENOMEM: RAM is used up and nothing can be reclaimed.
 * Context: folio locks may be held, a lock that invalidation callbacks take may not: reclaim calls
 * them.
 */
UHMM_API int uhmm_alloc_locked_page(struct uhmm_machine *m, uhmm_pfn_t *out) UHMM_MUST_CHECK;

/**
 * uhmm_alloc_locked_folio() - the same for 2^order pages
 * @order: UHMM_PMD_ORDER at most
 * @out: (out) pfn of the first; put it into dst[] with UHMM_MIGRATE_PFN_COMPOUND
 * Returns: 0, or -ENOMEM, also when memory is there but not in one piece; -EINVAL @order.
 */
UHMM_API int uhmm_alloc_locked_folio(struct uhmm_machine *m, unsigned int order,
				     uhmm_pfn_t *out) UHMM_MUST_CHECK;

/**
 * uhmm_try_get_page() - a reference to a page by pfn, as eviction by a driver begins
 * @pfn: any page; of a large folio the first
 * Returns: false if it is free, no first page, or no page of @m: then there is none. Context: any. Lifetime: give it
 * back with uhmm_unlock_put_page(), or uhmm_put_user_pages(). Models: get_page_unless_zero().
 */
UHMM_API bool uhmm_try_get_page(struct uhmm_machine *m, uhmm_pfn_t pfn) UHMM_MUST_CHECK;

/**
 * uhmm_lock_page() - the lock of the page's folio
 * Context: a reference; sleeps; not while the folio of another page is locked. Models: lock_page().
 */
UHMM_API void uhmm_lock_page(struct uhmm_machine *m, uhmm_pfn_t pfn);

/** uhmm_unlock_page() - the same lock, given up. Models: unlock_page(). */
UHMM_API void uhmm_unlock_page(struct uhmm_machine *m, uhmm_pfn_t pfn);

/** uhmm_unlock_put_page() - give a destination back that was not used. */
UHMM_API void uhmm_unlock_put_page(struct uhmm_machine *m, uhmm_pfn_t pfn);

/** uhmm_copy_highpage() - copy a page's contents. */
UHMM_API void uhmm_copy_highpage(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src);

/** uhmm_clear_highpage() - fill a page with zeroes. */
UHMM_API void uhmm_clear_highpage(struct uhmm_machine *m, uhmm_pfn_t pfn);

/**
 * uhmm_page_read() - read contents by pfn, as a device does
 * @off, @len: within the page
 */
UHMM_API void uhmm_page_read(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, void *buf,
			     size_t len);

/** uhmm_page_write() - write contents by pfn, as a device does. */
UHMM_API void uhmm_page_write(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, const void *buf,
			      size_t len);

/**
 * uhmm_set_page_dirty() - a device has written to a page
 * @pfn: a page of RAM that hmm_range_fault() found writable and that no invalidation has taken away
 * since, or a device page of the driver's own
 * A page that is writable need not be dirty: it may have come back from swap by a read, with its copy
 * there still good, or have been given up by MADV_FREE. Then nothing but this call tells reclaim what
 * the device did. A driver calls it after its device wrote, at the latest from the invalidation
 * callback or before a device page goes home.
 * Context: the driver's lock, which keeps the page mapped. Models: set_page_dirty().
 */
UHMM_API void uhmm_set_page_dirty(struct uhmm_machine *m, uhmm_pfn_t pfn);

/**
 * uhmm_set_page_dirty_lock() - the same under the folio's lock, for who has only a reference
 * Context: a reference or pin of the page; sleeps on the folio's lock, so that no lock which an
 * invalidation takes may be held. Models: set_page_dirty_lock().
 */
UHMM_API void uhmm_set_page_dirty_lock(struct uhmm_machine *m, uhmm_pfn_t pfn);

/** uhmm_is_device_private_page() - whether a pfn is a device-private page. */
UHMM_API bool uhmm_is_device_private_page(struct uhmm_machine *m, uhmm_pfn_t pfn);

/** uhmm_is_device_coherent_page() - whether a pfn is a device-coherent page. */
UHMM_API bool uhmm_is_device_coherent_page(struct uhmm_machine *m, uhmm_pfn_t pfn);

/** uhmm_is_zero_pfn() - whether a pfn is the zero page. */
UHMM_API bool uhmm_is_zero_pfn(struct uhmm_machine *m, uhmm_pfn_t pfn);

UHMM_END_DECLS

#endif /* UHMM_MIGRATE_H */
