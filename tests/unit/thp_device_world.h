/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* thp_device_world.h - for the tests of huge pages and devices: huge pages, and one migration at a time. */
#ifndef TESTS_UNIT_THP_DEVICE_WORLD_H
#define TESTS_UNIT_THP_DEVICE_WORLD_H

#include "hmm/range.h"
#include "migrate/migrate.h"
#include "mm/huge.h"
#include "unit/migrate_world.h"

enum { NR = UHMM_PTRS_PER_TABLE };
#define HUGE UHMM_PMD_SIZE

#define HV UHMM_HMM_PFN_VALID
#define HW UHMM_HMM_PFN_WRITE
#define HE UHMM_HMM_PFN_ERROR
#define O9 (9UL << UHMM_HMM_PFN_ORDER_SHIFT)

#define C UHMM_MIGRATE_PFN_COMPOUND
#define COMPOUND UHMM_MIGRATE_VMA_SELECT_COMPOUND

static struct uhmm_machine *m;

static inline void setup(void)
{
	setup_fixture();
	m = f.m;
}

static inline void map_huge(uhmm_vaddr_t addr, unsigned int n)
{
	map_fixed(f.mm, addr, n * NR, RW);
	expect_eq(uhmm_madvise(f.mm, addr, n * HUGE, MADV_HUGEPAGE), 0);
}

static inline struct uhmm__frame *map_huge_written(uhmm_vaddr_t addr)
{
	map_huge(addr, 1);
	for (unsigned int i = 0; i < NR; i++)
		put_word(f.mm, addr + i * PAGE, i + 1);
	expect(pmd_trans_huge(pmd_at(f.mm, addr)));
	return pmd_folio(m, pmd_at(f.mm, addr));
}

static inline void expect_written(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int first,
				  unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		expect_eq(get_word(mm, addr + i * PAGE), i + 1);
}

static inline void expect_src(unsigned int from, unsigned int to, uint64_t v)
{
	for (unsigned int i = from; i < to; i++)
		expect_eq(src[i], v);
}

static inline uhmm_pfn_t device_huge(void)
{
	uhmm_pfn_t pfn;

	expect_eq(uhmm_devmem_alloc_folio(uhmm_device_memory(f.dev[0]), NULL, 9, &pfn), 0);
	return pfn;
}

#endif /* TESTS_UNIT_THP_DEVICE_WORLD_H */
