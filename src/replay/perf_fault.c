// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * perf_fault.c - faults in the text of perf script.
 *
 * One fault can show three times: as tracepoint exceptions:page_fault_{user,kernel} at the entry of
 * the handler, with the processor's error code; as a page-faults sample once the handler has
 * found the address to be worth its while, 0.3 to 1 us later; and as a major-faults sample when it
 * has waited for I/O. The first two make one FAULT event:
 *
 *	tracepoint, sample	FAULT with access and presence
 *	sample alone		FAULT, access unknown (plain captures)
 *	user tracepoint alone	FAULT (no samples recorded, or the sample was lost)
 *	kernel tracepoint alone	nothing: an atomic copy with faults disabled, which fails and is
 *				tried again in another way - unless no samples are recorded
 *
 * So a tracepoint waits for its task's next line. The third becomes FAULT_MAJOR: the FAULT cannot
 * wait for I/O without falling out of order with what other tasks do.
 */
#include <stdlib.h>

#include "replay/perf.h"
#include "replay/trace_parse.h"

/* The processor's error code, x86. */
#define X86_PF_PROT 1u
#define X86_PF_WRITE 2u
#define X86_PF_INSTR 0x10u

/* Tracepoints without samples, before it is taken that there are none. */
#define ALONE_AFTER 8

struct fault_info {
	uint64_t t_ns, addr, ip;
	int32_t cpu;
	uint8_t major; /* enum uhmm_trace_bool */
};

static void emit_fault(struct uhmm_trace_reader *r, struct trace_task *task,
		       const struct trace_fault *tp, const struct fault_info *f)
{
	struct trace_mm *mm = trace_mm_get(r, task);
	struct uhmm_trace_event *ev;

	if (!mm)
		return;
	if (unlikely(!list_empty(&mm->zaps)) && !(tp && (tp->code & X86_PF_PROT)))
		uhmm__trace_zaps_seen(r, mm, task, f->addr, f->addr + 1, true);
	ev = uhmm__trace_emit(r, UHMM_TRACE_FAULT, task);
	ev->t_ns = f->t_ns;
	ev->cpu = f->cpu;
	ev->fault.addr = f->addr;
	ev->fault.ip = f->ip;
	ev->fault.major = f->major;
	if (tp) {
		ev->fault.error_code = tp->code;
		ev->fault.mode = tp->kernel ? UHMM_TRACE_MODE_KERNEL : UHMM_TRACE_MODE_USER;
		ev->fault.present = tp->code & X86_PF_PROT ? UHMM_TRACE_YES : UHMM_TRACE_NO;
		ev->fault.access = tp->code & X86_PF_INSTR   ? UHMM_TRACE_ACCESS_EXEC
				   : tp->code & X86_PF_WRITE ? UHMM_TRACE_ACCESS_WRITE
							     : UHMM_TRACE_ACCESS_READ;
	} else {
		if (f->ip)
			ev->fault.mode = f->ip >> 63 ? UHMM_TRACE_MODE_KERNEL
						     : UHMM_TRACE_MODE_USER;
		/* An instruction that faults on its own address was being fetched. */
		if (f->ip && f->ip == f->addr)
			ev->fault.access = UHMM_TRACE_ACCESS_EXEC;
	}
	if (ev->fault.mode == UHMM_TRACE_MODE_KERNEL)
		r->caps.has_kernel_faults = true;
}

static void emit_alone(struct uhmm_trace_reader *r, struct trace_task *task,
		       const struct trace_fault *tp)
{
	/* Now, not then: other tasks' events went out meanwhile, and time does not go back. */
	struct fault_info f = { r->t_ns, tp->addr, tp->ip, tp->cpu, UHMM_TRACE_UNKNOWN };

	if (tp->has_addr)
		emit_fault(r, task, tp, &f);
	else
		r->stats.no_address++;
}

void uhmm__perf_settle_slow(struct uhmm_trace_reader *r, struct trace_task *task)
{
	struct perf_state *ps = perf_state(r);
	struct trace_fault tp = task->fault;

	task->fault.pending = false;
	if (!ps->seen_sample) {
		if (++ps->nr_alone >= ALONE_AFTER)
			ps->alone = true;
		emit_alone(r, task, &tp);
	} else if (tp.kernel) {
		r->stats.dropped_kernel++;
	} else {
		r->stats.unpaired_faults++;
		emit_alone(r, task, &tp);
	}
}

