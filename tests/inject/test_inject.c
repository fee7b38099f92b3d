// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fail the Nth allocation, for N = 1, 2, ... until an operation has no Nth allocation any more. After
 * each failure the verifier finds nothing, no page is lost or changed, the error is one that is
 * documented, and the same operation then succeeds.
 */
#define _GNU_SOURCE
#include "fixture.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Two mappings with holes of pages, on both sides of a boundary of 2 MiB. */
#define AREA 0x403fa000UL
#define ELSEWHERE 0x7f0000000000UL

/* One file, mapped both ways: pages 0..2 and a copy of page 0 written, the others not cached. */
#define SHARED 0x50000000UL
#define PRIVATE 0x60000000UL

enum { PAGES = 12, FILE_PAGES = 80 };

/* Pages 0..3 written, 4 read, 5 none, 6..7 on device 0, 8 on device 1, 9 shared by a fork, 10.. none */
static struct world {
	struct fixture f;
	struct uhmm_mm *child;
	struct uhmm_file *file;
	uint64_t buf[PAGES * PAGE / 8];
	uint64_t expected[PAGES]; /* first word of each page */
} w;

static void migrate(unsigned int dev, unsigned int page, unsigned int n)
{
	expect_eq(mirror_op(w.f.mirror[dev], UHMM_MIRROR_MIGRATE_TO_DEV, AREA + page * PAGE, n,
			    w.buf, NULL),
		  0);
}

static void map_files(void)
{
	expect_eq(uhmm_file_create(w.f.m, UHMM_FILE_REGULAR, FILE_PAGES * PAGE, &w.file), 0);
	expect_eq(uhmm_mmap(w.f.mm, SHARED, FILE_PAGES * PAGE, RW, MAP_SHARED | MAP_FIXED, w.file,
			    0, NULL),
		  0);
	expect_eq(uhmm_mmap(w.f.mm, PRIVATE, FILE_PAGES * PAGE, RW, MAP_PRIVATE | MAP_FIXED, w.file,
			    0, NULL),
		  0);
	for (unsigned int i = 0; i < 3; i++)
		put_word(w.f.mm, SHARED + i * PAGE, w.expected[i]);
	put_word(w.f.mm, PRIVATE, 77);
}

static void setup(void)
{
	struct uhmm_machine_config config = {
		.content = UHMM_CONTENT_TAG,
		.swap_bytes = 1 << 20,
	};

	memset(&w, 0, sizeof(w));
	fixture_create(&w.f, config);
	fixture_add_devices(&w.f, 0);
	map_fixed(w.f.mm, AREA, PAGES, RW);
	for (unsigned int i = 0; i < PAGES; i++) {
		if (i == 4 || i == 5 || i >= 10)
			continue;
		w.expected[i] = 0x1111111111111111UL * (i + 1);
		put_word(w.f.mm, AREA + i * PAGE, w.expected[i]);
	}
	map_files();
	expect_eq(uhmm_mm_fork(w.f.mm, &w.child), 0);
	/* All but page 9 is the process's own again. */
	for (unsigned int i = 0; i < 9; i++) {
		if (w.expected[i])
			put_word(w.f.mm, AREA + i * PAGE, w.expected[i]);
	}
	expect_eq(uhmm_munmap(w.child, AREA, 9 * PAGE), 0);
	touch(w.f.mm, AREA + 4 * PAGE);
	migrate(0, 6, 2);
	migrate(1, 8, 1);
	fixture_verify(&w.f);
}

static void teardown(void)
{
	uhmm_mmput(w.child);
	uhmm_file_put(w.file);
	fixture_destroy(&w.f);
}

/* ---- the operations; 0 or what failed ---- */

static int cpu_write_new(void)
{
	return uhmm_cpu_write(w.f.mm, AREA + 5 * PAGE, &w.expected[5], 8, NULL);
}

static int cpu_read_new(void)
{
	return uhmm_cpu_read(w.f.mm, AREA + 11 * PAGE, NULL, 8, NULL);
}

static int cpu_copy(void)
{
	return uhmm_cpu_write(w.f.mm, AREA + 9 * PAGE, &w.expected[9], 8, NULL);
}

static int cpu_write_zero_page(void)
{
	return uhmm_cpu_write(w.f.mm, AREA + 4 * PAGE, &w.expected[4], 8, NULL);
}

static int cpu_from_device(void)
{
	return uhmm_cpu_read(w.f.mm, AREA + 6 * PAGE, NULL, 2 * PAGE, NULL);
}

static int map_new(void)
{
	return uhmm_mmap(w.f.mm, ELSEWHERE, 4 * PAGE, RW, ANON | MAP_FIXED, NULL, 0, NULL);
}

