/* SPDX-License-Identifier: MIT */

/*
 * Tries failed reads again, each time after twice the wait, until the tries are used up; the last
 * failure is the read's. What cannot change by waiting is not tried again: a file that is too
 * short (-ENODATA), a wrong request or descriptor (-EINVAL, -EBADF, -EFAULT, -EOPNOTSUPP), a
 * refusal (-EPERM, -EACCES).
 *
 * An attempt that is not answered at once is no try: it comes as a submit.
 */

#include "source/filter/filter.h"
#include "util/clock.h"

#include <errno.h>

struct retry_filter {
	struct fl_filter base;
	struct fl_retry_policy policy;
};

static const struct fl_retry_policy *policy_of(const struct fl_filter_queue *queue)
{
	return &((const struct retry_filter *)queue->filter)->policy;
}

static bool is_permanent(int result)
{
	switch (result) {
	case -ENODATA:
	case -EINVAL:
	case -EBADF:
	case -EFAULT:
	case -EOPNOTSUPP:
	case -EPERM:
	case -EACCES:
		return true;
	default:
		return false;
	}
}

static uint64_t wait_ns(const struct fl_retry_policy *policy, uint64_t tries)
{
	uint64_t doublings = tries - 1 < 31 ? tries - 1 : 31;
	uint64_t wait_ms = (uint64_t)policy->first_ms << doublings;

	return (wait_ms < policy->max_ms ? wait_ms : policy->max_ms) * FL_NS_PER_MS;
}

static void retry_done(struct fl_read *read, struct fl_read_frame *frame)
{
	struct fl_filter_queue *queue = frame->owner;
	const struct fl_retry_policy *policy = policy_of(queue);
	uint64_t *tries = &frame->words[0];

	if (!read->result || is_permanent(read->result) || *tries >= policy->tries) {
		fl_filter_leave(queue, read, read->result);
		return;
	}
	fl_filter_hold(queue, read, wait_ns(policy, *tries));
	++*tries;
}

static void retry_due(struct fl_filter_queue *queue, struct fl_read *read)
{
	int ret = fl_filter_pass(queue, read, retry_done);

	if (ret)
		fl_filter_leave(queue, read, ret);
}

static int retry_submit(struct fl_queue *head, struct fl_read *read)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	int ret = fl_filter_admit(queue, read);

	if (ret)
		return ret;
	fl_filter_words(read)[0] = 1;
	ret = fl_filter_pass(queue, read, retry_done);
	return ret ? fl_filter_refuse(queue, ret) : 0;
}

static const struct fl_filter_kind retry_kind = {
	.source = FL_FILTER_SOURCE_OPS("retry", fl_filter_extent, 0),
	.queue = FL_FILTER_QUEUE_OPS(fl_filter_attempt, retry_submit),
	.due = retry_due,
};

int fl_filter_retry_new(struct fl_source **source, const struct fl_retry_policy *policy)
{
	int ret;

	if (!policy->tries)
		return -EINVAL;
	ret = fl_filter_new(source, &retry_kind, sizeof(struct retry_filter));
	if (!ret)
		((struct retry_filter *)*source)->policy = *policy;
	return ret;
}
