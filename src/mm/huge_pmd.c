// SPDX-License-Identifier: LGPL-2.1-or-later
/* PMD entries that map huge pages: splitting, copying, moving, protecting. See huge.h. */
#include "mm/huge.h"

/* ---- splitting ---- */

/* What a leaf that is being split says of all its pages. */
struct split {
	struct uhmm__frame *f;
	pte_t old;
	bool migration, private, freeze;
	bool write, young, dirty, exclusive;
	bool soft_dirty, uffd_wp;
};

static void split_read_leaf(struct split *s, pte_t pmd)
{
	s->migration = leaf_is_migration(pmd);
	s->private = !s->migration;
	s->soft_dirty = pmd.val & LEAF_SOFT_DIRTY;
	s->uffd_wp = pmd.val & LEAF_UFFD_WP;
	if (s->migration) {
		s->write = leaf_type(pmd) == LEAF_MIGRATION_WRITE;
		s->exclusive = leaf_type(pmd) == LEAF_MIGRATION_READ_EXCLUSIVE;
		s->young = leaf_offset(pmd) & LEAF_YOUNG;
		s->dirty = leaf_offset(pmd) & LEAF_DIRTY;
		return;
	}
	s->write = leaf_type(pmd) == LEAF_DEVICE_PRIVATE_WRITE;
	s->exclusive = folio_test(s->f, PG_ANON_EXCLUSIVE);
}

/* Not for the CPU from now on, but still a huge leaf; flushed. Models: pmdp_invalidate(). */
static pte_t pmdp_invalidate(struct uhmm_vma *vma, uhmm_vaddr_t haddr, ptent_t *pmdp)
{
	pte_t old = ptep_get(pmdp);

	set_pte(pmdp, pte_make((old.val & ~PTE_PRESENT) | PTE_PROTNONE));
	uhmm__flush_tlb_range(&vma->mm->pgt, haddr, haddr + UHMM_PMD_SIZE);
	return old;
}

static void split_read_present(struct split *s, pte_t pmd)
{
	s->write = pte_write(pmd);
	s->young = pte_young(pmd);
	s->dirty = pte_dirty(pmd);
	s->soft_dirty = pmd.val & PTE_SOFT_DIRTY;
	s->uffd_wp = pmd.val & PTE_UFFD_WP;
	s->exclusive = folio_test(s->f, PG_ANON_EXCLUSIVE);
	if (s->dirty && !folio_test(s->f, PG_DIRTY))
		folio_set(s->f, PG_DIRTY);
}

/* From one mapping by the PMD to one by a PTE for each page. */
static void split_rmap(struct split *s, struct uhmm_vma *vma)
{
	uint64_t n = folio_nr_pages(s->f);

	if (s->migration)
		return;
	if (s->freeze && s->exclusive && !folio_try_share_anon_rmap(s->f))
		s->freeze = false;
	if (!s->freeze) {
		folio_ref_add(s->f, n - 1);
		uhmm__large_mapcount_add(s->f, vma->mm, n);
		for (uint64_t i = 0; i < n; i++) {
			atomic_fetch_add_explicit(&s->f[i].mapcount, 1, memory_order_relaxed);
			if (s->exclusive)
				folio_set(&s->f[i], PG_ANON_EXCLUSIVE);
		}
	}
	uhmm__folio_remove_rmap_pmd(s->f, vma->mm);
}

/* The entry of the first page. */
static pte_t split_entry(const struct split *s, struct uhmm_vma *vma, uhmm_pfn_t pfn)
{
	uint64_t bits = (s->soft_dirty ? LEAF_SOFT_DIRTY : 0) | (s->uffd_wp ? LEAF_UFFD_WP : 0);
	enum leaf_type type;
	pte_t pte;

	if (s->migration || s->freeze) {
		type = s->write	      ? LEAF_MIGRATION_WRITE
		       : s->exclusive ? LEAF_MIGRATION_READ_EXCLUSIVE
				      : LEAF_MIGRATION_READ;
		pfn |= (s->young ? LEAF_YOUNG : 0) | (s->dirty ? LEAF_DIRTY : 0);
		return pte_set(leaf_make(type, pfn), bits);
	}
	if (s->private) {
		type = s->write ? LEAF_DEVICE_PRIVATE_WRITE : LEAF_DEVICE_PRIVATE_READ;
		return pte_set(leaf_make(type, pfn), bits);
	}
	pte = pte_mk(pfn, READ_ONCE(vma->page_prot));
	if (!s->young)
		pte = pte_clear_bits(pte, PTE_ACCESSED);
	return pte_set(pte, (s->write ? PTE_RW : 0) | (s->dirty ? PTE_DIRTY : 0) |
				    (s->soft_dirty ? PTE_SOFT_DIRTY : 0) |
				    (s->uffd_wp ? PTE_UFFD_WP : 0));
}

