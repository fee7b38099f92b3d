// SPDX-License-Identifier: LGPL-2.1-or-later
/* Answers of system calls that once were not Linux's. */
#define _GNU_SOURCE
#include <uhmm/special.h>

#include "fixture.h"

#define AT 0x40200000UL
#define LRU_DRAINS counted(f.m, UHMM_CNT_LRU_DRAIN)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

static struct fixture f;

static void setup(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .content = UHMM_CONTENT_TAG };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
}

static void teardown(void)
{
	fixture_destroy(&f);
}

static void map_written(unsigned int npages)
{
	map_fixed(f.mm, AT, npages, RW);
	for (unsigned int i = 0; i < npages; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
}

static void to_device(uhmm_vaddr_t addr, unsigned int npages)
{
	uint64_t buf[8 * PAGE / 8];

	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, addr, npages, buf, NULL), 0);
}

/* On the other CPU, with a current task before and after. */
static struct uhmm_task *enter_other(struct uhmm_mm *mm)
{
	struct uhmm_task *task;

	expect_eq(uhmm_task_create(f.m, mm, 1, "other", &task), 0);
	uhmm_task_leave();
	uhmm_task_enter(task);
	return task;
}

static void leave_other(struct uhmm_task *task)
{
	uhmm_task_leave();
	uhmm_task_destroy(task);
	uhmm_task_enter(f.task);
}

/* ---- LRU batches ---- */

/* Nothing that unmaps drains the batches; a page may outlive its mapping there. */
START_TEST(unmapping_drains_nothing)
{
	struct uhmm_mm *child;
	uint64_t before;

	map_written(4);
	before = LRU_DRAINS;
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_munmap(f.mm, AT + PAGE, PAGE), 0);
	map_fixed(f.mm, AT + 2 * PAGE, 1, RW);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	uhmm_mmput(child);
	expect_eq(LRU_DRAINS, before);
}
END_TEST

/* The batch of a CPU whose process has gone makes another CPU copy where it could reuse. */
START_TEST(batch_of_a_dead_process_forces_a_copy)
{
	struct uhmm_mm *child;
	struct uhmm_task *task;

	map_written(1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	task = enter_other(child);
	put_word(child, AT, 5);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 1);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_REUSE), 0);
	leave_other(task);
	uhmm_mmput(child);
}
END_TEST

/*
 * A write to a page that others map copies it and leaves the batch alone, so that the other CPU has to
 * copy as well.
 */
START_TEST(copying_drains_nothing)
{
	struct uhmm_mm *child;
	struct uhmm_task *task;
	uint64_t before;

	map_written(1);
	before = LRU_DRAINS;
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	put_word(f.mm, AT, 5);
	expect_eq(LRU_DRAINS, before);
	task = enter_other(child);
	put_word(child, AT, 6);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_COW_COPY), 2);
	leave_other(task);
	uhmm_mmput(child);
}
END_TEST

/* Frames that only a batch holds are no reason to run out of memory. */
START_TEST(batches_are_drained_for_memory)
{
	const unsigned int npages = 40;
	unsigned int i = 0;
	uint64_t word = 1;

	fixture_destroy(&f);
	fixture_create(&f, (struct uhmm_machine_config){ .ram_bytes = 4 << 20,
							 .content = UHMM_CONTENT_TAG });
	map_fixed(f.mm, AT, 1024, RW);
	while (!uhmm_cpu_write(f.mm, AT + i * PAGE, &word, sizeof(word), NULL))
		i++;
	expect(i > npages && i < 1024);
	/* What was written last may be in the batch. */
	expect_eq(uhmm_munmap(f.mm, AT + (i - npages) * PAGE, npages * PAGE), 0);
	map_fixed(f.mm, AT + (i - npages) * PAGE, npages, RW);
	for (unsigned int k = i - npages; k < i; k++)
		put_word(f.mm, AT + k * PAGE, k);
	fixture_add_devices(&f, 0);
}
END_TEST

START_TEST(populating_drains)
{
	uint64_t before;

	map_fixed(f.mm, AT, 8, RW);
	before = LRU_DRAINS;
	expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_POPULATE_WRITE), 0);
	expect_eq(LRU_DRAINS, before + 1);
	put_word(f.mm, AT + 3 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_WILLNEED), 0);
	expect_eq(LRU_DRAINS, before + 2);
	put_word(f.mm, AT + 4 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_FREE), 0);
	expect_eq(LRU_DRAINS, before + 3);
}
END_TEST

