// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_threads.c - two threads against one: where they share nothing, a machine, an address space, page
 * tables, a page, and a folio that both want.
 */
#include <sys/mman.h>

#include "bench.h"
#include "bench_pair.h"
#include "tool.h"

/* What one thread or two do. All but what is FRESH is done in memory that was used before. */
enum what {
	FRESH,	      /* write to each page of a half of one mapping */
	APART_FRESH,  /* ... of a mapping in a machine of its own: what the host gives at best */
	REUSED,	      /* as FRESH */
	APART_REUSED, /* as APART_FRESH */
	TWO_VMAS,     /* as REUSED, but the halves are VMAs of their own */
	TWO_MMS,      /* ... a mapping in an mm of its own */
	ONE_TABLE,    /* ... every other page of one mapping */
	ONE_PAGE,     /* ... the same page, which is present */
	ONE_FOLIO,    /* read each page of one mapping, all of which is on the device */
};

static bool is_fresh(enum what what)
{
	return what == FRESH || what == APART_FRESH;
}

struct pair_figure {
	enum bench_id id;
	enum what what, one; /* of two threads, and of the one that they are compared with */
};

/* In this order, those with a budget and what they are compared with first. */
static const struct pair_figure pair_figures[] = {
	{ BENCH_THREADS_REUSED, REUSED, REUSED },
	{ BENCH_THREADS_APART, APART_REUSED, REUSED },
	{ BENCH_THREADS_FRESH, FRESH, FRESH },
	{ BENCH_THREADS_APART_FRESH, APART_FRESH, FRESH },
	{ BENCH_THREADS_VMAS, TWO_VMAS, TWO_VMAS },
	{ BENCH_THREADS_MMS, TWO_MMS, REUSED },
	{ BENCH_THREADS_TABLE, ONE_TABLE, REUSED },
	{ BENCH_THREADS_PAGE, ONE_PAGE, ONE_PAGE },
	{ BENCH_THREADS_FOLIO, ONE_FOLIO, ONE_FOLIO },
};

enum { NR_PAIR_FIGURES = sizeof(pair_figures) / sizeof(pair_figures[0]) };

/* ---- where it is done ---- */

struct worlds {
	struct bench_world one;	   /* a mapping with a half for each thread */
	struct uhmm_mm *second;	   /* of the same machine: so many pages are mapped there, too */
	struct bench_world device; /* a smaller mapping and a device */
	struct bench_world apart[BENCH_PAIR];
};

/* Opened, but not entered: the worlds take turns. */
static int open_world(struct bench_world *w, uint64_t npages, bool device)
{
	int status = bench_world_open(w, npages, device);

	if (uhmm_task_current())
		uhmm_task_leave();
	return status;
}

static int open_one(struct bench *b, struct worlds *w)
{
	return open_world(&w->one, BENCH_PAIR * bench_working_set(b), false);
}

static int open_apart(struct bench *b, struct worlds *w)
{
	int status = TOOL_OK;

	for (unsigned int i = 0; i < BENCH_PAIR && status == TOOL_OK; i++)
		status = open_world(&w->apart[i], bench_working_set(b), false);
	return status;
}

static int open_second(struct worlds *w)
{
	int err;

	uhmm_task_enter(w->one.task);
	err = uhmm_mm_create(w->one.m, &w->second);
	err = err ? err
		  : uhmm_mmap(w->second, w->one.start, w->one.npages << UHMM_PAGE_SHIFT,
			      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL,
			      0, NULL);
	uhmm_task_leave();
	return err ? bench_failed("a second address space", err) : TOOL_OK;
}

static int touch(struct bench_world *w)
{
	int err;

	uhmm_task_enter(w->task);
	err = bench_touch(w, 0, w->npages);
	uhmm_task_leave();
	return err ? bench_failed("to write to each page", err) : TOOL_OK;
}

static int there_and_home(struct bench_world *w)
{
	int err;

	uhmm_task_enter(w->task);
	err = bench_to_device(w, true);
	err = err ? err : bench_read(w);
	uhmm_task_leave();
	return err ? bench_failed("to the device and home", err) : TOOL_OK;
}

