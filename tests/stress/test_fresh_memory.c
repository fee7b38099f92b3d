/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * CPUs that begin at once in a machine none of whose memory was ever used: they share its first blocks,
 * and one asks the host for memory of a block while others use frames of it.
 *
 * UHMM_TEST_SECONDS: how long it goes on.
 */
#include "stress/stress.h"

/* So that each takes a few words of a block's bitmap, and half of the frames change hands. */
enum { THREADS = 8, PAGES = 200 };

#define PART(t) (0x40000000UL + (t) * (1UL << 30))

static struct fixture f;
static pthread_barrier_t barrier;

static void *thread_main(void *arg)
{
	const unsigned int cpu = (unsigned int)(uintptr_t)arg;
	struct uhmm_task *task;

	must(uhmm_task_create(f.m, f.mm, cpu, "thread", &task));
	uhmm_task_enter(task);
	pthread_barrier_wait(&barrier);
	for (uhmm_vaddr_t i = 0; i < PAGES; i++) {
		uint64_t word = i;

		must(uhmm_cpu_write(f.mm, PART(cpu) + i * PAGE, &word, sizeof(word), NULL));
	}
	uhmm_task_leave();
	uhmm_task_destroy(task);
	return NULL;
}

static void run_once(void)
{
	struct uhmm_machine_config config = { .nr_cpus = THREADS, .ram_bytes = 256UL << 20 };
	pthread_t id[THREADS];

	stress_create(&f, config);
	for (uintptr_t i = 0; i < THREADS; i++)
		map_fixed(f.mm, PART(i), PAGES, RW);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		must(pthread_create(&id[i], NULL, thread_main, (void *)i));
	for (unsigned int i = 0; i < THREADS; i++)
		must(pthread_join(id[i], NULL));
	pthread_barrier_destroy(&barrier);
	must(uhmm_machine_verify(f.m));
	fixture_destroy(&f);
}

START_TEST(cpus_begin_at_once)
{
	double until = now_seconds() + test_seconds();

	do
		run_once();
	while (now_seconds() < until);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fresh_memory");
	TCase *tc = tcase_create("fresh_memory");

	tcase_set_timeout(tc, 3600);
	tcase_add_test(tc, cpus_begin_at_once);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
