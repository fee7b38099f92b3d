// SPDX-License-Identifier: LGPL-2.1-or-later
/* Looking from outside: uhmm_pagemap(), uhmm_mm_dump(), uhmm_machine_compare(). */
#include "verify_world.h"

#define NPAGES 8

/* ---- pagemap ---- */

/* As the recorded answers of a real kernel are written: 1 present, 2 swap, 4 file, 8 exclusive. */
static unsigned int bits(uint64_t e)
{
	return (e & UHMM_PM_PRESENT ? 1 : 0) | (e & UHMM_PM_SWAP ? 2 : 0) |
	       (e & UHMM_PM_FILE ? 4 : 0) | (e & UHMM_PM_MMAP_EXCLUSIVE ? 8 : 0);
}

static uint64_t pagemap1(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	uint64_t e = 42;

	ck_assert_int_eq(uhmm_pagemap(mm, addr, 1, &e), 0);
	return e;
}

START_TEST(pagemap_kinds)
{
	uint64_t out[12];
	/* exclusive, shared, the zero page, none; then past the end of the VMA */
	const unsigned int expect[12] = { 9, 1, 1, 0 };

	ck_assert_int_eq(uhmm_pagemap(w.mm, MAIN, 12, out), 0);
	for (int i = 0; i < 12; i++)
		ck_assert_uint_eq(bits(out[i]), expect[i]);
	ck_assert_uint_eq(out[0] & UHMM_PM_PFN_MASK, pte_pfn(pte_at(MAIN)));
	ck_assert_uint_eq(out[2] & UHMM_PM_PFN_MASK, w.m->zero_pfn);
	/* The child has the copy that the parent left, and shares the other. */
	ck_assert_int_eq(uhmm_pagemap(w.child, MAIN, 3, out), 0);
	ck_assert_uint_eq(bits(out[0]), 9);
	ck_assert_uint_eq(bits(out[1]), 1);
	ck_assert_uint_eq(bits(out[2]), 0);
	ck_assert_uint_eq(bits(pagemap1(w.mm, NONE)), 9);
	ck_assert_uint_eq(bits(pagemap1(w.mm, EMPTY)), 0);
	ck_assert_uint_eq(pagemap1(w.mm, NOWHERE), 0);
}
END_TEST

START_TEST(pagemap_swap_like)
{
	const uint64_t pfn = uhmm_pagemap_start(w.pgmap);

	/* A device page is not present, so it is never told as exclusively mapped. */
	ck_assert_uint_eq(pagemap1(w.mm, DEVICE),
			  UHMM_PM_SWAP | pfn << 5 | 28); /* SWP_DEVICE_WRITE */
	put_pte(SPARE, leaf_make(LEAF_MIGRATION_READ, frame_pfn(w.m, frame_of(MAIN))), 1);
	ck_assert_uint_eq(bits(pagemap1(w.mm, SPARE)), 2);
	put_pte(SPARE, leaf_make(LEAF_SWAP, 7), 1);
	ck_assert_uint_eq(pagemap1(w.mm, SPARE), UHMM_PM_SWAP | 7 << 5);
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_GUARD), 1);
	ck_assert_uint_eq(pagemap1(w.mm, SPARE) & (UHMM_PM_GUARD_REGION | UHMM_PM_SWAP),
			  UHMM_PM_GUARD_REGION | UHMM_PM_SWAP);
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_UFFD_WP), 1);
	ck_assert(pagemap1(w.mm, SPARE) & UHMM_PM_UFFD_WP);
	/* A page without anon_vma is a file's. */
	put_pte(SPARE, leaf_make(LEAF_HWPOISON, w.m->ram_frames - 1), 1);
	ck_assert_uint_eq(bits(pagemap1(w.mm, SPARE)), 6);
	put_pte(SPARE, pte_make(0), 1);
	flip(MAIN, PTE_SOFT_DIRTY | PTE_UFFD_WP);
	ck_assert_uint_eq(pagemap1(w.mm, MAIN) >> 55, 0x100 | 4 | 2 | 1);
	flip(MAIN, PTE_SOFT_DIRTY | PTE_UFFD_WP);
}
END_TEST

