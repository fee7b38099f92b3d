// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sync/lock_class.h"

const struct uhmm__lock_class_info uhmm__lock_classes[UHMM__NR_LOCK_CLASSES] = {
#define LC(id, kind, order, protects, forbidden, mirrors)                                          \
	[UHMM__LC_##id] = { #id, UHMM__LK_##kind, #kind, order, protects, forbidden, mirrors },
#include "sync/lock_classes.def"
#undef LC
};
