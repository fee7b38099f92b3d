// SPDX-License-Identifier: LGPL-2.1-or-later
/* Two tasks that migrate and fault the same page, there and back. */
#include "pair.h"

static uint64_t written(void)
{
	return pair_value(1);
}

/* To the device, and home again. */
static void migrator(void *arg)
{
	struct pair *p = arg;
	int err = pair_op(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, 1);

	/* The fault may have brought it home before it was read back. */
	if (err && err != -ENOENT)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "to the device: %d", err);
	err = pair_op(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_SYS, 1);
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "to RAM: %d", err);
}

static void toucher(void *arg)
{
	struct pair *p = arg;

	pair_write(p->mm, 0, written());
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, 0) == written());
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct pair *p;
	int err = pair_setup(m, 1, false, &p);

	(void)data;
	if (err)
		return err;
	*state = p;
	err = uhmm_scenario_spawn("migrate", 0, p->mm, migrator, p);
	return err ? err : uhmm_scenario_spawn("fault", 1, p->mm, toucher, p);
}

static void check(void *state)
{
	struct pair *p = state;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, 0) == written());
}

UHMM_SCENARIO(migrate_vs_fault) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "migrate-vs-fault",
	.summary = "a page goes to the device and home again while a CPU writes to it and reads it",
	.setup = setup,
	.check = check,
};
