// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Taking pages from files. Models: mm/truncate.c, mm/memory.c:unmap_mapping_range().
 */
#include <string.h>

#include "mm/file.h"
#include "mm/mm.h"
#include "mm/swap.h"

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

/*
 * The first page offset from *index to @last that has anything. *@out: the folio there, with a
 * reference; NULL: it was on swap or the disk, and is gone. False: there is nothing.
 */
static bool next_to_go(struct uhmm__mapping *mapping, uint64_t *index, uint64_t last,
		       struct uhmm__frame **out)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	uint64_t entry;
	bool found;

	*out = NULL;
	uhmm__spin_lock(&mapping->lock);
	found = uhmm__mapping_next(mapping, index) && *index <= last;
	entry = found ? uhmm__radix_load(&mapping->pages, *index) : 0;
	if (entry_is_slot(entry)) {
		uhmm__radix_erase(&mapping->pages, *index);
		mapping->nr_swapped--;
	} else if (entry) {
		*out = pfn_to_frame(m, entry);
		folio_get(*out);
	} else if (found) {
		uhmm__disk_erase(mapping, *index);
	}
	uhmm__spin_unlock(&mapping->lock);
	if (entry_is_slot(entry))
		uhmm__swap_put_entry(m, entry_slot(entry));
	return found;
}

void uhmm__mapping_truncate(struct uhmm__mapping *mapping, uint64_t first, uint64_t last)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	struct uhmm__frame *f;
	uint64_t at = first;

	while (next_to_go(mapping, &at, last, &f)) {
		bool mine;

		if (!f) {
			uhmm__count(UHMM_CNT_FILE_TRUNCATED);
			continue;
		}
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

/*
 * The folio at a page offset, locked and still there; NULL: there is none, and of what the disk has
 * [off, off + len) is zeroed. Where no RAM is left to bring it back from swap it stays as it is, as
 * in Linux.
 */
static struct uhmm__frame *lock_or_zero(struct uhmm__mapping *mapping, uint64_t index, size_t off,
					size_t len)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;

	for (;;) {
		struct uhmm__frame *f;
		bool none;

		if (uhmm__mapping_find(mapping, index, NULL, &f))
			return NULL;
		if (f) {
			folio_lock(m, f);
			if (folio_mapping(f) == mapping)
				return f;
			/* It was migrated or reclaimed meanwhile. */
			folio_unlock(m, f);
			folio_put(m, f);
			continue;
		}
		uhmm__spin_lock(&mapping->lock);
		none = !uhmm__radix_load(&mapping->pages, index);
		if (none)
			uhmm__disk_zero(mapping, index, off, len);
		uhmm__spin_unlock(&mapping->lock);
		if (none)
			return NULL;
	}
}

void uhmm__folio_zero_range(struct uhmm_machine *m, struct uhmm__frame *f, size_t off, size_t len)
{
	static const uint8_t zeroes[UHMM_PAGE_SIZE];

	uhmm__write_frame(m, frame_pfn(m, f), off, zeroes, len);
}

/* Zero [from, to), which lies in one page. */
static void zero_partial(struct uhmm_file *file, uint64_t from, uint64_t to)
{
	struct uhmm_machine *m = file->machine;
	struct uhmm__frame *f;

	/* A tag stands for all of its page. */
	if (from >= to || m->config.content == UHMM_CONTENT_TAG)
		return;
	f = lock_or_zero(&file->mapping, from >> UHMM_PAGE_SHIFT, from & ~UHMM_PAGE_MASK,
			 to - from);
	if (!f)
		return;
	uhmm__folio_zero_range(m, f, from & ~UHMM_PAGE_MASK, to - from);
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

void uhmm__file_zero_eof(struct uhmm_file *file, uint64_t to)
{
	uint64_t size = uhmm_file_size(file);

	/* Linux leaves it there in memory files. */
	if (file->kind == UHMM_FILE_REGULAR)
		zero_partial(file, size, MIN(to, ALIGN_UP(size, UHMM_PAGE_SIZE)));
}

/*
 * A size that is not larger, and nothing beyond it is left, though the size be the same. Context: inode_lock
 * for writing.
 */
static void shrink(struct uhmm_file *file, uint64_t bytes)
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
	if (bytes <= uhmm_file_size(file)) {
		shrink(file, bytes);
		zero_partial(file, bytes, ALIGN_UP(bytes, UHMM_PAGE_SIZE));
	} else {
		uhmm__file_zero_eof(file, bytes);
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
