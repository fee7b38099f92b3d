// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The simulated scheduler. One host thread; a fiber a task; at each switch point the running
 * fiber itself chooses who goes on and jumps there, so that going on costs no jump at all.
 *
 * A CPU has a current task, or a queue of those that are ready, or nothing to do. What can be
 * chosen: each CPU's current task, unless it spins on a lock; where there is none, any task of
 * its queue.
 */
#include "sync/sched_internal.h"

#if UHMM_CHECKED

#include <stdio.h>

const char *const uhmm__fiber_states[] = { "ready", "spins", "sleeps", "idle", "ended" };

static struct uhmm__fiber *this_fiber(void)
{
	return uhmm__current()->fiber;
}

void uhmm__enqueue(struct uhmm__fiber *f)
{
	struct uhmm__sched_cpu *cpu = uhmm__cpu_of(f);

	list_add_tail(&f->queue, &cpu->queue);
	cpu->nr_queued++;
}

void uhmm__leave_cpu(struct uhmm__fiber *f)
{
	uhmm__cpu_of(f)->current = NULL;
	f->on_cpu = false;
}

static void take_cpu(struct uhmm__fiber *f)
{
	struct uhmm__sched_cpu *cpu = uhmm__cpu_of(f);

	if (f->on_cpu)
		return;
	list_del(&f->queue);
	cpu->nr_queued--;
	cpu->current = f;
	f->on_cpu = true;
}

static bool can_run(const struct uhmm__fiber *f)
{
	return f->state == UHMM__READY && (f->on_cpu || !uhmm__cpu_of(f)->current);
}

/* How many of a CPU's tasks can be chosen. */
static unsigned int choices(const struct uhmm__sched_cpu *cpu)
{
	return cpu->current ? cpu->current->state == UHMM__READY : cpu->nr_queued;
}

static struct uhmm__fiber *nth_choice(struct uhmm__sched_cpu *cpu, unsigned int n)
{
	struct list_head *p = cpu->queue.next;

	if (cpu->current)
		return cpu->current;
	while (n--)
		p = p->next;
	return list_entry(p, struct uhmm__fiber, queue);
}

static unsigned int all_choices(const struct uhmm_sched *s)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < s->nr_cpus; i++)
		n += choices(&s->cpus[i]);
	return n;
}

/* xorshift64*: fast, and good enough to choose by. */
static uint64_t next_random(struct uhmm_sched *s)
{
	s->rng ^= s->rng >> 12;
	s->rng ^= s->rng << 25;
	s->rng ^= s->rng >> 27;
	return s->rng * 0x2545f4914f6cdd1dULL;
}

static struct uhmm__fiber *choose_random(struct uhmm_sched *s)
{
	unsigned int total = all_choices(s), n;

	if (!total)
		return NULL;
	n = total == 1 ? 0 : (unsigned int)((next_random(s) >> 32) * total >> 32);
	for (unsigned int i = 0;; i++) {
		unsigned int here = choices(&s->cpus[i]);

		if (n < here)
			return nth_choice(&s->cpus[i], n);
		n -= here;
	}
}

/* Every CPU in turn, and on each the task that has been ready for longest. */
static struct uhmm__fiber *choose_fair(struct uhmm_sched *s)
{
	for (unsigned int i = 0; i < s->nr_cpus; i++) {
		if (++s->last_cpu >= s->nr_cpus)
			s->last_cpu = 0;
		if (choices(&s->cpus[s->last_cpu]))
			return nth_choice(&s->cpus[s->last_cpu], 0);
	}
	return NULL;
}

static struct uhmm__fiber *choose_scheduled(struct uhmm_sched *s)
{
	const struct uhmm__step *step = &s->schedule.v[s->schedule_at];
	struct uhmm__fiber *f = NULL;

	if (step->worker && step->index < s->nr_cpus)
		f = s->cpus[step->index].worker;
	else if (!step->worker && step->index < s->nr_tasks)
		f = s->tasks[step->index];
	if (f && can_run(f)) {
		if (++s->schedule_by == step->count) {
			s->schedule_by = 0;
			s->schedule_at++;
		}
		return f;
	}
	if (!all_choices(s))
		return NULL;
	snprintf(s->why, sizeof(s->why), "word %zu, %c%u*%u, at its choice %u: %s",
		 s->schedule_at + 1, step->worker ? 'W' : 'T', step->index,
		 (unsigned int)step->count, s->schedule_by + 1,
		 !f			   ? "there is no such task"
		 : f->state == UHMM__READY ? "another task has its CPU"
					   : uhmm__fiber_states[f->state]);
	s->result = -ESTALE;
	return NULL;
}

