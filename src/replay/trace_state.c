// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * trace_state.c - tasks, processes, address spaces and objects of a trace.
 *
 * A process is not an address space: vfork's child is a process of its own that runs in its
 * parent's address space until it executes a program. So tasks belong to processes, processes
 * use address spaces, and an address space goes with its last process.
 *
 * An address space is made when something first happens in it, so that the tracer's own tasks
 * and those which are only named leave no event.
 */
#include <stdlib.h>
#include <string.h>

#include "replay/trace_internal.h"

void uhmm__trace_state_init(struct trace_state *st)
{
	st->next_mm = 1;
	st->next_obj = 1;
}

static unsigned int hash(int32_t id)
{
	return (uint32_t)id % TRACE_HASH_SIZE;
}

struct uhmm_trace_event *uhmm__trace_emit(struct uhmm_trace_reader *r, uint32_t kind,
					  const struct trace_task *task)
{
	struct uhmm_trace_event *ev;

	if (unlikely(r->tail == r->cap)) {
		size_t cap = r->cap ? 2 * r->cap : 16;

		ev = realloc(r->queue, cap * sizeof(*ev));
		if (!ev) {
			uhmm__trace_nomem(r);
			memset(&r->spill, 0, sizeof(r->spill));
			return &r->spill;
		}
		r->queue = ev;
		r->cap = cap;
	}
	ev = &r->queue[r->tail++];
	memset(ev, 0, sizeof(*ev));
	ev->kind = kind;
	ev->t_ns = r->t_ns;
	ev->cpu = r->cpu;
	if (task) {
		ev->tid = task->tid;
		ev->tgid = task->proc->tgid;
		if (task->proc->mm) {
			ev->mm = task->proc->mm->id;
			task->proc->mm->nr_events++;
		}
	}
	return ev;
}

/* ---- address spaces ---- */

static struct trace_mm *mm_new(struct uhmm_trace_reader *r)
{
	struct trace_mm *mm = calloc(1, sizeof(*mm));

	if (!mm) {
		uhmm__trace_nomem(r);
		return NULL;
	}
	mm->id = r->st.next_mm++;
	mm->users = 1;
	list_init(&mm->zaps);
	return mm;
}

static void mm_free(struct trace_mm *mm)
{
	free(mm->shm);
	free(mm);
}

static void mm_put(struct uhmm_trace_reader *r, struct trace_mm *mm, const struct trace_task *by)
{
	struct uhmm_trace_event *ev;

	if (--mm->users)
		return;
	ev = uhmm__trace_emit(r, UHMM_TRACE_MM_DEL, by);
	ev->mm = mm->id;
	mm_free(mm);
}

static void announce_mm(struct uhmm_trace_reader *r, struct trace_task *task,
			enum uhmm_trace_why why, uint32_t parent)
{
	struct uhmm_trace_event *ev = uhmm__trace_emit(r, UHMM_TRACE_MM_NEW, task);

	ev->mm_new.why = why;
	ev->mm_new.parent = parent;
}

static void announce_task(struct uhmm_trace_reader *r, struct trace_task *task,
			  enum uhmm_trace_why why)
{
	struct uhmm_trace_event *ev = uhmm__trace_emit(r, UHMM_TRACE_TASK, task);

	ev->task.why = why;
	ev->task.comm = r->comm;
	task->announced = true;
}

struct trace_mm *uhmm__trace_mm_get_slow(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_proc *proc = task->proc;

	if (!proc->mm) {
		proc->mm = mm_new(r);
		if (!proc->mm)
			return NULL;
		proc->mm->found = true;
		announce_mm(r, task, UHMM_TRACE_FOUND, 0);
	}
	if (!task->announced)
		announce_task(r, task, (enum uhmm_trace_why)task->why);
	return proc->mm;
}

/* ---- processes and tasks ---- */

static struct trace_proc *proc_find(struct trace_state *st, int32_t tgid)
{
	struct trace_proc *proc = st->procs[hash(tgid)];

	while (proc && proc->tgid != tgid)
		proc = proc->hash_next;
	return proc;
}

static struct trace_proc *proc_get(struct uhmm_trace_reader *r, int32_t tgid)
{
	struct trace_proc **head = &r->st.procs[hash(tgid)];
	struct trace_proc *proc = proc_find(&r->st, tgid);

	if (proc)
		return proc;
	proc = calloc(1, sizeof(*proc));
	if (!proc) {
		uhmm__trace_nomem(r);
		return NULL;
	}
	proc->tgid = tgid;
	list_init(&proc->tasks);
	proc->hash_next = *head;
	*head = proc;
	return proc;
}

