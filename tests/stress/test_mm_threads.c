// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Threads in one mm and in its forks: each faults, forks, migrates, unmaps, protects, moves. Made
 * for ThreadSanitizer and AddressSanitizer, but contents are checked, too:
 *
 * - OWN: a part for each thread, which alone writes there, by CPU and by device, and knows what it
 *   must read. The others only move its pages about.
 * - SHARED: everybody does everything; what is read was written to that very page, or is zero.
 * - MOVED: as SHARED, with mremap; what is read was written to one of its pages.
 * - BIG: as SHARED, two huge pages, if the run has any.
 *
 * UHMM_TEST_SECONDS: how long each test goes on. UHMM_TEST_SEED: of the choices, not of the schedule.
 */
#define _GNU_SOURCE
#include "stress/stress.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { NR_WAITS = UHMM_DEVICE_WAIT_INSTALL_ENTRY + 1 };
enum { MAX_THREADS = 4, OWN_PAGES = 24, SHARED_PAGES = 48, MOVED_PAGES = 16 };

/* Next to each other and on both sides of a boundary of 2 MiB, so that tables and VMAs are shared. */
#define SHARED (0x40200000UL - SHARED_PAGES / 2 * PAGE)
#define MOVED (SHARED + (SHARED_PAGES + 8) * PAGE)
#define OWN(t) (SHARED - (1 + (t)) * 2 * OWN_PAGES * PAGE)
#define ALL OWN(MAX_THREADS - 1)
#define ALL_END (MOVED + 2 * MOVED_PAGES * PAGE)
#define ALL_PAGES ((ALL_END - ALL) / PAGE)
#define BIG 0x40800000UL
#define BIG_PAGES 1024U

struct child {
	pthread_mutex_t lock;
	struct uhmm_mm *mm; /* forked by its thread, used by all; NULL: none */
};

static struct stress {
	struct fixture f;
	unsigned int nr_threads;
	bool huge;
	double until;
	uint64_t seed;
	bool swaps;
	_Atomic uint64_t ops;
	struct child child[MAX_THREADS];
} s;

struct thread {
	pthread_t id;
	unsigned int index;
	struct rng rng;
	struct uhmm_task *task;
	struct uhmm_mm *mm;		   /* that it runs in: the common one, or a child */
	struct uhmm_mirror **mirror;	   /* of mm */
	uhmm_vaddr_t own;		   /* where the own pages are now */
	uint64_t word[OWN_PAGES], counter; /* what each own page holds */
	uint64_t buf[UHMM_PMD_SIZE / 8];
};

static bool one_in(struct thread *t, uint64_t n)
{
	return rng_one_in(&t->rng, n);
}

static unsigned int pick(struct thread *t, unsigned int n)
{
	return (unsigned int)rng_below(&t->rng, n);
}

/* Not the start of the page, so that partly copied pages show. */
static uhmm_vaddr_t word_at(uhmm_vaddr_t page)
{
	return page + 8 * (page >> UHMM_PAGE_SHIFT & 511);
}

static enum uhmm_strategy any_strategy(struct thread *t)
{
	return (enum uhmm_strategy)pick(t, UHMM_NR_STRATEGIES);
}

/* ---- own pages ---- */

static uhmm_vaddr_t own_page(struct thread *t, unsigned int i)
{
	return t->own + i * PAGE;
}

static void own_write(struct thread *t, unsigned int i)
{
	uint64_t word = ++t->counter << 8 | t->index;

	must(uhmm_cpu_write(t->mm, word_at(own_page(t, i)), &word, 8, NULL));
	t->word[i] = word;
}

static void own_expect(struct thread *t, unsigned int i, uint64_t word, const char *how)
{
	if (word != t->word[i])
		die("thread %u, mm %llu, own page %u (%#llx), %s: %#llx, should be %#llx", t->index,
		    (unsigned long long)uhmm_mm_id(t->mm), i, (unsigned long long)own_page(t, i),
		    how, (unsigned long long)word, (unsigned long long)t->word[i]);
}

static void own_read(struct thread *t, unsigned int i)
{
	uint64_t word = ~0UL;

	must(uhmm_cpu_read(t->mm, word_at(own_page(t, i)), &word, 8, NULL));
	own_expect(t, i, word, "read by the CPU");
}

