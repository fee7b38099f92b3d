/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mirror.h - the simulated GPU: a device with memory and page tables of its own.
 *
 * A device is what lib/test_hmm.c calls a dmirror device; a mirror is one process's open file of it:
 * device page tables that follow the process's by a notifier. The operations are those of the test
 * driver's ioctls, with the same counts and errno values; addr and npages are theirs. On top comes
 * the fault service for access by access simulation, with the three strategies.
 *
 * Every operation needs a current task of the machine, takes mmap_lock itself and sleeps.
 */
#ifndef UHMM_MIRROR_H
#define UHMM_MIRROR_H

#include <uhmm/devmem.h>
#include <uhmm/migrate.h>

UHMM_BEGIN_DECLS

struct uhmm_device;
struct uhmm_mirror;

/* How a device fault on a range is served. */
enum uhmm_strategy {
	UHMM_FAULT_THEN_MIGRATE,    /* hmm_range_fault, then migrate_vma_*: 2 walks */
	UHMM_MIGRATE_FAULT_MIGRATE, /* migrate_vma_*; if need be the above: 1 or 3 walks */
	UHMM_COMBINED,		    /* one walk that faults and installs migration entries */
	UHMM_NR_STRATEGIES
};

/** uhmm_strategy_name() - "fault-then-migrate", "migrate-fault-migrate", "combined"; or NULL. */
UHMM_API const char *uhmm_strategy_name(enum uhmm_strategy s);

struct uhmm_device_config {
	size_t size;		    /* sizeof(struct uhmm_device_config) of the caller */
	enum uhmm_memory_type type; /* default device-private */
	uint64_t memory_bytes;	    /* device memory, 0 = unlimited */
	uint64_t chunk_bytes; /* registered at a time, in multiples of 2 MiB; default 256 MiB */
	/*
	 * An invalidation forgets exactly its range. Default: and the page after it, as the test
	 * driver does, which then faults once more.
	 */
	bool exact_invalidation;
	/*
	 * (q) READ, WRITE and READ_UNLOCKED that fault on huge pages of the device's own find the first
	 * page in place of each, as the driver did that the recorded answers came from. Data are lost by
	 * that: only for comparing with them.
	 */
	bool huge_by_head;
	/* FLAGS with npages 0 clears the flags. Default: -EINVAL, so that they cannot be cleared. */
	bool clearable_flags;
	/*
	 * What follows a large folio in a window that goes home and is skipped counts as one page.
	 * Default: as many as the folio, as in the test driver. Of the operations no window holds both.
	 */
	bool order_of_each;
};

/**
 * uhmm_device_create() - plug in a device
 * @m: machine
 * @config: NULL for the defaults
 * @out: (out) the device
 * Returns: 0; -EINVAL bad size or type, chunk_bytes, memory_bytes below a page; -ENOMEM.
 */
UHMM_API int uhmm_device_create(struct uhmm_machine *m, const struct uhmm_device_config *config,
				struct uhmm_device **out) UHMM_MUST_CHECK;

/** uhmm_device_destroy() - unplug; no mirror of it may be open; memory goes home. NULL allowed. */
UHMM_API void uhmm_device_destroy(struct uhmm_device *dev);

/** uhmm_device_memory() - the device's pool. */
UHMM_API struct uhmm_devmem *uhmm_device_memory(struct uhmm_device *dev);

/**
 * uhmm_mirror_open() - open the device for a process
 * Returns: 0; -EINVAL no current task, or the last user of @mm is gone; -ENOMEM.
 * A process may open a device more than once: each mirror has tables of its own, and what one of them
 * migrates the others lose, and fault again.
 * Lifetime: uhmm_mirror_close(); keeps the mm's structure, not its users.
 * Models: dmirror_fops_open().
 */
UHMM_API int uhmm_mirror_open(struct uhmm_device *dev, struct uhmm_mm *mm,
			      struct uhmm_mirror **out) UHMM_MUST_CHECK;

/**
 * uhmm_mirror_close() - close; all device memory of the device goes home, also other openers'
 * @mirror: NULL allowed
 * Models: dmirror_fops_release().
 */
UHMM_API void uhmm_mirror_close(struct uhmm_mirror *mirror);

/** uhmm_mirror_mm() - the mm. */
UHMM_API struct uhmm_mm *uhmm_mirror_mm(struct uhmm_mirror *mirror);

/* Models: struct hmm_dmirror_cmd. Outputs are written only on success. */
struct uhmm_mirror_cmd {
	uhmm_vaddr_t addr;
	uint64_t npages;
	void *ptr;	 /* buffer: npages * 4 KiB, or one byte a page for SNAPSHOT */
	uint64_t cpages; /* out */
	uint64_t faults; /* out */
};

