// SPDX-License-Identifier: LGPL-2.1-or-later
#include "explore/world.h"

#if UHMM_CHECKED

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <uhmm/mm.h>

#include "core/machine.h"
#include "core/switches.h"
#include "sync/sync.h"

#define RAM_BYTES (8UL << 20)
#define DEVICE_BYTES (2UL << 20)

static _Thread_local struct uhmm__world *here;

/* ---- how a run ends early ---- */

void uhmm__world_fault(struct uhmm__world *w, enum uhmm_verdict verdict, const char *fmt, ...)
{
	va_list ap;

	if (w->verdict)
		return;
	w->verdict = verdict;
	va_start(ap, fmt);
	vsnprintf(w->report, sizeof(w->report), fmt, ap);
	va_end(ap);
}

/* Leave a run that has shown a fault, from wherever in it. */
static _Noreturn void leave(struct uhmm__world *w)
{
	if (uhmm__current() && uhmm__current()->fiber)
		uhmm__sched_abandon(w->s, -ECANCELED);
	siglongjmp(w->escape, 1);
}

static void take_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	static const enum uhmm_verdict verdicts[] = {
		[UHMM_REPORT_BUG] = UHMM_VERDICT_ASSERTION,
		[UHMM_REPORT_VERIFY] = UHMM_VERDICT_REFERENCE,
		[UHMM_REPORT_LOCK] = UHMM_VERDICT_LOCK_REPORT,
		[UHMM_REPORT_TLB] = UHMM_VERDICT_STALE_TLB,
		[UHMM_REPORT_FREED] = UHMM_VERDICT_USE_AFTER_FREE,
		[UHMM_REPORT_WARN] = UHMM_VERDICT_ASSERTION,
	};
	struct uhmm__world *w = data;
	bool fiber = uhmm__current() && uhmm__current()->fiber;

	/* How a run ended is reported from outside. */
	uhmm__world_fault(w,
			  w->s && w->s->result == -EDEADLK ? UHMM_VERDICT_DEADLOCK : verdicts[kind],
			  "%s", text);
	if (w->active && (fiber || w->checking))
		leave(w);
}

void uhmm_scenario_fail(enum uhmm_verdict verdict, const char *fmt, ...)
{
	char text[2000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!here || !here->active) {
		fprintf(stderr, "uhmm: %s\n", text);
		abort();
	}
	uhmm__world_fault(here, verdict ? verdict : UHMM_VERDICT_ASSERTION, "%s", text);
	leave(here);
}

/* ---- signals ---- */

static bool poisoned(const ucontext_t *uc)
{
#ifdef __x86_64__
	for (int i = 0; i < NGREG; i++)
		if (uhmm__region_is_poison((uint64_t)uc->uc_mcontext.gregs[i]))
			return true;
#endif
	return false;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct uhmm__world *w = here;

	if (w && sig == SIGSEGV && uhmm__region_touch(w->region, info->si_addr))
		return;
	if (!w || !w->active) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	uhmm__world_fault(w,
			  poisoned(context) ? UHMM_VERDICT_USE_AFTER_FREE : UHMM_VERDICT_ASSERTION,
			  "%s at address %p%s", strsignal(sig), info->si_addr,
			  poisoned(context) ? ", by way of a pointer in freed memory" : "");
	siglongjmp(w->escape, 1);
}

/*
 * The watchdog: a step that takes for ever. It counts time that the process has had the CPU, so that a
 * busy host does not matter.
 */
#define TICK_US 250000
#define STUCK_TICKS 4

static void on_tick(int sig uhmm_unused)
{
	struct uhmm__world *w = here;
	const struct uhmm__fiber *f;

	if (!w || !w->active || !uhmm__current() || !uhmm__current()->fiber)
		return;
	if (w->s->steps != w->ticked_steps) {
		w->ticked_steps = w->s->steps;
		w->ticks = 0;
	}
	if (++w->ticks < STUCK_TICKS)
		return;
	f = uhmm__current()->fiber;
	uhmm__world_fault(
		w, UHMM_VERDICT_ASSERTION,
		"stuck: for a second %c%u (%s) on CPU %u has come to no switch point; a step "
		"that has no end cannot be explored",
		f->worker ? 'W' : 'T', f->index, f->task.name, f->task.cpu);
	w->stuck = true;
	siglongjmp(w->escape, 1);
}

