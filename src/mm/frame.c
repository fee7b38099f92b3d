// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * RAM frames: blocks of 2 MiB with a bitmap each, and a short list of free frames per CPU.
 *
 * A CPU's list is refilled from one block, lowest frame last, so that frames of one burst of faults lie
 * side by side: first by one word of its bitmap, and by twice as much each time after that, up to all of
 * it. CPUs that fault for long so have blocks of their own: neither the zone's lines nor descriptors side
 * by side, which the prefetcher fetches, go to and fro between them. Blocks never used are given to a CPU
 * several at a time, so that no two wait for the same host memory.
 */
#include "mm/frame.h"

#include <string.h>

#include "core/alloc.h"
#include "mm/large.h"
#include "mm/pcp.h"
#include "mm/swap.h"
#include "mm/zone_device.h"
#include "pgtable/tlb.h"

enum {
	BLOCK_FRAMES = 512,
	BLOCK_WORDS = BLOCK_FRAMES / 64,
	POPULATE_BLOCKS = 16, /* 32 MiB of RAM: 256 KiB of descriptors, 64 KiB of tags */
	PCP_MIN_HIGH = 256,   /* what a CPU may keep of however little RAM */
	MAX_FUTILE = 4,	      /* attempts to reclaim that free nothing, before giving up */
	FIRST_BLOCK = 1,      /* block 0 holds the zero page and no other frame in use */
};

struct block {
	uint64_t free[BLOCK_WORDS]; /* [zone] set = free */
	uint32_t nr_free;	    /* [zone] */
	uint32_t next, prev;	    /* [zone] list of blocks with free frames, 0 = end */
};

struct uhmm__frames {
	struct uhmm__spinlock zone;
	struct block *blocks; /* reserved, indexed by pfn / BLOCK_FRAMES */
	uint32_t nr_blocks;
	/* Heads of the lists of blocks that were used and have free frames, 0 = none. [zone] */
	uint32_t partial;    /* some are free */
	uint32_t whole;	     /* all are */
	uint32_t next_fresh; /* [zone] first block that was never given to a CPU */
	struct uhmm__pcp *pcp;
	void *vmemmap; /* as reserved: m->vmemmap is aligned in it */
	size_t vmemmap_bytes, tags_bytes, bytes_bytes;
};

/*
 * CPUs keep an eighth of RAM at most, together, but for small machines. Models: pcp->high and pcp->batch.
 */
static void pcp_init(struct uhmm_machine *m, struct uhmm__pcp *pcp)
{
	size_t high = m->ram_frames / 8 / m->config.nr_cpus;

	pcp->high = (uint32_t)MIN(MAX(high, (size_t)PCP_MIN_HIGH), (size_t)PCP_MAX);
	pcp->batch = 1;
	pcp->fresh_batch = 1;
}

static void zero_page_init(struct uhmm_machine *m)
{
	struct uhmm__frame *f = pfn_to_frame(m, m->zero_pfn);

	store_relaxed(&f->flags, (uint32_t)(BIT(PG_RESERVED) | BIT(PG_UPTODATE)));
	store_relaxed(&f->refcount, 1);
}

int uhmm__frames_init(struct uhmm_machine *m)
{
	size_t nr = m->nr_frames;
	struct uhmm__frames *fr = uhmm__alloc(m, sizeof(*fr));

	if (!fr)
		return -ENOMEM;
	m->frames = fr;
	uhmm__spin_init(&fr->zone, UHMM__LC_ZONE);
	fr->nr_blocks = m->ram_frames / BLOCK_FRAMES;
	fr->next_fresh = FIRST_BLOCK;
	fr->blocks = uhmm__reserve(fr->nr_blocks * sizeof(*fr->blocks));
	fr->pcp = uhmm__alloc_aligned(m, 128, m->config.nr_cpus * sizeof(*fr->pcp));
	/* A tail finds its head by masking its own address. */
	fr->vmemmap_bytes = nr * sizeof(*m->vmemmap) + BLOCK_FRAMES * sizeof(*m->vmemmap);
	fr->vmemmap = uhmm__reserve(fr->vmemmap_bytes);
	if (fr->vmemmap)
		m->vmemmap = (void *)ALIGN_UP((uintptr_t)fr->vmemmap,
					      BLOCK_FRAMES * sizeof(*m->vmemmap));
	if (m->config.content == UHMM_CONTENT_BYTES) {
		fr->bytes_bytes = nr * UHMM_PAGE_SIZE;
		m->bytes = uhmm__reserve(fr->bytes_bytes);
	} else {
		fr->tags_bytes = nr * sizeof(*m->tags);
		m->tags = uhmm__reserve(fr->tags_bytes);
	}
	if (!fr->blocks || !fr->pcp || !m->vmemmap || (!m->bytes && !m->tags))
		return -ENOMEM;
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		pcp_init(m, &fr->pcp[c]);
		uhmm__cpu(m, c)->frames = &fr->pcp[c];
	}
	m->zero_pfn = 1;
	zero_page_init(m);
	return 0;
}

