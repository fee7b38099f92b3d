// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * world.c - does what a vector says, on the model.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tool.h"
#include "world.h"

struct process {
	struct uhmm_mm *mm; /* NULL: there is none */
	struct uhmm_task *task;
	struct uhmm_mirror *mirror[VEC_MAX_DEVICES];
};

enum { NR_CPUS = 2 };

struct world {
	struct uhmm_machine *machine;
	enum uhmm_content content;
	struct uhmm_device *device[VEC_MAX_DEVICES];
	struct uhmm_task *reaper[NR_CPUS]; /* without address spaces: end the processes of a CPU */
	struct process process[VEC_MAX_PROCS];
	bool as_recorded;
	struct uhmm_file *file[VEC_MAX_FILES];
	bool violated;
	char *reports, *shown; /* since the last question; of the last answer */
	size_t len;
};

/* ---- life ---- */

static void take_report(void *data, enum uhmm_report_kind kind, const char *text)
{
	struct world *w = data;
	size_t add = strlen(text);

	/* What the kernel would warn about is no violation of the model. */
	if (kind != UHMM_REPORT_WARN)
		w->violated = true;
	w->reports = tool_xgrow(w->reports, w->len + add + 2, 1);
	memcpy(w->reports + w->len, text, add);
	memcpy(w->reports + w->len + add, "\n", 2);
	w->len += add + 1;
	if (kind == UHMM_REPORT_BUG) /* nothing runs after it */
		tool_error("%s", text);
}

static int process_start(struct world *w, unsigned int n, struct uhmm_mm *mm)
{
	struct process *p = &w->process[n];
	char name[16];
	int err;

	snprintf(name, sizeof(name), "p%u", n);
	err = uhmm_task_create(w->machine, mm, n % NR_CPUS, name, &p->task);
	if (!err)
		p->mm = mm;
	return err;
}

/*
 * As do_exit(): the address space goes first, the files after it. The task's own reference is the
 * last: so it is the task that takes the address space apart. The structure is kept for the
 * mirrors, which have references of their own.
 */
static void process_exit(struct world *w, unsigned int n)
{
	struct uhmm_task *reaper = w->reaper[n % NR_CPUS];
	struct process *p = &w->process[n];

	uhmm_task_enter(reaper);
	uhmm_mmput(p->mm);
	uhmm_task_leave();
	uhmm_task_destroy(p->task);
	/* On the CPU of the process: pages that come home go to that CPU's LRU batch. */
	uhmm_task_enter(reaper);
	for (unsigned int d = 0; d < VEC_MAX_DEVICES; d++)
		uhmm_mirror_close(p->mirror[d]);
	uhmm_task_leave();
	memset(p, 0, sizeof(*p));
}

static enum uhmm_device_pfn_space pfn_space;

void world_use_pfn_space(enum uhmm_device_pfn_space space)
{
	pfn_space = space;
}

int world_new(enum uhmm_content content, struct world **out)
{
	struct world *w = tool_xalloc(1, sizeof(*w));
	struct uhmm_machine_config config = {
		.size = sizeof(config),
		.nr_cpus = NR_CPUS,
		.content = content,
		.swap_bytes = 256UL << 20,
		.device_pfn_space = pfn_space,
		.report = take_report,
		.report_data = w,
	};
	struct uhmm_mm *mm;
	int err;

	w->content = content;
	w->reports = tool_xstrdup("");
	w->shown = tool_xstrdup("");
	err = uhmm_machine_create(&config, &w->machine);
	if (err)
		goto fail;
	for (unsigned int i = 0; i < NR_CPUS && !err; i++)
		err = uhmm_task_create(w->machine, NULL, i, "reaper", &w->reaper[i]);
	for (unsigned int i = 0; i < VEC_MAX_FILES && !err; i++)
		err = uhmm_file_create(w->machine, UHMM_FILE_MEMORY,
				       VEC_FILE_PAGES * UHMM_PAGE_SIZE, &w->file[i]);
	if (err)
		goto fail;
	uhmm_task_enter(w->reaper[0]);
	err = uhmm_mm_create(w->machine, &mm);
	if (!err) {
		err = process_start(w, 0, mm);
		if (err)
			uhmm_mmput(mm);
	}
	uhmm_task_leave();
	if (err)
		goto fail;
	*out = w;
	return 0;
fail:
	world_free(w);
	return err;
}

void world_as_recorded(struct world *w)
{
	w->as_recorded = true;
}

void world_end(struct world *w)
{
	for (unsigned int n = 0; n < VEC_MAX_PROCS; n++)
		if (w->process[n].mm)
			process_exit(w, n);
}

