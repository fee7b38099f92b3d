// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_memory.c - what the model's structures take, and machines as large as memory allows.
 *
 * The library tells its memory by kind (uhmm_machine_memory()). Here a machine gets so many more of
 * one thing, and what it takes more is divided by their number; what the process has grown by is told
 * beside it.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "tool.h"

static const double page_budget = 50, error_budget = 5;

/* ---- bytes of each ---- */

struct state {
	struct uhmm_memory_use use;
	uint64_t resident;
};

static struct state state_of(struct uhmm_machine *m)
{
	struct state s;

	uhmm_machine_memory(m, &s.use);
	s.resident = bench_resident();
	return s;
}

static uint64_t total(const struct uhmm_memory_use *u)
{
	return u->metadata + u->page_tables + u->frames + u->contents;
}

static void cell_per(struct tool_table *t, uint64_t now, uint64_t before, uint64_t n)
{
	tool_cell(t, "%.2f", ((double)now - (double)before) / (double)n);
}

/* What is off, in percent, between what the library tells and what the process has grown by. */
static double error_of(const struct state *before, const struct state *now)
{
	double told = (double)(total(&now->use) - total(&before->use));
	double grown = (double)now->resident - (double)before->resident;

	return grown > 0 ? 100 * (told > grown ? told - grown : grown - told) / grown : 0;
}

static void print_kind(struct tool_table *t, const char *what, uint64_t n,
		       const struct state *before, const struct state *now)
{
	tool_cell(t, "%s", what);
	tool_cell_count(t, n);
	cell_per(t, now->use.page_tables, before->use.page_tables, n);
	cell_per(t, now->use.frames, before->use.frames, n);
	cell_per(t, now->use.contents, before->use.contents, n);
	cell_per(t, now->use.metadata, before->use.metadata, n);
	cell_per(t, total(&now->use), total(&before->use), n);
	cell_per(t, now->resident, before->resident, n);
}

/* Of that: its page tables, descriptors included. */
static void print_tables(struct tool_table *t, const struct uhmm_memory_use *before,
			 const struct uhmm_memory_use *now)
{
	uint64_t n = now->nr_tables - before->nr_tables;

	tool_cell(t, "... its page tables, each");
	tool_cell_count(t, n);
	cell_per(t, now->page_tables, before->page_tables, n);
	tool_table_end_row(t);
}

static bool over_budget(const struct state *before, const struct state *now, uint64_t n,
			bool device)
{
	double bytes = (double)(total(&now->use) - total(&before->use));

	return (!device && bytes > page_budget * (double)n) || error_of(before, now) > error_budget;
}

/* Pages in RAM, or on a device. Returns: TOOL_DIFF if they are over the budget. */
static int page_kinds(const struct bench *b, struct tool_table *t, bool device)
{
	uint64_t n = b->quick ? 1 << 18 : 1 << 20;
	struct state before = { .resident = 0 }, now = before;
	struct bench_world w;
	int err = 0, status = bench_world_open(&w, n, device);

	if (status == TOOL_OK) {
		before = state_of(w.m);
		err = device ? bench_to_device(&w, true) : bench_touch(&w, 0, n);
		now = state_of(w.m);
	}
	if (err)
		status = bench_failed("pages", err);
	bench_world_close(&w);
	if (status != TOOL_OK)
		return status;
	print_kind(t, device ? "4 KiB page on a device" : "4 KiB page in RAM", n, &before, &now);
	if (!device)
		print_tables(t, &before.use, &now.use);
	return over_budget(&before, &now, n, device) ? TOOL_DIFF : TOOL_OK;
}

