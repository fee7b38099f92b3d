// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * conform.c - the subcommand that runs conformance vectors.
 *
 * It knows operations and answers, never cases: what a case is called is printed and nothing else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conform.h"
#include "tool.h"

static const char usage[] =
	"usage: uhmm conform [OPTION...] FILE...\n"
	"\n"
	"Runs conformance vectors: operations with the answers of a real kernel. Prints each\n"
	"difference and, last, 'N passed, M failed', counting cases. FILE may be -.\n"
	"\n"
	"  -v, --verbose        print every operation and answer\n"
	"      --case NAME      run only cases of this name\n"
	"      --content KIND   what pages hold: bytes (default, all 4096 compared) or tag\n"
	"      --device-pfn KIND  where device-private pages have their numbers: physical\n"
	"                       (default) or own\n"
	"      --differential   no recorded answers: on one machine each migrate_to_dev is\n"
	"                       preceded by a device access, on another it is replaced by\n"
	"                       migrate_on_fault; both must agree, for reading and for writing\n"
	"      --check          run with the lock checker and accounting of uhmm-checked\n"
	"  -h, --help           print this\n"
	"\n"
	"Exit status: 0 all cases passed, 1 a case failed, 2 wrong usage, bad input or no cases.\n";

/* ---- reports ---- */

void conform_begin(const struct conform *r, const char *how)
{
	if (!r->verbose)
		return;
	printf("case %s", r->c->name);
	if (how)
		printf(" # %s", how);
	putchar('\n');
}

bool conform_differ(struct conform *r, const struct vec_op *op, const char *what)
{
	if (++r->differences > CONFORM_SHOWN && !r->verbose)
		return false;
	printf("%s:%u: case %s: %s%s%s\n", r->vector->path, op ? op->line : r->c->line, r->c->name,
	       op ? op->text : "", op && what ? ": " : "", what ? what : "");
	return true;
}

void conform_line(const char *label, const char *text)
{
	if (label)
		printf("  %-9s %s\n", label, text);
	else
		printf("  %s\n", text);
}

void conform_answer(const char *label, const struct vec_answer *a)
{
	char *text = vec_answer_format(a);

	conform_line(label, text);
	free(text);
}

void conform_exchange(const struct vec_op *op, const struct vec_answer *got)
{
	char *text = vec_answer_format(got);

	printf("%s\n= %s\n", op->text, text);
	free(text);
}

bool conform_verify(struct conform *r, struct world *w, const struct vec_op *op)
{
	bool ok = world_verify(w);
	const char *reports = world_reports(w);
	char *copy, *save = NULL;

	if (ok && (!r->verbose || !*reports))
		return true;
	if (!ok && !conform_differ(r, op,
				   op ? "the model's own checks found"
				      : "at the end, the model's own checks found"))
		return false;
	copy = tool_xstrdup(reports);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		conform_line(ok ? "reported:" : NULL, line);
	free(copy);
	return ok;
}

void conform_end(const struct conform *r)
{
	if (!r->verbose && r->differences > CONFORM_SHOWN)
		printf("%s:%u: case %s: %u more, see them with -v\n", r->vector->path, r->c->line,
		       r->c->name, r->differences - CONFORM_SHOWN);
}

/* ---- against recorded answers ---- */

/* Returns: false if it makes no sense to go on with the case. */
static bool conform_op(struct conform *r, struct world *w, const struct vec_op *op)
{
	struct vec_answer got;
	bool go_on = true;

	world_run(w, op, NULL, &got);
	if (r->verbose)
		conform_exchange(op, &got);
	if (!vec_answer_equal(&op->expected, &got) && conform_differ(r, op, NULL)) {
		conform_answer("expected:", &op->expected);
		conform_answer("got:", &got);
	}
	/* What follows something that was not done cannot be right. */
	if (got.status == VEC_NOT_MODELLED || got.status == VEC_NOT_RUN)
		go_on = false;
	vec_answer_free(&got);
	return conform_verify(r, w, op) && go_on;
}

