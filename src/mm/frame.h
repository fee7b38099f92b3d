/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * frame.h - frame descriptors, folios and their contents.
 *
 * machine->vmemmap is a reserved array that fills on first touch. A pfn of the physical space is an
 * index of it; one of the device space, if the machine has that, counts from own_base. A folio is named by
 * the descriptor of its first frame, as in the kernel. A descriptor is 32 bytes: with 8 bytes of
 * tag and 8 of page-table entry a populated page costs 48.
 *
 * References of a folio: one per mapping, one while it sits in an LRU batch, one while it is in the
 * page cache or the swap cache, one per caller that holds it (migration, fault, a user of the API).
 * Free frames have none, device pages included.
 * Pins count as UHMM_PIN_BIAS references each, as in the kernel.
 */
#ifndef UHMM_MM_FRAME_H
#define UHMM_MM_FRAME_H

#include <string.h>

#include "core/machine.h"
#include "sync/sync.h"

struct uhmm__anon_vma;

/* Bits of frame->flags. */
enum {
	PG_LOCKED,	   /* folio lock; waited on with PG_WAITERS */
	PG_WAITERS,	   /* somebody sleeps on PG_LOCKED */
	PG_DIRTY,	   /* [folio] */
	PG_UPTODATE,	   /* [folio] */
	PG_LRU,		   /* on the LRU; whoever clears it has isolated the folio */
	PG_ANON_EXCLUSIVE, /* [ptl] this page is mapped once and writable without a copy */
	PG_SWAPBACKED, /* [LRU] clear on an anonymous folio: MADV_FREE, discarded if it is clean */
	PG_RESERVED,   /* [const] not allocatable: the zero page */
	PG_DEVICE_PRIVATE,  /* [const] */
	PG_DEVICE_COHERENT, /* [const] */
	PG_FREE,	    /* on a free list: checks only */
	PG_TAIL,	    /* [const] a page of a large folio, but not the first */
	PG_SWAPCACHE,	    /* [folio, swap lock] in the swap cache; aux is the slot */
	PG_HWPOISON,	    /* broken; has a reference that never goes */
	PG_ACTIVE,	    /* second chance: reclaim goes by it once */
	PG_REFERENCED,	    /* reclaim saw it used once */
	PG_RECLAIM,	    /* reclaim met it dirty: let it go as soon as it is written back */
	PG_MIGRATING, /* [folio] with wait-on-migration-flag: collected, not all mappings replaced yet */
};

/* The order of a folio, in the flags of each of its pages. [const] but for splits */
#define FOLIO_ORDER_SHIFT 28
#define FOLIO_ORDER_MASK (0xfU << FOLIO_ORDER_SHIFT)
#define FOLIO_MAX_ORDER UHMM_PMD_ORDER
/* What tails show as well, so that a page tells what memory it is. */
#define FOLIO_ZONE_DEVICE ((uint32_t)(BIT(PG_DEVICE_PRIVATE) | BIT(PG_DEVICE_COHERENT)))
#define FOLIO_TAIL_FLAGS FOLIO_ZONE_DEVICE

#define MAPPING_ANON 1UL
#define UHMM_PIN_BIAS 1024U

struct uhmm__frame {
	union {
		struct {
			_Atomic uint32_t flags;	   /* [atomic] */
			_Atomic uint32_t refcount; /* [atomic] */
		};
		_Atomic uint64_t flags_refs; /* both at once, see FOLIO_FLAGS_REFS() */
	};
	_Atomic int32_t mapcount;  /* [atomic] page-table entries that map it */
	uint32_t aux;		   /* of a device page the pool's, in the swap cache the slot */
	_Atomic uintptr_t mapping; /* [folio] anon_vma | MAPPING_ANON, or 0 */
	_Atomic uint64_t index;	   /* [folio] page offset in the mapping */
};

_Static_assert(sizeof(struct uhmm__frame) == 32, "the density budget rests on this");

