// SPDX-License-Identifier: LGPL-2.1-or-later
/* Device memory goes while a page of it is in use: it must wait for the page. */
#include "pair.h"

struct unplug {
	struct uhmm_machine *m;
	struct uhmm_dev_pagemap *pgmap;
	uhmm_pfn_t page;
};

static void folio_free(void *data, uhmm_pfn_t pfn)
{
	(void)data;
	(void)pfn;
}

static const struct uhmm_dev_pagemap_ops ops = { .folio_free = folio_free };

static void unplug(void *arg)
{
	struct unplug *u = arg;

	uhmm_memunmap_pages(u->pgmap);
}

static void use(void *arg)
{
	struct unplug *u = arg;

	uhmm_zone_device_page_init(u->m, u->page);
	if (uhmm_scenario_spawn("unplug", 0, NULL, unplug, u))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "no second task");
	uhmm_unlock_put_page(u->m, u->page);
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct unplug *u = uhmm_scenario_alloc(sizeof(*u));
	int err;

	(void)data;
	if (!u)
		return -ENOMEM;
	u->m = m;
	err = uhmm_memremap_pages(m, UHMM_MEMORY_DEVICE_COHERENT, 1, u, &ops, u, &u->pgmap);
	if (err)
		return err;
	u->page = uhmm_pagemap_start(u->pgmap);
	*state = u;
	return uhmm_scenario_spawn("use", 1, NULL, use, u);
}

UHMM_SCENARIO(unplug_vs_use) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "unplug-vs-use",
	.summary = "device memory is unregistered while a page of it is in use",
	.setup = setup,
};
