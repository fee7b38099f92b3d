// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_world.c - clocks, and machines to measure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"
#include "tool.h"

/* In the middle of 2 MiB: no window of 512 pages can be a huge page. */
static const uhmm_vaddr_t map_start = (1UL << 40) + UHMM_PMD_SIZE / 2;

/* ---- clocks ---- */

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

uint64_t bench_wall_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

struct bench_timer bench_start(void)
{
	struct bench_timer t;

	t.wall = bench_wall_ns();
	t.cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
	return t;
}

double bench_stop(struct bench *b, struct bench_timer t)
{
	uint64_t cpu = read_clock(CLOCK_THREAD_CPUTIME_ID) - t.cpu;

	b->cpu_ns += cpu;
	b->wall_ns += bench_wall_ns() - t.wall;
	return (double)cpu;
}

/* ---- memory of the host ---- */

uint64_t bench_proc_bytes(const char *file, const char *field)
{
	unsigned long long kib = 0;
	FILE *f = fopen(file, "r");
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		size_t n = strlen(field);

		if (!strncmp(line, field, n) && line[n] == ':') {
			kib = strtoull(line + n + 1, NULL, 10);
			break;
		}
	}
	fclose(f);
	return kib << 10;
}

uint64_t bench_resident(void)
{
	return bench_proc_bytes("/proc/self/status", "VmRSS");
}

int bench_failed(const char *what, int err)
{
	if (err > 0)
		return tool_error("%s: signal %d", what, err);
	return tool_error("%s: %s", what, strerror(-err));
}

/* ---- machines ---- */

static int open_device(struct bench_world *w)
{
	struct uhmm_device_config config = { .size = sizeof(config) };
	int err = uhmm_device_create(w->m, &config, &w->dev);

	return err ? err : uhmm_mirror_open(w->dev, w->mm, &w->mirror);
}

uint64_t bench_working_set(const struct bench *b)
{
	return b->quick ? BENCH_PAGES_1G / 4 : BENCH_PAGES_1G;
}

int bench_world_open(struct bench_world *w, uint64_t npages, bool device)
{
	return bench_world_open_ram(w, npages, device, 0);
}

int bench_world_open_ram(struct bench_world *w, uint64_t npages, bool device, uint64_t ram_bytes)
{
	struct uhmm_machine_config config = { .size = sizeof(config), .ram_bytes = ram_bytes };
	int err;

	memset(w, 0, sizeof(*w));
	w->start = map_start;
	w->npages = npages;
	err = uhmm_machine_create(&config, &w->m);
	if (err)
		return bench_failed("machine", err);
	/* The first mm needs a task to be created in. */
	err = uhmm_task_create(w->m, NULL, 0, "setup", &w->task);
	if (err)
		return bench_failed("task", err);
	uhmm_task_enter(w->task);
	err = uhmm_mm_create(w->m, &w->mm);
	uhmm_task_leave();
	uhmm_task_destroy(w->task);
	w->task = NULL;
	if (err)
		return bench_failed("address space", err);
	err = uhmm_task_create(w->m, w->mm, 0, "bench", &w->task);
	if (err)
		return bench_failed("task", err);
	uhmm_task_enter(w->task);
	err = uhmm_mmap(w->mm, w->start, npages << UHMM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	if (err)
		return bench_failed("mmap", err);
	err = device ? open_device(w) : 0;
	return err ? bench_failed("device", err) : TOOL_OK;
}

void bench_world_close(struct bench_world *w)
{
	if (w->task) {
		if (uhmm_task_current() != w->task)
			uhmm_task_enter(w->task);
		/* Nothing is left to be moved home when the device goes. */
		(void)uhmm_munmap(w->mm, w->start, w->npages << UHMM_PAGE_SHIFT);
		uhmm_mirror_close(w->mirror);
		uhmm_device_destroy(w->dev);
		uhmm_mmput(w->mm);
		uhmm_task_leave();
		uhmm_task_destroy(w->task);
	}
	uhmm_machine_destroy(w->m);
	memset(w, 0, sizeof(*w));
}

int bench_touch(struct bench_world *w, uint64_t first, uint64_t npages)
{
	uhmm_vaddr_t addr = w->start + (first << UHMM_PAGE_SHIFT);
	int err = 0;

	for (uint64_t i = 0; i < npages && !err; i++, addr += UHMM_PAGE_SIZE)
		err = uhmm_cpu_write(w->mm, addr, &addr, sizeof(addr), NULL);
	return err;
}

int bench_drop(struct bench_world *w)
{
	return uhmm_madvise(w->mm, w->start, w->npages << UHMM_PAGE_SHIFT, MADV_DONTNEED);
}

void bench_mark(struct bench_world *w)
{
	uhmm_counters_read(w->m, &w->before);
}

int bench_expect(struct bench_world *w, enum uhmm_counter c, uint64_t n)
{
	struct uhmm_counters now;
	uint64_t got;

	uhmm_counters_read(w->m, &now);
	got = now.v[c] - w->before.v[c];
	if (got == n)
		return TOOL_OK;
	return tool_error("the model did not do what is measured: %s is %llu instead of %llu",
			  uhmm_counter_name(c), (unsigned long long)got, (unsigned long long)n);
}