void world_free(struct world *w)
{
	if (!w)
		return;
	if (w->machine)
		world_end(w);
	if (w->reaper[0]) {
		uhmm_task_enter(w->reaper[0]);
		for (unsigned int d = 0; d < VEC_MAX_DEVICES; d++)
			uhmm_device_destroy(w->device[d]);
		for (unsigned int i = 0; i < VEC_MAX_FILES; i++)
			uhmm_file_put(w->file[i]);
		uhmm_task_leave();
	}
	for (unsigned int i = 0; i < NR_CPUS; i++)
		uhmm_task_destroy(w->reaper[i]);
	uhmm_machine_destroy(w->machine);
	free(w->reports);
	free(w->shown);
	free(w);
}

struct uhmm_machine *world_machine(struct world *w)
{
	return w->machine;
}

struct uhmm_mm *world_mm(struct world *w, unsigned int proc)
{
	return proc < VEC_MAX_PROCS ? w->process[proc].mm : NULL;
}

void world_enter(struct world *w, unsigned int proc)
{
	uhmm_task_enter(w->process[proc].task);
}

void world_leave(struct world *w)
{
	(void)w;
	uhmm_task_leave();
}

bool world_verify(struct world *w)
{
	int violations;
	bool ok;

	uhmm_task_enter(w->reaper[0]);
	violations = uhmm_machine_verify(w->machine);
	uhmm_task_leave();
	if (violations < 0)
		take_report(w, UHMM_REPORT_VERIFY, "the verifier found no memory to run");
	ok = !violations && !w->violated;
	w->violated = false;
	return ok;
}

const char *world_reports(struct world *w)
{
	free(w->shown);
	w->shown = w->reports;
	w->reports = tool_xstrdup("");
	w->len = 0;
	return w->shown;
}

/* ---- answers ---- */

static void answer_not_run(struct vec_answer *a, const char *why)
{
	vec_answer_free(a);
	*a = (struct vec_answer){ .status = VEC_NOT_RUN, .why = why };
}

/*
 * -EOPNOTSUPP is how the library says that it does not model something, here @what; NULL: then it
 * is the kernel's own answer.
 */
static void answer_error(struct vec_answer *a, int err, const char *what)
{
	if (err == -EOPNOTSUPP && what)
		*a = (struct vec_answer){ .status = VEC_NOT_MODELLED, .why = what };
	else
		*a = (struct vec_answer){ .status = err ? VEC_ERR : VEC_OK,
					  .number = (uint64_t)-err };
}

static void answer_list(struct vec_answer *a, enum vec_list kind, uint64_t n)
{
	a->kind = kind;
	a->n = n;
	a->list = tool_xalloc(n, sizeof(*a->list));
}

/* The value of a page; false if the rest of it is not as an operation of a vector leaves it. */
static bool page_value(const struct world *w, const char *page, uint64_t *out)
{
	static const char zero[UHMM_PAGE_SIZE];

	memcpy(out, page, sizeof(*out));
	if (w->content == UHMM_CONTENT_TAG)
		return true;
	return !memcmp(page + sizeof(*out), zero, UHMM_PAGE_SIZE - sizeof(*out));
}

static void set_page_value(const struct world *w, char *page, uint64_t value)
{
	/* A tag stands for the whole page: the last 8 bytes count. */
	size_t end = w->content == UHMM_CONTENT_TAG ? UHMM_PAGE_SIZE : sizeof(value);

	for (size_t off = 0; off < end; off += sizeof(value))
		memcpy(page + off, &value, sizeof(value));
}

static const char rest_not_zero[] = "a page holds more than its first 8 bytes";

static void answer_data(const struct world *w, struct vec_answer *a, const char *pages, uint64_t n)
{
	answer_list(a, VEC_LIST_DATA, n);
	for (uint64_t i = 0; i < n; i++) {
		if (!page_value(w, pages + i * UHMM_PAGE_SIZE, &a->list[i])) {
			answer_not_run(a, rest_not_zero);
			return;
		}
	}
}

/* ---- by the CPU ---- */

static uint64_t seed_value(uint64_t seed, uint64_t page)
{
	return seed * 1000003 + page + 1;
}

static void do_cpu(struct world *w, const struct vec_op *op, struct vec_answer *a)
{
	struct uhmm_mm *mm = w->process[op->proc].mm;
	char page[UHMM_PAGE_SIZE];
	int err = 0;

	if (op->kind == VEC_CPU_READ)
		answer_list(a, VEC_LIST_DATA, op->npages);
	for (uint64_t i = 0; i < op->npages; i++) {
		uhmm_vaddr_t va = op->va + i * UHMM_PAGE_SIZE;
		uint64_t value = seed_value(op->value, i);

		if (op->kind == VEC_CPU_WRITE) {
			err = uhmm_cpu_write(mm, va, &value, sizeof(value), NULL);
		} else {
			/* As far as the page goes: its end may be that of the mapping. */
			uint64_t len = UHMM_PAGE_SIZE - va % UHMM_PAGE_SIZE;

			memset(page, 0, sizeof(page));
			err = uhmm_cpu_read(mm, va, page, len, NULL);
			if (!err && !page_value(w, page, &a->list[i])) {
				answer_not_run(a, rest_not_zero);
				return;
			}
		}
		if (err) {
			vec_answer_free(a);
			answer_error(a, err < 0 ? err : 0, NULL);
			if (err > 0) {
				a->status = err == SIGSEGV ? VEC_SIGSEGV : VEC_SIGBUS;
				a->number = i;
			}
			return;
		}
	}
}

