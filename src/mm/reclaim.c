// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reclaim of anonymous memory. Models: mm/vmscan.c.
 *
 * The LRU has no lists: PG_LRU says that a folio is on it, and a clock goes over the frames by
 * number. A folio that was used since the clock came by gets a second chance; one that was used
 * twice becomes active, and is looked at only if the others are not enough. So new folios cost the
 * fault path nothing, and who isolates a folio needs no lock but the flag.
 */
#include "mm/swap.h"

#include "core/alloc.h"
#include "mm/huge.h"

enum {
	CLUSTER = 32,	 /* frames to free before the allocation is tried again */
	CHUNK = 32,	 /* frames that one turn of the clock takes */
	MAX_ROUNDS = 4,	 /* of the clock, for one allocation */
	LAZY_ROUNDS = 2, /* of these, that leave active folios alone */
};

int uhmm__reclaim_init(struct uhmm_machine *m)
{
	m->reclaim = uhmm__alloc(m, sizeof(*m->reclaim));
	return m->reclaim ? 0 : -ENOMEM;
}

void uhmm__reclaim_exit(struct uhmm_machine *m)
{
	if (m->reclaim)
		uhmm__free(m, m->reclaim, sizeof(*m->reclaim));
	m->reclaim = NULL;
}

/* ---- one folio ---- */

enum verdict {
	FREED,	  /* its last reference is gone */
	KEEP,	  /* another time */
	ACTIVATE, /* not soon */
};

/* Models: folio_check_references(). */
static enum verdict check_references(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool locked, before;
	unsigned int nr = uhmm__folio_referenced(m, f, &locked);

	if (locked)
		return ACTIVATE;
	before = folio_test_clear(f, PG_REFERENCED);
	if (!nr)
		return FREED;
	folio_set(f, PG_REFERENCED);
	return before || nr > 1 ? ACTIVATE : KEEP;
}

/* Write an unmapped folio of the swap cache if it has to be. Models: pageout(). */
static bool pageout(struct uhmm_machine *m, struct uhmm__frame *f)
{
	/* The cache's reference and the caller's: who else has one may write. */
	if (folio_ref_count(f) != 2)
		return false;
	if (!folio_test_clear(f, PG_DIRTY)) {
		uhmm__count(UHMM_CNT_SWAP_DROP);
		return true;
	}
	/* All entries went meanwhile: nobody will read it. */
	if (uhmm__folio_free_swap(m, f))
		return false;
	uhmm__swap_write(m, f);
	return true;
}

/* Models: folio_ref_freeze(folio, 1) for a folio that is in no cache. */
static bool freeze_last(struct uhmm__frame *f)
{
	uint32_t one = 1;

	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	return atomic_compare_exchange_strong_explicit(&f->refcount, &one, 0, memory_order_acq_rel,
						       memory_order_relaxed);
}

/* A locked, isolated, anonymous folio that nobody used. Models: shrink_folio_list(). */
static enum verdict reclaim_anon(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (folio_test(f, PG_SWAPBACKED) && !folio_test(f, PG_SWAPCACHE)) {
		if (folio_maybe_dma_pinned(f))
			return KEEP;
		if (!uhmm__folio_alloc_swap(m, f))
			return ACTIVATE;
		/* Whatever the entries say: the slot has nothing yet. */
		folio_set(f, PG_DIRTY);
	}
	if (folio_mapped(f)) {
		uhmm__try_to_unmap(f);
		if (folio_mapped(f))
			return ACTIVATE;
	}
	if (folio_maybe_dma_pinned(f))
		return ACTIVATE;
	if (!folio_test(f, PG_SWAPBACKED)) {
		if (folio_test(f, PG_DIRTY))
			return ACTIVATE;
		if (!freeze_last(f))
			return KEEP;
		uhmm__count(UHMM_CNT_LAZYFREED);
		return FREED;
	}
	if (!pageout(m, f) || !uhmm__swap_remove_mapping(m, f))
		return KEEP;
	return FREED;
}

/*
 * An isolated folio with a reference, which is gone if it is freed. False: it is the caller's still,
 * and not on the LRU.
 */
static bool shrink_folio(struct uhmm_machine *m, struct uhmm__frame *f, bool ignore_references)
{
	enum verdict v = FREED;

	if (!folio_trylock(f))
		return false;
	/* Folios of files, and of several pages, are not reclaimed. */
	if (!folio_test_anon(f) || folio_order(f))
		v = KEEP;
	if (v == FREED && !ignore_references)
		v = check_references(m, f);
	if (v == FREED)
		v = reclaim_anon(m, f);
	if (v == ACTIVATE) {
		if (folio_test(f, PG_SWAPCACHE) && swap_full(m->swap))
			uhmm__folio_free_swap(m, f);
		folio_set(f, PG_ACTIVE);
	}
	folio_unlock(m, f);
	if (v != FREED)
		return false;
	uhmm__count(UHMM_CNT_RECLAIM_FREED);
	uhmm__folio_free(m, f);
	return true;
}

