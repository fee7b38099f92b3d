// SPDX-License-Identifier: LGPL-2.1-or-later
/* Interval notifiers: sequences, what is put off, who is called for what. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "unit/inside.h"

enum { N = 4 };

static struct watcher w, w2;

/* An invalidation of the pages of AT, as a writer of page tables makes it. */
static struct uhmm_mmu_notifier_range range_of(uhmm_vaddr_t start, unsigned int npages)
{
	return (struct uhmm_mmu_notifier_range)UHMM__NOTIFIER_RANGE(
		f.mm, UHMM_MMU_NOTIFY_CLEAR, start, start + npages * PAGE, NULL);
}

static bool would_wait(const struct watcher *watcher)
{
	unsigned long seq;

	return !uhmm__interval_try_begin(watcher->mni, &seq);
}

/* ---- sequences ---- */

START_TEST(read_side_without_invalidation)
{
	unsigned long seq;

	watch(&w, f.mm, AT, N);
	seq = uhmm_mmu_interval_read_begin(w.mni);
	expect(!uhmm_mmu_interval_read_retry(w.mni, seq));
	expect_eq(counted(f.m, UHMM_CNT_NOTIFIER_WAIT), 0);
	unwatch(&w);
}
END_TEST

START_TEST(invalidation_moves_the_sequence)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, 1);
	unsigned long seq;

	watch(&w, f.mm, AT, N);
	seq = uhmm_mmu_interval_read_begin(w.mni);
	uhmm__invalidate_start(&range);
	expect(uhmm_mmu_interval_read_retry(w.mni, seq));
	expect(would_wait(&w));
	uhmm__invalidate_end(&range);
	expect(!would_wait(&w));
	/* For good, not only while it lasts. */
	expect(uhmm_mmu_interval_read_retry(w.mni, seq));
	seq = uhmm_mmu_interval_read_begin(w.mni);
	expect(!uhmm_mmu_interval_read_retry(w.mni, seq));
	unwatch(&w);
}
END_TEST

/* Invalidations that a notifier does not care for, or does not meet, leave its sequence alone. */
START_TEST(only_set_seq_moves_it)
{
	struct uhmm_mmu_notifier_range other = range_of(AT + N * PAGE, 1);
	struct uhmm_mmu_notifier_range own =
		UHMM__NOTIFIER_RANGE(f.mm, UHMM_MMU_NOTIFY_MIGRATE, AT, AT + PAGE, f.dev[0]);
	unsigned long seq;

	watch(&w, f.mm, AT, N);
	w.ignore = f.dev[0];
	seq = uhmm_mmu_interval_read_begin(w.mni);
	uhmm__invalidate_start(&other);
	expect(!would_wait(&w));
	uhmm__invalidate_end(&other);
	expect_eq(w.calls, 0);
	uhmm__invalidate_start(&own);
	expect(!would_wait(&w));
	uhmm__invalidate_end(&own);
	expect_eq(w.calls, 1);
	expect(!uhmm_mmu_interval_read_retry(w.mni, seq));
	unwatch(&w);
}
END_TEST

START_TEST(nested_invalidations_end_with_the_last)
{
	struct uhmm_mmu_notifier_range a = range_of(AT, 1), b = range_of(AT + PAGE, 1);

	watch(&w, f.mm, AT, N);
	uhmm__invalidate_start(&a);
	uhmm__invalidate_start(&b);
	uhmm__invalidate_end(&a);
	expect(would_wait(&w));
	uhmm__invalidate_end(&b);
	expect(!would_wait(&w));
	unwatch(&w);
}
END_TEST

static void *wait_for_begin(void *arg)
{
	struct uhmm_task *t;

	expect_eq(uhmm_task_create(f.m, f.mm, 1, "reader", &t), 0);
	uhmm_task_enter(t);
	(void)uhmm_mmu_interval_read_begin(w.mni);
	atomic_store((_Atomic bool *)arg, true);
	uhmm_task_leave();
	uhmm_task_destroy(t);
	return NULL;
}

START_TEST(read_begin_waits_for_the_end)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, 1);
	_Atomic bool done = false;
	pthread_t reader;

	watch(&w, f.mm, AT, N);
	uhmm__invalidate_start(&range);
	expect_eq(pthread_create(&reader, NULL, wait_for_begin, &done), 0);
	while (!counted(f.m, UHMM_CNT_NOTIFIER_WAIT))
		sched_yield();
	expect(!atomic_load(&done));
	uhmm__invalidate_end(&range);
	expect_eq(pthread_join(reader, NULL), 0);
	expect(atomic_load(&done));
	unwatch(&w);
}
END_TEST

