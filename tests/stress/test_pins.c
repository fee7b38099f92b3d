// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pins against everything that moves pages: what is written to a pinned page must be what the process
 * reads, and the reverse, for as long as the pin lasts. Pages are had with and without locks (museum
 * M11) while others fork, migrate to and from private and coherent memory, take pages for a device
 * alone, and make NUMA hints.
 */
#define _GNU_SOURCE
#include "stress/stress.h"

enum { PINNERS = 2, MOVERS = 2, OWN = 12, PAGES = PINNERS * OWN };

#define BASE (0x40200000UL - PAGES / 2 * PAGE)

static struct fixture f;
static double until;
static uint64_t seed;
static _Atomic uint64_t pinned;

struct thread {
	pthread_t id;
	unsigned int index;
	struct rng rng;
	struct uhmm_task *task;
	uint64_t word[OWN], counter;
	uint64_t buf[PAGES * PAGE / 8];
};

static uint64_t cpu_word(uhmm_vaddr_t addr)
{
	uint64_t word = ~0UL;

	must(uhmm_cpu_read(f.mm, addr, &word, 8, NULL));
	return word;
}

static void same(const struct thread *t, const char *what, uhmm_vaddr_t addr, uint64_t is,
		 uint64_t right)
{
	if (is != right)
		die("thread %u: page %#llx, %s: %#llx, should be %#llx", t->index,
		    (unsigned long long)addr, what, (unsigned long long)is,
		    (unsigned long long)right);
}

/* While the page is pinned. */
static void use_pinned(struct thread *t, unsigned int i, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
		       bool write)
{
	uint64_t word = ++t->counter, seen;

	uhmm_page_read(f.m, pfn, 0, &seen, 8);
	same(t, "read by its frame", addr, seen, t->word[i]);
	if (write) {
		uhmm_page_write(f.m, pfn, 0, &word, 8);
		same(t, "written by its frame, read by the CPU", addr, cpu_word(addr), word);
	} else {
		must(uhmm_cpu_write(f.mm, addr, &word, 8, NULL));
		uhmm_page_read(f.m, pfn, 0, &seen, 8);
		same(t, "written by the CPU, read by its frame", addr, seen, word);
	}
	t->word[i] = word;
}

static void pin_one(struct thread *t)
{
	unsigned int i = (unsigned int)rng_below(&t->rng, OWN);
	uhmm_vaddr_t addr = BASE + (t->index * OWN + i) * PAGE;
	bool write = rng_one_in(&t->rng, 2);
	unsigned int flags = (write ? UHMM_FOLL_WRITE : 0) |
			     (rng_one_in(&t->rng, 4) ? UHMM_FOLL_LONGTERM : 0);
	uhmm_pfn_t pfn;
	int64_t n;

	if (rng_one_in(&t->rng, 4))
		n = uhmm_pin_user_pages(f.mm, addr, 1, flags, &pfn);
	else
		n = uhmm_pin_user_pages_fast(f.mm, addr, 1, flags, &pfn);
	if (n == -EBUSY && flags & UHMM_FOLL_LONGTERM)
		return;
	if (n != 1)
		die("pin: %lld", (long long)n);
	if (flags & UHMM_FOLL_LONGTERM && uhmm_is_device_coherent_page(f.m, pfn))
		die("pinned for long in coherent memory");
	use_pinned(t, i, addr, pfn, write);
	uhmm_unpin_user_pages(f.m, &pfn, 1);
	atomic_fetch_add(&pinned, 1);
	same(t, "read by the CPU", addr, cpu_word(addr), t->word[i]);
}

static void *pinner(void *arg)
{
	struct thread *t = arg;

	uhmm_task_enter(t->task);
	while (now_seconds() < until)
		pin_one(t);
	uhmm_task_leave();
	return NULL;
}

static void fork_and_exit(struct thread *t)
{
	struct uhmm_mm *child;
	int err = uhmm_mm_fork(f.mm, &child);
	uint64_t word;

	/* An exclusive page whose folio is locked. */
	if (err == -ENOMEM)
		return;
	must(err);
	for (unsigned int i = 0; i < 4; i++) {
		uhmm_vaddr_t addr = BASE + rng_below(&t->rng, PAGES) * PAGE;

		must(uhmm_cpu_read(child, addr, &word, 8, NULL));
		word = ~0UL;
		must(uhmm_cpu_write(child, addr, &word, 8, NULL));
	}
	uhmm_mmput(child);
}

