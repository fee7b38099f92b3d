/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * table.h - page tables, their locks and how to get at an entry.
 *
 * The protocol is the kernel's. A reader maps a PTE table under RCU, without its lock, and rechecks
 * what it read once it has the lock (the PTL). A table that was unlinked is freed after a grace
 * period, so a mapped table is never reused under a reader. pte_offset_map_lock() may fail, because
 * the table went away between reading the PMD entry and taking the PTL; callers retry.
 *
 * The accessors here are the only way to an entry: each is a point where the simulated scheduler
 * may switch.
 *
 * Locks: entries of a PTE table [ptl of that table]; entries of a PMD table [ptl of that table];
 * PGD and PUD entries [page_table_lock of the mm]. An entry that points to a PTE table is cleared
 * with both locks held, that of the PMD table and that of the PTE table; higher ones only with
 * mmap_lock held for writing.
 */
#ifndef UHMM_PGTABLE_TABLE_H
#define UHMM_PGTABLE_TABLE_H

#include "core/machine.h"
#include "pgtable/entry.h"
#include "sync/sync.h"

typedef _Atomic uint64_t ptent_t;

struct uhmm__table {
	ptent_t e[UHMM_PTRS_PER_TABLE];
};

/* Descriptor of a table, 64 bytes; found from any entry's address by masking (see chunks). */
struct uhmm__ptdesc {
	struct uhmm__spinlock ptl;
	uint8_t level; /* [const] 1 = PTE ... 4 = PGD */
	struct uhmm_machine *machine;
	struct uhmm__rcu_head rcu;
	struct uhmm__ptdesc *next_free; /* of free tables, or of deposited ones */
	struct uhmm__ptdesc *deposited; /* [ptl] of a PMD table: a PTE table for each huge leaf */
} __attribute__((aligned(64)));

/* Chunks of 2 MiB, aligned: descriptors first, then tables; one descriptor per 4 KiB. */
#define TABLE_CHUNK_SIZE (2UL << 20)
#define TABLE_CHUNK_FIRST (512 * sizeof(struct uhmm__ptdesc) / UHMM_PAGE_SIZE)

/* The page tables of one mm. */
struct uhmm__pgtable {
	struct uhmm_machine *machine; /* [const] */
	struct uhmm__table *pgd;      /* [const] */
	struct uhmm__spinlock page_table_lock;
	_Atomic uint64_t cpumask; /* [atomic] CPUs that may hold translations */
};

/* The state of this layer: chunks and the list of free tables. */
struct uhmm__tables {
	struct uhmm__spinlock lock;
	struct uhmm__ptdesc *free; /* [lock] */
	char **chunks;		   /* [lock] */
	size_t nr_chunks;
	size_t cap_chunks;
	size_t next_in_chunk;	    /* [lock] first table of the last chunk never used */
	_Atomic uint64_t nr_tables; /* [atomic] in use, freed ones until their grace period */
};

int uhmm__tables_init(struct uhmm_machine *m);
void uhmm__tables_exit(struct uhmm_machine *m);
/* Bytes of the touched parts of all chunks. */
size_t uhmm__tables_resident(struct uhmm_machine *m);

int uhmm__pgtable_init(struct uhmm__pgtable *pgt, struct uhmm_machine *m);
void uhmm__pgtable_exit(struct uhmm__pgtable *pgt);

static inline struct uhmm__ptdesc *uhmm__ptdesc(const void *entry)
{
	uintptr_t a = (uintptr_t)entry;
	uintptr_t chunk = a & ~(TABLE_CHUNK_SIZE - 1);

	return (struct uhmm__ptdesc *)chunk + ((a - chunk) >> UHMM_PAGE_SHIFT);
}

static inline struct uhmm__table *uhmm__ptdesc_table(const struct uhmm__ptdesc *d)
{
	uintptr_t chunk = (uintptr_t)d & ~(TABLE_CHUNK_SIZE - 1);
	uintptr_t idx = ((uintptr_t)d - chunk) / sizeof(*d);

	return (struct uhmm__table *)(chunk + (idx << UHMM_PAGE_SHIFT));
}

