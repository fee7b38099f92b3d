/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * large.h - what a large folio has beyond a page: who maps it, and the list of those that are mapped
 * only in part.
 *
 * The words are those that tails do not need: the counts of mappings in the first tail, the two
 * address spaces that map it most in the second and third, the list in the aux of the first two. A
 * folio of two pages lacks the last two and counts as shared, and is on no list.
 */
#ifndef UHMM_MM_LARGE_H
#define UHMM_MM_LARGE_H

#include "mm/frame.h"

struct uhmm_mm;

/*
 * @n more (less) entries of @mm map pages of a large folio. Models: folio_add_large_mapcount() and
 * folio_sub_large_mapcount(), with the two slots of CONFIG_MM_ID. Context: PTL.
 */
void uhmm__large_mapcount_add(struct uhmm__frame *f, struct uhmm_mm *mm, unsigned int n);
void uhmm__large_mapcount_sub(struct uhmm__frame *f, struct uhmm_mm *mm, unsigned int n);
/* The first mappings of a new folio. */
void uhmm__large_mapcount_set(struct uhmm__frame *f, struct uhmm_mm *mm, unsigned int n);

/* Whether others than one mm may map it. Models: folio_maybe_mapped_shared(). */
bool uhmm__large_mapped_shared(struct uhmm__frame *f);
/*
 * Whether all references are mappings, and all of one mm: then a page of it may be written in place.
 * Models: __wp_can_reuse_large_anon_folio(). Context: PTL.
 */
bool uhmm__large_can_reuse(struct uhmm__frame *f);

/* ---- the list of folios that are mapped in part ---- */

int uhmm__deferred_init(struct uhmm_machine *m);
void uhmm__deferred_exit(struct uhmm_machine *m);
/*
 * A large folio of which some pages are mapped and some are not is worth splitting when RAM gets
 * short. Models: deferred_split_folio().
 */
void uhmm__deferred_split_queue(struct uhmm_machine *m, struct uhmm__frame *f);
/* The same if it is one. Models: the end of __folio_remove_rmap(). */
void uhmm__deferred_split_check(struct uhmm_machine *m, struct uhmm__frame *f);
/* Context: the folio is frozen or being freed. Models: folio_unqueue_deferred_split(). */
void uhmm__deferred_split_unqueue(struct uhmm_machine *m, struct uhmm__frame *f);
/* The first of the list with a reference, off the list; NULL if it is empty. */
struct uhmm__frame *uhmm__deferred_split_pop(struct uhmm_machine *m);
/* Folios on the list. */
uint64_t uhmm__deferred_split_count(struct uhmm_machine *m);

#endif /* UHMM_MM_LARGE_H */
