// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Threads that map the same files, shared and private, at several places of one mm and of its forks:
 * they read, write, truncate, punch holes, write back, reclaim, move pages within RAM and to devices,
 * fork.
 *
 * Whoever writes to page i of a file, or to a private copy of it, writes a word that names i; so what
 * is read must name the page or be zero. In the tests of little RAM nobody truncates, and each page has
 * one thread that writes to it, which must find what it wrote last.
 *
 * UHMM_TEST_SECONDS: how long each test goes on. UHMM_TEST_SEED: of the choices, not of the schedule.
 */
#define _GNU_SOURCE
#include "mm/swap.h"
#include "stress/stress.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { THREADS = 3, NFILES = 2, PAGES = 40, NREGIONS = 6 };

/* Page i of a region maps page i of its file. Boundaries of 2 MiB run through the regions. */
#define REGION(r) (0x40200000UL + (r)*0x200000UL - PAGES / 2 * PAGE)

static struct stress {
	struct fixture f;
	struct uhmm_file *file[NFILES];
	double until;
	uint64_t seed;
	_Atomic uint64_t ops;
} s;

struct thread {
	pthread_t id;
	unsigned int index;
	struct rng rng;
	struct uhmm_task *task;
	struct uhmm_mm *mm;
	struct uhmm_mirror **mirror;
	uint64_t counter;
	uint64_t buf[PAGES * PAGE / 8];
};

static unsigned int pick(struct thread *t, unsigned int n)
{
	return (unsigned int)rng_below(&t->rng, n);
}

/* The first regions are shared mappings, the last two private ones. */
static int region_flags(unsigned int r)
{
	return MAP_FIXED | (r < 4 ? MAP_SHARED : MAP_PRIVATE);
}

static struct uhmm_file *region_file(unsigned int r)
{
	return s.file[r % NFILES];
}

static uint64_t word_of(struct thread *t, unsigned int page)
{
	return 0xf11eUL << 48 | (uint64_t)page << 32 | (++t->counter & 0xffffffff);
}

static void check(uint64_t word, unsigned int page, const char *who)
{
	if (word && word >> 32 != (0xf11eUL << 16 | page))
		die("%s: page %u holds %#llx", who, page, (unsigned long long)word);
}

/* Rights and sizes are as the others left them. */
static bool may_fail(int ret)
{
	return ret == SIGSEGV || ret == SIGBUS || ret == -EFAULT || ret == -EPERM ||
	       ret == -EBUSY || ret == -EINVAL || ret == -ENOENT || ret == -ENOMEM ||
	       ret == -EACCES;
}

static void access_op(struct thread *t, unsigned int r, unsigned int page)
{
	uint64_t word = word_of(t, page);
	bool write = pick(t, 2), device = !pick(t, 3);
	uhmm_vaddr_t at = REGION(r) + page * PAGE;
	int ret;

	if (device)
		ret = uhmm_mirror_access(t->mirror[pick(t, 2)], at, write, &word,
					 (enum uhmm_strategy)pick(t, UHMM_NR_STRATEGIES),
					 PAGE << pick(t, 6), NULL);
	else if (write)
		ret = uhmm_cpu_write(t->mm, at, &word, 8, NULL);
	else
		ret = uhmm_cpu_read(t->mm, at, &word, 8, NULL);
	if (ret)
		must(!may_fail(ret));
	else if (!write)
		check(word, page, device ? "device" : "cpu");
}

static void file_op(struct thread *t, unsigned int page, unsigned int n)
{
	struct uhmm_file *file = s.file[pick(t, NFILES)];
	uint64_t word = word_of(t, page);
	int64_t ret = 0;

	switch (pick(t, 8)) {
	case 0:
		ret = uhmm_file_truncate(file, pick(t, PAGES) * PAGE);
		if (!ret)
			ret = uhmm_file_truncate(file, PAGES * PAGE);
		break;
	case 1:
		ret = uhmm_file_punch_hole(file, page * PAGE, n * PAGE);
		break;
	case 2:
		ret = uhmm_file_writeback(file, page, n) < 0;
		break;
	case 3:
		ret = uhmm_file_populate(file, page, n);
		/* A memory file gives up when others reclaim more than it gets. */
		if (ret == -ENOMEM && file == s.file[1])
			ret = 0;
		break;
	case 4:
	case 5:
		ret = uhmm_file_write(file, page * PAGE, &word, 8) != 8;
		break;
	default:
		word = 0;
		if (uhmm_file_read(file, page * PAGE, &word, 8) == 8)
			check(word, page, "read(2)");
		break;
	}
	must((int)ret);
}

