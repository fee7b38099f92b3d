// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Each errno that notifier.h, hmm.h, migrate.h, devmem.h and mirror.h document, by public calls alone: one
 * test for each.
 * After an error outputs are untouched and the verifier finds nothing; the fixture looks at the end of
 * each test.
 *
 * Not here: -EINTR, for nothing kills a task yet.
 */
#define _GNU_SOURCE
#include "errors/errors.h"

#define NOWHERE 0x50000000UL

static uint64_t src[8], dst[8], pfns[8];
static uint64_t buf[8 * PAGE / 8];

/* ---- notifier.h ---- */

static bool invalidate(struct uhmm_mmu_interval_notifier *mni,
		       const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	(void)range;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = invalidate };

static int insert(uint64_t start, uint64_t length, const struct uhmm_mmu_interval_notifier_ops *o)
{
	struct uhmm_mmu_interval_notifier *mni = UNTOUCHED;
	int err = uhmm_mmu_interval_notifier_insert(f.mm, start, length, o, NULL, &mni);

	if (!err)
		uhmm_mmu_interval_notifier_remove(mni);
	else
		expect(mni == UNTOUCHED);
	return err;
}

START_TEST(notifier_insert_eoverflow)
{
	expect_eq(insert(AT, 0, &ops), -EOVERFLOW);
	expect_eq(insert(AT, UINT64_MAX, &ops), -EOVERFLOW);
	expect_eq(insert(AT, PAGE, &ops), 0);
}
END_TEST

START_TEST(notifier_insert_einval)
{
	static const struct uhmm_mmu_interval_notifier_ops none;

	expect_eq(insert(AT, PAGE, &none), -EINVAL);
}
END_TEST

START_TEST(notifier_insert_enomem)
{
	WITHOUT_MEMORY(insert(AT, PAGE, &ops));
}
END_TEST

/* ---- hmm.h ---- */

static struct uhmm_migrate_vma migrate;

static struct uhmm_hmm_range range_of(struct uhmm_mmu_interval_notifier *mni, uhmm_vaddr_t start,
				      unsigned int npages, uint64_t flags)
{
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.notifier = mni,
		.start = start,
		.end = start + npages * PAGE,
		.hmm_pfns = pfns,
		.default_flags = flags,
	};

	memset(pfns, 0, sizeof(pfns));
	if (flags & UHMM_HMM_PFN_REQ_MIGRATE) {
		migrate = (struct uhmm_migrate_vma){
			.size = sizeof(migrate),
			.src = src,
			.dst = dst,
			.pgmap_owner = f.dev[0],
			.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
		};
		range.migrate = &migrate;
	}
	return range;
}

/* Of [start, +npages): with the locked form, or with the other. */
static int range_fault_by(bool unlocked, uhmm_vaddr_t start, unsigned int npages, uint64_t flags)
{
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_hmm_range range;
	int err;

	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, start, npages * PAGE, &ops, NULL, &mni),
		  0);
	range = range_of(mni, start, npages, flags);
	if (unlocked) {
		err = uhmm_range_fault_unlocked_timeout(&range, 0);
	} else {
		range.notifier_seq = uhmm_mmu_interval_read_begin(mni);
		uhmm_mmap_read_lock(f.mm);
		err = uhmm_range_fault(&range);
		uhmm_mmap_read_unlock(f.mm);
	}
	uhmm_mmu_interval_notifier_remove(mni);
	return err;
}

static void both_forms(uhmm_vaddr_t start, unsigned int npages, uint64_t flags, int err)
{
	for (int unlocked = 0; unlocked < 2; unlocked++)
		expect_eq(range_fault_by(unlocked, start, npages, flags), err);
}

#define FAULT UHMM_HMM_PFN_REQ_FAULT
#define WRITE UHMM_HMM_PFN_REQ_WRITE
#define MIGRATE UHMM_HMM_PFN_REQ_MIGRATE

