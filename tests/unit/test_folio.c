/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Large folios: frames together, heads and tails, counts, who maps them. */
#include "mm/pcp.h"
#include "unit/large_folio.h"

static struct uhmm_machine *m;

static void setup(void)
{
	setup_fixture();
	m = f.m;
}

START_TEST(every_order)
{
	struct uhmm__frame *v[FOLIO_MAX_ORDER + 1];
	uint64_t before = uhmm__frames_used(m);

	for (unsigned int order = 0; order <= FOLIO_MAX_ORDER; order++) {
		struct uhmm__frame *folio = uhmm__folio_alloc_order(m, order, true);
		uhmm_pfn_t pfn = frame_pfn(m, folio);

		v[order] = folio;
		expect_eq(folio_order(folio), order);
		expect_eq(folio_nr_pages(folio), 1UL << order);
		expect_eq(pfn & ((1UL << order) - 1), 0);
		for (uint64_t i = 0; i < 1UL << order; i++) {
			expect(page_folio(folio + i) == folio);
			expect_eq(folio_test(folio + i, PG_TAIL), i > 0);
			/* A tail gives no reference. */
			expect_eq(folio_ref_count(folio + i), i ? 0 : 1);
			expect(!i || !folio_try_get(folio + i));
		}
	}
	expect_eq(uhmm__frames_used(m), before + 1023);
	for (unsigned int order = 0; order <= FOLIO_MAX_ORDER; order++)
		folio_put(m, v[order]);
	expect_eq(uhmm__frames_used(m), before);
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

/* Frames that the CPUs keep are no reason to fail. */
START_TEST(frames_of_cpus)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .ram_bytes = 2 * UHMM_PMD_SIZE };
	struct uhmm__frame *folio, *page;

	teardown_fixture();
	fixture_create(&f, config);
	m = f.m;
	page = uhmm__folio_alloc(m, false);
	expect(page);
	expect(!uhmm__folio_alloc_order(m, 9, false));
	folio = uhmm__folio_alloc_order(m, 8, false);
	expect(folio);
	folio_put(m, folio);
	folio_put(m, page);
	folio = uhmm__folio_alloc_order(m, 9, false);
	expect(folio);
	expect(!uhmm__folio_alloc(m, false));
	folio_put(m, folio);
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

enum { BURST = 4096, TWO = 2 };

static uint32_t kept_by(unsigned int cpu)
{
	return ((struct uhmm__pcp *)uhmm__cpu(m, cpu)->frames)->nr;
}

/*
 * CPUs that allocate for long have blocks of their own, and keep no more than they may, whatever they
 * give back.
 */
START_TEST(bursts_of_two_cpus)
{
	struct uhmm_task *task[TWO] = { uhmm__current(), another_task(m) };
	static struct uhmm__frame *folios[TWO][BURST];
	uint64_t before = uhmm__frames_used(m);

	for (unsigned int i = 0; i < BURST * TWO; i++) {
		become(task[i % TWO]);
		folios[i % TWO][i / TWO] = uhmm__folio_alloc(m, false);
		expect(folios[i % TWO][i / TWO]);
	}
	expect_eq(uhmm__frames_used(m), before + BURST * TWO);
	for (unsigned int i = BURST / 4; i < BURST; i++) {
		uhmm_pfn_t block = frame_pfn(m, folios[0][i]) / 512;

		for (unsigned int k = BURST / 4; k < BURST; k += 16)
			expect(frame_pfn(m, folios[1][k]) / 512 != block);
	}
	for (unsigned int i = 0; i < BURST * TWO; i++) {
		become(task[i % TWO]);
		folio_put(m, folios[i % TWO][i / TWO]);
		expect(kept_by(i % TWO) <= PCP_MAX);
	}
	become(task[0]);
	uhmm_task_destroy(task[1]);
	expect_eq(uhmm__frames_used(m), before);
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

/* Of little RAM a CPU does not keep what another needs: 16 MiB are 3584 frames that can be used. */
START_TEST(little_ram)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .ram_bytes = 8 * UHMM_PMD_SIZE };
	static struct uhmm__frame *folios[BURST];
	unsigned int n = 0;

	teardown_fixture();
	fixture_create(&f, config);
	m = f.m;
	while (n < BURST && (folios[n] = uhmm__folio_alloc(m, false)))
		n++;
	expect_eq(n, 3584);
	for (unsigned int i = 0; i < n; i++) {
		folio_put(m, folios[i]);
		expect(kept_by(0) <= 256);
	}
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

enum { BLOCK = 512, RUN = 16, BLOCKS = 2 * RUN + 4 };

static unsigned int block_of(struct uhmm__frame *folio)
{
	return (unsigned int)(frame_pfn(m, folio) / BLOCK);
}

/*
 * A CPU that needs memory never used for long gets 32 MiB of it at a time, which no other touches - unless there
 * is no other left: then nothing is kept from it.
 */