/* Models: __split_huge_zero_page_pmd(). */
static void split_zero(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t haddr)
{
	pte_t old = ptep_get_and_clear(pmdp);
	pte_t entry = pte_mk(vma->mm->machine->zero_pfn, vma->page_prot);
	struct uhmm__table *tb;

	uhmm__flush_tlb_range(&vma->mm->pgt, haddr, haddr + UHMM_PMD_SIZE);
	tb = uhmm__pgtable_withdraw(pmdp);
	entry = pte_set(entry, old.val & PTE_UFFD_WP);
	for (unsigned int i = 0; i < UHMM_PTRS_PER_TABLE; i++)
		store_relaxed(&tb->e[i], entry.val);
	pmd_populate(pmdp, tb);
}

/* Models: __split_huge_pmd_locked(). */
void uhmm__split_huge_pmd_locked(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t haddr,
				 bool freeze)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct split s = { .old = ptep_get(pmdp), .freeze = freeze };
	struct uhmm__table *tb;
	pte_t entry;

	if (!pmd_is_leaf(s.old))
		return;
	uhmm__count(UHMM_CNT_SPLIT_PMD);
	if (is_huge_zero_pmd(m, s.old)) {
		split_zero(vma, pmdp, haddr);
		return;
	}
	s.f = pmd_folio(m, s.old);
	/* While a leaf is invalid its exclusive bit can be cleared: see rmap.c. */
	if (pte_present(s.old))
		split_read_present(&s, pmdp_invalidate(vma, haddr, pmdp));
	else
		split_read_leaf(&s, s.old);
	split_rmap(&s, vma);
	tb = uhmm__pgtable_withdraw(pmdp);
	entry = split_entry(&s, vma, frame_pfn(m, s.f));
	for (unsigned int i = 0; i < UHMM_PTRS_PER_TABLE; i++)
		store_relaxed(&tb->e[i], pmd_page_entry(entry, i).val);
	if (s.freeze)
		folio_put(m, s.f);
	pmd_populate(pmdp, tb);
}

void uhmm__split_huge_pmd(struct uhmm_vma *vma, ptent_t *pmdp, uhmm_vaddr_t addr, bool freeze)
{
	uhmm_vaddr_t haddr = addr & UHMM_PMD_MASK;
	struct uhmm_mmu_notifier_range range = UHMM__NOTIFIER_RANGE(
		vma->mm, UHMM_MMU_NOTIFY_CLEAR, haddr, haddr + UHMM_PMD_SIZE, NULL);
	struct uhmm__spinlock *ptl;

	uhmm__invalidate_start(&range);
	ptl = uhmm__pmd_lock(pmdp);
	uhmm__split_huge_pmd_locked(vma, pmdp, haddr, freeze);
	uhmm__spin_unlock(ptl);
	uhmm__invalidate_end(&range);
}

void uhmm__split_huge_pmd_address(struct uhmm_vma *vma, uhmm_vaddr_t addr, bool freeze)
{
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level);

	/* Models: mm_find_pmd(), which finds any entry that there is. */
	if (pmdp && !pte_none(pmdp_get(pmdp)))
		uhmm__split_huge_pmd(vma, pmdp, addr, freeze);
}

void uhmm__vma_adjust_trans_huge(struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	uhmm_vaddr_t haddr = addr & UHMM_PMD_MASK;

	if (addr != haddr && haddr >= vma->start && haddr + UHMM_PMD_SIZE <= vma->end)
		uhmm__split_huge_pmd_address(vma, addr, false);
}

struct uhmm__spinlock *uhmm__pmd_leaf_lock(ptent_t *pmdp)
{
	struct uhmm__spinlock *ptl = uhmm__pmd_lock(pmdp);

	if (likely(pmd_is_leaf(ptep_get(pmdp))))
		return ptl;
	uhmm__spin_unlock(ptl);
	return NULL;
}

/* ---- fork ---- */

