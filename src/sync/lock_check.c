// SPDX-License-Identifier: LGPL-2.1-or-later
/* What a task holds, and what it must not do meanwhile. */
#include "sync/lock_check.h"

#if UHMM_CHECKED

#include <stdio.h>
#include <string.h>

#include "core/region.h"
#include "sync/lock_graph.h"
#include "sync/sync.h"

/* The address that stands for "an RCU read section". */
static const char rcu_key;

enum {
	RCU_NODE = UHMM__NODE(UHMM__LC_RCU, 0),
	MAP_NODE = UHMM__NODE(UHMM__LC_PTE_MAP, 0),
};

void uhmm__held_init(struct uhmm_task *t)
{
	t->held.graph = t->machine->sync->lock_graph;
	t->held.v = t->held.room;
	t->held.size = ARRAY_SIZE(t->held.room);
}

void uhmm__held_free(struct uhmm_task *t)
{
	if (t->held.v != t->held.room)
		uhmm__side_free(t->held.v, t->held.size * sizeof(*t->held.v));
	t->held.v = t->held.room;
}

static inline bool is_lock(const struct uhmm__held *h, const void *lock, unsigned int class_id)
{
	return h->lock == lock && UHMM__NODE_CLASS(h->node) == class_id;
}

/*
 * Locks are released in reverse order, or, folios of a batch, in the order in which they were
 * taken: look at both ends first.
 */
static inline struct uhmm__held *find(struct uhmm_task *t, const void *lock, unsigned int class_id)
{
	struct uhmm__held_set *s = &t->held;

	for (unsigned int lo = s->first, hi = s->end; lo < hi; lo++, hi--) {
		if (is_lock(&s->v[hi - 1], lock, class_id))
			return &s->v[hi - 1];
		if (is_lock(&s->v[lo], lock, class_id))
			return &s->v[lo];
	}
	return NULL;
}

struct uhmm__held *uhmm__held_find(struct uhmm_task *t, const void *lock, unsigned int class_id)
{
	struct uhmm__held_set *s = &t->held;

	if (lock)
		return find(t, lock, class_id);
	for (unsigned int i = s->end; i-- > s->first;)
		if (s->v[i].lock && UHMM__NODE_CLASS(s->v[i].node) == class_id)
			return &s->v[i];
	return NULL;
}

static struct uhmm__held *latest(struct uhmm_task *t, unsigned int node)
{
	struct uhmm__held_set *s = &t->held;

	for (unsigned int i = s->end; i-- > s->first;)
		if (s->v[i].lock && s->v[i].node == node)
			return &s->v[i];
	return NULL;
}

/* ---- waiting ---- */

/* The task has locks of the class. Returns: false if it would wait for itself. */
static bool attempt_same(struct uhmm_task *t, const struct uhmm__wanted *w)
{
	unsigned int class_id = UHMM__NODE_CLASS(w->node);
	struct uhmm__held *h = find(t, w->lock, class_id);
	struct uhmm__lock_chain chain;
	const struct uhmm__held *bad;

	if (h) {
		uhmm__report_recursion(t, w, h);
		return false;
	}
	if (!t->held.nr[w->node])
		return true;
	if (class_id != UHMM__LC_FOLIO) {
		if (uhmm__graph_say_recursion(t, w->node))
			uhmm__report_recursion(t, w, latest(t, w->node));
		return true;
	}
	bad = uhmm__graph_depend_folio(t, w, &chain);
	if (bad)
		uhmm__report_circular(t, w, bad, &chain);
	return true;
}

/* Something is held that the lock is not known to depend on, or another of its class. */
static uhmm_noinline void attempt_slow(struct uhmm_task *t, const struct uhmm__wanted *w)
{
	const struct uhmm__held_set *s = &t->held;
	struct uhmm__lock_chain chain;

	if (s->graph->ignored)
		return;
	if ((s->nr[w->node] || s->nr[w->node ^ 1]) && !attempt_same(t, w))
		return;
	for (unsigned int i = 0; i < LOCK_WORDS; i++) {
		uint64_t unknown = s->mask[i] & ~load_relaxed(&s->graph->known[w->node][i]);

		for (; unknown; unknown &= unknown - 1) {
			unsigned int node = 64 * i + (unsigned int)__builtin_ctzl(unknown);
			const struct uhmm__held *h;

			if (node == w->node)
				continue;
			h = latest(t, node);
			if (!uhmm__graph_depend(t, h, w, &chain))
				uhmm__report_circular(t, w, h, &chain);
		}
	}
}