START_TEST(range_fault_efault)
{
	both_forms(AT + 7 * PAGE, 2, FAULT, -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	both_forms(AT, 1, FAULT, -EFAULT);
	both_forms(AT, 1, FAULT | MIGRATE, -EFAULT);
}
END_TEST

START_TEST(range_fault_eperm)
{
	expect_eq(uhmm_mprotect(f.mm, AT, 8 * PAGE, PROT_READ), 0);
	both_forms(AT, 1, FAULT | WRITE, -EPERM);
	both_forms(AT + 5 * PAGE, 1, FAULT | WRITE, -EPERM);
	both_forms(AT, 8, FAULT | WRITE | MIGRATE, -EPERM);
}
END_TEST

static int migrate_in_need_of_a_page(void)
{
	return mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV, AT, 1, buf, NULL);
}

START_TEST(range_fault_enomem)
{
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_hmm_range range;
	struct uhmm_mm *child;
	int err;

	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, 8 * PAGE, &ops, NULL, &mni), 0);
	range = range_of(mni, AT + 5 * PAGE, 1, FAULT | WRITE);
	WITHOUT_MEMORY(uhmm_range_fault_unlocked_timeout(&range, 0));
	/* The combined walker needs some only to copy. */
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	range = range_of(mni, AT, 1, FAULT | WRITE | MIGRATE);
	no_memory();
	err = uhmm_range_fault_unlocked_timeout(&range, 0);
	memory_again();
	expect_eq(err, -ENOMEM);
	uhmm_mmu_interval_notifier_remove(mni);
	expect_eq(migrate_in_need_of_a_page(), 0);
	uhmm_mmput(child);
}
END_TEST

START_TEST(range_fault_ebusy)
{
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_hmm_range range;

	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, 8 * PAGE, &ops, NULL, &mni), 0);
	for (int combined = 0; combined < 2; combined++) {
		range = range_of(mni, AT, 1, FAULT | (combined ? MIGRATE : 0));
		range.notifier_seq = uhmm_mmu_interval_read_begin(mni);
		put_word(f.mm, AT, 1);
		expect_eq(uhmm_madvise(f.mm, AT + 5 * PAGE, PAGE, MADV_DONTNEED), 0);
		uhmm_mmap_read_lock(f.mm);
		expect_eq(uhmm_range_fault(&range), -EBUSY);
		uhmm_mmap_read_unlock(f.mm);
	}
	uhmm_mmu_interval_notifier_remove(mni);
}
END_TEST

/* Each walk of a driver that does not tell its own invalidations apart spoils itself. */
START_TEST(range_fault_unlocked_ebusy_after_timeout)
{
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_hmm_range range;

	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL), 0);
	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT, 8 * PAGE, &ops, NULL, &mni), 0);
	range = range_of(mni, AT, 2, FAULT | MIGRATE);
	range.dev_private_owner = f.dev[0];
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 1000000), -EBUSY);
	uhmm_mmu_interval_notifier_remove(mni);
}
END_TEST

START_TEST(range_fault_einval)
{
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_hmm_range good, bad;

	expect_eq(uhmm_mmu_interval_notifier_insert(f.mm, AT - PAGE, 10 * PAGE, &ops, NULL, &mni),
		  0);
	good = range_of(mni, AT, 1, FAULT);
	uhmm_mmap_read_lock(f.mm);
#define BAD(what)                                                                                  \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.what;                                                                          \
		expect_eq(uhmm_range_fault(&bad), -EINVAL);                                        \
	} while (0)
	BAD(size = 1);
	BAD(hmm_pfns = NULL);
	BAD(notifier = NULL);
	BAD(start++);
	BAD(end--);
	BAD(end = bad.start);
	BAD(end = UHMM_TASK_SIZE + PAGE);
	BAD(default_flags = UHMM_HMM_PFN_ERROR);
	BAD(default_flags = FAULT | MIGRATE); /* without range->migrate */
	good = range_of(mni, AT, 1, FAULT | MIGRATE);
	BAD(end = AT + 9 * PAGE); /* beyond the VMA */
	BAD(start = AT - PAGE);
#undef BAD
	uhmm_mmap_read_unlock(f.mm);
	uhmm_mmu_interval_notifier_remove(mni);
}
END_TEST