/*
 * Behind the fields of a tracepoint `-F +addr` prints the address of its sample, "               0",
 * which means nothing here. Is that, or nothing, what follows?
 */
static bool own_address(char *p)
{
	char *word = skip_blanks(p);
	uint64_t addr;

	if (!*word)
		return true;
	p = word > p ? scan_hex(word, &addr) : NULL;
	return p && (!*p || is_blank(*p));
}

/* "address=0x7fd9e4498000 ip=0x55a46a28a20e error_code=0x4", kernel addresses as symbols */
static int parse_tracepoint(struct uhmm_trace_reader *r, struct trace_fault *tp, char *p)
{
	uint64_t code;
	char *q;

	p = scan_text(skip_blanks(p), "address=");
	if (!p)
		return uhmm__trace_bad(r, "a tracepoint without its fields: print them with 'perf "
					  "script -F +trace'");
	q = scan_text(p, "0x");
	q = q ? scan_hex(q, &tp->addr) : NULL;
	tp->has_addr = q && (is_blank(*q) || !*q);
	p = tp->has_addr ? q : strstr(p, " ip=");
	if (!p)
		goto bad;
	p = scan_text(skip_blanks(p), "ip=");
	if (!p)
		goto bad;
	q = scan_text(p, "0x");
	q = q ? scan_hex(q, &tp->ip) : NULL;
	if (!q || !is_blank(*q)) { /* a symbol, which may hold blanks: " [module]" */
		tp->ip = 0;
		q = strstr(p, " error_code=");
		if (!q)
			goto bad;
	}
	p = scan_text(skip_blanks(q), "error_code=");
	p = p ? scan_number(p, &code) : NULL;
	if (!p || !own_address(p) || code > UINT32_MAX)
		goto bad;
	tp->code = (uint32_t)code;
	return 0;
bad:
	return uhmm__trace_bad(r, "fault tracepoint: expected 'address=0x... ip=... "
				  "error_code=0x...'");
}

int uhmm__perf_tracepoint(struct uhmm_trace_reader *r, const struct perf_line *l, bool kernel,
			  char *p)
{
	struct perf_state *ps = perf_state(r);
	struct trace_fault tp = { .kernel = kernel, .cpu = l->cpu };
	struct trace_task *task;
	int err = parse_tracepoint(r, &tp, p);

	if (unlikely(err))
		return err;
	r->caps.has_rw = true;
	task = uhmm__perf_task(r, l, tp.ip);
	if (unlikely(!task))
		return 0;
	perf_settle(r, task);
	if (unlikely(ps->alone)) {
		emit_alone(r, task, &tp);
	} else {
		task->fault = tp;
		task->fault.pending = true;
	}
	return 0;
}

/* A sample with its address (NULL: none) and instruction, on its task. */
static void take_sample(struct uhmm_trace_reader *r, struct trace_task *task, struct fault_info *f,
			const uint64_t *addr)
{
	struct trace_fault tp = task->fault;
	bool first = f->major == UHMM_TRACE_UNKNOWN; /* page-faults comes before the other two */
	bool pairs;

	if (!first && addr && task->sampled_addr == *addr) {
		task->sampled_addr = ~0ULL;
		if (f->major == UHMM_TRACE_YES && trace_mm_get(r, task)) {
			struct uhmm_trace_event *ev;

			ev = uhmm__trace_emit(r, UHMM_TRACE_FAULT_MAJOR, task);
			ev->t_ns = f->t_ns;
			ev->cpu = f->cpu;
			ev->fault.addr = *addr;
			ev->fault.ip = f->ip;
			ev->fault.major = UHMM_TRACE_YES;
			r->caps.has_major = true;
		}
		return;
	}
	pairs = tp.pending && (!addr || !tp.has_addr || tp.addr == *addr);
	if (pairs)
		task->fault.pending = false;
	else
		perf_settle(r, task);
	if (!addr && !(pairs && tp.has_addr)) {
		r->stats.no_address++;
		return;
	}
	f->addr = addr ? *addr : tp.addr;
	if (pairs && !f->ip)
		f->ip = tp.ip;
	if (!pairs && r->caps.has_rw)
		r->stats.unpaired_faults++;
	task->sampled_addr = first ? f->addr : ~0ULL;
	emit_fault(r, task, pairs ? &tp : NULL, f);
}

