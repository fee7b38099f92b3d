// SPDX-License-Identifier: LGPL-2.1-or-later
/* Device-coherent memory: mapped and accessible as RAM is, and yet a device's. */
#define _GNU_SOURCE
#include "unit/device.h"

#define SYSTEM UHMM_MIGRATE_VMA_SELECT_SYSTEM
#define PRIVATE UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
#define COHERENT UHMM_MIGRATE_VMA_SELECT_DEVICE_COHERENT

/* Both devices coherent. */
static void setup(void)
{
	setup_devices(UHMM_MEMORY_DEVICE_COHERENT, UHMM_MEMORY_DEVICE_COHERENT, 0);
}

static bool coherent(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	pte_t pte = pte_at(mm, addr);

	return pte_present(pte) && uhmm_is_device_coherent_page(f.m, pte_pfn(pte));
}

static uint64_t used(unsigned int dev)
{
	return uhmm_devmem_used(uhmm_device_memory(f.dev[dev]));
}

START_TEST(present_writable_not_on_the_lru)
{
	struct uhmm__frame *frame;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect(coherent(f.mm, AT));
	frame = frame_at(f.mm, AT);
	expect_eq(folio_ref_count(frame), 1);
	expect_eq(folio_mapcount(frame), 1);
	expect(folio_test_anon(frame) && folio_test(frame, PG_ANON_EXCLUSIVE));
	uhmm__lru_add_drain_all(f.m);
	expect(!folio_test(frame, PG_LRU));
	expect(pagemap_of(f.mm, AT) & UHMM_PM_PRESENT);
	expect(pagemap_of(f.mm, AT) & UHMM_PM_MMAP_EXCLUSIVE);
	/* Read and written by the CPU without a fault. */
	expect_eq(get_word(f.mm, AT), 1);
	put_word(f.mm, AT, 2);
	expect_eq(dev_read(0, AT), 2);
	expect_eq(counted(f.m, UHMM_CNT_FAULT_DEVICE), 0);
	expect_eq(used(0), 1);
}
END_TEST

/* Where nothing was: insert_page makes a present, writable and dirty entry. */
START_TEST(insert_page)
{
	map_fixed(f.mm, AT, 3, RW);
	touch(f.mm, AT + PAGE);
	to_device(0, AT, 2);
	expect(coherent(f.mm, AT) && coherent(f.mm, AT + PAGE));
	expect(pte_write(pte_at(f.mm, AT)) && pte_dirty(pte_at(f.mm, AT)));
	expect_eq(get_word(f.mm, AT + PAGE), 0);
	map_fixed(f.mm, AT + 4 * PAGE, 1, PROT_READ);
	to_device(0, AT + 4 * PAGE, 1);
	expect(coherent(f.mm, AT + 4 * PAGE) && !pte_write(pte_at(f.mm, AT + 4 * PAGE)));
}
END_TEST

START_TEST(selected_by_kind_and_owner)
{
	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(collected(AT, 1, SYSTEM, f.dev[0]), 0);
	expect_eq(collected(AT, 1, PRIVATE, f.dev[0]), 0);
	expect_eq(collected(AT, 1, COHERENT, f.dev[1]), 0);
	expect_eq(collected(AT, 1, SYSTEM | PRIVATE, f.dev[0]), 0);
	expect_eq(collected(AT, 1, COHERENT, f.dev[0]), 1);
	expect_eq(mpfns[0], uhmm_migrate_pfn(pfn_at(f.mm, AT)) | UHMM_MIGRATE_PFN_MIGRATE |
				    UHMM_MIGRATE_PFN_WRITE);
	expect(coherent(f.mm, AT));
}
END_TEST

/* RAM is not what SELECT_DEVICE_COHERENT means, empty entries always are. */
START_TEST(ram_is_not_selected)
{
	map_written(AT, 1);
	expect_eq(collected(AT, 1, COHERENT, f.dev[0]), 0);
	map_fixed(f.mm, AT + PAGE, 1, RW);
	expect_eq(collected(AT + PAGE, 1, COHERENT, f.dev[0]), 1);
	touch(f.mm, AT + PAGE);
	expect_eq(collected(AT + PAGE, 1, COHERENT, f.dev[0]), 0);
}
END_TEST

