// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/percpu.h"

#include "sync/sched.h"
#include "sync/sync.h"

struct uhmm__cpu *uhmm__cpu(struct uhmm_machine *m, unsigned int id)
{
	return &m->sync->cpus[id];
}

static void run_locked(struct uhmm__cpu *cpu, void (*fn)(struct uhmm__cpu *cpu, void *arg),
		       void *arg)
{
	uhmm__spin_lock(&cpu->local);
	fn(cpu, arg);
	uhmm__spin_unlock(&cpu->local);
}

#if UHMM_CHECKED

struct each_cpu {
	struct uhmm__work work;
	struct uhmm__cpu *cpu;
	void (*fn)(struct uhmm__cpu *cpu, void *arg);
	void *arg;
	_Atomic unsigned int *left;
	struct uhmm__waitq *done;
};

static void each_cpu_work(struct uhmm__work *work)
{
	struct each_cpu *e = container_of(work, struct each_cpu, work);
	struct uhmm__waitq *done = e->done;

	run_locked(e->cpu, e->fn, e->arg);
	/* After the last of these the caller may return, and *e be gone. */
	atomic_fetch_sub_explicit(e->left, 1, memory_order_release);
	uhmm__wake_up_all(done);
}

static void on_each_worker(struct uhmm_machine *m, void (*fn)(struct uhmm__cpu *cpu, void *arg),
			   void *arg)
{
	unsigned int nr = m->config.nr_cpus;
	_Atomic unsigned int left = nr;
	struct each_cpu each[UHMM_MAX_CPUS];
	struct uhmm__waitq done;

	uhmm__waitq_init(&done, UHMM__LC_WAITQ);
	for (unsigned int i = 0; i < nr; i++) {
		each[i] = (struct each_cpu){
			{ { NULL, NULL }, each_cpu_work }, &m->sync->cpus[i], fn, arg, &left, &done
		};
		uhmm__sched_queue_work(i, &each[i].work);
	}
	uhmm__wait_event(&done, load_acquire(&left) == 0);
}

#endif

void uhmm__on_each_cpu(struct uhmm_machine *m, void (*fn)(struct uhmm__cpu *cpu, void *arg),
		       void *arg)
{
	uhmm__might_sleep();
#if UHMM_CHECKED
	if (uhmm__current() && uhmm__current()->fiber) {
		on_each_worker(m, fn, arg);
		return;
	}
#endif
	for (unsigned int i = 0; i < m->config.nr_cpus; i++)
		run_locked(&m->sync->cpus[i], fn, arg);
}
