/* SPDX-License-Identifier: MIT */
#include <faultline/link.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link/stream.h"
#include "util/clock.h"

/*
 * The socket stream, and what every kind of stream has in common.
 *
 * SO_SNDBUF stays as it is: the kernel grows it with what is under way, which is what a long fat
 * link needs, and setting it would end that for good. What has to be short is the part that waits
 * in the kernel without being under way, for nothing can overtake it there. TCP_NOTSENT_LOWAT bounds
 * just that part, whatever the size of the buffer (tcp(7); Documentation/networking/ip-sysctl.rst).
 */

#define NOTSENT_BYTES (128 * 1024)

/*
 * The protocol notices a silent peer by itself, on main. These are for what it does not watch: a
 * demand connection that a firewall forgot, or a peer that went away during a handshake. With
 * TCP_USER_TIMEOUT it is that which counts, whatever the number of probes (tcp(7)).
 */
#define SILENCE_MS    30000
#define PROBE_AFTER_S 5
#define PROBE_EVERY_S 3

struct socket_stream {
	struct fl_stream stream;
	int fd;
	short events;
};

/* Each only improves things: a kernel or a stream without it is used all the same. */
static void tune_tcp(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_MS},
		{IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES},
		{IPPROTO_TCP, TCP_KEEPIDLE, PROBE_AFTER_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EVERY_S},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

void fl_socket_patience(int fd, unsigned int timeout_ms)
{
	int value = timeout_ms < INT_MAX / 2 ? (int)timeout_ms * 2 : INT_MAX;

	if (value > SILENCE_MS)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value));
}

int fl_socket_prepare(int fd)
{
	int type, domain, flags;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	len = sizeof(domain);
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain != AF_UNIX)
		tune_tcp(fd);
	return 0;
}

int64_t fl_socket_recv(int fd, const struct iovec *iov, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	ssize_t got;

	do
		got = recvmsg(fd, &message, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

int64_t fl_socket_send(int fd, const struct iovec *iov, int count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
	ssize_t sent;

	do
		sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

int fl_socket_left_ms(uint64_t deadline_ns)
{
	uint64_t now = fl_clock_ns(), left;

	if (now >= deadline_ns)
		return 0;
	left = (deadline_ns - now + FL_NS_PER_MS - 1) / FL_NS_PER_MS;
	return left > 1000000 ? 1000000 : (int)left;
}

int fl_socket_wait(int fd, short events, int cancel_fd, uint64_t deadline_ns)
{
	struct pollfd polled[] = {{.fd = cancel_fd, .events = POLLIN},
				  {.fd = fd, .events = events}};
	int left, n;

	for (;;) {
		left = fl_socket_left_ms(deadline_ns);
		n = poll(polled, 2, left);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			return polled[0].revents ? -ECANCELED : 0;
		if (n == 0 && fl_clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
	}
}

static struct socket_stream *socket_of(struct fl_stream *stream)
{
	return (struct socket_stream *)stream;
}

static int socket_fd(const struct fl_stream *stream)
{
	return ((const struct socket_stream *)stream)->fd;
}

/* Remembers what a call that ended with @ret waits for. */
static int64_t note(struct fl_stream *stream, short event, int64_t ret)
{
	struct socket_stream *self = socket_of(stream);

	if (ret == -EAGAIN)
		self->events = (short)(self->events | event);
	else
		self->events = (short)(self->events & ~event);
	return ret;
}

static int64_t socket_recv(struct fl_stream *stream, const struct iovec *iov, int count)
{
	return note(stream, POLLIN, fl_socket_recv(socket_of(stream)->fd, iov, count));
}

static int64_t socket_send(struct fl_stream *stream, const struct iovec *iov, int count)
{
	return note(stream, POLLOUT, fl_socket_send(socket_of(stream)->fd, iov, count));
}

static short socket_events(const struct fl_stream *stream)
{
	return ((const struct socket_stream *)stream)->events;
}

static bool socket_pending(const struct fl_stream *stream)
{
	(void)stream;
	return false;
}

static void socket_close(struct fl_stream *stream)
{
	(void)close(socket_fd(stream));
	free(stream);
}

static const struct fl_stream_ops socket_ops = {
	.size = sizeof(struct fl_stream_ops),
	.version = FL_STREAM_OPS_VERSION,
	.name = "socket",
	.fd = socket_fd,
	.recv = socket_recv,
	.send = socket_send,
	.events = socket_events,
	.pending = socket_pending,
	.close = socket_close,
};

int fl_stream_socket_new(struct fl_stream **stream, int fd)
{
	struct socket_stream *self;
	int rc = fl_socket_prepare(fd);

	if (rc)
		return rc;
	self = calloc(1, sizeof(*self));
	if (!self)
		return -ENOMEM;
	*self = (struct socket_stream){.stream.ops = &socket_ops, .fd = fd};
	*stream = &self->stream;
	return 0;
}

int fl_stream_fd(const struct fl_stream *stream)
{
	return stream->ops->fd(stream);
}

int64_t fl_stream_recv(struct fl_stream *stream, const struct iovec *iov, int count)
{
	return count < 1 || count > FL_LINK_IOV_MAX ? -EINVAL
						    : stream->ops->recv(stream, iov, count);
}

int64_t fl_stream_send(struct fl_stream *stream, const struct iovec *iov, int count)
{
	return count < 1 || count > FL_LINK_IOV_MAX ? -EINVAL
						    : stream->ops->send(stream, iov, count);
}

short fl_stream_events(const struct fl_stream *stream)
{
	return stream->ops->events(stream);
}

bool fl_stream_pending(const struct fl_stream *stream)
{
	return stream->ops->pending(stream);
}

const char *fl_stream_reason(const struct fl_stream *stream)
{
	const struct fl_stream_ops *ops = stream->ops;

	if (ops->size < offsetof(struct fl_stream_ops, reason) + sizeof(ops->reason))
		return NULL;
	return ops->reason ? ops->reason(stream) : NULL;
}

void fl_stream_close(struct fl_stream *stream)
{
	if (stream)
		stream->ops->close(stream);
}
