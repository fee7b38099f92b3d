/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace.h - read recorded page-fault traces as a stream of neutral events.
 *
 * A reader turns the text of a tracing tool into events that say what happened to address
 * spaces: created, forked, mapped, unmapped, protected, moved, advised, faulted. It knows
 * nothing of the memory model. It keeps state per live task and per file named in the trace,
 * and none per event, so that traces of any length are read in constant memory. It prints
 * nothing and starts no thread.
 *
 * Formats read today: the text of `perf script`, and the native format, as text and binary
 * (docs/trace-format.md), which trace_write.h writes. See uhmm_trace_open().
 *
 * What a recorder leaves out stays "unknown" in the event: a trace of page-faults samples alone
 * carries no read/write bit, no unmap, and announces mappings only after the kernel merged them.
 * struct uhmm_trace_caps says what the trace has.
 *
 * Context (every function here): no locks are required or taken; a reader is used by one thread
 * at a time; different readers are independent. May read a file or a pipe, so may sleep.
 */
#ifndef UHMM_TRACE_H
#define UHMM_TRACE_H

#include <uhmm/types.h>

UHMM_BEGIN_DECLS

/**
 * enum uhmm_trace_kind - what an event says
 * @UHMM_TRACE_MM_NEW: a new address space; empty (exec, or first seen) or a copy (fork)
 * @UHMM_TRACE_MM_DEL: the last task left the address space
 * @UHMM_TRACE_TASK: binds a task to an address space (start, fork, clone, vfork, exec)
 * @UHMM_TRACE_TASK_EXIT: the task is gone
 * @UHMM_TRACE_OBJ: declares a file, shared memory object ... that later MAP events name
 * @UHMM_TRACE_MAP: [start, end) has these attributes from now on
 * @UHMM_TRACE_UNMAP: [start, end) is unmapped (munmap, shrinking brk, shmdt, mremap's tail)
 * @UHMM_TRACE_PROT: mprotect of [start, end)
 * @UHMM_TRACE_MOVE: mremap; carries the pages along
 * @UHMM_TRACE_ADVISE: madvise, or one of the mlock calls
 * @UHMM_TRACE_TRUNC: pages [start, end) of an object are gone from every address space
 * @UHMM_TRACE_FAULT: one page fault
 * @UHMM_TRACE_FAULT_MAJOR: the task's last FAULT (same address) turned out to need I/O
 * @UHMM_TRACE_MIGRATE: pages moved between nodes (device traces only)
 * @UHMM_TRACE_TOUCH: a memory access, fault or not (access traces only)
 * @UHMM_TRACE_LOST: the recorder dropped records here
 * @UHMM_TRACE_MARK: a remark, with no effect on memory
 */
enum uhmm_trace_kind {
	UHMM_TRACE_MM_NEW = 1,
	UHMM_TRACE_MM_DEL,
	UHMM_TRACE_TASK,
	UHMM_TRACE_TASK_EXIT,
	UHMM_TRACE_OBJ,
	UHMM_TRACE_MAP,
	UHMM_TRACE_UNMAP,
	UHMM_TRACE_PROT,
	UHMM_TRACE_MOVE,
	UHMM_TRACE_ADVISE,
	UHMM_TRACE_TRUNC,
	UHMM_TRACE_FAULT,
	UHMM_TRACE_FAULT_MAJOR,
	UHMM_TRACE_MIGRATE,
	UHMM_TRACE_TOUCH,
	UHMM_TRACE_LOST,
	UHMM_TRACE_MARK,
	UHMM_TRACE_NR_KINDS
};

/** enum uhmm_trace_bool - an answer that the recorder may not have given */
enum uhmm_trace_bool { UHMM_TRACE_UNKNOWN = 0, UHMM_TRACE_NO, UHMM_TRACE_YES };

/** enum uhmm_trace_access - what the faulting instruction wanted */
enum uhmm_trace_access {
	UHMM_TRACE_ACCESS_UNKNOWN = 0,
	UHMM_TRACE_ACCESS_READ,
	UHMM_TRACE_ACCESS_WRITE,
	UHMM_TRACE_ACCESS_EXEC
};

/** enum uhmm_trace_mode - who faulted: user code, or the kernel on a user address */
enum uhmm_trace_mode { UHMM_TRACE_MODE_UNKNOWN = 0, UHMM_TRACE_MODE_USER, UHMM_TRACE_MODE_KERNEL };