void uhmm__lock_attempt(const void *lock, unsigned int node, unsigned int how,
			const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();
	const struct uhmm__lock_graph *g;
	const struct uhmm__held_set *s;
	uint64_t look = 0;

	if (unlikely(!t))
		return;
	s = &t->held;
	g = s->graph;
	if (g->flags[node] & NODE_SLEEPS)
		uhmm__might_sleep_at(where);
	for (unsigned int i = 0; i < LOCK_WORDS; i++)
		look |= s->mask[i] & ~load_relaxed(&g->known[node][i]);
	/* Others of the class: both subclasses. */
	look |= s->mask[node / 64] & UINT64_C(3) << (node % 64 & ~1U);
	if (unlikely(look))
		attempt_slow(t, &(struct uhmm__wanted){ lock, node, how, where });
}

/* ---- having and releasing ---- */

static uhmm_noinline bool make_room(struct uhmm__held_set *s)
{
	unsigned int n = s->end - s->first;
	struct uhmm__held *v;

	if (s->first > s->size / 2) {
		memmove(s->v, s->v + s->first, n * sizeof(*s->v));
		memset(s->v + n, 0, (s->end - n) * sizeof(*s->v));
		s->first = 0;
		s->end = n;
		return true;
	}
	v = uhmm__side_alloc(2 * s->size * sizeof(*v));
	if (!v)
		return false;
	memcpy(v, s->v, s->size * sizeof(*v));
	uhmm__held_free(container_of(s, struct uhmm_task, held));
	s->v = v;
	s->size *= 2;
	return true;
}

static void push(struct uhmm_task *t, struct uhmm__held h)
{
	struct uhmm__held_set *s = &t->held;
	unsigned int flags = s->graph->flags[h.node];

	if (unlikely(s->end == s->size) && !make_room(s)) {
		s->lost = true;
		return;
	}
	s->v[s->end++] = h;
	s->nr_spin += !!(flags & NODE_SPIN);
	if (!s->nr[h.node]++ && flags & NODE_DEPENDS)
		node_set(s->mask, h.node);
}

static void drop(struct uhmm_task *t, struct uhmm__held *h)
{
	struct uhmm__held_set *s = &t->held;

	s->nr_spin -= !!(s->graph->flags[h->node] & NODE_SPIN);
	if (!--s->nr[h->node])
		s->mask[h->node / 64] &= ~(UINT64_C(1) << (h->node % 64));
	/* All of it: states that are the same are to look the same. */
	*h = (struct uhmm__held){ .lock = NULL };
	if (likely(h == &s->v[s->end - 1])) {
		do
			s->end--;
		while (s->end > s->first && !s->v[s->end - 1].lock);
	} else if (h == &s->v[s->first]) {
		do
			s->first++;
		while (!s->v[s->first].lock);
	}
	if (s->first == s->end) {
		s->first = s->end = 0;
		s->lost = false;
	}
}

void uhmm__lock_acquired(const void *lock, unsigned int node, unsigned int how,
			 const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();

	if (likely(t))
		push(t, (struct uhmm__held){ lock, where, (uint8_t)node, (uint8_t)how });
}

/* Fibers share a thread, so that what others hold can be looked at. */
static const struct uhmm_task *find_holder(struct uhmm_task *t, const void *lock,
					   unsigned int class_id)
{
	struct uhmm_task *other;

	if (t->fiber)
		uhmm__for_each_entry(other, &t->machine->sync->tasks, link)
			if (find(other, lock, class_id))
				return other;
	return NULL;
}

static uhmm_noinline void report_unlock(struct uhmm_task *t, const void *lock,
					unsigned int class_id, const struct uhmm_site *where)
{
	const struct uhmm_task *holder = find_holder(t, lock, class_id);
	char by[80] = "";

	if (holder)
		snprintf(by, sizeof(by), "; it is held by %s/%llu", holder->name,
			 (unsigned long long)holder->id);
	uhmm__report_held(t, where,
			  "bad unlock balance: %s %p is not held by the task that releases it%s",
			  uhmm__lock_class_name(t->machine, class_id), lock, by);
}

bool uhmm__lock_released(const void *lock, enum uhmm__lock_class class_id,
			 const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__held *h;

	if (unlikely(!t))
		return true;
	h = find(t, lock, class_id);
	if (unlikely(!h)) {
		if (!t->held.lost)
			report_unlock(t, lock, class_id, where);
		return t->held.lost;
	}
	drop(t, h);
	return true;
}

void uhmm__lock_downgraded(const void *lock, enum uhmm__lock_class class_id)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__held *h = t ? find(t, lock, class_id) : NULL;

	if (h)
		h->how |= UHMM__LOCK_READ;
}

