// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_replay_traces.c - recorded traces through the strategies, and `uhmm replay` as a program.
 */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uhmm/uhmm.h>

#include "replay/player.h"

#define TRACES UHMM_TEST_DATA "/data/traces/"
#define BROKEN UHMM_TEST_DATA "/data/broken/"
#define T1 TRACES "t1.perf.txt.zst"
#define XZ TRACES "xz-T2.perf.txt.zst"
#define XZ_PLAIN TRACES "xz-T2-plain.perf.txt.zst"
#define SQLITE TRACES "sqlite3-cold.perf.txt.zst"
#define HUGE TRACES "huge.txt" /* hand-written: recorded ones that advise are too long */
#define ALL ((1u << UHMM_NR_STRATEGIES) - 1)
#define T1_CHILD 26596

/* ---- the library ---- */

static void on_difference(void *data, const char *line)
{
	(void)data;
	fprintf(stderr, "%s\n", line);
}

static struct uhmm_replay *replay_to_end(const char *trace, struct uhmm_replay_config *config)
{
	struct uhmm_replay *r;
	int err;

	config->size = sizeof(*config);
	config->difference = on_difference;
	ck_assert_int_eq(uhmm_replay_open(trace, config, &r), 0);
	do {
		err = uhmm_replay_step(r);
	} while (err > 0);
	ck_assert_int_eq(err, 0);
	ck_assert_int_eq(uhmm_replay_step(r), 0);
	for (unsigned int i = 0; i < uhmm_replay_nr_runs(r); i++) {
		const struct uhmm_replay_run *run = uhmm_replay_get_run(r, i);

		ck_assert_int_eq(run->violations, 0);
		ck_assert_int_eq(run->differing, 0);
		ck_assert(run->same_digest);
		ck_assert_uint_eq(uhmm_machine_reports(uhmm_player_machine(run->player)), 0);
		ck_assert_uint_eq(uhmm_player_count(run->player, UHMM_REPLAY_DEVICE_FAILED), 0);
	}
	return r;
}

static uint64_t count(const struct uhmm_replay *r, unsigned int run, enum uhmm_replay_count c)
{
	return uhmm_player_count(uhmm_replay_get_run(r, run)->player, c);
}

static uint64_t counter(const struct uhmm_replay *r, unsigned int run, enum uhmm_counter c)
{
	struct uhmm_counters all;

	uhmm_counters_read(uhmm_player_machine(uhmm_replay_get_run(r, run)->player), &all);
	return all.v[c];
}

/* Without a device the model faults where the real machine did. */
static const struct {
	const char *trace;
	uint64_t faults, agreed;
	enum uhmm_replay_miss why; /* of those that do not */
} shipped[] = {
	{ T1, 93, 93, UHMM_REPLAY_MISS_OTHER },
	{ XZ, 14870, 14870, UHMM_REPLAY_MISS_OTHER },
	/* Which pages of its database were in the page cache the trace does not tell. */
	{ SQLITE, 509, 502, UHMM_REPLAY_MISS_SHARED },
	{ HUGE, 20, 20, UHMM_REPLAY_MISS_OTHER },
	/* No read/write bit: where a page was read first, the second fault was foreseen. */
	{ XZ_PLAIN, 14868, 12707, UHMM_REPLAY_MISS_UNKNOWN_ACCESS },
};

START_TEST(test_agreement)
{
	struct uhmm_replay_config config = { 0 };
	struct uhmm_replay *r = replay_to_end(shipped[_i].trace, &config);
	struct uhmm_replay_agreement g;

	uhmm_player_agreement(uhmm_replay_get_run(r, 0)->player, &g);
	ck_assert_uint_eq(g.faults, shipped[_i].faults);
	ck_assert_uint_eq(g.agreed, shipped[_i].agreed);
	ck_assert_uint_eq(g.missed[shipped[_i].why], g.faults - g.agreed);
	ck_assert_uint_eq(g.signals, 0);
	ck_assert_uint_eq(g.other_kind_anon, 0);
	ck_assert_uint_eq(g.other_kind_other, 0);
	ck_assert_uint_eq(g.extra_again, 0);
	ck_assert_uint_eq(count(r, 0, UHMM_REPLAY_REFUSED), 0);
	uhmm_replay_close(r);
}
END_TEST

enum { BLOCK = 2048 };

