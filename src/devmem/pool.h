/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pool.h - inside of a pool of device memory. */
#ifndef UHMM_DEVMEM_POOL_H
#define UHMM_DEVMEM_POOL_H

#include <uhmm/devmem.h>

#include "mm/frame.h"
#include "sync/sync.h"

/* What the pool keeps of each page, 16 bytes. [lock] */
struct uhmm__devpage {
	void *data; /* zone_device_data */
	/* In the list of free pages or of used ones, by number + 1; 0 = end. One with a reference is used. */
	union {
		struct {
			uint32_t prev, next;
		};
		uint64_t links; /* both */
	};
};

struct uhmm__devmem_chunk {
	struct uhmm_dev_pagemap *pgmap;
	struct uhmm__devpage *pages;
	uhmm_pfn_t start; /* of pgmap */
	uint32_t npages;
	uint32_t first; /* number of its first page in the pool */
};

struct uhmm__devlist {
	uint32_t head, tail;
};

struct uhmm_devmem {
	struct uhmm_machine *machine;	  /* [const] */
	enum uhmm_memory_type type;	  /* [const] */
	void *owner;			  /* [const] */
	void *data;			  /* [const] */
	struct uhmm_dev_pagemap_ops user; /* [const] */
	struct uhmm_dev_pagemap_ops ops;  /* [const] */
	uint64_t max_pages;		  /* [const] 0 = no limit */
	uint64_t chunk_pages;		  /* [const] */
	unsigned int chunk_shift;	  /* [const] log2 of it, or 0 */
	struct uhmm__mutex grow;	  /* registers chunks, one at a time */
	struct uhmm__spinlock lock;
	struct uhmm__devmem_chunk *chunks; /* [lock] */
	size_t nr_chunks, cap_chunks;	   /* [lock] */
	uint64_t nr_pages;		   /* [lock] pages of all chunks */
	uint64_t next_fresh;		   /* [lock] number of the first page never used */
	uint64_t nr_used;		   /* [lock] */
	uint64_t touched;		   /* [lock] bytes of the chunks' arrays */
	struct uhmm__devlist free;	   /* [lock] single pages */
	struct uhmm__devlist free_huge;	   /* [lock] first pages of 2 MiB each */
	struct uhmm__devlist lru;	   /* [lock] used folios, least recently used first */
	bool removing;			   /* [lock] freed pages do not come back */
};

/*
 * Pages as uhmm_devmem_alloc() gives them, up to @max under one hold of the lock. Returns: how many,
 * fewer when the pool must grow or is full: uhmm_devmem_alloc() then knows what to do.
 */
unsigned int uhmm__devmem_alloc_bulk(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfns,
				     unsigned int max);
/*
 * pfns of the least recently used folios, with at least @want pages if there are; a large one takes
 * as many entries as it has pages, @cap at most in all. Returns: entries.
 */
uint64_t uhmm__devmem_oldest(struct uhmm_devmem *pool, uint64_t *pfns, uint64_t want, uint64_t cap);
/* No page knows @data any more. */
void uhmm__devmem_forget(struct uhmm_devmem *pool, void *data);
/* Drop all chunks; waits until all pages are free. */
void uhmm__devmem_remove_chunks(struct uhmm_devmem *pool);
/* The same, and the pool itself. */
void uhmm__devmem_free(struct uhmm_devmem *pool);

/* Context: lock. */
static inline struct uhmm__devmem_chunk *chunk_of_number(struct uhmm_devmem *pool, uint32_t nr)
{
	/* All chunks but the last have the same size, most often a power of two. */
	if (likely(pool->chunk_shift))
		return &pool->chunks[nr >> pool->chunk_shift];
	return &pool->chunks[nr / pool->chunk_pages];
}

static inline struct uhmm__devpage *page_of_number(struct uhmm_devmem *pool, uint32_t nr)
{
	struct uhmm__devmem_chunk *c = chunk_of_number(pool, nr);

	return &c->pages[nr - c->first];
}

/* Data and place in the lists are those of the folio. */
static inline uint32_t number_of_folio(struct uhmm_devmem *pool, uhmm_pfn_t pfn)
{
	return page_folio(pfn_to_frame(pool->machine, pfn))->aux;
}

/*
 * What was given to uhmm_devmem_alloc() for a folio, with @get called on it under the pool's lock; NULL once
 * it was forgotten.
 */
uhmm_always_inline void *uhmm__devmem_folio_data_get(struct uhmm_devmem *pool,
						     struct uhmm__frame *f, void (*get)(void *))
{
	void *data;

	uhmm__spin_lock(&pool->lock);
	data = page_of_number(pool, f->aux)->data;
	if (likely(data))
		get(data);
	uhmm__spin_unlock(&pool->lock);
	return data;
}

#endif /* UHMM_DEVMEM_POOL_H */
