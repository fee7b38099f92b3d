// SPDX-License-Identifier: LGPL-2.1-or-later
/* Page tables: memory for them, building and freeing. */
#include <string.h>

#include "core/alloc.h"
#include "pgtable/table.h"

enum { TABLE_POPULATE = 32 };

int uhmm__tables_init(struct uhmm_machine *m)
{
	struct uhmm__tables *t = uhmm__alloc(m, sizeof(*t));

	if (!t)
		return -ENOMEM;
	uhmm__spin_init(&t->lock, UHMM__LC_TABLES);
	t->next_in_chunk = UHMM_PTRS_PER_TABLE;
	m->tables = t;
	return 0;
}

void uhmm__tables_exit(struct uhmm_machine *m)
{
	struct uhmm__tables *t = m->tables;

	if (!t)
		return;
	for (size_t i = 0; i < t->nr_chunks; i++)
		uhmm__unreserve(t->chunks[i], TABLE_CHUNK_SIZE);
	uhmm__free(m, t->chunks, t->cap_chunks * sizeof(*t->chunks));
	uhmm__free(m, t, sizeof(*t));
	m->tables = NULL;
}

size_t uhmm__tables_resident(struct uhmm_machine *m)
{
	size_t sum = 0;

	for (size_t i = 0; i < m->tables->nr_chunks; i++)
		sum += uhmm__reserve_resident(m->tables->chunks[i], TABLE_CHUNK_SIZE);
	return sum;
}

/* An aligned chunk: reserve twice the size and give back what is over. */
static char *chunk_alloc(void)
{
	char *p = uhmm__reserve(2 * TABLE_CHUNK_SIZE);
	char *chunk;

	if (!p)
		return NULL;
	chunk = (char *)ALIGN_UP((uintptr_t)p, TABLE_CHUNK_SIZE);
	if (chunk > p)
		uhmm__unreserve(p, chunk - p);
	if (chunk + TABLE_CHUNK_SIZE < p + 2 * TABLE_CHUNK_SIZE)
		uhmm__unreserve(chunk + TABLE_CHUNK_SIZE,
				p + 2 * TABLE_CHUNK_SIZE - (chunk + TABLE_CHUNK_SIZE));
	return chunk;
}

/* Context: t->lock. */
static bool chunk_add(struct uhmm_machine *m, struct uhmm__tables *t)
{
	char *chunk;

	if (t->nr_chunks == t->cap_chunks) {
		size_t cap = t->cap_chunks ? 2 * t->cap_chunks : 16;
		char **chunks = uhmm__alloc(m, cap * sizeof(*chunks));

		if (!chunks)
			return false;
		if (t->nr_chunks)
			memcpy(chunks, t->chunks, t->nr_chunks * sizeof(*chunks));
		uhmm__free(m, t->chunks, t->cap_chunks * sizeof(*chunks));
		t->chunks = chunks;
		t->cap_chunks = cap;
	}
	chunk = chunk_alloc();
	if (!chunk)
		return false;
	t->chunks[t->nr_chunks++] = chunk;
	t->next_in_chunk = TABLE_CHUNK_FIRST;
	return true;
}

/*
 * A table never used. *populate: where to have the host fill memory ahead, once the lock is
 * dropped; after the first few, tables come in runs. Context: t->lock.
 */
static struct uhmm__ptdesc *table_fresh(struct uhmm__tables *t, char **populate)
{
	char *chunk = t->chunks[t->nr_chunks - 1];
	size_t i = t->next_in_chunk++;

	if (i % TABLE_POPULATE == 0 && (i >= TABLE_POPULATE || t->nr_chunks > 1))
		*populate = chunk + (i << UHMM_PAGE_SHIFT);
	return (struct uhmm__ptdesc *)chunk + i;
}

/* A table is all zero when it is freed, so it need not be cleared here. */
static struct uhmm__table *table_alloc(struct uhmm_machine *m, unsigned int level)
{
	struct uhmm__tables *t = m->tables;
	struct uhmm__ptdesc *d;
	char *populate = NULL;
	bool fresh = false;

	if (uhmm__inject(m, UHMM_INJECT_META))
		return NULL;
	uhmm__spin_lock(&t->lock);
	d = t->free;
	if (d) {
		t->free = d->next_free;
	} else {
		if (t->next_in_chunk == UHMM_PTRS_PER_TABLE && !chunk_add(m, t)) {
			uhmm__spin_unlock(&t->lock);
			return NULL;
		}
		d = table_fresh(t, &populate);
		fresh = true;
	}
	uhmm__spin_unlock(&t->lock);
	if (unlikely(populate))
		uhmm__reserve_populate(populate, TABLE_POPULATE << UHMM_PAGE_SHIFT);
	else if (fresh) /* a host page that is read before it is written costs two faults */
		store_relaxed(&uhmm__ptdesc_table(d)->e[0], 0);
	uhmm__spin_init(&d->ptl, level == 1 ? UHMM__LC_PTL : UHMM__LC_PTL_PMD);
	d->level = level;
	d->machine = m;
	d->deposited = NULL;
	atomic_fetch_add_explicit(&t->nr_tables, 1, memory_order_relaxed);
	uhmm__count(UHMM_CNT_TABLE_ALLOC);
	return uhmm__ptdesc_table(d);
}

