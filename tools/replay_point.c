// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * replay_point.c - a trace replayed up to a line.
 */
#include <stdlib.h>
#include <string.h>

#include <uhmm/replay.h>

#include "replay.h"
#include "tool.h"

struct replay_point {
	struct uhmm_replay *replay;
	struct uhmm_player *player;
};

int replay_until(const char *path, uint64_t line, struct replay_point **out)
{
	struct uhmm_replay_config config = { .size = sizeof(config) };
	struct replay_point *point = tool_xalloc(1, sizeof(*point));
	int err;

	err = uhmm_replay_open(path, &config, &point->replay);
	if (err) {
		free(point);
		return tool_error("%s: %s", path, strerror(-err));
	}
	err = uhmm_replay_until(point->replay, line ? line : UINT64_MAX);
	if (err) {
		const char *why = uhmm_trace_error(uhmm_replay_reader(point->replay));

		if (why)
			tool_error("%s", why);
		else
			tool_error("%s: %s", path, strerror(-err));
		uhmm_replay_close(point->replay);
		free(point);
		return TOOL_USAGE;
	}
	point->player = uhmm_replay_get_run(point->replay, 0)->player;
	uhmm_player_enter(point->player);
	*out = point;
	return TOOL_OK;
}

struct uhmm_machine *replay_point_machine(struct replay_point *point)
{
	return uhmm_player_machine(point->player);
}

uint32_t replay_point_nr_mms(const struct replay_point *point)
{
	return uhmm_player_nr_mms(point->player);
}

struct uhmm_mm *replay_point_mm(struct replay_point *point, uint32_t n)
{
	return uhmm_player_mm(point->player, n);
}

uint64_t replay_point_lines(const struct replay_point *point)
{
	return uhmm_trace_stats(uhmm_replay_reader(point->replay))->lines;
}

void replay_point_free(struct replay_point *point)
{
	if (!point)
		return;
	uhmm_player_leave(point->player);
	uhmm_replay_close(point->replay);
	free(point);
}
