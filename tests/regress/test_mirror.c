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

/* ---- a device that one process has opened twice ---- */

static struct uhmm_mirror *twice[2];

static void access_by(unsigned int who, uint64_t page, bool write, uint64_t *word,
		      enum uhmm_strategy s)
{
	expect_eq(uhmm_mirror_access(twice[who], AT + page * PAGE, write, word, s, 4 * PAGE, NULL),
		  0);
}

static void op_by(unsigned int who, enum uhmm_mirror_op op)
{
	uint64_t buf[PAGES * PAGE / 8];
	int ret = mirror_op(twice[who], op, AT, PAGES, buf, NULL);

	/* What is not on the device and was never faulted is not read back. */
	expect(!ret || ret == -ENOENT);
}

static void step_of_two(struct rng *rng, uint64_t words[PAGES])
{
	/* The first two let pages stay where they are. */
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_READ,
		UHMM_MIRROR_READ_UNLOCKED,
		UHMM_MIRROR_MIGRATE_TO_SYS,
		UHMM_MIRROR_MIGRATE_TO_DEV,
		UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
	};
	unsigned int who = rng_below(rng, 2), s = rng_below(rng, UHMM_NR_STRATEGIES);
	uint64_t page = rng_below(rng, PAGES), read = 0;

	switch (rng_below(rng, 9)) {
	case 0:
		expect_eq(get_word(f.mm, AT + page * PAGE), words[page]);
		break;
	case 1:
		put_word(f.mm, AT + page * PAGE, words[page] = rng_next(rng));
		break;
	case 2:
	case 3:
		words[page] = rng_next(rng);
		access_by(who, page, true, &words[page], (enum uhmm_strategy)s);
		break;
	case 4:
	case 5:
		access_by(who, page, false, &read, (enum uhmm_strategy)s);
		expect_eq(read, words[page]);
		break;
	case 6:
		expect_eq(uhmm_madvise(f.mm, AT + page * PAGE, PAGE, MADV_DONTNEED), 0);
		words[page] = 0;
		break;
	default:
		op_by(who, ops[rng_below(rng, 5)]);
	}
}

/*
 * The device's notifiers ignore its own migrations, and only the mirror that migrated was told: the other
 * one read and wrote a page that was free.
 */
START_TEST(second_mirror_of_a_process)
{
	struct rng rng = { (uint64_t)_i };
	uint64_t words[PAGES] = { 0 };

	map_fixed(f.mm, AT, PAGES, RW);
	twice[0] = f.mirror[0];
	expect_eq(uhmm_mirror_open(f.dev[0], f.mm, &twice[1]), 0);
	for (unsigned int i = 0; i < 400; i++)
		step_of_two(&rng, words);
	uhmm_mirror_close(twice[1]);
	for (uint64_t page = 0; page < PAGES; page++)
		expect_eq(get_word(f.mm, AT + page * PAGE), words[page]);
}
END_TEST

/* The same for huge pages, one way and back. */
START_TEST(second_mirror_and_a_huge_page)
{
	const uhmm_vaddr_t at = 0x40400000UL;
	uint64_t word = 5, *buf = malloc(UHMM_PMD_SIZE);

	twice[0] = f.mirror[0];
	expect_eq(uhmm_mirror_open(f.dev[0], f.mm, &twice[1]), 0);
	map_fixed(f.mm, at, 512, RW);
	expect_eq(uhmm_madvise(f.mm, at, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, at, 4);
	for (unsigned int i = 0; i < 4; i++) {
		/* What one reads where it is now, the other one moves away. */
		unsigned int moves = i / 2;

		expect_eq(mirror_op(twice[!moves], UHMM_MIRROR_READ, at, 512, buf, NULL), 0);
		expect_eq(mirror_op(twice[moves],
				    i % 2 ? UHMM_MIRROR_MIGRATE_TO_SYS : UHMM_MIRROR_MIGRATE_TO_DEV,
				    at, 512, buf, NULL),
			  0);
		word += i;
		expect_eq(uhmm_mirror_access(twice[moves], at + 100 * PAGE, true, &word,
					     UHMM_COMBINED, PAGE, NULL),
			  0);
		expect_eq(uhmm_mirror_access(twice[!moves], at + 100 * PAGE, false, buf,
					     UHMM_COMBINED, PAGE, NULL),
			  0);
		expect_eq(buf[0], word);
	}
	uhmm_mirror_close(twice[1]);
	expect_eq(get_word(f.mm, at), 4);
	free(buf);
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
	tcase_add_loop_test(tc, second_mirror_of_a_process, 0, 20);
	tcase_add_test(tc, second_mirror_and_a_huge_page);
	tcase_add_test(tc, no_buffer);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