START_TEST(to_system)
{
	map_written(AT, 4);
	to_device(0, AT, 4);
	put_word(f.mm, AT + PAGE, 7);
	expect_eq(to_sys(1, AT, 4), 0); /* not its own */
	expect_eq(to_sys(0, AT, 4), 4);
	expect_eq(used(0), 0);
	expect(in_ram(f.mm, AT) && !coherent(f.mm, AT));
	expect_eq(get_word(f.mm, AT + PAGE), 7);
	expect_eq(get_word(f.mm, AT + 3 * PAGE), 4);
}
END_TEST

/* Fork shares it as RAM, and the one who writes gets a copy in RAM. */
START_TEST(fork_and_copy)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect(coherent(child, AT) && pfn_at(child, AT) == pfn_at(f.mm, AT));
	expect_eq(folio_mapcount(frame_at(f.mm, AT)), 2);
	expect(!folio_test(frame_at(f.mm, AT), PG_ANON_EXCLUSIVE));
	put_word(f.mm, AT, 9);
	expect(in_ram(f.mm, AT) && !coherent(f.mm, AT));
	expect(coherent(child, AT));
	expect_eq(get_word(child, AT), 1);
	/* The last one keeps it: reused in place. */
	put_word(child, AT, 3);
	expect(coherent(child, AT) && pte_write(pte_at(child, AT)));
	uhmm_mmput(child);
	expect_eq(used(0), 0);
}
END_TEST

START_TEST(shared_page_goes_home_from_both)
{
	struct uhmm_mm *child;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(to_sys(0, AT, 1), 1);
	expect_eq(pfn_at(child, AT), pfn_at(f.mm, AT));
	expect(!coherent(child, AT));
	expect_eq(get_word(child, AT), 1);
	uhmm_mmput(child);
}
END_TEST

START_TEST(range_fault_and_snapshot)
{
	struct uhmm_mm *child;

	map_written(AT, 2);
	to_device(0, AT, 2);
	expect_eq(walk(AT, 2, WRITE), 0);
	expect_eq(pfns[0], pfn_at(f.mm, AT) | V | W);
	expect_eq(snapshot(0, AT), UHMM_PROT_DEV_COHERENT_LOCAL | UHMM_PROT_WRITE);
	expect_eq(snapshot(1, AT), UHMM_PROT_DEV_COHERENT_REMOTE | UHMM_PROT_WRITE);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(walk(AT, 1, 0), 0);
	expect_eq(flags_of(pfns[0]), V);
	expect_eq(snapshot(0, AT), UHMM_PROT_DEV_COHERENT_LOCAL | UHMM_PROT_READ);
	/* A write needs its copy, which is RAM. */
	expect_eq(walk(AT, 1, WRITE), 0);
	expect(!coherent(f.mm, AT));
	expect_eq(flags_of(pfns[0]), V | W);
	uhmm_mmput(child);
}
END_TEST

/* Another device reaches the page where it is, and must not touch the owner's list of pages. */
START_TEST(access_by_another_device)
{
	struct uhmm_device_access access;
	uint64_t word = 0;

	map_written(AT, 1);
	to_device(0, AT, 1);
	expect_eq(dev_read(1, AT), 1);
	dev_write(1, AT, 4);
	expect_eq(get_word(f.mm, AT), 4);
	expect_eq(uhmm_mirror_access(f.mirror[1], AT, false, &word, UHMM_COMBINED, PAGE, &access),
		  0);
	expect(access.remote);
	expect_eq(word, 4);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, false, &word, UHMM_COMBINED, PAGE, &access),
		  0);
	expect(!access.remote);
	expect_eq(used(0), 1);
	expect_eq(used(1), 0);
}
END_TEST

START_TEST(zap_frees_the_page)
{
	map_written(AT, 2);
	to_device(0, AT, 2);
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	expect_eq(used(0), 1);
	expect_eq(uhmm_mremap(f.mm, AT + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      AT + 9 * PAGE, NULL),
		  0);
	expect(coherent(f.mm, AT + 9 * PAGE));
	expect_eq(uhmm_munmap(f.mm, AT + 9 * PAGE, PAGE), 0);
	expect_eq(used(0), 0);
}
END_TEST

