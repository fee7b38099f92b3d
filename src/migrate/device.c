// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The later steps of a migration: pages, finalize; and collecting device pages by pfn.
 * Models: mm/migrate_device.c from migrate_vma_insert_page() on.
 */
#include "migrate/fault_page.h"
#include "migrate/migrate.h"
#include "mm/swap.h"

#include <string.h>

#include "mm/huge.h"

/* ---- pages ---- */

/*
 * Put a destination where no page is. It is checked again under the PTL: anything may have come
 * since the collection. Models: migrate_vma_insert_page().
 */
static bool insert_page(struct uhmm_migrate_vma *mig, uhmm_vaddr_t addr, struct uhmm__frame *f)
{
	struct uhmm_vma *vma = mig->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__pgtable *pgt = &vma->mm->pgt;
	struct uhmm__spinlock *ptl;
	ptent_t *pmdp, *ptep;
	pte_t entry, old;

	if (!vma_is_anonymous(vma))
		return false;
	pmdp = uhmm__pmd_alloc(pgt, addr);
	if (pmdp && unlikely(pmd_trans_huge(pte_make(load_acquire(pmdp))))) {
		if (!is_huge_zero_pmd(m, pmdp_get(pmdp)))
			return false;
		uhmm__split_huge_pmd(vma, pmdp, addr, false);
	}
	if (!pmdp || uhmm__pte_alloc(pgt, pmdp))
		return false;
	if (unlikely(!load_acquire(&vma->anon_vma)) && uhmm__anon_vma_prepare(vma))
		return false;
	if (!folio_test(f, PG_UPTODATE))
		folio_set(f, PG_UPTODATE);
	if (folio_is_device_private(f)) {
		entry = leaf_make(vma->flags & UHMM_VM_WRITE ? LEAF_DEVICE_PRIVATE_WRITE
							     : LEAF_DEVICE_PRIVATE_READ,
				  frame_pfn(m, f));
	} else {
		entry = pte_mk(frame_pfn(m, f), vma->page_prot);
		if (vma->flags & UHMM_VM_WRITE)
			entry = pte_set(entry, PTE_RW | PTE_DIRTY);
	}
	ptep = uhmm__pte_offset_map_lock(pmdp, addr, &ptl);
	if (!ptep)
		return false;
	uhmm__count(UHMM_CNT_READ_PTE);
	old = ptep_get(ptep);
	if ((pte_present(old) ? pte_pfn(old) != m->zero_pfn : !pte_none(old)) ||
	    unlikely(vma->flags & UHMM_VM_UFFD_MISSING)) {
		uhmm__pte_unmap_unlock(ptep, ptl);
		return false;
	}
	folio_add_new_anon_rmap(f, vma, addr);
	if (!folio_is_zone_device(f))
		uhmm__folio_add_lru(m, f);
	folio_get(f);
	if (pte_present(old))
		uhmm__ptep_clear_flush(pgt, addr, ptep);
	set_pte(ptep, entry);
	uhmm__pte_unmap_unlock(ptep, ptl);
	return true;
}

