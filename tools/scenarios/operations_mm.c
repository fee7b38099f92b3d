// SPDX-License-Identifier: LGPL-2.1-or-later
/* Operations of the address space, of files, and of processes. */
#include "operations.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static const uint64_t zeroes[UHMM_PAGE_SIZE / 8];

/* Not what several tasks may map, so that each page still has one writer. */
static void map(struct actor *a)
{
	static const int how[] = { MAP_FIXED,
				   MAP_FIXED,
				   MAP_FIXED,
				   MAP_FIXED | MAP_LOCKED,
				   MAP_FIXED | MAP_POPULATE,
				   MAP_FIXED | MAP_NORESERVE,
				   MAP_FIXED | MAP_GROWSDOWN,
				   MAP_FIXED_NOREPLACE };
	struct range r = pick_range(a);
	struct process *p = a->process;
	struct uhmm_file *file = pick(3) ? NULL : p->file[pick(FILES)];
	int flags = (pick(3) ? MAP_PRIVATE : MAP_SHARED) | (file ? 0 : MAP_ANONYMOUS) |
		    how[pick(sizeof(how) / sizeof(how[0]))];
	unsigned int copy = a->all->shape->copy[r.first / PAGES];
	uint64_t at = (r.start - OPERATIONS_AT) / UHMM_PAGE_SIZE;

	/* A range may begin before its copy. */
	if (file && at < copy)
		return;
	if (file && flags & MAP_SHARED)
		p->aliased = true;
	change_begin(p, r.first, r.n);
	(void)uhmm_mmap(p->mm, r.start, r.len, pick(4) ? PROT_READ | PROT_WRITE : PROT_READ, flags,
			file, file ? at - copy : 0, NULL);
	change_end(p, r.first, r.n);
}

/* A page of a driver's, with contents. */
static void insert_page(struct actor *a, unsigned int place)
{
	uint64_t value = new_value(a, page_of(place));
	uhmm_pfn_t page;

	if (uhmm_alloc_locked_page(a->all->m, &page))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "no RAM");
	uhmm_clear_highpage(a->all->m, page);
	uhmm_page_write(a->all->m, page, 0, &value, sizeof(value));
	uhmm_unlock_page(a->all->m, page);
	(void)!uhmm_vm_insert_page(a->process->mm, place_addr(a->all, place), page);
	uhmm_put_user_pages(a->all->m, &page, 1);
}

/* A driver's file, with a page of its own, or a frame without one, at each place. */
static void map_special(struct actor *a)
{
	static const uint64_t vm_flags[] = { UHMM_VM_DONTEXPAND, UHMM_VM_MIXEDMAP, UHMM_VM_PFNMAP };
	struct range r = pick_range(a);
	struct process *p = a->process;
	unsigned int kind = pick(3);
	int shared = kind ? MAP_PRIVATE : MAP_SHARED;

	change_begin(p, r.first, r.n);
	if (uhmm_mmap_special(p->mm, r.start, r.len, PROT_READ | PROT_WRITE,
			      (pick(2) ? MAP_PRIVATE : shared) | MAP_FIXED, vm_flags[kind], NULL))
		r.n = 0;
	for (unsigned int place = r.first; place < r.first + r.n; place++) {
		uhmm_vaddr_t addr = place_addr(a->all, place);

		if (kind == 0)
			insert_page(a, place);
		else if (kind == 1)
			(void)!uhmm_insert_mixed(p->mm, addr, a->all->frame, false);
		else
			(void)!uhmm_remap_pfn_range(p->mm, addr, a->all->frame, 1);
	}
	change_end(p, r.first, r.n);
}

static void unmap(struct actor *a)
{
	struct range r = pick_range(a);

	change_begin(a->process, r.first, r.n);
	(void)uhmm_munmap(a->process->mm, r.start, r.len);
	change_end(a->process, r.first, r.n);
}

static void protect(struct actor *a)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_EXEC,
				     PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE };
	struct range r = pick_range(a);

	(void)uhmm_mprotect(a->process->mm, r.start, r.len, prots[pick(5)]);
}

