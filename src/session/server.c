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
 * released and its session ends. A guest that cannot be filled fails as at any other time. The
 * second signal gives up, and says how many VMs are left waiting.
 *
 * When descriptors run out, accepting pauses: connections wait in the socket's backlog until a
 * session has ended or a second has passed.
 */
#include "session/server.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "session/server_internal.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"

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

struct fl_session *fl_server_find(const struct fl_server *server, uint64_t id)
{
	const struct fl_server_session *each;
	struct fl_session_info info;

	for (each = server->sessions; each; each = each->next) {
		fl_session_info(each->session, &info);
		if (info.id == id)
			return each->session;
	}
	return NULL;
}

/* Called by a session's thread. */
static void session_is_over(void *ctx)
{
	const struct fl_server *server = ctx;
	uint64_t one = 1;

	(void)!write(server->over_fd, &one, sizeof(one));
}

static void watch_endpoints(struct fl_server *server, bool on)
{
	for (uint32_t i = 0; i < server->config->endpoint_count; i++)
		(void)fl_server_watch(server, server->listeners[i].fd, on ? EPOLLIN : 0,
				      FL_SERVER_ENDPOINT, i);
	server->resume_ns = on ? 0 : fl_clock_ns() + FL_NS_PER_S;
}

static int begin_session(struct fl_server *server, struct fl_endpoint *endpoint, int conn)
{
	struct fl_session_hooks hooks = {.over = session_is_over, .ctx = server};
	struct fl_server_session *entry = calloc(1, sizeof(*entry));
	int rc;

	if (!entry) {
		(void)close(conn);
		return -ENOMEM;
	}
	rc = fl_session_new(&entry->session, server->next_id, endpoint, conn, server->log, &hooks);
	if (!rc)
		rc = fl_session_start(entry->session);
	if (rc) {
		fl_session_free(entry->session);
		free(entry);
		return rc;
	}
	server->next_id++;
	server->totals.accepted++;
	entry->next = server->sessions;
	server->sessions = entry;
	return 0;
}

static void accept_peers(struct fl_server *server, uint32_t index)
{
	struct fl_endpoint *endpoint = &server->config->endpoints[index];
	int rc = 0;

	while (!rc) {
		int conn = fl_listener_accept(&server->listeners[index]);

		rc = conn < 0 ? conn : begin_session(server, endpoint, conn);
	}
	if (rc == -EAGAIN)
		return;
	fl_log(server->log, FL_LOG_ERROR, "socket %s: accepting pauses: %s", endpoint->socket_path,
	       strerror(-rc));
	watch_endpoints(server, false);
}

static void reap_sessions(struct fl_server *server)
{
	struct fl_server_session **at = &server->sessions;
	uint64_t count;

	(void)!read(server->over_fd, &count, sizeof(count));
	while (*at) {
		struct fl_server_session *entry = *at;
		struct fl_session_info info;

		if (!fl_session_is_over(entry->session)) {
			at = &entry->next;
			continue;
		}
		fl_session_info(entry->session, &info);
		fl_totals_add(&server->totals, &info);
		fl_session_free(entry->session);
		*at = entry->next;
		free(entry);
	}
	if (server->resume_ns)
		server->resume_ns = 1;
}

static size_t count_sessions(const struct fl_server *server, uint64_t *missing_bytes)
{
	const struct fl_server_session *each;
	size_t count = 0;

	*missing_bytes = 0;
	for (each = server->sessions; each; each = each->next) {
		struct fl_session_info info;

		fl_session_info(each->session, &info);
		count++;
		if (info.stats.pages)
			*missing_bytes += info.memory_bytes / info.stats.pages * info.stats.left;
	}
	return count;
}

static void report_draining(struct fl_server *server)
{
	uint64_t missing_bytes;
	size_t count = count_sessions(server, &missing_bytes);

	fl_log(server->log, FL_LOG_INFO, "draining: %zu session%s, %" PRIu64 " MiB to go", count,
	       count == 1 ? "" : "s", missing_bytes >> 20);
	server->progress_ns = fl_clock_ns() + FL_NS_PER_S;
}