/* Lock of the table that holds this entry. */
static inline struct uhmm__spinlock *uhmm__ptlp(const void *entry)
{
	return &uhmm__ptdesc(entry)->ptl;
}

/* ---- entries ---- */

uhmm_always_inline pte_t ptep_get(ptent_t *p)
{
	uhmm__sched_point(UHMM__PT_READ, p);
	return pte_make(load_acquire(p));
}

/* Context: the lock of the entry. */
uhmm_always_inline void set_pte(ptent_t *p, pte_t pte)
{
	uhmm__sched_point(UHMM__PT_WRITE, p);
	store_release(p, pte.val);
}

/*
 * Context: the PTL. A plain load and store do: the simulated CPU sets its accessed and dirty bits
 * under the PTL, so nothing can come between (mm/access.c).
 */
uhmm_always_inline pte_t ptep_get_and_clear(ptent_t *p)
{
	pte_t old;

	uhmm__sched_point(UHMM__PT_WRITE, p);
	old = pte_make(load_relaxed(p));
	store_release(p, 0);
	return old;
}

/* The same, and a full barrier: what is read next is not older than the cleared entry. */
uhmm_always_inline pte_t ptep_xchg_clear(ptent_t *p)
{
	uhmm__sched_point(UHMM__PT_WRITE, p);
	return pte_make(atomic_exchange_explicit(p, 0, memory_order_seq_cst));
}

/* Of an entry that points to a table, of which all have the same bits: taking them off is part of an address. */
uhmm_always_inline struct uhmm__table *entry_table(pte_t p)
{
	return (struct uhmm__table *)(uintptr_t)(p.val - PTE_TABLE);
}

uhmm_always_inline unsigned int table_index(uhmm_vaddr_t addr, unsigned int level)
{
	return (addr >> (UHMM_PAGE_SHIFT + 9 * (level - 1))) & (UHMM_PTRS_PER_TABLE - 1);
}

/* The entry of @addr in a table. Never NULL: said to the compiler as well, or it would look after each step. */
uhmm_always_inline ptent_t *table_entry(struct uhmm__table *table, uhmm_vaddr_t addr,
					unsigned int level)
{
	ptent_t *p = &table->e[table_index(addr, level)];

	if (!p)
		__builtin_unreachable();
	return p;
}

/* Whether an entry points to the table that @p is in. */
uhmm_always_inline bool table_has(pte_t entry, const ptent_t *p)
{
	return entry.val == (((uintptr_t)p & UHMM_PAGE_MASK) | PTE_TABLE);
}

/* Bytes that one entry of a level covers: level 1 = PTE. */
#define LEVEL_SIZE(level) (1UL << (UHMM_PAGE_SHIFT + 9 * ((level)-1)))
#define LEVEL_MASK(level) (~(LEVEL_SIZE(level) - 1))

/* End of the part of [addr, end) under one entry of a level. */
uhmm_always_inline uhmm_vaddr_t level_addr_end(uhmm_vaddr_t addr, uhmm_vaddr_t end,
					       unsigned int level)
{
	uhmm_vaddr_t boundary = (addr & LEVEL_MASK(level)) + LEVEL_SIZE(level);

	return MIN(boundary, end);
}

/**
 * uhmm__pmd_offset() - the PMD entry of an address, without allocating
 * @pgt: page tables
 * @addr: address
 * @hole_level: (out) the level of the entry that was none if NULL is returned, else 2
 * Returns: pointer to the PMD entry, NULL if a higher table is missing.
 * Context: RCU, or mmap_lock or the VMA's lock held.
 */
static inline ptent_t *uhmm__pmd_offset(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr,
					unsigned int *hole_level)
{
	pte_t e = ptep_get(&pgt->pgd->e[table_index(addr, 4)]);
	struct uhmm_task *t = uhmm__current();

	uhmm__task_count(t, UHMM_CNT_READ_PGD, 1);
	if (unlikely(pte_none(e))) {
		*hole_level = 4;
		return NULL;
	}
	e = ptep_get(table_entry(entry_table(e), addr, 3));
	uhmm__task_count(t, UHMM_CNT_READ_PUD, 1);
	if (unlikely(pte_none(e))) {
		*hole_level = 3;
		return NULL;
	}
	*hole_level = 2;
	return table_entry(entry_table(e), addr, 2);
}

