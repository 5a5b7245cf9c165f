/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "util.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} verbs[] = {
	{"run", vmm_cmd_run, "start a guest, run commands in it"},
	{"snapshot", vmm_cmd_snapshot, "let a running guest be saved to a directory"},
	{"restore", vmm_cmd_restore, "go on from a snapshot"},
	{"receive", vmm_cmd_receive, "go on with a machine that another host sends"},
	{"migrate", vmm_cmd_migrate, "let a running guest move to another host"},
	{"control", vmm_cmd_control, "ask a running guest: status, pause, commands, quit"},
};

static void usage(FILE *to)
{
	fputs("usage: faultline-vmm VERB [OPTION...]\n\n", to);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\nfaultline-vmm VERB --help tells more. Exit status: 0 done, 1 failed (also when "
	      "the\n"
	      "guest found a page that is not what was written), 2 wrong usage.\n",
	      to);
}

static int dispatch(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verb, verbs[i].name))
			return verbs[i].run(argc - 2, argv + 2);
	if (!strcmp(verb, "--version")) {
		puts("faultline-vmm " FL_VERSION);
		return EXIT_OK;
	}
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h") || !strcmp(verb, "help")) {
		usage(stdout);
		return EXIT_OK;
	}
	if (*verb)
		fprintf(stderr, "faultline-vmm: %s: no such verb\n", verb);
	usage(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* A report that was lost, for a full disk say, is no success. */
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	fprintf(stderr, "faultline-vmm: write to stdout: %s\n", strerror(errno));
	return status ? status : EXIT_FAILED;
}
