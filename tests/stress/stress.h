/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stress.h - a machine that several host threads use at once. */
#ifndef TESTS_STRESS_STRESS_H
#define TESTS_STRESS_STRESS_H

#include <pthread.h>
#include <stdatomic.h>

#include "fixture.h"

/* libcheck's assertions are for one thread. */
#define die(...)                                                                                   \
	do {                                                                                       \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fprintf(stderr, " (%s:%d)\n", __FILE__, __LINE__);                                 \
		abort();                                                                           \
	} while (0)

#define must(call)                                                                                 \
	do {                                                                                       \
		const long long must_ret = (long long)(call);                                      \
		if (must_ret)                                                                      \
			die("%s: %lld", #call, must_ret);                                          \
	} while (0)

static inline void stress_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	(void)data;
	die("report of kind %d: %s", (int)kind, text);
}

/* As fixture_create(), with reports that end the test at once, from any thread. */
static inline void stress_create(struct fixture *f, struct uhmm_machine_config config)
{
	memset(f, 0, sizeof(*f));
	config.size = sizeof(config);
	config.report = stress_report;
	must(uhmm_machine_create(&config, &f->m));
	must(uhmm_task_create(f->m, NULL, 0, "main", &f->task));
	uhmm_task_enter(f->task);
	must(uhmm_mm_create(f->m, &f->mm));
}

/* The calling thread goes on as a task of another process, on its CPU. */
static inline void stress_run_as(struct uhmm_machine *m, struct uhmm_mm *mm, unsigned int cpu,
				 struct uhmm_task **task)
{
	uhmm_task_leave();
	uhmm_task_destroy(*task);
	must(uhmm_task_create(m, mm, cpu, "thread", task));
	uhmm_task_enter(*task);
}

/* Magic of a page: the upper half of each word that is written there. */
static inline uint64_t magic(uhmm_vaddr_t page)
{
	return ((page >> UHMM_PAGE_SHIFT) * UINT64_C(0x9e3779b1) | 1) << 32;
}

static inline void check_magic(uhmm_vaddr_t page, uint64_t word, const char *who)
{
	if (word && (word & ~0xffffffffUL) != magic(page))
		die("%s: page %#llx holds %#llx, which was not written there", who,
		    (unsigned long long)page, (unsigned long long)word);
}

#endif /* TESTS_STRESS_STRESS_H */
