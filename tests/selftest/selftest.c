// SPDX-License-Identifier: LGPL-2.1-or-later
#include "selftest/selftest.h"

struct world w;

/* ---- machines ---- */

struct uhmm_mirror *open_device(unsigned int nr, struct uhmm_mm *mm)
{
	struct uhmm_mirror *mirror;

	expect_eq(uhmm_mirror_open(w.dev[nr], mm, &mirror), 0);
	return mirror;
}

void world_create(bool coherent, bool two, enum uhmm_content content)
{
	const struct uhmm_machine_config config = { .nr_cpus = 2, .content = content };
	struct uhmm_device_config device = { .size = sizeof(device), .chunk_bytes = FIXTURE_CHUNK };

	memset(&w, 0, sizeof(w));
	w.coherent = coherent;
	fixture_create(&w.f, config);
	for (unsigned int i = 0; i < NR_DEVICES; i++) {
		device.type = i < COHERENT_ONE ? UHMM_MEMORY_DEVICE_PRIVATE
					       : UHMM_MEMORY_DEVICE_COHERENT;
		expect_eq(uhmm_device_create(w.f.m, &device, &w.dev[i]), 0);
	}
	w.one = open_device(coherent ? COHERENT_ONE : PRIVATE_ONE, w.f.mm);
	if (two)
		w.two = open_device(coherent ? COHERENT_TWO : PRIVATE_TWO, w.f.mm);
}

void world_destroy(void)
{
	fixture_verify(&w.f);
	uhmm_mirror_close(w.one);
	uhmm_mirror_close(w.two);
	for (unsigned int i = 0; i < NR_DEVICES; i++)
		uhmm_device_destroy(w.dev[i]);
	fixture_destroy(&w.f);
}

static void setup_private(void)
{
	world_create(false, false, UHMM_CONTENT_BYTES);
}

static void setup_coherent(void)
{
	world_create(true, false, UHMM_CONTENT_BYTES);
}

static void setup_two_private(void)
{
	world_create(false, true, UHMM_CONTENT_BYTES);
}

static void setup_two_coherent(void)
{
	world_create(true, true, UHMM_CONTENT_BYTES);
}

int run_scenarios(const char *name, void (*add)(TCase *tc), void (*add_two)(TCase *tc))
{
	static const struct {
		const char *name;
		void (*setup)(void);
		bool two;
	} variants[] = {
		{ "device-private", setup_private, false },
		{ "device-coherent", setup_coherent, false },
		{ "two, device-private", setup_two_private, true },
		{ "two, device-coherent", setup_two_coherent, true },
	};
	Suite *suite = suite_create(name);

	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		void (*fill)(TCase *) = variants[i].two ? add_two : add;
		TCase *tc;

		if (!fill)
			continue;
		tc = tcase_create(variants[i].name);
		tcase_add_checked_fixture(tc, variants[i].setup, world_destroy);
		fill(tc);
		suite_add_tcase(suite, tc);
	}
	return run_suite(suite);
}

/* ---- buffers ---- */

void buffer_map(struct buffer *b, uint64_t map_bytes, uint64_t bytes, int prot, int flags,
		struct uhmm_file *file)
{
	*b = (struct buffer){
		.map_bytes = map_bytes,
		.bytes = bytes,
		.npages = bytes / PAGE,
		.mirror = malloc(bytes),
	};
	expect(b->mirror);
	memset(b->mirror, 0xff, bytes);
	expect_eq(uhmm_mmap(w.f.mm, 0, map_bytes, prot, flags, file, 0, &b->map), 0);
	b->addr = b->map;
}

void buffer_anon(struct buffer *b, uint64_t bytes, int prot)
{
	buffer_map(b, bytes, bytes, prot, ANON, NULL);
}

void buffer_aligned(struct buffer *b, uint64_t map_bytes, uint64_t bytes, int prot)
{
	buffer_map(b, map_bytes, bytes, prot, ANON, NULL);
	b->addr = (b->map + bytes - 1) & ~(bytes - 1);
}

void buffer_free(struct buffer *b)
{
	expect_eq(uhmm_munmap(w.f.mm, b->map, b->map_bytes), 0);
	free(b->mirror);
}

enum { PER_PAGE = PAGE / sizeof(int32_t) };

static int32_t number(struct series s, uint64_t i)
{
	return s.step * (int32_t)i + s.first;
}

static void page_fill(int32_t *page, uint64_t offset, struct series s)
{
	for (uint64_t i = 0; i < PER_PAGE; i++)
		page[i] = number(s, offset / sizeof(int32_t) + i);
}

