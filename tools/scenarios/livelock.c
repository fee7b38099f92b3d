// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A range fault against a migration that waits for all CPUs (museum of bugs: the livelock of
 * hmm_range_fault()). See docs/livelock.md.
 *
 * Page 0 is in RAM, in the LRU batch of CPU 0; page 1 is on the device. The task on CPU 1 migrates
 * both: it collects them, holds the lock of both folios, and drains the batches, for which work must
 * run on CPU 0. There a range fault wants page 1.
 */
#include "pair.h"

/* How a scenario differs. */
struct shape {
	bool forked; /* the range fault is the child's: page 1 is mapped twice */
	bool third;  /* a task takes the folio's lock, again and again, without migrating it */
	bool access; /* no range fault: the CPU's own */
	bool holder; /* page 1 is not migrated: its lock is held while page 0 is */
};

struct livelock {
	struct pair *p;
	struct uhmm_mirror *faulting; /* another device than the one that has page 1 */
	uhmm_pfn_t pfn;		      /* page 1, on the device */
	bool done;		      /* the range fault has come to its end */
};

enum { DEVICE_PAGE = 1 };

/* ---- the migration ---- */

/* A page of RAM for what is to move, with its contents; 0: it stays. */
static uint64_t copy_to_ram(struct uhmm_machine *m, uint64_t src)
{
	uhmm_pfn_t pfn;

	if (!(src & UHMM_MIGRATE_PFN_MIGRATE) || !(src & UHMM_MIGRATE_PFN_VALID) ||
	    uhmm_alloc_locked_page(m, &pfn))
		return 0;
	uhmm_copy_highpage(m, pfn, uhmm_migrate_pfn_to_pfn(src));
	return uhmm_migrate_pfn(pfn);
}

/*
 * What was collected moves: nobody but the migration may have references to it. Unless somebody waits
 * with one.
 */
static void migrate(void *arg)
{
	struct livelock *l = arg;
	uint64_t src[PAIR_PAGES] = { 0 }, dst[PAIR_PAGES] = { 0 };
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = src,
		.dst = dst,
		.start = pair_addr(0),
		.end = pair_addr(PAIR_PAGES),
		.pgmap_owner = l->p->dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	};
	bool collected, moved;

	uhmm_mmap_read_lock(l->p->mm);
	args.vma = uhmm_vma_lookup(l->p->mm, args.start);
	if (uhmm_migrate_vma_setup(&args))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migrate_vma_setup() failed");
	for (unsigned int i = 0; i < PAIR_PAGES; i++)
		dst[i] = copy_to_ram(l->p->m, src[i]);
	collected = src[DEVICE_PAGE] & UHMM_MIGRATE_PFN_MIGRATE;
	uhmm_migrate_vma_pages(&args);
	moved = src[DEVICE_PAGE] & UHMM_MIGRATE_PFN_MIGRATE;
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(l->p->mm);
	if (collected && !moved)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT,
				   "the device page was collected and unmapped, and did not move: "
				   "somebody has a reference");
}

/*
 * Holds the lock of page 1 and migrates page 0, which drains: the same wait, but no migration of the page
 * that the range fault wants.
 */
static void hold(void *arg)
{
	struct livelock *l = arg;
	uint64_t src = 0, dst = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = &src,
		.dst = &dst,
		.start = pair_addr(0),
		.end = pair_addr(1),
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	/* The range fault may have been faster: then there is no such page any more. */
	if (!uhmm_try_get_page(l->p->m, l->pfn))
		return;
	uhmm_mmap_read_lock(l->p->mm);
	uhmm_lock_page(l->p->m, l->pfn);
	args.vma = uhmm_vma_lookup(l->p->mm, args.start);
	if (uhmm_migrate_vma_setup(&args))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migrate_vma_setup() failed");
	uhmm_migrate_vma_finalize(&args);
	uhmm_unlock_put_page(l->p->m, l->pfn);
	uhmm_mmap_read_unlock(l->p->mm);
}

/* ---- the range fault ---- */

static void range_fault(void *arg)
{
	struct livelock *l = arg;
	uint64_t buf[UHMM_PAGE_SIZE / 8] = { 0 };
	struct uhmm_mirror_cmd cmd = { .addr = pair_addr(DEVICE_PAGE), .npages = 1, .ptr = buf };
	int err = uhmm_mirror_ioctl(l->faulting, UHMM_MIRROR_READ, &cmd);

	l->done = true;
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "range fault: %d", err);
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, buf[0] == pair_value(DEVICE_PAGE));
}

/* The CPU's fault on the same page. */
static void cpu_fault(void *arg)
{
	struct livelock *l = arg;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA,
			     pair_read(l->p->child, DEVICE_PAGE) == pair_value(DEVICE_PAGE));
}

/* ---- the third ---- */

/* Reads the page under its folio's lock, into one of its own. */
static void read_locked(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	uhmm_pfn_t copy;

	uhmm_lock_page(m, pfn);
	if (!uhmm_alloc_locked_page(m, &copy)) {
		uhmm_copy_highpage(m, copy, pfn);
		uhmm_unlock_put_page(m, copy);
	}
	uhmm_unlock_put_page(m, pfn);
}

