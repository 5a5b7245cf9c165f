/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/meet_host_test.h"

#include <errno.h>
#include <limits.h>
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

#include "link/certs_test.h"

static void try_address(const char *listen_on)
{
	struct host host;

	host_init(&host, listen_on);
	host_start(&host);
	right_one_meets(&host);
	assert_string_equal(host.said, "");
	host_free(&host);
}

static void two_sides_meet(void **state)
{
	char address[256];

	(void)state;
	try_address("127.0.0.1:0");
	(void)snprintf(address, sizeof(address), "unix:%s/meet", meet_folder);
	try_address(address);
}

static void sessions_differ(void **state)
{
	uint8_t sessions[2][FL_WIRE_SESSION];
	struct host host;

	(void)state;
	for (int i = 0; i < 2; i++) {
		host_init(&host, "127.0.0.1:0");
		host_start(&host);
		right_one_meets(&host);
		memcpy(sessions[i], host.pair.session, FL_WIRE_SESSION);
		host_free(&host);
	}
	assert_memory_not_equal(sessions[0], sessions[1], FL_WIRE_SESSION);
}

static void two_sides_meet_over_tls(void **state)
{
	struct fl_error err = {0};
	char address[256];
	struct fl_meet how;
	struct fl_pair pair;
	struct host host;

	(void)state;
	(void)snprintf(address, sizeof(address), "unix:%s/tls", meet_folder);
	for (int i = 0; i < 2; i++) {
		host_init(&host, i ? "127.0.0.1:0" : address);
		host.how.tls = host_tls;
		host_start(&host);
		how = host_caller(&host);
		how.tls = peer_tls;
		assert_int_equal(fl_meet(&how, &pair, NULL, &err), 0);
		host_join(&host);
		assert_int_equal(host.rc, 0);
		check_pairs(&pair, &host.pair);
		assert_string_equal(pair.main->ops->name, "tls");
		assert_string_equal(pair.demand->ops->name, "tls");
		pair_close(&pair);
		host_free(&host);
	}
}

/* Who recovers names the session, in both directions. */
static void machines_are_recovered(void **state)
{
	struct host host;
	struct fl_meet how;
	struct fl_pair pair;

	(void)state;
	for (int role = 0; role < 2; role++) {
		host_init(&host, "127.0.0.1:0");
		host.how.role = role ? FL_ROLE_INCOMING : FL_ROLE_OUTGOING;
		host.how.recover = true;
		memset(host.how.session, 0xa5, FL_WIRE_SESSION);
		host_start(&host);
		how = host_caller(&host);
		how.role = role ? FL_ROLE_OUTGOING : FL_ROLE_INCOMING;
		how.recover = true;
		memset(how.session, 0xa5, FL_WIRE_SESSION);
		assert_int_equal(fl_meet(&how, &pair, NULL, NULL), 0);
		host_join(&host);
		assert_int_equal(host.rc, 0);
		check_pairs(&pair, &host.pair);
		assert_memory_equal(pair.session, how.session, FL_WIRE_SESSION);
		pair_close(&pair);
		host_free(&host);
	}
}

static void check_patience(const struct fl_pair *pair, int least_ms, int most_ms)
{
	const struct fl_stream *streams[] = {pair->main, pair->demand};

	for (int i = 0; i < 2; i++) {
		int value = -1;
		socklen_t len = sizeof(value);

		assert_int_equal(getsockopt(fl_stream_fd(streams[i]), IPPROTO_TCP, TCP_USER_TIMEOUT,
					    &value, &len),
				 0);
		assert_in_range(value, least_ms, most_ms);
	}
}

/* TCP does not give up before those do who met. */
static void tcp_waits_as_long_as_they_do(void **state)
{
	static const unsigned int timeouts[] = {1000, 600000, UINT_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(timeouts) / sizeof(*timeouts); i++) {
		struct fl_pair pair;
		struct fl_meet how;
		struct host host;
		int least = timeouts[i] < INT_MAX ? (int)timeouts[i] : INT_MAX;

		host_init(&host, "127.0.0.1:0");
		host.how.timeout_ms = timeouts[i];
		host_start(&host);
		how = host_caller(&host);
		how.timeout_ms = timeouts[i];
		assert_int_equal(fl_meet(&how, &pair, NULL, NULL), 0);
		host_join(&host);
		least = least < 30000 ? 30000 : least;
		check_patience(&pair, least, i ? INT_MAX : 30000);
		check_patience(&host.pair, least, i ? INT_MAX : 30000);
		pair_close(&pair);
		host_free(&host);
	}
}

