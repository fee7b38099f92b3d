// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * explore.c - the subcommand that runs a scenario under many schedules.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <uhmm/uhmm.h>

#include "explore.h"
#include "tool.h"

enum { DEFAULT_SEED = 1, DEFAULT_RUNS = 10000, DEFAULT_BOUND = 2 };
enum { MAX_SCHEDULE = 4 << 20 }; /* bytes; a power of two times 4096 */

static const char usage[] =
	"usage: uhmm explore SCENARIO [OPTION...]\n"
	"       uhmm explore --list [--load FILE.so]...\n"
	"\n"
	"Runs a scenario under many schedules of its tasks on simulated CPUs and looks for\n"
	"deadlocks, livelocks, lost data and whatever a checker can find. A schedule that shows one\n"
	"is made short, printed, and saved as SCENARIO.schedule.\n"
	"\n"
	"  --list                  scenarios, switches and their values\n"
	"  --switch NAME=VALUE     an alternative of the model; may be given several times\n"
	"  --strategy STRATEGY     random, pct or dfs; default dfs\n"
	"  --switches-bound K      dfs: all schedules with up to K switches away from a task that\n"
	"                          could go on; pct: K changes of priority; default 2\n"
	"  --runs N                random, pct: schedules to try, default 10000; dfs: at most so\n"
	"                          many, default all\n"
	"  --max-steps N           choices after which a run that has not ended must be fair, which\n"
	"                          tells whether it will; default 100000, for dfs and pct at most 20\n"
	"                          times as many as without switches, and some\n"
	"  --seed N                of the first schedule, and of a scenario's random numbers;\n"
	"                          default 1\n"
	"  --schedule FILE         run this schedule and no other\n"
	"  --json FILE             write what was found as JSON, which Perfetto and\n"
	"                          chrome://tracing open as a trace; '-': to standard output, and\n"
	"                          nothing else there\n"
	"  --load FILE.so          take scenarios from a shared object; may be given several times\n"
	"  --workers N             processes; default one for each CPU of this machine\n"
	"  --progress              show progress on standard error, terminal or not\n"
	"  --no-reduction          dfs: go on from states that were reached before, too\n"
	"  -h, --help              print this\n"
	"\n"
	"The last line is 'VERDICT: ...', or 'no violation in N schedules'.\n"
	"Exit status: 0 done, 1 a violation, 2 wrong usage or bad input.\n";

/* ---- lists ---- */

static int list(void)
{
	struct tool_table *t = tool_table_new(2);

	tool_table_left(t, 1);
	puts("scenarios");
	for (unsigned int i = 0; uhmm_scenario_nth(i); i++) {
		tool_cell(t, "%s", uhmm_scenario_nth(i)->name);
		tool_cell(t, "%s", uhmm_scenario_nth(i)->summary);
	}
	tool_table_print(t, stdout, 2);
	tool_table_free(t);
	puts("\nswitches, the first value being the default");
	for (unsigned int i = 0; uhmm_switch(i); i++) {
		const struct uhmm_switch *s = uhmm_switch(i);

		printf("  %s=", s->name);
		for (unsigned int v = 0; s->values[v]; v++)
			printf("%s%s", v ? "|" : "", s->values[v]);
		printf("\n      %s\n", s->summary);
	}
	return TOOL_OK;
}

/* ---- options ---- */

static unsigned int nr_scenarios(void)
{
	unsigned int n = 0;

	while (uhmm_scenario_nth(n))
		n++;
	return n;
}

/* For good: its scenarios are in the list. */
static bool open_object(const char *name)
{
	const void *object = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	/* cppcheck-suppress resourceLeak ; it is never unloaded */
	return object;
}

static int load(struct explore_options *o, const char *path)
{
	unsigned int before = nr_scenarios();
	bool opened;
	char *name;

	if (o->nr_loaded == EXPLORE_MAX_LOADED)
		return tool_usage_error("--load: more than %d files", EXPLORE_MAX_LOADED);
	/* Without a slash dlopen() would search for it. */
	if (asprintf(&name, "%s%s", strchr(path, '/') ? "" : "./", path) < 0)
		return tool_error("out of memory");
	opened = open_object(name);
	free(name);
	if (!opened)
		return tool_error("--load: %s", dlerror());
	if (nr_scenarios() == before)
		return tool_error(
			"--load: %s: no scenario of it could be registered: is it built with this "
			"version's headers, and are its names new ones?",
			path);
	o->loaded[o->nr_loaded++] = path;
	return TOOL_OK;
}

