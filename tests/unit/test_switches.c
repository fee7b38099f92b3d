// SPDX-License-Identifier: LGPL-2.1-or-later
/* The alternatives of a machine by name. */
#include "fixture.h"

START_TEST(names_and_values)
{
	struct uhmm_machine_config config = { .size = sizeof(config) };
	unsigned int n = 0;

	for (; uhmm_switch(n); n++) {
		const struct uhmm_switch *s = uhmm_switch(n);

		ck_assert_ptr_nonnull(s->summary);
		/* The first is the default; there are at least two. */
		ck_assert_str_eq(uhmm_switch_get(&config, n), s->values[0]);
		ck_assert_ptr_nonnull(s->values[1]);
		for (unsigned int v = 0; s->values[v]; v++) {
			expect_eq(uhmm_switch_set(&config, s->name, s->values[v]), 0);
			ck_assert_str_eq(uhmm_switch_get(&config, n), s->values[v]);
		}
		expect_eq(uhmm_switch_set(&config, s->name, "nonsense"), -EINVAL);
		expect_eq(uhmm_switch_set(&config, s->name, s->values[0]), 0);
	}
	expect(n >= 5);
	expect_eq(uhmm_switch_set(&config, "nonsense", "none"), -ENOENT);
	ck_assert_ptr_null(uhmm_switch_get(&config, n));
}
END_TEST

/* The order of the names is that of the enums. */
START_TEST(fields)
{
	struct uhmm_machine_config config = { .size = sizeof(config) };

	expect_eq(uhmm_switch_set(&config, "preemption", "full"), 0);
	expect_eq(config.preemption, UHMM_PREEMPT_FULL);
	expect_eq(uhmm_switch_set(&config, "combined-wait", "naive"), 0);
	expect_eq(config.combined_wait, UHMM_COMBINED_NAIVE);
	expect_eq(uhmm_switch_set(&config, "device-pfn-space", "own"), 0);
	expect_eq(config.device_pfn_space, UHMM_DEVICE_PFN_OWN);
	expect_eq(uhmm_switch_set(&config, "device-private-write", "faults"), 0);
	expect_eq(config.device_private_write, UHMM_DEVICE_WRITE_FAULTS);
	expect_eq(uhmm_switch_set(&config, "fault-folio", "looked-up"), 0);
	expect_eq(config.fault_folio, UHMM_FAULT_FOLIO_LOOKED_UP);
	expect_eq(uhmm_switch_set(&config, "large-hole", "each"), 0);
	expect_eq(config.large_hole, UHMM_LARGE_HOLE_EACH);
	expect_eq(uhmm_switch_set(&config, "device-huge-pfn", "from-first"), 0);
	expect_eq(config.device_huge_pfn, UHMM_DEVICE_HUGE_PFN_FROM_FIRST);
	expect_eq(uhmm_switch_set(&config, "huge-device-wait", "entry-wait"), 0);
	expect_eq(config.huge_device_wait, UHMM_HUGE_DEVICE_WAITS);
	expect_eq(uhmm_switch_set(&config, "huge-device-unmap", "clears"), 0);
	expect_eq(config.huge_device_unmap, UHMM_HUGE_DEVICE_UNMAP_CLEARS);
	expect_eq(uhmm_switch_set(&config, "split-lock", "tries"), 0);
	expect_eq(config.split_lock, UHMM_SPLIT_LOCK_TRIES);
	expect_eq(uhmm_switch_set(&config, "split-flush", "before-unlock"), 0);
	expect_eq(config.split_flush, UHMM_SPLIT_FLUSH_BEFORE_UNLOCK);
	expect_eq(uhmm_switch_set(&config, "waiters-bit", "hint"), 0);
	expect_eq(config.waiters_bit, UHMM_WAITERS_HINT);
	expect_eq(uhmm_switch_set(&config, "thp", "always"), 0);
	expect_eq(config.thp, UHMM_THP_ALWAYS);
	expect_eq(uhmm_switch_set(&config, "lock-order", "ignored"), 0);
	expect_eq(config.lock_order, UHMM_LOCK_ORDER_IGNORED);
	expect_eq(uhmm_switch_set(&config, "device-private-wait", "trylock-spin"), 0);
	expect_eq(config.device_private_wait, UHMM_DEVICE_WAIT_TRYLOCK_SPIN);
	expect_eq(uhmm_switch_set(&config, "device-private-wait", "lock-with-ref"), 0);
	expect_eq(config.device_private_wait, UHMM_DEVICE_WAIT_LOCK_WITH_REF);
	expect_eq(uhmm_switch_set(&config, "device-private-wait", "wait-on-migration-flag"), 0);
	expect_eq(config.device_private_wait, UHMM_DEVICE_WAIT_MIGRATION_FLAG);
	expect_eq(uhmm_switch_set(&config, "device-private-wait", "install-migration-entry"), 0);
	expect_eq(config.device_private_wait, UHMM_DEVICE_WAIT_INSTALL_ENTRY);
	expect_eq(uhmm_switch_set(&config, "migration-blocked-by", "pin"), 0);
	expect_eq(config.migration_blocked_by, UHMM_BLOCKED_BY_PIN);
	expect_eq(uhmm_switch_set(&config, "lru-drain", "after-unmap"), 0);
	expect_eq(config.lru_drain, UHMM_LRU_DRAIN_AFTER_UNMAP);
	expect_eq(uhmm_switch_set(&config, "range-fault-resched", "yes"), 0);
	expect_eq(config.range_fault_resched, UHMM_RANGE_FAULT_RESCHED_YES);
	expect_eq(uhmm_switch_set(&config, "swap-device", "disk"), 0);
	expect_eq(config.swap, UHMM_SWAP_DISK);
}
END_TEST

START_TEST(values_out_of_range)
{
	struct uhmm_machine_config config = { .size = sizeof(config) };
	struct uhmm_machine *m;

	config.preemption = (enum uhmm_preemption)3;
	expect_eq(uhmm_machine_create(&config, &m), -EINVAL);
	ck_assert_ptr_null(uhmm_switch_get(&config, 0));
	config.preemption = UHMM_PREEMPT_LAZY;
	expect_eq(uhmm_machine_create(&config, &m), 0);
	uhmm_machine_destroy(m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("switches");
	TCase *tc = tcase_create("switches");

	tcase_add_test(tc, names_and_values);
	tcase_add_test(tc, fields);
	tcase_add_test(tc, values_out_of_range);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
