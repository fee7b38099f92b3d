// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * native_binary.c - the binary form of the native format: reading.
 *
 * Blocks are decoded where the input has them. Only whole blocks with the right checksum are looked
 * at, yet nothing in them is taken on trust.
 */
#include <endian.h>
#include <stdlib.h>

#include "replay/native.h"

struct binary {
	const unsigned char *payload, *p, *end; /* of the block */
	size_t block_bytes;			/* its size with its head, 0: none yet */
	uint64_t offset;			/* of the block in the file */
	bool ended;				/* END was read */
	bool bmi2;				/* see have_bmi2() */
	struct native_base base;
	struct native_state state;
	char tool[NATIVE_STRING_MAX + 1];
	char string[NATIVE_STRING_MAX + 1]; /* of the last event */
};

static struct binary *binary(struct uhmm_trace_reader *r)
{
	return r->priv;
}

/* ---- fields of a record ---- */

struct fields {
	const unsigned char *p, *end;
	bool bad;
};

/* 9 or 10 bytes. */
static uhmm_noinline uint64_t get_longest(struct fields *f)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64 && f->p < f->end; shift += 7) {
		unsigned char byte = *f->p++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			f->bad |= shift == 63 && byte > 1;
			return v;
		}
	}
	f->bad = true;
	return 0;
}

#define SEVENS 0x7f7f7f7f7f7f7f7fULL

/*
 * What handles bits by one instruction: PEXT, PDEP and some that compilers know to use. Functions with it are
 * called only where have_bmi2() says so.
 */
#if defined(__x86_64__) && !defined(__CHECKER__) /* sparse does not know these */
#define HAVE_BMI2 1
#define WITH_BMI2 __attribute__((target("bmi,bmi2")))
#else
#define HAVE_BMI2 0
#define WITH_BMI2
#endif

/* The groups of 7 bits of @v that are in @mask pushed together: by one instruction, or in pairs, fours, all. */
uhmm_always_inline uint64_t join_sevens(uint64_t v, uint64_t mask, bool bmi2 uhmm_unused)
{
#if HAVE_BMI2
	if (bmi2) {
		__asm__("pextq %2, %1, %0" : "=r"(v) : "r"(v), "r"(mask));
		return v;
	}
#endif
	v &= mask;
	v -= (v & 0x7f007f007f007f00ULL) >> 1; /* what is there twice cancels but for the shift */
	v = (v & 0x00003fff00003fffULL) | (v & 0x3fff00003fff0000ULL) >> 2;
	return (v & 0x000000000fffffffULL) | (v & 0x0fffffff00000000ULL) >> 4;
}

/* Whether this CPU has all of it; the first from one maker that had it took hundreds of cycles for each. */
static bool have_bmi2(void)
{
#if HAVE_BMI2
	__builtin_cpu_init();
	return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
	       !__builtin_cpu_is("znver1") && !__builtin_cpu_is("znver2");
#else
	return false;
#endif
}

/*
 * A number of at most 8 bytes at once, without a branch on how many. Returns the place behind it, NULL
 * if it is longer.
 */
uhmm_always_inline const unsigned char *number_at(const unsigned char *p, uint64_t *out, bool bmi2)
{
	uint64_t v, last; /* lowest bit of it: the last byte's */

	memcpy(&v, p, sizeof(v));
	v = le64toh(v);
	last = ~v & ~SEVENS;
	if (unlikely(!last))
		return NULL;
	*out = join_sevens(v, (last ^ (last - 1)) & SEVENS, bmi2);
	return p + ((unsigned int)__builtin_ctzll(last) >> 3) + 1;
}

static uint64_t get_long(struct fields *f)
{
	uint64_t v = 0;
	const unsigned char *p = number_at(f->p, &v, false);

	if (unlikely(!p))
		return get_longest(f);
	f->p = p;
	f->bad |= p > f->end;
	return v;
}

/* What is missing is 0. */
static uint64_t get(struct fields *f)
{
	if (unlikely(f->p >= f->end))
		return 0;
	if (*f->p < 0x80)
		return *f->p++;
	return get_long(f);
}

static uint64_t get_step(struct fields *f, uint64_t *base)
{
	*base += native_unzigzag(get(f));
	return *base;
}

