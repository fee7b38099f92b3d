// SPDX-License-Identifier: LGPL-2.1-or-later
/* What was found, as JSON in the Chrome trace format: a track for each CPU, a microsecond a step. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"
#include "tool.h"

static json_t *name_of_cpu(unsigned int cpu)
{
	char name[32];

	snprintf(name, sizeof(name), "CPU %u", cpu);
	return json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M", "pid",
			 1, "tid", (int)cpu, "args", "name", name);
}

static json_t *event(const struct uhmm_explore_result *r, size_t i)
{
	const struct uhmm_explore_step *s = &r->trace[i];
	const char *file = NULL, *function;
	int line = 0;
	json_t *args;

	function = explore_function(s, &file, &line);
	args = json_pack("{s:s, s:s, s:i}", "task", r->tasks[s->task].name, "does", s->what, "step",
			 (int)i + 1);
	if (args && file) {
		json_object_set_new(args, "file", json_string(file));
		json_object_set_new(args, "line", json_integer(line));
	}
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:i, s:o}", "name",
			 function ? function : s->what, "cat", r->tasks[s->task].name, "ph", "X",
			 "pid", 1, "tid", (int)s->cpu, "ts", (json_int_t)i, "dur", 1, "args", args);
}

static json_t *events(const struct uhmm_explore_result *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < r->nr_tasks; i++)
		if (r->tasks[i].worker)
			json_array_append_new(list, name_of_cpu(r->tasks[i].cpu));
	for (size_t i = 0; i < r->nr_steps; i++)
		json_array_append_new(list, event(r, i));
	return list;
}

static json_t *switches(const struct explore_options *o)
{
	json_t *list = json_object();

	for (unsigned int i = 0; uhmm_switch(i); i++)
		if (o->config.switches_set & 1UL << i)
			json_object_set_new(list, uhmm_switch(i)->name,
					    json_string(uhmm_switch_get(&o->machine, i)));
	return list;
}

/* JSON has no unsigned numbers: what does not fit is text. */
static json_t *number(uint64_t n)
{
	char text[24];

	if (n <= INT64_MAX)
		return json_integer((json_int_t)n);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return json_string(text);
}

static json_t *number_or_null(bool is, uint64_t n)
{
	return is ? number(n) : json_null();
}

/* What was asked for. */
static void add_question(json_t *j, const struct explore_options *o)
{
	static const char *const strategies[] = { "random", "pct", "dfs" };
	const struct uhmm_explore_config *c = &o->config;
	bool bounded = !c->schedule && c->strategy != UHMM_EXPLORE_RANDOM;

	json_object_set_new(j, "scenario", json_string(c->scenario->name));
	json_object_set_new(j, "switches", switches(o));
	json_object_set_new(j, "strategy",
			    json_string(c->schedule ? "schedule" : strategies[c->strategy]));
	json_object_set_new(j, "seed", number(c->seed));
	json_object_set_new(j, "switches_bound", number_or_null(bounded, c->switches_bound));
	json_object_set_new(j, "runs", number_or_null(c->runs && !c->schedule, c->runs));
	json_object_set_new(j, "max_steps", number_or_null(c->max_steps, c->max_steps));
}

static json_t *command(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	json_t *j;

	if (!f)
		return NULL;
	explore_print_command(f, o, r);
	fclose(f);
	j = json_string(text);
	free(text);
	return j;
}

/* What was found, if anything. */
static void add_fault(json_t *j, const struct explore_options *o,
		      const struct uhmm_explore_result *r)
{
	json_object_set_new(j, "found_at_run", number(r->schedules));
	json_object_set_new(j, "found_with_seed", number(r->seed));
	json_object_set_new(j, "report", json_string(r->report));
	if (!r->schedule)
		return;
	json_object_set_new(j, "schedule", json_string(r->schedule));
	json_object_set_new(j, "schedule_switches", number(r->nr_switches));
	json_object_set_new(j, "schedule_steps", number(r->nr_steps));
	json_object_set_new(j, "cycle_at_step", number_or_null(r->cycle_at, r->cycle_at + 1));
	if (!o->schedule_path)
		json_object_set_new(j, "command", command(o, r));
}

static json_t *result(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	json_t *j = json_object();

	add_question(j, o);
	json_object_set_new(j, "verdict", json_string(uhmm_verdict_name(r->verdict)));
	json_object_set_new(j, "complete", json_boolean(r->complete));
	json_object_set_new(j, "complete_up_to",
			    number_or_null(r->complete, o->config.switches_bound));
	json_object_set_new(j, "schedules", number(r->schedules));
	json_object_set_new(j, "steps", number(r->steps));
	json_object_set_new(j, "states", number(r->states));
	json_object_set_new(j, "undecided", number(r->undecided));
	json_object_set_new(j, "seconds", json_real(o->seconds));
	if (r->verdict)
		add_fault(j, o, r);
	return j;
}

int explore_write_json(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	bool to_stdout = explore_json_only(o);
	json_t *j = json_pack("{s:o, s:s, s:o}", "uhmm", result(o, r), "displayTimeUnit", "ns",
			      "traceEvents", events(r));
	FILE *f = to_stdout ? stdout : fopen(o->json_path, "we");
	int status;

	if (!f || !j) {
		json_decref(j);
		return tool_error("%s: %s", o->json_path, strerror(f ? ENOMEM : errno));
	}
	json_dumpf(j, f, JSON_INDENT(1));
	putc('\n', f);
	json_decref(j);
	status = tool_finish_file(f, o->json_path);
	if (!to_stdout)
		fclose(f);
	return status;
}
