/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * file.h - simulated files with a page cache: what MAP_SHARED and MAP_PRIVATE of a file map.
 *
 * A regular file has pages that are in the page cache and others that are not: the first access to
 * one of these is a major fault and reads the disk, which has what was written back, and else zeroes.
 * What is written stays in the cache, dirty, until uhmm_file_writeback(), or reclaim, writes it back;
 * reclaim drops clean pages to make room. Reading and writing the disk takes no time.
 * A memory file (tmpfs, memfd_create(2), and what shared anonymous memory is made of) has no disk
 * behind it: a page that is not there is a hole, and a fault fills it, or it is on the machine's swap
 * device, and comes back as soon as it is needed.
 *
 * Calls need a current task of the file's machine, except those that say so. They take no mmap_lock
 * and must be made without one, without folio locks and outside notifier callbacks; they may sleep,
 * and truncation and writeback run notifier callbacks of every mm that maps the file.
 */
#ifndef UHMM_FILE_H
#define UHMM_FILE_H

#include <uhmm/machine.h>
#include <uhmm/types.h>

UHMM_BEGIN_DECLS

struct uhmm_file;

enum uhmm_file_kind {
	/*
	 * On a file system with page_mkwrite, as ext4 and xfs are: shared pages are mapped read-only
	 * until they are written, so that the file system learns of it.
	 */
	UHMM_FILE_REGULAR,
	/* tmpfs: shared pages of a writable mapping are writable at once. */
	UHMM_FILE_MEMORY,
};

/* Largest size of a file in bytes, Linux's MAX_LFS_FILESIZE rounded down to pages. */
#define UHMM_FILE_MAX_BYTES (0x7fffffffffffffffUL & UHMM_PAGE_MASK)

/**
 * uhmm_file_create() - a new file without a page in its cache
 * @m: machine
 * @kind: regular or memory file
 * @bytes: size
 * @out: (out) the file, with one reference
 * Returns: 0; -EINVAL unknown @kind; -EFBIG @bytes above UHMM_FILE_MAX_BYTES; -ENOMEM.
 * Context: with or without a current task.
 * Lifetime: uhmm_file_put() drops the reference. Each mapping holds one of its own; the pages go
 * with the last. Models: open(2) of a new file, memfd_create(2).
 */
UHMM_API int uhmm_file_create(struct uhmm_machine *m, enum uhmm_file_kind kind, uint64_t bytes,
			      struct uhmm_file **out) UHMM_MUST_CHECK;

/** uhmm_file_get() - take a reference; @file must have one. Models: get_file(). */
UHMM_API void uhmm_file_get(struct uhmm_file *file);

/**
 * uhmm_file_put() - drop a reference; NULL allowed
 * Context: with or without a current task; may sleep. Models: fput(), evict_inode().
 */
UHMM_API void uhmm_file_put(struct uhmm_file *file);

/**
 * uhmm_file_set_foreign() - the file is another user's, and the processes may only read it
 * Before it is mapped. A shared mapping that may be written is -EACCES from then on, to mmap and to
 * mprotect, and MADV_PAGEOUT leaves the file's pages alone: else it would tell whether others use them.
 * uhmm_file_write() and the like stand for the owner. Models: inode_permission(MAY_WRITE) and
 * file_owner_or_capable() that say no.
 */
UHMM_API void uhmm_file_set_foreign(struct uhmm_file *file);

/** uhmm_file_id() - number of the file in its machine: 1 for the first; shared anonymous memory
 * counts, too.
 */
UHMM_API uint64_t uhmm_file_id(const struct uhmm_file *file);

/** uhmm_file_kind() - as it was created. */
UHMM_API enum uhmm_file_kind uhmm_file_kind(const struct uhmm_file *file);

/** uhmm_file_size() - size in bytes now. Context: any. Models: i_size_read(). */
UHMM_API uint64_t uhmm_file_size(const struct uhmm_file *file);

/** uhmm_file_nr_cached() - number of pages in the page cache now. Models: mapping->nrpages. */
UHMM_API uint64_t uhmm_file_nr_cached(struct uhmm_file *file);

/** uhmm_file_nr_swapped() - number of pages of a memory file that are on swap now. Models:
 * shmem_inode_info.swapped.
 */
UHMM_API uint64_t uhmm_file_nr_swapped(struct uhmm_file *file);

/**
 * uhmm_file_nr_dirty() - number of pages in the cache that are dirty
 * As the page cache knows it: a store through a writable entry of a memory file shows only when the
 * entry goes. Models: PAGECACHE_TAG_DIRTY, by looking at each page.
 */
