// SPDX-License-Identifier: LGPL-2.1-or-later
/* A run as columns, one for each CPU: who does what, in which function. */
#include <stdlib.h>
#include <string.h>

#include "explore.h"
#include "tool.h"

enum { NUMBER_WIDTH = 6, MIN_WIDTH = 24, SCREEN = 110 };

/* "lock, write, unlock": different things that were done, in their order. */
static void add_what(char *text, size_t size, const char *what)
{
	size_t len = strlen(text);

	if (strstr(text, what) || len + strlen(what) + 3 > size)
		return;
	snprintf(text + len, size - len, "%s%s", len ? ", " : "", what);
}

/* Steps of one task in one function that follow each other. */
struct block {
	size_t first, end;
	const char *function, *file;
	int line;
	char what[64];
};

static struct block next_block(const struct uhmm_explore_result *r, size_t first)
{
	struct block b = { .first = first, .end = first };
	const char *file;
	int line;

	b.function = explore_function(&r->trace[first], &b.file, &b.line);
	for (; b.end < r->nr_steps; b.end++) {
		const struct uhmm_explore_step *s = &r->trace[b.end];
		const char *function = explore_function(s, &file, &line);

		if (s->task != r->trace[first].task || function != b.function)
			break;
		if (b.end > first && r->cycle_at && b.end == r->cycle_at)
			break;
		add_what(b.what, sizeof(b.what), s->what);
	}
	return b;
}

static unsigned int nr_cpus(const struct uhmm_explore_result *r)
{
	unsigned int n = 1;

	for (unsigned int i = 0; i < r->nr_tasks; i++)
		if (r->tasks[i].cpu >= n)
			n = r->tasks[i].cpu + 1;
	return n;
}

static void print_head(unsigned int cpus, int width)
{
	printf("%*s", NUMBER_WIDTH, "step");
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		printf("  %s %-*u", "CPU", cpu + 1 < cpus ? width - 4 : 1, cpu);
	putchar('\n');
}

static void print_block(const struct uhmm_explore_result *r, const struct block *b, int width,
			bool new_task)
{
	const struct uhmm_explore_step *s = &r->trace[b->first];
	const char *slash = b->file ? strrchr(b->file, '/') : NULL;
	int indent = (int)s->cpu * (width + 2);

	if (new_task)
		printf("%*s  %*s%s:\n", NUMBER_WIDTH, "", indent, "", r->tasks[s->task].name);
	printf("%*zu  %*s ", NUMBER_WIDTH, b->first + 1, indent, "");
	if (b->function)
		printf("%s(): ", b->function);
	printf("%s", b->what);
	if (slash)
		printf("  %s:%d", slash + 1, b->line);
	putchar('\n');
}

static bool same(const struct uhmm_explore_step *a, const struct uhmm_explore_step *b)
{
	return a->task == b->task && !strcmp(a->what, b->what) && a->depth == b->depth &&
	       !memcmp(a->stack, b->stack, a->depth * sizeof(*a->stack));
}

/* Whole rounds of the cycle before the one that was found: they need not be read. */
static size_t rounds_before(const struct uhmm_explore_result *r)
{
	size_t cycle = r->nr_steps - r->cycle_at, i = r->cycle_at;

	while (i && same(&r->trace[i - 1], &r->trace[i - 1 + cycle]))
		i--;
	return (r->cycle_at - i) / cycle;
}

void explore_print_columns(const struct uhmm_explore_result *r)
{
	size_t rounds = r->cycle_at ? rounds_before(r) : 0;
	size_t skip_from = r->cycle_at - rounds * (r->nr_steps - r->cycle_at);
	unsigned int cpus = nr_cpus(r);
	unsigned int *shown = tool_xalloc(cpus, sizeof(*shown)); /* the task last seen there, + 1 */
	int width = (SCREEN - NUMBER_WIDTH) / (int)cpus - 2;
	struct block b;

	if (width < MIN_WIDTH)
		width = MIN_WIDTH;
	print_head(cpus, width);
	for (size_t i = 0; i < r->nr_steps; i = b.end) {
		const struct uhmm_explore_step *s = &r->trace[i];

		if (rounds && i == skip_from) {
			printf("%*s  -- %zu rounds left out --\n", NUMBER_WIDTH, "", rounds);
			b.end = r->cycle_at;
			rounds = 0;
			continue;
		}
		if (r->cycle_at && i == r->cycle_at)
			printf("%*s  -- from here on, again and again --\n", NUMBER_WIDTH, "");
		b = next_block(r, i);
		if (rounds && b.end > skip_from)
			b.end = skip_from;
		print_block(r, &b, width, shown[s->cpu] != s->task + 1);
		shown[s->cpu] = s->task + 1;
	}
	putchar('\n');
	free(shown);
}
