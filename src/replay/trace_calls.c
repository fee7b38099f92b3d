// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * trace_calls.c - what system calls did to mappings.
 *
 * The entry of a call has its arguments, its exit the result, and in between the recorder may
 * report the VMA that came of it - after the kernel merged it with its neighbours. So a call is
 * kept from entry to exit and takes effect at its exit, when it is known to have succeeded and
 * where exactly. The report gives the attributes (file, offset, protection), the arguments give
 * the range.
 *
 * The exit comes later than the effect, though, and another thread may have used what was freed
 * by then:
 *
 *	thread 1			thread 2
 *	munmap(A) entry
 *	  [unmapped]
 *					mmap() entry
 *					mmap() exit: A
 *	munmap(A) exit
 *
 * At thread 1's exit A belongs to thread 2. So calls that take pages away are listed in their
 * address space while they are in flight, and one whose range is seen in use again has its effect
 * there and then (uhmm__trace_zaps_seen()).
 */
#include <stdlib.h>

#include "replay/trace_internal.h"

/* Linux's values, which need not be the build host's. */
#define CALL_MAP_SHARED 0x01u
#define CALL_MAP_PRIVATE 0x02u
#define CALL_MAP_TYPE 0x0fu
#define CALL_MAP_FIXED 0x10u
#define CALL_MAP_ANONYMOUS 0x20u
#define CALL_MAP_GROWSDOWN 0x0100u
#define CALL_MAP_LOCKED 0x2000u
#define CALL_MAP_NORESERVE 0x4000u
#define CALL_MAP_POPULATE 0x8000u
#define CALL_MAP_STACK 0x20000u
#define CALL_MAP_HUGETLB 0x40000u
#define CALL_MAP_FIXED_NOREPLACE 0x100000u
#define CALL_PROT_GROWS 0x03000000u
#define CALL_PROT_MASK 7u
#define CALL_MREMAP_FIXED 2u
#define CALL_MREMAP_DONTUNMAP 4u
#define CALL_MADV_DONTNEED 4u
#define CALL_MADV_REMOVE 9u
#define CALL_MADV_DONTNEED_LOCKED 24u
#define CALL_FALLOC_PUNCH_HOLE 0x02u
#define CALL_FALLOC_COLLAPSE 0x08u
#define CALL_FALLOC_ZERO 0x10u
#define CALL_FALLOC_INSERT 0x20u
#define CALL_MLOCK_ONFAULT 1u
#define CALL_ENOMEM ((uint64_t)-12)

static bool failed(uint64_t ret)
{
	return ret > (uint64_t)-4096;
}

/* [start, start + len) in whole pages. False if empty, or not in the user's half. */
static bool page_range(struct uhmm_trace_reader *r, uint64_t start, uint64_t len, uint64_t *from,
		       uint64_t *to)
{
	uint64_t end = start + len;

	if (!len)
		return false;
	if (end < start || start >> 56 || end >> 56) {
		r->stats.skipped_ranges++;
		return false;
	}
	*from = trace_page_down(start);
	*to = trace_page_up(end);
	return true;
}

/* ---- emission ---- */

static void emit_map(struct uhmm_trace_reader *r, struct trace_task *task,
		     const struct trace_vma *vma)
{
	struct trace_mm *mm = trace_mm_get(r, task);
	struct uhmm_trace_event *ev;

	if (!mm)
		return;
	if (unlikely(!list_empty(&mm->zaps)))
		uhmm__trace_zaps_seen(r, mm, task, vma->start, vma->end, false);
	ev = uhmm__trace_emit(r, UHMM_TRACE_MAP, task);
	ev->map.start = vma->start;
	ev->map.end = vma->end;
	ev->map.prot = vma->prot;
	ev->map.flags = vma->flags;
	ev->map.obj = vma->obj;
	ev->map.pgoff = vma->obj ? vma->pgoff : vma->start >> 12;
	r->caps.has_maps = true;
}

static void emit_unmap(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t start,
		       uint64_t end)
{
	struct uhmm_trace_event *ev;

	if (start >= end || !trace_mm_get(r, task))
		return;
	ev = uhmm__trace_emit(r, UHMM_TRACE_UNMAP, task);
	ev->unmap.start = start;
	ev->unmap.end = end;
}

