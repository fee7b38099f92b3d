// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_compare.c - this run against an earlier one that was kept as JSON.
 *
 * A figure changed if its median moved by more than both runs' samples are spread, and by more than
 * the least that is worth a word. Spread is the distance between the quartiles: one round in which
 * the machine had the hiccups does not hide a change, nor make one.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bench.h"
#include "tool.h"

static const double least_percent = 3;

struct samples {
	unsigned int n;
	double v[BENCH_MAX_ROUNDS];
};

struct bench_old {
	const char *path;
	struct samples figure[BENCH_NR_FIGURES]; /* n 0: the earlier run has none */
};

/* ---- reading ---- */

static int bad_file(const char *path, const char *why)
{
	return tool_error("--compare: %s: %s", path, why);
}

/* A run of the same kind, or its figures mean something else. */
static int check_kind(const char *path, const json_t *root, const struct bench *b)
{
	const json_t *variant = json_object_get(root, "variant");
#ifdef UHMM_CHECKED
	const char *own = "checked";
#else
	const char *own = "plain";
#endif

	if (json_integer_value(json_object_get(root, "schema")) != 1 ||
	    !json_is_object(json_object_get(root, "figures")) || !json_is_string(variant))
		return bad_file(path, "not what `uhmm bench --json` writes");
	if (strcmp(json_string_value(variant), own))
		return bad_file(path, "measured with the other variant of the library");
	if (json_is_true(json_object_get(root, "quick")) != b->quick)
		return bad_file(path, b->quick ? "measured without --quick"
					       : "measured with --quick: that measures less");
	return TOOL_OK;
}

static int take_figure(struct bench_old *old, int id, const json_t *figure)
{
	const json_t *samples = json_object_get(figure, "samples");
	struct samples *s = &old->figure[id];

	if (!json_is_array(samples) || json_array_size(samples) > BENCH_MAX_ROUNDS)
		return bad_file(old->path, "a figure without samples, or with too many");
	for (size_t i = 0; i < json_array_size(samples); i++) {
		const json_t *v = json_array_get(samples, i);

		if (!json_is_number(v) || json_number_value(v) < 0)
			return bad_file(old->path, "a sample that is no number");
		s->v[s->n++] = json_number_value(v);
	}
	return TOOL_OK;
}

int bench_old_load(const char *path, const struct bench *b, struct bench_old **out)
{
	struct bench_old *old;
	json_error_t error;
	json_t *root = json_load_file(path, 0, &error);
	int status;

	if (!root) {
		if (error.line < 1)
			return bad_file(path, "cannot read");
		return tool_error("--compare: %s: line %d: %s", path, error.line, error.text);
	}
	old = tool_xalloc(1, sizeof(*old));
	old->path = path;
	status = check_kind(path, root, b);
	for (int id = 0; id < BENCH_NR_FIGURES && status == TOOL_OK; id++) {
		const json_t *figure =
			json_object_get(json_object_get(root, "figures"), bench_figures[id].name);

		if (figure)
			status = take_figure(old, id, figure);
	}
	json_decref(root);
	if (status == TOOL_OK)
		*out = old;
	else
		free(old);
	return status;
}

void bench_old_free(struct bench_old *old)
{
	free(old);
}

/* ---- comparing ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The value below which @share of the samples are, between two of them if need be. */
static double quantile(const struct samples *s, double share)
{
	double at = share * (s->n - 1);
	unsigned int i = (unsigned int)at;

	if (i + 1 >= s->n)
		return s->v[s->n - 1];
	return s->v[i] + (at - i) * (s->v[i + 1] - s->v[i]);
}

static void sort(struct samples *s)
{
	qsort(s->v, s->n, sizeof(*s->v), compare);
}

enum verdict { SAME, FASTER, SLOWER };

static enum verdict judge(const struct bench_figure *f, const struct samples *old,
			  const struct samples *now, double *percent)
{
	double was = quantile(old, 0.5), is = quantile(now, 0.5);
	double spread = fmax(quantile(old, 0.75) - quantile(old, 0.25),
			     quantile(now, 0.75) - quantile(now, 0.25));

	*percent = was > 0 ? 100 * (is - was) / was : 0;
	if (fabs(is - was) <= spread || fabs(*percent) < least_percent)
		return SAME;
	/* What has a lower bound is a rate; what has none tells by its unit. */
	return (is > was) == (f->at_least || strstr(f->unit, "/s")) ? FASTER : SLOWER;
}

static void cell(struct tool_table *t, double v)
{
	tool_cell(t, v < 10 ? "%.2f" : v < 1000 ? "%.1f" : "%.0f", v);
}

unsigned int bench_old_compare(const struct bench_old *old, const struct bench *b,
			       const bool *wanted)
{
	static const char *const verdicts[] = { "", "better", "worse" };
	static const char *const head[] = { "", "then", "now", "", "change", "" };
	struct tool_table *t = tool_table_new(6);
	unsigned int slower = 0, both = 0;

	tool_table_left(t, 3);
	tool_table_left(t, 5);
	for (int i = 0; i < 6; i++)
		tool_cell(t, "%s", head[i]);
	for (int id = 0; id < BENCH_NR_FIGURES; id++) {
		struct samples was = old->figure[id], is = { .n = b->nr[id] };
		enum verdict v;
		double percent;

		if (!wanted[id] || !was.n || !is.n)
			continue;
		memcpy(is.v, b->sample[id], is.n * sizeof(*is.v));
		sort(&was);
		sort(&is);
		v = judge(&bench_figures[id], &was, &is, &percent);
		slower += v == SLOWER;
		both++;
		tool_cell(t, "%s", bench_figures[id].text);
		cell(t, quantile(&was, 0.5));
		cell(t, quantile(&is, 0.5));
		tool_cell(t, "%s", bench_figures[id].unit);
		tool_cell(t, "%+.1f %%", percent);
		tool_cell(t, "%s", verdicts[v]);
	}
	printf("\nCompared with %s:\n", old->path);
	if (both)
		tool_table_print(t, stdout, 0);
	else
		printf("no figure was measured both times.\n");
	printf("%u became worse by more than the spread of either run and %g %%.\n", slower,
	       least_percent);
	tool_table_free(t);
	return slower;
}
