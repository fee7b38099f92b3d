// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reverse map: from a folio to the entries that map it, and the migration entries that stand for
 * mappings meanwhile. Models: the second part of mm/rmap.c, mm/page_vma_mapped.c and
 * mm/migrate.c:remove_migration_ptes().
 */
#include "mm/huge.h"
#include "mm/remap.h"

/*
 * The root of an anon_vma in use does not change while its lock is held, so a lock that is held may
 * serve for the next folio of the same family.
 */
uhmm_always_inline bool rmap_is_locked(struct uhmm__anon_vma *av, struct uhmm__anon_vma *held)
{
	return held && load_acquire(&av->root) == held;
}

/* The lock of the family of @av, for reading. */
uhmm_always_inline void rmap_lock(struct uhmm__anon_vma *av, struct uhmm__anon_vma **held)
{
	if (rmap_is_locked(av, *held))
		return;
	rmap_release(held);
	*held = anon_vma_lock_read(av);
}

/* Where the first page of a folio that a VMA covers would be in it. Models: vma_address(). */
static uhmm_vaddr_t first_address(const struct uhmm_vma *vma, uint64_t pgoff)
{
	return pgoff < vma->anon_pgoff ? vma->start : vma_anon_address(vma, pgoff);
}

/* Models: rmap_walk_file(). Context: folio locked, so that it stays in its file. */
static void rmap_walk_file(struct uhmm__frame *f, uhmm__rmap_one_fn *one, void *arg)
{
	struct uhmm__mapping *mapping = folio_mapping(f);
	uint64_t pgoff = load_relaxed(&f->index);
	struct uhmm__itree_node *node;

	uhmm__count(UHMM_CNT_RMAP_WALKS);
	if (!mapping)
		return;
	uhmm__down_read(&mapping->i_mmap_rwsem);
	uhmm__itree_for_each(node, &mapping->i_mmap, pgoff, pgoff) {
		struct uhmm_vma *vma = container_of(node, struct uhmm_vma, i_mmap_node);

		uhmm__count(UHMM_CNT_RMAP_STEPS);
		if (!one(vma, vma_address(vma, pgoff), f, arg))
			break;
		uhmm__cond_resched();
	}
	uhmm__up_read(&mapping->i_mmap_rwsem);
}

static void rmap_walk(struct uhmm__frame *f, uhmm__rmap_one_fn *one, void *arg,
		      struct uhmm__anon_vma **held)
{
	struct uhmm__anon_vma *av = folio_anon_vma(f), *own = NULL;
	uint64_t pgoff = load_relaxed(&f->index);
	uint64_t last = pgoff + folio_nr_pages(f) - 1;
	struct uhmm__itree_node *node;

	if (unlikely(!av)) {
		/* A file's lock comes before an anon_vma's. */
		if (held)
			rmap_release(held);
		rmap_walk_file(f, one, arg);
		return;
	}
	uhmm__count(UHMM_CNT_RMAP_WALKS);
	rmap_lock(av, held ? held : &own);
	uhmm__itree_for_each(node, &av->tree, pgoff, last) {
		struct uhmm__anon_vma_chain *c =
			container_of(node, struct uhmm__anon_vma_chain, node);

		uhmm__count(UHMM_CNT_RMAP_STEPS);
		if (!one(c->vma, first_address(c->vma, pgoff), f, arg))
			break;
		uhmm__cond_resched();
	}
	rmap_release(&own);
}

void uhmm__rmap_walk(struct uhmm__frame *f, uhmm__rmap_one_fn *one, void *arg)
{
	rmap_walk(f, one, arg, NULL);
}

bool uhmm__rmap_take(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
		     uhmm__take_fn *take)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		vma->mm, UHMM_MMU_NOTIFY_CLEAR, addr, addr + UHMM_PAGE_SIZE, NULL);
	struct uhmm__spinlock *ptl;
	bool ok = true, put = false;
	ptent_t *ptep;
	pte_t pte;

	uhmm__invalidate_start(&range);
	ptep = uhmm__rmap_map_lock(vma->mm, addr, &ptl);
	if (ptep) {
		pte = ptep_get(ptep);
		if (entry_maps(pte, frame_pfn(m, f)))
			put = ok = take(vma, addr, ptep, pte, f);
		uhmm__pte_unmap_unlock(ptep, ptl);
	}
	uhmm__invalidate_end(&range);
	/* Not the last: the caller has one. */
	if (put)
		folio_put(m, f);
	return ok && folio_mapped(f);
}

