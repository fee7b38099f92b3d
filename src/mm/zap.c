// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Taking mappings away. A page may be freed only after every CPU has forgotten its translation: the
 * gather keeps pages until the flush. Models: mm/memory.c:unmap_page_range(), mm/mmu_gather.c.
 */
#include "core/alloc.h"
#include "mm/huge.h"
#include "mm/swap.h"

enum {
	GATHER_BATCH = 1020,
	GATHER_MAX_BATCHES = 10, /* about the kernel's 10,000 pages between flushes */
	PUT_AT_ONCE = 64,	 /* still in the first cache when they are freed */
};

#define DELAY_RMAP ((uint32_t)BIT(31)) /* with an index, until the PTL is dropped */

struct uhmm__gather_batch {
	struct uhmm__gather_batch *next;
	uint32_t nr;
	uint32_t index[GATHER_BATCH];
};

void uhmm__gather_init(struct uhmm__gather *g, struct uhmm_mm *mm)
{
	g->mm = mm;
	g->keep_cows = false;
	g->file = false;
	g->recency = false;
	g->start = UINT64_MAX;
	g->end = 0;
	g->reclaim_pt = false;
	g->nr_batches = 0;
	g->batches = NULL;
	g->nr = 0;
	g->drop_markers = false;
}

/* Models: free_pages_and_caches(), folios_put_refs(). */
static void put_pages(struct uhmm_machine *m, uint32_t *index, unsigned int nr)
{
	while (nr) {
		unsigned int n = MIN(nr, PUT_AT_ONCE), dead = 0;

		for (unsigned int i = 0; i < n; i++) {
			struct uhmm__frame *f = &m->vmemmap[index[i]];

			free_swap_cache(m, f);
			if (likely(folio_put_testzero(f)))
				index[dead++] = index[i];
		}
		uhmm__folios_free(m, index, dead);
		index += n;
		nr -= n;
	}
}

/* Models: tlb_flush_mmu_tlbonly(). */
static void gather_flush_tlb(struct uhmm__gather *g)
{
	if (g->start < g->end)
		uhmm__flush_tlb_range(&g->mm->pgt, g->start, g->end);
	g->start = UINT64_MAX;
	g->end = 0;
}

static void remove_delayed_rmaps(struct uhmm__gather *g, uint32_t *index, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (!(index[i] & DELAY_RMAP))
			continue;
		index[i] &= ~DELAY_RMAP;
		folio_remove_rmap(&g->mm->machine->vmemmap[index[i]], g->mm);
	}
}

/*
 * Until the flush a CPU may write to pages that were dirty, and writeback, which would call them clean,
 * must find their entries and wait for the PTL. Context: PTL. Models: tlb_flush_rmaps().
 */
static uhmm_noinline void flush_delayed_rmaps(struct uhmm__gather *g)
{
	gather_flush_tlb(g);
	remove_delayed_rmaps(g, g->first, g->nr);
	for (struct uhmm__gather_batch *b = g->batches; b; b = b->next)
		remove_delayed_rmaps(g, b->index, b->nr);
}

/* Flush, then free what was gathered. The last batch is kept for reuse. */
static void gather_flush(struct uhmm__gather *g)
{
	struct uhmm_machine *m = g->mm->machine;

	gather_flush_tlb(g);
	put_pages(m, g->first, g->nr);
	g->nr = 0;
	for (struct uhmm__gather_batch *b = g->batches; b; b = b->next) {
		put_pages(m, b->index, b->nr);
		b->nr = 0;
	}
}

void uhmm__gather_finish(struct uhmm__gather *g)
{
	gather_flush(g);
	while (g->batches) {
		struct uhmm__gather_batch *b = g->batches;

		g->batches = b->next;
		uhmm__free(g->mm->machine, b, sizeof(*b));
	}
}

/* See gather_room(). */
static uhmm_noinline bool gather_more(struct uhmm__gather *g)
{
	struct uhmm__gather_batch *b;

	if (g->nr_batches == GATHER_MAX_BATCHES)
		return false;
	b = uhmm__alloc(g->mm->machine, sizeof(*b));
	if (!b)
		return false;
	b->next = g->batches;
	g->batches = b;
	g->nr_batches++;
	return true;
}

