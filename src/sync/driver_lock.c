// SPDX-License-Identifier: LGPL-2.1-or-later
/* The locks of drivers (<uhmm/lock.h>), and their classes. */
#include <string.h>

#include "core/alloc.h"
#include "sync/lock_check.h"
#include "sync/sync.h"

struct uhmm_rwsem {
	struct uhmm_machine *m;
	struct uhmm__rwsem s;
};

/* As the library's own: a semaphore that is only taken for writing, of another kind. */
struct uhmm_mutex {
	struct uhmm_rwsem s;
};

struct uhmm_spinlock {
	struct uhmm_machine *m;
	unsigned int class_id;
	struct uhmm__spinlock l;
};

/* ---- classes ---- */

const char *uhmm__lock_class_name(const struct uhmm_machine *m, unsigned int class_id)
{
	if (class_id < UHMM__NR_LOCK_CLASSES)
		return uhmm__lock_classes[class_id].name;
	return m->sync->driver_classes[class_id - UHMM__NR_LOCK_CLASSES].name;
}

/* Under classes_lock. Returns: the class, or as uhmm_mutex_create(). */
static int find_or_add(struct uhmm_machine *m, const char *name, enum uhmm__lock_kind kind)
{
	struct uhmm__sync *sync = m->sync;
	unsigned int nr = load_relaxed(&sync->nr_driver_classes);
	struct uhmm__driver_class *c = sync->driver_classes;

	for (unsigned int i = 0; i < nr; i++)
		if (!strcmp(c[i].name, name))
			return c[i].kind == kind ? (int)(UHMM__NR_LOCK_CLASSES + i) : -EINVAL;
	if (nr == UHMM_MAX_LOCK_CLASSES)
		return -ENOSPC;
	strcpy(c[nr].name, name);
	c[nr].kind = kind;
	store_release(&sync->nr_driver_classes, nr + 1);
#if UHMM_CHECKED
	uhmm__lock_class_added(m, UHMM__NR_LOCK_CLASSES + nr);
#endif
	return (int)(UHMM__NR_LOCK_CLASSES + nr);
}

static int class_get(struct uhmm_machine *m, const char *name, enum uhmm__lock_kind kind)
{
	int ret;

	if (!name || !*name || strlen(name) > UHMM_LOCK_NAME_MAX)
		return -EINVAL;
	uhmm__raw_spin_lock(&m->sync->classes_lock);
	ret = find_or_add(m, name, kind);
	uhmm__raw_spin_unlock(&m->sync->classes_lock);
	return ret;
}

static unsigned int inner(unsigned int subclass)
{
	return MIN(subclass, UHMM__SUBCLASSES - 1U);
}

/* ---- read-write semaphores ---- */

static int create(struct uhmm_machine *m, const char *class_name, enum uhmm__lock_kind kind,
		  struct uhmm_rwsem **out)
{
	int class_id = class_get(m, class_name, kind);
	struct uhmm_rwsem *s;

	if (class_id < 0)
		return class_id;
	s = uhmm__alloc(m, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->m = m;
	uhmm__rwsem_init(&s->s, (enum uhmm__lock_class)class_id);
	*out = s;
	return 0;
}

int uhmm_rwsem_create(struct uhmm_machine *m, const char *class_name, struct uhmm_rwsem **out)
{
	return create(m, class_name, UHMM__LK_RWSEM, out);
}

void uhmm_rwsem_destroy(struct uhmm_rwsem *s)
{
	if (!s)
		return;
	uhmm__lock_freed(s->m, &s->s, s->s.class_id, load_relaxed(&s->s.count));
	uhmm__free(s->m, s, sizeof(*s));
}

void uhmm_down_read_at(struct uhmm_rwsem *s, unsigned int subclass, const struct uhmm_site *where)
{
	uhmm__down_read_at(&s->s, inner(subclass), where);
}

bool uhmm_down_read_trylock_at(struct uhmm_rwsem *s, const struct uhmm_site *where)
{
	return uhmm__down_read_trylock_at(&s->s, where);
}

void uhmm_up_read_at(struct uhmm_rwsem *s, const struct uhmm_site *where)
{
	uhmm__up_read_at(&s->s, where);
}

void uhmm_down_write_at(struct uhmm_rwsem *s, unsigned int subclass, const struct uhmm_site *where)
{
	uhmm__down_write_at(&s->s, inner(subclass), where);
}

bool uhmm_down_write_trylock_at(struct uhmm_rwsem *s, const struct uhmm_site *where)
{
	return uhmm__down_write_trylock_at(&s->s, where);
}

void uhmm_up_write_at(struct uhmm_rwsem *s, const struct uhmm_site *where)
{
	uhmm__up_write_at(&s->s, where);
}

void uhmm_downgrade_write_at(struct uhmm_rwsem *s, const struct uhmm_site *where)
{
	uhmm__downgrade_write_at(&s->s, where);
}

/* ---- mutexes ---- */

int uhmm_mutex_create(struct uhmm_machine *m, const char *class_name, struct uhmm_mutex **out)
{
	struct uhmm_rwsem *s;
	int err = create(m, class_name, UHMM__LK_MUTEX, &s);

	if (!err)
		*out = container_of(s, struct uhmm_mutex, s);
	return err;
}

void uhmm_mutex_destroy(struct uhmm_mutex *l)
{
	uhmm_rwsem_destroy(l ? &l->s : NULL);
}

void uhmm_mutex_lock_at(struct uhmm_mutex *l, unsigned int subclass, const struct uhmm_site *where)
{
	uhmm_down_write_at(&l->s, subclass, where);
}

bool uhmm_mutex_trylock_at(struct uhmm_mutex *l, const struct uhmm_site *where)
{
	return uhmm_down_write_trylock_at(&l->s, where);
}

void uhmm_mutex_unlock_at(struct uhmm_mutex *l, const struct uhmm_site *where)
{
	uhmm_up_write_at(&l->s, where);
}

/* ---- spin locks ---- */

int uhmm_spin_create(struct uhmm_machine *m, const char *class_name, struct uhmm_spinlock **out)
{
	int class_id = class_get(m, class_name, UHMM__LK_SPIN);
	struct uhmm_spinlock *l;

	if (class_id < 0)
		return class_id;
	l = uhmm__alloc(m, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->m = m;
	l->class_id = (unsigned int)class_id;
	uhmm__spin_init(&l->l, (enum uhmm__lock_class)class_id);
	*out = l;
	return 0;
}

void uhmm_spin_destroy(struct uhmm_spinlock *l)
{
	if (!l)
		return;
	uhmm__lock_freed(l->m, &l->l, l->class_id, uhmm__spin_is_locked(&l->l));
	uhmm__free(l->m, l, sizeof(*l));
}

void uhmm_spin_lock_at(struct uhmm_spinlock *l, unsigned int subclass,
		       const struct uhmm_site *where)
{
	uhmm__spin_lock_at(&l->l, inner(subclass), where);
}

bool uhmm_spin_trylock_at(struct uhmm_spinlock *l, const struct uhmm_site *where)
{
	return uhmm__spin_trylock_at(&l->l, where);
}

void uhmm_spin_unlock_at(struct uhmm_spinlock *l, const struct uhmm_site *where)
{
	uhmm__spin_unlock_at(&l->l, where);
}

void uhmm_might_sleep_at(const struct uhmm_site *where uhmm_unused)
{
#if UHMM_CHECKED
	uhmm__might_sleep_at(where);
#else
	uhmm__might_sleep();
#endif
}
