/* SPDX-License-Identifier: MIT */

/*
 * Lets reads take longer: each is held for the time before the source below hears of it. None is
 * answered at once. What need not be read (zeros that the source below knows of) takes no time.
 */

#include "source/filter/filter.h"
#include "util/clock.h"

#include <errno.h>

/* Longer ones are not told apart: a year. */
#define DELAY_MAX_US (365ULL * 86400 * 1000000)

struct delay_filter {
	struct fl_filter base;
	uint64_t delay_ns;
};

static int delay_attempt(struct fl_queue *head, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)head;
	(void)buf;
	(void)len_bytes;
	(void)offset;
	return -EAGAIN;
}

static void delay_done(struct fl_read *read, struct fl_read_frame *frame)
{
	fl_filter_leave(frame->owner, read, read->result);
}

static void delay_due(struct fl_filter_queue *queue, struct fl_read *read)
{
	int ret = fl_filter_pass(queue, read, delay_done);

	if (ret)
		fl_filter_leave(queue, read, ret);
}

static int delay_submit(struct fl_queue *head, struct fl_read *read)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	int ret = fl_filter_admit(queue, read);

	if (!ret)
		fl_filter_hold(queue, read, ((struct delay_filter *)queue->filter)->delay_ns);
	return ret;
}

static const struct fl_filter_kind delay_kind = {
	.source = FL_FILTER_SOURCE_OPS("delay", fl_filter_extent, FL_SOURCE_PIECES),
	.queue = FL_FILTER_QUEUE_OPS(delay_attempt, delay_submit),
	.due = delay_due,
};

int fl_filter_delay_new(struct fl_source **source, uint64_t delay_us)
{
	int ret = fl_filter_new(source, &delay_kind, sizeof(struct delay_filter));

	if (ret)
		return ret;
	if (delay_us > DELAY_MAX_US)
		delay_us = DELAY_MAX_US;
	((struct delay_filter *)*source)->delay_ns = delay_us * FL_NS_PER_US;
	return 0;
}
