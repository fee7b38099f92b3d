/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * entry.h - page-table entries: what a 64-bit entry can be.
 *
 * Present entries have the x86-64 hardware layout. The others have its swap layout: a type of five
 * bits at the top and an inverted offset below it, so that a stray present bit would point at no
 * memory. An entry that points to a lower table holds that table's host address where hardware
 * would have its frame number.
 *
 * Callers handle the closed set of enum leaf_type, not bits.
 */
#ifndef UHMM_PGTABLE_ENTRY_H
#define UHMM_PGTABLE_ENTRY_H

#include "core/compiler.h"

typedef struct {
	uint64_t val;
} pte_t;

/* A present entry, x86-64. */
#define PTE_PRESENT BIT(0)
#define PTE_RW BIT(1)
#define PTE_USER BIT(2)
#define PTE_ACCESSED BIT(5)
#define PTE_DIRTY BIT(6)
#define PTE_PSE BIT(7)	    /* PMD level: a huge leaf */
#define PTE_PROTNONE BIT(8) /* present for the kernel, not for the CPU */
#define PTE_SPECIAL BIT(9)  /* no page of ours behind it: a driver's mapping */
#define PTE_UFFD_WP BIT(10)
#define PTE_SOFT_DIRTY BIT(11)
#define PTE_NX BIT(63)
#define PTE_PFN_SHIFT 12
#define PTE_PFN_MASK 0x000ffffffffff000UL
#define PTE_TABLE (PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED)

/* A non-present entry: | type 63..59 | ~offset 58..9 | flags 8..0, bits 0 and 8 clear |. */
#define LEAF_TYPE_SHIFT 59
#define LEAF_OFFSET_BITS 50
#define LEAF_OFFSET_SHIFT 9
#define LEAF_SOFT_DIRTY BIT(1)
#define LEAF_UFFD_WP BIT(2)
#define LEAF_EXCLUSIVE BIT(3) /* swap entries only */
/* Within the offset of an entry that holds a pfn. */
#define LEAF_PFN_BITS 40
#define LEAF_PFN_MASK (BIT(LEAF_PFN_BITS) - 1)
#define LEAF_YOUNG BIT(LEAF_PFN_BITS)
#define LEAF_DIRTY BIT(LEAF_PFN_BITS + 1)

/*
 * Kinds of non-present entries, numbered as in include/linux/swap.h: /proc/PID/pagemap shows them.
 * Types below LEAF_SPECIAL are swap devices.
 */
enum leaf_type {
	LEAF_SWAP = 0,
	LEAF_SPECIAL = 24,
	LEAF_HWPOISON = LEAF_SPECIAL,
	LEAF_MIGRATION_READ,
	LEAF_MIGRATION_READ_EXCLUSIVE,
	LEAF_MIGRATION_WRITE,
	LEAF_DEVICE_PRIVATE_WRITE,
	LEAF_DEVICE_PRIVATE_READ,
	LEAF_DEVICE_EXCLUSIVE,
	LEAF_MARKER, /* offset: enum pte_marker bits */
};

enum pte_marker {
	MARKER_UFFD_WP = 1,
	MARKER_POISONED = 2,
	MARKER_GUARD = 4,
};

uhmm_always_inline pte_t pte_make(uint64_t val)
{
	return (pte_t){ val };
}

uhmm_always_inline bool pte_none(pte_t p)
{
	return p.val == 0;
}

uhmm_always_inline bool pte_same(pte_t a, pte_t b)
{
	return a.val == b.val;
}

uhmm_always_inline bool pte_present(pte_t p)
{
	return p.val & (PTE_PRESENT | PTE_PROTNONE);
}

/* Not accessible to the CPU although present: mprotect(PROT_NONE), NUMA hints. */
uhmm_always_inline bool pte_protnone(pte_t p)
{
	return (p.val & (PTE_PRESENT | PTE_PROTNONE)) == PTE_PROTNONE;
}

uhmm_always_inline bool pte_write(pte_t p)
{
	return p.val & PTE_RW;
}

uhmm_always_inline bool pte_young(pte_t p)
{
	return p.val & PTE_ACCESSED;
}

uhmm_always_inline bool pte_dirty(pte_t p)
{
	return p.val & PTE_DIRTY;
}

uhmm_always_inline uhmm_pfn_t pte_pfn(pte_t p)
{
	return (p.val & PTE_PFN_MASK) >> PTE_PFN_SHIFT;
}

uhmm_always_inline pte_t pte_set(pte_t p, uint64_t bits)
{
	return pte_make(p.val | bits);
}

uhmm_always_inline pte_t pte_clear_bits(pte_t p, uint64_t bits)
{
	return pte_make(p.val & ~bits);
}

/* A present entry for @pfn with the protection bits of a VMA (vma->page_prot). */
uhmm_always_inline pte_t pte_mk(uhmm_pfn_t pfn, uint64_t page_prot)
{
	return pte_make(pfn << PTE_PFN_SHIFT | page_prot);
}

