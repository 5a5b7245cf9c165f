/* SPDX-License-Identifier: MIT */
/*
 * Metrics for Prometheus (text format 0.0.4), over HTTP on loopback or a Unix socket.
 *
 * libmicrohttpd runs inside the main loop, by its epoll descriptor: it has no thread, and so the
 * figures need no lock. They are for operators of the machine only, hence never on another address.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/server_internal.h"
#include "util/error.h"
#include "util/fd.h"

#define CONNECTIONS_MAX 32
#define IDLE_S          10

struct fl_metrics {
	struct fl_server *server;
	struct fl_listener listener; /* of "unix:PATH"; its fd belongs to the HTTP daemon then */
	struct MHD_Daemon *http;
	int epoll_fd;
};

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned int status, void *text,
			       size_t len, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, text, mode);
	enum MHD_Result result;

	if (!response) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				      status == MHD_HTTP_OK ? "text/plain; version=0.0.4"
							    : "text/plain");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result respond_text(struct MHD_Connection *connection, unsigned int status,
				    const char *text)
{
	return respond(connection, status, (void *)text, strlen(text), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_len, void **state)
{
	const struct fl_metrics *metrics = cls;
	static char begun;
	size_t len;
	char *text;

	(void)version;
	(void)upload;
	/* The first call has the head only; answers are given when the body has come. */
	if (!*state) {
		*state = &begun;
		return MHD_YES;
	}
	if (*upload_len) {
		*upload_len = 0;
		return MHD_YES;
	}
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return respond_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	if (strcmp(url, "/metrics") != 0)
		return respond_text(connection, MHD_HTTP_NOT_FOUND, "see /metrics\n");
	text = fl_metrics_format(metrics->server, &len);
	if (!text)
		return respond_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
	return respond(connection, MHD_HTTP_OK, text, len, MHD_RESPMEM_MUST_FREE);
}

/* Host and port of "HOST:PORT" or "[HOST]:PORT", both loopback addresses in figures. */
static int parse_address(const char *where, struct sockaddr_storage *address, socklen_t *len,
			 struct fl_error *err)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	const char *colon = strrchr(where, ':');
	char host[64] = "";
	char *end = NULL;
	unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;

	memset(address, 0, sizeof(*address));
	if (!colon || end == colon + 1 || *end || port > 65535 ||
	    (size_t)(colon - where) >= sizeof(host))
		return fl_error_set(err, -EINVAL, "metrics %s: neither ADDRESS:PORT nor unix:PATH",
				    where);
	memcpy(host, where, (size_t)(colon - where));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1 &&
	    ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		*len = sizeof(*v4);
		return 0;
	}
	if (strcmp(host, "[::1]") == 0) {
		v6->sin6_family = AF_INET6;
		v6->sin6_addr = in6addr_loopback;
		v6->sin6_port = htons((uint16_t)port);
		*len = sizeof(*v6);
		return 0;
	}
	return fl_error_set(err, -EINVAL, "metrics %s: only 127.0.0.0/8 and [::1] are allowed",
			    where);
}

static int listen_tcp(const char *where, int *fd, struct fl_error *err)
{
	struct sockaddr_storage address;
	socklen_t len = 0;
	int on = 1;
	int rc = parse_address(where, &address, &len, err);

	if (rc)
		return rc;
	*fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(*fd, (struct sockaddr *)&address, len) < 0 || listen(*fd, SOMAXCONN) < 0) {
		rc = -errno;
		fl_fd_close(fd);
		return fl_error_set(err, rc, "metrics %s: %s", where, strerror(-rc));
	}
	return 0;
}

static int start_http(struct fl_metrics *metrics, int fd)
{
	const union MHD_DaemonInfo *info;

	metrics->http = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, metrics,
					 MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
					 CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
					 MHD_OPTION_END);
	if (!metrics->http)
		return -ENOMEM;
	info = MHD_get_daemon_info(metrics->http, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -ENOTSUP;
	metrics->epoll_fd = info->epoll_fd;
	return fl_server_watch(metrics->server, metrics->epoll_fd, EPOLLIN, FL_SERVER_METRICS, 0);
}

int fl_metrics_open(struct fl_metrics **metrics, struct fl_server *server, const char *where,
		    struct fl_error *err)
{
	struct fl_metrics *m = calloc(1, sizeof(*m));
	int fd = -1;
	int rc;

	if (!m)
		return fl_error_set(err, -ENOMEM, "no memory");
	m->server = server;
	m->listener.fd = -1;
	if (strncmp(where, "unix:", 5) == 0) {
		rc = fl_listener_open(&m->listener, where + 5, 0666, err);
		fd = rc ? -1 : fl_fd_take(&m->listener.fd);
	} else {
		rc = listen_tcp(where, &fd, err);
	}
	if (!rc) {
		rc = start_http(m, fd);
		if (rc)
			fl_error_set(err, rc, "metrics %s: no HTTP server: %s", where,
				     strerror(-rc));
		if (rc && !m->http)
			(void)close(fd);
	}
	if (rc) {
		fl_metrics_close(m);
		return rc;
	}
	*metrics = m;
	return 0;
}

void fl_metrics_ready(struct fl_metrics *metrics)
{
	(void)MHD_run(metrics->http);
}

int fl_metrics_timeout_ms(struct fl_metrics *metrics)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	if (!metrics || MHD_get_timeout(metrics->http, &timeout_ms) != MHD_YES)
		return -1;
	return timeout_ms > 60000 ? 60000 : (int)timeout_ms;
}

void fl_metrics_close(struct fl_metrics *metrics)
{
	if (!metrics)
		return;
	if (metrics->http)
		MHD_stop_daemon(metrics->http);
	fl_listener_close(&metrics->listener);
	free(metrics);
}
