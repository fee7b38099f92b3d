// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The combined walker over two pages, and something else that wants the same pages: in the same address
 * space, or in the child with which they are shared.
 */
#include "pair.h"

struct race;

struct versus {
	void (*other)(struct race *r);
	bool two_mms; /* it is the child's */
	/* What the other's address space holds then. */
	enum { AS_BEFORE, WRITTEN, ZEROES, NOTHING } after;
};

struct race {
	const struct versus *v;
	struct pair *p;
	/* The other's. */
	struct uhmm_mm *mm;
	struct uhmm_mirror *mirror;
	struct uhmm_mm *forked; /* by it */
};

static uint64_t written(unsigned int i)
{
	return ~pair_value(i);
}

/* Both pages to a device. */
static void serve(struct race *r, struct uhmm_mirror *mirror, enum uhmm_strategy strategy)
{
	int err = uhmm_mirror_serve(mirror, pair_addr(0), pair_addr(PAIR_PAGES), true, strategy,
				    NULL);

	if (err == -EFAULT && r->v->after == NOTHING)
		return;
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "%s: %d",
				   uhmm_strategy_name(strategy), err);
}

static void expect_success(const char *what, int err)
{
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "%s: %d", what, err);
}

/* ---- the others ---- */

static void walk(struct race *r)
{
	serve(r, r->mirror, UHMM_COMBINED);
}

static void fault_then_migrate(struct race *r)
{
	serve(r, r->mirror, UHMM_FAULT_THEN_MIGRATE);
}

static void fork_mm(struct race *r)
{
	expect_success("fork", uhmm_mm_fork(r->mm, &r->forked));
}

static void unmap(struct race *r)
{
	expect_success("munmap", uhmm_munmap(r->mm, PAIR_AT, PAIR_PAGES * UHMM_PAGE_SIZE));
}

static void dontneed(struct race *r)
{
	expect_success("MADV_DONTNEED",
		       uhmm_madvise(r->mm, PAIR_AT, PAIR_PAGES * UHMM_PAGE_SIZE, MADV_DONTNEED));
}

/* The last page first, as the walk does not. */
static void cpu_fault(struct race *r)
{
	for (unsigned int i = PAIR_PAGES; i-- > 0;)
		pair_write(r->mm, i, written(i));
}

/* ---- the scenarios ---- */

static void walk_task(void *arg)
{
	struct race *r = arg;

	serve(r, r->p->mirror[0], UHMM_COMBINED);
}

static void other_task(void *arg)
{
	struct race *r = arg;

	r->v->other(r);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct race *r = uhmm_scenario_alloc(sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->v = data;
	err = pair_setup(m, PAIR_PAGES, r->v->two_mms, &r->p);
	if (err)
		return err;
	r->mm = r->v->two_mms ? r->p->child : r->p->mm;
	r->mirror = r->v->two_mms ? r->p->child_mirror : r->p->mirror[1];
	*state = r;
	err = uhmm_scenario_spawn("walk", 0, r->p->mm, walk_task, r);
	return err ? err : uhmm_scenario_spawn("other", 1, r->mm, other_task, r);
}

static void check_page(const struct race *r, struct uhmm_mm *mm, unsigned int i)
{
	bool others = mm == r->mm;
	uint64_t value;

	if (others && r->v->after == NOTHING) {
		uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT,
				     uhmm_cpu_read(mm, pair_addr(i), &value, sizeof(value), NULL));
		return;
	}
	value = pair_read(mm, i);
	if (others && r->v->after == ZEROES)
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, value == 0);
	else if (others && r->v->after == WRITTEN)
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, value == written(i));
	else
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, value == pair_value(i));
}

static void check(void *state)
{
	struct race *r = state;
	struct uhmm_mm *const mms[] = { r->p->mm, r->p->child, r->forked };

	for (size_t k = 0; k < sizeof(mms) / sizeof(mms[0]); k++)
		for (unsigned int i = 0; i < PAIR_PAGES && mms[k]; i++)
			check_page(r, mms[k], i);
}

#define VERSUS(id, in_two, name_, what, ...)                                                       \
	static const struct versus id##_data = { .two_mms = (in_two), __VA_ARGS__ };               \
	UHMM_SCENARIO(id) = {                                                                      \
		.size = sizeof(struct uhmm_scenario),                                              \
		.name = "combined-vs-" name_,                                                      \
		.summary = "the combined walker and " what,                                        \
		.setup = setup,                                                                    \
		.check = check,                                                                    \
		.data = &id##_data,                                                                \
	}
#define BOTH(id, name_, what, ...)                                                                 \
	VERSUS(id, false, name_, what ", in one mm", __VA_ARGS__);                                 \
	VERSUS(id##_two_mms, true, name_ "-two-mms", what ", in two mms", __VA_ARGS__)

BOTH(vs_itself, "itself", "itself, to another device", .other = walk);
BOTH(vs_fork, "fork", "fork", .other = fork_mm);
BOTH(vs_munmap, "munmap", "munmap", .other = unmap, .after = NOTHING);
BOTH(vs_fault, "fault", "writes by a CPU", .other = cpu_fault, .after = WRITTEN);
BOTH(vs_dontneed, "dontneed", "MADV_DONTNEED", .other = dontneed, .after = ZEROES);
BOTH(vs_fault_then_migrate, "fault-then-migrate", "fault-then-migrate, to another device",
     .other = fault_then_migrate);
