/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * native.h - the native trace format, as docs/trace-format.md specifies it.
 *
 *	native.c              tables of names; what every event must obey
 *	native_text.c         text: reading
 *	native_text_write.c   text: writing
 *	native_binary.c       binary: reading
 *	native_binary_write.c binary: writing
 *	trace_write.c         the writer's public face
 *	trace_output.c        bytes of a trace: files, pipes, zstd
 */
#ifndef UHMM_REPLAY_NATIVE_H
#define UHMM_REPLAY_NATIVE_H

#include <string.h>

#include <uhmm/trace_write.h>

#include "replay/trace_internal.h"

#define NATIVE_VERSION 1
#define NATIVE_STRING_MAX 4095u
#define NATIVE_TOUCH_MAX 4096u

/* ---- both forms ---- */

/* Bits of a CAPS record are indices into this, CAPS words its names. */
struct native_cap {
	const char *name;
	size_t offset; /* of a bool in struct uhmm_trace_caps */
};
#define NATIVE_NR_CAPS 12
extern const struct native_cap uhmm__native_caps[NATIVE_NR_CAPS];

/* Numbers of an END record are in this order, END words have its names. */
struct native_stat {
	const char *name;
	size_t offset; /* of a uint64_t in struct uhmm_trace_stats */
};
#define NATIVE_NR_STATS 16
extern const struct native_stat uhmm__native_stats[NATIVE_NR_STATS];

/* Why an address space or a binding came into being; kinds of object; clocks: by their numbers. */
extern const char *const uhmm__native_why[5];
extern const char *const uhmm__native_obj_kinds[6];
extern const char *const uhmm__native_clocks[4];
/* Names of the bits of MAP and MOVE flags, NULL at the end. */
extern const char *const uhmm__native_map_flags[];
extern const char *const uhmm__native_move_flags[];

static inline bool *native_cap(struct uhmm_trace_caps *caps, unsigned int i)
{
	return (bool *)((char *)caps + uhmm__native_caps[i].offset);
}

static inline uint64_t *native_stat(struct uhmm_trace_stats *stats, unsigned int i)
{
	return (uint64_t *)((char *)stats + uhmm__native_stats[i].offset);
}

/* What is known of the events so far. */
struct native_state {
	uint64_t t_ns;
	uint64_t nr_events;
	uint64_t nr_unknown; /* records of a later version: events or not */
	uint32_t last_mm, last_obj;
};

/* Can END announce so many events? */
static inline bool native_count_fits(const struct native_state *st, uint64_t announced)
{
	return announced >= st->nr_events && announced - st->nr_events <= st->nr_unknown;
}

/* See native_check(). */
const char *uhmm__native_check_slow(struct native_state *st, const struct uhmm_trace_event *ev);

/* NULL if the event may follow, and is taken note of; otherwise what is wrong with it. */
static inline const char *native_check(struct native_state *st, const struct uhmm_trace_event *ev)
{
	if (unlikely(ev->kind != UHMM_TRACE_FAULT || ev->mm > st->last_mm || ev->t_ns < st->t_ns))
		return uhmm__native_check_slow(st, ev);
	st->t_ns = ev->t_ns;
	st->nr_events++;
	return NULL;
}

/* ---- binary form ---- */

#define NATIVE_MAGIC "\x89UFT\r\n\x1a\n"
#define NATIVE_MAGIC_BYTES 8
#define NATIVE_PREAMBLE_BYTES 16
#define NATIVE_BLOCK_BYTES 12 /* head of a block */
#define NATIVE_PAYLOAD_MAX (64u << 10)
#define NATIVE_PAGE_SHIFT 12

/* Kinds of records beside those of enum uhmm_trace_kind. */
enum native_kind {
	NATIVE_HEADER = 64, /* clock, va_bits, tool */
	NATIVE_CAPS,	    /* bits */
	NATIVE_ON,	    /* cpu, tid, tgid, mm of the records that follow */
	NATIVE_END	    /* events, counts */
};

/* What numbers are relative to; zero where a block begins. */
struct native_base {
	uint64_t t_ns, addr, ip;
	int32_t cpu, tid, tgid;
	uint32_t mm;
};

/* Fletcher's checksum of little-endian words of 32 bits; @len is a multiple of 4. */
struct native_sum {
	uint32_t a, b;
};

static inline uint32_t native_le32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void native_put32(unsigned char *p, uint32_t v)
{
	for (unsigned int i = 0; i < 4; i++, v >>= 8)
		p[i] = (unsigned char)v;
}

static inline void native_sum(struct native_sum *s, const unsigned char *p, size_t len)
{
	uint32_t a = s->a, b = s->b;
	size_t i = 0;

	/* Each byte of a trace comes by here. */
	for (; len - i >= 16; i += 16) {
		b += a += native_le32(p + i);
		b += a += native_le32(p + i + 4);
		b += a += native_le32(p + i + 8);
		b += a += native_le32(p + i + 12);
	}
	for (; i < len; i += 4)
		b += a += native_le32(p + i);
	*s = (struct native_sum){ a, b };
}

/* The checksum of a block: of its length, and of its payload padded with zeroes to whole words. */
static inline struct native_sum native_block_sum(const unsigned char *payload, size_t len)
{
	struct native_sum s = { (uint32_t)len, (uint32_t)len };
	unsigned char rest[4] = { 0 };

	native_sum(&s, payload, len & ~(size_t)3);
	memcpy(rest, payload + (len & ~(size_t)3), len & 3);
	native_sum(&s, rest, len & 3 ? 4 : 0);
	return s;
}

/* Small numbers of either sign as small numbers. */
static inline uint64_t native_zigzag(uint64_t v)
{
	return v << 1 ^ -(v >> 63);
}

static inline uint64_t native_unzigzag(uint64_t v)
{
	return v >> 1 ^ -(v & 1);
}

/* ---- output: trace_output.c ---- */

struct trace_output;

/* Returns 0, -ENOMEM or the error of open(2). */
int uhmm__trace_output_open(const char *path, int level, struct trace_output **out);
/* 0 or a negative errno, which stays. */
int uhmm__trace_output_write(struct trace_output *o, const void *data, size_t len);
/* @keep: put the file in its place; otherwise it goes. Frees. */
int uhmm__trace_output_close(struct trace_output *o, bool keep);

/* ---- writing: a form ---- */

struct uhmm_trace_writer {
	const struct native_writer_ops *ops;
	struct trace_output *output;
	struct uhmm_trace_origin origin; /* its string is ours */
	struct uhmm_trace_caps caps;	 /* as written last */
	struct native_state state;
	struct native_base base; /* binary */
	int error;
	size_t len; /* bytes in buf */
	/* Binary: a block's payload. Text: lines; never fuller than that before a line is added. */
	unsigned char buf[NATIVE_PAYLOAD_MAX + 4 * (NATIVE_STRING_MAX + 256)];
};

struct native_writer_ops {
	int (*start)(struct uhmm_trace_writer *w);
	int (*caps)(struct uhmm_trace_writer *w);
	int (*event)(struct uhmm_trace_writer *w, const struct uhmm_trace_event *ev);
	int (*end)(struct uhmm_trace_writer *w, const struct uhmm_trace_stats *stats);
};

extern const struct native_writer_ops uhmm__native_text_writer, uhmm__native_binary_writer;

#endif /* UHMM_REPLAY_NATIVE_H */
