// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Range tree: fixed cases, failing allocations, random operations against a sorted array, and
 * lock-free readers beside a writer.
 */
#include "containers.h"
#include "core/rangetree.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

static struct test_allocator memory;
static struct uhmm__rangetree tree;
static int values[1000]; /* their addresses are values */

static void setup(void)
{
	test_allocator_init(&memory);
	uhmm__rangetree_init(&tree, &memory.base, NULL, NULL);
}

static void teardown(void)
{
	uhmm__rangetree_destroy(&tree);
	expect_eq(uhmm__rangetree_verify(&tree), 0);
	expect_eq(memory.live, 0);
	expect_eq(memory.bytes, 0);
}

static void put(uint64_t start, uint64_t end)
{
	expect_eq(uhmm__rangetree_insert(&tree, start, end, values), 0);
}

/* ---- fixed cases ---- */

START_TEST(empty)
{
	struct uhmm__range r = { 1, 2, NULL };
	uint64_t addr = 3;

	expect_eq(uhmm__rangetree_lookup(&tree, 0, &r), UHMM__RANGE_NONE);
	expect(!uhmm__rangetree_find(&tree, 0, &r));
	expect(!uhmm__rangetree_find_first(&tree, 0, &r));
	expect(!uhmm__rangetree_find_in(&tree, 0, UINT64_MAX, &r));
	expect(!uhmm__rangetree_next(&tree, 0, &r));
	expect(!uhmm__rangetree_prev(&tree, UINT64_MAX, &r));
	expect_eq(r.start, 1);
	expect_eq(uhmm__rangetree_erase(&tree, 0, NULL), -ENOENT);
	expect_eq(uhmm__rangetree_resize(&tree, 0, 1, 2), -ENOENT);
	expect_eq(uhmm__rangetree_replace(&tree, 0, values), -ENOENT);
	expect(!uhmm__rangetree_gap(&tree, 0, 10, 11, true, &addr));
	expect(!uhmm__rangetree_gap(&tree, 0, 10, 0, true, &addr));
	expect_eq(addr, 3);
	expect(uhmm__rangetree_gap(&tree, 2, 10, 4, true, &addr));
	expect_eq(addr, 6);
	expect(uhmm__rangetree_gap(&tree, 2, 10, 4, false, &addr));
	expect_eq(addr, 2);
}
END_TEST

START_TEST(bad_arguments)
{
	put(10, 20);
	expect_eq(uhmm__rangetree_insert(&tree, 5, 5, values), -EINVAL);
	expect_eq(uhmm__rangetree_insert(&tree, 6, 5, values), -EINVAL);
	expect_eq(uhmm__rangetree_insert(&tree, 5, 6, NULL), -EINVAL);
	expect_eq(uhmm__rangetree_resize(&tree, 10, 20, 20), -EINVAL);
	expect_eq(uhmm__rangetree_replace(&tree, 10, NULL), -EINVAL);
	expect_eq(uhmm__rangetree_insert(&tree, 19, 30, values), -EEXIST);
	expect_eq(uhmm__rangetree_insert(&tree, 0, 11, values), -EEXIST);
	expect_eq(uhmm__rangetree_insert(&tree, 12, 13, values), -EEXIST);
	expect_eq(uhmm__rangetree_insert(&tree, 0, 30, values), -EEXIST);
	expect_eq(uhmm__rangetree_erase(&tree, 11, NULL), -ENOENT);
	expect_eq(uhmm__rangetree_verify(&tree), 1);
}
END_TEST

