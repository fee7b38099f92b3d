/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mirror.h - inside of the simulated GPU. */
#ifndef UHMM_MIRROR_MIRROR_H
#define UHMM_MIRROR_MIRROR_H

#include <uhmm/mirror.h>

#include "core/radix.h"
#include "devmem/pool.h"
#include "mm/mm.h"

enum { WINDOW_PAGES = UHMM_PTRS_PER_TABLE };

struct uhmm_device {
	struct uhmm_machine *machine; /* [const] */
	enum uhmm_memory_type type;   /* [const] */
	bool exact_invalidation;      /* [const] */
	bool huge_by_head;	      /* [const] */
	bool clearable_flags;	      /* [const] */
	bool order_of_each;	      /* [const] */
	struct uhmm_devmem *pool;     /* [const] */
	struct uhmm__spinlock lock;
	struct list_head mirrors;   /* [lock] in the order of their numbers */
	uint64_t next_id;	    /* [lock] */
	_Atomic uint32_t nr_shared; /* [lock:w] mirrors of a process that an earlier one has, too */
};

/*
 * A mirror's entry: pfn << 2 | tag. No reference is held: the notifier removes an entry before its
 * page goes away.
 */
enum {
	DPT_READ = 0,
	DPT_ATOMIC = 1,
	DPT_WRITE = 3,
	DPT_TAG = 3,
};

static inline uint64_t dpt_entry(uhmm_pfn_t pfn, bool write)
{
	return pfn << 2 | (write ? DPT_WRITE : DPT_READ);
}

static inline uint64_t dpt_atomic_entry(uhmm_pfn_t pfn)
{
	return pfn << 2 | DPT_ATOMIC;
}

static inline bool dpt_is_atomic(uint64_t entry)
{
	return (entry & DPT_TAG) == DPT_ATOMIC;
}

static inline uhmm_pfn_t dpt_pfn(uint64_t entry)
{
	return entry >> 2;
}

static inline bool dpt_permits(uint64_t entry, bool write)
{
	return entry && (!write || (entry & DPT_TAG) == DPT_WRITE);
}

/* Whether a page is the device's own memory; of others only coherent pages are in its tables. */
static inline bool uhmm__device_owns(struct uhmm_device *dev, uhmm_pfn_t pfn)
{
	return pfn >= dev->machine->device_base && uhmm_pagemap_owner(dev->machine, pfn) == dev;
}

/* What brings pages home from the device. Models: dmirror_select_device(). */
static inline uint64_t uhmm__device_select(const struct uhmm_device *dev)
{
	return dev->type == UHMM_MEMORY_DEVICE_COHERENT ? UHMM_MIGRATE_VMA_SELECT_DEVICE_COHERENT
							: UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
}

/*
 * A device writes. The kernel's test driver, and most drivers, forget to tell; what that costs is in
 * tests/unit/test_swap.c.
 */
static inline void write_page(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, const void *buf,
			      size_t len)
{
	uhmm_page_write(m, pfn, off, buf, len);
	uhmm_set_page_dirty(m, pfn);
}

struct uhmm_mirror {
	struct uhmm_device *dev; /* [const] */
	struct uhmm_mm *mm;	 /* [const] grabbed */
	struct uhmm__mutex mutex;
	struct uhmm__radix pt;	/* [mutex] device page tables, by virtual page number */
	struct list_head walks; /* [mutex] whose results are about to be entered */
	struct uhmm_mmu_interval_notifier *notifier; /* [const] */
	_Atomic uint64_t flags;			     /* [atomic] UHMM_MIRROR_FLAG_* */
	_Atomic uint32_t refs;			     /* [atomic] the opener, and users of a page */
	struct list_head list;			     /* [dev->lock] */
	uint64_t id;				     /* [const] at least 1 */
};

/*
 * The mirrors of a process on a device, all but one: each is invalidated by itself, but what the device
 * migrates none of them hears of.
 * Returns: the one after @after, with a reference; the first if that is 0; NULL: no more.
 */
struct uhmm_mirror *uhmm__mirror_next(struct uhmm_device *dev, struct uhmm_mm *mm,
				      const struct uhmm_mirror *but, uint64_t after);

static inline bool uhmm__device_shares_mm(struct uhmm_device *dev)
{
	return unlikely(load_relaxed(&dev->nr_shared));
}

