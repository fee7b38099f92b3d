/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mm.h - address spaces: mapping, forking, access by a CPU.
 *
 * Every call needs a current task of the same machine (machine.h). Calls that change mappings take
 * mmap_lock for writing themselves; calls that the kernel makes with mmap_lock held say so.
 * Protections, map flags and advice are those of <sys/mman.h>.
 */
#ifndef UHMM_MM_H
#define UHMM_MM_H

#include <uhmm/lock.h>
#include <uhmm/machine.h>
#include <uhmm/types.h>

UHMM_BEGIN_DECLS

struct uhmm_vma;
struct uhmm_file;

/* ---- life ---- */

/**
 * uhmm_mm_create() - an empty address space
 * @m: machine
 * @out: (out) the mm, with one user reference
 * Returns: 0 or -ENOMEM.
 * Lifetime: uhmm_mmput() drops the reference; with the last one all mappings go.
 * Models: mm_alloc(), full.
 */
UHMM_API int uhmm_mm_create(struct uhmm_machine *m, struct uhmm_mm **out) UHMM_MUST_CHECK;

/**
 * uhmm_mm_fork() - copy an address space
 * @parent: mm to copy
 * @out: (out) the copy, with one user reference
 * Returns: 0, or -ENOMEM with nothing left of the copy.
 * Context: takes the mmap_lock of both for writing; sleeps; runs notifier callbacks of @parent.
 * Models: kernel/fork.c:dup_mmap() and mm/memory.c:copy_page_range(), full.
 */
UHMM_API int uhmm_mm_fork(struct uhmm_mm *parent, struct uhmm_mm **out) UHMM_MUST_CHECK;

/** uhmm_mmget() - take a user reference; @mm must have one. Models: mmget(). */
UHMM_API void uhmm_mmget(struct uhmm_mm *mm);

/**
 * uhmm_mmget_not_zero() - take a user reference unless the last one is gone
 * Returns: true if it was taken. Models: mmget_not_zero().
 */
UHMM_API bool uhmm_mmget_not_zero(struct uhmm_mm *mm);

/**
 * uhmm_mmput() - drop a user reference
 * @mm: mm
 * Context: may sleep: the last one releases the notifiers and unmaps everything.
 * Models: mmput(), exit_mmap().
 */
UHMM_API void uhmm_mmput(struct uhmm_mm *mm);

/** uhmm_mmgrab() - keep the structure, not its mappings. Models: mmgrab(). */
UHMM_API void uhmm_mmgrab(struct uhmm_mm *mm);

/** uhmm_mmdrop() - drop what uhmm_mmgrab() took. Models: mmdrop(). */
UHMM_API void uhmm_mmdrop(struct uhmm_mm *mm);

/** uhmm_mm_id() - number of the mm in its machine: 1 for the first created. */
UHMM_API uint64_t uhmm_mm_id(const struct uhmm_mm *mm);

/** uhmm_mm_machine() - the machine of an mm. */
UHMM_API struct uhmm_machine *uhmm_mm_machine(const struct uhmm_mm *mm);

/* ---- mmap_lock ---- */

/* Macros over functions that are told where they stand, for the checked library (<uhmm/lock.h>). */
/** uhmm_mmap_read_lock() - as mmap_read_lock(); may sleep; not recursive: a writer may wait. */
#define uhmm_mmap_read_lock(mm) uhmm_mmap_read_lock_at(mm, UHMM_SITE)
/** uhmm_mmap_read_trylock() - true if it was taken. */
#define uhmm_mmap_read_trylock(mm) uhmm_mmap_read_trylock_at(mm, UHMM_SITE)
/** uhmm_mmap_read_unlock() - as mmap_read_unlock(). */
#define uhmm_mmap_read_unlock(mm) uhmm_mmap_read_unlock_at(mm, UHMM_SITE)
/** uhmm_mmap_write_lock() - as mmap_write_lock(); may sleep. */
#define uhmm_mmap_write_lock(mm) uhmm_mmap_write_lock_at(mm, UHMM_SITE)
/** uhmm_mmap_write_unlock() - as mmap_write_unlock(): also releases the per-VMA locks. */
#define uhmm_mmap_write_unlock(mm) uhmm_mmap_write_unlock_at(mm, UHMM_SITE)
/** @where: NULL allowed. */
UHMM_API void uhmm_mmap_read_lock_at(struct uhmm_mm *mm, const struct uhmm_site *where);
UHMM_API bool uhmm_mmap_read_trylock_at(struct uhmm_mm *mm, const struct uhmm_site *where);
UHMM_API void uhmm_mmap_read_unlock_at(struct uhmm_mm *mm, const struct uhmm_site *where);
UHMM_API void uhmm_mmap_write_lock_at(struct uhmm_mm *mm, const struct uhmm_site *where);
UHMM_API void uhmm_mmap_write_unlock_at(struct uhmm_mm *mm, const struct uhmm_site *where);

