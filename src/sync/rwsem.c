// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/rwsem.h"

#include "sync/lock_check.h"

enum { READER, WRITER };

void uhmm__rwsem_init(struct uhmm__rwsem *s, enum uhmm__lock_class class_id)
{
	atomic_init(&s->count, 0);
	uhmm__spin_init(&s->wait_lock, class_id);
	s->class_id = class_id;
	list_init(&s->waiters);
#if UHMM_CHECKED
	atomic_init(&s->owner, NULL);
#endif
}

/* @count with one more @kind of holder, or the same if that cannot be now. */
static uint64_t with_holder(uint64_t count, int kind)
{
	if (count & UHMM__RWSEM_WRITER)
		return count;
	if (kind == READER)
		return count + UHMM__RWSEM_READER;
	return count & UHMM__RWSEM_READERS ? count : count | UHMM__RWSEM_WRITER;
}

static void down_slow(struct uhmm__rwsem *s, int kind)
{
	struct uhmm__waiter w;
	uint64_t old, new;

	uhmm__waiter_init(&w, s, s->class_id, (uint8_t)kind);
	uhmm__raw_spin_lock(&s->wait_lock);
	old = load_relaxed(&s->count);
	do {
		/*
		 * Behind others the lock may be free, which then is being handed to the first; set
		 * WAITERS only in a count that shows a holder, who will see it when it leaves.
		 */
		new = list_empty(&s->waiters) ? with_holder(old, kind) : old;
		if (new != old)
			continue;
		new = old | UHMM__RWSEM_WAITERS;
	} while (!atomic_compare_exchange_weak_explicit(&s->count, &old, new, memory_order_acquire,
							memory_order_relaxed));
	if (list_empty(&s->waiters) && with_holder(old, kind) != old) {
		uhmm__raw_spin_unlock(&s->wait_lock);
		return;
	}
	list_add_tail(&w.link, &s->waiters);
	uhmm__raw_spin_unlock(&s->wait_lock);
	uhmm__waiter_wait(&w);
}

void uhmm_cold uhmm__down_read_slow(struct uhmm__rwsem *s)
{
	down_slow(s, READER);
}

void uhmm_cold uhmm__down_write_slow(struct uhmm__rwsem *s)
{
	down_slow(s, WRITER);
}

/*
 * Hand the lock on: to the first waiter, and if that is a reader, to those right behind it. Runs
 * with a waiter queued that nobody else can wake, so *s is there until the wait_lock is dropped;
 * the waking comes after that, because the new holder may free *s.
 */
void uhmm_cold uhmm__rwsem_grant(struct uhmm__rwsem *s)
{
	struct list_head wake;

	list_init(&wake);
	uhmm__raw_spin_lock(&s->wait_lock);
	while (!list_empty(&s->waiters)) {
		struct uhmm__waiter *w = list_first_entry(&s->waiters, struct uhmm__waiter, link);
		uint64_t old = load_relaxed(&s->count), new;

		list_del(&w->link);
		do {
			new = with_holder(old, w->kind);
			if (new != old && list_empty(&s->waiters))
				new &= ~UHMM__RWSEM_WAITERS;
		} while (!atomic_compare_exchange_weak_explicit(
			&s->count, &old, new, memory_order_acq_rel, memory_order_relaxed));
		if (new == old) {
			list_add(&w->link, &s->waiters);
			break;
		}
		list_add_tail(&w->link, &wake);
		if (w->kind == WRITER)
			break;
	}
	uhmm__raw_spin_unlock(&s->wait_lock);
	uhmm__waiter_wake_list(&wake);
}

#if UHMM_CHECKED

static unsigned int queued(struct uhmm__rwsem *s)
{
	return uhmm__rwsem_is_contended(s) ? UHMM__LOCK_QUEUED : 0;
}

bool uhmm__down_read_at(struct uhmm__rwsem *s, unsigned int subclass, const struct uhmm_site *where)
{
	unsigned int node = UHMM__NODE(s->class_id, subclass);
	bool waited = false;

	uhmm__lock_attempt(s, node, UHMM__LOCK_READ | queued(s), where);
	uhmm__sched_point(UHMM__PT_LOCK, s);
	if (!uhmm__raw_down_read_trylock(s)) {
		waited = true;
		uhmm__sched_point(UHMM__PT_WAIT, s);
		uhmm__down_read_slow(s);
	}
	uhmm__lock_acquired(s, node, UHMM__LOCK_READ, where);
	return waited;
}

bool uhmm__down_read_trylock_at(struct uhmm__rwsem *s, const struct uhmm_site *where)
{
	uhmm__sched_point(UHMM__PT_LOCK, s);
	if (!uhmm__raw_down_read_trylock(s))
		return false;
	uhmm__lock_acquired(s, UHMM__NODE(s->class_id, 0), UHMM__LOCK_READ | UHMM__LOCK_TRIED,
			    where);
	return true;
}

void uhmm__up_read_at(struct uhmm__rwsem *s, const struct uhmm_site *where)
{
	(void)uhmm__lock_released(s, s->class_id, where);
	uhmm__raw_up_read(s);
	uhmm__sched_point(UHMM__PT_UNLOCK, s);
}

bool uhmm__down_write_at(struct uhmm__rwsem *s, unsigned int subclass,
			 const struct uhmm_site *where)
{
	unsigned int node = UHMM__NODE(s->class_id, subclass);
	bool waited = false;

	uhmm__lock_attempt(s, node, queued(s), where);
	uhmm__sched_point(UHMM__PT_LOCK, s);
	if (!uhmm__raw_down_write_trylock(s)) {
		waited = true;
		uhmm__sched_point(UHMM__PT_WAIT, s);
		uhmm__down_write_slow(s);
	}
	store_relaxed(&s->owner, uhmm__current());
	uhmm__lock_acquired(s, node, 0, where);
	return waited;
}

bool uhmm__down_write_trylock_at(struct uhmm__rwsem *s, const struct uhmm_site *where)
{
	uhmm__sched_point(UHMM__PT_LOCK, s);
	if (!uhmm__raw_down_write_trylock(s))
		return false;
	store_relaxed(&s->owner, uhmm__current());
	uhmm__lock_acquired(s, UHMM__NODE(s->class_id, 0), UHMM__LOCK_TRIED, where);
	return true;
}

void uhmm__up_write_at(struct uhmm__rwsem *s, const struct uhmm_site *where)
{
	(void)uhmm__lock_released(s, s->class_id, where);
	store_relaxed(&s->owner, NULL);
	uhmm__raw_up_write(s);
	uhmm__sched_point(UHMM__PT_UNLOCK, s);
}

void uhmm__downgrade_write_at(struct uhmm__rwsem *s, const struct uhmm_site *where)
{
	uhmm__lock_assert(s, s->class_id, false, where);
	uhmm__lock_downgraded(s, s->class_id);
	store_relaxed(&s->owner, NULL);
	uhmm__raw_downgrade_write(s);
	uhmm__sched_point(UHMM__PT_UNLOCK, s);
}

void uhmm__rwsem_assert_held_at(struct uhmm__rwsem *s, bool write, const struct uhmm_site *where)
{
	uhmm__lock_assert(s, s->class_id, !write, where);
}

#endif /* UHMM_CHECKED */
