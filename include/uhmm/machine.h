/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * machine.h - a modelled machine: CPUs, RAM, page contents, switches, tasks.
 *
 * Nothing is global: everything hangs off a struct uhmm_machine, and two machines in one process
 * do not know of each other. A host thread calls into the library as a task (uhmm_task_enter());
 * the entry points find the task by thread-local state.
 */
#ifndef UHMM_MACHINE_H
#define UHMM_MACHINE_H

#include <uhmm/counters.h>
#include <uhmm/types.h>

UHMM_BEGIN_DECLS

struct uhmm_machine;
struct uhmm_mm;
struct uhmm_task;

#define UHMM_MAX_CPUS 64

/* What a page frame holds. Both kinds are copied by COW and migration, so lost data shows. */
enum uhmm_content {
	/* 8 bytes a frame: the byte at page offset o is byte o % 8 of the tag. */
	UHMM_CONTENT_TAG,
	/* all 4096 bytes */
	UHMM_CONTENT_BYTES,
};

/* Alternatives that people argue about; 0 is what Linux 7.3, or the posted series, does. */
enum uhmm_combined_wait {
	UHMM_COMBINED_BACK_OFF, /* put back, unlock, then wait */
	UHMM_COMBINED_NAIVE, /* wait while holding collected folios: deadlocks, kept to show it */
};

/*
 * What the swap device is. It decides whether a page that came back keeps its slot, and with it an
 * up-to-date copy: then it can be dropped without writing until somebody writes to it.
 */
enum uhmm_swap {
	/* a RAM disk (SWP_SYNCHRONOUS_IO): the slot is given up as soon as no entry names it */
	UHMM_SWAP_RAM_DISK,
	/* a disk: the slot is kept, unless the fault was a write by the only user or swap is half full */
	UHMM_SWAP_DISK,
};

/* Where device-private pages have their numbers. */
enum uhmm_device_pfn_space {
	UHMM_DEVICE_PFN_PHYSICAL, /* in physical address space that nothing else uses */
	UHMM_DEVICE_PFN_OWN,	  /* in a space of their own: UHMM_PFN_DEVICE_SPACE tells */
};

/*
 * A range fault asks to write to a device-private page of the caller's own that is mapped read-only,
 * as after fork. 0 is what Linux 7.3 does; see docs/findings.md.
 */
enum uhmm_device_private_write {
	UHMM_DEVICE_WRITE_AS_IS, /* success without UHMM_HMM_PFN_WRITE, no fault */
	UHMM_DEVICE_WRITE_FAULTS, /* a write fault: the page comes home and is copied if it must be */
};

/*
 * A fault on a large folio that PTEs map brings a range home that holds more of it than the page of
 * the fault. Collecting splits the folio first. 0 is what Linux 7.3 does; see docs/findings.md.
 */
enum uhmm_fault_folio {
	/* the folio that was split still counts as the fault's: its first page is taken unlocked */
	UHMM_FAULT_FOLIO_STALE,
	/* looked up again after the split, which gave up the lock and the reference of its page for a while */
	UHMM_FAULT_FOLIO_LOOKED_UP,
	UHMM_FAULT_FOLIO_KEPT, /* looked up again; its page has the lock and the reference throughout */
};

/*
 * SELECT_COMPOUND and a hole without a PMD table, of several huge pages. 0 is what Linux 7.3 does; see
 * docs/findings.md.
 */
enum uhmm_large_hole {
	UHMM_LARGE_HOLE_FIRST, /* one compound entry; what comes after it is not collected */
	UHMM_LARGE_HOLE_EACH,  /* one for each huge page, as below a PMD table */
};

/*
 * What a range fault reports that begins within a huge device-private page of the caller's own. Here 0
 * is what was meant: with the other devices access wrong pages. See docs/findings.md.
 */
enum uhmm_device_huge_pfn {
	UHMM_DEVICE_HUGE_PFN_EXACT,	 /* the pages of the range */
	UHMM_DEVICE_HUGE_PFN_FROM_FIRST, /* as Linux 7.3: those from the first of the huge page on */
};

/*
 * A CPU fault on a huge device-private page whose folio somebody else has locked. 0 is what Linux 7.3
 * does; see docs/findings.md.
 */
enum uhmm_huge_device_wait {
	UHMM_HUGE_DEVICE_RETURNS, /* says that it is done: whoever faulted tries again, without a pause */
	UHMM_HUGE_DEVICE_WAITS, /* sleeps until the folio is unlocked, as below a table */
};

