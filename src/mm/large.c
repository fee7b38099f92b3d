// SPDX-License-Identifier: LGPL-2.1-or-later
/* Counts of a large folio, and the list of those mapped in part. See large.h. */
#include "mm/large.h"

#include "core/alloc.h"
#include "mm/mm.h"

/* ---- mappings by address space ---- */

enum {
	IDS_LOCK = 1 << 0,
	IDS_SHARED = 1 << 1,
	NR_SLOTS = 2,
};

/* An address space that maps the folio, and how many of its entries do. Number 0: a free slot. */
struct slots {
	uint64_t id[NR_SLOTS];
	uint32_t count[NR_SLOTS];
};

static bool has_slots(struct uhmm__frame *f)
{
	return folio_order(f) > 1;
}

static _Atomic uint64_t *ids_word(struct uhmm__frame *f)
{
	return &f[3].index;
}

/* A lock of a few instructions, and none of them a switch point. Models: the bit of _mm_ids. */
static void ids_lock(struct uhmm__frame *f)
{
	while (atomic_fetch_or_explicit(ids_word(f), IDS_LOCK, memory_order_acquire) & IDS_LOCK)
		;
}

static void ids_unlock(struct uhmm__frame *f, bool shared)
{
	store_release(ids_word(f), shared ? IDS_SHARED : 0);
}

static void slots_load(struct uhmm__frame *f, struct slots *s)
{
	uint64_t counts = load_relaxed(&f[3].mapping);

	s->id[0] = load_relaxed(&f[2].mapping);
	s->id[1] = load_relaxed(&f[2].index);
	s->count[0] = (uint32_t)counts;
	s->count[1] = (uint32_t)(counts >> 32);
}

static void slots_store(struct uhmm__frame *f, const struct slots *s)
{
	store_relaxed(&f[2].mapping, s->id[0]);
	store_relaxed(&f[2].index, s->id[1]);
	store_relaxed(&f[3].mapping, (uint64_t)s->count[1] << 32 | s->count[0]);
}

static int slot_of(const struct slots *s, uint64_t id)
{
	for (int i = 0; i < NR_SLOTS; i++) {
		if (s->id[i] == id)
			return i;
	}
	return -1;
}

/* The number of an mm as slots hold it: 0 means none. */
static uint64_t mm_id(const struct uhmm_mm *mm)
{
	return mm->id + 1;
}

void uhmm__large_mapcount_set(struct uhmm__frame *f, struct uhmm_mm *mm, unsigned int n)
{
	struct slots s = { .id = { mm_id(mm) }, .count = { n } };

	store_relaxed(folio_large_mapcountp(f), n);
	if (has_slots(f))
		slots_store(f, &s);
}

void uhmm__large_mapcount_add(struct uhmm__frame *f, struct uhmm_mm *mm, unsigned int n)
{
	uintptr_t total;
	struct slots s;
	bool shared;
	int i;

	if (!has_slots(f)) {
		atomic_fetch_add_explicit(folio_large_mapcountp(f), n, memory_order_relaxed);
		return;
	}
	ids_lock(f);
	shared = load_relaxed(ids_word(f)) & IDS_SHARED;
	total = load_relaxed(folio_large_mapcountp(f)) + n;
	store_relaxed(folio_large_mapcountp(f), total);
	slots_load(f, &s);
	i = slot_of(&s, mm_id(mm));
	if (i >= 0) {
		s.count[i] += n;
	} else {
		i = slot_of(&s, 0);
		if (i >= 0) {
			s.id[i] = mm_id(mm);
			s.count[i] = n;
		}
		/* A third mm finds no slot: shared it is already. */
		shared |= total != n;
	}
	slots_store(f, &s);
	ids_unlock(f, shared);
}

