/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The least that a user's program does; see run.sh. */
#include <stdio.h>
#include <uhmm/uhmm.h>

int main(void)
{
	printf("uhmm %s\n", uhmm_version());
	return 0;
}
