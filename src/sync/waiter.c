// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/waiter.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sync/sched.h"

/*
 * WAITING -> WOKEN               woken before it slept
 * WAITING -> ASLEEP -> WOKEN     the waker owes it a system call
 */
enum { WAITING, ASLEEP, WOKEN };

/* Short, for the one that will wake us may want this very host CPU. */
#define SPINS 64

static void host_wait(struct uhmm__waiter *w)
{
	uint32_t old = WAITING;

	for (unsigned int n = 0; n < SPINS; n++) {
		if (load_acquire(&w->state) == WOKEN)
			return;
		cpu_relax();
	}
	if (!atomic_compare_exchange_strong_explicit(&w->state, &old, ASLEEP, memory_order_acquire,
						     memory_order_acquire))
		return;
	/* The call may return early: a signal, or the late call of an old waker of this stack. */
	while (load_acquire(&w->state) != WOKEN)
		syscall(SYS_futex, &w->state, FUTEX_WAIT_PRIVATE, ASLEEP, NULL, NULL, 0);
}

void uhmm__waiter_wait(struct uhmm__waiter *w)
{
	if (w->task)
		uhmm__task_count(w->task, UHMM_CNT_SLEEPS, 1);
#if UHMM_CHECKED
	if (w->task && w->task->fiber) {
		while (load_relaxed(&w->state) != WOKEN)
			uhmm__sched_sleep(w);
		return;
	}
#endif
	host_wait(w);
}

void uhmm__waiter_wake(struct uhmm__waiter *w)
{
#if UHMM_CHECKED
	if (w->task && w->task->fiber) {
		store_relaxed(&w->state, WOKEN);
		uhmm__sched_wake(w->task->fiber);
		return;
	}
#endif
	/* The exchange is the last touch of *w; a futex call needs no more than the address. */
	if (atomic_exchange_explicit(&w->state, WOKEN, memory_order_acq_rel) == ASLEEP)
		syscall(SYS_futex, &w->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void uhmm__waiter_wake_list(struct list_head *list)
{
	while (!list_empty(list)) {
		struct uhmm__waiter *w = list_first_entry(list, struct uhmm__waiter, link);

		list_del(&w->link);
		uhmm__waiter_wake(w);
	}
}
