// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Faults on mappings of files. Models: mm/memory.c:do_fault() and below, mm/filemap.c:filemap_fault()
 * and filemap_map_pages(), mm/shmem.c:shmem_fault().
 *
 * A handler locks the folio before it takes the PTL, and truncation locks it before it looks for
 * mappings: so a page is either mapped before it is taken from its file, and found, or not mapped.
 */
#include "mm/fault.h"

enum {
	FAULT_AROUND = 16,	/* pages; the kernel's fault_around_bytes */
	READ_AROUND = 128 >> 2, /* pages; the kernel's default read_ahead_kb */
};

static struct uhmm__mapping *vma_mapping(const struct uhmm_vma *vma)
{
	return &vma->file->mapping;
}

static bool wants_mkwrite(const struct uhmm_vma *vma)
{
	return vma->file->kind == UHMM_FILE_REGULAR;
}

/* Models: release_fault_lock(). */
static void release_fault_lock(struct uhmm__fault *vmf)
{
	if (vmf->flags & FAULT_FLAG_VMA_LOCK)
		vma_end_read(vmf->vma);
	else
		mmap_read_unlock(vmf->vma->mm);
}

/* False: the caller holds folios, and must not wait for this one. */
static bool lock_folio(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	if (folio_trylock(f))
		return true;
	if (vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
		return false;
	folio_lock(vmf->vma->mm->machine, f);
	return true;
}

static void unlock_put(struct uhmm_machine *m, struct uhmm__frame *f)
{
	folio_unlock(m, f);
	folio_put(m, f);
}

/* ---- finding the page ---- */

/* What a fault returns if the page cannot be had. */
static int fault_error(int err)
{
	switch (err) {
	case -ENOMEM:
		return VM_FAULT_OOM;
	case -EAGAIN:
		return VM_FAULT_WOULD_WAIT;
	default:
		return VM_FAULT_SIGBUS;
	}
}

/*
 * A page of a regular file that is not in the cache: read it, with its neighbours. As the kernel
 * does before it waits for the disk, the fault's lock is dropped, if it may: the next try finds the
 * pages there, and maps some of them at once.
 */
static int major_fault(struct uhmm__fault *vmf, uint64_t index)
{
	struct uhmm__mapping *mapping = vma_mapping(vmf->vma);
	uint64_t first = index - MIN(index, (uint64_t)READ_AROUND / 2);
	struct uhmm__frame *f;
	int err;

	uhmm__count(UHMM_CNT_FAULT_FILE_MAJOR);
	/* Neighbours are a bonus. */
	(void)uhmm__mapping_populate(mapping, first, READ_AROUND);
	err = uhmm__mapping_get_create(mapping, index, UHMM__SGP_CACHE, vmf, &f);
	if (err)
		return fault_error(err);
	folio_put(vmf->vma->mm->machine, f);
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return 0;
	release_fault_lock(vmf);
	return VM_FAULT_RETRY;
}

/*
 * The page of the fault, locked and referenced. Returns 0 or VM_FAULT_*.
 * Models: __do_fault() with filemap_fault() or shmem_fault().
 */
static int do_fault_page(struct uhmm__fault *vmf, struct uhmm__frame **out)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm__mapping *mapping = vma_mapping(vma);
	struct uhmm_machine *m = vma->mm->machine;
	uint64_t index = vma_pgoff(vma, vmf->address);

	for (;;) {
		struct uhmm__frame *f;
		int ret;

		if (index >= mapping_npages(mapping))
			return VM_FAULT_SIGBUS;
		f = uhmm__mapping_get(mapping, index);
		if (!f && wants_mkwrite(vma)) {
			ret = major_fault(vmf, index);
			if (ret)
				return ret;
		}
		if (!f) {
			ret = uhmm__mapping_get_create(mapping, index, UHMM__SGP_CACHE, vmf, &f);
			if (ret)
				return fault_error(ret);
		}
		if (!lock_folio(vmf, f)) {
			folio_put(m, f);
			return VM_FAULT_WOULD_WAIT;
		}
		if (likely(folio_mapping(f) == mapping)) {
			if (unlikely(folio_test(f, PG_HWPOISON))) {
				unlock_put(m, f);
				return VM_FAULT_HWPOISON;
			}
			folio_make_uptodate(f);
			*out = f;
			return 0;
		}
		/* Truncated, or migrated. */
		unlock_put(m, f);
	}
}

/* ---- mapping it ---- */

/* Map and lock the entry; false: it is none no more, or its table is gone. */
static bool map_none(struct uhmm__fault *vmf)
{
	vmf->pte = uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (!vmf->pte)
		return false;
	if (likely(pte_none(ptep_get(vmf->pte))))
		return true;
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
	return false;
}

