/* SPDX-License-Identifier: MIT */
/*
 * Firecracker's handshake on the wire.
 *
 * One sendmsg(2) of the VMM can still arrive in pieces, and nothing marks its end but the closing
 * bracket. Descriptors come with the piece that holds the byte they were sent with; they are
 * collected over all pieces, each is closed unless it is the one userfaultfd, and nothing said
 * after the array's end is waited for. The time limit is for the whole message: a peer that sends
 * a byte now and then is not kept waiting on.
 */
#include <faultline/firecracker.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/firecracker_json.h"
#include "client/peer.h"
#include "trap/uffd.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fd.h"

/* A region is about 150 bytes: most handshakes fit at once. */
#define ROOM_FIRST 4096

struct message {
	char *text;
	size_t len_bytes;
	size_t room;
	int fd; /* the first descriptor */
	size_t fd_count;
	struct fl_json_scan scan;
};

static void release_message(struct message *message)
{
	free(message->text);
	fl_fd_close(&message->fd);
}

/* One byte more than the limit may be read, so that a message at the limit is told from a longer
 * one. */
static int make_room(struct message *message)
{
	size_t room = message->room ? message->room * 2 : ROOM_FIRST;
	char *text;

	if (message->len_bytes < message->room)
		return 0;
	if (room > FL_FIRECRACKER_MESSAGE_MAX)
		room = FL_FIRECRACKER_MESSAGE_MAX + 1;
	text = realloc(message->text, room);
	if (!text)
		return -ENOMEM;
	message->text = text;
	message->room = room;
	return 0;
}

static void keep_fds(struct message *message, struct fl_piece *piece)
{
	message->fd_count += piece->fd_count + piece->fds_cut;
	if (message->fd < 0 && piece->fd_count) {
		message->fd = piece->fds[0];
		piece->fds[0] = -1;
	}
	fl_peer_drop(piece, 0);
}

static int receive_failure(int rc, const struct message *message, unsigned int timeout_ms,
			   struct fl_error *err)
{
	if (rc == -ETIMEDOUT)
		return fl_error_set(err, rc, "handshake did not end within %u ms (%zu bytes came)",
				    timeout_ms, message->len_bytes);
	if (rc == -ECONNRESET)
		return fl_error_set(err, rc, "peer left after %zu bytes of its handshake",
				    message->len_bytes);
	return fl_error_set(err, rc, "receiving the handshake: %s", strerror(-rc));
}

/* One piece; 1 when the array's end has come. */
static int receive_piece(int sock, struct message *message, uint64_t deadline_ns)
{
	struct fl_piece piece;
	char *at;
	int rc = make_room(message);

	if (rc)
		return rc;
	at = message->text + message->len_bytes;
	rc = fl_peer_receive(sock, at, message->room - message->len_bytes, deadline_ns, &piece);
	if (rc)
		return rc;
	keep_fds(message, &piece);
	if (piece.len_bytes == 0)
		return -ECONNRESET;
	message->len_bytes += piece.len_bytes;
	return fl_json_scan(&message->scan, at, piece.len_bytes) != FL_JSON_MORE;
}

static int receive_message(int sock, struct message *message, unsigned int timeout_ms,
			   struct fl_error *err)
{
	uint64_t deadline_ns = fl_clock_ns() + timeout_ms * FL_NS_PER_MS;

	while (message->len_bytes <= FL_FIRECRACKER_MESSAGE_MAX) {
		int rc = receive_piece(sock, message, deadline_ns);

		if (rc < 0)
			return receive_failure(rc, message, timeout_ms, err);
		if (rc)
			break;
	}
	return 0;
}

static int check_fds(const struct message *message, struct fl_error *err)
{
	if (message->fd_count == 0)
		return fl_error_set(err, -EBADMSG, "handshake came without a descriptor");
	if (message->fd_count > 1)
		return fl_error_set(err, -EBADMSG,
				    "handshake came with several descriptors instead of one");
	if (!fl_uffd_is(message->fd))
		return fl_error_set(err, -EBADMSG,
				    "the descriptor in the handshake is no userfaultfd");
	return 0;
}

/* With the whole text here, "more must follow" cannot be right. */
static int parse_message(const struct message *message, struct fl_hello *hello,
			 struct fl_error *err)
{
	int rc = fl_firecracker_parse(message->text, message->len_bytes, hello->regions, err);

	if (rc == -EAGAIN)
		rc = fl_error_set(err, -EINVAL, "handshake is not JSON: it ends too early");
	if (rc < 0)
		return rc;
	hello->count = (size_t)rc;
	return 0;
}

int fl_firecracker_receive(int sock, unsigned int timeout_ms, struct fl_hello *hello,
			   struct fl_error *err)
{
	__attribute__((cleanup(release_message))) struct message message = {.fd = -1};
	int rc;

	memset(hello, 0, sizeof(*hello));
	hello->uffd = -1;
	hello->pidfd = -1;
	rc = receive_message(sock, &message, timeout_ms, err);
	if (!rc)
		rc = parse_message(&message, hello, err);
	if (!rc)
		rc = check_fds(&message, err);
	if (rc)
		return rc;
	rc = fl_peer_process(sock, &hello->pidfd, &hello->pid);
	if (rc)
		return fl_error_set(err, rc, "who is the peer: %s", strerror(-rc));
	hello->uffd = fl_fd_take(&message.fd);
	return 0;
}

int fl_firecracker_send(int sock, const struct fl_region *regions, size_t count, int uffd,
			enum fl_firecracker_form form, struct fl_error *err)
{
	char *text = fl_firecracker_format(regions, count, form);
	int rc;

	if (!text)
		return fl_error_set(err, -ENOMEM, "no memory for the handshake");
	rc = fl_peer_send(sock, text, strlen(text), &uffd, 1);
	free(text);
	if (rc)
		return fl_error_set(err, rc, "sending the handshake: %s", strerror(-rc));
	return 0;
}
