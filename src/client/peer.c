/* SPDX-License-Identifier: MIT */
#include "client/peer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "util/clock.h"
#include "util/compat.h"
#include "util/fd.h"

static int wait_readable(int sock, uint64_t deadline_ns)
{
	struct pollfd poller = {.fd = sock, .events = POLLIN};

	for (;;) {
		uint64_t now = fl_clock_ns();
		uint64_t left_ms;
		int ready;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		left_ms = (deadline_ns - now + FL_NS_PER_MS - 1) / FL_NS_PER_MS;
		ready = poll(&poller, 1, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return -errno;
	}
}

/* Every SCM_RIGHTS of a message counts: more than one may come. */
static void take_fds(struct msghdr *message, struct fl_piece *piece)
{
	struct cmsghdr *control;

	for (control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
		size_t bytes;

		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		bytes = control->cmsg_len - CMSG_LEN(0);
		memcpy(piece->fds + piece->fd_count, CMSG_DATA(control), bytes);
		piece->fd_count += bytes / sizeof(int);
	}
	piece->fds_cut = message->msg_flags & MSG_CTRUNC;
}

int fl_peer_receive(int sock, void *buf, size_t room, uint64_t deadline_ns, struct fl_piece *piece)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * FL_PEER_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = buf, .iov_len = room};

	memset(piece, 0, sizeof(*piece));
	for (;;) {
		struct msghdr message = {.msg_iov = &part,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control)};
		int rc = wait_readable(sock, deadline_ns);
		ssize_t got;

		if (rc)
			return rc;
		got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got < 0)
			return -errno;
		piece->len_bytes = (size_t)got;
		take_fds(&message, piece);
		return 0;
	}
}

int fl_peer_send(int sock, const void *buf, size_t len_bytes, const int *fds, size_t fd_count)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * FL_PEER_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = (void *)buf, .iov_len = len_bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd_count > FL_PEER_FDS)
		return -E2BIG;
	if (fd_count) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * fd_count);
	}
	while (part.iov_len) {
		ssize_t sent = sendmsg(sock, &message, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		part.iov_base = (char *)part.iov_base + sent;
		part.iov_len -= (size_t)sent;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return 0;
}

void fl_peer_drop(struct fl_piece *piece, size_t from)
{
	for (size_t i = from; i < piece->fd_count; i++)
		fl_fd_close(&piece->fds[i]);
	if (piece->fd_count > from)
		piece->fd_count = from;
}

int fl_peer_process(int sock, int *pidfd, pid_t *pid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	socklen_t pidfd_len = sizeof(*pidfd);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*pid = cred.pid;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, pidfd, &pidfd_len) == 0)
		return 0;
	if (errno != ENOPROTOOPT)
		return -errno;
	*pidfd = pidfd_open(cred.pid, 0);
	return *pidfd < 0 ? -errno : 0;
}

bool fl_peer_is_pidfd(int fd)
{
	return pidfd_send_signal(fd, 0, NULL, 0) == 0 || errno == ESRCH || errno == EPERM;
}
