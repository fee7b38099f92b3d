// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * References and pins on a process's pages. Models: mm/gup.c.
 *
 * The slow way looks at an entry under the PTL, which is enough: whoever shares or unmaps a page holds
 * it, too. The fast way takes no lock at all. It raises the count first and then looks whether the
 * entry is still the same, and the others clear the entry first and then look at the count:
 *
 *	fast GUP			fork, migration, unmap
 *	1 read the entry		1 clear the entry
 *	2 raise the folio's count	2 (barrier)
 *	3 (barrier)			3 look at the folio's count
 *	4 read the entry again
 *
 * At least one of the two sees what the other did, whatever the order (museum M11).
 */
#include "mm/gup.h"
#include "mm/huge.h"
#include "mm/zone_device.h"

/* How a look at an entry ended. Private: never an errno. */
enum follow {
	FOLLOW_OK,
	FOLLOW_FAULT,	/* must be faulted in */
	FOLLOW_UNSHARE, /* is not this VMA's alone: must be copied for a pin that only reads */
	FOLLOW_NO_PAGE, /* a driver's frame, without a page */
};

/* ---- counting ---- */

static void grab(struct uhmm_machine *m, uhmm_pfn_t pfn, unsigned int flags)
{
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, pfn));

	if (flags & FOLL_GET)
		folio_get(f);
	else if (pfn != m->zero_pfn)
		folio_ref_add(f, UHMM_PIN_BIAS);
}

void uhmm__gup_put(struct uhmm_machine *m, uhmm_pfn_t pfn, unsigned int flags)
{
	struct uhmm__frame *f = page_folio(pfn_to_frame(m, pfn));

	if (flags & FOLL_GET)
		folio_put(m, f);
	else if (pfn != m->zero_pfn)
		folio_put_refs(m, f, UHMM_PIN_BIAS);
}

/*
 * Whether a pin that only reads needs a page of its own: what it reads must stay what the process
 * sees. @vma: NULL if not known, as in the fast way. Models: gup_must_unshare().
 */
static bool must_unshare(const struct uhmm_vma *vma, unsigned int flags, struct uhmm__frame *page)
{
	if ((flags & (FOLL_WRITE | FOLL_PIN)) != FOLL_PIN)
		return false;
	if (!folio_test_anon(page_folio(page)))
		return flags & FOLL_LONGTERM && (!vma || vma_is_cow_mapping(vma));
	return !folio_test(page, PG_ANON_EXCLUSIVE);
}

/* ---- the slow way ---- */

static bool is_writable(const struct uhmm_vma *vma)
{
	return vma->flags & UHMM_VM_WRITE;
}

/*
 * A regular file must be told of writes, which nobody can who holds a page for long.
 * Models: writable_file_mapping_allowed().
 */
static bool may_write_file(const struct uhmm_vma *vma, unsigned int flags)
{
	return (flags & (FOLL_PIN | FOLL_LONGTERM)) != (FOLL_PIN | FOLL_LONGTERM) || !vma->file ||
	       vma->file->kind != UHMM_FILE_REGULAR || !(vma->flags & UHMM_VM_SHARED);
}

/* Models: check_vma_flags(), without FOLL_FORCE. */
static bool vma_permits(const struct uhmm_vma *vma, unsigned int flags)
{
	if (vma->flags & (UHMM_VM_IO | UHMM_VM_PFNMAP))
		return false;
	if (flags & FOLL_WRITE)
		return is_writable(vma) && may_write_file(vma, flags);
	return vma->flags & UHMM_VM_READ;
}

/*
 * Whether the page of an entry may be had as it is. @huge: the entry is part of a huge leaf, whose
 * first page tells whether all are exclusive. Context: PTL.
 */
static enum follow follow_present(struct uhmm_vma *vma, pte_t pte, bool huge, unsigned int flags,
				  uhmm_pfn_t *pfn)
{
	struct uhmm_machine *m = vma->mm->machine;
	struct uhmm__frame *page = vm_normal_page(m, pte);

	if (pte_protnone(pte) && (flags & FOLL_HONOR_NUMA_FAULT || !(vma->flags & UHMM_VM_READ)))
		return FOLLOW_FAULT;
	if (flags & FOLL_WRITE && !pte_write(pte))
		return FOLLOW_FAULT;
	if (!page && pte_pfn(pte) != m->zero_pfn)
		return FOLLOW_NO_PAGE;
	*pfn = pte_pfn(pte);
	page = pfn_to_frame(m, *pfn);
	if (!pte_write(pte) && must_unshare(vma, flags, huge ? page_folio(page) : page))
		return FOLLOW_UNSHARE;
	grab(m, *pfn, flags);
	return FOLLOW_OK;
}

