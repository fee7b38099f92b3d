/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lock_class.h - the enum behind lock_classes.def, and the classes of drivers. */
#ifndef UHMM_SYNC_LOCK_CLASS_H
#define UHMM_SYNC_LOCK_CLASS_H

#include <uhmm/lock.h>

#include "core/compiler.h"

/* From UHMM__NR_LOCK_CLASSES on: those of drivers, by number. */
enum uhmm__lock_class {
#define LC(id, kind, order, protects, forbidden, mirrors) UHMM__LC_##id,
#include "sync/lock_classes.def"
#undef LC
	UHMM__NR_LOCK_CLASSES
};

enum uhmm__lock_kind {
	UHMM__LK_RWSEM,
	UHMM__LK_MUTEX,
	UHMM__LK_BIT,
	UHMM__LK_MAP,
	/* From here on: not to be had while sleeping. */
	UHMM__LK_SECTION,
	UHMM__LK_SPIN,
	UHMM__LK_WAITQ,
};

struct uhmm__lock_class_info {
	const char *name;
	enum uhmm__lock_kind kind;
	const char *kind_name;
	unsigned int order;
	const char *protects;
	const char *forbidden;
	const char *mirrors;
};

extern const struct uhmm__lock_class_info uhmm__lock_classes[UHMM__NR_LOCK_CLASSES];

/* A class of a driver; its number is UHMM__NR_LOCK_CLASSES + its place among them. */
struct uhmm__driver_class {
	char name[UHMM_LOCK_NAME_MAX + 1];
	enum uhmm__lock_kind kind;
};

/* Of either sort of class. */
const char *uhmm__lock_class_name(const struct uhmm_machine *m, unsigned int class_id);

/*
 * What depends on what is recorded between classes and subclasses: those are the nodes of the graph,
 * two for each class.
 */
#define UHMM__SUBCLASSES 2
#define UHMM__LOCK_NODES (UHMM__SUBCLASSES * 64)
#define UHMM__NODE(class_id, subclass) (UHMM__SUBCLASSES * (unsigned int)(class_id) + (subclass))
#define UHMM__NODE_CLASS(node) ((node) / UHMM__SUBCLASSES)

_Static_assert(UHMM__NODE(UHMM__NR_LOCK_CLASSES + UHMM_MAX_LOCK_CLASSES, 0) <= UHMM__LOCK_NODES,
	       "a bit for each class");

/* How a lock is taken. */
enum {
	UHMM__LOCK_READ = 1 << 0,
	UHMM__LOCK_TRIED = 1 << 1,  /* by a trylock, or without waiting for another reason */
	UHMM__LOCK_QUEUED = 1 << 2, /* others are queued for it */
	UHMM__LOCK_TOLD = 1 << 3,   /* that it was left behind has been reported */
};

/* Where a lock is taken, for the reports of the checked build; the plain one has no use for it. */
#if UHMM_CHECKED
#define UHMM__HERE UHMM_SITE
#else
#define UHMM__HERE ((const struct uhmm_site *)0)
#endif

#endif /* UHMM_SYNC_LOCK_CLASS_H */
