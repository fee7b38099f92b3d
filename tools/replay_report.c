// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * replay_report.c - what a replay came to, as a table.
 *
 * Rows that are zero in every column are left out. With several strategies each column but the first
 * is followed by its ratio to the first.
 */
#include <string.h>

#include "replay_report.h"
#include "tool.h"

const struct replay_named_counter replay_faults[] = {
	{ UHMM_CNT_FAULT_ANON_READ, "anon_read", "zero page mapped" },
	{ UHMM_CNT_FAULT_ANON_WRITE, "anon_write", "new page mapped" },
	{ UHMM_CNT_FAULT_COW_COPY, "cow_copy", "copy on write" },
	{ UHMM_CNT_FAULT_COW_REUSE, "cow_reuse", "reused on write" },
	{ UHMM_CNT_FAULT_FILE_READ, "file_read", "file page mapped" },
	{ UHMM_CNT_FAULT_FILE_COW, "file_cow", "file page copied" },
	{ UHMM_CNT_FAULT_FILE_WRITE, "file_write", "shared page mapped for writing" },
	{ UHMM_CNT_FAULT_FILE_WP, "file_wp", "shared page made writable" },
	{ UHMM_CNT_FAULT_FILE_MAJOR, "file_major", "  of these, not in the page cache" },
	{ UHMM_CNT_FAULT_AROUND, "file_around", "  pages mapped around" },
	{ UHMM_CNT_FAULT_MIGRATION_WAIT, "migration_wait", "migration entry waited for" },
	{ UHMM_CNT_FAULT_DEVICE, "device", "page on the device" },
	{ UHMM_CNT_FAULT_DEVICE_WAIT, "device_wait", "  of these, found locked" },
	{ UHMM_CNT_FAULT_SPURIOUS, "spurious", "entry was good already" },
	{ UHMM_CNT_FAULT_SIGSEGV, "sigsegv", "SIGSEGV" },
	{ UHMM_CNT_FAULT_SIGBUS, "sigbus", "SIGBUS" },
	{ UHMM_CNT_FAULT_OOM, "oom", "no memory" },
	{ UHMM_CNT_FAULT_RETRY, "retry", "tried again" },
	{ UHMM_CNT_FAULT_HUGE, "huge", "  of all, mapped a huge page" },
	{ UHMM_CNT_FAULT_HUGE_FALLBACK, "huge_fallback", "  of all, found no memory for one" },
	{ UHMM_CNT_FAULT_FROM_HMM, "from_hmm", "  of all, raised by a walker" },
	{ 0, NULL, NULL },
};

const struct replay_named_counter replay_failures[] = {
	{ UHMM_CNT_FAIL_LOCKED, "locked", "locked by others" },
	{ UHMM_CNT_FAIL_PINNED, "pinned", "pinned" },
	{ UHMM_CNT_FAIL_ISOLATE, "isolate", "not on the LRU" },
	{ UHMM_CNT_FAIL_MAPPED, "mapped", "still mapped" },
	{ UHMM_CNT_FAIL_REFERENCED, "referenced", "referenced" },
	{ UHMM_CNT_FAIL_NO_DST, "no_dst", "no destination" },
	{ UHMM_CNT_FAIL_FILE, "file", "page of a file" },
	{ UHMM_CNT_FAIL_RACED, "raced", "raced" },
	{ 0, NULL, NULL },
};

const struct replay_named_counter replay_reads[] = {
	{ UHMM_CNT_READ_PGD, "pgd", "PGD" },
	{ UHMM_CNT_READ_PUD, "pud", "PUD" },
	{ UHMM_CNT_READ_PMD, "pmd", "PMD" },
	{ UHMM_CNT_READ_PTE, "pte", "PTE" },
	{ 0, NULL, NULL },
};

/* ---- results ---- */

