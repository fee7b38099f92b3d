// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_claims.c - what the posted series "Migrate on fault for device pages" says of itself, in the
 * model: that a walk of the page tables costs over 1000 cycles, which its one walk saves; and that the
 * kernel's own benchmark of migration is as fast with it as without, within the margin of error.
 *
 * Cycles are modelled: events counted, by the prices of the compiled-in table. Warm is that table; cold
 * is the same walk when no table's line is in any cache, and each is waited for as long as a dependent
 * read takes on this machine. Throughput is the host's, and modelled.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <uhmm/costs.h>

#include "bench.h"
#include "tool.h"

enum { ITERATIONS = 5, ENTRIES_IN_LINE = 8, WINDOW = 512 };

/* ---- cycles of a walk ---- */

struct walk_cost {
	double warm, cold; /* cycles */
};

static struct walk_cost walk_cost(const struct uhmm_costs *costs, const struct uhmm_counters *n,
				  double dram_ns)
{
	static const enum uhmm_cost upper[] = { UHMM_COST_READ_PGD, UHMM_COST_READ_PUD,
						UHMM_COST_READ_PMD };
	double hz = uhmm_costs_clock(costs), line = dram_ns * 1e-9 * hz;
	double ptes = (double)uhmm_cost_events(UHMM_COST_READ_PTE, n);
	struct uhmm_modelled sum;
	struct walk_cost cost;

	uhmm_costs_apply(costs, n, &sum);
	cost.warm = cost.cold = sum.cycles;
	for (int i = 0; i < 3; i++)
		cost.cold += (double)uhmm_cost_events(upper[i], n) *
			     (line - uhmm_costs_cycles(costs, upper[i]));
	cost.cold += ceil(ptes / ENTRIES_IN_LINE) * line -
		     ptes * uhmm_costs_cycles(costs, UHMM_COST_READ_PTE);
	return cost;
}

static void since_mark(struct bench_world *w, struct uhmm_counters *out)
{
	uhmm_counters_read(w->m, out);
	for (int c = 0; c < UHMM_NR_COUNTERS; c++)
		out->v[c] -= w->before.v[c];
}

/* hmm_range_fault() over so many pages, which are there. */
static int one_walk(struct bench_world *w, struct uhmm_hmm_range *range, uint64_t npages,
		    struct tool_table *t, const struct uhmm_costs *costs, double dram_ns)
{
	struct uhmm_counters n;
	struct walk_cost cost;
	int err;

	range->start = w->start;
	range->end = w->start + (npages << UHMM_PAGE_SHIFT);
	bench_mark(w);
	err = bench_range_walk_window(w->mm, range);
	if (err)
		return bench_failed("hmm_range_fault", err);
	since_mark(w, &n);
	cost = walk_cost(costs, &n, dram_ns);
	tool_cell_count(t, npages);
	tool_cell(t, "%.0f", cost.warm);
	tool_cell(t, "%.0f", cost.cold);
	tool_cell(t, "%.1f", cost.warm / (double)npages);
	tool_cell(t, "%.1f", cost.cold / (double)npages);
	return TOOL_OK;
}

static int claim_walks(const struct uhmm_costs *costs, double dram_ns)
{
	static const uint64_t sizes[] = { 1, 16, 64, WINDOW };
	static const char *const head[] = { "pages of a walk", "warm", "cold", "warm, each",
					    "cold, each" };
	struct tool_table *t = tool_table_new(5);
	struct uhmm_hmm_range range;
	struct bench_world w;
	int status = bench_world_open(&w, WINDOW, false);
	int err = status == TOOL_OK ? bench_touch(&w, 0, WINDOW) : 0;

	for (int i = 0; i < 5; i++)
		tool_cell(t, "%s", head[i]);
	if (status == TOOL_OK && !err)
		err = bench_range_open(&w, &range);
	if (err) {
		status = bench_failed("walk", err);
	} else if (status == TOOL_OK) {
		for (int i = 0; i < 4 && status == TOOL_OK; i++)
			status = one_walk(&w, &range, sizes[i], t, costs, dram_ns);
		uhmm_mmu_interval_notifier_remove(range.notifier);
	}
	bench_world_close(&w);
	if (status == TOOL_OK) {
		printf("A walk of hmm_range_fault() over pages that are there, in modelled cycles "
		       "(table %s,\n%.1f GHz); cold: %.0f ns for each line of a table, as a "
		       "dependent read takes here.\n",
		       uhmm_costs_name(costs), uhmm_costs_clock(costs) / 1e9, dram_ns);
		tool_table_print(t, stdout, 2);
	}
	tool_table_free(t);
	return status;
}

/* ---- the benchmark of the kernel's tests ---- */

/* A way to the device, over all iterations. */
struct way {
	double ns[ITERATIONS]; /* host */
	double cycles;	       /* modelled, all */
};