/* Some operations want memory that is shared, which is seldom where they are. */
static void map_shared(struct actor *a, struct range r)
{
	(void)uhmm_mmap(a->process->mm, r.start, r.len, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
}

/*
 * To another copy. DONTUNMAP leaves shared memory where it was, too, and so does an old length of 0. Here
 * and there it becomes shorter or longer.
 */
static void move(struct actor *a)
{
	const unsigned int *copy = a->all->shape->copy;
	struct process *p = a->process;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	unsigned int from, to, how = pick(8);
	struct range r;
	uint64_t old_len, len;
	uhmm_vaddr_t addr;

	do
		r = pick_range(a);
	while (r.first / PAGES != (r.first + r.n - 1) / PAGES);
	from = r.first / PAGES;
	to = (from + 1 + pick(COPIES - 1)) % COPIES;
	addr = r.start + copy[to] * UHMM_PAGE_SIZE - copy[from] * UHMM_PAGE_SIZE;
	old_len = len = r.len;
	if (how < 2)
		flags |= MREMAP_DONTUNMAP;
	else if (how == 2)
		old_len = 0;
	else if (how == 3)
		len = r.len > UHMM_PAGE_SIZE ? r.len - UHMM_PAGE_SIZE : 2 * r.len;
	if (how < 3)
		p->aliased = true;
	change_begin(p, 0, PLACES);
	if (!old_len && pick(2))
		map_shared(a, r);
	(void)uhmm_mremap(p->mm, r.start, old_len, len, flags, addr, NULL);
	change_end(p, 0, PLACES);
}

static void advise(struct actor *a)
{
	/* Those that may change contents first: of shared memory, or of the range. */
	static const int advice[] = {
		MADV_REMOVE,	    MADV_DONTNEED,	 MADV_DONTNEED_LOCKED,
		MADV_FREE,	    MADV_GUARD_INSTALL,	 MADV_GUARD_REMOVE,
		MADV_COLD,	    MADV_PAGEOUT,	 MADV_WILLNEED,
		MADV_DONTFORK,	    MADV_DOFORK,	 MADV_WIPEONFORK,
		MADV_KEEPONFORK,    MADV_HUGEPAGE,	 MADV_NOHUGEPAGE,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE,
		MADV_COLLAPSE,	    MADV_PAGEOUT,	 MADV_RANDOM,
		MADV_SEQUENTIAL,    MADV_NORMAL,	 MADV_DONTDUMP,
		MADV_DODUMP,	    MADV_MERGEABLE,	 MADV_UNMERGEABLE,
	};
	unsigned int i = pick(sizeof(advice) / sizeof(advice[0]));
	struct range r = pick_range(a);
	unsigned int first = i ? r.first : 0, n = i ? r.n : PLACES;

	if (i >= 6)
		n = 0;
	change_begin(a->process, first, n);
	if (advice[i] == MADV_REMOVE && pick(2))
		map_shared(a, r);
	(void)uhmm_madvise(a->process->mm, r.start, r.len, advice[i]);
	change_end(a->process, first, n);
}

static void hint(struct actor *a)
{
	struct range r = pick_range(a);

	(void)uhmm_change_prot_numa(a->process->mm, r.start, r.len);
}

static void sync_mapping(struct actor *a)
{
	static const int flags[] = { MS_SYNC, MS_ASYNC, MS_SYNC | MS_INVALIDATE };
	struct range r = pick_range(a);

	(void)uhmm_msync(a->process->mm, r.start, r.len, flags[pick(3)]);
}

/* Nothing is written to the heap. */
static void heap(struct actor *a)
{
	uint64_t unit = a->all->shape->huge ? UHMM_PMD_SIZE : UHMM_PAGE_SIZE, value = 0;
	uhmm_vaddr_t end;

	(void)uhmm_brk(a->process->mm, OPERATIONS_HEAP + pick(3) * unit, &end);
	if (!uhmm_cpu_read(a->process->mm, OPERATIONS_HEAP, &value, sizeof(value), NULL) && value)
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "heap: %#lx", value);
}

static void no_line(void *data, const char *line)
{
	(void)data;
	(void)line;
}

static void look(struct actor *a)
{
	struct uhmm_mm *mm = a->process->mm;
	struct range r = pick_range(a);
	struct uhmm_vma_info info;
	struct uhmm_vma *vma;
	uint64_t map[PAGES];

	switch (pick(4)) {
	case 0:
		(void)uhmm_pagemap(mm, r.start, PAGES, map);
		break;
	case 1:
		uhmm_mm_dump(mm, no_line, NULL);
		break;
	case 2:
		uhmm_mmgrab(mm);
		if (uhmm_mmget_not_zero(mm))
			uhmm_mmput(mm);
		uhmm_mmdrop(mm);
		break;
	default:
		uhmm_mmap_read_lock(mm);
		vma = uhmm_find_vma(mm, r.start);
		if (vma)
			uhmm_vma_info(vma, &info);
		uhmm_mmap_read_unlock(mm);
		break;
	}
}

/* ---- userfaultfd, poison ---- */

bool resolve_fault(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	int err;

	(void)data;
	if (reason == UHMM_UFFD_WP)
		err = uhmm_uffd_writeprotect(mm, addr, UHMM_PAGE_SIZE, false);
	else
		err = uhmm_uffd_copy(mm, addr, zeroes, false);
	return !err || err == -EEXIST || err == -ENOENT;
}

static void watch(struct actor *a)
{
	static const unsigned int modes[] = { 0, UHMM_UFFD_MISSING, UHMM_UFFD_WP,
					      UHMM_UFFD_MISSING | UHMM_UFFD_WP,
					      UHMM_UFFD_WP | UHMM_UFFD_WP_UNPOPULATED };
	struct range r = pick_range(a);
	struct uhmm_mm *mm = a->process->mm;

	if (!uhmm_uffd_register(mm, r.start, r.len, modes[pick(5)]))
		(void)!uhmm_uffd_writeprotect(mm, r.start, r.len, pick(2));
}

