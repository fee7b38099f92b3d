// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench.c - the subcommand that measures the model against its budgets.
 */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>

#include "bench.h"
#include "tool.h"

static const char usage[] =
	"usage: uhmm bench [OPTION...]\n"
	"\n"
	"Measures the model against its budgets, several rounds of everything in turn, with the real\n"
	"kernel's faults and the machine's memory measured beside it. Figures are for an otherwise\n"
	"idle machine and a release build. Two threads are measured while two CPUs are free; each round\n"
	"waits for that for up to 10 seconds.\n"
	"\n"
	"  --only NAME   measure this alone; may be given several times. NAME is one of kernel,\n"
	"                floor, limits, fault, random, walk, combined, huge, present, memory, threads,\n"
	"                player, sched\n"
	"  --quick       smaller, and fewer rounds: for a first look\n"
	"  --rounds N    rounds, 1 to 31; default 9, quick 3\n"
	"  --trace FILE  a trace for the player\n"
	"  --json FILE   also write what was measured as JSON; '-': to standard output, and no table\n"
	"  --compare FILE  tell what changed since a run that was written with --json\n"
	"  -h, --help    print this\n"
	"\n"
	"In place of all that:\n"
	"  --memory      bytes for each page, page table, VMA and mm, by kind\n"
	"  --populate N  a machine with N bytes of RAM (1T ..) populated with 4 KiB pages, walked and\n"
	"                unmapped: time and memory\n"
	"  --claims      what the posted series says of itself: cycles of a walk, and throughput of\n"
	"                the kernel's benchmark of migration with and without the combined walk\n"
	"  --growth      each cost against the size of the work: pages, VMAs, processes, devices\n"
	"  --svg FILE    with --growth: a plot as well\n"
	"\n"
	"Exit status: 0 done, 1 something is over its budget or became slower, 2 wrong usage or a\n"
	"failure.\n";