static void emit_prot(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t start,
		      uint64_t end, uint32_t prot, int32_t pkey)
{
	struct uhmm_trace_event *ev;

	if (start >= end || !trace_mm_get(r, task))
		return;
	ev = uhmm__trace_emit(r, UHMM_TRACE_PROT, task);
	ev->prot.start = start;
	ev->prot.end = end;
	ev->prot.prot = prot;
	ev->prot.pkey = pkey;
}

static void emit_advice(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t start,
			uint64_t end, uint32_t advice, int32_t error, uint64_t arg)
{
	struct uhmm_trace_event *ev;

	if (start >= end || !trace_mm_get(r, task))
		return;
	ev = uhmm__trace_emit(r, UHMM_TRACE_ADVISE, task);
	ev->advise.start = start;
	ev->advise.end = end;
	ev->advise.advice = advice;
	ev->advise.error = error;
	ev->advise.arg = arg;
}

/* ---- calls in flight that take pages away ---- */

static void zap_listed(struct trace_mm *mm, struct trace_call *call)
{
	list_add_tail(&call->zaps, &mm->zaps);
	call->on_zaps = true;
}

static void zap_unlisted(struct trace_call *call)
{
	if (call->on_zaps)
		list_del(&call->zaps);
	call->on_zaps = false;
}

static void apply_zap(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_call *call = &task->call;

	call->applied = true;
	zap_unlisted(call);
	if (call->nr == TRACE_CALL_MADVISE)
		emit_advice(r, task, call->start, call->end, (uint32_t)call->args[2], 0, 0);
	else
		emit_unmap(r, task, call->start, call->end);
}

void uhmm__trace_zaps_seen(struct uhmm_trace_reader *r, struct trace_mm *mm,
			   const struct trace_task *by, uint64_t start, uint64_t end, bool fault)
{
	struct trace_call *call, *next;

	uhmm__for_each_entry_safe(call, next, &mm->zaps, zaps) {
		struct trace_task *task = container_of(call, struct trace_task, call);

		if (task == by || call->start >= end || call->end <= start)
			continue;
		/* A fault tells of DONTNEED that pages are gone; of munmap() it tells nothing. */
		if (fault == (call->nr == TRACE_CALL_MADVISE))
			apply_zap(r, task);
	}
}

void uhmm__trace_call_drop(struct trace_task *task)
{
	zap_unlisted(&task->call);
	task->call.nr = TRACE_CALL_NONE;
}

/* ---- shared memory segments: shmdt() tells no length ---- */

static void shm_add(struct uhmm_trace_reader *r, struct trace_mm *mm, uint64_t start, uint64_t len)
{
	unsigned int i;

	for (i = 0; i < mm->nr_shm; i++) {
		if (mm->shm[i].start == start) {
			mm->shm[i].len = len;
			return;
		}
	}
	if (mm->nr_shm == mm->cap_shm) {
		unsigned int cap = mm->cap_shm ? 2 * mm->cap_shm : 4;
		struct trace_shm *shm = realloc(mm->shm, cap * sizeof(*shm));

		if (!shm) {
			uhmm__trace_nomem(r);
			return;
		}
		mm->shm = shm;
		mm->cap_shm = cap;
	}
	mm->shm[mm->nr_shm++] = (struct trace_shm){ start, len };
}

static uint64_t shm_take(struct trace_mm *mm, uint64_t start)
{
	unsigned int i;

	for (i = 0; i < mm->nr_shm; i++) {
		if (mm->shm[i].start == start) {
			uint64_t len = mm->shm[i].len;

			mm->shm[i] = mm->shm[--mm->nr_shm];
			return len;
		}
	}
	return 0;
}

/* ---- file descriptors: ftruncate() names no file ---- */

static void fd_mapped(struct uhmm_trace_reader *r, struct trace_proc *proc, int32_t fd,
		      uint32_t obj)
{
	unsigned int i;

	if (!proc->fds)
		proc->fds = calloc(TRACE_PROC_FDS, sizeof(*proc->fds));
	if (!proc->fds) {
		uhmm__trace_nomem(r);
		return;
	}
	for (i = 0; i < TRACE_PROC_FDS; i++) {
		if (proc->fds[i].obj && proc->fds[i].fd == fd) {
			proc->fds[i].obj = obj;
			return;
		}
	}
	proc->fds[proc->next_fd++ % TRACE_PROC_FDS] = (struct trace_fd){ fd, obj };
}

