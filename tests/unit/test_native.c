// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_native.c - the native trace format: what goes in comes out again, in both forms; what is
 * damaged, cut short, or of another version is told; what is merely newer is skipped.
 */
#include <uhmm/trace_write.h>

#include "replay/native.h"
#include "unit/trace_support.h"

#define START 0x7f0000000000ULL
#define PAGE 4096ULL

/* One event of each kind, all fields set, and some at the ends of what they can be. */
static const struct uhmm_trace_event all_kinds[] = {
	{ .t_ns = 0,
	  .kind = UHMM_TRACE_MM_NEW,
	  .cpu = -1,
	  .tid = 7,
	  .tgid = 7,
	  .mm = 1,
	  .mm_new = { UHMM_TRACE_EXEC, 0 } },
	{ .t_ns = 5,
	  .kind = UHMM_TRACE_TASK,
	  .cpu = 3,
	  .tid = 7,
	  .tgid = 7,
	  .mm = 1,
	  .task = { UHMM_TRACE_EXEC, "a name\\ with=\t\x01 \xc3\xa4" } },
	{ .t_ns = 5,
	  .kind = UHMM_TRACE_OBJ,
	  .cpu = 3,
	  .obj = { 1, UHMM_TRACE_OBJ_FILE, 0xfe, 0x12, UINT64_MAX, "/dev/zero (deleted)" } },
	{ .t_ns = 5,
	  .kind = UHMM_TRACE_OBJ,
	  .cpu = 3,
	  .obj = { .id = 2, .kind = UHMM_TRACE_OBJ_SHMEM } },
	{ .t_ns = 6,
	  .kind = UHMM_TRACE_MAP,
	  .cpu = 0,
	  .tid = 7,
	  .tgid = 7,
	  .mm = 1,
	  .map = { UHMM_TRACE_MAP_SHARED | UHMM_TRACE_MAP_DERIVED | 1u << 30, 7, START,
		   START + 9 * PAGE, 1ULL << 50, 2 } },
	{ .t_ns = 6,
	  .kind = UHMM_TRACE_MAP,
	  .tid = 7,
	  .tgid = 7,
	  .mm = 1,
	  .map = { 0, 0, PAGE, 2 * PAGE, 1, 0 } },
	{ .t_ns = 7,
	  .kind = UHMM_TRACE_PROT,
	  .tid = 7,
	  .tgid = 7,
	  .mm = 1,
	  .prot = { 5, -1, START, START + PAGE } },
	{ .t_ns = 7,
	  .kind = UHMM_TRACE_PROT,
	  .tid = 7,
	  .tgid = 7,
	  .mm = 1,
	  .prot = { 0, 15, START, START + PAGE } },
	{ .t_ns = 8,
	  .kind = UHMM_TRACE_MOVE,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .move = { 7, START, START + PAGE, START + 20 * PAGE, START + 22 * PAGE } },
	{ .t_ns = 9,
	  .kind = UHMM_TRACE_ADVISE,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .advise = { UHMM_TRACE_ADV_MLOCKALL, -ENOMEM, 0, ~0xfffULL, 3 } },
	{ .t_ns = 10,
	  .kind = UHMM_TRACE_TRUNC,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .trunc = { 2, 1, ~0ULL } },
	{ .t_ns = 11,
	  .kind = UHMM_TRACE_FAULT,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .fault = { .access = UHMM_TRACE_ACCESS_WRITE,
		     .mode = UHMM_TRACE_MODE_USER,
		     .present = UHMM_TRACE_YES,
		     .error_code = 7,
		     .addr = START + 8,
		     .ip = 0x401000 } },
	{ .t_ns = 11,
	  .kind = UHMM_TRACE_FAULT,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .fault = { .access = UHMM_TRACE_ACCESS_WRITE,
		     .error_code = 6,
		     .order = 9,
		     .addr = START + 8,
		     .ip = 0x401000 } },
	{ .t_ns = 11,
	  .kind = UHMM_TRACE_FAULT_MAJOR,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .fault = { .major = UHMM_TRACE_YES, .addr = START + 8 } },
	{ .t_ns = ~0ULL - 1,
	  .kind = UHMM_TRACE_FAULT,
	  .cpu = INT32_MAX,
	  .tid = INT32_MAX,
	  .tgid = INT32_MAX,
	  .mm = 1,
	  .fault = { .access = UHMM_TRACE_ACCESS_EXEC,
		     .mode = UHMM_TRACE_MODE_KERNEL,
		     .present = UHMM_TRACE_NO,
		     .major = UHMM_TRACE_NO,
		     .failed = UHMM_TRACE_YES,
		     .order = 9,
		     .source = UINT16_MAX,
		     .error_code = UINT32_MAX,
		     .addr = ~0ULL,
		     .ip = ~0ULL } },
	{ .t_ns = ~0ULL, .kind = UHMM_TRACE_FAULT, .cpu = 0, .tid = 8, .tgid = 7, .mm = 1 },
	{ .t_ns = ~0ULL,
	  .kind = UHMM_TRACE_MIGRATE,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .migrate = { 5, 1, UINT16_MAX, START, START + PAGE } },
	{ .t_ns = ~0ULL,
	  .kind = UHMM_TRACE_TOUCH,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .touch = { UHMM_TRACE_ACCESS_READ, 4096, START, ~0ULL } },
	{ .t_ns = ~0ULL, .kind = UHMM_TRACE_LOST, .lost = { 12 } },
	{ .t_ns = ~0ULL,
	  .kind = UHMM_TRACE_MARK,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .mark = { "two words" } },
	{ .t_ns = ~0ULL,
	  .kind = UHMM_TRACE_UNMAP,
	  .tid = 8,
	  .tgid = 7,
	  .mm = 1,
	  .unmap = { START, START + PAGE } },
	{ .t_ns = ~0ULL,
	  .kind = UHMM_TRACE_MM_NEW,
	  .tid = 9,
	  .tgid = 9,
	  .mm = UINT32_MAX,
	  .mm_new = { UHMM_TRACE_FORK, 1 } },
	{ .t_ns = ~0ULL, .kind = UHMM_TRACE_TASK_EXIT, .tid = 8, .tgid = 7, .mm = 1 },
	{ .t_ns = ~0ULL, .kind = UHMM_TRACE_MM_DEL, .tid = 8, .tgid = 7, .mm = 1 },
};
#define NR_ALL (sizeof(all_kinds) / sizeof(all_kinds[0]))

