/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* percpu.h - what belongs to a simulated CPU, and work that must run on each of them. */
#ifndef UHMM_SYNC_PERCPU_H
#define UHMM_SYNC_PERCPU_H

#include "sync/spin.h"

/* Aligned to two cache lines: the prefetcher fetches pairs. */
struct uhmm__cpu {
	unsigned int id;	      /* [const] */
	struct uhmm__spinlock local;  /* class CPU_LOCAL; several tasks may share a CPU */
	void *frames;		      /* [local] mm: free frames */
	void *lru;		      /* [local] mm: LRU batch */
	void *tlb;		      /* mm: TLB model */
	struct uhmm_machine *machine; /* [const] */
} __attribute__((aligned(128)));

struct uhmm__cpu *uhmm__cpu(struct uhmm_machine *m, unsigned int id);

/* The CPU of the current task. Another task may share it: take its local lock. */
static inline struct uhmm__cpu *uhmm__this_cpu(void)
{
	return uhmm__current()->this_cpu;
}

/*
 * Run @fn on every CPU, with that CPU's local lock held, and wait until all have done so. May
 * sleep, so no spin lock is held. On host threads the caller runs @fn itself, CPU by CPU: nobody
 * can be in the middle of anything, for it holds the local lock. On fibers the work is queued
 * for each CPU's worker, and a CPU whose task never leaves the kernel keeps the caller waiting.
 * Models: schedule_on_each_cpu() as mm/folio.c:lru_add_drain_all() uses it.
 */
void uhmm__on_each_cpu(struct uhmm_machine *m, void (*fn)(struct uhmm__cpu *cpu, void *arg),
		       void *arg);

#endif /* UHMM_SYNC_PERCPU_H */