/** enum uhmm_trace_why - why an address space or a binding came into being */
enum uhmm_trace_why {
	UHMM_TRACE_FOUND = 0, /* first seen, it existed before the trace began */
	UHMM_TRACE_FORK,
	UHMM_TRACE_VFORK,  /* shares the parent's address space, is another process */
	UHMM_TRACE_THREAD, /* shares address space and process */
	UHMM_TRACE_EXEC
};

/** enum uhmm_trace_obj_kind - what backs a mapping */
enum uhmm_trace_obj_kind {
	UHMM_TRACE_OBJ_UNKNOWN = 0,
	UHMM_TRACE_OBJ_FILE,
	UHMM_TRACE_OBJ_SHMEM, /* shared anonymous memory, System V or POSIX shared memory */
	UHMM_TRACE_OBJ_MEMFD,
	UHMM_TRACE_OBJ_DEVICE,
	UHMM_TRACE_OBJ_HUGETLB
};

/* Protection bits of MAP and PROT, with Linux's values. */
#define UHMM_TRACE_PROT_READ 1u
#define UHMM_TRACE_PROT_WRITE 2u
#define UHMM_TRACE_PROT_EXEC 4u

/* Flags of a MAP. */
#define UHMM_TRACE_MAP_SHARED (1u << 0)
#define UHMM_TRACE_MAP_ANON (1u << 1) /* no object, or a nameless shared one */
#define UHMM_TRACE_MAP_STACK (1u << 2)
#define UHMM_TRACE_MAP_HEAP (1u << 3)
#define UHMM_TRACE_MAP_HUGETLB (1u << 4)
#define UHMM_TRACE_MAP_POPULATE (1u << 5)
#define UHMM_TRACE_MAP_LOCKED (1u << 6)
#define UHMM_TRACE_MAP_FIXED (1u << 7) /* the caller chose the place; may replace */
#define UHMM_TRACE_MAP_GROWSDOWN (1u << 8)
#define UHMM_TRACE_MAP_NORESERVE (1u << 9)
#define UHMM_TRACE_MAP_SPECIAL (1u << 10) /* [vdso] and the like: never migrates */
#define UHMM_TRACE_MAP_INITIAL (1u << 11) /* snapshot of a process that ran already */
/*
 * The range is a whole VMA after the kernel merged the new part with its neighbours, and the
 * trace does not say which part is new: lay the attributes over the range and keep the pages
 * that are there. Without this flag the range is exactly what was mapped, and what was there
 * before is gone.
 */
#define UHMM_TRACE_MAP_MERGED (1u << 12)
/* Attributes come from the arguments of the system call: the trace names no object. */
#define UHMM_TRACE_MAP_DERIVED (1u << 13)

/* Flags of a MOVE. */
#define UHMM_TRACE_MOVE_DONTUNMAP (1u << 0) /* the old range stays mapped, empty */
#define UHMM_TRACE_MOVE_DUP (1u << 1)	    /* old_len was 0: a second mapping of shared pages */
#define UHMM_TRACE_MOVE_FIXED (1u << 2)	    /* whatever was in the new range is gone */

/*
 * Advice of an ADVISE: Linux's MADV_ number, or one of these for the mlock family.
 * MLOCKALL covers [0, ~0) and carries MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT in .arg.
 */
#define UHMM_TRACE_ADV_MLOCK 1000
#define UHMM_TRACE_ADV_MLOCK_ONFAULT 1001
#define UHMM_TRACE_ADV_MUNLOCK 1002
#define UHMM_TRACE_ADV_MLOCKALL 1003
#define UHMM_TRACE_ADV_MUNLOCKALL 1004

/**
 * struct uhmm_trace_event - one event
 * @t_ns: time in ns on the recorder's clock; never goes back within a trace; 0 in a snapshot
 * @kind: enum uhmm_trace_kind; selects the member of the union
 * @cpu: processor number, -1 if unknown
 * @tid: the task that did it; 0 if the event belongs to none (LOST)
 * @tgid: its process; equals @tid where the recorder gave no process (see has_tgid)
 * @mm: address space, 0 if the event has none; ids are never reused within a trace. For TRUNC
 *	the caller's.
 *
 * Start and end of ranges are aligned to 4 KiB pages, and start < end; [start, end). Only
 * FAULT, FAULT_MAJOR and TOUCH carry byte addresses. Strings are valid until the next
 * uhmm_trace_next() on the reader.
 */
