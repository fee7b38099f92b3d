// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Files: life, page cache, reading and writing. Models: the parts of mm/filemap.c and mm/shmem.c
 * that do not fault.
 *
 * A page is added under mapping->lock only below the size, unless by a write, which excludes
 * truncation; and the size is changed under the same lock before pages are removed: so a page can
 * never come back behind a truncation, which is what the kernel's invalidate_lock is for.
 */
#include "mm/file.h"

#include <string.h>

#include "core/alloc.h"
#include "mm/mm.h"
#include "mm/swap.h"

/* ---- all files ---- */

int uhmm__files_init(struct uhmm_machine *m)
{
	m->files = uhmm__alloc(m, sizeof(*m->files));
	if (!m->files)
		return -ENOMEM;
	uhmm__spin_init(&m->files->lock, UHMM__LC_FILES);
	list_init(&m->files->list);
	return 0;
}

void uhmm__files_exit(struct uhmm_machine *m)
{
	if (!m->files)
		return;
	uhmm__free(m, m->files, sizeof(*m->files));
	m->files = NULL;
}

/* ---- life ---- */

static int file_create(struct uhmm_machine *m, enum uhmm_file_kind kind, uint64_t bytes,
		       struct uhmm_file **out)
{
	struct uhmm_file *file = uhmm__alloc(m, sizeof(*file));

	if (!file)
		return -ENOMEM;
	file->machine = m;
	file->kind = kind;
	store_relaxed(&file->refs, 1);
	store_relaxed(&file->mapping.size, bytes);
	uhmm__rwsem_init(&file->inode_lock, UHMM__LC_INODE);
	uhmm__rwsem_init(&file->mapping.i_mmap_rwsem, UHMM__LC_RMAP_FILE);
	uhmm__spin_init(&file->mapping.lock, UHMM__LC_PAGE_CACHE);
	uhmm__radix_init(&file->mapping.pages, &m->allocator);
	uhmm__radix_init(&file->mapping.disk, &m->allocator);
	uhmm__spin_lock(&m->files->lock);
	file->id = ++m->files->next_id;
	list_add_tail(&file->list, &m->files->list);
	uhmm__spin_unlock(&m->files->lock);
	*out = file;
	return 0;
}

/* Without a current task a call is the machine's own. */
int uhmm_file_create(struct uhmm_machine *m, enum uhmm_file_kind kind, uint64_t bytes,
		     struct uhmm_file **out)
{
	int err;

	if ((unsigned int)kind > UHMM_FILE_MEMORY)
		return -EINVAL;
	if (bytes > UHMM_FILE_MAX_BYTES)
		return -EFBIG;
	if (uhmm__current())
		return file_create(m, kind, bytes, out);
	uhmm__boot_task_enter(m);
	err = file_create(m, kind, bytes, out);
	uhmm__boot_task_leave(m, NULL);
	return err;
}

void uhmm_file_get(struct uhmm_file *file)
{
	atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
}

/* Nobody knows the file any more but who holds one of its folios. */
static void file_free(struct uhmm_file *file)
{
	struct uhmm_machine *m = file->machine;

	uhmm__spin_lock(&m->files->lock);
	list_del(&file->list);
	uhmm__spin_unlock(&m->files->lock);
	uhmm__mapping_truncate(&file->mapping, 0, UINT64_MAX);
	uhmm__radix_destroy(&file->mapping.pages);
	uhmm__radix_destroy(&file->mapping.disk);
	uhmm__free(m, file, sizeof(*file));
}