/* ---- migrate.h ---- */

START_TEST(migrate_vma_setup_einval)
{
	struct uhmm_migrate_vma good = {
		.size = sizeof(good),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + 4 * PAGE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM,
	};
	uhmm_pfn_t pfn = pagemap_of(f.mm, AT) & UHMM_PM_PFN_MASK;
	struct uhmm_migrate_vma bad;

	uhmm_mmap_read_lock(f.mm);
	good.vma = uhmm_vma_lookup(f.mm, AT);
#define BAD(what)                                                                                  \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.what;                                                                          \
		expect_eq(uhmm_migrate_vma_setup(&bad), -EINVAL);                                  \
	} while (0)
	BAD(size = 1);
	BAD(vma = NULL);
	BAD(src = NULL);
	BAD(dst = NULL);
	BAD(end = bad.start);
	BAD(start = AT - PAGE);
	BAD(end = AT + 9 * PAGE);
	BAD(fault_page = pfn);
#undef BAD
	uhmm_mmap_read_unlock(f.mm);
}
END_TEST

START_TEST(migrate_vma_setup_with_fault_errors)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.src = src,
		.dst = dst,
		.start = AT,
		.end = AT + PAGE,
		.flags = UHMM_MIGRATE_VMA_SELECT_SYSTEM | UHMM_MIGRATE_VMA_FAULT_WRITE,
	};

	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), -EPERM);
	uhmm_mmap_read_unlock(f.mm);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	uhmm_mmap_read_lock(f.mm);
	args.vma = uhmm_vma_lookup(f.mm, AT);
	expect_eq(uhmm_migrate_vma_setup(&args), -EFAULT);
	uhmm_mmap_read_unlock(f.mm);
}
END_TEST

START_TEST(alloc_locked_page_enomem)
{
	uhmm_pfn_t pfn = 7;

	WITHOUT_MEMORY(uhmm_alloc_locked_page(f.m, &pfn));
	expect_eq(pfn, 7);
	expect_eq(uhmm_alloc_locked_page(f.m, &pfn), 0);
	uhmm_unlock_put_page(f.m, pfn);
}
END_TEST

/* ---- devmem.h ---- */

static int migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	(void)data;
	(void)vmf;
	return 0;
}

static void folio_free(void *data, uhmm_pfn_t pfn)
{
	(void)data;
	(void)pfn;
}

static const struct uhmm_dev_pagemap_ops pagemap_ops = {
	.folio_free = folio_free,
	.migrate_to_ram = migrate_to_ram,
};

/* The CPU does not fault on coherent memory. */
static const struct uhmm_dev_pagemap_ops no_fault_ops = {
	.folio_free = folio_free,
};

static int memremap(enum uhmm_memory_type type, uint64_t npages,
		    const struct uhmm_dev_pagemap_ops *o)
{
	struct uhmm_dev_pagemap *pgmap = UNTOUCHED;
	int err = uhmm_memremap_pages(f.m, type, npages, &f, o, NULL, &pgmap);

	if (!err)
		uhmm_memunmap_pages(pgmap);
	else
		expect(pgmap == UNTOUCHED);
	return err;
}

START_TEST(memremap_pages_einval)
{
	expect_eq(memremap(UHMM_MEMORY_DEVICE_PRIVATE, 0, &pagemap_ops), -EINVAL);
	expect_eq(memremap(UHMM_MEMORY_DEVICE_PRIVATE, 512, NULL), -EINVAL);
	expect_eq(memremap((enum uhmm_memory_type)9, 512, &pagemap_ops), -EINVAL);
	expect_eq(memremap(UHMM_MEMORY_DEVICE_PRIVATE, 512, &no_fault_ops), -EINVAL);
	expect_eq(memremap(UHMM_MEMORY_DEVICE_COHERENT, 512, &no_fault_ops), 0);
}
END_TEST

START_TEST(memremap_pages_enospc)
{
	expect_eq(memremap(UHMM_MEMORY_DEVICE_PRIVATE, 1UL << 40, &pagemap_ops), -ENOSPC);
}
END_TEST

