// SPDX-License-Identifier: LGPL-2.1-or-later
/* Devices, mirrors, and how a mirror follows its process. Models: the frame of lib/test_hmm.c. */
#include "mirror/mirror.h"

#include "core/alloc.h"
#include "mm/notifier.h"

static const struct uhmm_dev_pagemap_ops device_ops = {
	.migrate_to_ram = uhmm__device_migrate_to_ram,
};

int uhmm_device_create(struct uhmm_machine *m, const struct uhmm_device_config *config,
		       struct uhmm_device **out)
{
	struct uhmm_devmem_config mem = { .size = sizeof(mem) };
	struct uhmm_device *dev;
	int err;

	if (config && config->size != sizeof(*config))
		return -EINVAL;
	dev = uhmm__alloc(m, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->machine = m;
	dev->type = config ? config->type : UHMM_MEMORY_DEVICE_PRIVATE;
	dev->exact_invalidation = config && config->exact_invalidation;
	dev->huge_by_head = config && config->huge_by_head;
	dev->clearable_flags = config && config->clearable_flags;
	dev->next_id = 1;
	dev->order_of_each = config && config->order_of_each;
	uhmm__spin_init(&dev->lock, UHMM__LC_DEVICE);
	list_init(&dev->mirrors);
	mem.bytes = config ? config->memory_bytes : 0;
	mem.chunk_bytes = config ? config->chunk_bytes : 0;
	mem.type = dev->type;
	err = uhmm_devmem_create(m, &mem, dev, &device_ops, dev, &dev->pool);
	if (err) {
		uhmm__free(m, dev, sizeof(*dev));
		return err;
	}
	*out = dev;
	return 0;
}

static void device_destroy(struct uhmm_device *dev)
{
	uhmm_devmem_destroy(dev->pool);
	uhmm__free(dev->machine, dev, sizeof(*dev));
}

void uhmm_device_destroy(struct uhmm_device *dev)
{
	struct uhmm_machine *m;

	if (!dev)
		return;
	if (uhmm__current()) {
		device_destroy(dev);
		return;
	}
	m = dev->machine;
	uhmm__boot_task_enter(m);
	device_destroy(dev);
	uhmm__boot_task_leave(m, NULL);
}

struct uhmm_devmem *uhmm_device_memory(struct uhmm_device *dev)
{
	return dev->pool;
}

static uhmm_noinline bool mirror_drop(struct uhmm_mirror *mirror,
				      struct uhmm_mmu_interval_notifier *mni,
				      const struct uhmm_mmu_notifier_range *range,
				      unsigned long cur_seq)
{
	if (range->blockable)
		uhmm__mutex_lock(&mirror->mutex);
	else if (!uhmm__mutex_trylock(&mirror->mutex))
		return false;
	uhmm_mmu_interval_set_seq(mni, cur_seq);
	uhmm__device_walks_spoil(mirror, range->start, range->end);
	/* The test driver erases the page past the end as well. */
	uhmm__radix_erase_range(&mirror->pt, range->start >> UHMM_PAGE_SHIFT,
				(range->end - mirror->dev->exact_invalidation) >> UHMM_PAGE_SHIFT,
				NULL, NULL);
	uhmm__mutex_unlock(&mirror->mutex);
	return true;
}

/*
 * Models: dmirror_interval_invalidate(). What this device itself migrates is not dropped here: the
 * migration takes care of its entries.
 */
static bool mirror_invalidate(struct uhmm_mmu_interval_notifier *mni,
			      const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq)
{
	struct uhmm_mirror *mirror = mni->data;

	if (range->event == UHMM_MMU_NOTIFY_MIGRATE && range->owner == mirror->dev)
		return true;
	return mirror_drop(mirror, mni, range, cur_seq);
}

static const struct uhmm_mmu_interval_notifier_ops mirror_notifier_ops = {
	.invalidate = mirror_invalidate,
};

/* Context: dev->lock. */
static bool has_mirror(struct uhmm_device *dev, const struct uhmm_mm *mm)
{
	struct uhmm_mirror *mirror;

	uhmm__for_each_entry(mirror, &dev->mirrors, list) {
		if (mirror->mm == mm)
			return true;
	}
	return false;
}

/* A mirror is in the list while its notifier works. */
static void list_mirror(struct uhmm_device *dev, struct uhmm_mirror *mirror)
{
	uhmm__spin_lock(&dev->lock);
	mirror->id = dev->next_id++;
	store_relaxed(&dev->nr_shared, load_relaxed(&dev->nr_shared) + has_mirror(dev, mirror->mm));
	list_add_tail(&mirror->list, &dev->mirrors);
	uhmm__spin_unlock(&dev->lock);
}

static void unlist_mirror(struct uhmm_device *dev, struct uhmm_mirror *mirror)
{
	uhmm__spin_lock(&dev->lock);
	list_del(&mirror->list);
	store_relaxed(&dev->nr_shared, load_relaxed(&dev->nr_shared) - has_mirror(dev, mirror->mm));
	uhmm__spin_unlock(&dev->lock);
}

struct uhmm_mirror *uhmm__mirror_next(struct uhmm_device *dev, struct uhmm_mm *mm,
				      const struct uhmm_mirror *but, uint64_t after)
{
	struct uhmm_mirror *mirror, *found = NULL;

	uhmm__spin_lock(&dev->lock);
	uhmm__for_each_entry(mirror, &dev->mirrors, list) {
		if (mirror->mm != mm || mirror == but || mirror->id <= after)
			continue;
		atomic_fetch_add_explicit(&mirror->refs, 1, memory_order_relaxed);
		found = mirror;
		break;
	}
	uhmm__spin_unlock(&dev->lock);
	return found;
}

int uhmm_mirror_open(struct uhmm_device *dev, struct uhmm_mm *mm, struct uhmm_mirror **out)
{
	struct uhmm_machine *m = dev->machine;
	struct uhmm_mirror *mirror;
	int err;

	if (!uhmm__current() || mm->machine != m)
		return -EINVAL;
	mirror = uhmm__alloc(m, sizeof(*mirror));
	if (!mirror)
		return -ENOMEM;
	mirror->dev = dev;
	mirror->mm = mm;
	uhmm__mutex_init(&mirror->mutex, UHMM__LC_MIRROR);
	uhmm__radix_init(&mirror->pt, &m->allocator);
	list_init(&mirror->walks);
	store_relaxed(&mirror->refs, 1);
	err = uhmm_mmu_interval_notifier_insert(mm, 0, UINT64_MAX & UHMM_PAGE_MASK,
						&mirror_notifier_ops, mirror, &mirror->notifier);
	if (err) {
		uhmm__free(m, mirror, sizeof(*mirror));
		return err;
	}
	uhmm_mmgrab(mm);
	list_mirror(dev, mirror);
	*out = mirror;
	return 0;
}

void uhmm__mirror_free(struct uhmm_mirror *mirror)
{
	struct uhmm_machine *m = mirror->dev->machine;

	uhmm__radix_destroy(&mirror->pt);
	uhmm__free(m, mirror, sizeof(*mirror));
}

static void mirror_close(struct uhmm_mirror *mirror)
{
	struct uhmm_device *dev = mirror->dev;
	struct uhmm_mm *mm = mirror->mm;

	unlist_mirror(dev, mirror);
	uhmm_mmu_interval_notifier_remove(mirror->notifier);
	(void)uhmm_devmem_evict_all(dev->pool, false);
	/* A page that was busy stays; it must not lead to this mirror any more. */
	uhmm__devmem_forget(dev->pool, mirror);
	uhmm__mirror_put(mirror);
	uhmm_mmdrop(mm);
}

void uhmm_mirror_close(struct uhmm_mirror *mirror)
{
	struct uhmm_machine *m;

	if (!mirror)
		return;
	if (uhmm__current()) {
		mirror_close(mirror);
		return;
	}
	m = mirror->dev->machine;
	uhmm__boot_task_enter(m);
	mirror_close(mirror);
	uhmm__boot_task_leave(m, NULL);
}

struct uhmm_mm *uhmm_mirror_mm(struct uhmm_mirror *mirror)
{
	return mirror->mm;
}
