/* SPDX-License-Identifier: MIT */
#include "link/conn_parts.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/error.h"

int fl_conn_in_init(struct conn_in *in)
{
	in->ahead = CONN_AHEAD_CONTROL;
	in->buf = malloc(CONN_BUF);
	in->scratch = malloc(CONN_SCRATCH);
	return in->buf && in->scratch ? 0 : -ENOMEM;
}

void fl_conn_in_free(struct conn_in *in)
{
	fl_expand_free(in->expand);
	free(in->scratch);
	free(in->buf);
}

static const char *under_way(const struct fl_conn *conn)
{
	const struct conn_in *in = &conn->in;

	if (in->want)
		return "in the middle of PAGES";
	return in->end > in->at ? "in the middle of a frame" : "between two frames";
}

int64_t fl_conn_take(struct fl_conn *conn, const struct iovec *iov, int count, bool *dry)
{
	uint64_t asked = 0;
	int64_t taken;

	for (int i = 0; i < count; i++)
		asked += iov[i].iov_len;
	do
		taken = fl_stream_recv(conn->stream, iov, count);
	while (taken == -EINTR);
	*dry = taken < (int64_t)asked && (taken <= 0 || !fl_stream_pending(conn->stream));
	if (taken == -EAGAIN)
		return 0;
	if (taken == 0)
		return fl_error_set(&conn->error, -ECONNRESET,
				    "the other side closed the connection %s", under_way(conn));
	if (taken < 0)
		return fl_conn_stream_failed(conn, "receiving", (int)taken);
	conn->stats.received_bytes += (uint64_t)taken;
	conn->stats.last_received_ns = fl_clock_ns();
	return taken;
}

static int begin_pages(struct fl_conn *conn, const struct fl_frame *frame, const uint8_t *sums)
{
	struct conn_in *in = &conn->in;
	uint32_t summed = fl_frame_summed(frame);

	if (!conn->ops->place)
		return fl_error_set(&conn->error, -EBADMSG, "PAGES: this side does not take them");
	if (frame->flags && !in->expand && fl_expand_new(&in->expand) < 0)
		return fl_error_set(&conn->error, -ENOMEM, "PAGES: no memory to expand it");
	in->frame = *frame;
	in->got = 0;
	in->want = frame->len - summed;
	memcpy(in->sums, sums, summed);
	for (uint32_t i = 0; i < frame->bytes / FL_WIRE_UNIT; i++)
		in->sums[i] = le64toh(in->sums[i]);
	return 0;
}

static int peer_failed(struct fl_conn *conn, const struct fl_frame *frame, const uint8_t *payload)
{
	char text[200];

	fl_frame_text(text, sizeof(text), payload, frame->len);
	if (text[0] == '\0')
		return fl_error_set(&conn->error, -EREMOTEIO, "the other side: %s",
				    strerror((int)frame->id));
	return fl_error_set(&conn->error, -EREMOTEIO, "the other side: %s", text);
}

static int deliver(struct fl_conn *conn, const struct fl_frame *frame, const uint8_t *payload)
{
	int rc;

	if (frame->type == FL_FRAME_PAGES)
		return begin_pages(conn, frame, payload);
	if (frame->type == FL_FRAME_ERROR)
		return peer_failed(conn, frame, payload);
	conn->in.ahead = CONN_AHEAD_CONTROL;
	rc = conn->ops->frame(conn->ctx, frame, payload);
	if (rc < 0)
		return fl_error_set(&conn->error, rc, "%s: %s", fl_frame_name(frame->type),
				    strerror(-rc));
	return 0;
}

/* Looks at the frame that the buffer begins with: 1 done with it, 0 there must be *@need bytes. */
static int take_frame(struct fl_conn *conn, uint32_t *need)
{
	struct conn_in *in = &conn->in;
	const uint8_t *head = in->buf + in->at;
	struct fl_frame frame;
	uint64_t sum;
	bool chained;
	int rc;

	*need = FL_WIRE_HEAD_BYTES;
	if (in->end - in->at < *need)
		return 0;
	rc = fl_frame_decode(&frame, head, &conn->error);
	if (rc < 0)
		return rc;
	*need += fl_frame_summed(&frame);
	if (in->end - in->at < *need)
		return 0;
	chained = frame.type != FL_FRAME_HELLO && frame.type != FL_FRAME_WELCOME;
	rc = fl_frame_verify(head, head + FL_WIRE_HEAD_BYTES, fl_frame_summed(&frame),
			     chained ? in->chain : 0, &sum, &conn->error);
	if (rc < 0)
		return rc;
	if (chained)
		in->chain = sum;
	in->at += *need;
	rc = deliver(conn, &frame, head + FL_WIRE_HEAD_BYTES);
	return rc < 0 ? rc : 1;
}

/* Works off what was received until there is too little of it: *@need bytes must come. */
static int digest(struct fl_conn *conn, uint32_t *need)
{
	struct conn_in *in = &conn->in;
	int64_t rc;

	do {
		bool dry;

		if (!in->want)
			rc = take_frame(conn, need);
		else if (in->at < in->end)
			rc = fl_conn_take_contents(conn, in->end - in->at, &dry);
		else
			rc = 0;
	} while (rc > 0);
	return (int)rc;
}

/* Receives a head, with what is summed with it and a little of what comes after. */
static int64_t take_head(struct fl_conn *conn, uint32_t need, bool *dry)
{
	struct conn_in *in = &conn->in;
	uint32_t have = in->end - in->at;
	struct iovec iov = {in->buf + have, need - have + in->ahead};
	int64_t taken;

	if (in->at > 0)
		memmove(in->buf, in->buf + in->at, have);
	in->at = 0;
	in->end = have;
	taken = fl_conn_take(conn, &iov, 1, dry);
	if (taken > 0)
		in->end += (uint32_t)taken;
	return taken;
}

int fl_conn_recv(struct fl_conn *conn, uint64_t budget_bytes)
{
	struct conn_in *in = &conn->in;
	bool dry = false;

	while (!in->rc) {
		uint32_t need = 0;
		int64_t rc = digest(conn, &need);

		if (rc == 0) {
			if (dry)
				return 0;
			if (budget_bytes == 0)
				return 1;
			rc = in->want ? fl_conn_take_contents(conn, budget_bytes, &dry)
				      : take_head(conn, need, &dry);
		}
		if (rc < 0)
			in->rc = (int)rc;
		else
			budget_bytes -= (uint64_t)rc < budget_bytes ? (uint64_t)rc : budget_bytes;
	}
	return in->rc;
}
