/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * flat.h - what processes may see of memory, and nothing else: per process an array of pages, each
 * with its rights and bytes. No sharing, no page tables, no devices.
 */
#ifndef TESTS_MODEL_FLAT_H
#define TESTS_MODEL_FLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FLAT_PAGES = 640,
	FLAT_PROCS = 5,
	FLAT_PAGE_SIZE = 4096,
	FLAT_TAG = 8, /* bytes a page really has where contents are tags */
};

/*
 * The pages lie on both sides of a boundary of 1 GiB, so of every lower level, too, and have one huge
 * page in their middle: the pages from FLAT_HUGE on.
 */
enum { FLAT_HUGE = (FLAT_PAGES - 512) / 2 };
#define FLAT_BASE (0x40000000UL - FLAT_HUGE * FLAT_PAGE_SIZE)

struct flat_page {
	bool mapped, dontfork, wipeonfork;
	uint8_t prot; /* PROT_* */
};

struct flat_mm {
	bool alive;
	struct flat_page page[FLAT_PAGES];
	uint8_t *bytes; /* unit for each page */
};

struct flat {
	size_t unit; /* bytes of a page: FLAT_PAGE_SIZE or FLAT_TAG */
	struct flat_mm mm[FLAT_PROCS];
};

void flat_init(struct flat *f, size_t unit);
void flat_exit(struct flat *f);
void flat_start(struct flat *f, unsigned int proc);
void flat_kill(struct flat *f, unsigned int proc);
void flat_fork(struct flat *f, unsigned int parent, unsigned int child);

/* All pages of [first, first + n) have these rights; the first that has not, or -1. */
int flat_first_without(const struct flat_mm *mm, unsigned int first, unsigned int n, int prot);

uint8_t flat_byte(const struct flat *f, const struct flat_mm *mm, uint64_t at);
void flat_set_byte(struct flat *f, struct flat_mm *mm, uint64_t at, uint8_t v);

/* As system calls; 0 or a negative errno. */
int flat_mmap(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n, int prot);
int flat_munmap(struct flat_mm *mm, unsigned int first, unsigned int n);
int flat_mprotect(struct flat_mm *mm, unsigned int first, unsigned int n, int prot);
int flat_dontneed(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n);
int flat_advise(struct flat_mm *mm, unsigned int first, unsigned int n, int advice);
int flat_populate(const struct flat_mm *mm, unsigned int first, unsigned int n, bool write);
/* A move that succeeded. @keep: MREMAP_DONTUNMAP. */
void flat_move(struct flat *f, struct flat_mm *mm, unsigned int old, unsigned int old_n,
	       unsigned int new, unsigned int new_n, bool keep);

#endif /* TESTS_MODEL_FLAT_H */