/* Models: try_to_migrate_one() for a folio of one page. */
static bool take_for_migration(struct uhmm_vma *vma, uhmm_vaddr_t addr, ptent_t *ptep, pte_t pte,
			       struct uhmm__frame *f)
{
	bool flush = false;
	bool ok = install_migration_entry(vma, addr, ptep, pte, f, f, &flush);

	if (flush)
		uhmm__flush_tlb_page(&vma->mm->pgt, addr);
	if (ok)
		folio_remove_rmap_locked(f);
	return ok;
}

/* Where the part of a folio ends that a VMA covers. */
static uhmm_vaddr_t folio_end_address(const struct uhmm_vma *vma, struct uhmm__frame *f)
{
	uhmm_vaddr_t end = vma_anon_address(vma, load_relaxed(&f->index) + folio_nr_pages(f));

	return MIN(end, vma->end);
}

/* Entries that were replaced, one behind the other, and no other, as if each were flushed by itself. */
static void flush_replaced(struct uhmm_vma *vma, uhmm_vaddr_t start, uhmm_vaddr_t end, bool *flush)
{
	if (*flush)
		uhmm__flush_tlb_range(&vma->mm->pgt, start, end);
	*flush = false;
}

/* The entries of one table that map pages of a large folio. False: one may be pinned. */
static bool migrate_ptes(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t addr, uhmm_vaddr_t end,
			 struct uhmm__frame *f)
{
	uint64_t n = vma_anon_pgoff(vma, addr) - load_relaxed(&f->index), put = 0;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__spinlock *ptl;
	ptent_t *start = uhmm__pte_offset_map_lock(pmdp, addr, &ptl), *ptep = start;
	bool ok = true, flush = false;
	uhmm_vaddr_t first = addr;

	if (!start)
		return true;
	for (; addr < end && ok; addr += UHMM_PAGE_SIZE, ptep++, n++) {
		pte_t pte = ptep_get(ptep);

		if (!entry_maps(pte, frame_pfn(m, &f[n]))) {
			flush_replaced(vma, first, addr, &flush);
			first = addr + UHMM_PAGE_SIZE;
			continue;
		}
		ok = install_migration_entry(vma, addr, ptep, pte, &f[n], f, &flush);
		if (ok) {
			folio_remove_rmap(&f[n], vma->mm);
			put++;
		}
	}
	flush_replaced(vma, first, addr, &flush);
	uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
	uhmm__pte_unmap_unlock(start, ptl);
	/* Not the last: the caller has one. */
	if (put)
		atomic_fetch_sub_explicit(&f->refcount, put, memory_order_acq_rel);
	return ok;
}

/* A PMD entry that may map the folio. *@ok: false if it may be pinned. True: it is a leaf still. */
static bool migrate_pmd(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t haddr,
			struct uhmm__frame *f, bool split, bool *ok)
{
	struct uhmm__spinlock *ptl = uhmm__pmd_leaf_lock(pmdp);
	pte_t pmd;

	if (!ptl)
		return false;
	pmd = ptep_get(pmdp);
	if (!leaf_is_migration(pmd) && pmd_folio(vma->mm->machine, pmd) == f) {
		if (split)
			uhmm__split_huge_pmd_locked(vma, pmdp, haddr, true);
		else
			*ok = uhmm__set_pmd_migration_entry(vma, haddr, pmdp);
	} else {
		split = false;
	}
	uhmm__spin_unlock(ptl);
	return !split;
}

/* Models: try_to_migrate_one() for a large folio. @split: leaves become tables. */
static uhmm_noinline bool try_to_migrate_large(struct uhmm_vma *vma, uhmm_vaddr_t addr,
					       struct uhmm__frame *f, bool split)
{
	uhmm_vaddr_t end = folio_end_address(vma, f), next;
	struct uhmm_mmu_notifier_range range =
		UHMM__NOTIFIER_RANGE(vma->mm, UHMM_MMU_NOTIFY_CLEAR, addr, end, NULL);
	bool ok = true;

