/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault_page.h - a CPU's fault on a device page brings it home: what uhmm_migrate_vma_setup(), _pages() and
 * _finalize() do for one page that is a folio by itself, with all that the fault knows in registers. Inline
 * in the driver's migrate_to_ram(). What comes otherwise goes on by these.
 */
#ifndef UHMM_MIGRATE_FAULT_PAGE_H
#define UHMM_MIGRATE_FAULT_PAGE_H

#include "migrate/migrate.h"
#include "mm/lru.h"
#include "mm/migration_entry.h"
#include "mm/remap.h"

/* ---- collecting an entry, of any migration ---- */

/*
 * With trylock-spin the entry of a device page stays until the page is unmapped everywhere, as where it
 * was collected by pfn.
 */
static bool leaves_entry(const struct uhmm_machine *m, bool present)
{
	return !present && unlikely(m->config.device_private_wait == UHMM_DEVICE_WAIT_TRYLOCK_SPIN);
}

/* The part of the range under one PTE table; its entries so far. */
struct table_walk {
	uhmm_vaddr_t start, addr, end;
	struct uhmm__frame *fault_folio;
	struct uhmm__frame *split; /* a large folio in the way, with a reference */
	bool unmapped;
};

/*
 * A page whose folio @f of one page is locked: its entry becomes a migration entry, and what the mapping had is
 * the migration's. False: it may be pinned, and the entry is as it was. Context: PTL.
 */
uhmm_always_inline bool collect_locked(struct uhmm_machine *m, struct uhmm_vma *vma,
				       uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
				       struct uhmm__frame *f)
{
	if (leaves_entry(m, pte_present(pte))) {
		folio_get(f);
	} else if (likely(install_migration_entry(vma, addr, ptep, pte, f, f, NULL))) {
		folio_remove_rmap_locked(f);
	} else {
		uhmm__count(UHMM_CNT_FAIL_PINNED);
		return false;
	}
	uhmm__count(UHMM_CNT_COLLECTED);
	return true;
}

/*
 * The page of an entry that is selected. Only a trylock: the PTL is held, and so are other folios, whose
 * owners may want this one. False: not this one. Context: PTL.
 */
uhmm_always_inline bool collect_page(struct uhmm_machine *m, struct uhmm_vma *vma,
				     uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
				     struct uhmm__frame *page, struct table_walk *w)
{
	uint32_t flags;
	struct uhmm__frame *f = page_folio_flags(page, &flags);

	if (unlikely(!load_relaxed(&f->mapping)))
		return false;
	if (unlikely(flags & FOLIO_ORDER_MASK)) {
		w->split = f;
		if (f != w->fault_folio)
			folio_get(f);
		return false;
	}
	if (f != w->fault_folio && !folio_trylock(f)) {
		uhmm__count(UHMM_CNT_FAIL_LOCKED);
		return false;
	}
	if (unlikely(!collect_locked(m, vma, addr, ptep, pte, f))) {
		if (f != w->fault_folio)
			folio_unlock(m, f);
		return false;
	}
	if (pte_present(pte))
		w->unmapped = true;
	return true;
}

/* What src[] says of a device page, of this entry, that was collected. */
uhmm_always_inline uint64_t device_page_src(pte_t pte, uhmm_pfn_t pfn)
{
	return uhmm_migrate_pfn(pfn) | UHMM_MIGRATE_PFN_MIGRATE |
	       (leaf_type(pte) == LEAF_DEVICE_PRIVATE_WRITE ? UHMM_MIGRATE_PFN_WRITE : 0);
}

/* A device page that is selected. Returns what src[] says. Context: PTL. */
uhmm_always_inline uint64_t collect_device_page(struct uhmm_machine *m, struct uhmm_vma *vma,
						uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
						struct table_walk *w)
{
	if (!collect_page(m, vma, addr, ptep, pte, pfn_to_frame(m, leaf_pfn(pte)), w))
		return 0;
	return device_page_src(pte, leaf_pfn(pte));
}

/* ---- moving a page, of any migration ---- */

uhmm_always_inline void copy_place(struct uhmm__frame *dst, struct uhmm__frame *src)
{
	store_relaxed(&dst->index, load_relaxed(&src->index));
	store_release(&dst->mapping, load_relaxed(&src->mapping));
}

/* What a page takes along. */
#define CARRIED_FLAGS ((uint32_t)(BIT(PG_DIRTY) | BIT(PG_UPTODATE)))

