/* SPDX-License-Identifier: MIT */
#include "link/meet_peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "util/error.h"
#include "util/log.h"

#define PARTING_MS  2000
#define PARTING_MAX (1024 * 1024) /* how much of what it sends is dropped, before it is */

void fl_meet_peer_free(struct fl_meet_peer *peer)
{
	fl_stream_close(peer->stream);
	free(peer);
}

static struct fl_meet_peer *find_main(const struct fl_meeting *meeting, uint64_t number)
{
	for (unsigned int i = 0; i < meeting->count; i++) {
		struct fl_meet_peer *peer = meeting->peers[i];

		if (peer->number == number && peer->stage == FL_STAGE_MET)
			return peer;
	}
	return NULL;
}

/* The main connection that was given a session; the newest, though there should be one at most. All
 * are compared, whatever the outcome. */
static struct fl_meet_peer *find_session(const struct fl_meeting *meeting, const uint8_t *session)
{
	struct fl_meet_peer *found = NULL;

	for (unsigned int i = 0; i < meeting->count; i++) {
		struct fl_meet_peer *peer = meeting->peers[i];

		if (peer->stage == FL_STAGE_MET &&
		    fl_meet_same_session(peer->ours.session, session) &&
		    (!found || found->number < peer->number))
			found = peer;
	}
	return found;
}

/* Nothing more is expected of it; what is in its giver is still sent. */
static void part(struct fl_meet_peer *peer)
{
	uint64_t soon = fl_meet_after_ms(PARTING_MS);

	peer->stage = FL_STAGE_PARTING;
	if (peer->deadline_ns > soon)
		peer->deadline_ns = soon;
}

static void refuse(struct fl_meeting *meeting, struct fl_meet_peer *peer,
		   const struct fl_error *why)
{
	bool can_hear = peer->stage == FL_STAGE_HELLO || peer->stage == FL_STAGE_MET ||
			(peer->stage == FL_STAGE_WELCOME && peer->giver.sent == peer->giver.len);

	fl_log(meeting->log, FL_LOG_WARNING, "%s: %s", peer->name, why->text);
	peer->giver.len = peer->giver.sent = 0;
	if (can_hear)
		fl_meet_put_error(&peer->giver, why);
	part(peer);
}

/* The last words go out, then what comes is dropped until it closes; below TLS, of which nothing
 * matters any more. */
static void step_parting(struct fl_meet_peer *peer)
{
	uint8_t scratch[4096];
	const struct iovec iov = {.iov_base = scratch, .iov_len = sizeof(scratch)};
	int fd = fl_stream_fd(peer->stream);
	int64_t ret;
	int rc;

	if (peer->giver.sent < peer->giver.len) {
		rc = fl_meet_give(peer->stream, &peer->giver, NULL);
		if (rc < 0 && rc != -EAGAIN)
			peer->giver.len = peer->giver.sent;
	}
	if (peer->giver.sent == peer->giver.len)
		(void)shutdown(fd, SHUT_WR);
	while ((ret = fl_socket_recv(fd, &iov, 1)) > 0) {
		peer->dropped += (uint32_t)ret;
		if (peer->dropped > PARTING_MAX)
			break;
	}
	if (ret != -EAGAIN)
		peer->stage = FL_STAGE_GONE;
}

/* One of ours that was not told to use TLS: it would not understand an alert, and gets none from
 * OpenSSL. It is told in its own language. */
static int check_plain(struct fl_meet_peer *peer, struct fl_error *err)
{
	int fd = fl_stream_fd(peer->stream);
	struct fl_stream *plain;
	uint8_t magic[2];

	if (recv(fd, magic, sizeof(magic), MSG_PEEK | MSG_DONTWAIT) != sizeof(magic) ||
	    magic[0] != (FL_WIRE_MAGIC & 0xff) || magic[1] != FL_WIRE_MAGIC >> 8 ||
	    fl_stream_socket_new(&plain, fd))
		return 0;
	fl_stream_tls_release(peer->stream);
	peer->stream = plain;
	peer->stage = FL_STAGE_HELLO;
	return fl_error_set(err, -EPROTO, "this side speaks TLS, the other one does not");
}

static int step_tls(struct fl_meet_peer *peer, struct fl_error *err)
{
	int rc = check_plain(peer, err);

	if (!rc)
		rc = fl_stream_tls_step(peer->stream, err);
	if (rc == 1)
		peer->stage = FL_STAGE_HELLO;
	return rc;
}