static void proc_free(struct trace_state *st, struct trace_proc *proc)
{
	struct trace_proc **p = &st->procs[hash(proc->tgid)];

	while (*p != proc)
		p = &(*p)->hash_next;
	*p = proc->hash_next;
	free(proc->fds);
	free(proc);
}

struct trace_task *uhmm__trace_task_find(struct uhmm_trace_reader *r, int32_t tid)
{
	struct trace_task *task = r->st.last_task;

	if (likely(task && task->tid == tid))
		return task;
	for (task = r->st.tasks[hash(tid)]; task; task = task->hash_next) {
		if (task->tid == tid) {
			r->st.last_task = task;
			return task;
		}
	}
	return NULL;
}

static struct trace_task *task_new(struct uhmm_trace_reader *r, int32_t tid,
				   struct trace_proc *proc)
{
	struct trace_task **head = &r->st.tasks[hash(tid)], *task;

	task = calloc(1, sizeof(*task));
	if (!task) {
		uhmm__trace_nomem(r);
		if (list_empty(&proc->tasks) && !proc->mm)
			proc_free(&r->st, proc);
		return NULL;
	}
	task->tid = tid;
	task->proc = proc;
	task->sampled_addr = ~0ULL;
	list_init(&task->call.zaps);
	list_add_tail(&task->link, &proc->tasks);
	task->hash_next = *head;
	*head = task;
	return task;
}

/* Frees the task, and the process with its last task. Emits nothing. */
static void task_free(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_task **p = &r->st.tasks[hash(task->tid)];

	while (*p != task)
		p = &(*p)->hash_next;
	*p = task->hash_next;
	if (r->st.last_task == task)
		r->st.last_task = NULL;
	uhmm__trace_call_drop(task);
	list_del(&task->link);
	if (list_empty(&task->proc->tasks))
		proc_free(&r->st, task->proc);
	free(task);
}

static void task_gone(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_proc *proc = task->proc;
	bool last = proc->tasks.next == &task->link && proc->tasks.prev == &task->link;

	if (task->announced)
		uhmm__trace_emit(r, UHMM_TRACE_TASK_EXIT, task);
	if (last && proc->mm) {
		/* A call in flight is linked to its address space. */
		uhmm__trace_call_drop(task);
		mm_put(r, proc->mm, task);
		proc->mm = NULL;
	}
	task_free(r, task);
}

void uhmm__trace_exit(struct uhmm_trace_reader *r, struct trace_task *task, bool group)
{
	struct trace_task *t, *next;

	if (group) {
		/* Threads on their way out tell us themselves. */
		uhmm__for_each_entry_safe(t, next, &task->proc->tasks, link)
			if (t != task && !t->exiting)
				task_gone(r, t);
	}
	task_gone(r, task);
}

struct trace_task *uhmm__trace_task_get(struct uhmm_trace_reader *r, int32_t tid, int32_t tgid)
{
	struct trace_task *task = uhmm__trace_task_find(r, tid);
	struct trace_proc *proc;

	if (likely(task)) {
		if (likely(task->proc->tgid == tgid))
			return task;
		/* The number was given to somebody else and the records between are missing. */
		task_gone(r, task);
	}
	proc = proc_get(r, tgid);
	return proc ? task_new(r, tid, proc) : NULL;
}

/* A process number is used again: whatever is left of the old one went unseen. */
static void process_gone(struct uhmm_trace_reader *r, int32_t tgid)
{
	struct trace_proc *proc;

	while ((proc = proc_find(&r->st, tgid)))
		task_gone(r, list_first_entry(&proc->tasks, struct trace_task, link));
}

/* What fork() copies of what the reader knows of an address space. */
static void mm_copy(struct uhmm_trace_reader *r, struct trace_mm *to, const struct trace_mm *from)
{
	to->brk_known = from->brk_known;
	to->brk = from->brk;
	if (!from->nr_shm)
		return;
	to->shm = malloc(from->nr_shm * sizeof(*to->shm));
	if (!to->shm) {
		uhmm__trace_nomem(r);
		return;
	}
	memcpy(to->shm, from->shm, from->nr_shm * sizeof(*to->shm));
	to->nr_shm = to->cap_shm = from->nr_shm;
}

