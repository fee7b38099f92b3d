// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the lock checker says. docs/lock-checker.md tells how to read it. */
#include "sync/lock_graph.h"

#if UHMM_CHECKED

#include <stdio.h>
#include <string.h>

#include "sync/sync.h"

/* A core report has no more. */
struct text {
	size_t len;
	char s[4000];
};

static void vadd(struct text *x, const char *fmt, va_list ap)
{
	size_t room = sizeof(x->s) - x->len;
	int n = vsnprintf(x->s + x->len, room, fmt, ap);

	if (n > 0)
		x->len += MIN((size_t)n, room - 1);
}

static void uhmm_printf(2, 3) add(struct text *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vadd(x, fmt, ap);
	va_end(ap);
}

/* Without what comes before the folder: "mm/fault.c". */
static const char *short_path(const char *path)
{
	const char *at = strrchr(path, '/');

	while (at && at > path && at[-1] != '/')
		at--;
	return at ? at : path;
}

static void add_site(struct text *x, const struct uhmm_site *where)
{
	if (where)
		add(x, "%s() at %s:%u", where->func, short_path(where->file), where->line);
	else
		add(x, "a place unknown");
}

static void add_class(struct text *x, struct uhmm_machine *m, unsigned int node)
{
	add(x, "%s", uhmm__lock_class_name(m, UHMM__NODE_CLASS(node)));
	if (node % UHMM__SUBCLASSES)
		add(x, "/%u", node % UHMM__SUBCLASSES);
}

static void add_lock(struct text *x, struct uhmm_machine *m, const struct uhmm__held *h)
{
	add_class(x, m, h->node);
	add(x, " %p%s%s", h->lock, h->how & UHMM__LOCK_READ ? " (read)" : "",
	    h->how & UHMM__LOCK_TRIED ? " (trylock)" : "");
}

static struct uhmm__held as_held(const struct uhmm__wanted *w)
{
	return (struct uhmm__held){ w->lock, w->where, (uint8_t)w->node, (uint8_t)w->how };
}

static void add_task(struct text *x, const struct uhmm_task *t)
{
	add(x, "%s/%llu on CPU %u", t->name, (unsigned long long)t->id, t->cpu);
}

static bool same_batch(const struct uhmm__held *h, const struct uhmm__held *other)
{
	return UHMM__NODE_CLASS(h->node) == UHMM__LC_FOLIO && h->node == other->node &&
	       h->where == other->where;
}

/* The folios of a batch are one line. */
static void add_held(struct text *x, const struct uhmm_task *t)
{
	const struct uhmm__held_set *s = &t->held;
	unsigned int n = 0, next;

	for (unsigned int i = s->first; i < s->end; i = next) {
		const struct uhmm__held *h = &s->v[i];
		unsigned int more = 0;

		for (next = i + 1; h->lock && next < s->end; next++) {
			if (s->v[next].lock && !same_batch(h, &s->v[next]))
				break;
			more += !!s->v[next].lock;
		}
		if (!h->lock)
			continue;
		add(x, "\n #%u: ", n);
		add_lock(x, t->machine, h);
		if (more)
			add(x, " and %u more", more);
		add(x, ", in ");
		add_site(x, h->where);
		n += 1 + more;
	}
}

static unsigned int nr_held(const struct uhmm_task *t)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < UHMM__LOCK_NODES; i++)
		n += t->held.nr[i];
	return n;
}

static void add_all_held(struct text *x, const struct uhmm_task *t)
{
	unsigned int n = nr_held(t);

	if (!n) {
		add(x, "\nno locks held by %s/%llu", t->name, (unsigned long long)t->id);
		return;
	}
	add(x, "\n%u lock%s held by %s/%llu:", n, n == 1 ? "" : "s", t->name,
	    (unsigned long long)t->id);
	add_held(x, t);
}

