// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_pair.c - accesses of one thread or two, measured while two CPUs are free.
 *
 * How much more two threads do than one says nothing of the model where the machine has no two CPUs to
 * give: two that are halves of one core, whose other half works for another machine, or that wait for
 * their host. So both threads do arithmetic together before and after what is measured, and both must
 * take as long as one that has a core to itself; and no other program may have had their CPUs meanwhile.
 * It is the state of the machine that is looked at, never the result.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_pair.h"
#include "tool.h"

/* By so much both may be slower than the fastest seen, and have a core each all the same. */
static const double free_within = 1.1;

/* So much of the time others may have had a thread's CPU: the library's own RCU thread, the host's. */
static const double had_by_others = 0.02;

enum { SPIN_STEPS = 150000, FIRST_SPINS = 100 };

enum verdict { NOT_FREE, FREE, GIVEN_UP };

/* What both threads share. */
struct pair {
	pthread_barrier_t barrier;
	struct thread *threads;
	double fastest; /* ns of the arithmetic */
	uint64_t deadline;
	enum verdict verdict;
	atomic_uint here; /* see begin_together() */
};

struct thread {
	struct pair *pair;
	const struct bench_work *work; /* NULL: only arithmetic */
	pthread_t thread;
	unsigned int number; /* of the thread, which is its CPU in the model */
	unsigned int cpu;    /* of the host */
	double spin;	     /* ns of the arithmetic, of the last time */
	uint64_t began, ended;
	uint64_t delay; /* ns of that without a CPU that was wanted */
	int err;
};

/* ---- CPUs ---- */

/* The first CPU of the core that @cpu is of; if that cannot be read, each is a core. */
static unsigned int core_of(unsigned int cpu)
{
	unsigned int first = cpu;
	char path[80];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
		 cpu);
	f = fopen(path, "r");
	if (!f)
		return cpu;
	if (fscanf(f, "%u", &first) != 1)
		first = cpu;
	fclose(f);
	return first;
}

/* Two CPUs that this process may use, of two cores if it can be. Returns: how many there are. */
static unsigned int two_cpus(unsigned int cpus[BENCH_PAIR])
{
	unsigned int n = 0;
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return 0;
	for (unsigned int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &allowed))
			continue;
		if (n < BENCH_PAIR)
			cpus[n++] = i;
		else if (core_of(cpus[0]) == core_of(cpus[1]))
			cpus[1] = i;
		else
			break;
	}
	return n;
}

bool bench_pair_possible(void)
{
	unsigned int cpus[BENCH_PAIR];

	return two_cpus(cpus) == BENCH_PAIR;
}

static void pin(unsigned int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

/*
 * ns that some arithmetic takes. Its six chains do not depend on each other: it needs most of what a core
 * can do in a cycle, so that another thread on the same core shows.
 */
static double spin(void)
{
	uint64_t began = bench_wall_ns(), v[6] = { 1, 2, 3, 4, 5, 6 };
	volatile uint64_t sink;

	for (uint64_t i = 0; i < SPIN_STEPS; i++) {
		v[0] += v[0] << 1 ^ i;
		v[1] += v[1] << 1 ^ i;
		v[2] += v[2] << 1 ^ i;
		v[3] += v[3] << 1 ^ i;
		v[4] += v[4] << 1 ^ i;
		v[5] += v[5] << 1 ^ i;
	}
	sink = v[0] ^ v[1] ^ v[2] ^ v[3] ^ v[4] ^ v[5];
	(void)sink;
	return (double)(bench_wall_ns() - began);
}

/* ---- the threads ---- */

/* A barrier wakes one thread later than the other: too late for what takes a few milliseconds or less. */
static void begin_together(struct pair *p)
{
	unsigned int all = atomic_fetch_add(&p->here, 1) / BENCH_PAIR * BENCH_PAIR + BENCH_PAIR;

	while (atomic_load(&p->here) < all)
		;
}

static bool undisturbed(const struct thread *t)
{
	return (double)t->delay <= had_by_others * (double)(t->ended - t->began);
}

static bool both_free(const struct pair *p)
{
	return fmax(p->threads[0].spin, p->threads[1].spin) <= free_within * p->fastest;
}

/* Both threads do arithmetic at once until both have a core, or the time is up. */
static enum verdict wait_until_free(struct thread *t)
{
	struct pair *p = t->pair;

	do {
		begin_together(p);
		t->spin = spin();
		pthread_barrier_wait(&p->barrier);
		if (!t->number)
			p->verdict = both_free(p)		      ? FREE
				     : bench_wall_ns() >= p->deadline ? GIVEN_UP
								      : NOT_FREE;
		pthread_barrier_wait(&p->barrier);
	} while (p->verdict == NOT_FREE);
	return p->verdict;
}

/* ns that the calling thread would have run, had another not had its CPU; 0 where the host does not say. */
static uint64_t run_delay(void)
{
	FILE *f = fopen("/proc/thread-self/schedstat", "r");
	unsigned long long delay = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%*u %llu", &delay) != 1)
		delay = 0;
	fclose(f);
	return delay;
}

static int do_work(const struct bench_work *w)
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
	struct uhmm_task *task = NULL;
	bool works;

	pin(t->cpu);
	if (t->work)
		t->err = uhmm_task_create(t->work->m, t->work->mm, t->number, "bench", &task);
	works = wait_until_free(t) == FREE && task;
	begin_together(t->pair);
	if (works) {
		uint64_t before = run_delay();

		uhmm_task_enter(task);
		t->began = bench_wall_ns();
		t->err = do_work(t->work);
		t->ended = bench_wall_ns();
		t->delay = run_delay() - before;
		uhmm_task_leave();
	}
	pthread_barrier_wait(&t->pair->barrier);
	begin_together(t->pair);
	t->spin = spin();
	if (task)
		uhmm_task_destroy(task);
	return NULL;
}

