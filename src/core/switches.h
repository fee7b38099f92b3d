/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* switches.h - the alternatives of a machine's configuration, by name. */
#ifndef UHMM_CORE_SWITCHES_H
#define UHMM_CORE_SWITCHES_H

#include <uhmm/machine.h>

/* Whether each switch has a value that it knows. */
bool uhmm__switches_valid(const struct uhmm_machine_config *config);

#endif /* UHMM_CORE_SWITCHES_H */