/* ---- madvise ---- */

/* Nothing reclaims: the contents stay, and so do pages that are on a device. */
START_TEST(free_keeps_contents)
{
	struct uhmm_mirror_cmd cmd;
	uint64_t buf[4 * PAGE / 8];

	map_written(4);
	to_device(AT + PAGE, 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 4, buf, &cmd), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 4 * PAGE, MADV_FREE), 0);
	expect(pagemap_of(f.mm, AT + PAGE) & UHMM_PM_SWAP);
	/* The device is told, however. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 4, buf, &cmd), 0);
	expect_eq(cmd.faults, 1);
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

/*
 * MADV_FREE leaves a page on the LRU, and a reference to it in a batch of that CPU: another CPU finds
 * no reason to drain it, and cannot migrate the page.
 */
START_TEST(free_holds_a_reference)
{
	uint64_t buf[PAGE / 8];
	struct uhmm_task *task;

	map_written(1);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_FREE), 0);
	task = enter_other(f.mm);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL), -ENOENT);
	leave_other(task);
	/* This CPU drains its own. */
	to_device(AT, 1);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_SWAP);
}
END_TEST

START_TEST(advice_on_files_and_locked_memory)
{
	map_written(2);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_REMOVE), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT - PAGE, PAGE, MADV_REMOVE), -ENOMEM);
	/* Nothing is asked of an empty range but an advice that exists. */
	expect_eq(uhmm_madvise(f.mm, AT - PAGE, 0, MADV_DONTNEED), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 0, 12345), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, AT + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0,
			    NULL),
		  0);
	put_word(f.mm, AT + 2 * PAGE, 3);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DONTNEED), -EINVAL);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DONTNEED_LOCKED), 0);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 0);
}
END_TEST

START_TEST(advice_on_reading_ahead_cuts)
{
	map_written(3);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_SEQUENTIAL), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 3);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_SEQUENTIAL), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_NORMAL), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_DONTDUMP), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 3);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DODUMP), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
}
END_TEST

/* One flush for all VMAs of a range. */
START_TEST(dontneed_flushes_once)
{
	uint64_t before;

	map_written(3);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	before = counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DONTNEED), 0);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE), before + 1);
}
END_TEST

/* Other threads may change other mappings meanwhile. */
START_TEST(dontneed_takes_one_vma)
{
	uint64_t before;

	map_written(2);
	before = counted(f.m, UHMM_CNT_MMAP_READ);
	expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_FREE), 0);
	expect_eq(counted(f.m, UHMM_CNT_MMAP_READ), before);
	expect_eq(uhmm_madvise(f.mm, AT, 3 * PAGE, MADV_DONTNEED), -ENOMEM);
	expect_eq(counted(f.m, UHMM_CNT_MMAP_READ), before + 1);
}
END_TEST

/* ---- populating ---- */

/* MAP_POPULATE reads what it cannot write, even what only can be executed. */
START_TEST(map_populate)
{
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, PROT_EXEC, ANON | MAP_FIXED | MAP_POPULATE, NULL, 0,
			    NULL),
		  0);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_PRESENT);
}
END_TEST

/* With MAP_NONBLOCK it does nothing. */
START_TEST(map_populate_nonblock)
{
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, RW, ANON | MAP_FIXED | MAP_POPULATE | MAP_NONBLOCK,
			    NULL, 0, NULL),
		  0);
	expect(!(pagemap_of(f.mm, AT) & UHMM_PM_PRESENT));
}
END_TEST

/* ---- mprotect ---- */

static uint64_t faults_of_read(uhmm_vaddr_t addr)
{
	struct uhmm_mirror_cmd cmd;
	uint64_t buf[PAGE / 8];

	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, addr, 1, buf, &cmd), 0);
	return cmd.faults;
}

/*
 * Devices are told if there is a table for the 1 GiB around, even if there is none for the pages; a
 * driver may lose the page behind the range.
 */
