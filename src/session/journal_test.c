/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
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

/* With a thread in between, all of it comes too. */
static void passes_lines_on(void **state)
{
	struct fl_journal journal;
	struct fl_log log;

	(void)state;
	fl_journal_open(&journal, ends[1], "prog", FL_LOG_INFO);
	assert_int_equal(fl_journal_detach(&journal), 0);
	log = fl_journal_log(&journal);
	fl_log(&log, FL_LOG_ERROR, "bad %d", 7);
	fl_log(&log, FL_LOG_INFO, "so");
	assert_int_equal(fl_journal_stop(&journal, 60000), 0);
	fl_journal_close(&journal);
	assert_string_equal(written(), "prog: error: bad 7\nprog: so\n");
}

#define STALLED_LINES 20000

static void fill_pipe(void)
{
	static const char zeros[4096];

	assert_return_code(fcntl(ends[1], F_SETFL, O_NONBLOCK), errno);
	while (write(ends[1], zeros, sizeof(zeros)) > 0)
		;
	assert_return_code(fcntl(ends[1], F_SETFL, 0), errno);
	assert_return_code(fcntl(ends[0], F_SETFL, O_NONBLOCK), errno);
}

/* Reads on until the journal has nothing more: what it said, after the zeros. */
static const char *drain(struct fl_journal *journal)
{
	static char text[4 << 20];
	size_t have = 0, zeros = 0;
	ssize_t got;
	int rc;

	do {
		rc = fl_journal_stop(journal, 1);
		while ((got = read(ends[0], text + have, sizeof(text) - 1 - have)) > 0)
			have += (size_t)got;
	} while (rc);
	while (zeros < have && !text[zeros])
		zeros++;
	return text + zeros;
}

/* Nobody waits for a reader that has stopped, and what it lost is said when it goes on. */
static void drops_what_nobody_reads(void **state)
{
	struct fl_journal journal;
	struct fl_log log;
	unsigned int came = 0, dropped = 0;
	const char *text;

	(void)state;
	fill_pipe();
	fl_journal_open(&journal, ends[1], "prog", FL_LOG_INFO);
	assert_int_equal(fl_journal_detach(&journal), 0);
	log = fl_journal_log(&journal);
	for (unsigned int i = 0; i < STALLED_LINES; i++)
		fl_log(&log, FL_LOG_INFO, "%060u", i);
	assert_int_equal(fl_journal_stop(&journal, 1), -ETIMEDOUT);
	for (text = drain(&journal); *text; text = strchr(text, '\n') + 1) {
		unsigned int number;

		if (sscanf(text, "prog: warning: %u lines were dropped", &number) == 1) {
			dropped += number;
			continue;
		}
		assert_int_equal(sscanf(text, "prog: %u\n", &number), 1);
		assert_int_equal(number, came++);
	}
	fl_journal_close(&journal);
	assert_true(dropped > 0);
	assert_int_equal(came + dropped, STALLED_LINES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_lines),
		TEST(keeps_a_message_on_its_line),
		TEST(cuts_what_is_too_long),
		TEST(speaks_to_systemd),
		TEST(knows_its_levels),
		TEST(passes_lines_on),
		TEST(drops_what_nobody_reads),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