/* The same for a huge page. Models: migrate_vma_insert_huge_pmd_page(). */
static bool insert_huge(struct uhmm_migrate_vma *mig, uhmm_vaddr_t addr, struct uhmm__frame *f)
{
	struct uhmm_vma *vma = mig->vma;
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__spinlock *ptl;
	struct uhmm__table *tb;
	ptent_t *pmdp;
	pte_t entry, old;

	if (!vma_is_anonymous(vma) || addr & ~UHMM_PMD_MASK || folio_order(f) != UHMM_PMD_ORDER ||
	    addr < vma->start || addr + UHMM_PMD_SIZE > vma->end)
		return false;
	pmdp = uhmm__pmd_alloc(&vma->mm->pgt, addr);
	if (!pmdp || uhmm__anon_vma_prepare(vma))
		return false;
	tb = uhmm__pte_alloc_one(&vma->mm->pgt);
	if (!tb)
		return false;
	folio_set(f, PG_UPTODATE);
	if (folio_is_device_private(f)) {
		entry = leaf_make(vma->flags & UHMM_VM_WRITE ? LEAF_DEVICE_PRIVATE_WRITE
							     : LEAF_DEVICE_PRIVATE_READ,
				  frame_pfn(m, f));
	} else {
		entry = pmd_mk(frame_pfn(m, f), vma->page_prot);
		if (vma->flags & UHMM_VM_WRITE)
			entry = pte_set(entry, PTE_RW | PTE_DIRTY);
	}
	ptl = uhmm__pmd_lock(pmdp);
	old = ptep_get(pmdp);
	if ((!pte_none(old) && !is_huge_zero_pmd(m, old)) || vma->flags & UHMM_VM_UFFD_MISSING) {
		uhmm__spin_unlock(ptl);
		uhmm__pte_free(tb);
		return false;
	}
	uhmm__folio_add_new_anon_rmap_pmd(f, vma, addr);
	if (!folio_is_zone_device(f))
		uhmm__folio_add_lru(m, f);
	folio_get(f);
	if (pte_none(old)) {
		uhmm__pgtable_deposit(pmdp, tb);
		tb = NULL;
	} else {
		ptep_get_and_clear(pmdp);
		uhmm__flush_tlb_range(&vma->mm->pgt, addr, addr + UHMM_PMD_SIZE);
	}
	set_pte(pmdp, entry);
	uhmm__spin_unlock(ptl);
	uhmm__pte_free(tb);
	return true;
}

/* A folio and the one that is to take its place, with what their flags were. */
struct pair {
	struct uhmm__frame *dst, *src;
	uint32_t dst_flags, src_flags;
};

uhmm_always_inline void count_moved(struct pair p, uint64_t n)
{
	enum uhmm_counter c = UHMM_CNT_MIGRATED_TO_RAM;

	if (p.dst_flags & FOLIO_ZONE_DEVICE)
		c = p.src_flags & FOLIO_ZONE_DEVICE ? UHMM_CNT_MIGRATED_DEVICE_DEVICE
						    : UHMM_CNT_MIGRATED_TO_DEVICE;
	uhmm__count_n(c, n);
}

/* A call of migrate_vma_pages() or migrate_device_pages(). */
struct move {
	struct uhmm_machine *m;
	uint64_t *src, *dst, npages;
	struct uhmm_migrate_vma *mig;	      /* NULL for device pages by pfn */
	uhmm_pfn_t fault_page;		      /* of @mig, or 0 */
	struct uhmm_mmu_notifier_range range; /* if @notified */
	bool notified;
};

static void refuse(struct move *mv, uint64_t i, enum uhmm_counter why)
{
	mv->src[i] &= ~UHMM_MIGRATE_PFN_MIGRATE;
	uhmm__count(why);
}

/* Nothing is at entry @i. Models: migrate_vma_insert_page(). */
static void insert_one(struct move *mv, uint64_t i)
{
	struct uhmm__frame *new = migrate_pfn_to_folio(mv->m, mv->dst[i]);
	uhmm_vaddr_t addr = mv->mig->start + (i << UHMM_PAGE_SHIFT);
	uint64_t n = UHMM_PTRS_PER_TABLE;

	if (!new) {
		refuse(mv, i, UHMM_CNT_FAIL_NO_DST);
	} else if (mv->dst[i] & UHMM_MIGRATE_PFN_COMPOUND) {
		if (insert_huge(mv->mig, addr, new)) {
			uhmm__count_n(UHMM_CNT_MIGRATED_NEW, n);
			return;
		}
		for (uint64_t k = i; k < MIN(i + n, mv->npages); k++)
			mv->src[k] &= ~UHMM_MIGRATE_PFN_MIGRATE;
		uhmm__count(UHMM_CNT_FAIL_RACED);
	} else if (insert_page(mv->mig, addr, new)) {
		mv->src[i] = UHMM_MIGRATE_PFN_MIGRATE;
		uhmm__count(UHMM_CNT_MIGRATED_NEW);
	} else {
		refuse(mv, i, UHMM_CNT_FAIL_RACED);
	}
}

