// SPDX-License-Identifier: LGPL-2.1-or-later
/* Decoding entries and frames for those who only look. */
#include "mm/inspect.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "mm/zone_device.h"

/* ---- entries of a range ---- */

void uhmm__scan_init(struct uhmm__scan *s, struct uhmm__pgtable *pgt, uhmm_vaddr_t start,
		     uhmm_vaddr_t end)
{
	*s = (struct uhmm__scan){ .pgt = pgt, .next = start, .end = end };
}

/*
 * The PTE table of s->next, or a huge leaf in s->leaf; moves on over what has none. False at the end.
 */
static bool scan_table(struct uhmm__scan *s)
{
	s->leaf = pte_make(0);
	while (s->next < s->end) {
		struct uhmm__table *tb = s->pgt->pgd;
		unsigned int level = 4;
		pte_t e = pte_make(0);

		for (; level > 1; level--) {
			e = pte_make(load_acquire(&tb->e[table_index(s->next, level)]));

			if (!entry_is_table(e))
				break;
			tb = entry_table(e);
		}
		if (level == 1) {
			s->pte_table = tb;
			return true;
		}
		if (level == 2 && pmd_is_leaf(e)) {
			s->leaf = e;
			return true;
		}
		s->next = (s->next & LEVEL_MASK(level)) + LEVEL_SIZE(level);
	}
	return false;
}

bool uhmm__scan_next(struct uhmm__scan *s)
{
	while (s->next < s->end) {
		unsigned int i;

		if (!s->pte_table && pte_none(s->leaf) && !scan_table(s))
			return false;
		i = table_index(s->next, 1);
		s->addr = s->next;
		s->huge = !s->pte_table;
		s->pte = s->huge ? pmd_page_entry(s->leaf, i)
				 : pte_make(load_acquire(&s->pte_table->e[i]));
		s->next += UHMM_PAGE_SIZE;
		if (i == UHMM_PTRS_PER_TABLE - 1) {
			s->pte_table = NULL;
			s->leaf = pte_make(0);
		}
		if (!pte_none(s->pte))
			return true;
	}
	return false;
}

/* ---- what an entry is ---- */

static void decode_leaf(pte_t pte, struct uhmm__entry *e)
{
	uint64_t offset = leaf_offset(pte);

	switch (leaf_type(pte)) {
	case LEAF_SWAP:
		e->kind = ENTRY_SWAP;
		e->exclusive = pte.val & LEAF_EXCLUSIVE;
		e->slot = offset;
		return;
	case LEAF_MARKER:
		e->kind = ENTRY_MARKER;
		return;
	case LEAF_HWPOISON:
		e->kind = ENTRY_HWPOISON;
		return;
	case LEAF_MIGRATION_WRITE:
		e->write = true;
		/* fall through */
	case LEAF_MIGRATION_READ_EXCLUSIVE:
	case LEAF_MIGRATION_READ:
		e->kind = ENTRY_MIGRATION;
		e->exclusive = leaf_type(pte) == LEAF_MIGRATION_READ_EXCLUSIVE;
		e->young = offset & LEAF_YOUNG;
		e->dirty = offset & LEAF_DIRTY;
		break;
	case LEAF_DEVICE_PRIVATE_WRITE:
		e->write = true;
		/* fall through */
	case LEAF_DEVICE_PRIVATE_READ:
		e->kind = ENTRY_DEVICE_PRIVATE;
		break;
	case LEAF_DEVICE_EXCLUSIVE:
		e->kind = ENTRY_DEVICE_EXCLUSIVE;
		break;
	}
	e->has_frame = true;
	e->pfn = leaf_pfn(pte);
}

/* The zero page, or a page of the huge one. */
static bool is_zero(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	uhmm_pfn_t huge = load_relaxed(&m->huge_zero_pfn);

	return pfn == m->zero_pfn || (huge && pfn - huge < UHMM_PTRS_PER_TABLE);
}

void uhmm__entry_decode(struct uhmm_machine *m, pte_t pte, struct uhmm__entry *e)
{
	*e = (struct uhmm__entry){ .kind = ENTRY_NONE };
	if (pte_none(pte))
		return;
	if (!pte_present(pte)) {
		decode_leaf(pte, e);
		return;
	}
	e->pfn = pte_pfn(pte);
	e->kind = is_zero(m, e->pfn) ? ENTRY_ZERO : ENTRY_PAGE;
	if (pte.val & PTE_SPECIAL)
		e->kind = ENTRY_SPECIAL;
	e->has_frame = e->kind == ENTRY_PAGE;
	e->write = pte_write(pte);
	e->protnone = pte_protnone(pte);
	e->exec = !e->protnone && !(pte.val & PTE_NX);
	e->young = pte_young(pte);
	e->dirty = pte_dirty(pte);
}

const char *uhmm__entry_kind_name(enum uhmm__entry_kind kind)
{
	static const char *const names[ENTRY_NR_KINDS] = {
		[ENTRY_NONE] = "none",
		[ENTRY_ZERO] = "zero",
		[ENTRY_PAGE] = "ram",
		[ENTRY_SPECIAL] = "special",
		[ENTRY_DEVICE_PRIVATE] = "device-private",
		[ENTRY_DEVICE_EXCLUSIVE] = "device-exclusive",
		[ENTRY_MIGRATION] = "migration",
		[ENTRY_SWAP] = "swap",
		[ENTRY_HWPOISON] = "hwpoison",
		[ENTRY_MARKER] = "marker",
	};

	return names[kind];
}

