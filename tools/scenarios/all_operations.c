// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Three tasks do what comes: any operation of the mirror and of mm, on a few pages. Two are threads of
 * one process, the third is its child; each page of a process is written by one task only, which therefore
 * knows what it must read. The high byte of what is written in a page says which page it is, so that
 * whoever reads can tell another's from a wrong one.
 */
#include "pair.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/*
 * mremap moves pages from one half to the other and back, so that a page is found at two places. A file
 * is as large as a half.
 */
enum { PAGES = 5, PLACES = 2 * PAGES, MAX_RANGE = 3, OPERATIONS = 5, TASKS = 3, DEVICES = 3 };

struct place {
	uint64_t value;	      /* last written by its owner */
	unsigned int changed; /* how often something began, or ended, that may change what is there */
	unsigned int active; /* of those, not ended */
	bool unknown; /* something other than a write changed it: zero, or of an earlier write */
};

struct process {
	struct uhmm_mm *mm;
	struct uhmm_mirror *mirror[DEVICES];
	struct place places[PLACES];
	unsigned int nr_writers;
	bool aliased; /* shared memory may be at both places of a page */
};

struct all;

struct actor {
	struct all *all;
	struct process *process;
	unsigned int writer; /* of the process's */
	uint64_t nr_written;
	uint64_t buf[MAX_RANGE * UHMM_PAGE_SIZE / 8];
};

struct all {
	struct uhmm_machine *m;
	struct uhmm_file *file;
	struct uhmm_device *dev[DEVICES];
	struct process processes[2];
	struct actor actors[TASKS];
};

static uhmm_vaddr_t addr_of(unsigned int place)
{
	return PAIR_AT + place * UHMM_PAGE_SIZE;
}

static unsigned int page_of(unsigned int place)
{
	return place % PAGES;
}

static unsigned int pick(unsigned int n)
{
	return (unsigned int)uhmm_scenario_random(n);
}

/* ---- contents ---- */

static bool of_page(uint64_t value, unsigned int place)
{
	return !value || value >> 56 == page_of(place) + 1;
}

static bool owns(const struct actor *a, unsigned int place)
{
	return page_of(place) % a->process->nr_writers == a->writer;
}

/* Something that may change contents, other than the owner's writing, begins or ends. */
static void change_begin(struct process *p, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		p->places[i].changed++;
		p->places[i].active++;
		p->places[i].unknown = true;
	}
}

static void change_end(struct process *p, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		p->places[i].changed++;
		p->places[i].active--;
	}
}

/* Everywhere, since memory that is shared across fork is common to both. */
static void change_all(struct all *all, bool begin)
{
	for (unsigned int i = 0; i < 2; i++)
		(begin ? change_begin : change_end)(&all->processes[i], 0, PLACES);
}

static void see(const struct actor *a, unsigned int place, uint64_t value, const char *how)
{
	struct place *p = &a->process->places[place];

	if (!of_page(value, place))
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "%s at %#lx: %#lx is of another page",
				   how, addr_of(place), value);
	if (owns(a, place) && !p->unknown && value != p->value)
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "%s at %#lx: %#lx, and %#lx was written",
				   how, addr_of(place), value, p->value);
}

static unsigned int other_place(unsigned int place)
{
	return (place + PAGES) % PLACES;
}

/* The owner writes a value that is new. */
static uint64_t write_begin(struct actor *a, unsigned int place, unsigned int *changed)
{
	if (a->process->aliased)
		a->process->places[other_place(place)].unknown = true;
	*changed = a->process->places[place].changed;
	return (uint64_t)(page_of(place) + 1) << 56 | (uint64_t)(a - a->all->actors + 1) << 48 |
	       ++a->nr_written;
}

static void write_end(struct actor *a, unsigned int place, uint64_t value, unsigned int changed,
		      bool written)
{
	struct place *p = &a->process->places[place];

	if (!written)
		return;
	p->value = value;
	p->unknown = p->active || p->changed != changed;
}

/* A place of the task's own. */
static unsigned int pick_own(const struct actor *a)
{
	unsigned int place;

	do
		place = pick(PLACES);
	while (!owns(a, place));
	return place;
}

static unsigned int pick_range(unsigned int *n)
{
	unsigned int first = pick(PLACES);

	*n = 1 + pick(MAX_RANGE);
	if (*n > PLACES - first)
		*n = PLACES - first;
	return first;
}

/* ---- accesses ---- */

static void cpu_write(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	uint64_t value = write_begin(a, place, &changed);
	int sig = uhmm_cpu_write(a->process->mm, addr_of(place), &value, sizeof(value), NULL);

	write_end(a, place, value, changed, !sig);
}

static void cpu_read(struct actor *a)
{
	unsigned int place = pick(PLACES);
	uint64_t value = 0;

	if (!uhmm_cpu_read(a->process->mm, addr_of(place), &value, sizeof(value), NULL))
		see(a, place, value, "CPU read");
}

