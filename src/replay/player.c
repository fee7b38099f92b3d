// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * player.c - a trace's events into a machine: creation, tasks, address spaces.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/machine.h"
#include "replay/player.h"

/* ---- names ---- */

static const struct {
	const char *name, *text;
} counts_info[] = {
#define COUNT_INFO(id, name, text) { name, text },
	UHMM_REPLAY_COUNTS(COUNT_INFO)
#undef COUNT_INFO
},
  misses_info[] = {
#define MISS_INFO(id, name, text) { name, text },
	  UHMM_REPLAY_MISSES(MISS_INFO)
#undef MISS_INFO
};

const char *uhmm_replay_count_name(enum uhmm_replay_count c)
{
	return (unsigned int)c < UHMM_NR_REPLAY_COUNTS ? counts_info[c].name : NULL;
}

const char *uhmm_replay_count_text(enum uhmm_replay_count c)
{
	return (unsigned int)c < UHMM_NR_REPLAY_COUNTS ? counts_info[c].text : NULL;
}

const char *uhmm_replay_miss_name(enum uhmm_replay_miss m)
{
	return (unsigned int)m < UHMM_NR_REPLAY_MISSES ? misses_info[m].name : NULL;
}

const char *uhmm_replay_miss_text(enum uhmm_replay_miss m)
{
	return (unsigned int)m < UHMM_NR_REPLAY_MISSES ? misses_info[m].text : NULL;
}

/* ---- tasks ---- */

int uhmm__player_run_on(struct uhmm_player *p, struct player_mm *mm, unsigned int cpu)
{
	if (unlikely(!mm->task[cpu])) {
		int err = uhmm_task_create(p->machine, mm->mm, cpu, "player", &mm->task[cpu]);

		if (err)
			return err;
	}
	player_switch(p, mm->task[cpu]);
	return 0;
}

/* ---- address spaces ---- */

enum { MANY_MIRRORS = 64 };

/* Where the number is, or where it would be put: NULL there. */
static struct player_mm **mm_slot(struct player_mm **table, uint32_t cap, uint32_t n)
{
	uint32_t i = n * 0x9e3779b1u & (cap - 1);

	while (table[i] && table[i]->number != n)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

struct player_mm *uhmm__player_mm_find(struct uhmm_player *p, uint32_t n)
{
	struct player_mm *mm = p->cap_mms ? *mm_slot(p->mms, p->cap_mms, n) : NULL;

	if (mm)
		p->last_mm = mm;
	return mm;
}

static int grow_mms(struct uhmm_player *p)
{
	uint32_t cap = p->cap_mms ? 2 * p->cap_mms : 64;
	struct player_mm **mms;

	if (2 * (p->nr_mms + 1) <= p->cap_mms)
		return 0;
	mms = calloc(cap, sizeof(struct player_mm *));
	if (!mms)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->cap_mms; i++)
		if (p->mms[i])
			*mm_slot(mms, cap, p->mms[i]->number) = p->mms[i];
	free(p->mms);
	p->mms = mms;
	p->cap_mms = cap;
	return 0;
}

/* There is room. */
static void add_mm(struct uhmm_player *p, struct player_mm *mm)
{
	*mm_slot(p->mms, p->cap_mms, mm->number) = mm;
	p->nr_mms++;
	p->highest_mm = MAX(p->highest_mm, mm->number);
}

static void remove_mm(struct uhmm_player *p, struct player_mm *mm)
{
	uint32_t i = (uint32_t)(mm_slot(p->mms, p->cap_mms, mm->number) - p->mms);

	p->mms[i] = NULL;
	p->nr_mms--;
	p->last_mm = NULL;
	/* Those behind it may have been put there because it was in their way. */
	for (i = (i + 1) & (p->cap_mms - 1); p->mms[i]; i = (i + 1) & (p->cap_mms - 1)) {
		struct player_mm *moved = p->mms[i];

		p->mms[i] = NULL;
		*mm_slot(p->mms, p->cap_mms, moved->number) = moved;
	}
}

