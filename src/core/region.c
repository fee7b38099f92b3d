// SPDX-License-Identifier: LGPL-2.1-or-later
#define _GNU_SOURCE
#include "core/region.h"

#include <sys/mman.h>

#if UHMM_CHECKED

#define XXH_INLINE_ALL
#if UHMM_DEBUG /* there the compiler does not inline as it is told */
#define XXH_NO_INLINE_HINTS 1
#endif
#include <xxhash.h>

/* Address space; memory is taken as it is touched. */
#define LANE_SIZE (16UL << 20)
#define HEAP_SIZE (UHMM__REGION_LANES * LANE_SIZE)
#define SPARSE_SIZE (16UL << 30)
#define STACKS_SIZE (128UL << 20)
#define REGION_SIZE (HEAP_SIZE + SPARSE_SIZE + STACKS_SIZE)
#define PAGE 4096UL

/*
 * Where a region lies, if nothing else does: then pointers, and all that is computed from them, are the
 * same in every process. ThreadSanitizer has its own ideas of the address space.
 */
#ifdef __SANITIZE_THREAD__
#define WANTED_BASE NULL
#else
#define WANTED_BASE ((void *)0x200000000000UL)
#endif

/* Sizes up to 112 in steps of 16, up to 4096 in steps of 128, then powers of two. */
enum {
	SMALL_STEP = 16,
	STEP = 128,
	NR_SMALL = 8,
	NR_MEDIUM = 33,
	NR_CLASSES = NR_SMALL + NR_MEDIUM + 17
};
#define HEAP_PAGES (HEAP_SIZE / PAGE)
#define SPARSE_PAGES (SPARSE_SIZE / PAGE)
/* Pages that may be written to between save() and the end, and pieces of them. */
#define MAX_HOT (1UL << 16)
#define PIECE 1024UL
/* What is ignored cuts some in two, and is less than all other pieces. */
#define MAX_PIECES (MAX_HOT * (PAGE / PIECE) * 2)

#define POISON_BYTE 0x6b
#define POISON_WORD 0x6b6b6b6b6b6b6b6bUL

struct freed {
	struct freed *next;
};

struct uhmm__range {
	const char *p;
	size_t size;
};

/* A part of the heap. */
struct lane {
	char *brk; /* its end */
	struct freed *freed[NR_CLASSES];
};

/* What belongs to the state itself, at the start of the heap. */
struct state {
	char *top;   /* end of the reservations */
	char *stack; /* end of the stacks */
	struct lane lanes[UHMM__REGION_LANES];
};

/* A page that was written to since save(). */
struct hot {
	char *p;
	const char *saved; /* what it held then; NULL: zeroes */
};

/* Of a hot page, as far as it is part of the hash. */
struct piece {
	const char *p;
	const char *saved; /* what it held then; NULL: zeroes */
	size_t size;
	char *last;		      /* what it was when it was hashed last, */
	struct uhmm__hash now, first; /* its hash then, and as saved */
	bool serials;		      /* it held sequence numbers then */
};

/*
 * save() makes all memory but stacks read-only, and a page writable when it is first written to: from
 * then on it is hot. All others are as they were saved, whatever runs since have done, so that nobody
 * need look at them. What is touched by the signal handler is address space of its own: malloc() may
 * be what was interrupted.
 */
struct uhmm__region {
	struct state *state; /* = the base of the mapping */
	char *sparse, *stacks;
	/* Pages of the reservations that were touched, in that order, and where each is in there, + 1. */
	char **touched;
	uint32_t *touched_at;
	size_t nr_touched;
	/* What is left out of the hash, by address. */
	struct uhmm__range *ignored, *ignored_copy;
	unsigned int nr_ignored, size_ignored;
	/* The saved state: of the lanes, one after the other, and of the first of the touched pages. */
	bool is_saved;
	char *heap_copy, *sparse_copy;
	size_t saved[UHMM__REGION_LANES], sparse_saved;
	unsigned int ignored_saved;
	struct hot *hot;
	uint8_t *is_hot; /* of the heap's pages, then of the touched ones */
	size_t nr_hot;
	/* The hash of what is hot, brought up to date by looking for what has changed. */
	struct piece *pieces;
	size_t nr_pieces;
	char *last;	   /* a page for each hot one */
	size_t pieces_hot; /* hot pages that they are of */
	bool pieces_stale; /* begin anew */
	struct uhmm__hash sum;
	struct uhmm__serials saved_serials; /* values alone */
	const void *written;		    /* found by an allocation */
};

