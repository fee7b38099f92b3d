// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The verifier: walks everything that a machine has and checks every invariant that holds while no
 * task is inside the library. Here: tables and frames; verify_mm.c: mms, VMAs, rmap and entries.
 *
 * It first counts, for each frame, the entries that map it, the LRU batches and page caches that
 * hold it and the free lists that it is on; then it goes over the frames and compares. Its memory is reserved, not
 * allocated: it must neither use up injected failures nor show in the machine's memory.
 */
#include "mm/verify.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "mm/inspect.h"
#include "mm/zone_device.h"

/* ---- reports ---- */

static void bad_text(struct uhmm__verify *v, const char *fmt, va_list ap, const char *more)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	v->violations++;
	uhmm__report(v->m, UHMM_REPORT_VERIFY, "%s%s", text, more);
}

void uhmm__verify_bad(struct uhmm__verify *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bad_text(v, fmt, ap, "");
	va_end(ap);
}

void uhmm__verify_bad_frame(struct uhmm__verify *v, uhmm_pfn_t pfn, const char *fmt, ...)
{
	char frame[UHMM__FRAME_TEXT], more[UHMM__FRAME_TEXT + 32];
	va_list ap;

	uhmm__frame_text(pfn_to_frame(v->m, pfn), frame);
	snprintf(more, sizeof(more), " [pfn %#lx %s]", (unsigned long)pfn, frame);
	va_start(ap, fmt);
	bad_text(v, fmt, ap, more);
	va_end(ap);
}

#define bad uhmm__verify_bad
#define bad_frame uhmm__verify_bad_frame

/* ---- page tables that are not linked ---- */

static int cmp_uintptr(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

static int chunks_init(struct uhmm__verify *v)
{
	struct uhmm__tables *t = v->m->tables;

	v->chunks = uhmm__reserve((t->nr_chunks + 1) * sizeof(*v->chunks));
	if (!v->chunks)
		return -ENOMEM;
	for (size_t i = 0; i < t->nr_chunks; i++)
		v->chunks[i] = (uintptr_t)t->chunks[i];
	qsort(v->chunks, t->nr_chunks, sizeof(*v->chunks), cmp_uintptr);
	return 0;
}

/* Tables in use, by level, as the allocator sees it: all ever made but the free ones. */
static void count_tables(struct uhmm__tables *t, uint64_t nr[5])
{
	for (size_t c = 0; c < t->nr_chunks; c++) {
		const struct uhmm__ptdesc *d = (const struct uhmm__ptdesc *)t->chunks[c];
		size_t end = c + 1 < t->nr_chunks ? UHMM_PTRS_PER_TABLE : t->next_in_chunk;

		for (size_t i = TABLE_CHUNK_FIRST; i < end; i++)
			nr[d[i].level]++;
	}
	for (const struct uhmm__ptdesc *d = t->free; d; d = d->next_free)
		nr[d->level]--;
}

static void check_tables(struct uhmm__verify *v)
{
	static const char *const names[] = { "", "PTE", "PMD", "PUD", "PGD" };
	struct uhmm__tables *t = v->m->tables;
	uint64_t used[5] = { 0 }, sum = 0;

	count_tables(t, used);
	for (unsigned int level = 1; level <= 4; level++) {
		sum += used[level];
		/* An mm that lost its users but is still kept has its PGD and nothing else. */
		if (used[level] == v->nr_tables[level] ||
		    (level == 4 && used[level] > v->nr_tables[level]))
			continue;
		bad(v, "%lu %s tables are in use, but %lu are linked", (unsigned long)used[level],
		    names[level], (unsigned long)v->nr_tables[level]);
	}
	if (sum != load_relaxed(&t->nr_tables))
		bad(v, "%lu tables are counted, but %lu are in use",
		    (unsigned long)load_relaxed(&t->nr_tables), (unsigned long)sum);
}

/* ---- frames ---- */

static void saw_free(void *arg, uhmm_pfn_t pfn)
{
	struct uhmm__verify *v = arg;

	uhmm__seen(v, pfn)->free++;
}

static void saw_batched(void *arg, uhmm_pfn_t pfn)
{
	struct uhmm__verify *v = arg;

	uhmm__seen(v, pfn)->batched++;
}

static void saw_lazyfree(void *arg, uhmm_pfn_t pfn)
{
	struct uhmm__verify *v = arg;

	uhmm__seen(v, pfn)->lazyfree++;
}

/* What must not be set on any folio while nobody works on it. */
static void check_idle_flags(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);

	if (folio_test(f, PG_LOCKED))
		bad_frame(v, pfn, "folio is locked");
	if (folio_test(f, PG_MIGRATING))
		bad_frame(v, pfn, "folio is marked as migrating");
	if (folio_test(f, PG_WAITERS) && v->m->config.waiters_bit == UHMM_WAITERS_EXACT)
		bad_frame(v, pfn, "folio has waiters");
	if (folio_test(f, PG_FREE))
		bad_frame(v, pfn, "folio in use is marked free");
	if (folio_test(f, PG_RESERVED))
		bad_frame(v, pfn, "folio is reserved");
}

