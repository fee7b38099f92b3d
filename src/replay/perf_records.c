// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * perf_records.c - PERF_RECORD_ lines and the tracepoints of tasks.
 *
 * A record names the process and thread it is about; the head of its line may name the recorder
 * instead (0/0 where it describes what was there before). Records at time 0 are such.
 */
#include <stdlib.h>

#include "replay/perf.h"
#include "replay/trace_parse.h"

#define CLONE_VM 0x100u
#define CLONE_THREAD 0x10000u

/* A fork that waited this long for its task_newtask will not get it. */
#define FORK_WAIT_NS 1000000u

/* ---- mappings ---- */

static bool begins(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static enum uhmm_trace_obj_kind obj_kind(const char *name)
{
	if (begins(name, "/memfd:"))
		return UHMM_TRACE_OBJ_MEMFD;
	if (begins(name, "/anon_hugepage"))
		return UHMM_TRACE_OBJ_HUGETLB;
	if (begins(name, "/dev/zero") || begins(name, "/SYSV") || begins(name, "/dev/shm/") ||
	    begins(name, "//anon"))
		return UHMM_TRACE_OBJ_SHMEM;
	if (begins(name, "/dev/") || begins(name, "anon_inode:"))
		return UHMM_TRACE_OBJ_DEVICE;
	return UHMM_TRACE_OBJ_FILE;
}

static uint64_t hash_text(const char *s, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (n--)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3ULL;
	return h;
}

/* "fe:00 11053375 617621127": device, inode, generation. */
static char *scan_inode(char *p, struct uhmm_trace_event *desc, uint64_t key[3])
{
	uint64_t major, minor;

	p = scan_hex(p, &major);
	p = p ? scan_char(p, ':') : NULL;
	p = p ? scan_hex(p, &minor) : NULL;
	p = p ? scan_char(p, ' ') : NULL;
	p = p ? scan_dec(p, &desc->obj.ino) : NULL;
	p = p ? scan_char(p, ' ') : NULL;
	p = p ? scan_dec(p, &key[2]) : NULL;
	if (!p)
		return NULL;
	desc->obj.dev_major = (uint32_t)major;
	desc->obj.dev_minor = (uint32_t)minor;
	key[0] = major << 32 | (uint32_t)minor;
	key[1] = desc->obj.ino;
	return p;
}

/* "<15dfff32...>": a build id in place of the inode; the file is known by it and its name. */
static char *scan_build_id(char *p, const char **id, size_t *len)
{
	char *end = strchr(p, '>');

	if (!end)
		return NULL;
	*id = p;
	*len = (size_t)(end - p);
	return end + 1;
}

static bool scan_prot(char *p, struct trace_vma *vma)
{
	if ((p[0] != 'r' && p[0] != '-') || (p[1] != 'w' && p[1] != '-') ||
	    (p[2] != 'x' && p[2] != '-') || (p[3] != 'p' && p[3] != 's'))
		return false;
	vma->prot = (p[0] == 'r' ? UHMM_TRACE_PROT_READ : 0) |
		    (p[1] == 'w' ? UHMM_TRACE_PROT_WRITE : 0) |
		    (p[2] == 'x' ? UHMM_TRACE_PROT_EXEC : 0);
	if (p[3] == 's')
		vma->flags |= UHMM_TRACE_MAP_SHARED;
	return true;
}

/* The old record tells code from data, no more. */
static bool scan_old_prot(const char *p, const char *name, struct trace_vma *vma)
{
	if ((*p != 'x' && *p != 'r') || (p[1] && !is_blank(p[1])))
		return false;
	vma->prot = UHMM_TRACE_PROT_READ;
	if (*p == 'x')
		vma->prot |= UHMM_TRACE_PROT_EXEC;
	else if (begins(name, "//anon") || begins(name, "[heap]") || begins(name, "[stack]"))
		vma->prot |= UHMM_TRACE_PROT_WRITE;
	return true;
}

static void name_flags(struct trace_vma *vma, const char *name)
{
	if (begins(name, "[stack"))
		vma->flags |= UHMM_TRACE_MAP_STACK | UHMM_TRACE_MAP_GROWSDOWN;
	else if (begins(name, "[heap]"))
		vma->flags |= UHMM_TRACE_MAP_HEAP;
	else if (*name == '[' && !begins(name, "[anon"))
		vma->flags |= UHMM_TRACE_MAP_SPECIAL;
	else if (begins(name, "/anon_hugepage"))
		vma->flags |= UHMM_TRACE_MAP_HUGETLB;
	if (begins(name, "/SYSV"))
		vma->sysv = true;
}

struct mmap_record {
	int32_t pid, tid;
	struct trace_vma vma;
	struct uhmm_trace_event desc;
	uint64_t key[3];
	bool has_file;
};

/*
 * MMAP2: "PID/TID: [0x7ffc7b068000(0x21000) @ 0x7ffffffde000 00:00 0 0]: rw-p [stack]"
 * MMAP:  "PID/TID: [0xffffffff81000000(0x120bb08) @ 0xffffffff81000000]: x [kernel.kallsyms]_text"
 */
static bool parse_mmap(char *p, bool old, struct mmap_record *m)
{
	const char *id = NULL;
	uint64_t len, off;
	size_t id_len = 0;
	char *prot, *name;

	p = scan_pid(skip_blanks(p), &m->pid);
	p = p ? scan_char(p, '/') : NULL;
	p = p ? scan_pid(p, &m->tid) : NULL;
	p = p ? scan_text(p, ": [") : NULL;
	p = p ? scan_number(p, &m->vma.start) : NULL;
	p = p ? scan_char(p, '(') : NULL;
	p = p ? scan_number(p, &len) : NULL;
	p = p ? scan_text(p, ") @ ") : NULL;
	p = p ? scan_number(p, &off) : NULL;
	if (p && !old && *p == ' ')
		p = p[1] == '<' ? scan_build_id(p + 2, &id, &id_len)
				: scan_inode(p + 1, &m->desc, m->key);
	else if (!old)
		return false;
	p = p ? scan_text(p, "]: ") : NULL;
	if (!p)
		return false;
	prot = p;
	name = skip_blanks(skip_word(prot));
	if (old ? !scan_old_prot(prot, name, &m->vma) : !scan_prot(prot, &m->vma))
		return false;
	m->vma.end = m->vma.start + len;
	m->vma.pgoff = off >> 12;
	m->desc.obj.name = *name ? name : NULL;
	m->desc.obj.kind = obj_kind(name);
	m->has_file = old || id ? *name == '/' && !begins(name, "//anon") : m->key[0] || m->key[1];
	if (old || id) {
		m->key[0] = ~0ULL;
		m->key[1] = hash_text(name, strlen(name));
		m->key[2] = id ? hash_text(id, id_len) : 0;
	}
	name_flags(&m->vma, name);
	return true;
}

static int mmap_record(struct uhmm_trace_reader *r, const struct perf_line *l, char *p, bool old)
{
	struct mmap_record m = { 0 };
	struct perf_line who = *l;
	struct trace_task *task;

	if (!parse_mmap(p, old, &m))
		return uhmm__trace_bad(r, "map record: expected 'PID/TID: [START(LENGTH) @ OFFSET "
					  "MAJ:MIN INODE GENERATION]: rwxp NAME'");
	/* The kernel's own, and the vsyscall page, are in nobody's half. */
	if (m.pid <= 0 || m.tid <= 0 || m.vma.start >> 56)
		return 0;
	if (m.vma.end <= m.vma.start || m.vma.end >> 56) {
		r->stats.skipped_ranges++;
		return 0;
	}
	m.vma.start = trace_page_down(m.vma.start);
	m.vma.end = trace_page_up(m.vma.end);
	who.tid = m.tid;
	who.tgid = m.pid;
	who.has_tgid = true;
	/* A layout without process numbers: where the line's task was put counts. */
	if (!l->has_tgid && l->tid == m.tid && uhmm__trace_task_find(r, m.tid))
		who.tgid = uhmm__trace_task_find(r, m.tid)->proc->tgid;
	task = uhmm__perf_task(r, &who, 0);
	if (!task)
		return 0;
	perf_settle(r, task);
	if (l->t_ns == 0) {
		m.vma.flags |= UHMM_TRACE_MAP_INITIAL;
		r->caps.has_snapshot = true;
	}
	if (m.has_file)
		m.vma.obj = uhmm__trace_object(r, m.key, &m.desc);
	if (!m.has_file || m.desc.obj.kind == UHMM_TRACE_OBJ_SHMEM)
		if (!m.vma.obj || begins(m.desc.obj.name ? m.desc.obj.name : "", "/dev/zero"))
			m.vma.flags |= UHMM_TRACE_MAP_ANON;
	if (!(m.vma.prot & UHMM_TRACE_PROT_EXEC))
		r->caps.has_data_maps = true;
	uhmm__trace_vma(r, task, &m.vma);
	return 0;
}

/* ---- tasks ---- */

/* "(26596:26596):(26594:26594)" */
static bool parse_pair(char *p, int32_t *pid, int32_t *tid, int32_t *ppid, int32_t *ptid)
{
	p = scan_char(skip_blanks(p), '(');
	p = p ? scan_pid(p, pid) : NULL;
	p = p ? scan_char(p, ':') : NULL;
	p = p ? scan_pid(p, tid) : NULL;
	p = p ? scan_text(p, "):(") : NULL;
	p = p ? scan_pid(p, ppid) : NULL;
	p = p ? scan_char(p, ':') : NULL;
	p = p ? scan_pid(p, ptid) : NULL;
	return p && *p == ')';
}

static void do_fork(struct uhmm_trace_reader *r, int32_t ptid, int32_t ptgid, int32_t tid,
		    int32_t tgid, enum uhmm_trace_why how)
{
	struct trace_task *parent = uhmm__trace_task_get(r, ptid, ptgid);

	if (parent) {
		perf_settle(r, parent);
		uhmm__trace_fork(r, parent, tid, tgid, how);
	}
}

static int fork_record(struct uhmm_trace_reader *r, const struct perf_line *l, char *p)
{
	struct perf_state *ps = perf_state(r);
	int32_t pid, tid, ppid, ptid;

	if (!parse_pair(p, &pid, &tid, &ppid, &ptid))
		return uhmm__trace_bad(r, "fork record: expected '(PID:TID):(PPID:PTID)'");
	ps->seen_records = true;
	r->caps.has_fork = true;
	if (pid <= 0 || tid <= 0)
		return 0;
	/* What was there before: the snapshot has its mappings, not its parent's. */
	if (l->t_ns == 0 || ppid <= 0 || ptid <= 0) {
		uhmm__trace_task_get(r, tid, pid);
		return 0;
	}
	ps->seen_fork = true;
	if (pid == ppid) {
		do_fork(r, ptid, ppid, tid, pid, UHMM_TRACE_THREAD);
	} else if (ps->plain_forks || ps->nr_forks == PERF_MAX_FORKS) {
		do_fork(r, ptid, ppid, tid, pid, UHMM_TRACE_FORK);
	} else {
		ps->forks[ps->nr_forks++] = (struct perf_fork){ ptid, ppid, tid, pid, l->t_ns };
	}
	return 0;
}

/* Ends the doubt about ps->forks[i]. */
static void fork_is(struct uhmm_trace_reader *r, unsigned int i, enum uhmm_trace_why how)
{
	struct perf_state *ps = perf_state(r);
	struct perf_fork f = ps->forks[i];

	ps->nr_forks--;
	memmove(&ps->forks[i], &ps->forks[i + 1], (ps->nr_forks - i) * sizeof(f));
	do_fork(r, f.parent_tid, f.parent_tgid, f.tid, f.tgid, how);
}

void uhmm__perf_forks_settle(struct uhmm_trace_reader *r, const struct perf_line *l, const char *p)
{
	struct perf_state *ps = perf_state(r);
	unsigned int i = 0;

	/* These two come between the record and the child's first step. */
	if (p && (begins(p, "task:task_newtask:") || begins(p, "sched:sched_process_fork:")))
		return;
	while (i < ps->nr_forks) {
		const struct perf_fork *f = &ps->forks[i];

		if (l && l->tid != f->parent_tid && l->tid != f->tid &&
		    l->t_ns - f->t_ns < FORK_WAIT_NS) {
			i++;
			continue;
		}
		if (!ps->seen_newtask)
			ps->plain_forks = true;
		fork_is(r, i, UHMM_TRACE_FORK);
	}
}

/* "pid=26596 comm=t1 clone_flags=1200000 oom_score_adj=0", by the parent */
int uhmm__perf_newtask(struct uhmm_trace_reader *r, const struct perf_line *l, char *p)
{
	struct perf_state *ps = perf_state(r);
	char *pid_at = strstr(p, "pid="), *flags_at = uhmm__perf_field(p, "clone_flags=");
	enum uhmm_trace_why how = UHMM_TRACE_FORK;
	struct trace_task *parent;
	uint64_t flags;
	int32_t pid;
	unsigned int i;

	if (!pid_at || !flags_at || !scan_pid(pid_at + 4, &pid) ||
	    !scan_hex(begins(flags_at, "0x") ? flags_at + 2 : flags_at, &flags) || pid <= 0)
		return uhmm__trace_bad(r, "task_newtask: expected 'pid=... clone_flags=...'");
	ps->seen_newtask = true;
	ps->plain_forks = false;
	r->caps.has_fork = r->caps.has_clone_flags = true;
	if (flags & CLONE_THREAD)
		how = UHMM_TRACE_THREAD;
	else if (flags & CLONE_VM)
		how = UHMM_TRACE_VFORK;
	for (i = 0; i < ps->nr_forks; i++) {
		if (ps->forks[i].tid == pid) {
			fork_is(r, i, how);
			return 0;
		}
	}
	if (ps->seen_fork)
		return 0; /* done by its record */
	parent = uhmm__perf_task(r, l, 0);
	if (parent) {
		perf_settle(r, parent);
		uhmm__trace_fork(r, parent, pid, pid, how);
	}
	return 0;
}

/* " exec: t1:26594/26594", or ": t1:26594/26594" for a new name */
static int comm_record(struct uhmm_trace_reader *r, char *p)
{
	struct perf_state *ps = perf_state(r);
	struct trace_task *task;
	char *colon = strrchr(p, ':'), *q;
	bool exec = begins(p, " exec");
	int32_t pid, tid;

	q = colon ? scan_pid(colon + 1, &pid) : NULL;
	q = q ? scan_char(q, '/') : NULL;
	q = q ? scan_pid(q, &tid) : NULL;
	if (!q || *skip_blanks(q))
		return uhmm__trace_bad(r, "name record: expected 'NAME:PID/TID'");
	ps->seen_records = true;
	r->caps.has_fork = true;
	if (pid <= 0 || tid <= 0)
		return 0;
	task = uhmm__trace_task_get(r, tid, pid);
	if (!task || !exec)
		return 0;
	perf_settle(r, task);
	*colon = '\0';
	r->comm = skip_blanks(strchr(p, ':') ? strchr(p, ':') + 1 : p);
	uhmm__trace_exec(r, task);
	task->exec_seen = true;
	return 0;
}

static int exit_record(struct uhmm_trace_reader *r, char *p)
{
	int32_t pid, tid, ppid, ptid;
	struct trace_task *task;

	if (!parse_pair(p, &pid, &tid, &ppid, &ptid))
		return uhmm__trace_bad(r, "exit record: expected '(PID:TID):(PPID:PTID)'");
	perf_state(r)->seen_records = true;
	r->caps.has_fork = true;
	task = uhmm__trace_task_find(r, tid);
	if (task) {
		perf_settle(r, task);
		uhmm__trace_exit(r, task, task->group_dead);
	}
	return 0;
}

/* " lost 42" */
static int lost_record(struct uhmm_trace_reader *r, char *p)
{
	struct uhmm_trace_event *ev;
	uint64_t n = 0;
	char *q = strstr(p, "lost ");

	if (q && !scan_number(q + 5, &n))
		return uhmm__trace_bad(r, "record of losses: expected 'lost N'");
	ev = uhmm__trace_emit(r, UHMM_TRACE_LOST, NULL);
	ev->lost.count = n;
	r->stats.lost += n;
	return 0;
}

int uhmm__perf_record(struct uhmm_trace_reader *r, const struct perf_line *l, char *p)
{
	char *q;

	if ((q = scan_text(p, "MMAP2 ")))
		return mmap_record(r, l, q, false);
	if ((q = scan_text(p, "MMAP ")))
		return mmap_record(r, l, q, true);
	if ((q = scan_text(p, "FORK(")))
		return fork_record(r, l, q - 1);
	if ((q = scan_text(p, "EXIT(")))
		return exit_record(r, q - 1);
	if ((q = scan_text(p, "COMM")) && (*q == ':' || *q == ' '))
		return comm_record(r, q);
	if ((q = scan_text(p, "LOST")))
		return lost_record(r, q);
	/* A name cut short is damage; one that we do not know is not. */
	if (begins("MMAP2", p) || begins("FORK", p) || begins("EXIT", p) || begins("COMM", p))
		return uhmm__trace_bad(r, "a record without content");
	r->stats.skipped_records++;
	return 0;
}

/* Its own record comes first; where those are missing this is the exec, somewhat late. */
int uhmm__perf_sched_exec(struct uhmm_trace_reader *r, const struct perf_line *l)
{
	struct trace_task *task = uhmm__perf_task(r, l, 0);
	struct trace_mm *mm;

	if (!task)
		return 0;
	perf_settle(r, task);
	mm = task->proc->mm;
	/*
	 * A trace that starts with an exec shows its first faults, those of the loader, before
	 * this line: then the address space was made for it already.
	 */
	if (!task->exec_seen &&
	    !(mm && mm->found && mm->nr_events < 16 && task->call.nr != TRACE_CALL_EXECVE)) {
		uhmm__trace_exec(r, task);
		uhmm__perf_guess_void(r, task, l);
	}
	task->exec_seen = false;
	return 0;
}

/*
 * "comm=t1 pid=26594 prio=120 group_dead=true". The task may still fault, clearing its thread
 * number on the way out; PERF_RECORD_EXIT comes after that, if such records are there at all.
 */
int uhmm__perf_sched_exit(struct uhmm_trace_reader *r, const struct perf_line *l, char *p)
{
	struct trace_task *task = uhmm__trace_task_find(r, l->tid);
	const char *dead = uhmm__perf_field(p, "group_dead=");

	if (!uhmm__perf_field(p, "pid="))
		return uhmm__trace_bad(r, "sched_process_exit: expected 'comm=... pid=...'");
	r->caps.has_fork = true;
	if (!task)
		return 0;
	perf_settle(r, task);
	task->exiting = true;
	task->group_dead = dead && begins(dead, "true");
	if (!perf_state(r)->seen_records)
		uhmm__trace_exit(r, task, task->group_dead);
	return 0;
}