void uhmm__lock_describe(const struct uhmm_task *t, char *text, size_t size)
{
	struct text x = { .len = 0 };

	add_held(&x, t);
	if (!x.len)
		add(&x, "\n nothing");
	strncat(text, x.s, size - strlen(text) - 1);
}

void uhmm__report_held(struct uhmm_task *t, const struct uhmm_site *where, const char *fmt, ...)
{
	struct text x = { .len = 0 };
	va_list ap;

	va_start(ap, fmt);
	vadd(&x, fmt, ap);
	va_end(ap);
	add(&x, "\n");
	add_task(&x, t);
	add(&x, ", in ");
	add_site(&x, where);
	add_all_held(&x, t);
	uhmm__report(t->machine, UHMM_REPORT_LOCK, "%s", x.s);
}

/* ---- who waits for whom ---- */

static void add_conflict(struct text *x, struct uhmm_task *t, const struct uhmm__wanted *w,
			 const struct uhmm__held *h, const char *and_holds)
{
	const struct uhmm__held want = as_held(w);

	add(x, "\n");
	add_task(x, t);
	add(x, " is about to wait for\n    ");
	add_lock(x, t->machine, &want);
	add(x, ", in ");
	add_site(x, w->where);
	add(x, "\n%s\n    ", and_holds);
	add_lock(x, t->machine, h);
	add(x, ", in ");
	add_site(x, h->where);
}

enum { COLUMN = 29, MAX_COLUMNS = 4 };

enum {
	STEP_WAITS = 1 << 0,
	STEP_ADDRESS = 1 << 1, /* all are of one class */
};

/* One step of the scenario: a line with one entry, in the column of a CPU. */
static void add_step(struct text *x, struct uhmm_machine *m, unsigned int cpu,
		     const struct uhmm__held *h, unsigned int flags)
{
	unsigned int class_id = UHMM__NODE_CLASS(h->node);
	bool map = class_id < UHMM__NR_LOCK_CLASSES &&
		   uhmm__lock_classes[class_id].kind == UHMM__LK_MAP;

	add(x, "\n  %*s%s(", (int)(cpu * COLUMN), "",
	    map			       ? flags & STEP_WAITS ? "wait" : "begin"
	    : h->how & UHMM__LOCK_READ ? "read_lock"
				       : "lock");
	add_class(x, m, h->node);
	if (flags & STEP_ADDRESS)
		add(x, " %p", h->lock);
	add(x, ");");
}

static void add_columns(struct text *x, unsigned int nr)
{
	add(x, "\n\n Possible unsafe locking scenario:\n\n");
	for (unsigned int i = 0; i < nr; i++)
		add(x, "%*sCPU%u%*s", i ? 0 : 7, "", i, i + 1 < nr ? COLUMN - 4 : 0, "");
	add(x, "\n");
	for (unsigned int i = 0; i < nr; i++)
		add(x, "%*s----%*s", i ? 0 : 7, "", i + 1 < nr ? COLUMN - 4 : 0, "");
}

/*
 * A CPU for each edge, and one for the task itself: all take what they hold, then all wait. A chain
 * that is longer than a line is told as if one CPU had done it all.
 */
static void add_scenario(struct text *x, struct uhmm_machine *m, const struct uhmm__wanted *w,
			 const struct uhmm__held *h, const struct uhmm__lock_chain *chain)
{
	const struct uhmm__held want = as_held(w);
	bool all = chain->nr < MAX_COLUMNS;
	unsigned int nr = all ? chain->nr : 1, flags = w->node == h->node ? STEP_ADDRESS : 0;

	add_columns(x, nr + 1);
	add_step(x, m, 0, h, flags);
	for (unsigned int i = 0; i < nr; i++)
		add_step(x, m, i + 1, &chain->e[i].from, flags);
	flags |= STEP_WAITS;
	for (unsigned int i = 0; i < nr; i++)
		add_step(x, m, i + 1, all ? &chain->e[i].to : h, flags);
	add_step(x, m, 0, &want, flags);
	add(x, "\n\n  *** DEADLOCK ***\n");
}

