// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A driver's fault-and-migrate operation that holds mmap_lock for reading while it calls the combined
 * walker's unlocked form, which takes it for itself. Alone, it gets by. Where another task comes in
 * between to write-lock the address space, the second reader queues behind it, and it waits for the
 * first. See docs/livelock.md.
 */
#include "pair.h"

struct mapping {
	struct pair *p;
	struct uhmm_mmu_interval_notifier *notifier;
};

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	(void)range;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = invalidate };

/* The operation, with the lock around all of it. */
static void fault_and_migrate(void *arg)
{
	struct mapping *t = arg;
	uint64_t pfn = 0, dst = 0;
	struct uhmm_migrate_vma migrate = {
		.size = sizeof(migrate),
		.src = &pfn,
		.dst = &dst,
		.start = pair_addr(0),
		.end = pair_addr(1),
		.pgmap_owner = t->p->dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.notifier = t->notifier,
		.start = pair_addr(0),
		.end = pair_addr(1),
		.hmm_pfns = &pfn,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_MIGRATE,
		.dev_private_owner = t->p->dev[0],
		.migrate = &migrate,
	};
	int err;

	uhmm_mmap_read_lock(t->p->mm);
	err = uhmm_range_fault_unlocked_timeout(&range, 0);
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "combined walk: %d", err);
	/* Nothing is moved: that is not what this is about. */
	uhmm_migrate_hmm_range_setup(&range);
	uhmm_migrate_vma_finalize(&migrate);
	/* The walk's, which it returns with, and the driver's. */
	uhmm_mmap_read_unlock(t->p->mm);
	uhmm_mmap_read_unlock(t->p->mm);
}

/* Takes mmap_lock for writing, twice. */
static void map_and_unmap(void *arg)
{
	struct mapping *t = arg;
	uhmm_vaddr_t at = pair_addr(16);
	int err = uhmm_mmap(t->p->mm, at, UHMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);

	if (!err)
		err = uhmm_munmap(t->p->mm, at, UHMM_PAGE_SIZE);
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "mmap or munmap: %d", err);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct mapping *t = uhmm_scenario_alloc(sizeof(*t));
	int err;

	(void)data;
	if (!t)
		return -ENOMEM;
	err = pair_setup(m, 1, false, &t->p);
	if (!err)
		err = uhmm_mmu_interval_notifier_insert(t->p->mm, pair_addr(0), UHMM_PAGE_SIZE,
							&ops, NULL, &t->notifier);
	if (!err)
		err = uhmm_scenario_spawn("driver", 0, t->p->mm, fault_and_migrate, t);
	if (!err)
		err = uhmm_scenario_spawn("mmap", 1, t->p->mm, map_and_unmap, t);
	*state = t;
	return err;
}

UHMM_SCENARIO(mmap_lock_recursion) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "mmap-lock-recursion",
	.summary =
		"a driver takes mmap_lock for reading twice; with lock-order=ignored, and a writer "
		"in between, a deadlock",
	.setup = setup,
};
