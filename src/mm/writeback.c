// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Writing pages of regular files back. Models: the parts of mm/page-writeback.c and mm/msync.c that
 * the page tables see. Writing takes no time: there is no writeback state.
 */
#include <sys/mman.h>

#include "mm/file.h"
#include "mm/mm.h"

enum { FLUSH_BATCH = 32 };

/*
 * One locked page: every shared mapping write-protected, then clean. What an entry knew of stores
 * must not be lost in between. Models: folio_clear_dirty_for_io().
 */
static bool clear_dirty_for_io(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (uhmm__folio_mkclean(m, f))
		folio_set(f, PG_DIRTY);
	return folio_test_clear(f, PG_DIRTY);
}

/*
 * A file is mapped in whole pages, and what processes store behind its end is not for the disk. False:
 * all of the page lies there, and truncation will take it. Models: iomap_writeback_handle_eof().
 */
static bool handle_eof(struct uhmm__mapping *mapping, struct uhmm__frame *f)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	uint64_t size = load_acquire(&mapping->size), at = load_relaxed(&f->index)
							   << UHMM_PAGE_SHIFT;

	if (at >= size)
		return false;
	/* A tag stands for all of its page. */
	if (size - at < UHMM_PAGE_SIZE && m->config.content == UHMM_CONTENT_BYTES)
		uhmm__folio_zero_range(m, f, size - at, UHMM_PAGE_SIZE - (size - at));
	return true;
}

bool uhmm__folio_writeback(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__mapping *mapping = folio_mapping(f);
	int err;

	/* Whoever makes an entry writable has made the folio dirty. */
	if (!folio_test(f, PG_DIRTY) || !clear_dirty_for_io(m, f))
		return false;
	if (!handle_eof(mapping, f))
		return false;
	uhmm__spin_lock(&mapping->lock);
	err = uhmm__disk_write(mapping, f);
	uhmm__spin_unlock(&mapping->lock);
	if (err) {
		folio_set(f, PG_DIRTY);
		return false;
	}
	/* Models: folio_rotate_reclaimable(). */
	if (folio_test_clear(f, PG_RECLAIM))
		folio_clear(f, PG_ACTIVE);
	uhmm__count(UHMM_CNT_FILE_CLEANED);
	return true;
}

/* The first page in the cache at or after *index, with a reference; NULL: none up to @last. */
static struct uhmm__frame *next_page(struct uhmm__mapping *mapping, uint64_t *index, uint64_t last)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	struct uhmm__frame *f = NULL;
	uint64_t pfn;

	uhmm__spin_lock(&mapping->lock);
	if (uhmm__radix_next_present(&mapping->pages, *index, index, &pfn) && *index <= last) {
		f = pfn_to_frame(m, pfn);
		folio_get(f);
	}
	uhmm__spin_unlock(&mapping->lock);
	return f;
}

/* Dirty pages, with references, and where to go on: the file's id, the page offset. */
struct flush {
	uint64_t id, index;
	unsigned int nr;
	struct uhmm__frame *folio[FLUSH_BATCH];
};

/* Those of one file, as far as there is room. Context: the files lock. */
static void flush_collect_file(struct uhmm_file *file, struct flush *batch)
{
	struct uhmm__mapping *mapping = &file->mapping;
	uint64_t pfn;

	uhmm__spin_lock(&mapping->lock);
	while (batch->nr < FLUSH_BATCH &&
	       uhmm__radix_next_present(&mapping->pages, batch->index, &batch->index, &pfn)) {
		struct uhmm__frame *f = pfn_to_frame(file->machine, pfn);

		batch->index++;
		if (!folio_test(f, PG_DIRTY))
			continue;
		folio_get(f);
		batch->folio[batch->nr++] = f;
	}
	uhmm__spin_unlock(&mapping->lock);
}

static void flush_collect(struct uhmm_machine *m, struct flush *batch)
{
	struct uhmm_file *file;

	batch->nr = 0;
	uhmm__spin_lock(&m->files->lock);
	uhmm__for_each_entry(file, &m->files->list, list) {
		if (file->id < batch->id || file->kind == UHMM_FILE_MEMORY)
			continue;
		if (file->id > batch->id)
			batch->index = 0;
		batch->id = file->id;
		flush_collect_file(file, batch);
		if (batch->nr == FLUSH_BATCH)
			break;
	}
	uhmm__spin_unlock(&m->files->lock);
}

