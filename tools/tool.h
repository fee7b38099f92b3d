/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tool.h - what the subcommands of uhmm share: options, errors, numbers, tables.
 *
 * A subcommand is int uhmm_cmd_NAME(int argc, char **argv): argv[0] is "uhmm NAME", so that
 * getopt_long's own messages read well, and the result is an exit status. main() flushes and
 * checks standard output after it. Errors go to standard error as "uhmm NAME: message".
 */
#ifndef UHMM_TOOL_H
#define UHMM_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit status, everywhere. */
enum tool_status {
	TOOL_OK = 0,	/* done */
	TOOL_DIFF = 1,	/* a difference, a violation, strategies that end in different states */
	TOOL_USAGE = 2, /* wrong usage, bad input, output that cannot be written */
};

/* ---- subcommands (main.c has the table) ---- */

int uhmm_cmd_replay(int argc, char **argv);
int uhmm_cmd_convert(int argc, char **argv);
int uhmm_cmd_conform(int argc, char **argv);
int uhmm_cmd_dump(int argc, char **argv);
int uhmm_cmd_bench(int argc, char **argv);
int uhmm_cmd_explore(int argc, char **argv);

/* ---- errors ---- */

#define TOOL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/** tool_name() - "uhmm" or "uhmm NAME", for messages. */
const char *tool_name(void);

/** tool_error() - print "uhmm NAME: message"; returns TOOL_USAGE. */
int tool_error(const char *fmt, ...) TOOL_PRINTF(1, 2);

/** tool_warn() - print "uhmm NAME: warning: message". */
void tool_warn(const char *fmt, ...) TOOL_PRINTF(1, 2);

/** tool_usage_error() - tool_error() and where to find help; returns TOOL_USAGE. */
int tool_usage_error(const char *fmt, ...) TOOL_PRINTF(1, 2);

/** tool_try_help() - the hint alone, after a message of getopt_long(); returns TOOL_USAGE. */
int tool_try_help(void);

/** tool_finish_file() - flush @f and check every write to it; @name for the message.
 * Returns: TOOL_OK or TOOL_USAGE. */
int tool_finish_file(FILE *f, const char *name);

/** What an output begins with. */
#define TOOL_JSON "{["
#define TOOL_SVG "<"

/** tool_check_writable() - can @file, which need not exist, be written later? Leaves it alone.
 * @begins: if it exists it must be empty or begin with one of these, or it is something else that
 * somebody may miss: a trace, say, where a name was forgotten before it.
 * Returns: TOOL_OK, or TOOL_USAGE after a message. */
int tool_check_writable(const char *file, const char *begins);

/** tool_same_file() - are both the same regular file, whatever their names? */
bool tool_same_file(const char *a, const char *b);

/** tool_xalloc() - zeroed memory for @n items of @size; exits with a message if there is none. */
void *tool_xalloc(size_t n, size_t size);

/** tool_xgrow() - realloc() for @n items of @size; exits with a message if there is none. */
void *tool_xgrow(void *p, size_t n, size_t size);

/** tool_xstrdup() - strdup() that exits with a message if there is no memory. */
char *tool_xstrdup(const char *s);

/** tool_errno_name() - "EINVAL" for 22 or -22; "E<number>" for those without a name. Static,
 * except the latter, which lasts until the next such call. */
const char *tool_errno_name(int err);

/* ---- arguments of options: on failure a message that names @option, and false ---- */

/** tool_parse_u64() - decimal number within [@min, @max]. */
bool tool_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max,
		    uint64_t *out);

/** tool_parse_hex() - hexadecimal number with or without 0x. */
bool tool_parse_hex(const char *option, const char *text, uint64_t *out);

/** tool_parse_double() - decimal fraction within [@min, @max]. */
bool tool_parse_double(const char *option, const char *text, double min, double max, double *out);

/** tool_parse_size() - bytes: a decimal number, or one followed by K, M, G or T (powers of 1024). */
bool tool_parse_size(const char *option, const char *text, uint64_t *out);

/**
 * tool_parse_choice() - one of several words
 * @names: the words, NULL at the end
 * Returns: the index, or -1 after a message that lists them, and names the nearest.
 */
int tool_parse_choice(const char *option, const char *text, const char *const *names);

/* ---- the checked variant ---- */

/**
 * tool_exec_checked() - go on as uhmm-checked
 * In uhmm-checked itself nothing happens. Otherwise the program is replaced by the uhmm-checked
 * that lies beside it, or is in PATH, with the same arguments; call it before any output.
 * Returns: TOOL_OK in the checked variant; TOOL_USAGE after a message if there is none.
 */
int tool_exec_checked(void);

/* ---- numbers ---- */

#define TOOL_NUMBER 40 /* room for any number that is formatted here */

/** tool_fmt_count() - "1,234,567"; returns @buf. */
const char *tool_fmt_count(char buf[TOOL_NUMBER], uint64_t n);

/** tool_fmt_bytes() - "4.0 KiB"; returns @buf. */
const char *tool_fmt_bytes(char buf[TOOL_NUMBER], uint64_t bytes);

/** tool_fmt_ns() - "1.25 ms"; returns @buf. */
const char *tool_fmt_ns(char buf[TOOL_NUMBER], double ns);

/** tool_fmt_seconds() - "12.3 s", "4 min 05 s", "2 h 10 min"; returns @buf. */
const char *tool_fmt_seconds(char buf[TOOL_NUMBER], double seconds);

/* ---- progress on standard error: on a terminal, or if the user asks for it ---- */

struct tool_progress {
	bool on, terminal;
	const char *name;
	const char *unit;   /* what is counted; NULL: events, and their rate is shown */
	double start, last; /* seconds on some clock */
};

/** tool_progress_start() - begin; @name is of the input and is kept, @always: also without terminal. */
void tool_progress_start(struct tool_progress *p, const char *name, bool always);

/**
 * tool_progress() - show how far things are, now and then
 * @done: share of the work that is done, 0 to 1; 0 if that is not known
 * @events: events so far
 */
void tool_progress(struct tool_progress *p, double done, uint64_t events);

/** tool_progress_end() - take it off the terminal. */
void tool_progress_end(const struct tool_progress *p);

/* ---- tables: the first column left, the others right aligned ---- */

struct tool_table;

/** tool_table_new() - an empty table of @columns columns. */
struct tool_table *tool_table_new(unsigned int columns);

/** tool_cell() - the next cell, from left to right and row by row. */
void tool_cell(struct tool_table *t, const char *fmt, ...) TOOL_PRINTF(2, 3);

/** tool_cell_count() - tool_cell() with tool_fmt_count(). */
void tool_cell_count(struct tool_table *t, uint64_t n);

/** tool_table_end_row() - fill what is left of the row with empty cells. */
void tool_table_end_row(struct tool_table *t);

/** tool_table_heading() - a row of its own with text that may run over all columns. */
void tool_table_heading(struct tool_table *t, const char *fmt, ...) TOOL_PRINTF(2, 3);

/** tool_table_left() - left-align @column, too. */
void tool_table_left(struct tool_table *t, unsigned int column);

/** tool_table_print() - print with two blanks between columns and @indent before the first. */
void tool_table_print(const struct tool_table *t, FILE *f, unsigned int indent);

/** tool_table_free() - NULL allowed. */
void tool_table_free(struct tool_table *t);

/* ---- for main.c ---- */

/** tool_set_args() - note the program's arguments and the name of the subcommand, or NULL. */
void tool_set_args(int argc, char **argv, const char *sub);

#endif /* UHMM_TOOL_H */
