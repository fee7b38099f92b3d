// SPDX-License-Identifier: LGPL-2.1-or-later
/* The verifier's look at mms, VMAs, anon_vmas, and at every page-table entry. */
#include "mm/verify.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "mm/huge.h"
#include "mm/inspect.h"
#include "mm/zone_device.h"

#define bad uhmm__verify_bad
#define bad_frame uhmm__verify_bad_frame

static unsigned long id_of(const struct uhmm_mm *mm)
{
	return (unsigned long)mm->id;
}

/* ---- an mm by itself ---- */

static int64_t notifiers_in_tree(struct uhmm__verify *v, struct uhmm_mm *mm)
{
	int64_t nr = uhmm__itree_verify(&mm->notifiers.tree);
	struct uhmm__itree_node *node;

	if (nr < 0)
		return nr;
	uhmm__itree_for_each(node, &mm->notifiers.tree, 0, UINT64_MAX) {
		struct uhmm_mmu_interval_notifier *mni =
			container_of(node, struct uhmm_mmu_interval_notifier, node);

		if (mni->mm != mm || !mni->in_tree)
			bad(v, "mm %lu: notifier of [%#lx, %#lx] is not the tree's", id_of(mm),
			    (unsigned long)node->start, (unsigned long)node->last);
	}
	return nr;
}

static void check_notifiers(struct uhmm__verify *v, struct uhmm_mm *mm)
{
	struct uhmm__notifiers *n = &mm->notifiers;

	if (uhmm__spin_is_locked(&n->lock))
		bad(v, "mm %lu: notifier lock is held", id_of(mm));
	if (n->active)
		bad(v, "mm %lu: %lu invalidations have not ended", id_of(mm), n->active);
	if (load_relaxed(&n->seq) & 1)
		bad(v, "mm %lu: notifier sequence %lu is odd", id_of(mm), load_relaxed(&n->seq));
	if (!list_empty(&n->deferred))
		bad(v, "mm %lu: notifiers wait to be inserted or removed", id_of(mm));
	if (!list_empty(&n->wq.waiters))
		bad(v, "mm %lu: a task waits for the notifier sequence", id_of(mm));
	if (notifiers_in_tree(v, mm) < 0)
		bad(v, "mm %lu: notifier tree is broken", id_of(mm));
}

static void check_mm(struct uhmm__verify *v, struct uhmm_mm *mm)
{
	if (mm->machine != v->m || mm->pgt.machine != v->m)
		bad(v, "mm %lu: is another machine's", id_of(mm));
	if (!load_relaxed(&mm->users) || !load_relaxed(&mm->count))
		bad(v, "mm %lu: has %u users and %u references, but is listed", id_of(mm),
		    load_relaxed(&mm->users), load_relaxed(&mm->count));
	if (load_relaxed(&mm->mmap_lock.count))
		bad(v, "mm %lu: mmap_lock is held or waited for (%#lx)", id_of(mm),
		    (unsigned long)load_relaxed(&mm->mmap_lock.count));
	if (uhmm__spin_is_locked(&mm->pgt.page_table_lock))
		bad(v, "mm %lu: page_table_lock is held", id_of(mm));
	if (!list_empty(&mm->vma_writers.waiters))
		bad(v, "mm %lu: a writer waits for a VMA", id_of(mm));
	check_notifiers(v, mm);
}

/* ---- VMAs ---- */

static void check_vma_fields(struct uhmm__verify *v, struct uhmm_mm *mm, struct uhmm_vma *vma)
{
	unsigned long id = id_of(mm), start = vma->start;

	if (vma->start >= vma->end || vma->end > UHMM_TASK_SIZE ||
	    (vma->start | vma->end) & ~UHMM_PAGE_MASK)
		bad(v, "mm %lu: VMA [%#lx, %#lx) is no range of pages", id, start,
		    (unsigned long)vma->end);
	if (vma->mm != mm)
		bad(v, "mm %lu: VMA at %#lx is another mm's", id, start);
	if (vma_nr_readers(vma) || !load_relaxed(&vma->attached))
		bad(v, "mm %lu: VMA at %#lx is read-locked (%u) or detached", id, start,
		    vma_nr_readers(vma));
	if (load_relaxed(&vma->lock_seq) == load_relaxed(&mm->lock_seq))
		bad(v, "mm %lu: VMA at %#lx is write-locked", id, start);
	if (!vma->file && vma->anon_pgoff != vma->pgoff)
		bad(v, "mm %lu: VMA at %#lx without a file has two page offsets", id, start);
	if (vma->page_prot != uhmm__vm_page_prot(vma->file, vma->flags))
		bad(v, "mm %lu: VMA at %#lx has page_prot %#lx for flags %#lx", id, start,
		    (unsigned long)vma->page_prot, (unsigned long)vma->flags);
}

