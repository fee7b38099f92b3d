/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* large_folio.h - a folio of any order in the fixture's address space. */
#ifndef TESTS_UNIT_LARGE_FOLIO_H
#define TESTS_UNIT_LARGE_FOLIO_H

#include "map_large.h"
#include "unit/inside.h"

/* A large folio at @addr, a PTE for each page. The i-th page holds i + 1. */
static inline struct uhmm__frame *map_large(uhmm_vaddr_t addr, unsigned int order)
{
	struct uhmm__frame *folio = map_large_folio(f.mm, addr, order);

	for (unsigned int i = 0; i < 1U << order; i++)
		put_word(f.mm, addr + i * PAGE, i + 1);
	return folio;
}

#endif /* TESTS_UNIT_LARGE_FOLIO_H */
