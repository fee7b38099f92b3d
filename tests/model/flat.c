// SPDX-License-Identifier: LGPL-2.1-or-later
/* The flat model: see flat.h. */
#define _GNU_SOURCE
#include "model/flat.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif

static uint8_t *bytes_of(const struct flat *f, const struct flat_mm *mm, unsigned int page)
{
	const struct flat_page *p = &mm->page[page];

	if (flat_is_shared(p))
		return f->obj[p->obj] + p->index * f->unit;
	return mm->bytes + page * f->unit;
}

/* What is missing is zeroes then. */
static void unwatch(struct flat_page *p)
{
	p->watched = false;
	p->missing = FLAT_NOT_MISSING;
}

/* What a page holds that nobody has written to. */
static void clear(const struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		struct flat_page *p = &mm->page[i];

		p->poisoned = p->wp = p->wp_unsure = p->hint = false;
		p->atomic = 0;
		p->gone |= p->special;
		p->missing = !p->watched			       ? FLAT_NOT_MISSING
			     : has_handler((unsigned int)(mm - f->mm)) ? FLAT_ON_DEMAND
								       : FLAT_MISSING;
		p->copied = false;
		if (flat_is_shared(p))
			continue;
		if (p->obj)
			memcpy(bytes_of(f, mm, i), f->obj[p->obj] + p->index * f->unit, f->unit);
		else
			memset(bytes_of(f, mm, i), 0, f->unit);
	}
}

void flat_init(struct flat *f, size_t unit)
{
	memset(f, 0, sizeof(*f));
	f->unit = unit;
	for (int i = 0; i < FLAT_PROCS; i++) {
		f->mm[i].bytes = calloc(FLAT_ALL, unit);
		if (!f->mm[i].bytes)
			abort();
	}
	for (int i = 1; i < FLAT_OBJS; i++) {
		f->obj[i] = calloc(FLAT_PAGES, unit);
		if (!f->obj[i])
			abort();
		f->size[i] = FLAT_PAGES * FLAT_PAGE_SIZE;
	}
	for (uint64_t i = 0; i < FLAT_PAGES; i++) {
		uint64_t word = i + 1;

		memcpy(f->obj[FLAT_PRIVATE_FILE] + i * unit, &word, sizeof(word));
	}
}

void flat_exit(struct flat *f)
{
	for (int i = 0; i < FLAT_PROCS; i++)
		free(f->mm[i].bytes);
	for (int i = 1; i < FLAT_OBJS; i++)
		free(f->obj[i]);
}

unsigned int flat_free_object(const struct flat *f)
{
	bool used[FLAT_OBJS] = { false };

	for (int m = 0; m < FLAT_PROCS; m++)
		for (int i = 0; f->mm[m].alive && i < FLAT_ALL; i++)
			used[f->mm[m].page[i].obj] = true;
	for (unsigned int obj = FLAT_SHARED_ANON; obj < FLAT_DRIVER; obj++)
		if (!used[obj])
			return obj;
	return FLAT_NO_OBJ;
}

void flat_kill(struct flat *f, unsigned int proc)
{
	struct flat_mm *mm = &f->mm[proc];

	mm->alive = false;
	memset(mm->page, 0, sizeof(mm->page));
	mm->brk = FLAT_HEAP;
	clear(f, mm, 0, FLAT_ALL);
}

void flat_start(struct flat *f, unsigned int proc)
{
	flat_kill(f, proc);
	f->mm[proc].alive = true;
}

void flat_fork(struct flat *f, unsigned int parent, unsigned int child)
{
	struct flat_mm *p = &f->mm[parent], *c = &f->mm[child];

	flat_start(f, child);
	c->brk = p->brk;
	for (unsigned int i = 0; i < FLAT_ALL; i++) {
		if (!p->page[i].mapped || p->page[i].dontfork)
			continue;
		/* Taken back, if it has to be copied. */
		if (!p->page[i].wipeonfork)
			p->page[i].atomic = 0;
		c->page[i] = p->page[i];
		c->page[i].atomic = 0;
		c->page[i].uffd = c->page[i].wp = c->page[i].wp_unsure = false;
		unwatch(&c->page[i]);
		if (p->page[i].wipeonfork)
			c->page[i].guard = c->page[i].poisoned = false;
		else if (!flat_is_shared(&p->page[i]))
			memcpy(bytes_of(f, c, i), bytes_of(f, p, i), f->unit);
	}
}

