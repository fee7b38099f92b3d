/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * replay_report.h - what a replay came to, as a table and as JSON.
 */
#ifndef UHMM_TOOLS_REPLAY_REPORT_H
#define UHMM_TOOLS_REPLAY_REPORT_H

#include <uhmm/costs.h>
#include <uhmm/replay.h>

#include <jansson.h>
#include <stdio.h>

/* A trace that was replayed to its end. */
struct replay_result {
	const char *trace;
	const char *offload, *thp; /* as on the command line */
	uint64_t granularity, device_bytes, seed;
	unsigned int nr_cpus;
	const struct uhmm_costs *costs;
	const struct uhmm_replay *replay;
	unsigned int nr_runs;
	struct replay_column {
		const struct uhmm_replay_run *run;
		struct uhmm_counters counters;
		struct uhmm_modelled modelled;
		uint64_t reports; /* of the machine's checkers */
	} column[UHMM_NR_STRATEGIES];
};

/** replay_result_init() - read everything off @replay. */
void replay_result_init(struct replay_result *r, const struct uhmm_replay *replay,
			const struct uhmm_costs *costs);

/** replay_result_same() - whether every strategy ended in the same state and read the same. */
bool replay_result_same(const struct replay_result *r);

/** replay_result_clean() - whether verifier and checkers found nothing. */
bool replay_result_clean(const struct replay_result *r);

/** replay_print() - the table. */
void replay_print(const struct replay_result *r, FILE *f);

/** replay_json() - the object; the caller owns it. NULL: no memory. */
json_t *replay_json(const struct replay_result *r);

/* Walk over the reasons for which pages do not migrate: counter and name. */
struct replay_named_counter {
	enum uhmm_counter counter;
	const char *name, *text;
};
extern const struct replay_named_counter replay_faults[], replay_failures[], replay_reads[];

/** replay_walks_a_range() - walks of the fault service for each range that it served. */
double replay_walks_a_range(const struct replay_column *c);

/** replay_copied_bytes() - bytes of all page copies. */
uint64_t replay_copied_bytes(const struct uhmm_counters *c);

#endif /* UHMM_TOOLS_REPLAY_REPORT_H */