START_TEST(mprotect_notifies_without_pages)
{
	map_written(1);
	map_fixed(f.mm, AT - 2 * PAGE, 2, RW);
	expect_eq(faults_of_read(AT), 1);
	expect_eq(faults_of_read(AT), 0);
	expect_eq(uhmm_mprotect(f.mm, AT - 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	expect_eq(faults_of_read(AT), 1);
}
END_TEST

START_TEST(mprotect_flushes_once_and_only_what_is_used)
{
	uint64_t before;

	map_written(4);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_NONE), 0);
	before = counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE), before);
	expect_eq(uhmm_mprotect(f.mm, AT, 4 * PAGE, PROT_NONE), 0);
	expect_eq(counted(f.m, UHMM_CNT_TLB_FLUSH_RANGE), before + 1);
}
END_TEST

/* Memory that was writable stays accounted for if it was used, and so is not like its neighbour. */
START_TEST(mprotect_and_accounting)
{
	map_fixed(f.mm, AT, 2, PROT_READ);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, RW), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, RW), 0);
	put_word(f.mm, AT + PAGE, 1);
	expect_eq(uhmm_mprotect(f.mm, AT + PAGE, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	expect_eq(uhmm_mprotect(f.mm, AT, 2 * PAGE, RW), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 1);
}
END_TEST

START_TEST(mprotect_arguments)
{
	const int sem = 8; /* PROT_SEM */

	map_fixed(f.mm, AT, 4, RW);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW | sem), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW | 0x100), -EINVAL);
	expect_eq(uhmm_mprotect(f.mm, AT, 0, 0x100), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, UINT64_MAX, 0x100), -ENOMEM);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ | PROT_GROWSDOWN), -EINVAL);
	expect_eq(uhmm_mprotect(f.mm, AT, 0, PROT_GROWSDOWN | PROT_GROWSUP), -EINVAL);
	expect_eq(uhmm_mmap(f.mm, AT, 4 * PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL, 0,
			    NULL),
		  0);
	expect_eq(uhmm_mprotect(f.mm, AT + 2 * PAGE, PAGE, PROT_READ | PROT_GROWSDOWN), 0);
	expect_eq(uhmm_cpu_write(f.mm, AT, NULL, 1, NULL), SIGSEGV);
	expect_eq(uhmm_cpu_write(f.mm, AT + 3 * PAGE, NULL, 1, NULL), 0);
}
END_TEST

/* Locked memory that becomes writable is copied at once. */
START_TEST(mprotect_of_locked_memory)
{
	expect_eq(uhmm_mmap(f.mm, AT, PAGE, PROT_READ, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0,
			    NULL),
		  0);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, RW), 0);
	/* Not the zero page, which is nobody's alone. */
	expect(pagemap_of(f.mm, AT) & UHMM_PM_MMAP_EXCLUSIVE);
}
END_TEST

/* ---- mremap ---- */

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define ELSEWHERE (AT + 0x10000000UL)

static int remap(uhmm_vaddr_t old, uint64_t old_pages, uint64_t new_pages, int flags,
		 uhmm_vaddr_t new)
{
	return uhmm_mremap(f.mm, old, old_pages * PAGE, new_pages * PAGE, flags, new, NULL);
}

START_TEST(mremap_arguments)
{
	const int move = MREMAP_MAYMOVE, fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	map_written(4);
	expect_eq(remap(AT - PAGE, 0, 1, move, 0), -EFAULT);
	expect_eq(remap(AT, 0, 1, move, 0), -EINVAL);
	expect_eq(remap(AT, 1UL << 30, 1UL << 30, 0, 0), 0);
	expect_eq(remap(AT, 1UL << 40, 1, 0, 0), -EINVAL);
	expect_eq(remap(AT, 5, 6, move, 0), -EFAULT);
	expect_eq(remap(AT, 1UL << 40, 1UL << 40, fixed, 0), -EINVAL);
	expect_eq(remap(AT - PAGE, 2, 2, fixed, ELSEWHERE), -EFAULT);
	expect_eq(remap(AT, 1, 1, MREMAP_DONTUNMAP, 0), -EINVAL);
	expect_eq(remap(AT, 1, 1, move | MREMAP_DONTUNMAP, 1), -EINVAL);
	expect_eq(remap(AT, 2, 2, move | MREMAP_DONTUNMAP, AT + PAGE), -EINVAL);
	expect_eq(remap(AT, 1, 1, move | MREMAP_DONTUNMAP, UHMM_TASK_SIZE), -EINVAL);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
}
END_TEST