/*
 * Neither anonymous nor of a file: a driver's, in a VM_MIXEDMAP mapping; that it is in no other is
 * checked with the entries.
 */
static bool is_drivers(struct uhmm__frame *f)
{
	return !load_relaxed(&f->mapping);
}

/* The pages of a folio by themselves. Returns: entries that map any of them. */
static uint64_t check_pages(struct uhmm__verify *v, uhmm_pfn_t head)
{
	const uint32_t entire = uhmm__seen(v, head)->entire;
	struct uhmm__frame *f = pfn_to_frame(v->m, head);
	uint64_t total = entire, n = folio_nr_pages(f);

	for (uint64_t i = 0; i < n; i++) {
		const struct uhmm__seen *s = uhmm__seen(v, head + i);

		total += s->maps;
		if (n > 1 && load_relaxed(&f[i].mapcount) != (int64_t)s->maps)
			bad_frame(v, head + i, "mapcount of the page is %d, but %u entries map it",
				  load_relaxed(&f[i].mapcount), s->maps);
		if (folio_test(&f[i], PG_ANON_EXCLUSIVE) && s->maps + entire > 1)
			bad_frame(v, head + i, "anon-exclusive page is mapped %u times",
				  s->maps + entire);
	}
	return total;
}

/* Pages of a large folio that are not the first. */
static void check_tails(struct uhmm__verify *v, uhmm_pfn_t head)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, head);
	const uint32_t must = (uint32_t)BIT(PG_TAIL) |
			      (load_relaxed(&f->flags) & FOLIO_TAIL_FLAGS) |
			      (load_relaxed(&f->flags) & FOLIO_ORDER_MASK);
	uint64_t n = folio_nr_pages(f);

	if (head & (n - 1))
		bad_frame(v, head, "large folio is not aligned");
	for (uint64_t i = 1; i < n; i++) {
		const struct uhmm__seen *s = uhmm__seen(v, head + i);

		if ((load_relaxed(&f[i].flags) & ~(uint32_t)BIT(PG_ANON_EXCLUSIVE)) != must)
			bad_frame(v, head + i, "tail has not the flags of one");
		if (folio_ref_count(&f[i]))
			bad_frame(v, head + i, "tail has references");
		if (s->free || s->batched || s->entire)
			bad_frame(v, head + i,
				  "tail is free, in a batch, or mapped by a PMD entry");
	}
	if (folio_entire_mapcount(f) != (int64_t)uhmm__seen(v, head)->entire)
		bad_frame(v, head, "entire mapcount is %d, but %u PMD entries map the folio",
			  folio_entire_mapcount(f), uhmm__seen(v, head)->entire);
}

/*
 * References: one per mapping, per batch and for the page cache or the swap cache; what is left must be
 * pins. Returns: entries that map the folio.
 */
