// SPDX-License-Identifier: LGPL-2.1-or-later
/* The combined walker: one pass that faults and collects. */
#define _GNU_SOURCE
#include "unit/watched.h"

#define V UHMM_HMM_PFN_VALID
#define W UHMM_HMM_PFN_WRITE
#define M UHMM_HMM_PFN_MIGRATE
#define REQ_FAULT UHMM_HMM_PFN_REQ_FAULT
#define REQ_WRITE UHMM_HMM_PFN_REQ_WRITE
#define REQ_MIGRATE UHMM_HMM_PFN_REQ_MIGRATE

enum { N = 8 };

static uint64_t pfns[N], dst[N];
static struct uhmm_migrate_vma migrate;
static struct uhmm_hmm_range range;

static void prepare(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	memset(pfns, 0, sizeof(pfns));
	memset(dst, 0xff, sizeof(dst));
	migrate = (struct uhmm_migrate_vma){
		.size = sizeof(migrate),
		.src = pfns,
		.dst = dst,
		.pgmap_owner = f.dev[0],
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	range = (struct uhmm_hmm_range){
		.size = sizeof(range),
		.notifier = w.mni,
		.start = start,
		.end = start + npages * PAGE,
		.hmm_pfns = pfns,
		.default_flags = flags | REQ_MIGRATE,
		.dev_private_owner = f.dev[0],
		.migrate = &migrate,
	};
}

/* The locked form; mmap_lock is held for reading on success. */
static int walk_locked(void)
{
	int err;

	range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	uhmm_mmap_read_lock(f.mm);
	err = uhmm_range_fault(&range);
	if (err)
		uhmm_mmap_read_unlock(f.mm);
	return err;
}

static int walk(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	prepare(start, npages, flags);
	return uhmm_range_fault_unlocked_timeout(&range, 0);
}

/* Put everything back. */
static void undo(void)
{
	uhmm_migrate_hmm_range_setup(&range);
	uhmm_migrate_vma_finalize(&migrate);
	uhmm_mmap_read_unlock(f.mm);
	fixture_verify(&f);
}

static uint64_t walks(void)
{
	return counted(f.m, UHMM_CNT_WALKS);
}

/* ---- arguments ---- */

START_TEST(needs_a_migrate_argument)
{
	map_written(AT, 1);
	prepare(AT, 1, REQ_FAULT);
	range.migrate = NULL;
	expect_eq(walk_locked(), -EINVAL);
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), -EINVAL);
	prepare(AT, 1, REQ_FAULT);
	migrate.src = NULL;
	expect_eq(walk_locked(), -EINVAL);
	prepare(AT, 1, REQ_FAULT);
	migrate.dst = NULL;
	expect_eq(walk_locked(), -EINVAL);
	prepare(AT, 1, REQ_FAULT);
	migrate.size = 8;
	expect_eq(walk_locked(), -EINVAL);
}
END_TEST

