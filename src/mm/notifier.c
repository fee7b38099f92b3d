// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Interval notifiers. Models: mm/mmu_notifier.c, the interval part.
 *
 * One sequence number for an mm: odd while some interval in the tree is being invalidated. The tree
 * does not change then: inserts and removals are put off to the end of the last invalidation. A
 * notifier's own number is set to the odd one by its callback; read_begin waits while the two are
 * equal, and read_retry compares the notifier's with the one sampled.
 */
#include "mm/notifier.h"

#include "core/alloc.h"
#include "mm/mm.h"

void uhmm__notifiers_init(struct uhmm__notifiers *n)
{
	uhmm__spin_init(&n->lock, UHMM__LC_NOTIFIER);
	uhmm__waitq_init(&n->wq, UHMM__LC_NOTIFIER_WQ);
	uhmm__itree_init(&n->tree);
	list_init(&n->deferred);
	store_relaxed(&n->seq, UHMM__SERIAL + 2);
	n->active = 0;
	n->waited = false;
	store_relaxed(&n->used, false);
}

static bool is_invalidating(struct uhmm__notifiers *n)
{
	return load_relaxed(&n->seq) & 1;
}

/* Count an invalidation in; the first interval it meets, which makes the sequence odd. */
static struct uhmm_mmu_interval_notifier *inv_start(struct uhmm__notifiers *n,
						    const struct uhmm_mmu_notifier_range *range,
						    unsigned long *seq)
{
	struct uhmm__itree_node *node;

	uhmm__spin_lock(&n->lock);
	n->active++;
	node = uhmm__itree_first(&n->tree, range->start, range->end - 1);
	*seq = load_relaxed(&n->seq);
	if (node)
		store_release(&n->seq, *seq |= 1);
	uhmm__spin_unlock(&n->lock);
	return node ? container_of(node, struct uhmm_mmu_interval_notifier, node) : NULL;
}

/* The tree is frozen while an invalidation that met an interval is active. */
static struct uhmm_mmu_interval_notifier *inv_next(struct uhmm_mmu_interval_notifier *mni,
						   const struct uhmm_mmu_notifier_range *range)
{
	struct uhmm__itree_node *node = uhmm__itree_next(&mni->node, range->start, range->end - 1);

	return node ? container_of(node, struct uhmm_mmu_interval_notifier, node) : NULL;
}

/* What was put off while the tree was frozen. Context: lock. */
static uhmm_noinline void inv_deferred(struct uhmm__notifiers *n)
{
	struct uhmm_mmu_interval_notifier *mni, *tmp;

	uhmm__for_each_entry_safe(mni, tmp, &n->deferred, deferred) {
		if (mni->in_tree)
			uhmm__itree_remove(&n->tree, &mni->node);
		else
			uhmm__itree_insert(&n->tree, &mni->node);
		mni->in_tree = !mni->in_tree;
		list_del(&mni->deferred);
	}
}

static uhmm_noinline void inv_end(struct uhmm__notifiers *n)
{
	unsigned long seq;
	bool waited;

	uhmm__spin_lock(&n->lock);
	seq = load_relaxed(&n->seq);
	if (--n->active || !(seq & 1)) {
		uhmm__spin_unlock(&n->lock);
		return;
	}
	store_release(&n->seq, seq + 1);
	if (unlikely(!list_empty(&n->deferred)))
		inv_deferred(n);
	/* Who waits has seen the sequence under the lock, and said so. */
	waited = n->waited;
	n->waited = false;
	uhmm__spin_unlock(&n->lock);
	if (unlikely(waited))
		uhmm__wake_up_all(&n->wq);
	else
		uhmm__sched_point(UHMM__PT_WAKE, &n->wq);
}

/* A callback would have to block. Whether that ends the invalidation. */
static uhmm_noinline bool inv_refused(struct uhmm_mmu_notifier_range *range)
{
	if (UHMM_WARN_ON(range->mm->machine, range->blockable))
		return false;
	/* No end follows a start that failed. */
	inv_end(&range->mm->notifiers);
	return true;
}

int uhmm__invalidate_start_slow(struct uhmm_mmu_notifier_range *range)
{
	struct uhmm_mmu_interval_notifier *mni;
	unsigned long seq;

	uhmm__might_sleep();
	for (mni = inv_start(&range->mm->notifiers, range, &seq); mni; mni = inv_next(mni, range)) {
		uhmm__count(UHMM_CNT_NOTIFIER_CALLS);
		if (unlikely(!mni->ops->invalidate(mni, range, seq)) && inv_refused(range))
			return -EAGAIN;
	}
	return 0;
}

void uhmm__invalidate_end_slow(struct uhmm_mmu_notifier_range *range)
{
	inv_end(&range->mm->notifiers);
}

void uhmm__notifiers_release(struct uhmm_mm *mm)
{
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(mm, UHMM_MMU_NOTIFY_RELEASE, 0, UINT64_MAX, NULL);

	if (!load_acquire(&mm->notifiers.used))
		return;
	uhmm__invalidate_start(&range);
	uhmm__invalidate_end(&range);
}

int uhmm_mmu_interval_notifier_insert(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t length,
				      const struct uhmm_mmu_interval_notifier_ops *ops, void *data,
				      struct uhmm_mmu_interval_notifier **out)
{
	struct uhmm__notifiers *n = &mm->notifiers;
	struct uhmm_mmu_interval_notifier *mni;

