// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Memory files: swap, and pages in advance. Models: mm/shmem.c:shmem_writeout(), shmem_swapin_folio(),
 * shmem_fallocate().
 *
 * A page that is out has its slot in the place of its pfn in the page cache, and counts as one entry
 * of it. It is in the swap cache or in the page cache, never in both but under its folio lock.
 */
#include "mm/swap.h"

/* Exchange an entry of the page cache. False: it is another one by now. Context: the lock. */
static bool replace_entry(struct uhmm__mapping *mapping, uint64_t index, uint64_t old, uint64_t new)
{
	if (uhmm__radix_load(&mapping->pages, index) != old)
		return false;
	/* Its leaf exists, so this cannot fail. */
	UHMM_BUG_ON(mapping_file(mapping)->machine, uhmm__radix_store(&mapping->pages, index, new));
	return true;
}

/* What a fallocate() is about: [start, next) are there. Models: struct shmem_falloc. */
struct uhmm__falloc {
	uint64_t start, next;
	uint64_t nr_falloced,
		nr_unswapped; /* pages that it made; that reclaim came for, [lock:w] */
};

/* Whether a page belongs to a fallocate() that is not done yet. */
static bool being_allocated(struct uhmm__mapping *mapping, uint64_t index)
{
	struct uhmm__falloc *falloc;
	bool in;

	uhmm__spin_lock(&mapping->lock);
	falloc = mapping->falloc;
	in = falloc && index >= falloc->start && index < falloc->next;
	if (in)
		WRITE_ONCE(falloc->nr_unswapped, falloc->nr_unswapped + 1);
	uhmm__spin_unlock(&mapping->lock);
	return in;
}

bool uhmm__shmem_writeout(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__mapping *mapping = folio_mapping(f);
	uint64_t index = load_relaxed(&f->index);

	/* What comes back from swap is uptodate, and not to be taken back any more. */
	if (!folio_test(f, PG_UPTODATE)) {
		if (being_allocated(mapping, index))
			return false;
		folio_set(f, PG_UPTODATE);
	}
	if (!uhmm__folio_alloc_swap(m, f))
		return false;
	uhmm__folio_dup_swap(m, f);
	uhmm__spin_lock(&mapping->lock);
	UHMM_BUG_ON(m, !replace_entry(mapping, index, frame_pfn(m, f), slot_entry(f->aux)));
	mapping->nr_swapped++;
	store_release(&f->mapping, 0);
	uhmm__spin_unlock(&mapping->lock);
	/* The page cache's; not the last. From here on the file may go away. */
	folio_put(m, f);
	uhmm__swap_write(m, f);
	return true;
}

/* A locked folio of the swap cache into the page cache. False: its place is another's by now. */
static bool add_to_page_cache(struct uhmm__mapping *mapping, uint64_t index, uint64_t slot,
			      struct uhmm__frame *f)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	bool ok;

	uhmm__spin_lock(&mapping->lock);
	ok = replace_entry(mapping, index, slot_entry(slot), frame_pfn(m, f));
	if (ok) {
		mapping->nr_swapped--;
		folio_get(f);
		store_relaxed(&f->index, index);
		store_release(&f->mapping, (uintptr_t)mapping);
	}
	uhmm__spin_unlock(&mapping->lock);
	return ok;
}

/* 0, -EEXIST: try again; context: the folio locked and referenced. */
static int swapin_locked(struct uhmm__mapping *mapping, uint64_t index, uint64_t slot,
			 struct uhmm__frame *f)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;

	/* It may have left the cache, and even have entered it again for another slot. */
	if (!folio_test(f, PG_SWAPCACHE) || f->aux != slot)
		return -EEXIST;
	if (!add_to_page_cache(mapping, index, slot, f)) {
		uhmm__folio_free_swap(m, f);
		return -EEXIST;
	}
	uhmm__folio_put_swap(m, f);
	/* Nobody else names the slot, so it goes, and the folio is dirty. */
	UHMM_VM_BUG_ON(m, load_relaxed(&m->swap->count[slot]));
	uhmm__folio_free_swap(m, f);
	return 0;
}