/* Room for one more page; false: flush first. */
uhmm_always_inline bool gather_room(struct uhmm__gather *g)
{
	const struct uhmm__gather_batch *b = g->batches;

	return likely(g->nr < ARRAY_SIZE(g->first) || (b && b->nr < GATHER_BATCH)) ||
	       gather_more(g);
}

/* Where the next pages go, kept in registers between gather_open() and gather_close(). */
struct gather_slots {
	uint32_t *next, *end;
};

/* There may be none. */
uhmm_always_inline struct gather_slots gather_open(struct uhmm__gather *g)
{
	struct uhmm__gather_batch *b = g->batches;

	if (g->nr < ARRAY_SIZE(g->first))
		return (struct gather_slots){ g->first + g->nr, g->first + ARRAY_SIZE(g->first) };
	if (b)
		return (struct gather_slots){ b->index + b->nr, b->index + GATHER_BATCH };
	return (struct gather_slots){ NULL, NULL };
}

uhmm_always_inline void gather_close(struct uhmm__gather *g, struct gather_slots s)
{
	if (s.end == g->first + ARRAY_SIZE(g->first))
		g->nr = (unsigned int)(s.next - g->first);
	else if (s.end)
		g->batches->nr = (uint32_t)(s.next - g->batches->index);
}

/* More of them; none: flush first. */
static uhmm_noinline struct gather_slots gather_reopen(struct uhmm__gather *g,
						       struct gather_slots s)
{
	gather_close(g, s);
	return gather_room(g) ? gather_open(g) : s;
}

/* Context: after gather_room(). */
uhmm_always_inline void gather_page(struct uhmm__gather *g, uint32_t index)
{
	if (g->nr < ARRAY_SIZE(g->first))
		g->first[g->nr++] = index;
	else
		g->batches->index[g->batches->nr++] = index;
}

/*
 * An entry that stays because the page is not the file's. Models: should_zap_folio() and what
 * zap_nonpresent_ptes() does without even_cows.
 */
static bool keep_pte(struct uhmm_machine *m, pte_t pte)
{
	struct uhmm__frame *f;

	if (pte_present(pte))
		f = vm_normal_page(m, pte);
	else if (leaf_has_pfn(pte) && leaf_type(pte) != LEAF_HWPOISON)
		f = pfn_to_frame(m, leaf_pfn(pte));
	else
		return true;
	return f && folio_test_anon(page_folio(f));
}

/*
 * Remove an entry that CPUs may know: @pte, which stays as it is while it is locked. Returns: whether the
 * page's rmap waits for the flush. @file: the VMA's. @slot: where the page goes; then the next one.
 * Context: PTL. Models: zap_present_folio_ptes().
 */
uhmm_always_inline bool zap_present_pte(struct uhmm__gather *g, struct uhmm_mm *mm, bool file,
					uint32_t **slot, ptent_t *ptep, pte_t pte)
{
	struct uhmm_machine *m = mm->machine;
	struct uhmm__frame *page = vm_normal_page(m, pte);

	set_pte(ptep, pte_make(0));
	if (!page)
		return false;
	if (unlikely(file) && !folio_test_anon(page_folio(page))) {
		if (pte_young(pte) && g->recency)
			folio_mark_accessed(page);
		if (pte_dirty(pte)) {
			folio_set(page, PG_DIRTY);
			*(*slot)++ = frame_index(m, page) | DELAY_RMAP;
			return true;
		}
	}
	*(*slot)++ = frame_index(m, folio_remove_rmap(page, mm));
	return false;
}

/* Remove one that they do not know. False: it stays. Context: PTL. */
static bool zap_nonpresent_pte(struct uhmm__gather *g, ptent_t *ptep, pte_t pte)
{
	struct uhmm_machine *m = g->mm->machine;

	if (leaf_is_marker(pte, MARKER_GUARD) && !g->drop_markers)
		return false;
	ptep_get_and_clear(ptep);
	if (leaf_is_device_private(pte) || leaf_is_device_exclusive(pte)) {
		/* It may be freed at once. */
		folio_put(m, folio_remove_rmap(pfn_to_frame(m, leaf_pfn(pte)), g->mm));
	} else if (leaf_type(pte) == LEAF_SWAP) {
		uhmm__swap_put_entry(m, leaf_offset(pte));
	}
	/* A migration entry holds no reference; whoever migrates finds it gone. */
	return true;
}