/* Values of both, or what is to be added to both or subtracted, if no flag carries over; and each of both. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FOLIO_FLAGS_REFS(flags, refs) ((uint64_t)(refs) << 32 | (flags))
#define FOLIO_FLAGS(flags_refs) ((uint32_t)(flags_refs))
#define FOLIO_REFS(flags_refs) ((uint32_t)((flags_refs) >> 32))
#else
#define FOLIO_FLAGS_REFS(flags, refs) ((uint64_t)(flags) << 32 | (refs))
#define FOLIO_FLAGS(flags_refs) ((uint32_t)((flags_refs) >> 32))
#define FOLIO_REFS(flags_refs) ((uint32_t)(flags_refs))
#endif

/* The index of a frame: dense over both spaces, and below 2^32. */
uhmm_always_inline size_t pfn_to_index(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return unlikely(pfn & UHMM_PFN_DEVICE_SPACE) ? m->own_base + (pfn ^ UHMM_PFN_DEVICE_SPACE)
						     : pfn;
}

uhmm_always_inline uhmm_pfn_t index_to_pfn(struct uhmm_machine *m, size_t index)
{
	return unlikely(index >= m->own_base) ? UHMM_PFN_DEVICE_SPACE | (index - m->own_base)
					      : index;
}

/* Never NULL: said to the compiler as well, or it would look wherever something else may be. */
uhmm_always_inline struct uhmm__frame *pfn_to_frame(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = &m->vmemmap[pfn_to_index(m, pfn)];

	if (!f)
		__builtin_unreachable();
	return f;
}

uhmm_always_inline uint32_t frame_index(struct uhmm_machine *m, const struct uhmm__frame *f)
{
	return (uint32_t)(f - m->vmemmap);
}

uhmm_always_inline uhmm_pfn_t frame_pfn(struct uhmm_machine *m, const struct uhmm__frame *f)
{
	return index_to_pfn(m, f - m->vmemmap);
}

/* The pfn of a frame that is known to be RAM: no space to look for. */
uhmm_always_inline uhmm_pfn_t ram_pfn(struct uhmm_machine *m, const struct uhmm__frame *f)
{
	return (uhmm_pfn_t)(f - m->vmemmap);
}

/* Whether a pfn is one of device memory, registered or not. */
uhmm_always_inline bool pfn_is_device(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	size_t index = pfn_to_index(m, pfn);

	return index >= m->device_base && index < m->nr_frames;
}

/* ---- pages and folios ---- */

/*
 * A descriptor is a page's; its folio is named by the descriptor of the first page, the head. Per
 * page are only the count of PTEs that map it and PG_ANON_EXCLUSIVE (a PMD mapping's is the head's);
 * all else is the head's: flags, references, mapping, index, aux.
 *
 * A large folio has 2^order pages and starts at a multiple of that, so a tail finds its head by
 * masking: vmemmap is aligned to the descriptors of the largest folio. A tail has no references, so
 * that taking one by pfn fails, and lends its unused words to the folio: see below.
 */
uhmm_always_inline unsigned int flags_order(uint32_t flags)
{
	return flags >> FOLIO_ORDER_SHIFT;
}

/* Context: the page cannot be split or freed: an entry maps it and its lock is held, or a reference. */
uhmm_always_inline struct uhmm__frame *page_folio(struct uhmm__frame *page)
{
	uint32_t flags = load_relaxed(&page->flags);

	if (likely(!(flags & BIT(PG_TAIL))))
		return page;
	return (struct uhmm__frame *)((uintptr_t)page & -(sizeof(*page) << flags_order(flags)));
}

/* The same, and the folio's flags, which were looked at for it. */
uhmm_always_inline struct uhmm__frame *page_folio_flags(struct uhmm__frame *page, uint32_t *flags)
{
	*flags = load_relaxed(&page->flags);
	if (unlikely(*flags & BIT(PG_TAIL))) {
		page = page_folio(page);
		*flags = load_relaxed(&page->flags);
	}
	return page;
}

uhmm_always_inline unsigned int folio_order(struct uhmm__frame *f)
{
	return flags_order(load_relaxed(&f->flags));
}

/* Whether a page, head or tail, is one of several. */
uhmm_always_inline bool page_in_large(struct uhmm__frame *page)
{
	return load_relaxed(&page->flags) & FOLIO_ORDER_MASK;
}

