// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A huge device page that two processes share. One migrates it together with a page of RAM that sits in
 * the LRU batch of another CPU, which has to drain it; there a device of the other process faults.
 */
#include "huge.h"

/* Collects both, which drains the batches of all CPUs, and puts them back. */
static void migrate(void *arg)
{
	struct huge *h = arg;
	uint64_t n = 1 + HUGE_PAGES, *src = h->entries, *dst = h->entries + n;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = src,
		.dst = dst,
		.start = HUGE_AT - UHMM_PAGE_SIZE,
		.end = HUGE_AT + UHMM_PMD_SIZE,
		.pgmap_owner = huge_owner(h, 0),
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE |
			 UHMM_MIGRATE_VMA_SELECT_COMPOUND,
	};

	huge_collect(h->child, &args);
}

/*
 * A page of RAM, which stays in the batch of this CPU. Then hmm_range_fault() for a device that the huge page
 * does not belong to. One task does both: a third has no part in it, and makes many more schedules.
 */
static void device_read(void *arg)
{
	struct huge *h = arg;
	uint64_t buf[UHMM_PAGE_SIZE / 8] = { 0 };
	struct uhmm_mirror_cmd cmd = { .addr = HUGE_AT, .npages = 1, .ptr = buf };
	int err;

	huge_write(h->child, -1, 2);
	err = uhmm_mirror_ioctl(h->other, UHMM_MIRROR_READ, &cmd);
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, !err);
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, buf[0] == 1);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct huge *h;
	int err = huge_setup(m, HUGE_AT - UHMM_PAGE_SIZE, 1, &h);

	(void)data;
	if (!err)
		err = huge_to_device(h, 0);
	if (!err)
		err = huge_fork(h);
	if (!err)
		err = uhmm_scenario_spawn("migrate", 0, h->child, migrate, h);
	if (!err)
		err = uhmm_scenario_spawn("device", 1, h->mm, device_read, h);
	*state = h;
	return err;
}

static void check(void *state)
{
	struct huge *h = state;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->child, -1) == 2);
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->child, 0) == 1);
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->mm, 0) == 1);
}

UHMM_SCENARIO(huge_livelock) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "huge-livelock",
	.summary =
		"a range fault on a huge device page that another CPU has locked and cannot unlock",
	.configure = huge_configure,
	.setup = setup,
	.check = check,
};
