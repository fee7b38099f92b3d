// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Page faults on the page table. Models: mm/memory.c:handle_mm_fault() and below.
 *
 * Every handler here works alike: decide from an entry that was read without the lock, prepare what
 * may sleep or allocate, then take the PTL, see that the entry is still the same, and install. If it
 * is not, somebody else was faster: the access is tried again.
 */
#include <signal.h>

#include <uhmm/special.h>

#include "mm/fault_chain.h"
#include "mm/huge.h"

int uhmm__vm_fault_to_errno(int fault)
{
	if (fault & VM_FAULT_OOM)
		return -ENOMEM;
	if (fault & (VM_FAULT_HWPOISON | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV))
		return -EFAULT;
	return 0;
}

/*
 * An anon_vma for the VMA. Under the per-VMA lock mmap_lock is only tried: whoever waits for the VMA
 * may hold it. Models: vmf_anon_prepare().
 */
int uhmm__vmf_anon_prepare_slow(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_mm *mm = vma->mm;
	int err;

	if (!(vmf->flags & FAULT_FLAG_VMA_LOCK))
		return uhmm__anon_vma_prepare(vma) ? VM_FAULT_OOM : 0;
	if (!mmap_read_trylock(mm)) {
		vma_end_read(vma);
		return VM_FAULT_RETRY;
	}
	err = uhmm__anon_vma_prepare(vma);
	mmap_read_unlock(mm);
	return err ? VM_FAULT_OOM : 0;
}

/* Models: vma_is_accessible(). */
static bool is_accessible(const struct uhmm_vma *vma)
{
	return vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC);
}

/* What a write-protect marker leaves in the entry that takes its place. */
uhmm_always_inline pte_t keep_uffd_wp(const struct uhmm__fault *vmf, pte_t entry)
{
	if (likely(pte_none(vmf->orig_pte)))
		return entry;
	return pte_clear_bits(pte_set(entry, PTE_UFFD_WP), PTE_RW);
}

/* ---- anonymous pages ---- */

/*
 * Map a new, frozen folio with zeroes where there is nothing yet, or free it.
 * @link: in a chain of RCU sections.
 */
uhmm_always_inline int map_anon_folio(struct uhmm__fault *vmf, struct uhmm__frame *f, bool link)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm_machine *m = vma->mm->machine;
	pte_t entry = keep_uffd_wp(vmf, anon_entry(vma, ram_pfn(m, f)));

	if (unlikely(!vmf_relock(vmf, link))) {
		uhmm__folio_free(m, f);
		return 0;
	}
	if (!link && unlikely(vma->flags & UHMM_VM_UFFD_MISSING)) {
		vmf_unlock(vmf, link);
		uhmm__folio_free(m, f);
		return uhmm__handle_userfault(vmf, UHMM_UFFD_MISSING);
	}
	store_relaxed(&f->flags, (uint32_t)(BIT(PG_SWAPBACKED) | BIT(PG_UPTODATE)));
	folio_add_new_anon_rmap(f, vma, vmf->address);
	folio_add_lru_new(m, f);
	set_pte(vmf->pte, entry);
	vmf_unlock(vmf, link);
	uhmm__count(UHMM_CNT_FAULT_ANON_WRITE);
	return 0;
}

static int map_zero_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;

	if (!vmf_relock(vmf, false))
		return 0;
	if (unlikely(vma->flags & UHMM_VM_UFFD_MISSING)) {
		vmf_unlock(vmf, false);
		return uhmm__handle_userfault(vmf, UHMM_UFFD_MISSING);
	}
	set_pte(vmf->pte, keep_uffd_wp(vmf, pte_mk(vma->mm->machine->zero_pfn, vma->page_prot)));
	vmf_unlock(vmf, false);
	uhmm__count(UHMM_CNT_FAULT_ANON_READ);
	return 0;
}

