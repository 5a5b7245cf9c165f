/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_TLS_H
#define FL_LINK_TLS_H

/*
 * What tls.c (who we are), tls_open.c (handshakes) and stream_tls.c (what follows) share: OpenSSL stays
 * inside of them.
 */

#include <openssl/ssl.h>

#include <faultline/link.h>

struct fl_tls {
	SSL_CTX *ctx; /* counted by OpenSSL: streams keep it */
};

#define FL_TLS_RECORD SSL3_RT_MAX_PLAIN_LENGTH

struct fl_tls_stream {
	struct fl_stream stream;
	SSL *ssl;
	BIO_METHOD *method;
	int fd;
	short recv_events, send_events;
	bool met;        /* the handshake is done */
	bool dry;        /* what OpenSSL has read ahead is no whole record */
	bool ended;      /* the peer said that it has sent all */
	int failed;      /* what every call returns from now on, negative errno */
	bool socket_end; /* the socket said so, perhaps in the middle of something */
	int socket_errno;
	size_t owed;  /* bytes in staging that OpenSSL has not sent */
	size_t ahead; /* bytes sent that send() has not told its caller of */
	char reason[sizeof(((struct fl_error *)NULL)->text)];
	uint8_t staging[FL_TLS_RECORD];
};

extern const struct fl_stream_ops fl_tls_ops;

static inline struct fl_tls_stream *fl_tls_of(struct fl_stream *stream)
{
	return (struct fl_tls_stream *)stream;
}

/* Why a handshake or a stream failed, in words; @refusal is what our check of the peer's certificate
 * said (X509_V_*), @code an entry of OpenSSL's error queue. Never NULL. */
const char *fl_tls_explain(long refusal, unsigned long code);

/* After a call of OpenSSL that returned @ret and did not succeed: -EAGAIN, with what it waits for in
 * *@events; or the stream is failed, with a reason, and that is returned. */
int fl_tls_fail(struct fl_tls_stream *self, int ret, short *events, long refusal);

#endif
