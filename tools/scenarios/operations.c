// SPDX-License-Identifier: LGPL-2.1-or-later
/* Who writes what, and accesses: by CPUs, by devices, by those who pin. */
#include "operations.h"

uhmm_vaddr_t place_addr(const struct all *all, unsigned int place)
{
	const struct shape *s = all->shape;

	return OPERATIONS_AT +
	       (uint64_t)(s->copy[place / PAGES] + s->page[page_of(place)]) * UHMM_PAGE_SIZE;
}

/* The place of the page at @addr, or -1. */
static int place_at(const struct all *all, uhmm_vaddr_t addr)
{
	for (unsigned int place = 0; place < PLACES; place++)
		if (place_addr(all, place) == (addr & UHMM_PAGE_MASK))
			return (int)place;
	return -1;
}

/* ---- ranges ---- */

/* To whole huge pages, with the places that they have. */
static void widen(const struct all *all, struct range *r)
{
	uhmm_vaddr_t end = (r->start + r->len + UHMM_PMD_SIZE - 1) & ~(UHMM_PMD_SIZE - 1);

	r->start &= ~(UHMM_PMD_SIZE - 1);
	r->len = end - r->start;
	while (r->first && place_addr(all, r->first - 1) >= r->start) {
		r->first--;
		r->n++;
	}
	while (r->first + r->n < PLACES && place_addr(all, r->first + r->n) < end)
		r->n++;
}

struct range pick_range(const struct actor *a)
{
	unsigned int first = pick(PLACES), n = 1 + pick(MAX_RANGE);
	struct range r = { .first = first, .start = place_addr(a->all, first) };

	r.n = n > PLACES - first ? PLACES - first : n;
	r.len = place_addr(a->all, first + r.n - 1) + UHMM_PAGE_SIZE - r.start;
	if (a->all->shape->huge && pick(2))
		widen(a->all, &r);
	return r;
}

static bool owns(const struct actor *a, unsigned int place)
{
	return page_of(place) % a->process->nr_writers == a->writer;
}

unsigned int pick_own(const struct actor *a)
{
	unsigned int place;

	do
		place = pick(PLACES);
	while (!owns(a, place));
	return place;
}

/* ---- contents ---- */

void change_begin(struct process *p, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		p->places[i].changed++;
		p->places[i].active++;
		p->places[i].unknown = true;
	}
}

void change_end(struct process *p, unsigned int first, unsigned int n)
{
	for (unsigned int i = first; i < first + n; i++) {
		p->places[i].changed++;
		p->places[i].active--;
	}
}

void see_child(const struct all *all, uhmm_vaddr_t addr, uint64_t value, const char *how)
{
	int place = place_at(all, addr);
	uint64_t page = place < 0 ? 0 : page_of((unsigned int)place) + 1;

	if (value && value >> 56 != page)
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "%s at %#lx: %#lx is of another page",
				   how, addr, value);
}

void see(const struct actor *a, uhmm_vaddr_t addr, uint64_t value, const char *how)
{
	int place = place_at(a->all, addr);
	const struct place *p = &a->process->places[place < 0 ? 0 : place];

	see_child(a->all, addr, value, how);
	if (place >= 0 && owns(a, (unsigned int)place) && !p->unknown && value != p->value)
		uhmm_scenario_fail(UHMM_VERDICT_LOST_DATA, "%s at %#lx: %#lx, and %#lx was written",
				   how, addr, value, p->value);
}

uint64_t new_value(struct actor *a, unsigned int page)
{
	return (uint64_t)(page + 1) << 56 | (uint64_t)(a - a->all->actors + 1) << 48 |
	       ++a->nr_written;
}

uint64_t write_begin(struct actor *a, unsigned int place, unsigned int *changed)
{
	struct place *places = a->process->places;

	for (unsigned int i = page_of(place); i < PLACES && a->process->aliased; i += PAGES)
		if (i != place)
			places[i].unknown = true;
	*changed = places[place].changed;
	return new_value(a, page_of(place));
}

void write_end(struct actor *a, unsigned int place, uint64_t value, unsigned int changed,
	       bool written)
{
	struct place *p = &a->process->places[place];

	if (!written)
		return;
	p->value = value;
	p->unknown = p->active || p->changed != changed;
}

/* ---- CPUs ---- */

static void cpu_write(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	uint64_t value = write_begin(a, place, &changed);
	int sig = uhmm_cpu_write(a->process->mm, place_addr(a->all, place), &value, sizeof(value),
				 NULL);

	write_end(a, place, value, changed, !sig);
}

/* Of huge pages what lies between, too. */
static void cpu_read(struct actor *a)
{
	unsigned int place = pick(PLACES);
	uhmm_vaddr_t addr = place_addr(a->all, place);
	uint64_t value = 0;

	if (a->all->shape->huge && !pick(4))
		addr = place_addr(a->all, place - page_of(place)) +
		       pick(a->all->shape->copy_pages) * UHMM_PAGE_SIZE;
	if (!uhmm_cpu_read(a->process->mm, addr, &value, sizeof(value), NULL))
		see(a, addr, value, "CPU read");
}

