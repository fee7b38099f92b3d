// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_replay.c - the player: what each event does to a machine. test_replay_huge.c has huge pages,
 * test_replay_traces.c recorded traces and the command.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mm/inspect.h"
#include "replay/player.h"

#include "unit/replay_support.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* ---- address spaces and accesses ---- */

START_TEST(test_fault_kinds)
{
	struct uhmm_replay_agreement g;
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 4, RW, 0, 0);
	fault(&y, AT, READ);
	fault(&y, AT + 8, WRITE);
	fault(&y, AT + PAGE, WRITE);
	fault(&y, AT + PAGE, WRITE); /* cannot fault again */
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_ANON_READ), 1);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_COW_COPY), 1);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_ANON_WRITE), 1);
	g = agreement(&y);
	ck_assert_uint_eq(g.faults, 4);
	ck_assert_uint_eq(g.agreed, 3);
	ck_assert_uint_eq(g.missed[UHMM_REPLAY_MISS_OTHER], 1);
	ck_assert_uint_ne(peek(&y, 1, AT + 8), 0);
	ck_assert_uint_ne(peek(&y, 1, AT + 8), peek(&y, 1, AT + PAGE));
	mm_del(&y, 1);
	ck_assert_ptr_null(uhmm_player_mm(y.p, 1));
	end(&y);
}
END_TEST

START_TEST(test_fork)
{
	uint64_t before;
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 4, RW, 0, 0);
	map(&y, AT + 8 * PAGE, 1, RW, 0, 0);
	fault(&y, AT, WRITE);
	before = peek(&y, 1, AT);
	advise(&y, AT + 8 * PAGE, 1, MADV_DONTFORK);
	y.cpu = 1;
	mm_new(&y, 2, 1);
	ck_assert_uint_eq(peek(&y, 2, AT), before);
	ck_assert_uint_eq(peek(&y, 2, AT + 8 * PAGE), ~0UL);
	y.mm = 2;
	fault(&y, AT, WRITE);
	ck_assert_uint_eq(peek(&y, 1, AT), before);
	ck_assert_uint_ne(peek(&y, 2, AT), before);
	mm_del(&y, 1);
	ck_assert_uint_eq(uhmm_player_nr_mms(y.p), 2);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_MM_FORK), 1);
	end(&y);
}
END_TEST

START_TEST(test_signals)
{
	struct uhmm_replay_agreement g;
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 1, UHMM_TRACE_PROT_READ, 0, 0);
	fault(&y, AT, WRITE);
	fault(&y, AT, EXEC);
	fault(&y, 0, READ);
	fault(&y, ~0UL, READ);
	g = agreement(&y);
	ck_assert_uint_eq(g.agreed, 4);
	ck_assert_uint_eq(g.signals, 4);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_SIGNALS), 4);
	end(&y);
}
END_TEST

START_TEST(test_stack_grows)
{
	uint64_t top = 0x7ffff0000000UL;
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, top - 4 * PAGE, 4, RW, UHMM_TRACE_MAP_STACK | UHMM_TRACE_MAP_GROWSDOWN, 0);
	fault(&y, top - 20 * PAGE, WRITE);
	fault(&y, top - 10 * PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).agreed, 2);
	ck_assert_uint_eq(agreement(&y).signals, 0);
	fault(&y, top - (9UL << 20), WRITE); /* beyond RLIMIT_STACK */
	ck_assert_uint_eq(agreement(&y).signals, 1);
	/* Reported again once it has grown: the pages stay. */
	map(&y, top - 20 * PAGE, 20, RW,
	    UHMM_TRACE_MAP_STACK | UHMM_TRACE_MAP_GROWSDOWN | UHMM_TRACE_MAP_MERGED, 0);
	ck_assert_uint_ne(peek(&y, 1, top - 20 * PAGE), 0);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_REFUSED), 0);
	end(&y);
}
END_TEST

