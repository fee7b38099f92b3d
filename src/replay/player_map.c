// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * player_map.c - mappings: map, unmap, protect, move, advise.
 *
 * The trace says what succeeded. Where the model refuses nevertheless - because a trace without
 * unmappings leaves things in the way, or because of what is played as anonymous memory - the
 * nearest thing is done that leaves the mapping as the trace has it, and counted.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "replay/player.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MCL_CURRENT
#define MCL_CURRENT 1
#define MCL_FUTURE 2
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

/* The trace's protection bits have Linux's values. */
static int prot_of(const struct player_area *attr)
{
	return attr->prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
}

/* A result of the model where the trace succeeded. -ENOMEM of the host must end the run. */
static void check(struct uhmm_player *p, int err)
{
	if (err)
		player_count(p, UHMM_REPLAY_REFUSED);
}

/* Fault in what is mapped in [start, end), as mlock does. */
static int populate(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t start,
		    uhmm_vaddr_t end)
{
	struct uhmm__range r = { 0 };
	uhmm_vaddr_t at;

	for (at = start; uhmm__area_next(&mm->areas, at, end, &r); at = r.end) {
		const struct player_area *area = r.value;
		uhmm_vaddr_t from = MAX(at, r.start), to = MIN(end, r.end);

		if (!(area->prot & (UHMM_TRACE_PROT_READ | UHMM_TRACE_PROT_WRITE)))
			continue;
		check(p,
		      uhmm_madvise(mm->mm, from, to - from,
				   area->prot & UHMM_TRACE_PROT_WRITE && area->kind != AREA_SHARED
					   ? MADV_POPULATE_WRITE
					   : MADV_POPULATE_READ));
	}
	return uhmm__area_change(&mm->areas, start, end, 0, AREA_POPULATED, -1);
}

int uhmm__player_map_range(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t start,
			   uhmm_vaddr_t end, const struct player_area *attr, bool fill)
{
	int flags = MAP_FIXED | (attr->flags & AREA_GROWSDOWN ? MAP_GROWSDOWN : 0) |
		    (fill ? MAP_POPULATE : 0);
	int err = uhmm__player_mmap(p, mm, start, end, attr, flags);

	check(p, err);
	return err ? uhmm__area_clear(&mm->areas, start, end)
		   : uhmm__area_set(&mm->areas, start, end, attr);
}

/* ---- map ---- */

static struct player_area attributes(const struct uhmm_trace_event *ev)
{
	struct player_area attr = { .obj = ev->map.obj, .prot = (uint8_t)ev->map.prot };
	uint32_t flags = ev->map.flags;

	attr.offset = (ev->map.pgoff << UHMM_PAGE_SHIFT) - ev->map.start;
	if (flags & UHMM_TRACE_MAP_SPECIAL)
		attr.kind = AREA_SPECIAL;
	else if (flags & UHMM_TRACE_MAP_SHARED)
		attr.kind = AREA_SHARED;
	else if (ev->map.obj ||
		 !(flags & (UHMM_TRACE_MAP_ANON | UHMM_TRACE_MAP_STACK | UHMM_TRACE_MAP_HEAP)))
		attr.kind = AREA_FILE;
	if (flags & UHMM_TRACE_MAP_GROWSDOWN)
		attr.flags |= AREA_GROWSDOWN;
	else if (flags & UHMM_TRACE_MAP_STACK)
		attr.flags |= AREA_THREAD_STACK;
	if (flags & UHMM_TRACE_MAP_HUGETLB)
		attr.flags |= AREA_HUGETLB;
	return attr;
}

/* The same mapping as before, as far as one can tell: its pages stay. */
static bool continues(const struct player_area *old, const struct player_area *new)
{
	if (old->flags & AREA_INFERRED)
		return true;
	return old->kind == new->kind && old->obj == new->obj &&
	       (!new->obj || old->offset == new->offset);
}

/*
 * Lay attributes over a range that the trace reports after the kernel merged it: map what is not
 * mapped or is something else, keep the rest.
 */
static int overlay(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t start,
		   uhmm_vaddr_t end, struct player_area *attr)
{
	uhmm_vaddr_t at = start;
	int err = 0;

	while (at < end && !err) {
		struct uhmm__range r = { .start = end, .end = end };
		const struct player_area *old = NULL;
		uhmm_vaddr_t to;

		if (uhmm__area_next(&mm->areas, at, end, &r) && r.start <= at)
			old = r.value;
		to = MIN(end, old ? r.end : r.start);
		if (!old || !continues(old, attr)) {
			err = uhmm__player_map_range(p, mm, at, to, attr, false);
		} else {
			attr->flags |= old->flags & (AREA_HUGETLB | AREA_THREAD_STACK |
						     AREA_FORKED | AREA_DONTFORK | AREA_POPULATED);
			if (old->prot != attr->prot)
				check(p, uhmm_mprotect(mm->mm, at, to - at, prot_of(attr)));
		}
		at = to;
	}
	return err ? err : uhmm__area_set(&mm->areas, start, end, attr);
}

