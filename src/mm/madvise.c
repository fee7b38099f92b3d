// SPDX-License-Identifier: LGPL-2.1-or-later
/* madvise and populating. Models: mm/madvise.c, and mm/gup.c:faultin_page_range(). */
#include <sys/mman.h>

#include "mm/mm.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/*
 * Fault a page in unless it is there. Returns 0 or a negative errno; mmap_lock may be dropped and
 * taken again, which *vma then is NULL for.
 */
static int populate_page(struct uhmm_mm *mm, struct uhmm_vma **vmap, uhmm_vaddr_t addr, bool write)
{
	struct uhmm_vma *vma = *vmap;
	unsigned int flags = FAULT_FLAG_REMOTE | (write ? FAULT_FLAG_WRITE : 0);

	for (;;) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);
		ptent_t *ptep = pmdp ? uhmm__pte_offset_map(pmdp, addr, NULL) : NULL;
		pte_t pte = pte_make(0);
		int ret;

		if (ptep) {
			pte = ptep_get(ptep);
			uhmm__pte_unmap(ptep);
		}
		if (pte_present(pte) && !pte_protnone(pte) && (!write || pte_write(pte)))
			return 0;
		ret = uhmm__handle_mm_fault(vma, addr, flags);
		if (ret & VM_FAULT_ERROR)
			return uhmm__vm_fault_to_errno(ret);
	}
}

/* Models: madvise_populate(). Context: takes mmap_lock for reading. */
static int populate(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, bool write)
{
	struct uhmm_vma *vma = NULL;
	uhmm_vaddr_t addr;
	int err = 0;

	mmap_read_lock(mm);
	for (addr = start; addr < end && !err; addr += UHMM_PAGE_SIZE) {
		if (!vma || addr >= vma->end)
			vma = uhmm__vma_lookup(mm, addr);
		if (!vma)
			err = -ENOMEM;
		else if (!(vma->flags & (write ? UHMM_VM_WRITE : UHMM_VM_READ)))
			err = -EINVAL;
		else
			err = populate_page(mm, &vma, addr, write);
	}
	mmap_read_unlock(mm);
	return err;
}

/* As MAP_POPULATE: errors are nobody's business. Models: mm_populate(). */
void uhmm__populate(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm_vma *vma;
	bool write, readable;

	mmap_read_lock(mm);
	vma = uhmm__vma_lookup(mm, start);
	/* Shared pages are read: writing would dirty them for nothing. */
	write = vma && (vma->flags & (UHMM_VM_WRITE | UHMM_VM_SHARED)) == UHMM_VM_WRITE;
	readable = vma && (vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC));
	mmap_read_unlock(mm);
	if (readable)
		(void)populate(mm, start, end, write);
}

/* What an advice does to the flags of a VMA; false if it is none of these. */
static bool advice_flags(int advice, uint64_t *set, uint64_t *clear)
{
	static const struct {
		int advice;
		uint64_t set, clear;
	} table[] = {
		{ MADV_DONTFORK, UHMM_VM_DONTCOPY, 0 },
		{ MADV_DOFORK, 0, UHMM_VM_DONTCOPY },
		{ MADV_WIPEONFORK, UHMM_VM_WIPEONFORK, 0 },
		{ MADV_KEEPONFORK, 0, UHMM_VM_WIPEONFORK },
		{ MADV_HUGEPAGE, UHMM_VM_HUGEPAGE, UHMM_VM_NOHUGEPAGE },
		{ MADV_NOHUGEPAGE, UHMM_VM_NOHUGEPAGE, UHMM_VM_HUGEPAGE },
		{ MADV_MERGEABLE, UHMM_VM_MERGEABLE, 0 },
		{ MADV_UNMERGEABLE, 0, UHMM_VM_MERGEABLE },
		/* Read-ahead is not modelled, nor are core dumps. */
		{ MADV_NORMAL, 0, 0 },
		{ MADV_RANDOM, 0, 0 },
		{ MADV_SEQUENTIAL, 0, 0 },
		{ MADV_DONTDUMP, 0, 0 },
		{ MADV_DODUMP, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].advice != advice)
			continue;
		*set = table[i].set;
		*clear = table[i].clear;
		return true;
	}
	return false;
}

static int advise_vma_flags(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end,
			    uint64_t set, uint64_t clear)
{
	uint64_t flags = (vma->flags & ~clear) | set;
	int err;

	if (set & UHMM_VM_WIPEONFORK && vma->file)
		return -EINVAL;
	if (flags == vma->flags)
		return 0;
	err = uhmm__vma_isolate(&vma, start, end);
	if (err)
		return err;
	uhmm__vma_set_flags(vma, flags);
	uhmm__vma_merge(vma);
	return 0;
}