static void map_op(struct thread *t, unsigned int r, unsigned int page, unsigned int n)
{
	static const int advice[] = { MADV_DONTNEED,	   MADV_REMOVE,	 MADV_POPULATE_READ,
				      MADV_POPULATE_WRITE, MADV_PAGEOUT, MADV_RANDOM,
				      MADV_NORMAL };
	uhmm_vaddr_t at = REGION(r) + page * PAGE;
	int ret;

	switch (pick(t, 8)) {
	case 0:
		ret = uhmm_munmap(t->mm, at, n * PAGE);
		break;
	case 1:
		ret = uhmm_mprotect(t->mm, at, n * PAGE, pick(t, 3) ? RW : PROT_READ);
		break;
	case 2:
		ret = uhmm_madvise(t->mm, at, n * PAGE, advice[pick(t, ARRAY_SIZE(advice))]);
		break;
	case 3:
		/* To another mapping of the same kind, at the same offset. */
		ret = uhmm_mremap(t->mm, at, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				  REGION(r < 4 ? (r + 2) % 4 : r) + page * PAGE, NULL);
		break;
	case 4:
		ret = 0;
		uhmm__try_to_free_pages(s.f.m);
		break;
	default:
		ret = uhmm_mmap(t->mm, at, n * PAGE, RW, region_flags(r), region_file(r), page,
				NULL);
		break;
	}
	if (ret)
		must(!may_fail(ret));
}

/* Pages to other RAM pages, those of files and anonymous ones. */
static void move_op(struct thread *t, unsigned int r, unsigned int page, unsigned int n)
{
	uint64_t src[PAGES], dst[PAGES] = { 0 };
	struct uhmm_migrate_vma mig = {
		.size = sizeof(mig), .src = src, .dst = dst, .flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM
	};
	struct uhmm_vma_info info;

	mig.start = REGION(r) + page * PAGE;
	uhmm_mmap_read_lock(t->mm);
	mig.vma = uhmm_vma_lookup(t->mm, mig.start);
	if (!mig.vma)
		goto out;
	uhmm_vma_info(mig.vma, &info);
	mig.end = mig.start + n * PAGE < info.end ? mig.start + n * PAGE : info.end;
	must(uhmm_migrate_vma_setup(&mig));
	for (unsigned int i = 0; i < (mig.end - mig.start) / PAGE; i++) {
		uhmm_pfn_t pfn;

		if (!(src[i] & UHMM_MIGRATE_PFN_MIGRATE))
			continue;
		must(uhmm_alloc_locked_page(s.f.m, &pfn));
		dst[i] = uhmm_migrate_pfn(pfn);
		uhmm_copy_highpage(s.f.m, pfn, uhmm_migrate_pfn_to_pfn(src[i]));
	}
	uhmm_migrate_vma_pages(&mig);
	uhmm_migrate_vma_finalize(&mig);
out:
	uhmm_mmap_read_unlock(t->mm);
}

static void device_op(struct thread *t, unsigned int r, unsigned int page, unsigned int n)
{
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_MIGRATE_TO_DEV, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
		UHMM_MIRROR_MIGRATE_TO_SYS, UHMM_MIRROR_READ,
		UHMM_MIRROR_READ_UNLOCKED,  UHMM_MIRROR_SNAPSHOT,
	};
	int ret = mirror_op(t->mirror[pick(t, 2)], ops[pick(t, 6)], REGION(r) + page * PAGE, n,
			    t->buf, NULL);

	if (ret)
		must(!may_fail(ret));
}