START_TEST(close_and_release_bring_it_home)
{
	map_written(AT, 4);
	to_device(0, AT, 4);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_RELEASE, AT, 1, NULL, NULL), 0);
	expect_eq(used(0), 0);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
	to_device(0, AT, 4);
	uhmm_mirror_close(f.mirror[0]);
	f.mirror[0] = NULL;
	expect_eq(used(0), 0);
	expect_eq(get_word(f.mm, AT + 2 * PAGE), 3);
}
END_TEST

/* Eviction by pfn finds every mapping, also a device-exclusive one. */
START_TEST(eviction)
{
	uhmm_pfn_t pfn;

	map_written(AT, 3);
	to_device(0, AT, 3);
	uhmm_mmap_read_lock(f.mm);
	expect_eq(uhmm_make_device_exclusive(f.mm, AT, NULL, &pfn), 0);
	uhmm_mmap_read_unlock(f.mm);
	uhmm_unlock_put_page(f.m, pfn);
	expect(leaf_is_device_exclusive(pte_at(f.mm, AT)));
	expect(uhmm_is_device_coherent_page(f.m, pfn));
	fixture_verify(&f);
	expect_eq(uhmm_devmem_evict_all(uhmm_device_memory(f.dev[0]), false), 0);
	fixture_verify(&f);
	for (int i = 0; i < 3; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

/* A full device makes room; the oldest page goes home. */
START_TEST(limited_memory)
{
	map_written(AT, 6);
	for (unsigned int i = 0; i < 6; i++)
		to_device(0, AT + i * PAGE, 1);
	/* Room is made for more than one. */
	expect_eq(used(0), 2);
	expect(!coherent(f.mm, AT + 3 * PAGE) && coherent(f.mm, AT + 4 * PAGE));
	for (unsigned int i = 0; i < 6; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

static void setup_limited(void)
{
	setup_devices(UHMM_MEMORY_DEVICE_COHERENT, UHMM_MEMORY_DEVICE_COHERENT, 2 * PAGE);
}

/* ---- private and coherent in one machine ---- */

static void setup_mixed(void)
{
	setup_devices(UHMM_MEMORY_DEVICE_PRIVATE, UHMM_MEMORY_DEVICE_COHERENT, 0);
}

START_TEST(each_selects_its_own_kind)
{
	map_written(AT, 3);
	to_device(0, AT, 1);
	to_device(1, AT + PAGE, 1);
	expect_eq(collected(AT, 3, PRIVATE | COHERENT, f.dev[0]), 1);
	expect(mpfns[0] && !mpfns[1] && !mpfns[2]);
	expect_eq(collected(AT, 3, PRIVATE | COHERENT | SYSTEM, f.dev[1]), 2);
	expect(!mpfns[0] && mpfns[1] && mpfns[2]);
}
END_TEST

/* More of either kind than lib/test_hmm.c has; each knows its own pages by the owner. */
START_TEST(six_devices)
{
	enum { MORE = 4, ALL = FIXTURE_DEVICES + MORE };
	struct uhmm_device *dev[ALL] = { f.dev[0], f.dev[1] };
	struct uhmm_mirror *mirror[ALL] = { f.mirror[0], f.mirror[1] };

	map_written(AT, ALL);
	for (unsigned int i = 0; i < ALL; i++) {
		struct uhmm_device_config config = { .size = sizeof(config),
						     .type = i & 1 ? UHMM_MEMORY_DEVICE_COHERENT
								   : UHMM_MEMORY_DEVICE_PRIVATE };

		if (i >= FIXTURE_DEVICES) {
			expect_eq(uhmm_device_create(f.m, &config, &dev[i]), 0);
			expect_eq(uhmm_mirror_open(dev[i], f.mm, &mirror[i]), 0);
		}
		expect_eq(mirror_op(mirror[i], UHMM_MIRROR_MIGRATE_TO_DEV, AT + i * PAGE, 1, words,
				    NULL),
			  0);
	}
	fixture_verify(&f);
	for (unsigned int i = 0; i < ALL; i++) {
		expect_eq(collected(AT, ALL, PRIVATE | COHERENT, dev[i]), 1);
		expect(mpfns[i]);
	}
	for (unsigned int i = FIXTURE_DEVICES; i < ALL; i++) {
		uhmm_mirror_close(mirror[i]);
		uhmm_device_destroy(dev[i]);
		expect(in_ram(f.mm, AT + i * PAGE) && !coherent(f.mm, AT + i * PAGE));
	}
	for (unsigned int i = 0; i < ALL; i++)
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
}
END_TEST

/* A private page that a coherent device wants comes home first; the reverse is served where it is. */
START_TEST(one_for_the_other)
{
	map_written(AT, 2);
	to_device(0, AT, 1);
	to_device(1, AT + PAGE, 1);
	expect_eq(dev_read(1, AT), 1);
	expect(in_ram(f.mm, AT) && !coherent(f.mm, AT));
	expect_eq(dev_read(0, AT + PAGE), 2);
	expect(coherent(f.mm, AT + PAGE));
	expect_eq(snapshot(0, AT + PAGE), UHMM_PROT_DEV_COHERENT_REMOTE | UHMM_PROT_WRITE);
	/* To the private device it does not move: it is no system memory. */
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT + PAGE, 1, words, NULL), 0);
	expect(coherent(f.mm, AT + PAGE));
}
END_TEST

START_TEST(strategies_on_coherent_memory)
{
	map_written(AT, 4);
	expect_eq(uhmm_mirror_serve(f.mirror[1], AT, AT + 4 * PAGE, true, (enum uhmm_strategy)_i,
				    NULL),
		  0);
	for (int i = 0; i < 4; i++) {
		expect(coherent(f.mm, AT + i * PAGE));
		expect_eq(get_word(f.mm, AT + i * PAGE), i + 1);
	}
}
END_TEST

static void add_case(Suite *suite, const char *name, void (*setup_fn)(void), const TTest **tests)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, setup_fn, teardown_fixture);
	for (; *tests; tests++)
		tcase_add_test(tc, *tests);
	suite_add_tcase(suite, tc);
}