enum uhmm__device_walk_stage {
	DEVICE_WALK_READS,  /* the own task spoils nothing: it reads on behind what it does */
	DEVICE_WALK_FROZEN, /* everybody spoils */
	DEVICE_WALK_MOVES,  /* what the own task invalidates, to split it, is about to move */
};

/*
 * A walk of CPU page tables whose results go into the device's tables, from before the first entry is
 * read until the results are entered. Whoever takes a page from the device meanwhile - an invalidation,
 * or a migration by the device itself, which its notifier ignores - spoils the page for the walk: what
 * it found there is not entered, and the device faults again. An invalidation that is under way when
 * the walk begins may have told the device already and take the pages only later: after the beginning
 * such walks wait for its end, by sampling the sequence.
 */
struct uhmm__device_walk {
	uhmm_vaddr_t start, end; /* at most a window */
	const struct uhmm_task *task;
	struct list_head list;		    /* [mutex] in mirror->walks */
	enum uhmm__device_walk_stage stage; /* of the own task, which alone looks */
	bool lost;	 /* [mutex] what the device had before is gone, by a split for the move */
	bool any_spoilt; /* [mutex] a bit is set below */
	uint64_t spoilt[WINDOW_PAGES / 64]; /* [mutex] a bit for each page, with any_spoilt */
};

void uhmm__device_walk_begin(struct uhmm_mirror *mirror, struct uhmm__device_walk *walk,
			     uhmm_vaddr_t start, uhmm_vaddr_t end);
/* Context: mutex. */
static inline void uhmm__device_walk_end(struct uhmm__device_walk *walk)
{
	list_del(&walk->list);
}
/* Pages of [start, end) are taken from the device. Context: mutex. */
void uhmm__device_walks_spoil(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end);

static inline bool uhmm__device_walk_page_spoilt(const struct uhmm__device_walk *walk, uint64_t i)
{
	return walk->any_spoilt && walk->spoilt[i / 64] >> i % 64 & 1;
}

static inline bool uhmm__device_walk_spoilt(const struct uhmm__device_walk *walk)
{
	return walk->any_spoilt;
}

/*
 * One window of a migration by the device. Its arrays are a page long: without a gap, entries of the same number
 * had the same place in a page, which a CPU takes for the same place until it knows better, and one cache set.
 */
enum { WINDOW_GAP = 64 / sizeof(uint64_t) };

struct uhmm__window {
	struct uhmm_migrate_vma args;
	uint64_t src[WINDOW_PAGES + WINDOW_GAP];
	uint64_t dst[WINDOW_PAGES + WINDOW_GAP];
	uint64_t saved[WINDOW_PAGES +
		       WINDOW_GAP]; /* mirror entries of the pages while they move, if there are any */
	struct uhmm__device_walk walk;
	bool any_saved; /* else saved[] may hold anything, and stands for none */
	uint64_t moved; /* pages that are on the device now */
	uint64_t evicted;
	uint64_t tags; /* DPT_* bits that all entries had when they were entered; 0 if there is one without */
};

/* What a window migrates. By stores: gcc would first clear all. */
static inline void uhmm__window_args(struct uhmm_mirror *mirror, struct uhmm__window *w,
				     uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t flags)
{
	struct uhmm_migrate_vma *args = &w->args;

	_Static_assert(sizeof(*args) == 11 * sizeof(uint64_t), "all of it is set below");
	args->size = sizeof(*args);
	args->vma = NULL;
	args->dst = w->dst;
	args->src = w->src;
	args->cpages = 0;
	args->npages = 0;
	args->start = start;
	args->end = end;
	args->pgmap_owner = mirror->dev;
	args->flags = flags;
	args->fault_page = 0;
	w->tags = 0;
}

/* Requests of a window, none. By stores: of one page, it is memset() that would take long. */
static inline void uhmm__clear_requests(uint64_t *pfns, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	for (uint64_t i = 0; i < (end - start) >> UHMM_PAGE_SHIFT; i++)
		WRITE_ONCE(pfns[i], 0);
}

/* What the device is about to touch is still in use. Context: mutex. */
static inline void uhmm__check_device_entry(const struct uhmm_mirror *mirror, uint64_t entry)
{
	struct uhmm_machine *m = mirror->dev->machine;

	(void)UHMM_WARN_ON(
		m, UHMM_CHECKED && !folio_ref_count(page_folio(pfn_to_frame(m, dpt_pfn(entry)))));
}