/* Models: do_anonymous_page(). Nothing mapped on entry; orig_pte is none or a uffd-wp marker. */
static int do_anonymous_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	struct uhmm__frame *f;
	int ret;

	/* What its driver did not put into a mapping is not there. */
	if (unlikely(vma->flags & UHMM__VM_SPECIAL))
		return VM_FAULT_SIGBUS;
	if (uhmm__pte_alloc(&vma->mm->pgt, vmf->pmd))
		return VM_FAULT_OOM;
	if (!(vmf->flags & FAULT_FLAG_WRITE))
		return map_zero_page(vmf);
	ret = uhmm__vmf_anon_prepare(vmf);
	if (unlikely(ret))
		return ret;
	f = uhmm__folio_alloc_frozen(vma->mm->machine, true);
	return likely(f) ? map_anon_folio(vmf, f, false) : VM_FAULT_OOM;
}

/* ---- entries that are not none ---- */

/*
 * The access found a present entry with the rights it needs: another CPU was faster, or only the
 * accessed and dirty bits are missing.
 */
static void spurious(struct uhmm__fault *vmf)
{
	uint64_t bits = PTE_ACCESSED | (vmf->flags & FAULT_FLAG_WRITE ? PTE_DIRTY : 0);

	set_pte(vmf->pte, pte_set(vmf->orig_pte, bits));
	vmf_unlock(vmf, false);
	uhmm__count(UHMM_CNT_FAULT_SPURIOUS);
}

/* A NUMA hint: the access is seen, the entry is as it was. Context: PTL. Models: do_numa_page(). */
static int do_numa_page(struct uhmm__fault *vmf)
{
	struct uhmm_vma *vma = vmf->vma;
	pte_t pte = pte_set(pte_modify(vmf->orig_pte, vma->page_prot), PTE_ACCESSED);

	if (uhmm__can_change_writable(vma, pte))
		pte = pte_set(pte, PTE_RW);
	set_pte(vmf->pte, pte);
	vmf_unlock(vmf, false);
	uhmm__count(UHMM_CNT_FAULT_NUMA);
	return 0;
}

/* Models: pte_marker_handle_uffd_wp(). */
static int uffd_wp_marker(struct uhmm__fault *vmf)
{
	uhmm__pte_unmap(vmf->pte);
	if (vmf->vma->flags & UHMM_VM_UFFD_WP)
		return do_anonymous_page(vmf);
	/* Left over from a range that is not registered any more. */
	if (vmf_relock(vmf, false)) {
		set_pte(vmf->pte, pte_make(0));
		vmf_unlock(vmf, false);
	}
	return 0;
}

/* Context: the entry mapped; it is not any more. */
static uhmm_noinline int do_present_entry(struct uhmm__fault *vmf)
{
	uhmm__pte_unmap(vmf->pte);
	if (!vmf_relock(vmf, false))
		return 0;
	if (unlikely(pte_protnone(vmf->orig_pte)) && is_accessible(vmf->vma))
		return do_numa_page(vmf);
	if (vmf->flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE) && !pte_write(vmf->orig_pte))
		return uhmm__do_wp_page(vmf);
	spurious(vmf);
	return 0;
}

/* Context: the entry mapped; it is not any more. */
static inline int do_pte_entry(struct uhmm__fault *vmf)
{
	if (pte_present(vmf->orig_pte))
		return do_present_entry(vmf);
	return leaf_is_marker(vmf->orig_pte, MARKER_UFFD_WP) ? uffd_wp_marker(vmf)
							     : uhmm__do_swap_page(vmf);
}

/* ---- any fault ---- */

static int do_pte_missing(struct uhmm__fault *vmf)
{
	return unlikely(vmf->vma->file) ? uhmm__do_file_fault(vmf) : do_anonymous_page(vmf);
}

/* Context: the entry mapped, outside of a chain; it is not any more. */
static int do_mapped_entry(struct uhmm__fault *vmf)
{
	uhmm__count(UHMM_CNT_READ_PTE);
	vmf->orig_pte = ptep_get(vmf->pte);
	if (pte_none(vmf->orig_pte)) {
		uhmm__pte_unmap(vmf->pte);
		return do_pte_missing(vmf);
	}
	if (leaf_is_device_private(vmf->orig_pte))
		return do_device_entry(vmf->vma, vmf->address, vmf->flags, vmf->pmd, vmf->pte,
				       vmf->orig_pte, false);
	return do_pte_entry(vmf);
}

