// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pools of device memory: chunks that are registered as they are needed, a list of free
 * pages, and the order in which the device last used the others.
 *
 * Pages have a number in their pool, dense over the chunks; lists link numbers, so that a page
 * costs 16 bytes here.
 */
#include "devmem/pool.h"

#include <string.h>

#include "core/alloc.h"
#include "mm/zone_device.h"

static const uint64_t default_chunk_bytes = 256UL << 20;

/* ---- numbers and lists ---- */

static struct uhmm__devmem_chunk *chunk_of_number(struct uhmm_devmem *pool, uint32_t nr)
{
	/* All chunks but the last have the same size, most often a power of two. */
	if (likely(pool->chunk_shift))
		return &pool->chunks[nr >> pool->chunk_shift];
	return &pool->chunks[nr / pool->chunk_pages];
}

static struct uhmm__devpage *page_of_number(struct uhmm_devmem *pool, uint32_t nr)
{
	struct uhmm__devmem_chunk *c = chunk_of_number(pool, nr);

	return &c->pages[nr - c->first];
}

static uhmm_pfn_t pfn_of_number(struct uhmm_devmem *pool, uint32_t nr)
{
	struct uhmm__devmem_chunk *c = chunk_of_number(pool, nr);

	return uhmm_pagemap_start(c->pgmap) + (nr - c->first);
}

/* Chunks are few; the frame's aux says which number a page has. */
static uint32_t number_of_pfn(struct uhmm_devmem *pool, uhmm_pfn_t pfn)
{
	return pfn_to_frame(pool->machine, pfn)->aux;
}

static void list_push(struct uhmm_devmem *pool, struct uhmm__devlist *l, uint32_t nr)
{
	struct uhmm__devpage *p = page_of_number(pool, nr);

	p->prev = l->tail;
	p->next = 0;
	if (l->tail)
		page_of_number(pool, l->tail - 1)->next = nr + 1;
	else
		l->head = nr + 1;
	l->tail = nr + 1;
}

static void list_cut(struct uhmm_devmem *pool, struct uhmm__devlist *l, uint32_t nr)
{
	struct uhmm__devpage *p = page_of_number(pool, nr);

	if (p->prev)
		page_of_number(pool, p->prev - 1)->next = p->next;
	else
		l->head = p->next;
	if (p->next)
		page_of_number(pool, p->next - 1)->prev = p->prev;
	else
		l->tail = p->prev;
}

/* ---- callbacks of the pagemap ---- */

static void pool_folio_free(void *data, uhmm_pfn_t pfn)
{
	struct uhmm_devmem *pool = data;
	uint32_t nr = number_of_pfn(pool, pfn);

	if (pool->user.folio_free)
		pool->user.folio_free(pool->data, pfn);
	uhmm__spin_lock(&pool->lock);
	list_cut(pool, &pool->lru, nr);
	pool->nr_used--;
	page_of_number(pool, nr)->data = NULL;
	page_of_number(pool, nr)->used = false;
	if (!pool->removing)
		list_push(pool, &pool->free, nr);
	uhmm__spin_unlock(&pool->lock);
}

static int pool_migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct uhmm_devmem *pool = data;

	return pool->user.migrate_to_ram(pool->data, vmf);
}

/* ---- chunks ---- */

