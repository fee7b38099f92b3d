// SPDX-License-Identifier: LGPL-2.1-or-later
/* One machine of the lockstep: its processes, and operations on it. */
#define _GNU_SOURCE
#include "map_large.h"
#include "model/world.h"

static void report(void *data, enum uhmm_report_kind kind, const char *text)
{
	struct machine *m = data;

	if (kind == UHMM_REPORT_WARN && m->warn_allowed)
		return;
	lockstep_broken(m->l, "%s: %s", uhmm_strategy_name(m->strategy), text);
}

/* ---- processes ---- */

static bool resolve(void *data, struct uhmm_mm *mm, uhmm_vaddr_t addr, unsigned int reason)
{
	static const uint8_t zeroes[PAGE];

	if (reason == UHMM_UFFD_MISSING)
		must(data, uhmm_uffd_copy(mm, addr, zeroes, false));
	else
		must(data, uhmm_uffd_writeprotect(mm, addr, PAGE, false));
	return true;
}

static void proc_start(struct lockstep *l, struct machine *m, unsigned int i, struct uhmm_mm *mm)
{
	struct proc *p = &m->proc[i];

	p->mm = mm;
	if (has_handler(i))
		uhmm_uffd_set_handler(mm, resolve, l);
	for (unsigned int c = 0; c < FIXTURE_CPUS; c++)
		must(l, uhmm_task_create(m->m, mm, c, "proc", &p->task[c]));
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++)
		must(l, uhmm_mirror_open(m->dev[d], mm, &p->mirror[d]));
}

/* Device files are closed before or after the memory goes, as the order of descriptors has it. */
static void proc_exit(struct machine *m, unsigned int i, bool close_first)
{
	struct proc *p = &m->proc[i];

	for (int step = 0; step < 2; step++) {
		if (close_first == !step) {
			for (unsigned int d = 0; d < FIXTURE_DEVICES; d++)
				uhmm_mirror_close(p->mirror[d]);
			continue;
		}
		for (unsigned int c = 0; c < FIXTURE_CPUS; c++)
			uhmm_task_destroy(p->task[c]);
		uhmm_mmput(p->mm);
	}
	memset(p, 0, sizeof(*p));
}

static void map_special(struct lockstep *l, struct uhmm_mm *mm, uhmm_vaddr_t addr,
			unsigned int npages, int prot, int flags, uint64_t vm_flags)
{
	must(l,
	     uhmm_mmap_special(mm, addr, npages * PAGE, prot, flags | MAP_FIXED, vm_flags, NULL));
}

/* A driver's pages are there as long as it has them mapped itself. */
static void driver_start(struct lockstep *l, struct machine *m)
{
	must(l, uhmm_mm_create(m->m, &m->driver));
	map_special(l, m->driver, address(0), FLAT_DRIVER_PAGES, RW, MAP_SHARED, UHMM_VM_MIXEDMAP);
	for (unsigned int i = 0; i < FLAT_DRIVER_PAGES; i++) {
		must(l, uhmm_alloc_locked_page(m->m, &m->driver_pages[i]));
		uhmm_clear_highpage(m->m, m->driver_pages[i]);
		uhmm_unlock_page(m->m, m->driver_pages[i]);
		must(l, uhmm_vm_insert_page(m->driver, address(i), m->driver_pages[i]));
		uhmm_put_user_pages(m->m, &m->driver_pages[i], 1);
	}
}

