// SPDX-License-Identifier: LGPL-2.1-or-later
/* Radix map: fixed cases, failing allocations, and random operations against an array. */
#include "containers.h"
#include "core/radix.h"

#include <errno.h>

static struct test_allocator memory;
static struct uhmm__radix map;

static void setup(void)
{
	test_allocator_init(&memory);
	uhmm__radix_init(&map, &memory.base);
}

static void teardown(void)
{
	uhmm__radix_destroy(&map);
	expect_eq(memory.live, 0);
	expect_eq(memory.bytes, 0);
}

static void put(uint64_t index, uint64_t value)
{
	expect_eq(uhmm__radix_store(&map, index, value), 0);
}

/* The map is whole, has @nr entries, and accounts for all memory. */
static void check_map(int64_t nr)
{
	expect_eq(uhmm__radix_verify(&map), nr);
	expect_eq(map.nr, nr);
	expect_eq(uhmm__radix_bytes(&map), memory.bytes);
}

START_TEST(empty)
{
	uint64_t found = 1, value = 2;

	expect_eq(uhmm__radix_load(&map, 0), 0);
	expect_eq(uhmm__radix_load(&map, UINT64_MAX), 0);
	expect_eq(uhmm__radix_erase(&map, 5), 0);
	expect_eq(uhmm__radix_erase_range(&map, 0, UINT64_MAX, NULL, NULL), 0);
	expect(!uhmm__radix_next_present(&map, 0, &found, &value));
	expect_eq(found, 1);
	expect_eq(value, 2);
	expect(!uhmm__radix_leaf(&map, 0));
	expect_eq(uhmm__radix_store(&map, 3, 0), 0);
	check_map(0);
	expect_eq(memory.live, 0);
}
END_TEST

START_TEST(height_follows_the_greatest_index)
{
	put(511, 1);
	expect_eq(memory.live, 1);
	expect_eq(memory.bytes, 4096);
	put(512, 2);
	expect_eq(memory.live, 3);
	put((UINT64_C(1) << 36) - 1, 3);
	expect_eq(map.level, 3);
	put(UINT64_MAX, 4);
	expect_eq(map.level, 7);
	check_map(4);
	expect_eq(uhmm__radix_erase(&map, UINT64_MAX), 4);
	expect_eq(map.level, 3);
	expect_eq(uhmm__radix_erase(&map, (UINT64_C(1) << 36) - 1), 3);
	expect_eq(uhmm__radix_erase(&map, 512), 2);
	expect_eq(memory.live, 1);
	check_map(1);
	expect_eq(uhmm__radix_load(&map, 511), 1);
	expect_eq(uhmm__radix_erase(&map, 511), 1);
	expect_eq(memory.live, 0);
}
END_TEST

/* The map remembers where the last change was; the leaf may get a parent, and lose it, since. */
START_TEST(last_leaf_gets_a_parent)
{
	put(1, 1);
	put(2, 2);
	put(600, 3);
	check_map(3);
	put(3, 4);
	check_map(4);
	expect_eq(uhmm__radix_erase(&map, 600), 3);
	check_map(3);
	expect_eq(uhmm__radix_erase_range(&map, 1, 3, NULL, NULL), 3);
	check_map(0);
	put(2, 5);
	check_map(1);
}
END_TEST

START_TEST(overwrite_and_erase_by_zero)
{
	put(1000, 5);
	put(1000, 6);
	check_map(1);
	expect_eq(uhmm__radix_load(&map, 1000), 6);
	put(1000, 0);
	check_map(0);
}
END_TEST

START_TEST(leaf_pointers)
{
	const uint64_t index = 0x7ffff1234, base = index & ~(uint64_t)UHMM__RADIX_MASK;
	uint64_t *values = NULL;

	expect_eq(uhmm__radix_leaf_create(&map, index, &values), 0);
	for (unsigned int i = 0; i < UHMM__RADIX_SLOTS; i += 2)
		values[i] = i + 1;
	uhmm__radix_leaf_commit(&map, index, UHMM__RADIX_SLOTS / 2);
	check_map(UHMM__RADIX_SLOTS / 2);
	expect_eq(uhmm__radix_leaf(&map, base), values);
	expect_eq(uhmm__radix_load(&map, base + 510), 511);
	expect_eq(uhmm__radix_load(&map, base + 511), 0);

	/* Growing the tree does not move leaves. */
	put(UINT64_MAX, 1);
	expect_eq(uhmm__radix_leaf(&map, index), values);
	memset(values, 0, UHMM__RADIX_SLOTS * sizeof(*values));
	uhmm__radix_leaf_commit(&map, index, -(int)UHMM__RADIX_SLOTS / 2);
	expect(!uhmm__radix_leaf(&map, index));
	check_map(1);

	/* A leaf made in vain, as the only one and beside another. */
	expect_eq(uhmm__radix_leaf_create(&map, index, &values), 0);
	uhmm__radix_leaf_commit(&map, index, 0);
	check_map(1);
	uhmm__radix_erase(&map, UINT64_MAX);
	expect_eq(uhmm__radix_leaf_create(&map, index, &values), 0);
	uhmm__radix_leaf_commit(&map, index, 0);
	check_map(0);
}
END_TEST