/* Models: folio_migrate_flags(). */
uhmm_always_inline void carry_flags(struct uhmm__frame *dst, struct uhmm__frame *src)
{
	uint32_t flags = load_relaxed(&src->flags);

	atomic_fetch_or_explicit(&dst->flags, flags & CARRIED_FLAGS, memory_order_release);
	/* What MADV_FREE gave up stays given up. */
	if (unlikely(!(flags & BIT(PG_SWAPBACKED))))
		folio_clear(dst, PG_SWAPBACKED);
}

/*
 * The place of a page of anonymous memory, which is mapped nowhere, for a new one; both folios by themselves,
 * and not in the swap cache. False: the old one has references but the migration's, and the fault's if it is
 * its page (@fault).
 */
uhmm_always_inline bool move_anon_page(struct uhmm__frame *dst, struct uhmm__frame *src, bool fault)
{
	if (folio_ref_count(src) != 1U + fault)
		return false;
	copy_place(dst, src);
	carry_flags(dst, src);
	return true;
}

/* ---- the page of a fault ---- */

/* A device-private page of @vma's at @addr: by itself a folio, which the fault has locked, and refers to. */
struct fault_page {
	struct uhmm_machine *m;
	struct uhmm_vma *vma;
	uhmm_vaddr_t addr;
	uhmm_pfn_t pfn;
	struct uhmm__frame *frame; /* of @pfn */
	void *owner;		   /* of its pagemap */
};

/* Whether a page is one. Context: the fault has its folio locked. */
uhmm_always_inline bool is_fault_page(struct uhmm__frame *f)
{
	return !page_in_large(f);
}

uhmm_always_inline struct fault_page fault_page_at(struct uhmm_vma *vma, uhmm_vaddr_t addr,
						   uhmm_pfn_t pfn)
{
	struct uhmm_machine *m = vma->mm->machine;

	return (struct fault_page){
		m, vma, addr, pfn, pfn_to_frame(m, pfn), page_pgmap(m, pfn)->owner,
	};
}

/* The same as arguments. @src, @dst: of one entry each. */
uhmm_always_inline struct uhmm_migrate_vma fault_page_args(struct fault_page p, uint64_t *src,
							   uint64_t *dst)
{
	return (struct uhmm_migrate_vma){
		.size = sizeof(struct uhmm_migrate_vma),
		.vma = p.vma,
		.src = src,
		.dst = dst,
		.start = p.addr,
		.end = p.addr + UHMM_PAGE_SIZE,
		.pgmap_owner = p.owner,
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
		.fault_page = p.pfn,
	};
}

/*
 * The entry, mapped and locked; NULL: there is none, *@src says what was collected. For what
 * walk_map_lock_quick() does not find. @pmdp: (out) its PMD entry. Models: migrate_vma_collect(), without the
 * notification.
 */
ptent_t *uhmm__lock_fault_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
				ptent_t **pmdp, struct uhmm__spinlock **ptl, uint64_t *src);

/* What is collected once a large folio, not the fault's, has been split. */
uint64_t uhmm__collect_fault_split(struct uhmm_vma *vma, uhmm_vaddr_t addr, uhmm_pfn_t pfn,
				   ptent_t *pmdp, struct uhmm__frame *split);

/* What src[] says of the entry, which may be another by now. Context: mapped, and its PTL; neither any more. */
uhmm_always_inline uint64_t collect_fault_entry(struct fault_page p, ptent_t *pmdp, ptent_t *ptep,
						struct uhmm__spinlock *ptl)
{
	struct table_walk w = { .fault_folio = p.frame };
	pte_t pte = ptep_get(ptep);
	uint64_t src = 0;

	if (unlikely(!leaf_is_device_private(pte))) {
		src = pte_none(pte) && vma_is_anonymous(p.vma) ? UHMM_MIGRATE_PFN_MIGRATE : 0;
	} else if (likely(leaf_pfn(pte) == p.pfn)) {
		if (likely(load_relaxed(&p.frame->mapping)) &&
		    likely(collect_locked(p.m, p.vma, p.addr, ptep, pte, p.frame)))
			src = device_page_src(pte, p.pfn);
	} else if (page_pgmap(p.m, leaf_pfn(pte))->owner == p.owner) {
		src = collect_device_page(p.m, p.vma, p.addr, ptep, pte, &w);
	}
	uhmm__pte_unmap_unlock(ptep, ptl);
	if (likely(!w.split))
		return src;
	/* It will be looked at again. */
	uhmm__count_n(UHMM_CNT_READ_PTE, -1UL);
	return uhmm__collect_fault_split(p.vma, p.addr, p.pfn, pmdp, w.split);
}

