// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * replay_json.c - what a replay came to, as JSON. docs/replay.md describes it.
 */
#include <stdlib.h>

#include "replay_report.h"
#include "tool.h"

static json_t *integer(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* File names may be anything; JSON is UTF-8. */
static json_t *string(const char *s)
{
	json_t *o = json_string(s);
	char *copy;

	if (o)
		return o;
	copy = tool_xstrdup(s);
	for (char *p = copy; *p; p++)
		if (*p & 0x80)
			*p = '?';
	o = json_string(copy);
	free(copy);
	return o;
}

/* Steals @value, as json_object_set_new(); a failure shows at the end, in replay_json(). */
static bool set(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

static json_t *named(const struct uhmm_counters *c, const struct replay_named_counter *list)
{
	json_t *o = json_object();

	for (; list->name; list++)
		set(o, list->name, integer(c->v[list->counter]));
	return o;
}

static json_t *all_counters(const struct uhmm_counters *c)
{
	json_t *o = json_object();

	for (unsigned int i = 0; i < UHMM_NR_COUNTERS; i++)
		set(o, uhmm_counter_name(i), integer(c->v[i]));
	return o;
}

static json_t *parts(const struct uhmm_modelled *t)
{
	json_t *o = json_object();

	for (unsigned int i = 0; i < UHMM_NR_COST_PARTS; i++)
		set(o, uhmm_cost_part_name(i), integer((uint64_t)(t->part_ns[i] + 0.5)));
	return o;
}

static json_t *strategy(const struct replay_column *c)
{
	const struct uhmm_replay_run *run = c->run;
	const uint64_t *v = c->counters.v;
	json_t *o = json_object();

	set(o, "walks", integer(v[UHMM_CNT_WALKS]));
	set(o, "walk_restarts", integer(v[UHMM_CNT_WALK_RESTARTS]));
	set(o, "ranges_served", integer(v[UHMM_CNT_DEVICE_FAULTS]));
	set(o, "walks_a_range", json_real(replay_walks_a_range(c)));
	set(o, "faults", named(&c->counters, replay_faults));
	set(o, "pte_reads", named(&c->counters, replay_reads));
	set(o, "flushes", integer(v[UHMM_CNT_TLB_FLUSH_RANGE] + v[UHMM_CNT_TLB_FLUSH_PAGE]));
	set(o, "notifier_calls", integer(v[UHMM_CNT_NOTIFIER_CALLS]));
	set(o, "migrated_to_device",
	    integer(v[UHMM_CNT_MIGRATED_TO_DEVICE] + v[UHMM_CNT_MIGRATED_NEW]));
	set(o, "migrated_to_ram", integer(v[UHMM_CNT_MIGRATED_TO_RAM]));
	set(o, "failed", named(&c->counters, replay_failures));
	set(o, "copied_bytes", integer(replay_copied_bytes(&c->counters)));
	set(o, "evicted", integer(v[UHMM_CNT_EVICTED]));
	set(o, "model_ns", integer((uint64_t)(c->modelled.ns + 0.5)));
	set(o, "model_parts_ns", parts(&c->modelled));
	set(o, "host_ns", integer(run->host_ns));
	set(o, "events", integer(uhmm_player_count(run->player, UHMM_REPLAY_EVENTS)));
	set(o, "device_accesses",
	    integer(uhmm_player_count(run->player, UHMM_REPLAY_DEVICE_ACCESSES)));
	set(o, "differing_pages", json_integer(run->differing));
	set(o, "apart_pages", json_integer((json_int_t)run->apart));
	set(o, "same_reads", json_boolean(run->same_digest));
	set(o, "violations", json_integer(run->violations));
	set(o, "reports", integer(c->reports));
	set(o, "counters", all_counters(&c->counters));
	return o;
}

static json_t *agreement(const struct replay_result *r)
{
	json_t *o = json_object(), *missed = json_object(), *extra = json_object();
	struct uhmm_replay_agreement g;
	uint64_t compared;

	uhmm_player_agreement(r->column[0].run->player, &g);
	compared = g.faults - g.offloaded;
	for (unsigned int i = 0; i < UHMM_NR_REPLAY_MISSES; i++)
		set(missed, uhmm_replay_miss_name(i), integer(g.missed[i]));
	set(extra, "same_access_again", integer(g.extra_again));
	set(extra, "recorded_accesses", integer(g.extra_touch));
	set(o, "strategy", json_string(uhmm_strategy_name(r->column[0].run->strategy)));
	set(o, "faults", integer(g.faults));
	set(o, "offloaded", integer(g.offloaded));
	set(o, "compared", integer(compared));
	set(o, "agreed", integer(g.agreed));
	set(o, "share", compared ? json_real((double)g.agreed / (double)compared) : json_null());
	set(o, "signals", integer(g.signals));
	set(o, "same_kind", integer(g.same_kind));
	set(o, "other_kind_anonymous", integer(g.other_kind_anon));
	set(o, "other_kind_other", integer(g.other_kind_other));
	set(o, "missed", missed);
	set(o, "extra", extra);
	return o;
}

static json_t *played(const struct replay_result *r)
{
	json_t *o = json_object();

	for (unsigned int i = 0; i < UHMM_NR_REPLAY_COUNTS; i++)
		set(o, uhmm_replay_count_name(i),
		    integer(uhmm_player_count(r->column[0].run->player, i)));
	return o;
}

static json_t *trace_has(const struct replay_result *r)
{
	const struct uhmm_trace_caps *caps = uhmm_trace_caps(uhmm_replay_reader(r->replay));
	json_t *o = json_object();

	set(o, "read_write", json_boolean(caps->has_rw));
	set(o, "maps", json_boolean(caps->has_maps));
	set(o, "data_maps", json_boolean(caps->has_data_maps));
	set(o, "unmap", json_boolean(caps->has_unmap));
	set(o, "fork", json_boolean(caps->has_fork));
	set(o, "kernel_faults", json_boolean(caps->has_kernel_faults));
	return o;
}

json_t *replay_json(const struct replay_result *r)
{
	const struct uhmm_trace_stats *st = uhmm_trace_stats(uhmm_replay_reader(r->replay));
	json_t *o = json_object(), *strategies = json_object();
	bool ok = o && strategies;

	for (unsigned int i = 0; ok && i < r->nr_runs; i++)
		ok = set(strategies, uhmm_strategy_name(r->column[i].run->strategy),
			 strategy(&r->column[i]));
	if (!ok) {
		json_decref(strategies);
		json_decref(o);
		return NULL;
	}
	set(o, "schema", json_integer(1));
	set(o, "trace", string(r->trace));
	set(o, "offload", json_string(r->offload));
	set(o, "granularity", integer(r->granularity));
	set(o, "device_memory", r->device_bytes ? integer(r->device_bytes) : json_null());
	set(o, "seed", integer(r->seed));
	set(o, "cpus", integer(r->nr_cpus));
	set(o, "thp", json_string(r->thp));
	set(o, "costs", string(uhmm_costs_name(r->costs)));
	set(o, "lines", integer(st->source_lines));
	set(o, "malformed", integer(st->malformed));
	set(o, "lost", integer(st->lost));
	set(o, "unsampled", integer(st->unsampled));
	set(o, "time_reversed", integer(st->time_reversed));
	set(o, "trace_has", trace_has(r));
	ok = set(o, "strategies", strategies);
	ok = set(o, "played", played(r)) && ok;
	ok = set(o, "agreement", agreement(r)) && ok;
	ok = set(o, "same_final_state",
		 r->nr_runs > 1 ? json_boolean(replay_result_same(r)) : json_null()) &&
	     ok;
	if (!ok) {
		json_decref(o);
		return NULL;
	}
	return o;
}
