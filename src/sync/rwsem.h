/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rwsem.h - fair read-write semaphores.
 *
 * One atomic operation when uncontended. Waiters are served in the order in which they came and
 * are handed the lock; a queued writer keeps new readers out, as in the kernel, which is what
 * makes a recursive read lock a deadlock. Trylocks fail while anyone is queued.
 */
#ifndef UHMM_SYNC_RWSEM_H
#define UHMM_SYNC_RWSEM_H

#include "sync/waiter.h"

#define UHMM__RWSEM_WRITER 1UL
#define UHMM__RWSEM_WAITERS 2UL /* set and cleared under wait_lock; keeps the fast paths out */
#define UHMM__RWSEM_READER 4UL
#define UHMM__RWSEM_READERS (~3UL)

struct uhmm__rwsem {
	_Atomic uint64_t count;
	struct uhmm__spinlock wait_lock;
	uint32_t class_id;
	struct list_head waiters; /* [wait_lock] */
#if UHMM_CHECKED
	struct uhmm_task *_Atomic owner; /* the writer */
#endif
};

void uhmm__rwsem_init(struct uhmm__rwsem *s, enum uhmm__lock_class class_id);
void uhmm__down_read_slow(struct uhmm__rwsem *s);
void uhmm__down_write_slow(struct uhmm__rwsem *s);
void uhmm__rwsem_grant(struct uhmm__rwsem *s);

/* Someone sleeps for it. */
static inline bool uhmm__rwsem_is_contended(struct uhmm__rwsem *s)
{
	return load_relaxed(&s->count) & UHMM__RWSEM_WAITERS;
}

/* The raw ones are for src/sync itself: no switch point, nothing recorded. */
uhmm_always_inline bool uhmm__raw_down_read_trylock(struct uhmm__rwsem *s)
{
	uint64_t old = load_relaxed(&s->count);

	/* A compare-and-swap and not an add: a failed add would have to be taken back. */
	while (!(old & (UHMM__RWSEM_WRITER | UHMM__RWSEM_WAITERS)))
		if (likely(atomic_compare_exchange_weak_explicit(
			    &s->count, &old, old + UHMM__RWSEM_READER, memory_order_acquire,
			    memory_order_relaxed)))
			return true;
	return false;
}

uhmm_always_inline bool uhmm__raw_down_write_trylock(struct uhmm__rwsem *s)
{
	uint64_t old = 0;

	return atomic_compare_exchange_strong_explicit(&s->count, &old, UHMM__RWSEM_WRITER,
						       memory_order_acquire, memory_order_relaxed);
}

uhmm_always_inline void uhmm__raw_up_read(struct uhmm__rwsem *s)
{
	uint64_t old =
		atomic_fetch_sub_explicit(&s->count, UHMM__RWSEM_READER, memory_order_release);

	if (unlikely((old & ~UHMM__RWSEM_WRITER) == (UHMM__RWSEM_READER | UHMM__RWSEM_WAITERS)))
		uhmm__rwsem_grant(s);
}

uhmm_always_inline void uhmm__raw_up_write(struct uhmm__rwsem *s)
{
	uint64_t old =
		atomic_fetch_sub_explicit(&s->count, UHMM__RWSEM_WRITER, memory_order_release);

	if (unlikely(old & UHMM__RWSEM_WAITERS))
		uhmm__rwsem_grant(s);
}

uhmm_always_inline void uhmm__raw_downgrade_write(struct uhmm__rwsem *s)
{
	uint64_t old = atomic_fetch_add_explicit(&s->count, UHMM__RWSEM_READER - UHMM__RWSEM_WRITER,
						 memory_order_release);

	if (unlikely(old & UHMM__RWSEM_WAITERS))
		uhmm__rwsem_grant(s);
}

