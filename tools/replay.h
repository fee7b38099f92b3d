/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * replay.h - a trace replayed up to a line, for other subcommands to look at.
 */
#ifndef UHMM_TOOLS_REPLAY_H
#define UHMM_TOOLS_REPLAY_H

#include <uhmm/mm.h>

struct replay_point;

/**
 * replay_until() - replay a trace, without a device, up to and including a line
 * @path: trace, "-" for standard input
 * @line: last line to replay, counted from 1; 0 = all of them
 * @out: (out) the machine as it is then
 * Errors of reading are printed, with file and line; nothing else is.
 * Context: no task of any machine entered on this thread. On success a task of the machine is
 * entered until replay_point_free().
 * Returns: TOOL_OK, or TOOL_USAGE after a message.
 */
int replay_until(const char *path, uint64_t line, struct replay_point **out);

/** replay_point_machine() - the machine. */
struct uhmm_machine *replay_point_machine(struct replay_point *point);

/** replay_point_nr_mms() - highest number of an address space so far. */
uint32_t replay_point_nr_mms(const struct replay_point *point);

/** replay_point_mm() - address space @n of the trace, counted from 1; NULL if it is gone. */
struct uhmm_mm *replay_point_mm(struct replay_point *point, uint32_t n);

/** replay_point_lines() - lines read so far, at most all of the trace; no less than was asked for
 * unless the trace has no more. */
uint64_t replay_point_lines(const struct replay_point *point);

/** replay_point_free() - leave the task and free everything; NULL allowed. */
void replay_point_free(struct replay_point *point);

#endif /* UHMM_TOOLS_REPLAY_H */
