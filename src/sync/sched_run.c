// SPDX-License-Identifier: LGPL-2.1-or-later
/* Scheduler and tasks: creation, what a fiber runs, runs and how they end. */
#include "sync/sched_internal.h"
#include "sync/sync.h"

#if UHMM_CHECKED

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/region.h"
#include "sync/lock_check.h"

#define DEFAULT_MAX_STEPS 10000000

static void worker_main(void *arg)
{
	struct uhmm__fiber *f = arg;
	struct uhmm__sched_cpu *cpu = uhmm__cpu_of(f);

	for (;;) {
		while (!list_empty(&cpu->works)) {
			struct uhmm__work *work =
				list_first_entry(&cpu->works, struct uhmm__work, link);

			list_del(&work->link);
			work->fn(work);
		}
		f->state = UHMM__IDLE;
		uhmm__leave_cpu(f);
		uhmm__reschedule(f);
	}
}

static void fiber_main(void *arg)
{
	struct uhmm__fiber *f = arg;
	struct uhmm_sched *s = f->sched;
	const struct uhmm__task_ops *ops = &s->m->sync->ops;

	f->task.entered = true;
	if (ops->switch_mm)
		ops->switch_mm(&f->task, true);
	f->fn(f->arg);
	uhmm__assert_no_locks();
	if (ops->switch_mm)
		ops->switch_mm(&f->task, false);
	if (f->task.mm && ops->mm_put)
		ops->mm_put(f->task.mm);
	f->task.mm = NULL;
	uhmm__sched_run_rcu(f);
	uhmm__task_retire(&f->task);
	f->state = UHMM__ENDED;
	uhmm__leave_cpu(f);
	s->nr_alive--;
	uhmm__reschedule(f);
	__builtin_unreachable();
}

/* Of a task's memory these say how it got where it is, not where it is: its stack says that. */
static int ignore_counts(struct uhmm__fiber *f)
{
	struct uhmm__region *r = uhmm__region_here;
	size_t end = sizeof(*f) - offsetof(struct uhmm__fiber, returns);

	if (uhmm__region_ignore(r, f->task.courses, sizeof(f->task.courses)) ||
	    uhmm__region_ignore(r, f->task.counters, sizeof(f->task.counters)))
		return -ENOMEM;
	return uhmm__region_ignore(r, &f->returns, end);
}

static struct uhmm__fiber *fiber_create(struct uhmm_sched *s, const char *name, unsigned int cpu)
{
	struct uhmm__fiber *f = uhmm__side_alloc(sizeof(*f));

	if (!f)
		return NULL;
	/* The stack of a task that has ended, if there is one. */
	for (unsigned int i = 0; i < s->nr_tasks && !f->context.stack; i++) {
		struct uhmm__context *old = &s->tasks[i]->context;

		if (s->tasks[i]->state != UHMM__ENDED || !old->stack)
			continue;
		f->context = *old;
		old->stack = NULL;
	}
	if ((!f->context.stack && uhmm__context_alloc(&f->context)) ||
	    (uhmm__region_here && ignore_counts(f))) {
		uhmm__context_free(&f->context);
		uhmm__side_free(f, sizeof(*f));
		return NULL;
	}
	f->sched = s;
	list_init(&f->queue);
	f->task.fiber = f;
	uhmm__task_setup(&f->task, s->m, cpu, name);
	return f;
}

static void fiber_free(struct uhmm__fiber *f)
{
	if (f->state != UHMM__ENDED)
		uhmm__task_retire(&f->task);
	uhmm__context_free(&f->context);
	uhmm__side_free(f, sizeof(*f));
}

static int create_workers(struct uhmm_sched *s)
{
	for (unsigned int i = 0; i < s->nr_cpus; i++) {
		struct uhmm__sched_cpu *cpu = &s->cpus[i];
		char name[24];

		list_init(&cpu->queue);
		list_init(&cpu->works);
		cpu->tick = UHMM__TICK_STEPS; /* the first may come at any time */
		snprintf(name, sizeof(name), "kworker/%u", i);
		cpu->worker = fiber_create(s, name, i);
		if (!cpu->worker)
			return -ENOMEM;
		cpu->worker->worker = true;
		cpu->worker->index = i;
		cpu->worker->state = UHMM__IDLE;
		uhmm__context_start(&cpu->worker->context, worker_main, cpu->worker);
	}
	return 0;
}

int uhmm_sched_create(struct uhmm_machine *m, const struct uhmm_sched_config *config,
		      struct uhmm_sched **out)
{
	static const struct uhmm_sched_config defaults = { .size = sizeof(defaults) };
	struct uhmm_sched *s;

