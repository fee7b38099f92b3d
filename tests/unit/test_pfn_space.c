// SPDX-License-Identifier: LGPL-2.1-or-later
/* Device-private pages with numbers of their own: the same number may be a page of RAM, too. */
#define _GNU_SOURCE
#include "unit/device.h"

#define TAG UHMM_PFN_DEVICE_SPACE

static void setup_own(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2,
					      .content = UHMM_CONTENT_TAG,
					      .device_pfn_space = UHMM_DEVICE_PFN_OWN };
	struct uhmm_device_config dev = { .size = sizeof(dev) };

	fixture_create(&f, config);
	for (int i = 0; i < FIXTURE_DEVICES; i++) {
		dev.type = i ? UHMM_MEMORY_DEVICE_COHERENT : UHMM_MEMORY_DEVICE_PRIVATE;
		expect_eq(uhmm_device_create(f.m, &dev, &f.dev[i]), 0);
		expect_eq(uhmm_mirror_open(f.dev[i], f.mm, &f.mirror[i]), 0);
	}
}

/* Enough pages of RAM and of the device that some have equal numbers. */
START_TEST(equal_numbers)
{
	enum { N = 1024 };
	static uhmm_vaddr_t ram_at[2 * N];
	unsigned int equal = 0;

	map_written(AT + N * PAGE, N);
	map_written(AT, N);
	to_device(0, AT, N);
	for (unsigned int i = 0; i < N; i++) {
		uhmm_pfn_t pfn = pfn_at(f.mm, AT + (N + i) * PAGE);

		expect(!(pfn & TAG));
		if (pfn < 2 * N)
			ram_at[pfn] = AT + (N + i) * PAGE;
	}
	for (unsigned int i = 0; i < N; i++) {
		uhmm_pfn_t pfn = pfn_at(f.mm, AT + i * PAGE);

		expect((pfn & TAG) && uhmm_is_device_private_page(f.m, pfn));
		expect(!uhmm_is_device_private_page(f.m, pfn & ~TAG));
		if ((pfn & ~TAG) >= 2 * N || !ram_at[pfn & ~TAG])
			continue;
		equal++;
		expect(pfn_to_frame(f.m, pfn) != pfn_to_frame(f.m, pfn & ~TAG));
		put_word(f.mm, ram_at[pfn & ~TAG], 9999);
	}
	expect(equal > 100);
	fixture_verify(&f);
	for (unsigned int i = 0; i < N; i++)
		expect_eq(dev_read(0, AT + i * PAGE), i + 1);
	for (unsigned int i = 0; i < N; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

/* What tells of the page tells of its space: entries, hmm_pfns, migrate pfns, pagemap. */
START_TEST(tagged_everywhere)
{
	uhmm_pfn_t pfn;

	map_written(AT, 1);
	to_device(0, AT, 1);
	pfn = pfn_at(f.mm, AT);
	expect_eq(frame_pfn(f.m, pfn_to_frame(f.m, pfn)), pfn);
	expect(uhmm_pagemap_owner(f.m, pfn) == f.dev[0]);
	expect(!uhmm_pagemap_owner(f.m, pfn & ~TAG));
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(pfns[0], pfn | V | W);
	expect_eq(uhmm_hmm_pfn_to_pfn(pfns[0]), pfn);
	expect_eq(collected(AT, 1, UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE, f.dev[0]), 1);
	expect_eq(uhmm_migrate_pfn_to_pfn(mpfns[0]), pfn);
	expect_eq((pagemap_of(f.mm, AT) & UHMM_PM_PFN_MASK) >> 5, pfn);
	expect_eq(uhmm_memory_failure(f.m, pfn), -ENXIO);
}
END_TEST

/* Coherent memory is the CPU's as well, so it stays in the physical space. */
START_TEST(coherent_is_physical)
{
	map_written(AT, 2);
	to_device(0, AT, 1);
	to_device(1, AT + PAGE, 1);
	expect(!(pfn_at(f.mm, AT + PAGE) & TAG));
	expect(uhmm_is_device_coherent_page(f.m, pfn_at(f.mm, AT + PAGE)));
	expect(pfn_at(f.mm, AT + PAGE) >= f.m->device_base);
	fixture_verify(&f);
	expect_eq(uhmm_devmem_evict_all(uhmm_device_memory(f.dev[0]), true), 0);
	expect_eq(uhmm_devmem_evict_all(uhmm_device_memory(f.dev[1]), true), 0);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(get_word(f.mm, AT + PAGE), 2);
}
END_TEST

START_TEST(both_spaces_end)
{
	static const struct uhmm_dev_pagemap_ops ops;
	struct uhmm_dev_pagemap *pgmap;
	struct uhmm_machine_config bad = { .size = sizeof(bad),
					   .device_pfn_space = (enum uhmm_device_pfn_space)2 };
	struct uhmm_machine *m;

	expect_eq(uhmm_memremap_pages(f.m, UHMM_MEMORY_DEVICE_PRIVATE, 1, NULL, &ops, NULL, &pgmap),
		  -EINVAL);
	expect_eq(uhmm_machine_create(&bad, &m), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pfn space");
	TCase *tc = tcase_create("own");

	tcase_add_checked_fixture(tc, setup_own, teardown_fixture);
	tcase_add_test(tc, equal_numbers);
	tcase_add_test(tc, tagged_everywhere);
	tcase_add_test(tc, coherent_is_physical);
	tcase_add_test(tc, both_spaces_end);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
