/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * devmem.h - device memory: page maps, as a driver registers them, and pools built on them.
 *
 * A free device page has reference count 0. A driver takes one from its free list, makes it live
 * with uhmm_zone_device_page_init() - one reference, locked - and gives it to migrate as a
 * destination. It comes back through folio_free().
 */
#ifndef UHMM_DEVMEM_H
#define UHMM_DEVMEM_H

#include <uhmm/mm.h>

UHMM_BEGIN_DECLS

enum uhmm_memory_type {
	UHMM_MEMORY_DEVICE_PRIVATE,  /* the CPU cannot access it: its entries are not present */
	UHMM_MEMORY_DEVICE_COHERENT, /* the CPU can, as if it were RAM: its entries are present */
};

/* A CPU fault on a device-private page, as a driver gets it. */
struct uhmm_vm_fault {
	struct uhmm_vma *vma;
	uhmm_vaddr_t address; /* page-aligned */
	uhmm_pfn_t page;      /* the page: locked, with a reference for the call */
	bool pte;	      /* the entry is a PTE (not a PMD), though the folio may be large */
};

/* Results of migrate_to_ram(). */
#define UHMM_VM_FAULT_OOM 1
#define UHMM_VM_FAULT_SIGBUS 2

struct uhmm_dev_pagemap_ops {
	/**
	 * folio_free() - a folio's last reference is gone; uhmm_page_order() says how large it was
	 * Context: any lock but the driver's own for its free list; must not sleep.
	 */
	void (*folio_free)(void *data, uhmm_pfn_t pfn);
	/**
	 * migrate_to_ram() - a CPU touched a device-private page
	 * Returns: 0, even if nothing moved (the CPU tries again), or UHMM_VM_FAULT_*.
	 * Context: mmap_lock for reading, no PTL; may sleep. vmf->page is locked; pass it as
	 * migrate_vma.fault_page. Not called for coherent memory: NULL allowed.
	 * Models: dev_pagemap_ops.migrate_to_ram.
	 */
	int (*migrate_to_ram)(void *data, const struct uhmm_vm_fault *vmf);
	/**
	 * folio_split() - a large folio becomes pages; may be NULL
	 * @head: its first page
	 * @tail: each of the others in turn, then 0 for the end
	 * Context: as folio_free(). Models: dev_pagemap_ops.folio_split.
	 */
	void (*folio_split)(void *data, uhmm_pfn_t head, uhmm_pfn_t tail);
};

struct uhmm_dev_pagemap;

/**
 * uhmm_memremap_pages() - make a range of device pages known
 * @m: machine
 * @type: kind of memory
 * @npages: pages; rounded up to 2 MiB
 * @owner: who may keep entries of it: compared with hmm_range.dev_private_owner and
 * migrate_vma.pgmap_owner
 * @ops: callbacks, which must outlive the map
 * @data: passed to the callbacks
 * @out: (out) the map
 * Returns: 0; -ENOSPC no physical address space left; -EINVAL unknown kind, no pages, a callback is
 * missing; -ENOMEM.
 * Models: memremap_pages() with request_free_mem_region().
 */
UHMM_API int uhmm_memremap_pages(struct uhmm_machine *m, enum uhmm_memory_type type,
				 uint64_t npages, void *owner,
				 const struct uhmm_dev_pagemap_ops *ops, void *data,
				 struct uhmm_dev_pagemap **out) UHMM_MUST_CHECK;

/**
 * uhmm_memunmap_pages() - forget a range of device pages
 * @pgmap: map, NULL allowed
 * Context: sleeps until every page of it is free: migrate them home first.
 * Models: memunmap_pages().
 */
UHMM_API void uhmm_memunmap_pages(struct uhmm_dev_pagemap *pgmap);

/** uhmm_pagemap_start() - first pfn of a map. */
UHMM_API uhmm_pfn_t uhmm_pagemap_start(const struct uhmm_dev_pagemap *pgmap);

/** uhmm_pagemap_npages() - pages of a map. */
UHMM_API uint64_t uhmm_pagemap_npages(const struct uhmm_dev_pagemap *pgmap);

/**
 * uhmm_pagemap_owner() - owner of the device page at a pfn
 * Returns: the owner, or NULL if it is not a device page.
 */
UHMM_API void *uhmm_pagemap_owner(struct uhmm_machine *m, uhmm_pfn_t pfn);

/**
 * uhmm_zone_device_page_init() - make a free device page live: one reference, locked
 * @m: machine
 * @pfn: a free device page
 * Models: zone_device_page_init(), order 0.
 */
UHMM_API void uhmm_zone_device_page_init(struct uhmm_machine *m, uhmm_pfn_t pfn);

/**
 * uhmm_zone_device_folio_init() - the same for 2^order free device pages as one folio
 * @m: machine
 * @pfn: the first, a multiple of 2^@order
 * @order: UHMM_PMD_ORDER at most
 * Models: zone_device_folio_init().
 */
UHMM_API void uhmm_zone_device_folio_init(struct uhmm_machine *m, uhmm_pfn_t pfn,
					  unsigned int order);

