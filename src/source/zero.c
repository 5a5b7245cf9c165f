/* SPDX-License-Identifier: MIT */

/*
 * Zeros. Every read is answered at once, so that a queue needs no descriptor; what is submitted
 * nevertheless (by a filter that held the read for a time) ends at the next reap().
 */

#include "source/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct zero_queue {
	struct fl_queue head;
	struct fl_read *held;
	struct fl_read **tail;
	unsigned int depth;
	unsigned int in_flight;
};

static struct zero_queue *to_zero(struct fl_queue *queue)
{
	return (struct zero_queue *)queue;
}

static int zero_attempt(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)queue;
	(void)offset;
	memset(buf, 0, len_bytes);
	return 0;
}

static int zero_submit(struct fl_queue *queue, struct fl_read *read)
{
	struct zero_queue *zero = to_zero(queue);

	if (zero->in_flight == zero->depth)
		return -EBUSY;
	zero->in_flight++;
	read->next = NULL;
	*zero->tail = read;
	zero->tail = &read->next;
	return 0;
}

static int zero_fd(struct fl_queue *queue)
{
	(void)queue;
	return -1;
}

static int zero_reap(struct fl_queue *queue)
{
	struct zero_queue *zero = to_zero(queue);
	struct fl_read *read = zero->held, *next;
	int ended = 0;

	/* What a done() submits is for the next time. */
	zero->held = NULL;
	zero->tail = &zero->held;
	for (; read; read = next, ended++) {
		next = read->next;
		zero->in_flight--;
		memset(read->buf, 0, read->len_bytes);
		fl_read_end(read, 0);
	}
	return ended;
}

static void zero_queue_close(struct fl_queue *queue)
{
	free(queue);
}

static const struct fl_queue_ops zero_queue_ops = {
	.size = sizeof(struct fl_queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = zero_attempt,
	.submit = zero_submit,
	.fd = zero_fd,
	.reap = zero_reap,
	.close = zero_queue_close,
};

static uint64_t zero_length(struct fl_source *source)
{
	(void)source;
	return UINT64_MAX;
}

static void zero_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	(void)source;
	extent->len_bytes = UINT64_MAX - offset;
	extent->zeros = true;
}

static int zero_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue)
{
	struct zero_queue *zero = calloc(1, sizeof(*zero));

	(void)source;
	if (!zero)
		return -ENOMEM;
	zero->head.ops = &zero_queue_ops;
	zero->tail = &zero->held;
	zero->depth = depth;
	*queue = &zero->head;
	return 0;
}

static void zero_close(struct fl_source *source)
{
	free(source);
}

static const struct fl_source_ops zero_source_ops = {
	.size = sizeof(struct fl_source_ops),
	.version = FL_SOURCE_OPS_VERSION,
	.name = "zero",
	.length = zero_length,
	.extent = zero_extent,
	.open = zero_open,
	.close = zero_close,
};

int fl_source_zero_open(struct fl_source **source)
{
	struct fl_source *zero = calloc(1, sizeof(*zero));

	if (!zero)
		return -ENOMEM;
	zero->ops = &zero_source_ops;
	*source = zero;
	return 0;
}
