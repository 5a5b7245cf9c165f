/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "link/tls_ends_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "link/certs_test.h"
#include "link/stream.h"
#include "util/clock.h"

/* Who meets over TLS, who does not, and what both are told. A peer that is not ours (bare OpenSSL, or no TLS
 * at all) has a thread of its own. */

static void check_text(struct fl_stream *from, struct fl_stream *to, const char *text)
{
	char got[64] = "";

	assert_int_equal(tls_send(from, text, strlen(text)), strlen(text));
	assert_int_equal(tls_recv(to, got, sizeof(got)), strlen(text));
	assert_string_equal(got, text);
}

static void right_pair_meets(void **state)
{
	static const char *const hosts[] = {"localhost", "127.0.0.1", "::1", "::1%lo"};
	struct fl_tls *client = tls_load("peer", "authority"),
		      *server = tls_load("host", "authority");
	struct tls_ends ends;

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		tls_shake(&ends, client, server, hosts[i]);
		assert_int_equal(ends.client_rc, 1);
		assert_int_equal(ends.server_rc, 1);
		check_text(ends.client, ends.server, "to the server");
		check_text(ends.server, ends.client, "to the client");
		assert_null(fl_stream_reason(ends.client));
		tls_close_ends(&ends);
	}
	fl_tls_free(client);
	fl_tls_free(server);
	fl_tls_free(NULL);
}

/* The client judges the server's certificate, and the server hears of it. */
static void check_client_refuses(const char *cert, const char *host, const char *why,
				 const char *heard)
{
	struct fl_tls *client = tls_load("peer", "authority"),
		      *server = tls_load(cert, "authority");
	struct tls_ends ends;

	tls_shake(&ends, client, server, host);
	assert_int_equal(ends.client_rc, -EPROTO);
	assert_int_equal(ends.client_err.code, -EPROTO);
	assert_non_null(strstr(ends.client_err.text, "TLS as the client"));
	assert_non_null(strstr(ends.client_err.text, why));
	assert_int_equal(ends.server_rc, -EPROTO);
	assert_non_null(strstr(ends.server_err.text, "TLS as the server"));
	assert_non_null(strstr(ends.server_err.text, heard));
	tls_close_ends(&ends);
	fl_tls_free(client);
	fl_tls_free(server);
}

static void client_refuses_another_authority(void **state)
{
	(void)state;
	check_client_refuses("stranger", "localhost",
			     "the peer's certificate is not from our authority",
			     "the peer refused our certificate: not from its authority");
}

static void client_refuses_another_host(void **state)
{
	static const char *const hosts[] = {"localhost", "127.0.0.1", "192.0.2.2",
					    "notelsewhere.example"};

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
		check_client_refuses("elsewhere", hosts[i], "host name mismatch",
				     "the peer refused our certificate");
	/* Its subject says localhost, and that does not count. */
	check_client_refuses("nameless", "localhost", "host name mismatch",
			     "the peer refused our certificate");
}

static void client_refuses_what_is_out_of_time(void **state)
{
	(void)state;
	check_client_refuses("expired", "localhost", "the peer's certificate has expired",
			     "the peer refused our certificate: expired");
	check_client_refuses("early", "localhost", "the peer's certificate is not valid yet",
			     "the peer refused our certificate");
}

/* The server judges the client's certificate after the client is done: it hears when it receives. */
static void check_server_refuses(const char *cert, const char *why, const char *heard)
{
	struct fl_tls *client = tls_load(cert, "authority"),
		      *server = tls_load("host", "authority");
	struct tls_ends ends;
	char byte;

	tls_shake(&ends, client, server, "localhost");
	assert_int_equal(ends.server_rc, -EPROTO);
	assert_non_null(strstr(ends.server_err.text, "TLS as the server"));
	assert_non_null(strstr(ends.server_err.text, why));
	assert_int_equal(ends.client_rc, 1);
	assert_int_equal(tls_recv(ends.client, &byte, 1), -EPROTO);
	assert_non_null(fl_stream_reason(ends.client));
	assert_non_null(strstr(fl_stream_reason(ends.client), heard));
	/* It stays failed, in both directions. */
	assert_int_equal(tls_recv(ends.client, &byte, 1), -EPROTO);
	assert_int_equal(tls_send(ends.client, "x", 1), -EPROTO);
	assert_int_equal(ERR_peek_error(), 0);
	tls_close_ends(&ends);
	fl_tls_free(client);
	fl_tls_free(server);
}

