// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Three tasks do what comes: any operation of the mirror and of mm, on a few pages, or on huge ones. Two
 * are threads of one process, the third is its child.
 */
#include "operations.h"

enum { OPERATIONS = 8 };

static const struct shape small = {
	.page = { 0, 1, 2, 3, 4 },
	.copy = { 0, PAGES, 2 * PAGES },
	.copy_pages = PAGES,
};

/* Two huge pages; the last copy is where what was one cannot be one. */
static const struct shape huge = {
	.page = { 0, 1, 511, 512, 1023 },
	.copy = { 0, 1024, 2 * 1024 + 1 },
	.copy_pages = 1024,
	.huge = true,
};

static void act(void *arg)
{
	struct actor *a = arg;

	for (int i = 0; i < OPERATIONS; i++) {
		(pick(3) ? access_operation : mm_operation)(a);
		uhmm_sched_user_step();
	}
}

/* ---- before and after ---- */

static void configure(struct uhmm_machine_config *config)
{
	config->swap_bytes = 64 * UHMM_PAGE_SIZE;
	config->device_bytes = 8UL << 20;
	/* With less a device that writes to its own page after a fork is a warning: F1. */
	config->device_private_write = UHMM_DEVICE_WRITE_FAULTS;
}

/* Without the mends of docs/findings.md it is their faults that are found. */
static void configure_huge(struct uhmm_machine_config *config)
{
	configure(config);
	config->ram_bytes = 96UL << 20;
	config->device_bytes = 64UL << 20;
	config->swap_bytes = 16UL << 20;
	config->thp = UHMM_THP_ALWAYS;
	config->fault_folio = UHMM_FAULT_FOLIO_KEPT;
	config->large_hole = UHMM_LARGE_HOLE_EACH;
	config->huge_device_wait = UHMM_HUGE_DEVICE_WAITS;
	config->split_lock = UHMM_SPLIT_LOCK_TRIES;
	config->split_flush = UHMM_SPLIT_FLUSH_BEFORE_UNLOCK;
}

static int open_devices(struct all *all)
{
	struct uhmm_device_config config = {
		.size = sizeof(config),
		/* Less than there are pages: some have to be evicted. */
		.memory_bytes = all->shape->huge ? UHMM_PMD_SIZE + 64 * UHMM_PAGE_SIZE
						 : (PAGES - 1) * UHMM_PAGE_SIZE,
		.clearable_flags = true,
	};
	int err = 0;

	for (unsigned int i = 0; i < DEVICES && !err; i++) {
		config.type = i == 2 ? UHMM_MEMORY_DEVICE_COHERENT : UHMM_MEMORY_DEVICE_PRIVATE;
		err = uhmm_device_create(all->m, &config, &all->dev[i]);
	}
	return err;
}

static int open_process(struct all *all, struct process *p)
{
	static const enum uhmm_file_kind kinds[FILES] = { UHMM_FILE_REGULAR, UHMM_FILE_MEMORY };
	uint64_t bytes = all->shape->copy_pages * UHMM_PAGE_SIZE;
	int err = 0;

	uhmm_mm_set_brk(p->mm, OPERATIONS_HEAP);
	uhmm_uffd_set_handler(p->mm, resolve_fault, NULL);
	for (unsigned int i = 0; i < FILES && !err; i++)
		err = uhmm_file_create(all->m, kinds[i], bytes, &p->file[i]);
	for (unsigned int i = 0; i < DEVICES && !err; i++)
		err = uhmm_mirror_open(all->dev[i], p->mm, &p->mirror[i]);
	return err;
}

/* All pages of a copy, which know their values then. */
static int write_copy(struct all *all, struct process *p, unsigned int copy)
{
	int sig = 0;

	for (unsigned int i = 0; i < PAGES && !sig; i++) {
		struct place *place = &p->places[copy * PAGES + i];

		place->value = (uint64_t)(i + 1) << 56;
		place->unknown = false;
		sig = uhmm_cpu_write(p->mm, place_addr(all, copy * PAGES + i), &place->value,
				     sizeof(place->value), NULL);
	}
	return sig ? -EFAULT : 0;
}

