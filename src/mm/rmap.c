// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Reverse map: from a folio to the entries that map it, and the migration entries that stand for
 * mappings meanwhile. Models: the second part of mm/rmap.c, mm/page_vma_mapped.c and
 * mm/migrate.c:remove_migration_ptes().
 */
#include "mm/huge.h"
#include "mm/migration_entry.h"

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
		put += ok;
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

/* The entry that maps the destination in place of a migration entry. */
uhmm_always_inline pte_t mapping_of(struct uhmm_machine *m, struct uhmm_vma *vma, pte_t swp,
				    struct uhmm__frame *page)
{
	bool write = leaf_type(swp) == LEAF_MIGRATION_WRITE;
	uhmm_pfn_t pfn = frame_pfn(m, page);
	uint64_t offset = leaf_offset(swp);
	pte_t pte;

	if (folio_is_device_private(page)) {
		pte = leaf_make(write ? LEAF_DEVICE_PRIVATE_WRITE : LEAF_DEVICE_PRIVATE_READ, pfn);
		return pte_set(pte, swp.val & (LEAF_SOFT_DIRTY | LEAF_UFFD_WP));
	}
	pte = pte_mk(pfn, READ_ONCE(vma->page_prot));
	if (!(offset & LEAF_YOUNG))
		pte = pte_clear_bits(pte, PTE_ACCESSED);
	if ((offset & LEAF_DIRTY) && folio_test(page_folio(page), PG_DIRTY))
		pte = pte_set(pte, PTE_DIRTY);
	if (swp.val & LEAF_SOFT_DIRTY)
		pte = pte_set(pte, PTE_SOFT_DIRTY);
	if (write && (READ_ONCE(vma->flags) & UHMM_VM_WRITE))
		pte = pte_set(pte, PTE_RW);
	else if (swp.val & LEAF_UFFD_WP)
		pte = pte_set(pte, PTE_UFFD_WP);
	return pte;
}

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
uhmm_always_inline void restore_pte(struct remove_arg a, struct uhmm_vma *vma, ptent_t *ptep,
				    pte_t swp, struct uhmm__frame *page)
{
	bool exclusive = leaf_type(swp) != LEAF_MIGRATION_READ;

	if (unlikely(a.zero_page) && map_unused_to_zeropage(a, vma, ptep, swp))
		return;
	folio_get(a.dst);
	folio_add_anon_rmap_locked(page, vma->mm, exclusive && folio_test_anon(a.dst));
	set_pte(ptep, mapping_of(a.machine, vma, swp, page));
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
				restore_pte(a, vma, ptep, swp, a.dst + (leaf_pfn(swp) - a.old));
		}
		uhmm__count_n(UHMM_CNT_READ_PTE, ptep - start);
		uhmm__pte_unmap_unlock(start, ptl);
	}
}

/*
 * A table that is mapped and locked, for the 2 MiB of a VMA from @addr on: what lies side by side is
 * found at once. Its RCU section and the family's lock keep it.
 */
struct rmap_table {
	struct uhmm_vma *vma; /* NULL: none */
	uhmm_vaddr_t addr;
	ptent_t *table;
	struct uhmm__spinlock *ptl;
	uint64_t again; /* pages for which it was not looked for again */
};

uhmm_always_inline void rmap_table_unlock(struct rmap_table *t)
{
	if (unlikely(!t->vma))
		return;
	uhmm__pte_unmap_unlock(t->table, t->ptl);
	t->vma = NULL;
	if (!t->again)
		return;
	/* Linux walks page by page, and so it is counted. */
	uhmm__count_n(UHMM_CNT_READ_PGD, t->again);
	uhmm__count_n(UHMM_CNT_READ_PUD, t->again);
	uhmm__count_n(UHMM_CNT_READ_PMD, t->again);
	uhmm__count_n(UHMM_CNT_READ_PTE, t->again);
	uhmm__count_n(UHMM_CNT_PTL, t->again);
	t->again = 0;
}

/* The entry at @addr, its table mapped and locked; NULL: there is none. Context: in an rmap walk. */
uhmm_always_inline ptent_t *rmap_table_lock(struct rmap_table *t, struct uhmm_vma *vma,
					    uhmm_vaddr_t addr)
{
	ptent_t *ptep;

	if (t->vma == vma && addr - t->addr < UHMM_PMD_SIZE) {
		t->again++;
		return t->table + table_index(addr, 1);
	}
	rmap_table_unlock(t);
	ptep = uhmm__rmap_map_lock(vma->mm, addr, &t->ptl);
	if (unlikely(!ptep))
		return NULL;
	t->vma = vma;
	t->addr = addr & UHMM_PMD_MASK;
	t->table = ptep - table_index(addr, 1);
	return ptep;
}

