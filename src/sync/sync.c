// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/sync.h"

#include "core/alloc.h"

int uhmm__sync_init(struct uhmm_machine *m)
{
	unsigned int nr_cpus = m->config.nr_cpus;
	struct uhmm__sync *sync;

	sync = uhmm__alloc_aligned(m, 128, sizeof(*sync));
	if (!sync)
		return -ENOMEM;
	sync->cpus = uhmm__alloc_aligned(m, 128, nr_cpus * sizeof(*sync->cpus));
	if (!sync->cpus) {
		uhmm__free(m, sync, sizeof(*sync));
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < nr_cpus; i++) {
		sync->cpus[i].id = i;
		sync->cpus[i].machine = m;
		uhmm__spin_init(&sync->cpus[i].local, UHMM__LC_CPU_LOCAL);
	}
	uhmm__spin_init(&sync->tasks_lock, UHMM__LC_TASKS);
	list_init(&sync->tasks);
	uhmm__spin_init(&sync->classes_lock, UHMM__LC_TASKS);
	uhmm__spin_init(&sync->rcu_lock, UHMM__LC_TASKS);
	sync->rcu_last = &sync->rcu_first;
	uhmm__mutex_init(&sync->rcu_drain, UHMM__LC_RCU_DRAIN);
	for (unsigned int i = 0; i < UHMM__BIT_QUEUES; i++)
		uhmm__waitq_init(&sync->bit_queues[i], UHMM__LC_FOLIO);
	uhmm__rwsem_init(&sync->boot_lock, UHMM__LC_TASKS);
	m->sync = sync;
	if (uhmm__lock_check_init(m)) {
		m->sync = NULL;
		uhmm__free(m, sync->cpus, nr_cpus * sizeof(*sync->cpus));
		uhmm__free(m, sync, sizeof(*sync));
		return -ENOMEM;
	}
	uhmm__task_setup(&sync->boot, m, 0, "boot");
	return 0;
}

void uhmm__sync_exit(struct uhmm_machine *m)
{
	struct uhmm__sync *sync = m->sync;
	struct uhmm_task *previous;

	if (!sync)
		return;
	previous = uhmm__boot_task_enter(m);
	uhmm__rcu_barrier(m);
	uhmm__boot_task_leave(m, previous);
	uhmm__task_retire(&sync->boot);
	uhmm__lock_check_exit(m);
	uhmm__free(m, sync->cpus, m->config.nr_cpus * sizeof(*sync->cpus));
	uhmm__free(m, sync, sizeof(*sync));
	m->sync = NULL;
}
