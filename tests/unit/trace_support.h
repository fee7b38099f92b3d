/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* trace_support.h - events of the trace reader as text, and what holds for every stream of them. */
#ifndef TESTS_UNIT_TRACE_SUPPORT_H
#define TESTS_UNIT_TRACE_SUPPORT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <uhmm/trace.h>

#ifndef UHMM_TEST_DATA
#define UHMM_TEST_DATA "tests"
#endif
#define TRACES UHMM_TEST_DATA "/data/traces/"
#define BROKEN UHMM_TEST_DATA "/data/broken/"

/* ---- events as text ---- */

struct text {
	char *s;
	size_t len, cap;
};

static inline void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *fmt, ...)
{
	va_list ap;

	if (t->cap - t->len < 1024) {
		t->cap = 2 * t->cap + 4096;
		t->s = realloc(t->s, t->cap);
		ck_assert_ptr_nonnull(t->s);
	}
	va_start(ap, fmt);
	t->len += (size_t)vsnprintf(t->s + t->len, t->cap - t->len, fmt, ap);
	va_end(ap);
}

#define R(x) (unsigned long long)(x).start, (unsigned long long)(x).end

static inline void show(struct text *t, const struct uhmm_trace_event *e)
{
	static const char *const why[] = { "found", "fork", "vfork", "thread", "exec" };
	static const char access[] = "?rwx", mode[] = "?uk", yes_no[] = "?-+";

	add(t, "%s %d/%d mm%u", uhmm_trace_kind_name(e->kind), e->tgid, e->tid, e->mm);
	switch (e->kind) {
	case UHMM_TRACE_MM_NEW:
		add(t, " %s %u", why[e->mm_new.why], e->mm_new.parent);
		break;
	case UHMM_TRACE_TASK:
		add(t, " %s", why[e->task.why]);
		break;
	case UHMM_TRACE_OBJ:
		add(t, " %u kind%u %x:%x %llu %s", e->obj.id, e->obj.kind, e->obj.dev_major,
		    e->obj.dev_minor, (unsigned long long)e->obj.ino,
		    e->obj.name ? e->obj.name : "-");
		break;
	case UHMM_TRACE_MAP:
		add(t, " %llx-%llx prot%u flags%x obj%u@%llx", R(e->map), e->map.prot, e->map.flags,
		    e->map.obj, (unsigned long long)(e->map.obj ? e->map.pgoff : 0));
		break;
	case UHMM_TRACE_UNMAP:
		add(t, " %llx-%llx", R(e->unmap));
		break;
	case UHMM_TRACE_PROT:
		add(t, " %llx-%llx prot%u", R(e->prot), e->prot.prot);
		break;
	case UHMM_TRACE_MOVE:
		add(t, " %llx-%llx to %llx-%llx flags%u", (unsigned long long)e->move.old_start,
		    (unsigned long long)e->move.old_end, (unsigned long long)e->move.new_start,
		    (unsigned long long)e->move.new_end, e->move.flags);
		break;
	case UHMM_TRACE_ADVISE:
		add(t, " %llx-%llx advice%u err%d", R(e->advise), e->advise.advice,
		    e->advise.error);
		break;
	case UHMM_TRACE_TRUNC:
		add(t, " obj%u %llx-%llx", e->trunc.obj, R(e->trunc));
		break;
	case UHMM_TRACE_FAULT:
	case UHMM_TRACE_FAULT_MAJOR:
		add(t, " %llx %c%c%c", (unsigned long long)e->fault.addr, access[e->fault.access],
		    mode[e->fault.mode], yes_no[e->fault.present]);
		break;
	case UHMM_TRACE_LOST:
		add(t, " %llu", (unsigned long long)e->lost.count);
		break;
	default:
		break;
	}
	add(t, "\n");
}

/* ---- what holds for every stream ---- */

struct checker {
	uint64_t t_ns;
	unsigned char mm[1 << 16]; /* 1: alive, 2: gone */
	unsigned char obj[1 << 16];
};

static inline void check_range(uint64_t start, uint64_t end)
{
	ck_assert_uint_lt(start, end);
	ck_assert_uint_eq(start & 0xfff, 0);
	ck_assert_uint_eq(end & 0xfff, 0);
}

