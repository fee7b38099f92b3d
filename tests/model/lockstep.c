// SPDX-License-Identifier: LGPL-2.1-or-later
/* Three machines and the flat model in step: see lockstep.h. */
#define _GNU_SOURCE
#include <stdarg.h>

#include "model/world.h"

void lockstep_broken(struct lockstep *l, const char *fmt, ...)
{
	char text[8192];
	size_t n = 0;
	va_list ap;

	if (l->ended) {
		n = (size_t)snprintf(text, sizeof(text), "after the list, ");
		op_print(&l->op, text + n, sizeof(text) - n);
		n = strlen(text);
		n += (size_t)snprintf(text + n, sizeof(text) - n, ": ");
	}
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	va_end(ap);
	l->complain(text);
	abort();
}

/* ---- comparing machines ---- */

static void emit(void *data, const char *line)
{
	struct lockstep *l = data;
	size_t n = strlen(l->text);

	snprintf(l->text + n, sizeof(l->text) - n, "\n  %s", line);
}

static uint64_t count_of(const struct lockstep *l, unsigned int i, enum uhmm_counter c)
{
	struct uhmm_counters all;

	uhmm_counters_read(l->machine[i].m, &all);
	return all.v[c];
}

/*
 * Whether two machines took the same course: then state and answers must be the same, too. Who went
 * another way once is compared by contents from then on.
 * With limited memory, or swap, they need not. Nor where a device faulted more often: migrate-fault-migrate
 * unmaps a shared page everywhere before it finds that it must be copied, and the mirrors of other
 * processes forget it; the fault that follows moves pages that are where they are in the other machines.
 * Nor where other pages were mapped around faults on files: which those are depends on who read them from
 * where there is no disk, and whether the fault could drop its lock for that.
 */
static bool same_course(struct lockstep *l, unsigned int i, unsigned int k)
{
	if (l->config.device_bytes || l->config.swap_bytes ||
	    count_of(l, i, UHMM_CNT_DEVICE_FAULTS) != count_of(l, k, UHMM_CNT_DEVICE_FAULTS) ||
	    count_of(l, i, UHMM_CNT_FAULT_AROUND) != count_of(l, k, UHMM_CNT_FAULT_AROUND))
		l->apart[i][k] = true;
	return !l->apart[i][k];
}

static int64_t differences(struct lockstep *l, unsigned int i, unsigned int k,
			   enum uhmm_compare what)
{
	l->text[0] = '\0';
	return uhmm_machine_compare(l->machine[i].m, l->machine[k].m, what, emit, l);
}

/* Whether a device wanted all of the huge page in the middle. */
static bool wants_huge(const struct op *op)
{
	if (op->kind == OP_DEV_SERVE)
		return op->page == FLAT_HUGE && op->npages >= 512;
	return op->kind == OP_DEV_ACCESS && op->granularity == 512 * PAGE &&
	       op->page >= FLAT_HUGE && op->page < FLAT_HUGE + 512;
}

/* Whether a device was served that wanted such a page, among others. */
static bool wants(const struct lockstep *l, const struct op *op,
		  bool (*such)(const struct lockstep *l, const struct flat_page *p))
{
	unsigned int first, end;

	if (op->kind != OP_DEV_ACCESS && op->kind != OP_DEV_SERVE)
		return false;
	wanted_range(op, &first, &end);
	for (unsigned int i = first; i < end; i++) {
		const struct flat_page *p = &l->flat.mm[op->proc].page[i];

		if (p->mapped && such(l, p))
			return true;
	}
	return false;
}

static bool is_broken(const struct lockstep *l, const struct flat_page *p)
{
	return flat_signal(&l->flat, p);
}

static bool is_protected(const struct lockstep *l, const struct flat_page *p)
{
	(void)l;
	return p->wp;
}

static bool is_on_demand(const struct lockstep *l, const struct flat_page *p)
{
	(void)l;
	return p->missing == FLAT_ON_DEMAND;
}

static bool is_missing(const struct lockstep *l, const struct flat_page *p)
{
	(void)l;
	return p->missing == FLAT_MISSING;
}

static bool is_hinted(const struct lockstep *l, const struct flat_page *p)
{
	(void)l;
	return p->hint;
}

static bool is_atomic(const struct lockstep *l, const struct flat_page *p)
{
	(void)l;
	return p->atomic;
}