static struct uhmm_mirror *pick_mirror(const struct actor *a)
{
	return a->process->mirror[pick(DEVICES)];
}

/* What devices may not say: memory is not short. */
static void device_expect(int err, const char *what)
{
	if (err == -ENOMEM || err > 0)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "%s: %d", what, err);
}

static void device_access(struct actor *a)
{
	bool write = pick(2);
	unsigned int place = write ? pick_own(a) : pick(PLACES), changed = 0;
	uint64_t value = write ? write_begin(a, place, &changed) : 0;
	int err = uhmm_mirror_access(pick_mirror(a), addr_of(place), write, &value,
				     (enum uhmm_strategy)pick(UHMM_NR_STRATEGIES),
				     UHMM_PAGE_SIZE << pick(3), NULL);

	device_expect(err, "device access");
	if (write)
		write_end(a, place, value, changed, !err);
	else if (!err)
		see(a, place, value, "device read");
}

static void device_write(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	struct uhmm_mirror_cmd cmd = { .addr = addr_of(place), .npages = 1, .ptr = a->buf };
	uint64_t value;
	int err;

	/* A word stands for its page. */
	value = write_begin(a, place, &changed);
	for (unsigned int i = 0; i < UHMM_PAGE_SIZE / 8; i++)
		a->buf[i] = value;
	err = uhmm_mirror_ioctl(pick_mirror(a), UHMM_MIRROR_WRITE, &cmd);
	device_expect(err, "WRITE");
	write_end(a, place, value, changed, !err);
}

/* Operations that give contents come first. */
static void device_op(struct actor *a)
{
	enum { WITH_CONTENTS = 6 };
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_READ,
		UHMM_MIRROR_READ_UNLOCKED,
		UHMM_MIRROR_MIGRATE_TO_DEV,
		UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
		UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV,
		UHMM_MIRROR_EXCLUSIVE,
		UHMM_MIRROR_MIGRATE_TO_SYS,
		UHMM_MIRROR_SNAPSHOT,
		UHMM_MIRROR_CHECK_EXCLUSIVE,
	};
	unsigned int i = pick(sizeof(ops) / sizeof(ops[0])), n, first = pick_range(&n);
	struct uhmm_mirror_cmd cmd = { .addr = addr_of(first), .npages = n, .ptr = a->buf };
	int err = uhmm_mirror_ioctl(pick_mirror(a), ops[i], &cmd);

	device_expect(err, "operation of the mirror");
	for (unsigned int k = 0; k < n && !err && i < WITH_CONTENTS; k++)
		see(a, first + k, a->buf[k * UHMM_PAGE_SIZE / 8], "operation of the mirror");
}

static void evict(struct actor *a)
{
	struct uhmm_devmem *pool = uhmm_device_memory(a->all->dev[pick(DEVICES)]);
	int64_t n = pick(2) ? uhmm_devmem_evict(pool, 1 + pick(MAX_RANGE))
			    : uhmm_devmem_evict_all(pool, false);

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, n >= 0);
}

/* Keep pins while others go on: for up to some hundred of their steps. */
static void hold(void)
{
	uhmm_sched_sleep(1000UL * (1 + pick(300)));
}

/* One page, written by its number as a device does that has pinned it. */
static void pin_and_write(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	uint64_t value = write_begin(a, place, &changed);
	uhmm_pfn_t page;
	int64_t got =
		uhmm_pin_user_pages(a->process->mm, addr_of(place), 1, UHMM_FOLL_WRITE, &page);

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, got != -ENOMEM);
	if (got != 1)
		return;
	hold();
	uhmm_page_write(a->all->m, page, 0, &value, sizeof(value));
	uhmm_set_page_dirty_lock(a->all->m, page);
	uhmm_unpin_user_pages(a->all->m, &page, 1);
	write_end(a, place, value, changed, true);
}

static void pin_and_read(struct actor *a)
{
	static const unsigned int flags[] = { 0, UHMM_FOLL_WRITE, UHMM_FOLL_NOFAULT,
					      UHMM_FOLL_LONGTERM };
	unsigned int n, first = pick_range(&n), f = flags[pick(4)];
	struct uhmm_mm *mm = a->process->mm;
	uhmm_pfn_t pages[MAX_RANGE];
	bool fast = pick(2);
	int64_t got = fast ? uhmm_pin_user_pages_fast(mm, addr_of(first), n, f, pages)
			   : uhmm_pin_user_pages(mm, addr_of(first), n, f, pages);

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, got != -ENOMEM && got <= (int64_t)n);
	hold();
	for (int64_t i = 0; i < got; i++) {
		unsigned int place = first + (unsigned int)i;
		uint64_t value;

		uhmm_page_read(a->all->m, pages[i], 0, &value, sizeof(value));
		if (!of_page(value, place))
			uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "pinned page of %#lx: %#lx",
					   addr_of(place), value);
	}
	if (got > 0)
		uhmm_unpin_user_pages(a->all->m, pages, (uint64_t)got);
}

