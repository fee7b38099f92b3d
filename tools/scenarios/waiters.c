// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A page that two processes share goes to the device, home, and to the device again: each frame that it
 * leaves is free, and used again at once. The child waits for the lock of one of them without a reference:
 * is any marked as waited for when it is free?
 */
#include "pair.h"

static void migrate(void *arg)
{
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_MIGRATE_TO_DEV,
		UHMM_MIRROR_MIGRATE_TO_SYS,
		UHMM_MIRROR_MIGRATE_TO_DEV,
	};
	struct pair *p = arg;

	for (int i = 0; i < 3; i++) {
		int err = pair_op(p->mirror[0], ops[i], 1);

		/* The child's fault may have brought it home before it was read back. */
		if (err && err != -ENOENT)
			uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migration %d: %d", i, err);
	}
}

static void touch(void *arg)
{
	struct pair *p = arg;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->child, 0) == pair_value(0));
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct pair *p;
	int err = pair_setup(m, 1, true, &p);

	(void)data;
	*state = p;
	if (!err)
		err = uhmm_scenario_spawn("migrate", 0, p->mm, migrate, p);
	return err ? err : uhmm_scenario_spawn("touch", 1, p->child, touch, p);
}

static void check(void *state)
{
	struct pair *p = state;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, 0) == pair_value(0));
}

UHMM_SCENARIO(waiters) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "waiters",
	.summary =
		"waiting for a folio without a reference, while it is unlocked, freed and used again",
	.setup = setup,
	.check = check,
};