/* The chains from a VMA to anon_vmas; the other direction is in check_av(). */
static size_t check_chains(struct uhmm__verify *v, struct uhmm_vma *vma)
{
	const uint64_t last = vma_anon_pgoff(vma, vma->end) - 1;
	struct uhmm__anon_vma *own = load_relaxed(&vma->anon_vma);
	struct uhmm__anon_vma_chain *c;
	bool found = false;
	size_t nr = 0;

	uhmm__for_each_entry(c, &vma->chain, same_vma) {
		nr++;
		found |= c->anon_vma == own;
		if (c->vma != vma || c->node.start != vma->anon_pgoff || c->node.last != last)
			bad(v, "mm %lu: VMA at %#lx has a chain of offsets [%#lx, %#lx]",
			    id_of(vma->mm), (unsigned long)vma->start, (unsigned long)c->node.start,
			    (unsigned long)c->node.last);
	}
	if (own ? !found : nr != 0)
		bad(v, "mm %lu: VMA at %#lx has %zu chains, none to its own anon_vma",
		    id_of(vma->mm), (unsigned long)vma->start, nr);
	return nr;
}

/* Returns: the number of chains of all its VMAs. */
static size_t check_vmas(struct uhmm__verify *v, struct uhmm_mm *mm)
{
	int64_t nr = uhmm__rangetree_verify(&mm->vmas);
	struct uhmm__range r;
	size_t chains = 0;

	if (nr < 0)
		bad(v, "mm %lu: VMA tree is broken", id_of(mm));
	else if ((uint64_t)nr != mm->nr_vmas)
		bad(v, "mm %lu: %zu VMAs are counted, but %ld are in the tree", id_of(mm),
		    mm->nr_vmas, (long)nr);
	uhmm__rangetree_for_each(&mm->vmas, &r, 0, UINT64_MAX)
	{
		struct uhmm_vma *vma = r.value;

		if (vma->start != r.start || vma->end != r.end)
			bad(v, "mm %lu: VMA [%#lx, %#lx) is in the tree as [%#lx, %#lx)", id_of(mm),
			    (unsigned long)vma->start, (unsigned long)vma->end,
			    (unsigned long)r.start, (unsigned long)r.end);
		check_vma_fields(v, mm, vma);
		chains += check_chains(v, vma);
	}
	return chains;
}

/* ---- anon_vmas ---- */

static int cmp_av(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct uhmm__seen_av *)a)->av;
	uintptr_t y = (uintptr_t)((const struct uhmm__seen_av *)b)->av;

	return x < y ? -1 : x > y;
}

static struct uhmm__seen_av *seen_av(struct uhmm__verify *v, struct uhmm__anon_vma *av)
{
	struct uhmm__seen_av key = { .av = av };

	return bsearch(&key, v->avs, v->nr_avs, sizeof(key), cmp_av);
}

static void avs_sort(struct uhmm__verify *v)
{
	size_t to = 0;

	qsort(v->avs, v->nr_avs, sizeof(*v->avs), cmp_av);
	for (size_t i = 0; i < v->nr_avs; i++) {
		if (!to || v->avs[to - 1].av != v->avs[i].av)
			v->avs[to++] = v->avs[i];
	}
	v->nr_avs = to;
}

