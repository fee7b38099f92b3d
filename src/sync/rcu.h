/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rcu.h - read-copy update; with rcu.c the only user of liburcu (the memb flavour).
 *
 * Read sections are liburcu's, inlined. Callbacks are not: liburcu's would run on a thread of
 * its own, which a fork loses and which a program that links a library does not expect. Here
 * they wait in a queue of the machine and are run, after one grace period for a whole batch, by
 * a task that queued many and has come to a place where sleeping is allowed.
 *
 * On fibers grace periods are modelled: a callback runs as soon as every fiber that was in a
 * read section when it was queued has left it.
 */
#ifndef UHMM_SYNC_RCU_H
#define UHMM_SYNC_RCU_H

#include "sync/lock_check.h"

/* ThreadSanitizer does not see into liburcu: out of line, with marks. */
#if defined(__SANITIZE_THREAD__)
#define UHMM__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UHMM__TSAN 1
#endif
#endif

/* Read sections are inlined. */
#if UHMM_CHECKED || defined(UHMM__TSAN)
#define UHMM__RCU_INLINE 0
#else
#define UHMM__RCU_INLINE 1
#endif

#if UHMM__RCU_INLINE
#ifndef _LGPL_SOURCE
#define _LGPL_SOURCE
#endif
#include <urcu/static/urcu-memb.h>
#endif

struct uhmm__rcu_head {
	struct uhmm__rcu_head *next;
	void (*fn)(struct uhmm__rcu_head *head);
#if UHMM_CHECKED
	uint64_t seq; /* fibers: when it was queued */
#endif
};

/*
 * Read sections nest, never sleep, and stop nobody. The thread must be inside a task.
 */
#define uhmm__rcu_read_lock() uhmm__rcu_read_lock_at(UHMM__HERE)
#define uhmm__rcu_read_unlock() uhmm__rcu_read_unlock_at(NULL, UHMM__HERE)

/*
 * sync/ and pgtable/ only: the section that was entered last keeps a page table that is now @mapped;
 * the same is to be given when it ends, else NULL.
 */
#if !UHMM__RCU_INLINE
void uhmm__rcu_read_lock_at(const struct uhmm_site *where);
void uhmm__rcu_read_unlock_at(const void *mapped, const struct uhmm_site *where);
#else
/* There is no membarrier(), so sections need fences. Set before the first one. */
extern bool uhmm__rcu_fences __attribute__((visibility("hidden")));

/*
 * liburcu's own, to begin nested sections and with fences. Otherwise what it does, but for asking it
 * three times in each section whether there is membarrier().
 */
void uhmm__rcu_read_lock_slow(void);
void uhmm__rcu_read_unlock_slow(void);

uhmm_always_inline void uhmm__rcu_read_lock_at(const struct uhmm_site *where uhmm_unused)
{
	unsigned long *ctr = &URCU_TLS(urcu_memb_reader).ctr;

	cmm_barrier();
	if (unlikely(*ctr & URCU_GP_CTR_NEST_MASK || uhmm__rcu_fences)) {
		uhmm__rcu_read_lock_slow();
		return;
	}
	WRITE_ONCE(*ctr, READ_ONCE(urcu_memb_gp.ctr));
	cmm_barrier();
}

uhmm_always_inline void uhmm__rcu_read_unlock_at(const void *mapped uhmm_unused,
						 const struct uhmm_site *where uhmm_unused)
{
	unsigned long *ctr = &URCU_TLS(urcu_memb_reader).ctr;

	if (unlikely(uhmm__rcu_fences)) {
		uhmm__rcu_read_unlock_slow();
		return;
	}
	/* The end of a nested one may wake a grace period too early, which looks again. */
	cmm_barrier();
	*ctr -= URCU_GP_COUNT; /* one instruction, where a volatile access would make three */
	cmm_barrier();
	urcu_common_wake_up_gp(&urcu_memb_gp);
}
#endif

/*
 * A chain: read sections one after the other, and nothing between them that sleeps. In the plain build
 * it is one section, and its links cost nothing. In the checked build it is nothing, and its links are
 * the sections, each by itself as in the kernel. What may sleep ends the chain and begins it again.
 * A link may also be ended by uhmm__rcu_read_unlock(), and the chain is with it.
 */
#if UHMM_CHECKED
#define uhmm__rcu_chain_begin() ((void)0)
#define uhmm__rcu_chain_end() ((void)0)
#define uhmm__rcu_link_lock() uhmm__rcu_read_lock()
#define uhmm__rcu_link_unlock() uhmm__rcu_read_unlock()
#else
#define uhmm__rcu_chain_begin() uhmm__rcu_read_lock()
#define uhmm__rcu_chain_end() uhmm__rcu_read_unlock()
#define uhmm__rcu_link_lock() ((void)0)
#define uhmm__rcu_link_unlock() ((void)0)
#endif

static inline void uhmm__rcu_mapped(const void *mapped uhmm_unused)
{
#if UHMM_CHECKED
	uhmm__section_maps(mapped);
#endif
}

/*
 * Run @fn(@head) once every read section that has begun has ended. Any context, spin locks and
 * read sections included. @fn runs in some task of @m, without spin locks of its caller; it may
 * take spin locks and queue callbacks, but not sleep.
 */
void uhmm__call_rcu(struct uhmm_machine *m, struct uhmm__rcu_head *head,
		    void (*fn)(struct uhmm__rcu_head *head));

/* Wait until every read section that has begun has ended. May sleep. */
void uhmm__synchronize_rcu(struct uhmm_machine *m);

/* Wait until every callback queued so far for @m has run. May sleep; not from a callback. */
void uhmm__rcu_barrier(struct uhmm_machine *m);

/* Run queued callbacks if sleeping is allowed here; called by uhmm__might_sleep(). */
void uhmm__rcu_poll(struct uhmm_machine *m);

#if UHMM_CHECKED
/* sync/ only: run the callbacks whose grace period is over, on fibers; not while it runs. */
void uhmm__rcu_run_ready(struct uhmm_machine *m);
#endif

/* The calling host thread has left its task in the middle: end the read sections that it was in. */
void uhmm__rcu_abandon(void);

/* sync/ only: let the calling host thread have read sections, until it exits. */
void uhmm__rcu_register_thread(void);

#endif /* UHMM_SYNC_RCU_H */