START_TEST(memremap_pages_enomem)
{
	WITHOUT_MEMORY(memremap(UHMM_MEMORY_DEVICE_PRIVATE, 512, &pagemap_ops));
}
END_TEST

static int devmem(uint64_t size, uint64_t bytes, uint64_t chunk,
		  const struct uhmm_dev_pagemap_ops *o)
{
	struct uhmm_devmem_config config = { .size = size, .bytes = bytes, .chunk_bytes = chunk };
	struct uhmm_devmem *pool = UNTOUCHED;
	int err = uhmm_devmem_create(f.m, &config, &f, o, NULL, &pool);

	if (!err)
		uhmm_devmem_destroy(pool);
	else
		expect(pool == UNTOUCHED);
	return err;
}

START_TEST(devmem_create_einval)
{
	const size_t size = sizeof(struct uhmm_devmem_config);

	expect_eq(devmem(1, 0, 0, &pagemap_ops), -EINVAL);
	expect_eq(devmem(size, 1, 0, &pagemap_ops), -EINVAL);
	expect_eq(devmem(size, 0, PAGE, &pagemap_ops), -EINVAL);
	expect_eq(devmem(size, 0, 0, NULL), -EINVAL);
	expect_eq(devmem(size, PAGE, 0, &pagemap_ops), 0);
}
END_TEST

START_TEST(devmem_create_enomem)
{
	WITHOUT_MEMORY(devmem(sizeof(struct uhmm_devmem_config), 0, 0, &pagemap_ops));
}
END_TEST

START_TEST(devmem_alloc_folio)
{
	uhmm_pfn_t pfn = 7;

	expect_eq(uhmm_devmem_alloc_folio(uhmm_device_memory(f.dev[0]), NULL, 4, &pfn), -EINVAL);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_DEVICE, 1, 1), 0);
	expect_eq(uhmm_devmem_alloc_folio(uhmm_device_memory(f.dev[0]), NULL, UHMM_PMD_ORDER, &pfn),
		  -ENOMEM);
	expect_eq(uhmm_alloc_locked_folio(f.m, UHMM_PMD_ORDER + 1, &pfn), -EINVAL);
	expect_eq(uhmm_machine_inject(f.m, UHMM_INJECT_FRAME, 1, 1), 0);
	expect_eq(uhmm_alloc_locked_folio(f.m, UHMM_PMD_ORDER, &pfn), -ENOMEM);
	expect_eq(pfn, 7);
}
END_TEST

START_TEST(devmem_alloc_enospc_and_enomem)
{
	struct uhmm_devmem_config config = { .size = sizeof(config), .bytes = PAGE };
	struct uhmm_devmem *pool;
	uhmm_pfn_t pfn, other = 7;

	expect_eq(uhmm_devmem_create(f.m, &config, &f, &pagemap_ops, NULL, &pool), 0);
	WITHOUT_MEMORY(uhmm_devmem_alloc(pool, NULL, &other));
	expect_eq(uhmm_devmem_alloc(pool, NULL, &pfn), 0);
	expect_eq(uhmm_devmem_alloc(pool, NULL, &other), -ENOSPC);
	expect_eq(other, 7);
	uhmm_unlock_put_page(f.m, pfn);
	expect_eq(uhmm_devmem_used(pool), 0);
	uhmm_devmem_destroy(pool);
}
END_TEST

START_TEST(devmem_evict_enomem)
{
	struct uhmm_devmem *pool = uhmm_device_memory(f.dev[0]);

	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_MIGRATE_TO_DEV, AT, 4, buf, NULL), 0);
	WITHOUT_MEMORY(uhmm_devmem_evict(pool, 1));
	WITHOUT_MEMORY(uhmm_devmem_evict_all(pool, false));
	expect_eq(uhmm_devmem_used(pool), 4);
	expect_eq(uhmm_devmem_evict(pool, 1), 1);
	expect_eq(uhmm_devmem_evict_all(pool, false), 0);
}
END_TEST

