// SPDX-License-Identifier: LGPL-2.1-or-later
/* The explorer from the outside: a strategy, then the schedule that it found, in full. */
#define _GNU_SOURCE
#include <uhmm/explore.h>

#include "explore/strategy.h"

#if UHMM_CHECKED

#include <execinfo.h>
#include <ctype.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Choices that a schedule may have, --max-steps apart: what is written down of each takes memory. */
#define MAX_SCHEDULED 1000000
enum { MAX_QUOTED = 24 };

/* What the caller sees, and what it points to. */
struct result {
	struct uhmm_explore_result pub;
	char *report, *schedule;
	struct uhmm_explore_step *trace;
	size_t nr_steps, size_steps;
	struct uhmm_explore_task *tasks;
	unsigned int nr_tasks;
	void **stacks; /* of all steps */
	size_t nr_stacks, size_stacks;
	bool lost;
};

/* Where each task stood when it last stopped. */
struct place {
	void *stack[UHMM__STACK_DEPTH];
	int depth;
};

struct tracer {
	struct result *result;
	struct place *places; /* workers first */
	unsigned int nr_places;
};

static const char *const point_names[] = {
	[UHMM__PT_BEGIN] = "begin",	[UHMM__PT_LOCK] = "lock",   [UHMM__PT_UNLOCK] = "unlock",
	[UHMM__PT_READ] = "read",	[UHMM__PT_WRITE] = "write", [UHMM__PT_ATOMIC] = "atomic",
	[UHMM__PT_RCU] = "rcu",		[UHMM__PT_WAIT] = "wait",   [UHMM__PT_WAKE] = "wake",
	[UHMM__PT_RESCHED] = "resched", [UHMM__PT_USER] = "user",
};

static unsigned int number_of(const struct uhmm__fiber *f)
{
	return f->worker ? f->index : f->sched->nr_cpus + f->index;
}

static bool room_for(struct tracer *t, struct result *r, unsigned int task, size_t depth)
{
	if (task >= t->nr_places) {
		unsigned int n = MAX(2 * t->nr_places, task + 16);
		struct place *p = realloc(t->places, n * sizeof(*p));

		if (!p)
			return false;
		memset(p + t->nr_places, 0, (n - t->nr_places) * sizeof(*p));
		t->places = p;
		t->nr_places = n;
	}
	if (r->nr_steps == r->size_steps) {
		size_t n = r->size_steps ? 2 * r->size_steps : 1024;
		struct uhmm_explore_step *v = realloc(r->trace, n * sizeof(*v));

		if (!v)
			return false;
		r->trace = v;
		r->size_steps = n;
	}
	if (r->nr_stacks + depth > r->size_stacks) {
		size_t n = r->size_stacks ? 2 * r->size_stacks : 16384;
		void **v = realloc(r->stacks, n * sizeof(*v));

		if (!v)
			return false;
		r->stacks = v;
		r->size_stacks = n;
	}
	return true;
}

/* The task that stopped last stands where its stack was taken; @f goes on from where it stands. */
static void note_step(struct uhmm__replay *replay, struct uhmm__fiber *f)
{
	struct tracer *t = replay->note_data;
	struct result *r = t->result;
	const struct uhmm_sched *s = f->sched;
	struct uhmm_explore_step *step;
	struct place *p;

	if (r->lost ||
	    !room_for(t, r, MAX(number_of(f), replay->last ? number_of(replay->last) : 0),
		      UHMM__STACK_DEPTH)) {
		r->lost = true;
		return;
	}
	if (replay->last) {
		p = &t->places[number_of(replay->last)];
		memcpy(p->stack, s->stack, sizeof(p->stack));
		p->depth = s->stack_depth;
	}
	p = &t->places[number_of(f)];
	step = &r->trace[r->nr_steps++];
	*step = (struct uhmm_explore_step){
		.cpu = f->task.cpu,
		.task = number_of(f),
		.what = point_names[f->point],
		/* An index for now: the array may move. */
		.stack = (void *const *)r->nr_stacks,
		.depth = (unsigned int)p->depth,
	};
	memcpy(r->stacks + r->nr_stacks, p->stack, (size_t)p->depth * sizeof(*p->stack));
	r->nr_stacks += (size_t)p->depth;
}

static bool note_tasks(struct result *r, const struct uhmm_sched *s)
{
	unsigned int n = s->nr_cpus + s->nr_tasks;

	r->tasks = calloc(n, sizeof(*r->tasks));
	if (!r->tasks)
		return false;
	for (unsigned int i = 0; i < n; i++) {
		const struct uhmm__fiber *f = i < s->nr_cpus ? s->cpus[i].worker
							     : s->tasks[i - s->nr_cpus];
		struct uhmm_explore_task *t = &r->tasks[i];

		snprintf(t->name, sizeof(t->name), "%s", f->task.name);
		t->cpu = f->task.cpu;
		t->worker = f->worker;
	}
	r->nr_tasks = n;
	return true;
}

