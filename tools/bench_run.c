// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_run.c - the player of traces, and the simulated scheduler.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>
#include <uhmm/explore.h>
#include <uhmm/replay.h>
#include <uhmm/scenario.h>

#include "bench.h"
#include "convert.h"
#include "tool.h"

/* ---- the player ---- */

enum { PLAYER_EVENTS = 4 << 20, PLAYER_EVENTS_QUICK = 1 << 20 };

static int trace_failed(const char *trace, const struct uhmm_trace_reader *reader, int err)
{
	const char *why = uhmm_trace_error(reader);

	return why ? tool_error("%s", why) : bench_failed(trace, err);
}

/* Read and play, and play alone, by the thread that plays: another one reads. */
static int play_trace(struct bench *b, const char *trace, enum bench_id all, enum bench_id play)
{
	struct uhmm_replay_config config = {
		.size = sizeof(config),
		.strategies = 1U << UHMM_COMBINED,
		.player = { .size = sizeof(config.player) },
	};
	const struct uhmm_replay_run *run;
	struct uhmm_replay *replay;
	struct bench_timer t = bench_start();
	double ns, events;
	int err = uhmm_replay_open(trace, &config, &replay);

	if (err)
		return bench_failed(trace, err);
	do
		err = uhmm_replay_step(replay);
	while (err > 0);
	ns = bench_stop(b, t);
	if (err) {
		err = trace_failed(trace, uhmm_replay_reader(replay), err);
	} else {
		run = uhmm_replay_get_run(replay, 0);
		events = (double)uhmm_player_count(run->player, UHMM_REPLAY_EVENTS);
		bench_sample(b, all, events * 1e3 / ns);
		if (play != all)
			bench_sample(b, play, events * 1e3 / (double)run->host_ns);
	}
	uhmm_replay_close(replay);
	return err;
}

static int read_trace(struct bench *b, const char *trace, enum bench_id id)
{
	struct uhmm_trace_reader *reader;
	struct bench_timer t = bench_start();
	struct uhmm_trace_event ev;
	uint64_t events = 0;
	int err = uhmm_trace_open(trace, NULL, &reader);

	if (err)
		return bench_failed(trace, err);
	while ((err = uhmm_trace_next(reader, &ev)) > 0)
		events++;
	if (err)
		err = trace_failed(trace, reader, err);
	else
		bench_sample(b, id, (double)events * 1e3 / bench_stop(b, t));
	uhmm_trace_close(reader);
	return err;
}

/* The trace as often as it takes to make a long one, in binary form. */
static int convert_long(const struct bench *b, char *path)
{
	struct convert_options o = {
		.in = b->trace,
		.out = path,
		.repeat = 1,
		.write = { .size = sizeof(o.write), .format = UHMM_TRACE_FORMAT_BINARY },
	};
	uint64_t want = b->quick ? PLAYER_EVENTS_QUICK : PLAYER_EVENTS, events;
	int status = convert_trace(&o, &events);

	if (status != TOOL_OK || events >= want || !events)
		return status;
	o.repeat = (want + events - 1) / events;
	return convert_trace(&o, &events);
}

static int player_binary(struct bench *b)
{
	char path[] = "/tmp/uhmm-bench-XXXXXX";
	int fd = mkstemp(path), status;

	if (fd < 0)
		return tool_error("%s: %s", path, strerror(errno));
	close(fd);
	status = convert_long(b, path);
	if (status == TOOL_OK)
		status = read_trace(b, path, BENCH_PLAYER_BINARY_READ);
	if (status == TOOL_OK)
		status = play_trace(b, path, BENCH_PLAYER_BINARY, BENCH_PLAYER_BINARY);
	unlink(path);
	return status;
}

int bench_player(struct bench *b)
{
	int status;

	if (!b->trace) {
		for (int id = BENCH_PLAYER_BINARY; id <= BENCH_PLAYER_PLAY; id++)
			bench_note(b, id, "no --trace given");
		return TOOL_OK;
	}
	status = player_binary(b);
	return status == TOOL_OK ? play_trace(b, b->trace, BENCH_PLAYER_TEXT, BENCH_PLAYER_PLAY)
				 : status;
}

/* ---- the simulated scheduler ---- */

#ifdef UHMM_CHECKED
enum { SCHED_STEPS = 1 << 19, SCHED_PAGES = 1 << 13 };

struct sched_task {
	struct bench_world *w;
	uint64_t first;
};

/* Nothing but switch points. */
static void only_switch(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < SCHED_STEPS; i++)
		uhmm_sched_user_step();
}

static void only_fault(void *arg)
{
	struct sched_task *t = arg;

	(void)bench_touch(t->w, t->first, SCHED_PAGES);
}

static int run_tasks(struct bench *b, struct bench_world *w, void (*fn)(void *arg),
		     enum bench_id id)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .max_steps = UINT64_MAX };
	struct sched_task tasks[2] = { { w, 0 }, { w, SCHED_PAGES } };
	struct uhmm_sched *s = NULL;
	struct bench_timer t;
	int err;

	uhmm_task_leave();
	err = uhmm_sched_create(w->m, &config, &s);
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = uhmm_sched_spawn(s, "bench", i, w->mm, fn, &tasks[i]);
	t = bench_start();
	if (!err)
		err = uhmm_sched_run(s);
	if (!err)
		bench_sample(b, id, (double)uhmm_sched_steps(s) * 1e3 / bench_stop(b, t));
	uhmm_sched_destroy(s);
	uhmm_task_enter(w->task);
	return err ? bench_failed("scheduler", err) : TOOL_OK;
}