/* ---- mirror.h ---- */

START_TEST(device_create_errors)
{
	struct uhmm_device_config config = { .size = 1 };
	struct uhmm_device *dev = UNTOUCHED;

	expect_eq(uhmm_device_create(f.m, &config, &dev), -EINVAL);
	config = (struct uhmm_device_config){ .size = sizeof(config),
					      .type = (enum uhmm_memory_type)9 };
	expect_eq(uhmm_device_create(f.m, &config, &dev), -EINVAL);
	config = (struct uhmm_device_config){ .size = sizeof(config), .chunk_bytes = PAGE };
	expect_eq(uhmm_device_create(f.m, &config, &dev), -EINVAL);
	WITHOUT_MEMORY(uhmm_device_create(f.m, NULL, &dev));
	expect(dev == UNTOUCHED);
}
END_TEST

START_TEST(mirror_open_enomem)
{
	struct uhmm_mirror *mirror = UNTOUCHED;

	WITHOUT_MEMORY(uhmm_mirror_open(f.dev[0], f.mm, &mirror));
	expect(mirror == UNTOUCHED);
}
END_TEST

/* An operation that must fail, and leave its outputs alone. */
static void refused(enum uhmm_mirror_op op, uhmm_vaddr_t addr, uint64_t npages, void *ptr, int err)
{
	struct uhmm_mirror_cmd cmd = {
		.addr = addr, .npages = npages, .ptr = ptr, .cpages = 77, .faults = 78
	};

	expect_eq(uhmm_mirror_ioctl(f.mirror[0], op, &cmd), err);
	expect_eq(cmd.cpages, 77);
	expect_eq(cmd.faults, 78);
}

START_TEST(ioctl_einval_arguments)
{
	static const enum uhmm_mirror_op ops_all[] = {
		UHMM_MIRROR_READ,
		UHMM_MIRROR_WRITE,
		UHMM_MIRROR_MIGRATE_TO_DEV,
		UHMM_MIRROR_MIGRATE_TO_SYS,
		UHMM_MIRROR_SNAPSHOT,
		UHMM_MIRROR_EXCLUSIVE,
		UHMM_MIRROR_CHECK_EXCLUSIVE,
		UHMM_MIRROR_RELEASE,
		UHMM_MIRROR_FLAGS,
		UHMM_MIRROR_READ_UNLOCKED,
		UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
	};

	for (unsigned int i = 0; i < sizeof(ops_all) / sizeof(ops_all[0]); i++) {
		refused(ops_all[i], AT + 1, 1, buf, -EINVAL);
		refused(ops_all[i], AT, 0, buf, -EINVAL);
		refused(ops_all[i], UINT64_MAX - PAGE + 1, 1, buf, -EINVAL);
	}
	refused((enum uhmm_mirror_op)99, AT, 1, buf, -EINVAL);
}
END_TEST

START_TEST(ioctl_einval_mm_gone)
{
	struct uhmm_mirror *mirror;
	struct uhmm_mm *mm;

	expect_eq(uhmm_mm_create(f.m, &mm), 0);
	expect_eq(uhmm_mirror_open(f.dev[0], mm, &mirror), 0);
	map_fixed(mm, AT, 1, RW);
	uhmm_mmput(mm);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, NULL), -EINVAL);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_SYS, AT, 1, NULL, NULL), -EINVAL);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_SNAPSHOT, AT, 1, buf, NULL), -EINVAL);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_EXCLUSIVE, AT, 1, buf, NULL), -EINVAL);
	/* For these two it is a page that cannot be had. */
	expect_eq(mirror_op(mirror, UHMM_MIRROR_READ, AT, 1, buf, NULL), -EFAULT);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_WRITE, AT, 1, buf, NULL), -EFAULT);
	expect_eq(uhmm_mirror_access(mirror, AT, false, NULL, UHMM_COMBINED, PAGE, NULL), -EFAULT);
	uhmm_mirror_close(mirror);
}
END_TEST

