// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * util.c - errors, arguments of options, numbers as text.
 */
#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

static struct {
	int argc;
	char **argv; /* a copy: getopt_long() moves things about */
	const char *sub;
	char name[32];
} tool = { .name = "uhmm" };

void tool_set_args(int argc, char **argv, const char *sub)
{
	free(tool.argv);
	tool.argc = argc;
	tool.argv = tool_xalloc((size_t)argc + 1, sizeof(*tool.argv));
	memcpy(tool.argv, argv, (size_t)argc * sizeof(*tool.argv));
	tool.sub = sub;
	snprintf(tool.name, sizeof(tool.name), "uhmm%s%s", sub ? " " : "", sub ? sub : "");
}

const char *tool_name(void)
{
	return tool.name;
}

/* ---- errors ---- */

static void message(const char *kind, const char *fmt, va_list args) TOOL_PRINTF(2, 0);

static void message(const char *kind, const char *fmt, va_list args)
{
	fflush(stdout); /* keeps the order on a terminal and in a log */
	fprintf(stderr, "%s: %s", tool.name, kind);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
}

int tool_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	message("", fmt, args);
	va_end(args);
	return TOOL_USAGE;
}

void tool_warn(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	message("warning: ", fmt, args);
	va_end(args);
}

int tool_try_help(void)
{
	fprintf(stderr, "Try '%s --help'.\n", tool.name);
	return TOOL_USAGE;
}

int tool_usage_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	message("", fmt, args);
	va_end(args);
	return tool_try_help();
}

int tool_finish_file(FILE *f, const char *name)
{
	errno = 0;
	if (!fflush(f) && !ferror(f))
		return TOOL_OK;
	return tool_error("%s: cannot write: %s", name,
			  errno ? strerror(errno) : "an earlier write failed");
}

/* Whether @file has something in it that does not begin with one of @begins, but for white space. */
static bool is_another_kind(const char *file, const char *begins)
{
	FILE *f = fopen(file, "re");
	int c = EOF;

	while (f && (c = getc(f)) != EOF && isspace(c))
		;
	if (f)
		fclose(f);
	return c != EOF && (!c || !strchr(begins, c));
}

int tool_check_writable(const char *file, const char *begins)
{
	char *copy = tool_xstrdup(file);
	struct stat st;
	int err = 0;

	if (!stat(file, &st))
		err = S_ISDIR(st.st_mode) ? EISDIR : access(file, W_OK) ? errno : 0;
	else if (errno != ENOENT || !*file || access(dirname(copy), W_OK | X_OK))
		err = errno;
	free(copy);
	if (err)
		return tool_error("%s: cannot write: %s", file, strerror(err));
	if (!stat(file, &st) && S_ISREG(st.st_mode) && is_another_kind(file, begins))
		return tool_error("%s: is there and is something else than what would be written: "
				  "name another file, or remove it",
				  file);
	return TOOL_OK;
}

bool tool_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && S_ISREG(x.st_mode) && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static void no_memory(void)
{
	tool_error("out of memory");
	exit(TOOL_USAGE);
}

void *tool_xalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		no_memory();
	return p;
}

void *tool_xgrow(void *p, size_t n, size_t size)
{
	p = reallocarray(p, n ? n : 1, size ? size : 1);
	if (!p)
		no_memory();
	return p;
}

char *tool_xstrdup(const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		no_memory();
	return copy;
}

const char *tool_errno_name(int err)
{
	static char number[16];
	const char *name;

	if (err < 0)
		err = -err;
	name = strerrorname_np(err);
	if (name)
		return name;
	snprintf(number, sizeof(number), "E%d", err);
	return number;
}

/* ---- arguments of options ---- */

static bool bad_argument(const char *option, const char *text, const char *why)
{
	tool_usage_error("%s: '%s' is %s", option, text, why);
	return false;
}