/* Found before anything is touched. */
START_TEST(range_across_vmas_is_einval)
{
	uint64_t before, invalidations;

	map_written(AT, 4);
	expect_eq(uhmm_mprotect(f.mm, AT + 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	before = walks();
	invalidations = w.calls;
	expect_eq(walk(AT, 4, REQ_FAULT), -EINVAL);
	expect_eq(walk(AT - PAGE, 2, REQ_FAULT), -EINVAL);
	expect_eq(walk(AT + 3 * PAGE, 2, REQ_FAULT), -EINVAL);
	expect_eq(walk(AT + 8 * PAGE, 2, REQ_FAULT), -EINVAL);
	expect_eq(walks(), before);
	expect_eq(w.calls, invalidations);
	expect(in_ram(f.mm, AT));
	fixture_verify(&f);
	expect_eq(walk(AT, 2, REQ_FAULT), 0);
	undo();
}
END_TEST

/* ---- what is collected ---- */

START_TEST(fills_in_vma_and_outputs)
{
	uhmm_pfn_t page[2];

	map_written(AT, 2);
	page[0] = pfn_at(f.mm, AT);
	page[1] = pfn_at(f.mm, AT + PAGE);
	expect_eq(walk(AT, 2, REQ_FAULT), 0);
	expect_eq(walks(), 1);
	expect_eq(pfns[0], V | W | M | page[0]);
	expect_eq(pfns[1], V | W | M | page[1]);
	expect(migrate.vma == uhmm_vma_lookup(f.mm, AT));
	expect_eq(migrate.start, AT);
	expect_eq(migrate.end, AT + 2 * PAGE);
	expect(leaf_is_migration(pte_at(f.mm, AT)));
	expect(folio_test(pfn_to_frame(f.m, page[0]), PG_LOCKED));
	/* Its own invalidation is over. */
	expect(!uhmm_mmu_interval_read_retry(w.mni, range.notifier_seq));
	uhmm_migrate_hmm_range_setup(&range);
	expect_eq(migrate.npages, 2);
	expect_eq(migrate.cpages, 2);
	expect_eq(migrate.src[0],
		  uhmm_migrate_pfn(page[0]) | UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_WRITE);
	expect_eq(dst[0], 0);
	uhmm_migrate_vma_finalize(&migrate);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(pfn_at(f.mm, AT), page[0]);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* A destination may be put there without a fault. */
START_TEST(empty_and_zero_pages_are_migrate_alone)
{
	map_fixed(f.mm, AT, 3, RW);
	touch(f.mm, AT + PAGE);
	expect_eq(walk(AT, 3, REQ_FAULT | REQ_WRITE), 0);
	for (unsigned int i = 0; i < 3; i++)
		expect_eq(pfns[i], M);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FROM_HMM), 0);
	undo();
	expect(is_zero_page(f.mm, AT + PAGE));
}
END_TEST

START_TEST(write_to_readonly_vma_is_eperm)
{
	map_written(AT, 3);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, 3 * PAGE, PROT_READ), 0);
	expect_eq(walk(AT, 3, REQ_FAULT | REQ_WRITE), -EPERM);
	expect_eq(walk(AT + PAGE, 2, REQ_FAULT | REQ_WRITE), -EPERM);
	/* Asked by a page that is this process's alone, for itself. */
	prepare(AT, 1, 0);
	range.pfn_flags_mask = REQ_FAULT | REQ_WRITE;
	pfns[0] = REQ_FAULT | REQ_WRITE;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), -EPERM);
	fixture_verify(&f);
	expect_eq(walk(AT, 3, REQ_FAULT), 0);
	expect_eq(pfns[0] & UHMM_HMM_PFN_FLAGS, V | M);
	undo();
}
END_TEST

START_TEST(unreadable_vma_is_efault)
{
	map_written(AT, 1);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	expect_eq(walk(AT, 1, REQ_FAULT), -EFAULT);
	fixture_verify(&f);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], UHMM_HMM_PFN_ERROR);
	undo();
}
END_TEST

/* Which pages qualify is for migrate->flags to say, not for the walk's request. */
START_TEST(select_flags_decide)
{
	map_written(AT, 3);
	to_device(0, AT, 1);
	to_device(1, AT + PAGE, 1);
	expect_eq(walk(AT, 3, 0), 0);
	expect_eq(pfns[0], V | W | pfn_at(f.mm, AT)); /* the device's own: there already */
	expect_eq(pfns[1], 0);
	expect(pfns[2] & M);
	undo();
	prepare(AT, 3, 0);
	migrate.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	expect(pfns[0] & M && pfns[0] & V);
	expect_eq(pfns[1], 0);
	expect_eq(pfns[2], V | W | pfn_at(f.mm, AT + 2 * PAGE));
	undo();
	expect(on_device(f.mm, AT));
	expect(on_device(f.mm, AT + PAGE));
}
END_TEST

START_TEST(without_a_request_nothing_is_faulted)
{
	struct uhmm_mm *child;

	map_written(AT, 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	to_device(1, AT, 1);
	expect_eq(walk(AT, 2, REQ_WRITE), 0);
	expect_eq(pfns[0], 0);
	expect_eq(pfns[1] & UHMM_HMM_PFN_FLAGS, V | M);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FROM_HMM), 0);
	undo();
	uhmm_mmput(child);
}
END_TEST

