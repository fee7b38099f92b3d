// SPDX-License-Identifier: LGPL-2.1-or-later
/* MADV_POPULATE_READ and _WRITE, and devices, where pages are out of the ordinary; advice on drivers'. */
#define _GNU_SOURCE
#include <uhmm/special.h>

#include "unit/inside.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { NPAGES = 4 };

static void setup(void)
{
	setup_fixture();
	map_fixed(f.mm, AT, NPAGES, RW);
}

static int populate(unsigned int page, unsigned int npages, bool write)
{
	return uhmm_madvise(f.mm, AT + page * PAGE, npages * PAGE,
			    write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

START_TEST(broken_page)
{
	put_word(f.mm, AT + 2 * PAGE, 1);
	expect_eq(uhmm_madvise(f.mm, AT + 2 * PAGE, PAGE, MADV_HWPOISON), 0);
	expect_eq(populate(0, 2, true), 0);
	expect_eq(populate(0, NPAGES, false), -EHWPOISON);
	expect_eq(populate(0, NPAGES, true), -EHWPOISON);
	expect(pte_none(pte_at(f.mm, AT + 3 * PAGE)));
}
END_TEST

static unsigned int calls;

static bool unprotect(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	(void)data;
	calls++;
	expect_eq(reason, UHMM_UFFD_WP);
	expect_eq(uhmm_uffd_writeprotect(mm, addr, PAGE, false), 0);
	return true;
}

/* It waits for the handler of a userfaultfd, as any access does. */
START_TEST(userfaultfd_is_asked)
{
	expect_eq(populate(0, NPAGES, true), 0);
	expect_eq(uhmm_uffd_register(f.mm, AT, NPAGES * PAGE, UHMM_UFFD_WP), 0);
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT + PAGE, 2 * PAGE, true), 0);
	expect_eq(populate(0, NPAGES, false), 0);
	expect_eq(populate(0, NPAGES, true), -EFAULT);
	uhmm_uffd_set_handler(f.mm, unprotect, NULL);
	expect_eq(populate(0, NPAGES, true), 0);
	expect_eq(calls, 2);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect(pte_write(pte_at(f.mm, AT + i * PAGE)));
}
END_TEST

/* A handler that does not answer. */
static bool kills(void *data, struct uhmm_mm *mm uhmm_unused, uhmm_vaddr_t addr uhmm_unused,
		  unsigned int reason uhmm_unused)
{
	struct uhmm_task *t = data;

	t->killed = true;
	return true;
}

START_TEST(killed_while_it_waits)
{
	expect_eq(uhmm_uffd_register(f.mm, AT, NPAGES * PAGE, UHMM_UFFD_MISSING), 0);
	uhmm_uffd_set_handler(f.mm, kills, f.task);
	expect_eq(populate(0, NPAGES, true), -EINTR);
	f.task->killed = false;
	expect(pte_none(pte_at(f.mm, AT)));
}
END_TEST

/* A device that is served waits for it as well, whatever the strategy. */
START_TEST(device_asks_userfaultfd)
{
	uint64_t word = 7;

	for (unsigned int i = 0; i < NPAGES; i++)
		put_word(f.mm, AT + i * PAGE, i + 1);
	expect_eq(uhmm_uffd_register(f.mm, AT, NPAGES * PAGE, UHMM_UFFD_WP), 0);
	expect_eq(uhmm_uffd_writeprotect(f.mm, AT + PAGE, 2 * PAGE, true), 0);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, true, &word, (enum uhmm_strategy)_i,
				     NPAGES * PAGE, NULL),
		  0);
	expect(!on_device(f.mm, AT + PAGE));
	expect_eq(uhmm_mirror_access(f.mirror[0], AT + PAGE, true, &word, (enum uhmm_strategy)_i,
				     PAGE, NULL),
		  -EFAULT);
	uhmm_uffd_set_handler(f.mm, unprotect, NULL);
	expect_eq(uhmm_mirror_serve(f.mirror[0], AT, AT + NPAGES * PAGE, true,
				    (enum uhmm_strategy)_i, NULL),
		  0);
	expect_eq(calls, 2);
	for (unsigned int i = 0; i < NPAGES; i++)
		expect_eq(leaf_type(pte_at(f.mm, AT + i * PAGE)), LEAF_DEVICE_PRIVATE_WRITE);
	expect_eq(get_word(f.mm, AT), 7);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
}
END_TEST

static void map_special(uint64_t vm_flags)
{
	expect_eq(uhmm_mmap_special(f.mm, AT, NPAGES * PAGE, RW, MAP_SHARED | MAP_FIXED, vm_flags,
				    NULL),
		  0);
}

/* There are no pages to fault in: also where the entries are there. */
START_TEST(driver_of_frames)
{
	map_special(UHMM_VM_PFNMAP);
	expect_eq(uhmm_remap_pfn_range(f.mm, AT, 1000, NPAGES), 0);
	expect_eq(populate(0, 1, false), -EINVAL);
	expect_eq(populate(0, 1, true), -EINVAL);
	map_special(UHMM_VM_IO);
	expect_eq(populate(0, 1, false), -EINVAL);
	map_special(UHMM_VM_MIXEDMAP);
	expect_eq(populate(0, 1, false), -EFAULT);
	expect_eq(uhmm_insert_mixed(f.mm, AT, 1000, true), 0);
	expect_eq(populate(0, 1, true), 0);
}
END_TEST

/* A driver knows whether its mapping may be copied. */
START_TEST(driver_and_fork)
{
	struct uhmm_mm *child;

	map_special(UHMM_VM_PFNMAP);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DOFORK), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DODUMP), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTDUMP), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTFORK), 0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DOFORK), -EINVAL);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_cpu_read(child, AT, NULL, 1, NULL), SIGSEGV);
	uhmm_mmput(child);
}
END_TEST

/* Private, but not anonymous. */
START_TEST(a_drivers_mapping_is_not_wiped_on_fork)
{
	const uint64_t kinds[] = { UHMM_VM_PFNMAP, UHMM_VM_MIXEDMAP, UHMM_VM_IO };

	expect_eq(uhmm_mmap_special(f.mm, AT, PAGE, RW, MAP_PRIVATE | MAP_FIXED, kinds[_i], NULL),
		  0);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_WIPEONFORK), -EINVAL);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_KEEPONFORK), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("populate");
	TCase *tc = tcase_create("populate");

	tcase_add_checked_fixture(tc, setup, teardown_fixture);
	tcase_add_test(tc, broken_page);
	tcase_add_test(tc, userfaultfd_is_asked);
	tcase_add_test(tc, killed_while_it_waits);
	tcase_add_loop_test(tc, device_asks_userfaultfd, 0, UHMM_NR_STRATEGIES);
	tcase_add_test(tc, driver_of_frames);
	tcase_add_test(tc, driver_and_fork);
	tcase_add_loop_test(tc, a_drivers_mapping_is_not_wiped_on_fork, 0, 3);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