/* What a child shares: written, and the first pages on a device. */
static int make_parent(struct all *all, struct process *p)
{
	uint64_t len = all->shape->copy_pages * UHMM_PAGE_SIZE;
	uint64_t to_device = len < UHMM_PMD_SIZE ? UHMM_PAGE_SIZE : UHMM_PMD_SIZE;
	int err = uhmm_mm_create(all->m, &p->mm);

	if (!err)
		err = uhmm_mmap(p->mm, OPERATIONS_AT, 2 * len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	if (!err)
		err = write_copy(all, p, 0);
	if (!err)
		err = open_process(all, p);
	return err ? err
		   : uhmm_mirror_serve(p->mirror[0], OPERATIONS_AT, OPERATIONS_AT + to_device, true,
				       UHMM_MIGRATE_FAULT_MIGRATE, NULL);
}

/* What a process has for itself: of huge pages one, and one that could be one. */
static int write_own(struct all *all, struct process *p)
{
	uhmm_vaddr_t middle = place_addr(all, PAGES) + UHMM_PMD_SIZE;
	int err = 0;

	if (all->shape->huge)
		err = uhmm_madvise(p->mm, middle, UHMM_PMD_SIZE, MADV_NOHUGEPAGE);
	if (!err)
		err = write_copy(all, p, 1);
	if (!err && all->shape->huge)
		err = uhmm_madvise(p->mm, middle, UHMM_PMD_SIZE, MADV_HUGEPAGE);
	return err;
}

/* Two copies are mapped; of the first the processes share all, of the second nothing. */
static int make_processes(struct all *all)
{
	struct process *parent = &all->processes[0], *child = &all->processes[1];
	int err = make_parent(all, parent);

	parent->nr_writers = 2;
	child->nr_writers = 1;
	for (unsigned int i = PAGES; i < PLACES; i++)
		parent->places[i].unknown = child->places[i].unknown = true;
	for (unsigned int i = 0; i < PAGES; i++)
		child->places[i] = parent->places[i];
	if (!err)
		err = uhmm_mm_fork(parent->mm, &child->mm);
	if (!err)
		err = open_process(all, child);
	if (!err)
		err = write_own(all, parent);
	return err ? err : write_own(all, child);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	static const char *const names[TASKS] = { "parent 0", "parent 1", "child" };
	struct all *all = uhmm_scenario_alloc(sizeof(*all));
	int err;

	if (!all)
		return -ENOMEM;
	*state = all;
	all->m = m;
	all->shape = data;
	err = open_devices(all);
	if (!err)
		err = make_processes(all);
	if (!err)
		err = uhmm_alloc_locked_page(m, &all->frame);
	if (err)
		return err;
	uhmm_clear_highpage(m, all->frame);
	uhmm_unlock_page(m, all->frame);
	for (unsigned int i = 0; i < TASKS && !err; i++) {
		struct actor *a = &all->actors[i];

		a->all = all;
		a->process = &all->processes[i / 2];
		a->writer = i % 2;
		err = uhmm_scenario_spawn(names[i], i % 2, a->process->mm, act, a);
	}
	return err;
}

static void read_all(struct all *all, const char *when)
{
	for (unsigned int i = 0; i < TASKS; i++) {
		struct actor *a = &all->actors[i];

		for (unsigned int place = 0; place < PLACES; place++) {
			uhmm_vaddr_t addr = place_addr(all, place);
			uint64_t value;

			if (!uhmm_cpu_read(a->process->mm, addr, &value, sizeof(value), NULL))
				see(a, addr, value, when);
		}
	}
}

/* Nobody counts the mappings of a driver's frame. */
static void free_frame(struct all *all)
{
	const struct shape *s = all->shape;
	uint64_t len = (s->copy[COPIES - 1] + s->copy_pages) * UHMM_PAGE_SIZE;

	for (unsigned int i = 0; i < 2; i++)
		uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT,
				     !uhmm_munmap(all->processes[i].mm, OPERATIONS_AT, len));
	uhmm_put_user_pages(all->m, &all->frame, 1);
}

/*
 * RELEASE, which takes a device's memory away, waits for ever if a page was busy when it should have gone
 * home, and so comes last.
 */
static void check(void *state)
{
	struct all *all = state;

	for (unsigned int i = 0; i < 2 * DEVICES; i++) {
		struct uhmm_mirror_cmd cmd = { .addr = OPERATIONS_AT };

		if (uhmm_mirror_ioctl(all->processes[i / DEVICES].mirror[i % DEVICES],
				      UHMM_MIRROR_FLAGS, &cmd))
			uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "FLAGS failed");
	}
	read_all(all, "in the end");
	for (unsigned int i = 0; i < DEVICES; i++) {
		struct uhmm_mirror_cmd cmd = { .addr = OPERATIONS_AT, .npages = 1 };

		if (uhmm_mirror_ioctl(all->processes[0].mirror[i], UHMM_MIRROR_RELEASE, &cmd))
			uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "RELEASE failed");
	}
	read_all(all, "after RELEASE");
	free_frame(all);
}

UHMM_SCENARIO(all_operations) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "all-operations",
	.summary = "three tasks, two processes, three devices: whatever operation comes",
	.configure = configure,
	.setup = setup,
	.check = check,
	.data = &small,
};

UHMM_SCENARIO(all_operations_huge) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "all-operations-huge",
	.summary = "the same with huge pages",
	.configure = configure_huge,
	.setup = setup,
	.check = check,
	.data = &huge,
};
