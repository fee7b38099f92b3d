// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * CPU faults on a page of a driver that looks at what it is given: the page it is called for must be
 * its own still, and if it can collect the page nothing else keeps it from moving.
 */
#include "pair.h"

struct driver {
	struct uhmm_machine *m;
	struct uhmm_mm *mm;
	struct uhmm_devmem *pool;
};

/*
 * Move the page at @addr to a new one in RAM, or on the device if @to_device.
 * Returns: whether there was one to be collected. Context: mmap_lock.
 */
static bool move(struct driver *d, struct uhmm_vma *vma, bool to_device, uhmm_pfn_t fault_page)
{
	uint64_t src = 0, dst = 0;
	uhmm_pfn_t pfn = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.vma = vma,
		.src = &src,
		.dst = &dst,
		.start = pair_addr(0),
		.end = pair_addr(1),
		.pgmap_owner = d,
		.flags = to_device ? UHMM_MIGRATE_VMA_SELECT_SYSTEM
				   : UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = fault_page,
	};
	bool collected;

	if (uhmm_migrate_vma_setup(&args))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migrate_vma_setup() failed");
	collected = src & UHMM_MIGRATE_PFN_MIGRATE && src & UHMM_MIGRATE_PFN_VALID;
	if (collected) {
		if (to_device ? uhmm_devmem_alloc(d->pool, d, &pfn)
			      : uhmm_alloc_locked_page(d->m, &pfn))
			uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "no memory");
		uhmm_copy_highpage(d->m, pfn, uhmm_migrate_pfn_to_pfn(src));
		dst = uhmm_migrate_pfn(pfn);
		uhmm_migrate_vma_pages(&args);
		if (!(src & UHMM_MIGRATE_PFN_MIGRATE))
			uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT,
					   "a page that was collected does not move");
	}
	uhmm_migrate_vma_finalize(&args);
	return collected;
}

static int migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct driver *d = data;

	if (uhmm_devmem_page_data(d->pool, vmf->page) != d)
		uhmm_scenario_fail(UHMM_VERDICT_USE_AFTER_FREE,
				   "migrate_to_ram() of a page that is free");
	move(d, vmf->vma, false, vmf->page);
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

static int to_device(struct driver *d)
{
	bool moved;

	uhmm_mmap_read_lock(d->mm);
	moved = move(d, uhmm_vma_lookup(d->mm, pair_addr(0)), true, 0);
	uhmm_mmap_read_unlock(d->mm);
	return moved ? 0 : -EBUSY;
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
	*d = (struct driver){ .m = m, .mm = p->mm };
	err = uhmm_devmem_create(m, &config, d, &ops, d, &d->pool);
	if (!err)
		err = to_device(d);
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