/* A hole, which may be one entry for many pages. Returns: entries that are done. */
static uint64_t move_hole(struct move *mv, uint64_t i)
{
	uint64_t n = 1;

	if (!mv->mig) {
		/* Device pages by pfn have no place to put a new page at. */
		mv->src[i] &= ~UHMM_MIGRATE_PFN_MIGRATE;
		return 1;
	}
	if (!mv->notified) {
		mv->notified = true;
		mv->range = UHMM__NOTIFIER_RANGE(mv->mig->vma->mm, UHMM_MMU_NOTIFY_MIGRATE,
						 mv->mig->start + (i << UHMM_PAGE_SHIFT),
						 mv->mig->end, mv->mig->pgmap_owner);
		uhmm__invalidate_start(&mv->range);
	}
	if (mv->src[i] & UHMM_MIGRATE_PFN_COMPOUND && !(mv->dst[i] & UHMM_MIGRATE_PFN_COMPOUND)) {
		n = MIN((uint64_t)UHMM_PTRS_PER_TABLE, mv->npages - i);
		mv->src[i] &= ~UHMM_MIGRATE_PFN_COMPOUND;
	}
	for (uint64_t k = i; k < i + n; k++) {
		mv->src[k] |= UHMM_MIGRATE_PFN_MIGRATE;
		insert_one(mv, k);
	}
	return n;
}

/*
 * The destination of a large folio is in pages: so must be the source. It is unmapped already. False:
 * it stays whole. Models: migrate_vma_split_unmapped_folio(). Linux splits the PMD entry of this VMA
 * only; those of other address spaces would be left behind as migration entries of the whole folio.
 */
static uhmm_noinline bool split_unmapped(struct move *mv, uint64_t i, struct uhmm__frame *f)
{
	uint64_t n = folio_nr_pages(f), flags, pfn;

	uhmm__split_huge_pmd_address(mv->mig->vma, mv->mig->start + (i << UHMM_PAGE_SHIFT), false);
	uhmm__split_pmd_migration_entries(f);
	if (uhmm__split_folio_unmapped(mv->m, f))
		return false;
	mv->src[i] &= ~UHMM_MIGRATE_PFN_COMPOUND;
	flags = mv->src[i] & (BIT(UHMM_MIGRATE_PFN_SHIFT) - 1);
	pfn = uhmm_migrate_pfn_to_pfn(mv->src[i]);
	for (uint64_t k = 1; k < n && i + k < mv->npages; k++)
		mv->src[i + k] = uhmm_migrate_pfn(pfn + k) | flags;
	return true;
}

/* The old folio's place in anonymous memory, if there are no references but those of the caller. */
uhmm_always_inline bool take_place(struct uhmm_machine *m, struct uhmm__frame *dst,
				   struct uhmm__frame *src, uint32_t expected)
{
	if (unlikely(folio_ref_count(src) != expected) && !uhmm__only_pins_block(m, src))
		return false;
	copy_place(dst, src);
	return true;
}

/* The same of one that is in the page cache, at @mapping, or in the swap cache. */
static uhmm_noinline bool take_cached_place(struct uhmm_machine *m, struct uhmm__frame *dst,
					    struct uhmm__frame *src, struct uhmm__mapping *mapping,
					    uint32_t expected)
{
	if (mapping) {
		/* Before it can be found: one of a regular file is not swap-backed, as fresh ones are. */
		if (!folio_test(src, PG_SWAPBACKED))
			folio_clear(dst, PG_SWAPBACKED);
		return uhmm__mapping_replace(mapping, dst, src, expected + 1);
	}
	/* A device has no place in the swap cache. */
	if (folio_is_zone_device(dst))
		return uhmm__folio_free_swap(m, src) && take_place(m, dst, src, expected);
	if (!uhmm__swap_cache_replace(m, src, dst, expected + 1))
		return false;
	copy_place(dst, src);
	return true;
}

/*
 * Give the new folio the old one's place, if the caller has the only references to the old. @src: of entry
 * @i. Models: folio_migrate_mapping().
 */
