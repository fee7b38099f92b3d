/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace_ahead.h - a trace read ahead of its user, by a thread of its own, in batches.
 *
 * How a trace is cut into batches depends on its events alone, not on the format nor on who is faster.
 */
#ifndef UHMM_REPLAY_TRACE_AHEAD_H
#define UHMM_REPLAY_TRACE_AHEAD_H

#include "replay/trace_internal.h"

#define TRACE_BATCH 1024

struct trace_batch {
	struct uhmm_trace_caps caps; /* hold for all of the events */
	int status;	   /* behind the events: 1 there may be more, 0 the end, or an error */
	uint64_t position; /* bytes of the file read by then */
	size_t nr;
	/* FAULT and FAULT_MAJOR, which says more of it, are in one batch; MM_DEL ends one. */
	struct uhmm_trace_event events[TRACE_BATCH + 1]; /* without their strings */
	uint64_t lines[TRACE_BATCH + 1];
};

struct trace_ahead;

/*
 * Begin to read. The reader is the thread's until uhmm__trace_ahead_stop(), or until a batch has a
 * status other than 1. Without a thread to be had, batches are read when they are asked for.
 * 0 or -ENOMEM.
 */
int uhmm__trace_ahead_start(struct uhmm_trace_reader *reader, struct trace_ahead **out);
/* The next batch, until uhmm__trace_ahead_put(). Not to be called behind the last one. */
const struct trace_batch *uhmm__trace_ahead_get(struct trace_ahead *a);
void uhmm__trace_ahead_put(struct trace_ahead *a);
/* NULL allowed. */
void uhmm__trace_ahead_stop(struct trace_ahead *a);

#endif /* UHMM_REPLAY_TRACE_AHEAD_H */
