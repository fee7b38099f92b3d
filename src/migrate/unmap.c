// SPDX-License-Identifier: LGPL-2.1-or-later
/* What was collected is isolated and unmapped elsewhere. Models: mm/migrate_device.c:migrate_device_unmap(). */
#include "migrate/migrate.h"
#include "mm/file.h"

bool uhmm_cold uhmm__only_pins_block(struct uhmm_machine *m, struct uhmm__frame *f)
{
	return m->config.migration_blocked_by == UHMM_BLOCKED_BY_PIN && folio_is_zone_device(f) &&
	       !folio_maybe_dma_pinned(f);
}

/*
 * Whether nobody but the mappings, of which none is left, and this migration refers to a page. A device page
 * is granted one reference too many here; folio_migrate_mapping() sees it later. @flags: the page's.
 * Models: migrate_vma_check_page().
 */
uhmm_always_inline bool check_page(struct uhmm_machine *m, struct uhmm__frame *f, uint32_t flags,
				   bool is_fault_page)
{
	uint32_t granted = 1U + is_fault_page;

	if (flags & (FOLIO_ZONE_DEVICE | (uint32_t)BIT(PG_SWAPCACHE)))
		granted++;
	/* The page cache's. */
	if (folio_mapping(f))
		granted++;
	if (likely(folio_ref_count(f) <= granted))
		return true;
	return uhmm__only_pins_block(m, f);
}

/* A folio that is isolated, or the device's. False: it must go back. */
uhmm_always_inline bool unmap_isolated(struct uhmm_machine *m, struct uhmm__frame *f,
				       uint32_t flags, bool is_fault_page)
{
	int32_t mapcount = folio_mapcount_flags(f, flags);

	if (unlikely(mapcount > 0)) {
		uhmm__try_to_migrate(f);
		mapcount = folio_mapcount_flags(f, flags);
	}
	if (likely(mapcount <= 0 && check_page(m, f, flags, is_fault_page)))
		return true;
	uhmm__count(mapcount > 0 ? UHMM_CNT_FAIL_MAPPED : UHMM_CNT_FAIL_REFERENCED);
	/* Back by way of a batch, which holds it for a while. */
	if (!(flags & FOLIO_ZONE_DEVICE))
		uhmm__folio_add_lru(m, f);
	return false;
}

static uhmm_noinline bool unmap_isolated_slow(struct uhmm_machine *m, struct uhmm__frame *f,
					      uint32_t flags, bool is_fault_page)
{
	return unmap_isolated(m, f, flags, is_fault_page);
}

/* One folio, which has these flags. False: it must go back. */
uhmm_always_inline bool unmap_page(struct uhmm_machine *m, struct uhmm__frame *f, uint32_t flags,
				   bool is_fault_page, bool *drained)
{
	if (!(flags & FOLIO_ZONE_DEVICE)) {
		if (unlikely(!(flags & BIT(PG_LRU))) && !*drained) {
			uhmm__lru_add_drain_all(m);
			*drained = true;
		}
		if (!uhmm__folio_isolate_lru(f)) {
			uhmm__count(UHMM_CNT_FAIL_ISOLATE);
			return false;
		}
	}
	return unmap_isolated(m, f, flags, is_fault_page);
}

/* As most pages of RAM are, by their flags: of these only PG_LRU. */
static const uint32_t plain_flags_mask = FOLIO_ZONE_DEVICE | FOLIO_ORDER_MASK |
					 (uint32_t)(BIT(PG_TAIL) | BIT(PG_SWAPCACHE) | BIT(PG_LRU));

uhmm_always_inline bool is_plain(uint32_t flags)
{
	return likely((flags & plain_flags_mask) == BIT(PG_LRU));
}