/* Every allocation of every kind of growth fails once. */
START_TEST(failed_allocations_change_nothing)
{
	static const uint64_t index[] = { 3, 700, 1 << 20, UINT64_C(1) << 35, UINT64_MAX };
	static const unsigned int order[][5] = {
		{ 0, 1, 2, 3, 4 }, { 4, 3, 2, 1, 0 }, { 2, 0, 4, 1, 3 }, { 3, 4, 0, 2, 1 }
	};
	const unsigned int *o = order[_i];

	for (unsigned int done = 0; done < 5; done++) {
		const uint64_t live = memory.live;
		uint64_t nth = 1;
		uint64_t *values = NULL;

		for (;; nth++) {
			memory.until_failure = nth;
			if (!uhmm__radix_store(&map, index[o[done]], done + 1))
				break;
			memory.until_failure = nth;
			expect_eq(uhmm__radix_leaf_create(&map, index[o[done]], &values), -ENOMEM);
			expect(!values);
			expect_eq(memory.live, live);
			check_map(done);
			for (unsigned int i = 0; i < 5; i++)
				expect_eq(uhmm__radix_load(&map, index[o[i]]),
					  i < done ? i + 1 : 0);
		}
		memory.until_failure = 0;
		expect(nth > 1);
		check_map(done + 1);
	}
}
END_TEST

struct seen {
	uint64_t nr, index[64], value[64];
};

static void see(void *ctx, uint64_t index, uint64_t value)
{
	struct seen *seen = ctx;

	expect(seen->nr < 64);
	seen->index[seen->nr] = index;
	seen->value[seen->nr++] = value;
}

/* Whole address space, few entries: time follows the entries. */
START_TEST(sparse_ranges)
{
	struct seen seen = { 0 };
	uint64_t found, value;

	for (uint64_t i = 0; i < 30; i++)
		put((i + 1) << 31, i + 100);
	uhmm__radix_for_each(&map, 0, UINT64_MAX, see, &seen)
		;
	expect_eq(seen.nr, 30);
	for (uint64_t i = 0; i < 30; i++) {
		expect_eq(seen.index[i], (i + 1) << 31);
		expect_eq(seen.value[i], i + 100);
	}
	expect(uhmm__radix_next_present(&map, 1, &found, &value));
	expect_eq(found, UINT64_C(1) << 31);
	expect_eq(value, 100);
	seen.nr = 0;
	expect_eq(uhmm__radix_erase_range(&map, (UINT64_C(2) << 31) + 1, UINT64_C(29) << 31, see,
					  &seen),
		  27);
	expect_eq(seen.nr, 27);
	expect_eq(seen.index[0], UINT64_C(3) << 31);
	check_map(3);
	expect_eq(uhmm__radix_erase_range(&map, 7, 6, NULL, NULL), 0);
	expect_eq(uhmm__radix_erase_range(&map, 0, UINT64_MAX, NULL, NULL), 3);
	check_map(0);
}
END_TEST

/* Indices that the random test uses, ascending, and what it thinks is there. */
#define CELLS 600
static uint64_t cell_index[CELLS];
static uint64_t cell_value[CELLS];