/* Mirrors outlive their address spaces, as an open file may. */
static int keep_mirror(struct uhmm_player *p, struct uhmm_mirror *mirror)
{
	struct uhmm_mirror **mirrors;
	size_t cap = p->cap_mirrors ? 2 * p->cap_mirrors : 16;

	if (p->nr_mirrors == p->cap_mirrors) {
		mirrors = realloc(p->mirrors, cap * sizeof(struct uhmm_mirror *));
		if (!mirrors)
			return -ENOMEM;
		p->mirrors = mirrors;
		p->cap_mirrors = cap;
	}
	p->mirrors[p->nr_mirrors++] = mirror;
	return 0;
}

/* When nothing is on the device there is nothing to be emptied: let go of those that piled up. */
static void close_mirrors(struct uhmm_player *p)
{
	if (p->nr_mirrors < MANY_MIRRORS || uhmm_devmem_used(uhmm_device_memory(p->device)))
		return;
	while (p->nr_mirrors)
		uhmm_mirror_close(p->mirrors[--p->nr_mirrors]);
}

static void free_mm(struct uhmm_player *p, struct player_mm *mm)
{
	player_switch(p, NULL);
	for (unsigned int c = 0; c < p->config.nr_cpus; c++)
		uhmm_task_destroy(mm->task[c]);
	if (mm->mirror && keep_mirror(p, mm->mirror))
		uhmm_mirror_close(mm->mirror);
	uhmm_mmput(mm->mm);
	uhmm__areas_exit(&mm->areas);
	free(mm);
	close_mirrors(p);
}

static int play_mm_new(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	struct player_mm *parent = player_mm(p, ev->mm_new.parent), *mm;
	int err = grow_mms(p);

	if (err || !ev->mm || player_mm(p, ev->mm)) {
		player_count(p, UHMM_REPLAY_SKIPPED);
		return err;
	}
	mm = calloc(1, sizeof(*mm) + p->config.nr_cpus * sizeof(struct uhmm_task *));
	if (!mm)
		return -ENOMEM;
	uhmm__areas_init(&mm->areas);
	if (parent && ev->mm_new.parent) {
		player_count(p, UHMM_REPLAY_MM_FORK);
		mm->infer = parent->infer;
		err = player_run_as(p, parent, ev->cpu, ev->tid);
		if (!err)
			err = uhmm_mm_fork(parent->mm, &mm->mm);
		if (!err)
			err = uhmm__area_fork(&mm->areas, &parent->areas);
	} else {
		player_count(p, UHMM_REPLAY_MM_NEW);
		mm->infer = ev->mm_new.why == UHMM_TRACE_FOUND && !p->caps->has_snapshot;
		player_switch(p, NULL);
		err = uhmm_mm_create(p->machine, &mm->mm);
	}
	if (err) {
		uhmm__areas_exit(&mm->areas);
		if (mm->mm)
			uhmm_mmput(mm->mm);
		free(mm);
		return err;
	}
	mm->number = ev->mm;
	add_mm(p, mm);
	return 0;
}

static int play_mm_del(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	struct player_mm *mm = player_mm(p, ev->mm);

	if (!mm) {
		player_count(p, UHMM_REPLAY_SKIPPED);
		return 0;
	}
	player_count(p, UHMM_REPLAY_MM_DEL);
	remove_mm(p, mm);
	free_mm(p, mm);
	return 0;
}

/* ---- events ---- */

typedef int play_fn(struct uhmm_player *p, struct player_mm *mm, const struct uhmm_trace_event *ev);

/* Events of an address space. */
uhmm_always_inline int play_in_mm(struct uhmm_player *p, const struct uhmm_trace_event *ev,
				  play_fn *play)
{
	struct player_mm *mm = player_mm(p, ev->mm);
	int err;

	if (unlikely(!mm)) {
		player_count(p, UHMM_REPLAY_SKIPPED);
		return 0;
	}
	err = player_run_as(p, mm, ev->cpu, ev->tid);
	return err ? err : play(p, mm, ev);
}

/* Whether several threads fault in an address space: see note_recent(). */
static void play_task(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	struct player_mm *mm = player_mm(p, ev->mm);

	if (!mm)
		return;
	if (mm->tid && mm->tid != ev->tid)
		mm->shared = true;
	mm->tid = ev->tid;
}

