// SPDX-License-Identifier: LGPL-2.1-or-later
/* Scenarios and verdicts by name. */
#include <errno.h>
#include <string.h>

#include <uhmm/scenario.h>

#include "core/compiler.h"

enum { MAX_SCENARIOS = 256 };

/* The program's own, as its functions are: the one thing that does not hang off a machine. */
static const struct uhmm_scenario *scenarios[MAX_SCENARIOS];
static unsigned int nr_scenarios;

static const char *const verdict_names[UHMM_NR_VERDICTS] = {
	[UHMM_VERDICT_NONE] = "none",
	[UHMM_VERDICT_DEADLOCK] = "deadlock",
	[UHMM_VERDICT_LIVELOCK] = "livelock",
	[UHMM_VERDICT_STARVATION] = "starvation",
	[UHMM_VERDICT_LOCK_REPORT] = "lock-report",
	[UHMM_VERDICT_USE_AFTER_FREE] = "use-after-free",
	[UHMM_VERDICT_REFERENCE] = "reference",
	[UHMM_VERDICT_STALE_TLB] = "stale-tlb",
	[UHMM_VERDICT_LOST_DATA] = "lost-data",
	[UHMM_VERDICT_WRONG_RESULT] = "wrong-result",
	[UHMM_VERDICT_ASSERTION] = "assertion",
};

const char *uhmm_verdict_name(enum uhmm_verdict v)
{
	return (unsigned int)v < UHMM_NR_VERDICTS ? verdict_names[v] : NULL;
}

static bool good_name(const char *name)
{
	return name && *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")];
}

int uhmm_scenario_register(const struct uhmm_scenario *s)
{
	unsigned int i = nr_scenarios;

	if (!s || s->size != sizeof(*s) || !good_name(s->name) || !s->summary || !s->setup)
		return -EINVAL;
	if (uhmm_scenario_find(s->name) || nr_scenarios == MAX_SCENARIOS)
		return -EEXIST;
	for (; i > 0 && strcmp(scenarios[i - 1]->name, s->name) > 0; i--)
		scenarios[i] = scenarios[i - 1];
	scenarios[i] = s;
	nr_scenarios++;
	return 0;
}

const struct uhmm_scenario *uhmm_scenario_find(const char *name)
{
	for (unsigned int i = 0; i < nr_scenarios; i++)
		if (!strcmp(scenarios[i]->name, name))
			return scenarios[i];
	return NULL;
}

const struct uhmm_scenario *uhmm_scenario_nth(unsigned int i)
{
	return i < nr_scenarios ? scenarios[i] : NULL;
}
