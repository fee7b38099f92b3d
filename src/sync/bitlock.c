// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The slow paths of bit locks, as mm/filemap.c has them for PG_locked and PG_waiters.
 *
 * Under the queue's lock, always: the waiters bit of a word is set exactly if a waiter for the word is
 * queued; with waiters-bit=hint it may be set at other times, too. Whoever clears the lock bit and sees
 * the waiters bit comes to uhmm__bit_unlock_slow(); so a waiter may sleep once it is queued, the waiters
 * bit is set, and the lock bit was set in the very value that got the waiters bit.
 */
#include "sync/lock_check.h"
#include "sync/sync.h"

enum {
	WANTS_LOCK, /* is handed the lock */
	WANTS_LOOK, /* is woken when the lock has been released */
};

static struct uhmm__waitq *queue_of(struct uhmm_machine *m, const void *word)
{
	uint64_t h = (uint64_t)(uintptr_t)word * 0x9e3779b97f4a7c15ULL;

	return &m->sync->bit_queues[h >> (64 - UHMM__BIT_QUEUE_BITS)];
}

#define ANY_BIT 32

/* Under the queue's lock: is anyone queued for the word, or for this bit of it? */
static bool has_waiters(const struct uhmm__waitq *q, const void *word, unsigned int bit)
{
	const struct uhmm__waiter *w;

	uhmm__for_each_entry(w, &q->waiters, link)
		if (w->key == word && (bit == ANY_BIT || w->bit == bit))
			return true;
	return false;
}

/* Take @w off the queue; under its lock. */
static void dequeue(struct uhmm_machine *m, struct uhmm__waitq *q, struct uhmm__waiter *w,
		    _Atomic uint32_t *word, unsigned int waiters_bit)
{
	list_del(&w->link);
	if (m->config.waiters_bit == UHMM_WAITERS_EXACT && !has_waiters(q, word, ANY_BIT))
		atomic_fetch_and_explicit(word, ~(1U << waiters_bit), memory_order_relaxed);
}

void uhmm_cold uhmm__bit_lock_slow(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
				   unsigned int waiters_bit)
{
	struct uhmm__waitq *q = queue_of(m, word);
	uint32_t mask = 1U << bit;
	struct uhmm__waiter w;
	bool first;

	uhmm__waiter_init(&w, word, UHMM__LC_FOLIO, WANTS_LOCK);
	w.bit = (uint8_t)bit;
	uhmm__raw_spin_lock(&q->lock);
	first = !has_waiters(q, word, bit);
	list_add_tail(&w.link, &q->waiters);
	/* Free, but others are queued: whoever freed it is on its way to hand it on. */
	if (!(atomic_fetch_or_explicit(word, 1U << waiters_bit, memory_order_relaxed) & mask) &&
	    first && !(atomic_fetch_or_explicit(word, mask, memory_order_acquire) & mask)) {
		dequeue(m, q, &w, word, waiters_bit);
		uhmm__raw_spin_unlock(&q->lock);
		return;
	}
	uhmm__raw_spin_unlock(&q->lock);
	uhmm__waiter_wait(&w);
}

void uhmm_cold uhmm__bit_unlock_slow(struct uhmm_machine *m, _Atomic uint32_t *word,
				     unsigned int bit, unsigned int waiters_bit)
{
	struct uhmm__waitq *q = queue_of(m, word);
	bool hint = m->config.waiters_bit == UHMM_WAITERS_HINT, match = false;
	struct uhmm__waiter *w, *next;
	uint32_t mask = 1U << bit;
	struct list_head wake;

	list_init(&wake);
	uhmm__raw_spin_lock(&q->lock);
	uhmm__for_each_entry_safe(w, next, &q->waiters, link) {
		match |= w->key == word;
		if (w->key != word || w->bit != bit)
			continue;
		/* A trylock was faster: it has seen, or will see, the waiters bit. */
		if (w->kind == WANTS_LOCK &&
		    (atomic_fetch_or_explicit(word, mask, memory_order_acquire) & mask))
			break;
		list_del(&w->link);
		list_add_tail(&w->link, &wake);
		if (w->kind == WANTS_LOCK)
			break;
	}
	/* With waiters of other words on the queue Linux does not look whether there are more of this. */
	if (hint ? list_empty(&q->waiters) || !match : !has_waiters(q, word, ANY_BIT))
		atomic_fetch_and_explicit(word, ~(1U << waiters_bit), memory_order_relaxed);
	uhmm__raw_spin_unlock(&q->lock);
	uhmm__waiter_wake_list(&wake);
}