int uhmm__shmem_swapin(struct uhmm__mapping *mapping, uint64_t index, uint64_t slot,
		       const struct uhmm__fault *vmf, struct uhmm__frame **out)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	struct uhmm__frame *f = uhmm__swap_cache_get(m, slot);
	int err = 0;

	if (!f) {
		if (vmf)
			uhmm__count(UHMM_CNT_FAULT_FILE_MAJOR);
		err = uhmm__swapin(m, slot, &f);
	}
	/* A slot that was free for a moment may be the offset's again: that is no lack of RAM. */
	if (err)
		return err == -ENOMEM && uhmm__mapping_confirm(mapping, index, slot_entry(slot))
			       ? -ENOMEM
			       : -EEXIST;
	if (vmf && vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT) {
		if (!folio_trylock(f)) {
			folio_put(m, f);
			return -EAGAIN;
		}
	} else {
		folio_lock(m, f);
	}
	err = swapin_locked(mapping, index, slot, f);
	folio_unlock(m, f);
	if (err)
		folio_put(m, f);
	else
		*out = f;
	return err;
}

/* ---- pages in advance ---- */

/* Take back what nobody has used since. Models: shmem_undo_range() with unfalloc. */
static void undo_falloc(struct uhmm__mapping *mapping, uint64_t first, uint64_t end)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;

	for (; first < end; first++) {
		struct uhmm__frame *f = uhmm__mapping_get(mapping, first);
		bool mine;

		if (!f)
			continue;
		folio_lock(m, f);
		mine = folio_mapping(f) == mapping && !folio_test(f, PG_UPTODATE);
		if (mine)
			uhmm__mapping_remove(mapping, f);
		folio_unlock(m, f);
		folio_put_refs(m, f, mine ? 2 : 1);
	}
}

/* Tells reclaim that it begins, has come further, or, with NULL, is over. */
static void set_falloc(struct uhmm__mapping *mapping, struct uhmm__falloc *falloc)
{
	uhmm__spin_lock(&mapping->lock);
	mapping->falloc = falloc;
	uhmm__spin_unlock(&mapping->lock);
}

/* One page, and reclaim is told. Returns: 0 or -ENOMEM. */
static int falloc_page(struct uhmm__mapping *mapping, struct uhmm__falloc *falloc)
{
	struct uhmm__frame *f;
	uint64_t made;
	int err;

	/* Reclaim came for more pages than there are: to go on would only fill swap. */
	if (READ_ONCE(falloc->nr_unswapped) > falloc->nr_falloced)
		return -ENOMEM;
	err = uhmm__mapping_get_create(mapping, falloc->next, UHMM__SGP_FALLOC, NULL, &f);
	if (err)
		return err;
	made = !folio_test(f, PG_UPTODATE);
	uhmm__spin_lock(&mapping->lock);
	falloc->nr_falloced += made;
	falloc->next++;
	uhmm__spin_unlock(&mapping->lock);
	folio_set(f, PG_DIRTY);
	folio_put(mapping_file(mapping)->machine, f);
	return 0;
}

int uhmm__shmem_fallocate(struct uhmm_file *file, uint64_t first, uint64_t npages)
{
	struct uhmm__mapping *mapping = &file->mapping;
	struct uhmm__falloc falloc = { .start = first, .next = first };
	uint64_t end = first + MIN(npages, UINT64_MAX - first);
	int err = 0;

	uhmm__down_write(&file->inode_lock);
	end = MIN(end, mapping_npages(mapping));
	set_falloc(mapping, &falloc);
	while (!err && falloc.next < end)
		err = falloc_page(mapping, &falloc);
	if (err)
		undo_falloc(mapping, first, falloc.next);
	set_falloc(mapping, NULL);
	uhmm__up_write(&file->inode_lock);
	return err;
}
