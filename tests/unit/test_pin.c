// SPDX-License-Identifier: LGPL-2.1-or-later
/* References and pins: what they hold, what they block, and what they force to move. */
#define _GNU_SOURCE
#include "unit/device.h"

#include "mm/gup.h"

#define SYSTEM UHMM_MIGRATE_VMA_SELECT_SYSTEM

typedef int64_t gup_fn(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages, unsigned int flags,
		       uhmm_pfn_t *pages);

static gup_fn *const pins[] = { uhmm_pin_user_pages, uhmm_pin_user_pages_fast };
static gup_fn *const gets[] = { uhmm_get_user_pages, uhmm_get_user_pages_fast };

static uhmm_pfn_t pages[SPAN];

/* Device 0 private, device 1 coherent. */
static void setup(void)
{
	setup_devices(UHMM_MEMORY_DEVICE_PRIVATE, UHMM_MEMORY_DEVICE_COHERENT, 0);
}

static uint32_t pins_of(uhmm_vaddr_t addr)
{
	return folio_ref_count(frame_at(f.mm, addr)) / UHMM_PIN_BIAS;
}

static void pin(uhmm_vaddr_t addr, unsigned int flags, uhmm_pfn_t *pfn)
{
	expect_eq(uhmm_pin_user_pages(f.mm, addr, 1, flags, pfn), 1);
}

static void unpin(uhmm_pfn_t pfn)
{
	uhmm_unpin_user_pages(f.m, &pfn, 1);
}

START_TEST(counts)
{
	map_written(AT, 3);
	uhmm__lru_add_drain(f.m);
	expect_eq(pins[_i](f.mm, AT, 3, UHMM_FOLL_WRITE, pages), 3);
	for (int i = 0; i < 3; i++) {
		expect_eq(pages[i], pfn_at(f.mm, AT + i * PAGE));
		expect_eq(folio_ref_count(frame_at(f.mm, AT + i * PAGE)), 1 + UHMM_PIN_BIAS);
	}
	fixture_verify(&f);
	expect_eq(counted(f.m, _i ? UHMM_CNT_GUP_FAST : UHMM_CNT_GUP), 3);
	uhmm_unpin_user_pages(f.m, pages, 3);
	expect_eq(folio_ref_count(frame_at(f.mm, AT)), 1);
	expect_eq(gets[_i](f.mm, AT, 1, 0, pages), 1);
	expect_eq(folio_ref_count(frame_at(f.mm, AT)), 2);
	uhmm_put_user_pages(f.m, pages, 1);
}
END_TEST

/* Missing pages are faulted in, also by the fast form, which goes the slow way for the rest. */
START_TEST(faults_in)
{
	map_fixed(f.mm, AT, 3, RW);
	put_word(f.mm, AT, 1);
	expect_eq(pins[_i](f.mm, AT, 3, UHMM_FOLL_WRITE, pages), 3);
	expect(in_ram(f.mm, AT + PAGE) && in_ram(f.mm, AT + 2 * PAGE));
	expect_eq(counted(f.m, UHMM_CNT_GUP_FAST), _i ? 1 : 0);
	uhmm_unpin_user_pages(f.m, pages, 3);
}
END_TEST

START_TEST(nofault_and_partial_results)
{
	map_fixed(f.mm, AT, 3, RW);
	put_word(f.mm, AT, 1);
	expect_eq(pins[_i](f.mm, AT, 3, UHMM_FOLL_NOFAULT, pages), 1);
	unpin(pages[0]);
	expect_eq(pins[_i](f.mm, AT + PAGE, 2, UHMM_FOLL_NOFAULT, pages), -EFAULT);
	expect_eq(pins[_i](f.mm, AT, 4, UHMM_FOLL_WRITE, pages), 3);
	uhmm_unpin_user_pages(f.m, pages, 3);
}
END_TEST

/* The zero page is pinned by nobody, and referenced as any. */
START_TEST(zero_page)
{
	struct uhmm__frame *zero = pfn_to_frame(f.m, f.m->zero_pfn);

	map_fixed(f.mm, AT, 1, RW);
	touch(f.mm, AT);
	expect_eq(pins[_i](f.mm, AT, 1, 0, pages), 1);
	expect_eq(pages[0], f.m->zero_pfn);
	expect_eq(folio_ref_count(zero), 1);
	unpin(pages[0]);
	expect_eq(folio_ref_count(zero), 1);
	expect_eq(gets[_i](f.mm, AT, 1, 0, pages), 1);
	expect_eq(folio_ref_count(zero), 2);
	uhmm_put_user_pages(f.m, pages, 1);
	/* For long, and from a private mapping that may be written: a page of its own. */
	expect_eq(pins[_i](f.mm, AT, 1, UHMM_FOLL_LONGTERM, pages), 1);
	expect(in_ram(f.mm, AT) && !pte_write(pte_at(f.mm, AT)));
	unpin(pages[0]);
}
END_TEST

