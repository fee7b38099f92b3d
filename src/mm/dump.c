// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * An mm as text. The first word of a line says what it is about; numbers with 0x are hexadecimal,
 * all others decimal; a value follows its name, so that fields may be added but not moved:
 *
 *   mm ID users N count N vmas N heap 0xSTART-0xEND
 *   vma 0xSTART-0xEND PERM pgoff 0xN anon_vma yes|no flags NAME,NAME|- [file N regular|memory]
 *   pte 0xADDR npages N KIND PERM [device N] pfn 0xN [BITS] [FOLIO]
 *   pte 0xADDR npages 1 swap slot N count N [exclusive] [cached 0xPFN] content 0xN
 *   pte 0xADDR npages 1 hwpoison|marker raw 0xENTRY
 *   tables pgd 1 pud N pmd N pte N
 *
 * vma    PERM is as in /proc/PID/maps: r, w, x and p (private) or s (shared).
 * pte    a run of entries of one kind with consecutive frames, below the VMA that they are in.
 *   KIND   ram, zero (the zero page), device-private, device-exclusive, migration
 *   PERM   what the entry permits: r, w, x; --- for PROT_NONE; what it did, for a migration entry
 *   device which device: the owners of device memory in the order of registration, from 0
 *   BITS   accessed, dirty, exclusive (a migration entry of an exclusive page), huge (the pages are
 *          below one PMD entry)
 *   FOLIO  ref N map N [order N] flags NAME,NAME [anon|file index 0xN] content 0xN[..0xM]: of the
 *          folio that the pages belong to if it is a large one, else the same for all pages of the run,
 *          but for the index, which counts up, and the content: the first 8 bytes of the
 *          first page, and of the last if they differ. ref counts UHMM_PIN_BIAS for each pin.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mm/inspect.h"
#include "mm/swap.h"
#include "mm/zone_device.h"

enum { LINE = 512 };

struct dump {
	struct uhmm_mm *mm;
	struct uhmm_machine *m;
	struct uhmm__owners owners;
	uhmm_emit_fn *emit;
	void *data;
};

/* Entries that a line stands for. */
struct run {
	uhmm_vaddr_t addr;
	uint64_t npages; /* 0: none yet */
	pte_t pte;	 /* the first */
	struct uhmm__entry entry;
	uint64_t content, last_content;
	bool huge;
};

static void line(struct dump *d, const char *fmt, ...) uhmm_printf(2, 3);

static void line(struct dump *d, const char *fmt, ...)
{
	char text[LINE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->emit(d->data, text);
}

/* ---- VMAs ---- */

static const char *vma_flags_text(uint64_t flags, char *buf, size_t size)
{
	static const struct {
		uint64_t flag;
		const char *name;
	} names[] = {
		{ UHMM_VM_GROWSDOWN, "growsdown" },   { UHMM_VM_PFNMAP, "pfnmap" },
		{ UHMM_VM_LOCKED, "locked" },	      { UHMM_VM_IO, "io" },
		{ UHMM_VM_DONTCOPY, "dontcopy" },     { UHMM_VM_DONTEXPAND, "dontexpand" },
		{ UHMM_VM_SEQ_READ, "seq" },	      { UHMM_VM_RAND_READ, "rand" },
		{ UHMM_VM_DONTDUMP, "dontdump" },     { UHMM_VM_NORESERVE, "noreserve" },
		{ UHMM_VM_WIPEONFORK, "wipeonfork" }, { UHMM_VM_MIXEDMAP, "mixedmap" },
		{ UHMM_VM_HUGEPAGE, "hugepage" },     { UHMM_VM_NOHUGEPAGE, "nohugepage" },
		{ UHMM_VM_MERGEABLE, "mergeable" },
	};
	size_t n = 0;

	snprintf(buf, size, "-");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (flags & names[i].flag)
			n += snprintf(buf + n, size - n, "%s%s", n ? "," : "", names[i].name);
	}
	return buf;
}