/* New protection bits, keeping what mprotect() must keep. */
uhmm_always_inline pte_t pte_modify(pte_t p, uint64_t page_prot)
{
	const uint64_t keep = PTE_PFN_MASK | PTE_ACCESSED | PTE_DIRTY | PTE_SOFT_DIRTY |
			      PTE_UFFD_WP | PTE_SPECIAL | PTE_PSE;

	return pte_make((p.val & keep) | (page_prot & ~keep));
}

/*
 * Tables: valid for PGD, PUD and PMD entries. What points to one has always the same bits (see
 * entry_table()), and these hold neither for a leaf, which has PTE_PSE, nor for what is not present: one
 * byte tells.
 */
uhmm_always_inline bool entry_is_table(pte_t p)
{
	return (uint8_t)p.val == (uint8_t)PTE_TABLE;
}

/* A PMD entry that maps, or stands for, a whole huge page. */
uhmm_always_inline bool pmd_is_leaf(pte_t p)
{
	return !pte_none(p) && !entry_is_table(p);
}

/* Of these, one that is present. Models: pmd_trans_huge(). */
uhmm_always_inline bool pmd_trans_huge(pte_t p)
{
	return pte_present(p) && (p.val & PTE_PSE);
}

/* ---- non-present entries ---- */

uhmm_always_inline bool pte_is_leaf_entry(pte_t p)
{
	return !pte_none(p) && !pte_present(p);
}

/* Kind of a non-present, not-none entry; every swap device is LEAF_SWAP. */
uhmm_always_inline enum leaf_type leaf_type(pte_t p)
{
	unsigned int t = (unsigned int)(p.val >> LEAF_TYPE_SHIFT);

	return t < LEAF_SPECIAL ? LEAF_SWAP : (enum leaf_type)t;
}

uhmm_always_inline uint64_t leaf_offset(pte_t p)
{
	return (~p.val >> LEAF_OFFSET_SHIFT) & (BIT(LEAF_OFFSET_BITS) - 1);
}

uhmm_always_inline uhmm_pfn_t leaf_pfn(pte_t p)
{
	return leaf_offset(p) & LEAF_PFN_MASK;
}

uhmm_always_inline pte_t leaf_make(enum leaf_type type, uint64_t offset)
{
	return pte_make((uint64_t)type << LEAF_TYPE_SHIFT | (~offset & (BIT(LEAF_OFFSET_BITS) - 1))
								    << LEAF_OFFSET_SHIFT);
}

/* The same of a pfn, which has no bits beyond the offset: taken off an offset of ones, it is inverted. */
uhmm_always_inline pte_t leaf_make_pfn(enum leaf_type type, uhmm_pfn_t pfn)
{
	return pte_make(leaf_make(type, 0).val - (pfn << LEAF_OFFSET_SHIFT));
}

/* Types from @first to @last, which no entry that is none has, and no swap entry. */
uhmm_always_inline bool leaf_is_between(pte_t p, enum leaf_type first, enum leaf_type last)
{
	return (p.val >> LEAF_TYPE_SHIFT) - first <= (unsigned int)(last - first) &&
	       !pte_present(p);
}

uhmm_always_inline bool leaf_is_migration(pte_t p)
{
	return leaf_is_between(p, LEAF_MIGRATION_READ, LEAF_MIGRATION_WRITE);
}

uhmm_always_inline bool leaf_is_device_private(pte_t p)
{
	return leaf_is_between(p, LEAF_DEVICE_PRIVATE_WRITE, LEAF_DEVICE_PRIVATE_READ);
}

uhmm_always_inline bool leaf_is_device_exclusive(pte_t p)
{
	return pte_is_leaf_entry(p) && leaf_type(p) == LEAF_DEVICE_EXCLUSIVE;
}

/* An entry that holds a frame: migration, device-private, device-exclusive, hwpoison. */
uhmm_always_inline bool leaf_has_pfn(pte_t p)
{
	return pte_is_leaf_entry(p) && leaf_type(p) >= LEAF_HWPOISON && leaf_type(p) < LEAF_MARKER;
}

uhmm_always_inline bool leaf_is_marker(pte_t p, enum pte_marker bits)
{
	return pte_is_leaf_entry(p) && leaf_type(p) == LEAF_MARKER && (leaf_offset(p) & bits);
}

/* The same kind of entry with another type; offset and flags stay. */
uhmm_always_inline pte_t leaf_retype(pte_t p, enum leaf_type type)
{
	return pte_make((p.val & (BIT(LEAF_TYPE_SHIFT) - 1)) | (uint64_t)type << LEAF_TYPE_SHIFT);
}

/* The same kind of entry for the @n-th frame after its own; not for swap entries and markers. */
uhmm_always_inline pte_t leaf_advance(pte_t p, uint64_t n)
{
	return pte_make(p.val - (n << LEAF_OFFSET_SHIFT));
}

/* What a PTE would be that does for the @n-th page what a PMD leaf does for all. */
uhmm_always_inline pte_t pmd_page_entry(pte_t pmd, uint64_t n)
{
	if (pte_present(pmd))
		return pte_make((pmd.val & ~PTE_PSE) + (n << PTE_PFN_SHIFT));
	return leaf_advance(pmd, n);
}

#endif /* UHMM_PGTABLE_ENTRY_H */
