/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * wait.h - wait queues, and locks made of one bit of a word.
 *
 * Bit locks sleep on a table of queues in the machine, hashed by the word's address, so that a
 * folio costs no queue of its own. As with the kernel's PG_locked and PG_waiters, a second bit
 * of the word says that someone is queued. It is set and cleared under the queue's lock, and is
 * set exactly as long as a waiter for the word is queued: once uhmm__bit_unlock() has returned
 * with the bit clear, it is clear as well, and the object may be freed.
 *
 * Who unlocks must keep the word valid until uhmm__bit_unlock() returns (with a reference of its
 * own, or because the memory never goes away, as that of frame descriptors). With waiters-bit=hint the
 * second bit is as loose as in Linux, and nothing may be concluded from it.
 */
#ifndef UHMM_SYNC_WAIT_H
#define UHMM_SYNC_WAIT_H

#include "sync/lock_check.h"
#include "sync/waiter.h"

struct uhmm__waitq {
	struct uhmm__spinlock lock;
	uint32_t class_id;
	struct list_head waiters; /* [lock] */
};

/*
 * Time and sleep of the current task: the host's, in ns of a clock that only goes forward; on a fiber
 * virtual time, which passes with the steps of all tasks, and jumps ahead when all are asleep.
 */
uint64_t uhmm__clock_ns(void);
void uhmm__sleep_ns(uint64_t ns);

void uhmm__waitq_init(struct uhmm__waitq *q, enum uhmm__lock_class class_id);

/* Wake everyone who sleeps on @q; what they wait for must have been made true before. */
void uhmm__wake_up_all(struct uhmm__waitq *q);

/* For uhmm__wait_event(). */
void uhmm__waitq_add(struct uhmm__waitq *q, struct uhmm__waiter *w);
void uhmm__waitq_cancel(struct uhmm__waitq *q, struct uhmm__waiter *w);

/*
 * Sleep until @cond, which is evaluated again after each wake-up and outside the queue's lock.
 * The waker makes @cond true and then calls uhmm__wake_up_all(): the queue's lock orders the two
 * against the waiter's queueing and its second look, so no wake-up is lost.
 */
#define uhmm__wait_event(q, cond)                                                                  \
	do {                                                                                       \
		uhmm__might_sleep();                                                               \
		while (!(cond)) {                                                                  \
			struct uhmm__waiter waiter_;                                               \
                                                                                                   \
			uhmm__waitq_add(q, &waiter_);                                              \
			if (cond) {                                                                \
				uhmm__waitq_cancel(q, &waiter_);                                   \
				break;                                                             \
			}                                                                          \
			uhmm__waiter_wait(&waiter_);                                               \
		}                                                                                  \
	} while (0)

void uhmm__bit_lock_slow(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			 unsigned int waiters_bit);
void uhmm__bit_unlock_slow(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			   unsigned int waiters_bit);

/* Macros, so that the checked build knows where they stand. Returns: true if it was taken. */
#define uhmm__bit_trylock(word, bit) uhmm__bit_trylock_at(word, bit, UHMM__HERE)
/* Returns: true if it waited. Waiters are handed the lock in order, unless a trylock is faster. */
#define uhmm__bit_lock(m, word, bit, waiters_bit)                                                  \
	uhmm__bit_lock_at(m, word, bit, waiters_bit, UHMM__HERE)
#define uhmm__bit_unlock(m, word, bit, waiters_bit)                                                \
	uhmm__bit_unlock_at(m, word, bit, waiters_bit, UHMM__HERE)
/* Take the lock in a word that nobody else can see yet. */
#define uhmm__bit_lock_new(word, bit) uhmm__bit_lock_new_at(word, bit, UHMM__HERE)
/* The word has been written with the lock taken: nothing but to be known by the lock checker. */
#define uhmm__bit_lock_written(word) uhmm__bit_lock_written_at(word, UHMM__HERE)

/*
 * Clear a bit that is no lock, and wake who waits for it by uhmm__bit_wait_unlocked(). The caller keeps
 * the word valid.
 */
void uhmm__bit_clear_and_wake(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			      unsigned int waiters_bit);