static int compare_u64(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void choose_cells(struct rng *rng)
{
	uint64_t run = 0;

	for (int i = 0; i < CELLS; i++) {
		if (i % 50 == 0) {
			static const int bits[] = { 9, 10, 18, 20, 27, 36, 36, 36, 45, 63, 64 };
			const int width = bits[rng_below(rng, 11)];

			run = rng_next(rng) >> (64 - width);
		}
		cell_index[i] = run + rng_below(rng, 2000) * (rng_below(rng, 2) ? 1 : 300);
		if (i == 0)
			cell_index[i] = UINT64_MAX;
		if (i == 1)
			cell_index[i] = 0;
	}
	qsort(cell_index, CELLS, sizeof(cell_index[0]), compare_u64);
	/* Double ones are moved out of the way; order is kept since it is strict below. */
	for (int i = 1; i < CELLS; i++)
		if (cell_index[i] <= cell_index[i - 1] && cell_index[i - 1] != UINT64_MAX)
			cell_index[i] = cell_index[i - 1] + 1;
}

static int64_t count_cells(void)
{
	int64_t nr = 0;

	for (int i = 0; i < CELLS; i++)
		nr += cell_value[i] != 0;
	return nr;
}

static void check_cell_order(void)
{
	for (int i = 1; i < CELLS; i++)
		expect(cell_index[i - 1] < cell_index[i]);
}

struct follow {
	int cell;
	uint64_t nr;
};

/* The callback's entries are just the cells that are present, in order. */
static void follow_cells(void *ctx, uint64_t index, uint64_t value)
{
	struct follow *f = ctx;

	while (f->cell < CELLS && (cell_index[f->cell] < index || !cell_value[f->cell])) {
		expect(cell_index[f->cell] != index);
		f->cell++;
	}
	expect(f->cell < CELLS);
	expect_eq(index, cell_index[f->cell]);
	expect_eq(value, cell_value[f->cell]);
	f->cell++;
	f->nr++;
}

static void random_range_step(struct rng *rng)
{
	uint64_t a = cell_index[rng_below(rng, CELLS)];
	uint64_t b = cell_index[rng_below(rng, CELLS)];
	struct follow follow = { 0 };
	uint64_t first, last, nr = 0, found;
	int next = 0;

	if (rng_below(rng, 2) && b < UINT64_MAX)
		b = a + rng_below(rng, 1500);
	if (rng_below(rng, 2))
		a &= ~(uint64_t)UHMM__RADIX_MASK;
	if (rng_below(rng, 2))
		b |= UHMM__RADIX_MASK;
	first = a < b ? a : b;
	last = a < b ? b : a;

	while (next < CELLS && (cell_index[next] < first || !cell_value[next]))
		next++;
	expect_eq(uhmm__radix_next_present(&map, first, &found, NULL), next < CELLS);
	if (next < CELLS)
		expect_eq(found, cell_index[next]);

	for (int i = 0; i < CELLS; i++)
		nr += cell_value[i] && cell_index[i] >= first && cell_index[i] <= last;
	follow.cell = next;
	uhmm__radix_for_each(&map, first, last, follow_cells, &follow)
		;
	expect_eq(follow.nr, nr);
	if (rng_below(rng, 4))
		return;

	follow = (struct follow){ .cell = next };
	expect_eq(uhmm__radix_erase_range(&map, first, last,
					  rng_below(rng, 2) ? follow_cells : NULL, &follow),
		  nr);
	expect(!follow.nr || follow.nr == nr);
	for (int i = 0; i < CELLS; i++)
		if (cell_index[i] >= first && cell_index[i] <= last)
			cell_value[i] = 0;
}

START_TEST(random_against_array)
{
	struct rng rng = rng_init("radix random");

	rng.state += (uint64_t)_i;
	choose_cells(&rng);
	check_cell_order();
	for (int step = 0; step < 4000; step++) {
		const unsigned int cell = (unsigned int)rng_below(&rng, CELLS);
		const uint64_t index = cell_index[cell];
		const uint64_t value = rng_below(&rng, 5) ? rng_next(&rng) : 0;

		switch (rng_below(&rng, 16)) {
		case 0:
			expect_eq(uhmm__radix_erase(&map, index), cell_value[cell]);
			cell_value[cell] = 0;
			break;
		case 1:
			random_range_step(&rng);
			break;
		case 2: /* any allocation may fail */
			memory.until_failure = 1 + rng_below(&rng, 5);
			if (!uhmm__radix_store(&map, index, value))
				cell_value[cell] = value;
			memory.until_failure = 0;
			break;
		default:
			put(index, value);
			cell_value[cell] = value;
		}
		expect_eq(uhmm__radix_load(&map, index), cell_value[cell]);
		if (step % 16 == 0) {
			check_map(count_cells());
			for (int i = 0; i < CELLS; i++)
				expect_eq(uhmm__radix_load(&map, cell_index[i]), cell_value[i]);
		}
	}
	for (int i = 0; i < CELLS; i++)
		expect_eq(uhmm__radix_erase(&map, cell_index[i]), cell_value[i]);
	expect_eq(memory.live, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("radix");
	TCase *tc = tcase_create("radix");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, empty);
	tcase_add_test(tc, height_follows_the_greatest_index);
	tcase_add_test(tc, last_leaf_gets_a_parent);
	tcase_add_test(tc, overwrite_and_erase_by_zero);
	tcase_add_test(tc, leaf_pointers);
	tcase_add_loop_test(tc, failed_allocations_change_nothing, 0, 4);
	tcase_add_test(tc, sparse_ranges);
	tcase_add_loop_test(tc, random_against_array, 0, 8);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