/* (q) As the range walk: a page of the device's own that is read-only is no fault, and not moved. */
START_TEST(own_readonly_page_stays_without_write)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(walk(AT, 1, REQ_FAULT | REQ_WRITE), 0);
	expect_eq(pfns[0], V | pfn_at(f.mm, AT));
	undo();
	uhmm_mmput(child);
}
END_TEST

START_TEST(locked_folio_is_left_in_place)
{
	struct uhmm__frame *frame;
	struct uhmm_task *locker;

	map_written(AT, 2);
	frame = frame_at(f.mm, AT);
	locker = lock_by_another(frame);
	expect_eq(walk(AT, 2, REQ_FAULT), 0);
	expect_eq(pfns[0], V | W | pfn_at(f.mm, AT));
	expect(pfns[1] & M);
	unlock_by_another(locker, frame);
	undo();
}
END_TEST

START_TEST(pinned_page_is_left_in_place)
{
	struct uhmm__frame *frame;
	pte_t before;

	map_written(AT, 1);
	frame = frame_at(f.mm, AT);
	before = pte_at(f.mm, AT);
	atomic_fetch_add(&frame->refcount, UHMM_PIN_BIAS);
	expect_eq(walk(AT, 1, REQ_FAULT), 0);
	expect(!(pfns[0] & M));
	expect_eq(pte_at(f.mm, AT).val, before.val);
	expect(!folio_test(frame, PG_LOCKED));
	expect_eq(counted(f.m, UHMM_CNT_FAIL_PINNED), 1);
	undo();
	atomic_fetch_sub(&frame->refcount, UHMM_PIN_BIAS);
}
END_TEST

/* ---- errors undo everything ---- */

START_TEST(error_undoes_what_was_collected)
{
	struct uhmm_mm *child;
	uhmm_pfn_t page;

	map_written(AT, 4);
	page = pfn_at(f.mm, AT);
	/* The last page must be copied, for which there is no memory. */
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DONTFORK), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DOFORK), 0);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 0), 0);
	expect_eq(walk(AT, 4, REQ_FAULT | REQ_WRITE), -ENOMEM);
	fixture_verify(&f);
	expect_eq(pfn_at(f.mm, AT), page);
	expect(pte_write(pte_at(f.mm, AT)));
	for (unsigned int i = 0; i < 4; i++) {
		expect(!(pfns[i] & M));
		expect(!folio_test(frame_at(f.mm, AT + i * PAGE), PG_LOCKED));
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
	uhmm_mmap_write_lock(f.mm);
	uhmm_mmap_write_unlock(f.mm);
	uhmm_mmput(child);
}
END_TEST

/* What looks like a page that was collected, all along the range, before the walk got there. */
START_TEST(input_is_not_taken_for_output)
{
	struct uhmm_mm *child;

	map_written(AT, 4);
	/* The second page must be copied; at first there is no memory for it. */
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, 2 * PAGE, MADV_DONTFORK), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, 2 * PAGE, MADV_DOFORK), 0);
	put_word(f.mm, AT, 1);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 0), 0);
	for (int err = -ENOMEM, again = 1; again >= 0; again--, err = 0) {
		prepare(AT, 4, REQ_FAULT | REQ_WRITE);
		for (unsigned int i = 0; i < 4; i++)
			pfns[i] = pfn_at(f.mm, AT + i * PAGE) | V | W | M;
		expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), err);
		if (!err) {
			for (unsigned int i = 0; i < 4; i++)
				expect(pte_is_leaf_entry(pte_at(f.mm, AT + i * PAGE)));
			undo();
		}
		fixture_verify(&f);
		for (unsigned int i = 0; i < 4; i++)
			expect(!folio_test(frame_at(f.mm, AT + i * PAGE), PG_LOCKED));
	}
	uhmm_mmput(child);
}
END_TEST

START_TEST(stale_sequence_is_ebusy)
{
	map_written(AT, 2);
	prepare(AT, 2, REQ_FAULT);
	range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_range_fault(&range), -EBUSY);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(walks(), 0);
	fixture_verify(&f);
}
END_TEST

