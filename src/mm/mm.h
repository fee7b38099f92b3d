/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mm.h - inside of an address space: VMAs, their locks, faults, zapping, rmap.
 */
#ifndef UHMM_MM_MM_H
#define UHMM_MM_MM_H

#include <uhmm/mm.h>

#include "core/itree.h"
#include "core/rangetree.h"
#include "mm/file.h"
#include "mm/frame.h"
#include "mm/notifier.h"
#include "pgtable/table.h"
#include "pgtable/tlb.h"

/* ---- structures ---- */

/*
 * Ties a VMA to an anon_vma: an entry of the anon_vma's interval tree, by page offset.
 * [mmap:w and root->rwsem]
 */
struct uhmm__anon_vma_chain {
	struct uhmm_vma *vma;
	struct uhmm__anon_vma *anon_vma;
	struct list_head same_vma;
	struct uhmm__itree_node node;
};

struct uhmm__anon_vma {
	struct uhmm__anon_vma *_Atomic root; /* holds the lock of the whole family */
	struct uhmm__anon_vma *parent;	     /* [const] while in use; link of the free list */
	struct uhmm__rwsem rwsem;	     /* used in the root only */
	_Atomic uint32_t refcount;	     /* [atomic] one for its VMAs, one per child, walkers */
	uint32_t num_children;		     /* [rwsem:w] */
	uint32_t num_active_vmas;	     /* [rwsem:w] VMAs whose vma->anon_vma it is */
	struct uhmm__itree tree;	     /* [rwsem] of chains */
};

static inline struct uhmm__anon_vma *anon_vma_root(struct uhmm__anon_vma *av)
{
	return load_relaxed(&av->root);
}

/*
 * Readers of a VMA are counted in several places, one cache line each, so that CPUs that fault in
 * one VMA do not pass a line to and fro. The kernel has one count; what can wait for whom is the
 * same.
 */
struct uhmm__vma_readers {
	_Atomic uint32_t nr;
} __attribute__((aligned(UHMM__CACHE_LINE)));

struct uhmm_vma {
	uhmm_vaddr_t start, end;		 /* [mmap:w + vma:w] */
	struct uhmm_mm *mm;			 /* [const] */
	uint64_t flags;				 /* [mmap:w + vma:w] UHMM_VM_* */
	uint64_t page_prot;			 /* [mmap:w + vma:w] bits of a present entry */
	uint64_t anon_pgoff;			 /* [mmap:w + vma:w] of anonymous pages */
	struct uhmm_file *file;			 /* [const] holds a reference */
	struct uhmm__anon_vma *_Atomic anon_vma; /* set once under mmap:r + page_table_lock */
	/* Up to here what a fault on anonymous memory looks at, in one cache line. */
	uint64_t pgoff;		  /* [mmap:w + vma:w, i_mmap:w] in the file */
	struct list_head chain;	  /* [mmap:w, or mmap:r + page_table_lock] of chains */
	_Atomic bool maybe_guard; /* set under mmap:r; guard regions were made in it once */
	/* Per-VMA lock: write-locked while lock_seq == mm->lock_seq. */
	_Atomic uint32_t lock_seq;	     /* [mmap:w] */
	_Atomic bool attached;		     /* [mmap:w] in the tree */
	bool in_i_mmap;			     /* [i_mmap:w] */
	struct uhmm__itree_node i_mmap_node; /* [i_mmap:w] of file->mapping.i_mmap */
	struct uhmm_machine *machine;	     /* once it is dead */
	struct uhmm__rcu_head rcu;
	struct uhmm__vma_readers readers[UHMM__CPU_LINES];
};

struct uhmm_mm {
	struct uhmm__pgtable pgt;
	struct uhmm__rangetree vmas; /* [mmap:w], lockless readers */
	struct uhmm__rwsem mmap_lock;
	_Atomic uint32_t lock_seq;	/* [mmap:w] + 1 each time the write lock is dropped */
	struct uhmm__waitq vma_writers; /* the writer that waits for readers of a VMA */
	_Atomic bool vma_writer_waits;	/* [mmap:w] */
	_Atomic uint32_t users;		/* [atomic] */
	_Atomic uint32_t count;		/* [atomic] */
	struct uhmm_machine *machine;	/* [const] */
	uint64_t id;			/* [const] */
	size_t nr_vmas;			/* [mmap:w] */
	uhmm_vaddr_t brk_start, brk;	/* [mmap:w] */
	struct uhmm__notifiers notifiers;
	bool (*uffd_fn)(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr,
			unsigned int reason); /* [mmap:w] */
	void *uffd_data;		      /* [mmap:w] */
	/* [mmap:w] odd while fork write-protects pages */
	_Atomic uint32_t write_protect_seq;
	struct list_head list; /* [mms lock] */
};