/* Everything that a chain names, and the parents and roots of that. */
static void avs_collect(struct uhmm__verify *v)
{
	struct uhmm__anon_vma_chain *c;
	struct uhmm_mm *mm;
	struct uhmm__range r;
	size_t used;

	uhmm__for_each_entry(mm, &v->m->mms->list, list) {
		uhmm__rangetree_for_each(&mm->vmas, &r, 0, UINT64_MAX)
		{
			struct uhmm_vma *vma = r.value;

			uhmm__for_each_entry(c, &vma->chain, same_vma)
				v->avs[v->nr_avs++].av = c->anon_vma;
		}
	}
	avs_sort(v);
	used = v->nr_avs;
	for (size_t i = 0; i < used; i++) {
		struct uhmm__anon_vma *av = v->avs[i].av;

		v->avs[v->nr_avs++] = (struct uhmm__seen_av){ .av = av->parent };
		v->avs[v->nr_avs++] = (struct uhmm__seen_av){ .av = anon_vma_root(av) };
	}
	avs_sort(v);
}

static void avs_count(struct uhmm__verify *v)
{
	struct uhmm__anon_vma_chain *c;
	struct uhmm_mm *mm;
	struct uhmm__range r;

	uhmm__for_each_entry(mm, &v->m->mms->list, list) {
		uhmm__rangetree_for_each(&mm->vmas, &r, 0, UINT64_MAX)
		{
			struct uhmm_vma *vma = r.value;
			struct uhmm__seen_av *own = seen_av(v, load_relaxed(&vma->anon_vma));

			if (own)
				own->active++;
			uhmm__for_each_entry(c, &vma->chain, same_vma)
				seen_av(v, c->anon_vma)->chains++;
		}
	}
	for (size_t i = 0; i < v->nr_avs; i++) {
		struct uhmm__anon_vma *av = v->avs[i].av;
		struct uhmm__anon_vma *root = anon_vma_root(av);

		/*
		 * One that lost its last VMA has given up its parent, and may be looked at only
		 * because its children still hold it. It does hold its root.
		 */
		if (v->avs[i].chains && av->parent != av)
			seen_av(v, av->parent)->children++;
		if (root != av)
			seen_av(v, root)->family++;
	}
}

static void check_av(struct uhmm__verify *v, const struct uhmm__seen_av *s)
{
	struct uhmm__anon_vma *av = s->av;
	uint32_t refs = s->chains + s->children + s->family;
	int64_t nr = uhmm__itree_verify(&av->tree);
	struct uhmm__itree_node *node;

	if (load_relaxed(&av->refcount) != refs)
		bad(v, "anon_vma has %u references, but %u chains, %u children, %u in its family",
		    load_relaxed(&av->refcount), s->chains, s->children, s->family);
	if (av->num_active_vmas != s->active || av->num_children != s->children)
		bad(v, "anon_vma counts %u VMAs and %u children, but has %u and %u",
		    av->num_active_vmas, av->num_children, s->active, s->children);
	if (load_relaxed(&av->rwsem.count))
		bad(v, "anon_vma lock is held");
	if (nr != s->chains) {
		bad(v, "anon_vma has %u chains, but a tree of %ld", s->chains, (long)nr);
		return;
	}
	uhmm__itree_for_each(node, &av->tree, 0, UINT64_MAX) {
		if (container_of(node, struct uhmm__anon_vma_chain, node)->anon_vma != av)
			bad(v, "anon_vma has another's chain in its tree");
	}
}

int uhmm__verify_mms(struct uhmm__verify *v)
{
	struct uhmm_mm *mm;
	size_t chains = 0;

	if (uhmm__spin_is_locked(&v->m->mms->lock))
		bad(v, "the lock of the list of mms is held");
	uhmm__for_each_entry(mm, &v->m->mms->list, list) {
		check_mm(v, mm);
		chains += check_vmas(v, mm);
	}
	/* Each chain names an anon_vma, and that a parent and a root. */
	v->avs_bytes = (3 * chains + 1) * sizeof(*v->avs);
	v->avs = uhmm__reserve(v->avs_bytes);
	if (!v->avs)
		return -ENOMEM;
	avs_collect(v);
	avs_count(v);
	for (size_t i = 0; i < v->nr_avs; i++)
		check_av(v, &v->avs[i]);
	return 0;
}

/* ---- entries ---- */

