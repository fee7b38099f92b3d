// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Comparing two machines that were given the same work, perhaps by different strategies.
 *
 * Frame numbers, the order of the LRU and the young and dirty bits of entries depend on how the work
 * was done, so neither way of comparing looks at them. References that an LRU batch holds do, too:
 * they are left out of the counts.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "mm/inspect.h"
#include "mm/swap.h"

enum { MAX_LINES = 16 };

struct side {
	struct uhmm_machine *m;
	struct uhmm__owners owners;
	uint32_t *batched; /* reserved: pfns in LRU batches, sorted */
	size_t nr_batched, batched_bytes;
	struct uhmm_mm *mm;
	struct uhmm__scan scan;
};

struct compare {
	struct side a, b;
	enum uhmm_compare what;
	uhmm_emit_fn *emit;
	void *data;
	uhmm__apart_fn *apart;
	void *apart_data;
	uint64_t nr_apart;
	unsigned int lines;
	int64_t differences;
};

/* What the STATE of a page is. */
struct page {
	struct uhmm__entry entry;
	int device; /* -1: none */
	uint32_t ref, pins;
	int32_t map;
	unsigned int order; /* of the folio */
	bool file;	    /* a page of a file */
};

static void differ(struct compare *c, int64_t n, const char *fmt, ...) uhmm_printf(3, 4);

static void differ(struct compare *c, int64_t n, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	c->differences += n;
	if (!c->emit || c->lines == MAX_LINES)
		return;
	c->lines++;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->emit(c->data, line);
}

/* ---- one machine ---- */

static void count_batched(void *arg, uhmm_pfn_t pfn uhmm_unused)
{
	struct side *s = arg;

	s->nr_batched++;
}

static void add_batched(void *arg, uhmm_pfn_t pfn)
{
	struct side *s = arg;

	s->batched[s->nr_batched++] = (uint32_t)pfn;
}

