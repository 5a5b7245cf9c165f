/* SPDX-License-Identifier: MIT */
#include "link/meet_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"

/*
 * Meeting whoever comes.
 *
 * Anyone who reaches the port can connect, say nothing, say nonsense, or say just enough to be waited
 * for. None of them may keep the right one out, so all are served side by side, each in a stage of
 * its own and with a time of its own, and nothing is decided before both connections of one peer
 * stand:
 *
 *	TLS -> HELLO -> WELCOME -> MET        a main connection, until its demand connection comes
 *	                WELCOME -> (the end)  a demand connection: the pair is made
 *	any -> PARTING                        told what was wrong; what it still sends is dropped
 *
 * In a first meeting every main connection is given a session of its own, by which its demand
 * connection is known: a stranger who said HELLO and no more holds nobody up. In a recovery the
 * session is a secret that both sides share; who has it is the right one, and its newest main
 * connection replaces an older one, of which it may know that it is dead before we do.
 *
 * When all places are taken, a newcomer takes the one of the oldest peer that has not got far.
 *
 * A connection that is closed while input waits is reset, and what was said last may be lost with
 * it. So a parting peer is given a moment to read and to close.
 */

#define PAUSE_MS 100 /* before accept(2) is tried again after it had no descriptor */

static void sweep(struct fl_meeting *meeting)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < meeting->count; i++) {
		if (meeting->peers[i]->stage == FL_STAGE_GONE)
			fl_meet_peer_free(meeting->peers[i]);
		else
			meeting->peers[kept++] = meeting->peers[i];
	}
	meeting->count = kept;
}

/* Makes room: of those that have got least far, the oldest goes. */
static void evict(struct fl_meeting *meeting)
{
	static const int worth[] = {
		[FL_STAGE_TLS] = 1, [FL_STAGE_HELLO] = 1,   [FL_STAGE_WELCOME] = 2,
		[FL_STAGE_MET] = 2, [FL_STAGE_PARTING] = 0, [FL_STAGE_GONE] = 0};
	struct fl_meet_peer *victim = meeting->peers[0];

	for (unsigned int i = 1; i < meeting->count; i++) {
		struct fl_meet_peer *peer = meeting->peers[i];

		if (worth[peer->stage] < worth[victim->stage] ||
		    (worth[peer->stage] == worth[victim->stage] && peer->number < victim->number))
			victim = peer;
	}
	fl_log(meeting->log, FL_LOG_WARNING, "%s: too many strangers, closed", victim->name);
	victim->stage = FL_STAGE_GONE;
	sweep(meeting);
}

static void welcome_stranger(struct fl_meeting *meeting, int accepted)
{
	int fl_cleanup_fd fd = accepted;
	struct fl_meet_peer *peer;

	if (meeting->count == FL_MEET_PEERS)
		evict(meeting);
	if (fl_meet_peer_new(meeting, fd, &peer))
		return;
	(void)fl_fd_take(&fd);
	meeting->peers[meeting->count++] = peer;
	fl_meet_peer_advance(meeting, peer);
}

/* Errors of accept(2) that are of one connection, or of the network, and not of the socket. */
static bool is_passing(int code)
{
	static const int passing[] = {EINTR,       ECONNABORTED, EPROTO, ENETDOWN,
				      ENOPROTOOPT, EHOSTDOWN,    ENONET, EHOSTUNREACH,
				      ENETUNREACH, ETIMEDOUT,    EPERM};

	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
		if (code == passing[i])
			return true;
	}
	return false;
}

/* Takes all that wait, but no more at a time than there are places. */
static int accept_all(struct fl_meeting *meeting, struct fl_error *err)
{
	int listen_fd = meeting->how->listen_fd;

	for (unsigned int i = 0; i < FL_MEET_PEERS && !meeting->done; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			welcome_stranger(meeting, fd);
			continue;
		}
		if (errno == EAGAIN)
			return 0;
		if (is_passing(errno))
			continue;
		if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
			return fl_error_set(err, -errno, "accept: %s", strerror(errno));
		if (!meeting->count) {
			meeting->pause_ns = fl_meet_after_ms(PAUSE_MS);
			return 0;
		}
		evict(meeting);
	}
	return 0;
}

