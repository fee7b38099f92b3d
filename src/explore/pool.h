/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.h - worker processes, forked once the first state has been made, so that each has its own at
 * the same address.
 *
 * What workers are told and what they find is in shared memory that was there before the fork. The
 * order in which jobs are done is not known; whoever hands them out makes what comes of them the same
 * in any order.
 */
#ifndef UHMM_EXPLORE_POOL_H
#define UHMM_EXPLORE_POOL_H

#include "core/compiler.h"

#if UHMM_CHECKED

struct uhmm__pool;

/* Zeroed memory that forked processes share; filled on touch. NULL on failure. */
void *uhmm__shared_alloc(size_t size);
void uhmm__shared_free(void *p, size_t size);
/* Give back what was touched; it reads as zeroes again. */
void uhmm__shared_clear(void *p, size_t size);

/*
 * @workers: how many; 1: the calling process does the work itself. @job: does job number @index.
 * Returns: 0, -ENOMEM, -EAGAIN.
 */
int uhmm__pool_create(unsigned int workers, void (*job)(void *ctx, uint64_t index), void *ctx,
		      struct uhmm__pool **out);
void uhmm__pool_destroy(struct uhmm__pool *p);

/* A worker that is no more. */
struct uhmm__death {
	unsigned int worker; /* from 0 */
	int status;	     /* as of waitpid() */
	uint64_t job;	     /* that it did */
};

/* Do jobs [first, first + n). Returns: 0, or -ECHILD if a worker died: see uhmm__pool_death(). */
int uhmm__pool_run(struct uhmm__pool *p, uint64_t first, uint64_t n);
struct uhmm__death uhmm__pool_death(const struct uhmm__pool *p);

#endif
#endif /* UHMM_EXPLORE_POOL_H */