void uhmm__frames_exit(struct uhmm_machine *m)
{
	struct uhmm__frames *fr = m->frames;

	if (!fr)
		return;
	uhmm__unreserve(fr->blocks, fr->nr_blocks * sizeof(*fr->blocks));
	uhmm__free(m, fr->pcp, m->config.nr_cpus * sizeof(*fr->pcp));
	uhmm__unreserve(fr->vmemmap, fr->vmemmap_bytes);
	uhmm__unreserve(m->tags, fr->tags_bytes);
	uhmm__unreserve(m->bytes, fr->bytes_bytes);
	uhmm__free(m, fr, sizeof(*fr));
	m->frames = NULL;
}

/* Host memory for @n blocks from @first on that are about to be used for the first time. */
static void populate_ahead(struct uhmm_machine *m, uint32_t first, uint32_t n)
{
	size_t pfn = (size_t)first * BLOCK_FRAMES, nr = (size_t)n * BLOCK_FRAMES;

	uhmm__reserve_populate(&m->vmemmap[pfn], nr * sizeof(*m->vmemmap));
	if (m->tags)
		uhmm__reserve_populate((void *)&m->tags[pfn], nr * sizeof(*m->tags));
}

/* ---- blocks ---- */

/* The list that a block with so many free frames is on; NULL for none. */
static uint32_t *block_list(struct uhmm__frames *fr, uint32_t nr_free)
{
	if (!nr_free)
		return NULL;
	return nr_free == BLOCK_FRAMES ? &fr->whole : &fr->partial;
}

/* A block has @nr free frames from now on. Context: zone lock. */
static void block_set_free(struct uhmm__frames *fr, uint32_t i, uint32_t nr)
{
	struct block *b = &fr->blocks[i];
	uint32_t *from = block_list(fr, b->nr_free), *to = block_list(fr, nr);

	b->nr_free = nr;
	if (from == to)
		return;
	if (from) {
		if (b->prev)
			fr->blocks[b->prev].next = b->next;
		else
			*from = b->next;
		if (b->next)
			fr->blocks[b->next].prev = b->prev;
	}
	if (to) {
		b->prev = 0;
		b->next = *to;
		if (*to)
			fr->blocks[*to].prev = i;
		*to = i;
	}
}

/*
 * Blocks never used for a CPU that has none left. Each time twice as many, up to POPULATE_BLOCKS: a CPU that
 * has used few so far will perhaps not need many more. If no others are left it gets what another CPU has.
 * Returns: how many no CPU had before. Context: zone lock.
 */
static uint32_t fresh_get(struct uhmm_machine *m, struct uhmm__pcp *pcp)
{
	struct uhmm__frames *fr = m->frames;
	uint32_t n = MIN(pcp->fresh_batch, fr->nr_blocks - fr->next_fresh);

	if (n) {
		pcp->fresh = fr->next_fresh;
		pcp->fresh_end = fr->next_fresh += n;
		pcp->fresh_batch = MIN(2 * pcp->fresh_batch, (uint32_t)POPULATE_BLOCKS);
		return n;
	}
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		struct uhmm__pcp *other = &fr->pcp[c];

		if (other->fresh == other->fresh_end)
			continue;
		pcp->fresh = other->fresh;
		pcp->fresh_end = other->fresh_end;
		other->fresh = other->fresh_end;
		break;
	}
	return 0;
}

