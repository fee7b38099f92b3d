// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The findings of docs/findings.md that need huge pages, each under its number: what Linux 7.3 does, and
 * what a mended kernel or driver would. Also M25, a bug that 7.3 does not have any more.
 */
#define _GNU_SOURCE
#include "mirror/mirror.h"
#include "mm/huge.h"
#include "unit/another.h"
#include "unit/inside.h"

enum { NR = UHMM_PTRS_PER_TABLE };
#define HUGE UHMM_PMD_SIZE
#define V UHMM_MIGRATE_PFN_VALID
#define M UHMM_MIGRATE_PFN_MIGRATE
#define C UHMM_MIGRATE_PFN_COMPOUND
#define SYSTEM UHMM_MIGRATE_VMA_SELECT_SYSTEM
#define PRIVATE UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
#define COMPOUND UHMM_MIGRATE_VMA_SELECT_COMPOUND

/* Of windows; longer than any, so that what is written too far is seen. */
static uint64_t src[4 * NR], dst[4 * NR];

static void start(struct uhmm_machine_config config, struct uhmm_device_config dev)
{
	config.nr_cpus = 2;
	fixture_create(&f, config);
	dev.size = sizeof(dev);
	for (int i = 0; i < FIXTURE_DEVICES; i++) {
		expect_eq(uhmm_device_create(f.m, &dev, &f.dev[i]), 0);
		expect_eq(uhmm_mirror_open(f.dev[i], f.mm, &f.mirror[i]), 0);
	}
}

static void setup_as_is(void)
{
	start((struct uhmm_machine_config){ .device_huge_pfn = UHMM_DEVICE_HUGE_PFN_FROM_FIRST },
	      (struct uhmm_device_config){ 0 });
}

static void setup_mended(void)
{
	start((struct uhmm_machine_config){ .fault_folio = UHMM_FAULT_FOLIO_LOOKED_UP,
					    .large_hole = UHMM_LARGE_HOLE_EACH,
					    .device_private_write = UHMM_DEVICE_WRITE_FAULTS },
	      (struct uhmm_device_config){ .order_of_each = true });
}

static void setup_kept(void)
{
	start((struct uhmm_machine_config){ .fault_folio = UHMM_FAULT_FOLIO_KEPT },
	      (struct uhmm_device_config){ 0 });
}

static void map_huge(uhmm_vaddr_t addr, unsigned int n)
{
	map_fixed(f.mm, addr, n * NR, RW);
	expect_eq(uhmm_madvise(f.mm, addr, n * HUGE, MADV_HUGEPAGE), 0);
}

static void write_pages(uhmm_vaddr_t addr, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		put_word(f.mm, addr + i * PAGE, i + 1);
}

static void expect_written(uhmm_vaddr_t addr, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i++)
		expect_eq(get_word(f.mm, addr + i * PAGE), i + 1);
}

/* With mmap_lock. */
static struct uhmm_migrate_vma collect(uhmm_vaddr_t at, uint64_t npages, uint64_t flags,
				       void *owner, uhmm_pfn_t fault_page)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.vma = uhmm_vma_lookup(f.mm, at),
		.src = src,
		.dst = dst,
		.start = at,
		.end = at + npages * PAGE,
		.pgmap_owner = owner,
		.flags = flags,
		.fault_page = fault_page,
	};

	expect_eq(uhmm_migrate_vma_setup(&args), 0);
	return args;
}

/* Device memory for what was collected, in pages or huge pages; then it moves. */
static void move_to_device(struct uhmm_migrate_vma *args, struct uhmm_devmem *pool)
{
	for (uint64_t i = 0; i < args->npages; i++) {
		unsigned int order = src[i] & C ? UHMM_PMD_ORDER : 0;
		uhmm_pfn_t pfn;

		if (!(src[i] & M))
			continue;
		expect_eq(uhmm_devmem_alloc_folio(pool, NULL, order, &pfn), 0);
		dst[i] = uhmm_migrate_pfn(pfn) | (src[i] & C);
		for (unsigned int k = 0; k < 1U << order; k++) {
			if (src[i] & V)
				uhmm_copy_highpage(f.m, pfn + k,
						   uhmm_migrate_pfn_to_pfn(src[i]) + k);
			else
				uhmm_clear_highpage(f.m, pfn + k);
		}
	}
	uhmm_migrate_vma_pages(args);
	uhmm_migrate_vma_finalize(args);
}