void replay_result_init(struct replay_result *r, const struct uhmm_replay *replay,
			const struct uhmm_costs *costs)
{
	r->replay = replay;
	r->costs = costs;
	r->nr_runs = uhmm_replay_nr_runs(replay);
	for (unsigned int i = 0; i < r->nr_runs; i++) {
		struct replay_column *c = &r->column[i];
		struct uhmm_machine *m;

		c->run = uhmm_replay_get_run(replay, i);
		m = uhmm_player_machine(c->run->player);
		uhmm_counters_read(m, &c->counters);
		uhmm_costs_apply(costs, &c->counters, &c->modelled);
		c->reports = uhmm_machine_reports(m);
	}
}

bool replay_result_same(const struct replay_result *r)
{
	for (unsigned int i = 1; i < r->nr_runs; i++)
		if (r->column[i].run->differing || !r->column[i].run->same_digest)
			return false;
	return true;
}

bool replay_result_clean(const struct replay_result *r)
{
	for (unsigned int i = 0; i < r->nr_runs; i++)
		if (r->column[i].run->violations || r->column[i].reports)
			return false;
	return true;
}

double replay_walks_a_range(const struct replay_column *c)
{
	uint64_t served = c->counters.v[UHMM_CNT_DEVICE_FAULTS];
	uint64_t walks = uhmm_player_count(c->run->player, UHMM_REPLAY_SERVICE_WALKS);

	return served ? (double)walks / (double)served : 0;
}

uint64_t replay_copied_bytes(const struct uhmm_counters *c)
{
	return UHMM_PAGE_SIZE * (c->v[UHMM_CNT_COPY_TO_DEVICE] + c->v[UHMM_CNT_COPY_TO_RAM] +
				 c->v[UHMM_CNT_COPY_RAM] + c->v[UHMM_CNT_COPY_DEVICE]);
}

/* ---- rows ---- */

enum unit { COUNT, BYTES, NS, RATIO, RATE };

struct sheet {
	const struct replay_result *r;
	struct tool_table *t;
	const char *heading; /* printed before the first row below it */
};

static void cell_value(struct tool_table *t, enum unit unit, double v)
{
	char buf[TOOL_NUMBER];

	switch (unit) {
	case COUNT:
		tool_cell_count(t, (uint64_t)v);
		break;
	case BYTES:
		tool_cell(t, "%s", tool_fmt_bytes(buf, (uint64_t)v));
		break;
	case NS:
		tool_cell(t, "%s", tool_fmt_ns(buf, v));
		break;
	case RATIO:
		tool_cell(t, "%.2f", v);
		break;
	case RATE:
		tool_cell_count(t, (uint64_t)v);
		break;
	}
}

static void row(struct sheet *s, enum unit unit, const char *name, const double *v)
{
	bool any = false;

	for (unsigned int i = 0; i < s->r->nr_runs; i++)
		any |= v[i] != 0;
	if (!any)
		return;
	if (s->heading)
		tool_table_heading(s->t, "%s", s->heading);
	s->heading = NULL;
	tool_cell(s->t, "  %s", name);
	for (unsigned int i = 0; i < s->r->nr_runs; i++) {
		cell_value(s->t, unit, v[i]);
		if (!i)
			continue;
		if (v[0] != 0 && unit != RATIO)
			tool_cell(s->t, "x%.2f", v[i] / v[0]);
		else
			tool_cell(s->t, "%s", "");
	}
	tool_table_end_row(s->t);
}

static void heading(struct sheet *s, const char *text)
{
	s->heading = text;
}

static void row_counter(struct sheet *s, enum uhmm_counter c, const char *name)
{
	double v[UHMM_NR_STRATEGIES];

	for (unsigned int i = 0; i < s->r->nr_runs; i++)
		v[i] = (double)s->r->column[i].counters.v[c];
	row(s, COUNT, name, v);
}

static void row_counters(struct sheet *s, const struct replay_named_counter *c)
{
	for (; c->name; c++)
		row_counter(s, c->counter, c->text);
}

static void row_count(struct sheet *s, enum uhmm_replay_count c, const char *name)
{
	double v[UHMM_NR_STRATEGIES];

	for (unsigned int i = 0; i < s->r->nr_runs; i++)
		v[i] = (double)uhmm_player_count(s->r->column[i].run->player, c);
	row(s, COUNT, name, v);
}

