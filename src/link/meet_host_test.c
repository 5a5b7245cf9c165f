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

#include "link/certs_test.h"

char meet_folder[128];
struct fl_tls *host_tls, *peer_tls;

static struct fl_tls *load(const char *name)
{
	char cert[256], key[256], authority[256];
	struct fl_tls *tls = NULL;

	assert_int_equal(fl_tls_new(&tls, test_cert_path(cert, meet_folder, name, ".pem"),
				    test_cert_path(key, meet_folder, name, ".key"),
				    test_cert_path(authority, meet_folder, "authority", ".pem"),
				    NULL),
			 0);
	return tls;
}

int meet_set_up(void **state)
{
	(void)state;
	test_folder_make(meet_folder);
	test_authority(meet_folder, "authority");
	test_certificate(meet_folder, "authority", "host", "IP:127.0.0.1,DNS:localhost", -1, 30);
	test_certificate(meet_folder, "authority", "peer", "IP:127.0.0.1,DNS:localhost", -1, 30);
	host_tls = load("host");
	peer_tls = load("peer");
	return 0;
}

int meet_tear_down(void **state)
{
	(void)state;
	fl_tls_free(host_tls);
	fl_tls_free(peer_tls);
	test_folder_remove(meet_folder);
	return 0;
}

static void host_log(void *ctx, enum fl_log_level level, const char *text)
{
	struct host *host = ctx;
	size_t len;

	(void)level;
	(void)pthread_mutex_lock(&host->lock);
	len = strlen(host->said);
	(void)snprintf(host->said + len, sizeof(host->said) - len, "%s\n", text);
	(void)pthread_mutex_unlock(&host->lock);
}

static void *host_main(void *arg)
{
	struct host *host = arg;
	const struct fl_log log = {.write = host_log, .ctx = host};

	host->rc = fl_meet(&host->how, &host->pair, &log, &host->err);
	return NULL;
}

void host_init(struct host *host, const char *listen_on)
{
	memset(host, 0, sizeof(*host));
	(void)pthread_mutex_init(&host->lock, NULL);
	host->how = (struct fl_meet){.role = FL_ROLE_INCOMING,
				     .features = FL_FEATURE_ZSTD | FL_FEATURE_FABRIC,
				     .timeout_ms = MEET_LONG_MS,
				     .cancel_fd = eventfd(0, EFD_CLOEXEC)};
	host->how.listen_fd = fl_link_listen(listen_on, NULL);
	assert_true(host->how.listen_fd >= 0);
	assert_int_equal(fl_link_address(host->how.listen_fd, host->address, sizeof(host->address)),
			 0);
}

void host_start(struct host *host)
{
	assert_int_equal(pthread_create(&host->thread, NULL, host_main, host), 0);
}

void host_join(struct host *host)
{
	assert_int_equal(pthread_join(host->thread, NULL), 0);
}

void host_cancel(struct host *host)
{
	assert_int_equal(eventfd_write(host->how.cancel_fd, 1), 0);
	host_join(host);
	assert_int_equal(host->rc, -ECANCELED);
	assert_int_equal(host->err.code, -ECANCELED);
	assert_null(host->pair.main);
	assert_null(host->pair.demand);
}

void pair_close(struct fl_pair *pair)
{
	fl_stream_close(pair->main);
	fl_stream_close(pair->demand);
	pair->main = pair->demand = NULL;
}

void host_free(struct host *host)
{
	pair_close(&host->pair);
	(void)close(host->how.listen_fd);
	(void)close(host->how.cancel_fd);
	(void)pthread_mutex_destroy(&host->lock);
}

struct fl_meet host_caller(const struct host *host)
{
	return (struct fl_meet){.connect = host->address,
				.listen_fd = -1,
				.role = FL_ROLE_OUTGOING,
				.features = FL_FEATURE_ZSTD | FL_FEATURE_LZ4,
				.timeout_ms = MEET_LONG_MS,
				.cancel_fd = -1};
}

void wait_for(int fd)
{
	struct pollfd polled = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&polled, 1, MEET_LONG_MS), 1);
}

static void check_way(struct fl_stream *from, struct fl_stream *to, const char *text)
{
	struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
	char got[64] = "";
	int64_t ret;

	assert_int_equal(fl_stream_send(from, &iov, 1), strlen(text));
	iov = (struct iovec){.iov_base = got, .iov_len = sizeof(got)};
	while ((ret = fl_stream_recv(to, &iov, 1)) == -EAGAIN)
		wait_for(fl_stream_fd(to));
	assert_int_equal(ret, strlen(text));
	assert_string_equal(got, text);
}

