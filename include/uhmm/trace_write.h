/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace_write.h - write traces in the native format, as text or binary (docs/trace-format.md).
 *
 * What a reader of trace.h hands out can be written event by event, together with what the trace
 * tells (struct uhmm_trace_caps) and, at the end, its counts. Reading the result gives the same
 * events, capabilities and counts again.
 *
 * Context (every function here): no locks are required or taken; a writer is used by one thread at
 * a time; different writers are independent. Writes a file or a pipe, so may sleep.
 */
#ifndef UHMM_TRACE_WRITE_H
#define UHMM_TRACE_WRITE_H

#include <uhmm/trace.h>

UHMM_BEGIN_DECLS

/**
 * struct uhmm_trace_write_options - how to write
 * @size: sizeof(struct uhmm_trace_write_options)
 * @format: UHMM_TRACE_FORMAT_TEXT or UHMM_TRACE_FORMAT_BINARY
 * @level: of zstd compression, 1 to 19; 0: do not compress
 * @origin: who recorded the trace; copied, its string too
 */
struct uhmm_trace_write_options {
	size_t size;
	uint32_t format;
	int level;
	struct uhmm_trace_origin origin;
};

struct uhmm_trace_writer;

/**
 * uhmm_trace_create() - start writing a trace
 * @path: in, file name, or "-" for standard output
 * @opt: in
 * @out: out, the writer
 *
 * A regular file, or one that does not exist yet, is written beside its place and moved there by
 * uhmm_trace_finish(); what is there stays as it is until then.
 *
 * Returns: 0; -EINVAL for a bad argument; -ENOMEM; or the error of open(2).
 * Lifetime: the caller owns *@out until uhmm_trace_finish() or uhmm_trace_discard(); neither @path
 * nor @opt is kept.
 * Models: nothing (invented).
 */
UHMM_API UHMM_MUST_CHECK int uhmm_trace_create(const char *path,
					       const struct uhmm_trace_write_options *opt,
					       struct uhmm_trace_writer **out);

/**
 * uhmm_trace_write() - append an event
 * @writer: in
 * @caps: in, what the trace tells from this event on; @format and @compressed are not used
 * @ev: in; its strings are copied, and cut at 4095 bytes
 *
 * Returns: 0; -EINVAL if the event is none that a trace may have at this place (time before its
 * predecessor's, a range that is empty or not of whole pages, numbers of address spaces or objects
 * that were not declared in order: see docs/trace-format.md), nothing is written then; -ENOMEM; or
 * the error of write(2), which stays.
 * Models: nothing (invented).
 */
UHMM_API UHMM_MUST_CHECK int uhmm_trace_write(struct uhmm_trace_writer *writer,
					      const struct uhmm_trace_caps *caps,
					      const struct uhmm_trace_event *ev);

/**
 * uhmm_trace_finish() - write the end of the trace and close the file
 * @writer: in; freed in any case
 * @caps: in, what the trace tells, as of its end
 * @stats: in, counts of its reading, of which those are kept that tell of the recording
 *
 * Returns: 0; or the error of write(2), close(2) or rename(2): there is no new file then.
 * Models: nothing (invented).
 */
UHMM_API UHMM_MUST_CHECK int uhmm_trace_finish(struct uhmm_trace_writer *writer,
					       const struct uhmm_trace_caps *caps,
					       const struct uhmm_trace_stats *stats);

/**
 * uhmm_trace_discard() - give up writing; @writer may be NULL
 *
 * What was written goes away, unless it went to a pipe or the like. Frees the writer.
 * Models: nothing (invented).
 */
UHMM_API void uhmm_trace_discard(struct uhmm_trace_writer *writer);

UHMM_END_DECLS

#endif /* UHMM_TRACE_WRITE_H */
