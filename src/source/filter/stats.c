/* SPDX-License-Identifier: MIT */

/*
 * Counts what passes. The counters are the source's, for all its queues; nothing hangs on their
 * order, so they are relaxed.
 */

#include "source/filter/filter.h"

#include <errno.h>
#include <stdatomic.h>

struct stats_filter {
	struct fl_filter base;
	_Atomic uint64_t attempts;
	_Atomic uint64_t submits;
	_Atomic uint64_t errors;
	_Atomic uint64_t bytes;
};

static struct stats_filter *to_stats(struct fl_filter_queue *queue)
{
	return (struct stats_filter *)queue->filter;
}

static void add(_Atomic uint64_t *counter, uint64_t amount)
{
	atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static int stats_attempt(struct fl_queue *head, void *buf, uint64_t len_bytes, uint64_t offset)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	int ret = fl_queue_try(queue->below, buf, len_bytes, offset);

	if (!ret) {
		add(&to_stats(queue)->attempts, 1);
		add(&to_stats(queue)->bytes, len_bytes);
	}
	return ret;
}

static void stats_done(struct fl_read *read, struct fl_read_frame *frame)
{
	struct fl_filter_queue *queue = frame->owner;

	if (read->result)
		add(&to_stats(queue)->errors, 1);
	else
		add(&to_stats(queue)->bytes, read->len_bytes);
	fl_filter_leave(queue, read, read->result);
}

static int stats_submit(struct fl_queue *head, struct fl_read *read)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	int ret = fl_filter_admit(queue, read);

	if (ret)
		return ret;
	ret = fl_filter_pass(queue, read, stats_done);
	if (ret)
		return fl_filter_refuse(queue, ret);
	add(&to_stats(queue)->submits, 1);
	return 0;
}

static const struct fl_filter_kind stats_kind = {
	.source = FL_FILTER_SOURCE_OPS("stats", fl_filter_extent, FL_SOURCE_PIECES),
	.queue = FL_FILTER_QUEUE_OPS(stats_attempt, stats_submit),
};

int fl_filter_stats_new(struct fl_source **source)
{
	return fl_filter_new(source, &stats_kind, sizeof(struct stats_filter));
}

static uint64_t get(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int fl_filter_stats_read(struct fl_source *source, struct fl_source_stats *stats)
{
	struct stats_filter *filter = (struct stats_filter *)source;

	if (!fl_filter_is(source, &stats_kind))
		return -EINVAL;
	*stats = (struct fl_source_stats){
		.attempts = get(&filter->attempts),
		.submits = get(&filter->submits),
		.errors = get(&filter->errors),
		.bytes = get(&filter->bytes),
	};
	return 0;
}