static uint64_t get_max(struct fields *f, uint64_t max)
{
	uint64_t v = get(f);

	f->bad |= v > max;
	return v;
}

static uint32_t get32(struct fields *f)
{
	return (uint32_t)get_max(f, UINT32_MAX);
}

static int32_t get_signed(struct fields *f)
{
	return (int32_t)native_unzigzag(get_max(f, UINT32_MAX));
}

/* A number of a list: one that came later counts as unknown. */
static uint32_t get_one_of(struct fields *f, uint32_t nr)
{
	uint64_t v = get(f);

	return v < nr ? (uint32_t)v : 0;
}

static void get_range(struct fields *f, uint64_t *start, uint64_t *end)
{
	uint64_t pages = ~0ULL >> NATIVE_PAGE_SHIFT, first = get_max(f, pages), nr;

	nr = get_max(f, pages - first);
	*start = first << NATIVE_PAGE_SHIFT;
	*end = (first + nr) << NATIVE_PAGE_SHIFT;
}

static const char *get_string(struct fields *f, char out[NATIVE_STRING_MAX + 1])
{
	size_t len = (size_t)get_max(f, MIN(NATIVE_STRING_MAX, (size_t)(f->end - f->p)));

	if (f->bad || len > (size_t)(f->end - f->p)) {
		f->bad = true;
		return NULL;
	}
	memcpy(out, f->p, len);
	out[len] = '\0';
	f->p += len;
	return len ? out : NULL;
}

/* ---- records ---- */

static void set_how(struct uhmm_trace_event *ev, uint64_t how)
{
	ev->fault.access = how & 3;
	ev->fault.mode = how >> 2 & 3;
	ev->fault.present = how >> 4 & 3;
	ev->fault.major = how >> 6 & 3;
	ev->fault.failed = how >> 8 & 3;
}

static void get_fault(struct binary *b, struct fields *f, struct uhmm_trace_event *ev)
{
	uint64_t how = get(f);

	set_how(ev, how);
	ev->fault.addr = get_step(f, &b->base.addr);
	ev->fault.ip = get_step(f, &b->base.ip);
	ev->fault.error_code = get32(f);
	ev->fault.order = (uint8_t)get_max(f, UINT8_MAX);
	ev->fault.source = (uint16_t)get_max(f, UINT16_MAX);
	/* 3 is none of the answers. */
	f->bad |= (how & how >> 1 & 0x154) != 0;
}

static void get_mapping(struct fields *f, struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_MAP:
		get_range(f, &ev->map.start, &ev->map.end);
		ev->map.prot = get32(f);
		ev->map.flags = get32(f);
		ev->map.obj = get32(f);
		ev->map.pgoff = get(f);
		if (!ev->map.obj)
			ev->map.pgoff = ev->map.start >> NATIVE_PAGE_SHIFT;
		break;
	case UHMM_TRACE_UNMAP:
		get_range(f, &ev->unmap.start, &ev->unmap.end);
		break;
	case UHMM_TRACE_PROT:
		get_range(f, &ev->prot.start, &ev->prot.end);
		ev->prot.prot = get32(f);
		ev->prot.pkey = get_signed(f);
		break;
	case UHMM_TRACE_MOVE:
		get_range(f, &ev->move.old_start, &ev->move.old_end);
		get_range(f, &ev->move.new_start, &ev->move.new_end);
		ev->move.flags = get32(f);
		break;
	case UHMM_TRACE_ADVISE:
		get_range(f, &ev->advise.start, &ev->advise.end);
		ev->advise.advice = get32(f);
		ev->advise.error = get_signed(f);
		ev->advise.arg = get(f);
		break;
	case UHMM_TRACE_TRUNC:
		ev->trunc.obj = get32(f);
		ev->trunc.start = get(f);
		ev->trunc.end = get(f);
		break;
	case UHMM_TRACE_MIGRATE:
		get_range(f, &ev->migrate.start, &ev->migrate.end);
		ev->migrate.from_node = (uint16_t)get_max(f, UINT16_MAX);
		ev->migrate.to_node = (uint16_t)get_max(f, UINT16_MAX);
		ev->migrate.reason = get32(f);
		break;
	default:
		break;
	}
}