START_TEST(test_unknown_space)
{
	struct play y;

	begin(&y);
	fault(&y, AT, WRITE); /* nobody said that there is one */
	mm_del(&y, 7);
	mm_new(&y, 1, 0);
	mm_new(&y, 1, 0);
	PLAY(&y, .kind = UHMM_TRACE_MIGRATE);
	PLAY(&y, .kind = UHMM_TRACE_LOST, .lost = { 5 });
	PLAY(&y, .kind = UHMM_TRACE_MARK);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_SKIPPED), 4);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_LOST), 5);
	end(&y);
}
END_TEST

/* ---- mappings ---- */

/* A mapping replaces what was there; a merged one is laid over it. */
START_TEST(test_map_over)
{
	struct play y;
	uint64_t kept;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 4, RW, 0, 0);
	fault(&y, AT, WRITE);
	fault(&y, AT + PAGE, WRITE);
	kept = peek(&y, 1, AT + PAGE);
	map(&y, AT, 1, RW, UHMM_TRACE_MAP_FIXED, 0);
	ck_assert(!present(&y, 1, AT));
	map(&y, AT, 8, RW, UHMM_TRACE_MAP_MERGED, 0);
	ck_assert_uint_eq(peek(&y, 1, AT + PAGE), kept);
	ck_assert_uint_eq(peek(&y, 1, AT + 7 * PAGE), 0);
	/* Merged, with another protection: that of the report. */
	map(&y, AT, 8, UHMM_TRACE_PROT_READ, UHMM_TRACE_MAP_MERGED, 0);
	ck_assert_uint_eq(peek(&y, 1, AT + PAGE), kept);
	fault(&y, AT + PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).signals, 1);
	/* Merged, but of a file: something else, so the old pages are gone. */
	map(&y, AT, 8, RW, UHMM_TRACE_MAP_MERGED, 3);
	ck_assert(!present(&y, 1, AT + PAGE));
	fault(&y, AT, WRITE);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_FILE_ACCESSES), 1);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_REFUSED), 0);
	end(&y);
}
END_TEST

START_TEST(test_unmap_protect)
{
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 8, RW, 0, 0);
	fault(&y, AT, WRITE);
	unmap(&y, AT, 2);
	ck_assert_uint_eq(peek(&y, 1, AT), ~0UL);
	protect(&y, AT + 2 * PAGE, 2, 0);
	ck_assert_uint_eq(peek(&y, 1, AT + 2 * PAGE), ~0UL);
	ck_assert_uint_eq(peek(&y, 1, AT + 4 * PAGE), 0);
	/* A hole that the trace does not know of: what is there is protected all the same. */
	protect(&y, AT, 8, UHMM_TRACE_PROT_READ);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_REFUSED), 1);
	ck_assert_uint_eq(peek(&y, 1, AT + 2 * PAGE), 0);
	fault(&y, AT + 5 * PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).signals, 1);
	end(&y);
}
END_TEST

START_TEST(test_move)
{
	struct play y;
	uint64_t a, b;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 4, RW, 0, 0);
	fault(&y, AT, WRITE);
	fault(&y, AT + 3 * PAGE, WRITE);
	a = peek(&y, 1, AT);
	b = peek(&y, 1, AT + 3 * PAGE);
	move(&y, 0, AT, 4, AT, 6); /* grows in place */
	ck_assert_uint_eq(peek(&y, 1, AT + 5 * PAGE), 0);
	move(&y, 0, AT, 6, AT + 0x100000, 8);
	ck_assert_uint_eq(peek(&y, 1, AT), ~0UL);
	ck_assert_uint_eq(peek(&y, 1, AT + 0x100000), a);
	ck_assert_uint_eq(peek(&y, 1, AT + 0x100000 + 7 * PAGE), 0);
	move(&y, UHMM_TRACE_MOVE_DONTUNMAP, AT + 0x100000, 8, AT, 8);
	ck_assert_uint_eq(peek(&y, 1, AT + 3 * PAGE), b);
	ck_assert_uint_eq(peek(&y, 1, AT + 0x100000), 0);
	move(&y, 0, AT, 8, AT + 0x200000, 1); /* moves and shrinks */
	ck_assert_uint_eq(peek(&y, 1, AT + 0x200000), a);
	ck_assert_uint_eq(peek(&y, 1, AT + 0x200000 + PAGE), ~0UL);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_MOVES_INEXACT), 0);
	/* Where the model cannot follow, the mapping at least is as in the trace. */
	move(&y, 0, AT + 0x500000, 1, AT + 0x600000, 1);
	ck_assert_uint_eq(peek(&y, 1, AT + 0x600000), 0);
	move(&y, UHMM_TRACE_MOVE_DUP, AT + 0x200000, 1, AT + 0x700000, 1);
	ck_assert_uint_eq(peek(&y, 1, AT + 0x700000), 0);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_MOVES_INEXACT), 2);
	end(&y);
}
END_TEST