/* Pinned pages are not collected: the entry comes back at once. */
START_TEST(blocks_migration)
{
	map_written(AT, 2);
	expect_eq(pins[_i](f.mm, AT, 1, UHMM_FOLL_WRITE, pages), 1);
	expect_eq(collected(AT, 2, SYSTEM, f.dev[0]), 1);
	expect(!mpfns[0] && mpfns[1]);
	expect(pte_write(pte_at(f.mm, AT)));
	expect_eq(counted(f.m, UHMM_CNT_FAIL_PINNED), 1);
	unpin(pages[0]);
	expect_eq(collected(AT, 2, SYSTEM, f.dev[0]), 2);
}
END_TEST

/* A mere reference lets it be collected, and the check of references puts it back. */
START_TEST(reference_blocks_later)
{
	map_written(AT, 1);
	expect_eq(gets[_i](f.mm, AT, 1, 0, pages), 1);
	expect_eq(collected(AT, 1, SYSTEM, f.dev[0]), 0);
	expect_eq(counted(f.m, UHMM_CNT_FAIL_PINNED), 0);
	expect_eq(counted(f.m, UHMM_CNT_FAIL_REFERENCED), 1);
	uhmm_put_user_pages(f.m, pages, 1);
}
END_TEST

/* fork copies a pinned page for the child, at once. */
START_TEST(fork_copies)
{
	struct uhmm_mm *child;
	uint64_t word = 77;

	map_written(AT, 1);
	pin(AT, UHMM_FOLL_WRITE, pages);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(pfn_at(f.mm, AT), pages[0]);
	expect(pte_write(pte_at(f.mm, AT)) && pfn_at(child, AT) != pages[0]);
	/* What the device writes the process sees, and the child does not. */
	uhmm_page_write(f.m, pages[0], 0, &word, sizeof(word));
	expect_eq(get_word(f.mm, AT), 77);
	expect_eq(get_word(child, AT), 1);
	fixture_verify(&f);
	unpin(pages[0]);
	uhmm_mmput(child);
}
END_TEST

/* Reading by pin from a page that is shared: a copy first (FAULT_FLAG_UNSHARE), still not writable. */
START_TEST(unshares)
{
	struct uhmm_mm *child;
	uhmm_pfn_t old;

	map_written(AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	old = pfn_at(f.mm, AT);
	expect_eq(gets[_i](f.mm, AT, 1, 0, pages), 1); /* a reference need not */
	expect_eq(pages[0], old);
	uhmm_put_user_pages(f.m, pages, 1);
	expect_eq(pins[_i](f.mm, AT, 1, 0, pages), 1);
	expect(pages[0] != old && pages[0] == pfn_at(f.mm, AT));
	expect(!pte_write(pte_at(f.mm, AT)) && !pte_dirty(pte_at(f.mm, AT)));
	expect(folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	expect_eq(get_word(f.mm, AT), 1);
	/* The write that comes stays in it: what was pinned is what the process sees. */
	put_word(f.mm, AT, 5);
	expect_eq(pfn_at(f.mm, AT), pages[0]);
	expect_eq(get_word(child, AT), 1);
	unpin(pages[0]);
	uhmm_mmput(child);
}
END_TEST

/* The last one of a family has the page for itself: marked so, not copied. */
START_TEST(unshare_reuses)
{
	struct uhmm_mm *child;
	uhmm_pfn_t old;

	map_written(AT, 1);
	old = pfn_at(f.mm, AT);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	uhmm_mmput(child);
	pin(AT, 0, pages);
	expect_eq(pages[0], old);
	expect(!pte_write(pte_at(f.mm, AT)) && folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	unpin(pages[0]);
}
END_TEST

START_TEST(from_the_device)
{
	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(pins[_i](f.mm, AT, 1, 0, pages), 1);
	expect(in_ram(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 1);
	unpin(pages[0]);
}
END_TEST

START_TEST(from_an_exclusive_entry)
{
	map_written(AT, 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_EXCLUSIVE, AT, 1, words, NULL), 0);
	expect_eq(pins[_i](f.mm, AT, 1, UHMM_FOLL_WRITE, pages), 1);
	expect(in_ram(f.mm, AT));
	/* A pinned page can be a device's alone, too: it does not move. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_EXCLUSIVE, AT, 1, words, NULL), 0);
	fixture_verify(&f);
	unpin(pages[0]);
}
END_TEST

/* Coherent memory: short pins hold it where it is, long ones move it home first. */
START_TEST(coherent_short)
{
	map_written(AT, 1);
	to_device(1, AT, 1);
	expect_eq(pins[_i](f.mm, AT, 1, UHMM_FOLL_WRITE, pages), 1);
	expect(uhmm_is_device_coherent_page(f.m, pages[0]));
	expect_eq(to_sys(1, AT, 1), 0);
	expect_eq(uhmm_devmem_evict_all(uhmm_device_memory(f.dev[1]), false), 1);
	fixture_verify(&f);
	unpin(pages[0]);
	expect_eq(to_sys(1, AT, 1), 1);
}
END_TEST

START_TEST(coherent_longterm)
{
	map_written(AT, 4);
	to_device(1, AT + PAGE, 2);
	expect_eq(pins[_i](f.mm, AT, 4, UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM, pages), 4);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[1])), 0);
	expect_eq(counted(f.m, UHMM_CNT_PIN_MIGRATED), 2);
	for (unsigned int i = 0; i < 4; i++) {
		expect(!uhmm_is_device_coherent_page(f.m, pages[i]));
		expect_eq(pages[i], pfn_at(f.mm, AT + i * PAGE));
		expect_eq(pins_of(AT + i * PAGE), 1);
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
	fixture_verify(&f);
	/* And stay: the device does not get them. */
	expect_eq(collected(AT, 4, SYSTEM, f.dev[1]), 0);
	uhmm_unpin_user_pages(f.m, pages, 4);
}
END_TEST

/* One that cannot move: all pins are given back. */
START_TEST(coherent_longterm_busy)
{
	uhmm_pfn_t held;

	map_written(AT, 4);
	to_device(1, AT + PAGE, 2);
	expect_eq(uhmm_get_user_pages(f.mm, AT + 2 * PAGE, 1, 0, &held), 1);
	expect_eq(uhmm_get_user_pages(f.mm, AT + 2 * PAGE, 1, 0, &held), 1);
	expect_eq(pins[_i](f.mm, AT + PAGE, 3, UHMM_FOLL_LONGTERM, pages), -EBUSY);
	uhmm_put_user_pages(f.m, &held, 1);
	uhmm_put_user_pages(f.m, &held, 1);
	fixture_verify(&f);
	for (unsigned int i = 0; i < 4; i++)
		expect_eq(pins_of(AT + i * PAGE), 0);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[1])), 1);
}
END_TEST