/* Whether a page of a window may move, by itself or as part of a huge one. */
static inline bool uhmm__window_may_move(const struct uhmm__window *w, uint64_t i)
{
	const uint64_t huge = UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_COMPOUND;

	/* A window is not larger than a huge page, so only its first entry can be one. */
	return w->src[i] & UHMM_MIGRATE_PFN_MIGRATE || (w->src[0] & huge) == huge;
}

/* Whether an allocation for the mirror must fail: each does once. */
static inline bool uhmm__mirror_take_fail_alloc(struct uhmm_mirror *mirror)
{
	if (likely(!(load_relaxed(&mirror->flags) & UHMM_MIRROR_FLAG_FAIL_ALLOC)))
		return false;
	return atomic_fetch_and_explicit(&mirror->flags, ~UHMM_MIRROR_FLAG_FAIL_ALLOC,
					 memory_order_relaxed) &
	       UHMM_MIRROR_FLAG_FAIL_ALLOC;
}

void uhmm__mirror_free(struct uhmm_mirror *mirror);

static inline void uhmm__mirror_put(struct uhmm_mirror *mirror)
{
	if (mirror && atomic_fetch_sub_explicit(&mirror->refs, 1, memory_order_acq_rel) == 1)
		uhmm__mirror_free(mirror);
}

/*
 * Fault [start, end) in for the device and enter it into its tables, 32 pages at a time.
 * Returns: as dmirror_fault().
 */
int uhmm__mirror_fault(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write,
		       bool unlocked);

int uhmm__mirror_fault_walk(struct uhmm_mirror *mirror, uint64_t *pfns, uhmm_vaddr_t start,
			    uhmm_vaddr_t end, bool write);

/*
 * migrate_vma_setup() for a window, as a walk that the device knows of; w->args are filled in. Ended by
 * uhmm__window_to_device() or uhmm__window_cancel(); on an error it is already.
 * Context: mmap_lock for reading. Returns: as migrate_vma_setup().
 */
int uhmm__window_setup(struct uhmm_mirror *mirror, struct uhmm__window *w);
/* Put everything back. */
void uhmm__window_cancel(struct uhmm_mirror *mirror, struct uhmm__window *w);
/*
 * For a window that was set up: allocate, copy, move, enter, finalize.
 * @write_new: the device may write to pages that are new; @fault: it gets what does not move, too
 */
void uhmm__window_to_device(struct uhmm_mirror *mirror, struct uhmm__window *w, bool write_new,
			    bool fault);
/* 0, or -ENOMEM: RAM ran out; the window is finalized either way. */
int uhmm__window_to_ram(struct uhmm_device *dev, struct uhmm_mirror *mirror,
			struct uhmm_migrate_vma *args);
/*
 * Collect a window for a device with the combined walker, and enter what it leaves in place into the
 * device's tables. @req: UHMM_HMM_PFN_REQ_* of every page, besides MIGRATE; @strict: a page that
 * cannot be had writable is an error, as in the test driver.
 * Returns: 0 with mmap_lock held; an error as uhmm_range_fault() without.
 */
int uhmm__window_combined(struct uhmm_mirror *mirror, struct uhmm__window *w, uhmm_vaddr_t start,
			  uhmm_vaddr_t end, uint64_t req, bool strict);
int uhmm__mirror_to_sys(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end,
			uint64_t *cpages);
/* Copy pages to cmd->ptr by the device's tables. 0, -EFAULT, or -ENOENT one is not there. */
int uhmm__mirror_read_back(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd);
int uhmm__op_exclusive(struct uhmm_mirror *mirror, struct uhmm_mirror_cmd *cmd);
int uhmm__op_check_exclusive(struct uhmm_mirror *mirror, const struct uhmm_mirror_cmd *cmd);
/* A page of [index, last) is entered for atomics. Context: mutex. */
bool uhmm__mirror_has_atomic(struct uhmm_mirror *mirror, uint64_t index, uint64_t last);
/* CPU fault on a page of the device. */
int uhmm__device_migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf);

#endif /* UHMM_MIRROR_MIRROR_H */
