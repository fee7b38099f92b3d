/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * task.h - tasks: what "current" is.
 *
 * A task is bound to a simulated CPU and runs on a host thread (uhmm_task_enter()) or, in the
 * checked build, on a fiber of the simulated scheduler.
 */
#ifndef UHMM_SYNC_TASK_H
#define UHMM_SYNC_TASK_H

#include "core/machine.h"
#include "sync/lock_class.h"

struct uhmm__cpu;
struct uhmm__fiber;

#if UHMM_CHECKED
struct uhmm__lock_graph;

/* One lock or section that a task has; lock is NULL where one was released out of order. */
struct uhmm__held {
	const void *lock;
	const struct uhmm_site *where;
	uint8_t node;
	uint8_t how; /* UHMM__LOCK_* */
};

/* What a task has, in the order in which it came. */
struct uhmm__held_set {
	struct uhmm__lock_graph *graph;	      /* [const] of the machine */
	struct uhmm__held *v;		      /* room, or from the heap when a task holds more */
	unsigned int first, end, size;	      /* live ones are in [first, end) */
	unsigned int nr_spin;		      /* of them, not to be held while sleeping */
	bool lost;			      /* there was no memory for some */
	uint64_t mask[UHMM__LOCK_NODES / 64]; /* nodes of which it has any: what others depend on */
	uint32_t nr[UHMM__LOCK_NODES];	      /* how many of each */
	struct uhmm__held room[24];
};
#endif

/*
 * Counters that go up together wherever an access takes its usual course: that is counted once, by one
 * addition, and what it comes to is added where counters are read. What each is made of: task.c.
 */
enum uhmm__course {
	UHMM__COURSE_ACCESS,	 /* an access that found its entry */
	UHMM__COURSE_ANON_WRITE, /* a write that faulted, and got a new page by the VMA's lock */
	UHMM__COURSE_DEVICE_RETRY, /* a fault by the VMA's lock on a device's page, which needs mmap_lock */
	UHMM__COURSE_LOCK_ENTRY,   /* from the PGD to an entry, which is locked */
	UHMM__COURSE_DEVICE_ENTRY, /* the same by that, until the entry is locked */
	UHMM__COURSE_RMAP_ONE,	   /* an rmap walk of one VMA */
	UHMM__NR_COURSES
};

/* Some things are kept for each CPU in a cache line of its own; CPUs share so many. */
#define UHMM__CACHE_LINE 64
#define UHMM__CPU_LINES 4

struct uhmm_task {
	/* Hot; only the task itself writes these. */
	struct uhmm_machine *machine; /* [const] */
	struct uhmm_mm *mm;	    /* with a reference on its users; the mm layer may change it */
	struct uhmm__cpu *this_cpu; /* [const] */
	unsigned int cpu;	    /* [const] */
	bool killed;
	bool rcu_due; /* enough RCU callbacks are queued: run them where sleeping is allowed */
	bool entered;
	size_t cpu_line; /* [const] where its CPU's is among UHMM__CPU_LINES, in bytes */
	_Atomic uint64_t courses[UHMM__NR_COURSES]; /* as counters */
	uint64_t vma_cache_mm; /* the last VMA found; valid for the mm of this id at this sequence */
	void *vma_cache_vma;
	uint64_t vma_cache_seq;
	uhmm_vaddr_t vma_cache_start, vma_cache_end;
	_Atomic uint64_t counters[UHMM_NR_COUNTERS]; /* written by the task, read by anyone */

	char name[16];	       /* [const] */
	uint64_t id;	       /* [const] */
	struct list_head link; /* [tasks] */
#if UHMM_CHECKED
	struct uhmm__fiber *fiber; /* [const] NULL on a host thread */
	unsigned int rcu_nesting;
	bool rcu_callback;  /* it is running one */
	uint64_t rcu_since; /* fibers: when the outermost read section began */
	struct uhmm__held_set held;
#endif
};

/* How the layers above take part; set once by the mm layer, NULL entries are skipped. */
struct uhmm__task_ops {
	/* A reference on the users of @mm; false if @mm is not of @m or has no users left. */
	bool (*mm_get)(struct uhmm_machine *m, struct uhmm_mm *mm);
	/* Drops it; runs inside a task, may sleep. */
	void (*mm_put)(struct uhmm_mm *mm);
	/* @t begins (ends) to run on its CPU with its mm; runs as @t, no lock held. */
	void (*switch_mm)(struct uhmm_task *t, bool enter);
};

/* Initial-exec: one load from the thread's own segment. */
extern _Thread_local struct uhmm_task *uhmm__current_task
	__attribute__((tls_model("initial-exec")));

/* The current task, NULL outside any. */
static inline struct uhmm_task *uhmm__current(void)
{
	return uhmm__current_task;
}

/* A plain add: nobody else writes a task's counters. */
static inline void uhmm__counter_add(_Atomic uint64_t *counter, uint64_t n)
{
#if defined(__x86_64__) && !UHMM_CHECKED
	/* One instruction, where compilers make three of two atomic accesses. */
	__asm__ __inline__("addq %1, %0" : "+m"(*counter) : "er"(n) : "cc");
#else
	store_relaxed(counter, load_relaxed(counter) + n);
#endif
}

static inline void uhmm__task_count(struct uhmm_task *t, enum uhmm_counter c, uint64_t n)
{
	uhmm__counter_add(&t->counters[c], n);
}

static inline void uhmm__task_count_course(struct uhmm_task *t, enum uhmm__course course)
{
	uhmm__counter_add(&t->courses[course], 1);
}

static inline void uhmm__count_n(enum uhmm_counter c, uint64_t n)
{
	uhmm__task_count(uhmm__current(), c, n);
}

static inline void uhmm__count(enum uhmm_counter c)
{
	uhmm__count_n(c, 1);
}

/*
 * Run as the machine's own task, for creation, destruction and verification from outside any
 * task (CPU 0, no mm). Never fails; threads that want it wait for each other; nests. Returns what
 * to give to the _leave.
 */
struct uhmm_task *uhmm__boot_task_enter(struct uhmm_machine *m);
void uhmm__boot_task_leave(struct uhmm_machine *m, struct uhmm_task *previous);

/* sync/ only: set up a task that the caller allocated, and its opposite. */
void uhmm__task_setup(struct uhmm_task *t, struct uhmm_machine *m, unsigned int cpu,
		      const char *name);
void uhmm__task_retire(struct uhmm_task *t);

#endif /* UHMM_SYNC_TASK_H */