uhmm_always_inline void move_folio(struct move *mv, uint64_t i, uint64_t src, struct pair p)
{
	/* Page 0 has no frame, so no page is the fault's if there was none. */
	bool fault = mv->fault_page == uhmm_migrate_pfn_to_pfn(src), ok;
	uint32_t expected = (uint32_t)folio_mapcount_flags(p.src, p.src_flags) + 1 + fault;
	struct uhmm__mapping *mapping = folio_mapping(p.src);

	if (unlikely(mapping || p.src_flags & BIT(PG_SWAPCACHE))) {
		/* A page of a file cannot go to a device: nobody would find it there. */
		if (mapping && p.dst_flags & FOLIO_ZONE_DEVICE) {
			refuse(mv, i, UHMM_CNT_FAIL_FILE);
			return;
		}
		ok = take_cached_place(mv->m, p.dst, p.src, mapping, expected);
	} else {
		ok = take_place(mv->m, p.dst, p.src, expected);
	}
	if (unlikely(!ok)) {
		refuse(mv, i, UHMM_CNT_FAIL_RACED);
		return;
	}
	carry_flags(p.dst, p.src);
	/* Without it the driver drops the new one again. */
	if (src & UHMM_MIGRATE_PFN_MIGRATE)
		count_moved(p, 1UL << flags_order(p.src_flags));
}

/* One of the two at entry @i is more than a page. False: they are not of a size. */
static uhmm_noinline bool match_sizes(struct move *mv, uint64_t i)
{
	const uint64_t both = UHMM_MIGRATE_PFN_MIGRATE | UHMM_MIGRATE_PFN_COMPOUND;
	bool large = (mv->src[i] & both) == both;

	if (mv->src[i] & UHMM_MIGRATE_PFN_MIGRATE && !large &&
	    mv->dst[i] & UHMM_MIGRATE_PFN_COMPOUND)
		return false;
	if (!large || mv->dst[i] & UHMM_MIGRATE_PFN_COMPOUND)
		return true;
	if (mv->mig && split_unmapped(mv, i, migrate_pfn_to_folio(mv->m, mv->src[i])))
		return true;
	mv->src[i] &= ~UHMM_MIGRATE_PFN_COMPOUND;
	return false;
}

/* After a split it is the folio of the first page. */
static void move_pair(struct move *mv, uint64_t i, uint64_t src, uint64_t dst)
{
	struct pair p;

	p.src = valid_pfn_to_folio(mv->m, src, &p.src_flags);
	p.dst = valid_pfn_to_folio(mv->m, dst, &p.dst_flags);
	move_folio(mv, i, src, p);
}

/* Whatever may be at entry @i. Returns: entries that are done. */
static uhmm_noinline uint64_t move_any(struct move *mv, uint64_t i)
{
	uint64_t src = mv->src[i], dst = mv->dst[i];
	bool migrate = src & UHMM_MIGRATE_PFN_MIGRATE;

	if (!(dst & UHMM_MIGRATE_PFN_VALID)) {
		if (migrate)
			refuse(mv, i, UHMM_CNT_FAIL_NO_DST);
		return 1;
	}
	if (!(src & UHMM_MIGRATE_PFN_VALID))
		return migrate ? move_hole(mv, i) : 1;
	if ((src | dst) & UHMM_MIGRATE_PFN_COMPOUND && !match_sizes(mv, i))
		refuse(mv, i, UHMM_CNT_FAIL_RACED);
	else
		move_pair(mv, i, src, dst);
	return 1;
}

/*
 * One page of anonymous memory for another, as most often, moved as move_any() would; false: it is for that
 * to look at.
 */