int flat_first_without(const struct flat_mm *mm, unsigned int first, unsigned int n, int prot)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (!mm->page[i].mapped || (mm->page[i].prot & prot) != prot)
			return (int)i;
	}
	return -1;
}

int flat_signal(const struct flat *f, const struct flat_page *p)
{
	if (p->guard)
		return SIGSEGV;
	if (p->poisoned || p->gone || p->missing == FLAT_MISSING || f->broken[p->obj][p->index] ||
	    (p->obj && p->index * (uint64_t)FLAT_PAGE_SIZE >= f->size[p->obj]))
		return SIGBUS;
	return 0;
}

bool flat_any_special(const struct flat_mm *mm, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (mm->page[i].mapped && mm->page[i].special)
			return true;
	}
	return false;
}

int flat_first_signal(const struct flat *f, const struct flat_mm *mm, unsigned int first,
		      unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (mm->page[i].mapped && flat_signal(f, &mm->page[i]))
			return (int)i;
	}
	return -1;
}

uint8_t flat_byte(const struct flat *f, const struct flat_mm *mm, uint64_t at)
{
	/* A stack grows there. What the bytes were before is gone. */
	if (!mm->page[at / FLAT_PAGE_SIZE].mapped)
		return 0;
	return bytes_of(f, mm, at / FLAT_PAGE_SIZE)[at % f->unit];
}

void flat_copy(struct flat *f, struct flat_mm *mm, unsigned int page)
{
	struct flat_page *p = &mm->page[page];
	const uint8_t *from = bytes_of(f, mm, page);

	if (!p->cow || p->copied || p->gone)
		return;
	p->copied = true;
	memcpy(bytes_of(f, mm, page), from, f->unit);
}

void flat_set_byte(struct flat *f, struct flat_mm *mm, uint64_t at, uint8_t v)
{
	flat_copy(f, mm, (unsigned int)(at / FLAT_PAGE_SIZE));
	bytes_of(f, mm, at / FLAT_PAGE_SIZE)[at % f->unit] = v;
}

int flat_mmap(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n, int prot,
	      unsigned int obj, unsigned int index)
{
	for (unsigned int i = first; i < first + n; i++)
		mm->page[i] =
			(struct flat_page){ .mapped = true,
					    .prot = (uint8_t)prot,
					    .obj = (uint8_t)obj,
					    .index = (uint16_t)(obj ? index + i - first : 0) };
	/* Shared anonymous memory is new each time. */
	if (obj >= FLAT_SHARED_ANON && obj != FLAT_DRIVER) {
		memset(f->obj[obj], 0, FLAT_PAGES * f->unit);
		memset(f->broken[obj], 0, sizeof(f->broken[obj]));
	}
	clear(f, mm, first, n);
	return 0;
}

int flat_munmap(struct flat_mm *mm, unsigned int first, unsigned int n)
{
	memset(&mm->page[first], 0, n * sizeof(mm->page[0]));
	return 0;
}

int flat_mprotect(struct flat_mm *mm, unsigned int first, unsigned int n, int prot)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (!mm->page[i].mapped)
			return -ENOMEM;
		mm->page[i].prot = (uint8_t)prot;
	}
	return 0;
}

void flat_mmap_driver(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n,
		      int prot, unsigned int index, enum flat_special special, bool cow)
{
	flat_mmap(f, mm, first, n, prot, FLAT_DRIVER, index);
	for (unsigned int i = first; i < first + n; i++) {
		mm->page[i].special = (uint8_t)special;
		mm->page[i].cow = cow;
	}
}