/* All mms of a machine. */
struct uhmm__mms {
	struct uhmm__spinlock lock;
	struct list_head list;		       /* [lock] by id */
	uint64_t next_id;		       /* [lock] */
	struct uhmm__anon_vma *free_anon_vmas; /* [lock] */
};

/* ---- mmap_lock and per-VMA locks ---- */

/* Macros, so that the checked build knows who takes the lock. */
#define mmap_read_lock(mm) mmap_read_lock_at(mm, UHMM__HERE)
#define mmap_read_trylock(mm) mmap_read_trylock_at(mm, UHMM__HERE)
#define mmap_read_unlock(mm) mmap_read_unlock_at(mm, UHMM__HERE)
#define mmap_write_lock(mm) mmap_write_lock_at(mm, 0, UHMM__HERE)
#define mmap_write_lock_nested(mm, subclass) mmap_write_lock_at(mm, subclass, UHMM__HERE)
#define mmap_write_unlock(mm) mmap_write_unlock_at(mm, UHMM__HERE)
#define vma_start_write(vma) vma_start_write_at(vma, UHMM__HERE)
#define vma_end_read(vma) vma_end_read_at(vma, UHMM__HERE)

static inline void mmap_read_lock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	uhmm__count(UHMM_CNT_MMAP_READ);
	if (unlikely(uhmm__down_read_at(&mm->mmap_lock, 0, where)))
		uhmm__count(UHMM_CNT_MMAP_CONTENDED);
}

static inline bool mmap_read_trylock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	if (!uhmm__down_read_trylock_at(&mm->mmap_lock, where))
		return false;
	uhmm__count(UHMM_CNT_MMAP_READ);
	return true;
}

static inline void mmap_read_unlock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	uhmm__up_read_at(&mm->mmap_lock, where);
}

static inline void mmap_write_lock_at(struct uhmm_mm *mm, unsigned int subclass,
				      const struct uhmm_site *where)
{
	uhmm__count(UHMM_CNT_MMAP_WRITE);
	if (unlikely(uhmm__down_write_at(&mm->mmap_lock, subclass, where)))
		uhmm__count(UHMM_CNT_MMAP_CONTENDED);
}

/* Also unlocks every VMA that was locked for writing. */
static inline void mmap_write_unlock_at(struct uhmm_mm *mm, const struct uhmm_site *where)
{
	store_release(&mm->lock_seq, load_relaxed(&mm->lock_seq) + 1);
	uhmm__up_write_at(&mm->mmap_lock, where);
}

void uhmm__vma_start_write_slow(struct uhmm_vma *vma);

/* Context: mmap_lock held for writing; lasts until it is dropped. Models: vma_start_write(). */
static inline void vma_start_write_at(struct uhmm_vma *vma, const struct uhmm_site *where)
{
	if (load_relaxed(&vma->lock_seq) == load_relaxed(&vma->mm->lock_seq))
		return;
	uhmm__map_wait(UHMM__LC_VMA, vma, where);
	uhmm__vma_start_write_slow(vma);
}

/* Where the task's CPU counts as a reader; a task does not change its CPU. */
static inline _Atomic uint32_t *vma_reader_slot(struct uhmm_vma *vma, const struct uhmm_task *t)
{
	/* Said so that compilers make it part of an address. */
	return &((struct uhmm_vma *)((char *)vma + t->cpu_line))->readers[0].nr;
}

static inline uint32_t vma_nr_readers(struct uhmm_vma *vma)
{
	uint32_t sum = 0;

	for (int i = 0; i < UHMM__CPU_LINES; i++)
		sum += atomic_load_explicit(&vma->readers[i].nr, memory_order_seq_cst);
	return sum;
}

/* @t: the current task, here and below. */
static inline void vma_put_reader_as(struct uhmm_vma *vma, struct uhmm_mm *mm,
				     const struct uhmm_task *t)
{
	uhmm__sched_point(UHMM__PT_UNLOCK, vma);
	atomic_fetch_sub_explicit(vma_reader_slot(vma, t), 1, memory_order_seq_cst);
	/* A writer may free the VMA from here on, but not the caller's mm. */
	if (unlikely(atomic_load_explicit(&mm->vma_writer_waits, memory_order_seq_cst)))
		uhmm__wake_up_all(&mm->vma_writers);
}

static inline void vma_put_reader(struct uhmm_vma *vma)
{
	vma_put_reader_as(vma, vma->mm, uhmm__current());
}

