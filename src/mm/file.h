/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.h - files, their page caches, and who maps them.
 *
 * A page in the cache has the mapping's pointer in frame->mapping and its page offset in
 * frame->index; the cache holds one reference. Who has looked a folio up takes its lock and then
 * sees whether it is still there: truncation, migration and reclaim change both under the folio lock
 * and mapping->lock.
 */
#ifndef UHMM_MM_FILE_H
#define UHMM_MM_FILE_H

#include <uhmm/file.h>

#include "core/itree.h"
#include "core/radix.h"
#include "mm/frame.h"

struct uhmm_vma;
struct uhmm__fault;

/* Models: struct address_space. */
struct uhmm__mapping {
	struct uhmm__rwsem i_mmap_rwsem;
	struct uhmm__itree i_mmap;   /* [i_mmap_rwsem] VMAs, by page offset */
	struct uhmm__spinlock lock;  /* the kernel's i_pages.xa_lock */
	struct uhmm__radix pages;    /* [lock] page offset -> pfn, or slot_entry() */
	uint64_t nr_swapped;	     /* [lock] of these, slots */
	struct uhmm__radix disk;     /* [lock] page offset -> contents, as disk.c has them */
	struct uhmm__falloc *falloc; /* [lock] of a memory file, while it runs */
	_Atomic uint64_t size;	     /* [inode_lock:w + lock:w] bytes */
};

struct uhmm_file {
	struct uhmm__mapping mapping;
	struct uhmm_machine *machine;  /* [const] */
	enum uhmm_file_kind kind;      /* [const] */
	uint64_t id;		       /* [const] */
	bool foreign;		       /* [const] once it is mapped */
	_Atomic bool wb_err;	       /* [atomic] what was written is lost, and nobody was told */
	_Atomic uint32_t refs;	       /* [atomic] mappings, and users of the API */
	struct uhmm__rwsem inode_lock; /* size and contents by system calls: i_rwsem */
	struct list_head list;	       /* [files lock] by id */
};

/* All files of a machine. */
struct uhmm__files {
	struct uhmm__spinlock lock;
	struct list_head list; /* [lock] by id */
	uint64_t next_id;      /* [lock] */
};

int uhmm__files_init(struct uhmm_machine *m);
void uhmm__files_exit(struct uhmm_machine *m);

static inline struct uhmm_file *mapping_file(struct uhmm__mapping *mapping)
{
	return container_of(mapping, struct uhmm_file, mapping);
}

/* The mapping of a page of a file, NULL for anonymous pages and those that left their file. */
static inline struct uhmm__mapping *folio_mapping(struct uhmm__frame *f)
{
	uintptr_t v = load_acquire(&f->mapping);

	return v & MAPPING_ANON ? NULL : (struct uhmm__mapping *)v;
}

/* Pages up to the end of the file. */
static inline uint64_t mapping_npages(const struct uhmm__mapping *mapping)
{
	return (load_acquire(&mapping->size) + UHMM_PAGE_SIZE - 1) >> UHMM_PAGE_SHIFT;
}

/* What stands in the page cache for a page that is on swap. Models: swp_to_radix_entry(). */
static inline uint64_t slot_entry(uint64_t slot)
{
	return slot | BIT(63);
}

static inline bool entry_is_slot(uint64_t entry)
{
	return entry & BIT(63);
}

static inline uint64_t entry_slot(uint64_t entry)
{
	return entry & ~BIT(63);
}

/* ---- page cache (file.c) ---- */

/* Somebody uses a page that was only allocated, which holds zeroes. Models: folio_mark_uptodate(). */
static inline void folio_make_uptodate(struct uhmm__frame *f)
{
	if (unlikely(!folio_test(f, PG_UPTODATE)))
		folio_set(f, PG_UPTODATE);
}

/* The folio at a page offset, with a reference, or NULL. Models: filemap_get_folio(). */
struct uhmm__frame *uhmm__mapping_get(struct uhmm__mapping *mapping, uint64_t index);
/*
 * The same, from swap if it is there; *@out is NULL for a hole. @vmf: the fault that it is for, or
 * NULL. Returns: 0; -ENOMEM; -EAGAIN: such a fault would have to wait, and must not.
 * Models: shmem_get_folio_gfp(SGP_READ).
 */
int uhmm__mapping_find(struct uhmm__mapping *mapping, uint64_t index, const struct uhmm__fault *vmf,
		       struct uhmm__frame **out);
/* What a page is wanted for. Models: enum sgp_type. */
enum uhmm__sgp {
	UHMM__SGP_CACHE,  /* below the end of the file alone */
	UHMM__SGP_WRITE,  /* or beyond it; context: inode_lock for writing */
	UHMM__SGP_FALLOC, /* the same, and one that is made is not uptodate until somebody uses it */
};

/*
 * The same, and one that is not there is made, with what the disk has, uptodate. Returns: as above,
 * or -EFAULT if the offset lies beyond the end. Models: __filemap_get_folio(FGP_CREAT),
 * shmem_get_folio_gfp().
 */
int uhmm__mapping_get_create(struct uhmm__mapping *mapping, uint64_t index, enum uhmm__sgp sgp,
			     const struct uhmm__fault *vmf, struct uhmm__frame **out);
/* Whether a page offset still has this entry. Models: shmem_confirm_swap(). */
bool uhmm__mapping_confirm(struct uhmm__mapping *mapping, uint64_t index, uint64_t entry);
/* Bring [first, first + npages) of a regular file into the cache, as far as it goes. 0 or -ENOMEM. */
int uhmm__mapping_populate(struct uhmm__mapping *mapping, uint64_t first, uint64_t npages);
/*
 * @dst takes @src's place, if nobody holds a reference to @src but its @expected ones.
 * Context: both locked, @src unmapped. Models: __folio_migrate_mapping() of a page in the cache.
 */
