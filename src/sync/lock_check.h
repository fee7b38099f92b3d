/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock_check.h - the lock checker of the checked build.
 *
 * Each task has a list of what it holds and where it got it. When it is about to wait for a lock, the
 * lock comes to depend on all that the task holds; a dependency that closes a cycle with those seen
 * before, by any task, or that contradicts lock_classes.def, is reported, whether or not somebody
 * waits. What has been seen once costs a mask (lock_graph.c). Reports (UHMM_REPORT_LOCK, see
 * docs/lock-checker.md) do not stop the task.
 *
 * @node everywhere: UHMM__NODE() of class and subclass; @how: UHMM__LOCK_* bits. Outside any task nothing is recorded.
 */
#ifndef UHMM_SYNC_LOCK_CHECK_H
#define UHMM_SYNC_LOCK_CHECK_H

#include "sync/sched_point.h"

#if UHMM_CHECKED
/* The current task is about to wait for @lock (a trylock waits for nothing). */
void uhmm__lock_attempt(const void *lock, unsigned int node, unsigned int how,
			const struct uhmm_site *where);
/* It has @lock. */
void uhmm__lock_acquired(const void *lock, unsigned int node, unsigned int how,
			 const struct uhmm_site *where);
/* It is about to release @lock. Returns: false if it does not have it, which was reported. */
bool uhmm__lock_released(const void *lock, enum uhmm__lock_class class_id,
			 const struct uhmm_site *where);
/* It turned a write lock into a read lock. */
void uhmm__lock_downgraded(const void *lock, enum uhmm__lock_class class_id);
/* It must hold @lock, for writing unless @shared. */
void uhmm__lock_assert(const void *lock, enum uhmm__lock_class class_id, bool shared,
		       const struct uhmm_site *where);
/* The folio that @lock is in is freed: nothing that follows has to do with it. */
void uhmm__lock_forget(struct uhmm_machine *m, const void *lock);
/* What a driver's lock is in is freed; @held: by somebody, which is reported. */
void uhmm__lock_freed(struct uhmm_machine *m, const void *lock, unsigned int class_id, bool held);
/* RCU: it enters a read section; that one is for a PTE table that it has mapped; it leaves it. */
void uhmm__section_enter(const struct uhmm_site *where);
void uhmm__section_maps(const void *table);
/* @table: NULL, or what was mapped. Returns: false if there is no such section; reported. */
bool uhmm__section_leave(const void *table, const struct uhmm_site *where);

/* A callback interrupts the current task: its locks do not depend on those of the task. */
struct uhmm__lock_mask {
	uint64_t w[UHMM__LOCK_NODES / 64];
};
struct uhmm__lock_mask uhmm__lock_interrupt(struct uhmm_task *t);
void uhmm__lock_resume(struct uhmm_task *t, struct uhmm__lock_mask mask);

int uhmm__lock_check_init(struct uhmm_machine *m);
void uhmm__lock_check_exit(struct uhmm_machine *m);
void uhmm__held_init(struct uhmm_task *t);
void uhmm__held_free(struct uhmm_task *t);
/* A class of a driver has got its number. */
void uhmm__lock_class_added(struct uhmm_machine *m, unsigned int class_id);
/* Appends what @t holds, a line each, to @text. */
void uhmm__lock_describe(const struct uhmm_task *t, char *text, size_t size);
#endif

#if !UHMM_CHECKED
static inline int uhmm__lock_check_init(struct uhmm_machine *m uhmm_unused)
{
	return 0;
}

static inline void uhmm__lock_check_exit(struct uhmm_machine *m uhmm_unused)
{
}

static inline void uhmm__lock_forget(struct uhmm_machine *m uhmm_unused,
				     const void *lock uhmm_unused)
{
}

static inline void uhmm__lock_freed(struct uhmm_machine *m uhmm_unused,
				    const void *lock uhmm_unused, unsigned int class_id uhmm_unused,
				    bool held uhmm_unused)
{
}
#endif

/*
 * Waits that are not for locks. A task that waits for work of others calls _wait, or _begin and _end
 * around the work if it may do it itself, as in reclaim; a task whose work others wait for, but that
 * started without waiting, calls _started and _end. @key: what the work is on.
 */
#if UHMM_CHECKED
static inline void uhmm__map_wait(enum uhmm__lock_class map, const void *key,
				  const struct uhmm_site *where)
{
	uhmm__lock_attempt(key, UHMM__NODE(map, 0), 0, where);
}

static inline void uhmm__map_started(enum uhmm__lock_class map, const void *key,
				     const struct uhmm_site *where)
{
	uhmm__lock_acquired(key, UHMM__NODE(map, 0), UHMM__LOCK_TRIED, where);
}

static inline void uhmm__map_begin(enum uhmm__lock_class map, const void *key,
				   const struct uhmm_site *where)
{
	uhmm__map_wait(map, key, where);
	uhmm__lock_acquired(key, UHMM__NODE(map, 0), 0, where);
}

static inline void uhmm__map_end(enum uhmm__lock_class map, const void *key,
				 const struct uhmm_site *where)
{
	(void)uhmm__lock_released(key, map, where);
}
#else
static inline void uhmm__map_wait(enum uhmm__lock_class map uhmm_unused,
				  const void *key uhmm_unused,
				  const struct uhmm_site *where uhmm_unused)
{
}

static inline void uhmm__map_started(enum uhmm__lock_class map uhmm_unused,
				     const void *key uhmm_unused,
				     const struct uhmm_site *where uhmm_unused)
{
}

static inline void uhmm__map_begin(enum uhmm__lock_class map uhmm_unused,
				   const void *key uhmm_unused,
				   const struct uhmm_site *where uhmm_unused)
{
}

static inline void uhmm__map_end(enum uhmm__lock_class map uhmm_unused, const void *key uhmm_unused,
				 const struct uhmm_site *where uhmm_unused)
{
}
#endif

#endif /* UHMM_SYNC_LOCK_CHECK_H */
