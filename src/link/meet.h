/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_MEET_H
#define FL_LINK_MEET_H

/*
 * Two sides meet: both connections of a migration, through HELLO and WELCOME. Blocks, within a time
 * and until asked to give up; for a thread that has nothing else to do.
 */

#include <faultline/link.h>

#include "link/wire.h"

struct fl_meet {
	const char *connect; /* "HOST:PORT" or "unix:PATH" to connect to, or NULL: */
	int listen_fd;       /* accept here; made non-blocking. Who breaks the rules is closed */
	const struct fl_tls *tls; /* or NULL: plain */
	enum fl_role role;
	bool recover;
	bool busy;               /* accepting: everyone is refused, until it is cancelled */
	uint32_t features;       /* offered */
	unsigned int timeout_ms; /* for connecting and each answer; when accepting: for the second
				    * connection and each answer, not for the first to come; 0 for 10 s.
				    * TCP gives up on what was met after twice as long, 30 s at least */
	int cancel_fd;           /* readable: give up, -ECANCELED; or -1 */
	uint8_t session[FL_WIRE_SESSION]; /* of a recovery; who accepts a first meeting makes it */
};

struct fl_pair {
	struct fl_stream *main, *demand;
	uint32_t features; /* agreed */
	uint8_t session[FL_WIRE_SESSION];
};

/*
 * fl_meet() - Return: 0; -ECANCELED, -ETIMEDOUT, -EPROTONOSUPPORT (no version in common: says both),
 * -EPERM (wrong session, wrong role), -EBUSY (the peer is with another one), -EBADMSG, -EREMOTEIO (the
 * peer's ERROR), what connect(2) and TLS fail with. When accepting, a peer that fails is told why and closed, and the next one is waited
 * for; only cancelling and errors of the listening socket end it. @log hears of such peers.
 */
int fl_meet(const struct fl_meet *how, struct fl_pair *pair, const struct fl_log *log,
	    struct fl_error *err);

#endif