/* Advice that changes VMAs, with the write lock. */
static int advise_flags(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, uint64_t set,
			uint64_t clear)
{
	uhmm_vaddr_t addr = start;
	int unmapped = 0, err = 0;

	mmap_write_lock(mm);
	while (addr < end && !err) {
		struct uhmm_vma *vma = uhmm__find_vma(mm, addr);
		uhmm_vaddr_t next;

		if (!vma || vma->start > addr) {
			unmapped = -ENOMEM;
			if (!vma || vma->start >= end)
				break;
			addr = vma->start;
		}
		next = MIN(vma->end, end);
		err = advise_vma_flags(vma, addr, next, set, clear);
		addr = next;
	}
	mmap_write_unlock(mm);
	return err ? err : unmapped;
}

/* MADV_DONTNEED: drop the pages, keep the mapping. MADV_FREE: only where they are anonymous. */
static int advise_dontneed(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, bool anon)
{
	uhmm_vaddr_t addr = start;
	int unmapped = 0;

	mmap_read_lock(mm);
	while (addr < end) {
		struct uhmm_vma *vma = uhmm__find_vma(mm, addr);
		uhmm_vaddr_t next;

		if (!vma || vma->start > addr) {
			unmapped = -ENOMEM;
			if (!vma || vma->start >= end)
				break;
			addr = vma->start;
		}
		if (vma->flags & (UHMM_VM_LOCKED | UHMM_VM_PFNMAP) || (anon && vma->file)) {
			unmapped = -EINVAL;
			break;
		}
		next = MIN(vma->end, end);
		uhmm__zap_range(vma, addr, next);
		addr = next;
	}
	mmap_read_unlock(mm);
	return unmapped;
}

/*
 * MADV_REMOVE and MADV_WILLNEED: something is done to the file, for which mmap_lock is dropped.
 * Models: madvise_remove(), madvise_willneed() of files with a disk.
 */
static int advise_vma_file(struct uhmm_mm *mm, struct uhmm_vma *vma, uhmm_vaddr_t start,
			   uhmm_vaddr_t end, bool remove)
{
	struct uhmm_file *file = vma->file;
	uint64_t first = vma_pgoff(vma, start), n = (end - start) >> UHMM_PAGE_SHIFT;
	int err;

	if (remove && (vma->flags & UHMM_VM_LOCKED || !file))
		return -EINVAL;
	if (remove && !(vma->flags & UHMM_VM_SHARED))
		return -EACCES;
	if (!remove && (!file || file->kind == UHMM_FILE_MEMORY))
		return 0;
	uhmm_file_get(file);
	mmap_read_unlock(mm);
	if (remove)
		err = uhmm_file_punch_hole(file, first << UHMM_PAGE_SHIFT, n << UHMM_PAGE_SHIFT);
	else
		err = uhmm__mapping_populate(&file->mapping, first, n);
	uhmm_file_put(file);
	mmap_read_lock(mm);
	return err;
}

static int advise_file(struct uhmm_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end, bool remove)
{
	uhmm_vaddr_t addr = start;
	int unmapped = 0, err = 0;

	mmap_read_lock(mm);
	while (addr < end && !err) {
		struct uhmm_vma *vma = uhmm__find_vma(mm, addr);
		uhmm_vaddr_t next;

		if (!vma || vma->start > addr) {
			unmapped = -ENOMEM;
			if (!vma || vma->start >= end)
				break;
			addr = vma->start;
		}
		next = MIN(vma->end, end);
		err = advise_vma_file(mm, vma, addr, next, remove);
		addr = next;
	}
	mmap_read_unlock(mm);
	return err ? err : unmapped;
}

static bool not_modelled(int advice)
{
	static const int list[] = { MADV_COLD,		MADV_PAGEOUT,	   MADV_COLLAPSE,
				    MADV_HWPOISON,	MADV_SOFT_OFFLINE, MADV_DONTNEED_LOCKED,
				    MADV_GUARD_INSTALL, MADV_GUARD_REMOVE };

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		if (list[i] == advice)
			return true;
	}
	return false;
}

int uhmm_madvise(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int advice)
{
	uint64_t set = 0, clear = 0;
	uhmm_vaddr_t end;
	bool flags;
	int err;

	if (!uhmm__current() || addr & ~UHMM_PAGE_MASK)
		return -EINVAL;
	flags = advice_flags(advice, &set, &clear);
	end = ALIGN_UP(addr + len, UHMM_PAGE_SIZE);
	if (end < addr || (len && end == addr))
		return -EINVAL;
	if (advice == MADV_REMOVE || advice == MADV_WILLNEED)
		err = advise_file(mm, addr, end, advice == MADV_REMOVE);
	else if (flags)
		err = advise_flags(mm, addr, end, set, clear);
	else if (advice == MADV_DONTNEED || advice == MADV_FREE)
		/* Freed lazily in Linux, when memory gets short; a process may rely on neither. */
		err = advise_dontneed(mm, addr, end, advice == MADV_FREE);
	else if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
		err = populate(mm, addr, end, advice == MADV_POPULATE_WRITE);
	else if (not_modelled(advice))
		err = -EOPNOTSUPP;
	else
		err = -EINVAL;
	uhmm__exit_to_user();
	return err;
}