static inline void check_event(struct checker *c, const struct uhmm_trace_event *e)
{
	ck_assert_uint_ge(e->kind, UHMM_TRACE_MM_NEW);
	ck_assert_uint_lt(e->kind, UHMM_TRACE_NR_KINDS);
	ck_assert_uint_ge(e->t_ns, c->t_ns);
	c->t_ns = e->t_ns;
	ck_assert_uint_lt(e->mm, sizeof(c->mm));
	if (e->kind == UHMM_TRACE_MM_NEW) {
		ck_assert_uint_ne(e->mm, 0);
		ck_assert_uint_eq(c->mm[e->mm], 0);
		if (e->mm_new.parent)
			ck_assert_uint_eq(c->mm[e->mm_new.parent], 1);
		c->mm[e->mm] = 1;
	} else if (e->mm) {
		ck_assert_uint_eq(c->mm[e->mm], 1);
	}
	switch (e->kind) {
	case UHMM_TRACE_MM_DEL:
		c->mm[e->mm] = 2;
		break;
	case UHMM_TRACE_OBJ:
		c->obj[e->obj.id & 0xffff] = 1;
		break;
	case UHMM_TRACE_MAP:
		check_range(e->map.start, e->map.end);
		ck_assert(!e->map.obj || c->obj[e->map.obj & 0xffff]);
		break;
	case UHMM_TRACE_UNMAP:
		check_range(e->unmap.start, e->unmap.end);
		break;
	case UHMM_TRACE_PROT:
		check_range(e->prot.start, e->prot.end);
		break;
	case UHMM_TRACE_MOVE:
		check_range(e->move.old_start, e->move.old_end);
		check_range(e->move.new_start, e->move.new_end);
		break;
	case UHMM_TRACE_ADVISE:
		check_range(e->advise.start, e->advise.end);
		break;
	default:
		break;
	}
	if (e->kind != UHMM_TRACE_OBJ && e->kind != UHMM_TRACE_LOST)
		ck_assert_uint_ne(e->mm, 0);
}

/* Reads to the end or the first error, which is returned. @t may be NULL. */
static inline int drain(struct uhmm_trace_reader *r, struct text *t)
{
	struct checker *c = calloc(1, sizeof(*c));
	struct uhmm_trace_event ev;
	int ret;

	ck_assert_ptr_nonnull(c);
	while ((ret = uhmm_trace_next(r, &ev)) == 1) {
		check_event(c, &ev);
		if (t)
			show(t, &ev);
	}
	ck_assert_int_eq(uhmm_trace_next(r, &ev), ret);
	free(c);
	return ret;
}

/* ---- texts ---- */

static inline int text_file(const void *data, size_t len, char path[64])
{
	int fd = memfd_create("trace", 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static inline struct uhmm_trace_reader *open_path(const char *path, bool keep_going)
{
	struct uhmm_trace_options opt = { .size = sizeof(opt), .keep_going = keep_going };
	struct uhmm_trace_reader *r = NULL;

	ck_assert_int_eq(uhmm_trace_open(path, &opt, &r), 0);
	ck_assert_ptr_nonnull(r);
	return r;
}

static inline void expect(const char *text, const char *events)
{
	char path[64];
	int fd = text_file(text, strlen(text), path);
	struct uhmm_trace_reader *r = open_path(path, false);
	struct text t = { 0 };
	int ret;

	add(&t, "%s", "");
	ret = drain(r, &t);
	ck_assert_msg(ret == 0, "%s", uhmm_trace_error(r));
	ck_assert_str_eq(t.s, events);
	uhmm_trace_close(r);
	close(fd);
	free(t.s);
}

/* Heads of lines, as perf pads them: process, thread, time in ns after one second. */
#define H(pid, tid, ns) "            test " #pid "/" #tid " [001]     1.0000" #ns ": "
#define EXEC "PERF_RECORD_COMM exec: test:10/10\n"
#define A H(10, 10, 00000)
#define STARTED "MM_NEW 10/10 mm1 exec 0\nTASK 10/10 mm1 exec\n"
#define ANON "00:00 0 0]: rw-p //anon\n"

#endif /* TESTS_UNIT_TRACE_SUPPORT_H */