void uhmm__reclaim_pages(struct uhmm_machine *m, const uint32_t *pfns, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct uhmm__frame *f = &m->vmemmap[pfns[i]];

		folio_clear(f, PG_ACTIVE);
		if (!shrink_folio(m, f, true)) {
			uhmm__folio_add_lru(m, f);
			folio_put(m, f);
		}
		uhmm__cond_resched();
	}
}

/* ---- the clock ---- */

/*
 * A large folio goes page by page, when the clock comes by again. Models: what shrink_folio_list()
 * does if swap has no room for all of it.
 */
static void split(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (folio_trylock(f)) {
		if (folio_test_large(f) && folio_test_anon(f))
			(void)uhmm__split_folio(m, f);
		folio_unlock(m, f);
	}
}

/*
 * Take a frame off the LRU, with a reference; NULL if there is none to be had. Models:
 * isolate_lru_folios() for one.
 */
static struct uhmm__frame *isolate(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(m, pfn);

	if (!folio_test(f, PG_LRU) || !folio_try_get(f))
		return NULL;
	if (unlikely(folio_test_large(f)))
		split(m, f);
	else if (uhmm__folio_isolate_lru(f))
		return f;
	folio_put(m, f);
	return NULL;
}

/* Its second chance is used up, whether it was used again or not. Models: shrink_active_list(). */
static void deactivate(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool locked;

	if (!folio_trylock(f))
		return;
	(void)uhmm__folio_referenced(m, f, &locked);
	if (!locked)
		folio_clear(f, PG_ACTIVE);
	folio_unlock(m, f);
}

/* The next frames of the clock. Returns: how many were freed. */
static unsigned int scan_chunk(struct uhmm_machine *m, uhmm_pfn_t first, uhmm_pfn_t end, bool lazy)
{
	uint64_t at = atomic_fetch_add_explicit(&m->reclaim->hand, CHUNK, memory_order_relaxed);
	unsigned int freed = 0;

	for (unsigned int i = 0; i < CHUNK; i++) {
		uhmm_pfn_t pfn = first + (at + i) % (end - first);
		struct uhmm__frame *f;

		if (lazy && folio_test(pfn_to_frame(m, pfn), PG_ACTIVE))
			continue;
		f = isolate(m, pfn);
		if (!f)
			continue;
		uhmm__count(UHMM_CNT_RECLAIM_SCANNED);
		if (folio_test(f, PG_ACTIVE)) {
			deactivate(m, f);
		} else if (shrink_folio(m, f, false)) {
			freed++;
			continue;
		}
		folio_set(f, PG_LRU);
		folio_put(m, f);
	}
	uhmm__cond_resched();
	return freed;
}

/* Anonymous pages can go to swap, or be discarded if they were given up. */
static bool can_reclaim(struct uhmm_machine *m)
{
	return m->swap ||
	       load_relaxed(&m->reclaim->lazyfree) != load_relaxed(&m->reclaim->lazyfree_old);
}

static unsigned int shrink(struct uhmm_machine *m)
{
	uint64_t marked = load_relaxed(&m->reclaim->lazyfree);
	unsigned int freed = 0;
	uhmm_pfn_t first, end;

	if (!can_reclaim(m))
		return (unsigned int)uhmm__deferred_split_scan(m);
	uhmm__might_sleep();
	uhmm__count(UHMM_CNT_RECLAIM);
	uhmm__lru_add_drain(m);
	uhmm__frames_range(m, &first, &end);
	for (uint64_t n = 0; n < MAX_ROUNDS * (end - first) && freed < CLUSTER; n += CHUNK)
		freed += scan_chunk(m, first, end, n < LAZY_ROUNDS * (end - first));
	if (!freed)
		store_relaxed(&m->reclaim->lazyfree_old, marked);
	/* The parts of huge pages that nobody maps any more. */
	return freed ? freed : (unsigned int)uhmm__deferred_split_scan(m);
}

unsigned int uhmm__try_to_free_pages(struct uhmm_machine *m)
{
	unsigned int freed;

	uhmm__map_begin(UHMM__LC_RECLAIM, m->frames, UHMM__HERE);
	freed = shrink(m);
	uhmm__map_end(UHMM__LC_RECLAIM, m->frames, UHMM__HERE);
	return freed;
}