/* What is mapped may not be executed, mostly. */
static void cpu_exec(struct actor *a)
{
	uhmm_vaddr_t addr = place_addr(a->all, pick(PLACES));

	if (pick(2))
		(void)uhmm_mprotect(a->process->mm, addr, UHMM_PAGE_SIZE,
				    PROT_READ | PROT_WRITE | PROT_EXEC);
	(void)uhmm_cpu_exec(a->process->mm, addr, NULL);
}

/* ---- devices ---- */

static struct uhmm_mirror *pick_mirror(const struct actor *a)
{
	return a->process->mirror[pick(DEVICES)];
}

/* What devices may not say: memory is not short, unless one was told so. */
static void device_expect(const struct actor *a, int64_t err, const char *what)
{
	if ((err == -ENOMEM && !a->all->fails) || err > 0)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "%s: %ld", what, err);
}

static uint64_t pick_granularity(const struct actor *a)
{
	if (!a->all->shape->huge)
		return UHMM_PAGE_SIZE << pick(3);
	return pick(2) ? UHMM_PMD_SIZE : UHMM_PAGE_SIZE << pick(10);
}

static void device_access(struct actor *a)
{
	bool write = pick(2);
	unsigned int place = write ? pick_own(a) : pick(PLACES), changed = 0;
	uhmm_vaddr_t addr = place_addr(a->all, place);
	uint64_t value = write ? write_begin(a, place, &changed) : 0;
	int err = uhmm_mirror_access(pick_mirror(a), addr, write, &value,
				     (enum uhmm_strategy)pick(UHMM_NR_STRATEGIES),
				     pick_granularity(a), NULL);

	device_expect(a, err, "device access");
	if (write)
		write_end(a, place, value, changed, !err);
	else if (!err)
		see(a, addr, value, "device read");
}

/* A fault on a range, of up to what a window holds. */
static void device_serve(struct actor *a)
{
	struct range r = pick_range(a);
	uint64_t len = r.len > UHMM_PMD_SIZE ? UHMM_PMD_SIZE : r.len;
	int err = uhmm_mirror_serve(pick_mirror(a), r.start, r.start + len, pick(2),
				    (enum uhmm_strategy)pick(UHMM_NR_STRATEGIES), NULL);

	device_expect(a, err, "device fault");
}

static void device_write(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	struct uhmm_mirror_cmd cmd = {
		.addr = place_addr(a->all, place),
		.npages = 1,
		.ptr = a->buf,
	};
	uint64_t value;
	int err;

	/* A word stands for its page. */
	value = write_begin(a, place, &changed);
	for (unsigned int i = 0; i < UHMM_PAGE_SIZE / 8; i++)
		a->buf[i] = value;
	err = uhmm_mirror_ioctl(pick_mirror(a), UHMM_MIRROR_WRITE, &cmd);
	device_expect(a, err, "WRITE");
	write_end(a, place, value, changed, !err);
}

/* Operations that give contents come first; they do all but that for ranges that are too long. */
static void device_op(struct actor *a)
{
	enum { WITH_CONTENTS = 6 };
	static const enum uhmm_mirror_op ops[] = {
		UHMM_MIRROR_READ,
		UHMM_MIRROR_READ_UNLOCKED,
		UHMM_MIRROR_MIGRATE_TO_DEV,
		UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV,
		UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV,
		UHMM_MIRROR_EXCLUSIVE,
		UHMM_MIRROR_MIGRATE_TO_SYS,
		UHMM_MIRROR_SNAPSHOT,
		UHMM_MIRROR_CHECK_EXCLUSIVE,
	};
	unsigned int i = pick(sizeof(ops) / sizeof(ops[0]));
	struct range r = pick_range(a);
	bool contents = i < WITH_CONTENTS && r.len <= sizeof(a->buf);
	struct uhmm_mirror_cmd cmd = {
		.addr = r.start,
		.npages = r.len / UHMM_PAGE_SIZE,
		.ptr = contents || ops[i] == UHMM_MIRROR_SNAPSHOT ? a->buf : NULL,
	};
	int err = uhmm_mirror_ioctl(pick_mirror(a), ops[i], &cmd);

	device_expect(a, err, "operation of the mirror");
	for (uint64_t at = 0; at < r.len && contents && !err; at += UHMM_PAGE_SIZE)
		see(a, r.start + at, a->buf[at / 8], "operation of the mirror");
}

/* The device's next allocation fails. */
static void device_fails(struct actor *a)
{
	struct uhmm_mirror_cmd cmd = {
		.addr = place_addr(a->all, 0),
		.npages = UHMM_MIRROR_FLAG_FAIL_ALLOC,
	};

	a->all->fails = true;
	device_expect(a, uhmm_mirror_ioctl(pick_mirror(a), UHMM_MIRROR_FLAGS, &cmd), "FLAGS");
}

