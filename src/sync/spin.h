/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spin.h - spin locks: test and test-and-set, which give the host CPU away when they spin long.
 *
 * Held for a few hundred nanoseconds at most, never while sleeping. No fairness: with a handful
 * of host threads a queue would cost more than it gives, because the next in line may not run.
 */
#ifndef UHMM_SYNC_SPIN_H
#define UHMM_SYNC_SPIN_H

#include "sync/sched_point.h"

struct uhmm__spinlock {
	_Atomic uint32_t v; /* 1 = held */
#if UHMM_CHECKED
	uint16_t class_id;
	uint16_t spinners; /* fibers that wait for it */
	struct uhmm_task *_Atomic owner;
#endif
};

void uhmm__raw_spin_lock_slow(struct uhmm__spinlock *l);

/* The raw ones are for src/sync itself: no switch point, nothing recorded. */
uhmm_always_inline bool uhmm__raw_spin_trylock(struct uhmm__spinlock *l)
{
	return !atomic_exchange_explicit(&l->v, 1, memory_order_acquire);
}

uhmm_always_inline bool uhmm__raw_spin_lock(struct uhmm__spinlock *l)
{
	if (likely(uhmm__raw_spin_trylock(l)))
		return false;
	uhmm__raw_spin_lock_slow(l);
	return true;
}

uhmm_always_inline void uhmm__raw_spin_unlock(struct uhmm__spinlock *l)
{
	store_release(&l->v, 0);
}

static inline void uhmm__spin_init(struct uhmm__spinlock *l, enum uhmm__lock_class class_id)
{
	atomic_init(&l->v, 0);
#if UHMM_CHECKED
	l->class_id = class_id;
	l->spinners = 0;
	atomic_init(&l->owner, NULL);
#else
	(void)class_id;
#endif
}

static inline bool uhmm__spin_is_locked(struct uhmm__spinlock *l)
{
	return load_relaxed(&l->v);
}

/* Macros, so that the checked build knows where they stand. Returns: true if it was contended. */
#define uhmm__spin_lock(l) uhmm__spin_lock_at(l, 0, UHMM__HERE)
/* The inner of two of a class. */
#define uhmm__spin_lock_nested(l, subclass) uhmm__spin_lock_at(l, subclass, UHMM__HERE)
/* Returns: true if it was taken. */
#define uhmm__spin_trylock(l) uhmm__spin_trylock_at(l, UHMM__HERE)
#define uhmm__spin_unlock(l) uhmm__spin_unlock_at(l, UHMM__HERE)
/* Checked build: by the current task. Debug builds: by anyone. */
#define uhmm__spin_assert_held(l) uhmm__spin_assert_held_at(l, UHMM__HERE)

#if UHMM_CHECKED
bool uhmm__spin_lock_at(struct uhmm__spinlock *l, unsigned int subclass,
			const struct uhmm_site *where);
bool uhmm__spin_trylock_at(struct uhmm__spinlock *l, const struct uhmm_site *where);
void uhmm__spin_unlock_at(struct uhmm__spinlock *l, const struct uhmm_site *where);
void uhmm__spin_assert_held_at(struct uhmm__spinlock *l, const struct uhmm_site *where);
#else
_Static_assert(sizeof(struct uhmm__spinlock) == 4, "a spin lock is 4 bytes in the plain build");

uhmm_always_inline bool uhmm__spin_lock_at(struct uhmm__spinlock *l,
					   unsigned int subclass uhmm_unused,
					   const struct uhmm_site *where uhmm_unused)
{
	return uhmm__raw_spin_lock(l);
}

uhmm_always_inline bool uhmm__spin_trylock_at(struct uhmm__spinlock *l,
					      const struct uhmm_site *where uhmm_unused)
{
	return !load_relaxed(&l->v) && uhmm__raw_spin_trylock(l);
}

uhmm_always_inline void uhmm__spin_unlock_at(struct uhmm__spinlock *l,
					     const struct uhmm_site *where uhmm_unused)
{
	uhmm__raw_spin_unlock(l);
}

static inline void uhmm__spin_assert_held_at(struct uhmm__spinlock *l uhmm_unused,
					     const struct uhmm_site *where uhmm_unused)
{
	UHMM_VM_BUG_ON(NULL, !uhmm__spin_is_locked(l));
}
#endif

#endif /* UHMM_SYNC_SPIN_H */
