// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_host.c - what the machine underneath does: the real kernel's faults, and its memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "tool.h"

static char *map(size_t size, int advice)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		tool_error("mmap: %s", strerror(errno));
		return NULL;
	}
	(void)madvise(p, size, advice);
	return p;
}

/* ---- the real kernel ---- */

static int fault_once(struct bench *b, size_t size, bool keep)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p = map(size, MADV_NOHUGEPAGE);
	double ns, n = (double)(size / page);
	struct bench_timer t;

	if (!p)
		return TOOL_USAGE;
	t = bench_start();
	for (size_t i = 0; i < size; i += page)
		((volatile char *)p)[i] = 1;
	ns = bench_stop(b, t);
	if (keep)
		bench_sample(b, BENCH_KERNEL_FAULT, ns / n);
	t = bench_start();
	munmap(p, size);
	ns = bench_stop(b, t);
	if (keep)
		bench_sample(b, BENCH_KERNEL_UNMAP, ns / n);
	return TOOL_OK;
}

int bench_kernel(struct bench *b)
{
	size_t size = b->quick ? 64UL << 20 : 256UL << 20;
	/* On a virtual machine memory that is touched for the first time costs far more. */
	int status = TOOL_OK, warm = b->round ? 1 : 3;

	while (status == TOOL_OK && warm-- > 0)
		status = fault_once(b, size, false);
	return status == TOOL_OK ? fault_once(b, size, true) : status;
}

/* ---- its memory ---- */

enum {
	COPY_BYTES = 256 << 20,
	CHASE_BITS = 22, /* lines */
	CHASE_LINE = 64, /* bytes: 256 MiB in all */
	CHASE_STEPS = 1 << 19,
};

static int copy_rate(struct bench *b)
{
	char *src = map(COPY_BYTES, MADV_HUGEPAGE), *dst = map(COPY_BYTES, MADV_HUGEPAGE);
	struct bench_timer t;
	double ns;

	if (!src || !dst)
		return TOOL_USAGE;
	memset(src, 1, COPY_BYTES);
	memset(dst, 2, COPY_BYTES);
	t = bench_start();
	memcpy(dst, src, COPY_BYTES);
	/* The copy is of use to somebody. */
	__asm__ volatile("" : : "r"(dst) : "memory");
	ns = bench_stop(b, t);
	bench_sample(b, BENCH_MEMCPY, COPY_BYTES / ns);
	munmap(src, COPY_BYTES);
	munmap(dst, COPY_BYTES);
	return TOOL_OK;
}

/* A number below 2^CHASE_BITS for another, one to one, without a pattern that hardware foresees. */
static uint32_t scatter(uint32_t n)
{
	const uint32_t mask = (1U << CHASE_BITS) - 1;

	n = (n * 0x9e3779b1U) & mask;
	n ^= n >> (CHASE_BITS / 2);
	n = (n * 0x85ebca77U) & mask;
	n ^= n >> (CHASE_BITS / 2 - 1);
	return (n * 0xc2b2ae3dU) & mask;
}

/* Lines that each hold the number of the next, in one circle through all of them. */
static int chase(struct bench *b, int advice, enum bench_id id)
{
	const uint32_t n = 1U << CHASE_BITS;
	size_t size = (size_t)n * CHASE_LINE;
	struct bench_timer t;
	char *p = map(size, advice);
	uint32_t at = scatter(0), first = at;

	if (!p)
		return TOOL_USAGE;
	for (uint32_t i = 1; i <= n; i++) {
		uint32_t next = i == n ? first : scatter(i);

		memcpy(p + (size_t)at * CHASE_LINE, &next, sizeof(next));
		at = next;
	}
	at = scatter(b->round * 7919 % n);
	t = bench_start();
	for (int i = 0; i < CHASE_STEPS; i++)
		memcpy(&at, p + (size_t)at * CHASE_LINE, sizeof(at));
	__asm__ volatile("" : : "r"(at));
	bench_sample(b, id, bench_stop(b, t) / CHASE_STEPS);
	munmap(p, size);
	return TOOL_OK;
}

int bench_dependent_read(double *ns)
{
	static struct bench own;
	int status = chase(&own, MADV_HUGEPAGE, BENCH_READ_HUGE);

	*ns = status == TOOL_OK ? own.sample[BENCH_READ_HUGE][0] : 0;
	return status;
}

int bench_limits(struct bench *b)
{
	int status = copy_rate(b);

	if (status == TOOL_OK)
		status = chase(b, MADV_NOHUGEPAGE, BENCH_READ_SMALL);
	if (status == TOOL_OK)
		status = chase(b, MADV_HUGEPAGE, BENCH_READ_HUGE);
	return status;
}
