// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A CPU's accesses: translation, faults, contents. Models: the MMU, and
 * arch/x86/mm/fault.c:do_user_addr_fault().
 *
 * On hardware a flush waits until no CPU is in the middle of an access by the old translation. Host
 * threads have no such interrupt, so an access holds the table's PTL for the moment between reading
 * the entry and touching the contents. That hold is the hardware's, and not counted. On fibers an
 * access cannot be cut in two; there the TLB of the checked build decides what it sees.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "mm/huge.h"

enum {
	STACK_LIMIT = 8 << 20, /* RLIMIT_STACK as most systems set it */
};

struct access {
	struct uhmm_mm *mm;
	uint8_t *buf; /* NULL: touch only */
	bool write;
	unsigned int flags; /* FAULT_FLAG_* */
};

/* ---- faults ---- */

/* Models: access_error(). */
static bool access_error(const struct uhmm_vma *vma, unsigned int flags)
{
	if (flags & FAULT_FLAG_WRITE)
		return !(vma->flags & UHMM_VM_WRITE);
	/* An instruction fetch is a read, until there is a page that says no. */
	if (flags & FAULT_FLAG_PROT)
		return !(vma->flags & UHMM_VM_EXEC);
	return !(vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC));
}

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
 * The VMA of an address, with mmap_lock held for reading; NULL without it. A stack is grown with the
 * lock held for writing in between. Models: lock_mm_and_find_vma().
 */
static struct uhmm_vma *lock_mm_and_find_vma(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_vma *vma;

	mmap_read_lock(mm);
	vma = uhmm__find_vma(mm, addr);
	if (likely(vma && vma->start <= addr))
		return vma;
	if (!vma || !(vma->flags & UHMM_VM_GROWSDOWN)) {
		mmap_read_unlock(mm);
		return NULL;
	}
	mmap_read_unlock(mm);
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

int uhmm__user_fault(struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int flags)
{
	struct uhmm_vma *vma;
	int fault;

	if (unlikely(addr >= UHMM_TASK_SIZE))
		return sigsegv();
	vma = lock_vma_under_rcu(mm, addr);
	if (likely(vma)) {
		if (unlikely(access_error(vma, flags))) {
			vma_end_read(vma);
			return sigsegv();
		}
		fault = uhmm__handle_mm_fault(vma, addr, flags | FAULT_FLAG_VMA_LOCK);
		if (likely(!(fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED))))
			vma_end_read(vma);
		if (likely(!(fault & VM_FAULT_RETRY)))
			return fault_result(fault);
		uhmm__count(UHMM_CNT_FAULT_RETRY);
	}
	do {
		vma = lock_mm_and_find_vma(mm, addr);
		if (!vma)
			return sigsegv();
		if (access_error(vma, flags)) {
			mmap_read_unlock(mm);
			return sigsegv();
		}
		fault = uhmm__handle_mm_fault(vma, addr, flags);
		flags |= FAULT_FLAG_TRIED;
	} while (fault & VM_FAULT_RETRY);
	if (!(fault & VM_FAULT_COMPLETED))
		mmap_read_unlock(mm);
	return fault_result(fault);
}

/* ---- translation ---- */

/*
 * Every access here is passed by value: its kind is a constant in each of the three entry points, and
 * must not be read again from memory after each atomic access.
 */
uhmm_always_inline bool pte_permits(pte_t pte, unsigned int flags)
{
	uint64_t need = PTE_PRESENT | (flags & FAULT_FLAG_WRITE ? PTE_RW : 0);
	uint64_t never = flags & FAULT_FLAG_INSTRUCTION ? PTE_NX : 0;

	return (pte.val & (need | never)) == need;
}

/* The bits that the CPU sets in an entry that it uses. */
uhmm_always_inline uint64_t used_bits(bool write)
{
	return PTE_ACCESSED | (write ? PTE_DIRTY : 0);
}

/* Read or write the part of a frame that an access covers. */
uhmm_always_inline void touch_frame(struct access a, uhmm_pfn_t pfn, size_t off, uint64_t at,
				    size_t len)
{
	if (!a.buf)
		return;
	if (a.write)
		uhmm__write_frame(a.mm->machine, pfn, off, a.buf + at, len);
	else
		uhmm__read_frame(a.mm->machine, pfn, off, a.buf + at, len);
}

/* The same by a huge leaf, whose lock is that of the PMD table. Context: RCU. */
static uhmm_noinline bool access_huge(struct access a, ptent_t *pmdp, uhmm_vaddr_t addr,
				      uint64_t at, size_t len)
{
	uint64_t bits = used_bits(a.write);
	struct uhmm__spinlock *ptl = uhmm__ptlp(pmdp);
	pte_t pmd, pte;
	bool ok;

	uhmm__spin_lock(ptl);
	pmd = pte_make(load_relaxed(pmdp));
	ok = pmd_trans_huge(pmd) && pte_permits(pmd, a.flags);
	if (ok) {
		if ((pmd.val & bits) != bits) {
			pmd = pte_set(pmd, bits);
			store_relaxed(pmdp, pmd.val);
		}
		pte = pmd_page_entry(pmd, table_index(addr, 1));
		touch_frame(a, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, at, len);
		uhmm__tlb_insert(&a.mm->pgt, addr, pte);
	}
	uhmm__spin_unlock(ptl);
	return ok;
}

/*
 * One access within one page. False: it faults. Inline, and the loop around it, so that reading,
 * writing and fetching have each code of their own.
 */
