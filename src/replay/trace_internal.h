/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trace_internal.h - what the parts of the trace reader share.
 *
 *   trace.c        the public functions, format detection, error policy
 *   trace_input.c  bytes and lines: files, pipes, zstd
 *   trace_state.c  tasks, processes, address spaces, objects; the queue of events
 *   trace_calls.c  system calls: entry and exit become MAP, UNMAP, PROT, MOVE ...
 *   perf*.c        the text of perf script
 *   native*.c      the native format; see native.h
 *   trace_ahead.c  a thread that reads ahead; see trace_ahead.h
 *
 * A format is a struct trace_ops. Formats parse; what a line means for tasks and mappings is
 * decided in trace_state.c and trace_calls.c, once for all formats.
 */
#ifndef UHMM_REPLAY_TRACE_INTERNAL_H
#define UHMM_REPLAY_TRACE_INTERNAL_H

#include <stdarg.h>
#include <sys/types.h>

#include <uhmm/trace.h>

#include "core/compiler.h"
#include "core/list.h"

struct trace_input;

/* Longest line, with its end. Longer ones are malformed and skipped in pieces. */
#define TRACE_LINE_MAX (128u << 10)
#define TRACE_BUF_SIZE (2 * TRACE_LINE_MAX)
#define TRACE_BUF_SLACK 32
/* How much is looked at to recognise the format. */
#define TRACE_PEEK (64u << 10)
#define TRACE_KEPT_MESSAGES 8
#define TRACE_MESSAGE_MAX 320

#define trace_page_down(x) ((x) & ~(uint64_t)0xfff)
#define trace_page_up(x) trace_page_down((x) + 0xfff)

/* ---- bytes and lines ---- */

/*
 * On success *@out is allocated. Returns 0 or a negative errno of open(2).
 */
int uhmm__trace_input_open(const char *path, struct trace_input **out);
void uhmm__trace_input_close(struct trace_input *in);
/*
 * Looks ahead up to TRACE_PEEK bytes of text. 0, or a negative errno (the reason in
 * uhmm__trace_input_error()).
 */
int uhmm__trace_input_peek(struct trace_input *in, const char **text, size_t *len);
bool uhmm__trace_input_compressed(const struct trace_input *in);
/* What went wrong with the bytes, a constant; NULL if read(2) itself failed. */
const char *uhmm__trace_input_error(const struct trace_input *in);

/* A line, without its end, followed by a NUL; the text may be changed by the caller. */
struct trace_line {
	char *s;
	size_t len;
	bool whole;    /* ended in a newline */
	bool too_long; /* cut at TRACE_LINE_MAX, the rest is dropped */
	bool tab_next; /* the next line begins with a tab: a call chain follows */
};

/* 1 with a line, 0 at the end, or a negative errno. */
int uhmm__trace_input_line(struct trace_input *in, struct trace_line *line);
/*
 * *@p is the next @want bytes, at most TRACE_LINE_MAX, or as many as there are. Returns their number,
 * or a negative errno. They stay until uhmm__trace_input_skip() leaves some behind. TRACE_BUF_SLACK
 * bytes behind them can be read, too.
 */
ssize_t uhmm__trace_input_bytes(struct trace_input *in, size_t want, const unsigned char **p);
void uhmm__trace_input_skip(struct trace_input *in, size_t n);
void uhmm__trace_input_position(const struct trace_input *in, uint64_t *done, uint64_t *size);

/* ---- state ---- */

/* System calls that change mappings; TRACE_CALL_NONE ones are skipped. */
enum trace_call_nr {
	TRACE_CALL_NONE = 0, /* no effect on mappings */
	TRACE_CALL_MMAP,
	TRACE_CALL_MUNMAP,
	TRACE_CALL_MPROTECT,
	TRACE_CALL_PKEY_MPROTECT,
	TRACE_CALL_BRK,
	TRACE_CALL_MREMAP,
	TRACE_CALL_MADVISE,
	TRACE_CALL_PROCESS_MADVISE,
	TRACE_CALL_MLOCK,
	TRACE_CALL_MLOCK2,
	TRACE_CALL_MUNLOCK,
	TRACE_CALL_MLOCKALL,
	TRACE_CALL_MUNLOCKALL,
	TRACE_CALL_SHMAT,
	TRACE_CALL_SHMDT,
	TRACE_CALL_REMAP_FILE_PAGES,
	TRACE_CALL_FTRUNCATE,
	TRACE_CALL_FALLOCATE,
	TRACE_CALL_EXECVE,
	TRACE_NR_CALLS
};

/* A VMA as the recorder reports it. */
struct trace_vma {
	uint64_t start, end, pgoff;
	uint32_t prot, flags, obj;
	bool sysv; /* a System V segment: shmdt() will name its start alone */
};

