// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * differential.c - the combined walker against a device access followed by a migration.
 *
 * Two machines do what the case says, side by side. Where it says migrate_to_dev,
 *
 *	the first   makes the device access the range, which faults in what is missing, and then
 *		    does migrate_to_dev;
 *	the second  does migrate_on_fault.
 *
 * A case runs twice, with reading and with writing accesses. A writing access of the first machine
 * writes what the pages hold, which a third machine is asked, that did the same as the first: so no
 * lost page is written over.
 *
 * Both answers must be equal, then the device's snapshot and the pagemap of the range, then the
 * whole machines (UHMM_COMPARE_STATE). Where faults map huge pages the access of the first machine
 * also maps what lies around the range, be it zeroes, and as in Linux it faults in the rest of a range
 * from the first page that needs it on, so that pages of the device's own that are mapped one by one
 * come home, their folio split, and go back: if that is all (UHMM_COMPARE_STATE_BUT_HOLES) the second
 * is made anew. All other operations must have equal answers, too; but a
 * later device access of the second machine may do with fewer rounds of faulting. An access looks
 * only at what the device's tables lack, from the first such page on; the walk has seen the whole
 * range and may have entered more.
 *
 * Errors. If the access succeeds, migrate_on_fault must answer as migrate_to_dev does; but ENOENT of
 * the latter is no failure: all was done, and the device's tables lack a page when the data are
 * read back (an invalidation takes one page too many). Then the device reads again, and these data
 * count. If the access fails, the first machine does the migration all the same, and
 * migrate_on_fault must fail: with the error of the one or the other, or with that of an access to
 * one page of the range. It makes the checks of both, over larger pieces, so that any of them may
 * come first. ENOMEM, which only a vector's `flags` cause, may come on one side alone: the next
 * allocation, which fails, need not be the same. How far each machine came before an error may
 * differ; what the processes read may not (UHMM_COMPARE_CONTENTS). The second machine is then made
 * anew, by doing all that the first did, and the case goes on.
 *
 * A page for which the device had no memory, another thing that only `flags` cause, is no error where
 * the device reaches it in RAM. It stays what it was when it was to be moved: with the first machine
 * what the access made of it, with the second perhaps nothing or zeroes, which a fault then fills by
 * itself. So if a page of either machine found no destination it is the data that must be equal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conform.h"
#include "tool.h"

struct pair {
	struct conform *r;
	bool write;
	struct world *first, *second;
	uint64_t **values; /* by operation: what the first machine's write wrote; else NULL */
};

static const char access_name[2][11] = { "dev_read:", "dev_write:" };
static const char two_steps[] = "access, then migrate_to_dev:";
static const char one_step[] = "migrate_on_fault:";

static void show(const char *label, const struct vec_answer *a)
{
	char *text = vec_answer_format(a);

	printf("  %-29s %s\n", label, text);
	free(text);
}

static const char *direction(const struct pair *p)
{
	return p->write ? "for writing" : "for reading";
}

/* conform_differ() that tells the two runs of a case apart. */
static bool differ(const struct pair *p, const struct vec_op *op, const char *what)
{
	char text[64];

	snprintf(text, sizeof(text), "%s%s", what, direction(p));
	return conform_differ(p->r, op, text);
}

static bool fails(const struct vec_answer *a)
{
	return a->status != VEC_OK;
}

static bool no_memory(const struct vec_answer *a)
{
	return a->status == VEC_ERR && a->number == ENOMEM;
}

static bool lacks_page(const struct vec_answer *a)
{
	return a->status == VEC_ERR && a->number == ENOENT;
}

/* ---- what each machine does ---- */

/* The answer that reading back would have given, if the device's tables had been complete. */
static void read_again(struct world *w, const struct vec_op *op, struct vec_answer *a)
{
	struct vec_op step = *op;

	step.kind = VEC_DEV_READ;
	vec_answer_free(a);
	world_run(w, &step, NULL, a);
	a->has_faults = false;
	a->faults = 0;
}

static void do_access(const struct pair *p, struct world *w, const struct vec_op *op,
		      const uint64_t *values, struct vec_answer *a)
{
	struct vec_op step = *op;

	step.kind = p->write ? VEC_DEV_WRITE : VEC_DEV_READ;
	world_run(w, &step, values, a);
}

static void do_two_steps(const struct pair *p, struct world *w, const struct vec_op *op,
			 struct vec_answer *access, struct vec_answer *migrate)
{
	do_access(p, w, op, p->values[op - p->r->c->ops], access);
	world_run(w, op, NULL, migrate);
	if (!fails(access) && lacks_page(migrate))
		read_again(w, op, migrate);
}

static void do_one_step(const struct pair *p, const struct vec_op *op, struct vec_answer *a)
{
	struct vec_op step = *op;

	step.kind = VEC_MIGRATE_ON_FAULT;
	step.write = p->write;
	world_run(p->second, &step, NULL, a);
}

/* Another machine in the state that the first had before @end; NULL after a message. */
static struct world *like_first(const struct pair *p, const struct vec_op *end)
{
	struct world *w;
	int err = world_new(p->r->content, &w);

