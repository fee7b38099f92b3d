// SPDX-License-Identifier: LGPL-2.1-or-later
/* trace_write.c - the trace writer's public face. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replay/native.h"

static void writer_free(struct uhmm_trace_writer *w)
{
	free((char *)(uintptr_t)w->origin.tool);
	free(w);
}

static bool good_options(const struct uhmm_trace_write_options *opt)
{
	return opt && opt->size == sizeof(*opt) && opt->level >= 0 && opt->level <= 19 &&
	       (opt->format == UHMM_TRACE_FORMAT_TEXT || opt->format == UHMM_TRACE_FORMAT_BINARY);
}

int uhmm_trace_create(const char *path, const struct uhmm_trace_write_options *opt,
		      struct uhmm_trace_writer **out)
{
	struct uhmm_trace_writer *w;
	int err;

	if (!path || !*path || !out || !good_options(opt))
		return -EINVAL;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	memset(w, 0, offsetof(struct uhmm_trace_writer, buf));
	w->ops = opt->format == UHMM_TRACE_FORMAT_TEXT ? &uhmm__native_text_writer
						       : &uhmm__native_binary_writer;
	w->origin = opt->origin;
	if (w->origin.tool) {
		w->origin.tool = strndup(w->origin.tool, NATIVE_STRING_MAX);
		if (!w->origin.tool) {
			writer_free(w);
			return -ENOMEM;
		}
	}
	err = uhmm__trace_output_open(path, opt->level, &w->output);
	if (err) {
		writer_free(w);
		return err;
	}
	err = w->ops->start(w);
	if (err) {
		uhmm_trace_discard(w);
		return err;
	}
	*out = w;
	return 0;
}

/* Writes the capabilities if there are others than before. */
static int follow_caps(struct uhmm_trace_writer *w, const struct uhmm_trace_caps *caps)
{
	struct uhmm_trace_caps now = *caps;
	bool differ = false;

	if (likely(!memcmp(&w->caps, caps, sizeof(now))))
		return 0;
	for (unsigned int i = 0; i < NATIVE_NR_CAPS; i++)
		differ |= *native_cap(&w->caps, i) != *native_cap(&now, i);
	w->caps = now;
	return differ ? w->ops->caps(w) : 0;
}

int uhmm_trace_write(struct uhmm_trace_writer *writer, const struct uhmm_trace_caps *caps,
		     const struct uhmm_trace_event *ev)
{
	struct uhmm_trace_writer *w = writer;

	if (w->error)
		return w->error;
	if (native_check(&w->state, ev))
		return -EINVAL;
	w->error = follow_caps(w, caps);
	if (!w->error)
		w->error = w->ops->event(w, ev);
	return w->error;
}

int uhmm_trace_finish(struct uhmm_trace_writer *writer, const struct uhmm_trace_caps *caps,
		      const struct uhmm_trace_stats *stats)
{
	struct uhmm_trace_writer *w = writer;
	int err = w->error ? w->error : follow_caps(w, caps), closed;

	if (!err)
		err = w->ops->end(w, stats);
	closed = uhmm__trace_output_close(w->output, !err);
	writer_free(w);
	return err ? err : closed;
}

void uhmm_trace_discard(struct uhmm_trace_writer *writer)
{
	if (!writer)
		return;
	(void)uhmm__trace_output_close(writer->output, false);
	writer_free(writer);
}
