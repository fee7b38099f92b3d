/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mutex.h - fair mutexes: the writer's half of a rwsem, which is all that one needs. */
#ifndef UHMM_SYNC_MUTEX_H
#define UHMM_SYNC_MUTEX_H

#include "sync/rwsem.h"

struct uhmm__mutex {
	struct uhmm__rwsem s;
};

static inline void uhmm__mutex_init(struct uhmm__mutex *l, enum uhmm__lock_class class_id)
{
	uhmm__rwsem_init(&l->s, class_id);
}

/* Macros, so that the checked build knows where they were called. */
/* bool: true if it waited */
#define uhmm__mutex_lock(l) uhmm__down_write(&(l)->s)
#define uhmm__mutex_lock_nested(l, subclass) uhmm__down_write_nested(&(l)->s, subclass)
/* bool: true if it was taken */
#define uhmm__mutex_trylock(l) uhmm__down_write_trylock(&(l)->s)
#define uhmm__mutex_unlock(l) uhmm__up_write(&(l)->s)
#define uhmm__mutex_assert_held(l) uhmm__rwsem_assert_write_held(&(l)->s)

#endif /* UHMM_SYNC_MUTEX_H */
