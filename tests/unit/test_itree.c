// SPDX-License-Identifier: LGPL-2.1-or-later
/* Interval tree: fixed cases, and random operations against an array. */
#include "containers.h"
#include "core/itree.h"

#define NODES 400

struct item {
	struct uhmm__itree_node node;
	uint64_t born; /* order among those of equal start */
	int in;
};

/* What must come first: smaller start, then older. */
static int item_before(const struct item *a, const struct item *b)
{
	if (a->node.start != b->node.start)
		return a->node.start < b->node.start;
	return a->born < b->born;
}

/* The next overlap after @prev (NULL: the first) as the array has it. */
static struct item *naive_next(struct item *items, const struct item *prev, uint64_t start,
			       uint64_t last)
{
	struct item *best = NULL;

	for (int i = 0; i < NODES; i++) {
		struct item *it = &items[i];

		if (!it->in || it->node.start > last || it->node.last < start)
			continue;
		if (prev && !item_before(prev, it))
			continue;
		if (!best || item_before(it, best))
			best = it;
	}
	return best;
}

static void check_query(const struct uhmm__itree *tree, struct item *items, uint64_t start,
			uint64_t last)
{
	struct item *want = naive_next(items, NULL, start, last);
	struct uhmm__itree_node *node;

	uhmm__itree_for_each(node, tree, start, last) {
		expect_eq(node, want ? &want->node : NULL);
		want = naive_next(items, want, start, last);
	}
	expect(!want);
}

/* A point of a line that is short, or long, or has its end in it. */
static uint64_t random_point(struct rng *rng, int scale)
{
	switch (scale) {
	case 0:
		return rng_below(rng, 40);
	case 1:
		return rng_below(rng, 100000);
	default:
		return UINT64_MAX - rng_below(rng, 1000) * (UINT64_MAX / 999);
	}
}

static void random_interval(struct rng *rng, int scale, uint64_t *start, uint64_t *last)
{
	const uint64_t a = random_point(rng, scale);
	const uint64_t b = rng_below(rng, 3) ? random_point(rng, scale) : a;

	*start = a < b ? a : b;
	*last = a < b ? b : a;
	/* Mostly short ones, since long ones overlap everything. */
	if (rng_below(rng, 4) && *last - *start > 1000)
		*last = *start + rng_below(rng, 1000);
}

START_TEST(empty)
{
	struct uhmm__itree tree = { 0 };

	uhmm__itree_init(&tree);
	expect(uhmm__itree_empty(&tree));
	expect(!uhmm__itree_iter_first(&tree, 0, UINT64_MAX));
	expect_eq(uhmm__itree_verify(&tree), 0);
}
END_TEST

START_TEST(bounds_are_inclusive)
{
	struct uhmm__itree tree = { 0 };
	struct uhmm__itree_node node = { .start = 10, .last = 20 };

	uhmm__itree_insert(&tree, &node);
	expect(!uhmm__itree_iter_first(&tree, 0, 9));
	expect_eq(uhmm__itree_iter_first(&tree, 0, 10), &node);
	expect_eq(uhmm__itree_iter_first(&tree, 20, 30), &node);
	expect(!uhmm__itree_iter_first(&tree, 21, UINT64_MAX));
	expect(!uhmm__itree_iter_next(&node, 0, UINT64_MAX));
	uhmm__itree_remove(&tree, &node);
	expect(uhmm__itree_empty(&tree));
}
END_TEST

START_TEST(equal_intervals_come_in_order_of_insertion)
{
	struct uhmm__itree tree = { 0 };
	struct uhmm__itree_node node[50];
	struct uhmm__itree_node *found;
	int i;

	for (i = 0; i < 50; i++) {
		node[i] = (struct uhmm__itree_node){ .start = 7, .last = 7 };
		uhmm__itree_insert(&tree, &node[i]);
	}
	i = 0;
	uhmm__itree_for_each(found, &tree, 7, 7)
		expect_eq(found, &node[i++]);
	expect_eq(i, 50);
	expect_eq(uhmm__itree_verify(&tree), 50);
}
END_TEST

/* Each new one behind the first: they come in the opposite order. */
START_TEST(right_behind_another)
{
	struct uhmm__itree tree = { 0 };
	struct uhmm__itree_node node[50];
	struct uhmm__itree_node *found;
	int i = 0;

	node[0] = (struct uhmm__itree_node){ .start = 7, .last = 7 };
	uhmm__itree_insert(&tree, &node[0]);
	for (i = 1; i < 50; i++) {
		node[i] = (struct uhmm__itree_node){ .last = 7 + (uint64_t)i };
		uhmm__itree_insert_after(&tree, &node[i], &node[0]);
		expect_eq(uhmm__itree_verify(&tree), i + 1);
	}
	expect_eq(uhmm__itree_iter_first(&tree, 7, 7), &node[0]);
	for (found = uhmm__itree_iter_next(&node[0], 7, 7); found;
	     found = uhmm__itree_iter_next(found, 7, 7))
		expect_eq(found, &node[--i]);
	expect_eq(i, 1);
}
END_TEST

