/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fiber.h - stacks and the switch between them (checked build). */
#ifndef UHMM_SYNC_FIBER_H
#define UHMM_SYNC_FIBER_H

#include "core/compiler.h"

#if UHMM_CHECKED

#if defined(__x86_64__) && !defined(UHMM_UCONTEXT)
#define UHMM__FIBER_ASM 1
#else
#define UHMM__FIBER_ASM 0
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define UHMM__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UHMM__ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define UHMM__TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define UHMM__TSAN 1
#endif

/*
 * Whether what a task that does not run knows is all on its stack, so that it can be brought back there
 * by copying. The sanitizers know more of a stack than what is on it.
 */
#if UHMM__FIBER_ASM && !defined(UHMM__ASAN) && !defined(UHMM__TSAN)
#define UHMM__STACKS_COPY true
#else
#define UHMM__STACKS_COPY false
#endif

#define UHMM__STACK_SIZE (256UL * 1024)

struct uhmm__context {
	void *sp; /* when it was left */
#if !UHMM__FIBER_ASM
	ucontext_t uc;
#endif
	void (*entry)(void *arg); /* never returns */
	void *arg;
	void *stack; /* the mapping; NULL for the host's own stack */
	/* For the sanitizers, which follow stacks. */
	struct uhmm__context *came_from;
	const void *bottom;
	size_t size;
	void *fake_stack;
	void *tsan;
};

/* A stack from the host. Returns: 0 or -ENOMEM. */
int uhmm__context_alloc(struct uhmm__context *c);
void uhmm__context_free(struct uhmm__context *c);

/* Let a context with a stack begin at @entry, which must not return. */
void uhmm__context_start(struct uhmm__context *c, void (*entry)(void *arg), void *arg);

/* The context of the calling host thread. */
void uhmm__context_host(struct uhmm__context *c);

/* @host's stack is in use again, after a jump (longjmp()) from that of a context. */
void uhmm__context_jumped_back(struct uhmm__context *host);

/* @ends: nobody will switch back to @from. */
void uhmm__context_switch(struct uhmm__context *from, struct uhmm__context *to, bool ends);

#endif
#endif /* UHMM_SYNC_FIBER_H */