static void get_body(struct binary *b, struct fields *f, struct uhmm_trace_event *ev)
{
	switch (ev->kind) {
	case UHMM_TRACE_FAULT:
	case UHMM_TRACE_FAULT_MAJOR:
		get_fault(b, f, ev);
		break;
	case UHMM_TRACE_TOUCH:
		ev->touch.access = (uint8_t)get_one_of(f, 4);
		ev->touch.addr = get_step(f, &b->base.addr);
		ev->touch.size = get32(f);
		ev->touch.repeat = get(f) + 1;
		break;
	case UHMM_TRACE_MM_NEW:
		ev->mm_new.why = get_one_of(f, ARRAY_SIZE(uhmm__native_why));
		ev->mm_new.parent = get32(f);
		break;
	case UHMM_TRACE_TASK:
		ev->task.why = get_one_of(f, ARRAY_SIZE(uhmm__native_why));
		ev->task.comm = get_string(f, b->string);
		break;
	case UHMM_TRACE_OBJ:
		ev->obj.id = get32(f);
		ev->obj.kind = get_one_of(f, ARRAY_SIZE(uhmm__native_obj_kinds));
		ev->obj.dev_major = get32(f);
		ev->obj.dev_minor = get32(f);
		ev->obj.ino = get(f);
		ev->obj.name = get_string(f, b->string);
		break;
	case UHMM_TRACE_LOST:
		ev->lost.count = get(f);
		break;
	case UHMM_TRACE_MARK:
		ev->mark.text = get_string(f, b->string);
		break;
	default:
		get_mapping(f, ev);
		break;
	}
}

static void set_head(struct uhmm_trace_event *ev, uint64_t kind, const struct native_base *base)
{
	memset(ev, 0, sizeof(*ev));
	ev->t_ns = base->t_ns;
	ev->kind = (uint32_t)kind;
	ev->cpu = base->cpu;
	ev->tid = base->tid;
	ev->tgid = base->tgid;
	ev->mm = base->mm;
}

/* NULL, or what is wrong. */
static const char *get_event(struct uhmm_trace_reader *r, uint64_t kind, struct fields *f,
			     struct uhmm_trace_event *ev)
{
	struct binary *b = binary(r);
	const char *why;

	b->base.t_ns += get(f);
	set_head(ev, kind, &b->base);
	get_body(b, f, ev);
	if (f->bad)
		return "a number out of range, or cut";
	why = native_check(&b->state, ev);
	if (why)
		return why;
	r->line++;
	r->stats.lines++;
	if (kind == UHMM_TRACE_LOST)
		r->stats.lost += ev->lost.count;
	return NULL;
}

/* Two bits of @how, which has seven, into each of the first four bytes; the others of these are 0. */
uhmm_always_inline uint64_t spread_how(uint64_t how, bool bmi2 uhmm_unused)
{
#if HAVE_BMI2
	if (bmi2) {
		__asm__("pdepq %2, %1, %0" : "=r"(how) : "r"(how), "r"(0x03030303UL));
		return how;
	}
#endif
	return (how | how << 6 | how << 12 | how << 18) & 0x03030303UL;
}

/* Kind and task of a fault, and nothing behind its fields. */
uhmm_always_inline void set_task(struct uhmm_trace_event *ev, const struct uhmm_trace_event *head)
{
	const size_t from = offsetof(struct uhmm_trace_event, kind);
	const size_t to = offsetof(struct uhmm_trace_event, fault);
	const size_t end = to + sizeof(ev->fault);

	memcpy((char *)ev + from, (const char *)head + from, to - from);
	memset((char *)ev + end, 0, sizeof(*ev) - end);
}

/* With the room behind it: two events that say the same are the same bytes. */
uhmm_always_inline void set_error_code(struct uhmm_trace_event *ev, uint32_t code)
{
	const uint32_t both[2] = { code, 0 };

	_Static_assert(offsetof(struct uhmm_trace_event, fault.addr) ==
			       offsetof(struct uhmm_trace_event, fault.error_code) + sizeof(both),
		       "there is room behind it");
	memcpy(&ev->fault.error_code, both, sizeof(both));
}

