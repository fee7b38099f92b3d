// SPDX-License-Identifier: LGPL-2.1-or-later
/* A device page is evicted, by its number and without mmap_lock, while its only mapping goes away. */
#include "pair.h"

static void evict(void *arg)
{
	struct pair *p = arg;

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT,
			     uhmm_devmem_evict(uhmm_device_memory(p->dev[0]), 1) >= 0);
}

static void unmap(void *arg)
{
	struct pair *p = arg;

	if (uhmm_munmap(p->mm, pair_addr(0), UHMM_PAGE_SIZE))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "munmap failed");
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct pair *p;
	int err = pair_setup(m, 1, false, &p);

	(void)data;
	*state = p;
	if (!err)
		err = pair_op(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, 1);
	if (!err)
		err = uhmm_scenario_spawn("evict", 0, NULL, evict, p);
	return err ? err : uhmm_scenario_spawn("unmap", 1, p->mm, unmap, p);
}

UHMM_SCENARIO(evict_vs_unmap) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "evict-vs-unmap",
	.summary = "a device page is evicted while its only mapping goes away",
	.setup = setup,
};
