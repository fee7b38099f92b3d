// SPDX-License-Identifier: LGPL-2.1-or-later
/* migration_blocked_by: what keeps a device folio where it is. */
#define _GNU_SOURCE
#include "unit/device.h"

static void start(enum uhmm_memory_type type, enum uhmm_migration_blocked_by blocked_by)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .migration_blocked_by = blocked_by };
	struct uhmm_device_config device = { .size = sizeof(device), .type = type };

	fixture_create(&f, config);
	expect_eq(uhmm_device_create(f.m, &device, &f.dev[0]), 0);
	expect_eq(uhmm_mirror_open(f.dev[0], f.mm, &f.mirror[0]), 0);
	map_written(AT, 1);
}

/* References from nowhere: two, since a device folio is granted one at first. */
START_TEST(reference)
{
	uhmm_pfn_t pfn;

	start(UHMM_MEMORY_DEVICE_PRIVATE, (enum uhmm_migration_blocked_by)_i);
	to_device(0, AT, 1);
	pfn = pfn_at(f.mm, AT);
	for (int i = 0; i < 2; i++)
		expect(uhmm_try_get_page(f.m, pfn));
	expect_eq(uhmm_devmem_evict(uhmm_device_memory(f.dev[0]), 1),
		  _i == UHMM_BLOCKED_BY_PIN ? 1 : 0);
	expect_eq(in_ram(f.mm, AT), _i == UHMM_BLOCKED_BY_PIN);
	/* It lives until they are given back, and is free then. */
	for (int i = 0; i < 2; i++) {
		expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 1);
		uhmm_lock_page(f.m, pfn);
		uhmm_unlock_put_page(f.m, pfn);
	}
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 0);
	expect(!uhmm_try_get_page(f.m, pfn));
	expect(!uhmm_try_get_page(f.m, 1UL << 50)); /* no page at all */
	expect(!uhmm_try_get_page(f.m, ~0UL));
	fixture_destroy(&f);
}
END_TEST

/* Memory that can be pinned: then it stays, and without a pin it goes. */
START_TEST(pin)
{
	uhmm_pfn_t pfn;

	start(UHMM_MEMORY_DEVICE_COHERENT, UHMM_BLOCKED_BY_PIN);
	to_device(0, AT, 1);
	expect_eq(uhmm_pin_user_pages(f.mm, AT, 1, 0, &pfn), 1);
	expect_eq(to_sys(0, AT, 1), 0);
	uhmm_unpin_user_pages(f.m, &pfn, 1);
	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, 0, &pfn), 1);
	expect_eq(to_sys(0, AT, 1), 1);
	expect_eq(get_word(f.mm, AT), 1);
	uhmm_put_user_pages(f.m, &pfn, 1);
	fixture_destroy(&f);
}
END_TEST

/* RAM is as ever. */
START_TEST(ram)
{
	uhmm_pfn_t pfn;

	start(UHMM_MEMORY_DEVICE_PRIVATE, UHMM_BLOCKED_BY_PIN);
	expect_eq(uhmm_get_user_pages(f.mm, AT, 1, 0, &pfn), 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, words, NULL), -ENOENT);
	expect(in_ram(f.mm, AT));
	uhmm_put_user_pages(f.m, &pfn, 1);
	to_device(0, AT, 1);
	expect(on_device(f.mm, AT));
	fixture_destroy(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("blocked_by");
	TCase *tc = tcase_create("blocked_by");

	tcase_add_loop_test(tc, reference, UHMM_BLOCKED_BY_REFERENCE, UHMM_BLOCKED_BY_PIN + 1);
	tcase_add_test(tc, pin);
	tcase_add_test(tc, ram);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