static void do_pagemap(struct world *w, const struct vec_op *op, struct vec_answer *a)
{
	uint64_t *raw = tool_xalloc(op->npages, sizeof(*raw));
	int err = uhmm_pagemap(w->process[op->proc].mm, op->va, op->npages, raw);

	if (err) {
		answer_error(a, err, NULL);
	} else {
		answer_list(a, VEC_LIST_MAP, op->npages);
		for (uint64_t i = 0; i < op->npages; i++)
			a->list[i] = (raw[i] & UHMM_PM_PRESENT ? 1 : 0) |
				     (raw[i] & UHMM_PM_SWAP ? 2 : 0) |
				     (raw[i] & UHMM_PM_FILE ? 4 : 0) |
				     (raw[i] & UHMM_PM_MMAP_EXCLUSIVE ? 8 : 0);
	}
	free(raw);
}

static int do_mmap(struct world *w, const struct vec_op *op)
{
	struct uhmm_mm *mm = w->process[op->proc].mm;
	int flags = MAP_FIXED | (op->shared ? MAP_SHARED : MAP_PRIVATE);
	uint64_t len = op->npages * UHMM_PAGE_SIZE;

	if (op->file)
		return uhmm_mmap(mm, op->va, len, op->prot, flags, w->file[op->value], op->pgoff,
				 NULL);
	return uhmm_mmap(mm, op->va, len, op->prot, flags | MAP_ANONYMOUS, NULL, 0, NULL);
}

static void do_mapping(struct world *w, const struct vec_op *op, struct vec_answer *a)
{
	struct uhmm_mm *mm = w->process[op->proc].mm;
	uint64_t len = op->npages * UHMM_PAGE_SIZE;
	const char *what = NULL;
	int err = -EINVAL;

	switch (op->kind) {
	case VEC_MMAP:
		err = do_mmap(w, op);
		break;
	case VEC_MUNMAP:
		err = uhmm_munmap(mm, op->va, len);
		break;
	case VEC_MPROTECT:
		err = uhmm_mprotect(mm, op->va, len, op->prot);
		break;
	case VEC_MADVISE:
		what = "this advice";
		err = uhmm_madvise(mm, op->va, len, op->advice);
		break;
	case VEC_MREMAP:
		err = uhmm_mremap(mm, op->va, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, op->new_va,
				  NULL);
		break;
	default:
		break;
	}
	answer_error(a, err, what);
}

static void do_fork(struct world *w, const struct vec_op *op, struct vec_answer *a)
{
	struct uhmm_mm *mm;
	int err = uhmm_mm_fork(w->process[op->proc].mm, &mm);

	if (!err) {
		err = process_start(w, op->child, mm);
		if (err)
			uhmm_mmput(mm);
	}
	answer_error(a, err, NULL);
}

/* ---- by a device ---- */

static int open_mirror(struct world *w, const struct vec_op *op, struct uhmm_mirror **out)
{
	struct process *p = &w->process[op->proc];
	int err = 0;

	if (!w->device[op->dev]) {
		struct uhmm_device_config config = {
			.size = sizeof(config),
			.type = op->dev < 2 ? UHMM_MEMORY_DEVICE_PRIVATE
					    : UHMM_MEMORY_DEVICE_COHERENT,
			.huge_by_head = w->as_recorded,
			/* The verifier goes over all that is registered, after each operation. */
			.chunk_bytes = 16UL << 20,
		};

		err = uhmm_device_create(w->machine, &config, &w->device[op->dev]);
	}
	if (!err && !p->mirror[op->dev])
		err = uhmm_mirror_open(w->device[op->dev], p->mm, &p->mirror[op->dev]);
	if (!err)
		*out = p->mirror[op->dev];
	return err;
}

