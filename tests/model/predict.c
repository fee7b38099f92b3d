// SPDX-License-Identifier: LGPL-2.1-or-later
/* What must come of an operation, by the flat model. */
#define _GNU_SOURCE
#include "model/world.h"

void wanted_range(const struct op *op, unsigned int *first, unsigned int *end)
{
	unsigned int n, before;

	*first = op->page;
	*end = op->page + op->npages;
	if (op->kind != OP_DEV_ACCESS)
		return;
	n = (unsigned int)(op->granularity / PAGE);
	/* How far into the granule the page is. */
	before = (unsigned int)(address(op->page) / PAGE % n);
	*first = op->page > flat_first(op->page) + before ? op->page - before
							  : flat_first(op->page);
	*end = op->page - before + n;
	if (op->page + n > flat_end(op->page) + before)
		*end = flat_end(op->page);
}

/* Whether a page of the range is one that processes share. */
static bool any_shared(const struct flat_mm *mm, const struct op *op)
{
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		if (flat_is_shared(&mm->page[i]))
			return true;
	}
	return false;
}

static bool any_frame(const struct flat_mm *mm, const struct op *op)
{
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		if (mm->page[i].mapped && flat_is_frame(&mm->page[i]))
			return true;
	}
	return false;
}

/* Whether a page is write-protected for a device that asks no handler; -1: it may be. */
static int any_protected(const struct flat_mm *mm, const struct op *op)
{
	int ret = 0;

	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		if (mm->page[i].wp)
			return 1;
		if (mm->page[i].wp_unsure)
			ret = -1;
	}
	return ret;
}

/* Whether it depends on what devices did before if a page is there. */
static bool any_on_demand(const struct flat_mm *mm, const struct op *op)
{
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		if (mm->page[i].missing == FLAT_ON_DEMAND)
			return true;
	}
	return false;
}

/*
 * Whether the device may have a page, for its atomics, that a fault would not give it: only the right to write
 * is asked for these, and what the device has it reads without a fault.
 */
static bool may_have_unreadable(const struct flat_page *p, const struct op *op)
{
	return p->atomic == op->dev + 1 && (p->prot & RW) == PROT_WRITE;
}

/* Whether a device may read all pages; -EFAULT if not, NOT_PREDICTED if it depends on what it has. */
static int predict_dev_read(const struct flat_mm *mm, const struct op *op)
{
	int ret = 0;

	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		const struct flat_page *p = &mm->page[i];

		if (p->mapped && p->prot & PROT_READ)
			continue;
		if (!may_have_unreadable(p, op))
			return -EFAULT;
		ret = NOT_PREDICTED;
	}
	return ret;
}

/* Bytes that a CPU gets to, and where it ends. */
static int predict_cpu(const struct lockstep *l, const struct op *op, struct result *r)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];
	const uint64_t at = op->page * PAGE + op->off;

	for (uint64_t i = 0; i < op->len; i++) {
		unsigned int page = (unsigned int)((at + i) / PAGE);
		const struct flat_page *p = &mm->page[page];
		int above = p->mapped ? -1 : flat_stack_above(mm, page), signal = 0;

		if (above >= 0)
			p = &mm->page[above];
		if (!p->mapped || !(op->kind == OP_CPU_WRITE ? p->prot & PROT_WRITE : p->prot))
			signal = SIGSEGV;
		else if (above < 0)
			signal = flat_signal(&l->flat, p);
		if (!signal && op->kind == OP_CPU_WRITE && above < 0 && p->wp &&
		    !has_handler(op->proc))
			signal = SIGBUS;
		if (!signal)
			continue;
		r->out[0] = i;
		r->out[1] = address(page) + (at + i) % PAGE;
		return signal;
	}
	r->out[0] = op->len;
	return 0;
}