void uhmm__lock_assert(const void *lock, enum uhmm__lock_class class_id, bool shared,
		       const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();
	const struct uhmm__held *h;

	if (!t)
		return;
	h = find(t, lock, class_id);
	if (likely(h && (shared || !(h->how & UHMM__LOCK_READ))) || t->held.lost)
		return;
	uhmm__report_held(t, where, "lock %s: %s %p",
			  h ? "held for reading, needed for writing" : "not held",
			  uhmm__lock_class_name(t->machine, class_id), lock);
}

void uhmm__lock_freed(struct uhmm_machine *m, const void *lock, unsigned int class_id, bool held)
{
	if (held)
		uhmm__report(m, UHMM_REPORT_LOCK, "held lock freed: %s %p",
			     uhmm__lock_class_name(m, class_id), lock);
}

struct uhmm__lock_mask uhmm__lock_interrupt(struct uhmm_task *t)
{
	struct uhmm__lock_mask mask;

	memcpy(mask.w, t->held.mask, sizeof(mask.w));
	memset(t->held.mask, 0, sizeof(mask.w));
	return mask;
}

void uhmm__lock_resume(struct uhmm_task *t, struct uhmm__lock_mask mask)
{
	memcpy(t->held.mask, mask.w, sizeof(mask.w));
}

/* ---- RCU and mapped PTE tables ---- */

void uhmm__section_enter(const struct uhmm_site *where)
{
	uhmm__lock_acquired(&rcu_key, RCU_NODE, 0, where);
}

void uhmm__section_maps(const void *table)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__held *h = latest(t, RCU_NODE);

	if (unlikely(!h))
		return;
	h->lock = table;
	h->node = MAP_NODE;
	t->held.nr[RCU_NODE]--;
	t->held.nr[MAP_NODE]++;
}

bool uhmm__section_leave(const void *table, const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();
	const struct uhmm__held *h;

	if (!table)
		return uhmm__lock_released(&rcu_key, UHMM__LC_RCU, where);
	h = latest(t, MAP_NODE);
	if (unlikely(h && h->lock != table && find(t, table, UHMM__LC_PTE_MAP)))
		uhmm__report_held(t, where, "unbalanced PTE unmap: not the table mapped last, %p",
				  table);
	else if (unlikely(!h || h->lock != table))
		uhmm__report_held(t, where, "unbalanced PTE unmap: no such table is mapped, %p",
				  table);
	return find(t, table, UHMM__LC_PTE_MAP) &&
	       uhmm__lock_released(table, UHMM__LC_PTE_MAP, where);
}

/* ---- sleeping, and returning to user mode ---- */

static uhmm_noinline void might_sleep_slow(struct uhmm_task *t, const struct uhmm_site *where)
{
	const char *why = t->held.nr_spin ? "with a spin lock held"
			  : t->held.nr[MAP_NODE]
				  ? "with a PTE table mapped, which is an RCU read section"
			  : t->rcu_nesting  ? "in an RCU read section"
			  : t->rcu_callback ? "in an RCU callback"
					    : NULL;

	if (why)
		uhmm__report_held(t, where, "sleeping function called from invalid context: %s",
				  why);
	if (t->rcu_due && !t->held.nr_spin && !t->rcu_nesting)
		uhmm__rcu_poll(t->machine);
}

void uhmm__might_sleep_at(const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();

	if (t && unlikely(t->held.nr_spin | t->rcu_nesting | t->rcu_callback | t->rcu_due))
		might_sleep_slow(t, where);
}

/* Once for each, though the task goes on and comes back again and again. */
static uhmm_noinline void report_leftovers(struct uhmm_task *t, const struct uhmm_site *where)
{
	struct uhmm__held_set *s = &t->held;
	unsigned int locks = 0, maps = 0, news = 0;

	for (unsigned int i = s->first; i < s->end; i++) {
		struct uhmm__held *h = &s->v[i];

		if (!h->lock)
			continue;
		news += !(h->how & UHMM__LOCK_TOLD);
		h->how |= UHMM__LOCK_TOLD;
		maps += h->node == MAP_NODE;
		locks += h->node != MAP_NODE && h->node != RCU_NODE;
	}
	if (!news)
		return;
	if (locks)
		uhmm__report_held(t, where, "locks held on return to user mode");
	else if (maps)
		uhmm__report_held(
			t, where,
			"unbalanced PTE map: a table still mapped on return to user mode");
	else
		uhmm__report_held(t, where, "RCU read section on return to user mode");
}

void uhmm__assert_no_locks_at(const struct uhmm_site *where)
{
	struct uhmm_task *t = uhmm__current();

	if (t && unlikely(t->held.first != t->held.end))
		report_leftovers(t, where);
}

#endif /* UHMM_CHECKED */
