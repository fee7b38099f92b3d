// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_trace.c - the trace reader: shipped traces against counted figures, and damaged input
 * against the promise that nothing breaks. test_trace_events.c has what each line means.
 */
#include "unit/trace_support.h"

#include <zstd.h>

/* ---- shipped traces ---- */

struct figures {
	const char *name;
	uint64_t lines, faults, user, kernel, read, write, exec, present;
	uint64_t fork, vfork, thread, execs, exits;
	uint64_t events[UHMM_TRACE_NR_KINDS];
};

static const struct figures shipped[] = {
	{ .name = "t1",
	  .lines = 273,
	  .faults = 93,
	  .user = 85,
	  .kernel = 8,
	  .read = 20,
	  .write = 52,
	  .exec = 21,
	  .present = 31,
	  .fork = 1,
	  .execs = 1,
	  .exits = 2,
	  .events = { [UHMM_TRACE_MM_NEW] = 2,
		      [UHMM_TRACE_MM_DEL] = 2,
		      [UHMM_TRACE_OBJ] = 5,
		      [UHMM_TRACE_MAP] = 23,
		      [UHMM_TRACE_UNMAP] = 4,
		      [UHMM_TRACE_PROT] = 4,
		      [UHMM_TRACE_MOVE] = 1,
		      [UHMM_TRACE_ADVISE] = 1 } },
	{ .name = "xz-T2",
	  .lines = 29941,
	  .faults = 14870,
	  .user = 14865,
	  .kernel = 5,
	  .read = 2191,
	  .write = 12655,
	  .exec = 24,
	  .present = 2165,
	  .thread = 2,
	  .execs = 1,
	  .exits = 3,
	  .events = { [UHMM_TRACE_MM_NEW] = 1,
		      [UHMM_TRACE_MM_DEL] = 1,
		      [UHMM_TRACE_OBJ] = 18,
		      [UHMM_TRACE_MAP] = 57,
		      [UHMM_TRACE_UNMAP] = 5,
		      [UHMM_TRACE_PROT] = 8 } },
	{ .name = "xz-T2-plain",
	  .lines = 14941,
	  .faults = 14868,
	  .user = 14864,
	  .kernel = 4,
	  .exec = 23,
	  .thread = 2,
	  .execs = 1,
	  .exits = 3,
	  .events = { [UHMM_TRACE_MM_NEW] = 1,
		      [UHMM_TRACE_MM_DEL] = 1,
		      [UHMM_TRACE_OBJ] = 18,
		      [UHMM_TRACE_MAP] = 65 } },
	{ .name = "sqlite3-cold",
	  .lines = 1179,
	  .faults = 509,
	  .user = 506,
	  .kernel = 3,
	  .read = 312,
	  .write = 145,
	  .exec = 52,
	  .present = 27,
	  .execs = 1,
	  .exits = 1,
	  .events = { [UHMM_TRACE_MM_NEW] = 1,
		      [UHMM_TRACE_MM_DEL] = 1,
		      [UHMM_TRACE_OBJ] = 10,
		      [UHMM_TRACE_MAP] = 46,
		      [UHMM_TRACE_UNMAP] = 4,
		      [UHMM_TRACE_PROT] = 8,
		      [UHMM_TRACE_FAULT_MAJOR] = 3 } },
};

static void count(struct figures *f, const struct uhmm_trace_event *e)
{
	switch (e->kind) {
	case UHMM_TRACE_TASK:
		f->fork += e->task.why == UHMM_TRACE_FORK;
		f->vfork += e->task.why == UHMM_TRACE_VFORK;
		f->thread += e->task.why == UHMM_TRACE_THREAD;
		f->execs += e->task.why == UHMM_TRACE_EXEC;
		break;
	case UHMM_TRACE_TASK_EXIT:
		f->exits++;
		break;
	case UHMM_TRACE_FAULT:
		f->faults++;
		f->user += e->fault.mode == UHMM_TRACE_MODE_USER;
		f->kernel += e->fault.mode == UHMM_TRACE_MODE_KERNEL;
		f->read += e->fault.access == UHMM_TRACE_ACCESS_READ;
		f->write += e->fault.access == UHMM_TRACE_ACCESS_WRITE;
		f->exec += e->fault.access == UHMM_TRACE_ACCESS_EXEC;
		f->present += e->fault.present == UHMM_TRACE_YES;
		break;
	default:
		f->events[e->kind]++;
		break;
	}
}