/* ---- a fault inside that copies invalidates the caller's own notifier ---- */

static struct uhmm_mm *fork_of_two(void)
{
	struct uhmm_mm *child;

	map_written(AT, 2);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	return child;
}

START_TEST(copy_in_locked_form_is_ebusy_then_success)
{
	struct uhmm_mm *child = fork_of_two();

	prepare(AT, 2, REQ_FAULT | REQ_WRITE);
	expect_eq(walk_locked(), -EBUSY);
	fixture_verify(&f);
	prepare(AT, 2, REQ_FAULT | REQ_WRITE);
	expect_eq(walk_locked(), 0);
	expect_eq(pfns[0] & UHMM_HMM_PFN_FLAGS, V | W | M);
	expect_eq(pfns[1] & UHMM_HMM_PFN_FLAGS, V | W | M);
	undo();
	uhmm_mmput(child);
}
END_TEST

START_TEST(copy_in_unlocked_form_is_one_walk)
{
	struct uhmm_mm *child = fork_of_two();

	expect_eq(walk(AT, 2, REQ_FAULT | REQ_WRITE), 0);
	expect_eq(walks(), 1);
	expect_eq(counted(f.m, UHMM_CNT_WALK_RESTARTS), 2);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 2);
	expect_eq(pfns[1] & UHMM_HMM_PFN_FLAGS, V | W | M);
	expect(!uhmm_mmu_interval_read_retry(w.mni, range.notifier_seq));
	undo();
	uhmm_mmput(child);
}
END_TEST

START_TEST(copy_in_setup_form_is_never_ebusy)
{
	struct uhmm_mm *child = fork_of_two();

	prepare(AT, 2, 0);
	migrate.start = AT;
	migrate.end = AT + 2 * PAGE;
	migrate.flags |= UHMM_MIGRATE_VMA_FAULT | UHMM_MIGRATE_VMA_FAULT_WRITE;
	uhmm_mmap_read_lock(f.mm);
	migrate.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&migrate), 0);
	expect_eq(walks(), 1);
	expect_eq(migrate.cpages, 2);
	expect(migrate.src[1] & UHMM_MIGRATE_PFN_WRITE);
	uhmm_migrate_vma_finalize(&migrate);
	uhmm_mmap_read_unlock(f.mm);
	fixture_verify(&f);
	uhmm_mmput(child);
}
END_TEST

/* Without the flag migrate_vma_setup() collects what is there, as it is today. */
START_TEST(setup_without_fault_does_not_fault)
{
	struct uhmm_mm *child = fork_of_two();

	prepare(AT, 2, 0);
	migrate.start = AT;
	migrate.end = AT + 2 * PAGE;
	uhmm_mmap_read_lock(f.mm);
	migrate.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&migrate), 0);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FROM_HMM), 0);
	expect(!(migrate.src[0] & UHMM_MIGRATE_PFN_WRITE));
	uhmm_migrate_vma_finalize(&migrate);
	uhmm_mmap_read_unlock(f.mm);
	uhmm_mmput(child);
}
END_TEST

/*
 * A driver that takes its own invalidations for others': each walk spoils itself. It is not caught in
 * there for ever.
 */
START_TEST(driver_without_owner_filter_gets_ebusy_in_time)
{
	uint64_t before;

	map_written(AT, 2);
	to_device(0, AT, 1); /* reported, but not collected: must be looked at again */
	w.ignore = NULL;
	prepare(AT, 2, REQ_FAULT);
	expect_eq(walk_locked(), -EBUSY);
	before = walks();
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 5000000), -EBUSY);
	expect(walks() > before);
	fixture_verify(&f);
}
END_TEST

/* ---- back-off ---- */

/* The first page is collected when the second, on another device, must be waited for. */
START_TEST(foreign_device_page_backs_off)
{
	map_written(AT, 2);
	to_device(1, AT + PAGE, 1);
	expect_eq(walk(AT, 2, REQ_FAULT), 0);
	expect_eq(counted(f.m, UHMM_CNT_BACK_OFF), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE), 1);
	expect(pfns[0] & M && pfns[0] & V);
	expect(pfns[1] & M && pfns[1] & V);
	undo();
	expect(in_ram(f.mm, AT + PAGE));
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