/* A caller that is refused by a host that goes on waiting. */
static void check_refused(struct host *host, const struct fl_meet *how, int code, const char *why)
{
	struct fl_error err = {0};
	struct fl_pair pair;

	host_start(host);
	assert_int_equal(fl_meet(how, &pair, NULL, &err), code);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.text, host->address));
	assert_non_null(strstr(err.text, why));
	assert_null(pair.main);
	assert_null(pair.demand);
	host_cancel(host);
	assert_non_null(strstr(host->said, why));
	host_free(host);
}

static void wrong_sessions_are_refused(void **state)
{
	struct host host;
	struct fl_meet how;

	(void)state;
	for (int at = 0; at < (int)FL_WIRE_SESSION; at += 15) {
		host_init(&host, "127.0.0.1:0");
		host.how.recover = true;
		memset(host.how.session, 0xa5, FL_WIRE_SESSION);
		how = host_caller(&host);
		how.recover = true;
		memset(how.session, 0xa5, FL_WIRE_SESSION);
		how.session[at] ^= 1;
		check_refused(&host, &how, -EPERM, "the session is wrong");
	}
}

static void wrong_roles_are_refused(void **state)
{
	struct host host;
	struct fl_meet how;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	how = host_caller(&host);
	how.role = FL_ROLE_INCOMING;
	check_refused(&host, &how, -EPERM, "both sides are the incoming one");
}

static void first_meetings_and_recoveries_do_not_mix(void **state)
{
	struct host host;
	struct fl_meet how;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	how = host_caller(&host);
	how.recover = true;
	memset(how.session, 0xa5, FL_WIRE_SESSION);
	check_refused(&host, &how, -EPERM, "no machine here waits to be recovered");

	host_init(&host, "127.0.0.1:0");
	host.how.recover = true;
	memset(host.how.session, 0xa5, FL_WIRE_SESSION);
	how = host_caller(&host);
	check_refused(&host, &how, -EPERM, "waits to be recovered");
}

/* A host that is a stranger to us: takes one connection and answers as it is told. */

struct fake {
	pthread_t thread;
	int listen_fd;
	uint8_t answer[FRAME_BYTES + 512];
	size_t len;
	int cancel_fd; /* written to once HELLO was read, or -1 */
};

static void *fake_main(void *arg)
{
	struct fake *fake = arg;
	uint8_t bytes[FRAME_BYTES];
	size_t got = 0;
	ssize_t n = 1;
	int fd;

	wait_for(fake->listen_fd);
	fd = accept(fake->listen_fd, NULL, NULL);
	while (got < sizeof(bytes) && n > 0) {
		n = recv(fd, bytes + got, sizeof(bytes) - got, 0);
		got += n > 0 ? (size_t)n : 0;
	}
	if (fake->len)
		(void)send(fd, fake->answer, fake->len, MSG_NOSIGNAL);
	if (fake->cancel_fd >= 0)
		(void)eventfd_write(fake->cancel_fd, 1);
	/* Until the other side has had enough of us. */
	while (recv(fd, bytes, sizeof(bytes), 0) > 0)
		;
	(void)close(fd);
	return NULL;
}

static void fake_welcome(struct fake *fake, const struct fl_wire_hello *hello)
{
	make_frame(fake->answer, FL_FRAME_WELCOME, hello);
	fake->len = FRAME_BYTES;
}

static void fake_error(struct fake *fake, int code, const char *text)
{
	struct fl_frame frame = {
		.type = FL_FRAME_ERROR, .id = (uint32_t)code, .len = (uint32_t)strlen(text)};

	memcpy(fake->answer + FL_WIRE_HEAD_BYTES, text, frame.len);
	(void)fl_frame_encode(fake->answer, &frame, text, frame.len, 0);
	fake->len = FL_WIRE_HEAD_BYTES + frame.len;
}

/* How we end with a host that answers like this. */
static void check_fake(struct fake *fake, struct fl_meet *how, int code, const char *why)
{
	char address[FL_LINK_TEXT];
	struct fl_error err = {0};
	struct fl_pair pair;

	fake->listen_fd = fl_link_listen("127.0.0.1:0", NULL);
	assert_int_equal(fl_link_address(fake->listen_fd, address, sizeof(address)), 0);
	fake->cancel_fd = how->cancel_fd;
	how->connect = address;
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_main, fake), 0);
	assert_int_equal(fl_meet(how, &pair, NULL, &err), code);
	how->connect = NULL;
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.text, address));
	assert_non_null(strstr(err.text, why));
	assert_null(pair.main);
	assert_int_equal(pthread_join(fake->thread, NULL), 0);
	assert_int_equal(close(fake->listen_fd), 0);
	fake->len = 0;
}