/* What is known of a fault of small numbers before its addresses: eight bytes, of which four tell how. */
uhmm_always_inline void set_small_how(struct uhmm_trace_event *ev, uint64_t how, bool bmi2)
{
	_Static_assert(offsetof(struct uhmm_trace_event, fault.major) ==
			       offsetof(struct uhmm_trace_event, fault.access) + 3,
		       "access, mode, present and major are next to each other");
	_Static_assert(offsetof(struct uhmm_trace_event, fault.error_code) ==
			       offsetof(struct uhmm_trace_event, fault.access) + sizeof(how),
		       "the error code is behind what is 0 here");
	how = htole64(spread_how(how, bmi2));
	memcpy(&ev->fault.access, &how, sizeof(how));
}

/*
 * Most records are faults of one form: small numbers in one byte each, time and addresses in up to 8.
 * The one at @p, of which @head tells the rest; NULL, and nothing done, if it is another: next_record()
 * takes all.
 */
uhmm_always_inline const unsigned char *
quick_fault(const unsigned char *p, const unsigned char *block_end, struct native_base *base,
	    const struct uhmm_trace_event *head, struct uhmm_trace_event *ev, bool bmi2)
{
	const unsigned char *end = p + 1 + p[0];
	uint64_t dt = 0, addr = 0, ip = 0;
	unsigned int how, code = 0;

	if (unlikely(p[1] != UHMM_TRACE_FAULT || end > block_end))
		return NULL;
	p = number_at(p + 2, &dt, bmi2);
	if (unlikely(!p))
		return NULL;
	how = *p++;
	p = number_at(p, &addr, bmi2);
	if (unlikely(!p))
		return NULL;
	if (likely(p < end)) {
		p = number_at(p, &ip, bmi2);
		if (unlikely(!p))
			return NULL;
		if (likely(p < end))
			code = *p++;
	}
	/* No record of one byte each is as long as a length of two bytes says. */
	if (unlikely(p != end || (how | code) >= 0x80 || (how & how >> 1 & 0x54) ||
		     base->t_ns + dt < base->t_ns))
		return NULL;
	base->t_ns += dt;
	base->addr += native_unzigzag(addr);
	base->ip += native_unzigzag(ip);
	set_task(ev, head);
	ev->t_ns = base->t_ns;
	set_small_how(ev, how, bmi2);
	set_error_code(ev, code);
	ev->fault.addr = base->addr;
	ev->fault.ip = base->ip;
	return end;
}

/* As many of these as there are in a row. */
uhmm_always_inline size_t quick_faults(struct uhmm_trace_reader *r, struct uhmm_trace_event *events,
				       uint64_t *lines, size_t max, bool bmi2)
{
	struct binary *b = binary(r);
	const unsigned char *p = b->p, *end = b->end, *next;
	struct native_base base = b->base;
	struct uhmm_trace_event head;
	uint64_t line = r->line;
	size_t nr = 0;

	set_head(&head, UHMM_TRACE_FAULT, &base);
	if (p == end || base.mm > b->state.last_mm || base.t_ns < b->state.t_ns)
		return 0;
	/* At the end of the block, behind which bytes can be read (TRACE_BUF_SLACK), no record fits. */
	for (; nr < max; nr++, p = next) {
		next = quick_fault(p, end, &base, &head, &events[nr], bmi2);
		if (unlikely(!next))
			break;
		lines[nr] = ++line;
	}
	if (!nr)
		return 0;
	b->p = p;
	b->base = base;
	b->state.t_ns = base.t_ns;
	b->state.nr_events += nr;
	r->line = line;
	r->stats.lines += nr;
	return nr;
}

static uhmm_noinline WITH_BMI2 size_t bmi2_faults(struct uhmm_trace_reader *r,
						  struct uhmm_trace_event *events, uint64_t *lines,
						  size_t max)
{
	return quick_faults(r, events, lines, max, true);
}

static size_t binary_faults(struct uhmm_trace_reader *r, struct uhmm_trace_event *events,
			    uint64_t *lines, size_t max)
{
	if (binary(r)->bmi2)
		return bmi2_faults(r, events, lines, max);
	return quick_faults(r, events, lines, max, false);
}

static void get_caps(struct uhmm_trace_reader *r, struct fields *f)
{
	uint64_t bits = get(f);

	for (unsigned int i = 0; i < NATIVE_NR_CAPS; i++)
		*native_cap(&r->caps, i) |= bits >> i & 1;
	r->caps_changes++;
}