void fl_server_drain(struct fl_server *server)
{
	struct fl_server_session *each;

	if (server->draining)
		return;
	server->draining = true;
	server->listening = false;
	server->resume_ns = 0;
	for (size_t i = 0; i < server->config->endpoint_count; i++)
		fl_listener_close(&server->listeners[i]);
	for (each = server->sessions; each; each = each->next)
		fl_session_drain(each->session);
	report_draining(server);
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
		reap_sessions(server);
		break;
	case FL_SERVER_ENDPOINT:
		if (server->listening)
			accept_peers(server, cookie.index);
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
		watch_endpoints(server, true);
	if (server->draining && !server->sessions)
		server->done = true;
	else if (server->draining && now >= server->progress_ns)
		report_draining(server);
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

/* Each session holds about fifteen descriptors. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int open_signals(struct fl_server *server)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return server->signal_fd < 0 ? -errno : 0;
}

static int open_basics(struct fl_server *server, struct fl_error *err)
{
	int rc = 0;

	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server->over_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->epoll_fd < 0 || server->over_fd < 0)
		rc = -errno;
	if (!rc)
		rc = open_signals(server);
	if (!rc)
		rc = fl_server_watch(server, server->signal_fd, EPOLLIN, FL_SERVER_SIGNAL, 0);
	if (!rc)
		rc = fl_server_watch(server, server->over_fd, EPOLLIN, FL_SERVER_OVER, 0);
	return rc ? fl_error_set(err, rc, "starting: %s", strerror(-rc)) : 0;
}

static int open_endpoints(struct fl_server *server, struct fl_error *err)
{
	const struct fl_server_config *config = server->config;

	server->listeners = calloc(config->endpoint_count, sizeof(*server->listeners));
	if (!server->listeners)
		return fl_error_set(err, -ENOMEM, "no memory");
	for (size_t i = 0; i < config->endpoint_count; i++)
		server->listeners[i].fd = -1;
	for (uint32_t i = 0; i < config->endpoint_count; i++) {
		int rc = fl_listener_open(&server->listeners[i], config->endpoints[i].socket_path,
					  0777, err);

		if (!rc)
			rc = fl_server_watch(server, server->listeners[i].fd, EPOLLIN,
					     FL_SERVER_ENDPOINT, i);
		if (rc)
			return rc;
	}
	server->listening = true;
	return 0;
}

/* The usual place may be taken by another daemon, or not be ours to use. */
static int open_control(struct fl_server *server, struct fl_error *err)
{
	const struct fl_server_config *config = server->config;
	int rc = fl_control_open(&server->control, server, config->control_path, err);

	if (!rc || !config->control_optional)
		return rc;
	if (err)
		fl_log(server->log, FL_LOG_WARNING, "no control socket (see --control): %s",
		       err->text);
	return 0;
}

/* sd_notify(3), for a unit of Type=notify. */
static void notify_ready(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	int fl_cleanup_fd fd = -1;
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(address.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(address.sun_path, path, len);
	if (*path == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&address,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

static void announce(const struct fl_server *server)
{
	const struct fl_server_config *config = server->config;

	for (size_t i = 0; i < config->endpoint_count; i++)
		fl_log(server->log, FL_LOG_INFO, "serving %s on %s",
		       config->endpoints[i].image_path, config->endpoints[i].socket_path);
	fl_log(server->log, FL_LOG_INFO, "ready");
	notify_ready();
}

/*
 * Sessions that are left when the second signal came: their threads may be waiting for a device,
 * so they are not joined. The end of the process ends them.
 */
static int give_up(struct fl_server *server)
{
	uint64_t missing_bytes;
	size_t count = count_sessions(server, &missing_bytes);

	fl_log(server->log, FL_LOG_WARNING,
	       "ending at once: %zu VM%s left waiting for %" PRIu64 " MiB", count,
	       count == 1 ? " is" : "s are", missing_bytes >> 20);
	return 1;
}

static void close_server(struct fl_server *server)
{
	fl_control_close(server->control);
	fl_metrics_close(server->metrics);
	for (size_t i = 0; server->listeners && i < server->config->endpoint_count; i++)
		fl_listener_close(&server->listeners[i]);
	free(server->listeners);
	fl_fd_close(&server->signal_fd);
	fl_fd_close(&server->over_fd);
	fl_fd_close(&server->epoll_fd);
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

	raise_descriptor_limit();
	rc = open_basics(&server, err);
	if (!rc)
		rc = open_endpoints(&server, err);
	if (!rc && config->control_path)
		rc = open_control(&server, err);
	if (!rc && config->metrics)
		rc = fl_metrics_open(&server.metrics, &server, config->metrics, err);
	if (!rc) {
		announce(&server);
		rc = loop(&server);
		if (rc)
			fl_error_set(err, rc, "epoll_wait: %s", strerror(-rc));
		else if (server.sessions)
			rc = give_up(&server);
	}
	if (rc == 1) {
		/* The sessions still use over_fd. */
		fl_control_close(server.control);
		fl_metrics_close(server.metrics);
		return rc;
	}
	close_server(&server);
	return rc;
}
