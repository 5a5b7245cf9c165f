/* SPDX-License-Identifier: MIT */
#include "link/meet_parts.h"

#include <errno.h>
#include <string.h>

#include "link/stream.h"
#include "util/error.h"

static int take_failed(const struct fl_stream *stream, int64_t ret, struct fl_error *err)
{
	const char *reason;

	if (ret == -EAGAIN)
		return -EAGAIN;
	if (ret == 0)
		return fl_error_set(err, -ECONNRESET, "the peer closed the connection");
	reason = fl_stream_reason(stream);
	return fl_error_set(err, (int)ret, "%s", reason ? reason : strerror((int)-ret));
}

/* A record of TLS that is part of a handshake, or an alert (RFC 8446, section 5.1). */
static bool is_tls(const struct fl_meet_taker *taker)
{
	return taker->got >= 2 && (taker->head[0] == 0x15 || taker->head[0] == 0x16) &&
	       taker->head[1] == 0x03;
}

static int take_up_to(struct fl_stream *stream, struct fl_meet_taker *taker, uint8_t *to,
		      uint32_t begin, uint32_t end, struct fl_error *err)
{
	while (taker->got < end) {
		struct iovec iov = {.iov_base = to + (taker->got - begin),
				    .iov_len = end - taker->got};
		int64_t ret = fl_stream_recv(stream, &iov, 1);

		if (ret <= 0)
			return take_failed(stream, ret, err);
		taker->got += (uint32_t)ret;
	}
	return 0;
}

static int take_head(struct fl_stream *stream, struct fl_meet_taker *taker, struct fl_error *err)
{
	int rc = take_up_to(stream, taker, taker->head, 0, FL_WIRE_HEAD_BYTES, err);

	if (rc != -EAGAIN && is_tls(taker))
		return fl_error_set(err, -EBADMSG, "the peer speaks TLS, this side does not");
	if (rc)
		return rc;
	rc = fl_frame_decode(&taker->frame, taker->head, err);
	if (rc)
		return rc;
	if (taker->frame.len > FL_MEET_PAYLOAD_MAX)
		return fl_error_set(err, -EBADMSG, "a frame of %u bytes is not for a meeting",
				    taker->frame.len);
	return 0;
}

int fl_meet_take(struct fl_stream *stream, struct fl_meet_taker *taker, struct fl_error *err)
{
	const struct fl_frame *frame = &taker->frame;
	uint64_t sum;
	int rc = 0;

	if (taker->got < FL_WIRE_HEAD_BYTES)
		rc = take_head(stream, taker, err);
	if (!rc)
		rc = take_up_to(stream, taker, taker->payload, FL_WIRE_HEAD_BYTES,
				FL_WIRE_HEAD_BYTES + frame->len, err);
	if (!rc)
		rc = fl_frame_verify(taker->head, taker->payload, fl_frame_summed(frame), 0, &sum,
				     err);
	return rc ? rc : 1;
}

int fl_meet_give(struct fl_stream *stream, struct fl_meet_giver *giver, struct fl_error *err)
{
	while (giver->sent < giver->len) {
		struct iovec iov = {.iov_base = giver->bytes + giver->sent,
				    .iov_len = giver->len - giver->sent};
		int64_t ret = fl_stream_send(stream, &iov, 1);

		if (ret <= 0)
			return take_failed(stream, ret, err);
		giver->sent += (uint32_t)ret;
	}
	return 1;
}

static void put(struct fl_meet_giver *giver, struct fl_frame *frame, const void *payload,
		uint32_t len)
{
	frame->len = len;
	memcpy(giver->bytes + FL_WIRE_HEAD_BYTES, payload, len);
	(void)fl_frame_encode(giver->bytes, frame, payload, len, 0);
	giver->len = FL_WIRE_HEAD_BYTES + len;
	giver->sent = 0;
}

void fl_meet_put_hello(struct fl_meet_giver *giver, enum fl_frame_type type,
		       const struct fl_wire_hello *hello)
{
	struct fl_frame frame = {.type = (uint8_t)type};
	uint8_t bytes[FL_WIRE_HELLO_BYTES];

	fl_hello_encode(bytes, hello);
	put(giver, &frame, bytes, sizeof(bytes));
}

void fl_meet_put_error(struct fl_meet_giver *giver, const struct fl_error *err)
{
	struct fl_frame frame = {.type = FL_FRAME_ERROR, .id = (uint32_t)-err->code};

	put(giver, &frame, err->text, (uint32_t)strnlen(err->text, sizeof(err->text)));
}

bool fl_meet_same_session(const uint8_t *a, const uint8_t *b)
{
	volatile uint8_t difference = 0;

	for (unsigned int i = 0; i < FL_WIRE_SESSION; i++)
		difference = (uint8_t)(difference | (a[i] ^ b[i]));
	return difference == 0;
}

bool fl_meet_no_session(const uint8_t *session)
{
	static const uint8_t none[FL_WIRE_SESSION];

	return fl_meet_same_session(session, none);
}

int fl_meet(const struct fl_meet *how, struct fl_pair *pair, const struct fl_log *log,
	    struct fl_error *err)
{
	struct fl_meet with = *how;
	int rc;

	*pair = (struct fl_pair){0};
	if (!with.timeout_ms)
		with.timeout_ms = FL_MEET_TIMEOUT_MS;
	rc = with.connect ? fl_meet_connecting(&with, pair, err)
			  : fl_meet_accepting(&with, pair, log, err);
	if (rc)
		return rc;
	fl_socket_patience(fl_stream_fd(pair->main), with.timeout_ms);
	fl_socket_patience(fl_stream_fd(pair->demand), with.timeout_ms);
	return 0;
}