void machine_start(struct lockstep *l, struct machine *m, enum uhmm_strategy strategy)
{
	struct uhmm_machine_config config = {
		.size = sizeof(config),
		.nr_cpus = FIXTURE_CPUS,
		.content = l->config.content,
		.thp = l->config.huge ? UHMM_THP_ALWAYS : UHMM_THP_NEVER,
		.swap_bytes = l->config.swap_bytes,
		.swap = l->config.swap,
		.ram_bytes = l->config.ram_bytes,
		.device_pfn_space = l->config.pfn_space,
		.report = report,
		.report_data = m,
	};
	struct uhmm_device_config dev = {
		.size = sizeof(dev),
		.memory_bytes = l->config.device_bytes,
		.chunk_bytes = FIXTURE_CHUNK,
	};
	struct uhmm_mm *mm;

	m->l = l;
	m->strategy = strategy;
	must(l, uhmm_machine_create(&config, &m->m));
	must(l, uhmm_task_create(m->m, NULL, 0, "boot", &m->boot));
	uhmm_task_enter(m->boot);
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++) {
		dev.type = d && l->config.coherent ? UHMM_MEMORY_DEVICE_COHERENT
						   : UHMM_MEMORY_DEVICE_PRIVATE;
		must(l, uhmm_device_create(m->m, &dev, &m->dev[d]));
	}
	for (unsigned int i = FLAT_PRIVATE_FILE; i < FLAT_SHARED_ANON; i++)
		must(l,
		     uhmm_file_create(m->m, is_regular(l, i) ? UHMM_FILE_REGULAR : UHMM_FILE_MEMORY,
				      FLAT_PAGES * PAGE, &m->file[i]));
	for (uint64_t i = 0; i < FLAT_PAGES; i++) {
		uint64_t word = i + 1;

		must(l, uhmm_file_write(m->file[FLAT_PRIVATE_FILE], i * PAGE, &word,
					sizeof(word)) != sizeof(word));
	}
	must(l, uhmm_file_populate(m->file[FLAT_SHARED_FILE], 0, FLAT_PAGES));
	must(l, uhmm_mm_create(m->m, &mm));
	uhmm_mm_set_brk(mm, address(FLAT_HEAP));
	proc_start(l, m, 0, mm);
	driver_start(l, m);
	uhmm_task_leave();
}

/* Coherent memory that is pinned cannot be given back, so pins end before devices do. */
static void unpin_all(struct machine *m)
{
	uhmm_unpin_user_pages(m->m, m->pinned, m->nr_pinned);
	m->nr_pinned = 0;
}

void machine_stop(struct lockstep *l, struct machine *m)
{
	uhmm_task_enter(m->boot);
	unpin_all(m);
	for (unsigned int i = 0; i < FLAT_PROCS; i++) {
		if (m->proc[i].mm)
			proc_exit(m, i, i & 1);
	}
	uhmm_mmput(m->driver);
	must(l, uhmm_machine_verify(m->m));
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++) {
		uint64_t used = uhmm_devmem_used(uhmm_device_memory(m->dev[d]));

		if (used)
			lockstep_broken(l, "%s: device %u still has %llu pages",
					uhmm_strategy_name(m->strategy), d,
					(unsigned long long)used);
		uhmm_device_destroy(m->dev[d]);
	}
	for (unsigned int i = FLAT_PRIVATE_FILE; i < FLAT_SHARED_ANON; i++)
		uhmm_file_put(m->file[i]);
	must(l, uhmm_machine_verify(m->m));
	uhmm_task_leave();
	uhmm_task_destroy(m->boot);
	uhmm_machine_destroy(m->m);
}

/* ---- operations on a machine ---- */

static int do_mremap(struct proc *p, const struct op *op, uint64_t *where)
{
	unsigned int new_n = op->npages;
	uhmm_vaddr_t out = 0;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED, ret;

	if (op->variant == 1)
		new_n = op->npages2;
	if (op->variant == 2)
		flags |= MREMAP_DONTUNMAP;
	if (op->variant == 3) {
		/* in place */
		flags = 0;
		new_n = (op->npages + 1) / 2;
	}
	ret = uhmm_mremap(p->mm, address(op->page), op->npages * PAGE, new_n * PAGE, flags,
			  address(op->page2), &out);
	*where = out;
	return ret;
}

static int do_ioctl(struct lockstep *l, struct machine *m, const struct op *op,
		    enum uhmm_mirror_op what, struct result *r)
{
	struct uhmm_mirror_cmd cmd = {
		.addr = address(op->page),
		.npages = op->npages,
		.ptr = l->buf,
	};
	int ret;

	m->warn_allowed = what == UHMM_MIRROR_WRITE ||
			  what == UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV;
	ret = uhmm_mirror_ioctl(m->proc[op->proc].mirror[op->dev], what, &cmd);
	m->warn_allowed = false;
	r->out[0] = cmd.cpages;
	r->out[1] = cmd.faults;
	return ret;
}

