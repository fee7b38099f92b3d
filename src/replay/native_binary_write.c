// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * native_binary_write.c - the binary form of the native format: writing.
 *
 * A record is put together behind the block's payload and becomes part of it when it is complete, or,
 * if there is no room left, the first record of the next block.
 */
#include "replay/native.h"

/* A record in the making. */
struct record {
	unsigned char *start, *p;
};

/* LEB128: 7 bits a byte, the lowest first. */
static void put(struct record *rec, uint64_t v)
{
	while (v >= 0x80) {
		*rec->p++ = (unsigned char)(v | 0x80);
		v >>= 7;
	}
	*rec->p++ = (unsigned char)v;
}

static void put_signed(struct record *rec, int64_t v)
{
	put(rec, native_zigzag((uint64_t)v));
}

/* How far @v is from *@base, which becomes @v. */
static void put_step(struct record *rec, uint64_t *base, uint64_t v)
{
	put(rec, native_zigzag(v - *base));
	*base = v;
}

static void put_range(struct record *rec, uint64_t start, uint64_t end)
{
	put(rec, start >> NATIVE_PAGE_SHIFT);
	put(rec, (end - start) >> NATIVE_PAGE_SHIFT);
}

static void put_string(struct record *rec, const char *s)
{
	size_t len = s ? strnlen(s, NATIVE_STRING_MAX) : 0;

	put(rec, len);
	memcpy(rec->p, s ? s : "", len);
	rec->p += len;
}

/* ---- blocks and records ---- */

/* Writes the block, if there is anything in it, and begins another. */
static int next_block(struct uhmm_trace_writer *w)
{
	unsigned char head[NATIVE_BLOCK_BYTES];
	struct native_sum sum = native_block_sum(w->buf, w->len);
	int err = 0;

	native_put32(head, (uint32_t)w->len);
	native_put32(head + 4, sum.a);
	native_put32(head + 8, sum.b);
	if (w->len)
		err = uhmm__trace_output_write(w->output, head, sizeof(head));
	if (!err)
		err = uhmm__trace_output_write(w->output, w->buf, w->len);
	w->len = 0;
	memset(&w->base, 0, sizeof(w->base));
	return err;
}

/* Behind the payload, with room for the length. */
static struct record record_begin(struct uhmm_trace_writer *w, unsigned int kind)
{
	struct record rec = { .start = w->buf + w->len };

	rec.p = rec.start + 2;
	put(&rec, kind);
	return rec;
}

/* False: it does not fit into the block. */
static bool record_end(struct uhmm_trace_writer *w, struct record *rec)
{
	unsigned char *body = rec->start + 2;
	size_t len;

	while (rec->p > body && !rec->p[-1]) /* numbers that are missing are 0 */
		rec->p--;
	len = (size_t)(rec->p - body);
	rec->p = rec->start;
	put(rec, len);
	memmove(rec->p, body, len);
	rec->p += len;
	if (w->len + (size_t)(rec->p - rec->start) > NATIVE_PAYLOAD_MAX)
		return false;
	w->len = (size_t)(rec->p - w->buf);
	return true;
}

/* ---- records ---- */

static void put_fault(struct uhmm_trace_writer *w, struct record *rec,
		      const struct uhmm_trace_event *ev)
{
	put(rec, ev->fault.access | (unsigned int)ev->fault.mode << 2 |
			 (unsigned int)ev->fault.present << 4 | (unsigned int)ev->fault.major << 6 |
			 (unsigned int)ev->fault.failed << 8);
	put_step(rec, &w->base.addr, ev->fault.addr);
	put_step(rec, &w->base.ip, ev->fault.ip);
	put(rec, ev->fault.error_code);
	put(rec, ev->fault.order);
	put(rec, ev->fault.source);
}

static void put_mapping(struct record *rec, const struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_MAP:
		put_range(rec, ev->map.start, ev->map.end);
		put(rec, ev->map.prot);
		put(rec, ev->map.flags);
		put(rec, ev->map.obj);
		put(rec, ev->map.obj ? ev->map.pgoff : 0);
		break;
	case UHMM_TRACE_UNMAP:
		put_range(rec, ev->unmap.start, ev->unmap.end);
		break;
	case UHMM_TRACE_PROT:
		put_range(rec, ev->prot.start, ev->prot.end);
		put(rec, ev->prot.prot);
		put_signed(rec, ev->prot.pkey);
		break;
	case UHMM_TRACE_MOVE:
		put_range(rec, ev->move.old_start, ev->move.old_end);
		put_range(rec, ev->move.new_start, ev->move.new_end);
		put(rec, ev->move.flags);
		break;
	case UHMM_TRACE_ADVISE:
		put_range(rec, ev->advise.start, ev->advise.end);
		put(rec, ev->advise.advice);
		put_signed(rec, ev->advise.error);
		put(rec, ev->advise.arg);
		break;
	case UHMM_TRACE_TRUNC:
		put(rec, ev->trunc.obj);
		put(rec, ev->trunc.start);
		put(rec, ev->trunc.end);
		break;
	case UHMM_TRACE_MIGRATE:
		put_range(rec, ev->migrate.start, ev->migrate.end);
		put(rec, ev->migrate.from_node);
		put(rec, ev->migrate.to_node);
		put(rec, ev->migrate.reason);
		break;
	default:
		break;
	}
}