uhmm_always_inline bool folio_test_large(struct uhmm__frame *f)
{
	return load_relaxed(&f->flags) & FOLIO_ORDER_MASK;
}

uhmm_always_inline uint64_t folio_nr_pages(struct uhmm__frame *f)
{
	return 1UL << folio_order(f);
}

/* Mappings of any of its pages, a PMD entry counting once; and PMD entries alone. Large folios only. */
uhmm_always_inline _Atomic uintptr_t *folio_large_mapcountp(struct uhmm__frame *f)
{
	return &f[1].mapping;
}

uhmm_always_inline _Atomic uint64_t *folio_entire_mapcountp(struct uhmm__frame *f)
{
	return &f[1].index;
}

/* ---- flags ---- */

uhmm_always_inline bool folio_test(struct uhmm__frame *f, unsigned int bit)
{
	return load_relaxed(&f->flags) & BIT(bit);
}

uhmm_always_inline void folio_set(struct uhmm__frame *f, unsigned int bit)
{
	atomic_fetch_or_explicit(&f->flags, (uint32_t)BIT(bit), memory_order_release);
}

uhmm_always_inline void folio_clear(struct uhmm__frame *f, unsigned int bit)
{
	atomic_fetch_and_explicit(&f->flags, ~(uint32_t)BIT(bit), memory_order_release);
}

uhmm_always_inline bool folio_test_clear(struct uhmm__frame *f, unsigned int bit)
{
	return atomic_fetch_and_explicit(&f->flags, ~(uint32_t)BIT(bit), memory_order_acq_rel) &
	       BIT(bit);
}

/* Several bits by one atomic instruction, or none if nothing changes. */
uhmm_always_inline void folio_change(struct uhmm__frame *f, uint32_t clear, uint32_t set)
{
	uint32_t old = load_relaxed(&f->flags);

	while (((old & ~clear) | set) != old &&
	       !atomic_compare_exchange_weak_explicit(&f->flags, &old, (old & ~clear) | set,
						      memory_order_release, memory_order_relaxed))
		;
}

uhmm_always_inline bool folio_is_device_private(struct uhmm__frame *f)
{
	return folio_test(f, PG_DEVICE_PRIVATE);
}

uhmm_always_inline bool folio_is_device_coherent(struct uhmm__frame *f)
{
	return folio_test(f, PG_DEVICE_COHERENT);
}

uhmm_always_inline bool folio_is_zone_device(struct uhmm__frame *f)
{
	return load_relaxed(&f->flags) & FOLIO_ZONE_DEVICE;
}

uhmm_always_inline bool folio_test_anon(struct uhmm__frame *f)
{
	return load_relaxed(&f->mapping) & MAPPING_ANON;
}

/* ---- lock ---- */

/* Macros, so that the checked build knows who takes the lock. */
#define folio_trylock(f) folio_trylock_at(f, UHMM__HERE)
#define folio_lock_new(f) folio_lock_new_at(f, UHMM__HERE)
#define folio_lock(m, f) folio_lock_at(m, f, UHMM__HERE)
#define folio_unlock(m, f) folio_unlock_at(m, f, UHMM__HERE)

uhmm_always_inline bool folio_trylock_at(struct uhmm__frame *f, const struct uhmm_site *where)
{
	if (likely(uhmm__bit_trylock_at(&f->flags, PG_LOCKED, where)))
		return true;
	uhmm__count(UHMM_CNT_FOLIO_TRYLOCK_FAIL);
	return false;
}

/* A folio that nobody else can see yet. Models: __folio_set_locked(). */
uhmm_always_inline void folio_lock_new_at(struct uhmm__frame *f, const struct uhmm_site *where)
{
	uhmm__bit_lock_new_at(&f->flags, PG_LOCKED, where);
}

static inline void folio_lock_at(struct uhmm_machine *m, struct uhmm__frame *f,
				 const struct uhmm_site *where)
{
	if (uhmm__bit_lock_at(m, &f->flags, PG_LOCKED, PG_WAITERS, where))
		uhmm__count(UHMM_CNT_FOLIO_LOCK_WAIT);
}