/* A walk that was not made, for the PMD entry is known: counted as one, so that costs do not depend on it. */
uhmm_always_inline void count_walk_to_pmd(struct uhmm_task *t)
{
	uhmm__task_count(t, UHMM_CNT_READ_PGD, 1);
	uhmm__task_count(t, UHMM_CNT_READ_PUD, 1);
	uhmm__task_count(t, UHMM_CNT_READ_PMD, 1);
}

/* Read a PMD entry. */
uhmm_always_inline pte_t pmdp_get(ptent_t *pmdp)
{
	uhmm__count(UHMM_CNT_READ_PMD);
	return ptep_get(pmdp);
}

/*
 * Macros, so that the checked build knows who maps a table, and who locks it. A mapping by _link is a
 * link of a chain of RCU sections.
 */
#define uhmm__pte_offset_map(pmdp, addr, pmdval)                                                   \
	uhmm__pte_offset_map_at(pmdp, addr, pmdval, false, UHMM__HERE)
#define uhmm__pte_offset_map_link(pmdp, addr, pmdval)                                              \
	uhmm__pte_offset_map_at(pmdp, addr, pmdval, true, UHMM__HERE)
#define uhmm__pte_unmap(ptep) uhmm__pte_unmap_at(ptep, false, UHMM__HERE)
#define uhmm__pte_unmap_link(ptep) uhmm__pte_unmap_at(ptep, true, UHMM__HERE)
#define uhmm__ptl_lock(ptl) uhmm__ptl_lock_at(ptl, 0, UHMM__HERE)
#define uhmm__ptl_lock_nested(ptl, subclass) uhmm__ptl_lock_at(ptl, subclass, UHMM__HERE)
#define uhmm__pte_offset_map_lock(pmdp, addr, ptlp)                                                \
	uhmm__pte_offset_map_lock_at(pmdp, addr, ptlp, false, UHMM__HERE)
#define uhmm__pte_offset_map_lock_link(pmdp, addr, ptlp)                                           \
	uhmm__pte_offset_map_lock_at(pmdp, addr, ptlp, true, UHMM__HERE)
#define uhmm__pte_unmap_unlock(ptep, ptl) uhmm__pte_unmap_unlock_at(ptep, ptl, false, UHMM__HERE)
#define uhmm__pte_unmap_unlock_link(ptep, ptl)                                                     \
	uhmm__pte_unmap_unlock_at(ptep, ptl, true, UHMM__HERE)
#define uhmm__pmd_lock(pmdp) uhmm__pmd_lock_at(pmdp, 0, UHMM__HERE)
#define uhmm__pmd_lock_nested(pmdp, subclass) uhmm__pmd_lock_at(pmdp, subclass, UHMM__HERE)

/* The section of a mapping. */
uhmm_always_inline void map_section_begin(bool link, const struct uhmm_site *where)
{
	if (UHMM_CHECKED || !link)
		uhmm__rcu_read_lock_at(where);
}

uhmm_always_inline void map_section_end(const void *mapped, bool link,
					const struct uhmm_site *where)
{
	if (UHMM_CHECKED || !link)
		uhmm__rcu_read_unlock_at(mapped, where);
}

/**
 * uhmm__pte_offset_map() - map a PTE table for reading without its lock
 * @pmdp: PMD entry
 * @addr: address
 * @pmdval: (out, may be NULL) the PMD entry that was seen
 * Returns: the PTE entry of @addr inside an RCU read section, NULL if there is no table.
 * Context: end with uhmm__pte_unmap(). Models: pte_offset_map().
 */
uhmm_always_inline ptent_t *uhmm__pte_offset_map_at(ptent_t *pmdp, uhmm_vaddr_t addr, pte_t *pmdval,
						    bool link, const struct uhmm_site *where)
{
	pte_t pmd;

	map_section_begin(link, where);
	pmd = pmdp_get(pmdp);
	if (pmdval)
		*pmdval = pmd;
	if (unlikely(!entry_is_table(pmd))) {
		map_section_end(NULL, link, where);
		return NULL;
	}
	uhmm__rcu_mapped(entry_table(pmd));
	return table_entry(entry_table(pmd), addr, 1);
}

