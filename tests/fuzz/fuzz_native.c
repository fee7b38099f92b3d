// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * libFuzzer: any bytes as the records of a binary trace, behind a head and a checksum that are right,
 * so that they are looked at. What can be read of them is the same when it is written as text and read
 * again, and can be played: no crash, no report of a sanitizer, no violation. Errors are fine.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <uhmm/uhmm.h>

#include "replay/native.h"

enum {
	MAX_EVENTS = 4096,
	MAX_RANGE = 64 << 20, /* longer ones are not played: they take memory and time, no more */
	MAX_POPULATED = 1 << 20,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
	if (!good)
		abort();
}

static int memory_file(char path[64])
{
	int fd = memfd_create("trace", 0);

	must(fd >= 0);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static void write_trace(int fd, const uint8_t *data, size_t size)
{
	static const unsigned char preamble[NATIVE_PREAMBLE_BYTES] = NATIVE_MAGIC "\x01\x00\x0c";
	struct native_sum sum = native_block_sum(data, size);
	unsigned char head[NATIVE_BLOCK_BYTES];

	native_put32(head, (uint32_t)size);
	native_put32(head + 4, sum.a);
	native_put32(head + 8, sum.b);
	must(write(fd, preamble, sizeof(preamble)) == sizeof(preamble));
	must(write(fd, head, sizeof(head)) == sizeof(head));
	must(write(fd, data, size) == (ssize_t)size);
}

/* ---- the same as text ---- */

static void same_text(const char *a, const char *b)
{
	must(!strcmp(a ? a : "", b ? b : ""));
}

/* Strings in it belong to a reader: they are compared, and then the rest. */
static void same_event(struct uhmm_trace_event a, struct uhmm_trace_event b)
{
	must(a.kind == b.kind);
	if (a.kind == UHMM_TRACE_TASK) {
		same_text(a.task.comm, b.task.comm);
		a.task.comm = b.task.comm;
	} else if (a.kind == UHMM_TRACE_OBJ) {
		same_text(a.obj.name, b.obj.name);
		a.obj.name = b.obj.name;
	} else if (a.kind == UHMM_TRACE_MARK) {
		same_text(a.mark.text, b.mark.text);
		a.mark.text = b.mark.text;
	}
	must(!memcmp(&a, &b, sizeof(a)));
}

static struct uhmm_trace_reader *open_trace(const char *path)
{
	struct uhmm_trace_options opt = { sizeof(opt), true };
	struct uhmm_trace_reader *r;

	must(!uhmm_trace_open(path, &opt, &r));
	return r;
}

/* Writes text to a pipe that nobody needs to read meanwhile: a file. */
static void round_trip(const char *path)
{
	struct uhmm_trace_write_options opt = { sizeof(opt), UHMM_TRACE_FORMAT_TEXT, 0, { 0 } };
	struct uhmm_trace_reader *in = open_trace(path), *again;
	char text[] = "/tmp/uhmm-fuzz-XXXXXX";
	struct uhmm_trace_event ev, other;
	struct uhmm_trace_writer *w;
	int fd = mkstemp(text);

	must(fd >= 0 && !uhmm_trace_create(text, &opt, &w));
	while (uhmm_trace_next(in, &ev) > 0)
		must(!uhmm_trace_write(w, uhmm_trace_caps(in), &ev));
	must(!uhmm_trace_finish(w, uhmm_trace_caps(in), uhmm_trace_stats(in)));
	uhmm_trace_close(in);

	in = open_trace(path);
	again = open_trace(text);
	while (uhmm_trace_next(in, &ev) > 0) {
		must(uhmm_trace_next(again, &other) > 0);
		same_event(ev, other);
	}
	must(!uhmm_trace_next(again, &other) && !uhmm_trace_error(again));
	uhmm_trace_close(in);
	uhmm_trace_close(again);
	close(fd);
	unlink(text);
}

/* ---- playing ---- */

static bool populates(const struct uhmm_trace_event *ev)
{
	if (ev->kind == UHMM_TRACE_MAP)
		return ev->map.flags & (UHMM_TRACE_MAP_POPULATE | UHMM_TRACE_MAP_LOCKED);
	return ev->kind == UHMM_TRACE_ADVISE;
}

static bool worth_playing(const struct uhmm_trace_event *ev)
{
	uint64_t len = 0;

	switch (ev->kind) {
	case UHMM_TRACE_MAP:
		len = ev->map.end - ev->map.start;
		break;
	case UHMM_TRACE_MOVE:
		len = ev->move.new_end - ev->move.new_start;
		break;
	case UHMM_TRACE_ADVISE:
		if (ev->advise.advice == UHMM_TRACE_ADV_MLOCKALL)
			return false;
		len = ev->advise.end - ev->advise.start;
		break;
	default:
		break;
	}
	return len <= (populates(ev) ? MAX_POPULATED : MAX_RANGE);
}

static void play(const char *path)
{
	struct uhmm_player_config config = { .size = sizeof(config),
					     .strategy = UHMM_COMBINED,
					     .offload = { .kind = UHMM_OFFLOAD_SHARE,
							  .share = 0.5 } };
	struct uhmm_trace_reader *r = open_trace(path);
	struct uhmm_trace_event ev;
	struct uhmm_player *player;
	unsigned int nr = 0;

	must(!uhmm_player_create(&config, &player));
	while (nr < MAX_EVENTS && uhmm_trace_next(r, &ev) > 0) {
		if (worth_playing(&ev) && uhmm_player_run(player, uhmm_trace_caps(r), &ev, 1))
			break;
		nr++;
	}
	must(!uhmm_machine_verify(uhmm_player_machine(player)));
	uhmm_player_destroy(player);
	uhmm_trace_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	int fd;

	if (!size || size > NATIVE_PAYLOAD_MAX)
		return 0;
	fd = memory_file(path);
	write_trace(fd, data, size);
	round_trip(path);
	play(path);
	close(fd);
	return 0;
}
