// SPDX-License-Identifier: LGPL-2.1-or-later
/* A process writes a page, a device takes it, the process takes it back. */
#include <stdio.h>
#include <sys/mman.h>
#include <uhmm/uhmm.h>

#define CHECK(call)                                                                                \
	do {                                                                                       \
		int err_ = (call);                                                                 \
		if (err_)                                                                          \
			return fprintf(stderr, "%s: %d\n", #call, err_), 1;                        \
	} while (0)

int main(void)
{
	struct uhmm_machine *m;
	struct uhmm_mm *mm;
	struct uhmm_task *task;
	struct uhmm_device *gpu;
	struct uhmm_mirror *mirror;
	struct uhmm_device_access met;
	const uhmm_vaddr_t addr = 0x10000000;
	uint64_t v = 42;

	CHECK(uhmm_machine_create(NULL, &m)); /* 2 CPUs, 1 TiB of RAM that costs nothing */
	CHECK(uhmm_mm_create(m, &mm));
	CHECK(uhmm_task_create(m, mm, 0, "first", &task));
	uhmm_task_enter(task); /* from here on this thread runs on simulated CPU 0 */
	CHECK(uhmm_device_create(m, NULL, &gpu));
	CHECK(uhmm_mirror_open(gpu, mm, &mirror));
	CHECK(uhmm_mmap(mm, addr, 1 << 21, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL));
	CHECK(uhmm_cpu_write(mm, addr, &v, sizeof(v), NULL)); /* an ordinary page fault */

	v = 43; /* the device writes; its fault moves 16 pages by one combined walk */
	CHECK(uhmm_mirror_access(mirror, addr, true, &v, UHMM_COMBINED, 65536, &met));
	printf("the device took %llu pages\n", (unsigned long long)met.migrated);
	CHECK(uhmm_cpu_read(mm, addr, &v, sizeof(v), NULL)); /* the fault brings one home */
	printf("the CPU reads %llu\n", (unsigned long long)v);
	printf("%d violations\n", uhmm_machine_verify(m));

	uhmm_mirror_close(mirror);
	uhmm_device_destroy(gpu);
	uhmm_task_leave();
	uhmm_task_destroy(task);
	uhmm_mmput(mm);
	uhmm_machine_destroy(m);
	return 0;
}