static struct fl_wire_hello good_welcome(void)
{
	struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);

	hello.role = FL_ROLE_INCOMING;
	memset(hello.session, 0x77, FL_WIRE_SESSION);
	return hello;
}

static void bad_welcomes_are_refused(void **state)
{
	struct fl_meet how = {
		.role = FL_ROLE_OUTGOING, .timeout_ms = MEET_LONG_MS, .cancel_fd = -1};
	struct fake fake = {0};
	struct fl_wire_hello hello = good_welcome();

	(void)state;
	hello.version_min = hello.version_max = 2;
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EPROTONOSUPPORT, "this side speaks 1 to 1, the other 2 to 2");
	hello = good_welcome();
	hello.version_max = 2;
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EBADMSG, "WELCOME");
	hello = good_welcome();
	hello.role = FL_ROLE_OUTGOING;
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EPERM, "both sides are the outgoing one");
	hello = good_welcome();
	hello.channel = FL_CHANNEL_DEMAND;
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EBADMSG, "WELCOME");
	hello = good_welcome();
	hello.features = FL_FEATURE_LZ4;
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EBADMSG, "WELCOME");
	hello = good_welcome();
	memset(hello.session, 0, FL_WIRE_SESSION);
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EPERM, "the session is wrong");
	hello = good_welcome();
	fake_welcome(&fake, &hello);
	fake.answer[40] ^= 1;
	check_fake(&fake, &how, -EBADMSG, "WELCOME");
	hello = good_welcome();
	fake_welcome(&fake, &hello);
	how.recover = true;
	memset(how.session, 0x11, FL_WIRE_SESSION);
	check_fake(&fake, &how, -EBADMSG, "WELCOME");
	hello.recover = 1;
	fake_welcome(&fake, &hello);
	check_fake(&fake, &how, -EPERM, "the session is wrong");
}

static void refusals_are_passed_on(void **state)
{
	struct fl_meet how = {
		.role = FL_ROLE_OUTGOING, .timeout_ms = MEET_LONG_MS, .cancel_fd = -1};
	struct fl_wire_hello hello = good_welcome();
	struct fake fake = {0};

	(void)state;
	fake_error(&fake, EPROTONOSUPPORT, "speaks 3 to 4, the other 1 to 1");
	check_fake(&fake, &how, -EPROTONOSUPPORT, "speaks 3 to 4, the other 1 to 1");
	fake_error(&fake, EPERM, "not you");
	check_fake(&fake, &how, -EPERM, "not you");
	fake_error(&fake, ENOMEM, "no \033[31mroom\n");
	check_fake(&fake, &how, -EREMOTEIO, "no ?[31mroom?");
	make_frame(fake.answer, FL_FRAME_HELLO, &hello);
	fake.len = FRAME_BYTES;
	check_fake(&fake, &how, -EBADMSG, "HELLO came instead of WELCOME");
	memcpy(fake.answer, "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", 41);
	fake.len = 41;
	check_fake(&fake, &how, -EBADMSG, "");
}

static void silence_times_out(void **state)
{
	struct fl_meet how = {.role = FL_ROLE_OUTGOING, .timeout_ms = 50, .cancel_fd = -1};
	struct fake fake = {0};

	(void)state;
	check_fake(&fake, &how, -ETIMEDOUT, "no answer to HELLO within 50 ms");
}

static void silence_can_be_canceled(void **state)
{
	struct fl_meet how = {.role = FL_ROLE_OUTGOING, .timeout_ms = MEET_LONG_MS};
	struct fake fake = {0};

	(void)state;
	how.cancel_fd = eventfd(0, EFD_CLOEXEC);
	check_fake(&fake, &how, -ECANCELED, "");
	assert_int_equal(close(how.cancel_fd), 0);
}

static void hosts_can_be_canceled(void **state)
{
	struct host host;
	int fd;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	host_start(&host);
	fd = stranger(&host);
	host_cancel(&host);
	assert_int_equal(close(fd), 0);
	host_free(&host);
}

