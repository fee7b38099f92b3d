/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * flat.h - what processes may see of memory, and nothing else: per process an array of pages, each
 * with its rights and bytes; and objects, whose bytes several pages may be. No page tables, no
 * devices.
 *
 * An object is mapped either shared only, or private only and then nobody writes to it: so it makes
 * no difference when a private page is copied. A driver's pages alone are mapped both ways. Whole
 * pages of it may be cut off, with all copies.
 */
#ifndef TESTS_MODEL_FLAT_H
#define TESTS_MODEL_FLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FLAT_PAGES = 640,
	FLAT_STACK = 32, /* pages where a stack may be, which have the numbers after these */
	FLAT_ALL = FLAT_PAGES + FLAT_STACK,
	FLAT_HEAP = 600, /* the first page of the heap, which may grow to FLAT_PAGES */
	FLAT_PROCS = 5,
	FLAT_PAGE_SIZE = 4096,
	FLAT_TAG = 8, /* bytes a page really has where contents are tags */

	FLAT_NO_OBJ = 0,
	FLAT_PRIVATE_FILE = 1, /* mapped private only; page i holds i + 1 at first */
	FLAT_SHARED_FILE = 2,  /* mapped shared only */
	FLAT_SHARED_ANON = 3,  /* and the following */
	FLAT_DRIVER = 6,       /* pages of a driver, the first FLAT_DRIVER_PAGES here */
	FLAT_OBJS = 7,
	FLAT_DRIVER_PAGES = 32,
};

/*
 * The pages lie on both sides of a boundary of 1 GiB, so of every lower level, too, and have one huge
 * page in their middle: the pages from FLAT_HUGE on.
 */
enum { FLAT_HUGE = (FLAT_PAGES - 512) / 2 };
#define FLAT_BASE (0x40000000UL - FLAT_HUGE * FLAT_PAGE_SIZE)
/* Unmapped pages between the others and the stack: more than a stack grows. */
#define FLAT_GAP 4096UL

static inline uint64_t flat_address(unsigned int page)
{
	return FLAT_BASE + (page + (page < FLAT_PAGES ? 0 : FLAT_GAP)) * FLAT_PAGE_SIZE;
}

/* The first and the last page, exclusive, of those that a page lies among. */
static inline unsigned int flat_first(unsigned int page)
{
	return page < FLAT_PAGES ? 0 : FLAT_PAGES;
}

static inline unsigned int flat_end(unsigned int page)
{
	return page < FLAT_PAGES ? FLAT_PAGES : FLAT_ALL;
}

/* How a driver put its pages into a mapping. */
enum flat_special {
	FLAT_NOT_SPECIAL,
	FLAT_FRAMES,  /* VM_PFNMAP: frame numbers alone, and no device sees them */
	FLAT_MIXED,   /* VM_MIXEDMAP: the same, page by page */
	FLAT_INSERTED /* VM_MIXEDMAP: pages, as any to a device, but that cannot migrate */
};

/* What an access is that finds nothing in a range where a userfaultfd watches for that. */
enum flat_missing {
	FLAT_NOT_MISSING,
	FLAT_MISSING,  /* SIGBUS, since the process has no handler */
	FLAT_ON_DEMAND /* the handler fills it with zeroes, unless it has done so already */
};

struct flat_page {
	bool mapped, dontfork, wipeonfork, growsdown;
	uint8_t special; /* enum flat_special */
	bool cow;	 /* a driver's, mapped private */
	bool copied;	 /* and the process has a page of its own in its place */
	bool gone;	 /* a driver's: nobody puts it in a second time, and an access is SIGBUS */
	bool uffd;	 /* its VMA is registered for write protection */
	bool wp;	 /* and it is protected */
	bool wp_unsure;	 /* a device wanted to write: the handler was asked if it came to that */
	bool watched;	 /* its VMA is registered for what is missing */
	uint8_t missing; /* enum flat_missing */
	bool guard;	 /* MADV_GUARD_INSTALL: an access is SIGSEGV */
	bool hint;	 /* a NUMA hint was given, and no CPU has been there since */
	uint8_t atomic; /* the device + 1 that had it for its atomics, and no CPU has been there since */
	bool poisoned;	/* the hardware's: SIGBUS */
	uint8_t prot;	/* PROT_* */
	uint8_t obj;	/* FLAT_NO_OBJ: anonymous and private */
	uint16_t index; /* in the object */
};

struct flat_mm {
	bool alive;
	unsigned int brk; /* the first page behind the heap */
	struct flat_page page[FLAT_ALL];
	uint8_t *bytes; /* unit for each page */
};

struct flat {
	size_t unit; /* bytes of a page: FLAT_PAGE_SIZE or FLAT_TAG */
	struct flat_mm mm[FLAT_PROCS];
	uint8_t *obj[FLAT_OBJS]; /* FLAT_PAGES units each; [0] is not used */
	bool broken[FLAT_OBJS]
		   [FLAT_PAGES];  /* pages of memory files: SIGBUS wherever they are mapped */
	bool wb_err[FLAT_OBJS];	  /* what was stored is lost, and nobody was told */
	uint64_t size[FLAT_OBJS]; /* in bytes, to the next page of which an access is good */
};

void flat_init(struct flat *f, size_t unit);
void flat_exit(struct flat *f);
void flat_start(struct flat *f, unsigned int proc);
void flat_kill(struct flat *f, unsigned int proc);
void flat_fork(struct flat *f, unsigned int parent, unsigned int child);

/* Half of the processes have a handler that resolves what a userfaultfd sees; others get SIGBUS. */
static inline bool has_handler(unsigned int proc)
{
	return !(proc & 1);
}

