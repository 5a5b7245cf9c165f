/* SPDX-License-Identifier: MIT */
#include "peer_test.h"
#include "guest_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct peer *of_source(struct fl_source *source)
{
	return (struct peer *)(void *)source;
}

static struct peer *of_queue(struct fl_queue *queue)
{
	return (struct peer *)(void *)((char *)queue - offsetof(struct peer, queue));
}

static uint64_t peer_length(struct fl_source *source)
{
	return of_source(source)->len_bytes;
}

static void peer_extent(struct fl_source *source, uint64_t offset, struct fl_extent *extent)
{
	*extent = (struct fl_extent){of_source(source)->len_bytes - offset, false};
}

static int peer_attempt(struct fl_queue *queue, void *buf, uint64_t len_bytes, uint64_t offset)
{
	(void)queue;
	(void)buf;
	(void)len_bytes;
	(void)offset;
	return -EAGAIN;
}

static void kick(struct peer *peer)
{
	uint64_t one = 1;

	assert_int_equal(write(peer->fd, &one, sizeof(one)), sizeof(one));
}

static int peer_submit(struct fl_queue *queue, struct fl_read *read)
{
	struct peer *peer = of_queue(queue);

	for (unsigned int i = 0; i < PEER_READS; i++) {
		if (peer->reads[i])
			continue;
		peer->reads[i] = read;
		peer->missing[i] = read->len_bytes;
		peer->submits++;
		peer->asked += read->len_bytes;
		if (peer->answers)
			kick(peer);
		return 0;
	}
	return -EBUSY;
}

static int peer_fd(struct fl_queue *queue)
{
	return of_queue(queue)->fd;
}

static unsigned int index_of(const struct peer *peer, uint64_t offset)
{
	for (unsigned int i = 0; i < PEER_READS; i++) {
		const struct fl_read *read = peer->reads[i];

		if (read && offset >= read->offset && offset - read->offset < read->len_bytes)
			return i;
	}
	return PEER_READS;
}

struct fl_read *peer_read(struct peer *peer, uint64_t offset)
{
	unsigned int i = index_of(peer, offset);

	return i < PEER_READS ? peer->reads[i] : NULL;
}

unsigned int peer_reads(const struct peer *peer)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < PEER_READS; i++)
		n += peer->reads[i] != NULL;
	return n;
}

static void end(struct peer *peer, unsigned int i, int result)
{
	struct fl_read *read = peer->reads[i];

	peer->reads[i] = NULL;
	read->result = result;
	if (read->depth) {
		struct fl_read_frame *frame = &read->frames[--read->depth];

		frame->done(read, frame);
	} else {
		read->done(read);
	}
}

/* Step by step, as a socket would. */
static void write_pieces(struct peer *peer, struct fl_read *read, uint64_t offset, uint64_t len)
{
	while (len) {
		uint64_t step = len;
		char *at = read->place ? read->place(read, offset, &step)
				       : (char *)read->buf + (offset - read->offset);

		assert_true(step && step <= len);
		assert_int_equal(step % 4096 && step < len, 0);
		test_pattern(at, step, offset, GUEST_SEED);
		peer->bytes += step;
		if (at >= peer->alias && at < peer->alias_end)
			peer->placed += step;
		offset += step;
		len -= step;
	}
}

static void obey(struct peer *peer, const struct peer_order *order)
{
	unsigned int i = index_of(peer, order->offset);
	struct fl_read *read;

	assert_true(i < PEER_READS);
	read = peer->reads[i];
	if (order->result) {
		end(peer, i, order->result);
		return;
	}
	assert_true(order->offset + order->len_bytes <= read->offset + read->len_bytes);
	if (order->halved) {
		write_pieces(peer, read, order->offset, order->len_bytes / 2);
		return;
	}
	if (order->zeros)
		read->zeros(read, order->offset, order->len_bytes);
	else
		write_pieces(peer, read, order->offset, order->len_bytes);
	if (!order->zeros && read->arrived)
		read->arrived(read, order->offset, order->len_bytes);
	peer->missing[i] -= order->len_bytes;
	if (!peer->missing[i])
		end(peer, i, 0);
}

