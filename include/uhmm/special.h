/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * special.h - mappings and entries out of the ordinary: a driver's mappings of page frames without
 * pages, userfaultfd, hardware poison, NUMA hints.
 *
 * All need a current task, take mmap_lock themselves unless they say otherwise, and sleep.
 */
#ifndef UHMM_SPECIAL_H
#define UHMM_SPECIAL_H

#include <uhmm/mm.h>

UHMM_BEGIN_DECLS

/* ---- a driver's mappings ---- */

/**
 * uhmm_mmap_special() - map a driver's file
 * @mm: mm
 * @addr: where, with MAP_FIXED, else a hint
 * @len: bytes, rounded up to pages
 * @prot: PROT_*
 * @flags: MAP_SHARED or MAP_PRIVATE, and MAP_FIXED
 * @vm_flags: what the driver's mmap sets: one or more of UHMM_VM_IO, UHMM_VM_PFNMAP,
 * UHMM_VM_MIXEDMAP, UHMM_VM_DONTEXPAND, but not PFNMAP and MIXEDMAP both
 * @out: (out) start of the mapping; NULL allowed
 * Returns: 0; -EINVAL bad length, alignment, flags; -ENOMEM no room or memory.
 * It has no pages until the driver puts some in; the CPU's access to others is SIGBUS. Such a VMA
 * cannot migrate, and with VM_IO or VM_PFNMAP a device cannot see it.
 * Models: mmap(2) of a file whose driver has no fault handler.
 */
UHMM_API int uhmm_mmap_special(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t len, int prot,
			       int flags, uint64_t vm_flags, uhmm_vaddr_t *out) UHMM_MUST_CHECK;

/**
 * uhmm_remap_pfn_range() - put page frames into a VM_PFNMAP mapping
 * @addr: page-aligned, in such a mapping; one that is private and may be written must be filled whole
 * @pfn: the first; what the CPU reads there is what uhmm_page_write() wrote
 * @npages: pages
 * Returns: 0; -EINVAL the range is not in one such VMA, or pfns beyond the machine's; -EBUSY an entry
 * is in use (Linux: BUG); -ENOMEM.
 * No references are taken: what happens to the frames is the driver's business.
 * Models: mm/memory.c:remap_pfn_range().
 */
UHMM_API int uhmm_remap_pfn_range(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
				  uint64_t npages) UHMM_MUST_CHECK;

/**
 * uhmm_insert_mixed() - put a page frame into a VM_MIXEDMAP mapping
 * @write: writable at once, in a shared mapping that permits it
 * Returns: 0, also if there is an entry already, which stays; -EINVAL not in such a VMA, or a pfn
 * beyond the machine's; -ENOMEM.
 * Models: mm/memory.c:vmf_insert_mixed() and vmf_insert_mixed_mkwrite().
 */
UHMM_API int uhmm_insert_mixed(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
			       bool write) UHMM_MUST_CHECK;

/**
 * uhmm_vm_insert_page() - put a page that the driver allocated into its mapping
 * @addr: page-aligned
 * @pfn: a page of RAM that the caller has a reference of, as uhmm_alloc_locked_page() gives one, filled
 * and unlocked; or the zero page, in a private mapping
 * Returns: 0; -EFAULT nothing is mapped at @addr; -EINVAL no mapping of uhmm_mmap_special(), or a
 * VM_PFNMAP one, @addr not aligned, a pfn beyond RAM or of a free page, an anonymous page, the zero
 * page in a shared mapping; -EOPNOTSUPP a page of a file: not modelled; -EBUSY an entry is in use;
 * -ENOMEM.
 * The entry has the rights of the mapping: writable at once if that is shared, else copied on write. It
 * takes a reference of its own; the driver may drop its one. The mapping is VM_MIXEDMAP from then on.
 * To a device the page is one like any; it cannot migrate.
 * Models: mm/memory.c:vm_insert_page().
 */
UHMM_API int uhmm_vm_insert_page(struct uhmm_mm *mm, uhmm_vaddr_t addr,
				 uhmm_pfn_t pfn) UHMM_MUST_CHECK;

/* ---- hardware poison ---- */

/**
 * uhmm_memory_failure() - a page of RAM is broken
 * @m: machine
 * @pfn: the page
 * Returns: 0 its mappings are hardware-poison entries now, and accesses are SIGBUS; -EHWPOISON it was
 * broken before; -ENXIO not RAM: device memory, too; -EBUSY nobody's page, a driver's, the zero page,
 * or of a large folio that cannot be split, as one that is pinned: nothing has changed then
 * (Linux takes a free page off its list and says 0); -EBUSY also for a page of a file, or of the swap cache, that
 * somebody else has a reference of: the rest is done then.
 * A page in the swap cache gets swap entries instead. If it was clean the next access reads the swap device, and
 * nothing is lost; if not it stays in the cache, and accesses are SIGBUS. If a pin keeps it mapped: -EBUSY, and it
 * is no more broken than before.
 * A page of a regular file leaves the page cache, and the next access reads the disk; if it was clean its
 * mappings are empty, and no access fails; if not uhmm_file_fsync() and msync() say so. A memory file keeps it:
 * accesses of all processes are SIGBUS, and system calls -EIO, until the file gives the page up. Where its
 * mappings are hardware-poison entries they stay until they are unmapped or truncated; a hole leaves them.
 * The page is never used again. Pins on it stay valid. Models: mm/memory-failure.c:memory_failure().
 */
