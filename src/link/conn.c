/* SPDX-License-Identifier: MIT */
/*
 * A connection of the page link.
 *
 * Sending (conn_send.c): frames are made, with their sums, in the order in which they are asked
 * for, because each sum is the seed of the next. Heads and payloads wait in a ring; the contents of
 * the one PAGES frame that may be under way stay where they are, and are put between two bytes of
 * the ring when it is handed to the kernel. So one system call carries what was queued before, the
 * contents, and what was queued after.
 *
 * Receiving (conn_recv.c): a buffer holds one control frame, or a head and its sums. Once those are
 * right, contents are received where the owner says (conn_pages.c), together with the head that
 * comes after them: 128 KiB of contents take two system calls when they come in two pieces, and one
 * when they are there whole. Units are summed while they are warm, at the end of the step in which
 * they were completed.
 *
 * An error ends one direction only: after a bad frame the peer can still be told, and after a
 * failed send it can still be heard.
 */
#include "link/conn_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"

int fl_conn_new(struct fl_conn **conn, struct fl_stream *stream, const struct fl_conn_ops *ops,
		void *ctx)
{
	struct fl_conn *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->ops = ops;
	made->ctx = ctx;
	if (fl_conn_out_init(&made->out) < 0 || fl_conn_in_init(&made->in) < 0) {
		fl_conn_free(made);
		return -ENOMEM;
	}
	made->stream = stream;
	*conn = made;
	return 0;
}

void fl_conn_free(struct fl_conn *conn)
{
	if (!conn)
		return;
	fl_conn_out_free(&conn->out);
	fl_conn_in_free(&conn->in);
	fl_stream_close(conn->stream);
	free(conn);
}

int fl_conn_stream_failed(struct fl_conn *conn, const char *doing, int code)
{
	const char *reason = fl_stream_reason(conn->stream);

	return fl_error_set(&conn->error, code, "%s: %s", doing, reason ? reason : strerror(-code));
}

short fl_conn_events(const struct fl_conn *conn)
{
	int events = POLLIN | fl_stream_events(conn->stream);

	if (fl_conn_unsent(conn))
		events |= POLLOUT;
	return (short)events;
}

int fl_conn_fd(const struct fl_conn *conn)
{
	return fl_stream_fd(conn->stream);
}

bool fl_conn_pending(const struct fl_conn *conn)
{
	return !conn->in.rc && fl_stream_pending(conn->stream);
}

const struct fl_error *fl_conn_error(const struct fl_conn *conn)
{
	return &conn->error;
}

void fl_conn_stats(const struct fl_conn *conn, struct fl_conn_stats *stats)
{
	*stats = conn->stats;
}
