/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * types.h - basic types, units and attributes used by every public header.
 *
 * Units are in the type or in the name:
 *   uhmm_vaddr_t   a virtual address of a modelled process, in bytes
 *   uhmm_pfn_t     a page frame number of a modelled machine, in 4 KiB frames
 *   npages         a count of 4 KiB pages
 *   order          log2 of a count of 4 KiB pages
 *   ns, cycles     time; _ns of the host is never mixed with modelled time
 * Ranges are always [start, end).
 *
 * Errors are 0 or a negative errno of Linux; a function that must be checked says so to the
 * compiler. Outputs are untouched on failure unless a function documents otherwise.
 */
#ifndef UHMM_TYPES_H
#define UHMM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UHMM_API __attribute__((visibility("default")))
#define UHMM_MUST_CHECK __attribute__((warn_unused_result))

#ifdef __cplusplus
#define UHMM_BEGIN_DECLS extern "C" {
#define UHMM_END_DECLS }
#else
#define UHMM_BEGIN_DECLS
#define UHMM_END_DECLS
#endif

typedef uint64_t uhmm_vaddr_t;
typedef uint64_t uhmm_pfn_t;

/*
 * Set in the pfn of a device-private page of a machine that keeps those out of the physical address
 * space: the rest counts from 0 in a space of their own, and says nothing of RAM.
 */
#define UHMM_PFN_DEVICE_SPACE (1UL << 39)

#define UHMM_PAGE_SHIFT 12
#define UHMM_PAGE_SIZE (1UL << UHMM_PAGE_SHIFT)
#define UHMM_PAGE_MASK (~(UHMM_PAGE_SIZE - 1))
#define UHMM_PMD_SHIFT 21
#define UHMM_PMD_SIZE (1UL << UHMM_PMD_SHIFT)
#define UHMM_PMD_MASK (~(UHMM_PMD_SIZE - 1))
#define UHMM_PMD_ORDER (UHMM_PMD_SHIFT - UHMM_PAGE_SHIFT)
#define UHMM_PTRS_PER_TABLE 512
/* End of the user half of a 48-bit address space, as x86-64's TASK_SIZE. */
#define UHMM_TASK_SIZE 0x7ffffffff000UL

#endif /* UHMM_TYPES_H */