START_TEST(ends_of_the_address_space)
{
	struct uhmm__range r;
	uint64_t addr;

	put(0, 1);
	put(UINT64_MAX - 1, UINT64_MAX);
	expect(uhmm__rangetree_find(&tree, 0, NULL));
	expect(uhmm__rangetree_find(&tree, UINT64_MAX - 1, &r));
	expect_eq(r.end, UINT64_MAX);
	expect(!uhmm__rangetree_find(&tree, UINT64_MAX, NULL));
	expect(!uhmm__rangetree_find_first(&tree, UINT64_MAX, NULL));
	expect_eq(uhmm__rangetree_lookup(&tree, UINT64_MAX, &r), UHMM__RANGE_NONE);
	expect_eq(uhmm__rangetree_lookup(&tree, UINT64_MAX - 1, &r), UHMM__RANGE_FOUND);
	expect(uhmm__rangetree_prev(&tree, UINT64_MAX, &r));
	expect_eq(r.start, UINT64_MAX - 1);
	expect(uhmm__rangetree_gap(&tree, 0, UINT64_MAX, UINT64_MAX - 2, true, &addr));
	expect_eq(addr, 1);
	expect(!uhmm__rangetree_gap(&tree, 0, UINT64_MAX, UINT64_MAX - 1, true, &addr));
}
END_TEST

START_TEST(resize_stays_between_neighbours)
{
	struct uhmm__range r;

	put(10, 20);
	put(20, 30);
	put(40, 50);
	expect_eq(uhmm__rangetree_resize(&tree, 20, 19, 30), -EEXIST);
	expect_eq(uhmm__rangetree_resize(&tree, 20, 20, 41), -EEXIST);
	expect_eq(uhmm__rangetree_resize(&tree, 20, 50, 60), -EEXIST);
	expect_eq(uhmm__rangetree_resize(&tree, 20, 0, 5), -EEXIST);
	expect_eq(uhmm__rangetree_resize(&tree, 20, 35, 40), 0);
	expect(!uhmm__rangetree_find(&tree, 20, NULL));
	expect(uhmm__rangetree_find(&tree, 39, &r));
	expect_eq(r.start, 35);
	expect_eq(uhmm__rangetree_resize(&tree, 10, 0, 35), 0);
	expect_eq(uhmm__rangetree_resize(&tree, 40, 40, UINT64_MAX), 0);
	expect_eq(uhmm__rangetree_verify(&tree), 3);
}
END_TEST

START_TEST(write_sections_hide_what_is_between)
{
	struct uhmm__range r;

	put(10, 20);
	uhmm__rangetree_write_begin(&tree);
	expect_eq(uhmm__rangetree_resize(&tree, 10, 10, 15), 0);
	expect_eq(uhmm__rangetree_lookup(&tree, 12, &r), UHMM__RANGE_RETRY);
	expect(uhmm__rangetree_find(&tree, 12, &r));
	put(15, 20);
	expect_eq(uhmm__rangetree_lookup(&tree, 12, &r), UHMM__RANGE_RETRY);
	uhmm__rangetree_write_end(&tree);
	expect_eq(uhmm__rangetree_lookup(&tree, 17, &r), UHMM__RANGE_FOUND);
	expect_eq(r.start, 15);
	expect_eq(r.value, values);
}
END_TEST

/* munmap's way: the body of the loop removes, and cuts, what it visits. */
START_TEST(change_while_iterating)
{
	struct uhmm__range r;
	int nr = 0;

	for (uint64_t i = 0; i < 300; i++)
		put(i * 10, i * 10 + 10);
	uhmm__rangetree_for_each(&tree, &r, 55, 1005)
	{
		nr++;
		if (r.start < 55)
			expect_eq(uhmm__rangetree_resize(&tree, r.start, r.start, 55), 0);
		else if (r.end > 1005)
			expect_eq(uhmm__rangetree_resize(&tree, r.start, 1005, r.end), 0);
		else
			expect_eq(uhmm__rangetree_erase(&tree, r.start, NULL), 0);
	}
	expect_eq(nr, 96);
	expect(!uhmm__rangetree_find_in(&tree, 55, 1005, NULL));
	expect(uhmm__rangetree_find_in(&tree, 54, 55, NULL));
	expect_eq(uhmm__rangetree_verify(&tree), 300 - 94);
}
END_TEST