/* No page table: a huge page is there, or may come there; else one page as usual. */
static uhmm_noinline int do_pte_table_missing(struct uhmm__fault *vmf, pte_t pmd)
{
	do {
		int ret = uhmm__huge_fault(vmf, pmd);

		if (ret != VM_FAULT_FALLBACK)
			return ret;
		if (pte_none(pmd))
			return do_pte_missing(vmf);
		/* A leaf that was split: the entry of the page has to be looked at. */
		vmf->pte = uhmm__pte_offset_map(vmf->pmd, vmf->address, &pmd);
	} while (!vmf->pte);
	return do_mapped_entry(vmf);
}

/*
 * A fault begins in a chain of RCU sections and stays there if it does not have to sleep. What may
 * sleep ends the chain (VM_FAULT_UNCHAINED), is out of line, and gets the fault in registers: so the
 * hot path never has it in memory.
 */
static struct uhmm__fault fault_at(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				   ptent_t *pmdp)
{
	return (struct uhmm__fault){ .vma = vma, .address = addr, .flags = flags, .pmd = pmdp };
}

int uhmm__unchained_pte_missing(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				ptent_t *pmdp)
{
	struct uhmm__fault vmf = fault_at(vma, addr, flags, pmdp);

	uhmm__rcu_chain_end();
	return do_pte_missing(&vmf) | VM_FAULT_UNCHAINED;
}

int uhmm__unchained_pte_table_missing(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
				      ptent_t *pmdp, pte_t pmd)
{
	struct uhmm__fault vmf = fault_at(vma, addr, flags, pmdp);

	uhmm__rcu_chain_end();
	return do_pte_table_missing(&vmf, pmd) | VM_FAULT_UNCHAINED;
}

/* Context: the entry is mapped by a link, with which the chain ends. */
int uhmm__unchained_pte_entry(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			      ptent_t *pmdp, ptent_t *ptep, pte_t orig)
{
	struct uhmm__fault vmf = fault_at(vma, addr, flags, pmdp);

	vmf.pte = ptep;
	vmf.orig_pte = orig;
	return do_pte_entry(&vmf) | VM_FAULT_UNCHAINED;
}

/* Such a write where contents are bytes: clearing 4 KiB is nothing to do under two locks. */
int uhmm__anon_write_bytes(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags,
			   ptent_t *pmdp)
{
	struct uhmm__fault vmf = fault_at(vma, addr, flags, pmdp);
	struct uhmm__frame *f = uhmm__folio_alloc_quick(vma->mm->machine, true);

	return likely(f) ? map_anon_folio(&vmf, f, true)
			 : uhmm__unchained_pte_missing(vma, addr, flags, pmdp);
}

/* A fault, after which nothing is left: no entry locked, no chain. Context: in a chain. */
uhmm_always_inline int handle_mm_fault_unchain(struct uhmm_vma *vma, uhmm_vaddr_t addr,
					       unsigned int flags, ptent_t *pmdp)
{
	ptent_t *ptep = NULL;
	int ret = handle_mm_fault_link(vma, addr, flags, pmdp, &ptep);

	if (likely(ret == VM_FAULT_UNCHAINED))
		return 0;
	if (ret == VM_FAULT_PTL)
		uhmm__pte_unmap_unlock_link(ptep, uhmm__ptlp(ptep));
	if (!(ret & VM_FAULT_UNCHAINED))
		uhmm__rcu_chain_end();
	return ret & ~(VM_FAULT_UNCHAINED | VM_FAULT_PTL);
}

int uhmm__handle_mm_fault(struct uhmm_vma *vma, uhmm_vaddr_t addr, unsigned int flags)
{
	uhmm__might_sleep();
	uhmm__rcu_chain_begin();
	return handle_mm_fault_unchain(vma, addr, flags, NULL);
}

/* ---- faults of a running process ---- */

enum {
	STACK_LIMIT = 8 << 20, /* RLIMIT_STACK as most systems set it */
};