/* ---- the address space ---- */

static void map(struct actor *a)
{
	static const int flags[] = { MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS,
				     MAP_PRIVATE };
	unsigned int n, first = pick_range(&n), i = pick(3);
	int prot = pick(4) ? PROT_READ | PROT_WRITE : PROT_READ;
	int more = pick(4) ? MAP_FIXED : MAP_FIXED | MAP_LOCKED;

	change_begin(a->process, first, n);
	(void)uhmm_mmap(a->process->mm, addr_of(first), n * UHMM_PAGE_SIZE, prot, flags[i] | more,
			i == 2 ? a->all->file : NULL, page_of(first), NULL);
	change_end(a->process, first, n);
}

static void unmap(struct actor *a)
{
	unsigned int n, first = pick_range(&n);

	change_begin(a->process, first, n);
	(void)uhmm_munmap(a->process->mm, addr_of(first), n * UHMM_PAGE_SIZE);
	change_end(a->process, first, n);
}

static void protect(struct actor *a)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	unsigned int n, first = pick_range(&n);

	(void)uhmm_mprotect(a->process->mm, addr_of(first), n * UHMM_PAGE_SIZE, prots[pick(3)]);
}

/* To the other half. DONTUNMAP leaves shared memory where it was, too. */
static void move(struct actor *a)
{
	unsigned int from = pick(PLACES), to = other_place(from);
	unsigned int n = 1 + pick(PAGES - page_of(from));
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (!pick(4)) {
		flags |= MREMAP_DONTUNMAP;
		a->process->aliased = true;
	}
	change_begin(a->process, from, n);
	change_begin(a->process, to, n);
	(void)uhmm_mremap(a->process->mm, addr_of(from), n * UHMM_PAGE_SIZE, n * UHMM_PAGE_SIZE,
			  flags, addr_of(to), NULL);
	change_end(a->process, to, n);
	change_end(a->process, from, n);
}

static void advise(struct actor *a)
{
	/* Those that may change contents first. */
	static const int advice[] = {
		MADV_DONTNEED,	   MADV_FREE,	       MADV_REMOVE,	    MADV_GUARD_INSTALL,
		MADV_GUARD_REMOVE, MADV_COLD,	       MADV_PAGEOUT,	    MADV_WILLNEED,
		MADV_DONTFORK,	   MADV_DOFORK,	       MADV_WIPEONFORK,	    MADV_KEEPONFORK,
		MADV_HUGEPAGE,	   MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE,
	};
	unsigned int n, first = pick_range(&n), i = pick(sizeof(advice) / sizeof(advice[0]));

	if (i < 3)
		change_all(a->all, true);
	else if (i < 5)
		change_begin(a->process, first, n);
	(void)uhmm_madvise(a->process->mm, addr_of(first), n * UHMM_PAGE_SIZE, advice[i]);
	if (i < 3)
		change_all(a->all, false);
	else if (i < 5)
		change_end(a->process, first, n);
}

static void hint(struct actor *a)
{
	unsigned int n, first = pick_range(&n);

	if (pick(2))
		(void)uhmm_change_prot_numa(a->process->mm, addr_of(first), n * UHMM_PAGE_SIZE);
	else
		(void)uhmm_msync(a->process->mm, addr_of(first), n * UHMM_PAGE_SIZE, MS_SYNC);
}

static void look(struct actor *a)
{
	uint64_t map[PLACES];

	(void)uhmm_pagemap(a->process->mm, addr_of(0), PLACES, map);
}

static void file_op(struct actor *a)
{
	uint64_t offset = pick(PAGES) * UHMM_PAGE_SIZE;

	change_all(a->all, true);
	switch (pick(3)) {
	case 0:
		/* Never truncated for good, or everything ends in SIGBUS. */
		(void)!uhmm_file_truncate(a->all->file, offset);
		(void)!uhmm_file_truncate(a->all->file, PAGES * UHMM_PAGE_SIZE);
		break;
	case 1:
		(void)!uhmm_file_punch_hole(a->all->file, offset, UHMM_PAGE_SIZE);
		break;
	default:
		(void)!uhmm_file_populate(a->all->file, 0, PAGES);
		break;
	}
	change_all(a->all, false);
}

/* ---- processes ---- */