/* A timer is not inherited: each process has its own. */
static void watch(struct uhmm__world *w)
{
	const struct itimerval every = { { 0, TICK_US }, { 0, TICK_US } };

	if (w->watched == getpid())
		return;
	w->watched = getpid();
	setitimer(ITIMER_PROF, &every, NULL);
}

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGPROF };
static struct sigaction old_actions[ARRAY_SIZE(signals)];
static char signal_stack[64 * 1024];

static void take_signals(void)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };

	sigaltstack(&stack, NULL);
	sa.sa_sigaction = on_signal;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, &old_actions[i]);
	sa.sa_flags = SA_ONSTACK | SA_NODEFER | SA_RESTART;
	sa.sa_handler = on_tick;
	sigaction(SIGPROF, &sa, NULL);
}

static void give_signals_back(void)
{
	static const struct itimerval never;

	setitimer(ITIMER_PROF, &never, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &old_actions[i], NULL);
}

/* ---- stacks ---- */

/*
 * Below the frames of a stack lies what was there before, and between what a frame uses may lie some
 * of it. AddressSanitizer marks much of this; none of the accesses here is a mistake.
 */
#ifdef __SANITIZE_ADDRESS__
#define RAW __attribute__((no_sanitize("address"))) uhmm_noinline
typedef volatile uint64_t raw_word_t; /* not to become a call of memset() or memcpy() */
#else
#define RAW
typedef uint64_t raw_word_t;
#endif

#define WIPE_WORDS 128
/*
 * So many that are zero: there is nothing below. Frames may leave much of themselves untouched, so it
 * takes many to be sure; few after each step, which seldom misses anything and costs little.
 */
enum { SURELY_CLEAN = 32, PROBABLY_CLEAN = 4 };

RAW static bool is_zero(const raw_word_t *w)
{
	uint64_t any = 0;

	for (size_t i = 0; i < WIPE_WORDS; i++)
		any |= w[i];
	return !any;
}

RAW static void wipe(raw_word_t *w)
{
	for (size_t i = 0; i < WIPE_WORDS; i++)
		w[i] = 0;
}

static void wipe_below(const struct uhmm__context *c, const char *sp, unsigned int enough)
{
	raw_word_t *w = (raw_word_t *)ALIGN_DOWN((uintptr_t)sp, sizeof(*w)) - WIPE_WORDS;
	unsigned int clean = 0;

	for (; (const char *)w >= (const char *)c->bottom && clean < enough; w -= WIPE_WORDS) {
		if (is_zero(w)) {
			clean++;
			continue;
		}
		wipe(w);
		clean = 0;
	}
}

static void take_serials(uint64_t *copy, size_t n, const char *sp, struct uhmm__serials *serials)
{
	for (size_t i = 0; i < n; i++) {
		if (!uhmm__is_serial(copy[i]))
			continue;
		uhmm__serials_add(serials, (uintptr_t)sp + i * sizeof(*copy), copy[i]);
		copy[i] = UHMM__SERIAL;
	}
}

/* Sequence numbers apart, which are told to @serials. */
RAW static struct uhmm__hash hash_stack(const char *sp, const char *end, struct uhmm__hash h,
					struct uhmm__serials *serials)
{
	static uint64_t copy[UHMM__STACK_SIZE / sizeof(uint64_t)];
	const raw_word_t *w = (const raw_word_t *)sp;
	size_t n = (size_t)(end - sp) / sizeof(*w);

	for (size_t i = 0; i < n; i++)
		copy[i] = w[i];
	if (uhmm__serials_in(copy, n))
		take_serials(copy, n, sp, serials);
	return uhmm__hash_bytes(copy, n * sizeof(*w), h);
}

void uhmm__wipe_stack(const struct uhmm__fiber *f)
{
	if (f->state != UHMM__ENDED)
		wipe_below(&f->context, f->context.sp,
			   f->point == UHMM__PT_USER ? SURELY_CLEAN : PROBABLY_CLEAN);
}