/* The same of such one, which most often was mapped once, and has the migration's reference. */
uhmm_always_inline bool unmap_plain(struct uhmm_machine *m, struct uhmm__frame *f, uint32_t flags,
				    bool is_fault_page)
{
	if (unlikely(!uhmm__folio_isolate_lru(f))) {
		uhmm__count(UHMM_CNT_FAIL_ISOLATE);
		return false;
	}
	return likely(!load_relaxed(&f->mapcount) && folio_test_anon(f) &&
		      folio_ref_count(f) <= 1) ||
	       unmap_isolated_slow(m, f, flags, is_fault_page);
}

/* ---- wait-on-migration-flag ---- */

static void uhmm_cold migration_flag_set(struct uhmm_machine *m, const uint64_t *src,
					 uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++) {
		struct uhmm__frame *f = migrate_pfn_to_folio(m, src[i]);

		if (f && folio_is_device_private(f))
			folio_set(f, PG_MIGRATING);
	}
}

static void migration_flag_clear(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (unlikely(folio_test(f, PG_MIGRATING)))
		uhmm__bit_clear_and_wake(m, &f->flags, PG_MIGRATING, PG_WAITERS);
}

/* Those that are unmapped: nobody finds a device-private entry of them any more. */
static void uhmm_cold migration_flag_clear_all(struct uhmm_machine *m, const uint64_t *src,
					       uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++) {
		struct uhmm__frame *f = migrate_pfn_to_folio(m, src[i]);

		if (f && src[i] & UHMM_MIGRATE_PFN_MIGRATE)
			migration_flag_clear(m, f);
	}
}

/* lru-drain=after-unmap: nobody waits for these but by migration entries. */
static void uhmm_cold unmap_all(struct uhmm_machine *m, const uint64_t *src, uint64_t npages)
{
	for (uint64_t i = 0; i < npages; i++) {
		struct uhmm__frame *f = migrate_pfn_to_folio(m, src[i]);

		if (f && folio_mapped(f))
			uhmm__try_to_migrate(f);
	}
}

static void restore_page(struct uhmm_machine *m, struct uhmm__frame *f, bool is_fault_page)
{
	uhmm__remove_migration_ptes(m, f, f, NULL);
	migration_flag_clear(m, f);
	if (!is_fault_page)
		folio_unlock(m, f);
	folio_put(m, f);
}

/* What cannot move. */
static uhmm_noinline void restore_pages(struct uhmm_machine *m, uint64_t *src, uint64_t npages,
					uhmm_pfn_t fault_page)
{
	struct uhmm__frame *fault_folio = fault_page ? page_folio(pfn_to_frame(m, fault_page))
						     : NULL;

	for (uint64_t i = 0; i < npages; i++) {
		struct uhmm__frame *f = migrate_pfn_to_folio(m, src[i]);

		if (!f || src[i] & UHMM_MIGRATE_PFN_MIGRATE)
			continue;
		src[i] = 0;
		restore_page(m, f, f == fault_folio);
	}
}

static bool waits_on_flag(const struct uhmm_machine *m)
{
	return unlikely(m->config.device_private_wait == UHMM_DEVICE_WAIT_MIGRATION_FLAG);
}

/* An entry that is VALID; counted if it still has MIGRATE. Returns: for how many pages it stands. */
uhmm_always_inline uint64_t unmap_entry(struct uhmm_machine *m, uint64_t *p, uhmm_pfn_t fault_page,
					bool *drained, uint64_t *unmapped, bool *restore)
{
	uhmm_pfn_t pfn = uhmm_migrate_pfn_to_pfn(*p);
	struct uhmm__frame *f = pfn_to_frame(m, pfn);
	uint32_t flags = load_relaxed(&f->flags);
	uint64_t nr = 1;
	bool ok;

	if (is_plain(flags)) {
		ok = unmap_plain(m, f, flags, pfn == fault_page);
	} else {
		f = page_folio_flags(f, &flags);
		if (unlikely(flags & FOLIO_ORDER_MASK)) {
			nr = 1UL << flags_order(flags);
			*p |= UHMM_MIGRATE_PFN_COMPOUND;
		}
		ok = unmap_page(m, f, flags, pfn == fault_page, drained);
	}
	if (likely(ok)) {
		++*unmapped;
		return nr;
	}
	*p &= ~UHMM_MIGRATE_PFN_MIGRATE;
	*restore = true;
	return nr;
}