/* All of a block but its last event, which the next block begins with: @step at a time. */
static void play_block(struct uhmm_player *p, const struct uhmm_trace_caps *caps,
		       const struct uhmm_trace_event *events, size_t nr, size_t step)
{
	for (size_t at = 0; at + 1 < nr; at += step) {
		size_t n = step < nr - 1 - at ? step : nr - 1 - at;

		ck_assert_int_eq(uhmm__player_run(p, caps, events + at, n, nr - at), 0);
	}
}

static struct uhmm_player *play_events(const char *trace, enum uhmm_thp thp, size_t step)
{
	struct uhmm_player_config config = { .size = sizeof(config), .thp = thp };
	static struct uhmm_trace_event events[BLOCK];
	struct uhmm_trace_reader *r;
	struct uhmm_player *p;
	size_t nr = 0;
	int more = 1;

	config.strategy = UHMM_COMBINED;
	ck_assert_int_eq(uhmm_trace_open(trace, NULL, &r), 0);
	ck_assert_int_eq(uhmm_player_create(&config, &p), 0);
	while (more) {
		while (nr < BLOCK && (more = uhmm_trace_next(r, &events[nr])) > 0)
			nr++;
		ck_assert_int_ge(more, 0);
		ck_assert_uint_gt(nr, 0);
		play_block(p, uhmm_trace_caps(r), events, nr, step);
		events[0] = events[nr - 1];
		nr = 1;
	}
	ck_assert_int_eq(uhmm_player_run(p, uhmm_trace_caps(r), events, 1), 0);
	uhmm_trace_close(r);
	return p;
}

/* One event at a time, so that each fault goes the long way, and as many as there are. */
START_TEST(test_one_by_one)
{
	const char *trace = shipped[_i / 2].trace;
	enum uhmm_thp thp = _i % 2 ? UHMM_THP_ALWAYS : UHMM_THP_MADVISE;
	struct uhmm_player *a = play_events(trace, thp, 1), *b = play_events(trace, thp, BLOCK);
	struct uhmm_replay_agreement g, h;
	struct uhmm_counters m, n;

	uhmm_player_agreement(a, &g);
	uhmm_player_agreement(b, &h);
	ck_assert_uint_gt(g.faults, 0);
	ck_assert_mem_eq(&g, &h, sizeof(g));
	for (unsigned int c = 0; c < UHMM_NR_REPLAY_COUNTS; c++)
		ck_assert_uint_eq(uhmm_player_count(a, c), uhmm_player_count(b, c));
	uhmm_counters_read(uhmm_player_machine(a), &m);
	uhmm_counters_read(uhmm_player_machine(b), &n);
	ck_assert_mem_eq(&m, &n, sizeof(m));
	ck_assert_uint_eq(uhmm_player_digest(a), uhmm_player_digest(b));
	uhmm_player_destroy(a);
	uhmm_player_destroy(b);
}
END_TEST

/* What huge pages do to faults, by setting: of a program that does not ask for them, of one that does. */
static const struct {
	const char *trace;
	enum uhmm_thp thp;
	uint64_t faults, huge;
} settings[] = {
	{ XZ, UHMM_THP_MADVISE, 14870, 0 }, { XZ, UHMM_THP_ALWAYS, 5632, 20 },
	{ XZ, UHMM_THP_NEVER, 14870, 0 },   { HUGE, UHMM_THP_MADVISE, 20, 4 },
	{ HUGE, UHMM_THP_ALWAYS, 20, 4 },   { HUGE, UHMM_THP_NEVER, 20, 0 },
};

START_TEST(test_thp)
{
	struct uhmm_replay_config config = { .player.thp = settings[_i].thp };
	struct uhmm_replay *r = replay_to_end(settings[_i].trace, &config);
	struct uhmm_replay_agreement g;

	uhmm_player_agreement(uhmm_replay_get_run(r, 0)->player, &g);
	ck_assert_uint_eq(g.agreed, settings[_i].faults);
	ck_assert_uint_eq(g.missed[UHMM_REPLAY_MISS_HUGE], g.faults - g.agreed);
	ck_assert_uint_eq(counter(r, 0, UHMM_CNT_FAULT_HUGE), settings[_i].huge);
	uhmm_replay_close(r);
}
END_TEST

/*
 * Single pages served, huge ones faulted: fault-then-migrate maps those, the others do not; what no
 * access has touched counts as empty for the comparison.
 */