/* Models: migrate_vma_collect(), without the notification. */
uhmm_always_inline uint64_t collect_fault_walk(struct fault_page p)
{
	struct uhmm__spinlock *ptl;
	ptent_t *pmdp, *ptep = walk_map_lock_quick(&p.vma->mm->pgt, p.addr, &pmdp, &ptl);

	if (likely(ptep)) {
		/* Before a table is mapped it is seen that there is one. */
		uhmm__count(UHMM_CNT_READ_PMD);
	} else {
		struct uhmm__spinlock *lock;
		ptent_t *dir;
		uint64_t src;

		ptep = uhmm__lock_fault_entry(p.vma, p.addr, p.pfn, &dir, &lock, &src);
		if (!ptep)
			return src;
		pmdp = dir;
		ptl = lock;
	}
	return collect_fault_entry(p, pmdp, ptep, ptl);
}

/* Models: migrate_vma_collect(). */
uhmm_always_inline uint64_t collect_fault_page(struct fault_page p)
{
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		p.vma->mm, UHMM_MMU_NOTIFY_MIGRATE, p.addr, p.addr + UHMM_PAGE_SIZE, p.owner);
	uint64_t src;

	uhmm__count(UHMM_CNT_WALKS);
	uhmm__invalidate_start(&range);
	src = collect_fault_walk(p);
	uhmm__invalidate_end(&range);
	return src;
}

/* Whether an entry of src[] says that the page was collected. */
uhmm_always_inline bool has_fault_page(struct fault_page p, uint64_t src)
{
	return likely((src & ~UHMM_MIGRATE_PFN_WRITE) ==
		      (uhmm_migrate_pfn(p.pfn) | UHMM_MIGRATE_PFN_MIGRATE));
}

/*
 * What uhmm_migrate_vma_setup() leaves in src[]; mostly, but not always, the page. Context: as that, and
 * the VMA is one that it takes. Models: migrate_vma_setup().
 */
uhmm_always_inline uint64_t fault_page_setup(struct fault_page p)
{
	uint64_t src;

	uhmm__rwsem_assert_held(&p.vma->mm->mmap_lock);
	src = collect_fault_page(p);
	if (unlikely(!has_fault_page(p, src) || uhmm__unmaps_specially(p.m)))
		return uhmm__migrate_unmap_one(p.m, src, p.pfn, false);
	uhmm__lru_add_drain(p.m);
	/* The fault's reference, the migration's, and one too many: see check_page(). */
	if (unlikely(load_relaxed(&p.frame->mapcount) || !folio_test_anon(p.frame) ||
		     folio_ref_count(p.frame) > 3))
		return uhmm__migrate_unmap_one(p.m, src, p.pfn, true);
	return src;
}

/*
 * Give its place to @new, a new page of RAM, locked. False: that did not work, and uhmm_migrate_vma_pages()
 * will say why. Models: migrate_vma_pages().
 */
uhmm_always_inline bool fault_page_move(struct fault_page p, struct uhmm__frame *new)
{
	if (unlikely(!move_anon_page(new, p.frame, true)))
		return false;
	uhmm__count(UHMM_CNT_MIGRATED_TO_RAM);
	return true;
}

/* Map @new, of @pfn, and let go of both; the fault keeps its own page. Models: migrate_vma_finalize(). */
uhmm_always_inline void fault_page_finalize(struct fault_page p, struct uhmm__frame *new,
					    uhmm_pfn_t pfn)
{
	struct uhmm__cpu *cpu = uhmm__this_cpu();

	/* As folio_add_lru(). */
	folio_get(new);
	uhmm__spin_lock(&cpu->local);
	lru_batch_add_locked(p.m, cpu, (uint32_t)pfn, false, false);
	uhmm__remap_page(p.m, p.pfn, pfn, new, load_relaxed(&new->flags));
	folio_put(p.m, p.frame);
	if (unlikely(folio_unlock_put_testzero(p.m, new)))
		uhmm__folio_free(p.m, new);
}

#endif /* UHMM_MIGRATE_FAULT_PAGE_H */
