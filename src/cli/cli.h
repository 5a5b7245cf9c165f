/* SPDX-License-Identifier: MIT */
#ifndef FL_CLI_CLI_H
#define FL_CLI_CLI_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <faultline/common.h>

/* What the commands of faultline share. */

/* Exit statuses. */
#define CLI_OK     0
#define CLI_FAILED 1
#define CLI_USAGE  2

/* Each command gets its own name as argv[0], and returns the exit status. */
int cmd_serve(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_worker(int argc, char **argv);

/*
 * One option of a command. set() gets the command's own structure and the option's value (NULL
 * without one), and returns 0, or a negative errno with the reason in err.
 */
struct cli_option {
	const char *name;  /* long name, without dashes */
	char letter;       /* or 0 */
	const char *value; /* what the value is called, or NULL when it takes none */
	const char *help;  /* one line */
	int (*set)(void *ctx, const char *value, struct fl_error *err);
};

/* A command's usage: what --help prints, and what getopt_long(3) is fed with. */
struct cli_usage {
	const char *command;  /* "faultline serve" */
	const char *synopsis; /* what follows the name */
	const char *summary;
	const struct cli_option *options;
	size_t option_count;
	int operands; /* how many arguments it takes beside options */
};

/*
 * Reads the options, in their order. Returns -1 when the command goes on, with *operands at the
 * first argument; else the exit status, all having been said. --help is known to every command.
 */
int cli_parse(const struct cli_usage *usage, int argc, char **argv, void *ctx, char ***operands);

/* "4096", "64K", "2M", "1G": bytes. -EINVAL, -ERANGE. */
int cli_parse_size(const char *text, uint64_t max, uint64_t *bytes, struct fl_error *err);

/* A whole number from min to max. -EINVAL, -ERANGE. */
int cli_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number,
		     struct fl_error *err);

/* Where the control socket is unless said otherwise; to be freed. */
char *cli_control_path(void);

/*
 * Asks the daemon on its control socket, and returns the answer (to be json_decref()ed), or NULL
 * with the reason. path may be NULL for the default.
 */
json_t *cli_ask(const char *path, const char *command, struct fl_error *err);

/* "1.5 us", "12 ms": at most 8 characters and a NUL. */
void cli_format_ns(char text[9], uint64_t ns);

/* "512 KiB", "3.8 GiB": at most 9 characters and a NUL. */
void cli_format_bytes(char text[10], uint64_t bytes);

/* What `stat` shows and `top` shows again and again. */
struct cli_lines {
	void (*line)(void *ctx, const char *text);
	void *ctx;
};
void cli_show_daemon(json_t *stat, const struct cli_lines *lines);
void cli_show_sessions(json_t *stat, const struct cli_lines *lines);

#endif