/* Context: RCU, or the VMA could be freed while it is looked at. Models: vma_start_read(). */
static inline bool vma_start_read_as(struct uhmm_vma *vma, struct uhmm_mm *mm,
				     const struct uhmm_task *t)
{
	if (unlikely(load_relaxed(&vma->lock_seq) == load_relaxed(&mm->lock_seq)))
		return false;
	uhmm__sched_point(UHMM__PT_LOCK, vma);
	atomic_fetch_add_explicit(vma_reader_slot(vma, t), 1, memory_order_seq_cst);
	if (likely(atomic_load_explicit(&vma->lock_seq, memory_order_seq_cst) !=
			   load_acquire(&mm->lock_seq) &&
		   load_acquire(&vma->attached)))
		return true;
	vma_put_reader_as(vma, mm, t);
	return false;
}

static inline bool vma_start_read(struct uhmm_vma *vma, struct uhmm_mm *mm)
{
	return vma_start_read_as(vma, mm, uhmm__current());
}

/* By the tree, and kept in mind; NULL also if the tree changes meanwhile. Context: RCU, or mmap_lock. */
struct uhmm_vma *uhmm__vma_lookup_slow(struct uhmm_mm *mm, uhmm_vaddr_t addr);

/*
 * The last VMA that the task found is most often the next, and the tree's sequence number says
 * whether it is still in the tree. NULL: it is not. Context: RCU, or mmap_lock.
 */
uhmm_always_inline struct uhmm_vma *vma_cached_as(struct uhmm_mm *mm, uhmm_vaddr_t addr,
						  const struct uhmm_task *t)
{
	if (unlikely(t->vma_cache_mm != mm->id || t->vma_cache_seq != load_acquire(&mm->vmas.seq) ||
		     addr < t->vma_cache_start || addr >= t->vma_cache_end))
		return NULL;
	if (!t->vma_cache_vma)
		__builtin_unreachable();
	return t->vma_cache_vma;
}

uhmm_always_inline struct uhmm_vma *vma_cached(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return vma_cached_as(mm, addr, uhmm__current());
}

/* The VMA at an address, most often the last. Context: in a task; RCU, or mmap_lock. */
static inline struct uhmm_vma *vma_lookup_cached(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma = vma_cached(mm, addr);

	return likely(vma) ? vma : uhmm__vma_lookup_slow(mm, addr);
}

/* NULL: take mmap_lock. Context: a link of a chain of RCU sections. Models: lock_vma_under_rcu(). */
uhmm_always_inline struct uhmm_vma *uhmm__lock_vma_link(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma;

	uhmm__rcu_link_lock();
	vma = vma_lookup_cached(mm, addr);
	if (unlikely(!vma || !vma_start_read(vma, mm))) {
		uhmm__rcu_link_unlock();
		uhmm__count(UHMM_CNT_VMA_LOCK_MISS);
		return NULL;
	}
	uhmm__rcu_link_unlock();
	/* The VMA may have changed its range before it was locked. */
	if (unlikely(addr < vma->start || addr >= vma->end)) {
		vma_put_reader(vma);
		uhmm__count(UHMM_CNT_VMA_LOCK_MISS);
		return NULL;
	}
	uhmm__count(UHMM_CNT_VMA_LOCK);
	return vma;
}

/* The same by itself. */
struct uhmm_vma *uhmm__lock_vma_under_rcu(struct uhmm_mm *mm, uhmm_vaddr_t addr);

#define lock_vma_under_rcu(mm, addr)                                                               \
	vma_read_locked_at(uhmm__lock_vma_under_rcu(mm, addr), UHMM__HERE)
#define lock_vma_link(mm, addr) vma_read_locked_at(uhmm__lock_vma_link(mm, addr), UHMM__HERE)
static inline struct uhmm_vma *vma_read_locked_at(struct uhmm_vma *vma,
						  const struct uhmm_site *where)
{
	if (vma)
		uhmm__map_started(UHMM__LC_VMA, vma, where);
	return vma;
}

static inline void vma_end_read_at(struct uhmm_vma *vma, const struct uhmm_site *where)
{
	uhmm__map_end(UHMM__LC_VMA, vma, where);
	vma_put_reader(vma);
}

/* ---- VMAs (vma.c) ---- */

/* VMAs that cannot migrate: a driver's, all of uhmm_mmap_special(). Models: VM_SPECIAL. */
#define UHMM__VM_SPECIAL (UHMM_VM_IO | UHMM_VM_DONTEXPAND | UHMM_VM_PFNMAP | UHMM_VM_MIXEDMAP)

/* Linux goes by vm_ops, which the mapping of a driver has. */
static inline bool vma_is_anonymous(const struct uhmm_vma *vma)
{
	return !vma->file && !(vma->flags & UHMM__VM_SPECIAL);
}

/* Private and possibly writable: pages are copied on write. Models: vma_is_cow_mapping(). */
static inline bool vma_is_cow_mapping(const struct uhmm_vma *vma)
{
	return !(vma->flags & UHMM_VM_SHARED);
}

