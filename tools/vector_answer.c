// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * vector_answer.c - answer lines: text to values and back.
 *
 * Answers are compared by value, so that two spellings of one list agree.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"
#include "vector.h"

void vec_answer_free(struct vec_answer *a)
{
	free(a->list);
	a->list = NULL;
	a->n = 0;
}

bool vec_answer_equal(const struct vec_answer *expected, const struct vec_answer *got)
{
	if (expected->status == VEC_ANY)
		return got->status != VEC_NOT_MODELLED && got->status != VEC_NOT_RUN;
	return expected->status == got->status && expected->number == got->number &&
	       expected->has_cpages == got->has_cpages && expected->cpages == got->cpages &&
	       expected->has_faults == got->has_faults && expected->faults == got->faults &&
	       expected->kind == got->kind && expected->n == got->n &&
	       (!got->n || !memcmp(expected->list, got->list, got->n * sizeof(*got->list)));
}

/* ---- text to values ---- */

struct cursor {
	const char *p;
};

static bool take_number(struct cursor *c, int base, unsigned int digits, uint64_t *out)
{
	char text[32];
	unsigned int len = 0;

	while (len < digits && len < sizeof(text) - 1 &&
	       (base == 16 ? isxdigit((unsigned char)*c->p) : isdigit((unsigned char)*c->p)))
		text[len++] = *c->p++;
	text[len] = '\0';
	if (!len || (base == 16 && len != digits))
		return false;
	errno = 0;
	*out = strtoull(text, NULL, base);
	return !errno;
}

static bool add_values(struct vec_answer *a, uint64_t first, uint64_t step, uint64_t count)
{
	if (count > VEC_MAX_PAGES - a->n)
		return false;
	a->list = tool_xgrow(a->list, a->n + count, sizeof(*a->list));
	for (uint64_t i = 0; i < count; i++)
		a->list[a->n++] = first + i * step;
	return true;
}

/* LIST: A..B counts up by one, VxK is K times V. BYTES: two hex digits, xK. */
static const char *take_list(struct cursor *c, struct vec_answer *a)
{
	bool bytes = a->kind != VEC_LIST_DATA;

	for (;;) {
		uint64_t first, last, count = 1, step = 0;

		if (bytes ? !take_number(c, 16, 2, &first) : !take_number(c, 10, 20, &first))
			return bytes ? "two hexadecimal digits expected in the list"
				     : "a number expected in the list";
		if (*c->p == 'x') {
			c->p++;
			if (!take_number(c, 10, 20, &count) || !count)
				return "a count expected after 'x'";
		} else if (!bytes && !strncmp(c->p, "..", 2)) {
			c->p += 2;
			if (!take_number(c, 10, 20, &last) || last < first)
				return "a larger number expected after '..'";
			step = 1;
			count = last - first < VEC_MAX_PAGES ? last - first + 1 : UINT64_MAX;
		}
		if (!add_values(a, first, step, count))
			return "too many values in the list";
		if (*c->p != ',')
			return NULL;
		c->p++;
	}
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(c->p, word, len))
		return false;
	c->p += len;
	return true;
}

static bool at_end(const struct cursor *c)
{
	return !*c->p || *c->p == ' ';
}

/* One "name=value" after "ok". */
static const char *take_field(struct cursor *c, struct vec_answer *a)
{
	static const char twice[] = "a field is there twice";
	bool *has = NULL;
	uint64_t *to = NULL;

	if (take_word(c, "cpages=")) {
		has = &a->has_cpages;
		to = &a->cpages;
	} else if (take_word(c, "faults=")) {
		has = &a->has_faults;
		to = &a->faults;
	}
	if (has) {
		if (*has)
			return twice;
		*has = true;
		return take_number(c, 10, 20, to) ? NULL : "a number expected after '='";
	}
	if (a->kind != VEC_LIST_NONE)
		return twice;
	if (take_word(c, "data="))
		a->kind = VEC_LIST_DATA;
	else if (take_word(c, "perm="))
		a->kind = VEC_LIST_PERM;
	else if (take_word(c, "map="))
		a->kind = VEC_LIST_MAP;
	else
		return "unknown field; known are cpages=, faults=, data=, perm= and map=";
	return take_list(c, a);
}

