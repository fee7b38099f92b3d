// SPDX-License-Identifier: LGPL-2.1-or-later
/* Three machines and the flat model in step: see lockstep.h. */
#define _GNU_SOURCE
#include "model/lockstep.h"

#include <stdarg.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum {
	BUF_SIZE = FLAT_PAGES * FLAT_PAGE_SIZE,
	MAX_PINNED = 64,
	MAX_PIN = 8, /* pages at a time */
	NOT_PREDICTED = 0x7fffffff,
	SOME_ERROR = 0x7ffffffe,
};

static const int fork_advice[] = { MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK };

struct proc {
	struct uhmm_mm *mm;
	struct uhmm_task *task[FIXTURE_CPUS];
	struct uhmm_mirror *mirror[FIXTURE_DEVICES];
};

struct machine {
	struct uhmm_machine *m;
	enum uhmm_strategy strategy;
	struct uhmm_task *boot;
	struct uhmm_device *dev[FIXTURE_DEVICES];
	struct proc proc[FLAT_PROCS];
	struct uhmm_file *file[FLAT_SHARED_ANON]; /* FLAT_PRIVATE_FILE and FLAT_SHARED_FILE */
	uhmm_pfn_t pinned[MAX_PINNED];
	unsigned int nr_pinned;
	bool warn_allowed;
	struct lockstep *l;
};

struct lockstep {
	struct run_config config;
	struct machine machine[NR_MACHINES];
	struct flat flat;
	void (*complain)(const char *message);
	char text[4096]; /* of differences between machines */
	uint8_t *buf;
	unsigned int new_object; /* for shared anonymous memory, if some is mapped now */
	bool fail_alloc;	 /* an allocation was told to fail, some time before */
};

/* What an operation gave on one machine. */
struct result {
	int ret;
	uint64_t out[3];
};

static void __attribute__((format(printf, 2, 3))) broken(struct lockstep *l, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->complain(text);
	abort();
}

