// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Two combined walks that want each other's folios. A walk keeps what it has collected locked while it
 * faults elsewhere; if it slept on others meanwhile, the two could wait for each other. Folios of one
 * family lie in the same order in every mm, so it takes a walk that begins again while it holds some:
 * a third task, which holds a folio of the child for a moment, makes it.
 */
#include "pair.h"

/* The least of a driver: a notifier, and a lock for its sequence. */
struct driver {
	struct uhmm_mutex *lock;
	struct uhmm_mmu_interval_notifier *notifier;
};

struct abba {
	struct pair *p;
	struct driver drivers[2];
};

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long seq)
{
	struct driver *d = uhmm_mmu_interval_data(mni);

	if (range->event == UHMM_MMU_NOTIFY_MIGRATE && range->owner == d)
		return true;
	if (range->blockable)
		uhmm_mutex_lock(d->lock);
	else if (!uhmm_mutex_trylock(d->lock))
		return false;
	uhmm_mmu_interval_set_seq(mni, seq);
	uhmm_mutex_unlock(d->lock);
	return true;
}

static int driver_open(struct driver *d, struct uhmm_machine *m, struct uhmm_mm *mm)
{
	static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = invalidate };
	int err = uhmm_mutex_create(m, "driver", &d->lock);

	return err ? err
		   : uhmm_mmu_interval_notifier_insert(mm, PAIR_AT, PAIR_PAGES * UHMM_PAGE_SIZE,
						       &ops, d, &d->notifier);
}

/* Collects both pages and puts them back. */
static void walk(void *arg)
{
	struct driver *d = arg;
	struct uhmm_mm *mm = uhmm_mmu_interval_mm(d->notifier);
	uint64_t pfns[PAIR_PAGES] = { 0 }, dst[PAIR_PAGES] = { 0 };
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = pfns,
		.dst = dst,
		.pgmap_owner = d,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.notifier = d->notifier,
		.start = pair_addr(0),
		.end = pair_addr(PAIR_PAGES),
		.hmm_pfns = pfns,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_MIGRATE,
		.migrate = &args,
	};
	int err = uhmm_range_fault_unlocked_timeout(&range, 0);

	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "combined walk: %d", err);
	uhmm_migrate_hmm_range_setup(&range);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(mm);
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
	config->lock_order = UHMM_LOCK_ORDER_IGNORED;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct abba *a = uhmm_scenario_alloc(sizeof(*a));
	int err;

	(void)data;
	if (!a)
		return -ENOMEM;
	err = pair_setup(m, PAIR_PAGES, true, &a->p);
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = driver_open(&a->drivers[i], m, a->p->mm);
	/* The third is done before the walk on its CPU begins. */
	if (!err)
		err = uhmm_scenario_spawn("third", 0, a->p->child, third, a->p->child);
	if (!err)
		err = uhmm_scenario_spawn("walk 0", 0, a->p->mm, walk, &a->drivers[0]);
	if (!err)
		err = uhmm_scenario_spawn("walk 1", 1, a->p->mm, walk, &a->drivers[1]);
	*state = a;
	return err;
}

static void check(void *state)
{
	struct abba *a = state;

	for (unsigned int i = 0; i < PAIR_PAGES; i++) {
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA,
				     pair_read(a->p->mm, i) == pair_value(i));
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA,
				     pair_read(a->p->child, i) == pair_value(i));
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