/* Those of the service alone: faults and evictions walk, too. */
static void row_walks_a_range(struct sheet *s)
{
	double v[UHMM_NR_STRATEGIES];

	for (unsigned int i = 0; i < s->r->nr_runs; i++)
		v[i] = replay_walks_a_range(&s->r->column[i]);
	row(s, RATIO, "walks a range served", v);
}

/* ---- sections ---- */

static void rows_work(struct sheet *s)
{
	heading(s, "Accesses");
	row_count(s, UHMM_REPLAY_CPU_ACCESSES, "by CPUs");
	row_count(s, UHMM_REPLAY_FETCHES, "  instruction fetches");
	row_count(s, UHMM_REPLAY_DEVICE_ACCESSES, "by the device");
	row_count(s, UHMM_REPLAY_DEVICE_SERVED, "  that faulted");
	row_count(s, UHMM_REPLAY_DEVICE_REMOTE, "  served from RAM");
	row_count(s, UHMM_REPLAY_DEVICE_FAILED, "  that failed");
	heading(s, "Faults in the model");
	row_counters(s, replay_faults);
	heading(s, "Range walks");
	row_counter(s, UHMM_CNT_DEVICE_FAULTS, "ranges served");
	row_walks_a_range(s);
	row_counter(s, UHMM_CNT_WALKS, "walks, all");
	row_counter(s, UHMM_CNT_WALK_RESTARTS, "walk restarts");
	row_counter(s, UHMM_CNT_BACK_OFF, "back-offs");
	heading(s, "Entries read");
	row_counters(s, replay_reads);
	heading(s, "Locks");
	row_counter(s, UHMM_CNT_PTL, "page-table locks");
	row_counter(s, UHMM_CNT_PTL_CONTENDED, "  contended");
	row_counter(s, UHMM_CNT_MMAP_READ, "mmap_lock, read");
	row_counter(s, UHMM_CNT_MMAP_WRITE, "mmap_lock, write");
	row_counter(s, UHMM_CNT_MMAP_CONTENDED, "  contended");
	row_counter(s, UHMM_CNT_VMA_LOCK, "per-VMA locks");
	row_counter(s, UHMM_CNT_VMA_LOCK_MISS, "  fell back to mmap_lock");
	row_counter(s, UHMM_CNT_FOLIO_TRYLOCK_FAIL, "folio trylocks failed");
	row_counter(s, UHMM_CNT_FOLIO_LOCK_WAIT, "folio lock waits");
}

static void rows_effects(struct sheet *s)
{
	heading(s, "Flushes and notifiers");
	row_counter(s, UHMM_CNT_TLB_FLUSH_RANGE, "flushes, range");
	row_counter(s, UHMM_CNT_TLB_FLUSH_PAGE, "flushes, page");
	row_counter(s, UHMM_CNT_TLB_FLUSH_IPI, "  CPUs interrupted");
	row_counter(s, UHMM_CNT_NOTIFIER_START, "invalidations");
	row_counter(s, UHMM_CNT_NOTIFIER_CALLS, "notifier calls");
	row_counter(s, UHMM_CNT_NOTIFIER_RETRY, "notifier retries");
	row_counter(s, UHMM_CNT_LRU_DRAIN_ALL, "LRU drains, all CPUs");
	row_counter(s, UHMM_CNT_RMAP_WALKS, "rmap walks");
	heading(s, "Pages migrated");
	row_counter(s, UHMM_CNT_MIGRATED_TO_DEVICE, "RAM to device");
	row_counter(s, UHMM_CNT_MIGRATED_NEW, "new on the device");
	row_counter(s, UHMM_CNT_MIGRATED_TO_RAM, "device to RAM");
	row_counter(s, UHMM_CNT_MIGRATED_DEVICE_DEVICE, "device to device");
	row_counter(s, UHMM_CNT_EVICTED, "evicted");
	heading(s, "Pages not migrated");
	row_counters(s, replay_failures);
	heading(s, "Pages copied and cleared");
	row_counter(s, UHMM_CNT_COPY_TO_DEVICE, "RAM to device");
	row_counter(s, UHMM_CNT_COPY_TO_RAM, "device to RAM");
	row_counter(s, UHMM_CNT_COPY_RAM, "within RAM");
	row_counter(s, UHMM_CNT_COPY_DEVICE, "within the device");
	row_counter(s, UHMM_CNT_CLEAR_RAM, "cleared in RAM");
	row_counter(s, UHMM_CNT_CLEAR_DEVICE, "cleared on the device");
}

