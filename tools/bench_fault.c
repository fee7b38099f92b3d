// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_fault.c - CPU faults, unmapping, and the memory they take.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "tool.h"

/* ---- sequential ---- */

static int fault_all(struct bench *b, struct bench_world *w, enum bench_id id)
{
	struct bench_timer t;
	int err;

	bench_mark(w);
	t = bench_start();
	err = bench_touch(w, 0, w->npages);
	bench_sample(b, id, bench_stop(b, t) / (double)w->npages);
	if (err)
		return bench_failed("write", err);
	return bench_expect(w, UHMM_CNT_FAULT_ANON_WRITE, w->npages);
}

static int fault_rounds(struct bench *b, struct bench_world *w)
{
	struct bench_timer t;
	int err, status = fault_all(b, w, BENCH_FAULT_FRESH);

	if (status != TOOL_OK)
		return status;
	t = bench_start();
	err = bench_drop(w);
	bench_sample(b, BENCH_UNMAP, bench_stop(b, t) / (double)w->npages);
	if (err)
		return bench_failed("madvise", err);
	return fault_all(b, w, BENCH_FAULT_REUSED);
}

int bench_fault(struct bench *b)
{
	struct bench_world w;
	int status = bench_world_open(&w, bench_working_set(b), false);

	if (status == TOOL_OK)
		status = fault_rounds(b, &w);
	bench_world_close(&w);
	return status;
}

/* ---- random order ---- */

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15UL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
	return z ^ (z >> 31);
}

uint32_t *bench_shuffled(uint32_t n, uint64_t seed)
{
	uint32_t *order = tool_xalloc(n, sizeof(*order));

	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = (uint32_t)(next_random(&seed) % (i + 1));

		order[i] = order[j];
		order[j] = i;
	}
	return order;
}

static int touch_in_order(struct bench_world *w, const uint32_t *order)
{
	int err = 0;

	for (uint64_t i = 0; i < w->npages && !err; i++) {
		uhmm_vaddr_t addr = w->start + ((uint64_t)order[i] << UHMM_PAGE_SHIFT);

		err = uhmm_cpu_write(w->mm, addr, &addr, sizeof(addr), NULL);
	}
	return err;
}

int bench_random(struct bench *b)
{
	uint32_t *order = bench_shuffled(BENCH_PAGES_4G, b->round + 1);
	struct bench_world w;
	struct bench_timer t;
	int err, status = bench_world_open(&w, BENCH_PAGES_4G, false);

	if (status == TOOL_OK) {
		bench_mark(&w);
		t = bench_start();
		err = touch_in_order(&w, order);
		bench_sample(b, BENCH_FAULT_RANDOM, bench_stop(b, t) / (double)w.npages);
		status = err ? bench_failed("write", err)
			     : bench_expect(&w, UHMM_CNT_FAULT_ANON_WRITE, w.npages);
	}
	bench_world_close(&w);
	free(order);
	return status;
}

/* ---- memory ---- */

int bench_memory(struct bench *b)
{
	uint64_t before = bench_resident(), grown, sum;
	struct uhmm_memory_use use;
	struct bench_world w;
	int err, status;

	if (b->round >= 3) /* it does not vary */
		return TOOL_OK;
	status = bench_world_open(&w, BENCH_PAGES_4G, false);
	if (status == TOOL_OK) {
		err = bench_touch(&w, 0, w.npages);
		if (err)
			status = bench_failed("write", err);
	}
	if (status == TOOL_OK) {
		grown = bench_resident() - before;
		uhmm_machine_memory(w.m, &use);
		sum = use.metadata + use.page_tables + use.frames + use.contents;
		bench_sample(b, BENCH_MEMORY, (double)sum / (double)w.npages);
		bench_note(b, BENCH_MEMORY, "tables %.2f, frames %.2f, tags %.2f, other %.2f",
			   (double)use.page_tables / (double)w.npages,
			   (double)use.frames / (double)w.npages,
			   (double)use.contents / (double)w.npages,
			   (double)use.metadata / (double)w.npages);
		if (before && grown)
			bench_sample(b, BENCH_MEMORY_ERROR,
				     100 * (sum > grown ? sum - grown : grown - sum) /
					     (double)grown);
		else
			bench_note(b, BENCH_MEMORY_ERROR, "no /proc/self/statm");
	}
	bench_world_close(&w);
	return status;
}