START_TEST(pagemap_range)
{
	const uint64_t npages = 3 * UHMM_PTRS_PER_TABLE;
	const uhmm_vaddr_t start = MAIN - PAGE * UHMM_PTRS_PER_TABLE - PAGE;
	uint64_t *out = malloc(npages * sizeof(*out)), e = 42;

	ck_assert_int_eq(uhmm_pagemap(w.mm, start, npages, out), 0);
	for (uint64_t i = 0; i < npages; i++) {
		uhmm_vaddr_t addr = start + i * PAGE;

		ck_assert_uint_eq(!!out[i], addr >= MAIN && addr < MAIN + 3 * PAGE);
	}
	free(out);
	ck_assert_int_eq(uhmm_pagemap(w.mm, MAIN + 1, 1, &e), -EINVAL);
	ck_assert_int_eq(uhmm_pagemap(w.mm, UHMM_TASK_SIZE, 1, &e), -EINVAL);
	ck_assert_int_eq(uhmm_pagemap(w.mm, UHMM_TASK_SIZE + PAGE, 0, &e), -EINVAL);
	ck_assert_int_eq(uhmm_pagemap(w.mm, 0, UINT64_MAX, &e), -EINVAL);
	ck_assert_uint_eq(e, 42);
	ck_assert_int_eq(uhmm_pagemap(w.mm, UHMM_TASK_SIZE - PAGE, 1, &e), 0);
	ck_assert_uint_eq(e, 0);
	ck_assert_int_eq(uhmm_pagemap(w.mm, UHMM_TASK_SIZE, 0, NULL), 0);
}
END_TEST

/* ---- dump ---- */

static void keep(void *data, const char *line)
{
	char *text = data;
	size_t n = strlen(text);

	snprintf(text + n, 8192 - n, "%s\n", line);
}

START_TEST(dump)
{
	static char text[8192];
	const char *const expect[] = {
		"mm 1 users 1 count 2 vmas 6 heap 0x0-0x0\n",
		"\nvma 0x10000000-0x10008000 rw-p pgoff 0x10000 anon_vma yes flags -\n",
		"\npte 0x10000000 npages 1 ram rw- pfn 0x",
		" accessed dirty ref 1 map 1 flags uptodate,lru,anon-exclusive,swapbacked anon ind",
		" anon index 0x10000 content 0x3\n",
		"\npte 0x10001000 npages 1 ram r-- pfn 0x",
		"ref 2 map 2 flags uptodate,lru,swapbacked anon index 0x10001 content 0x2\n",
		"\npte 0x10002000 npages 1 zero r-- pfn 0x1 accessed\n",
		"\npte 0x10005000 npages 1 marker raw 0x",
		"\npte 0x10006000 npages 1 migration r-- pfn 0x",
		" accessed exclusive ref 1",
		"\nvma 0x11000000-0x11001000 r--p ",
		"\npte 0x12000000 npages 1 ram --- pfn ",
		"\nvma 0x13000000-0x13002000 rw-p pgoff 0x13000 anon_vma no flags -\n",
		"ref 2 map 1 flags uptodate,anon-exclusive,swapbacked anon index 0x14000 content",
		"\npte 0x15000000 npages 1 device-private rw- device 0 pfn 0x40200 ref 1 map 1 ",
		"\ntables pgd 1 pud 1 pmd 1 pte 6\n",
	};

	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_GUARD), 1);
	put_pte(SPARE + PAGE,
		leaf_make(LEAF_MIGRATION_READ_EXCLUSIVE,
			  frame_pfn(w.m, frame_of(MAIN)) | LEAF_YOUNG),
		1);
	uhmm_mm_dump(w.mm, keep, text);
	for (size_t i = 0; i < ARRAY_SIZE(expect); i++)
		ck_assert_msg(strstr(text, expect[i]) != NULL, "no \"%s\" in\n%s", expect[i], text);
	/* The same without a task. */
	text[0] = '\0';
	uhmm_task_leave();
	uhmm_mm_dump(w.mm, keep, text);
	uhmm_task_enter(w.task);
	ck_assert_ptr_nonnull(strstr(text, expect[0]));
	put_pte(SPARE, pte_make(0), 1);
	put_pte(SPARE + PAGE, pte_make(0), 1);
}
END_TEST