struct uhmm_trace_event {
	uint64_t t_ns;
	uint32_t kind;
	int32_t cpu;
	int32_t tid;
	int32_t tgid;
	uint32_t mm;
	union {
		struct {
			uint32_t why;	 /* enum uhmm_trace_why: FOUND, FORK or EXEC */
			uint32_t parent; /* mm it copies, 0 if it starts empty */
		} mm_new;
		struct {
			uint32_t why;	  /* enum uhmm_trace_why */
			const char *comm; /* command name, NULL if unknown */
		} task;
		struct {
			uint32_t id;   /* object id, counted from 1 */
			uint32_t kind; /* enum uhmm_trace_obj_kind */
			uint32_t dev_major, dev_minor;
			uint64_t ino;
			const char *name; /* NULL if unknown */
		} obj;
		struct {
			uint32_t flags; /* UHMM_TRACE_MAP_* */
			uint32_t prot;
			uhmm_vaddr_t start, end;
			uint64_t pgoff; /* in 4 KiB pages of the object; start >> 12 if none */
			uint32_t obj;	/* object id, 0: none, private anonymous memory */
		} map;
		struct {
			uhmm_vaddr_t start, end;
		} unmap;
		struct {
			uint32_t prot;
			int32_t pkey; /* -1: not given */
			uhmm_vaddr_t start, end;
		} prot;
		/*
		 * The pages of [old_start, old_end) go to new_start. A shorter new range drops
		 * the rest, a longer one ends in empty pages. old_start == new_start grows in
		 * place (shrinking in place is an UNMAP).
		 */
		struct {
			uint32_t flags; /* UHMM_TRACE_MOVE_* */
			uhmm_vaddr_t old_start, old_end;
			uhmm_vaddr_t new_start, new_end;
		} move;
		struct {
			uint32_t advice; /* MADV_* or UHMM_TRACE_ADV_* */
			/* 0, or -ENOMEM: applied to the mapped parts of a range with holes */
			int32_t error;
			uhmm_vaddr_t start, end;
			uint64_t arg;
		} advise;
		struct {
			uint32_t obj;
			uint64_t start, end; /* bytes in the object; end may be ~0 */
		} trunc;
		struct {		     /* FAULT and FAULT_MAJOR */
			uint8_t access;	     /* enum uhmm_trace_access */
			uint8_t mode;	     /* enum uhmm_trace_mode */
			uint8_t present;     /* enum uhmm_trace_bool: a protection fault */
			uint8_t major;	     /* enum uhmm_trace_bool; see FAULT_MAJOR */
			uint8_t failed;	     /* enum uhmm_trace_bool: ended in a signal */
			uint8_t order;	     /* log2 pages, 0 if unknown */
			uint16_t source;     /* 0: CPU, otherwise a device number + 1 */
			uint32_t error_code; /* the processor's, 0 if unknown */
			uhmm_vaddr_t addr;
			uint64_t ip; /* 0 if unknown */
		} fault;
		struct {
			uint32_t reason;
			uint16_t from_node, to_node;
			uhmm_vaddr_t start, end;
		} migrate;
		struct {
			uint8_t access; /* enum uhmm_trace_access */
			uint32_t size;	/* bytes */
			uhmm_vaddr_t addr;
			uint64_t repeat; /* this many in a row on the page, at least 1 */
		} touch;
		struct {
			uint64_t count; /* records, 0 if not told */
		} lost;
		struct {
			const char *text;
		} mark;
	};
};

/** enum uhmm_trace_format - formats that uhmm_trace_open() recognises */
enum uhmm_trace_format {
	UHMM_TRACE_FORMAT_NONE = 0, /* not recognised, or nothing read */
	UHMM_TRACE_FORMAT_PERF,	    /* text of perf script */
	UHMM_TRACE_FORMAT_TEXT,	    /* native, text */
	UHMM_TRACE_FORMAT_BINARY    /* native, binary */
};

/** enum uhmm_trace_clock - the clock of the recorder */
enum uhmm_trace_clock {
	UHMM_TRACE_CLOCK_UNKNOWN = 0,
	UHMM_TRACE_CLOCK_MONOTONIC,
	UHMM_TRACE_CLOCK_REALTIME,
	UHMM_TRACE_CLOCK_BOOTTIME
};

