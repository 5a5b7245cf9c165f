/* SPDX-License-Identifier: MIT */
/* A connection that a test can lose: a proxy between the two sides of a migration. */
#ifndef TESTS_API_PROXY_H
#define TESTS_API_PROXY_H

#include <pthread.h>

/* Carries bytes between two sides, until it is told to let go. */
struct proxy {
	int listen_fd, cut[2];
	char address[128];
	const char *to;
	pthread_t thread;
};

/* Listens at proxy->address, and connects to @to for each that comes: two of them at most. */
void proxy_start(struct proxy *proxy, const char *to);

/* Ends it, and with it all of its connections. */
void proxy_cut(struct proxy *proxy);

#endif
