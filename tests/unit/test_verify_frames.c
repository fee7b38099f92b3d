// SPDX-License-Identifier: LGPL-2.1-or-later
/* uhmm_machine_verify() on RAM frames and device pages. */
#include "verify_world.h"

/* RAM frames */

DAMAGE(d_locked, flip_flag(frame_of(MAIN), PG_LOCKED))
DAMAGE(d_waiters, flip_flag(frame_of(MAIN), PG_WAITERS))
DAMAGE(d_migrating, flip_flag(frame_of(MAIN), PG_MIGRATING))
DAMAGE(d_marked_free, flip_flag(frame_of(MAIN), PG_FREE))
DAMAGE(d_reserved, flip_flag(frame_of(MAIN), PG_RESERVED))
DAMAGE(d_marked_device, flip_flag(frame_of(MAIN), PG_DEVICE_PRIVATE))
DAMAGE(d_uptodate, flip_flag(frame_of(MAIN), PG_UPTODATE))
DAMAGE(d_exclusive, flip_flag(frame_of(MAIN + PAGE), PG_ANON_EXCLUSIVE))
DAMAGE(d_no_lru, flip_flag(frame_of(RDONLY), PG_LRU))
DAMAGE(d_lru_and_batch, flip_flag(frame_of(NEW), PG_LRU))
DAMAGE(d_mapcount, atomic_fetch_add(&frame_of(MAIN)->mapcount, d))
DAMAGE(d_ref_leaked, atomic_fetch_add(&frame_of(MAIN)->refcount, d))
DAMAGE(d_ref_missing, atomic_fetch_sub(&frame_of(MAIN)->refcount, d))

/* One more time in a batch, with the reference that goes with it. */
static void batch_put(struct uhmm__frame *f, int d)
{
	struct lru_batch *b = &((struct lru_batches *)w.task->this_cpu->lru)->add;

	if (d > 0)
		b->pfn[b->nr++] = (uint32_t)frame_pfn(w.m, f);
	else
		b->nr--;
}

static void d_batched_twice(int d)
{
	batch_put(frame_of(NEW), d);
	d > 0 ? folio_get(frame_of(NEW)) : folio_put(w.m, frame_of(NEW));
}

static void d_leak(int d)
{
	if (d > 0)
		w.frame = uhmm__folio_alloc(w.m, true);
	else
		folio_put(w.m, w.frame);
}

static void d_lost(int d)
{
	if (d > 0)
		w.frame = uhmm__folio_alloc(w.m, true);
	store_relaxed(&w.frame->refcount, d < 0);
	if (d < 0)
		folio_put(w.m, w.frame);
}

/* A frame that is free now. */
static struct uhmm__frame *free_frame(int d)
{
	if (d > 0) {
		w.frame = uhmm__folio_alloc(w.m, true);
		folio_put(w.m, w.frame);
	}
	return w.frame;
}

static void d_free_twice(int d)
{
	free_frame(d);
	if (d > 0) {
		uhmm__folio_free(w.m, w.frame);
		ck_assert_uint_eq(w.nr_other, 1); /* "bad folio freed" */
	} else {
		ck_assert_ptr_eq(uhmm__folio_alloc(w.m, true), w.frame);
		store_relaxed(&w.frame->refcount, 0);
		store_relaxed(&w.frame->flags, (uint32_t)BIT(PG_FREE));
	}
}

DAMAGE(d_free_mapped, put_pte(SPARE, pte_mk(frame_pfn(w.m, free_frame(d)), prot_of(MAIN)), d))
DAMAGE(d_free_batched, batch_put(free_frame(d), d))
DAMAGE(d_free_ref, store_relaxed(&free_frame(d)->refcount, d > 0))
DAMAGE(d_free_mapcount, store_relaxed(&free_frame(d)->mapcount, d > 0))
DAMAGE(d_free_mapping, store_relaxed(&free_frame(d)->mapping, d > 0 ? MAPPING_ANON : 0))
DAMAGE(d_free_flags, flip_flag(free_frame(d), PG_DIRTY))
DAMAGE(d_zero_ref, atomic_fetch_add(&pfn_to_frame(w.m, w.m->zero_pfn)->refcount, d))
DAMAGE(d_zero_content, store_relaxed(&w.m->tags[w.m->zero_pfn], d > 0 ? 9 : 0))
DAMAGE(d_cpu_lock, put_lock(&uhmm__cpu(w.m, 1)->local, d))

