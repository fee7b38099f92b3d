// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A scenario of one's own: two threads of a process add one to the same counter, without a lock.
 *
 *	cc -shared -fPIC -o lost_update.so lost_update.c
 *	uhmm explore lost-update --load lost_update.so
 *
 * One switch is enough to lose an update: with --switches-bound 0 there is none.
 */
#include <errno.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define COUNTER 0x10000000UL

/* Whatever a run changes is here, in the machine, or on a stack. */
struct state {
	struct uhmm_mm *mm;
	unsigned int done;
};

static void add_one(void *arg)
{
	struct state *s = arg;
	uint64_t n;

	if (uhmm_cpu_read(s->mm, COUNTER, &n, sizeof(n), NULL))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "the counter cannot be read");
	n++;
	if (uhmm_cpu_write(s->mm, COUNTER, &n, sizeof(n), NULL))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "the counter cannot be written");
	s->done++;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct state *s = uhmm_scenario_alloc(sizeof(*s));
	int err = s ? uhmm_mm_create(m, &s->mm) : -ENOMEM;

	(void)data;
	if (!err)
		err = uhmm_mmap(s->mm, COUNTER, UHMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	for (unsigned int cpu = 0; cpu < 2 && !err; cpu++)
		err = uhmm_scenario_spawn("adder", cpu, s->mm, add_one, s);
	*state = s;
	return err;
}

static void check(void *state)
{
	struct state *s = state;
	uint64_t n = 0;

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, s->done == 2);
	uhmm_cpu_read(s->mm, COUNTER, &n, sizeof(n), NULL);
	if (n != s->done)
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "%u added one, and the sum is %llu",
				   s->done, (unsigned long long)n);
}

UHMM_SCENARIO(lost_update) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "lost-update",
	.summary = "two threads add one to a counter in memory, without a lock",
	.setup = setup,
	.check = check,
};
