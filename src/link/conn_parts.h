/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_CONN_PARTS_H
#define FL_LINK_CONN_PARTS_H

/* What the files of struct fl_conn share. */

#include "link/conn.h"
#include "link/squeeze.h"

#define CONN_SUMS_MAX  (FL_WIRE_PAGE_MAX / FL_WIRE_UNIT)
#define CONN_QUEUE_MAX (1u << 20) /* of control frames, from when on there is no room */
#define CONN_RING      (2u << 20) /* the head and sums of one PAGES frame and ERROR fit always */
/* How much is read ahead of what is known to come. After contents just the head and sums of another
 * 128 KiB; after a control frame more of their kind are likely. What is read ahead of contents has
 * to be copied, so it is little. */
#define CONN_AHEAD_PAGES   (FL_WIRE_HEAD_BYTES + FL_WIRE_PAGES_BYTES / FL_WIRE_UNIT * 8)
#define CONN_AHEAD_CONTROL 2048u
#define CONN_SCRATCH       (4 * FL_WIRE_UNIT)
#define CONN_BUF           (FL_WIRE_HEAD_BYTES + FL_WIRE_CONTROL_MAX + CONN_AHEAD_CONTROL)

/*
 * What is to be sent is a ring of bytes and, after the byte at which @split stands, @left bytes at
 * @contents. Positions only grow; a position's place is its remainder.
 */
struct conn_out {
	uint8_t *ring;
	uint64_t head, tail, split;
	const uint8_t *contents;
	uint64_t left;
	uint64_t chain;
	uint64_t sums[CONN_SUMS_MAX];
	struct fl_squeeze *squeeze; /* NULL while nothing is to be compressed */
	uint8_t flag;
	int rc; /* why sending ended, or 0 */
};

/*
 * What came: bytes [at, end) of @buf were received and not looked at. While @frame is a PAGES frame
 * whose @got of @want bytes of contents have come, those bytes are the first of the rest.
 */
struct conn_in {
	uint8_t *buf;
	uint32_t at, end;
	uint32_t ahead;
	uint64_t chain;
	struct fl_frame frame;
	uint32_t got, want; /* contents as they travel; want is 0 between two PAGES frames */
	uint8_t *begun; /* where the unit that a step left unfinished lies; NULL: it is dropped */
	uint64_t sums[CONN_SUMS_MAX];
	uint8_t *scratch;         /* what is dropped goes here */
	struct fl_expand *expand; /* NULL before the first compressed frame */
	int rc;                   /* why receiving ended, or 0 */
};

struct fl_conn {
	struct fl_stream *stream;
	const struct fl_conn_ops *ops;
	void *ctx;
	struct conn_out out;
	struct conn_in in;
	struct fl_conn_stats stats;
	struct fl_error error;
};

/* conn.c: the stream failed with @code while @doing; says why, in its words if it has some. */
int fl_conn_stream_failed(struct fl_conn *conn, const char *doing, int code);

/* conn_send.c */
int fl_conn_out_init(struct conn_out *out);
void fl_conn_out_free(struct conn_out *out);

/* conn_recv.c */
int fl_conn_in_init(struct conn_in *in);
void fl_conn_in_free(struct conn_in *in);

/*
 * conn_pages.c. Takes contents of in.frame from what was read ahead, or else from the stream: how
 * many bytes, at most about @limit_bytes. *@dry: the stream had less than it was asked for.
 * Negative errno as fl_conn_recv().
 */
int64_t fl_conn_take_contents(struct fl_conn *conn, uint64_t limit_bytes, bool *dry);

/* conn_recv.c: receives from the stream and counts; 0 when there is nothing now. */
int64_t fl_conn_take(struct fl_conn *conn, const struct iovec *iov, int count, bool *dry);

#endif
