// SPDX-License-Identifier: LGPL-2.1-or-later
#include "huge.h"

void huge_configure(struct uhmm_machine_config *config)
{
	config->ram_bytes = 16UL << 20;
	config->device_bytes = 8UL << 20;
}

static int open_devices(struct huge *h)
{
	struct uhmm_device_config config = {
		.size = sizeof(config),
		.memory_bytes = HUGE_MAX * UHMM_PMD_SIZE,
	};
	int err = 0;

	for (unsigned int i = 0; i < 2 && !err; i++)
		err = uhmm_device_create(h->m, &config, &h->dev[i]);
	if (!err)
		err = uhmm_mirror_open(h->dev[0], h->mm, &h->mirror);
	return err ? err : uhmm_mirror_open(h->dev[1], h->mm, &h->other);
}

int huge_setup(struct uhmm_machine *m, uhmm_vaddr_t start, unsigned int n, struct huge **out)
{
	struct huge *h = uhmm_scenario_alloc(sizeof(*h));
	uhmm_vaddr_t end = HUGE_AT + n * UHMM_PMD_SIZE;
	int err;

	if (!h)
		return -ENOMEM;
	*out = h;
	h->m = m;
	err = uhmm_mm_create(m, &h->mm);
	if (!err)
		err = open_devices(h);
	if (!err)
		err = uhmm_mmap(h->mm, start, end - start, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0, NULL);
	if (!err)
		err = uhmm_madvise(h->mm, start, end - start, MADV_HUGEPAGE);
	for (unsigned int i = 0; i < n && !err; i++)
		huge_write(h->mm, (int)(i * HUGE_PAGES), 1);
	return err;
}

int huge_to_device(struct huge *h, unsigned int i)
{
	uhmm_vaddr_t at = HUGE_AT + i * UHMM_PMD_SIZE;

	return uhmm_mirror_serve(h->mirror, at, at + UHMM_PMD_SIZE, true,
				 UHMM_MIGRATE_FAULT_MIGRATE, NULL);
}

int huge_fork(struct huge *h)
{
	return uhmm_mm_fork(h->mm, &h->child);
}

void *huge_owner(struct huge *h, unsigned int i)
{
	return uhmm_devmem_owner(uhmm_device_memory(h->dev[i]));
}

void huge_collect(struct uhmm_mm *mm, struct uhmm_migrate_vma *args)
{
	uhmm_mmap_read_lock(mm);
	args->vma = uhmm_vma_lookup(mm, args->start);
	if (uhmm_migrate_vma_setup(args))
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "migrate_vma_setup() failed");
	uhmm_migrate_vma_finalize(args);
	uhmm_mmap_read_unlock(mm);
}

static uhmm_vaddr_t page_addr(int page)
{
	return HUGE_AT + (uhmm_vaddr_t)((int64_t)page * (int64_t)UHMM_PAGE_SIZE);
}

uint64_t huge_read(struct uhmm_mm *mm, int page)
{
	uint64_t value = 0;
	int sig = uhmm_cpu_read(mm, page_addr(page), &value, sizeof(value), NULL);

	if (sig)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "reading page %d gave signal %d",
				   page, sig);
	return value;
}

void huge_write(struct uhmm_mm *mm, int page, uint64_t value)
{
	int sig = uhmm_cpu_write(mm, page_addr(page), &value, sizeof(value), NULL);

	if (sig)
		uhmm_scenario_fail(UHMM_VERDICT_WRONG_RESULT, "writing page %d gave signal %d",
				   page, sig);
}
