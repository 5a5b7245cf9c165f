/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/tls_ends_test.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "link/certs_test.h"
#include "link/stream.h"
#include "util/clock.h"

char tls_folder[128];

int tls_make_certificates(void **state)
{
	const char *here = "IP:127.0.0.1,IP:::1,DNS:localhost";

	(void)state;
	test_folder_make(tls_folder);
	test_authority(tls_folder, "authority");
	test_authority(tls_folder, "foreign");
	test_certificate(tls_folder, "authority", "host", here, -1, 30);
	test_certificate(tls_folder, "authority", "peer", here, -1, 30);
	test_certificate(tls_folder, "authority", "expired", here, -20, -10);
	test_certificate(tls_folder, "authority", "early", here, 10, 20);
	test_certificate(tls_folder, "authority", "elsewhere", "IP:192.0.2.1,DNS:elsewhere.example",
			 -1, 30);
	test_certificate(tls_folder, "authority", "nameless", NULL, -1, 30);
	test_certificate(tls_folder, "foreign", "stranger", here, -1, 30);
	return 0;
}

int tls_remove_certificates(void **state)
{
	(void)state;
	test_folder_remove(tls_folder);
	return 0;
}

struct fl_tls *tls_load(const char *name, const char *authority)
{
	char cert[256], key[256], trusted[256];
	struct fl_error err = {0};
	struct fl_tls *tls = NULL;

	assert_int_equal(fl_tls_new(&tls, test_cert_path(cert, tls_folder, name, ".pem"),
				    test_cert_path(key, tls_folder, name, ".key"),
				    test_cert_path(trusted, tls_folder, authority, ".pem"), &err),
			 0);
	assert_non_null(tls);
	return tls;
}

/* Two ends of a connection; with small buffers, so that little fits. */
void tls_connect_pair(int fds[2])
{
	int small = 8192;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
				 0);
}

/* The same over TCP, where a record can go out in part. */
void tls_connect_tcp(int fds[2])
{
	struct sockaddr_in name = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(name);
	int listen_fd = socket(AF_INET, SOCK_STREAM, 0), small = 8192;

	assert_true(listen_fd >= 0);
	assert_int_equal(setsockopt(listen_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(listen_fd, 1), 0);
	assert_int_equal(getsockname(listen_fd, (struct sockaddr *)&name, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fds[0] >= 0);
	assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&name, sizeof(name)), 0);
	fds[1] = accept(listen_fd, NULL, NULL);
	assert_true(fds[1] >= 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
				 0);
	assert_int_equal(close(listen_fd), 0);
}

/* Steps both until both are done, or neither has anything more to say. */
void tls_shake_over(struct tls_ends *ends, const int fds[2], const struct fl_tls *client,
		    const struct fl_tls *server, const char *host)
{
	uint64_t deadline_ns = fl_clock_ns() + TLS_LONG_MS * FL_NS_PER_MS;

	memset(ends, 0, sizeof(*ends));
	assert_int_equal(fl_stream_tls_begin(&ends->client, fds[0], client, host, NULL), 0);
	assert_int_equal(fl_stream_tls_begin(&ends->server, fds[1], server, NULL, NULL), 0);
	while ((!ends->client_rc || !ends->server_rc) && fl_clock_ns() < deadline_ns) {
		if (!ends->client_rc)
			ends->client_rc = fl_stream_tls_step(ends->client, &ends->client_err);
		assert_int_equal(ERR_peek_error(), 0);
		if (!ends->server_rc)
			ends->server_rc = fl_stream_tls_step(ends->server, &ends->server_err);
		assert_int_equal(ERR_peek_error(), 0);
	}
}

void tls_shake(struct tls_ends *ends, const struct fl_tls *client, const struct fl_tls *server,
	       const char *host)
{
	int fds[2];

	tls_connect_pair(fds);
	tls_shake_over(ends, fds, client, server, host);
}

void tls_shaken_over(struct tls_ends *ends, const int fds[2])
{
	struct fl_tls *client = tls_load("peer", "authority"),
		      *server = tls_load("host", "authority");

	tls_shake_over(ends, fds, client, server, "localhost");
	assert_string_equal(ends->client_err.text, "");
	assert_string_equal(ends->server_err.text, "");
	assert_int_equal(ends->client_rc, 1);
	assert_int_equal(ends->server_rc, 1);
	/* Streams live on. */
	fl_tls_free(client);
	fl_tls_free(server);
}

void tls_shaken(struct tls_ends *ends)
{
	int fds[2];

	tls_connect_pair(fds);
	tls_shaken_over(ends, fds);
}

void tls_close_ends(struct tls_ends *ends)
{
	fl_stream_close(ends->client);
	fl_stream_close(ends->server);
}

int64_t tls_send(struct fl_stream *stream, const void *from, size_t len)
{
	const struct iovec iov = {.iov_base = (void *)from, .iov_len = len};

	return fl_stream_send(stream, &iov, 1);
}

int64_t tls_recv(struct fl_stream *stream, void *to, size_t len)
{
	const struct iovec iov = {.iov_base = to, .iov_len = len};

	return fl_stream_recv(stream, &iov, 1);
}