/* All pages of [first, first + n) have these rights; the first that has not, or -1. */
int flat_first_without(const struct flat_mm *mm, unsigned int first, unsigned int n, int prot);

/* What is in the way of whoever has the rights: SIGSEGV, SIGBUS or 0. @p is mapped. */
int flat_signal(const struct flat *f, const struct flat_page *p);
/* Whether a device cannot have it though the process can: a driver's frame is no page. */
static inline bool flat_is_frame(const struct flat_page *p)
{
	return p->special == FLAT_FRAMES || (p->special == FLAT_MIXED && !p->copied);
}

/* A page of the range that is mapped as a driver's. */
bool flat_any_special(const struct flat_mm *mm, unsigned int first, unsigned int n);
/* The first page of [first, first + n) that is mapped and signals, or -1. */
int flat_first_signal(const struct flat *f, const struct flat_mm *mm, unsigned int first,
		      unsigned int n);

uint8_t flat_byte(const struct flat *f, const struct flat_mm *mm, uint64_t at);
void flat_set_byte(struct flat *f, struct flat_mm *mm, uint64_t at, uint8_t v);

static inline bool flat_is_shared(const struct flat_page *p)
{
	return p->obj > FLAT_PRIVATE_FILE && !p->copied;
}

/* An object for shared anonymous memory that nobody maps; FLAT_NO_OBJ if there is none. */
unsigned int flat_free_object(const struct flat *f);

/* As system calls; 0 or a negative errno. */
int flat_mmap(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n, int prot,
	      unsigned int obj, unsigned int index);
void flat_mmap_driver(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n,
		      int prot, unsigned int index, enum flat_special special, bool cow);
/* Copy a driver's page that is mapped private, if it is not copied yet: somebody is to write to it. */
void flat_copy(struct flat *f, struct flat_mm *mm, unsigned int page);
/* Advice that a mapping of @refused cannot take: it ends there. MADV_PAGEOUT and others. */
int flat_advise_some(const struct flat_mm *mm, unsigned int first, unsigned int n,
		     enum flat_special refused, unsigned int *done);
/* MADV_REMOVE; @f NULL: only what it answers. */
int flat_remove(struct flat *f, const struct flat_mm *mm, unsigned int first, unsigned int n);
int flat_munmap(struct flat_mm *mm, unsigned int first, unsigned int n);
int flat_mprotect(struct flat_mm *mm, unsigned int first, unsigned int n, int prot);
int flat_dontneed(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n);
/* MADV_FREE of pages that are nowhere but in RAM, which is not short: those that are broken go. */
int flat_free(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n);
int flat_free_answer(const struct flat_mm *mm, unsigned int first, unsigned int n);
/* UFFDIO_REGISTER and UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT. */
void flat_uffd(struct flat_mm *mm, unsigned int first, unsigned int n, bool on);
/* The same for what is missing: nothing is there at first. */
void flat_watch(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n);
/* The process faulted there: the handler has filled what was missing, and no device has it for atomics. */
void flat_filled(struct flat_mm *mm, unsigned int first, unsigned int n);
/* A device took what is the process's own for its atomics. */
void flat_atomic(struct flat_mm *mm, unsigned int first, unsigned int n, unsigned int dev);
void flat_protect(struct flat_mm *mm, unsigned int first, unsigned int n, bool on);
/* brk(2), and where the heap ends then: it stays where it is if it cannot end there. */
unsigned int flat_brk_answer(const struct flat_mm *mm, unsigned int page);
void flat_brk(struct flat *f, struct flat_mm *mm, unsigned int page);
/* The page from which a stack grows down to one that is not mapped if a CPU wants that; -1: none does. */
int flat_stack_above(const struct flat_mm *mm, unsigned int page);
void flat_grow_stack(struct flat *f, struct flat_mm *mm, unsigned int page);
int flat_guard(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n,
	       bool install);
void flat_poison(struct flat_mm *mm, unsigned int page);
/*
 * A page of an object breaks, which one process alone has mapped when that happens. @lost: nobody
 * can have it any more; else @told: that process had stored what is gone, and is told, as is who
 * syncs the object next.
 */
void flat_poison_object(struct flat *f, struct flat_mm *mm, unsigned int page, bool lost,
			bool told);
/* Whether two pages are the same one of an object that processes share. */
static inline bool flat_is_same(const struct flat_page *a, const struct flat_page *b)
{
	return a->mapped && b->mapped && a->obj == b->obj && a->index == b->index &&
	       flat_is_shared(a) && !a->special && !b->special;
}
/* ftruncate(): a page that is cut in two keeps its tail where contents are tags. */
void flat_truncate(struct flat *f, unsigned int obj, uint64_t bytes);
/* Whether the range has a page of an object that lost something, of which nobody was told. */
bool flat_tells_loss(const struct flat *f, const struct flat_mm *mm, unsigned int first,
		     unsigned int n);
/*
 * What lies behind the end of the file, in its last page, is no part of it once that is written
 * back. Who does so has been told what is lost.
 */
void flat_msync(struct flat *f, const struct flat_mm *mm, unsigned int first, unsigned int n);
int flat_advise(struct flat_mm *mm, unsigned int first, unsigned int n, int advice);
int flat_advise_answer(const struct flat_mm *mm, unsigned int first, unsigned int n, int advice);
/* @resolved: there is somebody who ends write protection when a fault finds it. */
int flat_populate(const struct flat *f, const struct flat_mm *mm, unsigned int first,
		  unsigned int n, bool write, bool resolved);
/* A move that succeeded. @keep: MREMAP_DONTUNMAP. */
void flat_move(struct flat *f, struct flat_mm *mm, unsigned int old, unsigned int old_n,
	       unsigned int new, unsigned int new_n, bool keep);

#endif /* TESTS_MODEL_FLAT_H */