/* Digits only: strtoull() alone would take blanks and signs. */
static bool parse_digits(const char *text, int base, uint64_t *out, const char **end,
			 bool *overflow)
{
	char *stop;

	*overflow = false;
	if (base == 16 ? !isxdigit((unsigned char)*text) : !isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*out = strtoull(text, &stop, base);
	*overflow = errno == ERANGE;
	*end = stop;
	return true;
}

bool tool_parse_u64(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *end;
	bool overflow;
	uint64_t n;

	if (!parse_digits(text, 10, &n, &end, &overflow) || *end)
		return bad_argument(option, text, "not a number");
	if (overflow || n < min || n > max) {
		tool_usage_error("%s: %s is not within %llu..%llu", option, text,
				 (unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*out = n;
	return true;
}

bool tool_parse_hex(const char *option, const char *text, uint64_t *out)
{
	const char *digits = text, *end;
	bool overflow;
	uint64_t n;

	if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
		digits += 2;
	if (!parse_digits(digits, 16, &n, &end, &overflow) || *end)
		return bad_argument(option, text, "not a hexadecimal number");
	if (overflow)
		return bad_argument(option, text, "too large");
	*out = n;
	return true;
}

bool tool_parse_double(const char *option, const char *text, double min, double max, double *out)
{
	char *end;
	double d;

	errno = 0;
	d = strtod(text, &end);
	if (end == text || *end || errno || isspace((unsigned char)*text) || !isfinite(d))
		return bad_argument(option, text, "not a number");
	if (d < min || d > max) {
		tool_usage_error("%s: %s is not within %g..%g", option, text, min, max);
		return false;
	}
	*out = d;
	return true;
}

bool tool_parse_size(const char *option, const char *text, uint64_t *out)
{
	unsigned int shift = 0;
	const char *end;
	bool overflow;
	uint64_t n;

	if (!parse_digits(text, 10, &n, &end, &overflow))
		return bad_argument(option, text,
				    "not a size; sizes are numbers, with K, M, G or T");
	switch (*end) {
	case 'K':
	case 'k':
		shift = 10;
		break;
	case 'M':
	case 'm':
		shift = 20;
		break;
	case 'G':
	case 'g':
		shift = 30;
		break;
	case 'T':
	case 't':
		shift = 40;
		break;
	}
	if (end[shift ? 1 : 0])
		return bad_argument(option, text,
				    "not a size; sizes are numbers, with K, M, G or T");
	if (overflow || n > (uint64_t)INT64_MAX >> shift) /* JSON's numbers have a sign */
		return bad_argument(option, text, "too large for a size");
	*out = n << shift;
	return true;
}

static size_t edit_distance(const char *a, const char *b)
{
	size_t row[64], len = strlen(b);

	if (len >= sizeof(row) / sizeof(row[0]))
		return SIZE_MAX;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < len; j++) {
			size_t change = diagonal + (tolower((unsigned char)a[i]) != b[j]);
			size_t shift = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;

			diagonal = row[j + 1];
			row[j + 1] = change < shift ? change : shift;
		}
	}
	return row[len];
}

/* Which of the names was meant, most likely? NULL if none is near. */
static const char *closest(const char *text, const char *const *names)
{
	size_t len = strlen(text), best = len / 3 + 1;
	const char *found = NULL;

	for (int i = 0; names[i]; i++) {
		size_t d = len > 2 && !strncasecmp(text, names[i], len)
				   ? 0
				   : edit_distance(text, names[i]);

		if (d < best) {
			best = d;
			found = names[i];
		}
	}
	return found;
}

int tool_parse_choice(const char *option, const char *text, const char *const *names)
{
	const char *near = closest(text, names);
	char list[256] = "";
	size_t len = 0;

	for (int i = 0; names[i]; i++) {
		int n;

		if (!strcmp(names[i], text))
			return i;
		n = snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "", names[i]);
		if (n > 0 && (size_t)n < sizeof(list) - len)
			len += (size_t)n;
	}
	tool_usage_error("%s: '%s' is none of: %s%s%s%s", option, text, list,
			 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	return -1;
}

/* ---- the checked variant ---- */

int tool_exec_checked(void)
{
#ifdef UHMM_CHECKED
	return TOOL_OK;
#else
	static const char program[] = "uhmm-checked";
	static char name[] = "uhmm-checked";
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - sizeof(program));
	char *slash;

	fflush(stdout);
	tool.argv[0] = name;
	if (len > 0) {
		path[len] = '\0';
		slash = strrchr(path, '/');
		if (slash) {
			strcpy(slash + 1, program);
			execv(path, tool.argv);
		}
	}
	execvp(program, tool.argv);
	return tool_error("%s is neither beside this program nor in PATH: %s", program,
			  strerror(errno));
#endif
}

/* ---- numbers ---- */

const char *tool_fmt_count(char buf[TOOL_NUMBER], uint64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	char *p = buf;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*p++ = ',';
		*p++ = digits[i];
	}
	*p = '\0';
	return buf;
}

const char *tool_fmt_bytes(char buf[TOOL_NUMBER], uint64_t bytes)
{
	static const char *const unit[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double d = (double)bytes;
	int i = -1;

	if (bytes < 1024) {
		snprintf(buf, TOOL_NUMBER, "%llu B", (unsigned long long)bytes);
		return buf;
	}
	while (d >= 1024 && i < 5) {
		d /= 1024;
		i++;
	}
	snprintf(buf, TOOL_NUMBER, "%.1f %s", d, unit[i]);
	return buf;
}

const char *tool_fmt_seconds(char buf[TOOL_NUMBER], double seconds)
{
	unsigned long whole = (unsigned long)(seconds + 0.5);

	if (seconds < 100)
		snprintf(buf, TOOL_NUMBER, "%.1f s", seconds);
	else if (whole < 3600)
		snprintf(buf, TOOL_NUMBER, "%lu min %02lu s", whole / 60, whole % 60);
	else
		snprintf(buf, TOOL_NUMBER, "%lu h %02lu min", whole / 3600, whole % 3600 / 60);
	return buf;
}

const char *tool_fmt_ns(char buf[TOOL_NUMBER], double ns)
{
	if (ns < 1e3)
		snprintf(buf, TOOL_NUMBER, "%.3g ns", ns);
	else if (ns < 1e6)
		snprintf(buf, TOOL_NUMBER, "%.2f us", ns / 1e3);
	else if (ns < 1e9)
		snprintf(buf, TOOL_NUMBER, "%.2f ms", ns / 1e6);
	else
		snprintf(buf, TOOL_NUMBER, "%.3f s", ns / 1e9);
	return buf;
}