/* The entry's reference is the caller's, handed over. Context: PTL. Models: set_pte_range(). */
static void set_file_pte(struct uhmm_vma *vma, ptent_t *ptep, struct uhmm__frame *f, bool write)
{
	pte_t pte = pte_mk(frame_pfn(vma->mm->machine, f), vma->page_prot);

	if (write)
		pte = maybe_mkwrite(pte_set(pte, PTE_DIRTY), vma);
	else if (pte_write(pte) && folio_test(f, PG_DIRTY))
		pte = pte_set(pte, PTE_DIRTY);
	folio_add_file_rmap(f);
	set_pte(ptep, pte);
}

/* Returns: whether it was mapped. Context: folio locked. Models: finish_fault(). */
static bool finish_fault(struct uhmm__fault *vmf, struct uhmm__frame *f, bool write)
{
	if (!map_none(vmf))
		return false;
	set_file_pte(vmf->vma, vmf->pte, f, write);
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	return true;
}

/* ---- around a read fault ---- */

/*
 * The page at an offset if it can be mapped without waiting: locked and referenced.
 * Context: PTL. Models: next_uptodate_folio().
 */
static struct uhmm__frame *mappable_folio(struct uhmm_machine *m, struct uhmm__mapping *mapping,
					  uint64_t index)
{
	struct uhmm__frame *f = uhmm__mapping_get(mapping, index);

	if (!f)
		return NULL;
	if (folio_test(f, PG_LOCKED) || !folio_test(f, PG_UPTODATE) || folio_test(f, PG_HWPOISON) ||
	    !folio_trylock(f)) {
		folio_put(m, f);
		return NULL;
	}
	if (folio_mapping(f) == mapping && index < mapping_npages(mapping))
		return f;
	unlock_put(m, f);
	return NULL;
}

/* The window around the fault, within its table and its VMA: [*from, *to). */
static void around_window(const struct uhmm__fault *vmf, uhmm_vaddr_t *from, uhmm_vaddr_t *to)
{
	const struct uhmm_vma *vma = vmf->vma;
	const uint64_t bytes = FAULT_AROUND * UHMM_PAGE_SIZE;
	uhmm_vaddr_t table = vmf->address & UHMM_PMD_MASK;

	*from = MAX(ALIGN_DOWN(vmf->address, bytes), vma->start);
	/* Its length counts from where it was cut. */
	*to = MIN(MIN(*from + bytes, table + UHMM_PMD_SIZE), vma->end);
}

/*
 * Map what is in the cache around the fault. Returns: whether the fault's own page was among it.
 * Models: do_fault_around(), filemap_map_pages().
 */
static bool fault_around(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm__mapping *mapping = vma_mapping(vma);
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__spinlock *ptl;
	uhmm_vaddr_t addr, end;
	ptent_t *start, *ptep;
	bool mapped = false;

	around_window(vmf, &addr, &end);
	start = ptep = uhmm__pte_offset_map_lock(vmf->pmd, addr, &ptl);
	if (!start)
		return false;
	for (; addr < end; addr += UHMM_PAGE_SIZE, ptep++) {
		struct uhmm__frame *f = mappable_folio(m, mapping, vma_pgoff(vma, addr));

		if (!f)
			continue;
		if (!pte_none(ptep_get(ptep))) {
			unlock_put(m, f); /* not the last: the cache has one */
			continue;
		}
		set_file_pte(vma, ptep, f, false);
		folio_unlock(m, f);
		if (addr == vmf->address)
			mapped = true;
		else
			uhmm__count(UHMM_CNT_FAULT_AROUND);
	}
	uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
	uhmm__pte_unmap_unlock(start, ptl);
	return mapped;
}

/* ---- the three kinds of faults ---- */

static int do_read_fault(struct uhmm__fault *vmf)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	struct uhmm__frame *f;
	bool mapped;
	int ret;

	if (fault_around(vmf)) {
		uhmm__count(UHMM_CNT_FAULT_FILE_READ);
		return 0;
	}
	ret = do_fault_page(vmf, &f);
	if (ret)
		return ret;
	mapped = finish_fault(vmf, f, false);
	folio_unlock(m, f);
	if (mapped)
		uhmm__count(UHMM_CNT_FAULT_FILE_READ);
	else
		folio_put(m, f);
	return 0;
}

