// SPDX-License-Identifier: LGPL-2.1-or-later
/* trace_ahead.c - a trace read ahead of its user. */
#include <pthread.h>
#include <stdlib.h>

#include "replay/trace_ahead.h"

/* Enough that neither waits for the other at each batch, few enough to stay in the caches. */
enum { BATCHES = 4 };

struct trace_ahead {
	struct uhmm_trace_reader *reader;
	bool have_thread;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t filled, emptied;
	/* Under the lock: batches [used, read) are filled, modulo BATCHES. */
	uint64_t used, read;
	bool stop;
	/* The reading side's: an event that was read, but belongs to the next batch. */
	bool have_held;
	struct uhmm_trace_event held;
	uint64_t held_line;
	struct trace_batch batches[BATCHES];
};

static void forget_strings(struct uhmm_trace_event *ev)
{
	if (ev->kind == UHMM_TRACE_TASK)
		ev->task.comm = NULL;
	else if (ev->kind == UHMM_TRACE_OBJ)
		ev->obj.name = NULL;
	else if (ev->kind == UHMM_TRACE_MARK)
		ev->mark.text = NULL;
}

/* The last event of the batch goes to the next one. */
static void hold(struct trace_ahead *a, struct trace_batch *b)
{
	b->nr--;
	a->held = b->events[b->nr];
	a->held_line = b->lines[b->nr];
	a->have_held = true;
}

/* Does the batch end with, or before, the event that was added last? */
static bool batch_ends(struct trace_ahead *a, struct trace_batch *b, uint64_t *changes)
{
	const struct uhmm_trace_reader *r = a->reader;
	const struct uhmm_trace_event *ev = &b->events[b->nr - 1];
	bool major = ev->kind == UHMM_TRACE_FAULT_MAJOR;

	if (unlikely(*changes != r->caps_changes) && !major) {
		if (b->nr > 1) {
			hold(a, b);
			return true;
		}
		b->caps = r->caps;
		*changes = r->caps_changes;
	}
	if (unlikely(b->nr > TRACE_BATCH) && !major) {
		hold(a, b);
		return true;
	}
	return ev->kind == UHMM_TRACE_MM_DEL || b->nr > TRACE_BATCH ||
	       (b->nr == TRACE_BATCH && ev->kind != UHMM_TRACE_FAULT);
}

static void fill(struct trace_ahead *a, struct trace_batch *b)
{
	struct uhmm_trace_reader *r = a->reader;
	uint64_t changes = r->caps_changes, size;

	b->nr = 0;
	b->status = 1;
	b->caps = r->caps;
	if (a->have_held) {
		a->have_held = false;
		b->events[0] = a->held;
		b->lines[0] = a->held_line;
		b->nr = 1;
		if (batch_ends(a, b, &changes))
			return;
	}
	do {
		struct uhmm_trace_event *ev;

		/* Those behind a change may belong to the next batch. */
		if (b->nr < TRACE_BATCH && likely(changes == r->caps_changes))
			b->nr += uhmm__trace_faults(r, b->events + b->nr, b->lines + b->nr,
						    TRACE_BATCH - b->nr);
		ev = &b->events[b->nr];
		b->status = uhmm__trace_next(r, ev);
		if (unlikely(b->status <= 0))
			break;
		forget_strings(ev);
		b->lines[b->nr++] = uhmm_trace_line(r);
	} while (!batch_ends(a, b, &changes));
	uhmm_trace_position(r, &b->position, &size);
}

static void *read_ahead(void *arg)
{
	struct trace_ahead *a = arg;
	int status = 1;

	pthread_mutex_lock(&a->lock);
	while (status > 0) {
		struct trace_batch *b = &a->batches[a->read % BATCHES];

		while (a->read - a->used == BATCHES && !a->stop)
			pthread_cond_wait(&a->emptied, &a->lock);
		if (a->stop)
			break;
		pthread_mutex_unlock(&a->lock);
		fill(a, b);
		status = b->status;
		pthread_mutex_lock(&a->lock);
		a->read++;
		pthread_cond_signal(&a->filled);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

int uhmm__trace_ahead_start(struct uhmm_trace_reader *reader, struct trace_ahead **out)
{
	struct trace_ahead *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->reader = reader;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->filled, NULL);
	pthread_cond_init(&a->emptied, NULL);
	a->have_thread = !pthread_create(&a->thread, NULL, read_ahead, a);
	*out = a;
	return 0;
}

const struct trace_batch *uhmm__trace_ahead_get(struct trace_ahead *a)
{
	struct trace_batch *b = &a->batches[a->used % BATCHES];

	if (!a->have_thread) {
		fill(a, b);
		return b;
	}
	pthread_mutex_lock(&a->lock);
	while (a->used == a->read)
		pthread_cond_wait(&a->filled, &a->lock);
	pthread_mutex_unlock(&a->lock);
	return b;
}

void uhmm__trace_ahead_put(struct trace_ahead *a)
{
	pthread_mutex_lock(&a->lock);
	a->used++;
	pthread_cond_signal(&a->emptied);
	pthread_mutex_unlock(&a->lock);
}

void uhmm__trace_ahead_stop(struct trace_ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->emptied);
	pthread_mutex_unlock(&a->lock);
	if (a->have_thread)
		pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->emptied);
	pthread_cond_destroy(&a->filled);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
