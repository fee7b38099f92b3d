/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * notifier.h - interval notifiers: how a driver learns that CPU page tables change.
 *
 * The driver's protocol is the kernel's: sample the sequence with read_begin, walk, take the
 * driver's own lock, and use the result only if read_retry says false under that lock. The
 * invalidate callback takes the same lock and calls set_seq.
 */
#ifndef UHMM_NOTIFIER_H
#define UHMM_NOTIFIER_H

#include <uhmm/mm.h>

UHMM_BEGIN_DECLS

enum uhmm_mmu_notifier_event {
	UHMM_MMU_NOTIFY_UNMAP,		 /* munmap, mremap */
	UHMM_MMU_NOTIFY_CLEAR,		 /* entries cleared: COW, zap, rmap */
	UHMM_MMU_NOTIFY_PROTECTION_VMA,	 /* mprotect */
	UHMM_MMU_NOTIFY_PROTECTION_PAGE, /* write protection of pages: fork */
	UHMM_MMU_NOTIFY_SOFT_DIRTY,
	UHMM_MMU_NOTIFY_RELEASE, /* the mm goes away */
	UHMM_MMU_NOTIFY_MIGRATE, /* migrate_vma: owner tells whose */
	UHMM_MMU_NOTIFY_EXCLUSIVE,
	UHMM_NR_MMU_NOTIFY
};

struct uhmm_mmu_notifier_range {
	struct uhmm_mm *mm;
	uhmm_vaddr_t start; /* all that is invalidated: may begin before the notifier's, */
	uhmm_vaddr_t end;   /* and end after */
	enum uhmm_mmu_notifier_event event;
	void *owner;	/* of MIGRATE and EXCLUSIVE, else NULL */
	bool blockable; /* the callback may sleep */
};

struct uhmm_mmu_interval_notifier;

struct uhmm_mmu_interval_notifier_ops {
	/**
	 * invalidate() - entries in the range change
	 * @mni: the notifier
	 * @range: what changes
	 * @cur_seq: to be passed to uhmm_mmu_interval_set_seq() under the driver's lock
	 * Returns: true; false only if !range->blockable and it would have to sleep.
	 * Context: mmap_lock or the rmap lock may be held; no PTL. Must not allocate, fault or
	 * call read_begin.
	 * A MIGRATE whose owner is the driver's own may be left alone: then the driver drops its
	 * entries of the pages itself, before uhmm_migrate_vma_finalize() - in migrate_to_ram(), too.
	 */
	bool (*invalidate)(struct uhmm_mmu_interval_notifier *mni,
			   const struct uhmm_mmu_notifier_range *range, unsigned long cur_seq);
};

/**
 * uhmm_mmu_interval_notifier_insert() - watch a range
 * @mm: mm with a user reference
 * @start: first byte
 * @length: bytes
 * @ops: callbacks, which must outlive the notifier
 * @data: the driver's, see uhmm_mmu_interval_data()
 * @out: (out) the notifier
 * Returns: 0; -EOVERFLOW the range is empty or wraps; -EINVAL no callback, or the last user of the
 * mm is gone; -ENOMEM.
 * Context: may sleep. An invalidation in progress defers the insertion; read_begin then waits.
 * Models: mmu_interval_notifier_insert(), full.
 */
UHMM_API int
uhmm_mmu_interval_notifier_insert(struct uhmm_mm *mm, uhmm_vaddr_t start, uint64_t length,
				  const struct uhmm_mmu_interval_notifier_ops *ops, void *data,
				  struct uhmm_mmu_interval_notifier **out) UHMM_MUST_CHECK;

/**
 * uhmm_mmu_interval_notifier_remove() - stop watching and free
 * @mni: notifier, NULL allowed
 * Context: sleeps until no callback can be running; not from a callback, not under a lock that
 * the callback takes. Models: mmu_interval_notifier_remove(), full.
 */
UHMM_API void uhmm_mmu_interval_notifier_remove(struct uhmm_mmu_interval_notifier *mni);

/** uhmm_mmu_interval_data() - the data given at insertion. */
UHMM_API void *uhmm_mmu_interval_data(const struct uhmm_mmu_interval_notifier *mni);

/** uhmm_mmu_interval_mm() - the mm that is watched. */
UHMM_API struct uhmm_mm *uhmm_mmu_interval_mm(const struct uhmm_mmu_interval_notifier *mni);

/**
 * uhmm_mmu_interval_read_begin() - start of a read side
 * Returns: the sequence to give to read_retry.
 * Context: sleeps while the notifier's range is being invalidated; so the caller must be inside no
 * invalidation of its own. Models: mmu_interval_read_begin(), full.
 */
UHMM_API unsigned long uhmm_mmu_interval_read_begin(struct uhmm_mmu_interval_notifier *mni);

/**
 * uhmm_mmu_interval_read_retry() - end of a read side
 * Returns: true if the range was invalidated since read_begin: throw the result away.
 * Context: under the lock that the invalidate callback takes. Models: mmu_interval_read_retry().
 */
UHMM_API bool uhmm_mmu_interval_read_retry(struct uhmm_mmu_interval_notifier *mni,
					   unsigned long seq);

/**
 * uhmm_mmu_interval_set_seq() - note an invalidation
 * Context: in the invalidate callback, under the driver's lock.
 */
UHMM_API void uhmm_mmu_interval_set_seq(struct uhmm_mmu_interval_notifier *mni,
					unsigned long cur_seq);

UHMM_END_DECLS

#endif /* UHMM_NOTIFIER_H */