static uint64_t check_counts(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);
	const struct uhmm__seen *s = uhmm__seen(v, pfn);
	uint32_t batches = s->batched + s->lazyfree;
	uint32_t cached = s->cached + uhmm__verify_in_swap_cache(v, pfn);
	uint64_t maps = check_pages(v, pfn), held = maps + batches + cached;
	uint64_t ref = folio_ref_count(f);

	/* Nobody's, so that it is never used again. */
	if (folio_test(f, PG_HWPOISON))
		held++;
	if (folio_test_large(f))
		check_tails(v, pfn);
	else if (s->entire)
		bad_frame(v, pfn, "PMD entries map a single page");
	if (folio_mapcount(f) != (int64_t)maps)
		bad_frame(v, pfn, "mapcount is %d, but %lu entries map the folio",
			  folio_mapcount(f), (unsigned long)maps);
	if (ref < held || (ref - held) % UHMM_PIN_BIAS)
		bad_frame(
			v, pfn,
			"refcount is %lu, but %lu entries, %u batches and %u caches hold the folio",
			(unsigned long)ref, (unsigned long)maps, batches, cached);
	if (maps && !folio_test(f, PG_UPTODATE) && !folio_is_zone_device(f) && !is_drivers(f))
		bad_frame(v, pfn, "mapped folio is not uptodate");
	return maps;
}

static void check_free_frame(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);
	const struct uhmm__seen *s = uhmm__seen(v, pfn);

	if (s->free > 1)
		bad_frame(v, pfn, "frame is %u times on the free lists", s->free);
	if (s->maps)
		bad_frame(v, pfn, "free frame is mapped by %u entries", s->maps);
	if (s->batched || s->lazyfree)
		bad_frame(v, pfn, "free frame is in an LRU batch");
	if (s->cached)
		bad_frame(v, pfn, "free frame is in a page cache");
	if (folio_ref_count(f))
		bad_frame(v, pfn, "free frame has a reference");
	if (folio_mapcount(f))
		bad_frame(v, pfn, "free frame has a mapcount");
	if (load_relaxed(&f->mapping))
		bad_frame(v, pfn, "free frame has a mapping");
	if (load_relaxed(&f->flags) & ~(uint32_t)BIT(PG_FREE))
		bad_frame(v, pfn, "free frame has flags");
}

/* Returns: frames of the folio. */
static uint64_t check_used_frame(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);
	const struct uhmm__seen *s = uhmm__seen(v, pfn);
	uint64_t maps;

	if (pfn == load_relaxed(&v->m->huge_zero_pfn))
		return UHMM_PTRS_PER_TABLE; /* mappings of it are not counted */
	if (folio_test(f, PG_TAIL)) {
		bad_frame(v, pfn, "tail has no head");
		return 1;
	}
	if (!folio_ref_count(f)) {
		bad_frame(v, pfn, "frame has no reference and is on no free list");
		return 1;
	}
	check_idle_flags(v, pfn);
	if (folio_is_zone_device(f))
		bad_frame(v, pfn, "RAM frame is marked as device memory");
	maps = check_counts(v, pfn);
	if (s->cached != !!folio_mapping(f))
		bad_frame(v, pfn, "folio is in %u page caches", s->cached);
	if (s->cached && folio_test(f, PG_SWAPCACHE))
		bad_frame(v, pfn, "folio is in a page cache and in the swap cache");
	if (s->batched > 1)
		bad_frame(v, pfn, "folio is in %u LRU batches", s->batched);
	else if (s->batched && folio_test(f, PG_LRU))
		bad_frame(v, pfn, "folio is on the LRU and in a batch");
	else if ((maps || s->cached) && !s->batched && !folio_test(f, PG_LRU) && !is_drivers(f) &&
		 !folio_test(f, PG_HWPOISON))
		bad_frame(v, pfn, "folio in use is neither on the LRU nor in a batch");
	if (!folio_test(f, PG_SWAPBACKED) && folio_test(f, PG_SWAPCACHE))
		bad_frame(v, pfn, "lazily freed folio is in the swap cache");
	return folio_nr_pages(f);
}