START_TEST(remove_while_iterating)
{
	struct uhmm__itree tree = { 0 };
	struct uhmm__itree_node node[200], *found, *next;
	int nr = 0;

	for (int i = 0; i < 200; i++) {
		node[i].start = (uint64_t)i * 7 % 200;
		node[i].last = node[i].start + 3;
		uhmm__itree_insert(&tree, &node[i]);
	}
	for (found = uhmm__itree_iter_first(&tree, 50, 99); found; found = next) {
		next = uhmm__itree_iter_next(found, 50, 99);
		uhmm__itree_remove(&tree, found);
		nr++;
	}
	expect_eq(nr, 53);
	expect(!uhmm__itree_iter_first(&tree, 50, 99));
	expect_eq(uhmm__itree_verify(&tree), 200 - 53);
}
END_TEST

/* Ascending and descending insertion, then removal from the middle outwards. */
START_TEST(large_and_sorted)
{
	const int nr = 100000;
	struct uhmm__itree_node *node = calloc(nr, sizeof(*node));
	struct uhmm__itree tree = { 0 };

	expect(node);
	for (int i = 0; i < nr; i++) {
		const int at = _i ? nr - 1 - i : i;

		node[at].start = (uint64_t)at * 10;
		node[at].last = node[at].start + 5;
		uhmm__itree_insert(&tree, &node[at]);
	}
	expect_eq(uhmm__itree_verify(&tree), nr);
	expect_eq(uhmm__itree_iter_first(&tree, 500006, 500010), &node[50001]);
	for (int i = 0; i < nr / 2; i++) {
		uhmm__itree_remove(&tree, &node[nr / 2 + i]);
		if (i % 10000 == 0)
			expect_eq(uhmm__itree_verify(&tree), nr - 2 * i - 1);
		uhmm__itree_remove(&tree, &node[nr / 2 - 1 - i]);
	}
	expect(uhmm__itree_empty(&tree));
	free(node);
}
END_TEST

/* Behind any that is in, now and then; what was behind that is one further. */
static void insert_somewhere(struct uhmm__itree *tree, struct item *items, struct item *it,
			     struct rng *rng, uint64_t *last_born)
{
	struct item *prev = &items[rng_below(rng, NODES)];

	it->in = 1;
	it->born = ++*last_born;
	if (!prev->in || prev == it || rng_below(rng, 3)) {
		uhmm__itree_insert(tree, &it->node);
		return;
	}
	if (it->node.last < prev->node.start)
		it->node.last = prev->node.last;
	uhmm__itree_insert_after(tree, &it->node, &prev->node);
	for (int i = 0; i < NODES; i++)
		items[i].born += items[i].born > prev->born;
	it->born = prev->born + 1;
	++*last_born;
}

START_TEST(random_against_array)
{
	static struct item items[NODES];
	struct rng rng = rng_init("itree random");
	const int scale = _i % 3;
	struct uhmm__itree tree = { 0 };
	uint64_t last_born = 0;
	int64_t nr = 0;

	rng.state += (uint64_t)_i;
	for (int step = 0; step < 6000; step++) {
		/* Grow, shrink, and stay for a while in turns. */
		const int phase = step / 1000 % 3;
		struct item *it = &items[rng_below(&rng, NODES)];
		uint64_t start, last;

		if (!it->in && (phase != 1 || rng_below(&rng, 4) == 0)) {
			random_interval(&rng, scale, &it->node.start, &it->node.last);
			insert_somewhere(&tree, items, it, &rng, &last_born);
			nr++;
		} else if (it->in && (phase != 0 || rng_below(&rng, 4) == 0)) {
			uhmm__itree_remove(&tree, &it->node);
			memset(&it->node, 0xa5, sizeof(it->node));
			it->in = 0;
			nr--;
		}
		expect_eq(uhmm__itree_verify(&tree), nr);
		if (step % 8 == 0) {
			random_interval(&rng, scale, &start, &last);
			check_query(&tree, items, start, last);
		}
	}
	check_query(&tree, items, 0, UINT64_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("itree");
	TCase *tc = tcase_create("itree");

	tcase_add_test(tc, empty);
	tcase_add_test(tc, bounds_are_inclusive);
	tcase_add_test(tc, equal_intervals_come_in_order_of_insertion);
	tcase_add_test(tc, right_behind_another);
	tcase_add_test(tc, remove_while_iterating);
	tcase_add_loop_test(tc, large_and_sorted, 0, 2);
	tcase_add_loop_test(tc, random_against_array, 0, 6);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