/*
 * Unlink the table at @pmdp, all of which was just zapped, with its PTL still held; readers without
 * lock find nothing in it until their section ends. False: somebody has the PMD lock, which comes
 * first. Models: zap_empty_pte_table().
 */
static bool unlink_table(ptent_t *pmdp, struct uhmm__table **tb)
{
	struct uhmm__spinlock *pmd_ptl = uhmm__ptlp(pmdp);

	if (!uhmm__spin_trylock(pmd_ptl))
		return false;
	*tb = entry_table(ptep_get_and_clear(pmdp));
	uhmm__spin_unlock(pmd_ptl);
	return true;
}

/* The same later, if the table is still empty. Models: zap_pte_table_if_empty(). */
static bool unlink_table_if_empty(ptent_t *pmdp, struct uhmm__table **tb)
{
	struct uhmm__spinlock *pmd_ptl = uhmm__pmd_lock(pmdp), *ptl;
	pte_t pmd = ptep_get(pmdp);
	bool empty = entry_is_table(pmd);

	if (empty) {
		*tb = entry_table(pmd);
		ptl = uhmm__ptlp(*tb);
		uhmm__ptl_lock(ptl);
		for (unsigned int i = 0; i < UHMM_PTRS_PER_TABLE && empty; i++)
			empty = !load_relaxed(&(*tb)->e[i]);
		if (empty)
			set_pte(pmdp, pte_make(0));
		uhmm__spin_unlock(ptl);
	}
	uhmm__spin_unlock(pmd_ptl);
	return empty;
}

/*
 * Entries of one PTE table. Returns where it stopped because the gather is full. @reclaim: the range
 * has all of the table, part of it perhaps in an earlier call, and wants it freed.
 */
static uhmm_vaddr_t zap_pte_range(struct uhmm__gather *g, ptent_t *pmdp, uhmm_vaddr_t addr,
				  uhmm_vaddr_t end, bool reclaim)
{
	struct uhmm__spinlock *ptl;
	ptent_t *start_pte = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	bool all = end - addr == UHMM_PMD_SIZE, unlinked = false, delayed = false;
	const bool keep_cows = g->keep_cows, file = g->file;
	/* Entries that CPUs may know, from the first to the last one. */
	ptent_t *first_known = NULL, *last_known = NULL;
	struct gather_slots slots = gather_open(g);
	struct uhmm_mm *mm = g->mm;
	ptent_t *ptep, *end_pte;
	struct uhmm__table *tb;
	uint64_t nr, zapped = 0;

	if (!start_pte)
		return end;
	end_pte = start_pte + ((end - addr) >> UHMM_PAGE_SHIFT);
	for (ptep = start_pte; ptep < end_pte; ptep++) {
		pte_t pte = ptep_get(ptep);

		if (pte_none(pte) || (unlikely(keep_cows) && keep_pte(mm->machine, pte)))
			continue;
		if (unlikely(slots.next == slots.end)) {
			slots = gather_reopen(g, slots);
			if (slots.next == slots.end)
				break;
		}
		zapped++;
		if (likely(pte_present(pte))) {
			if (!first_known)
				first_known = ptep;
			last_known = ptep;
			delayed |= zap_present_pte(g, mm, file, &slots.next, ptep, pte);
		} else if (!zap_nonpresent_pte(g, ptep, pte)) {
			reclaim = false; /* what stays needs its table */
		}
	}
	gather_close(g, slots);
	if (first_known)
		gather_widen(g, addr + ((first_known - start_pte) << UHMM_PAGE_SHIFT),
			     addr + ((last_known + 1 - start_pte) << UHMM_PAGE_SHIFT));
	nr = (uint64_t)(ptep - start_pte) + (ptep < end_pte);
	addr += (uint64_t)(ptep - start_pte) << UHMM_PAGE_SHIFT;
	if (unlikely(delayed))
		flush_delayed_rmaps(g);
	if (unlikely(reclaim) && all && addr == end)
		unlinked = unlink_table(pmdp, &tb);
	uhmm__pte_unmap_unlock(start_pte, ptl);
	if (unlikely(delayed))
		gather_flush(g);
	if (unlikely(reclaim) && addr == end && (unlinked || unlink_table_if_empty(pmdp, &tb))) {
		/* As pte_free_tlb() has it: what the table began with is flushed in any case. */
		gather_widen(g, end - UHMM_PMD_SIZE, end - UHMM_PMD_SIZE + UHMM_PAGE_SIZE);
		uhmm__pte_free_defer(tb);
	}
	uhmm__count_n(UHMM_CNT_READ_PTE, nr);
	uhmm__count_n(UHMM_CNT_ZAPPED_PAGES, zapped);
	return addr;
}