START_TEST(test_shipped)
{
	const struct figures *want = &shipped[_i];
	struct figures got = { .name = want->name };
	struct checker *c = calloc(1, sizeof(*c));
	const struct uhmm_trace_stats *st;
	struct uhmm_trace_reader *r;
	struct uhmm_trace_event ev;
	char path[256];
	unsigned int k;
	int ret;

	ck_assert_ptr_nonnull(c);
	snprintf(path, sizeof(path), TRACES "%s.perf.txt.zst", want->name);
	r = open_path(path, false);
	while ((ret = uhmm_trace_next(r, &ev)) == 1) {
		check_event(c, &ev);
		count(&got, &ev);
	}
	ck_assert_msg(ret == 0, "%s", uhmm_trace_error(r));
	st = uhmm_trace_stats(r);
	ck_assert_uint_eq(st->lines, want->lines);
	ck_assert_uint_eq(st->events[UHMM_TRACE_FAULT], want->faults);
#define SAME(field)                                                                                \
	ck_assert_msg(got.field == want->field, "%s: %s is %llu, should be %llu", want->name,      \
		      #field, (unsigned long long)got.field, (unsigned long long)want->field)
	SAME(faults);
	SAME(user);
	SAME(kernel);
	SAME(read);
	SAME(write);
	SAME(exec);
	SAME(present);
	SAME(fork);
	SAME(vfork);
	SAME(thread);
	SAME(execs);
	SAME(exits);
	for (k = 0; k < UHMM_TRACE_NR_KINDS; k++)
		ck_assert_msg(got.events[k] == want->events[k], "%s: %s", want->name,
			      uhmm_trace_kind_name(k));
	ck_assert_uint_eq(st->malformed + st->unpaired_calls + st->unpaired_faults +
				  st->skipped_samples + st->skipped_tracepoints +
				  st->skipped_records + st->opaque_calls + st->time_reversed +
				  st->lost,
			  0);
	ck_assert(uhmm_trace_caps(r)->compressed);
	ck_assert(uhmm_trace_caps(r)->has_tgid && uhmm_trace_caps(r)->has_maps);
	ck_assert(uhmm_trace_caps(r)->has_rw == !strstr(want->name, "plain"));
	ck_assert(uhmm_trace_caps(r)->has_unmap == !strstr(want->name, "plain"));
	uhmm_trace_close(r);
	free(c);
}
END_TEST

/* The exerciser makes every kind of event once; what follows the program's own start. */
START_TEST(test_golden)
{
	static const char want[] =
		"MAP 26594/26594 mm1 7fd9e4498000-7fd9e44a8000 prot3 flags2 obj0@0\n"
		"FAULT 26594/26594 mm1 7fd9e4498000 ru-\n"
		"FAULT 26594/26594 mm1 7fd9e4498000 wu+\n"
		"FAULT 26594/26594 mm1 7fd9e4499000 wu-\n"
		"FAULT 26594/26594 mm1 55a46a28b004 rk-\n"
		"FAULT 26594/26594 mm1 7fd9e449a000 wk-\n"
		"PROT 26594/26594 mm1 7fd9e4499000-7fd9e449a000 prot1\n"
		"ADVISE 26594/26594 mm1 7fd9e4498000-7fd9e4499000 advice4 err0\n"
		"FAULT 26594/26594 mm1 7fd9e4498005 wu-\n"
		"MOVE 26594/26594 mm1 7fd9e44a0000-7fd9e44a4000 to 7fd9e4478000-7fd9e4498000 flags0\n"
		"FAULT 26594/26594 mm1 7fd9e4478000 wu-\n";
	static const char fork[] = "MM_NEW 26596/26596 mm2 fork 1\nTASK 26596/26596 mm2 fork\n"
				   "FAULT 26594/26594 mm1 7ffc7b086f18 wu+\n";
	static const char end[] = "UNMAP 26594/26594 mm1 7fd9e4498000-7fd9e4499000\n";
	static const char last[] = "TASK_EXIT 26594/26594 mm1\nMM_DEL 26594/26594 mm1\n";
	struct uhmm_trace_reader *r = open_path(TRACES "t1.perf.txt.zst", false);
	struct text t = { 0 };

	ck_assert_int_eq(drain(r, &t), 0);
	ck_assert_ptr_nonnull(strstr(t.s, want));
	ck_assert_ptr_nonnull(strstr(t.s, fork));
	/* The child unmaps in its own address space, and leaves it. */
	ck_assert_ptr_nonnull(strstr(t.s, "UNMAP 26596/26596 mm2 7fd9e449b000-7fd9e449c000\n"));
	ck_assert_ptr_nonnull(strstr(t.s, "TASK_EXIT 26596/26596 mm2\nMM_DEL 26596/26596 mm2\n"));
	/* The heap grows by a megabyte and shrinks again. */
	ck_assert_ptr_nonnull(strstr(t.s, "mm1 55a46f469000-55a46f569000 prot3 flagsa obj0@0\n"));
	ck_assert_ptr_nonnull(strstr(t.s, "UNMAP 26594/26594 mm1 55a46f469000-55a46f569000\n"));
	ck_assert_ptr_nonnull(strstr(t.s, end));
	ck_assert_str_eq(t.s + t.len - strlen(last), last);
	uhmm_trace_close(r);
	free(t.s);
}
END_TEST

/* ---- damaged input ---- */

static const struct {
	const char *file, *says;
} broken[] = {
	{ "bad-head.txt", ":3: not a line of perf script" },
	{ "bad-address.txt", ":2: fault sample" },
	{ "bad-arguments.txt", ":2: arguments of mmap" },
	{ "bad-map.txt", ":2: map record" },
	{ "bad-tracepoint.txt", ":2: fault tracepoint" },
	{ "bad-event.txt", ":2: expected the name of an event" },
	{ "cut-line.txt", ":3: the last line has no end" },
	{ "not-a-trace.txt", ":1: not recognised as a trace" },
	{ "no-address.txt", ":1: a fault without address" },
	{ "no-fields.txt", ":1: a tracepoint without its fields" },
	{ "no-arguments.txt", ":1: a tracepoint without its fields" },
	{ "cut.txt.zst", "the zstd data ends too early" },
	{ "damaged.txt.zst", "zstd data" },
	{ "empty.txt", ":1: the trace is empty" },
};

START_TEST(test_broken)
{
	struct uhmm_trace_reader *r;
	char path[256];

	snprintf(path, sizeof(path), BROKEN "%s", broken[_i].file);
	r = open_path(path, false);
	ck_assert_int_eq(drain(r, NULL), -EINVAL);
	ck_assert_ptr_nonnull(uhmm_trace_error(r));
	ck_assert_msg(!strncmp(uhmm_trace_error(r), path, strlen(path)), "%s", uhmm_trace_error(r));
	ck_assert_msg(strstr(uhmm_trace_error(r), broken[_i].says), "%s", uhmm_trace_error(r));
	uhmm_trace_close(r);
}
END_TEST

START_TEST(test_keep_going)
{
	struct uhmm_trace_reader *r = open_path(BROKEN "bad-head.txt", true);

	ck_assert_int_eq(drain(r, NULL), 0);
	ck_assert_ptr_null(uhmm_trace_error(r));
	ck_assert_uint_eq(uhmm_trace_stats(r)->malformed, 1);
	ck_assert_uint_eq(uhmm_trace_stats(r)->events[UHMM_TRACE_FAULT], 2);
	ck_assert_ptr_nonnull(
		strstr(uhmm_trace_malformed(r, 0), "'this is not a line of a trace'"));
	ck_assert_ptr_null(uhmm_trace_malformed(r, 1));
	ck_assert_ptr_null(uhmm_trace_malformed(r, 1000));
	uhmm_trace_close(r);
	/* Lost bytes are not a matter of one line: they end the reading all the same. */
	r = open_path(BROKEN "cut.txt.zst", true);
	ck_assert_int_eq(drain(r, NULL), -EINVAL);
	uhmm_trace_close(r);
}
END_TEST

START_TEST(test_arguments)
{
	struct uhmm_trace_options opt = { .size = 1 };
	struct uhmm_trace_reader *r = NULL;

	ck_assert_int_eq(uhmm_trace_open(NULL, NULL, &r), -EINVAL);
	ck_assert_int_eq(uhmm_trace_open("", NULL, &r), -EINVAL);
	ck_assert_int_eq(uhmm_trace_open("x", NULL, NULL), -EINVAL);
	ck_assert_int_eq(uhmm_trace_open("x", &opt, &r), -EINVAL);
	ck_assert_int_eq(uhmm_trace_open(BROKEN "absent.txt", NULL, &r), -ENOENT);
	ck_assert_ptr_null(r);
	uhmm_trace_close(NULL);
	ck_assert_str_eq(uhmm_trace_kind_name(0), "?");
	ck_assert_str_eq(uhmm_trace_kind_name(UHMM_TRACE_NR_KINDS), "?");
	ck_assert_int_eq(uhmm_trace_open(BROKEN, NULL, &r), -EISDIR);
}
END_TEST

/* ---- mutations ---- */

static char *slurp(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	off_t n = lseek(fd, 0, SEEK_END);
	char *s = malloc((size_t)n);

	ck_assert_int_ge(fd, 0);
	ck_assert_ptr_nonnull(s);
	ck_assert_int_eq(pread(fd, s, (size_t)n, 0), (ssize_t)n);
	close(fd);
	*len = (size_t)n;
	return s;
}

static char *plain_t1(size_t *len)
{
	char *z = slurp(TRACES "t1.perf.txt.zst", len), *s = malloc(1 << 17);

	ck_assert_ptr_nonnull(s);
	*len = ZSTD_decompress(s, 1 << 17, z, *len);
	ck_assert(!ZSTD_isError(*len));
	free(z);
	return s;
}

/* Every beginning of a trace is read to its cut, and then refused, unless the cut is clean. */
static void every_prefix(const char *s, size_t len, size_t step, bool compressed)
{
	char path[64];
	int fd = text_file(s, len, path);
	size_t n;

	for (n = len; n; n -= n > step ? step : n) {
		struct uhmm_trace_reader *r;
		bool clean = n == len || (!compressed && (s[n - 1] == '\n' || s[n] == '\n'));
		int ret;

		ck_assert_int_eq(ftruncate(fd, (off_t)n), 0);
		r = open_path(path, false);
		ret = drain(r, NULL);
		if (!clean)
			ck_assert_int_eq(ret, -EINVAL);
		if (ret)
			ck_assert_ptr_nonnull(uhmm_trace_error(r));
		uhmm_trace_close(r);
	}
	close(fd);
}

START_TEST(test_prefixes)
{
	size_t len;
	char *s = plain_t1(&len);

	every_prefix(s, 5000, 1, false);
	every_prefix(s, len, 61, false);
	free(s);
	s = slurp(TRACES "t1.perf.txt.zst", &len);
	every_prefix(s, len, 3, true);
	free(s);
}
END_TEST

static uint64_t seed(void)
{
	const char *s = getenv("UHMM_TEST_SEED");

	return s ? strtoull(s, NULL, 0) : 1;
}

static uint32_t rnd(uint64_t *x)
{
	*x = *x * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*x >> 33);
}

