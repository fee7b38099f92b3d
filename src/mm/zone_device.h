/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * zone_device.h - device memory as mm sees it: ranges of pfns with an owner and callbacks.
 * devmem/ provides pools on top; a fault reaches a driver only through these ops.
 */
#ifndef UHMM_MM_ZONE_DEVICE_H
#define UHMM_MM_ZONE_DEVICE_H

#include <uhmm/devmem.h>

#include "mm/frame.h"

struct uhmm__fault;

struct uhmm_dev_pagemap {
	struct uhmm_machine *machine;		/* [const] */
	enum uhmm_memory_type type;		/* [const] */
	uhmm_pfn_t start;			/* [const] */
	uint64_t npages;			/* [const] */
	void *owner;				/* [const] */
	const struct uhmm_dev_pagemap_ops *ops; /* [const] */
	void *data;				/* [const] the driver's */
	_Atomic uint64_t refs;			/* [atomic] pages in use + 1 */
};

/* All pagemaps of a machine, by 2 MiB of frames. */
struct uhmm__pgmaps {
	struct uhmm__mutex lock;
	struct uhmm__waitq drained;		    /* a pagemap's last page came back */
	struct uhmm_dev_pagemap *_Atomic *by_block; /* reserved; [lock] for writing */
	size_t nr_blocks;
	uhmm_pfn_t next;       /* [lock] first physical device pfn never used */
	uhmm_pfn_t next_own;   /* [lock] the same of the device space */
	_Atomic uint64_t used; /* [atomic] device pages in use */
};

int uhmm__pgmaps_init(struct uhmm_machine *m);
void uhmm__pgmaps_exit(struct uhmm_machine *m);

#define PGMAP_BLOCK_FRAMES 512UL

/* The pagemap of a device page, by the index of its frame. */
static inline struct uhmm_dev_pagemap *index_pgmap(struct uhmm_machine *m, size_t index)
{
	return load_acquire(&m->pgmaps->by_block[(index - m->device_base) / PGMAP_BLOCK_FRAMES]);
}

/* The same by pfn. Models: page_pgmap(). */
static inline struct uhmm_dev_pagemap *page_pgmap(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return index_pgmap(m, pfn_to_index(m, pfn));
}

/* The flag that every page of a pagemap has, in use or not. */
static inline uint32_t pgmap_page_flag(const struct uhmm_dev_pagemap *pgmap)
{
	return (uint32_t)(pgmap->type == UHMM_MEMORY_DEVICE_COHERENT ? BIT(PG_DEVICE_COHERENT)
								     : BIT(PG_DEVICE_PRIVATE));
}

/* uhmm_zone_device_page_init() for several. */
void uhmm__zone_device_pages_init(struct uhmm_machine *m, const uhmm_pfn_t *pfns, unsigned int nr);

/* The last reference is gone. Models: free_zone_device_folio(). */
void uhmm__free_zone_device_folio(struct uhmm_machine *m, struct uhmm__frame *f);

#endif /* UHMM_MM_ZONE_DEVICE_H */