bool uhmm__mapping_replace(struct uhmm__mapping *mapping, struct uhmm__frame *dst,
			   struct uhmm__frame *src, uint32_t expected);
/*
 * Take a locked folio out, with what the disk has of it; the cache's reference is the caller's.
 * Models: filemap_remove_folio() of truncation.
 */
void uhmm__mapping_remove(struct uhmm__mapping *mapping, struct uhmm__frame *f);
/* The same for one that is broken: the disk keeps what it has. Models: truncate_error_folio(). */
void uhmm__mapping_lose(struct uhmm__mapping *mapping, struct uhmm__frame *f);
/*
 * Take a locked, unmapped folio out for good, with the cache's reference and the caller's, if there
 * are no others. False: there are, or it is dirty. Models: __remove_mapping().
 */
bool uhmm__mapping_evict(struct uhmm__mapping *mapping, struct uhmm__frame *f);
/* Pages of files in RAM, of the whole machine. */
uint64_t uhmm__files_nr_cached(struct uhmm_machine *m);
/*
 * The first page offset from *index on that is in the cache, on swap or on the disk. Context: the
 * lock, or no task inside the library.
 */
bool uhmm__mapping_next(const struct uhmm__mapping *mapping, uint64_t *index);
/* What a page offset holds, wherever that is. @buf: a page. */
void uhmm__file_peek(struct uhmm_file *file, uint64_t index, void *buf);

/* ---- memory files (shmem.c) ---- */

/*
 * Pages that exist, though nobody wrote to them: they are dirty, so that they go to swap and are not
 * dropped. What lies beyond the end is left out. Returns: 0; -ENOMEM, and what it made is gone again.
 * Context: takes inode_lock. Models: shmem_fallocate().
 */
int uhmm__shmem_fallocate(struct uhmm_file *file, uint64_t first, uint64_t npages);
/*
 * Contents of a locked, unmapped folio to a slot, which takes its place in the page cache; the folio
 * is in the swap cache from then on. Context: two references, of the cache and the caller. False:
 * swap is full, or a fallocate() that is not done yet may have to take it back. Models: shmem_writeout().
 */
bool uhmm__shmem_writeout(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * The page of a slot back into the page cache, with a reference. Returns: as uhmm__mapping_find(), or
 * -EEXIST: the page offset has another entry by now. Models: shmem_swapin_folio().
 */
int uhmm__shmem_swapin(struct uhmm__mapping *mapping, uint64_t index, uint64_t slot,
		       const struct uhmm__fault *vmf, struct uhmm__frame **out);

/* ---- the disk of a regular file (disk.c); context: mapping->lock ---- */

/* 0, or -ENOMEM: the host's. */
int uhmm__disk_write(struct uhmm__mapping *mapping, struct uhmm__frame *f);
/* @f holds zeroes. */
void uhmm__disk_read(struct uhmm__mapping *mapping, struct uhmm__frame *f);
void uhmm__disk_peek(struct uhmm__mapping *mapping, uint64_t index, void *buf);
/* Part of a page. Context: contents are bytes. */
void uhmm__disk_zero(struct uhmm__mapping *mapping, uint64_t index, size_t off, size_t len);
void uhmm__disk_erase(struct uhmm__mapping *mapping, uint64_t index);

/* ---- unmapping (truncate.c) ---- */

/* Zeroes in a part of a page; contents are bytes. Context: folio lock. Models: folio_zero_range(). */
void uhmm__folio_zero_range(struct uhmm_machine *m, struct uhmm__frame *f, size_t off, size_t len);
/*
 * A write or a new size begins beyond the end: what processes stored behind that, in its page, is no
 * part of the file. Context: inode_lock for writing. Models: ext4_block_zero_eof().
 */
void uhmm__file_zero_eof(struct uhmm_file *file, uint64_t to);
/* Drop the pages [first, last] that are in the cache, mapped or not. */
void uhmm__mapping_truncate(struct uhmm__mapping *mapping, uint64_t first, uint64_t last);
/*
 * Unmap [first, last] from every VMA; copies of private mappings only with @even_cows.
 * Models: unmap_mapping_pages().
 */
void uhmm__unmap_mapping(struct uhmm__mapping *mapping, uint64_t first, uint64_t last,
			 bool even_cows);

/* ---- writeback (writeback.c) ---- */

/*
 * Write a locked folio of a regular file to its disk, if it is dirty. It is clean and write-protected
 * afterwards, and one that reclaim waits for the next to go. Returns: whether it was written.
 * Models: write_cache_pages() for one folio, folio_end_writeback().
 */
bool uhmm__folio_writeback(struct uhmm_machine *m, struct uhmm__frame *f);
/*
 * The same for all pages of the machine's regular files, but for those that somebody has locked. Linux has
 * threads for it, which reclaim wakes and waits for; here the task does it itself. Returns: how many
 * were written. Models: wakeup_flusher_threads(), reclaim_throttle(VMSCAN_THROTTLE_WRITEBACK).
 */
unsigned int uhmm__flush_files(struct uhmm_machine *m);

/* ---- VMAs of a file (file.c) ---- */

/* The file's VMA, with a reference to the file. Before it is linked. */
void uhmm__vma_set_file(struct uhmm_vma *vma, struct uhmm_file *file);
/*
 * Into and out of the file's interval tree; also for VMAs without a file, and twice. @prev: the VMA of
 * the same part of the file that it comes next after; NULL: it comes after all of them.
 */
void uhmm__vma_link_file(struct uhmm_vma *vma, struct uhmm_vma *prev);
void uhmm__vma_put_file(struct uhmm_vma *vma);

#endif /* UHMM_MM_FILE_H */
