// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * RAM frames: blocks of 2 MiB with a bitmap each, and a short list of free frames per CPU.
 *
 * A CPU's list is refilled with one word of a block's bitmap, lowest frame last, so that frames of
 * one burst of faults lie side by side.
 */
#include "mm/frame.h"

#include <string.h>

#include "core/alloc.h"
#include "mm/zone_device.h"
#include "pgtable/tlb.h"

enum {
	BLOCK_FRAMES = 512,
	BLOCK_WORDS = BLOCK_FRAMES / 64,
	PCP_BATCH = 64,
	PCP_MAX = 4 * PCP_BATCH,
	POPULATE_BLOCKS = 16, /* 32 MiB of RAM: 256 KiB of descriptors, 64 KiB of tags */
	FIRST_BLOCK = 1,      /* block 0 holds the zero page and no other frame in use */
};

struct block {
	uint64_t free[BLOCK_WORDS]; /* [zone] set = free */
	uint32_t nr_free;	    /* [zone] */
	uint32_t next;		    /* [zone] list of blocks with free frames, 0 = end */
	bool listed;		    /* [zone] */
};

/* Free frames of one CPU. [local lock of the CPU] */
struct pcp {
	uint32_t nr;
	uint32_t pfn[PCP_MAX];
} __attribute__((aligned(128))); /* two lines: the prefetcher fetches pairs */

struct uhmm__frames {
	struct uhmm__spinlock zone;
	struct block *blocks; /* reserved, indexed by pfn / BLOCK_FRAMES */
	uint32_t nr_blocks;
	uint32_t partial;    /* [zone] head of the list of used blocks with free frames, 0 = none */
	uint32_t next_fresh; /* [zone] first block never used */
	struct pcp *pcp;
	size_t tags_bytes, bytes_bytes;
};

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
	m->vmemmap = uhmm__reserve(nr * sizeof(*m->vmemmap));
	if (m->config.content == UHMM_CONTENT_BYTES) {
		fr->bytes_bytes = nr * UHMM_PAGE_SIZE;
		m->bytes = uhmm__reserve(fr->bytes_bytes);
	} else {
		fr->tags_bytes = nr * sizeof(*m->tags);
		m->tags = uhmm__reserve(fr->tags_bytes);
	}
	if (!fr->blocks || !fr->pcp || !m->vmemmap || (!m->bytes && !m->tags))
		return -ENOMEM;
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
	uhmm__unreserve(m->vmemmap, m->nr_frames * sizeof(*m->vmemmap));
	uhmm__unreserve(m->tags, fr->tags_bytes);
	uhmm__unreserve(m->bytes, fr->bytes_bytes);
	uhmm__free(m, fr, sizeof(*fr));
	m->frames = NULL;
}

/*
 * Host memory for blocks that are about to be used for the first time. A machine that has used few
 * so far will perhaps not need many more.
 */
static void populate_ahead(struct uhmm_machine *m, uint32_t block)
{
	struct uhmm__frames *fr = m->frames;
	uint32_t n = MIN(fr->nr_blocks - block, (uint32_t)POPULATE_BLOCKS);
	size_t first = (size_t)block * BLOCK_FRAMES, nr = (size_t)n * BLOCK_FRAMES;

	if (block < POPULATE_BLOCKS || block % POPULATE_BLOCKS)
		return;
	uhmm__reserve_populate(&m->vmemmap[first], nr * sizeof(*m->vmemmap));
	if (m->tags)
		uhmm__reserve_populate((void *)&m->tags[first], nr * sizeof(*m->tags));
}

/* A block with a free frame, or 0. *@fresh: it was never used before. Context: zone lock. */
static uint32_t block_get(struct uhmm__frames *fr, bool *fresh)
{
	struct block *b;
	uint32_t i = fr->partial;

	if (i)
		return i;
	if (fr->next_fresh == fr->nr_blocks)
		return 0;
	i = fr->next_fresh++;
	*fresh = true;
	b = &fr->blocks[i];
	memset(b->free, 0xff, sizeof(b->free));
	b->nr_free = BLOCK_FRAMES;
	b->listed = true;
	b->next = 0;
	fr->partial = i;
	return i;
}

/* Fill an empty list with the free frames of one bitmap word. */
static bool pcp_refill(struct uhmm_machine *m, struct pcp *pcp)
{
	struct uhmm__frames *fr = m->frames;
	bool fresh = false;
	uint32_t i, w;
	struct block *b;
	uint64_t word;

	uhmm__spin_lock(&fr->zone);
	i = block_get(fr, &fresh);
	if (!i) {
		uhmm__spin_unlock(&fr->zone);
		return false;
	}
	b = &fr->blocks[i];
	for (w = 0; !b->free[w]; w++)
		;
	word = b->free[w];
	b->free[w] = 0;
	b->nr_free -= __builtin_popcountl(word);
	if (!b->nr_free) {
		fr->partial = b->next;
		b->listed = false;
	}
	uhmm__spin_unlock(&fr->zone);
	/* Not under the lock: the host takes its time. */
	if (unlikely(fresh))
		populate_ahead(m, i);
	while (word) {
		unsigned int bit = 63 - __builtin_clzl(word);

		word &= ~BIT(bit);
		pcp->pfn[pcp->nr++] = i * BLOCK_FRAMES + w * 64 + bit;
	}
	return true;
}