static int map_over(void)
{
	return uhmm_mmap(w.f.mm, AREA + 10 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, NULL, 0,
			 NULL);
}

static int unmap_hole(void)
{
	return uhmm_munmap(w.f.mm, AREA + 10 * PAGE, PAGE);
}

static int protect(void)
{
	return uhmm_mprotect(w.f.mm, AREA + 3 * PAGE, 4 * PAGE, PROT_READ);
}

static int advise(void)
{
	return uhmm_madvise(w.f.mm, AREA + 3 * PAGE, 4 * PAGE, MADV_DONTFORK);
}

static int drop(void)
{
	return uhmm_madvise(w.f.mm, AREA + 10 * PAGE, 2 * PAGE, MADV_DONTNEED);
}

static int populate(void)
{
	return uhmm_madvise(w.f.mm, AREA, PAGES * PAGE, MADV_POPULATE_WRITE);
}

static int move(void)
{
	return uhmm_mremap(w.f.mm, AREA + 2 * PAGE, 5 * PAGE, 5 * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED, ELSEWHERE, NULL);
}

static int move_and_grow(void)
{
	return uhmm_mremap(w.f.mm, AREA + 2 * PAGE, 5 * PAGE, 600 * PAGE,
			   MREMAP_MAYMOVE | MREMAP_FIXED, ELSEWHERE, NULL);
}

static int fork_mm(void)
{
	struct uhmm_mm *mm;
	int err = uhmm_mm_fork(w.f.mm, &mm);

	if (!err)
		uhmm_mmput(mm);
	return err;
}

static int create_mm(void)
{
	struct uhmm_mm *mm;
	int err = uhmm_mm_create(w.f.m, &mm);

	if (!err)
		uhmm_mmput(mm);
	return err;
}

static int create_task(void)
{
	struct uhmm_task *t;
	int err = uhmm_task_create(w.f.m, w.f.mm, 1, "t", &t);

	if (!err)
		uhmm_task_destroy(t);
	return err;
}

static int create_device(void)
{
	struct uhmm_device *dev;
	int err = uhmm_device_create(w.f.m, NULL, &dev);

	if (!err)
		uhmm_device_destroy(dev);
	return err;
}

static int open_mirror(void)
{
	struct uhmm_mirror *mirror;
	int err = uhmm_mirror_open(w.f.dev[0], w.child, &mirror);

	if (!err)
		uhmm_mirror_close(mirror);
	return err;
}

static int ioctl_all(enum uhmm_mirror_op op)
{
	return mirror_op(w.f.mirror[0], op, AREA, PAGES, w.buf, NULL);
}

static int dev_read(void)
{
	return ioctl_all(UHMM_MIRROR_READ);
}

static int dev_read_unlocked(void)
{
	return ioctl_all(UHMM_MIRROR_READ_UNLOCKED);
}

static int dev_write(void)
{
	for (unsigned int i = 0; i < PAGE / 8; i++)
		w.buf[i] = w.expected[9];
	return mirror_op(w.f.mirror[0], UHMM_MIRROR_WRITE, AREA + 9 * PAGE, 1, w.buf, NULL);
}

static int to_dev(void)
{
	return mirror_op(w.f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AREA, 6, w.buf, NULL);
}

static int to_sys(void)
{
	return ioctl_all(UHMM_MIRROR_MIGRATE_TO_SYS);
}

static int on_fault(void)
{
	return ioctl_all(UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV);
}

static int snapshot(void)
{
	return ioctl_all(UHMM_MIRROR_SNAPSHOT);
}

static int evict(void)
{
	int64_t left = uhmm_devmem_evict_all(uhmm_device_memory(w.f.dev[0]), false);

	/* Pages that found no RAM stay. */
	return left > 0 ? -ENOMEM : (int)left;
}

static int access_by(enum uhmm_strategy strategy)
{
	return uhmm_mirror_access(w.f.mirror[0], AREA + 9 * PAGE, true, &w.expected[9], strategy,
				  16 * PAGE, NULL);
}

static int access_ftm(void)
{
	return access_by(UHMM_FAULT_THEN_MIGRATE);
}

static int access_mfm(void)
{
	return access_by(UHMM_MIGRATE_FAULT_MIGRATE);
}

static int access_combined(void)
{
	return access_by(UHMM_COMBINED);
}

/* ---- files ---- */

static int file_new(void)
{
	struct uhmm_file *file;
	int err = uhmm_file_create(w.f.m, UHMM_FILE_MEMORY, PAGE, &file);

	if (!err)
		uhmm_file_put(file);
	return err;
}

static int file_map(void)
{
	return uhmm_mmap(w.f.mm, ELSEWHERE, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, w.file, 1, NULL);
}

static int shared_anon(void)
{
	return uhmm_mmap(w.f.mm, ELSEWHERE, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
			 NULL, 0, NULL);
}

