// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_fault.c - CPU faults, unmapping, the memory they take, and two threads of them.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "tool.h"

enum {
	PAGES_1G = 1 << 18,
	PAGES_4G = 1 << 20,
	NR_THREADS = 2,
};

static uint64_t working_set(const struct bench *b)
{
	return b->quick ? PAGES_1G / 4 : PAGES_1G;
}

static int drop_pages(struct bench_world *w)
{
	return uhmm_madvise(w->mm, w->start, w->npages << UHMM_PAGE_SHIFT, MADV_DONTNEED);
}

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
	err = drop_pages(w);
	bench_sample(b, BENCH_UNMAP, bench_stop(b, t) / (double)w->npages);
	if (err)
		return bench_failed("madvise", err);
	return fault_all(b, w, BENCH_FAULT_REUSED);
}

int bench_fault(struct bench *b)
{
	struct bench_world w;
	int status = bench_world_open(&w, working_set(b), false);

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

static uint32_t *shuffled(uint32_t n, uint64_t seed)
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
	uint32_t *order = shuffled(PAGES_4G, b->round + 1);
	struct bench_world w;
	struct bench_timer t;
	int err, status = bench_world_open(&w, PAGES_4G, false);

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

/* Resident size of this process in bytes, 0 if it cannot be had. */
static uint64_t resident(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f)
		return 0;
	if (fscanf(f, "%*s %llu", &pages) != 1)
		pages = 0;
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int bench_memory(struct bench *b)
{
	uint64_t before = resident(), grown, sum;
	struct uhmm_memory_use use;
	struct bench_world w;
	int err, status;

	if (b->round >= 3) /* it does not vary */
		return TOOL_OK;
	status = bench_world_open(&w, PAGES_4G, false);
	if (status == TOOL_OK) {
		err = bench_touch(&w, 0, w.npages);
		if (err)
			status = bench_failed("write", err);
	}
	if (status == TOOL_OK) {
		grown = resident() - before;
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

/* ---- threads ---- */

struct thread {
	struct bench_world *w;
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned int cpu;
	uint64_t first, npages;
	uint64_t began, ended;
	int err;
};

/* To CPU @cpu of those this process may use, if there are so many. */
static void pin(unsigned int cpu)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	for (unsigned int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &allowed) || cpu--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		(void)sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct uhmm_task *task;

	pin(t->cpu);
	t->err = uhmm_task_create(t->w->m, t->w->mm, t->cpu, "bench", &task);
	pthread_barrier_wait(t->barrier);
	if (t->err)
		return NULL;
	uhmm_task_enter(task);
	t->began = bench_wall_ns();
	t->err = bench_touch(t->w, t->first, t->npages);
	t->ended = bench_wall_ns();
	uhmm_task_leave();
	uhmm_task_destroy(task);
	return NULL;
}

/* Faults per ns of @n threads, each in a part of its own; 0 after a message. */
static double thread_rate(struct bench_world *w, unsigned int n)
{
	uint64_t part = w->npages / NR_THREADS, began = UINT64_MAX, ended = 0;
	struct thread threads[NR_THREADS] = { 0 };
	pthread_barrier_t barrier;
	unsigned int started = 0;
	int err = 0;

	pthread_barrier_init(&barrier, NULL, n);
	for (unsigned int i = 0; i < n; i++) {
		threads[i] = (struct thread){
			.w = w, .barrier = &barrier, .cpu = i, .first = i * part, .npages = part
		};
		if (pthread_create(&threads[i].thread, NULL, thread_main, &threads[i])) {
			/* The others wait for it: there is no way back. */
			tool_error("cannot start a thread");
			exit(TOOL_USAGE);
		}
		started++;
	}
	for (unsigned int i = 0; i < started; i++) {
		pthread_join(threads[i].thread, NULL);
		err = err ? err : threads[i].err;
		if (threads[i].began < began)
			began = threads[i].began;
		if (threads[i].ended > ended)
			ended = threads[i].ended;
	}
	pthread_barrier_destroy(&barrier);
	if (err) {
		bench_failed("thread", err);
		return 0;
	}
	return (double)(n * part) / (double)(ended - began);
}

/* Rates in a fresh machine, and once more with the memory that it then has. */
static int thread_rates(struct bench *b, unsigned int n, double *fresh, double *reused)
{
	struct bench_world w;
	int err, status = bench_world_open(&w, 2 * working_set(b), false);

	if (status == TOOL_OK) {
		*fresh = thread_rate(&w, n);
		err = *fresh > 0 ? drop_pages(&w) : -EIO;
		*reused = err ? 0 : thread_rate(&w, n);
		status = *reused > 0 ? TOOL_OK : TOOL_USAGE;
	}
	bench_world_close(&w);
	return status;
}

int bench_threads(struct bench *b)
{
	double one[2], two[2];

	if (sysconf(_SC_NPROCESSORS_ONLN) < NR_THREADS) {
		bench_note(b, BENCH_THREADS_FRESH, "needs two CPUs");
		bench_note(b, BENCH_THREADS_REUSED, "needs two CPUs");
		return TOOL_OK;
	}
	if (thread_rates(b, 1, &one[0], &one[1]) != TOOL_OK ||
	    thread_rates(b, NR_THREADS, &two[0], &two[1]) != TOOL_OK)
		return TOOL_USAGE;
	bench_sample(b, BENCH_THREADS_FRESH, two[0] / one[0]);
	bench_sample(b, BENCH_THREADS_REUSED, two[1] / one[1]);
	return TOOL_OK;
}
