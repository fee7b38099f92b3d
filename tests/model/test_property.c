// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Random operations leave the same state whichever strategy moves the pages, and every byte read is
 * the one that a flat array of pages predicts; the verifier is content after each operation.
 *
 * The lists are the same each time, so that no change is blamed for what it did not do; with
 * UHMM_TEST_SECONDS above the default all are new ones, for as long as that. UHMM_TEST_SEED repeats a run:
 * it is printed with a list that fails, which is shortened.
 */
#include "model/lockstep.h"

enum {
	OPS_A_RUN = 250,
	RUNS = 9,     /* at least; every kind of huge pages and of swap is among as many seeds */
	LITTLE = 1536 /* pages of RAM, of which machines leave 512 out */
};

static void complain(const struct run_config *config, struct op *ops, unsigned int n, uint64_t seed)
{
	char line[256];
	const char *why;

	n = shrink(config, ops, n);
	printf("seed %llu%s, content %s, device memory %llu, swap %llu%s, RAM %llu, pfn space %d, second "
	       "device %s, ",
	       (unsigned long long)seed, config->huge ? ", huge pages" : "",
	       config->content == UHMM_CONTENT_TAG ? "tags" : "bytes",
	       (unsigned long long)config->device_bytes, (unsigned long long)config->swap_bytes,
	       config->swap == UHMM_SWAP_DISK ? " (disk)" : "",
	       (unsigned long long)config->ram_bytes, config->pfn_space,
	       config->coherent ? "coherent" : "private");
	printf("broken pages %d, large folios %d, hints %d, userfaultfd %d, drivers %d\n",
	       config->broken, config->large, config->hints, config->uffd, config->drivers);
	for (unsigned int i = 0; i < n; i++) {
		op_print(&ops[i], line, sizeof(line));
		printf("%4u %s\n", i, line);
	}
	fflush(stdout);
	why = run_apart(config, ops, n);
	ck_abort_msg("UHMM_TEST_SEED=%llu: %s", (unsigned long long)seed,
		     why ? why : "fails only sometimes");
}

/* One list from a seed; what kind of run it is comes from the seed, too. */
static void one_run(uint64_t seed)
{
	static struct op ops[MAX_OPS];
	static const uint64_t limits[] = { 0, 0, 64 * PAGE, 0, 0, 9 * PAGE };
	static const uint64_t huge_limits[] = { 0, 0, 1200 * PAGE, 64 * PAGE };
	struct run_config config = {
		.content = seed & 1 ? UHMM_CONTENT_BYTES : UHMM_CONTENT_TAG,
		.device_bytes = limits[seed / 2 % 6],
		.pfn_space = seed / 3 % 2 ? UHMM_DEVICE_PFN_OWN : UHMM_DEVICE_PFN_PHYSICAL,
		.coherent = seed / 4 % 2,
		/* All are among as many seeds as there are runs, and some have none of these. */
		.broken = seed % 4 == 1 || seed % 4 == 2,
		.large = seed % 4 >= 2,
		.hints = seed % 5 == 3,
		.uffd = seed % 5 < 2,
		.drivers = seed % 7 % 3 == 2,
	};
	struct rng rng = { seed };
	bool little_ram = false;

	/* A part of the runs on a machine that swaps, and of these some have little RAM. */
	if (seed % 3 == 0) {
		config.swap_bytes = 64UL << 20;
		config.swap = seed % 5 & 1 ? UHMM_SWAP_DISK : UHMM_SWAP_RAM_DISK;
		little_ram = seed % 2;
	}
	/* Others, and some of these, with huge pages. */
	config.huge = seed % 3 == 1 || seed % 9 == 0;
	if (config.huge)
		config.device_bytes = huge_limits[seed / 3 % 4];
	/*
	 * Pages of files and the huge zero page cannot be reclaimed; and with less than the window of a
	 * device left it pages out at one end what it has faulted in at the other, for ever.
	 */
	if (little_ram)
		config.ram_bytes = (2 * FLAT_PAGES + (config.huge ? 512 : 0) + LITTLE) * PAGE;

	for (unsigned int i = 0; i < OPS_A_RUN; i++)
		op_random(&rng, &config, &ops[i]);
	/* Something to begin with. */
	ops[0] = (struct op){ .kind = OP_MMAP, .npages = FLAT_HEAP, .prot = RW, .variant = 1 };
	ops[1] = (struct op){
		.kind = OP_MMAP, .page = FLAT_ALL - 4, .npages = 4, .prot = RW, .variant = 3
	};
	ops[2] = (struct op){ .kind = OP_BRK, .off = (FLAT_PAGES - FLAT_HEAP) / 2 };
	if (run_apart(&config, ops, OPS_A_RUN))
		complain(&config, ops, OPS_A_RUN, seed);
}

START_TEST(strategies_agree_with_each_other_and_the_flat_model)
{
	bool is_long = test_is_long();
	uint64_t first = is_long ? test_seed("property") : env_number("UHMM_TEST_SEED", 0), seed;
	double until = now_seconds() + test_seconds();

	for (seed = first; seed < first + RUNS || (is_long && now_seconds() < until); seed++)
		one_run(seed);
	printf("property: %llu runs of %d operations\n", (unsigned long long)(seed - first),
	       OPS_A_RUN);
}
END_TEST

/* Lists that once failed. */
static void must_pass(const struct run_config *config, const struct op *ops, unsigned int n)
{
	const char *why = run_apart(config, ops, n);

	if (why)
		ck_abort_msg("%s", why);
}

/*
 * An access that a userfaultfd's range refuses at its first byte, which is not the first of the page, fills
 * nothing: the page is SIGBUS for the next one, too, as all are read in the end. (UHMM_TEST_SEED=992015595: the
 * flat model took the page for touched.)
 */