uint64_t uhmm__migrate_device_unmap(struct uhmm_machine *m, uint64_t *src, uint64_t npages,
				    uhmm_pfn_t fault_page)
{
	bool drained = false, restore = false;
	uint64_t unmapped = 0, nr;

	if (waits_on_flag(m))
		migration_flag_set(m, src, npages);
	uhmm__lru_add_drain(m);
	if (unlikely(m->config.lru_drain == UHMM_LRU_DRAIN_AFTER_UNMAP))
		unmap_all(m, src, npages);
	for (uint64_t *p = src, *end = src + npages; p < end; p += nr) {
		nr = 1;
		if (*p & UHMM_MIGRATE_PFN_VALID)
			nr = unmap_entry(m, p, fault_page, &drained, &unmapped, &restore);
		else
			unmapped += !!(*p & UHMM_MIGRATE_PFN_MIGRATE);
	}
	if (waits_on_flag(m))
		migration_flag_clear_all(m, src, npages);
	if (unlikely(restore))
		restore_pages(m, src, npages, fault_page);
	return unmapped;
}

uint64_t uhmm_noinline uhmm__migrate_unmap_one(struct uhmm_machine *m, uint64_t src,
					       uhmm_pfn_t fault_page, bool drained)
{
	bool all_drained = false, restore = false;
	uint64_t unmapped = 0;

	if (!(src & UHMM_MIGRATE_PFN_MIGRATE))
		return src;
	if (!drained) {
		uhmm__migrate_device_unmap(m, &src, 1, fault_page);
		return src;
	}
	unmap_entry(m, &src, fault_page, &all_drained, &unmapped, &restore);
	if (restore)
		restore_pages(m, &src, 1, fault_page);
	return src;
}

/* All outputs first, and then what comes before the pages' own turn. */
static uhmm_noinline uint64_t unmap_converted(struct uhmm_migrate_vma *mig,
					      const uint64_t *hmm_pfns)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < mig->npages; i++) {
		mig->dst[i] = 0;
		mig->src[i] = to_migrate_pfn(hmm_pfns[i]);
		n += !!mig->src[i];
	}
	if (n)
		n = uhmm__migrate_device_unmap(mig->vma->mm->machine, mig->src, mig->npages,
					       mig->fault_page);
	return n;
}

/*
 * What unmap_plain() does of one that is anonymous, mapped nowhere else, and without any reference but this
 * migration's; false: it is for unmap_entry() to look at. In the plain library references are looked at, and the
 * page isolated, by one atomic instruction.
 */
uhmm_always_inline bool unmap_alone(struct uhmm__frame *f)
{
	const uint64_t look_at = FOLIO_FLAGS_REFS(plain_flags_mask, UINT32_MAX);
	const uint64_t lru = FOLIO_FLAGS_REFS(BIT(PG_LRU), 0);
	uint64_t old = load_relaxed(&f->flags_refs);

	if (UHMM_CHECKED || (old & look_at) != (lru | FOLIO_FLAGS_REFS(0, 1)) ||
	    load_relaxed(&f->mapcount) || !folio_test_anon(f))
		return false;
	return likely(atomic_compare_exchange_strong_explicit(
		&f->flags_refs, &old, old - lru, memory_order_acq_rel, memory_order_relaxed));
}

/*
 * Outputs of such pages from the first on, until one is something else: most of a window. @src, which may be
 * @hmm_pfns, and @dst become those of the migration. Returns: how many.
 */