static enum uhmm_mirror_op mirror_op(const struct vec_op *op)
{
	switch (op->kind) {
	case VEC_DEV_READ:
		return UHMM_MIRROR_READ;
	case VEC_DEV_READ_UNLOCKED:
		return UHMM_MIRROR_READ_UNLOCKED;
	case VEC_DEV_WRITE:
		return UHMM_MIRROR_WRITE;
	case VEC_MIGRATE_TO_DEV:
		return UHMM_MIRROR_MIGRATE_TO_DEV;
	case VEC_MIGRATE_TO_SYS:
		return UHMM_MIRROR_MIGRATE_TO_SYS;
	case VEC_MIGRATE_ON_FAULT:
		return op->write ? UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV
				 : UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV;
	case VEC_SNAPSHOT:
		return UHMM_MIRROR_SNAPSHOT;
	case VEC_EXCLUSIVE:
		return UHMM_MIRROR_EXCLUSIVE;
	case VEC_CHECK_EXCLUSIVE:
		return UHMM_MIRROR_CHECK_EXCLUSIVE;
	case VEC_FLAGS:
		return UHMM_MIRROR_FLAGS;
	default:
		return UHMM_MIRROR_RELEASE;
	}
}

/* What the answer to a successful operation holds. */
static void answer_cmd(struct world *w, const struct vec_op *op, const struct uhmm_mirror_cmd *cmd,
		       struct vec_answer *a)
{
	const unsigned char *byte = cmd->ptr;

	if (op->kind == VEC_FLAGS || op->kind == VEC_RELEASE)
		return;
	a->has_cpages = true;
	a->cpages = cmd->cpages;
	switch (op->kind) {
	case VEC_DEV_READ:
	case VEC_DEV_READ_UNLOCKED:
	case VEC_DEV_WRITE:
		a->has_faults = true;
		a->faults = cmd->faults;
		if (op->kind != VEC_DEV_WRITE)
			answer_data(w, a, cmd->ptr, op->npages);
		break;
	case VEC_MIGRATE_TO_DEV:
	case VEC_MIGRATE_ON_FAULT:
		answer_data(w, a, cmd->ptr, op->npages);
		break;
	case VEC_SNAPSHOT:
		answer_list(a, VEC_LIST_PERM, op->npages);
		for (uint64_t i = 0; i < op->npages; i++)
			a->list[i] = byte[i];
		break;
	default:
		break;
	}
}

static void do_device(struct world *w, const struct vec_op *op, const uint64_t *values,
		      struct vec_answer *a)
{
	bool plain = op->kind == VEC_FLAGS || op->kind == VEC_RELEASE;
	struct uhmm_mirror_cmd cmd = { .addr = op->va, .npages = op->npages };
	struct uhmm_mirror *mirror;
	int err = open_mirror(w, op, &mirror);

	if (err) {
		answer_error(a, err, "device-coherent memory");
		return;
	}
	if (op->kind == VEC_CLOSE) {
		uhmm_mirror_close(mirror);
		w->process[op->proc].mirror[op->dev] = NULL;
		return;
	}
	if (plain)
		cmd.npages = op->kind == VEC_FLAGS ? op->value : 1;
	else if (op->kind != VEC_MIGRATE_TO_SYS && op->kind != VEC_CHECK_EXCLUSIVE)
		cmd.ptr = tool_xalloc(op->npages, UHMM_PAGE_SIZE);
	if (op->kind == VEC_DEV_WRITE)
		for (uint64_t i = 0; i < op->npages; i++)
			set_page_value(w, (char *)cmd.ptr + i * UHMM_PAGE_SIZE,
				       values ? values[i] : seed_value(op->value, i));

	err = uhmm_mirror_ioctl(mirror, mirror_op(op), &cmd);
	answer_error(a, err, op->kind == VEC_EXCLUSIVE ? NULL : "this operation of the device");
	if (!err)
		answer_cmd(w, op, &cmd, a);
	free(cmd.ptr);
}

/* ---- all ---- */

void world_run(struct world *w, const struct vec_op *op, const uint64_t *values,
	       struct vec_answer *out)
{
	memset(out, 0, sizeof(*out));
	out->status = VEC_OK;
	if (!w->process[op->proc].mm) {
		answer_not_run(out, "the fork that begins this process has failed");
		return;
	}
	if (op->kind == VEC_EXIT) {
		process_exit(w, op->proc);
		return;
	}
	if (op->kind == VEC_FORK && w->process[op->child].mm) {
		answer_not_run(out, "there is such a process already");
		return;
	}

	world_enter(w, op->proc);
	switch (op->kind) {
	case VEC_MMAP:
	case VEC_MUNMAP:
	case VEC_MPROTECT:
	case VEC_MADVISE:
	case VEC_MREMAP:
		do_mapping(w, op, out);
		break;
	case VEC_CPU_WRITE:
	case VEC_CPU_READ:
		do_cpu(w, op, out);
		break;
	case VEC_PAGEMAP:
		do_pagemap(w, op, out);
		break;
	case VEC_FORK:
		do_fork(w, op, out);
		break;
	default:
		do_device(w, op, values, out);
		break;
	}
	world_leave(w);
}