static int play_event(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_FAULT:
		return play_in_mm(p, ev, uhmm__player_fault);
	case UHMM_TRACE_TOUCH:
		return play_in_mm(p, ev, uhmm__player_touch);
	case UHMM_TRACE_MM_NEW:
		return play_mm_new(p, ev);
	case UHMM_TRACE_MM_DEL:
		return play_mm_del(p, ev);
	case UHMM_TRACE_MAP:
		return play_in_mm(p, ev, uhmm__player_map);
	case UHMM_TRACE_UNMAP:
		return play_in_mm(p, ev, uhmm__player_unmap);
	case UHMM_TRACE_PROT:
		return play_in_mm(p, ev, uhmm__player_protect);
	case UHMM_TRACE_MOVE:
		return play_in_mm(p, ev, uhmm__player_move);
	case UHMM_TRACE_ADVISE:
		return play_in_mm(p, ev, uhmm__player_advise);
	case UHMM_TRACE_OBJ:
		return uhmm__player_object(p, ev);
	case UHMM_TRACE_TRUNC:
		return uhmm__player_truncate(p, ev);
	case UHMM_TRACE_FAULT_MAJOR:
		player_count(p, UHMM_REPLAY_MAJOR_FAULTS);
		return 0;
	case UHMM_TRACE_LOST:
		p->counts[UHMM_REPLAY_LOST] += ev->lost.count ? ev->lost.count : 1;
		return 0;
	case UHMM_TRACE_TASK:
		play_task(p, ev);
		return 0;
	case UHMM_TRACE_TASK_EXIT:
	case UHMM_TRACE_MARK:
		return 0;
	default:
		player_count(p, UHMM_REPLAY_SKIPPED);
		return 0;
	}
}

/* That a fault waited for I/O is told by the event after it. */
static bool is_major(const struct uhmm_trace_event *ev, const struct uhmm_trace_event *next)
{
	return ev->kind == UHMM_TRACE_FAULT && next && next->kind == UHMM_TRACE_FAULT_MAJOR &&
	       next->tid == ev->tid && next->fault.addr == ev->fault.addr;
}

/* Most events are faults, and most of these need little: as many of them as come in a row. */
static size_t play_faults(struct uhmm_player *p, const struct uhmm_trace_event *events, size_t nr,
			  int *err)
{
	struct player_mm *mm;

	if (events->kind != UHMM_TRACE_FAULT)
		return 0;
	mm = player_mm(p, events->mm);
	if (!mm || player_run_as(p, mm, events->cpu, events->tid) ||
	    !area_find_plain(&mm->areas, events->fault.addr))
		return 0;
	return uhmm__player_faults(p, mm, events, nr, err);
}

void uhmm_player_enter(struct uhmm_player *player)
{
	uhmm_task_enter(player->idle);
	player->current = player->idle;
}

void uhmm_player_leave(struct uhmm_player *player)
{
	uhmm_task_leave();
	player->current = NULL;
}

int uhmm__player_run(struct uhmm_player *player, const struct uhmm_trace_caps *caps,
		     const struct uhmm_trace_event *events, size_t nr, size_t seen)
{
	static const struct uhmm_trace_caps everything = {
		.has_rw = true,
		.has_fault_samples = true,
		.has_kernel_faults = true,
		.has_unmap = true,
		.has_maps = true,
		.has_data_maps = true,
		.has_fork = true,
		.has_clone_flags = true,
		.has_tgid = true,
		.has_cpu = true,
		.has_snapshot = true,
	};
	size_t i = 0, n;
	int err = 0;

	player->caps = caps ? caps : &everything;
	uhmm_player_enter(player);
	while (i < nr && likely(!err)) {
		n = play_faults(player, &events[i], nr - i, &err);
		i += n;
		if (n)
			continue;
		player->major = is_major(&events[i], i + 1 < seen ? &events[i + 1] : NULL);
		err = play_event(player, &events[i]);
		i++;
	}
	player->counts[UHMM_REPLAY_EVENTS] += i;
	uhmm_player_leave(player);
	return err;
}

int uhmm_player_run(struct uhmm_player *player, const struct uhmm_trace_caps *caps,
		    const struct uhmm_trace_event *events, size_t nr)
{
	return uhmm__player_run(player, caps, events, nr, nr);
}

/* ---- creation ---- */

static int compare_tids(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return x < y ? -1 : x > y;
}

