// SPDX-License-Identifier: LGPL-2.1-or-later
/* Mended faults of the simulated GPU. */
#define _GNU_SOURCE
#include "fixture.h"

#define AT 0x40000000UL

enum { PAGES = 8 };

static struct fixture f;

static void setup(void)
{
	struct uhmm_machine_config config = { .content = UHMM_CONTENT_TAG };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
}

static void teardown(void)
{
	fixture_destroy(&f);
}

static int device_access(uhmm_vaddr_t addr, bool write, uint64_t *word, enum uhmm_strategy s)
{
	return uhmm_mirror_access(f.mirror[0], addr, write, word, s, PAGES * PAGE, NULL);
}

/*
 * A page that a read put where nothing was, was writable in the device's tables, whatever the process
 * might do there.
 */
START_TEST(new_page_in_a_readonly_mapping)
{
	uint64_t word = 7;

	map_fixed(f.mm, AT, PAGES, PROT_READ);
	expect_eq(device_access(AT, false, &word, (enum uhmm_strategy)_i), 0);
	expect_eq(word, 0);
	word = 7;
	expect_eq(device_access(AT + PAGE, true, &word, (enum uhmm_strategy)_i), -EPERM);
	expect_eq(get_word(f.mm, AT + PAGE), 0);
}
END_TEST

/*
 * Pages of the device's own that fork made read-only were copied by a write if an earlier page of the
 * range needed a fault in the strategy at hand, and were left shared if not.
 */
START_TEST(shared_device_pages_and_a_write)
{
	uint64_t buf[PAGES * PAGE / 8], word = 99;
	struct uhmm_mm *child;

	map_fixed(f.mm, AT, PAGES, RW);
	for (unsigned int i = 2; i < PAGES; i++)
		put_word(f.mm, AT + i * PAGE, i);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT + 2 * PAGE, PAGES - 2, buf,
			    NULL),
		  0);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(device_access(AT, true, &word, (enum uhmm_strategy)_i), 0);
	for (unsigned int i = 0; i < PAGES; i++) {
		/* Here all are on the device, the child's alone are in RAM. */
		expect(pagemap_of(f.mm, AT + i * PAGE) & UHMM_PM_SWAP);
		expect(!(pagemap_of(child, AT + i * PAGE) & UHMM_PM_SWAP));
		expect_eq(get_word(child, AT + i * PAGE), i < 2 ? 0 : i);
	}
	expect_eq(get_word(f.mm, AT), 99);
	expect_eq(get_word(f.mm, AT + 5 * PAGE), 5);
	uhmm_mmput(child);
}
END_TEST

/*
 * A page of a file cannot move; what that costs the device depends on whose mappings are removed for
 * the attempt. The walk over them ends as soon as none is left, and comes to a child right after its
 * parent: the first child is the last, and its device keeps its tables.
 */
START_TEST(rmap_order_of_children)
{
	uint64_t buf[2 * PAGE / 8];
	struct uhmm_mirror *mirror;
	struct uhmm_mm *child[2];

	expect_eq(uhmm_mmap(f.mm, AT, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, NULL, 0,
			    NULL),
		  0);
	expect_eq(uhmm_mm_fork(f.mm, &child[0]), 0);
	expect_eq(uhmm_mm_fork(f.mm, &child[1]), 0);
	expect_eq(uhmm_mirror_open(f.dev[0], child[0], &mirror), 0);
	for (unsigned int i = 0; i < 2; i++) {
		put_word(f.mm, AT + i * PAGE, i + 1);
		expect_eq(get_word(child[1], AT + i * PAGE), i + 1);
	}
	expect_eq(mirror_op(mirror, UHMM_MIRROR_READ, AT, 2, buf, NULL), 0);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_DEV, AT, 2, buf, NULL), 0);
	expect_eq(buf[PAGE / 8], 2);
	/* The parent is the first. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 2, buf, NULL), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 2, buf, NULL), -ENOENT);
	uhmm_mirror_close(mirror);
	uhmm_mmput(child[0]);
	uhmm_mmput(child[1]);
}
END_TEST

/* Without a buffer the work was not done, and its own errors did not show. */
START_TEST(no_buffer)
{
	struct uhmm_mirror_cmd cmd;
	uint64_t buf[2 * PAGE / 8];

	map_fixed(f.mm, AT, 2, PROT_READ);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT + PAGE, 2, NULL, NULL), -EFAULT);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 2, NULL, NULL), -EFAULT);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, 2, buf, &cmd), 0);
	expect_eq(cmd.faults, 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_FLAGS, AT, 1, NULL, NULL), 0);
	expect_eq(uhmm_madvise(f.mm, AT, 2 * PAGE, MADV_DONTNEED), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 2, NULL, NULL), -ENOENT);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 2, NULL, NULL), -EFAULT);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_SWAP);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mirror");
	TCase *tc = tcase_create("mended");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, new_page_in_a_readonly_mapping, 0, UHMM_NR_STRATEGIES);
	tcase_add_loop_test(tc, shared_device_pages_and_a_write, 0, UHMM_NR_STRATEGIES);
	tcase_add_test(tc, rmap_order_of_children);
	tcase_add_test(tc, no_buffer);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