static void own_device(struct thread *t, unsigned int i, bool write)
{
	struct uhmm_mirror *mirror = t->mirror[one_in(t, 3)];
	uint64_t word = ++t->counter << 8 | t->index;
	int err;

	do {
		err = uhmm_mirror_access(mirror, word_at(own_page(t, i)), write, &word,
					 any_strategy(t), PAGE << pick(t, 8), NULL);
	} while (err == -EBUSY);
	must(err);
	if (write)
		t->word[i] = word;
	else
		own_expect(t, i, word, "read by a device");
}

static void own_protect(struct thread *t, unsigned int i)
{
	unsigned int n = 1 + pick(t, OWN_PAGES - i);
	uint64_t word = 1;

	must(uhmm_mprotect(t->mm, own_page(t, i), n * PAGE, PROT_READ));
	own_read(t, i + pick(t, n));
	if (uhmm_cpu_write(t->mm, word_at(own_page(t, i)), &word, 8, NULL) != SIGSEGV)
		die("a write to a read-only page went through");
	if (one_in(t, 2))
		own_device(t, i + pick(t, n), false);
	must(uhmm_mprotect(t->mm, own_page(t, i), n * PAGE, RW));
}

static void own_drop(struct thread *t, unsigned int i)
{
	unsigned int n = 1 + pick(t, OWN_PAGES - i);

	if (one_in(t, 2)) {
		must(uhmm_madvise(t->mm, own_page(t, i), n * PAGE, MADV_DONTNEED));
	} else {
		must(uhmm_munmap(t->mm, own_page(t, i), n * PAGE));
		must(uhmm_mmap(t->mm, own_page(t, i), n * PAGE, RW, ANON | MAP_FIXED, NULL, 0,
			       NULL));
	}
	memset(&t->word[i], 0, n * sizeof(t->word[0]));
}

/* Given up: until it is written to again, a page holds what it held, or nothing. */
static void own_free(struct thread *t, unsigned int i)
{
	unsigned int n = 1 + pick(t, OWN_PAGES - i);

	must(uhmm_madvise(t->mm, own_page(t, i), n * PAGE, MADV_FREE));
	for (unsigned int j = i; j < i + n; j++) {
		uint64_t word = ~0UL;

		must(uhmm_cpu_read(t->mm, word_at(own_page(t, j)), &word, 8, NULL));
		if (word)
			own_expect(t, j, word, "read after MADV_FREE");
		if (one_in(t, 2))
			own_write(t, j);
		else
			own_device(t, j, true);
	}
}

/* There and back again between the two halves of the thread's part. */
static void own_move(struct thread *t)
{
	uhmm_vaddr_t to = t->own == OWN(t->index) ? OWN(t->index) + OWN_PAGES * PAGE
						  : OWN(t->index);

	for (unsigned int i = 0; i < OWN_PAGES;) {
		unsigned int n = 1 + pick(t, OWN_PAGES - i);
		uint64_t word;
		int err;

		/* How the VMAs are cut is not known: page by page if need be. */
		err = uhmm_mremap(t->mm, t->own + i * PAGE, n * PAGE, n * PAGE,
				  MREMAP_MAYMOVE | MREMAP_FIXED, to + i * PAGE, NULL);
		if (err == -EFAULT && n > 1)
			continue;
		must(err);
		for (unsigned int j = i; j < i + n; j++) {
			/* The word moves along with its page, not to where it would be there. */
			must(uhmm_cpu_read(t->mm, to + j * PAGE + word_at(own_page(t, j)) % PAGE,
					   &word, 8, NULL));
			own_expect(t, j, word, "read after mremap");
			must(uhmm_cpu_write(t->mm, word_at(to + j * PAGE), &word, 8, NULL));
		}
		i += n;
	}
	t->own = to;
}

