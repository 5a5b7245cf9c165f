/* SPDX-License-Identifier: MIT */
#include "link/pair_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pipe_stream {
	struct fl_stream stream;
	struct pipe *in, *out;
};

void pipe_put(struct pipe *pipe, const void *bytes, size_t len)
{
	if (pipe->tail + len > pipe->room) {
		pipe->room = 2 * (pipe->tail + len);
		pipe->bytes = realloc(pipe->bytes, pipe->room);
		assert_non_null(pipe->bytes);
	}
	if (len)
		memcpy(pipe->bytes + pipe->tail, bytes, len);
	pipe->tail += len;
}

static size_t pipe_get(struct pipe *pipe, void *bytes, size_t len)
{
	if (len > pipe->tail - pipe->head)
		len = pipe->tail - pipe->head;
	if (len)
		memcpy(bytes, pipe->bytes + pipe->head, len);
	pipe->head += len;
	return len;
}

static size_t least(size_t one, size_t other)
{
	return one < other ? one : other;
}

static int64_t stream_recv(struct fl_stream *stream, const struct iovec *iov, int count)
{
	struct pipe *pipe = ((struct pipe_stream *)stream)->in;
	size_t most = pipe->step ? pipe->step : SIZE_MAX;
	size_t moved = 0;

	pipe->asked = 0;
	for (int i = 0; i < count; i++)
		pipe->asked += iov[i].iov_len;
	if (pipe->head == pipe->tail)
		return pipe->error ? pipe->error : pipe->closed ? 0 : -EAGAIN;
	for (int i = 0; i < count; i++)
		moved += pipe_get(pipe, iov[i].iov_base, least(iov[i].iov_len, most - moved));
	pipe->calls++;
	return (int64_t)moved;
}

static int64_t stream_send(struct fl_stream *stream, const struct iovec *iov, int count)
{
	struct pipe *pipe = ((struct pipe_stream *)stream)->out;
	size_t most = pipe->step ? pipe->step : SIZE_MAX;
	size_t moved = 0;

	if (pipe->error)
		return pipe->error;
	if (pipe->capacity)
		most = least(most, pipe->capacity - least(pipe->tail - pipe->head, pipe->capacity));
	for (int i = 0; i < count; i++) {
		size_t len = least(iov[i].iov_len, most - moved);

		pipe_put(pipe, iov[i].iov_base, len);
		moved += len;
	}
	if (moved)
		pipe->calls++;
	return moved ? (int64_t)moved : -EAGAIN;
}

static int stream_fd(const struct fl_stream *stream)
{
	(void)stream;
	return -1;
}

static short stream_events(const struct fl_stream *stream)
{
	(void)stream;
	return 0;
}

/* A stream that gives little at a time, as TLS does, has more though a call came back short. */
static bool stream_pending(const struct fl_stream *stream)
{
	const struct pipe *pipe = ((const struct pipe_stream *)stream)->in;

	return pipe->head < pipe->tail;
}

static const char *stream_reason(const struct fl_stream *stream)
{
	const struct pipe_stream *self = (const struct pipe_stream *)stream;

	return self->in->reason ? self->in->reason : self->out->reason;
}

static void stream_close(struct fl_stream *stream)
{
	free(stream);
}

static const struct fl_stream_ops stream_ops = {
	.size = sizeof(stream_ops),
	.version = FL_STREAM_OPS_VERSION,
	.name = "pipe",
	.fd = stream_fd,
	.recv = stream_recv,
	.send = stream_send,
	.events = stream_events,
	.pending = stream_pending,
	.close = stream_close,
	.reason = stream_reason,
};

static int on_frame(void *ctx, const struct fl_frame *frame, const void *payload)
{
	struct owner *owner = ctx;

	assert_true(owner->frames < PAIR_FRAMES);
	owner->frame[owner->frames++] = *frame;
	memcpy(owner->payload, payload, frame->len);
	return owner->frame_rc;
}

static void *on_place(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t *len_bytes)
{
	struct owner *owner = ctx;

	assert_true(offset >= frame->offset && offset % FL_WIRE_UNIT == 0);
	assert_true(*len_bytes > 0 && *len_bytes <= frame->offset + frame->bytes - offset);
	owner->asked++;
	if (owner->most && *len_bytes > owner->most)
		*len_bytes = owner->most;
	if (owner->where)
		return owner->where(owner, offset, len_bytes);
	assert_true(offset + *len_bytes <= PAIR_IMAGE);
	return owner->image + offset;
}