static uint32_t fd_object(const struct trace_proc *proc, int32_t fd)
{
	unsigned int i;

	for (i = 0; proc->fds && i < TRACE_PROC_FDS; i++)
		if (proc->fds[i].obj && proc->fds[i].fd == fd)
			return proc->fds[i].obj;
	return 0;
}

/* ---- entry ---- */

void uhmm__trace_call_enter(struct uhmm_trace_reader *r, struct trace_task *task,
			    enum trace_call_nr nr, const uint64_t *args)
{
	struct trace_call *call = &task->call;
	struct trace_mm *mm = task->proc->mm;
	unsigned int i;

	if (call->nr != TRACE_CALL_NONE)
		r->stats.unpaired_calls++;
	zap_unlisted(call);
	call->nr = nr;
	call->has_vma = call->applied = false;
	call->start = call->end = call->prot_done = 0;
	for (i = 0; i < ARRAY_SIZE(call->args); i++)
		call->args[i] = args[i];
	if (nr == TRACE_CALL_EXECVE)
		task->exec_seen = false;
	if (!mm)
		return;
	switch (nr) {
	case TRACE_CALL_MUNMAP:
		if (!page_range(r, args[0], args[1], &call->start, &call->end))
			return;
		break;
	case TRACE_CALL_BRK:
		if (!mm->brk_known || args[0] >= mm->brk)
			return;
		call->start = trace_page_up(args[0]);
		call->end = trace_page_up(mm->brk);
		break;
	case TRACE_CALL_MADVISE:
		if (args[2] != CALL_MADV_DONTNEED && args[2] != CALL_MADV_DONTNEED_LOCKED &&
		    args[2] != CALL_MADV_REMOVE)
			return;
		if (!page_range(r, args[0], args[1], &call->start, &call->end))
			return;
		break;
	default:
		return;
	}
	if (call->start < call->end && args[0])
		zap_listed(mm, call);
}

/* ---- reported VMAs ---- */

/* mprotect() reports each VMA that it changed: the part of it that was asked for is done. */
static bool prot_reported(struct uhmm_trace_reader *r, struct trace_task *task,
			  const struct trace_vma *vma)
{
	struct trace_call *call = &task->call;
	uint64_t start, end;

	if (!page_range(r, call->args[0], call->args[1], &start, &end))
		return false;
	if (call->args[2] & CALL_PROT_GROWS) /* reaches to the VMA's end */
		start = vma->start;
	if (vma->start >= end || vma->end <= start)
		return false;
	if (!call->prot_done)
		call->prot_done = start;
	/* A gap in the reports had the protection already; its end stays open for the exit. */
	start = MAX(start, vma->start);
	end = MIN(end, vma->end);
	if (start <= call->prot_done && end > call->prot_done)
		call->prot_done = end;
	emit_prot(r, task, start, end, vma->prot,
		  call->nr == TRACE_CALL_PKEY_MPROTECT ? (int32_t)call->args[3] : -1);
	return true;
}

void uhmm__trace_vma(struct uhmm_trace_reader *r, struct trace_task *task,
		     const struct trace_vma *vma)
{
	struct trace_call *call = &task->call;
	struct trace_vma merged = *vma;
	struct trace_mm *mm;

	switch (call->nr) {
	case TRACE_CALL_MMAP:
	case TRACE_CALL_BRK:
	case TRACE_CALL_SHMAT:
	case TRACE_CALL_REMAP_FILE_PAGES:
		call->vma = *vma;
		call->has_vma = true;
		return;
	case TRACE_CALL_MPROTECT:
	case TRACE_CALL_PKEY_MPROTECT:
		if (prot_reported(r, task, vma))
			return;
		break;
	default:
		break;
	}
	mm = trace_mm_get(r, task);
	if (!mm)
		return;
	if (merged.flags & UHMM_TRACE_MAP_INITIAL) {
		if (merged.flags & UHMM_TRACE_MAP_HEAP) {
			mm->brk = merged.end;
			mm->brk_known = true;
		}
	} else {
		merged.flags |= UHMM_TRACE_MAP_MERGED;
	}
	if (merged.sysv)
		shm_add(r, mm, merged.start, merged.end - merged.start);
	emit_map(r, task, &merged);
}

/* ---- exit ---- */