int uhmm__player_map(struct uhmm_player *p, struct player_mm *mm, const struct uhmm_trace_event *ev)
{
	struct player_area attr = attributes(ev);
	uhmm_vaddr_t end = MIN(ev->map.end, UHMM_TASK_SIZE);
	bool fill = mm->lock_future ||
		    ev->map.flags & (UHMM_TRACE_MAP_POPULATE | UHMM_TRACE_MAP_LOCKED);

	player_count(p, UHMM_REPLAY_MAPS);
	if (ev->map.start >= end)
		return 0;
	if (ev->map.flags & UHMM_TRACE_MAP_MERGED)
		return overlay(p, mm, ev->map.start, end, &attr);
	if (fill)
		attr.flags |= AREA_POPULATED;
	return uhmm__player_map_range(p, mm, ev->map.start, end, &attr, fill);
}

int uhmm__player_unmap(struct uhmm_player *p, struct player_mm *mm,
		       const struct uhmm_trace_event *ev)
{
	uhmm_vaddr_t start = ev->unmap.start, end = MIN(ev->unmap.end, UHMM_TASK_SIZE);

	player_count(p, UHMM_REPLAY_UNMAPS);
	if (start >= end)
		return 0;
	check(p, uhmm_munmap(mm->mm, start, end - start));
	return uhmm__area_clear(&mm->areas, start, end);
}

int uhmm__player_protect(struct uhmm_player *p, struct player_mm *mm,
			 const struct uhmm_trace_event *ev)
{
	uhmm_vaddr_t at = ev->prot.start, end = MIN(ev->prot.end, UHMM_TASK_SIZE);
	int prot = (int)ev->prot.prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
	struct uhmm__range r;

	player_count(p, UHMM_REPLAY_PROTECTS);
	if (at >= end)
		return 0;
	if (uhmm_mprotect(mm->mm, at, end - at, prot)) {
		/* There is a hole that the trace does not know of: what is mapped all the same. */
		player_count(p, UHMM_REPLAY_REFUSED);
		for (; uhmm__area_next(&mm->areas, at, end, &r); at = r.end) {
			uhmm_vaddr_t from = MAX(at, r.start);

			(void)uhmm_mprotect(mm->mm, from, MIN(end, r.end) - from, prot);
		}
	}
	return uhmm__area_change(&mm->areas, ev->prot.start, end, 0, 0, prot);
}

/* ---- move ---- */

/* As well as it can be done when mremap() will not. */
static int move_inexactly(struct uhmm_player *p, struct player_mm *mm,
			  const struct uhmm_trace_event *ev, uint64_t old_len, uint64_t new_len)
{
	const struct player_area *area = area_find(&mm->areas, ev->move.old_start);
	struct player_area attr = { .prot = UHMM_TRACE_PROT_READ | UHMM_TRACE_PROT_WRITE };
	int err;

	player_count(p, UHMM_REPLAY_MOVES_INEXACT);
	if (area) {
		attr = *area;
		attr.offset -= ev->move.new_start - ev->move.old_start;
	}
	if (ev->move.old_start == ev->move.new_start) /* grows where something is in the way */
		return uhmm__player_map_range(p, mm, ev->move.old_start + old_len,
					      ev->move.old_start + new_len, &attr, false);
	err = uhmm__player_map_range(p, mm, ev->move.new_start, ev->move.new_start + new_len, &attr,
				     false);
	if (err || ev->move.flags & (UHMM_TRACE_MOVE_DONTUNMAP | UHMM_TRACE_MOVE_DUP))
		return err;
	check(p, uhmm_munmap(mm->mm, ev->move.old_start, old_len));
	return uhmm__area_clear(&mm->areas, ev->move.old_start, ev->move.old_start + old_len);
}

/* The areas follow what the model has done. */
static int areas_moved(struct player_mm *mm, const struct uhmm_trace_event *ev, uint64_t old_len,
		       uint64_t new_len, bool keep)
{
	uhmm_vaddr_t old = ev->move.old_start, new = ev->move.new_start;
	const struct player_area *area;
	struct player_area attr;
	int err = 0;

	if (old != new) {
		err = uhmm__area_clear(&mm->areas, new, new + new_len);
		if (!err)
			err = uhmm__area_move(&mm->areas, old, MIN(old_len, new_len), new, keep);
		if (!err && !keep)
			err = uhmm__area_clear(&mm->areas, old, old + old_len);
	}
	if (err || new_len <= old_len)
		return err;
	area = area_find(&mm->areas, new + old_len - 1);
	if (!area)
		return 0;
	attr = *area;
	return uhmm__area_set(&mm->areas, new + old_len, new + new_len, &attr);
}

