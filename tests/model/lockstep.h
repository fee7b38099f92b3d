/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lockstep.h - a list of random operations, executed on three machines side by side, one for each
 * strategy, and on the flat model, which predicts what can be seen.
 */
#ifndef TESTS_MODEL_LOCKSTEP_H
#define TESTS_MODEL_LOCKSTEP_H

#include "fixture.h"
#include "model/flat.h"

#define LOCKSTEP_OPS(X)                                                                            \
	X(CPU_WRITE, 18)                                                                           \
	X(CPU_READ, 14)                                                                            \
	X(DEV_ACCESS, 24)                                                                          \
	X(DEV_SERVE, 6)                                                                            \
	X(DEV_READ, 3)                                                                             \
	X(DEV_WRITE, 3)                                                                            \
	X(TO_DEV, 4)                                                                               \
	X(TO_SYS, 4)                                                                               \
	X(ON_FAULT, 4)                                                                             \
	X(SNAPSHOT, 2)                                                                             \
	X(EXCLUSIVE, 5)                                                                            \
	X(PIN, 4)                                                                                  \
	X(UNPIN, 2)                                                                                \
	X(EVICT, 2)                                                                                \
	X(EVICT_ALL, 1)                                                                            \
	X(FAIL_ALLOC, 2)                                                                           \
	X(REOPEN, 1)                                                                               \
	X(MMAP, 5)                                                                                 \
	X(LARGE, 6)                                                                                \
	X(MMAP_DRIVER, 5)                                                                          \
	X(BRK, 3)                                                                                  \
	X(MUNMAP, 3)                                                                               \
	X(MPROTECT, 8)                                                                             \
	X(DONTNEED, 4)                                                                             \
	X(PAGEOUT, 8)                                                                              \
	X(ADVISE_FORK, 3)                                                                          \
	X(ADVISE_HUGE, 4)                                                                          \
	X(REMOVE, 2)                                                                               \
	X(FREE, 4)                                                                                 \
	X(GUARD, 4)                                                                                \
	X(POISON, 2)                                                                               \
	X(POISON_FILE, 3)                                                                          \
	X(UFFD_WP, 5)                                                                              \
	X(UFFD_MISSING, 5)                                                                         \
	X(NUMA, 4)                                                                                 \
	X(TRUNCATE, 3)                                                                             \
	X(MSYNC, 2)                                                                                \
	X(POPULATE, 4)                                                                             \
	X(MREMAP, 4)                                                                               \
	X(FORK, 4)                                                                                 \
	X(EXIT, 2)

enum op_kind {
#define OP_ENUM(name, weight) OP_##name,
	LOCKSTEP_OPS(OP_ENUM)
#undef OP_ENUM
		NR_OPS
};

/* Everything an operation needs, so that a list stays meaningful when others are left out. */
struct op {
	enum op_kind kind;
	unsigned int proc, dev, cpu;
	unsigned int page, npages, page2, npages2;
	unsigned int off, len; /* bytes, from page */
	int prot, variant;
	unsigned int obj; /* MMAP: FLAT_*; FLAT_SHARED_ANON stands for a new one */
	bool write;
	uint64_t granularity;
	uint64_t seed; /* of the data */
};

struct run_config {
	enum uhmm_content content;
	uint64_t device_bytes; /* 0: unlimited, and the three must end in the same state */
	/*
	 * Faults map huge pages wherever they fit. How wide a range was faulted then shows in what is
	 * mapped around it; machines that differ in that agree only in what can be read from then on.
	 */
	bool huge;
	/*
	 * 0: none. Which pages are out depends on who has faulted where and on LRU batches, which
	 * differ: then contents alone must be the same.
	 */
	uint64_t swap_bytes;
	enum uhmm_swap swap;
	uint64_t ram_bytes; /* 0: unlimited */
	enum uhmm_device_pfn_space pfn_space;
	bool coherent; /* the second device */
	bool large;    /* there are large folios that PTEs map, of orders 1 to 8 */
	bool drivers;  /* a driver has mappings */
	bool uffd;     /* a userfaultfd write-protects pages, and watches for missing ones */
	bool hints;    /* NUMA hints are given */
	bool broken; /* some pages cannot be had: guarded, poisoned, beyond the end of their file */
};

enum { NR_MACHINES = UHMM_NR_STRATEGIES, MAX_OPS = 2000 };

void op_random(struct rng *rng, const struct run_config *config, struct op *op);
void op_print(const struct op *op, char *buf, size_t size);

/*
 * Execute. Calls @complain with a message where the machines, the model or the verifier disagree; it
 * must not return. @at: (out) the operation that is being executed.
 */
void lockstep_run(const struct run_config *config, const struct op *ops, unsigned int n,
		  void (*complain)(const char *message), volatile unsigned int *at);

/* ---- shrink.c ---- */

/*
 * Run a list in a process of its own. Returns: NULL if it went well, else what was wrong (valid
 * until the next call).
 */
const char *run_apart(const struct run_config *config, const struct op *ops, unsigned int n);
/* Leave operations out as long as it still fails. Returns: how many are left. */
unsigned int shrink(const struct run_config *config, struct op *ops, unsigned int n);

#endif /* TESTS_MODEL_LOCKSTEP_H */
