// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A migration against a CPU fault on the same page: the same sources on host threads and, step by
 * step, on fibers of one host thread. Current task, sleeping locks, folio waits, RCU readers and grace
 * periods are those of the library in both.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "fixture.h"

/* In one table, so that the reader's table may be freed by the third task. */
#define AT 0x40000000UL
#define NEIGHBOUR (AT + 4 * UHMM_PMD_SIZE)

enum scenario {
	TO_DEVICE,  /* a page in RAM goes to the device while a CPU writes to it */
	TO_RAM,	    /* a page on the device is brought home while a CPU writes to it */
	TWO_FAULTS, /* two CPUs touch a page on the device */
	WITH_UNMAP, /* TO_DEVICE, and a third task maps, faults, and frees tables */
	NR_SCENARIOS
};

static struct fixture f;
static enum scenario scenario;
static unsigned int finished; /* tasks that came to their end, when on fibers */

static uint64_t value_at(unsigned int i)
{
	return 0x1111111111111111UL * (i + 1);
}

static void setup(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 4, .content = UHMM_CONTENT_TAG };
	uint64_t buf[PAGE / 8];

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, 1, RW);
	put_word(f.mm, AT, value_at(0));
	if (scenario == TO_RAM || scenario == TWO_FAULTS)
		expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL), 0);
	/* Fibers bring their own tasks. */
	uhmm_task_leave();
	finished = 0;
}

static void teardown(void)
{
	uhmm_task_enter(f.task);
	/* Whoever won, nothing is lost. */
	expect_eq(get_word(f.mm, AT), value_at(1));
	fixture_destroy(&f);
}

/* ---- the tasks ---- */

static void migrator(void *arg)
{
	uint64_t buf[PAGE / 8];
	struct uhmm_mirror_cmd cmd;
	int ret;

	(void)arg;
	expect(uhmm_task_current());
	if (scenario == TO_RAM) {
		expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_SYS, AT, 1, NULL, &cmd), 0);
		expect(cmd.cpages <= 1);
	} else if (scenario == TWO_FAULTS) {
		expect(get_word(f.mm, AT) == value_at(0) || get_word(f.mm, AT) == value_at(1));
	} else {
		ret = mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL);
		/* The fault may have brought it home again before it was read back. */
		expect(ret == -ENOENT ||
		       (!ret && (buf[0] == value_at(0) || buf[0] == value_at(1))));
	}
	finished++;
}

static void toucher(void *arg)
{
	uint64_t value = value_at(1);

	(void)arg;
	expect(uhmm_task_current());
	expect_eq(uhmm_cpu_write(f.mm, AT, &value, sizeof(value), NULL), 0);
	finished++;
}

/* VMAs and tables come and go: lockless readers, and grace periods. */
static void unmapper(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 2; i++) {
		map_fixed(f.mm, NEIGHBOUR, 1, RW);
		put_word(f.mm, NEIGHBOUR, 1);
		expect_eq(uhmm_munmap(f.mm, NEIGHBOUR, PAGE), 0);
	}
	finished++;
}

static void (*const tasks[])(void *) = { migrator, toucher, unmapper };

static unsigned int nr_tasks(void)
{
	return scenario == WITH_UNMAP ? 3 : 2;
}

/* ---- on host threads ---- */

static pthread_barrier_t barrier;

static void *thread_main(void *arg)
{
	uintptr_t i = (uintptr_t)arg;
	struct uhmm_task *t;

	expect_eq(uhmm_task_create(f.m, f.mm, (unsigned int)i, "thread", &t), 0);
	uhmm_task_enter(t);
	expect(uhmm_task_current() == t);
	pthread_barrier_wait(&barrier);
	tasks[i](NULL);
	uhmm_task_leave();
	uhmm_task_destroy(t);
	return NULL;
}

START_TEST(on_threads)
{
	enum { ROUNDS = 50 };
	pthread_t threads[3];

	scenario = (enum scenario)_i;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		setup();
		pthread_barrier_init(&barrier, NULL, nr_tasks());
		for (uintptr_t i = 0; i < nr_tasks(); i++)
			expect_eq(pthread_create(&threads[i], NULL, thread_main, (void *)i), 0);
		for (unsigned int i = 0; i < nr_tasks(); i++)
			expect_eq(pthread_join(threads[i], NULL), 0);
		pthread_barrier_destroy(&barrier);
		teardown();
	}
}
END_TEST

/* ---- on fibers ---- */

struct run {
	char *trace; /* malloc'ed */
	uint64_t steps;
	struct uhmm_counters counted;
	char dump[4096];
};

static void emit(void *data, const char *line)
{
	struct run *r = data;
	size_t n = strlen(r->dump);

	snprintf(r->dump + n, sizeof(r->dump) - n, "%s\n", line);
}

static const struct uhmm_sched_config fixed = { .size = sizeof(fixed), .policy = UHMM_SCHED_FIXED };

static void spawn(struct uhmm_sched *s, unsigned int i)
{
	expect_eq(uhmm_sched_spawn(s, "fiber", i, f.mm, tasks[i], NULL), 0);
}

static void must_end(struct uhmm_sched *s, const char *schedule)
{
	int ret;

	expect_eq(uhmm_sched_set_schedule(s, schedule), 0);
	ret = uhmm_sched_run(s);
	if (ret)
		ck_abort_msg("scenario %d, schedule '%s': %d, %s", (int)scenario,
			     schedule ? schedule : "", ret, f.text);
}

