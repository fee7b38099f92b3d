// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * convert.c - uhmm convert: a trace into the native format.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "tool.h"

static void usage(FILE *f)
{
	fputs("usage: uhmm convert [OPTION...] IN OUT\n"
	      "\n"
	      "Turn a trace that uhmm replay reads ('-' for standard input) into the native format,\n"
	      "which is the same to replay, and faster to read. OUT says which form:\n"
	      "\n"
	      "  *.txt, *.txt.zst, -   text, compressed or not ('-' for standard output)\n"
	      "  *.uft, *.uft.zst      binary, compressed or not\n"
	      "\n"
	      "  --repeat N            N times in a row, each in address spaces of its own\n"
	      "  --level N             of zstd compression, 1 to 19 (default 3)\n"
	      "  --keep-going          skip malformed lines and count them\n"
	      "  --progress            show progress on standard error, terminal or not\n"
	      "  --help\n"
	      "\n"
	      "Exit status: 0 done, 1 done but malformed lines were skipped, 2 wrong usage, bad\n"
	      "input or output that cannot be written; OUT is left alone then.\n",
	      f);
}

/* ---- options ---- */

static bool ends(const char *s, const char *with)
{
	size_t n = strlen(s), m = strlen(with);

	return n > m && !strcmp(s + n - m, with);
}

/* The form that the name of the output asks for. */
static bool parse_output(struct convert_options *o)
{
	bool text = ends(o->out, ".txt"), text_zst = ends(o->out, ".txt.zst");
	bool binary = ends(o->out, ".uft"), binary_zst = ends(o->out, ".uft.zst");

	if (!text && !text_zst && !binary && !binary_zst && strcmp(o->out, "-") != 0) {
		tool_usage_error(
			"%s: the name of the output must end in .txt or .txt.zst for text, "
			".uft or .uft.zst for binary",
			o->out);
		return false;
	}
	o->write.size = sizeof(o->write);
	o->write.format = binary || binary_zst ? UHMM_TRACE_FORMAT_BINARY : UHMM_TRACE_FORMAT_TEXT;
	o->write.level = text_zst || binary_zst ? o->level : 0;
	return true;
}

enum { OPT_REPEAT = 256, OPT_LEVEL, OPT_KEEP_GOING, OPT_PROGRESS, OPT_HELP };

static bool parse_option(struct convert_options *o, int c, const char *arg)
{
	uint64_t level;

	switch (c) {
	case OPT_REPEAT:
		return tool_parse_u64("--repeat", arg, 1, 1000000000, &o->repeat);
	case OPT_LEVEL:
		if (!tool_parse_u64("--level", arg, 1, 19, &level))
			return false;
		o->level = (int)level;
		return true;
	case OPT_KEEP_GOING:
		return o->keep_going = true;
	default:
		return o->progress = true;
	}
}

/* -1: go on, else the exit status. */
static int parse_options(struct convert_options *o, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "repeat", required_argument, NULL, OPT_REPEAT },
		{ "level", required_argument, NULL, OPT_LEVEL },
		{ "keep-going", no_argument, NULL, OPT_KEEP_GOING },
		{ "progress", no_argument, NULL, OPT_PROGRESS },
		{ "help", no_argument, NULL, OPT_HELP },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", longopts, NULL)) != -1) {
		if (c == OPT_HELP || c == 'h') {
			usage(stdout);
			return TOOL_OK;
		}
		if (c == '?')
			return tool_try_help();
		if (!parse_option(o, c, optarg))
			return TOOL_USAGE;
	}
	if (argc - optind != 2)
		return tool_usage_error("%s", argc - optind < 2 ? "expected IN and OUT"
								: "one IN and one OUT at a time");
	o->in = argv[optind];
	o->out = argv[optind + 1];
	if (o->repeat > 1 && !strcmp(o->in, "-"))
		return tool_usage_error("--repeat: standard input cannot be read again");
	return parse_output(o) ? -1 : TOOL_USAGE;
}

/* ---- one trace after the other ---- */

/* A pass over the input, and what follows from the passes before it. */
struct conversion {
	const struct convert_options *o;
	struct uhmm_trace_reader *reader;
	struct uhmm_trace_writer *writer;
	struct tool_progress progress;
	uint64_t pass, events;
	uint64_t origin_ns;	      /* when the input begins */
	uint64_t start_ns, last_ns;   /* when this pass begins; time of the last event */
	uint32_t mm_base;	      /* added to numbers of address spaces */
	uint32_t last_mm, nr_objects; /* highest numbers so far */
	bool *alive;		      /* address spaces of this pass */
	uint32_t cap_alive;
	struct uhmm_trace_caps caps; /* at the end of the first pass */
};

static bool *alive(struct conversion *c, uint32_t mm)
{
	if (mm >= c->cap_alive) {
		uint32_t cap = mm + 1 > 2 * c->cap_alive ? mm + 1 : 2 * c->cap_alive;

		c->alive = tool_xgrow(c->alive, cap, sizeof(*c->alive));
		memset(c->alive + c->cap_alive, 0, (cap - c->cap_alive) * sizeof(*c->alive));
		c->cap_alive = cap;
	}
	return &c->alive[mm];
}