static void check_large(uint64_t nr)
{
	struct uhmm__range r;

	expect_eq(uhmm__rangetree_verify(&tree), nr);
	for (uint64_t i = 0; i < nr; i++) {
		expect_eq(uhmm__rangetree_lookup(&tree, i * 16 + 7, &r), UHMM__RANGE_FOUND);
		expect_eq(r.start, i * 16);
		expect_eq(r.value, &values[i % 1000]);
		expect_eq(uhmm__rangetree_lookup(&tree, i * 16 + 8, &r), UHMM__RANGE_NONE);
	}
}

/* 1e5 ranges, inserted upwards, downwards and mixed; erased in another order. */
START_TEST(large)
{
	const uint64_t nr = 100000;

	for (uint64_t i = 0; i < nr; i++) {
		const uint64_t at = _i == 0 ? i : _i == 1 ? nr - 1 - i : i * 7919 % nr;

		expect_eq(uhmm__rangetree_insert(&tree, at * 16, at * 16 + 8, &values[at % 1000]),
			  0);
	}
	check_large(nr);
	printf("rangetree: %.1f bytes a range in order %d\n", (double)memory.bytes / (double)nr,
	       _i);
	for (uint64_t i = 0; i < nr; i++) {
		struct uhmm__range old;
		const uint64_t at = i * 3 % nr; /* 3 does not divide 1e5 */

		expect_eq(uhmm__rangetree_erase(&tree, at * 16, &old), 0);
		expect_eq(old.value, &values[at % 1000]);
		if (i % 20000 == 0)
			expect_eq(uhmm__rangetree_verify(&tree), nr - i - 1);
	}
	expect_eq(uhmm__rangetree_verify(&tree), 0);
	uhmm__rangetree_unreserve(&tree);
	expect_eq(memory.live, 0);
}
END_TEST

/* ---- the model: a sorted array ---- */

#define UNITS 1500 /* addresses of the model; unit UNITS is the end */
#define MODEL_MAX 400

static struct uhmm__range model[MODEL_MAX];
static unsigned int model_nr;
static uint64_t model_unit; /* bytes */

static uint64_t to_addr(uint64_t units)
{
	/* The end of the last unit is the end of everything in the coarse scale. */
	return units >= UNITS && model_unit > 1 ? UINT64_MAX : units * model_unit;
}

static void model_setup(struct rng *rng)
{
	model_nr = 0;
	model_unit = rng_below(rng, 2) ? UINT64_MAX / UNITS : 1;
}

/* The first entry with end > addr. */
static unsigned int model_find_first(uint64_t addr)
{
	unsigned int i = 0;

	while (i < model_nr && model[i].end <= addr)
		i++;
	return i;
}

static bool model_overlaps(uint64_t start, uint64_t end, unsigned int except)
{
	for (unsigned int i = 0; i < model_nr; i++)
		if (i != except && model[i].start < end && model[i].end > start)
			return true;
	return false;
}

static void model_insert(uint64_t start, uint64_t end, void *value)
{
	const unsigned int i = model_find_first(start);

	memmove(&model[i + 1], &model[i], (model_nr++ - i) * sizeof(model[0]));
	model[i] = (struct uhmm__range){ start, end, value };
}

static void model_erase(unsigned int i)
{
	memmove(&model[i], &model[i + 1], (--model_nr - i) * sizeof(model[0]));
}

static bool model_gap(uint64_t from, uint64_t to, uint64_t len, bool top_down, uint64_t *addr)
{
	bool any = false;

	for (unsigned int i = 0; i <= model_nr; i++) {
		uint64_t a = i ? model[i - 1].end : 0;
		uint64_t b = i < model_nr ? model[i].start : UINT64_MAX;

		a = a < from ? from : a;
		b = b > to ? to : b;
		if (!len || a >= b || b - a < len || (any && !top_down))
			continue;
		*addr = top_down ? b - len : a;
		any = true;
	}
	return any;
}