static int set_switch(struct explore_options *o, char *arg)
{
	char *value = strchr(arg, '=');
	const char *const *values = NULL;
	unsigned int i;

	if (!value)
		return tool_usage_error("--switch: '%s' is not NAME=VALUE", arg);
	*value++ = '\0';
	for (i = 0; uhmm_switch(i); i++) {
		if (strcmp(uhmm_switch(i)->name, arg) != 0)
			continue;
		values = uhmm_switch(i)->values;
		break;
	}
	if (!values)
		return tool_usage_error("--switch: no switch is called '%s'; see --list", arg);
	if (tool_parse_choice(arg, value, values) < 0 || uhmm_switch_set(&o->machine, arg, value))
		return TOOL_USAGE;
	o->config.switches_set |= 1UL << i;
	return TOOL_OK;
}

/* @text: what was read, with a zero at the end. */
static int check_schedule(const char *path, const char *text, size_t len)
{
	unsigned int line = 1;

	if (len == MAX_SCHEDULE)
		return tool_error("%s: longer than %d bytes, which no schedule is", path,
				  MAX_SCHEDULE);
	if (strlen(text) == len)
		return TOOL_OK;
	for (const char *p = text; *p; p++)
		line += *p == '\n';
	return tool_error("%s: line %u: a zero byte: this is not a schedule, which is text", path,
			  line);
}

static char *read_schedule(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t len = 0;
	int status;

	if (!f) {
		tool_error("%s: %s", path, strerror(errno));
		return NULL;
	}
	/* Not more than there is of it: it may have no end. */
	for (size_t size = 4096, n = 1; n && len < MAX_SCHEDULE; size *= 2) {
		text = tool_xgrow(text, size + 1, 1);
		n = fread(text + len, 1, size - len, f);
		len += n;
	}
	text[len] = '\0';
	status = ferror(f) ? tool_error("%s: %s", path, strerror(errno))
			   : check_schedule(path, text, len);
	fclose(f);
	if (status == TOOL_OK)
		return text;
	free(text);
	return NULL;
}

enum {
	OPT_LIST = 256,
	OPT_SWITCH,
	OPT_STRATEGY,
	OPT_BOUND,
	OPT_RUNS,
	OPT_MAX_STEPS,
	OPT_SEED,
	OPT_SCHEDULE,
	OPT_JSON,
	OPT_LOAD,
	OPT_WORKERS,
	OPT_PROGRESS,
	OPT_NO_REDUCTION,
};

static const struct option longopts[] = {
	{ "list", no_argument, NULL, OPT_LIST },
	{ "switch", required_argument, NULL, OPT_SWITCH },
	{ "strategy", required_argument, NULL, OPT_STRATEGY },
	{ "switches-bound", required_argument, NULL, OPT_BOUND },
	{ "runs", required_argument, NULL, OPT_RUNS },
	{ "max-steps", required_argument, NULL, OPT_MAX_STEPS },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "schedule", required_argument, NULL, OPT_SCHEDULE },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "load", required_argument, NULL, OPT_LOAD },
	{ "workers", required_argument, NULL, OPT_WORKERS },
	{ "progress", no_argument, NULL, OPT_PROGRESS },
	{ "no-reduction", no_argument, NULL, OPT_NO_REDUCTION },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static int take_option(struct explore_options *o, int opt)
{
	static const char *const strategies[] = { "random", "pct", "dfs", NULL };
	struct uhmm_explore_config *c = &o->config;
	uint64_t n = 0;
	int i;

	switch (opt) {
	case OPT_LIST:
		o->list = true;
		return TOOL_OK;
	case OPT_SWITCH:
		return set_switch(o, optarg);
	case OPT_STRATEGY:
		i = tool_parse_choice("--strategy", optarg, strategies);
		if (i < 0)
			return TOOL_USAGE;
		c->strategy = (enum uhmm_explore_strategy)i;
		return TOOL_OK;
	case OPT_BOUND:
		if (!tool_parse_u64("--switches-bound", optarg, 0, 100, &n))
			return TOOL_USAGE;
		c->switches_bound = (unsigned int)n;
		return TOOL_OK;
	case OPT_RUNS:
		o->runs_given = true;
		return tool_parse_u64("--runs", optarg, 1, UINT64_MAX, &c->runs) ? TOOL_OK
										 : TOOL_USAGE;
	case OPT_MAX_STEPS:
		return tool_parse_u64("--max-steps", optarg, 1, UINT32_MAX, &c->max_steps)
			       ? TOOL_OK
			       : TOOL_USAGE;
	case OPT_SEED:
		return tool_parse_u64("--seed", optarg, 0, UINT64_MAX, &c->seed) ? TOOL_OK
										 : TOOL_USAGE;
	case OPT_SCHEDULE:
		o->schedule_path = optarg;
		return TOOL_OK;
	case OPT_JSON:
		o->json_path = optarg;
		return TOOL_OK;
	case OPT_LOAD:
		return load(o, optarg);
	case OPT_WORKERS:
		if (!tool_parse_u64("--workers", optarg, 1, 1024, &n))
			return TOOL_USAGE;
		c->workers = (unsigned int)n;
		return TOOL_OK;
	case OPT_PROGRESS:
		o->progress = true;
		return TOOL_OK;
	case OPT_NO_REDUCTION:
		c->no_reduction = true;
		return TOOL_OK;
	default:
		return tool_try_help();
	}
}

