/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * replay.h - play a recorded trace into a machine, or into one machine for each strategy.
 *
 * A player turns the events of trace.h into calls on address spaces: it maps, forks, unmaps, and
 * makes for each recorded fault one access at the same address by the same CPU. An offload model
 * turns some of the accesses into accesses by a device, served by a strategy of mirror.h. Each
 * write stores a value that depends on the number of the event alone, so that runs can be compared
 * and lost data shows.
 *
 * A replay runs one trace through several players side by side, one for each strategy, a batch of
 * events at a time: it reads the trace once, in constant memory, by a thread that runs ahead, and
 * compares the machines at the end of each address space and at the end of the trace.
 *
 * Files and shared memory are files of the model (file.h), one for each object of the trace. Huge
 * pages are the model's, as the player's setting and the trace's madvise() have them. What is not
 * modelled - hugetlb, vdso - is played as the nearest thing, and counted as such. The library prints
 * nothing.
 */
#ifndef UHMM_REPLAY_H
#define UHMM_REPLAY_H

#include <uhmm/mirror.h>
#include <uhmm/trace.h>

UHMM_BEGIN_DECLS

/* ---- which accesses the device makes ---- */

enum uhmm_offload_kind {
	UHMM_OFFLOAD_NONE,
	UHMM_OFFLOAD_ALL,
	UHMM_OFFLOAD_SHARE, /* each access with a probability, by the seed and the event's number */
	UHMM_OFFLOAD_TASKS, /* those of some threads */
	UHMM_OFFLOAD_RANGE, /* those in a range of addresses, in any process */
};

/*
 * Whatever the kind, only data accesses go to the device (no instruction fetches), only to private
 * anonymous memory of the trace (not to what is merely played as such), and only where the mapping
 * permits them. All others stay with the CPU.
 */
struct uhmm_offload {
	enum uhmm_offload_kind kind;
	double share;	     /* SHARE: 0 to 1 */
	const int32_t *tids; /* TASKS: thread ids of the trace; copied */
	size_t nr_tids;
	uhmm_vaddr_t start, end; /* RANGE */
};

/* ---- what a player counts ---- */

/* X(ENUM, "name", "what is counted"). Names are stable: reports and JSON use them. */
#define UHMM_REPLAY_COUNTS(X)                                                                      \
	X(EVENTS, "events", "events played")                                                       \
	X(FAULTS, "faults", "faults in the trace")                                                 \
	X(MAJOR_FAULTS, "major_faults", "of these, that waited for I/O")                           \
	X(TOUCHES, "touches", "recorded accesses, faults or not")                                  \
	X(CPU_ACCESSES, "cpu_accesses", "accesses made by CPUs")                                   \
	X(FETCHES, "fetches", "of these, instruction fetches")                                     \
	X(SIGNALS, "signals", "of these, that ended in a signal")                                  \
	X(DEVICE_ACCESSES, "device_accesses", "accesses made by the device")                       \
	X(DEVICE_SERVED, "device_served", "of these, that faulted: ranges served")                 \
	X(SERVICE_WALKS, "service_walks",                                                          \
	  "range walks of the service, without those of faults in it")                             \
	X(DEVICE_REMOTE, "device_remote", "of these, whose page stayed in RAM")                    \
	X(DEVICE_FAILED, "device_failed", "device accesses that failed")                           \
	X(GUESSED_ACCESS, "guessed_access", "faults without a read/write bit: kind guessed")       \
	X(FILE_ACCESSES, "file_accesses", "accesses to private mappings of files")                 \
	X(SHARED_ACCESSES, "shared_accesses", "accesses to shared mappings")                       \
	X(AS_ANON_SPECIAL, "as_anon_special",                                                      \
	  "accesses to vdso and the like, played as anonymous")                                    \
	X(AS_HUGETLB, "as_hugetlb",                                                                \
	  "accesses to hugetlb memory, played as transparent huge pages if private")               \
	X(INFERRED_VMAS, "inferred_vmas", "mappings inferred from faults")                         \
	X(INFERRED_PAGES, "inferred_pages", "pages of them")                                       \
	X(MM_NEW, "mm_new", "address spaces that began empty")                                     \
	X(MM_FORK, "mm_fork", "address spaces that were forked")                                   \
	X(MM_DEL, "mm_del", "address spaces that ended")                                           \
	X(MAPS, "maps", "mappings played")                                                         \
	X(UNMAPS, "unmaps", "unmappings played")                                                   \
	X(PROTECTS, "protects", "changes of protection played")                                    \
	X(MOVES, "moves", "mremaps played")                                                        \
	X(ADVICE, "advice", "madvise and mlock calls played")                                      \
	X(MOVES_INEXACT, "moves_inexact", "mremaps played as unmap and map")                       \
	X(ADVICE_IGNORED, "advice_ignored", "advice that is not modelled")                         \
	X(LOCKS_POPULATED, "locks_populated", "mlock calls played as populate")                    \
	X(TRUNCATES, "truncates", "truncations and holes")                                         \
	X(REFUSED, "refused", "calls that succeeded in the trace and failed in the model")         \
	X(SKIPPED, "skipped", "events of a kind that is not played")                               \
	X(LOST, "lost", "records that the recorder lost")