static void bad_entry(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pte, const char *what)
{
	bad(v, "mm %lu: entry %#lx at %#lx %s", id_of(v->mm), (unsigned long)pte.val,
	    (unsigned long)addr, what);
}

/* The rmap must lead from the folio back to this entry. */
static void check_rmap(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pte,
		       struct uhmm__frame *page)
{
	struct uhmm__frame *f = page_folio(page);
	struct uhmm__anon_vma *av = folio_anon_vma(f);
	const struct uhmm_vma *vma = v->vma;
	uint64_t index = load_relaxed(&f->index) + (uint64_t)(page - f);
	struct uhmm__itree_node *node;

	if (vma_anon_address(vma, index) != addr) {
		bad_frame(v, frame_pfn(v->m, page), "mm %lu: page at %#lx has the index of %#lx",
			  id_of(v->mm), (unsigned long)addr,
			  (unsigned long)vma_anon_address(vma, index));
		return;
	}
	if (v->rmap_vma == vma && v->rmap_av == av && v->rmap_node->start <= index &&
	    index <= v->rmap_node->last)
		return;
	if (!seen_av(v, av)) {
		bad_entry(v, addr, pte, "maps a page whose anon_vma has no VMA");
		return;
	}
	uhmm__itree_for_each(node, &av->tree, index, index) {
		if (container_of(node, struct uhmm__anon_vma_chain, node)->vma != vma)
			continue;
		v->rmap_vma = vma;
		v->rmap_av = av;
		v->rmap_node = node;
		return;
	}
	bad_entry(v, addr, pte, "maps a page whose rmap does not find it");
}

/* The folio that an entry maps or stands for. */
static void check_folio(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pte,
			const struct uhmm__entry *e)
{
	struct uhmm__frame *page = pfn_to_frame(v->m, e->pfn), *f = page_folio(page);

	uhmm__seen(v, e->pfn)->maps++;
	if (!v->vma || !folio_ref_count(f))
		return; /* told already, or when the frame's turn comes */
	if (vma_is_cow_mapping(v->vma) && e->write && !folio_test(page, PG_ANON_EXCLUSIVE))
		bad_entry(v, addr, pte, "is writable, but its page is not anon-exclusive");
	if (e->kind == ENTRY_DEVICE_EXCLUSIVE && !folio_test(page, PG_ANON_EXCLUSIVE))
		bad_entry(v, addr, pte, "is exclusive, but its page is not anon-exclusive");
	if (folio_test_anon(f) && vma_is_cow_mapping(v->vma))
		check_rmap(v, addr, pte, page);
	else if (folio_test_anon(f))
		bad_entry(v, addr, pte, "maps an anonymous page in a shared mapping");
	else if (vma_is_anonymous(v->vma))
		bad_entry(v, addr, pte, "maps a page that is not anonymous");
	else if (!load_relaxed(&f->mapping) && v->vma->flags & UHMM_VM_MIXEDMAP)
		return; /* its driver's */
	else if (!uhmm__verify_file_page(v->vma, addr, f))
		bad_entry(v, addr, pte, "maps another page than its file has there");
}

/* A frame that a present or a device-exclusive entry maps: RAM in use, or device-coherent. */
static bool is_accessible(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm_dev_pagemap *pgmap;

	if (pfn < v->m->device_base)
		return pfn >= v->ram_first && pfn < v->ram_end;
	pgmap = pfn_is_device(v->m, pfn) ? page_pgmap(v->m, pfn) : NULL;
	/* The frames of a pagemap without pages in use are not gone over. */
	return pgmap && pgmap->type == UHMM_MEMORY_DEVICE_COHERENT &&
	       load_relaxed(&pgmap->refs) > 1;
}

