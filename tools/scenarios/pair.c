// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pair.h"

static int open_devices(struct pair *p)
{
	struct uhmm_device_config config = { .size = sizeof(config), .memory_bytes = 1UL << 20 };
	int err = 0;

	for (unsigned int i = 0; i < PAIR_DEVICES && !err; i++) {
		err = uhmm_device_create(p->m, &config, &p->dev[i]);
		if (!err)
			err = uhmm_mirror_open(p->dev[i], p->mm, &p->mirror[i]);
	}
	return err;
}

int pair_fork(struct pair *p)
{
	int err = uhmm_mm_fork(p->mm, &p->child);

	return err ? err : uhmm_mirror_open(p->dev[1], p->child, &p->child_mirror);
}

int pair_setup(struct uhmm_machine *m, unsigned int npages, bool fork, struct pair **out)
{
	struct pair *p = uhmm_scenario_alloc(sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->m = m;
	p->npages = npages;
	err = uhmm_mm_create(m, &p->mm);
	if (!err)
		err = open_devices(p);
	if (!err)
		err = uhmm_mmap(p->mm, PAIR_AT, npages * UHMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	for (unsigned int i = 0; i < npages && !err; i++) {
		uint64_t value = pair_value(i);

		err = uhmm_cpu_write(p->mm, pair_addr(i), &value, sizeof(value), NULL);
	}
	if (!err && fork)
		err = pair_fork(p);
	*out = p;
	return err;
}

int pair_op(struct uhmm_mirror *mirror, enum uhmm_mirror_op op, unsigned int npages)
{
	uint64_t buf[PAIR_PAGES * UHMM_PAGE_SIZE / 8];
	struct uhmm_mirror_cmd cmd = { .addr = PAIR_AT, .npages = npages, .ptr = buf };

	return uhmm_mirror_ioctl(mirror, op, &cmd);
}

uint64_t pair_read(struct uhmm_mm *mm, unsigned int i)
{
	uint64_t value = 0;
	int sig = uhmm_cpu_read(mm, pair_addr(i), &value, sizeof(value), NULL);

	if (sig)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "reading page %u gave signal %d", i,
				   sig);
	return value;
}

void pair_write(struct uhmm_mm *mm, unsigned int i, uint64_t value)
{
	int sig = uhmm_cpu_write(mm, pair_addr(i), &value, sizeof(value), NULL);

	if (sig)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "writing page %u gave signal %d", i,
				   sig);
}

/* Context: mmap_lock. */
static bool move(struct pair_driver *d, struct uhmm_vma *vma, bool to_device, uhmm_pfn_t fault_page)
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

bool pair_to_device(struct pair_driver *d, struct uhmm_mm *mm)
{
	bool moved;

	uhmm_mmap_read_lock(mm);
	moved = move(d, uhmm_vma_lookup(mm, pair_addr(0)), true, 0);
	uhmm_mmap_read_unlock(mm);
	return moved;
}

bool pair_to_ram(struct pair_driver *d, const struct uhmm_vm_fault *vmf)
{
	return move(d, vmf->vma, false, vmf->page);
}
