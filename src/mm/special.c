// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A driver's mappings, of page frames that have no pages for mm and of pages of its own, and NUMA hints.
 * Models: mm/memory.c:remap_pfn_range(), vmf_insert_mixed() and vm_insert_page(),
 * mm/mempolicy.c:change_prot_numa().
 */
#include <uhmm/special.h>

#include <sys/mman.h>

#include "mm/file.h"
#include "mm/mm.h"

static uint64_t prot_flags(int prot)
{
	return (prot & PROT_READ ? UHMM_VM_READ : 0) | (prot & PROT_WRITE ? UHMM_VM_WRITE : 0) |
	       (prot & PROT_EXEC ? UHMM_VM_EXEC : 0);
}

static int map_special(struct uhmm_mm *mm, uhmm_vaddr_t *addr, uint64_t len, uint64_t vm_flags,
		       bool fixed)
{
	struct uhmm_vma *vma;
	int err;

	err = fixed ? uhmm__do_munmap(mm, *addr, *addr + len)
		    : uhmm__find_place(mm, *addr, len, addr);
	if (err)
		return err;
	vma = uhmm__vma_alloc(mm);
	if (!vma)
		return -ENOMEM;
	vma->start = *addr;
	vma->end = *addr + len;
	vma->flags = vm_flags;
	vma->page_prot = uhmm__vm_page_prot(NULL, vm_flags);
	/* Pages that are copied on write are found by it. */
	vma->pgoff = vma->anon_pgoff = *addr >> UHMM_PAGE_SHIFT;
	err = uhmm__vma_link(vma);
	if (err)
		uhmm__vma_free(vma);
	return err;
}

int uhmm_mmap_special(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot, int flags,
		      uint64_t vm_flags, uhmm_vaddr_t *out)
{
	const uint64_t both = UHMM_VM_PFNMAP | UHMM_VM_MIXEDMAP;
	bool fixed = flags & MAP_FIXED, shared = flags & MAP_SHARED;
	int err;

	if (!uhmm__current() || !vm_flags || vm_flags & ~UHMM__VM_SPECIAL ||
	    (vm_flags & both) == both || shared == !!(flags & MAP_PRIVATE) ||
	    flags & ~(MAP_FIXED | MAP_SHARED | MAP_PRIVATE) || !len ||
	    (fixed && addr & ~UHMM_PAGE_MASK))
		return -EINVAL;
	if (len > UHMM_TASK_SIZE)
		return -ENOMEM;
	len = ALIGN_UP(len, UHMM_PAGE_SIZE);
	if (fixed && addr > UHMM_TASK_SIZE - len)
		return -ENOMEM;
	vm_flags |= prot_flags(prot) | (shared ? UHMM_VM_SHARED : 0);
	mmap_write_lock(mm);
	err = map_special(mm, &addr, len, vm_flags, fixed);
	mmap_write_unlock(mm);
	if (!err && out)
		*out = addr;
	uhmm__exit_to_user();
	return err;
}

/* The entry of @addr, with tables made, mapped and locked; NULL without memory. */
static ptent_t *get_locked_pte(struct uhmm_mm *mm, uhmm_vaddr_t addr, struct uhmm__spinlock **ptl)
{
	ptent_t *pmdp = uhmm__pmd_alloc(&mm->pgt, addr);

	if (!pmdp || uhmm__pte_alloc(&mm->pgt, pmdp))
		return NULL;
	return uhmm__pte_offset_map_lock(pmdp, addr, ptl);
}

/* Returns: 0; -EBUSY there is an entry; -ENOMEM. Models: insert_pfn(). */
static int insert_pfn(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t pfn, bool write)
{
	pte_t entry = pte_set(pte_mk(pfn, vma->page_prot), PTE_SPECIAL);
	struct uhmm__spinlock *ptl;
	ptent_t *ptep = get_locked_pte(vma->mm, addr, &ptl);
	int err = 0;

	if (!ptep)
		return -ENOMEM;
	if (write)
		entry = pte_set(entry, PTE_DIRTY | (vma->flags & UHMM_VM_WRITE ? PTE_RW : 0));
	if (pte_none(ptep_get(ptep)))
		set_pte(ptep, entry);
	else
		err = -EBUSY;
	uhmm__pte_unmap_unlock(ptep, ptl);
	return err;
}

static bool pfns_ok(struct uhmm_machine *m, uhmm_pfn_t pfn, uint64_t npages)
{
	return npages <= m->end_pfn && pfn <= m->end_pfn - npages;
}

static bool may_be_cow(const struct uhmm_vma *vma)
{
	return vma_is_cow_mapping(vma) && vma->flags & UHMM_VM_WRITE;
}

