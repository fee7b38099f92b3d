// SPDX-License-Identifier: LGPL-2.1-or-later
/* native_text_write.c - the text form of the native format: writing, one line for each event. */
#include "replay/native.h"

/* A line in the making, at the end of the writer's buffer. */
struct line {
	unsigned char *p;
};

static void put_text(struct line *l, const char *s)
{
	size_t n = strlen(s);

	memcpy(l->p, s, n);
	l->p += n;
}

static void put_char(struct line *l, char c)
{
	*l->p++ = (unsigned char)c;
}

static void put_dec(struct line *l, uint64_t v)
{
	unsigned char digits[20], *d = digits + sizeof(digits);

	do {
		*--d = (unsigned char)('0' + v % 10);
		v /= 10;
	} while (v);
	memcpy(l->p, d, (size_t)(digits + sizeof(digits) - d));
	l->p += digits + sizeof(digits) - d;
}

static void put_signed(struct line *l, int64_t v)
{
	if (v < 0)
		put_char(l, '-');
	put_dec(l, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

static void put_hex(struct line *l, uint64_t v)
{
	unsigned int digits = v ? (67 - (unsigned int)__builtin_clzll(v)) / 4 : 1;

	while (digits--)
		put_char(l, "0123456789abcdef"[v >> 4 * digits & 15]);
}

/* " KEY=" unless the value is 0: what is missing is 0. */
static bool put_key(struct line *l, const char *key, uint64_t v)
{
	if (!v)
		return false;
	put_char(l, ' ');
	put_text(l, key);
	put_char(l, '=');
	return true;
}

static void put_key_dec(struct line *l, const char *key, uint64_t v)
{
	if (put_key(l, key, v))
		put_dec(l, v);
}

static void put_key_hex(struct line *l, const char *key, uint64_t v)
{
	if (put_key(l, key, v))
		put_hex(l, v);
}

/* The rest of the line. Bytes that would end it, or look like one of these, are written as \xHH. */
static void put_key_text(struct line *l, const char *key, const char *s)
{
	size_t len = s ? strnlen(s, NATIVE_STRING_MAX) : 0;

	if (!put_key(l, key, len))
		return;
	for (; len--; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == 0x7f || c == '\\') {
			put_text(l, "\\x");
			put_char(l, "0123456789abcdef"[c >> 4]);
			put_char(l, "0123456789abcdef"[c & 15]);
		} else {
			put_char(l, (char)c);
		}
	}
}

static void put_range(struct line *l, uint64_t start, uint64_t end)
{
	put_char(l, ' ');
	put_hex(l, start);
	put_char(l, '-');
	put_hex(l, end);
}

/* Names of the bits; those without one as a number. */
static void put_flags(struct line *l, uint32_t flags, const char *const *names)
{
	char between = ' ';

	if (!flags)
		put_text(l, " -");
	for (unsigned int i = 0; names[i] && flags; i++) {
		if (!(flags & 1u << i))
			continue;
		put_char(l, between);
		put_text(l, names[i]);
		flags &= ~(1u << i);
		between = ',';
	}
	if (flags) {
		put_char(l, between);
		put_text(l, "0x");
		put_hex(l, flags);
	}
}

static void put_prot(struct line *l, uint32_t prot)
{
	put_char(l, ' ');
	put_char(l, prot & UHMM_TRACE_PROT_READ ? 'r' : '-');
	put_char(l, prot & UHMM_TRACE_PROT_WRITE ? 'w' : '-');
	put_char(l, prot & UHMM_TRACE_PROT_EXEC ? 'x' : '-');
}

static void put_word(struct line *l, const char *const *words, size_t nr, uint32_t i)
{
	put_char(l, ' ');
	put_text(l, words[i < nr ? i : 0]);
}

/* ---- events ---- */

static const char access_chars[] = "?rwx", mode_chars[] = "?uk?", present_chars[] = "?-p?";

static void put_fault(struct line *l, const struct uhmm_trace_event *ev)
{
	static const char *const answers[] = { "", "no", "yes", "" };

	put_char(l, ' ');
	put_hex(l, ev->fault.addr);
	put_char(l, ' ');
	put_char(l, access_chars[ev->fault.access & 3]);
	put_char(l, mode_chars[ev->fault.mode & 3]);
	put_char(l, present_chars[ev->fault.present & 3]);
	put_key_hex(l, "ip", ev->fault.ip);
	put_key_hex(l, "code", ev->fault.error_code);
	if (put_key(l, "major", ev->fault.major))
		put_text(l, answers[ev->fault.major & 3]);
	if (put_key(l, "failed", ev->fault.failed))
		put_text(l, answers[ev->fault.failed & 3]);
	put_key_dec(l, "order", ev->fault.order);
	put_key_dec(l, "source", ev->fault.source);
}

static void put_map(struct line *l, const struct uhmm_trace_event *ev)
{
	put_range(l, ev->map.start, ev->map.end);
	put_prot(l, ev->map.prot);
	put_flags(l, ev->map.flags, uhmm__native_map_flags);
	put_key_dec(l, "obj", ev->map.obj);
	if (ev->map.obj)
		put_key_hex(l, "pgoff", ev->map.pgoff);
}

static void put_obj(struct line *l, const struct uhmm_trace_event *ev)
{
	put_char(l, ' ');
	put_dec(l, ev->obj.id);
	put_word(l, uhmm__native_obj_kinds, ARRAY_SIZE(uhmm__native_obj_kinds), ev->obj.kind);
	put_char(l, ' ');
	put_hex(l, ev->obj.dev_major);
	put_char(l, ':');
	put_hex(l, ev->obj.dev_minor);
	put_char(l, ' ');
	put_dec(l, ev->obj.ino);
	put_key_text(l, "name", ev->obj.name);
}

static void put_mapping(struct line *l, const struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_MAP:
		put_map(l, ev);
		break;
	case UHMM_TRACE_UNMAP:
		put_range(l, ev->unmap.start, ev->unmap.end);
		break;
	case UHMM_TRACE_PROT:
		put_range(l, ev->prot.start, ev->prot.end);
		put_prot(l, ev->prot.prot);
		if (ev->prot.pkey != -1) {
			put_text(l, " pkey=");
			put_signed(l, ev->prot.pkey);
		}
		break;
	case UHMM_TRACE_MOVE:
		put_range(l, ev->move.old_start, ev->move.old_end);
		put_range(l, ev->move.new_start, ev->move.new_end);
		put_flags(l, ev->move.flags, uhmm__native_move_flags);
		break;
	case UHMM_TRACE_ADVISE:
		put_range(l, ev->advise.start, ev->advise.end);
		put_char(l, ' ');
		put_dec(l, ev->advise.advice);
		if (put_key(l, "error", (uint32_t)ev->advise.error))
			put_signed(l, ev->advise.error);
		put_key_hex(l, "arg", ev->advise.arg);
		break;
	case UHMM_TRACE_TRUNC:
		put_char(l, ' ');
		put_dec(l, ev->trunc.obj);
		put_range(l, ev->trunc.start, ev->trunc.end);
		break;
	case UHMM_TRACE_MIGRATE:
		put_range(l, ev->migrate.start, ev->migrate.end);
		put_char(l, ' ');
		put_dec(l, ev->migrate.from_node);
		put_char(l, ' ');
		put_dec(l, ev->migrate.to_node);
		put_char(l, ' ');
		put_dec(l, ev->migrate.reason);
		break;
	default:
		break;
	}
}

