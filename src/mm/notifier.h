/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* notifier.h - inside of interval notifiers. */
#ifndef UHMM_MM_NOTIFIER_H
#define UHMM_MM_NOTIFIER_H

#include <uhmm/notifier.h>

#include "core/itree.h"
#include "core/machine.h"
#include "sync/sync.h"

/* The subscriptions of one mm. */
struct uhmm__notifiers {
	struct uhmm__spinlock lock;
	struct uhmm__waitq wq;
	struct uhmm__itree tree;   /* [lock] while nothing is invalidating, else frozen */
	struct list_head deferred; /* [lock] to be inserted or removed at the last end */
	_Atomic unsigned long seq; /* [lock] odd while the tree is invalidating */
	unsigned long active;	   /* [lock] invalidations in progress */
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

/* Models: mmu_notifier_invalidate_range_start(). Context: may sleep. */
static inline void uhmm__invalidate_start(struct uhmm_mmu_notifier_range *range)
{
	uhmm__count(UHMM_CNT_NOTIFIER_START);
	(void)uhmm__invalidate_start_slow(range);
}

static inline void uhmm__invalidate_end(struct uhmm_mmu_notifier_range *range)
{
	uhmm__invalidate_end_slow(range);
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