/*
 * How far states must agree where they may differ by right: then the courses do from now on.
 *
 * A device that wants, among others, a page which cannot be had, or is to write to one that is protected, gets
 * nothing. But who faults first has faulted up to that page then, copied pages that were shared, and mapped
 * those of files around. Of what is missing a handler fills what is come to.
 *
 * An entry with a NUMA hint is not writable. A fault makes it so again before it is collected; who collects
 * first leaves the device with an entry that it may only read.
 *
 * A split maps what a device has for its atomics, of the folio, again: read-only. A fault makes it writable
 * before that; who collects first, for a device that is only to read, leaves it as the split did.
 *
 * Where a fault may map a huge page it matters who faulted: fault-then-migrate does where the others put
 * a new page. So pages that only one of two machines has, and that are full of zeroes, are no
 * difference.
 *
 * Where none may, a huge page of nothing that a device wants at once is collected as one hole, and one
 * device folio takes its place, whatever the setting of huge pages; fault-then-migrate maps the zero page
 * 512 times before, and moves 512 pages. Then the folios' orders may differ, and nothing else.
 *
 * Collecting splits large folios that PTEs map. Where a page of one must be copied before it is written,
 * who faults first collects the copy. So among these orders may differ at any time, and nothing else.
 */
static enum uhmm_compare differs_by_right(const struct lockstep *l)
{
	if (wants(l, &l->op, is_broken) || wants(l, &l->op, is_hinted) ||
	    wants(l, &l->op, is_on_demand) || (l->op.write && wants(l, &l->op, is_protected)))
		return UHMM_COMPARE_CONTENTS;
	if ((l->config.large || l->config.huge) && !l->op.write && wants(l, &l->op, is_atomic))
		return UHMM_COMPARE_CONTENTS;
	if (l->config.huge)
		return UHMM_COMPARE_STATE_BUT_UNTOUCHED;
	return wants_huge(&l->op) ? UHMM_COMPARE_STATE_BUT_HOLES : UHMM_COMPARE_STATE;
}

/* How far states agree whose courses go on together. */
static enum uhmm_compare must_agree(const struct lockstep *l)
{
	return l->config.large && !wants_huge(&l->op) ? UHMM_COMPARE_STATE_BUT_HOLES
						      : UHMM_COMPARE_STATE;
}

static int64_t compare_two(struct lockstep *l, unsigned int i, unsigned int k)
{
	enum uhmm_compare what;
	int64_t ret;

	if (!same_course(l, i, k))
		return differences(l, i, k, UHMM_COMPARE_CONTENTS);
	ret = differences(l, i, k, must_agree(l));
	what = differs_by_right(l);
	if (ret <= 0 || what == UHMM_COMPARE_STATE)
		return ret;
	l->apart[i][k] = true;
	return differences(l, i, k, what);
}

/* Whether two are compared already, by way of the first machine. */
static bool compared_by_first(const struct lockstep *l, unsigned int i, unsigned int k)
{
	return i && (l->apart[i][k] || (!l->apart[0][i] && !l->apart[0][k]));
}

static void compare(struct lockstep *l)
{
	for (unsigned int i = 0; i < NR_MACHINES; i++) {
		int ret = uhmm_machine_verify(l->machine[i].m);

		if (ret)
			lockstep_broken(l, "%s: verify: %d",
					uhmm_strategy_name(l->machine[i].strategy), ret);
	}
	for (unsigned int i = 0; i < NR_MACHINES; i++) {
		for (unsigned int k = i + 1; k < NR_MACHINES; k++) {
			int64_t ret = compared_by_first(l, i, k) ? 0 : compare_two(l, i, k);

			if (ret)
				lockstep_broken(l, "%s | %s: %lld differences%s",
						uhmm_strategy_name(l->machine[i].strategy),
						uhmm_strategy_name(l->machine[k].strategy),
						(long long)ret, l->text);
		}
	}
}

static void compare_results(struct lockstep *l, const struct op *op,
			    const struct result r[NR_MACHINES])
{
	for (unsigned int i = 0; i < NR_MACHINES; i++) {
		for (unsigned int k = i + 1; k < NR_MACHINES; k++) {
			if ((!same_course(l, i, k) && op->kind != OP_MREMAP) ||
			    !memcmp(&r[i], &r[k], sizeof(r[i])))
				continue;
			lockstep_broken(l, "%s: %d (%#llx, %#llx), %s: %d (%#llx, %#llx)",
					uhmm_strategy_name(l->machine[i].strategy), r[i].ret,
					(unsigned long long)r[i].out[0],
					(unsigned long long)r[i].out[1],
					uhmm_strategy_name(l->machine[k].strategy), r[k].ret,
					(unsigned long long)r[k].out[0],
					(unsigned long long)r[k].out[1]);
		}
	}
}

/* ---- a run ---- */

