// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What a regular file has on its disk: the contents that were written back, by page offset. What is
 * not there reads as zeroes, and tags of zero are not there.
 */
#include <string.h>

#include "core/alloc.h"
#include "mm/file.h"

static struct uhmm_machine *machine_of(struct uhmm__mapping *mapping)
{
	return mapping_file(mapping)->machine;
}

static uint8_t *block_at(const struct uhmm__mapping *mapping, uint64_t index)
{
	return (uint8_t *)(uintptr_t)uhmm__radix_load(&mapping->disk, index);
}

/* The block of a page offset, a new one if there is none; NULL: the host has no memory. */
static uint8_t *block_create(struct uhmm__mapping *mapping, uint64_t index)
{
	struct uhmm_machine *m = machine_of(mapping);
	uint8_t *block = block_at(mapping, index);

	if (block)
		return block;
	block = uhmm__alloc(m, UHMM_PAGE_SIZE);
	if (block && uhmm__radix_store(&mapping->disk, index, (uintptr_t)block)) {
		uhmm__free(m, block, UHMM_PAGE_SIZE);
		return NULL;
	}
	return block;
}

int uhmm__disk_write(struct uhmm__mapping *mapping, struct uhmm__frame *f)
{
	uint64_t index = load_relaxed(&f->index);
	struct uhmm_machine *m = machine_of(mapping);
	uint8_t *block;

	if (m->tags) {
		uint64_t tag;

		uhmm__read_frame(m, frame_pfn(m, f), 0, &tag, sizeof(tag));
		if (tag)
			return uhmm__radix_store(&mapping->disk, index, tag);
		uhmm__radix_erase(&mapping->disk, index);
		return 0;
	}
	block = block_create(mapping, index);
	if (!block)
		return -ENOMEM;
	uhmm__read_frame(m, frame_pfn(m, f), 0, block, UHMM_PAGE_SIZE);
	return 0;
}

void uhmm__disk_read(struct uhmm__mapping *mapping, struct uhmm__frame *f)
{
	struct uhmm_machine *m = machine_of(mapping);
	uint64_t value = uhmm__radix_load(&mapping->disk, load_relaxed(&f->index));

	if (!value)
		return;
	if (m->tags)
		uhmm__write_frame(m, frame_pfn(m, f), 0, &value, sizeof(value));
	else
		uhmm__write_frame(m, frame_pfn(m, f), 0, (uint8_t *)(uintptr_t)value,
				  UHMM_PAGE_SIZE);
}

void uhmm__disk_peek(struct uhmm__mapping *mapping, uint64_t index, void *buf)
{
	uint64_t value = uhmm__radix_load(&mapping->disk, index);
	uint8_t *out = buf;

	if (!value) {
		memset(buf, 0, UHMM_PAGE_SIZE);
	} else if (!machine_of(mapping)->tags) {
		memcpy(buf, (uint8_t *)(uintptr_t)value, UHMM_PAGE_SIZE);
	} else {
		for (size_t off = 0; off < UHMM_PAGE_SIZE; off += sizeof(value))
			memcpy(out + off, &value, sizeof(value));
	}
}

void uhmm__disk_zero(struct uhmm__mapping *mapping, uint64_t index, size_t off, size_t len)
{
	uint8_t *block = block_at(mapping, index);

	UHMM_VM_BUG_ON(machine_of(mapping), machine_of(mapping)->tags);
	if (block)
		memset(block + off, 0, len);
}

void uhmm__disk_erase(struct uhmm__mapping *mapping, uint64_t index)
{
	struct uhmm_machine *m = machine_of(mapping);
	uint64_t value = uhmm__radix_erase(&mapping->disk, index);

	if (value && !m->tags)
		uhmm__free(m, (uint8_t *)(uintptr_t)value, UHMM_PAGE_SIZE);
}
