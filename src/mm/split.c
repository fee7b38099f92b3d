// SPDX-License-Identifier: LGPL-2.1-or-later
/* Splitting large folios into pages. See huge.h. Models: __folio_split() and below. */
#include "mm/huge.h"
#include "mm/zone_device.h"

/* What pages take over from the folio. */
static uint32_t page_flags(uint32_t flags)
{
	const uint32_t carry =
		(uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE) | BIT(PG_LOCKED) | BIT(PG_DIRTY) |
			   BIT(PG_LRU) | BIT(PG_ACTIVE) | BIT(PG_REFERENCED)) |
		FOLIO_TAIL_FLAGS;

	return flags & carry;
}

static void split_callback(struct uhmm_machine *m, struct uhmm__frame *f, uhmm_pfn_t tail)
{
	struct uhmm_dev_pagemap *pgmap;

	if (!folio_is_zone_device(f))
		return;
	pgmap = page_pgmap(m, frame_pfn(m, f));
	if (pgmap->ops->folio_split)
		pgmap->ops->folio_split(pgmap->data, frame_pfn(m, f), tail);
}

/*
 * The folio is unmapped and has the caller's reference only. Each page gets one, and is locked.
 * Nobody can come by meanwhile: references are frozen. Models: __folio_freeze_and_split_unmapped().
 */
static int freeze_and_split(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint64_t n = folio_nr_pages(f), index = load_relaxed(&f->index);
	uintptr_t mapping = load_relaxed(&f->mapping);
	uint32_t one = 1, flags;

	if (!atomic_compare_exchange_strong(&f->refcount, &one, 0))
		return -EAGAIN;
	uhmm__deferred_split_unqueue(m, f);
	flags = page_flags(load_relaxed(&f->flags));
	for (uint64_t i = 1; i < n; i++) {
		store_relaxed(&f[i].index, index + i);
		store_relaxed(&f[i].mapping, mapping);
		store_release(&f[i].flags,
			      flags | (load_relaxed(&f[i].flags) & (uint32_t)BIT(PG_HWPOISON)));
		uhmm__bit_lock_written(&f[i].flags);
		if (!folio_is_zone_device(f))
			f[i].aux = 0;
	}
	/* Whoever waits for the lock of the folio waits for that of its first page now. */
	atomic_fetch_and_explicit(&f->flags, ~(FOLIO_ORDER_MASK | (uint32_t)BIT(PG_ANON_EXCLUSIVE)),
				  memory_order_release);
	for (uint64_t i = 1; i < n; i++) {
		split_callback(m, f, frame_pfn(m, f) + i);
		store_release(&f[i].refcount, 1);
	}
	split_callback(m, f, 0);
	store_release(&f->refcount, 1);
	uhmm__count(UHMM_CNT_SPLIT_FOLIO);
	return 0;
}

static struct uhmm__anon_vma *lock_write(struct uhmm__anon_vma *av)
{
	for (;;) {
		struct uhmm__anon_vma *root = load_acquire(&av->root);

		uhmm__down_write(&root->rwsem);
		if (likely(load_acquire(&av->root) == root))
			return root;
		uhmm__up_write(&root->rwsem);
	}
}

/* Map the pages again where the folio was. Models: remap_page(). */
static void remap_pages(struct uhmm_machine *m, struct uhmm__frame *f, uint64_t n, bool zero_page,
			struct uhmm__anon_vma **root)
{
	for (uint64_t i = 0; i < n; i++)
		uhmm__remap_split_page(m, &f[i], zero_page, root);
}

/* @zero_page: pages of zeroes become the zero page. */
static int split_folio(struct uhmm_machine *m, struct uhmm__frame *f, struct uhmm__frame *page,
		       bool zero_page)
{
	struct uhmm__anon_vma *av = folio_anon_vma(f), *root;
	uint64_t n = folio_nr_pages(f);
	int err = -EAGAIN;

	UHMM_VM_BUG_ON(m, !folio_test(f, PG_LOCKED) || page_folio(page) != f);
	if (is_huge_zero_folio(m, f))
		return -EINVAL;
	if (!av || !folio_mapped(f)) {
		uhmm__count(UHMM_CNT_SPLIT_FAILED);
		return -EBUSY;
	}
	/* For writing: two splits, or a split and a collapse, must not meet. */
	root = lock_write(av);
	if ((uint32_t)folio_mapcount(f) == folio_ref_count(f) - 1) {
		uhmm__try_to_migrate_split(f, &root);
		err = freeze_and_split(m, f);
		if (err)
			uhmm__remove_migration_ptes(m, f, f, &root);
		else
			remap_pages(m, f, n, zero_page, &root);
	}
	uhmm__up_write(&root->rwsem);
	if (err) {
		uhmm__count(UHMM_CNT_SPLIT_FAILED);
		return err;
	}
	for (uint64_t i = 0; i < n; i++) {
		if (&f[i] == page)
			continue;
		folio_unlock(m, &f[i]);
		/* The last one, of a page that is mapped nowhere. */
		folio_put(m, &f[i]);
	}
	return 0;
}

int uhmm__split_folio_at(struct uhmm_machine *m, struct uhmm__frame *f, struct uhmm__frame *page)
{
	return split_folio(m, f, page, true);
}

int uhmm__split_folio(struct uhmm_machine *m, struct uhmm__frame *f)
{
	return split_folio(m, f, f, true);
}

int uhmm__split_folio_for_swap(struct uhmm_machine *m, struct uhmm__frame *f)
{
	return split_folio(m, f, f, false);
}

int uhmm__split_folio_unmapped(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if ((uint32_t)folio_mapcount(f) != folio_ref_count(f) - 1)
		return -EAGAIN;
	return freeze_and_split(m, f);
}

uint64_t uhmm__deferred_split_scan(struct uhmm_machine *m)
{
	uint64_t n = uhmm__deferred_split_count(m), split = 0;
	struct uhmm__frame *f;

	while (n-- && (f = uhmm__deferred_split_pop(m))) {
		bool done = false;

		if (folio_trylock(f)) {
			done = folio_test_large(f) && !uhmm__split_folio(m, f);
			folio_unlock(m, f);
		}
		split += done;
		if (!done)
			uhmm__deferred_split_check(m, f);
		folio_put(m, f);
	}
	return split;
}