enum uhmm_mirror_op {
	UHMM_MIRROR_READ,	    /* ptr: out, the pages' contents */
	UHMM_MIRROR_WRITE,	    /* ptr: in */
	UHMM_MIRROR_MIGRATE_TO_DEV, /* ptr: out, contents read back from the device */
	UHMM_MIRROR_MIGRATE_TO_SYS,
	UHMM_MIRROR_SNAPSHOT,	     /* ptr: out, UHMM_PROT_* a page */
	UHMM_MIRROR_EXCLUSIVE,	     /* ptr: out, contents read back from the device */
	UHMM_MIRROR_CHECK_EXCLUSIVE, /* -EPERM if a page is still the device's alone */
	UHMM_MIRROR_RELEASE,
	UHMM_MIRROR_FLAGS, /* npages: UHMM_MIRROR_FLAG_* */
	UHMM_MIRROR_READ_UNLOCKED,
	UHMM_MIRROR_MIGRATE_ON_FAULT_TO_DEV, /* the combined walker; ptr as MIGRATE_TO_DEV */
	/* the same for a write access: faults for writing */
	UHMM_MIRROR_MIGRATE_ON_WRITE_FAULT_TO_DEV,
};

#define UHMM_MIRROR_FLAG_FAIL_ALLOC 1UL

/* Bytes of SNAPSHOT. */
#define UHMM_PROT_ERROR 0xff
#define UHMM_PROT_NONE 0x00
#define UHMM_PROT_READ 0x01
#define UHMM_PROT_WRITE 0x02
#define UHMM_PROT_PMD 0x04
#define UHMM_PROT_PUD 0x08
#define UHMM_PROT_ZERO 0x10
#define UHMM_PROT_DEV_PRIVATE_LOCAL 0x20
#define UHMM_PROT_DEV_PRIVATE_REMOTE 0x30
#define UHMM_PROT_DEV_COHERENT_LOCAL 0x40
#define UHMM_PROT_DEV_COHERENT_REMOTE 0x50

/**
 * uhmm_mirror_ioctl() - an operation of the test driver
 * @mirror: mirror
 * @op: operation
 * @cmd: (in/out) arguments; unchanged on error
 * Returns: 0;
 *	-EINVAL addr not page-aligned, npages 0 or wrapping, unknown operation, mm gone, no VMA or
 *	VMA not readable for the migrations;
 *	-EFAULT a page cannot be had, or ptr NULL where it is needed;
 *	-EPERM write to a read-only VMA, or CHECK_EXCLUSIVE found one;
 *	-ENOENT MIGRATE_TO_DEV, EXCLUSIVE: a page of the range did not get into the device's tables;
 *	-EOPNOTSUPP EXCLUSIVE: a page that is not anonymous;
 *	-EBUSY a second of invalidations; -EINTR killed; -ENOMEM.
 * Models: lib/test_hmm.c:dmirror_fops_unlocked_ioctl().
 */
UHMM_API int uhmm_mirror_ioctl(struct uhmm_mirror *mirror, enum uhmm_mirror_op op,
			       struct uhmm_mirror_cmd *cmd);

/* What a device access met. */
struct uhmm_device_access {
	bool faulted;		 /* the device's tables did not have the page */
	uint64_t migrated;	 /* pages that moved to the device */
	uint64_t evicted;	 /* pages that had to leave for them */
	bool remote;		 /* served from RAM: the page could not move */
	uhmm_vaddr_t start, end; /* range served, if faulted */
};

/**
 * uhmm_mirror_access() - one access by the device, with fault service
 * @mirror: mirror
 * @addr: address
 * @write: write access
 * @buf: 8 bytes read or written at the 8-byte word of @addr; NULL to touch only
 * @strategy: how a fault is served
 * @granularity: bytes around @addr served per fault, a power of two from 4 KiB to 2 MiB; cut to
 * the VMA
 * @out: (out, may be NULL)
 * Returns: 0; -EFAULT no VMA or no permission to read; -EPERM no permission to write; -ENOMEM;
 * -EBUSY; -EINVAL.
 * When the device's memory is full the least recently used pages are evicted.
 * Models: the fault service of a GPU driver on the posted test driver's terms; invented.
 */
UHMM_API int uhmm_mirror_access(struct uhmm_mirror *mirror, uhmm_vaddr_t addr, bool write,
				uint64_t *buf, enum uhmm_strategy strategy, uint64_t granularity,
				struct uhmm_device_access *out);

/**
 * uhmm_mirror_serve() - fault service for a range: what uhmm_mirror_access() does on a fault
 * @start, @end: page-aligned, within one VMA, at most 512 pages
 * The rest as uhmm_mirror_access(). 0 does not say that all pages moved: @out has how many did. Where a
 * userfaultfd asks for missing pages and has no handler, UHMM_FAULT_THEN_MIGRATE is -EFAULT, for it faults;
 * the others offer a new page to migrate to without a fault, which is refused, and say 0.
 */
UHMM_API int uhmm_mirror_serve(struct uhmm_mirror *mirror, uhmm_vaddr_t start, uhmm_vaddr_t end,
			       bool write, enum uhmm_strategy strategy,
			       struct uhmm_device_access *out);

UHMM_END_DECLS

#endif /* UHMM_MIRROR_H */
