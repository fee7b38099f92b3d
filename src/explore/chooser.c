// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explore/chooser.h"

#if UHMM_CHECKED

#include <stdio.h>

/* Steps of a schedule's rest that may go on without switches before it must be fair. */
#define MAX_FREE_STEPS 20000
/* Steps of the fair rest before it is given up. */
#define MAX_FAIR_STEPS 200000
/* Steps between two looks at the state. */
#define LOOK_STEPS 16
/* When a state comes again but the clock was looked at in between, it is put forward, each time by more. */
#define MAX_CLOCK_JUMPS 24

/* ---- what a choice costs ---- */

unsigned int uhmm__choice_cost(const struct uhmm_sched *s, const struct uhmm__fiber *last,
			       const struct uhmm__fiber *f)
{
	const struct uhmm__sched_cpu *cpu = &s->cpus[f->task.cpu];
	unsigned int preempts = cpu->current && cpu->current != f;

	if (!last || last->task.cpu == f->task.cpu)
		return preempts;
	return preempts + !!uhmm__sched_cpu_choices(&s->cpus[last->task.cpu]);
}

unsigned int uhmm__choice_default(struct uhmm_sched *s, const struct uhmm__fiber *last)
{
	unsigned int n = uhmm__sched_nr_choices(s), first = UINT32_MAX;

	for (unsigned int i = 0; i < n; i++) {
		const struct uhmm__fiber *f = uhmm__sched_nth(s, i);

		if (uhmm__choice_cost(s, last, f))
			continue;
		if (!last || f->task.cpu >= last->task.cpu)
			return i;
		if (first == UINT32_MAX)
			first = i;
	}
	return first;
}

/* ---- spinning ---- */

void uhmm__spin_reset(struct uhmm__spin *sp)
{
	*sp = (struct uhmm__spin){ .cpu = UINT32_MAX };
}

/* All there is but for the time, and for when the next tick of this CPU is, which is the same. */
static struct uhmm__hash hash_without_tick(const struct uhmm__spin *sp, const struct uhmm__world *w)
{
	struct uhmm__sched_cpu *cpu = &w->s->cpus[sp->cpu];
	unsigned int tick = cpu->tick;
	struct uhmm__hash h;

	cpu->tick = 0;
	h = uhmm__timeless_hash(w, 0);
	cpu->tick = tick;
	return h;
}

/* The state is one to compare with from now on, or the one that it is compared with. */
static void compare_states(struct uhmm__spin *sp, const struct uhmm__world *w,
			   struct uhmm__hash local)
{
	struct uhmm__hash whole;

	if (sp->steps >= sp->power) {
		sp->local = local;
		sp->power = 2 * sp->steps;
		sp->again = false;
		return;
	}
	if (!uhmm__same_hash(local, sp->local))
		return;
	whole = hash_without_tick(sp, w);
	sp->spins |= sp->again && uhmm__same_hash(whole, sp->whole);
	if (!sp->again)
		sp->whole = whole;
	sp->again = true;
}

void uhmm__spin_look(struct uhmm__spin *sp, const struct uhmm__world *w,
		     const struct uhmm__fiber *last)
{
	if (!last || last->task.cpu != sp->cpu) {
		uhmm__spin_reset(sp);
		sp->cpu = last ? last->task.cpu : UINT32_MAX;
	}
	if (!last || last->state != UHMM__READY)
		return;
	uhmm__wipe_stack(last);
	if (++sp->steps > UHMM__SPIN_GRACE)
		compare_states(sp, w, uhmm__local_hash(last));
}

/* ---- the fair rest ---- */

/* To compare with from now on. */
static bool take_state(struct uhmm__tail *t, const struct uhmm_sched *s, struct uhmm__hash h)
{
	unsigned int n = s->nr_tasks;

	if (t->nr_returns < n) {
		uint64_t *v = realloc(t->returns, n * sizeof(*v));

		if (!v)
			return false;
		t->returns = v;
		t->nr_returns = n;
	}
	for (unsigned int i = 0; i < n; i++)
		t->returns[i] = s->tasks[i]->returns;
	t->state = h;
	t->state_steps = t->steps;
	t->clock_reads = s->clock_reads;
	t->power = 2 * MAX(t->steps, LOOK_STEPS);
	return true;
}