START_TEST(test_thp_strategies)
{
	static const char *const traces[] = { HUGE, XZ };
	struct uhmm_replay_config config = { .strategies = ALL, .verify = true };

	config.player.thp = _i ? UHMM_THP_ALWAYS : UHMM_THP_MADVISE; /* the first one advises */
	for (unsigned int all = 0; all < 2; all++) {
		struct uhmm_replay *r;

		config.player.offload.kind = all ? UHMM_OFFLOAD_ALL : UHMM_OFFLOAD_SHARE;
		config.player.offload.share = 0.5;
		r = replay_to_end(traces[_i], &config);
		ck_assert_uint_gt(count(r, 0, UHMM_REPLAY_DEVICE_SERVED), 0);
		ck_assert_uint_gt(counter(r, 0, UHMM_CNT_FAULT_HUGE), 0);
		if (all)
			ck_assert_uint_eq(counter(r, 2, UHMM_CNT_FAULT_HUGE), 0);
		uhmm_replay_close(r);
	}
}
END_TEST

static void check_walks(const struct uhmm_replay *r, const unsigned int want[UHMM_NR_STRATEGIES])
{
	for (unsigned int i = 0; i < UHMM_NR_STRATEGIES; i++) {
		uint64_t ranges = counter(r, i, UHMM_CNT_DEVICE_FAULTS);

		ck_assert_uint_gt(ranges, 0);
		ck_assert_uint_eq(count(r, i, UHMM_REPLAY_SERVICE_WALKS), want[i] * ranges);
	}
}

/* The demonstration: walks a range, for the same final state. */
START_TEST(test_walks)
{
	static const unsigned int fresh[] = { 2, 1, 1 }, cow[] = { 2, 3, 1 };
	static const int32_t child[] = { T1_CHILD };
	struct uhmm_replay_config config = { .strategies = ALL };
	struct uhmm_replay *r;

	config.player.offload.kind = UHMM_OFFLOAD_ALL;
	r = replay_to_end(XZ, &config);
	check_walks(r, fresh);
	ck_assert_uint_eq(count(r, 0, UHMM_REPLAY_DEVICE_ACCESSES), 14799);
	uhmm_replay_close(r);

	config.player.offload =
		(struct uhmm_offload){ .kind = UHMM_OFFLOAD_TASKS, .tids = child, .nr_tids = 1 };
	r = replay_to_end(T1, &config);
	check_walks(r, cow);
	uhmm_replay_close(r);
}
END_TEST

/* Whatever is offloaded, and however little memory the device has: the same bytes. */
START_TEST(test_strategies_agree)
{
	static const char *const traces[] = { T1, SQLITE, XZ };
	static const uint64_t granularity[] = { 4 << 10, 64 << 10, 2 << 20 };
	struct uhmm_replay_config config = { .strategies = ALL, .verify = _i < 2 };

	config.player.offload.kind = UHMM_OFFLOAD_SHARE;
	config.player.offload.share = 0.5;
	for (unsigned int g = 0; g < 3; g++) {
		struct uhmm_replay *r;

		config.player.granularity = granularity[g];
		config.player.device_bytes = (256 << 10) + 2 * granularity[g];
		config.player.seed = g;
		r = replay_to_end(traces[_i], &config);
		ck_assert_uint_gt(count(r, 0, UHMM_REPLAY_DEVICE_SERVED), 0);
		uhmm_replay_close(r);
	}
}
END_TEST

/* Two runs alike count alike. */
START_TEST(test_repeatable)
{
	struct uhmm_replay_config config = { .strategies = 1u << UHMM_COMBINED };
	struct uhmm_counters c[2];

	config.player.offload.kind = UHMM_OFFLOAD_SHARE;
	config.player.offload.share = 0.3;
	config.player.seed = 42;
	for (unsigned int i = 0; i < 2; i++) {
		struct uhmm_replay *r = replay_to_end(T1, &config);

		uhmm_counters_read(uhmm_player_machine(uhmm_replay_get_run(r, 0)->player), &c[i]);
		uhmm_replay_close(r);
	}
	ck_assert_mem_eq(&c[0], &c[1], sizeof(c[0]));
}
END_TEST