	if (err) {
		tool_error("cannot make a machine: %s", strerror(-err));
		return NULL;
	}
	for (const struct vec_op *op = p->r->c->ops; op < end; op++) {
		struct vec_answer a, b = { 0 };

		if (op->kind == VEC_MIGRATE_TO_DEV)
			do_two_steps(p, w, op, &a, &b);
		else
			world_run(w, op, NULL, &a);
		vec_answer_free(&a);
		vec_answer_free(&b);
	}
	return w;
}

/* The first word of a page, 0 where the process cannot read. */
static uint64_t read_value(struct world *w, const struct vec_op *op, uint64_t page)
{
	struct vec_op one = *op;
	uint64_t value = 0;
	bool again = true;

	one.kind = VEC_CPU_READ;
	one.npages = 1;
	one.va = op->va + page * UHMM_PAGE_SIZE;
	/* An allocation that was told to fail does so once for each device. */
	for (int i = 0; again && i <= VEC_MAX_DEVICES; i++) {
		struct vec_answer a;

		world_run(w, &one, NULL, &a);
		if (a.status == VEC_OK && a.n)
			value = a.list[0];
		again = a.status == VEC_ERR;
		vec_answer_free(&a);
	}
	return value;
}

/* What a write of the first machine writes: what is there, as a third machine finds it. */
static bool prepare_values(struct pair *p, const struct vec_op *op)
{
	uint64_t *values;
	struct world *w;

	if (!p->write)
		return true;
	w = like_first(p, op);
	if (!w)
		return false;
	values = tool_xalloc(op->npages, sizeof(*values));
	for (uint64_t i = 0; i < op->npages; i++)
		values[i] = read_value(w, op, i);
	p->values[op - p->r->c->ops] = values;
	world_free(w);
	return true;
}

/* Whether the access fails in this way for one of the pages alone. */
static bool page_fails_so(const struct pair *p, const struct vec_op *op,
			  const struct vec_answer *how)
{
	const uint64_t *values = p->values[op - p->r->c->ops];
	struct world *w = like_first(p, op);
	struct vec_op one = *op;
	bool found = false;

	one.npages = 1;
	for (uint64_t i = 0; w && !found && i < op->npages; i++) {
		struct vec_answer a;

		one.va = op->va + i * UHMM_PAGE_SIZE;
		do_access(p, w, &one, values ? &values[i] : NULL, &a);
		found = fails(&a) && vec_answer_equal(&a, how);
		vec_answer_free(&a);
	}
	world_free(w);
	return found;
}

/* The second machine in the state that the first had before @end. */
static bool remake_second(struct pair *p, const struct vec_op *end)
{
	world_free(p->second);
	p->second = like_first(p, end);
	return p->second;
}

/* ---- comparisons ---- */

static void emit(void *data, const char *line)
{
	(void)data;
	conform_line(NULL, line);
}

static void no_emit(void *data, const char *line)
{
	(void)data;
	(void)line;
}

static bool same_machines(const struct pair *p, enum uhmm_compare what)
{
	return !uhmm_machine_compare(world_machine(p->first), world_machine(p->second), what,
				     no_emit, NULL);
}

/* A difference is found first and printed after: its heading must come before the details. */
static bool compare_machines(struct pair *p, const struct vec_op *op, enum uhmm_compare what)
{
	struct uhmm_machine *a = world_machine(p->first), *b = world_machine(p->second);
	int64_t pages = uhmm_machine_compare(a, b, what, no_emit, NULL);

	if (!pages)
		return true;
	if (!differ(p, op,
		    what == UHMM_COMPARE_STATE ? "the states of the machines, "
					       : "the data of the machines, "))
		return false;
	if (pages < 0)
		conform_line(NULL, strerror((int)-pages));
	else
		(void)uhmm_machine_compare(a, b, what, emit, NULL);
	return false;
}

static bool done(const struct vec_answer *a)
{
	return a->status != VEC_NOT_MODELLED && a->status != VEC_NOT_RUN;
}

/* Equal, but the second may have faulted less. */
static bool same_but_faults(const struct vec_answer *a, const struct vec_answer *b)
{
	struct vec_answer same = *b;

	if (a->has_faults && b->has_faults && b->faults < a->faults)
		same.faults = a->faults;
	return vec_answer_equal(a, &same);
}

static bool is_access(const struct vec_op *op)
{
	return op->kind == VEC_DEV_READ || op->kind == VEC_DEV_READ_UNLOCKED ||
	       op->kind == VEC_DEV_WRITE;
}

/* The same operation on both; answers must be equal. */
static bool both(struct pair *p, const struct vec_op *op, const struct vec_op *at, bool print)
{
	struct vec_answer a, b;
	bool ok, had_memory;

	world_run(p->first, op, NULL, &a);
	world_run(p->second, op, NULL, &b);
	if (print && p->r->verbose)
		conform_exchange(op, &a);
	had_memory = !no_memory(&a) && !no_memory(&b);
	ok = (same_but_faults(&a, &b) || !had_memory) && done(&a) && done(&b);
	if (!ok) {
		const char *what = op == at		      ? ""
				   : op->kind == VEC_SNAPSHOT ? "snapshot of the range, "
							      : "pagemap of the range, ";

		if (differ(p, at, what)) {
			show(two_steps, &a);
			show(one_step, &b);
		}
	}
	/* How much was done before such an error depends on what the device's tables held. */
	if (ok && op == at && (!had_memory || (fails(&a) && is_access(op))))
		ok = remake_second(p, op + 1);
	vec_answer_free(&a);
	vec_answer_free(&b);
	return ok;
}