_Thread_local unsigned int uhmm__region_lane;
_Thread_local struct uhmm__region *uhmm__region_here;

static void *map(void *at, size_t size)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unmap(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

static bool map_tables(struct uhmm__region *r)
{
	r->touched = map(NULL, SPARSE_PAGES * sizeof(*r->touched));
	r->touched_at = map(NULL, SPARSE_PAGES * sizeof(*r->touched_at));
	r->hot = map(NULL, MAX_HOT * sizeof(*r->hot));
	r->is_hot = map(NULL, HEAP_PAGES + SPARSE_PAGES);
	r->pieces = map(NULL, MAX_PIECES * sizeof(*r->pieces));
	r->last = map(NULL, MAX_HOT * PAGE);
	return r->touched && r->touched_at && r->hot && r->is_hot && r->pieces && r->last;
}

int uhmm__region_create(struct uhmm__region **out)
{
	struct uhmm__region *r = calloc(1, sizeof(*r));
	char *base;

	if (!r)
		return -ENOMEM;
	base = map(WANTED_BASE, REGION_SIZE);
	r->state = (struct state *)base;
	if (!base || !map_tables(r)) {
		uhmm__region_destroy(r);
		return -ENOMEM;
	}
	/* Pages are counted one by one here. */
	(void)madvise(base, REGION_SIZE, MADV_NOHUGEPAGE);
	r->sparse = base + HEAP_SIZE;
	r->stacks = r->sparse + SPARSE_SIZE;
	if (mprotect(r->sparse, SPARSE_SIZE, PROT_NONE)) {
		uhmm__region_destroy(r);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < UHMM__REGION_LANES; i++)
		r->state->lanes[i].brk = base + i * LANE_SIZE;
	r->state->lanes[0].brk += ALIGN_UP(sizeof(struct state), STEP);
	r->state->top = r->sparse;
	r->state->stack = r->stacks;
	*out = r;
	return 0;
}

void uhmm__region_destroy(struct uhmm__region *r)
{
	if (!r)
		return;
	unmap(r->state, REGION_SIZE);
	unmap(r->touched, SPARSE_PAGES * sizeof(*r->touched));
	unmap(r->touched_at, SPARSE_PAGES * sizeof(*r->touched_at));
	unmap(r->hot, MAX_HOT * sizeof(*r->hot));
	unmap(r->is_hot, HEAP_PAGES + SPARSE_PAGES);
	unmap(r->last, MAX_HOT * PAGE);
	unmap(r->pieces, MAX_PIECES * sizeof(*r->pieces));
	free(r->ignored);
	free(r->ignored_copy);
	free(r->heap_copy);
	free(r->sparse_copy);
	free(r);
}

/* ---- the heap ---- */

static unsigned int class_of(size_t size)
{
	if (size < STEP)
		return (unsigned int)((MAX(size, 1) + SMALL_STEP - 1) / SMALL_STEP) - 1;
	if (size <= NR_MEDIUM * STEP)
		return NR_SMALL + (unsigned int)((size + STEP - 1) / STEP) - 1;
	return NR_SMALL + NR_MEDIUM + (unsigned int)(64 - __builtin_clzl(size - 1)) - 13;
}

static size_t class_size(unsigned int c)
{
	if (c < NR_SMALL)
		return (c + 1) * SMALL_STEP;
	if (c < NR_SMALL + NR_MEDIUM)
		return (c - NR_SMALL + 1) * STEP;
	return 1UL << (c - NR_SMALL - NR_MEDIUM + 13);
}

static bool is_poisoned(const struct freed *f, size_t size)
{
	const uint64_t *w = (const uint64_t *)f, *end = w + size / sizeof(*w);
	uint64_t wrong = 0;

	/* Sizes are multiples of two words; the first is the link. */
	for (wrong = w[1] ^ POISON_WORD, w += 2; w < end; w += 2)
		wrong |= (w[0] ^ POISON_WORD) | (w[1] ^ POISON_WORD);
	return !wrong;
}

static char *lane_start(const struct uhmm__region *r, unsigned int i)
{
	return (char *)r->state + i * LANE_SIZE;
}

void *uhmm__region_alloc(struct uhmm__region *r, size_t align, size_t size)
{
	unsigned int n = uhmm__region_lane % UHMM__REGION_LANES;
	struct lane *lane = &r->state->lanes[n];
	unsigned int c = class_of(align > SMALL_STEP ? MAX(size, STEP) : size);
	size_t whole;
	char *p;

	if (c >= NR_CLASSES)
		return NULL;
	whole = class_size(c);
	p = (char *)lane->freed[c];
	if (p) {
		if (!is_poisoned(lane->freed[c], whole) && !r->written)
			r->written = p;
		lane->freed[c] = lane->freed[c]->next;
	} else {
		p = whole < STEP ? lane->brk : (char *)ALIGN_UP((uintptr_t)lane->brk, STEP);
		if (whole > (size_t)(lane_start(r, n + 1) - p))
			return NULL;
		/* What alignment leaves out is part of the hash: it must be the same every time. */
		memset(lane->brk, 0, (size_t)(p - lane->brk));
		lane->brk = p + whole;
	}
	memset(p, 0, whole);
	return p;
}

void uhmm__region_free(struct uhmm__region *r, void *p, size_t size)
{
	struct lane *lane = &r->state->lanes[((char *)p - (char *)r->state) / LANE_SIZE];
	unsigned int c = class_of(size);
	struct freed *f = p;

	memset(p, POISON_BYTE, class_size(c));
	f->next = lane->freed[c];
	lane->freed[c] = f;
}

static const void *written_after_free(const struct lane *lane)
{
	for (unsigned int c = 0; c < NR_CLASSES; c++)
		for (const struct freed *f = lane->freed[c]; f; f = f->next)
			if (!is_poisoned(f, class_size(c)))
				return f;
	return NULL;
}

const void *uhmm__region_written_after_free(const struct uhmm__region *r)
{
	const void *p = r->written;

	for (unsigned int i = 0; i < UHMM__REGION_LANES && !p; i++)
		p = written_after_free(&r->state->lanes[i]);
	return p;
}

bool uhmm__region_is_poison(uint64_t word)
{
	/* The pattern, or a field of what such a pointer points to. */
	return word >> 16 == POISON_WORD >> 16;
}

/* ---- reservations and stacks ---- */

void *uhmm__region_reserve(struct uhmm__region *r, size_t size)
{
	struct state *s = r->state;
	char *p = s->top;

	size = ALIGN_UP(size, PAGE);
	if (size > (size_t)(r->stacks - p))
		return NULL;
	s->top = p + size;
	/* An earlier run may have got this far: its leavings are gone with restore(). */
	return p;
}

void *uhmm__region_stack(struct uhmm__region *r, size_t size, size_t guard)
{
	struct state *s = r->state;
	char *p = s->stack;

	if (size + guard > (size_t)(r->stacks + STACKS_SIZE - p) || mprotect(p, guard, PROT_NONE))
		return NULL;
	s->stack = p + guard + size;
	return p;
}

/* The first write to page @p since save(); @index: in is_hot. */
static bool heat(struct uhmm__region *r, char *p, size_t index, const char *saved)
{
	if (r->is_hot[index] || r->nr_hot == MAX_HOT || mprotect(p, PAGE, PROT_READ | PROT_WRITE))
		return false;
	r->is_hot[index] = 1;
	r->hot[r->nr_hot++] = (struct hot){ p, saved };
	return true;
}

static bool touch_heap(struct uhmm__region *r, char *p)
{
	size_t at = (size_t)(p - (char *)r->state), lane = at / LANE_SIZE;
	const char *copy = r->heap_copy;

	for (size_t i = 0; i < lane; i++)
		copy += r->saved[i];
	copy += at % LANE_SIZE;
	return heat(r, p, at / PAGE, at % LANE_SIZE < r->saved[lane] ? copy : NULL);
}

static bool touch_sparse(struct uhmm__region *r, char *p)
{
	uint32_t *at = &r->touched_at[(p - r->sparse) / (ptrdiff_t)PAGE];
	size_t i = *at ? *at - 1 : r->nr_touched;

	if (!*at) {
		r->touched[r->nr_touched++] = p;
		*at = (uint32_t)r->nr_touched;
		if (!r->is_saved)
			return !mprotect(p, PAGE, PROT_READ | PROT_WRITE);
	}
	return r->is_saved &&
	       heat(r, p, HEAP_PAGES + i, i < r->sparse_saved ? r->sparse_copy + i * PAGE : NULL);
}

bool uhmm__region_touch(struct uhmm__region *r, const void *addr)
{
	char *p = (char *)ALIGN_DOWN((uintptr_t)addr, PAGE);

	if (p >= (char *)r->state && p < r->sparse)
		return r->is_saved && touch_heap(r, p);
	return p >= r->sparse && p < r->state->top && touch_sparse(r, p);
}

/* ---- save and restore ---- */

static int by_address(const void *a, const void *b)
{
	const struct uhmm__range *x = a, *y = b;

	return (x->p > y->p) - (x->p < y->p);
}

int uhmm__region_ignore(struct uhmm__region *r, const void *p, size_t size)
{
	if (r->nr_ignored == r->size_ignored) {
		unsigned int n = r->size_ignored ? 2 * r->size_ignored : 64;
		struct uhmm__range *v = realloc(r->ignored, n * sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->ignored = v;
		r->size_ignored = n;
	}
	r->ignored[r->nr_ignored++] = (struct uhmm__range){ p, size };
	qsort(r->ignored, r->nr_ignored, sizeof(*r->ignored), by_address);
	r->pieces_stale = true;
	return 0;
}

static void put_back_ignored(struct uhmm__region *r, const struct uhmm__range *v, unsigned int n)
{
	if (r->nr_ignored != n)
		r->pieces_stale = true;
	r->nr_ignored = n;
	if (n)
		memcpy(r->ignored, v, n * sizeof(*v));
}

static struct uhmm__range *copy_ignored(const struct uhmm__region *r)
{
	struct uhmm__range *v = malloc(MAX(r->nr_ignored, 1) * sizeof(*v));

	if (v && r->nr_ignored)
		memcpy(v, r->ignored, r->nr_ignored * sizeof(*v));
	return v;
}

static void copy_all(struct uhmm__region *r)
{
	char *copy = r->heap_copy;

	for (unsigned int i = 0; i < UHMM__REGION_LANES; i++) {
		memcpy(copy, lane_start(r, i), r->saved[i]);
		copy += r->saved[i];
	}
	for (size_t i = 0; i < r->nr_touched; i++)
		memcpy(r->sparse_copy + i * PAGE, r->touched[i], PAGE);
}

/* Nothing is hot. */
static int protect_all(struct uhmm__region *r)
{
	memset(r->is_hot, 0, HEAP_PAGES + r->nr_touched);
	r->nr_hot = 0;
	r->pieces_stale = true;
	if (mprotect(r->state, HEAP_SIZE, PROT_READ))
		return -ENOMEM;
	for (size_t i = 0; i < r->nr_touched; i++)
		if (mprotect(r->touched[i], PAGE, PROT_READ))
			return -ENOMEM;
	return 0;
}

static void note_serials(struct uhmm__region *r, const char *copy, size_t size)
{
	const uint64_t *w = (const uint64_t *)copy;

	for (size_t i = 0; i < size / sizeof(*w); i++)
		if (uhmm__is_serial(w[i]))
			uhmm__serials_know(&r->saved_serials, w[i]);
}

int uhmm__region_save(struct uhmm__region *r)
{
	size_t heap = 0;

	for (unsigned int i = 0; i < UHMM__REGION_LANES; i++) {
		r->saved[i] = ALIGN_UP((size_t)(r->state->lanes[i].brk - lane_start(r, i)), PAGE);
		heap += r->saved[i];
	}
	free(r->heap_copy);
	free(r->sparse_copy);
	free(r->ignored_copy);
	r->heap_copy = malloc(heap);
	r->sparse_copy = malloc(MAX(r->nr_touched, 1) * PAGE);
	r->ignored_copy = copy_ignored(r);
	if (!r->heap_copy || !r->sparse_copy || !r->ignored_copy)
		return -ENOMEM;
	r->sparse_saved = r->nr_touched;
	r->ignored_saved = r->nr_ignored;
	copy_all(r);
	note_serials(r, r->heap_copy, heap);
	note_serials(r, r->sparse_copy, r->nr_touched * PAGE);
	r->is_saved = true;
	return protect_all(r);
}

static void put_back(const struct hot *h)
{
	if (h->saved)
		memcpy(h->p, h->saved, PAGE);
	else
		memset(h->p, 0, PAGE);
}

void uhmm__region_restore(struct uhmm__region *r)
{
	for (size_t i = 0; i < r->nr_hot; i++)
		put_back(&r->hot[i]);
	put_back_ignored(r, r->ignored_copy, r->ignored_saved);
	r->written = NULL;
}

int uhmm__region_copy(const struct uhmm__region *r, struct uhmm__region_copy *c)
{
	if (c->size < r->nr_hot) {
		char *p = realloc(c->pages, 2 * r->nr_hot * PAGE);

		if (!p)
			return -ENOMEM;
		c->pages = p;
		c->size = 2 * r->nr_hot;
	}
	free(c->ignored);
	c->ignored = copy_ignored(r);
	if (!c->ignored)
		return -ENOMEM;
	c->nr_ignored = r->nr_ignored;
	c->nr = r->nr_hot;
	c->written = r->written;
	for (size_t i = 0; i < c->nr; i++)
		memcpy(c->pages + i * PAGE, r->hot[i].p, PAGE);
	return 0;
}

void uhmm__region_copy_back(struct uhmm__region *r, const struct uhmm__region_copy *c)
{
	for (size_t i = 0; i < c->nr; i++)
		memcpy(r->hot[i].p, c->pages + i * PAGE, PAGE);
	/* Those were as saved. */
	for (size_t i = c->nr; i < r->nr_hot; i++)
		put_back(&r->hot[i]);
	put_back_ignored(r, c->ignored, c->nr_ignored);
	r->written = c->written;
}

void uhmm__region_copy_free(struct uhmm__region_copy *c)
{
	free(c->pages);
	free(c->ignored);
	*c = (struct uhmm__region_copy){ 0 };
}

/* ---- the hash ---- */

struct uhmm__hash uhmm__hash_bytes(const void *p, size_t size, struct uhmm__hash h)
{
	XXH128_hash_t x = XXH3_128bits_withSeed(p, size, h.lo);

	return (struct uhmm__hash){ x.low64, x.high64 ^ h.hi };
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

/* At most a piece. Returns: @to. */
static const void *mask_serials(uint64_t *to, const void *p, size_t size)
{
	memcpy(to, p, size);
	for (size_t i = 0; i < size / sizeof(*to); i++)
		if (uhmm__is_serial(to[i]))
			to[i] = UHMM__SERIAL;
	return to;
}

/* Of what is at @p, as if it were at @at, whatever its sequence numbers are. */
static struct uhmm__hash hash_at(const void *p, size_t size, const char *at, bool serials)
{
	uint64_t words[PIECE / sizeof(uint64_t)];

	uint64_t where = mix((uint64_t)(uintptr_t)at);
	XXH128_hash_t x;

	x = XXH3_128bits(serials ? mask_serials(words, p, size) : p, size);
	return (struct uhmm__hash){ mix(x.low64 + where), mix(x.high64 ^ where) };
}

static void change_sum(struct uhmm__region *r, struct uhmm__hash plus, struct uhmm__hash minus)
{
	r->sum.lo += plus.lo - minus.lo;
	r->sum.hi += plus.hi - minus.hi;
}

static bool has_serials(const void *p, size_t size)
{
	return uhmm__serials_in(p, size / sizeof(uint64_t));
}

/* A piece as it is now. */
static void note_piece(struct piece *piece)
{
	piece->serials = has_serials(piece->p, piece->size);
	piece->now = hash_at(piece->p, piece->size, piece->p, piece->serials);
	memcpy(piece->last, piece->p, piece->size);
}

static void add_piece(struct uhmm__region *r, const struct hot *h, const char *p, size_t size)
{
	static const char zeroes[PIECE];
	const char *saved = h->saved ? h->saved + (p - h->p) : NULL;
	struct piece *piece = &r->pieces[r->nr_pieces++];

	*piece = (struct piece){ .p = p, .saved = saved, .size = size };
	piece->first = hash_at(saved ? saved : zeroes, size, p, saved && has_serials(saved, size));
	piece->last = r->last + (size_t)(h - r->hot) * PAGE + (p - h->p);
	note_piece(piece);
	change_sum(r, piece->now, piece->first);
}

/* All of a page but for what is to be ignored of it. */
static void add_pieces(struct uhmm__region *r, const struct hot *h)
{
	const char *p = h->p, *end = p + PAGE;
	unsigned int k = 0;

	while (p < end) {
		const struct uhmm__range *skip = k < r->nr_ignored ? &r->ignored[k] : NULL;
		const char *stop = (const char *)ALIGN_DOWN((uintptr_t)p, PIECE) + PIECE;

		if (skip && skip->p + skip->size <= p) {
			k++;
			continue;
		}
		if (skip && skip->p <= p) {
			p = skip->p + skip->size;
			continue;
		}
		if (skip)
			stop = MIN(stop, skip->p);
		add_piece(r, h, p, (size_t)(stop - p));
		p = stop;
	}
}

static void make_pieces(struct uhmm__region *r)
{
	if (r->pieces_stale) {
		r->nr_pieces = r->pieces_hot = 0;
		r->sum = (struct uhmm__hash){ 0, 0 };
		r->pieces_stale = false;
	}
	for (; r->pieces_hot < r->nr_hot; r->pieces_hot++)
		add_pieces(r, &r->hot[r->pieces_hot]);
}

struct uhmm__hash uhmm__region_hash(struct uhmm__region *r)
{
	make_pieces(r);
	for (size_t i = 0; i < r->nr_pieces; i++) {
		struct piece *piece = &r->pieces[i];
		struct uhmm__hash old = piece->now;

		if (!memcmp(piece->p, piece->last, piece->size))
			continue;
		note_piece(piece);
		change_sum(r, piece->now, old);
	}
	return r->sum;
}

static void add_serials(const struct piece *piece, struct uhmm__serials *serials)
{
	const uint64_t *now = (const uint64_t *)piece->p;
	const uint64_t *saved = (const uint64_t *)piece->saved;

	for (size_t i = 0; i < piece->size / sizeof(*now); i++)
		if (uhmm__is_serial(now[i]) && (!saved || now[i] != saved[i]))
			uhmm__serials_add(serials, (uintptr_t)&now[i], now[i]);
}

void uhmm__region_serials(const struct uhmm__region *r, struct uhmm__serials *serials)
{
	uhmm__serials_know_saved(serials, &r->saved_serials);
	for (size_t i = 0; i < r->nr_pieces; i++)
		if (r->pieces[i].serials)
			add_serials(&r->pieces[i], serials);
}

void *uhmm__side_alloc(size_t size)
{
	if (uhmm__region_here)
		return uhmm__region_alloc(uhmm__region_here, STEP, size);
	return calloc(1, size);
}

void uhmm__side_free(void *p, size_t size)
{
	if (!p)
		return;
	if (uhmm__region_here)
		uhmm__region_free(uhmm__region_here, p, MAX(size, STEP));
	else
		free(p);
}

#endif /* UHMM_CHECKED */