/* ---- insertion and removal while an invalidation is going on ---- */

/* The tree is frozen by an invalidation that met an interval. */
START_TEST(insertion_is_deferred)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, N);

	watch(&w, f.mm, AT, N);
	uhmm__invalidate_start(&range);
	watch(&w2, f.mm, AT, N);
	expect(!w2.mni->in_tree);
	/* What it was not told of may be of its range. */
	expect(would_wait(&w2));
	uhmm__invalidate_end(&range);
	expect(w2.mni->in_tree);
	expect(!would_wait(&w2));
	expect_eq(w2.calls, 0);
	uhmm__invalidate_start(&range);
	uhmm__invalidate_end(&range);
	expect_eq(w2.calls, 1);
	unwatch(&w2);
	unwatch(&w);
}
END_TEST

START_TEST(insertion_into_a_quiet_tree)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, 1);
	struct uhmm_mm *mm;

	/* An mm without mirrors; the invalidation meets nobody. */
	expect_eq(uhmm_mm_create(f.m, &mm), 0);
	range.mm = mm;
	watch(&w, mm, AT + PAGE, 1);
	uhmm__invalidate_start(&range);
	watch(&w2, mm, AT, N);
	expect(w2.mni->in_tree);
	expect(would_wait(&w2));
	uhmm__invalidate_end(&range);
	expect(!would_wait(&w2));
	unwatch(&w2);
	unwatch(&w);
	uhmm_mmput(mm);
}
END_TEST

START_TEST(deferred_insertion_can_be_taken_back)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, N);
	struct uhmm_task *other = another_task(f.m), *self;

	watch(&w, f.mm, AT, N);
	uhmm__invalidate_start(&range);
	self = become(other);
	watch(&w2, f.mm, AT, N);
	/* Never in the tree: nothing to wait for. */
	unwatch(&w2);
	become(self);
	uhmm_task_destroy(other);
	uhmm__invalidate_end(&range);
	uhmm__invalidate_start(&range);
	uhmm__invalidate_end(&range);
	expect_eq(w2.calls, 0);
	expect_eq(w.calls, 2);
	unwatch(&w);
}
END_TEST

static void *remove_it(void *arg)
{
	struct uhmm_task *t;

	expect_eq(uhmm_task_create(f.m, f.mm, 1, "remover", &t), 0);
	uhmm_task_enter(t);
	uhmm_mmu_interval_notifier_remove(w.mni);
	atomic_store((_Atomic bool *)arg, true);
	uhmm_task_leave();
	uhmm_task_destroy(t);
	return NULL;
}

START_TEST(removal_waits_for_the_end)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, N);
	_Atomic bool done = false;
	pthread_t remover;

	watch(&w, f.mm, AT, N);
	uhmm__invalidate_start(&range);
	expect_eq(pthread_create(&remover, NULL, remove_it, &done), 0);
	while (!counted(f.m, UHMM_CNT_SLEEPS))
		sched_yield();
	expect(!atomic_load(&done));
	uhmm__invalidate_end(&range);
	expect_eq(pthread_join(remover, NULL), 0);
	uhmm__invalidate_start(&range);
	uhmm__invalidate_end(&range);
	expect_eq(w.calls, 1);
}
END_TEST

/* ---- callbacks that must not sleep ---- */

START_TEST(not_blockable_may_be_refused)
{
	struct uhmm_mmu_notifier_range range = range_of(AT, 1);

	watch(&w, f.mm, AT, N);
	range.blockable = false;
	w.refuse = true;
	expect_eq(uhmm__invalidate_start(&range), -EAGAIN);
	/* No end follows; nobody is left waiting. */
	w.refuse = false;
	expect(!would_wait(&w));
	expect_eq(uhmm__invalidate_start(&range), 0);
	uhmm__invalidate_end(&range);
	unwatch(&w);
}
END_TEST

/* ---- arguments ---- */

