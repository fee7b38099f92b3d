// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Moving one window of pages to the device: the driver's side of a migration. Models:
 * lib/test_hmm.c:dmirror_migrate_alloc_and_copy() and dmirror_migrate_finalize_and_map().
 */
#include <string.h>

#include "mirror/mirror.h"

#include "core/alloc.h"
#include "migrate/migrate.h"

void uhmm__device_walk_begin(struct uhmm_mirror *mirror, struct uhmm__device_walk *walk,
			     uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	/* Bits are cleared when one is set. */
	walk->start = start;
	walk->end = end;
	walk->task = uhmm__current();
	walk->stage = DEVICE_WALK_READS;
	walk->lost = false;
	walk->any_spoilt = false;
	uhmm__mutex_lock(&mirror->mutex);
	list_add(&walk->list, &mirror->walks);
	uhmm__mutex_unlock(&mirror->mutex);
}

static void spoil(struct uhmm__device_walk *walk, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	uint64_t first = (MAX(start, walk->start) - walk->start) >> UHMM_PAGE_SHIFT;
	uint64_t last = (MIN(end, walk->end) - walk->start + UHMM_PAGE_SIZE - 1) >> UHMM_PAGE_SHIFT;

	if (!walk->any_spoilt)
		memset(walk->spoilt, 0, sizeof(walk->spoilt));
	walk->any_spoilt = true;
	for (uint64_t i = first; i < last; i++)
		walk->spoilt[i / 64] |= 1UL << i % 64;
}

void uhmm__device_walks_spoil(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm__device_walk *walk;

	uhmm__for_each_entry(walk, &mirror->walks, list) {
		if (start >= walk->end || walk->start >= end)
			continue;
		if (walk->task != uhmm__current() || walk->stage == DEVICE_WALK_FROZEN)
			spoil(walk, start, end);
		else if (walk->stage == DEVICE_WALK_MOVES)
			walk->lost = true;
	}
}

/* ---- to the device ---- */

int uhmm__window_setup(struct uhmm_mirror *mirror, struct uhmm__window *w)
{
	int err;

	uhmm__device_walk_begin(mirror, &w->walk, w->args.start, w->args.end);
	(void)uhmm_mmu_interval_read_begin(mirror->notifier);
	err = uhmm_migrate_vma_setup(&w->args);
	if (err) {
		uhmm__mutex_lock(&mirror->mutex);
		uhmm__device_walk_end(&w->walk);
		uhmm__mutex_unlock(&mirror->mutex);
	}
	return err;
}

void uhmm__window_cancel(struct uhmm_mirror *mirror, struct uhmm__window *w)
{
	uhmm__mutex_lock(&mirror->mutex);
	uhmm__device_walk_end(&w->walk);
	uhmm__mutex_unlock(&mirror->mutex);
	/* Without destinations this puts everything back. */
	uhmm_migrate_vma_finalize(&w->args);
}

/* Device memory, evicting others if it must; 0 if there is none to be had. */
static uhmm_pfn_t device_folio(struct uhmm_mirror *mirror, struct uhmm__window *w,
			       unsigned int order)
{
	struct uhmm_devmem *pool = mirror->dev->pool;
	uhmm_pfn_t pfn;
	int64_t left;
	int err;

	if (uhmm__mirror_take_fail_alloc(mirror))
		return 0;
	err = uhmm_devmem_alloc_folio(pool, mirror, order, &pfn);
	if (unlikely(err == -ENOSPC)) {
		/* Some more than one page: the next fault will want room, too. */
		left = uhmm_devmem_evict(pool, order ? 1UL << order : WINDOW_PAGES / 8);
		if (left > 0)
			w->evicted += left;
		err = uhmm_devmem_alloc_folio(pool, mirror, order, &pfn);
	}
	return err ? 0 : pfn;
}