static void put_body(struct uhmm_trace_writer *w, struct record *rec,
		     const struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_FAULT:
	case UHMM_TRACE_FAULT_MAJOR:
		put_fault(w, rec, ev);
		break;
	case UHMM_TRACE_TOUCH:
		put(rec, ev->touch.access);
		put_step(rec, &w->base.addr, ev->touch.addr);
		put(rec, ev->touch.size);
		put(rec, ev->touch.repeat - 1);
		break;
	case UHMM_TRACE_MM_NEW:
		put(rec, ev->mm_new.why);
		put(rec, ev->mm_new.parent);
		break;
	case UHMM_TRACE_TASK:
		put(rec, ev->task.why);
		put_string(rec, ev->task.comm);
		break;
	case UHMM_TRACE_OBJ:
		put(rec, ev->obj.id);
		put(rec, ev->obj.kind);
		put(rec, ev->obj.dev_major);
		put(rec, ev->obj.dev_minor);
		put(rec, ev->obj.ino);
		put_string(rec, ev->obj.name);
		break;
	case UHMM_TRACE_LOST:
		put(rec, ev->lost.count);
		break;
	case UHMM_TRACE_MARK:
		put_string(rec, ev->mark.text);
		break;
	default:
		put_mapping(rec, ev);
		break;
	}
}

/* Who is meant from now on. */
static bool put_on(struct uhmm_trace_writer *w, const struct uhmm_trace_event *ev)
{
	struct native_base *b = &w->base;
	struct record rec;

	if (likely(b->cpu == ev->cpu && b->tid == ev->tid && b->tgid == ev->tgid &&
		   b->mm == ev->mm))
		return true;
	rec = record_begin(w, NATIVE_ON);
	put_signed(&rec, ev->cpu);
	put_signed(&rec, ev->tid);
	put_signed(&rec, ev->tgid);
	put(&rec, ev->mm);
	b->cpu = ev->cpu;
	b->tid = ev->tid;
	b->tgid = ev->tgid;
	b->mm = ev->mm;
	return record_end(w, &rec);
}

static bool put_event(struct uhmm_trace_writer *w, const struct uhmm_trace_event *ev)
{
	struct record rec;

	if (!put_on(w, ev))
		return false;
	rec = record_begin(w, ev->kind);
	put(&rec, ev->t_ns - w->base.t_ns);
	w->base.t_ns = ev->t_ns;
	put_body(w, &rec, ev);
	return record_end(w, &rec);
}

static int binary_event(struct uhmm_trace_writer *w, const struct uhmm_trace_event *ev)
{
	int err;

	if (likely(put_event(w, ev)))
		return 0;
	err = next_block(w);
	if (!err)
		(void)put_event(w, ev); /* a block has room for any */
	return err;
}

static bool put_caps(struct uhmm_trace_writer *w)
{
	struct record rec = record_begin(w, NATIVE_CAPS);
	uint64_t bits = 0;

	for (unsigned int i = 0; i < NATIVE_NR_CAPS; i++)
		bits |= (uint64_t)*native_cap(&w->caps, i) << i;
	put(&rec, bits);
	return record_end(w, &rec);
}

static int binary_caps(struct uhmm_trace_writer *w)
{
	int err;

	if (put_caps(w))
		return 0;
	err = next_block(w);
	if (!err)
		(void)put_caps(w);
	return err;
}

static int binary_start(struct uhmm_trace_writer *w)
{
	unsigned char head[NATIVE_PREAMBLE_BYTES] = NATIVE_MAGIC;
	struct record rec = record_begin(w, NATIVE_HEADER);

	head[8] = NATIVE_VERSION;
	head[10] = NATIVE_PAGE_SHIFT;
	put(&rec, w->origin.clock);
	put(&rec, w->origin.va_bits);
	put_string(&rec, w->origin.tool);
	(void)record_end(w, &rec);
	return uhmm__trace_output_write(w->output, head, sizeof(head));
}

static int binary_end(struct uhmm_trace_writer *w, const struct uhmm_trace_stats *stats)
{
	struct uhmm_trace_stats copy = *stats;
	struct record rec;
	int err = next_block(w);

	if (err)
		return err;
	rec = record_begin(w, NATIVE_END);
	put(&rec, w->state.nr_events);
	for (unsigned int i = 0; i < NATIVE_NR_STATS; i++)
		put(&rec, *native_stat(&copy, i));
	(void)record_end(w, &rec);
	return next_block(w);
}

const struct native_writer_ops uhmm__native_binary_writer = {
	.start = binary_start,
	.caps = binary_caps,
	.event = binary_event,
	.end = binary_end,
};
