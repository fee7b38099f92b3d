// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pages come home to RAM, a window of them or the page of a CPU's fault: the driver's side. Models:
 * lib/test_hmm.c:dmirror_devmem_fault_alloc_and_copy() and dmirror_devmem_fault().
 */
#include "mirror/mirror.h"

#include "core/alloc.h"
#include "migrate/fault_page.h"
#include "migrate/migrate.h"

static void mirror_get(void *data)
{
	struct uhmm_mirror *mirror = data;

	atomic_fetch_add_explicit(&mirror->refs, 1, memory_order_relaxed);
}

/* The device has no entry of a page any more. Context: mutex. */
uhmm_always_inline void erase_entry(struct uhmm_mirror *mirror, uint64_t index)
{
	uint64_t *leaf = uhmm__radix_leaf(&mirror->pt, index), *entry;

	if (unlikely(!leaf))
		return;
	entry = &leaf[index & UHMM__RADIX_MASK];
	if (unlikely(!*entry))
		return;
	*entry = 0;
	uhmm__radix_leaf_commit(&mirror->pt, index, -1);
}

/* The folio goes: no walk may bring its entries back. */
uhmm_always_inline void erase_entries(struct uhmm_mirror *mirror, uint64_t index, uint64_t n)
{
	uhmm__mutex_lock(&mirror->mutex);
	for (uint64_t i = index; i < index + n; i++)
		erase_entry(mirror, i);
	if (unlikely(!list_empty(&mirror->walks)))
		uhmm__device_walks_spoil(mirror, index << UHMM_PAGE_SHIFT,
					 (index + n) << UHMM_PAGE_SHIFT);
	uhmm__mutex_unlock(&mirror->mutex);
}

/* Pages of a process on their way to RAM. */
struct homeward {
	struct uhmm_device *dev;
	struct uhmm_mirror *mirror; /* whose FAIL_ALLOC counts, may be NULL */
	struct uhmm_mm *mm;
};

/* Whether the process may have other mirrors on the device. */
uhmm_always_inline bool has_others(struct homeward h)
{
	return !h.mirror || h.mirror->mm != h.mm || uhmm__device_shares_mm(h.dev);
}

/* The mirrors of this process: their notifiers ignore what their device migrates. */
static uhmm_noinline void erase_others(struct homeward h, uint64_t index, uint64_t n)
{
	struct uhmm_mirror *other;

	for (uint64_t after = 0; (other = uhmm__mirror_next(h.dev, h.mm, h.mirror, after));) {
		erase_entries(other, index, n);
		after = other->id;
		uhmm__mirror_put(other);
	}
}

/* Before a folio is copied the device loses it, so that it writes no more; even if the move fails. */
uhmm_always_inline void take_from_device(struct homeward h, uint64_t index, uint64_t n)
{
	if (likely(h.mirror))
		erase_entries(h.mirror, index, n);
	if (unlikely(has_others(h)))
		erase_others(h, index, n);
}

uhmm_always_inline bool take_fail_alloc(struct homeward h)
{
	return h.mirror && uhmm__mirror_take_fail_alloc(h.mirror);
}

/* A huge page for which there was no huge one. Returns: 0 or -ENOMEM with nothing allocated. */
static uhmm_noinline int copy_in_pages(struct homeward h, uint64_t *dst, uint64_t index,
				       uhmm_pfn_t from, uint64_t n)
{
	struct uhmm_machine *m = h.dev->machine;

	for (uint64_t k = 0; k < n; k++) {
		uhmm_pfn_t to;

		if (uhmm_alloc_locked_page(m, &to)) {
			while (k--) {
				uhmm_unlock_put_page(m, uhmm_migrate_pfn_to_pfn(dst[k]));
				dst[k] = 0;
			}
			return -ENOMEM;
		}
		dst[k] = uhmm_migrate_pfn(to);
		take_from_device(h, index + k, 1);
		uhmm__copy_page_to_ram(m, to, from + k);
	}
	return 0;
}

