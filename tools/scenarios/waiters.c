// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A page that two processes share goes to the device and home again, each time by way of another folio.
 * The child waits for the locks of both without a reference, and a third task takes pages as soon as they
 * are free: is any marked as waited for?
 */
#include "pair.h"

static void migrate(void *arg)
{
	struct pair *p = arg;
	int err = pair_op(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, 1);

	/* The child's fault may have brought it home before it was read back. */
	if (err && err != -ENOENT)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "to the device: %d", err);
	err = pair_op(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_SYS, 1);
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "to RAM: %d", err);
}

static void touch(void *arg)
{
	struct pair *p = arg;

	for (int i = 0; i < 2; i++)
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA,
				     pair_read(p->child, 0) == pair_value(0));
}

/* Two pages, one after the other. */
static void use_pages(void *arg)
{
	struct pair *p = arg;
	uhmm_pfn_t pfn;

	for (int i = 0; i < 2; i++) {
		uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT,
				     !uhmm_alloc_locked_page(p->m, &pfn));
		uhmm_unlock_put_page(p->m, pfn);
	}
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct pair *p;
	int err = pair_setup(m, 1, true, &p);

	(void)data;
	*state = p;
	if (!err)
		err = uhmm_scenario_spawn("migrate", 0, p->mm, migrate, p);
	if (!err)
		err = uhmm_scenario_spawn("touch", 1, p->child, touch, p);
	return err ? err : uhmm_scenario_spawn("use", 0, NULL, use_pages, p);
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