static void check_same(bool found, const struct uhmm__range *r, unsigned int i)
{
	expect_eq(found, i < model_nr);
	if (!found)
		return;
	expect_eq(r->start, model[i].start);
	expect_eq(r->end, model[i].end);
	expect_eq(r->value, model[i].value);
}

/* The tree has the model's contents, by each kind of question. */
static void check_contents(void)
{
	struct uhmm__range r;
	unsigned int i = 0;

	expect_eq(uhmm__rangetree_verify(&tree), model_nr);
	uhmm__rangetree_for_each(&tree, &r, 0, UINT64_MAX) check_same(true, &r, i++);
	expect_eq(i, model_nr);
}

static void check_point(uint64_t addr)
{
	const unsigned int at = model_find_first(addr);
	const bool inside = at < model_nr && model[at].start <= addr;
	unsigned int next = 0, prev;
	struct uhmm__range r;

	check_same(uhmm__rangetree_find_first(&tree, addr, &r), &r, at);
	check_same(uhmm__rangetree_find(&tree, addr, &r), &r, inside ? at : model_nr);
	check_same(uhmm__rangetree_lookup(&tree, addr, &r) == UHMM__RANGE_FOUND, &r,
		   inside ? at : model_nr);
	while (next < model_nr && model[next].start <= addr)
		next++;
	check_same(uhmm__rangetree_next(&tree, addr, &r), &r, next);
	for (prev = model_nr; prev && model[prev - 1].start >= addr; prev--)
		;
	check_same(uhmm__rangetree_prev(&tree, addr, &r), &r, prev ? prev - 1 : model_nr);
}

static void check_interval(uint64_t from, uint64_t to, uint64_t len)
{
	unsigned int i = model_find_first(from);
	uint64_t got, want = 0;
	struct uhmm__range r;

	uhmm__rangetree_for_each(&tree, &r, from, to) check_same(true, &r, i++);
	expect(i == model_nr || model[i].start >= to);

	for (int top_down = 0; top_down < 2; top_down++) {
		const bool found = uhmm__rangetree_gap(&tree, from, to, len, top_down, &got);

		expect_eq(found, model_gap(from, to, len, top_down, &want));
		if (found)
			expect_eq(got, want);
	}
}

static void random_bounds(struct rng *rng, uint64_t longest, uint64_t *start, uint64_t *end)
{
	const uint64_t at = rng_below(rng, UNITS);
	const uint64_t to = at + 1 + rng_below(rng, longest);

	*start = to_addr(at);
	*end = to_addr(to < UNITS ? to : UNITS);
}

/* An allocation may fail in the middle: then nothing has changed. */
static void step_insert(struct rng *rng)
{
	void *value = &values[rng_below(rng, 1000)];
	uint64_t start, end;
	int err, nth;

	if (model_nr == MODEL_MAX)
		return;
	random_bounds(rng, 8, &start, &end);
	if (model_overlaps(start, end, MODEL_MAX)) {
		expect_eq(uhmm__rangetree_insert(&tree, start, end, value), -EEXIST);
		return;
	}
	if (rng_below(rng, 2))
		uhmm__rangetree_unreserve(&tree);
	for (nth = 1;; nth++) {
		memory.until_failure = (uint64_t)nth;
		err = uhmm__rangetree_insert(&tree, start, end, value);
		memory.until_failure = 0;
		if (!err)
			break;
		expect_eq(err, -ENOMEM);
		check_contents();
		/* What came before the failure stays, else this would go on. */
		expect(nth < 40);
	}
	model_insert(start, end, value);
}

static void step_resize(struct rng *rng)
{
	const unsigned int i = (unsigned int)rng_below(rng, model_nr);
	const uint64_t old = model[i].start;
	uint64_t start, end;
	int want;

	random_bounds(rng, 20, &start, &end);
	if (rng_below(rng, 2))
		start = old;
	else if (rng_below(rng, 2))
		end = model[i].end;
	if (start >= end)
		want = -EINVAL;
	else if (model_overlaps(start, end, i) || (i && model[i - 1].start >= start) ||
		 (i + 1 < model_nr && model[i + 1].start < start))
		want = -EEXIST;
	else
		want = 0;
	expect_eq(uhmm__rangetree_resize(&tree, old, start, end), want);
	if (want)
		return;
	model[i].start = start;
	model[i].end = end;
}

