// SPDX-License-Identifier: LGPL-2.1-or-later
#include <string.h>

#include "core/alloc.h"
#include "sync/lock_check.h"
#include "sync/sync.h"

/* A task per two cache lines at least: what one counts must not slow another. */
#define TASK_ALIGN 128

_Thread_local struct uhmm_task *uhmm__current_task;

/* What the usual courses of an access count: each walk of its entry, by the CPU or by the fault, is one. */
static const uint8_t course_counts[UHMM__NR_COURSES][UHMM_NR_COUNTERS] = {
	[UHMM__COURSE_ACCESS] = {
		[UHMM_CNT_READ_PGD] = 1,
		[UHMM_CNT_READ_PUD] = 1,
		[UHMM_CNT_READ_PMD] = 1,
		[UHMM_CNT_CPU_ACCESSES] = 1,
	},
	/* The access, its fault, which reads the PMD entry again to lock the entry, and the access again. */
	[UHMM__COURSE_ANON_WRITE] = {
		[UHMM_CNT_READ_PGD] = 3,
		[UHMM_CNT_READ_PUD] = 3,
		[UHMM_CNT_READ_PMD] = 4,
		[UHMM_CNT_READ_PTE] = 1,
		[UHMM_CNT_PTL] = 1,
		[UHMM_CNT_VMA_LOCK] = 1,
		[UHMM_CNT_FAULT_ANON_WRITE] = 1,
		[UHMM_CNT_CLEAR_RAM] = 1,
		[UHMM_CNT_CPU_ACCESSES] = 1,
	},
	[UHMM__COURSE_DEVICE_RETRY] = {
		[UHMM_CNT_READ_PGD] = 1,
		[UHMM_CNT_READ_PUD] = 1,
		[UHMM_CNT_READ_PMD] = 1,
		[UHMM_CNT_READ_PTE] = 1,
		[UHMM_CNT_VMA_LOCK] = 1,
		[UHMM_CNT_FAULT_RETRY] = 1,
	},
	[UHMM__COURSE_LOCK_ENTRY] = {
		[UHMM_CNT_READ_PGD] = 1,
		[UHMM_CNT_READ_PUD] = 1,
		[UHMM_CNT_READ_PMD] = 1,
		[UHMM_CNT_READ_PTE] = 1,
		[UHMM_CNT_PTL] = 1,
	},
	[UHMM__COURSE_DEVICE_ENTRY] = {
		[UHMM_CNT_READ_PGD] = 1,
		[UHMM_CNT_READ_PUD] = 1,
		[UHMM_CNT_READ_PMD] = 2,
		[UHMM_CNT_READ_PTE] = 1,
		[UHMM_CNT_PTL] = 1,
	},
	[UHMM__COURSE_RMAP_ONE] = {
		[UHMM_CNT_RMAP_WALKS] = 1,
		[UHMM_CNT_RMAP_STEPS] = 1,
	},
};

/* What a task has counted, courses included. */
static uint64_t task_counter(const struct uhmm_task *t, enum uhmm_counter c)
{
	uint64_t n = load_relaxed(&t->counters[c]);

	for (unsigned int i = 0; i < UHMM__NR_COURSES; i++)
		n += load_relaxed(&t->courses[i]) * course_counts[i][c];
	return n;
}

struct uhmm_task *uhmm_task_current(void)
{
	return uhmm__current();
}

void uhmm__task_setup(struct uhmm_task *t, struct uhmm_machine *m, unsigned int cpu,
		      const char *name)
{
	struct uhmm__sync *sync = m->sync;

	t->machine = m;
	t->cpu = cpu;
	t->this_cpu = &sync->cpus[cpu];
	t->cpu_line = cpu % UHMM__CPU_LINES * UHMM__CACHE_LINE;
#if UHMM_CHECKED
	uhmm__held_init(t);
#endif
	strncpy(t->name, name ? name : "task", sizeof(t->name) - 1);
	uhmm__raw_spin_lock(&sync->tasks_lock);
	t->id = sync->next_task_id++;
	list_add_tail(&t->link, &sync->tasks);
	uhmm__raw_spin_unlock(&sync->tasks_lock);
}

