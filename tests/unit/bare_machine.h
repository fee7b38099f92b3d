/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bare_machine.h - a machine of core and sync alone, for the tests of what stands below mm. */
#ifndef TESTS_UNIT_BARE_MACHINE_H
#define TESTS_UNIT_BARE_MACHINE_H

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "sync/sync.h"

struct bare_machine {
	struct uhmm_machine m;
	unsigned int nr_reports;
	char last_report[4096];
};

/* Keeps the last report, for a test to look at; printed when BARE_VERBOSE is defined. */
static inline void bare_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	struct bare_machine *b = data;

	(void)kind;
	b->nr_reports++;
	snprintf(b->last_report, sizeof(b->last_report), "%s", text);
#ifdef BARE_VERBOSE
	fprintf(stderr, "%s\n", text);
#endif
}

static inline void bare_init(struct bare_machine *b, unsigned int nr_cpus)
{
	memset(b, 0, sizeof(*b));
	b->m.config.nr_cpus = nr_cpus;
	b->m.config.report = bare_report;
	b->m.config.report_data = b;
	ck_assert_int_eq(uhmm__alloc_init(&b->m), 0);
	ck_assert_int_eq(uhmm__sync_init(&b->m), 0);
}

/* Everything must have been given back. */
static inline void bare_exit(struct bare_machine *b)
{
	uhmm__sync_exit(&b->m);
	ck_assert_uint_eq(load_relaxed(&b->m.alloc_bytes), 0);
	uhmm__alloc_exit(&b->m);
}

/* A task that the calling thread has entered. */
static inline struct uhmm_task *bare_enter(struct bare_machine *b, unsigned int cpu)
{
	struct uhmm_task *t;

	ck_assert_int_eq(uhmm_task_create(&b->m, NULL, cpu, "test", &t), 0);
	uhmm_task_enter(t);
	return t;
}

static inline void bare_leave(struct uhmm_task *t)
{
	uhmm_task_leave();
	uhmm_task_destroy(t);
}

#endif /* TESTS_UNIT_BARE_MACHINE_H */