/*
 * A block with all frames free, or 0. *@populate: (out) of so many from this one on nothing was ever used,
 * and the host is to give memory once the lock is dropped. Context: zone lock.
 */
static uint32_t block_whole(struct uhmm_machine *m, struct uhmm__pcp *pcp, uint32_t *populate)
{
	struct uhmm__frames *fr = m->frames;
	uint32_t i = fr->whole;

	if (i)
		return i;
	if (pcp->fresh == pcp->fresh_end)
		*populate = fresh_get(m, pcp);
	if (pcp->fresh == pcp->fresh_end)
		return 0;
	i = pcp->fresh++;
	memset(fr->blocks[i].free, 0xff, sizeof(fr->blocks[i].free));
	block_set_free(fr, i, BLOCK_FRAMES);
	return i;
}

/* A block with a free frame, or 0. Context: zone lock. */
static uint32_t block_get(struct uhmm_machine *m, struct uhmm__pcp *pcp, uint32_t *populate)
{
	struct uhmm__frames *fr = m->frames;

	return likely(fr->partial) ? fr->partial : block_whole(m, pcp, populate);
}

/* The frames from @first on that have a bit in @word, the last of them first. */
static void pcp_add_word(struct uhmm__pcp *pcp, uint32_t first, uint64_t word)
{
	if (likely(word == UINT64_MAX)) {
		for (uint32_t k = 0; k < 64; k++)
			pcp->pfn[pcp->nr + k] = first + 63 - k;
		pcp->nr += 64;
		return;
	}
	while (word) {
		uint32_t bit = 63 - (uint32_t)__builtin_clzl(word);

		word &= ~BIT(bit);
		pcp->pfn[pcp->nr++] = first + bit;
	}
}

/* Take the free frames of the first @max words of a block that have some. @words: (out) which. Context: zone lock. */
static void block_take(struct uhmm__frames *fr, uint32_t i, uint32_t max,
		       uint64_t words[BLOCK_WORDS])
{
	struct block *b = &fr->blocks[i];
	uint32_t nr = b->nr_free;

	for (uint32_t w = 0; w < BLOCK_WORDS; w++) {
		words[w] = max ? b->free[w] : 0;
		if (!words[w])
			continue;
		b->free[w] = 0;
		nr -= (uint32_t)__builtin_popcountl(words[w]);
		max--;
	}
	block_set_free(fr, i, nr);
}

/*
 * Fill an empty list. Each refill takes twice as much as the one before, until frames are given back.
 * Models: rmqueue_bulk() and nr_pcp_alloc().
 */
static bool pcp_refill(struct uhmm_machine *m, struct uhmm__pcp *pcp)
{
	struct uhmm__frames *fr = m->frames;
	uint64_t words[BLOCK_WORDS];
	uint32_t i, populate = 0;

	uhmm__spin_lock(&fr->zone);
	i = block_get(m, pcp, &populate);
	if (i)
		block_take(fr, i, pcp->batch, words);
	uhmm__spin_unlock(&fr->zone);
	if (!i)
		return false;
	/* Not under the lock: the host takes its time. */
	/* A single block may be all that is used of this machine; it is touched page by page. */
	if (unlikely(populate > 1))
		populate_ahead(m, i, populate);
	/* Half of what the list may hold is one block at most. */
	pcp->batch = MIN(2 * pcp->batch, pcp->high / 2 / 64);
	for (uint32_t w = BLOCK_WORDS; w-- > 0;)
		pcp_add_word(pcp, i * BLOCK_FRAMES + w * 64, words[w]);
	return true;
}