/* Give the oldest half of a full list back to the blocks. */
static void pcp_spill(struct uhmm__frames *fr, struct pcp *pcp)
{
	const uint32_t n = PCP_MAX / 2;

	uhmm__spin_lock(&fr->zone);
	for (uint32_t k = 0; k < n; k++) {
		uint32_t i = pcp->pfn[k] / BLOCK_FRAMES;
		struct block *b = &fr->blocks[i];

		b->free[pcp->pfn[k] % BLOCK_FRAMES / 64] |= BIT(pcp->pfn[k] % 64);
		b->nr_free++;
		if (!b->listed) {
			b->listed = true;
			b->next = fr->partial;
			fr->partial = i;
		}
	}
	uhmm__spin_unlock(&fr->zone);
	memmove(pcp->pfn, pcp->pfn + n, (pcp->nr - n) * sizeof(*pcp->pfn));
	pcp->nr -= n;
}

struct uhmm__frame *uhmm__folio_alloc(struct uhmm_machine *m, bool zero)
{
	struct uhmm__frames *fr = m->frames;
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct pcp *pcp = &fr->pcp[cpu->id];
	struct uhmm__frame *f;
	uhmm_pfn_t pfn;

	if (unlikely(uhmm__inject(m, UHMM_INJECT_FRAME)))
		return NULL;
	uhmm__spin_lock(&cpu->local);
	if (unlikely(!pcp->nr) && !pcp_refill(m, pcp)) {
		uhmm__spin_unlock(&cpu->local);
		return NULL;
	}
	pfn = pcp->pfn[--pcp->nr];
	uhmm__spin_unlock(&cpu->local);

	f = &m->vmemmap[pfn];
	UHMM_VM_BUG_ON(m, load_relaxed(&f->refcount) != 0);
	store_relaxed(&f->flags, (uint32_t)BIT(PG_SWAPBACKED));
	store_relaxed(&f->refcount, 1);
	if (zero)
		uhmm__clear_page(m, pfn);
	return f;
}

/* What must hold of a folio whose last reference is gone. */
static void check_free(struct uhmm_machine *m, struct uhmm__frame *f)
{
	const uint32_t bad =
		(uint32_t)(BIT(PG_LOCKED) | BIT(PG_WAITERS) | BIT(PG_RESERVED) | BIT(PG_FREE));

	if (likely(!(load_relaxed(&f->flags) & bad) && !folio_mapcount(f)))
		return;
	uhmm__report(m, UHMM_REPORT_BUG, "bad folio freed: pfn %#lx flags %#x mapcount %d",
		     (unsigned long)frame_pfn(m, f), load_relaxed(&f->flags), folio_mapcount(f));
}

/* Forget whose it was. True: a RAM frame, which goes to a free list. */
static bool folio_retire(struct uhmm_machine *m, struct uhmm__frame *f)
{
	check_free(m, f);
	uhmm__tlb_frame_freed(m, frame_pfn(m, f));
	store_relaxed(&f->mapping, 0);
	store_relaxed(&f->index, 0);
	if (folio_is_zone_device(f)) {
		uhmm__free_zone_device_folio(m, f);
		return false;
	}
	store_relaxed(&f->flags, (uint32_t)BIT(PG_FREE));
	return true;
}

/* Context: the CPU's local lock. */
static void pcp_push(struct uhmm_machine *m, struct pcp *pcp, uint32_t pfn)
{
	if (unlikely(pcp->nr == PCP_MAX))
		pcp_spill(m->frames, pcp);
	pcp->pfn[pcp->nr++] = pfn;
}

void uhmm__folio_free(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__cpu *cpu;

	if (!folio_retire(m, f))
		return;
	cpu = uhmm__this_cpu();
	uhmm__spin_lock(&cpu->local);
	pcp_push(m, &m->frames->pcp[cpu->id], frame_index(m, f));
	uhmm__spin_unlock(&cpu->local);
}

void uhmm__folios_free(struct uhmm_machine *m, const uint32_t *indices, unsigned int nr)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();
	struct pcp *pcp = &m->frames->pcp[cpu->id];
	uint32_t ram[32];

	while (nr) {
		unsigned int n = MIN(nr, ARRAY_SIZE(ram)), nr_ram = 0;

		for (unsigned int i = 0; i < n; i++) {
			if (folio_retire(m, &m->vmemmap[indices[i]]))
				ram[nr_ram++] = indices[i];
		}
		uhmm__spin_lock(&cpu->local);
		for (unsigned int i = 0; i < nr_ram; i++)
			pcp_push(m, pcp, ram[i]);
		uhmm__spin_unlock(&cpu->local);
		indices += n;
		nr -= n;
	}
}

void uhmm__free_batch_flush(struct uhmm_machine *m, struct uhmm__free_batch *b)
{
	if (b->nr == 1)
		uhmm__folio_free(m, &m->vmemmap[b->index[0]]);
	else if (b->nr)
		uhmm__folios_free(m, b->index, b->nr);
	b->nr = 0;
}

/* For reports: walks all blocks. */
uint64_t uhmm__frames_used(struct uhmm_machine *m)
{
	struct uhmm__frames *fr = m->frames;
	uint64_t used;

	uhmm__spin_lock(&fr->zone);
	used = (uint64_t)(fr->next_fresh - FIRST_BLOCK) * BLOCK_FRAMES;
	for (uint32_t i = FIRST_BLOCK; i < fr->next_fresh; i++)
		used -= fr->blocks[i].nr_free;
	uhmm__spin_unlock(&fr->zone);
	for (unsigned int c = 0; c < m->config.nr_cpus; c++) {
		struct uhmm__cpu *cpu = uhmm__cpu(m, c);

		uhmm__spin_lock(&cpu->local);
		used -= fr->pcp[c].nr;
		uhmm__spin_unlock(&cpu->local);
	}
	return used;
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
		for (uint32_t i = 0; i < fr->pcp[c].nr; i++)
			fn(arg, fr->pcp[c].pfn[i]);
	}
}