/* A page of one's own, where none is. */
static void watch_copy(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	uhmm_vaddr_t addr = place_addr(a->all, place);
	struct uhmm_mm *mm = a->process->mm;
	uint64_t value;
	int err;

	/* Something may be there, and then it stays, if it does not go first. */
	(void)!uhmm_uffd_register(mm, addr, UHMM_PAGE_SIZE, UHMM_UFFD_MISSING | UHMM_UFFD_WP);
	if (pick(2)) {
		change_begin(a->process, place, 1);
		(void)uhmm_madvise(mm, addr, UHMM_PAGE_SIZE, MADV_DONTNEED);
		change_end(a->process, place, 1);
	}
	value = write_begin(a, place, &changed);
	for (unsigned int i = 0; i < UHMM_PAGE_SIZE / 8; i++)
		a->buf[i] = value;
	err = pick(3) ? uhmm_uffd_copy(mm, addr, a->buf, pick(2)) : -EEXIST;
	write_end(a, place, value, changed, !err);
	if (!pick(3))
		(void)!uhmm_uffd_poison(mm, addr);
}

/* A page breaks; found by its number it may be another's by then, or nobody's. */
static void poison(struct actor *a)
{
	uhmm_vaddr_t addr = place_addr(a->all, pick(PLACES));
	uhmm_pfn_t page;

	if (pick(2)) {
		(void)uhmm_madvise(a->process->mm, addr, UHMM_PAGE_SIZE, MADV_HWPOISON);
		return;
	}
	if (uhmm_get_user_pages_fast(a->process->mm, addr, 1, UHMM_FOLL_NOFAULT, &page) != 1)
		return;
	uhmm_put_user_pages(a->all->m, &page, 1);
	(void)uhmm_memory_failure(a->all->m, page);
}

/* ---- files ---- */

/* Of another size for a while; never for good, or everything ends in SIGBUS. */
static void cut_file(struct actor *a, struct uhmm_file *file, uint64_t offset)
{
	change_begin(a->process, 0, PLACES);
	if (pick(2)) {
		(void)!uhmm_file_truncate(file, offset);
		(void)!uhmm_file_truncate(file, a->all->shape->copy_pages * UHMM_PAGE_SIZE);
	} else {
		(void)!uhmm_file_punch_hole(file, offset, UHMM_PAGE_SIZE);
	}
	change_end(a->process, 0, PLACES);
}

static void write_file(struct actor *a, struct uhmm_file *file, unsigned int place, uint64_t offset)
{
	uint64_t value = new_value(a, page_of(place));

	change_begin(a->process, 0, PLACES);
	(void)uhmm_file_write(file, offset, &value, sizeof(value));
	change_end(a->process, 0, PLACES);
}

static void file_op(struct actor *a)
{
	struct uhmm_file *file = a->process->file[pick(FILES)];
	unsigned int place = pick_own(a);
	uint64_t page = a->all->shape->page[page_of(place)], offset = page * UHMM_PAGE_SIZE, value;

	switch (pick(5)) {
	case 0:
		cut_file(a, file, offset);
		break;
	case 1:
		write_file(a, file, place, offset);
		break;
	case 2:
		(void)!uhmm_file_populate(file, page, MAX_RANGE);
		break;
	case 3:
		if (pick(2))
			write_file(a, file, place, offset);
		if (pick(2))
			(void)uhmm_file_writeback(file, 0, a->all->shape->copy_pages);
		else
			(void)!uhmm_file_fsync(file); /* -EIO: a dirty page of it broke */
		break;
	default:
		if (uhmm_file_read(file, offset, &value, sizeof(value)) == sizeof(value))
			see_child(a->all, place_addr(a->all, place), value, "file read");
		break;
	}
}

/* ---- processes ---- */

/* A child that looks at a page and exits. */
static void fork_and_exit(struct actor *a)
{
	uhmm_vaddr_t addr = place_addr(a->all, pick(PLACES));
	struct uhmm_mm *child;
	uint64_t value;
	int err = uhmm_mm_fork(a->process->mm, &child);

	/* As in Linux, if the folio of a device-exclusive entry is locked: F6. */
	if (err == -ENOMEM)
		return;
	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, !err);
	if (pick(2) && !uhmm_cpu_read(child, addr, &value, sizeof(value), NULL))
		see_child(a->all, addr, value, "child");
	uhmm_mmput(child);
}

void mm_operation(struct actor *a)
{
	static operation *const ops[] = {
		map,	 map_special, unmap,  protect,	  move,	  move,		 advise,
		advise,	 advise,      advise, hint,	  heap,	  look,		 sync_mapping,
		file_op, file_op,     watch,  watch_copy, poison, fork_and_exit,
	};

	ops[pick(sizeof(ops) / sizeof(ops[0]))](a);
}
