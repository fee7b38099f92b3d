/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * scenario.h - small concurrent programs on the model, for the explorer.
 *
 * A scenario sets up a machine, address spaces and a few tasks, each bound to a simulated CPU. The
 * explorer runs it again and again under different schedules. Written down with UHMM_SCENARIO() it is
 * known by its name to `uhmm explore`, from a shared object too (--load FILE.so), and to
 * uhmm_explore() of a program that is linked with the checked library.
 *
 * Between runs the explorer puts memory back as it was after setup(): the machine's and what
 * uhmm_scenario_alloc() gave. So everything that a run changes must be there, or on the stack of a
 * task: no static variables, no memory of malloc(). What a task does may depend on nothing else
 * either - no clocks, no random numbers but by uhmm_scenario_random().
 */
#ifndef UHMM_SCENARIO_H
#define UHMM_SCENARIO_H

#include <uhmm/machine.h>
#include <uhmm/types.h>

UHMM_BEGIN_DECLS

/* What was found. The names are those of uhmm_verdict_name(). */
enum uhmm_verdict {
	UHMM_VERDICT_NONE,
	UHMM_VERDICT_DEADLOCK,	     /* nobody can go on */
	UHMM_VERDICT_LIVELOCK,	     /* a fair schedule comes back to the same state, for ever */
	UHMM_VERDICT_STARVATION,     /* so it does, and some tasks get on with their work */
	UHMM_VERDICT_LOCK_REPORT,    /* UHMM_REPORT_LOCK */
	UHMM_VERDICT_USE_AFTER_FREE, /* UHMM_REPORT_FREED, or a pointer out of freed memory */
	UHMM_VERDICT_REFERENCE,	     /* UHMM_REPORT_VERIFY: counts, lists, entries do not agree */
	UHMM_VERDICT_STALE_TLB,	     /* UHMM_REPORT_TLB */
	UHMM_VERDICT_LOST_DATA,	     /* said by the scenario */
	UHMM_VERDICT_WRONG_RESULT,   /* said by the scenario */
	UHMM_VERDICT_ASSERTION,	     /* UHMM_REPORT_BUG, UHMM_REPORT_WARN, or a crash */
	UHMM_NR_VERDICTS
};

/** uhmm_verdict_name() - "lost-data" and so on, "none"; NULL for an unknown one. */
UHMM_API const char *uhmm_verdict_name(enum uhmm_verdict v);

struct uhmm_scenario {
	size_t size;	     /* sizeof(struct uhmm_scenario) */
	const char *name;    /* words of a-z, 0-9 and '-' */
	const char *summary; /* a line */

	/**
	 * configure() - what the machine is to be like; NULL: as the explorer has it
	 * @config: (in/out) 2 CPUs, 8 MiB of RAM, 2 MiB of device memory, tags. Switches that the
	 * user chose are set afterwards.
	 */
	void (*configure)(struct uhmm_machine_config *config);

	/**
	 * setup() - make the first state
	 * @m: a new machine
	 * @data: the scenario's
	 * @state: (out) handed to check(); NULL at first
	 * Returns: 0 or a negative errno. Context: a task of CPU 0 without an address space.
	 * Ends with uhmm_scenario_spawn() for each task.
	 */
	int (*setup)(struct uhmm_machine *m, const void *data, void **state);

	/**
	 * check() - is the last state as it should be? NULL: no more than the verifier checks
	 * @state: what setup() left in *state
	 * Context: as for setup(); all tasks have ended. Calls uhmm_scenario_fail() if not.
	 */
	void (*check)(void *state);

	const void *data; /* for setup(), so that several scenarios can share it */
};

/**
 * uhmm_scenario_spawn() - add a task to the scenario
 * @name: for the columns of a schedule; copied and cut to 15 bytes
 * @cpu: simulated CPU, below nr_cpus
 * @mm: its address space, or NULL
 * @fn: what it does; it ends when that returns
 * @arg: for @fn
 * Returns: as uhmm_sched_spawn(). Context: setup(), or a task of the scenario.
 */
UHMM_API int uhmm_scenario_spawn(const char *name, unsigned int cpu, struct uhmm_mm *mm,
				 void (*fn)(void *arg), void *arg) UHMM_MUST_CHECK;

/**
 * uhmm_scenario_alloc() - zeroed memory for what a run changes
 * Returns: the memory, or NULL. Context: setup(). Lifetime: the scenario's.
 */
UHMM_API void *uhmm_scenario_alloc(size_t size);

/**
 * uhmm_scenario_fail() - this schedule shows a fault
 * @verdict: which; printf format and arguments: what is wrong, without a newline at the end
 * Does not return: the run ends here. Context: a task of the scenario, or check().
 */
UHMM_API void uhmm_scenario_fail(enum uhmm_verdict verdict, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

/**
 * uhmm_scenario_random() - a number that is the same whenever the same schedule is run
 * Returns: in [0, @n). The numbers follow from the seed of the run, which in a depth-first exploration
 * is the same for all. Context: a task of the scenario.
 */
UHMM_API uint64_t uhmm_scenario_random(uint64_t n);

/* A fault unless @cond holds; what is not true is told. */
#define uhmm_scenario_expect(verdict, cond)                                                        \
	do {                                                                                       \
		if (!(cond))                                                                       \
			uhmm_scenario_fail(verdict, "%s:%d: not so: %s", __FILE__, __LINE__,       \
					   #cond);                                                 \
	} while (0)

/**
 * uhmm_scenario_register() - make a scenario known by its name
 * @s: scenario; stays with the caller
 * Returns: 0; -EINVAL it is incomplete or of another version; -EEXIST the name is taken.
 */
UHMM_API int uhmm_scenario_register(const struct uhmm_scenario *s);

/** uhmm_scenario_find() - by name; NULL if there is none. */
UHMM_API const struct uhmm_scenario *uhmm_scenario_find(const char *name);

/** uhmm_scenario_nth() - number @i, from 0, by name; NULL past the last. */
UHMM_API const struct uhmm_scenario *uhmm_scenario_nth(unsigned int i);

/*
 * Defines a scenario that registers itself when the program or shared object is loaded:
 *
 *	UHMM_SCENARIO(my_race) = {
 *		.size = sizeof(struct uhmm_scenario),
 *		.name = "my-race",
 *		...
 *	};
 */
#define UHMM_SCENARIO(id)                                                                          \
	static const struct uhmm_scenario id;                                                      \
	__attribute__((constructor)) static void id##_register(void)                               \
	{                                                                                          \
		(void)uhmm_scenario_register(&id);                                                 \
	}                                                                                          \
	static const struct uhmm_scenario id

UHMM_END_DECLS

#endif /* UHMM_SCENARIO_H */