static bool answers_agree(const struct pair *p, const struct vec_op *op,
			  const struct vec_answer *access, const struct vec_answer *migrate,
			  const struct vec_answer *one)
{
	if (!done(access) || !done(migrate) || !done(one))
		return false;
	if (no_memory(access) || no_memory(migrate) || no_memory(one))
		return true;
	if (!fails(access))
		return vec_answer_equal(migrate, one);
	return vec_answer_equal(access, one) ||
	       (fails(migrate) && vec_answer_equal(migrate, one)) ||
	       (fails(one) && page_fails_so(p, op, one));
}

static bool same_look(struct pair *p, const struct vec_op *op)
{
	struct vec_op look = *op;

	look.kind = VEC_SNAPSHOT;
	if (!both(p, &look, op, false))
		return false;
	look.kind = VEC_PAGEMAP;
	if (!both(p, &look, op, false))
		return false;
	if (same_machines(p, UHMM_COMPARE_STATE))
		return true;
	/*
	 * Where there are huge pages the access faults in what lies around the range, and the walk
	 * does not: all the rest must be the same.
	 */
	if (same_machines(p, UHMM_COMPARE_STATE_BUT_HOLES))
		return remake_second(p, op + 1);
	return compare_machines(p, op, UHMM_COMPARE_STATE);
}

/* How many pages of both machines have found no destination. */
static uint64_t no_destination(const struct pair *p)
{
	struct uhmm_counters first, second;

	uhmm_counters_read(world_machine(p->first), &first);
	uhmm_counters_read(world_machine(p->second), &second);
	return first.v[UHMM_CNT_FAIL_NO_DST] + second.v[UHMM_CNT_FAIL_NO_DST];
}

static bool migrate_both(struct pair *p, const struct vec_op *op)
{
	struct vec_answer access, migrate, one;
	uint64_t without;
	bool agree, failed;

	if (!prepare_values(p, op))
		return false;
	without = no_destination(p);
	do_two_steps(p, p->first, op, &access, &migrate);
	do_one_step(p, op, &one);
	if (p->r->verbose) {
		printf("%s\n", op->text);
		show(access_name[p->write], &access);
		show("migrate_to_dev:", &migrate);
		show(one_step, &one);
	}
	agree = answers_agree(p, op, &access, &migrate, &one);
	if (!agree && fails(&access)) {
		/* Did it fail for what the device's tables held, and where batches began? */
		vec_answer_free(&one);
		if (!remake_second(p, op))
			return false;
		do_one_step(p, op, &one);
		agree = answers_agree(p, op, &access, &migrate, &one);
	}
	if (!agree && differ(p, op, "")) {
		show(access_name[p->write], &access);
		show("migrate_to_dev:", &migrate);
		show(one_step, &one);
	}
	failed = fails(&access) || fails(&migrate) || fails(&one) || no_destination(p) != without;
	vec_answer_free(&access);
	vec_answer_free(&migrate);
	vec_answer_free(&one);
	if (!agree)
		return false;
	if (!failed)
		return same_look(p, op);
	return compare_machines(p, op, UHMM_COMPARE_CONTENTS) && remake_second(p, op + 1);
}

/* ---- a case ---- */

static bool run_pass(struct pair *p)
{
	const struct vec_case *c = p->r->c;
	const struct vec_op *op;

	for (size_t i = 0; i < c->n; i++) {
		op = &c->ops[i];
		/* One difference is all: the machines have parted. */
		if (op->kind == VEC_MIGRATE_TO_DEV ? !migrate_both(p, op) : !both(p, op, op, true))
			return false;
		if (!conform_verify(p->r, p->first, op) || !conform_verify(p->r, p->second, op))
			return false;
	}
	return compare_machines(p, NULL, UHMM_COMPARE_STATE);
}

bool conform_differential(struct conform *r)
{
	bool ok = true;

	r->differences = 0;
	for (int write = 0; write < 2; write++) {
		struct pair p = { .r = r, .write = write };
		int err;

		p.values = tool_xalloc(r->c->n, sizeof(*p.values));
		conform_begin(r, direction(&p));
		err = world_new(r->content, &p.first);
		if (!err)
			err = world_new(r->content, &p.second);
		if (err) {
			if (conform_differ(r, NULL, "cannot make a machine"))
				conform_line(NULL, strerror(-err));
			ok = false;
		} else if (!run_pass(&p)) {
			ok = false;
		}
		world_free(p.first);
		world_free(p.second);
		for (size_t i = 0; i < r->c->n; i++)
			free(p.values[i]);
		free(p.values);
	}
	conform_end(r);
	return ok;
}
