/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fixture.h - what the tests of behaviour share: a machine with one process, assertions for loops,
 * random numbers, time. Public interface only.
 */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <uhmm/uhmm.h>

#include "run_suite.h"

#define PAGE UHMM_PAGE_SIZE
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

/* libcheck's assertions write to a pipe even when they hold; loops take these. */
#define expect(cond)                                                                               \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("expected: %s", #cond);                                       \
	} while (0)

#define expect_eq(a, b)                                                                            \
	do {                                                                                       \
		const long long expect_a = (long long)(a), expect_b = (long long)(b);              \
		if (expect_a != expect_b)                                                          \
			ck_abort_msg("expected: %s == %s: %lld (%#llx), %lld (%#llx)", #a, #b,     \
				     expect_a, expect_a, expect_b, expect_b);                      \
	} while (0)

/* ---- random numbers ---- */

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

static inline bool rng_one_in(struct rng *rng, uint64_t n)
{
	return !rng_below(rng, n);
}

/* ---- the environment ---- */

static inline uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *env = getenv(name);

	return env && *env ? strtoull(env, NULL, 0) : otherwise;
}

/* From UHMM_TEST_SEED if that is set; printed in any case. */
static inline uint64_t test_seed(const char *test)
{
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	seed = env_number("UHMM_TEST_SEED", seed % 1000000000u);
	printf("%s: UHMM_TEST_SEED=%llu\n", test, (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

/* How long a test that could go on for ever should. */
static inline double test_seconds(void)
{
	return (double)env_number("UHMM_TEST_SECONDS", 2);
}

/* Asked to go on for longer than tests do of themselves, as by ./dev long. */
static inline bool test_is_long(void)
{
	return test_seconds() > 2;
}

static inline double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- a machine with one process ---- */

enum { FIXTURE_DEVICES = 2, FIXTURE_CPUS = 2 };

struct fixture {
	struct uhmm_machine *m;
	struct uhmm_mm *mm;
	struct uhmm_task *task; /* entered, on CPU 0 */
	struct uhmm_device *dev[FIXTURE_DEVICES];
	struct uhmm_mirror *mirror[FIXTURE_DEVICES]; /* of mm */
	unsigned int reports[UHMM_REPORT_WARN + 1];
	char text[8192]; /* of the reports, as far as it goes */
};

static inline void fixture_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	struct fixture *f = data;
	size_t n = strlen(f->text);

	f->reports[kind]++;
	snprintf(f->text + n, sizeof(f->text) - n, "%s\n", text);
}

static inline unsigned int fixture_reports(const struct fixture *f)
{
	unsigned int n = 0;

	for (int i = 0; i <= UHMM_REPORT_WARN; i++)
		n += f->reports[i];
	return n;
}

static inline void fixture_forget_reports(struct fixture *f)
{
	memset(f->reports, 0, sizeof(f->reports));
	f->text[0] = '\0';
}

static inline void fixture_verify(struct fixture *f)
{
	int ret = uhmm_machine_verify(f->m);

	if (ret || fixture_reports(f))
		ck_abort_msg("verify: %d, reports: %s", ret, f->text);
}

/* @config: what differs from the default; size and report are filled in. */
static inline void fixture_create(struct fixture *f, struct uhmm_machine_config config)
{
	memset(f, 0, sizeof(*f));
	config.size = sizeof(config);
	config.report = fixture_report;
	config.report_data = f;
	/* UHMM_TEST_DEVICE_PFN=1: every machine has device pages of a space of their own. */
	if (env_number("UHMM_TEST_DEVICE_PFN", 0))
		config.device_pfn_space = UHMM_DEVICE_PFN_OWN;
	expect_eq(uhmm_machine_create(&config, &f->m), 0);
	expect_eq(uhmm_task_create(f->m, NULL, 0, "boot", &f->task), 0);
	uhmm_task_enter(f->task);
	expect_eq(uhmm_mm_create(f->m, &f->mm), 0);
	uhmm_task_leave();
	uhmm_task_destroy(f->task);
	expect_eq(uhmm_task_create(f->m, f->mm, 0, "test", &f->task), 0);
	uhmm_task_enter(f->task);
}

/* Registered at a time: the verifier goes over all that is, be it used or not. */
#define FIXTURE_CHUNK (4UL << 20)

/* Both devices, and a mirror of each. @bytes: memory of a device, 0 unlimited. */
static inline void fixture_add_devices(struct fixture *f, uint64_t bytes)
{
	struct uhmm_device_config config = { .size = sizeof(config),
					     .memory_bytes = bytes,
					     .chunk_bytes = FIXTURE_CHUNK };

	for (int i = 0; i < FIXTURE_DEVICES; i++) {
		expect_eq(uhmm_device_create(f->m, &config, &f->dev[i]), 0);
		expect_eq(uhmm_mirror_open(f->dev[i], f->mm, &f->mirror[i]), 0);
	}
}

/* Verifies, too, and that no device page is left once the process and the devices are gone. */
static inline void fixture_destroy(struct fixture *f)
{
	struct uhmm_memory_use use;

	fixture_verify(f);
	for (int i = 0; i < FIXTURE_DEVICES; i++)
		uhmm_mirror_close(f->mirror[i]);
	for (int i = 0; i < FIXTURE_DEVICES; i++)
		uhmm_device_destroy(f->dev[i]);
	fixture_verify(f);
	uhmm_machine_memory(f->m, &use);
	expect_eq(use.nr_device_used, 0);
	uhmm_task_leave();
	uhmm_task_destroy(f->task);
	uhmm_mmput(f->mm);
	fixture_verify(f);
	uhmm_machine_destroy(f->m);
}

/* ---- short forms; they must succeed ---- */

static inline void map_fixed(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t npages, int prot)
{
	expect_eq(uhmm_mmap(mm, addr, npages * PAGE, prot, ANON | MAP_FIXED, NULL, 0, NULL), 0);
}

static inline void put_word(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t value)
{
	expect_eq(uhmm_cpu_write(mm, addr, &value, sizeof(value), NULL), 0);
}

static inline uint64_t get_word(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	uint64_t value = ~0UL;

	expect_eq(uhmm_cpu_read(mm, addr, &value, sizeof(value), NULL), 0);
	return value;
}

static inline void touch(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	expect_eq(uhmm_cpu_read(mm, addr, NULL, 1, NULL), 0);
}

static inline uint64_t pagemap_of(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	uint64_t entry = 0;

	expect_eq(uhmm_pagemap(mm, addr & UHMM_PAGE_MASK, 1, &entry), 0);
	return entry;
}

static inline uint64_t counted(struct uhmm_machine *m, enum uhmm_counter c)
{
	struct uhmm_counters all;

	uhmm_counters_read(m, &all);
	return all.v[c];
}

/* An operation on the test driver; @buf as the operation wants it. */
static inline int mirror_op(struct uhmm_mirror *mirror, enum uhmm_mirror_op op, uhmm_vaddr_t addr,
			    uint64_t npages, void *buf, struct uhmm_mirror_cmd *out)
{
	struct uhmm_mirror_cmd cmd = { .addr = addr, .npages = npages, .ptr = buf };
	int err = uhmm_mirror_ioctl(mirror, op, &cmd);

	if (out)
		*out = cmd;
	return err;
}

#endif /* TESTS_FIXTURE_H */
