/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* containers.h - what the tests of the containers share: random numbers and a failing allocator. */
#ifndef UHMM_TESTS_UNIT_CONTAINERS_H
#define UHMM_TESTS_UNIT_CONTAINERS_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/allocator.h"
#include "run_suite.h"

/*
 * libcheck's assertions write a mark to a file each time, even when they hold; loops that are
 * gone through a million times take these.
 */
#define expect(cond)                                                                               \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("expected: %s", #cond);                                       \
	} while (0)

#define expect_eq(a, b)                                                                            \
	do {                                                                                       \
		const long long expect_a = (long long)(a), expect_b = (long long)(b);              \
		if (expect_a != expect_b)                                                          \
			ck_abort_msg("expected: %s == %s: %#llx, %#llx", #a, #b, expect_a,         \
				     expect_b);                                                    \
	} while (0)

/* splitmix64 */
struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In [0, n). */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

/* The seed comes from UHMM_TEST_SEED if that is set, and is printed in any case. */
static inline struct rng rng_init(const char *test)
{
	const char *env = getenv("UHMM_TEST_SEED");
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = env ? strtoull(env, NULL, 0) : (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
	printf("%s: UHMM_TEST_SEED=%llu\n", test, (unsigned long long)seed);
	fflush(stdout);
	return (struct rng){ seed };
}

/* Checks sizes at free, counts, and fails on demand. Not for several threads at once. */
struct test_allocator {
	struct uhmm__allocator base;
	uint64_t live; /* objects */
	uint64_t bytes;
	uint64_t until_failure; /* the n-th call from now fails once; 0: none does */
	int always_fail;
};

/* A header in front of each object: its size. Keeps the alignment of malloc(). */
#define TEST_HEADER 16

static inline void *test_alloc(void *ctx, size_t size)
{
	struct test_allocator *a = ctx;
	char *p;

	if (a->always_fail || (a->until_failure && --a->until_failure == 0))
		return NULL;
	p = calloc(1, TEST_HEADER + size);
	expect(p);
	memcpy(p, &size, sizeof(size));
	a->live++;
	a->bytes += size;
	return p + TEST_HEADER;
}

static inline void test_free(void *ctx, void *p, size_t size)
{
	struct test_allocator *a = ctx;
	char *base = (char *)p - TEST_HEADER;
	size_t asked;

	memcpy(&asked, base, sizeof(asked));
	expect_eq(asked, size);
	memset(p, 0x6b, size);
	a->live--;
	a->bytes -= size;
	free(base);
}

static inline void test_allocator_init(struct test_allocator *a)
{
	*a = (struct test_allocator){ .base = { test_alloc, test_free, a } };
}

#endif /* UHMM_TESTS_UNIT_CONTAINERS_H */