bool conform_case(struct conform *r)
{
	const struct vec_case *c = r->c;
	struct world *w;
	int err;

	r->differences = 0;
	conform_begin(r, NULL);
	err = world_new(r->content, &w);
	if (err) {
		if (conform_differ(r, NULL, "cannot make a machine"))
			conform_line(NULL, strerror(-err));
		return false;
	}
	world_as_recorded(w);
	for (size_t i = 0; i < c->n; i++)
		if (!conform_op(r, w, &c->ops[i]))
			break;
	/* What the processes leave behind must add up, too. */
	world_end(w);
	conform_verify(r, w, NULL);
	world_free(w);
	conform_end(r);
	return !r->differences;
}

/* ---- the subcommand ---- */

struct options {
	bool differential, check;
	const char *case_name;
	struct conform r;
};

enum { OPT_DIFFERENTIAL = 256, OPT_CASE, OPT_CONTENT, OPT_DEVICE_PFN, OPT_CHECK };

/* Returns: a status to end with, or -1 to go on. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{ "verbose", no_argument, NULL, 'v' },
		{ "differential", no_argument, NULL, OPT_DIFFERENTIAL },
		{ "case", required_argument, NULL, OPT_CASE },
		{ "content", required_argument, NULL, OPT_CONTENT },
		{ "device-pfn", required_argument, NULL, OPT_DEVICE_PFN },
		{ "check", no_argument, NULL, OPT_CHECK },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static const char *const contents[] = { "tag", "bytes", NULL };
	static const char *const spaces[] = { "physical", "own", NULL };
	int opt, content, space;

	while ((opt = getopt_long(argc, argv, "vh", longopts, NULL)) != -1) {
		switch (opt) {
		case 'v':
			o->r.verbose = true;
			break;
		case OPT_DIFFERENTIAL:
			o->differential = true;
			break;
		case OPT_CASE:
			o->case_name = optarg;
			break;
		case OPT_CONTENT:
			content = tool_parse_choice("--content", optarg, contents);
			if (content < 0)
				return TOOL_USAGE;
			o->r.content = content ? UHMM_CONTENT_BYTES : UHMM_CONTENT_TAG;
			break;
		case OPT_DEVICE_PFN:
			space = tool_parse_choice("--device-pfn", optarg, spaces);
			if (space < 0)
				return TOOL_USAGE;
			world_use_pfn_space(space ? UHMM_DEVICE_PFN_OWN : UHMM_DEVICE_PFN_PHYSICAL);
			break;
		case OPT_CHECK:
			o->check = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return TOOL_OK;
		default:
			return tool_try_help();
		}
	}
	if (optind == argc)
		return tool_usage_error("no FILE given");
	return -1;
}

static int run(struct options *o, const struct vector *vectors, size_t n)
{
	unsigned long passed = 0, failed = 0;

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < vectors[i].n; k++) {
			const struct vec_case *c = &vectors[i].cases[k];

			if (o->case_name && strcmp(o->case_name, c->name))
				continue;
			o->r.vector = &vectors[i];
			o->r.c = c;
			if (o->differential ? conform_differential(&o->r) : conform_case(&o->r))
				passed++;
			else
				failed++;
		}
	}
	printf("%lu passed, %lu failed\n", passed, failed);
	if (passed + failed)
		return failed ? TOOL_DIFF : TOOL_OK;
	return o->case_name ? tool_error("no case is called '%s'", o->case_name)
			    : tool_error("no cases");
}

int uhmm_cmd_conform(int argc, char **argv)
{
	struct options o = { .r.content = UHMM_CONTENT_BYTES };
	struct vector *vectors;
	size_t n = 0, read = 0;
	int status = parse_options(argc, argv, &o);

	if (status >= 0)
		return status;
	if (o.check && tool_exec_checked() != TOOL_OK)
		return TOOL_USAGE;

	/* All files are read before anything runs: a bad one is not found out late. */
	n = (size_t)(argc - optind);
	vectors = tool_xalloc(n, sizeof(*vectors));
	status = TOOL_OK;
	for (; read < n; read++)
		if (!vector_read(argv[optind + (int)read], &vectors[read]))
			status = TOOL_USAGE;
	if (status == TOOL_OK)
		status = run(&o, vectors, n);
	for (size_t i = 0; i < n; i++)
		vector_free(&vectors[i]);
	free(vectors);
	return status;
}