/* Of @n pages from @index on, those below one leaf of the device's tables. */
uhmm_always_inline uint64_t leaf_part(uint64_t index, uint64_t n)
{
	/* One is in one leaf wherever it is, which the compiler may see. */
	return n == 1 ? 1 : MIN(UHMM__RADIX_SLOTS - (index & UHMM__RADIX_MASK), n);
}

/* From here on somebody looks at saved[]. */
uhmm_always_inline void need_saved(struct uhmm__window *w, uint64_t npages)
{
	if (!w->any_saved)
		memset(w->saved, 0, npages * sizeof(w->saved[0]));
	w->any_saved = true;
}

/* Of a window of @npages the @n from number @i on, which are below one leaf of the device's tables. */
uhmm_always_inline void save_leaf(struct uhmm_mirror *mirror, struct uhmm__window *w,
				  uint64_t npages, uint64_t index, uint64_t i, uint64_t n)
{
	uint64_t *entry = uhmm__radix_leaf(&mirror->pt, index);
	int erased = 0;

	if (!entry)
		return;
	entry += index & UHMM__RADIX_MASK;
	for (uint64_t k = 0; k < n; k++) {
		if (likely(!entry[k]) || !uhmm__window_may_move(w, i + k))
			continue;
		need_saved(w, npages);
		w->saved[i + k] = entry[k];
		entry[k] = 0;
		erased++;
	}
	if (erased)
		uhmm__radix_leaf_commit(&mirror->pt, index, -erased);
}

/* What the window moves, others must not enter as it was. */
static uhmm_noinline void spoil_others(struct uhmm_mirror *mirror, const struct uhmm__window *w)
{
	const uint64_t taken = UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_VALID;
	uhmm_vaddr_t addr = w->args.start;

	for (uint64_t i = 0, n; i < w->args.npages; i += n, addr += n << UHMM_PAGE_SHIFT) {
		n = w->src[i] & UHMM_MIGRATE_PFN_COMPOUND ? UHMM_PTRS_PER_TABLE : 1;
		if ((w->src[i] & taken) == taken)
			uhmm__device_walks_spoil(mirror, addr, addr + (n << UHMM_PAGE_SHIFT));
	}
}

/*
 * The pages are locked and unmapped from the CPU; now take them from the device as well, so that it
 * cannot write to the old ones while they are copied. What does not move gets its entry back.
 */
uhmm_always_inline void save_entries(struct uhmm_mirror *mirror, struct uhmm__window *w,
				     uint64_t npages)
{
	uint64_t first = w->args.start >> UHMM_PAGE_SHIFT, n;

	w->any_saved = false;
	uhmm__mutex_lock(&mirror->mutex);
	if (unlikely(!list_is_singular(&mirror->walks)))
		spoil_others(mirror, w);
	w->walk.stage = DEVICE_WALK_FROZEN;
	for (uint64_t i = 0; i < npages; i += n) {
		n = leaf_part(first + i, npages - i);
		save_leaf(mirror, w, npages, first + i, i, n);
	}
	uhmm__mutex_unlock(&mirror->mutex);
}

/*
 * The same for one more mirror of the process, whose notifier has not heard of the migration either;
 * it faults again. @new: only where nothing was frozen, and it may have found nothing, or the zero page.
 */
static void take_from_other(struct uhmm_mirror *other, const struct uhmm__window *w, bool new)
{
	uhmm_vaddr_t addr = w->args.start;

	uhmm__mutex_lock(&other->mutex);
	for (uint64_t i = 0, n; i < w->args.npages; i += n, addr += n << UHMM_PAGE_SHIFT) {
		n = 1;
		if (!(w->src[i] & UHMM_MIGRATE_PFN_MIGRATE) ||
		    (new && w->src[i] & UHMM_MIGRATE_PFN_VALID))
			continue;
		if (w->src[i] & UHMM_MIGRATE_PFN_COMPOUND)
			n = MIN((uint64_t)UHMM_PTRS_PER_TABLE, w->args.npages - i);
		uhmm__device_walks_spoil(other, addr, addr + (n << UHMM_PAGE_SHIFT));
		uhmm__radix_erase_range(&other->pt, addr >> UHMM_PAGE_SHIFT,
					(addr >> UHMM_PAGE_SHIFT) + n - 1, NULL, NULL);
	}
	uhmm__mutex_unlock(&other->mutex);
}

