// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A CPU's accesses: translation, contents, and again after a fault (fault.c). Models: the MMU.
 *
 * On hardware a flush waits until no CPU is in the middle of an access by the old translation. Host
 * threads have no such interrupt, so an access holds the table's PTL for the moment between reading
 * the entry and touching the contents. That hold is the hardware's, and not counted. On fibers an
 * access cannot be cut in two; there the TLB of the checked build decides what it sees.
 */
#include "mm/fault_chain.h"
#include "mm/huge.h"
#include "mm/write_word.h"

struct access {
	struct uhmm_mm *mm;
	uint8_t *buf; /* of what is left; NULL: touch only */
	bool write;
	unsigned int flags; /* FAULT_FLAG_* */
	bool driver_oom;    /* a device's driver had no memory for it: the next time is the last */
};

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
uhmm_always_inline void touch_frame(struct access a, uhmm_pfn_t pfn, size_t off, size_t len)
{
	if (!a.buf)
		return;
	if (a.write)
		uhmm__write_frame(a.mm->machine, pfn, off, a.buf, len);
	else
		uhmm__read_frame(a.mm->machine, pfn, off, a.buf, len);
}

/*
 * By an entry that may permit it. Context: PTL. Inline as all that follows, so that reading, writing and
 * fetching have each code of their own.
 */
uhmm_always_inline bool access_locked(struct access a, uhmm_vaddr_t addr, size_t len, ptent_t *ptep)
{
	uint64_t bits = used_bits(a.write);
	pte_t pte = pte_make(load_relaxed(ptep));

	if (unlikely(!pte_permits(pte, a.flags)))
		return false;
	if (unlikely((pte.val & bits) != bits)) {
		pte = pte_set(pte, bits);
		store_relaxed(ptep, pte.val);
	}
	touch_frame(a, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, len);
	uhmm__tlb_insert(&a.mm->pgt, addr, pte);
	return true;
}

/*
 * The PMD entry of an address, none if there is no PMD table. The entries above are counted as read even
 * where *@pmdp is known: so what a fault costs does not depend on the build. Context: RCU.
 */
uhmm_always_inline pte_t walk_to_pmd(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr, ptent_t **pmdp)
{
	unsigned int level;

	if (!UHMM_CHECKED && *pmdp) {
		uhmm__count(UHMM_CNT_READ_PGD);
		uhmm__count(UHMM_CNT_READ_PUD);
	} else {
		*pmdp = uhmm__pmd_offset(pgt, addr, &level);
	}
	return *pmdp ? pmdp_get(*pmdp) : pte_make(0);
}

/* The same by a huge leaf, whose lock is that of the PMD table. Context: RCU. */
static uhmm_noinline bool access_huge(struct access a, ptent_t *pmdp, uhmm_vaddr_t addr, size_t len)
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
		touch_frame(a, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, len);
		uhmm__tlb_insert(&a.mm->pgt, addr, pte);
	}
	uhmm__spin_unlock(ptl);
	return ok;
}

/* An entry, and where it is. */
struct found {
	ptent_t *ptep;
	pte_t entry;
};

/* By way of a PMD entry; not set where there is no table. Context: RCU. */
uhmm_always_inline struct found find_entry(ptent_t *pmdp, uhmm_vaddr_t addr)
{
	pte_t pmd = ptep_get(pmdp);
	ptent_t *ptep;

	if (unlikely(!entry_is_table(pmd)))
		return (struct found){ 0 };
	ptep = table_entry(entry_table(pmd), addr, 1);
	return (struct found){ ptep, ptep_get(ptep) };
}

/*
 * The part of an access within one page. False: it faults.
 * @pmdp: (in/out) where the PMD entry is, NULL if that is not known yet. A CPU that comes again after a
 * fault may go on from there, too: what it has cached of the walk stands until the table is freed, and
 * a table that is not linked any more has no entries.
 * @found: (out) where it found which entry that did not permit it, or not set.
 */
uhmm_always_inline bool try_access(struct access a, uhmm_vaddr_t addr, size_t len, ptent_t **pmdp,
				   struct found *found)
{
	struct uhmm__pgtable *pgt = &a.mm->pgt;
	uint64_t bits = used_bits(a.write);
	struct uhmm__spinlock *ptl;
	bool ok = false;
	pte_t pmd, pte;
	ptent_t *ptep;