START_TEST(ioctl_einval_migration_without_readable_vma)
{
	refused(UHMM_MIRROR_MIGRATE_TO_DEV, NOWHERE, 1, buf, -EINVAL);
	refused(UHMM_MIRROR_MIGRATE_TO_SYS, NOWHERE, 1, NULL, -EINVAL);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_WRITE), 0);
	refused(UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, -EINVAL);
	refused(UHMM_MIRROR_MIGRATE_TO_SYS, AT, 1, NULL, -EINVAL);
}
END_TEST

START_TEST(ioctl_efault)
{
	refused(UHMM_MIRROR_READ, NOWHERE, 1, buf, -EFAULT);
	refused(UHMM_MIRROR_READ_UNLOCKED, NOWHERE, 1, buf, -EFAULT);
	refused(UHMM_MIRROR_WRITE, NOWHERE, 1, buf, -EFAULT);
	refused(UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, NOWHERE, 1, buf, -EFAULT);
	refused(UHMM_MIRROR_READ, AT, 1, NULL, -EFAULT);
	refused(UHMM_MIRROR_WRITE, AT, 1, NULL, -EFAULT);
	refused(UHMM_MIRROR_SNAPSHOT, AT, 1, NULL, -EFAULT);
	refused(UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, NULL, -EFAULT);
	refused(UHMM_MIRROR_EXCLUSIVE, NOWHERE, 1, buf, -EFAULT);
	refused(UHMM_MIRROR_EXCLUSIVE, AT, 1, NULL, -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	refused(UHMM_MIRROR_READ, AT, 1, buf, -EFAULT);
}
END_TEST

START_TEST(ioctl_eperm)
{
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	refused(UHMM_MIRROR_WRITE, AT, 1, buf, -EPERM);
	refused(UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV, AT, 1, buf, -EPERM);
	refused(UHMM_MIRROR_EXCLUSIVE, AT, 1, buf, -EFAULT);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_EXCLUSIVE, AT + PAGE, 1, buf, NULL), 0);
	refused(UHMM_MIRROR_CHECK_EXCLUSIVE, AT, 4, NULL, -EPERM);
	expect_eq(get_word(f.mm, AT), 1);
}
END_TEST

/* A page on another device does not move, and was never mirrored. */
START_TEST(ioctl_enoent)
{
	expect_eq(mirror_op(f.mirror[1], UHMM_MIRROR_MIGRATE_TO_DEV, AT + PAGE, 1, buf, NULL), 0);
	refused(UHMM_MIRROR_MIGRATE_TO_DEV, AT, 2, buf, -ENOENT);
	/* The other did. */
	expect_eq(uhmm_devmem_used(uhmm_device_memory(f.dev[0])), 1);
}
END_TEST

START_TEST(ioctl_enomem)
{
	no_memory();
	refused(UHMM_MIRROR_MIGRATE_TO_DEV, AT, 1, buf, -ENOMEM);
	refused(UHMM_MIRROR_MIGRATE_TO_SYS, AT, 1, NULL, -ENOMEM);
	refused(UHMM_MIRROR_SNAPSHOT, AT, 1, buf, -ENOMEM);
	refused(UHMM_MIRROR_READ, AT, 1, buf, -ENOMEM);
	refused(UHMM_MIRROR_EXCLUSIVE, AT, 1, buf, -ENOMEM);
	memory_again();
}
END_TEST

static int access_at(uhmm_vaddr_t addr, bool write, enum uhmm_strategy strategy,
		     uint64_t granularity)
{
	uint64_t word = 7;
	int err = uhmm_mirror_access(f.mirror[0], addr, write, &word, strategy, granularity, NULL);

	if (err)
		expect_eq(word, 7);
	return err;
}

START_TEST(access_einval)
{
	expect_eq(access_at(AT, false, UHMM_NR_STRATEGIES, PAGE), -EINVAL);
	expect_eq(access_at(AT, false, UHMM_COMBINED, PAGE / 2), -EINVAL);
	expect_eq(access_at(AT, false, UHMM_COMBINED, 3 * PAGE), -EINVAL);
	expect_eq(access_at(AT, false, UHMM_COMBINED, 2 * UHMM_PMD_SIZE), -EINVAL);
}
END_TEST

