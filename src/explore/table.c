// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explore/table.h"

#if UHMM_CHECKED

#include "explore/pool.h"

#define MAX_ENTRIES (1UL << 28)
#define MAX_BYTES (MAX_ENTRIES * sizeof(struct uhmm__hash))
#define FIRST_ENTRIES (1UL << 12)

int uhmm__table_init(struct uhmm__table *t)
{
	*t = (struct uhmm__table){ .now.cap = FIRST_ENTRIES };
	t->now.v = uhmm__shared_alloc(MAX_BYTES);
	t->other.v = uhmm__shared_alloc(MAX_BYTES);
	if (t->now.v && t->other.v)
		return 0;
	uhmm__table_exit(t);
	return -ENOMEM;
}

void uhmm__table_exit(struct uhmm__table *t)
{
	uhmm__shared_free(t->now.v, MAX_BYTES);
	uhmm__shared_free(t->other.v, MAX_BYTES);
	*t = (struct uhmm__table){ 0 };
}

/* Where it is, or would be. */
static struct uhmm__hash *place(const struct uhmm__table_half *half, struct uhmm__hash h)
{
	for (size_t i = h.lo;; i++) {
		struct uhmm__hash *p = &half->v[i & (half->cap - 1)];

		if ((p->lo == h.lo && p->hi == h.hi) || !(p->lo | p->hi))
			return p;
	}
}

bool uhmm__table_has(const struct uhmm__table *t, struct uhmm__hash h)
{
	const struct uhmm__hash *p = place(&t->now, h);

	return p->lo | p->hi;
}

static int grow(struct uhmm__table *t)
{
	struct uhmm__table_half old = t->now;

	if (old.cap == MAX_ENTRIES)
		return -ENOMEM;
	t->other.cap = 2 * old.cap;
	for (size_t i = 0; i < old.cap; i++)
		if (old.v[i].lo | old.v[i].hi)
			*place(&t->other, old.v[i]) = old.v[i];
	uhmm__shared_clear(old.v, old.cap * sizeof(*old.v));
	t->now = t->other;
	t->other = old;
	return 0;
}

int uhmm__table_add(struct uhmm__table *t, struct uhmm__hash h)
{
	struct uhmm__hash *p;

	if (t->nr >= t->now.cap / 2 && grow(t))
		return -ENOMEM;
	p = place(&t->now, h);
	if (p->lo | p->hi)
		return 0;
	*p = h;
	t->nr++;
	return 1;
}

#endif /* UHMM_CHECKED */