	if (unlikely(addr >= UHMM_TASK_SIZE))
		return false;
	pte = uhmm__tlb_lookup(pgt, addr);
	/* A first write through an entry that a read cached goes to the table: the dirty bit. */
	ok = UHMM_CHECKED && pte_permits(pte, a.flags) && (pte.val & bits) == bits;
	if (ok)
		touch_frame(a, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, len);
	uhmm__tlb_done(pgt);
	if (ok)
		return true;
	/* RCU keeps the tables while they are walked without any lock. */
	uhmm__rcu_link_lock();
	pmd = walk_to_pmd(pgt, addr, pmdp);
	if (unlikely(!entry_is_table(pmd))) {
		ok = pmd_trans_huge(pmd) && access_huge(a, *pmdp, addr, len);
		goto out;
	}
	ptep = &entry_table(pmd)->e[table_index(addr, 1)];
	/* What does not permit the access needs no lock to fault: the fault looks again. */
	pte = ptep_get(ptep);
	if (!pte_permits(pte, a.flags)) {
		*found = (struct found){ ptep, pte };
		goto out;
	}
	ptl = uhmm__ptlp(ptep);
	uhmm__spin_lock(ptl);
	ok = access_locked(a, addr, len, ptep);
	uhmm__spin_unlock(ptl);
out:
	uhmm__rcu_link_unlock();
	return ok;
}

/* Whether the CPU found an entry that does not permit the access. Models: X86_PF_PROT. */
static unsigned int fault_prot(struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	unsigned int level, ret = 0;
	pte_t pmd = pte_make(0);
	ptent_t *pmdp, *ptep;

	uhmm__rcu_link_lock();
	pmdp = addr < UHMM_TASK_SIZE ? uhmm__pmd_offset(&mm->pgt, addr, &level) : NULL;
	ptep = pmdp ? uhmm__pte_offset_map_link(pmdp, addr, &pmd) : NULL;
	if (pmd_trans_huge(pmd) && pmd.val & PTE_PRESENT)
		ret = FAULT_FLAG_PROT;
	if (ptep) {
		ret = ptep_get(ptep).val & PTE_PRESENT ? FAULT_FLAG_PROT : 0;
		uhmm__pte_unmap_link(ptep);
	}
	uhmm__rcu_link_unlock();
	return ret;
}

/*
 * After a fault that left the entry locked, which permits the access and has the bits that it sets. The walk
 * that the CPU makes again is counted, though nothing can have changed that it would come by.
 */
uhmm_always_inline void access_after_fault(struct access a, uhmm_vaddr_t addr, size_t len,
					   ptent_t *ptep)
{
	pte_t pte = pte_make(load_relaxed(ptep));

	UHMM_VM_BUG_ON(a.mm->machine, !pte_permits(pte, a.flags) ||
					      (pte.val & used_bits(a.write)) != used_bits(a.write));
	count_walk_to_pmd(uhmm__current());
	touch_frame(a, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, len);
	uhmm__spin_unlock(uhmm__ptlp(ptep));
}

/* A fault on what the access found. Context: as uhmm__user_fault(). */
uhmm_always_inline int fault_on_found(struct access a, uhmm_vaddr_t addr, unsigned int flags,
				      struct uhmm_vma *vma, ptent_t *pmdp, struct found found,
				      ptent_t **ptep)
{
	int ret = UHMM__FAULT_OTHER;

	if (!UHMM_CHECKED && leaf_is_device_private(found.entry))
		ret = uhmm__user_device_fault(a.mm, addr, flags, pmdp, found.ptep, found.entry);
	if (ret == UHMM__FAULT_OTHER)
		ret = uhmm__user_fault(a.mm, addr, flags, vma, pmdp, ptep);
	return ret;
}

/* ---- any access ---- */

/*
 * The part of an access within one page, and its faults. 0, a signal or -ENOMEM. @acc: NULL, or what it met
 * is added. @pmdp: NULL; else the access was tried, in a chain that is open, and faults: with @vma, or
 * without if that is NULL.
 */
uhmm_always_inline int access_page(struct access a, uhmm_vaddr_t addr, size_t len,
				   struct uhmm_access *acc, ptent_t *pmdp, struct uhmm_vma *vma)
{
	unsigned int flags = a.flags | FAULT_FLAG_USER;
	bool again = false, driver_oom = a.driver_oom, tried = pmdp != NULL;
	struct found found = { 0 };
	ptent_t *ptep = NULL;
	int ret;