static uhmm_noinline void take_from_sharers(struct uhmm_mirror *mirror,
					    const struct uhmm__window *w, bool new)
{
	struct uhmm_mirror *other;

	for (uint64_t after = 0;
	     (other = uhmm__mirror_next(mirror->dev, mirror->mm, mirror, after));) {
		take_from_other(other, w, new);
		after = other->id;
		uhmm__mirror_put(other);
	}
}

static inline void take_from_others(struct uhmm_mirror *mirror, const struct uhmm__window *w,
				    bool new)
{
	if (uhmm__device_shares_mm(mirror->dev))
		take_from_sharers(mirror, w, new);
}

/* Device pages for a window, taken some at a time. */
struct supply {
	uhmm_pfn_t pfn[64];
	unsigned int at, nr;
	uint64_t wanted; /* more of them */
};

static uhmm_noinline void refill(struct uhmm_mirror *mirror, struct supply *s)
{
	unsigned int max = MIN(s->wanted, ARRAY_SIZE(s->pfn));

	s->at = s->nr = 0;
	if (likely(!(load_relaxed(&mirror->flags) & UHMM_MIRROR_FLAG_FAIL_ALLOC)))
		s->nr = uhmm__devmem_alloc_bulk(mirror->dev->pool, mirror, s->pfn, max);
}

/* What is there, or else one by itself, for which others may have to go. */
uhmm_always_inline uhmm_pfn_t take_page(struct uhmm_mirror *mirror, struct uhmm__window *w,
					struct supply *s)
{
	s->wanted--;
	return likely(s->at < s->nr) ? s->pfn[s->at++] : device_folio(mirror, w, 0);
}

uhmm_always_inline uhmm_pfn_t next_page(struct uhmm_mirror *mirror, struct uhmm__window *w,
					struct supply *s)
{
	if (unlikely(s->at == s->nr))
		refill(mirror, s);
	return take_page(mirror, w, s);
}

/* Fill a device page with what the entry says: a page of RAM, or none. */
uhmm_always_inline void fill_page(struct uhmm_machine *m, uint64_t src, uhmm_pfn_t pfn)
{
	if (src & UHMM_MIGRATE_PFN_VALID)
		uhmm__copy_page_to_device(m, pfn, uhmm_migrate_pfn_to_pfn(src));
	else
		uhmm__clear_page(m, pfn);
}

/*
 * A huge page, or a hole of that size: to a huge page, else to as many pages. Returns: its pages.
 * Models: the large part of dmirror_migrate_alloc_and_copy().
 */
static uhmm_noinline uint64_t copy_huge(struct uhmm_mirror *mirror, struct uhmm__window *w,
					struct supply *s, uint64_t i)
{
	struct uhmm_machine *m = mirror->dev->machine;
	uint64_t src = w->src[i], write = src & UHMM_MIGRATE_PFN_WRITE, n = UHMM_PTRS_PER_TABLE;
	uhmm_pfn_t huge = device_folio(mirror, w, UHMM_PMD_ORDER),
		   from = uhmm_migrate_pfn_to_pfn(src);

	if (huge)
		w->dst[i] = uhmm_migrate_pfn(huge) | write | UHMM_MIGRATE_PFN_COMPOUND;
	else
		s->wanted += n;
	for (uint64_t k = 0; k < n && i + k < w->args.npages; k++) {
		uhmm_pfn_t pfn = huge ? huge + k : next_page(mirror, w, s);

		if (!pfn)
			continue;
		if (!huge)
			w->dst[i + k] = uhmm_migrate_pfn(pfn) | write;
		/* Device-coherent memory may be among what is taken for huge pages of RAM. */
		if (src & UHMM_MIGRATE_PFN_VALID)
			uhmm__copy_page(m, pfn, from + k);
		else
			uhmm__clear_page(m, pfn);
	}
	return n;
}