uhmm_always_inline bool access_page(struct access a, uhmm_vaddr_t addr, uint64_t at, size_t len)
{
	struct uhmm__pgtable *pgt = &a.mm->pgt;
	uint64_t bits = used_bits(a.write);
	size_t off = addr & ~UHMM_PAGE_MASK;
	struct uhmm__spinlock *ptl;
	unsigned int level;
	ptent_t *pmdp, *ptep;
	bool ok = false;
	pte_t pmd, pte;

	if (unlikely(addr >= UHMM_TASK_SIZE))
		return false;
	pte = uhmm__tlb_lookup(pgt, addr);
	/* A first write through an entry that a read cached goes to the table: the dirty bit. */
	ok = UHMM_CHECKED && pte_permits(pte, a.flags) && (pte.val & bits) == bits;
	if (ok)
		touch_frame(a, pte_pfn(pte), off, at, len);
	uhmm__tlb_done(pgt);
	if (ok)
		return true;
	/* RCU keeps the tables while they are walked without any lock. */
	uhmm__rcu_read_lock();
	pmdp = uhmm__pmd_offset(pgt, addr, &level);
	pmd = pmdp ? pmdp_get(pmdp) : pte_make(0);
	if (unlikely(!entry_is_table(pmd))) {
		ok = pmd_trans_huge(pmd) && access_huge(a, pmdp, addr, at, len);
		goto out;
	}
	ptep = &entry_table(pmd)->e[table_index(addr, 1)];
	/* What does not permit the access needs no lock to fault: the fault looks again. */
	if (!pte_permits(ptep_get(ptep), a.flags))
		goto out;
	ptl = uhmm__ptlp(ptep);
	uhmm__spin_lock(ptl);
	pte = pte_make(load_relaxed(ptep));
	ok = pte_permits(pte, a.flags);
	if (likely(ok)) {
		if (unlikely((pte.val & bits) != bits)) {
			pte = pte_set(pte, bits);
			store_relaxed(ptep, pte.val);
		}
		touch_frame(a, pte_pfn(pte), off, at, len);
		uhmm__tlb_insert(pgt, addr, pte);
	}
	uhmm__spin_unlock(ptl);
out:
	uhmm__rcu_read_unlock();
	return ok;
}

/* Whether the CPU found an entry that does not permit the access. Models: X86_PF_PROT. */
static unsigned int fault_prot(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	unsigned int level, ret = 0;
	pte_t pmd = pte_make(0);
	ptent_t *pmdp, *ptep;

	uhmm__rcu_read_lock();
	pmdp = addr < UHMM_TASK_SIZE ? uhmm__pmd_offset(&mm->pgt, addr, &level) : NULL;
	ptep = pmdp ? uhmm__pte_offset_map(pmdp, addr, &pmd) : NULL;
	if (pmd_trans_huge(pmd) && pmd.val & PTE_PRESENT)
		ret = FAULT_FLAG_PROT;
	if (ptep) {
		ret = ptep_get(ptep).val & PTE_PRESENT ? FAULT_FLAG_PROT : 0;
		uhmm__pte_unmap(ptep);
	}
	uhmm__rcu_read_unlock();
	return ret;
}

uhmm_always_inline int access_range(struct access a, uhmm_vaddr_t addr, uint64_t len,
				    struct uhmm_access *acc)
{
	uhmm_vaddr_t oom_at = UINT64_MAX;
	struct uhmm_access local;
	uint64_t at = 0;
	int ret = 0;

	if (!acc)
		acc = &local;
	*acc = (struct uhmm_access){ 0 };
	if (unlikely(!uhmm__current()))
		return -EINVAL;
	while (at < len) {
		size_t n = MIN(len - at, UHMM_PAGE_SIZE - (addr & ~UHMM_PAGE_MASK));
		unsigned int flags = a.flags | FAULT_FLAG_USER;

		if (likely(access_page(a, addr, at, n))) {
			uhmm__count(UHMM_CNT_CPU_ACCESSES);
			addr += n;
			at += n;
			acc->done = at;
			continue;
		}
		/* Between two faults of the same access there is user mode, where the CPU can be lost. */
		if (UHMM_CHECKED && acc->faults && acc->fault_addr == addr)
			uhmm__cond_resched();
		/* A count that nobody asked for would make each retry another state. */
		acc->faults += acc != &local || !acc->faults;
		acc->fault_addr = addr;
		if (flags & FAULT_FLAG_INSTRUCTION)
			flags |= fault_prot(a.mm, addr);
		ret = uhmm__user_fault(a.mm, addr, flags);
		/*
		 * Linux lets the process run into the fault again, for as long as it takes or until
		 * somebody is killed. Here once: a driver that was told to fail does so once.
		 */
		if (unlikely(ret == UHMM__FAULT_AGAIN)) {
			ret = oom_at == addr ? -ENOMEM : 0;
			oom_at = addr;
		}
		if (ret)
			break;
	}
	uhmm__exit_to_user();
	return ret;
}

int uhmm_cpu_read(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *buf, uint64_t len,
		  struct uhmm_access *acc)
{
	struct access a = { mm, buf, false, FAULT_FLAG_ALLOW_RETRY };

	return access_range(a, addr, len, acc);
}

int uhmm_cpu_write(struct uhmm_mm *mm, uhmm_vaddr_t addr, const void *buf, uint64_t len,
		   struct uhmm_access *acc)
{
	struct access a = { mm, (uint8_t *)(uintptr_t)buf, true,
			    FAULT_FLAG_WRITE | FAULT_FLAG_ALLOW_RETRY };

	return access_range(a, addr, len, acc);
}

int uhmm_cpu_exec(struct uhmm_mm *mm, uhmm_vaddr_t addr, struct uhmm_access *acc)
{
	struct access a = { mm, NULL, false, FAULT_FLAG_INSTRUCTION | FAULT_FLAG_ALLOW_RETRY };

	return access_range(a, addr, 1, acc);
}