static void one_op(struct thread *t)
{
	unsigned int n = 1 + pick(t, pick(t, 4) ? 4 : PAGES), page = pick(t, PAGES - n + 1);
	unsigned int r = pick(t, NREGIONS), what = pick(t, 100);

	if (what < 45)
		access_op(t, r, page);
	else if (what < 60)
		file_op(t, page, n);
	else if (what < 75)
		map_op(t, r, page, n);
	else if (what < 85)
		move_op(t, r, page, n);
	else
		device_op(t, r, page, n);
}

static void run_as(struct thread *t, struct uhmm_mm *mm, struct uhmm_mirror **mirror)
{
	stress_run_as(s.f.m, mm, t->index, &t->task);
	t->mm = mm;
	t->mirror = mirror;
}

/* Live in a child for a while. */
static void fork_op(struct thread *t)
{
	struct uhmm_mirror *mirror[FIXTURE_DEVICES], **parent_mirror = t->mirror;
	struct uhmm_mm *parent = t->mm, *mm;

	must(uhmm_mm_fork(parent, &mm));
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++)
		must(uhmm_mirror_open(s.f.dev[d], mm, &mirror[d]));
	run_as(t, mm, mirror);
	for (unsigned int i = pick(t, 60); i; i--)
		one_op(t);
	run_as(t, parent, parent_mirror);
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++)
		uhmm_mirror_close(mirror[d]);
	uhmm_mmput(mm);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	uint64_t ops = 0;

	must(uhmm_task_create(s.f.m, s.f.mm, t->index, "thread", &t->task));
	uhmm_task_enter(t->task);
	for (; now_seconds() < s.until; ops++) {
		if (pick(t, 40))
			one_op(t);
		else
			fork_op(t);
	}
	uhmm_task_leave();
	uhmm_task_destroy(t->task);
	atomic_fetch_add(&s.ops, ops);
	return NULL;
}

