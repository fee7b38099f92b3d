// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/rcu.h"

#ifndef _LGPL_SOURCE
#define _LGPL_SOURCE
#endif
#include <pthread.h>
#include <urcu/urcu-memb.h>

#include "sync/sync.h"

#ifdef UHMM__TSAN
#include <sanitizer/tsan_interface.h>
/*
 * liburcu is not instrumented, so ThreadSanitizer sees no order between a read section and what
 * happens after the grace period that waited for it. One mark says so: released by each section
 * as it ends, acquired by whoever has waited. It does not order readers among themselves.
 */
static char grace_mark;
#define section_ends() __tsan_release(&grace_mark)
#define grace_period_ends() __tsan_acquire(&grace_mark)
/* Inlined into code that is instrumented, liburcu's own accesses would be reported. */
#undef urcu_memb_read_lock
#undef urcu_memb_read_unlock
extern void urcu_memb_read_lock(void);
extern void urcu_memb_read_unlock(void);
#define reader_begin() urcu_memb_read_lock()
#define reader_end() urcu_memb_read_unlock()
#else
#define section_ends() ((void)0)
#define grace_period_ends() ((void)0)
#define reader_begin() _urcu_memb_read_lock()
#define reader_end() _urcu_memb_read_unlock()
#endif

/*
 * Callbacks that make a task run them. A grace period costs microseconds, or a time slice when a
 * reader was preempted; spread over this many it is nothing, and this many page tables are 1 MiB.
 */
#define BATCH 256

/*
 * Host threads that have read sections, and forks.
 *
 * A fork copies the calling thread alone, but liburcu's registry still names the others in the
 * child: it would wait for read sections that nobody is left to end, and walk into stacks that
 * the C library gives to new threads. So the threads are listed here, the child takes the ones
 * that are gone out of the registry, and no fork happens while the registry is being changed or
 * waited on. liburcu's own fork hooks care for call_rcu threads, and there are none.
 */
struct reader {
	struct list_head link;
	struct urcu_reader *urcu;
	bool listed;
};

#if UHMM__RCU_INLINE
bool uhmm__rcu_fences;
#endif

static pthread_mutex_t readers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list_head readers = { &readers, &readers };
static _Thread_local struct reader this_reader;
static pthread_once_t readers_once = PTHREAD_ONCE_INIT;
static pthread_key_t readers_key;

static void fork_prepare(void)
{
	pthread_mutex_lock(&readers_lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&readers_lock);
}

static void fork_child(void)
{
	struct reader *r, *next;

	uhmm__for_each_entry_safe(r, next, &readers, link) {
		if (r == &this_reader)
			continue;
		cds_list_del(&r->urcu->node);
		list_del(&r->link);
	}
	pthread_mutex_unlock(&readers_lock);
}

static void reader_exit(void *arg)
{
	struct reader *r = arg;

	pthread_mutex_lock(&readers_lock);
	urcu_memb_unregister_thread();
	list_del(&r->link);
	pthread_mutex_unlock(&readers_lock);
	r->listed = false;
}

