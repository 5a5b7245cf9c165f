/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_LOCAL_H
#define FL_LINK_LOCAL_H

/*
 * What a VMM and its page worker say to each other on the worker's socket: messages of one size,
 * each with a few descriptors at most, in the byte order of the host. The VMM asks, the worker
 * answers; only what a copy takes goes through the ring.
 *
 *	VMM				worker
 *	HELLO version		->
 *				<-	OK version; descriptors: ring, doorbell, poller's eventfd
 *	REGION + descriptor	->	no answer: kept for what comes next
 *	EXPORT			->
 *				<-	OK token, address
 *	IMPORT address, token	->
 *				<-	OK
 *	STAGING + descriptor	->
 *				<-	OK
 *
 * An answer of type ERROR has a negative errno and a sentence. What breaks these rules ends the
 * connection.
 */

#include <faultline/worker.h>

#define FL_LOCAL_MAGIC   0x4b57464cu
#define FL_LOCAL_VERSION 1

/* Local offsets of the staging area begin here. */
#define FL_LOCAL_STAGING (UINT64_C(1) << 63)
/* The longest it may be. */
#define FL_LOCAL_STAGING_MAX (UINT64_C(64) << 20)

enum fl_local_type {
	FL_LOCAL_HELLO = 1,
	FL_LOCAL_REGION,
	FL_LOCAL_EXPORT,
	FL_LOCAL_IMPORT,
	FL_LOCAL_STAGING_AREA,
	FL_LOCAL_OK,
	FL_LOCAL_ERROR
};

struct fl_local {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	int32_t code;   /* ERROR */
	uint32_t count; /* IMPORT: regions that came before; 0 for those of last time */
	uint64_t offset, len_bytes, fd_offset;
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	/* IMPORT: the address; OK to EXPORT: where the worker listens, or ""; ERROR: a sentence */
	char text[FL_WORKER_ADDRESS_MAX + 1];
};

#define FL_LOCAL_FDS 3

/* A message under way: bytes and descriptors that have come so far. Descriptors not taken out are
 * closed by fl_local_drop(). */
struct fl_local_in {
	size_t got;
	struct fl_local message;
	int fds[FL_LOCAL_FDS];
	size_t fd_count;
};

/* 0; -EPIPE, -ETIMEDOUT within timeout_ms, what sendmsg(2) returns. */
int fl_local_send(int sock, const struct fl_local *message, const int *fds, size_t fd_count,
		  unsigned int timeout_ms);

/* Takes what is there: 1 a message is whole and its text ends, 0 not yet; -EPIPE at the end,
 * -EPROTO for what is none, what recvmsg(2) returns. */
int fl_local_recv(int sock, struct fl_local_in *in);
/* Forgets the message, closing what came with it. */
void fl_local_drop(struct fl_local_in *in);

#endif
