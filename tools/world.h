/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * world.h - a modelled machine as a vector sees it: processes, and devices whose files open at
 * first use.
 */
#ifndef UHMM_WORLD_H
#define UHMM_WORLD_H

#include <uhmm/uhmm.h>

#include "vector.h"

struct world;

/**
 * world_new() - a fresh machine with the process p0 and nothing mapped
 * @content: what pages hold
 * @out: (out) to be freed with world_free()
 * Returns: 0 or a negative errno.
 */
int world_new(enum uhmm_content content, struct world **out);

/* The devices of this world have the faults of the driver that answers were recorded with. */
void world_as_recorded(struct world *w);
/** world_use_pfn_space() - where device-private pages have their numbers in worlds to come. */
void world_use_pfn_space(enum uhmm_device_pfn_space space);

/** world_free() - end all processes and the machine; NULL allowed. */
void world_free(struct world *w);

/** world_end() - end all processes. */
void world_end(struct world *w);

/** world_machine() - the machine. */
struct uhmm_machine *world_machine(struct world *w);

/** world_mm() - address space of a process, or NULL. */
struct uhmm_mm *world_mm(struct world *w, unsigned int proc);

/** world_enter() - make the thread run as a process; pair with world_leave(). */
void world_enter(struct world *w, unsigned int proc);
void world_leave(struct world *w);

/**
 * world_run() - do an operation
 * @w: world
 * @op: operation
 * @values: first words of the pages for DEV_WRITE, or NULL for those of op->value
 * @out: (out) the answer, to be freed with vec_answer_free()
 *
 * Pages that hold anything but their first 8 bytes are answered with VEC_NOT_RUN and a reason,
 * for nothing in a vector can put it there.
 */
void world_run(struct world *w, const struct vec_op *op, const uint64_t *values,
	       struct vec_answer *out);

/**
 * world_verify() - run the model's verifier
 * Returns: true if it is content, and no other violation was reported since the last call.
 * What was reported is in world_reports().
 */
bool world_verify(struct world *w);

/** world_reports() - what the machine reported since the last call, a line each; "" for nothing.
 * Lifetime: until the next call on @w. */
const char *world_reports(struct world *w);

#endif /* UHMM_WORLD_H */