START_TEST(test_advise)
{
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 8, RW, 0, 0);
	fault(&y, AT, WRITE);
	advise(&y, AT, 1, MADV_DONTNEED);
	ck_assert(!present(&y, 1, AT));
	advise(&y, AT, 2, UHMM_TRACE_ADV_MLOCK);
	ck_assert(present(&y, 1, AT + PAGE));
	fault(&y, AT + PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).missed[UHMM_REPLAY_MISS_POPULATED], 1);
	advise(&y, AT, 1, MADV_SOFT_OFFLINE);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_ADVICE_IGNORED), 1);
	PLAY(&y, .kind = UHMM_TRACE_ADVISE,
	     .advise = { .advice = UHMM_TRACE_ADV_MLOCKALL,
			 .start = 0,
			 .end = ~0UL,
			 .arg = MCL_CURRENT | MCL_FUTURE });
	ck_assert(present(&y, 1, AT + 7 * PAGE));
	map(&y, AT + 0x100000, 1, RW, 0, 0);
	ck_assert(present(&y, 1, AT + 0x100000));
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_LOCKS_POPULATED), 2);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_REFUSED), 0);
	end(&y);
}
END_TEST

START_TEST(test_truncate)
{
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 4, RW, UHMM_TRACE_MAP_SHARED, 9);
	fault(&y, AT, WRITE);
	fault(&y, AT + 2 * PAGE, WRITE);
	PLAY(&y, .kind = UHMM_TRACE_TRUNC, .trunc = { .obj = 9, .start = PAGE, .end = ~0UL });
	ck_assert(present(&y, 1, AT));
	ck_assert(!present(&y, 1, AT + 2 * PAGE));
	PLAY(&y, .kind = UHMM_TRACE_TRUNC, .trunc = { .obj = 8, .start = 0, .end = ~0UL });
	ck_assert(present(&y, 1, AT));
	end(&y);
}
END_TEST

/* ---- what the trace leaves out ---- */

START_TEST(test_inferred_maps)
{
	struct play y;

	begin(&y);
	y.caps.has_maps = y.caps.has_data_maps = y.caps.has_unmap = y.caps.has_rw = false;
	mm_new(&y, 1, 0);
	map(&y, AT + 0x8000, 1, UHMM_TRACE_PROT_READ, 0, 2);
	fault(&y, AT + 0x2010, UHMM_TRACE_ACCESS_UNKNOWN);
	fault(&y, AT + 0x7000, UHMM_TRACE_ACCESS_UNKNOWN); /* the same block */
	fault(&y, AT + 0x8000, UHMM_TRACE_ACCESS_UNKNOWN); /* read-only: a read */
	fault(&y, AT + 0xf000, UHMM_TRACE_ACCESS_UNKNOWN); /* above that mapping */
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_INFERRED_VMAS), 2);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_INFERRED_PAGES), 8 + 7);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_GUESSED_ACCESS), 4);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_ANON_WRITE), 3);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_FILE_READ), 1);
	fault(&y, AT + 0x7000, UHMM_TRACE_ACCESS_UNKNOWN);
	ck_assert_uint_eq(agreement(&y).missed[UHMM_REPLAY_MISS_UNKNOWN_ACCESS], 1);
	/* A mapping announced later is laid over what was inferred. */
	map(&y, AT, 8, RW, UHMM_TRACE_MAP_MERGED, 0);
	ck_assert_uint_ne(peek(&y, 1, AT + 0x2010), 0);
	end(&y);
}
END_TEST