static const char *role_name(unsigned int role)
{
	return role == FL_ROLE_OUTGOING ? "outgoing" : "incoming";
}

/* What a HELLO says, against what we wait for; all but the session. */
static int check_hello(const struct fl_meet *how, struct fl_meet_peer *peer, struct fl_error *err)
{
	const struct fl_frame *frame = &peer->taker.frame;
	struct fl_wire_hello *theirs = &peer->hello;
	const struct fl_wire_hello mine = {.version_min = FL_WIRE_VERSION_MIN,
					   .version_max = FL_WIRE_VERSION_MAX};
	int rc;

	if (frame->type != FL_FRAME_HELLO)
		return fl_error_set(err, -EBADMSG, "%s came instead of HELLO",
				    fl_frame_name(frame->type));
	rc = fl_hello_decode(theirs, peer->taker.payload, frame->len, err);
	if (!rc)
		rc = fl_hello_agree(&mine, theirs, err);
	if (rc < 0)
		return rc;
	if (theirs->role == (unsigned int)how->role)
		return fl_error_set(err, -EPERM, "HELLO: both sides are the %s one",
				    role_name(theirs->role));
	if (how->busy)
		return fl_error_set(err, -EBUSY,
				    "HELLO: another machine is on its way to here already");
	if (theirs->recover && !how->recover)
		return fl_error_set(err, -EPERM, "HELLO: no machine here waits to be recovered");
	if (!theirs->recover && how->recover)
		return fl_error_set(err, -EPERM,
				    "HELLO: the machine here waits to be recovered, not to meet "
				    "another one");
	peer->ours = (struct fl_wire_hello){.version_min = (uint16_t)rc,
					    .version_max = (uint16_t)rc,
					    .channel = theirs->channel,
					    .role = (uint8_t)how->role,
					    .recover = theirs->recover,
					    .features = theirs->features & how->features};
	return 0;
}

static int make_session(uint8_t *session)
{
	do {
		if (getrandom(session, FL_WIRE_SESSION, 0) != FL_WIRE_SESSION)
			return -EIO;
	} while (fl_meet_no_session(session));
	return 0;
}

/* A main connection names no session, or in a recovery the one that is being recovered. */
static int meet_main(struct fl_meeting *meeting, struct fl_meet_peer *peer, struct fl_error *err)
{
	const struct fl_meet *how = meeting->how;

	if (!how->recover) {
		if (!fl_meet_no_session(peer->hello.session))
			return fl_error_set(err, -EPERM, "HELLO: a session before there is one");
		if (make_session(peer->ours.session))
			return fl_error_set(err, -EIO, "no random numbers for a session");
		return 0;
	}
	if (!fl_meet_same_session(peer->hello.session, how->session))
		return fl_error_set(err, -EPERM, "HELLO: the session is wrong");
	memcpy(peer->ours.session, how->session, FL_WIRE_SESSION);
	return 0;
}

static int meet_demand(struct fl_meeting *meeting, struct fl_meet_peer *peer, struct fl_error *err)
{
	const struct fl_meet_peer *main = find_session(meeting, peer->hello.session);

	if (!main)
		return fl_error_set(err, -EPERM, "HELLO: the session is wrong");
	peer->main = main->number;
	peer->ours.features = main->ours.features;
	memcpy(peer->ours.session, main->ours.session, FL_WIRE_SESSION);
	return 0;
}

static int step_hello(struct fl_meeting *meeting, struct fl_meet_peer *peer, struct fl_error *err)
{
	int rc = fl_meet_take(peer->stream, &peer->taker, err);

	if (rc < 0)
		return rc == -EAGAIN ? 0 : rc;
	rc = check_hello(meeting->how, peer, err);
	if (!rc)
		rc = peer->hello.channel == FL_CHANNEL_MAIN ? meet_main(meeting, peer, err)
							    : meet_demand(meeting, peer, err);
	if (rc)
		return rc;
	fl_meet_put_hello(&peer->giver, FL_FRAME_WELCOME, &peer->ours);
	peer->stage = FL_STAGE_WELCOME;
	return 1;
}

static void replace_older(struct fl_meeting *meeting, const struct fl_meet_peer *newest)
{
	struct fl_error why;

	(void)fl_error_set(&why, -ESTALE, "the peer came again by another connection");
	for (unsigned int i = 0; i < meeting->count; i++) {
		struct fl_meet_peer *peer = meeting->peers[i];

		if (peer == newest || peer->stage != FL_STAGE_MET)
			continue;
		refuse(meeting, peer, &why);
		step_parting(peer);
	}
}