/* ---- F1: a write to a huge device page that is mapped read-only (suspect S5) ---- */

/* Asks for page 5 of it, to write. Returns: what was given, in RAM or not. */
static uint64_t ask_to_write_a_readonly_leaf(void)
{
	uint64_t pfn = 0;
	struct uhmm_hmm_range range = {
		.size = sizeof(range),
		.start = AT + 5 * PAGE,
		.end = AT + 6 * PAGE,
		.hmm_pfns = &pfn,
		.default_flags = UHMM_HMM_PFN_REQ_FAULT | UHMM_HMM_PFN_REQ_WRITE,
		.dev_private_owner = f.dev[0],
	};
	struct watcher w;

	map_huge(AT, 1);
	write_pages(AT, NR);
	to_device(0, AT, NR);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, RW), 0);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	watch(&w, f.mm, AT, NR);
	range.notifier = w.mni;
	expect_eq(uhmm_range_fault_unlocked_timeout(&range, 0), 0);
	unwatch(&w);
	expect_eq(uhmm_hmm_pfn_to_map_order(pfn), UHMM_PMD_ORDER);
	return pfn & (UHMM_HMM_PFN_VALID | UHMM_HMM_PFN_WRITE);
}

static int device_writes(uhmm_vaddr_t addr)
{
	uint64_t words[PAGE / 8];

	for (unsigned int i = 0; i < PAGE / 8; i++)
		words[i] = 77;
	return mirror_op(f.mirror[0], UHMM_MIRROR_WRITE, addr, 1, words, NULL);
}

START_TEST(s5_f1_huge_write_is_refused)
{
	expect_eq(ask_to_write_a_readonly_leaf(), UHMM_HMM_PFN_VALID);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	expect_eq(device_writes(AT + 5 * PAGE), -EFAULT);
	expect_eq(f.reports[UHMM_REPORT_WARN], 1);
	fixture_forget_reports(&f);
	expect_eq(get_word(f.mm, AT + 5 * PAGE), 6);
}
END_TEST

START_TEST(s5_f1_huge_write_faults)
{
	expect_eq(ask_to_write_a_readonly_leaf(), UHMM_HMM_PFN_VALID | UHMM_HMM_PFN_WRITE);
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
	expect_eq(device_writes(AT + 5 * PAGE), 0);
	expect_eq(get_word(f.mm, AT + 5 * PAGE), 77);
	expect_eq(get_word(f.mm, AT + 6 * PAGE), 7);
}
END_TEST

/* ---- F10: the folio of a fault, after it was split (suspect S2) ---- */

/* A driver that moves what its folio maps, as drm_pagemap does, and not the page of the fault alone. */
struct wide_driver {
	struct uhmm_devmem *pool;
	unsigned int faults;
	/* Of the first fault: */
	bool page_collected; /* the page that the CPU waits for */
	bool head_collected;
	bool head_was_free; /* the head's lock, while the migration relies on having it */
	bool head_released; /* somebody else had it, and does not any more */
};

static struct wide_driver driver;

static void copy_home(const struct uhmm_migrate_vma *args)
{
	for (uint64_t i = 0; i < args->npages; i++) {
		uhmm_pfn_t to;

		if (!(src[i] & M) || !(src[i] & V))
			continue;
		expect_eq(uhmm_alloc_locked_page(f.m, &to), 0);
		uhmm_copy_highpage(f.m, to, uhmm_migrate_pfn_to_pfn(src[i]));
		dst[i] = uhmm_migrate_pfn(to);
	}
}