/* All of them, with memory that was used before. */
static int open_used(struct bench *b, struct worlds *w)
{
	int status = open_one(b, w);

	if (status == TOOL_OK)
		status = touch(&w->one);
	if (status == TOOL_OK)
		status = open_second(w);
	if (status == TOOL_OK)
		status = open_apart(b, w);
	for (unsigned int i = 0; i < BENCH_PAIR && status == TOOL_OK; i++)
		status = touch(&w->apart[i]);
	if (status == TOOL_OK)
		status = open_world(&w->device, bench_working_set(b) / 4, true);
	return status == TOOL_OK ? there_and_home(&w->device) : status;
}

static void close_worlds(struct worlds *w)
{
	if (w->second)
		uhmm_mmput(w->second);
	bench_world_close(&w->one);
	bench_world_close(&w->device);
	for (unsigned int i = 0; i < BENCH_PAIR; i++)
		bench_world_close(&w->apart[i]);
}

/* ---- before, and what ---- */

/* Nothing is mapped in @w->one but what @what wants there. */
static int prepare_one(struct worlds *w, enum what what)
{
	struct bench_world *one = &w->one;
	size_t bytes = one->npages << UHMM_PAGE_SHIFT;
	int err = bench_drop(one);

	err = err ? err : uhmm_madvise(w->second, one->start, bytes, MADV_DONTNEED);
	/* That makes VMAs of the halves, or one of them again. */
	err = err ? err
		  : uhmm_madvise(one->mm, one->start, bytes / BENCH_PAIR,
				 what == TWO_VMAS ? MADV_DONTFORK : MADV_DOFORK);
	return err || what != ONE_PAGE ? err : bench_touch(one, 0, 1);
}

static int prepare_in(struct worlds *w, struct bench_world *in, enum what what)
{
	int err;

	uhmm_task_enter(in->task);
	if (what == ONE_FOLIO)
		err = bench_to_device(in, true);
	else
		err = what == APART_REUSED ? bench_drop(in) : prepare_one(w, what);
	uhmm_task_leave();
	return err ? bench_failed("to prepare a mapping", err) : TOOL_OK;
}

/* Where the i-th thread does it. */
static struct bench_world *world_of(struct worlds *w, enum what what, unsigned int i)
{
	if (what == APART_FRESH || what == APART_REUSED)
		return &w->apart[i];
	return what == ONE_FOLIO ? &w->device : &w->one;
}

static int prepare(struct worlds *w, enum what what)
{
	struct bench_world *first = world_of(w, what, 0), *second = world_of(w, what, 1);
	int status = TOOL_OK;

	if (!is_fresh(what)) {
		status = prepare_in(w, first, what);
		if (status == TOOL_OK && second != first)
			status = prepare_in(w, second, what);
	}
	bench_mark(first);
	bench_mark(second);
	return status;
}

/* What the i-th thread does. */
static struct bench_work work_of(struct bench *b, struct worlds *w, enum what what, unsigned int i)
{
	const struct bench_world *in = world_of(w, what, i);
	struct bench_work work = { .m = in->m,
				   .mm = what == TWO_MMS && i ? w->second : in->mm,
				   .addr = in->start,
				   .stride = what == ONE_PAGE ? 0 : UHMM_PAGE_SIZE,
				   .nr = bench_working_set(b),
				   .read = what == ONE_FOLIO };

	if (what == ONE_FOLIO)
		work.nr = in->npages;
	if (what == FRESH || what == REUSED || what == TWO_VMAS)
		work.addr += i * work.nr * UHMM_PAGE_SIZE;
	if (what == ONE_TABLE) {
		work.addr += i * UHMM_PAGE_SIZE;
		work.stride *= BENCH_PAIR;
	}
	return work;
}

/* The model's counters must say that it was done. */
static int check(struct worlds *w, enum what what, unsigned int n, uint64_t nr)
{
	struct bench_world *first = world_of(w, what, 0), *second = world_of(w, what, 1);
	int status;

	if (what == ONE_FOLIO)
		return bench_expect(first, UHMM_CNT_MIGRATED_TO_RAM, nr);
	if (what == ONE_PAGE)
		return bench_expect(first, UHMM_CNT_FAULT_ANON_WRITE, 0);
	if (second == first)
		return bench_expect(first, UHMM_CNT_FAULT_ANON_WRITE, n * nr);
	status = bench_expect(first, UHMM_CNT_FAULT_ANON_WRITE, nr);
	return status == TOOL_OK ? bench_expect(second, UHMM_CNT_FAULT_ANON_WRITE, nr) : status;
}