	if (!ops || !ops->invalidate)
		return -EINVAL;
	if (!length || start + length - 1 < start)
		return -EOVERFLOW;
	if (!load_relaxed(&mm->users))
		return -EINVAL;
	mni = uhmm__alloc(mm->machine, sizeof(*mni));
	if (!mni)
		return -ENOMEM;
	mni->node.start = start;
	mni->node.last = start + length - 1;
	mni->ops = ops;
	mni->data = data;
	mni->mm = mm;
	list_init(&mni->deferred);
	uhmm_mmgrab(mm);

	uhmm__spin_lock(&n->lock);
	store_release(&n->used, true);
	if (n->active) {
		/*
		 * An invalidation is under way, perhaps of this range: read_begin must wait for
		 * its end. The tree is frozen only if it met an interval.
		 */
		if (is_invalidating(n)) {
			list_add(&mni->deferred, &n->deferred);
		} else {
			store_release(&n->seq, load_relaxed(&n->seq) | 1);
			uhmm__itree_insert(&n->tree, &mni->node);
			mni->in_tree = true;
		}
		store_relaxed(&mni->seq, load_relaxed(&n->seq));
	} else {
		/* Odd and not the current one, so that read_begin does not wait. */
		store_relaxed(&mni->seq, load_relaxed(&n->seq) - 1);
		uhmm__itree_insert(&n->tree, &mni->node);
		mni->in_tree = true;
	}
	uhmm__spin_unlock(&n->lock);
	*out = mni;
	return 0;
}

/*
 * Under the lock: inv_end() moves the sequence first and only then takes what was put off out of the
 * tree. Models: mmu_interval_seq_released().
 */
static bool seq_released(struct uhmm__notifiers *n, unsigned long seq)
{
	bool released;

	uhmm__spin_lock(&n->lock);
	released = load_relaxed(&n->seq) != seq;
	uhmm__spin_unlock(&n->lock);
	return released;
}

void uhmm_mmu_interval_notifier_remove(struct uhmm_mmu_interval_notifier *mni)
{
	struct uhmm__notifiers *n;
	struct uhmm_mm *mm;
	unsigned long seq = 0;

	if (!mni)
		return;
	uhmm__might_sleep();
	mm = mni->mm;
	n = &mm->notifiers;
	uhmm__spin_lock(&n->lock);
	if (is_invalidating(n)) {
		if (!mni->in_tree) {
			list_del(&mni->deferred);
		} else {
			list_add(&mni->deferred, &n->deferred);
			/* Sampled only if the removal is put off. */
			seq = load_relaxed(&n->seq);
			n->waited = true;
		}
	} else {
		uhmm__itree_remove(&n->tree, &mni->node);
		mni->in_tree = false;
	}
	uhmm__spin_unlock(&n->lock);
	/* Whoever is invalidating may need what the caller holds. */
	uhmm__map_wait(UHMM__LC_NOTIFIER_SEQ, mni->mm, UHMM__HERE);
	uhmm__map_wait(UHMM__LC_INVALIDATE, mni->mm, UHMM__HERE);
	if (seq)
		uhmm__wait_event(&n->wq, seq_released(n, seq));
	uhmm__free(mm->machine, mni, sizeof(*mni));
	uhmm_mmdrop(mm);
}

void *uhmm_mmu_interval_data(const struct uhmm_mmu_interval_notifier *mni)
{
	return mni->data;
}

struct uhmm_mm *uhmm_mmu_interval_mm(const struct uhmm_mmu_interval_notifier *mni)
{
	return mni->mm;
}

bool uhmm__interval_try_begin(struct uhmm_mmu_interval_notifier *mni, unsigned long *seq)
{
	struct uhmm__notifiers *n = &mni->mm->notifiers;
	bool invalidating;

	uhmm__spin_lock(&n->lock);
	*seq = load_relaxed(&mni->seq);
	invalidating = *seq == load_relaxed(&n->seq);
	if (unlikely(invalidating))
		n->waited = true;
	uhmm__spin_unlock(&n->lock);
	return !invalidating;
}

unsigned long uhmm_mmu_interval_read_begin(struct uhmm_mmu_interval_notifier *mni)
{
	struct uhmm__notifiers *n = &mni->mm->notifiers;
	unsigned long seq;

	uhmm__map_wait(UHMM__LC_NOTIFIER_SEQ, mni->mm, UHMM__HERE);
	uhmm__map_wait(UHMM__LC_INVALIDATE, mni->mm, UHMM__HERE);
	if (unlikely(!uhmm__interval_try_begin(mni, &seq))) {
		uhmm__count(UHMM_CNT_NOTIFIER_WAIT);
		uhmm__wait_event(&n->wq, load_acquire(&n->seq) != seq);
	}
	return seq;
}

bool uhmm_mmu_interval_read_retry(struct uhmm_mmu_interval_notifier *mni, unsigned long seq)
{
	bool retry = uhmm__interval_check_retry(mni, seq);

	if (unlikely(retry))
		uhmm__count(UHMM_CNT_NOTIFIER_RETRY);
	return retry;
}

void uhmm_mmu_interval_set_seq(struct uhmm_mmu_interval_notifier *mni, unsigned long cur_seq)
{
	store_release(&mni->seq, cur_seq);
}