static void readers_init(void)
{
#if UHMM__RCU_INLINE
	uhmm__rcu_fences = !urcu_memb_has_sys_membarrier;
#endif
	pthread_key_create(&readers_key, reader_exit);
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void uhmm__rcu_register_thread(void)
{
	struct reader *r = &this_reader;

	if (likely(r->listed))
		return;
	pthread_once(&readers_once, readers_init);
	/* A program may use liburcu itself: what it registered, it unregisters. */
	if (URCU_TLS(urcu_memb_reader).registered)
		return;
	pthread_mutex_lock(&readers_lock);
	urcu_memb_register_thread();
	r->urcu = &URCU_TLS(urcu_memb_reader);
	list_add_tail(&r->link, &readers);
	pthread_mutex_unlock(&readers_lock);
	r->listed = true;
	pthread_setspecific(readers_key, r);
}

#if UHMM__RCU_INLINE

void uhmm__rcu_read_lock_slow(void)
{
	reader_begin();
}

void uhmm__rcu_read_unlock_slow(void)
{
	reader_end();
}

#else

void uhmm__rcu_read_lock_at(const struct uhmm_site *where uhmm_unused)
{
#if UHMM_CHECKED
	struct uhmm_task *t = uhmm__current();

	uhmm__sched_point(UHMM__PT_RCU, NULL);
	t->rcu_nesting++;
	uhmm__section_enter(where);
	if (t->fiber) {
		if (t->rcu_nesting == 1)
			t->rcu_since = t->machine->sync->rcu_seq;
		return;
	}
#endif
	reader_begin();
}

void uhmm__rcu_read_unlock_at(const void *mapped uhmm_unused,
			      const struct uhmm_site *where uhmm_unused)
{
#if UHMM_CHECKED
	struct uhmm_task *t = uhmm__current();

	if (!uhmm__section_leave(mapped, where))
		return;
	t->rcu_nesting--;
	if (t->fiber) {
		if (!t->rcu_nesting) {
			t->rcu_since = 0;
			t->machine->sync->rcu_check = true;
		}
		uhmm__sched_point(UHMM__PT_RCU, NULL);
		return;
	}
#endif
	section_ends();
	reader_end();
}

#endif

bool uhmm__rcu_read_held(void)
{
	return _urcu_memb_read_ongoing();
}

void uhmm__rcu_abandon(void)
{
	while (_urcu_memb_read_ongoing())
		reader_end();
}

static void grace_period(void)
{
	pthread_mutex_lock(&readers_lock);
	urcu_memb_synchronize_rcu();
	pthread_mutex_unlock(&readers_lock);
	grace_period_ends();
}

void uhmm__call_rcu(struct uhmm_machine *m, struct uhmm__rcu_head *head,
		    void (*fn)(struct uhmm__rcu_head *head))
{
	struct uhmm__sync *sync = m->sync;
	struct uhmm_task *t = uhmm__current();

	head->next = NULL;
	head->fn = fn;
	uhmm__raw_spin_lock(&sync->rcu_lock);
#if UHMM_CHECKED
	head->seq = ++sync->rcu_seq;
	sync->rcu_check = true;
#endif
	*sync->rcu_last = head;
	sync->rcu_last = &head->next;
	if (++sync->rcu_queued >= BATCH && t)
		t->rcu_due = true;
	uhmm__raw_spin_unlock(&sync->rcu_lock);
}

static void run_callback(struct uhmm__rcu_head *head)
{
#if UHMM_CHECKED
	/* Of this task, also if it is a fiber and others run meanwhile. */
	struct uhmm_task *t = uhmm__current();
	struct uhmm__lock_mask mask = uhmm__lock_interrupt(t);

	t->rcu_callback = true;
	head->fn(head);
	t->rcu_callback = false;
	uhmm__lock_resume(t, mask);
#else
	head->fn(head);
#endif
}

static void run_callbacks(struct uhmm__rcu_head *head)
{
	while (head) {
		struct uhmm__rcu_head *next = head->next;

		run_callback(head);
		head = next;
	}
}

/* Everything queued so far, after one grace period; the caller has rcu_drain. */
static void drain(struct uhmm__sync *sync)
{
	struct uhmm__rcu_head *head;

	uhmm__raw_spin_lock(&sync->rcu_lock);
	head = sync->rcu_first;
	sync->rcu_first = NULL;
	sync->rcu_last = &sync->rcu_first;
	sync->rcu_queued = 0;
	uhmm__raw_spin_unlock(&sync->rcu_lock);
	if (!head)
		return;
	grace_period();
	run_callbacks(head);
}

#if UHMM_CHECKED

/* When the oldest read section that goes on began; fibers, so nothing moves meanwhile. */
static uint64_t oldest_section(struct uhmm__sync *sync)
{
	uint64_t oldest = UINT64_MAX;
	const struct uhmm_task *t;

	uhmm__for_each_entry(t, &sync->tasks, link)
		if (t->rcu_nesting)
			oldest = MIN(oldest, t->rcu_since);
	return oldest;
}

void uhmm__rcu_run_ready(struct uhmm_machine *m)
{
	struct uhmm__sync *sync = m->sync;
	struct uhmm__rcu_head *head;

	/* A callback has switch points: what becomes ready meanwhile is ours as well. */
	sync->rcu_running = true;
	while (sync->rcu_check) {
		sync->rcu_check = false;
		while ((head = sync->rcu_first) && head->seq <= oldest_section(sync)) {
			sync->rcu_first = head->next;
			if (!sync->rcu_first)
				sync->rcu_last = &sync->rcu_first;
			sync->rcu_queued--;
			run_callback(head);
		}
	}
	sync->rcu_running = false;
}

struct fiber_grace {
	struct uhmm__rcu_head head;
	struct uhmm__waitq done;
	bool over;
};

static void fiber_grace_over(struct uhmm__rcu_head *head)
{
	struct fiber_grace *g = container_of(head, struct fiber_grace, head);

	g->over = true;
	uhmm__wake_up_all(&g->done);
}

/* Callbacks run in order, so when this one has run, all before it have. */
static bool fiber_wait(struct uhmm_machine *m)
{
	struct fiber_grace g = { .over = false };

	if (!uhmm__current() || !uhmm__current()->fiber)
		return false;
	uhmm__waitq_init(&g.done, UHMM__LC_WAITQ);
	uhmm__call_rcu(m, &g.head, fiber_grace_over);
	uhmm__wait_event(&g.done, g.over);
	return true;
}

#else

static inline bool fiber_wait(struct uhmm_machine *m uhmm_unused)
{
	return false;
}

#endif

void uhmm__synchronize_rcu(struct uhmm_machine *m)
{
	uhmm__might_sleep();
	if (!fiber_wait(m))
		grace_period();
}

void uhmm__rcu_barrier(struct uhmm_machine *m)
{
	struct uhmm__sync *sync = m->sync;

	if (fiber_wait(m))
		return;
	/* Some may have been on the stacks of tasks that are gone. */
	if (sync->broken)
		return;
	/* Whoever drains now has taken some of them off the queue. */
	uhmm__mutex_lock(&sync->rcu_drain);
	drain(sync);
	uhmm__mutex_unlock(&sync->rcu_drain);
}

void uhmm_cold uhmm__rcu_poll(struct uhmm_machine *m)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__sync *sync = m->sync;

#if UHMM_CHECKED
	if (t->fiber) {
		t->rcu_due = false;
		return;
	}
#endif
	/* A caller that may not sleep is at fault; do not make it hang. */
	if (_urcu_memb_read_ongoing())
		return;
	t->rcu_due = false;
	if (!uhmm__mutex_trylock(&sync->rcu_drain))
		return;
	drain(sync);
	uhmm__mutex_unlock(&sync->rcu_drain);
}