/* ---- VMAs ---- */

/* VMA flags, with the kernel's values where it has fixed ones. */
#define UHMM_VM_READ 0x1UL
#define UHMM_VM_WRITE 0x2UL
#define UHMM_VM_EXEC 0x4UL
#define UHMM_VM_SHARED 0x8UL
#define UHMM_VM_GROWSDOWN 0x100UL
#define UHMM_VM_UFFD_MISSING 0x200UL
#define UHMM_VM_PFNMAP 0x400UL
#define UHMM_VM_UFFD_WP 0x1000UL
#define UHMM_VM_LOCKED 0x2000UL
#define UHMM_VM_IO 0x4000UL
#define UHMM_VM_SEQ_READ 0x8000UL
#define UHMM_VM_RAND_READ 0x10000UL
#define UHMM_VM_DONTCOPY 0x20000UL
#define UHMM_VM_DONTEXPAND 0x40000UL
#define UHMM_VM_ACCOUNT 0x100000UL /* counts as committed memory; decides what merges */
#define UHMM_VM_NORESERVE 0x200000UL
#define UHMM_VM_WIPEONFORK 0x2000000UL
#define UHMM_VM_DONTDUMP 0x4000000UL
#define UHMM_VM_MIXEDMAP 0x10000000UL
#define UHMM_VM_HUGEPAGE 0x20000000UL
#define UHMM_VM_NOHUGEPAGE 0x40000000UL
#define UHMM_VM_MERGEABLE 0x80000000UL
#define UHMM_VM_UFFD_WP_UNPOPULATED 0x100000000UL /* of the context, in Linux */

/* What a caller may know of a VMA. */
struct uhmm_vma_info {
	uhmm_vaddr_t start, end;
	uint64_t flags; /* UHMM_VM_* */
	uint64_t pgoff; /* in pages */
	bool anonymous; /* private and without a file */
};

/**
 * uhmm_vma_lookup() - the VMA that contains an address
 * @mm: mm
 * @addr: address
 * Returns: the VMA, or NULL. Valid until mmap_lock is dropped.
 * Context: mmap_lock held, for reading at least. Models: vma_lookup().
 */
UHMM_API struct uhmm_vma *uhmm_vma_lookup(struct uhmm_mm *mm, uhmm_vaddr_t addr);

/**
 * uhmm_find_vma() - the first VMA that ends above an address
 * Returns: the VMA, or NULL. Context: as uhmm_vma_lookup(). Models: find_vma().
 */
UHMM_API struct uhmm_vma *uhmm_find_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr);

/**
 * uhmm_vma_info() - range and flags of a VMA
 * Context: as uhmm_vma_lookup().
 */
UHMM_API void uhmm_vma_info(const struct uhmm_vma *vma, struct uhmm_vma_info *out);

/** uhmm_vma_mm() - the mm of a VMA. */
UHMM_API struct uhmm_mm *uhmm_vma_mm(const struct uhmm_vma *vma);

/** uhmm_mm_nr_vmas() - number of VMAs. Context: any; exact with mmap_lock held. */
UHMM_API size_t uhmm_mm_nr_vmas(struct uhmm_mm *mm);

/* ---- system calls ---- */