static const char *take_errno(struct cursor *c, struct vec_answer *a)
{
	size_t len = strcspn(c->p, " ");

	/* Names of errno values are few: look for the one that reads so. */
	for (int err = 1; err < 256; err++) {
		const char *name = tool_errno_name(err);

		if (strlen(name) == len && !strncmp(name, c->p, len)) {
			a->number = (uint64_t)err;
			c->p += len;
			return NULL;
		}
	}
	return "the name of an error expected after 'err='";
}

const char *vec_answer_parse(const char *text, struct vec_answer *out)
{
	struct cursor c = { text + strspn(text, " ") };
	const char *wrong = NULL;

	memset(out, 0, sizeof(*out));
	if (take_word(&c, "?")) {
		out->status = VEC_ANY;
	} else if (take_word(&c, "err=")) {
		out->status = VEC_ERR;
		wrong = take_errno(&c, out);
	} else if (take_word(&c, "sigsegv@") || take_word(&c, "sigbus@")) {
		out->status = c.p[-2] == 'v' ? VEC_SIGSEGV : VEC_SIGBUS;
		if (!take_number(&c, 10, 20, &out->number))
			wrong = "a number expected after '@'";
	} else if (take_word(&c, "ok") && at_end(&c)) {
		out->status = VEC_OK;
		while (!wrong && *(c.p += strspn(c.p, " "))) {
			wrong = take_field(&c, out);
			if (!wrong && !at_end(&c))
				wrong = "something follows a value";
		}
	} else {
		wrong = "an answer is ok, err=NAME, sigsegv@PAGE or sigbus@PAGE";
	}
	c.p += strspn(c.p, " ");
	if (!wrong && *c.p)
		wrong = "something follows the answer";
	if (wrong)
		vec_answer_free(out);
	return wrong;
}

/* ---- values to text ---- */

static void format_list(FILE *f, const struct vec_answer *a)
{
	bool bytes = a->kind != VEC_LIST_DATA;
	size_t run;

	for (size_t i = 0; i < a->n; i += run) {
		unsigned long long v = a->list[i];

		for (run = 1; i + run < a->n && a->list[i + run] == v;)
			run++;
		fprintf(f, bytes ? "%s%02llx" : "%s%llu", i ? "," : "", v);
		if (run > 1) {
			fprintf(f, "x%zu", run);
			continue;
		}
		if (bytes)
			continue;
		while (i + run < a->n && a->list[i + run] == v + run)
			run++;
		if (run > 1)
			fprintf(f, "..%llu", v + run - 1);
	}
}

static void format(FILE *f, const struct vec_answer *a)
{
	static const char *const list[] = {
		[VEC_LIST_DATA] = " data=",
		[VEC_LIST_PERM] = " perm=",
		[VEC_LIST_MAP] = " map=",
	};

	switch (a->status) {
	case VEC_ANY:
		fputc('?', f);
		break;
	case VEC_OK:
		fputs("ok", f);
		if (a->has_cpages)
			fprintf(f, " cpages=%llu", (unsigned long long)a->cpages);
		if (a->has_faults)
			fprintf(f, " faults=%llu", (unsigned long long)a->faults);
		if (a->kind != VEC_LIST_NONE) {
			fputs(list[a->kind], f);
			format_list(f, a);
		}
		break;
	case VEC_ERR:
		fprintf(f, "err=%s", tool_errno_name((int)a->number));
		break;
	case VEC_SIGSEGV:
	case VEC_SIGBUS:
		fprintf(f, "%s@%llu", a->status == VEC_SIGSEGV ? "sigsegv" : "sigbus",
			(unsigned long long)a->number);
		break;
	case VEC_NOT_MODELLED:
		fprintf(f, "not modelled yet%s%s", a->why ? ": " : "", a->why ? a->why : "");
		break;
	case VEC_NOT_RUN:
		fprintf(f, "not run: %s", a->why);
		break;
	}
}

char *vec_answer_format(const struct vec_answer *a)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return tool_xstrdup("?");
	format(f, a);
	if (fclose(f) || !text) {
		free(text);
		return tool_xstrdup("?");
	}
	return text;
}
