// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * player_fault.c - accesses: one for each recorded fault, by a CPU or by the device, and whether the
 * model faulted where the trace did.
 *
 * What is read and written is the 8-byte word around the address. A write stores a hash of the
 * access's number, so that every strategy must end with the same contents; reads go into a digest,
 * so that what was lost and then unmapped shows as well.
 */
#include <stdlib.h>
#include <string.h>

#include "mm/inspect.h"
#include "mm/write_word.h"
#include "replay/player.h"
#include "sync/task.h"

enum {
	STACK_LIMIT = 8 << 20,	/* as the model's */
	INFER_BYTES = 64 << 10, /* what is mapped around a fault without a mapping */
	SAME_TIME_NS = 100 * 1000,
};

/* One access, as recorded and decided. */
struct access {
	uhmm_vaddr_t addr;
	uint8_t kind; /* enum uhmm_trace_access, known */
	uint64_t number;
	const struct player_area *area; /* NULL: nothing is mapped there, as far as is known */
};

/*
 * The current task counts for itself alone, so differences are what happened in between. Not for what a
 * course counts (enum uhmm__course).
 */
uhmm_always_inline uint64_t counted(const struct uhmm_player *p, enum uhmm_counter c)
{
	return load_relaxed(&p->current->counters[c]);
}

uhmm_always_inline uint64_t wp_faults(const struct uhmm_player *p)
{
	return counted(p, UHMM_CNT_FAULT_COW_COPY) + counted(p, UHMM_CNT_FAULT_COW_REUSE) +
	       counted(p, UHMM_CNT_FAULT_FILE_WP);
}

/* Faults on device pages that moved them: each is a range walk of its own. */
static uint64_t walks_outside_faults(const struct uhmm_player *p)
{
	return counted(p, UHMM_CNT_WALKS) - counted(p, UHMM_CNT_FAULT_DEVICE) +
	       counted(p, UHMM_CNT_FAULT_DEVICE_WAIT);
}

/* splitmix64 */
static uint64_t hash64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static void digest(struct uhmm_player *p, uint64_t number, uint64_t value)
{
	p->digest = hash64(p->digest ^ value) + number;
}

/* ---- where ---- */

/* Whether the trace leaves mappings out, so that a fault tells of one. */
static bool may_infer(const struct uhmm_player *p, const struct player_mm *mm)
{
	return mm->infer || !p->caps->has_unmap || !p->caps->has_data_maps;
}

/*
 * A fault where nothing is mapped as far as the trace tells: assume readable, writable anonymous
 * memory in the 64 KiB around it, as far as they are free.
 */
static int infer(struct uhmm_player *p, struct player_mm *mm, const struct uhmm_trace_event *ev)
{
	struct player_area attr = {
		.prot = UHMM_TRACE_PROT_READ | UHMM_TRACE_PROT_WRITE,
		.flags = AREA_INFERRED,
	};
	uhmm_vaddr_t page = ev->fault.addr & UHMM_PAGE_MASK;
	uhmm_vaddr_t start = ALIGN_DOWN(page, INFER_BYTES), end = start + INFER_BYTES;
	struct uhmm__range r;

	if (ev->fault.access == UHMM_TRACE_ACCESS_EXEC)
		attr.prot |= UHMM_TRACE_PROT_EXEC;
	end = MIN(end, UHMM_TASK_SIZE);
	while (uhmm__area_next(&mm->areas, start, page, &r))
		start = r.end;
	if (uhmm__area_next(&mm->areas, page, end, &r))
		end = r.start;
	player_count(p, UHMM_REPLAY_INFERRED_VMAS);
	p->counts[UHMM_REPLAY_INFERRED_PAGES] += (end - start) >> UHMM_PAGE_SHIFT;
	return uhmm__player_map_range(p, mm, start, end, &attr, false);
}