static inline void folio_unlock_at(struct uhmm_machine *m, struct uhmm__frame *f,
				   const struct uhmm_site *where)
{
	UHMM_VM_BUG_ON(m, !folio_test(f, PG_LOCKED));
	uhmm__bit_unlock_at(m, &f->flags, PG_LOCKED, PG_WAITERS, where);
}

/* ---- references and mappings ---- */

uhmm_always_inline uint32_t folio_ref_count(struct uhmm__frame *f)
{
	return load_relaxed(&f->refcount);
}

/* @flags: the folio's, or at least its order. */
uhmm_always_inline int32_t folio_mapcount_flags(struct uhmm__frame *f, uint32_t flags)
{
	if (unlikely(flags & FOLIO_ORDER_MASK))
		return (int32_t)load_relaxed(folio_large_mapcountp(f));
	return load_relaxed(&f->mapcount);
}

uhmm_always_inline int32_t folio_mapcount(struct uhmm__frame *f)
{
	return folio_mapcount_flags(f, load_relaxed(&f->flags));
}

/* PMD entries that map it. */
uhmm_always_inline int32_t folio_entire_mapcount(struct uhmm__frame *f)
{
	return folio_test_large(f) ? (int32_t)load_relaxed(folio_entire_mapcountp(f)) : 0;
}

/* Entries of both kinds that map one page. Models: folio_precise_page_mapcount(). */
uhmm_always_inline int32_t folio_precise_page_mapcount(struct uhmm__frame *f,
						       struct uhmm__frame *page)
{
	return load_relaxed(&page->mapcount) + folio_entire_mapcount(f);
}

uhmm_always_inline bool folio_mapped(struct uhmm__frame *f)
{
	return folio_mapcount(f) > 0;
}

uhmm_always_inline bool folio_maybe_dma_pinned(struct uhmm__frame *f)
{
	return folio_ref_count(f) >= UHMM_PIN_BIAS;
}

/* Context: the caller knows that the count is not 0. */
uhmm_always_inline void folio_get(struct uhmm__frame *f)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	atomic_fetch_add_explicit(&f->refcount, 1, memory_order_relaxed);
}

