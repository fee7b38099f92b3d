// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Swap slots and the swap cache. Models: mm/swapfile.c and mm/swap_state.c, with one device and one
 * lock for all of its slots.
 */
#include "mm/swap.h"

#include <string.h>

#include "core/alloc.h"

enum { SLOT_WORDS = UHMM_PAGE_SIZE / sizeof(uint64_t) };

/* ---- life ---- */

static size_t bitmap_bytes(const struct uhmm__swap *s)
{
	return (s->nr_slots + 63) / 64 * sizeof(uint64_t);
}

int uhmm__swap_init(struct uhmm_machine *m)
{
	struct uhmm__swap *s;

	if (!m->config.swap_bytes)
		return 0;
	s = uhmm__alloc(m, sizeof(*s));
	if (!s)
		return -ENOMEM;
	m->swap = s;
	uhmm__spin_init(&s->lock, UHMM__LC_SWAP);
	s->nr_slots = (m->config.swap_bytes >> UHMM_PAGE_SHIFT) + 1;
	store_relaxed(&s->nr_free, s->nr_slots - 1);
	s->next = 1;
	s->used = uhmm__reserve(bitmap_bytes(s));
	s->count = uhmm__reserve(s->nr_slots * sizeof(*s->count));
	s->cache = uhmm__reserve(s->nr_slots * sizeof(*s->cache));
	s->shadow = uhmm__reserve(s->nr_slots * sizeof(*s->shadow));
	if (m->config.content == UHMM_CONTENT_TAG)
		s->tags = uhmm__reserve(s->nr_slots * sizeof(*s->tags));
	else
		s->words = uhmm__reserve(s->nr_slots * UHMM_PAGE_SIZE);
	return s->used && s->count && s->cache && s->shadow && (s->tags || s->words) ? 0 : -ENOMEM;
}

void uhmm__swap_exit(struct uhmm_machine *m)
{
	struct uhmm__swap *s = m->swap;

	if (!s)
		return;
	uhmm__unreserve(s->used, bitmap_bytes(s));
	uhmm__unreserve((void *)s->count, s->nr_slots * sizeof(*s->count));
	uhmm__unreserve((void *)s->cache, s->nr_slots * sizeof(*s->cache));
	uhmm__unreserve(s->shadow, s->nr_slots * sizeof(*s->shadow));
	uhmm__unreserve((void *)s->tags, s->nr_slots * sizeof(*s->tags));
	uhmm__unreserve(s->words, s->nr_slots * UHMM_PAGE_SIZE);
	uhmm__free(m, s, sizeof(*s));
	m->swap = NULL;
}

uint64_t uhmm__swap_resident(struct uhmm_machine *m)
{
	struct uhmm__swap *s = m->swap;

	if (!s)
		return 0;
	return uhmm__reserve_resident(s->used, bitmap_bytes(s)) +
	       uhmm__reserve_resident((void *)s->count, s->nr_slots * sizeof(*s->count)) +
	       uhmm__reserve_resident((void *)s->cache, s->nr_slots * sizeof(*s->cache)) +
	       uhmm__reserve_resident(s->shadow, s->nr_slots * sizeof(*s->shadow)) +
	       (s->tags ? uhmm__reserve_resident((void *)s->tags, s->nr_slots * sizeof(*s->tags))
			: uhmm__reserve_resident(s->words, s->nr_slots * UHMM_PAGE_SIZE));
}

uint64_t uhmm__swap_used(struct uhmm_machine *m)
{
	struct uhmm__swap *s = m->swap;

	return s ? s->nr_slots - 1 - load_relaxed(&s->nr_free) : 0;
}

/* ---- slots; context: the lock ---- */

/* Next fit, so that what is swapped out together lies together. 0: full. */
static uint64_t slot_alloc(struct uhmm__swap *s)
{
	uint64_t slot = s->next;

	if (!load_relaxed(&s->nr_free))
		return 0;
	for (;;) {
		uint64_t free;

		if (slot >= s->nr_slots)
			slot = 1;
		free = ~s->used[slot / 64] >> slot % 64;
		slot += free ? (uint64_t)__builtin_ctzl(free) : 64 - slot % 64;
		if (free && slot < s->nr_slots)
			break;
	}
	s->used[slot / 64] |= BIT(slot % 64);
	s->next = slot + 1;
	store_relaxed(&s->nr_free, load_relaxed(&s->nr_free) - 1);
	return slot;
}

static void slot_free(struct uhmm__swap *s, uint64_t slot)
{
	s->used[slot / 64] &= ~BIT(slot % 64);
	store_relaxed(&s->nr_free, load_relaxed(&s->nr_free) + 1);
}

static uint32_t count_add(struct uhmm__swap *s, uint64_t slot, int32_t n)
{
	uint32_t count = load_relaxed(&s->count[slot]) + (uint32_t)n;

	store_relaxed(&s->count[slot], count);
	return count;
}

