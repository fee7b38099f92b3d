// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A migration replaces the entry of a page and then finds that the next page belongs to a huge one, which
 * it has to split. Meanwhile a thread that has read the page gives it up, and reads it again.
 */
#include "huge.h"

/* Two pages; somebody has a reference to the huge one, so that the split fails, which is quick. */
static void migrate(void *arg)
{
	struct huge *h = arg;
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = h->entries,
		.dst = h->entries + 2,
		.start = HUGE_AT,
		.end = HUGE_AT + 2 * UHMM_PAGE_SIZE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};

	huge_collect(h->mm, &args);
	uhmm_put_user_pages(h->m, &h->held, 1);
}

static void give_up(void *arg)
{
	struct huge *h = arg;
	uint64_t value;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->mm, 0) == 2);
	if (uhmm_madvise(h->mm, HUGE_AT, UHMM_PAGE_SIZE, MADV_DONTNEED))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "MADV_DONTNEED failed");
	value = huge_read(h->mm, 0);
	if (value)
		uhmm_scenario_fail(UHMM_VERDICT_STALE_TLB,
				   "after MADV_DONTNEED the page still reads as %lu", value);
}

/* A page of its own in front of 511 pages of a huge one, all shared with a child. */
static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct huge *h;
	int err = huge_setup(m, HUGE_AT, 1, &h);

	(void)data;
	if (!err)
		err = uhmm_madvise(h->mm, HUGE_AT, UHMM_PAGE_SIZE, MADV_DONTNEED);
	if (err)
		return err;
	*state = h;
	huge_write(h->mm, 0, 2);
	err = huge_fork(h);
	if (!err && uhmm_get_user_pages(h->mm, HUGE_AT + UHMM_PAGE_SIZE, 1, 0, &h->held) != 1)
		err = -EFAULT;
	if (!err)
		err = uhmm_scenario_spawn("migrate", 0, h->mm, migrate, h);
	return err ? err : uhmm_scenario_spawn("give up", 1, h->mm, give_up, h);
}

UHMM_SCENARIO(split_flush) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "split-flush",
	.summary = "MADV_DONTNEED of a page whose entry a migration has replaced but not flushed",
	.configure = huge_configure,
	.setup = setup,
};
