// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reclaim. Models: mm/vmscan.c.
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

/* Models: struct scan_control. */
struct scan {
	struct uhmm_machine *m;
	bool ignore_references; /* what is in use goes, too */
	bool lazy;		/* active folios are let alone */
	unsigned int freed;
	unsigned int dirty; /* pages of regular files that must be written back first */
};

enum verdict {
	FREED,	  /* its last reference is gone */
	KEEP,	  /* another time */
	ACTIVATE, /* not soon */
};

/* A page of a regular file, or one that MADV_FREE gave up. Models: folio_is_file_lru(). */
static bool is_file_lru(struct uhmm__frame *f)
{
	return !folio_test(f, PG_SWAPBACKED);
}

/* Models: is_exec_file_folio(). */
static bool is_exec_file(struct uhmm__frame *f, uint64_t vm_flags)
{
	return vm_flags & UHMM_VM_EXEC && is_file_lru(f);
}

/* Models: folio_check_references(). */
static enum verdict check_references(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool before;
	uint64_t vm_flags;
	unsigned int nr = uhmm__folio_referenced(m, f, &vm_flags);

	if (vm_flags & UHMM_VM_LOCKED)
		return ACTIVATE;
	before = folio_test_clear(f, PG_REFERENCED);
	if (!nr)
		return FREED;
	folio_set(f, PG_REFERENCED);
	return before || nr > 1 || is_exec_file(f, vm_flags) ? ACTIVATE : KEEP;
}

/*
 * Write an unmapped, dirty folio of the swap cache or a memory file to swap. FREED: it is clean now,
 * and in the swap cache. Models: pageout().
 */
static enum verdict pageout(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool in_file = folio_mapping(f);

	/* The cache's reference and the caller's: who else has one may write. */
	if (folio_ref_count(f) != 2 || (!in_file && !folio_test(f, PG_SWAPCACHE)))
		return KEEP;
	folio_clear(f, PG_DIRTY);
	if (in_file) {
		if (uhmm__shmem_writeout(m, f))
			return FREED;
		folio_set(f, PG_DIRTY);
		return ACTIVATE;
	}
	/* All entries went meanwhile: nobody will read it. */
	if (uhmm__folio_free_swap(m, f))
		return KEEP;
	uhmm__swap_write(m, f);
	return FREED;
}

/* Take an unmapped, clean folio out of the cache that it is in. Models: __remove_mapping(). */
static bool remove_mapping(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__mapping *mapping;

	if (folio_test(f, PG_SWAPCACHE))
		return uhmm__swap_remove_mapping(m, f);
	mapping = folio_mapping(f);
	if (!mapping || !uhmm__mapping_evict(mapping, f))
		return false;
	uhmm__count(UHMM_CNT_FILE_EVICTED);
	return true;
}

/* An unmapped folio that MADV_FREE gave up. */
static enum verdict discard(struct uhmm__frame *f)
{
	if (folio_test(f, PG_DIRTY))
		return ACTIVATE;
	if (!folio_ref_freeze(f, 1))
		return KEEP;
	uhmm__count(UHMM_CNT_LAZYFREED);
	return FREED;
}

/*
 * A page of a regular file is not written here: that is left to writeback, which makes it the next
 * to go. Models: the second half of shrink_folio_list().
 */
static enum verdict write_and_remove(struct scan *s, struct uhmm__frame *f)
{
	bool dirty = folio_test(f, PG_DIRTY), swapcache = folio_test(f, PG_SWAPCACHE);
	enum verdict v = FREED;

	if (folio_test_anon(f) && is_file_lru(f))
		return discard(f);
	if (dirty && is_file_lru(f)) {
		folio_set(f, PG_RECLAIM);
		s->dirty++;
		return ACTIVATE;
	}
	if (dirty)
		v = pageout(s->m, f);
	if (v != FREED)
		return v;
	if (!remove_mapping(s->m, f))
		return KEEP;
	if (!dirty && swapcache)
		uhmm__count(UHMM_CNT_SWAP_DROP);
	return FREED;
}

