// SPDX-License-Identifier: LGPL-2.1-or-later
/* bench_plot.c - the plot of `uhmm bench --growth`: ns for each item, both axes logarithmic. */
#include <math.h>
#include <stdio.h>

#include "bench_growth.h"
#include "tool.h"

/* A panel, and the place of the axes in it. */
enum {
	PANEL_WIDTH = 620,
	PANEL_HEIGHT = 380,
	LEFT = 70,
	RIGHT = 240, /* names of the lines */
	TOP = 40,
	BOTTOM = 50,
};

/* Told apart by those who do not see all colours, too. */
static const char *const colours[GROWTH_COSTS] = {
	"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000",
};

struct panel {
	FILE *f;
	const struct growth_kind *k;
	const struct growth *g;
	double x, y;			   /* of its corner */
	double min_x, max_x, min_y, max_y; /* logarithms */
};

static double each(const struct panel *p, unsigned int i, int c)
{
	return log10(fmax(p->g->ns[i][c] / (double)p->k->size[i], 0.1));
}

static double at_x(const struct panel *p, double v)
{
	return p->x + LEFT + (v - p->min_x) / (p->max_x - p->min_x) * (PANEL_WIDTH - LEFT - RIGHT);
}

static double at_y(const struct panel *p, double v)
{
	return p->y + PANEL_HEIGHT - BOTTOM -
	       (v - p->min_y) / (p->max_y - p->min_y) * (PANEL_HEIGHT - TOP - BOTTOM);
}

static void bounds(struct panel *p)
{
	p->min_x = log10((double)p->k->size[0]);
	p->max_x = fmax(log10((double)p->k->size[p->g->nr - 1]), p->min_x + 0.1);
	p->min_y = INFINITY;
	p->max_y = -INFINITY;
	for (unsigned int i = 0; i < p->g->nr; i++) {
		for (int c = 0; c < GROWTH_COSTS && p->k->cost[c]; c++) {
			p->min_y = fmin(p->min_y, each(p, i, c));
			p->max_y = fmax(p->max_y, each(p, i, c));
		}
	}
	p->min_y = floor(p->min_y);
	p->max_y = fmax(ceil(p->max_y), p->min_y + 1);
}

/* Of a size: a power of ten from 1,000 on by its exponent, so that neighbours do not overlap. */
static const char *size_label(char buf[TOOL_NUMBER], uint64_t size)
{
	unsigned int exponent = 0;
	uint64_t rest = size;

	for (; rest && rest % 10 == 0; rest /= 10)
		exponent++;
	if (rest != 1 || exponent < 3)
		return tool_fmt_count(buf, size);
	snprintf(buf, TOOL_NUMBER, "1e%u", exponent);
	return buf;
}

static void draw_axes(const struct panel *p)
{
	double right = at_x(p, p->max_x), bottom = at_y(p, p->min_y);
	char buf[TOOL_NUMBER];

	fprintf(p->f,
		"<text x=\"%.0f\" y=\"%.0f\" class=\"title\">ns for each of so many %s</text>\n",
		p->x + LEFT, p->y + TOP - 14, p->k->unit);
	for (double v = p->min_y; v <= p->max_y + 0.5; v++) {
		fprintf(p->f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", p->x + LEFT,
			at_y(p, v), right);
		fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
			p->x + LEFT - 6, at_y(p, v) + 4, pow(10, v));
	}
	for (unsigned int i = 0; i < p->g->nr; i++) {
		double x = at_x(p, log10((double)p->k->size[i]));

		fprintf(p->f, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>\n", x,
			at_y(p, p->max_y), bottom);
		fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x,
			bottom + 18, size_label(buf, p->k->size[i]));
	}
}

static void draw_line(const struct panel *p, int c)
{
	double x = at_x(p, p->max_x), y = p->y + TOP + 10 + 22 * c;

	fprintf(p->f, "<path class=\"line\" stroke=\"%s\" d=\"", colours[c]);
	for (unsigned int i = 0; i < p->g->nr; i++)
		fprintf(p->f, "%c%.1f %.1f", i ? 'L' : 'M', at_x(p, log10((double)p->k->size[i])),
			at_y(p, each(p, i, c)));
	fprintf(p->f, "\"/>\n");
	fprintf(p->f, "<path class=\"line\" stroke=\"%s\" d=\"M%.1f %.1fh18\"/>\n", colours[c],
		x + 14, y);
	fprintf(p->f, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x + 38, y + 4, p->k->cost[c]);
}

static void draw_panel(struct panel *p)
{
	if (!p->g->nr)
		return;
	bounds(p);
	draw_axes(p);
	for (int c = 0; c < GROWTH_COSTS && p->k->cost[c]; c++)
		draw_line(p, c);
}

int bench_growth_plot(const char *file, const struct growth_kind *kinds, const struct growth *grown,
		      unsigned int n)
{
	FILE *f = fopen(file, "w");
	int status;

	if (!f)
		return tool_error("%s: cannot write: %m", file);
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\">\n"
		"<style>text{font:12px sans-serif}.title{font-weight:bold}"
		".grid{stroke:#ddd;fill:none}.line{stroke-width:2;fill:none}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		2 * PANEL_WIDTH, PANEL_HEIGHT * (int)((n + 1) / 2));
	for (unsigned int i = 0; i < n; i++) {
		struct panel p = { .f = f,
				   .k = &kinds[i],
				   .g = &grown[i],
				   .x = i % 2 * PANEL_WIDTH,
				   .y = i / 2 * PANEL_HEIGHT };

		draw_panel(&p);
	}
	fprintf(f, "</svg>\n");
	status = tool_finish_file(f, file);
	fclose(f);
	return status;
}
