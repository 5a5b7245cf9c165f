/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_JOURNAL_H
#define FL_SESSION_JOURNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <faultline/common.h>

/*
 * Where a program's messages go: a descriptor, one write(2) a line, so that lines of several
 * threads do not mix. Under systemd each begins with its syslog priority, sd-daemon(3).
 *
 * Whoever reads the descriptor may be slow, or stop. So that nobody who says something waits for
 * that, lines can go through a pipe, from which a thread of the journal's own passes them on. A
 * line that finds the pipe full is dropped, and a later line says how many were.
 */
struct fl_journal {
	int fd;
	enum fl_log_level level;
	const char *program;
	bool priorities;

	/* Once it was detached. */
	bool detached;
	int pipe[2];
	int wake_fd; /* an eventfd: the thread is to look at stopping */
	pthread_t thread;
	atomic_uint dropped;
	atomic_bool stopping;
};

/* Messages up to this level, as lines that begin with the program's name. */
void fl_journal_open(struct fl_journal *journal, int fd, const char *program,
		     enum fl_log_level level);

/*
 * From now on nobody waits for the reader; to be called before a second thread writes. The journal
 * must then exist until the process ends, unless fl_journal_stop() returned 0. What pipe2(2) and
 * pthread_create(3) return, negated; then it goes on as it was.
 */
int fl_journal_detach(struct fl_journal *journal);

/*
 * Waits at most this long until all that was said is written. Lines that come later may be lost.
 * 0; -ETIMEDOUT when the reader takes nothing: then the thread is left to the end of the process.
 */
int fl_journal_stop(struct fl_journal *journal, unsigned int timeout_ms);

/* Lets go of what a journal that was stopped with success has; nobody may write to it any more. */
void fl_journal_close(struct fl_journal *journal);

/* A log that ends in the journal, which must outlive it. */
struct fl_log fl_journal_log(struct fl_journal *journal);

/* "error", "warning", "info" or "debug": 0, or -EINVAL. */
int fl_journal_level(const char *name, enum fl_log_level *level);

#endif