static void step_erase(struct rng *rng)
{
	const unsigned int i = (unsigned int)rng_below(rng, model_nr);
	struct uhmm__range old;

	expect_eq(uhmm__rangetree_erase(&tree, model[i].start, &old), 0);
	check_same(true, &old, i);
	model_erase(i);
}

static void step_replace(struct rng *rng)
{
	const unsigned int i = (unsigned int)rng_below(rng, model_nr);

	model[i].value = &values[rng_below(rng, 1000)];
	expect_eq(uhmm__rangetree_replace(&tree, model[i].start, model[i].value), 0);
}

START_TEST(random_against_array)
{
	struct rng rng = rng_init("rangetree random");

	rng.state += (uint64_t)_i;
	model_setup(&rng);
	for (int step = 0; step < 8000; step++) {
		/* Grow, shrink, and stay for a while in turns. */
		const unsigned int phase = step / 1000 % 3;
		const uint64_t choice = rng_below(&rng, 10);
		uint64_t from, to;

		if (choice < (phase == 0 ? 7 : phase == 1 ? 1 : 4) || !model_nr)
			step_insert(&rng);
		else if (choice < 8)
			step_erase(&rng);
		else if (choice == 8)
			step_resize(&rng);
		else
			step_replace(&rng);

		check_contents();
		check_point(to_addr(rng_below(&rng, UNITS + 1)));
		check_point(to_addr(rng_below(&rng, UNITS)) + rng_below(&rng, 3) - 1);
		random_bounds(&rng, UNITS, &from, &to);
		check_interval(from, to, to_addr(1 + rng_below(&rng, 30)) - rng_below(&rng, 2));
	}
}
END_TEST

/* After reserve(k), k inserts anywhere succeed without memory, whatever else is done between. */
START_TEST(reserve)
{
	struct rng rng = rng_init("rangetree reserve");

	rng.state += (uint64_t)_i;
	model_setup(&rng);
	for (int round = 0; round < 1500; round++) {
		const unsigned int k =
			1 + (unsigned int)rng_below(&rng, rng_below(&rng, 8) ? 4 : 60);
		unsigned int left = k;
		uint64_t start, end;

		if (model_nr + k > MODEL_MAX)
			while (model_nr > MODEL_MAX / 2)
				step_erase(&rng);
		if (rng_below(&rng, 2))
			uhmm__rangetree_unreserve(&tree);
		if (rng_below(&rng, 4) == 0) {
			memory.until_failure = 1;
			if (uhmm__rangetree_reserve(&tree, k))
				check_contents();
			memory.until_failure = 0;
		}
		expect_eq(uhmm__rangetree_reserve(&tree, k), 0);
		memory.always_fail = 1;
		for (int tries = 0; left && tries < 1000; tries++) {
			/* Around one place, so that the same nodes split and merge. */
			start = to_addr((round * 37 + rng_below(&rng, 60)) % UNITS);
			end = start + model_unit;
			if (model_nr && rng_below(&rng, 3) == 0) {
				step_erase(&rng);
			} else if (!model_overlaps(start, end, MODEL_MAX)) {
				expect_eq(uhmm__rangetree_insert(&tree, start, end, values), 0);
				model_insert(start, end, values);
				left--;
			}
		}
		memory.always_fail = 0;
		check_contents();
	}
}
END_TEST

/* ---- lock-free readers beside a writer ---- */

/*
 * The address space is cut into slots, by slot number modulo 4:
 *   0  has a range that never changes
 *   1  never has one
 *   2  has one that comes, goes, moves and changes size, always inside its slot
 *   3  is covered by one range or by two, split and joined in a write section
 */
