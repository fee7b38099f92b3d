// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * replay.c - uhmm replay: traces through the migration strategies.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replay_report.h"
#include "tool.h"

struct options {
	unsigned int strategies;
	struct uhmm_offload offload;
	const char *offload_text;
	int32_t *tids;
	uint64_t granularity, device_bytes, seed;
	unsigned int nr_cpus;
	enum uhmm_thp thp;
	const char *costs_file, *json_file;
	bool check, keep_going, progress;
};

static void usage(FILE *f)
{
	fputs("usage: uhmm replay [OPTION...] TRACE...\n"
	      "\n"
	      "Replay recorded page faults (text of perf script, or what uhmm convert writes, zstd\n"
	      "or not, '-' for standard input) and report what they cost.\n"
	      "\n"
	      "  --strategy NAME       how the device's faults are served: fault-then-migrate,\n"
	      "                        migrate-fault-migrate, combined (default) or all\n"
	      "  --offload WHICH       data accesses to anonymous memory that the device makes:\n"
	      "                        none (default), all, share=0..1, tid=N,.. or range=HEX-HEX\n"
	      "  --granularity SIZE    served around each device fault: 4k (default), 64k or 2m\n"
	      "  --device-memory SIZE  memory of the device (default: unlimited)\n"
	      "  --cpus N              simulated CPUs (default 2)\n"
	      "  --thp WHEN            where faults map huge pages: madvise (default), always, never\n"
	      "  --costs FILE          cost table (default: built-in)\n"
	      "  --json FILE           also write JSON; '-' writes it to standard output alone\n"
	      "  --seed N              seed of random choices (default 0)\n"
	      "  --check               run the checked variant, verify often\n"
	      "  --keep-going          skip malformed lines and count them\n"
	      "  --progress            show progress on standard error, terminal or not\n"
	      "  --help\n"
	      "\n"
	      "Sizes take K, M and G. Exit status: 0 done, 1 strategies ended in different states\n"
	      "or a checker found something, 2 wrong usage or bad input.\n",
	      f);
}

/* ---- options ---- */

static bool parse_strategy(const char *text, unsigned int *out)
{
	const char *names[UHMM_NR_STRATEGIES + 2] = { NULL };
	int i;

	for (i = 0; i < UHMM_NR_STRATEGIES; i++)
		names[i] = uhmm_strategy_name(i);
	names[i] = "all";
	i = tool_parse_choice("--strategy", text, names);
	if (i < 0)
		return false;
	*out = i == UHMM_NR_STRATEGIES ? (1u << UHMM_NR_STRATEGIES) - 1 : 1u << i;
	return true;
}

static bool parse_tids(struct options *o, const char *text)
{
	char *copy = tool_xstrdup(text), *save = NULL, *word = strtok_r(copy, ",", &save);
	bool ok = word != NULL;
	uint64_t tid;

	if (!ok)
		tool_usage_error("--offload: tid= needs thread ids");
	for (; ok && word; word = strtok_r(NULL, ",", &save)) {
		ok = tool_parse_u64("--offload tid=", word, 0, INT32_MAX, &tid);
		if (!ok)
			break;
		o->tids = tool_xgrow(o->tids, o->offload.nr_tids + 1, sizeof(*o->tids));
		o->tids[o->offload.nr_tids++] = (int32_t)tid;
	}
	free(copy);
	o->offload.kind = UHMM_OFFLOAD_TASKS;
	o->offload.tids = o->tids;
	return ok;
}

static bool parse_range(struct options *o, const char *text)
{
	char *copy = tool_xstrdup(text), *dash = strchr(copy, '-');
	bool ok;

	if (dash)
		*dash = '\0';
	ok = dash && tool_parse_hex("--offload range=", copy, &o->offload.start) &&
	     tool_parse_hex("--offload range=", dash + 1, &o->offload.end);
	if (!dash || (ok && o->offload.start >= o->offload.end)) {
		tool_usage_error("--offload: '%s' is not a range, START-END in hexadecimal", text);
		ok = false;
	}
	free(copy);
	o->offload.kind = UHMM_OFFLOAD_RANGE;
	return ok;
}