#define must(l, call)                                                                              \
	do {                                                                                       \
		int must_ret = (call);                                                             \
		if (must_ret)                                                                      \
			broken(l, "%s: %d", #call, must_ret);                                      \
	} while (0)

static void report(void *data, enum uhmm_report_kind kind, const char *text)
{
	struct machine *m = data;

	if (kind == UHMM_REPORT_WARN && m->warn_allowed)
		return;
	broken(m->l, "%s: %s", uhmm_strategy_name(m->strategy), text);
}

static uhmm_vaddr_t address(unsigned int page)
{
	return FLAT_BASE + page * PAGE;
}

/* ---- processes ---- */

static void proc_start(struct lockstep *l, struct machine *m, unsigned int i, struct uhmm_mm *mm)
{
	struct proc *p = &m->proc[i];

	p->mm = mm;
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

static void machine_start(struct lockstep *l, struct machine *m, enum uhmm_strategy strategy)
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
	/* One of the kinds each, which depends on the contents, that is on the seed. */
	for (unsigned int i = FLAT_PRIVATE_FILE; i < FLAT_SHARED_ANON; i++)
		must(l, uhmm_file_create(m->m,
					 (i & 1) == (l->config.content == UHMM_CONTENT_TAG)
						 ? UHMM_FILE_REGULAR
						 : UHMM_FILE_MEMORY,
					 FLAT_PAGES * PAGE, &m->file[i]));
	for (uint64_t i = 0; i < FLAT_PAGES; i++) {
		uint64_t word = i + 1;

		must(l, uhmm_file_write(m->file[FLAT_PRIVATE_FILE], i * PAGE, &word,
					sizeof(word)) != sizeof(word));
	}
	must(l, uhmm_file_populate(m->file[FLAT_SHARED_FILE], 0, FLAT_PAGES));
	must(l, uhmm_mm_create(m->m, &mm));
	proc_start(l, m, 0, mm);
	uhmm_task_leave();
}

/* Coherent memory that is pinned cannot be given back, so pins end before devices do. */
static void unpin_all(struct machine *m)
{
	uhmm_unpin_user_pages(m->m, m->pinned, m->nr_pinned);
	m->nr_pinned = 0;
}

static void machine_stop(struct lockstep *l, struct machine *m)
{
	uhmm_task_enter(m->boot);
	unpin_all(m);
	for (unsigned int i = 0; i < FLAT_PROCS; i++) {
		if (m->proc[i].mm)
			proc_exit(m, i, i & 1);
	}
	must(l, uhmm_machine_verify(m->m));
	for (unsigned int d = 0; d < FIXTURE_DEVICES; d++) {
		uint64_t used = uhmm_devmem_used(uhmm_device_memory(m->dev[d]));

		if (used)
			broken(l, "%s: device %u still has %llu pages",
			       uhmm_strategy_name(m->strategy), d, (unsigned long long)used);
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

/* Where in its file a mapping begins: within the file to its end. */
static unsigned int file_index(const struct op *op)
{
	if (op->obj != FLAT_PRIVATE_FILE && op->obj != FLAT_SHARED_FILE)
		return 0;
	return op->page2 + op->npages > FLAT_PAGES ? FLAT_PAGES - op->npages : op->page2;
}

static void fill(uint8_t *buf, size_t n, uint64_t seed)
{
	struct rng rng = { seed };

	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = rng_next(&rng);

		memcpy(buf + i, &v, n - i < 8 ? n - i : 8);
	}
}

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
			   : fork_advice[op->variant];

	return uhmm_madvise(p->mm, address(op->page), op->npages * PAGE, what);
}

static void do_reopen(struct lockstep *l, struct machine *m, const struct op *op)
{
	struct proc *p = &m->proc[op->proc];

	uhmm_mirror_close(p->mirror[op->dev]);
	must(l, uhmm_mirror_open(m->dev[op->dev], p->mm, &p->mirror[op->dev]));
}

static int do_mmap(struct machine *m, const struct op *op)
{
	int flags = MAP_FIXED | (op->variant ? 0 : MAP_POPULATE);
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

/* Data to be written is in l->buf, data that was read comes back there. */
static void execute(struct lockstep *l, struct machine *m, const struct op *op, unsigned int child,
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
	case OP_FAIL_ALLOC: {
		struct uhmm_mirror_cmd cmd = { .addr = PAGE,
					       .npages = UHMM_MIRROR_FLAG_FAIL_ALLOC };

		r->ret = uhmm_mirror_ioctl(p->mirror[op->dev], UHMM_MIRROR_FLAGS, &cmd);
		break;
	}
	case OP_REOPEN:
		do_reopen(l, m, op);
		break;
	case OP_MMAP:
		r->ret = do_mmap(m, op);
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
		r->ret = do_advise(p, op);
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

/* ---- what must come of it ---- */

/* Whether a page of the range is one that processes share. */
static bool any_shared(const struct flat_mm *mm, const struct op *op)
{
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		if (flat_is_shared(&mm->page[i]))
			return true;
	}
	return false;
}

/* The answer that needs no knowledge of where pages are; NOT_PREDICTED if there is none. */
static int predict(const struct lockstep *l, const struct op *op, struct result *r)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];
	const uint64_t at = op->page * PAGE + op->off;
	const struct flat_page *page = &mm->page[op->page];
	bool unlimited = !l->config.device_bytes;
	bool read_bad = flat_first_without(mm, op->page, op->npages, PROT_READ) >= 0;
	bool write_bad = flat_first_without(mm, op->page, op->npages, PROT_WRITE) >= 0;

	switch (op->kind) {
	case OP_CPU_READ:
	case OP_CPU_WRITE:
		for (uint64_t i = 0; i < op->len; i++) {
			const struct flat_page *p = &mm->page[(at + i) / PAGE];

			if (p->mapped &&
			    (op->kind == OP_CPU_WRITE ? p->prot & PROT_WRITE : p->prot))
				continue;
			r->out[0] = i;
			r->out[1] = FLAT_BASE + at + i;
			return SIGSEGV;
		}
		r->out[0] = op->len;
		r->out[1] = 0;
		return 0;
	case OP_DEV_ACCESS:
	case OP_DEV_SERVE:
		if (!page->mapped || !(page->prot & PROT_READ))
			return -EFAULT;
		if (op->write && !(page->prot & PROT_WRITE))
			return -EPERM;
		return 0;
	case OP_DEV_READ:
		return read_bad ? -EFAULT : 0;
	case OP_DEV_WRITE:
		if (read_bad)
			return -EFAULT;
		/* -EPERM, but -EFAULT at a page of the device's own that it may only read. */
		return write_bad ? SOME_ERROR : NOT_PREDICTED;
	case OP_EXCLUSIVE:
		/* Not for pages of files, if they come before what is not mapped. */
		if (l->fail_alloc || any_shared(mm, op))
			return NOT_PREDICTED;
		return write_bad ? -EFAULT : 0;
	case OP_PIN:
		if (l->fail_alloc)
			return NOT_PREDICTED;
		if (!page->mapped || !(page->prot & (op->variant & 1 ? PROT_WRITE : PROT_READ)))
			return -EFAULT;
		return op->variant & 2 ? NOT_PREDICTED : 0;
	case OP_TO_DEV:
		return read_bad ? -EINVAL : NOT_PREDICTED;
	case OP_TO_SYS:
		if (l->fail_alloc)
			return NOT_PREDICTED;
		return read_bad ? -EINVAL : 0;
	case OP_ON_FAULT:
		if (!read_bad && !op->write && unlimited)
			return 0;
		return NOT_PREDICTED;
	case OP_MPROTECT:
		return read_bad && flat_first_without(mm, op->page, op->npages, PROT_NONE) >= 0
			       ? -ENOMEM
			       : 0;
	case OP_DONTNEED:
	case OP_PAGEOUT:
	case OP_MSYNC:
		return flat_first_without(mm, op->page, op->npages, PROT_NONE) >= 0 ? -ENOMEM : 0;
	case OP_ADVISE_HUGE:
		if (op->variant == 2)
			return NOT_PREDICTED;
		return flat_first_without(mm, op->page, op->npages, PROT_NONE) >= 0 ? -ENOMEM : 0;
	case OP_ADVISE_FORK:
		return flat_advise_answer(mm, op->page, op->npages, fork_advice[op->variant]);
	case OP_REMOVE:
		return flat_remove(NULL, &l->flat.mm[op->proc], op->page, op->npages);
	case OP_POPULATE:
		return flat_populate(mm, op->page, op->npages, op->write);
	case OP_MREMAP:
		return NOT_PREDICTED;
	default:
		return 0;
	}
}