/* Every stack as if no run had ever used it. */
static void wipe_all(const struct uhmm_sched *s)
{
	for (unsigned int i = 0; i < s->nr_tasks; i++)
		wipe_below(&s->tasks[i]->context, s->tasks[i]->context.sp, SURELY_CLEAN);
	for (unsigned int i = 0; i < s->nr_cpus; i++)
		wipe_below(&s->cpus[i].worker->context, s->cpus[i].worker->context.sp,
			   SURELY_CLEAN);
}

/* ---- setting up ---- */

int uhmm_scenario_spawn(const char *name, unsigned int cpu, struct uhmm_mm *mm,
			void (*fn)(void *arg), void *arg)
{
	struct uhmm_sched *s = here ? here->s : NULL;
	const struct uhmm__context *c;
	int ret = s ? uhmm_sched_spawn(s, name, cpu, mm, fn, arg) : -EINVAL;

	if (!ret) {
		c = &s->tasks[s->nr_tasks - 1]->context;
		wipe_below(c, c->sp, SURELY_CLEAN);
	}
	return ret;
}

void *uhmm_scenario_alloc(size_t size)
{
	return here ? uhmm__region_alloc(here->region, 128, size) : NULL;
}

uint64_t uhmm_scenario_random(uint64_t n)
{
	uint64_t *x = here ? here->random : NULL;

	if (!x || !n)
		return 0;
	*x ^= *x >> 12;
	*x ^= *x << 25;
	*x ^= *x >> 27;
	return (uint64_t)((unsigned __int128)(*x * 0x2545f4914f6cdd1dULL) * n >> 64);
}

static int configure(struct uhmm__world *w, const struct uhmm_machine_config *machine,
		     uint64_t switches_set, struct uhmm_machine_config *c)
{
	*c = (struct uhmm_machine_config){
		.size = sizeof(*c),
		.nr_cpus = 2,
		.ram_bytes = RAM_BYTES,
		.device_bytes = DEVICE_BYTES,
	};
	if (w->scenario->configure)
		w->scenario->configure(c);
	for (unsigned int i = 0; uhmm_switch(i); i++)
		if (machine && switches_set & BIT(i) &&
		    uhmm_switch_set(c, uhmm_switch(i)->name, uhmm_switch_get(machine, i)))
			return -EINVAL;
	c->report = take_report;
	c->report_data = w;
	return 0;
}

/* After a jump out of the midst of something. */
static void come_back(void)
{
	uhmm__current_task = NULL;
	uhmm__region_lane = 0;
	uhmm__rcu_abandon();
}

/* Runs @fn as a task of CPU 0 without an address space. */
static int as_task(struct uhmm__world *w, int (*fn)(struct uhmm__world *w))
{
	struct uhmm_task *t;
	int ret = uhmm_task_create(w->m, NULL, 0, "explorer", &t);

	if (ret)
		return ret;
	uhmm_task_enter(t);
	ret = fn(w);
	uhmm_task_leave();
	uhmm_task_destroy(t);
	return ret;
}

/* There is no run. */
static int not_set_up(struct uhmm__world *w, const char *what, int ret)
{
	if (!w->verdict)
		snprintf(w->report, sizeof(w->report), "%s: %s: %s", w->scenario->name, what,
			 strerror(-ret));
	return ret;
}

static int run_setup(struct uhmm__world *w)
{
	int ret = w->scenario->setup(w->m, w->scenario->data, &w->state);

	if (ret > 0) {
		if (!w->verdict)
			snprintf(w->report, sizeof(w->report),
				 "%s: setup() returned %d, which is no negative errno",
				 w->scenario->name, ret);
		return -EINVAL;
	}
	return ret ? not_set_up(w, "setup()", ret) : 0;
}

/* It may crash, or say that it has found something. */
static int guarded_setup(struct uhmm__world *w)
{
	volatile int ret = -EIO;

	w->active = true;
	if (!sigsetjmp(w->escape, 0))
		ret = as_task(w, run_setup);
	else
		come_back();
	w->active = false;
	return ret;
}