/* The device's, or the next allocation of RAM for it fails; none after that. */
static int do_fail_alloc(struct lockstep *l, struct machine *m, const struct op *op,
			 struct result *r)
{
	struct uhmm_mirror *mirror = m->proc[op->proc].mirror[op->dev];
	struct uhmm_mirror_cmd on = { .addr = PAGE, .npages = UHMM_MIRROR_FLAG_FAIL_ALLOC };
	/* It is not cleared by no flag at all. */
	struct uhmm_mirror_cmd off = { .addr = PAGE, .npages = UHMM_MIRROR_FLAG_FAIL_ALLOC << 1 };
	int ret;

	must(l, uhmm_mirror_ioctl(mirror, UHMM_MIRROR_FLAGS, &on));
	ret = do_ioctl(l, m, op,
		       op->write ? UHMM_MIRROR_MIGRATE_TO_SYS : UHMM_MIRROR_MIGRATE_TO_DEV, r);
	must(l, uhmm_mirror_ioctl(mirror, UHMM_MIRROR_FLAGS, &off));
	return ret;
}

static int do_serve(struct machine *m, const struct op *op, uint64_t *end)
{
	struct proc *p = &m->proc[op->proc];
	uhmm_vaddr_t start = address(op->page);
	struct uhmm_vma_info info;
	struct uhmm_vma *vma;

	*end = start + (op->npages < 512 ? op->npages : 512) * PAGE;
	uhmm_mmap_read_lock(p->mm);
	vma = uhmm_vma_lookup(p->mm, start);
	if (vma) {
		uhmm_vma_info(vma, &info);
		if (*end > info.end)
			*end = info.end;
	}
	uhmm_mmap_read_unlock(p->mm);
	return uhmm_mirror_serve(p->mirror[op->dev], start, *end, op->write, m->strategy, NULL);
}

static int do_advise(struct proc *p, const struct op *op)
{
	static const int huge[] = { MADV_NOHUGEPAGE, MADV_HUGEPAGE, MADV_COLLAPSE, MADV_HUGEPAGE };
	int what = op->kind == OP_ADVISE_HUGE ? huge[op->variant]
		   : op->kind == OP_DONTNEED  ? MADV_DONTNEED
		   : op->kind == OP_REMOVE    ? MADV_REMOVE
		   : op->kind == OP_PAGEOUT   ? (op->variant ? MADV_PAGEOUT : MADV_COLD)
		   : op->kind == OP_POPULATE
			   ? (op->write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ)
		   : op->kind == OP_GUARD ? (op->write ? MADV_GUARD_REMOVE : MADV_GUARD_INSTALL)
					  : fork_advice[op->variant];

	return uhmm_madvise(p->mm, address(op->page), op->npages * PAGE, what);
}

static int do_free(struct lockstep *l, struct proc *p, const struct op *op)
{
	uint64_t len = op->npages * PAGE;
	int ret = uhmm_madvise(p->mm, address(op->page), len, MADV_FREE);

	if (!ret && op_frees_and_writes(l, op))
		ret = uhmm_cpu_write(p->mm, address(op->page), l->buf, len, NULL);
	return ret;
}

/*
 * Of a huge page of coherent memory none can be pinned for long: then another page takes its place, for what was
 * in it will be lost.
 */
static int64_t pin_for_long(struct lockstep *l, struct uhmm_mm *mm, uhmm_vaddr_t addr,
			    uhmm_pfn_t *page)
{
	const unsigned int flags = UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM;
	int64_t n = uhmm_pin_user_pages(mm, addr, 1, flags, page);

	if (n != -EBUSY || !l->config.coherent)
		return n;
	must(l, uhmm_madvise(mm, addr, PAGE, MADV_DONTNEED));
	return uhmm_pin_user_pages(mm, addr, 1, flags, page);
}

/*
 * Which other processes have the page, and whether it is on a device that has no poison, is not for the
 * model to know: so it is made the process's own and brought to RAM, as a long pin for writing does. Nor
 * whether swap has it still: so it is written.
 */
static int do_poison(struct lockstep *l, struct machine *m, const struct op *op)
{
	struct uhmm_mm *mm = m->proc[op->proc].mm;
	uhmm_pfn_t page;

	must(l, pin_for_long(l, mm, address(op->page), &page) != 1);
	uhmm_unpin_user_pages(m->m, &page, 1);
	must(l, uhmm_cpu_write(mm, address(op->page), &op->seed, sizeof(op->seed), NULL));
	return uhmm_madvise(mm, address(op->page), PAGE, MADV_HWPOISON);
}