/*
 * The instruction's address behind that of the data, and behind its symbol if there is one. perf
 * prints addresses 16 wide behind a blank, which a symbol hardly ever is. @ip stays if there is none.
 */
static char *second_address(char *p, uint64_t *ip)
{
	bool at_once = true;

	for (;;) {
		uint64_t v;
		char *word = skip_blanks(p), *end = scan_hex(word, &v);

		if (!*word)
			return NULL;
		if (end && (!*end || is_blank(*end)) &&
		    (end - p >= 17 || (at_once && end - word >= 6))) {
			*ip = v;
			return end;
		}
		at_once = false;
		p = skip_word(word);
	}
}

/*
 * Which of the two is a lone number at @end, with @p behind the event's colon? perf prints the data
 * address as " %16lx" and the instruction's as "  %16lx". Where blanks were squeezed, a symbol
 * behind it makes it the instruction, unless a call chain follows, whose first line has that.
 */
static bool is_instruction(const char *p, char *end, bool chain)
{
	if (end - p == 17 || end - p == 18)
		return end - p == 18;
	return *skip_blanks(end) && !chain;
}

static int no_address(struct uhmm_trace_reader *r)
{
	r->stats.no_address++;
	return uhmm__trace_bad(r, "a fault without address: record with 'perf record -d' and print "
				  "with 'perf script -F +pid,+addr'");
}

int uhmm__perf_sample(struct uhmm_trace_reader *r, const struct perf_line *l,
		      enum uhmm_trace_bool major, char *p)
{
	struct perf_state *ps = perf_state(r);
	struct fault_info f = { .t_ns = l->t_ns, .cpu = l->cpu, .major = (uint8_t)major };
	struct trace_task *task;
	uint64_t addr = 0, ip = 0;
	bool has_addr = false;
	char *q;

	if (major == UHMM_TRACE_UNKNOWN) {
		ps->seen_sample = r->caps.has_fault_samples = true;
		ps->alone = false;
	}
	q = skip_blanks(p);
	if (*q) {
		char *end = scan_hex(q, &addr);

		if (!end || (*end && !is_blank(*end)))
			return uhmm__trace_bad(r, "fault sample: expected its address in "
						  "hexadecimal after the event");
		has_addr = second_address(end, &ip) || !is_instruction(p, end, l->chain);
		if (!has_addr)
			ip = addr;
	}
	/* Of faults that show twice the first counts. */
	if (l->period > 1 && (major == UHMM_TRACE_UNKNOWN || !ps->seen_sample))
		r->stats.unsampled += l->period - 1;
	if (l->chain && !ip) {
		task = uhmm__trace_task_find(r, l->tid);
		if (!has_addr && !(task && task->fault.pending && task->fault.has_addr))
			return no_address(r);
		ps->hold = (struct perf_held){ .held = true,
					       .has_addr = has_addr,
					       .major = (uint8_t)major,
					       .tid = l->tid,
					       .tgid = l->has_tgid ? l->tgid : -1,
					       .cpu = l->cpu,
					       .addr = addr,
					       .t_ns = l->t_ns };
		return 0;
	}
	task = uhmm__perf_task(r, l, ip);
	if (unlikely(!task)) {
		r->stats.skipped_samples++;
		return 0;
	}
	if (unlikely(!has_addr && !(task->fault.pending && task->fault.has_addr)))
		return no_address(r);
	f.ip = ip;
	take_sample(r, task, &f, has_addr ? &addr : NULL);
	return 0;
}

void uhmm__perf_chain(struct uhmm_trace_reader *r, char *p)
{
	struct perf_state *ps = perf_state(r);
	struct perf_held *h = &ps->hold;
	struct fault_info f = { .t_ns = h->t_ns, .cpu = h->cpu, .major = h->major };
	struct perf_line l = { .t_ns = h->t_ns, .tid = h->tid, .tgid = h->tgid, .cpu = h->cpu };
	struct trace_task *task;

	h->held = false;
	l.has_tgid = h->tgid >= 0;
	l.comm = ""; /* its line is gone */
	if (!scan_hex(skip_blanks(p), &f.ip))
		f.ip = 0;
	task = uhmm__perf_task(r, &l, f.ip);
	if (task)
		take_sample(r, task, &f, h->has_addr ? &h->addr : NULL);
	else
		r->stats.skipped_samples++;
}