/* The stack that grows if @addr is touched; false, and *@stack as it was, if there is none. */
static bool stack_above(struct player_mm *mm, uhmm_vaddr_t addr, struct uhmm__range *stack)
{
	const struct player_area *area;
	struct uhmm__range r;

	if (!uhmm__area_next(&mm->areas, addr, UHMM_TASK_SIZE, &r) || r.start <= addr)
		return false;
	area = r.value;
	if (!(area->flags & AREA_GROWSDOWN) || r.end - addr > STACK_LIMIT)
		return false;
	*stack = r;
	return true;
}

/* ---- by a CPU ---- */

/* The access itself; what it reads goes into the digest. */
uhmm_always_inline int access_memory(struct uhmm_player *p, struct player_mm *mm, uhmm_vaddr_t addr,
				     uint8_t kind, uint64_t number, struct uhmm_access *acc)
{
	uhmm_vaddr_t word = addr & ~7UL;
	uint64_t value;
	int ret;

	switch (kind) {
	case UHMM_TRACE_ACCESS_WRITE:
		value = hash64(number ^ p->config.seed);
		return uhmm_cpu_write(mm->mm, word, &value, sizeof(value), acc);
	case UHMM_TRACE_ACCESS_EXEC:
		player_count(p, UHMM_REPLAY_FETCHES);
		return uhmm_cpu_exec(mm->mm, addr, acc);
	default:
		ret = uhmm_cpu_read(mm->mm, word, &value, sizeof(value), acc);
		if (!ret)
			digest(p, number, value);
		return ret;
	}
}

/* *@wp: it faulted on a page that was there. */
static int cpu_access(struct uhmm_player *p, struct player_mm *mm, const struct access *a,
		      struct uhmm_access *acc, bool *wp)
{
	uint64_t before = wp_faults(p);
	int ret = 0;

	player_count(p, UHMM_REPLAY_CPU_ACCESSES);
	if (a->area && a->area->obj)
		ret = uhmm__player_warm(p, a->area, a->addr);
	if (!ret)
		ret = access_memory(p, mm, a->addr, a->kind, a->number, acc);
	*wp = wp_faults(p) != before;
	if (unlikely(ret > 0))
		player_count(p, UHMM_REPLAY_SIGNALS);
	return ret;
}

/* ---- by the device ---- */

static int compare_tids(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return x < y ? -1 : x > y;
}

static bool offload_chosen(const struct uhmm_player *p, const struct access *a, int32_t tid)
{
	const struct uhmm_offload *o = &p->config.offload;

	switch (o->kind) {
	case UHMM_OFFLOAD_ALL:
		return true;
	case UHMM_OFFLOAD_SHARE:
		return hash64(hash64(p->config.seed + 1) ^ a->number) >> 1 < p->share;
	case UHMM_OFFLOAD_TASKS:
		return bsearch(&tid, p->tids, o->nr_tids, sizeof(tid), compare_tids) != NULL;
	case UHMM_OFFLOAD_RANGE:
		return a->addr >= o->start && a->addr < o->end;
	default:
		return false;
	}
}

static inline bool offloaded(const struct uhmm_player *p, const struct access *a, int32_t tid)
{
	unsigned int need = a->kind == UHMM_TRACE_ACCESS_WRITE ? UHMM_TRACE_PROT_WRITE
							       : UHMM_TRACE_PROT_READ;

	if (likely(p->config.offload.kind == UHMM_OFFLOAD_NONE))
		return false;
	if (!a->area || a->area->kind != AREA_ANON || a->area->flags & AREA_HUGETLB ||
	    a->kind == UHMM_TRACE_ACCESS_EXEC || !(a->area->prot & need))
		return false;
	return offload_chosen(p, a, tid);
}

static int open_mirror(struct uhmm_player *p, struct player_mm *mm)
{
	struct uhmm_device_config config = { sizeof(config), .memory_bytes = p->config.device_bytes,
					     .exact_invalidation = true };
	int err = 0;

	if (!p->device)
		err = uhmm_device_create(p->machine, &config, &p->device);
	return err ? err : uhmm_mirror_open(p->device, mm->mm, &mm->mirror);
}

static uint64_t granule_of(const struct uhmm_player *p, uhmm_vaddr_t addr)
{
	return addr / p->config.granularity;
}

