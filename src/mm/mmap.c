// SPDX-License-Identifier: LGPL-2.1-or-later
/* mmap, munmap, brk. Models: mm/mmap.c, mm/vma.c. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "mm/mm.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum {
	STACK_ROOM = 128 << 20, /* kept free below the top of the address space for a stack */
};

/* [addr, addr + len) rounded up to pages; false if it is empty or leaves the address space. */
static bool range_ok(uhmm_vaddr_t addr, uint64_t *len)
{
	uint64_t n = ALIGN_UP(*len, UHMM_PAGE_SIZE);

	if (!n || n < *len || n > UHMM_TASK_SIZE || addr > UHMM_TASK_SIZE - n)
		return false;
	*len = n;
	return true;
}

static uint64_t prot_flags(int prot)
{
	return (prot & PROT_READ ? UHMM_VM_READ : 0) | (prot & PROT_WRITE ? UHMM_VM_WRITE : 0) |
	       (prot & PROT_EXEC ? UHMM_VM_EXEC : 0);
}

static int unsupported(int flags, const struct uhmm_file *file)
{
	int type = flags & MAP_TYPE;

	if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (flags & MAP_HUGETLB)
		return -EOPNOTSUPP;
	return file || flags & MAP_ANONYMOUS ? 0 : -EBADF;
}

/* Where to map without MAP_FIXED. Models: get_unmapped_area(), top-down. */
int uhmm__find_place(struct uhmm_mm *mm, uhmm_vaddr_t hint, uint64_t len, uhmm_vaddr_t *out)
{
	hint &= UHMM_PAGE_MASK;
	if (hint >= MMAP_MIN_ADDR && hint < UHMM_TASK_SIZE && len <= UHMM_TASK_SIZE - hint &&
	    !uhmm__rangetree_find_in(&mm->vmas, hint, hint + len, NULL)) {
		*out = hint;
		return 0;
	}
	if (uhmm__rangetree_gap(&mm->vmas, MMAP_MIN_ADDR, UHMM_TASK_SIZE - STACK_ROOM, len, true,
				out) ||
	    uhmm__rangetree_gap(&mm->vmas, MMAP_MIN_ADDR, UHMM_TASK_SIZE, len, false, out))
		return 0;
	return -ENOMEM;
}

/* @file: NULL for private anonymous memory. @merge: with what lies beside it. */
static int map_new(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, uint64_t flags,
		   struct uhmm_file *file, uint64_t pgoff, bool merge)
{
	struct uhmm_vma *vma = uhmm__vma_alloc(mm);
	int err;

	if (!vma)
		return -ENOMEM;
	vma->start = addr;
	vma->end = addr + len;
	vma->flags = flags;
	vma->page_prot = uhmm__vm_page_prot(file, flags);
	vma->anon_pgoff = addr >> UHMM_PAGE_SHIFT;
	vma->pgoff = file ? pgoff : vma->anon_pgoff;
	uhmm__vma_set_file(vma, file);
	err = uhmm__vma_link(vma);
	if (err) {
		uhmm__vma_free(vma);
		return err;
	}
	if (merge)
		uhmm__vma_merge(vma);
	return 0;
}

static int do_mmap(struct uhmm_mm *mm, uhmm_vaddr_t *addr, uint64_t len, uint64_t vm_flags,
		   int flags, struct uhmm_file *file, uint64_t pgoff)
{
	int err;

	if (flags & MAP_FIXED_NOREPLACE &&
	    uhmm__rangetree_find_in(&mm->vmas, *addr, *addr + len, NULL))
		return -EEXIST;
	if (flags & MAP_FIXED)
		err = uhmm__do_munmap(mm, *addr, *addr + len);
	else if (flags & MAP_FIXED_NOREPLACE)
		err = 0;
	else
		err = uhmm__find_place(mm, *addr, len, addr);
	if (err)
		return err;
	return map_new(mm, *addr, len, vm_flags, file, pgoff, true);
}

/*
 * The object to map, with a reference: shared anonymous memory is an unnamed memory file as long as
 * the mapping. *filep is NULL for private anonymous memory. Models: shmem_zero_setup().
 */
static int mmap_object(struct uhmm_mm *mm, uint64_t len, int prot, int flags,
		       struct uhmm_file **filep, uint64_t *pgoff)
{
	bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;

	if (flags & MAP_ANONYMOUS) {
		*filep = NULL;
		*pgoff = 0;
		return shared ? uhmm_file_create(mm->machine, UHMM_FILE_MEMORY, len, filep) : 0;
	}
	if (*pgoff + (len >> UHMM_PAGE_SHIFT) < *pgoff ||
	    *pgoff + (len >> UHMM_PAGE_SHIFT) > UHMM_FILE_MAX_BYTES >> UHMM_PAGE_SHIFT)
		return -EOVERFLOW;
	if (prot & PROT_WRITE && shared && (*filep)->foreign)
		return -EACCES;
	uhmm_file_get(*filep);
	return 0;
}

/* What a mapping is at first. Models: do_mmap(), mmap_region(). */
static uint64_t vma_flags(int prot, int flags)
{
	uint64_t vm_flags = prot_flags(prot);

	if (flags & MAP_GROWSDOWN)
		vm_flags |= UHMM_VM_GROWSDOWN;
	if (flags & MAP_NORESERVE)
		vm_flags |= UHMM_VM_NORESERVE;
	if (flags & MAP_LOCKED)
		vm_flags |= UHMM_VM_LOCKED;
	if (flags & MAP_STACK)
		vm_flags |= UHMM_VM_NOHUGEPAGE;
	if ((flags & MAP_TYPE) != MAP_PRIVATE)
		vm_flags |= UHMM_VM_SHARED;
	/* Private memory that may be written counts as committed. */
	if ((vm_flags & (UHMM_VM_WRITE | UHMM_VM_NORESERVE | UHMM_VM_SHARED)) == UHMM_VM_WRITE)
		vm_flags |= UHMM_VM_ACCOUNT;
	return vm_flags;
}