enum uhmm_replay_count {
#define UHMM_REPLAY_COUNT_ENUM(id, name, text) UHMM_REPLAY_##id,
	UHMM_REPLAY_COUNTS(UHMM_REPLAY_COUNT_ENUM)
#undef UHMM_REPLAY_COUNT_ENUM
		UHMM_NR_REPLAY_COUNTS
};

/*
 * X(ENUM, "name", "why"): reasons for which a fault of the trace is none in the model; the first
 * that applies counts. docs/replay.md explains them.
 */
#define UHMM_REPLAY_MISSES(X)                                                                      \
	X(SAME_TIME, "same_time", "another thread faulted on the page within 100 us")              \
	X(UNKNOWN_ACCESS, "unknown_access",                                                        \
	  "read or write was not recorded, an earlier guess was wrong")                            \
	X(SHARED, "shared_memory", "shared page, mapped around another fault in the model")        \
	X(FILE_FORK, "file_after_fork",                                                            \
	  "the same: file page, in an address space that was forked")                              \
	X(FILE, "file", "the same: file page")                                                     \
	X(SPECIAL, "special", "vdso and the like, played as anonymous")                            \
	X(NO_UNMAP, "no_unmap", "the trace has no unmappings: the page was taken for mapped")      \
	X(HUGE, "huge", "the page was mapped by a huge one in the model")                          \
	X(POPULATED, "populated", "the page was populated in the model")                           \
	X(OTHER, "other", "none of these")

enum uhmm_replay_miss {
#define UHMM_REPLAY_MISS_ENUM(id, name, text) UHMM_REPLAY_MISS_##id,
	UHMM_REPLAY_MISSES(UHMM_REPLAY_MISS_ENUM)
#undef UHMM_REPLAY_MISS_ENUM
		UHMM_NR_REPLAY_MISSES
};

/* Faults of CPUs, the trace's against the model's. */
struct uhmm_replay_agreement {
	uint64_t faults;    /* in the trace */
	uint64_t offloaded; /* of these, now made by the device: not compared */
	uint64_t agreed;    /* of the others, that fault in the model too */
	uint64_t signals;   /* of the agreed, that ended in a signal in the model */
	/* Of the agreed whose error code is known: whether a page was there (a protection fault). */
	uint64_t same_kind;	   /* in both, or in neither */
	uint64_t other_kind_anon;  /* in one alone, in private anonymous memory */
	uint64_t other_kind_other; /* in one alone, in other memory */
	uint64_t missed[UHMM_NR_REPLAY_MISSES];
	uint64_t extra_again; /* faults of the model beyond the first of an access: not in the trace */
	uint64_t extra_touch; /* faults of recorded accesses that are no faults in the trace */
};