/* More of them are brought in while nothing is held: the walk begins again only once. */
START_TEST(foreign_device_pages_back_off_once)
{
	map_written(AT, N);
	to_device(1, AT + PAGE, N - 3);
	to_device(1, AT + (N - 1) * PAGE, 1);
	expect_eq(walk(AT, N, REQ_FAULT), 0);
	expect_eq(counted(f.m, UHMM_CNT_BACK_OFF), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE), N - 2);
	for (int i = 0; i < N; i++)
		expect(pfns[i] & M && pfns[i] & V);
	undo();
	for (int i = 0; i < N; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

/* What a page asks for itself is there again for the walk that begins again. */
START_TEST(requests_of_pages_after_an_error)
{
	map_written(AT, 2);
	prepare(AT, 2, 0);
	range.pfn_flags_mask = REQ_FAULT | REQ_WRITE;
	pfns[0] = REQ_FAULT;
	range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
	w.ignore = NULL;
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_range_fault(&range), -EBUSY);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(pfns[0], REQ_FAULT);
	expect_eq(pfns[1], 0);
	fixture_verify(&f);
}
END_TEST

/* What another task does once, while the walk copies a page. */
struct meanwhile {
	struct uhmm_task *task; /* NULL: nothing, or it is done */
	void (*what)(void);
};

static bool do_meanwhile(struct uhmm_mmu_interval_notifier *mni,
			 const struct uhmm_mmu_notifier_range *event, unsigned long seq)
{
	struct meanwhile *other = uhmm_mmu_interval_data(mni);
	struct uhmm_task *t = other->task, *self;

	if (event->event == UHMM_MMU_NOTIFY_MIGRATE)
		return true; /* its own */
	uhmm_mmu_interval_set_seq(mni, seq);
	if (event->event != UHMM_MMU_NOTIFY_CLEAR || !t)
		return true;
	other->task = NULL;
	self = become(t);
	other->what();
	become(self);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops meanwhile_ops = { .invalidate = do_meanwhile };

/* The first page becomes a NUMA hint. */
static void hint_first(void)
{
	expect_eq(uhmm_change_prot_numa(f.mm, AT, PAGE), 1);
}

/* Two pages, of which another has locked the first; a walk in which the sequence moves, so that it looks again. */
struct second_look {
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_mm *child;
	struct uhmm_task *locker;
	struct uhmm__frame *first;
};

static void second_look_begin(struct second_look *s, struct meanwhile *other, uint64_t mask)
{
	s->child = fork_of_two();
	put_word(f.mm, AT, 5);
	s->first = frame_at(f.mm, AT);
	folio_get(s->first);
	s->locker = lock_by_another(s->first);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, 2 * PAGE, &meanwhile_ops, other,
						    &s->mni),
		  0);
	prepare(AT, 2, 0);
	range.notifier = s->mni;
	range.pfn_flags_mask = mask;
}

static void second_look_end(struct second_look *s)
{
	uhmm_migrate_hmm_range_setup(&range);
	uhmm_migrate_vma_finalize(&migrate);
	uhmm_mmap_read_unlock(f.mm);
	uhmm_mmu_interval_notifier_remove(s->mni);
	unlock_by_another(s->locker, s->first);
	folio_put(f.m, s->first);
	uhmm_mmput(s->child);
}

/*
 * The same where it looks again for itself: the first page, which nobody asked for, was reported, for it
 * was locked, and has changed. What was reported must not count as a request.
 */
START_TEST(requests_of_pages_for_a_second_look)
{
	struct uhmm_task *task = another_task(f.m);
	struct meanwhile other = { task, hint_first };
	struct second_look look;

	second_look_begin(&look, &other, REQ_FAULT | REQ_WRITE);
	pfns[1] = REQ_FAULT | REQ_WRITE;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	expect(!other.task);
	expect_eq(walks(), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_FROM_HMM), 1);
	expect(!(pfns[0] & (V | W)));
	expect_eq(pfns[1] & UHMM_HMM_PFN_FLAGS, V | W | M);
	expect(pte_protnone(pte_at(f.mm, AT)));
	second_look_end(&look);
	uhmm_task_destroy(task);
}
END_TEST