	if (!tried)
		uhmm__rcu_chain_begin();
	else if (!UHMM_CHECKED && !vma)
		found = find_entry(pmdp, addr);
	while (tried || unlikely(!try_access(a, addr, len, &pmdp, &found))) {
		OPTIMIZER_HIDE_VAR(addr);
		/* Between two faults of the same access there is user mode, where the CPU can be lost. */
		if (UHMM_CHECKED && again)
			uhmm__cond_resched();
		again = true;
		if (acc) {
			acc->faults++;
			acc->fault_addr = addr;
		}
		if (a.flags & FAULT_FLAG_INSTRUCTION)
			flags = a.flags | FAULT_FLAG_USER | fault_prot(a.mm, addr);
		ret = fault_on_found(a, addr, flags, vma, pmdp, found, &ptep);
		found = (struct found){ 0 };
		tried = false;
		vma = NULL;
		if (likely(ret == UHMM__FAULT_LOCKED)) {
			access_after_fault(a, addr, len, ptep);
			break;
		}
		if (likely(!ret))
			continue;
		/*
		 * Linux lets the process run into the fault again, for as long as it takes or until
		 * somebody is killed. Here once: a driver that was told to fail does so once.
		 */
		if (unlikely(ret != UHMM__FAULT_UNCHAINED)) {
			if (ret != UHMM__FAULT_AGAIN)
				return ret;
			if (driver_oom)
				return -ENOMEM;
			driver_oom = true;
		}
		uhmm__rcu_chain_begin();
		pmdp = NULL;
	}
	uhmm__rcu_chain_end();
	uhmm__count(UHMM_CNT_CPU_ACCESSES);
	if (acc)
		acc->done += len;
	return 0;
}

/* An access to any number of pages. Out of line: there its kind need not be a constant. */
static uhmm_noinline int access_pages(struct access a, uhmm_vaddr_t addr, uint64_t len,
				      struct uhmm_access *acc)
{
	int ret = 0;

	while (len && !ret) {
		size_t n = MIN(len, UHMM_PAGE_SIZE - (addr & ~UHMM_PAGE_MASK));

		ret = access_page(a, addr, n, acc, NULL, NULL);
		len -= n;
		addr += n;
		if (a.buf)
			a.buf += n;
	}
	uhmm__exit_to_user();
	return ret;
}

uhmm_always_inline int access_range(struct access a, uhmm_vaddr_t addr, uint64_t len,
				    struct uhmm_access *acc)
{
	int ret;

	if (acc)
		*acc = (struct uhmm_access){ 0 };
	if (unlikely(!uhmm__current()))
		return -EINVAL;
	uhmm__might_sleep();
	if (unlikely(len - 1 >= UHMM_PAGE_SIZE - (addr & ~UHMM_PAGE_MASK)))
		return access_pages(a, addr, len, acc);
	ret = access_page(a, addr, len, acc, NULL, NULL);
	uhmm__exit_to_user();
	return ret;
}

/* ---- reading ---- */

/* @faults: so many came before, at @addr. */
static uhmm_noinline int read_range(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *buf, uint64_t len,
				    struct uhmm_access *acc, unsigned int faults, bool driver_oom)
{
	struct access a = { mm, buf, false, FAULT_FLAG_ALLOW_RETRY, driver_oom };
	int ret = access_range(a, addr, len, acc);

	if (acc && faults) {
		acc->faults += faults;
		acc->fault_addr = addr;
	}
	return ret;
}

/* A word by an entry that permitted it. False: it does not any more. */
uhmm_always_inline bool read_present_word(struct uhmm_machine *m, ptent_t *ptep, uhmm_vaddr_t addr,
					  void *buf)
{
	struct uhmm__spinlock *ptl = uhmm__ptlp(ptep);
	pte_t pte;

	uhmm__spin_lock(ptl);
	pte = pte_make(load_relaxed(ptep));
	if (unlikely(!(pte.val & PTE_PRESENT))) {
		uhmm__spin_unlock(ptl);
		return false;
	}
	if (unlikely(!(pte.val & PTE_ACCESSED)))
		store_relaxed(ptep, pte.val | PTE_ACCESSED);
	uhmm__read_frame(m, pte_pfn(pte), addr & ~UHMM_PAGE_MASK, buf, sizeof(uint64_t));
	uhmm__spin_unlock(ptl);
	return true;
}

/*
 * What is neither present nor just brought home. @ret: of the fault, or UHMM__FAULT_OTHER: nothing was done,
 * nor the walk counted, and a chain is open.
 */