static const struct uhmm_trace_caps some_caps = { .has_rw = true, .has_cpu = true };

static const enum uhmm_trace_format forms[] = { UHMM_TRACE_FORMAT_TEXT, UHMM_TRACE_FORMAT_BINARY };

static struct uhmm_trace_writer *create(const char *path, enum uhmm_trace_format form, int level)
{
	struct uhmm_trace_write_options opt = {
		sizeof(opt), form, level, { "a tool, 2.0", UHMM_TRACE_CLOCK_BOOTTIME, 47 }
	};
	struct uhmm_trace_writer *w;

	ck_assert_int_eq(uhmm_trace_create(path, &opt, &w), 0);
	return w;
}

static void write_all_kinds(const char *path, enum uhmm_trace_format form, int level)
{
	struct uhmm_trace_writer *w = create(path, form, level);
	struct uhmm_trace_stats stats = { .source_lines = 1234, .unsampled = 5, .failed_calls = 6 };
	struct uhmm_trace_caps caps = some_caps;

	for (size_t i = 0; i < NR_ALL; i++)
		ck_assert_int_eq(uhmm_trace_write(w, &caps, &all_kinds[i]), 0);
	caps.has_major = true;
	ck_assert_int_eq(uhmm_trace_finish(w, &caps, &stats), 0);
}

static void same_text(const char *a, const char *b)
{
	ck_assert_str_eq(a ? a : "", b ? b : "");
}