/*
 * Single pages from entry @i on, or holes of one, @max at most, as long as there are device pages for them and
 * where contents are tags: most of a window. Returns: how many.
 */
uhmm_always_inline uint64_t copy_run(struct uhmm_machine *m, struct uhmm__window *w, uint64_t i,
				     uint64_t max, const struct supply *s)
{
	const uint64_t look_at = UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_COMPOUND |
				 UHMM_MIGRATE_PFN_VALID;
	const uint64_t hole = UHMM_MIGRATE_PFN_MIGRATE, page = hole | UHMM_MIGRATE_PFN_VALID;
	uint64_t n = MIN((uint64_t)(s->nr - s->at), max), k = 0;
	const uint64_t *src = &w->src[i];
	const uhmm_pfn_t *pfn = &s->pfn[s->at];
	uint64_t *dst = &w->dst[i];
	_Atomic uint64_t *tags = m->tags;
	size_t shift;

	if (!n || unlikely(!tags))
		return 0;
	/* All pages of a pool are in one space of pfns, so that they are as far from their indices. */
	shift = pfn_to_index(m, pfn[0]) - pfn[0];
	for (; k < n && (src[k] & look_at) == page; k++) {
		uint64_t mpfn = src[k];

		dst[k] = uhmm_migrate_pfn(pfn[k]) | (mpfn & UHMM_MIGRATE_PFN_WRITE);
		store_relaxed(&tags[shift + pfn[k]],
			      load_relaxed(&tags[uhmm_migrate_pfn_to_pfn(mpfn)]));
	}
	uhmm__count_n(UHMM_CNT_COPY_TO_DEVICE, k);
	if (k)
		return k;
	for (; k < n && (src[k] & look_at) == hole; k++) {
		dst[k] = uhmm_migrate_pfn(pfn[k]) | (src[k] & UHMM_MIGRATE_PFN_WRITE);
		store_relaxed(&tags[shift + pfn[k]], 0);
	}
	uhmm__count_n(UHMM_CNT_CLEAR_DEVICE, k);
	return k;
}

uhmm_always_inline void copy_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w,
				       uint64_t npages)
{
	struct uhmm_machine *m = mirror->dev->machine;
	struct supply supply;
	uint64_t n;

	supply.wanted = w->args.cpages;
	supply.at = supply.nr = 0;
	for (uint64_t i = 0; i < npages; i += n) {
		uint64_t src = w->src[i];
		uhmm_pfn_t pfn;

		n = 1;
		if (!(src & UHMM_MIGRATE_PFN_MIGRATE))
			continue;
		if (unlikely(src & UHMM_MIGRATE_PFN_COMPOUND)) {
			n = copy_huge(mirror, w, &supply, i);
			continue;
		}
		if (supply.at == supply.nr)
			refill(mirror, &supply);
		n = copy_run(m, w, i, npages - i, &supply);
		if (likely(n)) {
			supply.at += (unsigned int)n;
			supply.wanted -= n;
			continue;
		}
		n = 1;
		pfn = take_page(mirror, w, &supply);
		if (!pfn)
			continue;
		w->dst[i] = uhmm_migrate_pfn(pfn) | (src & UHMM_MIGRATE_PFN_WRITE);
		fill_page(m, src, pfn);
	}
	while (unlikely(supply.at < supply.nr))
		uhmm_unlock_put_page(m, supply.pfn[supply.at++]);
}

/*
 * The device's entries of what moved to entry @i, a page or a huge one. Where nothing was, or the zero
 * page, nothing was frozen: what others found there is old now. Context: mutex; the own walk ended.
 */