/* The source stays one VMA, and if all of it moved it is as new: it merges where a new one would. */
START_TEST(mremap_dontunmap)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

	map_written(4);
	expect_eq(remap(AT + PAGE, 2, 2, flags, ELSEWHERE), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	expect_eq(get_word(f.mm, ELSEWHERE), 2);
	expect_eq(remap(ELSEWHERE, 2, 2, flags, 2 * ELSEWHERE), 0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 3);
	map_fixed(f.mm, ELSEWHERE + 2 * PAGE, 1, RW);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 3);
	expect_eq(get_word(f.mm, 2 * ELSEWHERE + PAGE), 3);
}
END_TEST

/* One without pages could merge with the place that it moves to, but is to stay. */
START_TEST(mremap_dontunmap_stays_apart)
{
	map_fixed(f.mm, AT, 2, RW);
	expect_eq(remap(AT, 2, 2, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, AT + 2 * PAGE),
		  0);
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
}
END_TEST

START_TEST(mremap_of_locked_memory)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

	expect_eq(uhmm_mmap(f.mm, AT, 2 * PAGE, RW, ANON | MAP_FIXED | MAP_LOCKED, NULL, 0, NULL),
		  0);
	expect_eq(remap(AT, 2, 4, 0, 0), 0);
	expect(pagemap_of(f.mm, AT + 3 * PAGE) & UHMM_PM_PRESENT);
	expect_eq(remap(AT + PAGE, 1, 1, flags, ELSEWHERE), 0);
	/* What stays is unlocked, and cut off for that. */
	expect_eq(uhmm_mm_nr_vmas(f.mm), 4);
	expect_eq(uhmm_madvise(f.mm, AT + PAGE, PAGE, MADV_DONTNEED), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, ELSEWHERE, PAGE, MADV_DONTNEED), -EINVAL);
}
END_TEST

/* ---- mmap, brk, stacks ---- */

START_TEST(mmap_order_of_errors)
{
	expect_eq(uhmm_mmap(f.mm, UHMM_TASK_SIZE - PAGE + 1, PAGE, RW, ANON | MAP_FIXED, NULL, 0,
			    NULL),
		  -ENOMEM);
	expect_eq(uhmm_mmap(f.mm, AT + 1, PAGE, RW, ANON | MAP_FIXED, NULL, 0, NULL), -EINVAL);
}
END_TEST

START_TEST(brk_over_a_hole_and_below_a_stack)
{
	uhmm_vaddr_t end;

	map_fixed(f.mm, AT - PAGE, 1, RW);
	uhmm_mm_set_brk(f.mm, AT);
	expect_eq(uhmm_brk(f.mm, AT + PAGE, NULL), 0);
	expect_eq(uhmm_brk(f.mm, AT + 4 * PAGE, &end), 0);
	expect_eq(end, AT + 4 * PAGE);
	/* Joined to itself, but not to what lies before. */
	expect_eq(uhmm_mm_nr_vmas(f.mm), 2);
	expect_eq(uhmm_munmap(f.mm, AT + 2 * PAGE, 2 * PAGE), 0);
	expect_eq(uhmm_brk(f.mm, AT + 2 * PAGE, &end), 0);
	expect_eq(end, AT + 4 * PAGE);
	expect_eq(uhmm_mmap(f.mm, AT + 300 * PAGE, PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, NULL,
			    0, NULL),
		  0);
	expect_eq(uhmm_brk(f.mm, AT + 44 * PAGE, &end), 0);
	expect_eq(end, AT + 4 * PAGE);
	expect_eq(uhmm_brk(f.mm, AT + 43 * PAGE, &end), 0);
	expect_eq(end, AT + 43 * PAGE);
}
END_TEST

START_TEST(stack_grows_towards_a_stack)
{
	const int flags = ANON | MAP_FIXED | MAP_GROWSDOWN;

	expect_eq(uhmm_mmap(f.mm, AT, PAGE, RW, flags, NULL, 0, NULL), 0);
	expect_eq(uhmm_mmap(f.mm, AT + 9 * PAGE, PAGE, RW, flags, NULL, 0, NULL), 0);
	put_word(f.mm, AT + PAGE, 1);
	expect_eq(uhmm_munmap(f.mm, AT, 10 * PAGE), 0);
	map_fixed(f.mm, AT, 1, RW);
	expect_eq(uhmm_mmap(f.mm, AT + 9 * PAGE, PAGE, RW, flags, NULL, 0, NULL), 0);
	expect_eq(uhmm_cpu_write(f.mm, AT + PAGE, NULL, 1, NULL), SIGSEGV);
}
END_TEST

