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

/* The same, most often of a page in chunk @c. */
static inline struct uhmm__devpage *page_near(struct uhmm_devmem *pool,
					      struct uhmm__devmem_chunk *c, uint32_t nr)
{
	return likely(nr - c->first < c->npages) ? &c->pages[nr - c->first]
						 : page_of_number(pool, nr);
}

static uhmm_pfn_t pfn_of_number(struct uhmm_devmem *pool, uint32_t nr)
{
	struct uhmm__devmem_chunk *c = chunk_of_number(pool, nr);

	return c->start + (nr - c->first);
}

/* Chunks are few; the frame's aux says which number a page has. */
static uint32_t number_of_pfn(struct uhmm_devmem *pool, uhmm_pfn_t pfn)
{
	return pfn_to_frame(pool->machine, pfn)->aux;
}

/* @p: page number @nr, in chunk @c. */
static inline void list_push(struct uhmm_devmem *pool, struct uhmm__devlist *l, uint32_t nr,
			     struct uhmm__devmem_chunk *c, struct uhmm__devpage *p)
{
	p->prev = l->tail;
	p->next = 0;
	if (l->tail)
		page_near(pool, c, l->tail - 1)->next = nr + 1;
	else
		l->head = nr + 1;
	l->tail = nr + 1;
}

static inline void list_cut(struct uhmm_devmem *pool, struct uhmm__devlist *l,
			    struct uhmm__devmem_chunk *c, struct uhmm__devpage *p)
{
	if (p->prev)
		page_near(pool, c, p->prev - 1)->next = p->next;
	else
		l->head = p->next;
	if (p->next)
		page_near(pool, c, p->next - 1)->prev = p->prev;
	else
		l->tail = p->prev;
}

/* Both by number. */
static void put_on(struct uhmm_devmem *pool, struct uhmm__devlist *l, uint32_t nr)
{
	struct uhmm__devmem_chunk *c = chunk_of_number(pool, nr);

	list_push(pool, l, nr, c, &c->pages[nr - c->first]);
}

static void take_off(struct uhmm_devmem *pool, struct uhmm__devlist *l, uint32_t nr)
{
	struct uhmm__devmem_chunk *c = chunk_of_number(pool, nr);

	list_cut(pool, l, c, &c->pages[nr - c->first]);
}

/* ---- callbacks of the pagemap ---- */

static void pool_folio_free(void *data, uhmm_pfn_t pfn)
{
	struct uhmm_devmem *pool = data;
	struct uhmm__frame *f = pfn_to_frame(pool->machine, pfn);
	struct uhmm__devlist *free = &pool->free;
	unsigned int order = folio_order(f);
	struct uhmm__devmem_chunk *c;
	struct uhmm__devpage *p;
	uint32_t nr = f->aux;
	uint64_t n = 1;

	if (unlikely(order)) {
		free = &pool->free_huge;
		n = 1UL << order;
	}
	if (unlikely(pool->user.folio_free != NULL))
		pool->user.folio_free(pool->data, pfn);
	uhmm__spin_lock(&pool->lock);
	c = chunk_of_number(pool, nr);
	p = &c->pages[nr - c->first];
	list_cut(pool, &pool->lru, c, p);
	pool->nr_used -= n;
	p->data = NULL;
	if (likely(!pool->removing))
		list_push(pool, free, nr, c, p);
	uhmm__spin_unlock(&pool->lock);
}

/* Pages of a folio become folios of their own, with the same data, as old as the folio was. */
static void pool_folio_split(void *data, uhmm_pfn_t head, uhmm_pfn_t tail)
{
	struct uhmm_devmem *pool = data;
	uint32_t nr = number_of_pfn(pool, head);

	if (tail) {
		uint32_t t = number_of_pfn(pool, tail);
		struct uhmm__devpage *h, *p;

		uhmm__spin_lock(&pool->lock);
		h = page_of_number(pool, nr);
		p = page_of_number(pool, t);
		p->data = h->data;
		put_on(pool, &pool->lru, t);
		uhmm__spin_unlock(&pool->lock);
	}
	if (pool->user.folio_split)
		pool->user.folio_split(pool->data, head, tail);
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
	struct uhmm__devmem_chunk c = { .first = (uint32_t)pool->nr_pages };
	uint64_t n = pool->chunk_pages;
	int err;

	if (pool->max_pages)
		n = MIN(n, pool->max_pages - pool->nr_pages);
	if (!n)
		return -ENOSPC;
	err = chunks_reserve(pool);
	if (err)
		return err;
	c.pages = uhmm__reserve(n * sizeof(*c.pages));
	if (!c.pages)
		return -ENOMEM;
	err = uhmm_memremap_pages(m, pool->type, n, pool->owner, &pool->ops, pool, &c.pgmap);
	if (err) {
		uhmm__unreserve(c.pages, n * sizeof(*c.pages));
		return err;
	}
	/* Of a machine's frames there are fewer than 2^32. */
	c.npages = (uint32_t)n;
	c.start = uhmm_pagemap_start(c.pgmap);
	uhmm__spin_lock(&pool->lock);
	pool->chunks[pool->nr_chunks++] = c;
	pool->nr_pages += c.npages;
	uhmm__spin_unlock(&pool->lock);
	return 0;
}

