/* SPDX-License-Identifier: MIT */
#ifndef FAULTLINE_LINK_H
#define FAULTLINE_LINK_H

/*
 * Streams between two hosts: what the page link (docs/page-link.md) runs over.
 */

#include <stdbool.h>
#include <sys/uio.h>
#include <faultline/common.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fl_stream;

/** FL_STREAM_OPS_VERSION - version of struct fl_stream_ops described here */
#define FL_STREAM_OPS_VERSION 1

/**
 * struct fl_stream_ops - one kind of stream; all of it never blocks
 * @size: sizeof(struct fl_stream_ops) as the implementation was compiled; later fields are absent
 * @version: FL_STREAM_OPS_VERSION
 * @flags: none yet, 0
 * @name: "socket", "tls"
 * @fd: the descriptor to poll
 * @recv: like readv(2): bytes, 0 at the end, -EAGAIN when there are none now
 * @send: like writev(2), never raising SIGPIPE: bytes, -EAGAIN when it takes none now
 * @events: POLLIN and POLLOUT, as far as the last -EAGAIN of recv and send wait for them
 * @pending: is there input that poll(2) does not tell of?
 * @close: free the stream and close its descriptor, without waiting
 * @reason: a sentence that says more than the errno of recv or send did; NULL when there is none. The
 *	stream's, until it is closed. May be NULL
 */
struct fl_stream_ops {
	uint32_t size;
	uint32_t version;
	uint32_t flags;
	const char *name;
	int (*fd)(const struct fl_stream *stream);
	int64_t (*recv)(struct fl_stream *stream, const struct iovec *iov, int count);
	int64_t (*send)(struct fl_stream *stream, const struct iovec *iov, int count);
	short (*events)(const struct fl_stream *stream);
	bool (*pending)(const struct fl_stream *stream);
	void (*close)(struct fl_stream *stream);
	const char *(*reason)(const struct fl_stream *stream);
};

/**
 * struct fl_stream - the head of every stream; belongs to one thread at a time
 * @ops: its kind
 */
struct fl_stream {
	const struct fl_stream_ops *ops;
};

/**
 * fl_stream_socket_new() - a stream over a connected socket
 * @stream: receives the stream
 * @fd: a connected SOCK_STREAM socket; the stream's from then on, made non-blocking. TCP is told not
 *	to wait for more (TCP_NODELAY) and to give up on a peer that is silent for 30 s (TCP_USER_TIMEOUT);
 *	a migration gives it more where its own timeout is longer.
 *
 * Return: 0; -ENOTSOCK, -EPROTOTYPE for a socket that is no stream, -ENOMEM; @fd is the caller's then.
 */
FL_API int fl_stream_socket_new(struct fl_stream **stream, int fd);

/**
 * struct fl_tls - who we are and whom we trust, for TLS 1.3 with both sides proven; opaque
 */
struct fl_tls;

/**
 * fl_tls_new() - read a certificate, its key, and the authority that peers must come from
 * @tls: receives it; used by any number of streams, of both roles
 * @cert: path of a PEM file: our certificate, then those between it and the authority
 * @key: path of a PEM file: its private key
 * @authority: path of a PEM file: certificates of the authorities that a peer's must lead to
 * @err: receives the reason, naming the file, or NULL
 *
 * Return: 0; -EINVAL for a file that does not parse or a key that does not fit, -ENOMEM,
 * and what open(2) returns; -EOPNOTSUPP when built without TLS.
 */
FL_API int fl_tls_new(struct fl_tls **tls, const char *cert, const char *key, const char *authority,
		      struct fl_error *err);

/**
 * fl_tls_free() - let it go; streams made with it live on
 * @tls: what fl_tls_new() made, or NULL
 */
FL_API void fl_tls_free(struct fl_tls *tls);

/**
 * fl_stream_tls_new() - TLS 1.3 (RFC 8446) over a connected socket
 * @stream: receives the stream
 * @fd: as for fl_stream_socket_new()
 * @tls: who we are
 * @host: name or address that the peer's certificate must be for, when we are the client; NULL when
 *	we are the server
 * @timeout_ms: how long the handshake may take, in milliseconds
 * @err: receives the reason, or NULL
 *
 * Blocks until the handshake is done: we have checked the peer's certificate. In TLS 1.3 a client is
 * done before the server has checked its: a refusal comes by fl_stream_recv(), with a fl_stream_reason().
 * A certificate is for a host by its subjectAltName alone (RFC 9525).
 *
 * Return: 0; -EPROTO when the handshake fails (the reason says why: no certificate, another
 * authority, another host), -ETIMEDOUT, -ECONNRESET, -ENOMEM; @fd is the caller's then.
 */
