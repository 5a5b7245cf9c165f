/* SPDX-License-Identifier: MIT */
/*
 * The control socket, faultline-control(5): one JSON object a line, each way, answered in order.
 *
 * Peers are few and slow: each has a line's worth of input and one answer at a time. While an
 * answer is not sent, nothing more is read from that peer, so a peer that does not read costs one
 * answer and holds up nobody. Only the daemon's own user (and root) may connect: the socket's mode
 * sees to that.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/report.h"
#include "util/error.h"
#include "util/fd.h"
#include "util/log.h"

#define PEERS_MAX      32
#define LINE_MAX_BYTES 4096

struct peer {
	int fd;
	char in[LINE_MAX_BYTES];
	size_t in_len;
	char *out; /* an answer that is being sent, or NULL */
	size_t out_len, out_sent;
	bool ending; /* hang up once the answer is sent */
};

struct fl_control {
	struct fl_server *server;
	struct fl_listener listener;
	int spare_fd;
	struct peer peers[PEERS_MAX];
};

static json_t *answer_error(const char *text)
{
	return json_pack("{ss}", "error", text);
}

static json_t *answer_ok(void)
{
	return json_pack("{sb}", "ok", 1);
}

static json_t *do_stat(struct fl_server *server, json_t *request)
{
	(void)request;
	return fl_report_server(server);
}

static json_t *do_sessions(struct fl_server *server, json_t *request)
{
	(void)request;
	return json_pack("{so}", "sessions", fl_report_sessions(server));
}

static json_t *do_drain(struct fl_server *server, json_t *request)
{
	(void)request;
	fl_log(server->log, FL_LOG_INFO, "drain was asked for on the control socket");
	fl_server_drain(server);
	return answer_ok();
}

static json_t *with_session(struct fl_server *server, json_t *request,
			    void (*act)(struct fl_session *session))
{
	json_t *id = json_object_get(request, "session");
	struct fl_session *session;

	if (!json_is_integer(id) || json_integer_value(id) < 0)
		return answer_error("\"session\" must be the number of a session");
	session = fl_server_find(server, (uint64_t)json_integer_value(id));
	if (!session)
		return answer_error("there is no such session");
	act(session);
	return answer_ok();
}

static json_t *do_fill(struct fl_server *server, json_t *request)
{
	return with_session(server, request, fl_session_fill);
}

static json_t *do_end(struct fl_server *server, json_t *request)
{
	return with_session(server, request, fl_session_end);
}

static const struct {
	const char *name;
	json_t *(*act)(struct fl_server *server, json_t *request);
} commands[] = {
	{"stat", do_stat}, {"sessions", do_sessions}, {"fill", do_fill},
	{"end", do_end},   {"drain", do_drain},
};

static json_t *answer(struct fl_server *server, const char *line, size_t len)
{
	json_error_t why;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	const char *name = json_string_value(json_object_get(request, "command"));
	json_t *reply = NULL;

	if (!request)
		reply = answer_error("the request is not a JSON object on one line");
	else if (!name)
		reply = answer_error("\"command\" must be a string");
	for (size_t i = 0; !reply && name && i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			reply = commands[i].act(server, request);
	}
	if (!reply)
		reply = answer_error("there is no such command");
	json_decref(request);
	return reply;
}

static void hang_up(struct peer *peer)
{
	fl_fd_close(&peer->fd);
	free(peer->out);
	peer->out = NULL;
}

/* Makes the answer what is sent next. */
static void reply(struct peer *peer, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (!text) {
		hang_up(peer);
		return;
	}
	peer->out = text;
	peer->out_len = strlen(text);
	peer->out_sent = 0;
	peer->out[peer->out_len++] = '\n'; /* over its NUL */
}

