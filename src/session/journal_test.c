/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session/journal.h"
#include "util/log.h"

static int ends[2];

static int set_up(void **state)
{
	(void)state;
	(void)unsetenv("JOURNAL_STREAM");
	return pipe(ends);
}

static int tear_down(void **state)
{
	(void)state;
	return close(ends[0]) | close(ends[1]);
}

/* What has been written, all of it. */
static const char *written(void)
{
	static char text[4096];
	ssize_t got;

	assert_int_equal(write(ends[1], "", 1), 1);
	got = read(ends[0], text, sizeof(text));
	assert_true(got > 0 && text[got - 1] == '\0');
	return text;
}

static void writes_lines(void **state)
{
	struct fl_journal journal;
	struct fl_log log;

	(void)state;
	fl_journal_open(&journal, ends[1], "prog", FL_LOG_INFO);
	log = fl_journal_log(&journal);
	fl_log(&log, FL_LOG_ERROR, "bad %d", 7);
	fl_log(&log, FL_LOG_WARNING, "odd");
	fl_log(&log, FL_LOG_INFO, "so");
	fl_log(&log, FL_LOG_DEBUG, "not seen");
	assert_string_equal(written(), "prog: error: bad 7\nprog: warning: odd\nprog: so\n");
}

/* A peer's text cannot begin a line of its own, nor speak to the terminal. */
static void keeps_a_message_on_its_line(void **state)
{
	struct fl_journal journal;
	struct fl_log log;

	(void)state;
	fl_journal_open(&journal, ends[1], "prog", FL_LOG_INFO);
	log = fl_journal_log(&journal);
	log.write(log.ctx, FL_LOG_INFO, "a\nb\x1b[2Jc\td\xc3\xa9");
	assert_string_equal(written(), "prog: a?b?[2Jc?d\xc3\xa9\n");
}

static void cuts_what_is_too_long(void **state)
{
	struct fl_journal journal;
	struct fl_log log;
	char longest[2000];
	const char *text;

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	fl_journal_open(&journal, ends[1], "prog", FL_LOG_INFO);
	log = fl_journal_log(&journal);
	log.write(log.ctx, FL_LOG_INFO, longest);
	text = written();
	assert_in_range(strlen(text), 500, 1000);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void speaks_to_systemd(void **state)
{
	struct fl_journal journal;
	struct fl_log log;

	(void)state;
	assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
	fl_journal_open(&journal, ends[1], "prog", FL_LOG_DEBUG);
	log = fl_journal_log(&journal);
	fl_log(&log, FL_LOG_ERROR, "bad");
	fl_log(&log, FL_LOG_DEBUG, "seen");
	assert_string_equal(written(), "<3>prog: error: bad\n<7>prog: debug: seen\n");
}

static void knows_its_levels(void **state)
{
	enum fl_log_level level = FL_LOG_INFO;

	(void)state;
	assert_int_equal(fl_journal_level("debug", &level), 0);
	assert_int_equal(level, FL_LOG_DEBUG);
	assert_int_equal(fl_journal_level("error", &level), 0);
	assert_int_equal(level, FL_LOG_ERROR);
	assert_int_equal(fl_journal_level("loud", &level), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_lines),          TEST(keeps_a_message_on_its_line),
		TEST(cuts_what_is_too_long), TEST(speaks_to_systemd),
		TEST(knows_its_levels),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