START_TEST(a_refused_access_fills_nothing)
{
	const struct run_config config = { .content = UHMM_CONTENT_BYTES, .uffd = true };
	/* The second child is the first process without a handler. */
	enum { CHILD = FLAT_PROCS - 2 };
	struct op ops[] = {
		{ .kind = OP_MMAP, .npages = 4, .prot = RW, .variant = 1 },
		{ .kind = OP_FORK },
		{ .kind = OP_FORK },
		{ .kind = OP_UFFD_MISSING, .proc = CHILD, .page = 1, .npages = 2 },
		{ .kind = _i ? OP_CPU_WRITE : OP_CPU_READ,
		  .proc = CHILD,
		  .page = 1,
		  .off = 8,
		  .len = PAGE },
	};

	must_pass(&config, ops, sizeof(ops) / sizeof(ops[0]));
}
END_TEST

/*
 * Of a large folio a device has one page for its atomics, and another is to read all of it: who collects first
 * splits the folio, by which that page becomes read-only; who faults first takes it back writable.
 * (UHMM_TEST_SEED=332444246: a difference.)
 */
START_TEST(a_split_takes_a_page_back_from_atomics)
{
	const struct run_config config = { .large = !_i, .huge = _i };
	struct op ops[] = {
		{ .kind = OP_MMAP, .npages = FLAT_PAGES, .prot = RW, .variant = 1 },
		{ .kind = _i ? OP_CPU_WRITE : OP_LARGE,
		  .page = FLAT_HUGE + (_i ? 2 : 0),
		  .npages = 16,
		  .len = 8 },
		{ .kind = OP_EXCLUSIVE, .page = FLAT_HUGE + 2, .npages = 1 },
		{ .kind = OP_DEV_ACCESS,
		  .dev = 1,
		  .page = FLAT_HUGE + 1,
		  .npages = 1,
		  .granularity = 16 * PAGE },
	};

	must_pass(&config, ops, sizeof(ops) / sizeof(ops[0]));
}
END_TEST

/*
 * For its atomics a device gets a page that may only be written, and then it reads that, which it may not fault in.
 * (UHMM_TEST_SEED=857684363: the flat model said -EFAULT.)
 */
START_TEST(a_device_reads_what_it_has_for_atomics)
{
	const struct run_config config = { .content = UHMM_CONTENT_TAG };
	struct op ops[] = {
		{ .kind = OP_MMAP, .npages = 2, .prot = PROT_WRITE, .variant = 1 },
		{ .kind = OP_EXCLUSIVE, .npages = 2 },
		{ .kind = _i ? OP_DEV_READ : OP_DEV_ACCESS, .npages = 2, .granularity = PAGE },
		/* Another device has nothing. */
		{ .kind = _i ? OP_DEV_READ : OP_DEV_ACCESS,
		  .dev = 1,
		  .npages = 2,
		  .granularity = PAGE },
	};

	must_pass(&config, ops, sizeof(ops) / sizeof(ops[0]));
}
END_TEST

/*
 * A device with coherent memory takes a hole of 2 MiB by one huge page, which is no hindrance to poison in one of
 * its pages. (UHMM_TEST_SEED=617140806: nor is that it cannot be pinned for long.)
 */
START_TEST(poison_in_a_huge_page_of_coherent_memory)
{
	const struct run_config config = { .coherent = true, .broken = true };
	const struct op ops[] = {
		{ .kind = OP_MMAP, .npages = FLAT_PAGES, .prot = RW, .variant = 1 },
		{ .kind = OP_DEV_ACCESS,
		  .dev = 1,
		  .page = FLAT_HUGE + 200,
		  .npages = 1,
		  .write = true,
		  .granularity = 512 * PAGE },
		{ .kind = OP_POISON, .page = FLAT_HUGE + 300, .npages = 1, .variant = 2 },
		{ .kind = OP_CPU_READ, .page = FLAT_HUGE + 301, .len = 8 },
	};

	must_pass(&config, ops, sizeof(ops) / sizeof(ops[0]));
}
END_TEST

/*
 * A stack grows over pages that were its own before they were unmapped: by the read that finds zeroes there.
 * (UHMM_TEST_SEED=965615204: the flat model had the old bytes.)
 */
START_TEST(a_stack_grows_with_zeroes)
{
	const struct run_config config = { .content = UHMM_CONTENT_TAG };
	const struct op ops[] = {
		{ .kind = OP_MMAP, .page = FLAT_ALL - 2, .npages = 2, .prot = RW, .variant = 3 },
		{ .kind = OP_CPU_WRITE, .page = FLAT_ALL - 6, .npages = 1, .len = 2 * PAGE },
		{ .kind = OP_MUNMAP, .page = FLAT_ALL - 5, .npages = 3 },
		{ .kind = OP_CPU_READ, .page = FLAT_ALL - 5, .npages = 1, .len = 8 },
	};

	must_pass(&config, ops, sizeof(ops) / sizeof(ops[0]));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("property");
	TCase *tc = tcase_create("random operations");

	tcase_set_timeout(tc, 3600);
	tcase_add_loop_test(tc, a_refused_access_fills_nothing, 0, 2);
	tcase_add_loop_test(tc, a_split_takes_a_page_back_from_atomics, 0, 2);
	tcase_add_loop_test(tc, a_device_reads_what_it_has_for_atomics, 0, 2);
	tcase_add_test(tc, a_stack_grows_with_zeroes);
	tcase_add_test(tc, poison_in_a_huge_page_of_coherent_memory);
	tcase_add_test(tc, strategies_agree_with_each_other_and_the_flat_model);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