static void same_event(const struct uhmm_trace_event *a, const struct uhmm_trace_event *b)
{
	struct uhmm_trace_event x = *a, y = *b;

	ck_assert_uint_eq(x.kind, y.kind);
	if (x.kind == UHMM_TRACE_TASK) {
		same_text(x.task.comm, y.task.comm);
		x.task.comm = y.task.comm = NULL;
	} else if (x.kind == UHMM_TRACE_OBJ) {
		same_text(x.obj.name, y.obj.name);
		x.obj.name = y.obj.name = NULL;
	} else if (x.kind == UHMM_TRACE_MARK) {
		same_text(x.mark.text, y.mark.text);
		x.mark.text = y.mark.text = NULL;
	}
	ck_assert_mem_eq(&x, &y, sizeof(x));
}

/* All bytes of a file, which the caller frees. */
static unsigned char *slurp(const char *path, size_t *len)
{
	unsigned char *data = malloc(1 << 20);
	FILE *f = fopen(path, "re");

	ck_assert(data && f);
	*len = fread(data, 1, 1 << 20, f);
	fclose(f);
	return data;
}

static char *temp_path(void)
{
	static char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/uhmm-native-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	return path;
}

START_TEST(test_round_trip)
{
	enum uhmm_trace_format form = forms[_i / 2];
	const char *path = temp_path();
	struct uhmm_trace_reader *r;
	struct uhmm_trace_event ev;

	write_all_kinds(path, form, _i % 2 ? 3 : 0);
	r = open_path(path, false);
	for (size_t i = 0; i < NR_ALL; i++) {
		ck_assert_int_eq(uhmm_trace_next(r, &ev), 1);
		same_event(&ev, &all_kinds[i]);
		ck_assert(uhmm_trace_caps(r)->has_rw && !uhmm_trace_caps(r)->has_major);
	}
	ck_assert_int_eq(uhmm_trace_next(r, &ev), 0);
	ck_assert_ptr_null(uhmm_trace_error(r));
	ck_assert(uhmm_trace_caps(r)->has_cpu && uhmm_trace_caps(r)->has_major);
	ck_assert(!uhmm_trace_caps(r)->has_unmap);
	ck_assert_uint_eq(uhmm_trace_caps(r)->format, form);
	ck_assert_int_eq(uhmm_trace_caps(r)->compressed, _i % 2);
	ck_assert_uint_eq(uhmm_trace_stats(r)->source_lines, 1234);
	ck_assert_uint_eq(uhmm_trace_stats(r)->unsampled, 5);
	ck_assert_uint_eq(uhmm_trace_stats(r)->failed_calls, 6);
	ck_assert_uint_eq(uhmm_trace_stats(r)->lost, 12);
	ck_assert_str_eq(uhmm_trace_origin(r)->tool, "a tool, 2.0");
	ck_assert_uint_eq(uhmm_trace_origin(r)->clock, UHMM_TRACE_CLOCK_BOOTTIME);
	ck_assert_uint_eq(uhmm_trace_origin(r)->va_bits, 47);
	uhmm_trace_close(r);
	unlink(path);
}
END_TEST

/* The @n-th of many faults. */
static void next_fault(struct uhmm_trace_event *ev, unsigned int n)
{
	ev->kind = UHMM_TRACE_FAULT;
	ev->mm = 1;
	ev->t_ns += n * 7919 % 100000;
	ev->tid = ev->tgid = 1 + (int32_t)(n / 7 % 3);
	ev->fault.addr = START + (n * 2654435761u >> 3);
	ev->fault.ip = n * 0x9e3779b97f4a7c15ULL;
	ev->fault.access = n & 3;
}

/* More than a block, so that blocks begin anew. */
START_TEST(test_many)
{
	const char *path = temp_path();
	struct uhmm_trace_writer *w = create(path, forms[_i], 1);
	struct uhmm_trace_event ev = { 0 }, got;
	struct uhmm_trace_stats stats = { 0 };
	struct uhmm_trace_reader *r;
	enum { NR = 30000 };

	ck_assert_int_eq(uhmm_trace_write(w, &some_caps, &all_kinds[0]), 0);
	for (unsigned int n = 0; n < NR; n++) {
		next_fault(&ev, n);
		ck_assert_int_eq(uhmm_trace_write(w, &some_caps, &ev), 0);
	}
	ck_assert_int_eq(uhmm_trace_finish(w, &some_caps, &stats), 0);
	memset(&ev, 0, sizeof(ev));
	r = open_path(path, false);
	ck_assert_int_eq(uhmm_trace_next(r, &got), 1);
	for (unsigned int n = 0; n < NR; n++) {
		next_fault(&ev, n);
		ck_assert_int_eq(uhmm_trace_next(r, &got), 1);
		ck_assert_mem_eq(&got, &ev, sizeof(ev));
	}
	ck_assert_int_eq(uhmm_trace_next(r, &got), 0);
	ck_assert_uint_eq(uhmm_trace_stats(r)->source_lines, uhmm_trace_stats(r)->lines);
	uhmm_trace_close(r);
	unlink(path);
}
END_TEST