/**
 * uhmm_page_order() - the order of the folio that a page belongs to
 * @m: machine
 * @pfn: a page in use, or in folio_free() the one that it is called for
 * Returns: the order; 0 for a page by itself.
 * Context: the page is locked or referenced. Models: folio_order(page_folio()).
 */
UHMM_API unsigned int uhmm_page_order(struct uhmm_machine *m, uhmm_pfn_t pfn);

/**
 * uhmm_page_head() - the first page of the folio that a page belongs to
 * @m: machine
 * @pfn: a page in use
 * Returns: its pfn. Context: the page is locked or referenced. Models: page_folio().
 */
UHMM_API uhmm_pfn_t uhmm_page_head(struct uhmm_machine *m, uhmm_pfn_t pfn);

/* ---- pools ---- */

struct uhmm_devmem;

struct uhmm_devmem_config {
	size_t size;	      /* sizeof(struct uhmm_devmem_config) of the caller */
	uint64_t bytes;	      /* capacity, 0 = no limit but the physical address space */
	uint64_t chunk_bytes; /* registered at a time, in multiples of 2 MiB; default 256 MiB */
	enum uhmm_memory_type type; /* default device-private */
};

/**
 * uhmm_devmem_create() - a pool of device memory
 * @m: machine
 * @config: NULL for the defaults
 * @owner: as in uhmm_memremap_pages()
 * @ops: migrate_to_ram is called, for device-private memory; folio_free may be NULL: the pool keeps
 * the free lists
 * @data: passed to the callbacks
 * @out: (out) the pool; memory is registered chunk by chunk as it is needed
 * Returns: 0; -EINVAL bad size or type, chunk_bytes, bytes below a page, no migrate_to_ram for device-private
 * memory; -ENOMEM.
 */
UHMM_API int uhmm_devmem_create(struct uhmm_machine *m, const struct uhmm_devmem_config *config,
				void *owner, const struct uhmm_dev_pagemap_ops *ops, void *data,
				struct uhmm_devmem **out) UHMM_MUST_CHECK;

/**
 * uhmm_devmem_destroy() - migrate everything home and free the pool
 * @pool: NULL allowed
 * Context: current task; sleeps; no mmap_lock held.
 */
UHMM_API void uhmm_devmem_destroy(struct uhmm_devmem *pool);

/**
 * uhmm_devmem_alloc() - take a page: one reference, locked, contents undefined
 * @pool: pool
 * @page_data: kept with the page, see uhmm_devmem_page_data()
 * @out: (out) its pfn
 * Returns: 0; -ENOSPC the pool is full: uhmm_devmem_evict() and try again; -ENOMEM.
 */
UHMM_API int uhmm_devmem_alloc(struct uhmm_devmem *pool, void *page_data,
			       uhmm_pfn_t *out) UHMM_MUST_CHECK;

/**
 * uhmm_devmem_alloc_folio() - the same for a folio of one page or of 2 MiB
 * @order: 0 or UHMM_PMD_ORDER
 * @out: (out) pfn of its first page
 * Returns: as uhmm_devmem_alloc(); -EINVAL another order.
 */
UHMM_API int uhmm_devmem_alloc_folio(struct uhmm_devmem *pool, void *page_data, unsigned int order,
				     uhmm_pfn_t *out) UHMM_MUST_CHECK;

/** uhmm_devmem_page_data() - what was given to uhmm_devmem_alloc(). Models: zone_device_data. */
UHMM_API void *uhmm_devmem_page_data(struct uhmm_devmem *pool, uhmm_pfn_t pfn);

/** uhmm_devmem_touch() - the device used the page: it is now the most recently used. */
UHMM_API void uhmm_devmem_touch(struct uhmm_devmem *pool, uhmm_pfn_t pfn);

/**
 * uhmm_devmem_evict() - migrate the least recently used pages home
 * @pool: pool
 * @npages: how many to try
 * Returns: pages that left (0: all are busy), or -ENOMEM.
 * Context: current task; sleeps on notifiers; mmap_lock of any mm may be held for reading.
 * Models: migrate_device_pfns() as TTM eviction does.
 */
UHMM_API int64_t uhmm_devmem_evict(struct uhmm_devmem *pool, uint64_t npages);

/**
 * uhmm_devmem_evict_all() - migrate every page home, chunk by chunk
 * @pool: pool
 * @remove: also unregister the memory, as the RELEASE operation of the test driver
 * Returns: pages still in the pool (0 = empty); -EBUSY another task is removing it; -ENOMEM.
 * With @remove it sleeps until the last page is free; meanwhile uhmm_devmem_alloc() says -ENOSPC.
 * Models: lib/test_hmm.c:dmirror_device_evict_chunk().
 */
UHMM_API int64_t uhmm_devmem_evict_all(struct uhmm_devmem *pool, bool remove);

/** uhmm_devmem_used() - pages in use. */
UHMM_API uint64_t uhmm_devmem_used(struct uhmm_devmem *pool);

/** uhmm_devmem_owner() - the owner. */
UHMM_API void *uhmm_devmem_owner(const struct uhmm_devmem *pool);

UHMM_END_DECLS

#endif /* UHMM_DEVMEM_H */
