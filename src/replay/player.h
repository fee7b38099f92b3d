/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * player.h - inside of a player.
 *
 *	player.c        creation, tasks, address spaces, the switch over events
 *	player_area.c   what the trace says of each range of addresses
 *	player_object.c files and shared memory
 *	player_map.c    mappings: map, unmap, protect, move, advise
 *	player_fault.c  accesses, offload, agreement with the trace
 *	player_replay.c a trace through several players side by side
 *
 * Beside each address space stands a map of areas, which says what the trace's mapping really is: the
 * model does not have all kinds of memory that a trace has.
 */
#ifndef UHMM_REPLAY_PLAYER_H
#define UHMM_REPLAY_PLAYER_H

#include <uhmm/file.h>
#include <uhmm/replay.h>

#include "core/compiler.h"
#include "core/radix.h"
#include "core/rangetree.h"

/* ---- areas ---- */

enum area_kind {
	AREA_ANON,    /* private anonymous memory */
	AREA_FILE,    /* private mapping of a file */
	AREA_SHARED,  /* shared mapping of a file or of anonymous memory */
	AREA_SPECIAL, /* [vdso] and the like: anonymous memory in the model */
};

#define AREA_GROWSDOWN BIT(0)
#define AREA_HUGETLB BIT(1)
#define AREA_FORKED BIT(2)
#define AREA_DONTFORK BIT(3)
#define AREA_POPULATED BIT(4)
#define AREA_INFERRED BIT(5)
#define AREA_THREAD_STACK BIT(6) /* MAP_STACK: never huge pages, unless advised */

/* What holds for a range; shared by the ranges that it was cut into. Constant if refs > 1. */
struct player_area {
	uint32_t refs;
	uint32_t obj;	 /* of the trace, 0 = none */
	uint64_t offset; /* in @obj, of address 0, in bytes, modulo 2^64 */
	uint16_t flags;
	uint8_t kind;
	uint8_t prot; /* UHMM_TRACE_PROT_* */
};

/* Played as private anonymous memory. */
static inline bool area_is_anon(const struct player_area *area)
{
	return area->kind == AREA_ANON || area->kind == AREA_SPECIAL ||
	       (area->kind == AREA_FILE && area->flags & AREA_HUGETLB);
}

struct player_areas {
	/* The last one found. */
	uhmm_vaddr_t start;
	uint64_t bytes;
	uint64_t plain_bytes; /* the same if it is area_is_plain(), otherwise 0 */
	const struct player_area *last;
	struct uhmm__rangetree tree;
};

/* Of private anonymous memory in the trace, too: an access is all that a fault in it comes to. */
static inline bool area_is_plain(const struct player_area *area)
{
	return area->kind == AREA_ANON && !(area->flags & AREA_HUGETLB);
}

void uhmm__areas_init(struct player_areas *a);
void uhmm__areas_exit(struct player_areas *a);
/* Range and area, the start at or below @addr; NULL if nothing is mapped there. */
const struct player_area *uhmm__area_find_slow(struct player_areas *a, uhmm_vaddr_t addr);
/* The next range that overlaps [@from, @to); false if there is none. */
bool uhmm__area_next(struct player_areas *a, uhmm_vaddr_t from, uhmm_vaddr_t to,
		     struct uhmm__range *r);
/* [start, end) has these attributes now, whatever it had before. 0 or -ENOMEM. */
int uhmm__area_set(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end,
		   const struct player_area *attr);
int uhmm__area_clear(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end);
/* Change what is mapped in [start, end): flags cleared, flags set, protection unless < 0. */
int uhmm__area_change(struct player_areas *a, uhmm_vaddr_t start, uhmm_vaddr_t end, uint16_t clear,
		      uint16_t set, int prot);
/* Move what is mapped in [old, old + len) by @new - @old; the destination is free. */
int uhmm__area_move(struct player_areas *a, uhmm_vaddr_t old, uint64_t len, uhmm_vaddr_t new,
		    bool keep);
