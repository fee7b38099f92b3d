/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* explore.h - the parts of `uhmm explore`. */
#ifndef UHMM_TOOL_EXPLORE_H
#define UHMM_TOOL_EXPLORE_H

#include <stdio.h>
#include <string.h>

#include <uhmm/uhmm.h>

enum { EXPLORE_MAX_LOADED = 64 };

struct explore_options {
	struct uhmm_explore_config config;
	struct uhmm_machine_config machine;
	bool list, runs_given, progress;
	double seconds; /* that it took */
	const char *schedule_path, *json_path;
	const char *loaded[EXPLORE_MAX_LOADED];
	unsigned int nr_loaded;
	char *schedule;
};

/* The run in r->trace: a column for each CPU. */
void explore_print_columns(const struct uhmm_explore_result *r);

/* JSON goes to standard output, which has nothing else then. */
static inline bool explore_json_only(const struct explore_options *o)
{
	return o->json_path && !strcmp(o->json_path, "-");
}

/* What to type to see what was found again. */
void explore_print_command(FILE *f, const struct explore_options *o,
			   const struct uhmm_explore_result *r);

/* To o->json_path. Returns: TOOL_OK, or TOOL_USAGE after a message. */
int explore_write_json(const struct explore_options *o, const struct uhmm_explore_result *r);

/*
 * The function of the protocol that a step is in, not the lock or accessor that it calls; where the
 * source line is known it goes to *file and *line, else *file is NULL. Returns: a name, or NULL.
 * Lifetime: until the program ends.
 */
const char *explore_function(const struct uhmm_explore_step *step, const char **file, int *line);

#endif /* UHMM_TOOL_EXPLORE_H */
