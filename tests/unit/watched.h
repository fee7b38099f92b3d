/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* watched.h - the usual world with a notifier over all of its memory, which ignores what device 0 migrates. */
#ifndef TESTS_UNIT_WATCHED_H
#define TESTS_UNIT_WATCHED_H

#include "unit/inside.h"

static struct watcher w;

static inline void setup_watched(void)
{
	setup_fixture();
	watch(&w, f.mm, 0, UHMM_TASK_SIZE / PAGE);
	w.ignore = f.dev[0];
}

static inline void teardown_watched(void)
{
	unwatch(&w);
	teardown_fixture();
}

#endif /* TESTS_UNIT_WATCHED_H */
