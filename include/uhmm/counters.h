/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * counters.h - what a machine counts.
 *
 * Every task counts for itself and without shared writes; a read sums over all tasks. Counts
 * never feed back into behaviour: they are what costs.h turns into modelled time.
 */
#ifndef UHMM_COUNTERS_H
#define UHMM_COUNTERS_H

#include <uhmm/types.h>

UHMM_BEGIN_DECLS

struct uhmm_machine;

/*
 * X(ENUM, "name", "what is counted")
 * Names are stable: reports, JSON and cost tables use them.
 */
#define UHMM_COUNTERS(X)                                                                           \
	X(WALKS, "walks", "passes of a range walker over the caller's range")                      \
	X(WALK_RESTARTS, "walk_restarts", "re-entries of a range walk at the same place")          \
	X(READ_PGD, "read_pgd", "PGD entries read")                                                \
	X(READ_PUD, "read_pud", "PUD entries read")                                                \
	X(READ_PMD, "read_pmd", "PMD entries read")                                                \
	X(READ_PTE, "read_pte", "PTE entries read")                                                \
	X(RMAP_WALKS, "rmap_walks", "reverse map walks of a folio")                                \
	X(RMAP_STEPS, "rmap_steps", "VMAs visited by reverse map walks")                           \
	X(PTL, "ptl", "page-table locks taken")                                                    \
	X(PTL_CONTENDED, "ptl_contended", "page-table locks that were held by another task")       \
	X(MMAP_READ, "mmap_read", "mmap_lock taken for reading")                                   \
	X(MMAP_WRITE, "mmap_write", "mmap_lock taken for writing")                                 \
	X(MMAP_CONTENDED, "mmap_contended", "mmap_lock acquisitions that waited")                  \
	X(VMA_LOCK, "vma_lock", "per-VMA locks taken by faults")                                   \
	X(VMA_LOCK_MISS, "vma_lock_miss", "faults that fell back to mmap_lock")                    \
	X(FAULT_ANON_READ, "fault_anon_read", "faults that mapped the zero page")                  \
	X(FAULT_ANON_WRITE, "fault_anon_write", "faults that mapped a new anonymous folio")        \
	X(FAULT_COW_COPY, "fault_cow_copy", "write-protect faults that copied")                    \
	X(FAULT_COW_REUSE, "fault_cow_reuse", "write-protect faults that reused the folio")        \
	X(FAULT_HUGE, "fault_huge", "faults that mapped a huge page, or the huge zero page")       \
	X(FAULT_HUGE_FALLBACK, "fault_huge_fallback", "faults that found no memory for one")       \
	X(FAULT_FILE_READ, "fault_file_read", "faults that mapped a page of a file for reading")   \
	X(FAULT_FILE_COW, "fault_file_cow", "faults that copied a page of a file not yet mapped")  \
	X(FAULT_FILE_WRITE, "fault_file_write", "faults that mapped a shared page for writing")    \
	X(FAULT_FILE_WP, "fault_file_wp", "faults that made a shared page writable")               \
	X(FAULT_FILE_MAJOR, "fault_file_major", "faults on file pages that were not in RAM")       \
	X(FAULT_AROUND, "fault_around", "file pages mapped around a fault")                        \
	X(FILE_TRUNCATED, "file_truncated", "pages taken from a file")                             \
	X(FILE_CLEANED, "file_cleaned", "dirty pages of files written back")                       \
	X(FILE_EVICTED, "file_evicted", "clean pages of files that reclaim dropped")               \
	X(FAULT_MIGRATION_WAIT, "fault_migration_wait", "faults that waited on a migration entry") \
	X(FAULT_DEVICE, "fault_device", "CPU faults on a device-private entry")                    \
	X(FAULT_DEVICE_WAIT, "fault_device_wait", "of these, that found the folio locked")         \
	X(FAULT_NUMA, "fault_numa", "faults on a NUMA hint")                                       \
	X(FAULT_UFFD, "fault_uffd", "faults that are userfaultfd's")                               \
	X(FAULT_EXCLUSIVE, "fault_exclusive", "faults on a device-exclusive entry")                \
	X(FAULT_SPURIOUS, "fault_spurious", "faults that found the entry already good")            \
	X(FAULT_SIGSEGV, "fault_sigsegv", "faults answered by SIGSEGV")                            \
	X(FAULT_SIGBUS, "fault_sigbus", "faults answered by SIGBUS")                               \
	X(FAULT_OOM, "fault_oom", "faults that found no memory")                                   \
	X(FAULT_RETRY, "fault_retry", "faults tried again after the lock was dropped")             \
	X(FAULT_FROM_HMM, "fault_from_hmm", "faults raised by a range walker")                     \
	X(FOLIO_TRYLOCK_FAIL, "folio_trylock_fail", "folio trylocks that failed")                  \
	X(FOLIO_LOCK_WAIT, "folio_lock_wait", "sleeps for a folio lock")                           \
	X(TLB_FLUSH_RANGE, "tlb_flush_range", "TLB flushes of a range or a whole mm")              \
	X(TLB_FLUSH_PAGE, "tlb_flush_page", "TLB flushes of one page")                             \
	X(TLB_FLUSH_PAGES, "tlb_flush_pages", "pages covered by TLB flushes")                      \
	X(TLB_FLUSH_IPI, "tlb_flush_ipi", "other CPUs interrupted by TLB flushes")                 \
	X(NOTIFIER_START, "notifier_start", "mmu notifier invalidations started")                  \
	X(NOTIFIER_CALLS, "notifier_calls", "interval notifier callbacks run")                     \
	X(NOTIFIER_WAIT, "notifier_wait", "read_begin calls that slept")                           \
	X(NOTIFIER_RETRY, "notifier_retry", "sequence checks that failed")                         \
	X(LRU_DRAIN, "lru_drain", "drains of one CPU's LRU batch")                                 \
	X(LRU_DRAIN_ALL, "lru_drain_all", "drains of every CPU's LRU batch")                       \
	X(COLLECTED, "collected", "pages collected for migration")                                 \
	X(MIGRATED_TO_DEVICE, "migrated_to_device", "pages moved from RAM to device memory")       \
	X(MIGRATED_NEW, "migrated_new", "device pages inserted where no page was")                 \
	X(MIGRATED_TO_RAM, "migrated_to_ram", "pages moved from device memory to RAM")             \
	X(MIGRATED_DEVICE_DEVICE, "migrated_device_device", "pages moved between devices")         \
	X(FAIL_LOCKED, "fail_locked", "pages not collected: folio locked by another task")         \
	X(FAIL_PINNED, "fail_pinned", "pages not collected: pinned")                               \
	X(FAIL_ISOLATE, "fail_isolate", "pages put back: not on the LRU")                          \
	X(FAIL_MAPPED, "fail_mapped", "pages put back: still mapped elsewhere")                    \
	X(FAIL_REFERENCED, "fail_referenced", "pages put back: extra references")                  \
	X(FAIL_NO_DST, "fail_no_dst", "pages not moved: no destination page")                      \
	X(FAIL_FILE, "fail_file", "pages not moved: a file's, and the destination a device's")     \
	X(FAIL_RACED, "fail_raced", "pages not moved: the entry or a reference changed")           \
	X(SPLIT_PMD, "split_pmd", "huge leaves replaced by page tables")                           \
	X(SPLIT_FOLIO, "split_folio", "large folios split into pages")                             \
	X(SPLIT_FAILED, "split_failed", "large folios that could not be split")                    \
	X(COLLAPSE, "collapse", "page tables replaced by a huge leaf")                             \
	X(BACK_OFF, "back_off", "combined walks that put everything back before waiting")          \
	X(COPY_TO_DEVICE, "copy_to_device", "pages copied from RAM to device memory")              \
	X(COPY_TO_RAM, "copy_to_ram", "pages copied from device memory to RAM")                    \
	X(COPY_RAM, "copy_ram", "pages copied within RAM (COW)")                                   \
	X(COPY_DEVICE, "copy_device", "pages copied between device pages")                         \
	X(CLEAR_RAM, "clear_ram", "RAM pages cleared")                                             \
	X(CLEAR_DEVICE, "clear_device", "device pages cleared")                                    \
	X(GUP, "gup", "pages referenced or pinned under the page-table lock")                      \
	X(GUP_FAST, "gup_fast", "pages referenced or pinned without a lock")                       \
	X(PIN_MIGRATED, "pin_migrated", "coherent pages moved to RAM for a long-term pin")         \
	X(MADE_EXCLUSIVE, "made_exclusive", "pages made device-exclusive")                         \
	X(RESTORED_EXCLUSIVE, "restored_exclusive",                                                \
	  "device-exclusive pages given back to the CPU")                                          \
	X(EVICTED, "evicted", "device pages evicted to make room")                                 \
	X(FAULT_SWAP, "fault_swap", "faults on a swap entry")                                      \
	X(FAULT_SWAP_CACHED, "fault_swap_cached", "of these, that found the swap cache")           \
	X(SWAP_IN, "swap_in", "pages read from swap")                                              \
	X(SWAP_OUT, "swap_out", "pages written to swap")                                           \
	X(SWAP_DROP, "swap_drop", "pages dropped unwritten: swap had them already")                \
	X(LAZYFREED, "lazyfreed", "clean pages discarded after MADV_FREE")                         \
	X(RECLAIM, "reclaim", "allocations that found RAM used up and reclaimed")                  \
	X(RECLAIM_SCANNED, "reclaim_scanned", "pages that reclaim looked at")                      \
	X(RECLAIM_FREED, "reclaim_freed", "pages that reclaim freed")                              \
	X(DEVICE_FAULTS, "device_faults", "faults raised by a device")                             \
	X(DEVICE_ACCESSES, "device_accesses", "pages accessed by a device")                        \
	X(CPU_ACCESSES, "cpu_accesses", "pages accessed by a CPU")                                 \
	X(FORKED_PAGES, "forked_pages", "page-table entries copied by fork")                       \
	X(ZAPPED_PAGES, "zapped_pages", "page-table entries removed")                              \
	X(TABLE_ALLOC, "table_alloc", "page tables allocated")                                     \
	X(TABLE_FREE, "table_free", "page tables freed")                                           \
	X(SLEEPS, "sleeps", "times a task slept")

enum uhmm_counter {
#define UHMM_COUNTER_ENUM(id, name, text) UHMM_CNT_##id,
	UHMM_COUNTERS(UHMM_COUNTER_ENUM)
#undef UHMM_COUNTER_ENUM
		UHMM_NR_COUNTERS
};

struct uhmm_counters {
	uint64_t v[UHMM_NR_COUNTERS];
};

/**
 * uhmm_counter_name() - stable name of a counter
 * @c: counter
 * Returns: the name, or NULL if @c is not a counter.
 * Lifetime: static.
 */
UHMM_API const char *uhmm_counter_name(enum uhmm_counter c);

/**
 * uhmm_counter_text() - one-line description of a counter
 * @c: counter
 * Returns: the description, or NULL if @c is not a counter.
 * Lifetime: static.
 */
UHMM_API const char *uhmm_counter_text(enum uhmm_counter c);

/**
 * uhmm_counters_read() - sum the counters of all tasks of a machine
 * @m: machine
 * @out: (out) the sums
 * Context: any; exact when no task of @m is running, else each counter is some recent value.
 */
UHMM_API void uhmm_counters_read(struct uhmm_machine *m, struct uhmm_counters *out);

UHMM_END_DECLS

#endif /* UHMM_COUNTERS_H */