static void must_run(const struct uhmm_sched_config *config, const char *schedule, struct run *r)
{
	struct uhmm_sched *s;

	memset(r, 0, sizeof(*r));
	setup();
	expect_eq(uhmm_sched_create(f.m, config, &s), 0);
	for (unsigned int i = 0; i < nr_tasks(); i++)
		spawn(s, i);
	must_end(s, schedule);
	expect_eq(finished, nr_tasks());
	r->trace = strdup(uhmm_sched_trace(s));
	r->steps = uhmm_sched_steps(s);
	uhmm_counters_read(f.m, &r->counted);
	uhmm_sched_destroy(s);
	uhmm_mm_dump(f.mm, emit, r);
	teardown();
}

/* The first of two tasks, and only then the other. Returns what the first did. */
static char *run_in_order(unsigned int first)
{
	struct uhmm_sched *s;
	struct uhmm_counters c;
	char *trace;

	setup();
	expect_eq(uhmm_sched_create(f.m, &fixed, &s), 0);
	spawn(s, first);
	must_end(s, NULL);
	trace = strdup(uhmm_sched_trace(s));
	spawn(s, !first);
	must_end(s, NULL);
	uhmm_sched_destroy(s);
	/* Nobody was in anybody's way. */
	uhmm_counters_read(f.m, &c);
	expect_eq(c.v[UHMM_CNT_FAULT_MIGRATION_WAIT] + c.v[UHMM_CNT_FAULT_DEVICE_WAIT], 0);
	teardown();
	return trace;
}

/* The first @n choices of a trace. Returns: false if it has no more than that. */
static bool cut(const char *trace, unsigned int n, char *out, size_t size)
{
	unsigned int left = 0;
	size_t len = 0;

	out[0] = '\0';
	while (*trace) {
		unsigned int id, times = 1, take;
		char kind;
		int used = 0;

		if (sscanf(trace, " %c%u%n*%u%n", &kind, &id, &used, &times, &used) < 2)
			break;
		trace += used;
		take = times < n ? times : n;
		left += times - take;
		n -= take;
		if (take)
			len += (size_t)snprintf(out + len, size - len, "%c%u*%u ", kind, id, take);
		expect(len < size);
	}
	return left;
}

static uint64_t waits(const struct run *r)
{
	return r->counted.v[UHMM_CNT_FAULT_MIGRATION_WAIT] +
	       r->counted.v[UHMM_CNT_FAULT_DEVICE_WAIT];
}

START_TEST(one_after_the_other)
{
	scenario = (enum scenario)_i;
	free(run_in_order(0));
	free(run_in_order(1));
}
END_TEST

/*
 * The migration is cut at each of its steps, and the fault comes there. At some of them it finds the
 * migration entry, or the locked device page, and sleeps until the migration is done.
 */
START_TEST(fault_at_each_step)
{
	unsigned int n = 0, nr_waits = 0;
	char *alone, schedule[4096];
	struct run r, again;

	scenario = (enum scenario)_i;
	alone = run_in_order(0);
	for (; cut(alone, n, schedule, sizeof(schedule)); n++) {
		must_run(&fixed, schedule, &r);
		/* Whoever waits must not be in the way of what it waits for. */
		expect_eq(r.counted.v[scenario == TO_DEVICE ? UHMM_CNT_MIGRATED_TO_DEVICE
							    : UHMM_CNT_MIGRATED_TO_RAM],
			  1);
		if (waits(&r) && !nr_waits++) {
			/* The first of them once more, by its trace: the same to the bit. */
			must_run(&fixed, r.trace, &again);
			ck_assert_str_eq(again.trace, r.trace);
			ck_assert_str_eq(again.dump, r.dump);
			expect_eq(again.steps, r.steps);
			expect(!memcmp(&again.counted, &r.counted, sizeof(r.counted)));
			expect(r.counted.v[UHMM_CNT_SLEEPS] > 0);
			free(again.trace);
		}
		free(r.trace);
	}
	free(alone);
	printf("scenario %d: %u steps, waited in %u schedules\n", (int)scenario, n, nr_waits);
	expect(n > 20);
	expect(nr_waits);
}
END_TEST

START_TEST(random_schedules)
{
	struct uhmm_sched_config config = { .size = sizeof(config), .policy = UHMM_SCHED_RANDOM };
	uint64_t seed = test_seed("migrate and fault"), nr_waits = 0, nr_runs = 0;
	double until = now_seconds() + test_seconds() / NR_SCENARIOS;
	struct run r, again;

	scenario = (enum scenario)_i;
	for (; nr_runs < 50 || now_seconds() < until; nr_runs++) {
		config.seed = seed + nr_runs;
		must_run(&config, NULL, &r);
		nr_waits += !!waits(&r);
		if (nr_runs < 10) {
			must_run(&config, NULL, &again);
			ck_assert_str_eq(again.trace, r.trace);
			free(again.trace);
			must_run(&fixed, r.trace, &again);
			ck_assert_str_eq(again.dump, r.dump);
			expect(!memcmp(&again.counted, &r.counted, sizeof(r.counted)));
			free(again.trace);
		}
		free(r.trace);
	}
	printf("scenario %d: %llu schedules, waited in %llu\n", (int)scenario,
	       (unsigned long long)nr_runs, (unsigned long long)nr_waits);
	expect(nr_waits);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("migrate_fault");
	TCase *tc = tcase_create("migration against fault");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_loop_test(tc, on_threads, 0, NR_SCENARIOS);
	tcase_add_loop_test(tc, one_after_the_other, 0, TWO_FAULTS);
	tcase_add_loop_test(tc, fault_at_each_step, 0, TWO_FAULTS);
	tcase_add_loop_test(tc, random_schedules, 0, NR_SCENARIOS);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