static void add_edge(struct text *x, struct uhmm_machine *m, const struct uhmm__lock_edge *e,
		     bool declared)
{
	unsigned int from = UHMM__NODE_CLASS(e->from.node), to = UHMM__NODE_CLASS(e->to.node);

	add_class(x, m, e->from.node);
	add(x, " -> ");
	add_class(x, m, e->to.node);
	if (declared) {
		add(x, ": declared so in lock_classes.def, ");
		if (from == to)
			add(x, "where subclass 1 is the inner one");
		else
			add(x, "order %u and %u", uhmm__lock_classes[from].order,
			    uhmm__lock_classes[to].order);
		return;
	}
	if (!e->from.lock) {
		add(x, ": by a task unknown");
		return;
	}
	add(x, ": %s/%llu waited for\n      ", e->task, (unsigned long long)e->task_id);
	add_lock(x, m, &e->to);
	add(x, ", in ");
	add_site(x, e->to.where);
	add(x, "\n    with\n      ");
	add_lock(x, m, &e->from);
	add(x, ", in ");
	add_site(x, e->from.where);
}

static void add_chain(struct text *x, struct uhmm_machine *m, const struct uhmm__lock_chain *chain)
{
	add(x, "\nThe opposite order, from the first to the second, is there already:");
	for (unsigned int i = chain->nr; i-- > 0;) {
		add(x, "\n -> #%u: ", i);
		add_edge(x, m, &chain->e[i], chain->declared >> i & 1);
	}
}

void uhmm__report_circular(struct uhmm_task *t, const struct uhmm__wanted *w,
			   const struct uhmm__held *h, const struct uhmm__lock_chain *chain)
{
	struct text x = { .len = 0 };

	add(&x, "possible circular locking dependency detected");
	add_conflict(&x, t, w, h, "while it holds");
	add_chain(&x, t->machine, chain);
	add_scenario(&x, t->machine, w, h, chain);
	add_all_held(&x, t);
	uhmm__report(t->machine, UHMM_REPORT_LOCK, "%s", x.s);
}

/* Two readers of one task, and the writer that queues up in between; or a task against itself. */
static void add_own_scenario(struct text *x, struct uhmm_machine *m, const struct uhmm__wanted *w,
			     const struct uhmm__held *h, bool readers)
{
	const struct uhmm__held want = as_held(w);
	const struct uhmm__held writer = { w->lock, NULL, (uint8_t)w->node, 0 };

	add_columns(x, readers ? 2 : 1);
	add_step(x, m, 0, h, 0);
	if (readers) {
		add_step(x, m, 1, &writer, STEP_WAITS);
		add(x, " waits for the reader");
	}
	add_step(x, m, 0, &want, STEP_WAITS);
	if (readers)
		add(x, " waits for the writer");
	add(x, "\n\n  *** DEADLOCK ***\n");
}

void uhmm__report_recursion(struct uhmm_task *t, const struct uhmm__wanted *w,
			    const struct uhmm__held *h)
{
	bool same = w->lock == h->lock, readers = same && w->how & h->how & UHMM__LOCK_READ;
	struct text x = { .len = 0 };

	add(&x, "possible recursive locking detected");
	add_conflict(&x, t, w, h,
		     same ? "which it holds already:" : "while it holds another of the class:");
	if (!same)
		add(&x, "\nIf some order makes this safe, take the inner one as nested.");
	if (w->how & UHMM__LOCK_QUEUED)
		add(&x, "\nA writer is queued already: this task will never get it.");
	add_own_scenario(&x, t->machine, w, h, readers);
	add_all_held(&x, t);
	uhmm__report(t->machine, UHMM_REPORT_LOCK, "%s", x.s);
}

#endif /* UHMM_CHECKED */
