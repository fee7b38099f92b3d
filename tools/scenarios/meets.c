// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What two tasks do to one page at the same time: a scenario for each line of the table below, so small
 * that a switch or two show most of what can go wrong. Many of tests/mutants/ are seen by one of these.
 */
#include "pair.h"

/* Where the page is at first: its own, in RAM; shared with a child; its own, elsewhere. */
enum start { IN_RAM, SHARED, ON_DEVICE, EXCLUSIVE };

struct meeting {
	enum start start;
	const char *name[2];
	void (*task[2])(void *arg);
};

/* A device's operation on the first @npages, whose result the other task may have taken away again. */
static void device_op(struct pair *p, unsigned int i, enum uhmm_mirror_op op, unsigned int npages)
{
	int err = pair_op(p->mirror[i], op, npages);

	if (err && err != -ENOENT)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "the device's operation: %d", err);
}

static void to_device(void *arg)
{
	device_op(arg, 0, UHMM_MIRROR_MIGRATE_TO_DEV, 1);
}

static void combined(void *arg)
{
	device_op(arg, 0, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, 1);
}

/*
 * Within RAM. Others may wait for the page, but nobody refers to it, so it moves, whoever comes first.
 */
static void move(void *arg)
{
	struct pair *p = arg;
	uint64_t src = 0, dst = 0;
	uhmm_pfn_t pfn = 0;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = &src,
		.dst = &dst,
		.start = pair_addr(0),
		.end = pair_addr(1),
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	uhmm_mmap_read_lock(p->mm);
	args.vma = uhmm_vma_lookup(p->mm, pair_addr(0));
	if (uhmm_migrate_vma_setup(&args) || uhmm_alloc_locked_page(p->m, &pfn))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migrate_vma_setup() failed");
	if (src & UHMM_MIGRATE_PFN_MIGRATE)
		uhmm_copy_highpage(p->m, pfn, uhmm_migrate_pfn_to_pfn(src));
	dst = uhmm_migrate_pfn(pfn);
	uhmm_migrate_vma_pages(&args);
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, src & UHMM_MIGRATE_PFN_MIGRATE);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(p->mm);
}

/* A range fault, by the device that has no part in migrations. */
static void walk(void *arg)
{
	device_op(arg, 1, UHMM_MIRROR_READ, 1);
}

/* The second page is the device's own, and is faulted home if the first is missing. */
static void own_walk(void *arg)
{
	device_op(arg, 0, UHMM_MIRROR_READ, 2);
}

static void read_page(void *arg)
{
	struct pair *p = arg;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, 0) == pair_value(0));
}

/* A write cannot be lost, whatever a device does meanwhile. */
static void write_page(void *arg)
{
	struct pair *p = arg;

	pair_write(p->mm, 0, pair_value(1));
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(p->mm, 0) == pair_value(1));
}

static void read_or_none(void *arg)
{
	struct pair *p = arg;
	uint64_t value = pair_read(p->mm, 0);

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, !value || value == pair_value(0));
}

/* What MADV_DONTNEED took away must not be seen again, by an old translation neither. */
static void zap(void *arg)
{
	struct pair *p = arg;

	pair_read(p->mm, 0);
	if (uhmm_madvise(p->mm, pair_addr(0), UHMM_PAGE_SIZE, MADV_DONTNEED))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "madvise() failed");
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, !pair_read(p->mm, 0));
}

/* The same without a fault before and after. */
static void zap_at_once(void *arg)
{
	struct pair *p = arg;

	if (uhmm_madvise(p->mm, pair_addr(0), UHMM_PAGE_SIZE, MADV_DONTNEED))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "madvise() failed");
}

/* A driver that takes its notifier away. */
static void remove_notifier(void *arg)
{
	struct pair *p = arg;

	uhmm_mmu_interval_notifier_remove(p->notifier);
}

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	(void)range;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops notifier_ops = { .invalidate = invalidate };

/*
 * A fresh page is in its CPU's LRU batch, which holds a reference, so that it would not be free when it
 * is unmapped. The migration of another page empties the batch.
 */
static int drain(struct pair *p)
{
	struct uhmm_mirror_cmd cmd = { .addr = pair_addr(1), .npages = 1 };

	cmd.ptr = uhmm_scenario_alloc(UHMM_PAGE_SIZE);
	if (!cmd.ptr)
		return -ENOMEM;
	return uhmm_mirror_ioctl(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, &cmd);
}

static int start_at(struct pair *p, enum start start)
{
	if (start == ON_DEVICE)
		return pair_op(p->mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, 1);
	if (start == EXCLUSIVE)
		return pair_op(p->mirror[0], UHMM_MIRROR_EXCLUSIVE, 1);
	return 0;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	const struct meeting *meeting = data;
	struct pair *p;
	int err = pair_setup(m, 2, meeting->start == SHARED, &p);

	if (!err)
		err = uhmm_mmu_interval_notifier_insert(p->mm, PAIR_AT, UHMM_PAGE_SIZE,
							&notifier_ops, NULL, &p->notifier);
	if (!err)
		err = drain(p);
	if (!err)
		err = start_at(p, meeting->start);
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = uhmm_scenario_spawn(meeting->name[i], i, p->mm, meeting->task[i], p);
	*state = p;
	return err;
}

#define MEETING(id, name_, summary_, ...)                                                          \
	static const struct meeting id##_meeting = __VA_ARGS__;                                    \
	UHMM_SCENARIO(id) = {                                                                      \
		.size = sizeof(struct uhmm_scenario),                                              \
		.name = name_,                                                                     \
		.summary = summary_,                                                               \
		.setup = setup,                                                                    \
		.data = &id##_meeting,                                                             \
	}

MEETING(walk_vs_migrate, "walk-vs-migrate",
	"a device's range fault on a page that another device migrates to itself",
	{ IN_RAM, { "walk", "migrate" }, { walk, to_device } });
MEETING(walk_vs_zap, "walk-vs-zap", "a device's range fault against MADV_DONTNEED",
	{ IN_RAM, { "walk", "zap" }, { walk, zap_at_once } });
MEETING(own_walk_vs_zap, "own-walk-vs-zap",
	"a device reads two pages, the second its own, while the first is thrown away",
	{ IN_RAM, { "walk", "zap" }, { own_walk, zap_at_once } });
MEETING(migrate_vs_zap, "migrate-vs-zap",
	"a page goes to a device while the process throws it away and looks",
	{ SHARED, { "migrate", "zap" }, { to_device, zap } });
MEETING(combined_vs_zap, "combined-vs-zap", "the same with a combined walk instead of a migration",
	{ IN_RAM, { "combined", "zap" }, { combined, zap } });
MEETING(move_vs_fault, "move-vs-fault",
	"a page moves within RAM while a CPU writes to it: waiting for it does not keep it",
	{ IN_RAM, { "move", "fault" }, { move, write_page } });
MEETING(fault_vs_fault, "fault-vs-fault", "two CPUs read a page of a device",
	{ ON_DEVICE, { "fault 0", "fault 1" }, { read_page, read_page } });
MEETING(exclusive_vs_zap, "exclusive-vs-zap",
	"a CPU reads a page that a device has for its atomics, and that is thrown away",
	{ EXCLUSIVE, { "fault", "zap" }, { read_or_none, zap_at_once } });
MEETING(notifier_vs_zap, "notifier-vs-zap", "a notifier is removed during an invalidation",
	{ IN_RAM, { "remove", "zap" }, { remove_notifier, zap_at_once } });