static inline uint64_t vma_pgoff(const struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	return vma->pgoff + ((addr - vma->start) >> UHMM_PAGE_SHIFT);
}

static inline uhmm_vaddr_t vma_address(const struct uhmm_vma *vma, uint64_t pgoff)
{
	return vma->start + ((pgoff - vma->pgoff) << UHMM_PAGE_SHIFT);
}

/*
 * Anonymous pages go by an offset of their own: in anonymous VMAs it is pgoff, in private mappings of
 * files it is where the VMA was, in pages, when it got its first. Models: vma_start_anon_pgoff().
 */
static inline uint64_t vma_anon_pgoff(const struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	return vma->anon_pgoff + ((addr - vma->start) >> UHMM_PAGE_SHIFT);
}

static inline uhmm_vaddr_t vma_anon_address(const struct uhmm_vma *vma, uint64_t pgoff)
{
	return vma->start + ((pgoff - vma->anon_pgoff) << UHMM_PAGE_SHIFT);
}

/* Bits of a present entry of such a VMA. Models: vma_set_page_prot(). */
uint64_t uhmm__vm_page_prot(const struct uhmm_file *file, uint64_t flags);
/* Into its file's tree, behind @prev or by offset, and out. Context: i_mmap_rwsem for writing. */
void uhmm__vma_i_mmap_insert(struct uhmm_vma *vma, struct uhmm_vma *prev);
void uhmm__vma_i_mmap_remove(struct uhmm_vma *vma);
/* Context of all below: mmap_lock held for writing; for the finders any. */
struct uhmm_vma *uhmm__find_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr);
struct uhmm_vma *uhmm__vma_next(struct uhmm_mm *mm, const struct uhmm_vma *vma);
struct uhmm_vma *uhmm__vma_prev(struct uhmm_mm *mm, const struct uhmm_vma *vma);

static inline struct uhmm_vma *uhmm__vma_lookup(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma = uhmm__find_vma(mm, addr);

	return vma && vma->start <= addr ? vma : NULL;
}

struct uhmm_vma *uhmm__vma_alloc(struct uhmm_mm *mm);
/* The VMA was never in the tree, or is not any more; freed after a grace period. */
void uhmm__vma_free(struct uhmm_vma *vma);
int uhmm__vma_link(struct uhmm_vma *vma);
void uhmm__vma_unlink(struct uhmm_vma *vma);
/* Cut at @addr, which becomes the start of the new upper part. 0 or -ENOMEM. */
int uhmm__vma_split(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm_vma **upper);
/* Cut so that a VMA covers nothing outside [start, end); may replace *vmap. 0 or -ENOMEM. */
int uhmm__vma_isolate(struct uhmm_vma **vmap, uhmm_vaddr_t start, uhmm_vaddr_t end);
/* Join with the neighbours where they agree; returns the VMA that covers it now. */
struct uhmm_vma *uhmm__vma_merge(struct uhmm_vma *vma);
/* The same, but not with that one. */
struct uhmm_vma *uhmm__vma_merge_apart(struct uhmm_vma *vma, const struct uhmm_vma *apart);
/* Grow or shrink in place; the room must be free. 0 or -ENOMEM. */
int uhmm__vma_resize(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end);
void uhmm__vma_set_flags(struct uhmm_vma *vma, uint64_t flags);

/* Unmap [start, end) with mmap_lock held for writing. Models: do_vmi_munmap(). */
int uhmm__do_munmap(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end);

/* Free room of @len bytes, at @hint if that is free. 0 or -ENOMEM. */
int uhmm__find_place(struct uhmm_mm *mm, uhmm_vaddr_t hint, uint64_t len, uhmm_vaddr_t *out);
/*
 * Fault in what a VMA permits, for writing if it does. Context: mmap_lock held.
 * Models: populate_vma_page_range().
 */
void uhmm__populate_vma(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end);
/* Fault everything in, as MAP_POPULATE; takes mmap_lock for reading. Models: mm_populate(). */
void uhmm__populate(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end);

/* Kept free below a stack. Models: stack_guard_gap. */
#define STACK_GUARD_GAP (256 * UHMM_PAGE_SIZE)
/* Nothing is put below, unless somebody insists. Models: vm.mmap_min_addr. */
#define MMAP_MIN_ADDR 0x10000UL

#define UHMM__VM_UFFD (UHMM_VM_UFFD_MISSING | UHMM_VM_UFFD_WP | UHMM_VM_UFFD_WP_UNPOPULATED)

/* ---- changing protection (mprotect.c) ---- */