static void check_present(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pte,
			  const struct uhmm__entry *e)
{
	const uint64_t known = PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY |
			       PTE_PROTNONE | PTE_SPECIAL | PTE_UFFD_WP | PTE_SOFT_DIRTY | PTE_NX |
			       PTE_PFN_MASK;
	const uint64_t vma_says = PTE_PRESENT | PTE_USER | PTE_PROTNONE | PTE_NX;
	/* A NUMA hint is as a page that nobody may access. */
	const uint64_t prot = e->protnone || !v->vma ? uhmm__vm_page_prot(NULL, 0)
						     : v->vma->page_prot;

	if (pte.val & ~known)
		bad_entry(v, addr, pte, "has reserved bits");
	if (v->vma && (pte.val ^ prot) & vma_says)
		bad_entry(v, addr, pte, "has not the protection of its VMA");
	if (e->kind == ENTRY_ZERO) {
		if (e->write)
			bad_entry(v, addr, pte, "makes the zero page writable");
		return;
	}
	if (e->kind == ENTRY_SPECIAL) {
		if (v->vma && !(v->vma->flags & UHMM__VM_SPECIAL))
			bad_entry(v, addr, pte, "is a driver's, but its VMA is not");
		return;
	}
	if (e->protnone && e->write)
		bad_entry(v, addr, pte, "is writable, but cannot be accessed");
	if (is_accessible(v, e->pfn))
		check_folio(v, addr, pte, e);
	else
		bad_entry(v, addr, pte, "maps a frame that is no RAM in use");
}

static void check_nonpresent(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pte,
			     const struct uhmm__entry *e)
{
	struct uhmm_dev_pagemap *pgmap;
	const char *wrong;

	switch (e->kind) {
	case ENTRY_MIGRATION:
		bad_entry(v, addr, pte, "is a migration entry that was left behind");
		return;
	case ENTRY_SWAP:
		wrong = uhmm__verify_swap_entry(v, pte);
		if (wrong)
			bad_entry(v, addr, pte, wrong);
		return;
	case ENTRY_DEVICE_EXCLUSIVE:
		if (is_accessible(v, e->pfn))
			check_folio(v, addr, pte, e);
		else
			bad_entry(v, addr, pte, "maps a frame that is no RAM in use");
		return;
	case ENTRY_DEVICE_PRIVATE:
		break;
	case ENTRY_HWPOISON:
		if (leaf_pfn(pte) >= v->ram_end ||
		    !folio_test(pfn_to_frame(v->m, leaf_pfn(pte)), PG_HWPOISON))
			bad_entry(v, addr, pte, "is hardware-poisoned, but its page is not");
		return;
	default:
		return;
	}
	if (!pfn_is_device(v->m, e->pfn)) {
		bad_entry(v, addr, pte, "maps no device memory");
		return;
	}
	pgmap = page_pgmap(v->m, e->pfn);
	if (!pgmap) {
		bad_entry(v, addr, pte, "maps device memory that is not registered");
		return;
	}
	if (pgmap->type != UHMM_MEMORY_DEVICE_PRIVATE) {
		bad_entry(v, addr, pte, "is not present, but its memory is device-coherent");
		return;
	}
	/* The frames of a pagemap without pages in use are not gone over. */
	if (load_relaxed(&pgmap->refs) <= 1) {
		bad_entry(v, addr, pte, "maps device memory that is all free");
		return;
	}
	check_folio(v, addr, pte, e);
}

static void check_entry(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pte)
{
	struct uhmm__entry e;

	if (v->vma && addr >= v->vma->end)
		v->vma = uhmm__find_vma(v->mm, addr);
	uhmm__entry_decode(v->m, pte, &e);
	if (!v->vma || addr < v->vma->start) {
		struct uhmm_vma *next = v->vma;

		bad_entry(v, addr, pte, "is outside of any VMA");
		/* Counted all the same, so that the folio is not found wrong as well. */
		v->vma = NULL;
		if (e.has_frame && pfn_to_index(v->m, e.pfn) < v->m->nr_frames)
			check_folio(v, addr, pte, &e);
		v->vma = next;
		return;
	}
	if (e.write && !(v->vma->flags & UHMM_VM_WRITE))
		bad_entry(v, addr, pte, "is writable in a VMA that is not");
	if (pte_present(pte))
		check_present(v, addr, pte, &e);
	else
		check_nonpresent(v, addr, pte, &e);
}

