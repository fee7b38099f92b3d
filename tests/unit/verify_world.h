/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verify_world.h - a machine with a bit of everything, for the tests of the verifier, and how they
 * damage it: break, see exactly the expected violations, mend, see none.
 */
#ifndef TESTS_UNIT_VERIFY_WORLD_H
#define TESTS_UNIT_VERIFY_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#include "mm/lru.h"
#include "mm/mm.h"
#include "mm/zone_device.h"
#include "unit/another.h"
#include "run_suite.h"

#define PAGE UHMM_PAGE_SIZE
#define RW (PROT_READ | PROT_WRITE)

/* Where things are in the first mm; all in one PMD table. */
#define MAIN 0x10000000UL    /* pages 0, 1 shared with a child, then 0 copied; 2 zero; 4.. none */
#define RDONLY 0x11000000UL  /* one page, exclusive */
#define NONE 0x12000000UL    /* one page, PROT_NONE */
#define EMPTY 0x13000000UL   /* a table without entries */
#define NEW 0x14000000UL     /* one page, in an LRU batch */
#define DEVICE 0x15000000UL  /* one page, device-private */
#define NOWHERE 0x16000000UL /* no VMA */
#define SPARE (MAIN + 5 * PAGE)

struct world {
	struct uhmm_machine *m;
	struct uhmm_task *task, *driver;
	struct uhmm_mm *mm, *child;
	struct uhmm_mmu_interval_notifier *mni;
	struct uhmm_dev_pagemap *pgmap, *idle;
	uhmm_pfn_t unregistered;
	struct uhmm__frame *frame; /* for a damage to remember */
	void *saved;
	uint64_t saved_pte;
	unsigned int nr_verify, nr_other;
	char text[8192];
};

static struct world w;

/* ---- set-up ---- */

static inline void report(void *data, enum uhmm_report_kind kind, const char *text)
{
	size_t n = strlen(w.text);

	(void)data;
	if (kind != UHMM_REPORT_VERIFY) {
		w.nr_other++;
		return;
	}
	w.nr_verify++;
	snprintf(w.text + n, sizeof(w.text) - n, "%s\n", text);
}

static inline int verify(void)
{
	int ret;

	w.nr_verify = 0;
	w.text[0] = '\0';
	ret = uhmm_machine_verify(w.m);
	ck_assert_int_ge(ret, 0);
	ck_assert_uint_eq(w.nr_verify, (unsigned int)ret);
	return ret;
}

static inline void assert_clean(const char *when)
{
	ck_assert_msg(verify() == 0, "%s: %s", when, w.text);
}

static inline void map(uhmm_vaddr_t addr, uint64_t npages)
{
	ck_assert_int_eq(uhmm_mmap(w.mm, addr, npages * PAGE, RW,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL),
			 0);
}

static inline void put8(uhmm_vaddr_t addr, uint64_t value)
{
	ck_assert_int_eq(uhmm_cpu_write(w.mm, addr, &value, sizeof(value), NULL), 0);
}

static inline void touch(uhmm_vaddr_t addr)
{
	ck_assert_int_eq(uhmm_cpu_read(w.mm, addr, NULL, 1, NULL), 0);
}

static inline ptent_t *pmd_of(uhmm_vaddr_t addr)
{
	unsigned int level;

	return uhmm__pmd_offset(&w.mm->pgt, addr, &level);
}

static inline ptent_t *pte_of(uhmm_vaddr_t addr)
{
	return &entry_table(pte_make(load_relaxed(pmd_of(addr))))->e[table_index(addr, 1)];
}

static inline pte_t pte_at(uhmm_vaddr_t addr)
{
	return pte_make(load_relaxed(pte_of(addr)));
}

static inline struct uhmm__frame *frame_of(uhmm_vaddr_t addr)
{
	pte_t pte = pte_at(addr);

	return pfn_to_frame(w.m, pte_present(pte) ? pte_pfn(pte) : leaf_pfn(pte));
}

static inline struct uhmm_vma *vma_of(uhmm_vaddr_t addr)
{
	return uhmm__vma_lookup(w.mm, addr);
}