static uhmm_noinline int read_word_other(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *buf,
					 struct uhmm_access *acc, unsigned int faults, int ret)
{
	if (ret == UHMM__FAULT_OTHER) {
		uhmm__rcu_chain_end();
		return read_range(mm, addr, buf, sizeof(uint64_t), acc, faults, false);
	}
	count_walk_to_pmd(uhmm__current());
	if (ret == UHMM__FAULT_AGAIN)
		return read_range(mm, addr, buf, sizeof(uint64_t), acc, faults + 1, true);
	if (acc)
		*acc = (struct uhmm_access){ 0, faults + 1, addr };
	return ret;
}

/*
 * An aligned word, where it is present or a device's page is to be brought home for it: in one piece, as
 * write_word(). Context: the plain build.
 */
uhmm_always_inline int read_word(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *buf,
				 struct uhmm_access *acc, struct uhmm_task *t)
{
	unsigned int faults = 0;
	ptent_t *ptep, *pmdp = NULL;
	pte_t pmd, pte;
	int ret;

	uhmm__might_sleep();
	for (;; faults++) {
		uhmm__rcu_chain_begin();
		ptep = walk_to_pte(&mm->pgt, addr, &pmdp, &pmd);
		pte = likely(ptep) ? ptep_get(ptep) : pte_make(0);
		if (pte.val & PTE_PRESENT &&
		    likely(read_present_word(mm->machine, ptep, addr, buf)))
			break;
		ret = UHMM__FAULT_OTHER;
		if (leaf_is_device_private(pte))
			ret = uhmm__user_device_fault(mm, addr,
						      FAULT_FLAG_USER | FAULT_FLAG_ALLOW_RETRY,
						      pmdp, ptep, pte);
		if (unlikely(ret != UHMM__FAULT_UNCHAINED))
			return read_word_other(mm, addr, buf, acc, faults, ret);
		count_walk_to_pmd(t);
	}
	uhmm__rcu_chain_end();
	uhmm__task_count_course(t, UHMM__COURSE_ACCESS);
	if (acc)
		*acc = (struct uhmm_access){ sizeof(uint64_t), faults, faults ? addr : 0 };
	return 0;
}

int uhmm_cpu_read(struct uhmm_mm *mm, uhmm_vaddr_t addr, void *buf, uint64_t len,
		  struct uhmm_access *acc)
{
	struct uhmm_task *t = uhmm__current();

	if (UHMM_CHECKED || unlikely(!t || len != sizeof(uint64_t) || addr % sizeof(uint64_t) ||
				     addr >= UHMM_TASK_SIZE || !buf))
		return read_range(mm, addr, buf, len, acc, 0, false);
	return read_word(mm, addr, buf, acc, t);
}

/* ---- writing ---- */

static uhmm_noinline int write_range(struct uhmm_mm *mm, uhmm_vaddr_t addr, const void *buf,
				     uint64_t len, struct uhmm_access *acc)
{
	struct access a = { mm, (uint8_t *)(uintptr_t)buf, true,
			    FAULT_FLAG_WRITE | FAULT_FLAG_ALLOW_RETRY, false };

	return access_range(a, addr, len, acc);
}

int uhmm__write_word_slow(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t word,
			  struct uhmm_access *acc, ptent_t *pmdp, struct uhmm_vma *vma)
{
	struct access a = { mm, (uint8_t *)&word, true, FAULT_FLAG_WRITE | FAULT_FLAG_ALLOW_RETRY,
			    false };

	if (!pmdp)
		return write_range(mm, addr, &word, sizeof(word), acc);
	if (acc)
		*acc = (struct uhmm_access){ 0 };
	return access_page(a, addr, sizeof(word), acc, pmdp, vma);
}

int uhmm_cpu_write(struct uhmm_mm *mm, uhmm_vaddr_t addr, const void *buf, uint64_t len,
		   struct uhmm_access *acc)
{
	uint64_t word;

	if (UHMM_CHECKED || unlikely(len != sizeof(word) || addr % sizeof(word) || !buf))
		return write_range(mm, addr, buf, len, acc);
	memcpy(&word, buf, sizeof(word));
	return write_word(mm, addr, word, acc, false);
}

int uhmm__cpu_write_word(struct uhmm_mm *mm, uhmm_vaddr_t addr, uint64_t word,
			 struct uhmm_access *acc)
{
	return write_word(mm, addr, word, acc, true);
}

int uhmm_cpu_exec(struct uhmm_mm *mm, uhmm_vaddr_t addr, struct uhmm_access *acc)
{
	struct access a = { mm, NULL, false, FAULT_FLAG_INSTRUCTION | FAULT_FLAG_ALLOW_RETRY,
			    false };

	return access_range(a, addr, 1, acc);
}