/* Whether the page is part of a huge leaf. */
static bool is_huge(const struct player_mm *mm, uhmm_vaddr_t addr)
{
	uhmm_vaddr_t page = addr & UHMM_PAGE_MASK;
	struct uhmm__scan scan;

	uhmm__scan_init(&scan, &mm->mm->pgt, page, page + UHMM_PAGE_SIZE);
	return uhmm__scan_next(&scan) && scan.huge;
}

/* A device fault was served. 0 or -ENOMEM. */
static int note_course(struct uhmm_player *p, struct player_mm *mm, const struct access *a)
{
	uint64_t granule = granule_of(p, a->addr), course;

	if (p->config.granularity == UHMM_PAGE_SIZE)
		return 0;
	course = hash64(uhmm__radix_load(&p->courses, granule) ^ a->number ^
			(is_huge(mm, a->addr) ? 1UL << 63 : 0));
	return uhmm__radix_store(&p->courses, granule, course | 1);
}

bool uhmm__player_apart(const struct uhmm_player *a, const struct uhmm_player *b, uhmm_vaddr_t addr)
{
	uint64_t granule = granule_of(a, addr);

	return uhmm__radix_load(&a->courses, granule) != uhmm__radix_load(&b->courses, granule);
}

/* 0, or -ENOMEM. */
static int device_access(struct uhmm_player *p, struct player_mm *mm, const struct access *a)
{
	bool write = a->kind == UHMM_TRACE_ACCESS_WRITE;
	uint64_t value = hash64(a->number ^ p->config.seed), walks;
	struct uhmm_device_access out = { 0 };
	int err = mm->mirror ? 0 : open_mirror(p, mm);

	if (unlikely(err))
		return err;
	walks = walks_outside_faults(p);
	player_count(p, UHMM_REPLAY_DEVICE_ACCESSES);
	err = uhmm_mirror_access(mm->mirror, a->addr & ~7UL, write, &value, p->config.strategy,
				 p->config.granularity, &out);
	if (unlikely(err)) {
		player_count(p, UHMM_REPLAY_DEVICE_FAILED);
		return err == -ENOMEM ? err : 0;
	}
	if (!write)
		digest(p, a->number, value);
	p->counts[UHMM_REPLAY_DEVICE_SERVED] += out.faulted;
	p->counts[UHMM_REPLAY_SERVICE_WALKS] += walks_outside_faults(p) - walks;
	p->counts[UHMM_REPLAY_DEVICE_REMOTE] += out.remote;
	return out.faulted ? note_course(p, mm, a) : 0;
}

/* ---- agreement ---- */

static struct recent_fault *recent_slot(struct uhmm_player *p, const struct uhmm_trace_event *ev,
					uint64_t *page)
{
	*page = (uint64_t)ev->mm << 40 ^ ev->fault.addr >> UHMM_PAGE_SHIFT;
	return &p->recent[*page % NR_RECENT];
}

/* Whether the page came with a huge one, split since then or not. */
static bool part_of_huge(const struct uhmm_player *p, const struct player_mm *mm, uhmm_vaddr_t addr)
{
	struct uhmm_machine *m = p->machine;
	uhmm_vaddr_t page = addr & UHMM_PAGE_MASK;
	struct uhmm__entry entry;
	struct uhmm__scan scan;

	uhmm__scan_init(&scan, &mm->mm->pgt, page, page + UHMM_PAGE_SIZE);
	if (!uhmm__scan_next(&scan))
		return false;
	if (scan.huge)
		return true;
	uhmm__entry_decode(m, scan.pte, &entry);
	return entry.kind == ENTRY_PAGE && entry.has_frame &&
	       folio_order(page_folio(pfn_to_frame(m, entry.pfn))) == UHMM_PMD_ORDER;
}

