// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * progress.c - how far a long run is, and how long it will take.
 */
#include <time.h>
#include <unistd.h>

#include "tool.h"

#define TERMINAL_EVERY 0.2
#define LINES_EVERY 5.0

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void tool_progress_start(struct tool_progress *p, const char *name, bool always)
{
	p->terminal = isatty(STDERR_FILENO);
	p->on = always || p->terminal;
	p->name = name;
	p->unit = NULL;
	p->start = p->last = now();
}

void tool_progress(struct tool_progress *p, double done, uint64_t events)
{
	char count[TOOL_NUMBER], spent[TOOL_NUMBER], left[TOOL_NUMBER];
	double t, at;

	if (!p->on)
		return;
	at = now();
	if (at - p->last < (p->terminal ? TERMINAL_EVERY : LINES_EVERY))
		return;
	p->last = at;
	t = at - p->start;
	fprintf(stderr, "%s%s: %s %s, ", p->terminal ? "\r" : "", p->name,
		tool_fmt_count(count, events), p->unit ? p->unit : "events");
	if (!p->unit)
		fprintf(stderr, "%.1f M/s, ", (double)events / t / 1e6);
	fputs(tool_fmt_seconds(spent, t), stderr);
	if (done > 0)
		fprintf(stderr, ", %.1f %%, about %s left", 100 * done,
			tool_fmt_seconds(left, t * (1 - done) / done));
	fputs(p->terminal ? "\033[K" : "\n", stderr);
	fflush(stderr);
}

void tool_progress_end(const struct tool_progress *p)
{
	if (p->on && p->terminal && p->last > p->start)
		fputs("\r\033[K", stderr);
}
