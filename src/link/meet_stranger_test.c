/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/meet_host_test.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* One frame of a stranger's, what it hears, and then the right one meets. */
static void check_frame(enum fl_frame_type type, const struct fl_wire_hello *hello, int code,
			const char *text)
{
	struct host host;
	int fd;

	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	fd = stranger(&host);
	say_frame(fd, type, hello);
	hear_error(fd, code, text);
	right_one_meets(&host);
	assert_non_null(strstr(host.said, text));
	host_free(&host);
}

static void other_versions_are_told(void **state)
{
	struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);

	(void)state;
	hello.version_min = 7;
	hello.version_max = 9;
	check_frame(FL_FRAME_HELLO, &hello, EPROTONOSUPPORT,
		    "this side speaks 1 to 1, the other 7 to 9");
}

/* One that speaks newer versions too is answered with ours. */
static void versions_in_common_are_used(void **state)
{
	struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN), welcome;
	struct host host;
	int fd;

	(void)state;
	hello.version_max = 9;
	hello.features = 0xffffffff;
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	fd = stranger(&host);
	say_frame(fd, FL_FRAME_HELLO, &hello);
	hear_welcome(fd, &welcome);
	assert_int_equal(welcome.version_min, 1);
	assert_int_equal(welcome.version_max, 1);
	assert_int_equal(welcome.features, host.how.features);
	assert_int_equal(welcome.role, FL_ROLE_INCOMING);
	assert_int_equal(welcome.channel, FL_CHANNEL_MAIN);
	host_cancel(&host);
	assert_int_equal(close(fd), 0);
	host_free(&host);
}

static void what_is_no_hello_is_refused(void **state)
{
	struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);

	(void)state;
	check_frame(FL_FRAME_WELCOME, &hello, EBADMSG, "WELCOME came instead of HELLO");
	memset(hello.session, 1, sizeof(hello.session));
	check_frame(FL_FRAME_HELLO, &hello, EPERM, "a session before there is one");
	hello.channel = FL_CHANNEL_DEMAND;
	check_frame(FL_FRAME_HELLO, &hello, EPERM, "the session is wrong");
	hello.role = 7;
	check_frame(FL_FRAME_HELLO, &hello, EBADMSG, "role");
}

static void wrong_sums_are_refused(void **state)
{
	const struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);
	uint8_t bytes[FRAME_BYTES];
	struct host host;
	int fd;

	(void)state;
	make_frame(bytes, FL_FRAME_HELLO, &hello);
	bytes[FRAME_BYTES - 20] ^= 1;
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	fd = stranger(&host);
	say(fd, bytes, sizeof(bytes));
	hear_error(fd, EBADMSG, "HELLO");
	right_one_meets(&host);
	host_free(&host);
}

static void garbage_is_refused(void **state)
{
	static uint8_t garbage[8192];
	struct host host;
	int fd;

	(void)state;
	test_pattern(garbage, sizeof(garbage), 0, 1);
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	fd = stranger(&host);
	say(fd, garbage, sizeof(garbage));
	hear_error(fd, EBADMSG, "");
	/* A frame that would be right later, and larger than any of a meeting. */
	fd = stranger(&host);
	{
		struct fl_frame frame = {.type = FL_FRAME_ERROR, .id = 1, .len = 60000};

		(void)fl_frame_encode(garbage, &frame, garbage, 0, 0);
		say(fd, garbage, FL_WIRE_HEAD_BYTES);
	}
	hear_error(fd, EBADMSG, "not for a meeting");
	right_one_meets(&host);
	host_free(&host);
}

/* Those who say nothing, half a HELLO, or a HELLO and no more keep nobody out. */
static void silent_strangers_keep_nobody_out(void **state)
{
	const struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);
	uint8_t bytes[FRAME_BYTES];
	struct fl_wire_hello welcome;
	struct host host;
	int silent, half, there;

	(void)state;
	make_frame(bytes, FL_FRAME_HELLO, &hello);
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	silent = stranger(&host);
	half = stranger(&host);
	say(half, bytes, 40);
	there = welcomed(&host, &welcome);
	right_one_meets(&host);
	hear_error(there, EBUSY, "another one has met");
	assert_int_equal(close(silent) | close(half), 0);
	host_free(&host);
}