static int remap_range(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn, uint64_t npages)
{
	struct uhmm_vma *vma = uhmm__vma_lookup(mm, addr);
	int err = 0;

	if (!vma || !(vma->flags & UHMM_VM_PFNMAP) || npages > (vma->end - addr) >> UHMM_PAGE_SHIFT)
		return -EINVAL;
	/* Else one could not tell a frame that was copied from one that was mapped. */
	if (may_be_cow(vma) &&
	    (addr != vma->start || npages != (vma->end - addr) >> UHMM_PAGE_SHIFT))
		return -EINVAL;
	for (uint64_t i = 0; i < npages && !err; i++)
		err = insert_pfn(vma, addr + (i << UHMM_PAGE_SHIFT), pfn + i,
				 vma->page_prot & PTE_RW);
	return err;
}

int uhmm_remap_pfn_range(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn, uint64_t npages)
{
	int err;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK || !npages ||
	    !pfns_ok(mm->machine, pfn, npages))
		return -EINVAL;
	mmap_write_lock(mm);
	err = remap_range(mm, addr, pfn, npages);
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}

int uhmm_insert_mixed(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn, bool write)
{
	struct uhmm_vma *vma;
	int err = -EINVAL;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK || !pfns_ok(mm->machine, pfn, 1) ||
	    pfn == mm->machine->zero_pfn)
		return -EINVAL;
	mmap_read_lock(mm);
	vma = uhmm__vma_lookup(mm, addr);
	if (vma && vma->flags & UHMM_VM_MIXEDMAP)
		err = insert_pfn(vma, addr, pfn, write && vma->flags & UHMM_VM_SHARED);
	mmap_read_unlock(mm);
	uhmm__exit_to_user();
	return err == -EBUSY ? 0 : err;
}

/*
 * 0; -EINVAL; -EOPNOTSUPP a page of a file. Models: validate_page_before_insert(), for which such a
 * page is as good as a driver's.
 */
static int validate_page(struct uhmm_machine *m, const struct uhmm_vma *vma, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f;

	if (pfn == m->zero_pfn)
		return vma_is_cow_mapping(vma) ? 0 : -EINVAL;
	f = page_folio(pfn_to_frame(m, pfn));
	if (!folio_ref_count(f) || folio_test_anon(f) ||
	    frame_pfn(m, f) == load_relaxed(&m->huge_zero_pfn))
		return -EINVAL;
	return folio_mapping(f) ? -EOPNOTSUPP : 0;
}

/* Context: mmap_lock for writing. Models: insert_page(). */
static int insert_page(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t pfn)
{
	struct uhmm_mm *mm = vma->mm;
	struct uhmm_machine *m = mm->machine;
	struct uhmm__frame *page = pfn_to_frame(m, pfn);
	int err = validate_page(m, vma, pfn);
	struct uhmm__spinlock *ptl;
	ptent_t *ptep;

	if (err)
		return err;
	ptep = get_locked_pte(mm, addr, &ptl);
	if (!ptep)
		return -ENOMEM;
	if (!pte_none(ptep_get(ptep))) {
		err = -EBUSY;
	} else {
		if (pfn != m->zero_pfn) {
			folio_get(page_folio(page));
			/* No page of a file either: the count is all that there is. */
			folio_add_anon_rmap(page, mm, false);
		}
		set_pte(ptep, pte_mk(pfn, vma->page_prot));
	}
	uhmm__pte_unmap_unlock(ptep, ptl);
	return err;
}

static int vm_insert_page(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn)
{
	struct uhmm_vma *vma = uhmm__vma_lookup(mm, addr);

	if (!vma)
		return -EFAULT;
	if (!(vma->flags & UHMM__VM_SPECIAL) || vma->flags & UHMM_VM_PFNMAP)
		return -EINVAL;
	if (!(vma->flags & UHMM_VM_MIXEDMAP)) {
		vma_start_write(vma);
		vma->flags |= UHMM_VM_MIXEDMAP;
	}
	return insert_page(vma, addr, pfn);
}

int uhmm_vm_insert_page(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn)
{
	int err;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK || pfn >= mm->machine->ram_frames)
		return -EINVAL;
	mmap_write_lock(mm);
	err = vm_insert_page(mm, addr, pfn);
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}

/* ---- NUMA hints ---- */

int64_t uhmm_change_prot_numa(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t len)
{
	const uint64_t any = UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC;
	struct uhmm__gather g;
	struct uhmm_vma *vma;
	int64_t changed = 0;

	if (!uhmm__current() || (start | len) & ~UHMM_PAGE_MASK || start > UHMM_TASK_SIZE ||
	    len > UHMM_TASK_SIZE - start)
		return -EINVAL;
	mmap_read_lock(mm);
	uhmm__gather_init(&g, mm);
	for (vma = uhmm__find_vma(mm, start); vma && vma->start < start + len;
	     vma = uhmm__vma_next(mm, vma)) {
		if (vma->flags & UHMM__VM_SPECIAL || !(vma->flags & any))
			continue;
		changed += uhmm__change_protection(&g, vma, MAX(vma->start, start),
						   MIN(vma->end, start + len), CP_PROT_NUMA);
	}
	uhmm__gather_finish(&g);
	mmap_read_unlock(mm);
	uhmm__exit_to_user();
	return changed;
}
