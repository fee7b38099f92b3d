// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * player_replay.c - a trace through several players side by side.
 *
 * All players get the same batch, while a thread reads the next ones, so the trace is read once and
 * memory does not grow with its length. An address space is compared before it ends: afterwards there
 * is nothing left to compare.
 */
#include <stdlib.h>
#include <time.h>

#include "mm/inspect.h"
#include "replay/player.h"
#include "replay/trace_ahead.h"

struct uhmm_replay {
	struct uhmm_replay_config config;
	struct uhmm_trace_reader *reader;
	struct uhmm_replay_run runs[UHMM_NR_STRATEGIES];
	unsigned int nr_runs;
	uint64_t line;
	uint64_t position, file_size;
	struct trace_ahead *ahead;
	const struct trace_batch *batch; /* NULL: get another */
	size_t pos;			 /* events of it that were played */
	bool read_all;			 /* there is no other */
	bool ended;			 /* machines were compared for the last time */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- opening ---- */

static int open_runs(struct uhmm_replay *r)
{
	unsigned int strategies = r->config.strategies;

	if (!strategies)
		strategies = 1u << UHMM_COMBINED;
	if (strategies >> UHMM_NR_STRATEGIES)
		return -EINVAL;
	for (unsigned int s = 0; s < UHMM_NR_STRATEGIES; s++) {
		struct uhmm_player_config config = r->config.player;
		struct uhmm_replay_run *run = &r->runs[r->nr_runs];
		int err;

		if (!(strategies & 1u << s))
			continue;
		config.size = sizeof(config);
		config.strategy = s;
		err = uhmm_player_create(&config, &run->player);
		if (err)
			return err;
		run->strategy = s;
		run->same_digest = true;
		r->nr_runs++;
	}
	return 0;
}

int uhmm_replay_open(const char *path, const struct uhmm_replay_config *config,
		     struct uhmm_replay **out)
{
	struct uhmm_trace_options options = { .size = sizeof(options) };
	struct uhmm_replay *r;
	int err;

