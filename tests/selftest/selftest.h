/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * selftest.h - what the scenarios of the kernel's HMM selftest share: four devices as its test
 * module has them, a buffer of a process with one for the device's side, series of numbers to fill
 * them with. Public interface only.
 *
 * Each scenario runs twice: once with a device-private, once with a device-coherent device.
 */
#ifndef TESTS_SELFTEST_SELFTEST_H
#define TESTS_SELFTEST_SELFTEST_H

#include "fixture.h"

#include <uhmm/pin.h>
#include <uhmm/special.h>

/* Of most scenarios' buffers, and of those of huge pages. */
#define BUFFER_BYTES (4UL << 20)
#define HUGE_BYTES UHMM_PMD_SIZE

/* Devices by number. */
enum { PRIVATE_ONE, PRIVATE_TWO, COHERENT_ONE, COHERENT_TWO, NR_DEVICES };

struct world {
	struct fixture f; /* its own devices are not used */
	bool coherent;
	struct uhmm_device *dev[NR_DEVICES];
	struct uhmm_mirror *one, *two; /* of f.mm; two only in scenarios of two devices */
};

extern struct world w;

/* @add: scenarios of one device; @add_two: of two, may be NULL. Returns: the program's status. */
int run_scenarios(const char *name, void (*add)(TCase *tc), void (*add_two)(TCase *tc));

/* For machines that differ; the fixtures of run_scenarios() call it. */
void world_create(bool coherent, bool two, enum uhmm_content content);
void world_destroy(void);

struct uhmm_mirror *open_device(unsigned int nr, struct uhmm_mm *mm);

/* ---- buffers ---- */

struct buffer {
	uhmm_vaddr_t map; /* what was mapped */
	uint64_t map_bytes;
	uhmm_vaddr_t addr; /* what is worked on */
	uint64_t bytes, npages;
	void *mirror;		 /* @bytes on the device's side */
	uint64_t cpages, faults; /* of the last operation that succeeded */
};

/* Maps @map_bytes, of which the first @bytes are worked on. */
void buffer_map(struct buffer *b, uint64_t map_bytes, uint64_t bytes, int prot, int flags,
		struct uhmm_file *file);
/* As many bytes, and ANON. */
void buffer_anon(struct buffer *b, uint64_t bytes, int prot);
/* Works on the first @bytes that are aligned to @bytes, in a mapping of @map_bytes. */
void buffer_aligned(struct buffer *b, uint64_t map_bytes, uint64_t bytes, int prot);
void buffer_free(struct buffer *b);

/* Numbers of 4 bytes: the i-th is step * i + first. */
struct series {
	int step, first;
};

#define UP ((struct series){ .step = 1 })
#define DOWN ((struct series){ .step = -1 })
#define ZEROES ((struct series){ 0 })

/* Bytes [from, to) of a buffer, whole pages. The CPU goes page by page. */
void cpu_put(struct uhmm_mm *mm, const struct buffer *b, uint64_t from, uint64_t to,
	     struct series s);
void cpu_expect(struct uhmm_mm *mm, const struct buffer *b, uint64_t from, uint64_t to,
		struct series s);
/* Adds one to each number; returns the number of those that were not of the series. */
uint64_t cpu_increment(struct uhmm_mm *mm, const struct buffer *b, struct series s);

void cpu_put_all(const struct buffer *b, struct series s);
void cpu_expect_all(const struct buffer *b, struct series s);

void mirror_put(struct buffer *b, struct series s);
void mirror_expect(const struct buffer *b, uint64_t from, uint64_t to, struct series s);
void mirror_expect_all(const struct buffer *b, struct series s);

/* ---- operations ---- */

/* Of the test driver, on @npages from b->addr on. */
int op(struct uhmm_mirror *mirror, enum uhmm_mirror_op what, struct buffer *b, uint64_t npages);
/* It must succeed for the whole buffer. */
void op_all(struct uhmm_mirror *mirror, enum uhmm_mirror_op what, struct buffer *b);
/* And by one device fault. */
void op_all_by_a_fault(struct uhmm_mirror *mirror, enum uhmm_mirror_op what, struct buffer *b);
/* Moves the buffer to w.one. */
void to_device(struct buffer *b);

/* ---- a child process ---- */

struct child {
	struct uhmm_mm *mm;
	struct uhmm_task *task; /* on CPU 1 */
};

void child_fork(struct child *c);
/* The thread is the child from here on, until child_leave(). */
void child_enter(struct child *c);
void child_leave(struct child *c);
void child_exit(struct child *c);

/* ---- scenarios for pages of either size ---- */

void anon_write_child(bool huge, bool migrate);
void migrate_partial_unmap_fault(bool huge);
void migrate_remap_fault(bool huge);

#endif /* TESTS_SELFTEST_SELFTEST_H */