/* A child that looks at a page and exits. */
static void fork_and_exit(struct actor *a)
{
	unsigned int place = pick(PLACES);
	struct uhmm_mm *child;
	uint64_t value;
	int err = uhmm_mm_fork(a->process->mm, &child);

	/* As in Linux, if the folio of a device-exclusive entry is locked: F6. */
	if (err == -ENOMEM)
		return;
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, !err);
	if (pick(2) && !uhmm_cpu_read(child, addr_of(place), &value, sizeof(value), NULL) &&
	    !of_page(value, place))
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "child at %#lx: %#lx", addr_of(place),
				   value);
	uhmm_mmput(child);
}

/* A mirror that is opened beside the others, and closed: all device memory goes home. */
static void open_and_close(struct actor *a)
{
	struct uhmm_mirror *mirror;

	if (uhmm_mirror_open(a->all->dev[pick(DEVICES)], a->process->mm, &mirror))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "the device cannot be opened");
	uhmm_mirror_close(mirror);
}

static void act(void *arg)
{
	/* Accesses come more often, so that there is something to operate on. */
	static void (*const ops[])(struct actor * a) = {
		cpu_write,     cpu_write,     cpu_write,      cpu_read,	 cpu_read,  device_access,
		device_access, device_op,     device_op,      device_op, device_op, device_write,
		evict,	       pin_and_read,  pin_and_write,  map,	 unmap,	    protect,
		move,	       advise,	      advise,	      advise,	 hint,	    look,
		file_op,       fork_and_exit, open_and_close,
	};
	struct actor *a = arg;

	for (int i = 0; i < OPERATIONS; i++) {
		ops[pick(sizeof(ops) / sizeof(ops[0]))](a);
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

static int open_devices(struct all *all)
{
	struct uhmm_device_config config = {
		.size = sizeof(config),
		/* Less than there are pages: some have to be evicted. */
		.memory_bytes = (PAGES - 1) * UHMM_PAGE_SIZE,
	};
	int err = 0;

	for (unsigned int i = 0; i < DEVICES && !err; i++) {
		config.type = i == 2 ? UHMM_MEMORY_DEVICE_COHERENT : UHMM_MEMORY_DEVICE_PRIVATE;
		err = uhmm_device_create(all->m, &config, &all->dev[i]);
	}
	return err;
}

static int open_mirrors(struct all *all, struct process *p)
{
	int err = 0;

	for (unsigned int i = 0; i < DEVICES && !err; i++)
		err = uhmm_mirror_open(all->dev[i], p->mm, &p->mirror[i]);
	return err;
}

/* The first half mapped and written, then a child. */
static int make_processes(struct all *all)
{
	struct process *parent = &all->processes[0], *child = &all->processes[1];
	int err = uhmm_mm_create(all->m, &parent->mm);

	parent->nr_writers = 2;
	child->nr_writers = 1;
	if (!err)
		err = uhmm_mmap(parent->mm, addr_of(0), PAGES * UHMM_PAGE_SIZE,
				PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				NULL, 0, NULL);
	for (unsigned int i = 0; i < PAGES && !err; i++) {
		uint64_t value = (uint64_t)(i + 1) << 56;

		err = uhmm_cpu_write(parent->mm, addr_of(i), &value, sizeof(value), NULL);
		parent->places[i].value = child->places[i].value = value;
	}
	for (unsigned int i = PAGES; i < PLACES; i++)
		parent->places[i].unknown = child->places[i].unknown = true;
	if (!err)
		err = uhmm_mm_fork(parent->mm, &child->mm);
	if (!err)
		err = open_mirrors(all, parent);
	return err ? err : open_mirrors(all, child);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	static const char *const names[TASKS] = { "parent 0", "parent 1", "child" };
	struct all *all = uhmm_scenario_alloc(sizeof(*all));
	int err;

	(void)data;
	if (!all)
		return -ENOMEM;
	*state = all;
	all->m = m;
	err = uhmm_file_create(m, UHMM_FILE_REGULAR, PAGES * UHMM_PAGE_SIZE, &all->file);
	if (!err)
		err = open_devices(all);
	if (!err)
		err = make_processes(all);
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
			uint64_t value;

			if (!uhmm_cpu_read(a->process->mm, addr_of(place), &value, sizeof(value),
					   NULL))
				see(a, place, value, when);
		}
	}
}

/*
 * RELEASE, which takes a device's memory away, waits for ever if a page was busy when it should have gone
 * home, and so comes last.
 */
static void check(void *state)
{
	struct all *all = state;

	read_all(all, "in the end");
	for (unsigned int i = 0; i < DEVICES; i++) {
		struct uhmm_mirror_cmd cmd = { .addr = addr_of(0), .npages = 1 };

		if (uhmm_mirror_ioctl(all->processes[0].mirror[i], UHMM_MIRROR_RELEASE, &cmd))
			uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "RELEASE failed");
	}
	read_all(all, "after RELEASE");
}

UHMM_SCENARIO(all_operations) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "all-operations",
	.summary = "three tasks, two processes, three devices: whatever operation comes",
	.configure = configure,
	.setup = setup,
	.check = check,
};