/**
 * uhmm_mmap() - map memory
 * @mm: mm
 * @addr: address with MAP_FIXED or MAP_FIXED_NOREPLACE, else a hint
 * @len: bytes, rounded up to pages
 * @prot: PROT_*
 * @flags: MAP_*; MAP_GROWSDOWN makes a stack that grows on faults
 * @file: file to map, not looked at with MAP_ANONYMOUS; the mapping takes a reference
 * @pgoff: offset in @file in pages
 * @out: (out) start of the mapping; NULL allowed
 * Returns: 0; -EINVAL bad length, alignment, flags; -ENOMEM no room or memory; -EEXIST with
 * MAP_FIXED_NOREPLACE over a mapping; -EBADF neither a file nor MAP_ANONYMOUS; -EOVERFLOW @pgoff
 * beyond the largest file; -EACCES shared and writable, of a foreign file; -EOPNOTSUPP a kind of
 * mapping that is not modelled (MAP_HUGETLB).
 * MAP_SHARED with MAP_ANONYMOUS maps a memory file of its own, which stays shared across fork.
 * Context: sleeps; MAP_FIXED over mappings runs notifier callbacks. Models: mmap(2).
 */
UHMM_API int uhmm_mmap(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot, int flags,
		       struct uhmm_file *file, uint64_t pgoff, uhmm_vaddr_t *out);

/**
 * uhmm_msync() - write back what was stored through shared mappings
 * @flags: MS_SYNC writes back, see uhmm_file_writeback(); MS_ASYNC does nothing; MS_INVALIDATE fails
 * on locked mappings and does nothing else
 * Returns: 0; -EINVAL bad flags or alignment; -ENOMEM a hole in the range (the rest is done); -EBUSY
 * locked; -EIO MS_SYNC, and a dirty page of the file was lost, in the range or not, which is told once: see
 * uhmm_file_fsync() (what comes behind that mapping is not done).
 * Context: takes mmap_lock for reading; runs notifier callbacks. Models: msync(2).
 */
UHMM_API int uhmm_msync(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int flags);

/**
 * uhmm_munmap() - unmap
 * Returns: 0; -EINVAL @addr not aligned, @len 0 or the range above the address space; -ENOMEM.
 * Models: munmap(2).
 */
UHMM_API int uhmm_munmap(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len);

/**
 * uhmm_mprotect() - change protection
 * Returns: 0; -EINVAL @addr not aligned; -ENOMEM a hole in the range (the part before it is
 * changed) or no memory; -EACCES a shared mapping of a foreign file would be writable (likewise).
 * Models: mprotect(2).
 */
UHMM_API int uhmm_mprotect(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot);

/**
 * uhmm_mremap() - move or resize a mapping
 * @flags: MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP
 * @out: (out) where the mapping is now; NULL allowed
 * Returns: 0; -EINVAL; -EFAULT the old range is not mapped or crosses VMAs; -ENOMEM. @old_len 0
 * maps the same part of a shared mapping a second time.
 * Models: mremap(2).
 */
UHMM_API int uhmm_mremap(struct uhmm_mm *mm, uhmm_vaddr_t old_addr, uint64_t old_len,
			 uint64_t new_len, int flags, uhmm_vaddr_t new_addr, uhmm_vaddr_t *out);

/**
 * uhmm_madvise() - advise
 * @advice: MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
 * MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_POPULATE_READ,
 * MADV_POPULATE_WRITE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE, MADV_GUARD_INSTALL,
 * MADV_GUARD_REMOVE, MADV_HWPOISON, and those that change no page
 * Returns: 0; -EINVAL unknown advice, bad range, or not for this kind of mapping (DONTNEED, FREE, COLD,
 * PAGEOUT, REMOVE: locked memory; FREE and WIPEONFORK: files; REMOVE: anonymous memory; DOFORK,
 * DODUMP: a driver's; populate: one with VM_IO or VM_PFNMAP, no rights; guard regions: a driver's, or a
 * locked one for INSTALL), or COLLAPSE of what cannot be a huge page (not anonymous, advised against,
 * nothing there, device pages, swapped); -EACCES MADV_REMOVE of a private mapping, or a foreign file;
 * -ENOMEM a hole in the range (the rest is done; populate stops there), or no memory; -EAGAIN no memory
 * to cut a VMA, or COLLAPSE found a page that is locked or referenced by others; -EFAULT populate or
 * HWPOISON found a page that cannot be accessed, HWPOISON also a broken one; -EHWPOISON populate found one
 * that is broken; -EINTR populate: the task was killed; of HWPOISON also what uhmm_memory_failure() answers
 * (-EBUSY, -ENXIO), with the pages before that one broken; -EOPNOTSUPP not modelled yet: SOFT_OFFLINE.
 * MADV_PAGEOUT promises nothing: pages stay that are shared, pinned, isolated or locked, dirty ones of
 * regular files, all of foreign files, and those that must go to swap if there is none, or it is full.
 * Pages that MADV_FREE gave up keep their
 * contents until RAM is used up, and for good once they are written to.
 * Context: takes mmap_lock; MADV_PAGEOUT, MADV_FREE, MADV_REMOVE, MADV_COLLAPSE and MADV_HWPOISON call
 * notifiers.
 * Models: madvise(2).
 */