const struct bench_figure bench_figures[BENCH_NR_FIGURES] = {
	[BENCH_FAULT_FRESH] = { .group = "CPU faults, 4 KiB anonymous pages, tags",
				.name = "fault_sequential",
				.text = "write fault, sequential, fresh machine",
				.unit = "ns",
				.limit_bytes = 48,
				.budget = 60,
				.beside = BENCH_KERNEL_FAULT },
	[BENCH_FAULT_REUSED] = { .name = "fault_sequential_reused",
				 .text = "write fault, sequential, memory used before",
				 .unit = "ns",
				 .limit_bytes = 48,
				 .budget = 60,
				 .beside = BENCH_KERNEL_FAULT },
	[BENCH_UNMAP] = { .name = "unmap",
			  .text = "unmap (MADV_DONTNEED), per page",
			  .unit = "ns",
			  .beside = BENCH_KERNEL_UNMAP },
	[BENCH_FAULT_RANDOM] = { .name = "fault_random",
				 .text = "write fault, random order over 4 GiB, fresh machine",
				 .unit = "ns",
				 .limit_figure = BENCH_READ_HUGE,
				 .budget = 300,
				 .beside = BENCH_KERNEL_FAULT },
	[BENCH_WALK] = { .group = "Walks and migration, 512 pages a call",
			 .name = "range_fault_present",
			 .text = "hmm_range_fault, present pages, no request, per page",
			 .unit = "ns",
			 .limit_bytes = 16,
			 .budget = 4 },
	[BENCH_WALK_FAULT] = { .name = "range_fault_present_req",
			       .text = "hmm_range_fault, present pages, REQ_FAULT, per page",
			       .unit = "ns",
			       .limit_bytes = 16,
			       .budget = 4 },
	[BENCH_COMBINED_WRITE] = { .name = "combined_untouched",
				   .text = "combined, untouched, write, per page",
				   .unit = "ns",
				   .limit_bytes = 88,
				   .budget = 150 },
	[BENCH_COMBINED_READ] = { .name = "combined_untouched_read",
				  .text = "combined, untouched, read, per page",
				  .unit = "ns",
				  .limit_bytes = 88,
				  .budget = 150 },
	[BENCH_TO_RAM] = { .name = "to_ram",
			   .text = "device to RAM by CPU faults, per page",
			   .unit = "ns",
			   .limit_bytes = 128,
			   .budget = 200 },
	[BENCH_HUGE_COMBINED] = { .name = "huge_untouched",
				  .text = "combined, untouched, huge pages, per 4 KiB",
				  .unit = "ns" },
	[BENCH_HUGE_TO_RAM] = { .name = "huge_to_ram",
				.text = "huge pages to RAM by CPU faults, per 4 KiB",
				.unit = "ns" },
	[BENCH_PRESENT_FRESH_SEPARATE] = { .name = "present_fresh_fault_then_migrate",
					   .text = "fault-then-migrate, present, fresh machine, per page",
					   .unit = "ns" },
	[BENCH_PRESENT_FRESH_COMBINED] = { .name = "present_fresh_combined",
					   .text = "combined, present, fresh machine, per page",
					   .unit = "ns" },
	[BENCH_PRESENT_FRESH_RATIO] = { .name = "present_fresh_ratio",
					.text = "combined / fault-then-migrate, present, fresh machine",
					.unit = "x" },
	[BENCH_PRESENT_SEPARATE] = { .name = "present_fault_then_migrate",
				     .text = "... fault-then-migrate, memory used before",
				     .unit = "ns" },
	[BENCH_PRESENT_COMBINED] = { .name = "present_combined",
				     .text = "... combined, memory used before",
				     .unit = "ns" },
	[BENCH_PRESENT_RATIO] = { .name = "present_ratio",
				  .text = "... combined / fault-then-migrate, memory used before",
				  .unit = "x",
				  .budget = 0.75 },
	[BENCH_PRESENT16_SEPARATE] = { .name = "present16_fault_then_migrate",
				       .text = "... fault-then-migrate, 16 a call",
				       .unit = "ns" },
	[BENCH_PRESENT16_COMBINED] = { .name = "present16_combined",
				       .text = "... combined, 16 a call",
				       .unit = "ns" },
	[BENCH_PRESENT16_RATIO] = { .name = "present16_ratio",
				    .text = "... combined / fault-then-migrate, 16 a call",
				    .unit = "x",
				    .budget = 0.75 },
	[BENCH_PRESENT1_SEPARATE] = { .name = "present1_fault_then_migrate",
				      .text = "... fault-then-migrate, 1 a call",
				      .unit = "ns" },
	[BENCH_PRESENT1_COMBINED] = { .name = "present1_combined",
				      .text = "... combined, 1 a call",
				      .unit = "ns" },
	[BENCH_PRESENT1_RATIO] = { .name = "present1_ratio",
				   .text = "... combined / fault-then-migrate, 1 a call",
				   .unit = "x" },
	[BENCH_MEMORY] = { .group = "Memory, 1,048,576 populated pages",
			   .name = "memory_per_page",
			   .text = "all metadata, tags included, per page",
			   .unit = "bytes",
			   .budget = 50 },
	[BENCH_MEMORY_ERROR] = { .name = "memory_error",
				 .text = "off from the growth of the resident size by",
				 .unit = "%",
				 .budget = 5 },
	[BENCH_THREADS_FRESH] = { .group =
					  "Two threads against one, faulting in one mm unless said",
				  .name = "two_threads",
				  .text = "two threads / one, fresh machine",
				  .unit = "x",
				  .limit_figure = BENCH_THREADS_APART_FRESH,
				  .budget = 1.8,
				  .at_least = true },
	[BENCH_THREADS_REUSED] = { .name = "two_threads_reused",
				   .text = "two threads / one, memory used before",
				   .unit = "x",
				   .limit_figure = BENCH_THREADS_APART,
				   .budget = 1.8,
				   .at_least = true },
	[BENCH_THREADS_VMAS] = { .name = "two_threads_two_vmas",
				 .text = "... each in a VMA of its own",
				 .unit = "x",
				 .limit_figure = BENCH_THREADS_APART },
	[BENCH_THREADS_MMS] = { .name = "two_threads_two_mms",
				.text = "... each in an mm of its own",
				.unit = "x",
				.limit_figure = BENCH_THREADS_APART },
	[BENCH_THREADS_TABLE] = { .name = "two_threads_one_table",
				  .text = "... every other page, in the same page tables",
				  .unit = "x",
				  .limit_figure = BENCH_THREADS_APART },
	[BENCH_THREADS_PAGE] = { .name = "two_threads_one_page",
				 .text = "... both write one page that is present",
				 .unit = "x" },
	[BENCH_THREADS_FOLIO] = { .name = "two_threads_one_folio",
				  .text = "... both read the same pages home from the device",
				  .unit = "x" },
	[BENCH_THREADS_APART_FRESH] = { .name = "two_threads_apart",
					.text = "two threads that share no machine / one, fresh machine",
					.unit = "x" },
	[BENCH_THREADS_APART] = { .name = "two_threads_apart_reused",
				  .text = "two threads that share no machine / one, memory used before",
				  .unit = "x" },
	[BENCH_PLAYER_BINARY] = { .group = "Player and scheduler",
				  .name = "player_binary",
				  .text = "player, binary format",
				  .unit = "M events/s",
				  .budget = 10,
				  .at_least = true },
	[BENCH_PLAYER_BINARY_READ] = { .name = "player_binary_read",
				       .text = "player, binary format: read alone",
				       .unit = "M events/s" },
	[BENCH_PLAYER_TEXT] = { .name = "player_text",
				.text = "player, the trace as it is given: read and play",
				.unit = "M events/s" },
	[BENCH_PLAYER_PLAY] = { .name = "player_text_play",
				.text = "player, the trace as it is given: play alone",
				.unit = "M events/s" },
	[BENCH_SCHED] = { .name = "sched",
			  .text = "simulated scheduler, nothing between switch points",
			  .unit = "M points/s",
			  .budget = 5,
			  .at_least = true,
			  .checked = true },
	[BENCH_SCHED_FAULTS] = { .name = "sched_faults",
				 .text = "simulated scheduler, two tasks that fault",
				 .unit = "M points/s" },
	[BENCH_RUN_AGAIN] = { .name = "run_again",
			      .text = "a run of the explorer: put back, two tasks write a page, verified",
			      .unit = "us" },
	[BENCH_RUN_ANEW] = { .name = "run_anew",
			     .text = "the same with a machine built for it",
			     .unit = "us" },
	[BENCH_CHECKERS] = { .name = "checkers",
			     .text = "cost of checkers compiled out",
			     .unit = "ns",
			     .note = "0: the plain library has no code for them" },
	[BENCH_KERNEL_FAULT] = { .group = "This machine",
				 .name = "kernel_fault",
				 .text = "real kernel, minor fault of a 4 KiB page",
				 .unit = "ns" },
	[BENCH_KERNEL_UNMAP] = { .name = "kernel_unmap",
				 .text = "real kernel, munmap, per page",
				 .unit = "ns" },
	[BENCH_FLOOR_FRESH] = { .name = "floor_sequential",
				.text = "radix tree alone, entry for each page, in order",
				.unit = "ns" },
	[BENCH_FLOOR_REUSED] = { .name = "floor_sequential_reused",
				 .text = "... memory used before",
				 .unit = "ns" },
	[BENCH_FLOOR_RANDOM] = { .name = "floor_random",
				 .text = "... random order over 4 GiB",
				 .unit = "ns" },
	[BENCH_FLOOR_WALK] = { .name = "floor_walk",
			       .text = "... looked through, per page",
			       .unit = "ns" },
	[BENCH_MEMCPY] = { .name = "memcpy", .text = "memcpy, 256 MiB", .unit = "GB/s" },
	[BENCH_READ_SMALL] = { .name = "dependent_read",
			       .text = "dependent random read in 256 MiB, 4 KiB pages",
			       .unit = "ns" },
	[BENCH_READ_HUGE] = { .name = "dependent_read_huge",
			      .text = "dependent random read in 256 MiB, huge pages",
			      .unit = "ns" },
};

