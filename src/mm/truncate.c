// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Taking pages from files, and calling them clean. Models: mm/truncate.c,
 * mm/memory.c:unmap_mapping_range(), and the parts of mm/page-writeback.c and mm/msync.c that the
 * page tables see.
 */
#include <string.h>
#include <sys/mman.h>

#include "mm/file.h"
#include "mm/mm.h"

/* ---- unmapping ---- */

void uhmm__unmap_mapping(struct uhmm__mapping *mapping, uint64_t first, uint64_t last,
			 bool even_cows)
{
	struct uhmm__itree_node *node;

	if (first > last)
		return;
	/* The lock keeps each VMA where it is, and its tables. */
	uhmm__down_read(&mapping->i_mmap_rwsem);
	uhmm__itree_for_each(node, &mapping->i_mmap, first, last) {
		struct uhmm_vma *vma = container_of(node, struct uhmm_vma, i_mmap_node);
		uhmm_vaddr_t start = vma_address(vma, MAX(first, node->start));
		uhmm_vaddr_t end = vma_address(vma, MIN(last, node->last)) + UHMM_PAGE_SIZE;

		uhmm__zap_file_range(vma, start, end, even_cows);
	}
	uhmm__up_read(&mapping->i_mmap_rwsem);
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

void uhmm__mapping_truncate(struct uhmm__mapping *mapping, uint64_t first, uint64_t last)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	struct uhmm__frame *f;
	uint64_t at = first;

	while ((f = next_page(mapping, &at, last))) {
		bool mine;

		folio_lock(m, f);
		mine = folio_mapping(f) == mapping;
		if (mine) {
			/* A fault may have mapped it since the range was unmapped. */
			if (folio_mapped(f))
				uhmm__unmap_mapping(mapping, at, at, false);
			uhmm__mapping_remove(mapping, f);
			uhmm__count(UHMM_CNT_FILE_TRUNCATED);
		}
		folio_unlock(m, f);
		if (mine)
			folio_put(m, f); /* the cache's */
		folio_put(m, f);
		uhmm__cond_resched();
	}
}

/* ---- truncation ---- */

/* Zero [from, to), which lies in one page, if that is in the cache. */
static void zero_partial(struct uhmm_file *file, uint64_t from, uint64_t to)
{
	static const uint8_t zeroes[UHMM_PAGE_SIZE];
	struct uhmm_machine *m = file->machine;
	struct uhmm__frame *f;

	/* A tag stands for all of its page. */
	if (from >= to || m->config.content == UHMM_CONTENT_TAG)
		return;
	f = uhmm__mapping_get(&file->mapping, from >> UHMM_PAGE_SHIFT);
	if (!f)
		return;
	folio_lock(m, f);
	uhmm__write_frame(m, frame_pfn(m, f), from & ~UHMM_PAGE_MASK, zeroes, to - from);
	folio_set(f, PG_DIRTY);
	folio_unlock(m, f);
	folio_put(m, f);
}

static void set_size(struct uhmm_file *file, uint64_t bytes)
{
	uhmm__spin_lock(&file->mapping.lock);
	store_release(&file->mapping.size, bytes);
	uhmm__spin_unlock(&file->mapping.lock);
}

void uhmm__file_shrink(struct uhmm_file *file, uint64_t bytes)
{
	uint64_t first = ALIGN_UP(bytes, UHMM_PAGE_SIZE) >> UHMM_PAGE_SHIFT;

	/* From here on nobody adds a page beyond, and a fault there is SIGBUS. */
	set_size(file, bytes);
	uhmm__unmap_mapping(&file->mapping, first, UINT64_MAX, true);
	uhmm__mapping_truncate(&file->mapping, first, UINT64_MAX);
	/* Again: a copy may have been made of a page that was not yet gone. */
	uhmm__unmap_mapping(&file->mapping, first, UINT64_MAX, true);
}

int uhmm_file_truncate(struct uhmm_file *file, uint64_t bytes)
{
	if (bytes > UHMM_FILE_MAX_BYTES)
		return -EFBIG;
	uhmm__down_write(&file->inode_lock);
	if (bytes < uhmm_file_size(file)) {
		uhmm__file_shrink(file, bytes);
		zero_partial(file, bytes, ALIGN_UP(bytes, UHMM_PAGE_SIZE));
	} else {
		set_size(file, bytes);
	}
	uhmm__up_write(&file->inode_lock);
	uhmm__exit_to_user();
	return 0;
}

int uhmm_file_punch_hole(struct uhmm_file *file, uint64_t offset, uint64_t bytes)
{
	uint64_t end = offset + bytes, first, last;

	if (!bytes || end < offset || end > UHMM_FILE_MAX_BYTES)
		return -EINVAL;
	first = ALIGN_UP(offset, UHMM_PAGE_SIZE);
	last = ALIGN_DOWN(end, UHMM_PAGE_SIZE);
	uhmm__down_write(&file->inode_lock);
	if (first < last) {
		uint64_t from = first >> UHMM_PAGE_SHIFT, to = (last >> UHMM_PAGE_SHIFT) - 1;

		uhmm__unmap_mapping(&file->mapping, from, to, false);
		uhmm__mapping_truncate(&file->mapping, from, to);
	}
	if (first > last) {
		/* Within one page. */
		zero_partial(file, offset, end);
	} else {
		zero_partial(file, offset, first);
		zero_partial(file, last, end);
	}
	uhmm__up_write(&file->inode_lock);
	uhmm__exit_to_user();
	return 0;
}

/* ---- writeback ---- */

/*
 * One locked page: every shared mapping write-protected, then clean. What an entry knew of stores
 * must not be lost in between. Models: folio_clear_dirty_for_io().
 */
static bool clean_page(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (uhmm__folio_mkclean(m, f))
		folio_set(f, PG_DIRTY);
	if (!folio_test_clear(f, PG_DIRTY))
		return false;
	uhmm__count(UHMM_CNT_FILE_CLEANED);
	return true;
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
			cleaned += clean_page(m, f);
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
			writeback(file, first, first + ((next - start) >> UHMM_PAGE_SHIFT) - 1);
			uhmm_file_put(file);
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
