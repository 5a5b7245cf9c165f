/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "util/error.h"

/* Long options without a letter are numbered from here on. */
#define FIRST_LONG  256
#define OPTIONS_MAX 40
#define HELP_COLUMN 26

static int parse_digits(const char *text, char **end, uint64_t *number)
{
	unsigned long long value;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, end, 10);
	if (errno)
		return -ERANGE;
	*number = value;
	return 0;
}

int cli_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number,
		     struct fl_error *err)
{
	char *end = NULL;
	int rc = parse_digits(text, &end, number);

	if (rc == -EINVAL || (!rc && *end))
		return fl_error_set(err, -EINVAL, "'%s' is not a number", text);
	if (rc || *number < min || *number > max)
		return fl_error_set(err, -ERANGE, "%s is not between %" PRIu64 " and %" PRIu64,
				    text, min, max);
	return 0;
}

int cli_parse_size(const char *text, uint64_t max, uint64_t *bytes, struct fl_error *err)
{
	static const char units[] = "KMGT";
	char *end = NULL;
	unsigned int shift = 0;
	int rc = parse_digits(text, &end, bytes);

	if (rc != -EINVAL && *end && strchr(units, toupper((unsigned char)*end))) {
		shift = 10 *
			(unsigned int)(strchr(units, toupper((unsigned char)*end)) - units + 1);
		end++;
	}
	if (rc == -EINVAL || *end)
		return fl_error_set(err, -EINVAL, "'%s' is not a size such as 65536, 64K or 2M",
				    text);
	if (rc || *bytes > max >> shift)
		return fl_error_set(err, -ERANGE, "%s is more than %" PRIu64 " bytes", text, max);
	*bytes <<= shift;
	return 0;
}

static void print_option(const struct cli_option *option)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "%c%c%s--%s%s%s", option->letter ? '-' : ' ',
		       option->letter ? option->letter : ' ', option->letter ? ", " : "  ",
		       option->name, option->value ? " " : "", option->value ? option->value : "");
	printf("  %-*s  %s\n", HELP_COLUMN, name, option->help);
}

static void print_help(const struct cli_usage *usage)
{
	static const struct cli_option help = {
		.name = "help", .letter = 'h', .help = "print this and exit"};

	printf("usage: %s %s\n\n%s\n\n", usage->command, usage->synopsis, usage->summary);
	for (size_t i = 0; i < usage->option_count; i++)
		print_option(&usage->options[i]);
	print_option(&help);
}

static int complain(const struct cli_usage *usage, const char *option, const char *text)
{
	fprintf(stderr, "%s: %s%s%s\nTry '%s --help'.\n", usage->command, option ? "--" : "",
		option ? option : "", text, usage->command);
	return CLI_USAGE;
}

/* What getopt_long(3) wants to know. */
struct getopt_table {
	struct option longs[OPTIONS_MAX + 2];
	char letters[2 * OPTIONS_MAX + 4];
};

static void make_table(const struct cli_usage *usage, struct getopt_table *table)
{
	char *letter = table->letters;

	memset(table, 0, sizeof(*table));
	*letter++ = ':';
	*letter++ = 'h';
	for (size_t i = 0; i < usage->option_count && i < OPTIONS_MAX; i++) {
		const struct cli_option *option = &usage->options[i];

		table->longs[i] = (struct option){option->name,
						  option->value ? required_argument : no_argument,
						  NULL, FIRST_LONG + (int)i};
		if (!option->letter)
			continue;
		*letter++ = option->letter;
		if (option->value)
			*letter++ = ':';
	}
	table->longs[usage->option_count] = (struct option){"help", no_argument, NULL, 'h'};
}

static const struct cli_option *find_option(const struct cli_usage *usage, int found)
{
	for (size_t i = 0; i < usage->option_count; i++) {
		if (found == FIRST_LONG + (int)i || (found && found == usage->options[i].letter))
			return &usage->options[i];
	}
	return NULL;
}

/* -1 to go on. */
static int handle(const struct cli_usage *usage, int found, char **argv, void *ctx)
{
	const struct cli_option *option = find_option(usage, found);
	struct fl_error err = {.text = "is not right"};
	char text[300];

	if (found == 'h') {
		print_help(usage);
		return CLI_OK;
	}
	if (found == '?' || found == ':' || !option) {
		(void)snprintf(text, sizeof(text), "%s %s", argv[optind - 1],
			       found == ':' ? "needs a value"
					    : "is not an option, or not with a value");
		return complain(usage, NULL, text);
	}
	if (option->set(ctx, optarg, &err) == 0)
		return -1;
	(void)snprintf(text, sizeof(text), ": %s", err.text);
	return complain(usage, option->name, text);
}

int cli_parse(const struct cli_usage *usage, int argc, char **argv, void *ctx, char ***operands)
{
	struct getopt_table table;
	int status = -1;
	int found;

	make_table(usage, &table);
	optind = 0;
	opterr = 0;
	while (status < 0 &&
	       (found = getopt_long(argc, argv, table.letters, table.longs, NULL)) != -1)
		status = handle(usage, found, argv, ctx);
	if (status >= 0)
		return status;
	if (argc - optind != usage->operands)
		return complain(usage, NULL,
				argc - optind > usage->operands ? "too many arguments"
								: "an argument is missing");
	if (operands)
		*operands = argv + optind;
	return -1;
}
