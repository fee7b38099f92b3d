// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * player_object.c - what the trace's mappings map: files and shared memory by the object's number.
 *
 * A trace does not tell how long a file is, nor which of its pages were in the page cache. So a file
 * is as long as the mappings of it need, and a regular file counts as cached - its pages come into the
 * cache as faults come near them - until the trace has a major fault on it.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "replay/player.h"

enum {
	WARM_PAGES = 16, /* what the model maps around a fault */
};

/* The object's slot, made if need be; NULL: no memory. */
static struct player_object *object_slot(struct uhmm_player *p, uint32_t id)
{
	struct player_object *objects;
	uint32_t cap = p->cap_objects;

	if (id < cap)
		return &p->objects[id];
	while (id >= cap)
		cap = cap ? 2 * cap : 64;
	objects = realloc(p->objects, cap * sizeof(*objects));
	if (!objects)
		return NULL;
	for (uint32_t i = p->cap_objects; i < cap; i++)
		objects[i] = (struct player_object){ .kind = UHMM_TRACE_OBJ_UNKNOWN };
	p->objects = objects;
	p->cap_objects = cap;
	return &p->objects[id];
}

int uhmm__player_object(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	struct player_object *o = object_slot(p, ev->obj.id);

	if (!o)
		return -ENOMEM;
	o->kind = ev->obj.kind;
	return 0;
}

void uhmm__player_objects_exit(struct uhmm_player *p)
{
	for (uint32_t i = 0; i < p->cap_objects; i++) {
		uhmm_file_put(p->objects[i].file);
		free(p->objects[i].cached);
	}
	free(p->objects);
	p->objects = NULL;
	p->cap_objects = 0;
}

static enum uhmm_file_kind file_kind(const struct player_object *o, const struct player_area *area)
{
	if (o->kind == UHMM_TRACE_OBJ_FILE)
		return UHMM_FILE_REGULAR;
	if (o->kind == UHMM_TRACE_OBJ_UNKNOWN && area->kind == AREA_FILE)
		return UHMM_FILE_REGULAR;
	return UHMM_FILE_MEMORY;
}

/* The file that [.., end) of an area maps, long enough. 0 or -ENOMEM. */
static int area_file(struct uhmm_player *p, const struct player_area *area, uhmm_vaddr_t end,
		     struct uhmm_file **out)
{
	struct player_object *o = object_slot(p, area->obj);
	uint64_t bytes = end + area->offset;
	int err;

	if (!o)
		return -ENOMEM;
	if (!o->file) {
		err = uhmm_file_create(p->machine, file_kind(o, area), bytes, &o->file);
		if (err)
			return err;
	}
	*out = o->file;
	return bytes > uhmm_file_size(o->file) ? uhmm_file_truncate(o->file, bytes) : 0;
}

/*
 * Private anonymous memory. Where hugetlb would be mapped it is advised to use huge pages, which the
 * machine's setting may still forbid.
 */
static int mmap_anon(struct player_mm *mm, uhmm_vaddr_t start, uhmm_vaddr_t end,
		     const struct player_area *area, int prot, int flags)
{
	int err;

	flags |= MAP_PRIVATE | MAP_ANONYMOUS | (area->flags & AREA_THREAD_STACK ? MAP_STACK : 0);
	err = uhmm_mmap(mm->mm, start, end - start, prot, flags, NULL, 0, NULL);
	if (err || !(area->flags & AREA_HUGETLB))
		return err;
	return uhmm_madvise(mm->mm, start, end - start, MADV_HUGEPAGE);
}

int uhmm__player_mmap(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t start,
		      uhmm_vaddr_t end, const struct player_area *area, int flags)
{
	int prot = area->prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
	struct uhmm_file *file = NULL;
	uint64_t pgoff = (start + area->offset) >> UHMM_PAGE_SHIFT;
	int err = 0;

	if (area_is_anon(area))
		return mmap_anon(mm, start, end, area, prot, flags);
	flags |= area->kind == AREA_SHARED ? MAP_SHARED : MAP_PRIVATE;
	if (area->obj)
		err = area_file(p, area, end, &file);
	else if (area->kind == AREA_SHARED)
		flags |= MAP_ANONYMOUS;
	else /* of a file that the trace does not name */
		err = uhmm_file_create(p->machine, UHMM_FILE_REGULAR, end - start, &file);
	if (err)
		return err;
	if (!area->obj)
		pgoff = 0;
	err = uhmm_mmap(mm->mm, start, end - start, prot, flags, file, pgoff, NULL);
	if (!area->obj)
		uhmm_file_put(file);
	return err;
}

