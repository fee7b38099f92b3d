// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_growth.c - each cost against the size of the work.
 *
 * For each kind of size a ladder of sizes; on each step everything is done once with a machine of its
 * own, small ones several times. The exponent is that of the time as a power of the size, by least
 * squares over the logarithms: 1 means that each item costs the same however many there are. What
 * costs something even without items pulls it below 1; so that of the last three sizes is told, too.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "bench_growth.h"
#include "tool.h"

enum { WINDOW = 512, MIN_REPEAT = 3, MAX_REPEAT = 200 };

static const double enough_ns = 2e7; /* measured for so long, a step is not repeated any more */

/* ---- what is measured: CPU ns for all items together go to @ns ---- */

static double since(struct bench_timer t)
{
	static struct bench ignored;

	return bench_stop(&ignored, t);
}

/* A message was printed if it fails: any error does. */
static int open_world(struct bench_world *w, uint64_t npages, bool device)
{
	if (bench_world_open(w, npages, device) == TOOL_OK)
		return 0;
	bench_world_close(w);
	return -ENOMEM;
}

static int walk(struct bench_world *w, double *ns)
{
	struct uhmm_hmm_range range;
	struct bench_timer t;
	int err = bench_range_open(w, &range);

	if (err)
		return err;
	t = bench_start();
	err = bench_range_walk(w, &range);
	*ns = since(t);
	uhmm_mmu_interval_notifier_remove(range.notifier);
	return err;
}

static int grow_pages(uint64_t n, double *ns)
{
	struct bench_world w;
	struct bench_timer t;
	int err;

	/* Whole windows. */
	n = (n + WINDOW - 1) / WINDOW * WINDOW;
	if (open_world(&w, n, true))
		return -ENOMEM;
	t = bench_start();
	err = bench_touch(&w, 0, n);
	ns[0] = since(t);
	if (!err)
		err = walk(&w, &ns[1]);
	t = bench_start();
	if (!err)
		err = bench_to_device(&w, true);
	ns[2] = since(t);
	t = bench_start();
	if (!err)
		err = bench_read(&w);
	ns[3] = since(t);
	t = bench_start();
	if (!err)
		err = bench_drop(&w);
	ns[4] = since(t);
	bench_world_close(&w);
	return err;
}

/* In an order that has nothing to do with addresses; @n and the factor have no common divisor. */
static uint64_t shuffled(uint64_t i, uint64_t n)
{
	return n % 7919 ? i * 7919 % n : i;
}

