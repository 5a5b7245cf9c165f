/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 * ===================
 *
 * The daemon's main thread only manages: it accepts connections, gives each a session with a thread
 * of its own, answers the control socket and the metrics, and frees sessions that are over. It is
 * one epoll loop, every structure in it belongs to this thread, and nothing on the way of a fault
 * ever waits for it.
 *
 * A session tells that it is over by writing over_fd; its thread is joined then. What a session can
 * be asked is in session.h, and is safe from here at any time.
 *
 * The first SIGTERM or SIGINT drains: no more connections, the sockets' files are gone so that
 * another daemon can take the paths at once, every guest is filled, and a guest that is full is
 * released and its session ends. A guest with a page that cannot be read cannot be let go: it keeps
 * its session, and so the daemon, until its VMM is gone. The second signal gives up: VMMs that lack
 * pages are killed, unless they are to be kept, before the end of the process closes their
 * userfaultfds; and it says how many.
 *
 * When there are no descriptors left for another session, accepting pauses: connections wait in the
 * socket's backlog until a session has ended or a second has passed.
 */
#include "session/server.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "session/server_internal.h"
#include "util/clock.h"
#include "util/error.h"

#define EVENT_BATCH 64

int fl_server_watch(struct fl_server *server, int fd, uint32_t events, enum fl_server_kind kind,
		    uint32_t index)
{
	union fl_server_cookie cookie = {.kind = kind, .index = index};
	struct epoll_event event = {.events = events, .data.u64 = cookie.u64};

	if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	return -errno;
}

static void on_signal(struct fl_server *server)
{
	struct signalfd_siginfo info;

	if (read(server->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (server->draining)
		server->done = true;
	else
		fl_server_drain(server);
}

static void dispatch(struct fl_server *server, const struct epoll_event *event)
{
	union fl_server_cookie cookie = {.u64 = event->data.u64};

	switch ((enum fl_server_kind)cookie.kind) {
	case FL_SERVER_SIGNAL:
		on_signal(server);
		break;
	case FL_SERVER_OVER:
		fl_server_reap(server);
		break;
	case FL_SERVER_ENDPOINT:
		if (server->listening)
			fl_server_accept(server, cookie.index);
		break;
	case FL_SERVER_CONTROL:
		fl_control_accept(server->control);
		break;
	case FL_SERVER_CONTROL_PEER:
		fl_control_ready(server->control, cookie.index, event->events);
		break;
	case FL_SERVER_METRICS:
		fl_metrics_ready(server->metrics);
		break;
	}
}

/* Sleeps until something happens or is due. */
static int loop_timeout_ms(const struct fl_server *server)
{
	int timeout_ms = fl_metrics_timeout_ms(server->metrics);

	if ((server->draining || server->resume_ns) && (timeout_ms < 0 || timeout_ms > 1000))
		return 1000;
	return timeout_ms;
}

static void do_what_is_due(struct fl_server *server)
{
	uint64_t now = fl_clock_ns();

	if (server->resume_ns && now >= server->resume_ns)
		fl_server_listen(server, true);
	if (server->draining && !server->sessions)
		server->done = true;
	else if (server->draining && now >= server->progress_ns)
		fl_server_report(server);
	if (server->metrics)
		fl_metrics_ready(server->metrics);
}

static int loop(struct fl_server *server)
{
	struct epoll_event events[EVENT_BATCH];

	while (!server->done) {
		int count =
			epoll_wait(server->epoll_fd, events, EVENT_BATCH, loop_timeout_ms(server));

		if (count < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < count; i++)
			dispatch(server, &events[i]);
		do_what_is_due(server);
	}
	return 0;
}

int fl_server_run(const struct fl_server_config *config, struct fl_error *err)
{
	struct fl_server server = {.config = config,
				   .log = &config->log,
				   .started_ns = fl_clock_ns(),
				   .next_id = 1,
				   .epoll_fd = -1,
				   .signal_fd = -1,
				   .over_fd = -1};
	int rc;

	rc = fl_server_open(&server, err);
	if (!rc) {
		fl_server_announce(&server);
		rc = loop(&server);
		if (rc)
			fl_error_set(err, rc, "epoll_wait: %s", strerror(-rc));
	}
	if (!server.sessions) {
		fl_server_close(&server);
		return rc;
	}
	/*
	 * Sessions are left: the second signal came. Their threads may be waiting for a device, so
	 * they are not joined, and what they use stays. The end of the process ends them.
	 */
	fl_control_close(server.control);
	fl_metrics_close(server.metrics);
	return fl_server_give_up(&server);
}