static int check_offload(struct uhmm_player *p)
{
	struct uhmm_offload *o = &p->config.offload;
	size_t size = o->nr_tids * sizeof(*p->tids);

	switch (o->kind) {
	case UHMM_OFFLOAD_NONE:
	case UHMM_OFFLOAD_ALL:
		return 0;
	case UHMM_OFFLOAD_SHARE:
		if (!(o->share >= 0 && o->share <= 1))
			return -EINVAL;
		p->share = (uint64_t)ldexp(o->share, 63);
		return 0;
	case UHMM_OFFLOAD_TASKS:
		if (!o->nr_tids || !o->tids)
			return -EINVAL;
		p->tids = malloc(size);
		if (!p->tids)
			return -ENOMEM;
		memcpy(p->tids, o->tids, size);
		qsort(p->tids, o->nr_tids, sizeof(*p->tids), compare_tids);
		return 0;
	case UHMM_OFFLOAD_RANGE:
		return o->start < o->end ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int check_config(struct uhmm_player *p, const struct uhmm_player_config *config)
{
	struct uhmm_player_config *c = &p->config;

	if (config && config->size != sizeof(*config))
		return -EINVAL;
	if (config)
		*c = *config;
	if (!c->size)
		c->strategy = UHMM_COMBINED;
	if (!c->granularity)
		c->granularity = UHMM_PAGE_SIZE;
	if (!c->nr_cpus)
		c->nr_cpus = 2;
	if ((unsigned int)c->strategy >= UHMM_NR_STRATEGIES || c->nr_cpus > UHMM_MAX_CPUS ||
	    (unsigned int)c->thp > UHMM_THP_NEVER || c->granularity < UHMM_PAGE_SIZE ||
	    c->granularity > UHMM_PMD_SIZE || c->granularity & (c->granularity - 1))
		return -EINVAL;
	return check_offload(p);
}

int uhmm_player_create(const struct uhmm_player_config *config, struct uhmm_player **out)
{
	struct uhmm_machine_config mc = { .size = sizeof(mc) };
	struct uhmm_player *p;
	int err;

	if (!out)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	err = check_config(p, config);
	if (err)
		goto fail;
	mc.nr_cpus = p->config.nr_cpus;
	mc.content = UHMM_CONTENT_TAG;
	mc.thp = p->config.thp;
	mc.seed = p->config.seed;
	mc.report = p->config.report;
	mc.report_data = p->config.report_data;
	err = uhmm_machine_create(&mc, &p->machine);
	if (err)
		goto fail;
	err = uhmm_task_create(p->machine, NULL, 0, "idle", &p->idle);
	if (err)
		goto fail;
	uhmm__radix_init(&p->courses, &p->machine->allocator);
	*out = p;
	return 0;
fail:
	uhmm_machine_destroy(p->machine);
	free(p->tids);
	free(p);
	return err;
}

void uhmm_player_destroy(struct uhmm_player *player)
{
	struct uhmm_player *p = player;

	if (!p)
		return;
	uhmm_player_enter(p);
	for (uint32_t i = 0; i < p->cap_mms; i++)
		if (p->mms[i])
			free_mm(p, p->mms[i]);
	for (size_t i = 0; i < p->nr_mirrors; i++)
		uhmm_mirror_close(p->mirrors[i]);
	uhmm_device_destroy(p->device);
	uhmm__player_objects_exit(p);
	uhmm_player_leave(p);
	uhmm_task_destroy(p->idle);
	uhmm__radix_destroy(&p->courses);
	uhmm_machine_destroy(p->machine);
	free(p->mirrors);
	free(p->mms);
	free(p->tids);
	free(p);
}

/* ---- looking ---- */

struct uhmm_machine *uhmm_player_machine(struct uhmm_player *player)
{
	return player->machine;
}

struct uhmm_mm *uhmm_player_mm(struct uhmm_player *player, uint32_t n)
{
	struct player_mm *mm = player_mm(player, n);

	return mm ? mm->mm : NULL;
}

uint32_t uhmm_player_nr_mms(const struct uhmm_player *player)
{
	return player->highest_mm;
}

uint64_t uhmm_player_count(const struct uhmm_player *player, enum uhmm_replay_count c)
{
	return (unsigned int)c < UHMM_NR_REPLAY_COUNTS ? player->counts[c] : 0;
}

void uhmm_player_agreement(const struct uhmm_player *player, struct uhmm_replay_agreement *out)
{
	*out = player->agreement;
}

uint64_t uhmm_player_digest(const struct uhmm_player *player)
{
	return player->digest;
}

struct uhmm_device *uhmm_player_device(struct uhmm_player *player)
{
	return player->device;
}