void uhmm__large_mapcount_sub(struct uhmm__frame *f, struct uhmm_mm *mm, unsigned int n)
{
	uintptr_t total;
	struct slots s;
	bool shared;
	int i;

	if (!has_slots(f)) {
		atomic_fetch_sub_explicit(folio_large_mapcountp(f), n, memory_order_relaxed);
		return;
	}
	ids_lock(f);
	shared = load_relaxed(ids_word(f)) & IDS_SHARED;
	total = load_relaxed(folio_large_mapcountp(f)) - n;
	store_relaxed(folio_large_mapcountp(f), total);
	slots_load(f, &s);
	i = slot_of(&s, mm_id(mm));
	/* A slot may count too few: some entries came while none was free. */
	if (i >= 0 && s.count[i] > n) {
		s.count[i] -= n;
	} else {
		if (i >= 0) {
			s.count[i] = 0;
			s.id[i] = 0;
		}
		if (s.count[0] == total || s.count[1] == total)
			shared = false;
	}
	slots_store(f, &s);
	ids_unlock(f, shared);
}

bool uhmm__large_mapped_shared(struct uhmm__frame *f)
{
	return !has_slots(f) || load_acquire(ids_word(f)) & IDS_SHARED;
}

bool uhmm__large_can_reuse(struct uhmm__frame *f)
{
	/* With one page left of it the folio had better go. */
	return folio_mapcount(f) > 1 && !uhmm__large_mapped_shared(f) &&
	       (uint32_t)folio_mapcount(f) == folio_ref_count(f);
}

/* ---- rmap ---- */

static void set_anon(struct uhmm__frame *f, struct uhmm_vma *vma, uhmm_vaddr_t addr)
{
	store_relaxed(&f->index, vma_anon_pgoff(vma, addr));
	store_release(&f->mapping, (uintptr_t)load_relaxed(&vma->anon_vma) | MAPPING_ANON);
}

void uhmm__folio_add_new_anon_rmap_pmd(struct uhmm__frame *f, struct uhmm_vma *vma,
				       uhmm_vaddr_t addr)
{
	store_relaxed(folio_entire_mapcountp(f), 1);
	uhmm__large_mapcount_set(f, vma->mm, 1);
	folio_set(f, PG_ANON_EXCLUSIVE);
	set_anon(f, vma, addr);
}

void uhmm__folio_add_new_anon_rmap_ptes(struct uhmm__frame *f, struct uhmm_vma *vma,
					uhmm_vaddr_t addr)
{
	uint64_t n = folio_nr_pages(f);

	for (uint64_t i = 0; i < n; i++) {
		store_relaxed(&f[i].mapcount, 1);
		folio_set(&f[i], PG_ANON_EXCLUSIVE);
	}
	uhmm__large_mapcount_set(f, vma->mm, n);
	set_anon(f, vma, addr);
}

void uhmm__large_add_rmap(struct uhmm__frame *f, struct uhmm__frame *page, struct uhmm_mm *mm)
{
	uhmm__large_mapcount_add(f, mm, 1);
	atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_relaxed);
}

struct uhmm__frame *uhmm__large_remove_rmap(struct uhmm__frame *page, struct uhmm_mm *mm)
{
	struct uhmm__frame *f = page_folio(page);
	bool last = atomic_fetch_sub_explicit(&page->mapcount, 1, memory_order_relaxed) == 1;

	uhmm__large_mapcount_sub(f, mm, 1);
	/* This page is not mapped any more; if another is, the folio is so in part. */
	if (last && folio_mapped(f) && !folio_entire_mapcount(f))
		uhmm__deferred_split_queue(mm->machine, f);
	return f;
}

void uhmm__folio_add_anon_rmap_pmd(struct uhmm__frame *f, struct uhmm_mm *mm, bool exclusive)
{
	uhmm__large_mapcount_add(f, mm, 1);
	atomic_fetch_add_explicit(folio_entire_mapcountp(f), 1, memory_order_relaxed);
	if (exclusive)
		folio_set(f, PG_ANON_EXCLUSIVE);
}

void uhmm__folio_remove_rmap_pmd(struct uhmm__frame *f, struct uhmm_mm *mm)
{
	uint64_t before =
		atomic_fetch_sub_explicit(folio_entire_mapcountp(f), 1, memory_order_relaxed);

	uhmm__large_mapcount_sub(f, mm, 1);
	if (before == 1)
		uhmm__deferred_split_check(mm->machine, f);
}

/* ---- the list of folios that are mapped in part ---- */

/* Folios by pfn, linked in both directions by the aux of their first two tails. */
struct uhmm__deferred {
	struct uhmm__spinlock lock;
	uint32_t head, tail; /* [lock] 0 = none */
	uint64_t nr;	     /* [lock] */
};