/* Nothing of it is cached yet. */
static int file_touch(void)
{
	return uhmm_cpu_read(w.f.mm, SHARED + 70 * PAGE, NULL, 1, NULL);
}

static int file_copy(void)
{
	uint64_t word = 3;

	return uhmm_cpu_write(w.f.mm, PRIVATE + 71 * PAGE, &word, 8, NULL);
}

static int file_store(void)
{
	return uhmm_cpu_write(w.f.mm, SHARED + 1 * PAGE, &w.expected[1], 8, NULL);
}

static int file_write(void)
{
	int64_t n = uhmm_file_write(w.file, 75 * PAGE, w.buf, 2 * PAGE);

	return n == 2 * PAGE ? 0 : n < 0 ? (int)n : -ENOMEM;
}

static int file_populate(void)
{
	return uhmm_file_populate(w.file, 0, FILE_PAGES);
}

static int file_protect(void)
{
	return uhmm_mprotect(w.f.mm, SHARED + 2 * PAGE, PAGE, PROT_READ);
}

static int file_move(void)
{
	return uhmm_mremap(w.f.mm, PRIVATE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   ELSEWHERE, NULL);
}

static int file_dev_read(void)
{
	return mirror_op(w.f.mirror[0], UHMM_MIRROR_READ, PRIVATE, PAGES, w.buf, NULL);
}

static int file_to_dev(void)
{
	return mirror_op(w.f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, PRIVATE, 1, w.buf, NULL);
}

/* These need no memory: what frees must not fail. */
static int file_truncate(void)
{
	return uhmm_file_truncate(w.file, FILE_PAGES * PAGE / 2);
}

static int file_sync(void)
{
	return uhmm_msync(w.f.mm, SHARED, FILE_PAGES * PAGE, MS_SYNC);
}

/* Without a slot a page stays where it is. */
static int swap_out(void)
{
	return uhmm_madvise(w.f.mm, AREA, 4 * PAGE, MADV_PAGEOUT);
}

static int swap_in_read(void)
{
	int err = swap_out();

	return err ? err : uhmm_cpu_read(w.f.mm, AREA, NULL, 4 * PAGE, NULL);
}

static int swap_in_write(void)
{
	int err = swap_out();

	return err ? err : uhmm_cpu_write(w.f.mm, AREA + PAGE, &w.expected[1], 8, NULL);
}

static int swap_in_device(void)
{
	int err = swap_out();

	return err ? err : mirror_op(w.f.mirror[0], UHMM_MIRROR_READ, AREA, 4, w.buf, NULL);
}

static int swap_in_combined(void)
{
	int err = swap_out();

	return err ? err : on_fault();
}

/* Both share the slots; a write copies what the other needs. */
static int swap_in_shared(void)
{
	struct uhmm_mm *mm;
	int err = swap_out();

	if (!err)
		err = uhmm_mm_fork(w.f.mm, &mm);
	if (err)
		return err;
	err = uhmm_cpu_read(mm, AREA, NULL, 2 * PAGE, NULL);
	if (!err)
		err = uhmm_cpu_write(w.f.mm, AREA + PAGE, &w.expected[1], 8, NULL);
	uhmm_mmput(mm);
	return err;
}

#define OP(name, moves)                                                                            \
	{                                                                                          \
#name, name, moves                                                                 \
	}

static const struct operation {
	const char *name;
	int (*run)(void);
	bool moves; /* pages are elsewhere afterwards */
} operations[] = {
	OP(cpu_write_new, false),
	OP(cpu_read_new, false),
	OP(cpu_copy, false),
	OP(cpu_write_zero_page, false),
	OP(cpu_from_device, false),
	OP(map_new, false),
	OP(map_over, false),
	OP(unmap_hole, true),
	OP(protect, false),
	OP(advise, false),
	OP(drop, false),
	OP(populate, false),
	OP(move, true),
	OP(move_and_grow, true),
	OP(fork_mm, false),
	OP(create_mm, false),
	OP(create_task, false),
	OP(create_device, false),
	OP(open_mirror, false),
	OP(dev_read, false),
	OP(dev_read_unlocked, false),
	OP(dev_write, false),
	OP(to_dev, false),
	OP(to_sys, false),
	OP(on_fault, false),
	OP(snapshot, false),
	OP(evict, false),
	OP(access_ftm, false),
	OP(access_mfm, false),
	OP(access_combined, false),
	OP(file_new, false),
	OP(file_map, false),
	OP(shared_anon, false),
	OP(file_touch, false),
	OP(file_copy, false),
	OP(file_store, false),
	OP(file_write, false),
	OP(file_populate, false),
	OP(file_protect, false),
	OP(file_move, true),
	OP(file_dev_read, false),
	OP(file_to_dev, false),
	OP(file_truncate, false),
	OP(file_sync, false),
	OP(swap_out, false),
	OP(swap_in_read, false),
	OP(swap_in_write, false),
	OP(swap_in_device, false),
	OP(swap_in_combined, false),
	OP(swap_in_shared, false),
};

