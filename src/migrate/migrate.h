/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* migrate.h - the steps of a migration, shared by ranges of addresses and of device pages. */
#ifndef UHMM_MIGRATE_MIGRATE_H
#define UHMM_MIGRATE_MIGRATE_H

#include <uhmm/migrate.h>

#include "mm/mm.h"
#include "mm/pcp.h"
#include "mm/zone_device.h"

static inline struct uhmm__frame *migrate_pfn_to_folio(struct uhmm_machine *m, uint64_t mpfn)
{
	if (!(mpfn & UHMM_MIGRATE_PFN_VALID))
		return NULL;
	return page_folio(pfn_to_frame(m, uhmm_migrate_pfn_to_pfn(mpfn)));
}

/* The same of an entry that is VALID, with the folio's flags. */
uhmm_always_inline struct uhmm__frame *valid_pfn_to_folio(struct uhmm_machine *m, uint64_t mpfn,
							  uint32_t *flags)
{
	return page_folio_flags(pfn_to_frame(m, uhmm_migrate_pfn_to_pfn(mpfn)), flags);
}

/* uhmm_is_device_private_page() */
static inline bool is_device_private_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return pfn_is_device(m, pfn) && folio_is_device_private(pfn_to_frame(m, pfn));
}

/* uhmm_alloc_locked_folio() of an order that there is. */
uhmm_always_inline int alloc_locked_folio(struct uhmm_machine *m, unsigned int order,
					  uhmm_pfn_t *out)
{
	struct uhmm__frame *f = order ? uhmm__folio_alloc_order(m, order, false)
				      : folio_alloc(m, false);

	if (unlikely(!f))
		return -ENOMEM;
	folio_lock_new(f);
	*out = ram_pfn(m, f);
	return 0;
}

/*
 * Isolate, unmap elsewhere, check references; put back what cannot move.
 * @fault_page: page of the CPU fault that this serves, or 0
 * Returns: entries that still have MIGRATE. Models: migrate_device_unmap().
 */
uint64_t uhmm__migrate_device_unmap(struct uhmm_machine *m, uint64_t *src, uint64_t npages,
				    uhmm_pfn_t fault_page);

#endif /* UHMM_MIGRATE_MIGRATE_H */
