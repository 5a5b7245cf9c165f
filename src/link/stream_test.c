/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <faultline/link.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/sockios.h>

#define BIG (8 * 1024 * 1024)

/* Two ends of a TCP connection over loopback. */
static void connect_tcp(int fds[2])
{
	struct sockaddr_in name = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(name);
	int listen_fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(listen_fd >= 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(listen_fd, 1), 0);
	assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&name, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fds[0] >= 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&name, sizeof(name)), 0);
	fds[1] = accept(listen_fd, NULL, NULL);
	assert_true(fds[1] >= 0);
	assert_int_equal(close(listen_fd), 0);
}

static void make_streams(struct fl_stream *ends[2], bool tcp)
{
	int fds[2];

	if (tcp)
		connect_tcp(fds);
	else
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fl_stream_socket_new(&ends[i], fds[i]), 0);
		assert_int_equal(fl_stream_fd(ends[i]), fds[i]);
	}
}

static int64_t send_text(struct fl_stream *stream, const char *text)
{
	const struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};

	return fl_stream_send(stream, &iov, 1);
}

static int64_t recv_some(struct fl_stream *stream, void *to, size_t len)
{
	const struct iovec iov = {.iov_base = to, .iov_len = len};

	return fl_stream_recv(stream, &iov, 1);
}

