/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdio.h>

#include "cli/cli.h"

struct stat_options {
	const char *control;
	bool json;
};

static int set_control(void *ctx, const char *value, struct fl_error *err)
{
	(void)err;
	((struct stat_options *)ctx)->control = value;
	return 0;
}

static int set_json(void *ctx, const char *value, struct fl_error *err)
{
	(void)value, (void)err;
	((struct stat_options *)ctx)->json = true;
	return 0;
}

static const struct cli_option options[] = {
	{"control", 'c', "PATH", "the daemon's control socket", set_control},
	{"json", 'j', NULL, "print JSON, see faultline-control(5)", set_json},
};

static const struct cli_usage usage = {
	.command = "faultline stat",
	.synopsis = "[OPTION...]",
	.summary = "Shows what a daemon does: its sessions, their pages, faults and latencies.",
	.options = options,
	.option_count = sizeof(options) / sizeof(*options),
};

static void print_line(void *ctx, const char *text)
{
	(void)ctx;
	puts(text);
}

int cmd_stat(int argc, char **argv)
{
	static const struct cli_lines lines = {.line = print_line};
	struct stat_options o = {0};
	struct fl_error err;
	int status = cli_parse(&usage, argc, argv, &o, NULL);
	json_t *stat;

	if (status >= 0)
		return status;
	stat = cli_ask(o.control, "stat", &err);
	if (!stat) {
		fprintf(stderr, "faultline stat: %s\n", err.text);
		return CLI_FAILED;
	}
	if (o.json) {
		(void)json_dumpf(stat, stdout, JSON_INDENT(2));
		(void)putchar('\n');
	} else {
		cli_show_daemon(stat, &lines);
		(void)putchar('\n');
		cli_show_sessions(stat, &lines);
	}
	json_decref(stat);
	return CLI_OK;
}