static void rows_time(struct sheet *s)
{
	double v[UHMM_NR_STRATEGIES], rate[UHMM_NR_STRATEGIES];
	static char text[64];

	snprintf(text, sizeof(text), "Modelled time (costs: %.40s)", uhmm_costs_name(s->r->costs));
	heading(s, text);
	for (unsigned int i = 0; i < s->r->nr_runs; i++)
		v[i] = s->r->column[i].modelled.ns;
	row(s, NS, "total", v);
	for (unsigned int part = 0; part < UHMM_NR_COST_PARTS; part++) {
		char name[32];

		for (unsigned int i = 0; i < s->r->nr_runs; i++)
			v[i] = s->r->column[i].modelled.part_ns[part];
		snprintf(name, sizeof(name), "  %s", uhmm_cost_part_name(part));
		row(s, NS, name, v);
	}
	heading(s, "Host");
	for (unsigned int i = 0; i < s->r->nr_runs; i++) {
		const struct uhmm_replay_run *run = s->r->column[i].run;
		double events = (double)uhmm_player_count(run->player, UHMM_REPLAY_EVENTS);

		v[i] = (double)run->host_ns;
		rate[i] = run->host_ns ? events * 1e9 / (double)run->host_ns : 0;
	}
	row(s, NS, "time", v);
	row(s, RATE, "events per second", rate);
}

static void print_columns(const struct replay_result *r, FILE *f)
{
	struct sheet s = { .r = r, .t = tool_table_new(2 * r->nr_runs) };

	tool_cell(s.t, "%s", "");
	for (unsigned int i = 0; i < r->nr_runs; i++) {
		tool_cell(s.t, "%s", uhmm_strategy_name(r->column[i].run->strategy));
		if (i)
			tool_cell(s.t, "%s", "ratio");
	}
	tool_table_end_row(s.t);
	rows_work(&s);
	rows_effects(&s);
	rows_time(&s);
	tool_table_print(s.t, f, 0);
	tool_table_free(s.t);
}

/* ---- the trace, and how far it was followed ---- */

static void print_trace(const struct replay_result *r, FILE *f)
{
	const struct uhmm_trace_reader *reader = uhmm_replay_reader(r->replay);
	const struct uhmm_trace_stats *st = uhmm_trace_stats(reader);
	const struct uhmm_player *p = r->column[0].run->player;
	char a[TOOL_NUMBER], b[TOOL_NUMBER], c[TOOL_NUMBER];

	fprintf(f, "%s: %s lines, %s events, %s faults\n", r->trace,
		tool_fmt_count(a, st->source_lines),
		tool_fmt_count(b, uhmm_player_count(p, UHMM_REPLAY_EVENTS)),
		tool_fmt_count(c, uhmm_player_count(p, UHMM_REPLAY_FAULTS)));
	fprintf(f,
		"  offload %s, granularity %s, device memory %s, huge pages %s, %u CPUs, seed %llu\n",
		r->offload, tool_fmt_bytes(a, r->granularity),
		r->device_bytes ? tool_fmt_bytes(b, r->device_bytes) : "unlimited", r->thp,
		r->nr_cpus, (unsigned long long)r->seed);
	if (strcmp(r->offload, "none") && !uhmm_player_count(p, UHMM_REPLAY_DEVICE_ACCESSES))
		fprintf(f, "  the device makes no access: none is as --offload says\n");
	if (st->malformed)
		fprintf(f, "  %s malformed lines skipped\n", tool_fmt_count(a, st->malformed));
	for (unsigned int i = 0; i < 8 && uhmm_trace_malformed(reader, i); i++)
		fprintf(f, "    %s\n", uhmm_trace_malformed(reader, i));
	if (st->lost)
		fprintf(f, "  the recorder lost %s records\n", tool_fmt_count(a, st->lost));
	if (st->unsampled)
		fprintf(f,
			"  %s more faults were counted but not recorded: record with "
			"'perf record -c 1'\n",
			tool_fmt_count(a, st->unsampled));
	if (st->time_reversed)
		fprintf(f,
			"  %s lines are older than the line before, and were taken as they come\n",
			tool_fmt_count(a, st->time_reversed));
}