static int chunks_reserve(struct uhmm_devmem *pool)
{
	size_t cap = pool->cap_chunks ? 2 * pool->cap_chunks : 8;
	struct uhmm__devmem_chunk *v, *old;
	size_t old_cap;

	if (pool->nr_chunks < pool->cap_chunks)
		return 0;
	v = uhmm__alloc(pool->machine, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	uhmm__spin_lock(&pool->lock);
	old = pool->chunks;
	old_cap = pool->cap_chunks;
	if (pool->nr_chunks)
		memcpy(v, old, pool->nr_chunks * sizeof(*v));
	pool->chunks = v;
	pool->cap_chunks = cap;
	uhmm__spin_unlock(&pool->lock);
	uhmm__free(pool->machine, old, old_cap * sizeof(*old));
	return 0;
}

/* Context: pool->grow. 0, -ENOSPC, -ENOMEM. */
static int chunk_add(struct uhmm_devmem *pool)
{
	struct uhmm_machine *m = pool->machine;
	struct uhmm__devmem_chunk c = { .npages = pool->chunk_pages, .first = pool->nr_pages };
	int err;

	if (pool->max_pages)
		c.npages = MIN(c.npages, pool->max_pages - pool->nr_pages);
	if (!c.npages)
		return -ENOSPC;
	err = chunks_reserve(pool);
	if (err)
		return err;
	c.pages = uhmm__reserve(c.npages * sizeof(*c.pages));
	if (!c.pages)
		return -ENOMEM;
	err = uhmm_memremap_pages(m, pool->type, c.npages, pool->owner, &pool->ops, pool, &c.pgmap);
	if (err) {
		uhmm__unreserve(c.pages, c.npages * sizeof(*c.pages));
		return err;
	}
	uhmm__spin_lock(&pool->lock);
	pool->chunks[pool->nr_chunks++] = c;
	pool->nr_pages += c.npages;
	uhmm__spin_unlock(&pool->lock);
	return 0;
}

void uhmm__devmem_remove_chunks(struct uhmm_devmem *pool)
{
	struct uhmm_machine *m = pool->machine;

	for (size_t i = 0; i < pool->nr_chunks; i++) {
		struct uhmm__devmem_chunk *c = &pool->chunks[i];

		uhmm_memunmap_pages(c->pgmap);
		uhmm__unreserve(c->pages, c->npages * sizeof(*c->pages));
	}
	pool->nr_chunks = 0;
	pool->nr_pages = 0;
	pool->next_fresh = 0;
	pool->free = (struct uhmm__devlist){ 0 };
	pool->removing = false;
	uhmm__free(m, pool->chunks, pool->cap_chunks * sizeof(*pool->chunks));
	pool->chunks = NULL;
	pool->cap_chunks = 0;
}

/* ---- the pool ---- */

int uhmm_devmem_create(struct uhmm_machine *m, const struct uhmm_devmem_config *config, void *owner,
		       const struct uhmm_dev_pagemap_ops *ops, void *data, struct uhmm_devmem **out)
{
	struct uhmm_devmem *pool;
	enum uhmm_memory_type type = UHMM_MEMORY_DEVICE_PRIVATE;
	uint64_t bytes = 0, chunk = default_chunk_bytes;

	if (config && config->size != sizeof(*config))
		return -EINVAL;
	if (config) {
		type = config->type;
		bytes = config->bytes;
		if (config->chunk_bytes)
			chunk = config->chunk_bytes;
	}
	if ((unsigned int)type > UHMM_MEMORY_DEVICE_COHERENT || !ops ||
	    (type == UHMM_MEMORY_DEVICE_PRIVATE && !ops->migrate_to_ram))
		return -EINVAL;
	if (chunk % UHMM_PMD_SIZE || (bytes && bytes < UHMM_PAGE_SIZE))
		return -EINVAL;
	pool = uhmm__alloc(m, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->machine = m;
	pool->type = type;
	pool->owner = owner;
	pool->data = data;
	pool->user = *ops;
	pool->ops = (struct uhmm_dev_pagemap_ops){
		.folio_free = pool_folio_free,
		.migrate_to_ram = pool_migrate_to_ram,
	};
	pool->max_pages = bytes >> UHMM_PAGE_SHIFT;
	pool->chunk_pages = chunk >> UHMM_PAGE_SHIFT;
	if (!(pool->chunk_pages & (pool->chunk_pages - 1)))
		pool->chunk_shift = __builtin_ctzl(pool->chunk_pages);
	uhmm__mutex_init(&pool->grow, UHMM__LC_DEVMEM_GROW);
	uhmm__spin_init(&pool->lock, UHMM__LC_DEVMEM);
	*out = pool;
	return 0;
}

void uhmm__devmem_free(struct uhmm_devmem *pool)
{
	uhmm__devmem_remove_chunks(pool);
	uhmm__free(pool->machine, pool, sizeof(*pool));
}

/* A page off the free list, or one never used. Context: lock. */
static bool take(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfn)
{
	struct uhmm__devmem_chunk *c;
	struct uhmm__devpage *p;
	bool fresh = !pool->free.head;
	uint32_t nr;

	if (!fresh) {
		/* The last one freed first, as a stack: it is warm. */
		nr = pool->free.tail - 1;
		list_cut(pool, &pool->free, nr);
	} else if (pool->next_fresh < pool->nr_pages) {
		nr = pool->next_fresh++;
	} else {
		return false;
	}
	c = chunk_of_number(pool, nr);
	p = &c->pages[nr - c->first];
	*pfn = uhmm_pagemap_start(c->pgmap) + (nr - c->first);
	if (fresh)
		pfn_to_frame(pool->machine, *pfn)->aux = nr;
	p->data = page_data;
	p->used = true;
	list_push(pool, &pool->lru, nr);
	pool->nr_used++;
	return true;
}

unsigned int uhmm__devmem_alloc_bulk(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfns,
				     unsigned int max)
{
	unsigned int n = 0;

	/* One at a time where the n-th must fail. */
	if (unlikely(load_relaxed(&pool->machine->inject_armed)))
		return 0;
	uhmm__spin_lock(&pool->lock);
	while (n < max && take(pool, page_data, &pfns[n]))
		n++;
	uhmm__spin_unlock(&pool->lock);
	if (n)
		uhmm__zone_device_pages_init(pool->machine, pfns, n);
	return n;
}

int uhmm_devmem_alloc(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *out)
{
	uhmm_pfn_t pfn = 0;
	int err = 0;

	if (uhmm__inject(pool->machine, UHMM_INJECT_DEVICE))
		return -ENOMEM;
	for (;;) {
		uint64_t seen;
		bool ok;

		uhmm__spin_lock(&pool->lock);
		if (pool->removing)
			err = -ENOSPC;
		ok = !err && take(pool, page_data, &pfn);
		seen = pool->nr_pages;
		uhmm__spin_unlock(&pool->lock);
		if (ok)
			break;
		if (err)
			return err;
		uhmm__mutex_lock(&pool->grow);
		/* Another task may have added a chunk meanwhile. */
		if (pool->nr_pages == seen)
			err = chunk_add(pool);
		uhmm__mutex_unlock(&pool->grow);
		if (err)
			return err;
	}
	uhmm_zone_device_page_init(pool->machine, pfn);
	*out = pfn;
	return 0;
}

void *uhmm_devmem_page_data(struct uhmm_devmem *pool, uhmm_pfn_t pfn)
{
	void *data;

	uhmm__spin_lock(&pool->lock);
	data = page_of_number(pool, number_of_pfn(pool, pfn))->data;
	uhmm__spin_unlock(&pool->lock);
	return data;
}

void *uhmm__devmem_page_data_get(struct uhmm_devmem *pool, uhmm_pfn_t pfn, void (*get)(void *))
{
	void *data;

	uhmm__spin_lock(&pool->lock);
	data = page_of_number(pool, number_of_pfn(pool, pfn))->data;
	if (data)
		get(data);
	uhmm__spin_unlock(&pool->lock);
	return data;
}

void uhmm__devmem_forget(struct uhmm_devmem *pool, void *data)
{
	uhmm__spin_lock(&pool->lock);
	for (uint32_t at = pool->lru.head; at; at = page_of_number(pool, at - 1)->next) {
		struct uhmm__devpage *p = page_of_number(pool, at - 1);

		if (p->data == data)
			p->data = NULL;
	}
	uhmm__spin_unlock(&pool->lock);
}

void uhmm_devmem_touch(struct uhmm_devmem *pool, uhmm_pfn_t pfn)
{
	uint32_t nr = number_of_pfn(pool, pfn);

	uhmm__spin_lock(&pool->lock);
	/* The page may just have been freed under the device: then it has no place here. */
	if (pool->lru.tail != nr + 1 && page_of_number(pool, nr)->used) {
		list_cut(pool, &pool->lru, nr);
		list_push(pool, &pool->lru, nr);
	}
	uhmm__spin_unlock(&pool->lock);
}

uint64_t uhmm__devmem_oldest(struct uhmm_devmem *pool, uint64_t *pfns, uint64_t max)
{
	uint64_t n = 0;

	uhmm__spin_lock(&pool->lock);
	for (uint32_t at = pool->lru.head; at && n < max; at = page_of_number(pool, at - 1)->next)
		pfns[n++] = pfn_of_number(pool, at - 1);
	uhmm__spin_unlock(&pool->lock);
	return n;
}

uint64_t uhmm_devmem_used(struct uhmm_devmem *pool)
{
	uint64_t n;

	uhmm__spin_lock(&pool->lock);
	n = pool->nr_used;
	uhmm__spin_unlock(&pool->lock);
	return n;
}

void *uhmm_devmem_owner(const struct uhmm_devmem *pool)
{
	return pool->owner;
}