/* One folio: its entry, pages of the process from @index on. Returns: 0 or -ENOMEM. */
static int copy_folio_home(struct homeward h, uint64_t src, uint64_t *dst, uint64_t index,
			   unsigned int order)
{
	struct uhmm_machine *m = h.dev->machine;
	uint64_t n = 1UL << order;
	uhmm_pfn_t from = uhmm_migrate_pfn_to_pfn(src), to = 0;
	int err = -ENOMEM;

	if (!take_fail_alloc(h))
		err = alloc_locked_folio(m, order, &to);
	if (unlikely(err))
		return order ? copy_in_pages(h, dst, index, from, n) : err;
	*dst = uhmm_migrate_pfn(to) | (src & UHMM_MIGRATE_PFN_WRITE) |
	       (order ? UHMM_MIGRATE_PFN_COMPOUND : 0);
	take_from_device(h, index, n);
	do
		uhmm__copy_page_to_ram(m, to++, from++);
	while (--n);
	return 0;
}

/*
 * Allocate and copy. @mirror: whose FAIL_ALLOC counts, may be NULL. Returns: 0 or -ENOMEM, with the
 * rest of dst[] empty. (q) The order of a large folio is kept for what comes after it: an entry that is
 * skipped there takes as many others along, but the address goes on by one page. Linux then reads past
 * the end of the arrays. Models: dmirror_devmem_fault_alloc_and_copy().
 */
static int copy_to_ram(struct uhmm_device *dev, struct uhmm_mirror *mirror,
		       struct uhmm_migrate_vma *args)
{
	const uint64_t moves = UHMM_MIGRATE_PFN_VALID | UHMM_MIGRATE_PFN_MIGRATE;
	struct homeward h = { dev, mirror, uhmm_vma_mm(args->vma) };
	uint64_t index = args->start >> UHMM_PAGE_SHIFT;
	unsigned int order = 0;
	int err = 0;

	for (uint64_t i = 0; i < args->npages && !err; i += 1UL << order) {
		uint64_t src = args->src[i];

		if (unlikely((src & moves) != moves)) {
			if (dev->order_of_each)
				order = 0;
			index++;
			continue;
		}
		order = 0;
		if (unlikely(src & UHMM_MIGRATE_PFN_COMPOUND))
			order = uhmm_page_order(dev->machine, uhmm_migrate_pfn_to_pfn(src));
		err = copy_folio_home(h, src, &args->dst[i], index, order);
		index += 1UL << order;
	}
	return err;
}

/* What was copied is not moved: destinations are given back unused. */
static uhmm_noinline void give_up(struct uhmm_migrate_vma *args)
{
	for (uint64_t i = 0; i < args->npages; i++)
		args->src[i] &= ~UHMM_MIGRATE_PFN_MIGRATE;
	uhmm_migrate_vma_finalize(args);
}

int uhmm__window_to_ram(struct uhmm_device *dev, struct uhmm_mirror *mirror,
			struct uhmm_migrate_vma *args)
{
	int err = copy_to_ram(dev, mirror, args);

	if (unlikely(err))
		give_up(args);
	else
		uhmm_migrate_vma_pages(args);
	return err;
}

/* ---- faults ---- */

/* A fault on a folio. Returns: UHMM_VM_FAULT_*. */
static int fault_on_folio(struct uhmm_device *dev, struct uhmm_mirror *mirror,
			  const struct uhmm_vm_fault *vmf, uint64_t *src, unsigned int order)
{
	struct uhmm_migrate_vma args = {
		.size = sizeof(args),
		.vma = vmf->vma,
		.src = src,
		.dst = src + (1UL << order),
		.start = ALIGN_DOWN(vmf->address, UHMM_PAGE_SIZE << order),
		.pgmap_owner = dev,
		.flags = UHMM_MIGRATE_VMA_SELECT_DEVICE_PRIVATE |
			 (order ? UHMM_MIGRATE_VMA_SELECT_COMPOUND : 0),
		.fault_page = vmf->page,
	};

	args.end = args.start + (UHMM_PAGE_SIZE << order);
	if (uhmm_migrate_vma_setup(&args))
		return UHMM_VM_FAULT_SIGBUS;
	if (uhmm__window_to_ram(dev, mirror, &args))
		return UHMM_VM_FAULT_OOM;
	uhmm_migrate_vma_finalize(&args);
	return 0;
}