static void ioctl_any(struct thread *t, enum uhmm_mirror_op op)
{
	unsigned int page = (unsigned int)rng_below(&t->rng, PAGES);
	struct uhmm_mirror_cmd cmd = {
		.addr = BASE + page * PAGE,
		.npages = 1 + rng_below(&t->rng, PAGES - page),
		.ptr = t->buf,
	};
	int err = uhmm_mirror_ioctl(f.mirror[rng_below(&t->rng, 2)], op, &cmd);

	if (err && err != -ENOENT && err != -EBUSY)
		die("operation %d: %d", (int)op, err);
}

static void *mover(void *arg)
{
	struct thread *t = arg;

	uhmm_task_enter(t->task);
	while (now_seconds() < until) {
		switch (rng_below(&t->rng, 8)) {
		case 0:
			fork_and_exit(t);
			break;
		case 1:
			ioctl_any(t, UHMM_MIRROR_MIGRATE_TO_SYS);
			break;
		case 2:
			ioctl_any(t, UHMM_MIRROR_EXCLUSIVE);
			break;
		case 3:
			if (uhmm_change_prot_numa(f.mm, BASE, PAGES * PAGE) < 0)
				die("NUMA hints");
			break;
		case 4:
			ioctl_any(t, UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV);
			break;
		default:
			ioctl_any(t, UHMM_MIRROR_MIGRATE_TO_DEV);
			break;
		}
	}
	uhmm_task_leave();
	return NULL;
}

static void start(struct uhmm_machine_config config)
{
	stress_create(&f, config);
	for (unsigned int i = 0; i < FIXTURE_DEVICES; i++) {
		struct uhmm_device_config dev = {
			.size = sizeof(dev),
			.type = i ? UHMM_MEMORY_DEVICE_COHERENT : UHMM_MEMORY_DEVICE_PRIVATE,
		};

		must(uhmm_device_create(f.m, &dev, &f.dev[i]));
		must(uhmm_mirror_open(f.dev[i], f.mm, &f.mirror[i]));
	}
	map_fixed(f.mm, BASE, PAGES, RW);
	/* A pin that reads may have the zero page, and a write is not seen there. */
	for (unsigned int i = 0; i < PAGES; i++)
		put_word(f.mm, BASE + i * PAGE, 0);
}

static void run(struct uhmm_machine_config config)
{
	static struct thread threads[PINNERS + MOVERS];

	start(config);
	memset(threads, 0, sizeof(threads));
	until = now_seconds() + test_seconds();
	for (unsigned int i = 0; i < PINNERS + MOVERS; i++) {
		threads[i].index = i;
		threads[i].rng.state = seed + i;
		must(uhmm_task_create(f.m, f.mm, i % config.nr_cpus, "thread", &threads[i].task));
	}
	for (unsigned int i = 0; i < PINNERS + MOVERS; i++)
		must(pthread_create(&threads[i].id, NULL, i < PINNERS ? pinner : mover,
				    &threads[i]));
	for (unsigned int i = 0; i < PINNERS + MOVERS; i++) {
		must(pthread_join(threads[i].id, NULL));
		uhmm_task_destroy(threads[i].task);
	}
	printf("pins: %llu pages\n", (unsigned long long)pinned);
	fixture_destroy(&f);
}

START_TEST(pinned_pages_are_the_process_s)
{
	struct uhmm_machine_config config = { .nr_cpus = 4,
					      .content = _i ? UHMM_CONTENT_BYTES : UHMM_CONTENT_TAG,
					      .device_pfn_space = _i ? UHMM_DEVICE_PFN_OWN
								     : UHMM_DEVICE_PFN_PHYSICAL };

	seed = test_seed("pins");
	run(config);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pins");
	TCase *tc = tcase_create("pins");

	tcase_set_timeout(tc, 3600);
	tcase_add_loop_test(tc, pinned_pages_are_the_process_s, 0, 2);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