void uhmm_file_put(struct uhmm_file *file)
{
	struct uhmm_machine *m;

	if (!file || atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (uhmm__current()) {
		file_free(file);
		return;
	}
	m = file->machine;
	uhmm__boot_task_enter(m);
	file_free(file);
	uhmm__boot_task_leave(m, NULL);
}

void uhmm_file_set_foreign(struct uhmm_file *file)
{
	file->foreign = true;
}

uint64_t uhmm_file_id(const struct uhmm_file *file)
{
	return file->id;
}

enum uhmm_file_kind uhmm_file_kind(const struct uhmm_file *file)
{
	return file->kind;
}

uint64_t uhmm_file_size(const struct uhmm_file *file)
{
	return load_acquire(&file->mapping.size);
}

uint64_t uhmm_file_nr_cached(struct uhmm_file *file)
{
	uint64_t nr;

	uhmm__spin_lock(&file->mapping.lock);
	nr = file->mapping.pages.nr - file->mapping.nr_swapped;
	uhmm__spin_unlock(&file->mapping.lock);
	return nr;
}

uint64_t uhmm_file_nr_swapped(struct uhmm_file *file)
{
	uint64_t nr;

	uhmm__spin_lock(&file->mapping.lock);
	nr = file->mapping.nr_swapped;
	uhmm__spin_unlock(&file->mapping.lock);
	return nr;
}

uint64_t uhmm__files_nr_cached(struct uhmm_machine *m)
{
	struct uhmm_file *file;
	uint64_t nr = 0;

	uhmm__spin_lock(&m->files->lock);
	uhmm__for_each_entry(file, &m->files->list, list)
		nr += uhmm_file_nr_cached(file);
	uhmm__spin_unlock(&m->files->lock);
	return nr;
}

struct count_dirty {
	struct uhmm_machine *m;
	uint64_t nr;
};

static void count_dirty(void *ctx, uint64_t index uhmm_unused, uint64_t entry)
{
	struct count_dirty *c = ctx;

	if (!entry_is_slot(entry))
		c->nr += folio_test(pfn_to_frame(c->m, entry), PG_DIRTY);
}

uint64_t uhmm_file_nr_dirty(struct uhmm_file *file)
{
	struct count_dirty c = { file->machine, 0 };

	uhmm__spin_lock(&file->mapping.lock);
	uhmm__radix_for_each(&file->mapping.pages, 0, UINT64_MAX, count_dirty, &c)
		;
	uhmm__spin_unlock(&file->mapping.lock);
	return c.nr;
}

/* ---- page cache ---- */

/* The entry at a page offset; *@f: the folio that it names, with a reference, or NULL. */
static uint64_t get_entry(struct uhmm__mapping *mapping, uint64_t index, struct uhmm__frame **f)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	uint64_t entry;

	*f = NULL;
	uhmm__spin_lock(&mapping->lock);
	entry = uhmm__radix_load(&mapping->pages, index);
	if (entry && likely(!entry_is_slot(entry))) {
		/* The cache's reference keeps it. */
		*f = pfn_to_frame(m, entry);
		folio_get(*f);
	}
	uhmm__spin_unlock(&mapping->lock);
	return entry;
}

struct uhmm__frame *uhmm__mapping_get(struct uhmm__mapping *mapping, uint64_t index)
{
	struct uhmm__frame *f;

	(void)get_entry(mapping, index, &f);
	return f;
}

bool uhmm__mapping_confirm(struct uhmm__mapping *mapping, uint64_t index, uint64_t entry)
{
	bool same;

	uhmm__spin_lock(&mapping->lock);
	same = uhmm__radix_load(&mapping->pages, index) == entry;
	uhmm__spin_unlock(&mapping->lock);
	return same;
}

int uhmm__mapping_find(struct uhmm__mapping *mapping, uint64_t index, const struct uhmm__fault *vmf,
		       struct uhmm__frame **out)
{
	for (;;) {
		uint64_t entry = get_entry(mapping, index, out);
		int err;

		if (likely(!entry_is_slot(entry)))
			return 0;
		err = uhmm__shmem_swapin(mapping, index, entry_slot(entry), vmf, out);
		if (err != -EEXIST)
			return err;
	}
}

/* A page for the cache that nobody knows yet, frozen. */
static struct uhmm__frame *cache_page_new(struct uhmm_file *file, uint64_t index,
					  enum uhmm__sgp sgp)
{
	struct uhmm__frame *f = uhmm__folio_alloc_frozen(file->machine, true);
	uint32_t flags = sgp == UHMM__SGP_FALLOC ? 0 : (uint32_t)BIT(PG_UPTODATE);

	if (!f)
		return NULL;
	if (file->kind == UHMM_FILE_MEMORY)
		flags |= (uint32_t)BIT(PG_SWAPBACKED);
	store_relaxed(&f->flags, flags);
	store_relaxed(&f->index, index);
	store_release(&f->mapping, (uintptr_t)&file->mapping);
	return f;
}