void check_pairs(const struct fl_pair *a, const struct fl_pair *b)
{
	static const uint8_t none[FL_WIRE_SESSION];

	assert_true(a->main && a->demand && b->main && b->demand);
	assert_int_equal(a->features, b->features);
	assert_memory_equal(a->session, b->session, FL_WIRE_SESSION);
	assert_memory_not_equal(a->session, none, FL_WIRE_SESSION);
	check_way(a->main, b->main, "main there");
	check_way(b->main, a->main, "main back");
	check_way(a->demand, b->demand, "demand there");
	check_way(b->demand, a->demand, "demand back");
}

void right_one_meets(struct host *host)
{
	struct fl_meet how = host_caller(host);
	struct fl_error err = {0};
	struct fl_pair pair;
	int rc;

	how.recover = host->how.recover;
	memcpy(how.session, host->how.session, FL_WIRE_SESSION);
	rc = fl_meet(&how, &pair, NULL, &err);
	assert_string_equal(err.text, "");
	assert_int_equal(rc, 0);
	host_join(host);
	assert_int_equal(host->rc, 0);
	check_pairs(&pair, &host->pair);
	assert_int_equal(pair.features, FL_FEATURE_ZSTD);
	pair_close(&pair);
}

int stranger(const struct host *host)
{
	struct fl_error err = {0};
	int fd = fl_link_connect(host->address, MEET_LONG_MS, -1, &err);

	assert_string_equal(err.text, "");
	assert_true(fd >= 0);
	return fd;
}

void say(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

size_t hear(int fd, void *to, size_t len)
{
	size_t got = 0;
	ssize_t n = 1;

	while (got < len && n > 0) {
		wait_for(fd);
		n = recv(fd, (uint8_t *)to + got, len - got, 0);
		assert_true(n >= 0 || errno == ECONNRESET);
		got += n > 0 ? (size_t)n : 0;
	}
	return got;
}

struct fl_wire_hello good_hello(enum fl_channel channel)
{
	return (struct fl_wire_hello){.version_min = FL_WIRE_VERSION_MIN,
				      .version_max = FL_WIRE_VERSION_MAX,
				      .channel = (uint8_t)channel,
				      .role = FL_ROLE_OUTGOING};
}

void make_frame(uint8_t bytes[FRAME_BYTES], enum fl_frame_type type,
		const struct fl_wire_hello *hello)
{
	struct fl_frame frame = {.type = (uint8_t)type, .len = FL_WIRE_HELLO_BYTES};

	fl_hello_encode(bytes + FL_WIRE_HEAD_BYTES, hello);
	(void)fl_frame_encode(bytes, &frame, bytes + FL_WIRE_HEAD_BYTES, FL_WIRE_HELLO_BYTES, 0);
}

void say_frame(int fd, enum fl_frame_type type, const struct fl_wire_hello *hello)
{
	uint8_t bytes[FRAME_BYTES];

	make_frame(bytes, type, hello);
	say(fd, bytes, sizeof(bytes));
}

struct fl_frame hear_frame(int fd, enum fl_frame_type type, char payload[512])
{
	uint8_t head[FL_WIRE_HEAD_BYTES];
	struct fl_error err = {0};
	struct fl_frame frame;
	uint64_t sum;

	assert_int_equal(hear(fd, head, sizeof(head)), sizeof(head));
	assert_int_equal(fl_frame_decode(&frame, head, &err), 0);
	assert_int_equal(frame.type, type);
	assert_in_range(frame.len, 0, 511);
	assert_int_equal(hear(fd, payload, frame.len), frame.len);
	payload[frame.len] = '\0';
	assert_int_equal(fl_frame_verify(head, payload, frame.len, 0, &sum, &err), 0);
	return frame;
}

void hear_error(int fd, int code, const char *text)
{
	char payload[512], more;
	struct fl_frame frame = hear_frame(fd, FL_FRAME_ERROR, payload);

	assert_int_equal(frame.id, code);
	assert_non_null(strstr(payload, text));
	assert_int_equal(hear(fd, &more, 1), 0);
	assert_int_equal(close(fd), 0);
}

void hear_welcome(int fd, struct fl_wire_hello *hello)
{
	char payload[512];
	struct fl_frame frame = hear_frame(fd, FL_FRAME_WELCOME, payload);

	assert_int_equal(fl_hello_decode(hello, (uint8_t *)payload, frame.len, NULL), 0);
}

int welcomed(const struct host *host, struct fl_wire_hello *welcome)
{
	const struct fl_wire_hello hello = good_hello(FL_CHANNEL_MAIN);
	int fd = stranger(host);

	say_frame(fd, FL_FRAME_HELLO, &hello);
	hear_welcome(fd, welcome);
	return fd;
}