/* Give the @n oldest frames of a list back to the blocks. Context: the CPU's local lock. */
static void pcp_spill(struct uhmm__frames *fr, struct uhmm__pcp *pcp, uint32_t n)
{
	uint32_t run;

	uhmm__spin_lock(&fr->zone);
	for (uint32_t k = 0; k < n; k += run) {
		uint32_t first = pcp->pfn[k], i = first / BLOCK_FRAMES;
		uint32_t max = MIN(n - k, 64 - first % 64);
		struct block *b = &fr->blocks[i];

		/* Frames that were allocated one after the other are mostly freed so. */
		for (run = 1; run < max && pcp->pfn[k + run] == first + run; run++)
			;
		b->free[first / 64 % BLOCK_WORDS] |= UINT64_MAX >> (64 - run) << first % 64;
		block_set_free(fr, i, b->nr_free + run);
	}
	uhmm__spin_unlock(&fr->zone);
	memmove(pcp->pfn, pcp->pfn + n, (pcp->nr - n) * sizeof(*pcp->pfn));
	pcp->nr -= n;
	pcp->batch -= pcp->batch / 2;
}

/* ---- allocation ---- */

/* The pfn of a frame, 0 if RAM is used up. Models: get_page_from_freelist(). */
static uhmm_pfn_t frame_get(struct uhmm_machine *m)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct uhmm__pcp *pcp = cpu->frames;
	uhmm_pfn_t pfn = 0;

	uhmm__spin_lock(&cpu->local);
	if (likely(pcp->nr || pcp_refill(m, pcp)))
		pfn = pcp->pfn[--pcp->nr];
	uhmm__spin_unlock(&cpu->local);
	return pfn;
}

/* Frames that CPUs keep may be what another, or a block, lacks. Models: drain_all_pages(). */
static void pcp_drain_all(struct uhmm_machine *m)
{
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, c);
		struct uhmm__pcp *pcp = &m->frames->pcp[c];

		uhmm__spin_lock(&cpu->local);
		pcp_spill(m->frames, pcp, pcp->nr);
		uhmm__spin_unlock(&cpu->local);
	}
}

/*
 * RAM is used up. Others may take what was freed: as long as there is progress it is tried again,
 * and a few times without, for what others work on cannot be reclaimed for the moment.
 * Models: __alloc_pages_slowpath().
 */
static uhmm_noinline uhmm_pfn_t frame_reclaim(struct uhmm_machine *m)
{
	unsigned int futile = 0;

	while (futile < MAX_FUTILE) {
		unsigned int freed = uhmm__try_to_free_pages(m);
		uhmm_pfn_t pfn = frame_get(m);

		if (pfn)
			return pfn;
		if (freed) {
			futile = 0;
			continue;
		}
		/* Frames that nobody maps any more may sit in the batches of other CPUs. */
		if (!futile++) {
			uhmm__lru_add_drain_all(m);
			pcp_drain_all(m);
		}
	}
	return 0;
}

struct uhmm__frame *uhmm__folio_alloc_frozen(struct uhmm_machine *m, bool zero)
{
	uhmm_pfn_t pfn;

	uhmm__map_wait(UHMM__LC_RECLAIM, m->frames, UHMM__HERE);
	if (unlikely(uhmm__inject(m, UHMM_INJECT_FRAME)))
		return NULL;
	pfn = frame_get(m);
	if (unlikely(!pfn)) {
		pfn = frame_reclaim(m);
		if (!pfn)
			return NULL;
	}
	return uhmm__prep_new_folio(m, pfn, zero);
}

struct uhmm__frame *uhmm__folio_alloc(struct uhmm_machine *m, bool zero)
{
	return folio_alloc(m, zero);
}

/* ---- large folios ---- */

/* The first of 2^@order free frames of a block that start at a multiple of that; -1: none. */
static int run_find(const struct block *b, unsigned int order)
{
	unsigned int words = order > 6 ? 1U << (order - 6) : 1;

	for (unsigned int w = 0; w < BLOCK_WORDS; w += words) {
		uint64_t word = b->free[w];

		for (unsigned int i = 1; i < words; i++)
			word &= b->free[w + i];
		if (order >= 6) {
			if (word == UINT64_MAX)
				return (int)w * 64;
			continue;
		}
		for (unsigned int k = 0; k < order; k++)
			word &= word >> (1U << k);
		word &= UINT64_MAX / (BIT(1U << order) - 1);
		if (word)
			return (int)(w * 64) + __builtin_ctzl(word);
	}
	return -1;
}

