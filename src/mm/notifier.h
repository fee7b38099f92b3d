/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* notifier.h - inside of interval notifiers. */
#ifndef UHMM_MM_NOTIFIER_H
#define UHMM_MM_NOTIFIER_H

#include <uhmm/notifier.h>

#include "core/itree.h"
#include "core/machine.h"
#include "core/serial.h"
#include "sync/sync.h"

/* The subscriptions of one mm. */
struct uhmm__notifiers {
	struct uhmm__spinlock lock;
	struct uhmm__waitq wq;
	struct uhmm__itree tree;   /* [lock] while nothing is invalidating, else frozen */
	struct list_head deferred; /* [lock] to be inserted or removed at the last end */
	_Atomic unsigned long seq; /* [lock] odd while the tree is invalidating */
	unsigned long active;	   /* [lock] invalidations in progress */
	bool waited;		   /* [lock] somebody saw one, and may wait for its end */
	_Atomic bool used;	   /* [atomic] an interval was ever inserted */
};

struct uhmm_mmu_interval_notifier {
	struct uhmm__itree_node node;
	const struct uhmm_mmu_interval_notifier_ops *ops;
	void *data;
	struct uhmm_mm *mm;
	struct list_head deferred; /* [lock] */
	bool in_tree;		   /* [lock] */
	_Atomic unsigned long seq; /* [the driver's lock] */
};

void uhmm__notifiers_init(struct uhmm__notifiers *n);
/* The mm goes away: RELEASE to everybody. Models: __mmu_notifier_release(). */
void uhmm__notifiers_release(struct uhmm_mm *mm);

int uhmm__invalidate_start_slow(struct uhmm_mmu_notifier_range *range);
void uhmm__invalidate_end_slow(struct uhmm_mmu_notifier_range *range);

/* Macros, so that the checked build knows who invalidates. */
#define uhmm__invalidate_start(range) uhmm__invalidate_start_at(range, UHMM__HERE)
#define uhmm__invalidate_end(range) uhmm__invalidate_end_at(range, UHMM__HERE)

/*
 * To the lock checker it waits for callbacks, which it runs itself, whether or not there are any; and
 * until the end readers of the sequence wait for it. Models: mmu_notifier_invalidate_range_start().
 * Returns: 0, or -EAGAIN: it must not block and somebody would, and there is no end.
 * Context: may sleep.
 */
static inline int uhmm__invalidate_start_at(struct uhmm_mmu_notifier_range *range,
					    const struct uhmm_site *where)
{
	int err;

	uhmm__count(UHMM_CNT_NOTIFIER_START);
	uhmm__map_started(UHMM__LC_NOTIFIER_SEQ, range->mm, where);
	uhmm__map_begin(UHMM__LC_INVALIDATE, range->mm, where);
	err = uhmm__invalidate_start_slow(range);
	uhmm__map_end(UHMM__LC_INVALIDATE, range->mm, where);
	if (err)
		uhmm__map_end(UHMM__LC_NOTIFIER_SEQ, range->mm, where);
	return err;
}

static inline void uhmm__invalidate_end_at(struct uhmm_mmu_notifier_range *range,
					   const struct uhmm_site *where)
{
	uhmm__invalidate_end_slow(range);
	uhmm__map_end(UHMM__LC_NOTIFIER_SEQ, range->mm, where);
}

/*
 * Whether the driver saw an invalidation since read_begin, without the driver's lock.
 * Models: mmu_interval_check_retry().
 */
static inline bool uhmm__interval_check_retry(struct uhmm_mmu_interval_notifier *mni,
					      unsigned long seq)
{
	return load_acquire(&mni->seq) != seq;
}

/* As read_begin, but false instead of sleeping. */
bool uhmm__interval_try_begin(struct uhmm_mmu_interval_notifier *mni, unsigned long *seq);

#define UHMM__NOTIFIER_RANGE(mm_, ev, start_, end_, owner_)                                        \
	((struct uhmm_mmu_notifier_range){ .mm = (mm_),                                            \
					   .start = (start_),                                      \
					   .end = (end_),                                          \
					   .event = (ev),                                          \
					   .owner = (owner_),                                      \
					   .blockable = true })

#endif /* UHMM_MM_NOTIFIER_H */
