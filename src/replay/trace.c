// SPDX-License-Identifier: LGPL-2.1-or-later
/* trace.c - the trace reader's public face: formats, errors, the stream of events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/trace_internal.h"

static const struct trace_ops *const formats[] = {
	&uhmm__trace_perf_ops,
	&uhmm__native_text_ops,
	&uhmm__native_binary_ops,
};

static const char *const kind_names[UHMM_TRACE_NR_KINDS] = {
	[UHMM_TRACE_MM_NEW] = "MM_NEW",
	[UHMM_TRACE_MM_DEL] = "MM_DEL",
	[UHMM_TRACE_TASK] = "TASK",
	[UHMM_TRACE_TASK_EXIT] = "TASK_EXIT",
	[UHMM_TRACE_OBJ] = "OBJ",
	[UHMM_TRACE_MAP] = "MAP",
	[UHMM_TRACE_UNMAP] = "UNMAP",
	[UHMM_TRACE_PROT] = "PROT",
	[UHMM_TRACE_MOVE] = "MOVE",
	[UHMM_TRACE_ADVISE] = "ADVISE",
	[UHMM_TRACE_TRUNC] = "TRUNC",
	[UHMM_TRACE_FAULT] = "FAULT",
	[UHMM_TRACE_FAULT_MAJOR] = "FAULT_MAJOR",
	[UHMM_TRACE_MIGRATE] = "MIGRATE",
	[UHMM_TRACE_TOUCH] = "TOUCH",
	[UHMM_TRACE_LOST] = "LOST",
	[UHMM_TRACE_MARK] = "MARK",
};

const char *uhmm_trace_kind_name(unsigned int kind)
{
	if (kind >= UHMM_TRACE_NR_KINDS || !kind_names[kind])
		return "?";
	return kind_names[kind];
}

int uhmm__trace_bad(struct uhmm_trace_reader *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->bad, sizeof(r->bad), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

void uhmm__trace_nomem(struct uhmm_trace_reader *r)
{
	r->error = -ENOMEM;
	snprintf(r->message, sizeof(r->message), "%s:%llu: out of memory", r->name,
		 (unsigned long long)r->line);
}

/* An error that is not about one line's grammar; @err stays. */
static int stop(struct uhmm_trace_reader *r, int err, const char *why)
{
	r->error = err;
	snprintf(r->message, sizeof(r->message), "%s:%llu: %s", r->name,
		 (unsigned long long)r->line, why ? why : strerror(-err));
	return err;
}

static int input_failed(struct uhmm_trace_reader *r, int err)
{
	r->line++; /* it is the next line that cannot be had */
	return stop(r, err, uhmm__trace_input_error(r->input));
}

/* The start of a line, fit to be shown: one line, printable, not long. */
static void show_text(char *out, size_t size, const struct trace_line *line)
{
	size_t from = 0, n = 0;

	while (from < line->len && (line->s[from] == ' ' || line->s[from] == '\t'))
		from++;
	for (; from < line->len && n < size - 4; from++) {
		unsigned char c = (unsigned char)line->s[from];

		if (!c) /* a parser ended a word there */
			c = ' ';
		out[n++] = c < 0x20 || c > 0x7e ? '?' : (char)c;
	}
	snprintf(out + n, size - n, "%s", from < line->len ? "..." : "");
}

/* Ends the reading, or counts the message, as the user wants. Returns the reader's error. */
static int malformed(struct uhmm_trace_reader *r, const char *msg)
{
	if (!r->keep_going) {
		r->error = -EINVAL;
		snprintf(r->message, sizeof(r->message), "%s", msg);
		return r->error;
	}
	if (r->stats.malformed < TRACE_KEPT_MESSAGES && !r->kept[r->stats.malformed]) {
		r->kept[r->stats.malformed] = strdup(msg);
		if (!r->kept[r->stats.malformed])
			uhmm__trace_nomem(r);
	}
	r->stats.malformed++;
	return r->error;
}

static void malformed_line(struct uhmm_trace_reader *r, const struct trace_line *line)
{
	char text[84], msg[TRACE_MESSAGE_MAX];

	show_text(text, sizeof(text), line);
	snprintf(msg, sizeof(msg), "%.100s:%llu: %.110s: '%s'", r->name,
		 (unsigned long long)r->line, r->bad, text);
	(void)malformed(r, msg);
}

int uhmm__trace_malformed(struct uhmm_trace_reader *r, const char *fmt, ...)
{
	char msg[TRACE_MESSAGE_MAX];
	va_list ap;
	int n = snprintf(msg, sizeof(msg), "%.100s", r->name);

	va_start(ap, fmt);
	vsnprintf(msg + n, sizeof(msg) - (size_t)n, fmt, ap);
	va_end(ap);
	return malformed(r, msg);
}

int uhmm__trace_fatal(struct uhmm_trace_reader *r, int err, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(r->message, sizeof(r->message), "%.100s", r->name);

	va_start(ap, fmt);
	vsnprintf(r->message + n, sizeof(r->message) - (size_t)n, fmt, ap);
	va_end(ap);
	r->error = err;
	return err;
}

