// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A driver of its own on interval notifiers and range faults, as the kernel's documentation has it:
 * read_begin, walk, take the driver's lock, read_retry, use. Other threads fork, copy on write,
 * migrate, protect and unmap meanwhile.
 *
 * While the driver holds its lock, each page of its table belongs to its address: what it reads there
 * was written to that address, and what it writes there the process reads. A sequence that says
 * "unchanged" too often shows as a word of another page, or as a write that is lost.
 */
#define _GNU_SOURCE
#include "stress/stress.h"

enum { DRIVERS = 2, MUTATORS = 2, PAGES = 32 };

#define BASE (0x40200000UL - PAGES * PAGE)
#define PART(i) (BASE + (i)*PAGES * PAGE)
/* Pages that come and go, for frames to be used again at other addresses. */
#define CHURN PART(DRIVERS)

struct driver {
	pthread_t id;
	pthread_mutex_t lock;
	struct rng rng;
	unsigned int index;
	struct uhmm_mmu_interval_notifier *mni;
	uint64_t entry[PAGES]; /* [lock] hmm_pfns, 0: none */
	uint64_t word[PAGES];  /* what each page must hold */
	uint64_t counter, retries, busy, invalidated;
};

static struct world {
	struct fixture f;
	double until;
	uint64_t seed;
	struct driver driver[DRIVERS];
} w;

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	struct driver *d = uhmm_mmu_interval_data(mni);
	uhmm_vaddr_t part = PART(d->index);

	pthread_mutex_lock(&d->lock);
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	d->invalidated++;
	for (unsigned int i = 0; i < PAGES; i++) {
		if (part + (i + 1) * PAGE > range->start && part + i * PAGE < range->end)
			d->entry[i] = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = invalidate };

/* Fault [first, first + n) in and enter it. Ends with the driver's lock held. */
static void fault_in(struct driver *d, unsigned int first, unsigned int n, bool write)
{
	uint64_t pfns[PAGES] = { 0 };
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.notifier = d->mni,
		.start = PART(d->index) + first * PAGE,
		.end = PART(d->index) + (first + n) * PAGE,
		.hmm_pfns = pfns,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | (write ? UHMM_HMM_PFN_REQ_WRITE : 0),
	};

	for (;;) {
		bool unlocked = rng_one_in(&d->rng, 2);
		int err;

		memset(pfns, 0, sizeof(pfns));
		if (unlocked) {
			err = uhmm_range_fault_unlocked_timeout(&range, 0);
		} else {
			range.notifier_seq = uhmm_mmu_interval_read_begin(d->mni);
			uhmm_mmap_read_lock(w.f.mm);
			err = uhmm_range_fault(&range);
			uhmm_mmap_read_unlock(w.f.mm);
		}
		if (err == -EBUSY) {
			d->busy++;
			continue;
		}
		must(err);
		pthread_mutex_lock(&d->lock);
		if (!uhmm_mmu_interval_read_retry(d->mni, range.notifier_seq))
			break;
		pthread_mutex_unlock(&d->lock);
		d->retries++;
	}
	for (unsigned int i = 0; i < n; i++) {
		if (!(pfns[i] & UHMM_HMM_PFN_VALID) || (write && !(pfns[i] & UHMM_HMM_PFN_WRITE)))
			die("driver %u: page %u asked for, got %#llx", d->index, first + i,
			    (unsigned long long)pfns[i]);
		d->entry[first + i] = pfns[i];
	}
}

static size_t offset_of(unsigned int page)
{
	return 8 * (page * 7 % 512);
}

/* Context: d->lock; the entry is there. */
static void device_write(struct driver *d, unsigned int page)
{
	uint64_t word = magic(PART(d->index) + page * PAGE) | (uint32_t)++d->counter;

	uhmm_page_write(w.f.m, uhmm_hmm_pfn_to_pfn(d->entry[page]), offset_of(page), &word, 8);
	d->word[page] = word;
}

static void expect_word(struct driver *d, unsigned int page, uint64_t word, const char *how)
{
	if (word != d->word[page])
		die("driver %u, page %u, %s: %#llx, should be %#llx", d->index, page, how,
		    (unsigned long long)word, (unsigned long long)d->word[page]);
}

static void device_read(struct driver *d, unsigned int page)
{
	uint64_t word = 0;

	uhmm_page_read(w.f.m, uhmm_hmm_pfn_to_pfn(d->entry[page]), offset_of(page), &word, 8);
	expect_word(d, page, word, "read by the device");
}

static void driver_step(struct driver *d)
{
	unsigned int first = (unsigned int)rng_below(&d->rng, PAGES);
	unsigned int n = 1 + (unsigned int)rng_below(&d->rng, PAGES - first);
	bool write = rng_one_in(&d->rng, 2);
	uhmm_vaddr_t addr = PART(d->index) + first * PAGE + offset_of(first);
	uint64_t word;

	if (rng_one_in(&d->rng, 8)) {
		/* By the process. */
		word = magic(PART(d->index) + first * PAGE) | (uint32_t)++d->counter;
		must(uhmm_cpu_write(w.f.mm, addr, &word, 8, NULL));
		d->word[first] = word;
		return;
	}
	fault_in(d, first, n, write);
	for (unsigned int i = first; i < first + n; i++) {
		if (write)
			device_write(d, i);
		else
			device_read(d, i);
	}
	pthread_mutex_unlock(&d->lock);
	must(uhmm_cpu_read(w.f.mm, addr, &word, 8, NULL));
	expect_word(d, first, word, "read by the CPU");
	/* What is still in the table may be used, without any walk. */
	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < PAGES; i++) {
		if (d->entry[i])
			device_read(d, i);
		if (d->entry[i] & UHMM_HMM_PFN_WRITE)
			device_write(d, i);
	}
	pthread_mutex_unlock(&d->lock);
}