/*
 * Collecting splits a large folio that PTEs map, for which it needs the folio's lock. 0 is what Linux 7.3
 * does; see docs/findings.md.
 */
enum uhmm_split_lock {
	UHMM_SPLIT_LOCK_WAITS, /* sleeps for it, with the folios locked that were collected before */
	UHMM_SPLIT_LOCK_TRIES, /* leaves the rest of the table's part out if somebody else has it */
};

/*
 * Collecting meets a large folio after it has replaced entries of the same table. 0 is what Linux 7.3
 * does; see docs/findings.md.
 */
enum uhmm_split_flush {
	UHMM_SPLIT_FLUSH_LATE, /* it gives the table's lock up for the split, and flushes at the end */
	UHMM_SPLIT_FLUSH_BEFORE_UNLOCK,
};

/*
 * The bit of a folio that says that somebody waits for its lock. Here 0 is the model's own, which can be
 * checked more strictly. See docs/findings.md.
 */
enum uhmm_waiters_bit {
	UHMM_WAITERS_EXACT, /* set while somebody is queued, and at no other time */
	/*
	 * as Linux 7.3: set by who is about to wait, and stays if the lock turns out to be free, or if
	 * others wait on the same queue when it is given up; a folio may be freed with it
	 */
	UHMM_WAITERS_HINT,
};

/*
 * What a CPU fault does on a device-private page whose folio somebody else has locked. 0 is what Linux
 * does since 7.0. Decides what mm/memory.c:do_swap_page() does after trylock_page() has failed, and
 * what mm/migrate_device.c:migrate_vma_collect_pmd() leaves for it to find. Huge pages are not
 * concerned. See docs/livelock.md.
 */
enum uhmm_device_private_wait {
	/* sleeps until the folio is unlocked, without a reference to it */
	UHMM_DEVICE_WAIT_ENTRY,
	/* looks again; entries stay until the migration unmaps the page everywhere. Livelocks */
	UHMM_DEVICE_WAIT_TRYLOCK_SPIN,
	/* takes a reference and sleeps for the lock: then the migration fails that it waits for */
	UHMM_DEVICE_WAIT_LOCK_WITH_REF,
	/* sleeps while a bit says that the folio is being migrated; else looks again */
	UHMM_DEVICE_WAIT_MIGRATION_FLAG,
	/*
	 * looks again; but the entry that a migration collects becomes a migration entry at once, and
	 * those are slept for: Linux before 7.0. Other mappings keep theirs: livelocks
	 */
	UHMM_DEVICE_WAIT_INSTALL_ENTRY,
};

/*
 * What keeps a device folio from migrating. Decides in mm/migrate_device.c:migrate_vma_check_page()
 * and mm/migrate.c:folio_migrate_mapping().
 */
enum uhmm_migration_blocked_by {
	UHMM_BLOCKED_BY_REFERENCE, /* any reference that is not accounted for */
	UHMM_BLOCKED_BY_PIN,	   /* only pins; a folio of RAM stays as it is */
};

/* When mm/migrate_device.c:migrate_device_unmap() calls lru_add_drain_all(), if it has to. */
enum uhmm_lru_drain {
	/* before it unmaps the first page that is not on the LRU, and those after it */
	UHMM_LRU_DRAIN_BEFORE_UNMAP,
	UHMM_LRU_DRAIN_AFTER_UNMAP, /* when all mappings of all pages are migration entries */
};

/* Whether mm/hmm.c:hmm_range_fault() calls cond_resched() after each fault that it took. */
enum uhmm_range_fault_resched {
	UHMM_RANGE_FAULT_RESCHED_NO,
	UHMM_RANGE_FAULT_RESCHED_YES,
};

/* When a task in the simulated kernel may lose its CPU, besides sleeping and cond_resched(). */
enum uhmm_preemption {
	UHMM_PREEMPT_NONE, /* never: kernels before 7.0 that were built so */
	UHMM_PREEMPT_LAZY, /* at a tick, if another task is waiting: what Linux 7.3 is built with */
	UHMM_PREEMPT_FULL, /* anywhere but under a spin lock */
};

/*
 * What the lock checker of the checked library makes of an order of locks, or of a lock taken for reading
 * twice, that would be a deadlock under some other timing. Where only that timing is to be shown it must
 * not be reported before.
 */
enum uhmm_lock_order {
	UHMM_LOCK_ORDER_REPORTED,
	UHMM_LOCK_ORDER_IGNORED,
};

