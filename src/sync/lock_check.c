// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/lock_check.h"

#if UHMM_CHECKED

#include <stdio.h>
#include <string.h>

#include "core/region.h"

#define HELD_FIRST_SIZE 16

static bool is_spin(enum uhmm__lock_class class_id)
{
	return uhmm__lock_classes[class_id].kind >= UHMM__LK_SPIN;
}

void uhmm__lock_describe(const struct uhmm_task *t, char *text, size_t size)
{
	size_t len = strlen(text);
	unsigned int n = 0;

	for (unsigned int i = t->held.first; i < t->held.end && len < size; i++) {
		const struct uhmm__held *h = &t->held.v[i];

		if (!h->lock)
			continue;
		len += (size_t)snprintf(text + len, size - len, "\n  #%u: %s%s %p, taken at %s",
					n++, uhmm__lock_classes[h->class_id].name,
					h->shared ? " (shared)" : "", h->lock, h->where);
	}
	if (!n && len < size)
		snprintf(text + len, size - len, "\n  nothing");
}

static void report(struct uhmm_task *t, const char *what, const void *lock,
		   enum uhmm__lock_class class_id, const char *where,
		   const struct uhmm__held *other)
{
	char held[2048] = "";

	uhmm__lock_describe(t, held, sizeof(held));
	uhmm__report(t->machine, UHMM_REPORT_LOCK,
		     "%s: task %s/%llu on CPU %u, %s %p at %s%s%s%s%s\nholds:%s", what, t->name,
		     (unsigned long long)t->id, t->cpu,
		     lock ? uhmm__lock_classes[class_id].name : "", lock, where,
		     other ? ", after " : "", other ? uhmm__lock_classes[other->class_id].name : "",
		     other ? " at " : "", other ? other->where : "", held);
}

/*
 * Locks are released in reverse order, or, folios of a batch, in the order in which they were
 * taken: look at both ends first.
 */
static struct uhmm__held *find(struct uhmm_task *t, const void *lock)
{
	struct uhmm__held_set *s = &t->held;

	for (unsigned int lo = s->first, hi = s->end; lo < hi; lo++, hi--) {
		if (s->v[hi - 1].lock == lock)
			return &s->v[hi - 1];
		if (s->v[lo].lock == lock)
			return &s->v[lo];
	}
	return NULL;
}

void uhmm__lock_attempt(const void *lock, enum uhmm__lock_class class_id, bool shared,
			const char *where)
{
	struct uhmm_task *t = uhmm__current();
	const struct uhmm__held *h;

	if (!t)
		return;
	if (!is_spin(class_id))
		uhmm__might_sleep_at(where);
	h = find(t, lock);
	if (h) {
		/* A reader that comes again waits for a queued writer, who waits for the reader. */
		report(t, shared && h->shared ? "lock taken for reading twice" : "lock taken twice",
		       lock, class_id, where, h);
		return;
	}
	for (unsigned int i = t->held.end; i-- > t->held.first;) {
		h = &t->held.v[i];
		if (!h->lock ||
		    uhmm__lock_classes[h->class_id].order <= uhmm__lock_classes[class_id].order)
			continue;
		report(t, "locks taken in the wrong order", lock, class_id, where, h);
		return;
	}
}

static bool grow(struct uhmm__held_set *s)
{
	unsigned int n = s->end - s->first;
	struct uhmm__held *v;

	if (s->first > s->size / 2) {
		memmove(s->v, s->v + s->first, n * sizeof(*s->v));
		s->first = 0;
		s->end = n;
		return true;
	}
	n = s->size ? s->size * 2 : HELD_FIRST_SIZE;
	v = uhmm__side_grow(s->v, s->size * sizeof(*v), n * sizeof(*v));
	if (!v)
		return false;
	s->v = v;
	s->size = n;
	return true;
}

void uhmm__lock_acquired(const void *lock, enum uhmm__lock_class class_id, bool shared,
			 const char *where)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__held_set *s;

	if (!t)
		return;
	s = &t->held;
	if (s->end == s->size)
		UHMM_BUG_ON(t->machine, !grow(s));
	s->v[s->end++] = (struct uhmm__held){ lock, where, class_id, shared };
	s->nr_spin += is_spin(class_id);
}

void uhmm__lock_released(const void *lock, enum uhmm__lock_class class_id, const char *where)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__held_set *s;
	struct uhmm__held *h;

	if (!t)
		return;
	s = &t->held;
	h = find(t, lock);
	if (!h) {
		/* A folio lock may be handed on to another task, as in the kernel. */
		if (uhmm__lock_classes[class_id].kind != UHMM__LK_BIT)
			report(t, "lock released by a task that does not hold it", lock, class_id,
			       where, NULL);
		return;
	}
	h->lock = NULL;
	s->nr_spin -= is_spin(h->class_id);
	while (s->end > s->first && !s->v[s->end - 1].lock)
		s->end--;
	while (s->first < s->end && !s->v[s->first].lock)
		s->first++;
	if (s->first == s->end)
		s->first = s->end = 0;
}

void uhmm__lock_downgraded(const void *lock)
{
	struct uhmm_task *t = uhmm__current();
	struct uhmm__held *h = t ? find(t, lock) : NULL;

	if (h)
		h->shared = true;
}

void uhmm__lock_assert(const void *lock, enum uhmm__lock_class class_id, bool shared,
		       const char *where)
{
	struct uhmm_task *t = uhmm__current();
	const struct uhmm__held *h;

	if (!t)
		return;
	h = find(t, lock);
	if (!h || (h->shared && !shared))
		report(t, h ? "lock needed for writing" : "lock not held", lock, class_id, where,
		       NULL);
}

void uhmm__might_sleep_at(const char *where)
{
	struct uhmm_task *t = uhmm__current();

	if (!t)
		return;
	if (t->held.nr_spin)
		report(t, "sleeping with a spin lock held", NULL, 0, where, NULL);
	if (t->rcu_nesting)
		report(t, "sleeping in an RCU read section", NULL, 0, where, NULL);
	if (t->rcu_callback)
		report(t, "sleeping in an RCU callback", NULL, 0, where, NULL);
	if (unlikely(t->rcu_due) && !t->held.nr_spin && !t->rcu_nesting)
		uhmm__rcu_poll(t->machine);
}

void uhmm__assert_no_locks_at(const char *where)
{
	struct uhmm_task *t = uhmm__current();

	if (!t)
		return;
	if (t->held.first != t->held.end)
		report(t, "locks held on return to user mode", NULL, 0, where, NULL);
	if (t->rcu_nesting)
		report(t, "RCU read section on return to user mode", NULL, 0, where, NULL);
}

void uhmm__held_free(struct uhmm_task *t)
{
	uhmm__side_free(t->held.v, t->held.size * sizeof(*t->held.v));
	t->held = (struct uhmm__held_set){ 0 };
}

#endif /* UHMM_CHECKED */