/* A PMD leaf: what it says of its pages must hold as for PTEs, but it is one mapping. */
static void check_huge(struct uhmm__verify *v, uhmm_vaddr_t addr, pte_t pmd)
{
	struct uhmm__entry e;
	struct uhmm__frame *f;

	check_entry(v, addr, pmd_page_entry(pmd, 0));
	if (!v->vma || addr < v->vma->start || addr + UHMM_PMD_SIZE > v->vma->end)
		bad_entry(v, addr, pmd, "is a huge leaf that its VMA does not cover");
	uhmm__entry_decode(v->m, pmd_page_entry(pmd, 0), &e);
	if (!e.has_frame || pfn_to_index(v->m, e.pfn) >= v->m->nr_frames ||
	    e.kind == ENTRY_MIGRATION)
		return;
	f = pfn_to_frame(v->m, e.pfn);
	/* Not a mapping of the first page, but of all. */
	uhmm__seen(v, e.pfn)->maps--;
	uhmm__seen(v, e.pfn)->entire++;
	if (folio_ref_count(f) && folio_order(f) != UHMM_PMD_ORDER)
		bad_entry(v, addr, pmd, "is a huge leaf, but its folio is not");
}

/* ---- tables ---- */

static int cmp_chunk(const void *key, const void *elem)
{
	uintptr_t x = *(const uintptr_t *)key, y = *(const uintptr_t *)elem;

	return x < y ? -1 : x > y;
}

/* Whether an entry of the level above points to a table of @level. */
static bool is_table(struct uhmm__verify *v, pte_t e, unsigned int level)
{
	uintptr_t at = (uintptr_t)entry_table(e);
	uintptr_t chunk = at & ~(TABLE_CHUNK_SIZE - 1);

	return (e.val & ~PTE_PFN_MASK) == PTE_TABLE &&
	       bsearch(&chunk, v->chunks, v->m->tables->nr_chunks, sizeof(chunk), cmp_chunk) &&
	       (at - chunk) >> UHMM_PAGE_SHIFT >= TABLE_CHUNK_FIRST &&
	       uhmm__ptdesc((void *)at)->level == level;
}

static void walk_table(struct uhmm__verify *v, struct uhmm__table *tb, unsigned int level,
		       uhmm_vaddr_t base)
{
	unsigned int leaves = 0, deposited = 0;

	v->nr_tables[level]++;
	if (uhmm__spin_is_locked(&uhmm__ptdesc(tb)->ptl))
		bad(v, "mm %lu: lock of the level %u table at %#lx is held", id_of(v->mm), level,
		    (unsigned long)base);
	for (unsigned int i = 0; i < UHMM_PTRS_PER_TABLE; i++) {
		pte_t e = pte_make(load_relaxed(&tb->e[i]));
		uhmm_vaddr_t addr = base + i * LEVEL_SIZE(level);

		if (pte_none(e))
			continue;
		if (level == 1) {
			check_entry(v, addr, e);
			continue;
		}
		if (level == 2 && pmd_is_leaf(e)) {
			check_huge(v, addr, e);
			leaves++;
			continue;
		}
		if (!is_table(v, e, level - 1)) {
			bad(v, "mm %lu: level %u entry %#lx at %#lx is no table", id_of(v->mm),
			    level, (unsigned long)e.val, (unsigned long)addr);
			continue;
		}
		if (!uhmm__rangetree_find_in(&v->mm->vmas, addr, addr + LEVEL_SIZE(level), NULL))
			bad(v, "mm %lu: level %u table at %#lx serves no VMA", id_of(v->mm),
			    level - 1, (unsigned long)addr);
		walk_table(v, entry_table(e), level - 1, addr);
	}
	for (const struct uhmm__ptdesc *d = uhmm__ptdesc(tb)->deposited; d; d = d->next_free) {
		deposited++;
		v->nr_tables[1]++;
	}
	if (level == 2 && deposited != leaves)
		bad(v, "mm %lu: PMD table at %#lx has %u huge leaves, but %u tables put aside",
		    id_of(v->mm), (unsigned long)base, leaves, deposited);
}

void uhmm__verify_entries(struct uhmm__verify *v)
{
	struct uhmm_mm *mm;

	uhmm__for_each_entry(mm, &v->m->mms->list, list) {
		v->mm = mm;
		v->vma = uhmm__find_vma(mm, 0);
		walk_table(v, mm->pgt.pgd, 4, 0);
	}
}
