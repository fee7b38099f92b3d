// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_trace_ahead.c - batches of a trace that is read ahead: nothing is lost, and each is cut where it
 * may be; and the player's table of address spaces.
 */
#include <sched.h>

#include <uhmm/replay.h>
#include <uhmm/trace_write.h>

#include "replay/trace_ahead.h"
#include "unit/trace_support.h"

static uint32_t seed;

static uint32_t random_below(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)seed * n >> 32);
}

/* The trace tells one thing more, until there is nothing more to tell. */
static void tell_more(struct uhmm_trace_caps *caps)
{
	bool *what[] = { &caps->has_rw,	  &caps->has_major, &caps->has_unmap,
			 &caps->has_maps, &caps->has_fork,  &caps->has_cpu };

	for (unsigned int i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		if (!*what[i]) {
			*what[i] = true;
			return;
		}
	}
}

/* Numbers of each length, mostly short ones. */
static uint64_t random_number(void)
{
	return (uint64_t)random_below(UINT32_MAX) * random_below(UINT32_MAX) >> random_below(64);
}

static void any_fault(struct uhmm_trace_event *ev)
{
	ev->fault.access = (uint8_t)random_below(4);
	ev->fault.mode = (uint8_t)random_below(3);
	ev->fault.present = (uint8_t)random_below(3);
	ev->fault.major = (uint8_t)random_below(3);
	ev->fault.failed = random_below(50) ? 0 : (uint8_t)random_below(3);
	ev->fault.order = random_below(50) ? 0 : 9;
	ev->fault.source = random_below(50) ? 0 : 1;
	ev->fault.error_code = random_below(50) ? 6 : (uint32_t)random_number();
	ev->fault.ip = random_below(3) ? ev->fault.ip : random_number();
	ev->tid = random_below(100) ? ev->tid : (int32_t)random_below(9);
}

/*
 * A trace of @nr events: faults, of which one in @majors waited, and one in @one_in is followed by
 * something else.
 */
static void write_trace(const char *path, enum uhmm_trace_format format, unsigned int nr,
			unsigned int one_in, unsigned int majors)
{
	struct uhmm_trace_write_options opt = { sizeof(opt), format, 0, { 0 } };
	struct uhmm_trace_event ev = { .kind = UHMM_TRACE_MM_NEW, .mm = 1 };
	struct uhmm_trace_stats stats = { 0 };
	struct uhmm_trace_caps caps = { 0 };
	struct uhmm_trace_writer *w;

	ck_assert_int_eq(uhmm_trace_create(path, &opt, &w), 0);
	for (unsigned int i = 0; i < nr; i++) {
		bool more = !random_below(300);

		if (more)
			tell_more(&caps);
		ck_assert_int_eq(uhmm_trace_write(w, &caps, &ev), 0);
		ev.t_ns += random_number() >> 24;
		if (ev.kind == UHMM_TRACE_FAULT && !random_below(majors)) {
			ev.kind = UHMM_TRACE_FAULT_MAJOR;
			if (!random_below(100)) /* as perf's reader learns of them */
				tell_more(&caps);
			continue;
		}
		ev.kind = UHMM_TRACE_FAULT;
		any_fault(&ev);
		ev.fault.addr = random_number() << 3;
		if (!random_below(one_in))
			ev.kind = random_below(2) ? UHMM_TRACE_MM_DEL : UHMM_TRACE_TASK_EXIT;
	}
	ck_assert_int_eq(uhmm_trace_finish(w, &caps, &stats), 0);
}

/* The batches one after the other are what a reader hands out. */
static void check_batches(const char *path, unsigned int nr)
{
	struct uhmm_trace_reader *r = open_path(path, false), *plain = open_path(path, false);
	const struct trace_batch *b;
	struct uhmm_trace_event ev;
	struct trace_ahead *a;
	uint32_t last = 0;
	int status;

	ck_assert_int_eq(uhmm__trace_ahead_start(r, &a), 0);
	do {
		b = uhmm__trace_ahead_get(a);
		status = b->status;
		ck_assert_uint_le(b->nr, TRACE_BATCH + 1);
		for (size_t i = 0; i < b->nr; i++) {
			ck_assert_int_eq(uhmm_trace_next(plain, &ev), 1);
			ck_assert_mem_eq(&b->events[i], &ev, sizeof(ev));
			ck_assert_uint_eq(b->lines[i], uhmm_trace_line(plain));
			/* An event that says more of the one before is with it, whatever holds since. */
			if (ev.kind == UHMM_TRACE_FAULT_MAJOR)
				ck_assert(i > 0 || last != UHMM_TRACE_FAULT);
			else
				ck_assert_mem_eq(&b->caps, uhmm_trace_caps(plain), sizeof(b->caps));
			if (ev.kind == UHMM_TRACE_MM_DEL)
				ck_assert_uint_eq(i, b->nr - 1);
			last = ev.kind;
			nr--;
		}
		uhmm__trace_ahead_put(a);
	} while (status > 0);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(nr, 0);
	ck_assert_int_eq(uhmm_trace_next(plain, &ev), 0);
	uhmm__trace_ahead_stop(a);
	uhmm_trace_close(r);
	uhmm_trace_close(plain);
}

