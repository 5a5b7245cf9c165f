/* SPDX-License-Identifier: MIT */
#include "cli/bench.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "util/error.h"

#define ROUNDS_DEFAULT 7u
#define ROUNDS_MAX     99u

static bool within(const struct bench *bench, const struct bench_result *result)
{
	return bench->at_least ? result->ratio >= bench->limit : result->ratio <= bench->limit;
}

static void print_row(const struct bench *bench, const struct bench_result *result)
{
	printf("%-9s %10.2f %10.2f %-9s %7.2f  %s %-5.2f %-4s  %s\n", bench->name, result->ours,
	       result->bare, bench->unit, result->ratio,
	       bench->at_least ? ">=" : "<=", bench->limit, within(bench, result) ? "yes" : "NO",
	       bench->what);
	(void)fflush(stdout);
}

static json_t *to_json(const struct bench *bench, const struct bench_result *result)
{
	return json_pack("{s:s, s:s, s:s, s:f, s:f, s:s, s:f, s:f, s:b}", "name", bench->name,
			 "what", bench->what, "unit", bench->unit, "ours", result->ours, "beside",
			 result->bare, "ratio_of", bench->ratio, "ratio", result->ratio, "limit",
			 bench->limit, "within", within(bench, result));
}

static int run_one(const struct bench *bench, const struct bench_options *options, json_t *out)
{
	struct bench_result result = {0};
	struct fl_error err = {0};
	int code = bench->run(options, &result, &err);
	if (code < 0) {
		(void)fprintf(stderr, "faultline bench: %s: %s\n", bench->name,
			      err.text[0] ? err.text : strerror(-code));
		return 1;
	}
	if (options->json)
		(void)json_array_append_new(out, to_json(bench, &result));
	else
		print_row(bench, &result);
	return 0;
}

static bool is_wanted(const struct bench_options *options, const struct bench *bench)
{
	return !options->only || strcmp(options->only, bench->name) == 0;
}

static int run_all(const struct bench_options *options)
{
	json_t *out = json_array();
	int failed = 0;

	if (!options->json)
		printf("%-9s %10s %10s %-9s %7s  %-8s %-4s  %s\n", "name", "ours", "beside", "unit",
		       "ratio", "aim", "met", "what");
	for (size_t i = 0; i < bench_count; i++) {
		if (is_wanted(options, &bench_table[i]))
			failed |= run_one(&bench_table[i], options, out);
	}
	if (options->json) {
		(void)json_dumpf(out, stdout, JSON_INDENT(2));
		(void)putchar('\n');
	}
	json_decref(out);
	return failed;
}

static int set_rounds(void *ctx, const char *value, struct fl_error *err)
{
	struct bench_options *options = ctx;
	uint64_t rounds;
	int code = cli_parse_number(value, 1, ROUNDS_MAX, &rounds, err);

	if (!code)
		options->rounds = (unsigned int)rounds;
	return code;
}

static int set_spin(void *ctx, const char *value, struct fl_error *err)
{
	struct bench_options *options = ctx;
	uint64_t spin_us;
	int code = cli_parse_number(value, 0, 1000000, &spin_us, err);

	if (!code)
		options->spin_us = (uint32_t)spin_us;
	return code;
}

static int set_only(void *ctx, const char *value, struct fl_error *err)
{
	struct bench_options *options = ctx;

	for (size_t i = 0; i < bench_count; i++) {
		if (strcmp(value, bench_table[i].name) == 0) {
			options->only = value;
			return 0;
		}
	}
	return fl_error_set(err, -EINVAL, "no benchmark is called \"%s\"", value);
}

static int set_quick(void *ctx, const char *value, struct fl_error *err)
{
	struct bench_options *options = ctx;

	(void)value;
	(void)err;
	options->quick = true;
	return 0;
}

static int set_json(void *ctx, const char *value, struct fl_error *err)
{
	struct bench_options *options = ctx;

	(void)value;
	(void)err;
	options->json = true;
	return 0;
}

static const struct cli_option option_table[] = {
	{"only", 'o', "NAME", "only this benchmark", set_only},
	{"rounds", 'n', "N", "rounds of each side, the median counts (default 7)", set_rounds},
	{"quick", 'q', NULL, "with an eighth of the memory", set_quick},
	{"spin", 0, "US", "the pager looks for the next fault this long (default 0)", set_spin},
	{"json", 'j', NULL, "print JSON", set_json},
};

static const struct cli_usage usage = {
	.command = "faultline bench",
	.synopsis = "[OPTION...]",
	.summary = "Measures the pager beside a bare loop of the same system calls, in turns.\n"
		   "Timings drift: only the ratio of the two says something. Needs an image of up\n"
		   "to 1 GiB in TMPDIR (default /var/tmp) and as much memory.",
	.options = option_table,
	.option_count = sizeof(option_table) / sizeof(option_table[0]),
};

int cmd_bench(int argc, char **argv)
{
	struct bench_options options = {.rounds = ROUNDS_DEFAULT};
	int status = cli_parse(&usage, argc, argv, &options, NULL);

	return status >= 0 ? status : run_all(&options);
}