/*
 * A new page into its place; one reference is the cache's, one the caller's. Returns: 0; -ENOMEM; -EFAULT
 * beyond the end; -EEXIST there is one.
 */
static int add_to_page_cache(struct uhmm__mapping *mapping, uint64_t index, enum uhmm__sgp sgp,
			     struct uhmm__frame *new)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	int err;

	uhmm__spin_lock(&mapping->lock);
	if (uhmm__radix_load(&mapping->pages, index)) {
		err = -EEXIST;
	} else if (sgp == UHMM__SGP_CACHE && index >= mapping_npages(mapping)) {
		err = -EFAULT;
	} else {
		err = uhmm__radix_store(&mapping->pages, index, frame_pfn(m, new));
		if (!err) {
			uhmm__disk_read(mapping, new);
			store_release(&new->refcount, 2);
		}
	}
	uhmm__spin_unlock(&mapping->lock);
	return err;
}

int uhmm__mapping_get_create(struct uhmm__mapping *mapping, uint64_t index, enum uhmm__sgp sgp,
			     const struct uhmm__fault *vmf, struct uhmm__frame **out)
{
	struct uhmm_file *file = mapping_file(mapping);
	struct uhmm__frame *new;
	int err;

	do {
		err = uhmm__mapping_find(mapping, index, vmf, out);
		if (err)
			return err;
		if (*out) {
			folio_make_uptodate(*out);
			return 0;
		}
		new = cache_page_new(file, index, sgp);
		if (!new)
			return -ENOMEM;
		err = add_to_page_cache(mapping, index, sgp, new);
		if (err)
			uhmm__folio_free(file->machine, new);
	} while (err == -EEXIST);
	if (err)
		return err;
	uhmm__folio_add_lru(file->machine, new);
	*out = new;
	return 0;
}

/* The first offset from @at on that is not in the cache; @end if all are. */
static uint64_t first_missing(struct uhmm__mapping *mapping, uint64_t at, uint64_t end)
{
	uhmm__spin_lock(&mapping->lock);
	while (at < end && uhmm__radix_load(&mapping->pages, at))
		at++;
	uhmm__spin_unlock(&mapping->lock);
	return at;
}

int uhmm__mapping_populate(struct uhmm__mapping *mapping, uint64_t first, uint64_t npages)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	uint64_t end = mapping_npages(mapping);

	if (first >= end)
		return 0;
	end = MIN(end - first, npages) + first;
	while ((first = first_missing(mapping, first, end)) < end) {
		struct uhmm__frame *f;
		int err = uhmm__mapping_get_create(mapping, first++, UHMM__SGP_CACHE, NULL, &f);

		if (err)
			return err == -EFAULT ? 0 : err;
		folio_put(m, f);
	}
	return 0;
}

bool uhmm__mapping_replace(struct uhmm__mapping *mapping, struct uhmm__frame *dst,
			   struct uhmm__frame *src, uint32_t expected)
{
	struct uhmm_machine *m = mapping_file(mapping)->machine;
	uint64_t index = load_relaxed(&src->index);
	bool ok;

	uhmm__spin_lock(&mapping->lock);
	/*
	 * Whoever finds the page from here on finds it through the cache, whose lock is held: the
	 * one step from what is expected to one less is the kernel's freeze and unfreeze.
	 */
	ok = atomic_compare_exchange_strong_explicit(&src->refcount, &expected, expected - 1,
						     memory_order_acq_rel, memory_order_relaxed);
	if (ok) {
		store_relaxed(&dst->index, index);
		store_release(&dst->mapping, (uintptr_t)mapping);
		folio_get(dst);
		/* Its leaf exists, so this cannot fail. */
		UHMM_BUG_ON(m, uhmm__radix_store(&mapping->pages, index, frame_pfn(m, dst)));
	}
	uhmm__spin_unlock(&mapping->lock);
	return ok;
}

static void cache_delete(struct uhmm__mapping *mapping, struct uhmm__frame *f, bool disk)
{
	uhmm__spin_lock(&mapping->lock);
	uhmm__radix_erase(&mapping->pages, load_relaxed(&f->index));
	if (disk)
		uhmm__disk_erase(mapping, load_relaxed(&f->index));
	store_release(&f->mapping, 0);
	uhmm__spin_unlock(&mapping->lock);
	folio_clear(f, PG_DIRTY);
}

