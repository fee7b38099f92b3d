// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Files and shared memory, by the kernel's names: file_read, file_write, migrate_file_private,
 * migrate_shared, anon_write_child_shared. The kernel's file is one of the file system of /tmp, so
 * each scenario has a regular one and one of memory.
 */
#include "selftest/selftest.h"

#include <uhmm/file.h>

static const enum uhmm_file_kind kinds[] = { UHMM_FILE_REGULAR, UHMM_FILE_MEMORY };

enum { NR_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct uhmm_file *file_of(struct buffer *b, enum uhmm_file_kind kind, int prot, int flags)
{
	struct uhmm_file *file;

	expect_eq(uhmm_file_create(w.f.m, kind, BUFFER_BYTES, &file), 0);
	buffer_map(b, BUFFER_BYTES, BUFFER_BYTES, prot, flags, file);
	return file;
}

/* What was written to the file the device reads through the mapping. */
START_TEST(file_read)
{
	for (int i = 0; i < NR_KINDS; i++) {
		struct uhmm_file *file;
		struct buffer b;

		file = file_of(&b, kinds[i], PROT_READ, MAP_SHARED);
		mirror_put(&b, UP);
		expect_eq(uhmm_file_write(file, 0, b.mirror, b.bytes), b.bytes);
		memset(b.mirror, 0, b.bytes);
		op_all_by_a_fault(w.one, UHMM_MIRROR_READ, &b);
		mirror_expect_all(&b, UP);
		buffer_free(&b);
		uhmm_file_put(file);
	}
}
END_TEST

/* What the device writes is in the mapping and in the file. */
START_TEST(file_write)
{
	for (int i = 0; i < NR_KINDS; i++) {
		struct uhmm_file *file;
		struct buffer b;

		file = file_of(&b, kinds[i], RW, MAP_SHARED);
		mirror_put(&b, UP);
		op_all_by_a_fault(w.one, UHMM_MIRROR_WRITE, &b);
		cpu_expect_all(&b, UP);
		memset(b.mirror, 0xff, b.bytes);
		expect_eq(uhmm_file_read(file, 0, b.mirror, b.bytes), b.bytes);
		mirror_expect_all(&b, UP);
		buffer_free(&b);
		uhmm_file_put(file);
	}
}
END_TEST

/* A private mapping's copies are anonymous: they can move. */
START_TEST(migrate_file_private)
{
	for (int i = 0; i < NR_KINDS; i++) {
		struct uhmm_file *file;
		struct buffer b;

		file = file_of(&b, kinds[i], RW, MAP_PRIVATE);
		cpu_put_all(&b, UP);
		to_device(&b);
		mirror_expect_all(&b, UP);
		buffer_free(&b);
		uhmm_file_put(file);
	}
}
END_TEST

/* Shared memory that nobody has touched does not go to a device. */
START_TEST(migrate_shared)
{
	struct buffer b;

	buffer_map(&b, BUFFER_BYTES, BUFFER_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS, NULL);
	expect_eq(op(w.one, UHMM_MIRROR_MIGRATE_TO_DEV, &b, b.npages), -ENOENT);
	buffer_free(&b);
}
END_TEST

/* What a device writes to shared memory for a child the parent has as well. */
START_TEST(anon_write_child_shared)
{
	struct uhmm_mirror *mirror;
	struct child child;
	struct buffer b;

	buffer_map(&b, BUFFER_BYTES, BUFFER_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS, NULL);
	cpu_put_all(&b, UP);
	mirror_put(&b, DOWN);
	child_fork(&child);

	child_enter(&child);
	cpu_expect(child.mm, &b, 0, b.bytes, UP);
	mirror_expect_all(&b, DOWN);
	mirror = open_device(PRIVATE_ONE, child.mm);
	op_all_by_a_fault(mirror, UHMM_MIRROR_WRITE, &b);
	cpu_expect(child.mm, &b, 0, b.bytes, DOWN);
	uhmm_mirror_close(mirror);
	child_leave(&child);
	child_exit(&child);

	cpu_expect_all(&b, DOWN);
	buffer_free(&b);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, file_read);
	tcase_add_test(tc, file_write);
	tcase_add_test(tc, migrate_file_private);
	tcase_add_test(tc, migrate_shared);
	tcase_add_test(tc, anon_write_child_shared);
}

int main(void)
{
	return run_scenarios("file", add, NULL);
}
