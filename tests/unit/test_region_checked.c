// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory that can be saved, put back and compared. */
#include "unit/region_world.h"

static void teardown(void)
{
	uhmm__region_destroy(r);
}

START_TEST(alloc_and_free)
{
	static const size_t sizes[] = { 1,    16,   17,	  112,	113,  127,  128,     129,
					4096, 4097, 4224, 4225, 8192, 8193, 1 << 20, 5 << 20 };
	static const char zeroes[5 << 20];
	void *p[ARRAY_SIZE(sizes)];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		p[i] = uhmm__region_alloc(r, sizeof(void *), sizes[i]);
		ck_assert_ptr_nonnull(p[i]);
		ck_assert_uint_eq((uintptr_t)p[i] % (sizes[i] >= 128 ? 128 : 16), 0);
		ck_assert(!memcmp(p[i], zeroes, sizes[i]));
		memset(p[i], (int)i + 1, sizes[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		ck_assert_int_eq(((char *)p[i])[sizes[i] - 1], (int)i + 1);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		uhmm__region_free(r, p[i], sizes[i]);
	/* The last that was freed of a size is the first to be used again, and zero. */
	for (size_t i = ARRAY_SIZE(sizes); i-- > 0;) {
		char *q = uhmm__region_alloc(r, sizeof(void *), sizes[i]);

		ck_assert_int_eq(q[sizes[i] - 1], 0);
		if (sizes[i] > 4224)
			ck_assert_ptr_eq(q, p[i]);
	}
	ck_assert_uint_eq((uintptr_t)uhmm__region_alloc(r, 128, 24) % 128, 0);
	ck_assert_ptr_null(uhmm__region_alloc(r, 8, 1UL << 40));
	ck_assert_ptr_null(uhmm__region_written_after_free(r));
}
END_TEST

START_TEST(written_after_free)
{
	char *p = uhmm__region_alloc(r, 8, 200);
	uint64_t *q = uhmm__region_alloc(r, 8, 200);

	uhmm__region_free(r, q, 200);
	ck_assert(uhmm__region_is_poison(q[5]));
	ck_assert(!uhmm__region_is_poison((uintptr_t)p));
	uhmm__region_free(r, p, 200);
	ck_assert_ptr_null(uhmm__region_written_after_free(r));
	p[100] = 1;
	ck_assert_ptr_eq(uhmm__region_written_after_free(r), p);
	/* Also when it has been taken again. */
	ck_assert_ptr_eq(uhmm__region_alloc(r, 8, 200), p);
	ck_assert_ptr_eq(uhmm__region_written_after_free(r), p);
}
END_TEST

START_TEST(restore_undoes)
{
	uint64_t *kept = uhmm__region_alloc(r, 8, 64), *freed = uhmm__region_alloc(r, 8, 64),
		 *later;
	char *sparse = uhmm__region_reserve(r, 1UL << 30), *more;
	struct uhmm__region_copy copy = { 0 };
	struct uhmm__hash before, between, after;

	kept[0] = 1;
	freed[0] = 2;
	sparse[5] = 3;
	ck_assert_int_eq(uhmm__region_save(r), 0);
	before = uhmm__region_hash(r);
	for (unsigned int round = 0; round < 3; round++) {
		kept[1] = 11;
		uhmm__region_free(r, freed, 64);
		later = uhmm__region_alloc(r, 8, 5000);
		later[0] = 12;
		sparse[6] = 13;
		sparse[100 << 20] = 14;
		ck_assert_int_eq(uhmm__region_copy(r, &copy), 0);
		between = uhmm__region_hash(r);
		kept[2] = later[1] = 16;
		sparse[200 << 20] = sparse[4096] = 17;
		more = uhmm__region_reserve(r, 1UL << 20);
		ck_assert_int_eq(more[4096], 0);
		more[4096] = 15;
		after = uhmm__region_hash(r);
		ck_assert(!uhmm__same_hash(before, after));
		ck_assert(!uhmm__same_hash(between, after));
		uhmm__region_copy_back(r, &copy);
		ck_assert(uhmm__same_hash(between, uhmm__region_hash(r)));
		ck_assert_uint_eq(kept[1], 11);
		ck_assert_uint_eq(kept[2], 0);
		ck_assert_uint_eq(later[0], 12);
		ck_assert_uint_eq(later[1], 0);
		ck_assert_int_eq(sparse[100 << 20], 14);
		ck_assert_int_eq(sparse[200 << 20], 0);
		ck_assert_int_eq(sparse[4096], 0);
		uhmm__region_restore(r);
		ck_assert_uint_eq(kept[0], 1);
		ck_assert_uint_eq(kept[1], 0);
		ck_assert_uint_eq(freed[0], 2);
		ck_assert_int_eq(sparse[5], 3);
		ck_assert_int_eq(sparse[6], 0);
		ck_assert_int_eq(sparse[100 << 20], 0);
		ck_assert(uhmm__same_hash(before, uhmm__region_hash(r)));
	}
	uhmm__region_copy_free(&copy);
}
END_TEST

/* What a hash is of: contents and where they are, but not pages that are as if never touched. */
START_TEST(hash_of_contents)
{
	char *p = uhmm__region_alloc(r, 8, 300), *sparse = uhmm__region_reserve(r, 1UL << 20);
	struct uhmm__hash h[4];

	ck_assert_int_eq(uhmm__region_save(r), 0);
	h[0] = uhmm__region_hash(r);
	ck_assert_int_eq(sparse[0], 0); /* a touch */
	ck_assert(uhmm__same_hash(h[0], uhmm__region_hash(r)));
	sparse[1] = 1;
	h[1] = uhmm__region_hash(r);
	sparse[1] = 0;
	sparse[4097] = 1;
	h[2] = uhmm__region_hash(r);
	sparse[4097] = 0;
	p[299] = 1;
	h[3] = uhmm__region_hash(r);
	p[299] = 0;
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			ck_assert(!uhmm__same_hash(h[i], h[k]));
	ck_assert(uhmm__same_hash(h[0], uhmm__region_hash(r)));
	ck_assert_int_eq(uhmm__region_ignore(r, p + 100, 100), 0);
	ck_assert(uhmm__same_hash(h[0], uhmm__region_hash(r)));
	memset(p + 100, 7, 100);
	ck_assert(uhmm__same_hash(h[0], uhmm__region_hash(r)));
	p[99] = 1;
	ck_assert(!uhmm__same_hash(h[0], uhmm__region_hash(r)));
	p[99] = 0;
	p[200] = 1;
	ck_assert(!uhmm__same_hash(h[0], uhmm__region_hash(r)));
}
END_TEST

/* CPUs that allocate in another order get the same addresses. */
START_TEST(lanes)
{
	void *p[2][2];

	ck_assert_int_eq(uhmm__region_save(r), 0);
	for (unsigned int order = 0; order < 2; order++) {
		for (unsigned int i = 0; i < 2; i++) {
			uhmm__region_lane = 1 + (i ^ order);
			p[order][i ^ order] = uhmm__region_alloc(r, 8, 40);
		}
		uhmm__region_lane = 0;
		uhmm__region_restore(r);
	}
	ck_assert_ptr_eq(p[0][0], p[1][0]);
	ck_assert_ptr_eq(p[0][1], p[1][1]);
	ck_assert_ptr_ne(p[0][0], p[0][1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("region");
	TCase *tc = tcase_create("region");

	tcase_add_checked_fixture(tc, region_start, teardown);
	tcase_add_test(tc, alloc_and_free);
	tcase_add_test(tc, written_after_free);
	tcase_add_test(tc, restore_undoes);
	tcase_add_test(tc, hash_of_contents);
	tcase_add_test(tc, lanes);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