static int make_pair(struct fl_meeting *meeting, struct fl_meet_peer *demand, struct fl_error *err)
{
	struct fl_meet_peer *main = find_main(meeting, demand->main);
	struct fl_pair *pair = meeting->pair;

	if (!main)
		return fl_error_set(err, -EPERM, "its main connection is gone");
	pair->main = main->stream;
	pair->demand = demand->stream;
	pair->features = main->ours.features;
	memcpy(pair->session, main->ours.session, FL_WIRE_SESSION);
	main->stream = demand->stream = NULL;
	main->stage = demand->stage = FL_STAGE_GONE;
	meeting->done = true;
	return 0;
}

static int step_welcome(struct fl_meeting *meeting, struct fl_meet_peer *peer, struct fl_error *err)
{
	int rc = fl_meet_give(peer->stream, &peer->giver, err);

	if (rc < 0)
		return rc == -EAGAIN ? 0 : rc;
	if (peer->hello.channel == FL_CHANNEL_DEMAND)
		return make_pair(meeting, peer, err);
	peer->stage = FL_STAGE_MET;
	peer->deadline_ns = fl_meet_after_ms(meeting->how->timeout_ms);
	if (meeting->how->recover)
		replace_older(meeting, peer);
	return 1;
}

/* Nothing is to come on a main connection before the demand connection stands, but its end. */
static int step_met(struct fl_meet_peer *peer, struct fl_error *err)
{
	uint8_t byte;
	const struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	int64_t ret = fl_stream_recv(peer->stream, &iov, 1);

	if (ret == -EAGAIN)
		return 0;
	if (ret > 0)
		return fl_error_set(err, -EBADMSG, "went on before its second connection stood");
	return fl_error_set(err, ret ? (int)ret : -ECONNRESET,
			    "closed the connection before the second one stood");
}

void fl_meet_peer_advance(struct fl_meeting *meeting, struct fl_meet_peer *peer)
{
	struct fl_error why = {0};
	int rc = 1;

	while (rc == 1) {
		switch (peer->stage) {
		case FL_STAGE_TLS:
			rc = step_tls(peer, &why);
			break;
		case FL_STAGE_HELLO:
			rc = step_hello(meeting, peer, &why);
			break;
		case FL_STAGE_WELCOME:
			rc = step_welcome(meeting, peer, &why);
			break;
		case FL_STAGE_MET:
			rc = step_met(peer, &why);
			break;
		case FL_STAGE_PARTING:
			step_parting(peer);
			return;
		case FL_STAGE_GONE:
		default:
			return;
		}
		if (rc < 0) {
			refuse(meeting, peer, &why);
			rc = 1;
		}
	}
}

void fl_meet_peer_expire(struct fl_meeting *meeting, struct fl_meet_peer *peer)
{
	struct fl_error why;

	if (peer->stage == FL_STAGE_PARTING) {
		peer->stage = FL_STAGE_GONE;
		return;
	}
	(void)fl_error_set(&why, -ETIMEDOUT, "%s within %u ms",
			   peer->stage == FL_STAGE_TLS   ? "no TLS handshake"
			   : peer->stage == FL_STAGE_MET ? "no second connection"
							 : "no HELLO",
			   meeting->how->timeout_ms);
	peer->deadline_ns = fl_meet_after_ms(PARTING_MS);
	refuse(meeting, peer, &why);
	step_parting(peer);
}

int fl_meet_peer_new(struct fl_meeting *meeting, int fd, struct fl_meet_peer **made)
{
	struct fl_meet_peer *peer = calloc(1, sizeof(*peer));
	int rc;

	if (!peer)
		return -ENOMEM;
	fl_link_peer(fd, peer->name);
	if (meeting->how->tls)
		rc = fl_stream_tls_begin(&peer->stream, fd, meeting->how->tls, NULL, NULL);
	else
		rc = fl_stream_socket_new(&peer->stream, fd);
	if (rc) {
		free(peer);
		return rc;
	}
	peer->stage = meeting->how->tls ? FL_STAGE_TLS : FL_STAGE_HELLO;
	peer->number = ++meeting->numbers;
	peer->deadline_ns = fl_meet_after_ms(meeting->how->timeout_ms);
	*made = peer;
	return 0;
}