START_TEST(dump_runs)
{
	static char text[8192];
	struct uhmm_mm *first = w.mm;
	unsigned int lines = 0;

	ck_assert_int_eq(uhmm_mm_create(w.m, &w.mm), 0);
	map(MAIN, 1024);
	ck_assert_int_eq(uhmm_madvise(w.mm, MAIN, 1024 * PAGE, MADV_NOHUGEPAGE), 0);
	for (int i = 0; i < 32; i++)
		put8(MAIN + i * PAGE, i);
	for (int i = 500; i < 530; i++)
		touch(MAIN + i * PAGE);
	uhmm__lru_add_drain_all(w.m);
	uhmm_mm_dump(w.mm, keep, text);
	ck_assert_ptr_nonnull(strstr(text, " flags nohugepage\n"));
	/* A run of the zero page goes on from one table to the next. */
	ck_assert_ptr_nonnull(strstr(text, "\npte 0x101f4000 npages 30 zero r-- pfn 0x1 acc"));
	for (const char *p = text; (p = strstr(p, "ram rw-")); p++)
		lines++;
	/* Frames of a burst of faults lie side by side, but for where a free list begins anew. */
	ck_assert_uint_ge(lines, 1);
	ck_assert_uint_le(lines, 3);
	ck_assert_ptr_nonnull(strstr(text, ".."));
	uhmm_mmput(w.mm);
	w.mm = first;
}
END_TEST

/* ---- compare ---- */

struct twin {
	struct uhmm_machine *m;
	struct uhmm_task *task;
	struct uhmm_mm *mm;
	struct uhmm_dev_pagemap *pgmap;
	struct uhmm_dev_pagemap *more, *second; /* NULL but in other_device */
};

static struct twin a, b;
static char lines[8192];
static unsigned int nr_lines;

static void count_line(void *data, const char *line)
{
	nr_lines++;
	keep(data, line);
}

static int64_t compare(enum uhmm_compare what)
{
	lines[0] = '\0';
	nr_lines = 0;
	return uhmm_machine_compare(a.m, b.m, what, count_line, lines);
}

static void enter(struct twin *t)
{
	uhmm_task_enter(t->task);
	w.m = t->m;
	w.mm = t->mm;
}

static void twin_create(struct twin *t)
{
	const struct uhmm_machine_config config = { .size = sizeof(config),
						    .ram_bytes = 1UL << 30,
						    .device_bytes = 1UL << 30 };

	ck_assert_int_eq(uhmm_machine_create(&config, &t->m), 0);
	ck_assert_int_eq(uhmm_task_create(t->m, NULL, 0, NULL, &t->task), 0);
	ck_assert_int_eq(uhmm_mm_create(t->m, &t->mm), 0);
	enter(t);
	t->pgmap = remap_pages();
	map(MAIN, NPAGES);
	for (int i = 0; i < 3; i++)
		put8(MAIN + i * PAGE, i + 1);
	uhmm_task_leave();
}

static void twins_setup(void)
{
	memset(&w, 0, sizeof(w));
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	twin_create(&a);
	twin_create(&b);
	ck_assert_int_eq(compare(UHMM_COMPARE_STATE), 0);
	ck_assert_int_eq(compare(UHMM_COMPARE_CONTENTS), 0);
}

static void twin_destroy(struct twin *t)
{
	uhmm_mmput(t->mm);
	uhmm_memunmap_pages(t->pgmap);
	uhmm_memunmap_pages(t->more);
	uhmm_memunmap_pages(t->second);
	uhmm_task_destroy(t->task);
	uhmm_machine_destroy(t->m);
}

static void twins_teardown(void)
{
	twin_destroy(&a);
	twin_destroy(&b);
}

static void expect(int64_t state, int64_t contents, const char *text)
{
	int64_t n = compare(UHMM_COMPARE_CONTENTS);

	ck_assert_msg(n == contents, "contents: %ld, expected %ld\n%s", (long)n, (long)contents,
		      lines);
	n = compare(UHMM_COMPARE_STATE);
	ck_assert_msg(n == state, "state: %ld, expected %ld\n%s", (long)n, (long)state, lines);
	ck_assert_msg(!text || strstr(lines, text), "no \"%s\" in\n%s", text, lines);
}

START_TEST(same_but_for_frames)
{
	/* Other frames, another order of the LRU, other young and dirty bits. */
	enter(&b);
	ck_assert_int_eq(uhmm_munmap(w.mm, MAIN, NPAGES * PAGE), 0);
	map(MAIN, NPAGES);
	for (int i = 3; i-- > 0;)
		put8(MAIN + i * PAGE, i + 1);
	uhmm__lru_add_drain_all(w.m);
	flip(MAIN, PTE_ACCESSED | PTE_DIRTY);
	uhmm_task_leave();
	expect(0, 0, NULL);
}
END_TEST