UHMM_API uint64_t uhmm_file_nr_dirty(struct uhmm_file *file);

/**
 * uhmm_file_truncate() - set the size
 * @file: file
 * @bytes: new size; pages wholly beyond it go, and their mappings, with copies that private
 * mappings made: an access there is SIGBUS from now on
 * Returns: 0, or -EFBIG.
 * The rest of the last page is zeroed, even if the size is the same, if contents are bytes: a tag stands for
 * all of its page, and stays. So is, when a regular file grows, what was stored behind its end.
 * Models: ftruncate(2), truncate_pagecache(), shmem_setattr().
 */
UHMM_API int uhmm_file_truncate(struct uhmm_file *file, uint64_t bytes) UHMM_MUST_CHECK;

/**
 * uhmm_file_punch_hole() - give up a part of the contents, keep the size
 * @file: file
 * @offset, @bytes: range; whole pages in it are dropped, parts of others zeroed (if contents are
 * bytes). Copies that private mappings made stay.
 * Returns: 0; -EINVAL @bytes 0 or the range overflows.
 * Models: fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), shmem_fallocate().
 */
UHMM_API int uhmm_file_punch_hole(struct uhmm_file *file, uint64_t offset,
				  uint64_t bytes) UHMM_MUST_CHECK;

/**
 * uhmm_file_populate() - bring pages into the page cache
 * @file: file
 * @first, @npages: page offsets; what lies beyond the end is left out
 * Returns: 0; -ENOMEM: a regular file has some of them, a memory file none of those that were not there
 * before, unless somebody has used them meanwhile.
 * Context: waits for writes to a memory file. Models: readahead(2) of a regular file, fallocate(2) of a
 * memory file.
 */
UHMM_API int uhmm_file_populate(struct uhmm_file *file, uint64_t first,
				uint64_t npages) UHMM_MUST_CHECK;

/**
 * uhmm_file_read() - read through the page cache
 * @file: file
 * @offset: first byte
 * @buf: (out) data
 * @len: bytes
 * Returns: bytes read, fewer than @len at the end of the file or of what could be read; -ENOMEM; -EIO the
 * first page is one of a memory file that is broken.
 * A hole of a memory file reads as zeroes and stays one; a page of a regular file comes into the
 * cache. Models: pread(2), filemap_read(), shmem_file_read_iter().
 */
UHMM_API int64_t uhmm_file_read(struct uhmm_file *file, uint64_t offset, void *buf, uint64_t len);

/**
 * uhmm_file_write() - write through the page cache
 * @file: file; grows if the range ends beyond its size
 * @offset: first byte
 * @buf: data
 * @len: bytes
 * Returns: bytes written, fewer than @len if memory ran out or a page of a memory file is broken; -ENOMEM,
 * -EIO none; -EFBIG.
 * Processes that map a page see the new bytes; its entries stay as they are.
 * Models: pwrite(2), generic_perform_write().
 */
UHMM_API int64_t uhmm_file_write(struct uhmm_file *file, uint64_t offset, const void *buf,
				 uint64_t len);

/**
 * uhmm_file_writeback() - write dirty pages back
 * @file: file
 * @first, @npages: page offsets
 * Returns: number of pages that were dirty and are clean now; 0 for a memory file, which has nowhere
 * to write to. A page that the host has no memory for stays dirty and is not counted.
 * Every shared mapping of such a page is made read-only and clean, so that the next store faults; what
 * was stored behind the end of the file, in its last page, becomes zeroes (if contents are bytes).
 * Models: sync_file_range(2), folio_clear_dirty_for_io(), folio_mkclean(); no time passes.
 */
UHMM_API int64_t uhmm_file_writeback(struct uhmm_file *file, uint64_t first, uint64_t npages);

/**
 * uhmm_file_fsync() - write all dirty pages back, and ask whether all that was written is there
 * @file: file
 * Returns: 0; -EIO a dirty page of a regular file broke (uhmm_memory_failure()) and is lost. That is told once
 * to who asks first, here or by msync() of a mapping: a file stands for one open file description.
 * Context: takes the pages' locks; sleeps.
 * Models: fsync(2), file_write_and_wait_range(); of a memory file noop_fsync().
 */
UHMM_API int uhmm_file_fsync(struct uhmm_file *file) UHMM_MUST_CHECK;

UHMM_END_DECLS

#endif /* UHMM_FILE_H */
