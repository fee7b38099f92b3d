// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * CPU faults on a page of a driver that looks at what it is given: the page it is called for must be
 * its own still, and if it can collect the page nothing else keeps it from moving.
 */
#include "pair.h"

struct driver {
	struct pair_driver device;
	struct uhmm_mm *mm;
};

static int migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct driver *d = data;

	if (uhmm_devmem_page_data(d->device.pool, vmf->page) != &d->device)
		uhmm_scenario_fail(UHMM_VERDICT_USE_AFTER_FREE,
				   "migrate_to_ram() of a page that is free");
	pair_to_ram(&d->device, vmf);
	return 0;
}

static const struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = migrate_to_ram };

static void read_page(void *arg)
{
	struct driver *d = arg;
	uint64_t value = pair_read(d->mm, 0);

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, !value || value == pair_value(0));
}

static void zap(void *arg)
{
	struct driver *d = arg;

	if (uhmm_madvise(d->mm, pair_addr(0), UHMM_PAGE_SIZE, MADV_DONTNEED))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "madvise() failed");
}

/* @data: NULL, or the second task throws the page away. */
static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct uhmm_devmem_config config = { .size = sizeof(config), .bytes = 1UL << 20 };
	struct driver *d = uhmm_scenario_alloc(sizeof(*d));
	bool other_reads = !data;
	struct pair *p;
	int err = d ? pair_setup(m, 1, false, &p) : -ENOMEM;

	if (err)
		return err;
	*d = (struct driver){ .device.m = m, .mm = p->mm };
	err = uhmm_devmem_create(m, &config, &d->device, &ops, d, &d->device.pool);
	if (!err && !pair_to_device(&d->device, d->mm))
		err = -EBUSY;
	if (!err)
		err = uhmm_scenario_spawn("fault 0", 0, d->mm, read_page, d);
	if (!err)
		err = uhmm_scenario_spawn(other_reads ? "fault 1" : "zap", 1, d->mm,
					  other_reads ? read_page : zap, d);
	*state = d;
	return err;
}

UHMM_SCENARIO(driver_fault_vs_fault) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "driver-fault-vs-fault",
	.summary = "two CPUs read a page of a device; each fault that gets it moves it",
	.setup = setup,
};

UHMM_SCENARIO(driver_fault_vs_zap) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "driver-fault-vs-zap",
	.summary = "a fault on a page of a device that is thrown away; the driver looks at the page",
	.setup = setup,
	.data = "zap",
};