/* Bytes that came back, against the model as it was before. */
static void check_bytes(struct lockstep *l, const struct machine *m, const struct op *op,
			uint64_t at, uint64_t n)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];

	for (uint64_t i = 0; i < n; i++) {
		uint8_t right = flat_byte(&l->flat, mm, at + i);

		if (l->buf[i] != right)
			broken(l, "%s: page %llu offset %#llx: read %#x, should be %#x",
			       uhmm_strategy_name(m->strategy),
			       (unsigned long long)((at + i) / PAGE),
			       (unsigned long long)((at + i) % PAGE), l->buf[i], right);
	}
}

static void check_snapshot(struct lockstep *l, const struct machine *m, const struct op *op)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];

	for (unsigned int i = 0; i < op->npages; i++) {
		const struct flat_page *p = &mm->page[op->page + i];
		bool error = !p->mapped || !(p->prot & PROT_READ);

		if ((l->buf[i] == UHMM_PROT_ERROR) != error ||
		    (!error && l->buf[i] & UHMM_PROT_WRITE && !(p->prot & PROT_WRITE)))
			broken(l, "%s: snapshot of page %u: %#x", uhmm_strategy_name(m->strategy),
			       op->page + i, l->buf[i]);
	}
}

static void check_data(struct lockstep *l, const struct machine *m, const struct op *op,
		       const struct result *r)
{
	uint64_t at = op->page * PAGE;

	if (op->kind == OP_CPU_READ) {
		check_bytes(l, m, op, at + op->off, r->out[0]);
		return;
	}
	if (r->ret)
		return;
	if (op->kind == OP_DEV_ACCESS && !op->write)
		check_bytes(l, m, op, (at + op->off) & ~7UL, 8);
	else if (op->kind == OP_DEV_READ || op->kind == OP_TO_DEV || op->kind == OP_ON_FAULT ||
		 op->kind == OP_EXCLUSIVE)
		check_bytes(l, m, op, at, op->npages * PAGE);
	else if (op->kind == OP_SNAPSHOT)
		check_snapshot(l, m, op);
}

static void write_model(struct lockstep *l, struct flat_mm *mm, uint64_t at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		flat_set_byte(&l->flat, mm, at + i, l->buf[i]);
}

static void move_model(struct lockstep *l, struct flat_mm *mm, const struct op *op)
{
	if (op->variant == 3)
		flat_munmap(mm, op->page + (op->npages + 1) / 2, op->npages / 2);
	else
		flat_move(&l->flat, mm, op->page, op->npages, op->page2,
			  op->variant == 1 ? op->npages2 : op->npages, op->variant == 2);
}