/* What is touched of the pages' own array counts as allocated. Context: lock. */
static void count_touched(struct uhmm_devmem *pool)
{
	uint64_t bytes = pool->next_fresh * sizeof(struct uhmm__devpage);

	bytes = ALIGN_UP(bytes, UHMM_PAGE_SIZE);
	atomic_fetch_add_explicit(&pool->machine->alloc_bytes, bytes - pool->touched,
				  memory_order_relaxed);
	pool->touched = bytes;
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
	count_touched(pool);
	pool->free = (struct uhmm__devlist){ 0 };
	pool->free_huge = (struct uhmm__devlist){ 0 };
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
		.folio_split = pool_folio_split,
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

/* A number whose pages, so many, are in use from now on. Context: lock. */
static uhmm_pfn_t hand_out(struct uhmm_devmem *pool, uint32_t nr, uint64_t n, void *page_data)
{
	struct uhmm__devpage *p = page_of_number(pool, nr);

	p->data = page_data;
	put_on(pool, &pool->lru, nr);
	pool->nr_used += n;
	return pfn_of_number(pool, nr);
}

/* Never used so far: the frame is told its number. Context: lock. */
static uint32_t take_fresh(struct uhmm_devmem *pool)
{
	uint32_t nr = pool->next_fresh++;

	if (unlikely(nr % (UHMM_PAGE_SIZE / sizeof(struct uhmm__devpage)) == 0))
		count_touched(pool);
	pfn_to_frame(pool->machine, pfn_of_number(pool, nr))->aux = nr;
	return nr;
}

/* A page off the free list, or one never used. Context: lock. */
static bool take(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfn)
{
	uint32_t nr;

	if (pool->free.head) {
		/* The last one freed first, as a stack: it is warm. */
		nr = pool->free.tail - 1;
		take_off(pool, &pool->free, nr);
	} else if (pool->next_fresh < pool->nr_pages) {
		nr = take_fresh(pool);
	} else if (pool->free_huge.head) {
		/* The last resort: one of 2 MiB is taken to pieces. */
		nr = pool->free_huge.tail - 1;
		take_off(pool, &pool->free_huge, nr);
		for (uint32_t i = PGMAP_BLOCK_FRAMES - 1; i; i--)
			put_on(pool, &pool->free, nr + i);
	} else {
		return false;
	}
	*pfn = hand_out(pool, nr, 1, page_data);
	return true;
}

/* 2 MiB, aligned. Context: lock. */
static bool take_huge(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfn)
{
	uint64_t n = PGMAP_BLOCK_FRAMES, start = ALIGN_UP(pool->next_fresh, n);
	uint32_t nr;

	/* Chunks begin at multiples of 2 MiB, by pfn and by number. */
	if (pool->free_huge.head) {
		nr = pool->free_huge.tail - 1;
		take_off(pool, &pool->free_huge, nr);
	} else if (start + n <= pool->nr_pages) {
		while (pool->next_fresh < start) {
			nr = take_fresh(pool);
			put_on(pool, &pool->free, nr);
		}
		nr = take_fresh(pool);
		while (pool->next_fresh < start + n)
			(void)take_fresh(pool);
	} else {
		return false;
	}
	*pfn = hand_out(pool, nr, n, page_data);
	return true;
}

/* @first to @last, by number + 1, which are pages of chunk @c, behind the last of a list. */
static void list_append(struct uhmm_devmem *pool, struct uhmm__devlist *l,
			struct uhmm__devmem_chunk *c, uint32_t first, uint32_t last)
{
	c->pages[first - 1 - c->first].prev = l->tail;
	c->pages[last - 1 - c->first].next = 0;
	if (l->tail)
		page_near(pool, c, l->tail - 1)->next = first;
	else
		l->head = first;
	l->tail = last;
}

/* The last of a list is @last now, by number + 1; who came after it is on another. */
static void list_shorten(struct uhmm_devmem *pool, struct uhmm__devlist *l,
			 struct uhmm__devmem_chunk *c, uint32_t last)
{
	l->tail = last;
	if (last)
		page_near(pool, c, last - 1)->next = 0;
	else
		l->head = 0;
}

/*
 * What take() would give, from the free list as long as it stays in one chunk: the pages go from the end of one
 * list to the end of the other, which turns their order round. Returns: how many. Context: lock.
 */
static unsigned int take_run(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfns,
			     unsigned int max)
{
	uint32_t at = pool->free.tail, first = at, last = 0;
	struct uhmm__devmem_chunk *c;
	struct uhmm__devpage *pages;
	struct uhmm__frame *frames;
	size_t base, npages;
	uhmm_pfn_t start;
	unsigned int n;

	if (!at)
		return 0;
	c = chunk_of_number(pool, at - 1);
	pages = c->pages;
	npages = c->npages;
	base = c->first + 1UL;
	start = c->start;
	frames = pfn_to_frame(pool->machine, start);
	for (n = 0; n < max; n++) {
		size_t i = at - base;
		uint64_t links;

		/* Nor is 0, the end of the list, in the chunk. */
		if (unlikely(i >= npages))
			break;
		/* It will be initialized. */
		__builtin_prefetch(&frames[i], 1);
		pfns[n] = start + i;
		pages[i].data = page_data;
		last = at;
		at = pages[i].prev;
		links = pages[i].links;
		pages[i].links = links << 32 | links >> 32;
	}
	if (n) {
		list_append(pool, &pool->lru, c, first, last);
		list_shorten(pool, &pool->free, c, at);
		pool->nr_used += n;
	}
	return n;
}

unsigned int uhmm__devmem_alloc_bulk(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *pfns,
				     unsigned int max)
{
	unsigned int n;

	/* One at a time where the n-th must fail. */
	if (unlikely(load_relaxed(&pool->machine->inject_armed)))
		return 0;
	uhmm__spin_lock(&pool->lock);
	n = take_run(pool, page_data, pfns, max);
	while (n < max && take(pool, page_data, &pfns[n]))
		n++;
	uhmm__spin_unlock(&pool->lock);
	if (n)
		uhmm__zone_device_pages_init(pool->machine, pfns, n);
	return n;
}

/* Take from the pool, which may have to grow for it. 0, -ENOSPC, -ENOMEM. */
static int take_or_grow(struct uhmm_devmem *pool, bool huge, void *page_data, uhmm_pfn_t *pfn)
{
	int err = 0;

	for (;;) {
		uint64_t seen;
		bool ok;

		uhmm__spin_lock(&pool->lock);
		if (pool->removing)
			err = -ENOSPC;
		ok = !err && (huge ? take_huge : take)(pool, page_data, pfn);
		seen = pool->nr_pages;
		uhmm__spin_unlock(&pool->lock);
		if (ok || err)
			return err;
		uhmm__mutex_lock(&pool->grow);
		/* Another task may have added a chunk meanwhile. */
		if (pool->nr_pages == seen)
			err = chunk_add(pool);
		uhmm__mutex_unlock(&pool->grow);
		if (err)
			return err;
	}
}

int uhmm_devmem_alloc(struct uhmm_devmem *pool, void *page_data, uhmm_pfn_t *out)
{
	return uhmm_devmem_alloc_folio(pool, page_data, 0, out);
}

int uhmm_devmem_alloc_folio(struct uhmm_devmem *pool, void *page_data, unsigned int order,
			    uhmm_pfn_t *out)
{
	uhmm_pfn_t pfn = 0;
	int err;

	if (order && order != UHMM_PMD_ORDER)
		return -EINVAL;
	if (uhmm__inject(pool->machine, UHMM_INJECT_DEVICE))
		return -ENOMEM;
	err = take_or_grow(pool, order, page_data, &pfn);
	if (err)
		return err;
	if (order)
		uhmm_zone_device_folio_init(pool->machine, pfn, order);
	else
		uhmm_zone_device_page_init(pool->machine, pfn);
	*out = pfn;
	return 0;
}

void *uhmm_devmem_page_data(struct uhmm_devmem *pool, uhmm_pfn_t pfn)
{
	void *data;

	uhmm__spin_lock(&pool->lock);
	data = page_of_number(pool, number_of_folio(pool, pfn))->data;
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
	struct uhmm__frame *f = page_folio(pfn_to_frame(pool->machine, pfn));
	uint32_t nr = f->aux;

	uhmm__spin_lock(&pool->lock);
	/* The page may just have been freed under the device: then it has no place here. */
	if (pool->lru.tail != nr + 1 && folio_ref_count(f)) {
		take_off(pool, &pool->lru, nr);
		put_on(pool, &pool->lru, nr);
	}
	uhmm__spin_unlock(&pool->lock);
}

uint64_t uhmm__devmem_oldest(struct uhmm_devmem *pool, uint64_t *pfns, uint64_t want, uint64_t cap)
{
	uint64_t n = 0;

	uhmm__spin_lock(&pool->lock);
	for (uint32_t at = pool->lru.head; at && n < want;
	     at = page_of_number(pool, at - 1)->next) {
		uhmm_pfn_t pfn = pfn_of_number(pool, at - 1);
		uint64_t nr = folio_nr_pages(pfn_to_frame(pool->machine, pfn));

		if (n + nr > cap)
			break;
		for (uint64_t i = 0; i < nr; i++)
			pfns[n + i] = pfn + i;
		n += nr;
	}
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
