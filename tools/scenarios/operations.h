/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * operations.h - the tasks of all-operations: who writes what, and the operations they choose from.
 *
 * Some pages of a process are followed: each is written by one task only, which therefore knows what it
 * must read. The high byte of what is written in a page says which page it is, so that whoever reads can
 * tell another's from a wrong one. What lies between them is never written.
 */
#ifndef UHMM_SCENARIOS_OPERATIONS_H
#define UHMM_SCENARIOS_OPERATIONS_H

#include <errno.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

/* mremap moves pages to another copy of where they are: a page has a place in each. */
enum {
	PAGES = 5,
	COPIES = 3,
	PLACES = COPIES * PAGES,
	TASKS = 3,
	DEVICES = 3,
	FILES = 2,
	MAX_RANGE = 3, /* places */
};

/* What a range may be. */
struct shape {
	unsigned int page[PAGES];  /* where the pages are, in pages from the beginning of a copy */
	unsigned int copy[COPIES]; /* where the copies are, in pages */
	unsigned int copy_pages;   /* length of each, and of a file */
	bool huge;		   /* ranges of whole huge pages, too */
};

struct place {
	uint64_t value;	      /* last written by its owner */
	unsigned int changed; /* how often something began, or ended, that may change what is there */
	unsigned int active; /* of those, not ended */
	bool unknown; /* something other than a write changed it: zero, or of an earlier write */
};

struct process {
	struct uhmm_mm *mm;
	struct uhmm_mirror *mirror[DEVICES];
	struct uhmm_file *file[FILES]; /* a regular one, and one of memory */
	struct place places[PLACES];
	unsigned int nr_writers;
	bool aliased; /* a page may be shared by several places */
};

struct actor {
	struct all *all;
	struct process *process;
	unsigned int writer; /* of the process's */
	uint64_t nr_written;
	uint64_t buf[MAX_RANGE * UHMM_PAGE_SIZE / 8];
};

struct all {
	struct uhmm_machine *m;
	const struct shape *shape;
	struct uhmm_device *dev[DEVICES];
	uhmm_pfn_t frame; /* a driver's, always zero */
	bool fails;	  /* a device was told to be out of memory once */
	struct process processes[2];
	struct actor actors[TASKS];
};

/* Consecutive places, and all of [start, start + len). */
struct range {
	unsigned int first, n;
	uhmm_vaddr_t start;
	uint64_t len;
};

typedef void operation(struct actor *a);

#define OPERATIONS_AT 0x40000000UL
#define OPERATIONS_HEAP 0x50000000UL

uhmm_vaddr_t place_addr(const struct all *all, unsigned int place);

static inline unsigned int page_of(unsigned int place)
{
	return place % PAGES;
}

static inline unsigned int pick(unsigned int n)
{
	return (unsigned int)uhmm_scenario_random(n);
}

struct range pick_range(const struct actor *a);
/* A place whose page is the task's own. */
unsigned int pick_own(const struct actor *a);

/* Something that may change contents, other than the owner's writing, begins or ends. */
void change_begin(struct process *p, unsigned int first, unsigned int n);
void change_end(struct process *p, unsigned int first, unsigned int n);

/* A value of page @page that no one has written yet. */
uint64_t new_value(struct actor *a, unsigned int page);
/* The owner writes a new value at @place, which is returned; @written: or tried to. */
uint64_t write_begin(struct actor *a, unsigned int place, unsigned int *changed);
void write_end(struct actor *a, unsigned int place, uint64_t value, unsigned int changed,
	       bool written);

/* What was read at an address, in the process or in a child, must be of its page, or zero. */
void see_child(const struct all *all, uhmm_vaddr_t addr, uint64_t value, const char *how);
/* In the process; what the task wrote must be there. */
void see(const struct actor *a, uhmm_vaddr_t addr, uint64_t value, const char *how);

/* One operation of the address space, whichever comes. */
operation mm_operation;
/* One access or operation of the mirror. */
operation access_operation;

/* The process's faults in ranges that userfaultfd watches: a page of zeroes. */
bool resolve_fault(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason);

#endif /* UHMM_SCENARIOS_OPERATIONS_H */