START_TEST(test_miss_reasons)
{
	struct uhmm_replay_agreement g;
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 1, RW, UHMM_TRACE_MAP_SHARED, 1);
	map(&y, AT + 0x10000, 1, RW, 0, 2);
	map(&y, AT + 0x20000, 1, RW, 0, 0);
	fault(&y, AT, WRITE);
	fault(&y, AT, WRITE);
	fault(&y, AT + 0x10000, WRITE);
	fault(&y, AT + 0x10000, WRITE);
	fault(&y, AT + 0x20000, WRITE);
	y.tid++;
	y.t_ns -= 999999; /* 1 ns later, that is */
	fault(&y, AT + 0x20000, WRITE);
	mm_new(&y, 2, 1);
	y.mm = 2;
	fault(&y, AT + 0x10000, READ);
	/* Shared memory is faulted in again. */
	fault(&y, AT, READ);
	g = agreement(&y);
	ck_assert_uint_eq(g.missed[UHMM_REPLAY_MISS_SHARED], 1);
	ck_assert_uint_eq(g.missed[UHMM_REPLAY_MISS_FILE], 1);
	ck_assert_uint_eq(g.missed[UHMM_REPLAY_MISS_SAME_TIME], 1);
	ck_assert_uint_eq(g.missed[UHMM_REPLAY_MISS_FILE_FORK], 1);
	ck_assert_uint_eq(g.agreed, 4);
	end(&y);
}
END_TEST

static void object(struct play *y, uint32_t id, enum uhmm_trace_obj_kind kind)
{
	PLAY(y, .kind = UHMM_TRACE_OBJ, .obj = { .id = id, .kind = kind });
}

static void map_at(struct play *y, uhmm_vaddr_t at, uint64_t npages, uint32_t flags, uint32_t obj,
		   uint64_t pgoff)
{
	PLAY(y, .kind = UHMM_TRACE_MAP,
	     .map = { .start = at,
		      .end = at + npages * PAGE,
		      .prot = RW,
		      .flags = flags,
		      .obj = obj,
		      .pgoff = pgoff });
}

/* One object in two processes and at two places: what one writes the others read. */
START_TEST(test_objects)
{
	struct play y;
	uint64_t word;

	begin(&y);
	object(&y, 4, UHMM_TRACE_OBJ_SHMEM);
	object(&y, 5, UHMM_TRACE_OBJ_FILE);
	mm_new(&y, 1, 0);
	map_at(&y, AT, 4, UHMM_TRACE_MAP_SHARED, 4, 0);
	fault(&y, AT + PAGE, WRITE);
	word = peek(&y, 1, AT + PAGE);
	mm_new(&y, 2, 0);
	y.mm = 2;
	map_at(&y, AT, 1, UHMM_TRACE_MAP_SHARED, 4, 1);
	ck_assert_uint_eq(peek(&y, 2, AT), word);
	/* A private mapping of a file that counts as cached: pages around come with a read. */
	map_at(&y, AT + 0x10000, 32, 0, 5, 0);
	fault(&y, AT + 0x10000, READ);
	ck_assert(present(&y, 2, AT + 0x10000 + 15 * PAGE));
	ck_assert(!present(&y, 2, AT + 0x10000 + 16 * PAGE));
	fault(&y, AT + 0x10000 + PAGE, WRITE);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_COW_COPY), 1);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_FILE_MAJOR), 0);
	/* The object is longer after a mremap. */
	y.mm = 1;
	PLAY(&y, .kind = UHMM_TRACE_MOVE,
	     .move = { .old_start = AT,
		       .old_end = AT + 4 * PAGE,
		       .new_start = AT + 0x100000,
		       .new_end = AT + 0x100000 + 8 * PAGE });
	fault(&y, AT + 0x100000 + 7 * PAGE, WRITE);
	ck_assert_uint_eq(agreement(&y).signals, 0);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_REFUSED), 0);
	end(&y);
}
END_TEST