/* Numbers that are not of the series. */
static uint64_t page_differs(const int32_t *page, uint64_t offset, struct series s)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < PER_PAGE; i++)
		n += page[i] != number(s, offset / sizeof(int32_t) + i);
	return n;
}

static void page_expect(const char *whose, const int32_t *page, uint64_t offset, struct series s)
{
	uint64_t n = page_differs(page, offset, s);

	if (n)
		ck_abort_msg("%s: %llu wrong numbers at offset %#llx, the first number is %d",
			     whose, (unsigned long long)n, (unsigned long long)offset, page[0]);
}

void cpu_put(struct uhmm_mm *mm, const struct buffer *b, uint64_t from, uint64_t to,
	     struct series s)
{
	int32_t page[PER_PAGE];

	for (uint64_t offset = from; offset < to; offset += PAGE) {
		page_fill(page, offset, s);
		expect_eq(uhmm_cpu_write(mm, b->addr + offset, page, PAGE, NULL), 0);
	}
}

void cpu_expect(struct uhmm_mm *mm, const struct buffer *b, uint64_t from, uint64_t to,
		struct series s)
{
	int32_t page[PER_PAGE];

	for (uint64_t offset = from; offset < to; offset += PAGE) {
		expect_eq(uhmm_cpu_read(mm, b->addr + offset, page, PAGE, NULL), 0);
		page_expect("process", page, offset, s);
	}
}

uint64_t cpu_increment(struct uhmm_mm *mm, const struct buffer *b, struct series s)
{
	int32_t page[PER_PAGE];
	uint64_t n = 0;

	for (uint64_t offset = 0; offset < b->bytes; offset += PAGE) {
		if (uhmm_cpu_read(mm, b->addr + offset, page, PAGE, NULL))
			return b->bytes;
		n += page_differs(page, offset, s);
		for (unsigned int i = 0; i < PER_PAGE; i++)
			page[i]++;
		if (uhmm_cpu_write(mm, b->addr + offset, page, PAGE, NULL))
			return b->bytes;
	}
	return n;
}

void cpu_put_all(const struct buffer *b, struct series s)
{
	cpu_put(w.f.mm, b, 0, b->bytes, s);
}

void cpu_expect_all(const struct buffer *b, struct series s)
{
	cpu_expect(w.f.mm, b, 0, b->bytes, s);
}

void mirror_put(struct buffer *b, struct series s)
{
	for (uint64_t offset = 0; offset < b->bytes; offset += PAGE)
		page_fill((int32_t *)b->mirror + offset / sizeof(int32_t), offset, s);
}

void mirror_expect(const struct buffer *b, uint64_t from, uint64_t to, struct series s)
{
	for (uint64_t offset = from; offset < to; offset += PAGE)
		page_expect("device", (const int32_t *)b->mirror + offset / sizeof(int32_t), offset,
			    s);
}

void mirror_expect_all(const struct buffer *b, struct series s)
{
	mirror_expect(b, 0, b->bytes, s);
}

/* ---- operations ---- */

int op(struct uhmm_mirror *mirror, enum uhmm_mirror_op what, struct buffer *b, uint64_t npages)
{
	struct uhmm_mirror_cmd cmd;
	int err = mirror_op(mirror, what, b->addr, npages, b->mirror, &cmd);

	if (!err) {
		b->cpages = cmd.cpages;
		b->faults = cmd.faults;
	}
	return err;
}

void op_all(struct uhmm_mirror *mirror, enum uhmm_mirror_op what, struct buffer *b)
{
	expect_eq(op(mirror, what, b, b->npages), 0);
	expect_eq(b->cpages, b->npages);
}

void op_all_by_a_fault(struct uhmm_mirror *mirror, enum uhmm_mirror_op what, struct buffer *b)
{
	op_all(mirror, what, b);
	expect_eq(b->faults, 1);
}

void to_device(struct buffer *b)
{
	op_all(w.one, UHMM_MIRROR_MIGRATE_TO_DEV, b);
}

/* ---- a child process ---- */

void child_fork(struct child *c)
{
	expect_eq(uhmm_mm_fork(w.f.mm, &c->mm), 0);
	expect_eq(uhmm_task_create(w.f.m, c->mm, 1, "child", &c->task), 0);
}

void child_enter(struct child *c)
{
	uhmm_task_leave();
	uhmm_task_enter(c->task);
}

void child_leave(struct child *c)
{
	(void)c;
	uhmm_task_leave();
	uhmm_task_enter(w.f.task);
}

void child_exit(struct child *c)
{
	uhmm_task_destroy(c->task);
	uhmm_mmput(c->mm);
}
