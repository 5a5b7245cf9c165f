/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_JOURNAL_H
#define FL_SESSION_JOURNAL_H

#include <stdbool.h>
#include <faultline/common.h>

/*
 * Where a program's messages go: a descriptor, one write(2) a line, so that lines of several
 * threads do not mix. Under systemd each begins with its syslog priority, sd-daemon(3).
 */
struct fl_journal {
	int fd;
	enum fl_log_level level;
	const char *program;
	bool priorities;
};

/* Messages up to this level, as lines that begin with the program's name. */
void fl_journal_open(struct fl_journal *journal, int fd, const char *program,
		     enum fl_log_level level);

/* A log that ends in the journal, which must outlive it. */
struct fl_log fl_journal_log(struct fl_journal *journal);

/* "error", "warning", "info" or "debug": 0, or -EINVAL. */
int fl_journal_level(const char *name, enum fl_log_level *level);

#endif