START_TEST(zeroes)
{
	uint64_t zero = 0;

	enter(&b);
	touch(MAIN + 5 * PAGE);
	ck_assert_int_eq(uhmm_cpu_write(w.mm, MAIN + 6 * PAGE, &zero, 8, NULL), 0);
	uhmm_task_leave();
	expect(2, 0, "mm 1 page 0x10005000: none --- | zero r--");
	ck_assert_ptr_nonnull(
		strstr(lines, "page 0x10006000: none --- | ram rw- ref 1 map 1 pins"));
	ck_assert_uint_eq(nr_lines, 2);
}
END_TEST

START_TEST(contents)
{
	enter(&b);
	put8(MAIN, 77);
	put8(MAIN + 3 * PAGE, 78);
	uhmm_task_leave();
	expect(2, 2,
	       "page 0x10000000: ram rw- ref 1 map 1 pins 0 content 0x1 | ram rw- ref 1 map "
	       "1 pins 0 content 0x4d (contents differ)");
}
END_TEST

START_TEST(device)
{
	enter(&b);
	uhmm__lru_add_drain_all(w.m);
	move_to_device(MAIN, uhmm_pagemap_start(b.pgmap) + 9);
	uhmm_task_leave();
	expect(1, 0, "ram rw- ref 1 map 1 pins 0 content 0x1 | device-private device 0 rw- ref 1");
	/* On the same device, though at another frame of it. */
	enter(&a);
	move_to_device(MAIN, uhmm_pagemap_start(a.pgmap));
	uhmm_task_leave();
	expect(0, 0, NULL);
}
END_TEST

/* Two devices: told apart by their owners, in the order of registration. */
START_TEST(other_device)
{
	for (struct twin *t = &a; t; t = t == &a ? &b : NULL) {
		enter(t);
		t->more = remap_pages();
		ck_assert_int_eq(uhmm_memremap_pages(w.m, UHMM_MEMORY_DEVICE_PRIVATE, 600, &lines,
						     &dev_ops, NULL, &t->second),
				 0);
		uhmm__lru_add_drain_all(w.m);
		/* The first device has two pagemaps. */
		move_to_device(MAIN, uhmm_pagemap_start(t == &a ? t->pgmap : t->more));
		move_to_device(MAIN + PAGE, uhmm_pagemap_start(t == &a ? t->more : t->second) + 1);
		uhmm_task_leave();
	}
	expect(1, 0,
	       "page 0x10001000: device-private device 0 rw- ref 1 map 1 pins 0 content 0x2 | "
	       "device-private device 1");
}
END_TEST

START_TEST(counts)
{
	enter(&b);
	atomic_fetch_add(&frame_of(MAIN)->refcount, 1);
	expect(1, 0, "map 1 pins 0 content 0x1 | ram rw- ref 2 map 1 pins 0");
	atomic_fetch_add(&frame_of(MAIN)->refcount, UHMM_PIN_BIAS - 1);
	expect(1, 0, "pins 0 content 0x1 | ram rw- ref 1 map 1 pins 1");
	atomic_fetch_sub(&frame_of(MAIN)->refcount, UHMM_PIN_BIAS);
	atomic_fetch_add(&frame_of(MAIN)->mapcount, 1);
	expect(1, 0, "| ram rw- ref 1 map 2");
	atomic_fetch_sub(&frame_of(MAIN)->mapcount, 1);
	flip(MAIN, PTE_RW);
	expect(1, 0, "| ram r-- ref 1 map 1");
	flip(MAIN, PTE_RW);
	expect(0, 0, NULL);
	uhmm_task_leave();
}
END_TEST

START_TEST(no_page)
{
	enter(&b);
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_GUARD), 1);
	expect(1, 1, "none --- | marker ---");
	/* This one reads as an empty page does. */
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_UFFD_WP), 1);
	expect(1, 0, "none --- | marker ---");
	put_pte(SPARE, pte_make(0), 1);
	uhmm_task_leave();
	enter(&a);
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_GUARD), 1);
	uhmm_task_leave();
	enter(&b);
	put_pte(SPARE, leaf_make(LEAF_MARKER, MARKER_POISONED), 1);
	expect(1, 1, "marker --- | marker ---");
	put_pte(SPARE, pte_make(0), 1);
	uhmm_task_leave();
	enter(&a);
	put_pte(SPARE, pte_make(0), 1);
	uhmm_task_leave();
}
END_TEST