/*
 * MIGRATE is not a request of a page, though the mask may have its bit: with REQ_FAULT beside it the first
 * page, which another has locked, would look like one that was collected when it is looked at again.
 */
START_TEST(requests_are_not_taken_for_output)
{
	struct meanwhile nobody = { NULL, NULL };
	struct second_look look;

	second_look_begin(&look, &nobody, UINT64_MAX);
	pfns[0] = REQ_FAULT | M;
	pfns[1] = REQ_FAULT | REQ_WRITE | M;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	/* The copy moved the sequence. */
	expect_eq(counted(f.m, UHMM_CNT_WALK_RESTARTS), 2);
	expect_eq(pfns[0], pfn_at(f.mm, AT) | V | W);
	expect_eq(pfns[1] & UHMM_HMM_PFN_FLAGS, V | W | M);
	second_look_end(&look);
	fixture_verify(&f);
}
END_TEST

/* All pages of the table go, those that the walk has collected too. */
static void drop_table(void)
{
	expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_DONTNEED), 0);
}

static struct uhmm__frame *huge;
static struct uhmm_task *huge_locker;

/* And a huge page comes, which cannot be split, for it is locked. */
static void drop_table_for_huge(void)
{
	drop_table();
	put_word(f.mm, AT, 9);
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	huge = pfn_to_frame(f.m, pte_pfn(pmd_at(f.mm, AT)));
	huge_locker = lock_by_another(huge);
}

/*
 * The walk looks again, for the sequence moved and one page was locked, but the table of what it collected is
 * gone by then: that is put back all the same, and the walk begins anew.
 */
START_TEST(collected_pages_whose_table_goes)
{
	struct uhmm_task *task = another_task(f.m), *locker;
	struct meanwhile other = { task, _i ? drop_table_for_huge : drop_table };
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm__frame *first, *locked;
	struct uhmm_mm *child;

	map_written(AT, UHMM_PMD_SIZE / PAGE);
	expect_eq(uhmm_madvise(f.mm, AT + 3 * PAGE, UHMM_PMD_SIZE - 3 * PAGE, MADV_DONTNEED), 0);
	if (_i)
		expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	put_word(f.mm, AT, 5);
	put_word(f.mm, AT + PAGE, 6);
	first = frame_at(f.mm, AT);
	locked = frame_at(f.mm, AT + PAGE);
	folio_get(first);
	folio_get(locked);
	locker = lock_by_another(locked);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, UHMM_PMD_SIZE, &meanwhile_ops, &other,
						    &mni),
		  0);
	prepare(AT, 3, REQ_FAULT | REQ_WRITE);
	range.notifier = mni;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	expect(!other.task);
	expect_eq(walks(), 2);
	expect(!folio_test(first, PG_LOCKED));
	uhmm_migrate_hmm_range_setup(&range);
	uhmm_migrate_vma_finalize(&migrate);
	uhmm_mmap_read_unlock(f.mm);
	uhmm_mmu_interval_notifier_remove(mni);
	unlock_by_another(locker, locked);
	if (_i)
		unlock_by_another(huge_locker, huge);
	uhmm__lru_add_drain_all(f.m);
	expect_eq(folio_ref_count(first), 1);
	folio_put(f.m, first);
	folio_put(f.m, locked);
	uhmm_mmput(child);
	uhmm_task_destroy(task);
	fixture_verify(&f);
}
END_TEST

/* ---- walks of the three strategies ---- */

static uint64_t walks_of(enum uhmm_strategy strategy, unsigned int npages, bool write)
{
	uint64_t before = walks();

	expect_eq(uhmm_mirror_serve(f.mirror[0], AT, AT + npages * PAGE, write, strategy, NULL), 0);
	for (unsigned int i = 0; i < npages; i++)
		expect(on_device(f.mm, AT + i * PAGE));
	fixture_verify(&f);
	return walks() - before;
}

