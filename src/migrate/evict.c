// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Emptying device memory: eviction of the least recently used pages when a pool is full, and of all
 * when a device goes. Models: lib/test_hmm.c:dmirror_device_evict_chunk(), and what TTM does with
 * migrate_device_pfns().
 */
#include "core/alloc.h"
#include "devmem/pool.h"
#include "migrate/migrate.h"

enum { EVICT_BATCH = 512 };

struct batch {
	uint64_t src[EVICT_BATCH];
	uint64_t dst[EVICT_BATCH];
};

/* A RAM folio for a collected one, with its contents; 0 if there is none. */
static uint64_t copy_home(struct uhmm_machine *m, uint64_t src)
{
	uhmm_pfn_t from = uhmm_migrate_pfn_to_pfn(src), to;
	unsigned int order = uhmm_page_order(m, from);

	if (uhmm_alloc_locked_folio(m, order, &to))
		return 0;
	uhmm__copy_pages(m, to, from, 1UL << order);
	return uhmm_migrate_pfn(to) | (src & UHMM_MIGRATE_PFN_COMPOUND);
}

/* src[] holds collected folios: give each RAM, copy, finish. Returns how many pages left. */
static uint64_t move_home(struct uhmm_machine *m, struct batch *b, uint64_t n)
{
	uint64_t moved = 0;

	for (uint64_t i = 0; i < n; i++)
		b->dst[i] = b->src[i] & UHMM_MIGRATE_PFN_MIGRATE ? copy_home(m, b->src[i]) : 0;
	uhmm_migrate_device_pages(m, b->src, b->dst, n);
	for (uint64_t i = 0; i < n; i++) {
		if (b->src[i] & UHMM_MIGRATE_PFN_MIGRATE)
			moved += folio_nr_pages(migrate_pfn_to_folio(m, b->src[i]));
	}
	uhmm_migrate_device_finalize(m, b->src, b->dst, n);
	uhmm__count_n(UHMM_CNT_EVICTED, moved);
	return moved;
}

int64_t uhmm_devmem_evict(struct uhmm_devmem *pool, uint64_t npages)
{
	struct uhmm_machine *m = pool->machine;
	struct batch *b = uhmm__alloc(m, sizeof(*b));
	uint64_t moved = 0;

	if (!b)
		return -ENOMEM;
	while (npages) {
		uint64_t n =
			uhmm__devmem_oldest(pool, b->src, MIN(npages, EVICT_BATCH), EVICT_BATCH);
		uint64_t left;

		if (!n)
			break;
		uhmm_migrate_device_pfns(m, b->src, n);
		left = move_home(m, b, n);
		moved += left;
		npages -= MIN(n, npages);
		/* The oldest are busy: the same would come again. */
		if (left < n)
			break;
	}
	uhmm__free(m, b, sizeof(*b));
	return moved;
}

/*
 * The pages of a chunk that were ever handed out: the others have nothing to move. False: no such
 * chunk. Others may add chunks meanwhile, and move the array that lists them.
 */
static bool chunk_in_use(struct uhmm_devmem *pool, size_t c, uhmm_pfn_t *start, uint64_t *npages)
{
	bool ok;

	uhmm__spin_lock(&pool->lock);
	ok = c < pool->nr_chunks;
	if (ok) {
		struct uhmm__devmem_chunk *chunk = &pool->chunks[c];

		*start = uhmm_pagemap_start(chunk->pgmap);
		*npages =
			MIN(chunk->npages, pool->next_fresh - MIN(pool->next_fresh, chunk->first));
	}
	uhmm__spin_unlock(&pool->lock);
	return ok;
}

int64_t uhmm_devmem_evict_all(struct uhmm_devmem *pool, bool remove)
{
	struct uhmm_machine *m = pool->machine;
	struct batch *b = uhmm__alloc(m, sizeof(*b));
	uhmm_pfn_t start;
	uint64_t npages;

	if (!b)
		return -ENOMEM;
	if (remove) {
		bool already;

		uhmm__spin_lock(&pool->lock);
		already = pool->removing;
		pool->removing = true;
		uhmm__spin_unlock(&pool->lock);
		if (already) {
			uhmm__free(m, b, sizeof(*b));
			return -EBUSY;
		}
	}
	for (size_t c = 0; chunk_in_use(pool, c, &start, &npages); c++) {
		for (uint64_t at = 0; at < npages; at += EVICT_BATCH) {
			uint64_t n = MIN(npages - at, EVICT_BATCH);

			uhmm_migrate_device_range(m, b->src, start + at, n);
			move_home(m, b, n);
		}
	}
	uhmm__free(m, b, sizeof(*b));
	if (remove)
		uhmm__devmem_remove_chunks(pool);
	return uhmm_devmem_used(pool);
}

void uhmm_devmem_destroy(struct uhmm_devmem *pool)
{
	if (!pool)
		return;
	(void)uhmm_devmem_evict_all(pool, false);
	uhmm__devmem_free(pool);
}
