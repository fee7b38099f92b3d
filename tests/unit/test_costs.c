// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_costs.c - cost tables: text to prices, counters to time, and the shipped presets.
 */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uhmm/costs.h>

#define PRESETS UHMM_TEST_DATA "/../data/costs/"

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-9 * (fabs(a) + fabs(b));
}

static struct uhmm_costs *built_in(void)
{
	struct uhmm_costs *costs;

	ck_assert_int_eq(uhmm_costs_create(&costs), 0);
	return costs;
}

static struct uhmm_costs *parse(const char *text)
{
	struct uhmm_costs *costs;
	char error[200] = "";
	int err = uhmm_costs_parse(text, "t", &costs, error, sizeof(error));

	ck_assert_msg(err == 0, "%s", error);
	return costs;
}

static struct uhmm_costs *load(const char *path)
{
	struct uhmm_costs *costs;
	char error[300] = "";
	int err = uhmm_costs_load(path, &costs, error, sizeof(error));

	ck_assert_msg(err == 0, "%s", error);
	return costs;
}

/* ---- presets ---- */

START_TEST(test_default_is_pcie4)
{
	struct uhmm_costs *a = built_in(), *b = load(PRESETS "pcie4.costs");

	ck_assert_str_eq(uhmm_costs_name(a), "pcie4");
	ck_assert_str_eq(uhmm_costs_name(b), "pcie4");
	ck_assert(near(uhmm_costs_clock(a), uhmm_costs_clock(b)));
	for (unsigned int c = 0; c < UHMM_NR_COSTS; c++) {
		ck_assert_msg(near(uhmm_costs_cycles(a, c), uhmm_costs_cycles(b, c)),
			      "%s: %f built in, %f in the file", uhmm_cost_name(c),
			      uhmm_costs_cycles(a, c), uhmm_costs_cycles(b, c));
		ck_assert_str_eq(uhmm_costs_source(a, c), uhmm_costs_source(b, c));
	}
	uhmm_costs_destroy(a);
	uhmm_costs_destroy(b);
}
END_TEST

static const char *const presets[] = { PRESETS "pcie4.costs", PRESETS "pcie3.costs",
				       PRESETS "nvlink-c2c.costs" };

START_TEST(test_preset)
{
	struct uhmm_costs *costs = load(presets[_i]);

	for (unsigned int c = 0; c < UHMM_NR_COSTS; c++) {
		ck_assert_msg(uhmm_costs_cycles(costs, c) > 0, "%s has no price",
			      uhmm_cost_name(c));
		ck_assert_msg(*uhmm_costs_source(costs, c), "%s has no source", uhmm_cost_name(c));
	}
	uhmm_costs_destroy(costs);
}
END_TEST

/* ---- text ---- */

START_TEST(test_units)
{
	struct uhmm_costs *costs = parse("# comment\n\n"
					 "name mine\n"
					 "clock 2000 MHz\n"
					 "read_pte 7 cycles ; a source\n"
					 "sleep 3 us\n"
					 "transfer 100 ns\n"
					 "copy_ram 4.096 GB/s");

	ck_assert_str_eq(uhmm_costs_name(costs), "mine");
	ck_assert(near(uhmm_costs_clock(costs), 2e9));
	ck_assert(near(uhmm_costs_cycles(costs, UHMM_COST_READ_PTE), 7));
	ck_assert_str_eq(uhmm_costs_source(costs, UHMM_COST_READ_PTE), "a source");
	ck_assert(near(uhmm_costs_cycles(costs, UHMM_COST_SLEEP), 6000));
	ck_assert(near(uhmm_costs_cycles(costs, UHMM_COST_TRANSFER), 200));
	ck_assert(near(uhmm_costs_cycles(costs, UHMM_COST_COPY_RAM), 2000));
	uhmm_costs_destroy(costs);
}
END_TEST

