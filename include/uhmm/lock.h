/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock.h - locks for drivers, and the places where locks are taken.
 *
 * A driver that is written against the library has locks of its own: one that its invalidation
 * callback takes, one around its allocator. These are the library's, so that they work on host threads
 * and on fibers of the simulated scheduler, and so that the lock checker of the checked library knows
 * them: which are held while mmap_lock, a folio or a notifier's sequence is waited for, and the other
 * way round. docs/lock-checker.md tells how to read its reports.
 *
 * A lock belongs to a class, by its name; locks of one class follow the same rules. What order classes
 * nest in is not declared: the checker learns it, and reports the first nesting the other way round,
 * whether or not it came to a deadlock.
 *
 * Of all that waits: may sleep, except for spin locks; the calling thread is in a task. Of all that
 * unlocks: by the task that locked.
 */
#ifndef UHMM_LOCK_H
#define UHMM_LOCK_H

#include <uhmm/types.h>

UHMM_BEGIN_DECLS

struct uhmm_machine;
struct uhmm_mutex;
struct uhmm_rwsem;
struct uhmm_spinlock;

/* A place in the source, for reports. Lifetime: for ever. */
struct uhmm_site {
	const char *func, *file;
	unsigned int line;
};

/* The place where it stands. */
#define UHMM_SITE                                                                                  \
	(__extension__({                                                                           \
		static const struct uhmm_site site_ = { __func__, __FILE__, __LINE__ };            \
		&site_;                                                                            \
	}))

enum {
	UHMM_MAX_LOCK_CLASSES = 16, /* of drivers' locks, in a machine */
	UHMM_LOCK_NAME_MAX = 23,    /* bytes of a class name */
};

/*
 * Subclass of the inner lock where a task takes two of one class in an order that is safe for a reason
 * the checker cannot see, such as that of their addresses. Of 0 is every other lock.
 */
#define UHMM_SINGLE_DEPTH_NESTING 1

/* ---- mutexes: fair; may be held while sleeping. Models: struct mutex. ---- */

/**
 * uhmm_mutex_create() - make a mutex
 * @m: machine
 * @class_name: its class, 1 to UHMM_LOCK_NAME_MAX bytes; copied. Locks of one class have one kind
 * @out: (out) the mutex
 * Returns: 0; -EINVAL @class_name is NULL, empty, too long, or names locks of another kind; -ENOSPC
 * UHMM_MAX_LOCK_CLASSES others are in use: a class stays as long as the machine; -ENOMEM.
 * Context: any. Lifetime: the caller's, until uhmm_mutex_destroy(), before the machine's end.
 * Models: mutex_init(), of which each call makes a class.
 */
UHMM_API int uhmm_mutex_create(struct uhmm_machine *m, const char *class_name,
			       struct uhmm_mutex **out) UHMM_MUST_CHECK;
/** uhmm_mutex_destroy() - free a mutex that nobody holds; NULL allowed. Models: mutex_destroy(). */
UHMM_API void uhmm_mutex_destroy(struct uhmm_mutex *l);

/* mutex_lock(), mutex_lock_nested(), mutex_trylock() (true if it was taken), mutex_unlock() */
#define uhmm_mutex_lock(l) uhmm_mutex_lock_at(l, 0, UHMM_SITE)
#define uhmm_mutex_lock_nested(l, subclass) uhmm_mutex_lock_at(l, subclass, UHMM_SITE)
#define uhmm_mutex_trylock(l) uhmm_mutex_trylock_at(l, UHMM_SITE)
#define uhmm_mutex_unlock(l) uhmm_mutex_unlock_at(l, UHMM_SITE)
/* What these are made of. @subclass: 0 or UHMM_SINGLE_DEPTH_NESTING; @where: NULL allowed. */
UHMM_API void uhmm_mutex_lock_at(struct uhmm_mutex *l, unsigned int subclass,
				 const struct uhmm_site *where);
UHMM_API bool uhmm_mutex_trylock_at(struct uhmm_mutex *l, const struct uhmm_site *where);
UHMM_API void uhmm_mutex_unlock_at(struct uhmm_mutex *l, const struct uhmm_site *where);

/* ---- read-write semaphores: fair, so a queued writer keeps new readers out ---- */

