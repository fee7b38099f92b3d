// SPDX-License-Identifier: LGPL-2.1-or-later
/* A page of RAM is broken. Models: mm/memory-failure.c:memory_failure(). */
#include <uhmm/special.h>

#include "mm/file.h"
#include "mm/gup.h"
#include "mm/huge.h"
#include "mm/swap.h"

/* Whether there is a page of RAM at all: 0, -ENXIO, -EBUSY. */
static int check_pfn(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	uhmm_pfn_t first, end;

	/* Device pages need a say of the device. */
	if (pfn >= m->ram_frames)
		return -ENXIO;
	uhmm__frames_range(m, &first, &end);
	return pfn < first || pfn >= end ? -EBUSY : 0;
}

/*
 * A locked page in a page cache. A memory file keeps it there, so that nobody takes zeroes for what was
 * lost; a regular file reads its disk again, and where the page was clean nothing is lost, and no access
 * fails; where it was dirty, who syncs the file is told. -EBUSY: somebody else has a reference. Models:
 * unmap_poisoned_folio(), me_pagecache_clean(), me_pagecache_dirty().
 */
static int lose_file_page(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__mapping *mapping = folio_mapping(f);
	struct uhmm_file *file = mapping_file(mapping);
	bool stays = file->kind == UHMM_FILE_MEMORY;
	bool lost = !stays && (folio_test(f, PG_DIRTY) || uhmm__folio_mkclean(m, f));
	uint64_t index = load_relaxed(&f->index);

	if (stays || lost)
		uhmm__unmap_poisoned(f);
	else
		uhmm__unmap_mapping(mapping, index, index, false);
	if (lost)
		atomic_store_explicit(&file->wb_err, true, memory_order_relaxed);
	uhmm__folio_isolate_lru(f);
	if (!stays) {
		uhmm__mapping_lose(mapping, f);
		folio_put(m, f); /* the cache's; not the last */
	}
	return folio_ref_count(f) > 1U + stays ? -EBUSY : 0;
}

/*
 * A locked page in the swap cache, without a mapping. If it was clean its slot has all, and nothing is lost; if
 * not it stays in the cache, so that who comes back to it gets a SIGBUS. -EBUSY: somebody else has a reference,
 * or reclaim is at it. Models: me_swapcache_clean(), me_swapcache_dirty().
 */
static int lose_swapcache_page(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool stays = folio_test_clear(f, PG_DIRTY);

	if (!stays)
		uhmm__swap_cache_del(m, f);
	return uhmm__folio_isolate_lru(f) && folio_ref_count(f) == 1U + stays ? 0 : -EBUSY;
}

/*
 * Get hold of the page by itself: out of its large folio, and, in the swap cache, out of all page tables. False: a
 * reference or a pin is in the way. @f: the folio of @page, locked; once it is split @page, which then has lock
 * and reference.
 */
static bool set_apart(struct uhmm_machine *m, struct uhmm__frame **f, struct uhmm__frame *page)
{
	if (folio_test_large(*f) && uhmm__split_folio_at(m, *f, page))
		return false;
	*f = page;
	if (!folio_test(page, PG_SWAPCACHE))
		return true;
	if (folio_mapped(page))
		uhmm__unmap_to_swap(page);
	return !folio_mapped(page);
}

/* The caller's reference stays with the page if all goes well, else it is dropped. */
static int memory_failure(struct uhmm_machine *m, struct uhmm__frame *page)
{
	struct uhmm__frame *f = page_folio(page);
	int err = 0;

	if (!folio_test_anon(f) && !folio_mapping(f) && !folio_test(f, PG_SWAPCACHE)) {
		folio_put(m, f);
		return -EBUSY;
	}
	if (atomic_fetch_or_explicit(&page->flags, (uint32_t)BIT(PG_HWPOISON),
				     memory_order_acq_rel) &
	    BIT(PG_HWPOISON)) {
		folio_put(m, f);
		return -EHWPOISON;
	}
	if (!folio_test(f, PG_LRU))
		uhmm__lru_add_drain_all(m);
	folio_lock(m, f);
	if (!set_apart(m, &f, page)) {
		/* (q) In Linux the bit stays, and with it the large folio, or the mappings. */
		folio_clear(page, PG_HWPOISON);
		folio_unlock(m, f);
		folio_put(m, f);
		return -EBUSY;
	}
	if (folio_test(f, PG_SWAPCACHE)) {
		err = lose_swapcache_page(m, f);
	} else if (folio_test_anon(f)) {
		uhmm__unmap_poisoned(f);
		uhmm__folio_isolate_lru(f);
	} else {
		/* Its file may have given it up meanwhile. */
		err = folio_mapping(f) ? lose_file_page(m, f) : -EBUSY;
	}
	folio_unlock(m, f);
	/* The reference stays, so that the page never comes back. */
	return err;
}

/* A reference to the folio that the page belongs to, unless it is free. */
static bool get_folio_of(struct uhmm_machine *m, struct uhmm__frame *page)
{
	for (;;) {
		struct uhmm__frame *f = page_folio(page);

		if (!folio_try_get(f))
			return false;
		/* A split meanwhile made it another's. */
		if (page_folio(page) == f)
			return true;
		folio_put(m, f);
	}
}

int uhmm_memory_failure(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *page;
	int err;

	if (!uhmm__current())
		return -EINVAL;
	err = check_pfn(m, pfn);
	if (err)
		return err;
	page = pfn_to_frame(m, pfn);
	if (!get_folio_of(m, page))
		return -EBUSY;
	err = memory_failure(m, page);
	uhmm__exit_to_user();
	return err;
}

int uhmm__madvise_hwpoison(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_machine *m = mm->machine;
	uint64_t size;

	for (; start < end; start += size) {
		struct uhmm__frame *page;
		uhmm_pfn_t pfn;
		int64_t n = uhmm__get_user_pages_unlocked(mm, start, 1, FOLL_GET, &pfn);
		int err;

		if (n != 1)
			return (int)n;
		page = pfn_to_frame(m, pfn);
		/* (q) Of a large folio one page is broken, and the next one is sought behind it. */
		size = folio_nr_pages(page_folio(page)) << UHMM_PAGE_SHIFT;
		err = check_pfn(m, pfn);
		if (err || pfn == m->zero_pfn) {
			folio_put(m, page_folio(page));
			return err ? err : -EBUSY;
		}
		err = memory_failure(m, page);
		if (err)
			return err;
	}
	return 0;
}