START_TEST(test_until)
{
	struct uhmm_replay *r;

	ck_assert_int_eq(uhmm_replay_open(T1, NULL, &r), 0);
	ck_assert_int_eq(uhmm_replay_until(r, 1), 0);
	ck_assert_uint_le(uhmm_replay_line(r), 1);
	ck_assert_int_eq(uhmm_replay_until(r, 100), 0);
	ck_assert_uint_le(uhmm_replay_line(r), 100);
	ck_assert_uint_gt(uhmm_replay_line(r), 90);
	ck_assert_ptr_nonnull(uhmm_player_mm(uhmm_replay_get_run(r, 0)->player, 1));
	ck_assert_int_eq(uhmm_replay_until(r, UINT64_MAX), 0);
	ck_assert_uint_eq(count(r, 0, UHMM_REPLAY_FAULTS), 93);
	ck_assert_ptr_null(uhmm_player_mm(uhmm_replay_get_run(r, 0)->player, 1));
	uhmm_replay_close(r);
}
END_TEST

START_TEST(test_bad_replay)
{
	struct uhmm_replay_config config = { .size = 1 };
	struct uhmm_replay *r = NULL;

	ck_assert_int_eq(uhmm_replay_open(T1, &config, &r), -EINVAL);
	config.size = sizeof(config);
	config.strategies = ALL + 1;
	ck_assert_int_eq(uhmm_replay_open(T1, &config, &r), -EINVAL);
	config.strategies = ALL;
	config.player.granularity = 3;
	ck_assert_int_eq(uhmm_replay_open(T1, &config, &r), -EINVAL);
	ck_assert_int_eq(uhmm_replay_open("/nonexistent/trace", NULL, &r), -ENOENT);
	ck_assert_int_eq(uhmm_replay_open(NULL, NULL, &r), -EINVAL);
	ck_assert_ptr_null(r);
	uhmm_replay_close(NULL);

	ck_assert_int_eq(uhmm_replay_open(BROKEN "bad-map.txt", NULL, &r), 0);
	ck_assert_int_eq(uhmm_replay_step(r), -EINVAL);
	ck_assert_ptr_nonnull(uhmm_trace_error(uhmm_replay_reader(r)));
	uhmm_replay_close(r);
}
END_TEST

/* ---- the command ---- */

#ifdef UHMM_COMMAND
static char out[1 << 20];