/* ---- others ---- */

/* Only a page can say that it is not for executing. */
START_TEST(fetch_maps_first)
{
	struct uhmm_access acc;

	map_fixed(f.mm, AT, 1, RW);
	expect_eq(uhmm_cpu_exec(f.mm, AT, &acc), SIGSEGV);
	expect_eq(acc.faults, 2);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_PRESENT);
	map_fixed(f.mm, AT, 1, RW | PROT_EXEC);
	expect_eq(uhmm_cpu_exec(f.mm, AT, &acc), 0);
	expect_eq(acc.faults, 1);
	map_fixed(f.mm, AT, 1, PROT_NONE);
	expect_eq(uhmm_cpu_exec(f.mm, AT, &acc), SIGSEGV);
	expect_eq(acc.faults, 1);
}
END_TEST

/* Nobody can watch an address space that has no users any more. */
START_TEST(mirror_of_a_dead_process)
{
	struct uhmm_mirror *mirror;
	struct uhmm_mm *mm;

	expect_eq(uhmm_mm_create(f.m, &mm), 0);
	uhmm_mmgrab(mm);
	uhmm_mmput(mm);
	expect_eq(uhmm_mirror_open(f.dev[0], mm, &mirror), -EINVAL);
	uhmm_mmdrop(mm);
}
END_TEST

#define TO 0x50000000UL

static int move(unsigned int npages, int flags)
{
	return uhmm_mremap(f.mm, AT, npages * PAGE, npages * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED | flags, TO, NULL);
}

/* Each mapping of a range is looked at before it moves, and what userfaultfd watches moves alone. */
START_TEST(mremap_looks_at_each_mapping)
{
	map_written(4);
	expect_eq(uhmm_uffd_register(f.mm, AT + PAGE, PAGE, UHMM_UFFD_WP), 0);
	expect_eq(move(2, 0), -EFAULT);
	expect_eq(get_word(f.mm, TO), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
	map_written(4);
	expect_eq(uhmm_uffd_register(f.mm, AT, PAGE, UHMM_UFFD_WP), 0);
	expect_eq(move(2, 0), -EFAULT);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(move(1, 0), 0);
	expect_eq(get_word(f.mm, TO), 1);
	expect_eq(uhmm_mmap_special(f.mm, AT, PAGE, RW, MAP_SHARED | MAP_FIXED, UHMM_VM_PFNMAP,
				    NULL),
		  0);
	expect_eq(move(1, MREMAP_DONTUNMAP), -EINVAL);
	expect_eq(move(1, 0), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mm");
	TCase *tc = tcase_create("mended");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, unmapping_drains_nothing);
	tcase_add_test(tc, batch_of_a_dead_process_forces_a_copy);
	tcase_add_test(tc, copying_drains_nothing);
	tcase_add_test(tc, batches_are_drained_for_memory);
	tcase_add_test(tc, populating_drains);
	tcase_add_test(tc, free_keeps_contents);
	tcase_add_test(tc, free_holds_a_reference);
	tcase_add_test(tc, advice_on_files_and_locked_memory);
	tcase_add_test(tc, advice_on_reading_ahead_cuts);
	tcase_add_test(tc, dontneed_flushes_once);
	tcase_add_test(tc, dontneed_takes_one_vma);
	tcase_add_test(tc, map_populate);
	tcase_add_test(tc, map_populate_nonblock);
	tcase_add_test(tc, mprotect_notifies_without_pages);
	tcase_add_test(tc, mprotect_flushes_once_and_only_what_is_used);
	tcase_add_test(tc, mprotect_and_accounting);
	tcase_add_test(tc, mprotect_arguments);
	tcase_add_test(tc, mprotect_of_locked_memory);
	tcase_add_test(tc, mremap_arguments);
	tcase_add_test(tc, mremap_dontunmap);
	tcase_add_test(tc, mremap_dontunmap_stays_apart);
	tcase_add_test(tc, mremap_of_locked_memory);
	tcase_add_test(tc, mmap_order_of_errors);
	tcase_add_test(tc, brk_over_a_hole_and_below_a_stack);
	tcase_add_test(tc, stack_grows_towards_a_stack);
	tcase_add_test(tc, fetch_maps_first);
	tcase_add_test(tc, mirror_of_a_dead_process);
	tcase_add_test(tc, mremap_looks_at_each_mapping);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
