/* SPDX-License-Identifier: MIT */
#include "link/meet_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "link/stream.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

/* Every error names whom we were calling. */
static int tell(const struct fl_meet *how, int code, const char *text, struct fl_error *err)
{
	char copy[sizeof(((struct fl_error *)NULL)->text)];

	(void)snprintf(copy, sizeof(copy), "%s", text);
	return fl_error_set(err, code, "%s: %s", how->connect, copy);
}

static int open_stream(const struct fl_meet *how, struct fl_stream **stream, struct fl_error *err)
{
	int fl_cleanup_fd fd = fl_link_connect(how->connect, how->timeout_ms, how->cancel_fd, err);
	struct fl_error why = {0};
	char host[256];
	int rc = 0;

	if (fd < 0)
		return fd;
	if (how->tls)
		rc = fl_link_host(how->connect, host, sizeof(host));
	if (rc)
		return tell(how, rc, "names no host", err);
	if (how->tls)
		rc = fl_stream_tls_open(stream, fd, how->tls, host,
					fl_clock_ns() + how->timeout_ms * FL_NS_PER_MS,
					how->cancel_fd, &why);
	else
		rc = fl_stream_socket_new(stream, fd);
	if (rc)
		return tell(how, rc, why.text[0] ? why.text : strerror(-rc), err);
	(void)fl_fd_take(&fd);
	return 0;
}

/* Waits until the stream can go on: 0, or why it is waited for no more. */
static int wait_on(const struct fl_meet *how, struct fl_stream *stream, short events,
		   uint64_t deadline_ns, struct fl_error *err)
{
	int rc = fl_socket_wait(fl_stream_fd(stream), (short)(events | fl_stream_events(stream)),
				how->cancel_fd, deadline_ns);

	if (rc == -ETIMEDOUT)
		return fl_error_set(err, rc, "no answer to HELLO within %u ms", how->timeout_ms);
	return rc ? fl_error_set(err, rc, "%s", strerror(-rc)) : 0;
}

/* HELLO and what comes back. A peer that refuses us may have gone before it took our HELLO: what it
 * said matters more than that we could not send. */
static int exchange(const struct fl_meet *how, struct fl_stream *stream,
		    struct fl_meet_giver *giver, struct fl_meet_taker *taker, struct fl_error *err)
{
	uint64_t deadline_ns = fl_clock_ns() + how->timeout_ms * FL_NS_PER_MS;
	int rc;

	while (fl_meet_give(stream, giver, err) == -EAGAIN) {
		rc = wait_on(how, stream, POLLOUT, deadline_ns, err);
		if (rc)
			return rc;
	}
	while ((rc = fl_meet_take(stream, taker, err)) == -EAGAIN) {
		rc = wait_on(how, stream, POLLIN, deadline_ns, err);
		if (rc)
			return rc;
	}
	return rc < 0 ? rc : 0;
}

static int refused(const struct fl_meet_taker *taker, struct fl_error *err)
{
	char text[160];
	int code = -EREMOTEIO;

	if (taker->frame.id == EPROTONOSUPPORT || taker->frame.id == EPERM ||
	    taker->frame.id == EBUSY)
		code = -(int)taker->frame.id;
	fl_frame_text(text, sizeof(text), taker->payload, taker->frame.len);
	return fl_error_set(err, code, "the peer answers: \"%s\"", text);
}

static int check_welcome(const struct fl_meet_taker *taker, const struct fl_wire_hello *mine,
			 struct fl_wire_hello *theirs, struct fl_error *err)
{
	const char *name = fl_frame_name(taker->frame.type);
	bool named = !fl_meet_no_session(mine->session);
	int rc;

	if (taker->frame.type == FL_FRAME_ERROR)
		return refused(taker, err);
	if (taker->frame.type != FL_FRAME_WELCOME)
		return fl_error_set(err, -EBADMSG, "%s came instead of WELCOME", name);
	rc = fl_hello_decode(theirs, taker->payload, taker->frame.len, err);
	if (!rc)
		rc = fl_hello_agree(mine, theirs, err);
	if (rc < 0)
		return rc;
	if (theirs->role == mine->role)
		return fl_error_set(err, -EPERM, "WELCOME: both sides are the %s one",
				    mine->role == FL_ROLE_OUTGOING ? "outgoing" : "incoming");
	if (theirs->version_min != theirs->version_max || theirs->channel != mine->channel ||
	    theirs->recover != mine->recover || (theirs->features & ~mine->features))
		return fl_error_set(err, -EBADMSG, "WELCOME: answers another HELLO than ours");
	if (named ? !fl_meet_same_session(theirs->session, mine->session)
		  : fl_meet_no_session(theirs->session))
		return fl_error_set(err, -EPERM, "WELCOME: the session is wrong");
	return 0;
}

/* One connection, and what the peer said to it. */
static int dial(const struct fl_meet *how, enum fl_channel channel, const uint8_t *session,
		struct fl_stream **stream, struct fl_wire_hello *theirs, struct fl_error *err)
{
	struct fl_wire_hello mine = {.version_min = FL_WIRE_VERSION_MIN,
				     .version_max = FL_WIRE_VERSION_MAX,
				     .channel = (uint8_t)channel,
				     .role = (uint8_t)how->role,
				     .recover = how->recover,
				     .features = how->features};
	struct fl_meet_taker taker = {0};
	struct fl_meet_giver giver = {0};
	struct fl_error why = {0};
	int rc = open_stream(how, stream, err);

	if (rc)
		return rc;
	memcpy(mine.session, session, FL_WIRE_SESSION);
	fl_meet_put_hello(&giver, FL_FRAME_HELLO, &mine);
	rc = exchange(how, *stream, &giver, &taker, &why);
	if (!rc)
		rc = check_welcome(&taker, &mine, theirs, &why);
	if (!rc)
		return 0;
	fl_stream_close(*stream);
	*stream = NULL;
	return tell(how, rc, why.text, err);
}

int fl_meet_connecting(const struct fl_meet *how, struct fl_pair *pair, struct fl_error *err)
{
	static const uint8_t none[FL_WIRE_SESSION];
	struct fl_wire_hello first = {0}, second = {0};
	int rc;

	rc = dial(how, FL_CHANNEL_MAIN, how->recover ? how->session : none, &pair->main, &first,
		  err);
	if (rc)
		return rc;
	rc = dial(how, FL_CHANNEL_DEMAND, first.session, &pair->demand, &second, err);
	if (rc) {
		fl_stream_close(pair->main);
		pair->main = NULL;
		return rc;
	}
	pair->features = first.features & second.features;
	memcpy(pair->session, first.session, FL_WIRE_SESSION);
	return 0;
}
