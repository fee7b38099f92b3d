/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A region whose writes are seen. */
#ifndef TESTS_UNIT_REGION_WORLD_H
#define TESTS_UNIT_REGION_WORLD_H

#include <check.h>
#include <signal.h>

#include "core/region.h"
#include "run_suite.h"

static struct uhmm__region *r;

static void touch(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!uhmm__region_touch(r, info->si_addr)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

static void region_start(void)
{
	struct sigaction sa = { .sa_sigaction = touch, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	ck_assert_int_eq(uhmm__region_create(&r), 0);
}

#endif /* TESTS_UNIT_REGION_WORLD_H */