void uhmm__mapping_remove(struct uhmm__mapping *mapping, struct uhmm__frame *f)
{
	cache_delete(mapping, f, true);
}

void uhmm__mapping_lose(struct uhmm__mapping *mapping, struct uhmm__frame *f)
{
	cache_delete(mapping, f, false);
}

/* A memory file keeps a page that is broken, and nobody gets at it. */
static bool is_broken(struct uhmm_file *file, struct uhmm__frame *f)
{
	return file->kind == UHMM_FILE_MEMORY && unlikely(folio_test(f, PG_HWPOISON));
}

bool uhmm__mapping_evict(struct uhmm__mapping *mapping, struct uhmm__frame *f)
{
	bool ok;

	uhmm__spin_lock(&mapping->lock);
	/* The count first: who wrote by a reference that is gone by now has set the bit before. */
	ok = folio_ref_freeze(f, 2);
	if (ok && unlikely(folio_test(f, PG_DIRTY))) {
		store_release(&f->refcount, 2);
		ok = false;
	}
	if (ok) {
		uhmm__radix_erase(&mapping->pages, load_relaxed(&f->index));
		store_release(&f->mapping, 0);
	}
	/* The last page may have kept the file from going away: who takes it away has this lock next. */
	uhmm__spin_unlock(&mapping->lock);
	return ok;
}

bool uhmm__mapping_next(const struct uhmm__mapping *mapping, uint64_t *index)
{
	uint64_t in_cache = 0, on_disk = 0;
	bool cached = uhmm__radix_next_present(&mapping->pages, *index, &in_cache, NULL);
	bool disk = uhmm__radix_next_present(&mapping->disk, *index, &on_disk, NULL);

	*index = cached && (!disk || in_cache <= on_disk) ? in_cache : on_disk;
	return cached || disk;
}

void uhmm__file_peek(struct uhmm_file *file, uint64_t index, void *buf)
{
	struct uhmm_machine *m = file->machine;
	uint64_t entry;

	uhmm__spin_lock(&file->mapping.lock);
	entry = uhmm__radix_load(&file->mapping.pages, index);
	if (entry_is_slot(entry))
		uhmm__swap_peek(m, entry_slot(entry), 0, buf, UHMM_PAGE_SIZE);
	else if (entry)
		uhmm__read_frame(m, entry, 0, buf, UHMM_PAGE_SIZE);
	else
		uhmm__disk_peek(&file->mapping, index, buf);
	uhmm__spin_unlock(&file->mapping.lock);
}

int uhmm_file_populate(struct uhmm_file *file, uint64_t first, uint64_t npages)
{
	int err = file->kind == UHMM_FILE_MEMORY
			  ? uhmm__shmem_fallocate(file, first, npages)
			  : uhmm__mapping_populate(&file->mapping, first, npages);

	uhmm__exit_to_user();
	return err;
}

/* ---- VMAs ---- */

void uhmm__vma_set_file(struct uhmm_vma *vma, struct uhmm_file *file)
{
	vma->file = file;
	if (file)
		uhmm_file_get(file);
}

void uhmm__vma_link_file(struct uhmm_vma *vma, struct uhmm_vma *prev)
{
	struct uhmm__mapping *mapping;

	if (!vma->file || vma->in_i_mmap)
		return;
	mapping = &vma->file->mapping;
	uhmm__down_write(&mapping->i_mmap_rwsem);
	uhmm__vma_i_mmap_insert(vma, prev);
	uhmm__up_write(&mapping->i_mmap_rwsem);
}

void uhmm__vma_put_file(struct uhmm_vma *vma)
{
	struct uhmm_file *file = vma->file;

	if (!file)
		return;
	if (vma->in_i_mmap) {
		uhmm__down_write(&file->mapping.i_mmap_rwsem);
		uhmm__vma_i_mmap_remove(vma);
		uhmm__up_write(&file->mapping.i_mmap_rwsem);
	}
	vma->file = NULL;
	uhmm_file_put(file);
}

/* ---- reading and writing ---- */

