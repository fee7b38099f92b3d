/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * world.h - what lockstep.c (comparing, and the course of a run), machine.c (operations on a machine) and
 * predict.c (what must come of them) share.
 */
#ifndef TESTS_MODEL_WORLD_H
#define TESTS_MODEL_WORLD_H

#include "model/lockstep.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum {
	BUF_SIZE = FLAT_PAGES * FLAT_PAGE_SIZE,
	MAX_PINNED = 64,
	MAX_PIN = 8, /* pages at a time */
	NOT_PREDICTED = 0x7fffffff,
	SOME_ERROR = 0x7ffffffe,
};

static const int fork_advice[] = { MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK };

struct proc {
	struct uhmm_mm *mm;
	struct uhmm_task *task[FIXTURE_CPUS];
	struct uhmm_mirror *mirror[FIXTURE_DEVICES];
};

struct machine {
	struct uhmm_machine *m;
	enum uhmm_strategy strategy;
	struct uhmm_task *boot;
	struct uhmm_device *dev[FIXTURE_DEVICES];
	struct proc proc[FLAT_PROCS];
	struct uhmm_file *file[FLAT_SHARED_ANON]; /* FLAT_PRIVATE_FILE and FLAT_SHARED_FILE */
	struct uhmm_mm *driver;			  /* which maps all of its pages */
	uhmm_pfn_t driver_pages[FLAT_DRIVER_PAGES];
	uhmm_pfn_t pinned[MAX_PINNED];
	unsigned int nr_pinned;
	bool warn_allowed;
	struct lockstep *l;
};

struct lockstep {
	struct run_config config;
	struct machine machine[NR_MACHINES];
	struct flat flat;
	void (*complain)(const char *message);
	char text[4096]; /* of differences between machines */
	uint8_t *buf;
	struct op op;		 /* that is, or was last, executed */
	bool ended;		 /* the list is done: what is executed now reads everything */
	unsigned int new_object; /* for shared anonymous memory, if some is mapped now */
	bool apart[NR_MACHINES][NR_MACHINES]; /* of two, the first less: they took another course */
};

/* What an operation gave on one machine. */
struct result {
	int ret;
	uint64_t out[3];
};

/* Complain, and do not return. */
void lockstep_broken(struct lockstep *l, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));

#define must(l, call)                                                                              \
	do {                                                                                       \
		int must_ret = (call);                                                             \
		if (must_ret)                                                                      \
			lockstep_broken(l, "%s: %d", #call, must_ret);                             \
	} while (0)

static inline uhmm_vaddr_t address(unsigned int page)
{
	return flat_address(page);
}

/* Where in its file a mapping begins: within the file to its end. */
static inline unsigned int file_index(const struct op *op)
{
	if (op->obj != FLAT_PRIVATE_FILE && op->obj != FLAT_SHARED_FILE)
		return 0;
	return op->page2 + op->npages > FLAT_PAGES ? FLAT_PAGES - op->npages : op->page2;
}

/*
 * What swap has of pages that MADV_FREE gives up is gone, and what is in RAM goes when that is short: until
 * somebody writes, which is at once, nobody can tell what they hold. Without swap they keep it.
 */
static inline bool op_frees_and_writes(const struct lockstep *l, const struct op *op)
{
	return op->kind == OP_FREE && (l->config.swap_bytes || op->write);
}

/* Which of its pages a driver maps first, and how. */
static inline unsigned int driver_index(const struct op *op)
{
	return op->page2 % (FLAT_DRIVER_PAGES - op->npages + 1);
}

static inline enum flat_special driver_special(const struct op *op)
{
	static const enum flat_special how[] = { FLAT_FRAMES, FLAT_MIXED, FLAT_INSERTED,
						 FLAT_INSERTED };

	return how[op->variant];
}

static inline bool driver_private(const struct op *op)
{
	return op->obj == FLAT_NO_OBJ;
}

/* Where the heap is to end. */
static inline unsigned int heap_end(const struct op *op)
{
	return FLAT_HEAP + op->off % (FLAT_PAGES - FLAT_HEAP + 1);
}

/* Whether what is mapped may grow downwards: anonymous private memory alone. */
static inline bool is_stack(const struct op *op)
{
	return op->page >= FLAT_PAGES && op->obj == FLAT_NO_OBJ && op->variant & 2;
}

/*
 * The size that a file is given; half of the time it is whole again. It is one of whole pages where
 * reclaim may write the last one back, which zeroes what lies behind the end, at any time.
 */
static inline uint64_t truncated_size(const struct lockstep *l, const struct op *op)
{
	uint64_t bytes = op->page % FLAT_PAGES * PAGE;

	if (op->write)
		return FLAT_PAGES * PAGE;
	return op->obj == FLAT_SHARED_FILE && op->variant & 1 && !l->config.ram_bytes
		       ? bytes + op->off
		       : bytes;
}

/* Whether an object is a regular file. One of the files is, which depends on the contents, that is on the seed. */
static inline bool is_regular(const struct lockstep *l, unsigned int obj)
{
	return (obj == FLAT_PRIVATE_FILE || obj == FLAT_SHARED_FILE) &&
	       (obj == FLAT_PRIVATE_FILE) == (l->config.content == UHMM_CONTENT_TAG);
}

/* Whether what breaks was stored after the last writeback. */
static inline bool breaks_dirty(const struct lockstep *l, const struct op *op)
{
	return op->variant & 1 && is_regular(l, l->flat.mm[op->proc].page[op->page].obj);
}

/* What is done with the write protection of a userfaultfd. */
enum { WP_PROTECT, WP_PROTECT_TOO, WP_RESOLVE, WP_UNREGISTER };
/* What is done with what is missing: only where no handler fills it. */
enum { MISSING_WATCH, MISSING_WATCH_TOO, MISSING_FILL, MISSING_UNREGISTER };

/* Whether an operation gives its pages new contents, which are in l->buf. */
static inline bool op_writes(const struct lockstep *l, const struct op *op)
{
	return op->kind == OP_CPU_WRITE || op->kind == OP_DEV_WRITE || op->kind == OP_LARGE ||
	       (op->kind == OP_DEV_ACCESS && op->write) || op_frees_and_writes(l, op) ||
	       (op->kind == OP_UFFD_WP && op->variant < WP_RESOLVE) || op->kind == OP_UFFD_MISSING;
}

/* Whether a page is one that is to be filled. */
static inline bool is_to_fill(const struct flat_page *p)
{
	return p->mapped && p->missing == FLAT_MISSING && !p->guard;
}

/* What a device wants at once; it is cut to its VMA. */
void wanted_range(const struct op *op, unsigned int *first, unsigned int *end);

/* ---- machine.c ---- */

void machine_start(struct lockstep *l, struct machine *m, enum uhmm_strategy strategy);
void machine_stop(struct lockstep *l, struct machine *m);
/* Data to be written is in l->buf, data that was read comes back there. @child: of a fork. */
void machine_execute(struct lockstep *l, struct machine *m, const struct op *op, unsigned int child,
		     struct result *r);

/* ---- predict.c ---- */

/* The answer that needs no knowledge of where pages are; NOT_PREDICTED if there is none. */
int model_predict(const struct lockstep *l, const struct op *op, struct result *r);
/* Data that came back, against the model as it was before. */
void model_check(struct lockstep *l, const struct machine *m, const struct op *op,
		 const struct result *r);
/* The same on the model. l->buf holds what was written, if something was. */
void model_apply(struct lockstep *l, const struct op *op, unsigned int child,
		 const struct result *r);

#endif /* TESTS_MODEL_WORLD_H */