uhmm_always_inline bool move_plain(struct uhmm_machine *m, uint64_t src, uint64_t dst,
				   uhmm_pfn_t fault_page)
{
	const uint64_t both = UHMM_MIGRATE_PFN_VALID | UHMM_MIGRATE_PFN_MIGRATE;
	const uint64_t large = UHMM_MIGRATE_PFN_COMPOUND;
	const uint32_t odd = FOLIO_ORDER_MASK | (uint32_t)(BIT(PG_TAIL) | BIT(PG_SWAPCACHE));
	uhmm_pfn_t pfn = uhmm_migrate_pfn_to_pfn(src);
	struct pair p;

	if ((src & (both | large)) != both ||
	    (dst & (UHMM_MIGRATE_PFN_VALID | large)) != UHMM_MIGRATE_PFN_VALID)
		return false;
	p.src = pfn_to_frame(m, pfn);
	p.dst = pfn_to_frame(m, uhmm_migrate_pfn_to_pfn(dst));
	p.src_flags = load_relaxed(&p.src->flags);
	p.dst_flags = load_relaxed(&p.dst->flags);
	if ((p.src_flags | p.dst_flags) & odd || load_relaxed(&p.src->mapcount) ||
	    !folio_test_anon(p.src) || !move_anon_page(p.dst, p.src, pfn == fault_page))
		return false;
	count_moved(p, 1);
	return true;
}

/*
 * Entries from @src on, as long as each is a page of anonymous memory that goes from RAM to a device, moved as
 * move_plain() does. Returns: how many.
 */
static uhmm_noinline uint64_t move_run(struct uhmm_machine *m, const uint64_t *src,
				       const uint64_t *dst, uint64_t npages)
{
	const uint64_t both = UHMM_MIGRATE_PFN_VALID | UHMM_MIGRATE_PFN_MIGRATE;
	const uint64_t large = UHMM_MIGRATE_PFN_COMPOUND;
	const uint32_t odd = FOLIO_ORDER_MASK | (uint32_t)(BIT(PG_TAIL) | BIT(PG_SWAPCACHE));
	/* Of the old folio, whose references are the caller's alone, and of the new one. */
	const uint64_t from_looked_at =
		FOLIO_FLAGS_REFS(odd | FOLIO_ZONE_DEVICE | BIT(PG_SWAPBACKED), UINT32_MAX);
	const uint64_t from_plain = FOLIO_FLAGS_REFS(BIT(PG_SWAPBACKED), 1);
	const uint32_t to_looked_at = odd | (uint32_t)BIT(PG_DEVICE_PRIVATE);
	uint64_t i;

	for (i = 0; i < npages; i++) {
		struct uhmm__frame *from = pfn_to_frame(m, uhmm_migrate_pfn_to_pfn(src[i]));
		struct uhmm__frame *to = pfn_to_frame(m, uhmm_migrate_pfn_to_pfn(dst[i]));
		uint64_t state;

		if ((src[i] & (both | large)) != both ||
		    (dst[i] & (UHMM_MIGRATE_PFN_VALID | large)) != UHMM_MIGRATE_PFN_VALID)
			break;
		state = load_relaxed(&from->flags_refs);
		if ((state & from_looked_at) != from_plain ||
		    (load_relaxed(&to->flags) & to_looked_at) != BIT(PG_DEVICE_PRIVATE) ||
		    load_relaxed(&from->mapcount) || !folio_test_anon(from))
			break;
		copy_place(to, from);
		atomic_fetch_or_explicit(&to->flags, FOLIO_FLAGS(state) & CARRIED_FLAGS,
					 memory_order_release);
	}
	if (i)
		uhmm__count_n(UHMM_CNT_MIGRATED_TO_DEVICE, i);
	return i;
}

/* Models: __migrate_device_pages(). @mig is NULL for device pages by pfn. */
uhmm_always_inline void migrate_pages(struct uhmm_machine *m, uint64_t *src, uint64_t *dst,
				      uint64_t npages, struct uhmm_migrate_vma *mig)
{
	uhmm_pfn_t fault_page = mig ? mig->fault_page : 0;
	struct move mv;

	mv.m = m;
	mv.src = src;
	mv.dst = dst;
	mv.npages = npages;
	mv.mig = mig;
	mv.fault_page = fault_page;
	mv.notified = false;
	for (uint64_t i = npages > 1 ? move_run(m, src, dst, npages) : 0; i < npages;)
		i += likely(move_plain(m, src[i], dst[i], fault_page)) ? 1 : move_any(&mv, i);
	if (unlikely(mv.notified))
		uhmm__invalidate_end(&mv.range);
}

