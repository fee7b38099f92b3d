/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* errors.h - where each test of an errno begins: devices, and 8 pages at AT. */
#ifndef TESTS_ERRORS_ERRORS_H
#define TESTS_ERRORS_ERRORS_H

#include "fixture.h"

#define AT 0x40000000UL

static struct fixture f;

/* Pages 0..3 hold words, 4..7 are empty. */
static void setup(void)
{
	struct uhmm_machine_config config = { .content = UHMM_CONTENT_TAG };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
	map_fixed(f.mm, AT, 8, RW);
	for (unsigned int i = 0; i < 4; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
}

static void teardown(void)
{
	fixture_destroy(&f);
}

#endif /* TESTS_ERRORS_ERRORS_H */