START_TEST(access_efault_eperm_enomem)
{
	struct uhmm_mm *child;
	enum uhmm_strategy s = (enum uhmm_strategy)_i;

	expect_eq(access_at(NOWHERE, false, s, PAGE), -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_NONE), 0);
	expect_eq(access_at(AT, false, s, 8 * PAGE), -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(access_at(AT, true, s, 8 * PAGE), -EPERM);
	expect_eq(access_at(AT, false, s, 8 * PAGE), 0);
	/* A page that must be copied. */
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	WITHOUT_MEMORY(access_at(AT + PAGE, true, s, PAGE));
	expect_eq(access_at(AT + PAGE, true, s, PAGE), 0);
	uhmm_mmput(child);
}
END_TEST

START_TEST(serve_errors)
{
	struct uhmm_mirror *mirror = f.mirror[0];

	expect_eq(uhmm_mirror_serve(mirror, AT, AT, false, UHMM_COMBINED, NULL), -EINVAL);
	expect_eq(uhmm_mirror_serve(mirror, AT + 1, AT + PAGE, false, UHMM_COMBINED, NULL),
		  -EINVAL);
	expect_eq(uhmm_mirror_serve(mirror, AT, AT + 513 * PAGE, false, UHMM_COMBINED, NULL),
		  -EINVAL);
	expect_eq(uhmm_mirror_serve(mirror, AT, AT + PAGE, false, UHMM_NR_STRATEGIES, NULL),
		  -EINVAL);
	expect_eq(uhmm_mirror_serve(mirror, NOWHERE, NOWHERE + PAGE, false, UHMM_COMBINED, NULL),
		  -EFAULT);
	expect_eq(uhmm_mprotect(f.mm, AT, PAGE, PROT_READ), 0);
	expect_eq(uhmm_mirror_serve(mirror, AT, AT + PAGE, true, UHMM_COMBINED, NULL), -EPERM);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("errors");
	TCase *tc = tcase_create("documented errors");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, devmem_alloc_folio);
	tcase_add_test(tc, notifier_insert_eoverflow);
	tcase_add_test(tc, notifier_insert_einval);
	tcase_add_test(tc, notifier_insert_enomem);
	tcase_add_test(tc, range_fault_efault);
	tcase_add_test(tc, range_fault_eperm);
	tcase_add_test(tc, range_fault_enomem);
	tcase_add_test(tc, range_fault_ebusy);
	tcase_add_test(tc, range_fault_unlocked_ebusy_after_timeout);
	tcase_add_test(tc, range_fault_einval);
	tcase_add_test(tc, migrate_vma_setup_einval);
	tcase_add_test(tc, migrate_vma_setup_with_fault_errors);
	tcase_add_test(tc, alloc_locked_page_enomem);
	tcase_add_test(tc, memremap_pages_einval);
	tcase_add_test(tc, memremap_pages_enospc);
	tcase_add_test(tc, memremap_pages_enomem);
	tcase_add_test(tc, devmem_create_einval);
	tcase_add_test(tc, devmem_create_enomem);
	tcase_add_test(tc, devmem_alloc_enospc_and_enomem);
	tcase_add_test(tc, devmem_evict_enomem);
	tcase_add_test(tc, device_create_errors);
	tcase_add_test(tc, mirror_open_enomem);
	tcase_add_test(tc, ioctl_einval_arguments);
	tcase_add_test(tc, ioctl_einval_mm_gone);
	tcase_add_test(tc, ioctl_einval_migration_without_readable_vma);
	tcase_add_test(tc, ioctl_efault);
	tcase_add_test(tc, ioctl_eperm);
	tcase_add_test(tc, ioctl_enoent);
	tcase_add_test(tc, ioctl_enomem);
	tcase_add_test(tc, access_einval);
	tcase_add_loop_test(tc, access_efault_eperm_enomem, 0, UHMM_NR_STRATEGIES);
	tcase_add_test(tc, serve_errors);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