/** uhmm_replay_count_name() - stable name, or NULL. */
UHMM_API const char *uhmm_replay_count_name(enum uhmm_replay_count c);
/** uhmm_replay_count_text() - what is counted, or NULL. */
UHMM_API const char *uhmm_replay_count_text(enum uhmm_replay_count c);
/** uhmm_replay_miss_name() - stable name, or NULL. */
UHMM_API const char *uhmm_replay_miss_name(enum uhmm_replay_miss m);
/** uhmm_replay_miss_text() - one-line description, or NULL. */
UHMM_API const char *uhmm_replay_miss_text(enum uhmm_replay_miss m);

/* ---- a player ---- */

struct uhmm_player_config {
	size_t size; /* sizeof(struct uhmm_player_config) of the caller */
	enum uhmm_strategy strategy;
	struct uhmm_offload offload;
	uint64_t granularity;  /* of the fault service, 0 = 4 KiB; see uhmm_mirror_access() */
	uint64_t device_bytes; /* memory of the device, 0 = unlimited */
	uint64_t seed;
	unsigned int nr_cpus; /* simulated; CPUs of the trace are taken modulo it; 0 = 2 */
	/*
	 * Where faults map huge pages. A trace does not tell what the traced machine was set to; the
	 * default maps them where MADV_HUGEPAGE in the trace asks for it.
	 */
	enum uhmm_thp thp;
	uhmm_report_fn *report;
	void *report_data;
};

struct uhmm_player;

/**
 * uhmm_player_create() - a machine to play into
 * @config: NULL for the defaults; copied
 * @out: (out) the player
 * Returns: 0; -EINVAL a field is out of range; -ENOMEM.
 * Context: outside any task. Lifetime: uhmm_player_destroy().
 */
UHMM_API int uhmm_player_create(const struct uhmm_player_config *config,
				struct uhmm_player **out) UHMM_MUST_CHECK;

/**
 * uhmm_player_destroy() - free the machine and everything in it; NULL allowed
 * Context: outside any task.
 */
UHMM_API void uhmm_player_destroy(struct uhmm_player *player);

/**
 * uhmm_player_run() - play events
 * @player: player
 * @caps: what the trace tells, NULL = everything
 * @events: events in order; strings in them are not read
 * @nr: how many
 * Returns: 0; -ENOMEM the host, or the modelled machine, has no memory left: the player can only
 * be looked at and destroyed then.
 * Context: outside any task; enters and leaves tasks of its machine. Sleeps. One thread at a time.
 */
UHMM_API int uhmm_player_run(struct uhmm_player *player, const struct uhmm_trace_caps *caps,
			     const struct uhmm_trace_event *events, size_t nr) UHMM_MUST_CHECK;

/** uhmm_player_enter() - enter a task of the player's machine, to look at it. Outside any task. */
UHMM_API void uhmm_player_enter(struct uhmm_player *player);
/** uhmm_player_leave() - leave it. */
UHMM_API void uhmm_player_leave(struct uhmm_player *player);

/** uhmm_player_machine() - the machine. Lifetime: the player's. */
UHMM_API struct uhmm_machine *uhmm_player_machine(struct uhmm_player *player);

/** uhmm_player_mm() - address space number @n of the trace; NULL if unknown or gone. */
UHMM_API struct uhmm_mm *uhmm_player_mm(struct uhmm_player *player, uint32_t n);

/** uhmm_player_nr_mms() - the highest such number so far. */
UHMM_API uint32_t uhmm_player_nr_mms(const struct uhmm_player *player);

/** uhmm_player_count() - what was counted so far; 0 if @c is not a count. */
UHMM_API uint64_t uhmm_player_count(const struct uhmm_player *player, enum uhmm_replay_count c);

/** uhmm_player_agreement() - agreement so far. */
UHMM_API void uhmm_player_agreement(const struct uhmm_player *player,
				    struct uhmm_replay_agreement *out);

/** uhmm_player_digest() - depends on every value that an access has read, and on their order. */
UHMM_API uint64_t uhmm_player_digest(const struct uhmm_player *player);

