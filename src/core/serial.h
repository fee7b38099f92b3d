/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * serial.h - sequence numbers, which make no two states differ that are the same but for them.
 *
 * Checked build. A sequence number goes up for ever, and a loop that moves it on each round would never
 * come back to a state. But all that anybody does with one is to ask whether it is equal to another that
 * was copied before, whether it is odd, and what is next to it. So states in which all of them lie alike,
 * by their order, their parity and which are neighbours, are one state to a hash: they go on alike.
 *
 * To be known where they are copied to, they begin at UHMM__SERIAL, and are whole words.
 */
#ifndef UHMM_CORE_SERIAL_H
#define UHMM_CORE_SERIAL_H

#include "core/compiler.h"

#if UHMM_CHECKED

/* A value that nothing else has: no address, no small number, no entry of a table, no pattern. */
#define UHMM__SERIAL (0x5e91a1b3UL << 32)

struct uhmm__hash {
	uint64_t lo, hi;
};

static inline bool uhmm__same_hash(struct uhmm__hash a, struct uhmm__hash b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

/* Of @size bytes and of what came before them, @h. */
struct uhmm__hash uhmm__hash_bytes(const void *p, size_t size, struct uhmm__hash h);

enum { UHMM__SERIALS = 512 };

/* Those of a state. */
struct uhmm__serials {
	unsigned int nr, nr_values;
	bool lost;		 /* there are more: they count as they are */
	struct uhmm__hash exact; /* of all as they are */
	struct uhmm__serial {
		uint64_t at, value;
	} v[UHMM__SERIALS];
	uint64_t values[UHMM__SERIALS]; /* that there are, sorted */
	/* Of those that are as they were saved, wherever they are: the values of these. NULL: none. */
	const struct uhmm__serials *saved;
};

/* None. The rest of it, which is long, need not be zeroes. */
static inline void uhmm__serials_init(struct uhmm__serials *s)
{
	s->nr = s->nr_values = 0;
	s->lost = false;
	s->exact = (struct uhmm__hash){ 0, 0 };
	s->saved = NULL;
}

static inline bool uhmm__is_serial(uint64_t word)
{
	return word >> 32 == UHMM__SERIAL >> 32;
}

/* Of @n words; 0 mostly. */
size_t uhmm__serials_in(const uint64_t *w, size_t n);

/* There is one of this value. */
void uhmm__serials_know(struct uhmm__serials *s, uint64_t value);

/* Those of @saved's values, which are where they are in every state. It must outlive @s. */
void uhmm__serials_know_saved(struct uhmm__serials *s, const struct uhmm__serials *saved);

/* One is at address @at, and need not be. */
void uhmm__serials_add(struct uhmm__serials *s, uint64_t at, uint64_t value);

/* Of all, and of @h; @h if none was added. */
struct uhmm__hash uhmm__serials_hash(const struct uhmm__serials *s, struct uhmm__hash h);

#else
#define UHMM__SERIAL 0UL
#endif
#endif /* UHMM_CORE_SERIAL_H */
