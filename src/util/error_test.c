/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>

static void error_is_filled_and_its_code_returned(void **state)
{
	struct fl_error err = {0};

	(void)state;
	assert_int_equal(fl_error_set(&err, -EINVAL, "region %d: %s", 3, "it is empty"), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "region 3: it is empty");
}

static void error_may_be_unwanted(void **state)
{
	(void)state;
	assert_int_equal(fl_error_set(NULL, -EPERM, "%s", "nobody reads this"), -EPERM);
}

static void a_later_error_replaces_an_earlier_one(void **state)
{
	struct fl_error err;

	(void)state;
	fl_error_set(&err, -EINVAL, "a long first sentence");
	fl_error_set(&err, -EIO, "short");
	assert_int_equal(err.code, -EIO);
	assert_string_equal(err.text, "short");
}

static void long_text_is_cut_and_terminated(void **state)
{
	struct {
		struct fl_error err;
		char behind;
	} space = {.behind = '!'};
	char text[2 * sizeof(space.err.text)];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(fl_error_set(&space.err, -E2BIG, "%s", text), -E2BIG);
	assert_int_equal(strlen(space.err.text), sizeof(space.err.text) - 1);
	assert_memory_equal(space.err.text, text, sizeof(space.err.text) - 1);
	assert_int_equal(space.behind, '!');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_is_filled_and_its_code_returned),
		cmocka_unit_test(error_may_be_unwanted),
		cmocka_unit_test(a_later_error_replaces_an_earlier_one),
		cmocka_unit_test(long_text_is_cut_and_terminated),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
