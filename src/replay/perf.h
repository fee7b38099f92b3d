/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * perf.h - what the parts of the reader of perf script text share.
 *
 *   perf.c         lines: the head, the event's name, system calls
 *   perf_fault.c   faults: tracepoints, samples, and which belong together
 *   perf_records.c PERF_RECORD_ lines and the tracepoints of tasks
 */
#ifndef UHMM_REPLAY_PERF_H
#define UHMM_REPLAY_PERF_H

#include "replay/trace_internal.h"

/* COMM [PID/]TID [CPU] TIME: REST */
struct perf_line {
	uint64_t t_ns;
	uint64_t period; /* 0: not given */
	int32_t tid;
	int32_t tgid; /* valid if has_tgid */
	int32_t cpu;  /* -1: not given */
	bool has_tgid;
	bool chain; /* the lines that follow are its call chain */
	char *comm;
	size_t comm_len;
	char *time; /* where it begins */
	char *rest; /* behind it */
	char *end;  /* the NUL at the end of the line */
};

/* A PERF_RECORD_FORK of a process, while it is open whether it was vfork(). */
struct perf_fork {
	int32_t parent_tid, parent_tgid;
	int32_t tid, tgid;
	uint64_t t_ns;
};
#define PERF_MAX_FORKS 16

/* A fault sample that waits for the first line of its call chain. */
struct perf_held {
	bool held;
	bool has_addr;
	uint8_t major; /* enum uhmm_trace_bool */
	int32_t tid, tgid, cpu;
	uint64_t addr, t_ns;
};

/* Where code of an address space was seen, for layouts without process numbers. */
#define PERF_GUESS_IPS 64
struct perf_guess {
	int32_t tgid;
	unsigned int next;
	uint32_t comm_hash;
	uint64_t ips[PERF_GUESS_IPS]; /* 2 MiB blocks */
};
#define PERF_MAX_GUESSES 64

/* How a line begins, up to its time: many lines begin alike. */
#define PERF_HEAD_MAX 64
struct perf_head {
	size_t len; /* 0: none */
	char text[PERF_HEAD_MAX];
	struct perf_line line; /* its pointers are those of a line that is gone */
	size_t comm_at;
};

struct perf_state {
	struct perf_head head;
	bool in_sample;	   /* lines that begin with a tab belong to the line before */
	bool seen_records; /* PERF_RECORD_ lines of tasks */
	bool seen_fork;	   /* PERF_RECORD_FORK among them */
	bool seen_newtask;
	bool plain_forks; /* a fork had no task_newtask: none will */
	bool seen_sample; /* page-faults samples: tracepoints wait for theirs */
	bool alone;	  /* no samples seem to come: tracepoints stand alone */
	unsigned int nr_alone;
	unsigned int nr_forks;
	unsigned int nr_guesses;
	struct perf_held hold;
	struct perf_fork forks[PERF_MAX_FORKS];
	struct perf_guess guesses[PERF_MAX_GUESSES];
};

static inline struct perf_state *perf_state(struct uhmm_trace_reader *r)
{
	return r->priv;
}

/* ---- perf.c ---- */

/* False unless the line has the form above. */
bool uhmm__perf_split(char *s, size_t len, struct perf_line *l);
/* The line's task; NULL for the idle task, for a dead one, and without memory. */
struct trace_task *uhmm__perf_task(struct uhmm_trace_reader *r, const struct perf_line *l,
				   uint64_t ip);
/* The task executed a program: what was guessed of its process is void. */
void uhmm__perf_guess_void(struct uhmm_trace_reader *r, struct trace_task *task,
			   const struct perf_line *l);
/* The value behind the last @key ("pid=") of the text; NULL if there is none. */
char *uhmm__perf_field(char *text, const char *key);

/* ---- perf_fault.c ---- */

/* exceptions:page_fault_{user,kernel} with @p at the payload. */
int uhmm__perf_tracepoint(struct uhmm_trace_reader *r, const struct perf_line *l, bool kernel,
			  char *p);
/* page-faults (@major unknown), minor-faults or major-faults. */
int uhmm__perf_sample(struct uhmm_trace_reader *r, const struct perf_line *l,
		      enum uhmm_trace_bool major, char *p);
/* The first line of the held sample's call chain, or NULL for none. */
void uhmm__perf_chain(struct uhmm_trace_reader *r, char *p);
/* The task does something else: no sample will come for its fault tracepoint. */
void uhmm__perf_settle_slow(struct uhmm_trace_reader *r, struct trace_task *task);

static inline void perf_settle(struct uhmm_trace_reader *r, struct trace_task *task)
{
	if (unlikely(task->fault.pending))
		uhmm__perf_settle_slow(r, task);
}

/* ---- perf_records.c ---- */

int uhmm__perf_record(struct uhmm_trace_reader *r, const struct perf_line *l, char *p);
int uhmm__perf_newtask(struct uhmm_trace_reader *r, const struct perf_line *l, char *p);
int uhmm__perf_sched_exec(struct uhmm_trace_reader *r, const struct perf_line *l);
int uhmm__perf_sched_exit(struct uhmm_trace_reader *r, const struct perf_line *l, char *p);
/* The line may settle what forks in doubt were; @p is its event, NULL at the end. */
void uhmm__perf_forks_settle(struct uhmm_trace_reader *r, const struct perf_line *l, const char *p);

#endif /* UHMM_REPLAY_PERF_H */