static inline struct uhmm__anon_vma *av_of(uhmm_vaddr_t addr)
{
	return load_relaxed(&vma_of(addr)->anon_vma);
}

static inline struct uhmm__anon_vma_chain *chain_of(uhmm_vaddr_t addr)
{
	return list_first_entry(&vma_of(addr)->chain, struct uhmm__anon_vma_chain, same_vma);
}

static inline void dev_free(void *data, uhmm_pfn_t pfn)
{
	(void)data;
	(void)pfn;
}

static inline int dev_migrate(void *data, const struct uhmm_vm_fault *vmf)
{
	(void)data;
	(void)vmf;
	return UHMM_VM_FAULT_SIGBUS;
}

static const struct uhmm_dev_pagemap_ops dev_ops = { .folio_free = dev_free,
						     .migrate_to_ram = dev_migrate };

static inline struct uhmm_dev_pagemap *remap_pages(void)
{
	struct uhmm_dev_pagemap *p;

	ck_assert_int_eq(
		uhmm_memremap_pages(w.m, UHMM_MEMORY_DEVICE_PRIVATE, 1, &w, &dev_ops, NULL, &p), 0);
	return p;
}

/* What migration would do to one page, by hand. */
static inline void move_to_device(uhmm_vaddr_t addr, uhmm_pfn_t pfn)
{
	struct uhmm__frame *old = frame_of(addr), *new = pfn_to_frame(w.m, pfn);

	uhmm_zone_device_page_init(w.m, pfn);
	folio_set(new, PG_UPTODATE);
	folio_set(new, PG_ANON_EXCLUSIVE);
	store_relaxed(&new->mapping, load_relaxed(&old->mapping));
	store_relaxed(&new->index, load_relaxed(&old->index));
	store_relaxed(&new->mapcount, 1);
	uhmm__copy_page(w.m, pfn, frame_pfn(w.m, old));
	uhmm__ptep_clear_flush(&w.mm->pgt, addr, pte_of(addr));
	set_pte(pte_of(addr), leaf_make(LEAF_DEVICE_PRIVATE_WRITE, pfn));
	folio_remove_rmap(old, w.mm);
	folio_put(w.m, old);
	folio_unlock(w.m, new);
}