uhmm_always_inline uint64_t unmap_run(struct uhmm_machine *m, const uint64_t *hmm_pfns,
				      uint64_t *src, uint64_t *dst, uint64_t npages)
{
	/* What collect_exclusive() puts out: a page of RAM, whose pfn is the index. */
	const uint64_t page = UHMM_HMM_PFN_MIGRATE | UHMM_HMM_PFN_VALID;
	const uint64_t look_at = page | UHMM_HMM_PFN_ORDER_MASK | UHMM_PFN_DEVICE_SPACE;
	struct uhmm__frame *vmemmap = m->vmemmap;
	uint64_t i;

	for (i = 0; i < npages; i++) {
		uint64_t hmm_pfn = hmm_pfns[i];
		uhmm_pfn_t pfn = uhmm_hmm_pfn_to_pfn(hmm_pfn);

		if ((hmm_pfn & look_at) != page || !unmap_alone(&vmemmap[pfn]))
			break;
		src[i] = uhmm_migrate_pfn(pfn) | UHMM_MIGRATE_PFN_MIGRATE |
			 carry_bit(hmm_pfn, UHMM_HMM_PFN_WRITE, UHMM_MIGRATE_PFN_WRITE);
		dst[i] = 0;
	}
	return i;
}

/* Out of line, so that it has all registers. */
static uhmm_noinline uint64_t unmap_run_many(struct uhmm_machine *m, const uint64_t *hmm_pfns,
					     uint64_t *src, uint64_t *dst, uint64_t npages)
{
	return unmap_run(m, hmm_pfns, src, dst, npages);
}

/* @npages: mig->npages, which may be a constant. */
uhmm_always_inline uint64_t hmm_unmap(struct uhmm_migrate_vma *mig, const uint64_t *hmm_pfns,
				      uint64_t npages)
{
	uint64_t *src = mig->src, *dst = mig->dst, unmapped = 0, i = 0;
	struct uhmm_machine *m = mig->vma->mm->machine;
	uhmm_pfn_t fault_page = mig->fault_page;
	bool drained = false, restore = false;

	if (waits_on_flag(m) || unlikely(m->config.lru_drain == UHMM_LRU_DRAIN_AFTER_UNMAP))
		return unmap_converted(mig, hmm_pfns);
	for (; i < npages && !(hmm_pfns[i] & UHMM_HMM_PFN_MIGRATE); i++)
		src[i] = dst[i] = 0;
	/* Not for nothing. */
	if (i < npages)
		uhmm__lru_add_drain(m);
	/* After a large folio come outputs of nothing. */
	for (uint64_t n; i < npages; i += n) {
		uint64_t hmm_pfn = hmm_pfns[i];

		if (likely(hmm_pfn & UHMM_HMM_PFN_VALID)) {
			n = npages == 1
				    ? unmap_run(m, hmm_pfns, src, dst, 1)
				    : unmap_run_many(m, &hmm_pfns[i], &src[i], &dst[i], npages - i);
			unmapped += n;
			if (likely(n))
				continue;
		}
		n = 1;
		dst[i] = 0;
		src[i] = to_migrate_pfn(hmm_pfn);
		if (src[i] & UHMM_MIGRATE_PFN_VALID)
			unmap_entry(m, &src[i], fault_page, &drained, &unmapped, &restore);
		else
			unmapped += !!src[i];
	}
	if (unlikely(restore))
		restore_pages(m, src, npages, fault_page);
	return unmapped;
}

static uhmm_noinline uint64_t hmm_unmap_many(struct uhmm_migrate_vma *mig, const uint64_t *hmm_pfns)
{
	return hmm_unmap(mig, hmm_pfns, mig->npages);
}

uint64_t uhmm__migrate_hmm_unmap(struct uhmm_migrate_vma *mig, const uint64_t *hmm_pfns)
{
	return mig->npages == 1 ? hmm_unmap(mig, hmm_pfns, 1) : hmm_unmap_many(mig, hmm_pfns);
}