/* Macros, so that the checked build knows where they stand. Returns: true if it waited. */
#define uhmm__down_read(s) uhmm__down_read_at(s, 0, UHMM__HERE)
#define uhmm__down_write(s) uhmm__down_write_at(s, 0, UHMM__HERE)
/* The inner of two of a class. */
#define uhmm__down_read_nested(s, subclass) uhmm__down_read_at(s, subclass, UHMM__HERE)
#define uhmm__down_write_nested(s, subclass) uhmm__down_write_at(s, subclass, UHMM__HERE)
/* Returns: true if it was taken. */
#define uhmm__down_read_trylock(s) uhmm__down_read_trylock_at(s, UHMM__HERE)
#define uhmm__down_write_trylock(s) uhmm__down_write_trylock_at(s, UHMM__HERE)
#define uhmm__up_read(s) uhmm__up_read_at(s, UHMM__HERE)
#define uhmm__up_write(s) uhmm__up_write_at(s, UHMM__HERE)
/* From writer to reader, without a moment in which another writer could come. */
#define uhmm__downgrade_write(s) uhmm__downgrade_write_at(s, UHMM__HERE)
/* Checked build: by the current task, for reading or writing. Debug builds: by anyone. */
#define uhmm__rwsem_assert_held(s) uhmm__rwsem_assert_held_at(s, false, UHMM__HERE)
#define uhmm__rwsem_assert_write_held(s) uhmm__rwsem_assert_held_at(s, true, UHMM__HERE)

#if UHMM_CHECKED
bool uhmm__down_read_at(struct uhmm__rwsem *s, unsigned int subclass,
			const struct uhmm_site *where);
bool uhmm__down_read_trylock_at(struct uhmm__rwsem *s, const struct uhmm_site *where);
void uhmm__up_read_at(struct uhmm__rwsem *s, const struct uhmm_site *where);
bool uhmm__down_write_at(struct uhmm__rwsem *s, unsigned int subclass,
			 const struct uhmm_site *where);
bool uhmm__down_write_trylock_at(struct uhmm__rwsem *s, const struct uhmm_site *where);
void uhmm__up_write_at(struct uhmm__rwsem *s, const struct uhmm_site *where);
void uhmm__downgrade_write_at(struct uhmm__rwsem *s, const struct uhmm_site *where);
void uhmm__rwsem_assert_held_at(struct uhmm__rwsem *s, bool write, const struct uhmm_site *where);
#else
static inline bool uhmm__down_read_at(struct uhmm__rwsem *s, unsigned int subclass uhmm_unused,
				      const struct uhmm_site *where uhmm_unused)
{
	uhmm__might_sleep();
	if (likely(uhmm__raw_down_read_trylock(s)))
		return false;
	uhmm__down_read_slow(s);
	return true;
}

static inline bool uhmm__down_read_trylock_at(struct uhmm__rwsem *s,
					      const struct uhmm_site *where uhmm_unused)
{
	return uhmm__raw_down_read_trylock(s);
}

static inline void uhmm__up_read_at(struct uhmm__rwsem *s,
				    const struct uhmm_site *where uhmm_unused)
{
	uhmm__raw_up_read(s);
}

static inline bool uhmm__down_write_at(struct uhmm__rwsem *s, unsigned int subclass uhmm_unused,
				       const struct uhmm_site *where uhmm_unused)
{
	uhmm__might_sleep();
	if (likely(uhmm__raw_down_write_trylock(s)))
		return false;
	uhmm__down_write_slow(s);
	return true;
}

static inline bool uhmm__down_write_trylock_at(struct uhmm__rwsem *s,
					       const struct uhmm_site *where uhmm_unused)
{
	return uhmm__raw_down_write_trylock(s);
}

static inline void uhmm__up_write_at(struct uhmm__rwsem *s,
				     const struct uhmm_site *where uhmm_unused)
{
	uhmm__raw_up_write(s);
}

static inline void uhmm__downgrade_write_at(struct uhmm__rwsem *s,
					    const struct uhmm_site *where uhmm_unused)
{
	uhmm__raw_downgrade_write(s);
}

static inline void uhmm__rwsem_assert_held_at(struct uhmm__rwsem *s uhmm_unused,
					      bool write uhmm_unused,
					      const struct uhmm_site *where uhmm_unused)
{
	UHMM_VM_BUG_ON(NULL, !(load_relaxed(&s->count) &
			       (write ? UHMM__RWSEM_WRITER : ~UHMM__RWSEM_WAITERS)));
}
#endif

#endif /* UHMM_SYNC_RWSEM_H */