/** uhmm_rwsem_create() - make a read-write semaphore; otherwise as uhmm_mutex_create(). */
UHMM_API int uhmm_rwsem_create(struct uhmm_machine *m, const char *class_name,
			       struct uhmm_rwsem **out) UHMM_MUST_CHECK;
/** uhmm_rwsem_destroy() - free a read-write semaphore that nobody holds; NULL allowed. */
UHMM_API void uhmm_rwsem_destroy(struct uhmm_rwsem *s);

/* down_read() and so on. A task must not take one for reading twice: a writer may come in between. */
#define uhmm_down_read(s) uhmm_down_read_at(s, 0, UHMM_SITE)
#define uhmm_down_read_nested(s, subclass) uhmm_down_read_at(s, subclass, UHMM_SITE)
#define uhmm_down_read_trylock(s) uhmm_down_read_trylock_at(s, UHMM_SITE)
#define uhmm_up_read(s) uhmm_up_read_at(s, UHMM_SITE)
#define uhmm_down_write(s) uhmm_down_write_at(s, 0, UHMM_SITE)
#define uhmm_down_write_nested(s, subclass) uhmm_down_write_at(s, subclass, UHMM_SITE)
#define uhmm_down_write_trylock(s) uhmm_down_write_trylock_at(s, UHMM_SITE)
#define uhmm_up_write(s) uhmm_up_write_at(s, UHMM_SITE)
#define uhmm_downgrade_write(s) uhmm_downgrade_write_at(s, UHMM_SITE)
UHMM_API void uhmm_down_read_at(struct uhmm_rwsem *s, unsigned int subclass,
				const struct uhmm_site *where);
UHMM_API bool uhmm_down_read_trylock_at(struct uhmm_rwsem *s, const struct uhmm_site *where);
UHMM_API void uhmm_up_read_at(struct uhmm_rwsem *s, const struct uhmm_site *where);
UHMM_API void uhmm_down_write_at(struct uhmm_rwsem *s, unsigned int subclass,
				 const struct uhmm_site *where);
UHMM_API bool uhmm_down_write_trylock_at(struct uhmm_rwsem *s, const struct uhmm_site *where);
UHMM_API void uhmm_up_write_at(struct uhmm_rwsem *s, const struct uhmm_site *where);
UHMM_API void uhmm_downgrade_write_at(struct uhmm_rwsem *s, const struct uhmm_site *where);

/* ---- spin locks: not to be held while sleeping. Models: spinlock_t. ---- */

/** uhmm_spin_create() - make a spin lock; otherwise as uhmm_mutex_create(). */
UHMM_API int uhmm_spin_create(struct uhmm_machine *m, const char *class_name,
			      struct uhmm_spinlock **out) UHMM_MUST_CHECK;
/** uhmm_spin_destroy() - free a spin lock that nobody holds; NULL allowed. */
UHMM_API void uhmm_spin_destroy(struct uhmm_spinlock *l);

/* spin_lock(), spin_lock_nested(), spin_trylock() (true if it was taken), spin_unlock() */
#define uhmm_spin_lock(l) uhmm_spin_lock_at(l, 0, UHMM_SITE)
#define uhmm_spin_lock_nested(l, subclass) uhmm_spin_lock_at(l, subclass, UHMM_SITE)
#define uhmm_spin_trylock(l) uhmm_spin_trylock_at(l, UHMM_SITE)
#define uhmm_spin_unlock(l) uhmm_spin_unlock_at(l, UHMM_SITE)
UHMM_API void uhmm_spin_lock_at(struct uhmm_spinlock *l, unsigned int subclass,
				const struct uhmm_site *where);
UHMM_API bool uhmm_spin_trylock_at(struct uhmm_spinlock *l, const struct uhmm_site *where);
UHMM_API void uhmm_spin_unlock_at(struct uhmm_spinlock *l, const struct uhmm_site *where);

/** uhmm_might_sleep() - sleeping is allowed here, or the checked library reports. Models: might_sleep(). */
#define uhmm_might_sleep() uhmm_might_sleep_at(UHMM_SITE)
UHMM_API void uhmm_might_sleep_at(const struct uhmm_site *where);

UHMM_END_DECLS

#endif /* UHMM_LOCK_H */
