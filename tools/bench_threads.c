// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_threads.c - two threads against one: where they share nothing, a machine, an address space, page
 * tables, a page, and a folio that both want.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "tool.h"

enum { NR_THREADS = 2 };

/* What a thread does: so many accesses of 8 bytes, each @stride further on. */
struct work {
	struct uhmm_machine *m;
	struct uhmm_mm *mm;
	uhmm_vaddr_t addr;
	uint64_t stride, nr;
	bool read;
};

struct thread {
	struct work work;
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned int cpu;
	struct bench_timer began, ended;
	int err;
};

/* Accesses per ns; 0 if something went wrong. */
struct rate {
	double wall, cpu;
};

/* CPUs that this process may use. */
static unsigned int nr_allowed(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) ? 0
							       : (unsigned int)CPU_COUNT(&allowed);
}

/* To CPU @cpu of those this process may use. */
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

static int do_work(const struct work *w)
{
	uhmm_vaddr_t addr = w->addr;
	uint64_t word;
	int err = 0;

	if (w->read)
		for (uint64_t i = 0; i < w->nr && !err; i++, addr += w->stride)
			err = uhmm_cpu_read(w->mm, addr, &word, sizeof(word), NULL);
	else
		for (uint64_t i = 0; i < w->nr && !err; i++, addr += w->stride)
			err = uhmm_cpu_write(w->mm, addr, &addr, sizeof(addr), NULL);
	return err;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct uhmm_task *task;

	pin(t->cpu);
	t->err = uhmm_task_create(t->work.m, t->work.mm, t->cpu, "bench", &task);
	pthread_barrier_wait(t->barrier);
	if (t->err)
		return NULL;
	uhmm_task_enter(task);
	t->began = bench_start();
	t->err = do_work(&t->work);
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
		rate.cpu += (double)t->work.nr / (double)(t->ended.cpu - t->began.cpu);
		rate.wall += (double)t->work.nr;
		err = err ? err : t->err;
	}
	rate.wall /= (double)(ended - began);
	if (!err)
		return rate;
	bench_failed("thread", err);
	return (struct rate){ 0 };
}

/* Of @n threads, the i-th with work[i]. 0: it failed, and that was said. */
static struct rate rate_together(const struct work *work, unsigned int n)
{
	struct thread threads[NR_THREADS];
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, n);
	for (unsigned int i = 0; i < n; i++) {
		threads[i] = (struct thread){ .work = work[i], .barrier = &barrier, .cpu = i };
		if (!pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]))
			continue;
		/* Others wait for it: there is no way back. */
		tool_error("cannot start a thread");
		exit(TOOL_USAGE);
	}
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	return rate_of(threads, n);
}

/* The same in one machine, which must have counted @expected of @counter then. */
static int measure(struct bench_world *w, const struct work *work, unsigned int n,
		   enum uhmm_counter counter, uint64_t expected, struct rate *rate)
{
	bench_mark(w);
	*rate = rate_together(work, n);
	return rate->wall > 0 ? bench_expect(w, counter, expected) : TOOL_USAGE;
}

/* ---- in one address space ---- */

static struct work whole_of(const struct bench_world *w, struct uhmm_mm *mm)
{
	return (struct work){
		.m = w->m, .mm = mm, .addr = w->start, .stride = UHMM_PAGE_SIZE, .nr = w->npages
	};
}

/* Whose pages a thread takes: a half of the mapping, or every other page of it. */
static struct work part_of(const struct bench_world *w, unsigned int i, bool halves)
{
	uint64_t nr = w->npages / NR_THREADS;

	return (struct work){ .m = w->m,
			      .mm = w->mm,
			      .addr = w->start + (halves ? i * nr : i) * UHMM_PAGE_SIZE,
			      .stride = (halves ? 1 : NR_THREADS) * UHMM_PAGE_SIZE,
			      .nr = nr };
}

