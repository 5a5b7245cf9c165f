/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <string.h>

#include "cli/cli.h"
#include "util/error.h"

static struct fl_error err;

static void sizes(void **state)
{
	uint64_t bytes = 0;

	(void)state;
	assert_int_equal(cli_parse_size("0", UINT64_MAX, &bytes, &err), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(cli_parse_size("65536", UINT64_MAX, &bytes, &err), 0);
	assert_int_equal(bytes, 65536);
	assert_int_equal(cli_parse_size("64K", 65536, &bytes, &err), 0);
	assert_int_equal(bytes, 65536);
	assert_int_equal(cli_parse_size("2m", UINT64_MAX, &bytes, &err), 0);
	assert_int_equal(bytes, 2u << 20);
	assert_int_equal(cli_parse_size("1G", UINT64_MAX, &bytes, &err), 0);
	assert_int_equal(bytes, 1u << 30);
	assert_int_equal(cli_parse_size("16777215T", UINT64_MAX, &bytes, &err), 0);
	assert_int_equal(bytes, 16777215ULL << 40);
}

static void wrong_sizes(void **state)
{
	static const char *const wrong[] = {"",     "K",    "-1",   "+1",  " 1",
					    "64KB", "64 K", "0x10", "1.5M"};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_int_equal(cli_parse_size(wrong[i], UINT64_MAX, &bytes, &err), -EINVAL);
	assert_int_equal(cli_parse_size("16777216T", UINT64_MAX, &bytes, &err), -ERANGE);
	assert_int_equal(cli_parse_size("65K", 65536, &bytes, &err), -ERANGE);
	assert_int_equal(cli_parse_size("99999999999999999999", UINT64_MAX, &bytes, &err), -ERANGE);
}

static void numbers(void **state)
{
	uint64_t number = 0;

	(void)state;
	assert_int_equal(cli_parse_number("7", 1, 7, &number, &err), 0);
	assert_int_equal(number, 7);
	assert_int_equal(cli_parse_number("8", 1, 7, &number, &err), -ERANGE);
	assert_int_equal(cli_parse_number("0", 1, 7, &number, &err), -ERANGE);
	assert_int_equal(cli_parse_number("7x", 1, 7, &number, &err), -EINVAL);
	assert_int_equal(cli_parse_number("", 0, 7, &number, &err), -EINVAL);
}

struct seen {
	char text[100];
};

static int set_word(void *ctx, const char *value, struct fl_error *reason)
{
	struct seen *seen = ctx;

	if (value && strcmp(value, "bad") == 0)
		return fl_error_set(reason, -EINVAL, "is bad");
	strcat(seen->text, value ? value : "!");
	return 0;
}

static const struct cli_option options[] = {
	{"word", 'w', "WORD", "a word", set_word},
	{"bang", 0, NULL, "a bang", set_word},
};

static const struct cli_usage usage = {.command = "test",
				       .synopsis = "[OPTION...]",
				       .summary = "A test.",
				       .options = options,
				       .option_count = 2,
				       .operands = 1};

static int parse(struct seen *seen, char **argv, char ***operands)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	memset(seen, 0, sizeof(*seen));
	return cli_parse(&usage, argc, argv, seen, operands);
}

#define ARGS(...) ((char *[]){(char[]){"test"}, __VA_ARGS__, NULL})
#define ARG(text) ((char[]){text})

static void options_in_order(void **state)
{
	struct seen seen;
	char **operands;

	(void)state;
	assert_int_equal(parse(&seen,
			       ARGS(ARG("--word"), ARG("a"), ARG("--bang"), ARG("-wb"), ARG("file"),
				    ARG("--word=c")),
			       &operands),
			 -1);
	assert_string_equal(seen.text, "a!bc");
	assert_string_equal(operands[0], "file");
}

static void wrong_options(void **state)
{
	struct seen seen;

	(void)state;
	assert_int_equal(parse(&seen, ARGS(ARG("file"), ARG("--nonsense")), NULL), CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("file"), ARG("-x")), NULL), CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("file"), ARG("--word")), NULL), CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("file"), ARG("--bang=1")), NULL), CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("file"), ARG("--word"), ARG("bad")), NULL),
			 CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("--bang")), NULL), CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("file"), ARG("more")), NULL), CLI_USAGE);
	assert_int_equal(parse(&seen, ARGS(ARG("--help")), NULL), CLI_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),         cmocka_unit_test(wrong_sizes),
		cmocka_unit_test(numbers),       cmocka_unit_test(options_in_order),
		cmocka_unit_test(wrong_options),
	};

	return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