static uint32_t map_flags(uint64_t flags)
{
	uint32_t out = 0;
	uint64_t type = flags & CALL_MAP_TYPE;

	if (type != CALL_MAP_PRIVATE && (type & CALL_MAP_SHARED))
		out |= UHMM_TRACE_MAP_SHARED;
	if (flags & CALL_MAP_ANONYMOUS)
		out |= UHMM_TRACE_MAP_ANON;
	if (flags & (CALL_MAP_FIXED | CALL_MAP_FIXED_NOREPLACE))
		out |= UHMM_TRACE_MAP_FIXED;
	if (flags & CALL_MAP_GROWSDOWN)
		out |= UHMM_TRACE_MAP_GROWSDOWN;
	if (flags & CALL_MAP_LOCKED)
		out |= UHMM_TRACE_MAP_LOCKED;
	if (flags & CALL_MAP_NORESERVE)
		out |= UHMM_TRACE_MAP_NORESERVE;
	if (flags & CALL_MAP_POPULATE)
		out |= UHMM_TRACE_MAP_POPULATE;
	if (flags & CALL_MAP_STACK)
		out |= UHMM_TRACE_MAP_STACK;
	if (flags & CALL_MAP_HUGETLB)
		out |= UHMM_TRACE_MAP_HUGETLB;
	return out;
}

/* [start, end) with the attributes of the VMA that holds it. */
static struct trace_vma part_of(const struct trace_vma *vma, uint64_t start, uint64_t end)
{
	struct trace_vma part = *vma;

	part.pgoff += (start - vma->start) >> 12;
	part.start = start;
	part.end = end;
	return part;
}

/* Nobody named the object: a new one each time, which shares pages with nothing. */
static uint32_t nameless_object(struct uhmm_trace_reader *r, bool file)
{
	struct uhmm_trace_event desc = { .kind = UHMM_TRACE_OBJ };

	desc.obj.kind = file ? UHMM_TRACE_OBJ_UNKNOWN : UHMM_TRACE_OBJ_SHMEM;
	return uhmm__trace_object(r, NULL, &desc);
}

static void mmap_exit(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t ret)
{
	struct trace_call *call = &task->call;
	uint32_t flags = map_flags(call->args[3]);
	struct trace_vma vma = { 0 };
	uint64_t start, end;

	if (!page_range(r, ret, call->args[1], &start, &end))
		return;
	if (call->has_vma && call->vma.start <= start && call->vma.end > start) {
		if (call->vma.end < end || (flags & UHMM_TRACE_MAP_HUGETLB))
			end = call->vma.end; /* huge pages round the length up further */
		vma = part_of(&call->vma, start, end);
		vma.flags |= flags;
	} else {
		vma = (struct trace_vma){ .start = start,
					  .end = end,
					  .pgoff = call->args[5] >> 12,
					  .prot = (uint32_t)call->args[2] & CALL_PROT_MASK,
					  .flags = flags | UHMM_TRACE_MAP_DERIVED };
		if (flags & UHMM_TRACE_MAP_SHARED || !(flags & UHMM_TRACE_MAP_ANON))
			vma.obj = nameless_object(r, !(flags & UHMM_TRACE_MAP_ANON));
	}
	if (vma.obj && (flags & UHMM_TRACE_MAP_SHARED) && !(flags & UHMM_TRACE_MAP_ANON))
		fd_mapped(r, task->proc, (int32_t)call->args[4], vma.obj);
	emit_map(r, task, &vma);
}

static void brk_exit(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t ret)
{
	struct trace_call *call = &task->call;
	struct trace_mm *mm = trace_mm_get(r, task);
	uint64_t old, new = trace_page_up(ret);
	struct trace_vma vma = { .flags = UHMM_TRACE_MAP_ANON,
				 .prot = UHMM_TRACE_PROT_READ | UHMM_TRACE_PROT_WRITE };

	if (!mm || ret >> 56)
		return;
	old = trace_page_up(mm->brk);
	if (mm->brk_known && new < old && !call->applied)
		emit_unmap(r, task, new, old);
	if (call->has_vma)
		vma = call->vma;
	vma.flags |= UHMM_TRACE_MAP_HEAP;
	if (!call->has_vma)
		vma.flags |= UHMM_TRACE_MAP_DERIVED;
	if (mm->brk_known && new > old) {
		vma.start = old;
		vma.end = new;
		emit_map(r, task, &vma);
	} else if (!mm->brk_known && call->has_vma) {
		vma.flags |= UHMM_TRACE_MAP_MERGED;
		emit_map(r, task, &vma);
	}
	mm->brk = ret;
	mm->brk_known = true;
}