/* ---- exploring ---- */

static void print_counts(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	char n[TOOL_NUMBER];

	printf("%s schedules, ", tool_fmt_count(n, r->schedules));
	printf("%s steps, ", tool_fmt_count(n, r->steps));
	if (o->config.strategy == UHMM_EXPLORE_DFS && !o->config.schedule)
		printf("%s states, ", tool_fmt_count(n, r->states));
	printf("%.2f s\n", o->seconds);
	if (r->undecided)
		printf("%s of them were given up: too long, or no end and no state that came again\n",
		       tool_fmt_count(n, r->undecided));
}

static void print_last_line(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	if (r->verdict)
		printf("VERDICT: %s\n", uhmm_verdict_name(r->verdict));
	else if (r->complete)
		printf("no violation in %llu schedules, complete up to %u\n",
		       (unsigned long long)r->schedules, o->config.switches_bound);
	else
		printf("no violation in %llu schedules\n", (unsigned long long)r->schedules);
}

/* What to type to see it again. */
void explore_print_command(FILE *f, const struct explore_options *o,
			   const struct uhmm_explore_result *r)
{
	fprintf(f, "uhmm explore %s", o->config.scenario->name);
	for (unsigned int i = 0; i < o->nr_loaded; i++)
		fprintf(f, " --load %s", o->loaded[i]);
	for (unsigned int i = 0; uhmm_switch(i); i++)
		if (o->config.switches_set & 1UL << i)
			fprintf(f, " --switch %s=%s", uhmm_switch(i)->name,
				uhmm_switch_get(&o->machine, i));
	if (r->seed != DEFAULT_SEED)
		fprintf(f, " --seed %llu", (unsigned long long)r->seed);
	if (o->config.max_steps)
		fprintf(f, " --max-steps %llu", (unsigned long long)o->config.max_steps);
	fprintf(f, " --schedule %s.schedule", o->config.scenario->name);
}

/* Returns: false if there was no place for it, which has been told. */
static bool write_schedule(const struct explore_options *o, const struct uhmm_explore_result *r,
			   const char *name)
{
	FILE *f = fopen(name, "we");
	int status;

	if (!f) {
		tool_warn("%s: %s", name, strerror(errno));
		return false;
	}
	fprintf(f, "# ");
	explore_print_command(f, o, r);
	fprintf(f, "\n# VERDICT: %s\n%s\n", uhmm_verdict_name(r->verdict), r->schedule);
	status = tool_finish_file(f, name);
	fclose(f);
	return status == TOOL_OK;
}

/* What was found is not less so if it cannot be saved: then it is printed. */
static void save_schedule(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	char name[300];
	bool saved;

	snprintf(name, sizeof(name), "%s.schedule", o->config.scenario->name);
	saved = write_schedule(o, r, name);
	if (explore_json_only(o))
		return;
	if (!saved) {
		printf("the schedule, which could not be saved: %s\n", r->schedule);
		return;
	}
	printf("saved as %s; to see it again: ", name);
	explore_print_command(stdout, o, r);
	putchar('\n');
}

/* A worker has died: what it did is done again in one process. */
static void print_how_to_see(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	static const char *const strategies[] = { "random", "pct", "dfs" };
	bool dfs = o->config.strategy == UHMM_EXPLORE_DFS;

	fprintf(stderr,
		"to see it in one process, in a debugger perhaps: the same command with "
		"--workers 1 --strategy %s --seed %llu --runs %llu\n",
		strategies[o->config.strategy], (unsigned long long)r->seed,
		(unsigned long long)(dfs ? r->died_at : 1));
}

