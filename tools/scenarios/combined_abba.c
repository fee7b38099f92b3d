// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Two combined walks that want each other's folios. A walk keeps what it has collected locked while it
 * faults elsewhere; if it slept on others meanwhile, the two could wait for each other. Folios of one
 * family lie in the same order in every mm, so it takes a walk that begins again while it holds some:
 * a third task, which holds a folio of the child for a moment, makes it.
 */
#include "pair.h"

static void walk(void *arg)
{
	int err = pair_op(arg, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, PAIR_PAGES);

	/* The other walk may have taken them before they were read back. */
	if (err && err != -ENOENT)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "combined walk: %d", err);
}

/* Collects the first page in the child and puts it back. */
static void third(void *arg)
{
	struct uhmm_mm *mm = arg;
	uint64_t src = 0, dst = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = &src,
		.dst = &dst,
		.start = pair_addr(0),
		.end = pair_addr(1),
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	uhmm_mmap_read_lock(mm);
	args.vma = uhmm_vma_lookup(mm, pair_addr(0));
	if (uhmm_migrate_vma_setup(&args))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migrate_vma_setup() failed");
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(mm);
}

/* The deadlock itself is wanted, and not that it might be. */
static void configure(struct uhmm_machine_config *config)
{
	config->nr_cpus = 3;
	config->lock_order = UHMM_LOCK_ORDER_IGNORED;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct pair *p;
	int err = pair_setup(m, PAIR_PAGES, true, &p);

	(void)data;
	if (!err)
		err = uhmm_scenario_spawn("walk 0", 0, p->mm, walk, p->mirror[0]);
	if (!err)
		err = uhmm_scenario_spawn("walk 1", 1, p->mm, walk, p->mirror[1]);
	if (!err)
		err = uhmm_scenario_spawn("third", 2, p->child, third, p->child);
	*state = p;
	return err;
}

static void check(void *state)
{
	struct pair *p = state;

	for (unsigned int i = 0; i < PAIR_PAGES; i++) {
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, i) == pair_value(i));
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA,
				     pair_read(p->child, i) == pair_value(i));
	}
}

UHMM_SCENARIO(combined_abba) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "combined-abba",
	.summary = "two combined walks of the same two pages; with combined-wait=naive a deadlock",
	.configure = configure,
	.setup = setup,
	.check = check,
};
