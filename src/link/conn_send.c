/* SPDX-License-Identifier: MIT */
#include "link/conn_parts.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"

#define PIECES_MAX 5 /* the ring may wrap before the contents or after them */

int fl_conn_out_init(struct conn_out *out)
{
	out->ring = malloc(CONN_RING);
	return out->ring ? 0 : -ENOMEM;
}

void fl_conn_out_free(struct conn_out *out)
{
	fl_squeeze_free(out->squeeze);
	free(out->ring);
}

int fl_conn_compress(struct fl_conn *conn, uint8_t flag)
{
	int rc = 0;

	if (flag != 0 && flag != FL_FRAME_ZSTD && flag != FL_FRAME_LZ4)
		return -EINVAL;
	if (flag && !conn->out.squeeze)
		rc = fl_squeeze_new(&conn->out.squeeze);
	if (!rc)
		conn->out.flag = flag;
	return rc;
}

static void ring_put(struct conn_out *out, const void *from, uint32_t len)
{
	uint32_t at = (uint32_t)(out->tail % CONN_RING);
	uint32_t first = len < CONN_RING - at ? len : CONN_RING - at;

	if (first)
		memcpy(out->ring + at, from, first);
	if (len > first)
		memcpy(out->ring, (const uint8_t *)from + first, len - first);
	out->tail += len;
}

/* HELLO and WELCOME stand outside of the chain. */
static bool is_chained(uint8_t type)
{
	return type != FL_FRAME_HELLO && type != FL_FRAME_WELCOME;
}

/* The caller has made sure that it fits. */
static void put_frame(struct conn_out *out, const struct fl_frame *frame, const void *payload,
		      uint32_t summed)
{
	uint8_t head[FL_WIRE_HEAD_BYTES];
	bool chained = is_chained(frame->type);
	uint64_t sum = fl_frame_encode(head, frame, payload, summed, chained ? out->chain : 0);

	if (chained)
		out->chain = sum;
	ring_put(out, head, sizeof(head));
	ring_put(out, payload, summed);
}

static int check(struct fl_conn *conn, const struct fl_frame *frame)
{
	struct fl_error why;

	if (fl_frame_check(frame, &why) == 0)
		return 0;
	return fl_error_set(&conn->error, -EINVAL, "cannot send %s", why.text);
}

int fl_conn_send(struct fl_conn *conn, const struct fl_frame *frame, const void *payload,
		 uint32_t len)
{
	struct conn_out *out = &conn->out;
	struct fl_frame whole = *frame;
	int rc;

	whole.len = len;
	if (out->rc)
		return out->rc;
	if (whole.type == FL_FRAME_PAGES)
		return fl_error_set(&conn->error, -EINVAL, "PAGES is no control frame");
	rc = check(conn, &whole);
	if (rc)
		return rc;
	if (out->tail - out->head + FL_WIRE_HEAD_BYTES + len > CONN_QUEUE_MAX)
		return -ENOBUFS;
	put_frame(out, &whole, payload, len);
	return 0;
}

void fl_conn_send_error(struct fl_conn *conn, const struct fl_error *err)
{
	struct conn_out *out = &conn->out;
	uint32_t len = (uint32_t)strnlen(err->text, sizeof(err->text));
	struct fl_frame frame = {
		.type = FL_FRAME_ERROR,
		.id = err->code < 0 && err->code >= -4095 ? (uint32_t)-err->code : EPROTO,
		.len = len,
	};

	if (out->rc || out->tail - out->head + FL_WIRE_HEAD_BYTES + len > CONN_RING)
		return;
	put_frame(out, &frame, err->text, len);
	(void)fl_conn_flush(conn, UINT64_MAX);
}

/* Makes the contents a compressed block if that is shorter; else they stay, or become the copy. */
static void squeeze(struct fl_conn *conn, struct fl_frame *frame, uint32_t sums)
{
	struct conn_out *out = &conn->out;
	const uint8_t *block;
	uint32_t len = fl_squeeze_block(out->squeeze, out->flag, &block);

	if (len == 0)
		return;
	out->contents = block;
	out->left = len;
	frame->flags = out->flag;
	frame->len = sums + len;
	conn->stats.saved_bytes += frame->bytes - len;
}

