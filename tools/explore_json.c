// SPDX-License-Identifier: LGPL-2.1-or-later
/* What was found, as JSON in the Chrome trace format: a track for each CPU, a microsecond a step. */
#include <errno.h>
#include <jansson.h>
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

static json_t *result(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	json_t *j = json_pack("{s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "scenario",
			      o->config.scenario->name, "switches", switches(o), "verdict",
			      uhmm_verdict_name(r->verdict), "schedules", (json_int_t)r->schedules,
			      "steps", (json_int_t)r->steps, "states", (json_int_t)r->states,
			      "undecided", (json_int_t)r->undecided, "endless",
			      (json_int_t)r->endless, "complete", r->complete);

	if (j && o->config.strategy == UHMM_EXPLORE_DFS)
		json_object_set_new(j, "switches_bound", json_integer(o->config.switches_bound));
	if (j && r->report)
		json_object_set_new(j, "report", json_string(r->report));
	if (j && r->schedule)
		json_object_set_new(j, "schedule", json_string(r->schedule));
	return j;
}

int explore_write_json(const struct explore_options *o, const struct uhmm_explore_result *r)
{
	bool to_stdout = !strcmp(o->json_path, "-");
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