/* On any: one page of a folio if that is mapped by a PTE, else all of it. Models: dmirror_devmem_fault(). */
static uhmm_noinline int fault_on_any(struct uhmm_device *dev, struct uhmm_mirror *mirror,
				      const struct uhmm_vm_fault *vmf)
{
	unsigned int order = vmf->pte ? 0 : uhmm_page_order(dev->machine, vmf->page);
	size_t bytes = 2 * sizeof(uint64_t) << order;
	uint64_t one[2], *src;
	int ret;

	if (!order)
		return fault_on_folio(dev, mirror, vmf, one, 0);
	src = uhmm__alloc(dev->machine, bytes);
	ret = src ? fault_on_folio(dev, mirror, vmf, src, order) : UHMM_VM_FAULT_OOM;
	uhmm__free(dev->machine, src, bytes);
	return ret;
}

/* How far the page of a fault has come on the usual way. */
enum fault_stage {
	FAULT_SET_UP,	 /* it may not have been collected, or something else */
	FAULT_NO_MEMORY, /* there is no page of RAM for it */
	FAULT_COPIED,	 /* somebody else has it, or it is not as it should be */
};

/* The rest of the way for what does not go the usual. Returns: UHMM_VM_FAULT_*. */
static uhmm_noinline int fault_rest(struct uhmm_mirror *mirror, struct uhmm_vma *vma,
				    uhmm_vaddr_t addr, uhmm_pfn_t pfn, uint64_t src, uint64_t dst,
				    enum fault_stage stage)
{
	struct uhmm_migrate_vma args = fault_page_args(fault_page_at(vma, addr, pfn), &src, &dst);

	args.npages = 1;
	args.cpages = src & UHMM_MIGRATE_PFN_MIGRATE;
	if (stage == FAULT_NO_MEMORY) {
		give_up(&args);
		return UHMM_VM_FAULT_OOM;
	}
	if (stage == FAULT_COPIED)
		uhmm_migrate_vma_pages(&args);
	else if (uhmm__window_to_ram(mirror->dev, mirror, &args))
		return UHMM_VM_FAULT_OOM;
	uhmm_migrate_vma_finalize(&args);
	return 0;
}

/* A fault on a page that is a folio by itself, as most are. Models: dmirror_devmem_fault(). */
uhmm_always_inline int fault_on_page(struct uhmm_device *dev, struct uhmm_mirror *mirror,
				     struct fault_page p)
{
	struct homeward h = { dev, mirror, p.vma->mm };
	uint64_t src = fault_page_setup(p);
	struct uhmm__frame *new;
	uhmm_pfn_t to;

	if (unlikely(!has_fault_page(p, src)))
		return fault_rest(mirror, p.vma, p.addr, p.pfn, src, 0, FAULT_SET_UP);
	new = likely(!uhmm__mirror_take_fail_alloc(mirror)) ? folio_alloc(p.m, false) : NULL;
	if (unlikely(!new))
		return fault_rest(mirror, p.vma, p.addr, p.pfn, src, 0, FAULT_NO_MEMORY);
	folio_lock_new(new);
	to = ram_pfn(p.m, new);
	take_from_device(h, p.addr >> UHMM_PAGE_SHIFT, 1);
	uhmm__copy_page_to_ram(p.m, to, p.pfn);
	if (unlikely(!fault_page_move(p, new)))
		return fault_rest(mirror, p.vma, p.addr, p.pfn, src,
				  uhmm_migrate_pfn(to) | (src & UHMM_MIGRATE_PFN_WRITE),
				  FAULT_COPIED);
	fault_page_finalize(p, new, to);
	return 0;
}

/*
 * It leads to the mirror of the process that put the page there, which need not be the one that faults, and
 * may be gone. Models: dmirror_devmem_fault().
 */
int uhmm__device_migrate_to_ram(void *data, const struct uhmm_vm_fault *vmf)
{
	struct uhmm_device *dev = data;
	struct uhmm_machine *m = dev->machine;
	struct uhmm__frame *frame = pfn_to_frame(m, vmf->page);
	struct uhmm_vma *vma = vmf->vma;
	bool alone = is_fault_page(frame) && !(vma->flags & UHMM__VM_SPECIAL);
	struct uhmm_mirror *mirror = uhmm__devmem_folio_data_get(
		dev->pool, likely(alone) ? frame : page_folio(frame), mirror_get);
	int ret;

	if (likely(alone && mirror))
		ret = fault_on_page(dev, mirror,
				    (struct fault_page){ m, vma, READ_ONCE(vmf->address),
							 READ_ONCE(vmf->page), frame, dev });
	else
		ret = fault_on_any(dev, mirror, vmf);
	uhmm__mirror_put(mirror);
	return ret;
}
