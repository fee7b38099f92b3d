/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* huge.h - what the scenarios with huge pages share: two devices, and huge pages from HUGE_AT on. */
#ifndef UHMM_SCENARIOS_HUGE_H
#define UHMM_SCENARIOS_HUGE_H

#include <errno.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define HUGE_AT 0x40200000UL
enum { HUGE_PAGES = 512, HUGE_MAX = 2 };

struct huge {
	struct uhmm_machine *m;
	struct uhmm_mm *mm, *child; /* child: after huge_fork() */
	struct uhmm_device *dev[2];
	struct uhmm_mirror *mirror, *other; /* of mm, by the first and by the second device */
	uhmm_pfn_t held;		    /* a page that the scenario keeps a reference to */
	/* src[] and dst[] of one migration of up to HUGE_MAX huge pages and one more. */
	uint64_t entries[2 * (1 + HUGE_MAX * HUGE_PAGES)];
};

/* RAM and device memory for HUGE_MAX huge pages and copies of them. */
void huge_configure(struct uhmm_machine_config *config);

/*
 * An address space that is mapped from @start on, and @n huge pages at HUGE_AT; the first word of page 0
 * of each is 1. Returns: 0 or a negative errno.
 */
int huge_setup(struct uhmm_machine *m, uhmm_vaddr_t start, unsigned int n, struct huge **out);

/* Huge page @i goes to the first device, as a whole. */
int huge_to_device(struct huge *h, unsigned int i);

int huge_fork(struct huge *h);

/* Whose device pages those of device @i are. */
void *huge_owner(struct huge *h, unsigned int i);

/* Collect what @args says, whose VMA is filled in, and put it back: nobody wants to have it elsewhere. */
void huge_collect(struct uhmm_mm *mm, struct uhmm_migrate_vma *args);

/* The first word of page @page, counted from HUGE_AT; a signal fails the scenario. */
uint64_t huge_read(struct uhmm_mm *mm, int page);
void huge_write(struct uhmm_mm *mm, int page, uint64_t value);

#endif /* UHMM_SCENARIOS_HUGE_H */
