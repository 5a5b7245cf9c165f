/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include "link/stream.h"
#include "link/tls.h"

/*
 * TLS over a socket that never blocks.
 *
 * OpenSSL reads and writes through a BIO of ours, because its own uses write(2), which raises
 * SIGPIPE, and because ours remembers how the socket failed.
 *
 * Receiving: SSL_read() decrypts into the caller's memory. OpenSSL reads ahead, so that whole records
 * may wait in its buffer where poll(2) does not see them; so may a part of one, with which nothing
 * can be done. Which it is we know after SSL_read() has said that it needs the socket: dry.
 *
 * Sending: one SSL_write() makes one record, of up to 16 KiB (or several, if the peer wants them small:
 * RFC 6066, section 4), and is done when all of it is out. When the socket takes only a part of it,
 * OpenSSL keeps the rest of the record and wants the same bytes again: not the same pointer, but as many
 * bytes, and the same ones, since it may not have looked at them yet. A caller of send() owes us
 * nothing of that kind: it may come back with fewer bytes, and guest memory may have changed. So a
 * record that did not go out whole is kept in staging (owed), and tried again from there. The caller
 * hears of its bytes when they went out; those that it did not offer again by then are counted off
 * as it offers them (ahead). What it must do, as with any stream, is to go on with the same bytes: what
 * was offered is on its way.
 *
 * Small pieces (heads, sums) share a record with what follows them; large ones are encrypted from
 * where they lie.
 *
 * OpenSSL's queue of errors belongs to the thread: it is empty before each call, as SSL_get_error(3)
 * wants it, and after.
 */

static const struct fl_tls_stream *const_tls_of(const struct fl_stream *stream)
{
	return (const struct fl_tls_stream *)stream;
}

static int tls_fd(const struct fl_stream *stream)
{
	return const_tls_of(stream)->fd;
}

/* Fills one piece of memory: its length, or less and why in *@why (0: the end). */
static size_t read_piece(struct fl_tls_stream *self, const struct iovec *to, int *why)
{
	size_t done = 0, got;
	int ret;

	while (done < to->iov_len) {
		ret = SSL_read_ex(self->ssl, (uint8_t *)to->iov_base + done, to->iov_len - done,
				  &got);
		if (ret != 1) {
			self->ended = SSL_get_error(self->ssl, ret) == SSL_ERROR_ZERO_RETURN;
			*why = self->ended ? 0
					   : fl_tls_fail(self, ret, &self->recv_events, X509_V_OK);
			self->dry = *why == -EAGAIN;
			break;
		}
		done += got;
	}
	return done;
}

static int64_t tls_recv(struct fl_stream *stream, const struct iovec *iov, int count)
{
	struct fl_tls_stream *self = fl_tls_of(stream);
	int64_t total = 0;
	int why = 0;

	if (self->failed || self->ended)
		return self->failed;
	ERR_clear_error();
	self->recv_events = 0;
	self->dry = false;
	for (int i = 0; i < count; i++) {
		size_t got = read_piece(self, &iov[i], &why);

		total += (int64_t)got;
		if (got < iov[i].iov_len)
			break;
	}
	ERR_clear_error();
	return total ? total : why;
}

/* Where sending has come to in the caller's memory. */
struct cursor {
	const struct iovec *iov;
	int count;
	size_t at; /* in iov[0] */
};

static size_t skip(struct cursor *from, size_t bytes)
{
	size_t done = 0;

	while (from->count && (done < bytes || from->at == from->iov->iov_len)) {
		size_t left = from->iov->iov_len - from->at;
		size_t n = left < bytes - done ? left : bytes - done;

		done += n;
		from->at += n;
		if (from->at < from->iov->iov_len)
			continue;
		from->iov++;
		from->count--;
		from->at = 0;
	}
	return done;
}

/* The next record's bytes: where they lie if one piece has enough of them, else gathered. */
static const uint8_t *gather(struct fl_tls_stream *self, struct cursor from, size_t *len)
{
	const uint8_t *first = (const uint8_t *)from.iov->iov_base + from.at;
	size_t left = from.iov->iov_len - from.at, n;

	if (left >= FL_TLS_RECORD || from.count == 1) {
		*len = left < FL_TLS_RECORD ? left : FL_TLS_RECORD;
		return first;
	}
	for (*len = 0; from.count && *len < FL_TLS_RECORD; *len += skip(&from, n)) {
		left = from.iov->iov_len - from.at;
		n = left < FL_TLS_RECORD - *len ? left : FL_TLS_RECORD - *len;
		memcpy(self->staging + *len, (const uint8_t *)from.iov->iov_base + from.at, n);
	}
	return self->staging;
}

/* 0 when all went out; what did not is kept in staging. */
static int write_record(struct fl_tls_stream *self, const uint8_t *bytes, size_t len)
{
	size_t sent;
	int ret = SSL_write_ex(self->ssl, bytes, len, &sent);

	if (ret == 1) {
		self->owed = 0;
		return 0;
	}
	ret = fl_tls_fail(self, ret, &self->send_events, X509_V_OK);
	if (ret == -EAGAIN && bytes != self->staging)
		memcpy(self->staging, bytes, len);
	self->owed = len;
	return ret;
}

static int64_t send_records(struct fl_tls_stream *self, struct cursor from)
{
	size_t len;
	int64_t total;
	int rc = 0;

	if (self->owed) {
		len = self->owed;
		rc = write_record(self, self->staging, len);
		if (rc)
			return rc;
		self->ahead = len;
	}
	len = skip(&from, self->ahead);
	self->ahead -= len;
	for (total = (int64_t)len; from.count; total += (int64_t)len) {
		const uint8_t *bytes = gather(self, from, &len);

		rc = write_record(self, bytes, len);
		if (rc)
			break;
		(void)skip(&from, len);
	}
	return total ? total : rc;
}

static int64_t tls_send(struct fl_stream *stream, const struct iovec *iov, int count)
{
	struct fl_tls_stream *self = fl_tls_of(stream);
	struct cursor from = {.iov = iov, .count = count};
	int64_t ret;

	if (self->failed)
		return self->failed;
	ERR_clear_error();
	self->send_events = 0;
	(void)skip(&from, 0);
	ret = send_records(self, from);
	ERR_clear_error();
	return ret;
}

static short tls_events(const struct fl_stream *stream)
{
	const struct fl_tls_stream *self = const_tls_of(stream);

	return (short)(self->recv_events | self->send_events);
}

static bool tls_pending(const struct fl_stream *stream)
{
	const struct fl_tls_stream *self = const_tls_of(stream);

	return self->failed || self->ended || (!self->dry && SSL_has_pending(self->ssl));
}

static const char *tls_reason(const struct fl_stream *stream)
{
	const struct fl_tls_stream *self = const_tls_of(stream);

	return self->reason[0] ? self->reason : NULL;
}

/* The end is told as far as it can be without waiting; a connection that failed has none. */
static void tls_close(struct fl_stream *stream)
{
	struct fl_tls_stream *self = fl_tls_of(stream);
	int fd = self->fd;

	ERR_clear_error();
	if (self->met && !self->failed)
		(void)SSL_shutdown(self->ssl);
	fl_stream_tls_release(stream);
	(void)close(fd);
}

const struct fl_stream_ops fl_tls_ops = {
	.size = sizeof(struct fl_stream_ops),
	.version = FL_STREAM_OPS_VERSION,
	.name = "tls",
	.fd = tls_fd,
	.recv = tls_recv,
	.send = tls_send,
	.events = tls_events,
	.pending = tls_pending,
	.close = tls_close,
	.reason = tls_reason,
};
