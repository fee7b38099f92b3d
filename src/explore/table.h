/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* table.h - a set of state hashes in shared memory: one process adds, all look. */
#ifndef UHMM_EXPLORE_TABLE_H
#define UHMM_EXPLORE_TABLE_H

#include "core/region.h"

#if UHMM_CHECKED

struct uhmm__table_half {
	struct uhmm__hash *v; /* all zero = empty */
	size_t cap;	      /* a power of two */
};

struct uhmm__table {
	struct uhmm__table_half now, other; /* the other is where it grows to */
	size_t nr;
};

/* @t lies in shared memory itself. Returns: 0 or -ENOMEM. */
int uhmm__table_init(struct uhmm__table *t);
void uhmm__table_exit(struct uhmm__table *t);
bool uhmm__table_has(const struct uhmm__table *t, struct uhmm__hash h);
/* Returns: 1 it is new, 0 it was there, -ENOMEM. Context: nobody looks meanwhile. */
int uhmm__table_add(struct uhmm__table *t, struct uhmm__hash h);

#endif
#endif /* UHMM_EXPLORE_TABLE_H */
