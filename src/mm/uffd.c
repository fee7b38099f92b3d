// SPDX-License-Identifier: LGPL-2.1-or-later
/* As much of userfaultfd as page tables can tell of. Models: mm/userfaultfd.c. */
#include <uhmm/special.h>

#include "mm/mm.h"

static bool range_ok(uhmm_vaddr_t start, uint64_t len)
{
	return uhmm__current() && !((start | len) & ~UHMM_PAGE_MASK) && len &&
	       start <= UHMM_TASK_SIZE && len <= UHMM_TASK_SIZE - start;
}

void uhmm_uffd_set_handler(struct uhmm_mm *mm, uhmm_uffd_fn *fn, void *data)
{
	mmap_write_lock(mm);
	mm->uffd_fn = fn;
	mm->uffd_data = data;
	mmap_write_unlock(mm);
}

/*
 * The fault is the handler's. Its lock is dropped, as it would be to sleep.
 * Context: no PTL. Models: handle_userfault().
 */
int uhmm__handle_userfault(struct uhmm__fault *vmf, unsigned int reason)
{
	struct uhmm_mm *mm = vmf->vma->mm;
	uhmm_uffd_fn *fn = mm->uffd_fn;
	void *data = mm->uffd_data;

	if (fn && vmf->flags & FAULT_FLAG_NO_FOLIO_WAIT)
		return VM_FAULT_WOULD_WAIT;
	uhmm__count(UHMM_CNT_FAULT_UFFD);
	if (!fn || !(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return VM_FAULT_SIGBUS;
	if (vmf->flags & FAULT_FLAG_VMA_LOCK) {
		/* The handler's answer must reach a caller that holds mmap_lock no more. */
		vma_end_read(vmf->vma);
		return VM_FAULT_RETRY;
	}
	mmap_read_unlock(mm);
	if (fn(data, mm, vmf->address, reason))
		return VM_FAULT_RETRY;
	mmap_read_lock(mm);
	return VM_FAULT_SIGBUS;
}

/* ---- registering ---- */

static uint64_t mode_flags(unsigned int mode)
{
	return (mode & UHMM_UFFD_MISSING ? UHMM_VM_UFFD_MISSING : 0) |
	       (mode & UHMM_UFFD_WP ? UHMM_VM_UFFD_WP : 0) |
	       (mode & UHMM_UFFD_WP_UNPOPULATED ? UHMM_VM_UFFD_WP_UNPOPULATED : 0);
}

static int register_vma(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end,
			unsigned int mode)
{
	uint64_t flags = (vma->flags & ~UHMM__VM_UFFD) | mode_flags(mode);
	struct uhmm__gather g;
	int64_t ret = 0;
	int err;

	if (flags == vma->flags)
		return 0;
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	vma_start_write(vma);
	if (vma->flags & UHMM_VM_UFFD_WP && !(flags & UHMM_VM_UFFD_WP)) {
		uhmm__gather_init(&g, vma->mm);
		ret = uhmm__change_protection(&g, vma, start, end, CP_UFFD_WP_RESOLVE);
		uhmm__gather_finish(&g);
	}
	uhmm__vma_set_flags(vma, flags);
	uhmm__vma_merge(vma);
	return ret < 0 ? (int)ret : 0;
}

static int do_register(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, unsigned int mode)
{
	struct uhmm_vma *vma = uhmm__find_vma(mm, start);
	uhmm_vaddr_t addr, next;

	if (!vma)
		return -ENOMEM;
	if (vma->start >= end)
		return -EINVAL;
	for (; vma && vma->start < end; vma = uhmm__vma_next(mm, vma)) {
		if (!vma_is_anonymous(vma))
			return -EINVAL;
	}
	for (addr = start; addr < end; addr = next) {
		int err;

		vma = uhmm__find_vma(mm, addr);
		if (!vma || vma->start >= end)
			break;
		next = MIN(vma->end, end);
		err = register_vma(vma, MAX(addr, vma->start), next, mode);
		if (err)
			return err;
	}
	return 0;
}

int uhmm_uffd_register(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t len, unsigned int mode)
{
	const unsigned int all = UHMM_UFFD_MISSING | UHMM_UFFD_WP | UHMM_UFFD_WP_UNPOPULATED;
	int err;

	if (!range_ok(start, len) || mode & ~all ||
	    (mode & UHMM_UFFD_WP_UNPOPULATED && !(mode & UHMM_UFFD_WP)))
		return -EINVAL;
	mmap_write_lock(mm);
	err = do_register(mm, start, start + len, mode);
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}

/* ---- write protection ---- */

/* Models: mwriteprotect_range(). */
int uhmm_uffd_writeprotect(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t len, bool protect)
{
	uhmm_vaddr_t end = start + len;
	struct uhmm__gather g;
	struct uhmm_vma *vma;
	int64_t ret = -ENOENT;

	if (!range_ok(start, len))
		return -EINVAL;
	mmap_read_lock(mm);
	uhmm__gather_init(&g, mm);
	for (vma = uhmm__find_vma(mm, start); vma && vma->start < end;
	     vma = uhmm__vma_next(mm, vma)) {
		if (!(vma->flags & UHMM_VM_UFFD_WP)) {
			ret = -ENOENT;
			break;
		}
		ret = uhmm__change_protection(&g, vma, MAX(vma->start, start), MIN(vma->end, end),
					      protect ? CP_UFFD_WP : CP_UFFD_WP_RESOLVE);
		if (ret < 0)
			break;
	}
	uhmm__gather_finish(&g);
	mmap_read_unlock(mm);
	uhmm__exit_to_user();
	return ret < 0 ? (int)ret : 0;
}

/* ---- filling ---- */

/*
 * Put an entry where none is, or only a write-protect marker. @f: the page that it maps, or NULL.
 * 0, -EEXIST, -ENOMEM. Models: mfill_atomic_install_pte(), mfill_atomic_pte_poison().
 */
static int install(struct uhmm_vma *vma, uhmm_vaddr_t addr, pte_t entry, struct uhmm__frame *f)
{
	struct uhmm_mm *mm = vma->mm;
	struct uhmm__spinlock *ptl;
	ptent_t *pmdp = uhmm__pmd_alloc(&mm->pgt, addr), *ptep;
	int err = 0;
	pte_t old;

	if (!pmdp || uhmm__pte_alloc(&mm->pgt, pmdp) || uhmm__anon_vma_prepare(vma))
		return -ENOMEM;
	if (pmd_is_leaf(pmdp_get(pmdp)))
		return -EEXIST;
	ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	if (!ptep)
		return -ENOMEM;
	old = ptep_get(ptep);
	if (!pte_none(old) && !leaf_is_marker(old, MARKER_UFFD_WP)) {
		err = -EEXIST;
	} else {
		if (f) {
			store_relaxed(&f->flags, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
			folio_add_new_anon_rmap(f, vma, addr);
			uhmm__folio_add_lru_new(mm->machine, f);
		}
		set_pte(ptep, entry);
	}
	uhmm__pte_unmap_unlock(ptep, ptl);
	return err;
}

/* The VMA at @addr if it is registered. Context: mmap_lock for reading. */
static struct uhmm_vma *registered(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma = uhmm__vma_lookup(mm, addr);

	return vma && vma->flags & UHMM__VM_UFFD ? vma : NULL;
}

/* Models: mfill_atomic_pte_copy(). */
static int fill(struct uhmm_vma *vma, uhmm_vaddr_t addr, const void *page, bool protect)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *f = uhmm__folio_alloc_frozen(m, false);
	pte_t entry;
	int err;

	if (!f)
		return -ENOMEM;
	uhmm__write_frame(m, frame_pfn(m, f), 0, page, UHMM_PAGE_SIZE);
	entry = pte_set(pte_mk(frame_pfn(m, f), vma->page_prot), PTE_DIRTY);
	if (protect)
		entry = pte_set(entry, PTE_UFFD_WP);
	else if (vma->flags & UHMM_VM_WRITE)
		entry = pte_set(entry, PTE_RW);
	err = install(vma, addr, entry, f);
	if (err)
		uhmm__folio_free(m, f);
	return err;
}

int uhmm_uffd_copy(struct uhmm_mm *mm, uhmm_vaddr_t addr, const void *page, bool protect)
{
	struct uhmm_vma *vma;
	int err = -ENOENT;

	if (!range_ok(addr, UHMM_PAGE_SIZE) || !page)
		return -EINVAL;
	mmap_read_lock(mm);
	vma = registered(mm, addr);
	if (vma && protect && !(vma->flags & UHMM_VM_UFFD_WP))
		err = -EINVAL;
	else if (vma)
		err = fill(vma, addr, page, protect);
	mmap_read_unlock(mm);
	uhmm__exit_to_user();
	return err;
}

int uhmm_uffd_poison(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma;
	int err = -ENOENT;

	if (!range_ok(addr, UHMM_PAGE_SIZE))
		return -EINVAL;
	mmap_read_lock(mm);
	vma = registered(mm, addr);
	if (vma)
		err = install(vma, addr, leaf_make(LEAF_MARKER, MARKER_POISONED), NULL);
	mmap_read_unlock(mm);
	uhmm__exit_to_user();
	return err;
}