/* A major fault tells that a file was not all in the cache. */
START_TEST(test_major_faults)
{
	struct uhmm_trace_event events[2] = {
		{ .kind = UHMM_TRACE_FAULT, .mm = 1, .fault = { .access = READ, .addr = AT } },
		{ .kind = UHMM_TRACE_FAULT_MAJOR, .mm = 1, .fault = { .addr = AT } },
	};
	struct play y;

	begin(&y);
	object(&y, 5, UHMM_TRACE_OBJ_FILE);
	mm_new(&y, 1, 0);
	map_at(&y, AT, 64, 0, 5, 0);
	ck_assert_int_eq(uhmm_player_run(y.p, &y.caps, events, 2), 0);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_FILE_MAJOR), 1);
	fault(&y, AT + 15 * PAGE, READ); /* read with the first */
	fault(&y, AT + 63 * PAGE, READ);
	ck_assert_uint_eq(counter(&y, UHMM_CNT_FAULT_FILE_MAJOR), 2);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_MAJOR_FAULTS), 1);
	end(&y);
}
END_TEST

START_TEST(test_touch)
{
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 2, RW, 0, 0);
	PLAY(&y, .kind = UHMM_TRACE_TOUCH,
	     .touch = { .access = WRITE, .size = 8, .addr = AT + PAGE - 4, .repeat = 3 });
	PLAY(&y, .kind = UHMM_TRACE_TOUCH,
	     .touch = { .access = WRITE, .size = 8, .addr = AT, .repeat = 1 });
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_TOUCHES), 4);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_CPU_ACCESSES), 3);
	ck_assert_uint_eq(agreement(&y).extra_touch, 2);
	ck_assert_uint_eq(agreement(&y).faults, 0);
	end(&y);
}
END_TEST

/* ---- offload ---- */

static void offload_work(struct play *y)
{
	mm_new(y, 1, 0);
	map(y, AT, 16, RW, 0, 0);
	map(y, AT + 0x100000, 1, RW, 0, 5);
	map(y, AT + 0x200000, 1, UHMM_TRACE_PROT_READ | UHMM_TRACE_PROT_EXEC, 0, 0);
	for (unsigned int i = 0; i < 16; i++) {
		y->tid = 100 + (int)i % 2;
		fault(y, AT + i * PAGE, i % 3 ? WRITE : READ);
	}
	fault(y, AT + 0x100000, WRITE); /* a file's */
	fault(y, AT + 0x200000, EXEC);
	fault(y, AT + 0x200000, WRITE); /* not permitted */
}

static uint64_t offloaded(struct uhmm_offload offload, uint64_t seed, uint64_t *digest)
{
	struct uhmm_player_config config = { .offload = offload,
					     .seed = seed,
					     .strategy = UHMM_COMBINED };
	struct play y;
	uint64_t n;

	begin_with(&y, &config);
	offload_work(&y);
	n = count(&y, UHMM_REPLAY_DEVICE_ACCESSES);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_DEVICE_FAILED), 0);
	ck_assert_uint_eq(agreement(&y).offloaded, n);
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_CPU_ACCESSES) + n, 19);
	ck_assert_int_eq(uhmm_player_device(y.p) != NULL, n != 0);
	if (digest)
		*digest = uhmm_player_digest(y.p);
	end(&y);
	return n;
}

START_TEST(test_offload)
{
	const int32_t tids[] = { 500, 101, 7 };
	struct uhmm_offload o = { .kind = UHMM_OFFLOAD_NONE };
	uint64_t none, all;

	ck_assert_uint_eq(offloaded(o, 0, &none), 0);
	o.kind = UHMM_OFFLOAD_ALL;
	ck_assert_uint_eq(offloaded(o, 0, &all), 16);
	ck_assert_uint_eq(none, all);
	o = (struct uhmm_offload){ .kind = UHMM_OFFLOAD_TASKS, .tids = tids, .nr_tids = 3 };
	ck_assert_uint_eq(offloaded(o, 0, NULL), 8);
	o = (struct uhmm_offload){ .kind = UHMM_OFFLOAD_RANGE,
				   .start = AT + PAGE,
				   .end = AT + 5 * PAGE };
	ck_assert_uint_eq(offloaded(o, 0, NULL), 4);
	o = (struct uhmm_offload){ .kind = UHMM_OFFLOAD_SHARE, .share = 0 };
	ck_assert_uint_eq(offloaded(o, 1, NULL), 0);
	o.share = 1;
	ck_assert_uint_eq(offloaded(o, 1, NULL), 16);
	o.share = 0.5;
	ck_assert_uint_eq(offloaded(o, 3, NULL), offloaded(o, 3, NULL));
	ck_assert_uint_gt(offloaded(o, 3, NULL), 0);
	ck_assert_uint_lt(offloaded(o, 3, NULL), 16);
}
END_TEST