int uhmm__deferred_init(struct uhmm_machine *m)
{
	struct uhmm__deferred *d = uhmm__alloc(m, sizeof(*d));

	if (!d)
		return -ENOMEM;
	uhmm__spin_init(&d->lock, UHMM__LC_DEFERRED_SPLIT);
	m->deferred = d;
	return 0;
}

void uhmm__deferred_exit(struct uhmm_machine *m)
{
	if (m->deferred)
		uhmm__free(m, m->deferred, sizeof(*m->deferred));
	m->deferred = NULL;
}

static uint32_t *next_of(struct uhmm_machine *m, uint32_t pfn)
{
	return &pfn_to_frame(m, pfn)[1].aux;
}

static uint32_t *prev_of(struct uhmm_machine *m, uint32_t pfn)
{
	return &pfn_to_frame(m, pfn)[2].aux;
}

static bool is_queued(struct uhmm_machine *m, struct uhmm__deferred *d, uint32_t pfn)
{
	return d->head == pfn || *prev_of(m, pfn);
}

/* Context: d->lock. */
static void unlink_folio(struct uhmm_machine *m, struct uhmm__deferred *d, uint32_t pfn)
{
	uint32_t next = *next_of(m, pfn), prev = *prev_of(m, pfn);

	if (prev)
		*next_of(m, prev) = next;
	else
		d->head = next;
	if (next)
		*prev_of(m, next) = prev;
	else
		d->tail = prev;
	*next_of(m, pfn) = 0;
	*prev_of(m, pfn) = 0;
	d->nr--;
}

/* Whether some pages have a PTE mapping and some have not. */
static bool partially_mapped(struct uhmm__frame *f)
{
	uint64_t n = folio_nr_pages(f), mapped = 0;

	if (folio_entire_mapcount(f) || !folio_mapcount(f))
		return false;
	for (uint64_t i = 0; i < n; i++)
		mapped += load_relaxed(&f[i].mapcount) > 0;
	return mapped && mapped < n;
}

void uhmm__deferred_split_check(struct uhmm_machine *m, struct uhmm__frame *f)
{
	if (partially_mapped(f))
		uhmm__deferred_split_queue(m, f);
}

void uhmm__deferred_split_queue(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__deferred *d = m->deferred;
	uint32_t pfn = (uint32_t)frame_pfn(m, f);

	if (folio_order(f) < 2 || folio_is_zone_device(f) || !folio_test_anon(f))
		return;
	uhmm__spin_lock(&d->lock);
	if (!is_queued(m, d, pfn)) {
		*prev_of(m, pfn) = d->tail;
		*next_of(m, pfn) = 0;
		if (d->tail)
			*next_of(m, d->tail) = pfn;
		else
			d->head = pfn;
		d->tail = pfn;
		d->nr++;
	}
	uhmm__spin_unlock(&d->lock);
}

void uhmm__deferred_split_unqueue(struct uhmm_machine *m, struct uhmm__frame *f)
{
	struct uhmm__deferred *d = m->deferred;
	uint32_t pfn = (uint32_t)frame_pfn(m, f);

	if (folio_order(f) < 2 || folio_is_zone_device(f))
		return;
	uhmm__spin_lock(&d->lock);
	if (is_queued(m, d, pfn))
		unlink_folio(m, d, pfn);
	uhmm__spin_unlock(&d->lock);
}

struct uhmm__frame *uhmm__deferred_split_pop(struct uhmm_machine *m)
{
	struct uhmm__deferred *d = m->deferred;
	struct uhmm__frame *f = NULL;

	uhmm__spin_lock(&d->lock);
	for (uint32_t pfn = d->head; pfn; pfn = *next_of(m, pfn)) {
		f = pfn_to_frame(m, pfn);
		/* One without references is about to leave the list. */
		if (folio_try_get(f)) {
			unlink_folio(m, d, pfn);
			break;
		}
		f = NULL;
	}
	uhmm__spin_unlock(&d->lock);
	return f;
}

uint64_t uhmm__deferred_split_count(struct uhmm_machine *m)
{
	uint64_t nr;

	uhmm__spin_lock(&m->deferred->lock);
	nr = m->deferred->nr;
	uhmm__spin_unlock(&m->deferred->lock);
	return nr;
}
