// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pinning without locks (museum M11), under schedules that leave the pinner between its look at the
 * entry and its raising of the count:
 *
 *	T0: pins AT				T1
 *	1 reads the entry: frame X
 *						2 migrates AT, X is free
 *						3 faults elsewhere, gets X
 *	4 raises the count of X
 *	5 reads the entry again: changed
 *
 * Without 5 the device would write to somebody else's page. The same against a fork, which must see
 * the pin or be seen by write_protect_seq.
 */
#define _GNU_SOURCE
#include "fixture.h"
#include "sched/leaks.h"

#define AT 0x40000000UL

enum other { MIGRATES, FORKS, NR_OTHERS };

static struct fixture f;
static struct uhmm_mm *child;
static enum other other;

static void pinner(void *arg)
{
	uint64_t word = 77, seen;
	uhmm_pfn_t pfn;

	(void)arg;
	expect_eq(uhmm_pin_user_pages_fast(f.mm, AT, 1, UHMM_FOLL_WRITE, &pfn), 1);
	uhmm_sched_user_step();
	uhmm_page_read(f.m, pfn, 0, &seen, sizeof(seen));
	expect_eq(seen, 1);
	uhmm_page_write(f.m, pfn, 0, &word, sizeof(word));
	uhmm_sched_user_step();
	expect_eq(get_word(f.mm, AT), 77);
	/* Shared meanwhile, this would be a copy. */
	put_word(f.mm, AT, 78);
	uhmm_page_read(f.m, pfn, 0, &seen, sizeof(seen));
	expect_eq(seen, 78);
	uhmm_unpin_user_pages(f.m, &pfn, 1);
}

static void mover(void *arg)
{
	uint64_t buf[PAGE / 8];

	(void)arg;
	if (other == FORKS) {
		expect_eq(uhmm_mm_fork(f.mm, &child), 0);
		return;
	}
	(void)mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL);
	put_word(f.mm, AT + PAGE, 5);
}

/*
 * One run: the pinner goes @ahead steps, then the other @n, then both in turn. @n 0: the other alone.
 * Returns: steps of the run; 0: one could not go on so far.
 */
static uint64_t run_once(uint64_t ahead, uint64_t n, uint64_t *fast)
{
	/* The mover's CPU is that of the first write: its batch then needs no worker to be emptied. */
	struct uhmm_machine_config config = { .nr_cpus = 2, .content = UHMM_CONTENT_TAG };
	struct uhmm_sched *s;
	uint64_t steps;
	char text[64];
	int ret;

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, 2, RW);
	put_word(f.mm, AT, 1);
	uhmm_task_leave();
	child = NULL;
	expect_eq(uhmm_sched_create(f.m, NULL, &s), 0);
	if (n) {
		expect_eq(uhmm_sched_spawn(s, "pinner", 1, f.mm, pinner, NULL), 0);
		snprintf(text, sizeof(text), "T0*%llu T1*%llu", (unsigned long long)ahead,
			 (unsigned long long)n);
		expect_eq(uhmm_sched_set_schedule(s, text), 0);
	}
	expect_eq(uhmm_sched_spawn(s, "mover", 0, f.mm, mover, NULL), 0);
	ret = uhmm_sched_run(s);
	if (ret == -ESTALE) {
		uhmm_sched_destroy(s);
		uhmm_machine_destroy(f.m);
		return 0;
	}
	expect_eq(ret, 0);
	steps = uhmm_sched_steps(s);
	uhmm_sched_destroy(s);
	uhmm_task_enter(f.task);
	*fast += counted(f.m, UHMM_CNT_GUP_FAST);
	expect_eq(get_word(f.mm, AT), n ? 78 : 1);
	if (other == MIGRATES) {
		expect_eq(get_word(f.mm, AT + PAGE), 5);
	} else {
		uint64_t word = get_word(child, AT);

		/* As it was at the fork. */
		expect(word == 1 || word == 77 || word == 78);
		put_word(f.mm, AT, 79);
		expect_eq(get_word(child, AT), word);
		uhmm_mmput(child);
	}
	fixture_destroy(&f);
	return steps;
}

START_TEST(pin_or_be_seen)
{
	enum { WINDOW = 24 }; /* steps of a lockless pin, and some more */
	uint64_t fast = 0, runs = 0, n;

	allow_leaks();
	other = (enum other)_i;
	n = run_once(0, 0, &fast);
	for (uint64_t ahead = 1; ahead < WINDOW; ahead++) {
		for (uint64_t k = 1; k < 32; k++)
			runs += !!run_once(ahead, n * k / 32 + 1, &fast);
	}
	printf("%llu schedules, %llu pinned without a lock\n", (unsigned long long)runs,
	       (unsigned long long)fast);
	expect(fast && fast < runs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pin");
	TCase *tc = tcase_create("schedules");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_loop_test(tc, pin_or_be_seen, 0, NR_OTHERS);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