/* Mark 2^@order frames of a block, from @first on. Context: zone lock. */
static void run_set(struct uhmm__frames *fr, uint32_t i, unsigned int first, unsigned int order,
		    bool free)
{
	struct block *b = &fr->blocks[i];
	unsigned int n = 1U << order;

	for (unsigned int k = first; k < first + n; k += MIN(n, 64U)) {
		uint64_t mask = n >= 64 ? UINT64_MAX : (BIT(n) - 1) << (k % 64);

		if (free)
			b->free[k / 64] |= mask;
		else
			b->free[k / 64] &= ~mask;
	}
	block_set_free(fr, i, free ? b->nr_free + n : b->nr_free - n);
}

/* The first of 2^@order frames, 0 if there are none together. */
static uhmm_pfn_t run_alloc(struct uhmm_machine *m, unsigned int order)
{
	struct uhmm__frames *fr = m->frames;
	uint32_t i = 0, populate = 0;
	int first = -1;

	uhmm__spin_lock(&fr->zone);
	if (order < UHMM_PMD_ORDER) {
		for (i = fr->partial; i; i = fr->blocks[i].next) {
			first = run_find(&fr->blocks[i], order);
			if (first >= 0)
				break;
		}
	}
	if (first < 0) {
		i = block_whole(m, uhmm__this_cpu()->frames, &populate);
		first = 0;
	}
	if (i)
		run_set(fr, i, (unsigned int)first, order, false);
	uhmm__spin_unlock(&fr->zone);
	if (populate > 1)
		populate_ahead(m, i, populate);
	return i ? (uhmm_pfn_t)i * BLOCK_FRAMES + (unsigned int)first : 0;
}

void uhmm__prep_folio(struct uhmm__frame *f, unsigned int order, uint32_t flags)
{
	uint32_t tail = (uint32_t)BIT(PG_TAIL) | order << FOLIO_ORDER_SHIFT;

	for (uint64_t i = 1; i < 1UL << order; i++) {
		store_relaxed(&f[i].flags, tail | (flags & FOLIO_TAIL_FLAGS));
		store_relaxed(&f[i].mapcount, 0);
		store_relaxed(&f[i].mapping, 0);
		store_relaxed(&f[i].index, 0);
	}
	store_relaxed(&f->flags, flags | order << FOLIO_ORDER_SHIFT);
}

struct uhmm__frame *uhmm__folio_alloc_order(struct uhmm_machine *m, unsigned int order, bool zero)
{
	struct uhmm__frame *f;
	uhmm_pfn_t pfn;

	if (!order)
		return uhmm__folio_alloc(m, zero);
	UHMM_VM_BUG_ON(m, order > FOLIO_MAX_ORDER);
	if (unlikely(uhmm__inject(m, UHMM_INJECT_FRAME)))
		return NULL;
	pfn = run_alloc(m, order);
	if (unlikely(!pfn)) {
		pcp_drain_all(m);
		pfn = run_alloc(m, order);
		if (!pfn)
			return NULL;
	}
	f = pfn_to_frame(m, pfn);
	UHMM_VM_BUG_ON(m, load_relaxed(&f->refcount) != 0);
	uhmm__prep_folio(f, order, (uint32_t)BIT(PG_SWAPBACKED));
	store_release(&f->refcount, 1);
	for (uint64_t i = 0; zero && i < 1UL << order; i++)
		uhmm__clear_page(m, pfn + i);
	return f;
}

static void run_free(struct uhmm_machine *m, uhmm_pfn_t pfn, unsigned int order)
{
	struct uhmm__frames *fr = m->frames;

	uhmm__spin_lock(&fr->zone);
	run_set(fr, pfn / BLOCK_FRAMES, pfn % BLOCK_FRAMES, order, true);
	uhmm__spin_unlock(&fr->zone);
}

/* ---- freeing ---- */