static int wide_migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct wide_driver *d = data;
	uhmm_vaddr_t at = MAX(AT, vmf->vma->start), end = MIN(AT + HUGE, vmf->vma->end);
	struct uhmm__frame *head = pfn_to_frame(f.m, vmf->page & ~(uhmm_pfn_t)(NR - 1));
	struct uhmm_migrate_vma args =
		collect(at, (end - at) / PAGE, PRIVATE | COMPOUND, &driver, vmf->page);

	if (!d->faults++) {
		d->page_collected = src[(vmf->address - at) / PAGE] & M;
		d->head_collected = uhmm_migrate_pfn_to_pfn(src[0]) == frame_pfn(f.m, head);
		/* As another task that comes by and takes the lock, if it can. */
		d->head_was_free = d->head_collected && folio_trylock(head);
	}
	copy_home(&args);
	uhmm_migrate_vma_pages(&args);
	if (d->faults > 1 || !d->head_was_free) {
		uhmm_migrate_vma_finalize(&args);
		return 0;
	}
	folio_get(head);
	uhmm_migrate_vma_finalize(&args);
	d->head_released = !folio_test(head, PG_LOCKED);
	folio_put(f.m, head);
	return 0;
}

static const struct uhmm_dev_pagemap_ops wide_ops = { .migrate_to_ram = wide_migrate_to_ram };

/*
 * A huge page in device memory, of which the process gave one page back: the last, or the first. Then
 * a CPU reads another.
 */
static void read_page_of_a_partly_unmapped_folio(bool unmap_first)
{
	struct uhmm_devmem_config config = { .size = sizeof(config), .bytes = 2 * HUGE };
	struct uhmm_migrate_vma args;

	driver = (struct wide_driver){ 0 };
	expect_eq(uhmm_devmem_create(f.m, &config, &driver, &wide_ops, &driver, &driver.pool), 0);
	map_huge(AT, 1);
	write_pages(AT, NR);
	uhmm_mmap_read_lock(f.mm);
	args = collect(AT, NR, SYSTEM | COMPOUND, &driver, 0);
	expect_eq(args.cpages, 1);
	move_to_device(&args, driver.pool);
	uhmm_mmap_read_unlock(f.mm);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	expect_eq(uhmm_munmap(f.mm, unmap_first ? AT : AT + HUGE - PAGE, PAGE), 0);

	expect_eq(get_word(f.mm, AT + 5 * PAGE), 6);
	expect_written(AT, unmap_first, NR - !unmap_first);
	expect_eq(uhmm_devmem_used(driver.pool), 0);
	uhmm_devmem_destroy(driver.pool);
}

/* The page of the fault stays, so the CPU faults again. */
START_TEST(s2_f10_page_of_the_fault_is_left_out)
{
	read_page_of_a_partly_unmapped_folio(_i);
	expect(!driver.page_collected);
	expect_eq(driver.faults, 2);
}
END_TEST

/* And the first page of the folio moves without its lock: what others did under it is over. */
START_TEST(s2_f10_first_page_moves_unlocked)
{
	read_page_of_a_partly_unmapped_folio(false);
	expect(driver.head_collected && driver.head_was_free);
	expect(driver.head_released);
}
END_TEST

START_TEST(s2_f10_all_pages_move_locked)
{
	read_page_of_a_partly_unmapped_folio(_i);
	expect(driver.page_collected);
	expect_eq(driver.head_collected, !_i);
	expect(!driver.head_was_free);
	expect_eq(driver.faults, 1);
}
END_TEST

/* ---- F11: a hole of several huge pages (suspect S10) ---- */

/* Two, below a PMD table that is not there. Returns: cpages. */
static uint64_t populate_large_hole(uhmm_vaddr_t at)
{
	struct uhmm_migrate_vma args;

	map_huge(at, 2);
	memset(src, 0xff, sizeof(src));
	uhmm_mmap_read_lock(f.mm);
	args = collect(at, 2UL * NR, SYSTEM | COMPOUND, f.dev[0], 0);
	expect_eq(args.npages, 2 * NR);
	expect_eq(src[0], M | C);
	move_to_device(&args, uhmm_device_memory(f.dev[0]));
	uhmm_mmap_read_unlock(f.mm);
	expect(leaf_is_device_private(pmd_at(f.mm, at)));
	for (unsigned int i = 1; i < 2 * NR; i++)
		expect(i == NR || !src[i]);
	return args.cpages;
}