/* The same state again, by a fair way that can be gone for ever. */
static void judge(struct uhmm__tail *t, struct uhmm__world *w)
{
	const struct uhmm_sched *s = w->s;
	unsigned int some = 0, none = 0;
	const char *stuck = "";

	for (unsigned int i = 0; i < s->nr_tasks; i++) {
		const struct uhmm__fiber *f = s->tasks[i];

		if (f->state == UHMM__ENDED)
			continue;
		if (f->returns != t->returns[i]) {
			some++;
			continue;
		}
		if (!none++)
			stuck = f->task.name;
	}
	t->cycle = t->steps - t->state_steps;
	if (!none)
		uhmm__world_fault(w, UHMM_VERDICT_LIVELOCK,
				  "livelock: under a fair schedule the same state comes again "
				  "after %llu steps; all tasks return to user mode on the way, but "
				  "nothing that they do there or in the kernel makes a difference",
				  (unsigned long long)t->cycle);
	else if (some)
		uhmm__world_fault(w, UHMM_VERDICT_STARVATION,
				  "starvation: under a fair schedule the same state comes again "
				  "after %llu steps; %u tasks get on with their work, %s does not",
				  (unsigned long long)t->cycle, some, stuck);
	else
		uhmm__world_fault(w, UHMM_VERDICT_LIVELOCK,
				  "livelock: under a fair schedule the same state comes again "
				  "after %llu steps, and no task has got on with its work",
				  (unsigned long long)t->cycle);
}

/* Looked at now and then; but how long the cycle is, to the step. */
static bool look_now(const struct uhmm__tail *t)
{
	return t->measuring || t->steps % LOOK_STEPS == 0;
}

/* Returns: false if the run is to end. */
static bool look(struct uhmm__tail *t, struct uhmm__world *w)
{
	struct uhmm_sched *s = w->s;
	struct uhmm__hash h = uhmm__timeless_hash(w, s->last_cpu);

	if (t->steps && uhmm__same_hash(h, t->state)) {
		if (s->clock_reads != t->clock_reads || s->nr_timers) {
			if (++t->jumps > MAX_CLOCK_JUMPS)
				return false;
			uhmm__sched_clock_forward(s, t->jumps);
			t->measuring = false;
			return take_state(t, s, uhmm__timeless_hash(w, s->last_cpu));
		}
		if (t->measuring) {
			judge(t, w);
			return false;
		}
		t->measuring = true;
		return take_state(t, s, h);
	}
	if (t->steps >= t->power && !t->measuring)
		return take_state(t, s, h);
	return t->steps < MAX_FAIR_STEPS;
}

struct uhmm__fiber *uhmm__tail_choose(struct uhmm__tail *t, struct uhmm__world *w)
{
	struct uhmm_sched *s = w->s;

	if (!uhmm__sched_nr_choices(s))
		return NULL;
	t->on = true;
	if (look_now(t) && !look(t, w)) {
		t->undecided = !w->verdict;
		return NULL;
	}
	t->steps++;
	return uhmm__sched_fair(s);
}

void uhmm__tail_free(struct uhmm__tail *t)
{
	free(t->returns);
	*t = (struct uhmm__tail){ 0 };
}

/* ---- writing down ---- */

/* That the clock was put forward, if it was. */
static void note_clock(struct uhmm__steps *steps, struct uhmm_sched *s)
{
	if (s->clock_moved)
		uhmm__steps_push(steps, s->clock_by, UHMM__STEP_CLOCK);
	s->clock_moved = false;
}

void uhmm__record_step(struct uhmm__record *rec, const struct uhmm__tail *tail,
		       struct uhmm_sched *s, const struct uhmm__fiber *f)
{
	struct uhmm__steps *steps = tail->on ? &rec->rest : &rec->steps;

	note_clock(steps, s);
	if (f)
		uhmm__steps_push(steps, f->index, f->worker);
}

void uhmm__record_end(struct uhmm__record *rec, const struct uhmm__tail *tail)
{
	if (tail->cycle || tail->undecided) {
		uhmm__steps_push(&rec->steps, 0, UHMM__STEP_FAIR);
	} else {
		rec->steps.lost |= rec->rest.lost;
		for (size_t i = 0; i < rec->rest.nr; i++)
			uhmm__steps_append(&rec->steps, rec->rest.v[i]);
	}
	uhmm__steps_free(&rec->rest);
}

void uhmm__record_free(struct uhmm__record *rec)
{
	uhmm__steps_free(&rec->steps);
	uhmm__steps_free(&rec->rest);
}

struct uhmm__fiber *uhmm__recorder_choose(struct uhmm__chooser *c, struct uhmm_sched *s)
{
	struct uhmm__recorder *r = container_of(c, struct uhmm__recorder, chooser);
	struct uhmm__fiber *f = r->inner->choose(r->inner, s);

	uhmm__record_step(&r->record, r->tail, s, f);
	return f;
}

/* ---- following a schedule ---- */