/*
 * A huge leaf. False: it is none any more, or was split since pages are wanted. Models: the huge part
 * of follow_pmd_mask(), follow_huge_pmd().
 */
static bool follow_huge(struct uhmm_vma *vma, uhmm_vaddr_t addr, ptent_t *pmdp, unsigned int flags,
			uhmm_pfn_t *pfn, enum follow *ret)
{
	struct uhmm__spinlock *ptl;
	pte_t pmd;

	if (flags & FOLL_SPLIT_PMD && pmd_trans_huge(pmdp_get(pmdp))) {
		uhmm__split_huge_pmd(vma, pmdp, addr, false);
		return false;
	}
	ptl = uhmm__pmd_leaf_lock(pmdp);
	if (!ptl)
		return false;
	pmd = ptep_get(pmdp);
	*ret = FOLLOW_FAULT;
	if (pmd_trans_huge(pmd))
		*ret = follow_present(vma, pmd_page_entry(pmd, table_index(addr, 1)), true, flags,
				      pfn);
	uhmm__spin_unlock(ptl);
	return true;
}

/* Models: follow_page_pte(). */
static enum follow follow_page(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			       uhmm_pfn_t *pfn)
{
	enum follow ret = FOLLOW_FAULT;
	struct uhmm__spinlock *ptl;
	unsigned int level;
	ptent_t *pmdp = uhmm__pmd_offset(&vma->mm->pgt, addr, &level), *ptep;
	pte_t pte;

	if (pmdp && unlikely(pmd_is_leaf(pmdp_get(pmdp))) &&
	    follow_huge(vma, addr, pmdp, flags, pfn, &ret))
		return ret;
	ptep = pmdp ? uhmm__pte_offset_map_lock(pmdp, addr, &ptl) : NULL;
	if (!ptep)
		return FOLLOW_FAULT;
	uhmm__count(UHMM_CNT_READ_PTE);
	pte = ptep_get(ptep);
	if (pte_present(pte))
		ret = follow_present(vma, pte, false, flags, pfn);
	uhmm__pte_unmap_unlock(ptep, ptl);
	return ret;
}

/* Returns: 0 look again; -errno; *locked false: the lock was dropped. Models: faultin_page(). */
static int faultin_page(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags, bool unshare,
			bool *locked)
{
	unsigned int fault_flags = flags & FOLL_WRITE ? FAULT_FLAG_WRITE : 0;
	int ret;

	if (flags & FOLL_NOFAULT)
		return -EFAULT;
	if (flags & FOLL_UNLOCKABLE)
		fault_flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	if (flags & FOLL_TRIED)
		fault_flags |= FAULT_FLAG_TRIED;
	if (unshare)
		fault_flags |= FAULT_FLAG_UNSHARE;
	ret = uhmm__handle_mm_fault(vma, addr, fault_flags | FAULT_FLAG_REMOTE);
	if (ret & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)) {
		*locked = false;
		return 0;
	}
	return ret & VM_FAULT_ERROR ? uhmm__vm_fault_to_errno(ret) : 0;
}

int64_t uhmm__get_user_pages(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
			     unsigned int flags, uhmm_pfn_t *pages, bool *locked)
{
	struct uhmm_vma *vma = NULL;
	uint64_t i = 0;
	int err = 0;

	while (i < npages && !err) {
		uhmm_vaddr_t addr = start + (i << UHMM_PAGE_SHIFT);
		enum follow ret;

		if (!vma || addr >= vma->end)
			vma = uhmm__vma_lookup(mm, addr);
		if (!vma || !vma_permits(vma, flags)) {
			err = -EFAULT;
			break;
		}
		if (unlikely(uhmm__current()->killed)) {
			err = -EINTR;
			break;
		}
		uhmm__cond_resched();
		ret = follow_page(vma, addr, flags, &pages[i]);
		if (ret == FOLLOW_OK) {
			i++;
			continue;
		}
		if (ret == FOLLOW_NO_PAGE)
			err = -EEXIST;
		else
			err = faultin_page(vma, addr, flags, ret == FOLLOW_UNSHARE, locked);
		if (locked && !*locked)
			break;
	}
	return i ? (int64_t)i : err;
}