int uhmm__player_move(struct uhmm_player *p, struct player_mm *mm,
		      const struct uhmm_trace_event *ev)
{
	uint64_t old_len = ev->move.old_end - ev->move.old_start;
	uint64_t new_len = ev->move.new_end - ev->move.new_start;
	bool in_place = ev->move.old_start == ev->move.new_start;
	bool keep = ev->move.flags & UHMM_TRACE_MOVE_DONTUNMAP;
	int flags = in_place ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED;
	const struct player_area *area;

	player_count(p, UHMM_REPLAY_MOVES);
	if (ev->move.old_end > UHMM_TASK_SIZE || ev->move.new_end > UHMM_TASK_SIZE ||
	    (in_place && new_len <= old_len))
		return 0;
	if (ev->move.flags & UHMM_TRACE_MOVE_DUP) {
		old_len = 0;
		keep = true;
	} else if (keep)
		flags |= MREMAP_DONTUNMAP;
	area = area_find(&mm->areas, ev->move.old_start);
	if (area && uhmm__player_grow(p, area, ev->move.old_start + new_len))
		return -ENOMEM;
	if (uhmm_mremap(mm->mm, ev->move.old_start, old_len, new_len, flags,
			in_place ? 0 : ev->move.new_start, NULL))
		return move_inexactly(p, mm, ev, old_len, new_len);
	return areas_moved(mm, ev, old_len, new_len, keep);
}

/* ---- advise ---- */

static int lock_all(struct uhmm_player *p, struct player_mm *mm, uint64_t how)
{
	mm->lock_future = how & MCL_FUTURE && !(how & MCL_ONFAULT);
	if (!(how & MCL_CURRENT) || how & MCL_ONFAULT)
		return 0;
	player_count(p, UHMM_REPLAY_LOCKS_POPULATED);
	return populate(p, mm, 0, UHMM_TASK_SIZE);
}

/* Advice that says more of the areas than of the model. */
static int note_advice(struct player_mm *mm, uint32_t advice, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	switch (advice) {
	case MADV_DONTFORK:
		return uhmm__area_change(&mm->areas, start, end, 0, AREA_DONTFORK, -1);
	case MADV_DOFORK:
		return uhmm__area_change(&mm->areas, start, end, AREA_DONTFORK, 0, -1);
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_REMOVE:
		return uhmm__area_change(&mm->areas, start, end, AREA_POPULATED, 0, -1);
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_COLLAPSE:
		return uhmm__area_change(&mm->areas, start, end, 0, AREA_POPULATED, -1);
	default:
		return 0;
	}
}

int uhmm__player_advise(struct uhmm_player *p, struct player_mm *mm,
			const struct uhmm_trace_event *ev)
{
	uhmm_vaddr_t start = ev->advise.start, end = MIN(ev->advise.end, UHMM_TASK_SIZE);
	uint32_t advice = ev->advise.advice;
	int err;

	player_count(p, UHMM_REPLAY_ADVICE);
	if (start >= end)
		return 0;
	switch (advice) {
	case UHMM_TRACE_ADV_MLOCKALL:
		return lock_all(p, mm, ev->advise.arg);
	case UHMM_TRACE_ADV_MLOCK:
		player_count(p, UHMM_REPLAY_LOCKS_POPULATED);
		return populate(p, mm, start, end);
	case UHMM_TRACE_ADV_MUNLOCKALL:
		mm->lock_future = false;
		return 0;
	case UHMM_TRACE_ADV_MLOCK_ONFAULT:
	case UHMM_TRACE_ADV_MUNLOCK:
		return 0;
	case MADV_DONTNEED_LOCKED:
		advice = MADV_DONTNEED;
		break;
	default:
		break;
	}
	if (advice == MADV_REMOVE || advice == MADV_PAGEOUT)
		uhmm__player_uncached(p, 0);
	err = uhmm_madvise(mm->mm, start, end - start, (int)advice);
	if (err == -EOPNOTSUPP || err == -EINVAL)
		player_count(p, UHMM_REPLAY_ADVICE_IGNORED);
	else if (err != ev->advise.error)
		player_count(p, UHMM_REPLAY_REFUSED);
	return note_advice(mm, advice, start, end);
}
