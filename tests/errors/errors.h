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

/* An output that must stay as it is. */
#define UNTOUCHED ((void *)0x5a5a)

static inline void no_memory(void)
{
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_META, 1, 1000), 0);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1000), 0);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_DEVICE, 1, 1000), 0);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_SWAP, 1, 1000), 0);
}

static inline void memory_again(void)
{
	for (int site = 0; site < UHMM_NR_INJECT; site++)
		expect_eq(uhmm_machine_inject(f.m, (enum uhmm_inject)site, 0, 0), 0);
}

#define WITHOUT_MEMORY(call)                                                                       \
	do {                                                                                       \
		int64_t without_ret;                                                               \
		no_memory();                                                                       \
		without_ret = (call);                                                              \
		memory_again();                                                                    \
		expect_eq(without_ret, -ENOMEM);                                                   \
	} while (0)

#endif /* TESTS_ERRORS_ERRORS_H */