static const struct probe {
	const char *name;
	bench_probe_fn *run;
	enum bench_id first, last; /* its figures */
} probes[] = {
	{ "kernel", bench_kernel, BENCH_KERNEL_FAULT, BENCH_KERNEL_UNMAP },
	{ "floor", bench_floor, BENCH_FLOOR_FRESH, BENCH_FLOOR_WALK },
	{ "limits", bench_limits, BENCH_MEMCPY, BENCH_READ_HUGE },
	{ "fault", bench_fault, BENCH_FAULT_FRESH, BENCH_UNMAP },
	{ "random", bench_random, BENCH_FAULT_RANDOM, BENCH_FAULT_RANDOM },
	{ "walk", bench_walk, BENCH_WALK, BENCH_WALK_FAULT },
	{ "combined", bench_combined, BENCH_COMBINED_WRITE, BENCH_TO_RAM },
	{ "huge", bench_huge, BENCH_HUGE_COMBINED, BENCH_HUGE_TO_RAM },
	{ "present", bench_present, BENCH_PRESENT_FRESH_SEPARATE, BENCH_PRESENT1_RATIO },
	{ "memory", bench_memory, BENCH_MEMORY, BENCH_MEMORY_ERROR },
	{ "threads", bench_threads, BENCH_THREADS_FRESH, BENCH_THREADS_APART },
	{ "player", bench_player, BENCH_PLAYER_BINARY, BENCH_PLAYER_PLAY },
	{ "sched", bench_sched, BENCH_SCHED, BENCH_RUN_ANEW },
};