/*
 * Whether the process may read and write all pages, and they are its own: one that is written to then, at
 * the latest, is no other's. A pinned one may be where it cannot be split, or be taken from the device.
 */
static bool is_own(const struct lockstep *l, const struct op *op)
{
	const struct flat_mm *mm = &l->flat.mm[op->proc];

	if (op->kind == OP_POISON && l->machine[0].nr_pinned)
		return false;
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		const struct flat_page *p = &mm->page[i];

		if (!p->mapped || (p->prot & RW) != RW || flat_is_shared(p) || p->special ||
		    flat_signal(&l->flat, p) || p->wp || p->missing ||
		    (p->obj && op->kind != OP_POISON))
			return false;
	}
	return true;
}

/*
 * Whether a page that processes share can break: one that nobody has pinned, which would be an error, and
 * that the end of the file does not cut in two, since it is written back.
 */
static bool can_break(const struct lockstep *l, const struct op *op)
{
	const struct flat_page *p = &l->flat.mm[op->proc].page[op->page];
	int prot = breaks_dirty(l, op) ? RW : PROT_READ;

	return !l->machine[0].nr_pinned && p->mapped && flat_is_shared(p) && !p->special &&
	       (p->prot & prot) == prot && !flat_signal(&l->flat, p) &&
	       (p->index + 1) * PAGE <= l->flat.size[p->obj];
}

/* Of shared memory a child gets entries only where they may be guard regions. */
static bool may_get_poison(const struct flat_mm *mm)
{
	for (unsigned int i = 0; i < FLAT_ALL; i++) {
		if (mm->page[i].mapped && mm->page[i].poisoned && flat_is_shared(&mm->page[i]))
			return true;
	}
	return false;
}

/* Whether write protection can be set, or ended, for all of the pages. */
static bool is_registered(const struct lockstep *l, const struct op *op)
{
	if (op->variant < WP_RESOLVE)
		return is_own(l, op);
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		const struct flat_page *p = &l->flat.mm[op->proc].page[i];

		if (!p->mapped || p->obj || (op->variant == WP_RESOLVE && !p->uffd))
			return false;
	}
	return true;
}

/* Whether missing pages can be watched for, filled, or not watched for any more; a stack's are not. */
static bool can_watch(const struct lockstep *l, const struct op *op)
{
	if (op->variant < MISSING_FILL && !is_own(l, op))
		return false;
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		const struct flat_page *p = &l->flat.mm[op->proc].page[i];

		if (op->variant != MISSING_FILL && (!p->mapped || p->obj || p->growsdown))
			return false;
	}
	return true;
}

/*
 * A stack would come near others, which it grows towards. Of several mappings the first ones move before
 * one is met that cannot be moved with others, or by these flags: then it is an error, and is done in part.
 */
static bool can_move(const struct lockstep *l, const struct op *op)
{
	for (unsigned int i = op->page; i < op->page + op->npages; i++) {
		const struct flat_page *p = &l->flat.mm[op->proc].page[i];

		if (p->growsdown || (op->npages > 1 && (p->uffd || p->watched || p->special)))
			return false;
	}
	return true;
}

/*
 * A driver's page that is mapped private is copied by who faults first for a device that is to write, even
 * if nothing comes of that; by who is refused a migration at once it is not.
 */
static bool may_be_copied(const struct lockstep *l, const struct op *op)
{
	unsigned int first, end;

	if (op->kind != OP_EXCLUSIVE && op->kind != OP_DEV_WRITE &&
	    (!op->write ||
	     (op->kind != OP_DEV_ACCESS && op->kind != OP_DEV_SERVE && op->kind != OP_ON_FAULT)))
		return false;
	wanted_range(op, &first, &end);
	for (unsigned int i = first; i < end; i++) {
		const struct flat_page *p = &l->flat.mm[op->proc].page[i];

		if (p->mapped && p->cow && !p->copied)
			return true;
	}
	return false;
}