static void dump_vma(struct dump *d, struct uhmm_vma *vma)
{
	char flags[128], file[64] = "";

	if (vma->file)
		snprintf(file, sizeof(file), " file %" PRIu64 " %s", vma->file->id,
			 vma->file->kind == UHMM_FILE_MEMORY ? "memory" : "regular");
	line(d,
	     "vma 0x%" PRIx64 "-0x%" PRIx64 " %c%c%c%c pgoff 0x%" PRIx64 " anon_vma %s flags %s%s",
	     vma->start, vma->end, vma->flags & UHMM_VM_READ ? 'r' : '-',
	     vma->flags & UHMM_VM_WRITE ? 'w' : '-', vma->flags & UHMM_VM_EXEC ? 'x' : '-',
	     vma->flags & UHMM_VM_SHARED ? 's' : 'p', vma->pgoff,
	     load_relaxed(&vma->anon_vma) ? "yes" : "no",
	     vma_flags_text(vma->flags, flags, sizeof(flags)), file);
}

/* ---- entries ---- */

static void dump_swapped(struct dump *d, const struct run *r)
{
	struct uhmm__swap *s = d->m->swap;
	uint64_t slot = r->entry.slot, content = 0;
	uint32_t pfn = load_relaxed(&s->cache[slot]);
	char cached[32] = "";

	if (pfn)
		snprintf(cached, sizeof(cached), " cached 0x%x", pfn);
	uhmm__swap_peek(d->m, slot, 0, &content, sizeof(content));
	line(d, "pte 0x%" PRIx64 " npages 1 swap slot %" PRIu64 " count %u%s%s content 0x%" PRIx64,
	     r->addr, slot, load_relaxed(&s->count[slot]), r->entry.exclusive ? " exclusive" : "",
	     cached, content);
}

static void dump_run(struct dump *d, const struct run *r)
{
	const struct uhmm__entry *e = &r->entry;
	char perm[4], node[32] = "", frame[UHMM__FRAME_TEXT + 64] = "", last[32] = "";
	int device;

	if (!r->npages)
		return;
	if (e->kind == ENTRY_SWAP && d->m->swap && e->slot < d->m->swap->nr_slots) {
		dump_swapped(d, r);
		return;
	}
	if (!e->has_frame && e->kind != ENTRY_ZERO) {
		line(d, "pte 0x%" PRIx64 " npages 1 %s raw 0x%" PRIx64, r->addr,
		     uhmm__entry_kind_name(e->kind), r->pte.val);
		return;
	}
	if (e->has_frame) {
		device = uhmm__owners_device(&d->owners, e->pfn);
		if (device >= 0)
			snprintf(node, sizeof(node), " device %d", device);
		if (r->content != r->last_content)
			snprintf(last, sizeof(last), "..0x%" PRIx64, r->last_content);
		frame[0] = ' ';
		uhmm__frame_text(pfn_to_frame(d->m, e->pfn), frame + 1);
		snprintf(frame + strlen(frame), sizeof(frame) - strlen(frame),
			 " content 0x%" PRIx64 "%s", r->content, last);
	}
	line(d, "pte 0x%" PRIx64 " npages %" PRIu64 " %s %s%s pfn 0x%" PRIx64 "%s%s%s%s%s", r->addr,
	     r->npages, uhmm__entry_kind_name(e->kind), uhmm__entry_perm(e, perm), node, e->pfn,
	     e->young ? " accessed" : "", e->dirty ? " dirty" : "",
	     e->exclusive ? " exclusive" : "", r->huge ? " huge" : "", frame);
}

static bool same_frame_state(struct uhmm__frame *a, struct uhmm__frame *b, uint64_t distance)
{
	const uint32_t of_page = (uint32_t)BIT(PG_ANON_EXCLUSIVE);
	struct uhmm__frame *folio = page_folio(a);

	if (folio_test_large(folio) || folio_test_large(page_folio(b)))
		return folio == page_folio(b) &&
		       load_relaxed(&a->mapcount) == load_relaxed(&b->mapcount) &&
		       !((load_relaxed(&a->flags) ^ load_relaxed(&b->flags)) & of_page);
	return folio_ref_count(a) == folio_ref_count(b) && folio_mapcount(a) == folio_mapcount(b) &&
	       load_relaxed(&a->flags) == load_relaxed(&b->flags) &&
	       load_relaxed(&a->mapping) == load_relaxed(&b->mapping) &&
	       load_relaxed(&a->index) + distance == load_relaxed(&b->index);
}