/* What a file leaves out stays: cycles as cycles, times as times. */
START_TEST(test_fills_in)
{
	struct uhmm_costs *a = built_in(), *b = parse("clock 6 GHz\n");
	double twice = 2 * uhmm_costs_cycles(a, UHMM_COST_SLEEP);

	ck_assert(near(uhmm_costs_cycles(b, UHMM_COST_PTL), uhmm_costs_cycles(a, UHMM_COST_PTL)));
	ck_assert(near(uhmm_costs_cycles(b, UHMM_COST_SLEEP), twice));
	ck_assert_str_eq(uhmm_costs_name(b), "t");
	uhmm_costs_destroy(a);
	uhmm_costs_destroy(b);
}
END_TEST

static const struct {
	const char *text, *says;
} malformed[] = {
	{ "read_pte 7", "t:1: expected 'NAME NUMBER UNIT" },
	{ "\nread_pte", "t:2: expected" },
	{ "read_pte 7 cycles more", "t:1: expected" },
	{ "read_pte x cycles", "t:1: read_pte: 'x' is not a number" },
	{ "read_pte -1 cycles", "'-1' is not a number" },
	{ "read_pte nan cycles", "'nan' is not a number" },
	{ "read_pte 1e99 cycles", "is not a number" },
	{ "reed_pte 7 cycles", "'reed_pte' is no price" },
	{ "read_pte 7 GB/s", "unit 'GB/s', expected cycles, ns, us" },
	{ "copy_ram 7 MB", "expected cycles, ns, us or GB/s" },
	{ "copy_ram 0 GB/s", "or GB/s (above 0)" },
	{ "ptl 1 ns\nptl 2 ns", "t:2: ptl: given twice" },
	{ "clock 3 GHz\nclock 3 GHz", "t:2: clock: given twice" },
	{ "clock 3 Hz", "clock: expected a number of MHz or GHz" },
	{ "clock 0 GHz", "clock: expected" },
};

START_TEST(test_malformed)
{
	struct uhmm_costs *costs = (void *)1;
	char error[200] = "";

	ck_assert_int_eq(uhmm_costs_parse(malformed[_i].text, "t", &costs, error, sizeof(error)),
			 -EINVAL);
	ck_assert_msg(strstr(error, malformed[_i].says) != NULL, "said: %s", error);
	ck_assert_ptr_eq(costs, (void *)1);
	/* And without room for the message. */
	ck_assert_int_eq(uhmm_costs_parse(malformed[_i].text, "t", &costs, NULL, 0), -EINVAL);
	ck_assert_int_eq(uhmm_costs_parse(malformed[_i].text, "t", &costs, error, 3), -EINVAL);
}
END_TEST

START_TEST(test_bad_files)
{
	struct uhmm_costs *costs;
	char error[200] = "";

	ck_assert_int_eq(uhmm_costs_load("/nonexistent/costs", &costs, error, sizeof(error)),
			 -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "/nonexistent/costs"));
	ck_assert_int_eq(uhmm_costs_load("/dev/zero", &costs, error, sizeof(error)), -EINVAL);
	ck_assert_int_eq(uhmm_costs_load("/", &costs, error, sizeof(error)), -EISDIR);
	ck_assert_int_eq(uhmm_costs_load(NULL, &costs, error, sizeof(error)), -EINVAL);
	ck_assert_int_eq(uhmm_costs_create(NULL), -EINVAL);
	uhmm_costs_destroy(NULL);
}
END_TEST

/* ---- time ---- */

START_TEST(test_parts_add_up)
{
	struct uhmm_costs *costs = built_in();
	struct uhmm_counters counters;
	struct uhmm_modelled t;
	double sum = 0;

	for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
		counters.v[i] = 1000 + i * 37;
	uhmm_costs_apply(costs, &counters, &t);
	for (unsigned int i = 0; i < UHMM_NR_COST_PARTS; i++) {
		ck_assert_msg(t.part_ns[i] > 0, "part %s is empty", uhmm_cost_part_name(i));
		sum += t.part_ns[i];
	}
	ck_assert(near(sum, t.ns));
	ck_assert(near(t.cycles, t.ns * uhmm_costs_clock(costs) / 1e9));

	memset(&counters, 0, sizeof(counters));
	uhmm_costs_apply(costs, &counters, &t);
	ck_assert(near(t.ns, 0));
	uhmm_costs_destroy(costs);
}
END_TEST

