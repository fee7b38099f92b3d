// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/wait.h"

#include <time.h>

#include "sync/sched.h"

static bool on_fiber(void)
{
#if UHMM_CHECKED
	return uhmm__current() && uhmm__current()->fiber;
#else
	return false;
#endif
}

uint64_t uhmm__clock_ns(void)
{
	struct timespec ts;

	if (on_fiber())
		return uhmm__sched_now();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000UL + (uint64_t)ts.tv_nsec;
}

void uhmm__sleep_ns(uint64_t ns)
{
	struct timespec left = { (time_t)(ns / 1000000000UL), (long)(ns % 1000000000UL) };

	uhmm__might_sleep();
	if (on_fiber())
		uhmm__sched_sleep_ns(ns);
	else
		while (nanosleep(&left, &left))
			;
}

void uhmm__waitq_init(struct uhmm__waitq *q, enum uhmm__lock_class class_id)
{
	uhmm__spin_init(&q->lock, class_id);
	q->class_id = class_id;
	list_init(&q->waiters);
}

void uhmm__waitq_add(struct uhmm__waitq *q, struct uhmm__waiter *w)
{
	uhmm__waiter_init(w, q, q->class_id, 0);
	uhmm__sched_point(UHMM__PT_WAIT, q);
	uhmm__raw_spin_lock(&q->lock);
	w->queued = true;
	list_add_tail(&w->link, &q->waiters);
	uhmm__raw_spin_unlock(&q->lock);
}

void uhmm__waitq_cancel(struct uhmm__waitq *q, struct uhmm__waiter *w)
{
	bool queued;

	uhmm__raw_spin_lock(&q->lock);
	queued = w->queued;
	if (queued)
		list_del(&w->link);
	uhmm__raw_spin_unlock(&q->lock);
	/* A waker has it in its hands and will touch it once more. */
	if (!queued)
		uhmm__waiter_wait(w);
}

void uhmm__wake_up_all(struct uhmm__waitq *q)
{
	struct list_head wake;

	list_init(&wake);
	uhmm__raw_spin_lock(&q->lock);
	while (!list_empty(&q->waiters)) {
		struct uhmm__waiter *w = list_first_entry(&q->waiters, struct uhmm__waiter, link);

		list_del(&w->link);
		w->queued = false;
		list_add_tail(&w->link, &wake);
	}
	uhmm__raw_spin_unlock(&q->lock);
	if (unlikely(!list_empty(&wake)))
		uhmm__waiter_wake_list(&wake);
	/* Not before: a fiber that looks again may find all done, and free *q. */
	uhmm__sched_point(UHMM__PT_WAKE, q);
}