static int grow_vmas(uint64_t n, double *ns)
{
	const uint64_t step = 2 << UHMM_PAGE_SHIFT;
	const uhmm_vaddr_t start = 1UL << 41;
	struct uhmm_mm *child = NULL;
	struct bench_world w;
	struct bench_timer t;
	int err = 0;

	if (open_world(&w, WINDOW, false))
		return -ENOMEM;
	t = bench_start();
	for (uint64_t i = 0; i < n && !err; i++)
		err = uhmm_mmap(w.mm, start + i * step, UHMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	ns[0] = since(t);
	t = bench_start();
	for (uint64_t i = 0; i < n && !err; i++)
		err = uhmm_cpu_write(w.mm, start + shuffled(i, n) * step, &i, sizeof(i), NULL);
	ns[1] = since(t);
	t = bench_start();
	if (!err)
		err = uhmm_mm_fork(w.mm, &child);
	ns[2] = since(t);
	t = bench_start();
	if (child)
		uhmm_mmput(child);
	ns[3] = since(t);
	t = bench_start();
	for (uint64_t i = 0; i < n && !err; i++)
		err = uhmm_munmap(w.mm, start + shuffled(i, n) * step, UHMM_PAGE_SIZE);
	ns[4] = since(t);
	bench_world_close(&w);
	return err;
}

enum { SHARED_PAGES = 512 };

/* A process with a window of pages, and so many that it has forked. */
static int grow_processes(uint64_t n, double *ns)
{
	struct uhmm_mm **children = tool_xalloc(n, sizeof(struct uhmm_mm *));
	uint64_t made = 0, word;
	struct bench_world w;
	struct bench_timer t;
	int err = open_world(&w, SHARED_PAGES, true);

	if (err) {
		free(children);
		return err;
	}
	err = bench_touch(&w, 0, SHARED_PAGES);
	t = bench_start();
	while (made < n && !err) {
		err = uhmm_mm_fork(w.mm, &children[made]);
		made += !err;
	}
	ns[0] = since(t);
	/* Every mapping of each page is found, and replaced twice. */
	t = bench_start();
	if (!err)
		err = bench_to_device(&w, false);
	ns[1] = since(t);
	t = bench_start();
	if (!err)
		err = bench_read(&w);
	ns[2] = since(t);
	t = bench_start();
	for (uint64_t i = 0; i < made && !err; i++)
		err = uhmm_cpu_read(children[i], w.start, &word, sizeof(word), NULL);
	ns[3] = since(t);
	t = bench_start();
	while (made)
		uhmm_mmput(children[--made]);
	ns[4] = since(t);
	bench_world_close(&w);
	free(children);
	return err;
}

enum { DEVICE_PAGES = 8 * WINDOW, MAX_DEVICES = 8 };

static int serve_window(struct bench_world *w, struct uhmm_mirror *mirror)
{
	return uhmm_mirror_serve(mirror, w->start, w->start + (WINDOW << UHMM_PAGE_SHIFT), true,
				 UHMM_COMBINED, NULL);
}

/* So many devices, all open for one process: each is told of every change. */
static int grow_devices(uint64_t n, double *ns)
{
	struct uhmm_device_config config = { .size = sizeof(config) };
	struct uhmm_mirror *mirror[MAX_DEVICES] = { 0 };
	struct uhmm_device *dev[MAX_DEVICES] = { 0 };
	struct bench_world w;
	struct bench_timer t;
	int err = 0;

	if (open_world(&w, DEVICE_PAGES, false))
		return -ENOMEM;
	for (uint64_t i = 0; i < n && !err; i++) {
		err = uhmm_device_create(w.m, &config, &dev[i]);
		if (!err)
			err = uhmm_mirror_open(dev[i], w.mm, &mirror[i]);
	}
	/* A window to each and home again; then to each from the one before, by way of RAM. */
	t = bench_start();
	for (uint64_t i = 0; i < n && !err; i++) {
		err = serve_window(&w, mirror[i]);
		if (!err)
			err = bench_touch(&w, 0, WINDOW);
	}
	ns[0] = since(t);
	if (!err)
		err = serve_window(&w, mirror[0]);
	t = bench_start();
	for (uint64_t i = 0; i < n && !err; i++)
		err = serve_window(&w, mirror[(i + 1) % n]);
	ns[1] = since(t);
	t = bench_start();
	if (!err)
		err = bench_touch(&w, 0, DEVICE_PAGES);
	ns[2] = since(t);
	t = bench_start();
	for (uint64_t i = 0; i < DEVICE_PAGES && !err; i++)
		err = uhmm_madvise(w.mm, w.start + (i << UHMM_PAGE_SHIFT), UHMM_PAGE_SIZE,
				   MADV_DONTNEED);
	ns[3] = since(t);
	for (uint64_t i = 0; i < n; i++) {
		uhmm_mirror_close(mirror[i]);
		uhmm_device_destroy(dev[i]);
	}
	bench_world_close(&w);
	return err;
}

static const struct growth_kind kinds[] = {
	{ "pages",
	  { 1000, 10000, 100000, 1000000, 10000000, 100000000 },
	  { "write fault", "range walk", "to the device, combined", "home by CPU faults", "unmap" },
	  150, /* bytes for each: in RAM, on the device, entered in its tables */
	  grow_pages },
	{ "VMAs",
	  { 1, 10, 100, 1000, 10000, 100000 },
	  { "mmap", "first write, shuffled", "fork", "exit of the child", "munmap, shuffled" },
	  8192,
	  grow_vmas },
	{ "processes",
	  { 1, 3, 10, 30, 100, 300, 1000 },
	  { "fork of 512 pages", "512 shared pages to a device", "those home again",
	    "read by the children", "exit" },
	  65536,
	  grow_processes },
	{ "devices",
	  { 1, 2, 3, 4, 6, 8 },
	  { "512 pages to each and home", "512 pages from device to device", "4096 write faults",
	    "4096 times MADV_DONTNEED" },
	  1 << 20,
	  grow_devices },
};

enum { NR_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- measuring ---- */

/* The least of several times, for the smallest are noise. */
static int measure(const struct growth_kind *k, uint64_t n, double *best)
{
	double spent = 0;

	for (int c = 0; c < GROWTH_COSTS; c++)
		best[c] = INFINITY;
	for (int i = 0; i < MAX_REPEAT && (i < MIN_REPEAT || spent < enough_ns); i++) {
		double ns[GROWTH_COSTS] = { 0 };
		int err = k->run(n, ns);

		if (err)
			return bench_failed(k->unit, err);
		for (int c = 0; c < GROWTH_COSTS; c++) {
			best[c] = fmin(best[c], ns[c]);
			spent += ns[c];
		}
		/* The largest take their time as it is. */
		if (spent > 50 * enough_ns)
			break;
	}
	return TOOL_OK;
}

/* Over all sizes from number @first on. */
static double exponent(const struct growth_kind *k, const struct growth *g, int c,
		       unsigned int first)
{
	double sx = 0, sy = 0, sxx = 0, sxy = 0, n = g->nr - first;

	for (unsigned int i = first; i < g->nr; i++) {
		double x = log((double)k->size[i]), y = log(g->ns[i][c]);

		sx += x;
		sy += y;
		sxx += x * x;
		sxy += x * y;
	}
	return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

static void print_kind(const struct growth_kind *k, const struct growth *g)
{
	struct tool_table *t = tool_table_new(g->nr + 3);

	tool_cell(t, "ns for each of so many %s", k->unit);
	for (unsigned int i = 0; i < g->nr; i++)
		tool_cell_count(t, k->size[i]);
	tool_cell(t, "exponent");
	tool_cell(t, "at the end");
	for (int c = 0; c < GROWTH_COSTS && k->cost[c]; c++) {
		tool_cell(t, "%s", k->cost[c]);
		for (unsigned int i = 0; i < g->nr; i++) {
			double each = g->ns[i][c] / (double)k->size[i];

			if (each < 100)
				tool_cell(t, "%.1f", each);
			else
				tool_cell_count(t, (uint64_t)llround(each));
		}
		if (g->nr > 1) {
			tool_cell(t, "%.2f", exponent(k, g, c, 0));
			tool_cell(t, "%.2f", exponent(k, g, c, g->nr > 3 ? g->nr - 3 : 0));
		}
		tool_table_end_row(t);
	}
	tool_table_print(t, stdout, 0);
	printf("\n");
	fflush(stdout);
	tool_table_free(t);
}

/* Sizes of the ladder that are measured: those that memory is there for, with a quarter to spare. */
static unsigned int nr_sizes(const struct growth_kind *k, bool quick)
{
	uint64_t room = bench_proc_bytes("/proc/meminfo", "MemAvailable") / 4 * 3;
	unsigned int n = 0;

	while (n < GROWTH_SIZES && k->size[n] && (!room || k->size[n] * k->bytes <= room))
		n++;
	return quick && n > 4 ? 4 : n;
}

int bench_growth(const struct bench *b, const char *svg)
{
	static struct growth grown[NR_KINDS];
	int status = TOOL_OK;

	if (svg && tool_check_writable(svg, TOOL_SVG))
		return TOOL_USAGE;
	for (int i = 0; i < NR_KINDS && status == TOOL_OK; i++) {
		struct growth *g = &grown[i];
		unsigned int n = nr_sizes(&kinds[i], b->quick);

		while (g->nr < n && status == TOOL_OK) {
			status = measure(&kinds[i], kinds[i].size[g->nr], g->ns[g->nr]);
			g->nr += status == TOOL_OK;
		}
		if (status == TOOL_OK)
			print_kind(&kinds[i], g);
		if (status == TOOL_OK && n < GROWTH_SIZES && kinds[i].size[n] && !b->quick)
			printf("More %s would take more than three quarters of the memory that is "
			       "available.\n\n",
			       kinds[i].unit);
	}
	if (status == TOOL_OK && svg)
		status = bench_growth_plot(svg, kinds, grown, NR_KINDS);
	return status;
}