enum {
	CP_MPROTECT = 0,	     /* to what the VMA says now */
	CP_UFFD_WP = 1 << 0,	     /* write-protect for userfaultfd */
	CP_UFFD_WP_RESOLVE = 1 << 1, /* end that */
	CP_PROT_NUMA = 1 << 2,	     /* make NUMA hints */
};

struct uhmm__gather;

/*
 * @g: gathers what must be flushed. Returns: entries changed, or -ENOMEM. Context: mmap_lock.
 * Models: change_protection().
 */
int64_t uhmm__change_protection(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
				uhmm_vaddr_t end, unsigned int cp);

/* ---- guard regions (guard.c) ---- */

/* 0; -EINVAL not in such a VMA; -ENOMEM. Context: mmap_lock for reading. */
int uhmm__guard_install(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end);
int uhmm__guard_remove(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end);

/* ---- hardware poison (poison.c) ---- */

/* 0, or the error of the first page that cannot be had or broken. Models: madvise_inject_error(). */
int uhmm__madvise_hwpoison(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end);

/* ---- zapping (zap.c) ---- */

struct uhmm__gather_batch;

/* Pages whose entries are gone but not yet flushed. Models: struct mmu_gather. */
struct uhmm__gather {
	struct uhmm_mm *mm;
	bool keep_cows;		 /* anonymous pages stay. Models: zap_details.skip_cows */
	bool file;		 /* the VMA has one: dirty and young entries must be heard of */
	bool recency;		 /* young ones. Models: vma_has_recency() */
	uhmm_vaddr_t start, end; /* what must be flushed, empty if start >= end */
	bool reclaim_pt;	 /* free the tables of whole parts as well */
	bool drop_markers;	 /* guard regions go, too: the VMA does */
	unsigned int nr_batches;
	struct uhmm__gather_batch *batches;
	unsigned int nr;
	uint32_t first[64];
};

void uhmm__gather_init(struct uhmm__gather *g, struct uhmm_mm *mm);
void uhmm__gather_finish(struct uhmm__gather *g);
/* Remove the entries of [start, end). Models: unmap_page_range(). */
void uhmm__unmap_range(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
		       uhmm_vaddr_t end);
/* The same with a notification of its own. Models: zap_vma_range_batched(). */
void uhmm__zap_range(struct uhmm__gather *g, struct uhmm_vma *vma, uhmm_vaddr_t start,
		     uhmm_vaddr_t end);
/*
 * The same with a gather of its own. Without @even_cows anonymous pages stay: for pages that are taken
 * from a file. Models: zap_vma_range() for unmap_mapping_range().
 */
void uhmm__zap_file_range(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end,
			  bool even_cows);

/* The entry of a page has changed: CPUs must forget it by the end of the gather. */
static inline void gather_widen(struct uhmm__gather *g, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	g->start = MIN(g->start, start);
	g->end = MAX(g->end, end);
}

/* ---- rmap (rmap.c, anon_vma.c) ---- */

int uhmm__anon_vma_prepare(struct uhmm_vma *vma);
int uhmm__anon_vma_clone(struct uhmm_vma *dst, struct uhmm_vma *src);
int uhmm__anon_vma_fork(struct uhmm_vma *dst, struct uhmm_vma *src);
void uhmm__unlink_anon_vmas(struct uhmm_vma *vma);
/* The range of @vma is about to change, and has changed. Context: mmap_lock held for writing. */
void uhmm__anon_vma_pre_update(struct uhmm_vma *vma);
void uhmm__anon_vma_post_update(struct uhmm_vma *vma);
void uhmm__anon_vma_put(struct uhmm_machine *m, struct uhmm__anon_vma *av);
void uhmm__anon_vmas_exit(struct uhmm_machine *m);

/* Returns the root whose lock was taken for reading; unlock that. */
uhmm_always_inline struct uhmm__anon_vma *anon_vma_lock_read(struct uhmm__anon_vma *av)
{
	for (;;) {
		struct uhmm__anon_vma *root = load_acquire(&av->root);

		uhmm__down_read(&root->rwsem);
		if (likely(load_acquire(&av->root) == root))
			return root;
		uhmm__up_read(&root->rwsem);
	}
}

/* @held: of an rmap walk, see uhmm__remove_migration_ptes(). */
uhmm_always_inline void rmap_release(struct uhmm__anon_vma **held)
{
	if (*held)
		uhmm__up_read(&(*held)->rwsem);
	*held = NULL;
}

static inline struct uhmm__anon_vma *folio_anon_vma(struct uhmm__frame *f)
{
	uintptr_t v = load_relaxed(&f->mapping);

	if (!(v & MAPPING_ANON))
		return NULL;
	/* Never NULL: said to the compiler as well. */
	if (v == MAPPING_ANON)
		__builtin_unreachable();
	return (struct uhmm__anon_vma *)(v - MAPPING_ANON);
}