int model_predict(const struct lockstep *l, const struct op *op, struct result *r)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];
	const struct flat_page *page = &mm->page[op->page];
	bool unlimited = !l->config.device_bytes;
	bool read_bad = flat_first_without(mm, op->page, op->npages, PROT_READ) >= 0;
	bool write_bad = flat_first_without(mm, op->page, op->npages, PROT_WRITE) >= 0;
	bool hole = flat_first_without(mm, op->page, op->npages, PROT_NONE) >= 0;
	bool special = flat_any_special(mm, op->page, op->npages);
	bool broken = flat_first_signal(&l->flat, mm, op->page, op->npages) >= 0 ||
		      any_frame(mm, op);
	unsigned int done;

	switch (op->kind) {
	case OP_CPU_READ:
	case OP_CPU_WRITE:
		return predict_cpu(l, op, r);
	case OP_BRK:
		r->out[0] = FLAT_BASE + flat_brk_answer(mm, heap_end(op)) * PAGE;
		return 0;
	case OP_DEV_ACCESS:
	case OP_DEV_SERVE:
		/* A page that the device has already needs no service. */
		if (page->mapped && page->special)
			return flat_is_frame(page) ? -EINVAL : NOT_PREDICTED;
		if (op->kind == OP_DEV_ACCESS && !op->write && may_have_unreadable(page, op))
			return NOT_PREDICTED;
		if (!page->mapped || !(page->prot & PROT_READ))
			return -EFAULT;
		if (op->write && !(page->prot & PROT_WRITE))
			return -EPERM;
		if (flat_signal(&l->flat, page))
			return -EFAULT;
		if (op->write && !has_handler(op->proc)) {
			if (page->wp)
				return -EFAULT;
			broken |= any_protected(mm, op);
		}
		/* Of a range that is cut to its VMA: but where that ends is not known. */
		return op->kind == OP_DEV_SERVE && broken ? NOT_PREDICTED : 0;
	case OP_DEV_READ:
		if (broken)
			return -EFAULT;
		/* One form of it asks the handler. */
		return op->variant && any_on_demand(mm, op) && !read_bad ? NOT_PREDICTED
									 : predict_dev_read(mm, op);
	case OP_DEV_WRITE:
		if (read_bad)
			return -EFAULT;
		/* -EPERM, but -EFAULT at a page of the device's own that it may only read. */
		return write_bad || broken || page->wp ? SOME_ERROR : NOT_PREDICTED;
	case OP_EXCLUSIVE:
		/* Not for pages of files, if they come before what is not mapped. */
		if (any_shared(mm, op))
			return NOT_PREDICTED;
		if (write_bad || broken)
			return -EFAULT;
		return any_protected(mm, op) < 0 || any_on_demand(mm, op) ? NOT_PREDICTED
		       : any_protected(mm, op)				  ? -EFAULT
									  : 0;
	case OP_PIN:
		/* The fast way looks at entries alone, and whatever is present may be read. */
		if (op->write && !(op->variant & 1) && page->mapped && page->prot &&
		    !(page->prot & PROT_READ))
			return NOT_PREDICTED;
		if (!page->mapped || !(page->prot & (op->variant & 1 ? PROT_WRITE : PROT_READ)))
			return -EFAULT;
		if (flat_is_frame(page) &&
		    (page->special == FLAT_FRAMES || !page->cow || !(op->variant & 1)))
			return SOME_ERROR;
		if (flat_signal(&l->flat, page) ||
		    (op->variant & 1 && page->wp && !has_handler(op->proc)))
			return -EFAULT;
		return op->variant & 2 ? NOT_PREDICTED : 0;
	case OP_TO_DEV:
		if (!read_bad && !special)
			return broken ? SOME_ERROR : NOT_PREDICTED;
		return -EINVAL;
	case OP_FAIL_ALLOC:
		return read_bad || special ? SOME_ERROR : NOT_PREDICTED;
	case OP_TO_SYS:
		return read_bad || special ? -EINVAL : 0;
	case OP_ON_FAULT:
		/* It asks no handler. */
		if (any_on_demand(mm, op))
			return NOT_PREDICTED;
		if (!read_bad && !op->write && unlimited)
			return broken || special ? SOME_ERROR : 0;
		return NOT_PREDICTED;
	case OP_MPROTECT:
		return hole ? -ENOMEM : 0;
	case OP_MSYNC:
		if (flat_tells_loss(&l->flat, mm, op->page, op->npages))
			return -EIO;
		return hole ? -ENOMEM : 0;
	case OP_DONTNEED:
	case OP_PAGEOUT:
		return flat_advise_some(mm, op->page, op->npages, FLAT_FRAMES, &done);
	case OP_GUARD:
		return flat_advise_some(mm, op->page, op->npages, FLAT_NOT_SPECIAL, &done);
	case OP_ADVISE_HUGE:
		if (op->variant == 2)
			return NOT_PREDICTED;
		return hole ? -ENOMEM : 0;
	case OP_FREE:
		return flat_free_answer(mm, op->page, op->npages);
	case OP_ADVISE_FORK:
		return flat_advise_answer(mm, op->page, op->npages, fork_advice[op->variant]);
	case OP_REMOVE:
		return flat_remove(NULL, &l->flat.mm[op->proc], op->page, op->npages);
	case OP_POPULATE:
		return flat_populate(&l->flat, mm, op->page, op->npages, op->write,
				     has_handler(op->proc));
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
			lockstep_broken(l, "%s: page %llu offset %#llx: read %#x, should be %#x",
					uhmm_strategy_name(m->strategy),
					(unsigned long long)((at + i) / PAGE),
					(unsigned long long)((at + i) % PAGE), l->buf[i], right);
	}
}

