/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace_parse.h - scanning words and numbers of a line.
 *
 * A line ends in a NUL that belongs to no word, so nothing here needs its length. Scanners return
 * the place behind what they read, or NULL if it is not there.
 */
#ifndef UHMM_REPLAY_TRACE_PARSE_H
#define UHMM_REPLAY_TRACE_PARSE_H

#include <string.h>

#include <uhmm/types.h>

#include "core/compiler.h"

static inline bool is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Of each character: 0 to 15, or 16 if it is no hexadecimal digit. */
extern const unsigned char uhmm__trace_hex[256];

static inline unsigned int hex_digit(char c)
{
	return uhmm__trace_hex[(unsigned char)c];
}

/* Up to 7 bytes behind the NUL are read; a line's buffer has them. */
static inline char *skip_blanks(char *p)
{
	uint64_t eight;

	if (!is_blank(*p))
		return p;
	while (memcpy(&eight, p, sizeof(eight)), eight == 0x2020202020202020)
		p += sizeof(eight);
	while (is_blank(*p))
		p++;
	return p;
}

static inline char *skip_word(char *p)
{
	while (*p && !is_blank(*p))
		p++;
	return p;
}

/* Up to 16 hexadecimal digits, without 0x. */
static inline char *scan_hex(char *p, uint64_t *out)
{
	char *start = p;
	uint64_t v = 0;
	unsigned int d;

	while ((d = hex_digit(*p)) < 16) {
		v = v << 4 | d;
		p++;
	}
	if (p == start || p - start > 16)
		return NULL;
	*out = v;
	return p;
}

static inline char *scan_dec(char *p, uint64_t *out)
{
	char *start = p;
	uint64_t v = 0;

	while (is_digit(*p))
		v = v * 10 + (uint64_t)(*p++ - '0');
	/* 19 digits always fit; 20 do if they begin with 1 and it is above 10^19 still. */
	if (p == start || p - start > 20 ||
	    (p - start == 20 && (*start != '1' || v < 10000000000000000000ULL)))
		return NULL;
	*out = v;
	return p;
}

/* 0x... in hexadecimal, anything else in decimal. */
static inline char *scan_number(char *p, uint64_t *out)
{
	if (p[0] == '0' && (p[1] | 0x20) == 'x')
		return scan_hex(p + 2, out);
	return scan_dec(p, out);
}

/* A process or thread number; -1 is one. */
static inline char *scan_pid(char *p, int32_t *out)
{
	bool minus = *p == '-';
	uint64_t v;

	p = scan_dec(p + minus, &v);
	if (!p || v > INT32_MAX)
		return NULL;
	*out = minus ? -(int32_t)v : (int32_t)v;
	return p;
}

static inline char *scan_char(char *p, char c)
{
	return *p == c ? p + 1 : NULL;
}

/* The text, if it is there. */
static inline char *scan_text(char *p, const char *text)
{
	size_t n = strlen(text);

	return strncmp(p, text, n) ? NULL : p + n;
}

#endif /* UHMM_REPLAY_TRACE_PARSE_H */
