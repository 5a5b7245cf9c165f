/* SPDX-License-Identifier: MIT */
#ifndef FL_PAGER_PEER_TEST_H
#define FL_PAGER_PEER_TEST_H

/*
 * A source with FL_SOURCE_PIECES for the tests of this room: it brings what the test says, in the
 * order that the test says, as fl_queue_reap() is called. Its contents are test_pattern(). One
 * queue at a time; everything here is for the thread that runs the pager, but for peer_bring().
 */

#include <faultline/faultline.h>

#include <pthread.h>

#define PEER_READS  80
#define PEER_ORDERS 4096

struct peer_order {
	uint64_t offset, len_bytes;
	int result;  /* < 0: the read that the offset lies in fails */
	bool halved; /* the first half is written, and arrives never */
	bool zeros;  /* it is zeros */
};

struct peer {
	struct fl_source source;
	struct fl_source_ops ops;
	uint64_t len_bytes;
	bool answers; /* brings all that is asked for, at once, */
	int fails;    /* or fails it so */
	struct fl_queue queue;
	int fd;
	pthread_mutex_t lock; /* of the orders */
	struct peer_order orders[PEER_ORDERS];
	unsigned int given, taken;
	struct fl_read *reads[PEER_READS]; /* under way, */
	uint64_t missing[PEER_READS];      /* and how many of their bytes have not come */
	unsigned int submits;
	uint64_t asked;         /* bytes */
	uint64_t placed, bytes; /* those that place() wanted in the second mapping; all */
	const char *alias, *alias_end;
	unsigned int hurries;
	uint64_t hurry_offset, hurry_len;
	bool no_hurry;
};

/* Its source; the peer must outlive it. */
struct fl_source *peer_open(struct peer *peer, uint64_t len_bytes);
/* Brings bytes at the next reap, each at most once; those of reads that are not under way are an
 * error. Any thread. */
void peer_bring(struct peer *peer, uint64_t offset, uint64_t len_bytes);
void peer_zeros(struct peer *peer, uint64_t offset, uint64_t len_bytes);
void peer_order(struct peer *peer, const struct peer_order *order);
/* The read under way that an offset lies in, or NULL. */
struct fl_read *peer_read(struct peer *peer, uint64_t offset);
unsigned int peer_reads(const struct peer *peer);

#endif