static void own_op(struct thread *t)
{
	unsigned int i = pick(t, OWN_PAGES);

	switch (pick(t, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		own_write(t, i);
		break;
	case 4:
	case 5:
	case 6:
		own_read(t, i);
		break;
	case 7:
	case 8:
	case 9:
		own_device(t, i, true);
		break;
	case 10:
	case 11:
		own_device(t, i, false);
		break;
	case 12:
		own_protect(t, i);
		break;
	case 13:
		if (one_in(t, 3))
			own_free(t, i);
		else
			own_drop(t, i);
		break;
	default:
		if (one_in(t, 4))
			own_move(t);
		break;
	}
}

/* ---- pages of all ---- */

/* What was written to a page of MOVED may be at any of them. */
static uhmm_vaddr_t magic_page(uhmm_vaddr_t page)
{
	return page >= MOVED && page < BIG ? MOVED : page;
}

static void check_word(uhmm_vaddr_t page, uint64_t word, const char *who)
{
	check_magic(magic_page(page), word, who);
}

static bool is_fault(int ret)
{
	return ret == SIGSEGV || ret == -EFAULT || ret == -EPERM || ret == -EBUSY;
}

static void shared_access(struct thread *t, struct uhmm_mm *mm, uhmm_vaddr_t page)
{
	uint64_t word = magic(magic_page(page)) | ++t->counter;
	bool write = one_in(t, 2);
	int ret;

	if (write)
		ret = uhmm_cpu_write(mm, page, &word, 8, NULL);
	else
		ret = uhmm_cpu_read(mm, page, &word, 8, NULL);
	if (ret)
		must(!is_fault(ret));
	else if (!write)
		check_word(page, word, "read by the CPU");
}

static void shared_device(struct thread *t, uhmm_vaddr_t page)
{
	uint64_t word = magic(magic_page(page)) | ++t->counter;
	bool write = one_in(t, 2);
	int ret = uhmm_mirror_access(t->mirror[one_in(t, 3)], page, write, &word, any_strategy(t),
				     PAGE << pick(t, 10), NULL);

	if (ret)
		must(!is_fault(ret));
	else if (!write)
		check_word(page, word, "read by a device");
}

static void shared_map(struct thread *t, uhmm_vaddr_t page, unsigned int n)
{
	static const int prots[] = { RW, RW, PROT_READ, PROT_NONE };
	uint64_t len = n * PAGE;
	int ret = 0;

	switch (pick(t, 6)) {
	case 0:
		ret = uhmm_munmap(t->mm, page, len);
		break;
	case 1:
		ret = uhmm_mprotect(t->mm, page, len, prots[pick(t, 4)]);
		break;
	case 2:
		ret = uhmm_madvise(t->mm, page, len, MADV_DONTNEED);
		break;
	case 3:
		ret = uhmm_madvise(t->mm, page, len,
				   one_in(t, 2) ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
		break;
	default:
		ret = uhmm_mmap(t->mm, page, len, RW,
				ANON | MAP_FIXED | (one_in(t, 3) ? MAP_POPULATE : 0), NULL, 0,
				NULL);
		break;
	}
	/* Holes and rights are as the others left them. */
	if (ret && ret != -ENOMEM && ret != -EINVAL && ret != -EFAULT)
		die("mapping calls: %d", ret);
}

static void moved_remap(struct thread *t)
{
	unsigned int from = pick(t, 2 * MOVED_PAGES), to = pick(t, 2 * MOVED_PAGES);
	unsigned int n = 1 + pick(t, 4);
	int ret;

	if (from + n > 2 * MOVED_PAGES || to + n > 2 * MOVED_PAGES)
		return;
	ret = uhmm_mremap(t->mm, MOVED + from * PAGE, n * PAGE, n * PAGE,
			  MREMAP_MAYMOVE | MREMAP_FIXED, MOVED + to * PAGE, NULL);
	/* The two overlap, or the range has holes. */
	if (ret && ret != -EINVAL && ret != -EFAULT)
		die("mremap: %d", ret);
}

/* What makes huge pages, and what takes them apart. */
static void big_op(struct thread *t)
{
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_MIGRATE_TO_DEV,
		UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
		UHMM_MIRROR_READ,
		UHMM_MIRROR_MIGRATE_TO_SYS,
	};
	uhmm_vaddr_t page = BIG + pick(t, BIG_PAGES) * PAGE, whole = page & UHMM_PMD_MASK;
	int ret = 0;

	switch (pick(t, 12)) {
	case 0:
		ret = uhmm_madvise(t->mm, whole, UHMM_PMD_SIZE, MADV_COLLAPSE);
		break;
	case 1:
		ret = uhmm_madvise(t->mm, whole, UHMM_PMD_SIZE, MADV_DONTNEED);
		break;
	case 2:
		ret = uhmm_madvise(t->mm, page, PAGE, MADV_DONTNEED);
		break;
	case 3:
		ret = uhmm_mprotect(t->mm, whole, UHMM_PMD_SIZE, one_in(t, 3) ? PROT_READ : RW);
		break;
	case 4:
		ret = uhmm_mmap(t->mm, whole, UHMM_PMD_SIZE, RW, ANON | MAP_FIXED, NULL, 0, NULL);
		break;
	case 5:
	case 6:
		ret = mirror_op(t->mirror[one_in(t, 3)], ops[pick(t, 4)], whole, 512, t->buf, NULL);
		break;
	case 7:
	case 8:
		shared_device(t, page);
		break;
	default:
		shared_access(t, t->mm, page);
		break;
	}
	if (ret && ret != -ENOMEM && ret != -EINVAL && ret != -EAGAIN && ret != -ENOENT &&
	    !is_fault(ret))
		die("huge pages: %d", ret);
}

static void shared_op(struct thread *t)
{
	unsigned int n = 1 + pick(t, 8);
	uhmm_vaddr_t page = SHARED + pick(t, SHARED_PAGES - n) * PAGE;

	if (one_in(t, 3)) {
		n = 1 + pick(t, 4);
		page = MOVED + pick(t, 2 * MOVED_PAGES - n) * PAGE;
	}
	switch (pick(t, 8)) {
	case 0:
	case 1:
	case 2:
		shared_access(t, t->mm, page);
		break;
	case 3:
	case 4:
		shared_device(t, page);
		break;
	case 5:
		moved_remap(t);
		break;
	default:
		shared_map(t, page, n);
		break;
	}
}

/* ---- migration and swapping of anybody's pages ---- */

static void migrate_op(struct thread *t)
{
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_MIGRATE_TO_DEV, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
		UHMM_MIRROR_MIGRATE_TO_SYS, UHMM_MIRROR_READ,
		UHMM_MIRROR_READ_UNLOCKED,  UHMM_MIRROR_SNAPSHOT,
	};
	unsigned int dev = one_in(t, 3), n = 1 + pick(t, one_in(t, 8) ? ALL_PAGES : 16);
	uhmm_vaddr_t start = ALL + pick(t, ALL_PAGES - n + 1) * PAGE;
	int64_t left;
	int ret;

	if (s.swaps && one_in(t, 2)) {
		ret = uhmm_madvise(t->mm, start, n * PAGE, one_in(t, 6) ? MADV_COLD : MADV_PAGEOUT);
		if (ret && ret != -ENOMEM)
			die("pageout: %d", ret);
		return;
	}
	if (one_in(t, 6)) {
		struct uhmm_devmem *pool = uhmm_device_memory(s.f.dev[dev]);

		left = one_in(t, 4) ? uhmm_devmem_evict_all(pool, false)
				    : uhmm_devmem_evict(pool, n);
		if (left < 0)
			die("evict: %lld", (long long)left);
		return;
	}
	ret = mirror_op(t->mirror[dev], ops[pick(t, sizeof(ops) / sizeof(ops[0]))], start, n,
			t->buf, NULL);
	if (ret && ret != -ENOENT && ret != -EINVAL && ret != -EFAULT && ret != -EBUSY)
		die("ioctl: %d", ret);
}

