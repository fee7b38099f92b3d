/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock_check.h - the lock checker of the checked build: what each task holds, and may take.
 *
 * Reports (UHMM_REPORT_LOCK): the same lock taken twice; a lock taken against the order of
 * lock_classes.def; a lock released by a task that does not hold it; sleeping with a spin lock or
 * in an RCU read section; locks held on return to user mode. Reporting does not stop the task.
 */
#ifndef UHMM_SYNC_LOCK_CHECK_H
#define UHMM_SYNC_LOCK_CHECK_H

#include "sync/sched_point.h"

#if UHMM_CHECKED
/* The current task is about to wait for @lock (no trylock: those wait for nothing). */
void uhmm__lock_attempt(const void *lock, enum uhmm__lock_class class_id, bool shared,
			const char *where);
/* It has @lock. */
void uhmm__lock_acquired(const void *lock, enum uhmm__lock_class class_id, bool shared,
			 const char *where);
/* It is about to release @lock. */
void uhmm__lock_released(const void *lock, enum uhmm__lock_class class_id, const char *where);
/* It turned a write lock into a read lock. */
void uhmm__lock_downgraded(const void *lock);
/* It must hold @lock, for writing unless @shared. */
void uhmm__lock_assert(const void *lock, enum uhmm__lock_class class_id, bool shared,
		       const char *where);
/* Appends "name, class, where" of what @t holds, a line each, to @text. */
void uhmm__lock_describe(const struct uhmm_task *t, char *text, size_t size);
void uhmm__held_free(struct uhmm_task *t);
#endif

#endif /* UHMM_SYNC_LOCK_CHECK_H */
