// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Two CPU faults on the same page of a huge device page that PTEs map. The one splits the folio, and its
 * page is for the other to move until it has it back.
 */
#include "huge.h"

enum { PAGE = 1 };

static void fault(void *arg)
{
	struct huge *h = arg;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->mm, PAGE) == 2);
}

/* The first two pages of a huge device page. */
static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	uhmm_vaddr_t rest = HUGE_AT + (PAGE + 1) * UHMM_PAGE_SIZE;
	struct huge *h;
	int err = huge_setup(m, HUGE_AT, 1, &h);

	(void)data;
	if (err)
		return err;
	*state = h;
	huge_write(h->mm, PAGE, 2);
	err = huge_to_device(h, 0);
	if (!err)
		err = uhmm_madvise(h->mm, rest, HUGE_AT + UHMM_PMD_SIZE - rest, MADV_DONTNEED);
	if (!err)
		err = uhmm_scenario_spawn("fault 0", 0, h->mm, fault, h);
	return err ? err : uhmm_scenario_spawn("fault 1", 1, h->mm, fault, h);
}

static void check(void *state)
{
	struct huge *h = state;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, huge_read(h->mm, 0) == 1);
	fault(h);
}

UHMM_SCENARIO(split_fault) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "split-fault",
	.summary = "two CPU faults on a page of a huge device page, which one of them splits",
	.configure = huge_configure,
	.setup = setup,
	.check = check,
};