START_TEST(memory_never_used)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .ram_bytes = BLOCKS * UHMM_PMD_SIZE };
	static struct uhmm__frame *folios[BLOCKS * BLOCK];
	struct uhmm__frame *huge;
	struct uhmm_task *task[TWO];
	unsigned int n = 0;

	teardown_fixture();
	fixture_create(&f, config);
	m = f.m;
	task[_i] = uhmm__current();
	task[!_i] = another_task(m);
	become(task[0]);
	do {
		folios[n] = uhmm__folio_alloc(m, false);
		expect(folios[n]);
	} while (block_of(folios[n++]) < RUN);
	expect_eq(block_of(folios[n - 1]), RUN);
	become(task[1]);
	huge = uhmm__folio_alloc_order(m, UHMM_PMD_ORDER, false);
	expect(huge);
	expect_eq(block_of(huge), 2 * RUN);
	folio_put(m, huge);
	folios[n] = uhmm__folio_alloc(m, false);
	expect_eq(block_of(folios[n++]), 2 * RUN);
	become(task[0]);
	/* First what is left of blocks that were begun, of whichever CPU's. */
	do
		folios[n] = uhmm__folio_alloc(m, false);
	while (block_of(folios[n++]) != RUN + 1 && n < 2 * RUN * BLOCK);
	expect_eq(block_of(folios[n - 1]), RUN + 1);
	become(task[1]);
	expect_eq(uhmm__frames_used(m), n);
	while (n)
		folio_put(m, folios[--n]);
	expect_eq(uhmm_machine_verify(m), 0);
	while (n < BLOCKS * BLOCK && (folios[n] = uhmm__folio_alloc(m, false)))
		n++;
	/* All but the first block. */
	expect_eq(n, (BLOCKS - 1) * BLOCK);
	expect_eq(uhmm__frames_used(m), n);
	while (n)
		folio_put(m, folios[--n]);
	become(task[_i]);
	uhmm_task_destroy(task[!_i]);
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

START_TEST(mapped_by_ptes)
{
	unsigned int order = _i;
	uint64_t used = uhmm__frames_used(m);
	struct uhmm__frame *folio = map_large(AT, order);
	unsigned int n = 1U << order;

	expect_eq(folio_mapcount(folio), n);
	expect_eq(folio_entire_mapcount(folio), 0);
	uhmm__lru_add_drain(m);
	expect_eq(folio_ref_count(folio), n);
	expect_eq(uhmm_machine_verify(m), 0);
	for (unsigned int i = 0; i < n; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	expect_eq(uhmm_munmap(f.mm, AT + PAGE, PAGE), 0);
	expect_eq(folio_mapcount(folio), n - 1);
	expect_eq(folio_ref_count(folio), n - 1);
	expect_eq(load_relaxed(&folio[1].mapcount), 0);
	expect_eq(uhmm__deferred_split_count(m), order > 1);
	expect_eq(uhmm_machine_verify(m), 0);
	expect_eq(uhmm_munmap(f.mm, AT, n * PAGE), 0);
	expect_eq(uhmm__deferred_split_count(m), 0);
	expect_eq(uhmm__frames_used(m), used);
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

/* Who maps it decides whether a page may be written in place. */
START_TEST(shared_by_fork)
{
	struct uhmm__frame *folio = map_large(AT, 4);
	struct uhmm_mm *child, *third;

	uhmm__lru_add_drain(m);
	expect(!uhmm__large_mapped_shared(folio));
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(folio_mapcount(folio), 32);
	expect(uhmm__large_mapped_shared(folio));
	expect(!uhmm__large_can_reuse(folio));
	expect_eq(uhmm_mm_fork(f.mm, &third), 0);
	expect_eq(folio_mapcount(folio), 48);
	expect_eq(uhmm_machine_verify(m), 0);
	put_word(child, AT, 100); /* copied */
	expect_eq(folio_mapcount(folio), 47);
	expect_eq(get_word(f.mm, AT), 1);
	uhmm_mmput(third);
	expect(uhmm__large_mapped_shared(folio));
	uhmm_mmput(child);
	expect(!uhmm__large_mapped_shared(folio));
	expect_eq(folio_mapcount(folio), 16);
	put_word(f.mm, AT + 3 * PAGE, 200); /* in place */
	expect(frame_at(f.mm, AT + 3 * PAGE) == folio + 3);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
	expect_eq(uhmm_machine_verify(m), 0);
}
END_TEST

/* The verifier sees what is wrong with heads and tails. */
START_TEST(verifier)
{
	struct uhmm__frame *folio = map_large(AT, 3);

	uhmm__lru_add_drain(m);
	expect_eq(uhmm_machine_verify(m), 0);
	folio_get(folio);
	expect(uhmm_machine_verify(m) > 0);
	folio_put(m, folio);
	atomic_fetch_add(&folio[5].mapcount, 1);
	expect(uhmm_machine_verify(m) > 0);
	atomic_fetch_sub(&folio[5].mapcount, 1);
	folio_set(&folio[2], PG_DIRTY);
	expect(uhmm_machine_verify(m) > 0);
	folio_clear(&folio[2], PG_DIRTY);
	store_relaxed(&folio[4].refcount, 1);
	expect(uhmm_machine_verify(m) > 0);
	store_relaxed(&folio[4].refcount, 0);
	atomic_fetch_add(folio_entire_mapcountp(folio), 1);
	expect(uhmm_machine_verify(m) > 0);
	atomic_fetch_sub(folio_entire_mapcountp(folio), 1);
	expect_eq(uhmm_machine_verify(m), 0);
	fixture_forget_reports(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("folio");
	TCase *tc = tcase_create("large folios");

	tcase_add_checked_fixture(tc, setup, teardown_fixture);
	tcase_add_test(tc, every_order);
	tcase_add_test(tc, frames_of_cpus);
	tcase_add_test(tc, bursts_of_two_cpus);
	tcase_add_test(tc, little_ram);
	tcase_add_loop_test(tc, memory_never_used, 0, 2);
	tcase_add_loop_test(tc, mapped_by_ptes, 1, FOLIO_MAX_ORDER + 1);
	tcase_add_test(tc, shared_by_fork);
	tcase_add_test(tc, verifier);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
