/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * machine.h - the root that everything hangs off.
 *
 * The structure names the state of every layer by pointer, so that a layer finds its own without
 * knowing the others'. mm/machine.c builds and frees a whole machine.
 */
#ifndef UHMM_CORE_MACHINE_H
#define UHMM_CORE_MACHINE_H

#include <stdarg.h>

#include <uhmm/machine.h>

#include "core/allocator.h"
#include "core/compiler.h"
#include "core/list.h"

struct uhmm__frame;
struct uhmm__frames;
struct uhmm__sync;
struct uhmm__tables;
struct uhmm__pgmaps;
struct uhmm__mms;
struct uhmm__swap;
struct uhmm__reclaim;
struct uhmm__tlbs;
struct uhmm__files;

struct uhmm__inject {
	_Atomic uint64_t countdown; /* 0 = off; counts down to the first failure */
	_Atomic uint64_t times;	    /* failures left once the countdown has ended */
};

struct uhmm_machine {
	/* Hot, constant after creation. */
	struct uhmm__frame *vmemmap; /* [const] descriptor of pfn i */
	_Atomic uint64_t *tags;	     /* [const] tag contents, or NULL */
	uint8_t *bytes;		     /* [const] byte contents, or NULL */
	uhmm_pfn_t zero_pfn;	     /* [const] the zero page */
	/* The huge zero page, 0 until it is first mapped. [atomic] set once */
	_Atomic uhmm_pfn_t huge_zero_pfn;
	uhmm_pfn_t ram_frames;	/* [const] pfns [0, ram_frames) are RAM */
	uhmm_pfn_t device_base; /* [const] pfns from here on are device memory */
	uhmm_pfn_t end_pfn;	/* [const] end of the physical pfn space */
	size_t own_base;	/* [const] frames from here on have pfns of the device space */
	size_t nr_frames;	/* [const] all of them, of either space */
	struct uhmm_machine_config config;

	/* Each layer's own. */
	struct uhmm__sync *sync;
	struct uhmm__tables *tables;
	struct uhmm__frames *frames;
	struct uhmm__pgmaps *pgmaps;
	struct uhmm__mms *mms;
	struct uhmm__swap *swap; /* NULL: there is none */
	struct uhmm__reclaim *reclaim;
	struct uhmm__tlbs *tlbs;
	struct uhmm__files *files;
	struct uhmm__deferred *deferred; /* large folios that are mapped in part */

	/* core */
	struct uhmm__allocator allocator; /* [const] for the containers */
	unsigned int arena;		  /* [const] jemalloc arena of the metadata */
	_Atomic uint64_t alloc_bytes;	  /* [atomic] bytes handed out by core/alloc.c */
	_Atomic uint64_t reports;	  /* [atomic] */
	_Atomic bool inject_armed;	  /* [atomic] any of the below is on */
	struct uhmm__inject inject[UHMM_NR_INJECT];
};

/**
 * uhmm__report() - tell the machine's owner
 * @m: machine
 * @kind: class
 * @fmt: printf format, no trailing newline
 */
void uhmm__report(struct uhmm_machine *m, enum uhmm_report_kind kind, const char *fmt, ...)
	uhmm_printf(3, 4);

bool uhmm__inject_slow(struct uhmm_machine *m, enum uhmm_inject site);

/* True if the allocation about to be made must fail. */
static inline bool uhmm__inject(struct uhmm_machine *m, enum uhmm_inject site)
{
	if (likely(!load_relaxed(&m->inject_armed)))
		return false;
	return uhmm__inject_slow(m, site);
}

/* A broken invariant of the model itself: reports file and line, then aborts. */
_Noreturn void uhmm__bug(struct uhmm_machine *m, const char *file, int line, const char *what);

#define UHMM_BUG_ON(m, cond)                                                                       \
	do {                                                                                       \
		if (unlikely(cond))                                                                \
			uhmm__bug(m, __FILE__, __LINE__, #cond);                                   \
	} while (0)

#if UHMM_DEBUG || UHMM_CHECKED
#define UHMM_VM_BUG_ON(m, cond) UHMM_BUG_ON(m, cond)
#else
#define UHMM_VM_BUG_ON(m, cond) ((void)sizeof(!(cond)))
#endif

/* What the kernel would WARN about; evaluates to the condition. */
#define UHMM_WARN_ON(m, cond)                                                                      \
	({                                                                                         \
		bool warn_ = !!(cond);                                                             \
		if (unlikely(warn_))                                                               \
			uhmm__report(m, UHMM_REPORT_WARN, "%s:%d: %s", __FILE__, __LINE__, #cond); \
		warn_;                                                                             \
	})

#endif /* UHMM_CORE_MACHINE_H */