/* Bytes change, pieces vanish and are repeated: any answer will do that keeps the promises. */
START_TEST(test_mutations)
{
	static const char alphabet[] = "0123456789abcdefx-/:.[]()<> \t\n,=@#%sP";
	uint64_t x = seed() + (uint64_t)_i * 1000003;
	size_t len;
	char *s = plain_t1(&len), *m = malloc(len);
	unsigned int round;

	printf("seed %llu, part %d\n", (unsigned long long)seed(), _i);
	ck_assert_ptr_nonnull(m);
	for (round = 0; round < 150; round++) {
		unsigned int i, changes = 1 + rnd(&x) % 40;
		struct uhmm_trace_reader *r;
		char path[64];
		int fd;

		memcpy(m, s, len);
		for (i = 0; i < changes; i++) {
			size_t at = rnd(&x) % len, to = rnd(&x) % len, n = rnd(&x) % 200;

			n = n > len - at ? len - at : n;
			n = n > len - to ? len - to : n;
			if (rnd(&x) % 4 == 0)
				memmove(m + to, m + at, n);
			else if (rnd(&x) % 4 == 0)
				m[at] = (char)rnd(&x);
			else
				m[at] = alphabet[rnd(&x) % (sizeof(alphabet) - 1)];
		}
		fd = text_file(m, len, path);
		r = open_path(path, rnd(&x) % 4 != 0);
		drain(r, NULL);
		uhmm_trace_close(r);
		close(fd);
	}
	free(m);
	free(s);
}
END_TEST

