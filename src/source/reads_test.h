/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_READS_TEST_H
#define FL_SOURCE_READS_TEST_H

/* Submitting reads and waiting for them, for the tests of sources, queues and filters. */

#include "support.h"

#include <faultline/source.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A read and how often it has ended. */
struct job {
	struct fl_read read;
	unsigned int ended;
};

static inline void job_done(struct fl_read *read)
{
	struct job *job = read->ctx;

	job->ended++;
}

static inline void job_init(struct job *job, void *buf, uint64_t len_bytes, uint64_t offset)
{
	*job = (struct job){.read = {.buf = buf,
				     .offset = offset,
				     .len_bytes = len_bytes,
				     .result = 1,
				     .done = job_done,
				     .ctx = job}};
}

/* Waits as a pager would, and reaps. Returns what reap() did. No assertion: any thread may use it.
 */
static inline int wait_and_reap(struct fl_queue *queue)
{
	struct pollfd pfd = {.fd = fl_queue_fd(queue), .events = POLLIN};

	while (pfd.fd >= 0 && poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
	return fl_queue_reap(queue);
}

/* Reaps until count reads have ended in all; they may not be more. */
static inline void reap_reads(struct fl_queue *queue, int count)
{
	while (count > 0)
		count -= wait_and_reap(queue);
	assert_int_equal(count, 0);
}

/* Submits and waits: what the read ended with. The queue has nothing else in flight. */
static inline int submit_and_wait(struct fl_queue *queue, void *buf, uint64_t len_bytes,
				  uint64_t offset)
{
	struct job job;

	job_init(&job, buf, len_bytes, offset);
	assert_int_equal(fl_queue_submit(queue, &job.read), 0);
	assert_int_equal(job.ended, 0);
	reap_reads(queue, 1);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.read.depth, 0);
	return job.read.result;
}

static inline bool is_readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

/* A file source of what fd has open; fd stays the caller's. */
static inline struct fl_source *source_of_fd(int fd, unsigned int flags)
{
	struct fl_source *source = NULL;
	struct fl_error err = {0};
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fl_source_file_open(&source, path, flags, &err))
		fail_msg("%s", err.text);
	return source;
}

static inline struct fl_queue *queue_of(struct fl_source *source, unsigned int depth)
{
	struct fl_queue *queue = NULL;

	assert_int_equal(fl_queue_open(source, depth, &queue), 0);
	return queue;
}

#endif