/* Runs `uhmm replay ARGS`; its output, of both kinds, is in out. Returns the exit status. */
static int command(const char *args)
{
	char line[2048];
	size_t n;
	FILE *f;
	int status;

	snprintf(line, sizeof(line), UHMM_COMMAND " replay %s", args);
	f = popen(line, "r");
	ck_assert_ptr_nonnull(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	status = pclose(f);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const struct {
	int status;
	const char *args, *says;
} calls[] = {
	{ 0, "--help", "usage: uhmm replay" },
	{ 2, "2>&1", "no trace given" },
	{ 2, "--nonsense 2>&1", "--nonsense" },
	{ 2, "--strategy best " T1 " 2>&1", "--strategy" },
	{ 2, "--strategy Combind " T1 " 2>&1", "did you mean 'combined'?" },
	{ 2, "--strategy migrate " T1 " 2>&1", "did you mean 'migrate-fault-migrate'?" },
	{ 2, "--offload some " T1 " 2>&1", "--offload: 'some' is none of" },
	{ 2, "--offload share=2 " T1 " 2>&1", "share=" },
	{ 2, "--offload tid= " T1 " 2>&1", "tid=" },
	{ 2, "--offload tid=1,x " T1 " 2>&1", "tid=" },
	{ 2, "--offload range=10 " T1 " 2>&1", "is not a range" },
	{ 2, "--offload range=20-10 " T1 " 2>&1", "is not a range" },
	{ 2, "--granularity 5k " T1 " 2>&1", "--granularity" },
	{ 2, "--device-memory 1 " T1 " 2>&1", "at least one page" },
	{ 2, "--device-memory lots " T1 " 2>&1", "--device-memory" },
	{ 2, "--device-memory 9007199254740992K " T1 " 2>&1", "too large for a size" },
	{ 2, "--seed 9223372036854775808 " T1 " 2>&1", "--seed: " },
	{ 0, "--seed 9223372036854775807 --json - " T1, "\"seed\": 9223372036854775807" },
	{ 2, "--cpus 0 " T1 " 2>&1", "--cpus" },
	{ 2, "--thp sometimes " T1 " 2>&1", "--thp" },
	{ 2, "--thp alway " T1 " 2>&1", "did you mean 'always'?" },
	{ 0, HUGE, "huge pages madvise" },
	{ 0, HUGE, "mapped a huge page          4" },
	{ 0, "--thp always " XZ, "9,238 do not: the page was mapped by a huge one in the model" },
	{ 0, "--thp never --json - " HUGE, "\"thp\": \"never\"" },
	{ 0, "--thp never --json - " HUGE, "\"huge\": 0" },
	{ 0, "--json - " HUGE, "\"huge\": 4" },
	{ 2, "--costs /nonexistent/costs " T1 " 2>&1", "/nonexistent/costs: No such file" },
	{ 2, "--costs " UHMM_TEST_DATA "/data/broken/empty.txt /nonexistent 2>&1", "/nonexistent" },
	{ 2, "--costs " UHMM_TEST_DATA "/data/broken/bad-map.txt " T1 " 2>&1", "bad-map.txt:1: " },
	{ 2, "--json /nonexistent/j /nonexistent/t 2>&1", "/nonexistent/j: cannot write: No such" },
	{ 2, "--json / " T1 " 2>&1", "/: cannot write: Is a directory" },
	{ 0, XZ_PLAIN, "0 faults of the model that the trace lacks" },
	{ 2, "/nonexistent/trace 2>&1", "/nonexistent/trace: No such file" },
	{ 2, BROKEN "bad-map.txt 2>&1", "bad-map.txt:" },
	{ 0, "--keep-going " BROKEN "bad-map.txt 2>&1", "1 malformed lines skipped" },
	{ 2, BROKEN "damaged.txt.zst 2>&1", "damaged.txt.zst" },
	{ 0, T1, "93 of 93 faults fault in the model" },
	{ 0, "- <" T1, "93 of 93 faults fault in the model" },
	{ 0, T1 " " SQLITE, "502 of 509 faults" },
	{ 0, "--check --strategy all --offload all " T1 " 2>&1", "Verifier: content" },
	{ 0, "--offload tid=26596 --strategy all " T1, "is the same with all strategies" },
	{ 0, "--offload range=7f0000000000-7fffffffffff --seed 3 --cpus 4 " T1, "4 CPUs, seed 3" },
	{ 0, "--costs " UHMM_TEST_DATA "/../data/costs/pcie3.costs " T1, "costs: pcie3" },
	{ 0, "--granularity 2m --offload all --device-memory 64K " T1, "evicted" },
	{ 0, "--strategy all --offload all --device-memory 64K " T1, "are the same with all" },
	{ 0, XZ_PLAIN, "no read/write bit" },
	{ 0,
	  "- <<E\nt 1/1 1.000000: PERF_RECORD_MMAP2 1/1: [0x1000(0xfffffffffffffffe) @ 0 00:00 0 0]: rw-p x\nE\n",
	  "1 ranges that no process can have" },
	{ 0, "- <<E\nt 1/1 1.000000: PERF_RECORD_COMM exec: t:1/1\nE\n",
	  "the trace has no faults" },
};

START_TEST(test_calls)
{
	int status = command(calls[_i].args);

	ck_assert_msg(status == calls[_i].status, "status %d of: %s\n%s", status, calls[_i].args,
		      out);
	ck_assert_msg(strstr(out, calls[_i].says) != NULL, "not said: %s\n%s", calls[_i].says, out);
}
END_TEST

static json_t *parsed(void)
{
	json_error_t error;
	json_t *o = json_loads(out, JSON_REJECT_DUPLICATES, &error);

	ck_assert_msg(o != NULL, "%s at line %d of:\n%s", error.text, error.line, out);
	return o;
}

static json_int_t integer(json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	ck_assert_msg(json_is_integer(v), "%s is no integer", key);
	return json_integer_value(v);
}

static void check_strategy(json_t *o)
{
	static const char *const numbers[] = {
		"walks",
		"walk_restarts",
		"flushes",
		"notifier_calls",
		"migrated_to_device",
		"migrated_to_ram",
		"copied_bytes",
		"evicted",
		"model_ns",
		"host_ns",
		"events",
	};
	static const char *const reads[] = { "pgd", "pud", "pmd", "pte" };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		ck_assert_int_ge(integer(o, numbers[i]), 0);
	for (size_t i = 0; i < 4; i++)
		ck_assert_int_gt(integer(json_object_get(o, "pte_reads"), reads[i]), 0);
	ck_assert_int_gt(integer(json_object_get(o, "faults"), "file_read"), 0);
	ck_assert_int_eq(integer(json_object_get(o, "failed"), "pinned"), 0);
	ck_assert_int_gt(integer(o, "model_ns"), 0);
	ck_assert_int_eq(integer(o, "events"), 139);
}

START_TEST(test_json)
{
	json_t *o, *strategies;

	ck_assert_int_eq(command("--json - --strategy all --offload all " T1), 0);
	o = parsed();
	ck_assert_int_eq(integer(o, "schema"), 1);
	ck_assert_str_eq(json_string_value(json_object_get(o, "trace")), T1);
	ck_assert(json_is_true(json_object_get(o, "same_final_state")));
	ck_assert_int_eq(integer(json_object_get(o, "agreement"), "faults"), 93);
	strategies = json_object_get(o, "strategies");
	ck_assert_uint_eq(json_object_size(strategies), 3);
	for (int i = 0; i < UHMM_NR_STRATEGIES; i++)
		check_strategy(json_object_get(strategies, uhmm_strategy_name(i)));
	json_decref(o);
}
END_TEST

/* Several traces make an array; one strategy has nothing to be compared with. */
START_TEST(test_json_array)
{
	json_t *o;

	ck_assert_int_eq(command("--json - " T1 " " T1), 0);
	o = parsed();
	ck_assert_uint_eq(json_array_size(o), 2);
	ck_assert(json_is_null(json_object_get(json_array_get(o, 1), "same_final_state")));
	json_decref(o);
}
END_TEST

/* What was done before a trace that cannot be read is not lost; still an array of what was asked. */
START_TEST(test_json_broken)
{
	json_t *o;

	ck_assert_int_eq(command("--json - " T1 " " BROKEN "bad-map.txt 2>/dev/null"), 2);
	o = parsed();
	ck_assert_uint_eq(json_array_size(o), 1);
	json_decref(o);
	ck_assert_int_eq(command("--json - " BROKEN "bad-map.txt 2>/dev/null"), 2);
	ck_assert_str_eq(out, "");
}
END_TEST

/* The name of a trace may be no UTF-8. */
START_TEST(test_json_name)
{
	char name[] = "/tmp/uhmm-\xff-XXXXXX", args[200];
	int fd = mkstemp(name);
	json_t *o;

	ck_assert_int_ge(fd, 0);
	close(fd);
	unlink(name);
	ck_assert_int_eq(symlink(T1, name), 0);
	snprintf(args, sizeof(args), "--json - %s", name);
	ck_assert_int_eq(command(args), 0);
	unlink(name);
	o = parsed();
	ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(o, "trace")), "uhmm-?-"));
	json_decref(o);
}
END_TEST