/* One page's part. Returns bytes, 0 at the end, -ENOMEM or -EIO. */
static int64_t read_page(struct uhmm_file *file, uint64_t at, void *buf, uint64_t len)
{
	struct uhmm_machine *m = file->machine;
	uint64_t size = uhmm_file_size(file), off = at & ~UHMM_PAGE_MASK;
	struct uhmm__frame *f = NULL;
	int err;

	if (at >= size)
		return 0;
	len = MIN(MIN(len, UHMM_PAGE_SIZE - off), size - at);
	if (file->kind == UHMM_FILE_MEMORY)
		err = uhmm__mapping_find(&file->mapping, at >> UHMM_PAGE_SHIFT, NULL, &f);
	else
		err = uhmm__mapping_get_create(&file->mapping, at >> UHMM_PAGE_SHIFT,
					       UHMM__SGP_CACHE, NULL, &f);
	if (err)
		return err == -EFAULT ? 0 : err;
	if (!f) {
		memset(buf, 0, len);
		return (int64_t)len;
	}
	if (is_broken(file, f)) {
		folio_put(m, f);
		return -EIO;
	}
	uhmm__read_frame(m, frame_pfn(m, f), off, buf, len);
	folio_mark_accessed(f);
	folio_put(m, f);
	return (int64_t)len;
}

int64_t uhmm_file_read(struct uhmm_file *file, uint64_t offset, void *buf, uint64_t len)
{
	uint64_t done = 0;
	int64_t n = 0;

	while (done < len) {
		n = read_page(file, offset + done, (uint8_t *)buf + done, len - done);
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	uhmm__exit_to_user();
	return done || n >= 0 ? (int64_t)done : n;
}

/*
 * A write has come to @end. Context: inode_lock for writing; the folio locked that it wrote to, or
 * writeback would take what lies beyond the old end for nothing.
 */
static void grow(struct uhmm_file *file, uint64_t end)
{
	if (end <= load_relaxed(&file->mapping.size))
		return;
	uhmm__spin_lock(&file->mapping.lock);
	store_release(&file->mapping.size, end);
	uhmm__spin_unlock(&file->mapping.lock);
}

/* The folio at a page offset, locked and still there; -ENOMEM, -EIO. Context: inode_lock for writing. */
static int lock_page(struct uhmm_file *file, uint64_t index, struct uhmm__frame **out)
{
	for (;;) {
		int err =
			uhmm__mapping_get_create(&file->mapping, index, UHMM__SGP_WRITE, NULL, out);

		if (err)
			return err;
		folio_lock(file->machine, *out);
		if (likely(folio_mapping(*out) == &file->mapping && !is_broken(file, *out)))
			return 0;
		/* Else it was migrated meanwhile. */
		err = is_broken(file, *out) ? -EIO : 0;
		folio_unlock(file->machine, *out);
		folio_put(file->machine, *out);
		if (err)
			return err;
	}
}

static int64_t write_pages(struct uhmm_file *file, uint64_t offset, const uint8_t *buf,
			   uint64_t len)
{
	struct uhmm_machine *m = file->machine;
	uint64_t done = 0;
	int err = 0;

	while (done < len) {
		uint64_t at = offset + done, off = at & ~UHMM_PAGE_MASK;
		uint64_t n = MIN(len - done, UHMM_PAGE_SIZE - off);
		struct uhmm__frame *f;

		err = lock_page(file, at >> UHMM_PAGE_SHIFT, &f);
		if (err)
			break;
		uhmm__write_frame(m, frame_pfn(m, f), off, buf + done, n);
		folio_set(f, PG_DIRTY);
		/* Only now: who sees the new size sees what was written. */
		grow(file, at + n);
		folio_mark_accessed(f);
		folio_unlock(m, f);
		folio_put(m, f);
		done += n;
	}
	return done || !err ? (int64_t)done : err;
}

int64_t uhmm_file_write(struct uhmm_file *file, uint64_t offset, const void *buf, uint64_t len)
{
	int64_t ret;

	if (offset > UHMM_FILE_MAX_BYTES || len > UHMM_FILE_MAX_BYTES - offset)
		return -EFBIG;
	uhmm__down_write(&file->inode_lock);
	if (len)
		uhmm__file_zero_eof(file, offset);
	ret = write_pages(file, offset, buf, len);
	uhmm__up_write(&file->inode_lock);
	uhmm__exit_to_user();
	return ret;
}