/* A reference by pfn, where the folio may be free; never one by way of a tail. */
static inline bool folio_try_get(struct uhmm__frame *f)
{
	uint32_t ref = load_relaxed(&f->refcount);

	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	while (ref) {
		if (atomic_compare_exchange_weak_explicit(&f->refcount, &ref, ref + 1,
							  memory_order_acquire,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

/*
 * No reference at all, if there are exactly @expected: who would take one by pfn fails. Models:
 * folio_ref_freeze().
 */
static inline bool folio_ref_freeze(struct uhmm__frame *f, uint32_t expected)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	return atomic_compare_exchange_strong_explicit(&f->refcount, &expected, 0,
						       memory_order_acq_rel, memory_order_relaxed);
}

void uhmm__folio_free(struct uhmm_machine *m, struct uhmm__frame *f);
/* Several at once, by index, with the CPU's local lock taken once for many. */
void uhmm__folios_free(struct uhmm_machine *m, const uint32_t *indices, unsigned int nr);

/* True if the caller dropped the last reference and must free the folio. */
uhmm_always_inline bool folio_put_testzero(struct uhmm__frame *f)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	return atomic_fetch_sub_explicit(&f->refcount, 1, memory_order_acq_rel) == 1;
}

/*
 * folio_unlock(), then folio_put_testzero(), which says @last, by one atomic instruction: where nobody waits for
 * the lock there is nothing between the two that anybody could see. False: somebody waits; nothing was done.
 */
uhmm_always_inline bool folio_try_unlock_put(struct uhmm__frame *f, bool *last)
{
	uint64_t old = load_relaxed(&f->flags_refs);

	UHMM_VM_BUG_ON(NULL, !folio_test(f, PG_LOCKED));
	*last = FOLIO_REFS(old) == 1;
	return likely(!(old & FOLIO_FLAGS_REFS(BIT(PG_WAITERS), 0))) &&
	       likely(atomic_compare_exchange_strong_explicit(
		       &f->flags_refs, &old, old - FOLIO_FLAGS_REFS(BIT(PG_LOCKED), 1),
		       memory_order_acq_rel, memory_order_relaxed));
}

/* The two, in the plain library by one instruction if possible. */
uhmm_always_inline bool folio_unlock_put_testzero(struct uhmm_machine *m, struct uhmm__frame *f)
{
	bool last;

	UHMM_VM_BUG_ON(m, !folio_test(f, PG_LOCKED));
	if (!UHMM_CHECKED && folio_try_unlock_put(f, &last))
		return last;
	folio_unlock(m, f);
	return folio_put_testzero(f);
}

/*
 * folio_trylock(), then folio_get(), and in the plain library by one atomic instruction, too. Neither if the folio
 * is locked. Context: as folio_get().
 */
#define folio_trylock_get(f) folio_trylock_get_at(f, UHMM__HERE)

uhmm_always_inline bool folio_trylock_get_at(struct uhmm__frame *f, const struct uhmm_site *where)
{
	uint64_t old = load_relaxed(&f->flags_refs);

	if (UHMM_CHECKED) {
		if (!folio_trylock_at(f, where))
			return false;
		folio_get(f);
		return true;
	}
	while (likely(!(old & FOLIO_FLAGS_REFS(BIT(PG_LOCKED), 0))))
		if (likely(atomic_compare_exchange_weak_explicit(
			    &f->flags_refs, &old, old + FOLIO_FLAGS_REFS(BIT(PG_LOCKED), 1),
			    memory_order_acquire, memory_order_relaxed)))
			return true;
	uhmm__count(UHMM_CNT_FOLIO_TRYLOCK_FAIL);
	return false;
}

/* folio_set() of a flag that is clear, and that nobody else sets, then folio_put_testzero(); likewise. */
uhmm_always_inline bool folio_set_put_testzero(struct uhmm__frame *f, unsigned int bit)
{
	uint64_t old;

	UHMM_VM_BUG_ON(NULL, folio_test(f, bit));
	if (UHMM_CHECKED) {
		folio_set(f, bit);
		return folio_put_testzero(f);
	}
	old = atomic_fetch_add_explicit(&f->flags_refs,
					FOLIO_FLAGS_REFS(BIT(bit), 0) - FOLIO_FLAGS_REFS(0, 1),
					memory_order_acq_rel);
	return FOLIO_REFS(old) == 1;
}

static inline void folio_put(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (folio_put_testzero(f))
		uhmm__folio_free(m, f);
}

/* Several references. Models: folio_ref_add(), folio_put_refs(). */
uhmm_always_inline void folio_ref_add(struct uhmm__frame *f, uint32_t n)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	atomic_fetch_add_explicit(&f->refcount, n, memory_order_relaxed);
}

static inline void folio_put_refs(struct uhmm_machine *m, struct uhmm__frame *f, uint32_t n)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	if (atomic_fetch_sub_explicit(&f->refcount, n, memory_order_acq_rel) == n)
		uhmm__folio_free(m, f);
}

/* Folios whose last reference is gone, to be freed together. */
enum { FREE_BATCH = 64 };

struct uhmm__free_batch {
	unsigned int nr;
	uint32_t index[FREE_BATCH];
};

void uhmm__free_batch_flush(struct uhmm_machine *m, struct uhmm__free_batch *b);

/* One whose last reference is gone. */
static inline void free_batch_add(struct uhmm_machine *m, struct uhmm__frame *f,
				  struct uhmm__free_batch *b)
{
	if (unlikely(b->nr == FREE_BATCH))
		uhmm__free_batch_flush(m, b);
	b->index[b->nr++] = frame_index(m, f);
}

/* Models: folios_put_refs(). End with uhmm__free_batch_flush(). */
static inline void folio_put_batched(struct uhmm_machine *m, struct uhmm__frame *f,
				     struct uhmm__free_batch *b)
{
	if (folio_put_testzero(f))
		free_batch_add(m, f, b);
}

/* ---- allocation ---- */

int uhmm__frames_init(struct uhmm_machine *m);
void uhmm__frames_exit(struct uhmm_machine *m);