static void check_zero_page(struct uhmm__verify *v)
{
	struct uhmm_machine *m = v->m;
	struct uhmm__frame *f = pfn_to_frame(m, m->zero_pfn);
	const uint32_t flags = (uint32_t)(BIT(PG_RESERVED) | BIT(PG_UPTODATE));
	const size_t size = m->tags ? sizeof(uint64_t) : UHMM_PAGE_SIZE;
	uint64_t words[64];

	/* Mappings of it are not counted. */
	if (folio_ref_count(f) != 1 || folio_mapcount(f) || load_relaxed(&f->flags) != flags ||
	    load_relaxed(&f->mapping))
		bad_frame(v, m->zero_pfn, "the zero page is not as it was made");
	for (size_t off = 0; off < size; off += sizeof(words)) {
		const size_t n = MIN(size - off, sizeof(words)) / sizeof(*words);

		uhmm__read_frame(m, m->zero_pfn, off, words, n * sizeof(*words));
		for (size_t i = 0; i < n; i++) {
			if (!words[i])
				continue;
			bad(v, "the zero page holds %#lx at offset %zu", (unsigned long)words[i],
			    off + i * sizeof(*words));
			return;
		}
	}
}

static void check_ram(struct uhmm__verify *v)
{
	uint64_t used = 0, counted, n;
	bool locked = false;

	check_zero_page(v);
	for (uhmm_pfn_t pfn = v->ram_first; pfn < v->ram_end; pfn += n) {
		n = 1;
		if (uhmm__seen(v, pfn)->free) {
			check_free_frame(v, pfn);
		} else {
			n = check_used_frame(v, pfn);
			used += n;
		}
	}
	for (unsigned int i = 0; i < v->m->config.nr_cpus; i++) {
		if (!uhmm__spin_is_locked(&uhmm__cpu(v->m, i)->local))
			continue;
		bad(v, "the local lock of CPU %u is held", i);
		locked = true;
	}
	if (locked)
		return; /* the count would wait for it */
	counted = uhmm__frames_used(v->m);
	if (counted != used)
		bad(v, "%lu RAM frames are counted, but %lu are in use", (unsigned long)counted,
		    (unsigned long)used);
}

/* ---- device memory ---- */

/*
 * A device page that nobody maps may be its driver's: as it came from zone_device_page_init(), with
 * one reference and locked. Migration leaves none such behind: it unlocks, and the last reference
 * goes with the last mapping.
 */
static void check_unmapped_device_page(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);

	if (folio_mapcount(f))
		bad_frame(v, pfn, "mapcount is %d, but 0 entries map the folio", folio_mapcount(f));
	if (folio_ref_count(f) % UHMM_PIN_BIAS == 0)
		return; /* pins alone, if any */
	if (folio_ref_count(f) != 1 || !folio_test(f, PG_LOCKED))
		bad_frame(v, pfn, "device page is in use, but neither mapped nor its driver's");
}

static bool device_folio_mapped(struct uhmm__verify *v, uhmm_pfn_t pfn)
{
	uint64_t n = folio_nr_pages(pfn_to_frame(v->m, pfn));

	if (uhmm__seen(v, pfn)->entire)
		return true;
	for (uint64_t i = 0; i < n; i++) {
		if (uhmm__seen(v, pfn + i)->maps)
			return true;
	}
	return false;
}

/* Returns: pages of the folio if it is in use, else 0. */
static uint64_t check_device_page(struct uhmm__verify *v, uhmm_pfn_t pfn, uint32_t flag)
{
	struct uhmm__frame *f = pfn_to_frame(v->m, pfn);
	const struct uhmm__seen *s = uhmm__seen(v, pfn);

	if (s->batched || s->lazyfree || folio_test(f, PG_LRU))
		bad_frame(v, pfn, "device page is on the LRU or in a batch");
	if (!folio_ref_count(f)) {
		/* The order of its last life may stay. */
		const uint32_t may = flag | (uint32_t)BIT(PG_FREE) | FOLIO_ORDER_MASK;

		if (s->maps || s->entire)
			bad_frame(v, pfn, "free device page is mapped by %u entries",
				  s->maps + s->entire);
		else if (load_relaxed(&f->mapcount) || load_relaxed(&f->mapping))
			bad_frame(v, pfn, "free device page has a mapping");
		else if (load_relaxed(&f->flags) & ~may)
			bad_frame(v, pfn, "free device page has flags");
		return 0;
	}
	if ((load_relaxed(&f->flags) & (BIT(PG_DEVICE_PRIVATE) | BIT(PG_DEVICE_COHERENT))) != flag)
		bad_frame(v, pfn, "device page is not marked as its memory's kind");
	if (!device_folio_mapped(v, pfn)) {
		check_unmapped_device_page(v, pfn);
	} else {
		check_idle_flags(v, pfn);
		check_counts(v, pfn);
	}
	return folio_nr_pages(f);
}