static bool next_order(struct peer *peer, struct peer_order *order)
{
	bool found;

	(void)pthread_mutex_lock(&peer->lock);
	found = peer->taken < peer->given;
	if (found)
		*order = peer->orders[peer->taken++ % PEER_ORDERS];
	(void)pthread_mutex_unlock(&peer->lock);
	return found;
}

static int peer_reap(struct fl_queue *queue)
{
	struct peer *peer = of_queue(queue);
	struct peer_order order;
	uint64_t kicks;

	(void)!read(peer->fd, &kicks, sizeof(kicks));
	while (next_order(peer, &order))
		obey(peer, &order);
	for (unsigned int i = 0; peer->answers && i < PEER_READS; i++) {
		struct fl_read *read = peer->reads[i];

		if (read)
			obey(peer, &(struct peer_order){.offset = read->offset,
							.len_bytes = read->len_bytes,
							.result = peer->fails});
	}
	return 0;
}

static void peer_queue_close(struct fl_queue *queue)
{
	memset(of_queue(queue)->reads, 0, sizeof(of_queue(queue)->reads));
}

static void peer_hurry(struct fl_queue *queue, struct fl_read *read, uint64_t offset,
		       uint64_t len_bytes)
{
	struct peer *peer = of_queue(queue);

	assert_ptr_equal(peer_read(peer, offset), read);
	assert_true(read->flags & FL_READ_FILL);
	peer->hurries++;
	peer->hurry_offset = offset;
	peer->hurry_len = len_bytes;
}

static const struct fl_queue_ops queue_ops = {
	.size = sizeof(queue_ops),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = peer_attempt,
	.submit = peer_submit,
	.fd = peer_fd,
	.reap = peer_reap,
	.close = peer_queue_close,
	.hurry = peer_hurry,
};

/* Of a time before there was hurry(). */
static const struct fl_queue_ops old_ops = {
	.size = offsetof(struct fl_queue_ops, hurry),
	.version = FL_QUEUE_OPS_VERSION,
	.attempt = peer_attempt,
	.submit = peer_submit,
	.fd = peer_fd,
	.reap = peer_reap,
	.close = peer_queue_close,
	.hurry = peer_hurry,
};

static int peer_queue(struct fl_source *source, unsigned int depth, struct fl_queue **queue)
{
	struct peer *peer = of_source(source);

	(void)depth;
	peer->queue.ops = peer->no_hurry ? &old_ops : &queue_ops;
	*queue = &peer->queue;
	return 0;
}

static void peer_close(struct fl_source *source)
{
	(void)close(of_source(source)->fd);
	(void)pthread_mutex_destroy(&of_source(source)->lock);
}

struct fl_source *peer_open(struct peer *peer, uint64_t len_bytes)
{
	memset(peer, 0, sizeof(*peer));
	peer->ops = (struct fl_source_ops){
		.size = sizeof(peer->ops),
		.version = FL_SOURCE_OPS_VERSION,
		.flags = FL_SOURCE_PIECES,
		.name = "peer",
		.length = peer_length,
		.extent = peer_extent,
		.open = peer_queue,
		.close = peer_close,
	};
	peer->source.ops = &peer->ops;
	peer->len_bytes = len_bytes;
	peer->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(peer->fd >= 0);
	(void)pthread_mutex_init(&peer->lock, NULL);
	return &peer->source;
}

void peer_order(struct peer *peer, const struct peer_order *order)
{
	(void)pthread_mutex_lock(&peer->lock);
	assert_true(peer->given - peer->taken < PEER_ORDERS);
	peer->orders[peer->given++ % PEER_ORDERS] = *order;
	(void)pthread_mutex_unlock(&peer->lock);
	kick(peer);
}

void peer_bring(struct peer *peer, uint64_t offset, uint64_t len_bytes)
{
	peer_order(peer, &(struct peer_order){.offset = offset, .len_bytes = len_bytes});
}

void peer_zeros(struct peer *peer, uint64_t offset, uint64_t len_bytes)
{
	peer_order(peer,
		   &(struct peer_order){.offset = offset, .len_bytes = len_bytes, .zeros = true});
}