/* First mapping of a new folio, with these flags and @vma's @av: exclusive. Context: PTL. */
static inline void folio_set_new_anon_rmap(struct uhmm__frame *f, struct uhmm_vma *vma,
					   const struct uhmm__anon_vma *av, uhmm_vaddr_t addr,
					   uint32_t flags)
{
	store_relaxed(&f->index, vma_anon_pgoff(vma, addr));
	store_relaxed(&f->mapcount, 1);
	store_relaxed(&f->flags, flags | (uint32_t)BIT(PG_ANON_EXCLUSIVE));
	store_release(&f->mapping, (uintptr_t)av | MAPPING_ANON);
}

/* The same with those that it has. */
static inline void folio_add_new_anon_rmap(struct uhmm__frame *f, struct uhmm_vma *vma,
					   uhmm_vaddr_t addr)
{
	folio_set_new_anon_rmap(f, vma, load_relaxed(&vma->anon_vma), addr,
				load_relaxed(&f->flags));
}

/* The same for a large folio: by a PMD entry, or by a PTE for each page. @addr: of the first page. */
void uhmm__folio_add_new_anon_rmap_pmd(struct uhmm__frame *f, struct uhmm_vma *vma,
				       uhmm_vaddr_t addr);
void uhmm__folio_add_new_anon_rmap_ptes(struct uhmm__frame *f, struct uhmm_vma *vma,
					uhmm_vaddr_t addr);

void uhmm__large_add_rmap(struct uhmm__frame *f, struct uhmm__frame *page, struct uhmm_mm *mm);
struct uhmm__frame *uhmm__large_remove_rmap(struct uhmm__frame *page, struct uhmm_mm *mm);

/* One more PTE of @mm maps a page of an anonymous folio, and one less. Context: PTL. */
static inline void folio_add_anon_rmap(struct uhmm__frame *page, struct uhmm_mm *mm, bool exclusive)
{
	if (unlikely(page_in_large(page)))
		uhmm__large_add_rmap(page_folio(page), page, mm);
	else
		atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_relaxed);
	if (exclusive)
		folio_set(page, PG_ANON_EXCLUSIVE);
}

/* Another mapping of a page of a file. Context: folio locked, or another mapping of it. */
static inline void folio_add_file_rmap(struct uhmm__frame *f)
{
	atomic_fetch_add_explicit(&f->mapcount, 1, memory_order_relaxed);
}

/*
 * Returns: the folio. What is exclusive is mapped once, by the entry whose lock is held, and cannot be
 * mapped again but from that: nobody else counts at the same time.
 */
static inline struct uhmm__frame *folio_remove_rmap(struct uhmm__frame *page, struct uhmm_mm *mm)
{
	uint32_t flags = load_relaxed(&page->flags);

	if (unlikely(flags & FOLIO_ORDER_MASK))
		return uhmm__large_remove_rmap(page, mm);
	if (!UHMM_CHECKED && flags & BIT(PG_ANON_EXCLUSIVE)) {
		UHMM_VM_BUG_ON(mm->machine, load_relaxed(&page->mapcount) != 1);
		store_relaxed(&page->mapcount, 0);
	} else {
		atomic_fetch_sub_explicit(&page->mapcount, 1, memory_order_relaxed);
	}
	return page;
}

/* One more PMD entry maps a folio, and one less. Context: PMD lock. */
void uhmm__folio_add_anon_rmap_pmd(struct uhmm__frame *f, struct uhmm_mm *mm, bool exclusive);
void uhmm__folio_remove_rmap_pmd(struct uhmm__frame *f, struct uhmm_mm *mm);

/*
 * Share a page that was exclusive, with the entry already cleared by ptep_xchg_clear(), whose
 * exchange orders the two. False if it may be pinned.
 * Context: PTL. Models: folio_try_share_anon_rmap_pte().
 */
static inline bool folio_try_share_anon_rmap(struct uhmm__frame *page)
{
	if (unlikely(folio_maybe_dma_pinned(page_folio(page))))
		return false;
	folio_clear(page, PG_ANON_EXCLUSIVE);
	return true;
}

/*
 * Replace every mapping of a locked folio by a migration entry. A mapping that cannot be replaced
 * stays. Context: folio locked, no PTL. Models: try_to_migrate().
 */
void uhmm__try_to_migrate(struct uhmm__frame *f);
/* The same before a split of the folio: huge leaves become tables. @held: as below. */
void uhmm__try_to_migrate_split(struct uhmm__frame *f, struct uhmm__anon_vma **held);
/* After a split: map a page again where the folio was; @zero_page: if it has zeroes by the zero page. */
void uhmm__remap_split_page(struct uhmm_machine *m, struct uhmm__frame *page, bool zero_page,
			    struct uhmm__anon_vma **held);