static void print_no_faults(const struct replay_result *r, FILE *f)
{
	const struct uhmm_trace_stats *st = uhmm_trace_stats(uhmm_replay_reader(r->replay));
	uint64_t other = st->skipped_samples + st->skipped_tracepoints;
	char a[TOOL_NUMBER];

	fprintf(f, "  the trace has no faults");
	if (other)
		fprintf(f, ", but %s samples of other events: record 'page-faults'",
			tool_fmt_count(a, other));
	fputc('\n', f);
}

static void print_agreement(const struct replay_result *r, FILE *f)
{
	struct uhmm_replay_agreement g;
	uint64_t compared;
	char a[TOOL_NUMBER], b[TOOL_NUMBER], c[TOOL_NUMBER];

	uhmm_player_agreement(r->column[0].run->player, &g);
	compared = g.faults - g.offloaded;
	fprintf(f, "Agreement with the trace%s%s\n", r->nr_runs > 1 ? ", of " : "",
		r->nr_runs > 1 ? uhmm_strategy_name(r->column[0].run->strategy) : "");
	if (g.offloaded)
		fprintf(f, "  %s of %s faults are the device's now and not compared\n",
			tool_fmt_count(a, g.offloaded), tool_fmt_count(b, g.faults));
	if (compared)
		fprintf(f, "  %6.2f %%  %s of %s faults fault in the model, too\n",
			100.0 * (double)g.agreed / (double)compared, tool_fmt_count(a, g.agreed),
			tool_fmt_count(b, compared));
	if (g.signals)
		fprintf(f, "            of these, %s end in a signal\n",
			tool_fmt_count(a, g.signals));
	if (g.other_kind_anon + g.other_kind_other)
		fprintf(f,
			"            of these, %s differ in whether a page was there: %s in "
			"anonymous memory, %s elsewhere\n",
			tool_fmt_count(a, g.other_kind_anon + g.other_kind_other),
			tool_fmt_count(b, g.other_kind_anon),
			tool_fmt_count(c, g.other_kind_other));
	for (unsigned int i = 0; compared && i < UHMM_NR_REPLAY_MISSES; i++)
		if (g.missed[i])
			fprintf(f, "  %6.2f %%  %s do not: %s\n",
				100.0 * (double)g.missed[i] / (double)compared,
				tool_fmt_count(a, g.missed[i]), uhmm_replay_miss_text(i));
	if (!g.faults)
		print_no_faults(r, f);
	if (compared || g.extra_again)
		fprintf(f, "  %s faults of the model that the trace lacks%s\n",
			tool_fmt_count(a, g.extra_again),
			g.extra_again ? ": the same access again" : "");
	if (g.extra_touch)
		fprintf(f, "  %s faults of recorded accesses\n", tool_fmt_count(a, g.extra_touch));
}