/* ---- forks ---- */

/* Somebody's child, with a user reference; NULL if there is none now. */
static struct uhmm_mm *borrow_child(unsigned int of)
{
	struct child *c = &s.child[of];
	struct uhmm_mm *mm;

	pthread_mutex_lock(&c->lock);
	mm = c->mm;
	if (mm)
		uhmm_mmget(mm);
	pthread_mutex_unlock(&c->lock);
	return mm;
}

/* Returns what was published before. */
static struct uhmm_mm *publish_child(unsigned int of, struct uhmm_mm *mm)
{
	struct child *c = &s.child[of];
	struct uhmm_mm *old;

	pthread_mutex_lock(&c->lock);
	old = c->mm;
	c->mm = mm;
	pthread_mutex_unlock(&c->lock);
	return old;
}

/* As another process's debugger: remote accesses to pages that nobody writes with care. */
static void borrow_op(struct thread *t)
{
	struct uhmm_mm *mm = borrow_child(pick(t, s.nr_threads));

	if (!mm)
		return;
	for (unsigned int i = 0; i < 4; i++)
		shared_access(t, mm, SHARED + pick(t, SHARED_PAGES) * PAGE);
	uhmm_mmput(mm);
}

static void run_as(struct thread *t, struct uhmm_mm *mm, struct uhmm_mirror **mirror)
{
	stress_run_as(s.f.m, mm, t->index, &t->task);
	t->mm = mm;
	t->mirror = mirror;
}

