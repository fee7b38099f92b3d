// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/switches.h"

#include <string.h>

#include "core/compiler.h"

struct entry {
	struct uhmm_switch info;
	size_t offset;
};

/* A field that is an enum; the names of its values follow, in order, the default first. */
#define SWITCH(name, field, summary, ...)                                                          \
	{                                                                                          \
		{ name, summary, (const char *const[]){ __VA_ARGS__, NULL } },                     \
			offsetof(struct uhmm_machine_config, field)                                \
	}

/* A new switch is a line here, its enum and its field in <uhmm/machine.h>. */
static const struct entry switches[] = {
	SWITCH("preemption", preemption, "when a task in the kernel may lose its CPU", "none",
	       "lazy", "full"),
	SWITCH("combined-wait", combined_wait,
	       "what the combined walker does with its folios while it waits", "back-off", "naive"),
	SWITCH("device-pfn-space", device_pfn_space, "where device-private pages have numbers",
	       "physical", "own"),
	SWITCH("device-private-write", device_private_write,
	       "a range fault that wants to write to a read-only page of the device's own", "as-is",
	       "faults"),
	SWITCH("fault-folio", fault_folio, "the fault's folio after collecting has split it",
	       "stale", "looked-up", "kept"),
	SWITCH("large-hole", large_hole, "collecting a hole of several huge pages", "first",
	       "each"),
	SWITCH("device-huge-pfn", device_huge_pfn,
	       "what a range fault reports within a huge device-private page", "exact",
	       "from-first"),
	SWITCH("huge-device-wait", huge_device_wait,
	       "a fault on a huge device-private page whose folio is locked", "returns",
	       "entry-wait"),
	SWITCH("huge-device-unmap", huge_device_unmap,
	       "how a migration entry comes to the place of a huge device-private page", "replaces",
	       "clears"),
	SWITCH("split-lock", split_lock, "how collecting locks a large folio that it must split",
	       "waits", "tries"),
	SWITCH("split-flush", split_flush,
	       "when collecting flushes what it replaced before it splits", "late",
	       "before-unlock"),
	SWITCH("waiters-bit", waiters_bit, "when the bit is set that says who waits for a folio",
	       "exact", "hint"),
	SWITCH("thp", thp, "where faults map huge pages", "madvise", "always", "never"),
	SWITCH("lock-order", lock_order,
	       "what the lock checker makes of what would be a deadlock with another timing",
	       "reported", "ignored"),
	SWITCH("device-private-wait", device_private_wait,
	       "what a CPU fault does on a device-private page whose folio is locked", "entry-wait",
	       "trylock-spin", "lock-with-ref", "wait-on-migration-flag",
	       "install-migration-entry"),
	SWITCH("migration-blocked-by", migration_blocked_by,
	       "what keeps a device folio from migrating", "reference", "pin"),
	SWITCH("lru-drain", lru_drain, "when a migration drains the LRU batches of all CPUs",
	       "before-unmap", "after-unmap"),
	SWITCH("range-fault-resched", range_fault_resched,
	       "cond_resched() in the loop of a range fault", "no", "yes"),
	SWITCH("swap-device", swap, "what the swap device is", "ram-disk", "disk"),
};

static unsigned int value_of(const struct uhmm_machine_config *config, const struct entry *e)
{
	unsigned int v;

	memcpy(&v, (const char *)config + e->offset, sizeof(v));
	return v;
}

static unsigned int nr_values(const struct entry *e)
{
	unsigned int n = 0;

	while (e->info.values[n])
		n++;
	return n;
}

bool uhmm__switches_valid(const struct uhmm_machine_config *config)
{
	for (size_t i = 0; i < ARRAY_SIZE(switches); i++)
		if (value_of(config, &switches[i]) >= nr_values(&switches[i]))
			return false;
	return true;
}

const struct uhmm_switch *uhmm_switch(unsigned int i)
{
	return i < ARRAY_SIZE(switches) ? &switches[i].info : NULL;
}

int uhmm_switch_set(struct uhmm_machine_config *config, const char *name, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
		const struct entry *e = &switches[i];

		if (strcmp(e->info.name, name) != 0)
			continue;
		for (unsigned int v = 0; e->info.values[v]; v++) {
			if (strcmp(e->info.values[v], value) != 0)
				continue;
			memcpy((char *)config + e->offset, &v, sizeof(v));
			return 0;
		}
		return -EINVAL;
	}
	return -ENOENT;
}

const char *uhmm_switch_get(const struct uhmm_machine_config *config, unsigned int i)
{
	unsigned int v;

	if (i >= ARRAY_SIZE(switches))
		return NULL;
	v = value_of(config, &switches[i]);
	return v < nr_values(&switches[i]) ? switches[i].info.values[v] : NULL;
}
