// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * main.c - the uhmm command: finds the subcommand.
 */
#include <uhmm/uhmm.h>

#include <stdlib.h>
#include <string.h>

#include "tool.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
};

static const struct command commands[] = {
	{ "replay", uhmm_cmd_replay, "replay fault traces and compare migration strategies" },
	{ "convert", uhmm_cmd_convert, "turn a trace into the native format, text or binary" },
	{ "conform", uhmm_cmd_conform, "check the model against recorded answers of a kernel" },
	{ "dump", uhmm_cmd_dump, "page tables, VMAs and folios at a point of a trace or vector" },
	{ "bench", uhmm_cmd_bench, "measure the model against its budgets" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *f)
{
	fputs("usage: uhmm COMMAND [ARGUMENT...]\n"
	      "       uhmm COMMAND --help\n"
	      "       uhmm --version\n"
	      "\n"
	      "A userspace model of Linux's device page migration.\n"
	      "\n"
	      "commands:\n",
	      f);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fputs("\n"
	      "Exit status: 0 done, 1 a difference or a violation, 2 wrong usage or bad input.\n"
	      "`man uhmm-COMMAND` says more.\n",
	      f);
}

static void version(void)
{
	printf("uhmm %s (models Linux %s)", uhmm_version(), UHMM_MODELS_LINUX);
#ifdef UHMM_CHECKED
	printf(", checked variant");
#endif
	putchar('\n');
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static int run_command(int argc, char **argv)
{
	const struct command *command;
	const char *word = argc > 1 ? argv[1] : NULL;
	char name[32];

	tool_set_args(argc, argv, NULL);
	if (!word) {
		usage(stderr);
		return TOOL_USAGE;
	}
	if (!strcmp(word, "help") && argc == 3 && argv[2][0] != '-') {
		static char help[] = "--help";

		word = argv[2]; /* "uhmm help NAME" is "uhmm NAME --help" */
		argv[1] = argv[2];
		argv[2] = help;
	}
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		usage(stdout);
		return TOOL_OK;
	}
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		version();
		return TOOL_OK;
	}
	if (word[0] == '-')
		return tool_usage_error("unknown option '%s'", word);
	command = find_command(word);
	if (!command)
		return tool_usage_error("unknown command '%s'", word);

	tool_set_args(argc, argv, command->name);
	snprintf(name, sizeof(name), "uhmm %s", command->name);
	argv[1] = name;
	return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int status = run_command(argc, argv);
	int written = tool_finish_file(stdout, "standard output");

	return written == TOOL_OK ? status : written;
}