int uhmm__player_grow(struct uhmm_player *p, const struct player_area *area, uhmm_vaddr_t end)
{
	struct uhmm_file *file;

	return area->obj && !area_is_anon(area) ? area_file(p, area, end, &file) : 0;
}

void uhmm__player_was_major(struct uhmm_player *p, const struct player_area *area)
{
	if (area && area->obj && area->obj < p->cap_objects)
		p->objects[area->obj].cold = true;
}

void uhmm__player_uncached(struct uhmm_player *p, uint32_t id)
{
	for (uint32_t i = id; i < (id ? id + 1 : p->cap_objects); i++)
		if (p->objects[i].cached)
			memset(p->objects[i].cached, 0,
			       p->objects[i].cap_cached * sizeof(uint64_t));
}

/* Is every page of [from, to) known to be cached? There are at most 64. */
static bool known_cached(const struct player_object *o, uint64_t from, uint64_t to)
{
	uint64_t word = from / 64, bits = to - from == 64 ? ~0ULL : (1ULL << (to - from)) - 1;
	unsigned int shift = from % 64;

	if ((to - 1) / 64 >= o->cap_cached)
		return false;
	if (~o->cached[word] & bits << shift)
		return false;
	return !shift || !(bits >> (64 - shift) & ~o->cached[(to - 1) / 64]);
}

static int note_cached(struct player_object *o, uint64_t from, uint64_t to)
{
	size_t words = (to + 63) / 64, cap = o->cap_cached;

	if (words > cap) {
		uint64_t *cached = realloc(o->cached, 2 * words * sizeof(*cached));

		if (!cached)
			return -ENOMEM;
		memset(cached + cap, 0, (2 * words - cap) * sizeof(*cached));
		o->cached = cached;
		o->cap_cached = 2 * words;
	}
	for (; from < to; from++)
		o->cached[from / 64] |= 1ULL << from % 64;
	return 0;
}

int uhmm__player_warm(struct uhmm_player *p, const struct player_area *area, uhmm_vaddr_t addr)
{
	struct player_object *o;
	uint64_t pgoff = (addr + area->offset) >> UHMM_PAGE_SHIFT, from, to;
	int err;

	if (!area->obj || area->obj >= p->cap_objects)
		return 0;
	o = &p->objects[area->obj];
	if (!o->file || o->cold || uhmm_file_kind(o->file) != UHMM_FILE_REGULAR)
		return 0;
	/* Whatever the window in addresses is, it lies within this. */
	from = pgoff - MIN(pgoff, (uint64_t)WARM_PAGES);
	to = MIN(from + 2 * WARM_PAGES,
		 (uhmm_file_size(o->file) + UHMM_PAGE_SIZE - 1) >> UHMM_PAGE_SHIFT);
	if (from >= to || known_cached(o, from, to))
		return 0;
	err = uhmm_file_populate(o->file, from, to - from);
	return err ? err : note_cached(o, from, to);
}

/*
 * Pages of an object are gone. The size is as before: whether the file was made longer again, by
 * write(2) perhaps, a trace does not tell.
 */
int uhmm__player_truncate(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	struct uhmm_file *file;
	uint64_t size, start = ev->trunc.start;
	int err;

	player_count(p, UHMM_REPLAY_TRUNCATES);
	if (!ev->trunc.obj || ev->trunc.obj >= p->cap_objects)
		return 0;
	file = p->objects[ev->trunc.obj].file;
	if (!file)
		return 0;
	player_switch(p, NULL);
	uhmm__player_uncached(p, ev->trunc.obj);
	size = uhmm_file_size(file);
	if (ev->trunc.end < UHMM_FILE_MAX_BYTES) {
		err = uhmm_file_punch_hole(file, start, ev->trunc.end - start);
	} else {
		err = start < size ? uhmm_file_truncate(file, start) : 0;
		if (!err)
			err = uhmm_file_truncate(file, size);
	}
	if (err)
		player_count(p, UHMM_REPLAY_REFUSED);
	return 0;
}
