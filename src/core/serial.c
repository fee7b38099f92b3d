// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/serial.h"

#if UHMM_CHECKED

#include <string.h>

size_t uhmm__serials_in(const uint64_t *w, size_t n)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += uhmm__is_serial(w[i]);
	return found;
}

void uhmm__serials_know(struct uhmm__serials *s, uint64_t value)
{
	unsigned int i = s->nr_values;

	while (i && s->values[i - 1] > value)
		i--;
	if (i && s->values[i - 1] == value)
		return;
	if (s->nr_values == UHMM__SERIALS) {
		s->lost = true;
		return;
	}
	memmove(s->values + i + 1, s->values + i, (s->nr_values - i) * sizeof(*s->values));
	s->values[i] = value;
	s->nr_values++;
}

void uhmm__serials_know_saved(struct uhmm__serials *s, const struct uhmm__serials *saved)
{
	for (unsigned int i = 0; i < saved->nr_values; i++)
		uhmm__serials_know(s, saved->values[i]);
	s->lost |= saved->lost;
	s->saved = saved;
}

/* In whatever order they are added. */
static struct uhmm__hash sum(struct uhmm__hash h, uint64_t at, uint64_t value)
{
	const uint64_t words[] = { at, value };
	struct uhmm__hash x = uhmm__hash_bytes(words, sizeof(words), (struct uhmm__hash){ 0, 0 });

	return (struct uhmm__hash){ h.lo + x.lo, h.hi + x.hi };
}

void uhmm__serials_add(struct uhmm__serials *s, uint64_t at, uint64_t value)
{
	uhmm__serials_know(s, value);
	s->exact = sum(s->exact, at, value);
	if (s->nr < UHMM__SERIALS)
		s->v[s->nr] = (struct uhmm__serial){ at, value };
	else
		s->lost = true;
	s->nr++;
}

/* What stands for each: neighbours stay neighbours, and of what lies further apart the parity is left. */
static void rename(const struct uhmm__serials *s, uint64_t *names)
{
	uint64_t last = UHMM__SERIAL, name = 0;

	for (unsigned int i = 0; i < s->nr_values; i++) {
		uint64_t apart = s->values[i] - last;

		name += apart <= 2 ? apart : 4 - (apart & 1);
		names[i] = name;
		last = s->values[i];
	}
}

static uint64_t name_of(const struct uhmm__serials *s, const uint64_t *names, uint64_t value)
{
	unsigned int i = 0;

	while (s->values[i] != value)
		i++;
	return names[i];
}

struct uhmm__hash uhmm__serials_hash(const struct uhmm__serials *s, struct uhmm__hash h)
{
	uint64_t names[UHMM__SERIALS];
	struct uhmm__hash all = { 0, 0 };

	if (!s->nr)
		return h;
	if (s->lost)
		return uhmm__hash_bytes(&s->exact, sizeof(s->exact), h);
	rename(s, names);
	for (unsigned int i = 0; i < s->nr; i++)
		all = sum(all, s->v[i].at, name_of(s, names, s->v[i].value));
	/* No address is as small as this number. */
	for (unsigned int i = 0; s->saved && i < s->saved->nr_values; i++)
		all = sum(all, i, name_of(s, names, s->saved->values[i]));
	h = uhmm__hash_bytes(names, s->nr_values * sizeof(*names), h);
	return uhmm__hash_bytes(&all, sizeof(all), h);
}

#endif /* UHMM_CHECKED */