static void server_refuses_wrong_clients(void **state)
{
	(void)state;
	check_server_refuses("stranger", "the peer's certificate is not from our authority",
			     "the peer refused our certificate: not from its authority");
	check_server_refuses("expired", "the peer's certificate has expired",
			     "the peer refused our certificate: expired");
}

/* A peer of bare OpenSSL, in a thread, which shakes hands and reads once. */
struct bare {
	pthread_t thread;
	SSL_CTX *ctx;
	int fd;
	bool server;
};

static void *bare_main(void *arg)
{
	struct bare *bare = arg;
	SSL *ssl = SSL_new(bare->ctx);
	sigset_t pipe_signal;
	char byte;

	/* What OpenSSL does by itself, and our streams must not. */
	(void)sigemptyset(&pipe_signal);
	(void)sigaddset(&pipe_signal, SIGPIPE);
	(void)pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
	(void)SSL_set_fd(ssl, bare->fd);
	if ((bare->server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1)
		(void)SSL_read(ssl, &byte, 1);
	SSL_free(ssl);
	(void)close(bare->fd);
	return NULL;
}

static void bare_use(SSL_CTX *ctx, const char *name)
{
	char path[256];

	assert_int_equal(SSL_CTX_use_certificate_chain_file(
				 ctx, test_cert_path(path, tls_folder, name, ".pem")),
			 1);
	assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx,
						     test_cert_path(path, tls_folder, name, ".key"),
						     SSL_FILETYPE_PEM),
			 1);
}

/* Our side against a bare one: how our handshake ends. */
static void check_bare(SSL_CTX *ctx, bool we_serve, const char *why)
{
	struct fl_tls *tls = tls_load("host", "authority");
	struct bare bare = {.ctx = ctx, .server = !we_serve};
	struct fl_stream *stream = NULL;
	struct fl_error err = {0};
	int fds[2], rc;

	tls_connect_pair(fds);
	bare.fd = fds[1];
	assert_int_equal(pthread_create(&bare.thread, NULL, bare_main, &bare), 0);
	rc = fl_stream_tls_new(&stream, fds[0], tls, we_serve ? NULL : "localhost", TLS_LONG_MS,
			       &err);
	if (rc) {
		assert_int_equal(rc, -EPROTO);
		assert_null(stream);
		/* The descriptor is still ours. */
		assert_int_equal(close(fds[0]), 0);
	}
	fl_stream_close(stream);
	assert_int_equal(pthread_join(bare.thread, NULL), 0);
	if (why)
		assert_non_null(strstr(err.text, why));
	else
		assert_int_equal(rc, 0);
	SSL_CTX_free(ctx);
	fl_tls_free(tls);
}

static void client_without_certificate_is_refused(void **state)
{
	(void)state;
	check_bare(SSL_CTX_new(TLS_client_method()), true, "the peer sent no certificate");
}

static void tls_12_is_refused(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	(void)state;
	bare_use(ctx, "peer");
	assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1);
	check_bare(ctx, true, "TLS as the server: the peer does not speak TLS 1.3");
	ctx = SSL_CTX_new(TLS_server_method());
	bare_use(ctx, "peer");
	assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1);
	check_bare(ctx, false, "TLS as the client: the peer does not speak TLS 1.3");
}

/* That what is refused above is refused for the reason given. */
static void bare_peer_is_taken(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	(void)state;
	bare_use(ctx, "peer");
	check_bare(ctx, true, NULL);
	ctx = SSL_CTX_new(TLS_server_method());
	bare_use(ctx, "peer");
	check_bare(ctx, false, NULL);
}

