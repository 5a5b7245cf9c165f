/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_TLS_ENDS_TEST_H
#define FL_LINK_TLS_ENDS_TEST_H

/*
 * Two peers, each with its end of a connection, for the tests of TLS. Where both are ours they run in
 * one thread, step by step.
 */

#include <faultline/link.h>

#define TLS_LONG_MS 30000 /* that a test never gets to */

/* A folder with certificates: "host" and "peer" are right; "expired", "early", "elsewhere", "nameless"
 * and, of another authority, "stranger" are not. */
extern char tls_folder[128];
int tls_make_certificates(void **state);
int tls_remove_certificates(void **state);

/* Who we are, with the certificate of that name, trusting that authority. */
struct fl_tls *tls_load(const char *name, const char *authority);

/* Two ends of a connection with small buffers: a unix socket, or TCP, where a record can go out in
 * part. */
void tls_connect_pair(int fds[2]);
void tls_connect_tcp(int fds[2]);

/* Both ends of a handshake. */
struct tls_ends {
	struct fl_stream *client, *server;
	int client_rc, server_rc; /* 1: done, 0: waits, negative: failed */
	struct fl_error client_err, server_err;
};

/* A handshake, stepped until both are done: the streams are the caller's, however it ended. */
void tls_shake(struct tls_ends *ends, const struct fl_tls *client, const struct fl_tls *server,
	       const char *host);
void tls_shake_over(struct tls_ends *ends, const int fds[2], const struct fl_tls *client,
		    const struct fl_tls *server, const char *host);
/* One that succeeds. */
void tls_shaken(struct tls_ends *ends);
void tls_shaken_over(struct tls_ends *ends, const int fds[2]);
void tls_close_ends(struct tls_ends *ends);

int64_t tls_send(struct fl_stream *stream, const void *from, size_t len);
int64_t tls_recv(struct fl_stream *stream, void *to, size_t len);

#endif