static void send_out(struct peer *peer)
{
	while (peer->out && peer->out_sent < peer->out_len) {
		ssize_t sent = send(peer->fd, peer->out + peer->out_sent,
				    peer->out_len - peer->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0) {
			hang_up(peer);
			return;
		}
		peer->out_sent += (size_t)sent;
	}
	free(peer->out);
	peer->out = NULL;
	if (peer->ending)
		hang_up(peer);
}

/* Answers the lines that are there, one after the other, as long as the answers get sent. */
static void answer_lines(struct fl_server *server, struct peer *peer)
{
	while (peer->fd >= 0 && !peer->out) {
		char *end = memchr(peer->in, '\n', peer->in_len);
		size_t len;

		if (!end && peer->in_len < LINE_MAX_BYTES)
			return;
		if (!end) {
			peer->ending = true;
			peer->in_len = 0;
			reply(peer, answer_error("the request is too long"));
			send_out(peer);
			return;
		}
		len = (size_t)(end - peer->in);
		reply(peer, answer(server, peer->in, len));
		peer->in_len -= len + 1;
		memmove(peer->in, end + 1, peer->in_len);
		send_out(peer);
	}
}

static void receive_in(struct peer *peer)
{
	ssize_t got = recv(peer->fd, peer->in + peer->in_len, LINE_MAX_BYTES - peer->in_len,
			   MSG_DONTWAIT);

	if (got > 0)
		peer->in_len += (size_t)got;
	else if (got == 0 || (errno != EAGAIN && errno != EINTR))
		hang_up(peer);
}

void fl_control_ready(struct fl_control *control, uint32_t index, uint32_t events)
{
	struct peer *peer = &control->peers[index];

	if (peer->fd < 0)
		return;
	if (peer->out)
		send_out(peer);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive_in(peer);
	if (peer->fd >= 0)
		answer_lines(control->server, peer);
	if (peer->fd >= 0)
		(void)fl_server_watch(control->server, peer->fd, peer->out ? EPOLLOUT : EPOLLIN,
				      FL_SERVER_CONTROL_PEER, index);
}

static bool admit(struct fl_control *control, int conn)
{
	for (uint32_t i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &control->peers[i];

		if (peer->fd >= 0)
			continue;
		if (fl_server_watch(control->server, conn, EPOLLIN, FL_SERVER_CONTROL_PEER, i))
			return false;
		peer->fd = conn;
		peer->in_len = 0;
		peer->ending = false;
		return true;
	}
	return false;
}

void fl_control_accept(struct fl_control *control)
{
	int conn;

	while ((conn = fl_listener_accept(&control->listener)) >= 0) {
		if (!admit(control, conn))
			(void)close(conn);
	}
	/* With no descriptor left, a peer is turned away by the one that is kept for that: it would
	 * keep the main loop awake. */
	if (conn == -EMFILE || conn == -ENFILE) {
		fl_fd_close(&control->spare_fd);
		conn = fl_listener_accept(&control->listener);
		fl_fd_close(&conn);
		control->spare_fd = eventfd(0, EFD_CLOEXEC);
	}
}

int fl_control_open(struct fl_control **control, struct fl_server *server, const char *path,
		    struct fl_error *err)
{
	struct fl_control *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return fl_error_set(err, -ENOMEM, "no memory");
	c->server = server;
	c->spare_fd = eventfd(0, EFD_CLOEXEC);
	for (size_t i = 0; i < PEERS_MAX; i++)
		c->peers[i].fd = -1;
	rc = fl_listener_open(&c->listener, path, 0600, err);
	if (!rc)
		rc = fl_server_watch(server, c->listener.fd, EPOLLIN, FL_SERVER_CONTROL, 0);
	if (rc) {
		fl_control_close(c);
		return rc;
	}
	*control = c;
	return 0;
}

void fl_control_close(struct fl_control *control)
{
	if (!control)
		return;
	for (size_t i = 0; i < PEERS_MAX; i++)
		hang_up(&control->peers[i]);
	fl_listener_close(&control->listener);
	fl_fd_close(&control->spare_fd);
	free(control);
}
