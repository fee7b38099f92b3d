/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock_graph.h - what the lock checker's own files share: the graph of what was held when what was
 * waited for, and the reports.
 */
#ifndef UHMM_SYNC_LOCK_GRAPH_H
#define UHMM_SYNC_LOCK_GRAPH_H

#include "sync/lock_check.h"
#include "sync/spin.h"

#if UHMM_CHECKED

enum {
	LOCK_WORDS = UHMM__LOCK_NODES / 64,
	EDGES = 192,	  /* of which it is known who made them: all, with what the library does */
	FOLIO_EDGES = 96, /* the last ones; a node for each folio would never end */
	MAX_CHAIN = 6,
};

/* What a node is. */
enum {
	NODE_DEPENDS = 1 << 0, /* is part of the graph */
	NODE_SLEEPS = 1 << 1,  /* waiting for it may sleep */
	NODE_SPIN = 1 << 2,    /* having it forbids to sleep */
};

/* What a task waits for. */
struct uhmm__wanted {
	const void *lock;
	unsigned int node, how;
	const struct uhmm_site *where;
};

/* Somebody had @from when it waited for @to. */
struct uhmm__lock_edge {
	struct uhmm__held from, to;
	uint64_t task_id;
	char task[16];
};

/* From what is wanted to what is held. */
struct uhmm__lock_chain {
	unsigned int nr;
	unsigned int declared; /* bit i: nobody had, but lock_classes.def says that it may be */
	struct uhmm__lock_edge e[MAX_CHAIN];
};

/* In one piece of memory, which is neither the machine's nor counted as such. */
struct uhmm__lock_graph {
	/* [node]: what was held when it was waited for, and has been looked at. */
	_Atomic uint64_t known[UHMM__LOCK_NODES][LOCK_WORDS];
	uint8_t flags[UHMM__LOCK_NODES];
	uint16_t rank[UHMM__LOCK_NODES]; /* lower ones come first; 0: not declared */
	bool ignored;		    /* [const] no report of what another timing would bring about */
	struct uhmm__spinlock lock; /* the rest is under it */
	uint64_t before[UHMM__LOCK_NODES][LOCK_WORDS]; /* the same without what was reported */
	uint64_t said[LOCK_WORDS];		       /* recursion of a class was reported */
	unsigned int nr_edges;
	_Atomic unsigned int nr_folio_edges; /* ever; the last FOLIO_EDGES are kept */
	struct uhmm__lock_edge edges[EDGES];
	struct uhmm__lock_edge folio_edges[FOLIO_EDGES];
};

_Static_assert(sizeof(struct uhmm__lock_graph) <= 32768, "is saved and put back with a machine");

static inline bool node_test(const uint64_t *set, unsigned int node)
{
	return set[node / 64] >> (node % 64) & 1;
}

static inline void node_set(uint64_t *set, unsigned int node)
{
	set[node / 64] |= UINT64_C(1) << (node % 64);
}

/* The lock of a class that a task got last; NULL: it has none. @lock: this one; NULL: any. */
struct uhmm__held *uhmm__held_find(struct uhmm_task *t, const void *lock, unsigned int class_id);

/*
 * @w comes to depend on @h, which @t has.
 * Returns: false if that closes a cycle, told once; @chain leads from @w back to @h then.
 */
bool uhmm__graph_depend(struct uhmm_task *t, const struct uhmm__held *h,
			const struct uhmm__wanted *w, struct uhmm__lock_chain *chain);
/*
 * The same for a folio lock and all other folio locks that @t has, each of which is a node.
 * Returns: NULL, or that of them which closes a cycle.
 */
const struct uhmm__held *uhmm__graph_depend_folio(struct uhmm_task *t, const struct uhmm__wanted *w,
						  struct uhmm__lock_chain *chain);
/* True once for each class. */
bool uhmm__graph_say_recursion(struct uhmm_task *t, unsigned int node);

/* ---- reports (lock_report.c) ---- */

void uhmm__report_circular(struct uhmm_task *t, const struct uhmm__wanted *w,
			   const struct uhmm__held *h, const struct uhmm__lock_chain *chain);
void uhmm__report_recursion(struct uhmm_task *t, const struct uhmm__wanted *w,
			    const struct uhmm__held *h);
/* @fmt: "what is wrong", then where, then what the task holds. */
void uhmm__report_held(struct uhmm_task *t, const struct uhmm_site *where, const char *fmt, ...)
	uhmm_printf(3, 4);

#endif
#endif /* UHMM_SYNC_LOCK_GRAPH_H */
