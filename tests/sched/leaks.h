/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* leaks.h - for runs that end in the middle: tasks and all that they hold stay where they are. */
#ifndef TESTS_SCHED_LEAKS_H
#define TESTS_SCHED_LEAKS_H

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#define allow_leaks() __lsan_disable()
#else
#define allow_leaks() ((void)0)
#endif

#endif /* TESTS_SCHED_LEAKS_H */
