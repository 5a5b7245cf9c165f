/* SPDX-License-Identifier: MIT */
#ifndef FL_WORKER_IMPORT_H
#define FL_WORKER_IMPORT_H

/* The importing end of a link between two workers: serves a ring. Belongs to one thread. */

#include <poll.h>

#include "link/conn.h"
#include "link/ring.h"
#include "worker/memory.h"

/* A copy under way. */
struct fl_import_copy {
	uint32_t index; /* in the ring */
	uint32_t done;  /* bytes that have come */
	struct fl_ring_copy asked;
	int result;
};

struct fl_import_channel {
	struct fl_import *import;
	struct fl_conn *conn;
	uint32_t head, tail;
	uint64_t under_way; /* bytes asked for and not come */
	struct fl_import_copy copy[FL_WIRE_REQUESTS];
};

struct fl_import {
	struct fl_ring_end *ring;
	struct fl_memory *memory;
	struct fl_log log;
	unsigned int timeout_ms;
	int lost;            /* what copies end with while there is no link; 0 while there is one */
	struct fl_error err; /* why an op ended the link */
	uint64_t linked_ns;
	size_t remote_count; /* regions of the other side */
	struct fl_region remote[FL_REGIONS_MAX];
	struct fl_import_channel channel[2]; /* by enum fl_channel */
};

/* Connects, when there is no link. Blocks until it is there, failed, or @cancel_fd is readable. */
int fl_import_link(struct fl_import *import, const char *address, const uint8_t *token,
		   const struct fl_tls *tls, int cancel_fd, struct fl_error *err);
/* Lets the link go: what is under way ends with @rc, and so does what is asked for from now on. */
void fl_import_unlink(struct fl_import *import, int rc);
/* Serves what is there. True when there was something. Connections by which nothing is due are not
 * looked at unless @look. */
bool fl_import_step(struct fl_import *import, bool look);
/* Is there room for more copies that nobody waits for? */
bool fl_import_takes_fill(const struct fl_import *import);
/* Liveness: to be called every second or so. */
void fl_import_tick(struct fl_import *import, uint64_t now_ns);
/* Fills in what to poll, 2 at most; *pending: there is something already. */
size_t fl_import_poll(const struct fl_import *import, struct pollfd *pollers, bool *pending);

#endif
