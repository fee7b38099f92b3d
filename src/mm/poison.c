// SPDX-License-Identifier: LGPL-2.1-or-later
/* A page of RAM is broken. Models: mm/memory-failure.c:memory_failure() for anonymous pages. */
#include <uhmm/special.h>

#include "mm/huge.h"

int uhmm_memory_failure(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *page, *f;
	uhmm_pfn_t first, end;

	if (!uhmm__current())
		return -EINVAL;
	/* Device pages need a say of the device. */
	if (pfn >= m->ram_frames)
		return -ENXIO;
	uhmm__frames_range(m, &first, &end);
	if (pfn < first || pfn >= end)
		return -EBUSY;
	page = pfn_to_frame(m, pfn);
	f = page_folio(page);
	if (!folio_try_get(f))
		return -EBUSY;
	if (!folio_test_anon(f)) {
		bool file = folio_mapping(f);

		folio_put(m, f);
		return file ? -EOPNOTSUPP : -EBUSY;
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
	/* Lock and reference are the page's from then on. */
	if (folio_test_large(f) && uhmm__split_folio_at(m, f, page)) {
		folio_unlock(m, f);
		folio_put(m, f);
		uhmm__exit_to_user();
		return -EBUSY;
	}
	f = page;
	uhmm__unmap_poisoned(m, f);
	uhmm__folio_isolate_lru(f);
	folio_unlock(m, f);
	/* The reference stays, so that the page never comes back. */
	uhmm__exit_to_user();
	return 0;
}
