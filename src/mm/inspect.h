/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inspect.h - looking at page tables and frames without taking part: no counts, no switch points,
 * no locks of its own. For the verifier, the comparison and the dump.
 */
#ifndef UHMM_MM_INSPECT_H
#define UHMM_MM_INSPECT_H

#include "mm/mm.h"

/* ---- entries of a range, in order ---- */

struct uhmm__scan {
	struct uhmm__pgtable *pgt;
	uhmm_vaddr_t addr; /* of the entry found */
	pte_t pte;
	bool huge;  /* .pte stands for a page of a huge leaf */
	pte_t leaf; /* of .next if it is one, else none */
	uhmm_vaddr_t next, end;
	struct uhmm__table *pte_table; /* of .next, or NULL if it must be looked up */
};

/* Context: mmap_lock held, which keeps the tables, or nobody else inside the library. */
void uhmm__scan_init(struct uhmm__scan *s, struct uhmm__pgtable *pgt, uhmm_vaddr_t start,
		     uhmm_vaddr_t end);
/* The next PTE that is not none, or page of a huge leaf, in .addr and .pte. False at the end. */
bool uhmm__scan_next(struct uhmm__scan *s);

/* ---- what an entry is ---- */

enum uhmm__entry_kind {
	ENTRY_NONE,
	ENTRY_ZERO,    /* the zero page */
	ENTRY_PAGE,    /* any other present page */
	ENTRY_SPECIAL, /* a driver's frame, without a page */
	ENTRY_DEVICE_PRIVATE,
	ENTRY_DEVICE_EXCLUSIVE,
	ENTRY_MIGRATION,
	ENTRY_SWAP,
	ENTRY_HWPOISON,
	ENTRY_MARKER,
	ENTRY_NR_KINDS
};

struct uhmm__entry {
	enum uhmm__entry_kind kind;
	bool write;
	bool protnone; /* of a present page */
	bool exec;     /* of a present page */
	bool young, dirty;
	bool exclusive; /* of a migration entry: readable and exclusive; of a swap entry */
	bool has_frame; /* .pfn names a folio; not for the zero page */
	uhmm_pfn_t pfn;
	uint64_t slot; /* of a swap entry */
};

void uhmm__entry_decode(struct uhmm_machine *m, pte_t pte, struct uhmm__entry *e);
const char *uhmm__entry_kind_name(enum uhmm__entry_kind kind);
/* "rwx" as the entry permits it, into @buf. */
const char *uhmm__entry_perm(const struct uhmm__entry *e, char buf[4]);

/* ---- frames ---- */

#define UHMM__FRAME_TEXT 224
/* "ref 1 map 1 flags uptodate,lru anon index 0x10" of the folio of a page, into @buf. */
const char *uhmm__frame_text(struct uhmm__frame *page, char buf[UHMM__FRAME_TEXT]);

/*
 * Devices are told apart by the owner of their pagemaps and numbered in the order in which the
 * owners registered their first, so that numbers mean the same in two machines with one history.
 */
struct uhmm__owners {
	struct uhmm_machine *machine;
	void **v; /* owners, in order */
	uint32_t nr;
	uint32_t *block; /* of each block of device frames: number of its owner + 1, 0 = none */
	size_t v_bytes, block_bytes;
};

/* 0 or -ENOMEM. Context: no pagemap comes or goes meanwhile. */
int uhmm__owners_init(struct uhmm__owners *o, struct uhmm_machine *m);
void uhmm__owners_exit(struct uhmm__owners *o);
/* Number of the device that a frame belongs to; -1 for RAM and for unregistered frames. */
int uhmm__owners_device(const struct uhmm__owners *o, uhmm_pfn_t pfn);

/* ---- comparing (compare.c) ---- */

/* Whether it is known that a page took another course in the two machines. */
typedef bool uhmm__apart_fn(void *data, uhmm_vaddr_t addr);

/*
 * uhmm_machine_compare(), but where state differs and @apart says so, contents alone must be the same.
 * @nr_apart: (in/out) counts such pages. @apart NULL: none.
 */
int64_t uhmm__machine_compare(struct uhmm_machine *a, struct uhmm_machine *b,
			      enum uhmm_compare what, uhmm__apart_fn *apart, void *apart_data,
			      uint64_t *nr_apart, uhmm_emit_fn *emit, void *data);

#endif /* UHMM_MM_INSPECT_H */