void uhmm_cold uhmm__bit_clear_and_wake(struct uhmm_machine *m, _Atomic uint32_t *word,
					unsigned int bit, unsigned int waiters_bit)
{
	uint32_t old = atomic_fetch_and_explicit(word, ~(1U << bit), memory_order_release);

	if (old & (1U << waiters_bit))
		uhmm__bit_unlock_slow(m, word, bit, waiters_bit);
	uhmm__sched_point(UHMM__PT_WAKE, word);
}

/* True if the caller must sleep on @w, which is queued then. */
static bool queue_look(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
		       unsigned int waiters_bit, struct uhmm__waiter *w)
{
	struct uhmm__waitq *q = queue_of(m, word);
	bool locked;

	uhmm__waiter_init(w, word, UHMM__LC_FOLIO, WANTS_LOOK);
	w->bit = (uint8_t)bit;
	uhmm__raw_spin_lock(&q->lock);
	list_add_tail(&w->link, &q->waiters);
	locked = atomic_fetch_or_explicit(word, 1U << waiters_bit, memory_order_acquire) &
		 (1U << bit);
	if (!locked)
		dequeue(m, q, w, word, waiters_bit);
	uhmm__raw_spin_unlock(&q->lock);
	return locked;
}

#if UHMM_CHECKED

bool uhmm__bit_wait_unlocked_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
				unsigned int waiters_bit, struct uhmm__spinlock *drop,
				const struct uhmm_site *where)
{
	struct uhmm__waiter w;
	bool sleep;

	uhmm__sched_point(UHMM__PT_WAIT, word);
	sleep = queue_look(m, word, bit, waiters_bit, &w);
	if (drop)
		uhmm__spin_unlock_at(drop, where);
	/* Not before: it is with the spin lock dropped that it waits. */
	uhmm__lock_attempt(word, UHMM__NODE(UHMM__LC_FOLIO, 0), 0, where);
	if (sleep)
		uhmm__waiter_wait(&w);
	return sleep;
}

bool uhmm__bit_trylock_at(_Atomic uint32_t *word, unsigned int bit, const struct uhmm_site *where)
{
	uhmm__sched_point(UHMM__PT_LOCK, word);
	if (atomic_fetch_or_explicit(word, 1U << bit, memory_order_acquire) & (1U << bit))
		return false;
	uhmm__lock_acquired(word, UHMM__NODE(UHMM__LC_FOLIO, 0), UHMM__LOCK_TRIED, where);
	return true;
}

bool uhmm__bit_lock_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
		       unsigned int waiters_bit, const struct uhmm_site *where)
{
	bool waited = false;

	uhmm__lock_attempt(word, UHMM__NODE(UHMM__LC_FOLIO, 0), 0, where);
	uhmm__sched_point(UHMM__PT_LOCK, word);
	if (atomic_fetch_or_explicit(word, 1U << bit, memory_order_acquire) & (1U << bit)) {
		waited = true;
		uhmm__sched_point(UHMM__PT_WAIT, word);
		uhmm__bit_lock_slow(m, word, bit, waiters_bit);
	}
	uhmm__lock_acquired(word, UHMM__NODE(UHMM__LC_FOLIO, 0), 0, where);
	return waited;
}

void uhmm__bit_unlock_at(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
			 unsigned int waiters_bit, const struct uhmm_site *where)
{
	uint32_t old;

	(void)uhmm__lock_released(word, UHMM__LC_FOLIO, where);
	old = atomic_fetch_and_explicit(word, ~(1U << bit), memory_order_release);
	/* Between the two another task may take the lock, or free what it protects. */
	uhmm__sched_point(UHMM__PT_UNLOCK, word);
	UHMM_WARN_ON(m, !(old & (1U << bit)));
	if (old & (1U << waiters_bit))
		uhmm__bit_unlock_slow(m, word, bit, waiters_bit);
}

#else

bool uhmm__bit_wait_unlocked_slow(struct uhmm_machine *m, _Atomic uint32_t *word, unsigned int bit,
				  unsigned int waiters_bit, struct uhmm__spinlock *drop)
{
	struct uhmm__waiter w;
	bool sleep = queue_look(m, word, bit, waiters_bit, &w);

	if (drop)
		uhmm__spin_unlock(drop);
	if (sleep)
		uhmm__waiter_wait(&w);
	return sleep;
}

#endif