/* What comes before a measurement: all pages are dropped, and the parts get VMAs of their own. */
static int prepare(struct bench_world *w, bool drop, bool vmas)
{
	int err = drop ? bench_drop(w) : 0;

	if (!err && vmas)
		err = uhmm_madvise(w->mm, w->start, w->npages / NR_THREADS << UHMM_PAGE_SHIFT,
				   MADV_DONTFORK);
	return err ? bench_failed("madvise", err) : TOOL_OK;
}

enum { RATE_FRESH, RATE_REUSED, RATE_TABLE, RATE_VMAS, RATE_PAGE, NR_RATES };

/* One after the other in one machine, whose memory is new for the first alone. */
static int rates_in_mm(struct bench *b, unsigned int n, struct rate rates[NR_RATES])
{
	struct bench_world w;
	int status = bench_world_open(&w, NR_THREADS * bench_working_set(b), false);

	for (int k = 0; k < NR_RATES && status == TOOL_OK; k++) {
		struct work work[NR_THREADS];

		status = prepare(&w, k != RATE_FRESH && k != RATE_PAGE, k == RATE_VMAS);
		if (status != TOOL_OK)
			break;
		for (unsigned int i = 0; i < n; i++) {
			work[i] = part_of(&w, k == RATE_PAGE ? 0 : i, k != RATE_TABLE);
			if (k == RATE_PAGE)
				work[i].stride = 0;
		}
		status = measure(&w, work, n, UHMM_CNT_FAULT_ANON_WRITE,
				 k == RATE_PAGE ? 0 : n * work[0].nr, &rates[k]);
	}
	bench_world_close(&w);
	return status;
}

/* ---- a folio that both want: each reads every page of a mapping that is on the device ---- */

static int rate_wanted(struct bench *b, unsigned int n, struct rate *rate)
{
	struct work work[NR_THREADS];
	struct bench_world w;
	int err, status = bench_world_open(&w, bench_working_set(b) / 4, true);

	if (status == TOOL_OK) {
		err = bench_to_device(&w, true);
		if (err)
			status = bench_failed("to the device", err);
	}
	if (status == TOOL_OK) {
		for (unsigned int i = 0; i < n; i++) {
			work[i] = whole_of(&w, w.mm);
			work[i].read = true;
		}
		status = measure(&w, work, n, UHMM_CNT_MIGRATED_TO_RAM, w.npages, rate);
	}
	bench_world_close(&w);
	return status;
}

/* ---- each in an address space of its own, of one machine or of two ---- */

/* In a second mm with the same mapping. @rate: in memory that was used before. */
static int rate_in_two(struct bench_world *w, struct uhmm_mm *mm, struct rate *rate)
{
	struct work work[NR_THREADS] = { whole_of(w, w->mm), whole_of(w, mm) };
	size_t bytes = w->npages << UHMM_PAGE_SHIFT;
	int err = uhmm_mmap(mm, w->start, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);

	if (err)
		return bench_failed("mmap", err);
	for (int again = 0; again < 2; again++) {
		err = uhmm_madvise(mm, w->start, bytes, MADV_DONTNEED);
		if (err)
			return bench_failed("madvise", err);
		if (prepare(w, true, false) != TOOL_OK ||
		    measure(w, work, NR_THREADS, UHMM_CNT_FAULT_ANON_WRITE, NR_THREADS * w->npages,
			    rate) != TOOL_OK)
			return TOOL_USAGE;
	}
	return TOOL_OK;
}

static int rate_in_mms(struct bench *b, struct rate *rate)
{
	struct uhmm_mm *mm = NULL;
	struct bench_world w;
	int err, status = bench_world_open(&w, bench_working_set(b), false);

	if (status == TOOL_OK) {
		err = uhmm_mm_create(w.m, &mm);
		status = err ? bench_failed("a second address space", err)
			     : rate_in_two(&w, mm, rate);
	}
	if (mm)
		uhmm_mmput(mm);
	bench_world_close(&w);
	return status;
}