/* Models: copy_huge_non_present_pmd(). Context: both PMD locks. */
static pte_t copy_nonpresent(struct uhmm_vma *dst, ptent_t *src_pmd, pte_t pmd)
{
	struct uhmm_machine *m = dst->mm->machine;

	if (leaf_is_migration(pmd)) {
		if (leaf_type(pmd) != LEAF_MIGRATION_READ) {
			pmd = leaf_retype(pmd, LEAF_MIGRATION_READ);
			set_pte(src_pmd, pmd);
		}
	} else if (leaf_is_device_private(pmd)) {
		struct uhmm__frame *f = pmd_folio(m, pmd);

		if (leaf_type(pmd) == LEAF_DEVICE_PRIVATE_WRITE) {
			pmd = leaf_retype(pmd, LEAF_DEVICE_PRIVATE_READ);
			set_pte(src_pmd, pmd);
		}
		folio_get(f);
		uhmm__folio_add_anon_rmap_pmd(f, dst->mm, false);
		folio_clear(f, PG_ANON_EXCLUSIVE);
	}
	return pte_clear_bits(pmd, LEAF_UFFD_WP);
}

/* -EAGAIN: may be pinned, must be split. */
static int copy_present(struct uhmm_vma *dst, ptent_t *src_pmd, pte_t *pmd)
{
	struct uhmm__frame *f = pmd_folio(dst->mm->machine, *pmd);

	if (f) {
		if (folio_test(f, PG_ANON_EXCLUSIVE) && folio_maybe_dma_pinned(f))
			return -EAGAIN;
		folio_get(f);
		uhmm__folio_add_anon_rmap_pmd(f, dst->mm, false);
		folio_clear(f, PG_ANON_EXCLUSIVE);
	}
	if (pte_write(*pmd)) {
		*pmd = pte_clear_bits(*pmd, PTE_RW);
		set_pte(src_pmd, *pmd);
	}
	*pmd = pte_clear_bits(*pmd, PTE_ACCESSED | PTE_UFFD_WP);
	return 0;
}

int uhmm__copy_huge_pmd(struct uhmm_vma *dst, struct uhmm_vma *src, ptent_t *src_pmd,
			uhmm_vaddr_t addr)
{
	ptent_t *dst_pmd = uhmm__pmd_alloc(&dst->mm->pgt, addr);
	struct uhmm__spinlock *src_ptl, *dst_ptl;
	struct uhmm__table *tb;
	int err = -EAGAIN;
	pte_t pmd;

	tb = dst_pmd ? uhmm__pte_alloc_one(&dst->mm->pgt) : NULL;
	if (!tb)
		return -ENOMEM;
	/* The child's first, which nobody else knows. */
	dst_ptl = uhmm__pmd_lock(dst_pmd);
	src_ptl = uhmm__pmd_lock_nested(src_pmd, UHMM_SINGLE_DEPTH_NESTING);
	pmd = ptep_get(src_pmd);
	if (pmd_is_leaf(pmd)) {
		if (pte_present(pmd)) {
			err = copy_present(dst, src_pmd, &pmd);
		} else {
			pmd = copy_nonpresent(dst, src_pmd, pmd);
			err = 0;
		}
	}
	if (!err) {
		uhmm__count(UHMM_CNT_FORKED_PAGES);
		uhmm__pgtable_deposit(dst_pmd, tb);
		set_pte(dst_pmd, pmd);
	}
	uhmm__spin_unlock(src_ptl);
	uhmm__spin_unlock(dst_ptl);
	if (!err)
		return 0;
	uhmm__pte_free(tb);
	uhmm__split_huge_pmd(src, src_pmd, addr, false);
	return err;
}

/* ---- mremap ---- */

bool uhmm__move_huge_pmd(struct uhmm_mm *mm, ptent_t *old_pmd, uhmm_vaddr_t old, ptent_t *new_pmd)
{
	struct uhmm__spinlock *ol = uhmm__ptlp(old_pmd), *nl = uhmm__ptlp(new_pmd);
	bool moved = false;
	pte_t pmd;

	/* As for tables of pages: the lower first. */
	uhmm__ptl_lock(ol < nl ? ol : nl);
	if (ol != nl)
		uhmm__ptl_lock_nested(ol < nl ? nl : ol, UHMM_SINGLE_DEPTH_NESTING);
	pmd = ptep_get(old_pmd);
	if (pmd_is_leaf(pmd) && pte_none(ptep_get(new_pmd))) {
		ptep_get_and_clear(old_pmd);
		if (ol != nl)
			uhmm__pgtable_deposit(new_pmd, uhmm__pgtable_withdraw(old_pmd));
		set_pte(new_pmd, pmd);
		if (pte_present(pmd))
			uhmm__flush_tlb_range(&mm->pgt, old, old + UHMM_PMD_SIZE);
		moved = true;
	}
	uhmm__spin_unlock(ol);
	if (ol != nl)
		uhmm__spin_unlock(nl);
	return moved;
}

