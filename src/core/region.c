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
enum { MAX_IGNORED = 600, MAX_SPARSE_PAGES = SPARSE_SIZE / PAGE };

#define POISON_BYTE 0x6b
#define POISON_WORD 0x6b6b6b6b6b6b6b6bUL

struct freed {
	struct freed *next;
};

struct range {
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

struct uhmm__region {
	struct state *state; /* = the base of the mapping */
	char *sparse, *stacks;
	/* Pages of the reservations that were touched, in that order. */
	char **touched;
	size_t nr_touched, size_touched;
	/* What is left out of the hash, by address. */
	struct range *ignored, *ignored_copy;
	unsigned int nr_ignored, size_ignored;
	/* The saved state: of the lanes, one after the other, and of the first of the touched pages. */
	char *heap_copy, *sparse_copy;
	size_t saved[UHMM__REGION_LANES], sparse_saved;
	unsigned int ignored_saved;
	const void *written; /* found by an allocation */
};

_Thread_local unsigned int uhmm__region_lane;
_Thread_local struct uhmm__region *uhmm__region_here;

int uhmm__region_create(struct uhmm__region **out)
{
	struct uhmm__region *r = calloc(1, sizeof(*r));
	char *base;

	if (!r)
		return -ENOMEM;
	base = mmap(WANTED_BASE, REGION_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		free(r);
		return -ENOMEM;
	}
	/* Pages are counted one by one here. */
	(void)madvise(base, REGION_SIZE, MADV_NOHUGEPAGE);
	r->state = (struct state *)base;
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
	munmap(r->state, REGION_SIZE);
	if (r->touched)
		munmap(r->touched, r->size_touched * sizeof(*r->touched));
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
	const uint64_t *w = (const uint64_t *)f;

	for (size_t i = 1; i < size / sizeof(*w); i++)
		if (w[i] != POISON_WORD)
			return false;
	return true;
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

bool uhmm__region_touch(struct uhmm__region *r, const void *addr)
{
	char *p = (char *)ALIGN_DOWN((uintptr_t)addr, PAGE);

	if (p < r->sparse || p >= r->state->top)
		return false;
	if (r->nr_touched == r->size_touched) {
		/* malloc() may be what was interrupted, so memory comes from elsewhere. */
		size_t size = r->size_touched ? 2 * r->size_touched : PAGE / sizeof(char *);
		char **v = mmap(NULL, size * sizeof(*v), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (v == MAP_FAILED)
			return false;
		if (r->touched)
			memcpy(v, r->touched, r->nr_touched * sizeof(*v));
		if (r->touched)
			munmap(r->touched, r->size_touched * sizeof(*v));
		r->touched = v;
		r->size_touched = size;
	}
	if (mprotect(p, PAGE, PROT_READ | PROT_WRITE))
		return false;
	r->touched[r->nr_touched++] = p;
	return true;
}

/* ---- save, restore, compare ---- */

static int by_address(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return (x->p > y->p) - (x->p < y->p);
}

int uhmm__region_ignore(struct uhmm__region *r, const void *p, size_t size)
{
	if (r->nr_ignored == r->size_ignored) {
		unsigned int n = r->size_ignored ? 2 * r->size_ignored : 64;
		struct range *v = realloc(r->ignored, n * sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->ignored = v;
		r->size_ignored = n;
	}
	r->ignored[r->nr_ignored++] = (struct range){ p, size };
	qsort(r->ignored, r->nr_ignored, sizeof(*r->ignored), by_address);
	return 0;
}

/* Copies the used part of every lane. @back: into the region. */
static void copy_lanes(struct uhmm__region *r, bool back)
{
	char *copy = r->heap_copy;

	for (unsigned int i = 0; i < UHMM__REGION_LANES; i++) {
		char *lane = lane_start(r, i);

		memcpy(back ? lane : copy, back ? copy : lane, r->saved[i]);
		copy += r->saved[i];
	}
}

int uhmm__region_save(struct uhmm__region *r)
{
	size_t heap = 0;

	for (unsigned int i = 0; i < UHMM__REGION_LANES; i++) {
		r->saved[i] = (size_t)(r->state->lanes[i].brk - lane_start(r, i));
		heap += r->saved[i];
	}
	free(r->heap_copy);
	free(r->sparse_copy);
	free(r->ignored_copy);
	r->heap_copy = malloc(heap);
	r->sparse_copy = malloc(MAX(r->nr_touched, 1) * PAGE);
	r->ignored_copy = malloc(MAX(r->nr_ignored, 1) * sizeof(*r->ignored));
	if (!r->heap_copy || !r->sparse_copy || !r->ignored_copy)
		return -ENOMEM;
	copy_lanes(r, false);
	r->sparse_saved = r->nr_touched;
	for (size_t i = 0; i < r->nr_touched; i++)
		memcpy(r->sparse_copy + i * PAGE, r->touched[i], PAGE);
	r->ignored_saved = r->nr_ignored;
	if (r->nr_ignored)
		memcpy(r->ignored_copy, r->ignored, r->nr_ignored * sizeof(*r->ignored));
	return 0;
}

void uhmm__region_restore(struct uhmm__region *r)
{
	copy_lanes(r, true);
	for (size_t i = 0; i < r->sparse_saved; i++)
		memcpy(r->touched[i], r->sparse_copy + i * PAGE, PAGE);
	for (size_t i = r->sparse_saved; i < r->nr_touched; i++)
		memset(r->touched[i], 0, PAGE);
	r->nr_ignored = r->ignored_saved;
	if (r->nr_ignored)
		memcpy(r->ignored, r->ignored_copy, r->nr_ignored * sizeof(*r->ignored));
	r->written = NULL;
}

static bool is_zero(const char *page)
{
	const uint64_t *w = (const uint64_t *)page;
	uint64_t any = 0;

	for (size_t i = 0; i < PAGE / sizeof(*w); i += 8) {
		for (size_t k = 0; k < 8; k++)
			any |= w[i + k];
		if (any)
			return false;
	}
	return true;
}

/* One lane, but for what is to be ignored of it. */
static void hash_lane(const struct uhmm__region *r, unsigned int i, XXH3_state_t *x)
{
	const char *p = lane_start(r, i), *end = r->state->lanes[i].brk;

	for (unsigned int k = 0; k < r->nr_ignored; k++) {
		const struct range *skip = &r->ignored[k];

		if (skip->p < p || skip->p >= end)
			continue;
		XXH3_128bits_update(x, p, (size_t)(skip->p - p));
		p = skip->p + skip->size;
	}
	XXH3_128bits_update(x, p, (size_t)(end - p));
}

struct uhmm__hash uhmm__hash_bytes(const void *p, size_t size, struct uhmm__hash h)
{
	XXH128_hash_t x = XXH3_128bits_withSeed(p, size, h.lo);

	return (struct uhmm__hash){ x.low64, x.high64 ^ h.hi };
}

struct uhmm__hash uhmm__region_hash(struct uhmm__region *r)
{
	struct uhmm__hash sum = { 0, 0 };
	XXH3_state_t x;
	XXH128_hash_t h;

	/* In any order, and without those that are as if never touched. */
	for (size_t i = 0; i < r->nr_touched; i++) {
		if (is_zero(r->touched[i]))
			continue;
		h = XXH3_128bits_withSeed(r->touched[i], PAGE,
					  (XXH64_hash_t)(r->touched[i] - r->sparse));
		sum.lo += h.low64;
		sum.hi += h.high64;
	}
	XXH3_128bits_reset(&x);
	XXH3_128bits_update(&x, &sum, sizeof(sum));
	for (unsigned int i = 0; i < UHMM__REGION_LANES; i++)
		hash_lane(r, i, &x);
	h = XXH3_128bits_digest(&x);
	return (struct uhmm__hash){ h.low64, h.high64 };
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
