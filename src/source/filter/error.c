/* SPDX-License-Identifier: MIT */

/*
 * Fails some reads, so that everything above can be shown to cope.
 *
 * Every read that touches the range takes a number, whichever queue it comes by; the numbers that
 * the rule divides fail. A read takes its number when it is answered at once or submitted, and
 * once only: an attempt that cannot be answered takes none, since it comes again as a submit, and
 * an attempt whose number would fail is sent there, to fail there. The counters are atomic and
 * alone; relaxed order is enough.
 *
 * Zeros within the range count as data: what is not read cannot fail.
 */

#include "source/filter/filter.h"

#include <errno.h>
#include <stdatomic.h>

struct error_filter {
	struct fl_filter base;
	struct fl_error_rule rule;
	uint64_t range_end;
	_Atomic uint64_t numbers; /* given out */
	_Atomic uint64_t hits;    /* of them, those that the rule divides; more than rule.first */
};

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static bool touches(const struct error_filter *filter, uint64_t offset, uint64_t len_bytes)
{
	return offset < filter->range_end && sum(offset, len_bytes) > filter->rule.offset;
}

/* Whether the number behind given would fail. */
static bool next_fails(struct error_filter *filter, uint64_t given)
{
	uint64_t hits = atomic_load_explicit(&filter->hits, memory_order_relaxed);

	return (given + 1) % filter->rule.every == 0 &&
	       (!filter->rule.first || hits < filter->rule.first);
}

/* For a read that was answered at once: false when its number fails, and is not taken. */
static bool take_passing(struct error_filter *filter)
{
	uint64_t given = atomic_load_explicit(&filter->numbers, memory_order_relaxed);

	do {
		if (next_fails(filter, given))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&filter->numbers, &given, given + 1, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* For a read that was submitted: whether it fails. */
static bool take(struct error_filter *filter)
{
	uint64_t number = 1 + atomic_fetch_add_explicit(&filter->numbers, 1, memory_order_relaxed);

	if (number % filter->rule.every)
		return false;
	return !filter->rule.first ||
	       atomic_fetch_add_explicit(&filter->hits, 1, memory_order_relaxed) <
		       filter->rule.first;
}

static int error_attempt(struct fl_queue *head, void *buf, uint64_t len_bytes, uint64_t offset)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	struct error_filter *filter = (struct error_filter *)queue->filter;
	bool counts = touches(filter, offset, len_bytes);
	int ret;

	/* Asked here only to spare the reading; the answer may have changed behind it. */
	if (counts &&
	    next_fails(filter, atomic_load_explicit(&filter->numbers, memory_order_relaxed)))
		return -EAGAIN;
	ret = fl_queue_try(queue->below, buf, len_bytes, offset);
	if (!ret && counts && !take_passing(filter))
		return -EAGAIN;
	return ret;
}

static void error_done(struct fl_read *read, struct fl_read_frame *frame)
{
	fl_filter_leave(frame->owner, read, read->result);
}

static void error_due(struct fl_filter_queue *queue, struct fl_read *read)
{
	fl_filter_leave(queue, read, -((struct error_filter *)queue->filter)->rule.code);
}

static int error_submit(struct fl_queue *head, struct fl_read *read)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	struct error_filter *filter = (struct error_filter *)queue->filter;
	int ret = fl_filter_admit(queue, read);

	if (ret)
		return ret;
	if (touches(filter, read->offset, read->len_bytes) && take(filter)) {
		fl_filter_hold(queue, read, 0);
		return 0;
	}
	ret = fl_filter_pass(queue, read, error_done);
	return ret ? fl_filter_refuse(queue, ret) : 0;
}

static void error_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	struct error_filter *filter = (struct error_filter *)source;
	uint64_t start = filter->rule.offset, bound = filter->range_end;

	fl_filter_extent(source, offset, extent);
	if (!extent->zeros || offset >= bound)
		return;
	if (offset < start)
		bound = start;
	else
		extent->zeros = false;
	if (extent->len_bytes > bound - offset)
		extent->len_bytes = bound - offset;
}

static const struct fl_filter_kind error_kind = {
	.source = FL_FILTER_SOURCE_OPS("error", error_extent, FL_SOURCE_PIECES),
	.queue = FL_FILTER_QUEUE_OPS(error_attempt, error_submit),
	.due = error_due,
};

int fl_filter_error_new(struct fl_source **source, const struct fl_error_rule *rule)
{
	struct error_filter *filter;
	int ret;

	if (rule->code <= 0 || !rule->every)
		return -EINVAL;
	ret = fl_filter_new(source, &error_kind, sizeof(*filter));
	if (ret)
		return ret;
	filter = (struct error_filter *)*source;
	filter->rule = *rule;
	filter->range_end = rule->len_bytes ? sum(rule->offset, rule->len_bytes) : UINT64_MAX;
	return 0;
}