unsigned int uhmm__flush_files(struct uhmm_machine *m)
{
	struct flush batch = { 0 };
	unsigned int written = 0;

	do {
		flush_collect(m, &batch);
		for (unsigned int i = 0; i < batch.nr; i++) {
			struct uhmm__frame *f = batch.folio[i];

			/* Truncation may have taken it, and with it the file. */
			if (folio_trylock(f)) {
				if (folio_mapping(f))
					written += uhmm__folio_writeback(m, f);
				folio_unlock(m, f);
			}
			folio_put(m, f);
			uhmm__cond_resched();
		}
	} while (batch.nr == FLUSH_BATCH);
	return written;
}

static int64_t writeback(struct uhmm_file *file, uint64_t first, uint64_t last)
{
	struct uhmm_machine *m = file->machine;
	struct uhmm__frame *f;
	int64_t cleaned = 0;

	if (file->kind == UHMM_FILE_MEMORY)
		return 0;
	for (; (f = next_page(&file->mapping, &first, last)); first++) {
		folio_lock(m, f);
		if (folio_mapping(f) == &file->mapping)
			cleaned += uhmm__folio_writeback(m, f);
		folio_unlock(m, f);
		folio_put(m, f);
		if (first == last)
			break;
	}
	return cleaned;
}

int64_t uhmm_file_writeback(struct uhmm_file *file, uint64_t first, uint64_t npages)
{
	uint64_t last = first + npages - 1;
	int64_t cleaned;

	if (!npages)
		return 0;
	cleaned = writeback(file, first, last < first ? UINT64_MAX : last);
	uhmm__exit_to_user();
	return cleaned;
}

/*
 * Write a part back; -EIO: something of the file was lost, which is told once. Models: vfs_fsync_range(),
 * file_check_and_advance_wb_err().
 */
static int fsync_range(struct uhmm_file *file, uint64_t first, uint64_t last)
{
	writeback(file, first, last);
	return atomic_exchange_explicit(&file->wb_err, false, memory_order_relaxed) ? -EIO : 0;
}

int uhmm_file_fsync(struct uhmm_file *file)
{
	int err = fsync_range(file, 0, UINT64_MAX);

	uhmm__exit_to_user();
	return err;
}

/* Models: msync(2). */
static int do_msync(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, int flags)
{
	int unmapped = 0;

	while (start < end) {
		struct uhmm_vma *vma;
		struct uhmm_file *file;
		uhmm_vaddr_t next;
		uint64_t first;

		mmap_read_lock(mm);
		vma = uhmm__find_vma(mm, start);
		if (!vma || vma->start >= end) {
			mmap_read_unlock(mm);
			return -ENOMEM;
		}
		if (start < vma->start) {
			unmapped = -ENOMEM;
			start = vma->start;
		}
		next = MIN(end, vma->end);
		if (flags & MS_INVALIDATE && vma->flags & UHMM_VM_LOCKED) {
			mmap_read_unlock(mm);
			return -EBUSY;
		}
		file = flags & MS_SYNC && vma->flags & UHMM_VM_SHARED ? vma->file : NULL;
		first = vma_pgoff(vma, start);
		if (file)
			uhmm_file_get(file);
		mmap_read_unlock(mm);
		if (file) {
			int err = fsync_range(file, first,
					      first + ((next - start) >> UHMM_PAGE_SHIFT) - 1);

			uhmm_file_put(file);
			if (err)
				return err;
		}
		start = next;
	}
	return unmapped;
}

int uhmm_msync(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int flags)
{
	uhmm_vaddr_t end = ALIGN_UP(addr + len, UHMM_PAGE_SIZE);
	int err;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK ||
	    flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE) || (flags & MS_ASYNC && flags & MS_SYNC))
		return -EINVAL;
	if (end < addr)
		return -ENOMEM;
	err = do_msync(mm, addr, end, flags);
	uhmm__exit_to_user();
	return err;
}
