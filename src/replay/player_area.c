// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * player_area.c - what the trace says of each range of addresses.
 *
 * Ranges point to attributes that are counted by reference: cutting a range in two shares them,
 * changing them for a part makes a copy.
 */
#include <stdlib.h>

#include "replay/player.h"

static void *area_alloc(void *ctx uhmm_unused, size_t size)
{
	return calloc(1, size);
}

static void area_free(void *ctx uhmm_unused, void *p, size_t size uhmm_unused)
{
	free(p);
}

static const struct uhmm__allocator area_allocator = { .alloc = area_alloc, .free = area_free };

static struct player_area *area_new(const struct player_area *attr)
{
	struct player_area *area = malloc(sizeof(*area));

	if (area) {
		*area = *attr;
		area->refs = 1;
	}
	return area;
}

static void area_put(struct player_area *area)
{
	if (!--area->refs)
		free(area);
}

/* What was found last may be cut or gone. */
static void forget(struct player_areas *a)
{
	a->start = 0;
	a->bytes = a->plain_bytes = 0;
}

void uhmm__areas_init(struct player_areas *a)
{
	uhmm__rangetree_init(&a->tree, &area_allocator, NULL, NULL);
	forget(a);
	a->last = NULL;
}

void uhmm__areas_exit(struct player_areas *a)
{
	struct uhmm__range r;

	uhmm__rangetree_for_each(&a->tree, &r, 0, UINT64_MAX) area_put(r.value);
	uhmm__rangetree_destroy(&a->tree);
	forget(a);
}

const struct player_area *uhmm__area_find_slow(struct player_areas *a, uhmm_vaddr_t addr)
{
	struct uhmm__range r;

	if (!uhmm__rangetree_find(&a->tree, addr, &r))
		return NULL;
	a->start = r.start;
	a->bytes = r.end - r.start;
	a->last = r.value;
	a->plain_bytes = area_is_plain(a->last) ? a->bytes : 0;
	return r.value;
}

bool uhmm__area_next(struct player_areas *a, uhmm_vaddr_t from, uhmm_vaddr_t to,
		     struct uhmm__range *r)
{
	return from < to && uhmm__rangetree_find_in(&a->tree, from, to, r);
}

/* No range crosses @addr any more. */
static int cut_at(struct player_areas *a, uhmm_vaddr_t addr)
{
	struct player_area *area;
	struct uhmm__range r;
	int err;

	if (!uhmm__rangetree_find(&a->tree, addr, &r) || r.start == addr)
		return 0;
	err = uhmm__rangetree_reserve(&a->tree, 1);
	if (err)
		return err;
	area = r.value;
	area->refs++;
	err = uhmm__rangetree_resize(&a->tree, r.start, r.start, addr);
	return err ? err : uhmm__rangetree_insert(&a->tree, addr, r.end, area);
}

static int cut(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	int err = cut_at(a, start);

	forget(a);
	return err ? err : cut_at(a, end);
}

int uhmm__area_clear(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct uhmm__range r;
	int err;

	/* As most often: there is nothing. */
	if (!uhmm__area_next(a, start, end, &r))
		return 0;
	err = cut(a, start, end);
	if (err)
		return err;
	uhmm__rangetree_for_each(&a->tree, &r, start, end)
	{
		uhmm__rangetree_erase(&a->tree, r.start, NULL);
		area_put(r.value);
	}
	return 0;
}

/* Where nothing is. */
static int area_insert(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end,
		       const struct player_area *attr)
{
	struct player_area *area = area_new(attr);
	int err = area ? uhmm__rangetree_insert(&a->tree, start, end, area) : -ENOMEM;

	if (err)
		free(area);
	return err;
}

int uhmm__area_set(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end,
		   const struct player_area *attr)
{
	int err = uhmm__area_clear(a, start, end);

	return err ? err : area_insert(a, start, end, attr);
}

int uhmm__area_change(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end, uint16_t clear,
		      uint16_t set, int prot)
{
	struct uhmm__range r;
	int err = cut(a, start, end);

	if (err)
		return err;
	uhmm__rangetree_for_each(&a->tree, &r, start, end)
	{
		struct player_area *area = r.value, attr = *area;

		attr.flags = (uint16_t)((attr.flags & ~clear) | set);
		if (prot >= 0)
			attr.prot = (uint8_t)prot;
		if (attr.flags == area->flags && attr.prot == area->prot)
			continue;
		if (area->refs > 1) {
			area = area_new(&attr);
			if (!area)
				return -ENOMEM;
			err = uhmm__rangetree_replace(&a->tree, r.start, area);
			if (err)
				return err;
			area_put(r.value);
		} else {
			area->flags = attr.flags;
			area->prot = attr.prot;
		}
	}
	return 0;
}

int uhmm__area_move(struct player_areas *a, uhmm_vaddr_t old, uint64_t len, uhmm_vaddr_t new,
		    bool keep)
{
	struct uhmm__range r;
	int err = cut(a, old, old + len);

	if (err)
		return err;
	uhmm__rangetree_for_each(&a->tree, &r, old, old + len)
	{
		struct player_area attr = *(struct player_area *)r.value;

		attr.offset -= new - old;
		err = uhmm__area_set(a, r.start - old + new, r.end - old + new, &attr);
		if (err)
			return err;
	}
	return keep ? 0 : uhmm__area_clear(a, old, old + len);
}

int uhmm__area_fork(struct player_areas *to, struct player_areas *from)
{
	struct uhmm__range r;
	int err;

	uhmm__rangetree_for_each(&from->tree, &r, 0, UINT64_MAX)
	{
		struct player_area attr = *(struct player_area *)r.value;

		if (attr.flags & AREA_DONTFORK)
			continue;
		attr.flags |= AREA_FORKED;
		err = area_insert(to, r.start, r.end, &attr);
		if (err)
			return err;
	}
	return 0;
}
