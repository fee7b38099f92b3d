// SPDX-License-Identifier: LGPL-2.1-or-later
/* Device pages and their pagemaps. Models: mm/memremap.c. */
#include "mm/zone_device.h"

#include "core/alloc.h"

int uhmm__pgmaps_init(struct uhmm_machine *m)
{
	struct uhmm__pgmaps *p = uhmm__alloc(m, sizeof(*p));

	if (!p)
		return -ENOMEM;
	m->pgmaps = p;
	uhmm__mutex_init(&p->lock, UHMM__LC_PGMAPS);
	uhmm__waitq_init(&p->drained, UHMM__LC_WAITQ);
	p->next = m->device_base;
	p->next_own = index_to_pfn(m, m->own_base);
	p->nr_blocks = (m->nr_frames - m->device_base) / PGMAP_BLOCK_FRAMES;
	p->by_block = uhmm__reserve(p->nr_blocks * sizeof(*p->by_block));
	return p->by_block ? 0 : -ENOMEM;
}

void uhmm__pgmaps_exit(struct uhmm_machine *m)
{
	struct uhmm__pgmaps *p = m->pgmaps;

	if (!p)
		return;
	uhmm__unreserve(p->by_block, p->nr_blocks * sizeof(*p->by_block));
	uhmm__free(m, p, sizeof(*p));
	m->pgmaps = NULL;
}

static void pgmap_set(struct uhmm__pgmaps *p, struct uhmm_dev_pagemap *pgmap,
		      struct uhmm_dev_pagemap *value)
{
	struct uhmm_machine *m = pgmap->machine;
	size_t first = (pfn_to_index(m, pgmap->start) - m->device_base) / PGMAP_BLOCK_FRAMES;

	for (size_t i = 0; i < pgmap->npages / PGMAP_BLOCK_FRAMES; i++)
		store_release(&p->by_block[first + i], value);
}

int uhmm_memremap_pages(struct uhmm_machine *m, enum uhmm_memory_type type, uint64_t npages,
			void *owner, const struct uhmm_dev_pagemap_ops *ops, void *data,
			struct uhmm_dev_pagemap **out)
{
	struct uhmm__pgmaps *p = m->pgmaps;
	bool own = m->config.device_pfn_space == UHMM_DEVICE_PFN_OWN &&
		   type == UHMM_MEMORY_DEVICE_PRIVATE;
	uhmm_pfn_t *next = own ? &p->next_own : &p->next;
	struct uhmm_dev_pagemap *pgmap;
	uint64_t n;

	if ((unsigned int)type > UHMM_MEMORY_DEVICE_COHERENT || !npages || !ops || !ops->folio_free)
		return -EINVAL;
	/* The CPU never faults on coherent memory. */
	if (type == UHMM_MEMORY_DEVICE_PRIVATE && !ops->migrate_to_ram)
		return -EINVAL;
	if (npages > m->end_pfn - m->device_base)
		return -ENOSPC;
	n = ALIGN_UP(npages, PGMAP_BLOCK_FRAMES);
	pgmap = uhmm__alloc(m, sizeof(*pgmap));
	if (!pgmap)
		return -ENOMEM;
	*pgmap = (struct uhmm_dev_pagemap){
		.machine = m,
		.type = type,
		.npages = n,
		.owner = owner,
		.ops = ops,
		.data = data,
	};
	store_relaxed(&pgmap->refs, 1);
	uhmm__mutex_lock(&p->lock);
	if (n > (own ? m->nr_frames : m->end_pfn) - pfn_to_index(m, *next)) {
		uhmm__mutex_unlock(&p->lock);
		uhmm__free(m, pgmap, sizeof(*pgmap));
		return -ENOSPC;
	}
	/* Never reused: a stale pfn finds no map rather than another's. */
	pgmap->start = *next;
	*next += n;
	pgmap_set(p, pgmap, pgmap);
	uhmm__mutex_unlock(&p->lock);
	/* The descriptors stay untouched until a page is used: free is reference count 0. */
	*out = pgmap;
	return 0;
}

void uhmm_memunmap_pages(struct uhmm_dev_pagemap *pgmap)
{
	struct uhmm_machine *m;
	struct uhmm__pgmaps *p;

	if (!pgmap)
		return;
	m = pgmap->machine;
	p = m->pgmaps;
	atomic_fetch_sub_explicit(&pgmap->refs, 1, memory_order_acq_rel);
	uhmm__wait_event(&p->drained, load_acquire(&pgmap->refs) == 0);
	uhmm__mutex_lock(&p->lock);
	pgmap_set(p, pgmap, NULL);
	uhmm__mutex_unlock(&p->lock);
	uhmm__free(m, pgmap, sizeof(*pgmap));
}