static enum uhmm_replay_miss why_missed(struct uhmm_player *p, const struct player_mm *mm,
					const struct player_area *area,
					const struct uhmm_trace_event *ev)
{
	const struct recent_fault *recent;
	uint64_t page;

	recent = recent_slot(p, ev, &page);
	if (recent->page == page && recent->tid != ev->tid &&
	    ev->t_ns - recent->t_ns <= SAME_TIME_NS)
		return UHMM_REPLAY_MISS_SAME_TIME;
	if (area && area_is_anon(area) && part_of_huge(p, mm, ev->fault.addr))
		return UHMM_REPLAY_MISS_HUGE;
	if (ev->fault.access == UHMM_TRACE_ACCESS_UNKNOWN && area &&
	    area->prot & UHMM_TRACE_PROT_WRITE)
		return UHMM_REPLAY_MISS_UNKNOWN_ACCESS;
	if (area && area->kind == AREA_SHARED)
		return UHMM_REPLAY_MISS_SHARED;
	if (area && area->kind == AREA_FILE)
		return area->flags & AREA_FORKED ? UHMM_REPLAY_MISS_FILE_FORK
						 : UHMM_REPLAY_MISS_FILE;
	if (area && area->kind == AREA_SPECIAL)
		return UHMM_REPLAY_MISS_SPECIAL;
	if (!p->caps->has_unmap)
		return UHMM_REPLAY_MISS_NO_UNMAP;
	if (area && area->flags & AREA_POPULATED)
		return UHMM_REPLAY_MISS_POPULATED;
	return UHMM_REPLAY_MISS_OTHER;
}

/* Whether a page was there, in the trace and in the model: @wp. */
uhmm_always_inline void compare_kind(struct uhmm_replay_agreement *g,
				     const struct player_area *area,
				     const struct uhmm_trace_event *ev, bool wp)
{
	if (ev->fault.present == UHMM_TRACE_UNKNOWN)
		return;
	if ((ev->fault.present == UHMM_TRACE_YES) == wp)
		g->same_kind++;
	else if (area && area->kind != AREA_ANON)
		g->other_kind_other++;
	else
		g->other_kind_anon++;
}

/* Anything but one fault that was served. */
static uhmm_noinline void compare_odd(struct uhmm_player *p, const struct player_mm *mm,
				      const struct player_area *area,
				      const struct uhmm_trace_event *ev,
				      const struct uhmm_access *acc, int ret, bool wp)
{
	struct uhmm_replay_agreement *g = &p->agreement;

	if (!acc->faults) {
		g->missed[why_missed(p, mm, area, ev)]++;
		return;
	}
	g->agreed++;
	g->signals += ret > 0;
	g->extra_again += acc->faults - 1;
	if (!ret)
		compare_kind(g, area, ev, wp);
}

uhmm_always_inline void compare_fault(struct uhmm_player *p, const struct player_mm *mm,
				      const struct player_area *area,
				      const struct uhmm_trace_event *ev,
				      const struct uhmm_access *acc, int ret, bool wp)
{
	if (unlikely(ret || acc->faults != 1)) {
		compare_odd(p, mm, area, ev, acc, ret, wp);
		return;
	}
	p->agreement.agreed++;
	compare_kind(&p->agreement, area, ev, wp);
}

/* A thread that is alone, as its TASK says, faults at the same time as nobody. */
uhmm_always_inline bool is_alone(const struct player_mm *mm)
{
	return mm->tid && !mm->shared;
}

static void note_recent(struct uhmm_player *p, const struct uhmm_trace_event *ev)
{
	uint64_t page;
	struct recent_fault *recent = recent_slot(p, ev, &page);

	*recent = (struct recent_fault){ page, ev->t_ns, ev->tid };
}

/* ---- events ---- */

/* The recorded kind, or the likeliest. */
static uint8_t access_kind(struct uhmm_player *p, const struct player_area *area, uint8_t recorded)
{
	if (likely(recorded != UHMM_TRACE_ACCESS_UNKNOWN))
		return recorded;
	player_count(p, UHMM_REPLAY_GUESSED_ACCESS);
	return area && area->prot & UHMM_TRACE_PROT_WRITE ? UHMM_TRACE_ACCESS_WRITE
							  : UHMM_TRACE_ACCESS_READ;
}

