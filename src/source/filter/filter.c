/* SPDX-License-Identifier: MIT */
#include "source/filter/filter.h"
#include "source/read.h"
#include "util/clock.h"

#include <errno.h>
#include <stdlib.h>

static struct fl_filter *to_filter(struct fl_source *source)
{
	return (struct fl_filter *)source;
}

int fl_filter_new(struct fl_source **source, const struct fl_filter_kind *kind, size_t size)
{
	struct fl_filter *filter;
	unsigned int level = 1;

	if ((*source)->ops->open == fl_filter_open)
		level += to_filter(*source)->level;
	if (level > FL_READ_FRAMES)
		return -E2BIG;
	filter = calloc(1, size);
	if (!filter)
		return -ENOMEM;
	filter->ops = kind->source;
	filter->ops.flags &= (*source)->ops->flags;
	filter->head.ops = &filter->ops;
	filter->kind = kind;
	filter->below = *source;
	filter->level = level;
	*source = &filter->head;
	return 0;
}

bool fl_filter_is(const struct fl_source *source, const struct fl_filter_kind *kind)
{
	return source->ops->open == fl_filter_open &&
	       ((const struct fl_filter *)source)->kind == kind;
}

uint64_t fl_filter_length(struct fl_source *source)
{
	return fl_source_length(to_filter(source)->below);
}

void fl_filter_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	fl_source_extent(to_filter(source)->below, offset, extent);
}

void fl_filter_close(struct fl_source *source)
{
	fl_source_close(to_filter(source)->below);
	free(source);
}

static int queue_init(struct fl_filter_queue *queue)
{
	int ret = fl_queue_open(queue->filter->below, queue->depth, &queue->below);

	if (ret)
		return ret;
	queue->below_fd = fl_queue_fd(queue->below);
	queue->poll_fd = -1;
	if (queue->below->ops->reap == fl_filter_reap)
		queue->poll_fd = fl_filter_queue(queue->below)->poll_fd;
	if (!queue->filter->kind->due)
		return 0;
	ret = fl_hold_open(&queue->hold, queue->poll_fd, queue->below_fd);
	if (ret)
		fl_queue_close(queue->below);
	queue->poll_fd = queue->hold.poll_fd;
	return ret;
}

int fl_filter_open(struct fl_source *source, unsigned int depth, struct fl_queue **head)
{
	struct fl_filter_queue *queue = calloc(1, sizeof(*queue));
	int ret;

	if (!queue)
		return -ENOMEM;
	queue->filter = to_filter(source);
	queue->head.ops = &queue->filter->kind->queue;
	queue->depth = depth;
	ret = queue_init(queue);
	if (ret)
		free(queue);
	else
		*head = &queue->head;
	return ret;
}

int fl_filter_attempt(struct fl_queue *head, void *buf, uint64_t len_bytes, uint64_t offset)
{
	return fl_queue_try(fl_filter_queue(head)->below, buf, len_bytes, offset);
}

int fl_filter_fd(struct fl_queue *head)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);

	return queue->poll_fd >= 0 ? queue->poll_fd : queue->below_fd;
}

static void end_held(struct fl_filter_queue *queue)
{
	uint64_t now_ns = fl_clock_ns();
	struct fl_read *read;

	while ((read = fl_hold_take(&queue->hold, now_ns)))
		queue->filter->kind->due(queue, read);
}

int fl_filter_reap(struct fl_queue *head)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);
	bool holds = queue->filter->kind->due;

	queue->ended = 0;
	if (holds)
		end_held(queue);
	/* After that: a queue without a descriptor ends here all that was passed on so far. */
	queue->hold.kicked = false;
	(void)fl_queue_reap(queue->below);
	if (holds)
		fl_hold_arm(&queue->hold);
	return queue->ended;
}

static bool is_below(const struct fl_filter_queue *queue, const struct fl_read *read)
{
	for (unsigned int i = 0; i < read->depth; i++) {
		if (read->frames[i].owner == queue)
			return true;
	}
	return false;
}

void fl_filter_hurry(struct fl_queue *head, struct fl_read *read, uint64_t offset,
		     uint64_t len_bytes)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);

	if (is_below(queue, read))
		fl_queue_hurry(queue->below, read, offset, len_bytes);
}

void fl_filter_queue_close(struct fl_queue *head)
{
	struct fl_filter_queue *queue = fl_filter_queue(head);

	if (queue->filter->kind->due)
		fl_hold_close(&queue->hold);
	fl_queue_close(queue->below);
	free(queue);
}

int fl_filter_admit(struct fl_filter_queue *queue, struct fl_read *read)
{
	if (read->depth >= FL_READ_FRAMES)
		return -E2BIG;
	if (queue->in_flight == queue->depth)
		return -EBUSY;
	queue->in_flight++;
	return 0;
}

int fl_filter_refuse(struct fl_filter_queue *queue, int ret)
{
	queue->in_flight--;
	return ret;
}

int fl_filter_pass(struct fl_filter_queue *queue, struct fl_read *read,
		   void (*done)(struct fl_read *read, struct fl_read_frame *frame))
{
	struct fl_read_frame *frame = &read->frames[read->depth++];
	int ret;

	frame->done = done;
	frame->owner = queue;
	ret = fl_queue_submit(queue->below, read);
	if (ret)
		read->depth--;
	else if (queue->below_fd < 0 && queue->filter->kind->due)
		fl_hold_kick(&queue->hold);
	return ret;
}

void fl_filter_hold(struct fl_filter_queue *queue, struct fl_read *read, uint64_t wait_ns)
{
	fl_hold_put(&queue->hold, read, fl_clock_ns() + wait_ns);
}

void fl_filter_leave(struct fl_filter_queue *queue, struct fl_read *read, int result)
{
	queue->in_flight--;
	queue->ended++;
	fl_read_end(read, result);
}
