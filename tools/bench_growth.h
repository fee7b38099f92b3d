/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bench_growth.h - what `uhmm bench --growth` measured, for its table and its plot. */
#ifndef UHMM_TOOLS_BENCH_GROWTH_H
#define UHMM_TOOLS_BENCH_GROWTH_H

#include <stdint.h>

enum { GROWTH_SIZES = 8, GROWTH_COSTS = 5 };

/* A kind of size. */
struct growth_kind {
	const char *unit;
	uint64_t size[GROWTH_SIZES];	/* ascending, 0 after the last */
	const char *cost[GROWTH_COSTS]; /* what is measured with it, NULL after the last */
	uint64_t bytes;			/* of memory, for each, at most */
	int (*run)(uint64_t n, double *ns);
};

struct growth {
	unsigned int nr; /* sizes measured */
	double ns[GROWTH_SIZES][GROWTH_COSTS];
};

/** bench_growth_plot() - an SVG file with a plot for each kind; an exit status. */
int bench_growth_plot(const char *file, const struct growth_kind *kinds, const struct growth *grown,
		      unsigned int n);

#endif /* UHMM_TOOLS_BENCH_GROWTH_H */
