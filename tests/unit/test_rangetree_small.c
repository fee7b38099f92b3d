// SPDX-License-Identifier: LGPL-2.1-or-later
/* The tests of test_rangetree.c once more, with 4 entries a node: deep trees from few ranges. */
#define UHMM__RANGETREE_FANOUT 4
#include "core/rangetree.c"
#include "test_rangetree.c"
