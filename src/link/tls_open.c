/* SPDX-License-Identifier: MIT */
/* From a connected socket to a TLS stream; see stream_tls.c. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "link/stream.h"
#include "link/tls.h"
#include "util/clock.h"
#include "util/error.h"

static int bio_failed(struct fl_tls_stream *self, BIO *bio, int64_t ret, int retry)
{
	if (ret == -EAGAIN)
		BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
	else
		self->socket_errno = (int)-ret;
	return 0;
}

static int bio_read(BIO *bio, char *to, size_t len, size_t *got)
{
	struct fl_tls_stream *self = BIO_get_data(bio);
	struct iovec iov = {.iov_base = to, .iov_len = len};
	int64_t ret = fl_socket_recv(self->fd, &iov, 1);

	BIO_clear_retry_flags(bio);
	if (ret < 0)
		return bio_failed(self, bio, ret, BIO_FLAGS_READ);
	self->socket_end = ret == 0;
	*got = (size_t)ret;
	return ret > 0;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *sent)
{
	struct fl_tls_stream *self = BIO_get_data(bio);
	struct iovec iov = {.iov_base = (char *)from, .iov_len = len};
	int64_t ret = fl_socket_send(self->fd, &iov, 1);

	BIO_clear_retry_flags(bio);
	if (ret < 0)
		return bio_failed(self, bio, ret, BIO_FLAGS_WRITE);
	*sent = (size_t)ret;
	return 1;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
	const struct fl_tls_stream *self = BIO_get_data(bio);

	(void)number;
	(void)pointer;
	switch (what) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return self->socket_end;
	default:
		return 0;
	}
}

static int attach_bio(struct fl_tls_stream *self)
{
	BIO *bio;

	self->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "faultline socket");
	if (!self->method || BIO_meth_set_read_ex(self->method, bio_read) != 1 ||
	    BIO_meth_set_write_ex(self->method, bio_write) != 1 ||
	    BIO_meth_set_ctrl(self->method, bio_ctrl) != 1)
		return -ENOMEM;
	bio = BIO_new(self->method);
	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, self);
	BIO_set_init(bio, 1);
	SSL_set_bio(self->ssl, bio, bio);
	return 0;
}

int fl_tls_fail(struct fl_tls_stream *self, int ret, short *events, long refusal)
{
	const char *reason = NULL;

	switch (SSL_get_error(self->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		*events = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		*events = POLLOUT;
		return -EAGAIN;
	default:
		break;
	}
	if (self->socket_end) {
		self->failed = -ECONNRESET;
		reason = self->met ? "the connection ended without the end of TLS"
				   : "the peer closed the connection";
	} else if (self->socket_errno) {
		self->failed = -self->socket_errno;
		reason = strerror(self->socket_errno);
	} else {
		self->failed = -EPROTO;
		reason = fl_tls_explain(refusal, ERR_peek_error());
	}
	(void)snprintf(self->reason, sizeof(self->reason), "TLS as the %s: %s",
		       SSL_is_server(self->ssl) ? "server" : "client", reason);
	return self->failed;
}

void fl_stream_tls_release(struct fl_stream *stream)
{
	struct fl_tls_stream *self = fl_tls_of(stream);

	SSL_free(self->ssl);
	BIO_meth_free(self->method);
	ERR_clear_error();
	free(self);
}

/* Whom the peer has to be: an address, without the interface that only we know, or a name. Names in
 * the subject do not count (RFC 9525). */
static int expect_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *check = SSL_get0_param(ssl);
	char ip[64];

	X509_VERIFY_PARAM_set_hostflags(check, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
						       X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	(void)snprintf(ip, sizeof(ip), "%.*s", (int)strcspn(host, "%"), host);
	if (X509_VERIFY_PARAM_set1_ip_asc(check, ip) == 1)
		return 0;
	if (X509_VERIFY_PARAM_set1_host(check, host, 0) != 1 ||
	    SSL_set_tlsext_host_name(ssl, host) != 1)
		return -ENOMEM;
	return 0;
}

static int set_up(struct fl_tls_stream *self, const struct fl_tls *tls, const char *host)
{
	int rc;

	self->ssl = SSL_new(tls->ctx);
	if (!self->ssl)
		return -ENOMEM;
	rc = attach_bio(self);
	if (rc)
		return rc;
	if (!host) {
		SSL_set_accept_state(self->ssl);
		return 0;
	}
	SSL_set_connect_state(self->ssl);
	return expect_host(self->ssl, host);
}

int fl_stream_tls_begin(struct fl_stream **stream, int fd, const struct fl_tls *tls,
			const char *host, struct fl_error *err)
{
	struct fl_tls_stream *self;
	int rc = fl_socket_prepare(fd);

	if (rc)
		return fl_error_set(err, rc, "TLS: not a stream socket: %s", strerror(-rc));
	self = calloc(1, sizeof(*self));
	if (!self)
		return fl_error_set(err, -ENOMEM, "TLS: out of memory");
	self->stream.ops = &fl_tls_ops;
	self->fd = fd;
	ERR_clear_error();
	rc = set_up(self, tls, host);
	ERR_clear_error();
	if (rc) {
		fl_stream_tls_release(&self->stream);
		return fl_error_set(err, rc, "TLS: out of memory");
	}
	*stream = &self->stream;
	return 0;
}

int fl_stream_tls_step(struct fl_stream *stream, struct fl_error *err)
{
	struct fl_tls_stream *self = fl_tls_of(stream);
	int ret;

	ERR_clear_error();
	self->recv_events = 0;
	ret = SSL_do_handshake(self->ssl);
	if (ret == 1) {
		self->met = true;
	} else {
		ret = fl_tls_fail(self, ret, &self->recv_events, SSL_get_verify_result(self->ssl));
		ret = ret == -EAGAIN ? 0 : fl_error_set(err, ret, "%s", self->reason);
	}
	ERR_clear_error();
	return ret;
}

int fl_stream_tls_open(struct fl_stream **stream, int fd, const struct fl_tls *tls,
		       const char *host, uint64_t deadline_ns, int cancel_fd, struct fl_error *err)
{
	const char *side = host ? "client" : "server";
	int rc = fl_stream_tls_begin(stream, fd, tls, host, err);

	if (rc)
		return rc;
	for (;;) {
		rc = fl_stream_tls_step(*stream, err);
		if (rc)
			break;
		rc = fl_socket_wait(fd, fl_stream_events(*stream), cancel_fd, deadline_ns);
		if (!rc)
			continue;
		if (rc == -ETIMEDOUT)
			(void)fl_error_set(err, rc, "TLS as the %s: the handshake takes too long",
					   side);
		else
			(void)fl_error_set(err, rc, "TLS as the %s: %s", side, strerror(-rc));
		break;
	}
	if (rc == 1)
		return 0;
	fl_stream_tls_release(*stream);
	*stream = NULL;
	return rc;
}

int fl_stream_tls_new(struct fl_stream **stream, int fd, const struct fl_tls *tls, const char *host,
		      unsigned int timeout_ms, struct fl_error *err)
{
	return fl_stream_tls_open(stream, fd, tls, host, fl_clock_ns() + timeout_ms * FL_NS_PER_MS,
				  -1, err);
}