static void evict(struct actor *a)
{
	struct uhmm_devmem *pool = uhmm_device_memory(a->all->dev[pick(DEVICES)]);
	uint64_t most = a->all->shape->huge && pick(2) ? UHMM_PMD_SIZE / UHMM_PAGE_SIZE : MAX_RANGE;
	int64_t n = pick(2) ? uhmm_devmem_evict(pool, 1 + pick((unsigned int)most))
			    : uhmm_devmem_evict_all(pool, false);

	uhmm_scenario_expect(UHMM_VERDICT_WRONG_RESULT, n >= 0);
}

/* A mirror that is opened beside the others, and closed: all device memory goes home. */
static void open_and_close(struct actor *a)
{
	struct uhmm_mirror *mirror;

	if (uhmm_mirror_open(a->all->dev[pick(DEVICES)], a->process->mm, &mirror))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "the device cannot be opened");
	uhmm_mirror_close(mirror);
}

/* ---- references and pins ---- */

/* Keep them while others go on: for up to some hundred of their steps. */
static void hold(void)
{
	uhmm_sched_sleep(1000UL * (1 + pick(300)));
}

/* One page, written by its number as a device does that has pinned it. */
static void pin_and_write(struct actor *a)
{
	unsigned int place = pick_own(a), changed;
	uint64_t value = write_begin(a, place, &changed);
	uhmm_pfn_t page;
	int64_t got = uhmm_pin_user_pages(a->process->mm, place_addr(a->all, place), 1,
					  UHMM_FOLL_WRITE, &page);

	device_expect(a, got == 1 ? 0 : got, "pin");
	if (got != 1)
		return;
	hold();
	uhmm_page_write(a->all->m, page, 0, &value, sizeof(value));
	uhmm_set_page_dirty_lock(a->all->m, page);
	uhmm_unpin_user_pages(a->all->m, &page, 1);
	write_end(a, place, value, changed, true);
}

typedef int64_t get_fn(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t npages, unsigned int flags,
		       uhmm_pfn_t *pages);

static void get_and_read(struct actor *a)
{
	static get_fn *const get[] = { uhmm_pin_user_pages, uhmm_pin_user_pages_fast,
				       uhmm_get_user_pages, uhmm_get_user_pages_fast };
	static const unsigned int flags[] = { 0, UHMM_FOLL_WRITE, UHMM_FOLL_NOFAULT,
					      UHMM_FOLL_HONOR_NUMA_FAULT, UHMM_FOLL_LONGTERM };
	unsigned int how = pick(4), n = 1 + pick(MAX_RANGE);
	bool pins = how < 2;
	uhmm_vaddr_t start = place_addr(a->all, pick(PLACES));
	uhmm_pfn_t pages[MAX_RANGE];
	int64_t got = get[how](a->process->mm, start, n, flags[pick(pins ? 5 : 4)], pages);

	device_expect(a, got > 0 ? 0 : got, "get");
	hold();
	for (int64_t i = 0; i < got; i++) {
		uint64_t value;

		uhmm_page_read(a->all->m, pages[i], 0, &value, sizeof(value));
		see_child(a->all, start + (uint64_t)i * UHMM_PAGE_SIZE, value, "page");
	}
	if (got > 0)
		(pins ? uhmm_unpin_user_pages : uhmm_put_user_pages)(a->all->m, pages,
								     (uint64_t)got);
}

/* A page taken from the CPUs, as for a device's atomic operations, by a driver of the task's own. */
static void take_exclusive(struct actor *a)
{
	struct uhmm_mm *mm = a->process->mm;
	uhmm_vaddr_t addr = place_addr(a->all, pick(PLACES));
	uhmm_pfn_t page;
	uint64_t value;
	int err;

	uhmm_mmap_read_lock(mm);
	err = uhmm_make_device_exclusive(mm, addr, a, &page);
	uhmm_mmap_read_unlock(mm);
	device_expect(a, err, "exclusive");
	if (err)
		return;
	uhmm_unlock_page(a->all->m, page);
	hold();
	uhmm_page_read(a->all->m, page, 0, &value, sizeof(value));
	see_child(a->all, addr, value, "exclusive page");
	uhmm_put_user_pages(a->all->m, &page, 1);
}

void access_operation(struct actor *a)
{
	/* Accesses come more often, so that there is something to operate on. */
	static operation *const ops[] = {
		cpu_write,	cpu_write,	cpu_write,     cpu_read,     cpu_read,
		cpu_exec,	device_access,	device_access, device_op,    device_op,
		device_op,	device_op,	device_write,  device_serve, device_fails,
		evict,		open_and_close, get_and_read,  get_and_read, pin_and_write,
		take_exclusive,
	};

	ops[pick(sizeof(ops) / sizeof(ops[0]))](a);
}
