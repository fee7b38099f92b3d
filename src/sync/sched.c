// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The simulated scheduler. One host thread; a fiber a task; at each switch point the running
 * fiber itself chooses who goes on and jumps there, so that going on costs no jump at all.
 *
 * A CPU has a current task, and a queue of those that are ready. What can be chosen: each CPU's
 * current task, unless it spins on a lock; where there is none, or where it may be preempted, any
 * task of its queue.
 */
#include "sync/sched_internal.h"

#if UHMM_CHECKED

#include <execinfo.h>
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

static bool may_preempt(const struct uhmm_sched *s, const struct uhmm__sched_cpu *cpu)
{
	const struct uhmm_task *t = &cpu->current->task;

	if (cpu->current->state != UHMM__READY || t->held.nr_spin || t->rcu_callback)
		return false;
	return s->preemption == UHMM_PREEMPT_FULL || cpu->tick == UHMM__TICK_STEPS;
}

static void take_cpu(struct uhmm__fiber *f)
{
	struct uhmm__sched_cpu *cpu = uhmm__cpu_of(f);
	struct uhmm__fiber *old = cpu->current;

	if (f->on_cpu)
		return;
	list_del(&f->queue);
	cpu->nr_queued--;
	if (old) {
		cpu->tick = 0;
		uhmm__leave_cpu(old);
		uhmm__enqueue(old);
	}
	cpu->current = f;
	f->on_cpu = true;
}

static bool can_run(const struct uhmm__fiber *f)
{
	const struct uhmm__sched_cpu *cpu = uhmm__cpu_of(f);

	return f->state == UHMM__READY &&
	       (f->on_cpu || !cpu->current ||
		(f->sched->preemption != UHMM_PREEMPT_NONE && may_preempt(f->sched, cpu)));
}

unsigned int uhmm__sched_cpu_choices(const struct uhmm__sched_cpu *cpu)
{
	return cpu->current ? cpu->current->state == UHMM__READY : cpu->nr_queued;
}

/* How many of a CPU's tasks can be chosen. */
static unsigned int choices(const struct uhmm_sched *s, const struct uhmm__sched_cpu *cpu)
{
	if (s->preemption != UHMM_PREEMPT_NONE && cpu->current && cpu->nr_queued &&
	    may_preempt(s, cpu))
		return 1 + cpu->nr_queued;
	return uhmm__sched_cpu_choices(cpu);
}

static struct uhmm__fiber *nth_choice(struct uhmm__sched_cpu *cpu, unsigned int n)
{
	struct list_head *p = cpu->queue.next;

	if (cpu->current && !n--)
		return cpu->current;
	while (n--)
		p = p->next;
	return list_entry(p, struct uhmm__fiber, queue);
}

unsigned int uhmm__sched_nr_choices(const struct uhmm_sched *s)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < s->nr_cpus; i++)
		n += choices(s, &s->cpus[i]);
	return n;
}

struct uhmm__fiber *uhmm__sched_nth(struct uhmm_sched *s, unsigned int n)
{
	for (unsigned int i = 0;; i++) {
		unsigned int here = choices(s, &s->cpus[i]);

		if (n < here)
			return nth_choice(&s->cpus[i], n);
		n -= here;
	}
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
	unsigned int total = uhmm__sched_nr_choices(s);

	if (!total)
		return NULL;
	if (total == 1)
		return uhmm__sched_nth(s, 0);
	return uhmm__sched_nth(s, (unsigned int)((next_random(s) >> 32) * total >> 32));
}

/* Every CPU in turn, and on each the task that has been ready for longest. */
struct uhmm__fiber *uhmm__sched_fair(struct uhmm_sched *s)
{
	for (unsigned int i = 0; i < s->nr_cpus; i++) {
		struct uhmm__sched_cpu *cpu;
		unsigned int n;

		if (++s->last_cpu >= s->nr_cpus)
			s->last_cpu = 0;
		cpu = &s->cpus[s->last_cpu];
		n = choices(s, cpu);
		if (n)
			return nth_choice(cpu,
					  cpu->current && n > 1 && cpu->tick == UHMM__TICK_STEPS);
	}
	return NULL;
}

static struct uhmm__fiber *choose_scheduled(struct uhmm_sched *s)
{
	const struct uhmm__step *step = &s->schedule.v[s->schedule_at];
	struct uhmm__fiber *f = NULL;

	if (step->kind == UHMM__STEP_WORKER && step->index < s->nr_cpus)
		f = s->cpus[step->index].worker;
	else if (step->kind == UHMM__STEP_TASK && step->index < s->nr_tasks)
		f = s->tasks[step->index];
	if (f && can_run(f)) {
		if (++s->schedule_by == step->count) {
			s->schedule_by = 0;
			s->schedule_at++;
		}
		return f;
	}
	if (!uhmm__sched_nr_choices(s))
		return NULL;
	snprintf(s->why, sizeof(s->why), "word %zu, %c%u*%u, at its choice %u: %s",
		 s->schedule_at + 1, uhmm__step_letter(step), step->index,
		 (unsigned int)step->count, s->schedule_by + 1,
		 !f			   ? "there is no such task"
		 : f->state == UHMM__READY ? "another task has its CPU"
					   : uhmm__fiber_states[f->state]);
	s->result = -ESTALE;
	return NULL;
}

/* Where the current task stands. */
static void note_point(struct uhmm__fiber *f, enum uhmm__point kind, const void *addr,
		       const void *pc)
{
	struct uhmm_sched *s = f->sched;

	f->point = kind;
	f->point_addr = addr;
	f->point_pc = pc;
	if (unlikely(s->chooser && s->chooser->wants_stacks))
		s->stack_depth = backtrace(s->stack, UHMM__STACK_DEPTH);
}

