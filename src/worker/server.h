/* SPDX-License-Identifier: MIT */
#ifndef FL_WORKER_SERVER_H
#define FL_WORKER_SERVER_H

/* The worker process: VMMs come by a unix socket, other workers by the network. */

#include <stdbool.h>
#include <stdint.h>

#include <faultline/common.h>
#include <faultline/link.h>

struct fl_worker_config {
	const char *socket_path;
	const char *listen;       /* or NULL: nothing can be exported to other hosts */
	const struct fl_tls *tls; /* or NULL: plain */
	unsigned int timeout_ms;  /* a peer that is silent for so long is lost */
	unsigned int spin_us;     /* how long a session looks for more before it sleeps */
	int stop_fd;              /* readable: end */
	struct fl_log log;
};

/* Serves until stop_fd is readable: 0, or why it cannot. */
int fl_worker_serve(const struct fl_worker_config *config, struct fl_error *err);

#endif
