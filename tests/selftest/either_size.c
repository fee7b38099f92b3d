// SPDX-License-Identifier: LGPL-2.1-or-later
/* Scenarios that the kernel runs with base pages and with huge ones. */
#define _GNU_SOURCE
#include "selftest/selftest.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static const uint64_t offsets[] = { 0, HUGE_BYTES / 4, HUGE_BYTES / 2 };

enum { NR_OFFSETS = sizeof(offsets) / sizeof(offsets[0]) };

static void advise(const struct buffer *b, bool huge)
{
	expect_eq(uhmm_madvise(w.f.mm, b->addr, b->bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE),
		  0);
}

/*
 * A device that writes to private memory for a child makes copies of what the child has inherited;
 * the parent's stays. The child's device is the first private one, whatever the parent's is.
 */
void anon_write_child(bool huge, bool migrate)
{
	struct uhmm_mirror *mirror;
	struct child child;
	struct buffer b;

	if (huge) {
		buffer_aligned(&b, 2 * HUGE_BYTES, HUGE_BYTES, RW);
		advise(&b, true);
	} else {
		buffer_map(&b, 2 * BUFFER_BYTES, BUFFER_BYTES, RW, ANON, NULL);
	}
	cpu_put_all(&b, UP);
	mirror_put(&b, DOWN);
	if (migrate)
		to_device(&b); /* b.mirror is what the device read, then */
	child_fork(&child);

	child_enter(&child);
	cpu_expect(child.mm, &b, 0, b.bytes, UP);
	mirror_expect_all(&b, migrate ? UP : DOWN);
	mirror = open_device(PRIVATE_ONE, child.mm);
	op_all_by_a_fault(mirror, UHMM_MIRROR_WRITE, &b);
	cpu_expect(child.mm, &b, 0, b.bytes, migrate ? UP : DOWN);
	uhmm_mirror_close(mirror);
	child_leave(&child);
	child_exit(&child);

	cpu_expect_all(&b, UP);
	buffer_free(&b);
}

/* Half of 2 MiB on a device is unmapped, at one of three places; the rest comes home. */
void migrate_partial_unmap_fault(bool huge)
{
	for (unsigned int i = 0; i < NR_OFFSETS; i++) {
		const uint64_t hole = offsets[i], after = hole + HUGE_BYTES / 2;
		struct buffer b;

		buffer_aligned(&b, 2 * HUGE_BYTES, HUGE_BYTES, RW);
		advise(&b, huge);
		cpu_put_all(&b, UP);
		to_device(&b);
		mirror_expect_all(&b, UP);
		expect_eq(uhmm_munmap(w.f.mm, b.addr + hole, HUGE_BYTES / 2), 0);
		cpu_expect(w.f.mm, &b, 0, hole, UP);
		cpu_expect(w.f.mm, &b, after, b.bytes, UP);
		fixture_verify(&w.f);
		buffer_free(&b);
	}
}

static void remap(struct buffer *b, uint64_t offset, bool dontunmap)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (dontunmap ? MREMAP_DONTUNMAP : 0);
	uhmm_vaddr_t to = b->addr + HUGE_BYTES + offset, out;

	expect_eq(uhmm_mremap(w.f.mm, b->addr, HUGE_BYTES, HUGE_BYTES, flags, to, &out), 0);
	expect_eq(out, to);
	b->addr = out;
}

static void migrate_and_remap(bool huge, bool before, bool dontunmap, uint64_t offset)
{
	struct buffer b;

	buffer_aligned(&b, 8 * HUGE_BYTES, HUGE_BYTES, RW);
	advise(&b, huge);
	expect_eq(uhmm_munmap(w.f.mm, b.addr + HUGE_BYTES, 2 * HUGE_BYTES), 0);
	cpu_put_all(&b, UP);
	if (before)
		remap(&b, offset, dontunmap);
	to_device(&b);
	mirror_expect_all(&b, UP);
	if (!before)
		remap(&b, offset, dontunmap);
	cpu_expect_all(&b, UP);
	fixture_verify(&w.f);
	buffer_free(&b);
}

/* 2 MiB are moved to another address, aligned or not, before or after they go to a device. */
void migrate_remap_fault(bool huge)
{
	for (unsigned int how = 0; how < 4; how++)
		for (unsigned int i = 0; i < NR_OFFSETS; i++)
			migrate_and_remap(huge, how & 1, how & 2, offsets[i]);
}