static int timed(struct bench_world *w, enum uhmm_mirror_op op, void *buf, struct way *way, int i,
		 const struct uhmm_costs *costs)
{
	struct uhmm_mirror_cmd cmd = { .addr = w->start, .npages = w->npages, .ptr = buf };
	static struct bench ignored;
	struct uhmm_modelled sum;
	struct uhmm_counters n;
	struct bench_timer t;
	int err;

	bench_mark(w);
	t = bench_start();
	err = uhmm_mirror_ioctl(w->mirror, op, &cmd);
	if (!err && way) {
		double ns = bench_stop(&ignored, t);

		since_mark(w, &n);
		uhmm_costs_apply(costs, &n, &sum);
		if (i >= 0) {
			way->ns[i] = ns;
			way->cycles += sum.cycles;
		}
	}
	return err;
}

static double middle(struct way *way)
{
	for (int i = 1; i < ITERATIONS; i++) {
		for (int k = i; k && way->ns[k] < way->ns[k - 1]; k--) {
			double ns = way->ns[k];

			way->ns[k] = way->ns[k - 1];
			way->ns[k - 1] = ns;
		}
	}
	return way->ns[ITERATIONS / 2];
}

static void print_ways(struct tool_table *t, uint64_t bytes, bool huge, struct way *off,
		       struct way *on)
{
	double a = middle(off), b = middle(on);
	double spread =
		fmax(off->ns[ITERATIONS - 1] - off->ns[0], on->ns[ITERATIONS - 1] - on->ns[0]);
	char buf[TOOL_NUMBER];

	tool_cell(t, "%s, %s pages", tool_fmt_bytes(buf, bytes), huge ? "huge" : "4 KiB");
	tool_cell(t, "%.2f", (double)bytes / a);
	tool_cell(t, "%.2f", (double)bytes / b);
	tool_cell(t, "%+.1f %%", 100 * (a / b - 1));
	tool_cell(t, "%.1f %%", 100 * spread / a);
	tool_cell(t, "%s", fabs(a - b) <= spread ? "yes" : "no");
	tool_cell(t, "%+.1f %%", 100 * (off->cycles / on->cycles - 1));
}

/* There and back, by the one way and by the other in turn; the first time of each is to warm up. */
static int benchmark(uint64_t bytes, bool huge, struct tool_table *t,
		     const struct uhmm_costs *costs)
{
	uint64_t npages = bytes >> UHMM_PAGE_SHIFT;
	void *buf = tool_xalloc(npages, UHMM_PAGE_SIZE);
	struct way off = { .cycles = 0 }, on = { .cycles = 0 };
	struct bench_world w;
	int err = 0, status = bench_world_open(&w, npages + WINDOW, true);

	if (status == TOOL_OK) {
		w.start = (w.start + UHMM_PMD_SIZE - 1) & UHMM_PMD_MASK;
		w.npages = npages;
		if (huge)
			err = uhmm_madvise(w.mm, w.start, bytes, MADV_HUGEPAGE);
		if (!err)
			err = bench_touch(&w, 0, npages);
	}
	for (int i = -1; i < ITERATIONS && status == TOOL_OK && !err; i++) {
		err = timed(&w, UHMM_MIRROR_MIGRATE_TO_DEV, buf, &off, i, costs);
		if (!err)
			err = timed(&w, UHMM_MIRROR_MIGRATE_TO_SYS, buf, NULL, i, costs);
		if (!err)
			err = timed(&w, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, buf, &on, i, costs);
		if (!err)
			err = timed(&w, UHMM_MIRROR_MIGRATE_TO_SYS, buf, NULL, i, costs);
	}
	if (err)
		status = bench_failed("migration", err);
	if (status == TOOL_OK)
		print_ways(t, bytes, huge, &off, &on);
	bench_world_close(&w);
	free(buf);
	return status;
}

static int claim_throughput(const struct bench *b, const struct uhmm_costs *costs)
{
	static const uint64_t quarters[] = { 1, 2, 4, 8, 16, 32, 512 };
	static const char *const head[] = { "",	      "off, GB/s", "on, GB/s", "faster by",
					    "spread", "within",	   "modelled" };
	struct tool_table *t = tool_table_new(7);
	int status = TOOL_OK;

	for (int i = 0; i < 7; i++)
		tool_cell(t, "%s", head[i]);
	for (int i = 0; i < (b->quick ? 5 : 7) && status == TOOL_OK; i++) {
		uint64_t bytes = quarters[i] * UHMM_PMD_SIZE / 4;

		status = benchmark(bytes, true, t, costs);
		if (status == TOOL_OK)
			status = benchmark(bytes, false, t, costs);
	}
	if (status == TOOL_OK) {
		printf("\nTo the device, by migrate_vma_setup() (off) and by the combined walk (on), "
		       "and read\nback from there as the test driver does; medians of %d.\n",
		       ITERATIONS);
		tool_table_print(t, stdout, 2);
	}
	tool_table_free(t);
	return status;
}

int bench_claims(const struct bench *b)
{
	struct uhmm_costs *costs;
	double dram_ns;
	int status, err = uhmm_costs_create(&costs);

	if (err)
		return bench_failed("cost table", err);
	status = bench_dependent_read(&dram_ns);
	if (status == TOOL_OK)
		status = claim_walks(costs, dram_ns);
	if (status == TOOL_OK)
		status = claim_throughput(b, costs);
	uhmm_costs_destroy(costs);
	return status;
}