static void get_header(struct uhmm_trace_reader *r, struct fields *f)
{
	r->origin.clock = get_one_of(f, ARRAY_SIZE(uhmm__native_clocks));
	r->origin.va_bits = get32(f);
	r->origin.tool = get_string(f, binary(r)->tool);
}

/* NULL, or what is wrong. */
static const char *get_end(struct uhmm_trace_reader *r, struct fields *f)
{
	struct binary *b = binary(r);
	uint64_t nr = get(f);

	for (unsigned int i = 0; i < NATIVE_NR_STATS; i++)
		*native_stat(&r->stats, i) += get(f);
	if (!r->stats.source_lines)
		r->stats.source_lines = r->stats.lines;
	b->ended = true;
	if (!native_count_fits(&b->state, nr) && !r->stats.malformed)
		return "another number of events than the trace has";
	return b->p == b->end ? NULL : "something follows the end of the trace";
}

/* A record that is no event. */
static const char *get_other(struct uhmm_trace_reader *r, uint64_t kind, struct fields *f)
{
	struct native_base *base = &binary(r)->base;
	const char *why = NULL;

	switch (kind) {
	case NATIVE_ON:
		base->cpu = get_signed(f);
		base->tid = get_signed(f);
		base->tgid = get_signed(f);
		base->mm = get32(f);
		break;
	case NATIVE_CAPS:
		get_caps(r, f);
		break;
	case NATIVE_HEADER:
		get_header(r, f);
		break;
	case NATIVE_END:
		why = get_end(r, f);
		break;
	default: /* of a later version */
		binary(r)->state.nr_unknown++;
		r->stats.skipped_records++;
		break;
	}
	return f->bad ? "a number out of range, or cut" : why;
}

/* 1 with an event, 0 without, or a negative errno. */
static int next_record(struct uhmm_trace_reader *r, struct uhmm_trace_event *ev)
{
	struct binary *b = binary(r);
	const unsigned char *start = b->p;
	struct fields f = { b->p, b->end, false };
	uint64_t len = get(&f);
	const char *why = "the length of a record is out of range";
	uint64_t kind;

	if (unlikely(f.bad || !len || len > (uint64_t)(b->end - f.p))) {
		b->p = b->end;
		goto malformed;
	}
	f.end = f.p + len;
	b->p = f.end;
	kind = get(&f);
	if (likely(kind - 1 < UHMM_TRACE_NR_KINDS - 1)) {
		why = get_event(r, kind, &f, ev);
		if (likely(!why))
			return 1;
	} else {
		why = get_other(r, kind, &f);
		if (!why)
			return 0;
	}
malformed:
	return uhmm__trace_malformed(r, ": byte %llu: %s",
				     (unsigned long long)(b->offset + NATIVE_BLOCK_BYTES +
							  (uint64_t)(start - b->payload)),
				     why);
}

/* ---- blocks ---- */

static int cut_short(struct uhmm_trace_reader *r, uint64_t at)
{
	r->finished = true;
	return uhmm__trace_malformed(
		r,
		": byte %llu: the trace ends without its END record: it was cut "
		"short, copy or convert it again",
		(unsigned long long)at);
}

static int input_failed(struct uhmm_trace_reader *r, ssize_t err)
{
	const char *why = uhmm__trace_input_error(r->input);

	return uhmm__trace_fatal(r, (int)err, ": byte %llu: %s",
				 (unsigned long long)binary(r)->offset,
				 why ? why : strerror((int)-err));
}

