/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* verify.h - between the two halves of the verifier, verify.c and verify_mm.c. */
#ifndef UHMM_MM_VERIFY_H
#define UHMM_MM_VERIFY_H

#include "mm/mm.h"

/* What was seen of a frame. */
struct uhmm__seen {
	uint32_t maps;	  /* PTEs that map the page, or stand for a mapping */
	uint32_t entire;  /* PMD entries that map the folio, at its head */
	uint8_t batched;  /* times in a batch on its way to the LRU */
	uint8_t lazyfree; /* times in a batch of MADV_FREE */
	uint16_t free;	  /* times on a free list */
	uint16_t cached;  /* times in a page cache */
};

/* What was seen of an anon_vma. */
struct uhmm__seen_av {
	struct uhmm__anon_vma *av;
	uint32_t chains;   /* of VMAs to it */
	uint32_t active;   /* VMAs whose own it is */
	uint32_t children; /* anon_vmas in use whose parent it is */
	uint32_t family;   /* others whose root it is */
};

struct uhmm__verify {
	struct uhmm_machine *m;
	uint64_t violations;
	struct uhmm__seen *seen;       /* reserved, by index of the frame */
	uhmm_pfn_t ram_first, ram_end; /* RAM frames that were ever handed out */
	uintptr_t *chunks;	       /* reserved: where table chunks start, sorted */
	uint64_t nr_tables[5];	       /* tables reached, by level */
	struct uhmm__seen_av *avs;     /* reserved, sorted by address */
	size_t nr_avs, avs_bytes;
	uint32_t *swap_entries; /* reserved, by slot: entries that name it; NULL without swap */

	/* The walk over entries: where it is. */
	struct uhmm_mm *mm;
	struct uhmm_vma *vma; /* the first that ends above the last entry */
	/* The last answer of the rmap, good for a run of pages of one VMA. */
	const struct uhmm_vma *rmap_vma;
	const struct uhmm__anon_vma *rmap_av;
	const struct uhmm__itree_node *rmap_node;
};

static inline struct uhmm__seen *uhmm__seen(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	return &v->seen[pfn_to_index(v->m, pfn)];
}

void uhmm__verify_bad(struct uhmm__verify *v, const char *fmt, ...) uhmm_printf(2, 3);
/* The same about a frame, which is described after the text. */
void uhmm__verify_bad_frame(struct uhmm__verify *v, uhmm_pfn_t pfn, const char *fmt, ...)
	uhmm_printf(3, 4);

/* mms and VMAs by themselves, and the anon_vmas between them. 0 or -ENOMEM. */
int uhmm__verify_mms(struct uhmm__verify *v);
/* All files; counts what their caches hold. */
void uhmm__verify_files(struct uhmm__verify *v);
/* Whether @f is the page that the VMA's file has for @addr. */
bool uhmm__verify_file_page(const struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f);
/* All page tables; counts what the entries map. Context: after uhmm__verify_mms(). */
void uhmm__verify_entries(struct uhmm__verify *v);

/* ---- swap (verify_swap.c) ---- */

/* 0 or -ENOMEM. */
int uhmm__verify_swap_init(struct uhmm__verify *v);
void uhmm__verify_swap_exit(struct uhmm__verify *v);
/* Counts a swap entry. Returns: what is wrong with it, or NULL. */
const char *uhmm__verify_swap_entry(struct uhmm__verify *v, pte_t pte);
/* Slots and the cache. Context: after uhmm__verify_entries(). */
void uhmm__verify_swap(struct uhmm__verify *v);
/* Whether the swap cache holds a folio. */
bool uhmm__verify_in_swap_cache(struct uhmm__verify *v, uhmm_pfn_t pfn);

#endif /* UHMM_MM_VERIFY_H */