/* Grow a stack down to @addr. Context: mmap_lock for writing. Models: expand_downwards(). */
static bool expand_stack(struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	struct uhmm_vma *prev = uhmm__vma_prev(vma->mm, vma);

	addr &= UHMM_PAGE_MASK;
	if (!(vma->flags & UHMM_VM_GROWSDOWN) || addr < MMAP_MIN_ADDR ||
	    vma->end - addr > STACK_LIMIT)
		return false;
	/* Another stack need not be kept at a distance. */
	if (prev && !(prev->flags & UHMM_VM_GROWSDOWN) &&
	    prev->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC) &&
	    addr < prev->end + STACK_GUARD_GAP)
		return false;
	if (load_relaxed(&vma->anon_vma) == NULL && uhmm__anon_vma_prepare(vma))
		return false;
	return !uhmm__vma_resize(vma, addr, vma->end);
}

/*
 * mmap_lock for reading. Context: in a chain, which goes on where the lock is free, for then nothing sleeps;
 * else afterwards in another, in which *@pmdp is not known any more.
 */
uhmm_always_inline void mmap_read_lock_chained(struct uhmm_mm *mm, ptent_t **pmdp)
{
	if (!UHMM_CHECKED && likely(mmap_read_trylock(mm)))
		return;
	uhmm__rcu_chain_end();
	*pmdp = NULL;
	mmap_read_lock(mm);
	uhmm__rcu_chain_begin();
}

/* By the tree, with a stack grown, for which mmap_lock is held for writing. Context: as below. */
static uhmm_noinline struct uhmm_vma *find_vma_or_grow(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma = uhmm__find_vma(mm, addr);
	bool stack = vma && vma->flags & UHMM_VM_GROWSDOWN;

	if (likely(vma && vma->start <= addr))
		return vma;
	mmap_read_unlock(mm);
	if (!stack)
		return NULL;
	mmap_write_lock(mm);
	vma = uhmm__find_vma(mm, addr);
	if (!vma || (vma->start > addr && !expand_stack(vma, addr))) {
		mmap_write_unlock(mm);
		return NULL;
	}
	/* As mmap_write_downgrade(): the VMAs are not locked for writing any more. */
	store_release(&mm->lock_seq, load_relaxed(&mm->lock_seq) + 1);
	uhmm__downgrade_write(&mm->mmap_lock);
	uhmm__count(UHMM_CNT_MMAP_READ);
	return vma;
}

/*
 * The VMA of an address, with mmap_lock held for reading; NULL without it. Models: lock_mm_and_find_vma().
 * Context: in a chain, afterwards in the same, or in another with *@pmdp NULL.
 */
uhmm_always_inline struct uhmm_vma *lock_mm_and_find_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr,
							 ptent_t **pmdp)
{
	struct uhmm_vma *vma;

	mmap_read_lock_chained(mm, pmdp);
	vma = vma_cached(mm, addr);
	if (unlikely(!vma)) {
		uhmm__rcu_chain_end();
		*pmdp = NULL;
		vma = find_vma_or_grow(mm, addr);
		uhmm__rcu_chain_begin();
	}
	return vma;
}

static int sigsegv(void)
{
	uhmm__count(UHMM_CNT_FAULT_SIGSEGV);
	return SIGSEGV;
}

static int fault_result(int fault)
{
	if (likely(!(fault & VM_FAULT_ERROR)))
		return 0;
	if (fault & VM_FAULT_OOM)
		return fault & VM_FAULT_DRIVER_OOM ? UHMM__FAULT_AGAIN : -ENOMEM;
	if (fault & VM_FAULT_SIGSEGV)
		return sigsegv();
	uhmm__count(UHMM_CNT_FAULT_SIGBUS);
	return SIGBUS;
}

/*
 * By mmap_lock, where the VMA's lock was not to be had or does not do. @pmdp: as in pmd_link(), which
 * mmap_lock keeps as well as the VMA's. Context: in a chain, which ends.
 */