/* However many processes have used the device, those that are gone take no memory. */
START_TEST(test_memory_of_the_gone)
{
	struct uhmm_player_config config = { .offload = { .kind = UHMM_OFFLOAD_ALL } };
	struct uhmm_memory_use use, before = { 0 };
	struct play y;

	begin_with(&y, &config);
	for (uint32_t mm = 1; mm <= 768; mm++) {
		y.mm = mm;
		mm_new(&y, mm, 0);
		map(&y, AT, 4, RW, 0, 0);
		fault(&y, AT, WRITE);
		mm_del(&y, mm);
		uhmm_machine_memory(uhmm_player_machine(y.p), &use);
		if (mm == 384)
			before = use;
	}
	ck_assert_uint_eq(count(&y, UHMM_REPLAY_DEVICE_ACCESSES), 768);
	ck_assert_uint_le(use.metadata, before.metadata + before.metadata / 4);
	ck_assert_uint_le(use.nr_tables, before.nr_tables + 64);
	end(&y);
}
END_TEST

/* The same accesses, by CPU or by the device with any strategy, leave the same bytes. */
START_TEST(test_same_contents)
{
	struct uhmm_player_config config = { .strategy = UHMM_COMBINED };
	struct play a, b;

	begin_with(&a, &config);
	offload_work(&a);
	config.offload.kind = UHMM_OFFLOAD_ALL;
	config.strategy = (enum uhmm_strategy)_i;
	config.granularity = 64 << 10;
	config.device_bytes = 8 * PAGE;
	begin_with(&b, &config);
	offload_work(&b);
	ck_assert_int_eq(uhmm_machine_compare(uhmm_player_machine(a.p), uhmm_player_machine(b.p),
					      UHMM_COMPARE_CONTENTS, NULL, NULL),
			 0);
	ck_assert_uint_eq(uhmm_player_digest(a.p), uhmm_player_digest(b.p));
	ck_assert_uint_gt(count(&b, UHMM_REPLAY_DEVICE_SERVED), 0);
	end(&a);
	end(&b);
}
END_TEST

/* ---- courses ---- */

static bool apart(void *data, uhmm_vaddr_t addr)
{
	struct play *y = data;

	return uhmm__player_apart(y[0].p, y[1].p, addr);
}

static int64_t state_differs(struct play y[2], uint64_t *nr_apart)
{
	*nr_apart = 0;
	return uhmm__machine_compare(uhmm_player_machine(y[0].p), uhmm_player_machine(y[1].p),
				     UHMM_COMPARE_STATE, apart, y, nr_apart, NULL, NULL);
}

/*
 * A device fault that only one player serves moves the pages around its own: there contents alone must
 * be the same, but they must, and elsewhere all.
 */
START_TEST(test_courses)
{
	struct uhmm_player_config config = {
		.offload = { .kind = UHMM_OFFLOAD_RANGE, .start = AT, .end = AT + PAGE },
		.granularity = 4 * PAGE
	};
	struct play y[2];
	uint64_t n;

	for (int i = 0; i < 2; i++) {
		begin_with(&y[i], &config);
		mm_new(&y[i], 1, 0);
		map(&y[i], AT, 8, RW, 0, 0);
		for (unsigned int page = 1; page < 8; page++)
			fault(&y[i], AT + page * PAGE, WRITE);
	}
	ck_assert_int_eq(state_differs(y, &n), 0);
	ck_assert_uint_eq(n, 0);
	fault(&y[1], AT, READ);
	ck_assert_uint_eq(count(&y[1], UHMM_REPLAY_DEVICE_SERVED), 1);
	ck_assert_int_eq(state_differs(y, &n), 0);
	ck_assert_uint_eq(n, 4);
	fault(&y[1], AT + 5 * PAGE, READ); /* by the CPU, again */
	fault(&y[1], AT + 3 * PAGE, WRITE);
	ck_assert_int_eq(state_differs(y, &n), 1); /* other contents */
	fault(&y[1], AT + 5 * PAGE, WRITE);
	ck_assert_int_eq(state_differs(y, &n), 2);
	unmap(&y[1], AT + 7 * PAGE, 1);
	ck_assert_int_eq(state_differs(y, &n), 2 + 2); /* the page, and the VMA's end */
	end(&y[0]);
	end(&y[1]);
}
END_TEST