/* Whether a mapping is one that refuses; FLAT_NOT_SPECIAL: any of a driver does. */
static bool refuses(const struct flat_page *p, enum flat_special refused)
{
	return p->mapped && p->special && (!refused || p->special == refused);
}

int flat_advise_some(const struct flat_mm *mm, unsigned int first, unsigned int n,
		     enum flat_special refused, unsigned int *done)
{
	int ret = 0;

	for (unsigned int i = first; i < first + n; i++) {
		*done = i - first;
		if (refuses(&mm->page[i], refused))
			return -EINVAL;
		if (!mm->page[i].mapped)
			ret = -ENOMEM;
	}
	*done = n;
	return ret;
}

int flat_dontneed(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n)
{
	unsigned int done;
	int ret = flat_advise_some(mm, first, n, FLAT_FRAMES, &done);

	clear(f, mm, first, done);
	return ret;
}

int flat_free_answer(const struct flat_mm *mm, unsigned int first, unsigned int n)
{
	int hole = 0;

	for (unsigned int i = first; i < first + n; i++) {
		if (!mm->page[i].mapped)
			hole = -ENOMEM;
		else if (mm->page[i].obj)
			return -EINVAL;
	}
	return hole;
}

int flat_free(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (mm->page[i].mapped && mm->page[i].obj)
			return -EINVAL;
		if (mm->page[i].poisoned)
			clear(f, mm, i, 1);
	}
	return 0;
}

int flat_guard(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n, bool install)
{
	unsigned int done;
	int ret = flat_advise_some(mm, first, n, FLAT_NOT_SPECIAL, &done);

	if (install)
		clear(f, mm, first, done);
	for (unsigned int i = first; i < first + done; i++)
		mm->page[i].guard = install && mm->page[i].mapped;
	return ret;
}

void flat_uffd(struct flat_mm *mm, unsigned int first, unsigned int n, bool on)
{
	for (unsigned int i = first; i < first + n; i++) {
		mm->page[i].uffd = on;
		mm->page[i].wp &= on;
		mm->page[i].wp_unsure &= on;
		unwatch(&mm->page[i]);
	}
}

void flat_watch(struct flat *f, struct flat_mm *mm, unsigned int first, unsigned int n)
{
	flat_uffd(mm, first, n, false);
	for (unsigned int i = first; i < first + n; i++)
		mm->page[i].watched = true;
	clear(f, mm, first, n);
}

void flat_filled(struct flat_mm *mm, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		mm->page[i].missing = FLAT_NOT_MISSING;
		mm->page[i].atomic = 0;
	}
}

void flat_atomic(struct flat_mm *mm, unsigned int first, unsigned int n, unsigned int dev)
{
	for (unsigned int i = first; i < first + n; i++) {
		if (mm->page[i].mapped && !flat_is_shared(&mm->page[i]))
			mm->page[i].atomic = (uint8_t)(dev + 1);
	}
}

void flat_protect(struct flat_mm *mm, unsigned int first, unsigned int n, bool on)
{
	for (unsigned int i = first; i < first + n; i++) {
		mm->page[i].wp = on;
		mm->page[i].wp_unsure = false;
	}
}

void flat_poison(struct flat_mm *mm, unsigned int page)
{
	mm->page[page].poisoned = true;
}

void flat_poison_object(struct flat *f, struct flat_mm *mm, unsigned int page, bool lost, bool told)
{
	struct flat_page *p = &mm->page[page];

	for (int m = 0; m < FLAT_PROCS; m++) {
		for (unsigned int i = 0; f->mm[m].alive && i < FLAT_ALL; i++) {
			if (flat_is_same(p, &f->mm[m].page[i]))
				clear(f, &f->mm[m], i, 1);
		}
	}
	f->broken[p->obj][p->index] = lost;
	f->wb_err[p->obj] |= told;
	p->poisoned = lost || told;
}

