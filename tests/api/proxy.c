/* SPDX-License-Identifier: MIT */
#include "proxy.h"

#include "support.h"
#include <faultline/faultline.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A piece from one to the other: false at the end. */
static bool carry(int from, int to)
{
	static char bytes[65536];
	ssize_t len = recv(from, bytes, sizeof(bytes), 0), at = 0, n;

	while (at < len) {
		n = send(to, bytes + at, (size_t)(len - at), MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		at += n;
	}
	return len > 0;
}

/* Descriptors 0 and 1, 2 and 3 belong together; 4 is where connections come, 5 the end. */
static bool proxy_step(struct proxy *proxy, struct pollfd fds[6], int *met)
{
	struct fl_error err;

	(void)poll(fds, 6, -1);
	if (fds[5].revents)
		return false;
	if (fds[4].revents && *met < 4) {
		fds[*met].fd = accept(proxy->listen_fd, NULL, NULL);
		fds[*met + 1].fd = fl_link_connect(proxy->to, 10000, -1, &err);
		*met += 2;
		return true;
	}
	for (int i = 0; i < *met; i++)
		if (fds[i].revents && !carry(fds[i].fd, fds[i ^ 1].fd))
			return false;
	return true;
}

static void *proxy_main(void *arg)
{
	struct proxy *proxy = arg;
	struct pollfd fds[6];
	int met = 0;

	for (int i = 0; i < 6; i++)
		fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	fds[4].fd = proxy->listen_fd;
	fds[5].fd = proxy->cut[0];
	while (proxy_step(proxy, fds, &met))
		;
	for (int i = 0; i < met; i++)
		(void)close(fds[i].fd);
	return NULL;
}

void proxy_start(struct proxy *proxy, const char *to)
{
	struct fl_error err;

	*proxy = (struct proxy){.to = to};
	proxy->listen_fd = fl_link_listen("127.0.0.1:0", &err);
	assert_true(proxy->listen_fd >= 0);
	assert_int_equal(pipe(proxy->cut), 0);
	assert_int_equal(fl_link_address(proxy->listen_fd, proxy->address, sizeof(proxy->address)),
			 0);
	assert_int_equal(pthread_create(&proxy->thread, NULL, proxy_main, proxy), 0);
}

void proxy_cut(struct proxy *proxy)
{
	assert_int_equal(write(proxy->cut[1], "", 1), 1);
	assert_int_equal(pthread_join(proxy->thread, NULL), 0);
	assert_int_equal(close(proxy->listen_fd), 0);
	assert_int_equal(close(proxy->cut[0]), 0);
	assert_int_equal(close(proxy->cut[1]), 0);
}
