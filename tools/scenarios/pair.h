/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pair.h - what the scenarios share: a device or two, a page or two, one or two address spaces. */
#ifndef UHMM_SCENARIOS_PAIR_H
#define UHMM_SCENARIOS_PAIR_H

#include <errno.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define PAIR_AT 0x40000000UL
enum { PAIR_PAGES = 2, PAIR_DEVICES = 2 };

struct pair {
	struct uhmm_machine *m;
	struct uhmm_mm *mm, *child; /* child: NULL unless forked */
	struct uhmm_device *dev[PAIR_DEVICES];
	struct uhmm_mirror *mirror[PAIR_DEVICES];    /* of mm */
	struct uhmm_mirror *child_mirror;	     /* of the second device */
	struct uhmm_mmu_interval_notifier *notifier; /* the scenario's own, if it has one */
	unsigned int npages;
};

/* What page @i holds at first. */
static inline uint64_t pair_value(unsigned int i)
{
	return 0x1111111111111111UL * (i + 1);
}

/* Address of page @i. */
static inline uhmm_vaddr_t pair_addr(unsigned int i)
{
	return PAIR_AT + i * UHMM_PAGE_SIZE;
}

/*
 * An address space with @npages written pages, both devices open; with @fork a child that shares
 * them and has the second device open. Returns: 0 or a negative errno.
 */
int pair_setup(struct uhmm_machine *m, unsigned int npages, bool fork, struct pair **out);

/* The child, of what there is by now. Returns: 0 or a negative errno. */
int pair_fork(struct pair *p);

/* An operation of the test driver on @npages from the first on; no buffer. */
int pair_op(struct uhmm_mirror *mirror, enum uhmm_mirror_op op, unsigned int npages);

/* A CPU's read of page @i; fails the scenario if it gets a signal. */
uint64_t pair_read(struct uhmm_mm *mm, unsigned int i);
void pair_write(struct uhmm_mm *mm, unsigned int i, uint64_t value);

/* A driver of the scenario's own; its address is the owner and the data of its pages. */
struct pair_driver {
	struct uhmm_machine *m;
	struct uhmm_devmem *pool;
};

/*
 * Page 0 into the driver's memory. Fails the scenario if it was collected and does not move.
 * Returns: whether it could be collected.
 */
bool pair_to_device(struct pair_driver *d, struct uhmm_mm *mm);
/* The same to RAM, in a migrate_to_ram(). */
bool pair_to_ram(struct pair_driver *d, const struct uhmm_vm_fault *vmf);

#endif /* UHMM_SCENARIOS_PAIR_H */