enum uhmm_report_kind {
	UHMM_REPORT_BUG, /* an invariant broke, by the model or by what a driver did; may abort() */
	UHMM_REPORT_VERIFY, /* the verifier found a violation */
	UHMM_REPORT_LOCK,   /* the lock checker found a violation */
	UHMM_REPORT_TLB,    /* a translation was used after its flush was due */
	UHMM_REPORT_FREED, /* a driver accessed a page of RAM after it had been freed (migrate.h) */
	UHMM_REPORT_WARN,  /* what the kernel would WARN about */
};

/**
 * uhmm_report_fn - receives reports; the library prints nothing itself
 * @data: report_data of the configuration
 * @kind: class of the report
 * @text: one or more lines without a trailing newline
 * Context: any thread, any lock; must not call into the library.
 */
typedef void uhmm_report_fn(void *data, enum uhmm_report_kind kind, const char *text);

/* Where faults map huge pages. Models: /sys/kernel/mm/transparent_hugepage/enabled. */
enum uhmm_thp {
	UHMM_THP_MADVISE, /* where MADV_HUGEPAGE asks for them */
	UHMM_THP_ALWAYS,  /* wherever they fit, but for MADV_NOHUGEPAGE */
	UHMM_THP_NEVER,
};

/*
 * Configuration of a machine. Zero-initialise, set size, fill in what differs from the default.
 * A field that is 0 takes its default.
 */
struct uhmm_machine_config {
	size_t size;		   /* sizeof(struct uhmm_machine_config) of the caller */
	unsigned int nr_cpus;	   /* simulated CPUs, 1..UHMM_MAX_CPUS; default 2 */
	enum uhmm_content content; /* default UHMM_CONTENT_TAG */
	uint64_t ram_bytes;	   /* RAM; default 1 TiB with tags, 64 GiB with bytes */
	uint64_t device_bytes;	   /* physical address space for device memory; same defaults */
	uint64_t seed;		   /* seed of every random choice the model makes */
	enum uhmm_combined_wait combined_wait;
	enum uhmm_thp thp;   /* default UHMM_THP_MADVISE */
	uint64_t swap_bytes; /* swap device, in whole pages; default 0: none */
	enum uhmm_swap swap;
	enum uhmm_device_pfn_space device_pfn_space; /* device_bytes is the size of either */
	enum uhmm_device_private_write device_private_write;
	enum uhmm_preemption preemption; /* of tasks under the simulated scheduler; default none */
	enum uhmm_fault_folio fault_folio;
	enum uhmm_large_hole large_hole;
	enum uhmm_device_huge_pfn device_huge_pfn;
	enum uhmm_huge_device_wait huge_device_wait;
	enum uhmm_split_lock split_lock;
	enum uhmm_split_flush split_flush;
	enum uhmm_waiters_bit waiters_bit;
	enum uhmm_lock_order lock_order;
	enum uhmm_device_private_wait device_private_wait;
	enum uhmm_migration_blocked_by migration_blocked_by;
	enum uhmm_lru_drain lru_drain;
	enum uhmm_range_fault_resched range_fault_resched;
	uhmm_report_fn *report; /* NULL: reports are counted and dropped */
	void *report_data;
};

/* An alternative by name; the values are those of an enum of the configuration, in its order. */
struct uhmm_switch {
	const char *name;	   /* such as "combined-wait" */
	const char *summary;	   /* what is decided */
	const char *const *values; /* such as "back-off"; the first is the default; NULL at the end */
};

/**
 * uhmm_switch() - what can be chosen by name
 * @i: number, from 0
 * Returns: the switch, or NULL if there are no more. Lifetime: static.
 */
UHMM_API const struct uhmm_switch *uhmm_switch(unsigned int i);

/**
 * uhmm_switch_set() - choose a value in a configuration
 * @config: (in/out) configuration
 * @name: name of a switch
 * @value: name of one of its values
 * Returns: 0; -ENOENT no such switch; -EINVAL no such value.
 */
UHMM_API int uhmm_switch_set(struct uhmm_machine_config *config, const char *name,
			     const char *value) UHMM_MUST_CHECK;

/**
 * uhmm_switch_get() - the value that a configuration has
 * @config: configuration
 * @i: number of a switch, as for uhmm_switch()
 * Returns: the name of the value, or NULL if there is no such switch or value.
 */
UHMM_API const char *uhmm_switch_get(const struct uhmm_machine_config *config, unsigned int i);

/**
 * uhmm_version() - version of the library, such as "0.1.0"
 * Returns: the version. Lifetime: static.
 */
UHMM_API const char *uhmm_version(void);