static uhmm_noinline void migrate_vma_pages_many(struct uhmm_migrate_vma *args)
{
	migrate_pages(args->vma->mm->machine, args->src, args->dst, args->npages, args);
}

void uhmm_migrate_vma_pages(struct uhmm_migrate_vma *args)
{
	if (args->npages == 1)
		migrate_pages(args->vma->mm->machine, args->src, args->dst, 1, args);
	else
		migrate_vma_pages_many(args);
}

void uhmm_migrate_device_pages(struct uhmm_machine *m, uint64_t *src, uint64_t *dst,
			       uint64_t npages)
{
	migrate_pages(m, src, dst, npages, NULL);
}

/* ---- finalize ---- */

/*
 * So many pages at once are mapped and then released, where Linux does the two for each in turn: in
 * the checked build as well, for what may come in between.
 */
enum { FINALIZE_BATCH = UHMM_CHECKED ? 1 : FREE_BATCH };

/* Unlock a folio and drop the migration's reference to it. @dead: NULL: what dies is freed at once. */
uhmm_always_inline void release(struct uhmm_machine *m, struct uhmm__frame *f,
				struct uhmm__free_batch *dead)
{
	if (likely(!folio_unlock_put_testzero(m, f)))
		return;
	if (dead)
		free_batch_add(m, f, dead);
	else
		uhmm__folio_free(m, f);
}

/* Folios that are mapped again and not released yet. */
struct remapped {
	struct uhmm__frame *old, *new;
};

/* Whether an entry is the migration entry of a writable page, whatever else that says of the page. */
uhmm_always_inline bool leaf_is_migration_write_of(pte_t p, uhmm_pfn_t pfn)
{
	const uint64_t hints = (LEAF_YOUNG | LEAF_DIRTY) << LEAF_OFFSET_SHIFT | LEAF_SOFT_DIRTY |
			       LEAF_UFFD_WP;
	pte_t leaf = leaf_make_pfn(LEAF_MIGRATION_WRITE, pfn);

	return likely(!((p.val ^ leaf.val) & ~hints));
}

/*
 * Map a device page that nobody else maps, and unlock its folio, in the plain library: the folio is unlocked as
 * the page becomes exclusive, and the migration's reference is the mapping's from then on. Whoever could tell
 * waits for the PTL. @state: the folio's flags and references. False: nothing was done. Context: PTL.
 */
uhmm_always_inline bool map_and_unlock(struct uhmm__frame *f, uint64_t state, ptent_t *ptep,
				       uhmm_pfn_t old, uhmm_pfn_t new)
{
	pte_t swp = ptep_get(ptep);

	if (!leaf_is_migration_write_of(swp, old))
		return false;
	UHMM_VM_BUG_ON(NULL, load_relaxed(&f->mapcount));
	store_relaxed(&f->mapcount, 1);
	if (unlikely(!atomic_compare_exchange_strong_explicit(
		    &f->flags_refs, &state,
		    state + FOLIO_FLAGS_REFS(BIT(PG_ANON_EXCLUSIVE) - BIT(PG_LOCKED), 0),
		    memory_order_release, memory_order_relaxed))) {
		store_relaxed(&f->mapcount, 0);
		return false;
	}
	set_pte(ptep, device_private_mapping_of(swp, true, new));
	return true;
}

/*
 * Entries from @src on, as long as each is a page of one VMA's that goes to a device and has its entry in the
 * table that is locked, or a hole: all that finalize_batch() does for them, in the plain library.
 * @late: old folios to be released without the PTL, for somebody waits. Returns: how many entries.
 */
static uhmm_noinline uint64_t finalize_run(struct uhmm__remap *r, const uint64_t *src,
					   const uint64_t *dst, uint64_t npages,
					   struct remapped **late, struct uhmm__free_batch *dead)
{
	/* Flags that the new folio must have, and others that it must not. */
	const uint64_t plain = FOLIO_FLAGS_REFS(BIT(PG_LOCKED) | BIT(PG_DEVICE_PRIVATE), 0);
	const uint64_t odd = FOLIO_FLAGS_REFS(FOLIO_ORDER_MASK | BIT(PG_WAITERS) | BIT(PG_TAIL), 0);
	const uint64_t exclusive = FOLIO_FLAGS_REFS(BIT(PG_ANON_EXCLUSIVE), 0);
	const uint64_t pgoff = r->pgoff, nr = r->nr, mapping = r->mapping;
	struct uhmm_machine *const m = r->machine;
	struct uhmm__frame *const vmemmap = m->vmemmap;
	ptent_t *const ptep = r->ptep;
	uint32_t *free = &dead->index[dead->nr];
	uint64_t i, holes = 0;

