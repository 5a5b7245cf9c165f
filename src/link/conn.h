/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_CONN_H
#define FL_LINK_CONN_H

/*
 * One connection of the page link: frames over a stream, never blocking. Belongs to one thread.
 *
 * Contents of pages are never buffered: they are sent from where they lie, and received into where
 * the owner says (compressed ones pass through one staging buffer). Control frames are small and
 * wait in a bounded queue. Keeps the chain of sums in both directions.
 */

#include <faultline/link.h>

#include "link/wire.h"

struct fl_conn;

struct fl_conn_ops {
	/* A frame other than PAGES came whole and is right. Negative errno ends the connection. */
	int (*frame)(void *ctx, const struct fl_frame *frame, const void *payload);
	/* Where the contents of a PAGES frame go from @offset (a unit's first byte) on, for
	 * *@len_bytes, which may be cut down to fewer whole units. NULL: received and dropped.
	 * Asked anew for each step of receiving, also for the unit that a step left unfinished: if
	 * the answer for it is another one by then, that unit counts as dropped. NULL in the ops of
	 * a side that is sent no pages: PAGES is refused (-EBADMSG) there. */
	void *(*place)(void *ctx, const struct fl_frame *frame, uint64_t offset,
		       uint64_t *len_bytes);
	/* Units [offset, offset + len_bytes) of a PAGES frame are where place() said; @right: their
	 * sums are. Each call all right or all wrong. Negative errno ends the connection. */
	int (*pages)(void *ctx, const struct fl_frame *frame, uint64_t offset, uint64_t len_bytes,
		     bool right);
	/* Units of a PAGES frame that came and are nowhere. NULL when that need not be known. With
	 * pages() it tells of each unit of a frame once, in the order of offsets. Negative errno
	 * ends the connection. */
	int (*dropped)(void *ctx, const struct fl_frame *frame, uint64_t offset,
		       uint64_t len_bytes);
};

struct fl_conn_stats {
	uint64_t sent_bytes, received_bytes;     /* on the wire, heads included */
	uint64_t last_sent_ns, last_received_ns; /* CLOCK_MONOTONIC, 0 before the first byte */
	uint64_t saved_bytes;                    /* that compression kept from being sent */
};

/* @stream becomes the connection's when it succeeds; @ops stay the caller's. HELLO and WELCOME are
 * over. Ops may send and flush, but neither receive nor free. 0, -ENOMEM. */
int fl_conn_new(struct fl_conn **conn, struct fl_stream *stream, const struct fl_conn_ops *ops,
		void *ctx);
void fl_conn_free(struct fl_conn *conn);

/* Lets contents be compressed from now on: FL_FRAME_ZSTD, FL_FRAME_LZ4 or 0. Frames that do not
 * shrink travel as they are. Both kinds are understood always. 0, -EINVAL, -ENOMEM. */
int fl_conn_compress(struct fl_conn *conn, uint8_t flag);

/* Queues a frame; its len is @len, whatever frame->len says. -ENOBUFS when the queue would hold
 * more than 1 MiB: flush first. -EINVAL for a frame that the peer would refuse; fl_conn_error()
 * says why. */
int fl_conn_send(struct fl_conn *conn, const struct fl_frame *frame, const void *payload,
		 uint32_t len);
/* ERROR with a sentence, and an attempt to flush; best effort. Also after fl_conn_recv() failed. */
void fl_conn_send_error(struct fl_conn *conn, const struct fl_error *err);
/* Begins a PAGES frame from memory that stays until it is sent: fl_conn_can_send_pages() says when.
 * The sums are taken now, so that contents that are written meanwhile arrive with a wrong sum
 * (compressed ones are a copy, and right). -EBUSY while another one is being sent, -EINVAL. */
int fl_conn_send_pages(struct fl_conn *conn, uint64_t offset, const void *from, uint32_t bytes);
/* May fl_conn_send_pages() be called? */
bool fl_conn_can_send_pages(const struct fl_conn *conn);

/* Gives up to about @budget_bytes to the kernel: 1 nothing is left, 0 more is (would block, or the
 * budget is spent), negative errno: the connection is lost, fl_conn_error() says why. What the peer
 * said last (ERROR) may still be had by fl_conn_recv(). */
int fl_conn_flush(struct fl_conn *conn, uint64_t budget_bytes);
/* Bytes that the kernel was not given yet. */
uint64_t fl_conn_unsent(const struct fl_conn *conn);
/* Takes up to about @budget_bytes: 1 there may be more at once, 0 not now, negative errno:
 * -ECONNRESET the peer closed it, -EBADMSG it broke the protocol, -EREMOTEIO it sent ERROR, what an
 * op returned, what the stream failed with; fl_conn_error() says it in a sentence. */
int fl_conn_recv(struct fl_conn *conn, uint64_t budget_bytes);
/* POLLIN, and POLLOUT while something is unsent. */
short fl_conn_events(const struct fl_conn *conn);
int fl_conn_fd(const struct fl_conn *conn);
/* Is there input that poll(2) will not tell of (TLS)? */
bool fl_conn_pending(const struct fl_conn *conn);
const struct fl_error *fl_conn_error(const struct fl_conn *conn);
void fl_conn_stats(const struct fl_conn *conn, struct fl_conn_stats *stats);

#endif
