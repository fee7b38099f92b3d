// SPDX-License-Identifier: LGPL-2.1-or-later
/* trace_output.c - bytes of a trace that is written: files and pipes, zstd or not. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "replay/native.h"

struct trace_output {
	int fd;
	int err;
	char *path;   /* where the file goes in the end */
	char *beside; /* where it is written, NULL: at its place */
	ZSTD_CCtx *zc;
	void *buf;
	size_t cap;
};

static void output_free(struct trace_output *o)
{
	if (o->fd > STDOUT_FILENO)
		close(o->fd);
	ZSTD_freeCCtx(o->zc);
	free(o->buf);
	free(o->beside);
	free(o->path);
	free(o);
}

/* The mode that open() would have given. */
static mode_t file_mode(const struct stat *st)
{
	mode_t mask;

	if (st)
		return st->st_mode & 07777;
	mask = umask(0);
	umask(mask);
	return 0666 & ~mask;
}

/* Opens a file beside @path unless that is a pipe, a device ...; 0 or a negative errno. */
static int open_file(struct trace_output *o, const char *path)
{
	struct stat st;
	bool exists = !stat(path, &st);

	if (exists && !S_ISREG(st.st_mode)) {
		o->fd = open(path, O_WRONLY | O_CLOEXEC);
		return o->fd < 0 ? -errno : 0;
	}
	if (exists && access(path, W_OK))
		return -errno;
	/* Through a symbolic link to what it names. */
	o->path = exists ? realpath(path, NULL) : strdup(path);
	if (!o->path || asprintf(&o->beside, "%s.XXXXXX", o->path) < 0) {
		o->beside = NULL;
		return -ENOMEM;
	}
	o->fd = mkostemp(o->beside, O_CLOEXEC);
	if (o->fd < 0) {
		int err = -errno;

		free(o->beside);
		o->beside = NULL;
		return err;
	}
	return fchmod(o->fd, file_mode(exists ? &st : NULL)) ? -errno : 0;
}

static int start_zstd(struct trace_output *o, int level)
{
	o->cap = ZSTD_CStreamOutSize();
	o->buf = malloc(o->cap);
	o->zc = ZSTD_createCCtx();
	if (!o->buf || !o->zc ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(o->zc, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(o->zc, ZSTD_c_checksumFlag, 1)))
		return -ENOMEM;
	return 0;
}

int uhmm__trace_output_open(const char *path, int level, struct trace_output **out)
{
	struct trace_output *o = calloc(1, sizeof(*o));
	int err;

	if (!o)
		return -ENOMEM;
	o->fd = STDOUT_FILENO;
	err = level ? start_zstd(o, level) : 0;
	if (!err && strcmp(path, "-") != 0)
		err = open_file(o, path);
	if (err) {
		if (o->beside)
			unlink(o->beside);
		output_free(o);
		return err;
	}
	*out = o;
	return 0;
}

static int write_all(struct trace_output *o, const void *data, size_t len)
{
	const char *p = data;

	while (len && !o->err) {
		ssize_t done = write(o->fd, p, len);

		if (done < 0 && errno != EINTR)
			o->err = -errno;
		if (done > 0) {
			p += done;
			len -= (size_t)done;
		}
	}
	return o->err;
}

static int compress(struct trace_output *o, const void *data, size_t len, ZSTD_EndDirective how)
{
	ZSTD_inBuffer in = { data, len, 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { o->buf, o->cap, 0 };

		left = ZSTD_compressStream2(o->zc, &out, &in, how);
		if (ZSTD_isError(left))
			o->err = -ENOMEM;
		else
			write_all(o, o->buf, out.pos);
	} while (!o->err && (in.pos < in.size || (how == ZSTD_e_end && left)));
	return o->err;
}

int uhmm__trace_output_write(struct trace_output *o, const void *data, size_t len)
{
	if (o->err || !len)
		return o->err;
	return o->zc ? compress(o, data, len, ZSTD_e_continue) : write_all(o, data, len);
}

int uhmm__trace_output_close(struct trace_output *o, bool keep)
{
	int err;

	if (keep && o->zc && !o->err)
		compress(o, NULL, 0, ZSTD_e_end);
	if (o->fd > STDOUT_FILENO && close(o->fd) && !o->err)
		o->err = -errno;
	o->fd = -1;
	if (o->beside && keep && !o->err && rename(o->beside, o->path))
		o->err = -errno;
	if (o->beside && (!keep || o->err))
		unlink(o->beside);
	err = o->err;
	output_free(o);
	return err;
}
