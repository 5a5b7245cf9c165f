/* SPDX-License-Identifier: MIT */

/*
 * The calls of sources and queues, handed to their kind; and reading for those who have no loop.
 */

#include <faultline/source.h>

#include <errno.h>
#include <poll.h>
#include <string.h>

/* More reads at a time serve no device, and would make the rings of idle pagers large. */
#define DEPTH_MAX 4096u
/* How much fl_source_read() asks for at a time. */
#define READ_STEP_BYTES (1ULL << 30)

uint64_t fl_source_length(struct fl_source *source)
{
	return source->ops->length(source);
}

void fl_source_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	source->ops->extent(source, offset, extent);
}

void fl_source_close(struct fl_source *source)
{
	if (source)
		source->ops->close(source);
}

int fl_queue_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue)
{
	if (!depth || depth > DEPTH_MAX)
		return -EINVAL;
	return source->ops->open(source, depth, queue);
}

int fl_queue_try(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	return queue->ops->attempt(queue, buf, len_bytes, offset) ? -EAGAIN : 0;
}

int fl_queue_submit(struct fl_queue *queue, struct fl_read *read)
{
	return queue->ops->submit(queue, read);
}

int fl_queue_fd(struct fl_queue *queue)
{
	return queue->ops->fd(queue);
}

int fl_queue_reap(struct fl_queue *queue)
{
	return queue->ops->reap(queue);
}

/* A kind of queue that was compiled before there was this call ends before it. */
void fl_queue_hurry(struct fl_queue *queue, struct fl_read *read, uint64_t offset,
		    uint64_t len_bytes)
{
	size_t needed = offsetof(struct fl_queue_ops, hurry) + sizeof(queue->ops->hurry);

	if (queue->ops->size >= needed && queue->ops->hurry)
		queue->ops->hurry(queue, read, offset, len_bytes);
}

void fl_queue_quiesce(struct fl_queue *queue, struct fl_read *read)
{
	const struct fl_queue_ops *ops = queue->ops;

	if (ops->size > offsetof(struct fl_queue_ops, quiesce) && ops->quiesce)
		ops->quiesce(queue, read);
}

void fl_queue_close(struct fl_queue *queue)
{
	if (queue)
		queue->ops->close(queue);
}

static void read_ended(struct fl_read *read)
{
	bool *ended = read->ctx;

	*ended = true;
}

/* A queue without a descriptor ends at its next reap() whatever was submitted to it. */
static int wait_for(struct fl_queue *queue, const bool *ended)
{
	struct pollfd pfd = {.fd = fl_queue_fd(queue), .events = POLLIN};

	while (!*ended) {
		if (pfd.fd >= 0 && poll(&pfd, 1, -1) < 0 && errno != EINTR)
			return -errno;
		(void)fl_queue_reap(queue);
	}
	return 0;
}

static int read_data(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	bool ended = false;
	struct fl_read read = {.buf = buf,
			       .offset = offset,
			       .len_bytes = len_bytes,
			       .done = read_ended,
			       .ctx = &ended};
	int ret;

	if (!fl_queue_try(queue, buf, len_bytes, offset))
		return 0;
	ret = fl_queue_submit(queue, &read);
	if (!ret)
		ret = wait_for(queue, &ended);
	return ret ? ret : read.result;
}

static int read_all(struct fl_source *source, struct fl_queue *queue, char *buf, uint64_t len_bytes,
		    uint64_t offset)
{
	struct fl_extent extent;
	uint64_t step;
	int ret;

	for (; len_bytes; buf += step, offset += step, len_bytes -= step) {
		fl_source_extent(source, offset, &extent);
		step = len_bytes < extent.len_bytes ? len_bytes : extent.len_bytes;
		if (step > READ_STEP_BYTES)
			step = READ_STEP_BYTES;
		if (extent.zeros) {
			memset(buf, 0, step);
			continue;
		}
		ret = read_data(queue, buf, step, offset);
		if (ret)
			return ret;
	}
	return 0;
}

int fl_source_read(struct fl_source *source, void *buf, uint64_t len_bytes, uint64_t offset)
{
	uint64_t length = fl_source_length(source);
	struct fl_queue *queue;
	int ret;

	if (offset > length || len_bytes > length - offset)
		return -ENODATA;
	ret = fl_queue_open(source, 1, &queue);
	if (ret)
		return ret;
	ret = read_all(source, queue, buf, len_bytes, offset);
	fl_queue_close(queue);
	return ret;
}
