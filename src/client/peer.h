/* SPDX-License-Identifier: MIT */
#ifndef FL_CLIENT_PEER_H
#define FL_CLIENT_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The peer of a Unix socket: who it is, and what it sends. All return negative errno on failure. */

/* How many descriptors one piece may bring before the rest are dropped by the kernel (MSG_CTRUNC).
 */
#define FL_PEER_FDS 8

/*
 * One piece of a stream, with the descriptors that came along. The descriptors are the caller's,
 * close-on-exec.
 */
struct fl_piece {
	size_t len_bytes;
	int fds[FL_PEER_FDS];
	size_t fd_count;
	bool fds_cut; /* there were more than fit */
};

/*
 * Receives one piece, waiting until the CLOCK_MONOTONIC time deadline_ns for it. -ETIMEDOUT after
 * that; a piece of length 0 is the end of the stream.
 */
int fl_peer_receive(int sock, void *buf, size_t room, uint64_t deadline_ns, struct fl_piece *piece);

/* Sends everything, the descriptors with the first byte. Never raises SIGPIPE. */
int fl_peer_send(int sock, const void *buf, size_t len_bytes, const int *fds, size_t fd_count);

/* Closes the descriptors of a piece, from the given one on. */
void fl_peer_drop(struct fl_piece *piece, size_t from);

/*
 * The process that connected: a pidfd (SO_PEERPIDFD, which cannot name a recycled pid; before
 * Linux 6.5 SO_PEERCRED and pidfd_open(2)) and its pid, 0 when it is in no namespace of ours.
 */
int fl_peer_process(int sock, int *pidfd, pid_t *pid);

/* Is it a pidfd? */
bool fl_peer_is_pidfd(int fd);

#endif
