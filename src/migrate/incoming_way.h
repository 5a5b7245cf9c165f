/* SPDX-License-Identifier: MIT */
#ifndef FL_MIGRATE_INCOMING_WAY_H
#define FL_MIGRATE_INCOMING_WAY_H

/* Another way than the link to read contents by: see incoming_way.c. All of it is the engine's. */

#include <faultline/migrate.h>

struct fl_conn;
struct fl_frame;
struct fl_incoming;
struct fl_incoming_range;
struct fl_incoming_read;

/* One read of the way's source. */
struct fl_incoming_way_read {
	struct fl_read read;
	struct fl_incoming *in;
	struct fl_incoming_read
		*slot; /* of the pager's that it serves; NULL: of a round, or of nobody */
	struct fl_incoming_way_read *next; /* free */
	bool busy;                         /* in the queue */
};

struct fl_incoming_way {
	enum fl_migrate_way kind; /* BY_LINK: there is none */
	struct fl_source *source; /* the three stay until it is closed, */
	struct fl_queue *queue;   /* also when it has failed */
	struct fl_incoming_way_read *reads, *free;
	bool broken;          /* nothing more is read by it */
	bool abandoned;       /* nor heard of what was */
	bool told;            /* a read that failed was logged */
	unsigned int busy;    /* reads in the queue */
	uint64_t progress_ns; /* when something came, or was asked for first */
	/* Of a round: pages that were named and are not read; of these, those that no read has, and
	 * those that have to be read alone, since a read of several had a wrong sum. */
	struct fl_pageset *named, *waiting, *alone;
};

/* WAY came. */
int fl_incoming_way_open(struct fl_incoming *in, const struct fl_frame *frame, const void *blob);
/* RANGE came: pages of a round to be read by it. */
int fl_incoming_way_range(struct fl_incoming *in, const struct fl_incoming_range *range);
/* Is it still reading for the round? */
bool fl_incoming_way_reads(const struct fl_incoming *in);
/* Is a page of this range named by a RANGE and not there yet? */
bool fl_incoming_way_has(const struct fl_incoming *in, const struct fl_incoming_range *range);
/* Reads what the pager asks for, for a slot of incoming_source.c: the read, or NULL: the link has to. */
struct fl_incoming_way_read *fl_incoming_way_submit(struct fl_incoming *in,
						    struct fl_incoming_read *slot,
						    const struct fl_read *read);
/* Takes what came. */
void fl_incoming_way_reap(struct fl_incoming *in);
/* Gives it up when nothing comes by it for too long. */
void fl_incoming_way_check(struct fl_incoming *in, uint64_t now_ns);
/* When to check: CLOCK_MONOTONIC in ns; UINT64_MAX when nothing is under way. */
uint64_t fl_incoming_way_due(const struct fl_incoming *in);
/* After this nothing of it is written any more. */
void fl_incoming_way_close(struct fl_incoming *in);

#endif