static void tell(struct owner *owner, uint64_t offset, uint64_t len_bytes, enum told told)
{
	assert_true(len_bytes > 0 && len_bytes % FL_WIRE_UNIT == 0);
	for (uint64_t at = offset; at < offset + len_bytes; at += FL_WIRE_UNIT) {
		assert_int_equal(owner->told[at / FL_WIRE_UNIT], TOLD_NOTHING);
		owner->told[at / FL_WIRE_UNIT] = (uint8_t)told;
	}
	owner->calls++;
}

static int on_pages(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		    bool right)
{
	struct owner *owner = ctx;

	assert_int_equal(frame->type, FL_FRAME_PAGES);
	tell(owner, offset, len_bytes, right ? TOLD_RIGHT : TOLD_WRONG);
	return owner->pages_rc;
}

static int on_dropped(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes)
{
	assert_int_equal(frame->type, FL_FRAME_PAGES);
	tell(ctx, offset, len_bytes, TOLD_DROPPED);
	return 0;
}

static const struct fl_conn_ops conn_ops = {on_frame, on_place, on_pages, on_dropped};

void owner_open(struct owner *owner, const struct fl_conn_ops *ops)
{
	struct pipe_stream *stream = calloc(1, sizeof(*stream));

	assert_non_null(stream);
	*stream = (struct pipe_stream){{&stream_ops}, owner->in, owner->out};
	fl_conn_free(owner->conn);
	assert_int_equal(fl_conn_new(&owner->conn, &stream->stream, ops, owner), 0);
}

static void make_owner(struct owner *owner, struct pipe *in, struct pipe *out)
{
	owner->in = in;
	owner->out = out;
	owner->image = calloc(1, PAIR_IMAGE);
	owner->told = calloc(1, PAIR_IMAGE / FL_WIRE_UNIT);
	assert_non_null(owner->image);
	assert_non_null(owner->told);
	owner_open(owner, &conn_ops);
}

int pair_setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	assert_non_null(pair);
	pair->memory = malloc(PAIR_IMAGE);
	assert_non_null(pair->memory);
	test_pattern(pair->memory, PAIR_IMAGE, 0, PAIR_SEED);
	make_owner(&pair->out, &pair->back, &pair->there);
	make_owner(&pair->in, &pair->there, &pair->back);
	*state = pair;
	return 0;
}

static void free_owner(struct owner *owner)
{
	fl_conn_free(owner->conn);
	free(owner->image);
	free(owner->told);
}

int pair_teardown(void **state)
{
	struct pair *pair = *state;

	free_owner(&pair->out);
	free_owner(&pair->in);
	free(pair->there.bytes);
	free(pair->back.bytes);
	free(pair->memory);
	free(pair);
	return 0;
}

void pair_flush(struct owner *owner)
{
	assert_in_range(fl_conn_flush(owner->conn, UINT64_MAX), 0, 1);
}

int pair_run(struct pair *pair)
{
	uint64_t before, after;
	int rc;

	do {
		before = pair->there.head + pair->there.tail + pair->back.head + pair->back.tail;
		pair_flush(&pair->out);
		rc = fl_conn_recv(pair->in.conn, UINT64_MAX);
		if (rc < 0)
			return rc;
		(void)fl_conn_flush(pair->in.conn, UINT64_MAX);
		rc = fl_conn_recv(pair->out.conn, UINT64_MAX);
		assert_true(rc >= 0);
		after = pair->there.head + pair->there.tail + pair->back.head + pair->back.tail;
	} while (before != after);
	return 0;
}

void pair_push(struct pair *pair, uint64_t offset, uint32_t bytes)
{
	assert_int_equal(fl_conn_send_pages(pair->out.conn, offset, pair->memory + offset, bytes),
			 0);
	pair_flush(&pair->out);
}

void assert_told(const struct owner *owner, uint64_t offset, uint64_t len_bytes, enum told told)
{
	for (uint64_t at = offset; at < offset + len_bytes; at += FL_WIRE_UNIT)
		assert_int_equal(owner->told[at / FL_WIRE_UNIT], told);
}

void assert_in_place(const struct owner *owner, uint64_t offset, uint64_t len_bytes)
{
	assert_told(owner, offset, len_bytes, TOLD_RIGHT);
	assert_filled(owner->image + offset, len_bytes, offset, PAIR_SEED);
}

uint64_t pipe_frame(struct pipe *pipe, const struct fl_frame *frame, const void *payload,
		    uint32_t summed, const void *contents, uint32_t len, uint64_t chain)
{
	uint8_t head[FL_WIRE_HEAD_BYTES];
	uint64_t sum = fl_frame_encode(head, frame, payload, summed, chain);

	pipe_put(pipe, head, sizeof(head));
	pipe_put(pipe, payload, summed);
	pipe_put(pipe, contents, len);
	return sum;
}