/* The same on the model. l->buf holds what was written, if something was. */
static void apply(struct lockstep *l, const struct op *op, unsigned int child,
		  const struct result *r)
{
	struct flat_mm *mm = &l->flat.mm[op->proc];
	uint64_t at = op->page * PAGE;

	switch (op->kind) {
	case OP_CPU_WRITE:
		write_model(l, mm, at + op->off, r->out[0]);
		break;
	case OP_DEV_ACCESS:
		if (op->write && !r->ret)
			write_model(l, mm, (at + op->off) & ~7UL, 8);
		break;
	case OP_DEV_WRITE:
		if (!r->ret)
			write_model(l, mm, at, PAGE);
		break;
	case OP_MMAP:
		flat_mmap(&l->flat, mm, op->page, op->npages, op->prot,
			  op->obj == FLAT_SHARED_ANON ? l->new_object : op->obj, file_index(op));
		break;
	case OP_REMOVE:
		flat_remove(&l->flat, mm, op->page, op->npages);
		break;
	case OP_MUNMAP:
		flat_munmap(mm, op->page, op->npages);
		break;
	case OP_MPROTECT:
		flat_mprotect(mm, op->page, op->npages, op->prot);
		break;
	case OP_DONTNEED:
		flat_dontneed(&l->flat, mm, op->page, op->npages);
		break;
	case OP_ADVISE_FORK:
		flat_advise(mm, op->page, op->npages, fork_advice[op->variant]);
		break;
	case OP_MREMAP:
		if (!r->ret)
			move_model(l, mm, op);
		break;
	case OP_FORK:
		flat_fork(&l->flat, op->proc, child);
		break;
	case OP_EXIT:
		flat_kill(&l->flat, op->proc);
		break;
	default:
		break;
	}
}

/* ---- comparing machines ---- */

static void emit(void *data, const char *line)
{
	struct lockstep *l = data;
	size_t n = strlen(l->text);

	snprintf(l->text + n, sizeof(l->text) - n, "\n  %s", line);
}

/*
 * Whether machine @i took the same course as the first: then state and answers must be the same, too.
 * With limited memory, or swap, it need not. Nor where a device faulted more often: migrate-fault-migrate unmaps
 * a shared page everywhere before it finds that it must be copied, and the mirrors of other processes
 * forget it; the fault that follows moves pages that are where they are in the other machines. Nor where
 * other pages were mapped around faults on files: which those are depends on who read them from where
 * there is no disk, and whether the fault could drop its lock for that.
 */
static bool same_course(const struct lockstep *l, int i)
{
	struct uhmm_counters a, b;

	uhmm_counters_read(l->machine[0].m, &a);
	uhmm_counters_read(l->machine[i].m, &b);
	return !l->config.device_bytes && !l->config.huge && !l->config.swap_bytes &&
	       a.v[UHMM_CNT_DEVICE_FAULTS] == b.v[UHMM_CNT_DEVICE_FAULTS] &&
	       a.v[UHMM_CNT_FAULT_AROUND] == b.v[UHMM_CNT_FAULT_AROUND];
}

static void compare(struct lockstep *l)
{
	for (int i = 0; i < NR_MACHINES; i++) {
		int ret = uhmm_machine_verify(l->machine[i].m);

		if (ret)
			broken(l, "%s: verify: %d", uhmm_strategy_name(l->machine[i].strategy),
			       ret);
	}
	for (int i = 1; i < NR_MACHINES; i++) {
		int64_t ret;

		l->text[0] = '\0';
		ret = uhmm_machine_compare(
			l->machine[0].m, l->machine[i].m,
			same_course(l, i) ? UHMM_COMPARE_STATE : UHMM_COMPARE_CONTENTS, emit, l);
		if (ret)
			broken(l, "%s | %s: %lld differences%s",
			       uhmm_strategy_name(l->machine[0].strategy),
			       uhmm_strategy_name(l->machine[i].strategy), (long long)ret, l->text);
	}
}

static void compare_results(struct lockstep *l, int i, const struct result *a,
			    const struct result *b)
{
	if (!memcmp(a, b, sizeof(*a)))
		return;
	broken(l, "%s: %d (%#llx, %#llx), %s: %d (%#llx, %#llx)",
	       uhmm_strategy_name(l->machine[0].strategy), a->ret, (unsigned long long)a->out[0],
	       (unsigned long long)a->out[1], uhmm_strategy_name(l->machine[i].strategy), b->ret,
	       (unsigned long long)b->out[0], (unsigned long long)b->out[1]);
}

/* ---- a run ---- */

