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
 * own, or because the memory never goes away, as that of frame descriptors).
 */
#ifndef UHMM_SYNC_WAIT_H
#define UHMM_SYNC_WAIT_H

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

/*
 * Sleep until the lock has been released once. @drop, a spin lock or NULL, is held by the caller
 * and keeps the word valid; it is released once the task is queued. Takes no reference and does
 * not touch @word after that, so the object may be freed while the task sleeps: the lock's
 * holder wakes it. The caller learns nothing but that it should look again.
 * Models: mm/filemap.c:migration_entry_wait_on_locked(), 7.0: softleaf_entry_wait_on_locked().
 * Returns: true if it slept.
 */
#if UHMM_CHECKED
bool uhmm__bit_wait_unlocked_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
				unsigned int waiters_bit, struct uhmm__spinlock *drop,
				const char *where);
bool uhmm__bit_trylock_at(_Atomic uint32_t *word, unsigned int bit, const char *where);
bool uhmm__bit_lock_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
		       unsigned int waiters_bit, const char *where);
void uhmm__bit_unlock_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			 unsigned int waiters_bit, const char *where);
#define uhmm__bit_wait_unlocked(m, word, bit, waiters_bit, drop)                                   \
	uhmm__bit_wait_unlocked_at(m, word, bit, waiters_bit, drop, UHMM__HERE)
#define uhmm__bit_trylock(word, bit) uhmm__bit_trylock_at(word, bit, UHMM__HERE)
#define uhmm__bit_lock(m, word, bit, waiters_bit)                                                  \
	uhmm__bit_lock_at(m, word, bit, waiters_bit, UHMM__HERE)
#define uhmm__bit_unlock(m, word, bit, waiters_bit)                                                \
	uhmm__bit_unlock_at(m, word, bit, waiters_bit, UHMM__HERE)
#else
bool uhmm__bit_wait_unlocked(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			     unsigned int waiters_bit, struct uhmm__spinlock *drop);

/* Returns: true if it was taken. */
uhmm_always_inline bool uhmm__bit_trylock(_Atomic uint32_t *word, unsigned int bit)
{
	uint32_t mask = 1U << bit;

	return !(load_relaxed(word) & mask) &&
	       !(atomic_fetch_or_explicit(word, mask, memory_order_acquire) & mask);
}

/* Returns: true if it waited. Waiters are handed the lock in order, unless a trylock is faster. */
uhmm_always_inline bool uhmm__bit_lock(struct uhmm_machine *m, _Atomic uint32_t *word,
				       unsigned int bit, unsigned int waiters_bit)
{
	uhmm__might_sleep();
	if (likely(uhmm__bit_trylock(word, bit)))
		return false;
	uhmm__bit_lock_slow(m, word, bit, waiters_bit);
	return true;
}

uhmm_always_inline void uhmm__bit_unlock(struct uhmm_machine *m, _Atomic uint32_t *word,
					 unsigned int bit, unsigned int waiters_bit)
{
	/* The bit is set: taking it off is one instruction where clearing it is a loop. */
	uint32_t old = atomic_fetch_sub_explicit(word, 1U << bit, memory_order_release);

	if (unlikely(old & (1U << waiters_bit)))
		uhmm__bit_unlock_slow(m, word, bit, waiters_bit);
}
#endif

/* Take the lock in a word that nobody else can see yet. */
uhmm_always_inline void uhmm__bit_lock_new(_Atomic uint32_t *word, unsigned int bit)
{
#if UHMM_CHECKED
	(void)uhmm__bit_trylock(word, bit);
#else
	store_relaxed(word, load_relaxed(word) | 1U << bit);
#endif
}

#endif /* UHMM_SYNC_WAIT_H */