/* The pass goes on from where the last one ended. False: the event is there already. */
static bool shift_event(struct conversion *c, struct uhmm_trace_event *ev)
{
	if (ev->kind == UHMM_TRACE_OBJ) {
		if (ev->obj.id <= c->nr_objects)
			return false;
		c->nr_objects = ev->obj.id;
	}
	if (ev->kind == UHMM_TRACE_MM_NEW)
		*alive(c, ev->mm) = true;
	else if (ev->kind == UHMM_TRACE_MM_DEL)
		*alive(c, ev->mm) = false;
	if (ev->kind == UHMM_TRACE_MM_NEW && ev->mm_new.parent)
		ev->mm_new.parent += c->mm_base;
	if (ev->mm)
		ev->mm += c->mm_base;
	if (ev->mm > c->last_mm)
		c->last_mm = ev->mm;
	if (c->pass) {
		ev->t_ns = c->start_ns + (ev->t_ns > c->origin_ns ? ev->t_ns - c->origin_ns : 0);
	} else if (!c->origin_ns) {
		c->origin_ns = ev->t_ns; /* a snapshot has time 0 */
	}
	c->last_ns = ev->t_ns;
	return true;
}

static int write_failed(const struct conversion *c, int err)
{
	if (err == -EINVAL) {
		const char *why = "it has more address spaces than can be numbered";

		return tool_error("%s: cannot be converted: %s", c->o->in, why);
	}
	return tool_error("%s: cannot write: %s", c->o->out, strerror(-err));
}

/* The end of a pass that another follows: what still runs ends. */
static int end_pass(struct conversion *c)
{
	struct uhmm_trace_event ev = { .t_ns = c->last_ns, .kind = UHMM_TRACE_MM_DEL, .cpu = -1 };
	int err = 0;

	for (uint32_t mm = 1; mm < c->cap_alive && !err; mm++) {
		if (!c->alive[mm])
			continue;
		c->alive[mm] = false;
		ev.mm = c->mm_base + mm;
		err = uhmm_trace_write(c->writer, &c->caps, &ev);
	}
	c->mm_base = c->last_mm;
	c->start_ns = c->last_ns + 1;
	return err ? write_failed(c, err) : TOOL_OK;
}

static void show_progress(struct conversion *c)
{
	uint64_t done, size;
	double share = 0;

	uhmm_trace_position(c->reader, &done, &size);
	if (size)
		share = ((double)c->pass + (double)done / (double)size) / (double)c->o->repeat;
	tool_progress(&c->progress, share, c->events);
}

static int read_failed(const struct conversion *c, int err)
{
	const char *why = uhmm_trace_error(c->reader);

	return why ? tool_error("%s", why) : tool_error("%s: %s", c->o->in, strerror(-err));
}

/* Who recorded the input is known when its first event was read. */
static int open_output(struct conversion *c)
{
	struct uhmm_trace_write_options write = c->o->write;
	int err;

	write.origin = *uhmm_trace_origin(c->reader);
	err = uhmm_trace_create(c->o->out, &write, &c->writer);
	return err ? write_failed(c, err) : TOOL_OK;
}

static int write_event(struct conversion *c, const struct uhmm_trace_caps *caps,
		       struct uhmm_trace_event *ev)
{
	int err;

	if (!c->writer && open_output(c))
		return TOOL_USAGE;
	if (c->o->repeat > 1 && !shift_event(c, ev))
		return TOOL_OK;
	err = uhmm_trace_write(c->writer, caps, ev);
	if (err)
		return write_failed(c, err);
	if (!(++c->events & 0xfff))
		show_progress(c);
	return TOOL_OK;
}

static int convert_events(struct conversion *c)
{
	const struct uhmm_trace_caps *caps = c->pass ? &c->caps : uhmm_trace_caps(c->reader);
	struct uhmm_trace_event ev;
	int ret;

	while ((ret = uhmm_trace_next(c->reader, &ev)) > 0)
		if (write_event(c, caps, &ev))
			return TOOL_USAGE;
	if (ret)
		return read_failed(c, ret);
	if (!c->pass)
		c->caps = *caps;
	return TOOL_OK;
}

static int open_input(struct conversion *c)
{
	struct uhmm_trace_options options = { sizeof(options), c->o->keep_going };
	int err = uhmm_trace_open(c->o->in, &options, &c->reader);

	return err ? tool_error("%s: %s", c->o->in, strerror(-err)) : TOOL_OK;
}

/* What was skipped; the status of a conversion that is done. */
static int report_malformed(const struct conversion *c, uint64_t nr)
{
	const char *text;

	if (!nr)
		return TOOL_OK;
	for (unsigned int i = 0; (text = uhmm_trace_malformed(c->reader, i)); i++)
		tool_warn("%s", text);
	tool_warn("%s: %llu malformed lines skipped", c->o->in, (unsigned long long)nr);
	return TOOL_DIFF;
}

static int convert(struct conversion *c)
{
	const struct uhmm_trace_stats *stats;
	int status = TOOL_OK, err;

	for (c->pass = 0; c->pass < c->o->repeat; c->pass++) {
		if (c->pass) {
			status = end_pass(c);
			uhmm_trace_close(c->reader);
			c->reader = NULL;
		}
		if (!status)
			status = open_input(c);
		if (!status)
			status = convert_events(c);
		if (status)
			return status;
	}
	if (!c->writer && open_output(c)) /* there was no event */
		return TOOL_USAGE;
	stats = uhmm_trace_stats(c->reader);
	status = report_malformed(c, stats->malformed);
	err = uhmm_trace_finish(c->writer, &c->caps, stats);
	c->writer = NULL;
	return err ? write_failed(c, err) : status;
}

int convert_trace(const struct convert_options *o, uint64_t *events)
{
	struct conversion c = { .o = o };
	int status;

	tool_progress_start(&c.progress, o->in, o->progress);
	status = convert(&c);
	tool_progress_end(&c.progress);
	uhmm_trace_discard(c.writer);
	uhmm_trace_close(c.reader);
	free(c.alive);
	*events = c.events;
	return status;
}

int uhmm_cmd_convert(int argc, char **argv)
{
	struct convert_options o = { .repeat = 1, .level = 3 };
	int status = parse_options(&o, argc, argv);
	uint64_t events;

	return status < 0 ? convert_trace(&o, &events) : status;
}
