/* SPDX-License-Identifier: MIT */
#ifndef FL_LINK_STREAM_H
#define FL_LINK_STREAM_H

/*
 * What the files of this room share of sockets and streams, beside include/faultline/link.h.
 */

#include <faultline/link.h>

#define FL_LINK_IOV_MAX 64
#define FL_LINK_TEXT    160 /* an address as text: a unix path, or [IPv6%interface]:port */

/* Non-blocking, and what fl_stream_socket_new() promises of TCP. 0, -ENOTSOCK, -EPROTOTYPE. */
int fl_socket_prepare(int fd);

/*
 * What TCP itself may make of a peer that does not answer must not come before what those who use the
 * connection make of it, after @timeout_ms. Where it is no TCP, nothing happens.
 */
void fl_socket_patience(int fd, unsigned int timeout_ms);

/* recvmsg(2) and sendmsg(2): bytes or a negative errno; never SIGPIPE. */
int64_t fl_socket_recv(int fd, const struct iovec *iov, int count);
int64_t fl_socket_send(int fd, const struct iovec *iov, int count);

/* Waits for @events on @fd: 0, -ECANCELED when @cancel_fd (or -1) is readable, -ETIMEDOUT when
 * CLOCK_MONOTONIC has passed @deadline_ns. */
int fl_socket_wait(int fd, short events, int cancel_fd, uint64_t deadline_ns);
/* What poll(2) is to be told: milliseconds left, rounded up, 0 when it has passed. */
int fl_socket_left_ms(uint64_t deadline_ns);

/*
 * fl_stream_tls_new() in steps that do not block: begin, then step until it returns 1 (done) or a
 * negative errno; after 0 fl_stream_fd() is waited for with fl_stream_events(). Until step has
 * returned 1 only fd, events, release and close are for use.
 */
int fl_stream_tls_begin(struct fl_stream **stream, int fd, const struct fl_tls *tls,
			const char *host, struct fl_error *err);
int fl_stream_tls_step(struct fl_stream *stream, struct fl_error *err);
/* Frees the stream and leaves the descriptor open. */
void fl_stream_tls_release(struct fl_stream *stream);
/* fl_stream_tls_new() that ends, with -ECANCELED, when @cancel_fd is readable. */
int fl_stream_tls_open(struct fl_stream **stream, int fd, const struct fl_tls *tls,
		       const char *host, uint64_t deadline_ns, int cancel_fd, struct fl_error *err);

/* The host of @address, to be found in its certificate; "localhost" for a unix socket. -EINVAL. */
int fl_link_host(const char *address, char *host, size_t size);
/* The other end of a connected socket as text; "a unix socket" where it has no name. */
void fl_link_peer(int fd, char text[FL_LINK_TEXT]);

#endif
