// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Two CPU faults on the two pages on either side of a border between two huge device pages, of which
 * nothing else is mapped. The driver brings both home at once: each fault has the folio locked that the
 * other has to split.
 */
#include "huge.h"

enum { FIRST = HUGE_PAGES - 1, NR = 2 };

struct split {
	struct huge *h;
	struct uhmm_devmem *pool;
};

/* A destination, with contents, for what was collected at an entry. */
static uint64_t destination(struct split *s, uint64_t src, bool device)
{
	struct uhmm_machine *m = s->h->m;
	uhmm_pfn_t from = uhmm_migrate_pfn_to_pfn(src), to;
	unsigned int order = uhmm_page_order(m, from);
	int err = device ? uhmm_devmem_alloc_folio(s->pool, NULL, order, &to)
			 : uhmm_alloc_locked_folio(m, order, &to);

	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "no memory to go to: %d", err);
	for (uint64_t i = 0; i < 1UL << order; i++)
		uhmm_copy_highpage(m, to + i, from + i);
	return uhmm_migrate_pfn(to) | (src & UHMM_MIGRATE_PFN_COMPOUND);
}

static int migrate(struct split *s, struct uhmm_migrate_vma *args, bool device)
{
	const uint64_t both = UHMM_MIGRATE_PFN_VALID | UHMM_MIGRATE_PFN_MIGRATE;
	int err = uhmm_migrate_vma_setup(args);

	if (err)
		return err;
	for (uint64_t i = 0; i < args->npages; i++)
		if ((args->src[i] & both) == both)
			args->dst[i] = destination(s, args->src[i], device);
	uhmm_migrate_vma_pages(args);
	uhmm_migrate_vma_finalize(args);
	return 0;
}

static int migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	uint64_t src[NR], dst[NR];
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.vma = vmf->vma,
		.src = src,
		.dst = dst,
		.start = HUGE_AT + FIRST * UHMM_PAGE_SIZE,
		.end = HUGE_AT + (FIRST + NR) * UHMM_PAGE_SIZE,
		.pgmap_owner = data,
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = vmf->page,
	};

	return migrate(data, &args, false) ? UHMM_VM_FAULT_SIGBUS : 0;
}

static const struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = migrate_to_ram };

static int to_device(struct split *s)
{
	struct huge *h = s->h;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = h->entries,
		.dst = h->entries + HUGE_MAX * HUGE_PAGES,
		.start = HUGE_AT,
		.end = HUGE_AT + HUGE_MAX * UHMM_PMD_SIZE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_COMPOUND,
	};
	int err;

	uhmm_mmap_read_lock(h->mm);
	args.vma = uhmm_vma_lookup(h->mm, HUGE_AT);
	err = migrate(s, &args, true);
	uhmm_mmap_read_unlock(h->mm);
	return err;
}

static void fault_first(void *arg)
{
	struct split *s = arg;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(s->h->mm, FIRST) == 2);
}

static void fault_second(void *arg)
{
	struct split *s = arg;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(s->h->mm, FIRST + 1) == 1);
}

/* The deadlock itself is wanted, and not that it might be. */
static void configure(struct uhmm_machine_config *config)
{
	huge_configure(config);
	config->lock_order = UHMM_LOCK_ORDER_IGNORED;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct uhmm_devmem_config config = { .size = sizeof(config), .chunk_bytes = 4UL << 20 };
	struct split *s = uhmm_scenario_alloc(sizeof(*s));
	uhmm_vaddr_t rest = HUGE_AT + (FIRST + NR) * UHMM_PAGE_SIZE;
	int err;

	(void)data;
	if (!s)
		return -ENOMEM;
	*state = s;
	err = huge_setup(m, HUGE_AT, HUGE_MAX, &s->h);
	if (!err)
		err = uhmm_devmem_create(m, &config, s, &ops, s, &s->pool);
	if (err)
		return err;
	huge_write(s->h->mm, FIRST, 2);
	err = to_device(s);
	if (!err)
		err = uhmm_madvise(s->h->mm, HUGE_AT, FIRST * UHMM_PAGE_SIZE, MADV_DONTNEED);
	if (!err)
		err = uhmm_madvise(s->h->mm, rest, (HUGE_PAGES - 1) * UHMM_PAGE_SIZE,
				   MADV_DONTNEED);
	if (!err)
		err = uhmm_scenario_spawn("fault 0", 0, s->h->mm, fault_first, s);
	return err ? err : uhmm_scenario_spawn("fault 1", 1, s->h->mm, fault_second, s);
}

static void check(void *state)
{
	struct split *s = state;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(s->h->mm, FIRST) == 2);
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(s->h->mm, FIRST + 1) == 1);
}

UHMM_SCENARIO(split_abba) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "split-abba",
	.summary =
		"two CPU faults that bring two huge pages home and each have to split the other's",
	.configure = configure,
	.setup = setup,
	.check = check,
};