/* What was not as recorded. */
static void print_treated(const struct replay_result *r, FILE *f)
{
	static const enum uhmm_replay_count notes[] = {
		UHMM_REPLAY_AS_ANON_SPECIAL, UHMM_REPLAY_AS_HUGETLB,
		UHMM_REPLAY_GUESSED_ACCESS,  UHMM_REPLAY_INFERRED_VMAS,
		UHMM_REPLAY_INFERRED_PAGES,  UHMM_REPLAY_LOCKS_POPULATED,
		UHMM_REPLAY_ADVICE_IGNORED,  UHMM_REPLAY_MOVES_INEXACT,
		UHMM_REPLAY_REFUSED,	     UHMM_REPLAY_SKIPPED,
	};
	const struct uhmm_trace_caps *caps = uhmm_trace_caps(uhmm_replay_reader(r->replay));
	const struct uhmm_player *p = r->column[0].run->player;
	const struct uhmm_trace_stats *st = uhmm_trace_stats(uhmm_replay_reader(r->replay));
	const struct {
		uint64_t n;
		const char *text;
	} unread[] = {
		{ st->opaque_calls, "calls whose effect the trace does not show" },
		{ st->unpaired_calls, "calls without their beginning or their end" },
		{ st->skipped_ranges, "ranges that no process can have, left out" },
	};
	bool any = !caps->has_data_maps || !caps->has_unmap || !caps->has_rw;
	char a[TOOL_NUMBER];

	fprintf(f, "Not as recorded\n");
	if (!caps->has_data_maps)
		fprintf(f,
			"  the trace has no %s: mappings are inferred from faults, as readable, "
			"writable anonymous memory in blocks of 64 KiB\n",
			caps->has_maps ? "mappings of data" : "mappings");
	if (!caps->has_unmap)
		fprintf(f, "  the trace has no unmappings\n");
	if (!caps->has_rw)
		fprintf(f, "  the trace has no read/write bit: an access is a write if the mapping "
			   "is writable\n");
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		uint64_t n = uhmm_player_count(p, notes[i]);

		if (n)
			fprintf(f, "  %s %s\n", tool_fmt_count(a, n),
				uhmm_replay_count_text(notes[i]));
		any |= n != 0;
	}
	for (size_t i = 0; i < sizeof(unread) / sizeof(unread[0]); i++) {
		if (unread[i].n)
			fprintf(f, "  %s %s\n", tool_fmt_count(a, unread[i].n), unread[i].text);
		any |= unread[i].n != 0;
	}
	if (!any)
		fprintf(f, "  nothing\n");
}

static const char *verdict(const struct replay_result *r)
{
	bool same = replay_result_same(r);

	if (r->device_bytes)
		return same ? "contents of every address space are the same"
			    : "contents of every address space are NOT the same";
	return same ? "state of every address space is the same"
		    : "state of every address space is NOT the same";
}

static void print_verdict(const struct replay_result *r, FILE *f)
{
	int64_t violations = 0;
	uint64_t reports = 0;

	for (unsigned int i = 0; i < r->nr_runs; i++) {
		const struct uhmm_replay_run *run = r->column[i].run;

		violations += run->violations;
		reports += r->column[i].reports;
		if (!i)
			continue;
		if (run->differing)
			fprintf(f, "%s: %lld pages differ from %s\n",
				uhmm_strategy_name(run->strategy), (long long)run->differing,
				uhmm_strategy_name(r->column[0].run->strategy));
		if (run->apart)
			fprintf(f,
				"%s: %llu pages differ from %s in where they are, since other device faults "
				"moved their neighbours\n",
				uhmm_strategy_name(run->strategy), (unsigned long long)run->apart,
				uhmm_strategy_name(r->column[0].run->strategy));
		if (!run->same_digest)
			fprintf(f, "%s: accesses read other values than with %s\n",
				uhmm_strategy_name(run->strategy),
				uhmm_strategy_name(r->column[0].run->strategy));
	}
	if (r->nr_runs > 1)
		fprintf(f, "Final state: %s with all strategies\n", verdict(r));
	if (violations || reports)
		fprintf(f, "Verifier: %lld violations, %llu reports\n", (long long)violations,
			(unsigned long long)reports);
	else
		fprintf(f, "Verifier: content\n");
}

void replay_print(const struct replay_result *r, FILE *f)
{
	print_trace(r, f);
	print_columns(r, f);
	print_agreement(r, f);
	print_treated(r, f);
	print_verdict(r, f);
}
