/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * conform.h - what the two ways to run a vector share.
 */
#ifndef UHMM_CONFORM_H
#define UHMM_CONFORM_H

#include <uhmm/uhmm.h>

#include "vector.h"
#include "world.h"

/* Differences of one case that are printed without -v. */
#define CONFORM_SHOWN 8

struct conform {
	bool verbose;
	enum uhmm_content content;
	/* of the case that runs */
	const struct vector *vector;
	const struct vec_case *c;
	unsigned int differences;
};

/** conform_case() - run the case against its answers. Returns: true if it passes. */
bool conform_case(struct conform *r);

/** conform_differential() - run the case on two machines. Returns: true if it passes. */
bool conform_differential(struct conform *r);

/** conform_begin() - the heading of a case, with -v; @how NULL or what sets this run apart. */
void conform_begin(const struct conform *r, const char *how);

/**
 * conform_differ() - count a difference and print its first line: file, line, case, operation
 * @op: the operation; NULL for the end of the case
 * @what: more about it, or NULL
 * Returns: true if the caller shall print the details.
 */
bool conform_differ(struct conform *r, const struct vec_op *op, const char *what);

/** conform_line() - print an indented line; @label may be NULL. */
void conform_line(const char *label, const char *text);

/** conform_answer() - conform_line() with an answer. */
void conform_answer(const char *label, const struct vec_answer *a);

/** conform_exchange() - print an operation and its answer as a vector has them. */
void conform_exchange(const struct vec_op *op, const struct vec_answer *got);

/** conform_verify() - verify @w after @op and print what is wrong. Returns: true if all is well. */
bool conform_verify(struct conform *r, struct world *w, const struct vec_op *op);

/** conform_end() - how many more differences there were. */
void conform_end(const struct conform *r);

#endif /* UHMM_CONFORM_H */
