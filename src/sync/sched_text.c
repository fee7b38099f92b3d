// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/sched_text.h"

#if UHMM_CHECKED

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "T4294967295*1073741823 " */
#define MAX_WORD 24

static bool append(struct uhmm__steps *s, struct uhmm__step step)
{
	if (s->nr == s->size) {
		size_t size = s->size ? s->size * 2 : 256;
		struct uhmm__step *v = realloc(s->v, size * sizeof(*v));

		if (!v)
			return false;
		s->v = v;
		s->size = size;
	}
	s->v[s->nr++] = step;
	return true;
}

void uhmm__steps_append(struct uhmm__steps *s, struct uhmm__step step)
{
	struct uhmm__step *last = s->nr ? &s->v[s->nr - 1] : NULL;

	if (last && last->index == step.index && last->kind == step.kind &&
	    last->count <= UHMM__MAX_STEP_COUNT - step.count)
		last->count += step.count;
	else if (!append(s, step))
		s->lost = true;
}

void uhmm__steps_push(struct uhmm__steps *s, uint32_t index, enum uhmm__step_kind kind)
{
	uhmm__steps_append(s, (struct uhmm__step){ index, kind, 1 });
}

bool uhmm__steps_end_fairly(const struct uhmm__steps *s)
{
	return s->nr && s->v[s->nr - 1].kind == UHMM__STEP_FAIR;
}

/* A decimal number up to @max; false if there is none. */
static bool number(const char **p, uint32_t max, uint32_t *out)
{
	uint64_t n = 0;

	if (!isdigit((unsigned char)**p))
		return false;
	for (; isdigit((unsigned char)**p); (*p)++) {
		n = n * 10 + (uint64_t)(**p - '0');
		if (n > max)
			return false;
	}
	*out = (uint32_t)n;
	return true;
}

static const char *skip_blank(const char *p)
{
	for (;; p++) {
		if (*p == '#')
			p += strcspn(p, "\n");
		if (!*p || !isspace((unsigned char)*p))
			return p;
	}
}

static const char letters[] = "TWCF"; /* by kind */

char uhmm__step_letter(const struct uhmm__step *step)
{
	return letters[step->kind];
}

static bool parse_word(const char **p, struct uhmm__step *step)
{
	const char *letter = **p ? strchr(letters, **p) : NULL;
	uint32_t max = letter && *letter == 'C' ? UHMM__MAX_CLOCK : UINT32_MAX;
	uint32_t count = 1;
	bool numbered;

	if (!letter)
		return false;
	step->kind = (unsigned int)(letter - letters) & 3;
	numbered = step->kind != UHMM__STEP_FAIR;
	(*p)++;
	if (numbered && !number(p, max, &step->index))
		return false;
	if (numbered && **p == '*' && ((*p)++, !number(p, UHMM__MAX_STEP_COUNT, &count)))
		return false;
	step->count = count;
	return !**p || **p == '#' || isspace((unsigned char)**p);
}

int uhmm__steps_parse(struct uhmm__steps *s, const char *text, const char **bad)
{
	struct uhmm__steps parsed = { 0 };
	const char *p, *word;
	int ret = 0;

	for (p = skip_blank(text); *p && !ret; p = skip_blank(p)) {
		struct uhmm__step step = { 0 };

		word = p;
		if (uhmm__steps_end_fairly(&parsed) || !parse_word(&p, &step))
			ret = -EINVAL;
		else if (step.count && !append(&parsed, step))
			ret = -ENOMEM;
		if (ret == -EINVAL && bad)
			*bad = word;
	}
	if (ret) {
		uhmm__steps_free(&parsed);
		return ret;
	}
	uhmm__steps_free(s);
	*s = parsed;
	return 0;
}

char *uhmm__steps_format(const struct uhmm__steps *s)
{
	char *text = s->lost ? NULL : malloc(s->nr * MAX_WORD + 1), *p = text;

	if (!text)
		return NULL;
	*p = '\0';
	for (size_t i = 0; i < s->nr; i++) {
		const struct uhmm__step *step = &s->v[i];

		p += sprintf(p, "%s%c", i ? " " : "", uhmm__step_letter(step));
		if (step->kind != UHMM__STEP_FAIR)
			p += sprintf(p, "%u", step->index);
		if (step->count > 1)
			p += sprintf(p, "*%u", (unsigned int)step->count);
	}
	return text;
}

void uhmm__steps_free(struct uhmm__steps *s)
{
	free(s->v);
	*s = (struct uhmm__steps){ 0 };
}

#endif /* UHMM_CHECKED */