/* ---- the probe ---- */

/* *@rate: accesses per ns; 0 if the CPUs were not free, or did not stay so. */
static int rate_once(struct bench *b, struct worlds *w, enum what what, unsigned int n,
		     double *rate)
{
	struct bench_work work[BENCH_PAIR];
	int status = prepare(w, what);

	if (status != TOOL_OK)
		return status;
	for (unsigned int i = 0; i < n; i++)
		work[i] = work_of(b, w, what, i);
	status = bench_pair_rate(b, work, n, rate);
	return status == TOOL_OK && *rate > 0 ? check(w, what, n, work[0].nr) : status;
}

static int rate_fresh(struct bench *b, enum what what, unsigned int n, double *rate)
{
	struct worlds fresh = { 0 };
	int status = what == FRESH ? open_one(b, &fresh) : open_apart(b, &fresh);

	if (status == TOOL_OK)
		status = rate_once(b, &fresh, what, n, rate);
	close_worlds(&fresh);
	return status;
}

/* Again if the CPUs did not stay free. *@rate 0: they were not, for as long as this round waits. */
static int rate_of(struct bench *b, struct worlds *used, enum what what, unsigned int n,
		   double *rate)
{
	int status;

	do
		status = is_fresh(what) ? rate_fresh(b, what, n, rate)
					: rate_once(b, used, what, n, rate);
	while (status == TOOL_OK && !*rate && bench_wall_ns() < b->pair_deadline);
	return status;
}

/*
 * Once what is measured next, so that both CPUs have done it before, and page tables that wait for the
 * end of a grace period are there in plenty. *@warm: it could be done.
 */
static int warm_up(struct bench *b, struct worlds *used, bool *warm)
{
	double apart, one = 0;
	int status = rate_of(b, used, APART_REUSED, BENCH_PAIR, &apart);

	if (status == TOOL_OK)
		status = rate_of(b, used, REUSED, BENCH_PAIR, &one);
	*warm = apart > 0 && one > 0;
	return status;
}

static int measure_figure(struct bench *b, struct worlds *used, const struct pair_figure *f)
{
	double one, two;

	if (rate_of(b, used, f->one, 1, &one) != TOOL_OK ||
	    rate_of(b, used, f->what, BENCH_PAIR, &two) != TOOL_OK)
		return TOOL_USAGE;
	/* Both read all pages, so that each is wanted twice and moved once. */
	if (f->what == ONE_FOLIO)
		two /= BENCH_PAIR;
	if (one > 0 && two > 0)
		bench_sample(b, f->id, two / one);
	return TOOL_OK;
}

int bench_threads(struct bench *b)
{
	struct worlds used = { 0 };
	bool warm = false;
	int status;

	if (!bench_pair_possible()) {
		for (int i = 0; i < NR_PAIR_FIGURES; i++)
			bench_note(b, pair_figures[i].id, "needs two CPUs");
		return TOOL_OK;
	}
	status = open_used(b, &used);
	bench_pair_begin(b);
	if (status == TOOL_OK)
		status = warm_up(b, &used, &warm);
	for (int i = 0; i < NR_PAIR_FIGURES && status == TOOL_OK && warm; i++)
		status = measure_figure(b, &used, &pair_figures[i]);
	close_worlds(&used);
	if (bench_pair_outdated(b)) {
		for (int i = 0; i < NR_PAIR_FIGURES; i++)
			b->nr[pair_figures[i].id] = 0;
	}
	for (int i = 0; i < NR_PAIR_FIGURES; i++) {
		enum bench_id id = pair_figures[i].id;

		if (b->nr[id] <= b->round)
			bench_note(b, id, "two CPUs were free in %u of %u rounds", b->nr[id],
				   b->round + 1);
	}
	return status;
}
