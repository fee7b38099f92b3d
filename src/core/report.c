// SPDX-License-Identifier: LGPL-2.1-or-later
/* Reports, broken invariants, injected failures, counter names. */
#include <stdio.h>
#include <stdlib.h>

#include "core/machine.h"

void uhmm__report(struct uhmm_machine *m, enum uhmm_report_kind kind, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	atomic_fetch_add_explicit(&m->reports, 1, memory_order_relaxed);
	if (!m->config.report)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	m->config.report(m->config.report_data, kind, text);
}

void uhmm__bug(struct uhmm_machine *m, const char *file, int line, const char *what)
{
	if (m)
		uhmm__report(m, UHMM_REPORT_BUG, "BUG at %s:%d: %s", file, line, what);
	/* The one place that writes by itself: nothing after this line runs. */
	fprintf(stderr, "uhmm: BUG at %s:%d: %s\n", file, line, what);
	abort();
}

bool uhmm__inject_slow(struct uhmm_machine *m, enum uhmm_inject site)
{
	struct uhmm__inject *inj = &m->inject[site];
	uint64_t left = load_relaxed(&inj->countdown);

	if (!left)
		return false;
	if (left > 1) {
		store_relaxed(&inj->countdown, left - 1);
		return false;
	}
	left = load_relaxed(&inj->times);
	if (left <= 1)
		store_relaxed(&inj->countdown, 0);
	store_relaxed(&inj->times, left ? left - 1 : 0);
	return true;
}

int uhmm_machine_inject(struct uhmm_machine *m, enum uhmm_inject site, uint64_t nth, uint64_t times)
{
	bool armed = false;

	if ((unsigned int)site >= UHMM_NR_INJECT)
		return -EINVAL;
	store_relaxed(&m->inject[site].countdown, nth);
	store_relaxed(&m->inject[site].times, times ? times : 1);
	for (int i = 0; i < UHMM_NR_INJECT; i++)
		armed |= load_relaxed(&m->inject[i].countdown) != 0;
	store_relaxed(&m->inject_armed, armed);
	return 0;
}

uint64_t uhmm_machine_reports(struct uhmm_machine *m)
{
	return load_relaxed(&m->reports);
}

static const char *const counter_names[UHMM_NR_COUNTERS] = {
#define COUNTER_NAME(id, name, text) name,
	UHMM_COUNTERS(COUNTER_NAME)
#undef COUNTER_NAME
};

static const char *const counter_texts[UHMM_NR_COUNTERS] = {
#define COUNTER_TEXT(id, name, text) text,
	UHMM_COUNTERS(COUNTER_TEXT)
#undef COUNTER_TEXT
};

const char *uhmm_counter_name(enum uhmm_counter c)
{
	return (unsigned int)c < UHMM_NR_COUNTERS ? counter_names[c] : NULL;
}

const char *uhmm_counter_text(enum uhmm_counter c)
{
	return (unsigned int)c < UHMM_NR_COUNTERS ? counter_texts[c] : NULL;
}