START_TEST(s10_f11_rest_of_a_large_hole_is_left_out)
{
	uhmm_vaddr_t at = 0x80000000UL;

	expect_eq(populate_large_hole(at), 1);
	expect_eq(src[NR], 0);
	expect(pte_none(pmd_at(f.mm, at + HUGE)));
}
END_TEST

/* It depends on what is elsewhere in the same GiB. */
START_TEST(s10_f11_not_below_a_table)
{
	uhmm_vaddr_t at = 0x80000000UL;

	map_fixed(f.mm, at + 4 * HUGE, 1, RW);
	touch(f.mm, at + 4 * HUGE);
	expect_eq(populate_large_hole(at), 2);
	expect(leaf_is_device_private(pmd_at(f.mm, at + HUGE)));
}
END_TEST

START_TEST(s10_f11_large_hole_is_collected)
{
	uhmm_vaddr_t at = 0x80000000UL;

	expect_eq(populate_large_hole(at), 2);
	expect_eq(src[NR], M | C);
	expect(leaf_is_device_private(pmd_at(f.mm, at + HUGE)));
	expect_eq(get_word(f.mm, at + HUGE + 9 * PAGE), 0);
}
END_TEST

/* ---- F12: a range that begins within a huge device page ---- */

/* What the device reads from page 100, by its own tables; they are empty, and a walk fills them. */
static uint64_t device_reads_within_its_huge_page(void)
{
	uint64_t words[PAGE / 8];

	map_huge(AT, 1);
	write_pages(AT, NR);
	to_device(0, AT, NR);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	expect(leaf_is_device_private(pmd_at(f.mm, AT)));
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT + 100 * PAGE, 1, words, NULL), 0);
	return words[0];
}

START_TEST(f12_device_reads_another_page)
{
	expect_eq(device_reads_within_its_huge_page(), 1);
}
END_TEST

START_TEST(f12_device_reads_its_page)
{
	expect_eq(device_reads_within_its_huge_page(), 101);
}
END_TEST

/* ---- F8: the order of a large folio in the test driver's way home (suspect S9, S12, S13) ---- */

/* A window that no operation has: longer than a huge page. */
static void home(uint64_t npages)
{
	struct uhmm_migrate_vma args;

	uhmm_mmap_read_lock(f.mm);
	args = collect(AT, npages, PRIVATE | COMPOUND, f.dev[0], 0);
	expect_eq(uhmm__window_to_ram(f.dev[0], f.mirror[0], &args), 0);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(f.mm);
	expect(pmd_trans_huge(pmd_at(f.mm, AT)));
}

/* A huge page, an empty page, a page. Returns: the last comes home with the first. */
static bool page_behind_a_hole_comes_home(void)
{
	bool ret;

	map_huge(AT, 2);
	write_pages(AT, 2 * NR);
	expect_eq(uhmm_madvise(f.mm, AT + HUGE, PAGE, MADV_DONTNEED), 0);
	to_device(0, AT, NR);
	to_device(0, AT + HUGE + PAGE, 1);
	home(NR + 2);
	ret = in_ram(f.mm, AT + HUGE + PAGE);
	expect_written(AT, 0, NR);
	expect_written(AT, NR + 1, 2 * NR);
	return ret;
}

START_TEST(s9_f8_order_stays)
{
	expect(!page_behind_a_hole_comes_home());
}
END_TEST

START_TEST(s9_f8_order_is_forgotten)
{
	expect(page_behind_a_hole_comes_home());
}
END_TEST

/* A huge page, a huge hole, a huge page. Returns: faults of the device on the last, once it is home. */
static uint64_t faults_behind_a_huge_hole(void)
{
	struct uhmm_mirror_cmd cmd;
	uint64_t words[PAGE / 8];

	map_huge(AT, 3);
	write_pages(AT, NR);
	write_pages(AT + 2 * HUGE, NR);
	to_device(0, AT, NR);
	to_device(0, AT + 2 * HUGE, NR);
	home(3UL * NR);
	expect(pmd_trans_huge(pmd_at(f.mm, AT + 2 * HUGE)));
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT + 2 * HUGE + PAGE, 1, words, &cmd),
		  0);
	/* The checked library tells of the page that was freed. */
	fixture_forget_reports(&f);
	return cmd.faults;
}