uhmm_always_inline void uhmm__pte_unmap_at(ptent_t *ptep, bool link, const struct uhmm_site *where)
{
	map_section_end((void *)((uintptr_t)ptep & UHMM_PAGE_MASK), link, where);
}

/* Take a PTL; counted. */
static inline void uhmm__ptl_lock_at(struct uhmm__spinlock *ptl, unsigned int subclass,
				     const struct uhmm_site *where)
{
	uhmm__count(UHMM_CNT_PTL);
	if (unlikely(uhmm__spin_lock_at(ptl, subclass, where)))
		uhmm__count(UHMM_CNT_PTL_CONTENDED);
}

/**
 * uhmm__pte_offset_map_lock() - map a PTE table and take its lock
 * @pmdp: PMD entry
 * @addr: address
 * @ptlp: (out) the lock that is held, NULL if none is
 * Returns: the PTE entry, NULL if there is no table any more: read the PMD entry again.
 * Context: end with uhmm__pte_unmap_unlock(). Models: pte_offset_map_lock().
 */
uhmm_always_inline ptent_t *uhmm__pte_offset_map_lock_at(ptent_t *pmdp, uhmm_vaddr_t addr,
							 struct uhmm__spinlock **ptlp, bool link,
							 const struct uhmm_site *where)
{
	for (;;) {
		pte_t pmd;
		ptent_t *ptep = uhmm__pte_offset_map_at(pmdp, addr, &pmd, link, where);
		struct uhmm__spinlock *ptl;

		if (unlikely(!ptep)) {
			*ptlp = NULL;
			return NULL;
		}
		ptl = uhmm__ptlp(ptep);
		uhmm__ptl_lock_at(ptl, 0, where);
		/* The table may have been unlinked between the read and the lock. */
		if (likely(pte_same(pmd, ptep_get(pmdp)))) {
			*ptlp = ptl;
			return ptep;
		}
		uhmm__spin_unlock_at(ptl, where);
		uhmm__pte_unmap_at(ptep, link, where);
	}
}

uhmm_always_inline void uhmm__pte_unmap_unlock_at(ptent_t *ptep, struct uhmm__spinlock *ptl,
						  bool link, const struct uhmm_site *where)
{
	uhmm__spin_unlock_at(ptl, where);
	uhmm__pte_unmap_at(ptep, link, where);
}

/*
 * The entry of an address, by way of @pmd, which *@pmdp is; NULL: there is no table. What is
 * read is left to the caller to count. Context: RCU, and a user's address.
 */
uhmm_always_inline ptent_t *walk_to_pte(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr,
					ptent_t **pmdp, pte_t *pmd)
{
	pte_t e;

	e = ptep_get(table_entry(pgt->pgd, addr, 4));
	if (unlikely(pte_none(e)))
		return NULL;
	e = ptep_get(table_entry(entry_table(e), addr, 3));
	if (unlikely(pte_none(e)))
		return NULL;
	*pmdp = table_entry(entry_table(e), addr, 2);
	*pmd = ptep_get(*pmdp);
	if (unlikely(!entry_is_table(*pmd)))
		return NULL;
	return table_entry(entry_table(*pmd), addr, 1);
}

/*
 * uhmm__pmd_offset(), uhmm__pte_offset_map_lock() and the entry, which is counted as read, in one piece. NULL: not
 * that way; nothing is done. In the checked build each step is by itself. @pmdp: (out) the PMD entry.
 */
uhmm_always_inline ptent_t *walk_map_lock_quick(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr,
						ptent_t **pmdp, struct uhmm__spinlock **ptlp)
{
	struct uhmm_task *t = uhmm__current();
	ptent_t *ptep;
	pte_t pmd;

	*pmdp = NULL;
	*ptlp = NULL;
	if (UHMM_CHECKED)
		return NULL;
	uhmm__rcu_read_lock();
	ptep = walk_to_pte(pgt, addr, pmdp, &pmd);
	if (likely(ptep)) {
		*ptlp = uhmm__ptlp(ptep);
		if (unlikely(uhmm__spin_lock(*ptlp)))
			uhmm__count(UHMM_CNT_PTL_CONTENDED);
		if (likely(pte_same(pmd, ptep_get(*pmdp)))) {
			uhmm__task_count_course(t, UHMM__COURSE_LOCK_ENTRY);
			return ptep;
		}
		uhmm__spin_unlock(*ptlp);
	}
	uhmm__rcu_read_unlock();
	return NULL;
}