/* Whether the list still means something here; for a fork, where the child goes. */
static bool applicable(const struct lockstep *l, const struct op *op, unsigned int *child)
{
	unsigned int alive = 0;

	if (!l->flat.mm[op->proc].alive)
		return false;
	if (l->config.device_bytes ? op->kind == OP_DEV_SERVE : op->kind == OP_EVICT)
		return false;
	for (unsigned int i = 0; i < FLAT_PROCS; i++) {
		alive += l->flat.mm[i].alive;
		if (!l->flat.mm[i].alive)
			*child = i;
	}
	if (op->kind == OP_PIN && l->machine[0].nr_pinned + MAX_PIN > MAX_PINNED)
		return false;
	/* It asks no handler, and whether there is protection left, or a page at all, is not known. */
	if (op->kind == OP_DEV_WRITE &&
	    (l->flat.mm[op->proc].page[op->page].wp_unsure ||
	     l->flat.mm[op->proc].page[op->page].missing == FLAT_ON_DEMAND))
		return false;
	/* There may be no RAM in one piece. */
	if (op->kind == OP_LARGE && l->config.ram_bytes)
		return false;
	if (op->kind == OP_MREMAP && !can_move(l, op))
		return false;
	if (may_be_copied(l, op))
		return false;
	/* What a migration refuses at once may be mapped for the device by who faults first. */
	if (op->kind == OP_DEV_SERVE && flat_any_special(&l->flat.mm[op->proc], op->page, 1))
		return false;
	/* A migration leaves a hole that a userfaultfd watches, which is no error but of a fault. */
	if (op->kind == OP_DEV_SERVE && wants(l, op, is_missing))
		return false;
	/* Neither files nor shared memory are long enough to grow. */
	if (op->kind == OP_MREMAP && op->variant == 1 && op->npages2 > op->npages &&
	    l->flat.mm[op->proc].page[op->page].obj)
		return false;
	if (op->kind == OP_MMAP && op->obj == FLAT_SHARED_ANON &&
	    (l->config.ram_bytes || !flat_free_object(&l->flat)))
		return false;
	if (op->kind == OP_POISON || op_frees_and_writes(l, op))
		return is_own(l, op);
	if (op->kind == OP_UFFD_WP)
		return is_registered(l, op);
	if (op->kind == OP_UFFD_MISSING)
		return can_watch(l, op);
	if (op->kind == OP_POISON_FILE)
		return can_break(l, op);
	if (op->kind == OP_EXIT)
		return alive > 1;
	/* It ends with the mapping that is told of a loss, and where that ends is not for the model to know. */
	if (op->kind == OP_MSYNC && op->npages > 1 &&
	    flat_tells_loss(&l->flat, &l->flat.mm[op->proc], op->page, op->npages))
		return false;
	if (op->kind == OP_FORK && may_get_poison(&l->flat.mm[op->proc]))
		return false;
	return op->kind != OP_FORK || alive < FLAT_PROCS;
}

static void fill(uint8_t *buf, size_t n, uint64_t seed)
{
	struct rng rng = { seed };

	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = rng_next(&rng);

		memcpy(buf + i, &v, n - i < 8 ? n - i : 8);
	}
}

static void step(struct lockstep *l, const struct op *op)
{
	struct result results[NR_MACHINES] = { 0 }, want = { 0 };
	unsigned int child = 0;
	int right;

	l->op = *op;
	if (!applicable(l, op, &child))
		return;
	l->new_object = flat_free_object(&l->flat);
	right = model_predict(l, op, &want);
	for (int i = 0; i < NR_MACHINES; i++) {
		struct machine *m = &l->machine[i];
		struct result r = { 0 };

		if (op_writes(l, op))
			fill(l->buf, op->kind == OP_CPU_WRITE ? op->len : op->npages * PAGE,
			     op->seed);
		uhmm_task_enter(m->proc[op->proc].task[op->cpu]);
		machine_execute(l, m, op, child, &r);
		uhmm_task_leave();
		if (right == SOME_ERROR ? r.ret >= 0 : right != NOT_PREDICTED && r.ret != right)
			lockstep_broken(l, "%s: %d, should be %d", uhmm_strategy_name(m->strategy),
					r.ret, right);
		if ((op->kind == OP_CPU_READ || op->kind == OP_CPU_WRITE || op->kind == OP_BRK) &&
		    memcmp(r.out, want.out, sizeof(r.out)))
			lockstep_broken(l, "%s: %#llx, %#llx, should be %#llx, %#llx",
					uhmm_strategy_name(m->strategy),
					(unsigned long long)r.out[0], (unsigned long long)r.out[1],
					(unsigned long long)want.out[0],
					(unsigned long long)want.out[1]);
		model_check(l, m, op, &r);
		results[i] = r;
	}
	compare_results(l, op, results);
	model_apply(l, op, child, &results[0]);
}

/* Every byte that can be read. Brings everything home. */
static void read_all(struct lockstep *l)
{
	l->ended = true;
	for (unsigned int proc = 0; proc < FLAT_PROCS; proc++) {
		for (unsigned int page = 0; l->flat.mm[proc].alive && page < FLAT_ALL; page++) {
			struct op op = { .kind = OP_CPU_READ,
					 .proc = proc,
					 .cpu = page & 1,
					 .page = page,
					 .npages = 1,
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