/* Entries of other pages are erased, so the mirror keeps pages that are freed. */
START_TEST(s9_f8_order_stays_and_mirror_goes_stale)
{
	expect_eq(faults_behind_a_huge_hole(), 0);
}
END_TEST

START_TEST(s9_f8_order_is_forgotten_and_mirror_is_right)
{
	expect_eq(faults_behind_a_huge_hole(), 1);
}
END_TEST

/* ---- what the kernel died of when the vectors were recorded, and the model must not ---- */

static void expect_read(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int n, bool written)
{
	for (unsigned int i = 0; i < n; i++)
		expect_eq(get_word(mm, addr + i * PAGE), written ? i + 1 : 0);
}

/* F13, S11: a huge page that is shared after fork goes to a device that CPUs see. */
START_TEST(s11_f13_shared_huge_page_to_coherent_memory)
{
	struct uhmm_device_config config = { .size = sizeof(config),
					     .type = UHMM_MEMORY_DEVICE_COHERENT };
	static uint64_t buf[2 * HUGE / 8];
	struct uhmm_mirror *mirror;
	struct uhmm_device *dev;
	struct uhmm_mm *child;

	map_huge(AT, 2);
	write_pages(AT + HUGE, NR);
	expect_eq(uhmm_mm_fork(f.mm, &child), 0);
	expect_eq(uhmm_device_create(f.m, &config, &dev), 0);
	expect_eq(uhmm_mirror_open(dev, child, &mirror), 0);
	expect_eq(uhmm_madvise(child, AT, HUGE, MADV_DONTNEED), 0);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_WRITE, AT, NR, buf, NULL), 0);
	expect_eq(mirror_op(mirror, UHMM_MIRROR_MIGRATE_TO_DEV, AT, 2UL * NR, buf, NULL), 0);
	expect_eq(uhmm_devmem_used(uhmm_device_memory(dev)), 2 * NR);
	fixture_verify(&f);
	expect_read(child, AT, NR, false);
	expect_read(child, AT + HUGE, NR, true);
	expect_read(f.mm, AT + HUGE, NR, true);
	uhmm_mirror_close(mirror);
	uhmm_device_destroy(dev);
	uhmm_mmput(child);
}
END_TEST

/* F8, S12: the device faults on a page of its own. */
START_TEST(s12_f8_device_fault_on_its_own_page)
{
	uint64_t buf[PAGE / 8];

	for (unsigned int i = 0; i < PAGE / 8; i++)
		buf[i] = 7;
	map_fixed(f.mm, AT, 1, RW);
	to_device(0, AT, 1);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_WRITE, AT, 1, buf, NULL), 0);
	expect(on_device(f.mm, AT));
	expect_eq(get_word(f.mm, AT), 7);
}
END_TEST

/* F8, S13: an invalidation of a full table of the mirror comes to an end. */
START_TEST(s13_f8_invalidation_ends)
{
	static uint64_t buf[HUGE / 8];

	map_fixed(f.mm, AT, NR, RW);
	to_device(0, AT, NR);
	expect_eq(uhmm_mprotect(f.mm, AT, HUGE, PROT_READ), 0);
	expect_eq(uhmm_mprotect(f.mm, AT + 200 * PAGE, 2 * PAGE, RW), 0);
	expect_eq(mirror_op(f.mirror[0], UHMM_MIRROR_READ, AT, NR, buf, NULL), 0);
	expect_eq(get_word(f.mm, AT + 0x89 * PAGE), 0);
}
END_TEST

/* ---- M25: collecting goes on where it stopped for a split ---- */