static void publish(struct result *r)
{
	for (size_t i = 0; i < r->nr_steps; i++)
		r->trace[i].stack = r->stacks + (size_t)r->trace[i].stack;
	r->pub.report = r->report;
	r->pub.schedule = r->schedule;
	r->pub.trace = r->trace;
	r->pub.nr_steps = r->nr_steps;
	r->pub.tasks = r->tasks;
	r->pub.nr_tasks = r->nr_tasks;
}

/* Run a schedule, to see all of it. */
static int trace(struct result *r, struct uhmm__world *w, const struct uhmm__steps *steps,
		 uint64_t seed, uint64_t fair_after)
{
	struct tracer t = { .result = r };
	struct uhmm__replay replay = {
		.chooser.wants_stacks = true,
		.w = w,
		.steps = steps,
		.fair_after = fair_after,
		.note = note_step,
		.note_data = &t,
	};
	void *warm_up[2]; /* the first call loads a library */
	int ret;

	(void)backtrace(warm_up, 2);
	ret = uhmm__replay_run(&replay, seed);
	if (ret == -ESTALE) {
		r->report = strdup(replay.why);
	} else {
		ret = 0;
		r->pub.verdict = w->verdict;
		r->report = strdup(w->report);
		r->schedule = uhmm__steps_format(&replay.done.steps);
		r->pub.nr_switches = replay.nr_switches;
		r->pub.undecided = replay.tail.undecided;
		r->pub.cycle_at = replay.tail.cycle ? replay.nr_steps - replay.tail.cycle : 0;
	}
	if (!r->report || (!ret && !r->schedule) || r->lost || !note_tasks(r, w->s))
		ret = -ENOMEM;
	uhmm__replay_free(&replay);
	free(t.places);
	return ret;
}

/* printf format: what the result says. Returns: false if there is no memory. */
uhmm_printf(2, 3) static bool report(struct result *r, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	free(r->report);
	r->report = len < 0 ? NULL : text;
	return r->report;
}

/*
 * A run has shown a fault, and the same schedule does not: the fault is told all the same, without a
 * trace of what is another run.
 */
static int not_again(struct result *r, const struct uhmm__found *f)
{
	const char *now = uhmm_verdict_name(r->pub.verdict);

	r->pub.verdict = f->verdict;
	r->nr_steps = 0;
	r->pub.nr_switches = 0;
	r->pub.cycle_at = 0;
	free(r->schedule);
	r->schedule = uhmm__steps_format(&f->steps);
	if (!report(r,
		    "%s\n\nThis was seen in a run (%s), but its schedule does not show it again (%s): the "
		    "scenario depends on something that is not put back between runs, a static "
		    "variable perhaps",
		    f->report, uhmm_verdict_name(f->verdict), now))
		return -ENOMEM;
	return r->schedule ? 0 : -ENOMEM;
}

/* Which worker, by what, and where. */
static int worker_died(struct result *r, const struct uhmm__found *f)
{
	const struct uhmm__death *d = &f->death;
	bool signalled = WIFSIGNALED(d->status);
	char how[64], where[96];

	snprintf(how, sizeof(how),
		 signalled ? "was killed by signal %d (%s)" : "ended with status %d%s",
		 signalled ? WTERMSIG(d->status) : WEXITSTATUS(d->status),
		 signalled ? strsignal(WTERMSIG(d->status)) : "");
	if (f->died_first == f->died_last)
		snprintf(where, sizeof(where), "schedule %llu, of seed %llu",
			 (unsigned long long)f->died_last, (unsigned long long)f->seed);
	else
		snprintf(where, sizeof(where), "one of the schedules %llu to %llu",
			 (unsigned long long)f->died_first, (unsigned long long)f->died_last);
	r->pub.died_at = f->died_last;
	return report(r,
		      "worker process %u %s in %s; no violation in the %llu that were done before",
		      d->worker + 1, how, where, (unsigned long long)f->schedules)
		       ? -ECHILD
		       : -ENOMEM;
}

static int by_strategy(struct result *r, struct uhmm__world *w, const struct uhmm_explore_config *c)
{
	unsigned int workers = c->workers ? c->workers
					  : (unsigned int)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1);
	struct uhmm__found f = { .seed = c->seed };
	int ret;

	if (c->strategy == UHMM_EXPLORE_DFS)
		ret = uhmm__explore_dfs(w, c, workers, &f);
	else
		ret = uhmm__explore_random(w, c, workers, &f);
	r->pub.schedules = f.schedules;
	r->pub.steps = f.nr_steps;
	r->pub.states = f.states;
	r->pub.ends = f.ends;
	r->pub.ends_hash = f.ends_hash;
	r->pub.complete = f.complete;
	r->pub.seed = f.seed;
	if (!ret && f.verdict) {
		ret = uhmm__shrink(w, f.verdict, f.seed, c->max_steps, &f.steps);
		if (!ret)
			ret = trace(r, w, &f.steps, f.seed, c->max_steps);
		if (ret == -ESTALE || (!ret && r->pub.verdict != f.verdict))
			ret = not_again(r, &f);
	}
	r->pub.undecided = f.undecided;
	if (ret == -ECHILD)
		ret = worker_died(r, &f);
	uhmm__steps_free(&f.steps);
	free(f.report);
	return ret;
}