START_TEST(coherent_longterm_without_memory)
{
	map_written(AT, 1);
	to_device(1, AT, 1);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1), 0);
	expect_eq(pins[_i](f.mm, AT, 1, UHMM_FOLL_LONGTERM, pages), -EBUSY);
	expect_eq(get_word(f.mm, AT), 1);
	expect_eq(pins_of(AT), 0);
}
END_TEST

/* Pinned for long while shared with a child: each of the two may have its entry moved. */
START_TEST(coherent_longterm_shared)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	to_device(1, AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(pins[_i](f.mm, AT, 1, UHMM_FOLL_LONGTERM, pages), 1);
	expect(!uhmm_is_device_coherent_page(f.m, pages[0]));
	expect_eq(get_word(child, AT), 1);
	fixture_verify(&f);
	unpin(pages[0]);
	uhmm_mmput(child);
}
END_TEST

/* A pin keeps the page beyond its mapping. */
START_TEST(outlives_the_mapping)
{
	uint64_t word = 0;

	map_written(AT, 1);
	pin(AT, 0, pages);
	expect_eq(uhmm_munmap(f.mm, AT, PAGE), 0);
	fixture_verify(&f);
	uhmm_page_read(f.m, pages[0], 0, &word, sizeof(word));
	expect_eq(word, 1);
	unpin(pages[0]);
}
END_TEST

/* The fast form gives up while a fork write-protects, and takes the slow way. */
START_TEST(fast_during_fork)
{
	map_written(AT, 1);
	atomic_fetch_add(&f.mm->write_protect_seq, 1);
	expect_eq(uhmm_pin_user_pages_fast(f.mm, AT, 1, 0, pages), 1);
	expect_eq(counted(f.m, UHMM_CNT_GUP_FAST), 0);
	expect_eq(uhmm_get_user_pages_fast(f.mm, AT, 1, 0, pages), 1);
	expect_eq(counted(f.m, UHMM_CNT_GUP_FAST), 1);
	atomic_fetch_add(&f.mm->write_protect_seq, 1);
	unpin(pages[0]);
	uhmm_put_user_pages(f.m, pages, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pin");
	TCase *tc = tcase_create("pin");

	tcase_add_checked_fixture(tc, setup, teardown_fixture);
	tcase_add_loop_test(tc, counts, 0, 2);
	tcase_add_loop_test(tc, faults_in, 0, 2);
	tcase_add_loop_test(tc, nofault_and_partial_results, 0, 2);
	tcase_add_loop_test(tc, zero_page, 0, 2);
	tcase_add_loop_test(tc, blocks_migration, 0, 2);
	tcase_add_loop_test(tc, reference_blocks_later, 0, 2);
	tcase_add_test(tc, fork_copies);
	tcase_add_loop_test(tc, unshares, 0, 2);
	tcase_add_test(tc, unshare_reuses);
	tcase_add_loop_test(tc, from_the_device, 0, 2);
	tcase_add_loop_test(tc, from_an_exclusive_entry, 0, 2);
	tcase_add_loop_test(tc, coherent_short, 0, 2);
	tcase_add_loop_test(tc, coherent_longterm, 0, 2);
	tcase_add_loop_test(tc, coherent_longterm_busy, 0, 2);
	tcase_add_loop_test(tc, coherent_longterm_without_memory, 0, 2);
	tcase_add_loop_test(tc, coherent_longterm_shared, 0, 2);
	tcase_add_test(tc, outlives_the_mapping);
	tcase_add_test(tc, fast_during_fork);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