void uhmm__task_retire(struct uhmm_task *t)
{
	struct uhmm__sync *sync = t->machine->sync;

	uhmm__raw_spin_lock(&sync->tasks_lock);
	for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
		sync->retired[i] += task_counter(t, i);
	list_del(&t->link);
	uhmm__raw_spin_unlock(&sync->tasks_lock);
#if UHMM_CHECKED
	uhmm__held_free(t);
#endif
}

int uhmm_task_create(struct uhmm_machine *m, struct uhmm_mm *mm, unsigned int cpu, const char *name,
		     struct uhmm_task **out)
{
	const struct uhmm__task_ops *ops = &m->sync->ops;
	struct uhmm_task *t;

	if (cpu >= m->config.nr_cpus)
		return -EINVAL;
	t = uhmm__alloc_aligned(m, TASK_ALIGN, sizeof(*t));
	if (!t)
		return -ENOMEM;
	if (mm && ops->mm_get && !ops->mm_get(m, mm)) {
		uhmm__free(m, t, sizeof(*t));
		return -EINVAL;
	}
	t->mm = mm;
	uhmm__task_setup(t, m, cpu, name);
	*out = t;
	return 0;
}

void uhmm_task_destroy(struct uhmm_task *t)
{
	struct uhmm_task *previous = uhmm__current();
	struct uhmm_machine *m;

	if (!t)
		return;
	m = t->machine;
	UHMM_BUG_ON(m, t->entered);
	if (t->mm && m->sync->ops.mm_put) {
		/* The last user takes the address space apart: that is this task's own work. */
		uhmm__rcu_register_thread();
		uhmm__current_task = t;
		m->sync->ops.mm_put(t->mm);
		uhmm__current_task = previous;
	}
	uhmm__task_retire(t);
	uhmm__free(m, t, sizeof(*t));
}

void uhmm_task_enter(struct uhmm_task *t)
{
	struct uhmm__task_ops *ops = &t->machine->sync->ops;

	UHMM_BUG_ON(t->machine, uhmm__current() || t->entered);
	uhmm__rcu_register_thread();
	t->entered = true;
	uhmm__current_task = t;
	if (ops->switch_mm)
		ops->switch_mm(t, true);
}

void uhmm_task_leave(void)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__task_ops *ops = &t->machine->sync->ops;

	uhmm__assert_no_locks();
	if (ops->switch_mm)
		ops->switch_mm(t, false);
	t->entered = false;
	uhmm__current_task = NULL;
}

struct uhmm_task *uhmm__boot_task_enter(struct uhmm_machine *m)
{
	struct uhmm_task *previous = uhmm__current();

	uhmm__rcu_register_thread();
	if (previous != &m->sync->boot && !uhmm__raw_down_write_trylock(&m->sync->boot_lock))
		uhmm__down_write_slow(&m->sync->boot_lock);
	uhmm__current_task = &m->sync->boot;
	return previous;
}

void uhmm__boot_task_leave(struct uhmm_machine *m, struct uhmm_task *previous)
{
	UHMM_BUG_ON(m, uhmm__current() != &m->sync->boot);
	if (previous == &m->sync->boot)
		return;
	uhmm__assert_no_locks();
	uhmm__current_task = previous;
	uhmm__raw_up_write(&m->sync->boot_lock);
}

void uhmm_counters_read(struct uhmm_machine *m, struct uhmm_counters *out)
{
	struct uhmm__sync *sync = m->sync;
	const struct uhmm_task *t;

	uhmm__raw_spin_lock(&sync->tasks_lock);
	for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
		out->v[i] = sync->retired[i];
	uhmm__for_each_entry(t, &sync->tasks, link)
		for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
			out->v[i] += task_counter(t, i);
	uhmm__raw_spin_unlock(&sync->tasks_lock);
}
