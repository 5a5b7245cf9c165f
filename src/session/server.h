/* SPDX-License-Identifier: MIT */
#ifndef FL_SESSION_SERVER_H
#define FL_SESSION_SERVER_H

#include "session/session.h"

/* The daemon: everything that `faultline serve` does once its options are read. */

struct fl_server_config {
	struct fl_endpoint *endpoints; /* at least one; they outlive the server */
	size_t endpoint_count;
	const struct fl_images *images; /* for the figures of their "stats" filters */
	const char *control_path;       /* or NULL for none */
	bool control_optional;          /* go on without it when it cannot be had */
	const char *metrics;            /* "127.0.0.1:9090", "[::1]:9090", "unix:PATH", or NULL */
	struct fl_log log;
};

/*
 * Serves until a signal ends it and every session is gone or needs it no more. SIGTERM or SIGINT
 * drains; a second one ends at once, and kills VMMs that lack pages, unless they are to be kept.
 *
 * Returns 0 when nobody was left behind, 1 when VMs were or had to be killed, or a negative errno
 * when it could not begin.
 */
int fl_server_run(const struct fl_server_config *config, struct fl_error *err);

#endif