/* Who goes on; NULL if the run ends, and s->result says how. */
struct uhmm__fiber *uhmm__sched_choose(struct uhmm_sched *s)
{
	struct uhmm__fiber *f;

	if (!s->nr_alive)
		return NULL;
	if (unlikely(s->steps >= s->max_steps)) {
		s->result = -ETIMEDOUT;
		return NULL;
	}
	if (s->schedule_at < s->schedule.nr)
		f = choose_scheduled(s);
	else if (s->policy == UHMM_SCHED_RANDOM)
		f = choose_random(s);
	else
		f = choose_fair(s);
	if (!f) {
		if (!s->result)
			s->result = -EDEADLK;
		return NULL;
	}
	s->steps++;
	uhmm__steps_push(&s->trace, f->index, f->worker);
	take_cpu(f);
	return f;
}

/* Choose, and go there; comes back when @f is chosen again. */
void uhmm__reschedule(struct uhmm__fiber *f)
{
	struct uhmm_sched *s = f->sched;
	struct uhmm__fiber *next = uhmm__sched_choose(s);
	bool ends = f->state == UHMM__ENDED;

	if (next == f)
		return;
	s->running = next;
	uhmm__current_task = next ? &next->task : NULL;
	uhmm__context_switch(&f->context, next ? &next->context : &s->host, ends);
}

/* Callbacks run as soon as they may, where a softirq could: not below a spin lock. */
bool uhmm__sched_run_rcu(struct uhmm__fiber *f)
{
	struct uhmm__sync *sync = f->sched->m->sync;

	if (likely(!sync->rcu_check) || sync->rcu_running || f->task.held.nr_spin)
		return false;
	uhmm__rcu_run_ready(f->sched->m);
	return true;
}

void uhmm__sched_point_slow(enum uhmm__point kind uhmm_unused, const void *addr uhmm_unused)
{
	struct uhmm__fiber *f = this_fiber();

	uhmm__sched_run_rcu(f);
	uhmm__reschedule(f);
}

void uhmm__resched_slow(enum uhmm__point kind uhmm_unused)
{
	struct uhmm__fiber *f = this_fiber();

	uhmm__sched_run_rcu(f);
	if (uhmm__cpu_of(f)->nr_queued) {
		uhmm__leave_cpu(f);
		uhmm__enqueue(f);
	}
	uhmm__reschedule(f);
}

void uhmm__sched_spin(struct uhmm__spinlock *l)
{
	struct uhmm__fiber *f = this_fiber();

	f->state = UHMM__SPINS;
	f->waits_for = l;
	f->waits_class = l->class_id;
	l->spinners++;
	uhmm__reschedule(f);
}

void uhmm__sched_spin_release(struct uhmm__spinlock *l)
{
	struct uhmm_sched *s = this_fiber()->sched;

	for (unsigned int i = 0; i < s->nr_cpus; i++) {
		struct uhmm__fiber *f = s->cpus[i].current;

		if (f && f->state == UHMM__SPINS && f->waits_for == l)
			f->state = UHMM__READY;
	}
	l->spinners = 0;
}

void uhmm__sched_sleep(struct uhmm__waiter *w)
{
	struct uhmm__fiber *f = this_fiber();

	/* Callbacks may be what it waits for; they have switch points, so look again after them. */
	if (uhmm__sched_run_rcu(f))
		return;
	f->state = UHMM__SLEEPS;
	f->waits_for = w->key;
	f->waits_class = w->class_id;
	uhmm__leave_cpu(f);
	uhmm__reschedule(f);
}

void uhmm__sched_wake(struct uhmm__fiber *f)
{
	if (f->state != UHMM__SLEEPS)
		return;
	f->state = UHMM__READY;
	uhmm__enqueue(f);
}

void uhmm__sched_queue_work(unsigned int cpu_id, struct uhmm__work *work)
{
	struct uhmm__sched_cpu *cpu = &this_fiber()->sched->cpus[cpu_id];

	list_add_tail(&work->link, &cpu->works);
	if (cpu->worker->state != UHMM__IDLE)
		return;
	cpu->worker->state = UHMM__READY;
	uhmm__enqueue(cpu->worker);
}

#endif /* UHMM_CHECKED */