enum { NR_OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

/*
 * Which errors an allocation that fails may become: -ENOMEM. MIGRATE_TO_DEV and its combined form do
 * without pages that found no place on the device, and then miss them when they read back.
 */
static bool documented(const struct operation *op, int err)
{
	if (err == -ENOENT)
		return op->run == to_dev || op->run == on_fault || op->run == file_to_dev;
	/* madvise(2) says this of VMAs that it cannot cut. */
	return err == (op->run == advise ? -EAGAIN : -ENOMEM);
}

static void check_contents(void)
{
	for (unsigned int i = 0; i < PAGES; i++)
		expect_eq(get_word(w.f.mm, AREA + i * PAGE), w.expected[i]);
	expect_eq(get_word(w.child, AREA + 9 * PAGE), w.expected[9]);
	for (unsigned int i = 0; i < 3; i++)
		expect_eq(get_word(w.f.mm, SHARED + i * PAGE), w.expected[i]);
	expect_eq(get_word(w.f.mm, PRIVATE), 77);
	expect_eq(get_word(w.child, PRIVATE), 77);
}

static void check_after(const struct operation *op, enum uhmm_inject site, unsigned int nth,
			int err)
{
	int ret = uhmm_machine_verify(w.f.m);

	if (err && !documented(op, err))
		ck_abort_msg("%s, allocation %u of site %d: %d", op->name, nth, (int)site, err);
	if (ret || fixture_reports(&w.f))
		ck_abort_msg("%s, allocation %u of site %d: verify %d: %s", op->name, nth,
			     (int)site, ret, w.f.text);
}

/* Whether the Nth allocation existed. */
static bool fail_nth(const struct operation *op, enum uhmm_inject site, unsigned int nth,
		     unsigned int times)
{
	bool unfinished;
	int err;

	setup();
	expect_eq(uhmm_machine_inject(w.f.m, site, nth, times), 0);
	err = op->run();
	expect_eq(uhmm_machine_inject(w.f.m, site, 0, 0), 0);
	check_after(op, site, nth, err);
	unfinished = err != 0;
	/* As in Linux, what MAP_FIXED unmapped before it failed is gone. */
	if (err ? op->run != map_over : !op->moves)
		check_contents();
	err = op->run();
	if (!op->moves && err)
		ck_abort_msg("%s, after allocation %u of site %d failed: %d", op->name, nth,
			     (int)site, err);
	check_after(op, site, nth, 0);
	if (!op->moves)
		check_contents();
	teardown();
	return unfinished;
}

/*
 * Some failures are made up for, so that an operation succeeds although an allocation failed: it is
 * over when many in a row made no difference.
 */
static unsigned int fail_each(const struct operation *op, enum uhmm_inject site, unsigned int times)
{
	unsigned int failed = 0, quiet = 0;

	for (unsigned int nth = 1; quiet < 12; nth++) {
		if (fail_nth(op, site, nth, times)) {
			failed++;
			quiet = 0;
		} else {
			quiet++;
		}
	}
	return failed;
}

START_TEST(nth_allocation_fails)
{
	const struct operation *op = &operations[_i];
	unsigned int failed[UHMM_NR_INJECT];

	for (int site = 0; site < UHMM_NR_INJECT; site++)
		failed[site] = fail_each(op, (enum uhmm_inject)site, 1);
	printf("%s: failed %u times for metadata, %u for RAM, %u for device pages\n", op->name,
	       failed[UHMM_INJECT_META], failed[UHMM_INJECT_FRAME], failed[UHMM_INJECT_DEVICE]);
	/* These need no memory, or cope without. */
	if (op->run != drop && op->run != cpu_read_new && op->run != cpu_from_device &&
	    op->run != file_truncate && op->run != file_touch && op->run != file_store &&
	    op->run != file_sync && op->run != swap_out)
		expect(failed[0] + failed[1] + failed[2] > 0);
}
END_TEST

/* From the Nth on everything fails: what undoes an operation must not need memory. */
START_TEST(all_from_the_nth_fail)
{
	const struct operation *op = &operations[_i];

	for (int site = 0; site < UHMM_NR_INJECT; site++)
		fail_each(op, (enum uhmm_inject)site, 1u << 30);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("inject");
	TCase *tc = tcase_create("allocations");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, nth_allocation_fails, 0, NR_OPERATIONS);
	tcase_add_loop_test(tc, all_from_the_nth_fail, 0, NR_OPERATIONS);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
