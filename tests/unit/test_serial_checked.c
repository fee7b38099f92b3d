// SPDX-License-Identifier: LGPL-2.1-or-later
/* Sequence numbers in hashes: what makes a difference, and what does not. */
#include "unit/region_world.h"

static uint64_t *a;

static void setup(void)
{
	region_start();
	uhmm__region_here = r;
	a = uhmm__region_alloc(r, 8, 4 * sizeof(*a));
	a[0] = UHMM__SERIAL + 2;
	a[1] = UHMM__SERIAL + 1;
	ck_assert_int_eq(uhmm__region_save(r), 0);
}

static void teardown(void)
{
	uhmm__region_here = NULL;
	uhmm__region_destroy(r);
}

/* Of a state with these numbers, and one of them on a stack. */
static struct uhmm__hash state(uint64_t x, uint64_t y, uint64_t on_stack)
{
	struct uhmm__serials serials;
	struct uhmm__hash h;

	a[0] = UHMM__SERIAL + x;
	a[1] = UHMM__SERIAL + y;
	h = uhmm__region_hash(r);
	uhmm__serials_init(&serials);
	uhmm__region_serials(r, &serials);
	if (on_stack)
		uhmm__serials_add(&serials, 4096, UHMM__SERIAL + on_stack);
	return uhmm__serials_hash(&serials, h);
}

START_TEST(saved_state_has_none)
{
	ck_assert(uhmm__same_hash(state(2, 1, 0), (struct uhmm__hash){ 0, 0 }));
	ck_assert(!uhmm__same_hash(state(4, 3, 0), (struct uhmm__hash){ 0, 0 }));
}
END_TEST

/* Further on alike. */
START_TEST(alike)
{
	struct uhmm__hash h = state(20, 19, 19);

	for (uint64_t n = 22; n < 100; n += 2)
		ck_assert(uhmm__same_hash(state(n, n - 1, n - 1), h));
	/* However far behind, it is behind. */
	h = state(20, 19, 11);
	ck_assert(uhmm__same_hash(state(30, 29, 11), h));
	ck_assert(uhmm__same_hash(state(30, 29, 17), h));
}
END_TEST

START_TEST(different)
{
	static const uint64_t v[][3] = {
		{ 20, 19, 19 }, /* nothing has come between */
		{ 20, 19, 17 }, /* one has */
		{ 20, 19, 11 }, /* many have, which is told from one */
		{ 20, 19, 18 }, /* even */
		{ 20, 19, 20 }, { 20, 19, 0 },	{ 20, 17, 17 },
		{ 20, 17, 19 }, { 19, 19, 19 }, /* one goes on */
		{ 21, 19, 19 }, { 2, 19, 19 },	/* as saved */
		{ 20, 1, 1 },	{ 20, 19, 1 },
	};
	struct uhmm__hash h[sizeof(v) / sizeof(*v)];

	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		h[i] = state(v[i][0], v[i][1], v[i][2]);
		for (size_t k = 0; k < i; k++)
			ck_assert_msg(!uhmm__same_hash(h[i], h[k]), "%zu and %zu", i, k);
	}
}
END_TEST

/* One that is as it was saved is next to others, wherever it is: 40, above or below. */
START_TEST(saved_have_their_place)
{
	static const uint64_t v[][2] = { { 42, 40 }, { 40, 38 } };
	struct uhmm__serials saved, serials;
	struct uhmm__hash h[2];

	uhmm__serials_init(&saved);
	uhmm__serials_know(&saved, UHMM__SERIAL + 2);
	uhmm__serials_know(&saved, UHMM__SERIAL + 40);
	for (int i = 0; i < 2; i++) {
		uhmm__serials_init(&serials);
		uhmm__serials_know_saved(&serials, &saved);
		uhmm__serials_add(&serials, 4096, UHMM__SERIAL + v[i][0]);
		uhmm__serials_add(&serials, 8192, UHMM__SERIAL + v[i][1]);
		h[i] = uhmm__serials_hash(&serials, (struct uhmm__hash){ 0, 0 });
	}
	ck_assert(!uhmm__same_hash(h[0], h[1]));
}
END_TEST

/* Too many to compare: none is left out. */
START_TEST(too_many)
{
	struct uhmm__serials serials;
	struct uhmm__hash h[3];

	for (uint64_t k = 0; k < 3; k++) {
		uhmm__serials_init(&serials);
		for (uint64_t i = 0; i < 2 * UHMM__SERIALS; i++)
			uhmm__serials_add(&serials, 8 * i, UHMM__SERIAL + 2 * i + (k && i > 1000));
		h[k] = uhmm__serials_hash(&serials, (struct uhmm__hash){ 0, 0 });
	}
	ck_assert(!uhmm__same_hash(h[0], h[1]));
	ck_assert(uhmm__same_hash(h[1], h[2]));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("serial");
	TCase *tc = tcase_create("serial");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, saved_state_has_none);
	tcase_add_test(tc, alike);
	tcase_add_test(tc, different);
	tcase_add_test(tc, saved_have_their_place);
	tcase_add_test(tc, too_many);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