/* The pagemaps of one space of pfns. Returns: pages in use. */
static uint64_t check_pagemaps(struct uhmm__verify *v, uhmm_pfn_t pfn, uhmm_pfn_t end)
{
	uint64_t all = 0;

	while (pfn < end) {
		struct uhmm_dev_pagemap *pgmap = page_pgmap(v->m, pfn);
		uint64_t used = 0;

		if (!pgmap) {
			pfn += PGMAP_BLOCK_FRAMES;
			continue;
		}
		if (pgmap->start != pfn) {
			bad(v, "pagemap of pfn %#lx starts at %#lx", (unsigned long)pfn,
			    (unsigned long)pgmap->start);
			return all;
		}
		/* Without pages in use its descriptors need not be touched. */
		if (load_relaxed(&pgmap->refs) != 1) {
			for (uint64_t i = 0, n; i < pgmap->npages; i += MAX(n, 1UL)) {
				n = check_device_page(v, pfn + i, pgmap_page_flag(pgmap));
				used += n;
			}
		}
		if (load_relaxed(&pgmap->refs) != used + 1)
			bad(v, "pagemap at pfn %#lx has %lu references, but %lu pages in use",
			    (unsigned long)pfn, (unsigned long)load_relaxed(&pgmap->refs),
			    (unsigned long)used);
		all += used;
		pfn += pgmap->npages;
	}
	return all;
}

static void check_device_memory(struct uhmm__verify *v)
{
	struct uhmm_machine *m = v->m;
	struct uhmm__pgmaps *p = m->pgmaps;
	uint64_t all = check_pagemaps(v, m->device_base, p->next);

	if (m->nr_frames > m->own_base)
		all += check_pagemaps(v, UHMM_PFN_DEVICE_SPACE, p->next_own);
	if (load_relaxed(&p->used) != all)
		bad(v, "%lu device pages are counted, but %lu are in use",
		    (unsigned long)load_relaxed(&p->used), (unsigned long)all);
}

/* ---- all of it ---- */

static int verify_all(struct uhmm__verify *v)
{
	struct uhmm_machine *m = v->m;
	size_t seen_bytes = m->nr_frames * sizeof(*v->seen);
	size_t chunks_bytes = (m->tables->nr_chunks + 1) * sizeof(*v->chunks);
	int err = -ENOMEM;

	v->seen = uhmm__reserve(seen_bytes);
	if (!v->seen || chunks_init(v) || uhmm__verify_swap_init(v))
		goto out;
	uhmm__frames_range(m, &v->ram_first, &v->ram_end);
	uhmm__frames_for_each_free(m, saw_free, v);
	uhmm__lru_for_each_batched(m, saw_batched, v);
	uhmm__lru_for_each_lazyfree(m, saw_lazyfree, v);
	err = uhmm__verify_mms(v);
	if (err)
		goto out;
	uhmm__verify_files(v);
	uhmm__verify_entries(v);
	check_tables(v);
	check_ram(v);
	check_device_memory(v);
	uhmm__verify_swap(v);
out:
	uhmm__verify_swap_exit(v);
	uhmm__unreserve(v->avs, v->avs_bytes);
	uhmm__unreserve(v->chunks, chunks_bytes);
	uhmm__unreserve(v->seen, seen_bytes);
	return err;
}

int uhmm_machine_verify(struct uhmm_machine *m)
{
	struct uhmm__verify v = { .m = m };
	struct uhmm_task *outer = uhmm__current();
	bool boot = !outer || outer->machine != m;
	int err;

	if (boot)
		uhmm__boot_task_enter(m);
	/* Tables, VMAs and tree nodes that only wait for their grace period are nobody's. */
	uhmm__rcu_barrier(m);
	err = verify_all(&v);
	if (boot)
		uhmm__boot_task_leave(m, outer);
	if (err)
		return err;
	return v.violations < INT_MAX ? (int)v.violations : INT_MAX;
}
