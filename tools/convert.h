/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * convert.h - a trace into the native format, for the subcommands.
 */
#ifndef UHMM_TOOLS_CONVERT_H
#define UHMM_TOOLS_CONVERT_H

#include <stdbool.h>

#include <uhmm/trace_write.h>

struct convert_options {
	const char *in, *out;
	uint64_t repeat; /* so many times in a row, at least 1 */
	int level;	 /* what --level said */
	bool keep_going, progress;
	struct uhmm_trace_write_options write; /* all but its origin */
};

/**
 * convert_trace() - convert a trace
 * @o: what and how
 * @events: (out) how many were written
 * Returns: TOOL_OK; TOOL_DIFF after warnings of malformed lines; TOOL_USAGE after a message.
 */
int convert_trace(const struct convert_options *o, uint64_t *events);

#endif /* UHMM_TOOLS_CONVERT_H */