static const struct damage frame_damages[] = {
	{ "locked", d_locked, 1, { "folio is locked" } },
	{ "waiters", d_waiters, 1, { "folio has waiters" } },
	{ "migrating", d_migrating, 1, { "folio is marked as migrating" } },
	{ "marked free", d_marked_free, 1, { "in use is marked free" } },
	{ "reserved", d_reserved, 1, { "folio is reserved" } },
	{ "marked device", d_marked_device, 1, { "RAM frame is marked as device memory" } },
	{ "uptodate", d_uptodate, 1, { "is not uptodate" } },
	{ "exclusive", d_exclusive, 1, { "anon-exclusive page is mapped 2 times" } },
	{ "no LRU", d_no_lru, 1, { "neither on the LRU nor in a batch" } },
	{ "LRU and batch", d_lru_and_batch, 1, { "on the LRU and in a batch" } },
	{ "mapcount", d_mapcount, 1, { "mapcount is 2, but 1 entries" } },
	{ "ref leaked",
	  d_ref_leaked,
	  1,
	  { "refcount is 2, but 1 entries, 0 batches and 0 caches" } },
	{ "ref missing", d_ref_missing, 1, { "frame has no reference and is on no free list" } },
	{ "batched twice", d_batched_twice, 1, { "folio is in 2 LRU batches" } },
	{ "leak", d_leak, 1, { "refcount is 1, but 0 entries, 0 batches and 0 caches" } },
	{ "lost", d_lost, 1, { "frame has no reference and is on no free list" } },
	{ "free twice", d_free_twice, 2, { "frame is 2 times on the free", "frames are counted" } },
	{ "free, mapped", d_free_mapped, 1, { "free frame is mapped by 1" } },
	{ "free, batched", d_free_batched, 1, { "free frame is in an LRU batch" } },
	{ "free, ref", d_free_ref, 1, { "free frame has a reference" } },
	{ "free, mapcount", d_free_mapcount, 1, { "free frame has a mapcount" } },
	{ "free, mapping", d_free_mapping, 1, { "free frame has a mapping" } },
	{ "free, flags", d_free_flags, 1, { "free frame has flags" } },
	{ "zero page, ref", d_zero_ref, 1, { "zero page is not as it was made" } },
	{ "zero page, content", d_zero_content, 1, { "zero page holds 0x9 at offset 0" } },
	{ "CPU lock", d_cpu_lock, 1, { "local lock of CPU 1 is held" } },
};

/* device memory */

static struct uhmm__frame *drivers_page(void)
{
	return pfn_to_frame(w.m, uhmm_pagemap_start(w.pgmap) + 1);
}

static struct uhmm__frame *free_device_page(void)
{
	return pfn_to_frame(w.m, uhmm_pagemap_start(w.pgmap) + 7);
}

DAMAGE(d_dev_lru, flip_flag(frame_of(DEVICE), PG_LRU))
DAMAGE(d_dev_unmarked, flip_flag(frame_of(DEVICE), PG_DEVICE_PRIVATE))
DAMAGE(d_dev_locked, flip_flag(frame_of(DEVICE), PG_LOCKED))
DAMAGE(d_dev_ref, atomic_fetch_add(&frame_of(DEVICE)->refcount, d))
DAMAGE(d_dev_mapcount, atomic_fetch_add(&frame_of(DEVICE)->mapcount, d))
DAMAGE(d_dev_leak, flip_flag(drivers_page(), PG_LOCKED))
DAMAGE(d_dev_two_refs, atomic_fetch_add(&drivers_page()->refcount, d))
DAMAGE(d_dev_unmapped, atomic_fetch_add(&drivers_page()->mapcount, d))
DAMAGE(d_dev_free_mapping, store_relaxed(&free_device_page()->mapping, d > 0 ? MAPPING_ANON : 0))
DAMAGE(d_dev_free_flags, flip_flag(free_device_page(), PG_LOCKED))
DAMAGE(d_dev_refs, atomic_fetch_add(&w.pgmap->refs, d))
DAMAGE(d_dev_used, atomic_fetch_add(&w.m->pgmaps->used, d))
DAMAGE(d_dev_start, w.idle->start += d)

static const struct damage device_damages[] = {
	{ "LRU", d_dev_lru, 1, { "device page is on the LRU" } },
	{ "unmarked", d_dev_unmarked, 1, { "is not marked as its memory" } },
	{ "locked", d_dev_locked, 1, { "folio is locked" } },
	{ "ref", d_dev_ref, 1, { "refcount is 2, but 1 entries" } },
	{ "mapcount", d_dev_mapcount, 1, { "mapcount is 2, but 1 entries" } },
	{ "leak", d_dev_leak, 1, { "neither mapped nor its driver's" } },
	{ "two refs", d_dev_two_refs, 1, { "neither mapped nor its driver's" } },
	{ "unmapped", d_dev_unmapped, 1, { "mapcount is 1, but 0 entries" } },
	{ "free, mapping", d_dev_free_mapping, 1, { "free device page has a mapping" } },
	{ "free, flags", d_dev_free_flags, 1, { "free device page has flags" } },
	{ "references", d_dev_refs, 1, { "has 4 references, but 2 pages in use" } },
	{ "used", d_dev_used, 1, { "3 device pages are counted, but 2" } },
	{ "start", d_dev_start, 1, { "starts at" } },
};

DAMAGE_TEST(frame)
DAMAGE_TEST(device)

static Suite *suite(void)
{
	Suite *s = suite_create("verify_frames");
	TCase *tc = tcase_create("damages");

	tcase_add_checked_fixture(tc, setup, teardown);
	ADD_DAMAGES(tc, frame);
	ADD_DAMAGES(tc, device);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