#define SLOTS 1024
#define SLOT_BYTES 0x1000
#define READERS 2
#define ENOUGH 30000

static char slot_value[SLOTS];

/* Counts a reader's lookups. The writer reads it by a read-modify-write, see retire(). */
static struct {
	_Alignas(64) _Atomic uint64_t passes;
	uint64_t definite, retries;
} readers[READERS];
static _Atomic int stop_readers;
static _Atomic int readers_done;

/* A dead node, in the bytes that the tree leaves to us. */
struct retired {
	struct retired *next;
	uint64_t size;
	uint64_t passes[READERS];
};
_Static_assert(sizeof(struct retired) <= UHMM__RANGETREE_DEFER_SIZE, "fits");

static struct {
	struct retired *first, **last;
	uint64_t nr;
} grave = { .last = &grave.first };

/*
 * A grace period in small. The node is unlinked. The exchange with a reader's counter orders that
 * before whatever the reader does after it next increments the counter; so once it has done so,
 * it cannot see the node any more.
 */
static void retire(void *ctx, void *node, size_t size)
{
	struct retired *r = uhmm__rangetree_defer_area(node, size);

	expect_eq(ctx, &grave);
	for (int i = 0; i < READERS; i++)
		r->passes[i] = atomic_fetch_add(&readers[i].passes, 0);
	r->size = size;
	r->next = NULL;
	*grave.last = r;
	grave.last = &r->next;
	grave.nr++;
}

static void free_retired(bool all)
{
	while (grave.first) {
		struct retired *r = grave.first;
		const uint64_t size = r->size;

		for (int i = 0; i < READERS && !all; i++)
			if (atomic_load(&readers[i].passes) == r->passes[i])
				return;
		grave.first = r->next;
		if (!grave.first)
			grave.last = &grave.first;
		memory.base.free(memory.base.ctx, (char *)r + UHMM__RANGETREE_DEFER_SIZE - size,
				 size);
	}
}

/* Not libcheck's assertions, which are not made for other threads. */
static void must(bool good, const char *what, uint64_t addr)
{
	if (good)
		return;
	fprintf(stderr, "reader: %s at %#llx\n", what, (unsigned long long)addr);
	abort();
}

static void read_one(struct rng *rng, unsigned int me)
{
	const uint64_t slot = rng_below(rng, SLOTS);
	const uint64_t base = slot * SLOT_BYTES;
	const uint64_t addr = base + SLOT_BYTES / 4 + rng_below(rng, SLOT_BYTES / 2);
	struct uhmm__range r = { 0 };
	const enum uhmm__range_result result = uhmm__rangetree_lookup(&tree, addr, &r);

	atomic_fetch_add(&readers[me].passes, 1);
	if (result == UHMM__RANGE_RETRY) {
		readers[me].retries++;
		return;
	}
	readers[me].definite++;
	if (result == UHMM__RANGE_NONE) {
		must(slot % 4 == 1 || slot % 4 == 2, "nothing", addr);
		return;
	}
	must(slot % 4 != 1, "something", addr);
	must(r.value == &slot_value[slot], "a wrong value", addr);
	must(r.start <= addr && addr < r.end, "a wrong range", addr);
	must(r.start >= base && r.end <= base + SLOT_BYTES, "a range too long", addr);
}

static void *reader(void *arg)
{
	const unsigned int me = (unsigned int)(uintptr_t)arg;
	struct rng rng = { me };
	bool done = false;

	while (!atomic_load(&stop_readers)) {
		read_one(&rng, me);
		if (!done && readers[me].definite >= ENOUGH) {
			done = true;
			atomic_fetch_add(&readers_done, 1);
		}
	}
	return NULL;
}

