/* SPDX-License-Identifier: MIT */
#include "session/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/fd.h"
#include "util/thread.h"

/* Below PIPE_BUF: a line goes into the pipe as a whole or not at all. */
#define LINE_MAX_BYTES 640
/* Some thousand lines; a kernel that does not give it leaves 64 KiB. */
#define PIPE_BYTES  (1 << 20)
#define STACK_BYTES (256u * 1024)

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

/* Its length, with the newline and without a NUL. */
static size_t format_line(const struct fl_journal *journal, enum fl_log_level level,
			  const char *text, char line[LINE_MAX_BYTES])
{
	char priority[8] = "";
	size_t len;

	if (journal->priorities)
		(void)snprintf(priority, sizeof(priority), "<%d>", levels[level].priority);
	(void)snprintf(line, LINE_MAX_BYTES - 1, "%s%s: %s%s", priority, journal->program,
		       levels[level].prefix, text);
	make_printable(line);
	len = strlen(line);
	line[len] = '\n';
	return len + 1;
}

static void write_line(void *ctx, enum fl_log_level level, const char *text)
{
	struct fl_journal *journal = ctx;
	int fd = journal->detached ? journal->pipe[1] : journal->fd;
	char line[LINE_MAX_BYTES];
	ssize_t done;
	size_t len;

	if (level > journal->level)
		return;
	len = format_line(journal, level, text, line);
	do
		done = write(fd, line, len);
	while (done < 0 && errno == EINTR);
	if (done < 0 && journal->detached)
		atomic_fetch_add(&journal->dropped, 1);
}

/* By the journal's thread, which may wait here; a reader that is gone gets nothing. */
static void pass_on(const struct fl_journal *journal, const char *bytes, size_t len)
{
	struct pollfd room = {.fd = journal->fd, .events = POLLOUT};

	while (len) {
		ssize_t done = write(journal->fd, bytes, len);

		if (done < 0 && errno == EAGAIN)
			(void)poll(&room, 1, -1);
		else if (done < 0 && errno != EINTR)
			return;
		if (done > 0) {
			bytes += done;
			len -= (size_t)done;
		}
	}
}

static void confess(struct fl_journal *journal)
{
	unsigned int dropped = atomic_exchange(&journal->dropped, 0);
	char line[LINE_MAX_BYTES];
	char text[80];

	if (!dropped)
		return;
	(void)snprintf(text, sizeof(text), "%u line%s dropped: the log is not read fast enough",
		       dropped, dropped == 1 ? " was" : "s were");
	pass_on(journal, line, format_line(journal, FL_LOG_WARNING, text, line));
}

/*
 * Whole lines at a time, so that those of other writers come between lines only. What is left of
 * one when the pipe is empty cannot be: a line is written at once.
 */
static void *journal_main(void *arg)
{
	struct fl_journal *journal = arg;
	struct pollfd more[] = {{.fd = journal->pipe[0], .events = POLLIN},
				{.fd = journal->wake_fd, .events = POLLIN}};
	char bytes[8 * LINE_MAX_BYTES];
	size_t have = 0;

	for (;;) {
		bool stopping = atomic_load(&journal->stopping);
		ssize_t got = read(journal->pipe[0], bytes + have, sizeof(bytes) - have);
		const char *end;

		if (got <= 0) {
			confess(journal);
			if (stopping)
				return NULL;
			(void)poll(more, 2, -1);
			continue;
		}
		have += (size_t)got;
		end = memrchr(bytes, '\n', have);
		if (!end)
			continue;
		end++;
		pass_on(journal, bytes, (size_t)(end - bytes));
		have -= (size_t)(end - bytes);
		memmove(bytes, end, have);
	}
}

static void close_pipe(struct fl_journal *journal)
{
	fl_fd_close(&journal->pipe[0]);
	fl_fd_close(&journal->pipe[1]);
	fl_fd_close(&journal->wake_fd);
}

int fl_journal_detach(struct fl_journal *journal)
{
	int rc = 0;

	journal->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (journal->wake_fd < 0 || pipe2(journal->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		rc = -errno;
	if (!rc) {
		(void)fcntl(journal->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
		rc = fl_thread_start(&journal->thread, STACK_BYTES, journal_main, journal);
	}
	if (rc)
		close_pipe(journal);
	journal->detached = rc == 0;
	return rc;
}

int fl_journal_stop(struct fl_journal *journal, unsigned int timeout_ms)
{
	struct timespec end;
	uint64_t one = 1;

	if (!journal->detached)
		return 0;
	atomic_store(&journal->stopping, true);
	(void)!write(journal->wake_fd, &one, sizeof(one));
	(void)clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += timeout_ms / 1000;
	end.tv_nsec += (long)(timeout_ms % 1000 * FL_NS_PER_MS);
	if (end.tv_nsec >= (long)FL_NS_PER_S) {
		end.tv_nsec -= (long)FL_NS_PER_S;
		end.tv_sec++;
	}
	return -pthread_timedjoin_np(journal->thread, NULL, &end);
}

void fl_journal_close(struct fl_journal *journal)
{
	journal->detached = false;
	close_pipe(journal);
}

void fl_journal_open(struct fl_journal *journal, int fd, const char *program,
		     enum fl_log_level level)
{
	*journal = (struct fl_journal){
		.fd = fd, .level = level, .program = program, .pipe = {-1, -1}, .wake_fd = -1};
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