static bool parse_offload(struct options *o, const char *text)
{
	free(o->tids);
	o->tids = NULL;
	o->offload = (struct uhmm_offload){ .kind = UHMM_OFFLOAD_NONE };
	o->offload_text = text;
	if (!strcmp(text, "none"))
		return true;
	if (!strcmp(text, "all")) {
		o->offload.kind = UHMM_OFFLOAD_ALL;
		return true;
	}
	if (!strncmp(text, "share=", 6)) {
		o->offload.kind = UHMM_OFFLOAD_SHARE;
		return tool_parse_double("--offload share=", text + 6, 0, 1, &o->offload.share);
	}
	if (!strncmp(text, "tid=", 4))
		return parse_tids(o, text + 4);
	if (!strncmp(text, "range=", 6))
		return parse_range(o, text + 6);
	tool_usage_error("--offload: '%s' is none of none, all, share=0..1, tid=N,.., "
			 "range=HEX-HEX",
			 text);
	return false;
}

static bool parse_granularity(const char *text, uint64_t *out)
{
	static const char *const names[] = { "4k", "64k", "2m", "4K", "64K", "2M", NULL };
	static const uint64_t sizes[] = { 4 << 10, 64 << 10, 2 << 20 };
	int i = tool_parse_choice("--granularity", text, names);

	if (i < 0)
		return false;
	*out = sizes[i % 3];
	return true;
}

static const char *const thp_names[] = {
	[UHMM_THP_MADVISE] = "madvise",
	[UHMM_THP_ALWAYS] = "always",
	[UHMM_THP_NEVER] = "never",
	NULL,
};

static bool parse_thp(const char *text, enum uhmm_thp *out)
{
	int i = tool_parse_choice("--thp", text, thp_names);

	if (i < 0)
		return false;
	*out = (enum uhmm_thp)i;
	return true;
}

enum {
	OPT_STRATEGY = 256,
	OPT_OFFLOAD,
	OPT_GRANULARITY,
	OPT_DEVICE_MEMORY,
	OPT_CPUS,
	OPT_THP,
	OPT_COSTS,
	OPT_JSON,
	OPT_SEED,
	OPT_CHECK,
	OPT_KEEP_GOING,
	OPT_PROGRESS,
	OPT_HELP
};

static bool parse_option(struct options *o, int c, const char *arg)
{
	uint64_t n;

	switch (c) {
	case OPT_STRATEGY:
		return parse_strategy(arg, &o->strategies);
	case OPT_OFFLOAD:
		return parse_offload(o, arg);
	case OPT_GRANULARITY:
		return parse_granularity(arg, &o->granularity);
	case OPT_DEVICE_MEMORY:
		if (!tool_parse_size("--device-memory", arg, &o->device_bytes))
			return false;
		if (o->device_bytes >= UHMM_PAGE_SIZE)
			return true;
		tool_usage_error("--device-memory: at least one page, 4K");
		return false;
	case OPT_CPUS:
		if (!tool_parse_u64("--cpus", arg, 1, UHMM_MAX_CPUS, &n))
			return false;
		o->nr_cpus = (unsigned int)n;
		return true;
	case OPT_THP:
		return parse_thp(arg, &o->thp);
	case OPT_COSTS:
		o->costs_file = arg;
		return true;
	case OPT_JSON:
		o->json_file = arg;
		return true;
	case OPT_SEED:
		return tool_parse_u64("--seed", arg, 0, INT64_MAX, &o->seed); /* fit for JSON */
	case OPT_CHECK:
		return o->check = true;
	case OPT_PROGRESS:
		return o->progress = true;
	default:
		return o->keep_going = true;
	}
}