/* What must hold of a folio whose last reference is gone. */
static uhmm_noinline void check_free_slow(struct uhmm_machine *m, struct uhmm__frame *f,
					  uint32_t flags)
{
	uint32_t bad = (uint32_t)(BIT(PG_LOCKED) | BIT(PG_RESERVED) | BIT(PG_FREE));

	if (m->config.waiters_bit == UHMM_WAITERS_EXACT)
		bad |= (uint32_t)BIT(PG_WAITERS);
	if (!(flags & bad) && !folio_mapcount(f) && !load_relaxed(&f->mapcount))
		return;
	uhmm__report(m, UHMM_REPORT_BUG, "bad folio freed: pfn %#lx flags %#x mapcount %d",
		     (unsigned long)frame_pfn(m, f), flags, folio_mapcount(f));
}

/* A folio whose last reference is gone, and of which that is not all: large, or in a state that is wrong. */
uhmm_always_inline bool is_odd(struct uhmm__frame *f, uint32_t flags)
{
	uint32_t odd =
		(uint32_t)(BIT(PG_LOCKED) | BIT(PG_RESERVED) | BIT(PG_FREE) | BIT(PG_WAITERS)) |
		FOLIO_ORDER_MASK;

	return unlikely(flags & odd || load_relaxed(&f->mapcount));
}

/* The tails of a folio that is about to be free. */
static void retire_tails(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint32_t flags = (load_relaxed(&f->flags) & FOLIO_TAIL_FLAGS) | (uint32_t)BIT(PG_FREE);
	uint64_t n = folio_nr_pages(f);

	uhmm__deferred_split_unqueue(m, f);
	uhmm__tlb_frames_freed(m, frame_pfn(m, f) + 1, n - 1);
	for (uint64_t i = 1; i < n; i++) {
		if (load_relaxed(&f[i].mapcount))
			uhmm__report(m, UHMM_REPORT_BUG, "bad folio freed: pfn %#lx mapcount %d",
				     (unsigned long)frame_pfn(m, f) + i,
				     load_relaxed(&f[i].mapcount));
		store_relaxed(&f[i].mapping, 0);
		store_relaxed(&f[i].index, 0);
		store_relaxed(&f[i].flags, flags);
	}
}

/* Forget whose it was. */
uhmm_always_inline void folio_retire(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uhmm__lock_forget(m, &f->flags);
	uhmm__tlb_frames_freed(m, frame_pfn(m, f), 1);
	store_relaxed(&f->mapping, 0);
	store_relaxed(&f->index, 0);
}

/* Context: the CPU's local lock. */
uhmm_always_inline void pcp_push(struct uhmm_machine *m, struct uhmm__pcp *pcp,
				 const uint32_t *pfns, uint32_t nr)
{
	while (nr) {
		uint32_t n = MIN(nr, pcp->high - pcp->nr);

		if (unlikely(!n)) {
			pcp_spill(m->frames, pcp, pcp->high / 2);
			continue;
		}
		memcpy(&pcp->pfn[pcp->nr], pfns, n * sizeof(*pfns));
		pcp->nr += n;
		pfns += n;
		nr -= n;
	}
}

/* Frames of RAM, to this CPU's list. */
uhmm_always_inline void free_ram_frames(struct uhmm_machine *m, const uint32_t *pfns,
					unsigned int nr)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();

	if (!nr)
		return;
	uhmm__spin_lock(&cpu->local);
	pcp_push(m, cpu->frames, pfns, nr);
	uhmm__spin_unlock(&cpu->local);
}

static uhmm_noinline void free_ram_frame(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint32_t pfn = frame_index(m, f);

	store_relaxed(&f->flags, (uint32_t)BIT(PG_FREE));
	free_ram_frames(m, &pfn, 1);
}

static uhmm_noinline void free_odd(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint32_t flags = load_relaxed(&f->flags);

	check_free_slow(m, f, flags);
	folio_retire(m, f);
	if (flags & FOLIO_ORDER_MASK)
		retire_tails(m, f);
	if (flags & FOLIO_TAIL_FLAGS) {
		uhmm__free_zone_device_folio(m, f);
	} else if (flags & FOLIO_ORDER_MASK) {
		store_relaxed(&f->flags, (uint32_t)BIT(PG_FREE));
		run_free(m, frame_pfn(m, f), flags_order(flags));
	} else {
		free_ram_frame(m, f);
	}
}