/* (q) A page of another device is an error if it is part of a huge page, and only then. */
static bool may_be_foreign_huge(const struct lockstep *l, unsigned int page)
{
	return l->config.huge && page >= FLAT_HUGE && page < FLAT_HUGE + 512;
}

static void check_snapshot(struct lockstep *l, const struct machine *m, const struct op *op)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];

	for (unsigned int i = 0; i < op->npages; i++) {
		const struct flat_page *p = &mm->page[op->page + i];
		bool error = !p->mapped || !(p->prot & PROT_READ) || p->special == FLAT_FRAMES ||
			     (flat_is_frame(p) && !p->gone);

		if (l->buf[i] == UHMM_PROT_ERROR && may_be_foreign_huge(l, op->page + i))
			continue;
		if ((l->buf[i] == UHMM_PROT_ERROR) != error ||
		    (!error && l->buf[i] & UHMM_PROT_WRITE && (!(p->prot & PROT_WRITE) || p->wp)))
			lockstep_broken(l, "%s: snapshot of page %u: %#x",
					uhmm_strategy_name(m->strategy), op->page + i, l->buf[i]);
	}
}

void model_check(struct lockstep *l, const struct machine *m, const struct op *op,
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
	else if ((op->kind == OP_FAIL_ALLOC && !op->write) || op->kind == OP_DEV_READ ||
		 op->kind == OP_TO_DEV || op->kind == OP_ON_FAULT || op->kind == OP_EXCLUSIVE)
		check_bytes(l, m, op, at, op->npages * PAGE);
	else if (op->kind == OP_SNAPSHOT)
		check_snapshot(l, m, op);
}

static void write_model(struct lockstep *l, struct flat_mm *mm, uint64_t at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		flat_set_byte(&l->flat, mm, at + i, l->buf[i]);
}

/*
 * Stacks grow to every page that was touched, also to one that may not be accessed then. Hints are gone
 * from those that were, and nothing is missing there: a page of which no byte was had stays as it is,
 * wherever in it the access began.
 */
static void touch_model(struct lockstep *l, struct flat_mm *mm, const struct op *op,
			const struct result *r)
{
	uint64_t first = op->page * PAGE + op->off, done = first + r->out[0], end = done + !!r->ret;

	for (unsigned int page = op->page; page * PAGE < end; page++) {
		if (!mm->page[page].mapped && flat_stack_above(mm, page) >= 0)
			flat_grow_stack(&l->flat, mm, page);
		if (done == first || page * PAGE >= done)
			continue;
		mm->page[page].hint = false;
		flat_filled(mm, page, 1);
	}
}

/* Protection ends where it was in the way of a write, up to @npages. */
static void resolve_model(struct flat_mm *mm, const struct op *op, unsigned int npages)
{
	if (has_handler(op->proc))
		flat_protect(mm, op->page, npages, false);
}

/* A driver's pages that were faulted for writing. */
static void copy_model(struct lockstep *l, struct flat_mm *mm, const struct op *op,
		       unsigned int npages)
{
	for (unsigned int i = op->page; i < op->page + npages; i++)
		flat_copy(&l->flat, mm, i);
}

static void missing_model(struct lockstep *l, struct flat_mm *mm, const struct op *op)
{
	if (op->variant < MISSING_FILL)
		flat_watch(&l->flat, mm, op->page, op->npages);
	else if (op->variant == MISSING_UNREGISTER)
		flat_uffd(mm, op->page, op->npages, false);
	for (unsigned int i = 0; i < op->npages && op->variant == MISSING_FILL; i++) {
		if (!is_to_fill(&mm->page[op->page + i]))
			continue;
		flat_filled(mm, op->page + i, 1);
		for (uint64_t at = i * PAGE; at < (i + 1) * PAGE; at++)
			flat_set_byte(&l->flat, mm, op->page * PAGE + at, l->buf[at]);
	}
}

/* A device that wants to write asks the handler for what it comes to. */
static void device_write_model(struct flat_mm *mm, const struct op *op)
{
	unsigned int first, end;

	if (!op->write || !has_handler(op->proc))
		return;
	wanted_range(op, &first, &end);
	for (unsigned int i = first; i < end; i++) {
		mm->page[i].wp_unsure |= mm->page[i].wp;
		mm->page[i].wp = false;
	}
}