/* ---- arguments ---- */

START_TEST(test_bad_config)
{
	struct uhmm_player_config good = { .size = sizeof(good) }, c;
	struct uhmm_player *p = NULL;

#define BAD(field, value)                                                                          \
	do {                                                                                       \
		c = good;                                                                          \
		c.field = (value);                                                                 \
		ck_assert_int_eq(uhmm_player_create(&c, &p), -EINVAL);                             \
	} while (0)
	BAD(size, 1);
	BAD(strategy, UHMM_NR_STRATEGIES);
	BAD(granularity, 4097);
	BAD(granularity, 2048);
	BAD(granularity, 4 << 20);
	BAD(nr_cpus, UHMM_MAX_CPUS + 1);
	BAD(thp, UHMM_THP_NEVER + 1);
	BAD(offload.kind, (enum uhmm_offload_kind)9);
	BAD(offload.kind, UHMM_OFFLOAD_TASKS);
	BAD(offload.kind, UHMM_OFFLOAD_RANGE);
	good.offload.kind = UHMM_OFFLOAD_SHARE;
	BAD(offload.share, 1.5);
	BAD(offload.share, -1);
	BAD(offload.share, 0.0 / 0.0);
#undef BAD
	ck_assert_ptr_null(p);
	ck_assert_int_eq(uhmm_player_create(NULL, NULL), -EINVAL);
	ck_assert_int_eq(uhmm_player_create(NULL, &p), 0);
	uhmm_player_destroy(p);
	uhmm_player_destroy(NULL);
	ck_assert_ptr_null(uhmm_replay_count_name(UHMM_NR_REPLAY_COUNTS));
	ck_assert_ptr_null(uhmm_replay_miss_text(UHMM_NR_REPLAY_MISSES));
}
END_TEST

/* No memory for the model's pages ends the run, and leaves nothing behind. */
START_TEST(test_no_memory)
{
	struct uhmm_trace_event ev = { .kind = UHMM_TRACE_FAULT,
				       .tid = 100,
				       .mm = 1,
				       .fault = { .access = WRITE, .addr = AT } };
	struct play y;

	begin(&y);
	mm_new(&y, 1, 0);
	map(&y, AT, 4, RW, 0, 0);
	ck_assert_int_eq(uhmm_machine_inject(uhmm_player_machine(y.p), UHMM_INJECT_FRAME, 1, 100),
			 0);
	ck_assert_int_eq(uhmm_player_run(y.p, &y.caps, &ev, 1), -ENOMEM);
	end(&y);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("replay");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_fault_kinds);
	tcase_add_test(tc, test_fork);
	tcase_add_test(tc, test_signals);
	tcase_add_test(tc, test_stack_grows);
	tcase_add_test(tc, test_unknown_space);
	tcase_add_test(tc, test_map_over);
	tcase_add_test(tc, test_unmap_protect);
	tcase_add_test(tc, test_move);
	tcase_add_test(tc, test_advise);
	tcase_add_test(tc, test_truncate);
	tcase_add_test(tc, test_inferred_maps);
	tcase_add_test(tc, test_miss_reasons);
	tcase_add_test(tc, test_objects);
	tcase_add_test(tc, test_major_faults);
	tcase_add_test(tc, test_touch);
	tcase_add_test(tc, test_offload);
	tcase_add_test(tc, test_memory_of_the_gone);
	tcase_add_loop_test(tc, test_same_contents, 0, UHMM_NR_STRATEGIES);
	tcase_add_test(tc, test_courses);
	tcase_add_test(tc, test_bad_config);
	tcase_add_test(tc, test_no_memory);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
