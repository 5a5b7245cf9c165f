/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_MEET_PARTS_H
#define FL_LINK_MEET_PARTS_H

/*
 * What both ways to meet share: the one frame that each side sends on each connection. It is read to
 * its last byte and no further, for what follows is the connection's.
 */

#include "link/meet.h"

#define FL_MEET_TIMEOUT_MS  10000
#define FL_MEET_PAYLOAD_MAX 512 /* HELLO, WELCOME, or ERROR with a sentence */

/* A frame that comes. */
struct fl_meet_taker {
	uint8_t head[FL_WIRE_HEAD_BYTES];
	uint8_t payload[FL_MEET_PAYLOAD_MAX];
	uint32_t got;
	struct fl_frame frame; /* once the head is there */
};

/* A frame that goes. */
struct fl_meet_giver {
	uint8_t bytes[FL_WIRE_HEAD_BYTES + FL_MEET_PAYLOAD_MAX];
	uint32_t len, sent;
};

/* 1: the frame is whole, its sum right. -EAGAIN; -ECONNRESET at the end; -EBADMSG; the stream's. */
int fl_meet_take(struct fl_stream *stream, struct fl_meet_taker *taker, struct fl_error *err);
/* 1: all went out. -EAGAIN, the stream's. */
int fl_meet_give(struct fl_stream *stream, struct fl_meet_giver *giver, struct fl_error *err);

void fl_meet_put_hello(struct fl_meet_giver *giver, enum fl_frame_type type,
		       const struct fl_wire_hello *hello);
void fl_meet_put_error(struct fl_meet_giver *giver, const struct fl_error *err);

/* Does not tell by its time how much of them is the same. */
bool fl_meet_same_session(const uint8_t *a, const uint8_t *b);
bool fl_meet_no_session(const uint8_t *session);

int fl_meet_connecting(const struct fl_meet *how, struct fl_pair *pair, struct fl_error *err);
int fl_meet_accepting(const struct fl_meet *how, struct fl_pair *pair, const struct fl_log *log,
		      struct fl_error *err);

#endif