START_TEST(walks_of_present_pages)
{
	static const uint64_t expected[] = { 2, 1, 1 };

	map_written(AT, N);
	expect_eq(walks_of((enum uhmm_strategy)_i, N, true), expected[_i]);
}
END_TEST

START_TEST(walks_of_empty_pages)
{
	static const uint64_t expected[] = { 2, 1, 1 };

	map_fixed(f.mm, AT, N, RW);
	expect_eq(walks_of((enum uhmm_strategy)_i, N, true), expected[_i]);
}
END_TEST

START_TEST(walks_of_pages_to_be_copied)
{
	static const uint64_t expected[] = { 2, 3, 1 };
	struct uhmm_mm *child;

	map_written(AT, N);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(walks_of((enum uhmm_strategy)_i, N, true), expected[_i]);
	expect(in_ram(child, AT));
	uhmm_mmput(child);
}
END_TEST

START_TEST(hmm_pfn_to_migrate_pfn)
{
	expect_eq(uhmm_hmm_pfn_to_migrate_pfn(V | W | 0x1234), 0);
	expect_eq(uhmm_hmm_pfn_to_migrate_pfn(0), 0);
	expect_eq(uhmm_hmm_pfn_to_migrate_pfn(M), UHMM_MIGRATE_PFN_MIGRATE);
	expect_eq(uhmm_hmm_pfn_to_migrate_pfn(M | V | 0x1234),
		  uhmm_migrate_pfn(0x1234) | UHMM_MIGRATE_PFN_MIGRATE);
	expect_eq(uhmm_hmm_pfn_to_migrate_pfn(M | V | W | 0x1234),
		  uhmm_migrate_pfn(0x1234) | UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_WRITE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("combined");
	TCase *tc = tcase_create("combined walker");

	tcase_add_checked_fixture(tc, setup_watched, teardown_watched);
	tcase_add_test(tc, needs_a_migrate_argument);
	tcase_add_test(tc, range_across_vmas_is_einval);
	tcase_add_test(tc, fills_in_vma_and_outputs);
	tcase_add_test(tc, empty_and_zero_pages_are_migrate_alone);
	tcase_add_test(tc, write_to_readonly_vma_is_eperm);
	tcase_add_test(tc, unreadable_vma_is_efault);
	tcase_add_test(tc, select_flags_decide);
	tcase_add_test(tc, without_a_request_nothing_is_faulted);
	tcase_add_test(tc, own_readonly_page_stays_without_write);
	tcase_add_test(tc, locked_folio_is_left_in_place);
	tcase_add_test(tc, pinned_page_is_left_in_place);
	tcase_add_test(tc, error_undoes_what_was_collected);
	tcase_add_test(tc, input_is_not_taken_for_output);
	tcase_add_test(tc, stale_sequence_is_ebusy);
	tcase_add_test(tc, copy_in_locked_form_is_ebusy_then_success);
	tcase_add_test(tc, copy_in_unlocked_form_is_one_walk);
	tcase_add_test(tc, copy_in_setup_form_is_never_ebusy);
	tcase_add_test(tc, setup_without_fault_does_not_fault);
	tcase_add_test(tc, driver_without_owner_filter_gets_ebusy_in_time);
	tcase_add_test(tc, foreign_device_page_backs_off);
	tcase_add_test(tc, foreign_device_pages_back_off_once);
	tcase_add_test(tc, requests_of_pages_after_an_error);
	tcase_add_test(tc, requests_of_pages_for_a_second_look);
	tcase_add_test(tc, requests_are_not_taken_for_output);
	tcase_add_loop_test(tc, collected_pages_whose_table_goes, 0, 2);
	tcase_add_loop_test(tc, walks_of_present_pages, 0, UHMM_NR_STRATEGIES);
	tcase_add_loop_test(tc, walks_of_empty_pages, 0, UHMM_NR_STRATEGIES);
	tcase_add_loop_test(tc, walks_of_pages_to_be_copied, 0, UHMM_NR_STRATEGIES);
	tcase_add_test(tc, hmm_pfn_to_migrate_pfn);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
