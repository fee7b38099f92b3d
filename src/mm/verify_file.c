// SPDX-License-Identifier: LGPL-2.1-or-later
/* The verifier's look at files, their page caches, and who maps them. */
#include "mm/swap.h"
#include "mm/verify.h"

#define bad uhmm__verify_bad
#define bad_frame uhmm__verify_bad_frame

struct cache_walk {
	struct uhmm__verify *v;
	struct uhmm_file *file;
	uint64_t nr_swapped;
};

static unsigned long id_of(const struct uhmm_file *file)
{
	return (unsigned long)file->id;
}

/* A page of a memory file that is on swap. */
static void check_swapped(struct cache_walk *w, uint64_t index, uint64_t slot)
{
	const char *what = uhmm__verify_swap_entry(w->v, swap_entry(slot));

	w->nr_swapped++;
	if (what)
		bad(w->v, "file %lu: page %lu %s", id_of(w->file), index, what);
	if (w->file->kind != UHMM_FILE_MEMORY)
		bad(w->v, "file %lu: page %lu is on swap, but the file has a disk", id_of(w->file),
		    index);
}

static void check_cached(void *ctx, uint64_t index, uint64_t pfn)
{
	struct cache_walk *w = ctx;
	struct uhmm__verify *v = w->v;
	struct uhmm__frame *f;

	if (index >= mapping_npages(&w->file->mapping))
		bad(v, "file %lu: page %lu is cached, but beyond the end", id_of(w->file), index);
	if (entry_is_slot(pfn)) {
		check_swapped(w, index, entry_slot(pfn));
		return;
	}
	if (pfn < v->ram_first || pfn >= v->ram_end) {
		bad(v, "file %lu: page %lu in the cache is no RAM in use", id_of(w->file), index);
		return;
	}
	f = pfn_to_frame(v->m, pfn);
	uhmm__seen(v, pfn)->cached++;
	if (load_relaxed(&f->mapping) != (uintptr_t)&w->file->mapping ||
	    load_relaxed(&f->index) != index)
		bad_frame(v, pfn, "file %lu: page %lu in the cache is not the file's",
			  id_of(w->file), index);
	if (folio_test(f, PG_ANON_EXCLUSIVE))
		bad_frame(v, pfn, "page of a file is anon-exclusive");
	if (folio_test(f, PG_SWAPBACKED) != (w->file->kind == UHMM_FILE_MEMORY))
		bad_frame(v, pfn, "only pages of memory files are swap-backed");
}

static void check_on_disk(void *ctx, uint64_t index, uint64_t contents uhmm_unused)
{
	struct cache_walk *w = ctx;

	if (w->file->kind != UHMM_FILE_REGULAR)
		bad(w->v, "file %lu: has a disk, but is a memory file", id_of(w->file));
	if (index >= mapping_npages(&w->file->mapping))
		bad(w->v, "file %lu: page %lu is on the disk, but beyond the end", id_of(w->file),
		    index);
}

static void check_cache(struct uhmm__verify *v, struct uhmm_file *file)
{
	struct cache_walk w = { v, file, 0 };

	if (uhmm__radix_verify(&file->mapping.pages) < 0) {
		bad(v, "file %lu: page cache is broken", id_of(file));
		return;
	}
	uhmm__radix_for_each(&file->mapping.pages, 0, UINT64_MAX, check_cached, &w)
		;
	if (w.nr_swapped != file->mapping.nr_swapped)
		bad(v, "file %lu: counts %lu pages on swap, but has %lu", id_of(file),
		    file->mapping.nr_swapped, w.nr_swapped);
	if (uhmm__radix_verify(&file->mapping.disk) < 0)
		bad(v, "file %lu: what it has on its disk is broken", id_of(file));
	else
		uhmm__radix_for_each(&file->mapping.disk, 0, UINT64_MAX, check_on_disk, &w)
			;
}

/* How many VMAs of all mms map a file. */
static int64_t count_vmas(struct uhmm__verify *v, const struct uhmm_file *file)
{
	struct uhmm_mm *mm;
	struct uhmm__range r;
	int64_t nr = 0;

	uhmm__for_each_entry(mm, &v->m->mms->list, list) {
		uhmm__rangetree_for_each(&mm->vmas, &r, 0, UINT64_MAX)
		{
			const struct uhmm_vma *vma = r.value;

			nr += vma->file == file;
		}
	}
	return nr;
}

static void check_i_mmap(struct uhmm__verify *v, struct uhmm_file *file)
{
	int64_t in_tree = uhmm__itree_verify(&file->mapping.i_mmap);
	int64_t nr = count_vmas(v, file);
	struct uhmm__itree_node *node;

	if (in_tree != nr) {
		bad(v, "file %lu: %ld VMAs map it, but %ld are in its tree", id_of(file), (long)nr,
		    (long)in_tree);
		return;
	}
	if (load_relaxed(&file->refs) < nr)
		bad(v, "file %lu: has %u references, but %ld VMAs", id_of(file),
		    load_relaxed(&file->refs), (long)nr);
	uhmm__itree_for_each(node, &file->mapping.i_mmap, 0, UINT64_MAX) {
		struct uhmm_vma *vma = container_of(node, struct uhmm_vma, i_mmap_node);

		if (vma->file != file || !vma->in_i_mmap || node->start != vma->pgoff ||
		    node->last != vma_pgoff(vma, vma->end) - 1)
			bad(v, "file %lu: VMA at %#lx is in its tree as [%#lx, %#lx]", id_of(file),
			    (unsigned long)vma->start, (unsigned long)node->start,
			    (unsigned long)node->last);
	}
}

void uhmm__verify_files(struct uhmm__verify *v)
{
	struct uhmm__files *files = v->m->files;
	struct uhmm_file *file;

	if (uhmm__spin_is_locked(&files->lock))
		bad(v, "the lock of the list of files is held");
	uhmm__for_each_entry(file, &files->list, list) {
		if (file->machine != v->m)
			bad(v, "file %lu: is another machine's", id_of(file));
		if (!load_relaxed(&file->refs))
			bad(v, "file %lu: has no references, but is listed", id_of(file));
		if (load_relaxed(&file->inode_lock.count) ||
		    load_relaxed(&file->mapping.i_mmap_rwsem.count) ||
		    uhmm__spin_is_locked(&file->mapping.lock))
			bad(v, "file %lu: one of its locks is held", id_of(file));
		check_cache(v, file);
		check_i_mmap(v, file);
	}
}

/* A page that is not anonymous, at its place in the VMA of its file? */
bool uhmm__verify_file_page(const struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f)
{
	return vma->file && load_relaxed(&f->mapping) == (uintptr_t)&vma->file->mapping &&
	       load_relaxed(&f->index) == vma_pgoff(vma, addr);
}