uhmm_always_inline int user_fault_mmap_lock(struct uhmm_mm *mm, uhmm_vaddr_t addr,
					    unsigned int flags, ptent_t *pmdp)
{
	struct uhmm_vma *vma;
	int fault;

	for (;;) {
		vma = lock_mm_and_find_vma(mm, addr, &pmdp);
		if (unlikely(!vma))
			break;
		if (unlikely(access_error(vma, flags))) {
			mmap_read_unlock(mm);
			break;
		}
		if (UHMM_CHECKED)
			uhmm__might_sleep();
		fault = handle_mm_fault_unchain(vma, addr, flags, pmdp);
		if (likely(!(fault & VM_FAULT_RETRY))) {
			if (likely(!(fault & VM_FAULT_COMPLETED)))
				mmap_read_unlock(mm);
			return fault_result(fault);
		}
		flags |= FAULT_FLAG_TRIED;
		pmdp = NULL;
		uhmm__rcu_chain_begin();
	}
	uhmm__rcu_chain_end();
	return sigsegv();
}

/*
 * What is not just done. @fault: what came of it by the VMA's lock, which is dropped: VM_FAULT_*. Ends the
 * chain, if it has not ended. Returns: a signal, -ENOMEM, or UHMM__FAULT_AGAIN or _UNCHAINED.
 */
uhmm_always_inline int user_fault_slow(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
				       int fault, ptent_t *pmdp)
{
	int ret;

	if (likely(fault & VM_FAULT_RETRY)) {
		/* With the VMA's lock an anon_vma is waited for outside of the chain. */
		if (fault & VM_FAULT_UNCHAINED) {
			uhmm__rcu_chain_begin();
			pmdp = NULL;
		}
		ret = user_fault_mmap_lock(mm, addr, flags, pmdp);
	} else {
		if (!(fault & VM_FAULT_UNCHAINED))
			uhmm__rcu_chain_end();
		ret = fault_result(fault);
	}
	return ret ? ret : UHMM__FAULT_UNCHAINED;
}

int uhmm_noinline uhmm__user_fault_mmap_lock(struct uhmm_mm *mm, uhmm_vaddr_t addr,
					     unsigned int flags, ptent_t *pmdp)
{
	return user_fault_slow(mm, addr, flags, VM_FAULT_RETRY, pmdp);
}

int uhmm_cold uhmm__user_fault_failed(int fault)
{
	if (fault & VM_FAULT_OOM)
		uhmm__count(UHMM_CNT_FAULT_OOM);
	return fault_result(fault);
}

/* By the VMA's lock, which is dropped. Returns: VM_FAULT_*; with RETRY it is done again with mmap_lock. */
uhmm_always_inline int user_fault_vma_lock(struct uhmm_mm *mm, uhmm_vaddr_t addr,
					   unsigned int flags, struct uhmm_vma *vma, ptent_t *pmdp,
					   ptent_t **ptep)
{
	int fault;

	if (unlikely(addr >= UHMM_TASK_SIZE))
		return VM_FAULT_SIGSEGV;
	if (likely(!vma))
		vma = lock_vma_link(mm, addr);
	if (unlikely(!vma))
		return VM_FAULT_RETRY;
	if (unlikely(access_error(vma, flags))) {
		vma_end_read(vma);
		return VM_FAULT_SIGSEGV;
	}
	/* In the plain build a chain is open, and what does sleep looks for itself. */
	if (UHMM_CHECKED)
		uhmm__might_sleep();
	fault = handle_mm_fault_link(vma, addr, flags | FAULT_FLAG_VMA_LOCK, pmdp, ptep);
	if (unlikely(fault & VM_FAULT_RETRY))
		uhmm__count(UHMM_CNT_FAULT_RETRY);
	else if (likely(!(fault & VM_FAULT_COMPLETED)))
		vma_end_read(vma);
	return fault;
}

int uhmm__user_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags,
		     struct uhmm_vma *vma, ptent_t *pmdp, ptent_t **ptep)
{
	int fault = user_fault_vma_lock(mm, addr, flags, vma, pmdp, ptep);

	if (fault == VM_FAULT_PTL)
		return UHMM__FAULT_LOCKED;
	return !fault ? 0 : user_fault_slow(mm, addr, flags, fault, pmdp);
}
