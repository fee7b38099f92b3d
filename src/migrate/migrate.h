/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* migrate.h - the steps of a migration, shared by ranges of addresses and of device pages. */
#ifndef UHMM_MIGRATE_MIGRATE_H
#define UHMM_MIGRATE_MIGRATE_H

#include <uhmm/hmm.h>
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

/* uhmm_hmm_pfn_to_migrate_pfn() */
uhmm_always_inline uint64_t to_migrate_pfn(uint64_t hmm_pfn)
{
	const uint64_t page = UHMM_HMM_PFN_MIGRATE | UHMM_HMM_PFN_VALID;
	uint64_t mpfn = UHMM_MIGRATE_PFN_MIGRATE;

	if (unlikely((hmm_pfn & (page | UHMM_HMM_PFN_ORDER_MASK)) != page)) {
		if (!(hmm_pfn & UHMM_HMM_PFN_MIGRATE))
			return 0;
		if (hmm_pfn & UHMM_HMM_PFN_ORDER_MASK)
			mpfn |= UHMM_MIGRATE_PFN_COMPOUND;
		if (!(hmm_pfn & UHMM_HMM_PFN_VALID))
			return mpfn;
	}
	return mpfn | uhmm_migrate_pfn(uhmm_hmm_pfn_to_pfn(hmm_pfn)) |
	       carry_bit(hmm_pfn, UHMM_HMM_PFN_WRITE, UHMM_MIGRATE_PFN_WRITE);
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

/* References that are not accounted for do not matter: migration-blocked-by=pin. */
bool uhmm__only_pins_block(struct uhmm_machine *m, struct uhmm__frame *f);

/*
 * Isolate, unmap elsewhere, check references; put back what cannot move.
 * @fault_page: page of the CPU fault that this serves, or 0
 * Returns: entries that still have MIGRATE. Models: migrate_device_unmap().
 */
uint64_t uhmm__migrate_device_unmap(struct uhmm_machine *m, uint64_t *src, uint64_t npages,
				    uhmm_pfn_t fault_page);

/* Whether it does more by the machine's configuration than what Linux does. */
uhmm_always_inline bool uhmm__unmaps_specially(const struct uhmm_machine *m)
{
	return m->config.device_private_wait == UHMM_DEVICE_WAIT_MIGRATION_FLAG ||
	       m->config.lru_drain == UHMM_LRU_DRAIN_AFTER_UNMAP;
}

/* The same of one entry of src[]. @drained: this CPU's batches were. Returns: what becomes of it. */
uint64_t uhmm__migrate_unmap_one(struct uhmm_machine *m, uint64_t src, uhmm_pfn_t fault_page,
				 bool drained);

/*
 * The same of what a combined walk put out: it becomes mig->src, which may be the same array, on the way.
 * Models: migrate_hmm_range_setup() of the posted series.
 */
uint64_t uhmm__migrate_hmm_unmap(struct uhmm_migrate_vma *mig, const uint64_t *hmm_pfns);

#endif /* UHMM_MIGRATE_MIGRATE_H */