START_TEST(m25_goes_on_after_the_split)
{
	struct uhmm_migrate_vma args;
	uhmm_pfn_t pfns[16];

	map_huge(AT, 1);
	write_pages(AT, NR);
	/* An ordinary page, and behind it the rest of the large folio. */
	expect_eq(uhmm_madvise(f.mm, AT, PAGE, MADV_DONTNEED), 0);
	write_pages(AT, 1);
	expect_eq(folio_order(frame_at(f.mm, AT)), 0);
	expect_eq(folio_order(page_folio(frame_at(f.mm, AT + PAGE))), UHMM_PMD_ORDER);
	for (unsigned int i = 0; i < 16; i++)
		pfns[i] = pfn_at(f.mm, AT + i * PAGE);

	memset(src, 0xff, sizeof(src));
	uhmm_mmap_read_lock(f.mm);
	args = collect(AT, 16, SYSTEM | COMPOUND, f.dev[0], 0);
	/* Walked twice, the first page's migration entry counts as a page more, with nothing in it. */
	expect_eq(args.npages, 16);
	expect_eq(args.cpages, 16);
	expect_eq(args.end, AT + 16 * PAGE);
	expect_eq(src[16], ~0UL);
	for (unsigned int i = 0; i < 16; i++)
		expect_eq(src[i], uhmm_migrate_pfn(pfns[i]) | V | M | UHMM_MIGRATE_PFN_WRITE);
	move_to_device(&args, uhmm_device_memory(f.dev[0]));
	uhmm_mmap_read_unlock(f.mm);
	for (unsigned int i = 0; i < 16; i++)
		expect(on_device(f.mm, AT + i * PAGE));
	expect_written(AT, 0, NR);
}
END_TEST

/* ---- F19: the page table goes while a large folio is split ---- */

enum gone { GONE, GONE_AND_HUGE_PAGE, GONE_KINDS };

struct zapper {
	struct uhmm_mm *child;
	struct uhmm_task *task;
	enum gone kind;
	unsigned int zaps;
	bool huge; /* there is a huge page in place of the table */
};

/* The child gives everything up while the folio is being unmapped in the parent, to be split. */
static bool zap_child(struct uhmm_mmu_interval_notifier *mni,
		      const struct uhmm_mmu_notifier_range *range, unsigned long seq)
{
	struct zapper *z = uhmm_mmu_interval_data(mni);
	struct uhmm_task *before;

	uhmm_mmu_interval_set_seq(mni, seq);
	if (range->event != UHMM_MMU_NOTIFY_CLEAR || z->zaps++)
		return true;
	before = become(z->task);
	expect_eq(uhmm_madvise(z->child, AT, HUGE, MADV_DONTNEED), 0);
	for (unsigned int i = 0; z->kind == GONE_AND_HUGE_PAGE && i < NR; i++)
		put_word(z->child, AT + i * PAGE, 9);
	z->huge = pmd_is_leaf(pmd_at(f.mm, AT));
	become(before);
	return true;
}

/* The child has a first page of its own, and behind it PTEs of a huge page that it shares. */
START_TEST(f19_table_goes_during_a_split)
{
	static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = zap_child };
	struct uhmm_mmu_interval_notifier *mni;
	struct zapper z = { .task = another_task(f.m), .kind = (enum gone)_i };
	struct uhmm_mm *parent = f.mm;
	struct uhmm_migrate_vma args;

	map_huge(AT, 1);
	write_pages(AT, NR);
	expect_eq(uhmm_mm_fork(parent, &z.child), 0);
	expect_eq(uhmm_madvise(z.child, AT, PAGE, MADV_DONTNEED), 0);
	put_word(z.child, AT, 7);
	expect_eq(uhmm_mmu_interval_notifier_insert(parent, AT, HUGE, &ops, &z, &mni), 0);
	memset(src, 0xff, sizeof(src));
	memset(dst, 0xff, sizeof(dst));
	uhmm_mmap_read_lock(z.child);
	f.mm = z.child;
	args = collect(AT, NR, SYSTEM | COMPOUND, NULL, 0);
	f.mm = parent;
	expect(z.zaps);
	expect_eq(z.huge, z.kind == GONE_AND_HUGE_PAGE);
	expect_eq(args.npages, NR);
	expect_eq(args.end, AT + HUGE);
	expect_eq(src[NR], ~0UL);
	expect_eq(dst[NR], ~0UL);
	for (unsigned int i = 1; i < NR; i++)
		expect_eq(src[i] & (V | M | C), z.kind == GONE ? M : V | M);
	uhmm_migrate_vma_pages(&args);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(z.child);
	uhmm_mmu_interval_notifier_remove(mni);
	expect_eq(get_word(z.child, AT), z.kind == GONE ? 0 : 9);
	expect_written(AT, 0, NR);
	fixture_verify(&f);
	uhmm_mmput(z.child);
	uhmm_task_destroy(z.task);
}
END_TEST