/* All but those marked DONTFORK, marked FORKED. @to is empty. */
int uhmm__area_fork(struct player_areas *to, struct player_areas *from);

static inline const struct player_area *area_find(struct player_areas *a, uhmm_vaddr_t addr)
{
	if (likely(addr - a->start < a->bytes))
		return a->last;
	return uhmm__area_find_slow(a, addr);
}

/* Whether an address is in a plain area. */
static inline bool area_find_plain(struct player_areas *a, uhmm_vaddr_t addr)
{
	if (likely(addr - a->start < a->plain_bytes))
		return true;
	if (addr - a->start < a->bytes)
		return false;
	return uhmm__area_find_slow(a, addr) && a->plain_bytes;
}

/* ---- address spaces ---- */

struct player_mm {
	struct uhmm_mm *mm;
	uint32_t number;	    /* in the trace */
	struct uhmm_mirror *mirror; /* opened by the first device access */
	struct player_areas areas;
	int32_t tid; /* of its last TASK; 0: there was none */
	bool shared; /* there were TASKs of several threads */
	bool infer;  /* it existed before the trace began: mappings may be missing */
	bool lock_future;
	struct uhmm_task *task[]; /* per CPU, made when needed */
};

/* Faults of late, by page: to tell which of them happened at the same time. */
struct recent_fault {
	uint64_t page; /* address space << 48 ^ page number */
	uint64_t t_ns;
	int32_t tid;
};
#define NR_RECENT 1024

/* An object of the trace. */
struct player_object {
	struct uhmm_file *file; /* NULL: not mapped yet */
	uint32_t kind;		/* enum uhmm_trace_obj_kind */
	bool cold;		/* there was a major fault: not all of it is in the page cache */
	uint64_t *cached;	/* pages that are, as far as is known: a bit each */
	size_t cap_cached;	/* in words */
};

struct uhmm_player {
	struct uhmm_player_config config;
	int32_t *tids;	/* sorted */
	uint64_t share; /* of 2^63 */
	struct uhmm_machine *machine;
	struct uhmm_device *device;
	struct uhmm_task *idle;	   /* CPU 0, no address space */
	struct uhmm_task *current; /* the one that is entered, NULL outside a run */
	const struct uhmm_trace_caps *caps;
	struct player_mm **mms; /* those that are there: a hash table by number */
	uint32_t nr_mms, cap_mms, highest_mm;
	struct player_mm *last_mm;     /* the one found last, NULL: none */
	struct player_object *objects; /* by number in the trace; 0 is none */
	uint32_t cap_objects;
	bool major; /* the fault that is being played waited for I/O */
	/* Mirrors of address spaces that ended; closing one would empty the device. */
	struct uhmm_mirror **mirrors;
	size_t nr_mirrors, cap_mirrors;
	/*
	 * By granule, of whatever address space: a digest of the device faults that were served in it.
	 * Only for granules of several pages: such a fault moves the neighbours of its page.
	 */
	struct uhmm__radix courses;
	uint64_t accesses; /* number of the next one */
	uint64_t digest;
	uint64_t counts[UHMM_NR_REPLAY_COUNTS];
	struct uhmm_replay_agreement agreement;
	struct recent_fault recent[NR_RECENT];
};

static inline void player_count(struct uhmm_player *p, enum uhmm_replay_count c)
{
	p->counts[c]++;
}

struct player_mm *uhmm__player_mm_find(struct uhmm_player *p, uint32_t n);

/* Number @n of the trace; NULL if it is unknown or gone. */
static inline struct player_mm *player_mm(struct uhmm_player *p, uint32_t n)
{
	if (likely(p->last_mm && p->last_mm->number == n))
		return p->last_mm;
	return uhmm__player_mm_find(p, n);
}

/* Run as @task from now on, NULL: as the idle task. */
static inline void player_switch(struct uhmm_player *p, struct uhmm_task *task)
{
	if (!task)
		task = p->idle;
	if (p->current == task)
		return;
	uhmm_task_leave();
	uhmm_task_enter(task);
	p->current = task;
}