static void put_body(struct line *l, const struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_FAULT:
	case UHMM_TRACE_FAULT_MAJOR:
		put_fault(l, ev);
		break;
	case UHMM_TRACE_TOUCH:
		put_char(l, ' ');
		put_hex(l, ev->touch.addr);
		put_char(l, ' ');
		put_char(l, access_chars[ev->touch.access & 3]);
		put_char(l, ' ');
		put_dec(l, ev->touch.size);
		put_key_dec(l, "repeat", ev->touch.repeat == 1 ? 0 : ev->touch.repeat);
		break;
	case UHMM_TRACE_MM_NEW:
		put_word(l, uhmm__native_why, ARRAY_SIZE(uhmm__native_why), ev->mm_new.why);
		put_key_dec(l, "parent", ev->mm_new.parent);
		break;
	case UHMM_TRACE_TASK:
		put_word(l, uhmm__native_why, ARRAY_SIZE(uhmm__native_why), ev->task.why);
		put_key_text(l, "name", ev->task.comm);
		break;
	case UHMM_TRACE_OBJ:
		put_obj(l, ev);
		break;
	case UHMM_TRACE_LOST:
		put_char(l, ' ');
		put_dec(l, ev->lost.count);
		break;
	case UHMM_TRACE_MARK:
		put_key_text(l, "text", ev->mark.text);
		break;
	default:
		put_mapping(l, ev);
		break;
	}
}

