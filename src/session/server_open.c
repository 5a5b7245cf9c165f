/* SPDX-License-Identifier: MIT */
/* How the daemon begins and ends: what it opens, and that it says so. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "session/server_internal.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"

/*
 * A session holds thirteen descriptors, and one for each filter that can wait. What it does not get
 * while it attaches to its guest costs a VM its life, so connections are only taken while there is
 * enough for all.
 */
#define FDS_PER_SESSION (14 + FL_READ_FRAMES)
#define FDS_KEPT        64

static void raise_descriptor_limit(struct fl_server *server)
{
	struct rlimit limit = {0};

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	server->session_max = 1;
	if (limit.rlim_cur > FDS_KEPT + FDS_PER_SESSION)
		server->session_max = (limit.rlim_cur - FDS_KEPT) / FDS_PER_SESSION;
}

static int open_signals(struct fl_server *server)
{
	sigset_t set;

	/* Whoever reads our log may go, and so may the terminal; the VMs must not freeze for that. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
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

void fl_server_announce(const struct fl_server *server)
{
	const struct fl_server_config *config = server->config;

	for (size_t i = 0; i < config->endpoint_count; i++)
		fl_log(server->log, FL_LOG_INFO, "serving %s on %s",
		       config->endpoints[i].image_path, config->endpoints[i].socket_path);
	fl_log(server->log, FL_LOG_INFO, "ready");
	notify_ready();
}

int fl_server_open(struct fl_server *server, struct fl_error *err)
{
	const struct fl_server_config *config = server->config;
	int rc;

	raise_descriptor_limit(server);
	rc = open_basics(server, err);
	if (!rc)
		rc = open_endpoints(server, err);
	if (!rc && config->control_path)
		rc = open_control(server, err);
	if (!rc && config->metrics)
		rc = fl_metrics_open(&server->metrics, server, config->metrics, err);
	return rc;
}

void fl_server_close(struct fl_server *server)
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