/* The pages that were populated before the first that could not be. */
static unsigned int populated(const struct lockstep *l, const struct op *op)
{
	unsigned int n = 0;

	while (n < op->npages && !flat_populate(&l->flat, &l->flat.mm[op->proc], op->page + n, 1,
						op->write, has_handler(op->proc)))
		n++;
	return n;
}

static void move_model(struct lockstep *l, struct flat_mm *mm, const struct op *op)
{
	if (op->variant == 3)
		flat_munmap(mm, op->page + (op->npages + 1) / 2, op->npages / 2);
	else
		flat_move(&l->flat, mm, op->page, op->npages, op->page2,
			  op->variant == 1 ? op->npages2 : op->npages, op->variant == 2);
}

void model_apply(struct lockstep *l, const struct op *op, unsigned int child,
		 const struct result *r)
{
	struct flat_mm *mm = &l->flat.mm[op->proc];
	uint64_t at = op->page * PAGE;

	if (op->kind == OP_CPU_READ || op->kind == OP_CPU_WRITE)
		touch_model(l, mm, op, r);
	switch (op->kind) {
	case OP_CPU_WRITE:
		write_model(l, mm, at + op->off, r->out[0]);
		if (r->out[0])
			resolve_model(mm, op, (unsigned int)((op->off + r->out[0] - 1) / PAGE + 1));
		break;
	case OP_PIN:
		flat_filled(mm, op->page, (unsigned int)r->out[0]);
		if (op->variant & 1)
			resolve_model(mm, op, (unsigned int)r->out[0]);
		/* For long, if only to be read, a copy is pinned, too. */
		if (op->variant)
			copy_model(l, mm, op, (unsigned int)r->out[0]);
		break;
	case OP_POPULATE:
		flat_filled(mm, op->page, populated(l, op));
		if (op->write) {
			copy_model(l, mm, op, populated(l, op));
			resolve_model(mm, op, populated(l, op));
		}
		break;
	case OP_UFFD_WP:
		if (op->variant != WP_RESOLVE)
			flat_uffd(mm, op->page, op->npages, op->variant != WP_UNREGISTER);
		flat_protect(mm, op->page, op->npages, op->variant < WP_RESOLVE);
		if (op->variant < WP_RESOLVE)
			write_model(l, mm, at, op->npages * PAGE);
		break;
	case OP_UFFD_MISSING:
		missing_model(l, mm, op);
		break;
	case OP_BRK:
		flat_brk(&l->flat, mm, heap_end(op));
		break;
	case OP_DEV_SERVE:
	case OP_ON_FAULT:
		device_write_model(mm, op);
		break;
	case OP_DEV_ACCESS:
		device_write_model(mm, op);
		if (op->write && !r->ret)
			write_model(l, mm, (at + op->off) & ~7UL, 8);
		break;
	case OP_DEV_WRITE:
		if (!r->ret)
			write_model(l, mm, at, PAGE);
		break;
	case OP_EXCLUSIVE:
		flat_atomic(mm, op->page, op->npages, op->dev);
		break;
	case OP_MMAP:
		flat_mmap(&l->flat, mm, op->page, op->npages, op->prot,
			  op->obj == FLAT_SHARED_ANON ? l->new_object : op->obj, file_index(op));
		for (unsigned int i = op->page; i < op->page + op->npages; i++)
			mm->page[i].growsdown = is_stack(op);
		break;
	case OP_LARGE:
		flat_mmap(&l->flat, mm, op->page, op->npages, RW, FLAT_NO_OBJ, 0);
		write_model(l, mm, at, op->npages * PAGE);
		break;
	case OP_MMAP_DRIVER:
		flat_mmap_driver(&l->flat, mm, op->page, op->npages, op->prot, driver_index(op),
				 driver_special(op), driver_private(op));
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
	case OP_FREE:
		flat_free(&l->flat, mm, op->page, op->npages);
		if (op_frees_and_writes(l, op))
			write_model(l, mm, at, op->npages * PAGE);
		break;
	case OP_GUARD:
		flat_guard(&l->flat, mm, op->page, op->npages, !op->write);
		break;
	case OP_NUMA:
		for (unsigned int i = op->page; i < op->page + op->npages; i++)
			mm->page[i].hint = true;
		break;
	case OP_POISON:
		flat_poison(mm, op->page);
		break;
	case OP_POISON_FILE:
		flat_poison_object(&l->flat, mm, op->page, !is_regular(l, mm->page[op->page].obj),
				   breaks_dirty(l, op));
		break;
	case OP_TRUNCATE:
		flat_truncate(&l->flat, op->obj, truncated_size(l, op));
		break;
	case OP_MSYNC:
		flat_msync(&l->flat, mm, op->page, op->npages);
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