static void *driver_main(void *arg)
{
	struct driver *d = arg;
	struct uhmm_task *t;

	must(uhmm_task_create(w.f.m, w.f.mm, d->index, "driver", &t));
	uhmm_task_enter(t);
	while (now_seconds() < w.until) {
		must(uhmm_mmu_interval_notifier_insert(w.f.mm, PART(d->index), PAGES * PAGE, &ops,
						       d, &d->mni));
		for (unsigned int i = 0; i < 200 && now_seconds() < w.until; i++)
			driver_step(d);
		/* Nobody keeps the table true after this. */
		uhmm_mmu_interval_notifier_remove(d->mni);
		memset(d->entry, 0, sizeof(d->entry));
	}
	uhmm_task_leave();
	uhmm_task_destroy(t);
	return NULL;
}

/* ---- what happens meanwhile ---- */

static void fork_and_copy(struct rng *rng)
{
	struct uhmm_mm *child;
	uint64_t word = 1;

	must(uhmm_mm_fork(w.f.mm, &child));
	for (unsigned int i = 0; i < 8; i++) {
		int ret = uhmm_cpu_write(child, BASE + rng_below(rng, DRIVERS * PAGES) * PAGE,
					 &word, 8, NULL);

		/* Not what MADV_DONTFORK kept. */
		must(ret && ret != SIGSEGV);
	}
	uhmm_mmput(child);
}

static void mutate(struct rng *rng, void *buf)
{
	uint64_t n = 1 + rng_below(rng, 16);
	uhmm_vaddr_t addr = BASE + rng_below(rng, DRIVERS * PAGES - n) * PAGE;
	struct uhmm_mirror *mirror = w.f.mirror[rng_below(rng, 2)];
	uint64_t word = ~0UL;
	int ret;

	switch (rng_below(rng, 8)) {
	case 0:
		fork_and_copy(rng);
		break;
	case 1:
	case 2:
		ret = mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_DEV, addr, n, buf, NULL);
		must(ret && ret != -ENOENT);
		break;
	case 3:
		must(mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_SYS, addr, n, NULL, NULL));
		break;
	case 4:
		must(uhmm_madvise(w.f.mm, addr, n * PAGE, MADV_DONTFORK));
		must(uhmm_madvise(w.f.mm, addr, n * PAGE, MADV_DOFORK));
		break;
	case 5:
		(void)uhmm_devmem_evict(uhmm_device_memory(w.f.dev[0]), n);
		break;
	default:
		for (unsigned int i = 0; i < PAGES; i++)
			must(uhmm_cpu_write(w.f.mm, CHURN + i * PAGE + 8 * (i * 7 % 512), &word, 8,
					    NULL));
		must(uhmm_madvise(w.f.mm, CHURN, PAGES * PAGE, MADV_DONTNEED));
		break;
	}
}

static void *mutator_main(void *arg)
{
	struct rng rng = { w.seed + 100 + (uintptr_t)arg };
	void *buf = malloc(PAGES * PAGE);
	struct uhmm_task *t;

	must(!buf);
	must(uhmm_task_create(w.f.m, w.f.mm, DRIVERS + (unsigned int)(uintptr_t)arg, "mutator",
			      &t));
	uhmm_task_enter(t);
	while (now_seconds() < w.until)
		mutate(&rng, buf);
	uhmm_task_leave();
	uhmm_task_destroy(t);
	free(buf);
	return NULL;
}

START_TEST(drivers_by_the_book)
{
	struct uhmm_machine_config config = {
		.nr_cpus = DRIVERS + MUTATORS,
		.content = UHMM_CONTENT_BYTES,
	};
	pthread_t mutator[MUTATORS];

	memset(&w, 0, sizeof(w));
	w.seed = test_seed("notifier protocol");
	w.until = now_seconds() + test_seconds();
	stress_create(&w.f, config);
	fixture_add_devices(&w.f, 0);
	map_fixed(w.f.mm, BASE, (DRIVERS + 1) * PAGES, RW);
	for (unsigned int i = 0; i < DRIVERS; i++) {
		struct driver *d = &w.driver[i];

		d->index = i;
		d->rng.state = w.seed + i;
		pthread_mutex_init(&d->lock, NULL);
		must(pthread_create(&d->id, NULL, driver_main, d));
	}
	for (uintptr_t i = 0; i < MUTATORS; i++)
		must(pthread_create(&mutator[i], NULL, mutator_main, (void *)i));
	for (unsigned int i = 0; i < MUTATORS; i++)
		must(pthread_join(mutator[i], NULL));
	for (unsigned int i = 0; i < DRIVERS; i++) {
		struct driver *d = &w.driver[i];

		must(pthread_join(d->id, NULL));
		printf("driver %u: %llu words, %llu invalidations, %llu times busy, %llu retries\n",
		       i, (unsigned long long)d->counter, (unsigned long long)d->invalidated,
		       (unsigned long long)d->busy, (unsigned long long)d->retries);
		pthread_mutex_destroy(&d->lock);
	}
	fixture_destroy(&w.f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("notifier_protocol");
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, test_seconds() + 120);
	tcase_add_test(tc, drivers_by_the_book);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