static void mremap_exit(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t ret)
{
	const uint64_t *args = task->call.args;
	uint64_t old_start, old_end, new_start, new_end;
	struct uhmm_trace_event *ev;
	struct trace_mm *mm;
	uint32_t flags = 0;

	if (!page_range(r, args[0], args[1] ? args[1] : args[2], &old_start, &old_end) ||
	    !page_range(r, ret, args[2], &new_start, &new_end))
		return;
	mm = trace_mm_get(r, task);
	if (!mm)
		return;
	if (old_start == new_start && args[1]) {
		if (new_end < old_end)
			emit_unmap(r, task, new_end, old_end);
		if (new_end <= old_end)
			return;
	}
	if (!args[1])
		flags |= UHMM_TRACE_MOVE_DUP;
	if (args[3] & CALL_MREMAP_DONTUNMAP)
		flags |= UHMM_TRACE_MOVE_DONTUNMAP;
	if (args[3] & CALL_MREMAP_FIXED)
		flags |= UHMM_TRACE_MOVE_FIXED;
	if (!list_empty(&mm->zaps))
		uhmm__trace_zaps_seen(r, mm, task, new_start, new_end, false);
	ev = uhmm__trace_emit(r, UHMM_TRACE_MOVE, task);
	ev->move.flags = flags;
	ev->move.old_start = old_start;
	ev->move.old_end = old_end;
	ev->move.new_start = new_start;
	ev->move.new_end = new_end;
}

static void shmat_exit(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t ret)
{
	struct trace_call *call = &task->call;
	struct trace_mm *mm = trace_mm_get(r, task);

	if (!mm)
		return;
	if (!call->has_vma || call->vma.start != ret) {
		r->stats.opaque_calls++; /* no length anywhere */
		return;
	}
	shm_add(r, mm, call->vma.start, call->vma.end - call->vma.start);
	emit_map(r, task, &call->vma);
}

static void shmdt_exit(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_mm *mm = trace_mm_get(r, task);
	uint64_t start = task->call.args[0];
	uint64_t len = mm ? shm_take(mm, start) : 0;

	if (len)
		emit_unmap(r, task, start, start + len);
	else
		r->stats.opaque_calls++;
}

static void remap_exit(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_call *call = &task->call;
	struct trace_vma vma;
	uint64_t start, end;

	if (!page_range(r, trace_page_down(call->args[0]), call->args[1], &start, &end))
		return;
	if (!call->has_vma || call->vma.start > start || call->vma.end < end) {
		r->stats.opaque_calls++;
		return;
	}
	vma = part_of(&call->vma, start, end);
	emit_map(r, task, &vma);
}

static void truncate_exit(struct uhmm_trace_reader *r, struct trace_task *task)
{
	const uint64_t *args = task->call.args;
	uint32_t obj = fd_object(task->proc, (int32_t)args[0]);
	uint64_t start, end = ~0ULL;
	struct uhmm_trace_event *ev;

	/* Not mapped before as far as was seen: no mapping to lose pages. */
	if (!obj)
		return;
	if (task->call.nr == TRACE_CALL_FTRUNCATE) {
		start = trace_page_up(args[1]);
	} else if (args[1] & (CALL_FALLOC_PUNCH_HOLE | CALL_FALLOC_ZERO)) {
		start = trace_page_up(args[2]);
		end = trace_page_down(args[2] + args[3]);
	} else if (args[1] & (CALL_FALLOC_COLLAPSE | CALL_FALLOC_INSERT)) {
		start = trace_page_down(args[2]);
	} else {
		return;
	}
	if (start >= end || !trace_mm_get(r, task))
		return;
	ev = uhmm__trace_emit(r, UHMM_TRACE_TRUNC, task);
	ev->trunc.obj = obj;
	ev->trunc.start = start;
	ev->trunc.end = end;
}

static void lock_exit(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_call *call = &task->call;
	uint64_t start = 0, end = trace_page_down(~0ULL), arg = 0;
	uint32_t advice;

	switch (call->nr) {
	case TRACE_CALL_MLOCKALL:
		advice = UHMM_TRACE_ADV_MLOCKALL;
		arg = call->args[0];
		break;
	case TRACE_CALL_MUNLOCKALL:
		advice = UHMM_TRACE_ADV_MUNLOCKALL;
		break;
	case TRACE_CALL_MUNLOCK:
		advice = UHMM_TRACE_ADV_MUNLOCK;
		break;
	case TRACE_CALL_MLOCK2:
		advice = call->args[2] & CALL_MLOCK_ONFAULT ? UHMM_TRACE_ADV_MLOCK_ONFAULT
							    : UHMM_TRACE_ADV_MLOCK;
		break;
	default:
		advice = UHMM_TRACE_ADV_MLOCK;
		break;
	}
	if (advice != UHMM_TRACE_ADV_MLOCKALL && advice != UHMM_TRACE_ADV_MUNLOCKALL &&
	    !page_range(r, call->args[0], call->args[1], &start, &end))
		return;
	emit_advice(r, task, start, end, advice, 0, arg);
}