	uhmm__invalidate_start(&range);
	for (; addr < end && ok; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);

		next = level_addr_end(addr, end, 2);
		if (!pmdp)
			continue;
		if (pmd_is_leaf(pmdp_get(pmdp)) && migrate_pmd(vma, pmdp, addr, f, split, &ok))
			continue;
		ok = migrate_ptes(vma, pmdp, addr, next, f);
	}
	uhmm__invalidate_end(&range);
	return ok && folio_mapped(f);
}

static bool try_to_migrate_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
			       void *arg)
{
	const bool *split = arg;

	if (unlikely(folio_test_large(f)))
		return try_to_migrate_large(vma, addr, f, *split);
	return uhmm__rmap_take(vma, addr, f, take_for_migration);
}

void uhmm__try_to_migrate(struct uhmm__frame *f)
{
	bool split = false;

	rmap_walk(f, try_to_migrate_one, &split, NULL);
}

void uhmm__try_to_migrate_split(struct uhmm__frame *f, struct uhmm__anon_vma **held)
{
	bool split = true;

	rmap_walk(f, try_to_migrate_one, &split, held);
}

/* A PMD migration entry of the folio becomes a table of migration entries. */
static bool split_migration_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
				void *arg)
{
	ptent_t *pmdp = pmd_leaf_offset(&vma->mm->pgt, addr);
	struct uhmm__spinlock *ptl = pmdp ? uhmm__pmd_leaf_lock(pmdp) : NULL;
	pte_t pmd;

	(void)arg;
	if (!ptl)
		return true;
	pmd = ptep_get(pmdp);
	if (leaf_is_migration(pmd) && pmd_folio(vma->mm->machine, pmd) == f)
		uhmm__split_huge_pmd_locked(vma, pmdp, addr & UHMM_PMD_MASK, false);
	uhmm__spin_unlock(ptl);
	return true;
}

void uhmm__split_pmd_migration_entries(struct uhmm__frame *f)
{
	rmap_walk(f, split_migration_one, NULL, NULL);
}

static bool take_for_poison(struct uhmm_vma *vma, uhmm_vaddr_t addr, ptent_t *ptep,
			    pte_t pte uhmm_unused, struct uhmm__frame *f)
{
	uhmm__ptep_clear_flush(&vma->mm->pgt, addr, ptep);
	set_pte(ptep, leaf_make(LEAF_HWPOISON, frame_pfn(vma->mm->machine, f)));
	folio_remove_rmap(f, vma->mm);
	return true;
}

static bool unmap_poisoned_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
			       void *arg uhmm_unused)
{
	return uhmm__rmap_take(vma, addr, f, take_for_poison);
}

void uhmm__unmap_poisoned(struct uhmm__frame *f)
{
	rmap_walk(f, unmap_poisoned_one, NULL, NULL);
}

/* What becomes of migration entries. Passed by value, so that it stays in registers. */
struct remove_arg {
	struct uhmm_machine *machine;
	uhmm_pfn_t old;
	struct uhmm__frame *dst;
	bool zero_page; /* map a page of zeroes by the zero page: the folio was just split */
};

/*
 * Huge pages are often used in part. Models: try_to_map_unused_to_zeropage(). Context: PTL. True:
 * the zero page is mapped instead.
 */
static uhmm_noinline bool map_unused_to_zeropage(struct remove_arg a, struct uhmm_vma *vma,
						 ptent_t *ptep, pte_t swp)
{
	struct uhmm_machine *m = a.machine;
	pte_t pte;

	if (vma->flags & UHMM_VM_LOCKED || folio_test(a.dst, PG_HWPOISON) ||
	    !uhmm__same_content(m, a.old, m, m->zero_pfn))
		return false;
	pte = pte_mk(m->zero_pfn, READ_ONCE(vma->page_prot));
	if (swp.val & LEAF_SOFT_DIRTY)
		pte = pte_set(pte, PTE_SOFT_DIRTY);
	if (swp.val & LEAF_UFFD_WP)
		pte = pte_set(pte, PTE_UFFD_WP);
	set_pte(ptep, pte);
	return true;
}