static void enter_moved(struct uhmm_mirror *mirror, struct uhmm__window *w, uint64_t i, bool write)
{
	uhmm_vaddr_t addr = w->args.start + (i << UHMM_PAGE_SHIFT);
	uhmm_pfn_t pfn = uhmm_migrate_pfn_to_pfn(w->dst[i]);
	uint64_t n = 1;

	w->saved[i] = dpt_entry(pfn, write);
	if (unlikely(w->dst[i] & UHMM_MIGRATE_PFN_COMPOUND))
		n = MIN((uint64_t)UHMM_PTRS_PER_TABLE, w->args.npages - i);
	for (uint64_t k = 1; k < n; k++)
		w->saved[i + k] = dpt_entry(pfn + k, write);
	if (!(w->src[i] & UHMM_MIGRATE_PFN_VALID) && unlikely(!list_empty(&mirror->walks)))
		uhmm__device_walks_spoil(mirror, addr, addr + (n << UHMM_PAGE_SHIFT));
	w->moved += n;
}

/* What the device gets when a window is entered into its tables. */
struct entering {
	struct uhmm_mirror *mirror;
	struct uhmm__window *w;
	bool write_new; /* it may write to pages that are new */
	bool fault;	/* what did not move and it did not have it reaches in RAM */
};

/* Its entry of whatever became of entry @i; 0: none. */
static uhmm_noinline uint64_t entry_of_any(struct entering e, uint64_t i)
{
	struct uhmm__window *w = e.w;
	bool write = w->dst[i] & UHMM_MIGRATE_PFN_WRITE;

	need_saved(w, w->args.npages);
	if (w->src[i] & UHMM_MIGRATE_PFN_MIGRATE && w->dst[i]) {
		write |= e.write_new && !(w->src[i] & UHMM_MIGRATE_PFN_VALID);
		enter_moved(e.mirror, w, i, write);
	} else if (!w->saved[i] && e.fault && w->src[i] & UHMM_MIGRATE_PFN_VALID) {
		w->saved[i] = dpt_entry(uhmm_migrate_pfn_to_pfn(w->src[i]),
					w->src[i] & UHMM_MIGRATE_PFN_WRITE);
	}
	return w->saved[i];
}

/*
 * Its entry of entry @i, which most often is a page for a page, or for nothing that nobody else walks: what still has
 * MIGRATE has moved. @others: (in/out) counts what is something else.
 */
uhmm_always_inline uint64_t entry_of(struct entering e, uint64_t i, uint64_t src, uint64_t dst,
				     bool alone, uint64_t *others)
{
	const uint64_t look_at = UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_COMPOUND |
				 UHMM_MIGRATE_PFN_VALID;
	const uint64_t hole = UHMM_MIGRATE_PFN_MIGRATE, page = hole | UHMM_MIGRATE_PFN_VALID;

	if (likely((src & look_at) == page))
		return dpt_entry(uhmm_migrate_pfn_to_pfn(dst), dst & UHMM_MIGRATE_PFN_WRITE);
	if ((src & look_at) == hole && alone)
		return dpt_entry(uhmm_migrate_pfn_to_pfn(dst),
				 dst & UHMM_MIGRATE_PFN_WRITE || e.write_new);
	++*others;
	return entry_of_any(e, i);
}

/* Entries of @n pages from number @i on; where there is none, @values stay. Returns: how many are new there. */
uhmm_always_inline int enter_part(struct entering e, uint64_t i, uint64_t n, uint64_t *values)
{
	const uint64_t *src = &e.w->src[i], *dst = &e.w->dst[i];
	bool alone = list_empty(&e.mirror->walks);
	uint64_t others = 0, tags = DPT_TAG;
	int delta = 0;

	for (uint64_t k = 0; k < n; k++) {
		uint64_t entry = entry_of(e, i + k, src[k], dst[k], alone, &others);

		tags &= entry;
		if (!entry)
			continue;
		delta += !values[k];
		values[k] = entry;
	}
	e.w->moved += n - others;
	e.w->tags &= tags;
	return delta;
}

