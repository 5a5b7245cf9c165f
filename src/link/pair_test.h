/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_PAIR_TEST_H
#define FL_LINK_PAIR_TEST_H

/*
 * Two connections, and between them pipes of bytes that a test can look at, cut, change and let
 * through by pieces.
 */

#include "support.h"
#include "link/conn.h"

#define PAIR_SEED   7
#define PAIR_IMAGE  (4u << 20)
#define PAIR_FRAMES 512

struct pipe {
	uint8_t *bytes;
	size_t head, tail, room;
	size_t step;        /* most bytes a call moves, 0: no limit */
	size_t capacity;    /* of bytes unread, 0: no limit */
	unsigned int calls; /* that moved bytes */
	size_t asked;       /* bytes that the last call to receive had room for */
	bool closed;
	int error;          /* what a call fails with */
	const char *reason; /* what the stream says of it, or NULL */
};

/* What an owner was told of units. */
enum told { TOLD_NOTHING, TOLD_RIGHT, TOLD_WRONG, TOLD_DROPPED };

struct owner {
	struct fl_conn *conn;
	struct pipe *in, *out;
	struct fl_frame frame[PAIR_FRAMES]; /* that came, but PAGES */
	unsigned int frames;
	uint8_t payload[FL_WIRE_CONTROL_MAX]; /* of the last */
	uint8_t *image;                       /* contents go here */
	uint8_t *told;                        /* of each unit */
	unsigned int calls;                   /* of pages() and dropped() */
	uint64_t most;                        /* place() gives at a time, 0: no limit */
	uint8_t *(*where)(struct owner *owner, uint64_t offset, uint64_t *len_bytes);
	unsigned int asked;
	int frame_rc, pages_rc;
};

struct pair {
	struct pipe there, back;
	struct owner out, in; /* out sends pages to in */
	uint8_t *memory;      /* what it sends: test_pattern() */
};

/* Setup and teardown of cmocka: *state is a struct pair. */
int pair_setup(void **state);
int pair_teardown(void **state);

/* Gives an owner another connection over the same pipes. */
void owner_open(struct owner *owner, const struct fl_conn_ops *ops);

/* Flushes and receives, both ways, until nothing moves. What the receiving of @in ended with, or 0.
 */
int pair_run(struct pair *pair);
void pair_flush(struct owner *owner);
/* Sends pages of the memory and flushes. */
void pair_push(struct pair *pair, uint64_t offset, uint32_t bytes);
/* Fails unless all units in the range were told of that way. */
void assert_told(const struct owner *owner, uint64_t offset, uint64_t len_bytes, enum told told);
/* Fails unless they are in place as well. */
void assert_in_place(const struct owner *owner, uint64_t offset, uint64_t len_bytes);

/* Writes a frame into a pipe as a peer would that keeps no rules. Returns its sum. */
uint64_t pipe_frame(struct pipe *pipe, const struct fl_frame *frame, const void *payload,
		    uint32_t summed, const void *contents, uint32_t len, uint64_t chain);
void pipe_put(struct pipe *pipe, const void *bytes, size_t len);

#endif
