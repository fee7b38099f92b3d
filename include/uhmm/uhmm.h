/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * uhmm.h - the whole public interface.
 *
 * A userspace model of Linux's device page migration, as of Linux 7.3 (UHMM_MODELS_LINUX).
 */
#ifndef UHMM_UHMM_H
#define UHMM_UHMM_H

#include <uhmm/costs.h>
#include <uhmm/counters.h>
#include <uhmm/devmem.h>
#include <uhmm/exclusive.h>
#include <uhmm/explore.h>
#include <uhmm/file.h>
#include <uhmm/hmm.h>
#include <uhmm/lock.h>
#include <uhmm/machine.h>
#include <uhmm/migrate.h>
#include <uhmm/mirror.h>
#include <uhmm/mm.h>
#include <uhmm/notifier.h>
#include <uhmm/pin.h>
#include <uhmm/replay.h>
#include <uhmm/scenario.h>
#include <uhmm/sched.h>
#include <uhmm/special.h>
#include <uhmm/trace.h>
#include <uhmm/trace_write.h>
#include <uhmm/types.h>

#define UHMM_MODELS_LINUX "7.3"

#endif /* UHMM_UHMM_H */