static int failed(const struct explore_options *o, int err, const struct uhmm_explore_result *r)
{
	bool of_file = o->schedule_path && (err == -EINVAL || err == -ESTALE);
	const char *file = of_file ? o->schedule_path : "";

	if (r && r->report)
		tool_error("%s%s%s", file, of_file ? ": " : "", r->report);
	else if (err == -ENOMEM)
		tool_error(
			"no memory: an exploration reserves some 50 GiB of address space, of which "
			"it uses little; does 'ulimit -v' allow for them?");
	else
		tool_error("%s", strerror(-err));
	if (err == -ECHILD && r)
		print_how_to_see(o, r);
	return TOOL_USAGE;
}

/* All but how many there were, for people. */
static void print_found(const struct uhmm_explore_result *r)
{
	char n[TOOL_NUMBER], m[TOOL_NUMBER];

	if (r->nr_steps)
		explore_print_columns(r);
	if (!r->verdict)
		return;
	printf("%s\n\n", r->report);
	if (r->nr_steps)
		printf("%s switches, %s steps\n", tool_fmt_count(n, r->nr_switches),
		       tool_fmt_count(m, r->nr_steps));
}

static int tell(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	int status = TOOL_OK;

	if (!explore_json_only(o))
		print_found(r);
	if (r->verdict && r->schedule && !o->schedule_path)
		save_schedule(o, r);
	if (o->json_path && explore_write_json(o, r) != TOOL_OK)
		status = TOOL_USAGE;
	if (!explore_json_only(o)) {
		print_counts(o, r);
		print_last_line(o, r);
	}
	return r->verdict && status == TOOL_OK ? TOOL_DIFF : status;
}

struct progress {
	struct tool_progress p;
	uint64_t runs; /* 0: it is not known how many there will be */
};

static void show_progress(void *data, uint64_t schedules)
{
	struct progress *p = data;

	tool_progress(&p->p, p->runs ? (double)schedules / (double)p->runs : 0, schedules);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static int explore(struct explore_options *o)
{
	struct uhmm_explore_result *r = NULL;
	struct progress progress = { .runs = o->config.runs };
	double begin = now();
	int err, status;

	tool_progress_start(&progress.p, o->config.scenario->name, o->progress);
	progress.p.unit = "schedules";
	o->config.progress = show_progress;
	o->config.progress_data = &progress;
	err = uhmm_explore(&o->config, &r);
	o->seconds = now() - begin;
	tool_progress_end(&progress.p);
	status = err ? failed(o, err, r) : tell(o, r);
	uhmm_explore_free(r);
	return status;
}

int uhmm_cmd_explore(int argc, char **argv)
{
	struct explore_options o = {
		.config = { .size = sizeof(o.config),
			    .strategy = UHMM_EXPLORE_DFS,
			    .switches_bound = DEFAULT_BOUND,
			    .seed = DEFAULT_SEED },
		.machine = { .size = sizeof(o.machine) },
	};
	int opt, status = TOOL_OK;

	/* Help and mistakes need no fibers. */
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs(usage, stdout);
			return TOOL_OK;
		}
	status = tool_exec_checked();
	while (status == TOOL_OK && (opt = getopt_long(argc, argv, "h", longopts, NULL)) != -1)
		status = take_option(&o, opt);
	if (status != TOOL_OK)
		return status;
	if (o.list)
		return list();
	if (optind == argc)
		return tool_usage_error("no SCENARIO given");
	if (optind + 1 < argc)
		return tool_usage_error("one SCENARIO at a time");
	o.config.scenario = uhmm_scenario_find(argv[optind]);
	if (!o.config.scenario)
		return tool_usage_error("no scenario is called '%s'; see --list", argv[optind]);
	o.config.machine = &o.machine;
	if (o.config.strategy != UHMM_EXPLORE_DFS && !o.runs_given)
		o.config.runs = DEFAULT_RUNS;
	if (o.json_path && strcmp(o.json_path, "-") != 0 &&
	    tool_check_writable(o.json_path, TOOL_JSON) != TOOL_OK)
		return TOOL_USAGE;
	if (o.schedule_path) {
		o.schedule = read_schedule(o.schedule_path);
		if (!o.schedule)
			return TOOL_USAGE;
		o.config.schedule = o.schedule;
	}
	status = explore(&o);
	free(o.schedule);
	return status;
}