/* Live in a child for a while; what happens there must not be seen in the parent. */
static void fork_op(struct thread *t)
{
	struct uhmm_mirror *mirror[FIXTURE_DEVICES], **parent_mirror = t->mirror;
	struct uhmm_mm *parent = t->mm, *mm;
	uint64_t word[OWN_PAGES];
	uhmm_vaddr_t own = t->own;

	must(uhmm_mm_fork(parent, &mm));
	memcpy(word, t->word, sizeof(word));
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++)
		must(uhmm_mirror_open(s.f.dev[d], mm, &mirror[d]));
	uhmm_mmget(mm);
	mm = publish_child(t->index, mm);
	if (mm)
		uhmm_mmput(mm);
	mm = uhmm_mirror_mm(mirror[0]);
	run_as(t, mm, mirror);
	for (unsigned int i = 0; i < OWN_PAGES; i++)
		own_read(t, i);
	for (unsigned int i = pick(t, 60); i; i--) {
		if (one_in(t, 3))
			shared_op(t);
		else
			own_op(t);
	}
	run_as(t, parent, parent_mirror);
	memcpy(t->word, word, sizeof(word));
	t->own = own;
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++)
		uhmm_mirror_close(mirror[d]);
	uhmm_mmput(mm);
	for (unsigned int i = 0; i < OWN_PAGES; i++)
		own_read(t, i);
}

/* ---- the threads ---- */

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	uint64_t ops = 0;

	must(uhmm_task_create(s.f.m, s.f.mm, t->index, "thread", &t->task));
	uhmm_task_enter(t->task);
	for (; now_seconds() < s.until; ops++) {
		unsigned int what = pick(t, 100);

		if (what < 55)
			own_op(t);
		else if (what < 75 && s.huge && one_in(t, 2))
			big_op(t);
		else if (what < 75)
			shared_op(t);
		else if (what < 95)
			migrate_op(t);
		else if (what < 98)
			borrow_op(t);
		else
			fork_op(t);
	}
	for (unsigned int i = 0; i < OWN_PAGES; i++)
		own_read(t, i);
	uhmm_task_leave();
	uhmm_task_destroy(t->task);
	atomic_fetch_add(&s.ops, ops);
	return NULL;
}

static void start_machine(const char *name, struct uhmm_machine_config config,
			  uint64_t device_bytes)
{
	memset(&s, 0, sizeof(s));
	s.nr_threads = config.nr_cpus;
	s.huge = config.thp == UHMM_THP_ALWAYS;
	s.swaps = config.swap_bytes;
	s.seed = test_seed(name);
	s.until = now_seconds() + test_seconds();
	stress_create(&s.f, config);
	fixture_add_devices(&s.f, device_bytes);
	map_fixed(s.f.mm, ALL, ALL_PAGES, RW);
	map_fixed(s.f.mm, BIG, BIG_PAGES, RW);
	for (unsigned int i = 0; i < MAX_THREADS; i++)
		pthread_mutex_init(&s.child[i].lock, NULL);
}

static void start(const char *name, unsigned int nr_threads, enum uhmm_content content,
		  uint64_t device_bytes, bool huge)
{
	struct uhmm_machine_config config = { .nr_cpus = nr_threads,
					      .content = content,
					      .thp = huge ? UHMM_THP_ALWAYS : UHMM_THP_NEVER };

	start_machine(name, config, device_bytes);
}

static void run_threads(void)
{
	static struct thread threads[MAX_THREADS];

	/* The threads hold the mm; a boot task stays for the end. */
	for (unsigned int i = 0; i < s.nr_threads; i++) {
		memset(&threads[i], 0, sizeof(threads[i]));
		threads[i].index = i;
		threads[i].rng.state = s.seed + i;
		threads[i].mm = s.f.mm;
		threads[i].mirror = s.f.mirror;
		threads[i].own = OWN(i);
		must(pthread_create(&threads[i].id, NULL, thread_main, &threads[i]));
	}
	for (unsigned int i = 0; i < s.nr_threads; i++)
		must(pthread_join(threads[i].id, NULL));
}