/* One entry that stands for @page, of the destination. Context: PTL. */
static void remove_migration_pte(struct remove_arg a, struct uhmm_vma *vma, ptent_t *ptep,
				 pte_t swp, struct uhmm__frame *page)
{
	uint32_t flags = load_relaxed(&a.dst->flags);
	uhmm_pfn_t pfn = frame_pfn(a.machine, page);
	bool anon = folio_test_anon(a.dst);

	if (unlikely(a.zero_page) && map_unused_to_zeropage(a, vma, ptep, swp))
		return;
	if (!flags_order(flags)) {
		restore_pte(vma, ptep, swp, pfn, page, flags, anon);
		return;
	}
	folio_get(a.dst);
	folio_add_anon_rmap(page, vma->mm, anon && leaf_type(swp) != LEAF_MIGRATION_READ);
	set_pte(ptep, mapping_of(vma, swp, pfn, flags));
}

/* Models: remove_migration_pte() for a large folio. */
static void remove_large(struct remove_arg a, struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	uhmm_vaddr_t end = folio_end_address(vma, a.dst), next;
	uint64_t n = folio_nr_pages(a.dst);

	for (; addr < end; addr = next) {
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level), *start, *ptep;
		struct uhmm__spinlock *ptl;

		next = level_addr_end(addr, end, 2);
		if (!pmdp)
			continue;
		if (pmd_is_leaf(pmdp_get(pmdp)) && (ptl = uhmm__pmd_leaf_lock(pmdp))) {
			pte_t pmd = ptep_get(pmdp);

			if (leaf_is_migration(pmd) && leaf_pfn(pmd) == a.old)
				uhmm__remove_migration_pmd(vma, pmdp, a.dst);
			uhmm__spin_unlock(ptl);
			continue;
		}
		start = ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
		if (!start)
			continue;
		for (uhmm_vaddr_t at = addr; at < next; at += UHMM_PAGE_SIZE, ptep++) {
			pte_t swp = ptep_get(ptep);

			if (leaf_is_migration(swp) && leaf_pfn(swp) - a.old < n)
				remove_migration_pte(a, vma, ptep, swp,
						     a.dst + (leaf_pfn(swp) - a.old));
		}
		uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
		uhmm__pte_unmap_unlock(start, ptl);
	}
}

/* Models: remove_migration_pte(). */
static bool remove_migration_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
				 void *arg)
{
	struct remove_arg *a = arg;
	struct uhmm__spinlock *ptl;
	ptent_t *ptep;
	pte_t swp;

	if (folio_test_large(f)) {
		remove_large(*a, vma, addr);
		return true;
	}
	ptep = uhmm__rmap_map_lock(vma->mm, addr, &ptl);
	if (!ptep)
		return true;
	swp = ptep_get(ptep);
	if (leaf_is_migration(swp) && leaf_pfn(swp) == a->old)
		remove_migration_pte(*a, vma, ptep, swp, f);
	uhmm__pte_unmap_unlock(ptep, ptl);
	return true;
}

/* Folios of any kind. */
static uhmm_noinline void remove_by_walk(struct uhmm_machine *m, uhmm_pfn_t old,
					 struct uhmm__frame *dst, bool zero_page,
					 struct uhmm__anon_vma **held)
{
	struct remove_arg a = { m, old, dst, zero_page };

	rmap_walk(dst, remove_migration_one, &a, held);
}

void uhmm__remap_count(uint64_t again)
{
	uhmm__count_n(UHMM_CNT_RMAP_WALKS, again);
	uhmm__count_n(UHMM_CNT_RMAP_STEPS, again);
	uhmm__count_n(UHMM_CNT_READ_PGD, again);
	uhmm__count_n(UHMM_CNT_READ_PUD, again);
	uhmm__count_n(UHMM_CNT_READ_PMD, again);
	uhmm__count_n(UHMM_CNT_READ_PTE, again);
	uhmm__count_n(UHMM_CNT_PTL, again);
}