/* The same straight into one leaf. Without memory for it the device faults again. */
uhmm_always_inline void enter_in_leaf(struct entering e, uint64_t index, uint64_t i, uint64_t n)
{
	uint64_t *values;

	if (unlikely(uhmm__radix_leaf_create(&e.mirror->pt, index, &values))) {
		need_saved(e.w, e.w->args.npages);
		enter_part(e, i, n, &e.w->saved[i]);
		e.w->tags = 0;
		return;
	}
	uhmm__radix_leaf_commit(&e.mirror->pt, index,
				enter_part(e, i, n, &values[index & UHMM__RADIX_MASK]));
}

/*
 * What was spoilt meanwhile is not entered: mmap_lock keeps the range mapped, but not MADV_DONTNEED or a
 * truncation from removing migration entries, and then the new page goes with the end of the migration.
 */
static uhmm_noinline void enter_spoilt(struct entering e, uint64_t first)
{
	struct uhmm__window *w = e.w;

	if (w->walk.lost)
		w->any_saved = false;
	need_saved(w, w->args.npages);
	enter_part(e, 0, w->args.npages, w->saved);
	for (uint64_t i = 0; i < w->args.npages; i++)
		if (uhmm__device_walk_page_spoilt(&w->walk, i))
			w->saved[i] = 0;
	w->tags = 0;
	(void)!uhmm__radix_store_run(&e.mirror->pt, first, w->saved, w->args.npages);
}

/*
 * Enter what moved into the device's tables, and what did not move as it was before; for a fault
 * (@fault) also what did not move and the device did not have: it reaches that in RAM.
 */
uhmm_always_inline void map_on_device(struct uhmm_mirror *mirror, struct uhmm__window *w,
				      uint64_t npages, bool write_new, bool fault)
{
	/* The device may write no more than the process. */
	struct entering e = { mirror, w, write_new && w->args.vma->flags & UHMM_VM_WRITE, fault };
	uint64_t first = w->args.start >> UHMM_PAGE_SHIFT, n;
	bool spoilt;

	uhmm__mutex_lock(&mirror->mutex);
	uhmm__device_walk_end(&w->walk);
	w->tags = DPT_TAG;
	spoilt = w->walk.lost || uhmm__device_walk_spoilt(&w->walk);
	if (unlikely(spoilt))
		enter_spoilt(e, first);
	for (uint64_t i = 0; likely(!spoilt) && i < npages; i += n) {
		n = leaf_part(first + i, npages - i);
		enter_in_leaf(e, first + i, i, n);
	}
	uhmm__mutex_unlock(&mirror->mutex);
}

/* @npages: w->args.npages, which may be a constant. */
uhmm_always_inline void window_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w,
					 uint64_t npages, bool write_new, bool fault)
{
	save_entries(mirror, w, npages);
	take_from_others(mirror, w, false);
	copy_to_device(mirror, w, npages);
	/* A huge page may have to be split for it: that spoils nothing. */
	w->walk.stage = DEVICE_WALK_MOVES;
	uhmm_migrate_vma_pages(&w->args);
	w->walk.stage = DEVICE_WALK_FROZEN;
	map_on_device(mirror, w, npages, write_new, fault);
	take_from_others(mirror, w, true);
	uhmm_migrate_vma_finalize(&w->args);
}

/* Many, which need not hurry as one does. */
static uhmm_noinline void many_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w,
					 bool write_new, bool fault)
{
	window_to_device(mirror, w, w->args.npages, write_new, fault);
}

void uhmm__window_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w, bool write_new,
			    bool fault)
{
	if (w->args.npages == 1)
		window_to_device(mirror, w, 1, write_new, fault);
	else
		many_to_device(mirror, w, write_new, fault);
}
