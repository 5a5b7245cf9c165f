/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

struct command {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct command commands[] = {
	{"serve", "supply the memory of virtual machines from images", cmd_serve},
	{"stat", "show what a daemon does", cmd_stat},
	{"top", "show it live", cmd_top},
	{"worker", "be the network of virtual machines on this host", cmd_worker},
	{"probe", "show what this kernel offers, and what will be used", cmd_probe},
	{"bench", "measure, beside a bare loop of the same system calls", cmd_bench},
	{"help", "print this", cmd_help},
	{"version", "print the version", cmd_version},
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

static void print_usage(FILE *out)
{
	fputs("usage: faultline COMMAND [OPTION...]\n\n"
	      "Supplies the memory of virtual machines page by page, at first touch.\n\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-9s  %s\n", commands[i].name, commands[i].summary);
	fputs("\n'faultline COMMAND --help' tells more, and so does faultline-COMMAND(1).\n", out);
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	}
	return NULL;
}

static int unknown(const char *name)
{
	fprintf(stderr, "faultline: there is no command '%s'\nTry 'faultline help'.\n", name);
	return CLI_USAGE;
}

/* `faultline help serve` is `faultline serve --help`. */
static int cmd_help(int argc, char **argv)
{
	char help[] = "--help";
	char *args[] = {argc > 1 ? argv[1] : argv[0], help, NULL};
	const struct command *command = argc > 1 ? find(argv[1]) : NULL;

	if (argc > 1 && !command)
		return unknown(argv[1]);
	if (command && command->run != cmd_help && command->run != cmd_version)
		return command->run(2, args);
	print_usage(stdout);
	return CLI_OK;
}

static int cmd_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("faultline %s\n", fl_version());
	return CLI_OK;
}

static int run(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_usage(stderr);
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return cmd_version(argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return cmd_help(1, argv);
	command = find(argv[1]);
	return command ? command->run(argc - 1, argv + 1) : unknown(argv[1]);
}

/* What was printed must have arrived: a full disk is no success. */
int main(int argc, char **argv)
{
	int status = run(argc, argv);

	if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_OK) {
		perror("faultline: standard output");
		return CLI_FAILED;
	}
	return status;
}