/*
 * A huge leaf, all of it or in part. True: it is gone; false: there is a table, or nothing.
 * Models: the PMD part of zap_pmd_range(), zap_huge_pmd().
 */
static bool zap_huge_pmd(struct uhmm__gather *g, struct uhmm_vma *vma, ptent_t *pmdp,
			 uhmm_vaddr_t addr, uhmm_vaddr_t next)
{
	struct uhmm_machine *m = g->mm->machine;
	struct uhmm__spinlock *ptl;
	struct uhmm__frame *f;
	struct uhmm__table *tb;
	pte_t pmd;

	if (next - addr != UHMM_PMD_SIZE) {
		uhmm__split_huge_pmd(vma, pmdp, addr, false);
		return false;
	}
	if (!gather_room(g))
		gather_flush(g);
	ptl = uhmm__pmd_leaf_lock(pmdp);
	if (!ptl)
		return false;
	pmd = ptep_get_and_clear(pmdp);
	f = leaf_is_migration(pmd) ? NULL : pmd_folio(m, pmd);
	if (pte_present(pmd))
		gather_widen(g, addr, next);
	if (f)
		uhmm__folio_remove_rmap_pmd(f, g->mm);
	if (f && pte_present(pmd))
		gather_page(g, frame_index(m, f));
	else if (f)
		folio_put(m, f); /* a device's, which no CPU has a translation of */
	tb = uhmm__pgtable_withdraw(pmdp);
	uhmm__spin_unlock(ptl);
	uhmm__pte_free(tb);
	uhmm__count(UHMM_CNT_ZAPPED_PAGES);
	return true;
}

void uhmm__unmap_range(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
		       uhmm_vaddr_t end)
{
	struct uhmm__pgtable *pgt = &vma->mm->pgt;
	uhmm_vaddr_t addr = start;

	g->file = vma->file;
	/* Truncation does not hold mmap_lock. */
	g->recency = !(READ_ONCE(vma->flags) & (UHMM_VM_SEQ_READ | UHMM_VM_RAND_READ));
	while (addr < end) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(pgt, addr, &level);
		uhmm_vaddr_t next = level_addr_end(addr, end, level);

		if (!pmdp) {
			addr = next;
			continue;
		}
		if (unlikely(pmd_is_leaf(pte_make(load_acquire(pmdp)))) &&
		    zap_huge_pmd(g, vma, pmdp, addr, next)) {
			addr = next;
			continue;
		}
		addr = zap_pte_range(g, pmdp, addr, next,
				     g->reclaim_pt && !(next & ~UHMM_PMD_MASK) &&
					     next - start >= UHMM_PMD_SIZE);
		if (addr < next)
			gather_flush(g);
		uhmm__cond_resched();
	}
}

void uhmm__zap_range(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
		     uhmm_vaddr_t end)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_CLEAR, start, end, NULL);

	uhmm__invalidate_start(&range);
	uhmm__unmap_range(g, vma, start, end);
	uhmm__invalidate_end(&range);
}

void uhmm__zap_file_range(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end,
			  bool even_cows)
{
	struct uhmm__gather g;

	uhmm__gather_init(&g, vma->mm);
	g.keep_cows = !even_cows;
	uhmm__zap_range(&g, vma, start, end);
	uhmm__gather_finish(&g);
}