/* ---- lines ---- */

static struct line line_begin(struct uhmm_trace_writer *w)
{
	return (struct line){ w->buf + w->len };
}

static int line_end(struct uhmm_trace_writer *w, struct line *l)
{
	int err = 0;

	put_char(l, '\n');
	w->len = (size_t)(l->p - w->buf);
	if (w->len >= NATIVE_PAYLOAD_MAX) {
		err = uhmm__trace_output_write(w->output, w->buf, w->len);
		w->len = 0;
	}
	return err;
}

static int text_event(struct uhmm_trace_writer *w, const struct uhmm_trace_event *ev)
{
	struct line l = line_begin(w);

	put_text(&l, uhmm_trace_kind_name(ev->kind));
	put_char(&l, ' ');
	put_dec(&l, ev->t_ns);
	put_char(&l, ' ');
	put_signed(&l, ev->cpu);
	put_char(&l, ' ');
	put_signed(&l, ev->tid);
	put_char(&l, ' ');
	put_signed(&l, ev->tgid);
	put_char(&l, ' ');
	put_dec(&l, ev->mm);
	put_body(&l, ev);
	return line_end(w, &l);
}

static int text_caps(struct uhmm_trace_writer *w)
{
	struct line l = line_begin(w);

	put_text(&l, "CAPS");
	for (unsigned int i = 0; i < NATIVE_NR_CAPS; i++) {
		if (!*native_cap(&w->caps, i))
			continue;
		put_char(&l, ' ');
		put_text(&l, uhmm__native_caps[i].name);
	}
	return line_end(w, &l);
}

static int text_start(struct uhmm_trace_writer *w)
{
	struct line l = line_begin(w);

	put_text(&l, "uhmm-trace ");
	put_dec(&l, NATIVE_VERSION);
	put_text(&l, " page_size=4096 clock=");
	put_text(&l, uhmm__native_clocks[w->origin.clock % ARRAY_SIZE(uhmm__native_clocks)]);
	put_key_dec(&l, "va_bits", w->origin.va_bits);
	put_key_text(&l, "tool", w->origin.tool);
	return line_end(w, &l);
}

static int text_end(struct uhmm_trace_writer *w, const struct uhmm_trace_stats *stats)
{
	struct uhmm_trace_stats copy = *stats;
	struct line l = line_begin(w);
	int err;

	put_text(&l, "END");
	put_key_dec(&l, "events", w->state.nr_events);
	for (unsigned int i = 0; i < NATIVE_NR_STATS; i++)
		put_key_dec(&l, uhmm__native_stats[i].name, *native_stat(&copy, i));
	err = line_end(w, &l);
	return err ? err : uhmm__trace_output_write(w->output, w->buf, w->len);
}

const struct native_writer_ops uhmm__native_text_writer = {
	.start = text_start,
	.caps = text_caps,
	.event = text_event,
	.end = text_end,
};