/*
 * Whether others have it mapped is not for the model to know, nor whether it is dirty: so nobody has, and
 * it is clean, before.
 */
static int do_poison_file(struct lockstep *l, struct machine *m, const struct op *op)
{
	const struct flat_page *page = &l->flat.mm[op->proc].page[op->page];
	struct uhmm_mm *mm = m->proc[op->proc].mm;

	for (unsigned int i = 0; i < FLAT_PROCS; i++) {
		for (unsigned int k = 0; m->proc[i].mm && k < FLAT_ALL; k++) {
			if (flat_is_same(page, &l->flat.mm[i].page[k]))
				must(l,
				     uhmm_madvise(m->proc[i].mm, address(k), PAGE, MADV_DONTNEED));
		}
	}
	if (is_regular(l, page->obj))
		must(l, uhmm_file_writeback(m->file[page->obj], page->index, 1) < 0);
	if (breaks_dirty(l, op))
		must(l, uhmm_cpu_write(mm, address(op->page), &op->seed, sizeof(op->seed), NULL));
	return uhmm_madvise(mm, address(op->page), PAGE, MADV_HWPOISON);
}

/*
 * Whether there is a page to protect must not depend on what else was mapped around a fault, so they are
 * written to first: not by zeroes, since the zero page, which may take the place of such a one, loses its
 * protection when it migrates, and so does a marker for no page (as in Linux).
 */
static int do_uffd_wp(struct lockstep *l, struct proc *p, const struct op *op)
{
	uhmm_vaddr_t addr = address(op->page);
	uint64_t len = op->npages * PAGE;

	if (op->variant == WP_UNREGISTER)
		return uhmm_uffd_register(p->mm, addr, len, 0);
	if (op->variant == WP_RESOLVE)
		return uhmm_uffd_writeprotect(p->mm, addr, len, false);
	must(l, uhmm_uffd_register(p->mm, addr, len, UHMM_UFFD_WP));
	must(l, uhmm_cpu_write(p->mm, addr, l->buf, len, NULL));
	return uhmm_uffd_writeprotect(p->mm, addr, len, true);
}

static int do_uffd_missing(struct lockstep *l, struct proc *p, const struct op *op)
{
	const struct flat_page *page = &l->flat.mm[op->proc].page[op->page];
	uhmm_vaddr_t addr = address(op->page);
	uint64_t len = op->npages * PAGE;

	if (op->variant == MISSING_UNREGISTER)
		return uhmm_uffd_register(p->mm, addr, len, 0);
	if (op->variant < MISSING_FILL) {
		must(l, uhmm_madvise(p->mm, addr, len, MADV_DONTNEED));
		return uhmm_uffd_register(p->mm, addr, len, UHMM_UFFD_MISSING);
	}
	for (unsigned int i = 0; i < op->npages; i++) {
		if (!is_to_fill(&page[i]))
			continue;
		must(l, uhmm_uffd_copy(p->mm, addr + i * PAGE, l->buf + i * PAGE, false));
		must(l, uhmm_uffd_copy(p->mm, addr + i * PAGE, l->buf, false) != -EEXIST);
	}
	return 0;
}

static int do_numa(struct proc *p, const struct op *op, uint64_t *changed)
{
	int64_t n = uhmm_change_prot_numa(p->mm, address(op->page), op->npages * PAGE);

	*changed = n > 0 ? (uint64_t)n : 0;
	return n < 0 ? (int)n : 0;
}

static void do_reopen(struct lockstep *l, struct machine *m, const struct op *op)
{
	struct proc *p = &m->proc[op->proc];

	uhmm_mirror_close(p->mirror[op->dev]);
	must(l, uhmm_mirror_open(m->dev[op->dev], p->mm, &p->mirror[op->dev]));
}

