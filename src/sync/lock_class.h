/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lock_class.h - the enum behind lock_classes.def. */
#ifndef UHMM_SYNC_LOCK_CLASS_H
#define UHMM_SYNC_LOCK_CLASS_H

#include "core/compiler.h"

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
	/* From here on: not to be held while sleeping. */
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

/* Where a lock was taken, for the reports of the checked build. */
#define UHMM__STR_(x) #x
#define UHMM__STR(x) UHMM__STR_(x)
#define UHMM__HERE __FILE__ ":" UHMM__STR(__LINE__)

#endif /* UHMM_SYNC_LOCK_CLASS_H */