/* The table was never linked, or its grace period is over. */
static void table_release(struct uhmm__ptdesc *d)
{
	struct uhmm__tables *t = d->machine->tables;

	if (UHMM_DEBUG) {
		struct uhmm__table *tb = uhmm__ptdesc_table(d);

		for (int i = 0; i < UHMM_PTRS_PER_TABLE; i++)
			UHMM_BUG_ON(d->machine, load_relaxed(&tb->e[i]) != 0);
	}
	uhmm__spin_lock(&t->lock);
	d->next_free = t->free;
	t->free = d;
	uhmm__spin_unlock(&t->lock);
	atomic_fetch_sub_explicit(&t->nr_tables, 1, memory_order_relaxed);
}

static void table_rcu(struct uhmm__rcu_head *head)
{
	table_release(container_of(head, struct uhmm__ptdesc, rcu));
}

static void table_free_deferred(struct uhmm__table *tb)
{
	struct uhmm__ptdesc *d = uhmm__ptdesc(tb);

	uhmm__count(UHMM_CNT_TABLE_FREE);
	uhmm__call_rcu(d->machine, &d->rcu, table_rcu);
}

int uhmm__pgtable_init(struct uhmm__pgtable *pgt, struct uhmm_machine *m)
{
	pgt->machine = m;
	uhmm__spin_init(&pgt->page_table_lock, UHMM__LC_PAGE_TABLE);
	store_relaxed(&pgt->cpumask, 0);
	pgt->pgd = table_alloc(m, 4);
	return pgt->pgd ? 0 : -ENOMEM;
}

void uhmm__pgtable_exit(struct uhmm__pgtable *pgt)
{
	if (!pgt->pgd)
		return;
	uhmm__free_pgtables(pgt, 0, UHMM_TASK_SIZE, 0, 0);
	table_free_deferred(pgt->pgd);
	pgt->pgd = NULL;
}

pte_t uhmm__table_get_slow(struct uhmm__pgtable *pgt, ptent_t *p, unsigned int level)
{
	struct uhmm__table *tb = table_alloc(pgt->machine, level);
	pte_t e;

	if (!tb)
		return pte_make(0);
	uhmm__spin_lock(&pgt->page_table_lock);
	e = ptep_get(p);
	if (likely(pte_none(e))) {
		e = pte_make((uintptr_t)tb | PTE_TABLE);
		set_pte(p, e);
		uhmm__spin_unlock(&pgt->page_table_lock);
		return e;
	}
	uhmm__spin_unlock(&pgt->page_table_lock);
	/* Another fault was first. */
	table_release(uhmm__ptdesc(tb));
	return e;
}

int uhmm__pte_alloc_slow(struct uhmm__pgtable *pgt, ptent_t *pmdp)
{
	struct uhmm__table *tb = table_alloc(pgt->machine, 1);
	struct uhmm__spinlock *ptl;

	if (!tb)
		return -ENOMEM;
	ptl = uhmm__pmd_lock(pmdp);
	if (likely(pte_none(ptep_get(pmdp)))) {
		set_pte(pmdp, pte_make((uintptr_t)tb | PTE_TABLE));
		tb = NULL;
	}
	uhmm__spin_unlock(ptl);
	if (tb)
		table_release(uhmm__ptdesc(tb));
	return 0;
}

struct uhmm__table *uhmm__pte_alloc_one(struct uhmm__pgtable *pgt)
{
	return table_alloc(pgt->machine, 1);
}

void uhmm__pte_free(struct uhmm__table *tb)
{
	if (tb)
		table_release(uhmm__ptdesc(tb));
}

void uhmm__pte_free_defer(struct uhmm__table *tb)
{
	table_free_deferred(tb);
}

void uhmm__pgtable_deposit(ptent_t *pmdp, struct uhmm__table *tb)
{
	struct uhmm__ptdesc *pmd = uhmm__ptdesc(pmdp), *d = uhmm__ptdesc(tb);

	d->next_free = pmd->deposited;
	pmd->deposited = d;
}

struct uhmm__table *uhmm__pgtable_withdraw(ptent_t *pmdp)
{
	struct uhmm__ptdesc *pmd = uhmm__ptdesc(pmdp), *d;

	UHMM_BUG_ON(pmd->machine, !pmd->deposited);
	d = pmd->deposited;
	pmd->deposited = d->next_free;
	return uhmm__ptdesc_table(d);
}

/*
 * Free the tables below the entries of @tb that cover [addr, end). A table at an end of the range
 * stays if it may serve a neighbour, that is if its reach goes below @floor or above @ceiling.
 */
static void free_range(struct uhmm__table *tb, unsigned int level, uhmm_vaddr_t addr,
		       uhmm_vaddr_t end, uhmm_vaddr_t floor, uhmm_vaddr_t ceiling)
{
	uhmm_vaddr_t next;

	for (; addr < end; addr = next) {
		ptent_t *p = &tb->e[table_index(addr, level)];
		uhmm_vaddr_t lo = addr & LEVEL_MASK(level);
		uhmm_vaddr_t hi = lo + LEVEL_SIZE(level);
		pte_t e = ptep_get(p);

		next = level_addr_end(addr, end, level);
		if (!entry_is_table(e))
			continue;
		if (level > 2)
			free_range(entry_table(e), level - 1, addr, next, floor, ceiling);
		if (lo < floor || (ceiling && hi > ceiling))
			continue;
		set_pte(p, pte_make(0));
		table_free_deferred(entry_table(e));
	}
}

void uhmm__free_pgtables(struct uhmm__pgtable *pgt, uhmm_vaddr_t addr, uhmm_vaddr_t end,
			 uhmm_vaddr_t floor, uhmm_vaddr_t ceiling)
{
	free_range(pgt->pgd, 4, addr, end, floor, ceiling);
}