START_TEST(test_json_file)
{
	char name[] = "/tmp/uhmm-replay-XXXXXX", args[200];
	int fd = mkstemp(name);
	json_error_t error;
	json_t *o;

	ck_assert_int_ge(fd, 0);
	close(fd);
	snprintf(args, sizeof(args), "--json %s %s", name, T1);
	ck_assert_int_eq(command(args), 0);
	ck_assert_ptr_nonnull(strstr(out, "Agreement"));
	o = json_load_file(name, 0, &error);
	unlink(name);
	ck_assert_ptr_nonnull(o);
	ck_assert_int_eq(integer(o, "schema"), 1);
	json_decref(o);
}
END_TEST
#endif

int main(void)
{
	Suite *s = suite_create("replay_traces");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, test_one_by_one, 0, 2 * sizeof(shipped) / sizeof(shipped[0]));
	tcase_add_loop_test(tc, test_agreement, 0, sizeof(shipped) / sizeof(shipped[0]));
	tcase_add_loop_test(tc, test_thp, 0, sizeof(settings) / sizeof(settings[0]));
	tcase_add_loop_test(tc, test_thp_strategies, 0, 2);
	tcase_add_test(tc, test_walks);
	tcase_add_loop_test(tc, test_strategies_agree, 0, 3);
	tcase_add_test(tc, test_repeatable);
	tcase_add_test(tc, test_until);
	tcase_add_test(tc, test_bad_replay);
#ifdef UHMM_COMMAND
	tcase_add_loop_test(tc, test_calls, 0, sizeof(calls) / sizeof(calls[0]));
	tcase_add_test(tc, test_json);
	tcase_add_test(tc, test_json_array);
	tcase_add_test(tc, test_json_broken);
	tcase_add_test(tc, test_json_name);
	tcase_add_test(tc, test_json_file);
#endif
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