/** struct uhmm_trace_origin - who recorded the trace, and how */
struct uhmm_trace_origin {
	const char *tool; /* "perf script" and the like; NULL if unknown */
	uint32_t clock;	  /* enum uhmm_trace_clock */
	uint32_t va_bits; /* of user addresses, 0 if unknown */
};

/**
 * struct uhmm_trace_caps - what the trace tells, and so what a player need not guess
 *
 * Learned from the first 64 KiB at open and refined while reading: a flag may turn true later,
 * never false again. What holds when uhmm_trace_next() returns holds for its event.
 */
struct uhmm_trace_caps {
	uint32_t format;	/* enum uhmm_trace_format */
	bool has_rw;		/* faults carry the processor's error code: access, present */
	bool has_fault_samples; /* faults are counted once their handling begins */
	bool has_kernel_faults; /* faults of the kernel on user addresses are there */
	bool has_major;		/* FAULT_MAJOR events are there */
	bool has_unmap;		/* munmap and its kin are recorded */
	bool has_maps;		/* mappings are announced */
	bool has_data_maps;	/* ... those that are not executable too */
	bool has_fork;		/* fork, clone and exit are announced */
	bool has_clone_flags;	/* ... and vfork is told from fork */
	bool has_tgid;		/* tasks carry their process */
	bool has_cpu;
	bool has_snapshot; /* mappings from before the trace began are listed */
	bool compressed;
};

/**
 * struct uhmm_trace_stats - counts since open
 *
 * Grows at the end only.
 */
struct uhmm_trace_stats {
	uint64_t bytes;			      /* after decompression */
	uint64_t lines;			      /* of a native binary trace: events */
	uint64_t events[UHMM_TRACE_NR_KINDS]; /* handed out, by kind */
	uint64_t malformed;		      /* lines skipped for keep_going */
	uint64_t skipped_samples;     /* well-formed lines that are no event here, by class: ... */
	uint64_t skipped_tracepoints; /* ... of other tracepoints */
	uint64_t skipped_records;     /* ... other PERF_RECORD_ lines */
	uint64_t skipped_calls;	      /* system calls without effect on mappings */
	uint64_t failed_calls;	      /* system calls that failed */
	uint64_t opaque_calls;	      /* had an effect that the trace does not show */
	uint64_t unpaired_calls;      /* a call's exit without its entry, or the reverse */
	uint64_t dropped_kernel;      /* kernel fault without sample: atomic copy, no effect */
	uint64_t unpaired_faults;     /* a fault tracepoint or sample whose partner is missing */
	uint64_t no_address;	      /* fault samples without an address */
	uint64_t lost;		      /* records that the recorder says it lost */
	uint64_t time_reversed;	      /* lines with a time before their predecessor's */
	uint64_t skipped_ranges;      /* ranges outside the user's half, or that wrap */
	uint64_t inferred_mms;	      /* address spaces that are a guess: no process ids */
	uint64_t unsampled;	      /* faults that samples stand for without being in the trace */
	/*
	 * Lines of the recording, at the end of the trace: @lines, or what a native trace says of
	 * the text that it was converted from. The other counts are those of both readings.
	 */
	uint64_t source_lines;
};

/**
 * struct uhmm_trace_options - how to read
 * @size: sizeof(struct uhmm_trace_options)
 * @keep_going: count malformed lines and go on, instead of stopping at the first
 */
struct uhmm_trace_options {
	size_t size;
	bool keep_going;
};

struct uhmm_trace_reader;

/**
 * uhmm_trace_open() - start reading a trace
 * @path: in, file name, or "-" for standard input
 * @opt: in, may be NULL: all defaults
 * @out: out, the reader
 *
 * zstd compression is recognised by its magic number, and the format by what is in the file.
 * Accepted is the native format, and `perf script` output: `COMM [PID/]TID [CPU] TIME: [PERIOD]
 * EVENT: ...`, from full captures (tracepoints of faults, system calls and tasks), from plain ones
 * (page-faults samples with addresses), with or without the PERF_RECORD_ lines, call chains and
 * symbols.
 *
 * Returns: 0; -EINVAL for a bad argument; -EISDIR; -ENOMEM; or the error of open(2), such as -ENOENT
 * and -EACCES. What is wrong with the content is told by the first uhmm_trace_next().
 * Lifetime: the caller owns *@out until uhmm_trace_close(); neither @path nor @opt is kept.
 * Models: nothing (invented).
 */