/* A folio of one page. Models: remove_migration_pte(). */
uhmm_always_inline void remove_migration_pte(struct remove_arg a, struct uhmm_vma *vma,
					     uhmm_vaddr_t addr, struct rmap_table *t)
{
	ptent_t *ptep = rmap_table_lock(t, vma, addr);
	pte_t swp;

	if (unlikely(!ptep))
		return;
	swp = ptep_get(ptep);
	if (likely(leaf_is_migration(swp) && leaf_pfn(swp) == a.old))
		restore_pte(a, vma, ptep, swp, a.dst);
}

static bool remove_migration_one(struct uhmm_vma *vma, uhmm_vaddr_t addr, struct uhmm__frame *f,
				 void *arg)
{
	struct remove_arg *a = arg;
	struct rmap_table t = { 0 };

	if (folio_test_large(f)) {
		remove_large(*a, vma, addr);
	} else {
		remove_migration_pte(*a, vma, addr, &t);
		rmap_table_unlock(&t);
	}
	return true;
}

/* Folios of any kind. */
static uhmm_noinline void remove_by_walk(struct uhmm_machine *m, struct uhmm__frame *old,
					 struct uhmm__frame *dst, bool zero_page,
					 struct uhmm__anon_vma **held)
{
	struct remove_arg a = { m, frame_pfn(m, old), dst, zero_page };

	rmap_walk(dst, remove_migration_one, &a, held);
}

/*
 * A page of anonymous memory: rmap_walk(), all of it inline, for a migration spends much of its time
 * here. Leaves the last table locked. Context: the family's lock.
 */
uhmm_always_inline void remove_of_anon_page(struct remove_arg a, struct uhmm__anon_vma *av,
					    struct rmap_table *t)
{
	uint64_t pgoff = load_relaxed(&a.dst->index);
	struct uhmm__itree_node *node = uhmm__itree_first(&av->tree, pgoff, pgoff);

	while (node) {
		struct uhmm_vma *vma = container_of(node, struct uhmm__anon_vma_chain, node)->vma;

		uhmm__count(UHMM_CNT_RMAP_STEPS);
		remove_migration_pte(a, vma, vma_anon_address(vma, pgoff), t);
		node = uhmm__itree_next(node, pgoff, pgoff);
		if (unlikely(node)) {
			rmap_table_unlock(t);
			uhmm__cond_resched();
		}
	}
}

void uhmm__remove_migration_ptes_many(struct uhmm_machine *m, const struct uhmm__remap *remap,
				      unsigned int n, struct uhmm__anon_vma **held)
{
	const struct uhmm__remap *end = remap + n;
	struct rmap_table t = { 0 };

	for (; remap < end; remap++) {
		struct uhmm__frame *old = remap->old, *dst = remap->dst;
		struct uhmm__anon_vma *av = folio_anon_vma(dst);

		if (unlikely(!av || folio_test_large(dst))) {
			rmap_table_unlock(&t);
			remove_by_walk(m, old, dst, false, held);
			continue;
		}
		if (unlikely(!rmap_is_locked(av, *held))) {
			rmap_table_unlock(&t);
			rmap_lock(av, held);
		}
		uhmm__count(UHMM_CNT_RMAP_WALKS);
		remove_of_anon_page((struct remove_arg){ m, frame_pfn(m, old), dst, false }, av,
				    &t);
	}
	rmap_table_unlock(&t);
	uhmm__cond_resched();
}

void uhmm__remove_migration_ptes(struct uhmm_machine *m, struct uhmm__frame *old,
				 struct uhmm__frame *dst, struct uhmm__anon_vma **held)
{
	struct uhmm__remap one = { old, dst };
	struct uhmm__anon_vma *own = NULL;

	uhmm__remove_migration_ptes_many(m, &one, 1, held ? held : &own);
	rmap_release(&own);
}

void uhmm__remap_split_page(struct uhmm_machine *m, struct uhmm__frame *page, bool zero_page,
			    struct uhmm__anon_vma **held)
{
	remove_by_walk(m, page, page, zero_page && !folio_is_device_private(page), held);
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