static inline bool invalidate(struct uhmm_mmu_interval_notifier *mni,
			      const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	(void)range;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops mni_ops = { invalidate };

static inline void setup(void)
{
	const struct uhmm_machine_config config = {
		.size = sizeof(config),
		.ram_bytes = 1UL << 30,
		.device_bytes = 1UL << 30,
		.report = report,
	};
	struct uhmm_dev_pagemap *gone;

	memset(&w, 0, sizeof(w));
	ck_assert_int_eq(uhmm_machine_create(&config, &w.m), 0);
	ck_assert_int_eq(uhmm_task_create(w.m, NULL, 0, "test", &w.task), 0);
	uhmm_task_enter(w.task);
	ck_assert_int_eq(uhmm_mm_create(w.m, &w.mm), 0);
	map(MAIN, 8);
	put8(MAIN, 1);
	put8(MAIN + PAGE, 2);
	ck_assert_int_eq(uhmm_mm_fork(w.mm, &w.child), 0);
	put8(MAIN, 3);
	touch(MAIN + 2 * PAGE);
	map(RDONLY, 1);
	put8(RDONLY, 4);
	ck_assert_int_eq(uhmm_mprotect(w.mm, RDONLY, PAGE, PROT_READ), 0);
	map(NONE, 1);
	put8(NONE, 5);
	ck_assert_int_eq(uhmm_mprotect(w.mm, NONE, PAGE, PROT_NONE), 0);
	map(EMPTY, 2);
	touch(EMPTY);
	ck_assert_int_eq(uhmm_madvise(w.mm, EMPTY, PAGE, MADV_DONTNEED), 0);
	map(DEVICE, 1);
	put8(DEVICE, 6);
	uhmm__lru_add_drain_all(w.m);
	map(NEW, 1);
	put8(NEW, 7);

	gone = remap_pages();
	w.unregistered = uhmm_pagemap_start(gone);
	uhmm_memunmap_pages(gone);
	w.pgmap = remap_pages();
	w.idle = remap_pages();
	move_to_device(DEVICE, uhmm_pagemap_start(w.pgmap));
	/* A page that the driver has just taken. */
	w.driver = another_task(w.m);
	become(w.driver);
	uhmm_zone_device_page_init(w.m, uhmm_pagemap_start(w.pgmap) + 1);
	become(w.task);
	ck_assert_int_eq(
		uhmm_mmu_interval_notifier_insert(w.mm, MAIN, PAGE, &mni_ops, NULL, &w.mni), 0);
	assert_clean("after set-up");
}

static inline void teardown(void)
{
	struct uhmm__frame *f = pfn_to_frame(w.m, uhmm_pagemap_start(w.pgmap) + 1);

	uhmm_mmu_interval_notifier_remove(w.mni);
	become(w.driver);
	folio_unlock(w.m, f);
	become(w.task);
	uhmm_task_destroy(w.driver);
	folio_put(w.m, f);
	uhmm_mmput(w.child);
	uhmm_mmput(w.mm);
	uhmm_memunmap_pages(w.pgmap);
	uhmm_memunmap_pages(w.idle);
	uhmm__lru_add_drain_all(w.m);
	assert_clean("after everything is gone");
	ck_assert_uint_eq(uhmm__frames_used(w.m), 0);
	uhmm_task_leave();
	uhmm_task_destroy(w.task);
	uhmm_machine_destroy(w.m);
}

/* ---- damages ---- */

struct damage {
	const char *name;
	void (*fn)(int d); /* 1: break, -1: mend */
	int violations;
	const char *expect[3]; /* each in some report */
};

static inline void run_damage(const struct damage *t)
{
	t->fn(1);
	ck_assert_msg(verify() == t->violations, "%s: %u violations, expected %d:\n%s", t->name,
		      w.nr_verify, t->violations, w.text);
	for (int i = 0; i < 3 && t->expect[i]; i++)
		ck_assert_msg(strstr(w.text, t->expect[i]) != NULL, "%s: no \"%s\" in:\n%s",
			      t->name, t->expect[i], w.text);
	t->fn(-1);
	assert_clean(t->name);
}

/* A damage of one statement, of @d or of its own opposite. */
#define DAMAGE(name, statement)                                                                    \
	static void name(int d)                                                                    \
	{                                                                                          \
		(void)d;                                                                           \
		statement;                                                                         \
	}

static inline void put_lock(struct uhmm__spinlock *l, int d)
{
	store_relaxed(&l->v, d > 0);
}

static inline void put_waiter(struct list_head *head, int d)
{
	static struct list_head waiter;

	if (d > 0)
		list_add(&waiter, head);
	else
		list_del(&waiter);
}

/* Replace a pointer, and put it back. */
static inline void put_ptr(void *where, void *value, int d)
{
	if (d > 0) {
		memcpy(&w.saved, where, sizeof(void *));
		memcpy(where, &value, sizeof(void *));
	} else {
		memcpy(where, &w.saved, sizeof(void *));
	}
}

static inline void flip(uhmm_vaddr_t addr, uint64_t bits)
{
	store_relaxed(pte_of(addr), load_relaxed(pte_of(addr)) ^ bits);
}

static inline void flip_flag(struct uhmm__frame *f, unsigned int bit)
{
	store_relaxed(&f->flags, load_relaxed(&f->flags) ^ (uint32_t)BIT(bit));
}

static inline void put_pte(uhmm_vaddr_t addr, pte_t pte, int d)
{
	store_relaxed(pte_of(addr), d > 0 ? pte.val : 0);
}

static inline uint64_t prot_of(uhmm_vaddr_t addr)
{
	return vma_of(addr)->page_prot;
}

#define DAMAGE_TEST(kind)                                                                          \
	START_TEST(test_##kind)                                                                    \
	{                                                                                          \
		run_damage(&kind##_damages[_i]);                                                   \
	}                                                                                          \
	END_TEST

#define ADD_DAMAGES(tc, kind) tcase_add_loop_test(tc, test_##kind, 0, ARRAY_SIZE(kind##_damages))

#endif /* TESTS_UNIT_VERIFY_WORLD_H */