/*
 * A second page of the family: all around the first that lie in its table, and that no other VMA may map.
 * Returns: whether @pgoff is one of them.
 */
static bool remap_widen(struct uhmm__remap *r, const struct uhmm__itree *tree, uint64_t pgoff)
{
	struct uhmm__itree_node *node = &r->chain->node;
	uint64_t index = (uintptr_t)r->ptep % UHMM_PAGE_SIZE / sizeof(*r->ptep);
	uint64_t first = r->pgoff - MIN(index, r->pgoff - node->start);
	uint64_t last = r->pgoff + MIN(UHMM_PTRS_PER_TABLE - 1 - index, node->last - r->pgoff);

	if (uhmm__itree_first(tree, first, last) != node || uhmm__itree_next(node, first, last))
		return false;
	r->ptep -= r->pgoff - first;
	r->pgoff = first;
	r->nr = last - first + 1;
	return pgoff - first < r->nr;
}

/* One that may have several mappings, or none, or is no page of anonymous memory. */
static uhmm_noinline ptent_t *remap_by_walk(struct uhmm__remap *r, uhmm_pfn_t old,
					    struct uhmm__frame *dst)
{
	struct uhmm_machine *m = r->machine;

	uhmm__remap_unlock(r);
	remove_by_walk(m, frame_pfn(m, page_folio(pfn_to_frame(m, old))), dst, false, &r->held);
	return NULL;
}

/* The only VMA of the family that may map a page; NULL: there may be none, or several. Context: rmap lock. */
uhmm_always_inline struct uhmm__anon_vma_chain *only_chain(struct uhmm__anon_vma *av,
							   uint64_t pgoff)
{
	struct uhmm__itree_node *node = uhmm__itree_first(&av->tree, pgoff, pgoff);

	if (unlikely(!node || uhmm__itree_next(node, pgoff, pgoff)))
		return NULL;
	uhmm__task_count_course(uhmm__current(), UHMM__COURSE_RMAP_ONE);
	return container_of(node, struct uhmm__anon_vma_chain, node);
}

ptent_t *uhmm__remap_seek(struct uhmm__remap *r, uhmm_pfn_t old, struct uhmm__frame *dst)
{
	uintptr_t mapping = load_relaxed(&dst->mapping);
	struct uhmm__anon_vma *av = folio_anon_vma(dst);
	uint64_t pgoff = load_relaxed(&dst->index);
	struct uhmm_vma *vma;
	ptent_t *ptep;

	if (unlikely(!av || folio_test_large(dst)))
		return remap_by_walk(r, old, dst);
	if (r->nr && mapping == r->mapping && remap_widen(r, &av->tree, pgoff)) {
		r->again++;
		return r->ptep + (pgoff - r->pgoff);
	}
	uhmm__remap_unlock(r);
	rmap_lock(av, &r->held);
	r->chain = only_chain(av, pgoff);
	if (unlikely(!r->chain))
		return remap_by_walk(r, old, dst);
	vma = r->chain->vma;
	ptep = uhmm__rmap_map_lock(vma->mm, vma_anon_address(vma, pgoff), &r->ptl);
	if (unlikely(!ptep)) {
		uhmm__cond_resched();
		return NULL;
	}
	r->mapping = mapping;
	r->pgoff = pgoff;
	r->nr = 1;
	r->ptep = ptep;
	r->again = 0;
	return ptep;
}

/* Whatever maps it. @held, returns: the root whose lock is held, or NULL. */
static uhmm_noinline struct uhmm__anon_vma *remap_any(struct uhmm_machine *m, uhmm_pfn_t old,
						      uhmm_pfn_t new, struct uhmm__frame *dst,
						      uint32_t flags, struct uhmm__anon_vma *held)
{
	struct uhmm__remap r = { .machine = m, .held = held };

	uhmm__remap_folio(&r, old, new, dst, flags);
	uhmm__remap_unlock(&r);
	return r.held;
}