static int do_cow_fault(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f, *new;
	int ret = uhmm__vmf_anon_prepare(vmf);

	if (ret)
		return ret;
	new = uhmm__folio_alloc_frozen(m, false);
	if (!new)
		return VM_FAULT_OOM;
	ret = do_fault_page(vmf, &f);
	if (ret) {
		uhmm__folio_free(m, new);
		return ret;
	}
	uhmm__copy_page(m, frame_pfn(m, new), frame_pfn(m, f));
	store_relaxed(&new->flags, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
	if (map_none(vmf)) {
		pte_t pte = pte_set(pte_mk(frame_pfn(m, new), vma->page_prot), PTE_DIRTY);

		folio_add_new_anon_rmap(new, vma, vmf->address);
		uhmm__folio_add_lru_new(m, new);
		set_pte(vmf->pte, maybe_mkwrite(pte, vma));
		uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
		uhmm__count(UHMM_CNT_FAULT_FILE_COW);
	} else {
		uhmm__folio_free(m, new);
	}
	unlock_put(m, f);
	return 0;
}

/*
 * The file system is told that a page is about to be written. Returns 0 with the folio locked; -EAGAIN
 * it left its file: the access is tried again; or VM_FAULT_WOULD_WAIT.
 * Models: do_page_mkwrite() with filemap_page_mkwrite().
 */
static int page_mkwrite(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	if (!lock_folio(vmf, f))
		return VM_FAULT_WOULD_WAIT;
	if (folio_mapping(f) != vma_mapping(vmf->vma)) {
		folio_unlock(vmf->vma->mm->machine, f);
		return -EAGAIN;
	}
	folio_set(f, PG_DIRTY);
	return 0;
}

/*
 * A shared page has been mapped for writing. The folio is unlocked. With a file system that keeps
 * account the kernel may throttle the writer here, for which it drops the fault's lock.
 * Models: fault_dirty_shared_page().
 */
static int dirty_shared_page(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	folio_set(f, PG_DIRTY);
	folio_unlock(vmf->vma->mm->machine, f);
	if (!wants_mkwrite(vmf->vma) || !(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return 0;
	release_fault_lock(vmf);
	return VM_FAULT_COMPLETED;
}

static int do_shared_fault(struct uhmm__fault *vmf)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	struct uhmm__frame *f;
	int ret = do_fault_page(vmf, &f);

	if (ret)
		return ret;
	if (wants_mkwrite(vmf->vma)) {
		folio_unlock(m, f);
		ret = page_mkwrite(vmf, f);
		if (ret) {
			folio_put(m, f);
			return ret == -EAGAIN ? 0 : ret;
		}
	}
	if (!finish_fault(vmf, f, true)) {
		unlock_put(m, f);
		return 0;
	}
	uhmm__count(UHMM_CNT_FAULT_FILE_WRITE);
	return dirty_shared_page(vmf, f);
}

int uhmm__do_file_fault(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;

	if (uhmm__pte_alloc(&vma->mm->pgt, vmf->pmd))
		return VM_FAULT_OOM;
	if (!(vmf->flags & FAULT_FLAG_WRITE))
		return do_read_fault(vmf);
	if (!(vma->flags & UHMM_VM_SHARED))
		return do_cow_fault(vmf);
	return do_shared_fault(vmf);
}

/* ---- a write to a page that is mapped read-only ---- */

/* Context: PTL, with the entry as it was. */
static void reuse_shared(struct uhmm__fault *vmf)
{
	pte_t pte = pte_set(vmf->orig_pte, PTE_ACCESSED | PTE_DIRTY);

	set_pte(vmf->pte, maybe_mkwrite(pte, vmf->vma));
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	uhmm__count(UHMM_CNT_FAULT_FILE_WP);
}

/* Map and lock the entry again. False: it changed, or its table is gone. */
static bool relock(struct uhmm__fault *vmf)
{
	vmf->pte = uhmm__pte_offset_map_lock(vmf->pmd, vmf->address, &vmf->ptl);
	if (!vmf->pte)
		return false;
	if (pte_same(ptep_get(vmf->pte), vmf->orig_pte))
		return true;
	uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
	return false;
}

int uhmm__wp_page_shared(struct uhmm__fault *vmf, struct uhmm__frame *f)
{
	struct uhmm_machine *m = vmf->vma->mm->machine;
	int ret;

	folio_get(f);
	if (wants_mkwrite(vmf->vma)) {
		uhmm__pte_unmap_unlock(vmf->pte, vmf->ptl);
		ret = page_mkwrite(vmf, f);
		if (!ret && !relock(vmf)) {
			folio_unlock(m, f);
			ret = -EAGAIN;
		}
		if (ret) {
			folio_put(m, f);
			return ret == -EAGAIN ? 0 : ret;
		}
		reuse_shared(vmf);
	} else {
		reuse_shared(vmf);
		if (!lock_folio(vmf, f)) {
			/* It is mapped already: only the flag is missing, which needs no lock. */
			folio_set(f, PG_DIRTY);
			folio_put(m, f);
			return 0;
		}
	}
	ret = dirty_shared_page(vmf, f);
	folio_put(m, f);
	return ret;
}
