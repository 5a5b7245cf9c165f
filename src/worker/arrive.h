/* SPDX-License-Identifier: MIT */
#ifndef FL_WORKER_ARRIVE_H
#define FL_WORKER_ARRIVE_H

/* Other workers that come by the network, until the session whose token they name has them. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "link/meet_parts.h"

#define FL_ARRIVING_MAX 32

struct fl_worker_config;
struct fl_arrive;

/* One that is being spoken to, by a thread of its own: a handshake may take its time. */
struct fl_arriving {
	struct fl_arrive *arrive;
	pthread_t thread;
	bool used;
	atomic_bool done; /* to be joined */
	int sock;
};

struct fl_arrive {
	const struct fl_worker_config *config;
	/* Is there a session with this token? */
	bool (*knows)(void *ctx, const uint8_t *token);
	/* Gives the stream to it; false when it has gone. Any thread. */
	bool (*give)(void *ctx, const uint8_t *token, struct fl_stream *stream,
		     enum fl_channel channel);
	void *ctx;
	struct fl_arriving arriving[FL_ARRIVING_MAX];
};

/* Speaks to who connected. @sock is its own then, also when it fails. */
void fl_arrive_start(struct fl_arrive *arrive, int sock);
/* Joins the threads that are done; all of them when @all, for which config->stop_fd must be
 * readable. */
void fl_arrive_join(struct fl_arrive *arrive, bool all);

#endif
