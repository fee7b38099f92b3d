/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bench_pair.h - accesses of one thread or two, measured while two CPUs are free.
 */
#ifndef UHMM_TOOLS_BENCH_PAIR_H
#define UHMM_TOOLS_BENCH_PAIR_H

#include "bench.h"

enum { BENCH_PAIR = 2 };

/* What a thread does: so many accesses of 8 bytes, each @stride further on. */
struct bench_work {
	struct uhmm_machine *m;
	struct uhmm_mm *mm;
	uhmm_vaddr_t addr;
	uint64_t stride, nr;
	bool read;
};

/** bench_pair_possible() - this process may use two CPUs. */
bool bench_pair_possible(void);

/** bench_pair_begin() - of a round: bench_pair_rate() waits for two CPUs for some seconds from now on. */
void bench_pair_begin(struct bench *b);

/**
 * bench_pair_rate() - accesses per ns of @n threads at once, the i-th with work[i] on a CPU of its own.
 *
 * Waits until both CPUs are free. *@rate is 0 if they were not until b->pair_deadline, and nothing was
 * done then; or no longer were after it. Returns: TOOL_OK, or TOOL_USAGE after a message.
 */
int bench_pair_rate(struct bench *b, const struct bench_work *work, unsigned int n, double *rate);

/**
 * bench_pair_outdated() - the CPUs turned out to be faster than what was taken for free until now.
 *
 * Then what was measured until now is of CPUs that were not free. It says so once.
 */
bool bench_pair_outdated(struct bench *b);

#endif