	for (i = 0; i < npages; i++) {
		uint64_t from = src[i], to = dst[i], n, state;
		size_t index = pfn_to_index(m, uhmm_migrate_pfn_to_pfn(to));
		struct uhmm__frame *f = &vmemmap[index];
		bool last;

		if (unlikely(!(to & UHMM_MIGRATE_PFN_VALID)))
			break;
		state = load_relaxed(&f->flags_refs);
		if (likely(from & UHMM_MIGRATE_PFN_VALID)) {
			/* Of another table, or family, is an entry that must not even be read. */
			n = load_relaxed(&f->index) - pgoff;
			if (unlikely((state & (plain | odd | exclusive)) != plain ||
				     !(from & UHMM_MIGRATE_PFN_MIGRATE) || n >= nr ||
				     load_relaxed(&f->mapping) != mapping) ||
			    !map_and_unlock(f, state, ptep + n, uhmm_migrate_pfn_to_pfn(from),
					    uhmm_migrate_pfn_to_pfn(to)))
				break;
			index = pfn_to_index(m, uhmm_migrate_pfn_to_pfn(from));
			f = &vmemmap[index];
		} else {
			if (unlikely((state & (plain | odd)) != plain))
				break;
			holes++;
		}
		if (unlikely(!folio_try_unlock_put(f, &last)))
			*(*late)++ = (struct remapped){ f, f };
		else if (likely(last))
			*free++ = (uint32_t)index;
	}
	dead->nr = (unsigned int)(free - dead->index);
	r->again += i - holes;
	return i;
}

/*
 * At most FINALIZE_BATCH entries: map the new folio, or the old one again, in place of the migration
 * entries; then let go of both. @dead: empty; NULL: it is one entry, and nothing is kept for others.
 */
uhmm_always_inline void finalize_batch(struct uhmm__remap *r, const uint64_t *src,
				       const uint64_t *dst, uint64_t npages,
				       struct uhmm__frame *fault_folio,
				       struct uhmm__free_batch *dead)
{
	const uint64_t both = UHMM_MIGRATE_PFN_VALID | UHMM_MIGRATE_PFN_MIGRATE;
	struct remapped remapped[FINALIZE_BATCH], *end = remapped;
	struct uhmm_machine *m = r->machine;

	for (const uint64_t *last = src + npages; src < last; src++, dst++) {
		uint64_t from, to;
		struct uhmm__frame *new;
		uint32_t flags;

		if (!UHMM_CHECKED && dead && !fault_folio) {
			uint64_t n = finalize_run(r, src, dst, (uint64_t)(last - src), &end, dead);

			src += n;
			dst += n;
			if (likely(src == last))
				break;
		}
		from = *src;
		to = *dst;
		if (unlikely((from & both) != both || !(to & UHMM_MIGRATE_PFN_VALID))) {
			if (to & UHMM_MIGRATE_PFN_VALID) {
				uhmm__remap_unlock(r);
				release(m, migrate_pfn_to_folio(m, to), dead);
			}
			if (!(from & UHMM_MIGRATE_PFN_VALID))
				continue;
			to = from;
		}
		new = valid_pfn_to_folio(m, to, &flags);
		/* Only the survivor goes to the LRU: the other is about to be freed. */
		if (!(flags & FOLIO_ZONE_DEVICE))
			folio_add_lru(m, new, flags);
		if (dead)
			uhmm__remap_folio(r, uhmm_migrate_pfn_to_pfn(from),
					  uhmm_migrate_pfn_to_pfn(to), new, flags);
		else
			uhmm__remap_page(m, uhmm_migrate_pfn_to_pfn(from),
					 uhmm_migrate_pfn_to_pfn(to), new, flags);
		*end++ = (struct remapped){ valid_pfn_to_folio(m, from, &flags), new };
	}
	uhmm__remap_unlock(r);
	for (struct remapped *p = remapped; p < end; p++) {
		if (likely(p->old != fault_folio))
			release(m, p->old, dead);
		else
			folio_put(m, p->old);
		if (p->new != p->old)
			release(m, p->new, dead);
	}
	if (dead)
		uhmm__free_batch_flush(m, dead);
}

