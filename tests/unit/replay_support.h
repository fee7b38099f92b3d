/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* replay_support.h - a player fed with single events, and what it made of them. */
#ifndef TESTS_UNIT_REPLAY_SUPPORT_H
#define TESTS_UNIT_REPLAY_SUPPORT_H

#include <check.h>
#include <stdio.h>
#include <string.h>

#include <uhmm/uhmm.h>

#define PAGE 0x1000UL
#define AT 0x10000000UL
#define RW (UHMM_TRACE_PROT_READ | UHMM_TRACE_PROT_WRITE)
#define READ UHMM_TRACE_ACCESS_READ
#define WRITE UHMM_TRACE_ACCESS_WRITE
#define EXEC UHMM_TRACE_ACCESS_EXEC

/* ---- events ---- */

struct play {
	struct uhmm_player *p;
	struct uhmm_trace_caps caps; /* a full capture's */
	uint64_t t_ns;
	int32_t tid, cpu;
	uint32_t mm;
	unsigned int reports;
};

static inline void on_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	struct play *y = data;

	fprintf(stderr, "report %d: %s\n", kind, text);
	y->reports++;
}

static inline void begin_with(struct play *y, struct uhmm_player_config *config)
{
	memset(y, 0, sizeof(*y));
	y->caps = (struct uhmm_trace_caps){ .has_rw = true,
					    .has_unmap = true,
					    .has_maps = true,
					    .has_data_maps = true,
					    .has_fork = true };
	y->tid = 100;
	y->mm = 1;
	config->size = sizeof(*config);
	config->report = on_report;
	config->report_data = y;
	ck_assert_int_eq(uhmm_player_create(config, &y->p), 0);
}

static inline void begin(struct play *y)
{
	struct uhmm_player_config config = { 0 };

	begin_with(y, &config);
}

static inline void end(struct play *y)
{
	ck_assert_int_eq(uhmm_machine_verify(uhmm_player_machine(y->p)), 0);
	ck_assert_uint_eq(y->reports, 0);
	uhmm_player_destroy(y->p);
	ck_assert_uint_eq(y->reports, 0);
}

static inline void play(struct play *y, struct uhmm_trace_event *ev)
{
	ev->t_ns = y->t_ns += 1000000;
	ev->tid = ev->tgid = y->tid;
	ev->cpu = y->cpu;
	if (!ev->mm)
		ev->mm = y->mm;
	ck_assert_int_eq(uhmm_player_run(y->p, &y->caps, ev, 1), 0);
}

#define PLAY(y, ...) play(y, &(struct uhmm_trace_event){ __VA_ARGS__ })

static inline void mm_new(struct play *y, uint32_t mm, uint32_t parent)
{
	PLAY(y, .kind = UHMM_TRACE_MM_NEW, .mm = mm,
	     .mm_new = { parent ? UHMM_TRACE_FORK : UHMM_TRACE_EXEC, parent });
}

static inline void mm_del(struct play *y, uint32_t mm)
{
	PLAY(y, .kind = UHMM_TRACE_MM_DEL, .mm = mm);
}

static inline void map(struct play *y, uint64_t start, uint64_t npages, uint32_t prot,
		       uint32_t flags, uint32_t obj)
{
	PLAY(y, .kind = UHMM_TRACE_MAP,
	     .map = { .flags = flags | (obj ? 0 : UHMM_TRACE_MAP_ANON),
		      .prot = prot,
		      .start = start,
		      .end = start + npages * PAGE,
		      .obj = obj,
		      .pgoff = obj ? 0 : start >> 12 });
}

static inline void unmap(struct play *y, uint64_t start, uint64_t npages)
{
	PLAY(y, .kind = UHMM_TRACE_UNMAP, .unmap = { start, start + npages * PAGE });
}

static inline void protect(struct play *y, uint64_t start, uint64_t npages, uint32_t prot)
{
	PLAY(y, .kind = UHMM_TRACE_PROT,
	     .prot = { .prot = prot, .pkey = -1, .start = start, .end = start + npages * PAGE });
}

static inline void move(struct play *y, uint32_t flags, uint64_t old, uint64_t old_pages,
			uint64_t new, uint64_t new_pages)
{
	PLAY(y, .kind = UHMM_TRACE_MOVE,
	     .move = { flags, old, old + old_pages * PAGE, new, new + new_pages *PAGE });
}

static inline void advise(struct play *y, uint64_t start, uint64_t npages, uint32_t advice)
{
	PLAY(y, .kind = UHMM_TRACE_ADVISE,
	     .advise = { .advice = advice, .start = start, .end = start + npages * PAGE });
}

static inline void fault(struct play *y, uint64_t addr, uint8_t access)
{
	PLAY(y, .kind = UHMM_TRACE_FAULT,
	     .fault = { .access = access, .mode = UHMM_TRACE_MODE_USER, .addr = addr });
}

/* ---- looking ---- */

static inline uint64_t count(struct play *y, enum uhmm_replay_count c)
{
	return uhmm_player_count(y->p, c);
}

static inline uint64_t counter(struct play *y, enum uhmm_counter c)
{
	struct uhmm_counters all;

	uhmm_counters_read(uhmm_player_machine(y->p), &all);
	return all.v[c];
}

static inline struct uhmm_replay_agreement agreement(struct play *y)
{
	struct uhmm_replay_agreement g;

	uhmm_player_agreement(y->p, &g);
	return g;
}

/* What a process reads; ~0 for a signal. */
static inline uint64_t peek(struct play *y, uint32_t mm, uint64_t addr)
{
	uint64_t value = 0;
	int ret;

	uhmm_player_enter(y->p);
	ret = uhmm_cpu_read(uhmm_player_mm(y->p, mm), addr, &value, sizeof(value), NULL);
	uhmm_player_leave(y->p);
	return ret ? ~0UL : value;
}

static inline bool present(struct play *y, uint32_t mm, uint64_t addr)
{
	uint64_t entry = 0;

	uhmm_player_enter(y->p);
	ck_assert_int_eq(uhmm_pagemap(uhmm_player_mm(y->p, mm), addr, 1, &entry), 0);
	uhmm_player_leave(y->p);
	return entry & (UHMM_PM_PRESENT | UHMM_PM_SWAP);
}

#endif /* TESTS_UNIT_REPLAY_SUPPORT_H */