/* uhmm_player_run() of @nr events, where @seen are known: they may say more of those before. */
int uhmm__player_run(struct uhmm_player *p, const struct uhmm_trace_caps *caps,
		     const struct uhmm_trace_event *events, size_t nr, size_t seen);

int uhmm__player_run_on(struct uhmm_player *p, struct player_mm *mm, unsigned int cpu);

/* Run on CPU @cpu of the trace, or one that goes with @tid, in @mm. 0 or -ENOMEM. */
static inline int player_run_as(struct uhmm_player *p, struct player_mm *mm, int32_t cpu,
				int32_t tid)
{
	unsigned int c = (uint32_t)(cpu < 0 ? tid : cpu);

	if (unlikely(c >= p->config.nr_cpus))
		c %= p->config.nr_cpus;
	if (likely(p->current == mm->task[c] && p->current))
		return 0;
	return uhmm__player_run_on(p, mm, c);
}

/* All return 0 or -ENOMEM. */
int uhmm__player_map(struct uhmm_player *p, struct player_mm *mm,
		     const struct uhmm_trace_event *ev);
int uhmm__player_unmap(struct uhmm_player *p, struct player_mm *mm,
		       const struct uhmm_trace_event *ev);
int uhmm__player_protect(struct uhmm_player *p, struct player_mm *mm,
			 const struct uhmm_trace_event *ev);
int uhmm__player_move(struct uhmm_player *p, struct player_mm *mm,
		      const struct uhmm_trace_event *ev);
int uhmm__player_advise(struct uhmm_player *p, struct player_mm *mm,
			const struct uhmm_trace_event *ev);

/* ---- player_object.c ---- */

int uhmm__player_object(struct uhmm_player *p, const struct uhmm_trace_event *ev);
void uhmm__player_objects_exit(struct uhmm_player *p);
/* mmap() of what an area says; @flags: MAP_FIXED and others beside the kind. 0 or an errno. */
int uhmm__player_mmap(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t start,
		      uhmm_vaddr_t end, const struct player_area *area, int flags);
/* The area now goes on to @end: so does its file. */
int uhmm__player_grow(struct uhmm_player *p, const struct player_area *area, uhmm_vaddr_t end);
/* A fault near @addr is to come: a regular file's pages are in the cache, unless it is cold. */
int uhmm__player_warm(struct uhmm_player *p, const struct player_area *area, uhmm_vaddr_t addr);
/* Pages may have left the cache: of object @id, 0: of any. */
void uhmm__player_uncached(struct uhmm_player *p, uint32_t id);
/* A fault on the area had to wait for I/O. */
void uhmm__player_was_major(struct uhmm_player *p, const struct player_area *area);
int uhmm__player_truncate(struct uhmm_player *p, const struct uhmm_trace_event *ev);
/* Map at [start, end) what @attr says, over whatever is there. */
int uhmm__player_map_range(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t start,
			   uhmm_vaddr_t end, const struct player_area *attr, bool populate);

/* Whether device faults in the granule of @addr were served differently in two players. */
bool uhmm__player_apart(const struct uhmm_player *a, const struct uhmm_player *b,
			uhmm_vaddr_t addr);

int uhmm__player_fault(struct uhmm_player *p, struct player_mm *mm,
		       const struct uhmm_trace_event *ev);
/*
 * The same for the first of @nr faults and those behind it that come in a row in one task, as long as
 * they are accesses of a CPU to plain areas. How many they were, perhaps 0; *@err, 0 or -ENOMEM, is of the
 * last one. Whether a fault waited for I/O, as the event behind it tells, makes no difference there.
 */
size_t uhmm__player_faults(struct uhmm_player *p, struct player_mm *mm,
			   const struct uhmm_trace_event *events, size_t nr, int *err);
int uhmm__player_touch(struct uhmm_player *p, struct player_mm *mm,
		       const struct uhmm_trace_event *ev);

#endif /* UHMM_REPLAY_PLAYER_H */
