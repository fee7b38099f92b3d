/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * waiter.h - one task that sleeps until it is woken once.
 *
 * Everything that sleeps queues one of these, on its own stack, and is woken through it; only
 * the two functions below differ between host threads and fibers. The word that is slept on is
 * in the waiter, not in the task, so that a waker touches nothing once the sleeper may go on:
 * the sleeper can return, and its task be freed, before the waker's system call.
 */
#ifndef UHMM_SYNC_WAITER_H
#define UHMM_SYNC_WAITER_H

#include "sync/spin.h"

struct uhmm__waiter {
	struct list_head link;	/* [the queue's lock] */
	struct uhmm_task *task; /* who sleeps */
	const void *key;	/* what for: an address, for queues that many objects share */
	_Atomic uint32_t state;
	uint8_t bit;	  /* bit locks: which bit */
	uint8_t kind;	  /* the queue's own */
	bool queued;	  /* [the queue's lock] */
	uint8_t class_id; /* what for, in reports */
};

static inline void uhmm__waiter_init(struct uhmm__waiter *w, const void *key,
				     enum uhmm__lock_class class_id, uint8_t kind)
{
	list_init(&w->link);
	w->task = uhmm__current();
	w->key = key;
	atomic_init(&w->state, 0);
	w->bit = 0;
	w->kind = kind;
	w->queued = false;
	w->class_id = (uint8_t)class_id;
}

/* Sleep until uhmm__waiter_wake(), which may have come already. No lock held but sleeping ones. */
void uhmm__waiter_wait(struct uhmm__waiter *w);

/* Wake it; @w is gone afterwards. To be called once, outside spin locks that @w's owner frees. */
void uhmm__waiter_wake(struct uhmm__waiter *w);

/* Wake all of a private list; they are gone afterwards. */
void uhmm__waiter_wake_list(struct list_head *list);

#endif /* UHMM_SYNC_WAITER_H */