static void madvise_exit(struct uhmm_trace_reader *r, struct trace_task *task, int32_t error)
{
	struct trace_call *call = &task->call;
	uint64_t start, end;

	if (!call->applied && page_range(r, call->args[0], call->args[1], &start, &end))
		emit_advice(r, task, start, end, (uint32_t)call->args[2], error, 0);
}

static void mprotect_exit(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct trace_call *call = &task->call;
	uint64_t start, end;

	/* What was reported is done; the rest, if any, had that protection, or went unreported. */
	if (!page_range(r, call->args[0], call->args[1], &start, &end))
		return;
	if (call->prot_done > start)
		start = call->prot_done;
	emit_prot(r, task, start, end, (uint32_t)call->args[2] & CALL_PROT_MASK,
		  call->nr == TRACE_CALL_PKEY_MPROTECT ? (int32_t)call->args[3] : -1);
}

static void succeeded(struct uhmm_trace_reader *r, struct trace_task *task, uint64_t ret)
{
	struct trace_call *call = &task->call;
	uint64_t start, end;

	switch (call->nr) {
	case TRACE_CALL_MMAP:
		mmap_exit(r, task, ret);
		break;
	case TRACE_CALL_MUNMAP:
		if (!call->applied && page_range(r, call->args[0], call->args[1], &start, &end))
			emit_unmap(r, task, start, end);
		break;
	case TRACE_CALL_MPROTECT:
	case TRACE_CALL_PKEY_MPROTECT:
		mprotect_exit(r, task);
		break;
	case TRACE_CALL_BRK:
		brk_exit(r, task, ret);
		break;
	case TRACE_CALL_MREMAP:
		mremap_exit(r, task, ret);
		break;
	case TRACE_CALL_MADVISE:
		madvise_exit(r, task, 0);
		break;
	case TRACE_CALL_PROCESS_MADVISE:
		r->stats.opaque_calls++; /* its ranges are behind a pointer */
		break;
	case TRACE_CALL_MLOCK:
	case TRACE_CALL_MLOCK2:
	case TRACE_CALL_MUNLOCK:
	case TRACE_CALL_MLOCKALL:
	case TRACE_CALL_MUNLOCKALL:
		lock_exit(r, task);
		break;
	case TRACE_CALL_SHMAT:
		shmat_exit(r, task, ret);
		break;
	case TRACE_CALL_SHMDT:
		shmdt_exit(r, task);
		break;
	case TRACE_CALL_REMAP_FILE_PAGES:
		remap_exit(r, task);
		break;
	case TRACE_CALL_FTRUNCATE:
	case TRACE_CALL_FALLOCATE:
		truncate_exit(r, task);
		break;
	default:
		break;
	}
}

void uhmm__trace_call_exit(struct uhmm_trace_reader *r, struct trace_task *task,
			   enum trace_call_nr nr, uint64_t ret)
{
	struct trace_call *call = &task->call;

	if (call->nr != nr) {
		/* Recording often starts inside the execve() of the command. */
		if (nr != TRACE_CALL_EXECVE)
			r->stats.unpaired_calls++;
		uhmm__trace_call_drop(task);
		/* A brk without its entry still tells the end of the heap. */
		if (nr == TRACE_CALL_BRK && !failed(ret) && task->proc->mm &&
		    !task->proc->mm->brk_known) {
			task->proc->mm->brk = ret;
			task->proc->mm->brk_known = true;
		}
		return;
	}
	zap_unlisted(call);
	if (!failed(ret)) {
		succeeded(r, task, ret);
	} else {
		r->stats.failed_calls++;
		/* It does what it can around holes, and then fails. */
		if (ret == CALL_ENOMEM && nr == TRACE_CALL_MADVISE)
			madvise_exit(r, task, -ENOMEM);
	}
	call->nr = TRACE_CALL_NONE;
	call->has_vma = false;
}
