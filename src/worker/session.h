/* SPDX-License-Identifier: MIT */
#ifndef FL_WORKER_SESSION_H
#define FL_WORKER_SESSION_H

/* One VMM at the worker: a thread of its own, which shares nothing with others but the list it is
 * in. */

#include <pthread.h>
#include <stdatomic.h>

#include "link/local.h"
#include "worker/export.h"
#include "worker/import.h"

#define FL_ARRIVALS_MAX 8
#define FL_RING_ENTRIES 256

struct fl_worker_config;

/* A connection of an importing worker that named our token, on its way to our thread. */
struct fl_arrival {
	struct fl_stream *stream;
	enum fl_channel channel;
};

struct fl_worker_session {
	const struct fl_worker_config *config;
	pthread_t thread;
	int sock;
	int wake_fd;  /* eventfd: look at stop and arrival */
	int ended_fd; /* the server's eventfd, to be told that ended is true */
	atomic_bool stop;
	atomic_bool ended;
	unsigned long number; /* for messages */

	/* Under lock: any thread. */
	pthread_mutex_t lock;
	bool exported;
	uint8_t token[FL_WORKER_TOKEN_BYTES];
	struct fl_arrival arrival[FL_ARRIVALS_MAX];
	size_t arrivals;

	/* The session's thread's. */
	bool greeted;
	struct fl_local_in in;
	struct fl_worker_region offered[FL_WORKER_REGIONS_MAX];
	size_t offered_count;
	struct fl_ring_end ring;
	struct fl_memory local, remote; /* imported into, exported */
	struct fl_import import;
	struct fl_export export;
	uint64_t last_ns; /* when there was something to do */
};

/* Starts it; @sock is the session's, also when it fails. */
int fl_worker_session_new(struct fl_worker_session **session, const struct fl_worker_config *config,
			  int sock, int ended_fd, unsigned long number);
/* Takes the stream if the token is this session's: true. Any thread. */
bool fl_worker_session_arrive(struct fl_worker_session *session, const uint8_t *token,
			      struct fl_stream *stream, enum fl_channel channel);
/* Is the token this session's? Any thread. */
bool fl_worker_session_has(struct fl_worker_session *session, const uint8_t *token);
/* Ends it and waits for its thread. */
void fl_worker_session_free(struct fl_worker_session *session);

/* control.c: what the VMM says. Takes what is there; negative errno: the session is over. */
int fl_worker_session_hear(struct fl_worker_session *session);

#endif
