/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * costs.h - what counted events would have taken on a real machine.
 *
 * A cost table gives each kind of event a price in cycles; uhmm_costs_apply() turns the counters of
 * a machine into modelled time and its parts. Modelled time is a function of the counters alone:
 * the same run gives the same time on every host. Prices add up, nothing overlaps, so the sum is
 * that of one CPU that does everything and waits for every answer.
 *
 * A table is text, one entry a line, the source behind a semicolon:
 *
 *	# a comment
 *	name  my-machine
 *	clock 3.5 GHz
 *	read_pte 6 cycles ; measured with ...
 *	copy_to_device 12.5 GB/s ; PCIe 3.0 x16, ...
 *
 * Units are cycles, ns, us and, for prices of a page, GB/s (10^9 bytes per second). What a file
 * does not name keeps the price of the compiled-in table.
 *
 * Context (every function here): no locks, no current task; tables are constant once made.
 */
#ifndef UHMM_COSTS_H
#define UHMM_COSTS_H

#include <uhmm/counters.h>

UHMM_BEGIN_DECLS

/* X(ENUM, "name"): what modelled time consists of. Names are stable. */
#define UHMM_COST_PARTS(X)                                                                         \
	X(FAULTS, "faults")                                                                        \
	X(WALKS, "walks")                                                                          \
	X(LOCKS, "locks")                                                                          \
	X(FLUSHES, "flushes")                                                                      \
	X(NOTIFIERS, "notifiers")                                                                  \
	X(LRU, "lru")                                                                              \
	X(RMAP, "rmap")                                                                            \
	X(MIGRATION, "migration")                                                                  \
	X(TABLES, "tables")                                                                        \
	X(COPIES, "copies")                                                                        \
	X(LINK, "link")                                                                            \
	X(DEVICE, "device")                                                                        \
	X(WAITING, "waiting")

enum uhmm_cost_part {
#define UHMM_COST_PART_ENUM(id, name) UHMM_COST_PART_##id,
	UHMM_COST_PARTS(UHMM_COST_PART_ENUM)
#undef UHMM_COST_PART_ENUM
		UHMM_NR_COST_PARTS
};

/* X(ENUM, "name", PART, "the price of one ..."). Names are stable: files use them. */
#define UHMM_COSTS(X)                                                                              \
	X(FAULT_ENTRY, "fault_entry", FAULTS, "fault of a CPU: exception, entry, exit")            \
	X(FAULT_HANDLER, "fault_handler", FAULTS, "fault handled, raised by a CPU or a walker")    \
	X(FAULT_SIGNAL, "fault_signal", FAULTS, "fault answered by a signal")                      \
	X(WALK, "walk", WALKS, "pass of a range walker: set-up and VMA lookup")                    \
	X(WALK_RESTART, "walk_restart", WALKS, "re-entry of a walk")                               \
	X(READ_PGD, "read_pgd", WALKS, "PGD entry read")                                           \
	X(READ_PUD, "read_pud", WALKS, "PUD entry read")                                           \
	X(READ_PMD, "read_pmd", WALKS, "PMD entry read")                                           \
	X(READ_PTE, "read_pte", WALKS, "PTE entry read")                                           \
	X(PTL, "ptl", LOCKS, "page-table lock taken and dropped")                                  \
	X(PTL_CONTENDED, "ptl_contended", LOCKS, "page-table lock waited for")                     \
	X(MMAP_READ, "mmap_read", LOCKS, "mmap_lock taken for reading and dropped")                \
	X(MMAP_WRITE, "mmap_write", LOCKS, "mmap_lock taken for writing and dropped")              \
	X(VMA_LOCK, "vma_lock", LOCKS, "per-VMA lock taken and dropped")                           \
	X(FLUSH_RANGE, "flush_range", FLUSHES, "TLB flush of a range")                             \
	X(FLUSH_PAGE, "flush_page", FLUSHES, "TLB flush of one page")                              \
	X(FLUSH_IPI, "flush_ipi", FLUSHES, "other CPU interrupted by a flush")                     \
	X(NOTIFIER_START, "notifier_start", NOTIFIERS, "invalidation started and ended")           \
	X(NOTIFIER_CALL, "notifier_call", NOTIFIERS, "interval notifier callback")                 \
	X(LRU_DRAIN, "lru_drain", LRU, "LRU batch drained")                                        \
	X(LRU_DRAIN_ALL, "lru_drain_all", LRU, "drain of all CPUs: queueing work and waiting")     \
	X(RMAP_WALK, "rmap_walk", RMAP, "reverse map walk")                                        \
	X(RMAP_STEP, "rmap_step", RMAP, "VMA visited by a reverse map walk")                       \
	X(COLLECT, "collect", MIGRATION, "page collected: lock, reference, isolation")             \
	X(MIGRATE, "migrate", MIGRATION, "page moved or inserted: metadata and entry")             \
	X(FORK_PAGE, "fork_page", TABLES, "entry copied by fork")                                  \
	X(ZAP_PAGE, "zap_page", TABLES, "entry removed, its page freed")                           \
	X(TABLE_ALLOC, "table_alloc", TABLES, "page table allocated and cleared")                  \
	X(TABLE_FREE, "table_free", TABLES, "page table freed")                                    \
	X(COPY_RAM, "copy_ram", COPIES, "page copied within RAM")                                  \
	X(CLEAR_RAM, "clear_ram", COPIES, "RAM page cleared")                                      \
	X(COPY_TO_DEVICE, "copy_to_device", LINK, "page copied over the link to the device")       \
	X(COPY_TO_RAM, "copy_to_ram", LINK, "page copied over the link to RAM")                    \
	X(TRANSFER, "transfer", LINK, "transfer set up: one per range served or CPU fault")        \
	X(COPY_DEVICE, "copy_device", DEVICE, "page copied within device memory")                  \
	X(CLEAR_DEVICE, "clear_device", DEVICE, "device page cleared")                             \
	X(DEVICE_FAULT, "device_fault", DEVICE, "fault of the device: report, interrupt, replay")  \
	X(SLEEP, "sleep", WAITING, "sleep and wake-up of a task")