int64_t uhmm__get_user_pages_unlocked(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages,
				      unsigned int flags, uhmm_pfn_t *pages)
{
	uint64_t done = 0;

	flags |= FOLL_UNLOCKABLE;
	for (;;) {
		bool locked = true;
		int64_t ret;

		mmap_read_lock(mm);
		ret = uhmm__get_user_pages(mm, start + (done << UHMM_PAGE_SHIFT), npages - done,
					   flags, pages + done, &locked);
		if (locked)
			mmap_read_unlock(mm);
		if (ret > 0)
			done += ret;
		if (locked || done == npages || ret < 0)
			return done ? (int64_t)done : ret;
		/* This page will be there: whatever the fault waited for, it does not again. */
		flags |= FOLL_TRIED;
	}
}

/* ---- the fast way ---- */

static void put_fast(struct uhmm_machine *m, struct uhmm__frame *f, unsigned int flags)
{
	folio_put_refs(m, f, flags & FOLL_PIN ? UHMM_PIN_BIAS : 1);
}

/*
 * Whether a folio may be pinned without a look at its VMA: not one of a regular file that is to be
 * written for long. Such folios alone are neither anonymous nor swap-backed. Models:
 * gup_fast_folio_allowed().
 */
static bool folio_allowed(struct uhmm__frame *f, unsigned int flags)
{
	const unsigned int all = FOLL_PIN | FOLL_LONGTERM | FOLL_WRITE;

	return (flags & all) != all || folio_test_anon(f) || folio_test(f, PG_SWAPBACKED);
}

/*
 * A page by a lockless look at its entry, in the table that @pmd points to. Models: the loop of
 * gup_fast_pte_range().
 */
static bool grab_fast(struct uhmm_machine *m, ptent_t *pmdp, pte_t pmd, ptent_t *ptep,
		      unsigned int flags, uhmm_pfn_t *pfn)
{
	pte_t pte = ptep_get(ptep);
	struct uhmm__frame *page, *f;

	if (!(pte.val & PTE_PRESENT) || (flags & FOLL_WRITE && !pte_write(pte)) ||
	    pte.val & PTE_SPECIAL || pte_pfn(pte) == m->zero_pfn)
		return false;
	page = pfn_to_frame(m, pte_pfn(pte));
	f = page_folio(page);
	if (!folio_try_get(f))
		return false;
	/* Split meanwhile. */
	if (unlikely(page_folio(page) != f)) {
		folio_put(m, f);
		return false;
	}
	*pfn = pte_pfn(pte);
	if (flags & FOLL_PIN) {
		if (flags & FOLL_LONGTERM && folio_is_device_coherent(f)) {
			folio_put(m, f);
			return false;
		}
		folio_ref_add(f, UHMM_PIN_BIAS - 1);
	}
	/* Of picture 1 the barrier: the entry is read after the count was raised. */
	atomic_thread_fence(memory_order_seq_cst);
	/* The table, too: a collapse takes it out first and then looks at the counts. */
	if (pte_same(pte, ptep_get(ptep)) && pte_same(pmd, pmdp_get(pmdp)) &&
	    folio_allowed(f, flags) && (pte_write(pte) || !must_unshare(NULL, flags, page)))
		return true;
	put_fast(m, f, flags);
	return false;
}

uint64_t uhmm__gup_fast(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages, unsigned int flags,
			uhmm_pfn_t *pages)
{
	uint32_t seq = load_acquire(&mm->write_protect_seq);
	uint64_t n = 0;
	bool ok = true;

	/* A fork write-protects what is pinned meanwhile. */
	if (flags & FOLL_PIN && seq & 1)
		return 0;
	uhmm__rcu_read_lock();
	while (n < npages && ok) {
		uhmm_vaddr_t addr = start + (n << UHMM_PAGE_SHIFT);
		unsigned int level;
		ptent_t *pmdp = uhmm__pmd_offset(&mm->pgt, addr, &level), *ptep;
		pte_t pmd;

		ptep = pmdp ? uhmm__pte_offset_map(pmdp, addr, &pmd) : NULL;
		if (!ptep)
			break;
		uhmm__count(UHMM_CNT_READ_PTE);
		ok = grab_fast(mm->machine, pmdp, pmd, ptep, flags, &pages[n]);
		uhmm__pte_unmap(ptep);
		n += ok;
	}
	uhmm__rcu_read_unlock();
	if (flags & FOLL_PIN && load_acquire(&mm->write_protect_seq) != seq) {
		while (n)
			uhmm__gup_put(mm->machine, pages[--n], flags);
	}
	return n;
}
