// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_fault.c - CPU faults, unmapping, the memory they take, and two threads of them.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "tool.h"

enum { NR_THREADS = 2 };

static uint64_t working_set(const struct bench *b)
{
	return b->quick ? BENCH_PAGES_1G / 4 : BENCH_PAGES_1G;
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

/* ---- threads ---- */

struct thread {
	struct bench_world *w;
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned int cpu;
	uint64_t first, npages;
	struct bench_timer began, ended;
	int err;
};

/* Faults per ns; 0 if something went wrong. */
struct rate {
	double wall, cpu;
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

static void start_thread(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	if (!pthread_create(thread, NULL, fn, arg))
		return;
	/* Others wait for it: there is no way back. */
	tool_error("cannot start a thread");
	exit(TOOL_USAGE);
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
	t->began = bench_start();
	t->err = bench_touch(t->w, t->first, t->npages);
	t->ended = bench_start();
	uhmm_task_leave();
	uhmm_task_destroy(task);
	return NULL;
}

static struct rate rate_of(const struct thread *threads, unsigned int n)
{
	uint64_t began = UINT64_MAX, ended = 0;
	struct rate rate = { 0 };
	int err = 0;

	for (unsigned int i = 0; i < n; i++) {
		const struct thread *t = &threads[i];

		if (t->began.wall < began)
			began = t->began.wall;
		if (t->ended.wall > ended)
			ended = t->ended.wall;
		rate.cpu += (double)t->npages / (double)(t->ended.cpu - t->began.cpu);
		rate.wall += (double)t->npages;
		err = err ? err : t->err;
	}
	rate.wall /= (double)(ended - began);
	if (!err)
		return rate;
	bench_failed("thread", err);
	return (struct rate){ 0 };
}

/* Of @n threads, each in a part of its own. */
static struct rate thread_rate(struct bench_world *w, unsigned int n)
{
	uint64_t part = w->npages / NR_THREADS;
	struct thread threads[NR_THREADS];
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, n);
	for (unsigned int i = 0; i < n; i++) {
		threads[i] = (struct thread){
			.w = w, .barrier = &barrier, .cpu = i, .first = i * part, .npages = part
		};
		start_thread(&threads[i].thread, thread_main, &threads[i]);
	}
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	return rate_of(threads, n);
}

enum { RATE_FRESH, RATE_REUSED, RATE_VMAS, NR_RATES };

/* In a fresh machine; with the memory that it then has; and with a VMA for each part. */
static int thread_rates(struct bench *b, unsigned int n, struct rate rates[NR_RATES])
{
	struct bench_world w;
	int err, status = bench_world_open(&w, 2 * working_set(b), false);

	for (int i = 0; i < NR_RATES && status == TOOL_OK; i++) {
		err = i == RATE_FRESH ? 0 : drop_pages(&w);
		if (!err && i == RATE_VMAS)
			err = uhmm_madvise(w.mm, w.start, w.npages / 2 << UHMM_PAGE_SHIFT,
					   MADV_DONTFORK);
		if (err) {
			status = bench_failed("madvise", err);
			break;
		}
		rates[i] = thread_rate(&w, n);
		status = rates[i].wall > 0 ? TOOL_OK : TOOL_USAGE;
	}
	bench_world_close(&w);
	return status;
}

/* ---- threads that share nothing of the model: what the machine gives at best ---- */

struct apart {
	pthread_t thread;
	struct thread part[2]; /* RATE_FRESH, RATE_REUSED */
};

static void *apart_main(void *arg)
{
	struct apart *a = arg;
	struct bench_world w;
	int status;

	pin(a->part[0].cpu);
	status = bench_world_open(&w, a->part[0].npages, false);
	for (int i = RATE_FRESH; i <= RATE_REUSED; i++) {
		struct thread *t = &a->part[i];

		t->err = status == TOOL_OK ? 0 : -EIO;
		if (!t->err && i == RATE_REUSED)
			t->err = drop_pages(&w);
		pthread_barrier_wait(t->barrier);
		t->began = bench_start();
		if (!t->err)
			t->err = bench_touch(&w, 0, w.npages);
		t->ended = bench_start();
	}
	bench_world_close(&w);
	return NULL;
}

/* Of two threads, each in a machine of its own. */
static int rates_apart(struct bench *b, struct rate rates[2])
{
	struct thread parts[NR_THREADS];
	struct apart apart[NR_THREADS];
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, NR_THREADS);
	for (unsigned int i = 0; i < NR_THREADS; i++) {
		for (int k = RATE_FRESH; k <= RATE_REUSED; k++)
			apart[i].part[k] = (struct thread){ .barrier = &barrier,
							    .cpu = i,
							    .npages = working_set(b) };
		start_thread(&apart[i].thread, apart_main, &apart[i]);
	}
	for (unsigned int i = 0; i < NR_THREADS; i++)
		pthread_join(apart[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	for (int k = RATE_FRESH; k <= RATE_REUSED; k++) {
		for (unsigned int i = 0; i < NR_THREADS; i++)
			parts[i] = apart[i].part[k];
		rates[k] = rate_of(parts, NR_THREADS);
		if (!(rates[k].wall > 0))
			return TOOL_USAGE;
	}
	return TOOL_OK;
}

int bench_threads(struct bench *b)
{
	struct rate one[NR_RATES], two[NR_RATES], apart[2];

	if (sysconf(_SC_NPROCESSORS_ONLN) < NR_THREADS) {
		for (int id = BENCH_THREADS_FRESH; id <= BENCH_THREADS_APART_CPU; id++)
			bench_note(b, (enum bench_id)id, "needs two CPUs");
		return TOOL_OK;
	}
	if (thread_rates(b, 1, one) != TOOL_OK || thread_rates(b, NR_THREADS, two) != TOOL_OK ||
	    rates_apart(b, apart) != TOOL_OK)
		return TOOL_USAGE;
	bench_sample(b, BENCH_THREADS_FRESH, two[RATE_FRESH].wall / one[RATE_FRESH].wall);
	bench_sample(b, BENCH_THREADS_REUSED, two[RATE_REUSED].wall / one[RATE_REUSED].wall);
	bench_sample(b, BENCH_THREADS_CPU, two[RATE_REUSED].cpu / one[RATE_REUSED].cpu);
	bench_sample(b, BENCH_THREADS_VMAS, two[RATE_VMAS].cpu / one[RATE_VMAS].cpu);
	bench_sample(b, BENCH_THREADS_APART_FRESH, apart[RATE_FRESH].wall / one[RATE_FRESH].wall);
	bench_sample(b, BENCH_THREADS_APART, apart[RATE_REUSED].wall / one[RATE_REUSED].wall);
	bench_sample(b, BENCH_THREADS_APART_CPU, apart[RATE_REUSED].cpu / one[RATE_REUSED].cpu);
	return TOOL_OK;
}