const char *uhmm__entry_perm(const struct uhmm__entry *e, char buf[4])
{
	bool read = !e->protnone &&
		    (e->kind == ENTRY_ZERO || e->kind == ENTRY_SPECIAL || e->has_frame) &&
		    e->kind != ENTRY_HWPOISON;

	buf[0] = read ? 'r' : '-';
	buf[1] = e->write ? 'w' : '-';
	buf[2] = e->exec ? 'x' : '-';
	buf[3] = '\0';
	return buf;
}

/* ---- frames ---- */

static const char *const flag_names[] = {
	[PG_LOCKED] = "locked",
	[PG_WAITERS] = "waiters",
	[PG_DIRTY] = "dirty",
	[PG_UPTODATE] = "uptodate",
	[PG_LRU] = "lru",
	[PG_ANON_EXCLUSIVE] = "anon-exclusive",
	[PG_SWAPBACKED] = "swapbacked",
	[PG_RESERVED] = "reserved",
	[PG_DEVICE_PRIVATE] = "device-private",
	[PG_DEVICE_COHERENT] = "device-coherent",
	[PG_FREE] = "free",
	[PG_TAIL] = "tail",
	[PG_SWAPCACHE] = "swapcache",
	[PG_HWPOISON] = "hwpoison",
	[PG_ACTIVE] = "active",
	[PG_REFERENCED] = "referenced",
	[PG_RECLAIM] = "reclaim",
};

const char *uhmm__frame_text(struct uhmm__frame *page, char buf[UHMM__FRAME_TEXT])
{
	struct uhmm__frame *f = page_folio(page);
	uint32_t flags = load_relaxed(&f->flags);
	const char *sep = " flags ";
	int n;

	n = snprintf(buf, UHMM__FRAME_TEXT, "ref %u map %d", folio_ref_count(f), folio_mapcount(f));
	if (folio_test_large(f)) {
		n += snprintf(buf + n, UHMM__FRAME_TEXT - n, " order %u", folio_order(f));
		flags |= load_relaxed(&page->flags) & ~FOLIO_ORDER_MASK & ~(uint32_t)BIT(PG_TAIL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++) {
		if (!(flags & BIT(i)))
			continue;
		n += snprintf(buf + n, UHMM__FRAME_TEXT - n, "%s%s", sep, flag_names[i]);
		sep = ",";
	}
	if (load_relaxed(&f->mapping))
		snprintf(buf + n, UHMM__FRAME_TEXT - n, " %s index 0x%lx",
			 folio_test_anon(f) ? "anon" : "file",
			 (unsigned long)load_relaxed(&f->index));
	return buf;
}

/* ---- devices ---- */

static uint32_t owner_number(struct uhmm__owners *o, void *owner)
{
	uint32_t i;

	for (i = 0; i < o->nr; i++) {
		if (o->v[i] == owner)
			return i;
	}
	o->v[o->nr++] = owner;
	return i;
}

int uhmm__owners_init(struct uhmm__owners *o, struct uhmm_machine *m)
{
	struct uhmm__pgmaps *p = m->pgmaps;
	size_t used =
		m->nr_frames == m->own_base
			? (p->next - m->device_base) / PGMAP_BLOCK_FRAMES
			: (pfn_to_index(m, p->next_own) - m->device_base) / PGMAP_BLOCK_FRAMES;
	struct uhmm_dev_pagemap *last = NULL;

	*o = (struct uhmm__owners){
		.machine = m,
		.v_bytes = ALIGN_UP(used * sizeof(*o->v) + 1, UHMM_PAGE_SIZE),
		.block_bytes = ALIGN_UP(used * sizeof(*o->block) + 1, UHMM_PAGE_SIZE),
	};
	/* Reserved rather than allocated: looking must not use up injected failures. */
	o->v = uhmm__reserve(o->v_bytes);
	o->block = uhmm__reserve(o->block_bytes);
	if (!o->v || !o->block) {
		uhmm__owners_exit(o);
		return -ENOMEM;
	}
	for (size_t i = 0; i < used; i++) {
		struct uhmm_dev_pagemap *pgmap = load_acquire(&p->by_block[i]);

		if (!pgmap)
			continue;
		o->block[i] = (pgmap == last ? o->block[i - 1] : owner_number(o, pgmap->owner) + 1);
		last = pgmap;
	}
	return 0;
}

void uhmm__owners_exit(struct uhmm__owners *o)
{
	uhmm__unreserve(o->v, o->v_bytes);
	uhmm__unreserve(o->block, o->block_bytes);
	o->v = NULL;
	o->block = NULL;
}

int uhmm__owners_device(const struct uhmm__owners *o, uhmm_pfn_t pfn)
{
	size_t block;

	if (!o->block || pfn < o->machine->device_base)
		return -1;
	block = (pfn_to_index(o->machine, pfn) - o->machine->device_base) / PGMAP_BLOCK_FRAMES;
	if (block >= o->block_bytes / sizeof(*o->block))
		return -1;
	return (int)o->block[block] - 1;
}