void uhmm__trace_fork(struct uhmm_trace_reader *r, struct trace_task *parent, int32_t tid,
		      int32_t tgid, enum uhmm_trace_why how)
{
	struct trace_mm *parent_mm = trace_mm_get(r, parent), *mm;
	struct trace_task *task = uhmm__trace_task_find(r, tid);
	struct trace_proc *proc;

	if (!parent_mm || task == parent)
		return;
	if (task)
		task_gone(r, task);
	if (how == UHMM_TRACE_THREAD)
		tgid = parent->proc->tgid;
	else if (tgid == parent->proc->tgid)
		return; /* nonsense: a process cannot be its own child */
	else
		process_gone(r, tgid);
	proc = proc_get(r, tgid);
	task = proc ? task_new(r, tid, proc) : NULL;
	if (!task)
		return;
	task->why = how;
	task->comm_hash = parent->comm_hash;
	if (how == UHMM_TRACE_THREAD) {
		announce_task(r, task, UHMM_TRACE_THREAD);
		return;
	}
	if (how == UHMM_TRACE_VFORK) {
		proc->mm = parent_mm;
		parent_mm->users++;
	} else {
		mm = mm_new(r);
		if (!mm)
			return;
		mm_copy(r, mm, parent_mm);
		proc->mm = mm;
		announce_mm(r, task, UHMM_TRACE_FORK, parent_mm->id);
	}
	announce_task(r, task, how);
}

void uhmm__trace_exec(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_proc *proc = task->proc;
	struct trace_mm *old = proc->mm, *mm;
	struct trace_task *t, *next;
	bool in_execve = task->call.nr == TRACE_CALL_EXECVE;

	/* Threads are killed on the way, seen or not. */
	uhmm__for_each_entry_safe(t, next, &proc->tasks, link)
		if (t != task)
			task_gone(r, t);
	uhmm__trace_call_drop(task);
	if (in_execve)
		task->call.nr = TRACE_CALL_EXECVE;
	mm = mm_new(r);
	if (!mm)
		return;
	proc->mm = mm;
	free(proc->fds); /* most are close-on-exec, and which is not told */
	proc->fds = NULL;
	announce_mm(r, task, UHMM_TRACE_EXEC, 0);
	announce_task(r, task, UHMM_TRACE_EXEC);
	if (old)
		mm_put(r, old, task);
}

/* ---- objects ---- */

static size_t object_hash(const uint64_t key[3])
{
	uint64_t h = key[0] * 0x9e3779b97f4a7c15ULL;

	h = (h ^ key[1]) * 0xbf58476d1ce4e5b9ULL;
	h = (h ^ (h >> 29) ^ key[2]) * 0x94d049bb133111ebULL;
	return (size_t)(h ^ (h >> 32));
}

static struct trace_object *object_slot(struct trace_object *table, size_t cap,
					const uint64_t key[3])
{
	size_t i = object_hash(key) & (cap - 1);

	while (table[i].id && memcmp(table[i].key, key, sizeof(table[i].key)) != 0)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

static bool grow_objects(struct uhmm_trace_reader *r)
{
	struct trace_state *st = &r->st;
	size_t cap = st->cap_objects ? 2 * st->cap_objects : 64, i;
	struct trace_object *table = calloc(cap, sizeof(*table));

	if (!table) {
		uhmm__trace_nomem(r);
		return false;
	}
	for (i = 0; i < st->cap_objects; i++)
		if (st->objects[i].id)
			*object_slot(table, cap, st->objects[i].key) = st->objects[i];
	free(st->objects);
	st->objects = table;
	st->cap_objects = cap;
	return true;
}

uint32_t uhmm__trace_object(struct uhmm_trace_reader *r, const uint64_t key[3],
			    const struct uhmm_trace_event *desc)
{
	struct trace_state *st = &r->st;
	struct trace_object *o;
	struct uhmm_trace_event *ev;

	if (!key) {
		ev = uhmm__trace_emit(r, UHMM_TRACE_OBJ, NULL);
		ev->obj = desc->obj;
		ev->obj.id = st->next_obj++;
		return ev->obj.id;
	}
	if (2 * (st->nr_objects + 1) > st->cap_objects && !grow_objects(r))
		return 0;
	o = object_slot(st->objects, st->cap_objects, key);
	if (!o->id) {
		memcpy(o->key, key, sizeof(o->key));
		o->id = st->next_obj++;
		st->nr_objects++;
		ev = uhmm__trace_emit(r, UHMM_TRACE_OBJ, NULL);
		ev->obj = desc->obj;
		ev->obj.id = o->id;
	}
	return o->id;
}

void uhmm__trace_state_exit(struct uhmm_trace_reader *r)
{
	struct trace_state *st = &r->st;
	unsigned int i;

	for (i = 0; i < TRACE_HASH_SIZE; i++) {
		struct trace_task *task, *next;

		for (task = st->tasks[i]; task; task = next) {
			next = task->hash_next;
			list_del(&task->call.zaps);
			free(task);
		}
	}
	for (i = 0; i < TRACE_HASH_SIZE; i++) {
		struct trace_proc *proc, *next;

		for (proc = st->procs[i]; proc; proc = next) {
			next = proc->hash_next;
			if (proc->mm && !--proc->mm->users)
				mm_free(proc->mm);
			free(proc->fds);
			free(proc);
		}
	}
	free(st->objects);
}