static void broken_listening_sockets_end_it(void **state)
{
	struct fl_meet how = {
		.role = FL_ROLE_INCOMING, .timeout_ms = MEET_LONG_MS, .cancel_fd = -1};
	struct fl_error err;
	struct fl_pair pair;

	(void)state;
	how.listen_fd = -1;
	assert_int_equal(fl_meet(&how, &pair, NULL, &err), -EBADF);
	/* Bound to nothing, not listening: accept(2) says so. */
	how.listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(fl_meet(&how, &pair, NULL, &err), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(close(how.listen_fd), 0);
	how.listen_fd = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(fl_meet(&how, &pair, NULL, &err), -ENOTSOCK);
	assert_int_equal(close(how.listen_fd), 0);
}

/* Only one side speaks TLS: both end in time, and know why. */
static void plain_and_tls_do_not_meet(void **state)
{
	struct host host;
	struct fl_meet how;

	(void)state;
	host_init(&host, "127.0.0.1:0");
	how = host_caller(&host);
	how.tls = peer_tls;
	{
		struct fl_error err;
		struct fl_pair pair;

		host_start(&host);
		assert_int_equal(fl_meet(&how, &pair, NULL, &err), -EPROTO);
		assert_non_null(strstr(err.text, "TLS as the client: the peer does not speak TLS"));
		assert_non_null(strstr(err.text, host.address));
		right_one_meets(&host);
		assert_non_null(strstr(host.said, "the peer speaks TLS, this side does not"));
		host_free(&host);
	}
	host_init(&host, "127.0.0.1:0");
	host.how.tls = host_tls;
	{
		struct fl_error err;
		struct fl_pair pair;

		how = host_caller(&host);
		host_start(&host);
		assert_int_equal(fl_meet(&how, &pair, NULL, &err), -EREMOTEIO);
		assert_non_null(strstr(err.text, "this side speaks TLS, the other one does not"));
		host_cancel(&host);
		assert_non_null(strstr(host.said, "this side speaks TLS, the other one does not"));
		host_free(&host);
	}
}

/* A client whose certificate is refused hears it, though in TLS 1.3 it was done before. */
static void wrong_certificates_are_told(void **state)
{
	char cert[256], key[256], authority[256];
	struct fl_tls *tls;
	struct fl_meet how;
	struct host host;

	(void)state;
	test_authority(meet_folder, "foreign");
	test_certificate(meet_folder, "foreign", "stranger", "DNS:localhost", -1, 30);
	assert_int_equal(fl_tls_new(&tls, test_cert_path(cert, meet_folder, "stranger", ".pem"),
				    test_cert_path(key, meet_folder, "stranger", ".key"),
				    test_cert_path(authority, meet_folder, "authority", ".pem"),
				    NULL),
			 0);
	host_init(&host, "127.0.0.1:0");
	host.how.tls = host_tls;
	how = host_caller(&host);
	how.tls = tls;
	{
		struct fl_error err;
		struct fl_pair pair;

		host_start(&host);
		assert_int_equal(fl_meet(&how, &pair, NULL, &err), -EPROTO);
		assert_non_null(strstr(err.text, "the peer refused our certificate"));
		host_cancel(&host);
		assert_non_null(
			strstr(host.said, "the peer's certificate is not from our authority"));
	}
	host_free(&host);
	fl_tls_free(tls);
}

static void nothing_is_left_open(void **state)
{
	unsigned int before = test_open_fds();

	(void)state;
	two_sides_meet(NULL);
	two_sides_meet_over_tls(NULL);
	wrong_roles_are_refused(NULL);
	bad_welcomes_are_refused(NULL);
	assert_int_equal(test_open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_sides_meet),
		cmocka_unit_test(sessions_differ),
		cmocka_unit_test(two_sides_meet_over_tls),
		cmocka_unit_test(machines_are_recovered),
		cmocka_unit_test(tcp_waits_as_long_as_they_do),
		cmocka_unit_test(wrong_sessions_are_refused),
		cmocka_unit_test(wrong_roles_are_refused),
		cmocka_unit_test(first_meetings_and_recoveries_do_not_mix),
		cmocka_unit_test(bad_welcomes_are_refused),
		cmocka_unit_test(refusals_are_passed_on),
		cmocka_unit_test(silence_times_out),
		cmocka_unit_test(silence_can_be_canceled),
		cmocka_unit_test(hosts_can_be_canceled),
		cmocka_unit_test(broken_listening_sockets_end_it),
		cmocka_unit_test(plain_and_tls_do_not_meet),
		cmocka_unit_test(wrong_certificates_are_told),
		cmocka_unit_test(nothing_is_left_open),
	};

	return cmocka_run_group_tests_name("meet", tests, meet_set_up, meet_tear_down);
}