/**
 * uhmm_machine_create() - build a machine
 * @config: configuration, NULL for the defaults; copied
 * @out: (out) the machine
 * Returns: 0; -EINVAL a field is out of range or size is not one this version knows; -ENOMEM the
 * host has no memory or address space left.
 * Context: any thread; may sleep. Lifetime: destroy with uhmm_machine_destroy().
 */
UHMM_API int uhmm_machine_create(const struct uhmm_machine_config *config,
				 struct uhmm_machine **out) UHMM_MUST_CHECK;

/**
 * uhmm_machine_destroy() - free a machine and everything that still belongs to it
 * @m: machine, NULL allowed
 * Context: no task of @m may be entered on any thread and no mirror, device or file of @m may be
 * open; mms that are left are freed.
 */
UHMM_API void uhmm_machine_destroy(struct uhmm_machine *m);

/**
 * uhmm_machine_reports() - number of reports so far
 * @m: machine
 * Returns: the count over all kinds.
 */
UHMM_API uint64_t uhmm_machine_reports(struct uhmm_machine *m);

/* Where an allocation can be made to fail. */
enum uhmm_inject {
	UHMM_INJECT_META,   /* the library's own structures (tables, VMAs, ...) */
	UHMM_INJECT_FRAME,  /* RAM frames */
	UHMM_INJECT_DEVICE, /* device pages */
	UHMM_INJECT_SWAP,   /* swap slots */
	UHMM_NR_INJECT
};

/**
 * uhmm_machine_inject() - make allocations fail
 * @m: machine
 * @site: which allocations
 * @nth: the first to fail, counted from now on, 1 = the next; 0 switches off
 * @times: how many fail from there on, 0 = one
 * Returns: 0, or -EINVAL for an unknown @site.
 * Context: not while another thread is inside the library on @m.
 */
UHMM_API int uhmm_machine_inject(struct uhmm_machine *m, enum uhmm_inject site, uint64_t nth,
				 uint64_t times);

/* Memory that the library itself uses for a machine, in bytes. */
struct uhmm_memory_use {
	uint64_t metadata;	 /* allocator: VMAs, mms, notifiers, tree nodes ... */
	uint64_t page_tables;	 /* tables and their descriptors */
	uint64_t frames;	 /* frame descriptors, touched */
	uint64_t contents;	 /* tags or bytes, touched */
	uint64_t nr_ram_used;	 /* RAM frames in use */
	uint64_t nr_device_used; /* device frames in use */
	uint64_t nr_tables;	 /* page tables in use */
	uint64_t swap;		 /* swap slots: contents, counts and cache, touched */
	uint64_t nr_swap_used;	 /* swap slots in use */
};

/**
 * uhmm_machine_memory() - memory that the library uses for a machine
 * @m: machine
 * @out: (out) bytes by kind
 */
UHMM_API void uhmm_machine_memory(struct uhmm_machine *m, struct uhmm_memory_use *out);

/**
 * uhmm_task_create() - create a task
 * @m: machine
 * @mm: address space the task runs in (a reference on its users is taken), or NULL
 * @cpu: simulated CPU the task is bound to, below nr_cpus
 * @name: for reports, copied and cut to 15 bytes; NULL allowed
 * @out: (out) the task
 * Returns: 0; -EINVAL bad @cpu or @mm of another machine; -ENOMEM.
 * Lifetime: free with uhmm_task_destroy(), after uhmm_task_leave().
 */
UHMM_API int uhmm_task_create(struct uhmm_machine *m, struct uhmm_mm *mm, unsigned int cpu,
			      const char *name, struct uhmm_task **out) UHMM_MUST_CHECK;

/**
 * uhmm_task_destroy() - free a task; its counts stay with the machine
 * @t: task, not entered on any thread; NULL allowed
 */
UHMM_API void uhmm_task_destroy(struct uhmm_task *t);

/**
 * uhmm_task_enter() - make the calling host thread run as a task
 * @t: task, not entered on another thread
 * Context: outside any task; a fiber of the simulated scheduler is always inside its own.
 * Every other call into the library needs an entered task of the same machine, except those that
 * create, destroy or configure machines, tasks and schedulers.
 */
UHMM_API void uhmm_task_enter(struct uhmm_task *t);

/**
 * uhmm_task_leave() - leave the current task
 * Context: the thread's current task, no lock held.
 */
UHMM_API void uhmm_task_leave(void);

/**
 * uhmm_task_current() - the current task of the calling thread or fiber
 * Returns: the task, or NULL outside any.
 */
UHMM_API struct uhmm_task *uhmm_task_current(void);

UHMM_END_DECLS

#endif /* UHMM_MACHINE_H */