uhmm_pfn_t uhmm_pagemap_start(const struct uhmm_dev_pagemap *pgmap)
{
	return pgmap->start;
}

uint64_t uhmm_pagemap_npages(const struct uhmm_dev_pagemap *pgmap)
{
	return pgmap->npages;
}

void *uhmm_pagemap_owner(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm_dev_pagemap *pgmap;

	if (!pfn_is_device(m, pfn))
		return NULL;
	pgmap = page_pgmap(m, pfn);
	return pgmap ? pgmap->owner : NULL;
}

/* @flags: of a page of this pagemap. */
uhmm_always_inline void folio_init(struct uhmm_machine *m uhmm_unused, struct uhmm__frame *f,
				   unsigned int order, uint32_t flags)
{
	flags |= (uint32_t)BIT(PG_SWAPBACKED);
	UHMM_VM_BUG_ON(m, folio_ref_count(f) != 0);
	UHMM_VM_BUG_ON(m, folio_test(f, PG_WAITERS));
	/* Nothing of the page's last life may stay. */
	store_relaxed(&f->mapping, 0);
	store_relaxed(&f->index, 0);
	store_relaxed(&f->mapcount, 0);
	/* Not live before it is locked: whoever goes through pages by number must not be first. */
	if (unlikely(order)) {
		uhmm__prep_folio(f, order, flags);
		folio_lock_new(f);
		store_release(&f->refcount, 1);
	} else {
		flags |= (uint32_t)BIT(PG_LOCKED);
		store_release(&f->flags_refs, FOLIO_FLAGS_REFS(flags, 1));
		uhmm__bit_lock_written(&f->flags);
	}
}

void uhmm__zone_device_pages_init(struct uhmm_machine *m, const uhmm_pfn_t *pfns, unsigned int nr)
{
	const uhmm_pfn_t *end = pfns + nr;

	atomic_fetch_add_explicit(&m->pgmaps->used, nr, memory_order_relaxed);
	while (pfns < end) {
		struct uhmm_dev_pagemap *pgmap = page_pgmap(m, *pfns);
		uhmm_pfn_t start = pgmap->start, npages = pgmap->npages;
		struct uhmm__frame *frames = pfn_to_frame(m, start);
		uint32_t flag = pgmap_page_flag(pgmap);

		/*
		 * Each page in use holds its pagemap, so that it cannot go away below it. References for all
		 * that are left come first, since most often all are of this pagemap.
		 */
		atomic_fetch_add_explicit(&pgmap->refs, end - pfns, memory_order_relaxed);
		for (; pfns < end && *pfns - start < npages; pfns++)
			folio_init(m, &frames[*pfns - start], 0, flag);
		if (unlikely(pfns < end))
			atomic_fetch_sub_explicit(&pgmap->refs, end - pfns, memory_order_relaxed);
	}
}

void uhmm_zone_device_page_init(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	uhmm__zone_device_pages_init(m, &pfn, 1);
}

void uhmm_zone_device_folio_init(struct uhmm_machine *m, uhmm_pfn_t pfn, unsigned int order)
{
	UHMM_VM_BUG_ON(m, order > FOLIO_MAX_ORDER || pfn & ((1UL << order) - 1));
	atomic_fetch_add_explicit(&m->pgmaps->used, 1UL << order, memory_order_relaxed);
	atomic_fetch_add_explicit(&page_pgmap(m, pfn)->refs, 1UL << order, memory_order_relaxed);
	folio_init(m, pfn_to_frame(m, pfn), order, pgmap_page_flag(page_pgmap(m, pfn)));
}

void uhmm__free_zone_device_folio(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint32_t flags = load_relaxed(&f->flags);
	size_t index = frame_index(m, f);
	struct uhmm_dev_pagemap *pgmap = index_pgmap(m, index);
	uint64_t n = 1UL << flags_order(flags);

	/* The order stays until the frame is used again: the driver asks for it. */
	store_relaxed(&f->flags,
		      (flags & (FOLIO_ORDER_MASK | FOLIO_ZONE_DEVICE)) | (uint32_t)BIT(PG_FREE));
	atomic_fetch_sub_explicit(&m->pgmaps->used, n, memory_order_relaxed);
	pgmap->ops->folio_free(pgmap->data, index_to_pfn(m, index));
	if (atomic_fetch_sub_explicit(&pgmap->refs, n, memory_order_acq_rel) == n)
		uhmm__wake_up_all(&m->pgmaps->drained);
}
