// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A driver keeps a page on its device for a while after it went there, as drm_pagemap does: till then
 * migrate_to_ram() does nothing. Another device's range fault asks for the page again and again.
 */
#include "pair.h"

enum { TIMESLICE_NS = 5000000 };

struct timeslice {
	struct pair *p;
	struct pair_driver device;
	bool asked, over, ran; /* for the page; the timeslice; the other task */
};

static int migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct timeslice *s = data;

	s->asked = true;
	if (s->over)
		pair_to_ram(&s->device, vmf);
	return 0;
}

static const struct uhmm_dev_pagemap_ops ops = { .migrate_to_ram = migrate_to_ram };

static void end_of_timeslice(void *arg)
{
	struct timeslice *s = arg;
	bool asked = s->asked;

	uhmm_sched_sleep(TIMESLICE_NS);
	s->over = true;
	if (asked && !s->ran)
		uhmm_scenario_fail(
			UHMM_VERDICT_STARVATION,
			"for all of a timeslice of %d ms a range fault has asked for the "
			"page, and another task has waited for the CPU",
			TIMESLICE_NS / 1000000);
}

static void device_read(void *arg)
{
	struct timeslice *s = arg;
	int err = pair_op(s->p->mirror[0], UHMM_MIRROR_READ, 1);

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, !err);
}

static void other_work(void *arg)
{
	struct timeslice *s = arg;

	s->ran = true;
}

static int setup(struct uhmm_machine *m, const void *data, void **state)
{
	struct uhmm_devmem_config config = { .size = sizeof(config), .chunk_bytes = 2UL << 20 };
	struct timeslice *s = uhmm_scenario_alloc(sizeof(*s));
	int err;

	(void)data;
	if (!s)
		return -ENOMEM;
	*state = s;
	s->device.m = m;
	err = pair_setup(m, 1, false, &s->p);
	if (!err)
		err = uhmm_devmem_create(m, &config, &s->device, &ops, s, &s->device.pool);
	if (!err && !pair_to_device(&s->device, s->p->mm))
		err = -EBUSY;
	if (!err)
		err = uhmm_scenario_spawn("time", 0, NULL, end_of_timeslice, s);
	if (!err)
		err = uhmm_scenario_spawn("device", 1, s->p->mm, device_read, s);
	return err ? err : uhmm_scenario_spawn("other", 1, NULL, other_work, s);
}

static void check(void *state)
{
	struct timeslice *s = state;

	uhmm_scenario_expect(UHMM_VERDICT_LOST_DATA, pair_read(s->p->mm, 0) == pair_value(0));
}

/* Room for a third device. */
static void configure(struct uhmm_machine_config *config)
{
	config->device_bytes = 8UL << 20;
}

UHMM_SCENARIO(timeslice) = {
	.size = sizeof(struct uhmm_scenario),
	.name = "timeslice",
	.summary = "a range fault on a page that its driver does not give up for 5 ms",
	.configure = configure,
	.setup = setup,
	.check = check,
};