/* The next block that is whole. 0, also at the end (r->finished), or a negative errno. */
static int next_block(struct uhmm_trace_reader *r)
{
	struct binary *b = binary(r);
	const unsigned char *p;
	struct native_sum sum;
	ssize_t got;
	uint32_t len;

	uhmm__trace_input_skip(r->input, b->block_bytes);
	b->offset += b->block_bytes;
	b->block_bytes = 0;
	got = uhmm__trace_input_bytes(r->input, NATIVE_BLOCK_BYTES, &p);
	if (got < 0)
		return input_failed(r, got);
	if (b->ended) {
		r->finished = true;
		return got ? uhmm__trace_malformed(r, ": byte %llu: something follows the trace",
						   (unsigned long long)b->offset)
			   : 0;
	}
	if (got < NATIVE_BLOCK_BYTES)
		return cut_short(r, b->offset + (uint64_t)got);
	len = native_le32(p);
	if (!len || len > NATIVE_PAYLOAD_MAX)
		return uhmm__trace_fatal(
			r, -EINVAL,
			": byte %llu: this is not the head of a block: the file is "
			"damaged, copy or convert it again",
			(unsigned long long)b->offset);
	got = uhmm__trace_input_bytes(r->input, NATIVE_BLOCK_BYTES + len, &p);
	if (got < 0)
		return input_failed(r, got);
	if (got < NATIVE_BLOCK_BYTES + (ssize_t)len)
		return cut_short(r, b->offset + (uint64_t)got);
	b->block_bytes = NATIVE_BLOCK_BYTES + len;
	r->stats.bytes += b->block_bytes;
	b->payload = b->p = p + NATIVE_BLOCK_BYTES;
	b->end = b->payload + len;
	memset(&b->base, 0, sizeof(b->base));
	sum = native_block_sum(b->payload, len);
	if (likely(sum.a == native_le32(p + 4) && sum.b == native_le32(p + 8)))
		return 0;
	b->p = b->end;
	return uhmm__trace_malformed(
		r,
		": byte %llu: the checksum of this block of %u bytes is wrong: "
		"the file is damaged, copy or convert it again",
		(unsigned long long)b->offset, len);
}

static int binary_next(struct uhmm_trace_reader *r, struct uhmm_trace_event *ev)
{
	struct binary *b = binary(r);
	uint64_t line;

	while (!r->finished) {
		int ret;

		if (binary_faults(r, ev, &line, 1))
			return 1;
		ret = b->p == b->end ? next_block(r) : next_record(r, ev);
		if (ret)
			return ret;
	}
	return r->error;
}

/* ---- format ---- */

static int binary_probe(const char *text, size_t len)
{
	return len >= NATIVE_MAGIC_BYTES && !memcmp(text, NATIVE_MAGIC, NATIVE_MAGIC_BYTES) ? 100
											    : 0;
}

static int binary_start(struct uhmm_trace_reader *r, const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned int version;
	uint32_t required;

	if (len < NATIVE_PREAMBLE_BYTES)
		return uhmm__trace_fatal(
			r, -EINVAL,
			": byte %zu: the trace ends within its first bytes: it was "
			"cut short, copy or convert it again",
			len);
	version = p[8] | (unsigned int)p[9] << 8;
	if (version != NATIVE_VERSION)
		return uhmm__trace_fatal(
			r, -EINVAL,
			": byte 8: the format has version %u, this program reads "
			"version %u: convert the trace with the program that wrote "
			"it, or read it with a newer uhmm",
			version, NATIVE_VERSION);
	if (p[10] != NATIVE_PAGE_SHIFT)
		return uhmm__trace_fatal(
			r, -EINVAL,
			": byte 10: pages of 2^%u bytes: this program reads traces "
			"with pages of 4096 bytes",
			p[10]);
	required = native_le32(p + 12);
	if (required)
		return uhmm__trace_fatal(r, -EINVAL,
					 ": byte 12: the trace requires capabilities that this "
					 "program lacks (bits 0x%x): read it with a newer uhmm",
					 required);
	r->priv = calloc(1, sizeof(struct binary));
	if (!r->priv) {
		uhmm__trace_nomem(r);
		return -ENOMEM;
	}
	uhmm__trace_input_skip(r->input, NATIVE_PREAMBLE_BYTES);
	binary(r)->offset = NATIVE_PREAMBLE_BYTES;
	binary(r)->bmi2 = have_bmi2();
	r->stats.bytes = NATIVE_PREAMBLE_BYTES;
	return 0;
}

static void binary_stop(struct uhmm_trace_reader *r)
{
	free(r->priv);
}

const struct trace_ops uhmm__native_binary_ops = {
	.format = UHMM_TRACE_FORMAT_BINARY,
	.probe = binary_probe,
	.start = binary_start,
	.next = binary_next,
	.faults = binary_faults,
	.stop = binary_stop,
};
