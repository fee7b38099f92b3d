// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Part of the tests that run once more with the checked library: a report of the lock checker is a
 * failure there, whatever the test itself makes of reports. The linker's --wrap puts it before the
 * library's own function.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <uhmm/machine.h>

void __real_uhmm__report(struct uhmm_machine *m, enum uhmm_report_kind kind, const char *fmt, ...);
void __wrap_uhmm__report(struct uhmm_machine *m, enum uhmm_report_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

void __wrap_uhmm__report(struct uhmm_machine *m, enum uhmm_report_kind kind, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (kind == UHMM_REPORT_LOCK) {
		fprintf(stderr, "lock checker: %s\n", text);
		abort();
	}
	__real_uhmm__report(m, kind, "%s", text);
}