/* Nothing is left behind a size. */
static void zero_behind(struct flat *f, unsigned int obj, uint64_t bytes)
{
	uint64_t page = bytes / FLAT_PAGE_SIZE, off = bytes % FLAT_PAGE_SIZE;

	if (f->unit == FLAT_PAGE_SIZE || !off)
		memset(f->obj[obj] + page * f->unit + off, 0, (FLAT_PAGES - page) * f->unit - off);
	else
		memset(f->obj[obj] + (page + 1) * f->unit, 0, (FLAT_PAGES - page - 1) * f->unit);
}

bool flat_tells_loss(const struct flat *f, const struct flat_mm *mm, unsigned int first,
		     unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++)
		if (mm->page[i].mapped && f->wb_err[mm->page[i].obj])
			return true;
	return false;
}

void flat_msync(struct flat *f, const struct flat_mm *mm, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		const struct flat_page *p = &mm->page[i];

		if (p->mapped && p->obj == FLAT_SHARED_FILE &&
		    p->index == f->size[p->obj] / FLAT_PAGE_SIZE)
			zero_behind(f, p->obj, f->size[p->obj]);
		if (p->mapped)
			f->wb_err[p->obj] = false;
	}
}

void flat_truncate(struct flat *f, unsigned int obj, uint64_t bytes)
{
	zero_behind(f, obj, bytes < f->size[obj] ? bytes : f->size[obj]);
	for (uint64_t i = (bytes + FLAT_PAGE_SIZE - 1) / FLAT_PAGE_SIZE; i < FLAT_PAGES; i++)
		f->broken[obj][i] = false;
	for (int m = 0; m < FLAT_PROCS; m++) {
		for (unsigned int i = 0; i < FLAT_ALL; i++) {
			struct flat_page *p = &f->mm[m].page[i];

			/* Copies go, too. */
			if (p->mapped && p->obj == obj &&
			    p->index * (uint64_t)FLAT_PAGE_SIZE >= bytes)
				clear(f, &f->mm[m], i, 1);
		}
	}
	f->size[obj] = bytes;
}

static bool any_mapped(const struct flat_mm *mm, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i++) {
		if (mm->page[i].mapped)
			return true;
	}
	return false;
}

unsigned int flat_brk_answer(const struct flat_mm *mm, unsigned int page)
{
	/* Whatever it is that is mapped there now; if nothing is, the heap has not ended there. */
	if (page < mm->brk)
		return any_mapped(mm, page, mm->brk) ? page : mm->brk;
	/* A page stays free behind it. */
	if (page > mm->brk && any_mapped(mm, mm->brk, page < FLAT_PAGES ? page + 1 : FLAT_PAGES))
		return mm->brk;
	return page;
}

void flat_brk(struct flat *f, struct flat_mm *mm, unsigned int page)
{
	unsigned int old = mm->brk;

	mm->brk = flat_brk_answer(mm, page);
	if (mm->brk < old)
		flat_munmap(mm, mm->brk, old - mm->brk);
	else if (mm->brk > old)
		flat_mmap(f, mm, old, mm->brk - old, PROT_READ | PROT_WRITE, FLAT_NO_OBJ, 0);
}

int flat_stack_above(const struct flat_mm *mm, unsigned int page)
{
	unsigned int above = page;
	int below = (int)page;

	while (above < flat_end(page) && !mm->page[above].mapped)
		above++;
	if (above == flat_end(page) || !mm->page[above].growsdown)
		return -1;
	while (below >= (int)flat_first(page) && !mm->page[below].mapped)
		below--;
	/* All of these pages lie nearer to each other than a stack may come to other memory. */
	if (below >= (int)flat_first(page) && !mm->page[below].growsdown && mm->page[below].prot)
		return -1;
	return (int)above;
}

void flat_grow_stack(struct flat *f, struct flat_mm *mm, unsigned int page)
{
	unsigned int above = (unsigned int)flat_stack_above(mm, page);
	struct flat_page new = mm->page[above];

	new.guard = false;
	for (unsigned int i = page; i < above; i++)
		mm->page[i] = new;
	clear(f, mm, page, above - page);
}

