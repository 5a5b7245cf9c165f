/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_FABRIC_SOURCE_H
#define FL_SOURCE_FABRIC_SOURCE_H

/* A source that reads over libfabric, and its queues. Private to fabric_source.c and fabric_queue.c. */

#include <sys/queue.h>

#include <faultline/source.h>

#include "source/fabric_port.h"

/* What one fi_read() asks for at most: no demand waits behind more of one fill on its way out. */
#define FL_FABRIC_PIECE_BYTES (128u << 10)
/* Pieces under way: of fills, and of all. */
#define FL_FABRIC_FILL_PIECES 16u
#define FL_FABRIC_PIECES      64u

/* Never changes once opened, but for what libfabric has behind its own locks. */
struct fl_fabric_source {
	struct fl_source head;
	struct fl_fabric_port port;
	struct fl_fabric_desc desc;
	struct fl_fabric_memory local[FL_FABRIC_REGIONS_MAX];
	struct fid_mr *mrs[FL_FABRIC_REGIONS_MAX];
	size_t count;
	bool registers; /* what is read into must be registered */
	uint64_t timeout_ns;
	uint64_t length;
	struct fl_log log;
};

enum fl_piece_state { FL_PIECE_FREE, FL_PIECE_POSTED, FL_PIECE_LANDED };

struct fl_fabric_op;

/* One fi_read(). */
struct fl_fabric_piece {
	struct fi_context2 context; /* libfabric's; first, so that it leads back here */
	enum fl_piece_state state;
	struct fl_fabric_piece *next; /* free, or landed */
	struct fl_fabric_op *op;
	uint64_t offset; /* in the image */
	uint64_t len_bytes;
	char *bounce; /* of FL_FABRIC_PIECE_BYTES; NULL where memory need not be registered */
	bool bounced; /* landed there */
	bool fill;    /* counts as one */
	int result;
};

/* One read. */
struct fl_fabric_op {
	TAILQ_ENTRY(fl_fabric_op) link; /* todo: not all given out; ended: to be told; or free */
	struct fl_read *read;           /* NULL: free */
	uint64_t given;                 /* bytes of it posted, or not wanted */
	uint64_t deadline_ns;
	unsigned int in_flight; /* pieces, those that have landed but were not told included */
	int result;
	bool fill;
	bool listed; /* in todo or ended */
};

TAILQ_HEAD(fl_fabric_ops, fl_fabric_op);

/* Belongs to one thread. */
struct fl_fabric_queue {
	struct fl_queue head;
	struct fl_fabric_source *source;
	struct fl_fabric_cq cq;
	struct fid_av *av;
	struct fid_ep *demand_ep, *fill_ep; /* NULL once cut off */
	fi_addr_t peer;
	int epoll_fd, event_fd, timer_fd;
	uint64_t timer_ns;  /* what timer_fd is set to, 0 for not at all */
	uint64_t check_ns;  /* when deadlines are looked at next */
	bool blocked;       /* the provider takes no more for now */
	bool lost;          /* the connection; to be cut off */
	int broken;         /* negative errno once it was */
	unsigned int reads; /* under way */
	unsigned int fill_pieces;
	int ended; /* by the reap under way */
	struct fl_fabric_ops free, demand, fill, over;
	struct fl_fabric_piece pieces[FL_FABRIC_PIECES];
	struct fl_fabric_piece *free_pieces, *landed, **landed_tail;
	struct fid_mr *bounce_mr;
	char *bounce;
	unsigned int depth;
	struct fl_fabric_op ops[];
};

int fl_fabric_queue_open(struct fl_source *source, unsigned int depth, struct fl_queue **queue);

#endif