static void stop(void)
{
	struct uhmm_counters c;

	uhmm_counters_read(s.f.m, &c);
	printf("%llu operations; waits on migration entries %llu, on folios %llu, back-offs %llu, "
	       "to device %llu, to RAM %llu, put back %llu\n",
	       (unsigned long long)s.ops, (unsigned long long)c.v[UHMM_CNT_FAULT_MIGRATION_WAIT],
	       (unsigned long long)c.v[UHMM_CNT_FAULT_DEVICE_WAIT],
	       (unsigned long long)c.v[UHMM_CNT_BACK_OFF],
	       (unsigned long long)c.v[UHMM_CNT_MIGRATED_TO_DEVICE],
	       (unsigned long long)c.v[UHMM_CNT_MIGRATED_TO_RAM],
	       (unsigned long long)(c.v[UHMM_CNT_FAIL_LOCKED] + c.v[UHMM_CNT_FAIL_RACED] +
				    c.v[UHMM_CNT_FAIL_REFERENCED] + c.v[UHMM_CNT_FAIL_MAPPED]));
	printf("swapped out %llu, in %llu, found in the cache %llu, dropped clean %llu; reclaims "
	       "%llu\n",
	       (unsigned long long)c.v[UHMM_CNT_SWAP_OUT],
	       (unsigned long long)c.v[UHMM_CNT_SWAP_IN],
	       (unsigned long long)c.v[UHMM_CNT_FAULT_SWAP_CACHED],
	       (unsigned long long)c.v[UHMM_CNT_SWAP_DROP],
	       (unsigned long long)c.v[UHMM_CNT_RECLAIM]);
	must(uhmm_machine_verify(s.f.m));
	for (unsigned int i = 0; i < MAX_THREADS; i++) {
		struct uhmm_mm *mm = publish_child(i, NULL);

		if (mm)
			uhmm_mmput(mm);
		pthread_mutex_destroy(&s.child[i].lock);
	}
	fixture_destroy(&s.f);
}

START_TEST(two_threads)
{
	start("two threads", 2, UHMM_CONTENT_BYTES, 0, false);
	run_threads();
	stop();
}
END_TEST

START_TEST(four_threads)
{
	start("four threads", 4, UHMM_CONTENT_TAG, 0, false);
	run_threads();
	stop();
}
END_TEST

/* Device memory for a fraction of the pages: evictions run all the time. */
START_TEST(little_device_memory)
{
	start("little device memory", 3, UHMM_CONTENT_BYTES, 20 * PAGE, false);
	run_threads();
	stop();
}
END_TEST

START_TEST(huge_pages)
{
	start("huge pages", 3, UHMM_CONTENT_TAG, 0, true);
	run_threads();
	stop();
}
END_TEST

START_TEST(huge_pages_little_device_memory)
{
	start("huge pages, little device memory", 3, UHMM_CONTENT_TAG, 700 * PAGE, true);
	run_threads();
	stop();
}
END_TEST

START_TEST(swapping)
{
	struct uhmm_machine_config config = { .nr_cpus = 3, .swap_bytes = 32UL << 20 };

	start_machine("swapping", config, 0);
	run_threads();
	stop();
}
END_TEST

/* A disk keeps slots; RAM for a fraction of the pages: reclaim runs all the time. */
START_TEST(little_ram)
{
	struct uhmm_machine_config config = {
		.nr_cpus = 4,
		.content = UHMM_CONTENT_BYTES,
		.ram_bytes = 4UL << 20,
		.swap_bytes = 32UL << 20,
		.swap = UHMM_SWAP_DISK,
	};

	start_machine("little RAM", config, 100 * PAGE);
	run_threads();
	stop();
}
END_TEST

/* Each way to wait for a device page that is locked, in the time of one test. */
START_TEST(device_private_waits)
{
	struct uhmm_machine_config config = {
		.nr_cpus = 4,
		.thp = UHMM_THP_NEVER,
		.device_private_wait = (enum uhmm_device_private_wait)_i,
	};

	start_machine("ways to wait for a device page", config, 0);
	s.until = now_seconds() + test_seconds() / NR_WAITS;
	run_threads();
	stop();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mm_threads");
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_test(tc, two_threads);
	tcase_add_test(tc, four_threads);
	tcase_add_test(tc, little_device_memory);
	tcase_add_test(tc, huge_pages);
	tcase_add_test(tc, huge_pages_little_device_memory);
	tcase_add_test(tc, swapping);
	tcase_add_test(tc, little_ram);
	tcase_add_loop_test(tc, device_private_waits, 0, NR_WAITS);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