/**
 * uhmm__folio_alloc() - a RAM frame
 * @m: machine
 * @zero: contents must be zero; else they are left over
 * Returns: the folio with one reference, no flag but PG_SWAPBACKED, no mapping; NULL if RAM is
 * used up and nothing can be reclaimed.
 * Context: takes the CPU's local lock; reclaims when RAM is used up, so it may sleep on rmap locks
 * and calls notifiers, but only tries folio locks. Models: folio_alloc(GFP_HIGHUSER_MOVABLE),
 * order 0.
 */
struct uhmm__frame *uhmm__folio_alloc(struct uhmm_machine *m, bool zero);
/*
 * The same without a reference: who looks frames up by pfn gets none until the caller has stored the count,
 * which comes after all else. One that is not needed goes by uhmm__folio_free(). Models:
 * alloc_frozen_pages().
 */
struct uhmm__frame *uhmm__folio_alloc_frozen(struct uhmm_machine *m, bool zero);

/* The same for 2^@order pages that start at a multiple of that; FOLIO_MAX_ORDER at most. */
struct uhmm__frame *uhmm__folio_alloc_order(struct uhmm_machine *m, unsigned int order, bool zero);

/*
 * Make free frames one folio: the head's flags are @flags and the order, its count of references
 * stays for the caller to set. Models: prep_compound_page().
 */
void uhmm__prep_folio(struct uhmm__frame *f, unsigned int order, uint32_t flags);

uint64_t uhmm__frames_used(struct uhmm_machine *m);

/* ---- for the verifier; context: no task inside the library ---- */

typedef void uhmm__pfn_fn(void *arg, uhmm_pfn_t pfn);

/* Every frame but the zero page that was ever handed out is in [*first, *end), and some a CPU will take next. */
void uhmm__frames_range(struct uhmm_machine *m, uhmm_pfn_t *first, uhmm_pfn_t *end);
/* Each frame of that range that is free. */
void uhmm__frames_for_each_free(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg);
/* Each folio in a batch on its way to the LRU, and in one of MADV_FREE, perhaps more than once. */
void uhmm__lru_for_each_batched(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg);
void uhmm__lru_for_each_lazyfree(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg);

/* ---- LRU batches (lru.c) ---- */