static int do_mmap(struct machine *m, const struct op *op)
{
	int flags = MAP_FIXED | (op->variant ? 0 : MAP_POPULATE) |
		    (is_stack(op) ? MAP_GROWSDOWN : 0);
	struct uhmm_file *file = NULL;
	uint64_t pgoff = 0;

	flags |= op->obj >= FLAT_SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
	if (op->obj == FLAT_PRIVATE_FILE || op->obj == FLAT_SHARED_FILE) {
		file = m->file[op->obj];
		pgoff = file_index(op);
	} else {
		flags |= MAP_ANONYMOUS;
	}
	return uhmm_mmap(m->proc[op->proc].mm, address(op->page), op->npages * PAGE, op->prot,
			 flags, file, pgoff, NULL);
}

static int do_mmap_driver(struct lockstep *l, struct machine *m, const struct op *op)
{
	struct uhmm_mm *mm = m->proc[op->proc].mm;
	enum flat_special special = driver_special(op);
	uint64_t vm_flags = special == FLAT_FRAMES ? UHMM_VM_PFNMAP : UHMM_VM_MIXEDMAP;
	int flags = driver_private(op) ? MAP_PRIVATE : MAP_SHARED, ret = 0;

	map_special(l, mm, address(op->page), op->npages, op->prot, flags, vm_flags);
	for (unsigned int i = 0; i < op->npages && !ret; i++) {
		uhmm_pfn_t pfn = m->driver_pages[driver_index(op) + i];
		uhmm_vaddr_t addr = address(op->page + i);

		/* Frames are put into a private mapping at once, and these do not lie side by side. */
		if (special == FLAT_FRAMES && driver_private(op))
			map_special(l, mm, addr, 1, op->prot, flags, vm_flags);
		if (special == FLAT_FRAMES)
			ret = uhmm_remap_pfn_range(mm, addr, pfn, 1);
		else if (special == FLAT_MIXED)
			ret = uhmm_insert_mixed(mm, addr, pfn, op->write);
		else
			ret = uhmm_vm_insert_page(mm, addr, pfn);
	}
	return ret;
}

static int do_pin(struct machine *m, const struct op *op, uint64_t *count)
{
	static const unsigned int flags[] = { 0, UHMM_FOLL_WRITE, UHMM_FOLL_LONGTERM,
					      UHMM_FOLL_WRITE | UHMM_FOLL_LONGTERM };
	struct uhmm_mm *mm = m->proc[op->proc].mm;
	uhmm_pfn_t *pages = &m->pinned[m->nr_pinned];
	int64_t n;

	if (op->write)
		n = uhmm_pin_user_pages_fast(mm, address(op->page), op->npages, flags[op->variant],
					     pages);
	else
		n = uhmm_pin_user_pages(mm, address(op->page), op->npages, flags[op->variant],
					pages);
	*count = n > 0 ? (uint64_t)n : 0;
	m->nr_pinned += (unsigned int)*count;
	return n < 0 ? (int)n : 0;
}

void machine_execute(struct lockstep *l, struct machine *m, const struct op *op, unsigned int child,
		     struct result *r)
{
	struct proc *p = &m->proc[op->proc];
	struct uhmm_devmem *pool = uhmm_device_memory(m->dev[op->dev]);
	uhmm_vaddr_t addr = address(op->page);
	uint64_t len = op->npages * PAGE, word;
	struct uhmm_access acc = { 0 };
	struct uhmm_mm *mm;