static void write_transient(struct rng *rng, uint64_t slot)
{
	const uint64_t base = slot * SLOT_BYTES;
	const uint64_t start = base + rng_below(rng, SLOT_BYTES / 2);
	const uint64_t end = base + SLOT_BYTES / 2 + 1 + rng_below(rng, SLOT_BYTES / 2);
	struct uhmm__range r;

	if (!uhmm__rangetree_find_in(&tree, base, base + SLOT_BYTES, &r))
		expect_eq(uhmm__rangetree_insert(&tree, start, end, &slot_value[slot]), 0);
	else if (rng_below(rng, 3) == 0)
		expect_eq(uhmm__rangetree_resize(&tree, r.start, start, end), 0);
	else
		expect_eq(uhmm__rangetree_erase(&tree, r.start, NULL), 0);
}

static void write_split_or_join(struct rng *rng, uint64_t slot)
{
	const uint64_t base = slot * SLOT_BYTES;
	const uint64_t mid = base + 1 + rng_below(rng, SLOT_BYTES - 1);
	struct uhmm__range r;

	expect(uhmm__rangetree_find(&tree, base, &r));
	uhmm__rangetree_write_begin(&tree);
	if (r.end == base + SLOT_BYTES) {
		expect_eq(uhmm__rangetree_resize(&tree, base, base, mid), 0);
		expect_eq(uhmm__rangetree_insert(&tree, mid, base + SLOT_BYTES, &slot_value[slot]),
			  0);
	} else {
		expect_eq(uhmm__rangetree_erase(&tree, r.end, NULL), 0);
		expect_eq(uhmm__rangetree_resize(&tree, base, base, base + SLOT_BYTES), 0);
	}
	uhmm__rangetree_write_end(&tree);
}

START_TEST(readers_beside_a_writer)
{
	struct rng rng = rng_init("rangetree threads");
	pthread_t thread[READERS];
	uint64_t writes = 0;

	uhmm__rangetree_init(&tree, &memory.base, retire, &grave);
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		if (slot % 4 == 0 || slot % 4 == 3)
			expect_eq(uhmm__rangetree_insert(&tree, slot * SLOT_BYTES,
							 (slot + 1) * SLOT_BYTES,
							 &slot_value[slot]),
				  0);
	for (uintptr_t i = 0; i < READERS; i++)
		expect_eq(pthread_create(&thread[i], NULL, reader, (void *)i), 0);

	for (; writes < ENOUGH || atomic_load(&readers_done) < READERS; writes++) {
		/* In turns all over the place and in one place, where nodes come and go. */
		const uint64_t span = writes / 1000 % 2 ? SLOTS / 4 : 16;
		const uint64_t slot = rng_below(&rng, span) * 4 + 2;

		if (rng_below(&rng, 2))
			write_transient(&rng, slot);
		else
			write_split_or_join(&rng, slot + 1);
		if (writes % 64 == 0) {
			free_retired(false);
			sched_yield();
		}
	}
	atomic_store(&stop_readers, 1);
	for (int i = 0; i < READERS; i++) {
		expect_eq(pthread_join(thread[i], NULL), 0);
		printf("rangetree: reader %d: %llu definite, %llu retries\n", i,
		       (unsigned long long)readers[i].definite,
		       (unsigned long long)readers[i].retries);
	}
	printf("rangetree: %llu writes, %llu nodes retired\n", (unsigned long long)writes,
	       (unsigned long long)grave.nr);
	expect(grave.nr > 0);
	expect(uhmm__rangetree_verify(&tree) >= SLOTS / 2);
	free_retired(true);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rangetree");
	TCase *tc = tcase_create("rangetree");

	tcase_set_timeout(tc, 120); /* ThreadSanitizer is slow */
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, empty);
	tcase_add_test(tc, bad_arguments);
	tcase_add_test(tc, ends_of_the_address_space);
	tcase_add_test(tc, resize_stays_between_neighbours);
	tcase_add_test(tc, write_sections_hide_what_is_between);
	tcase_add_test(tc, change_while_iterating);
	tcase_add_loop_test(tc, large, 0, 3);
	tcase_add_loop_test(tc, random_against_array, 0, 6);
	tcase_add_loop_test(tc, reserve, 0, 4);
	tcase_add_test(tc, readers_beside_a_writer);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
