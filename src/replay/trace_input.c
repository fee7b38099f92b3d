// SPDX-License-Identifier: LGPL-2.1-or-later
/* trace_input.c - bytes of a trace: files and pipes, zstd or not, cut into lines. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "replay/trace_internal.h"
#include "replay/trace_parse.h"

/* clang-format off */
#define NO 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16
const unsigned char uhmm__trace_hex[256] = {
	NO, NO, NO,
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 16, 16, 16, 16, 16,
	16, 10, 11, 12, 13, 14, 15, 16, 16, 16, 16, 16, 16, 16, 16, 16,
	NO,
	16, 10, 11, 12, 13, 14, 15, 16, 16, 16, 16, 16, 16, 16, 16, 16,
	NO, NO, NO, NO, NO, NO, NO, NO, NO,
};
#undef NO
/* clang-format on */

/*
 * Text sits in buf[start, end). Lines are handed out in place; when the last piece holds no whole
 * line it moves to the front and more is read behind it. A few bytes are kept free behind the text,
 * for the NUL of a last line without an end, and for readers of binary traces that look further.
 */
struct trace_input {
	int fd;
	bool started;
	bool zstd;
	bool raw_eof;
	bool eof;
	bool in_frame; /* zstd: the frame goes on */
	bool dropping; /* inside a line that is too long */
	const char *error;
	int err;
	char *buf;
	size_t start, end;
	ZSTD_DCtx *zd;
	unsigned char *raw;
	size_t raw_pos, raw_len, raw_cap;
	uint64_t taken; /* bytes read from fd */
	uint64_t size;	/* of the file, 0: not known */
};

int uhmm__trace_input_open(const char *path, struct trace_input **out)
{
	struct trace_input *in = calloc(1, sizeof(*in));
	struct stat st;
	int err = -ENOMEM;

	if (!in)
		return -ENOMEM;
	in->fd = -1;
	in->raw_cap = ZSTD_DStreamInSize();
	in->buf = calloc(1, TRACE_BUF_SIZE + TRACE_BUF_SLACK);
	in->raw = malloc(in->raw_cap);
	if (!in->buf || !in->raw)
		goto fail;
	if (!strcmp(path, "-")) {
		in->fd = STDIN_FILENO;
	} else {
		in->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (in->fd < 0) {
			err = -errno;
			goto fail;
		}
	}
	if (fstat(in->fd, &st))
		st.st_mode = 0;
	err = -EISDIR;
	if (S_ISDIR(st.st_mode))
		goto fail;
	if (S_ISREG(st.st_mode))
		in->size = (uint64_t)st.st_size;
	*out = in;
	return 0;
fail:
	uhmm__trace_input_close(in);
	return err;
}

void uhmm__trace_input_close(struct trace_input *in)
{
	if (!in)
		return;
	if (in->fd > STDIN_FILENO)
		close(in->fd);
	ZSTD_freeDCtx(in->zd);
	free(in->raw);
	free(in->buf);
	free(in);
}

bool uhmm__trace_input_compressed(const struct trace_input *in)
{
	return in->zstd;
}

const char *uhmm__trace_input_error(const struct trace_input *in)
{
	return in->error;
}