#define NR_PROBES (sizeof(probes) / sizeof(probes[0]))

/* ---- samples ---- */

void bench_sample(struct bench *b, enum bench_id id, double value)
{
	if (b->nr[id] < BENCH_MAX_ROUNDS)
		b->sample[id][b->nr[id]++] = value;
}

void bench_note(struct bench *b, enum bench_id id, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(b->note[id], sizeof(b->note[id]), fmt, args);
	va_end(args);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_median(const struct bench *b, enum bench_id id, double *low, double *high)
{
	double sorted[BENCH_MAX_ROUNDS];
	unsigned int n = b->nr[id];

	if (!n) {
		*low = *high = 0;
		return 0;
	}
	memcpy(sorted, b->sample[id], n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare);
	*low = sorted[0];
	*high = sorted[n - 1];
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* The budget of a figure in this variant, 0 if it has none. */
static double budget(enum bench_id id)
{
#ifdef UHMM_CHECKED
	return bench_figures[id].checked ? bench_figures[id].budget : 0;
#else
	return bench_figures[id].budget;
#endif
}

static bool over_budget(const struct bench *b, enum bench_id id)
{
	double low, high, median = bench_median(b, id, &low, &high);

	if (!budget(id) || !b->nr[id])
		return false;
	return bench_figures[id].at_least ? median < budget(id) : median > budget(id);
}

/* What this machine can do at best, as measured in this run; 0: not known. */
static double limit(const struct bench *b, enum bench_id id)
{
	const struct bench_figure *f = &bench_figures[id];
	double low, high, rate = bench_median(b, BENCH_MEMCPY, &low, &high);

	if (f->limit_figure)
		return bench_median(b, (enum bench_id)f->limit_figure, &low, &high);
	return f->limit_bytes && rate > 0 ? f->limit_bytes / rate : 0;
}

static unsigned int nr_over_budget(const struct bench *b)
{
	unsigned int n = 0;

	for (int id = 0; id < BENCH_NR_FIGURES; id++)
		n += over_budget(b, id);
	return n;
}

/* Figures with a budget that nobody knows about: no failure, but no success either. */
static unsigned int nr_not_measured(const struct bench *b, const bool *wanted)
{
	unsigned int n = 0;

	for (int id = 0; id < BENCH_NR_FIGURES; id++)
		n += wanted[id] && budget(id) && !b->nr[id];
	return n;
}

/* Share of the time in which this program had no CPU though it wanted one. */
static double waited(const struct bench *b)
{
	return b->wall_ns > b->cpu_ns ? 1 - (double)b->cpu_ns / (double)b->wall_ns : 0;
}

/* ---- results for a person ---- */

static void cell_number(struct tool_table *t, double d)
{
	if (d < 10)
		tool_cell(t, "%.2f", d);
	else if (d < 100)
		tool_cell(t, "%.1f", d);
	else
		tool_cell_count(t, (uint64_t)llround(d));
}

static void print_row(const struct bench *b, struct tool_table *t, enum bench_id id)
{
	const struct bench_figure *f = &bench_figures[id];
	const char *note = f->note ? f->note : b->note[id];
	double low, high, median = bench_median(b, id, &low, &high);

	tool_cell(t, "%s", f->text);
	if (budget(id))
		tool_cell(t, "%s %g", f->at_least ? ">=" : "<=", budget(id));
	else
		tool_cell(t, "%s", "");
	if (b->nr[id]) {
		cell_number(t, median);
		cell_number(t, low);
		cell_number(t, high);
	} else {
		for (int i = 0; i < 3; i++)
			tool_cell(t, "-");
	}
	tool_cell(t, "%s", f->unit);
	if (f->beside && b->nr[f->beside])
		cell_number(t, bench_median(b, f->beside, &low, &high));
	else
		tool_cell(t, "%s", "");
	if (b->nr[id] && limit(b, id) > 0) {
		cell_number(t, limit(b, id));
		cell_number(t, median / limit(b, id));
	} else {
		tool_cell(t, "%s", "");
		tool_cell(t, "%s", "");
	}
	if (over_budget(b, id))
		tool_cell(t, "over budget%s%s", *note ? "; " : "", note);
	else
		tool_cell(t, "%s", note);
}

static void print_table(const struct bench *b, const bool *wanted)
{
	static const char *const head[] = { "", "budget", "median", "low",     "high",
					    "", "kernel", "limit",  "x limit", "" };
	struct tool_table *t = tool_table_new(10);
	const char *group = NULL;

	tool_table_left(t, 5);
	tool_table_left(t, 9);
	for (int i = 0; i < 10; i++)
		tool_cell(t, "%s", head[i]);
	for (int id = 0; id < BENCH_NR_FIGURES; id++) {
		if (bench_figures[id].group)
			group = bench_figures[id].group;
		if (!wanted[id])
			continue;
		if (group)
			tool_table_heading(t, "%s", group);
		group = NULL;
		print_row(b, t, id);
	}
	tool_table_print(t, stdout, 0);
	tool_table_free(t);
	printf("\n%u rounds; times are CPU times of a thread, those of two threads wall-clock, while two CPUs are\n"
	       "free. Limit: the bytes that must be written at memcpy's rate, or a dependent read; of two "
	       "threads,\ntwo that share nothing of the model.\n",
	       b->rounds);
	if (waited(b) > 0.05)
		printf("The machine was busy: %.0f %% of the time other programs had the CPU.\n",
		       100 * waited(b));
#ifdef UHMM_CHECKED
	printf("This is the checked variant: most budgets do not apply.\n");
#endif
	if (nr_over_budget(b))
		printf("%u over budget.\n", nr_over_budget(b));
	if (nr_not_measured(b, wanted))
		printf("%u with a budget not measured.\n", nr_not_measured(b, wanted));
}

/* ---- results for a program ---- */

static json_t *figure_json(const struct bench *b, enum bench_id id)
{
	const struct bench_figure *f = &bench_figures[id];
	const char *note = f->note ? f->note : b->note[id];
	double low, high, median = bench_median(b, id, &low, &high);
	json_t *o = json_object(), *samples = json_array();

	json_object_set_new(o, "text", json_string(f->text));
	json_object_set_new(o, "unit", json_string(f->unit));
	if (budget(id)) {
		json_object_set_new(o, f->at_least ? "at_least" : "at_most", json_real(budget(id)));
		json_object_set_new(o, "over_budget", json_boolean(over_budget(b, id)));
	}
	if (b->nr[id]) {
		json_object_set_new(o, "median", json_real(median));
		json_object_set_new(o, "low", json_real(low));
		json_object_set_new(o, "high", json_real(high));
	}
	if (b->nr[id] && limit(b, id) > 0)
		json_object_set_new(o, "limit", json_real(limit(b, id)));
	for (unsigned int i = 0; i < b->nr[id]; i++)
		json_array_append_new(samples, json_real(b->sample[id][i]));
	json_object_set_new(o, "samples", samples);
	if (*note)
		json_object_set_new(o, "note", json_string(note));
	return o;
}

static json_t *results_json(const struct bench *b, const bool *wanted)
{
	json_t *root = json_object(), *figures = json_object();
	struct utsname u;

	json_object_set_new(root, "schema", json_integer(1));
	json_object_set_new(root, "version", json_string(uhmm_version()));
#ifdef UHMM_CHECKED
	json_object_set_new(root, "variant", json_string("checked"));
#else
	json_object_set_new(root, "variant", json_string("plain"));
#endif
	json_object_set_new(root, "quick", json_boolean(b->quick));
	json_object_set_new(root, "rounds", json_integer(b->rounds));
	if (!uname(&u)) {
		json_object_set_new(root, "host_kernel", json_string(u.release));
		json_object_set_new(root, "host_machine", json_string(u.machine));
	}
	json_object_set_new(root, "host_cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_set_new(root, "waited_for_cpu", json_real(waited(b)));
	json_object_set_new(root, "over_budget", json_integer(nr_over_budget(b)));
	json_object_set_new(root, "not_measured", json_integer(nr_not_measured(b, wanted)));
	for (int id = 0; id < BENCH_NR_FIGURES; id++) {
		if (wanted[id])
			json_object_set_new(figures, bench_figures[id].name, figure_json(b, id));
	}
	json_object_set_new(root, "figures", figures);
	return root;
}

static int write_json(const struct bench *b, const bool *wanted, const char *path)
{
	bool to_stdout = !strcmp(path, "-");
	FILE *f = to_stdout ? stdout : fopen(path, "w");
	json_t *root;
	int status;

	if (!f)
		return tool_error("%s: cannot write: %m", path);
	root = results_json(b, wanted);
	json_dumpf(root, f, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	fputc('\n', f);
	json_decref(root);
	status = tool_finish_file(f, path);
	if (!to_stdout)
		fclose(f);
	return status;
}

/* ---- the subcommand ---- */

static void progress(const struct bench *b, const char *name)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (name)
		fprintf(stderr, "\rround %u of %u: %-10s", b->round + 1, b->rounds, name);
	else
		fprintf(stderr, "\r%40s\r", "");
}

static int run_rounds(struct bench *b, const bool *chosen)
{
	int status = TOOL_OK;

	for (b->round = 0; b->round < b->rounds && status == TOOL_OK; b->round++) {
		for (size_t i = 0; i < NR_PROBES && status == TOOL_OK; i++) {
			if (!chosen[i])
				continue;
			progress(b, probes[i].name);
			status = probes[i].run(b);
		}
	}
	progress(b, NULL);
	return status;
}

static bool choose(const char *name, bool *chosen)
{
	const char *names[NR_PROBES + 1] = { 0 };
	int i;

	for (size_t k = 0; k < NR_PROBES; k++)
		names[k] = probes[k].name;
	i = tool_parse_choice("--only", name, names);
	if (i >= 0)
		chosen[i] = true;
	return i >= 0;
}

/* What the command line asks for, beside what is in struct bench. */
struct order {
	bool chosen[NR_PROBES], only;
	const char *json, *compare;
	bool memory, growth, claims;
	uint64_t populate; /* bytes, 0: no */
	const char *svg;
};

static int run(struct bench *b, struct order *o)
{
	bool wanted[BENCH_NR_FIGURES] = { 0 }, *chosen = o->chosen;
	struct bench_old *old = NULL;
	const char *json = o->json;
	unsigned int slower = 0;
	int status;

	if (o->compare && bench_old_load(o->compare, b, &old) != TOOL_OK)
		return TOOL_USAGE;

	if (json && strcmp(json, "-") && tool_check_writable(json, TOOL_JSON))
		return TOOL_USAGE;
	wanted[BENCH_CHECKERS] = !o->only;
	for (size_t i = 0; i < NR_PROBES; i++) {
		chosen[i] |= !o->only;
		for (int id = probes[i].first; id <= (int)probes[i].last; id++)
			wanted[id] = chosen[i];
	}
	status = run_rounds(b, chosen);
	if (status == TOOL_OK && (!json || strcmp(json, "-")))
		print_table(b, wanted);
	if (status == TOOL_OK && json)
		status = write_json(b, wanted, json);
	if (status == TOOL_OK && old)
		slower = bench_old_compare(old, b, wanted);
	bench_old_free(old);
	if (status != TOOL_OK)
		return status;
	return slower || nr_over_budget(b) ? TOOL_DIFF : TOOL_OK;
}

/* One thing at a time. */
static int check_order(const struct bench *b, const struct order *o)
{
	int modes = o->memory + o->growth + o->claims + !!o->populate;

	if (modes > 1)
		return tool_usage_error(
			"--memory, --populate, --claims and --growth go one at a time");
	if (modes && (o->only || o->json || o->compare || b->trace || b->rounds))
		return tool_usage_error("--only, --rounds, --trace, --json and --compare do not go "
					"with --memory, --populate, --claims and --growth");
	if (o->svg && !o->growth)
		return tool_usage_error("--svg goes with --growth");
	if (o->compare && o->json && !strcmp(o->json, "-"))
		return tool_usage_error("--compare prints where '--json -' writes");
	return TOOL_OK;
}

static int run_order(struct bench *b, struct order *o)
{
	if (check_order(b, o) != TOOL_OK)
		return TOOL_USAGE;
	if (o->memory)
		return bench_memory_kinds(b);
	if (o->claims)
		return bench_claims(b);
	if (o->growth)
		return bench_growth(b, o->svg);
	if (o->populate)
		return bench_populate(o->populate);
	if (!b->rounds)
		b->rounds = b->quick ? 3 : 9;
	return run(b, o);
}

enum {
	OPT_ONLY = 256,
	OPT_QUICK,
	OPT_ROUNDS,
	OPT_TRACE,
	OPT_JSON,
	OPT_COMPARE,
	OPT_MEMORY,
	OPT_POPULATE,
	OPT_CLAIMS,
	OPT_GROWTH,
	OPT_SVG,
};

int uhmm_cmd_bench(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "only", required_argument, NULL, OPT_ONLY },
		{ "quick", no_argument, NULL, OPT_QUICK },
		{ "rounds", required_argument, NULL, OPT_ROUNDS },
		{ "trace", required_argument, NULL, OPT_TRACE },
		{ "json", required_argument, NULL, OPT_JSON },
		{ "compare", required_argument, NULL, OPT_COMPARE },
		{ "memory", no_argument, NULL, OPT_MEMORY },
		{ "populate", required_argument, NULL, OPT_POPULATE },
		{ "claims", no_argument, NULL, OPT_CLAIMS },
		{ "growth", no_argument, NULL, OPT_GROWTH },
		{ "svg", required_argument, NULL, OPT_SVG },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static struct bench b;
	struct order o = { .only = false };
	uint64_t rounds = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		switch (opt) {
		case OPT_ONLY:
			o.only = true;
			if (!choose(optarg, o.chosen))
				return TOOL_USAGE;
			break;
		case OPT_QUICK:
			b.quick = true;
			break;
		case OPT_ROUNDS:
			if (!tool_parse_u64("--rounds", optarg, 1, BENCH_MAX_ROUNDS, &rounds))
				return TOOL_USAGE;
			break;
		case OPT_TRACE:
			b.trace = optarg;
			break;
		case OPT_JSON:
			o.json = optarg;
			break;
		case OPT_COMPARE:
			o.compare = optarg;
			break;
		case OPT_MEMORY:
			o.memory = true;
			break;
		case OPT_POPULATE:
			if (!tool_parse_size("--populate", optarg, &o.populate))
				return TOOL_USAGE;
			if (!o.populate)
				return tool_error("--populate: '%s' is nothing", optarg);
			break;
		case OPT_CLAIMS:
			o.claims = true;
			break;
		case OPT_GROWTH:
			o.growth = true;
			break;
		case OPT_SVG:
			o.svg = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return TOOL_OK;
		default:
			return tool_try_help();
		}
	}
	if (optind < argc)
		return tool_usage_error("unexpected argument '%s'", argv[optind]);
	b.rounds = (unsigned int)rounds;
	return run_order(&b, &o);
}