/* A locked, isolated folio that nobody used. Models: shrink_folio_list(). */
static enum verdict reclaim_folio(struct scan *s, struct uhmm__frame *f)
{
	if (folio_test_anon(f) && folio_test(f, PG_SWAPBACKED) && !folio_test(f, PG_SWAPCACHE)) {
		if (folio_maybe_dma_pinned(f))
			return KEEP;
		if (!uhmm__folio_alloc_swap(s->m, f))
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
	return write_and_remove(s, f);
}

/* It broke after it was isolated: it must not return to the LRU. Context: folio locked; dropped. */
static void drop_poisoned(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uhmm__unmap_poisoned(f);
	folio_unlock(m, f);
	folio_put(m, f);
}

/*
 * An isolated folio with a reference, which is gone if it is freed. False: it is the caller's still,
 * and not on the LRU.
 */
static bool shrink_folio(struct scan *s, struct uhmm__frame *f)
{
	struct uhmm_machine *m = s->m;
	enum verdict v = FREED;

	if (!folio_trylock(f))
		return false;
	/* Folios of several pages are not reclaimed. */
	if (folio_order(f))
		v = KEEP;
	if (v == FREED && unlikely(folio_test(f, PG_HWPOISON))) {
		drop_poisoned(m, f);
		return true;
	}
	if (v == FREED && !s->ignore_references)
		v = check_references(m, f);
	if (v == FREED)
		v = reclaim_folio(s, f);
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
	s->freed++;
	return true;
}

void uhmm__reclaim_pages(struct uhmm_machine *m, const uint32_t *pfns, unsigned int nr)
{
	struct scan s = { .m = m, .ignore_references = true };

	for (unsigned int i = 0; i < nr; i++) {
		struct uhmm__frame *f = &m->vmemmap[pfns[i]];

		folio_clear(f, PG_ACTIVE);
		if (!shrink_folio(&s, f)) {
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

/*
 * Its second chance is used up, whether it was used again or not; code that runs gets another.
 * Models: shrink_active_list().
 */
static void deactivate(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint64_t vm_flags;

	if (!folio_trylock(f))
		return;
	(void)uhmm__folio_referenced(m, f, &vm_flags);
	if (!(vm_flags & UHMM_VM_LOCKED) && !is_exec_file(f, vm_flags))
		folio_clear(f, PG_ACTIVE);
	folio_unlock(m, f);
}

/* The next frames of the clock. */
static void scan_chunk(struct scan *s, uhmm_pfn_t first, uhmm_pfn_t end)
{
	struct uhmm_machine *m = s->m;
	uint64_t at = atomic_fetch_add_explicit(&m->reclaim->hand, CHUNK, memory_order_relaxed);

	for (unsigned int i = 0; i < CHUNK; i++) {
		uhmm_pfn_t pfn = first + (at + i) % (end - first);
		struct uhmm__frame *f;

		if (s->lazy && folio_test(pfn_to_frame(m, pfn), PG_ACTIVE))
			continue;
		f = isolate(m, pfn);
		if (!f)
			continue;
		uhmm__count(UHMM_CNT_RECLAIM_SCANNED);
		if (folio_test(f, PG_ACTIVE))
			deactivate(m, f);
		else if (shrink_folio(s, f))
			continue;
		folio_set(f, PG_LRU);
		folio_put(m, f);
	}
	uhmm__cond_resched();
}

/*
 * Anonymous pages can go to swap, or be discarded if they were given up; those of files to where they
 * came from.
 */
static bool can_reclaim(struct uhmm_machine *m)
{
	return m->swap ||
	       load_relaxed(&m->reclaim->lazyfree) != load_relaxed(&m->reclaim->lazyfree_old) ||
	       uhmm__files_nr_cached(m);
}

/* Returns: pages freed, or that can be freed now. */
static unsigned int scan(struct uhmm_machine *m)
{
	struct scan s = { .m = m };
	unsigned int written = 0;
	uhmm_pfn_t first, end;

	uhmm__frames_range(m, &first, &end);
	for (unsigned int round = 0; round < MAX_ROUNDS && s.freed < CLUSTER; round++) {
		s.lazy = round < LAZY_ROUNDS;
		s.dirty = 0;
		for (uint64_t n = 0; n < end - first && s.freed < CLUSTER; n += CHUNK)
			scan_chunk(&s, first, end);
		if (s.dirty && s.freed < CLUSTER)
			written += uhmm__flush_files(m);
	}
	return s.freed + written;
}

static unsigned int shrink(struct uhmm_machine *m)
{
	uint64_t marked = load_relaxed(&m->reclaim->lazyfree);
	unsigned int freed;

	if (!can_reclaim(m))
		return (unsigned int)uhmm__deferred_split_scan(m);
	uhmm__might_sleep();
	uhmm__count(UHMM_CNT_RECLAIM);
	uhmm__lru_add_drain(m);
	freed = scan(m);
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