/* Lock of a PMD entry. */
static inline struct uhmm__spinlock *uhmm__pmd_lock_at(ptent_t *pmdp, unsigned int subclass,
						       const struct uhmm_site *where)
{
	struct uhmm__spinlock *ptl = uhmm__ptlp(pmdp);

	uhmm__ptl_lock_at(ptl, subclass, where);
	return ptl;
}

/* ---- building and freeing ---- */

/* The same of one that has none yet. */
pte_t uhmm__table_get_slow(struct uhmm__pgtable *pgt, ptent_t *p, unsigned int level);

/* An entry of a higher level, with a table of @level below it made if it is missing; none without memory. */
uhmm_always_inline pte_t uhmm__table_get(struct uhmm__pgtable *pgt, ptent_t *p, unsigned int level)
{
	pte_t e = ptep_get(p);

	return likely(!pte_none(e)) ? e : uhmm__table_get_slow(pgt, p, level);
}

/* The PMD entry of @addr, with the tables above it; NULL without memory. Models: pmd_alloc(). */
static inline ptent_t *uhmm__pmd_alloc(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr)
{
	pte_t e;

	uhmm__count(UHMM_CNT_READ_PGD);
	e = uhmm__table_get(pgt, &pgt->pgd->e[table_index(addr, 4)], 3);
	if (unlikely(pte_none(e)))
		return NULL;
	uhmm__count(UHMM_CNT_READ_PUD);
	e = uhmm__table_get(pgt, table_entry(entry_table(e), addr, 3), 2);
	if (unlikely(pte_none(e)))
		return NULL;
	return table_entry(entry_table(e), addr, 2);
}

/* A PTE table below a PMD entry that has none; 0 or -ENOMEM. Models: pte_alloc(). */
int uhmm__pte_alloc_slow(struct uhmm__pgtable *pgt, ptent_t *pmdp);

static inline int uhmm__pte_alloc(struct uhmm__pgtable *pgt, ptent_t *pmdp)
{
	if (likely(load_acquire(pmdp)))
		return 0;
	return uhmm__pte_alloc_slow(pgt, pmdp);
}

/* A PTE table that is linked nowhere; NULL without memory. Models: pte_alloc_one(), pte_free(). */
struct uhmm__table *uhmm__pte_alloc_one(struct uhmm__pgtable *pgt);
void uhmm__pte_free(struct uhmm__table *tb);
/* The same for one that was linked: readers may still be at it. Its entries are all none. */
void uhmm__pte_free_defer(struct uhmm__table *tb);

/*
 * Each huge leaf has a PTE table put aside with the PMD table that it is in, so that splitting it
 * cannot fail. Context: lock of the PMD table. Models: pgtable_trans_huge_deposit(), _withdraw().
 */
void uhmm__pgtable_deposit(ptent_t *pmdp, struct uhmm__table *tb);
struct uhmm__table *uhmm__pgtable_withdraw(ptent_t *pmdp);

/* Context: lock of the PMD table. */
uhmm_always_inline void pmd_populate(ptent_t *pmdp, struct uhmm__table *tb)
{
	set_pte(pmdp, pte_make((uintptr_t)tb | PTE_TABLE));
}

/**
 * uhmm__free_pgtables() - free the tables that only served [addr, end)
 * @pgt: page tables
 * @addr, @end: range without VMAs and without entries
 * @floor, @ceiling: end of the VMA before, start of the VMA after (0 = none)
 * Context: mmap_lock held for writing, or the last user. Models: free_pgd_range().
 */
void uhmm__free_pgtables(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr, uhmm_vaddr_t end,
			 uhmm_vaddr_t floor, uhmm_vaddr_t ceiling);

#endif /* UHMM_PGTABLE_TABLE_H */
