// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * table.c - tables of text with aligned columns.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

struct tool_table {
	unsigned int columns;
	bool *left;   /* per column */
	char **cell;  /* row by row; a heading fills its row with NULL after the text */
	size_t cells; /* always counts whole headings */
	size_t room;
};

struct tool_table *tool_table_new(unsigned int columns)
{
	struct tool_table *t = tool_xalloc(1, sizeof(*t));

	t->columns = columns ? columns : 1;
	t->left = tool_xalloc(t->columns, sizeof(*t->left));
	t->left[0] = true;
	return t;
}

static void append(struct tool_table *t, char *text)
{
	if (t->cells == t->room) {
		t->room = t->room ? t->room * 2 : 64;
		t->cell = tool_xgrow(t->cell, t->room, sizeof(*t->cell));
	}
	t->cell[t->cells++] = text;
}

static void append_text(struct tool_table *t, const char *fmt, va_list args) TOOL_PRINTF(2, 0);

static void append_text(struct tool_table *t, const char *fmt, va_list args)
{
	char *text;

	append(t, vasprintf(&text, fmt, args) < 0 ? tool_xstrdup("?") : text);
}

void tool_cell(struct tool_table *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	append_text(t, fmt, args);
	va_end(args);
}

void tool_cell_count(struct tool_table *t, uint64_t n)
{
	char buf[TOOL_NUMBER];

	tool_cell(t, "%s", tool_fmt_count(buf, n));
}

void tool_table_end_row(struct tool_table *t)
{
	while (t->cells % t->columns)
		append(t, tool_xstrdup(""));
}

void tool_table_heading(struct tool_table *t, const char *fmt, ...)
{
	va_list args;

	tool_table_end_row(t);
	va_start(args, fmt);
	append_text(t, fmt, args);
	va_end(args);
	while (t->cells % t->columns)
		append(t, NULL);
}

void tool_table_left(struct tool_table *t, unsigned int column)
{
	if (column < t->columns)
		t->left[column] = true;
}

static bool is_heading(const struct tool_table *t, size_t row)
{
	size_t first = row * t->columns;

	return t->columns > 1 && first + 1 < t->cells && !t->cell[first + 1];
}

static void print_row(const struct tool_table *t, FILE *f, size_t row, const int *width)
{
	int blanks = 0; /* owed: so that no line ends in blanks */

	for (unsigned int c = 0; c < t->columns; c++) {
		size_t i = row * t->columns + c;
		const char *text = i < t->cells && t->cell[i] ? t->cell[i] : "";
		int pad = width[c] - (int)strlen(text);

		if (!t->left[c])
			blanks += pad;
		if (*text) {
			fprintf(f, "%*s%s", blanks, "", text);
			blanks = 0;
		}
		blanks += t->left[c] ? pad + 2 : 2;
	}
	fputc('\n', f);
}

void tool_table_print(const struct tool_table *t, FILE *f, unsigned int indent)
{
	size_t rows = (t->cells + t->columns - 1) / t->columns;
	int *width = tool_xalloc(t->columns, sizeof(*width));

	for (size_t i = 0; i < t->cells; i++) {
		int len = t->cell[i] ? (int)strlen(t->cell[i]) : 0;

		if (!is_heading(t, i / t->columns) && len > width[i % t->columns])
			width[i % t->columns] = len;
	}
	for (size_t row = 0; row < rows; row++) {
		fprintf(f, "%*s", (int)indent, "");
		if (is_heading(t, row))
			fprintf(f, "%s\n", t->cell[row * t->columns]);
		else
			print_row(t, f, row, width);
	}
	free(width);
}

void tool_table_free(struct tool_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->cells; i++)
		free(t->cell[i]);
	free(t->cell);
	free(t->left);
	free(t);
}
