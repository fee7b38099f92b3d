// SPDX-License-Identifier: LGPL-2.1-or-later
/* native.c - the native trace format: names and numbers, and what every event must obey. */
#include "replay/native.h"

/* New entries go to the end: the place is the number in the binary form. */
const struct native_cap uhmm__native_caps[NATIVE_NR_CAPS] = {
#define CAP(name, field)                                                                           \
	{                                                                                          \
		name, offsetof(struct uhmm_trace_caps, field)                                      \
	}
	CAP("rw", has_rw),
	CAP("fault_samples", has_fault_samples),
	CAP("kernel_faults", has_kernel_faults),
	CAP("major", has_major),
	CAP("unmap", has_unmap),
	CAP("maps", has_maps),
	CAP("data_maps", has_data_maps),
	CAP("fork", has_fork),
	CAP("clone_flags", has_clone_flags),
	CAP("tgid", has_tgid),
	CAP("cpu", has_cpu),
	CAP("snapshot", has_snapshot),
#undef CAP
};

const struct native_stat uhmm__native_stats[NATIVE_NR_STATS] = {
#define STAT(name, field)                                                                          \
	{                                                                                          \
		name, offsetof(struct uhmm_trace_stats, field)                                     \
	}
	STAT("lines", source_lines),
	STAT("malformed", malformed),
	STAT("skipped_samples", skipped_samples),
	STAT("skipped_tracepoints", skipped_tracepoints),
	STAT("skipped_records", skipped_records),
	STAT("skipped_calls", skipped_calls),
	STAT("failed_calls", failed_calls),
	STAT("opaque_calls", opaque_calls),
	STAT("unpaired_calls", unpaired_calls),
	STAT("dropped_kernel", dropped_kernel),
	STAT("unpaired_faults", unpaired_faults),
	STAT("no_address", no_address),
	STAT("time_reversed", time_reversed),
	STAT("skipped_ranges", skipped_ranges),
	STAT("inferred_mms", inferred_mms),
	STAT("unsampled", unsampled),
#undef STAT
};

const char *const uhmm__native_why[5] = { "found", "fork", "vfork", "thread", "exec" };
const char *const uhmm__native_obj_kinds[6] = { "unknown", "file",   "shmem",
						"memfd",   "device", "hugetlb" };
const char *const uhmm__native_clocks[4] = { "unknown", "monotonic", "realtime", "boottime" };
const char *const uhmm__native_map_flags[] = {
	"shared",    "anon",	  "stack",   "heap",	"hugetlb", "populate", "locked", "fixed",
	"growsdown", "noreserve", "special", "initial", "merged",  "derived",  NULL,
};
const char *const uhmm__native_move_flags[] = { "dontunmap", "dup", "fixed", NULL };

static bool bad_range(uint64_t start, uint64_t end)
{
	return start >= end || (start | end) & 0xfff;
}

static const char *check_range(const struct uhmm_trace_event *ev)
{
	bool bad;

	switch (ev->kind) {
	case UHMM_TRACE_MAP:
		bad = bad_range(ev->map.start, ev->map.end);
		break;
	case UHMM_TRACE_UNMAP:
		bad = bad_range(ev->unmap.start, ev->unmap.end);
		break;
	case UHMM_TRACE_PROT:
		bad = bad_range(ev->prot.start, ev->prot.end);
		break;
	case UHMM_TRACE_MOVE:
		bad = bad_range(ev->move.old_start, ev->move.old_end) ||
		      bad_range(ev->move.new_start, ev->move.new_end);
		break;
	case UHMM_TRACE_ADVISE:
		bad = bad_range(ev->advise.start, ev->advise.end);
		break;
	case UHMM_TRACE_MIGRATE:
		bad = bad_range(ev->migrate.start, ev->migrate.end);
		break;
	case UHMM_TRACE_TRUNC:
		bad = ev->trunc.start >= ev->trunc.end;
		break;
	default:
		return NULL;
	}
	return bad ? "a range must not be empty, and consist of pages of 4096 bytes" : NULL;
}

/* What numbers of address spaces and objects may be; *st follows. */
static const char *check_ids(struct native_state *st, const struct uhmm_trace_event *ev)
{
	uint32_t obj = ev->kind == UHMM_TRACE_MAP ? ev->map.obj : 0;

	switch (ev->kind) {
	case UHMM_TRACE_MM_NEW:
		if (ev->mm <= st->last_mm)
			return "a new address space must have a higher number than all before it";
		if (ev->mm_new.parent > st->last_mm)
			return "the parent of an address space must come before it";
		st->last_mm = ev->mm;
		return NULL;
	case UHMM_TRACE_OBJ:
		if (!ev->obj.id || ev->obj.id > st->last_obj + 1)
			return "objects must be numbered from 1 in the order of their declaration";
		st->last_obj = MAX(st->last_obj, ev->obj.id);
		return NULL;
	case UHMM_TRACE_TRUNC:
		obj = ev->trunc.obj;
		if (!obj)
			return "an object must be declared by OBJ before it is used";
		break;
	default:
		break;
	}
	if (ev->mm > st->last_mm)
		return "an address space must be declared by MM_NEW before it is used";
	return obj > st->last_obj ? "an object must be declared by OBJ before it is used" : NULL;
}

const char *uhmm__native_check_slow(struct native_state *st, const struct uhmm_trace_event *ev)
{
	const char *why;

	if (ev->t_ns < st->t_ns)
		return "time must not go back";
	if (ev->kind < UHMM_TRACE_MM_NEW || ev->kind >= UHMM_TRACE_NR_KINDS)
		return "unknown kind of event";
	if ((ev->kind == UHMM_TRACE_MAP && ev->map.prot > 7) ||
	    (ev->kind == UHMM_TRACE_PROT && ev->prot.prot > 7))
		return "protection has three bits";
	if (ev->kind == UHMM_TRACE_TOUCH &&
	    (!ev->touch.size || ev->touch.size > NATIVE_TOUCH_MAX || !ev->touch.repeat))
		return "an access must have 1 to 4096 bytes, and be made at least once";
	why = check_range(ev);
	if (!why)
		why = check_ids(st, ev);
	if (why)
		return why;
	st->t_ns = ev->t_ns;
	st->nr_events++;
	return NULL;
}