START_TEST(test_long_lines)
{
	static const char line[] = A EXEC;
	size_t len = 3 << 20, head = sizeof(line) - 1, i;
	char *s = malloc(len), path[64];
	struct uhmm_trace_reader *r;
	int fd;

	ck_assert_ptr_nonnull(s);
	memset(s, 'x', len);
	for (i = 0; i < head; i++)
		s[i] = s[len - head + i] = line[i];
	s[len - head - 1] = '\n';
	fd = text_file(s, len, path);
	r = open_path(path, false);
	ck_assert_int_eq(drain(r, NULL), -EINVAL);
	ck_assert_ptr_nonnull(strstr(uhmm_trace_error(r), ":2: line longer than"));
	uhmm_trace_close(r);
	r = open_path(path, true);
	ck_assert_int_eq(drain(r, NULL), 0);
	ck_assert_uint_eq(uhmm_trace_stats(r)->malformed, 1);
	ck_assert_uint_eq(uhmm_trace_stats(r)->lines, 3);
	ck_assert_uint_eq(uhmm_trace_stats(r)->events[UHMM_TRACE_MM_NEW], 2);
	uhmm_trace_close(r);
	close(fd);
	free(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trace");
	TCase *tc = tcase_create("trace");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, test_shipped, 0, (int)(sizeof(shipped) / sizeof(shipped[0])));
	tcase_add_test(tc, test_golden);
	tcase_add_loop_test(tc, test_broken, 0, (int)(sizeof(broken) / sizeof(broken[0])));
	tcase_add_test(tc, test_keep_going);
	tcase_add_test(tc, test_arguments);
	tcase_add_test(tc, test_prefixes);
	tcase_add_loop_test(tc, test_mutations, 0, 8);
	tcase_add_test(tc, test_long_lines);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
