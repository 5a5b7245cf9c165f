/* SPDX-License-Identifier: MIT */
#ifndef FL_WORKER_EXPORT_H
#define FL_WORKER_EXPORT_H

/* The exporting end of a link between two workers: answers requests. Belongs to one thread. */

#include <poll.h>

#include "link/conn.h"
#include "worker/memory.h"

#define FL_EXPORT_CONNS 16

struct fl_export_request {
	uint64_t offset;
	uint32_t left;
};

struct fl_export_conn {
	struct fl_export *export;
	struct fl_conn *conn;
	enum fl_channel channel;
	uint64_t admitted_ns;
	uint32_t head, tail;
	struct fl_export_request request[FL_WIRE_REQUESTS];
	struct fl_error err; /* why an op of it ended it */
};

struct fl_export {
	struct fl_memory *memory;
	struct fl_log log;
	unsigned int timeout_ms;
	size_t count;
	struct fl_export_conn *conn[FL_EXPORT_CONNS];
};

/* A peer that knows the token: @stream becomes the export's, also when it fails. */
void fl_export_admit(struct fl_export *export, struct fl_stream *stream, enum fl_channel channel);
/* Serves what is there, demand first. True when there was something. */
bool fl_export_step(struct fl_export *export);
/* Ends connections that have been silent for too long. */
void fl_export_tick(struct fl_export *export, uint64_t now_ns);
/* Fills in what to poll, FL_EXPORT_CONNS at most; *pending: there is something already. */
size_t fl_export_poll(const struct fl_export *export, struct pollfd *pollers, bool *pending);
void fl_export_end(struct fl_export *export);

#endif