UHMM_API UHMM_MUST_CHECK int uhmm_trace_open(const char *path, const struct uhmm_trace_options *opt,
					     struct uhmm_trace_reader **out);

/**
 * uhmm_trace_next() - the next event
 * @reader: in
 * @ev: out; untouched unless 1 is returned
 *
 * Returns: 1 with an event; 0 at the end; -EINVAL when the text is malformed or cut short, or the
 * compressed data damaged (ask uhmm_trace_error()); -ENOMEM; or the error of read(2). Errors
 * stay: a further call returns the same.
 * Lifetime: strings in *@ev belong to the reader and last until the next call.
 * Models: nothing (invented).
 */
UHMM_API UHMM_MUST_CHECK int uhmm_trace_next(struct uhmm_trace_reader *reader,
					     struct uhmm_trace_event *ev);

/**
 * uhmm_trace_error() - what went wrong, for a person
 * @reader: in
 *
 * Returns: "FILE:LINE: what is wrong and what to do", or "FILE: byte N: ..." in a binary trace
 * (after decompression); NULL if nothing is wrong.
 * Lifetime: belongs to the reader, until the next call on it.
 * Models: nothing (invented).
 */
UHMM_API const char *uhmm_trace_error(const struct uhmm_trace_reader *reader);

/**
 * uhmm_trace_malformed() - messages for lines that keep_going skipped
 * @reader: in
 * @i: in, which, counted from 0; the first few are kept
 *
 * Returns: "FILE:LINE: what is wrong", or NULL if there is no such message.
 * Lifetime: belongs to the reader, until uhmm_trace_close().
 * Models: nothing (invented).
 */
UHMM_API const char *uhmm_trace_malformed(const struct uhmm_trace_reader *reader, unsigned int i);

/**
 * uhmm_trace_line() - where the last event was found
 * @reader: in
 *
 * Returns: the line number that brought the event of the last uhmm_trace_next(), counted from 1.
 * An event that needed a second line to be understood counts as the second line's. In a binary
 * trace it is the number of the event, counted from 1.
 * Models: nothing (invented).
 */
UHMM_API uint64_t uhmm_trace_line(const struct uhmm_trace_reader *reader);

/**
 * uhmm_trace_position() - how far the file was read
 * @reader: in
 * @done: out, bytes read of the file as it is, compressed or not; some are read ahead
 * @size: out, its size in bytes, 0 if it is no regular file
 *
 * Models: nothing (invented).
 */
UHMM_API void uhmm_trace_position(const struct uhmm_trace_reader *reader, uint64_t *done,
				  uint64_t *size);

/**
 * uhmm_trace_origin() - who recorded the trace
 * @reader: in
 *
 * Returns: never NULL; complete from the first event on.
 * Lifetime: belongs to the reader, until uhmm_trace_close().
 * Models: nothing (invented).
 */
UHMM_API const struct uhmm_trace_origin *uhmm_trace_origin(const struct uhmm_trace_reader *reader);

/**
 * uhmm_trace_caps() - what the trace tells
 * @reader: in
 *
 * Returns: never NULL.
 * Lifetime: belongs to the reader, until uhmm_trace_close(); its content follows the reading.
 * Models: nothing (invented).
 */
UHMM_API const struct uhmm_trace_caps *uhmm_trace_caps(const struct uhmm_trace_reader *reader);

/**
 * uhmm_trace_stats() - counts so far
 * @reader: in
 *
 * Returns: never NULL.
 * Lifetime: belongs to the reader, until uhmm_trace_close(); its content follows the reading.
 * Models: nothing (invented).
 */
UHMM_API const struct uhmm_trace_stats *uhmm_trace_stats(const struct uhmm_trace_reader *reader);

/**
 * uhmm_trace_kind_name() - name of a kind of event
 * @kind: in, enum uhmm_trace_kind
 *
 * Returns: a constant such as "FAULT", or "?" for a number that is none.
 * Models: nothing (invented).
 */
UHMM_API const char *uhmm_trace_kind_name(unsigned int kind);

/**
 * uhmm_trace_close() - stop reading
 * @reader: in, may be NULL
 *
 * Lifetime: frees the reader and all that it handed out; standard input stays open.
 * Models: nothing (invented).
 */
UHMM_API void uhmm_trace_close(struct uhmm_trace_reader *reader);

UHMM_END_DECLS

#endif /* UHMM_TRACE_H */