static void strangers_in_crowds_keep_nobody_out(void **state)
{
	int fds[300];
	struct fl_wire_hello welcome;
	struct host host;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	for (int i = 0; i < 300; i++)
		fds[i] = i % 3 ? stranger(&host) : welcomed(&host, &welcome);
	right_one_meets(&host);
	assert_non_null(strstr(host.said, "too many strangers"));
	for (int i = 0; i < 300; i++)
		assert_int_equal(close(fds[i]), 0);
	host_free(&host);
}

/* The same where it is descriptors that run out. */
static void running_out_of_descriptors_keeps_nobody_out(void **state)
{
	struct rlimit limit, less;
	int fds[30];
	struct host host;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 30; i++)
		fds[i] = stranger(&host);
	/* All that wait in the queue need one each; ten are left. */
	less = (struct rlimit){.rlim_cur = (rlim_t)fds[29] + 11, .rlim_max = limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
	host_start(&host);
	/* The last one of the queue is served, so that all were. */
	say(fds[29], "0123456789012345678901234567890123456789", 40);
	hear_error(fds[29], EBADMSG, "");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	right_one_meets(&host);
	for (int i = 0; i < 29; i++)
		assert_int_equal(close(fds[i]), 0);
	host_free(&host);
}

/* Each has its own time, after which it hears so. */
static void late_strangers_are_told(void **state)
{
	struct fl_wire_hello welcome;
	struct host host;
	int silent, there;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host.how.timeout_ms = 100;
	host_start(&host);
	silent = stranger(&host);
	hear_error(silent, ETIMEDOUT, "no HELLO");
	there = welcomed(&host, &welcome);
	hear_error(there, ETIMEDOUT, "no second connection");
	host_cancel(&host);
	host_free(&host);
}

/* A main connection that ends, or goes on too early, is forgotten with its session. */
static void broken_main_connections_are_forgotten(void **state)
{
	struct fl_wire_hello welcome, hello = good_hello(FL_CHANNEL_DEMAND);
	struct host host;
	int main_fd, demand;
	char byte;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	main_fd = welcomed(&host, &welcome);
	memcpy(hello.session, welcome.session, FL_WIRE_SESSION);
	assert_int_equal(shutdown(main_fd, SHUT_WR), 0);
	assert_int_equal(hear_frame(main_fd, FL_FRAME_ERROR, (char[512]){0}).id, ECONNRESET);
	assert_int_equal(hear(main_fd, &byte, 1), 0);
	demand = stranger(&host);
	say_frame(demand, FL_FRAME_HELLO, &hello);
	hear_error(demand, EPERM, "the session is wrong");
	assert_int_equal(close(main_fd), 0);

	main_fd = welcomed(&host, &welcome);
	say(main_fd, "too early", 9);
	hear_error(main_fd, EBADMSG, "before its second connection stood");
	right_one_meets(&host);
	host_free(&host);
}

/* Who has no room for another one says so at once, whatever is asked for, and goes on saying it. */
static void a_busy_host_refuses_by_name(void **state)
{
	struct fl_wire_hello hello = good_hello(FL_CHANNEL_DEMAND);
	struct fl_error err = {0};
	struct fl_pair pair;
	struct fl_meet how;
	struct host host;
	int fd;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host.how.busy = true;
	host_start(&host);
	how = host_caller(&host);
	for (unsigned int i = 0; i < 4; i++) {
		how.recover = i % 2;
		memset(how.session, how.recover ? 0x5a : 0, FL_WIRE_SESSION);
		assert_int_equal(fl_meet(&how, &pair, NULL, &err), -EBUSY);
		assert_non_null(strstr(err.text, "another machine is on its way to here already"));
		assert_non_null(strstr(err.text, host.address));
	}
	fd = stranger(&host);
	memset(hello.session, 0x5a, FL_WIRE_SESSION);
	say_frame(fd, FL_FRAME_HELLO, &hello);
	hear_error(fd, EBUSY, "already");
	host_cancel(&host);
	host_free(&host);
}

/* In a recovery the newest main connection counts: its peer knows that the older one is dead. */
static void newest_connection_of_a_recovery_counts(void **state)
{
	struct fl_wire_hello welcome, hello = good_hello(FL_CHANNEL_MAIN);
	struct host host;
	int old;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host.how.recover = true;
	memset(host.how.session, 0x5a, FL_WIRE_SESSION);
	hello.recover = 1;
	memset(hello.session, 0x5a, FL_WIRE_SESSION);
	host_start(&host);
	old = stranger(&host);
	say_frame(old, FL_FRAME_HELLO, &hello);
	hear_welcome(old, &welcome);
	assert_memory_equal(welcome.session, hello.session, FL_WIRE_SESSION);
	right_one_meets(&host);
	hear_error(old, ESTALE, "another connection");
	host_free(&host);
}