static uhmm_noinline void finalize_many(struct uhmm_machine *m, const uint64_t *src,
					const uint64_t *dst, uint64_t npages,
					struct uhmm__frame *fault_folio)
{
	struct uhmm__remap r = { .machine = m };
	struct uhmm__free_batch dead;
	uint64_t n;

	dead.nr = 0;
	do {
		n = MIN((uint64_t)FINALIZE_BATCH, npages);
		finalize_batch(&r, src, dst, n, fault_folio, &dead);
		src += n;
		dst += n;
		npages -= n;
	} while (npages);
	rmap_release(&r.held);
}

static void finalize(struct uhmm_machine *m, uint64_t *src, uint64_t *dst, uint64_t npages,
		     uhmm_pfn_t fault_page)
{
	struct uhmm__frame *fault_folio = fault_page ? page_folio(pfn_to_frame(m, fault_page))
						     : NULL;
	struct uhmm__remap r = { .machine = m };

	if (npages != 1) {
		finalize_many(m, src, dst, npages, fault_folio);
		return;
	}
	finalize_batch(&r, src, dst, 1, fault_folio, NULL);
}

void uhmm_migrate_vma_finalize(struct uhmm_migrate_vma *args)
{
	finalize(args->vma->mm->machine, args->src, args->dst, args->npages, args->fault_page);
}

void uhmm_migrate_device_finalize(struct uhmm_machine *m, uint64_t *src, uint64_t *dst,
				  uint64_t npages)
{
	finalize(m, src, dst, npages, 0);
}

/* ---- device pages by pfn ---- */

/*
 * Lock what a pfn belongs to, at entry @i; a large folio takes the entries that follow, and must fit.
 * Returns: entries that are done. Models: migrate_device_pfn_lock(), the loops around it.
 */
static uint64_t pfn_lock(struct uhmm_machine *m, uint64_t *src, uint64_t npages, uint64_t i,
			 uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(m, pfn);
	uint64_t nr;

	src[i] = 0;
	/* A tail has no references; of a free page nothing is known. */
	if (!folio_try_get(f))
		return 1;
	nr = folio_nr_pages(f);
	if (!folio_trylock(f)) {
		uhmm__count(UHMM_CNT_FAIL_LOCKED);
		folio_put(m, f);
	} else if (nr > npages - i) {
		folio_unlock(m, f);
		folio_put(m, f);
	} else {
		src[i] = uhmm_migrate_pfn(pfn) | UHMM_MIGRATE_PFN_MIGRATE |
			 (nr > 1 ? UHMM_MIGRATE_PFN_COMPOUND : 0);
		uhmm__count_n(UHMM_CNT_COLLECTED, nr);
	}
	nr = MIN(nr, npages - i);
	memset(&src[i + 1], 0, (nr - 1) * sizeof(*src));
	return nr;
}

int uhmm_migrate_device_range(struct uhmm_machine *m, uint64_t *src, uhmm_pfn_t start,
			      uint64_t npages)
{
	for (uint64_t i = 0; i < npages;)
		i += pfn_lock(m, src, npages, i, start + i);
	uhmm__migrate_device_unmap(m, src, npages, 0);
	return 0;
}

int uhmm_migrate_device_pfns(struct uhmm_machine *m, uint64_t *src, uint64_t npages)
{
	for (uint64_t i = 0; i < npages;)
		i += pfn_lock(m, src, npages, i, src[i]);
	uhmm__migrate_device_unmap(m, src, npages, 0);
	return 0;
}