enum { APART_FRESH, APART_REUSED, NR_APART };

/* Nothing of the model is shared: what the machine that it runs on gives at best. */
static int rates_apart(struct bench *b, struct rate rates[NR_APART])
{
	struct bench_world w[NR_THREADS] = { 0 };
	struct work work[NR_THREADS];
	int status = TOOL_OK;

	for (unsigned int i = 0; i < NR_THREADS && status == TOOL_OK; i++) {
		status = bench_world_open(&w[i], bench_working_set(b), false);
		if (uhmm_task_current())
			uhmm_task_leave();
		work[i] = whole_of(&w[i], w[i].mm);
	}
	for (int k = 0; k < NR_APART && status == TOOL_OK; k++) {
		for (unsigned int i = 0; i < NR_THREADS && k == APART_REUSED; i++) {
			uhmm_task_enter(w[i].task);
			if (prepare(&w[i], true, false) != TOOL_OK)
				status = TOOL_USAGE;
			uhmm_task_leave();
		}
		if (status != TOOL_OK)
			break;
		rates[k] = rate_together(work, NR_THREADS);
		status = rates[k].wall > 0 ? TOOL_OK : TOOL_USAGE;
	}
	for (unsigned int i = 0; i < NR_THREADS; i++)
		bench_world_close(&w[i]);
	return status;
}

/* ---- the probe ---- */

int bench_threads(struct bench *b)
{
	struct rate one[NR_RATES], two[NR_RATES], apart[NR_APART], wanted[NR_THREADS];
	struct rate mms = { 0 };

	if (nr_allowed() < NR_THREADS) {
		for (int id = BENCH_THREADS_FRESH; id <= BENCH_THREADS_APART_CPU; id++)
			bench_note(b, (enum bench_id)id, "needs two CPUs");
		return TOOL_OK;
	}
	if (rates_in_mm(b, 1, one) != TOOL_OK || rates_in_mm(b, NR_THREADS, two) != TOOL_OK ||
	    rate_in_mms(b, &mms) != TOOL_OK || rates_apart(b, apart) != TOOL_OK ||
	    rate_wanted(b, 1, &wanted[0]) != TOOL_OK ||
	    rate_wanted(b, NR_THREADS, &wanted[1]) != TOOL_OK)
		return TOOL_USAGE;
	bench_sample(b, BENCH_THREADS_FRESH, two[RATE_FRESH].wall / one[RATE_FRESH].wall);
	bench_sample(b, BENCH_THREADS_REUSED, two[RATE_REUSED].wall / one[RATE_REUSED].wall);
	bench_sample(b, BENCH_THREADS_CPU, two[RATE_REUSED].cpu / one[RATE_REUSED].cpu);
	bench_sample(b, BENCH_THREADS_VMAS, two[RATE_VMAS].wall / one[RATE_VMAS].wall);
	bench_sample(b, BENCH_THREADS_MMS, mms.wall / one[RATE_REUSED].wall);
	bench_sample(b, BENCH_THREADS_TABLE, two[RATE_TABLE].wall / one[RATE_REUSED].wall);
	bench_sample(b, BENCH_THREADS_PAGE, two[RATE_PAGE].wall / one[RATE_PAGE].wall);
	/* Both read all of them, so that each page is wanted twice and moved once. */
	bench_sample(b, BENCH_THREADS_FOLIO, wanted[1].wall / NR_THREADS / wanted[0].wall);
	bench_sample(b, BENCH_THREADS_APART_FRESH, apart[APART_FRESH].wall / one[RATE_FRESH].wall);
	bench_sample(b, BENCH_THREADS_APART, apart[APART_REUSED].wall / one[RATE_REUSED].wall);
	bench_sample(b, BENCH_THREADS_APART_CPU, apart[APART_REUSED].cpu / one[RATE_REUSED].cpu);
	return TOOL_OK;
}
