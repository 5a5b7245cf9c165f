/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_MEET_PEER_H
#define FL_LINK_MEET_PEER_H

/*
 * One peer of those that a host accepts, until it has met or is gone. See meet_accept.c.
 */

#include <poll.h>

#include "link/meet_parts.h"
#include "link/stream.h"
#include "util/clock.h"

#define FL_MEET_PEERS 128

enum fl_meet_stage {
	FL_STAGE_TLS,
	FL_STAGE_HELLO,
	FL_STAGE_WELCOME,
	FL_STAGE_MET,
	FL_STAGE_PARTING,
	FL_STAGE_GONE
};

struct fl_meet_peer {
	enum fl_meet_stage stage;
	struct fl_stream *stream;
	uint64_t number; /* rising: who came first */
	uint64_t deadline_ns;
	char name[FL_LINK_TEXT];
	struct fl_meet_taker taker;
	struct fl_meet_giver giver;
	uint32_t dropped;
	struct fl_wire_hello hello; /* what it said, */
	struct fl_wire_hello ours;  /* what we answer, */
	uint64_t main;              /* and of a demand connection, the number of its main one */
};

struct fl_meeting {
	const struct fl_meet *how;
	const struct fl_log *log;
	struct fl_pair *pair;
	struct fl_meet_peer *peers[FL_MEET_PEERS];
	struct pollfd polled[2 + FL_MEET_PEERS]; /* cancel, listen, peers */
	unsigned int count;
	uint64_t numbers;
	uint64_t pause_ns; /* no accept(2) before */
	bool done;
};

static inline uint64_t fl_meet_after_ms(uint64_t ms)
{
	return fl_clock_ns() + ms * FL_NS_PER_MS;
}

/* @fd becomes the peer's, unless this fails. */
int fl_meet_peer_new(struct fl_meeting *meeting, int fd, struct fl_meet_peer **made);
void fl_meet_peer_free(struct fl_meet_peer *peer);
/* Takes a peer as far as it goes without waiting; the meeting may be done then. */
void fl_meet_peer_advance(struct fl_meeting *meeting, struct fl_meet_peer *peer);
/* Its time is up: a peer that parts goes, another one is told. */
void fl_meet_peer_expire(struct fl_meeting *meeting, struct fl_meet_peer *peer);

#endif