/* ---- runs of the explorer ---- */

enum { RUN_PAGES = 64, RUNS = 1000 };

static const uhmm_vaddr_t run_start = 1UL << 40;

static void write_page(void *arg)
{
	struct uhmm_mm *mm = arg;
	uint64_t word = 1;

	(void)uhmm_cpu_write(mm, run_start, &word, sizeof(word), NULL);
}

static int set_up_run(struct uhmm_machine *m, const void *data, void **state)
{
	struct uhmm_mm *mm;
	int err = uhmm_mm_create(m, &mm);

	(void)data;
	if (!err)
		err = uhmm_mmap(mm, run_start, RUN_PAGES << UHMM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	*state = mm;
	for (unsigned int i = 0; i < 2 && !err; i++)
		err = uhmm_scenario_spawn("bench", i, mm, write_page, mm);
	return err;
}

/* CPU time of this process and of those it made and waited for. */
static double used_us(void)
{
	struct rusage own, others;

	getrusage(RUSAGE_SELF, &own);
	getrusage(RUSAGE_CHILDREN, &others);
	return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec + others.ru_utime.tv_sec +
			others.ru_stime.tv_sec) *
		       1e6 +
	       (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec + others.ru_utime.tv_usec +
			others.ru_stime.tv_usec);
}

/* So many random schedules of that, in one process. */
static int explore_runs(uint64_t runs, double *us)
{
	static const struct uhmm_scenario scenario = { .size = sizeof(scenario),
						       .name = "bench",
						       .summary = "two tasks write a page",
						       .setup = set_up_run };
	struct uhmm_explore_config config = { .size = sizeof(config),
					      .scenario = &scenario,
					      .strategy = UHMM_EXPLORE_RANDOM,
					      .runs = runs,
					      .workers = 1 };
	struct uhmm_explore_result *result;
	double before = used_us();
	int err = uhmm_explore(&config, &result);

	*us = used_us() - before;
	if (!err && result->schedules != runs)
		err = -EIO;
	if (!err)
		uhmm_explore_free(result);
	return err;
}

/* What a run costs beyond the first, against an exploration for each. */
static int runs_again(struct bench *b)
{
	double one = 0, many, first = 0;
	int err = 0;

	for (int i = 0; i < 20 && !err; i++) {
		err = explore_runs(1, &first);
		one += first / 20;
	}
	if (!err)
		err = explore_runs(RUNS, &many);
	if (err)
		return bench_failed("exploration", err);
	bench_sample(b, BENCH_RUN_ANEW, one);
	bench_sample(b, BENCH_RUN_AGAIN, (many - one) / (RUNS - 1));
	return TOOL_OK;
}

int bench_sched(struct bench *b)
{
	struct bench_world w;
	int status = bench_world_open(&w, 2 * SCHED_PAGES, false);

	if (status == TOOL_OK)
		status = run_tasks(b, &w, only_switch, BENCH_SCHED);
	if (status == TOOL_OK)
		status = run_tasks(b, &w, only_fault, BENCH_SCHED_FAULTS);
	bench_world_close(&w);
	return status == TOOL_OK ? runs_again(b) : status;
}
#else
static void take_samples(struct bench *b, const json_t *root, enum bench_id id)
{
	const json_t *figure =
		json_object_get(json_object_get(root, "figures"), bench_figures[id].name);
	const json_t *samples = json_object_get(figure, "samples");

	for (size_t i = 0; i < json_array_size(samples); i++)
		bench_sample(b, id, json_number_value(json_array_get(samples, i)));
}

/* Become the checked variant, with its JSON going to @fd. */
static void become_checked(const struct bench *b, int fd)
{
	static char words[][8] = { "uhmm", "bench", "--only", "sched", "--json", "-", "--quick" };
	char *argv[8] = { 0 };

	for (int i = 0; i < 7; i++)
		argv[i] = words[i];
	tool_set_args(b->quick ? 7 : 6, argv, "bench");
	if (dup2(fd, STDOUT_FILENO) >= 0)
		(void)tool_exec_checked();
	_exit(TOOL_USAGE);
}

/* Only the checked variant has a scheduler: let it measure, and take its samples over. */
int bench_sched(struct bench *b)
{
	json_t *root = NULL;
	FILE *f = NULL;
	int fds[2];
	pid_t pid;

	if (b->round) /* it makes rounds of its own */
		return TOOL_OK;
	if (pipe(fds))
		return tool_error("pipe: %s", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(fds[0]);
		become_checked(b, fds[1]);
	}
	close(fds[1]);
	if (pid > 0)
		f = fdopen(fds[0], "r");
	if (f) {
		root = json_loadf(f, 0, NULL);
		fclose(f);
	} else {
		close(fds[0]);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	take_samples(b, root, BENCH_SCHED);
	take_samples(b, root, BENCH_SCHED_FAULTS);
	take_samples(b, root, BENCH_RUN_AGAIN);
	take_samples(b, root, BENCH_RUN_ANEW);
	if (!b->nr[BENCH_SCHED]) {
		bench_note(b, BENCH_SCHED, "not available: uhmm-checked could not measure it");
		for (int id = BENCH_SCHED_FAULTS; id <= BENCH_RUN_ANEW; id++)
			bench_note(b, id, "not available");
	}
	json_decref(root);
	return TOOL_OK;
}
#endif
