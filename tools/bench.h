/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench.h - what the parts of `uhmm bench` share.
 *
 * A probe measures something once a round and hands in samples of one or more figures. Probes take
 * turns, round by round, so that a change of the machine's mood touches all of them alike.
 */
#ifndef UHMM_TOOLS_BENCH_H
#define UHMM_TOOLS_BENCH_H

#include <uhmm/uhmm.h>

enum {
	BENCH_MAX_ROUNDS = 31,
	BENCH_PAGES_1G = 1 << 18,
	BENCH_PAGES_4G = 1 << 20,
};

/* In the order of the table. */
enum bench_id {
	BENCH_FAULT_FRESH,
	BENCH_FAULT_REUSED,
	BENCH_UNMAP,
	BENCH_FAULT_RANDOM,
	BENCH_WALK,
	BENCH_WALK_FAULT,
	BENCH_COMBINED_WRITE,
	BENCH_COMBINED_READ,
	BENCH_TO_RAM,
	BENCH_HUGE_COMBINED,
	BENCH_HUGE_TO_RAM,
	BENCH_PRESENT_FRESH_SEPARATE,
	BENCH_PRESENT_FRESH_COMBINED,
	BENCH_PRESENT_FRESH_RATIO,
	BENCH_PRESENT_SEPARATE,
	BENCH_PRESENT_COMBINED,
	BENCH_PRESENT_RATIO,
	BENCH_PRESENT16_SEPARATE,
	BENCH_PRESENT16_COMBINED,
	BENCH_PRESENT16_RATIO,
	BENCH_PRESENT1_SEPARATE,
	BENCH_PRESENT1_COMBINED,
	BENCH_PRESENT1_RATIO,
	BENCH_MEMORY,
	BENCH_MEMORY_ERROR,
	BENCH_THREADS_FRESH,
	BENCH_THREADS_REUSED,
	BENCH_THREADS_VMAS,
	BENCH_THREADS_MMS,
	BENCH_THREADS_TABLE,
	BENCH_THREADS_PAGE,
	BENCH_THREADS_FOLIO,
	BENCH_THREADS_APART_FRESH,
	BENCH_THREADS_APART,
	BENCH_PLAYER_BINARY,
	BENCH_PLAYER_BINARY_READ,
	BENCH_PLAYER_TEXT,
	BENCH_PLAYER_PLAY,
	BENCH_SCHED,
	BENCH_SCHED_FAULTS,
	BENCH_RUN_AGAIN,
	BENCH_RUN_ANEW,
	BENCH_CHECKERS,
	BENCH_KERNEL_FAULT,
	BENCH_KERNEL_UNMAP,
	BENCH_FLOOR_FRESH,
	BENCH_FLOOR_REUSED,
	BENCH_FLOOR_RANDOM,
	BENCH_FLOOR_WALK,
	BENCH_MEMCPY,
	BENCH_READ_SMALL,
	BENCH_READ_HUGE,
	BENCH_NR_FIGURES
};

struct bench_figure {
	const char *name; /* stable: JSON uses it */
	const char *text;
	const char *unit;
	const char *group; /* heading above it; NULL: as the one before */
	double budget;	   /* 0: none */
	bool at_least;	   /* the budget is a lower bound */
	bool checked;	   /* the budget is the checked variant's */
	int beside;	   /* enum bench_id of the kernel's figure beside it, 0: none */
	/* What the machine can do: so many bytes at the rate of memcpy, or another figure (0: none). */
	unsigned int limit_bytes;
	int limit_figure; /* enum bench_id */
	const char *note; /* of this figure in every run, NULL: none */
};

extern const struct bench_figure bench_figures[BENCH_NR_FIGURES];

struct bench {
	bool quick;
	unsigned int rounds, round; /* round counts from 0 */
	const char *trace;	    /* for the player, NULL: none given */
	double sample[BENCH_NR_FIGURES][BENCH_MAX_ROUNDS];
	unsigned int nr[BENCH_NR_FIGURES];
	char note[BENCH_NR_FIGURES][64]; /* of this run */
	uint64_t cpu_ns, wall_ns;	 /* over everything timed so far */
	/* Of bench_pair.c: ns of some arithmetic, the fastest so far and what CPUs were judged by. */
	double fastest_spin, judged_by_spin;
	uint64_t pair_deadline; /* until when this round waits for two CPUs */
};

/* One round of a probe. Returns: TOOL_OK, or TOOL_USAGE after a message. */
typedef int bench_probe_fn(struct bench *b);

bench_probe_fn bench_fault, bench_random, bench_walk, bench_combined, bench_huge, bench_present;
bench_probe_fn bench_memory, bench_threads, bench_player, bench_sched, bench_kernel, bench_limits;
bench_probe_fn bench_floor;

/** bench_sample() - hand in a sample of a figure. */
void bench_sample(struct bench *b, enum bench_id id, double value);