/* A system call between its entry and its exit. */
struct trace_call {
	enum trace_call_nr nr;
	bool has_vma; /* the kernel reported a VMA meanwhile: the last such */
	bool applied; /* its effect was seen before its exit, and is in the stream */
	bool on_zaps; /* linked into mm->zaps */
	uint64_t args[6];
	uint64_t start, end; /* of what it takes away */
	uint64_t prot_done;  /* mprotect: PROT was emitted up to here */
	struct trace_vma vma;
	struct list_head zaps;
};

/* A fault tracepoint that waits for its sample. */
struct trace_fault {
	bool pending;
	bool kernel;
	bool has_addr;
	int32_t cpu;
	uint32_t code;
	uint64_t addr, ip;
};

struct trace_shm {
	uint64_t start, len;
};

struct trace_mm {
	uint32_t id;
	unsigned int users; /* processes */
	bool found;	    /* existed before it was seen */
	bool brk_known;
	uint64_t brk;
	uint64_t nr_events;
	struct trace_shm *shm;
	unsigned int nr_shm, cap_shm;
	struct list_head zaps; /* calls in flight that take pages away */
};

/* What a file descriptor was last mapped as; the trace shows no close(). */
struct trace_fd {
	int32_t fd;
	uint32_t obj;
};
#define TRACE_PROC_FDS 16

struct trace_proc {
	struct trace_proc *hash_next;
	int32_t tgid;
	struct trace_mm *mm; /* NULL until something happens in it */
	struct list_head tasks;
	struct trace_fd *fds;
	unsigned int next_fd;
};

struct trace_task {
	struct trace_task *hash_next;
	int32_t tid;
	bool announced;	 /* a TASK event was emitted */
	bool exiting;	 /* sched_process_exit was seen, its exit record not yet */
	bool group_dead; /* ... and it was the last of its process */
	bool exec_seen;	 /* this execve was announced */
	uint32_t why;
	uint32_t comm_hash;
	struct trace_proc *proc;
	struct list_head link;
	struct trace_call call;
	struct trace_fault fault;
	uint64_t sampled_addr; /* of the last fault sample; ~0: none */
};

struct trace_object {
	uint64_t key[3];
	uint32_t id;
};

#define TRACE_HASH_SIZE 4096

struct trace_state {
	struct trace_task *tasks[TRACE_HASH_SIZE];
	struct trace_proc *procs[TRACE_HASH_SIZE];
	struct trace_task *last_task;
	uint32_t next_mm;
	uint32_t next_obj;
	struct trace_object *objects;
	size_t nr_objects, cap_objects;
};

/* ---- formats ---- */

struct trace_ops {
	enum uhmm_trace_format format;
	/* How sure the format is of this text, 0 to 100. */
	int (*probe)(const char *text, size_t len);
	/*
	 * Allocates r->priv; fills in r->caps from the peeked text. 0, -ENOMEM, or the result of
	 * uhmm__trace_fatal().
	 */
	int (*start)(struct uhmm_trace_reader *r, const char *text, size_t len);
	/* Text: 0, or -EINVAL after uhmm__trace_bad(). */
	int (*line)(struct uhmm_trace_reader *r, struct trace_line *line);
	/* Text, no more lines: emit what was held back. */
	void (*finish)(struct uhmm_trace_reader *r);
	/*
	 * Binary, in place of the two: 1 with an event, 0 at the end, or a negative errno. *@ev may
	 * be written to in any case.
	 */
	int (*next)(struct uhmm_trace_reader *r, struct uhmm_trace_event *ev);
	/*
	 * Optional: as many of the next events as are plain FAULTs and easily read, with their lines;
	 * at most @max, 0 at any time. It changes nothing else that a user could see.
	 */
	size_t (*faults)(struct uhmm_trace_reader *r, struct uhmm_trace_event *events,
			 uint64_t *lines, size_t max);
	void (*stop)(struct uhmm_trace_reader *r);
};

extern const struct trace_ops uhmm__trace_perf_ops;
extern const struct trace_ops uhmm__native_text_ops, uhmm__native_binary_ops;

/* ---- the reader ---- */

struct uhmm_trace_reader {
	struct trace_input *input;
	const struct trace_ops *ops;
	void *priv;
	char *name;
	bool keep_going;
	bool finished;
	int error; /* sticky */
	char message[TRACE_MESSAGE_MAX];
	char bad[TRACE_MESSAGE_MAX]; /* why the current line is malformed */
	char *kept[TRACE_KEPT_MESSAGES];
	uint64_t line; /* number of the current one */

	/* What the current line says of every event that it causes. */
	uint64_t t_ns;
	uint64_t last_t_ns;
	int32_t cpu;
	const char *comm;

	struct uhmm_trace_event *queue;
	size_t head, tail, cap;
	struct uhmm_trace_event spill; /* written to when there is no memory for more */

