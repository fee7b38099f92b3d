/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* inside.h - the fixture of the tests of behaviour, with a look at entries and frames. */
#ifndef TESTS_UNIT_INSIDE_H
#define TESTS_UNIT_INSIDE_H

#include "fixture.h"
#include "mm/mm.h"
#include "mm/zone_device.h"
#include "unit/another.h"

/* A boundary of 2 MiB, that is of a page table. */
#define AT 0x40200000UL

static struct fixture f;

static inline void setup_fixture(void)
{
	struct uhmm_machine_config config = { .nr_cpus = 2, .content = UHMM_CONTENT_TAG };

	fixture_create(&f, config);
	fixture_add_devices(&f, 0);
}

static inline void teardown_fixture(void)
{
	fixture_destroy(&f);
}

static inline ptent_t *ptep_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);

	if (!pmdp || pte_none(pmdp_get(pmdp)))
		return NULL;
	return &entry_table(pte_make(load_relaxed(pmdp)))->e[table_index(addr, 1)];
}

static inline pte_t pmd_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level);

	return pmdp ? pte_make(load_relaxed(pmdp)) : pte_make(0);
}

static inline pte_t pte_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	ptent_t *ptep = ptep_at(mm, addr);

	return ptep ? pte_make(load_relaxed(ptep)) : pte_make(0);
}

static inline uhmm_pfn_t pfn_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	pte_t pte = pte_at(mm, addr);

	expect(!pte_none(pte));
	return pte_present(pte) ? pte_pfn(pte) : leaf_pfn(pte);
}

static inline struct uhmm__frame *frame_at(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return pfn_to_frame(mm->machine, pfn_at(mm, addr));
}

static inline bool on_device(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	return leaf_is_device_private(pte_at(mm, addr));
}

static inline bool in_ram(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	pte_t pte = pte_at(mm, addr);

	return pte_present(pte) && pte_pfn(pte) != mm->machine->zero_pfn;
}

static inline bool is_zero_page(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	pte_t pte = pte_at(mm, addr);

	return pte_present(pte) && pte_pfn(pte) == mm->machine->zero_pfn;
}

/* Written pages: the i-th holds i + 1. */
static inline void map_written(uhmm_vaddr_t addr, unsigned int npages)
{
	map_fixed(f.mm, addr, npages, RW);
	for (unsigned int i = 0; i < npages; i++)
		put_word(f.mm, addr + i * PAGE, i + 1);
}

static inline void to_device(unsigned int dev, uhmm_vaddr_t addr, unsigned int npages)
{
	uint64_t *buf = malloc(npages * PAGE);

	expect_eq(mirror_op(f.mirror[dev], UHMM_MIRROR_MIGRATE_TO_DEV, addr, npages, buf, NULL), 0);
	free(buf);
}

/* Another task has the folio's lock, until it gives it back. */
static inline struct uhmm_task *lock_by_another(struct uhmm__frame *frame)
{
	struct uhmm_task *t = another_task(f.m), *self = become(t);

	expect(folio_trylock(frame));
	become(self);
	return t;
}

static inline void unlock_by_another(struct uhmm_task *t, struct uhmm__frame *frame)
{
	struct uhmm_task *self = become(t);

	folio_unlock(f.m, frame);
	become(self);
	uhmm_task_destroy(t);
}

/* ---- a notifier that counts ---- */

struct watcher {
	struct uhmm_mmu_interval_notifier *mni;
	unsigned int calls;
	unsigned int events[UHMM_NR_MMU_NOTIFY];
	uhmm_vaddr_t start, end; /* of the last */
	void *owner;
	void *ignore; /* MIGRATE events of this owner: the driver's own */
	bool refuse;  /* answer false */
};

static inline bool watcher_invalidate(struct uhmm_mmu_interval_notifier *mni,
				      const struct uhmm_mmu_notifier_range *range,
				      unsigned long cur_seq)
{
	struct watcher *w = uhmm_mmu_interval_data(mni);

	w->calls++;
	w->events[range->event]++;
	w->start = range->start;
	w->end = range->end;
	w->owner = range->owner;
	if (w->refuse)
		return false;
	if (range->event == UHMM_MMU_NOTIFY_MIGRATE && w->ignore && range->owner == w->ignore)
		return true;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	return true;
}

static const struct uhmm_mmu_interval_notifier_ops watcher_ops = {
	.invalidate = watcher_invalidate,
};

static inline void watch(struct watcher *w, struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages)
{
	memset(w, 0, sizeof(*w));
	expect_eq(uhmm_mmu_interval_notifier_insert(mm, start, npages * PAGE, &watcher_ops, w,
						    &w->mni),
		  0);
}

static inline void unwatch(struct watcher *w)
{
	uhmm_mmu_interval_notifier_remove(w->mni);
}

#endif /* TESTS_UNIT_INSIDE_H */