/* Tail calls alone, so that the common ways save no register. */
void uhmm__folio_free(struct uhmm_machine *m, struct uhmm__frame *f)
{
	uint32_t flags = load_relaxed(&f->flags);

	if (is_odd(f, flags)) {
		free_odd(m, f);
		return;
	}
	folio_retire(m, f);
	if (flags & FOLIO_TAIL_FLAGS)
		uhmm__free_zone_device_folio(m, f);
	else
		free_ram_frame(m, f);
}

void uhmm__folios_free(struct uhmm_machine *m, const uint32_t *indices, unsigned int nr)
{
	const uint32_t *at = indices, *end = indices + nr;

	for (; at < end; at++) {
		struct uhmm__frame *f = &m->vmemmap[*at];
		uint32_t flags = load_relaxed(&f->flags);

		if (is_odd(f, flags) || flags & FOLIO_TAIL_FLAGS) {
			free_ram_frames(m, indices, (unsigned int)(at - indices));
			uhmm__folio_free(m, f);
			indices = at + 1;
			continue;
		}
		folio_retire(m, f);
		store_relaxed(&f->flags, (uint32_t)BIT(PG_FREE));
	}
	free_ram_frames(m, indices, (unsigned int)(end - indices));
}

void uhmm__free_batch_flush(struct uhmm_machine *m, struct uhmm__free_batch *b)
{
	if (b->nr == 1)
		uhmm__folio_free(m, &m->vmemmap[b->index[0]]);
	else if (b->nr)
		uhmm__folios_free(m, b->index, b->nr);
	b->nr = 0;
}

/* For reports: walks all blocks. While others run, it misses by what CPUs take from blocks meanwhile. */
uint64_t uhmm__frames_used(struct uhmm_machine *m)
{
	struct uhmm__frames *fr = m->frames;
	uint64_t used, kept = 0;

	/* First, or what comes to a list in between would be neither used nor free. */
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, c);

		uhmm__spin_lock(&cpu->local);
		kept += fr->pcp[c].nr;
		uhmm__spin_unlock(&cpu->local);
	}
	uhmm__spin_lock(&fr->zone);
	used = (uint64_t)(fr->next_fresh - FIRST_BLOCK) * BLOCK_FRAMES;
	for (unsigned int c = 0; c < m->config.nr_cpus; c++)
		used -= (uint64_t)(fr->pcp[c].fresh_end - fr->pcp[c].fresh) * BLOCK_FRAMES;
	for (uint32_t i = FIRST_BLOCK; i < fr->next_fresh; i++)
		used -= fr->blocks[i].nr_free;
	uhmm__spin_unlock(&fr->zone);
	return used > kept ? used - kept : 0;
}

void uhmm__frames_range(struct uhmm_machine *m, uhmm_pfn_t *first, uhmm_pfn_t *end)
{
	*first = (uhmm_pfn_t)FIRST_BLOCK * BLOCK_FRAMES;
	*end = (uhmm_pfn_t)m->frames->next_fresh * BLOCK_FRAMES;
}

void uhmm__frames_for_each_free(struct uhmm_machine *m, uhmm__pfn_fn *fn, void *arg)
{
	struct uhmm__frames *fr = m->frames;

	for (uint32_t i = FIRST_BLOCK; i < fr->next_fresh; i++) {
		for (uint32_t w = 0; w < BLOCK_WORDS; w++) {
			uint64_t word = fr->blocks[i].free[w];
			uhmm_pfn_t pfn = (uhmm_pfn_t)i * BLOCK_FRAMES + w * 64;

			for (; word; word &= word - 1)
				fn(arg, pfn + __builtin_ctzl(word));
		}
	}
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		const struct uhmm__pcp *pcp = &fr->pcp[c];

		for (uint32_t i = 0; i < pcp->nr; i++)
			fn(arg, pcp->pfn[i]);
		for (uint32_t i = pcp->fresh; i < pcp->fresh_end; i++)
			for (uhmm_pfn_t k = 0; k < BLOCK_FRAMES; k++)
				fn(arg, (uhmm_pfn_t)i * BLOCK_FRAMES + k);
	}
}
