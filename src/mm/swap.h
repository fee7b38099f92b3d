/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap.h - a swap device: slots, how many entries name each, the swap cache, and reclaim.
 *
 * A slot is in use while entries name it (its count) or a folio is in the swap cache for it. The
 * cache holds a reference to the folio; the folio's aux is the slot. While a slot has both, the
 * folio is the page and the slot a copy, up to date unless PG_DIRTY is set. A page that entries name
 * is looked for in the cache first, so that all of them get the same folio.
 */
#ifndef UHMM_MM_SWAP_H
#define UHMM_MM_SWAP_H

#include "mm/mm.h"

struct uhmm__swap {
	struct uhmm__spinlock lock;
	uint64_t nr_slots;	  /* [const] slot 0 is the device's own */
	_Atomic uint64_t nr_free; /* [lock] for writing */
	uint64_t next;		  /* [lock] where the next search begins */
	uint64_t *used;		  /* [lock] bitmap */
	_Atomic uint32_t *count;  /* [lock] for writing: entries that name the slot */
	_Atomic uint32_t *cache;  /* [lock] for writing: pfn in the swap cache, 0 = none */
	uint32_t evictions;	  /* [lock] pages that reclaim ever took out of the cache */
	uint32_t *shadow;	  /* [lock] of these, when the slot's was */
	_Atomic uint64_t *tags;	  /* contents, as the machine's */
	uint64_t *words;
};

int uhmm__swap_init(struct uhmm_machine *m);
void uhmm__swap_exit(struct uhmm_machine *m);

/* An entry for a slot. Models: swp_entry_to_pte(). */
static inline pte_t swap_entry(uint64_t slot)
{
	return leaf_make(LEAF_SWAP, slot);
}

static inline bool leaf_is_swap(pte_t pte)
{
	return pte_is_leaf_entry(pte) && leaf_type(pte) == LEAF_SWAP;
}

/* Models: vm_swap_full(). */
static inline bool swap_full(struct uhmm__swap *s)
{
	return load_relaxed(&s->nr_free) * 2 < s->nr_slots - 1;
}

/*
 * ---- entries; context: the PTL of an entry that names the slot; one of a page cache was just taken
 * from there ----
 */

/* One more entry. Models: swap_dup_entry_direct(). */
void uhmm__swap_dup_entry(struct uhmm_machine *m, uint64_t slot);
/*
 * One entry less; a slot that only the cache still has is given up if the folio's lock is free.
 * Models: swap_put_entries_direct().
 */
void uhmm__swap_put_entry(struct uhmm_machine *m, uint64_t slot);

/* ---- folios; context: the folio locked, and but for the first in the swap cache ---- */

