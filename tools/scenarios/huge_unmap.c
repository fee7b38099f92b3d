// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A huge device page is unmapped for a migration while somebody looks, without the lock, whether there is
 * anything at its place: in the child that shares it, or in the same process.
 */
#include "huge.h"

struct versus {
	/* Unmaps it: the parent collects it, or the driver evicts it by its number. */
	void (*unmap)(void *arg);
	void (*other)(void *arg);
	bool forked;
};

/* All of it. */
static void collect(void *arg)
{
	struct huge *h = arg;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = h->entries,
		.dst = h->entries + HUGE_PAGES,
		.start = HUGE_AT,
		.end = HUGE_AT + UHMM_PMD_SIZE,
		.pgmap_owner = huge_owner(h, 0),
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE | UHMM_MIGRATE_VMA_SELECT_COMPOUND,
	};

	huge_collect(h->mm, &args);
}

static void evict(void *arg)
{
	struct huge *h = arg;

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT,
			     uhmm_devmem_evict(uhmm_device_memory(h->dev[0]), 1) >= 0);
}

static void expect_success(const char *what, int err)
{
	if (err)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "%s: %d", what, err);
}

static void leave(void *arg)
{
	struct huge *h = arg;
	struct uhmm_mm *child = h->child;

	h->child = NULL;
	uhmm_mmput(child);
}

static void fork_mm(void *arg)
{
	struct huge *h = arg;
	struct uhmm_mm *mm = h->child ? h->child : h->mm, *child;

	expect_success("fork", uhmm_mm_fork(mm, &child));
	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(child, 0) == 1);
	uhmm_mmput(child);
}

static void dontneed(void *arg)
{
	struct huge *h = arg;

	expect_success("MADV_DONTNEED", uhmm_madvise(h->mm, HUGE_AT, UHMM_PMD_SIZE, MADV_DONTNEED));
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, huge_read(h->mm, 0) == 0);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	const struct versus *v = data;
	struct huge *h;
	int err = huge_setup(m, HUGE_AT, 1, &h);

	if (err)
		return err;
	*state = h;
	err = huge_to_device(h, 0);
	if (!err && v->forked)
		err = huge_fork(h);
	if (!err)
		err = uhmm_scenario_spawn("unmap", 0, h->mm, v->unmap, h);
	return err ? err
		   : uhmm_scenario_spawn("other", 1, h->child ? h->child : h->mm, v->other, h);
}

/* Who shares it, or has it, has lost nothing. */
static void check(void *state)
{
	struct huge *h = state;

	if (h->child) {
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->child, 0) == 1);
		uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->mm, 0) == 1);
	}
}

#define VERSUS(id, name_, what, ...)                                                               \
	static const struct versus id##_data = { __VA_ARGS__ };                                    \
	UHMM_SCENARIO(id) = {                                                                      \
		.size = sizeof(struct uhmm_scenario),                                              \
		.name = "huge-" name_,                                                             \
		.summary = "a huge device page is " what,                                          \
		.configure = huge_configure,                                                       \
		.setup = setup,                                                                    \
		.check = check,                                                                    \
		.data = &id##_data,                                                                \
	}

VERSUS(collect_vs_exit, "collect-vs-exit", "collected while a child that shares it exits",
       .unmap = collect, .other = leave, .forked = true);
VERSUS(collect_vs_fork, "collect-vs-fork", "collected while a child that shares it forks",
       .unmap = collect, .other = fork_mm, .forked = true);
VERSUS(collect_vs_dontneed, "collect-vs-dontneed", "collected while another thread gives it up",
       .unmap = collect, .other = dontneed);
VERSUS(evict_vs_fork, "evict-vs-fork", "evicted while its process forks", .unmap = evict,
       .other = fork_mm);