/* The word that is none, with what can be printed of it. */
static bool report_word(struct result *r, const char *text, const char *bad)
{
	char word[MAX_QUOTED + 1];
	unsigned int line = 1, n = 0;

	for (const char *p = text; p < bad; p++)
		line += *p == '\n';
	for (; n < MAX_QUOTED && bad[n] && !isspace((unsigned char)bad[n]); n++)
		word[n] = isprint((unsigned char)bad[n]) ? bad[n] : '?';
	word[n] = '\0';
	return report(
		r,
		"line %u: '%s' is no word of a schedule: expected T<task>, W<cpu> or C<n>, n up to %d, "
		"and *<count> after it if that is more than once; or F, which is the last",
		line, word, UHMM__MAX_CLOCK);
}

static int parse(struct result *r, struct uhmm__steps *steps, const struct uhmm_explore_config *c)
{
	const char *bad = NULL;
	int ret = uhmm__steps_parse(steps, c->schedule, &bad);
	uint64_t choices = 0;

	if (ret == -EINVAL && !report_word(r, c->schedule, bad))
		return -ENOMEM;
	if (ret)
		return ret;
	for (size_t i = 0; i < steps->nr; i++)
		choices += steps->v[i].count;
	if (choices <= MAX_SCHEDULED + c->max_steps)
		return 0;
	return report(r,
		      "the schedule has %llu choices, more than %u: a count is wrong, or it is to be "
		      "cut where nothing new comes",
		      (unsigned long long)choices, MAX_SCHEDULED)
		       ? -EINVAL
		       : -ENOMEM;
}

static int by_schedule(struct result *r, struct uhmm__world *w, const struct uhmm_explore_config *c)
{
	struct uhmm__steps steps = { 0 };
	int ret = parse(r, &steps, c);

	if (!ret)
		ret = trace(r, w, &steps, c->seed, c->max_steps);
	r->pub.schedules = 1;
	r->pub.seed = c->seed;
	r->pub.steps = r->nr_steps;
	uhmm__steps_free(&steps);
	return ret;
}

static bool valid(const struct uhmm_explore_config *c)
{
	return c && c->size == sizeof(*c) && c->scenario &&
	       (unsigned int)c->strategy <= UHMM_EXPLORE_DFS && c->switches_bound <= 1000 &&
	       c->max_steps <= UINT32_MAX;
}

int uhmm_explore(const struct uhmm_explore_config *config, struct uhmm_explore_result **out)
{
	struct result *r;
	struct uhmm__world *w = NULL;
	int ret;

	*out = NULL;
	if (!valid(config))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	ret = uhmm__world_create(config->scenario, config->machine, config->switches_set, &w);
	if (ret && w) {
		r->pub.verdict = w->verdict;
		r->report = strdup(w->report);
		ret = !r->report ? -ENOMEM : w->verdict ? 0 : ret;
	} else if (!ret) {
		ret = config->schedule ? by_schedule(r, w, config) : by_strategy(r, w, config);
	}
	uhmm__world_destroy(w);
	publish(r);
	*out = &r->pub;
	if (ret && !r->report) {
		uhmm_explore_free(&r->pub);
		*out = NULL;
	}
	return ret;
}

void uhmm_explore_free(struct uhmm_explore_result *pub)
{
	struct result *r = (struct result *)pub;

	if (!r)
		return;
	free(r->report);
	free(r->schedule);
	free(r->trace);
	free(r->tasks);
	free(r->stacks);
	free(r);
}

#else

#include "core/compiler.h"

int uhmm_explore(const struct uhmm_explore_config *config uhmm_unused,
		 struct uhmm_explore_result **out uhmm_unused)
{
	return -EOPNOTSUPP;
}

void uhmm_explore_free(struct uhmm_explore_result *result uhmm_unused)
{
}

/* Nobody explores, so no scenario runs. */

int uhmm_scenario_spawn(const char *name uhmm_unused, unsigned int cpu uhmm_unused,
			struct uhmm_mm *mm uhmm_unused, void (*fn)(void *arg) uhmm_unused,
			void *arg uhmm_unused)
{
	return -EOPNOTSUPP;
}

void *uhmm_scenario_alloc(size_t size uhmm_unused)
{
	return NULL;
}

void uhmm_scenario_fail(enum uhmm_verdict verdict uhmm_unused, const char *fmt uhmm_unused, ...)
{
	abort();
}

uint64_t uhmm_scenario_random(uint64_t n uhmm_unused)
{
	return 0;
}

#endif /* UHMM_CHECKED */