START_TEST(vmas)
{
	enter(&b);
	/* Cut differently, with the same contents. */
	ck_assert_int_eq(uhmm_mprotect(w.mm, MAIN + 4 * PAGE, PAGE, PROT_READ), 0);
	expect(3, 0,
	       "mm 1 VMA: [0x10000000, 0x10008000) flags 0x100003 | [0x10000000, 0x10004000)");
	ck_assert_ptr_nonnull(strstr(lines, "VMA: none | [0x10004000, 0x10005000) flags 0x100001"));
	/* No access where the other may read; the page below is not told twice. */
	ck_assert_int_eq(uhmm_mprotect(w.mm, MAIN + PAGE, 2 * PAGE, PROT_NONE), 0);
	put8(MAIN + 3 * PAGE, 9);
	ck_assert_int_eq(compare(UHMM_COMPARE_CONTENTS), 3);
	ck_assert_ptr_nonnull(
		strstr(lines, "mm 1 [0x10001000, 0x10003000): accessible | no access"));
	ck_assert_int_eq(uhmm_munmap(w.mm, MAIN, PAGE), 0);
	ck_assert_int_eq(compare(UHMM_COMPARE_CONTENTS), 4);
	ck_assert_ptr_nonnull(
		strstr(lines, "mm 1 [0x10000000, 0x10001000): accessible | unmapped"));
	uhmm_task_leave();
}
END_TEST

/* Contents count where they cannot be read right now. */
START_TEST(behind_prot_none)
{
	for (struct twin *t = &a; t; t = t == &a ? &b : NULL) {
		enter(t);
		if (t == &b)
			put8(MAIN, 55);
		ck_assert_int_eq(uhmm_mprotect(w.mm, MAIN, PAGE, PROT_NONE), 0);
		uhmm_task_leave();
	}
	expect(1, 1, "ram --- ref 1 map 1 pins 0 content 0x1 | ram --- ref 1");
}
END_TEST

START_TEST(mms)
{
	struct uhmm_mm *mm, *other;

	ck_assert_int_eq(uhmm_mm_create(b.m, &mm), 0);
	expect(1, 1, "mm 2: only in the second machine");
	ck_assert_int_eq(uhmm_mm_create(a.m, &other), 0);
	uhmm_mmput(other);
	ck_assert_int_eq(uhmm_mm_create(a.m, &other), 0);
	expect(2, 2, "mm 3: only in the first machine");
	uhmm_mmput(mm);
	uhmm_mmput(other);
	expect(0, 0, NULL);
}
END_TEST

START_TEST(many)
{
	enter(&b);
	map(NEW, 100);
	for (int i = 0; i < 100; i++)
		put8(NEW + i * PAGE, 1);
	uhmm_task_leave();
	ck_assert_int_eq(compare(UHMM_COMPARE_STATE), 101);
	ck_assert_uint_eq(nr_lines, 16);
	ck_assert_int_eq(uhmm_machine_compare(a.m, b.m, UHMM_COMPARE_STATE, NULL, NULL), 101);
	ck_assert_int_eq(compare(UHMM_COMPARE_CONTENTS), 100);
	ck_assert_uint_eq(nr_lines, 1);
}
END_TEST

START_TEST(bad_arguments)
{
	const struct uhmm_machine_config config = { .size = sizeof(config),
						    .content = UHMM_CONTENT_BYTES,
						    .ram_bytes = 1UL << 30,
						    .device_bytes = 1UL << 30 };
	struct uhmm_machine *m;

	ck_assert_int_eq(uhmm_machine_create(&config, &m), 0);
	ck_assert_int_eq(uhmm_machine_compare(a.m, m, UHMM_COMPARE_STATE, NULL, NULL), -EINVAL);
	ck_assert_int_eq(uhmm_machine_compare(a.m, b.m, 99, NULL, NULL), -EINVAL);
	ck_assert_int_eq(uhmm_machine_verify(m), 0);
	uhmm_machine_destroy(m);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("inspect");
	TCase *tc = tcase_create("one machine");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, pagemap_kinds);
	tcase_add_test(tc, pagemap_swap_like);
	tcase_add_test(tc, pagemap_range);
	tcase_add_test(tc, dump);
	tcase_add_test(tc, dump_runs);
	suite_add_tcase(s, tc);
	tc = tcase_create("two machines");
	tcase_add_checked_fixture(tc, twins_setup, twins_teardown);
	tcase_add_test(tc, same_but_for_frames);
	tcase_add_test(tc, zeroes);
	tcase_add_test(tc, contents);
	tcase_add_test(tc, device);
	tcase_add_test(tc, other_device);
	tcase_add_test(tc, counts);
	tcase_add_test(tc, no_page);
	tcase_add_test(tc, vmas);
	tcase_add_test(tc, behind_prot_none);
	tcase_add_test(tc, mms);
	tcase_add_test(tc, many);
	tcase_add_test(tc, bad_arguments);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
