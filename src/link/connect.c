/* SPDX-License-Identifier: MIT */
#include "link/address.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link/stream.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

/*
 * Connecting: a name may stand for several addresses, of which some lead nowhere without a word.
 * They are tried in the order of the resolver; the next one starts when one has failed, or has not
 * answered for a moment, while those before go on (RFC 8305, Happy Eyeballs, section 5). The first
 * one that connects is taken.
 */

#define ATTEMPTS   8
#define STAGGER_MS 250
#define RETRY_MS   10 /* a unix socket's queue that is full tells nobody when it is not */

struct attempts {
	struct pollfd polled[1 + ATTEMPTS]; /* [0] is cancel_fd */
	unsigned int started;
	unsigned int running;
	const struct addrinfo *next;
	uint64_t start_ns; /* when it is time for the next one */
	int failure;       /* of the last one that failed */
};

/*
 * A port of those that the kernel hands out itself can be connected with itself when nobody listens
 * there: simultaneous open, RFC 9293, section 3.5.
 */
static bool is_itself(int fd)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t here_len = sizeof(here), there_len = sizeof(there);

	return getsockname(fd, (struct sockaddr *)&here, &here_len) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &there_len) == 0 &&
	       here_len == there_len && memcmp(&here, &there, here_len) == 0;
}

static bool can_start(const struct attempts *all)
{
	return all->next && all->started < ATTEMPTS;
}

static void fail(struct attempts *all, int code)
{
	all->failure = code;
	all->start_ns = 0;
}

/* 0 when it is connected, -EINPROGRESS, or why it is not. */
static int start(struct attempts *all, int *fd)
{
	const struct addrinfo *to = all->next;

	all->next = to->ai_next;
	*fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return -errno;
	return connect(*fd, to->ai_addr, to->ai_addrlen) < 0 ? -errno : 0;
}

/* Starts the next one; a connected socket when that is all it took, else -EINPROGRESS. */
static int start_next(struct attempts *all)
{
	int fl_cleanup_fd fd = -1;
	int rc = start(all, &fd);

	if (rc == 0 && is_itself(fd))
		rc = -ECONNREFUSED;
	if (rc == 0)
		return fl_fd_take(&fd);
	if (rc == -EINPROGRESS) {
		all->polled[++all->started] =
			(struct pollfd){.fd = fl_fd_take(&fd), .events = POLLOUT};
		all->running++;
		all->start_ns = fl_clock_ns() + STAGGER_MS * FL_NS_PER_MS;
	} else {
		fail(all, rc);
	}
	return -EINPROGRESS;
}

/* The first of those that ended well, or -EINPROGRESS; those that failed are closed. */
static int take_connected(struct attempts *all)
{
	for (unsigned int i = 1; i <= all->started; i++) {
		struct pollfd *polled = &all->polled[i];
		int error = 0;
		socklen_t len = sizeof(error);

		if (polled->fd < 0 || !polled->revents)
			continue;
		if (getsockopt(polled->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
			error = errno;
		if (!error && is_itself(polled->fd))
			error = ECONNREFUSED;
		if (!error)
			return fl_fd_take(&polled->fd);
		fail(all, -error);
		all->running--;
		fl_fd_close(&polled->fd);
	}
	return -EINPROGRESS;
}

/* Looks at all that run until one is there, or it is time to start another one. */
static int wait_for_one(struct attempts *all, uint64_t deadline_ns)
{
	uint64_t until = can_start(all) && all->start_ns < deadline_ns ? all->start_ns
								       : deadline_ns;
	int n = poll(all->polled, 1 + all->started, fl_socket_left_ms(until));

	if (n < 0)
		return errno == EINTR ? -EINPROGRESS : -errno;
	if (n == 0)
		return fl_clock_ns() >= deadline_ns ? -ETIMEDOUT : -EINPROGRESS;
	return all->polled[0].revents ? -ECANCELED : take_connected(all);
}

static int connect_one_of(struct attempts *all, uint64_t deadline_ns)
{
	int ret = -EINPROGRESS;

	while (ret == -EINPROGRESS) {
		if (can_start(all) && fl_clock_ns() >= all->start_ns)
			ret = start_next(all);
		else if (all->running || can_start(all))
			ret = wait_for_one(all, deadline_ns);
		else
			ret = all->failure;
	}
	return ret;
}

int fl_address_connect(const struct addrinfo *list, uint64_t deadline_ns, int cancel_fd)
{
	struct attempts all = {.polled[0] = {.fd = cancel_fd, .events = POLLIN},
			       .next = list,
			       .failure = -EHOSTUNREACH};
	int ret = connect_one_of(&all, deadline_ns);

	for (unsigned int i = 1; i <= all.started; i++)
		fl_fd_close(&all.polled[i].fd);
	return ret;
}

static int connect_host(const struct fl_address *address, uint64_t deadline_ns, int cancel_fd,
			struct fl_error *err)
{
	struct addrinfo *list;
	int ret = fl_address_resolve(&list, address, deadline_ns, cancel_fd, err);

	if (ret)
		return ret;
	ret = fl_address_connect(list, deadline_ns, cancel_fd);
	freeaddrinfo(list);
	return ret < 0 ? fl_error_set(err, ret, "connecting to %s: %s", address->text,
				      strerror(-ret))
		       : ret;
}

static int connect_path(const struct fl_address *address, uint64_t deadline_ns, int cancel_fd,
			struct fl_error *err)
{
	int fl_cleanup_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd cancel = {.fd = cancel_fd, .events = POLLIN};
	int rc = fd < 0 ? -errno : 0;

	while (!rc) {
		if (connect(fd, (const struct sockaddr *)&address->path, sizeof(address->path)) ==
		    0)
			return fl_fd_take(&fd);
		if (errno != EAGAIN && errno != EINTR)
			rc = -errno;
		else if (poll(&cancel, 1, RETRY_MS) > 0)
			rc = -ECANCELED;
		else if (fl_clock_ns() >= deadline_ns)
			rc = -ETIMEDOUT;
	}
	return fl_error_set(err, rc, "connecting to %s: %s", address->text, strerror(-rc));
}

int fl_link_connect(const char *address, unsigned int timeout_ms, int cancel_fd,
		    struct fl_error *err)
{
	uint64_t deadline_ns = fl_clock_ns() + timeout_ms * FL_NS_PER_MS;
	struct fl_address parsed;
	int rc = fl_address_parse(&parsed, address, err);

	if (rc)
		return rc;
	if (parsed.local)
		return connect_path(&parsed, deadline_ns, cancel_fd, err);
	if (!parsed.host[0] || strcmp(parsed.port, "0") == 0)
		return fl_error_set(err, -EINVAL,
				    "address %s: names no host and port to connect to", address);
	return connect_host(&parsed, deadline_ns, cancel_fd, err);
}