	if (!path || !out || (config && config->size != sizeof(*config)))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	if (config)
		r->config = *config;
	options.keep_going = r->config.keep_going;
	err = uhmm_trace_open(path, &options, &r->reader);
	if (!err)
		err = open_runs(r);
	if (!err) {
		uhmm_trace_position(r->reader, &r->position, &r->file_size);
		err = uhmm__trace_ahead_start(r->reader, &r->ahead);
	}
	if (err) {
		uhmm_replay_close(r);
		return err;
	}
	*out = r;
	return 0;
}

void uhmm_replay_close(struct uhmm_replay *replay)
{
	if (!replay)
		return;
	uhmm__trace_ahead_stop(replay->ahead);
	for (unsigned int i = 0; i < replay->nr_runs; i++)
		uhmm_player_destroy(replay->runs[i].player);
	uhmm_trace_close(replay->reader);
	free(replay);
}

/* ---- playing ---- */

/* Events of the batch up to number @to. */
static int play(struct uhmm_replay *r, size_t to)
{
	const struct trace_batch *b = r->batch;
	size_t from = r->pos;

	if (from == to)
		return 0;
	r->pos = to;
	r->line = b->lines[to - 1];
	for (unsigned int i = 0; i < r->nr_runs; i++) {
		uint64_t start = now_ns();
		int err = uhmm__player_run(r->runs[i].player, &b->caps, b->events + from, to - from,
					   b->nr - from);

		r->runs[i].host_ns += now_ns() - start;
		if (err)
			return err;
	}
	return 0;
}

static int verify(struct uhmm_replay *r)
{
	for (unsigned int i = 0; i < r->nr_runs; i++) {
		int found = uhmm_machine_verify(r->runs[i].player->machine);

		if (found < 0)
			return found;
		r->runs[i].violations += found;
	}
	return 0;
}

struct pair {
	const struct uhmm_player *a, *b;
};

static bool apart(void *data, uhmm_vaddr_t addr)
{
	const struct pair *pair = data;

	return uhmm__player_apart(pair->a, pair->b, addr);
}

/*
 * With limited device memory it depends on the strategy which pages are on the device, and where huge
 * pages may be, what a fault maps around its page; what the processes read does not. Nor does it with
 * granules of several pages, where a device fault that only one strategy takes moves the neighbours of
 * its page.
 */
static int compare(struct uhmm_replay *r)
{
	enum uhmm_compare what = r->config.player.device_bytes ? UHMM_COMPARE_CONTENTS
							       : UHMM_COMPARE_STATE_BUT_UNTOUCHED;
	struct uhmm_player *first = r->runs[0].player;
	int64_t found;

	for (unsigned int i = 1; i < r->nr_runs; i++) {
		struct uhmm_replay_run *run = &r->runs[i];

		struct pair pair = { first, run->player };

		found = uhmm__machine_compare(first->machine, run->player->machine, what, apart,
					      &pair, &run->apart, r->config.difference,
					      r->config.difference_data);
		if (found < 0)
			return (int)found;
		run->differing += found;
		run->same_digest = run->player->digest == first->digest;
	}
	return 0;
}

static int check_machines(struct uhmm_replay *r)
{
	int err = r->nr_runs > 1 ? compare(r) : 0;

	return err ? err : verify(r);
}

/* Before an address space ends. */
static int check_before_end(struct uhmm_replay *r)
{
	if (r->config.verify)
		return check_machines(r);
	return r->nr_runs > 1 ? compare(r) : 0;
}

static const struct trace_batch *batch_get(struct uhmm_replay *r)
{
	if (!r->batch) {
		r->batch = uhmm__trace_ahead_get(r->ahead);
		r->pos = 0;
	}
	return r->batch;
}

/* The batch was played. 1, 0 at the end of the trace, or the error that follows the batch. */
static int batch_put(struct uhmm_replay *r)
{
	int status = r->batch->status;

	r->position = r->batch->position;
	if (status) {
		/* What follows an error is the error again. */
		if (status > 0) {
			r->batch = NULL;
			uhmm__trace_ahead_put(r->ahead);
		}
		return status;
	}
	r->read_all = true;
	return 0;
}

int uhmm_replay_step(struct uhmm_replay *replay)
{
	struct uhmm_replay *r = replay;
	int err;

	if (r->ended)
		return 0;
	if (!r->read_all) {
		const struct trace_batch *b = batch_get(r);

		if (b->nr > r->pos && b->events[b->nr - 1].kind == UHMM_TRACE_MM_DEL) {
			err = play(r, b->nr - 1);
			if (!err)
				err = check_before_end(r);
			if (err)
				return err;
		}
		err = play(r, b->nr);
		if (!err)
			err = batch_put(r);
		if (err)
			return err;
	}
	r->ended = true;
	return check_machines(r);
}

int uhmm_replay_until(struct uhmm_replay *replay, uint64_t line)
{
	struct uhmm_replay *r = replay;

	while (!r->read_all) {
		const struct trace_batch *b = batch_get(r);
		size_t to = r->pos;
		int err;

		while (to < b->nr && b->lines[to] <= line)
			to++;
		err = play(r, to);
		if (err || to < b->nr)
			return err;
		err = batch_put(r);
		if (err < 0)
			return err;
	}
	return 0;
}

void uhmm_replay_position(const struct uhmm_replay *replay, uint64_t *done, uint64_t *size)
{
	*done = replay->position;
	*size = replay->file_size;
}

const struct uhmm_trace_reader *uhmm_replay_reader(const struct uhmm_replay *replay)
{
	return replay->reader;
}

uint64_t uhmm_replay_line(const struct uhmm_replay *replay)
{
	return replay->line;
}

unsigned int uhmm_replay_nr_runs(const struct uhmm_replay *replay)
{
	return replay->nr_runs;
}

const struct uhmm_replay_run *uhmm_replay_get_run(const struct uhmm_replay *replay, unsigned int i)
{
	return i < replay->nr_runs ? &replay->runs[i] : NULL;
}