/* Models: folio_add_lru(): the batch of this CPU takes a reference of its own. */
void uhmm__folio_add_lru(struct uhmm_machine *m, struct uhmm__frame *f);
/* The same for a frozen one, which has a reference of its owner's, too, from then on. */
void uhmm__folio_add_lru_new(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * MADV_FREE: into another batch of this CPU, with a reference, unless the folio is not on the LRU.
 * Models: folio_mark_lazyfree().
 */
void uhmm__folio_mark_lazyfree(struct uhmm_machine *m, struct uhmm__frame *f);
/* Empties the batches of this CPU, or of all. */
void uhmm__lru_add_drain(struct uhmm_machine *m);
void uhmm__lru_add_drain_all(struct uhmm_machine *m);
/*
 * Models: folio_isolate_lru(), but takes no reference: the caller has one, which the kernel's callers
 * drop right afterwards. False if the folio is not on the LRU.
 */
uhmm_always_inline bool uhmm__folio_isolate_lru(struct uhmm__frame *f)
{
	uhmm__sched_point(UHMM__PT_ATOMIC, f);
	return folio_test_clear(f, PG_LRU);
}

/* It was used by a system call: the second time makes it active. Models: folio_mark_accessed(). */
static inline void folio_mark_accessed(struct uhmm__frame *f)
{
	if (!folio_test(f, PG_REFERENCED)) {
		folio_set(f, PG_REFERENCED);
	} else if (!folio_test(f, PG_ACTIVE)) {
		folio_set(f, PG_ACTIVE);
		folio_clear(f, PG_REFERENCED);
	}
}

/* ---- contents ---- */

void uhmm__copy_page_bytes(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src);

/* Copies a whole page between frames, whose indices are known. */
uhmm_always_inline void copy_contents(struct uhmm_machine *m, uhmm_pfn_t dst, uint64_t to,
				      uhmm_pfn_t src, uint64_t from)
{
	if (likely(m->tags))
		store_relaxed(&m->tags[to], load_relaxed(&m->tags[from]));
	else
		uhmm__copy_page_bytes(m, dst, src);
}

/* Copies a whole page between frames; counted by kind. */
uhmm_always_inline void uhmm__copy_page(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src)
{
	bool to_dev = dst >= m->device_base, from_dev = src >= m->device_base;

	uhmm__count(to_dev ? (from_dev ? UHMM_CNT_COPY_DEVICE : UHMM_CNT_COPY_TO_DEVICE)
			   : (from_dev ? UHMM_CNT_COPY_TO_RAM : UHMM_CNT_COPY_RAM));
	copy_contents(m, dst, pfn_to_index(m, dst), src, pfn_to_index(m, src));
}

/* The same from a device to RAM, where the pfn is the index, and from there. */
uhmm_always_inline void uhmm__copy_page_to_ram(struct uhmm_machine *m, uhmm_pfn_t dst,
					       uhmm_pfn_t src)
{
	uhmm__count(UHMM_CNT_COPY_TO_RAM);
	copy_contents(m, dst, dst, src, pfn_to_index(m, src));
}

uhmm_always_inline void uhmm__copy_page_to_device(struct uhmm_machine *m, uhmm_pfn_t dst,
						  uhmm_pfn_t src)
{
	uhmm__count(UHMM_CNT_COPY_TO_DEVICE);
	copy_contents(m, dst, pfn_to_index(m, dst), src, src);
}

/* The same for @n frames that lie side by side. */
void uhmm__copy_pages(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src, uint64_t n);
void uhmm__clear_page_bytes(struct uhmm_machine *m, uhmm_pfn_t pfn);

/* Of RAM, where the pfn is the index; where contents are tags. */
uhmm_always_inline void uhmm__clear_ram_tag(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	uhmm__count(UHMM_CNT_CLEAR_RAM);
	store_relaxed(&m->tags[pfn], 0);
}

/* Of RAM, whatever contents are. */
uhmm_always_inline void uhmm__clear_ram_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	if (likely(m->tags)) {
		uhmm__clear_ram_tag(m, pfn);
		return;
	}
	uhmm__count(UHMM_CNT_CLEAR_RAM);
	uhmm__clear_page_bytes(m, pfn);
}

uhmm_always_inline void uhmm__clear_page(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	if (pfn < m->device_base) {
		uhmm__clear_ram_page(m, pfn);
		return;
	}
	uhmm__count(UHMM_CNT_CLEAR_DEVICE);
	if (likely(m->tags))
		store_relaxed(&m->tags[pfn_to_index(m, pfn)], 0);
	else
		uhmm__clear_page_bytes(m, pfn);
}

void uhmm__read_frame_slow(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, void *buf,
			   size_t len);
void uhmm__write_frame_slow(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, const void *buf,
			    size_t len);

/* An access of one aligned word, where contents are tags. */
uhmm_always_inline bool frame_is_tag_access(const struct uhmm_machine *m, size_t off, size_t len)
{
	return m->tags && len == sizeof(uint64_t) && !(off & (sizeof(uint64_t) - 1));
}

/* @off + @len within the page. */
uhmm_always_inline void uhmm__read_frame(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off,
					 void *buf, size_t len)
{
	uint64_t tag;

	if (unlikely(!frame_is_tag_access(m, off, len))) {
		uhmm__read_frame_slow(m, pfn, off, buf, len);
		return;
	}
	tag = load_relaxed(&m->tags[pfn_to_index(m, pfn)]);
	memcpy(buf, &tag, sizeof(tag));
}

uhmm_always_inline void uhmm__write_frame(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off,
					  const void *buf, size_t len)
{
	uint64_t tag;

	if (unlikely(!frame_is_tag_access(m, off, len))) {
		uhmm__write_frame_slow(m, pfn, off, buf, len);
		return;
	}
	memcpy(&tag, buf, sizeof(tag));
	store_relaxed(&m->tags[pfn_to_index(m, pfn)], tag);
}

/* Equal contents of two frames of two machines of the same content kind. */
bool uhmm__same_content(struct uhmm_machine *ma, uhmm_pfn_t a, struct uhmm_machine *mb,
			uhmm_pfn_t b);

#endif /* UHMM_MM_FRAME_H */