UHMM_API int uhmm_madvise(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int advice);

/**
 * uhmm_brk() - the heap's end
 * @addr: new end, 0 to ask
 * @out: (out) the end now, which is the old one if it could not be moved
 * Returns: 0, or -ENOMEM.
 * Models: brk(2). The heap starts where uhmm_mm_set_brk() says.
 */
UHMM_API int uhmm_brk(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_vaddr_t *out);

/** uhmm_mm_set_brk() - where the heap starts; ends at @start, too. Models: exec. */
UHMM_API void uhmm_mm_set_brk(struct uhmm_mm *mm, uhmm_vaddr_t start);

/* ---- access by a CPU ---- */

/* What an access met. */
struct uhmm_access {
	uint64_t done;		 /* bytes accessed */
	unsigned int faults;	 /* page faults raised */
	uhmm_vaddr_t fault_addr; /* where a signal was raised */
};

/**
 * uhmm_cpu_read() - read bytes as the process
 * @mm: mm
 * @addr: address, any alignment
 * @buf: (out) data; NULL to touch only
 * @len: bytes
 * @acc: (out, may be NULL) filled in always
 * Returns: 0, a positive signal number (SIGSEGV, SIGBUS) that Linux would send, or -ENOMEM where
 * Linux would call the OOM killer.
 * Context: no lock held; may sleep; may call a device's migrate_to_ram().
 * Models: a load with exc_page_fault(), do_user_addr_fault(), handle_mm_fault().
 */
UHMM_API int uhmm_cpu_read(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *buf, uint64_t len,
			   struct uhmm_access *acc);

/**
 * uhmm_cpu_write() - write bytes as the process
 * @buf: data; NULL to touch only: contents stay as they are
 * The rest as uhmm_cpu_read().
 */
UHMM_API int uhmm_cpu_write(struct uhmm_mm *mm, uhmm_vaddr_t addr, const void *buf, uint64_t len,
			    struct uhmm_access *acc);

/** uhmm_cpu_exec() - fetch an instruction: as a read that needs PROT_EXEC. */
UHMM_API int uhmm_cpu_exec(struct uhmm_mm *mm, uhmm_vaddr_t addr, struct uhmm_access *acc);

/* ---- looking ---- */

/*
 * Bits of a pagemap entry, as in /proc/PID/pagemap, read with CAP_SYS_ADMIN. FILE means a page of a
 * file or of shared memory; MMAP_EXCLUSIVE is for present pages that are mapped once; SOFT_DIRTY
 * tells of entries only, since nothing here clears it: Linux also sets it for all pages of a VMA
 * that is newer than the last clear_refs.
 */
#define UHMM_PM_PRESENT (1ULL << 63)
#define UHMM_PM_SWAP (1ULL << 62)
#define UHMM_PM_FILE (1ULL << 61)
#define UHMM_PM_MMAP_EXCLUSIVE (1ULL << 56)
#define UHMM_PM_SOFT_DIRTY (1ULL << 55)
#define UHMM_PM_UFFD_WP (1ULL << 57)
#define UHMM_PM_GUARD_REGION (1ULL << 58)
/* PRESENT: the frame. SWAP: bits 0-4 are the entry's type, the others its frame or offset. */
#define UHMM_PM_PFN_MASK ((1ULL << 55) - 1)

/**
 * uhmm_pagemap() - what /proc/PID/pagemap would say
 * @mm: mm
 * @addr: page-aligned
 * @npages: entries
 * @out: (out) @npages entries; 0 where nothing is mapped
 * Returns: 0; -EINVAL @addr not aligned, or the range leaves the address space.
 * Context: takes mmap_lock for reading, once for each 2 MiB; sleeps. Not one moment's picture if
 * other tasks run. Models: fs/proc/task_mmu.c:pagemap_read(), full but for VM_SOFTDIRTY.
 */