enum uhmm_cost {
#define UHMM_COST_ENUM(id, name, part, text) UHMM_COST_##id,
	UHMM_COSTS(UHMM_COST_ENUM)
#undef UHMM_COST_ENUM
		UHMM_NR_COSTS
};

/* Modelled time. Grows at the end only. */
struct uhmm_modelled {
	double cycles;			    /* the sum */
	double ns;			    /* the same at the table's clock */
	double part_ns[UHMM_NR_COST_PARTS]; /* adds up to @ns */
};

struct uhmm_costs;

/**
 * uhmm_costs_create() - the compiled-in table, "pcie4"
 * @out: (out) the table
 * Returns: 0, or -ENOMEM. Lifetime: uhmm_costs_destroy().
 */
UHMM_API int uhmm_costs_create(struct uhmm_costs **out) UHMM_MUST_CHECK;

/**
 * uhmm_costs_load() - read a table from a file
 * @path: file
 * @out: (out) the table
 * @error: (out) on failure "FILE:LINE: what is wrong"; NULL allowed
 * @error_size: room in @error
 * Returns: 0; -EINVAL malformed: unknown name or unit, bad number, a name twice; -ENOMEM; or the
 * error of open(2) or read(2).
 * Lifetime: uhmm_costs_destroy().
 */
UHMM_API int uhmm_costs_load(const char *path, struct uhmm_costs **out, char *error,
			     size_t error_size) UHMM_MUST_CHECK;

/**
 * uhmm_costs_parse() - the same from memory
 * @text: text, ending in a NUL
 * @file: name for messages
 * The rest as uhmm_costs_load().
 */
UHMM_API int uhmm_costs_parse(const char *text, const char *file, struct uhmm_costs **out,
			      char *error, size_t error_size) UHMM_MUST_CHECK;

/** uhmm_costs_destroy() - free a table; NULL allowed. */
UHMM_API void uhmm_costs_destroy(struct uhmm_costs *costs);

/** uhmm_costs_name() - the table's name. Lifetime: the table's. */
UHMM_API const char *uhmm_costs_name(const struct uhmm_costs *costs);

/** uhmm_costs_clock() - its clock in Hz. */
UHMM_API double uhmm_costs_clock(const struct uhmm_costs *costs);

/** uhmm_costs_cycles() - price of an event in cycles; 0 if @c is not one. */
UHMM_API double uhmm_costs_cycles(const struct uhmm_costs *costs, enum uhmm_cost c);

/** uhmm_costs_source() - where a price comes from, "" if the file does not say; NULL if @c is not
 * one. Lifetime: the table's. */
UHMM_API const char *uhmm_costs_source(const struct uhmm_costs *costs, enum uhmm_cost c);

/**
 * uhmm_costs_apply() - modelled time of what was counted
 * @costs: table
 * @counters: counts, such as those of uhmm_counters_read()
 * @out: (out) the time
 */
UHMM_API void uhmm_costs_apply(const struct uhmm_costs *costs, const struct uhmm_counters *counters,
			       struct uhmm_modelled *out);

/** uhmm_cost_name() - stable name of a price, or NULL. */
UHMM_API const char *uhmm_cost_name(enum uhmm_cost c);

/** uhmm_cost_text() - what it is the price of, or NULL. */
UHMM_API const char *uhmm_cost_text(enum uhmm_cost c);

/** uhmm_cost_events() - how many of it the counters hold. */
UHMM_API uint64_t uhmm_cost_events(enum uhmm_cost c, const struct uhmm_counters *counters);

/** uhmm_cost_part_name() - stable name of a part, or NULL. */
UHMM_API const char *uhmm_cost_part_name(enum uhmm_cost_part part);

UHMM_END_DECLS

#endif /* UHMM_COSTS_H */
