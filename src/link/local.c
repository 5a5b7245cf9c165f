/* SPDX-License-Identifier: MIT */
#include "link/local.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "util/fd.h"

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * FL_LOCAL_FDS)];
};

static ssize_t send_part(int sock, const char *at, size_t len, const int *fds, size_t fd_count)
{
	union control control;
	struct iovec part = {.iov_base = (void *)(uintptr_t)at, .iov_len = len};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd_count) {
		memset(&control, 0, sizeof(control));
		header.msg_control = &control;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * fd_count);
	}
	return sendmsg(sock, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int fl_local_send(int sock, const struct fl_local *message, const int *fds, size_t fd_count,
		  unsigned int timeout_ms)
{
	const char *bytes = (const char *)message;
	size_t sent = 0;

	while (sent < sizeof(*message)) {
		struct pollfd poller = {.fd = sock, .events = POLLOUT};
		ssize_t n = send_part(sock, bytes + sent, sizeof(*message) - sent, fds, fd_count);

		if (n > 0) {
			sent += (size_t)n;
			fd_count = 0;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		n = poll(&poller, 1, (int)timeout_ms);
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}

/* Takes descriptors along; those for which there is no room are closed. */
static void take_fds(struct fl_local_in *in, struct msghdr *header)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
			if (in->fd_count < FL_LOCAL_FDS)
				in->fds[in->fd_count++] = fd;
			else
				fl_fd_close(&fd);
		}
	}
}

int fl_local_recv(int sock, struct fl_local_in *in)
{
	union control control;
	struct iovec part = {.iov_base = (char *)&in->message + in->got,
			     .iov_len = sizeof(in->message) - in->got};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = &control,
				.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(sock, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0
		       : errno == ECONNRESET             ? -EPIPE
							 : -errno;
	take_fds(in, &header);
	if (header.msg_flags & MSG_CTRUNC)
		return -EPROTO;
	if (n == 0)
		return -EPIPE;
	in->got += (size_t)n;
	if (in->got >= sizeof(in->message.magic) && in->message.magic != FL_LOCAL_MAGIC)
		return -EPROTO;
	if (in->got < sizeof(in->message))
		return 0;
	if (!memchr(in->message.text, 0, sizeof(in->message.text)))
		return -EPROTO;
	return 1;
}

void fl_local_drop(struct fl_local_in *in)
{
	while (in->fd_count)
		fl_fd_close(&in->fds[--in->fd_count]);
	in->got = 0;
}