/** uhmm_player_device() - the device; NULL if no access has gone to it yet. */
UHMM_API struct uhmm_device *uhmm_player_device(struct uhmm_player *player);

/* ---- a replay ---- */

struct uhmm_replay_config {
	size_t size;		 /* sizeof(struct uhmm_replay_config) of the caller */
	unsigned int strategies; /* bit 1 << enum uhmm_strategy; 0 = combined alone */
	bool keep_going;	 /* count malformed lines and go on */
	bool verify;		 /* also run the verifier each time machines are compared */
	struct uhmm_player_config player; /* its strategy is not used */
	/* Called with the first differences between machines, one line each; NULL allowed. */
	uhmm_emit_fn *difference;
	void *difference_data;
};

/* One strategy's run. */
struct uhmm_replay_run {
	enum uhmm_strategy strategy;
	struct uhmm_player *player; /* the replay's */
	uint64_t host_ns;	    /* host time spent in the player */
	int64_t violations;	    /* found by the verifier */
	int64_t differing;	    /* pages that differ from the first run's; 0 in the first */
	uint64_t apart;	  /* pages that do so because other device faults were served around them */
	bool same_digest; /* its accesses read what the first run's did */
};

struct uhmm_replay;

/**
 * uhmm_replay_open() - open a trace and make a player for each strategy
 * @path: trace, "-" for standard input
 * @config: NULL for the defaults; copied, but not what its pointers point to
 * @out: (out) the replay
 * Returns: 0; -EINVAL a field is out of range; -ENOMEM; or the error of open(2).
 * Context: outside any task. Lifetime: uhmm_replay_close().
 */
UHMM_API int uhmm_replay_open(const char *path, const struct uhmm_replay_config *config,
			      struct uhmm_replay **out) UHMM_MUST_CHECK;

/**
 * uhmm_replay_step() - read a batch of events and play it in every machine
 * @replay: replay
 * Returns: 1 if there may be more; 0 at the end: machines were verified and compared for the last
 * time; -EINVAL malformed (uhmm_trace_error() of the reader says what); -ENOMEM; or the error of
 * read(2).
 * Context: outside any task; sleeps.
 */
UHMM_API int uhmm_replay_step(struct uhmm_replay *replay) UHMM_MUST_CHECK;

/**
 * uhmm_replay_until() - play all events up to and including a line of the trace
 * @line: counted from 1
 * Returns: 0 done, or the trace ended before; negative as uhmm_replay_step().
 * Machines are neither verified nor compared.
 */
UHMM_API int uhmm_replay_until(struct uhmm_replay *replay, uint64_t line) UHMM_MUST_CHECK;

/**
 * uhmm_replay_reader() - the trace, for its messages and counts
 * Context: after the end of the trace or an error; before, a thread of the replay reads it.
 */
UHMM_API const struct uhmm_trace_reader *uhmm_replay_reader(const struct uhmm_replay *replay);

/** uhmm_replay_line() - the line of the last event that was played. */
UHMM_API uint64_t uhmm_replay_line(const struct uhmm_replay *replay);

/**
 * uhmm_replay_position() - how far the trace was played
 * @done: (out) bytes of the file that were read for what was played, compressed or not
 * @size: (out) its size in bytes, 0 if it is no regular file
 */
UHMM_API void uhmm_replay_position(const struct uhmm_replay *replay, uint64_t *done,
				   uint64_t *size);

/** uhmm_replay_nr_runs() - number of strategies. */
UHMM_API unsigned int uhmm_replay_nr_runs(const struct uhmm_replay *replay);

/** uhmm_replay_get_run() - the @i-th run, in the order of enum uhmm_strategy; NULL if there is none. */
UHMM_API const struct uhmm_replay_run *uhmm_replay_get_run(const struct uhmm_replay *replay,
							   unsigned int i);

/** uhmm_replay_close() - free machines and reader; NULL allowed. Outside any task. */
UHMM_API void uhmm_replay_close(struct uhmm_replay *replay);

UHMM_END_DECLS

#endif /* UHMM_REPLAY_H */