static void cache_del(struct uhmm__swap *s, struct uhmm__frame *f)
{
	uint64_t slot = f->aux;

	store_relaxed(&s->cache[slot], 0);
	folio_clear(f, PG_SWAPCACHE);
	if (!load_relaxed(&s->count[slot]))
		slot_free(s, slot);
}

/* ---- contents ---- */

void uhmm__swap_write(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;
	uhmm_pfn_t pfn = frame_pfn(m, f);

	uhmm__count(UHMM_CNT_SWAP_OUT);
	if (s->tags)
		store_relaxed(&s->tags[f->aux], load_relaxed(&m->tags[pfn]));
	else
		uhmm__read_frame(m, pfn, 0, &s->words[(uint64_t)f->aux * SLOT_WORDS],
				 UHMM_PAGE_SIZE);
}

static void swap_read(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;
	uhmm_pfn_t pfn = frame_pfn(m, f);

	uhmm__count(UHMM_CNT_SWAP_IN);
	if (s->tags)
		store_relaxed(&m->tags[pfn], load_relaxed(&s->tags[f->aux]));
	else
		uhmm__write_frame(m, pfn, 0, &s->words[(uint64_t)f->aux * SLOT_WORDS],
				  UHMM_PAGE_SIZE);
}

void uhmm__swap_peek(struct uhmm_machine *m, uint64_t slot, size_t off, void *buf, size_t len)
{
	struct uhmm__swap *s = m->swap;
	uint32_t pfn = load_relaxed(&s->cache[slot]);
	uint8_t *out = buf;
	uint64_t tag;

	if (pfn) {
		uhmm__read_frame(m, pfn, off, buf, len);
	} else if (s->words) {
		memcpy(buf, (uint8_t *)&s->words[slot * SLOT_WORDS] + off, len);
	} else {
		tag = load_relaxed(&s->tags[slot]);
		for (size_t i = 0; i < len; i++)
			out[i] = tag >> ((off + i) % 8 * 8);
	}
}

bool uhmm__swap_is_broken(struct uhmm_machine *m, uint64_t slot)
{
	uint32_t pfn = load_relaxed(&m->swap->cache[slot]);

	return pfn && folio_test(pfn_to_frame(m, pfn), PG_HWPOISON);
}

/* ---- entries ---- */

void uhmm__swap_dup_entry(struct uhmm_machine *m, uint64_t slot)
{
	struct uhmm__swap *s = m->swap;

	uhmm__spin_lock(&s->lock);
	UHMM_VM_BUG_ON(m, !load_relaxed(&s->count[slot]));
	count_add(s, slot, 1);
	uhmm__spin_unlock(&s->lock);
}

/*
 * No entry names the slot any more, only the cache has it. The lock is only tried: the caller may
 * hold a PTL. Models: __try_to_reclaim_swap().
 */
static void try_to_reclaim_slot(struct uhmm_machine *m, uint64_t slot)
{
	struct uhmm__frame *f = uhmm__swap_cache_get(m, slot);

	if (!f)
		return;
	if (folio_trylock(f)) {
		if (folio_test(f, PG_SWAPCACHE) && f->aux == slot && !folio_mapped(f))
			uhmm__folio_free_swap(m, f);
		folio_unlock(m, f);
	}
	folio_put(m, f);
}

void uhmm__swap_put_entry(struct uhmm_machine *m, uint64_t slot)
{
	struct uhmm__swap *s = m->swap;
	bool cached, last;

	uhmm__spin_lock(&s->lock);
	UHMM_VM_BUG_ON(m, !load_relaxed(&s->count[slot]));
	last = !count_add(s, slot, -1);
	cached = load_relaxed(&s->cache[slot]);
	if (last && !cached)
		slot_free(s, slot);
	uhmm__spin_unlock(&s->lock);
	if (last && cached)
		try_to_reclaim_slot(m, slot);
}

/* ---- folios ---- */

bool uhmm__folio_alloc_swap(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;
	uint64_t slot;

	UHMM_VM_BUG_ON(m, !folio_test(f, PG_LOCKED) || folio_test(f, PG_SWAPCACHE));
	if (!s || uhmm__inject(m, UHMM_INJECT_SWAP))
		return false;
	uhmm__spin_lock(&s->lock);
	slot = slot_alloc(s);
	if (slot) {
		f->aux = (uint32_t)slot;
		folio_get(f);
		folio_set(f, PG_SWAPCACHE);
		store_release(&s->cache[slot], (uint32_t)frame_pfn(m, f));
	}
	uhmm__spin_unlock(&s->lock);
	return slot;
}

void uhmm__folio_dup_swap(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;

	uhmm__spin_lock(&s->lock);
	count_add(s, f->aux, 1);
	uhmm__spin_unlock(&s->lock);
}