static int set_up(struct uhmm__world *w, const struct uhmm_machine_config *config)
{
	struct uhmm_sched_config sched = { .size = sizeof(sched), .max_steps = UINT64_MAX };
	int ret = uhmm_machine_create(config, &w->m);

	if (ret)
		return not_set_up(w, "no machine with what configure() says", ret);
	ret = uhmm_sched_create(w->m, &sched, &w->s);
	if (ret)
		return ret;
	/* Sums of event counts, which follow from how a state was reached, not from what it is. */
	ret = uhmm__region_ignore(w->region, w->m->sync->retired, sizeof(w->m->sync->retired));
	/* It does not change, and names what lies elsewhere. */
	if (!ret)
		ret = uhmm__region_ignore(w->region, &w->m->config, sizeof(w->m->config));
	if (ret)
		return ret;
	w->random = uhmm__region_alloc(w->region, 128, sizeof(*w->random));
	if (!w->random)
		return -ENOMEM;
	ret = guarded_setup(w);
	if (w->verdict)
		return -EIO;
	if (ret)
		return ret;
	return uhmm__region_save(w->region);
}

int uhmm__world_create(const struct uhmm_scenario *scenario,
		       const struct uhmm_machine_config *machine, uint64_t switches_set,
		       struct uhmm__world **out)
{
	struct uhmm__world *w = calloc(1, sizeof(*w));
	struct uhmm_machine_config config;
	int ret;

	if (!w)
		return -ENOMEM;
	w->scenario = scenario;
	ret = configure(w, machine, switches_set, &config);
	if (!ret)
		ret = uhmm__region_create(&w->region);
	if (ret) {
		free(w);
		return ret;
	}
	here = w;
	uhmm__region_here = w->region;
	take_signals();
	ret = set_up(w, &config);
	uhmm__region_here = NULL;
	if (ret && !w->report[0]) {
		uhmm__world_destroy(w);
		return ret;
	}
	*out = w;
	return ret;
}

void uhmm__world_destroy(struct uhmm__world *w)
{
	if (!w)
		return;
	give_signals_back();
	here = NULL;
	uhmm__region_destroy(w->region);
	free(w);
}

/* ---- running ---- */

static int run_check(struct uhmm__world *w)
{
	if (w->scenario->check)
		w->scenario->check(w->state);
	return 0;
}

static void check(struct uhmm__world *w)
{
	const void *written;

	w->ended = true;
	if (w->hash_ends)
		w->end = uhmm__world_hash(w, 0);
	w->checking = true;
	if (as_task(w, run_check) || uhmm_machine_verify(w->m) < 0)
		uhmm__world_fault(w, UHMM_VERDICT_ASSERTION, "no memory to check the last state");
	written = uhmm__region_written_after_free(w->region);
	if (written)
		uhmm__world_fault(w, UHMM_VERDICT_USE_AFTER_FREE,
				  "memory at %p was written to after it had been freed", written);
}

/* Memory and stacks are in place. */
static int run(struct uhmm__world *w, struct uhmm__chooser *c)
{
	volatile int ret = -ECANCELED;

	w->verdict = UHMM_VERDICT_NONE;
	w->report[0] = '\0';
	w->ended = w->checking = w->stuck = false;
	w->ticks = 0;
	w->s->chooser = c;
	watch(w);
	w->active = true;
	if (!sigsetjmp(w->escape, 0)) {
		ret = uhmm_sched_run(w->s);
		if (!ret && !w->verdict)
			check(w);
	} else {
		if (uhmm__current() && uhmm__current()->fiber)
			uhmm__context_jumped_back(&w->s->host);
		come_back();
	}
	w->active = false;
	uhmm__region_here = NULL;
	return ret;
}

int uhmm__world_run(struct uhmm__world *w, struct uhmm__chooser *c, uint64_t seed)
{
	uhmm__region_here = w->region;
	uhmm__region_restore(w->region);
	uhmm__sched_rewind(w->s);
	wipe_all(w->s);
	*w->random = (seed + 1) * 0x9e3779b97f4a7c15ULL | 1;
	return run(w, c);
}