UHMM_API int uhmm_memory_failure(struct uhmm_machine *m, uhmm_pfn_t pfn);

/* ---- userfaultfd ---- */

/* Modes of a range, and reasons of a fault. */
#define UHMM_UFFD_MISSING 1U	    /* faults on empty entries */
#define UHMM_UFFD_WP 2U		    /* writes to pages that were write-protected */
#define UHMM_UFFD_WP_UNPOPULATED 4U /* with WP: empty entries can be protected, too */

/**
 * uhmm_uffd_fn - a fault in a registered range
 * @data: given with it
 * @mm: mm
 * @addr: page-aligned
 * @reason: UHMM_UFFD_MISSING or UHMM_UFFD_WP
 * Returns: true: resolved, the access is tried again; false: SIGBUS.
 * Context: the task that faulted, which holds nothing; may call this interface.
 */
typedef bool uhmm_uffd_fn(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason);

/**
 * uhmm_uffd_set_handler() - who resolves the faults of an mm
 * @fn: NULL, the default: nobody, faults are SIGBUS (UFFD_FEATURE_SIGBUS)
 * Whoever faults with mmap_lock held throughout, as uhmm_range_fault() does, gets SIGBUS, that is
 * -EFAULT, in any case; uhmm_range_fault_unlocked_timeout() lets the handler resolve the fault, also in a
 * combined walk, which puts everything back before.
 * Context: no other task of @mm faults. Models: reading and answering a userfaultfd.
 */
UHMM_API void uhmm_uffd_set_handler(struct uhmm_mm *mm, uhmm_uffd_fn *fn, void *data);

/**
 * uhmm_uffd_register() - watch a range
 * @start, @len: page-aligned
 * @mode: UHMM_UFFD_*; 0 ends it, and the write protection with it
 * Returns: 0; -EINVAL bad range or mode, or memory that is not anonymous; -ENOMEM nothing is mapped
 * from @start on, or no memory.
 * fork does not pass it on. Models: UFFDIO_REGISTER, UFFDIO_UNREGISTER.
 */
UHMM_API int uhmm_uffd_register(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t len,
				unsigned int mode) UHMM_MUST_CHECK;

/**
 * uhmm_uffd_writeprotect() - protect pages, or end that
 * Returns: 0; -EINVAL bad range; -ENOENT a part is not registered for it; -ENOMEM.
 * Models: UFFDIO_WRITEPROTECT.
 */
UHMM_API int uhmm_uffd_writeprotect(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t len,
				    bool protect) UHMM_MUST_CHECK;

/**
 * uhmm_uffd_copy() - put a page where none is
 * @addr: page-aligned
 * @page: 4096 bytes
 * @protect: write-protect it
 * Returns: 0; -EINVAL; -ENOENT not registered; -EEXIST there is something; -ENOMEM.
 * Models: UFFDIO_COPY of one page.
 */
UHMM_API int uhmm_uffd_copy(struct uhmm_mm *mm, uhmm_vaddr_t addr, const void *page,
			    bool protect) UHMM_MUST_CHECK;

/**
 * uhmm_uffd_poison() - make a page that is not there one that is SIGBUS
 * Returns: as uhmm_uffd_copy(). Models: UFFDIO_POISON of one page.
 */
UHMM_API int uhmm_uffd_poison(struct uhmm_mm *mm, uhmm_vaddr_t addr) UHMM_MUST_CHECK;

/* ---- NUMA hints ---- */

/**
 * uhmm_change_prot_numa() - make pages inaccessible, to see who accesses them
 * @start, @len: page-aligned
 * Returns: entries changed; -EINVAL bad range.
 * The next access restores the entry. Left out: VMAs that are special or cannot be accessed, device
 * memory, the zero page, pages that are shared copy-on-write or may be pinned. Entries of
 * device-private pages become read-only, as with any change of protection. The page itself does not
 * move: there is one node.
 * Models: mm/mempolicy.c:change_prot_numa(), folio_can_map_prot_numa(), as if on another node.
 */
UHMM_API int64_t uhmm_change_prot_numa(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t len);

UHMM_END_DECLS

#endif /* UHMM_SPECIAL_H */
