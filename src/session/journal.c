/* SPDX-License-Identifier: MIT */
#include "session/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	const char *prefix;
	int priority; /* syslog(3) */
} levels[] = {
	[FL_LOG_ERROR] = {"error", "error: ", 3},
	[FL_LOG_WARNING] = {"warning", "warning: ", 4},
	[FL_LOG_INFO] = {"info", "", 6},
	[FL_LOG_DEBUG] = {"debug", "debug: ", 7},
};
#define LEVELS (sizeof(levels) / sizeof(*levels))

/* A terminal or another log must not be led astray by what a peer made us quote. */
static void make_printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}

static void write_line(void *ctx, enum fl_log_level level, const char *text)
{
	const struct fl_journal *journal = ctx;
	char line[640];
	char priority[8] = "";
	size_t len;

	if (level > journal->level)
		return;
	if (journal->priorities)
		(void)snprintf(priority, sizeof(priority), "<%d>", levels[level].priority);
	(void)snprintf(line, sizeof(line) - 1, "%s%s: %s%s", priority, journal->program,
		       levels[level].prefix, text);
	make_printable(line);
	len = strlen(line);
	line[len] = '\n';
	while (write(journal->fd, line, len + 1) < 0 && errno == EINTR)
		;
}

void fl_journal_open(struct fl_journal *journal, int fd, const char *program,
		     enum fl_log_level level)
{
	*journal = (struct fl_journal){.fd = fd, .level = level, .program = program};
	journal->priorities = getenv("JOURNAL_STREAM") && !isatty(fd);
}

struct fl_log fl_journal_log(struct fl_journal *journal)
{
	return (struct fl_log){.write = write_line, .ctx = journal};
}

int fl_journal_level(const char *name, enum fl_log_level *level)
{
	for (size_t i = 0; i < LEVELS; i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*level = (enum fl_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}