START_TEST(insertion_errors)
{
	struct uhmm_mmu_interval_notifier *mni = NULL;
	static const struct uhmm_mmu_interval_notifier_ops none;

	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, 0, &watcher_ops, NULL, &mni),
		  -EOVERFLOW);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, PAGE, &none, NULL, &mni), -EINVAL);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, UINT64_MAX - PAGE, 2 * PAGE, &watcher_ops,
						    NULL, &mni),
		  -EOVERFLOW);
	expect(!mni);
	/* The very end is allowed. */
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, UINT64_MAX - PAGE + 1, PAGE, &watcher_ops,
						    &w, &mni),
		  0);
	expect(uhmm_mmu_interval_data(mni) == &w);
	expect(uhmm_mmu_interval_mm(mni) == f.mm);
	uhmm_mmu_interval_notifier_remove(mni);
	uhmm_mmu_interval_notifier_remove(NULL);
}
END_TEST

/* ---- which operation says what ---- */

START_TEST(events_of_operations)
{
	struct uhmm_mm *child;

	map_written(AT, N);
	watch(&w, f.mm, AT, N);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(w.events[UHMM_MMU_NOTIFY_PROTECTION_VMA], 1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(w.events[UHMM_MMU_NOTIFY_CLEAR], 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(w.events[UHMM_MMU_NOTIFY_PROTECTION_PAGE] >= 1);
	put_word(f.mm, AT + PAGE, 7);
	expect_eq(w.events[UHMM_MMU_NOTIFY_CLEAR], 2);
	expect_eq(w.start, AT + PAGE);
	expect_eq(w.end, AT + 2 * PAGE);
	to_device(0, AT + 2 * PAGE, 1);
	expect(w.events[UHMM_MMU_NOTIFY_MIGRATE] >= 1);
	expect_eq(uhmm_munmap(f.mm, AT + 3 * PAGE, PAGE), 0);
	expect_eq(w.events[UHMM_MMU_NOTIFY_UNMAP], 1);
	/* Faults that only add tell nobody. */
	w.calls = 0;
	put_word(child, AT + 3 * PAGE, 1);
	map_fixed(f.mm, AT + 3 * PAGE, 1, RW);
	put_word(f.mm, AT + 3 * PAGE, 1);
	expect_eq(w.calls, 0);
	unwatch(&w);
	uhmm_mmput(child);
}
END_TEST

START_TEST(release_is_told_when_the_mm_goes)
{
	struct uhmm_mm *child;

	map_written(AT, N);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	watch(&w, child, AT, N);
	uhmm_mmput(child);
	expect_eq(w.events[UHMM_MMU_NOTIFY_RELEASE], 1);
	/* The structure lasts as long as the notifier. */
	unwatch(&w);
}
END_TEST

/* A device does not forget what it migrates itself; another one's mirror of the process does. */
START_TEST(mirror_filters_by_owner)
{
	struct uhmm_device_access access;
	uint64_t word = 5;

	map_written(AT, 1);
	for (int i = 0; i < 2; i++)
		expect_eq(mirror_op(f.mirror[i], UHMM_MIRROR_READ, AT, 1, (uint64_t[PAGE / 8]){ 0 },
				    NULL),
			  0);
	to_device(0, AT, 1);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, true, &word, UHMM_COMBINED, PAGE, &access),
		  0);
	expect(!access.faulted);
	expect_eq(uhmm_mirror_access(f.mirror[1], AT, false, &word, UHMM_COMBINED, PAGE, &access),
		  0);
	expect(access.faulted);
	expect_eq(word, 5);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("notifier");
	TCase *tc = tcase_create("interval notifiers");

	tcase_add_checked_fixture(tc, setup_fixture, teardown_fixture);
	tcase_add_test(tc, read_side_without_invalidation);
	tcase_add_test(tc, invalidation_moves_the_sequence);
	tcase_add_test(tc, only_set_seq_moves_it);
	tcase_add_test(tc, nested_invalidations_end_with_the_last);
	tcase_add_test(tc, read_begin_waits_for_the_end);
	tcase_add_test(tc, insertion_is_deferred);
	tcase_add_test(tc, insertion_into_a_quiet_tree);
	tcase_add_test(tc, deferred_insertion_can_be_taken_back);
	tcase_add_test(tc, removal_waits_for_the_end);
	tcase_add_test(tc, not_blockable_may_be_refused);
	tcase_add_test(tc, insertion_errors);
	tcase_add_test(tc, events_of_operations);
	tcase_add_test(tc, release_is_told_when_the_mm_goes);
	tcase_add_test(tc, mirror_filters_by_owner);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