	switch (op->kind) {
	case OP_CPU_READ:
		r->ret = uhmm_cpu_read(p->mm, addr + op->off, l->buf, op->len, &acc);
		r->out[0] = acc.done;
		r->out[1] = r->ret ? acc.fault_addr : 0;
		break;
	case OP_CPU_WRITE:
		r->ret = uhmm_cpu_write(p->mm, addr + op->off, l->buf, op->len, &acc);
		r->out[0] = acc.done;
		r->out[1] = r->ret ? acc.fault_addr : 0;
		break;
	case OP_DEV_ACCESS:
		memcpy(&word, l->buf, 8);
		r->ret = uhmm_mirror_access(p->mirror[op->dev], addr + op->off, op->write, &word,
					    m->strategy, op->granularity, NULL);
		memcpy(l->buf, &word, 8);
		break;
	case OP_DEV_SERVE:
		r->ret = do_serve(m, op, &r->out[0]);
		break;
	case OP_DEV_READ:
		r->ret = do_ioctl(l, m, op,
				  op->variant ? UHMM_MIRROR_READ : UHMM_MIRROR_READ_UNLOCKED, r);
		break;
	case OP_DEV_WRITE:
		r->ret = do_ioctl(l, m, op, UHMM_MIRROR_WRITE, r);
		break;
	case OP_TO_DEV:
		r->ret = do_ioctl(l, m, op, UHMM_MIRROR_MIGRATE_TO_DEV, r);
		break;
	case OP_TO_SYS:
		r->ret = do_ioctl(l, m, op, UHMM_MIRROR_MIGRATE_TO_SYS, r);
		break;
	case OP_ON_FAULT:
		r->ret = do_ioctl(l, m, op,
				  op->write ? UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV
					    : UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
				  r);
		break;
	case OP_SNAPSHOT:
		r->ret = do_ioctl(l, m, op, UHMM_MIRROR_SNAPSHOT, r);
		break;
	case OP_EXCLUSIVE:
		r->ret = do_ioctl(l, m, op, UHMM_MIRROR_EXCLUSIVE, r);
		break;
	case OP_PIN:
		r->ret = do_pin(m, op, &r->out[0]);
		break;
	case OP_UNPIN:
		unpin_all(m);
		break;
	case OP_EVICT:
		r->ret = uhmm_devmem_evict(pool, op->npages) < 0;
		break;
	case OP_EVICT_ALL:
		unpin_all(m);
		if (op->variant)
			r->ret = (int)uhmm_devmem_evict_all(pool, false);
		else
			r->ret = do_ioctl(l, m, op, UHMM_MIRROR_RELEASE, r);
		break;
	case OP_FAIL_ALLOC:
		r->ret = do_fail_alloc(l, m, op, r);
		break;
	case OP_REOPEN:
		do_reopen(l, m, op);
		break;
	case OP_MMAP:
		r->ret = do_mmap(m, op);
		break;
	case OP_LARGE:
		map_large_folio(p->mm, addr, (unsigned int)__builtin_ctz(op->npages));
		r->ret = uhmm_cpu_write(p->mm, addr, l->buf, len, NULL);
		break;
	case OP_MMAP_DRIVER:
		r->ret = do_mmap_driver(l, m, op);
		break;
	case OP_MUNMAP:
		r->ret = uhmm_munmap(p->mm, addr, len);
		break;
	case OP_MPROTECT:
		r->ret = uhmm_mprotect(p->mm, addr, len, op->prot);
		break;
	case OP_DONTNEED:
	case OP_PAGEOUT:
	case OP_ADVISE_FORK:
	case OP_POPULATE:
	case OP_ADVISE_HUGE:
	case OP_REMOVE:
	case OP_GUARD:
		r->ret = do_advise(p, op);
		break;
	case OP_FREE:
		r->ret = do_free(l, p, op);
		break;
	case OP_POISON:
		r->ret = do_poison(l, m, op);
		break;
	case OP_POISON_FILE:
		r->ret = do_poison_file(l, m, op);
		break;
	case OP_UFFD_WP:
		r->ret = do_uffd_wp(l, p, op);
		break;
	case OP_UFFD_MISSING:
		r->ret = do_uffd_missing(l, p, op);
		break;
	case OP_NUMA:
		r->ret = do_numa(p, op, &r->out[0]);
		break;
	case OP_BRK:
		r->ret = uhmm_brk(p->mm, address(FLAT_HEAP) + (heap_end(op) - FLAT_HEAP) * PAGE,
				  &r->out[0]);
		break;
	case OP_TRUNCATE:
		r->ret = uhmm_file_truncate(m->file[op->obj], truncated_size(l, op));
		break;
	case OP_MSYNC:
		r->ret = uhmm_msync(p->mm, addr, len, MS_SYNC);
		break;
	case OP_MREMAP:
		r->ret = do_mremap(p, op, &r->out[0]);
		break;
	case OP_FORK:
		r->ret = uhmm_mm_fork(p->mm, &mm);
		if (!r->ret)
			proc_start(l, m, child, mm);
		break;
	case OP_EXIT:
		uhmm_task_leave();
		uhmm_task_enter(m->boot);
		proc_exit(m, op->proc, op->variant & 1);
		break;
	case NR_OPS:
		break;
	}
}
