/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * explore.h - the schedule explorer: runs a scenario under many schedules, deterministically.
 *
 * Only the checked library can do this; in the plain one uhmm_explore() says -EOPNOTSUPP.
 *
 * A *choice* is made at every switch point (sched.h): which simulated CPU goes on, and with which of
 * its tasks where it has none, or may be preempted. A choice is a *switch* if it leaves a task that
 * could have gone on: for another CPU, or for another task of the same one. What is found, and what
 * is counted, is a function of the configuration alone, not of the number of workers or the host.
 */
#ifndef UHMM_EXPLORE_H
#define UHMM_EXPLORE_H

#include <uhmm/scenario.h>

UHMM_BEGIN_DECLS

enum uhmm_explore_strategy {
	UHMM_EXPLORE_RANDOM, /* each choice by the seed */
	/*
	 * Tasks have random priorities, the one of the highest goes on, and at a few random steps the
	 * running one drops to the lowest. Finds a fault that needs d ordering constraints with a
	 * probability of at least 1/(n k^(d-1)) for each schedule of k steps of n tasks (Burckhardt et
	 * al., ASPLOS 2010).
	 */
	UHMM_EXPLORE_PCT,
	UHMM_EXPLORE_DFS, /* all schedules with few switches: first those with none, then with one, .. */
};

struct uhmm_explore_config {
	size_t size; /* sizeof(struct uhmm_explore_config) */
	const struct uhmm_scenario *scenario;
	const struct uhmm_machine_config *machine; /* values of the switches; NULL: as the scenario */
	uint64_t switches_set;			   /* bit i: switch i is taken from there */
	enum uhmm_explore_strategy strategy;
	unsigned int switches_bound; /* DFS: at most so many switches in a schedule */
	uint64_t runs;		     /* RANDOM, PCT: schedules to try; DFS: most of them, 0 = all */
	/*
	 * RANDOM, PCT: of the first schedule; the next has the next. Also of uhmm_scenario_random(),
	 * which gives the same numbers in every run of DFS.
	 */
	uint64_t seed;
	/*
	 * This one alone, as text, then without switches, or fairly after F; no strategy. NULL: none.
	 */
	const char *schedule;
	unsigned int workers; /* processes; 0 = one for each CPU of the host */
	/* DFS: also go on from states that were reached before with no more switches. */
	bool no_reduction;
	/*
	 * Choices after which a run must be fair; 0 = 100,000, of DFS and PCT also not many times more
	 * than there are without switches. With a schedule: also those that it may have above a million.
	 */
	uint64_t max_steps;
	/* Told now and then: schedules so far. NULL allowed. Context: the calling thread. */
	void (*progress)(void *data, uint64_t schedules);
	void *progress_data;
};

/* One step of a schedule: a task was chosen and went on to its next switch point. */
struct uhmm_explore_step {
	unsigned int cpu;
	unsigned int task; /* index in uhmm_explore_result.tasks */
	const char *what;  /* what it did first: "lock", "read" ...; static */
	/* Return addresses of where it stood, the innermost first. */
	void *const *stack;
	unsigned int depth;
};

struct uhmm_explore_task {
	char name[16];
	unsigned int cpu;
	bool worker;
};

struct uhmm_explore_result {
	enum uhmm_verdict verdict;
	uint64_t schedules; /* that were run */
	uint64_t steps;	    /* choices in all of them, repeated beginnings apart */
	uint64_t states;    /* DFS with reduction: different ones that were reached */
	uint64_t ends;	    /* DFS: different states in which all tasks had ended */
	uint64_t ends_hash; /* DFS: of that set */
	uint64_t undecided; /* runs given up: no end and no state came again; DFS: or too long */
	/* DFS: there are no more schedules within the bound, and none was undecided */
	bool complete;

	/* -ECHILD: the schedule in which a worker died, from 1; DFS: the last of a few */
	uint64_t died_at;

	/* With a verdict: what the library or the scenario said, and the shrunk schedule. */
	const char *report;	  /* also with an error, if there is more to say of it */
	const char *schedule;	  /* text that leads there again, step by step, */
	uint64_t seed;		  /* with this seed, if the scenario has random numbers */
	unsigned int nr_switches; /* in it */
	/* Of a livelock: the first step of what repeats for ever; the last is the last of it. */
	size_t cycle_at;
	/* The run of that schedule, or of uhmm_explore_config.schedule. */
	const struct uhmm_explore_step *trace;
	size_t nr_steps;
	const struct uhmm_explore_task *tasks;
	unsigned int nr_tasks;
};

/**
 * uhmm_explore() - explore a scenario
 * @config: what and how; copied
 * @out: (out) what was found; free with uhmm_explore_free(). On error NULL, or a result whose report
 * says more
 * Returns: 0, also with a verdict; -EOPNOTSUPP this is the plain library; -EINVAL @config, or a
 * schedule that cannot be read or is too long; -ESTALE a schedule that does not fit the scenario; -ENOMEM;
 * -ECHILD a worker died; or what setup() returned, -EINVAL if that is positive.
 * Context: outside any task; the process has no other threads that it needs in its children, for the
 * workers are forked. Signals SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP and SIGABRT are handled meanwhile.
 */
UHMM_API int uhmm_explore(const struct uhmm_explore_config *config,
			  struct uhmm_explore_result **out) UHMM_MUST_CHECK;

/** uhmm_explore_free() - free a result; NULL allowed. */
UHMM_API void uhmm_explore_free(struct uhmm_explore_result *result);

UHMM_END_DECLS

#endif /* UHMM_EXPLORE_H */