/*
 * Sleep until the lock has been released once. @drop, a spin lock or NULL, is held by the caller
 * and keeps the word valid; it is released once the task is queued. Takes no reference and does
 * not touch @word after that, so the object may be freed while the task sleeps: the lock's
 * holder wakes it. The caller learns nothing but that it should look again.
 * Models: mm/filemap.c:migration_entry_wait_on_locked(), 7.0: softleaf_entry_wait_on_locked().
 * Returns: true if it slept.
 */
#define uhmm__bit_wait_unlocked(m, word, bit, waiters_bit, drop)                                   \
	uhmm__bit_wait_unlocked_at(m, word, bit, waiters_bit, drop, UHMM__HERE)

#if UHMM_CHECKED
bool uhmm__bit_trylock_at(_Atomic uint32_t *word, unsigned int bit, const struct uhmm_site *where);
bool uhmm__bit_lock_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
		       unsigned int waiters_bit, const struct uhmm_site *where);
void uhmm__bit_unlock_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			 unsigned int waiters_bit, const struct uhmm_site *where);
bool uhmm__bit_wait_unlocked_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
				unsigned int waiters_bit, struct uhmm__spinlock *drop,
				const struct uhmm_site *where);

static inline void uhmm__bit_lock_new_at(_Atomic uint32_t *word, unsigned int bit,
					 const struct uhmm_site *where)
{
	(void)uhmm__bit_trylock_at(word, bit, where);
}

static inline void uhmm__bit_lock_written_at(_Atomic uint32_t *word, const struct uhmm_site *where)
{
	uhmm__lock_acquired(word, UHMM__NODE(UHMM__LC_FOLIO, 0), UHMM__LOCK_TRIED, where);
}
#else
static inline void uhmm__bit_lock_written_at(_Atomic uint32_t *word uhmm_unused,
					     const struct uhmm_site *where uhmm_unused)
{
}

bool uhmm__bit_wait_unlocked_slow(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
				  unsigned int waiters_bit, struct uhmm__spinlock *drop);

uhmm_always_inline bool uhmm__bit_trylock_at(_Atomic uint32_t *word, unsigned int bit,
					     const struct uhmm_site *where uhmm_unused)
{
	uint32_t mask = 1U << bit;

	return !(load_relaxed(word) & mask) &&
	       !(atomic_fetch_or_explicit(word, mask, memory_order_acquire) & mask);
}

uhmm_always_inline bool uhmm__bit_lock_at(struct uhmm_machine *m, _Atomic uint32_t *word,
					  unsigned int bit, unsigned int waiters_bit,
					  const struct uhmm_site *where)
{
	uhmm__might_sleep();
	if (likely(uhmm__bit_trylock_at(word, bit, where)))
		return false;
	uhmm__bit_lock_slow(m, word, bit, waiters_bit);
	return true;
}

uhmm_always_inline void uhmm__bit_unlock_at(struct uhmm_machine *m, _Atomic uint32_t *word,
					    unsigned int bit, unsigned int waiters_bit,
					    const struct uhmm_site *where uhmm_unused)
{
	/* The bit is set: taking it off is one instruction where clearing it is a loop. */
	uint32_t old = atomic_fetch_sub_explicit(word, 1U << bit, memory_order_release);

	if (unlikely(old & (1U << waiters_bit)))
		uhmm__bit_unlock_slow(m, word, bit, waiters_bit);
}

uhmm_always_inline bool uhmm__bit_wait_unlocked_at(struct uhmm_machine *m, _Atomic uint32_t *word,
						   unsigned int bit, unsigned int waiters_bit,
						   struct uhmm__spinlock *drop,
						   const struct uhmm_site *where uhmm_unused)
{
	return uhmm__bit_wait_unlocked_slow(m, word, bit, waiters_bit, drop);
}

uhmm_always_inline void uhmm__bit_lock_new_at(_Atomic uint32_t *word, unsigned int bit,
					      const struct uhmm_site *where uhmm_unused)
{
	store_relaxed(word, load_relaxed(word) | 1U << bit);
}
#endif

#endif /* UHMM_SYNC_WAIT_H */
