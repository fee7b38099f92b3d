// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * native_text.c - the text form of the native format: reading.
 *
 * A line is a kind, the head that all events have, fields by their place, and then KEY=VALUE words, of
 * which those that are not known are skipped. A text that may hold blanks is the last of them.
 */
#include <stdlib.h>

#include "replay/native.h"
#include "replay/trace_parse.h"

/* Who is meant: "CPU TID TGID MM " of the line before. */
#define TEXT_ON_MAX 56
struct text_on {
	size_t len; /* 0: none */
	char text[TEXT_ON_MAX];
	int32_t cpu, tid, tgid;
	uint32_t mm;
};

struct text {
	struct native_state state;
	struct text_on on;
	bool header; /* the first line was read */
	bool ended;  /* END was read */
	char tool[NATIVE_STRING_MAX + 1];
};

static struct text *text(struct uhmm_trace_reader *r)
{
	return r->priv;
}

/* ---- words: each leaves *p behind the word and the blanks after it; false if it is none such ---- */

static bool after(char **p, char *end)
{
	if (!end || (*end && !is_blank(*end)))
		return false;
	*p = skip_blanks(end);
	return true;
}

static bool dec(char **p, uint64_t *v)
{
	return after(p, scan_dec(*p, v));
}

static bool dec32(char **p, uint32_t *out)
{
	uint64_t v;

	if (!dec(p, &v) || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool number(char **p, int32_t *out)
{
	bool minus = **p == '-';
	uint64_t v = 0;

	if (!after(p, scan_dec(*p + minus, &v)) || v > (uint64_t)INT32_MAX + minus)
		return false;
	*out = minus ? (int32_t) - (int64_t)v : (int32_t)v;
	return true;
}

static bool hex(char **p, uint64_t *v)
{
	return after(p, scan_hex(*p, v));
}

static bool range(char **p, uint64_t *start, uint64_t *end)
{
	char *q = scan_hex(*p, start);

	q = q ? scan_char(q, '-') : NULL;
	return after(p, q ? scan_hex(q, end) : NULL);
}

/* Index of the word; one that came later counts as 0, unknown. */
static bool word(char **p, const char *const *words, size_t nr, uint32_t *out)
{
	char *end = skip_word(*p);
	size_t len = (size_t)(end - *p);

	*out = 0;
	for (uint32_t i = 0; i < nr; i++)
		if (!strncmp(words[i], *p, len) && !words[i][len])
			*out = i;
	return len && after(p, end);
}

static bool prot(char **p, uint32_t *out)
{
	const char *s = *p;

	if ((s[0] != 'r' && s[0] != '-') || (s[1] != 'w' && s[1] != '-') ||
	    (s[2] != 'x' && s[2] != '-'))
		return false;
	*out = (s[0] == 'r' ? UHMM_TRACE_PROT_READ : 0) |
	       (s[1] == 'w' ? UHMM_TRACE_PROT_WRITE : 0) | (s[2] == 'x' ? UHMM_TRACE_PROT_EXEC : 0);
	return after(p, *p + 3);
}

/* "shared,anon", "0x4000", "-". Names that came later are nothing to us. */
static bool flags(char **p, const char *const *names, uint32_t *out)
{
	char *end = skip_word(*p), *at = *p;
	uint64_t v;

	*out = 0;
	if (at == end)
		return false;
	while (at < end) {
		char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
		size_t len = (size_t)(stop - at);

		if (len > 2 && at[0] == '0' && at[1] == 'x') {
			if (scan_hex(at + 2, &v) != stop || v > UINT32_MAX)
				return false;
			*out |= (uint32_t)v;
		}
		for (unsigned int i = 0; names[i]; i++)
			if (!strncmp(names[i], at, len) && !names[i][len])
				*out |= 1u << i;
		at = stop + 1;
	}
	return after(p, end);
}

/* One of the three or four characters. */
static bool one_of(char c, const char *chars, uint8_t *out)
{
	for (uint8_t i = 0; chars[i]; i++) {
		if (chars[i] == c) {
			*out = i;
			return true;
		}
	}
	return false;
}

/* Takes \xHH out of the rest of the line; NULL if there is nothing. */
static const char *rest(char **p)
{
	char *start = *p, *in = start, *out = start;

	while (*in && out - start < (long)NATIVE_STRING_MAX) {
		if (in[0] == '\\' && in[1] == 'x' && hex_digit(in[2]) < 16 &&
		    hex_digit(in[3]) < 16) {
			*out++ = (char)(hex_digit(in[2]) << 4 | hex_digit(in[3]));
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*p = in + strlen(in);
	*out = '\0';
	return *start ? start : NULL;
}

/* ---- KEY=VALUE ---- */

/* If the word begins with KEY=, *p is behind that. */
static bool key(char **p, const char *name)
{
	char *q = scan_text(*p, name);

	if (!q || *q != '=')
		return false;
	*p = q + 1;
	return true;
}

static bool answer(char **p, uint8_t *out)
{
	static const char *const answers[] = { "unknown", "no", "yes" };
	uint32_t i;

	if (!word(p, answers, ARRAY_SIZE(answers), &i))
		return false;
	*out = (uint8_t)i;
	return true;
}

static bool max_dec(char **p, uint64_t max, uint64_t *v)
{
	return dec(p, v) && *v <= max;
}

static bool fault_key(char **p, struct uhmm_trace_event *ev)
{
	uint64_t v;

	if (key(p, "ip"))
		return hex(p, &ev->fault.ip);
	if (key(p, "code")) {
		if (!hex(p, &v) || v > UINT32_MAX)
			return false;
		ev->fault.error_code = (uint32_t)v;
		return true;
	}
	if (key(p, "major"))
		return answer(p, &ev->fault.major);
	if (key(p, "failed"))
		return answer(p, &ev->fault.failed);
	if (key(p, "order")) {
		if (!max_dec(p, UINT8_MAX, &v))
			return false;
		ev->fault.order = (uint8_t)v;
		return true;
	}
	if (key(p, "source")) {
		if (!max_dec(p, UINT16_MAX, &v))
			return false;
		ev->fault.source = (uint16_t)v;
		return true;
	}
	return after(p, skip_word(*p));
}

static bool other_key(char **p, struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_MM_NEW:
		if (key(p, "parent"))
			return dec32(p, &ev->mm_new.parent);
		break;
	case UHMM_TRACE_TASK:
		if (key(p, "name")) {
			ev->task.comm = rest(p);
			return true;
		}
		break;
	case UHMM_TRACE_OBJ:
		if (key(p, "name")) {
			ev->obj.name = rest(p);
			return true;
		}
		break;
	case UHMM_TRACE_MARK:
		if (key(p, "text")) {
			ev->mark.text = rest(p);
			return true;
		}
		break;
	case UHMM_TRACE_MAP:
		if (key(p, "obj"))
			return dec32(p, &ev->map.obj);
		if (key(p, "pgoff"))
			return hex(p, &ev->map.pgoff);
		break;
	case UHMM_TRACE_PROT:
		if (key(p, "pkey"))
			return number(p, &ev->prot.pkey);
		break;
	case UHMM_TRACE_ADVISE:
		if (key(p, "error"))
			return number(p, &ev->advise.error);
		if (key(p, "arg"))
			return hex(p, &ev->advise.arg);
		break;
	case UHMM_TRACE_TOUCH:
		if (key(p, "repeat"))
			return dec(p, &ev->touch.repeat);
		break;
	default:
		break;
	}
	return after(p, skip_word(*p));
}

/* ---- fields by their place ---- */

static bool fault_fields(char **p, struct uhmm_trace_event *ev)
{
	char *q;

	if (!hex(p, &ev->fault.addr))
		return false;
	q = *p;
	return one_of(q[0], "?rwx", &ev->fault.access) && one_of(q[1], "?uk", &ev->fault.mode) &&
	       one_of(q[2], "?-p", &ev->fault.present) && after(p, q + 3);
}

static bool touch_fields(char **p, struct uhmm_trace_event *ev)
{
	ev->touch.repeat = 1;
	return hex(p, &ev->touch.addr) && one_of(**p, "?rwx", &ev->touch.access) &&
	       after(p, *p + 1) && dec32(p, &ev->touch.size);
}

static bool obj_fields(char **p, struct uhmm_trace_event *ev)
{
	uint64_t major = 0, minor = 0;
	char *q;

	if (!dec32(p, &ev->obj.id) ||
	    !word(p, uhmm__native_obj_kinds, ARRAY_SIZE(uhmm__native_obj_kinds), &ev->obj.kind))
		return false;
	q = scan_hex(*p, &major);
	q = q ? scan_char(q, ':') : NULL;
	if (!after(p, q ? scan_hex(q, &minor) : NULL) || (major | minor) > UINT32_MAX)
		return false;
	ev->obj.dev_major = (uint32_t)major;
	ev->obj.dev_minor = (uint32_t)minor;
	return dec(p, &ev->obj.ino);
}

static bool migrate_fields(char **p, struct uhmm_trace_event *ev)
{
	uint64_t from, to;

	if (!range(p, &ev->migrate.start, &ev->migrate.end) || !max_dec(p, UINT16_MAX, &from) ||
	    !max_dec(p, UINT16_MAX, &to))
		return false;
	ev->migrate.from_node = (uint16_t)from;
	ev->migrate.to_node = (uint16_t)to;
	return dec32(p, &ev->migrate.reason);
}

static bool fields(char **p, struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_FAULT:
	case UHMM_TRACE_FAULT_MAJOR:
		return fault_fields(p, ev);
	case UHMM_TRACE_TOUCH:
		return touch_fields(p, ev);
	case UHMM_TRACE_MM_NEW:
		return word(p, uhmm__native_why, ARRAY_SIZE(uhmm__native_why), &ev->mm_new.why);
	case UHMM_TRACE_TASK:
		return word(p, uhmm__native_why, ARRAY_SIZE(uhmm__native_why), &ev->task.why);
	case UHMM_TRACE_OBJ:
		return obj_fields(p, ev);
	case UHMM_TRACE_MAP:
		return range(p, &ev->map.start, &ev->map.end) && prot(p, &ev->map.prot) &&
		       flags(p, uhmm__native_map_flags, &ev->map.flags);
	case UHMM_TRACE_UNMAP:
		return range(p, &ev->unmap.start, &ev->unmap.end);
	case UHMM_TRACE_PROT:
		ev->prot.pkey = -1;
		return range(p, &ev->prot.start, &ev->prot.end) && prot(p, &ev->prot.prot);
	case UHMM_TRACE_MOVE:
		return range(p, &ev->move.old_start, &ev->move.old_end) &&
		       range(p, &ev->move.new_start, &ev->move.new_end) &&
		       flags(p, uhmm__native_move_flags, &ev->move.flags);
	case UHMM_TRACE_ADVISE:
		return range(p, &ev->advise.start, &ev->advise.end) && dec32(p, &ev->advise.advice);
	case UHMM_TRACE_TRUNC:
		return dec32(p, &ev->trunc.obj) && range(p, &ev->trunc.start, &ev->trunc.end);
	case UHMM_TRACE_MIGRATE:
		return migrate_fields(p, ev);
	case UHMM_TRACE_LOST:
		return dec(p, &ev->lost.count);
	default: /* MM_DEL, TASK_EXIT, MARK */
		return true;
	}
}

/* ---- lines ---- */

static const char *expected(uint32_t kind)
{
	static const char *const forms[UHMM_TRACE_NR_KINDS] = {
		[UHMM_TRACE_MM_NEW] = "found|fork|exec [parent=MM]",
		[UHMM_TRACE_TASK] = "found|fork|vfork|thread|exec [name=NAME]",
		[UHMM_TRACE_OBJ] = "NUMBER KIND MAJOR:MINOR INODE [name=NAME]",
		[UHMM_TRACE_MAP] = "START-END rwx FLAG,... [obj=NUMBER pgoff=HEX]",
		[UHMM_TRACE_UNMAP] = "START-END",
		[UHMM_TRACE_PROT] = "START-END rwx [pkey=N]",
		[UHMM_TRACE_MOVE] = "START-END START-END FLAG,...",
		[UHMM_TRACE_ADVISE] = "START-END ADVICE [error=N] [arg=HEX]",
		[UHMM_TRACE_TRUNC] = "OBJ START-END",
		[UHMM_TRACE_FAULT] = "ADDRESS [r|w|x|?][u|k|?][p|-|?] [ip=HEX] [code=HEX]",
		[UHMM_TRACE_FAULT_MAJOR] = "ADDRESS [r|w|x|?][u|k|?][p|-|?] [ip=HEX] [code=HEX]",
		[UHMM_TRACE_MIGRATE] = "START-END FROM TO REASON",
		[UHMM_TRACE_TOUCH] = "ADDRESS r|w|x|? BYTES [repeat=N]",
		[UHMM_TRACE_LOST] = "NUMBER",
		[UHMM_TRACE_MARK] = "[text=TEXT]",
	};

	return forms[kind] ? forms[kind] : "";
}

static bool is_fault(uint32_t kind)
{
	return kind == UHMM_TRACE_FAULT || kind == UHMM_TRACE_FAULT_MAJOR;
}

/* CPU TID TGID MM: most lines have the same as the one before. */
static bool on_words(struct text_on *on, char **p, struct uhmm_trace_event *e)
{
	char *start = *p;

	if (likely(on->len && !strncmp(start, on->text, on->len))) {
		e->cpu = on->cpu;
		e->tid = on->tid;
		e->tgid = on->tgid;
		e->mm = on->mm;
		*p = start + on->len;
		return true;
	}
	if (!number(p, &e->cpu) || !number(p, &e->tid) || !number(p, &e->tgid) || !dec32(p, &e->mm))
		return false;
	if (is_blank((*p)[-1]) && (size_t)(*p - start) <= sizeof(on->text)) {
		on->len = (size_t)(*p - start);
		memcpy(on->text, start, on->len);
		on->cpu = e->cpu;
		on->tid = e->tid;
		on->tgid = e->tgid;
		on->mm = e->mm;
	}
	return true;
}

static int event_line(struct uhmm_trace_reader *r, uint32_t kind, char *p)
{
	struct uhmm_trace_event e = { .kind = kind };
	const char *why;

	if (!dec(&p, &e.t_ns) || !on_words(&text(r)->on, &p, &e))
		return uhmm__trace_bad(r, "expected '%s TIME CPU TID TGID MM ...'",
				       uhmm_trace_kind_name(kind));
	if (!fields(&p, &e))
		goto bad;
	while (*p)
		if (!(is_fault(kind) ? fault_key(&p, &e) : other_key(&p, &e)))
			goto bad;
	if (kind == UHMM_TRACE_MAP && !e.map.obj)
		e.map.pgoff = e.map.start >> 12;
	why = native_check(&text(r)->state, &e);
	if (why)
		return uhmm__trace_bad(r, "%s", why);
	if (kind == UHMM_TRACE_LOST)
		r->stats.lost += e.lost.count;
	*uhmm__trace_emit(r, kind, NULL) = e;
	return 0;
bad:
	return uhmm__trace_bad(r, "%s: expected '%s' after the address space's number",
			       uhmm_trace_kind_name(kind), expected(kind));
}

static int caps_line(struct uhmm_trace_reader *r, char *p)
{
	while (*p) {
		char *end = skip_word(p);
		size_t len = (size_t)(end - p);

		for (unsigned int i = 0; i < NATIVE_NR_CAPS; i++) {
			const char *name = uhmm__native_caps[i].name;

			if (!strncmp(name, p, len) && !name[len])
				*native_cap(&r->caps, i) = true;
		}
		p = skip_blanks(end);
	}
	return 0;
}

static int end_line(struct uhmm_trace_reader *r, char *p)
{
	uint64_t nr = text(r)->state.nr_events, v;

	while (*p) {
		bool known = false, good = true;

		for (unsigned int i = 0; i < NATIVE_NR_STATS && !known; i++) {
			known = key(&p, uhmm__native_stats[i].name);
			if (known) {
				good = dec(&p, &v);
				*native_stat(&r->stats, i) += good ? v : 0;
			}
		}
		if (!known)
			good = key(&p, "events") ? dec(&p, &nr) : after(&p, skip_word(p));
		if (!good)
			return uhmm__trace_bad(r, "END: expected 'NAME=NUMBER ...'");
	}
	text(r)->ended = true;
	if (!native_count_fits(&text(r)->state, nr) && !r->stats.malformed)
		return uhmm__trace_bad(r, "END: %llu events are announced, the trace has %llu",
				       (unsigned long long)nr,
				       (unsigned long long)text(r)->state.nr_events);
	return 0;
}

static uint32_t kind_of(const char *p, size_t len)
{
	for (uint32_t i = UHMM_TRACE_MM_NEW; i < UHMM_TRACE_NR_KINDS; i++) {
		const char *name = uhmm_trace_kind_name(i);

		if (!strncmp(name, p, len) && !name[len])
			return i;
	}
	return 0;
}

static int text_line(struct uhmm_trace_reader *r, struct trace_line *line)
{
	char *p = line->s, *end;
	uint32_t kind;
	size_t len;

	if (unlikely(!text(r)->header)) { /* text_start() has seen to it */
		text(r)->header = true;
		return 0;
	}
	if (unlikely(text(r)->ended))
		return uhmm__trace_bad(r, "something follows the END of the trace");
	end = skip_word(p);
	len = (size_t)(end - p);
	kind = len == 5 && !memcmp(p, "FAULT", 5) ? UHMM_TRACE_FAULT : kind_of(p, len);
	p = skip_blanks(end);
	if (likely(kind))
		return event_line(r, kind, p);
	if (len == 4 && !memcmp(end - 4, "CAPS", 4))
		return caps_line(r, p);
	if (len == 3 && !memcmp(end - 3, "END", 3))
		return end_line(r, p);
	if (*line->s < 'A' || *line->s > 'Z')
		return uhmm__trace_bad(r,
				       "not a line of a trace: expected 'KIND TIME CPU TID TGID MM "
				       "...'");
	text(r)->state.nr_unknown++;
	r->stats.skipped_records++; /* of a later version */
	return 0;
}

static void text_finish(struct uhmm_trace_reader *r)
{
	if (text(r)->ended || r->error)
		return;
	(void)uhmm__trace_malformed(r,
				    ":%llu: the trace ends without END: it was cut short, copy "
				    "or convert it again",
				    (unsigned long long)r->line);
}

/* ---- format ---- */

static const char magic[] = "uhmm-trace ";

static int text_probe(const char *s, size_t len)
{
	return len >= sizeof(magic) - 1 && !memcmp(s, magic, sizeof(magic) - 1) ? 100 : 0;
}

/* "1 page_size=4096 clock=monotonic va_bits=47 requires=... tool=perf script" */
static int header(struct uhmm_trace_reader *r, char *p)
{
	uint64_t version, page = 4096;

	if (!dec(&p, &version))
		return uhmm__trace_fatal(r, -EINVAL, ":1: expected 'uhmm-trace VERSION ...'");
	if (version != NATIVE_VERSION)
		return uhmm__trace_fatal(
			r, -EINVAL,
			":1: the format has version %llu, this program reads version "
			"%u: convert the trace with the program that wrote it, or "
			"read it with a newer uhmm",
			(unsigned long long)version, NATIVE_VERSION);
	while (*p) {
		if (key(&p, "requires"))
			return uhmm__trace_fatal(r, -EINVAL,
						 ":1: the trace requires capabilities that this "
						 "program lacks (%.60s): read it with a newer uhmm",
						 p);
		if (key(&p, "tool")) {
			const char *tool = rest(&p);

			if (tool)
				r->origin.tool = strcpy(text(r)->tool, tool);
		} else if (key(&p, "page_size") ? !dec(&p, &page)
			   : key(&p, "clock")
				   ? !word(&p, uhmm__native_clocks, ARRAY_SIZE(uhmm__native_clocks),
					   &r->origin.clock)
			   : key(&p, "va_bits") ? !dec32(&p, &r->origin.va_bits)
						: !after(&p, skip_word(p))) {
			return uhmm__trace_fatal(r, -EINVAL,
						 ":1: expected 'uhmm-trace VERSION KEY=VALUE ...'");
		}
	}
	if (page != 4096)
		return uhmm__trace_fatal(r, -EINVAL,
					 ":1: pages of %llu bytes: this program reads traces with "
					 "pages of 4096 bytes",
					 (unsigned long long)page);
	return 0;
}

static int text_start(struct uhmm_trace_reader *r, const char *s, size_t len)
{
	const char *nl = memchr(s, '\n', len);
	size_t n = nl ? (size_t)(nl - s) : len;
	char *copy;
	int err;

	r->priv = calloc(1, sizeof(struct text));
	copy = calloc(1, n + TRACE_BUF_SLACK); /* see skip_blanks() */
	if (copy)
		memcpy(copy, s, n);
	if (!r->priv || !copy) {
		free(copy);
		uhmm__trace_nomem(r);
		return -ENOMEM;
	}
	err = header(r, copy + sizeof(magic) - 1);
	free(copy);
	return err;
}

static void text_stop(struct uhmm_trace_reader *r)
{
	free(r->priv);
}

const struct trace_ops uhmm__native_text_ops = {
	.format = UHMM_TRACE_FORMAT_TEXT,
	.probe = text_probe,
	.start = text_start,
	.line = text_line,
	.finish = text_finish,
	.stop = text_stop,
};