	if (!config)
		config = &defaults;
	if (config->size != sizeof(*config) || (unsigned int)config->policy > UHMM_SCHED_RANDOM)
		return -EINVAL;
	if (m->sync->sched)
		return -EBUSY;
	s = uhmm__side_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	if (uhmm__region_here && uhmm__region_ignore(uhmm__region_here, s, sizeof(*s))) {
		uhmm__side_free(s, sizeof(*s));
		return -ENOMEM;
	}
	s->m = m;
	s->policy = config->policy;
	s->max_steps = config->max_steps ? config->max_steps : DEFAULT_MAX_STEPS;
	/* Spread, so that seeds next to each other differ; never 0, where xorshift stays. */
	s->rng = ((config->seed ^ m->config.seed) + 1) * 0x9e3779b97f4a7c15ULL | 1;
	s->preemption = m->config.preemption;
	s->nr_cpus = m->config.nr_cpus;
	s->cpus = uhmm__side_alloc(s->nr_cpus * sizeof(*s->cpus));
	m->sync->sched = s;
	if (!s->cpus || create_workers(s)) {
		uhmm_sched_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void uhmm_sched_destroy(struct uhmm_sched *s)
{
	if (!s)
		return;
	UHMM_BUG_ON(s->m, s->active);
	s->m->sync->broken |= s->nr_alive && s->steps;
	for (unsigned int i = 0; i < s->nr_tasks; i++)
		fiber_free(s->tasks[i]);
	for (unsigned int i = 0; s->cpus && i < s->nr_cpus; i++)
		if (s->cpus[i].worker)
			fiber_free(s->cpus[i].worker);
	s->m->sync->sched = NULL;
	uhmm__steps_free(&s->schedule);
	uhmm__steps_free(&s->trace);
	free(s->trace_text);
	uhmm__side_free(s->tasks, s->size_tasks * sizeof(*s->tasks));
	uhmm__side_free(s->cpus, s->nr_cpus * sizeof(*s->cpus));
	uhmm__side_free(s, sizeof(*s));
}

int uhmm_sched_spawn(struct uhmm_sched *s, const char *name, unsigned int cpu, struct uhmm_mm *mm,
		     void (*fn)(void *arg), void *arg)
{
	const struct uhmm__task_ops *ops = &s->m->sync->ops;
	struct uhmm__fiber *f;

	if (cpu >= s->nr_cpus || !fn)
		return -EINVAL;
	if (s->nr_tasks == s->size_tasks) {
		unsigned int size = s->size_tasks ? s->size_tasks * 2 : 16;
		struct uhmm__fiber **tasks = uhmm__side_grow(
			s->tasks, s->size_tasks * sizeof(*tasks), size * sizeof(*tasks));

		if (!tasks)
			return -ENOMEM;
		s->tasks = tasks;
		s->size_tasks = size;
	}
	if (mm && ops->mm_get && !ops->mm_get(s->m, mm))
		return -EINVAL;
	f = fiber_create(s, name, cpu);
	if (!f) {
		struct uhmm_task *previous = uhmm__boot_task_enter(s->m);

		if (mm && ops->mm_put)
			ops->mm_put(mm);
		uhmm__boot_task_leave(s->m, previous);
		return -ENOMEM;
	}
	f->task.mm = mm;
	f->fn = fn;
	f->arg = arg;
	f->index = s->nr_tasks;
	s->tasks[s->nr_tasks++] = f;
	s->nr_alive++;
	uhmm__context_start(&f->context, fiber_main, f);
	uhmm__enqueue(f);
	return 0;
}

int uhmm_sched_set_schedule(struct uhmm_sched *s, const char *text)
{
	int ret = uhmm__steps_parse(&s->schedule, text ? text : "", NULL);

	if (!ret)
		s->schedule_at = s->schedule_by = 0;
	return ret;
}

static size_t describe(const struct uhmm__fiber *f, char *text, size_t size)
{
	char who[16];
	int len;

	snprintf(who, sizeof(who), "%c%u", f->worker ? 'W' : 'T', f->index);
	len = snprintf(text, size, "\n%3u  %-5s %-15s %-7s %s", f->task.cpu, who, f->task.name,
		       uhmm__fiber_states[f->state], f->on_cpu ? "on its CPU" : "");
	if (f->state == UHMM__SPINS || f->state == UHMM__SLEEPS)
		snprintf(text + len, size - (size_t)len, " for %s %p",
			 uhmm__lock_class_name(f->sched->m, f->waits_class), f->waits_for);
	if (f->task.held.first != f->task.held.end) {
		strncat(text, "; holds:", size - strlen(text) - 1);
		uhmm__lock_describe(&f->task, text, size);
	}
	return strlen(text);
}

static void report_end(struct uhmm_sched *s)
{
	const char *what = s->result == -EDEADLK  ? "deadlock: nobody can go on"
			   : s->result == -ESTALE ? "the schedule does not fit"
						  : "too many steps";
	char text[3500];
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < s->nr_tasks && len < sizeof(text) - 1; i++)
		if (s->tasks[i]->state != UHMM__ENDED)
			len += describe(s->tasks[i], text + len, sizeof(text) - len);
	for (unsigned int i = 0; i < s->nr_cpus && len < sizeof(text) - 1; i++)
		if (s->cpus[i].worker->state != UHMM__IDLE)
			len += describe(s->cpus[i].worker, text + len, sizeof(text) - len);
	uhmm__report(s->m, UHMM_REPORT_LOCK, "%s, after %llu choices%s%s\nCPU  task  %-15s state%s",
		     what, (unsigned long long)s->steps, s->why[0] ? "; " : "", s->why, "name",
		     text);
}

void uhmm__sched_rewind(struct uhmm_sched *s)
{
	for (unsigned int i = 0; i < s->nr_tasks; i++)
		uhmm__context_start(&s->tasks[i]->context, fiber_main, s->tasks[i]);
	for (unsigned int i = 0; i < s->nr_cpus; i++)
		uhmm__context_start(&s->cpus[i].worker->context, worker_main, s->cpus[i].worker);
}

/* From one task to the next, until all have ended or there is a choice to be made elsewhere. */
static void go(struct uhmm_sched *s)
{
	struct uhmm__fiber *next;

	uhmm__context_host(&s->host);
	while (!s->result && (next = uhmm__sched_choose(s))) {
		s->running = next;
		uhmm__current_task = &next->task;
		uhmm__region_lane = next->task.cpu + 1;
		uhmm__context_switch(&s->host, &next->context, false);
		uhmm__region_lane = 0;
		uhmm__current_task = NULL;
		if (!s->chooser)
			break;
	}
}

int uhmm_sched_run(struct uhmm_sched *s)
{
	if (s->active)
		return -EBUSY;
	if (s->result)
		return s->result;
	UHMM_BUG_ON(s->m, uhmm__current());
	s->active = true;
	go(s);
	s->running = NULL;
	s->active = false;
	if (s->result && s->result != -ECANCELED)
		report_end(s);
	return s->result;
}

const char *uhmm_sched_trace(struct uhmm_sched *s)
{
	free(s->trace_text);
	s->trace_text = uhmm__steps_format(&s->trace);
	return s->trace_text;
}

uint64_t uhmm_sched_steps(struct uhmm_sched *s)
{
	return s->steps;
}

void uhmm_sched_user_step(void)
{
	if (!uhmm__current())
		return;
	uhmm__assert_no_locks();
	uhmm__resched(UHMM__PT_USER);
}

#else /* the plain build has no fibers */

int uhmm_sched_create(struct uhmm_machine *m uhmm_unused,
		      const struct uhmm_sched_config *config uhmm_unused,
		      struct uhmm_sched **out uhmm_unused)
{
	return -EOPNOTSUPP;
}

void uhmm_sched_destroy(struct uhmm_sched *s uhmm_unused)
{
}

int uhmm_sched_spawn(struct uhmm_sched *s uhmm_unused, const char *name uhmm_unused,
		     unsigned int cpu uhmm_unused, struct uhmm_mm *mm uhmm_unused,
		     void (*fn)(void *arg) uhmm_unused, void *arg uhmm_unused)
{
	return -EOPNOTSUPP;
}

int uhmm_sched_set_schedule(struct uhmm_sched *s uhmm_unused, const char *text uhmm_unused)
{
	return -EOPNOTSUPP;
}

int uhmm_sched_run(struct uhmm_sched *s uhmm_unused)
{
	return -EOPNOTSUPP;
}

const char *uhmm_sched_trace(struct uhmm_sched *s uhmm_unused)
{
	return NULL;
}

uint64_t uhmm_sched_steps(struct uhmm_sched *s uhmm_unused)
{
	return 0;
}

void uhmm_sched_user_step(void)
{
}

#endif

void uhmm_sched_sleep(uint64_t ns)
{
	uhmm__assert_no_locks();
	uhmm__sleep_ns(ns);
	uhmm__exit_to_user();
}