static void count_kind(struct uhmm_player *p, const struct player_area *area)
{
	static const uint8_t counts[] = {
		[AREA_FILE] = UHMM_REPLAY_FILE_ACCESSES,
		[AREA_SHARED] = UHMM_REPLAY_SHARED_ACCESSES,
		[AREA_SPECIAL] = UHMM_REPLAY_AS_ANON_SPECIAL,
	};

	if (!area)
		return;
	if (unlikely(area->flags & AREA_HUGETLB))
		player_count(p, UHMM_REPLAY_AS_HUGETLB);
	else if (area->kind != AREA_ANON)
		player_count(p, counts[area->kind]);
}

static uhmm_noinline int make_up_mapping(struct uhmm_player *p, struct player_mm *mm,
					 const struct uhmm_trace_event *ev, struct access *a,
					 struct uhmm__range *grows)
{
	int err;

	if (a->addr >= UHMM_TASK_SIZE || stack_above(mm, a->addr, grows) || !may_infer(p, mm))
		return 0;
	err = infer(p, mm, ev);
	a->area = area_find(&mm->areas, a->addr);
	return err;
}

/*
 * The mapping of a fault, made up if the trace has none. grows->value: of a stack that the access
 * extends, otherwise NULL.
 */
uhmm_always_inline int find_mapping(struct uhmm_player *p, struct player_mm *mm,
				    const struct uhmm_trace_event *ev, struct access *a,
				    struct uhmm__range *grows)
{
	grows->value = NULL;
	a->area = area_find(&mm->areas, a->addr);
	return likely(a->area) ? 0 : make_up_mapping(p, mm, ev, a, grows);
}

int uhmm__player_fault(struct uhmm_player *p, struct player_mm *mm,
		       const struct uhmm_trace_event *ev)
{
	struct access a;
	struct uhmm__range grows;
	struct uhmm_access acc;
	bool wp;
	int ret;

	a.addr = ev->fault.addr;
	a.number = p->accesses++;
	player_count(p, UHMM_REPLAY_FAULTS);
	ret = find_mapping(p, mm, ev, &a, &grows);
	if (unlikely(ret))
		return ret;
	a.kind = access_kind(p, grows.value ? grows.value : a.area, ev->fault.access);
	if (unlikely(p->major))
		uhmm__player_was_major(p, a.area);
	count_kind(p, a.area);
	p->agreement.faults += !ev->fault.source;
	if (unlikely(ev->fault.source || offloaded(p, &a, ev->tid))) {
		p->agreement.offloaded += !ev->fault.source;
		if (!is_alone(mm))
			note_recent(p, ev);
		return device_access(p, mm, &a);
	}
	ret = cpu_access(p, mm, &a, &acc, &wp);
	if (unlikely(ret < 0))
		return ret;
	compare_fault(p, mm, a.area, ev, &acc, ret, wp);
	if (!is_alone(mm))
		note_recent(p, ev);
	if (unlikely(grows.value) && !ret) {
		struct player_area attr = *(struct player_area *)grows.value;

		return uhmm__area_set(&mm->areas, a.addr & UHMM_PAGE_MASK, grows.start, &attr);
	}
	return 0;
}

/* CPU and thread of an event, as one number. */
uhmm_always_inline uint64_t task_of(const struct uhmm_trace_event *ev)
{
	uint64_t both;

	_Static_assert(offsetof(struct uhmm_trace_event, tid) ==
			       offsetof(struct uhmm_trace_event, cpu) + sizeof(ev->cpu),
		       "they are next to each other");
	memcpy(&both, &ev->cpu, sizeof(both));
	return both;
}

/* A fault of this task, of which all is known. */
uhmm_always_inline bool is_plain(const struct uhmm_trace_event *ev,
				 const struct uhmm_trace_event *first)
{
	return ev->kind == UHMM_TRACE_FAULT && ev->mm == first->mm &&
	       task_of(ev) == task_of(first) && ev->fault.access != UHMM_TRACE_ACCESS_UNKNOWN &&
	       !ev->fault.source;
}