/* -1: go on, else the exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "strategy", required_argument, NULL, OPT_STRATEGY },
		{ "offload", required_argument, NULL, OPT_OFFLOAD },
		{ "granularity", required_argument, NULL, OPT_GRANULARITY },
		{ "device-memory", required_argument, NULL, OPT_DEVICE_MEMORY },
		{ "cpus", required_argument, NULL, OPT_CPUS },
		{ "thp", required_argument, NULL, OPT_THP },
		{ "costs", required_argument, NULL, OPT_COSTS },
		{ "json", required_argument, NULL, OPT_JSON },
		{ "seed", required_argument, NULL, OPT_SEED },
		{ "check", no_argument, NULL, OPT_CHECK },
		{ "keep-going", no_argument, NULL, OPT_KEEP_GOING },
		{ "progress", no_argument, NULL, OPT_PROGRESS },
		{ "help", no_argument, NULL, OPT_HELP },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		if (c == OPT_HELP || c == 'h') {
			usage(stdout);
			return TOOL_OK;
		}
		if (c == '?')
			return tool_try_help();
		if (!parse_option(o, c, optarg))
			return TOOL_USAGE;
	}
	if (optind == argc)
		return tool_usage_error("no trace given");
	return -1;
}

/* ---- running ---- */

static void show_progress(struct tool_progress *p, const struct uhmm_replay *replay)
{
	uint64_t done, size;

	uhmm_replay_position(replay, &done, &size);
	tool_progress(p, size ? (double)done / (double)size : 0,
		      uhmm_player_count(uhmm_replay_get_run(replay, 0)->player,
					UHMM_REPLAY_EVENTS));
}

/* Reports of checkers, and differences; enough to see what is wrong. */
struct messages {
	unsigned int nr;
};

enum { MAX_MESSAGES = 20 };

static void on_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	static const char *const kinds[] = {
		[UHMM_REPORT_BUG] = "bug",	[UHMM_REPORT_VERIFY] = "verifier",
		[UHMM_REPORT_LOCK] = "lock",	[UHMM_REPORT_TLB] = "TLB",
		[UHMM_REPORT_WARN] = "warning", [UHMM_REPORT_FREED] = "freed memory",
	};
	struct messages *m = data;

	if (m->nr++ < MAX_MESSAGES || kind == UHMM_REPORT_BUG)
		tool_error("%s: %s", kinds[kind], text);
}

static void on_difference(void *data, const char *line)
{
	struct messages *m = data;

	if (m->nr++ < MAX_MESSAGES)
		tool_error("difference: %s", line);
}

static int trace_failed(const char *trace, const struct uhmm_replay *replay, int err)
{
	const char *why = uhmm_trace_error(uhmm_replay_reader(replay));

	if (why)
		return tool_error("%s", why);
	return tool_error("%s:%llu: %s", trace, (unsigned long long)uhmm_replay_line(replay),
			  strerror(-err));
}

static int run_trace(const struct options *o, const char *trace, struct messages *messages,
		     struct uhmm_replay **out)
{
	struct tool_progress p;
	struct uhmm_replay_config config = {
		.size = sizeof(config),
		.strategies = o->strategies,
		.keep_going = o->keep_going,
		.verify = o->check,
		.difference = on_difference,
		.difference_data = messages,
		.player = {
			.size = sizeof(config.player),
			.offload = o->offload,
			.granularity = o->granularity,
			.device_bytes = o->device_bytes,
			.seed = o->seed,
			.nr_cpus = o->nr_cpus,
			.thp = o->thp,
			.report = on_report,
			.report_data = messages,
		},
	};
	struct uhmm_replay *replay;
	int err;

	tool_progress_start(&p, trace, o->progress);
	err = uhmm_replay_open(trace, &config, &replay);
	if (err)
		return tool_error("%s: %s", trace, strerror(-err));
	do {
		err = uhmm_replay_step(replay);
		show_progress(&p, replay);
	} while (err > 0);
	tool_progress_end(&p);
	if (err)
		err = trace_failed(trace, replay, err);
	if (err)
		uhmm_replay_close(replay);
	else
		*out = replay;
	return err;
}

