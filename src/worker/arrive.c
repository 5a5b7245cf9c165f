/* SPDX-License-Identifier: MIT */
#include "worker/arrive.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "link/stream.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"
#include "worker/server.h"

#define STACK_BYTES (256u << 10)

struct visit {
	const struct fl_arrive *arrive;
	struct fl_stream *stream;
	uint64_t deadline_ns;
	struct fl_wire_hello theirs, mine;
};

static int wait_on(const struct visit *visit, short events)
{
	return fl_socket_wait(fl_stream_fd(visit->stream),
			      (short)(events | fl_stream_events(visit->stream)),
			      visit->arrive->config->stop_fd, visit->deadline_ns);
}

static int take_hello(struct visit *visit, struct fl_error *err)
{
	struct fl_meet_taker taker = {0};
	int rc;

	while ((rc = fl_meet_take(visit->stream, &taker, err)) == -EAGAIN) {
		rc = wait_on(visit, POLLIN);
		if (rc)
			return fl_error_set(err, rc, "no HELLO: %s", strerror(-rc));
	}
	if (rc < 0)
		return rc;
	if (taker.frame.type != FL_FRAME_HELLO)
		return fl_error_set(err, -EBADMSG, "%s came instead of HELLO",
				    fl_frame_name(taker.frame.type));
	return fl_hello_decode(&visit->theirs, taker.payload, taker.frame.len, err);
}

static int give(const struct visit *visit, struct fl_meet_giver *giver, struct fl_error *err)
{
	int rc;

	while ((rc = fl_meet_give(visit->stream, giver, err)) == -EAGAIN) {
		rc = wait_on(visit, POLLOUT);
		if (rc)
			return fl_error_set(err, rc, "WELCOME is not taken: %s", strerror(-rc));
	}
	return rc < 0 ? rc : 0;
}

/* Who comes must be a worker that imports, and know a token. */
static int check_hello(struct visit *visit, struct fl_error *err)
{
	const struct fl_wire_hello *theirs = &visit->theirs;
	struct fl_wire_hello *mine = &visit->mine;
	int version;

	*mine = (struct fl_wire_hello){.version_min = FL_WIRE_VERSION_MIN,
				       .version_max = FL_WIRE_VERSION_MAX,
				       .channel = theirs->channel,
				       .role = FL_ROLE_OUTGOING,
				       .recover = theirs->recover,
				       .features = FL_FEATURE_WORKER};
	version = fl_hello_agree(mine, theirs, err);
	if (version < 0)
		return version;
	if (theirs->role != FL_ROLE_INCOMING || !theirs->recover ||
	    !(theirs->features & FL_FEATURE_WORKER))
		return fl_error_set(err, -EPERM, "this is a page worker, and not for migrations");
	if (!visit->arrive->knows(visit->arrive->ctx, theirs->session))
		return fl_error_set(err, -EPERM, "nothing is exported under this token");
	mine->version_min = mine->version_max = (uint16_t)version;
	memcpy(mine->session, theirs->session, sizeof(mine->session));
	return 0;
}

static int meet(struct visit *visit, struct fl_error *err)
{
	struct fl_meet_giver giver;
	int rc = take_hello(visit, err);

	if (!rc)
		rc = check_hello(visit, err);
	if (!rc) {
		fl_meet_put_hello(&giver, FL_FRAME_WELCOME, &visit->mine);
		return give(visit, &giver, err);
	}
	fl_meet_put_error(&giver, err);
	(void)fl_meet_give(visit->stream, &giver, &(struct fl_error){0});
	return rc;
}

static int open_stream(struct visit *visit, int sock, struct fl_error *err)
{
	const struct fl_worker_config *config = visit->arrive->config;
	int rc;

	visit->deadline_ns = fl_clock_ns() + config->timeout_ms * FL_NS_PER_MS;
	if (config->tls)
		return fl_stream_tls_open(&visit->stream, sock, config->tls, NULL,
					  visit->deadline_ns, config->stop_fd, err);
	rc = fl_stream_socket_new(&visit->stream, sock);
	return rc ? fl_error_set(err, rc, "%s", strerror(-rc)) : 0;
}

static void receive(const struct fl_arrive *arrive, int sock)
{
	struct visit visit = {.arrive = arrive};
	char peer[FL_LINK_TEXT];
	struct fl_error err = {0};
	int rc;

	fl_link_peer(sock, peer);
	rc = open_stream(&visit, sock, &err);
	if (rc)
		fl_fd_close(&sock);
	else
		rc = meet(&visit, &err);
	if (!rc &&
	    !arrive->give(arrive->ctx, visit.theirs.session, visit.stream, visit.theirs.channel))
		rc = fl_error_set(&err, -EPERM, "what it asked for is exported no more");
	if (!rc)
		return;
	fl_log(&arrive->config->log, FL_LOG_WARNING, "%s: %s", peer, err.text);
	fl_stream_close(visit.stream);
}

static void *arriving_main(void *arg)
{
	struct fl_arriving *arriving = arg;

	receive(arriving->arrive, arriving->sock);
	/* Release: pairs with fl_arrive_join(). */
	atomic_store_explicit(&arriving->done, true, memory_order_release);
	return NULL;
}

void fl_arrive_join(struct fl_arrive *arrive, bool all)
{
	for (int i = 0; i < FL_ARRIVING_MAX; i++) {
		struct fl_arriving *arriving = &arrive->arriving[i];

		if (!arriving->used ||
		    !(all || atomic_load_explicit(&arriving->done, memory_order_acquire)))
			continue;
		(void)pthread_join(arriving->thread, NULL);
		arriving->used = false;
	}
}

/* When all places are taken, it is for the peer to try again. */
void fl_arrive_start(struct fl_arrive *arrive, int sock)
{
	int rc = -EBUSY;

	fl_arrive_join(arrive, false);
	for (int i = 0; i < FL_ARRIVING_MAX && rc == -EBUSY; i++) {
		struct fl_arriving *arriving = &arrive->arriving[i];

		if (arriving->used)
			continue;
		arriving->arrive = arrive;
		arriving->sock = sock;
		atomic_store_explicit(&arriving->done, false, memory_order_relaxed);
		rc = fl_thread_start(&arriving->thread, STACK_BYTES, arriving_main, arriving);
		arriving->used = !rc;
	}
	if (!rc)
		return;
	fl_log(&arrive->config->log, FL_LOG_WARNING, "a peer was turned away: %s", strerror(-rc));
	fl_fd_close(&sock);
}