/*
 * (q) A huge leaf of coherent memory: a setup that selects RAM takes it, whoever's it is, or splits it if
 * only a part is meant; one that selects coherent memory does not. The strategies agree on that.
 */
START_TEST(huge_leaf_counts_as_ram)
{
	const enum uhmm_strategy s = (enum uhmm_strategy)(_i / 2);
	const bool whole = _i % 2;
	uint64_t word = 0, *buf = malloc(UHMM_PMD_SIZE);

	map_fixed(f.mm, AT, 512, RW);
	expect_eq(uhmm_madvise(f.mm, AT, UHMM_PMD_SIZE, MADV_HUGEPAGE), 0);
	put_word(f.mm, AT, 5);
	expect_eq(mirror_op(f.mirror[1], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 512, buf, NULL), 0);
	expect_eq(used(1), 512);
	expect_eq(collected(AT, 16, COHERENT, f.dev[1]), 0);
	expect_eq(uhmm_mirror_access(f.mirror[0], AT, false, &word, s, whole ? UHMM_PMD_SIZE : PAGE,
				     NULL),
		  0);
	expect_eq(word, 5);
	expect_eq(used(0), whole ? 512 : 0);
	/* Pages of zeroes are not kept by a split. */
	expect_eq(used(1), whole ? 0 : 1);
	free(buf);
}
END_TEST

int main(void)
{
	static const TTest *alone[20], *limited[2], *mixed[4];
	Suite *suite = suite_create("coherent");
	TCase *tc = tcase_create("strategies");
	int n = 0;

	alone[n++] = present_writable_not_on_the_lru;
	alone[n++] = insert_page;
	alone[n++] = selected_by_kind_and_owner;
	alone[n++] = ram_is_not_selected;
	alone[n++] = to_system;
	alone[n++] = fork_and_copy;
	alone[n++] = shared_page_goes_home_from_both;
	alone[n++] = range_fault_and_snapshot;
	alone[n++] = access_by_another_device;
	alone[n++] = zap_frees_the_page;
	alone[n++] = close_and_release_bring_it_home;
	alone[n++] = eviction;
	limited[0] = limited_memory;
	mixed[0] = each_selects_its_own_kind;
	mixed[1] = one_for_the_other;
	mixed[2] = six_devices;
	add_case(suite, "coherent", setup, alone);
	add_case(suite, "limited", setup_limited, limited);
	add_case(suite, "mixed", setup_mixed, mixed);
	tcase_add_checked_fixture(tc, setup_mixed, teardown_fixture);
	tcase_add_loop_test(tc, strategies_on_coherent_memory, 0, UHMM_NR_STRATEGIES);
	tcase_add_loop_test(tc, huge_leaf_counts_as_ram, 0, 2 * UHMM_NR_STRATEGIES);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