static ssize_t read_some(struct trace_input *in, void *p, size_t n)
{
	ssize_t got;

	do {
		got = read(in->fd, p, n);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		in->err = -errno;
	else
		in->taken += (uint64_t)got;
	return got;
}

static int fill_raw(struct trace_input *in)
{
	ssize_t got = read_some(in, in->raw, in->raw_cap);

	if (got < 0)
		return in->err;
	in->raw_pos = 0;
	in->raw_len = (size_t)got;
	if (!got)
		in->raw_eof = true;
	return 0;
}

static int damaged(struct trace_input *in, const char *why)
{
	in->error = why;
	in->err = -EINVAL;
	return in->err;
}

/* What people have that is no text yet. */
static int foreign(struct trace_input *in)
{
	static const struct {
		const char *magic, *why;
	} kinds[] = {
		{ "PERFILE2",
		  "this is a perf.data file: turn it into text with `perf script -i FILE "
		  "--show-mmap-events --show-task-events -F +pid,+tid,+addr`" },
		{ "\x1f\x8b", "this is gzip data: decompress it first" },
		{ "\xfd\x37zXZ", "this is xz data: decompress it first" },
		{ "BZh91AY&SY", "this is bzip2 data: decompress it first" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t len = strlen(kinds[i].magic);

		if (in->raw_len >= len && !memcmp(in->raw, kinds[i].magic, len))
			return damaged(in, kinds[i].why);
	}
	return 0;
}

/* Reads the first bytes, which tell whether they are compressed. */
static int input_start(struct trace_input *in)
{
	static const unsigned char magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };
	static const unsigned char skippable[3] = { 0x2a, 0x4d, 0x18 };

	in->started = true;
	/* A pipe may bring less than the magic number at a time. */
	while (in->raw_len < 4) {
		ssize_t got = read_some(in, in->raw + in->raw_len, in->raw_cap - in->raw_len);

		if (got < 0)
			return in->err;
		if (!got) {
			in->raw_eof = true;
			break;
		}
		in->raw_len += (size_t)got;
	}
	if (in->raw_len < 4)
		return 0;
	in->zstd = !memcmp(in->raw, magic, 4) ||
		   ((in->raw[0] & 0xf0) == 0x50 && !memcmp(in->raw + 1, skippable, 3));
	if (in->zstd) {
		in->zd = ZSTD_createDCtx();
		if (!in->zd) {
			in->err = -ENOMEM;
			return in->err;
		}
		return 0;
	}
	return foreign(in);
}

static int fill_zstd(struct trace_input *in, size_t room, size_t *added)
{
	ZSTD_outBuffer out = { in->buf + in->end, room, 0 };

	while (!out.pos) {
		ZSTD_inBuffer src;
		size_t left;

		if (in->raw_pos == in->raw_len && !in->raw_eof && fill_raw(in))
			return in->err;
		src = (ZSTD_inBuffer){ in->raw, in->raw_len, in->raw_pos };
		left = ZSTD_decompressStream(in->zd, &out, &src);
		in->raw_pos = src.pos;
		if (ZSTD_isError(left))
			return damaged(in,
				       "the zstd data is damaged: record or copy the file again");
		if (src.size || out.pos)
			in->in_frame = left != 0;
		if (in->raw_eof && !out.pos) {
			if (in->in_frame)
				return damaged(in, "the zstd data ends too early: the file was cut "
						   "short, copy it again");
			in->eof = true;
			break;
		}
	}
	*added = out.pos;
	return 0;
}

static int fill_plain(struct trace_input *in, size_t room, size_t *added)
{
	size_t n = in->raw_len - in->raw_pos;
	ssize_t got;

	if (n) { /* what input_start() read */
		if (n > room)
			n = room;
		memcpy(in->buf + in->end, in->raw + in->raw_pos, n);
		in->raw_pos += n;
		*added = n;
		return 0;
	}
	got = in->raw_eof ? 0 : read_some(in, in->buf + in->end, room);
	if (got < 0)
		return in->err;
	if (!got)
		in->eof = true;
	*added = (size_t)got;
	return 0;
}

/* More text behind what is there; sets eof when there is none. */
static int fill(struct trace_input *in)
{
	size_t added = 0, room;
	int err;

	if (in->err)
		return in->err;
	if (!in->started) {
		err = input_start(in);
		if (err)
			return err;
	}
	if (in->start) {
		memmove(in->buf, in->buf + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	room = TRACE_BUF_SIZE - in->end;
	if (!room)
		return 0;
	err = in->zstd ? fill_zstd(in, room, &added) : fill_plain(in, room, &added);
	if (err)
		return err;
	in->end += added;
	return 0;
}

int uhmm__trace_input_peek(struct trace_input *in, const char **text, size_t *len)
{
	while (!in->eof && in->end - in->start < TRACE_PEEK) {
		int err = fill(in);

		/* Damage behind some text is told when the reading gets there. */
		if (err && in->end == in->start)
			return err;
		if (err)
			break;
	}
	*text = in->buf + in->start;
	*len = in->end - in->start;
	return 0;
}

ssize_t uhmm__trace_input_bytes(struct trace_input *in, size_t want, const unsigned char **p)
{
	while (!in->eof && in->end - in->start < want) {
		int err = fill(in);

		if (err)
			return err;
	}
	*p = (const unsigned char *)in->buf + in->start;
	return (ssize_t)MIN(want, in->end - in->start);
}

void uhmm__trace_input_skip(struct trace_input *in, size_t n)
{
	in->start += n;
}

void uhmm__trace_input_position(const struct trace_input *in, uint64_t *done, uint64_t *size)
{
	*done = in->taken - (in->raw_len - in->raw_pos) - (in->zstd ? 0 : in->end - in->start);
	*size = in->size;
}

static void cut_line(struct trace_input *in, struct trace_line *line, char *end)
{
	line->s = in->buf + in->start;
	line->len = (size_t)(end - line->s);
	line->too_long = false;
	*end = '\0';
	if (line->len && end[-1] == '\r') {
		end[-1] = '\0';
		line->len--;
	}
}

int uhmm__trace_input_line(struct trace_input *in, struct trace_line *line)
{
	size_t seen = 0;

	for (;;) {
		char *s = in->buf + in->start;
		size_t n = in->end - in->start;
		char *nl = memchr(s + seen, '\n', n - seen);
		int err;

		/* The byte behind the line tells whether it goes on; see tab_next. */
		if (likely(nl && !in->dropping && (nl + 1 < s + n || in->eof))) {
			cut_line(in, line, nl);
			line->whole = true;
			line->tab_next = nl + 1 < s + n && nl[1] == '\t';
			in->start = (size_t)(nl + 1 - in->buf);
			return 1;
		}
		if (in->dropping) {
			in->start = nl ? (size_t)(nl + 1 - in->buf) : in->end;
			if (nl) {
				in->dropping = false;
				seen = 0;
				continue;
			}
			n = 0;
		} else if (!nl && n >= TRACE_LINE_MAX) {
			in->dropping = true;
			in->start += n;
			*line = (struct trace_line){ .s = s, .len = 80, .too_long = true };
			s[80] = '\0';
			return 1;
		}
		if (in->eof) {
			if (!n)
				return 0;
			cut_line(in, line, s + n);
			line->whole = line->tab_next = false;
			in->start = in->end;
			return 1;
		}
		seen = nl ? (size_t)(nl - s) : n;
		err = fill(in);
		if (err)
			return err;
	}
}