	struct trace_state st;
	struct uhmm_trace_origin origin;
	struct uhmm_trace_caps caps;
	uint64_t caps_changes; /* how often they have */
	struct uhmm_trace_stats stats;
};

/* ---- trace.c ---- */

/* Says why the current line is malformed; returns -EINVAL. */
int uhmm__trace_bad(struct uhmm_trace_reader *r, const char *fmt, ...) uhmm_printf(2, 3);
/* There is no memory: the reader stops after this line. */
uhmm_cold void uhmm__trace_nomem(struct uhmm_trace_reader *r);
/* The reading ends here, with this behind the file's name; returns @err. */
uhmm_cold int uhmm__trace_fatal(struct uhmm_trace_reader *r, int err, const char *fmt, ...)
	uhmm_printf(3, 4);
/* The same with -EINVAL, unless the user wants to go on: then it is counted, and the result is 0. */
uhmm_cold int uhmm__trace_malformed(struct uhmm_trace_reader *r, const char *fmt, ...)
	uhmm_printf(2, 3);
/* uhmm_trace_next(), but *@ev may be written to in any case. */
int uhmm__trace_next(struct uhmm_trace_reader *r, struct uhmm_trace_event *ev);
/* The FAULTs that come next, see struct trace_ops: how many, 0 if uhmm__trace_next() must tell. */
size_t uhmm__trace_faults(struct uhmm_trace_reader *r, struct uhmm_trace_event *events,
			  uint64_t *lines, size_t max);

/* ---- trace_state.c ---- */

void uhmm__trace_state_init(struct trace_state *st);
void uhmm__trace_state_exit(struct uhmm_trace_reader *r);

/*
 * A new event at the end of the queue, all zero but for the head, which is the current line's.
 * @task may be NULL. Never NULL: without memory it is a spare one that goes nowhere.
 */
struct uhmm_trace_event *uhmm__trace_emit(struct uhmm_trace_reader *r, uint32_t kind,
					  const struct trace_task *task);

struct trace_task *uhmm__trace_task_find(struct uhmm_trace_reader *r, int32_t tid);
/*
 * The task, made if it is not known; @tgid is its process. An old task of that number in another
 * process is gone. NULL without memory.
 */
struct trace_task *uhmm__trace_task_get(struct uhmm_trace_reader *r, int32_t tid, int32_t tgid);
/* See trace_mm_get(). */
struct trace_mm *uhmm__trace_mm_get_slow(struct uhmm_trace_reader *r, struct trace_task *task);

/* @how is UHMM_TRACE_FORK, _VFORK or _THREAD. Forgets an old task @tid first. */
void uhmm__trace_fork(struct uhmm_trace_reader *r, struct trace_task *parent, int32_t tid,
		      int32_t tgid, enum uhmm_trace_why how);
/* A new empty address space for @task; the other threads of its process are gone. */
void uhmm__trace_exec(struct uhmm_trace_reader *r, struct trace_task *task);
/* @group: it was the last of its process; those that left unseen go too. Frees @task. */
void uhmm__trace_exit(struct uhmm_trace_reader *r, struct trace_task *task, bool group);
/*
 * The number of the object, declared by an OBJ event if it is new; 0 without memory.
 * @key NULL: an object that is never met again.
 */
uint32_t uhmm__trace_object(struct uhmm_trace_reader *r, const uint64_t key[3],
			    const struct uhmm_trace_event *desc);

/* ---- trace_calls.c ---- */

void uhmm__trace_call_enter(struct uhmm_trace_reader *r, struct trace_task *task,
			    enum trace_call_nr nr, const uint64_t *args);
void uhmm__trace_call_exit(struct uhmm_trace_reader *r, struct trace_task *task,
			   enum trace_call_nr nr, uint64_t ret);
/* The task goes away, or its exit was lost: forget its call in flight. */
void uhmm__trace_call_drop(struct trace_task *task);
/* The recorder reports a VMA of the task's address space (MMAP2). */
void uhmm__trace_vma(struct uhmm_trace_reader *r, struct trace_task *task,
		     const struct trace_vma *vma);
/*
 * Somebody mapped or faulted in [start, end): a call in flight of another task that takes pages
 * away there has done so already, although its exit comes later.
 */
void uhmm__trace_zaps_seen(struct uhmm_trace_reader *r, struct trace_mm *mm,
			   const struct trace_task *by, uint64_t start, uint64_t end, bool fault);

/*
 * The task's address space; emits MM_NEW and TASK where the player has not heard of them.
 * NULL without memory.
 */
static inline struct trace_mm *trace_mm_get(struct uhmm_trace_reader *r, struct trace_task *task)
{
	if (likely(task->announced))
		return task->proc->mm;
	return uhmm__trace_mm_get_slow(r, task);
}

#endif /* UHMM_REPLAY_TRACE_INTERNAL_H */