/* Whether the list still means something here; for a fork, where the child goes. */
static bool applicable(const struct lockstep *l, const struct op *op, unsigned int *child)
{
	unsigned int alive = 0;

	if (!l->flat.mm[op->proc].alive)
		return false;
	if (l->config.device_bytes ? op->kind == OP_DEV_SERVE
				   : op->kind == OP_EVICT || op->kind == OP_FAIL_ALLOC)
		return false;
	for (unsigned int i = 0; i < FLAT_PROCS; i++) {
		alive += l->flat.mm[i].alive;
		if (!l->flat.mm[i].alive)
			*child = i;
	}
	if (op->kind == OP_PIN && l->machine[0].nr_pinned + MAX_PIN > MAX_PINNED)
		return false;
	/* Neither files nor shared memory are long enough to grow. */
	if (op->kind == OP_MREMAP && op->variant == 1 && op->npages2 > op->npages &&
	    l->flat.mm[op->proc].page[op->page].obj)
		return false;
	if (op->kind == OP_MMAP && op->obj == FLAT_SHARED_ANON && !flat_free_object(&l->flat))
		return false;
	if (op->kind == OP_EXIT)
		return alive > 1;
	return op->kind != OP_FORK || alive < FLAT_PROCS;
}

static void step(struct lockstep *l, const struct op *op)
{
	struct result first = { 0 }, want = { 0 };
	unsigned int child = 0;
	int right;

	if (!applicable(l, op, &child))
		return;
	l->fail_alloc |= op->kind == OP_FAIL_ALLOC;
	l->new_object = flat_free_object(&l->flat);
	right = predict(l, op, &want);
	for (int i = 0; i < NR_MACHINES; i++) {
		struct machine *m = &l->machine[i];
		struct result r = { 0 };

		if (op->kind == OP_CPU_WRITE || op->kind == OP_DEV_WRITE ||
		    op->kind == OP_DEV_ACCESS)
			fill(l->buf, op->kind == OP_CPU_WRITE ? op->len : PAGE, op->seed);
		uhmm_task_enter(m->proc[op->proc].task[op->cpu]);
		execute(l, m, op, child, &r);
		uhmm_task_leave();
		if (right == SOME_ERROR ? r.ret >= 0 : right != NOT_PREDICTED && r.ret != right)
			broken(l, "%s: %d, should be %d", uhmm_strategy_name(m->strategy), r.ret,
			       right);
		if ((op->kind == OP_CPU_READ || op->kind == OP_CPU_WRITE) &&
		    memcmp(r.out, want.out, sizeof(r.out)))
			broken(l, "%s: %llu bytes to %#llx, should be %llu, %#llx",
			       uhmm_strategy_name(m->strategy), (unsigned long long)r.out[0],
			       (unsigned long long)r.out[1], (unsigned long long)want.out[0],
			       (unsigned long long)want.out[1]);
		check_data(l, m, op, &r);
		if (!i)
			first = r;
		else if (same_course(l, i) || op->kind == OP_MREMAP)
			compare_results(l, i, &first, &r);
	}
	apply(l, op, child, &first);
}

/* Every byte that can be read. Brings everything home. */
static void read_all(struct lockstep *l)
{
	for (unsigned int proc = 0; proc < FLAT_PROCS; proc++) {
		for (unsigned int page = 0; l->flat.mm[proc].alive && page < FLAT_PAGES; page++) {
			struct op op = { .kind = OP_CPU_READ,
					 .proc = proc,
					 .cpu = page & 1,
					 .page = page,
					 .len = PAGE };

			step(l, &op);
		}
	}
	compare(l);
}

void lockstep_run(const struct run_config *config, const struct op *ops, unsigned int n,
		  void (*complain)(const char *message), volatile unsigned int *at)
{
	struct lockstep *l = calloc(1, sizeof(*l));

	if (l)
		l->buf = malloc(BUF_SIZE);
	if (!l || !l->buf)
		abort();
	l->config = *config;
	l->complain = complain;
	flat_init(&l->flat, config->content == UHMM_CONTENT_TAG ? FLAT_TAG : FLAT_PAGE_SIZE);
	flat_start(&l->flat, 0);
	for (int i = 0; i < NR_MACHINES; i++)
		machine_start(l, &l->machine[i], (enum uhmm_strategy)i);
	for (*at = 0; *at < n; (*at)++) {
		step(l, &ops[*at]);
		compare(l);
	}
	read_all(l);
	for (int i = 0; i < NR_MACHINES; i++)
		machine_stop(l, &l->machine[i]);
	flat_exit(&l->flat);
	free(l->buf);
	free(l);
}
