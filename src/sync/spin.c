// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/spin.h"

#include <sched.h>

#include "sync/lock_check.h"
#include "sync/sched.h"

/* Pauses before the host CPU is given away: longer than any section, shorter than a time slice. */
#define SPINS 200

void uhmm_cold uhmm__raw_spin_lock_slow(struct uhmm__spinlock *l)
{
	for (unsigned int n = 0;; n++) {
		if (!load_relaxed(&l->v) && uhmm__raw_spin_trylock(l))
			return;
		/* With few cores the holder may have been preempted: let it run. */
		if (n < SPINS)
			cpu_relax();
		else
			sched_yield();
	}
}

#if UHMM_CHECKED

bool uhmm__spin_lock_at(struct uhmm__spinlock *l, unsigned int subclass,
			const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();
	bool contended = false;

	uhmm__lock_attempt(l, UHMM__NODE(l->class_id, subclass), 0, where);
	uhmm__sched_point(UHMM__PT_LOCK, l);
	if (t && t->fiber) {
		while (!uhmm__raw_spin_trylock(l)) {
			contended = true;
			uhmm__sched_spin(l);
		}
	} else {
		contended = uhmm__raw_spin_lock(l);
	}
	store_relaxed(&l->owner, t);
	uhmm__lock_acquired(l, UHMM__NODE(l->class_id, subclass), 0, where);
	return contended;
}

bool uhmm__spin_trylock_at(struct uhmm__spinlock *l, const struct uhmm_site *where)
{
	uhmm__sched_point(UHMM__PT_LOCK, l);
	if (load_relaxed(&l->v) || !uhmm__raw_spin_trylock(l))
		return false;
	store_relaxed(&l->owner, uhmm__current());
	uhmm__lock_acquired(l, UHMM__NODE(l->class_id, 0), UHMM__LOCK_TRIED, where);
	return true;
}

void uhmm__spin_unlock_at(struct uhmm__spinlock *l, const struct uhmm_site *where)
{
	(void)uhmm__lock_released(l, l->class_id, where);
	store_relaxed(&l->owner, NULL);
	/* Before the release: afterwards @l may be gone. Only fibers count, on this thread. */
	if (l->spinners)
		uhmm__sched_spin_release(l);
	uhmm__raw_spin_unlock(l);
	uhmm__sched_point(UHMM__PT_UNLOCK, l);
}

void uhmm__spin_assert_held_at(struct uhmm__spinlock *l, const struct uhmm_site *where)
{
	uhmm__lock_assert(l, l->class_id, false, where);
}

#endif /* UHMM_CHECKED */