/* ---- migration entries ---- */

bool uhmm__set_pmd_migration_entry(struct uhmm_vma *vma, uhmm_vaddr_t haddr, ptent_t *pmdp)
{
	struct uhmm_machine *m = vma->mm->machine;
	pte_t pmd = ptep_get(pmdp), swp;
	struct uhmm__frame *f = pmd_folio(m, pmd);
	bool present = pte_present(pmd), exclusive, write;
	uint64_t offset = frame_pfn(m, f);
	uint64_t soft = present ? PTE_SOFT_DIRTY : LEAF_SOFT_DIRTY;
	uint64_t uffd = present ? PTE_UFFD_WP : LEAF_UFFD_WP;

	/*
	 * Invalidate first, then look for pins: see install_migration_entry(). Never none in between: who
	 * unmaps looks without the lock, and would pass it by. (q) In 7.3 that of a device is.
	 */
	if (present)
		pmd = pmdp_invalidate(vma, haddr, pmdp);
	else if (m->config.huge_device_unmap == UHMM_HUGE_DEVICE_UNMAP_CLEARS)
		ptep_xchg_clear(pmdp);
	exclusive = folio_test_anon(f) && folio_test(f, PG_ANON_EXCLUSIVE);
	if (exclusive && !folio_try_share_anon_rmap(f)) {
		set_pte(pmdp, pmd);
		return false;
	}
	write = present ? pte_write(pmd) : leaf_type(pmd) == LEAF_DEVICE_PRIVATE_WRITE;
	if (present && pte_young(pmd))
		offset |= LEAF_YOUNG;
	if (present && pte_dirty(pmd)) {
		folio_set(f, PG_DIRTY);
		offset |= LEAF_DIRTY;
	}
	swp = leaf_make(write	    ? LEAF_MIGRATION_WRITE
			: exclusive ? LEAF_MIGRATION_READ_EXCLUSIVE
				    : LEAF_MIGRATION_READ,
			offset);
	if (pmd.val & soft)
		swp = pte_set(swp, LEAF_SOFT_DIRTY);
	if (pmd.val & uffd)
		swp = pte_set(swp, LEAF_UFFD_WP);
	set_pte(pmdp, swp);
	uhmm__folio_remove_rmap_pmd(f, vma->mm);
	folio_put(m, f);
	return true;
}

void uhmm__remove_migration_pmd(struct uhmm_vma *vma, ptent_t *pmdp, struct uhmm__frame *dst)
{
	struct uhmm_machine *m = vma->mm->machine;
	pte_t swp = ptep_get(pmdp), pmd;
	bool write = leaf_type(swp) == LEAF_MIGRATION_WRITE;
	uint64_t offset = leaf_offset(swp);

	folio_get(dst);
	if (folio_is_device_private(dst)) {
		pmd = leaf_make(write ? LEAF_DEVICE_PRIVATE_WRITE : LEAF_DEVICE_PRIVATE_READ,
				frame_pfn(m, dst));
		pmd = pte_set(pmd, swp.val & (LEAF_SOFT_DIRTY | LEAF_UFFD_WP));
	} else {
		pmd = pmd_mk(frame_pfn(m, dst), READ_ONCE(vma->page_prot));
		if (swp.val & LEAF_SOFT_DIRTY)
			pmd = pte_set(pmd, PTE_SOFT_DIRTY);
		if (write && READ_ONCE(vma->flags) & UHMM_VM_WRITE)
			pmd = pte_set(pmd, PTE_RW);
		if (swp.val & LEAF_UFFD_WP)
			pmd = pte_set(pmd, PTE_UFFD_WP);
		if (!(offset & LEAF_YOUNG))
			pmd = pte_clear_bits(pmd, PTE_ACCESSED);
		if (folio_test(dst, PG_DIRTY) && offset & LEAF_DIRTY)
			pmd = pte_set(pmd, PTE_DIRTY);
	}
	uhmm__folio_add_anon_rmap_pmd(dst, vma->mm, leaf_type(swp) != LEAF_MIGRATION_READ);
	set_pte(pmdp, pmd);
}