static int get_option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void tcp_is_tuned(void **state)
{
	struct fl_stream *ends[2];
	int fd;

	(void)state;
	make_streams(ends, true);
	fd = fl_stream_fd(ends[0]);
	assert_int_not_equal(get_option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
	assert_in_range(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 10000, 60000);
	assert_int_equal(get_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 128 * 1024);
	assert_int_not_equal(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	fl_stream_close(ends[0]);
	fl_stream_close(ends[1]);
}

/* With a peer that does not read, the kernel holds what fills the peer's buffer; of what cannot go out it
 * takes no more than the limit and what one call gives. */
static void kernel_keeps_little_unsent(void **state)
{
	static uint8_t piece[64 * 1024];
	const struct iovec iov = {.iov_base = piece, .iov_len = sizeof(piece)};
	struct fl_stream *ends[2];
	int unsent = -1;
	int64_t ret;

	(void)state;
	make_streams(ends, true);
	do
		ret = fl_stream_send(ends[0], &iov, 1);
	while (ret > 0);
	assert_int_equal(ret, -EAGAIN);
	assert_int_equal(ioctl(fl_stream_fd(ends[0]), SIOCOUTQNSD, &unsent), 0);
	assert_in_range(unsent, 1, 128 * 1024 + sizeof(piece));
	fl_stream_close(ends[0]);
	fl_stream_close(ends[1]);
}

static void bad_descriptors_are_refused(void **state)
{
	struct fl_stream *stream = NULL;
	int fds[2], datagram;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(fl_stream_socket_new(&stream, fds[0]), -ENOTSOCK);
	assert_int_equal(fl_stream_socket_new(&stream, datagram), -EPROTOTYPE);
	assert_int_equal(fl_stream_socket_new(&stream, -1), -EBADF);
	assert_null(stream);
	/* They are still the caller's. */
	assert_int_equal(close(fds[0]) | close(fds[1]) | close(datagram), 0);
}

static void counts_are_checked(void **state)
{
	struct iovec iov[65] = {{0}};
	struct fl_stream *ends[2];

	(void)state;
	make_streams(ends, false);
	assert_int_equal(fl_stream_send(ends[0], iov, 0), -EINVAL);
	assert_int_equal(fl_stream_send(ends[0], iov, 65), -EINVAL);
	assert_int_equal(fl_stream_recv(ends[0], iov, 0), -EINVAL);
	assert_int_equal(fl_stream_recv(ends[0], iov, 65), -EINVAL);
	fl_stream_close(ends[0]);
	fl_stream_close(ends[1]);
	fl_stream_close(NULL);
}

static void events_tell_what_is_waited_for(void **state)
{
	static uint8_t piece[64 * 1024];
	const struct iovec iov = {.iov_base = piece, .iov_len = sizeof(piece)};
	struct fl_stream *ends[2];
	uint8_t byte;

	(void)state;
	make_streams(ends, false);
	assert_int_equal(fl_stream_events(ends[0]), 0);
	assert_int_equal(recv_some(ends[0], &byte, 1), -EAGAIN);
	assert_int_equal(fl_stream_events(ends[0]), POLLIN);
	while (fl_stream_send(ends[0], &iov, 1) > 0)
		;
	assert_int_equal(fl_stream_events(ends[0]), POLLIN | POLLOUT);
	assert_int_equal(send_text(ends[1], "x"), 1);
	assert_int_equal(recv_some(ends[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(fl_stream_events(ends[0]), POLLOUT);
	assert_false(fl_stream_pending(ends[0]));
	assert_null(fl_stream_reason(ends[0]));
	fl_stream_close(ends[0]);
	fl_stream_close(ends[1]);
}

/* The test would die of SIGPIPE. */
static void closed_peer_is_an_end_and_an_error(void **state)
{
	struct fl_stream *ends[2];
	uint8_t byte;
	int64_t ret;

	for (int tcp = 0; tcp < 2; tcp++) {
		make_streams(ends, tcp);
		fl_stream_close(ends[1]);
		assert_int_equal(recv_some(ends[0], &byte, 1), 0);
		do
			ret = send_text(ends[0], "into the void");
		while (ret > 0);
		assert_true(ret == -EPIPE || ret == -ECONNRESET);
		fl_stream_close(ends[0]);
	}
	(void)state;
}

/* An iov of pieces of many lengths over memory from @at on. */
static int cut(struct iovec *iov, uint8_t *memory, size_t at, size_t end, unsigned int *seed)
{
	int count = 0;

	while (count < 64 && at < end) {
		size_t len = (size_t)rand_r(seed) % 5000;

		if (len > end - at)
			len = end - at;
		iov[count++] = (struct iovec){.iov_base = memory + at, .iov_len = len};
		at += len;
	}
	return count;
}

static void everything_arrives_in_order(void **state)
{
	uint8_t *from = malloc(BIG), *to = calloc(1, BIG);
	struct fl_stream *ends[2];
	struct iovec iov[64];
	unsigned int seed = 1;

	(void)state;
	assert_true(from && to);
	test_pattern(from, BIG, 0, 7);
	for (int tcp = 0; tcp < 2; tcp++) {
		size_t sent = 0, got = 0;

		make_streams(ends, tcp);
		memset(to, 0, BIG);
		while (got < BIG) {
			int64_t ret = -EAGAIN;

			if (sent < BIG)
				ret = fl_stream_send(ends[0], iov,
						     cut(iov, from, sent, BIG, &seed));
			assert_true(ret >= 0 || ret == -EAGAIN);
			sent += ret > 0 ? (size_t)ret : 0;
			ret = fl_stream_recv(ends[1], iov, cut(iov, to, got, BIG, &seed));
			assert_true(ret >= 0 || ret == -EAGAIN);
			got += ret > 0 ? (size_t)ret : 0;
		}
		assert_filled(to, BIG, 0, 7);
		fl_stream_close(ends[0]);
		fl_stream_close(ends[1]);
	}
	free(from);
	free(to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_is_tuned),
		cmocka_unit_test(kernel_keeps_little_unsent),
		cmocka_unit_test(bad_descriptors_are_refused),
		cmocka_unit_test(counts_are_checked),
		cmocka_unit_test(events_tell_what_is_waited_for),
		cmocka_unit_test(closed_peer_is_an_end_and_an_error),
		cmocka_unit_test(everything_arrives_in_order),
	};

	return cmocka_run_group_tests_name("link_stream", tests, NULL, NULL);
}
