/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* costs_internal.h - the compiled-in cost table. */
#ifndef UHMM_REPLAY_COSTS_INTERNAL_H
#define UHMM_REPLAY_COSTS_INTERNAL_H

#include <uhmm/costs.h>

/* Text as uhmm_costs_parse() takes it; names every price. */
extern const char uhmm__default_costs[];

#endif /* UHMM_REPLAY_COSTS_INTERNAL_H */