/* Whether the entry at @addr goes on what the run began. */
static bool run_continues(struct dump *d, const struct run *r, uhmm_vaddr_t addr,
			  const struct uhmm__entry *e, bool huge)
{
	const struct uhmm__entry *first = &r->entry;

	if (!r->npages || huge != r->huge || r->addr + (r->npages << UHMM_PAGE_SHIFT) != addr ||
	    e->kind != first->kind || e->write != first->write || e->protnone != first->protnone ||
	    e->exec != first->exec || e->young != first->young || e->dirty != first->dirty ||
	    e->exclusive != first->exclusive)
		return false;
	if (e->kind == ENTRY_ZERO)
		return true;
	if (!e->has_frame || e->pfn != first->pfn + r->npages ||
	    uhmm__owners_device(&d->owners, e->pfn) != uhmm__owners_device(&d->owners, first->pfn))
		return false;
	/* What is exclusive of a huge leaf is the whole. */
	if (huge)
		return page_folio(pfn_to_frame(d->m, first->pfn)) ==
		       page_folio(pfn_to_frame(d->m, e->pfn));
	return same_frame_state(pfn_to_frame(d->m, first->pfn), pfn_to_frame(d->m, e->pfn),
				r->npages);
}

static void dump_entries(struct dump *d, uhmm_vaddr_t start, uhmm_vaddr_t end)
{
	struct run r = { .npages = 0 };
	struct uhmm__scan s;

	uhmm__scan_init(&s, &d->mm->pgt, start, end);
	while (uhmm__scan_next(&s)) {
		struct uhmm__entry e;
		uint64_t content = 0;

		uhmm__entry_decode(d->m, s.pte, &e);
		if (e.has_frame)
			uhmm__read_frame(d->m, e.pfn, 0, &content, sizeof(content));
		if (run_continues(d, &r, s.addr, &e, s.huge)) {
			r.npages++;
			r.last_content = content;
			continue;
		}
		dump_run(d, &r);
		r = (struct run){ s.addr, 1, s.pte, e, content, content, s.huge };
	}
	dump_run(d, &r);
}

/* ---- tables ---- */

static void count_tables(const struct uhmm__table *tb, unsigned int level, uint64_t nr[5])
{
	nr[level]++;
	for (unsigned int i = 0; level > 1 && i < UHMM_PTRS_PER_TABLE; i++) {
		pte_t e = pte_make(load_acquire(&tb->e[i]));

		if (entry_is_table(e))
			count_tables(entry_table(e), level - 1, nr);
	}
}

/* ---- all of it ---- */

/* Context: mmap_lock for reading, which keeps VMAs and tables. */
static void dump_mm(struct dump *d)
{
	struct uhmm_mm *mm = d->mm;
	uint64_t nr[5] = { 0 };
	struct uhmm__range r;

	line(d, "mm %" PRIu64 " users %u count %u vmas %zu heap 0x%" PRIx64 "-0x%" PRIx64, mm->id,
	     load_relaxed(&mm->users), load_relaxed(&mm->count), mm->nr_vmas, mm->brk_start,
	     mm->brk);
	uhmm__rangetree_for_each(&mm->vmas, &r, 0, UINT64_MAX)
	{
		dump_vma(d, r.value);
		dump_entries(d, r.start, r.end);
	}
	count_tables(mm->pgt.pgd, 4, nr);
	line(d, "tables pgd %" PRIu64 " pud %" PRIu64 " pmd %" PRIu64 " pte %" PRIu64, nr[4], nr[3],
	     nr[2], nr[1]);
}

void uhmm_mm_dump(struct uhmm_mm *mm, uhmm_emit_fn *emit, void *data)
{
	struct dump d = { .mm = mm, .m = mm->machine, .emit = emit, .data = data };
	struct uhmm__pgmaps *p = mm->machine->pgmaps;
	struct uhmm_task *outer = uhmm__current();
	bool boot = !outer || outer->machine != d.m;

	if (boot)
		uhmm__boot_task_enter(d.m);
	/* Devices are numbered before mmap_lock is taken: their lock comes first. */
	uhmm__mutex_lock(&p->lock);
	(void)uhmm__owners_init(&d.owners, d.m); /* without memory no device is named */
	uhmm__mutex_unlock(&p->lock);
	mmap_read_lock(mm);
	dump_mm(&d);
	mmap_read_unlock(mm);
	uhmm__owners_exit(&d.owners);
	if (boot)
		uhmm__boot_task_leave(d.m, outer);
	else
		uhmm__exit_to_user();
}