/* The task that a word names, if it can go on. */
static struct uhmm__fiber *fitting(struct uhmm_sched *s, const struct uhmm__step *step)
{
	unsigned int n = uhmm__sched_nr_choices(s);

	for (unsigned int i = 0; i < n; i++) {
		struct uhmm__fiber *f = uhmm__sched_nth(s, i);

		if (f->index == step->index && f->worker == (step->kind == UHMM__STEP_WORKER))
			return f;
	}
	return NULL;
}

/* Of choices: F ends them. */
static bool words_left(const struct uhmm__replay *r)
{
	return r->at < r->steps->nr && r->steps->v[r->at].kind != UHMM__STEP_FAIR;
}

static void misfit(struct uhmm__replay *r, const char *why)
{
	const struct uhmm__step *step = &r->steps->v[r->at];

	snprintf(r->why, sizeof(r->why),
		 "the schedule does not fit: word %zu, %c%u*%u, at its choice %u: %s", r->at + 1,
		 uhmm__step_letter(step), (unsigned int)step->index, (unsigned int)step->count,
		 r->by + 1, why);
}

static struct uhmm__fiber *scheduled(struct uhmm__replay *r, struct uhmm_sched *s)
{
	while (words_left(r)) {
		const struct uhmm__step *step = &r->steps->v[r->at];
		struct uhmm__fiber *f;

		if (step->kind == UHMM__STEP_CLOCK) {
			for (; r->by < step->count; r->by++) {
				uhmm__sched_clock_forward(s, step->index);
				note_clock(&r->done.steps, s);
			}
			r->by = 0;
			r->at++;
			continue;
		}
		f = fitting(s, step);
		if (f) {
			if (++r->by == step->count) {
				r->by = 0;
				r->at++;
			}
			return f;
		}
		if (!r->lenient) {
			r->stale = true;
			misfit(r, "that task cannot go on there");
			return NULL;
		}
		r->by = 0;
		r->at++;
	}
	return NULL;
}

/* What follows the schedule need not be fair yet. */
static bool still_free(struct uhmm__replay *r)
{
	if (r->tail.on || r->at < r->steps->nr || (r->fair_after && r->nr_steps >= r->fair_after))
		return false;
	uhmm__spin_look(&r->spin, r->w, r->last);
	return !uhmm__spins(&r->spin) && r->free_steps++ < MAX_FREE_STEPS;
}

static struct uhmm__fiber *replay_choose(struct uhmm__chooser *c, struct uhmm_sched *s)
{
	struct uhmm__replay *r = container_of(c, struct uhmm__replay, chooser);
	struct uhmm__fiber *f;

	if (!uhmm__sched_nr_choices(s) || (r->max_steps && r->nr_steps >= r->max_steps))
		return NULL;
	f = scheduled(r, s);
	if (!f && !r->stale) {
		if (still_free(r))
			f = uhmm__sched_nth(s, uhmm__choice_default(s, r->last));
		else
			f = uhmm__tail_choose(&r->tail, r->w);
	}
	uhmm__record_step(&r->done, &r->tail, s, f);
	if (!f)
		return NULL;
	r->nr_switches += uhmm__choice_cost(s, r->last, f);
	r->nr_steps++;
	if (r->note)
		r->note(r, f);
	r->last = f;
	return f;
}

int uhmm__replay_run(struct uhmm__replay *r, uint64_t seed)
{
	int ret;

	r->chooser.choose = replay_choose;
	r->at = r->by = 0;
	r->stale = false;
	r->last = NULL;
	r->spin = (struct uhmm__spin){ 0 };
	r->free_steps = r->nr_steps = r->nr_switches = 0;
	uhmm__tail_free(&r->tail);
	uhmm__record_free(&r->done);
	ret = uhmm__world_run(r->w, &r->chooser, seed);
	uhmm__record_end(&r->done, &r->tail);
	if (!r->lenient && !r->w->verdict && words_left(r) && !r->stale) {
		r->stale = true;
		misfit(r, "the run has ended before");
	}
	return r->stale ? -ESTALE : ret;
}

void uhmm__replay_free(struct uhmm__replay *r)
{
	uhmm__tail_free(&r->tail);
	uhmm__record_free(&r->done);
}

uint64_t uhmm__length_of(struct uhmm__world *w)
{
	static const struct uhmm__steps none;
	struct uhmm__replay r = { .w = w, .steps = &none };
	uint64_t n;

	uhmm__replay_run(&r, 0);
	n = r.nr_steps;
	uhmm__replay_free(&r);
	return MAX(n, 1);
}

#endif /* UHMM_CHECKED */