/* The same of one that no VMA, or several, may map, or that is no page of anonymous memory. */
static uhmm_noinline void remap_page_any(struct uhmm_machine *m, uhmm_pfn_t old, uhmm_pfn_t new,
					 struct uhmm__frame *dst, uint32_t flags,
					 struct uhmm__anon_vma *held)
{
	held = remap_any(m, old, new, dst, flags, held);
	if (held)
		uhmm__up_read(&held->rwsem);
}

void uhmm__remap_page(struct uhmm_machine *m, uhmm_pfn_t old, uhmm_pfn_t new,
		      struct uhmm__frame *dst, uint32_t flags)
{
	struct uhmm__anon_vma *av = folio_anon_vma(dst), *held;
	uint64_t pgoff = load_relaxed(&dst->index);
	struct uhmm__anon_vma_chain *chain;
	struct uhmm__spinlock *ptl = NULL;
	struct uhmm_vma *vma;
	ptent_t *ptep;
	pte_t swp;

	if (unlikely(!av || flags & FOLIO_ORDER_MASK)) {
		remap_page_any(m, old, new, dst, flags, NULL);
		return;
	}
	held = anon_vma_lock_read(av);
	chain = only_chain(av, pgoff);
	if (unlikely(!chain)) {
		remap_page_any(m, old, new, dst, flags, held);
		return;
	}
	vma = chain->vma;
	ptep = uhmm__rmap_map_lock(vma->mm, vma_anon_address(vma, pgoff), &ptl);
	if (likely(ptep)) {
		swp = ptep_get(ptep);
		if (likely(leaf_is_migration(swp) && leaf_pfn(swp) == old))
			restore_pte(vma, ptep, swp, new, dst, flags, true);
		uhmm__pte_unmap_unlock(ptep, ptl);
	}
	uhmm__cond_resched();
	uhmm__up_read(&held->rwsem);
}

void uhmm__remove_migration_ptes(struct uhmm_machine *m, struct uhmm__frame *old,
				 struct uhmm__frame *dst, struct uhmm__anon_vma **held)
{
	uint32_t flags = load_relaxed(&dst->flags);

	if (held)
		*held = remap_any(m, frame_pfn(m, old), frame_pfn(m, dst), dst, flags, *held);
	else
		uhmm__remap_page(m, frame_pfn(m, old), frame_pfn(m, dst), dst, flags);
}

void uhmm__remap_split_page(struct uhmm_machine *m, struct uhmm__frame *page, bool zero_page,
			    struct uhmm__anon_vma **held)
{
	remove_by_walk(m, frame_pfn(m, page), page, zero_page && !folio_is_device_private(page),
		       held);
}

struct mkclean_arg {
	uhmm_pfn_t pfn;
	unsigned int cleaned;
};

/* Models: page_mkclean_one(). */
static bool mkclean_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f uhmm_unused,
			void *arg)
{
	struct mkclean_arg *a = arg;
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		vma->mm, UHMM_MMU_NOTIFY_PROTECTION_PAGE, addr, addr + UHMM_PAGE_SIZE, NULL);
	struct uhmm__spinlock *ptl;
	ptent_t *ptep;
	pte_t pte;

	/* A private mapping has the file's page read-only, if at all. */
	if (!(READ_ONCE(vma->flags) & UHMM_VM_SHARED))
		return true;
	uhmm__invalidate_start(&range);
	ptep = uhmm__rmap_map_lock(vma->mm, addr, &ptl);
	if (ptep) {
		pte = ptep_get(ptep);
		if (pte_present(pte) && pte_pfn(pte) == a->pfn &&
		    (pte_dirty(pte) || pte_write(pte))) {
			pte = uhmm__ptep_clear_flush(&vma->mm->pgt, addr, ptep);
			set_pte(ptep, pte_clear_bits(pte, PTE_RW | PTE_DIRTY));
			a->cleaned++;
		}
		uhmm__pte_unmap_unlock(ptep, ptl);
	}
	uhmm__invalidate_end(&range);
	return true;
}

unsigned int uhmm__folio_mkclean(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct mkclean_arg a = { frame_pfn(m, f), 0 };

	if (folio_mapped(f))
		rmap_walk_file(f, mkclean_one, &a);
	return a.cleaned;
}
