/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sched_text.h - schedules, as steps and as text (checked build). */
#ifndef UHMM_SYNC_SCHED_TEXT_H
#define UHMM_SYNC_SCHED_TEXT_H

#include "core/compiler.h"

enum uhmm__step_kind { UHMM__STEP_TASK, UHMM__STEP_WORKER, UHMM__STEP_CLOCK, UHMM__STEP_FAIR };

/*
 * A task is chosen so many times running; or the clock is put forward so many times; or, which is the
 * last, all that follows is fair.
 */
struct uhmm__step {
	uint32_t index; /* of a spawned task; of a CPU, for its worker; 2^index seconds */
	uint32_t kind : 2, count : 30;
};

#define UHMM__MAX_STEP_COUNT 0x3fffffffU

/* The most that the clock is put forward by at once: 2^this seconds. */
#define UHMM__MAX_CLOCK 32

/* Memory is libc's: neither counted nor made to fail with the machine's. */
struct uhmm__steps {
	struct uhmm__step *v;
	size_t nr, size;
	bool lost; /* there was no memory for some */
};

/*
 * @bad: (out) with -EINVAL, the word that is none; NULL allowed. Returns: 0, -EINVAL, -ENOMEM; @s is
 * replaced.
 */
int uhmm__steps_parse(struct uhmm__steps *s, const char *text, const char **bad);
/* Appends a word, joined with the last if that is the same task's; sets lost without memory. */
void uhmm__steps_append(struct uhmm__steps *s, struct uhmm__step step);
/* Appends one choice. */
void uhmm__steps_push(struct uhmm__steps *s, uint32_t index, enum uhmm__step_kind kind);
/* "T3", "W0", "C1", "F": what it is about. */
char uhmm__step_letter(const struct uhmm__step *step);
/* The last word is F. */
bool uhmm__steps_end_fairly(const struct uhmm__steps *s);
/* Text to free(), or NULL. */
char *uhmm__steps_format(const struct uhmm__steps *s);
void uhmm__steps_free(struct uhmm__steps *s);

#endif /* UHMM_SYNC_SCHED_TEXT_H */