/* ---- what a writer refuses ---- */

static const struct uhmm_trace_event refused[] = {
	{ .t_ns = 10 },
	{ .t_ns = 10, .kind = UHMM_TRACE_NR_KINDS },
	{ .t_ns = 9, .kind = UHMM_TRACE_FAULT, .mm = 2 },
	{ .t_ns = 10, .kind = UHMM_TRACE_FAULT, .mm = 3 },
	{ .t_ns = 10, .kind = UHMM_TRACE_MM_NEW, .mm = 2 },
	{ .t_ns = 10, .kind = UHMM_TRACE_MM_NEW, .mm = 3, .mm_new = { UHMM_TRACE_FORK, 3 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_OBJ, .obj = { .id = 0 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_OBJ, .obj = { .id = 2 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_MAP, .mm = 2, .map = { 0, 8, START, START + PAGE, 0, 0 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_MAP, .mm = 2, .map = { 0, 0, START, START + PAGE, 0, 1 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_MAP, .mm = 2, .map = { 0, 0, START, START, 0, 0 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_UNMAP, .mm = 2, .unmap = { START, START + 1 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_PROT, .mm = 2, .prot = { 0, 0, START + 1, START + PAGE } },
	{ .t_ns = 10,
	  .kind = UHMM_TRACE_MOVE,
	  .mm = 2,
	  .move = { 0, START, START + PAGE, START, START } },
	{ .t_ns = 10, .kind = UHMM_TRACE_ADVISE, .mm = 2, .advise = { 4, 0, PAGE, 0, 0 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_TRUNC, .mm = 2, .trunc = { 0, 0, PAGE } },
	{ .t_ns = 10, .kind = UHMM_TRACE_TRUNC, .mm = 2, .trunc = { 1, 0, PAGE } },
	{ .t_ns = 10, .kind = UHMM_TRACE_TOUCH, .mm = 2, .touch = { 0, 0, START, 1 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_TOUCH, .mm = 2, .touch = { 0, 4097, START, 1 } },
	{ .t_ns = 10, .kind = UHMM_TRACE_TOUCH, .mm = 2, .touch = { 0, 8, START, 0 } },
};

START_TEST(test_refused)
{
	const struct uhmm_trace_event begin = { .t_ns = 10, .kind = UHMM_TRACE_MM_NEW, .mm = 2 };
	const char *path = temp_path();
	struct uhmm_trace_writer *w = create(path, UHMM_TRACE_FORMAT_BINARY, 0);

	ck_assert_int_eq(uhmm_trace_write(w, &some_caps, &begin), 0);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		ck_assert_msg(uhmm_trace_write(w, &some_caps, &refused[i]) == -EINVAL, "%zu", i);
	uhmm_trace_discard(w);
	unlink(path);
}
END_TEST

START_TEST(test_create_errors)
{
	struct uhmm_trace_write_options opt = { sizeof(opt), UHMM_TRACE_FORMAT_TEXT, 0, { 0 } };
	struct uhmm_trace_stats stats = { 0 };
	struct uhmm_trace_writer *w = NULL;
	struct uhmm_trace_event ev = { .kind = UHMM_TRACE_LOST };
	int err = 0;

	ck_assert_int_eq(uhmm_trace_create("/nonexistent/x", &opt, &w), -ENOENT);
	ck_assert_int_eq(uhmm_trace_create("/", &opt, &w), -EISDIR);
	ck_assert_int_eq(uhmm_trace_create(NULL, &opt, &w), -EINVAL);
	ck_assert_int_eq(uhmm_trace_create("x", NULL, &w), -EINVAL);
	ck_assert_int_eq(uhmm_trace_create("x", &opt, NULL), -EINVAL);
	opt.level = 20;
	ck_assert_int_eq(uhmm_trace_create("x", &opt, &w), -EINVAL);
	opt.level = 0;
	opt.format = UHMM_TRACE_FORMAT_PERF;
	ck_assert_int_eq(uhmm_trace_create("x", &opt, &w), -EINVAL);
	opt.format = UHMM_TRACE_FORMAT_TEXT;
	opt.size--;
	ck_assert_int_eq(uhmm_trace_create("x", &opt, &w), -EINVAL);
	ck_assert_ptr_null(w);
	uhmm_trace_discard(NULL);

	/* A full disk shows when the buffer goes out, and stays. */
	w = create("/dev/full", UHMM_TRACE_FORMAT_TEXT, 0);
	for (unsigned int i = 0; i < 100000 && !err; i++) {
		ev.lost.count = i;
		err = uhmm_trace_write(w, &some_caps, &ev);
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_int_eq(uhmm_trace_finish(w, &some_caps, &stats), -ENOSPC);
}
END_TEST

/* What is there stays until the new trace is complete. */
START_TEST(test_replaces_at_the_end)
{
	const char *path = temp_path();
	struct uhmm_trace_writer *w;
	unsigned char *before, *after;
	size_t n, m;

	write_all_kinds(path, UHMM_TRACE_FORMAT_TEXT, 0);
	before = slurp(path, &n);
	w = create(path, UHMM_TRACE_FORMAT_BINARY, 0);
	ck_assert_int_eq(uhmm_trace_write(w, &some_caps, &all_kinds[0]), 0);
	uhmm_trace_discard(w);
	after = slurp(path, &m);
	ck_assert_uint_eq(n, m);
	ck_assert_mem_eq(before, after, n);
	free(before);
	free(after);
	unlink(path);
}
END_TEST

/* ---- damage ---- */

/* Reads bytes as a trace to its end; the result, and the message in *@why, to be freed. */
static int read_bytes(const void *data, size_t len, bool keep_going, char **why)
{
	char path[64];
	int fd = text_file(data, len, path), ret;
	struct uhmm_trace_reader *r = open_path(path, keep_going);
	struct uhmm_trace_event ev;

	while ((ret = uhmm_trace_next(r, &ev)) > 0)
		;
	ck_assert_int_eq(uhmm_trace_next(r, &ev), ret);
	if (why)
		*why = strdup(uhmm_trace_error(r)	   ? uhmm_trace_error(r)
			      : uhmm_trace_malformed(r, 0) ? uhmm_trace_malformed(r, 0)
							   : "");
	uhmm_trace_close(r);
	close(fd);
	return ret;
}

static unsigned char *all_bytes(enum uhmm_trace_format form, size_t *len)
{
	const char *path = temp_path();
	unsigned char *data;

	write_all_kinds(path, form, 0);
	data = slurp(path, len);
	unlink(path);
	return data;
}

/* Wherever the file is cut, that is noticed. */
START_TEST(test_cut_short)
{
	size_t len;
	unsigned char *data = all_bytes(forms[_i], &len);

	ck_assert_int_eq(read_bytes(data, len, false, NULL), 0);
	for (size_t n = 0; n < len; n++)
		ck_assert_msg(read_bytes(data, n, false, NULL) == -EINVAL, "cut at %zu", n);
	free(data);
}
END_TEST

/* Whatever bit of the binary form is wrong, that is noticed. */
START_TEST(test_bit_errors)
{
	size_t len;
	unsigned char *data = all_bytes(UHMM_TRACE_FORMAT_BINARY, &len);

	for (size_t i = 0; i < len; i++) {
		unsigned char good = data[i];

		if (i == 11) /* spare */
			continue;
		data[i] = good ^ (unsigned char)(1u << i % 8);
		ck_assert_msg(read_bytes(data, len, false, NULL) == -EINVAL, "byte %zu", i);
		data[i] = good;
	}
	free(data);
}
END_TEST

START_TEST(test_behind_the_end)
{
	size_t len;
	unsigned char *data = all_bytes(forms[_i], &len);
	char *why;

	memcpy(data + len, "MARK 1 0 0 0 0\n", 15);
	ck_assert_int_eq(read_bytes(data, len + 15, false, &why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "follows"));
	free(why);
	free(data);
}
END_TEST

/* With keep_going a block that is damaged is left out, and what is whole is read. */
START_TEST(test_skips_a_block)
{
	size_t len;
	unsigned char *data = all_bytes(UHMM_TRACE_FORMAT_BINARY, &len);
	char *why;

	data[NATIVE_PREAMBLE_BYTES + NATIVE_BLOCK_BYTES + 20] ^= 1;
	ck_assert_int_eq(read_bytes(data, len, true, &why), 0);
	ck_assert_ptr_nonnull(strstr(why, ": byte 16: the checksum"));
	free(why);
	free(data);
}
END_TEST

static const struct {
	size_t at;
	unsigned char byte;
	const char *says;
} heads[] = {
	{ 0, 0, "not recognised" },
	{ 8, 2, "byte 8: the format has version 2" },
	{ 10, 13, "byte 10: pages of 2^13" },
	{ 12, 4, "byte 12: the trace requires capabilities that this program lacks (bits 0x4)" },
	{ 15, 128, "byte 12: the trace requires" },
	{ 18, 0xff, "byte 16: this is not the head of a block" },
};

START_TEST(test_heads)
{
	size_t len;
	unsigned char *data = all_bytes(UHMM_TRACE_FORMAT_BINARY, &len);
	char *why;

	data[heads[_i].at] = heads[_i].byte;
	ck_assert_int_eq(read_bytes(data, len, true, &why), -EINVAL);
	ck_assert_msg(strstr(why, heads[_i].says) != NULL, "%s", why);
	free(why);
	free(data);
}
END_TEST

/* ---- what a later version may add ---- */

/* A trace of one block with this payload. */
static size_t block(unsigned char *out, const void *payload, size_t len)
{
	static const unsigned char preamble[NATIVE_PREAMBLE_BYTES] = NATIVE_MAGIC "\x01\x00\x0c";
	unsigned char *head = out + NATIVE_PREAMBLE_BYTES;
	struct native_sum sum = native_block_sum(payload, len);

	memcpy(out, preamble, NATIVE_PREAMBLE_BYTES);
	native_put32(head, (uint32_t)len);
	native_put32(head + 4, sum.a);
	native_put32(head + 8, sum.b);
	memcpy(head + NATIVE_BLOCK_BYTES, payload, len);
	return NATIVE_PREAMBLE_BYTES + NATIVE_BLOCK_BYTES + len;
}

static const struct {
	int ret;
	size_t len;
	const char *payload, *says;
} payloads[] = {
#define PAYLOAD(ret, bytes, says)                                                                  \
	{                                                                                          \
		ret, sizeof(bytes) - 1, bytes, says                                                \
	}
	/* LOST at 5 ns, count 3; END, one event. */
	PAYLOAD(0,
		"\x03\x10\x05\x03"
		"\x02\x43\x01",
		""),
	/* An unknown kind, then the same; fields behind those that are known; fields missing. */
	PAYLOAD(0,
		"\x04\x7f\x01\x02\x03"
		"\x03\x10\x05\x03"
		"\x02\x43\x01",
		""),
	PAYLOAD(0,
		"\x04\x7f\x01\x02\x03"
		"\x03\x10\x05\x03"
		"\x02\x43\x02",
		""),
	PAYLOAD(0,
		"\x05\xff\xff\x03\x02\x03"
		"\x03\x10\x05\x03"
		"\x02\x43\x01",
		""),
	PAYLOAD(0,
		"\x06\x10\x05\x03\x81\x81\x01"
		"\x02\x43\x01",
		""),
	PAYLOAD(0,
		"\x01\x10"
		"\x02\x43\x01",
		""),
	/* More capabilities than are known, a clock that is not. */
	PAYLOAD(0,
		"\x05\x41\xff\xff\xff\x7f"
		"\x02\x40\x30"
		"\x01\x43",
		""),
	/* A record longer than the block; no length; a number that does not end; one too long. */
	PAYLOAD(-EINVAL, "\x09\x10\x05\x03", "byte 28: the length of a record"),
	PAYLOAD(-EINVAL, "\x00\x10\x05\x03", "byte 28: the length of a record"),
	PAYLOAD(-EINVAL,
		"\x03\x10\x05\x83"
		"\x01\x43",
		"byte 28: a number out of range, or cut"),
	PAYLOAD(-EINVAL,
		"\x0c\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01"
		"\x01\x43",
		"a number out of range"),
	PAYLOAD(-EINVAL,
		"\x07\x42\x00\x00\x00\xff\xff\xff"
		"\x01\x43",
		"a number out of range"),
	/* Answers that are none, names longer than they are. */
	PAYLOAD(-EINVAL,
		"\x03\x0c\x00\x0c"
		"\x01\x43",
		"a number out of range"),
	PAYLOAD(-EINVAL,
		"\x04\x11\x00\x05"
		"a"
		"\x01\x43",
		"a number out of range"),
	PAYLOAD(-EINVAL,
		"\x06\x0c\x00\x0c\x02\x02\x01"
		"\x01\x43",
		"a number out of range"),
	/* An address space that was not declared; another number of events than announced. */
	PAYLOAD(-EINVAL,
		"\x05\x42\x00\x02\x02\x01"
		"\x06\x0c\x00\x09\x02\x02\x01"
		"\x01\x43",
		"MM_NEW"),
	PAYLOAD(-EINVAL,
		"\x05\x42\x00\x02\x02\x01"
		"\x02\x0c\x00"
		"\x01\x43",
		"MM_NEW"),
	PAYLOAD(-EINVAL,
		"\x03\x10\x05\x03"
		"\x02\x43\x02",
		"another number of events"),
	PAYLOAD(-EINVAL,
		"\x01\x43"
		"\x03\x10\x05\x03",
		"something follows the end"),
	PAYLOAD(-EINVAL, "\x03\x10\x05\x03", "byte 32: the trace ends without its END"),
#undef PAYLOAD
};

START_TEST(test_payloads)
{
	unsigned char data[256];
	size_t len = block(data, payloads[_i].payload, payloads[_i].len);
	char *why;

	ck_assert_int_eq(read_bytes(data, len, false, &why), payloads[_i].ret);
	ck_assert_msg(strstr(why, payloads[_i].says) != NULL, "%s", why);
	free(why);
	ck_assert_int_eq(read_bytes(data, len, true, NULL), 0);
}
END_TEST

#define HEAD "uhmm-trace 1\n"
#define NEW "MM_NEW 1 0 1 1 1 exec\n"

static const struct {
	int ret;
	const char *text, *says;
} texts[] = {
	{ 0, HEAD "LOST 5 0 0 0 0 3\nEND events=1\n", "" },
	/* What a later version may add: keys, kinds, flags, words. */
	{ 0, "uhmm-trace 1 colour=blue clock=atomic\nCAPS rw psychic\nEND future=1 lines=3\n", "" },
	{ 0, HEAD "# comment\n\nTELEPORT 1 2 3\n" NEW "END events=1\n", "" },
	{ 0, HEAD "TELEPORT 1 2 3\n" NEW "END events=2\n", "" },
	{ 0, HEAD NEW "FAULT 2 0 1 1 1 1000 wu- colour=blue ip=5\nEND events=2\n", "" },
	{ 0, HEAD NEW "MAP 2 0 1 1 1 1000-2000 rw- anon,sparkling\nEND events=2\n", "" },
	{ 0, HEAD "OBJ 2 0 0 0 0 1 cassette 0:0 5 name=x\nEND events=1\n", "" },
	/* Of which some are too much. */
	{ -EINVAL, "uhmm-trace 2\nEND\n", ":1: the format has version 2" },
	{ -EINVAL, "uhmm-trace x\nEND\n", ":1: expected 'uhmm-trace VERSION" },
	{ -EINVAL, "uhmm-trace 1 requires=time-travel\nEND\n", "lacks (time-travel)" },
	{ -EINVAL, "uhmm-trace 1 page_size=16384\nEND\n", ":1: pages of 16384 bytes" },
	/* Errors name line and form. */
	{ -EINVAL, HEAD "FAULT 1 0 1 1\n", ":2: expected 'FAULT TIME CPU TID TGID MM ...'" },
	{ -EINVAL, HEAD "FAULT x 0 1 1 0\n", ":2: expected 'FAULT TIME" },
	{ 0, HEAD "LOST 0 0 0 0 0 18446744073709551615\nEND events=1\n", "" },
	{ -EINVAL, HEAD "LOST 0 0 0 0 0 18446744073709551616\n", ":2: LOST: expected" },
	{ -EINVAL, HEAD "LOST 0 0 0 0 0 20000000000000000000\n", ":2: LOST: expected" },
	{ -EINVAL, HEAD "LOST 0 0 0 0 0 100000000000000000000\n", ":2: LOST: expected" },
	{ -EINVAL, HEAD "MAP 1 0 0 0 0 1000 rw- -\n", ":2: MAP: expected 'START-END rwx" },
	{ -EINVAL, HEAD "MAP 1 0 0 0 0 1000-2000 rwz -\n", ":2: MAP: expected" },
	{ -EINVAL, HEAD "MAP 1 0 0 0 0 1000-2000 rw- 0xg\n", ":2: MAP: expected" },
	{ -EINVAL, HEAD "MAP 1 0 0 0 0 1000-2001 rw- -\n", ":2: a range must" },
	{ -EINVAL, HEAD "FAULT 1 0 0 0 0 1000 wux\n", ":2: FAULT: expected 'ADDRESS" },
	{ -EINVAL, HEAD "FAULT 1 0 0 0 0 1000 wu- order=256\n", ":2: FAULT: expected" },
	{ -EINVAL, HEAD "TOUCH 1 0 0 0 0 1000 w 4097\n", ":2: an access must have" },
	{ -EINVAL, HEAD NEW "LOST 0 0 0 0 0 1\n", ":3: time must not go back" },
	{ -EINVAL, HEAD NEW "MM_NEW 1 0 1 1 1 exec\n",
	  ":3: a new address space must have a higher" },
	{ -EINVAL, HEAD "what is this\n", ":2: not a line of a trace" },
	{ -EINVAL, HEAD NEW "END events=2\n", ":3: END: 2 events are announced, the trace has 1" },
	{ -EINVAL, HEAD "TELEPORT 1 2 3\n" NEW "END events=3\n", ":4: END: 3 events are" },
	{ -EINVAL, HEAD NEW "END events=0\n", ":3: END: 0 events are announced" },
	/* Who wrote it by hand did not count. */
	{ 0, HEAD NEW "END\n", "" },
	{ -EINVAL, HEAD NEW, ":2: the trace ends without END" },
	{ -EINVAL, HEAD "TOUCH 1 0 0 0 0 1000 w 8 repeat=0\n", "at least once" },
	{ -EINVAL, HEAD "END\nEND\n", ":3: something follows the END" },
};

START_TEST(test_texts)
{
	char *why;

	ck_assert_int_eq(read_bytes(texts[_i].text, strlen(texts[_i].text), false, &why),
			 texts[_i].ret);
	ck_assert_msg(strstr(why, texts[_i].says) != NULL, "%s", why);
	free(why);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("native");
	TCase *tc = tcase_create("native");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_loop_test(tc, test_round_trip, 0, 4);
	tcase_add_loop_test(tc, test_many, 0, 2);
	tcase_add_test(tc, test_refused);
	tcase_add_test(tc, test_create_errors);
	tcase_add_test(tc, test_replaces_at_the_end);
	tcase_add_loop_test(tc, test_cut_short, 0, 2);
	tcase_add_test(tc, test_bit_errors);
	tcase_add_loop_test(tc, test_behind_the_end, 0, 2);
	tcase_add_test(tc, test_skips_a_block);
	tcase_add_loop_test(tc, test_heads, 0, sizeof(heads) / sizeof(heads[0]));
	tcase_add_loop_test(tc, test_payloads, 0, sizeof(payloads) / sizeof(payloads[0]));
	tcase_add_loop_test(tc, test_texts, 0, sizeof(texts) / sizeof(texts[0]));
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
