/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_ADDRESS_H
#define FL_LINK_ADDRESS_H

/*
 * Addresses as people write them: "HOST:PORT", "[IPV6]:PORT", "*:PORT", "unix:PATH".
 */

#include <netdb.h>
#include <sys/un.h>

#include <faultline/link.h>

struct fl_address {
	const char *text; /* as it was given, for messages; the caller's */
	bool local;       /* a unix socket */
	struct sockaddr_un path;
	char host[256]; /* empty for "*" */
	char port[6];
};

/* Takes a text apart; asks nobody. -EINVAL. */
int fl_address_parse(struct fl_address *address, const char *text, struct fl_error *err);

/*
 * Looks a host up, in a thread of its own unless it is a number, because getaddrinfo(3) cannot be
 * told to end. 0 with a list for freeaddrinfo(3), -EHOSTUNREACH, -ETIMEDOUT, -ECANCELED, -ENOMEM.
 */
int fl_address_resolve(struct addrinfo **list, const struct fl_address *address,
		       uint64_t deadline_ns, int cancel_fd, struct fl_error *err);

/* Connects to whichever of @list answers first: a socket, or why the last one that failed did. */
int fl_address_connect(const struct addrinfo *list, uint64_t deadline_ns, int cancel_fd);

#endif