void uhmm__folio_put_swap(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;

	uhmm__spin_lock(&s->lock);
	UHMM_VM_BUG_ON(m, !load_relaxed(&s->count[f->aux]));
	count_add(s, f->aux, -1);
	uhmm__spin_unlock(&s->lock);
}

bool uhmm__folio_free_swap(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;
	bool ok;

	UHMM_VM_BUG_ON(m, !folio_test(f, PG_LOCKED));
	if (!folio_test(f, PG_SWAPCACHE))
		return false;
	uhmm__spin_lock(&s->lock);
	ok = !load_relaxed(&s->count[f->aux]);
	if (ok)
		cache_del(s, f);
	uhmm__spin_unlock(&s->lock);
	if (!ok)
		return false;
	folio_set(f, PG_DIRTY);
	/* Never the last: whoever locked the folio has one, or the entry that maps it. */
	atomic_fetch_sub_explicit(&f->refcount, 1, memory_order_acq_rel);
	return true;
}

void uhmm__swap_cache_del(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;

	uhmm__spin_lock(&s->lock);
	cache_del(s, f);
	uhmm__spin_unlock(&s->lock);
	folio_put(m, f);
}

void uhmm__free_swap_cache_slow(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (folio_mapped(f) || !folio_trylock(f))
		return;
	uhmm__folio_free_swap(m, f);
	folio_unlock(m, f);
}

bool uhmm__swap_remove_mapping(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__swap *s = m->swap;
	bool ok;

	uhmm__spin_lock(&s->lock);
	/* The count first: who wrote by a reference that is gone by now has set the bit before. */
	ok = folio_ref_freeze(f, 2);
	if (ok && unlikely(folio_test(f, PG_DIRTY))) {
		store_release(&f->refcount, 2);
		ok = false;
	}
	if (ok) {
		s->shadow[f->aux] = ++s->evictions;
		cache_del(s, f);
	}
	uhmm__spin_unlock(&s->lock);
	return ok;
}

bool uhmm__swap_cache_replace(struct uhmm_machine *m, struct uhmm__frame *old,
			      struct uhmm__frame *new, uint32_t expected)
{
	struct uhmm__swap *s = m->swap;
	bool ok;

	uhmm__spin_lock(&s->lock);
	ok = folio_ref_freeze(old, expected);
	if (ok) {
		new->aux = old->aux;
		folio_get(new);
		folio_set(new, PG_SWAPCACHE);
		folio_clear(old, PG_SWAPCACHE);
		store_release(&s->cache[new->aux], (uint32_t)frame_pfn(m, new));
		store_release(&old->refcount, expected - 1);
	}
	uhmm__spin_unlock(&s->lock);
	return ok;
}

/* ---- swapping in ---- */

struct uhmm__frame *uhmm__swap_cache_get(struct uhmm_machine *m, uint64_t slot)
{
	struct uhmm__swap *s = m->swap;

	for (;;) {
		uint32_t pfn = load_acquire(&s->cache[slot]);
		struct uhmm__frame *f;

		if (!pfn)
			return NULL;
		f = pfn_to_frame(m, pfn);
		if (!folio_try_get(f))
			continue; /* it is just being taken out */
		if (load_acquire(&s->cache[slot]) == pfn)
			return f;
		folio_put(m, f);
	}
}

/* The folio that is to be read in goes into the cache first, locked, so that there is one. */
static bool cache_add_new(struct uhmm_machine *m, struct uhmm__frame *f, uint64_t slot)
{
	struct uhmm__swap *s = m->swap;
	bool ok;

	uhmm__spin_lock(&s->lock);
	ok = load_relaxed(&s->count[slot]) && !load_relaxed(&s->cache[slot]);
	if (ok) {
		f->aux = (uint32_t)slot;
		folio_lock_new(f);
		folio_set(f, PG_SWAPCACHE);
		/*
		 * It would still be here with a little more memory: let it not be the next to go.
		 * Models: workingset_refault(), which compares with what is active.
		 */
		if (s->evictions - s->shadow[slot] < m->ram_frames / 2)
			folio_set(f, PG_ACTIVE);
		store_release(&f->refcount, 2);
		store_release(&s->cache[slot], (uint32_t)frame_pfn(m, f));
	}
	uhmm__spin_unlock(&s->lock);
	return ok;
}

int uhmm__swapin(struct uhmm_machine *m, uint64_t slot, struct uhmm__frame **out)
{
	struct uhmm__frame *f;

	for (;;) {
		*out = uhmm__swap_cache_get(m, slot);
		if (*out)
			return 0;
		if (!load_relaxed(&m->swap->count[slot]))
			return -ENOENT;
		f = uhmm__folio_alloc_frozen(m, false);
		if (!f)
			return -ENOMEM;
		if (cache_add_new(m, f, slot))
			break;
		uhmm__folio_free(m, f);
	}
	uhmm__folio_add_lru(m, f);
	swap_read(m, f);
	folio_set(f, PG_UPTODATE);
	folio_unlock(m, f);
	*out = f;
	return 0;
}