/* Tables of migration entries for each PMD entry that stands for a folio. Context: folio locked. */
void uhmm__split_pmd_migration_entries(struct uhmm__frame *f);
/* Replace every mapping of a locked, broken folio by a hardware-poison entry. Models: try_to_unmap(). */
void uhmm__unmap_poisoned(struct uhmm__frame *f);
/*
 * Turn the migration entries that stand for @old into mappings of @dst. Both locked.
 * @held: (in/out) a root whose lock is held already, NULL for none; another family's is released.
 * Start with NULL and end with rmap_release(). NULL: nothing stays held.
 */
void uhmm__remove_migration_ptes(struct uhmm_machine *m, struct uhmm__frame *old,
				 struct uhmm__frame *dst, struct uhmm__anon_vma **held);

/*
 * Write-protect a page of a file in every shared mapping and clean the entries. Returns: how many were
 * writable or dirty. Context: folio locked. Models: folio_mkclean().
 */
unsigned int uhmm__folio_mkclean(struct uhmm_machine *m, struct uhmm__frame *f);
/* Called for each VMA that may map a folio. Returns: false ends the walk. */
typedef bool uhmm__rmap_one_fn(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
			       void *arg);
/* Context: folio locked, no PTL. Models: rmap_walk(). */
void uhmm__rmap_walk(struct uhmm__frame *f, uhmm__rmap_one_fn *one, void *arg);
/* The entry at @addr, mapped and locked, or NULL if there is no table. Context: in an rmap walk. */
uhmm_always_inline ptent_t *uhmm__rmap_map_lock(struct uhmm_mm *mm, uhmm_vaddr_t addr,
						struct uhmm__spinlock **ptl)
{
	unsigned int level;
	ptent_t *pmdp, *ptep = walk_map_lock_quick(&mm->pgt, addr, &pmdp, ptl);

	if (likely(ptep))
		return ptep;
	/* The rmap lock keeps the VMA linked, and a linked VMA keeps its tables. */
	pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);
	if (pmdp)
		ptep = uhmm__pte_offset_map_lock(pmdp, addr, ptl);
	if (ptep)
		uhmm__count(UHMM_CNT_READ_PTE);
	return ptep;
}

/* Whether an entry maps a page: present, device-private or device-exclusive. */
static inline bool entry_maps(pte_t pte, uhmm_pfn_t pfn)
{
	if (pte_present(pte))
		return pte_pfn(pte) == pfn;
	return (leaf_is_device_private(pte) || leaf_is_device_exclusive(pte)) &&
	       leaf_pfn(pte) == pfn;
}

/* Replaces an entry that maps @f, whose mapping is gone with it. False: it is as it was. Context: PTL. */
typedef bool uhmm__take_fn(struct uhmm_vma *vma, uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
			   struct uhmm__frame *f);
/*
 * One step of an rmap walk that takes the mappings of a folio of one page away, with an invalidation.
 * Returns: whether to go on: @take succeeded, and some are left. Context: as the walk.
 */
bool uhmm__rmap_take(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
		     uhmm__take_fn *take);

/* ---- faults (fault.c) ---- */

enum {
	FAULT_FLAG_WRITE = 1 << 0,
	FAULT_FLAG_VMA_LOCK = 1 << 1,
	FAULT_FLAG_ALLOW_RETRY = 1 << 2,
	FAULT_FLAG_KILLABLE = 1 << 3,
	FAULT_FLAG_REMOTE = 1 << 4,
	FAULT_FLAG_INSTRUCTION = 1 << 5,
	FAULT_FLAG_USER = 1 << 6,
	/* The caller holds folio locks: never wait on others', answer VM_FAULT_WOULD_WAIT. */
	FAULT_FLAG_NO_FOLIO_WAIT = 1 << 7,
	FAULT_FLAG_TRIED = 1 << 8,   /* the lock was dropped before */
	FAULT_FLAG_UNSHARE = 1 << 9, /* a read that must not see others' page: copy it */
	FAULT_FLAG_PROT = 1 << 10,   /* an instruction fetch met a present entry */
};

enum {
	VM_FAULT_OOM = 1 << 0,
	VM_FAULT_SIGBUS = 1 << 1,
	VM_FAULT_HWPOISON = 1 << 2,
	VM_FAULT_SIGSEGV = 1 << 3,
	VM_FAULT_RETRY = 1 << 4,     /* the lock was dropped */
	VM_FAULT_COMPLETED = 1 << 5, /* done, and the lock was dropped */
	VM_FAULT_WOULD_WAIT = 1 << 6,
	VM_FAULT_FALLBACK = 1 << 7,   /* no huge page: go on with pages; inside mm only */
	VM_FAULT_DRIVER_OOM = 1 << 8, /* with OOM: the owner of a device page had no memory */
	VM_FAULT_UNCHAINED = 1 << 9,  /* the chain of RCU sections has ended; inside fault.c only */
	VM_FAULT_PTL = 1 << 10,	      /* done, and the entry is still locked; inside fault.c only */
	VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_HWPOISON | VM_FAULT_SIGSEGV,
};

