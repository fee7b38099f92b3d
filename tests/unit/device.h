/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* device.h - for the tests of exclusive entries, coherent memory and pins: walks in short forms. */
#ifndef TESTS_UNIT_DEVICE_H
#define TESTS_UNIT_DEVICE_H

#include "unit/inside.h"

#define V UHMM_HMM_PFN_VALID
#define W UHMM_HMM_PFN_WRITE
#define E UHMM_HMM_PFN_ERROR
#define FAULT UHMM_HMM_PFN_REQ_FAULT
#define WRITE (UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE)

enum { SPAN = 16 };

static uint64_t pfns[SPAN], mpfns[SPAN], dpfns[SPAN], words[SPAN * PAGE / 8];

/* hmm_range_fault() of the first @npages from @start for f.dev[0]; again while it is invalidated. */
static inline int walk(uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	struct watcher w;
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.start = start,
		.end = start + npages * PAGE,
		.hmm_pfns = pfns,
		.default_flags = flags,
		.dev_private_owner = f.dev[0],
	};
	int err;

	memset(pfns, 0, sizeof(pfns));
	watch(&w, f.mm, start, npages);
	range.notifier = w.mni;
	do {
		range.notifier_seq = uhmm_mmu_interval_read_begin(w.mni);
		uhmm_mmap_read_lock(f.mm);
		err = uhmm_range_fault(&range);
		uhmm_mmap_read_unlock(f.mm);
	} while (err == -EBUSY);
	unwatch(&w);
	return err;
}

static inline uint64_t flags_of(uint64_t hmm_pfn)
{
	return hmm_pfn & (V | W | E);
}

/*
 * migrate_vma_setup() of @npages from @start and all put back; what it said is in mpfns[].
 * Returns: cpages.
 */
static inline uint64_t collected(uhmm_vaddr_t start, unsigned int npages, uint64_t select,
				 void *owner)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = mpfns,
		.dst = dpfns,
		.start = start,
		.end = start + npages * PAGE,
		.pgmap_owner = owner,
		.flags = select,
	};

	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, start);
	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	memcpy(words, mpfns, npages * sizeof(*mpfns));
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	memcpy(mpfns, words, npages * sizeof(*mpfns));
	return args.cpages;
}

static inline uint8_t snapshot(unsigned int dev, uhmm_vaddr_t addr)
{
	uint8_t byte = 0;

	expect_eq(mirror_op(f.mirror[dev], UHMM_MIRROR_SNAPSHOT, addr, 1, &byte, NULL), 0);
	return byte;
}

static inline uint64_t dev_read(unsigned int dev, uhmm_vaddr_t addr)
{
	expect_eq(mirror_op(f.mirror[dev], UHMM_MIRROR_READ, addr, 1, words, NULL), 0);
	return words[0];
}

static inline void dev_write(unsigned int dev, uhmm_vaddr_t addr, uint64_t value)
{
	for (unsigned int i = 0; i < PAGE / 8; i++)
		words[i] = value;
	expect_eq(mirror_op(f.mirror[dev], UHMM_MIRROR_WRITE, addr, 1, words, NULL), 0);
}

static inline uint64_t to_sys(unsigned int dev, uhmm_vaddr_t addr, unsigned int npages)
{
	struct uhmm_mirror_cmd cmd;

	expect_eq(mirror_op(f.mirror[dev], UHMM_MIRROR_MIGRATE_TO_SYS, addr, npages, NULL, &cmd),
		  0);
	return cmd.cpages;
}

/* A fixture whose two devices are of these kinds. */
static inline void setup_devices(enum uhmm_memory_type first, enum uhmm_memory_type second,
				 uint64_t bytes)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .content = UHMM_CONTENT_TAG };

	fixture_create(&f, config);
	for (int i = 0; i < FIXTURE_DEVICES; i++) {
		struct uhmm_device_config dev = { .size = sizeof(dev),
						  .type = i ? second : first,
						  .memory_bytes = bytes,
						  .chunk_bytes = FIXTURE_CHUNK };

		expect_eq(uhmm_device_create(f.m, &dev, &f.dev[i]), 0);
		expect_eq(uhmm_mirror_open(f.dev[i], f.mm, &f.mirror[i]), 0);
	}
}

#endif /* TESTS_UNIT_DEVICE_H */