UHMM_API int uhmm_pagemap(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t npages, uint64_t *out);

/**
 * uhmm_emit_fn() - takes one line of a dump
 * @data: the caller's
 * @line: text without a newline
 */
typedef void uhmm_emit_fn(void *data, const char *line);

/**
 * uhmm_mm_dump() - page tables, VMAs and folios as text
 * @mm: mm
 * @emit: called for each line, with mmap_lock held: must not call into the library
 * @data: passed to @emit
 * One line for the mm, one for each VMA, below it one for each run of like entries, one for the
 * tables. The first word tells which; src/mm/dump.c has the format. Fields may be added.
 * Context: with or without a current task; takes mmap_lock for reading. Models: invented.
 */
UHMM_API void uhmm_mm_dump(struct uhmm_mm *mm, uhmm_emit_fn *emit, void *data);

/**
 * uhmm_machine_verify() - walk everything and check every invariant
 * @m: machine
 * Returns: number of violations; each is reported (UHMM_REPORT_VERIFY). Negative: -ENOMEM.
 * Context: with or without a current task; no other task of @m inside the library, and no folio
 * reference but pins kept by the caller. May sleep. Takes no memory from @m, counts nothing.
 *
 * Checked: VMA trees and VMAs; every page-table entry against its VMA; tables against VMAs and
 * against the tables in use; map, reference and pin counts of every folio against the entries and
 * LRU batches that hold it; anon-exclusive; LRU membership; free lists and leaks; that the rmap
 * leads from each folio to each of its mappings; device pages against their pagemaps; and that no
 * lock, folio lock, migration entry or invalidation was left behind. A device page that nobody
 * maps must be free, or as uhmm_zone_device_page_init() made it: it is its driver's then.
 * Models: invented; the kernel has such checks at single places (CONFIG_DEBUG_VM, page_alloc.c).
 */
UHMM_API int uhmm_machine_verify(struct uhmm_machine *m);

/* What must agree between two machines. */
enum uhmm_compare {
	/*
	 * The VMAs, and for every page: the kind of entry, the device (owners of device memory are
	 * numbered in the order of registration), write permission, contents, the order of its folio,
	 * and reference, map and pin counts without what LRU batches hold. Frame numbers, LRU, young
	 * and dirty bits may differ.
	 */
	UHMM_COMPARE_STATE,
	/*
	 * What the process would read, or would read once mprotect() let it: a page of zeroes, the
	 * zero page and an empty entry are the same, and so are RAM and device memory. Where the
	 * one may access, the other must; how VMAs are cut does not matter.
	 */
	UHMM_COMPARE_CONTENTS,
	/*
	 * As STATE, but where faults map huge pages an empty entry and the zero page are the same: a
	 * fault maps what lies around it, so it shows how wide a range was faulted. Folios may be of
	 * another order on one side, and have other counts then.
	 */
	UHMM_COMPARE_STATE_BUT_HOLES,
	/*
	 * As STATE_BUT_HOLES, and a page of zeroes in RAM counts as empty there, too, also after
	 * MADV_NOHUGEPAGE: a fault may map a huge page where another way of serving the same access
	 * maps a single one.
	 */
	UHMM_COMPARE_STATE_BUT_UNTOUCHED,
};

/**
 * uhmm_machine_compare() - whether two machines ended in the same state
 * @a, @b: machines with the same content kind; mms and files are paired by number
 * @what: how much must agree
 * @emit: called for the first differences (at most 16): where, then what @a has | what @b has;
 * NULL allowed
 * @data: passed to @emit
 * Returns: number of pages that differ, in mms and in files; each VMA (STATE), mm and file that has
 * no like on the other side counts as one. -EINVAL the content kinds differ, or unknown @what;
 * -ENOMEM.
 * Context: with or without a current task; no task inside the library on either. Models: invented.
 */
UHMM_API int64_t uhmm_machine_compare(struct uhmm_machine *a, struct uhmm_machine *b,
				      enum uhmm_compare what, uhmm_emit_fn *emit, void *data);

UHMM_END_DECLS

#endif /* UHMM_MM_H */