FL_API int fl_stream_tls_new(struct fl_stream **stream, int fd, const struct fl_tls *tls,
			     const char *host, unsigned int timeout_ms, struct fl_error *err);

/**
 * fl_stream_fd() - the descriptor to poll
 * @stream: the stream
 *
 * Return: the descriptor, which stays the stream's.
 */
FL_API int fl_stream_fd(const struct fl_stream *stream);

/**
 * fl_stream_recv() - take bytes, without blocking
 * @stream: the stream
 * @iov: where to put them
 * @count: entries of @iov, 1 to 64
 *
 * Return: bytes; 0 at the end of the stream; -EAGAIN; -EINVAL for @count; what recvmsg(2) returns;
 * -ECONNRESET for a TLS stream that was cut off; -EPROTO for one that is broken. Once it has failed, TLS
 * fails in both directions.
 */
FL_API int64_t fl_stream_recv(struct fl_stream *stream, const struct iovec *iov, int count);

/**
 * fl_stream_send() - give bytes, without blocking and without SIGPIPE
 * @stream: the stream
 * @iov: what to send
 * @count: entries of @iov, 1 to 64
 *
 * After -EAGAIN the next call must go on with the same bytes, though they may lie elsewhere: TLS has
 * taken them up to a record's length (16 KiB), whatever becomes of them in memory.
 *
 * Return: bytes, possibly fewer than given; -EAGAIN; -EINVAL for @count; what sendmsg(2) returns;
 * -EPROTO.
 */
FL_API int64_t fl_stream_send(struct fl_stream *stream, const struct iovec *iov, int count);

/**
 * fl_stream_events() - what to poll for besides what is wanted: TLS may have to write to read
 * @stream: the stream
 *
 * Return: POLLIN, POLLOUT, both or neither.
 */
FL_API short fl_stream_events(const struct fl_stream *stream);

/**
 * fl_stream_pending() - is there input that poll(2) does not tell of?
 * @stream: the stream
 *
 * Return: true when fl_stream_recv() is to be called without waiting. It may still find only a part of
 * a TLS record, and return -EAGAIN: then this is false until it was called again.
 */
FL_API bool fl_stream_pending(const struct fl_stream *stream);

/**
 * fl_stream_reason() - why fl_stream_recv() or fl_stream_send() failed, where the errno says too little
 * @stream: the stream; TLS tells here what the peer refused, which may be after the handshake
 *
 * Return: a sentence that is the stream's until it is closed, or NULL when there is none.
 */
FL_API const char *fl_stream_reason(const struct fl_stream *stream);

/**
 * fl_stream_close() - free a stream and close its descriptor, without waiting
 * @stream: the stream, or NULL
 */
FL_API void fl_stream_close(struct fl_stream *stream);

/**
 * fl_link_connect() - connect to a listening peer
 * @address: "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"; HOST may be a name
 * @timeout_ms: how long it may take in all, in milliseconds
 * @cancel_fd: a descriptor that ends it when it becomes readable, or -1
 * @err: receives the reason, naming @address, or NULL
 *
 * Return: a connected socket, close-on-exec; -EINVAL for an address that is none, -EHOSTUNREACH
 * for a name that is not known, -ETIMEDOUT, -ECANCELED, and what connect(2) returns.
 */
FL_API int fl_link_connect(const char *address, unsigned int timeout_ms, int cancel_fd,
			   struct fl_error *err);

/**
 * fl_link_listen() - wait for peers
 * @address: as for fl_link_connect(); "*:PORT" for all addresses of this host, port 0 for any. A
 *	unix socket that nobody listens on is replaced, and made for its owner only
 * @err: receives the reason, naming @address, or NULL
 *
 * Return: a listening socket, close-on-exec; -EINVAL, -EADDRINUSE, -EACCES, and what bind(2) returns.
 */
FL_API int fl_link_listen(const char *address, struct fl_error *err);

/**
 * fl_link_address() - the address that a socket listens on, as fl_link_connect() takes it
 * @listen_fd: what fl_link_listen() returned
 * @text: receives it, NUL-terminated
 * @size: room in @text, in bytes
 *
 * Return: 0; -ENOSPC, and what getsockname(2) returns.
 */
FL_API int fl_link_address(int listen_fd, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