/* Played, but for what did not go as most do. @acc, @ret: of the access. */
static uhmm_noinline void played_plain(struct uhmm_player *p, struct player_mm *mm,
				       const struct uhmm_trace_event *ev,
				       const struct uhmm_access *acc, int ret, uint64_t *wp)
{
	uint64_t before = *wp;

	*wp = wp_faults(p);
	if (unlikely(ret > 0))
		player_count(p, UHMM_REPLAY_SIGNALS);
	if (likely(ret >= 0))
		compare_fault(p, mm, mm->areas.last, ev, acc, ret, *wp != before);
}

/* The access of such a fault; UHMM__WROTE_NEW_PAGE is most often the answer. */
uhmm_always_inline int access_plain(struct uhmm_player *p, struct player_mm *mm,
				    const struct uhmm_trace_event *ev, uint64_t number,
				    struct uhmm_access *acc)
{
	if (likely(ev->fault.access == UHMM_TRACE_ACCESS_WRITE))
		return uhmm__cpu_write_word(mm->mm, ev->fault.addr & ~7UL,
					    hash64(number ^ p->config.seed), acc);
	return access_memory(p, mm, ev->fault.addr, ev->fault.access, number, acc);
}

size_t uhmm__player_faults(struct uhmm_player *p, struct player_mm *mm,
			   const struct uhmm_trace_event *events, size_t nr, int *err)
{
	const struct uhmm_trace_event *ev = events, *end = events + nr;
	uint64_t number = p->accesses, wp = wp_faults(p);
	bool alone = is_alone(mm);
	struct uhmm_access acc;
	int ret = 0;

	if (p->config.offload.kind != UHMM_OFFLOAD_NONE)
		return 0;
	for (; ev < end && is_plain(ev, events); number++) {
		/* uhmm__player_fault() would do more than the access. */
		if (unlikely(!area_find_plain(&mm->areas, ev->fault.addr)))
			break;
		ret = access_plain(p, mm, ev, number, &acc);
		if (likely(ret == UHMM__WROTE_NEW_PAGE)) {
			p->agreement.agreed++;
			compare_kind(&p->agreement, NULL, ev, false);
			ret = 0;
		} else {
			played_plain(p, mm, ev, &acc, ret, &wp);
		}
		if (unlikely(!alone))
			note_recent(p, ev);
		ev++;
		if (unlikely(ret < 0))
			break;
	}
	nr = (size_t)(ev - events);
	p->accesses = number;
	p->counts[UHMM_REPLAY_FAULTS] += nr;
	p->counts[UHMM_REPLAY_CPU_ACCESSES] += nr;
	p->agreement.faults += nr;
	*err = MIN(ret, 0);
	return nr;
}

/* A recorded access, fault or not; one that crosses into another page is two. */
int uhmm__player_touch(struct uhmm_player *p, struct player_mm *mm,
		       const struct uhmm_trace_event *ev)
{
	uhmm_vaddr_t last = ev->touch.addr + (ev->touch.size ? ev->touch.size - 1 : 0);
	struct access a = { .addr = ev->touch.addr };
	struct uhmm_trace_event fault = *ev;
	struct uhmm__range grows;
	struct uhmm_access acc;
	bool wp;
	int ret;

	p->counts[UHMM_REPLAY_TOUCHES] += ev->touch.repeat;
	fault.fault.access = ev->touch.access;
	for (;; a.addr = (a.addr & UHMM_PAGE_MASK) + UHMM_PAGE_SIZE) {
		fault.fault.addr = a.addr;
		a.number = p->accesses++;
		ret = find_mapping(p, mm, &fault, &a, &grows);
		if (ret)
			return ret;
		a.kind = access_kind(p, a.area, ev->touch.access);
		count_kind(p, a.area);
		if (offloaded(p, &a, ev->tid)) {
			ret = device_access(p, mm, &a);
		} else {
			ret = cpu_access(p, mm, &a, &acc, &wp);
			p->agreement.extra_touch += ret < 0 ? 0 : acc.faults;
		}
		if (ret || ((a.addr ^ last) & UHMM_PAGE_MASK) == 0)
			return ret < 0 ? ret : 0;
	}
}
