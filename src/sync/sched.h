/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sched.h - what the rest of src/sync asks of the simulated scheduler (checked build). */
#ifndef UHMM_SYNC_SCHED_H
#define UHMM_SYNC_SCHED_H

#include <uhmm/sched.h>

#include "sync/waiter.h"

#if UHMM_CHECKED
struct uhmm__work {
	struct list_head link;
	void (*fn)(struct uhmm__work *work);
};

/* The current fiber keeps its CPU busy until @l is released. */
void uhmm__sched_spin(struct uhmm__spinlock *l);
void uhmm__sched_spin_release(struct uhmm__spinlock *l);

/* The current fiber leaves its CPU until uhmm__sched_wake(). May return early. */
void uhmm__sched_sleep(struct uhmm__waiter *w);
void uhmm__sched_wake(struct uhmm__fiber *f);

/* Virtual time; the current fiber leaves its CPU for so long of it. */
uint64_t uhmm__sched_now(void);
void uhmm__sched_sleep_ns(uint64_t ns);

/* Have the worker of a CPU run @work, which is gone once its function has run. */
void uhmm__sched_queue_work(unsigned int cpu, struct uhmm__work *work);
#else
/* Never called. */
static inline uint64_t uhmm__sched_now(void)
{
	return 0;
}

static inline void uhmm__sched_sleep_ns(uint64_t ns uhmm_unused)
{
}
#endif

#endif /* UHMM_SYNC_SCHED_H */