#define NEVER UINT32_MAX

static const struct {
	unsigned int nr, one_in, majors;
} sizes[] = {
	{ 1, NEVER, NEVER },
	{ TRACE_BATCH, NEVER, NEVER },
	{ TRACE_BATCH + 1, NEVER, NEVER },
	{ 6 * TRACE_BATCH + 3, NEVER, NEVER },
	{ 6 * TRACE_BATCH, NEVER, 1 }, /* faults that waited alone */
	{ 9000, 2, 2 },
	{ 20000, 20, 2 },
	{ 20000, 1000, 5 },
};

START_TEST(test_batches)
{
	char path[] = "/tmp/uhmm-ahead-XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	for (int format = UHMM_TRACE_FORMAT_TEXT; format <= UHMM_TRACE_FORMAT_BINARY; format++) {
		seed = (uint32_t)_i;
		write_trace(path, format, sizes[_i].nr, sizes[_i].one_in, sizes[_i].majors);
		check_batches(path, sizes[_i].nr);
	}
	unlink(path);
}
END_TEST

/* Nobody takes what was read: the thread ends all the same, whatever it does meanwhile. */
START_TEST(test_stop)
{
	char path[] = "/tmp/uhmm-ahead-XXXXXX";
	int fd = mkstemp(path);
	struct uhmm_trace_reader *r;
	struct trace_ahead *a;

	ck_assert_int_ge(fd, 0);
	close(fd);
	write_trace(path, UHMM_TRACE_FORMAT_TEXT, 20000, NEVER, NEVER);
	for (int i = 0; i < 40; i++) {
		r = open_path(path, false);
		ck_assert_int_eq(uhmm__trace_ahead_start(r, &a), 0);
		ck_assert_uint_gt(uhmm__trace_ahead_get(a)->nr, 0);
		for (int n = 0; n < 100 * i; n++)
			sched_yield();
		uhmm__trace_ahead_stop(a);
		uhmm_trace_close(r);
	}
	uhmm__trace_ahead_stop(NULL);
	unlink(path);
}
END_TEST

/* Address spaces come and go; each is found while it is there. */
START_TEST(test_address_spaces)
{
	enum { NR = 600 };
	bool there[NR + 1] = { false };
	struct uhmm_trace_event ev = { .cpu = 0, .tid = 1, .tgid = 1 };
	struct uhmm_player *p;
	uint32_t made = 0;

	seed = 1;
	ck_assert_int_eq(uhmm_player_create(NULL, &p), 0);
	for (unsigned int i = 0; i < 3 * NR; i++) {
		uint32_t n = 1 + random_below(made ? made : 1);

		if (made < NR && !random_below(3)) {
			ev.kind = UHMM_TRACE_MM_NEW;
			ev.mm = ++made;
			there[made] = true;
		} else {
			ev.kind = UHMM_TRACE_MM_DEL;
			ev.mm = n;
			there[n] = false;
		}
		ck_assert_int_eq(uhmm_player_run(p, NULL, &ev, 1), 0);
		for (uint32_t mm = 1; mm <= made; mm += 1 + random_below(20))
			ck_assert_int_eq(uhmm_player_mm(p, mm) != NULL, there[mm]);
		ck_assert_uint_eq(uhmm_player_nr_mms(p), made);
	}
	ck_assert_ptr_null(uhmm_player_mm(p, 0));
	ck_assert_ptr_null(uhmm_player_mm(p, UINT32_MAX));
	uhmm_player_destroy(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace_ahead");
	TCase *tc = tcase_create("trace_ahead");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(tc, test_batches, 0, sizeof(sizes) / sizeof(sizes[0]));
	tcase_add_test(tc, test_stop);
	tcase_add_test(tc, test_address_spaces);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