static void run_threads(struct pair *p)
{
	unsigned int cpus[BENCH_PAIR] = { 0 };

	two_cpus(cpus);
	pthread_barrier_init(&p->barrier, NULL, BENCH_PAIR);
	for (unsigned int i = 0; i < BENCH_PAIR; i++) {
		struct thread *t = &p->threads[i];

		t->pair = p;
		t->number = i;
		t->cpu = cpus[i];
		if (!pthread_create(&t->thread, NULL, thread_main, t))
			continue;
		/* Others wait for it: there is no way back. */
		tool_error("cannot start a thread");
		exit(TOOL_USAGE);
	}
	for (unsigned int i = 0; i < BENCH_PAIR; i++)
		pthread_join(p->threads[i].thread, NULL);
	pthread_barrier_destroy(&p->barrier);
}

/* Of threads that all did their work. */
static double rate_of(const struct thread *threads, unsigned int n)
{
	uint64_t began = UINT64_MAX, ended = 0, nr = 0;

	for (unsigned int i = 0; i < n; i++) {
		const struct thread *t = &threads[i];

		began = t->began < began ? t->began : began;
		ended = t->ended > ended ? t->ended : ended;
		nr += t->work->nr;
	}
	return (double)nr / (double)(ended - began);
}

int bench_pair_rate(struct bench *b, const struct bench_work *work, unsigned int n, double *rate)
{
	struct thread threads[BENCH_PAIR] = { 0 };
	struct pair p = { .threads = threads,
			  .fastest = b->fastest_spin,
			  .deadline = b->pair_deadline };

	*rate = 0;
	for (unsigned int i = 0; i < n; i++)
		threads[i].work = &work[i];
	run_threads(&p);
	for (unsigned int i = 0; i < n; i++) {
		if (threads[i].err)
			return bench_failed("thread", threads[i].err);
	}
	if (p.verdict == FREE && both_free(&p) && undisturbed(&threads[0]) &&
	    undisturbed(&threads[1]))
		*rate = rate_of(threads, n);
	b->fastest_spin = fmin(b->fastest_spin, fmin(threads[0].spin, threads[1].spin));
	return TOOL_OK;
}

void bench_pair_begin(struct bench *b)
{
	static const uint64_t patience = 10000000000, quick_patience = 1000000000;

	for (int i = 0; i < FIRST_SPINS && !b->round; i++) {
		double ns = spin();

		b->fastest_spin = b->fastest_spin ? fmin(b->fastest_spin, ns) : ns;
		b->judged_by_spin = b->fastest_spin;
	}
	b->pair_deadline = bench_wall_ns() + (b->quick ? quick_patience : patience);
}

bool bench_pair_outdated(struct bench *b)
{
	if (b->judged_by_spin <= free_within * b->fastest_spin)
		return false;
	b->judged_by_spin = b->fastest_spin;
	return true;
}