/* VMAs without pages, and what the first page of each adds to it. */
static int vma_kinds(const struct bench *b, struct tool_table *t)
{
	uint64_t n = b->quick ? 10000 : 100000, step = 2 << UHMM_PAGE_SHIFT;
	struct state before, mapped, touched;
	struct bench_world w;
	int err = 0, status = bench_world_open(&w, 512, false);
	uhmm_vaddr_t start = 1UL << 41;

	if (status == TOOL_OK) {
		before = state_of(w.m);
		for (uint64_t i = 0; i < n && !err; i++)
			err = uhmm_mmap(w.mm, start + i * step, UHMM_PAGE_SIZE,
					PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
		mapped = state_of(w.m);
		for (uint64_t i = 0; i < n && !err; i++)
			err = uhmm_cpu_write(w.mm, start + i * step, &i, sizeof(i), NULL);
		touched = state_of(w.m);
		if (err) {
			status = bench_failed("VMAs", err);
		} else {
			print_kind(t, "VMA", n, &before, &mapped);
			print_kind(t, "... with its first page", n, &mapped, &touched);
		}
	}
	bench_world_close(&w);
	return status;
}

/* Address spaces with nothing in them. */
static int mm_kinds(const struct bench *b, struct tool_table *t)
{
	uint64_t n = b->quick ? 100 : 1000, made = 0;
	struct uhmm_mm **mms = tool_xalloc(n, sizeof(*mms));
	struct state before, now;
	struct bench_world w;
	int err = 0, status = bench_world_open(&w, 512, false);

	if (status == TOOL_OK) {
		before = state_of(w.m);
		while (made < n && !err) {
			err = uhmm_mm_create(w.m, &mms[made]);
			made += !err;
		}
		now = state_of(w.m);
		if (err)
			status = bench_failed("address spaces", err);
		else
			print_kind(t, "mm", n, &before, &now);
		while (made)
			uhmm_mmput(mms[--made]);
	}
	bench_world_close(&w);
	free(mms);
	return status;
}

int bench_memory_kinds(const struct bench *b)
{
	static const char *const head[] = { "bytes for each", "of",    "page tables", "frames",
					    "contents",	      "other", "sum",	      "resident" };
	struct tool_table *t = tool_table_new(8);
	int ram, device, status;

	for (int i = 0; i < 8; i++)
		tool_cell(t, "%s", head[i]);
	ram = page_kinds(b, t, false);
	device = ram == TOOL_USAGE ? ram : page_kinds(b, t, true);
	status = device == TOOL_USAGE ? device : vma_kinds(b, t);
	if (status == TOOL_OK)
		status = mm_kinds(b, t);
	if (status == TOOL_OK) {
		tool_table_print(t, stdout, 0);
		printf("\nframes: descriptors; contents: tags; other: allocated structures; "
		       "resident: what the\nprocess has grown by.\n");
		if (ram == TOOL_DIFF || device == TOOL_DIFF) {
			printf("Over budget: <= %g bytes for a page in RAM, within %g %% of the "
			       "resident size.\n",
			       page_budget, error_budget);
			status = TOOL_DIFF;
		}
	}
	tool_table_free(t);
	return status;
}

/* ---- as much RAM as one likes ---- */

static int check_memory(uint64_t npages)
{
	uint64_t need = npages * (uint64_t)page_budget;
	uint64_t free_bytes = bench_proc_bytes("/proc/meminfo", "MemAvailable");
	char a[TOOL_NUMBER], b[TOOL_NUMBER];

	if (!free_bytes || need <= free_bytes)
		return TOOL_OK;
	return tool_error("--populate: takes about %s of memory, of which %s are available",
			  tool_fmt_bytes(a, need), tool_fmt_bytes(b, free_bytes));
}

/* A slice at a time, so that the terminal can be told how far it is. */
static int populate(struct bench_world *w)
{
	struct tool_progress progress;
	uint64_t slice = 1 << 20;
	int err = 0;

	tool_progress_start(&progress, "populate", false);
	for (uint64_t i = 0; i < w->npages && !err; i += slice) {
		tool_progress(&progress, (double)i / (double)w->npages, i);
		err = bench_touch(w, i, slice < w->npages - i ? slice : w->npages - i);
	}
	tool_progress_end(&progress);
	return err;
}

static void print_step(const char *what, struct bench_timer t, struct bench *b, uint64_t npages)
{
	double wall = (double)(bench_wall_ns() - t.wall), cpu = bench_stop(b, t);
	char buf[TOOL_NUMBER];

	printf("%-10s %9.2f s, CPU %9.2f s, %6.2f ns a page (CPU); resident %s\n", what, wall / 1e9,
	       cpu / 1e9, cpu / (double)npages, tool_fmt_bytes(buf, bench_resident()));
	fflush(stdout);
}

static int populate_and_walk(struct bench_world *w, struct bench *b)
{
	struct bench_timer t = bench_start();
	struct uhmm_hmm_range range;
	int err = populate(w);

	if (err)
		return bench_failed("write", err);
	if (bench_expect(w, UHMM_CNT_FAULT_ANON_WRITE, w->npages) != TOOL_OK)
		return TOOL_USAGE;
	print_step("populated", t, b, w->npages);
	err = bench_range_open(w, &range);
	if (err)
		return bench_failed("notifier", err);
	bench_mark(w);
	t = bench_start();
	err = bench_range_walk(w, &range);
	uhmm_mmu_interval_notifier_remove(range.notifier);
	if (err)
		return bench_failed("hmm_range_fault", err);
	/* Present, or it would have been holes that were walked. */
	if (bench_expect(w, UHMM_CNT_READ_PTE, w->npages) != TOOL_OK)
		return TOOL_USAGE;
	print_step("walked", t, b, w->npages);
	return TOOL_OK;
}

static int unmap(struct bench_world *w, struct bench *b)
{
	struct bench_timer t = bench_start();
	int err = uhmm_munmap(w->mm, w->start, w->npages << UHMM_PAGE_SHIFT);

	if (err)
		return bench_failed("munmap", err);
	print_step("unmapped", t, b, w->npages);
	return TOOL_OK;
}

static void print_sum(struct bench_world *w)
{
	double n = (double)w->npages;
	struct uhmm_memory_use u;
	char buf[TOOL_NUMBER];

	uhmm_machine_memory(w->m, &u);
	printf("memory by the library's account: %s, %.2f bytes a page: tables %.2f, frames %.2f, "
	       "tags %.2f, other %.2f\n",
	       tool_fmt_bytes(buf, total(&u)), (double)total(&u) / n, (double)u.page_tables / n,
	       (double)u.frames / n, (double)u.contents / n, (double)u.metadata / n);
	fflush(stdout);
}

int bench_populate(uint64_t bytes)
{
	uint64_t npages = bytes >> UHMM_PAGE_SHIFT;
	static struct bench b;
	struct bench_world w;
	char buf[TOOL_NUMBER];
	int status;

	/* Whole windows of the walk. */
	if (bytes < 512 << UHMM_PAGE_SHIFT || bytes > 8UL << 40 || npages % 512)
		return tool_error("--populate: from 2M to 8T, in multiples of 2M");
	status = check_memory(npages);
	if (status != TOOL_OK)
		return status;
	status = bench_world_open_ram(&w, npages, false, bytes + (1UL << 30));
	if (status == TOOL_OK) {
		printf("%s of RAM, 4 KiB pages, tags\n", tool_fmt_bytes(buf, bytes));
		bench_mark(&w);
		status = populate_and_walk(&w, &b);
	}
	if (status == TOOL_OK) {
		print_sum(&w);
		status = unmap(&w, &b);
	}
	if (status == TOOL_OK)
		printf("peak resident size %s\n",
		       tool_fmt_bytes(buf, bench_proc_bytes("/proc/self/status", "VmHWM")));
	bench_world_close(&w);
	return status;
}