static void run(const char *name, enum uhmm_content content)
{
	struct uhmm_machine_config config = { .nr_cpus = THREADS,
					      .content = content,
					      .swap_bytes = 8 << 20 };
	static struct thread threads[THREADS];

	memset(&s, 0, sizeof(s));
	s.seed = test_seed(name);
	s.until = now_seconds() + test_seconds();
	stress_create(&s.f, config);
	fixture_add_devices(&s.f, 0);
	for (unsigned int i = 0; i < NFILES; i++)
		must(uhmm_file_create(s.f.m, i ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR, PAGES * PAGE,
				      &s.file[i]));
	for (unsigned int r = 0; r < NREGIONS; r++)
		must(uhmm_mmap(s.f.mm, REGION(r), PAGES * PAGE, RW, region_flags(r), region_file(r),
			       0, NULL));
	for (unsigned int i = 0; i < THREADS; i++) {
		memset(&threads[i], 0, sizeof(threads[i]));
		threads[i].index = i;
		threads[i].rng.state = s.seed + i;
		threads[i].mm = s.f.mm;
		threads[i].mirror = s.f.mirror;
		must(pthread_create(&threads[i].id, NULL, thread_main, &threads[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++)
		must(pthread_join(threads[i].id, NULL));
	printf("%llu operations\n", (unsigned long long)s.ops);
	must(uhmm_machine_verify(s.f.m));
	for (unsigned int i = 0; i < NFILES; i++)
		uhmm_file_put(s.file[i]);
	fixture_destroy(&s.f);
}

START_TEST(bytes)
{
	run("file threads, bytes", UHMM_CONTENT_BYTES);
}
END_TEST

START_TEST(tags)
{
	run("file threads, tags", UHMM_CONTENT_TAG);
}
END_TEST

/* ---- little RAM ---- */

enum { MANY = 900, NOBODYS = 256, LITTLE_RAM = 4 << 20 };

/* Pages behind those that threads use: others reclaim while they are allocated. */
static void fallocate_op(struct uhmm_file *file)
{
	int ret;

	must(uhmm_file_punch_hole(file, MANY * PAGE, NOBODYS * PAGE));
	ret = uhmm_file_populate(file, MANY, NOBODYS);
	must(ret && ret != -ENOMEM);
}

/* One after the other each page of a file, mapped twice, in a process of the thread's own. */
static void *little_main(void *arg)
{
	struct thread *t = arg;
	uint64_t expected[MANY] = { 0 }, ops = 0, word;

	must(uhmm_task_create(s.f.m, s.f.mm, t->index, "thread", &t->task));
	uhmm_task_enter(t->task);
	for (; now_seconds() < s.until; ops++) {
		unsigned int page = pick(t, MANY / THREADS) * THREADS + t->index;
		struct uhmm_file *file = s.file[pick(t, NFILES)];
		bool first = file == s.file[0];
		uint64_t *last = &expected[page / THREADS + (first ? 0 : MANY / 2)];
		uhmm_vaddr_t at = (first ? 0x40000000UL : 0x50000000UL) +
				  (pick(t, 2) ? 0x8000000UL : 0) + page * PAGE;

		switch (pick(t, 8)) {
		case 0:
			if (uhmm_file_read(file, page * PAGE, &word, 8) != 8 || word != *last)
				die("read(2): page %u holds %#llx", page, (unsigned long long)word);
			break;
		case 1:
			word = ++*last;
			must(uhmm_file_write(file, page * PAGE, &word, 8) != 8);
			break;
		case 2:
			if (pick(t, 16))
				break;
			if (!first)
				fallocate_op(file);
			else
				must(uhmm_file_writeback(file, page, 64) < 0);
			break;
		case 3:
		case 4:
			word = ++*last;
			must(uhmm_cpu_write(t->mm, at, &word, 8, NULL));
			break;
		default:
			must(uhmm_cpu_read(t->mm, at, &word, 8, NULL));
			if (word != *last)
				die("page %u holds %#llx, not %#llx", page,
				    (unsigned long long)word, (unsigned long long)*last);
		}
	}
	uhmm_task_leave();
	uhmm_task_destroy(t->task);
	atomic_fetch_add(&s.ops, ops);
	return NULL;
}

static void map_little(struct uhmm_mm *mm)
{
	for (unsigned int i = 0; i < 2 * NFILES; i++)
		must(uhmm_mmap(mm, 0x40000000UL + i * 0x8000000UL, MANY * PAGE, RW,
			       MAP_SHARED | MAP_FIXED, s.file[i / 2], 0, NULL));
}

/* Two files of nearly twice the RAM each, in two processes. */
static void run_little(const char *name, enum uhmm_content content)
{
	struct uhmm_machine_config config = { .nr_cpus = THREADS,
					      .content = content,
					      .ram_bytes = LITTLE_RAM,
					      .swap_bytes = 2 * LITTLE_RAM };
	static struct thread threads[THREADS];
	struct uhmm_mm *other;

	memset(&s, 0, sizeof(s));
	s.seed = test_seed(name);
	s.until = now_seconds() + test_seconds() / 2;
	stress_create(&s.f, config);
	for (unsigned int i = 0; i < NFILES; i++)
		must(uhmm_file_create(s.f.m, i ? UHMM_FILE_MEMORY : UHMM_FILE_REGULAR,
				      (MANY + NOBODYS) * PAGE, &s.file[i]));
	map_little(s.f.mm);
	must(uhmm_mm_fork(s.f.mm, &other));
	for (unsigned int i = 0; i < THREADS; i++) {
		memset(&threads[i], 0, sizeof(threads[i]));
		threads[i].index = i;
		threads[i].rng.state = s.seed + i;
		threads[i].mm = i & 1 ? other : s.f.mm;
		must(pthread_create(&threads[i].id, NULL, little_main, &threads[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++)
		must(pthread_join(threads[i].id, NULL));
	printf("%llu operations\n", (unsigned long long)s.ops);
	must(uhmm_machine_verify(s.f.m));
	uhmm_mmput(other);
	for (unsigned int i = 0; i < NFILES; i++)
		uhmm_file_put(s.file[i]);
	fixture_destroy(&s.f);
}

START_TEST(little_ram)
{
	run_little("little RAM", _i ? UHMM_CONTENT_BYTES : UHMM_CONTENT_TAG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("file_threads");
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_test(tc, bytes);
	tcase_add_test(tc, tags);
	tcase_add_loop_test(tc, little_ram, 0, 2);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
