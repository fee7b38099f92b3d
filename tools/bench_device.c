// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * bench_device.c - range walks, and pages that move to the device and back.
 */
#include <errno.h>

#include "bench.h"
#include "tool.h"

enum {
	WINDOW = 512, /* pages of one call */
	WINDOW_BYTES = WINDOW << UHMM_PAGE_SHIFT,
};

static uhmm_vaddr_t window(const struct bench_world *w, uint64_t i)
{
	return w->start + i * WINDOW_BYTES;
}

/* ---- hmm_range_fault ---- */

static bool no_invalidate(struct uhmm_mmu_interval_notifier *mni,
			  const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	(void)range;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops notifier_ops = { no_invalidate };

int bench_range_walk_window(struct uhmm_mm *mm, struct uhmm_hmm_range *range)
{
	int err;

	do {
		range->notifier_seq = uhmm_mmu_interval_read_begin(range->notifier);
		uhmm_mmap_read_lock(mm);
		err = uhmm_range_fault(range);
		uhmm_mmap_read_unlock(mm);
	} while (err == -EBUSY ||
		 (!err && uhmm_mmu_interval_read_retry(range->notifier, range->notifier_seq)));
	return err;
}

int bench_range_open(struct bench_world *w, struct uhmm_hmm_range *range)
{
	static uint64_t pfns[WINDOW];

	*range = (struct uhmm_hmm_range){ .size = sizeof(*range), .hmm_pfns = pfns };
	return uhmm_mmu_interval_notifier_insert(w->mm, w->start, w->npages << UHMM_PAGE_SHIFT,
						 &notifier_ops, NULL, &range->notifier);
}

int bench_range_walk(struct bench_world *w, struct uhmm_hmm_range *range)
{
	int err = 0;

	for (uint64_t i = 0; i < w->npages / WINDOW && !err; i++) {
		range->start = window(w, i);
		range->end = range->start + WINDOW_BYTES;
		err = bench_range_walk_window(w->mm, range);
	}
	return err;
}

static int walk_all(struct bench *b, struct bench_world *w, struct uhmm_hmm_range *range,
		    enum bench_id id)
{
	struct bench_timer t;
	int err;

	bench_mark(w);
	t = bench_start();
	err = bench_range_walk(w, range);
	bench_sample(b, id, bench_stop(b, t) / (double)w->npages);
	if (err)
		return bench_failed("hmm_range_fault", err);
	if (bench_expect(w, UHMM_CNT_FAULT_FROM_HMM, 0) != TOOL_OK)
		return TOOL_USAGE;
	return bench_expect(w, UHMM_CNT_READ_PTE, w->npages);
}

static int walk_present(struct bench *b, struct bench_world *w)
{
	struct uhmm_hmm_range range;
	int status, err = bench_touch(w, 0, w->npages);

	if (!err)
		err = bench_range_open(w, &range);
	if (err)
		return bench_failed("walk", err);
	status = walk_all(b, w, &range, BENCH_WALK);
	if (status == TOOL_OK) {
		range.default_flags = UHMM_HMM_PFN_REQ_FAULT;
		status = walk_all(b, w, &range, BENCH_WALK_FAULT);
	}
	uhmm_mmu_interval_notifier_remove(range.notifier);
	return status;
}

int bench_walk(struct bench *b)
{
	struct bench_world w;
	int status = bench_world_open(&w, 4 * bench_working_set(b), false);

	if (status == TOOL_OK)
		status = walk_present(b, &w);
	bench_world_close(&w);
	return status;
}

/* ---- untouched memory to the device, and home again ---- */

int bench_to_device(struct bench_world *w, bool write)
{
	int err = 0;

	for (uint64_t i = 0; i < w->npages / WINDOW && !err; i++)
		err = uhmm_mirror_serve(w->mirror, window(w, i), window(w, i + 1), write,
					UHMM_COMBINED, NULL);
	return err;
}

int bench_read(struct bench_world *w)
{
	uhmm_vaddr_t addr = w->start;
	uint64_t word;
	int err = 0;

	for (uint64_t i = 0; i < w->npages && !err; i++, addr += UHMM_PAGE_SIZE)
		err = uhmm_cpu_read(w->mm, addr, &word, sizeof(word), NULL);
	return err;
}

static int serve_untouched(struct bench *b, struct bench_world *w, bool write, enum bench_id id)
{
	struct bench_timer t;
	int err;

	bench_mark(w);
	t = bench_start();
	err = bench_to_device(w, write);
	bench_sample(b, id, bench_stop(b, t) / (double)w->npages);
	if (err)
		return bench_failed("combined", err);
	return bench_expect(w, UHMM_CNT_MIGRATED_NEW, w->npages);
}

static int bring_home(struct bench *b, struct bench_world *w, enum bench_id id)
{
	struct bench_timer t;
	int err;

	bench_mark(w);
	t = bench_start();
	err = bench_read(w);
	bench_sample(b, id, bench_stop(b, t) / (double)w->npages);
	if (err)
		return bench_failed("read", err);
	return bench_expect(w, UHMM_CNT_MIGRATED_TO_RAM, w->npages);
}

int bench_combined(struct bench *b)
{
	struct bench_world w;
	int status;

	for (int write = 1; write >= 0; write--) {
		status = bench_world_open(&w, bench_working_set(b), true);
		if (status == TOOL_OK)
			status = serve_untouched(
				b, &w, write, write ? BENCH_COMBINED_WRITE : BENCH_COMBINED_READ);
		if (status == TOOL_OK && write)
			status = bring_home(b, &w, BENCH_TO_RAM);
		bench_world_close(&w);
		if (status != TOOL_OK)
			break;
	}
	return status;
}

/* The same with windows that are huge pages; their cost is told per 4 KiB all the same. */
int bench_huge(struct bench *b)
{
	struct bench_world w;
	int status = bench_world_open(&w, bench_working_set(b) + WINDOW, true);

	if (status == TOOL_OK) {
		w.start = (w.start + WINDOW_BYTES - 1) & UHMM_PMD_MASK;
		w.npages -= WINDOW;
		status = serve_untouched(b, &w, true, BENCH_HUGE_COMBINED);
	}
	if (status == TOOL_OK)
		status = bring_home(b, &w, BENCH_HUGE_TO_RAM);
	bench_world_close(&w);
	return status;
}

/* ---- present pages: combined against fault-then-migrate ---- */

/*
 * What a call is given: most device faults are served by few pages at a time. First in device memory that was
 * never used, where half of the time is the host's, which has to find memory for the descriptors.
 */
static const struct present {
	unsigned int window;
	enum bench_id separate, combined, ratio;
} presents[] = {
	{ WINDOW, BENCH_PRESENT_FRESH_SEPARATE, BENCH_PRESENT_FRESH_COMBINED,
	  BENCH_PRESENT_FRESH_RATIO },
	{ WINDOW, BENCH_PRESENT_SEPARATE, BENCH_PRESENT_COMBINED, BENCH_PRESENT_RATIO },
	{ 16, BENCH_PRESENT16_SEPARATE, BENCH_PRESENT16_COMBINED, BENCH_PRESENT16_RATIO },
	{ 1, BENCH_PRESENT1_SEPARATE, BENCH_PRESENT1_COMBINED, BENCH_PRESENT1_RATIO },
};

/* The pages of window(w, @i), @step a call. */
static int serve_window(struct bench_world *w, uint64_t i, unsigned int step,
			enum uhmm_strategy strategy)
{
	const uint64_t bytes = (uint64_t)step << UHMM_PAGE_SHIFT;
	uhmm_vaddr_t addr = window(w, i), end = window(w, i + 1);
	int err = 0;

	for (; addr < end && !err; addr += bytes)
		err = uhmm_mirror_serve(w->mirror, addr, addr + bytes, true, strategy, NULL);
	return err;
}

/* 512 pages take turns, so that both strategies find the machine in the same mood. */
static int serve_present(struct bench *b, struct bench_world *w, const struct present *p)
{
	static const enum uhmm_strategy strategies[] = { UHMM_FAULT_THEN_MIGRATE, UHMM_COMBINED };
	double ns[2] = { 0 }, half = (double)w->npages / 2;
	int err = 0;

	bench_mark(w);
	for (uint64_t i = 0; i < w->npages / WINDOW && !err; i++) {
		unsigned int which = (i + b->round) & 1;
		struct bench_timer t = bench_start();

		err = serve_window(w, i, p->window, strategies[which]);
		ns[which] += bench_stop(b, t);
	}
	if (err)
		return bench_failed("device fault", err);
	bench_sample(b, p->separate, ns[0] / half);
	bench_sample(b, p->combined, ns[1] / half);
	bench_sample(b, p->ratio, ns[1] / ns[0]);
	return bench_expect(w, UHMM_CNT_MIGRATED_TO_DEVICE, w->npages);
}

/* With all sizes of windows, the pages home again in between. */
static int serve_presents(struct bench *b, struct bench_world *w)
{
	int status = TOOL_OK, err = bench_touch(w, 0, w->npages);

	for (size_t i = 0; i < sizeof(presents) / sizeof(presents[0]) && status == TOOL_OK; i++) {
		if (!err && i)
			err = bench_read(w);
		if (err)
			return bench_failed("present pages", err);
		status = serve_present(b, w, &presents[i]);
	}
	return status;
}

int bench_present(struct bench *b)
{
	struct bench_world w;
	int status = bench_world_open(&w, bench_working_set(b), true);

	if (status == TOOL_OK)
		status = serve_presents(b, &w);
	bench_world_close(&w);
	return status;
}