static short wanted(const struct fl_meet_peer *peer)
{
	short events = fl_stream_events(peer->stream);

	return peer->stage == FL_STAGE_PARTING ? (short)(events | POLLIN) : events;
}

/* Waits for something to happen, at most until the first time is up. */
static int wait_for_all(struct fl_meeting *meeting)
{
	uint64_t until = UINT64_MAX;
	bool pause = fl_clock_ns() < meeting->pause_ns;
	int n;

	meeting->polled[0] = (struct pollfd){.fd = meeting->how->cancel_fd, .events = POLLIN};
	meeting->polled[1] =
		(struct pollfd){.fd = pause ? -1 : meeting->how->listen_fd, .events = POLLIN};
	if (pause)
		until = meeting->pause_ns;
	for (unsigned int i = 0; i < meeting->count; i++) {
		const struct fl_meet_peer *peer = meeting->peers[i];

		meeting->polled[2 + i] =
			(struct pollfd){.fd = fl_stream_fd(peer->stream), .events = wanted(peer)};
		if (peer->deadline_ns < until)
			until = peer->deadline_ns;
	}
	n = poll(meeting->polled, 2 + meeting->count,
		 until == UINT64_MAX ? -1 : fl_socket_left_ms(until));
	if (n < 0 && errno == EINTR)
		return 0;
	return n < 0 ? -errno : n;
}

static int turn(struct fl_meeting *meeting, struct fl_error *err)
{
	unsigned int count = meeting->count;
	int n = wait_for_all(meeting);

	if (n < 0)
		return fl_error_set(err, n, "poll: %s", strerror(-n));
	if (n > 0 && meeting->polled[0].revents)
		return fl_error_set(err, -ECANCELED, "nobody came before it was called off");
	for (unsigned int i = 0; i < count && !meeting->done; i++) {
		struct fl_meet_peer *peer = meeting->peers[i];

		if (n > 0 && meeting->polled[2 + i].revents)
			fl_meet_peer_advance(meeting, peer);
		if (!meeting->done && fl_clock_ns() >= peer->deadline_ns)
			fl_meet_peer_expire(meeting, peer);
	}
	sweep(meeting);
	return n > 0 && meeting->polled[1].revents && !meeting->done ? accept_all(meeting, err) : 0;
}

/* Who is still there is told that it came too late; those that did not speak would not understand. */
static void dismiss(struct fl_meeting *meeting)
{
	struct fl_error why;

	(void)fl_error_set(&why, -EBUSY, "%s",
			   meeting->done ? "another one has met" : "called off");
	for (unsigned int i = 0; i < meeting->count; i++) {
		struct fl_meet_peer *peer = meeting->peers[i];

		if (peer->stage == FL_STAGE_MET) {
			fl_meet_put_error(&peer->giver, &why);
			(void)fl_meet_give(peer->stream, &peer->giver, NULL);
		}
		fl_meet_peer_free(peer);
	}
}

/* accept(2) must not wait for a connection that went away after poll(2) told of it. */
static int prepare(int listen_fd)
{
	int flags = fcntl(listen_fd, F_GETFL);

	return flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int fl_meet_accepting(const struct fl_meet *how, struct fl_pair *pair, const struct fl_log *log,
		      struct fl_error *err)
{
	int rc = prepare(how->listen_fd);
	struct fl_meeting *meeting;

	if (rc)
		return fl_error_set(err, rc, "the listening socket: %s", strerror(-rc));
	meeting = calloc(1, sizeof(*meeting));
	if (!meeting)
		return fl_error_set(err, -ENOMEM, "meeting: out of memory");
	meeting->how = how;
	meeting->log = log;
	meeting->pair = pair;
	while (!rc && !meeting->done)
		rc = turn(meeting, err);
	dismiss(meeting);
	free(meeting);
	return rc;
}