/* A slot for a folio. False: swap is full. Models: folio_alloc_swap(). */
bool uhmm__folio_alloc_swap(struct uhmm_machine *m, struct uhmm__frame *f);
/* An entry takes the place of a mapping, or the other way round. Models: folio_dup_swap(). */
void uhmm__folio_dup_swap(struct uhmm_machine *m, struct uhmm__frame *f);
void uhmm__folio_put_swap(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * Take a folio out of the swap cache, if no entry names its slot. It has no other copy afterwards,
 * so it is dirty. Not in the cache: false. Models: folio_free_swap().
 */
bool uhmm__folio_free_swap(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * Take a folio out of the swap cache whether entries name its slot or not; the caller has a reference.
 * Models: swap_cache_del_folio().
 */
void uhmm__swap_cache_del(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * uhmm__folio_free_swap() for a folio that lost a mapping and may be in nobody's page table any more;
 * its lock is only tried. Context: a reference. Models: free_swap_cache().
 */
void uhmm__free_swap_cache_slow(struct uhmm_machine *m, struct uhmm__frame *f);

static inline void free_swap_cache(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (unlikely(folio_test(f, PG_SWAPCACHE)))
		uhmm__free_swap_cache_slow(m, f);
}

/* Contents to the slot. Models: the writing half of swap_writeout(). */
void uhmm__swap_write(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * Take an unmapped folio that has no reference but the cache's and the caller's out of the cache,
 * with both. False: somebody has a reference, or it is dirty. Models: __remove_mapping().
 */
bool uhmm__swap_remove_mapping(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * Give the folio's place in the cache to another, if it has exactly @expected references.
 * Models: the swap cache's part of __folio_migrate_mapping().
 */
bool uhmm__swap_cache_replace(struct uhmm_machine *m, struct uhmm__frame *old,
			      struct uhmm__frame *new, uint32_t expected);

/* ---- swapping in ---- */

/* The folio in the cache with a reference, or NULL. Models: swap_cache_get_folio(). */
struct uhmm__frame *uhmm__swap_cache_get(struct uhmm_machine *m, uint64_t slot);
/*
 * The folio of a slot, read in if it is not in the cache, with a reference.
 * Returns: 0; -ENOMEM there is no RAM; -ENOENT no entry names the slot any more.
 * Context: as uhmm__folio_alloc(). Models: swapin_sync().
 */
int uhmm__swapin(struct uhmm_machine *m, uint64_t slot, struct uhmm__frame **out);
/* A fault on a swap entry, which is not mapped. Models: the swap part of do_swap_page(). */
int uhmm__swap_fault(struct uhmm__fault *vmf);

/* ---- for those who only look ---- */

/* Part of what a slot holds: the folio's if it is in the cache. */
void uhmm__swap_peek(struct uhmm_machine *m, uint64_t slot, size_t off, void *buf, size_t len);
/* The page broke before it was written to the slot. */
bool uhmm__swap_is_broken(struct uhmm_machine *m, uint64_t slot);
uint64_t uhmm__swap_resident(struct uhmm_machine *m);
uint64_t uhmm__swap_used(struct uhmm_machine *m);

/* ---- reclaim (reclaim.c) ---- */

struct uhmm__reclaim {
	_Atomic uint64_t hand;	       /* [atomic] frames that the clock has passed */
	_Atomic uint64_t lazyfree;     /* [atomic] pages that MADV_FREE ever marked */
	_Atomic uint64_t lazyfree_old; /* [atomic] of these, when a scan last found nothing */
};

int uhmm__reclaim_init(struct uhmm_machine *m);
void uhmm__reclaim_exit(struct uhmm_machine *m);

/*
 * RAM is used up: free some. Context: as uhmm__folio_alloc(). Returns: pages freed.
 * Models: try_to_free_pages().
 */
unsigned int uhmm__try_to_free_pages(struct uhmm_machine *m);
/*
 * Reclaim folios that were isolated, with a reference each, whether they were used lately or not.
 * What cannot go returns to the LRU by way of a batch. Models: reclaim_pages().
 */
void uhmm__reclaim_pages(struct uhmm_machine *m, const uint32_t *pfns, unsigned int nr);

/* ---- unmapping for reclaim (unmap.c) ---- */

/*
 * Replace every mapping of a locked folio by a swap entry, or by none if it is lazily freed or a
 * file's. A mapping that must stay ends it. Context: folio locked, no PTL. Models: try_to_unmap().
 */
void uhmm__try_to_unmap(struct uhmm__frame *f);
/* The same of a broken page in the swap cache, locked in memory or not. Models: TTU_IGNORE_MLOCK. */
void uhmm__unmap_to_swap(struct uhmm__frame *f);
/*
 * Entries by which a locked folio was used since somebody last asked; they are made old.
 * @vm_flags: (out) of the VMAs by which it was used; UHMM_VM_LOCKED: one is locked in memory, which
 * ended it. Models: folio_referenced().
 */
unsigned int uhmm__folio_referenced(struct uhmm_machine *m, struct uhmm__frame *f,
				    uint64_t *vm_flags);

/* ---- madvise (madvise_lru.c); context: mmap_lock for reading ---- */

/* 0 or -EINVAL. Models: madvise_cold(), madvise_pageout(). */
int uhmm__madvise_cold(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end);
int uhmm__madvise_pageout(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end);

#endif /* UHMM_MM_SWAP_H */