int fl_conn_send_pages(struct fl_conn *conn, uint64_t offset, const void *from, uint32_t bytes)
{
	struct conn_out *out = &conn->out;
	struct fl_frame frame = {.type = FL_FRAME_PAGES, .offset = offset, .bytes = bytes};
	uint32_t sums = fl_frame_summed(&frame);
	int rc;

	frame.len = sums + bytes;
	if (out->rc)
		return out->rc;
	rc = check(conn, &frame);
	if (rc)
		return rc;
	if (!fl_conn_can_send_pages(conn))
		return -EBUSY;
	out->contents = from;
	out->left = bytes;
	if (out->flag)
		out->contents = fl_squeeze_copy(out->squeeze, from, bytes);
	fl_unit_sums(out->sums, out->contents, bytes);
	for (uint32_t i = 0; i < bytes / FL_WIRE_UNIT; i++)
		out->sums[i] = htole64(out->sums[i]);
	if (out->flag)
		squeeze(conn, &frame, sums);
	put_frame(out, &frame, out->sums, sums);
	out->split = out->tail;
	return 0;
}

bool fl_conn_can_send_pages(const struct fl_conn *conn)
{
	return conn->out.left == 0;
}

uint64_t fl_conn_unsent(const struct fl_conn *conn)
{
	return conn->out.tail - conn->out.head + conn->out.left;
}

/* Bytes [from, to) of the ring, at most *room of them. */
static int gather_ring(const struct conn_out *out, uint64_t from, uint64_t to, uint64_t *room,
		       struct iovec *iov)
{
	int count = 0;

	while (from<to && * room> 0) {
		uint64_t at = from % CONN_RING;
		uint64_t len = to - from < CONN_RING - at ? to - from : CONN_RING - at;

		if (len > *room)
			len = *room;
		iov[count++] = (struct iovec){out->ring + at, len};
		*room -= len;
		from += len;
	}
	return count;
}

static int gather(const struct conn_out *out, uint64_t room, struct iovec *iov)
{
	uint64_t split = out->left ? out->split : out->head;
	int count = gather_ring(out, out->head, split, &room, iov);

	if (out->left && room > 0) {
		uint64_t len = out->left < room ? out->left : room;

		iov[count++] = (struct iovec){(void *)(uintptr_t)out->contents, len};
		room -= len;
	}
	return count + gather_ring(out, split, out->tail, &room, iov + count);
}

static void sent(struct fl_conn *conn, uint64_t bytes)
{
	struct conn_out *out = &conn->out;
	uint64_t before = out->left ? out->split - out->head : 0;
	uint64_t contents;

	conn->stats.sent_bytes += bytes;
	conn->stats.last_sent_ns = fl_clock_ns();
	before = bytes < before ? bytes : before;
	contents = bytes - before < out->left ? bytes - before : out->left;
	if (contents) {
		out->contents += contents;
		out->left -= contents;
	}
	out->head += bytes - contents;
	if (out->head == out->tail && !out->left)
		out->head = out->tail = out->split = 0; /* the same few cache lines again */
}

int fl_conn_flush(struct fl_conn *conn, uint64_t budget_bytes)
{
	struct conn_out *out = &conn->out;
	struct iovec iov[PIECES_MAX];

	while (!out->rc && fl_conn_unsent(conn) && budget_bytes > 0) {
		int count = gather(out, budget_bytes, iov);
		int64_t given = fl_stream_send(conn->stream, iov, count);

		if (given == -EINTR)
			continue;
		if (given == -EAGAIN || given == 0)
			return 0;
		if (given < 0) {
			out->rc = fl_conn_stream_failed(conn, "sending", (int)given);
			break;
		}
		sent(conn, (uint64_t)given);
		budget_bytes -= (uint64_t)given;
	}
	if (out->rc)
		return out->rc;
	return fl_conn_unsent(conn) == 0;
}