static int cmp_pfn(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int side_init(struct side *s, struct uhmm_machine *m)
{
	*s = (struct side){ .m = m };
	uhmm__lru_for_each_batched(m, count_batched, s);
	uhmm__lru_for_each_lazyfree(m, count_batched, s);
	s->batched_bytes = (s->nr_batched + 1) * sizeof(*s->batched);
	s->batched = uhmm__reserve(s->batched_bytes);
	if (!s->batched || uhmm__owners_init(&s->owners, m))
		return -ENOMEM;
	s->nr_batched = 0;
	uhmm__lru_for_each_batched(m, add_batched, s);
	uhmm__lru_for_each_lazyfree(m, add_batched, s);
	qsort(s->batched, s->nr_batched, sizeof(*s->batched), cmp_pfn);
	return 0;
}

static void side_exit(struct side *s)
{
	uhmm__owners_exit(&s->owners);
	uhmm__unreserve(s->batched, s->batched_bytes);
}

/* References of LRU batches to a folio: MADV_FREE adds more. */
static uint32_t batch_refs(const struct side *s, uint32_t pfn)
{
	const uint32_t *hit = bsearch(&pfn, s->batched, s->nr_batched, sizeof(pfn), cmp_pfn);
	const uint32_t *first = hit, *end = s->batched + s->nr_batched;

	if (!hit)
		return 0;
	while (first > s->batched && first[-1] == pfn)
		first--;
	while (hit < end && *hit == pfn)
		hit++;
	return (uint32_t)(hit - first);
}

static void look(struct side *s, pte_t pte, struct page *p)
{
	struct uhmm__frame *f;
	uint32_t ref, pfn;

	memset(p, 0, sizeof(*p));
	p->device = -1;
	uhmm__entry_decode(s->m, pte, &p->entry);
	if (!p->entry.has_frame)
		return;
	f = page_folio(pfn_to_frame(s->m, p->entry.pfn));
	pfn = frame_index(s->m, f);
	ref = folio_ref_count(f);
	/* Most folios are on the LRU and have no reference but their mappings': no search. */
	if (!folio_test(f, PG_LRU) || ref != (uint32_t)folio_mapcount(f))
		ref -= batch_refs(s, pfn);
	p->device = uhmm__owners_device(&s->owners, p->entry.pfn);
	p->pins = ref / UHMM_PIN_BIAS;
	p->ref = ref % UHMM_PIN_BIAS;
	p->map = folio_mapcount(f);
	p->order = folio_order(f);
	p->file = folio_mapping(f);
}

/* Whether swap has the page; a slot that is none is for the verifier to tell. */
static bool is_swapped(struct side *s, const struct page *p)
{
	return p->entry.kind == ENTRY_SWAP && s->m->swap && p->entry.slot < s->m->swap->nr_slots;
}

/* First 8 bytes of what a page holds. */
static uint64_t first_word(struct side *s, const struct page *p)
{
	uint64_t w = 0;

	if (p->entry.has_frame)
		uhmm__read_frame(s->m, p->entry.pfn, 0, &w, sizeof(w));
	else if (is_swapped(s, p))
		uhmm__swap_peek(s->m, p->entry.slot, 0, &w, sizeof(w));
	return w;
}

static const char *page_text(struct side *s, const struct page *p, char *buf, size_t size)
{
	char perm[4], node[32] = "", order[24] = "";

	if (p->device >= 0)
		snprintf(node, sizeof(node), " device %d", p->device);
	snprintf(buf, size, "%s%s%s%s %s", uhmm__entry_kind_name(p->entry.kind), node,
		 p->file ? " file" : "", p->entry.exclusive ? " exclusive" : "",
		 uhmm__entry_perm(&p->entry, perm));
	if (is_swapped(s, p)) {
		size_t n = strlen(buf);

		snprintf(buf + n, size - n, " content 0x%" PRIx64, first_word(s, p));
	}
	if (p->entry.has_frame) {
		size_t n = strlen(buf);

		if (p->order)
			snprintf(order, sizeof(order), " order %u", p->order);
		snprintf(buf + n, size - n, "%s ref %u map %d pins %u content 0x%" PRIx64, order,
			 p->ref, p->map, p->pins, first_word(s, p));
	}
	return buf;
}

/* ---- pages ---- */

/* @order: also how large folios are; else their counts are the same only if that is. */
static bool same_state(const struct page *a, const struct page *b, bool order)
{
	bool same_order = a->order == b->order;

	return a->entry.kind == b->entry.kind && a->entry.write == b->entry.write &&
	       a->entry.protnone == b->entry.protnone && a->entry.exclusive == b->entry.exclusive &&
	       a->device == b->device && a->file == b->file && (same_order || !order) &&
	       (!same_order || (a->ref == b->ref && a->map == b->map && a->pins == b->pins));
}

/* What a file has at a page offset: the zero page for a hole; 0: it is in no frame. */
static uhmm_pfn_t file_pfn(const struct side *s, const struct uhmm_file *file, uint64_t index)
{
	uint64_t entry = uhmm__radix_load(&file->mapping.pages, index);

	if (entry_is_slot(entry))
		return 0;
	if (entry || uhmm__radix_load(&file->mapping.disk, index))
		return entry;
	return s->m->zero_pfn;
}

/* The file's VMA of a page that is not there; NULL: it is no file's. */
static const struct uhmm_vma *file_vma(struct side *s, uhmm_vaddr_t addr, const struct page *p)
{
	const struct uhmm_vma *vma = p->entry.kind == ENTRY_NONE ? uhmm__vma_lookup(s->mm, addr)
								 : NULL;

	return vma && vma->file ? vma : NULL;
}

/*
 * The frame whose content a page shows: for one that is not there its file's, or the zero page.
 * 0: it is in no frame.
 */
static uhmm_pfn_t content_pfn(struct side *s, uhmm_vaddr_t addr, const struct page *p)
{
	const struct uhmm_vma *vma;

	if (is_swapped(s, p))
		return 0;
	if (p->entry.has_frame || p->entry.kind == ENTRY_SPECIAL)
		return p->entry.pfn;
	vma = file_vma(s, addr, p);
	return vma ? file_pfn(s, vma->file, vma_pgoff(vma, addr)) : s->m->zero_pfn;
}

static void whole_page(struct side *s, uhmm_vaddr_t addr, const struct page *p,
		       uint8_t buf[UHMM_PAGE_SIZE])
{
	uhmm_pfn_t pfn = content_pfn(s, addr, p);
	const struct uhmm_vma *vma;

	if (pfn) {
		uhmm__read_frame(s->m, pfn, 0, buf, UHMM_PAGE_SIZE);
	} else if (is_swapped(s, p)) {
		uhmm__swap_peek(s->m, p->entry.slot, 0, buf, UHMM_PAGE_SIZE);
	} else {
		vma = file_vma(s, addr, p);
		uhmm__file_peek(vma->file, vma_pgoff(vma, addr), buf);
	}
}

static bool same_content(struct compare *c, uhmm_vaddr_t addr, const struct page *a,
			 const struct page *b)
{
	uint8_t buf_a[UHMM_PAGE_SIZE], buf_b[UHMM_PAGE_SIZE];
	uhmm_pfn_t pa = content_pfn(&c->a, addr, a), pb = content_pfn(&c->b, addr, b);

	if (!pa || !pb) {
		whole_page(&c->a, addr, a, buf_a);
		whole_page(&c->b, addr, b, buf_b);
		return !memcmp(buf_a, buf_b, UHMM_PAGE_SIZE);
	}
	if (pa == c->a.m->zero_pfn && pb == c->b.m->zero_pfn)
		return true;
	return uhmm__same_content(c->a.m, pa, c->b.m, pb);
}

/* What an access gets: 0 for what the page holds, or a signal. */
static int outcome(const struct side *s, pte_t pte, const struct page *p)
{
	if (p->entry.kind == ENTRY_HWPOISON || leaf_is_marker(pte, MARKER_POISONED) ||
	    (leaf_is_swap(pte) && uhmm__swap_is_broken(s->m, p->entry.slot)))
		return SIGBUS;
	return leaf_is_marker(pte, MARKER_GUARD) ? SIGSEGV : 0;
}

/* 0: not mapped, 1: not accessible, 2: accessible. */
static int access_class(const struct uhmm_vma *vma)
{
	if (!vma)
		return 0;
	return vma->flags & (UHMM_VM_READ | UHMM_VM_WRITE | UHMM_VM_EXEC) ? 2 : 1;
}

static bool same_access(struct compare *c, uhmm_vaddr_t addr)
{
	return access_class(uhmm__vma_lookup(c->a.mm, addr)) ==
	       access_class(uhmm__vma_lookup(c->b.mm, addr));
}

/* Nothing there, or the zero page. */
static bool is_hole(const struct page *p)
{
	return p->entry.kind == ENTRY_NONE || p->entry.kind == ENTRY_ZERO;
}

static bool is_hole_or_ram(const struct page *p)
{
	return is_hole(p) || (p->entry.kind == ENTRY_PAGE && p->device < 0);
}

/* Whether a fault there may map a huge page, or might have until another advice came. */
static bool maps_huge(const struct compare *c, struct uhmm_mm *mm, uhmm_vaddr_t addr)
{
	const struct uhmm_vma *vma = uhmm__vma_lookup(mm, addr);
	uint64_t advised = UHMM_VM_HUGEPAGE;

	if (c->what == UHMM_COMPARE_STATE_BUT_UNTOUCHED)
		advised |= UHMM_VM_NOHUGEPAGE;
	return vma && (vma->flags & advised || mm->machine->config.thp == UHMM_THP_ALWAYS);
}

/* What a huge page may have brought along: the same to the process, and nobody moved it. */
static bool agree_around_huge(struct compare *c, uhmm_vaddr_t addr, const struct page *a,
			      const struct page *b)
{
	if (c->what < UHMM_COMPARE_STATE_BUT_HOLES || !maps_huge(c, c->a.mm, addr) ||
	    !maps_huge(c, c->b.mm, addr))
		return false;
	if (is_hole(a) && is_hole(b))
		return true;
	if (c->what != UHMM_COMPARE_STATE_BUT_UNTOUCHED || !(is_hole(a) || is_hole(b)))
		return false;
	return is_hole_or_ram(a) && is_hole_or_ram(b) && same_content(c, addr, a, b);
}

static bool pages_agree(struct compare *c, uhmm_vaddr_t addr, pte_t pa, pte_t pb,
			const struct page *a, const struct page *b)
{
	int out_a = outcome(&c->a, pa, a), out_b = outcome(&c->b, pb, b);

	if (c->what != UHMM_COMPARE_CONTENTS)
		return (same_state(a, b, c->what == UHMM_COMPARE_STATE) && out_a == out_b &&
			(out_a || same_content(c, addr, a, b))) ||
		       agree_around_huge(c, addr, a, b);
	if (out_a == out_b && (out_a || same_content(c, addr, a, b)))
		return true;
	/* Where access itself differs the page was counted with its VMA. */
	return !same_access(c, addr);
}

static bool agree_apart(struct compare *c, uhmm_vaddr_t addr, pte_t pa, pte_t pb,
			const struct page *a, const struct page *b)
{
	int out_a = outcome(&c->a, pa, a);

	if (!c->apart || !c->apart(c->apart_data, addr))
		return false;
	c->nr_apart++;
	return out_a == outcome(&c->b, pb, b) && (out_a || same_content(c, addr, a, b));
}

static void compare_page(struct compare *c, uhmm_vaddr_t addr, pte_t pa, pte_t pb)
{
	char ta[192], tb[192];
	struct page a, b;

	look(&c->a, pa, &a);
	look(&c->b, pb, &b);
	if (pages_agree(c, addr, pa, pb, &a, &b) || agree_apart(c, addr, pa, pb, &a, &b))
		return;
	differ(c, 1, "mm %" PRIu64 " page 0x%" PRIx64 ": %s | %s%s", c->a.mm->id, addr,
	       page_text(&c->a, &a, ta, sizeof(ta)), page_text(&c->b, &b, tb, sizeof(tb)),
	       same_content(c, addr, &a, &b) ? "" : " (contents differ)");
}

/* Entries of both in the order of their addresses; one that only one side has meets a none. */
static void compare_pages(struct compare *c)
{
	struct uhmm__scan *sa = &c->a.scan, *sb = &c->b.scan;
	const pte_t none = pte_make(0);
	bool more_a, more_b;

	uhmm__scan_init(sa, &c->a.mm->pgt, 0, UHMM_TASK_SIZE);
	uhmm__scan_init(sb, &c->b.mm->pgt, 0, UHMM_TASK_SIZE);
	more_a = uhmm__scan_next(sa);
	more_b = uhmm__scan_next(sb);
	while (more_a || more_b) {
		bool take_a = more_a && (!more_b || sa->addr <= sb->addr);
		bool take_b = more_b && (!more_a || sb->addr <= sa->addr);

		compare_page(c, take_a ? sa->addr : sb->addr, take_a ? sa->pte : none,
			     take_b ? sb->pte : none);
		if (take_a)
			more_a = uhmm__scan_next(sa);
		if (take_b)
			more_b = uhmm__scan_next(sb);
	}
}

/* ---- VMAs ---- */

static const char *vma_text(const struct uhmm_vma *vma, char *buf, size_t size)
{
	if (!vma)
		return "none";
	snprintf(buf, size, "[0x%" PRIx64 ", 0x%" PRIx64 ") flags 0x%" PRIx64, vma->start, vma->end,
		 vma->flags);
	return buf;
}

/* The lists must be the same. Each VMA without its like counts once. */
static void compare_vmas(struct compare *c)
{
	struct uhmm_vma *a = uhmm__find_vma(c->a.mm, 0), *b = uhmm__find_vma(c->b.mm, 0);
	char ta[96], tb[96];

	while (a || b) {
		struct uhmm_vma *va = a && (!b || a->start <= b->start) ? a : NULL;
		struct uhmm_vma *vb = b && (!a || b->start <= a->start) ? b : NULL;

		if (!va || !vb || va->end != vb->end || va->flags != vb->flags)
			differ(c, 1, "mm %" PRIu64 " VMA: %s | %s", c->a.mm->id,
			       vma_text(va, ta, sizeof(ta)), vma_text(vb, tb, sizeof(tb)));
		if (va)
			a = uhmm__vma_next(c->a.mm, va);
		if (vb)
			b = uhmm__vma_next(c->b.mm, vb);
	}
}

/* The VMA of an address or NULL, and where that changes. */
static struct uhmm_vma *vma_until(struct uhmm_mm *mm, uhmm_vaddr_t addr, uhmm_vaddr_t *until)
{
	struct uhmm_vma *vma = uhmm__find_vma(mm, addr);

	if (!vma)
		*until = UHMM_TASK_SIZE;
	else if (vma->start > addr)
		*until = vma->start;
	else
		*until = vma->end;
	return vma && vma->start <= addr ? vma : NULL;
}

/* Where one may access and the other not; how VMAs are cut does not matter. */
static void compare_access(struct compare *c)
{
	static const char *const names[] = { "unmapped", "no access", "accessible" };
	uhmm_vaddr_t addr, next;

	for (addr = 0; addr < UHMM_TASK_SIZE; addr = next) {
		uhmm_vaddr_t ua, ub;
		int a = access_class(vma_until(c->a.mm, addr, &ua));
		int b = access_class(vma_until(c->b.mm, addr, &ub));

		next = MIN(ua, ub);
		if (a != b)
			differ(c, (int64_t)((next - addr) >> UHMM_PAGE_SHIFT),
			       "mm %" PRIu64 " [0x%" PRIx64 ", 0x%" PRIx64 "): %s | %s",
			       c->a.mm->id, addr, next, names[a], names[b]);
	}
}

/* ---- files ---- */

/* The first page offset from *index on where one of two files has something. */
static bool next_of_both(struct uhmm_file *a, struct uhmm_file *b, uint64_t *index)
{
	uint64_t at_a = *index, at_b = *index;
	bool in_a = uhmm__mapping_next(&a->mapping, &at_a);
	bool in_b = uhmm__mapping_next(&b->mapping, &at_b);

	*index = in_a && (!in_b || at_a <= at_b) ? at_a : at_b;
	return in_a || in_b;
}

/* Which pages are in the cache depends on who asked for them; what they hold does not. */
static bool same_file_page(struct compare *c, struct uhmm_file *a, struct uhmm_file *b,
			   uint64_t index)
{
	uhmm_pfn_t pa = file_pfn(&c->a, a, index), pb = file_pfn(&c->b, b, index);
	uint8_t buf_a[UHMM_PAGE_SIZE], buf_b[UHMM_PAGE_SIZE];

	if (pa && pb)
		return uhmm__same_content(c->a.m, pa, c->b.m, pb);
	uhmm__file_peek(a, index, buf_a);
	uhmm__file_peek(b, index, buf_b);
	return !memcmp(buf_a, buf_b, UHMM_PAGE_SIZE);
}

static void compare_file(struct compare *c, struct uhmm_file *a, struct uhmm_file *b)
{
	if (uhmm_file_size(a) != uhmm_file_size(b) || a->kind != b->kind)
		differ(c, 1, "file %" PRIu64 ": %" PRIu64 " bytes | %" PRIu64 " bytes", a->id,
		       uhmm_file_size(a), uhmm_file_size(b));
	for (uint64_t at = 0; next_of_both(a, b, &at); at++) {
		if (!same_file_page(c, a, b, at))
			differ(c, 1, "file %" PRIu64 " page %" PRIu64 ": contents differ", a->id,
			       at);
	}
}

static struct uhmm_file *file_at(struct uhmm_machine *m, struct list_head *l)
{
	return l == &m->files->list ? NULL : list_entry(l, struct uhmm_file, list);
}

/* Files are listed in the order of their numbers. */
static void compare_files(struct compare *c)
{
	struct uhmm_file *a = file_at(c->a.m, c->a.m->files->list.next);
	struct uhmm_file *b = file_at(c->b.m, c->b.m->files->list.next);

	while (a || b) {
		bool take_a = a && (!b || a->id <= b->id), take_b = b && (!a || b->id <= a->id);

		if (take_a && take_b)
			compare_file(c, a, b);
		else
			differ(c, 1, "file %" PRIu64 ": only in the %s machine",
			       take_a ? a->id : b->id, take_a ? "first" : "second");
		if (take_a)
			a = file_at(c->a.m, a->list.next);
		if (take_b)
			b = file_at(c->b.m, b->list.next);
	}
}

/* ---- machines ---- */

static struct uhmm_mm *mm_first(struct uhmm_machine *m)
{
	struct list_head *l = &m->mms->list;

	return list_empty(l) ? NULL : list_first_entry(l, struct uhmm_mm, list);
}

static struct uhmm_mm *mm_next(struct uhmm_machine *m, struct uhmm_mm *mm)
{
	struct list_head *next = mm->list.next;

	return next == &m->mms->list ? NULL : list_entry(next, struct uhmm_mm, list);
}

/* mms are listed in the order of their numbers. */
static void compare_mms(struct compare *c)
{
	struct uhmm_mm *a = mm_first(c->a.m), *b = mm_first(c->b.m);

	while (a || b) {
		if (!b || (a && a->id < b->id)) {
			differ(c, 1, "mm %" PRIu64 ": only in the first machine", a->id);
			a = mm_next(c->a.m, a);
			continue;
		}
		if (!a || b->id < a->id) {
			differ(c, 1, "mm %" PRIu64 ": only in the second machine", b->id);
			b = mm_next(c->b.m, b);
			continue;
		}
		c->a.mm = a;
		c->b.mm = b;
		if (c->what != UHMM_COMPARE_CONTENTS)
			compare_vmas(c);
		else
			compare_access(c);
		compare_pages(c);
		a = mm_next(c->a.m, a);
		b = mm_next(c->b.m, b);
	}
}

int64_t uhmm__machine_compare(struct uhmm_machine *a, struct uhmm_machine *b,
			      enum uhmm_compare what, uhmm__apart_fn *apart, void *apart_data,
			      uint64_t *nr_apart, uhmm_emit_fn *emit, void *data)
{
	struct compare c = {
		.what = what, .emit = emit, .data = data, .apart = apart, .apart_data = apart_data
	};
	int err;

	if ((unsigned int)what > UHMM_COMPARE_STATE_BUT_UNTOUCHED ||
	    a->config.content != b->config.content)
		return -EINVAL;
	err = side_init(&c.a, a);
	if (!err)
		err = side_init(&c.b, b);
	if (!err) {
		compare_mms(&c);
		compare_files(&c);
		*nr_apart += c.nr_apart;
	}
	side_exit(&c.b);
	side_exit(&c.a);
	return err ? err : c.differences;
}

int64_t uhmm_machine_compare(struct uhmm_machine *a, struct uhmm_machine *b, enum uhmm_compare what,
			     uhmm_emit_fn *emit, void *data)
{
	uint64_t nr_apart = 0;

	return uhmm__machine_compare(a, b, what, NULL, NULL, &nr_apart, emit, data);
}