/* A server that would have a session resumed: no ticket comes, so there is nothing to resume. */
static void no_tickets_are_given(void **state)
{
	struct tls_ends ends;
	uint8_t raw[4096];

	(void)state;
	tls_shaken(&ends);
	/* Whatever the server had to say after its handshake would be there now. */
	assert_int_equal(recv(fl_stream_fd(ends.client), raw, sizeof(raw), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	tls_close_ends(&ends);
}

/* Who does not speak TLS at all: says something else, nothing, or goes. */
static int meet_plain(const void *says, size_t len, bool we_serve, unsigned int timeout_ms,
		      struct fl_error *err)
{
	struct fl_tls *tls = tls_load("host", "authority");
	struct fl_stream *stream;
	int fds[2], rc;

	tls_connect_pair(fds);
	if (len)
		assert_int_equal(send(fds[1], says, len, 0), len);
	rc = fl_stream_tls_new(&stream, fds[0], tls, we_serve ? NULL : "localhost", timeout_ms,
			       err);
	assert_int_equal(close(fds[0]) | close(fds[1]), 0);
	fl_tls_free(tls);
	return rc;
}

static void plain_peers_are_named(void **state)
{
	static const uint8_t hello[64] = {0x46, 0x4c, 1, 0, 32};
	static const char *const http = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	static const uint8_t zeros[512];
	struct fl_error err;

	(void)state;
	for (int serve = 0; serve < 2; serve++) {
		assert_int_equal(meet_plain(hello, sizeof(hello), serve, TLS_LONG_MS, &err),
				 -EPROTO);
		assert_non_null(strstr(err.text, "the peer does not speak TLS"));
		assert_int_equal(meet_plain(http, strlen(http), serve, TLS_LONG_MS, &err), -EPROTO);
		assert_non_null(strstr(err.text, "the peer does not speak TLS"));
		assert_int_equal(meet_plain(zeros, sizeof(zeros), serve, TLS_LONG_MS, &err),
				 -EPROTO);
		assert_non_null(strstr(err.text, "the peer does not speak TLS"));
	}
	assert_int_equal(ERR_peek_error(), 0);
}

static void silent_peers_time_out(void **state)
{
	struct fl_error err;

	(void)state;
	for (int serve = 0; serve < 2; serve++) {
		assert_int_equal(meet_plain(NULL, 0, serve, 20, &err), -ETIMEDOUT);
		assert_non_null(strstr(err.text, "the handshake takes too long"));
	}
}

static void handshake_can_be_canceled(void **state)
{
	struct fl_tls *tls = tls_load("host", "authority");
	int fds[2], cancel = eventfd(1, EFD_CLOEXEC);
	struct fl_stream *stream;
	struct fl_error err;

	(void)state;
	tls_connect_pair(fds);
	assert_int_equal(fl_stream_tls_open(&stream, fds[0], tls, "localhost",
					    fl_clock_ns() + TLS_LONG_MS * FL_NS_PER_MS, cancel,
					    &err),
			 -ECANCELED);
	assert_int_equal(close(fds[0]) | close(fds[1]) | close(cancel), 0);
	fl_tls_free(tls);
}

static void peer_that_goes_is_told(void **state)
{
	struct fl_tls *tls = tls_load("host", "authority");
	struct fl_stream *stream;
	struct fl_error err;
	int fds[2];

	(void)state;
	for (int serve = 0; serve < 2; serve++) {
		tls_connect_pair(fds);
		assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
		assert_int_equal(fl_stream_tls_new(&stream, fds[0], tls, serve ? NULL : "localhost",
						   TLS_LONG_MS, &err),
				 -ECONNRESET);
		assert_non_null(strstr(err.text, "the peer closed the connection"));
		assert_int_equal(close(fds[0]) | close(fds[1]), 0);
	}
	/* Gone before anything is sent: the test would die of SIGPIPE. */
	tls_connect_pair(fds);
	assert_int_equal(close(fds[1]), 0);
	assert_int_equal(fl_stream_tls_new(&stream, fds[0], tls, "localhost", TLS_LONG_MS, &err),
			 -EPIPE);
	assert_int_equal(close(fds[0]), 0);
	fl_tls_free(tls);
}

static void descriptors_that_are_none_are_refused(void **state)
{
	struct fl_tls *tls = tls_load("host", "authority");
	struct fl_stream *stream;
	struct fl_error err;

	(void)state;
	assert_int_equal(fl_stream_tls_new(&stream, -1, tls, NULL, TLS_LONG_MS, &err), -EBADF);
	fl_tls_free(tls);
}

static int try_files(const char *cert, const char *key, const char *authority, struct fl_error *err)
{
	char paths[3][256];
	struct fl_tls *tls;

	return fl_tls_new(&tls, test_cert_path(paths[0], tls_folder, cert, ""),
			  test_cert_path(paths[1], tls_folder, key, ""),
			  test_cert_path(paths[2], tls_folder, authority, ""), err);
}

static void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *file = fopen(test_cert_path(path, tls_folder, name, ""), "w");

	assert_non_null(file);
	assert_int_equal(fputs(text, file) < 0, 0);
	assert_int_equal(fclose(file), 0);
}

/* One that is locked with a password, for which nobody must be asked. */
static void write_locked_key(const char *name)
{
	char path[256];
	EVP_PKEY *key = EVP_EC_gen("P-256");
	FILE *file = fopen(test_cert_path(path, tls_folder, name, ""), "w");

	assert_true(key && file);
	assert_int_equal(
		PEM_write_PKCS8PrivateKey(file, key, EVP_aes_256_cbc(), "secret", 6, NULL, NULL),
		1);
	assert_int_equal(fclose(file), 0);
	EVP_PKEY_free(key);
}

static void files_that_do_not_fit_are_named(void **state)
{
	struct fl_error err;

	(void)state;
	write_file("garbage", "-----BEGIN CERTIFICATE-----\nnothing\n");
	write_file("empty", "");
	write_locked_key("locked");
	assert_int_equal(try_files("none", "host.key", "authority.pem", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/none"));
	assert_int_equal(try_files("host.pem", "none", "authority.pem", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/none"));
	assert_int_equal(try_files("host.pem", "host.key", "none", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/none"));
	assert_int_equal(try_files("garbage", "host.key", "authority.pem", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/garbage"));
	assert_int_equal(try_files("host.pem", "garbage", "authority.pem", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/garbage"));
	assert_int_equal(try_files("host.pem", "locked", "authority.pem", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/locked"));
	assert_int_equal(try_files("host.pem", "host.key", "garbage", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/garbage"));
	assert_int_equal(try_files("host.pem", "host.key", "empty", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/empty"));
	assert_int_equal(try_files("host.pem", "host.key", "host.key", &err), -EINVAL);
	assert_non_null(strstr(err.text, "/host.key"));
	assert_int_equal(try_files("host.pem", "peer.key", "authority.pem", &err), -EINVAL);
	assert_non_null(strstr(err.text, "peer.key: is not the key of"));
	assert_int_equal(ERR_peek_error(), 0);
}

/* With a terminal of its own. Whatever it asks there, a line is waiting as the answer. */
static int load_locked_key(const char *terminal)
{
	struct fl_error err;

	if (setsid() < 0 || open(terminal, O_RDWR) < 0)
		return 2;
	return try_files("host.pem", "locked", "authority.pem", &err) == -EINVAL ? 0 : 1;
}

static void nobody_is_asked_for_a_password(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), status;
	char terminal[64], asked[256] = "";
	pid_t child;

	(void)state;
	write_locked_key("locked");
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	assert_int_equal(ptsname_r(master, terminal, sizeof(terminal)), 0);
	assert_int_equal(write(master, "\n", 1), 1);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(load_locked_key(terminal));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	(void)read(master, asked, sizeof(asked) - 1);
	assert_null(strstr(asked, "pass phrase"));
	assert_int_equal(close(master), 0);
}

static void nothing_is_left_open(void **state)
{
	unsigned int before = test_open_fds();

	(void)state;
	right_pair_meets(NULL);
	client_refuses_another_authority(NULL);
	server_refuses_wrong_clients(NULL);
	silent_peers_time_out(NULL);
	files_that_do_not_fit_are_named(NULL);
	assert_int_equal(test_open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_pair_meets),
		cmocka_unit_test(client_refuses_another_authority),
		cmocka_unit_test(client_refuses_another_host),
		cmocka_unit_test(client_refuses_what_is_out_of_time),
		cmocka_unit_test(server_refuses_wrong_clients),
		cmocka_unit_test(client_without_certificate_is_refused),
		cmocka_unit_test(tls_12_is_refused),
		cmocka_unit_test(bare_peer_is_taken),
		cmocka_unit_test(no_tickets_are_given),
		cmocka_unit_test(plain_peers_are_named),
		cmocka_unit_test(silent_peers_time_out),
		cmocka_unit_test(handshake_can_be_canceled),
		cmocka_unit_test(peer_that_goes_is_told),
		cmocka_unit_test(descriptors_that_are_none_are_refused),
		cmocka_unit_test(files_that_do_not_fit_are_named),
		cmocka_unit_test(nobody_is_asked_for_a_password),
		cmocka_unit_test(nothing_is_left_open),
	};

	return cmocka_run_group_tests_name("link_tls", tests, tls_make_certificates,
					   tls_remove_certificates);
}