/* ---- virtual time ---- */

static void wake_sleeper(struct uhmm__fiber *f)
{
	f->wakes_at = 0;
	f->sched->nr_timers--;
	uhmm__sched_wake(f);
}

bool uhmm__sched_run_timers(struct uhmm_sched *s, bool idle)
{
	uint64_t next = UINT64_MAX;

	if (!s->nr_timers)
		return false;
	for (unsigned int i = 0; i < s->nr_tasks; i++)
		if (s->tasks[i]->wakes_at)
			next = MIN(next, s->tasks[i]->wakes_at);
	if (next > s->now && !idle)
		return false;
	s->now = MAX(s->now, next);
	for (unsigned int i = 0; i < s->nr_tasks; i++)
		if (s->tasks[i]->wakes_at && s->tasks[i]->wakes_at <= s->now)
			wake_sleeper(s->tasks[i]);
	return true;
}

uint64_t uhmm__sched_now(void)
{
	struct uhmm_sched *s = this_fiber()->sched;

	s->clock_reads++;
	return s->now;
}

void uhmm__sched_sleep_ns(uint64_t ns)
{
	struct uhmm__fiber *f = this_fiber();
	struct uhmm_sched *s = f->sched;

	f->wakes_at = s->now + MAX(ns, 1);
	s->nr_timers++;
	while (f->wakes_at) {
		if (uhmm__sched_run_rcu(f))
			continue;
		note_point(f, UHMM__PT_WAIT, NULL, __builtin_return_address(0));
		f->state = UHMM__SLEEPS;
		f->waits_for = NULL;
		f->waits_class = UHMM__LC_WAITQ;
		uhmm__leave_cpu(f);
		uhmm__reschedule(f);
	}
}

/* ---- choosing ---- */

static void follow_clock(struct uhmm_sched *s)
{
	for (; s->schedule_at < s->schedule.nr; s->schedule_at++) {
		const struct uhmm__step *step = &s->schedule.v[s->schedule_at];

		if (step->kind != UHMM__STEP_CLOCK)
			return;
		for (uint32_t i = 0; i < step->count; i++)
			uhmm__sched_clock_forward(s, step->index);
	}
}

static struct uhmm__fiber *choose(struct uhmm_sched *s)
{
	follow_clock(s);
	if (s->schedule_at < s->schedule.nr)
		return s->schedule.v[s->schedule_at].kind == UHMM__STEP_FAIR ? uhmm__sched_fair(s)
									     : choose_scheduled(s);
	if (s->chooser)
		return s->chooser->choose(s->chooser, s);
	return s->policy == UHMM_SCHED_RANDOM ? choose_random(s) : uhmm__sched_fair(s);
}

static void step(struct uhmm_sched *s, struct uhmm__fiber *f)
{
	struct uhmm__sched_cpu *cpu = uhmm__cpu_of(f);

	s->steps++;
	s->now += UHMM__STEP_NS;
	if (!s->chooser)
		uhmm__steps_push(&s->trace, f->index, f->worker);
	if (s->preemption != UHMM_PREEMPT_NONE && cpu->tick < UHMM__TICK_STEPS)
		cpu->tick++;
	take_cpu(f);
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
	if (unlikely(s->nr_timers))
		while (uhmm__sched_run_timers(s, !uhmm__sched_nr_choices(s)))
			;
	f = choose(s);
	if (!f) {
		if (!s->result)
			s->result = uhmm__sched_nr_choices(s) ? -ECANCELED : -EDEADLK;
		return NULL;
	}
	step(s, f);
	return f;
}

/* Choose, and go there; comes back when @f is chosen again. */
void uhmm__reschedule(struct uhmm__fiber *f)
{
	struct uhmm_sched *s = f->sched;
	bool ends = f->state == UHMM__ENDED;
	struct uhmm__fiber *next = NULL;

	/* A chooser chooses on the host's stack: uhmm_sched_run() goes on from there. */
	if (!s->chooser) {
		next = uhmm__sched_choose(s);
		if (next == f)
			return;
		s->running = next;
		uhmm__current_task = next ? &next->task : NULL;
	}
	uhmm__context_switch(&f->context, next ? &next->context : &s->host, ends);
}

void uhmm__sched_abandon(struct uhmm_sched *s, int result)
{
	s->result = result;
	uhmm__context_switch(&s->running->context, &s->host, false);
	__builtin_unreachable();
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

void uhmm__sched_point_slow(enum uhmm__point kind, const void *addr)
{
	struct uhmm__fiber *f = this_fiber();

	note_point(f, kind, addr, __builtin_return_address(0));
	uhmm__sched_run_rcu(f);
	uhmm__reschedule(f);
}

void uhmm__resched_slow(enum uhmm__point kind)
{
	struct uhmm__fiber *f = this_fiber();

	note_point(f, kind, NULL, __builtin_return_address(0));
	f->returns += kind == UHMM__PT_USER;
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

	note_point(f, UHMM__PT_LOCK, l, __builtin_return_address(0));
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

		if (f && f->state == UHMM__SPINS && f->waits_for == l) {
			f->state = UHMM__READY;
			f->waits_for = NULL;
		}
	}
	l->spinners = 0;
}

void uhmm__sched_sleep(struct uhmm__waiter *w)
{
	struct uhmm__fiber *f = this_fiber();

	/* Callbacks may be what it waits for; they have switch points, so look again after them. */
	if (uhmm__sched_run_rcu(f))
		return;
	note_point(f, UHMM__PT_WAIT, w->key, __builtin_return_address(0));
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
	f->waits_for = NULL;
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