/* Recognises the format. What is wrong is told by the first uhmm_trace_next(). */
static int start(struct uhmm_trace_reader *r)
{
	const struct trace_ops *best = NULL;
	const char *text = NULL;
	size_t len = 0, i;
	int score = 0;
	int err = uhmm__trace_input_peek(r->input, &text, &len);

	r->caps.compressed = uhmm__trace_input_compressed(r->input);
	if (err)
		return input_failed(r, err);
	r->line = 1;
	if (!len)
		return stop(r, -EINVAL,
			    "the trace is empty: expected the text of perf script, or a trace "
			    "that uhmm convert has written");
	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		int s = formats[i]->probe(text, len);

		if (s > score) {
			score = s;
			best = formats[i];
		}
	}
	if (!best)
		return stop(r, -EINVAL,
			    "not recognised as a trace: expected the text of perf script, "
			    "'COMM PID/TID [CPU] TIME: EVENT: ...', or the output of uhmm convert");
	r->ops = best;
	r->caps.format = best->format;
	r->line = 0;
	return best->start(r, text, len);
}

int uhmm_trace_open(const char *path, const struct uhmm_trace_options *opt,
		    struct uhmm_trace_reader **out)
{
	struct uhmm_trace_reader *r;
	int err;

	if (!path || !*path || !out)
		return -EINVAL;
	if (opt && opt->size < offsetof(struct uhmm_trace_options, keep_going) + sizeof(bool))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->keep_going = opt && opt->keep_going;
	uhmm__trace_state_init(&r->st);
	err = -ENOMEM;
	r->name = strdup(strcmp(path, "-") ? path : "<stdin>");
	if (!r->name)
		goto fail;
	err = uhmm__trace_input_open(path, &r->input);
	if (err)
		goto fail;
	if (start(r) == -ENOMEM) {
		err = -ENOMEM;
		goto fail;
	}
	*out = r;
	return 0;
fail:
	uhmm_trace_close(r);
	return err;
}

void uhmm_trace_close(struct uhmm_trace_reader *r)
{
	unsigned int i;

	if (!r)
		return;
	if (r->ops)
		r->ops->stop(r);
	uhmm__trace_state_exit(r);
	uhmm__trace_input_close(r->input);
	for (i = 0; i < TRACE_KEPT_MESSAGES; i++)
		free(r->kept[i]);
	free(r->queue);
	free(r->name);
	free(r);
}

static void finish(struct uhmm_trace_reader *r)
{
	if (r->finished)
		return;
	r->finished = true;
	r->ops->finish(r);
	if (!r->stats.source_lines)
		r->stats.source_lines = r->stats.lines;
}

/* Fills the queue from one line. 1, or 0 at the end, or a negative errno. */
static int one_line(struct uhmm_trace_reader *r)
{
	struct uhmm_trace_caps before = r->caps;
	struct trace_line line;
	int ret = uhmm__trace_input_line(r->input, &line);

	r->head = r->tail = 0;
	if (ret < 0)
		return input_failed(r, ret);
	if (!ret) {
		finish(r);
		return r->error;
	}
	r->line++;
	r->stats.lines++;
	r->stats.bytes += line.len + line.whole;
	if (unlikely(line.too_long))
		ret = uhmm__trace_bad(r, "line longer than %u bytes", TRACE_LINE_MAX);
	else if (!line.len || line.s[0] == '#')
		return 1;
	else if (unlikely(!line.whole))
		ret = uhmm__trace_bad(r, "the last line has no end: the trace was cut short there");
	else
		ret = r->ops->line(r, &line);
	/* What the line settled of earlier ones stands, whatever is wrong with itself. */
	if (unlikely(ret == -EINVAL && !r->error))
		malformed_line(r, &line);
	r->caps_changes += memcmp(&before, &r->caps, sizeof(before)) != 0;
	return r->error ? r->error : 1;
}

int uhmm__trace_next(struct uhmm_trace_reader *r, struct uhmm_trace_event *ev)
{
	while (r->head == r->tail) {
		int ret;

		if (unlikely(r->error))
			return r->error;
		if (unlikely(r->finished))
			return 0;
		if (r->ops->next) {
			ret = r->ops->next(r, ev);
			if (likely(ret > 0))
				r->stats.events[ev->kind]++;
			return ret;
		}
		ret = one_line(r);
		if (ret < 0)
			return ret;
	}
	*ev = r->queue[r->head++];
	r->stats.events[ev->kind]++;
	return 1;
}

size_t uhmm__trace_faults(struct uhmm_trace_reader *r, struct uhmm_trace_event *events,
			  uint64_t *lines, size_t max)
{
	size_t nr;

	if (!r->ops || !r->ops->faults || r->error)
		return 0;
	nr = r->ops->faults(r, events, lines, max);
	r->stats.events[UHMM_TRACE_FAULT] += nr;
	return nr;
}

int uhmm_trace_next(struct uhmm_trace_reader *r, struct uhmm_trace_event *ev)
{
	struct uhmm_trace_event next;
	int ret = uhmm__trace_next(r, &next);

	if (ret > 0)
		*ev = next;
	return ret;
}

const char *uhmm_trace_error(const struct uhmm_trace_reader *r)
{
	return r->error ? r->message : NULL;
}

const char *uhmm_trace_malformed(const struct uhmm_trace_reader *r, unsigned int i)
{
	return i < TRACE_KEPT_MESSAGES ? r->kept[i] : NULL;
}

uint64_t uhmm_trace_line(const struct uhmm_trace_reader *r)
{
	return r->line;
}

void uhmm_trace_position(const struct uhmm_trace_reader *r, uint64_t *done, uint64_t *size)
{
	uhmm__trace_input_position(r->input, done, size);
}

const struct uhmm_trace_origin *uhmm_trace_origin(const struct uhmm_trace_reader *r)
{
	return &r->origin;
}

const struct uhmm_trace_caps *uhmm_trace_caps(const struct uhmm_trace_reader *r)
{
	return &r->caps;
}

const struct uhmm_trace_stats *uhmm_trace_stats(const struct uhmm_trace_reader *r)
{
	return &r->stats;
}