/* The same of a huge page that is split to be collected in pages: what is left is a hole (7.3, too). */
START_TEST(leaf_goes_during_a_split)
{
	static const struct uhmm_mmu_interval_notifier_ops ops = { .invalidate = zap_child };
	struct uhmm_mmu_interval_notifier *mni;
	struct zapper z = { .task = another_task(f.m), .kind = GONE };
	struct uhmm_mm *parent = f.mm;
	struct uhmm_migrate_vma args;

	map_huge(AT, 1);
	write_pages(AT, NR);
	expect_eq(uhmm_mm_fork(parent, &z.child), 0);
	expect_eq(uhmm_mmu_interval_notifier_insert(parent, AT, HUGE, &ops, &z, &mni), 0);
	memset(src, 0xff, sizeof(src));
	uhmm_mmap_read_lock(z.child);
	f.mm = z.child;
	args = collect(AT, NR, SYSTEM, NULL, 0);
	expect(z.zaps);
	expect(pte_none(pmd_at(f.mm, AT)));
	f.mm = parent;
	expect_eq(args.cpages, NR);
	for (unsigned int i = 0; i < NR; i++)
		expect_eq(src[i], M);
	uhmm_migrate_vma_finalize(&args);
	uhmm_mmap_read_unlock(z.child);
	uhmm_mmu_interval_notifier_remove(mni);
	expect_written(AT, 0, NR);
	fixture_verify(&f);
	uhmm_mmput(z.child);
	uhmm_task_destroy(z.task);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("findings_huge");
	TCase *tc = tcase_create("as 7.3");

	tcase_add_checked_fixture(tc, setup_as_is, teardown_fixture);
	tcase_add_test(tc, s5_f1_huge_write_is_refused);
	tcase_add_loop_test(tc, s2_f10_page_of_the_fault_is_left_out, 0, 2);
	tcase_add_test(tc, s2_f10_first_page_moves_unlocked);
	tcase_add_test(tc, s10_f11_rest_of_a_large_hole_is_left_out);
	tcase_add_test(tc, s10_f11_not_below_a_table);
	tcase_add_test(tc, s11_f13_shared_huge_page_to_coherent_memory);
	tcase_add_test(tc, s12_f8_device_fault_on_its_own_page);
	tcase_add_test(tc, s13_f8_invalidation_ends);
	tcase_add_test(tc, f12_device_reads_another_page);
	tcase_add_test(tc, s9_f8_order_stays);
	tcase_add_test(tc, s9_f8_order_stays_and_mirror_goes_stale);
	tcase_add_test(tc, m25_goes_on_after_the_split);
	tcase_add_loop_test(tc, f19_table_goes_during_a_split, 0, GONE_KINDS);
	tcase_add_test(tc, leaf_goes_during_a_split);
	suite_add_tcase(s, tc);
	tc = tcase_create("mended");
	tcase_add_checked_fixture(tc, setup_mended, teardown_fixture);
	tcase_add_test(tc, s5_f1_huge_write_faults);
	tcase_add_loop_test(tc, s2_f10_all_pages_move_locked, 0, 2);
	tcase_add_test(tc, s10_f11_large_hole_is_collected);
	tcase_add_test(tc, s10_f11_not_below_a_table);
	tcase_add_test(tc, s11_f13_shared_huge_page_to_coherent_memory);
	tcase_add_test(tc, s12_f8_device_fault_on_its_own_page);
	tcase_add_test(tc, s13_f8_invalidation_ends);
	tcase_add_test(tc, f12_device_reads_its_page);
	tcase_add_test(tc, s9_f8_order_is_forgotten);
	tcase_add_test(tc, s9_f8_order_is_forgotten_and_mirror_is_right);
	tcase_add_test(tc, m25_goes_on_after_the_split);
	suite_add_tcase(s, tc);
	tc = tcase_create("kept");
	tcase_add_checked_fixture(tc, setup_kept, teardown_fixture);
	tcase_add_loop_test(tc, s2_f10_all_pages_move_locked, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return run_suite(suite());
}