int uhmm_mmap(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot, int flags,
	      struct uhmm_file *file, uint64_t pgoff, uhmm_vaddr_t *out)
{
	bool fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
	bool populate = flags & MAP_LOCKED ||
			(flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE;
	int err;

	if (!uhmm__current())
		return -EINVAL;
	err = unsupported(flags, file);
	if (err)
		return err;
	if (!len)
		return -EINVAL;
	if (!range_ok(fixed ? addr : 0, &len))
		return -ENOMEM;
	if (fixed && addr & ~UHMM_PAGE_MASK)
		return -EINVAL;
	/* Only private anonymous memory is a stack. */
	if (flags & MAP_GROWSDOWN &&
	    (!(flags & MAP_ANONYMOUS) || (flags & MAP_TYPE) != MAP_PRIVATE))
		return -EINVAL;
	err = mmap_object(mm, len, prot, flags, &file, &pgoff);
	if (err)
		return err;
	mmap_write_lock(mm);
	err = do_mmap(mm, &addr, len, vma_flags(prot, flags), flags, file, pgoff);
	mmap_write_unlock(mm);
	uhmm_file_put(file);
	if (!err && populate)
		uhmm__populate(mm, addr, addr + len);
	if (!err && out)
		*out = addr;
	uhmm__exit_to_user();
	return err;
}

int uhmm__do_munmap(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(mm, UHMM_MMU_NOTIFY_UNMAP, start, end, NULL);
	struct uhmm_vma *vma = uhmm__find_vma(mm, start), *prev, *next;
	struct uhmm__gather g;
	struct uhmm__range r;
	int err;

	if (!vma || vma->start >= end)
		return 0;
	if (vma->start < start) {
		err = uhmm__vma_split(vma, start, NULL);
		if (err)
			return err;
	}
	vma = uhmm__find_vma(mm, end);
	if (vma && vma->start < end) {
		err = uhmm__vma_split(vma, end, NULL);
		if (err)
			return err;
	}
	/* From here on nothing can fail. */
	vma = uhmm__find_vma(mm, start);
	prev = uhmm__vma_prev(mm, vma);
	next = uhmm__find_vma(mm, end);
	uhmm__rangetree_for_each(&mm->vmas, &r, start, end) vma_start_write(r.value);
	uhmm__gather_init(&g, mm);
	g.drop_markers = true;
	uhmm__invalidate_start(&range);
	uhmm__rangetree_for_each(&mm->vmas, &r, start, end)
		uhmm__unmap_range(&g, r.value, r.start, r.end);
	uhmm__invalidate_end(&range);
	uhmm__gather_finish(&g);
	/* Unlinked from the rmap before their tables go: an rmap walk walks tables. */
	uhmm__rangetree_for_each(&mm->vmas, &r, start, end)
	{
		uhmm__vma_unlink(r.value);
		uhmm__vma_free(r.value);
	}
	uhmm__free_pgtables(&mm->pgt, start, end, prev ? prev->end : 0, next ? next->start : 0);
	return 0;
}

int uhmm_munmap(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len)
{
	int err;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK || !range_ok(addr, &len))
		return -EINVAL;
	mmap_write_lock(mm);
	err = uhmm__do_munmap(mm, addr, addr + len);
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}

void uhmm_mm_set_brk(struct uhmm_mm *mm, uhmm_vaddr_t start)
{
	mmap_write_lock(mm);
	mm->brk_start = start;
	mm->brk = start;
	mmap_write_unlock(mm);
}

/* Models: vm_start_gap(). */
static uhmm_vaddr_t start_with_gap(const struct uhmm_vma *vma)
{
	if (!(vma->flags & UHMM_VM_GROWSDOWN))
		return vma->start;
	return vma->start - MIN(vma->start, STACK_GUARD_GAP);
}

/* Models: brk(2): a request that cannot be met leaves the end where it is. */
static int do_brk(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	uhmm_vaddr_t old = ALIGN_UP(mm->brk, UHMM_PAGE_SIZE);
	uhmm_vaddr_t new = ALIGN_UP(addr, UHMM_PAGE_SIZE);
	struct uhmm_vma *next;
	int err = 0;

	if (addr < mm->brk_start || addr >= UHMM_TASK_SIZE)
		return 0;
	if (new < old) {
		/* Somebody has unmapped it. */
		if (!uhmm__rangetree_find_in(&mm->vmas, new, old, NULL))
			return 0;
		err = uhmm__do_munmap(mm, new, old);
	} else if (new > old) {
		next = uhmm__find_vma(mm, old);
		if (next && new + UHMM_PAGE_SIZE > start_with_gap(next))
			return 0;
		/* The heap is joined to nothing that lies before it. */
		err = map_new(mm, old, new - old, UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_ACCOUNT,
			      NULL, 0, old > mm->brk_start);
	}
	if (!err)
		mm->brk = addr;
	return err;
}

int uhmm_brk(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_vaddr_t *out)
{
	int err;

	if (!uhmm__current())
		return -EINVAL;
	mmap_write_lock(mm);
	err = do_brk(mm, addr);
	if (out)
		*out = mm->brk;
	mmap_write_unlock(mm);
	uhmm__exit_to_user();
	return err;
}
