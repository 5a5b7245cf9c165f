/* SPDX-License-Identifier: MIT */

/*
 * The worker process. Theory of operation
 *
 * This thread accepts: a VMM gets a session, with a thread (session.c); another worker is spoken
 * to by a thread of its own (arrive.c) until it has named a token, and its connection then goes to
 * that session's thread. Sessions share the list of sessions, under a lock that is held to compare
 * tokens, and nothing else.
 *
 * Lock order: the list's, then a session's.
 */
#include "worker/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"
#include "worker/arrive.h"
#include "worker/session.h"

#define SESSIONS_MAX 256

struct server {
	const struct fl_worker_config *config;
	struct fl_worker_config
		own; /* what it points to: as the caller said, with where we listen */
	char address[256];
	int socket_fd, listen_fd, ended_fd;
	struct stat socket_file; /* so that only our own is removed */
	unsigned long number;
	struct fl_arrive arrive;
	pthread_mutex_t lock; /* of the list */
	struct fl_worker_session *session[SESSIONS_MAX];
	size_t count;
};

/* ---- sessions */

static bool knows(void *ctx, const uint8_t *token)
{
	struct server *server = ctx;
	bool known = false;

	(void)pthread_mutex_lock(&server->lock);
	for (size_t i = 0; i < server->count && !known; i++)
		known = fl_worker_session_has(server->session[i], token);
	(void)pthread_mutex_unlock(&server->lock);
	return known;
}

static bool give(void *ctx, const uint8_t *token, struct fl_stream *stream, enum fl_channel channel)
{
	struct server *server = ctx;
	bool given = false;

	(void)pthread_mutex_lock(&server->lock);
	for (size_t i = 0; i < server->count && !given; i++)
		given = fl_worker_session_arrive(server->session[i], token, stream, channel);
	(void)pthread_mutex_unlock(&server->lock);
	return given;
}

static void add_session(struct server *server, int sock)
{
	struct fl_worker_session *session = NULL;
	int rc = -EBUSY;

	if (server->count < SESSIONS_MAX)
		rc = fl_worker_session_new(&session, server->config, sock, server->ended_fd,
					   ++server->number);
	else
		fl_fd_close(&sock);
	if (rc) {
		fl_log(&server->config->log, FL_LOG_ERROR, "a VMM was turned away: %s",
		       strerror(-rc));
		return;
	}
	(void)pthread_mutex_lock(&server->lock);
	server->session[server->count++] = session;
	(void)pthread_mutex_unlock(&server->lock);
}

/* Out of the list first: then nobody else has it. */
static void remove_session(struct server *server, size_t index)
{
	struct fl_worker_session *session = server->session[index];

	(void)pthread_mutex_lock(&server->lock);
	server->session[index] = server->session[--server->count];
	(void)pthread_mutex_unlock(&server->lock);
	fl_worker_session_free(session);
}

static void remove_ended(struct server *server)
{
	uint64_t signals;

	(void)!read(server->ended_fd, &signals, sizeof(signals));
	for (size_t i = server->count; i-- > 0;) {
		if (atomic_load_explicit(&server->session[i]->ended, memory_order_acquire))
			remove_session(server, i);
	}
}

/* ---- accepting */

/* Returns whether a socket came; what only time can mend is waited for. */
static int accept_one(struct server *server, int listen_fd)
{
	int sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock >= 0)
		return sock;
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		struct pollfd stop = {.fd = server->config->stop_fd, .events = POLLIN};

		fl_log(&server->config->log, FL_LOG_WARNING, "accepting: %s", strerror(errno));
		(void)poll(&stop, 1, 100);
	}
	return -1;
}

static void serve(struct server *server)
{
	for (;;) {
		struct pollfd pollers[] = {
			{.fd = server->config->stop_fd, .events = POLLIN},
			{.fd = server->ended_fd, .events = POLLIN},
			{.fd = server->socket_fd, .events = POLLIN},
			{.fd = server->listen_fd, .events = POLLIN},
		};
		int sock;

		if (poll(pollers, 4, -1) < 0)
			continue;
		if (pollers[0].revents)
			return;
		if (pollers[1].revents)
			remove_ended(server);
		sock = pollers[2].revents ? accept_one(server, server->socket_fd) : -1;
		if (sock >= 0)
			add_session(server, sock);
		sock = pollers[3].revents ? accept_one(server, server->listen_fd) : -1;
		if (sock >= 0)
			fl_arrive_start(&server->arrive, sock);
	}
}

/* ---- beginning and end */

static int open_socket(struct server *server, struct fl_error *err)
{
	char address[128];
	int len = snprintf(address, sizeof(address), "unix:%s", server->config->socket_path);

	if (len < 0 || (size_t)len >= sizeof(address))
		return fl_error_set(err, -EINVAL, "%s: too long for a socket",
				    server->config->socket_path);
	server->socket_fd = fl_link_listen(address, err);
	if (server->socket_fd < 0)
		return server->socket_fd;
	if (stat(server->config->socket_path, &server->socket_file) < 0)
		return fl_error_set(err, -errno, "%s: %s", server->config->socket_path,
				    strerror(errno));
	return 0;
}

static int open_listen(struct server *server, struct fl_error *err)
{
	char text[256] = "";

	if (!server->config->listen)
		return 0;
	server->listen_fd = fl_link_listen(server->config->listen, err);
	if (server->listen_fd < 0)
		return server->listen_fd;
	if (!fl_link_address(server->listen_fd, text, sizeof(text)))
		server->own.listen = strcpy(server->address, text);
	fl_log(&server->config->log, FL_LOG_INFO, "listens on %s for other workers", text);
	return 0;
}

static int open_all(struct server *server, struct fl_error *err)
{
	int rc = fl_memory_guard_init();

	if (rc)
		return fl_error_set(err, rc, "a signal handler: %s", strerror(-rc));
	server->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->ended_fd < 0)
		return fl_error_set(err, -errno, "an eventfd: %s", strerror(errno));
	rc = open_listen(server, err);
	if (!rc)
		rc = open_socket(server, err);
	if (!rc)
		fl_log(&server->config->log, FL_LOG_INFO, "waits for VMMs on %s",
		       server->config->socket_path);
	return rc;
}

static void close_all(struct server *server)
{
	const char *path = server->config->socket_path;
	struct stat now;

	fl_arrive_join(&server->arrive, true);
	while (server->count)
		remove_session(server, server->count - 1);
	if (server->socket_fd >= 0 && stat(path, &now) == 0 &&
	    now.st_ino == server->socket_file.st_ino && now.st_dev == server->socket_file.st_dev)
		(void)unlink(path);
	fl_fd_close(&server->socket_fd);
	fl_fd_close(&server->listen_fd);
	fl_fd_close(&server->ended_fd);
	(void)pthread_mutex_destroy(&server->lock);
	free(server);
}

int fl_worker_serve(const struct fl_worker_config *config, struct fl_error *err)
{
	struct server *server = calloc(1, sizeof(*server));
	int rc;

	if (!server)
		return fl_error_set(err, -ENOMEM, "no memory");
	server->own = *config;
	server->config = &server->own;
	server->socket_fd = server->listen_fd = server->ended_fd = -1;
	(void)pthread_mutex_init(&server->lock, NULL);
	server->arrive =
		(struct fl_arrive){.config = config, .knows = knows, .give = give, .ctx = server};
	rc = open_all(server, err);
	if (!rc)
		serve(server);
	close_all(server);
	return rc;
}
