/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * another.h - a test that runs on one thread has another task do something, such as hold a lock. With
 * the checked library whose lock it is matters.
 */
#ifndef TESTS_UNIT_ANOTHER_H
#define TESTS_UNIT_ANOTHER_H

#include <check.h>

#include "sync/task.h"

/* What follows is done by @t. Returns: the task that did what came before. */
static inline struct uhmm_task *become(struct uhmm_task *t)
{
	struct uhmm_task *before = uhmm__current_task;

	uhmm__current_task = t;
	return before;
}

static inline struct uhmm_task *another_task(struct uhmm_machine *m)
{
	struct uhmm_task *t;

	ck_assert_int_eq(uhmm_task_create(m, NULL, 1, "another", &t), 0);
	return t;
}

#endif /* TESTS_UNIT_ANOTHER_H */