/** bench_note() - why a figure is missing, or what it was measured with. */
void bench_note(struct bench *b, enum bench_id id, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** bench_median() - of the samples so far; 0 if there are none. */
double bench_median(const struct bench *b, enum bench_id id, double *low, double *high);

/** bench_shuffled() - the numbers below @n in an order of @seed; to be freed. */
uint32_t *bench_shuffled(uint32_t n, uint64_t seed);

/** bench_dependent_read() - ns of one in huge pages, as a kernel's tables are; once, of half a million. */
int bench_dependent_read(double *ns);

/** bench_wall_ns() - a clock. */
uint64_t bench_wall_ns(void);

/*
 * Time of the calling thread alone: another program that takes the CPU meanwhile does not count,
 * what the kernel does for the thread does.
 */
struct bench_timer {
	uint64_t cpu, wall;
};

/** bench_start() - start the clocks. */
struct bench_timer bench_start(void);

/** bench_stop() - ns of CPU time since @t; both clocks also go into the run's totals. */
double bench_stop(struct bench *b, struct bench_timer t);

/** bench_proc_bytes() - a field such as VmRSS of a file such as /proc/self/status; 0: there is none. */
uint64_t bench_proc_bytes(const char *file, const char *field);

/** bench_resident() - resident size of this process in bytes, 0 if it cannot be had. */
uint64_t bench_resident(void);

/** bench_failed() - print that @what failed with a negative errno; returns TOOL_USAGE. */
int bench_failed(const char *what, int err);

/* ---- a machine to measure: one process with one mapping, and perhaps a device ---- */

struct bench_world {
	struct uhmm_machine *m;
	struct uhmm_mm *mm;
	struct uhmm_task *task; /* entered by the calling thread */
	struct uhmm_device *dev;
	struct uhmm_mirror *mirror;
	uhmm_vaddr_t start;
	uint64_t npages;
	struct uhmm_counters before; /* see bench_expect() */
};

/** bench_working_set() - pages of a usual mapping to measure with: 1 GiB, or a quarter with --quick. */
uint64_t bench_working_set(const struct bench *b);

/** bench_world_open() - @npages of private anonymous memory, nothing populated. */
int bench_world_open(struct bench_world *w, uint64_t npages, bool device);

/** bench_world_open_ram() - the same with so much RAM, 0: as much as is usual. */
int bench_world_open_ram(struct bench_world *w, uint64_t npages, bool device, uint64_t ram_bytes);

/** bench_world_close() - free it; also one that could not be opened. */
void bench_world_close(struct bench_world *w);

/** bench_touch() - 8 bytes written by the CPU to each of some pages; 0 or an error. */
int bench_touch(struct bench_world *w, uint64_t first, uint64_t npages);

/** bench_drop() - MADV_DONTNEED of everything; 0 or an error. */
int bench_drop(struct bench_world *w);

/** bench_to_device() - every page to the device by the combined walker, 512 a call. */
int bench_to_device(struct bench_world *w, bool write);

/** bench_read() - 8 bytes read by the CPU from each page. */
int bench_read(struct bench_world *w);

/** bench_range_open() - a range for bench_range_walk(), with a notifier, which is to be removed. */
int bench_range_open(struct bench_world *w, struct uhmm_hmm_range *range);

/** bench_range_walk_window() - one range as a driver walks it: sample, lock, walk, unlock, check. */
int bench_range_walk_window(struct uhmm_mm *mm, struct uhmm_hmm_range *range);

/** bench_range_walk() - hmm_range_fault() over every page, 512 a call; 0 or an error. */
int bench_range_walk(struct bench_world *w, struct uhmm_hmm_range *range);

/** bench_mark() - the counters from which bench_expect() counts. */
void bench_mark(struct bench_world *w);

/** bench_expect() - that since bench_mark() the machine did what is being measured, or a message. */
int bench_expect(struct bench_world *w, enum uhmm_counter c, uint64_t n);

/* ---- what is run in place of the figures; each returns an exit status ---- */

/** bench_memory_kinds() - bytes for a page, a table, a VMA, an mm, by kind. */
int bench_memory_kinds(const struct bench *b);

/** bench_populate() - so many bytes of RAM populated with 4 KiB pages, walked and unmapped. */
int bench_populate(uint64_t bytes);

/** bench_claims() - what the posted series says of itself: cycles of a walk, throughput. */
int bench_claims(const struct bench *b);

/** bench_growth() - each cost against the size of the work; @svg: a plot as well, NULL: none. */
int bench_growth(const struct bench *b, const char *svg);

/* ---- comparing with an earlier run ---- */

struct bench_old;

/** bench_old_load() - what --json wrote earlier; TOOL_USAGE after a message. */
int bench_old_load(const char *path, const struct bench *b, struct bench_old **out);

/** bench_old_compare() - print what changed; how many figures became slower. */
unsigned int bench_old_compare(const struct bench_old *old, const struct bench *b,
			       const bool *wanted);

/** bench_old_free() - NULL allowed. */
void bench_old_free(struct bench_old *old);

#endif /* UHMM_TOOLS_BENCH_H */