/* Status of one trace; appends its object to @json unless that is NULL. */
static int replay_trace(const struct options *o, const char *trace, const struct uhmm_costs *costs,
			json_t *json, bool table)
{
	struct replay_result result = {
		.trace = trace,
		.offload = o->offload_text,
		.granularity = o->granularity,
		.device_bytes = o->device_bytes,
		.seed = o->seed,
		.nr_cpus = o->nr_cpus,
		.thp = thp_names[o->thp],
	};
	struct messages messages = { 0 };
	struct uhmm_replay *replay = NULL;
	int status = run_trace(o, trace, &messages, &replay);

	if (status)
		return status;
	replay_result_init(&result, replay, costs);
	if (table)
		replay_print(&result, stdout);
	if (!replay_result_same(&result) || !replay_result_clean(&result))
		status = TOOL_DIFF;
	if (json && json_array_append_new(json, replay_json(&result)))
		status = tool_error("out of memory");
	uhmm_replay_close(replay);
	return status;
}

static int write_json(const json_t *what, const char *file)
{
	bool to_stdout = !strcmp(file, "-");
	FILE *f = to_stdout ? stdout : fopen(file, "we");
	int status;

	if (!f)
		return tool_error("%s: cannot write: %s", file, strerror(errno));
	status = json_dumpf(what, f, JSON_INDENT(2)) && !ferror(f) ? tool_error("out of memory")
								   : TOOL_OK;
	fputc('\n', f);
	if (to_stdout) /* main() looks whether that could be written */
		return status;
	if (tool_finish_file(f, file))
		status = TOOL_USAGE;
	if (fclose(f) && !status)
		status = tool_error("%s: cannot write: %s", file, strerror(errno));
	return status;
}

static int load_costs(const char *file, struct uhmm_costs **out)
{
	char error[512] = "out of memory";
	int err = file ? uhmm_costs_load(file, out, error, sizeof(error)) : uhmm_costs_create(out);

	return err ? tool_error("%s", error) : TOOL_OK;
}

/* Better now than after hours of replay; and never over what is to be replayed. */
static int check_output(const char *file, char **traces, int nr)
{
	for (int i = 0; i < nr; i++)
		if (strcmp(traces[i], "-") && tool_same_file(file, traces[i]))
			return tool_usage_error("--json: %s is a trace to be replayed", file);
	return tool_check_writable(file, TOOL_JSON);
}

static int replay_all(const struct options *o, char **traces, int nr)
{
	bool table = !o->json_file || strcmp(o->json_file, "-") != 0;
	json_t *json = o->json_file ? json_array() : NULL;
	struct uhmm_costs *costs = NULL;
	int worst = load_costs(o->costs_file, &costs);

	if (worst == TOOL_OK && json && table)
		worst = check_output(o->json_file, traces, nr);
	for (int i = 0; i < nr && worst != TOOL_USAGE; i++) {
		int status;

		if (i && table)
			putchar('\n');
		status = replay_trace(o, traces[i], costs, json, table);
		worst = status > worst ? status : worst;
	}
	/* What was done before a trace that cannot be read is not lost. */
	if (json_array_size(json)) {
		int status = write_json(nr > 1 ? json : json_array_get(json, 0), o->json_file);

		worst = status > worst ? status : worst;
	}
	json_decref(json);
	uhmm_costs_destroy(costs);
	return worst;
}

int uhmm_cmd_replay(int argc, char **argv)
{
	struct options o = {
		.strategies = 1u << UHMM_COMBINED,
		.offload_text = "none",
		.granularity = UHMM_PAGE_SIZE,
		.nr_cpus = 2,
	};
	int status = parse_options(&o, argc, argv);

	if (status < 0 && o.check) {
		status = tool_exec_checked();
		status = status ? status : -1;
	}
	if (status < 0)
		status = replay_all(&o, argv + optind, argc - optind);
	free(o.tids);
	return status;
}
