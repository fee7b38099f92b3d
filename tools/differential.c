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
 * writes what the pages hold, as far as the device can read them one by one: so neither machine
 * knows more than the other and no lost page is written over.
 *
 * Both answers must be equal, then the device's snapshot and the pagemap of the range, then the
 * whole machines (UHMM_COMPARE_STATE). All other operations must have equal answers, too; but a
 * later device access of the second machine may do with fewer rounds of faulting. An access looks
 * only at what the device's tables lack, from the first such page on; the walk has seen the whole
 * range and may have entered more.
 *
 * Errors. If the access succeeds, migrate_on_fault must fail as migrate_to_dev does; but ENOENT is
 * no failure of a migration: all was done, and the device's tables lack a page when the data are
 * read back (a neighbour's invalidation takes one page too many). Then the device reads again, and
 * these data count. If the access fails, the first machine does the migration all the same, and
 * migrate_on_fault must fail with the error of the one or the other: it makes the checks of both,
 * range by range, so that either may come first. How far each came before the error may differ;
 * what the processes read may not (UHMM_COMPARE_CONTENTS). The second machine is then made anew,
 * by doing all that the first did, and the case goes on.
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

/* ---- what each machine does ---- */

/* First words of the pages, as far as the device can read them; 0 elsewhere. */
static uint64_t *read_values(struct world *w, const struct vec_op *op)
{
	uint64_t *values = tool_xalloc(op->npages, sizeof(*values));
	struct vec_op one = *op;

	one.kind = VEC_DEV_READ;
	one.npages = 1;
	for (uint64_t i = 0; i < op->npages; i++) {
		struct vec_answer a;

		one.va = op->va + i * UHMM_PAGE_SIZE;
		world_run(w, &one, NULL, &a);
		if (a.status == VEC_OK && a.n)
			values[i] = a.list[0];
		vec_answer_free(&a);
	}
	return values;
}

static void do_two_steps(const struct pair *p, struct world *w, const struct vec_op *op,
			 struct vec_answer *access, struct vec_answer *migrate)
{
	struct vec_op step = *op;
	uint64_t *values = NULL;

	if (p->write)
		values = read_values(w, op);
	step.kind = p->write ? VEC_DEV_WRITE : VEC_DEV_READ;
	world_run(w, &step, values, access);
	free(values);
	world_run(w, op, NULL, migrate);
}

static void do_one_step(const struct pair *p, struct world *w, const struct vec_op *op,
			struct vec_answer *a)
{
	struct vec_op step = *op;

	step.kind = VEC_MIGRATE_ON_FAULT;
	step.write = p->write;
	world_run(w, &step, NULL, a);
}

/* The second machine in the state of the first: all operations up to @last once more. */
static bool remake_second(struct pair *p, const struct vec_op *last)
{
	int err;

	world_free(p->second);
	p->second = NULL;
	err = world_new(p->r->content, &p->second);
	if (err) {
		tool_error("cannot make a machine: %s", strerror(-err));
		return false;
	}
	for (const struct vec_op *op = p->r->c->ops; op <= last; op++) {
		struct vec_answer a, b = { 0 };

		if (op->kind == VEC_MIGRATE_TO_DEV)
			do_two_steps(p, p->second, op, &a, &b);
		else
			world_run(p->second, op, NULL, &a);
		vec_answer_free(&a);
		vec_answer_free(&b);
	}
	return true;
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

/* The same operation on both; answers must be equal. */
static bool both(struct pair *p, const struct vec_op *op, const struct vec_op *at, bool print)
{
	struct vec_answer a, b;
	bool ok;

	world_run(p->first, op, NULL, &a);
	world_run(p->second, op, NULL, &b);
	if (print && p->r->verbose)
		conform_exchange(op, &a);
	ok = same_but_faults(&a, &b) && done(&a);
	if (!ok) {
		const char *what = op == at		      ? ""
				   : op->kind == VEC_SNAPSHOT ? "snapshot of the range, "
							      : "pagemap of the range, ";

		if (differ(p, at, what)) {
			show(two_steps, &a);
			show(one_step, &b);
		}
	}
	vec_answer_free(&a);
	vec_answer_free(&b);
	return ok;
}

static bool fails(const struct vec_answer *a)
{
	return a->status != VEC_OK;
}

static bool lacks_page(const struct vec_answer *a)
{
	return a->status == VEC_ERR && a->number == ENOENT;
}

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

static bool answers_agree(const struct vec_answer *access, const struct vec_answer *migrate,
			  const struct vec_answer *one)
{
	if (!done(access) || !done(migrate) || !done(one))
		return false;
	if (!fails(access))
		return vec_answer_equal(migrate, one);
	return vec_answer_equal(access, one) || (fails(migrate) && vec_answer_equal(migrate, one));
}

static bool same_look(struct pair *p, const struct vec_op *op)
{
	struct vec_op look = *op;

	look.kind = VEC_SNAPSHOT;
	if (!both(p, &look, op, false))
		return false;
	look.kind = VEC_PAGEMAP;
	return both(p, &look, op, false) && compare_machines(p, op, UHMM_COMPARE_STATE);
}

static bool migrate_both(struct pair *p, const struct vec_op *op)
{
	struct vec_answer access, migrate, one;
	bool agree, failed;

	do_two_steps(p, p->first, op, &access, &migrate);
	do_one_step(p, p->second, op, &one);
	if (p->r->verbose) {
		printf("%s\n", op->text);
		show(access_name[p->write], &access);
		show("migrate_to_dev:", &migrate);
		show(one_step, &one);
	}
	if (!fails(&access) && lacks_page(&migrate)) {
		read_again(p->first, op, &migrate);
		if (lacks_page(&one))
			read_again(p->second, op, &one);
	}
	agree = answers_agree(&access, &migrate, &one);
	if (!agree && differ(p, op, "")) {
		show(access_name[p->write], &access);
		show("migrate_to_dev:", &migrate);
		show(one_step, &one);
	}
	failed = fails(&access) || fails(&migrate);
	vec_answer_free(&access);
	vec_answer_free(&migrate);
	vec_answer_free(&one);
	if (!agree)
		return false;
	if (!failed)
		return same_look(p, op);
	return compare_machines(p, op, UHMM_COMPARE_CONTENTS) && remake_second(p, op);
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
	}
	conform_end(r);
	return ok;
}