static void take_lock(void *arg)
{
	struct livelock *l = arg;

	while (!l->done) {
		if (uhmm_try_get_page(l->p->m, l->pfn))
			read_locked(l->p->m, l->pfn);
		uhmm_sched_user_step();
	}
}

/* ---- the world ---- */

/* The device's page, as its owner's range fault reports it. */
static int device_pfn(struct livelock *l)
{
	uint64_t src = 0, dst = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = &src,
		.dst = &dst,
		.start = pair_addr(DEVICE_PAGE),
		.end = pair_addr(DEVICE_PAGE + 1),
		.pgmap_owner = l->p->dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
	};
	int err;

	uhmm_mmap_read_lock(l->p->mm);
	args.vma = uhmm_vma_lookup(l->p->mm, args.start);
	err = uhmm_migrate_vma_setup(&args);
	if (!err) {
		l->pfn = uhmm_migrate_pfn_to_pfn(src);
		uhmm_migrate_vma_finalize(&args);
	}
	uhmm_mmap_read_unlock(l->p->mm);
	return err ? err : l->pfn ? 0 : -ENOENT;
}

static int prepare(struct uhmm_machine *m, const struct shape *shape, struct livelock **out)
{
	struct livelock *l = uhmm_scenario_alloc(sizeof(*l));
	uint64_t buf[UHMM_PAGE_SIZE / 8] = { 0 };
	struct uhmm_mirror_cmd cmd = { .addr = pair_addr(DEVICE_PAGE), .npages = 1, .ptr = buf };
	int err;

	if (!l)
		return -ENOMEM;
	err = pair_setup(m, PAIR_PAGES, false, &l->p);
	if (!err)
		err = uhmm_mirror_ioctl(l->p->mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, &cmd);
	if (!err)
		err = device_pfn(l);
	/* A new page for the old, after all else: in this CPU's batch. */
	if (!err)
		err = uhmm_madvise(l->p->mm, pair_addr(0), UHMM_PAGE_SIZE, MADV_DONTNEED);
	if (!err && shape->forked)
		err = pair_fork(l->p);
	if (!err)
		pair_write(l->p->mm, 0, pair_value(0));
	if (!err)
		l->faulting = shape->forked ? l->p->child_mirror : l->p->mirror[1];
	*out = l;
	return err;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	const struct shape *shape = data;
	struct livelock *l;
	int err = prepare(m, shape, &l);

	if (!err)
		err = uhmm_scenario_spawn(shape->access ? "CPU fault" : "range fault", 0,
					  uhmm_mirror_mm(l->faulting),
					  shape->access ? cpu_fault : range_fault, l);
	if (!err)
		err = uhmm_scenario_spawn(shape->holder ? "hold" : "migrate", 1, l->p->mm,
					  shape->holder ? hold : migrate, l);
	if (!err && shape->third)
		err = uhmm_scenario_spawn("third", 2, NULL, take_lock, l);
	*state = l;
	return err;
}

static void check(void *state)
{
	struct pair *p = ((struct livelock *)state)->p;

	for (unsigned int i = 0; i < PAIR_PAGES; i++)
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, i) == pair_value(i));
	if (p->child)
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA,
				     pair_read(p->child, DEVICE_PAGE) == pair_value(DEVICE_PAGE));
}

static const struct shape mapped_twice = { .forked = true };
static const struct shape mapped_once = { .forked = false };
static const struct shape with_third = { .forked = true, .third = true };

UHMM_SCENARIO(hmm_livelock) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "hmm-livelock",
	.summary = "a range fault on a page of a migration that drains; with "
		   "device-private-wait=trylock-spin a livelock",
	.setup = setup,
	.check = check,
	.data = &mapped_twice,
};

UHMM_SCENARIO(hmm_livelock_one_mapping) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "hmm-livelock-one-mapping",
	.summary = "the same where the page is mapped once",
	.setup = setup,
	.check = check,
	.data = &mapped_once,
};

static const struct shape cpu_access = { .forked = true, .access = true };

UHMM_SCENARIO(hmm_livelock_cpu_fault) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "hmm-livelock-cpu-fault",
	.summary = "the same with a CPU's fault, which returns to user mode before it comes again",
	.setup = setup,
	.check = check,
	.data = &cpu_access,
};

static const struct shape other_holder = { .forked = true, .holder = true };

UHMM_SCENARIO(hmm_livelock_other_holder) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "hmm-livelock-other-holder",
	.summary = "the same where who holds the page's lock migrates another page",
	.setup = setup,
	.check = check,
	.data = &other_holder,
};

/* It is the third's lock that matters here, and not its references. */
static void with_third_cpu(struct uhmm_machine_config *config)
{
	config->nr_cpus = 3;
	config->migration_blocked_by = UHMM_BLOCKED_BY_PIN;
}

UHMM_SCENARIO(hmm_starvation) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "hmm-starvation",
	.summary = "the same with a third task that keeps taking the folio's lock",
	.configure = with_third_cpu,
	.setup = setup,
	.check = check,
	.data = &with_third,
};