struct uhmm__fault {
	struct uhmm_vma *vma;
	uhmm_vaddr_t address; /* page-aligned */
	unsigned int flags;   /* FAULT_FLAG_* */
	ptent_t *pmd;
	ptent_t *pte; /* mapped, or NULL */
	struct uhmm__spinlock *ptl;
	pte_t orig_pte;
};

/*
 * Models: mm/memory.c:handle_mm_fault(). Context: mmap_lock for reading, or with
 * FAULT_FLAG_VMA_LOCK the VMA's; on VM_FAULT_RETRY and COMPLETED that lock is dropped.
 */
int uhmm__handle_mm_fault(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags);
/* 0 or -ENOMEM, -EFAULT as vm_fault_to_errno(). */
int uhmm__vm_fault_to_errno(int fault);
/* Call the owner of a device page; its folio is locked and referenced. @pte: mapped by a PTE. */
int uhmm__migrate_to_ram(struct uhmm__fault *vmf, struct uhmm__frame *page, bool pte);
/* Fault on an entry that is not present, nor a device's; ends with it unmapped and unlocked. */
int uhmm__do_swap_page(struct uhmm__fault *vmf);
/*
 * The same on one of a device: the fault comes in registers. Context: mmap_lock; the entry is mapped by
 * @ptep, with a link of a chain or a section of its own, which ends here either way. Models: that part of
 * do_swap_page().
 */
int uhmm__device_private_fault(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			       ptent_t *pmdp, ptent_t *ptep, pte_t orig);
/* No entry yet, in a VMA with a file. Models: do_fault(). */
int uhmm__do_file_fault(struct uhmm__fault *vmf);
/* A write to a read-only entry of a shared mapping; entered with the entry mapped and locked. */
int uhmm__wp_page_shared(struct uhmm__fault *vmf, struct uhmm__frame *f);
/* An anon_vma for the VMA: 0 or VM_FAULT_*. Models: vmf_anon_prepare(). */
int uhmm__vmf_anon_prepare_slow(struct uhmm__fault *vmf);

static inline int uhmm__vmf_anon_prepare(struct uhmm__fault *vmf)
{
	return likely(load_acquire(&vmf->vma->anon_vma)) ? 0 : uhmm__vmf_anon_prepare_slow(vmf);
}
/*
 * A write to a page that is mapped read-only. Entered with the entry mapped and locked, and the same
 * as orig_pte; ends with it unmapped and unlocked.
 */
int uhmm__do_wp_page(struct uhmm__fault *vmf);
/*
 * Device-exclusive entries (exclusive.c). Context of the two that restore: PTL; the folio locked.
 * Models: remove_device_exclusive_entry(), restore_exclusive_pte(), try_restore_exclusive_pte().
 */
int uhmm__remove_device_exclusive_entry(struct uhmm__fault *vmf);
void uhmm__restore_exclusive_pte(struct uhmm_vma *vma, ptent_t *ptep, pte_t entry);
/* With the folio lock taken here; false if it is not free. */
bool uhmm__try_restore_exclusive_pte(struct uhmm_vma *vma, ptent_t *ptep, pte_t entry);
/* A fault that is userfaultfd's; VM_FAULT_*. Context: no PTL. Models: handle_userfault(). */
int uhmm__handle_userfault(struct uhmm__fault *vmf, unsigned int reason);
/* Whether a page may be mapped writable without a fault. Models: can_change_pte_writable(). */
bool uhmm__can_change_writable(struct uhmm_vma *vma, pte_t pte);
/* The page that an entry maps, NULL for none, the zero page and special ones. */
static inline struct uhmm__frame *vm_normal_page(struct uhmm_machine *m, pte_t pte)
{
	uhmm_pfn_t pfn = pte_pfn(pte);

	if (unlikely(pte.val & PTE_SPECIAL))
		return NULL;
	return pfn == m->zero_pfn ? NULL : pfn_to_frame(m, pfn);
}
/* Sleep until a migration entry is gone. Models: migration_entry_wait(). */
void uhmm__migration_entry_wait(struct uhmm_mm *mm, ptent_t *pmdp, uhmm_vaddr_t addr);

/* ---- machine ---- */

int uhmm__lru_init(struct uhmm_machine *m);
void uhmm__lru_exit(struct uhmm_machine *m);

#endif /* UHMM_MM_MM_H */