int flat_remove(struct flat *f, const struct flat_mm *mm, unsigned int first, unsigned int n)
{
	int hole = flat_first_without(mm, first, n, PROT_NONE);

	for (unsigned int i = first; i < first + n; i++) {
		const struct flat_page *p = &mm->page[i];

		if (!p->mapped)
			continue;
		if (!p->obj || p->special)
			return -EINVAL;
		if (!flat_is_shared(p))
			return -EACCES;
		if (!f)
			continue;
		memset(bytes_of(f, mm, i), 0, f->unit);
		/* Who has been told stays so. */
		f->broken[p->obj][p->index] = false;
	}
	return hole < 0 ? 0 : -ENOMEM;
}

/* A driver says itself which of its mappings a child has. */
static bool advice_is_bad(const struct flat_page *p, int advice)
{
	return p->mapped &&
	       ((advice == MADV_WIPEONFORK && p->obj) || (advice == MADV_DOFORK && p->special));
}

int flat_advise_answer(const struct flat_mm *mm, unsigned int first, unsigned int n, int advice)
{
	for (unsigned int i = first; i < first + n; i++)
		if (advice_is_bad(&mm->page[i], advice))
			return -EINVAL;
	return flat_first_without(mm, first, n, PROT_NONE) < 0 ? 0 : -ENOMEM;
}

int flat_advise(struct flat_mm *mm, unsigned int first, unsigned int n, int advice)
{
	int hole = flat_first_without(mm, first, n, PROT_NONE);

	for (unsigned int i = first; i < first + n; i++) {
		struct flat_page *p = &mm->page[i];

		if (!p->mapped)
			continue;
		if (advice_is_bad(p, advice))
			return -EINVAL;
		if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
			p->dontfork = advice == MADV_DONTFORK;
		else if (advice == MADV_WIPEONFORK || advice == MADV_KEEPONFORK)
			p->wipeonfork = advice == MADV_WIPEONFORK;
	}
	return hole < 0 ? 0 : -ENOMEM;
}

int flat_populate(const struct flat *f, const struct flat_mm *mm, unsigned int first,
		  unsigned int n, bool write, bool resolved)
{
	for (unsigned int i = first; i < first + n; i++) {
		const struct flat_page *p = &mm->page[i];

		if (!p->mapped)
			return -ENOMEM;
		if (!(p->prot & (write ? PROT_WRITE : PROT_READ)) || p->special == FLAT_FRAMES)
			return -EINVAL;
		if (p->poisoned || (f->broken[p->obj][p->index] && !p->guard))
			return -EHWPOISON;
		if (flat_signal(f, p) || (write && p->wp && !resolved))
			return -EFAULT;
	}
	return 0;
}

void flat_move(struct flat *f, struct flat_mm *mm, unsigned int old, unsigned int old_n,
	       unsigned int new, unsigned int new_n, bool keep)
{
	unsigned int n = old_n < new_n ? old_n : new_n;
	struct flat_page first = mm->page[old];

	for (unsigned int i = 0; i < new_n; i++) {
		/* Gaps between several mappings stay what they are at the new place. */
		if (old_n == new_n && !mm->page[old + i].mapped)
			continue;
		mm->page[new + i] = first;
		mm->page[new + i].guard = mm->page[new + i].uffd = mm->page[new + i].watched =
			false;
		clear(f, mm, new + i, 1);
		if (i >= n)
			continue;
		mm->page[new + i] = mm->page[old + i];
		mm->page[new + i].uffd = false;
		mm->page[new + i].wp = mm->page[new + i].wp_unsure = false;
		unwatch(&mm->page[new + i]);
		if (!flat_is_shared(&mm->page[old + i]))
			memcpy(bytes_of(f, mm, new + i), bytes_of(f, mm, old + i), f->unit);
	}
	clear(f, mm, old, old_n);
	for (unsigned int i = old; i < old + old_n; i++)
		mm->page[i].guard = false;
	if (!keep)
		flat_munmap(mm, old, old_n);
}