/* One counter, one price, by hand. */
START_TEST(test_events)
{
	struct uhmm_counters c = { 0 };
	struct uhmm_costs *costs = parse("clock 1 GHz\nread_pte 3 cycles\n");
	struct uhmm_modelled t;

	c.v[UHMM_CNT_READ_PTE] = 100;
	uhmm_costs_apply(costs, &c, &t);
	ck_assert(near(t.ns, 300));
	ck_assert(near(t.part_ns[UHMM_COST_PART_WALKS], 300));

	/* Faults raised by a walker cost no exception. */
	c.v[UHMM_CNT_FAULT_ANON_WRITE] = 10;
	c.v[UHMM_CNT_FAULT_SIGSEGV] = 2;
	c.v[UHMM_CNT_FAULT_FROM_HMM] = 4;
	ck_assert_uint_eq(uhmm_cost_events(UHMM_COST_FAULT_HANDLER, &c), 10);
	ck_assert_uint_eq(uhmm_cost_events(UHMM_COST_FAULT_ENTRY, &c), 8);
	ck_assert_uint_eq(uhmm_cost_events(UHMM_COST_FAULT_SIGNAL, &c), 2);
	c.v[UHMM_CNT_FAULT_FROM_HMM] = 40;
	ck_assert_uint_eq(uhmm_cost_events(UHMM_COST_FAULT_ENTRY, &c), 0);
	ck_assert_uint_eq(uhmm_cost_events(UHMM_NR_COSTS, &c), 0);
	uhmm_costs_destroy(costs);
}
END_TEST

/* The table in docs/costs.md: every price, with its text, part and built-in value. */
START_TEST(test_documented)
{
	static char text[64 << 10];
	FILE *f = fopen(UHMM_TEST_DATA "/../docs/costs.md", "r");
	struct uhmm_costs *costs = built_in();

	ck_assert_ptr_nonnull(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	for (unsigned int c = 0; c < UHMM_NR_COSTS; c++) {
		char row[200], value[40], unit[20], entry[100];
		struct uhmm_costs *one;
		const char *at;
		int n = snprintf(row, sizeof(row), "\n| `%s` | %s | ", uhmm_cost_name(c),
				 uhmm_cost_text(c));

		at = strstr(text, row);
		ck_assert_msg(at != NULL, "docs/costs.md has no row '%s'", row + 1);
		ck_assert_int_eq(sscanf(at + n, "%*s | %39s %19s", value, unit), 2);
		snprintf(entry, sizeof(entry), "%s %s %s", uhmm_cost_name(c), value, unit);
		one = parse(entry);
		ck_assert_msg(near(uhmm_costs_cycles(one, c), uhmm_costs_cycles(costs, c)),
			      "docs/costs.md: %s", entry);
		uhmm_costs_destroy(one);
	}
	uhmm_costs_destroy(costs);
}
END_TEST

START_TEST(test_names)
{
	for (unsigned int c = 0; c < UHMM_NR_COSTS; c++) {
		ck_assert_ptr_nonnull(uhmm_cost_name(c));
		ck_assert_ptr_nonnull(uhmm_cost_text(c));
	}
	ck_assert_ptr_null(uhmm_cost_name(UHMM_NR_COSTS));
	ck_assert_ptr_null(uhmm_cost_text(UHMM_NR_COSTS));
	ck_assert_ptr_null(uhmm_cost_part_name(UHMM_NR_COST_PARTS));
	ck_assert_str_eq(uhmm_cost_part_name(UHMM_COST_PART_LINK), "link");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("costs");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_default_is_pcie4);
	tcase_add_loop_test(tc, test_preset, 0, sizeof(presets) / sizeof(presets[0]));
	tcase_add_test(tc, test_units);
	tcase_add_test(tc, test_fills_in);
	tcase_add_loop_test(tc, test_malformed, 0, sizeof(malformed) / sizeof(malformed[0]));
	tcase_add_test(tc, test_bad_files);
	tcase_add_test(tc, test_parts_add_up);
	tcase_add_test(tc, test_events);
	tcase_add_test(tc, test_documented);
	tcase_add_test(tc, test_names);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
