/* SPDX-License-Identifier: MIT */
#include "support.h"
#include "util/log.h"

#include <string.h>

struct seen {
	unsigned int count;
	enum fl_log_level level;
	char text[1024];
};

static void keep(void *ctx, enum fl_log_level level, const char *text)
{
	struct seen *seen = ctx;

	seen->count++;
	seen->level = level;
	(void)strncpy(seen->text, text, sizeof(seen->text) - 1);
}

static void message_reaches_the_callers_log(void **state)
{
	struct seen seen = {0};
	const struct fl_log log = {.write = keep, .ctx = &seen};

	(void)state;
	fl_log(&log, FL_LOG_WARNING, "page %d of %s", 7, "guest 1");
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.level, FL_LOG_WARNING);
	assert_string_equal(seen.text, "page 7 of guest 1");
}

static void each_level_arrives_as_it_was_given(void **state)
{
	static const enum fl_log_level levels[] = {FL_LOG_ERROR, FL_LOG_WARNING, FL_LOG_INFO,
						   FL_LOG_DEBUG};
	struct seen seen = {0};
	const struct fl_log log = {.write = keep, .ctx = &seen};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		fl_log(&log, levels[i], "x");
		assert_int_equal(seen.level, levels[i]);
		assert_int_equal(seen.count, i + 1);
	}
}

static void no_log_takes_no_message(void **state)
{
	const struct fl_log log = {.write = NULL};

	(void)state;
	fl_log(NULL, FL_LOG_ERROR, "%s", "dropped");
	fl_log(&log, FL_LOG_ERROR, "%s", "dropped");
}

static void long_message_is_cut_and_terminated(void **state)
{
	struct seen seen = {0};
	const struct fl_log log = {.write = keep, .ctx = &seen};
	char text[900];

	(void)state;
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	fl_log(&log, FL_LOG_INFO, "%s", text);
	assert_int_equal(strlen(seen.text), 511);
	assert_memory_equal(seen.text, text, 511);
}

static void a_message_allocates_nothing(void **state)
{
	struct seen seen = {0};
	const struct fl_log log = {.write = keep, .ctx = &seen};
	uint64_t before = test_allocations();

	(void)state;
	fl_log(&log, FL_LOG_INFO, "%s at 0x%x", "page", 0x1000);
	assert_int_equal(test_allocations(), before);
	assert_string_equal(seen.text, "page at 0x1000");
}

static void version_is_that_of_the_build(void **state)
{
	(void)state;
	assert_string_equal(fl_version(), FL_VERSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_reaches_the_callers_log),
		cmocka_unit_test(each_level_arrives_as_it_was_given),
		cmocka_unit_test(no_log_takes_no_message),
		cmocka_unit_test(long_message_is_cut_and_terminated),
		cmocka_unit_test(a_message_allocates_nothing),
		cmocka_unit_test(version_is_that_of_the_build),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