/* What follows HELLO or WELCOME is for who takes the stream over. */
static void nothing_is_read_too_far(void **state)
{
	struct fl_wire_hello welcome, hello = good_hello(FL_CHANNEL_DEMAND);
	uint8_t bytes[FRAME_BYTES + 4];
	char got[8] = "";
	const struct iovec iov = {.iov_base = got, .iov_len = sizeof(got)};
	struct host host;
	int main_fd, demand;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	main_fd = welcomed(&host, &welcome);
	memcpy(hello.session, welcome.session, FL_WIRE_SESSION);
	make_frame(bytes, FL_FRAME_HELLO, &hello);
	memcpy(bytes + FRAME_BYTES, "tail", 4);
	demand = stranger(&host);
	say(demand, bytes, sizeof(bytes));
	host_join(&host);
	assert_int_equal(host.rc, 0);
	assert_int_equal(fl_stream_recv(host.pair.demand, &iov, 1), 4);
	assert_string_equal(got, "tail");
	assert_int_equal(close(main_fd) | close(demand), 0);
	host_free(&host);
}

/* Byte by byte is as good as at once. */
static void slow_peers_are_taken(void **state)
{
	const struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);
	uint8_t bytes[FRAME_BYTES];
	struct fl_wire_hello welcome;
	struct host host;
	int fd, one = 1;

	(void)state;
	make_frame(bytes, FL_FRAME_HELLO, &hello);
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	fd = stranger(&host);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	for (size_t i = 0; i < sizeof(bytes); i++)
		say(fd, bytes + i, 1);
	hear_welcome(fd, &welcome);
	host_cancel(&host);
	assert_int_equal(close(fd), 0);
	host_free(&host);
}

/* TLS handshakes of strangers who say nothing do not hold up that of the right one. */
static void handshakes_do_not_wait_for_each_other(void **state)
{
	struct fl_meet how;
	struct fl_pair pair;
	struct host host;
	int fds[100];

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host.how.tls = host_tls;
	host_start(&host);
	for (int i = 0; i < 100; i++) {
		fds[i] = stranger(&host);
		if (i % 2)
			say(fds[i], "\x16\x03\x01\x02", 4);
	}
	how = host_caller(&host);
	how.tls = peer_tls;
	assert_int_equal(fl_meet(&how, &pair, NULL, NULL), 0);
	host_join(&host);
	assert_int_equal(host.rc, 0);
	check_pairs(&pair, &host.pair);
	pair_close(&pair);
	for (int i = 0; i < 100; i++)
		assert_int_equal(close(fds[i]), 0);
	host_free(&host);
}

static void nothing_is_left_open(void **state)
{
	unsigned int before = test_open_fds();

	(void)state;
	silent_strangers_keep_nobody_out(NULL);
	broken_main_connections_are_forgotten(NULL);
	handshakes_do_not_wait_for_each_other(NULL);
	assert_int_equal(test_open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_versions_are_told),
		cmocka_unit_test(versions_in_common_are_used),
		cmocka_unit_test(what_is_no_hello_is_refused),
		cmocka_unit_test(wrong_sums_are_refused),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(silent_strangers_keep_nobody_out),
		cmocka_unit_test(strangers_in_crowds_keep_nobody_out),
		cmocka_unit_test(running_out_of_descriptors_keeps_nobody_out),
		cmocka_unit_test(late_strangers_are_told),
		cmocka_unit_test(broken_main_connections_are_forgotten),
		cmocka_unit_test(a_busy_host_refuses_by_name),
		cmocka_unit_test(newest_connection_of_a_recovery_counts),
		cmocka_unit_test(nothing_is_read_too_far),
		cmocka_unit_test(slow_peers_are_taken),
		cmocka_unit_test(handshakes_do_not_wait_for_each_other),
		cmocka_unit_test(nothing_is_left_open),
	};

	return cmocka_run_group_tests_name("meet_stranger", tests, meet_set_up, meet_tear_down);
}
