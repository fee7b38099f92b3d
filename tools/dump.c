// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * dump.c - the subcommand that shows address spaces at a point of a trace or vector.
 */
#include <stdlib.h>
#include <string.h>

#include <uhmm/uhmm.h>

#include "replay.h"
#include "tool.h"
#include "vector.h"
#include "world.h"

static const char usage[] =
	"usage: uhmm dump [OPTION...] TRACE|VECTOR\n"
	"\n"
	"Prints page tables, VMAs and folios as they are after a line of a fault trace or of a\n"
	"conformance vector. Of a trace no access is a device's.\n"
	"\n"
	"  --at LINE     stop after what this line of the file says; default: the last one of\n"
	"                the trace or case\n"
	"  --case NAME   of a vector: this case; needed if it has several and --at is not given\n"
	"  --mm N        print address space N only, counted from 1; default: all\n"
	"  -h, --help    print this\n"
	"\n"
	"Exit status: 0 done, 2 wrong usage or bad input.\n";

struct options {
	const char *path, *case_name;
	uint64_t at; /* 0: not given */
	uint64_t mm; /* 0: all */
};

static void emit(void *data, const char *line)
{
	(void)data;
	puts(line);
}

static int no_such_mm(uint64_t mm)
{
	return tool_error("there is no address space %llu at that point", (unsigned long long)mm);
}

static int beyond_end(const struct options *o, const char *path, uint64_t lines)
{
	return tool_error("%s: --at %llu: it has only %llu lines", path, (unsigned long long)o->at,
			  (unsigned long long)lines);
}

static void none_left(void)
{
	puts("\nno address space at that point");
}

/* ---- vectors ---- */

static const struct vec_case *choose_case(const struct options *o, const struct vector *v)
{
	const struct vec_case *found = NULL;

	if (!v->n) {
		tool_error("%s: no cases", v->path);
		return NULL;
	}
	if (o->at > v->lines) {
		beyond_end(o, v->path, v->lines);
		return NULL;
	}
	for (size_t i = 0; i < v->n; i++) {
		const struct vec_case *c = &v->cases[i];
		bool here = !o->at ||
			    (c->line <= o->at && (i + 1 == v->n || o->at < v->cases[i + 1].line));

		if (here && (!o->case_name || !strcmp(c->name, o->case_name))) {
			if (found) {
				tool_usage_error("%s has several cases: choose one with --case %s",
						 v->path, o->case_name ? "and --at" : "or --at");
				return NULL;
			}
			found = c;
		}
	}
	if (!found && o->case_name)
		tool_error("%s: no case is called '%s'%s", v->path, o->case_name,
			   o->at ? " where --at says" : "");
	else if (!found)
		tool_error("%s:%llu: there is no case", v->path, (unsigned long long)o->at);
	return found;
}

static bool dump_processes(const struct options *o, struct world *w)
{
	bool any = false;

	for (unsigned int n = 0; n < VEC_MAX_PROCS; n++) {
		struct uhmm_mm *mm = world_mm(w, n);

		if (!mm || (o->mm && uhmm_mm_id(mm) != o->mm))
			continue;
		printf("\nprocess p%u\n", n);
		world_enter(w, n);
		uhmm_mm_dump(mm, emit, NULL);
		world_leave(w);
		any = true;
	}
	return any;
}

static int dump_case(const struct options *o, const struct vector *v, const struct vec_case *c)
{
	const struct vec_op *op = NULL;
	int err, status = TOOL_OK;
	struct world *w;

	err = world_new(UHMM_CONTENT_BYTES, &w);
	if (err)
		return tool_error("cannot make a machine: %s", strerror(-err));
	for (size_t i = 0; i < c->n && (!o->at || c->ops[i].line <= o->at); i++) {
		struct vec_answer got;

		op = &c->ops[i];
		world_run(w, op, NULL, &got);
		if (got.status == VEC_NOT_MODELLED || got.status == VEC_NOT_RUN) {
			char *text = vec_answer_format(&got);

			status = tool_error("%s:%u: %s: %s", v->path, op->line, op->text, text);
			free(text);
		}
		vec_answer_free(&got);
		if (status != TOOL_OK)
			break;
	}
	if (status == TOOL_OK) {
		if (op)
			printf("%s:%u: case %s, after: %s\n", v->path, op->line, c->name, op->text);
		else
			printf("%s:%u: case %s, at its begin\n", v->path, c->line, c->name);
		if (!dump_processes(o, w)) {
			if (o->mm)
				status = no_such_mm(o->mm);
			else
				none_left();
		}
	}
	world_free(w);
	return status;
}

static int dump_vector(const struct options *o)
{
	const struct vec_case *c;
	struct vector v;
	int status = TOOL_USAGE;

	if (!vector_read(o->path, &v))
		return TOOL_USAGE;
	c = choose_case(o, &v);
	if (c)
		status = dump_case(o, &v, c);
	vector_free(&v);
	return status;
}

/* ---- traces ---- */

static int dump_trace(const struct options *o)
{
	struct replay_point *point;
	bool any = false;
	uint64_t lines;
	uint32_t last;

	if (o->case_name)
		return tool_usage_error("--case: %s is not a vector", o->path);
	if (replay_until(o->path, o->at, &point) != TOOL_OK)
		return TOOL_USAGE;
	lines = replay_point_lines(point);
	if (o->at > lines) {
		replay_point_free(point);
		return beyond_end(o, o->path, lines);
	}
	printf("%s:%llu\n", o->path, (unsigned long long)(o->at ? o->at : lines));
	last = replay_point_nr_mms(point);
	for (uint32_t n = 1; n <= last; n++) {
		struct uhmm_mm *mm = replay_point_mm(point, n);

		if (!mm || (o->mm && o->mm != n))
			continue;
		printf("\naddress space %u of the trace\n", n);
		uhmm_mm_dump(mm, emit, NULL);
		any = true;
	}
	replay_point_free(point);
	if (any)
		return TOOL_OK;
	if (o->mm)
		return no_such_mm(o->mm);
	none_left();
	return TOOL_OK;
}

/* ---- the subcommand ---- */

enum { OPT_CASE = 256, OPT_AT, OPT_MM };

int uhmm_cmd_dump(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "case", required_argument, NULL, OPT_CASE },
		{ "at", required_argument, NULL, OPT_AT },
		{ "mm", required_argument, NULL, OPT_MM },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct options o = { 0 };
	int opt;

	while ((opt = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		switch (opt) {
		case OPT_CASE:
			o.case_name = optarg;
			break;
		case OPT_AT:
			if (!tool_parse_u64("--at", optarg, 1, UINT64_MAX, &o.at))
				return TOOL_USAGE;
			break;
		case OPT_MM:
			if (!tool_parse_u64("--mm", optarg, 1, UINT64_MAX, &o.mm))
				return TOOL_USAGE;
			break;
		case 'h':
			fputs(usage, stdout);
			return TOOL_OK;
		default:
			return tool_try_help();
		}
	}
	if (optind == argc)
		return tool_usage_error("no TRACE or VECTOR given");
	if (optind + 1 < argc)
		return tool_usage_error("one TRACE or VECTOR at a time");
	o.path = argv[optind];
	return vector_sniff(o.path) ? dump_vector(&o) : dump_trace(&o);
}
