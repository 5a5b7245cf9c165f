/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_COMMON_H
#define FL_MIGRATE_COMMON_H

/*
 * What both halves of a migration share: long things in pieces, sets of pages as frames, knowing
 * that the other side lives, and saying what went wrong. Each struct belongs to one thread.
 */

#include <faultline/memory.h>
#include <faultline/migrate.h>

#include "link/conn.h"

/* --- MACHINE and STATE: a long thing that travels in pieces --- */

/* One that is being put together; start from zeros. */
struct fl_blob {
	uint8_t *bytes; /* of malloc(3), or NULL; NULL also for a whole of no bytes */
	uint64_t len;   /* of the whole */
	uint64_t have;
	uint32_t id; /* of the first piece: all must have the same */
	bool begun;
};

/*
 * Takes a piece. 1: it is whole, 0: more is to come; -EBADMSG: not the piece that follows, or one
 * that does not fit, or one after the whole; -ENOMEM.
 */
int fl_blob_add(struct fl_blob *blob, const struct fl_frame *frame, const void *payload,
		struct fl_error *err);
void fl_blob_free(struct fl_blob *blob);

/*
 * Queues pieces of @bytes from *@sent on, as many as the connection takes now; a whole of no bytes
 * is one empty piece. 1: all are queued, 0: call again after a flush. At most FL_WIRE_BLOB_MAX bytes.
 */
int fl_blob_send(struct fl_conn *conn, uint8_t type, uint32_t id, const void *bytes, uint64_t len,
		 uint64_t *sent);

/* --- DUE and RECEIVED: a set of pages as bitmaps --- */

#define FL_BITS_BYTES FL_WIRE_CONTROL_MAX
#define FL_BITS_PAGES (FL_BITS_BYTES * 8ul)

/*
 * Writes the next bitmap of @set, with the first page in it from *@page on, to @payload, sets
 * frame->offset and frame->len, and moves *@page behind it. Pages that are not in the set cost
 * nothing where there are many. False: there are no more.
 */
bool fl_bits_next(const struct fl_pageset *set, uint64_t *page, struct fl_frame *frame,
		  uint8_t payload[FL_BITS_BYTES]);
/* Adds the pages of a bitmap to a set for @pages pages. -EBADMSG: one is beyond them. */
int fl_bits_add(struct fl_pageset *set, uint64_t pages, const struct fl_frame *frame,
		const void *payload, struct fl_error *err);
/* DUE_END or RECEIVED_END came: are these all? -EBADMSG says both counts. */
int fl_bits_end(const struct fl_pageset *set, const struct fl_frame *frame, struct fl_error *err);

/* --- PING, PONG, and silence --- */

/* Since when a connection that has something to send has sent nothing. */
struct fl_stuck {
	uint64_t since_ns; /* or 0 */
	uint64_t sent_bytes;
};

struct fl_alive {
	uint64_t timeout_ns;
	uint64_t ping_ns;  /* after so much silence of our own */
	uint64_t began_ns; /* silence from before does not count */
	uint32_t id;       /* of the last PING */
	struct fl_stuck main, demand;
};

void fl_alive_begin(struct fl_alive *alive, uint32_t timeout_ms, uint64_t now_ns);
/* Was it a PING or a PONG? Then it has been dealt with. */
bool fl_alive_frame(struct fl_alive *alive, struct fl_conn *conn, const struct fl_frame *frame);
/*
 * To be called after all that could be received and sent was, at least as often as fl_alive_due()
 * says: sends PING when it is time. -ETIMEDOUT: nothing came on @main for the timeout, or one of
 * them has been taking nothing of what is to be sent for as long.
 */
int fl_alive_check(struct fl_alive *alive, struct fl_conn *main, const struct fl_conn *demand,
		   uint64_t now_ns, struct fl_error *err);
/* When fl_alive_check() should be called again at the latest: CLOCK_MONOTONIC, in ns. */
uint64_t fl_alive_due(const struct fl_alive *alive, const struct fl_conn *main);

/* --- COMPLETE: how long demands took, told to the side that has only answered them --- */

void fl_waits_encode(uint8_t payload[FL_WIRE_WAITS_BYTES], const struct fl_fault_stats *waits);
/* A frame without them tells nothing: zeros. -EBADMSG: what no demands could have taken. */
int fl_waits_decode(struct fl_fault_stats *waits, const struct fl_frame *frame, const void *payload,
		    struct fl_error *err);

/* --- goodbye --- */

/*
 * Says no more on @fd, and throws away what still comes until the peer has closed its side, @cancel_fd (or
 * -1) is readable, or CLOCK_MONOTONIC has passed @end_ns: closing with input unread would reset the
 * connection, and take away from the peer what it has not read yet.
 */
void fl_socket_drain(int fd, int cancel_fd, uint64_t end_ns);

/* --- reasons --- */

/* A frame that this phase does not have: -EBADMSG, "ROUND_ACK came in phase meeting". */
int fl_frame_unexpected(const struct fl_frame *frame, enum fl_migrate_phase phase,
			struct fl_error *err);
/* Why a connection ended: @code with the connection's own sentence behind "main" or "demand". */
int fl_conn_reason(const struct fl_conn *conn, const char *which, int code, struct fl_error *err);

/* --- features --- */

/* FL_MIGRATE_* flags as what HELLO offers, and what was agreed as fl_conn_compress() takes it. */
uint32_t fl_migrate_features(uint32_t flags);
uint8_t fl_migrate_compression(uint32_t features);
/* Ways (enum fl_migrate_way, one or a mask of them) as what HELLO offers. */
uint32_t fl_migrate_way_features(uint32_t ways);

#endif