/* ---- running from somewhere else ---- */

/* The nth stack, workers first, from where it was left; 0 past the last. */
static size_t nth_stack(const struct uhmm_sched *s, unsigned int n, char **p)
{
	const struct uhmm__fiber *f;

	if (n >= s->nr_cpus + s->nr_tasks)
		return 0;
	f = n < s->nr_cpus ? s->cpus[n].worker : s->tasks[n - s->nr_cpus];
	*p = f->context.sp;
	return (size_t)((const char *)f->context.bottom + f->context.size - *p);
}

int uhmm__world_copy(const struct uhmm__world *w, struct uhmm__world_copy *c)
{
	size_t n, size = 0;
	char *p, *to;

	for (unsigned int i = 0; (n = nth_stack(w->s, i, &p)); i++)
		size += n;
	if (c->size < size) {
		to = realloc(c->stacks, 2 * size);
		if (!to)
			return -ENOMEM;
		c->stacks = to;
		c->size = 2 * size;
	}
	to = c->stacks;
	for (unsigned int i = 0; (n = nth_stack(w->s, i, &p)); i++) {
		memcpy(to, p, n);
		to += n;
	}
	return uhmm__region_copy(w->region, &c->region);
}

void uhmm__world_copy_free(struct uhmm__world_copy *c)
{
	uhmm__region_copy_free(&c->region);
	free(c->stacks);
	*c = (struct uhmm__world_copy){ 0 };
}

int uhmm__world_go_on(struct uhmm__world *w, struct uhmm__chooser *c,
		      const struct uhmm__world_copy *from)
{
	const char *copy = from->stacks;
	size_t n;
	char *p;

	uhmm__region_here = w->region;
	uhmm__region_copy_back(w->region, &from->region);
	for (unsigned int i = 0; (n = nth_stack(w->s, i, &p)); i++) {
		memcpy(p, copy, n);
		copy += n;
	}
	wipe_all(w->s);
	w->s->active = false;
	return run(w, c);
}

/* ---- the state ---- */

/* What a task that does not run knows is on its stack, from where it was left. */
static struct uhmm__hash add_stack(struct uhmm__hash h, const struct uhmm__fiber *f,
				   struct uhmm__serials *serials)
{
	const struct uhmm__context *c = &f->context;
	const char *sp = c->sp, *end = (const char *)c->bottom + c->size;

	if (f->state == UHMM__ENDED)
		return h;
	return hash_stack(sp, end, h, serials);
}

struct uhmm__hash uhmm__local_hash(const struct uhmm__fiber *f)
{
	struct uhmm__serials serials;
	struct uhmm__hash h;

	uhmm__serials_init(&serials);
	h = add_stack((struct uhmm__hash){ 0, 0 }, f, &serials);
	return uhmm__serials_hash(&serials, h);
}

struct uhmm__hash uhmm__timeless_hash(const struct uhmm__world *w, uint64_t extra)
{
	const struct uhmm_sched *s = w->s;
	uint64_t rest[] = { extra, s->nr_alive };
	struct uhmm__hash h = uhmm__region_hash(w->region);
	struct uhmm__serials serials;

	uhmm__serials_init(&serials);
	uhmm__region_serials(w->region, &serials);
	for (unsigned int i = 0; i < s->nr_tasks; i++)
		h = add_stack(h, s->tasks[i], &serials);
	for (unsigned int i = 0; i < s->nr_cpus; i++)
		h = add_stack(h, s->cpus[i].worker, &serials);
	return uhmm__hash_bytes(rest, sizeof(rest), uhmm__serials_hash(&serials, h));
}

struct uhmm__hash uhmm__world_hash(const struct uhmm__world *w, uint64_t extra)
{
	const struct uhmm_sched *s = w->s;
	struct uhmm__hash h = uhmm__timeless_hash(w, extra);

	return s->clock_reads || s->nr_timers ? uhmm__hash_bytes(&s->now, sizeof(s->now), h) : h;
}

#endif /* UHMM_CHECKED */
